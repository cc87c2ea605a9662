//! A description that is closed is gone.
//!
//! Whoever lists /proc/PID/fd, as a freeze of another tree does that looks for what is shared with it, has a reference of each
//! description for an instant (fs/proc/fd.c, `proc_readfd_common`). If its last descriptor is closed just then, it goes only when he
//! is done, and until then its other end does not hear of it. So whoever closes here waits for that.

use crate::sys;
use std::time::{Duration, Instant};

/// The mark of a world of which a description is in flight: that one stays when it is closed.
pub(crate) const IN_FLIGHT: &str = "in flight";

/// How long it may take: he who lists may have to wait for a processor.
const PATIENCE: Duration = Duration::from_secs(2);
const KCMP_FILE: i32 = 0;

/// Closes a descriptor, and waits until its description is gone, unless one of these others is of the same.
pub(crate) fn let_go(fd: i32, others: &[i32]) {
    // An instance of epoll(7) has it listed for as long as it is there.
    // SAFETY: takes an integer.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: the event lives as long as the call.
    let is_seen = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } == 0;
    let is_last = !others.iter().any(|other| is_same(fd, *other));
    sys::close(fd);
    let until = Instant::now() + PATIENCE;
    while is_seen && is_last && is_watched(epoll) && Instant::now() < until {
        std::thread::yield_now();
    }
    sys::close(epoll);
}

fn is_same(fd: i32, other: i32) -> bool {
    let us = std::process::id();
    // SAFETY: touches no memory.
    other >= 0 && other != fd && unsafe { libc::syscall(libc::SYS_kcmp, us, us, KCMP_FILE, fd, other) } == 0
}

fn is_watched(epoll: i32) -> bool {
    sys::proc_text(&format!("fdinfo/{epoll}")).is_ok_and(|text| text.contains("tfd:"))
}
