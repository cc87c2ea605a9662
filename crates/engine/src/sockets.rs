//! What the kernel tells of sockets (sock_diag(7), proc_pid_net(5)), in the network namespace of whoever asks; and connections.

use abi::consts::socket::{
    AF_INET, AF_INET6, IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP,
    IPV6_V6ONLY, SO_PEERCRED, SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE, SO_REUSEADDR, SOL_SOCKET, UDP_SEGMENT,
};
use abi::diag::{self, LinkSocket, LocalSocket, LocalSockets, Part};
use abi::{Answer, Arg, Call, Errno, Fault, Sys, proc};
use plan::{Datagram, TcpEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv, send, socket_with,
};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tracee::here;

/// More than any part of an answer (net/netlink/af_netlink.c, `netlink_dump`: 32 KiB).
const ROOM: usize = 1 << 16;

/// In seconds, how long a connection over the loopback may take.
const PATIENCE: i64 = 5;
/// How many connections may wait while ours is made.
const BACKLOG: i32 = 16;
/// How often the kernel is asked that says that what it tells changed meanwhile.
const TRIES: usize = 20;

/// Every socket of AF_UNIX. An answer of several parts goes on where the last one ended by counting (net/unix/diag.c,
/// `unix_diag_dump`): where others come and go meanwhile one is left out, so it is asked for twice.
pub(crate) fn local() -> Result<LocalSockets, Fault> {
    let ask = || all(&diag::local_request(), diag::local_part);
    let twice: BTreeMap<u64, LocalSocket> = abi::gathered(ask()?.into_iter().chain(ask()?).map(|s| (s.inode, s)));
    Ok(LocalSockets::of(twice.into_values()))
}

/// Every socket of AF_PACKET.
pub(crate) fn packets() -> Result<Vec<LinkSocket>, Fault> {
    all(&diag::packet_request(), diag::packet_part)
}

/// Which sockets of both families of the internet are shut down, if the kernel tells it of this protocol.
pub(crate) fn shut_down(protocol: u64) -> HashMap<u32, u8> {
    let of = |family| all(&diag::inet_request(family, protocol), diag::inet_part).unwrap_or_default();
    [AF_INET, AF_INET6].into_iter().flat_map(of).collect()
}

type Parts<T> = fn(&[u8]) -> Result<Part<T>, Errno>;

fn all<T>(request: &[u8], parts: Parts<T>) -> Result<Vec<T>, Fault> {
    let mut tries = (0..TRIES)
        .map(|_| once(request, parts))
        .skip_while(|told| told.as_ref().is_err_and(|e| e.errno == Errno::EINTR));
    tries.next().unwrap_or_else(|| Err(Fault::new("recv", WHOM, Errno::EINTR)))
}

const WHOM: &str = "sockets (sock_diag)";

fn once<T>(request: &[u8], parts: Parts<T>) -> Result<Vec<T>, Fault> {
    let failed = |call: &str, e: std::io::Error| Fault::new(call, WHOM, e);
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let netlink = socket_with(family, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))
        .map_err(|e| failed("socket", e.into()))?;
    send(&netlink, request, SendFlags::empty()).map_err(|e| failed("send", e.into()))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; ROOM]);
    loop {
        let (_, length) = recv(&netlink, &mut buffer[..], RecvFlags::TRUNC).map_err(|e| failed("recv", e.into()))?;
        let text = buffer.get(..length).unwrap_or(&buffer);
        match parts(text).map_err(|e| Fault::new("recv", WHOM, e))? {
            Part::Some(more) => all.extend(more),
            Part::Last(more) => {
                all.extend(more);
                return Ok(all);
            }
        }
    }
}

/// A table of /proc/net.
pub(crate) fn table(path: &str) -> std::io::Result<String> {
    let text = File::open(path).and_then(tracee::procfs::table_of)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The connections of TCP. A kernel may be without the newer family.
pub(crate) fn connections() -> Result<proc::Connections, Fault> {
    let text = |path: &str| match table(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|e| Fault::new("read", path, e)),
    };
    let texts = [text("/proc/net/tcp")?, text("/proc/net/tcp6")?];
    Ok(proc::Connections::of(texts.iter().flat_map(|text| proc::inet(text))))
}

