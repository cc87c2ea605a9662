//! Sockets of the families AF_INET and AF_INET6 (ip(7), tcp(7), udp(7)).
//!
//! - seen as    `socket:[inode]`; `getsockopt`, `getsockname`, `getpeername`
//! - captured   family, kind and protocol, addresses, how many connections may wait, options; what a connection has received and
//!   nobody has read, by MSG_PEEK
//! - recreated  `socket`, `setsockopt`, `bind`, `listen`, and `connect` where that is only an address. A TCP connection comes back as
//!   one that was reset, as by a failure of the network, once what waits in it was read (`--tcp reset`)
//! - refused    TCP connections with `--tcp refuse`, and those whose both ends are in the tree; one that a process outside has too; a
//!   filter; by the thaw, an address that somebody else has or that needs a privilege
//! - not kept   datagrams that wait, and connections that nobody has accepted yet: told. That a socket is in a group of multicast, and
//!   that a program chooses among those with one address (SO_ATTACH_REUSEPORT_EBPF): told, where it may be so. By what error a
//!   connection ended: it is ECONNRESET. What is shut down of one that has no connection

use super::socket::{self, Settings, ask, word};
use super::{Kind, Seen, common_refusals, flags};
use crate::task::written;
use crate::{At, Blob, Capturing, Model, Planning, Resource, Tcp, Trouble};
use abi::consts::cap::CAP_NET_BIND_SERVICE;
use abi::consts::fcntl::F_SETFL;
use abi::consts::poll::POLLIN;
use abi::consts::socket::{
    AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, MSG_DONTWAIT, MSG_PEEK, SIOCINQ, SIOCOUTQ, SO_DOMAIN,
    SO_PROTOCOL, SO_TYPE, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET,
};
use abi::sockopt;
use abi::{Answer, Arg, Call, Sys, proc};
use core::net::SocketAddr;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};
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
    /// Whom it is connected to.
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
}

const STREAM: u64 = SOCK_STREAM as u64;
const DGRAM: u64 = SOCK_DGRAM as u64;
const TCP_INFO: u64 = 11;
/// States of a TCP socket (include/net/tcp_states.h).
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u8 = 7;
/// FIN_WAIT1 and 2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING.
const ENDING: [u8; 6] = [4, 5, 6, 8, 9, 11];
const TCP_LISTEN: u8 = 10;
/// `struct tcp_info`: how many connections of a listener wait, and how many may.
const WAIT_AT: usize = 24;
const MAY_WAIT_AT: usize = 28;
/// `struct sockaddr_in6`, the longest of both.
const SOCKADDR: usize = 28;
/// TCP_MAXSEG and TCP_WINDOW_CLAMP: of a connection the kernel tells what both ends agreed on.
const OF_A_CONNECTION: [u64; 2] = [2, 10];
/// IP_MULTICAST_IF, _TTL and _LOOP, and IPV6_MULTICAST_IF, _HOPS and _LOOP: of TCP they can be asked for, and not set.
const OF_MESSAGES: [(u64, u64); 6] =
    [(IPPROTO_IP, 32), (IPPROTO_IP, 33), (IPPROTO_IP, 34), (IPPROTO_IPV6, 17), (IPPROTO_IPV6, 18), (IPPROTO_IPV6, 19)];
/// IP_FREEBIND and IP_TRANSPARENT, IPV6_TRANSPARENT and IPV6_FREEBIND: with these an address need not be here.
const ANYWHERE: [(u64, u64); 4] = [(IPPROTO_IP, 15), (IPPROTO_IP, 19), (IPPROTO_IPV6, 75), (IPPROTO_IPV6, 78)];
/// What a connection that is reset may have to read.
const ROOM: usize = 1 << 19;

/// Whether it is for the newer family only: what it is at first, the host says.
const IPV6_V6ONLY: u64 = 26;

/// The texts that tell which addresses are taken here, and the lowest port that needs no privilege.
const TAKEN: [(u64, [&str; 2]); 2] =
    [(STREAM, ["/proc/net/tcp", "/proc/net/tcp6"]), (DGRAM, ["/proc/net/udp", "/proc/net/udp6"])];
