//! Sockets of the family AF_UNIX (unix(7)): pairs, named ones, those that take connections, and connections to them.
//!
//! - seen as    `socket:[inode]`, and what sock_diag(7) tells of it
//! - captured   its kind, its name, to which it is connected, what is shut down, options (socket(7)); what waits in it, message by
//!   message, by MSG_PEEK, with SO_PEEK_OFF put back by the same batch of calls; with descriptors (SCM_RIGHTS), by who freezes, as
//!   whoever looks gets copies of them; who sent what waits, if the socket tells (SO_PASSCRED)
//! - recreated  `plan`: `socketpair`, `socket`, `bind`, `listen`, `connect`, `accept4`; `setsockopt`; what waits is written by the
//!   other end, which is closed where it was; `shutdown`. A name without a file is given and taken away again, by way of another
//!   directory where its own is gone; who is connected to it, is so by its file. A message of another one with a name is sent by who
//!   has that name, or gets it for that
//! - refused    whose other end is outside of the tree, unless messages are sent to it by a name; a name below a root directory of
//!   its own; in which urgent data wait, or an error (but for that of a stream whose other end was closed), messages of one outside that has a name, or of another one than its other end
//!   if that is connected to it, too; connections that nobody has accepted yet and that have something to say, or are closed again; descriptors that cannot be looked at there (a pidfd, an open file of /proc that tells of its reader, an
//!   inotify instance, a message queue, a terminal) or that came without a byte and were looked at before; a filter in
//!   eBPF (SO_ATTACH_BPF); by the thaw, where somebody else has its name
//! - not kept   that a name without a file is free again, where one socket alone is left that was accepted from a listener that is
//!   gone: it has that name as if by bind(2). The name of an other end that is closed: told. Of connections that nobody has accepted yet, that SO_PASSCRED was set after
//!   they came. Where urgent data were that are read already (SO_OOBINLINE): one read may go on behind that. Which process is at the other end (SO_PEERCRED): it is whoever thaws; if that is another user, it is told. Which
//!   process sent what waits, where that is not of the tree, or where who thaws may not tell (scm_check_creds): told. Empty
//!   messages that wait behind others, when they were looked at before (or, with the end behind them, in a socket that is in flight itself)

pub(crate) mod plan;

use super::place::{self, ENTER, WRITE, parent};
use super::socket::{self, Settings, ask, asks_settings, word};
use super::{Kind, S_IFMT, S_IFSOCK, Seen, common_refusals};
use crate::{At, Blob, Capturing, External, Message, Planning, Probe, Resource, Text, Trouble};
use ::plan::Descr;
use abi::consts::poll::{POLLERR, POLLIN, POLLPRI};
use abi::consts::socket::{
    AF_UNIX, MSG_CTRUNC, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, SCM_CREDENTIALS, SIOCINQ, SIOCOUTQ, SO_PASSCRED,
    SO_PEEK_OFF, SO_PEERCRED, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};
use abi::diag::{self, LocalSocket as Told, LocalSockets};
use abi::layout::Msghdr;
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
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
    /// Its options.
    #[n(5)]
    pub settings: Settings,
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
    pub named: Option<Named>,
    /// How many connections may wait, if it takes any.
    #[n(10)]
    pub backlog: Option<u32>,
    /// To which name it sends messages, where that is nobody of the tree.
    #[n(11)]
    pub to: Option<Named>,
    /// The other ends of the connections that nobody has accepted yet, in their order.
    #[n(12)]
    pub pending: Vec<u64>,
    /// What fstat(2) tells of its permission bits, if somebody has changed them (fchmod(2)).
    #[n(13)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What came with some of what waits.
    #[n(14)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancillary: Vec<Ancillary>,
}

/// What came with a message, or a piece of a stream (unix(7), "Ancillary messages").
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Ancillary {
    /// With which, counted from the first.
    #[n(0)]
    pub message: u32,
    /// Descriptions, by their ids.
    #[n(1)]
    pub rights: Vec<u32>,
    /// Who sent it: process, 0 if that is not of the tree, user and group.
    #[n(2)]
    pub credentials: Option<(u32, u32, u32)>,
    /// The name of who sent it, if that is not the other end.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Name>,
}

/// A name, and the file that has it, if one has.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Named {
    /// The name.
    #[n(0)]
    pub name: Name,
    /// The inode number that the file had: which other sockets have the same.
    #[n(1)]
    pub inode: Option<u64>,
    /// Where the file stands: a name may be relative. `None`: it is gone.
    #[n(2)]
    pub path: Option<Text>,
    /// The type and permission bits of the file, and its user and group.
    #[n(3)]
    pub looks: Option<Looks>,
}

