//! Signals: handlers, masks, alternate stacks, and what is pending.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

/// How often each signal came; written by the handler.
static COUNTS: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];
/// The order of arrival: signal number, sender's value and code.
static LOG: [[AtomicI64; 4]; 64] = [const { [const { AtomicI64::new(0) }; 4] }; 64];
static LOGGED: AtomicUsize = AtomicUsize::new(0);
static STACK_SEEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let place = 0u8;
    STACK_SEEN.store(&raw const place as usize, SeqCst);
    COUNTS[signal as usize].fetch_add(1, SeqCst);
    let at = LOGGED.fetch_add(1, SeqCst) % LOG.len();
    // SAFETY: the kernel gives a siginfo to a handler with SA_SIGINFO, and every code that we send has these fields.
    let (value, code, pid) = unsafe { ((*info).si_value().sival_ptr as i64, (*info).si_code, (*info).si_pid()) };
    for (slot, field) in LOG[at].iter().zip([i64::from(signal), value, i64::from(code), i64::from(pid)]) {
        slot.store(field, SeqCst);
    }
}

pub(crate) fn count(signal: i32) -> usize {
    COUNTS[signal as usize].load(SeqCst)
}

fn action(signal: i32, handler: usize, flags: i32, mask: &libc::sigset_t) -> Outcome {
    let action = libc::sigaction { sa_sigaction: handler, sa_mask: *mask, sa_flags: flags, sa_restorer: None };
    // SAFETY: the handler touches atomics only; the action lives as long as the call.
    must(&format!("sigaction {signal}"), unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })
        .map(drop)
}

fn seen_action(signal: i32) -> Result<(usize, i32, String), String> {
    // SAFETY: zero is a value of the type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one action.
    must("sigaction", unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok((action.sa_sigaction, action.sa_flags, members(&action.sa_mask)))
}

fn members(set: &libc::sigset_t) -> String {
    // SAFETY: the set is initialised and the numbers are those of signals.
    let has = |signal: &i32| unsafe { libc::sigismember(set, *signal) } == 1;
    (1..=64).filter(has).map(|signal| signal.to_string()).collect::<Vec<_>>().join(",")
}

pub(crate) fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset makes any bytes an empty set.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: as above; the numbers are those of signals.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
    }
    set
}

/// Counts a signal; calls restart, except those that never do. Frames of handlers find pages that are there already: two images
/// of the same program have the same.
pub(crate) fn catch(signal: i32) -> Outcome {
    std::hint::black_box([0xa5u8; 1 << 14]);
    action(signal, handler as *const () as usize, libc::SA_SIGINFO | libc::SA_RESTART, &set_of(&[]))
}

/// Counts the ends of children, and is not told of their stops.
pub(crate) fn catch_ends() -> Outcome {
    action(libc::SIGCHLD, handler as *const () as usize, libc::SA_SIGINFO | libc::SA_NOCLDSTOP, &set_of(&[]))
}

pub(crate) fn ignore_children() -> Outcome {
    action(libc::SIGCHLD, libc::SIG_IGN, 0, &set_of(&[]))
}

fn change_mask(how: i32, signals: &[i32]) -> Outcome {
    let set = set_of(signals);
    // SAFETY: the set lives as long as the call.
    must("pthread_sigmask", -unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) }.signum())
        .map(drop)
}

pub(crate) fn is_pending(signal: i32) -> bool {
    let mut set = set_of(&[]);
    // SAFETY: the set is ours.
    unsafe { libc::sigpending(&raw mut set) == 0 && libc::sigismember(&raw const set, signal) == 1 }
}

pub(crate) fn block(signals: &[i32]) -> Outcome {
    change_mask(libc::SIG_BLOCK, signals)
}

pub(crate) fn unblock(signals: &[i32]) -> Outcome {
    change_mask(libc::SIG_UNBLOCK, signals)
}

/// The signals whose action can be set by us: not KILL and STOP, and not the two that the C library keeps for itself.
fn settable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal))
}

