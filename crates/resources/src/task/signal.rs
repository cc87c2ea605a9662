//! Signals of a thread: alternate stack, signals that wait. (The mask goes with the registers.)
//!
//! - seen as    `SigPnd`, `ShdPnd` of /proc/PID/status
//! - captured   `sigaltstack` by the thread itself; both queues with PTRACE_PEEKSIGINFO, in their order, taken by nobody
//! - recreated  `sigaltstack`; `rt_sigqueueinfo` and `rt_tgsigqueueinfo` to itself, which may carry any code
//! - not kept   nothing

use super::{all, written};
use crate::{At, Capture, Capturing, Planning, Queue, Resource, Still, Trouble};
use abi::signal::{Siginfo, StackT};
use abi::{Arg, Call, Fault, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};

/// SS_ONSTACK: the thread is on it now. It is found out from the stack pointer and never given.
const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;

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
        self.pending = last.pending(Queue::Thread)?;
        if last.is_first_thread() {
            self.process_pending = last.pending(Queue::Process)?;
            self.stopped = last.stopped();
        }
        Ok(())
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let none = StackT { sp: 0, flags: SS_DISABLE, size: 0 };
        let stack = self.stack.unwrap_or(none).to_bytes().to_vec();
        to.to.arm(Self::NAME, at.tid, Sys::Sigaltstack, vec![Value::Bytes(stack), 0.into()], Expect::Success);
        let (pid, tid) = (u64::from(at.pid.0), u64::from(at.tid.0));
        for info in &self.process_pending {
            let args = vec![pid.into(), (info.signo() as u64).into(), Value::Bytes(info.to_bytes().to_vec())];
            to.to.arm(Self::NAME, at.tid, Sys::RtSigqueueinfo, args, Expect::Success);
        }
        for info in &self.pending {
            let args =
                vec![pid.into(), tid.into(), (info.signo() as u64).into(), Value::Bytes(info.to_bytes().to_vec())];
            to.to.arm(Self::NAME, at.tid, Sys::RtTgsigqueueinfo, args, Expect::Success);
        }
        if let Some(signal) = self.stopped {
            let op = Op::Signal { signal };
            let needs = vec![Fact::Settled];
            to.to.step(Moment::Arm, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
        }
    }
}
