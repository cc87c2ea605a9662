//! Sockets of the family AF_NETLINK (netlink(7)), by which programs talk with the kernel: addresses, routes, devices.
//!
//! - seen as    `socket:[inode]`, and a line of /proc/net/netlink; `getsockopt`, `getsockname`, `getpeername`
//! - captured   type and protocol, port id, groups, to whom it sends, options and filter
//! - recreated  `socket`, `setsockopt`, `bind`, `connect`
//! - refused    answers that wait in it, or are being given: they cannot be sent again, and whoever asked would wait for ever; one that
//!   a process outside has too; one of another network namespace; a filter in eBPF
//! - not kept   messages to its groups that wait: told; by the thaw, a port id that somebody else has, and groups that it may not join.
//!   What the kernel keeps by port ids (rules, queues, who listens), and what groups of generic netlink mean on another kernel: told

use super::socket::{self, Settings, ask, word};
use super::{Kind, Seen};
use crate::task::written;
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::consts::poll::{POLLERR, POLLIN};
use abi::consts::socket::{
    AF_NETLINK, MSG_DONTWAIT, MSG_PEEK, NETLINK_ADD_MEMBERSHIP, NETLINK_LIST_MEMBERSHIPS, SO_PROTOCOL, SO_TYPE,
    SOCK_NONBLOCK, SOL_NETLINK, SOL_SOCKET,
};
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Descr, Expect, Moment, Value};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct NetlinkSocket {
    /// SOCK_RAW or SOCK_DGRAM (socket(2)).
    #[n(0)]
    pub socket_type: u32,
    /// NETLINK_ROUTE and so on (netlink(7)).
    #[n(1)]
    pub protocol: u32,
    /// Status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// Its port id; 0: it has none yet.
    #[n(3)]
    pub port: u32,
    /// The groups whose messages it gets, by their numbers.
    #[n(4)]
    pub groups: Vec<u32>,
    /// The port id and the groups to which it sends; 0 both: to the kernel.
    #[n(5)]
    pub to: (u32, u32),
    /// Its options.
    #[n(6)]
    pub settings: Settings,
}

/// `struct sockaddr_nl` (netlink(7)): family, a gap, port id, groups.
const SOCKADDR: usize = 12;
const PORT_AT: usize = 4;
const GROUPS_AT: usize = 8;
/// Room for a bit of each group.
const GROUPS: usize = 1024;
/// NETLINK_ROUTE, USERSOCK, SOCK_DIAG, XFRM, SELINUX, FIB_LOOKUP, KOBJECT_UEVENT and CRYPTO: of such a socket the kernel knows nothing
/// but what it tells.
const PLAIN: [u32; 8] = [0, 2, 4, 6, 7, 10, 15, 21];

/// A socket as /proc/net/netlink tells of it (net/netlink/af_netlink.c, `netlink_seq_show`): whether it gives an answer in parts, of
/// which not all were made yet.
fn is_answered(text: &str, inode: u64) -> Option<bool> {
    let words = |line: &str| {
        Some((line.split_ascii_whitespace().nth(6)? != "0", line.split_ascii_whitespace().nth(9)?.parse::<u64>().ok()?))
    };
    text.lines().filter_map(words).find(|of| of.1 == inode).map(|of| of.0)
}

fn ask_address(sys: Sys, fd: u32) -> Call {
    let length = Arg::Bytes((SOCKADDR as u32).to_ne_bytes().to_vec());
    Call::new(sys, [Arg::Int(fd.into()), Arg::Out(SOCKADDR), length])
}

/// The groups whose bits are set; they count from 1.
fn groups(answer: &Answer) -> Vec<u32> {
    let bits = written(answer).iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 != 0));
    (1..).zip(bits).filter(|group| group.1 && answer.result.is_ok()).map(|group| group.0).collect()
}

impl Resource for NetlinkSocket {
    const NAME: &'static str = "netlink-socket";
}

