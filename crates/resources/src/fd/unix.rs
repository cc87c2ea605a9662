//! Sockets of the family AF_UNIX without a name (unix(7)): pairs, and those that are not connected.
//!
//! - seen as    `socket:[inode]`, and what sock_diag(7) tells of it
//! - captured   its kind, to which it is connected, what is shut down, options (socket(7)); what waits in it, message by message, by
//!   MSG_PEEK, with SO_PEEK_OFF put back by the same batch of calls
//! - recreated  `socketpair`, `socket`; `setsockopt`; what waits is written by the other end, which is closed where it was; `shutdown`
//! - refused    one that has a name or is connected to one that has; whose other end is outside of the tree; in which descriptors,
//!   urgent data or an error wait; a filter (SO_ATTACH_FILTER)
//! - not kept   whose process made a pair (SO_PEERCRED): it is whoever thaws; if that is another user, it is told. Empty messages
//!   that wait behind others, when they were looked at before

use super::{Kind, S_IFSOCK, Seen, common_refusals, flags};
use crate::task::written;
use crate::{At, Blob, Capturing, Description, Planning, Resource, Trouble};
use abi::consts::cap::CAP_NET_ADMIN;
use abi::consts::fcntl::F_SETFL;
use abi::consts::socket::{
    AF_UNIX, MSG_CTRUNC, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, SIOCINQ, SO_BUF_LOCK, SO_GET_FILTER, SO_PEEK_OFF,
    SO_PEERCRED, SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_SEQPACKET,
    SOCK_STREAM, SOL_SOCKET,
};
use abi::diag::LocalSocket as Told;
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct UnixSocket {
    /// Its inode number.
    #[n(0)]
    pub socket: u64,
    /// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET (socket(2)).
    #[n(1)]
    pub socket_type: u8,
    /// Access mode and status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// The inode number of the other end; 0: that is closed. `None`: there is none.
    #[n(3)]
    pub peer: Option<u64>,
    /// Which directions are shut down: 1 to receive, 2 to send.
    #[n(4)]
    pub shutdown: u8,
    /// The options that are not what they are at first, by number, with their values.
    #[n(5)]
    pub options: Vec<(u64, Blob)>,
    /// What waits to be read: messages; of a stream, pieces.
    #[n(6)]
    pub waiting: Vec<Blob>,
    /// User and group of the process that made the pair.
    #[n(7)]
    pub maker: Option<(u32, u32)>,
    /// Whether it is to be told that the other end was closed before all was read (ECONNRESET).
    #[n(8)]
    pub reset: bool,
}

const RECEIVES: u8 = 1;
const SENDS: u8 = 2;

/// Options with the length of their value, and what it is at first: a number, followed by zeroes (asm-generic/socket.h).
const OPTIONS: [(u64, usize, i32); 23] = [
    (2, 4, 0),   // SO_REUSEADDR
    (5, 4, 0),   // SO_DONTROUTE
    (6, 4, 0),   // SO_BROADCAST
    (9, 4, 0),   // SO_KEEPALIVE
    (10, 4, 0),  // SO_OOBINLINE
    (12, 4, 0),  // SO_PRIORITY
    (13, 8, 0),  // SO_LINGER
    (16, 4, 0),  // SO_PASSCRED
    (18, 4, 1),  // SO_RCVLOWAT
    (20, 16, 0), // SO_RCVTIMEO
    (21, 16, 0), // SO_SNDTIMEO
    (29, 4, 0),  // SO_TIMESTAMP
    (34, 4, 0),  // SO_PASSSEC
    (35, 4, 0),  // SO_TIMESTAMPNS
    (36, 4, 0),  // SO_MARK
    (37, 4, 0),  // SO_TIMESTAMPING
    (40, 4, 0),  // SO_RXQ_OVFL
    (SO_PEEK_OFF, 4, -1),
    (43, 4, 0), // SO_NOFCS
    (45, 4, 0), // SO_SELECT_ERR_QUEUE
    (46, 4, 0), // SO_BUSY_POLL
    (76, 4, 0), // SO_PASSPIDFD
    (83, 4, 1), // SO_PASSRIGHTS
];
/// Sizes of buffers, with the bit of SO_BUF_LOCK that tells that somebody has chosen one, and the option that may go beyond what
/// the host allows to all. The kernel doubles what it is given.
const BUFFERS: [(u64, u64, u64); 2] = [(SO_SNDBUF, 1, SO_SNDBUFFORCE), (SO_RCVBUF, 2, SO_RCVBUFFORCE)];

