//! Sockets of the families AF_INET and AF_INET6 (ip(7), tcp(7), udp(7)).
//!
//! - seen as    `socket:[inode]`; `getsockopt`, `getsockname`, `getpeername`; /proc/net/tcp and tcp6
//! - captured   family, kind and protocol, addresses, how many connections may wait, options and filter; what is
//!   shut down; groups of multicast, see [`groups`]; what a connection or a socket of UDP has received and nobody has read, by MSG_PEEK
//! - recreated  `plan`: `socket`, `setsockopt`, `bind`, `listen`, and `connect` where that is only an address. Datagrams are sent
//!   again from where they came, by whoever of the tree has that address. A TCP connection whose
//!   other end is in the tree, or was and is closed, or is to be accepted there, is made anew between the same addresses, and what waits is sent again. One that
//!   has begun (SYN-SENT) begins anew. Any other
//!   comes back as one that was reset, as by a failure of the network, once what waits in it was read (`--tcp reset`)
//! - refused    TCP connections with others and `--tcp refuse`; those within the tree in which something is on its way, or that nobody
//!   has accepted yet and in which something was sent, or whose other end is closed while what it wrote still comes; a message that
//!   was begun and not sent (UDP_CORK, MSG_MORE); one that a process outside has too; a filter in eBPF; by the thaw, an address that
//!   somebody else has. Without the privilege to make it again, by both (a snapshot tells it): a port that takes one, a raw socket
//!   (CAP_NET_RAW), and a connection within the tree in which more waits than 1 MiB and net.core.rmem_max (CAP_NET_ADMIN)
//! - not kept   datagrams that wait in one of ICMP or a raw one, in one of UDP with SO_BINDTODEVICE or SO_PEEK_OFF, in one that shares its address (SO_REUSEADDR, SO_REUSEPORT), or that came from an address that is not of the host
//!   on which it is thawed, and connections of others that nobody has accepted yet: told. Empty datagrams behind others, when they were
//!   looked at before. Groups of multicast on an interface that is not there: told. Such of a stream, or of another
//!   network namespace than its process is in; a group of anycast. That a
//!   program chooses among those with one address (SO_ATTACH_REUSEPORT_EBPF): told, where it may be so. By what error a connection ended: it is ECONNRESET. Headers of extensions
//!   that are sent with each packet (IPV6_HOPOPTS and the like). Whether a connection of the newer family might have been one of the older
//!   (IPV6_V6ONLY), which it says for the time after it (connect(2), AF_UNSPEC). TCP_MAXSEG, TCP_WINDOW_CLAMP. Which directions of a raw socket are shut down, where the kernel does
//!   not tell

pub mod groups;
pub(crate) mod plan;

use super::socket::{self, HASTY, Settings, ask, asks_settings, word};
use super::{Kind, Seen};
use crate::task::written;
use crate::{At, Blob, Capturing, Planning, Probe, Resource, Tcp, Trouble};
use ::plan::{Descr, Refusal};
use abi::consts::poll::{POLLERR, POLLIN, POLLPRI, POLLRDHUP};
use abi::consts::socket::{
    AF_INET, AF_INET6, IP_OPTIONS, IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, IPV6_V6ONLY,
    MSG_DONTWAIT, MSG_PEEK, SIOCINQ, SIOCOUTQ, SO_DOMAIN, SO_PEEK_OFF, SO_PROTOCOL, SO_TYPE, SOCK_DGRAM, SOCK_RAW,
    SOCK_STREAM, SOL_SOCKET, SOL_UDPLITE, UDP_ENCAP, UDP_GRO,
};
use abi::layout::Msghdr;
use abi::sockopt::SocketKind;
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys, proc};
use core::net::{IpAddr, SocketAddr};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct InetSocket {
    /// AF_INET or AF_INET6.
    #[n(0)]
    pub family: u64,
    /// SOCK_STREAM, SOCK_DGRAM or SOCK_RAW (socket(2)).
    #[n(1)]
    pub socket_type: u64,
    /// IPPROTO_TCP and so on (ip(7)).
    #[n(2)]
    pub protocol: u64,
    /// Access mode and status flags (open(2)).
    #[n(3)]
    pub flags: u32,
    /// Its own address (`struct sockaddr_in`, `sockaddr_in6`), if it has one and keeps it.
    #[n(4)]
    pub local: Option<Blob>,
    /// Whom it is connected to, or begins to connect to.
    #[n(5)]
    pub remote: Option<Blob>,
    /// How many connections may wait, if it takes any.
    #[n(6)]
    pub backlog: Option<u32>,
    /// Its options.
    #[n(7)]
    pub settings: Settings,
    /// Whether it is a connection of TCP.
    #[n(8)]
    pub connected: bool,
    /// What that has received and nobody has read.
    #[n(9)]
    pub waiting: Blob,
    /// Of a connection within the tree: its inode number.
    #[n(10)]
    #[cbor(default)]
    #[serde(default)]
    pub socket: u64,
    /// The inode number of its other end, or of whom it waits for to be accepted; 0: its other end was here, and is closed.
    #[n(11)]
    #[cbor(default)]
    #[serde(default)]
    pub peer: Option<u64>,
    /// Which directions are shut down: 1 to receive, 2 to send.
    #[n(12)]
    #[cbor(default)]
    #[serde(default)]
    pub shutdown: u8,
    /// How many bytes it has sent, and received, since it was made.
    #[n(13)]
    #[cbor(default)]
    #[serde(default)]
    pub passed: (u64, u64),
    /// Messages that wait in it.
    #[n(14)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datagrams: Vec<Datagram>,
    /// The groups of multicast that it is in.
    #[n(15)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<groups::Group>,
}

