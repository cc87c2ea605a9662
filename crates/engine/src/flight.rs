//! Descriptors in flight: those that go with messages which nobody has received yet (unix(7), SCM_RIGHTS). Whoever looks at such a
//! message gets copies of them, so nobody but ourselves does it; each is a description of the tree, and may be one that nobody else
//! has. A socket among them is looked into likewise.
//!
//! Behind the first message is looked by way of an offset (SO_PEEK_OFF), which belongs to the socket. A process that has the
//! socket sets it for us, waits, and puts it back, whatever becomes of us. What only we have has an heir for that.

use crate::identify::{self, Table};
use crate::target::{Before, envoy_fault};
use abi::consts::socket::{SO_PEEK_OFF, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET};
use abi::diag::LocalSocket;
use abi::{Arg, Call, Errno, Fault, Place, Sys};
use resources::Message;
use resources::fd::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tracee::message::{Peeked, peek, whole};
use tracee::{Envoy, Heir, Legacy, Process, here};

/// Bytes that are looked at together. More than the kernel puts into one piece of a stream (net/unix/af_unix.c,
/// `unix_stream_sendmsg`).
const ROOM: usize = 1 << 19;
/// More messages than a host lets wait in one socket (net.unix.max_dgram_qlen).
const MESSAGES: usize = 1 << 16;

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// What waits in a socket, by its inode number, with the numbers of our copies.
    messages: BTreeMap<u64, Vec<Message>>,
    /// Our copies, by their numbers.
    copies: BTreeMap<u32, OwnedFd>,
    /// What was seen of them.
    seen: Vec<Seen>,
}

/// What a look is to find.
#[derive(Clone, Copy)]
enum Look {
    /// The next message, or all of a stream up to descriptors.
    Next,
    /// Of a stream, how many of so many bytes stand before the last piece of them.
    Whole(usize),
}

impl Look {
    fn at(self, socket: &OwnedFd) -> Result<Peeked, Errno> {
        match self {
            Look::Next => peek(socket, ROOM),
            Look::Whole(len) => whole(socket, len).map(|len| Peeked { len, ..Peeked::default() }),
        }
    }
}

