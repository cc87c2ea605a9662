//! Signals that are read from descriptors, and the watches of such descriptors.

use crate::kin;
use crate::life::Living;
use crate::pipes;
use crate::signals;
use crate::sys::{self, Outcome, must, same};

const TAKEN: [i32; 3] = [libc::SIGUSR1, libc::SIGALRM, 40];

fn signalfd(signals: &[i32], flags: i32) -> Result<i32, String> {
    let set = signals::set_of(signals);
    // SAFETY: the set lives as long as the call.
    must("signalfd", unsafe { libc::signalfd(-1, &raw const set, flags) }).map(|fd| fd as i32)
}

/// The number of the next signal, and the value that came with it.
fn next(fd: i32) -> Result<(u32, i32), String> {
    let bytes = sys::read_up_to(fd, 128)?;
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    // struct signalfd_siginfo: ssi_signo comes first, ssi_int at 44.
    word(0).zip(word(44)).map(|(signal, value)| (signal, value as i32)).ok_or_else(|| format!("a signal of {bytes:?}"))
}

/// What fdinfo shows of it.
fn settings(fd: i32) -> Result<String, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let kept = |line: &&str| ["flags", "sigmask"].iter().any(|key| line.starts_with(key));
    Ok(text.lines().filter(kept).collect::<Vec<_>>().join(", "))
}

/// One that takes several signals of which some wait, one that takes all, and one that takes none.
pub(crate) fn modes(_: &[String]) -> Result<Living, String> {
    signals::block(&TAKEN)?;
    let some = signalfd(&TAKEN, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)?;
    let (all, none) = (signalfd(&(1..=64).collect::<Vec<_>>(), 0)?, signalfd(&[], libc::SFD_NONBLOCK)?);
    let expected = [settings(some)?, settings(all)?, settings(none)?];
    let fill = || [(libc::SIGUSR1, 7), (40, 8), (40, 9)].iter().try_for_each(|(s, v)| signals::queue(*s, *v));
    fill()?;
    Living::reads(move |_| {
        same("what fdinfo shows", &expected, &[settings(some)?, settings(all)?, settings(none)?])?;
        same("readable", &[true, true, false], &[some, all, none].map(sys::readable))?;
        let expected = vec![(libc::SIGUSR1 as u32, 7), (40, 8), (40, 9)];
        same("what was read", &expected, &(0..3).map(|_| next(some)).collect::<Result<Vec<_>, _>>()?)?;
        same("one more", &Err(libc::EAGAIN), &sys::read(some, &mut [0; 128]))?;
        fill()
    })
}

/// Sleeps in epoll_wait(2) until an alarm comes out of the descriptor.
fn rings(epoll: i32, fd: i32) -> Outcome {
    let soon = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    let value = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: soon };
    // SAFETY: the value lives as long as the call.
    must("setitimer", unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, std::ptr::null_mut()) })?;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
    // SAFETY: room for two events.
    let count = must("epoll_wait", unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 2, 2000) })?;
    same("events that woke the wait", &1, &count)?;
    same("what rang", &(libc::SIGALRM as u32), &next(fd)?.0)?;
    same("what is ready", &vec![], &pipes::ready(epoll)?)
}

/// Watched: the watch wakes whoever sleeps.
pub(crate) fn watched(_: &[String]) -> Result<Living, String> {
    signals::block(&TAKEN)?;
    let fd = signalfd(&TAKEN, libc::SFD_NONBLOCK)?;
    let epoll = pipes::epoll_of(&[fd])?;
    signals::queue(40, 3)?;
    Living::reads(move |_| {
        same("what is ready", &vec![fd as u64], &pipes::ready(epoll)?)?;
        same("what waited", &(40, 3), &next(fd)?)?;
        rings(epoll, fd)?;
        signals::queue(40, 3)
    })
}

/// Shared with a child: each reads the signals of its own, and the watch is woken by those of the one that added it.
pub(crate) fn child(_: &[String]) -> Result<Living, String> {
    signals::block(&TAKEN)?;
    let fd = signalfd(&TAKEN, libc::SFD_NONBLOCK)?;
    let epoll = pipes::epoll_of(&[fd])?;
    let child = kin::child(|| {
        signals::queue(40, 5)?;
        Ok(move |question: &str| match question {
            "next" => next(fd).and_then(|seen| signals::queue(40, 5).map(|()| format!("{seen:?}"))),
            _ => kin::obey(question),
        })
    })?;
    Living::reads(move |_| {
        same("readable", &false, &sys::readable(fd))?;
        child.says("next", "(40, 5)")?;
        rings(epoll, fd)
    })
}
