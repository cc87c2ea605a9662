//! Epoll instance: a set of watched descriptors (epoll(7)).
//!
//! - seen as    `anon_inode:[eventpoll]`
//! - captured   flags; how it polls devices (EPIOCGPARAMS); the watches, from the `tfd:` lines of fdinfo; kcmp(2) tells whether a number still leads to what is watched,
//!   the inode where there is no kcmp; of many at once, `epoll_ctl` does, which finds what it is told to change to what it is
//! - recreated  `epoll_create1`, then `epoll_ctl` by the process itself once its numbers stand: the kernel keys a watch by
//!   number and description. Where the number leads elsewhere by now, or nowhere, what is watched stands there for the time
//!   of the call
//! - refused    a watch of what nobody in the tree has a number for, or of what is made by each who has it, by who has it not; an
//!   instance that a process outside of the tree has too
//! - not kept   O_NOATIME (fcntl(2)), which means nothing there.
//!   An edge that was seen: a watch with EPOLLET tells once more of what is ready. That a used-up EPOLLONESHOT hears of
//!   nothing, where what it watches cannot be written to: told. How one in flight polls devices

use super::{Kind, S_IFMT, S_IFSOCK, Seen, common_refusals, flags, set_status, shared_outside};
use crate::task::written;
use crate::{At, Blob, Capturing, Description, Model, Planning, Probe, ProcessModel, Resource, Trouble};
use abi::consts::fd::{
    EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLONESHOT, EPOLLOUT, EPOLLWAKEUP,
};
use abi::proc::{self, EpollWatch};
use abi::{Arg, Call, Errno, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
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
    /// The description that is watched, if the number does not lead there any more.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<u32>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Epoll {
    /// Ascending by number.
    #[n(0)]
    pub watches: Vec<Watch>,
    /// Status flags (open(2)).
    #[n(1)]
    #[cbor(default)]
    #[serde(default)]
    pub flags: u32,
    /// How it polls devices, if not as others do (`struct epoll_params`, linux/eventpoll.h).
    #[n(2)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polling: Option<Blob>,
}

impl Resource for Epoll {
    const NAME: &'static str = "epoll";
}

/// What `epoll_ctl` adds to whatever it is told.
const ALWAYS: u32 = EPOLLERR | EPOLLHUP;
/// Watches of which some are told of an event, or once, or of an edge.
const SPECIAL: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;
/// From how many on it takes long to ask for each by kcmp(2).
const MANY: usize = 64;

/// ioctl_eventpoll(2); Linux 6.9.
const EPIOCSPARAMS: u64 = 0x4008_8a01;
const EPIOCGPARAMS: u64 = 0x8008_8a02;

fn ask_polling(fd: u32) -> Call {
    Call::new(Sys::Ioctl, [Arg::Int(fd.into()), EPIOCGPARAMS.into(), Arg::Out(8)])
}

/// Whether the number of a watch still leads to what is watched. All anonymous inodes are one (fs/anon_inodes.c), so the inode
/// alone does not tell; but a socket has one of its own. To ask takes longer the more is watched (fs/eventpoll.c, ep_find_tfd).
fn leads_there(
    epoll: u32,
    watch: &EpollWatch,
    nth: u32,
    known: Option<bool>,
    from: &Capturing<'_>,
) -> Result<bool, Trouble> {
    if let Some(known) = known {
        return Ok(known);
    }
    match from.probe.stat(&format!("fd/{}", watch.fd)) {
        Ok(there) if there.ino != watch.ino => Ok(false),
        Ok(there) if there.mode & S_IFMT == S_IFSOCK => Ok(true),
        Ok(_) => Ok(from.probe.watches(epoll, watch.fd, nth)?.unwrap_or(true)),
        Err(_) => Ok(false),
    }
}