const POLLIN: u16 = 1;
const POLLPRI: u16 = 2;
const POLLERR: u16 = 8;
/// Room for a message; a stream is read in pieces of this size.
const ROOM: usize = 1 << 19;
const MSGHDR: usize = 56;
const MSG_FLAGS_AT: usize = 48;

impl Resource for UnixSocket {
    const NAME: &'static str = "unix-socket";
}

fn getsockopt(fd: u32, option: u64, len: usize) -> Call {
    let length = Arg::Bytes((len as u32).to_ne_bytes().to_vec());
    Call::new(Sys::Getsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), option.into(), Arg::Out(len), length])
}

/// A value as its first number says, and nothing behind.
fn is_at_first(value: &[u8], first: i32) -> bool {
    value
        .split_first_chunk()
        .is_some_and(|(number, rest)| *number == first.to_ne_bytes() && rest.iter().all(|b| *b == 0))
}

fn word(answer: &Answer, at: usize) -> u32 {
    written(answer).get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// What a socket tells of itself.
struct Asked {
    options: Vec<(u64, Blob)>,
    maker: Option<(u32, u32)>,
    filtered: bool,
    /// Bytes that wait; of messages, those of the first.
    waiting: u64,
}

fn ask(fd: u32, from: &Capturing<'_>) -> Result<Asked, Trouble> {
    let mut calls = vec![
        Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCINQ.into(), Arg::Out(4)]),
        getsockopt(fd, SO_PEERCRED, 12),
        // No room: how many instructions it has comes back as the length.
        Call::new(
            Sys::Getsockopt,
            [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_GET_FILTER.into(), 0.into(), Arg::Out(4)],
        ),
        getsockopt(fd, SO_BUF_LOCK, 4),
    ];
    calls.extend(BUFFERS.map(|(option, ..)| getsockopt(fd, option, 4)));
    calls.extend(OPTIONS.map(|(option, len, _)| getsockopt(fd, option, len)));
    let answers = from.probe.calls(&calls)?;
    let [inq, maker, filter, lock, rest @ ..] = &answers[..] else { unreachable!("as many answers as calls") };
    // A kernel that does not tell (before 5.14) may have been told.
    let chosen = lock.result.map_or(u64::MAX, |_| word(lock, 0).into());
    let (buffers, rest) = rest.split_at(BUFFERS.len());
    let buffers = BUFFERS.iter().zip(buffers).filter(|((_, bit, _), a)| chosen & bit != 0 && a.result.is_ok());
    let differs = |first: i32, a: &Answer| a.result.is_ok() && !is_at_first(written(a), first);
    let others = OPTIONS.iter().zip(rest).filter(|((_, _, first), a)| differs(*first, a));
    let options = buffers.map(|((n, ..), a)| (*n, a)).chain(others.map(|((n, ..), a)| (*n, a)));
    Ok(Asked {
        options: options.map(|(n, a)| (n, Blob(written(a).to_vec()))).collect(),
        // Nobody is told as -1 (net/core/sock.c, `cred_to_ucred`).
        maker: maker.result.ok().map(|_| (word(maker, 4), word(maker, 8))).filter(|ids| *ids != (u32::MAX, u32::MAX)),
        filtered: filter.result.is_ok() && word(filter, 0) != 0,
        waiting: if inq.result.is_ok() { word(inq, 0).into() } else { 0 },
    })
}

/// What a call gives that reads with MSG_PEEK from an offset on. The offset is put back in the same batch, which is made to its end
/// whatever becomes of us.
fn at_offset(fd: u32, at: usize, call: Call, from: &Capturing<'_>) -> Result<Answer, Trouble> {
    let set = |value: Arg| {
        Call::new(Sys::Setsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_PEEK_OFF.into(), value, 4.into()])
    };
    let there = Arg::Bytes((at as u32).to_ne_bytes().to_vec());
    let calls = [getsockopt(fd, SO_PEEK_OFF, 4), set(there), call, set(Arg::At(Place::Out(0, 0)))];
    Ok(from.probe.calls(&calls)?.swap_remove(2))
}