pub(crate) fn handlers(_: &[String]) -> Result<Living, String> {
    const FLAGS: [i32; 6] = [
        libc::SA_RESTART,
        libc::SA_NODEFER,
        libc::SA_ONSTACK,
        libc::SA_NOCLDSTOP,
        libc::SA_NOCLDWAIT,
        libc::SA_RESETHAND,
    ];
    for signal in settable() {
        let flag = FLAGS[signal as usize % FLAGS.len()];
        // Every thaw sends SIGWINCH; the read of the next line is to go on after it.
        let flag = if signal == libc::SIGWINCH { libc::SA_RESTART } else { flag };
        action(signal, handler as *const () as usize, libc::SA_SIGINFO | flag, &set_of(&[signal % 31 + 1, 40]))?;
    }
    let expected = settable().map(seen_action).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        let seen = settable().map(seen_action).collect::<Result<Vec<_>, _>>()?;
        for (signal, (expected, seen)) in settable().zip(expected.iter().zip(seen)) {
            same(&format!("action of signal {signal}"), expected, &seen)?;
        }
        works(libc::SIGUSR1)
    })
}

fn works(signal: i32) -> Outcome {
    let before = count(signal);
    // SAFETY: the signal has a handler.
    must("raise", unsafe { libc::raise(signal) })?;
    same("the handler ran", &(before + 1), &count(signal))
}

pub(crate) fn alternate_stack(_: &[String]) -> Result<Living, String> {
    let room = vec![0u8; 64 * 1024].leak();
    let (start, length) = (room.as_mut_ptr() as usize, room.len());
    let stack = libc::stack_t { ss_sp: room.as_mut_ptr().cast(), ss_flags: 0, ss_size: length };
    // SAFETY: the memory is never freed.
    must("sigaltstack", unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    action(libc::SIGUSR1, handler as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK, &set_of(&[]))?;
    Living::reads(move |_| {
        works(libc::SIGUSR1)?;
        let seen = STACK_SEEN.load(SeqCst);
        same("the handler ran on the alternate stack", &true, &(start..start + length).contains(&seen))
    })
}

pub(crate) fn mask(_: &[String]) -> Result<Living, String> {
    block(&[libc::SIGUSR1, libc::SIGTERM, libc::SIGWINCH, 40, 64])?;
    let expected = sys::status("SigBlk")?;
    Living::reads(move |_| same("SigBlk", &expected, &sys::status("SigBlk")?))
}

pub(crate) fn ignored(_: &[String]) -> Result<Living, String> {
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM, libc::SIGCHLD, 50] {
        action(signal, libc::SIG_IGN, 0, &set_of(&[]))?;
    }
    let expected = sys::status("SigIgn")?;
    Living::reads(move |_| {
        same("SigIgn", &expected, &sys::status("SigIgn")?)?;
        // SAFETY: the signal is ignored; were it not, its default action would end us, which the harness sees.
        must("raise", unsafe { libc::raise(libc::SIGTERM) }).map(drop)
    })
}

pub(crate) fn queue(signal: i32, value: usize) -> Outcome {
    let value = libc::sigval { sival_ptr: value as *mut _ };
    // SAFETY: sends to ourselves.
    must("sigqueue", unsafe { libc::sigqueue(libc::getpid(), signal, value) }).map(drop)
}

fn logged() -> Vec<[i64; 3]> {
    let length = LOGGED.load(SeqCst).min(LOG.len());
    LOG[..length].iter().map(|entry| [0, 1, 2].map(|field: usize| entry[field].load(SeqCst))).collect()
}

const REALTIME: i32 = 45;

