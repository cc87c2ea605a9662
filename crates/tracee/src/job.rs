//! A thaw in the foreground is a job of its shell: it stands for the program that it brought back. It waits for what
//! becomes of that program and of itself, and stops and ends as the program does.

use crate::sys;
use abi::Errno;
use abi::consts::sigaction::SI_KERNEL;

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
    /// This signal came from the kernel: the terminal sent it to our whole group.
    Typed(i32),
}

/// The next signal, and the code that says who sent it.
fn await_signal() -> (i32, i32) {
    let (set, none) = (ALL, std::ptr::null::<u8>());
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel reads one set of eight bytes and writes one siginfo; no time is given.
    let r = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), none, SETSIZE) };
    // SAFETY: zeroes are a valid siginfo, and so is what the kernel wrote.
    (r as i32, unsafe { info.assume_init() }.si_code)
}

/// Whether a signal that ends or asks waits for us, so that long work should be given up.
pub fn asked_to_end() -> bool {
    let mut set = 0u64;
    // SAFETY: the kernel writes one set of eight bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, SETSIZE) };
    let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    ends.iter().any(|s| set >> (s - 1) & 1 == 1 && !ignored(*s))
}

/// Whether we were started with this signal ignored, as by nohup(1).
pub fn ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction writes one structure, of which zeroes are a valid value.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// As long as this lives, a file that may not grow any more (setrlimit(2), RLIMIT_FSIZE) is told by the error of the call,
/// and not by SIGXFSZ, which would end us without a word. Whoever is executed meanwhile would inherit it.
pub struct ErrorsOnly(libc::sigaction);

impl ErrorsOnly {
    /// From now on.
    pub fn begin() -> ErrorsOnly {
        let mut before = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: sigaction reads one structure and writes another; zeroes are a valid value of it, with no handler to call.
        unsafe {
            let mut ignore = before.assume_init();
            ignore.sa_sigaction = libc::SIG_IGN;
            libc::sigaction(libc::SIGXFSZ, &raw const ignore, before.as_mut_ptr());
            ErrorsOnly(before.assume_init())
        }
    }
}

impl Drop for ErrorsOnly {
    fn drop(&mut self) {
        // SAFETY: puts back what sigaction itself gave.
        unsafe { libc::sigaction(libc::SIGXFSZ, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// For as long as it lives, we come first, where that is allowed: others wait for us, and what we stop may be what keeps the
/// processors busy.
#[derive(Debug)]
pub struct Hurry(Option<i32>);

impl Hurry {
    /// From now on, for this thread.
    pub fn begin() -> Hurry {
        const FIRST: i32 = -20;
        // SAFETY: getpriority(2) and setpriority(2) take numbers only. The call itself gives 20 less the value (its NOTES).
        let before = 20 - unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) } as i32;
        Hurry(set_nice(FIRST).then_some(before))
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.map(set_nice);
    }
}

fn set_nice(value: i32) -> bool {
    // SAFETY: setpriority(2) takes numbers only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) == 0 }
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
        let (signal, code) = await_signal();
        match code {
            _ if signal <= 0 || signal == libc::SIGCHLD => {}
            SI_KERNEL => return Event::Typed(signal),
            _ => return Event::Signal(signal),
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
    // SAFETY: sets the default disposition, and sends our group a signal, which we take when it is no longer blocked. All of
    // a pipeline that we are a part of stops, as it would without us.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(0, signal);
    }
    mask(libc::SIG_UNBLOCK, only);
    mask(libc::SIG_BLOCK, only);
    forget(libc::SIGCONT);
}

/// Ends ourselves by that signal, without a core dump, as it would have ended us by itself. Returns where that cannot be.
pub fn end_self(signal: i32) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads one rlimit; sets the default disposition, and sends ourselves a signal, which ends us when it is
    // no longer blocked.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
    mask(libc::SIG_UNBLOCK, 1 << (signal - 1));
}

/// Takes a signal that waits, if it does.
fn forget(signal: i32) {
    let (set, at_once) = (1u64 << (signal - 1), [0i64; 2]);
    let none = std::ptr::null::<u8>();
    // SAFETY: the kernel reads one set of eight bytes and one time of sixteen.
    unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, at_once.as_ptr(), SETSIZE) };
}

/// kill(2) of a process, or with a negative id of a group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill reads no memory of ours.
    sys::result(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}
