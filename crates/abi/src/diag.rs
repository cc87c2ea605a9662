//! What the kernel tells of sockets: messages of sock_diag(7), of which /proc has only a part.

use crate::Errno;

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

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Sockets; more parts follow.
    Some(Vec<LocalSocket>),
    /// The same, and nothing follows.
    Last(Vec<LocalSocket>),
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP (netlink(7)).
const DUMP: u16 = 0x301;
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
const HEAD: usize = 16;
const BODY: usize = 16;

/// The question for all sockets of AF_UNIX in a network namespace: `struct nlmsghdr`, `struct unix_diag_req`.
pub fn local_request() -> Vec<u8> {
    const LEN: u32 = 40;
    let head = [&LEN.to_ne_bytes()[..], &SOCK_DIAG_BY_FAMILY.to_ne_bytes(), &DUMP.to_ne_bytes(), &[0; 8]].concat();
    let every_state = u32::MAX.to_ne_bytes();
    [&head[..], &[1, 0, 0, 0], &every_state, &[0; 4], &SHOW.to_ne_bytes(), &[0xff; 8]].concat()
}

/// What a datagram of the answer tells.
///
/// # Errors
/// What the kernel says: ENOENT where it was built without CONFIG_UNIX_DIAG. EBADMSG: it is no such answer.
pub fn local_part(mut bytes: &[u8]) -> Result<Part, Errno> {
    let mut all = Vec::new();
    while bytes.len() >= HEAD {
        let len = u32_at(bytes, 0)? as usize;
        let message = bytes.get(HEAD..len).ok_or(Errno::EBADMSG)?;
        match u16_at(bytes, 4)? {
            NLMSG_DONE => return Ok(Part::Last(all)),
            NLMSG_ERROR => return Err(Errno(-(u32_at(message, 0)? as i32))),
            SOCK_DIAG_BY_FAMILY => all.push(socket(message)?),
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
    let mut rest = message.get(BODY..).ok_or(Errno::EBADMSG)?;
    while rest.len() >= 4 {
        let len = u16_at(rest, 0)? as usize;
        let value = rest.get(4..len).ok_or(Errno::EBADMSG)?;
        match u16_at(rest, 2)? {
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
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(it)
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