/// Whether the number of each watch still leads to what is watched, as far as `epoll_ctl` tells: it looks the watch up by number and
/// description, and gives ENOENT where there is none (fs/eventpoll.c, do_epoll_ctl). One that is set to what it is stays as it is,
/// and only tells again that it is ready, which is no news but for an edge: so none is asked for that is of a special kind. Nor is
/// one that hears of no errors, which a used-up `EPOLLONESHOT` does not, as `epoll_ctl` would add them.
fn found(epoll: u32, all: &[EpollWatch], from: &Capturing<'_>) -> Vec<Option<bool>> {
    let mut count: BTreeMap<u32, u32> = BTreeMap::new();
    all.iter().for_each(|w| *count.entry(w.fd).or_default() += 1);
    let stays = |w: &EpollWatch| w.events & (SPECIAL | ALWAYS) == ALWAYS;
    let (asked, calls): (Vec<usize>, Vec<Call>) = (all.iter().enumerate())
        .filter(|(_, w)| stays(w) && count[&w.fd] == 1)
        .map(|(n, w)| {
            let args = [
                u64::from(epoll).into(),
                EPOLL_CTL_MOD.into(),
                u64::from(w.fd).into(),
                Arg::Bytes(event(w.events, w.data)),
            ];
            (n, Call::new(Sys::EpollCtl, args))
        })
        .unzip();
    let mut known = vec![None; all.len()];
    for (n, answer) in asked.into_iter().zip(from.probe.calls(&calls).unwrap_or_default()) {
        known[n] = match answer.result {
            Ok(_) => Some(true),
            Err(Errno::ENOENT | Errno::EBADF) => Some(false),
            Err(_) => None,
        };
    }
    known
}

/// Whether a watch has told what it was to tell once: until it is set anew it hears of nothing at all (fs/eventpoll.c,
/// `ep_send_events`), not of what `epoll_ctl` adds either.
fn is_used_up(watch: &Watch) -> bool {
    watch.events & !SPECIAL == 0 && watch.events & EPOLLONESHOT != 0
}

/// struct epoll_event is packed on x86-64 (linux/eventpoll.h).
fn event(events: u32, data: u64) -> Vec<u8> {
    [&events.to_ne_bytes()[..], &data.to_ne_bytes()].concat()
}

