//! Sockets of the family AF_UNIX (unix(7)): pairs, named ones, those that take connections, and connections to them.
//!
//! - seen as    `socket:[inode]`, and what sock_diag(7) tells of it
//! - captured   its kind, its name, to which it is connected, what is shut down, options (socket(7)); what waits in it, message by
//!   message, by MSG_PEEK, with SO_PEEK_OFF put back by the same batch of calls
//! - recreated  `plan`: `socketpair`, `socket`, `bind`, `listen`, `connect`, `accept4`; `setsockopt`; what waits is written by the
//!   other end, which is closed where it was; `shutdown`
//! - refused    whose other end is outside of the tree, unless messages are sent to it by a name; who is connected by a name that is
//!   gone; a name below a root directory of its own; in which descriptors, urgent data or an error wait, messages from one that has
//!   a name, or connections that have something to say; a filter (SO_ATTACH_FILTER); by the thaw, where somebody else has its name
//! - not kept   which process is at the other end (SO_PEERCRED): it is whoever thaws; if that is another user, it is told. Empty
//!   messages that wait behind others, when they were looked at before

pub(crate) mod plan;

use super::socket::{self, ask, word};
use super::{Kind, S_IFMT, S_IFSOCK, Seen, common_refusals};
use crate::task::written;
use crate::{At, Blob, Capturing, Planning, Resource, Text, Trouble};
use ::plan::Descr;
use abi::consts::socket::{
    AF_UNIX, MSG_CTRUNC, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, SIOCINQ, SIOCOUTQ, SO_PEEK_OFF, SO_PEERCRED, SOCK_DGRAM,
    SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};
use abi::diag::{self, LocalSocket as Told};
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys};
use minicbor::{Decode, Encode};
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
    /// Level, number and value of the options that are not what they are at first.
    #[n(5)]
    pub options: Vec<(u64, u64, Blob)>,
    /// What waits to be read: messages; of a stream, pieces.
    #[n(6)]
    pub waiting: Vec<Blob>,
    /// User and group of the process that made the pair.
    #[n(7)]
    pub maker: Option<(u32, u32)>,
    /// Whether it is to be told that the other end was closed before all was read (ECONNRESET).
    #[n(8)]
    pub reset: bool,
    /// Its name.
    #[n(9)]
    pub name: Option<Name>,
    /// Type and permission bits, user and group of the file that has its name.
    #[n(10)]
    pub file: Option<(u32, u32, u32)>,
    /// How many connections may wait, if it takes any.
    #[n(11)]
    pub backlog: Option<u32>,
    /// To which name it sends messages, where that is nobody of the tree.
    #[n(12)]
    pub to: Option<Name>,
    /// Where that file stands: a name may be relative.
    #[n(13)]
    pub path: Option<Text>,
    /// The other ends of the connections that nobody has accepted yet, in their order.
    #[n(14)]
    pub pending: Vec<u64>,
}

/// What stands in `sun_path` (unix(7)).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// That of a file.
    #[n(0)]
    Path(#[n(0)] Text),
    /// One that only its network namespace knows; without the zero byte before.
    #[n(1)]
    Abstract(#[n(0)] Text),
}

impl Name {
    /// From `sun_path`.
    fn of(bytes: &[u8]) -> Name {
        match bytes.split_first() {
            Some((0, rest)) => Name::Abstract(rest.into()),
            _ => Name::Path(bytes.strip_suffix(b"\0").unwrap_or(bytes).into()),
        }
    }

    /// `struct sockaddr_un`, as far as it counts.
    fn address(&self) -> Vec<u8> {
        let family = (AF_UNIX as u16).to_ne_bytes();
        match self {
            Name::Path(path) => [&family[..], &path.0, b"\0"].concat(),
            Name::Abstract(name) => [&family[..], b"\0", &name.0].concat(),
        }
    }

    fn path(&self) -> Option<&Text> {
        if let Name::Path(path) = self { Some(path) } else { None }
    }
}

/// As ss(8) and /proc/net/unix write it.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Path(path) => write!(f, "{path}"),
            Name::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// The text that tells which names are taken here that are none of files.
pub(crate) const NAMES: &str = "/proc/net/unix";

const RECEIVES: u8 = 1;
const SENDS: u8 = 2;

const POLLIN: u16 = 1;
const POLLPRI: u16 = 2;
const POLLERR: u16 = 8;
/// Room for a message; a stream is read in pieces of this size.
const ROOM: usize = 1 << 19;
const MSGHDR: usize = 56;
/// `struct sockaddr_un` (unix(7)).
const SOCKADDR: u32 = 110;
const MSG_FLAGS_AT: usize = 48;

impl Resource for UnixSocket {
    const NAME: &'static str = "unix-socket";
}

/// User and group of the process at the other end, and how many bytes wait; of messages, those of the first.
fn maker_and_length(fd: u32, from: &Capturing<'_>) -> Result<(Option<(u32, u32)>, u64), Trouble> {
    let inq = Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCINQ.into(), Arg::Out(4)]);
    let answers = from.probe.calls(&[ask(fd, SOL_SOCKET, SO_PEERCRED, 12), inq])?;
    let maker = &answers[0];
    // Nobody is told as -1 (net/core/sock.c, `cred_to_ucred`).
    let ids = maker.result.ok().map(|_| (word(maker, 4), word(maker, 8))).filter(|ids| *ids != (u32::MAX, u32::MAX));
    Ok((ids, word(&answers[1], 0).into()))
}