/// A message that waits.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Datagram {
    /// The address from which it came.
    #[n(0)]
    pub from: Blob,
    /// What it says.
    #[n(1)]
    pub message: Blob,
    /// How long each of the messages is that came as this one (udp(7), UDP_GRO); 0: it is one.
    #[n(2)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segment: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

const RECEIVES: u8 = 1;
pub(crate) const SENDS: u8 = 2;

const STREAM: u64 = SOCK_STREAM as u64;
const DGRAM: u64 = SOCK_DGRAM as u64;
const RAW: u64 = SOCK_RAW as u64;
const TCP_INFO: u64 = 11;
const TCP_ULP: u64 = 31;
/// States of a TCP socket (include/net/tcp_states.h).
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;
/// FIN_WAIT1 and 2, LAST_ACK, CLOSING: it sends no more. CLOSE_WAIT and the last two: the other end does not.
const HAS_ENDED: [u8; 4] = [4, 5, 9, 11];
const OTHER_HAS_ENDED: [u8; 3] = [TCP_CLOSE_WAIT, 9, 11];
/// `struct tcp_info`: how many connections of a listener wait, and how many may; bytes that came, the end counted as one; bytes that
/// were not sent yet, and those that were, each as often as it was.
const WAIT_AT: usize = 24;
const MAY_WAIT_AT: usize = 28;
const RECEIVED_AT: usize = 128;
const UNSENT_AT: usize = 144;
const SENT_AT: usize = 200;
const AGAIN_AT: usize = 208;
const TCP_INFO_SIZE: usize = 216;
/// tcp(7).
const TCP: u64 = IPPROTO_TCP;
/// icmp(7).
const ICMP: u64 = 1;
/// `struct sockaddr_in6`, the longest of both.
const SOCKADDR: usize = 28;
/// TCP_MAXSEG and TCP_WINDOW_CLAMP: of a connection the kernel tells what both ends agreed on.
const OF_A_CONNECTION: [u64; 2] = [2, 10];
/// IP_MULTICAST_IF, _TTL and _LOOP, and IPV6_MULTICAST_IF, _HOPS and _LOOP: of TCP they can be asked for, and not set.
const OF_MESSAGES: [(u64, u64); 6] =
    [(IPPROTO_IP, 32), (IPPROTO_IP, 33), (IPPROTO_IP, 34), (IPPROTO_IPV6, 17), (IPPROTO_IPV6, 18), (IPPROTO_IPV6, 19)];
/// What a connection that is reset may have to read.
const ROOM: u32 = 1 << 19;

impl Resource for InetSocket {
    const NAME: &'static str = "inet-socket";
}

fn ask_address(sys: Sys, fd: u32) -> Call {
    let length = Arg::Bytes((SOCKADDR as u32).to_ne_bytes().to_vec());
    Call::new(sys, [Arg::Int(fd.into()), Arg::Out(SOCKADDR), length])
}

fn value(answer: &Answer) -> u64 {
    word(answer, 0).into()
}

/// The address that a call gave, unless it is none: without a port a socket of TCP or UDP has not been given any.
fn address(answer: &Answer) -> Option<Blob> {
    let bytes = written(answer);
    let address = answer.result.ok().and_then(|_| proc::sockaddr(bytes))?;
    let len = if bytes.starts_with(&(AF_INET as u16).to_ne_bytes()) { 16 } else { SOCKADDR };
    let is_one = address.port() != 0 || !address.ip().is_unspecified();
    is_one.then(|| Blob(bytes[..len].to_vec()))
}

