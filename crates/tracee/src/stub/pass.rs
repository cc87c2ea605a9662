//! A descriptor goes over a socket (unix(7), SCM_RIGHTS).

use crate::{fault, sys};
use abi::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Sends one descriptor (unix(7), SCM_RIGHTS).
pub(super) fn send_fd(link: &UnixStream, fd: &OwnedFd) -> Result<(), Errno> {
    fault::point()?;
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let message = control.message(&mut io);
    // SAFETY: the first control header of a buffer that has room for it and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
    }
    // SAFETY: the message leads to buffers that live until the call returns.
    sys::result(unsafe { libc::sendmsg(link.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } as i64).map(drop)
}

/// Receives one descriptor; `None` at the end of the link.
pub(super) fn receive_fd(link: &UnixStream) -> Option<RawFd> {
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let mut message = control.message(&mut io);
    // SAFETY: the message leads to buffers that live until the call returns.
    let got = unsafe { libc::recvmsg(link.as_raw_fd(), &raw mut message, 0) };
    // SAFETY: recvmsg filled the control buffer in, or left it empty.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (got == 1 && !header.is_null()).then(|| libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    }
}

/// Room for a control message with one descriptor, aligned as its header is.
#[derive(Default)]
struct Control([u64; 4]);

impl Control {
    fn message(&mut self, io: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: zeroes are a valid msghdr: no address, no buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = io;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: computes a number.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
        message
    }
}
