//! Calls in which a program waits: after a freeze they wait for the time that was left, and never return EINTR.
//!
//! The clock is the machine's and runs on while the program is away, so a call of N seconds has taken N seconds plus the
//! time away. A call that starts again from the beginning, or ends at once, is off by more than `SLACK`.

use crate::life::{Away, Living};
use crate::signals;
use crate::sys::{self, Outcome, errno, monotonic, must, same};
use std::cell::RefCell;
use std::rc::Rc;

/// What scheduling on a loaded machine may add, in seconds.
const SLACK: f64 = 1.2;

/// What a waiting call returned, and when.
struct Returned {
    result: i64,
    errno: i32,
    took: f64,
}

/// A specimen that waits once in `call`, which must return `expected` after `seconds`.
fn waits(seconds: f64, expected: (i64, i32), call: impl FnOnce() -> i64 + 'static) -> Result<Living, String> {
    let slot: Rc<RefCell<Option<Returned>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let act = move || *slot.borrow_mut() = Some(timed(call));
    Living::once(act, move |away| {
        judge(seconds, expected, away, seen.borrow().as_ref().expect("the call has returned"))
    })
}

fn timed(call: impl FnOnce() -> i64) -> Returned {
    let began = monotonic();
    let result = call();
    let errno = if result == -1 { errno() } else { 0 };
    Returned { result, errno, took: monotonic() - began }
}

fn judge(seconds: f64, expected: (i64, i32), Away(away): Away, seen: &Returned) -> Outcome {
    same("result and errno of the call", &expected, &(seen.result, seen.errno))?;
    let least = seconds + away;
    let fits = seen.took > least - 0.03 && seen.took < least + SLACK;
    sys::holds(
        &format!("the call took {:.3} s, expected {least:.3} s ({away:.3} s of it away)", seen.took),
        sys::Truth(fits),
    )
}

fn seconds(arguments: &[String]) -> f64 {
    arguments.first().and_then(|text| text.parse().ok()).unwrap_or(3.0)
}

fn timespec(seconds: f64) -> libc::timespec {
    libc::timespec { tv_sec: seconds as i64, tv_nsec: (seconds.fract() * 1e9) as i64 }
}

pub(crate) fn sleep(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    let time = timespec(length);
    // SAFETY: the time lives as long as the call; no remainder is asked for.
    waits(length, (0, 0), move || unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) }.into())
}

/// The form that `sleep(1)` and glibc use: a relative time on a named clock, and a place for the remainder.
pub(crate) fn clock_sleep(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    let (time, mut rest) = (timespec(length), timespec(0.0));
    waits(length, (0, 0), move || {
        // SAFETY: both times live as long as the call.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const time, &raw mut rest) }.into()
    })
}

/// An absolute time is a time of the machine: it comes although the program was away, and is late by at most that.
pub(crate) fn absolute_sleep(arguments: &[String]) -> Result<Living, String> {
    let until = monotonic() + seconds(arguments);
    let time = timespec(until);
    let slot: Rc<RefCell<Option<(i32, f64)>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let act = move || {
        // SAFETY: the time lives as long as the call; an absolute sleep has no remainder.
        let result = unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const time, std::ptr::null_mut())
        };
        *slot.borrow_mut() = Some((result, monotonic()));
    };
    Living::once(act, move |Away(away)| {
        let (result, woke) = seen.borrow().expect("the call has returned");
        same("result of the call", &0, &result)?;
        let fits = woke > until - 0.03 && woke < until + away + SLACK;
        sys::holds(&format!("woke at {woke:.3}, expected {until:.3} or at most {away:.3} s later"), sys::Truth(fits))
    })
}

fn quiet_pipe() -> Result<i32, String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    Ok(ends[0])
}

pub(crate) fn poll(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    let mut entry = libc::pollfd { fd: quiet_pipe()?, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, moved into the closure, which lives as long as the call.
    waits(length, (0, 0), move || unsafe { libc::poll(&raw mut entry, 1, (length * 1000.0) as i32) }.into())
}

pub(crate) fn ppoll(arguments: &[String]) -> Result<Living, String> {
    let (length, fd) = (seconds(arguments), quiet_pipe()?);
    let time = timespec(length);
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mask = signals::set_of(&[libc::SIGUSR2]);
    // SAFETY: entry, time and mask are moved into the closure and live as long as the call.
    waits(length, (0, 0), move || unsafe { libc::ppoll(&raw mut entry, 1, &raw const time, &raw const mask) }.into())
}

pub(crate) fn select(arguments: &[String]) -> Result<Living, String> {
    let (length, fd) = (seconds(arguments), quiet_pipe()?);
    // SAFETY: zero is the empty set, and the descriptor is below FD_SETSIZE.
    let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::FD_SET(fd, &raw mut set) };
    waits(length, (0, 0), move || {
        let mut time = libc::timeval { tv_sec: length as i64, tv_usec: 0 };
        let none = std::ptr::null_mut();
        // SAFETY: set and time are ours and live as long as the call.
        unsafe { libc::select(fd + 1, &raw mut set, none, none, &raw mut time) }.into()
    })
}