/// The first bytes that wait in a socket, and stay there.
pub(crate) fn peek(socket: &OwnedFd, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut all = vec![0; bytes];
    let (_, length) = recv(socket, &mut all[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    all.truncate(length);
    Ok(all)
}

/// The connection that we have made ourselves. Whoever else was faster finds nobody, as if the program had not been there yet.
pub(crate) fn accept(call: &Call) -> Answer {
    loop {
        let answer = here::call(call);
        match answer.result {
            Ok(number) if maker(number) != Some(std::process::id()) => here::close_range(number as u32, number as u32),
            _ => return answer,
        }
    }
}

/// Who has made a connection (SO_PEERCRED).
fn maker(number: u64) -> Option<u32> {
    let args = [
        Arg::Int(number),
        SOL_SOCKET.into(),
        SO_PEERCRED.into(),
        Arg::Out(12),
        Arg::Bytes(12u32.to_ne_bytes().to_vec()),
    ];
    let answer = here::call(&Call::new(Sys::Getsockopt, args));
    answer.result.ok()?;
    answer.out.first()?.first_chunk().map(|pid| u32::from_ne_bytes(*pid))
}

fn set(socket: &OwnedFd, (level, option): (u64, u64), value: u32) -> Result<u64, Errno> {
    let value = Arg::Bytes(value.to_ne_bytes().to_vec());
    let args = [Arg::Int(socket.as_raw_fd() as u64), level.into(), option.into(), value, 4.into()];
    here::call(&Call::new(Sys::Setsockopt, args)).result
}

/// `bind` or `connect`.
fn with_address(sys: Sys, socket: &OwnedFd, address: &[u8]) -> Result<u64, Errno> {
    let len = Arg::Int(address.len() as u64);
    here::call(&Call::new(sys, [Arg::Int(socket.as_raw_fd() as u64), Arg::Bytes(address.to_vec()), len])).result
}

/// A socket for an end.
fn socket(end: &TcpEnd) -> std::io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::from_raw(end.family as u16), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set(&socket, (SOL_SOCKET, SO_REUSEADDR), 1)?;
    if end.family == AF_INET6 {
        set(&socket, (IPPROTO_IPV6, IPV6_V6ONLY), 0)?;
    }
    if end.room != 0 {
        // The kernel keeps a part of it for itself.
        let room = end.room.saturating_mul(2);
        set(&socket, (SOL_SOCKET, SO_RCVBUFFORCE), room).or_else(|_| set(&socket, (SOL_SOCKET, SO_RCVBUF), room))?;
    }
    Ok(socket)
}

/// Gives it the address of the end; `otherwise`, if that may be any.
fn bind(socket: &OwnedFd, end: &TcpEnd, otherwise: &[u8]) -> Result<u64, Errno> {
    with_address(Sys::Bind, socket, if end.local.is_empty() { otherwise } else { &end.local })
}

/// Likewise, or another port, if that will do.
fn bind_somewhere(socket: &OwnedFd, end: &TcpEnd, otherwise: &[u8]) -> Result<u64, Errno> {
    bind(socket, end, otherwise).or_else(|e| match e {
        Errno::EADDRINUSE if end.may_move && !end.local.is_empty() => {
            with_address(Sys::Bind, socket, &with_port(&end.local, 0))
        }
        other => Err(other),
    })
}

/// Options by which whoever connects is given a certain port, one that others may have to others (ip(7); Linux 6.3). They are as in any
/// new socket once it has that.
const SHARES: [(u64, u64); 2] = [(IPPROTO_IP, IP_LOCAL_PORT_RANGE), (IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)];

fn set_shares(socket: &OwnedFd, port: u16) -> Result<(), Errno> {
    let values = [u32::from(port) << 16 | u32::from(port), u32::from(port != 0)];
    SHARES.into_iter().zip(values).try_for_each(|(option, value)| set(socket, option, value).map(drop))
}

fn connect_to(socket: &OwnedFd, to: &[u8]) -> Result<u64, Errno> {
    match with_address(Sys::Connect, socket, to) {
        Err(Errno::EINPROGRESS) => Ok(0),
        other => other,
    }
}

/// Connects a socket with the address of an end, also where others were given the same port.
fn connect_from(end: &TcpEnd, otherwise: &[u8], to: &[u8]) -> std::io::Result<TcpStream> {
    let socket = socket(end)?;
    let port = proc::sockaddr(&end.local).map_or(0, |own| own.port());
    match bind_somewhere(&socket, end, otherwise) {
        Err(Errno::EADDRINUSE) if port != 0 && set_shares(&socket, port).is_ok() => {
            with_address(Sys::Bind, &socket, &with_port(&end.local, 0))?;
            connect_patiently(&socket, to)?;
            set_shares(&socket, 0)?;
        }
        bound => drop(bound.and_then(|_| connect_to(&socket, to))?),
    }
    let stream = TcpStream::from(socket);
    // Beyond the range of the host it is another one.
    let is_given = port == 0 || end.may_move || stream.local_addr()?.port() == port;
    if is_given { Ok(stream) } else { Err(Errno::EADDRINUSE.into()) }
}

/// For a second after the same connection has ended its port is not given to who asks (net/ipv4/tcp_ipv4.c, `tcp_twsk_unique`). For
/// longer it is not where anybody has got it by bind(2) (net/ipv4/inet_hashtables.c, `__inet_hash_connect`).
fn connect_patiently(socket: &OwnedFd, to: &[u8]) -> Result<u64, Errno> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        match connect_to(socket, to) {
            Err(Errno::EADDRNOTAVAIL) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Err(Errno::EADDRNOTAVAIL) => return Err(Errno::EADDRINUSE),
            other => return other,
        }
    }
}

