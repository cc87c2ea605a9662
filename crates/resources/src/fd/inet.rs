//! Sockets of the families AF_INET and AF_INET6 (ip(7), tcp(7), udp(7)).
//!
//! - seen as    `socket:[inode]`; `getsockopt`, `getsockname`, `getpeername`
//! - captured   family, kind and protocol, addresses, how many connections may wait, options; what a connection has received and
//!   nobody has read, by MSG_PEEK
//! - recreated  `socket`, `setsockopt`, `bind`, `listen`, and `connect` where that is only an address. A TCP connection comes back as
//!   one that was reset, as by a failure of the network, once what waits in it was read (`--tcp reset`)
//! - refused    TCP connections with `--tcp refuse`, and those whose both ends are in the tree; one that a process outside has too; a
//!   filter; by the thaw, an address that somebody else has or that needs a privilege
//! - not kept   datagrams that wait, and connections that nobody has accepted yet: told. That a socket is in a group of multicast:
//!   told, where it may be so. By what error a connection ended: it is ECONNRESET. What is shut down of one that has no connection

use super::socket::{self, Kind as OptionKind, ask, word};
use super::{Kind, S_IFSOCK, Seen, common_refusals, flags};
use crate::task::written;
use crate::{At, Blob, Capturing, Model, Planning, Resource, Tcp, Trouble};
use abi::consts::cap::CAP_NET_BIND_SERVICE;
use abi::consts::fcntl::F_SETFL;
use abi::consts::socket::{
    AF_INET, AF_INET6, MSG_DONTWAIT, MSG_PEEK, SIOCINQ, SO_DOMAIN, SO_PROTOCOL, SO_REUSEADDR, SO_REUSEPORT, SO_TYPE,
    SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET,
};
use abi::{Answer, Arg, Call, Sys, proc};
use core::net::SocketAddr;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
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
    /// Level, number and value of the options that are not what they are at first.
    #[n(7)]
    pub options: Vec<(u64, u64, Blob)>,
    /// Whether it is a connection of TCP.
    #[n(8)]
    pub connected: bool,
    /// What that has received and nobody has read.
    #[n(9)]
    pub waiting: Blob,
}

const STREAM: u64 = SOCK_STREAM as u64;
const DGRAM: u64 = SOCK_DGRAM as u64;
const IPPROTO_IP: u64 = 0;
const IPPROTO_TCP: u64 = 6;
const IPPROTO_IPV6: u64 = 41;
const POLLIN: u16 = 1;
const TCP_INFO: u64 = 11;
/// States of a TCP socket (include/net/tcp_states.h).
const TCP_CLOSE: u8 = 7;
const TCP_TIME_WAIT: u8 = 6;
const TCP_LISTEN: u8 = 10;
/// `struct tcp_info`: how many connections of a listener wait, and how many may.
const WAIT_AT: usize = 24;
const MAY_WAIT_AT: usize = 28;
/// `struct sockaddr_in6`, the longest of both.
const SOCKADDR: usize = 28;
/// What a connection that is reset may have to read.
const ROOM: usize = 1 << 19;

/// Options of these families.
const OPTIONS: [OptionKind; 15] = [
    (IPPROTO_TCP, 1, 4, 0),   // TCP_NODELAY
    (IPPROTO_TCP, 3, 4, 0),   // TCP_CORK
    (IPPROTO_TCP, 9, 4, 0),   // TCP_DEFER_ACCEPT
    (IPPROTO_TCP, 18, 4, 0),  // TCP_USER_TIMEOUT
    (IPPROTO_IP, 1, 4, 0),    // IP_TOS
    (IPPROTO_IP, 8, 4, 0),    // IP_PKTINFO
    (IPPROTO_IP, 11, 4, 0),   // IP_RECVERR
    (IPPROTO_IP, 12, 4, 0),   // IP_RECVTTL
    (IPPROTO_IP, 13, 4, 0),   // IP_RECVTOS
    (IPPROTO_IP, 15, 4, 0),   // IP_FREEBIND
    (IPPROTO_IP, 19, 4, 0),   // IP_TRANSPARENT
    (IPPROTO_IP, 33, 4, 1),   // IP_MULTICAST_TTL
    (IPPROTO_IP, 34, 4, 1),   // IP_MULTICAST_LOOP
    (IPPROTO_IPV6, 25, 4, 0), // IPV6_RECVERR
    (IPPROTO_IPV6, 49, 4, 0), // IPV6_RECVPKTINFO
];
/// Whether it is for the newer family only: what it is at first, the host says.
const IPV6_V6ONLY: u64 = 26;

/// The texts that tell which addresses are taken here, and the lowest port that needs no privilege.
const TAKEN: [(u64, [&str; 2]); 2] =
    [(STREAM, ["/proc/net/tcp", "/proc/net/tcp6"]), (DGRAM, ["/proc/net/udp", "/proc/net/udp6"])];
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
    /// Bytes that can be read.
    readable: u32,
}