impl Kind for NetlinkSocket {
    fn knows(seen: &Seen) -> bool {
        socket::is_socket(seen)
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        socket::is_of(&[AF_NETLINK], seen, from)
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let fd = seen.fd;
        let calls = [
            ask(fd, SOL_SOCKET, SO_TYPE, 4),
            ask(fd, SOL_SOCKET, SO_PROTOCOL, 4),
            ask(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, GROUPS),
            ask_address(Sys::Getsockname, fd),
            ask_address(Sys::Getpeername, fd),
        ];
        let answers = from.probe.calls(&calls)?;
        let [kind, protocol, members, own, to] = &answers[..] else { unreachable!("as many answers as calls") };
        let (socket_type, protocol) = (word(kind, 0), word(protocol, 0));
        let of = (AF_NETLINK, socket_type.into(), protocol.into());
        let (settings, filtered) = Settings::capture(fd, of, from)?;
        let socket = NetlinkSocket {
            socket_type,
            protocol,
            flags: seen.flags(),
            port: word(own, PORT_AT),
            groups: groups(members),
            to: (word(to, PORT_AT), word(to, GROUPS_AT)),
            settings,
        };
        let mut refusals = socket::ill_kept(seen, filtered, from)?;
        refusals.extend(socket.waits(seen, from)?);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        Ok(socket)
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        const NAME: &str = NetlinkSocket::NAME;
        let kind = u64::from(self.socket_type) | SOCK_NONBLOCK;
        to.to.make(NAME, descr, Sys::Socket, vec![AF_NETLINK.into(), kind.into(), u64::from(self.protocol).into()]);
        self.settings.plan_at([Moment::Make; 2], NAME, descr, to);
        self.settings.plan_room(NAME, descr, 0, to);
        let mut address = |sys, (port, groups): (u32, u32), lost| {
            let bytes = [&(AF_NETLINK as u32).to_ne_bytes()[..], &port.to_ne_bytes(), &groups.to_ne_bytes()].concat();
            let args = vec![Value::Descr(descr), Value::Bytes(bytes), (SOCKADDR as u64).into()];
            to.to.on_descr(Moment::Make, NAME, descr, sys, args, Expect::OrTold(lost));
        };
        if self.port != 0 {
            address(Sys::Bind, (self.port, 0), "a netlink socket has another port id: somebody has its own");
        }
        if self.to != (0, 0) {
            address(Sys::Connect, self.to, "a netlink socket sends to the kernel, and no more to whom it did");
        }
        for group in &self.groups {
            let lost = Expect::OrTold("a netlink socket hears less than it did: it could not join a group");
            let (option, group) = ((SOL_NETLINK, NETLINK_ADD_MEMBERSHIP), group.to_ne_bytes().to_vec());
            socket::set(NAME, descr, option, group, lost, Moment::Make, to);
        }
        socket::set_flags(NAME, descr, self.flags, to);
    }
}

impl NetlinkSocket {
    /// Why what waits in it may not be lost; what may be is told.
    fn waits(&self, seen: &Seen, from: &mut Capturing<'_>) -> Result<Option<plan::Refusal>, Trouble> {
        let refuse = |why: &str| Ok(Some(seen.refuse(why, "freeze it when they are read: try again")));
        match is_answered(&from.probe.host_text("/proc/net/netlink")?, seen.stat.ino) {
            Some(false) => {}
            // Nobody is told of it before it has sent something, or was bound.
            None if self.port == 0 => {}
            Some(true) => return refuse("answers of the kernel wait to be read"),
            None => return Ok(Some(seen.refuse("it is in another network namespace", "this is not supported yet"))),
        }
        let ready = from.probe.ready(seen.fd)?;
        let what = seen.title();
        if ready & POLLERR != 0 {
            from.note(&what, "that it has missed messages (ENOBUFS) it is not told when it is thawed");
        }
        if ready & POLLIN != 0 {
            if !self.groups.is_empty() && is_for_all(seen.fd, ready, from)? {
                from.note(&what, "messages that wait in it are lost");
            } else {
                return refuse("answers, or messages to it alone, wait to be read");
            }
        }
        if !PLAIN.contains(&self.protocol) {
            let why = "what it has asked the kernel to do for its port id, it does no more when it is thawed";
            from.note(&what, why);
        }
        Ok(None)
    }
}

/// Whether the first message that waits was sent to a group. To read where there is an error would take that away.
fn is_for_all(fd: u32, ready: u16, from: &Capturing<'_>) -> Result<bool, Trouble> {
    if ready & POLLERR != 0 {
        return Ok(true);
    }
    let message = Arg::Message { data: 1, name: SOCKADDR, control: 0 };
    let peek = Call::new(Sys::Recvmsg, [Arg::Int(fd.into()), message, (MSG_PEEK | MSG_DONTWAIT).into()]);
    let answer = from.probe.calls(&[peek])?.swap_remove(0);
    let groups = answer.out.get(1).and_then(|name| name.get(GROUPS_AT..SOCKADDR));
    Ok(answer.result.is_ok() && groups.is_some_and(|groups| groups != [0; 4]))
}

impl fmt::Display for NetlinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netlink, protocol {}, port id {}", self.protocol, self.port)?;
        self.groups.iter().try_for_each(|group| write!(f, ", group {group}"))
    }
}