/// What waits at an offset, as one read gives it; `None`: nothing.
fn piece(fd: u32, at: usize, from: &Capturing<'_>) -> Result<Option<Vec<u8>>, Trouble> {
    let how = Arg::Int(MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
    let args = [Arg::Int(fd.into()), Arg::Out(ROOM), Arg::Int(ROOM as u64), how, 0.into(), 0.into()];
    let answer = at_offset(fd, at, Call::new(Sys::Recvfrom, args), from)?;
    match answer.result {
        Ok(len) if len as usize <= ROOM => Ok(Some(written(&answer)[..len as usize].to_vec())),
        Ok(len) => Err(Fault::new("recvfrom", format!("a message of {len} bytes"), Errno::EOVERFLOW).into()),
        Err(Errno::EAGAIN) => Ok(None),
        Err(e) => Err(Fault::new("recvfrom", "a socket", e).into()),
    }
}

/// Whether more than bytes came with what stands at an offset: descriptors, or who sent it (unix(7), "Ancillary messages"). A
/// `struct msghdr` without room for anything tells that there was something.
fn has_more(fd: u32, at: usize, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let args = [Arg::Int(fd.into()), Arg::Out(MSGHDR), Arg::Int(MSG_PEEK | MSG_DONTWAIT)];
    let answer = at_offset(fd, at, Call::new(Sys::Recvmsg, args), from)?;
    Ok(answer.result.is_ok() && word(&answer, MSG_FLAGS_AT) & MSG_CTRUNC != 0)
}

/// Everything that waits, or why it cannot be had.
fn waiting(
    fd: u32,
    told: &Told,
    asked: &Asked,
    ready: u16,
    from: &Capturing<'_>,
) -> Result<Result<Vec<Blob>, &'static str>, Trouble> {
    let is_stream = told.kind == SOCK_STREAM;
    // To read where nothing is would take an error away.
    let there = if is_stream { asked.waiting != 0 } else { ready & POLLIN != 0 };
    let (mut all, mut at) = (Vec::new(), 0);
    while there && (!is_stream || (at as u64) < asked.waiting) {
        let Some(bytes) = piece(fd, at, from)? else { break };
        // The end, and not a message.
        if bytes.is_empty() && told.shutdown & RECEIVES != 0 {
            break;
        }
        at += bytes.len();
        if !bytes.is_empty() && has_more(fd, at - 1, from)? {
            return Ok(Err("descriptors wait in it, or who sent what waits in it (SCM_RIGHTS, SO_PASSCRED)"));
        }
        all.push(Blob(bytes));
    }
    Ok(Ok(all))
}

/// Why a socket cannot be kept, from what is told of it.
fn unfit(told: &Told, from: &Capturing<'_>) -> Result<Option<String>, Trouble> {
    if let Some(name) = &told.name {
        return Ok(Some(format!("it has a name, {}", readable(name))));
    }
    let Some(inode) = told.peer else { return Ok(None) };
    if inode == 0 {
        let waits = told.kind != SOCK_DGRAM && told.shutdown != RECEIVES | SENDS;
        return Ok(waits.then(|| "its connection waits to be accepted".into()));
    }
    let link = format!("socket:[{inode}]").into_bytes();
    if !from.probe.is_in_tree(&link) {
        let who = from.probe.other_holders(&link)?.first().map_or("somebody".into(), |pid| format!("process {pid}"));
        return Ok(Some(format!("its other end is with {who}, outside of the tree")));
    }
    let peer = from.probe.local_socket(inode)?.unwrap_or_default();
    Ok(match peer.name {
        Some(name) => Some(format!("it is connected to one that has a name, {}", readable(&name))),
        None if peer.peer != Some(told.inode) => Some("it is connected to one that is connected elsewhere".into()),
        None => None,
    })
}

/// A name of `sun_path`: an abstract one begins with a zero byte, for which ss(8) and others write `@`.
fn readable(name: &[u8]) -> String {
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    name.iter().map(|b| if *b == 0 { '@' } else { char::from(*b) }).collect()
}