const LOOPBACK: &str = "/sys/class/net/lo/flags";
const UNPRIVILEGED: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

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

/// What a socket tells of itself.
struct Asked {
    socket: InetSocket,
    /// Of TCP: its state, and how many connections wait.
    state: u8,
    wait: u32,
    filtered: bool,
    /// Bytes that can be read, and whether something can be: a datagram may be empty.
    readable: u32,
    is_ready: bool,
    /// Bytes that were not sent yet, or not received by the other end.
    unsent: u32,
}

fn look(seen: &Seen, from: &mut Capturing<'_>) -> Result<Asked, Trouble> {
    let fd = seen.fd;
    let calls = [
        ask(fd, SOL_SOCKET, SO_DOMAIN, 4),
        ask(fd, SOL_SOCKET, SO_TYPE, 4),
        ask(fd, SOL_SOCKET, SO_PROTOCOL, 4),
        ask_address(Sys::Getsockname, fd),
        ask_address(Sys::Getpeername, fd),
        ask(fd, IPPROTO_TCP, TCP_INFO, 64),
        ask(fd, IPPROTO_IPV6, IPV6_V6ONLY, 4),
        Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCINQ.into(), Arg::Out(4)]),
        Call::new(Sys::Ioctl, [Arg::Int(fd.into()), SIOCOUTQ.into(), Arg::Out(4)]),
    ];
    let answers = from.probe.calls(&calls)?;
    let [domain, kind, protocol, local, remote, info, only, inq, outq] = &answers[..] else {
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
    let is_ready = from.probe.ready(fd)? & POLLIN != 0;
    // One that has ended is readable: its end is.
    let connected = state != TCP_LISTEN && (state != TCP_CLOSE || is_stream && is_ready);
    let lists = match kind {
        STREAM => [sockopt::IP, sockopt::IPV6, sockopt::TCP],
        _ => [sockopt::IP, sockopt::IPV6, sockopt::UDP],
    };
    let (mut settings, filtered) = Settings::capture(fd, (family, kind, protocol), &lists, from)?;
    if connected {
        settings.options.retain(|(level, number, _)| !(*level == IPPROTO_TCP && OF_A_CONNECTION.contains(number)));
    }
    if is_stream {
        settings.options.retain(|(level, number, _)| !OF_MESSAGES.contains(&(*level, *number)));
    }
    if family == AF_INET6 {
        settings.options.retain(|option| (option.0, option.1) != (IPPROTO_IPV6, IPV6_V6ONLY));
        settings.options.push((IPPROTO_IPV6, IPV6_V6ONLY, Blob(word(only, 0).to_ne_bytes().to_vec())));
    }
    let socket = InetSocket {
        family,
        socket_type: kind,
        protocol,
        flags: seen.flags(),
        local: address(local),
        remote: address(remote),
        backlog: (state == TCP_LISTEN).then(|| word(info, MAY_WAIT_AT)),
        settings,
        connected,
        waiting: Blob(Vec::new()),
    };
    let wait = if state == TCP_LISTEN { word(info, WAIT_AT) } else { 0 };
    Ok(Asked { socket, state, wait, filtered, readable: value(inq) as u32, is_ready, unsent: value(outq) as u32 })
}

/// Whether this host is in any group of multicast but those that every host is in (/proc/net/igmp, igmp6): which sockets are in one
/// is told to nobody.
fn has_groups(socket: &InetSocket, from: &Capturing<'_>) -> bool {
    let text = |path: &str| from.probe.host_text(path).unwrap_or_default();
    let is_group = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()) && word != "010000E0";
    let four = |line: &str| line.starts_with("\t\t") && line.split_ascii_whitespace().next().is_some_and(is_group);
    // All nodes and routers, and those who are asked for their addresses (RFC 4291, 2.7.1).
    let is_common =
        |word: &str| word.ends_with("0000000001") || word.ends_with("0000000002") || word[..26].ends_with("01ff");
    let six = |line: &str| line.split_ascii_whitespace().nth(2).is_some_and(|w| w.len() == 32 && !is_common(w));
    text("/proc/net/igmp").lines().any(four) || socket.family == AF_INET6 && text("/proc/net/igmp6").lines().any(six)
}

