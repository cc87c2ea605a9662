//! What the kernel tells of sockets: messages of sock_diag(7), of which /proc has only a part.

use crate::Errno;
use crate::consts::socket::{AF_PACKET, AF_UNIX, PACKET_RX_RING, PACKET_TX_RING};
use std::collections::{BTreeMap, HashMap};

/// A socket of the family AF_UNIX, which is AF_LOCAL, too.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalSocket {
    /// Its inode number, which stands in the links of its descriptors. One that was not accepted yet has none.
    pub inode: u64,
    /// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET (socket(2)).
    pub kind: u8,
    /// [`ESTABLISHED`], [`CLOSE`] or [`LISTEN`].
    pub state: u8,
    /// Its name, as in `sun_path` (unix(7)).
    pub name: Option<Vec<u8>>,
    /// The inode number of the socket that it is connected to; 0: that is closed, or was not accepted yet.
    pub peer: Option<u64>,
    /// Which directions are shut down: 1 to receive, 2 to send.
    pub shutdown: u8,
    /// The inode number of the file that has its name.
    pub file: Option<u64>,
    /// Of one that waits for connections: the other ends of those that were not accepted yet, in their order.
    pub pending: Vec<u64>,
    /// And how many there may be (listen(2)).
    pub backlog: u32,
}

/// States of a socket (include/net/tcp_states.h).
pub const ESTABLISHED: u8 = 1;
/// It is not connected.
pub const CLOSE: u8 = 7;
/// It waits for connections.
pub const LISTEN: u8 = 10;

/// What tells from which socket one was accepted: kind, name, and the file that has it.
type Key = (u8, Vec<u8>, Option<u64>);

/// All of them, and how they belong together.
#[derive(Clone, Debug, Default)]
pub struct LocalSockets {
    all: BTreeMap<u64, LocalSocket>,
    alike: HashMap<Key, Vec<u64>>,
    followers: HashMap<u64, Vec<u64>>,
    waits: HashMap<u64, u64>,
}

impl LocalSockets {
    /// From what was told of each.
    pub fn of(told: impl IntoIterator<Item = LocalSocket>) -> LocalSockets {
        let mut it = LocalSockets::default();
        for socket in told.into_iter().filter(|s| s.inode != 0) {
            if let Some(key) = socket.key() {
                it.alike.entry(key).or_default().push(socket.inode);
            }
            if let Some(peer) = socket.peer.filter(|peer| *peer != 0) {
                it.followers.entry(peer).or_default().push(socket.inode);
            }
            it.waits.extend(socket.pending.iter().map(|client| (*client, socket.inode)));
            it.all.insert(socket.inode, socket);
        }
        it
    }

    /// The one with this inode number.
    pub fn get(&self, inode: u64) -> Option<&LocalSocket> {
        self.all.get(&inode)
    }

    /// Every one, by inode number.
    pub fn iter(&self) -> impl Iterator<Item = &LocalSocket> {
        self.all.values()
    }

    fn some<'a>(&'a self, inodes: Option<&'a Vec<u64>>) -> impl Iterator<Item = &'a LocalSocket> {
        inodes.into_iter().flatten().filter_map(|inode| self.get(*inode))
    }

    /// The others of the same kind that have the same name: one that takes connections, and those that it has taken.
    pub fn namesakes<'a>(&'a self, of: &'a LocalSocket) -> impl Iterator<Item = &'a LocalSocket> {
        self.some(of.key().and_then(|key| self.alike.get(&key))).filter(|s| s.inode != of.inode)
    }

    /// Those that are connected to this one.
    pub fn followers(&self, inode: u64) -> impl Iterator<Item = &LocalSocket> {
        self.some(self.followers.get(&inode))
    }

    /// Who is to accept the connection of this one, which waits for that.
    pub fn waits_for(&self, inode: u64) -> Option<u64> {
        self.waits.get(&inode).copied()
    }
}

impl LocalSocket {
    fn key(&self) -> Option<Key> {
        Some((self.kind, self.name.clone()?, self.file))
    }
}

