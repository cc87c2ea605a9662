//! What the kernel tells of sockets (sock_diag(7)), in the network namespace of whoever asks; and connections that were reset.

use abi::consts::socket::{SO_PEERCRED, SOCK_CLOEXEC, SOL_SOCKET};
use abi::diag::{self, LocalSocket, LocalSockets, Part};
use abi::sockopt::{SockOpt, SocketKind, Values};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv, send, socket_with,
};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tracee::here;

/// More than any part of an answer (net/netlink/af_netlink.c, `netlink_dump`: 32 KiB).
const ROOM: usize = 1 << 16;

/// In seconds, how long a connection over the loopback may take.
const PATIENCE: i64 = 5;
/// How often the kernel is asked that says that what it tells changed meanwhile.
const TRIES: usize = 20;

/// Every socket of AF_UNIX.
pub(crate) fn local() -> Result<LocalSockets, Fault> {
    let mut tries =
        (0..TRIES).map(|_| local_once()).skip_while(|told| told.as_ref().is_err_and(|e| e.errno == Errno::EINTR));
    let interrupted = || Err(Fault::new("recv", WHOM, Errno::EINTR));
    tries.next().unwrap_or_else(interrupted).map(LocalSockets::of)
}

const WHOM: &str = "local sockets (AF_UNIX) (sock_diag)";

fn local_once() -> Result<Vec<LocalSocket>, Fault> {
    let failed = |call: &str, e: std::io::Error| Fault::new(call, WHOM, e);
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let netlink = socket_with(family, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))
        .map_err(|e| failed("socket", e.into()))?;
    send(&netlink, &diag::local_request(), SendFlags::empty()).map_err(|e| failed("send", e.into()))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; ROOM]);
    loop {
        let (_, length) = recv(&netlink, &mut buffer[..], RecvFlags::TRUNC).map_err(|e| failed("recv", e.into()))?;
        let text = buffer.get(..length).unwrap_or(&buffer);
        match diag::local_part(text).map_err(|e| Fault::new("recv", WHOM, e))? {
            Part::Some(more) => all.extend(more),
            Part::Last(more) => {
                all.extend(more);
                return Ok(all);
            }
        }
    }
}

/// What a new socket, of this family, type and protocol, has of each option; nothing where it has none.
pub(crate) fn new((family, kind, protocol): SocketKind, options: &[SockOpt]) -> Values {
    let socket = here::call(&Call::new(Sys::Socket, [family, kind | SOCK_CLOEXEC, protocol].map(Arg::Int))).result;
    let Ok(number) = socket else { return Vec::new() };
    let ask = |option: &SockOpt| {
        let len = Arg::Bytes((option.len as u32).to_ne_bytes().to_vec());
        let args = [Arg::Int(number), option.level.into(), option.number.into(), Arg::Out(option.len), len];
        let answer = here::call(&Call::new(Sys::Getsockopt, args));
        answer.result.map_or_else(|_| Vec::new(), |_| answer.out.into_iter().next().unwrap_or_default())
    };
    let all = options.iter().map(ask).collect();
    here::close_range(number as u32, number as u32);
    all
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
    let mut asked = [PollFd::new(&listener, PollFlags::IN)];
    if poll(&mut asked, Some(&Timespec { tv_sec: PATIENCE, tv_nsec: 0 }))? == 0 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let (mut theirs, _) = listener.accept()?;
    // What there is no room for is lost, as on the way.
    theirs.set_nonblocking(true)?;
    let _ = theirs.write_all(waiting);
    // To close a connection that may not linger resets it (socket(7), SO_LINGER).
    set_socket_linger(&theirs, Some(Duration::ZERO))?;
    Ok(ours)
}