impl Kind for UnixSocket {
    fn knows(seen: &Seen) -> bool {
        seen.file_type() == S_IFSOCK && seen.link.0.starts_with(b"socket:[") && !seen.names_only()
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        Ok(Self::knows(seen) && from.probe.local_socket(seen.stat.ino)?.is_some())
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let told = from.probe.local_socket(seen.stat.ino)?.unwrap_or_default();
        let mut refusals = common_refusals(seen);
        let remedy = "this is not supported yet: let the program close it";
        refusals.extend(unfit(&told, from)?.map(|why| seen.refuse(why, remedy)));
        if let Some(holder) = from.probe.other_holders(&seen.link.0)?.first() {
            refusals.push(
                seen.refuse(format!("process {holder}, outside of the tree, has it too"), "end that process first"),
            );
        }
        let (asked, ready) = (ask(seen.fd, from)?, from.probe.ready(seen.fd)?);
        let reset = ready & POLLERR != 0;
        if asked.filtered {
            refusals.push(seen.refuse("what comes to it is filtered (SO_ATTACH_FILTER)", remedy));
        }
        if ready & POLLPRI != 0 {
            refusals.push(seen.refuse("urgent data wait in it (MSG_OOB)", "freeze it when they are read"));
        }
        if reset && (told.kind != SOCK_STREAM || told.peer != Some(0)) {
            refusals.push(
                seen.refuse("an error waits to be told (SO_ERROR)", "freeze it when the program has heard of it"),
            );
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let waiting = waiting(seen.fd, &told, &asked, ready, from)?;
        let waiting = waiting.map_err(|why| seen.refuse(why, "freeze it when they are read"))?;
        let Told { inode: socket, kind: socket_type, peer, shutdown, .. } = told;
        let Asked { options, maker, .. } = asked;
        Ok(UnixSocket { socket, socket_type, flags: seen.flags(), peer, shutdown, options, waiting, maker, reset })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let ends = to.ends(descr).into_iter().filter_map(|(id, end)| match end {
            Description::UnixSocket(end) => Some((id, end.clone())),
            _ => None,
        });
        match &ends.collect::<Vec<_>>()[..] {
            [one, other, ..] => plan_pair(one, other, to),
            [(descr, only)] => only.plan_alone(*descr, to),
            [] => {}
        }
    }

    fn object(&self) -> Option<u64> {
        Some(self.peer.filter(|peer| *peer != 0).map_or(self.socket, |peer| peer.min(self.socket)))
    }
}

fn plan_pair(one: &(Descr, UnixSocket), other: &(Descr, UnixSocket), to: &mut Planning<'_>) {
    one.1.make_pair([one.0, other.0], to);
    for ((descr, socket), (writer, _)) in [(one, other), (other, one)] {
        socket.furnish(*descr, *writer, to);
    }
    // To shut down one end of a connection shuts down the other one as well (unix(7) does not say; net/unix/af_unix.c).
    let both: &[_] = if one.1.socket_type == SOCK_DGRAM { &[one, other] } else { &[one] };
    both.iter().for_each(|(descr, socket)| socket.shut_down(*descr, to));
}

impl UnixSocket {
    fn make_pair(&self, descrs: [Descr; 2], to: &mut Planning<'_>) {
        let host = to.to.host;
        if self.maker.is_some_and(|maker| maker != (host.uid, host.gid)) {
            to.to.note("sockets tell their other ends the user who thaws it, not the one who made them (SO_PEERCRED)");
        }
        let args = vec![AF_UNIX.into(), self.kind_and_flag(), 0.into(), Value::Out(8)];
        let made = descrs.map(Fact::Made).to_vec();
        let op = Op::Make { sys: Sys::Socketpair, args, descrs: descrs.to_vec() };
        to.to.step(Moment::Make, Self::NAME, Actor::Store, op, vec![], made);
    }

    /// It never waits while it is furnished; its flags come last.
    fn kind_and_flag(&self) -> Value {
        (u64::from(self.socket_type) | SOCK_NONBLOCK).into()
    }

