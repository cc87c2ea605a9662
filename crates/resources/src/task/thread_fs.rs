//! Filesystem context of a thread that has one apart from its process: clone(2) without CLONE_FS, unshare(2).
//!
//! - seen as    kcmp(2); /proc/PID/task/TID/cwd and root, `Umask` of its status
//! - captured   what is captured of a process (see `fs`)
//! - recreated  `unshare`, then as that of a process
//! - refused    one that it has in common with another thread or process; otherwise see `fs`

use super::fs::Fs;
use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::Sys;
use abi::consts::clone::CLONE_FS;
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct ThreadFs {
    /// What it has of its own, if it has.
    #[n(0)]
    pub own: Option<Fs>,
}

impl Resource for ThreadFs {
    const NAME: &'static str = "thread-fs";
}

impl Capture for ThreadFs {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let Some(below) = from.probe.own_fs() else { return Ok(ThreadFs { own: None }) };
        let status = from.probe.thread_text("status")?;
        Ok(ThreadFs { own: Some(Fs::behind(&below, &status, from)?) })
    }

    fn is_none(&self) -> bool {
        self.own.is_none()
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let Some(own) = &self.own else { return };
        // Whoever is born of it before would have it in common with it, and nobody else goes anywhere before that.
        let op = Op::Call { sys: Sys::Unshare, args: vec![CLONE_FS.into()], expect: Expect::Success };
        to.to.step(Moment::Place, Self::NAME, Actor::Thread(at.tid), op, vec![Fact::Peopled], vec![Fact::Settled]);
        own.plan_for(at, Fact::Settled, to);
    }
}