/// Type and permission bits of a file, and its user and group.
pub type Looks = (u32, u32, u32);

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
        match self {
            Name::Path(path) => diag::local_address(&path.0, false),
            Name::Abstract(name) => diag::local_address(&name.0, true),
        }
    }

    /// In `sun_path`, without an end.
    fn sun_path(&self) -> Vec<u8> {
        match self {
            Name::Path(path) => path.0.clone(),
            Name::Abstract(name) => [b"\0", &name.0[..]].concat(),
        }
    }

    fn path(&self) -> Option<&Text> {
        if let Name::Path(path) = self { Some(path) } else { None }
    }

    fn is_relative(&self) -> bool {
        self.path().is_some_and(|path| !path.0.starts_with(b"/"))
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

const RECEIVES: u8 = 1;
const SENDS: u8 = 2;
const BOTH: u8 = RECEIVES | SENDS;

/// A stream, and a long message, are read in pieces of this size.
const ROOM: usize = 1 << 19;
/// Most of what waits is less than this.
const SMALL: usize = 1 << 12;
/// The permission bits of a new socket (net/socket.c, `sock_alloc`).
const UNCHANGED: u32 = 0o777;
/// More messages than a host lets wait in one socket (net.unix.max_dgram_qlen).
const MESSAGES: usize = 1 << 16;
/// More descriptors come with no message (include/net/scm.h, SCM_MAX_FD).
const MOST_RIGHTS: usize = 253;
/// `struct sockaddr_un` (unix(7)), and the family before the name.
const SOCKADDR: usize = 110;
const FAMILY: usize = 2;
/// Who is told to have sent what was sent when neither end told of it (include/net/scm.h, `scm_recv_common`; user_namespaces(7)).
const UNKNOWN: (u32, u32, u32) = (0, 65534, 65534);
/// Room for a control message with a `struct ucred` (cmsg(3), CMSG_SPACE).
const CREDENTIALS: usize = 32;

impl Resource for UnixSocket {
    const NAME: &'static str = "unix-socket";
}

fn asks_maker_and_length(fd: u32) -> [Call; 2] {
    let inq = Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCINQ.into(), Arg::Out(4)]);
    [ask(fd, SOL_SOCKET, SO_PEERCRED, 12), inq]
}

/// User and group of the process at the other end, and how many bytes wait; of messages, those of the first.
fn maker_and_length(fd: u32, from: &Capturing<'_>) -> Result<(Option<(u32, u32)>, u64), Trouble> {
    let answers = from.probe.calls(&asks_maker_and_length(fd))?;
    let maker = &answers[0];
    // Nobody is told as -1 (net/core/sock.c, `cred_to_ucred`).
    let ids = maker.result.ok().map(|_| (word(maker, 4), word(maker, 8))).filter(|ids| *ids != (u32::MAX, u32::MAX));
    Ok((ids, word(&answers[1], 0).into()))
}

/// The name of the other end.
fn asks_peer(fd: u32) -> Call {
    let len = Arg::Bytes((SOCKADDR as u32).to_ne_bytes().to_vec());
    Call::new(Sys::Getpeername, [Arg::Int(fd.into()), Arg::Out(SOCKADDR), len])
}

/// Of an empty message behind others.
pub(super) const EMPTY_ONCE: &str =
    "the kernel shows an empty message behind others once (MSG_PEEK): if the program runs on, no later freeze sees it";

/// Whether the other end, which is closed, had a name: it is told as long as there is this one (net/unix/af_unix.c,
/// `unix_release_sock`).
fn had_name(fd: u32, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let answers = from.probe.calls(&[asks_peer(fd)])?;
    let length = answers[0].out.last().and_then(|len| Some(u32::from_ne_bytes(*len.first_chunk()?)));
    Ok(answers[0].result.is_ok() && length.is_some_and(|len| len as usize > FAMILY))
}

