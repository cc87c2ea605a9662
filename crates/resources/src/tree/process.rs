//! Process: its ids, its threads, its place in the tree, and its table of descriptors.
//!
//! - seen as    /proc/PID
//! - captured   ids in its own pid namespace; parent, group and session; how it ended, if its parent has yet to take note of
//!   that; what it shares with another process (clone(2)); descriptors by the engine, which knows which share a description
//! - recreated  `clone3` with `set_tid`, by the process that `lineage` chose; each descriptor by `dup3` from where the store
//!   made its description
//! - refused    processes of another kind: 32 bits, a debugger
//! - not kept   that a process which has ended left a core dump

use super::lineage::{Lineage, Origin};
use crate::mm::heritage;
use crate::mm::space::{self, Ground};
use crate::task::prctl::PR_SET_NAME;
use crate::task::write_proc;
use crate::{At, Owner, Planning, ProcessModel, Text};
use abi::Sys;
use abi::consts::open::O_CLOEXEC;
use minicbor::{Decode, Encode};
use plan::{Actor, Birth, Descr, End, Expect, Fact, Moment, Namespaces, Op, Pid, Tid, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

const NAME: &str = "process";

/// One number of a table of descriptors.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Fd {
    /// The number.
    #[n(0)]
    pub number: u32,
    /// The id of the description that it leads to.
    #[n(1)]
    pub description: u32,
    /// Whether it is closed on `execve`.
    #[n(2)]
    pub close_on_exec: bool,
}

/// What of it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All of it, with this status (wait(2)): its parent has yet to take note of that.
    #[n(0)]
    Process(#[n(0)] i32),
    /// Its first thread, with this status; others live on.
    #[n(1)]
    FirstThread(#[n(0)] i32),
}

/// What it shares with another process, which has it in the image: by the id of that process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(default)]
pub struct Shares {
    /// The address space (CLONE_VM).
    #[n(0)]
    pub space: Option<u32>,
    /// The table of descriptors (CLONE_FILES).
    #[n(1)]
    pub files: Option<u32>,
    /// Working directory, root and mask (CLONE_FS).
    #[n(2)]
    pub fs: Option<u32>,
    /// The table of signal handlers (CLONE_SIGHAND).
    #[n(3)]
    pub actions: Option<u32>,
}

impl Shares {
    /// Whether it has such an object of its own.
    pub(crate) fn leaves(&self, owner: Owner) -> bool {
        match owner {
            Owner::Itself => true,
            Owner::Space => self.space.is_none(),
            Owner::Fs => self.fs.is_none(),
            Owner::Handlers => self.actions.is_none(),
        }
    }

    /// With whom it shares each of them.
    pub fn all(&self) -> [Option<u32>; 4] {
        [self.space, self.files, self.fs, self.actions]
    }
}

/// Who a process is.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Process {
    /// Its id, in its own pid namespace.
    #[n(0)]
    pub pid: u32,
    /// Its command name when it was frozen.
    #[n(1)]
    pub name: Text,
    /// Its threads' ids, the first thread's first.
    #[n(2)]
    pub threads: Vec<u32>,
    /// Its descriptors, ascending; none where it shares the table of another.
    #[n(3)]
    pub fds: Vec<Fd>,
    /// The process whose child it is; 0: of none in the tree.
    #[n(4)]
    #[cbor(default)]
    #[serde(default)]
    pub parent: u32,
    /// Its process group; 0: one that somebody outside of the tree leads.
    #[n(5)]
    #[cbor(default)]
    #[serde(default)]
    pub group: u32,
    /// Its session; 0: one that somebody outside of the tree leads.
    #[n(6)]
    #[cbor(default)]
    #[serde(default)]
    pub session: u32,
    /// What of it has ended.
    #[n(7)]
    #[cbor(default)]
    #[serde(default)]
    pub ended: Option<Ended>,
    /// The signal that tells its parent of its end, where it is not SIGCHLD; 0: none.
    #[n(8)]
    #[cbor(default)]
    #[serde(default)]
    pub exit_signal: Option<u32>,
    /// What it shares with another.
    #[n(9)]
    #[cbor(default)]
    #[serde(default)]
    pub shares: Shares,
}

impl Process {
    /// Whether only its status is left of it.
    pub fn is_zombie(&self) -> bool {
        matches!(self.ended, Some(Ended::Process(_)))
    }
}

