//! Eventfd: a 64-bit counter behind a descriptor.
//!
//! - seen as    `anon_inode:[eventfd]`
//! - captured   counter and semaphore mode, from fdinfo; nothing is read out of it
//! - recreated  `eventfd2`, whose argument is 32 bits wide, then a `write` of the rest
//! - refused    one that a process outside of the tree has too; on a kernel whose fdinfo does not tell the mode (before 6.5)
//! - not kept   nothing

use super::{Kind, Seen, common_refusals, flags, shared_outside};
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::Sys;
use abi::consts::fd::EFD_SEMAPHORE;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, Moment, Op};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Eventfd {
    /// The counter.
    #[n(0)]
    pub count: u64,
    /// Whether a read takes one instead of all (EFD_SEMAPHORE).
    #[n(1)]
    pub semaphore: bool,
    /// Status flags (open(2)).
    #[n(2)]
    pub flags: u32,
}

impl Resource for Eventfd {
    const NAME: &'static str = "eventfd";
}

impl Kind for Eventfd {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[eventfd]"
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let hidden =
            |what: &str| seen.refuse(format!("this kernel does not tell its {what}"), "Linux 6.5 or later does");
        // fs/eventfd.c, eventfd_show_fdinfo: the count is hexadecimal.
        let count = seen.info.number("eventfd-count", 16).ok_or_else(|| hidden("count"))?;
        let semaphore = seen.info.number("eventfd-semaphore", 10).ok_or_else(|| hidden("semaphore mode"))? != 0;
        Ok(Eventfd { count, semaphore, flags: seen.flags() })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let first = self.count.min(u32::MAX.into());
        let mode = if self.semaphore { EFD_SEMAPHORE } else { 0 } | u64::from(self.flags & flags::NONBLOCK);
        to.to.make(Self::NAME, descr, Sys::Eventfd2, vec![first.into(), mode.into()]);
        if self.count > first {
            let packets = vec![(self.count - first).to_ne_bytes().to_vec()];
            let op = Op::Feed { descr, packets };
            to.to.step(Moment::Fill, Self::NAME, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Filled(descr)]);
        }
    }
}
