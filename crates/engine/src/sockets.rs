//! What the kernel tells of sockets (sock_diag(7)), in the network namespace of whoever asks; and connections that were reset.

use abi::Fault;
use abi::diag::{self, LocalSocket, Part};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv, send, socket_with,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// More than any part of an answer (net/netlink/af_netlink.c, `netlink_dump`: 32 KiB).
const ROOM: usize = 1 << 16;

/// Every socket of AF_UNIX, by its inode number.
pub(crate) fn local() -> Result<BTreeMap<u64, LocalSocket>, Fault> {
    let failed = |call: &str, e: std::io::Error| Fault::new(call, "local sockets (AF_UNIX) (sock_diag)", e);
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let netlink = socket_with(family, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))
        .map_err(|e| failed("socket", e.into()))?;
    send(&netlink, &diag::local_request(), SendFlags::empty()).map_err(|e| failed("send", e.into()))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; ROOM]);
    loop {
        let (_, length) = recv(&netlink, &mut buffer[..], RecvFlags::TRUNC).map_err(|e| failed("recv", e.into()))?;
        let text = buffer.get(..length).unwrap_or(&buffer);
        match diag::local_part(text).map_err(|e| Fault::new("recv", "local sockets (AF_UNIX) (sock_diag)", e))? {
            Part::Some(more) => all.extend(more),
            Part::Last(more) => {
                all.extend(more);
                return Ok(abi::gathered(all.into_iter().filter(|s| s.inode != 0).map(|s| (s.inode, s))));
            }
        }
    }
}

/// A TCP connection that its other end has reset, after it has sent something: both over the loopback. `is_six`: of AF_INET6.
pub(crate) fn reset(is_six: bool, waiting: &[u8]) -> std::io::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let SocketAddr::V4(address) = listener.local_addr()? else { unreachable!("it was bound to such an address") };
    let family = if is_six { AddressFamily::INET6 } else { AddressFamily::INET };
    let ours = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    match is_six {
        true => connect(&ours, &SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0))?,
        false => connect(&ours, &address)?,
    }
    let (mut theirs, _) = listener.accept()?;
    // What there is no room for is lost, as on the way.
    theirs.set_nonblocking(true)?;
    let _ = theirs.write_all(waiting);
    // To close a connection that may not linger resets it (socket(7), SO_LINGER).
    set_socket_linger(&theirs, Some(Duration::ZERO))?;
    Ok(ours)
}
