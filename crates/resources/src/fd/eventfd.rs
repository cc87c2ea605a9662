//! Eventfd: a 64-bit counter behind a descriptor.
//!
//! - seen as    `anon_inode:[eventfd]`
//! - captured   counter and semaphore mode, from fdinfo. Before Linux 6.5 it does not tell the mode: then the program itself reads in one
//!   batch, and puts back what it got. Who watches it by edges (EPOLLET) is told once more
//! - recreated  `eventfd2`, whose argument is 32 bits wide, then a `write` of the rest
//! - refused    one that a process outside of the tree has too. Where fdinfo does not tell the mode: one in flight, one that is full, and
//!   any of a process for which the kernel does input and output, which may add to it meanwhile
//! - not kept   O_NOATIME (fcntl(2)), which means nothing there. That the kernel has counted too much (eventfd(2), POLLERR), which no write
//!   does: told

use super::{Kind, Seen, common_refusals, flags, set_status, shared_outside};
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::consts::fd::{EFD_SEMAPHORE, RWF_NOWAIT};
use abi::{Arg, Call, Fault, Place, Sys};
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

/// What a write can make of it (eventfd(2)).
const MOST: u64 = u64::MAX - 1;
/// From here on a write might wait (eventfd(2)).
const FULL: u64 = u64::MAX - 2;

/// Whether the kernel may add to an eventfd by itself, or tell by a ring that one was added to (io_submit(2), io_uring(7)).
fn has_rings(from: &Capturing<'_>) -> Result<bool, Fault> {
    const AIO: &[u8] = b"/[aio]";
    let areas = from.probe.text("smaps")?;
    Ok(areas.windows(AIO.len()).any(|name| name == AIO) || !from.probe.lines("SqMask").is_empty())
}

/// Whether a read takes one of a count and not all of it, which shows from two on; `None`: it may not be read without waiting. An envoy
/// makes a batch to its end whoever dies, and nobody else adds or takes, so the count is the same before and after it.
fn is_semaphore(fd: u32, count: u64, from: &Capturing<'_>) -> Result<Option<bool>, Fault> {
    let fd = Arg::Int(fd.into());
    // Too short for a read, it makes room for what others read (eventfd(2)).
    let room = || Call::new(Sys::Read, [fd.clone(), Arg::Out(8), 0.into()]);
    let put = |value: Arg| Call::new(Sys::Write, [fd.clone(), value, 8.into()]);
    let add = |n: u64| put(Arg::Bytes(n.to_ne_bytes().to_vec()));
    let take = |into: usize| {
        let pieces = Arg::Pieces(vec![(Place::Out(into, 0), 8)]);
        Call::new(Sys::Preadv2, [fd.clone(), pieces, 1.into(), u64::MAX.into(), u64::MAX.into(), RWF_NOWAIT.into()])
    };
    // Of none, none is put back.
    let trial = from.probe.calls(&[room(), take(0), put(Arg::At(Place::Out(0, 0)))])?;
    let (got, taken) = match count {
        _ if !matches!(trial[1].result, Ok(8) | Err(abi::Errno::EAGAIN)) => return Ok(None),
        0 => (2, from.probe.calls(&[room(), room(), add(2), take(0), take(1)])?),
        1 => (2, from.probe.calls(&[room(), room(), add(1), take(0), take(1), add(1)])?),
        _ => (count, trial),
    };
    let bytes = taken[0].out.first().and_then(|out| out.first_chunk().copied());
    Ok(match bytes.map(u64::from_ne_bytes) {
        Some(1) => Some(true),
        Some(all) if all == got => Some(false),
        _ => None,
    })
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
        let told = seen.info.number("eventfd-semaphore", 10).map(|mode| mode != 0);
        let may_try = || Ok::<_, Fault>(!seen.in_flight && count < FULL && !has_rings(from)?);
        let found = || if may_try()? { is_semaphore(seen.fd, count, from) } else { Ok(None) };
        let semaphore = told.map_or_else(found, |told| Ok(Some(told)))?.ok_or_else(|| hidden("semaphore mode"))?;
        if count > MOST {
            from.note(seen.title(), "the kernel has counted too much (POLLERR); thawed, it is full, and less by one");
        }
        Ok(Eventfd { count, semaphore, flags: seen.flags() })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let first = self.count.min(u32::MAX.into());
        let mode = if self.semaphore { EFD_SEMAPHORE } else { 0 } | u64::from(self.flags & flags::NONBLOCK);
        to.to.make(Self::NAME, descr, Sys::Eventfd2, vec![first.into(), mode.into()]);
        set_status(Self::NAME, descr, (self.flags, self.flags & flags::NONBLOCK), to);
        let count = self.count.min(MOST);
        if count > first {
            let packets = vec![(count - first).to_ne_bytes().to_vec()];
            let op = Op::Feed { descr, packets };
            to.to.step(Moment::Fill, Self::NAME, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Filled(descr)]);
        }
    }
}