/// How many of these bytes are options of IP: they end with a zero, and are as many as fill words of four bytes (RFC 791, 3.1).
fn length_of_options(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(kind @ 1..) = bytes.get(at) {
        at += if *kind == 1 { 1 } else { usize::from(bytes.get(at + 1).copied().unwrap_or(0)).max(2) };
    }
    at.next_multiple_of(4).min(bytes.len())
}

/// The texts of both families that tell of sockets of messages of a protocol.
fn texts_of(kind: u64, protocol: u64) -> Option<[&'static str; 2]> {
    match (kind, protocol) {
        (RAW, _) => Some(["/proc/net/raw", "/proc/net/raw6"]),
        (DGRAM, IPPROTO_UDP) => Some(["/proc/net/udp", "/proc/net/udp6"]),
        (DGRAM, SOL_UDPLITE) => Some(["/proc/net/udplite", "/proc/net/udplite6"]),
        (DGRAM, ICMP | IPPROTO_ICMPV6) => Some(["/proc/net/icmp", "/proc/net/icmp6"]),
        _ => None,
    }
}

/// To whom a socket of messages sends where that is no port: `getpeername` tells nothing then (net/ipv4/af_inet.c, `inet_getname`).
fn told_remote(seen: &Seen, (family, kind, protocol): SocketKind, from: &mut Capturing<'_>) -> Option<Blob> {
    let path = texts_of(kind, protocol)?[usize::from(family == AF_INET6)];
    let probe = from.probe;
    let read = || {
        let all = proc::inet(&probe.host_text(path).unwrap_or_default()).into_iter();
        abi::gathered(all.filter(|line| line.state == TCP_ESTABLISHED).map(|line| (line.inode, line.remote)))
    };
    let whom = *from.files.remotes.entry(path).or_insert_with(read).get(&seen.stat.ino)?;
    encoded(family, whom).map(Blob)
}

/// `struct sockaddr_in` or `sockaddr_in6`, as the family has it.
fn encoded(family: u64, address: SocketAddr) -> Option<Vec<u8>> {
    let head = [(family as u16).to_ne_bytes(), address.port().to_be_bytes()].concat();
    let six = match address.ip() {
        IpAddr::V4(ip) if family == AF_INET => return Some([&head[..], &ip.octets(), &[0; 8]].concat()),
        IpAddr::V6(_) if family == AF_INET => return None,
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    Some([&head[..], &[0; 4], &six.octets(), &[0; 4]].concat())
}

/// What a socket tells of itself.
struct Asked {
    socket: InetSocket,
    /// Of TCP: its state, and how many connections wait.
    state: u8,
    wait: u32,
    filtered: bool,
    /// Bytes that can be read, and whether something can be: a datagram may be empty.
    readable: u32,
    ready: u16,
    /// Whether something stands between its stream and the program: TLS of the kernel.
    has_layer: bool,
    /// Bytes that were not sent yet; of messages, or not received by the other end.
    unsent: u32,
}

fn asks(fd: u32) -> [Call; 10] {
    [
        ask(fd, SOL_SOCKET, SO_DOMAIN, 4),
        ask(fd, SOL_SOCKET, SO_TYPE, 4),
        ask(fd, SOL_SOCKET, SO_PROTOCOL, 4),
        ask_address(Sys::Getsockname, fd),
        ask_address(Sys::Getpeername, fd),
        ask(fd, IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE),
        ask(fd, IPPROTO_TCP, TCP_ULP, 16),
        ask(fd, IPPROTO_IPV6, IPV6_V6ONLY, 4),
        Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCINQ.into(), Arg::Out(4)]),
        Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCOUTQ.into(), Arg::Out(4)]),
    ]
}