pub(crate) fn futex(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    let (time, word) = (timespec(length), 7u32);
    waits(length, (-1, libc::ETIMEDOUT), move || {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: word and time are ours and live as long as the call.
        unsafe { libc::syscall(libc::SYS_futex, &raw const word, operation, 7, &raw const time) }
    })
}

/// A specimen that waits in a call which the kernel ends with EINTR at any stop (signal(7)) and whose time it only reads:
/// all that can be had is that the call is made again, in full length.
fn waits_no_less(seconds: f64, expected: (i64, i32), call: impl FnOnce() -> i64 + 'static) -> Result<Living, String> {
    let slot: Rc<RefCell<Option<Returned>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let act = move || *slot.borrow_mut() = Some(timed(call));
    Living::once(act, move |_| {
        let seen = seen.borrow();
        let seen = seen.as_ref().expect("the call has returned");
        same("result and errno of the call", &expected, &(seen.result, seen.errno))?;
        let text = format!("the call took {:.3} s, expected no less than {seconds:.3} s", seen.took);
        sys::holds(&text, sys::Truth(seen.took > seconds - 0.03))
    })
}

pub(crate) fn sigtimedwait(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    let (time, set) = (timespec(length), signals::set_of(&[libc::SIGUSR2]));
    signals::block(&[libc::SIGUSR2])?;
    waits_no_less(length, (-1, libc::EAGAIN), move || {
        // SAFETY: set and time are moved into the closure and live as long as the call; no siginfo is asked for.
        unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) }.into()
    })
}

pub(crate) fn epoll(arguments: &[String]) -> Result<Living, String> {
    let length = seconds(arguments);
    // SAFETY: takes an integer.
    let fd = must("epoll_create1", unsafe { libc::epoll_create1(0) })? as i32;
    let mut watched = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    // SAFETY: the event lives as long as the call.
    must("epoll_ctl", unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, quiet_pipe()?, &raw mut watched) })?;
    // SAFETY: zero is an event; the kernel writes at most one.
    let mut event = unsafe { std::mem::zeroed() };
    waits(length, (0, 0), move || unsafe_epoll_wait(fd, &mut event, length))
}

fn unsafe_epoll_wait(fd: i32, event: &mut libc::epoll_event, length: f64) -> i64 {
    // SAFETY: room for one event.
    unsafe { libc::epoll_wait(fd, event, 1, (length * 1000.0) as i32) }.into()
}

/// A call that only a signal ends: SIGINT, which the harness types.
fn until_interrupted(call: impl FnOnce() -> i32 + 'static) -> Result<Living, String> {
    signals::catch(libc::SIGINT)?;
    let slot: Rc<RefCell<Option<(i64, i32)>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let act = move || {
        let returned = timed(|| call().into());
        sys::say("woke");
        *slot.borrow_mut() = Some((returned.result, returned.errno));
    };
    Living::once(act, move |_| {
        same("result and errno of the call", &(-1, libc::EINTR), &seen.borrow().expect("the call has returned"))?;
        same("number of SIGINTs handled", &1, &signals::count(libc::SIGINT))
    })
}

pub(crate) fn pause(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes nothing.
    until_interrupted(|| unsafe { libc::pause() })
}

/// Waits with another mask than the thread has: both must survive.
pub(crate) fn sigsuspend(_: &[String]) -> Result<Living, String> {
    signals::block(&[libc::SIGINT, libc::SIGUSR1])?;
    let during = signals::set_of(&[libc::SIGUSR1]);
    // SAFETY: the mask is moved into the closure and lives as long as the call.
    let living = until_interrupted(move || unsafe { libc::sigsuspend(&raw const during) })?;
    let mut check = living.check;
    let expected = sys::status("SigBlk")?;
    Ok(Living {
        check: Box::new(move |away| check(away).and_then(|()| same("SigBlk", &expected, &sys::status("SigBlk")?))),
        ..living
    })
}