impl Kind for Epoll {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[eventpoll]"
    }

    fn asks(seen: &Seen, _probe: &dyn Probe) -> Vec<Call> {
        vec![ask_polling(seen.fd)]
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let asked = if seen.in_flight { Vec::new() } else { from.probe.calls(&[ask_polling(seen.fd)])? };
        let told = asked.first().filter(|answer| answer.result.is_ok()).map(written);
        let polling = told.filter(|told| told.iter().any(|byte| *byte != 0)).map(|told| Blob(told.to_vec()));
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        let mut watches = Vec::new();
        let mut nth: BTreeMap<u32, u32> = BTreeMap::new();
        let all = proc::epoll_watches(&seen.info.text)?;
        // What is shared is not touched, and of one in flight nobody has the numbers.
        let may_ask = refusals.is_empty() && !seen.in_flight && all.len() >= MANY;
        let known = if may_ask { found(seen.fd, &all, from) } else { vec![None; all.len()] };
        for (w, known) in all.into_iter().zip(known) {
            let before = nth.entry(w.fd).or_default();
            let watch = Watch { fd: w.fd, events: w.events, data: w.data, description: None };
            // Whose numbers these are, nobody knows of one that is in flight.
            if !seen.in_flight && leads_there(seen.fd, &w, *before, known, from)? {
                watches.push(watch);
            } else if let Some(id) = from.probe.watched(seen.fd, (w.fd, w.ino), *before)? {
                watches.push(Watch { description: Some(id), ..watch });
            } else {
                let why = format!("it watches what was number {}, which nobody in the tree has any more", w.fd);
                refusals.push(seen.refuse(why, "freeze it with whoever has that"));
            }
            *before += 1;
        }
        abi::sort_by_key(&mut watches, |w| (w.fd, w.description));
        if refusals.is_empty() {
            Ok(Epoll { watches, flags: seen.flags(), polling })
        } else {
            Err(Trouble::Refused(refusals))
        }
    }

    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        to.to.make(Self::NAME, descr, Sys::EpollCreate1, vec![0.into()]);
        set_status(Self::NAME, descr, (self.flags, 0), to);
        if let Some(Blob(polling)) = &self.polling {
            let args = vec![Value::Descr(descr), EPIOCSPARAMS.into(), Value::Bytes(polling.clone())];
            let lost = Expect::OrTold("an epoll instance polls devices as others do, not as it did");
            to.to.on_descr(Moment::Make, Self::NAME, descr, Sys::Ioctl, args, lost);
        }
        let fds = to.model.process(at.pid.0).map_or(&[][..], |p| &p.process.fds);
        let flags = |close_on_exec| if close_on_exec { u64::from(flags::CLOEXEC) } else { 0 };
        let own = |number: u32| {
            let fd = fds.iter().find(|fd| fd.number == number)?;
            Some((Descr(fd.description), flags(fd.close_on_exec)))
        };
        // Those that are used up come first: nobody else tells anything when they tell that they can be written to, as nearly all can,
        // and so are used up again.
        let (used_up, others): (Vec<&Watch>, Vec<&Watch>) = self.watches.iter().partition(|w| is_used_up(w));
        for w in used_up.into_iter().chain(others) {
            let events = if is_used_up(w) { w.events | EPOLLOUT } else { w.events };
            let args = vec![
                Value::Descr(descr),
                EPOLL_CTL_ADD.into(),
                u64::from(w.fd).into(),
                Value::Bytes(event(events, w.data)),
            ];
            let mut needs = vec![Fact::Made(descr), Fact::Files(at.pid)];
            needs.extend(w.description.map(|id| Fact::Made(Descr(id))));
            let mut call = |sys, args, expect| {
                let op = Op::Call { sys, args, expect };
                let makes = vec![Fact::Linked(descr)];
                to.to.step(Moment::Link, Self::NAME, Actor::Thread(at.tid), op, needs.clone(), makes);
            };
            // All of these have the same needs, so nothing comes between them.
            if let Some(id) = w.description {
                let args = vec![Value::Descr(Descr(id)), u64::from(w.fd).into(), 0.into()];
                call(Sys::Dup3, args, Expect::Exactly(w.fd.into()));
            }
            call(Sys::EpollCtl, args, Expect::Success);
            if is_used_up(w) {
                const LOST: &str = "a watch that was used up (EPOLLONESHOT) may tell of an error, of the end, or that it can be written to";
                let args = vec![Value::Descr(descr), Value::Out(event(0, 0).len()), 1.into(), 0.into()];
                call(Sys::EpollWait, args, Expect::ExactlyOrTold(1, LOST));
            }
            if w.description.is_some() {
                let (sys, args, expect) = put_back(w.fd, own(w.fd));
                call(sys, args, expect);
            }
        }
    }
}

/// The watches that cannot be set again: of what each process that has it makes for itself, by one that has it not any more.
pub fn refusals(model: &Model) -> Vec<Refusal> {
    let has = |p: &ProcessModel, what: u32| p.process.fds.iter().any(|fd| fd.description == what);
    let of_each = |id: u32| model.descriptions.get(&id).is_some_and(Description::is_of_each);
    let mut all = Vec::new();
    for (id, description) in &model.descriptions {
        let Description::Epoll(epoll) = description else { continue };
        // One that is in flight gets its watches of the first process.
        let Some(holder) = model.processes.iter().find(|p| has(p, *id)).or(model.processes.first()) else { continue };
        for w in &epoll.watches {
            if w.description.is_some_and(|what| of_each(what) && !has(holder, what)) {
                let why = format!("it watches what was number {}, which only a relative has now", w.fd);
                let remedy = "let the program close one of both; this is not supported yet";
                all.push(Refusal::new("epoll", why, remedy).of(holder.process.pid));
            }
        }
    }
    all
}

/// A number leads where it led, or nowhere.
fn put_back(number: u32, own: Option<(Descr, u64)>) -> (Sys, Vec<Value>, Expect) {
    let at = Value::Int(number.into());
    match own {
        Some((descr, flags)) => {
            (Sys::Dup3, vec![Value::Descr(descr), at, flags.into()], Expect::Exactly(number.into()))
        }
        None => (Sys::Close, vec![at], Expect::Success),
    }
}
