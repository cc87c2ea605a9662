//! Sockets of the family AF_PACKET (packet(7)), which see whole packets of interfaces.
//!
//! - seen as    `socket:[inode]`, and what sock_diag(7) tells of it; `getsockopt`
//! - captured   type and protocol, interface, memberships and fanout group, options and filter; rings, of which no frame was used yet
//! - recreated  `socket`, `setsockopt`, `bind`: interfaces are found by their names; `mmap` of its rings to where they were
//! - refused    one by whose rings (PACKET_RX_RING, PACKET_TX_RING) packets have passed: where in them kernel and program are nobody
//!   tells, and only packets move it; rings of which a process has mapped a part, or that it has closed but for the memory; one whose
//!   interface is gone, or whose fanout group is led by a program; one that a process outside has too; a filter in eBPF; by the thaw,
//!   where an interface is not there, and, as by the freeze of who ends what he could not thaw, without CAP_NET_RAW
//! - not kept   packets that wait: told. Counts of packets (PACKET_STATISTICS). Where the kernel is in a ring of which the program has made
//!   all memory zeroes again

use super::socket::{self, Settings, ask, word};
use super::{Kind, Seen};
use crate::mm::area::{self, Area, Backing, refuse as refuse_area};
use crate::mm::huge::is_none;
use crate::{At, Blob, Capturing, Description, Model, Planning, Resource, Text, Trouble};
use abi::consts::cap::CAP_NET_RAW;
use abi::consts::poll::POLLIN;
use abi::consts::socket::{
    AF_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_COPY_THRESH, PACKET_FANOUT, PACKET_RX_RING, PACKET_VERSION, SOCK_NONBLOCK,
    SOCK_PACKET, SOL_PACKET,
};
use abi::{Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Descr, Expect, Moment, Pid, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct PacketSocket {
    /// SOCK_RAW, SOCK_DGRAM or SOCK_PACKET (socket(2)).
    #[n(0)]
    pub socket_type: u8,
    /// Packets of which protocol it gets (linux/if_ether.h); 0: of none.
    #[n(1)]
    pub protocol: u16,
    /// Status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// The interface to which it is bound.
    #[n(3)]
    pub interface: Option<Text>,
    /// What else its interfaces are to take for it.
    #[n(4)]
    pub memberships: Vec<Membership>,
    /// Its fanout group, as `setsockopt` takes it.
    #[n(5)]
    pub fanout: Option<u32>,
    /// From which length on packets are copied whole (PACKET_COPY_THRESH).
    #[n(6)]
    pub copies: u32,
    /// Its options.
    #[n(7)]
    pub settings: Settings,
    /// Its rings: PACKET_RX_RING or PACKET_TX_RING, and `struct tpacket_req3` (linux/if_packet.h).
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rings: Vec<(u64, Blob)>,
    /// Of one with rings: its inode number, by which areas that show them know it.
    #[n(9)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "is_none")]
    pub socket: u64,
}

/// Packets that an interface takes for it: the interface, PACKET_MR_ and an address.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Membership {
    /// The interface.
    #[n(0)]
    pub interface: Text,
    /// PACKET_MR_PROMISC and so on (packet(7)).
    #[n(1)]
    pub sort: u16,
    /// The hardware address that is meant, if one is.
    #[n(2)]
    pub address: Blob,
}

/// Groups of fanout in which a program chooses, of which nobody is told (PACKET_FANOUT_CBPF, _EBPF); and the flag that the kernel is to
/// choose the number of a group (linux/if_packet.h).
const BY_PROGRAM: [u32; 2] = [6, 7];
const UNIQUE_ID: u32 = 0x2000 << 16;
/// `struct sockaddr_ll`, and `struct sockaddr`, which has a name.
const SOCKADDR: usize = 20;
const SOCKADDR_PKT: usize = 16;
/// The longest address in a `struct packet_mreq_max`.
const ADDRESS: usize = 32;

/// The text that tells the number of an interface.
pub(super) fn number_of(interface: &Text) -> String {
    format!("/sys/class/net/{interface}/ifindex")
}

/// The name of an interface, by its number.
fn interface(index: u32, from: &Capturing<'_>) -> Result<Option<Text>, Trouble> {
    let text = from.probe.host_text("/proc/net/dev")?;
    let names = text.lines().filter_map(|line| Some(Text(line.split_once(':')?.0.trim().as_bytes().to_vec())));
    let is_it =
        |name: &Text| from.probe.host_text(&number_of(name)).is_ok_and(|number| number.trim().parse() == Ok(index));
    Ok(names.into_iter().find(is_it))
}

/// What a survey has to read for the sockets of a tree.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let sockets = model.descriptions.values().filter_map(|d| match d {
        Description::PacketSocket(socket) => Some(socket),
        _ => None,
    });
    sockets.flat_map(PacketSocket::interfaces).map(number_of).collect()
}

fn number(asked: &[u8], nth: usize) -> u64 {
    asked.get(4 * nth..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b).into())
}

