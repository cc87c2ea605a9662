//! Groups of multicast that a socket is in (ip(7), ipv6(7), RFC 3678). The kernel tells nobody of which, but of each group that an
//! interface is in one may ask a socket for its filter there: who is not in it has none.

use super::InetSocket;
use crate::fd::packet::number_of;
use crate::fd::socket::{self, word};
use crate::task::written;
use crate::{Blob, Capturing, Planning, Resource, Text, Trouble};
use abi::consts::socket::{
    AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, MCAST_BLOCK_SOURCE, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP,
    MCAST_MSFILTER,
};
use abi::proc::{InetGroup, inet_groups};
use abi::{Answer, Arg, Call, Errno, Sys};
use core::net::IpAddr;
use minicbor::{Decode, Encode};
use plan::{Descr, Expect, Moment};
use serde::{Deserialize, Serialize};

/// One group, on one interface.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Group {
    /// The interface.
    #[n(0)]
    pub interface: Text,
    /// The address of the group: 4 or 16 bytes.
    #[n(1)]
    pub address: Blob,
    /// MCAST_EXCLUDE or MCAST_INCLUDE (linux/in.h): what the sources are.
    #[n(2)]
    pub mode: u32,
    /// Addresses that are left out, or that alone count.
    #[n(3)]
    pub sources: Vec<Blob>,
}

/// The groups of all interfaces.
const GROUPS: [&str; 2] = ["/proc/net/igmp", "/proc/net/igmp6"];
/// MCAST_EXCLUDE: with no sources, all count.
const EXCLUDE: u32 = 0;
/// `struct group_filter` (linux/in.h): where its parts stand, of which the last are as many `struct sockaddr_storage` as it says.
const STORAGE: usize = 128;
const GROUP_AT: usize = 8;
const MODE_AT: usize = GROUP_AT + STORAGE;
const COUNT_AT: usize = MODE_AT + 4;
const SOURCES_AT: usize = COUNT_AT + 4;

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Where the address stands in a `struct sockaddr_in` or `sockaddr_in6`, as long as it is.
fn at(length: usize) -> usize {
    if length == 4 { 4 } else { 8 }
}

fn storage(address: &[u8]) -> Vec<u8> {
    let family = if address.len() == 4 { AF_INET } else { AF_INET6 };
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.resize(at(address.len()), 0);
    bytes.extend(address);
    bytes.resize(STORAGE, 0);
    bytes
}

/// `struct group_req`, which a `struct group_filter` begins with.
fn request(index: u32, address: &[u8]) -> Vec<u8> {
    [&index.to_ne_bytes()[..], &[0; 4], &storage(address)].concat()
}

fn level(address: &[u8]) -> u64 {
    if address.len() == 4 { IPPROTO_IP } else { IPPROTO_IPV6 }
}

/// The filter of a socket in a group, with room for so many sources.
fn ask(fd: u32, index: u32, address: &[u8], room: u32) -> Call {
    let head = [request(index, address), EXCLUDE.to_ne_bytes().to_vec(), room.to_ne_bytes().to_vec()].concat();
    let filter = [head, vec![0; STORAGE * room as usize]].concat();
    let length = Arg::Bytes((filter.len() as u32).to_ne_bytes().to_vec());
    let option = [Arg::Int(fd.into()), level(address).into(), MCAST_MSFILTER.into()];
    Call::new(Sys::Getsockopt, [&option[..], &[Arg::InOut(filter), length]].concat())
}

fn group(of: &InetGroup<'_>, answer: &Answer) -> Group {
    let address = octets(of.address);
    let (at, count) = (at(address.len()), word(answer, COUNT_AT) as usize);
    let sources = written(answer).get(SOURCES_AT..).unwrap_or_default().chunks_exact(STORAGE).take(count);
    let sources = sources.map(|source| Blob(source[at..at + address.len()].to_vec())).collect();
    Group { interface: of.interface.as_bytes().into(), address: Blob(address), mode: word(answer, MODE_AT), sources }
}

/// The groups that a socket is in.
pub(super) fn of(fd: u32, family: u64, from: &Capturing<'_>) -> Result<Vec<Group>, Trouble> {
    let text = |name| match from.probe.text_around(name) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(fault) if fault.errno == Errno::ENOENT => Ok(String::new()),
        Err(fault) => Err(fault),
    };
    let (four, six) = (text("net/igmp")?, if family == AF_INET6 { text("net/igmp6")? } else { String::new() });
    let all = inet_groups(&four, &six);
    let ask = |of: &InetGroup<'_>, room| ask(fd, of.index, &octets(of.address), room);
    let answers = from.probe.calls(&all.iter().map(|of| ask(of, 0)).collect::<Vec<_>>())?;
    let mut groups = Vec::new();
    for (of, answer) in all.iter().zip(&answers).filter(|(_, answer)| answer.result.is_ok()) {
        groups.push(match word(answer, COUNT_AT) {
            0 => group(of, answer),
            room => group(of, &from.probe.calls(&[ask(of, room)])?[0]),
        });
    }
    Ok(groups)
}

/// The texts that tell the numbers of the interfaces: of those that are in groups, in the network namespace of whoever thaws; or
/// else, in that of /sys.
pub(super) fn questions(socket: &InetSocket) -> impl Iterator<Item = String> {
    let all = socket.groups.iter();
    all.flat_map(|group| [GROUPS[0].to_owned(), GROUPS[1].to_owned(), number_of(&group.interface)])
}

impl Group {
    /// The number that its interface has here.
    fn index(&self, to: &Planning<'_>) -> Option<u32> {
        let text = |name: &str| to.to.host.told.get(name).map_or("", String::as_str);
        let there = inet_groups(text(GROUPS[0]), text(GROUPS[1]));
        let known = there.iter().find(|of| of.interface.as_bytes() == self.interface.0).map(|of| of.index);
        known.or_else(|| text(&number_of(&self.interface)).trim().parse().ok())
    }

    /// An interface that is not there, or has no such groups, is told.
    pub(super) fn plan(&self, descr: Descr, to: &mut Planning<'_>) {
        let Some(index) = self.index(to) else {
            to.to.note(format!("a socket is in no group of multicast on {} any more: it is not here", self.interface));
            return;
        };
        let (address, request) = (&self.address.0, request(index, &self.address.0));
        let mut set = |option, value, lost| {
            let lost = Expect::OrTold(lost);
            socket::set(InetSocket::NAME, descr, (level(address), option), value, lost, Moment::Arm, to);
        };
        let all_left = "a socket could not join a group of multicast again";
        if self.mode == EXCLUDE {
            set(MCAST_JOIN_GROUP, request.clone(), all_left);
        }
        let (option, lost) = match self.mode {
            EXCLUDE => (MCAST_BLOCK_SOURCE, "a socket hears a source in a group of multicast that it had shut out"),
            _ => (MCAST_JOIN_SOURCE_GROUP, all_left),
        };
        for source in &self.sources {
            set(option, [&request[..], &storage(&source.0)].concat(), lost);
        }
    }
}
