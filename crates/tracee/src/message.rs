//! Messages with descriptors, and with who sent them (unix(7), "Ancillary messages").

use crate::{fault, sys};
use abi::Errno;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The kernel lets no more go with one message (include/net/scm.h, SCM_MAX_FD).
const MOST: usize = 253;
/// Room for the control messages: descriptors, who sent it, a pidfd of that, and a label.
const CONTROL: usize = 2048;
/// The name of who sent it: `struct sockaddr_un`.
const NAME: usize = 110;

/// Process, user and group.
pub type Credentials = (u32, u32, u32);

/// What one look gave.
#[derive(Debug, Default)]
pub struct Peeked {
    /// The bytes, as far as there was room.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub len: usize,
    /// The name of who sent it, with its family.
    pub name: Vec<u8>,
    /// Who sent it, if the socket tells.
    pub credentials: Option<Credentials>,
    /// Our own copies of the descriptors.
    pub rights: Vec<OwnedFd>,
    /// MSG_ flags.
    pub flags: u32,
}

/// The next message, which stays where it is; so many bytes of it.
///
/// # Errors
/// EAGAIN: there is none.
pub fn peek(socket: impl AsFd, room: usize) -> Result<Peeked, Errno> {
    fault::point()?;
    let (mut bytes, mut name, mut control) = (vec![0u8; room], vec![0u8; NAME], vec![0u64; CONTROL / 8]);
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: all zeroes is an empty `msghdr`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut iov, 1);
    (header.msg_name, header.msg_namelen) = (name.as_mut_ptr().cast(), NAME as u32);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), CONTROL);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header leads to buffers of the lengths that it tells, alive until the end of this function.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let len = sys::result(got as i64)? as usize;
    bytes.truncate(len);
    name.truncate(header.msg_namelen as usize);
    let mut it = Peeked { bytes, len, name, credentials: None, rights: Vec::new(), flags: header.msg_flags as u32 };
    // SAFETY: the control messages are such as the kernel has written them, and the buffer is aligned as they are.
    unsafe { it.take(&header) };
    Ok(it)
}

/// How many of so many bytes of a stream are those of whole pieces that stand before one that ends there, or later; 0: none. Where
/// a piece does not go into memory as a whole, the kernel gives what stood before it (net/unix/af_unix.c,
/// `unix_stream_read_generic`).
///
/// # Errors
/// What recvmsg(2) says.
pub fn whole(socket: impl AsFd, len: usize) -> Result<usize, Errno> {
    fault::point()?;
    // Below the lowest address that anybody can map (proc_sys_vm(5), mmap_min_addr).
    const NOWHERE: usize = 8;
    let mut bytes = vec![0u8; len - 1];
    let nowhere = libc::iovec { iov_base: std::ptr::without_provenance_mut(NOWHERE), iov_len: 1 };
    let mut iov = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len - 1 }, nowhere];
    // SAFETY: all zeroes is an empty `msghdr`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    (header.msg_iov, header.msg_iovlen) = (iov.as_mut_ptr(), 2);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the header leads to a buffer of the length that it tells, and to where nothing can be written.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    match sys::result(got as i64) {
        Err(Errno::EFAULT) => Ok(0),
        other => Ok(other? as usize),
    }
}

impl Peeked {
    /// # Safety
    /// The header is one that recvmsg(2) has filled just now.
    unsafe fn take(&mut self, header: &libc::msghdr) {
        /// linux/socket.h.
        const SCM_PIDFD: i32 = 4;
        // SAFETY: each message lies in the buffer (cmsg(3)), and so does its data; the descriptors in it are new ones of ours.
        unsafe {
            let mut at = libc::CMSG_FIRSTHDR(header);
            while let Some(message) = at.as_ref() {
                let data = libc::CMSG_DATA(at);
                let words = (message.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<u32>();
                let word = |n: usize| data.cast::<u32>().add(n).read_unaligned();
                match message.cmsg_type {
                    libc::SCM_CREDENTIALS if words >= 3 => self.credentials = Some((word(0), word(1), word(2))),
                    libc::SCM_RIGHTS => {
                        self.rights.extend((0..words).map(|n| OwnedFd::from_raw_fd(word(n) as i32)));
                    }
                    // That of the sender, which the kernel makes again.
                    SCM_PIDFD if words >= 1 => drop(OwnedFd::from_raw_fd(word(0) as i32)),
                    // A label, which is not told.
                    _ => self.flags |= libc::MSG_CTRUNC as u32,
                }
                at = libc::CMSG_NXTHDR(header, at);
            }
        }
    }
}

/// Sends a message with descriptors, and as that of somebody; to an address, if that is not empty.
///
/// # Errors
/// What sendmsg(2) says; nothing was sent then.
pub fn send(socket: i32, to: &[u8], bytes: &[u8], rights: &[i32], who: Option<Credentials>) -> Result<u64, Errno> {
    fault::point()?;
    assert!(rights.len() <= MOST, "no message has more descriptors");
    let mut control = vec![0u64; CONTROL / 8];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let who = who.map(|(pid, uid, gid)| [pid, uid, gid]);
    let rights: Vec<u32> = rights.iter().map(|fd| *fd as u32).collect();
    let all = [(libc::SCM_RIGHTS, &rights[..]), (libc::SCM_CREDENTIALS, who.as_ref().map_or(&[], |who| &who[..]))];
    // As many descriptors as may go, and who sends them, have room in the buffer of control messages, aligned as they are (cmsg(3)).
    // SAFETY: the header leads to buffers of the lengths that it tells, which live as long as the call.
    let sent = unsafe {
        let mut header: libc::msghdr = zeroed();
        (header.msg_iov, header.msg_iovlen) = (&raw mut iov, 1);
        if !to.is_empty() {
            (header.msg_name, header.msg_namelen) = (to.as_ptr().cast_mut().cast(), to.len() as u32);
        }
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), CONTROL);
        let (mut at, mut len) = (libc::CMSG_FIRSTHDR(&raw const header), 0);
        for (kind, words) in all.into_iter().filter(|(_, words)| !words.is_empty()) {
            let size = size_of_val(words) as u32;
            (*at).cmsg_level = libc::SOL_SOCKET;
            (*at).cmsg_type = kind;
            (*at).cmsg_len = libc::CMSG_LEN(size) as usize;
            words.as_ptr().cast::<u8>().copy_to_nonoverlapping(libc::CMSG_DATA(at), size as usize);
            len += libc::CMSG_SPACE(size) as usize;
            at = control.as_mut_ptr().cast::<u8>().add(len).cast();
        }
        header.msg_controllen = len;
        libc::sendmsg(socket, &raw const header, libc::MSG_NOSIGNAL)
    };
    sys::result(sent as i64)
}
