//! Signalfd: signals that are read instead of handled (signalfd(2)).
//!
//! - seen as    `anon_inode:[signalfd]`
//! - captured   the signals that it takes, from fdinfo. Those that wait are not its own but the process's: the resource
//!   `signal` has them
//! - recreated  `signalfd4`
//! - refused    where fdinfo does not tell the signals
//! - not kept   O_NOATIME (fcntl(2)), which means nothing there.
//!   That a process outside of the tree has it too: told. Who reads gets its own signals, so only a new choice of
//!   signals would be felt by both. An epoll watch on it is woken by the signals of the process that added it
//!   (fs/signalfd.c, signalfd_poll), and nothing tells which one that was: it is added by the first that has the instance,
//!   so where a parent added it and closed the instance since, its child is woken by its own signals instead

use super::{Kind, Seen, common_refusals, flags, set_status};
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

/// The length of a set of signals (signalfd(2), C library/kernel differences).
const SET_SIZE: u64 = 8;
const NEW: u64 = -1i64 as u64;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Signalfd {
    /// The signals that it takes: bit 0 is signal 1.
    #[n(0)]
    pub signals: u64,
    /// Status flags (open(2)).
    #[n(1)]
    pub flags: u32,
}

impl Resource for Signalfd {
    const NAME: &'static str = "signalfd";
}

impl Kind for Signalfd {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[signalfd]"
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        // `sigmask: 8000000000004200` (fs/signalfd.c, signalfd_show_fdinfo): those that it takes.
        let signals = seen.info.number("sigmask", 16);
        if signals.is_none() {
            refusals.push(seen.refuse("this kernel does not tell which signals it takes", "Linux 3.8 or later does"));
        }
        if let Some(signals) = signals.filter(|_| refusals.is_empty()) {
            if let Some(pid) = from.probe.other_sharers(seen)?.first() {
                let why =
                    format!("process {pid} has it too; which signals it takes, each chooses for itself from now on");
                from.note(seen.title(), why);
            }
            return Ok(Signalfd { signals, flags: seen.flags() });
        }
        Err(Trouble::Refused(refusals))
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let signals = Value::Bytes(self.signals.to_ne_bytes().to_vec());
        let nonblock = u64::from(self.flags & flags::NONBLOCK);
        to.to.make(Self::NAME, descr, Sys::Signalfd4, vec![NEW.into(), signals, SET_SIZE.into(), nonblock.into()]);
        set_status(Self::NAME, descr, (self.flags, self.flags & flags::NONBLOCK), to);
    }
}
