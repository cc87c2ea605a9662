//! Descriptors in flight: those that go with messages which nobody has received yet (unix(7), SCM_RIGHTS). Whoever looks at such a
//! message gets copies of them, so nobody but ourselves does it; each is a description of the tree, and may be one that nobody else
//! has. A socket among them is looked into likewise.
//!
//! Behind the first message is looked by way of an offset (SO_PEEK_OFF), which belongs to the socket. A process that has the
//! socket sets it for us, waits, and puts it back, whatever becomes of us. What only we have has an heir for that.

use crate::identify::{self, Table};
use crate::target::{Before, envoy_fault};
use abi::consts::socket::{SO_PASSCRED, SO_PEEK_OFF, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET};
use abi::diag::{LISTEN, LocalSocket};
use abi::{Arg, Call, Errno, Fault, Place, Sys};
use resources::Message;
use resources::fd::Seen;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    /// Looks into the sockets of a process, of which that was seen. Those that somebody outside of the tree has too, who runs, are
    /// not touched: they are refused.
    pub(crate) fn of(&mut self, process: &mut Process, seen: &[Seen], before: &Before) -> Result<(), Fault> {
        let is_shared = |seen: &Seen| !before.outside.with_link(&seen.link.0).is_empty();
        let all: Vec<&Seen> = seen.iter().filter(|seen| waiting(seen) != 0 && !is_shared(seen)).collect();
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
            let ends = may_end(told);
            self.take(told, &socket, |at, how| behind(&mut envoy, (seen.fd, ends), at, || how.at(&socket)))?;
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
        // One that takes connections has no messages, but tells of theirs.
        if told.state == LISTEN || is_in_error(told, socket)? {
            return Ok(());
        }
        let mut found = Vec::new();
        for piece in walk(told, in_all(socket)?, look)? {
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

/// How many bytes wait; of messages, those of the first.
fn in_all(socket: &OwnedFd) -> Result<u64, Fault> {
    rustix::io::ioctl_fionread(socket).map_err(|e| Fault::new("ioctl", "a socket in flight", std::io::Error::from(e)))
}

/// Whether a look would take an error away that waits to be told (net/core/datagram.c, `__skb_try_recv_datagram`). That of a stream
/// comes behind what waits (net/unix/af_unix.c, `unix_stream_read_generic`).
fn is_in_error(told: &LocalSocket, socket: &OwnedFd) -> Result<bool, Fault> {
    let mut asked = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::default()))
        .map_err(|e| Fault::new("poll", "a socket in flight", std::io::Error::from(e)))?;
    Ok(told.kind != SOCK_STREAM && asked[0].revents().contains(PollFlags::ERR))
}

/// Whether a look may give the end, which is as a message without a byte, but that nobody has sent it.
fn may_end(told: &LocalSocket) -> bool {
    const RECEIVES: u8 = 1;
    told.kind == SOCK_SEQPACKET && told.shutdown & RECEIVES != 0
}

/// Everything that waits. Of a stream, each piece with descriptors begins with the first byte that brings them.
fn walk(
    told: &LocalSocket,
    inq: u64,
    mut look: impl FnMut(Option<usize>, Look) -> Result<Peeked, Fault>,
) -> Result<Vec<Peeked>, Fault> {
    let is_stream = told.kind == SOCK_STREAM;
    let (mut all, mut at) = (Vec::<Peeked>::new(), 0);
    while all.len() < MESSAGES && (!is_stream || (at as u64) < inq) {
        let from = Some(at).filter(|_| !all.is_empty());
        let mut piece = match look(from, Look::Next) {
            Ok(piece) => piece,
            // Of messages in order, one that was never connected says so.
            Err(fault) if [Errno::EAGAIN, Errno::ENOTCONN].contains(&fault.errno) => break,
            Err(fault) => return Err(fault),
        };
        if piece.len == 0 && may_end(told) && piece.credentials.is_none() {
            break;
        }
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
    (fd, may_end): (u32, bool),
    at: Option<usize>,
    look: impl FnOnce() -> Result<Peeked, Errno>,
) -> Result<Peeked, Fault> {
    let pid = envoy.process().pid();
    let option = |sys, option: u64, value: Arg, len: Arg| {
        Call::new(sys, [Arg::Int(fd.into()), SOL_SOCKET.into(), option.into(), value, len])
    };
    let ask = |number| option(Sys::Getsockopt, number, Arg::Out(4), Arg::Bytes(4u32.to_ne_bytes().to_vec()));
    let set = |number, value| option(Sys::Setsockopt, number, value, 4.into());
    let mut before = vec![ask(SO_PEEK_OFF), set(SO_PEEK_OFF, Arg::Bytes(offset(at)))];
    let mut after = vec![set(SO_PEEK_OFF, Arg::At(Place::Out(0, 0)))];
    if may_end {
        before.extend([ask(SO_PASSCRED), set(SO_PASSCRED, Arg::Bytes(1u32.to_ne_bytes().to_vec()))]);
        after.push(set(SO_PASSCRED, Arg::At(Place::Out(2, 0))));
    }
    let looked = envoy.between([&before, &after], look);
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
