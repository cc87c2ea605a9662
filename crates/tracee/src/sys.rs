//! The few system calls that libc has no function for.

use crate::fault;
use abi::{Errno, Fault};
use std::cmp::Ordering;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What a call of libc's `syscall(3)` gave.
pub(crate) fn result(r: i64) -> Result<u64, Errno> {
    if r == -1 { Err(Errno::from(std::io::Error::last_os_error())) } else { Ok(r as u64) }
}

fn owned(r: i64) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    result(r).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// getsid(2): the id of its session (0: of our own), 0 where that is none of our pid namespace; `None` if the process is gone.
pub fn session(pid: i32) -> Option<i32> {
    // SAFETY: getsid takes an integer.
    let session = unsafe { libc::getsid(pid) };
    (session >= 0).then_some(session)
}

/// getpgid(2): the id of its process group (0: of our own), 0 where that is none of our pid namespace; `None` if the process is gone.
pub fn group(pid: i32) -> Option<i32> {
    // SAFETY: getpgid takes an integer.
    let group = unsafe { libc::getpgid(pid) };
    (group >= 0).then_some(group)
}

/// pidfd_open(2) of a process.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Fault> {
    pidfd_open_flags(pid, 0)
}

/// pidfd_open(2) of a thread (PIDFD_THREAD, since Linux 6.9).
pub fn pidfd_open_thread(tid: i32) -> Result<OwnedFd, Fault> {
    pidfd_open_flags(tid, libc::O_EXCL)
}

fn pidfd_open_flags(id: i32, flags: i32) -> Result<OwnedFd, Fault> {
    let call = |e| Fault::new(format!("pidfd_open({id}, {flags:#x})"), id, e);
    fault::point().map_err(call)?;
    // SAFETY: pidfd_open reads no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) }).map_err(call)
}

/// pidfd_getfd(2): a copy of descriptor `fd` of that process.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Errno> {
    fault::point()?;
    // SAFETY: pidfd_getfd reads no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// The id here of the process behind a pidfd (pidfd_open(2), fdinfo).
pub fn pid_of(pidfd: &OwnedFd) -> Result<i32, Fault> {
    let text = crate::procfs::read(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Pid:"));
    let pid = line.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<i32>().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Fault::new("read(fdinfo)", "a newborn", Errno::ESRCH))
}

/// SIGKILL by pidfd, so that no other process of the same id can be meant.
pub fn pidfd_kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: pidfd_send_signal reads no memory of ours when the siginfo is null.
    let r = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0, 0) };
    result(r).map(drop)
}

/// Types of kcmp(2) (linux/kcmp.h): the open file description of a descriptor, the memory, what an epoll instance watches.
const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_SYSVSEM: i32 = 6;
const KCMP_EPOLL_TFD: i32 = 7;

/// Whether two threads run in the same memory (kcmp(2)).
pub fn kcmp_memory(a: i32, b: i32) -> Result<Ordering, Fault> {
    kcmp(KCMP_VM, a, b, 0, 0)
}

/// What two processes may have in common (clone(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// The address space.
    Space,
    /// The table of descriptors.
    Files,
    /// Working directory, root and mask.
    Fs,
    /// The table of signal handlers.
    Actions,
    /// What semaphores get back when they end (semop(2), SEM_UNDO). Those who have none of it have that in common, too.
    Undo,
}

impl Sharing {
    /// kcmp(2) of two threads: `Equal` when they share it, else a lasting order.
    pub fn kcmp(self, a: i32, b: i32) -> Result<Ordering, Fault> {
        let kind = match self {
            Sharing::Space => KCMP_VM,
            Sharing::Files => KCMP_FILES,
            Sharing::Fs => KCMP_FS,
            Sharing::Actions => KCMP_SIGHAND,
            Sharing::Undo => KCMP_SYSVSEM,
        };
        kcmp(kind, a, b, 0, 0)
    }
}

/// The id of the thread of ours that asks.
pub(crate) fn own_tid() -> i32 {
    // The function of libc is one that std refers to weakly: what is linked statically may have none.
    // SAFETY: takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Of these threads, those who have a list of what semaphores get back when they end. We have none of our own any more: to make a thread
/// makes one (clone(2), CLONE_SYSVSEM). `None`: nobody tells.
pub fn with_undo(tids: impl Iterator<Item = i32>) -> Result<Option<Vec<i32>>, Fault> {
    // SAFETY: unshare with a number only; nothing that we have done with semaphores is to be taken back.
    let unshared = unsafe { libc::unshare(libc::CLONE_SYSVSEM) };
    if unshared != 0 {
        return Ok(None);
    }
    let own = own_tid();
    let mut all = Vec::new();
    for tid in tids {
        match Sharing::Undo.kcmp(own, tid) {
            Ok(order) => all.extend(order.is_ne().then_some(tid)),
            // Without CONFIG_SYSVIPC nobody has one.
            Err(fault) if fault.errno == Errno::EOPNOTSUPP => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(Some(all))
}

/// kcmp(2) of two descriptors: `Equal` when they are the same open file description, else a lasting order.
pub fn kcmp_file(a: (i32, RawFd), b: (i32, RawFd)) -> Result<Ordering, Fault> {
    kcmp(KCMP_FILE, a.0, b.0, a.1 as u64, b.1 as u64)
}

/// `struct kcmp_epoll_slot` (linux/kcmp.h): of the watches that the epoll instance `efd` has under the number `tfd`, the one
/// that comes after `toff` others, in the order of its fdinfo (fs/eventpoll.c, `ep_find_tfd`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The descriptor of the instance.
    pub efd: u32,
    /// The number.
    pub tfd: u32,
    /// How many come before.
    pub toff: u32,
}

/// kcmp(2) of the description behind a number of a process, and of what an epoll instance of `pid` watches.
pub fn kcmp_watch(it: (i32, u32), pid: i32, slot: Slot) -> Result<Ordering, Fault> {
    kcmp(KCMP_EPOLL_TFD, it.0, pid, it.1.into(), &raw const slot as u64)
}

/// kcmp(2) with a type that takes numbers, or the address of a [`Slot`].
fn kcmp(kind: i32, pid1: i32, pid2: i32, idx1: u64, idx2: u64) -> Result<Ordering, Fault> {
    let call = |e| Fault::new(format!("kcmp({pid1}, {pid2}, {kind}, {idx1}, {idx2})"), pid1, e);
    fault::point().map_err(call)?;
    // SAFETY: the kinds used here take numbers, or read a slot that their caller holds for the time of the call.
    let r = unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, idx1, idx2) };
    match result(r).map_err(call)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        _ => Err(call(Errno::EINVAL)),
    }
}