/// Every process and thread is born, each in its session and group; those that had ended end.
pub(crate) fn births(to: &mut Planning<'_>) {
    let model = to.model;
    let lineage = Lineage::of(model, to.to.host.spare.clone());
    // Also where nobody makes them: what else there is against it is told, too.
    let maker = |pid: u32| lineage.as_ref().ok()?.forebear(pid).map(|by| to.space(Pid(by)).0);
    let makers = model.own_spaces().map(|(pid, space)| (pid, space, maker(pid)));
    let heritage = heritage::of(&makers.collect::<Vec<_>>(), |space| model.taken(space));
    to.heritage = Rc::new(heritage);
    let lineage = match lineage {
        Ok(lineage) => lineage,
        Err(refusals) => return refusals.into_iter().for_each(|r| to.to.refuse(r)),
    };
    let memory = memory_by_way_of(&lineage, to);
    for p in &model.processes {
        birth(p, &lineage, &memory, to);
    }
    go_on_counting(to);
    lineage.plan_ghosts(&memory, to);
    lineage.plan_adoptions(to);
    lineage.plan_groups(to);
    for p in &model.processes {
        end(p, &lineage, to);
    }
    lineage.plan_notices(to);
}

/// A new pid namespace counts ids from the first on, and would give those of processes that ended long ago, which programs may
/// still remember. So it goes on after the highest of the tree (kernel/pid_namespace.c, ns_last_pid).
fn go_on_counting(to: &mut Planning<'_>) {
    let model = to.model;
    if to.namespaces == Namespaces::Same {
        return;
    }
    let root = model.processes[0].process.pid;
    let at = At { pid: Pid(root), tid: Tid(root) };
    let last = model.ids().into_iter().chain(model.leaders()).max().unwrap_or(root);
    write_proc(NAME, "sys/kernel/ns_last_pid", &last.to_string(), Expect::Whatever, at, to);
}

/// The facts that each birth has a part in making.
pub(crate) fn born(tid: Tid) -> Vec<Fact> {
    vec![Fact::Born(tid), Fact::Peopled, Fact::Settled]
}

/// What those need of the memory of their makers who have none of their own to speak of, but of whom others are born that have something
/// of it; and what facts about it their births have a part in making.
type Memory = BTreeMap<u32, (Vec<Fact>, Vec<Fact>)>;

fn memory_by_way_of(lineage: &Lineage, to: &Planning<'_>) -> Memory {
    let mut all = Memory::new();
    for pid in to.model.processes.iter().map(|p| p.process.pid) {
        let passing: Vec<u32> = lineage.passing(pid).collect();
        let Some(forebear) = lineage.forebear(pid).filter(|_| !passing.is_empty()) else { continue };
        let (memory, heir) = space::birth(Pid(pid), Pid(forebear), to);
        for passing in passing {
            let (needs, makes) = all.entry(passing).or_default();
            needs.extend(memory.iter().cloned());
            makes.extend(heir.iter().cloned());
        }
    }
    all
}

/// A process is born, and the threads of it. It has the address space of its maker, or a copy of it.
fn birth(p: &ProcessModel, lineage: &Lineage, by_way_of: &Memory, to: &mut Planning<'_>) {
    let pid = Pid(p.process.pid);
    let first = Tid(p.process.pid);
    // A process without any descriptor has its table from the start.
    let mut makes = [born(first), vec![Fact::Files(pid), Fact::Grouped(pid)]].concat();
    let ground = lineage.ground(pid.0, to.model);
    match lineage.origin(pid.0) {
        None => {
            let op = Op::Clone { tid: first, birth: Birth::Root };
            to.to.step(Moment::Birth, NAME, Actor::Store, op, vec![], makes);
            space::plan_ground(pid.0, ground, Ground::Full, to);
        }
        Some(origin) => {
            let is_in_place = ground == lineage.ground(origin.maker, to.model);
            makes.extend(is_in_place.then_some(Fact::Bare(pid)));
            let forebear = lineage.forebear(pid.0).expect("who is made has a maker");
            let (memory, heir) = space::birth(pid, Pid(forebear), to);
            let mut needs = if origin.maker == forebear { memory } else { vec![Fact::Born(Tid(origin.maker))] };
            makes.extend(heir);
            // What had ended has no memory, but may be the maker of who has.
            let (more, heirs) = by_way_of.get(&pid.0).cloned().unwrap_or_default();
            needs.extend(more);
            makes.extend(heirs);
            clone(pid.0, origin, needs, makes, to);
            // Who waits to be made may find its maker with areas, and so does who has none of them beside others that have.
            if origin.maker != forebear || !origin.after.is_empty() || space::may_have_areas(Pid(forebear), to) {
                space::drop_rest(pid, to);
            }
            if !is_in_place {
                space::plan_ground(pid.0, ground, Ground::Bare, to);
            }
        }
    }
    for tid in p.process.threads.iter().skip(1).map(|t| Tid(*t)) {
        let op = Op::Clone { tid, birth: Birth::Thread { of: pid } };
        to.to.step(Moment::Birth, NAME, Actor::Thread(first), op, vec![Fact::Born(first)], born(tid));
    }
}