/// What waits behind so many bytes, or before all, as one read gives it; `None`: nothing. The offset is put back in the same batch,
/// which is made to its end whatever becomes of us. An empty message is seen once, but that before all others always
/// (net/core/datagram.c, `__skb_try_recv_from_queue`).
///
/// `may_end`: it may be the end that comes, which is as an empty message, but that nobody has sent it. So it is made to tell
/// (SO_PASSCRED), likewise.
fn piece(
    fd: u32,
    at: Option<usize>,
    (tells, may_end): (bool, bool),
    room: usize,
    from: &Capturing<'_>,
) -> Result<Option<Message>, Trouble> {
    let set = |option: u64, value: Arg| {
        Call::new(Sys::Setsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), option.into(), value, 4.into()])
    };
    let there = at.map_or(-1, |at| at as i32);
    // Who sent it comes first (net/core/scm.c, `__scm_recv_common`), so there is room for that alone: where there is some for
    // descriptors, the program gets them. MSG_CTRUNC tells that there was more.
    let message = Arg::Message { data: room, name: SOCKADDR, control: if tells || may_end { CREDENTIALS } else { 0 } };
    let read = Call::new(Sys::Recvmsg, [Arg::Int(fd.into()), message, (MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC).into()]);
    let back = |option, of| set(option, Arg::At(Place::Out(of, 0)));
    let mut calls = vec![
        ask(fd, SOL_SOCKET, SO_PEEK_OFF, 4),
        set(SO_PEEK_OFF, Arg::Bytes(there.to_ne_bytes().to_vec())),
        read,
        back(SO_PEEK_OFF, 0),
    ];
    if may_end {
        calls.insert(2, set(SO_PASSCRED, Arg::Bytes(1u32.to_ne_bytes().to_vec())));
        calls.insert(2, ask(fd, SOL_SOCKET, SO_PASSCRED, 4));
        calls.push(back(SO_PASSCRED, 2));
    }
    let answer = from.probe.calls(&calls)?.swap_remove(if may_end { 4 } else { 2 });
    match answer.result {
        Ok(len) => Ok(Some(message_of(&answer, len as usize))),
        // The second of a socket for messages in order that was never connected.
        Err(Errno::EAGAIN | Errno::ENOTCONN) => Ok(None),
        Err(e) => Err(Fault::new("recvmsg", "a socket", e).into()),
    }
}

/// Who sent something, by his id in the tree; 0: somebody else. Whoever looks is told it as his own pid namespace has it: we, or a process
/// of the tree.
fn member(pid: u32, is_ours: bool, from: &Capturing<'_>) -> u32 {
    let its =
        if is_ours { from.probe.inner_tid(pid) } else { Some(pid).filter(|pid| from.probe.members().contains(pid)) };
    its.filter(|_| pid != 0).unwrap_or(0)
}

/// From what [`Arg::Message`] gave.
fn message_of(answer: &Answer, len: usize) -> Message {
    let [bytes, name, control, header] = &answer.out[..] else { unreachable!("a message has four parts") };
    let header = Msghdr::from_bytes(header).unwrap_or_default();
    let word = |at: usize| control.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    // `struct cmsghdr`: length, level, type (cmsg(3)).
    let told = word(12) == Some(SCM_CREDENTIALS) && header.controllen as usize >= CREDENTIALS - 4;
    Message {
        bytes: bytes[..len.min(bytes.len())].to_vec(),
        len,
        name: name[..name.len().min(header.namelen as usize)].to_vec(),
        credentials: word(16).zip(word(20)).zip(word(24)).filter(|_| told).map(|((pid, uid), gid)| (pid, uid, gid)),
        rights: Vec::new(),
        flags: header.flags,
    }
}

/// Everything that waits in a socket, and what came with it.
#[derive(Default)]
struct Queue {
    all: Vec<Blob>,
    ancillary: Vec<Ancillary>,
    /// How many bytes, and whether the last message is not whole.
    at: usize,
    goes_on: bool,
    /// Whether more came than was seen.
    has_more: bool,
    /// An empty one is behind others, which the kernel shows once.
    is_shown_once: bool,
}

impl Queue {
    fn push(&mut self, piece: Message, sender: Option<Name>) {
        self.at += piece.bytes.len();
        let goes_on = std::mem::replace(&mut self.goes_on, piece.bytes.len() < piece.len);
        match self.all.last_mut().filter(|_| goes_on) {
            Some(message) => return message.0.extend(piece.bytes),
            None => self.all.push(Blob(piece.bytes)),
        }
        let credentials = piece.credentials;
        if credentials.is_some() || sender.is_some() || !piece.rights.is_empty() {
            let message = self.all.len() as u32 - 1;
            self.ancillary.push(Ancillary { message, rights: piece.rights, credentials, sender });
        }
    }

    fn rights(&self) -> usize {
        self.ancillary.iter().map(|with| with.rights.len()).sum()
    }
}

/// How many descriptors wait in a socket (net/unix/af_unix.c, `unix_show_fdinfo`; Linux 5.6).
fn in_flight(seen: &Seen, from: &Capturing<'_>) -> Result<Option<usize>, Trouble> {
    let now = abi::proc::fdinfo(&from.probe.text(&format!("fdinfo/{}", seen.fd))?)?;
    Ok(now.field("scm_fds").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()))
}

