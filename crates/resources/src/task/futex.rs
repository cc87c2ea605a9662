//! Futexes, as far as the kernel keeps anything of them: the robust list, and the word that is cleared when the
//! thread ends.
//!
//! - seen as    nothing in /proc
//! - captured   `get_robust_list`; PR_GET_TID_ADDRESS
//! - recreated  `set_robust_list`, `set_tid_address`
//! - not kept   to which word a waiter was moved (FUTEX_REQUEUE): it looks at the first one again, as after a wake-up that meant nothing

use super::{ask_into, written};
use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::consts::prctl::PR_GET_TID_ADDRESS;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::Expect;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Futex {
    /// Address and length of the head of the robust list; 0: none.
    #[n(0)]
    pub robust_list: (u64, u64),
    /// The address of the word that becomes 0 when the thread ends; 0: none.
    #[n(1)]
    pub clear_tid: u64,
}

impl Resource for Futex {
    const NAME: &'static str = "futex";
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b))
}

impl Capture for Futex {
    fn asks() -> Vec<Call> {
        let robust = Call::new(Sys::GetRobustList, [Arg::Int(0), Arg::Out(8), Arg::Out(8)]);
        vec![robust, ask_into(PR_GET_TID_ADDRESS, 8)]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = super::all(from, &Self::asks())?;
        Ok(Futex {
            robust_list: (word(&answers[0].out[0]), word(&answers[0].out[1])),
            clear_tid: word(written(&answers[1])),
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let (head, len) = self.robust_list;
        if head != 0 {
            to.to.arm(Self::NAME, at.tid, Sys::SetRobustList, vec![head.into(), len.into()], Expect::Success);
        }
        to.to.arm(Self::NAME, at.tid, Sys::SetTidAddress, vec![self.clear_tid.into()], Expect::Success);
    }
}