/// The birth of the first thread of a process, or of a helper.
pub(super) fn clone(id: u32, origin: &Origin, needs: Vec<Fact>, makes: Vec<Fact>, to: &mut Planning<'_>) {
    let birth = Birth::Process { flags: origin.flags, exit_signal: origin.signal };
    let needs = [needs, origin.after.clone()].concat();
    let (by, op) = (Actor::Thread(Tid(origin.maker)), Op::Clone { tid: Tid(id), birth });
    to.to.step(Moment::Birth, NAME, by, op, needs, makes);
}

/// What had ended ends: a whole process once all of its relatives are born and it is in its place, a first thread once it has
/// done all that there is to do for its process.
fn end(p: &ProcessModel, lineage: &Lineage, to: &mut Planning<'_>) {
    let (pid, tid) = (Pid(p.process.pid), Tid(p.process.pid));
    let by = Actor::Thread(tid);
    if let Some(ended) = p.process.ended {
        let args = vec![PR_SET_NAME.into(), Value::Bytes(p.process.name.c_string()), 0.into(), 0.into(), 0.into()];
        let op = Op::Call { sys: Sys::Prctl, args, expect: Expect::Success };
        let before = if matches!(ended, Ended::Process(_)) { Fact::Grouped(pid) } else { Fact::Whole(tid) };
        to.to.step(Moment::Place, NAME, by, op, vec![Fact::Born(tid)], vec![before]);
    }
    let mut step = |moment, end, needs, makes| to.to.step(moment, NAME, by, Op::End(end), needs, makes);
    match p.process.ended {
        Some(Ended::Process(status)) => {
            let makes = vec![Fact::Ended(tid), Fact::Settled];
            let needs = [Fact::Peopled, Fact::Grouped(pid)].into_iter().chain(lineage.dues(pid.0)).collect();
            step(Moment::Link, End::Process(status), needs, makes);
            const WCOREFLAG: i32 = 0x80;
            if status & WCOREFLAG != 0 && status & 0x7f != 0 {
                to.to
                    .note(format!("process {pid} had ended with a core dump; its parent will not be told of the dump"));
            }
        }
        Some(Ended::FirstThread(status)) => {
            step(Moment::Arm, End::Thread(status), vec![Fact::Whole(tid)], vec![Fact::Ended(tid)]);
        }
        None => {}
    }
}

/// Every number leads where it led, and no other number is open.
pub(crate) fn descriptors(p: &ProcessModel, at: At, to: &mut Planning<'_>) {
    if p.process.shares.files.is_some() || p.process.is_zombie() {
        return;
    }
    for fd in &p.process.fds {
        let descr = Descr(fd.description);
        let flags = if fd.close_on_exec { O_CLOEXEC.into() } else { 0 };
        let args = vec![to.number(descr).into(), u64::from(fd.number).into(), flags.into()];
        let op = Op::Call { sys: Sys::Dup3, args, expect: Expect::Exactly(fd.number.into()) };
        let needs = vec![Fact::Born(at.tid), Fact::Made(descr)];
        let asked = to.told_of.contains(&(at.pid.0, fd.number)).then_some(Fact::Placed(at.pid, fd.number));
        let makes = [Fact::Files(at.pid)].into_iter().chain(asked).collect();
        to.to.step(Moment::Place, NAME, Actor::Thread(at.tid), op, needs, makes);
    }
    for (first, last) in gaps(p, to.reserve, to.base) {
        let args = vec![first.into(), last.into(), 0.into()];
        let op = Op::Call { sys: Sys::CloseRange, args, expect: Expect::Success };
        let mut needs = vec![Fact::Settled, Fact::Files(at.pid)];
        needs.extend(to.model.users_of_files(at.pid.0).map(|user| Fact::Mapped(to.space(user))));
        let makes = vec![Fact::Closed(at.pid), Fact::Whole(at.tid)];
        to.to.step(Moment::Arm, NAME, Actor::Thread(at.tid), op, needs, makes);
    }
}

/// The numbers that are to be closed: all but the tree's own, and but those of the executor, who closes them last.
fn gaps(p: &ProcessModel, reserve: u32, base: u32) -> Vec<(u64, u64)> {
    let (below, above): (Vec<u32>, Vec<u32>) = p.process.fds.iter().map(|fd| fd.number).partition(|n| *n < reserve);
    let open = below.into_iter().map(|n| (n, n + 1)).chain([(reserve, base)]);
    let open = open.chain(above.into_iter().map(|n| (n, n + 1)));
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    let mut next = 0;
    for (first, end) in open {
        if first > next {
            gaps.push((next.into(), u64::from(first) - 1));
        }
        next = end;
    }
    gaps.push((next.into(), u32::MAX.into()));
    gaps
}