/// Of rings as they were asked for, the bytes of their memory: each has so many blocks of such a size.
fn length<'a>(asked: impl Iterator<Item = &'a Vec<u8>>) -> u64 {
    asked.fold(0, |sum, asked| sum.saturating_add(number(asked, 0) * number(asked, 1)))
}

/// Whether no frame of its rings, of which one stands behind the other in memory, was ever used: then kernel and program are at the
/// first one. Who gives a frame back says so in its first word, and lengths and times stay. In the newest kind of
/// ring the kernel opens the first block, and numbers it, before anything comes (net/packet/af_packet.c, `prb_open_block`).
fn are_new(fd: u32, rings: &[(u64, Vec<u8>)], from: &Capturing<'_>) -> Result<bool, Trouble> {
    const TPACKET_V3: u32 = 2;
    const HEAD: u32 = 48;
    /// When it was opened.
    const TIME: std::ops::Range<usize> = 32..40;
    let Some((_, asked)) = rings.first() else { return Ok(true) };
    let version = word(&from.probe.calls(&[ask(fd, SOL_PACKET, PACKET_VERSION, 4)])?[0], 0);
    let len = length(rings.iter().map(|(_, asked)| asked));
    let (mut first, rest_is_new) = from.probe.look_into(fd, HEAD as usize, len)?;
    let mut new = Vec::new();
    if version == TPACKET_V3 && rings[0].0 == PACKET_RX_RING {
        let own = HEAD + number(asked, 5).next_multiple_of(8) as u32;
        new.extend([version, HEAD, 0, 0, own, own, 1, 0].map(u32::to_ne_bytes).concat());
        first[TIME].fill(0);
    }
    new.resize(HEAD as usize, 0);
    Ok(rest_is_new && first == new)
}

/// The socket whose rings an area shows.
pub(crate) fn shown_by(area: &proc::Area, from: &Capturing<'_>) -> Result<Backing, Trouble> {
    let all = from.probe.packet_sockets()?;
    let told = all.iter().find(|told| u64::from(told.inode) == area.inode && from.probe.is_in_tree(&area.name));
    let len = told.map_or(0, |told| length(told.rings.iter().map(|(_, asked)| asked)));
    if area.end - area.start == len {
        return Ok(Backing::Socket { socket: area.inode });
    }
    let why = "it is memory of a socket that nobody in the tree has, or a part of that, or of no packets";
    Err(refuse_area(area, why, "let the program unmap it").into())
}

/// An area that shows the rings of a socket.
pub(crate) fn map(area: &Area, socket: u64, protection: u64, pid: Pid, to: &mut Planning<'_>) {
    let of = to.model.descriptions.iter().find(|(_, d)| shows(d, socket, area));
    let of = of.map(|(id, _)| (Descr(*id), 0));
    area::map(area, protection, of, pid, to);
}

/// Whether what an area shows are the rings of this.
pub(crate) fn shows(description: &Description, socket: u64, area: &Area) -> bool {
    let Description::PacketSocket(it) = description else { return false };
    it.socket == socket && length(it.rings.iter().map(|(_, Blob(asked))| asked)) == area.len()
}

/// What is said to who may not make one.
const RIGHT: &str = "only root, or who has CAP_NET_RAW, may have one";

impl Resource for PacketSocket {
    const NAME: &'static str = "packet-socket";
}