/// A socket of the family AF_PACKET.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkSocket {
    /// Its inode number.
    pub inode: u32,
    /// SOCK_RAW, SOCK_DGRAM or SOCK_PACKET (socket(2)).
    pub kind: u8,
    /// Packets of which protocol it gets.
    pub protocol: u16,
    /// The number of the interface to which it is bound; 0: to none.
    pub interface: u32,
    /// From which length on packets are copied whole.
    pub copies: u32,
    /// The number of an interface, PACKET_MR_ and an address, as often as it has asked for it.
    pub memberships: Vec<(u32, u16, Vec<u8>)>,
    /// Its rings: the option by which each was asked for, and with what, as `struct tpacket_req3`.
    pub rings: Vec<(u64, Vec<u8>)>,
    /// Whether it is in a fanout group.
    pub has_fanout: bool,
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<T> {
    /// Sockets; more parts follow.
    Some(Vec<T>),
    /// The same, and nothing follows.
    Last(Vec<T>),
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP (netlink(7)).
const DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR: what is told changed meanwhile, and something may be missing.
const CHANGED: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// UDIAG_SHOW_NAME, _VFS, _PEER, _ICONS and _RQLEN (linux/unix_diag.h).
const SHOW: u32 = 0x1f;
const NAME: u16 = 0;
const FILE: u16 = 1;
const PEER: u16 = 2;
const PENDING: u16 = 3;
const QUEUES: u16 = 4;
const SHUTDOWN: u16 = 6;
/// PACKET_SHOW_INFO, _MCLIST, _RING_CFG and _FANOUT (linux/packet_diag.h).
const SHOW_PACKET: u32 = 0xf;
const PACKET_INFO: u16 = 0;
const PACKET_MEMBERSHIPS: u16 = 1;
/// `struct packet_diag_ring` is made up as `struct tpacket_req3` is (linux/if_packet.h).
const TOLD_RX_RING: u16 = 2;
const TOLD_TX_RING: u16 = 3;
const PACKET_GROUP: u16 = 4;
const HEAD: usize = 16;
const BODY: usize = 16;

/// The question for all sockets of AF_UNIX in a network namespace: `struct nlmsghdr`, `struct unix_diag_req`.
pub fn local_request() -> Vec<u8> {
    const LEN: u32 = 40;
    let head = [&LEN.to_ne_bytes()[..], &SOCK_DIAG_BY_FAMILY.to_ne_bytes(), &DUMP.to_ne_bytes(), &[0; 8]].concat();
    let every_state = u32::MAX.to_ne_bytes();
    [&head[..], &[1, 0, 0, 0], &every_state, &[0; 4], &SHOW.to_ne_bytes(), &[0xff; 8]].concat()
}

/// The question for all sockets of AF_PACKET: `struct nlmsghdr`, `struct packet_diag_req`.
pub fn packet_request() -> Vec<u8> {
    const LEN: u32 = 36;
    let head = [&LEN.to_ne_bytes()[..], &SOCK_DIAG_BY_FAMILY.to_ne_bytes(), &DUMP.to_ne_bytes(), &[0; 8]].concat();
    [&head[..], &[AF_PACKET as u8, 0, 0, 0], &[0; 4], &SHOW_PACKET.to_ne_bytes(), &[0xff; 8]].concat()
}

/// What a datagram of the answer tells.
///
/// # Errors
/// What the kernel says: ENOENT where it was built without CONFIG_UNIX_DIAG. EINTR: it is to be asked again. EBADMSG: it is no
/// such answer.
pub fn local_part(bytes: &[u8]) -> Result<Part<LocalSocket>, Errno> {
    part(bytes, socket)
}

/// Likewise, of sockets of AF_PACKET (CONFIG_PACKET_DIAG).
///
/// # Errors
/// As [`local_part`].
pub fn packet_part(bytes: &[u8]) -> Result<Part<LinkSocket>, Errno> {
    part(bytes, packet)
}

/// The question for all sockets of a family and protocol of the internet: `struct nlmsghdr`, `struct inet_diag_req_v2`.
pub fn inet_request(family: u64, protocol: u64) -> Vec<u8> {
    const LEN: u32 = 72;
    let head = [&LEN.to_ne_bytes()[..], &SOCK_DIAG_BY_FAMILY.to_ne_bytes(), &DUMP.to_ne_bytes(), &[0; 8]].concat();
    [&head[..], &[family as u8, protocol as u8, 0, 0], &u32::MAX.to_ne_bytes(), &[0; 48]].concat()
}

/// Of each its inode number, and which directions are shut down: 1 to receive, 2 to send.
///
/// # Errors
/// As [`local_part`].
pub fn inet_part(bytes: &[u8]) -> Result<Part<(u32, u8)>, Errno> {
    part(bytes, inet)
}

/// `struct inet_diag_msg`, and attributes (linux/inet_diag.h).
fn inet(message: &[u8]) -> Result<(u32, u8), Errno> {
    const INODE_AT: usize = 68;
    const INET_SHUTDOWN: u16 = 8;
    let mut shut = 0;
    each_attribute(message, INODE_AT + 4, &mut |kind, value| {
        if kind == INET_SHUTDOWN {
            shut = *value.first().ok_or(Errno::EBADMSG)?;
        }
        Ok(())
    })?;
    Ok((u32_at(message, INODE_AT)?, shut))
}

fn part<T>(mut bytes: &[u8], one: fn(&[u8]) -> Result<T, Errno>) -> Result<Part<T>, Errno> {
    let mut all = Vec::new();
    while bytes.len() >= HEAD {
        let len = u32_at(bytes, 0)? as usize;
        let message = bytes.get(HEAD..len).ok_or(Errno::EBADMSG)?;
        if u16_at(bytes, 6)? & CHANGED != 0 {
            return Err(Errno::EINTR);
        }
        match u16_at(bytes, 4)? {
            NLMSG_DONE => return Ok(Part::Last(all)),
            NLMSG_ERROR => return Err(Errno(-(u32_at(message, 0)? as i32))),
            SOCK_DIAG_BY_FAMILY => all.push(one(message)?),
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(Part::Some(all))
}

/// `struct unix_diag_msg`, and attributes.
fn socket(message: &[u8]) -> Result<LocalSocket, Errno> {
    let mut it = LocalSocket {
        kind: *message.get(1).ok_or(Errno::EBADMSG)?,
        state: *message.get(2).ok_or(Errno::EBADMSG)?,
        inode: u32_at(message, 4)?.into(),
        ..LocalSocket::default()
    };
    each_attribute(message, BODY, &mut |kind, value| {
        match kind {
            NAME => it.name = Some(value.to_vec()),
            FILE => it.file = Some(u32_at(value, 0)?.into()),
            PEER => it.peer = Some(u32_at(value, 0)?.into()),
            PENDING => {
                it.pending = value.chunks_exact(4).map(|n| u32_at(n, 0).map(u64::from)).collect::<Result<_, _>>()?
            }
            QUEUES if it.state == LISTEN => it.backlog = u32_at(value, 4)?,
            SHUTDOWN => it.shutdown = *value.first().ok_or(Errno::EBADMSG)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(it)
}

/// `struct packet_diag_msg`, and attributes (linux/packet_diag.h).
fn packet(message: &[u8]) -> Result<LinkSocket, Errno> {
    const MEMBERSHIP: usize = 44;
    let mut it = LinkSocket {
        kind: *message.get(1).ok_or(Errno::EBADMSG)?,
        protocol: u16_at(message, 2)?,
        inode: u32_at(message, 4)?,
        ..LinkSocket::default()
    };
    each_attribute(message, BODY, &mut |kind, value| {
        match kind {
            PACKET_INFO => (it.interface, it.copies) = (u32_at(value, 0)?, u32_at(value, 12)?),
            PACKET_MEMBERSHIPS => {
                for one in value.chunks_exact(MEMBERSHIP) {
                    let address = one.get(12..12 + usize::from(u16_at(one, 10)?)).ok_or(Errno::EBADMSG)?;
                    let of = (u32_at(one, 0)?, u16_at(one, 8)?, address.to_vec());
                    it.memberships.extend((0..u32_at(one, 4)?).map(|_| of.clone()));
                }
            }
            TOLD_RX_RING => it.rings.push((PACKET_RX_RING, value.to_vec())),
            TOLD_TX_RING => it.rings.push((PACKET_TX_RING, value.to_vec())),
            PACKET_GROUP => it.has_fanout = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(it)
}

/// What is done with the kind of an attribute and its bytes.
type Each<'a> = dyn FnMut(u16, &[u8]) -> Result<(), Errno> + 'a;

/// The attributes that stand behind what each message begins with.
fn each_attribute(message: &[u8], behind: usize, each: &mut Each<'_>) -> Result<(), Errno> {
    let mut rest = message.get(behind..).ok_or(Errno::EBADMSG)?;
    while rest.len() >= 4 {
        let len = u16_at(rest, 0)? as usize;
        each(u16_at(rest, 2)?, rest.get(4..len).ok_or(Errno::EBADMSG)?)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(())
}

/// `struct sockaddr_un` of a name, as far as it counts (unix(7)): without the byte of its kind before, an abstract one.
pub fn local_address(name: &[u8], is_abstract: bool) -> Vec<u8> {
    /// As long as a name may be: one that is as long has no end.
    const LONGEST: usize = 108;
    let (before, behind): (&[u8], &[u8]) = match is_abstract {
        true => (b"\0", b""),
        false => (b"", if name.len() < LONGEST { b"\0" } else { b"" }),
    };
    [&(AF_UNIX as u16).to_ne_bytes()[..], before, name, behind].concat()
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Errno> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| u16::from_ne_bytes(*b)).ok_or(Errno::EBADMSG)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |n: usize| u8::from_str_radix(&hex[n..n + 2], 16).expect("hexadecimal digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// Linux 6.18: an end of a stream that is shut down for sending, a datagram socket with an abstract name, an end whose
    /// other one is closed.
    const TOLD: &str = "300000001400020000000000cf1c000001010100ca881500cc0000000000000008000200cb8815000500060002000000\
                        380000001400020000000000cf1c000001020700cc881500cd000000000000000e000000006372796f2d7465737400000500060000000000\
                        300000001400020000000000cf1c000001050100cd881500ca0000000000000008000200000000000500060003000000";
    const DONE: &str = "140000000300020000000000cf1c000000000000";

    #[test]
    fn what_a_kernel_told() {
        let pair = LocalSocket {
            inode: 0x1588ca,
            kind: 1,
            state: 1,
            name: None,
            peer: Some(0x1588cb),
            shutdown: 2,
            ..LocalSocket::default()
        };
        let name = Some(b"\0cryo-test".to_vec());
        let named = LocalSocket { inode: 0x1588cc, kind: 2, state: 7, name, ..LocalSocket::default() };
        let left = LocalSocket {
            inode: 0x1588cd,
            kind: 5,
            state: 1,
            name: None,
            peer: Some(0),
            shutdown: 3,
            ..LocalSocket::default()
        };
        let all = vec![pair, named, left];
        assert_eq!(local_part(&bytes(TOLD)), Ok(Part::Some(all.clone())));
        assert_eq!(local_part(&bytes(&format!("{TOLD}{DONE}"))), Ok(Part::Last(all)));
    }

    /// Linux 6.18: one with two memberships and a ring, one of a fanout group.
    #[test]
    fn sockets_of_packets() {
        let told = "ac0000001400020000000000cf1c0000\
                    1103030062468a037bab020000000000\
                    1c000000000000000100000008000000000000000000000001000000\
                    5c00010001000000010000000000060001005e000001000000000000000000000000000000000000000000000000\
                    000001000000010000000100000000000000000000000000000000000000000000000000000000000000000000\
                    00\
                    200002000040000001000000001000000400000000000000000000000000\
                    0000";
        let whole = bytes(told);
        let whole = [&(whole.len() as u32).to_ne_bytes()[..], &whole[4..]].concat();
        let Ok(Part::Some(all)) = packet_part(&whole) else { panic!("it is a part") };
        let memberships = vec![(1, 0, vec![1, 0, 0x5e, 0, 0, 1]), (1, 1, vec![])];
        let one = LinkSocket {
            inode: 0x038a_4662,
            kind: 3,
            protocol: 3,
            memberships,
            rings: vec![(PACKET_RX_RING, whole[whole.len() - 28..].to_vec())],
            ..LinkSocket::default()
        };
        assert_eq!(all, [one]);
    }

    #[test]
    fn what_changed_meanwhile_is_asked_again() {
        let mut changed = bytes(TOLD);
        changed[6] |= 0x10;
        assert_eq!(local_part(&changed), Err(Errno::EINTR));
    }

    #[test]
    fn addresses() {
        assert_eq!(local_address(b"/x", false), b"\x01\0/x\0");
        assert_eq!(local_address(b"x", true), b"\x01\0\0x");
        assert_eq!(local_address(&[b'x'; 108], false).len(), 110);
    }

    #[test]
    fn an_error_and_what_is_cut() {
        let error = [&36u32.to_ne_bytes()[..], &[2, 0, 0, 0], &[0; 8], &(-2i32).to_ne_bytes(), &[0; 16]].concat();
        assert_eq!(local_part(&error), Err(Errno::ENOENT));
        let whole = bytes(TOLD);
        for end in (0..whole.len()).filter(|end| ![0, 48, 104].contains(end)) {
            let cut = local_part(&whole[..end]);
            assert!(cut != local_part(&whole), "{end}: {cut:?}");
        }
        assert_eq!(local_request().len(), 40);
    }
}
