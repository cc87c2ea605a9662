//! Stops: which children a process has heard to be stopped (job control).
//!
//! - seen as    who is stopped by a signal is what a tracer sees
//! - captured   `waitid` with WNOWAIT, by the parent, for each of its children that is: whether that still tells of the stop
//! - recreated  by the same signal, as soon as the child needs to do nothing more, so that the parent is told; then the parent waits
//!   for what it had heard of, and the SIGCHLD is taken, unless it is one that waited, which comes back with the others
//! - not kept   that a child was let go on, and its parent has not heard of that (WCONTINUED); by which signal it was stopped, where
//!   that has a handler now, or nobody would let its group go on: then it is SIGSTOP
//!
//! The stop of the first process is for whoever thaws it to hear: `signal`.

use crate::task::written;
use crate::{Capture, Capturing, Model, Planning, ProcessModel, ProcessState, Resource, ThreadState, Trouble};
use abi::signal::{SIGCHLD, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SigSet, name};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Pid, Tid, Value};
use serde::{Deserialize, Serialize};

const P_PID: u64 = 1;
const WNOHANG: u64 = 1;
const WSTOPPED: u64 = 2;
const WNOWAIT: u64 = 0x0100_0000;
/// Also for children that do not end with SIGCHLD.
const WALL: u64 = 0x4000_0000;

/// Signals that stop a process.
pub(crate) const STOPS: [i32; 4] = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Stops {
    /// The children whose stop it has taken note of.
    #[n(0)]
    pub heard: Vec<u32>,
}

impl Resource for Stops {
    const NAME: &'static str = "job-stops";
}

impl Capture for Stops {
    /// kernel/exit.c, wait_task_stopped: what the parent hears of is kept apart from what a tracer does.
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut heard = from.probe.stopped_children();
        if !heard.is_empty() {
            let info = || Arg::Out(abi::signal::Siginfo::SIZE);
            let ask = |pid: &u32| {
                let options = WSTOPPED | WNOHANG | WNOWAIT | WALL;
                Call::new(Sys::Waitid, [Arg::Int(P_PID), u64::from(*pid).into(), info(), options.into(), Arg::Int(0)])
            };
            let answers = from.probe.calls(&heard.iter().map(ask).collect::<Vec<_>>())?;
            // No signal where there is nothing to tell (waitid(2)).
            let mut is_heard = answers.iter().map(|a| a.result.is_ok() && written(a).iter().all(|byte| *byte == 0));
            heard.retain(|_| is_heard.next() == Some(true));
        }
        Ok(Stops { heard })
    }

    /// By [`plan`], which looks at children, too: those that an image of an earlier release tells of.
    fn plan(&self, _: crate::At, _: &mut Planning<'_>) {}
}

/// Whether it is the first process of the tree.
pub(crate) fn is_first(model: &Model, pid: u32) -> bool {
    model.processes[0].process.pid == pid
}

/// The signal by which a process is stopped.
fn signal_of(p: &ProcessModel) -> Option<i32> {
    p.threads.iter().flat_map(|t| &t.states).find_map(|s| if let ThreadState::Signal(s) = s { s.stopped } else { None })
}

fn stopped_children(model: &Model, pid: u32) -> impl Iterator<Item = (&ProcessModel, i32)> {
    let own = model.processes.iter().filter(move |p| p.process.parent == pid && !p.process.is_zombie());
    own.filter_map(|p| Some((p, signal_of(p)?)))
}

/// Whether a process has children that are stopped.
pub(crate) fn has_stopped_children(model: &Model, pid: u32) -> bool {
    stopped_children(model, pid).next().is_some()
}

/// Whether the process leaves to the kernel what becomes of the signal.
fn is_default(model: &Model, p: &ProcessModel, signal: i32) -> bool {
    let owner = p.process.shares.actions.unwrap_or(p.process.pid);
    let states = model.processes.iter().filter(|p| p.process.pid == owner).flat_map(|p| &p.states);
    let mut set = states.flat_map(|s| if let ProcessState::Handlers(h) = s { &h.set[..] } else { &[] });
    !set.any(|h| h.signal == signal && h.action.handler != 0)
}

/// Children stop when they have nothing more to do, and their parents hear of it, or have heard.
pub(crate) fn plan(to: &mut Planning<'_>) {
    let model = to.model;
    for parent in &model.processes {
        let pid = parent.process.pid;
        let mut all = Vec::new();
        for (child, signal) in stopped_children(model, pid) {
            let stopped = Fact::Stopped(Pid(child.process.pid));
            let living = child.threads.iter().skip(child.process.ended.is_some().into());
            let ended = child.process.ended.map(|_| Fact::Ended(Tid(child.process.pid)));
            let needs = living.map(|t| Fact::Whole(Tid(t.tid))).chain(ended).collect();
            let stops = STOPS.contains(&signal) && is_default(model, child, signal);
            let by = if stops { signal } else { SIGSTOP };
            let (actor, op) = (Actor::Thread(Tid(child.process.pid)), Op::Stop { signal: by });
            to.to.step(Moment::Arm, Stops::NAME, actor, op, needs, vec![stopped.clone()]);
            let heard = |s: &ProcessState| matches!(s, ProcessState::Stops(s) if s.heard.contains(&child.process.pid));
            if parent.states.iter().any(heard) {
                let (who, how) = (child.process.pid.into(), WSTOPPED | WNOHANG | WALL);
                let args = vec![P_PID.into(), Value::Int(who), 0.into(), how.into(), 0.into()];
                notice(pid, Sys::Waitid, args, Expect::Exactly(0), vec![stopped.clone()], to);
            } else if by != signal {
                let (pid, by, was) = (child.process.pid, name(by), name(signal));
                to.to.note(format!("process {pid} is stopped by {by}, not by {was}: its parent will be told so"));
            }
            all.push(stopped);
        }
        if !all.is_empty() {
            // One waits at most, and none where the process does not want to be told (SA_NOCLDSTOP).
            let set = SigSet::EMPTY.with(SIGCHLD).to_bytes().to_vec();
            let args = vec![Value::Bytes(set), 0.into(), Value::Bytes(vec![0; 16]), 8.into()];
            notice(pid, Sys::RtSigtimedwait, args, Expect::Whatever, all, to);
        }
    }
}

/// A parent takes note of something.
fn notice(pid: u32, sys: Sys, args: Vec<Value>, expect: Expect, needs: Vec<Fact>, to: &mut Planning<'_>) {
    let op = Op::Call { sys, args, expect };
    let makes = vec![Fact::Told(Pid(pid)), Fact::Whole(Tid(pid))];
    to.to.step(Moment::Arm, Stops::NAME, Actor::Thread(Tid(pid)), op, needs, makes);
}