/// A socket among all that there are.
struct Among<'a> {
    told: Told,
    all: Arc<LocalSockets>,
    probe: &'a dyn Probe,
    /// Its other end is to be found closed.
    is_cut: bool,
}

impl<'a> Among<'a> {
    fn of(seen: &Seen, from: &Capturing<'a>) -> Result<Among<'a>, Trouble> {
        let all = from.probe.local_sockets()?;
        let told = all.get(seen.stat.ino).cloned().unwrap_or_default();
        Ok(Among { told, all, probe: from.probe, is_cut: false })
    }

    fn is_ours(&self, inode: u64) -> bool {
        self.probe.is_in_tree(&link(inode))
    }

    fn name(&self) -> Option<Name> {
        self.told.name.as_deref().map(Name::of)
    }

    fn takes_connections(&self) -> bool {
        self.told.state == diag::LISTEN
    }

    /// The socket to which it is connected, which is connected to it.
    fn mutual(&self) -> Option<&Told> {
        self.told.peer.and_then(|peer| self.all.get(peer)).filter(|peer| peer.peer == Some(self.told.inode))
    }

    /// Everything that waits, or why it cannot be had. `inq` are bytes; `tells`: it tells who sent each message.
    fn waiting(
        &self,
        seen: &Seen,
        inq: u64,
        ready: u16,
        tells: bool,
        from: &Capturing<'_>,
    ) -> Result<Result<Queue, &'static str>, Trouble> {
        let told = &self.told;
        let (is_stream, is_dgram) = (told.kind == SOCK_STREAM, told.kind == SOCK_DGRAM);
        // To read where nothing is would take an error away; what makes one readable that takes connections are those.
        let there = if is_stream { inq != 0 } else { ready & POLLIN != 0 && !self.takes_connections() };
        // By whom it is written again.
        let writer = self.mutual().and_then(|peer| peer.name.as_deref()).map(Name::of);
        let is_ended = told.shutdown & RECEIVES != 0;
        let mut known = self.probe.messages(told.inode).map(Vec::into_iter);
        let is_ours = known.is_some() || seen.in_flight;
        let mut queue = Queue::default();
        while there && (!is_stream || (queue.at as u64) < inq) {
            let behind = Some(queue.at).filter(|_| !queue.all.is_empty());
            let next = match &mut known {
                Some(known) => known.next(),
                // The next message may be longer than what is said to wait: then it goes on.
                None => {
                    let room = (inq as usize).next_multiple_of(SMALL).clamp(SMALL, ROOM);
                    piece(seen.fd, behind, (tells, is_ended && !is_stream && !is_dgram), room, from)?
                }
            };
            let Some(mut piece) = next else { break };
            // The end, and not a message.
            let may_end = is_ended && queue.at as u64 >= inq && piece.credentials.is_none();
            if piece.bytes.is_empty() && (is_stream || !is_dgram && may_end) {
                break;
            }
            let credentials = piece.credentials.filter(|who| tells && *who != UNKNOWN);
            piece.credentials = credentials.map(|(pid, uid, gid)| (member(pid, is_ours, from), uid, gid));
            if queue.all.len() == MESSAGES {
                return Ok(Err("more than 65536 messages wait in it"));
            }
            let sender = piece.name.get(FAMILY..).filter(|name| !name.is_empty()).map(Name::of);
            let is_of_another = is_dgram && sender != writer;
            if is_of_another && !self.may_send(sender.as_ref()) {
                return Ok(Err("messages wait in it from one that is not its other end"));
            }
            queue.has_more |= piece.flags & MSG_CTRUNC != 0;
            queue.is_shown_once |= piece.bytes.is_empty() && !queue.all.is_empty();
            queue.push(piece, sender.filter(|_| is_of_another));
        }
        let has_writer = told.peer == Some(0) || self.mutual().is_some() || told.name.is_some() && is_dgram;
        if !has_writer && !queue.all.is_empty() {
            return Ok(Err("something waits in it, and nobody can have sent it"));
        }
        // Where nothing waits, none do. A listener counts those of whom it has not accepted yet.
        let count = if there { in_flight(seen, from)? } else { None };
        Ok(match count {
            // Those of what is thrown away when an other end is found closed are counted on (`unix_dgram_disconnected`).
            Some(count) if count != queue.rights() => Err("descriptors wait in it that cannot be seen (SCM_RIGHTS)"),
            Some(_) => Ok(queue),
            None if queue.has_more => {
                Err("descriptors wait in it, or who sent what waits in it (SCM_RIGHTS, SO_PASSCRED)")
            }
            None => Ok(queue),
        })
    }

