//! Epoll instance: a set of watched descriptors (epoll(7)).
//!
//! - seen as    `anon_inode:[eventpoll]`
//! - captured   the watches, from the `tfd:` lines of fdinfo; kcmp(2) tells whether a number still leads to what is watched,
//!   the inode where there is no kcmp
//! - recreated  `epoll_create1`, then `epoll_ctl` by the process itself once its numbers stand: the kernel keys a watch by
//!   number and description
//! - refused    a watch whose number leads elsewhere by now, or nowhere; an instance that a process outside of the tree has
//!   too
//! - not kept   an edge that was seen: a watch with EPOLLET tells once more of what is ready

use super::{Kind, S_IFMT, S_IFSOCK, Seen, common_refusals, shared_outside};
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::Sys;
use abi::consts::fd::EPOLL_CTL_ADD;
use abi::proc::{self, EpollWatch};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One watched descriptor.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Watch {
    /// Its number.
    #[n(0)]
    pub fd: u32,
    /// EPOLL bits (epoll_ctl(2)).
    #[n(1)]
    pub events: u32,
    /// What the program gets back with an event.
    #[n(2)]
    pub data: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Epoll {
    /// Ascending by number.
    #[n(0)]
    pub watches: Vec<Watch>,
}

impl Resource for Epoll {
    const NAME: &'static str = "epoll";
}

/// Whether the number of a watch still leads to what is watched. All anonymous inodes are one (fs/anon_inodes.c), so the inode
/// alone does not tell; but a socket has one of its own. To ask takes longer the more is watched (fs/eventpoll.c, ep_find_tfd).
fn leads_there(epoll: u32, watch: &EpollWatch, nth: u32, from: &Capturing<'_>) -> Result<bool, Trouble> {
    match from.probe.stat(&format!("fd/{}", watch.fd)) {
        Ok(there) if there.ino != watch.ino => Ok(false),
        Ok(there) if there.mode & S_IFMT == S_IFSOCK => Ok(true),
        Ok(_) => Ok(from.probe.watches(epoll, watch.fd, nth)?.unwrap_or(true)),
        Err(_) => Ok(false),
    }
}

impl Kind for Epoll {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[eventpoll]"
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        let mut watches = Vec::new();
        let mut nth: BTreeMap<u32, u32> = BTreeMap::new();
        for w in proc::epoll_watches(&from.probe.text(&format!("fdinfo/{}", seen.fd))?)? {
            let before = nth.entry(w.fd).or_default();
            if leads_there(seen.fd, &w, *before, from)? {
                watches.push(Watch { fd: w.fd, events: w.events, data: w.data });
            } else {
                let why = format!("it watches what was number {}, which is closed or another one by now", w.fd);
                refusals.push(seen.refuse(why, "this is not supported yet"));
            }
            *before += 1;
        }
        watches.sort_unstable_by_key(|w| w.fd);
        if refusals.is_empty() { Ok(Epoll { watches }) } else { Err(Trouble::Refused(refusals)) }
    }

    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        to.to.make(Self::NAME, descr, Sys::EpollCreate1, vec![0.into()]);
        for w in &self.watches {
            // struct epoll_event is packed on x86-64 (linux/eventpoll.h).
            let event = [&w.events.to_ne_bytes()[..], &w.data.to_ne_bytes()].concat();
            let args = vec![Value::Descr(descr), EPOLL_CTL_ADD.into(), u64::from(w.fd).into(), Value::Bytes(event)];
            let op = Op::Call { sys: Sys::EpollCtl, args, expect: Expect::Success };
            let needs = vec![Fact::Made(descr), Fact::Files(at.pid)];
            to.to.step(Moment::Link, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Linked(descr)]);
        }
    }
}
