//! The options of sockets: asked of duplicates of ours, by a second thread ahead of whoever captures. No option is changed by that, and of a
//! duplicate nothing is left when it is closed. (Who duplicates a socket gives it the classes of his own control groups of version 1, net_cls
//! and net_prio: net/core/scm.c, `receive_fd`, as pidfd_getfd(2) does.)

use crate::ahead::Ahead;
use abi::consts::socket::{SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SOL_SOCKET};
use abi::sockopt::{self, SockOpt, SocketKind};
use abi::{Errno, Fault};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use tracee::{Descriptors, here};

/// Level, number and value of options.
pub(crate) type Options = Vec<(u64, u64, Vec<u8>)>;

/// What a new socket has of an option.
#[derive(Debug)]
enum AtFirst {
    Is(Vec<u8>),
    /// There is none of that kind.
    Missing,
    /// Without the right to make one, nobody knows.
    Unknown,
}

/// What new sockets have of each option, by what they are, as far as that was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct New(Arc<Mutex<HashMap<SocketKind, Arc<Vec<AtFirst>>>>>);

impl New {
    fn of(&self, kind: SocketKind) -> Arc<Vec<AtFirst>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(kind).or_insert_with(|| Arc::new(at_first(kind))))
    }

    /// Those options of a socket of that kind which are not what a new one has.
    pub(crate) fn changed(
        &self,
        kind: SocketKind,
        mut ask: impl FnMut(&SockOpt, &mut [u8; SockOpt::LONGEST]) -> Result<Result<(), Errno>, Fault>,
    ) -> Result<Options, Fault> {
        let mut room = [0; SockOpt::LONGEST];
        let mut all = Vec::new();
        for (option, at_first) in options(kind).zip(self.of(kind).iter()) {
            if matches!(at_first, AtFirst::Missing) {
                continue;
            }
            let is_there = match ask(option, &mut room)? {
                // What no socket says of an option.
                Err(e @ (Errno::EBADF | Errno::EFAULT | Errno::EIO | Errno::ENOMEM | Errno::EINTR)) => {
                    return Err(Fault::new("getsockopt", option.name, e));
                }
                asked => asked.is_ok(),
            };
            let value = &room[..option.len];
            if is_there && !matches!(at_first, AtFirst::Is(at_first) if at_first == value) {
                all.push((option.level, option.number, value.to_vec()));
            }
        }
        Ok(all)
    }

    /// The same, of a duplicate of ours.
    pub(crate) fn changed_of(&self, socket: &OwnedFd, kind: SocketKind) -> Result<Options, Fault> {
        self.changed(kind, |option, room| Ok(here::option(socket, option, room)))
    }
}

fn options(kind: SocketKind) -> impl Iterator<Item = &'static SockOpt> {
    sockopt::of(kind).iter().copied().flatten()
}

fn at_first(kind: SocketKind) -> Vec<AtFirst> {
    let (family, protocol) = (AddressFamily::from_raw(kind.0 as u16), NonZero::new(kind.2 as u32));
    let (of, protocol) = (SocketType::from_raw(kind.1 as u32), protocol.map(Protocol::from_raw));
    let Ok(socket) = socket_with(family, of, SocketFlags::CLOEXEC, protocol) else {
        return options(kind).map(|_| AtFirst::Unknown).collect();
    };
    let mut room = [0; SockOpt::LONGEST];
    let value = |option: &SockOpt| match here::option(&socket, option, &mut room) {
        Ok(()) => AtFirst::Is(room[..option.len].to_vec()),
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => AtFirst::Missing,
        Err(_) => AtFirst::Unknown,
    };
    options(kind).map(value).collect()
}

/// What a socket is.
fn kind(socket: &OwnedFd) -> Result<SocketKind, Errno> {
    let mut room = [0; SockOpt::LONGEST];
    let mut ask = |number| {
        let option = SockOpt { level: SOL_SOCKET, number, len: 4, name: "" };
        here::option(socket, &option, &mut room)?;
        Ok::<u64, Errno>(room.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes).into()))
    };
    Ok((ask(SO_DOMAIN)?, ask(SO_TYPE)?, ask(SO_PROTOCOL)?))
}

/// The options of sockets of one process, which a second thread asks for.
pub(crate) struct Asked {
    all: Ahead<Result<(SocketKind, Options), Fault>>,
    /// By the numbers of descriptors, what was not taken yet.
    places: RefCell<HashMap<u32, usize>>,
}

impl Asked {
    pub(crate) fn begin(sockets: Vec<u32>, table: Descriptors, new: New) -> Asked {
        let (count, places) = (sockets.len(), RefCell::new(sockets.iter().copied().zip(0..).collect()));
        let ask = move |n: usize| {
            let socket = table.duplicate(sockets[n] as i32)?;
            let kind = kind(&socket).map_err(|e| Fault::new("getsockopt", sockets[n], e))?;
            Ok((kind, new.changed_of(&socket, kind)?))
        };
        Asked { all: Ahead::begin(count, 0..count, ask), places }
    }

    /// Those of one, once. What could not be had is asked for again by whoever needs it.
    pub(crate) fn take(&self, fd: u32, kind: SocketKind) -> Option<Options> {
        let place = self.places.borrow_mut().remove(&fd)?;
        let (of, options) = self.all.take(place).ok()?;
        (of == kind).then_some(options)
    }
}