    /// Whether somebody with this name can send to it again: who has it in the tree, or nobody. Who is connected takes messages of
    /// its other end only.
    fn may_send(&self, sender: Option<&Name>) -> bool {
        let has_it = |s: &Told| s.name.as_deref().map(Name::of).as_ref() == sender;
        let mut others = self.all.iter().filter(|s| has_it(s) && !self.is_ours(s.inode));
        let is_free = self.mutual().is_none() && self.told.peer != Some(self.told.inode);
        is_free && self.told.name.is_some() && sender.is_some() && others.next().is_none()
    }

    /// Why a socket cannot be kept for whom it is connected to.
    fn ill_connected(&self) -> Result<Option<String>, Trouble> {
        let told = &self.told;
        let Some(inode) = told.peer else { return Ok(None) };
        if self.awaits() {
            return Ok(None);
        }
        if inode == 0 || !self.is_ours(inode) {
            return self.outside();
        }
        let peer = self.all.get(inode).cloned().unwrap_or_default();
        let is_mutual = self.mutual().is_some();
        // Who sends to one that is connected to a third may have been first (unix(7)).
        let third = peer.peer.filter(|third| *third != inode).and_then(|third| self.all.get(third));
        let of_a_pair = third.is_some_and(|third| third.peer == Some(inode));
        let elsewhere = !is_mutual && (peer.name.is_none() || of_a_pair);
        Ok(elsewhere.then(|| "it is connected to one that is connected elsewhere".into()))
    }

    /// That its other end is outside of the tree, if it is. To one that has a name messages may be sent from anywhere.
    fn outside(&self) -> Result<Option<String>, Trouble> {
        let told = &self.told;
        let Some(inode) = told.peer.filter(|_| !self.is_cut) else { return Ok(None) };
        let is_dgram = told.kind == SOCK_DGRAM;
        let waits = match self.all.waits_for(told.inode) {
            Some(listener) => !self.is_ours(listener),
            None => inode == 0 && !is_dgram && told.shutdown != BOTH,
        };
        if waits {
            return Ok(Some("its connection waits to be accepted by somebody outside of the tree".into()));
        }
        let is_sent_to =
            is_dgram && self.mutual().is_none() && self.all.get(inode).is_some_and(|peer| peer.name.is_some());
        if inode == 0 || is_sent_to || self.is_ours(inode) || self.all.waits_for(told.inode).is_some() {
            return Ok(None);
        }
        let holders = self.probe.other_holders(&link(inode))?;
        let who = holders.first().map_or("somebody".into(), |pid| format!("process {pid}"));
        Ok(Some(format!("its other end is with {who}, outside of the tree")))
    }

    /// Whether somebody in the tree is to accept its connection.
    fn awaits(&self) -> bool {
        self.told.peer.is_some() && self.all.waits_for(self.told.inode).is_some_and(|listener| self.is_ours(listener))
    }

    /// Whether its connection was not accepted yet, and it has sent something: that is nowhere to be seen until it is.
    fn is_hasty(&self, fd: u32) -> Result<bool, Trouble> {
        if !self.awaits() {
            return Ok(false);
        }
        let asked = Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCOUTQ.into(), Arg::Out(4)]);
        let sent = self.probe.calls(&[asked])?;
        Ok(sent[0].result.is_ok() && word(&sent[0], 0) != 0)
    }

    /// Why its name cannot be kept.
    fn ill_named(&self) -> Result<Option<String>, Trouble> {
        let (told, Some(name)) = (&self.told, self.name()) else { return Ok(None) };
        if name.path().is_some() && self.probe.link("root").is_ok_and(|root| root != b"/") {
            return Ok(Some(format!("it has a name, {name}, below a root directory of its own")));
        }
        let listener = self.all.namesakes(told).find(|s| s.state == diag::LISTEN);
        if let Some(listener) = listener.filter(|s| !self.is_ours(s.inode)) {
            let who = self.probe.other_holders(&link(listener.inode))?;
            let who = who.first().map_or("somebody".into(), |pid| format!("process {pid}"));
            return Ok(Some(format!("it was accepted from {name}, which is with {who}, outside of the tree")));
        }
        Ok(None)
    }

    /// The name of whom it sends messages to, outside of the tree.
    fn sent_to(&self) -> Result<Option<Named>, Trouble> {
        let peer = self.told.peer.filter(|inode| *inode != 0 && !self.is_ours(*inode));
        peer.and_then(|inode| self.all.get(inode)).map_or(Ok(None), |peer| named(peer, self.probe))
    }
}

fn link(inode: u64) -> Vec<u8> {
    format!("socket:[{inode}]").into_bytes()
}