fn with_port(address: &[u8], port: u16) -> Vec<u8> {
    [&address[..2], &port.to_be_bytes(), &address[4..]].concat()
}

/// The address of an end, with any port: the same as that of the other one, or of the loopback.
fn any_port(end: &TcpEnd, other: &TcpEnd) -> Vec<u8> {
    let mut address = match (&other.local[..], end.family) {
        ([], AF_INET6) => [&[0; 23][..], &[1], &[0; 4]].concat(),
        ([], _) => [&[0; 4][..], &Ipv4Addr::LOCALHOST.octets(), &[0; 8]].concat(),
        (local, _) => local.to_vec(),
    };
    address[..2].copy_from_slice(&(end.family as u16).to_ne_bytes());
    with_port(&address, 0)
}

/// Sends a message to a socket of ours, from an address; that of a socket of ours, if `by` is one. It goes to nobody else: to the
/// socket's own address, or to the loopback, if it takes what comes to any.
pub(crate) fn send_to(number: u64, by: Option<u64>, one: &Datagram) -> Result<u64, Errno> {
    /// `struct sockaddr_in6`.
    const ROOM: u32 = 28;
    let len = Arg::Bytes(ROOM.to_ne_bytes().to_vec());
    let from = &one.from[..];
    let asked = here::call(&Call::new(Sys::Getsockname, [Arg::Int(number), Arg::Out(ROOM as usize), len]));
    asked.result?;
    let own = asked.out.into_iter().next().and_then(|own| proc::sockaddr(&own)).ok_or(Errno::EINVAL)?;
    let whom = proc::sockaddr(from).filter(|from| own.port() != 0 && from.port() != 0).ok_or(Errno::EINVAL)?;
    let (is_six, any) = (from.len() > 16, own.ip().is_unspecified());
    let ip = match (own.ip(), whom.ip()) {
        (ip, _) if !any => ip,
        (_, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    let ip = match ip {
        IpAddr::V4(ip) if is_six => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(_) if !is_six => return Err(Errno::EINVAL),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut to = with_port(from, own.port());
    let at = if is_six { 8 } else { 4 };
    to[at..at + ip.len()].copy_from_slice(&ip);
    let ours = if by.is_none() { Some(sender(is_six, protocol_of(number)?, from)?) } else { None };
    let by = by.or(ours.as_ref().map(|ours| ours.as_raw_fd() as u64)).unwrap_or_default();
    let (bytes, len) = (Arg::Bytes(one.message.clone()), Arg::Int(one.message.len() as u64));
    let send = [Arg::Int(by), bytes, len, 0.into(), Arg::Bytes(to), Arg::Int(from.len() as u64)];
    let before = parted(by, one.segment)?;
    let sent = here::call(&Call::new(Sys::Sendto, send)).result;
    if before != one.segment {
        parted(by, before)?;
    }
    sent
}

/// From now on what a socket sends goes as messages of that length (udp(7), UDP_SEGMENT); gives what it was. There is none of that in
/// other protocols.
fn parted(socket: u64, segment: u32) -> Result<u32, Errno> {
    let option = || [Arg::Int(socket), IPPROTO_UDP.into(), UDP_SEGMENT.into()].into_iter();
    let size = Arg::Bytes(4u32.to_ne_bytes().to_vec());
    let asked = here::call(&Call::new(Sys::Getsockopt, option().chain([Arg::Out(4), size])));
    let before = asked.out.first().and_then(|out| out[..].try_into().ok()).map_or(0, u32::from_ne_bytes);
    if before != segment && asked.result.is_ok() {
        let value = [Arg::Bytes(segment.to_ne_bytes().to_vec()), 4.into()];
        here::call(&Call::new(Sys::Setsockopt, option().chain(value))).result?;
    }
    Ok(before)
}

/// UDP or UDP-Lite.
fn protocol_of(socket: u64) -> Result<Option<Protocol>, Errno> {
    let size = Arg::Bytes(4u32.to_ne_bytes().to_vec());
    let asked = here::call(&Call::new(
        Sys::Getsockopt,
        [socket.into(), SOL_SOCKET.into(), SO_PROTOCOL.into(), Arg::Out(4), size],
    ));
    asked.result?;
    let number = asked.out.first().and_then(|out| out[..].try_into().ok()).map_or(0, u32::from_ne_bytes);
    Ok(NonZeroU32::new(number).map(Protocol::from_raw))
}

/// A socket of messages that has an address for a while.
fn sender(is_six: bool, protocol: Option<Protocol>, address: &[u8]) -> Result<OwnedFd, Errno> {
    let (family, flags) =
        (if is_six { AddressFamily::INET6 } else { AddressFamily::INET }, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let socket = socket_with(family, SocketType::DGRAM, flags, protocol).map_err(|e| Errno(e.raw_os_error()))?;
    set(&socket, (SOL_SOCKET, SO_REUSEADDR), 1)?;
    if is_six {
        set(&socket, (IPPROTO_IPV6, IPV6_V6ONLY), 0)?;
    }
    with_address(Sys::Bind, &socket, address)?;
    Ok(socket)
}

fn is_soon(socket: &impl AsFd, what: PollFlags) -> std::io::Result<()> {
    match poll(&mut [PollFd::new(socket, what)], Some(&Timespec { tv_sec: PATIENCE, tv_nsec: 0 }))? {
        0 => Err(std::io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Both ends of a connection, or the one that waits to be accepted by somebody. Whoever else connects in this instant finds nobody.
pub(crate) fn join(from: &TcpEnd, at: Option<&TcpEnd>) -> std::io::Result<Vec<OwnedFd>> {
    let accepts = |end: &TcpEnd| {
        let listener = socket(end)?;
        bind_somewhere(&listener, end, &any_port(end, from))?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok::<_, std::io::Error>(TcpListener::from(listener))
    };
    let listener = at.map(accepts).transpose()?;
    let mut to = from.remote.clone();
    if let (Some(listener), Some(end)) = (&listener, at) {
        let address = if to.is_empty() { any_port(end, from) } else { to };
        to = with_port(&address, listener.local_addr()?.port());
    }
    let ours = connect_from(from, &at.map_or_else(Vec::new, |end| any_port(from, end)), &to)?;
    let own = ours.local_addr()?;
    let mut ends = Vec::new();
    while let Some(listener) = listener.as_ref().filter(|_| ends.is_empty()) {
        is_soon(listener, PollFlags::IN)?;
        let (theirs, whose) = listener.accept()?;
        if (whose.ip().to_canonical(), whose.port()) == (own.ip().to_canonical(), own.port()) {
            theirs.set_nonblocking(true)?;
            ends.push(theirs.into());
        }
    }
    is_soon(&ours, PollFlags::OUT)?;
    ours.take_error()?.map_or(Ok(()), Err)?;
    ends.insert(0, ours.into());
    Ok(ends)
}

/// Closes the last descriptor of a connection without a trace: neither end keeps its address (socket(7), SO_LINGER).
pub(crate) fn cut(socket: OwnedFd) {
    let _ = set_socket_linger(&socket, Some(Duration::ZERO));
}

/// A TCP connection that its other end has reset, after it has sent something: both over the loopback. `is_six`: of AF_INET6.
pub(crate) fn reset(is_six: bool, waiting: &[u8]) -> std::io::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let SocketAddr::V4(address) = listener.local_addr()? else { unreachable!("it was bound to such an address") };
    let family = if is_six { AddressFamily::INET6 } else { AddressFamily::INET };
    let ours = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A loopback that is down does not answer.
    ioctl_fionbio(&ours, true)?;
    let connected = match is_six {
        true => connect(&ours, &SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0)),
        false => connect(&ours, &address),
    };
    if let Err(e) = connected.or_else(|e| if e == rustix::io::Errno::INPROGRESS { Ok(()) } else { Err(e) }) {
        return Err(e.into());
    }
    is_soon(&listener, PollFlags::IN)?;
    let (mut theirs, _) = listener.accept()?;
    // What there is no room for is lost, as on the way.
    theirs.set_nonblocking(true)?;
    let _ = theirs.write_all(waiting);
    // To close a connection that may not linger resets it (socket(7), SO_LINGER).
    set_socket_linger(&theirs, Some(Duration::ZERO))?;
    Ok(ours)
}