impl Kind for PacketSocket {
    fn knows(seen: &Seen) -> bool {
        socket::is_socket(seen)
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        socket::is_of(&[AF_PACKET], seen, from)
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let all = from.probe.packet_sockets()?;
        let Some(told) = all.into_iter().find(|told| u64::from(told.inode) == seen.stat.ino) else {
            return Err(seen.refuse("it is in another network namespace", "this is not supported yet").into());
        };
        let of = (AF_PACKET, told.kind.into(), 0);
        let (settings, filtered) = Settings::capture(seen.fd, of, from)?;
        let fanout = word(&from.probe.calls(&[ask(seen.fd, SOL_PACKET, PACKET_FANOUT, 4)])?[0], 0);
        let fanout = told.has_fanout.then_some(fanout & !UNIQUE_ID);
        let mut refusals = socket::ill_kept(seen, filtered, from)?;
        let is_new = are_new(seen.fd, &told.rings, from)?;
        let mut refuse = |why: &str, remedy: &str| refusals.push(seen.refuse(why, remedy));
        if !is_new {
            let why = "packets have passed by its ring (PACKET_RX_RING, PACKET_TX_RING), and nobody tells where in it the kernel is";
            refuse(why, "freeze it before any have, or let the program close it");
        }
        if fanout.is_some_and(|group| BY_PROGRAM.contains(&(group >> 16 & 0xff))) {
            refuse("a program chooses who gets what (PACKET_FANOUT_DATA)", "let the program close it");
        }
        let bound = if told.interface == 0 { None } else { interface(told.interface, from)? };
        let mut memberships = Vec::new();
        for (index, sort, address) in &told.memberships {
            let interface = interface(*index, from)?.map(|interface| Membership {
                interface,
                sort: *sort,
                address: Blob(address.clone()),
            });
            memberships.push(interface);
        }
        if told.interface != 0 && bound.is_none() || memberships.contains(&None) {
            refuse("its interface is gone", "let the program close it");
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        if from.probe.ready(seen.fd)? & POLLIN != 0 {
            from.note(seen.title(), "packets that wait in it are lost");
        }
        if !from.probe.is_able(CAP_NET_RAW) {
            from.note_beyond(seen.title(), RIGHT);
        }
        Ok(PacketSocket {
            socket_type: told.kind,
            protocol: told.protocol,
            flags: seen.flags(),
            interface: bound,
            memberships: memberships.into_iter().flatten().collect(),
            fanout,
            copies: told.copies,
            settings,
            socket: if told.rings.is_empty() { 0 } else { seen.stat.ino },
            rings: told.rings.into_iter().map(|(option, asked)| (option, Blob(asked))).collect(),
        })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        const NAME: &str = PacketSocket::NAME;
        self.check(to);
        let is_old = u64::from(self.socket_type) == SOCK_PACKET;
        // It gets nothing before it is bound, and the old kind has its protocol by then.
        let protocol = if is_old { self.protocol.to_be() } else { 0 };
        let kind = u64::from(self.socket_type) | SOCK_NONBLOCK;
        to.to.make(NAME, descr, Sys::Socket, vec![AF_PACKET.into(), kind.into(), u64::from(protocol).into()]);
        self.settings.plan_at([Moment::Make; 2], NAME, descr, to);
        self.settings.plan_room(NAME, descr, 0, to);
        let set = |option, value: Vec<u8>, to: &mut Planning<'_>| {
            socket::set(NAME, descr, (SOL_PACKET, option), value, Expect::Success, Moment::Make, to);
        };
        if self.copies != 0 {
            set(PACKET_COPY_THRESH, self.copies.to_ne_bytes().to_vec(), to);
        }
        // The kind of a ring (PACKET_VERSION) was set with the options, or here it fails.
        for (option, Blob(asked)) in &self.rings {
            set(*option, asked.clone(), to);
        }
        if let Some(address) = self.address(is_old, to) {
            let len = address.len() as u64;
            let args = vec![Value::Descr(descr), Value::Bytes(address), len.into()];
            to.to.on_descr(Moment::Make, NAME, descr, Sys::Bind, args, Expect::Success);
        }
        for it in &self.memberships {
            let address = &it.address.0[..it.address.0.len().min(ADDRESS)];
            let head = [it.sort.to_ne_bytes(), (address.len() as u16).to_ne_bytes()].concat();
            let gap = vec![0; ADDRESS - address.len()];
            let request = [&index(&it.interface, to).to_ne_bytes()[..], &head, address, &gap].concat();
            set(PACKET_ADD_MEMBERSHIP, request, to);
        }
        if let Some(group) = self.fanout {
            set(PACKET_FANOUT, group.to_ne_bytes().to_vec(), to);
        }
        socket::set_flags(NAME, descr, self.flags, to);
    }
}

/// The number that an interface has here.
fn index(interface: &Text, to: &Planning<'_>) -> u32 {
    to.to.host.told.get(&number_of(interface)).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl PacketSocket {
    fn interfaces(&self) -> impl Iterator<Item = &Text> {
        self.interface.iter().chain(self.memberships.iter().map(|it| &it.interface))
    }

    /// Whether it can be made here.
    fn check(&self, to: &mut Planning<'_>) {
        if !to.to.host.has(CAP_NET_RAW) {
            to.to.refuse(Refusal::new("packet socket", RIGHT, "thaw it as root"));
        }
        let absent: Vec<_> = self.interfaces().filter(|it| index(it, to) == 0).collect();
        for interface in absent {
            let what = format!("interface {interface}");
            to.to.refuse(Refusal::new(what, "packets of it are waited for, and it is not here", "make it (ip link)"));
        }
    }

    /// To what it is bound: `struct sockaddr_ll`, or a `struct sockaddr` with a name.
    fn address(&self, is_old: bool, to: &Planning<'_>) -> Option<Vec<u8>> {
        let mut bytes = (AF_PACKET as u16).to_ne_bytes().to_vec();
        let len = match (&self.interface, is_old) {
            (None, true) => return None,
            (None, false) if self.protocol == 0 => return None,
            (Some(name), true) => {
                bytes.extend(&name.0);
                SOCKADDR_PKT
            }
            (bound, false) => {
                bytes.extend(self.protocol.to_be_bytes());
                bytes.extend(bound.as_ref().map_or(0, |name| index(name, to)).to_ne_bytes());
                SOCKADDR
            }
        };
        bytes.resize(len, 0);
        Some(bytes)
    }
}

impl fmt::Display for PacketSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet, protocol {:#06x}", self.protocol)?;
        self.interface.as_ref().map_or(Ok(()), |name| write!(f, ", of {name}"))
    }
}