/// Whether the other end of a connection is in the tree.
fn is_within(seen: &Seen, socket: &InetSocket, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let end = |of: &Option<Blob>| of.as_ref().and_then(|b| proc::sockaddr(&b.0));
    let (Some(local), Some(remote)) = (end(&socket.local), end(&socket.remote)) else { return Ok(false) };
    for text in texts(socket) {
        let text = from.probe.host_text(text).unwrap_or_default();
        let other = |line: &proc::InetLine| (line.local, line.remote) == (remote, local) && line.inode != seen.stat.ino;
        let mut others = proc::inet(&text).into_iter().filter(other);
        if others.any(|line| from.probe.is_in_tree(format!("socket:[{}]", line.inode).as_bytes())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The texts that tell of sockets of its sort.
fn texts(socket: &InetSocket) -> &'static [&'static str] {
    TAKEN.iter().find(|(kind, _)| *kind == socket.socket_type).map_or(&[], |(_, texts)| &texts[..])
}

impl Kind for InetSocket {
    fn knows(seen: &Seen) -> bool {
        socket::is_socket(seen)
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        if !Self::knows(seen) {
            return Ok(false);
        }
        let answers = from.probe.calls(&[ask(seen.fd, SOL_SOCKET, SO_DOMAIN, 4)])?;
        Ok([AF_INET, AF_INET6].contains(&value(&answers[0])))
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let asked = look(seen, from)?;
        let refusals = asked.refusals(seen, from)?;
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        for why in asked.losses(from) {
            from.note(seen.title(), why);
        }
        let Asked { mut socket, readable, .. } = asked;
        if socket.connected {
            // It comes back with another one.
            socket.local = None;
            socket.waiting = if readable == 0 { Blob(Vec::new()) } else { Blob(unread(seen.fd, from)?) };
        }
        Ok(socket)
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        self.check(to);
        if self.connected {
            let (family, waiting) = (self.family, self.waiting.0.clone());
            let op = Op::Reset { descr, family, waiting };
            to.to.step(Moment::Make, Self::NAME, Actor::Store, op, vec![], vec![Fact::Made(descr)]);
        } else {
            let kind = self.socket_type | SOCK_NONBLOCK;
            to.to.make(Self::NAME, descr, Sys::Socket, vec![self.family.into(), kind.into(), self.protocol.into()]);
        }
        self.settings.plan(Self::NAME, descr, to);
        self.settings.plan_room(Self::NAME, descr, false, to);
        if !self.connected {
            self.give_address(descr, to);
        }
        let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.flags & !flags::ACCMODE).into()];
        to.to.on_descr(Moment::Arm, Self::NAME, descr, Sys::Fcntl, args, Expect::Success);
    }
}

impl Asked {
    /// Whether it is a connection that lives.
    fn lives(&self) -> bool {
        self.socket.connected && self.state != TCP_CLOSE
    }

    /// With whom it has a connection.
    fn whom(&self) -> String {
        self.socket.remote().map_or("somebody".to_owned(), |whom| whom.to_string())
    }

    /// Why it cannot be kept.
    fn refusals(&self, seen: &Seen, from: &Capturing<'_>) -> Result<Vec<Refusal>, Trouble> {
        let mut refusals = common_refusals(seen);
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        if self.lives() && is_within(seen, &self.socket, from)? {
            refuse(
                "both ends of its connection are in the tree",
                "this is not supported yet: let the program close it",
            );
        } else if self.lives() && from.keep.tcp == Tcp::Refuse {
            let why = format!("it is a TCP connection with {}", self.whom());
            refuse(&why, "use --tcp reset: thawed, the program finds it reset, as by a failure of the network");
        }
        if !self.socket.is_known() {
            let why = format!("its protocol, {}, is not supported yet", self.socket.protocol);
            refuse(&why, "let the program close it");
        }
        if self.filtered {
            let why = "what comes to it is filtered (SO_ATTACH_FILTER, SO_ATTACH_BPF)";
            refuse(why, "let the program close it; this is not supported yet");
        }
        if let Some(holder) = from.probe.other_holders(&seen.link.0)?.first() {
            refuse(&format!("process {holder}, outside of the tree, has it too"), "end that process first");
        }
        Ok(refusals)
    }