/// The file of its name, if it stands there still: where, and how it looks.
fn place(told: &Told, probe: &dyn Probe) -> Result<Option<(Text, Looks)>, Trouble> {
    let Some(Name::Path(name)) = told.name.as_deref().map(Name::of) else { return Ok(None) };
    let path = match name.0.starts_with(b"/") {
        true => name,
        false => Text([&probe.link("cwd")?[..], b"/", &name.0].concat()),
    };
    let stat = probe.stat_path(&path.0)?;
    let stat = stat.filter(|s| s.mode & S_IFMT == S_IFSOCK && Some(s.ino & u64::from(u32::MAX)) == told.file);
    Ok(stat.map(|s| (path, (s.mode, s.uid, s.gid))))
}

fn named(told: &Told, probe: &dyn Probe) -> Result<Option<Named>, Trouble> {
    let Some(name) = told.name.as_deref().map(Name::of) else { return Ok(None) };
    let (path, looks) = place(told, probe)?.unzip();
    Ok(Some(Named { name, inode: told.file, path, looks }))
}

impl Kind for UnixSocket {
    fn knows(seen: &Seen) -> bool {
        socket::is_socket(seen)
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        Ok(Self::knows(seen) && from.probe.local_sockets()?.get(seen.stat.ino).is_some())
    }

    fn asks(seen: &Seen, probe: &dyn Probe) -> Vec<Call> {
        let all = probe.local_sockets();
        let Some(told) = all.as_ref().ok().and_then(|all| all.get(seen.stat.ino)) else { return Vec::new() };
        let peer = (told.peer == Some(0)).then(|| asks_peer(seen.fd));
        let mut all = asks_settings(seen.fd);
        all.push(Call::ready(seen.fd));
        all.extend(asks_maker_and_length(seen.fd));
        all.extend(peer);
        all
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut among = Among::of(seen, from)?;
        among.disconnect(seen, from)?;
        let kind = (AF_UNIX, among.told.kind.into(), 0);
        let (settings, filtered) = Settings::capture(seen.fd, kind, from)?;
        let ready = from.probe.ready(seen.fd)?;
        let refusals = among.refusals(seen, ready, filtered)?;
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let (maker, inq) = maker_and_length(seen.fd, from)?;
        let queue = among.waiting(seen, inq, ready, settings.has("SO_PASSCRED"), from)?;
        // Of whom a pidfd would be is told by no other means; a label by none.
        let hidden = settings.has("SO_PASSPIDFD") && !settings.has("SO_PASSCRED")
            || settings.has("SO_PASSSEC") && queue.as_ref().is_ok_and(|queue| queue.has_more);
        let queue = queue.and_then(|queue| {
            let is_told = queue.all.is_empty() || !hidden;
            is_told.then_some(queue).ok_or("it tells who sent what waits in it by a pidfd or a label")
        });
        let queue = queue.map_err(|why| seen.refuse(why, "freeze it when they are read"))?;
        if queue.is_shown_once {
            from.note(seen.title(), EMPTY_ONCE);
        }
        if queue.ancillary.iter().any(|with| with.credentials.is_some_and(|who| who.0 == 0)) {
            let why = "who sent what waits in it is not in the tree: thawed, it is told to be of another process";
            from.note(seen.title(), why);
        }
        let is_accepted = among.all.waits_for(among.told.inode).is_none();
        if among.told.peer == Some(0) && is_accepted && !among.is_cut && had_name(seen.fd, from)? {
            from.note(
                seen.title(),
                "its other end is closed: thawed, nobody tells the name that it had (getpeername(2))",
            );
        }
        let to = among.sent_to()?;
        if let Some(Named { name, path: None, .. }) = to.as_ref().filter(|to| to.name.is_relative()) {
            let why =
                format!("nobody finds the name to which it sends messages, {name}: thawed, it sends them to nobody");
            from.note(seen.title(), why);
        }
        let takes_connections = among.takes_connections();
        let named = named(&among.told, from.probe)?;
        if let Some(Named { path: Some(path), .. }) = &named {
            let directory = Text::from(parent(&path.0));
            place::note_closed(seen.title(), &directory, WRITE | ENTER, from);
        }
        let is_sought = takes_connections || among.told.kind == SOCK_DGRAM;
        if let Some(Named { name: Name::Path(name), path: None, .. }) = named.as_ref().filter(|_| is_sought) {
            let why = format!(
                "its file is not found at {name} from where the program is now: thawed, nobody finds it by a name"
            );
            from.note(seen.title(), why);
        }
        let Told { inode, kind, peer, shutdown, pending, backlog, .. } = among.told;
        Ok(UnixSocket {
            socket: inode,
            socket_type: kind,
            flags: seen.flags(),
            peer: peer.filter(|_| to.is_none()),
            shutdown,
            settings,
            waiting: queue.all,
            maker,
            reset: ready & POLLERR != 0,
            named,
            backlog: takes_connections.then_some(backlog),
            to,
            pending,
            mode: Some(seen.stat.mode & 0o7777).filter(|mode| *mode != UNCHANGED),
            ancillary: queue.ancillary,
        })
    }

