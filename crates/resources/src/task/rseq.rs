//! Restartable sequences (rseq(2)).
//!
//! - seen as    PTRACE_GET_RSEQ_CONFIGURATION
//! - captured   address, length and signature; a thread seized inside a critical section goes on at its abort handler, as
//!   after any preemption: the seizure sees to that
//! - recreated  `rseq`, by the thread itself, once its memory stands
//! - refused    nothing

use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::Sys;
use abi::x86_64::RseqConfiguration;
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Rseq {
    /// The registration, if there is one.
    #[n(0)]
    pub registered: Option<RseqConfiguration>,
}

impl Resource for Rseq {
    const NAME: &'static str = "rseq";
}

impl Capture for Rseq {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        Ok(Rseq { registered: from.probe.rseq().filter(|r| r.pointer != 0) })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if let Some(r) = &self.registered {
            let args = vec![r.pointer.into(), u64::from(r.size).into(), 0.into(), u64::from(r.signature).into()];
            let op = Op::Call { sys: Sys::Rseq, args, expect: Expect::Success };
            // The kernel writes into the structure when it is registered, so its page must be there.
            let needs = vec![Fact::Settled, Fact::Loaded(to.space(at.pid))];
            to.to.step(Moment::Arm, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
        }
    }
}
