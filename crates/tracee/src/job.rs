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

fn all() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// The signal mask as it was before [`block_all`].
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

/// Blocks every signal, so that all of them wait until they are asked for, and what is born now begins so.
pub fn block_all() -> Mask {
    let set = all();
    let mut old = std::mem::MaybeUninit::uninit();
    // SAFETY: sigprocmask reads one set and writes one.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, old.as_mut_ptr());
        Mask(old.assume_init())
    }
}

/// Back to the mask of before.
pub fn unblock(mask: Mask) {
    // SAFETY: sigprocmask reads one set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut()) };
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
        let set = all();
        // SAFETY: no siginfo is asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
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
    let mut only = std::mem::MaybeUninit::uninit();
    // SAFETY: a set that is initialised before it is read; the signal is raised in this thread and taken at the unblocking.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), signal);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, only.as_ptr(), std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, only.as_ptr(), std::ptr::null_mut());
    }
}

/// kill(2) of a process, or with a negative id of a group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill reads no memory of ours.
    sys::result(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}