    /// By [`plan::plan`], which sees all of them.
    fn plan(&self, _: Descr, _: At, _: &mut Planning<'_>) {}

    fn places(&self) -> Vec<&Text> {
        let senders = self.ancillary.iter().filter_map(|with| with.sender.as_ref()?.path());
        self.named.iter().filter_map(Named::at).chain(senders).collect()
    }
}

impl Among<'_> {
    /// With `--external disconnect`, what its process would see if that one had ended which is at the other end outside of the tree
    /// (net/unix/af_unix.c, `unix_release_sock`). What was accepted from a socket outside has no name any more.
    fn disconnect(&mut self, seen: &Seen, from: &mut Capturing<'_>) -> Result<(), Trouble> {
        if from.keep.external == External::Refuse {
            return Ok(());
        }
        let what = seen.title();
        let before = self.told.pending.len();
        let (all, probe) = (Arc::clone(&self.all), self.probe);
        let is_ours = |inode: u64| probe.is_in_tree(&link(inode));
        self.told.pending.retain(|inode| is_ours(*inode));
        let lost = before - self.told.pending.len();
        if lost != 0 {
            let why = format!("{lost} connections from outside of the tree that nobody has accepted yet are closed");
            from.note(&*what, why);
        }
        let Some(why) = self.outside()? else { return Ok(()) };
        from.note(
            what,
            format!("{why}: thawed, the program finds it closed; what is sent there from now on is not in the image"),
        );
        self.is_cut = true;
        let told = &mut self.told;
        (told.peer, told.shutdown) = (Some(0), if told.kind == SOCK_DGRAM { told.shutdown } else { BOTH });
        let listener = all.namesakes(told).find(|s| s.state == diag::LISTEN);
        if listener.is_some_and(|s| !is_ours(s.inode)) {
            told.name = None;
        }
        Ok(())
    }

    /// Why it cannot be kept, but for what waits in it.
    fn refusals(&self, seen: &Seen, ready: u16, filtered: bool) -> Result<Vec<::plan::Refusal>, Trouble> {
        let told = &self.told;
        let remedy = "this is not supported yet: let the program close it";
        let mut refusals = common_refusals(seen);
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        let closed = "use --external disconnect: thawed, the program finds it closed";
        let for_connection = if self.outside()?.is_some() { closed } else { remedy };
        for (why, remedy) in [(self.ill_connected()?, for_connection), (self.ill_named()?, remedy)] {
            why.into_iter().for_each(|why| refuse(&why, remedy));
        }
        if told.pending.contains(&0) {
            refuse("a connection waits to be accepted whose other end is closed", "let the program accept it");
        }
        if told.pending.iter().any(|inode| *inode != 0 && !self.is_ours(*inode)) {
            refuse("connections of somebody outside of the tree wait to be accepted", closed);
        }
        if let Some(holder) = self.probe.other_holders(&seen.link.0)?.first() {
            refuse(&format!("process {holder}, outside of the tree, has it too"), "end that process first");
        }
        if filtered {
            refuse("what comes to it is filtered by a program in eBPF (SO_ATTACH_BPF)", remedy);
        }
        if ready & POLLPRI != 0 {
            refuse("urgent data wait in it (MSG_OOB)", "freeze it when they are read");
        }
        if ready & POLLERR != 0 && (told.kind != SOCK_STREAM || told.peer != Some(0)) {
            refuse("an error waits to be told (SO_ERROR)", "freeze it when the program has heard of it");
        }
        if self.is_hasty(seen.fd)? {
            refusals.push(seen.refuse(socket::HASTY.0, socket::HASTY.1).passing());
        }
        Ok(refusals)
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
        self.named.as_ref().map_or(Ok(()), |named| write!(f, ", {}", named.name))?;
        match (self.peer, self.backlog, &self.to) {
            (_, Some(_), _) => write!(f, ", takes connections")?,
            (_, _, Some(to)) => write!(f, ", sends to {}", to.name)?,
            (None, ..) => write!(f, ", not connected")?,
            (Some(0), ..) => write!(f, ", whose other end is closed")?,
            (Some(peer), ..) => write!(f, ", connected to {peer}")?,
        }
        match self.waiting.iter().map(|b| b.0.len()).sum::<usize>() {
            0 => {}
            bytes => write!(f, ", {bytes} bytes wait")?,
        }
        match self.ancillary.iter().map(|with| with.rights.len()).sum::<usize>() {
            0 => Ok(()),
            count => write!(f, ", with {count} descriptors"),
        }
    }
}

