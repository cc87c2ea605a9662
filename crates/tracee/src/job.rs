//! A thaw in the foreground is a job of its shell: it stands for the program that it brought back. It waits for what
//! becomes of that program and of itself, and stops and ends as the program does.

use crate::sys;
use abi::Errno;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The program ended with this exit status.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// It was stopped by this signal.
    Stopped(i32),
    /// This signal came to us.
    Signal(i32),
}

/// Every signal. Not by sigfillset(3): libc leaves two of them out, which timers of the tree may send.
const ALL: u64 = u64::MAX;
const SETSIZE: usize = 8;

/// The signal mask as it was before [`block_all`].
#[derive(Clone, Copy, Debug)]
pub struct Mask(u64);

/// rt_sigprocmask(2), without libc's idea of which signals may be blocked.
fn mask(how: i32, set: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: the kernel reads one set of eight bytes and writes another.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, SETSIZE) };
    old
}

/// Blocks every signal, so that all of them wait until they are asked for, and what is born now begins so.
pub fn block_all() -> Mask {
    Mask(mask(libc::SIG_SETMASK, ALL))
}

/// Back to the mask of before.
pub fn unblock(before: Mask) {
    mask(libc::SIG_SETMASK, before.0);
}

/// The next event of a child, or a signal to us. Every signal must be blocked.
pub fn next(child: i32) -> Event {
    // A SIGCHLD that is ignored wakes nobody up.
    // SAFETY: sets the default disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    loop {
        if let Some(event) = look(child) {
            return event;
        }
        let (set, none) = (ALL, std::ptr::null::<u8>());
        // SAFETY: the kernel reads one set of eight bytes; no siginfo is asked for, and no time.
        let signal = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, SETSIZE) } as i32;
        if signal > 0 && signal != libc::SIGCHLD {
            return Event::Signal(signal);
        }
    }
}

fn look(child: i32) -> Option<Event> {
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    let r = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    if r != child {
        return None;
    }
    if libc::WIFEXITED(status) {
        Some(Event::Exited(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Some(Event::Killed(libc::WTERMSIG(status)))
    } else {
        Some(Event::Stopped(libc::WSTOPSIG(status)))
    }
}

/// Stops ourselves by that signal, as it would have stopped us by itself; returns when we go on.
pub fn stop_self(signal: i32) {
    let only = 1u64 << (signal - 1);
    // SAFETY: sets the default disposition and sends ourselves a signal, which is taken when it is no longer blocked.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    mask(libc::SIG_UNBLOCK, only);
    mask(libc::SIG_BLOCK, only);
}

/// kill(2) of a process, or with a negative id of a group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill reads no memory of ours.
    sys::result(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}
