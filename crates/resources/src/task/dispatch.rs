//! Syscall user dispatch: system calls that come back to the thread as SIGSYS, which emulates them (prctl(2),
//! PR_SET_SYSCALL_USER_DISPATCH).
//!
//! - seen as    PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
//! - captured   the range whose calls are let through, and where the selector is; the selector itself is memory. A call that was
//!   on its way back is a signal that waits
//! - recreated  PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, when the thread has made its last call as a stub
//! - refused    nothing; on a kernel before 6.4, which does not tell, it is not seen
//! - not kept   nothing

use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::x86_64::DispatchConfiguration;
use minicbor::{Decode, Encode};
use plan::{Actor, Fact, Moment, Op};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Dispatch {
    /// Whither, if its calls come back.
    #[n(0)]
    pub on: Option<DispatchConfiguration>,
}

impl Resource for Dispatch {
    const NAME: &'static str = "dispatch";
}

impl Capture for Dispatch {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        Ok(Dispatch { on: from.probe.dispatch() })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if let Some(config) = self.on {
            let (by, needs) = (Actor::Thread(at.tid), vec![Fact::Settled]);
            to.to.step(Moment::Arm, Self::NAME, by, Op::Dispatch { config }, needs, vec![Fact::Whole(at.tid)]);
        }
    }
}

impl Dispatch {
    /// Whether a kernel could have shown it.
    pub(crate) fn is_sound(&self) -> bool {
        self.on.is_none_or(|config| config.is_sound())
    }
}