/// What a call gives that reads with MSG_PEEK from an offset on. The offset is put back in the same batch, which is made to its end
/// whatever becomes of us.
fn at_offset(fd: u32, at: usize, call: Call, from: &Capturing<'_>) -> Result<Answer, Trouble> {
    let set = |value: Arg| {
        Call::new(Sys::Setsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_PEEK_OFF.into(), value, 4.into()])
    };
    let there = Arg::Bytes((at as u32).to_ne_bytes().to_vec());
    let calls = [ask(fd, SOL_SOCKET, SO_PEEK_OFF, 4), set(there), call, set(Arg::At(Place::Out(0, 0)))];
    Ok(from.probe.calls(&calls)?.swap_remove(2))
}

/// What waits at an offset, as one read gives it, and whether a message is of one that has a name; `None`: nothing.
fn piece(fd: u32, at: usize, from: &Capturing<'_>) -> Result<Option<(Vec<u8>, bool)>, Trouble> {
    let how = Arg::Int(MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
    let room = Arg::Bytes(SOCKADDR.to_ne_bytes().to_vec());
    let args = [Arg::Int(fd.into()), Arg::Out(ROOM), Arg::Int(ROOM as u64), how, Arg::Out(SOCKADDR as usize), room];
    let answer = at_offset(fd, at, Call::new(Sys::Recvfrom, args), from)?;
    match answer.result {
        Ok(len) if len as usize <= ROOM => {
            // Behind the family stands who sent it, if that has a name.
            let from_named =
                answer.out.get(1).is_some_and(|name| name.get(2..).is_some_and(|n| n.iter().any(|b| *b != 0)));
            Ok(Some((written(&answer)[..len as usize].to_vec(), from_named)))
        }
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
    inq: u64,
    ready: u16,
    from: &Capturing<'_>,
) -> Result<Result<Vec<Blob>, &'static str>, Trouble> {
    let is_stream = told.kind == SOCK_STREAM;
    // To read where nothing is would take an error away; what makes one readable that takes connections are those.
    let there = if is_stream { inq != 0 } else { ready & POLLIN != 0 && told.state != diag::LISTEN };
    let (mut all, mut at) = (Vec::new(), 0);
    while there && (!is_stream || (at as u64) < inq) {
        let Some((bytes, from_named)) = piece(fd, at, from)? else { break };
        if from_named && told.kind == SOCK_DGRAM && told.name.is_some() {
            return Ok(Err("messages wait in it from one that has a name"));
        }
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

/// Why a socket cannot be kept for whom it is connected to.
fn ill_connected(told: &Told, fd: u32, from: &Capturing<'_>) -> Result<Option<String>, Trouble> {
    let Some(inode) = told.peer else { return Ok(None) };
    if inode == 0 && told.kind != SOCK_DGRAM && told.shutdown != RECEIVES | SENDS {
        return waits(told, fd, from);
    }
    if inode == 0 {
        return lost_name(told, from);
    }
    let peer = from.probe.local_socket(inode)?.unwrap_or_default();
    let link = format!("socket:[{inode}]").into_bytes();
    if !from.probe.is_in_tree(&link) {
        let who = from.probe.other_holders(&link)?.first().map_or("somebody".into(), |pid| format!("process {pid}"));
        let is_sent_to = told.kind == SOCK_DGRAM && peer.name.is_some();
        return Ok((!is_sent_to).then(|| format!("its other end is with {who}, outside of the tree")));
    }
    let is_pair = peer.peer == Some(told.inode);
    match !is_pair && peer.name.is_none() {
        true => Ok(Some("it is connected to one that is connected elsewhere".into())),
        false => lost_name(&peer, from),
    }
}

/// Its connection was not accepted yet. What it has sent is nowhere to be seen until it is.
fn waits(told: &Told, fd: u32, from: &Capturing<'_>) -> Result<Option<String>, Trouble> {
    if !from.probe.is_pending(told.inode)? {
        return Ok(Some("its connection waits to be accepted by somebody outside of the tree".into()));
    }
    let sent = from.probe.calls(&[Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCOUTQ.into(), Arg::Out(4)])])?;
    let has_sent = sent[0].result.is_ok() && word(&sent[0], 0) != 0;
    Ok(has_sent.then(|| "its connection waits to be accepted, and it has sent something already".into()))
}

/// Who is connected by a name must find it.
fn lost_name(named: &Told, from: &Capturing<'_>) -> Result<Option<String>, Trouble> {
    let Some(name @ Name::Path(_)) = named.name.as_deref().map(Name::of) else { return Ok(None) };
    let lost = place(named, from)?.is_none();
    Ok(lost.then(|| format!("it is connected by the name {name}, which is gone")))
}

/// Why its name cannot be kept.
fn ill_named(told: &Told, from: &Capturing<'_>) -> Result<Option<String>, Trouble> {
    let Some(name) = told.name.as_deref().map(Name::of) else { return Ok(None) };
    if name.path().is_some() && from.probe.link("root").is_ok_and(|root| root != b"/") {
        return Ok(Some(format!("it has a name, {name}, below a root directory of its own")));
    }
    let is_relative = name.path().is_some_and(|path| !path.0.starts_with(b"/"));
    if is_relative && place(told, from)?.is_none() {
        return Ok(Some(format!("it has a relative name, {name}, which leads nowhere from its working directory")));
    }
    // What was accepted has the name of whom it was accepted from (net/unix/af_unix.c, `unix_stream_connect`).
    let accepted = told.kind != SOCK_DGRAM && told.state == diag::ESTABLISHED;
    Ok((accepted && !from.probe.listens(told.name.as_deref().unwrap_or_default())?)
        .then(|| format!("it was accepted from {name}, which is not in the tree any more")))
}

/// The file of its name, if it stands there still.
struct Named {
    path: Text,
    mode: u32,
    owner: (u32, u32),
}

fn place(told: &Told, from: &Capturing<'_>) -> Result<Option<Named>, Trouble> {
    let Some(Name::Path(name)) = told.name.as_deref().map(Name::of) else { return Ok(None) };
    let path = match name.0.starts_with(b"/") {
        true => name,
        false => Text([&from.probe.link("cwd")?[..], b"/", &name.0].concat()),
    };
    let stat = from.probe.stat_path(&path.0)?;
    let stat = stat.filter(|s| s.mode & S_IFMT == S_IFSOCK && Some(s.ino & u64::from(u32::MAX)) == told.file);
    Ok(stat.map(|s| Named { path, mode: s.mode, owner: (s.uid, s.gid) }))
}

/// The name of whom it sends messages to, outside of the tree.
fn sent_to(told: &Told, from: &Capturing<'_>) -> Result<Option<Name>, Trouble> {
    let Some(inode) = told.peer.filter(|inode| *inode != 0) else { return Ok(None) };
    if from.probe.is_in_tree(format!("socket:[{inode}]").as_bytes()) {
        return Ok(None);
    }
    let peer = from.probe.local_socket(inode)?.and_then(|peer| peer.name);
    Ok(peer.as_deref().map(Name::of))
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
        let remedy = "this is not supported yet: let the program close it";
        let mut refusals = common_refusals(seen);
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        for why in [ill_connected(&told, seen.fd, from)?, ill_named(&told, from)?].into_iter().flatten() {
            refuse(&why, remedy);
        }
        let outside = |inode: &u64| !from.probe.is_in_tree(format!("socket:[{inode}]").as_bytes());
        if told.pending.iter().any(outside) {
            refuse("connections of somebody outside of the tree wait to be accepted", "freeze it when none does");
        }
        if let Some(holder) = from.probe.other_holders(&seen.link.0)?.first() {
            refuse(&format!("process {holder}, outside of the tree, has it too"), "end that process first");
        }
        let (options, filtered) = socket::options(seen.fd, &[], from)?;
        let ready = from.probe.ready(seen.fd)?;
        let reset = ready & POLLERR != 0;
        if filtered {
            refuse("what comes to it is filtered (SO_ATTACH_FILTER)", remedy);
        }
        if ready & POLLPRI != 0 {
            refuse("urgent data wait in it (MSG_OOB)", "freeze it when they are read");
        }
        if reset && (told.kind != SOCK_STREAM || told.peer != Some(0)) {
            refuse("an error waits to be told (SO_ERROR)", "freeze it when the program has heard of it");
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let (maker, inq) = maker_and_length(seen.fd, from)?;
        let waiting = waiting(seen.fd, &told, inq, ready, from)?;
        let waiting = waiting.map_err(|why| seen.refuse(why, "freeze it when they are read"))?;
        let (place, to) = (place(&told, from)?, sent_to(&told, from)?);
        let file = place.as_ref().map(|place| (place.mode, place.owner.0, place.owner.1));
        let path = place.map(|place| place.path);
        let Told { inode, kind: socket_type, peer, shutdown, .. } = told;
        let backlog = (told.state == diag::LISTEN).then_some(told.backlog);
        let (name, flags) = (told.name.as_deref().map(Name::of), seen.flags());
        let (pending, peer) = (told.pending, peer.filter(|_| to.is_none()));
        Ok(UnixSocket {
            socket: inode,
            socket_type,
            flags,
            peer,
            shutdown,
            options,
            waiting,
            maker,
            reset,
            name,
            file,
            backlog,
            to,
            path,
            pending,
        })
    }

    /// By [`plan::plan`], which sees all of them.
    fn plan(&self, _: Descr, _: At, _: &mut Planning<'_>) {}

    fn places(&self) -> Vec<&Text> {
        self.path.iter().collect()
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

/// The kind and the name of a socket.
pub(crate) type Key<'a> = (u8, &'a Name);

impl UnixSocket {
    /// Whether its name is none of a file.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.name, Some(Name::Abstract(_)))
    }

    /// What tells from which socket one was accepted.
    pub(crate) fn key(&self) -> Option<Key<'_>> {
        self.name.as_ref().map(|name| (self.socket_type, name))
    }

    /// Whether that one may wait for us to accept it.
    fn is_waited_for_by(&self, other: &UnixSocket) -> bool {
        other.socket_type == self.socket_type && other.peer == Some(0) && other.name.is_none()
    }

    /// Whether there can be such a socket: `others` are all of its image, by inode number.
    pub(crate) fn is_sound(&self, others: &BTreeMap<u64, &UnixSocket>) -> bool {
        let peer = self.peer.filter(|peer| *peer != 0);
        let knows = |other: &UnixSocket| {
            let one_way = self.socket_type == SOCK_DGRAM && other.name.is_some();
            other.socket_type == self.socket_type && (one_way || other.peer == Some(self.socket))
        };
        let is_connected = peer.is_none_or(|peer| others.get(&peer).is_some_and(|other| knows(other)));
        let waits = |inode: &u64| others.get(inode).is_some_and(|o| self.is_waited_for_by(o));
        let may_listen = self.socket_type != SOCK_DGRAM && self.peer.is_none() && self.name.is_some();
        let listens =
            (self.backlog.is_none() && self.pending.is_empty()) || may_listen && self.pending.iter().all(waits);
        let kinds = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];
        let is_kind = kinds.contains(&self.socket_type) && self.shutdown <= RECEIVES | SENDS;
        let to_itself = peer == Some(self.socket) && (self.socket_type != SOCK_DGRAM || self.name.is_none());
        is_connected && listens && is_kind && !to_itself
    }
}