/// Signals that wait for the whole process: a classic one, and a queue of a realtime one with values in order.
pub(crate) fn pending(_: &[String]) -> Result<Living, String> {
    block(&[libc::SIGUSR1, REALTIME, REALTIME + 1])?;
    [libc::SIGUSR1, REALTIME, REALTIME + 1].into_iter().try_for_each(catch)?;
    queue(libc::SIGUSR1, 0x1234_5678_9abc)?;
    (1..=5).try_for_each(|value| queue(REALTIME, value * 1000))?;
    queue(REALTIME + 1, 7)?;
    // More wait than may from now on.
    let few = libc::rlimit { rlim_cur: 3, rlim_max: 1000 };
    // SAFETY: the kernel reads one structure.
    must("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const few) })?;
    let expected = sys::status("ShdPnd")?;
    let code = i64::from(libc::SI_QUEUE);
    let mut arrivals: Vec<[i64; 3]> = (1..=5).map(|value| [i64::from(REALTIME), value * 1000, code]).collect();
    arrivals.push([i64::from(REALTIME + 1), 7, code]);
    arrivals.push([i64::from(libc::SIGUSR1), 0x1234_5678_9abc, code]);
    Living::reads(move |_| once_only(&expected, "ShdPnd", &arrivals))
}

/// The first check releases the signals; every check looks at what arrived.
fn once_only(expected: &str, line: &str, arrivals: &[[i64; 3]]) -> Outcome {
    if LOGGED.load(SeqCst) == 0 {
        same(line, &expected.to_owned(), &sys::status(line)?)?;
        unblock(&(1..=64).collect::<Vec<_>>())?;
    }
    let (mut seen, mut wanted) = (logged(), arrivals.to_vec());
    let of = |signal: i32, log: &[[i64; 3]]| {
        log.iter().filter(|entry| entry[0] == i64::from(signal)).copied().collect::<Vec<_>>()
    };
    same("order of the queue", &of(REALTIME, &wanted), &of(REALTIME, &seen))?;
    seen.sort_unstable();
    wanted.sort_unstable();
    same("signals that arrived: number, value, code", &wanted, &seen)
}

/// Signals that wait for one thread (`tgkill(2)`), with the sender's pid.
pub(crate) fn pending_thread(_: &[String]) -> Result<Living, String> {
    block(&[libc::SIGUSR2, REALTIME])?;
    [libc::SIGUSR2, REALTIME].into_iter().try_for_each(catch)?;
    // SAFETY: sends to ourselves.
    unsafe {
        let (pid, tid) = (libc::getpid(), libc::gettid());
        must("tgkill", libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR2))?;
        must("tgkill", libc::syscall(libc::SYS_tgkill, pid, tid, REALTIME))?;
    }
    let expected = sys::status("SigPnd")?;
    Living::reads(move |_| {
        if LOGGED.load(SeqCst) == 0 {
            same("SigPnd", &expected, &sys::status("SigPnd")?)?;
            unblock(&[libc::SIGUSR2, REALTIME])?;
        }
        same("each signal once", &[1, 1], &[count(libc::SIGUSR2), count(REALTIME)])?;
        senders()
    })
}

/// Signals that wait and of which the kernel could not note by whom and how they were sent (RLIMIT_SIGPENDING): for the thread, and for the
/// process.
pub(crate) fn pending_untold(_: &[String]) -> Result<Living, String> {
    block(&[libc::SIGUSR1, libc::SIGUSR2, REALTIME])?;
    [libc::SIGUSR1, libc::SIGUSR2, REALTIME].into_iter().try_for_each(catch)?;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 1000 };
    // SAFETY: the kernel reads one structure.
    must("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const none) })?;
    queue(libc::SIGUSR1, 5)?;
    // SAFETY: sends to ourselves.
    must("kill", unsafe { libc::kill(libc::getpid(), REALTIME) })?;
    // SAFETY: sends to ourselves.
    must("tgkill", unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGUSR2) })?;
    let waiting = || Ok::<_, String>([sys::status("SigPnd")?, sys::status("ShdPnd")?]);
    let expected = waiting()?;
    Living::reads(move |_| {
        if LOGGED.load(SeqCst) == 0 {
            same("SigPnd and ShdPnd", &expected, &waiting()?)?;
            unblock(&[libc::SIGUSR1, libc::SIGUSR2, REALTIME])?;
        }
        let mut seen = logged();
        seen.sort_unstable();
        let of_nobody = |signal: i32| [i64::from(signal), 0, i64::from(libc::SI_USER)];
        same("number, value, code", &[libc::SIGUSR1, libc::SIGUSR2, REALTIME].map(of_nobody).to_vec(), &seen)
    })
}

fn senders() -> Outcome {
    let pid = i64::from(std::process::id());
    let length = LOGGED.load(SeqCst).min(LOG.len());
    let seen: Vec<[i64; 2]> =
        LOG[..length].iter().map(|entry| [entry[2].load(SeqCst), entry[3].load(SeqCst)]).collect();
    same("code and pid of the sender", &vec![[i64::from(libc::SI_TKILL), pid]; 2], &seen)
}

/// Nothing of its own: the harness stops it with SIGSTOP, and it must be stopped until SIGCONT comes.
pub(crate) fn stopped(_: &[String]) -> Result<Living, String> {
    catch(libc::SIGCONT)?;
    Living::reads(|_| same("SIGCONT came", &true, &(count(libc::SIGCONT) > 0)))
}