fn look(seen: &Seen, from: &mut Capturing<'_>) -> Result<Asked, Trouble> {
    let fd = seen.fd;
    let answers = from.probe.calls(&asks(fd))?;
    let [domain, kind, protocol, local, remote, info, layer, only, inq, outq] = &answers[..] else {
        unreachable!("as many answers as calls")
    };
    let (family, kind, protocol) = (value(domain), value(kind), value(protocol));
    let is_stream = kind == STREAM;
    // Not every kernel tells the state of one of MPTCP.
    let state = match info.result {
        Ok(_) if is_stream => written(info).first().copied().unwrap_or(TCP_CLOSE),
        _ if is_stream && remote.result.is_ok() => TCP_ESTABLISHED,
        _ => TCP_CLOSE,
    };
    let ready = from.probe.ready(fd)?;
    let begun = if is_stream && state == TCP_SYN_SENT { from.probe.connections()?.begun(seen.stat.ino) } else { None };
    // One that has ended is readable: its end is.
    let connected = state != TCP_LISTEN && begun.is_none() && (state != TCP_CLOSE || is_stream && ready & POLLIN != 0);
    let (mut settings, filtered) = Settings::capture(fd, (family, kind, protocol), from)?;
    for (_, _, Blob(options)) in settings.options.iter_mut().filter(|o| (o.0, o.1) == (IPPROTO_IP, IP_OPTIONS)) {
        options.truncate(length_of_options(options));
    }
    if connected || begun.is_some() {
        settings.options.retain(|(level, number, _)| !(*level == IPPROTO_TCP && OF_A_CONNECTION.contains(number)));
    }
    if is_stream {
        settings.options.retain(|(level, number, _)| !OF_MESSAGES.contains(&(*level, *number)));
    }
    // Of a connection it says nothing, and follows from how that was made (net/ipv6/af_inet6.c, `__inet6_bind`). A raw one has what
    // sockets begin with, for ever.
    settings.options.retain(|option| (option.0, option.1) != (IPPROTO_IPV6, IPV6_V6ONLY));
    if family == AF_INET6 && !connected && kind != RAW {
        settings.options.push((IPPROTO_IPV6, IPV6_V6ONLY, Blob(word(only, 0).to_ne_bytes().to_vec())));
    }
    let is_raw = kind == RAW;
    // Its port is its protocol.
    let own =
        address(local).filter(|own| !is_raw || proc::sockaddr(&own.0).is_some_and(|own| !own.ip().is_unspecified()));
    let whom = match begun {
        Some(whom) => encoded(family, whom).map(Blob),
        None => address(remote).or_else(|| told_remote(seen, (family, kind, protocol), from)),
    };
    let socket = InetSocket {
        family,
        socket_type: kind,
        protocol,
        flags: seen.flags(),
        local: own,
        remote: whom,
        backlog: (state == TCP_LISTEN).then(|| word(info, MAY_WAIT_AT)),
        settings,
        connected,
        waiting: Blob(Vec::new()),
        socket: 0,
        peer: None,
        shutdown: match from.probe.shut_down(protocol).get(&(seen.stat.ino as u32)) {
            _ if is_stream => shutdown(state, ready),
            Some(shut) => *shut,
            None => u8::from(ready & POLLRDHUP != 0),
        },
        passed: passed(info, state),
        datagrams: Vec::new(),
        groups: if is_stream { Vec::new() } else { groups::of(fd, family, from)? },
    };
    let wait = if state == TCP_LISTEN { word(info, WAIT_AT) } else { 0 };
    let unsent = if is_stream { word(info, UNSENT_AT) } else { value(outq) as u32 };
    let has_layer = layer.result.is_ok() && word(layer, 0) != 0;
    Ok(Asked { socket, state, wait, filtered, has_layer, readable: value(inq) as u32, ready, unsent })
}

/// What control messages tell of how long each of several messages is.
fn segment(mut control: &[u8]) -> u32 {
    // `struct cmsghdr`: length, level, type; each begins at a multiple of eight bytes (cmsg(3)).
    while let Some((head, rest)) = control.split_first_chunk::<16>() {
        let number = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        if (u64::from(number(8)), u64::from(number(12))) == (IPPROTO_UDP, UDP_GRO) {
            return rest.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        }
        control = control.get((number(0) as usize).max(head.len()).next_multiple_of(8)..).unwrap_or_default();
    }
    0
}

/// The messages that wait, in their order; several may come as one, if `is_many`. The offset is put back in the same batch, as in `unix`,
/// where it is told what is seen of empty ones.
fn datagrams(seen: &Seen, is_many: bool, from: &mut Capturing<'_>) -> Result<Vec<Datagram>, Trouble> {
    /// All kinds of control messages that come with one of UDP (net/ipv4/udp.c, `udp_recvmsg`).
    const CONTROL: usize = 1024;
    const ROOM: usize = 1 << 16;
    const MOST: usize = 1 << 16;
    let fd = seen.fd;
    let set = |value: Arg| {
        Call::new(Sys::Setsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_PEEK_OFF.into(), value, 4.into()])
    };
    let (mut all, mut at) = (Vec::new(), -1_i32);
    loop {
        let message = Arg::Message { data: ROOM, name: SOCKADDR, control: if is_many { CONTROL } else { 0 } };
        let read = Call::new(Sys::Recvmsg, [Arg::Int(fd.into()), message, (MSG_PEEK | MSG_DONTWAIT).into()]);
        let there = set(Arg::Bytes(at.to_ne_bytes().to_vec()));
        let calls = [ask(fd, SOL_SOCKET, SO_PEEK_OFF, 4), there, read, set(Arg::At(Place::Out(0, 0)))];
        let answer = from.probe.calls(&calls)?.swap_remove(2);
        let len = match answer.result {
            Ok(len) => len as usize,
            Err(Errno::EAGAIN) => return Ok(all),
            Err(e) => return Err(Fault::new("recvmsg", "a socket", e).into()),
        };
        let [bytes, name, control, header] = &answer.out[..] else { unreachable!("a message has four parts") };
        let header = Msghdr::from_bytes(header).unwrap_or_default();
        let name = name.get(..header.namelen as usize).unwrap_or(name);
        // The end of one that is shut down has no sender.
        if name.is_empty() {
            return Ok(all);
        }
        if all.len() == MOST {
            return Err(seen.refuse("more than 65536 messages wait in it", "freeze it when they are read").into());
        }
        if len == 0 && !all.is_empty() {
            from.note(seen.title(), super::unix::EMPTY_ONCE);
        }
        let message = Blob(bytes[..len.min(bytes.len())].to_vec());
        let segment = segment(control.get(..header.controllen as usize).unwrap_or(control));
        all.push(Datagram { from: Blob(name.to_vec()), message, segment });
        at = at.max(0).saturating_add(len as i32);
    }
}

