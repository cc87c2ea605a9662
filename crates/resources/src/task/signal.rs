//! Signals of a thread: alternate stack, signals that wait. (The mask goes with the registers.)
//!
//! - seen as    `SigPnd`, `ShdPnd` of /proc/PID/status
//! - captured   `sigaltstack` by the thread itself; both queues with PTRACE_PEEKSIGINFO, in their order, taken by nobody;
//!   behind them those for which there was no room to note who sent them (setrlimit(2), RLIMIT_SIGPENDING)
//! - recreated  `sigaltstack`; `rt_sigqueueinfo` and `rt_tgsigqueueinfo` to itself, which may carry any code; the stop of the first
//!   process by the same signal as it begins to run, that of another as `job-stops` tells
//! - not kept   what would stop a process that is stopped once more: what lets it go on takes that away (signal(7))

use super::{all, ticks, written};
use crate::tree::stops;
use crate::{At, Capture, Capturing, Model, Planning, ProcessState, Queue, Resource, Still, ThreadState, Trouble};
use abi::consts::sigaction::{SS_DISABLE, SS_ONSTACK};
use abi::signal::{SIGSTOP, Siginfo, StackT};
use abi::{Arg, Call, Fault, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Tid, Value};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Signal {
    /// The alternate stack, if there is one.
    #[n(0)]
    pub stack: Option<StackT>,
    /// Signals to this thread that wait, oldest first.
    #[n(1)]
    pub pending: Vec<Siginfo>,
    /// Signals to its process that wait; with the first thread only.
    #[n(2)]
    pub process_pending: Vec<Siginfo>,
    /// The signal that stopped the process, if it is stopped; with the first thread only.
    #[n(3)]
    pub stopped: Option<i32>,
}

impl Resource for Signal {
    const NAME: &'static str = "signal";
}

impl Capture for Signal {
    fn asks() -> Vec<Call> {
        vec![Call::new(Sys::Sigaltstack, [Arg::Int(0), Arg::Out(StackT::SIZE)])]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = all(from, &Self::asks())?;
        let stack = StackT::from_bytes(written(&answers[0])).filter(|s| s.flags & SS_DISABLE == 0);
        let stack = stack.map(|s| StackT { flags: s.flags & !SS_ONSTACK, ..s });
        Ok(Signal { stack, pending: Vec::new(), process_pending: Vec::new(), stopped: None })
    }

    fn conclude(&mut self, last: &dyn Still) -> Result<(), Fault> {
        let matters = |info: &Siginfo| last.stopped().is_none() || !stops::STOPS.contains(&info.signo());
        let waiting = |queue| Ok(last.pending(queue)?.into_iter().filter(matters).collect());
        self.pending = waiting(Queue::Thread)?;
        if last.is_first_thread() {
            self.process_pending = waiting(Queue::Process)?;
            self.stopped = last.stopped();
        }
        Ok(())
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let none = StackT { sp: 0, flags: SS_DISABLE, size: 0 };
        let stack = self.stack.unwrap_or(none).to_bytes().to_vec();
        // What is born as a thread has none (kernel/fork.c, copy_process); the first one has it from its maker.
        if self.stack.is_some() || at.tid.0 == at.pid.0 {
            let args = vec![Value::Bytes(stack), 0.into()];
            let op = Op::Call { sys: Sys::Sigaltstack, args, expect: Expect::Success };
            to.to.step(
                Moment::Arm,
                Self::NAME,
                Actor::Thread(at.tid),
                op,
                vec![Fact::Settled],
                vec![Fact::Whole(at.tid)],
            );
        }
        let (pid, tid) = (u64::from(at.pid.0), u64::from(at.tid.0));
        let states = to.model.process(at.pid.0).map_or(&[][..], |p| &p.states);
        let queued = |info: &&Siginfo| ticks::sent_anew(info, states).is_none();
        for info in self.process_pending.iter().filter(queued) {
            let args = vec![pid.into(), (info.signo() as u64).into(), Value::Bytes(info.to_bytes().to_vec())];
            queue(Sys::RtSigqueueinfo, args, info, at, to);
        }
        for info in self.pending.iter().filter(queued) {
            let args =
                vec![pid.into(), tid.into(), (info.signo() as u64).into(), Value::Bytes(info.to_bytes().to_vec())];
            queue(Sys::RtTgsigqueueinfo, args, info, at, to);
        }
        if let Some(signal) = self.stopped.filter(|_| stops::is_first(to.model, at.pid.0)) {
            at_the_end(signal, at, to);
        }
    }
}

/// Whether somebody makes it true that all is there which counts as a signal of the process that waits.
pub(crate) fn is_queued(model: &Model, pid: u32) -> bool {
    let Some(p) = model.process(pid) else { return false };
    let waits = |s: &ThreadState| match s {
        ThreadState::Signal(s) => s.pending.iter().chain(&s.process_pending).any(|info| info.signo() != SIGSTOP),
        _ => false,
    };
    let times = |s: &ProcessState| matches!(s, ProcessState::PosixTimers(all) if !all.timers.is_empty());
    p.threads.iter().flat_map(|t| &t.states).any(waits) || p.states.iter().any(times)
}

/// A signal waits again. By then, none waits that tells of what the children of the process did while they were made.
fn queue(sys: Sys, args: Vec<Value>, info: &Siginfo, at: At, to: &mut Planning<'_>) {
    if info.signo() == SIGSTOP {
        return at_the_end(SIGSTOP, at, to);
    }
    let told = stops::has_stopped_children(to.model, at.pid.0).then_some(Fact::Told(at.pid));
    let needs = [Fact::Settled].into_iter().chain(told).collect();
    let op = Op::Call { sys, args, expect: Expect::Success };
    // As from somebody else it may only be sent by the first thread to itself (kernel/signal.c, `do_rt_sigqueueinfo`), which ends after that if it
    // had ended.
    let by = if sys == Sys::RtSigqueueinfo { Tid(at.pid.0) } else { at.tid };
    let makes = vec![Fact::Whole(by), Fact::Whole(at.tid), Fact::Queued(at.pid)];
    to.to.step(Moment::Arm, Signal::NAME, Actor::Thread(by), op, needs, makes);
}

fn at_the_end(signal: i32, at: At, to: &mut Planning<'_>) {
    let (op, makes) = (Op::Signal { signal }, vec![Fact::Whole(at.tid)]);
    to.to.step(Moment::Arm, Signal::NAME, Actor::Thread(at.tid), op, vec![Fact::Settled], makes);
}