    /// What is not kept, or may not be.
    fn losses(&self, from: &Capturing<'_>) -> Vec<String> {
        let Asked { socket, state, wait, .. } = self;
        let is_bound = !socket.connected && socket.local.is_some();
        let mut all = Vec::new();
        if self.lives() {
            all.push(format!("its TCP connection with {} is reset when it is thawed", self.whom()));
        }
        if !socket.connected && *state != TCP_LISTEN && self.is_ready {
            all.push("datagrams that wait in it are lost".into());
        }
        if socket.socket_type == DGRAM && self.unsent != 0 {
            all.push("if it has begun a message (UDP_CORK, MSG_MORE), that is lost".into());
        }
        if *wait != 0 {
            all.push(format!("{wait} connections that nobody has accepted yet are lost"));
        }
        if is_bound && socket.socket_type == DGRAM && has_groups(socket, from) {
            all.push("if it is in a group of multicast, it is in none when it is thawed".into());
        }
        if is_bound && socket.settings.has("SO_REUSEPORT") {
            let program = "a program chooses who gets what among those with its address (SO_ATTACH_REUSEPORT_EBPF)";
            all.push(format!("if {program}, it does so no more when it is thawed"));
        }
        all
    }
}

/// What can be read of a connection, as far as a reset one may hold it.
fn unread(fd: u32, from: &Capturing<'_>) -> Result<Vec<u8>, Trouble> {
    let how = Arg::Int(MSG_PEEK | MSG_DONTWAIT);
    let args = [Arg::Int(fd.into()), Arg::Out(ROOM), Arg::Int(ROOM as u64), how, 0.into(), 0.into()];
    let answers = from.probe.calls(&[Call::new(Sys::Recvfrom, args)])?;
    Ok(answers[0].result.map_or(Vec::new(), |len| written(&answers[0])[..(len as usize).min(ROOM)].to_vec()))
}

/// A call about a description, one after the other.
fn call(descr: Descr, sys: Sys, args: Vec<Value>, expect: Expect, to: &mut Planning<'_>) {
    to.to.on_descr(Moment::Make, InetSocket::NAME, descr, sys, [vec![Value::Descr(descr)], args].concat(), expect);
}

impl InetSocket {
    fn local(&self) -> Option<SocketAddr> {
        self.local.as_ref().and_then(|b| proc::sockaddr(&b.0))
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote.as_ref().and_then(|b| proc::sockaddr(&b.0))
    }

    /// To whom a socket of messages sends is an address; that of TCP has a connection.
    pub(crate) fn is_sound(&self) -> bool {
        !self.is_tcp() || self.connected || self.remote.is_none()
    }

