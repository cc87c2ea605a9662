//! Things that a process outside of the tree has too: one that was forked, and whose parent has ended since.

use crate::ipc;
use crate::life::Living;
use crate::mem;
use crate::memfds;
use crate::pipes;
use crate::queues;
use crate::sys::{self, fine, must, same, same_bytes};
use crate::timerfds;

pub(crate) fn start(arguments: &[String]) -> Result<Living, String> {
    if arguments.first().is_some_and(|what| what == "fifo") {
        return pipes::named_outside();
    }
    let living = match arguments.first().map(String::as_str) {
        Some("eventfd") => eventfd(),
        Some("timerfd") => timerfds::modes(&[]),
        Some("fixed") => memfds::fixed(),
        Some("epoll") => epoll(),
        Some("memory") => mem::shared_anonymous(&[]),
        Some("queue") => queues::named(&[]),
        Some("segment") => ipc::shared(&[]),
        Some("deleted") => deleted(libc::O_RDWR),
        Some("text") => deleted(libc::O_RDONLY),
        Some("position") => position(),
        other => Err(format!("nothing is shared as {other:?}")),
    }?;
    fork_away(|| ())?;
    Ok(living)
}

fn eventfd() -> Result<Living, String> {
    let fd = pipes::eventfd(1, 0)?;
    Living::reads(move |_| same("readable", &true, &sys::readable(fd)))
}

fn epoll() -> Result<Living, String> {
    let epoll = pipes::epoll_of(&[pipes::eventfd(1, 0)?])?;
    Living::reads(move |_| same("things that are ready", &1, &pipes::ready(epoll)?.len()))
}

/// A file without a name: one that is written, or only read as the text of a here-document is.
fn deleted(access: i32) -> Result<Living, String> {
    fine("write", std::fs::write("deleted", b"some text"))?;
    let fd = sys::open("deleted", access)?;
    fine("remove", std::fs::remove_file("deleted"))?;
    goes_on(fd)
}

fn position() -> Result<Living, String> {
    fine("write", std::fs::write("input", b"some text"))?;
    goes_on(sys::open("input", libc::O_RDONLY)?)
}

/// Five bytes were read; the others are there for each check.
fn goes_on(fd: i32) -> Result<Living, String> {
    same_bytes("what was read first", b"some ", &sys::read_up_to(fd, 5)?)?;
    Living::reads(move |_| {
        same_bytes("what comes next", b"text", &sys::read_up_to(fd, 100)?)?;
        // SAFETY: takes integers.
        must("lseek", unsafe { libc::lseek(fd, 5, libc::SEEK_SET) }).map(drop)
    })
}

/// A grandchild, adopted when its parent ends, has all that we have, until we end. It does something first, which may only be what
/// is allowed after a fork.
pub(crate) fn fork_away(first: impl FnOnce()) -> sys::Outcome {
    // SAFETY: takes nothing; the children call only what may be called after fork, and never return.
    let (us, child) = unsafe { (libc::getpid(), libc::fork()) };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            if libc::fork() == 0 {
                first();
                let pidfd = libc::syscall(libc::SYS_pidfd_open, us, 0) as i32;
                let mut end = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
                libc::poll(&raw mut end, 1, -1);
            }
            libc::_exit(0);
        }
    }
    // SAFETY: no status is asked for.
    must("waitpid", unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }).map(drop)
}