/// What tells from which socket one was accepted: the kind, the name, and the file that has it.
pub(crate) type Key<'a> = (u8, &'a Name, Option<u64>);

impl UnixSocket {
    /// Whether others may have been accepted with it from one that is gone: they have its name (net/unix/af_unix.c,
    /// `unix_stream_connect`).
    pub(crate) fn may_be_accepted(&self) -> bool {
        self.named.is_some() && self.peer.is_some() && self.socket_type != SOCK_DGRAM
    }

    /// Above the directory of a name that is gone.
    pub(crate) fn above(&self) -> Option<&[u8]> {
        let named = self.named.as_ref().filter(|named| named.path.is_none())?;
        Some(parent(parent(&named.name.path()?.0)))
    }

    /// Where its file stands.
    pub(crate) fn file(&self) -> Option<&Text> {
        self.named.as_ref()?.path.as_ref()
    }

    /// See [`Key`].
    pub(crate) fn key(&self) -> Option<Key<'_>> {
        self.named.as_ref().map(|named| (self.socket_type, &named.name, named.inode))
    }

    /// Whether both are connected to each other.
    fn is_mutual(&self, other: &UnixSocket) -> bool {
        other.peer == Some(self.socket) && self.peer == Some(other.socket)
    }

    /// Whether that one may wait for us to accept it.
    fn is_waited_for_by(&self, other: &UnixSocket) -> bool {
        other.socket_type == self.socket_type && other.peer == Some(0)
    }

    /// Whether there can be such a socket: `others` are all of its image, by inode number.
    pub(crate) fn is_sound(&self, others: &BTreeMap<u64, &UnixSocket>) -> bool {
        let peer = self.peer.filter(|peer| *peer != 0).map(|peer| others.get(&peer).copied());
        let is_dgram = self.socket_type == SOCK_DGRAM;
        let of_a_pair = |other: &UnixSocket| {
            let third = other.peer.filter(|third| *third != other.socket).and_then(|third| others.get(&third));
            third.is_some_and(|third| third.is_mutual(other))
        };
        let knows = |other: &UnixSocket| {
            let one_way = || is_dgram && other.named.is_some() && !of_a_pair(other);
            other.socket_type == self.socket_type && (other.is_mutual(self) || one_way())
        };
        let to_itself = self.peer == Some(self.socket) && self.socket != 0;
        let is_connected = peer.is_none_or(|peer| peer.is_some_and(knows)) && (!to_itself || is_dgram);
        let waits = |inode: &u64| others.get(inode).is_some_and(|o| self.is_waited_for_by(o));
        let may_listen = !is_dgram && self.peer.is_none() && self.named.is_some();
        let listens = match self.backlog {
            None => self.pending.is_empty(),
            Some(_) => may_listen && self.pending.iter().all(waits),
        };
        let is_kind = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].contains(&self.socket_type) && self.shutdown <= BOTH;
        let is_told = self.to.is_none() || is_dgram && self.peer.is_none();
        let is_written = self.waiting.is_empty() || self.has_writer(peer.flatten());
        let of_some = |a: &Ancillary| (a.message as usize) < self.waiting.len() && a.rights.len() <= MOST_RIGHTS;
        let is_written = is_written && self.ancillary.iter().all(of_some);
        is_connected && !self.is_in_ring(others) && listens && is_kind && is_told && is_written
    }

    /// Nobody can be connected in a ring of more than two: who is connected takes no connection of a third (unix(7), EPERM).
    fn is_in_ring(&self, others: &BTreeMap<u64, &UnixSocket>) -> bool {
        let next = |inode: &u64| others.get(inode).and_then(|s| s.peer);
        let mut ring = std::iter::successors(Some(self.socket), next).skip(1).take(others.len());
        ring.position(|inode| inode == self.socket).is_some_and(|steps| steps > 1)
    }

    /// Whether somebody can have sent what waits in it.
    fn has_writer(&self, peer: Option<&UnixSocket>) -> bool {
        let by_name = self.socket_type == SOCK_DGRAM && self.named.is_some();
        by_name || self.peer == Some(0) || peer.is_some_and(|other| other.is_mutual(self))
    }
}