/// Which directions of a connection are shut down. That it receives no more is only to be seen as long as the other end sends.
fn shutdown(state: u8, ready: u16) -> u8 {
    let sends = if HAS_ENDED.contains(&state) || state == TCP_CLOSE { SENDS } else { 0 };
    let receives = ready & POLLRDHUP != 0 && state != TCP_CLOSE && !OTHER_HAS_ENDED.contains(&state);
    sends | if receives { RECEIVES } else { 0 }
}

/// How many bytes of its stream a connection has sent, and received.
fn passed(info: &Answer, state: u8) -> (u64, u64) {
    let number = |at: usize| u64::from(word(info, at)) | u64::from(word(info, at + 4)) << 32;
    let end = OTHER_HAS_ENDED.contains(&state).into();
    (number(SENT_AT).saturating_sub(number(AGAIN_AT)), number(RECEIVED_AT).saturating_sub(end))
}

impl Kind for InetSocket {
    fn knows(seen: &Seen) -> bool {
        socket::is_socket(seen)
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        socket::is_of(&[AF_INET, AF_INET6], seen, from)
    }

    fn asks(seen: &Seen, probe: &dyn Probe) -> Vec<Call> {
        if probe.local_sockets().is_ok_and(|all| all.get(seen.stat.ino).is_some()) {
            return Vec::new();
        }
        let mut all = vec![ask(seen.fd, SOL_SOCKET, SO_DOMAIN, 4)];
        all.extend(asks(seen.fd));
        all.push(Call::ready(seen.fd));
        all.extend(asks_settings(seen.fd));
        all
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut asked = look(seen, from)?;
        asked.socket.peer = asked.other_end(seen, from)?;
        let refusals = asked.refusals(seen, from)?;
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        if asked.may_have_messages() && asked.keeps_messages() {
            // To see all of them, what the program sees first is moved for a moment: at our death nobody would put that back at once.
            if seen.in_flight && asked.has_messages() {
                return Err(seen.refuse("messages wait in it", "freeze it when it is received").into());
            }
            asked.socket.datagrams = datagrams(seen, asked.socket.settings.has_at(IPPROTO_UDP, UDP_GRO), from)?;
        }
        for why in asked.losses(from) {
            from.note(seen.title(), why);
        }
        let is_whole = asked.is_seen_whole(from)?;
        let readable = if asked.socket.peer.is_some() { asked.readable } else { asked.readable.min(ROOM) };
        let mut socket = asked.socket;
        if !socket.connected {
            socket.passed = (0, 0);
            if socket.is_tcp() {
                socket.shutdown = 0;
            }
            socket.note_beyond(seen, from);
            return Ok(InetSocket { socket: if socket.backlog.is_some() { seen.stat.ino } else { 0 }, ..socket });
        }
        socket.waiting = if readable == 0 { Blob::default() } else { Blob(from.probe.unread(seen.fd, readable)?) };
        match socket.peer {
            // Of one that is over nobody asks whose it was.
            Some(0) if socket.remote.is_none() => (socket.local, socket.passed) = (None, (0, 0)),
            Some(0) => socket.passed = (0, 0),
            Some(_) => {}
            // It comes back with another address of its own.
            None => (socket.local, socket.shutdown, socket.passed) = (None, 0, (0, 0)),
        }
        if socket.peer.is_some() {
            socket.socket = seen.stat.ino;
        }
        let is_whole = is_whole && socket.waiting.0.len() == readable as usize;
        if socket.peer.is_some() && !is_whole {
            let why = "what waits in it cannot be seen whole (MSG_OOB, SO_PEEK_OFF)";
            // More may have come between one look and the other.
            return Err(Trouble::Refused(vec![seen.refuse(why, "freeze it when it is read").passing()]));
        }
        socket.note_beyond(seen, from);
        Ok(socket)
    }