/// How many descriptors wait in a socket, as far as the kernel tells (Linux 5.6).
fn waiting(seen: &Seen) -> usize {
    let text = seen.info.field("scm_fds").and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Flights {
    /// Looks into the sockets of a process, of which that was seen.
    pub(crate) fn of(&mut self, process: &mut Process, seen: &[Seen], before: &Before) -> Result<(), Fault> {
        let all: Vec<&Seen> = seen.iter().filter(|seen| waiting(seen) != 0).collect();
        if all.is_empty() {
            return Ok(());
        }
        let sockets = before.local_sockets()?;
        let (pid, last) = (process.pid(), process.threads().len() - 1);
        let mut envoy = process.envoy(last).map_err(|e| envoy_fault(e, pid))?;
        for seen in all {
            let Some(told) = sockets.get(seen.stat.ino).filter(|told| !self.messages.contains_key(&told.inode)) else {
                continue;
            };
            let socket = envoy.process().descriptor(seen.fd as i32)?;
            self.take(told, &socket, |at, how| behind(&mut envoy, seen.fd, at, || how.at(&socket)))?;
        }
        envoy.leave().map_err(|e| envoy_fault(e, pid))
    }

    /// Looks into the sockets that are in flight themselves, but for those which the tree has besides. Gives what was seen of
    /// all descriptors that are in flight, by numbers of ours.
    pub(crate) fn follow(&mut self, tree: &[Vec<Seen>], before: &Before) -> Result<Vec<Seen>, Fault> {
        let held: BTreeSet<u64> = abi::gathered(tree.iter().flatten().map(|seen| seen.stat.ino));
        let mut next = 0;
        while let Some(seen) = self.seen.get(next).cloned() {
            next += 1;
            let (inode, sockets) = (seen.stat.ino, before.local_sockets()?);
            let new = |told: &&LocalSocket| !held.contains(&inode) && !self.messages.contains_key(&told.inode);
            if let Some(told) = sockets.get(inode).filter(new) {
                let socket = self.copy(seen.fd)?;
                self.take(told, &socket, |at, how| behind_own(socket.as_fd(), at, || how.at(&socket)))?;
            }
        }
        Ok(self.seen.clone())
    }

    /// A copy of one of ours.
    pub(crate) fn copy(&self, number: u32) -> Result<OwnedFd, Fault> {
        let own = self.copies.get(&number).ok_or(Errno::EBADF);
        own.and_then(|own| Ok(own.try_clone()?)).map_err(|e| Fault::new("dup", number, e))
    }

    /// What waits in a socket that was looked into, with the ids of descriptions.
    pub(crate) fn messages(&self, inode: u64, table: &Table) -> Option<Vec<Message>> {
        let id = |number: &u32| table.flying[number] as u32 + 1;
        let known = |m: &Message| Message { rights: m.rights.iter().map(id).collect(), ..m.clone() };
        Some(self.messages.get(&inode)?.iter().map(known).collect())
    }

    fn take(
        &mut self,
        told: &LocalSocket,
        socket: &OwnedFd,
        look: impl FnMut(Option<usize>, Look) -> Result<Peeked, Fault>,
    ) -> Result<(), Fault> {
        // Where an end may come, which is as a message without a byte, none but such may be behind so many.
        let is_endless = told.kind == SOCK_DGRAM || told.kind == SOCK_SEQPACKET && told.shutdown == 0;
        let end = if is_endless { u64::MAX } else { in_all(socket)? };
        let mut found = Vec::new();
        for piece in walk(told.kind == SOCK_STREAM, end, look)? {
            let mut rights = Vec::new();
            for own in piece.rights {
                let number = own.as_raw_fd() as u32;
                self.seen.push(identify::see_own(number)?);
                self.copies.insert(number, own);
                rights.push(number);
            }
            let Peeked { bytes, len, name, credentials, flags, .. } = piece;
            found.push(Message { bytes, len, name, credentials, rights, flags });
        }
        self.messages.insert(told.inode, found);
        Ok(())
    }
}

fn in_all(socket: &OwnedFd) -> Result<u64, Fault> {
    // One that takes connections has no messages.
    Ok(rustix::io::ioctl_fionread(socket).unwrap_or(0))
}

/// Everything that waits. Of a stream, each piece with descriptors begins with the first byte that brings them.
fn walk(
    is_stream: bool,
    end: u64,
    mut look: impl FnMut(Option<usize>, Look) -> Result<Peeked, Fault>,
) -> Result<Vec<Peeked>, Fault> {
    let (mut all, mut at) = (Vec::<Peeked>::new(), 0);
    while all.len() < MESSAGES && (at as u64) < end {
        let from = Some(at).filter(|_| !all.is_empty());
        let mut piece = match look(from, Look::Next) {
            Ok(piece) => piece,
            Err(fault) if fault.errno == Errno::EAGAIN => break,
            Err(fault) => return Err(fault),
        };
        // A look into a stream ends with what brings descriptors, and gives all that stands before it.
        if is_stream && !piece.rights.is_empty() {
            let before = look(Some(at), Look::Whole(piece.len))?.len;
            if before != 0 {
                piece.bytes.truncate(before);
                (piece.len, piece.rights) = (before, Vec::new());
            }
        }
        // What is behind the first part of a long message came with the same.
        if all.last().is_some_and(|last| last.bytes.len() < last.len) {
            piece.rights.clear();
        }
        at += piece.bytes.len();
        all.push(piece);
    }
    Ok(all)
}

/// Looks behind so many bytes of what waits in a socket of the envoy's process, or at the first message.
fn behind(
    envoy: &mut Envoy<'_>,
    fd: u32,
    at: Option<usize>,
    look: impl FnOnce() -> Result<Peeked, Errno>,
) -> Result<Peeked, Fault> {
    let pid = envoy.process().pid();
    let option = |sys, value: Arg, len: Arg| {
        Call::new(sys, [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_PEEK_OFF.into(), value, len])
    };
    let ask = option(Sys::Getsockopt, Arg::Out(4), Arg::Bytes(4u32.to_ne_bytes().to_vec()));
    let set = |value| option(Sys::Setsockopt, value, 4.into());
    let there = set(Arg::Bytes(offset(at)));
    let looked = envoy.between([&[ask, there], &[set(Arg::At(Place::Out(0, 0)))]], look);
    looked.map_err(|e| envoy_fault(e, pid))?.map_err(|e| Fault::new("recvmsg", fd, e))
}

fn offset(at: Option<usize>) -> Vec<u8> {
    at.map_or(-1, |at| at as i32).to_ne_bytes().to_vec()
}

/// The same, of a socket that only we have.
fn behind_own(
    socket: BorrowedFd<'_>,
    at: Option<usize>,
    look: impl FnOnce() -> Result<Peeked, Errno>,
) -> Result<Peeked, Fault> {
    let number = socket.as_raw_fd();
    let fault = |call: &str, e| Fault::new(call, "a socket in flight", e);
    let option = |sys, value: Arg, len: Arg| {
        let args = [Arg::Int(number as u64), SOL_SOCKET.into(), SO_PEEK_OFF.into(), value, len];
        here::call(&Call::new(sys, args))
    };
    let asked = option(Sys::Getsockopt, Arg::Out(4), Arg::Bytes(4u32.to_ne_bytes().to_vec()));
    asked.result.map_err(|e| fault("getsockopt", e))?;
    let before = asked.out.into_iter().next().unwrap_or_default();
    if before == offset(at) && at.is_none() {
        return look().map_err(|e| fault("recvmsg", e));
    }
    let set = move |value: Vec<u8>| option(Sys::Setsockopt, Arg::Bytes(value), 4.into()).result;
    let _heir = Heir::keeping(Some(number), move |_: Legacy, _| _ = set(before))?;
    set(offset(at)).map_err(|e| fault("setsockopt", e))?;
    look().map_err(|e| fault("recvmsg", e))
}
