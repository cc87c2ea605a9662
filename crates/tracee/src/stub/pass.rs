//! Descriptors go over a socket (unix(7), SCM_RIGHTS).

use crate::{fault, sys};
use abi::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors that one message takes at most here; the kernel takes 253 (net/core/scm.h, SCM_MAX_FD).
pub(super) const MOST: usize = 64;

/// Sends descriptors, at most [`MOST`] of them, with one byte.
pub(super) fn send_fds(link: &impl AsRawFd, fds: &[OwnedFd]) -> Result<(), Errno> {
    fault::point()?;
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let message = control.message(&mut io, fds.len());
    assert!(fds.len() <= MOST, "there is room for so many");
    // SAFETY: the first control header of a buffer that has room for it and for all of them.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4 * fds.len() as u32) as usize;
        let data = libc::CMSG_DATA(header).cast::<i32>();
        for (n, fd) in fds.iter().enumerate() {
            data.add(n).write_unaligned(fd.as_raw_fd());
        }
    }
    // SAFETY: the message leads to buffers that live until the call returns.
    sys::result(unsafe { libc::sendmsg(link.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } as i64).map(drop)
}

/// Room for the control message that brings so many descriptors.
pub(super) const fn room(count: usize) -> usize {
    HEADER + 8 * count.div_ceil(2)
}

/// The numbers that such a message gave them. It begins with its length.
pub(super) fn received(control: &[u8]) -> Vec<RawFd> {
    let len = control.first_chunk().map_or(0, |len| usize::from_ne_bytes(*len));
    let (numbers, _) = control.get(HEADER..len).unwrap_or_default().as_chunks();
    numbers.iter().map(|n| RawFd::from_ne_bytes(*n)).collect()
}

/// Bytes of a `struct cmsghdr` (cmsg(3)).
const HEADER: usize = 16;

/// Receives one descriptor; `None` at the end of the link.
pub(super) fn receive_fd(link: &UnixStream) -> Option<RawFd> {
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let mut message = control.message(&mut io, 1);
    // SAFETY: the message leads to buffers that live until the call returns.
    let got = unsafe { libc::recvmsg(link.as_raw_fd(), &raw mut message, 0) };
    // SAFETY: recvmsg filled the control buffer in, or left it empty.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (got == 1 && !header.is_null()).then(|| libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    }
}

/// Room for a control message, aligned as its header is.
struct Control([u64; room(MOST) / 8]);

impl Default for Control {
    fn default() -> Control {
        Control([0; room(MOST) / 8])
    }
}

impl Control {
    fn message(&mut self, io: &mut libc::iovec, count: usize) -> libc::msghdr {
        // SAFETY: zeroes are a valid msghdr: no address, no buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = io;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = room(count);
        message
    }
}