    /// By [`plan::plan`], which sees all of them.
    fn plan(&self, _: Descr, _: At, _: &mut Planning<'_>) {}
}

/// Whether somebody in the tree has the socket with this inode number.
fn is_ours(inode: u64, from: &Capturing<'_>) -> bool {
    from.probe.is_in_tree(format!("socket:[{inode}]").as_bytes())
}

impl Asked {
    /// Whether it is a connection that lives.
    fn lives(&self) -> bool {
        self.socket.connected && self.state != TCP_CLOSE
    }

    /// The other end of a connection within the tree; see [`InetSocket::peer`].
    fn other_end(&self, seen: &Seen, from: &Capturing<'_>) -> Result<Option<u64>, Trouble> {
        let socket = &self.socket;
        if !socket.connected || socket.protocol != TCP {
            return Ok(None);
        }
        // It ended without an error.
        if self.state == TCP_CLOSE {
            return Ok((self.ready & POLLERR == 0).then_some(0));
        }
        let (Some(local), Some(remote)) = (socket.local(), socket.remote()) else { return Ok(None) };
        let all = from.probe.connections()?;
        Ok(match all.end(remote, local).map_or(0, |other| other.inode) {
            0 if self.state == TCP_CLOSE_WAIT => socket.is_local().then_some(0),
            0 => self.taker(from)?,
            inode => Some(inode).filter(|inode| *inode != seen.stat.ino && is_ours(*inode, from)),
        })
    }

    /// Who in the tree is to accept its connection: of one that nobody has accepted yet the other end has no descriptor, and has not ended.
    fn taker(&self, from: &Capturing<'_>) -> Result<Option<u64>, Trouble> {
        let (Some(local), Some(remote)) = (self.socket.local(), self.socket.remote()) else { return Ok(None) };
        let all = from.probe.connections()?;
        let other = all.end(remote, local).filter(|_| self.lives() && self.socket.protocol == TCP);
        let waits = other.is_some_and(|end| end.inode == 0 && [TCP_ESTABLISHED, TCP_CLOSE_WAIT].contains(&end.state));
        Ok(all.listener(remote).filter(|inode| waits && is_ours(*inode, from)))
    }

    /// Whether all that it has received can be read: not what stands behind urgent data, be that read or not (tcp(7)).
    fn is_seen_whole(&self, from: &Capturing<'_>) -> Result<bool, Trouble> {
        let (Some(local), Some(remote)) = (self.socket.local(), self.socket.remote()) else { return Ok(true) };
        let readable = u64::from(self.readable);
        // Its end may be read with the last of what was sent.
        let counted = [readable, readable + u64::from(OTHER_HAS_ENDED.contains(&self.state))];
        let all = from.probe.connections()?;
        Ok(all.end(local, remote).is_none_or(|line| counted.contains(&line.received)))
    }

    /// How many of the connections that wait to be accepted are of the tree, and told of by themselves.
    fn kept(&self, from: &Capturing<'_>) -> u32 {
        // Of several with one address nobody tells for whom they wait.
        let is_alone = !self.socket.settings.has("SO_REUSEPORT");
        let Some(local) = self.socket.local().filter(|_| self.wait != 0 && is_alone) else { return 0 };
        let count = |all: Vec<u64>| all.into_iter().filter(|inode| is_ours(*inode, from)).count() as u32;
        from.probe.connections().map_or(0, |all| count(all.pending(local)))
    }

    /// With whom it has a connection.
    fn whom(&self) -> String {
        self.socket.remote().map_or("somebody".to_owned(), |whom| whom.to_string())
    }

    /// Whether something may wait in it, and it is none of TCP. One that is shut down is readable, too.
    fn may_have_messages(&self) -> bool {
        !self.socket.is_tcp() && self.ready & POLLIN != 0
    }

    /// Whether something does, as far as can be told without a look: the first message may be empty.
    fn has_messages(&self) -> bool {
        let may_end = self.ready & POLLRDHUP != 0 && self.readable == 0;
        self.may_have_messages() && !may_end
    }