    /// The address that it must have again.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        self.local().filter(|_| !self.connected && self.remote.is_none())
    }

    /// TCP and MPTCP; UDP, UDP-Lite, and ICMP without a privilege (icmp(7)).
    fn is_known(&self) -> bool {
        let protocols: &[u64] = match self.socket_type {
            STREAM => &[6, 262],
            DGRAM => &[17, 136, 1, 58],
            _ => &[],
        };
        protocols.contains(&self.protocol)
    }

    fn is_tcp(&self) -> bool {
        self.socket_type == STREAM
    }

    /// `bind`, `connect`, `listen`.
    fn give_address(&self, descr: Descr, to: &mut Planning<'_>) {
        let given = |address: &Blob| vec![Value::Bytes(address.0.clone()), (address.0.len() as u64).into()];
        if let Some(local) = &self.local {
            // Of one that has somebody to send to it was mostly chosen by the kernel.
            let lost = "a socket sends from another address now: its own is not to be had here";
            let expect = if self.remote.is_some() { Expect::OrTold(lost) } else { Expect::Success };
            call(descr, Sys::Bind, given(local), expect, to);
        }
        if let Some(remote) = &self.remote {
            let lost = "a socket has nobody to send to: there is no way there now";
            call(descr, Sys::Connect, given(remote), Expect::OrTold(lost), to);
        }
        if let Some(backlog) = self.backlog {
            call(descr, Sys::Listen, vec![u64::from(backlog).into()], Expect::Success, to);
        }
    }

    /// Somebody else may have its address by now, or the port may need a privilege.
    fn check(&self, to: &mut Planning<'_>) {
        let told = &to.to.host.told;
        let is_up =
            |flags: &String| u64::from_str_radix(flags.trim().trim_start_matches("0x"), 16).is_ok_and(|f| f & 1 != 0);
        if self.connected && !told.get(LOOPBACK).is_none_or(is_up) {
            let why = "a connection can only be made and reset over the loopback, which is down here";
            to.to.refuse(Refusal::new("network", why, "ip link set lo up"));
        }
        let Some(local) = self.bound() else { return };
        let lowest = told.get(UNPRIVILEGED).and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        let (reuses, shares) = (self.settings.has("SO_REUSEADDR"), self.settings.has("SO_REUSEPORT"));
        let meets = |other: &proc::InetLine| {
            let (one, two) = (local.ip(), other.local.ip());
            let everybody = one.is_unspecified() || two.is_unspecified();
            other.local.port() == local.port() && (one == two || everybody)
        };
        let counts = |other: &proc::InetLine| match self.is_tcp() {
            true => other.state == TCP_LISTEN && !shares,
            false => !reuses && !shares,
        };
        let all = texts(self).iter().filter_map(|text| told.get(*text)).flat_map(|text| proc::inet(text));
        let all: Vec<_> = all.filter(|_| local.port() != 0).collect();
        let is_taken = all.iter().any(|other| meets(other) && counts(other));
        let what = format!("socket {local}");
        let ended = |other: &proc::InetLine| meets(other) && ENDING.contains(&other.state);
        let anywhere = self.settings.options.iter().any(|(level, number, _)| ANYWHERE.contains(&(*level, *number)));
        if to.to.host.absent.contains(&local.ip()) && !anywhere {
            let remedy = "give that address to an interface (ip address add)";
            to.to.refuse(Refusal::new(what, "no interface has its address here", remedy));
        } else if is_taken {
            to.to.refuse(Refusal::new(what, "another socket has that address now", "end whoever has it (ss -lntup)"));
        } else if self.is_tcp() && !reuses && all.iter().any(ended) {
            let remedy = "try again in a minute";
            to.to.refuse(Refusal::new(what, "connections that have just ended keep that address for a while", remedy));
        } else if local.port() != 0 && local.port() < lowest && !to.to.host.has(CAP_NET_BIND_SERVICE) {
            to.to.refuse(Refusal::new(what, "you may not use that port", "thaw it as root"));
        }
    }
}

/// What a survey has to read for the sockets of a tree.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let bound = || model.inet_sockets().filter(|s| s.bound().is_some());
    let mut all: Vec<String> = bound().flat_map(texts).map(|text| (*text).to_owned()).collect();
    all.extend(bound().next().map(|_| UNPRIVILEGED.to_owned()));
    all.extend(model.inet_sockets().find(|s| s.connected).map(|_| LOOPBACK.to_owned()));
    all.sort_unstable();
    all.dedup();
    all
}

impl fmt::Display for InetSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_tcp() { "stream" } else { "dgram" };
        let family = if self.family == AF_INET { "inet" } else { "inet6" };
        write!(f, "{family} {kind}, protocol {}", self.protocol)?;
        self.local().map_or(Ok(()), |local| write!(f, ", {local}"))?;
        match (self.remote(), self.backlog) {
            (_, Some(_)) => write!(f, ", takes connections"),
            (Some(remote), _) if self.connected => write!(f, ", was connected to {remote}"),
            (Some(remote), _) => write!(f, ", sends to {remote}"),
            _ => Ok(()),
        }
    }
}
