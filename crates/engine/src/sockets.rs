//! What the kernel tells of sockets (sock_diag(7)), in the network namespace of whoever asks.

use abi::Fault;
use abi::diag::{self, LocalSocket, Part};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::collections::BTreeMap;

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