    /// Whether what waits in it can be seen, and sent to it again and to nobody else.
    fn keeps_messages(&self) -> bool {
        let settings = &self.socket.settings;
        let shares =
            ["SO_REUSEADDR", "SO_REUSEPORT", "SO_BINDTODEVICE", "SO_PEEK_OFF"].iter().any(|name| settings.has(name));
        let is_plain = !shares && !settings.has_at(IPPROTO_UDP, UDP_ENCAP);
        // To read where an error waits would take it away.
        let is_udp = self.socket.socket_type == DGRAM && [IPPROTO_UDP, SOL_UDPLITE].contains(&self.socket.protocol);
        is_udp && is_plain && self.socket.local.is_some() && self.ready & POLLERR == 0
    }

    /// Why it cannot be kept.
    fn refusals(&self, seen: &Seen, from: &Capturing<'_>) -> Result<Vec<Refusal>, Trouble> {
        let mut refusals = socket::ill_kept(seen, self.filtered, from)?;
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        if self.socket.peer.is_some() {
            if self.has_layer {
                refuse("the kernel does something with its stream (TCP_ULP)", "let the program close it");
            }
            if self.ready & POLLPRI != 0 {
                refuse("urgent data wait in it (MSG_OOB)", "freeze it when they are read");
            }
        } else if self.lives() && from.keep.tcp == Tcp::Refuse && !self.comes_yet(from)? {
            let why = format!("it is a TCP connection with {}", self.whom());
            refuse(&why, "use --tcp reset: thawed, the program finds it reset, as by a failure of the network");
        }
        if self.readable != 0 && self.socket.connected && self.socket.settings.has("SO_PEEK_OFF") {
            refuse("it is looked into from an offset on (SO_PEEK_OFF)", "freeze it when all is read");
        }
        if !self.socket.is_known() {
            let why = format!("its protocol, {}, is not supported yet", self.socket.protocol);
            refuse(&why, "let the program close it");
        }
        refusals.extend(self.on_its_way(from)?.map(|(why, remedy)| seen.refuse(why, remedy).passing()));
        Ok(refusals)
    }

    /// Whether the other end is on this host and closed, and what it wrote before, or its end, has not come yet.
    fn comes_yet(&self, from: &Capturing<'_>) -> Result<bool, Trouble> {
        /// FIN_WAIT1, LAST_ACK and CLOSING: its end is not acknowledged.
        const LEAVES: [u8; 3] = [4, 9, 11];
        let socket = &self.socket;
        let (Some(local), Some(remote)) = (socket.local(), socket.remote()) else { return Ok(false) };
        if !self.lives() || socket.protocol != TCP || socket.peer.is_some() {
            return Ok(false);
        }
        let all = from.probe.connections()?;
        Ok(all.end(remote, local).is_some_and(|other| other.inode == 0 && LEAVES.contains(&other.state)))
    }

    /// What it has sent, or is about to, or was sent to it, and is nowhere to be seen: why, and what can be done.
    fn on_its_way(&self, from: &Capturing<'_>) -> Result<Option<(String, &'static str)>, Trouble> {
        let socket = &self.socket;
        Ok(if socket.passed.0 + u64::from(self.unsent) != 0 && self.taker(from)?.is_some() {
            Some((HASTY.0.into(), HASTY.1))
        } else if self.unsent != 0 && socket.peer.is_some_and(|peer| peer != 0) {
            let why = format!("{} bytes that it has written wait until its other end reads", self.unsent);
            Some((why, "freeze it when they are read"))
        } else if self.comes_yet(from)? {
            let why = "what its other end wrote before it was closed has not come yet";
            Some((why.into(), "try again, or freeze it when it has read more"))
        } else if self.unsent != 0 && socket.socket_type == DGRAM {
            let why = "it has begun a message (UDP_CORK, MSG_MORE), or one has not left yet";
            Some((why.into(), "freeze it when that is sent: try again"))
        } else {
            None
        })
    }

    /// What is not kept, or may not be.
    fn losses(&self, from: &Capturing<'_>) -> Vec<String> {
        let socket = &self.socket;
        let is_bound = !socket.connected && socket.local.is_some();
        let mut all = Vec::new();
        if self.lives() && socket.peer.is_none() {
            all.push(format!("its TCP connection with {} is reset when it is thawed", self.whom()));
        }
        if self.has_messages() && !self.keeps_messages() {
            all.push("datagrams that wait in it are lost".into());
        }
        let lost = self.wait.saturating_sub(self.kept(from));
        if lost != 0 {
            all.push(format!("{lost} connections that nobody has accepted yet are lost"));
        }
        if self.ready & POLLERR != 0 {
            all.push("an error, or what is told by its error queue (MSG_ERRQUEUE), waits in it, and is not told when it is thawed".into());
        }
        if socket.settings.counts() {
            all.push("what it counts (SOF_TIMESTAMPING_OPT_ID, MSG_ZEROCOPY) begins at 0 when it is thawed".into());
        }
        if is_bound && socket.settings.has("SO_REUSEPORT") {
            let program = "a program chooses who gets what among those with its address (SO_ATTACH_REUSEPORT_EBPF)";
            all.push(format!("if {program}, it does so no more when it is thawed"));
        }
        all
    }
}

impl InetSocket {
    fn local(&self) -> Option<SocketAddr> {
        self.local.as_ref().and_then(|b| proc::sockaddr(&b.0))
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote.as_ref().and_then(|b| proc::sockaddr(&b.0))
    }

