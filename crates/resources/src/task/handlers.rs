//! Signal handlers: what a process does with each signal (`sighand_struct`).
//!
//! - seen as    nothing in /proc but masks
//! - captured   `rt_sigaction` of every signal, by the process itself
//! - recreated  the same call, for those that are not the default ones: a process of a thaw is born with the default ones
//! - not kept   nothing

use crate::{At, Capture, Capturing, Owner, Planning, Resource, Trouble};
use abi::signal::{KernelSigaction, settable};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Expect, Value};
use serde::{Deserialize, Serialize};

/// One signal's handler.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Handler {
    /// The signal.
    #[n(0)]
    pub signal: i32,
    /// What becomes of it.
    #[n(1)]
    pub action: KernelSigaction,
}

/// The handlers that are not the default ones.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Handlers {
    /// Ascending by signal.
    #[n(0)]
    pub set: Vec<Handler>,
}

impl Resource for Handlers {
    const NAME: &'static str = "handlers";
}

impl Capture for Handlers {
    const OF: Owner = Owner::Handlers;

    fn asks() -> Vec<Call> {
        let ask = |s: i32| {
            let args = [Arg::Int(s as u64), Arg::Int(0), Arg::Out(KernelSigaction::SIZE), Arg::Int(8)];
            Call::new(Sys::RtSigaction, args)
        };
        settable().map(ask).collect()
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = super::all(from, &Self::asks())?;
        let actions = answers.iter().filter_map(|a| KernelSigaction::from_bytes(super::written(a)));
        let set = settable().zip(actions).filter(|(_, a)| !a.is_default());
        Ok(Handlers { set: set.map(|(signal, action)| Handler { signal, action }).collect() })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        for Handler { signal, action } in &self.set {
            let args = vec![(*signal as u64).into(), Value::Bytes(action.to_bytes().to_vec()), 0.into(), 8.into()];
            to.to.arm(Self::NAME, at.tid, Sys::RtSigaction, args, Expect::Success);
        }
    }
}