    /// One whose other end is not there.
    fn plan_alone(&self, descr: Descr, to: &mut Planning<'_>) {
        if self.peer.is_none() {
            to.to.make(Self::NAME, descr, Sys::Socket, vec![AF_UNIX.into(), self.kind_and_flag(), 0.into()]);
            self.furnish(descr, descr, to);
            return self.shut_down(descr, to);
        }
        // It is closed with everything that is of no more use.
        let gone = to.to.scratch();
        self.make_pair([descr, gone], to);
        let waits: usize = self.waiting.iter().map(|b| b.0.len()).sum();
        if waits != 0 {
            set_buffer(gone, BUFFERS[0], 2 * waits as u64 + (1 << 16), Expect::Whatever, to);
        }
        self.furnish(descr, gone, to);
        if self.reset {
            // What was not read when it was closed.
            feed(descr, vec![vec![0]], to);
        }
        if self.socket_type == SOCK_DGRAM {
            self.shut_down(descr, to);
        }
    }

    /// Options, what waits, and flags.
    fn furnish(&self, descr: Descr, writer: Descr, to: &mut Planning<'_>) {
        for (option, Blob(value)) in &self.options {
            match BUFFERS.into_iter().find(|(n, ..)| n == option) {
                Some(buffer) => {
                    let size = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
                    let lost = Expect::OrTold("a socket has not the room that it had (SO_SNDBUF, SO_RCVBUF)");
                    set_buffer(descr, buffer, size.into(), lost, to);
                }
                None => {
                    set(descr, *option, value.clone(), Expect::OrTold("an option of a socket could not be set"), to)
                }
            }
        }
        if !self.waiting.is_empty() {
            feed(writer, self.waiting.iter().map(|b| b.0.clone()).collect(), to);
        }
        let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.flags & !flags::ACCMODE).into()];
        to.to.on_descr(Moment::Arm, Self::NAME, descr, Sys::Fcntl, args, Expect::Success);
    }

    fn shut_down(&self, descr: Descr, to: &mut Planning<'_>) {
        if self.shutdown != 0 {
            let args = vec![Value::Descr(descr), u64::from(self.shutdown - 1).into()];
            to.to.on_descr(Moment::Arm, Self::NAME, descr, Sys::Shutdown, args, Expect::Success);
        }
    }

    /// Whether there can be such a socket: `others` are all of its image, by inode number.
    pub(crate) fn is_sound(&self, others: &BTreeMap<u64, &UnixSocket>) -> bool {
        let peer = self.peer.filter(|peer| *peer != 0);
        let is_pair = peer.is_none_or(|peer| {
            others
                .get(&peer)
                .is_some_and(|other| other.peer == Some(self.socket) && other.socket_type == self.socket_type)
        });
        let kinds = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];
        is_pair && peer != Some(self.socket) && kinds.contains(&self.socket_type) && self.shutdown <= RECEIVES | SENDS
    }
}

impl fmt::Display for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.socket_type {
            SOCK_STREAM => "stream",
            SOCK_DGRAM => "dgram",
            _ => "seqpacket",
        };
        write!(f, "unix {kind} {}", self.socket)?;
        match self.peer {
            None => write!(f, ", not connected")?,
            Some(0) => write!(f, ", whose other end is closed")?,
            Some(peer) => write!(f, ", connected to {peer}")?,
        }
        match self.waiting.iter().map(|b| b.0.len()).sum::<usize>() {
            0 => Ok(()),
            bytes => write!(f, ", {bytes} bytes wait"),
        }
    }
}

fn feed(writer: Descr, packets: Vec<Vec<u8>>, to: &mut Planning<'_>) {
    let op = Op::Feed { descr: writer, packets };
    to.to.step(Moment::Fill, UnixSocket::NAME, Actor::Store, op, vec![Fact::Made(writer)], vec![]);
}

fn set(descr: Descr, option: u64, value: Vec<u8>, expect: Expect, to: &mut Planning<'_>) {
    let len = value.len() as u64;
    let args = vec![Value::Descr(descr), SOL_SOCKET.into(), option.into(), Value::Bytes(value), len.into()];
    to.to.on_descr(Moment::Make, UnixSocket::NAME, descr, Sys::Setsockopt, args, expect);
}

fn set_buffer(descr: Descr, (option, _, beyond): (u64, u64, u64), size: u64, expect: Expect, to: &mut Planning<'_>) {
    let option = if to.to.host.has(CAP_NET_ADMIN) { beyond } else { option };
    set(descr, option, ((size / 2) as u32).to_ne_bytes().to_vec(), expect, to);
}
