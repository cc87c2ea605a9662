//! Process: its ids, its threads, and its table of descriptors.
//!
//! - seen as    /proc/PID
//! - captured   ids in its own pid namespace; descriptors by the engine, which knows which share a description
//! - recreated  `clone3` with `set_tid`; each descriptor by `dup3` from where the store made its description
//! - refused    children, and processes of another user's kind: seccomp, 32 bits, a debugger

use crate::{At, Planning, ProcessModel, Text};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Tid};
use serde::{Deserialize, Serialize};

const NAME: &str = "process";
const O_CLOEXEC: u64 = 0o2000000;

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

/// Who a process is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
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
    /// Its descriptors, ascending.
    #[n(3)]
    pub fds: Vec<Fd>,
}

/// Its threads are born; all of them wait.
pub(crate) fn births(p: &ProcessModel, to: &mut Planning<'_>) {
    let pid = Pid(p.process.pid);
    let first = Tid(p.process.pid);
    let op = Op::Clone { tid: first, within: None };
    // A process without any descriptor has its table from the start.
    let makes = vec![Fact::Born(first), Fact::Files(pid)];
    to.to.step(Moment::Birth, NAME, Actor::Store, op, vec![], makes);
    for tid in p.process.threads.iter().skip(1).map(|t| Tid(*t)) {
        let op = Op::Clone { tid, within: Some(pid) };
        to.to.step(Moment::Birth, NAME, Actor::Thread(first), op, vec![Fact::Born(first)], vec![Fact::Born(tid)]);
    }
}

/// Every number leads where it led, and no other number is open.
pub(crate) fn descriptors(p: &ProcessModel, at: At, to: &mut Planning<'_>) {
    for fd in &p.process.fds {
        let descr = Descr(fd.description);
        let flags = if fd.close_on_exec { O_CLOEXEC } else { 0 };
        let args = vec![to.number(descr).into(), u64::from(fd.number).into(), flags.into()];
        let op = Op::Call { sys: Sys::Dup3, args, expect: Expect::Exactly(fd.number.into()) };
        let needs = vec![Fact::Born(at.tid), Fact::Made(descr)];
        to.to.step(Moment::Place, NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Files(at.pid)]);
    }
    for (first, last) in gaps(p, to.reserve, to.base) {
        let args = vec![first.into(), last.into(), 0.into()];
        let op = Op::Call { sys: Sys::CloseRange, args, expect: Expect::Success };
        let needs = vec![Fact::Mapped(at.pid), Fact::Files(at.pid)];
        to.to.step(Moment::Arm, NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
    }
}

/// The numbers that are to be closed: all but the tree's own, and but those of the executor, who closes them last.
fn gaps(p: &ProcessModel, reserve: u32, base: u32) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for fd in &p.process.fds {
        if fd.number > next {
            gaps.push((next.into(), u64::from(fd.number) - 1));
        }
        next = fd.number + 1;
    }
    if next < reserve {
        gaps.push((next.into(), u64::from(reserve) - 1));
    }
    gaps.push((base.into(), u32::MAX.into()));
    gaps
}
