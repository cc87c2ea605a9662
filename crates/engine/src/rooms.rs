//! How much room each thread of a plan needs for its calls: most need little, and of those there may be thousands.

use plan::{Actor, Birth, Op, Restart, Step, Value};
use std::collections::{HashMap, HashSet};
use tracee::stub::Ground;

/// A thread, and the one that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub(crate) tid: u32,
    pub(crate) by: u32,
    /// Whether it is a further thread of that one's process.
    pub(crate) is_thread: bool,
    /// The bytes of its arena.
    pub(crate) bytes: usize,
}

/// The bytes of each arena.
pub(crate) fn sizes(rooms: &[Room]) -> Vec<usize> {
    rooms.iter().map(|room| room.bytes).collect()
}

/// Every thread of the tree in the order of their births. The first one is born to nobody.
pub(crate) fn rooms(steps: &[Step]) -> Vec<Room> {
    // Of each thread what its calls point to; `None`: that is not known, as for who makes others.
    let mut needs: HashMap<u32, Option<Vec<Vec<usize>>>> = HashMap::new();
    for step in steps {
        needs.extend(birth_of(step).map(|(_, by)| (by, None)));
        if let Actor::Thread(tid) = step.actor {
            let all = needs.entry(tid.0).or_insert_with(|| Some(Vec::new()));
            match (need(&step.op), &mut *all) {
                (Some(pointed), Some(known)) => known.extend(pointed),
                _ => *all = None,
            }
        }
    }
    // Who reads pages beside the first thread of a process.
    let mut helped = HashSet::new();
    let of = |step: &Step| {
        let (tid, by) = birth_of(step)?;
        let is_thread = matches!(step.op, Op::Clone { birth: Birth::Thread { .. }, .. });
        let known = needs.remove(&tid).unwrap_or(Some(Vec::new())).filter(|_| is_thread && !helped.insert(by));
        Some(Room {
            tid,
            by,
            is_thread,
            bytes: known.and_then(|calls| Ground::room_for(&calls)).unwrap_or(Ground::ROOM),
        })
    };
    steps.iter().filter_map(of).collect()
}

/// Who is born by a step, and who makes it.
pub(crate) fn birth_of(step: &Step) -> Option<(u32, u32)> {
    match (&step.op, step.actor) {
        (Op::Clone { tid, birth: Birth::Thread { of } }, _) => Some((tid.0, of.0)),
        (Op::Clone { tid, .. }, Actor::Thread(by)) => Some((tid.0, by.0)),
        (Op::Clone { tid, .. }, _) => Some((tid.0, 0)),
        _ => None,
    }
}

/// The bytes of each thing that the arguments of the call of a step point to, if it makes one; `None`: it may make any.
fn need(op: &Op) -> Option<Option<Vec<usize>>> {
    match op {
        Op::Call { args, .. } | Op::Regs { restart: Restart::Begin { args, .. }, .. } => {
            Some(Some(args.iter().flat_map(pointed).filter(|bytes| *bytes > 0).collect()))
        }
        Op::Regs { .. } | Op::Signal { .. } | Op::Dispatch { .. } => Some(None),
        _ => None,
    }
}

fn pointed(value: &Value) -> [usize; 2] {
    match value {
        Value::Int(_) | Value::Descr(_) => [0; 2],
        Value::Bytes(bytes) => [bytes.len(), 0],
        Value::Out(len) => [*len, 0],
        Value::Nested { bytes, inner, .. } => [bytes.len(), inner.len()],
        Value::Until(_) | Value::Ago(_) => [abi::layout::Itimerspec::SIZE, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Sys;
    use plan::{Expect, Moment, Pid, Tid};

    fn step(by: Option<u32>, op: Op) -> Step {
        let actor = by.map_or(Actor::Thaw, |tid| Actor::Thread(Tid(tid)));
        Step { moment: Moment::Arm, by: "test", actor, op, needs: vec![], makes: vec![] }
    }

    fn born(by: Option<u32>, tid: u32, birth: Birth) -> Step {
        step(by, Op::Clone { tid: Tid(tid), birth })
    }

    fn writes(by: u32, len: usize) -> Step {
        let args = vec![Value::Int(1), Value::Bytes(vec![0; len]), Value::Int(len as u64)];
        step(Some(by), Op::Call { sys: Sys::Write, args, expect: Expect::Success })
    }

    fn sizes_of(steps: &[Step]) -> Vec<(u32, usize)> {
        rooms(steps).iter().map(|room| (room.tid, room.bytes)).collect()
    }

    #[test]
    fn who_leads_helps_makes_others_or_says_much_has_all_the_room() {
        let thread = |tid| born(Some(1), tid, Birth::Thread { of: Pid(1) });
        let process = Birth::Process { flags: 0, exit_signal: 17 };
        let steps = vec![
            born(None, 1, Birth::Root),
            thread(2),
            thread(3),
            thread(4),
            thread(6),
            thread(7),
            born(Some(3), 5, process),
            writes(2, 100),
            writes(4, Ground::ROOM),
            writes(5, 10),
            writes(6, 10),
            step(Some(6), Op::Unfilter),
            writes(7, 100),
        ];
        let (all, few) = (Ground::ROOM, 256);
        assert_eq!(sizes_of(&steps), [(1, all), (2, all), (3, all), (4, all), (6, all), (7, few), (5, all)]);
    }

    #[test]
    fn there_is_room_for_all_calls_of_a_thread() {
        let thread = |tid| born(Some(1), tid, Birth::Thread { of: Pid(1) });
        let born = || [born(None, 1, Birth::Root), thread(2), thread(3)].into_iter();
        let few = sizes_of(&born().chain([writes(3, 3000)]).collect::<Vec<_>>());
        let many = sizes_of(&born().chain((0..10).map(|_| writes(3, 3000))).collect::<Vec<_>>());
        assert!(few[2].1 >= 3000 && few[2].1 < 4096 && many[2].1 >= 30_000, "{few:?} {many:?}");
    }
}