    /// To whom a socket of messages sends is an address, and with whom one of TCP begins a connection. `others` are all of its image, by inode number.
    pub(crate) fn is_sound(&self, others: &BTreeMap<u64, &InetSocket>) -> bool {
        if !self.datagrams.is_empty() && (self.socket_type != DGRAM || self.connected || self.local().is_none()) {
            return false;
        }
        let Some(peer) = self.peer else {
            return !self.is_tcp() || self.connected || self.remote.is_none() || self.backlog.is_none();
        };
        let size = if self.family == AF_INET { 16 } else { SOCKADDR };
        let of_family = |address: &Blob| {
            address.0.len() == size
                && address.0.starts_with(&(self.family as u16).to_ne_bytes())
                && proc::sockaddr(&address.0).is_some()
        };
        let are_addresses =
            self.local.iter().chain(&self.remote).all(of_family) && [AF_INET, AF_INET6].contains(&self.family);
        let has_addresses = self.local.is_some() && self.remote.is_some() && self.socket != 0;
        let is_end = |other: &&InetSocket| match other.backlog {
            None => other.peer == Some(self.socket) && other.connected && peer != self.socket,
            Some(_) => !other.connected && self.waiting.0.is_empty(),
        };
        let is_one = peer == 0 || has_addresses && others.get(&peer).is_some_and(is_end);
        self.is_tcp() && self.protocol == TCP && self.connected && are_addresses && is_one
    }

    /// Tells of what whoever freezes it may not do himself: so he cannot thaw it.
    fn note_beyond(&self, seen: &Seen, from: &mut Capturing<'_>) {
        let probe = from.probe;
        for (_, why) in self.beyond(&|right| probe.is_able(right), &|path| probe.host_text(path).ok()) {
            from.note_beyond(seen.title(), &why);
        }
    }

    /// The address that it must have again.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        self.local()
            .filter(|_| if self.connected { self.peer.is_some_and(|peer| peer != 0) } else { self.remote.is_none() })
    }

    /// Whether both ends are of this host, whichever that is.
    fn is_local(&self) -> bool {
        [self.local(), self.remote()].iter().all(|end| end.is_some_and(|end| end.ip().is_loopback()))
    }

    /// TCP and MPTCP; UDP, UDP-Lite, and ICMP without a privilege (icmp(7)); all that is raw.
    fn is_known(&self) -> bool {
        let protocols: &[u64] = match self.socket_type {
            STREAM => &[TCP, 262],
            DGRAM => &[17, 136, 1, 58],
            RAW => return true,
            _ => &[],
        };
        protocols.contains(&self.protocol)
    }

    fn is_tcp(&self) -> bool {
        self.socket_type == STREAM
    }

    /// Whether what stands there in its address is a port: of an echo (icmp(7)) it is the identifier, which anybody may have.
    fn has_ports(&self) -> bool {
        self.socket_type != RAW && ![ICMP, IPPROTO_ICMPV6].contains(&self.protocol)
    }
}

impl fmt::Display for InetSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.socket_type {
            STREAM => "stream",
            RAW => "raw",
            _ => "dgram",
        };
        let family = if self.family == AF_INET { "inet" } else { "inet6" };
        write!(f, "{family} {kind}, protocol {}", self.protocol)?;
        self.local().map_or(Ok(()), |local| write!(f, ", {local}"))?;
        match (self.remote(), self.backlog) {
            (_, Some(_)) => write!(f, ", takes connections"),
            (Some(remote), _) if self.peer.is_some() => write!(f, ", connected to {remote}, within the tree"),
            (Some(remote), _) if self.connected => write!(f, ", was connected to {remote}"),
            (Some(remote), _) if self.is_tcp() => write!(f, ", connects to {remote}"),
            (Some(remote), _) => write!(f, ", sends to {remote}"),
            _ => Ok(()),
        }?;
        match self.datagrams.len() {
            0 => Ok(()),
            n => write!(f, ", {n} messages wait"),
        }
    }
}