fn look(seen: &Seen, from: &Capturing<'_>) -> Result<Asked, Trouble> {
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
    ];
    let answers = from.probe.calls(&calls)?;
    let [domain, kind, protocol, local, remote, info, only, inq] = &answers[..] else {
        unreachable!("as many answers as calls")
    };
    let family = value(domain);
    let (mut options, filtered) = socket::options(fd, &OPTIONS, from)?;
    if family == AF_INET6 {
        options.push((IPPROTO_IPV6, IPV6_V6ONLY, Blob(word(only, 0).to_ne_bytes().to_vec())));
    }
    let is_stream = value(kind) == STREAM && info.result.is_ok();
    let state = if is_stream { written(info).first().copied().unwrap_or(TCP_CLOSE) } else { TCP_CLOSE };
    let socket = InetSocket {
        family,
        socket_type: value(kind),
        protocol: value(protocol),
        flags: seen.flags(),
        local: address(local),
        remote: address(remote),
        backlog: (state == TCP_LISTEN).then(|| word(info, MAY_WAIT_AT)),
        options,
        // One that has ended is readable: its end is.
        connected: state != TCP_LISTEN && (state != TCP_CLOSE || is_stream && from.probe.ready(fd)? & POLLIN != 0),
        waiting: Blob(Vec::new()),
    };
    let wait = if state == TCP_LISTEN { word(info, WAIT_AT) } else { 0 };
    Ok(Asked { socket, state, wait, filtered, readable: value(inq) as u32 })
}

/// Whether this host is in any group of multicast but that of all hosts, 224.0.0.1 (/proc/net/igmp): which sockets are in one is
/// told to nobody.
fn has_groups(from: &Capturing<'_>) -> bool {
    let is_group = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()) && word != "010000E0";
    let groups = |line: &str| line.starts_with("\t\t") && line.split_ascii_whitespace().next().is_some_and(is_group);
    from.probe.host_text("/proc/net/igmp").is_ok_and(|text| text.lines().any(groups))
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
        seen.file_type() == S_IFSOCK && seen.link.0.starts_with(b"socket:[") && !seen.names_only()
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        if !Self::knows(seen) {
            return Ok(false);
        }
        let answers = from.probe.calls(&[ask(seen.fd, SOL_SOCKET, SO_DOMAIN, 4)])?;
        Ok([AF_INET, AF_INET6].contains(&value(&answers[0])))
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let Asked { mut socket, state, wait, filtered, readable } = look(seen, from)?;
        let mut refusals = common_refusals(seen);
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        let what = || socket.remote().map_or("somebody".to_owned(), |whom| whom.to_string());
        let lives = socket.connected && state != TCP_CLOSE;
        if lives && is_within(seen, &socket, from)? {
            refuse(
                "both ends of its connection are in the tree",
                "this is not supported yet: let the program close it",
            );
        } else if lives && from.keep.tcp == Tcp::Refuse {
            let why = format!("it is a TCP connection with {}", what());
            refuse(&why, "use --tcp reset: thawed, the program finds it reset, as by a failure of the network");
        }
        if !socket.is_known() {
            refuse(&format!("its protocol, {}, is not supported yet", socket.protocol), "let the program close it");
        }
        if filtered {
            refuse(
                "what comes to it is filtered (SO_ATTACH_FILTER)",
                "let the program close it; this is not supported yet",
            );
        }
        if let Some(holder) = from.probe.other_holders(&seen.link.0)?.first() {
            refuse(&format!("process {holder}, outside of the tree, has it too"), "end that process first");
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let told = format!("fd {} ({})", seen.fd, seen.link);
        let has_groups = || socket.socket_type == DGRAM && socket.local.is_some() && has_groups(from);
        let lost = match () {
            _ if lives => Some(format!("its TCP connection with {} is reset when it is thawed", what())),
            // As it was.
            _ if socket.connected => None,
            _ if readable != 0 && state != TCP_LISTEN => Some("datagrams that wait in it are lost".into()),
            _ if has_groups() => Some("if it is in a group of multicast, it is in none when it is thawed".into()),
            _ if wait != 0 => Some(format!("{wait} connections that nobody has accepted yet are lost")),
            _ => None,
        };
        if let Some(why) = lost {
            from.note(told, why);
        }
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
        socket::plan(&self.options, Self::NAME, descr, to);
        if !self.connected {
            self.give_address(descr, to);
        }
        let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.flags & !flags::ACCMODE).into()];
        to.to.on_descr(Moment::Arm, Self::NAME, descr, Sys::Fcntl, args, Expect::Success);
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
            call(descr, Sys::Bind, given(local), Expect::Success, to);
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
        let Some(local) = self.local().filter(|_| !self.connected) else { return };
        let told = &to.to.host.told;
        let lowest = told.get(UNPRIVILEGED).and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        let is_set = |option: u64| socket::is_set(&self.options, SOL_SOCKET, option);
        let (reuses, shares) = (is_set(SO_REUSEADDR), is_set(SO_REUSEPORT));
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
        let ended = |other: &proc::InetLine| meets(other) && other.state == TCP_TIME_WAIT;
        if is_taken {
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
    let bound = || model.inet_sockets().filter(|s| s.local.is_some() && !s.connected);
    let mut all: Vec<String> = bound().flat_map(texts).map(|text| (*text).to_owned()).collect();
    all.extend(bound().next().map(|_| UNPRIVILEGED.to_owned()));
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
