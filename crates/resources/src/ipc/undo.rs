//! Changes of semaphores that the kernel takes back when a process ends (semop(2), SEM_UNDO).
//!
//! - seen as    nothing: no file and no call tells of them
//! - captured   by operations that must fail. The kernel refuses one whose changes to be taken back would add up to more than 32767
//!   (ERANGE), and refuses it as a whole, at once, with nothing changed; and so it does with one that would have to wait
//!   (EAGAIN). So a list that first moves the value out of the way, then reaches for that limit, and at last wants what nobody can
//!   have, tells by its error how much was there (ipc/sem.c, perform_atomic_semop_slow)
//! - recreated  in a set that was made again, by two operations for each, one with the mark and one without, which change
//!   nothing else. In a set that was found, the end of the program has taken the changes back: they are made again. Where the kernel has
//!   stopped at 0 on the way, its values are set to what they were, if they are what the ends may have left; else they stay
//! - refused    what several processes have in common (clone(2) with CLONE_SYSVSEM), by the engine; a set that others use so
//!   much that its values do not stand still. A thaw fails where others have taken by then what the program had
//! - not kept   of a set that the program may not read; of threads that do not share it with the first one (clone(2) without
//!   CLONE_SYSVSEM)
//!
//! The program itself is asked: they belong to it. What remains in it is an entry of zeroes for each set that it may use. Who has no
//! list of such changes (kcmp(2), KCMP_SYSVSEM), as who has one thread and never asked for any, is not asked.

use super::sem::{self, Set};
use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::consts::ipc::{IPC_NOWAIT, SEM_UNDO, SEMVMX};
use abi::layout::{Sembuf, Semid};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Ipc, Moment, Object, Op, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is added to a semaphore at the end of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Change {
    /// The id of the set.
    #[n(0)]
    pub set: u32,
    /// Which semaphore of it.
    #[n(1)]
    pub number: u16,
    /// What is added: not zero.
    #[n(2)]
    pub value: i16,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct SemUndo {
    /// All of them.
    #[n(0)]
    pub changes: Vec<Change>,
}

impl Resource for SemUndo {
    const NAME: &'static str = "sem-undo";
}

/// The lowest change that the kernel keeps.
const LOWEST: i32 = -SEMVMX - 1;
/// Semaphores that are asked about at once: six operations each, and SEMOPM was 32 once.
const GROUP: usize = 5;
/// How often values are read anew when others change them.
const TRIES: usize = 8;

/// One semaphore with its value.
type Semaphore = (u16, i32);

/// How an operation ends for the process.
#[derive(Clone, Copy)]
enum Mark {
    /// It stays.
    Plain,
    /// It is taken back.
    Undo,
}

/// Operations that add up to `change`: one is 16 bits wide, and zero would wait.
fn add(number: u16, change: i32, mark: Mark) -> Vec<Sembuf> {
    let mark = match mark {
        Mark::Plain => 0,
        Mark::Undo => SEM_UNDO,
    };
    let parts = [change.clamp(-SEMVMX, SEMVMX), change - change.clamp(-SEMVMX, SEMVMX)];
    let operation = |change: i32| Sembuf { number, change: change as i16, flags: IPC_NOWAIT as u16 | mark };
    parts.into_iter().filter(|part| *part != 0).map(operation).collect()
}

/// Operations that are out of range if the change to be taken back is above `limit`, which is not below zero.
fn above((number, value): Semaphore, limit: i32) -> Vec<Sembuf> {
    let reach = SEMVMX - limit;
    [add(number, SEMVMX - value, Mark::Plain), add(number, -reach, Mark::Undo)].concat()
}

/// The same if it is below `limit`, which is not above zero.
fn below((number, value): Semaphore, limit: i32) -> Vec<Sembuf> {
    let reach = limit - LOWEST;
    let mut all = [add(number, -value, Mark::Plain), add(number, reach.min(SEMVMX), Mark::Undo)].concat();
    if reach > SEMVMX {
        // The value is at its own limit by now.
        all.extend([add(number, -SEMVMX, Mark::Plain), add(number, reach - SEMVMX, Mark::Undo)].concat());
    }
    all
}

/// The call for such operations: what comes last can never be had, as no value is above 32767.
fn question(set: u32, mut operations: Vec<Sembuf>) -> Call {
    let last = operations.last().map_or(0, |o| o.number);
    operations.push(Sembuf { number: last, change: LOWEST as i16, flags: IPC_NOWAIT as u16 });
    call(set, &operations)
}

fn call(set: u32, operations: &[Sembuf]) -> Call {
    let bytes = operations.iter().flat_map(Sembuf::to_bytes).collect();
    Call::new(Sys::Semop, [Arg::Int(set.into()), Arg::Bytes(bytes), Arg::Int(operations.len() as u64)])
}

/// What the error of such a call tells; `None` where the process may not change the set, or it is gone.
fn out_of_range(set: u32, answer: &Answer) -> Result<Option<bool>, Trouble> {
    match answer.result {
        Err(Errno::ERANGE) => Ok(Some(true)),
        Err(Errno::EAGAIN) => Ok(Some(false)),
        Err(Errno::EACCES | Errno::EIDRM | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(Fault::new("semop", format!("set {set}"), errno).into()),
        Ok(_) => unreachable!("no semaphore has a value above 32767"),
    }
}

/// A set with its values, as pairs of number and value.
struct Asked {
    set: u32,
    semaphores: Vec<Semaphore>,
}

/// The semaphores of sets of which the process has something to take back, with what. All sets are asked at once.
fn changes(sets: &[Asked], from: &Capturing<'_>) -> Result<Vec<Change>, Trouble> {
    let groups: Vec<(u32, &[Semaphore])> =
        sets.iter().flat_map(|a| a.semaphores.chunks(GROUP).map(|group| (a.set, group))).collect();
    let any = |ask: fn(Semaphore, i32) -> Vec<Sembuf>| {
        groups.iter().map(move |(set, group)| question(*set, group.iter().flat_map(|s| ask(*s, 0)).collect()))
    };
    let answers = from.probe.calls(&any(above).chain(any(below)).collect::<Vec<_>>())?;
    let (ups, downs) = answers.split_at(groups.len());
    let mut found = Vec::new();
    for ((set, group), (up, down)) in groups.iter().zip(ups.iter().zip(downs)) {
        let told = [out_of_range(*set, up)?, out_of_range(*set, down)?];
        if told.contains(&Some(true)) {
            for semaphore in *group {
                let value = exactly(*set, *semaphore, from)?;
                found.extend((value != 0).then_some(Change { set: *set, number: semaphore.0, value: value as i16 }));
            }
        }
    }
    Ok(found)
}

/// Half of what is possible goes with each question.
fn exactly(set: u32, semaphore: Semaphore, from: &Capturing<'_>) -> Result<i32, Trouble> {
    let ask = |operations| {
        let answers = from.probe.calls(&[question(set, operations)])?;
        Ok::<bool, Trouble>(out_of_range(set, &answers[0])?.unwrap_or(false))
    };
    let (mut low, mut high) = (LOWEST, SEMVMX);
    while low < high {
        let middle = (low + high).div_euclid(2);
        let higher = match middle {
            0.. => ask(above(semaphore, middle))?,
            _ => !ask(below(semaphore, middle + 1))?,
        };
        (low, high) = if higher { (middle + 1, high) } else { (low, middle) };
    }
    Ok(low)
}

/// The changes of sets whose values were the same before and after.
fn settled(sets: &[(u32, Semid)], from: &Capturing<'_>) -> Result<Vec<Change>, Trouble> {
    let mut left = sets.to_vec();
    let (mut before, mut found) = (sem::values(&left, from)?, Vec::new());
    for _ in 0..TRIES {
        let asked = |((set, _), values): (&(u32, Semid), &Result<Vec<u16>, Errno>)| {
            let semaphores = (0..).zip(values.as_ref().ok()?.iter().map(|v| i32::from(*v))).collect();
            Some(Asked { set: *set, semaphores })
        };
        let asked: Vec<Asked> = left.iter().zip(&before).filter_map(asked).collect();
        if asked.is_empty() {
            return Ok(found);
        }
        let changes = changes(&asked, from)?;
        let after = sem::values(&left, from)?;
        let moved: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
        let again: Vec<(u32, Semid)> = left.iter().zip(&moved).filter(|(_, moved)| **moved).map(|(s, _)| *s).collect();
        found.extend(changes.into_iter().filter(|c| !again.iter().any(|(id, _)| *id == c.set)));
        before = after.into_iter().zip(&moved).filter(|(_, moved)| **moved).map(|(values, _)| values).collect();
        left = again;
    }
    let why = "other processes change it so fast that what the program has to take back cannot be known";
    let refuse =
        |(id, _): &(u32, Semid)| Refusal::new(super::told(Object { kind: Ipc::Sem, id: *id }), why, "try again");
    Err(Trouble::Refused(left.iter().map(refuse).collect()))
}

impl Capture for SemUndo {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        // To be asked leaves something in it, which shows in sets when it ends: so nobody is asked of a set that was never used.
        let used = |sets: Vec<(u32, Semid)>| sets.into_iter().filter(|(_, set)| set.used != 0).collect::<Vec<_>>();
        let changes = if from.probe.may_have_undo() { settled(&used(sem::sets(from)?), from)? } else { Vec::new() };
        from.files.ipc.sets.extend(changes.iter().map(|c| c.set));
        Ok(SemUndo { changes })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let mut rights: BTreeMap<u32, BTreeMap<u16, Right>> = BTreeMap::new();
        for change in &self.changes {
            let object = Object { kind: Ipc::Sem, id: change.set };
            let set = to.model.semaphores(change.set).expect("the image was looked at");
            let right = rights.entry(change.set).or_insert_with(|| to_set_right(set, to).unwrap_or_default());
            // What it is by then, where somebody sees to that.
            let value = match right.get(&change.number) {
                Some(right) => Some(right.now + right.change),
                None => to.existing(object).map(|_| i32::from(set.values[usize::from(change.number)])),
            };
            let (operations, needs) = match value {
                Some(value) => (change.beside(value), vec![Fact::Born(at.tid), Fact::Holds(object)]),
                None => (add(change.number, -i32::from(change.value), Mark::Undo), vec![Fact::Born(at.tid)]),
            };
            let bytes = operations.iter().flat_map(Sembuf::to_bytes).collect();
            let args = vec![u64::from(change.set).into(), Value::Bytes(bytes), (operations.len() as u64).into()];
            let op = Op::Call { sys: Sys::Semop, args, expect: Expect::Success };
            to.to.step(Moment::Fill, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
        }
    }
}

/// What undoes, in a set that was found, what the ends of the program's processes have done to its values, by the numbers of these, where that
/// depends on more than the changes: no value is below 0, nor above 32767 (ipc/sem.c, `exit_sem`), and nobody knows who ended first.
/// `None`: it is made again, or to make each change again will do.
pub(super) fn to_set_right(set: &Set, to: &Planning<'_>) -> Option<BTreeMap<u16, Right>> {
    let is_made = to.existing(Object { kind: Ipc::Sem, id: set.id }).is_some();
    let now = to.to.host.semaphores.get(&set.id).filter(|_| !is_made)?;
    let mut sums: BTreeMap<u16, [i32; 2]> = BTreeMap::new();
    for change in to.model.changes().filter(|change| change.set == set.id) {
        sums.entry(change.number).or_default()[usize::from(change.value < 0)] += i32::from(change.value);
    }
    let (mut is_cut, mut all) = (false, BTreeMap::new());
    for (number, [up, down]) in sums {
        let (was, now) = (i32::from(set.values[usize::from(number)]), i32::from(*now.get(usize::from(number))?));
        let after = |sums: [i32; 2]| sums.into_iter().fold(was, |value, sum| (value + sum).clamp(0, SEMVMX));
        let (one, other, simple) = (after([up, down]), after([down, up]), was + up + down);
        let change = match (one.min(other)..=one.max(other)).contains(&now) {
            _ if one == simple && other == simple => -(up + down),
            true => was - now,
            false => 0,
        };
        is_cut |= one != simple || other != simple;
        all.insert(number, Right { now, change });
    }
    is_cut.then_some(all)
}

/// How one value is set right.
#[derive(Clone, Copy)]
pub(super) struct Right {
    now: i32,
    change: i32,
}

/// The calls for it, of which none takes more operations than any kernel does.
pub(super) fn calls_for(set: &Set, all: &BTreeMap<u16, Right>) -> Vec<Call> {
    let operations: Vec<Sembuf> = all.iter().flat_map(|(n, right)| add(*n, right.change, Mark::Plain)).collect();
    operations.chunks(6 * GROUP).map(|some| call(set.id, some)).collect()
}

impl Change {
    /// Operations that leave the value as it is: in parts of which each has room above or below it.
    fn beside(self, value: i32) -> Vec<Sembuf> {
        const PART: i32 = SEMVMX / 2;
        let (mut left, mut all) = (i32::from(self.value), Vec::new());
        while left != 0 {
            let part = left.clamp(-PART, PART);
            let plain = add(self.number, part, Mark::Plain);
            let undo = add(self.number, -part, Mark::Undo);
            let plain_first = (0..=SEMVMX).contains(&(value + part));
            all.extend(if plain_first { [plain, undo] } else { [undo, plain] }.concat());
            left -= part;
        }
        all
    }
}
