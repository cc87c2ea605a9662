//! Timers behind descriptors: when they expire, and how often they have.

use crate::kin;
use crate::life::Living;
use crate::pipes;
use crate::sys::{self, Outcome, must, same};
use std::cell::RefCell;
use std::rc::Rc;

const NANOS: i64 = 1_000_000_000;
const RELATIVE: i32 = 0;
const ABSOLUTE: i32 = libc::TFD_TIMER_ABSTIME;
const CANCELLED: i32 = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
/// What a rest may be longer than it was, in seconds: the clocks of a program go on before all of its timers are set.
const LATE: f64 = 0.3;

fn create(clock: i32, flags: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("timerfd_create", unsafe { libc::timerfd_create(clock, flags) }).map(|fd| fd as i32)
}

fn timespec(nanos: i64) -> libc::timespec {
    libc::timespec { tv_sec: nanos / NANOS, tv_nsec: nanos % NANOS }
}

fn set(fd: i32, mode: i32, first: i64, period: i64) -> Outcome {
    let value = libc::itimerspec { it_interval: timespec(period), it_value: timespec(first) };
    // SAFETY: the value lives as long as the call.
    must("timerfd_settime", unsafe { libc::timerfd_settime(fd, mode, &raw const value, std::ptr::null_mut()) })
        .map(drop)
}

/// Seconds that are left.
fn left(fd: i32) -> Result<f64, String> {
    // SAFETY: zero is a value of the type.
    let mut value: libc::itimerspec = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one value.
    must("timerfd_gettime", unsafe { libc::timerfd_gettime(fd, &raw mut value) })?;
    Ok(value.it_value.tv_sec as f64 + value.it_value.tv_nsec as f64 / 1e9)
}

/// How often it has expired, which is read out of it.
fn ticks(fd: i32) -> Result<u64, String> {
    let bytes = sys::read_up_to(fd, 8)?;
    bytes.try_into().map(u64::from_ne_bytes).map_err(|seen| format!("a timer gave {seen:?}"))
}

fn now(clock: i32) -> i64 {
    // SAFETY: zero is a value of the type.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is ours.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * NANOS + time.tv_nsec
}

/// What fdinfo shows of a timer and does not change by itself.
fn settings(fd: i32) -> Result<String, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let kept = |line: &&str| ["flags", "clockid", "settime", "it_interval"].iter().any(|key| line.starts_with(key));
    Ok(text.lines().filter(kept).collect::<Vec<_>>().join(", "))
}

/// A timer that expires far from now, and at which moment of which clock.
struct Far {
    fd: i32,
    clock: i32,
    until: f64,
    late: f64,
    settings: String,
}

/// The clock that decides when such a timer expires. That of an alarm can be asked only on a machine that has one, and a rest
/// of the time of day is one of a clock that nobody sets.
fn decides(clock: i32, mode: i32) -> i32 {
    match clock {
        libc::CLOCK_REALTIME if mode == RELATIVE => libc::CLOCK_MONOTONIC,
        libc::CLOCK_REALTIME_ALARM if mode == RELATIVE => libc::CLOCK_BOOTTIME,
        libc::CLOCK_REALTIME_ALARM => libc::CLOCK_REALTIME,
        libc::CLOCK_BOOTTIME_ALARM => libc::CLOCK_BOOTTIME,
        clock => clock,
    }
}

/// One that is set to a rest, or to a moment, of so many seconds from now.
fn far(clock: i32, mode: i32, seconds: i64, period: i64) -> Result<Far, String> {
    let fd = create(clock, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)?;
    let clock = decides(clock, mode);
    let moment = now(clock) + seconds * NANOS;
    set(fd, mode, if mode == RELATIVE { seconds * NANOS } else { moment }, period * NANOS)?;
    let late = if mode == RELATIVE { LATE } else { 0.01 };
    Ok(Far { fd, clock, until: moment as f64 / 1e9, late, settings: settings(fd)? })
}

impl Far {
    fn check(&self) -> Outcome {
        same("what fdinfo shows", &self.settings, &settings(self.fd)?)?;
        same("readable", &false, &sys::readable(self.fd))?;
        let (left, rest) = (left(self.fd)?, self.until - now(self.clock) as f64 / 1e9);
        let fits = left > rest - 0.01 && left < rest + self.late;
        sys::holds(&format!("{}: {left:.4} s are left, expected {rest:.4}", self.settings), sys::Truth(fits))
    }
}

/// Timers of every clock and in every mode; those that stand still; one that has expired and was not read.
pub(crate) fn modes(_: &[String]) -> Result<Living, String> {
    let clocks = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME];
    let mut timers = vec![far(libc::CLOCK_REALTIME, CANCELLED, 900, 0)?];
    for (clock, mode) in clocks.into_iter().flat_map(|clock| [(clock, RELATIVE), (clock, ABSOLUTE)]) {
        timers.push(far(clock, mode, 500, 0)?);
        timers.push(far(clock, mode, 600, 70)?);
    }
    let over = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK)?;
    let (never, stopped) = (create(libc::CLOCK_BOOTTIME, 0)?, create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK)?);
    set(stopped, ABSOLUTE, 0, 5 * NANOS)?;
    set(over, RELATIVE, 1, 0)?;
    let still = [settings(over)?, settings(never)?, settings(stopped)?];
    Living::reads(move |_| {
        timers.iter().try_for_each(Far::check)?;
        same("what fdinfo shows", &still, &[settings(over)?, settings(never)?, settings(stopped)?])?;
        same("readable", &[true, false, false], &[over, never, stopped].map(sys::readable))?;
        same("ticks of the one that has expired", &1, &ticks(over)?)?;
        same("left of those that stand still", &[0.0; 3], &[left(over)?, left(never)?, left(stopped)?])?;
        set(over, RELATIVE, 1, 0)
    })
}

/// Many relatives, each with a rest of its own: how long the others take to be set does not matter. A busy machine may keep a few
/// of them from a processor for longer than that.
pub(crate) fn crowd(_: &[String]) -> Result<Living, String> {
    const MANY: usize = 60;
    let one = || {
        let far = far(libc::CLOCK_MONOTONIC, RELATIVE, 500, 0)?;
        let soon = Far { late: 0.02, settings: far.settings.clone(), ..far };
        Ok(move |_: &str| {
            far.check()?;
            Ok(if soon.check().is_ok() { "in time" } else { "late" }.to_owned())
        })
    };
    let all = (0..MANY).map(|_| kin::child(one)).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        let seen = all.iter().map(|kin| kin.ask("timer")).collect::<Result<Vec<_>, _>>()?;
        let late = seen.iter().filter(|said| *said != "in time").count();
        sys::holds(&format!("{late} of {MANY} are late"), sys::Truth(late < MANY / 4))
    })
}

/// Timers that wake the machine.
pub(crate) fn alarms(_: &[String]) -> Result<Living, String> {
    let mut timers = Vec::new();
    for clock in [libc::CLOCK_REALTIME_ALARM, libc::CLOCK_BOOTTIME_ALARM] {
        timers.extend([far(clock, RELATIVE, 500, 0)?, far(clock, ABSOLUTE, 600, 70)?]);
    }
    Living::reads(move |_| timers.iter().try_for_each(Far::check))
}

/// One that expires again and again: all that came since it was set are counted, by the clock that it goes by.
struct Ticking {
    fd: i32,
    clock: i32,
    first: i64,
    read: u64,
    may_miss: u64,
}

const PERIOD: i64 = 20_000_000;

impl Ticking {
    fn new(clock: i32, mode: i32) -> Result<Ticking, String> {
        let fd = create(clock, libc::TFD_NONBLOCK)?;
        let first = now(clock) + PERIOD;
        set(fd, mode, if mode == RELATIVE { PERIOD } else { first }, PERIOD)?;
        let may_miss = if mode == RELATIVE { (LATE * 1e9) as u64 / PERIOD as u64 } else { 0 };
        Ok(Ticking { fd, clock, first, read: 0, may_miss })
    }

    fn check(&mut self) -> Outcome {
        let count = |now: i64| ((now - self.first) / PERIOD + 1) as u64;
        let least = count(now(self.clock)).saturating_sub(self.may_miss);
        self.read += ticks(self.fd)?;
        let most = count(now(self.clock));
        let fits = (least..=most).contains(&self.read);
        sys::holds(&format!("{} ticks, expected {least} to {most}", self.read), sys::Truth(fits))
    }
}

pub(crate) fn ticking(_: &[String]) -> Result<Living, String> {
    let mut all = [
        Ticking::new(libc::CLOCK_MONOTONIC, RELATIVE)?,
        Ticking::new(libc::CLOCK_MONOTONIC, ABSOLUTE)?,
        Ticking::new(libc::CLOCK_REALTIME, ABSOLUTE)?,
        Ticking::new(libc::CLOCK_BOOTTIME, ABSOLUTE)?,
    ];
    let watched: Vec<i32> = all.iter().map(|timer| timer.fd).collect();
    let (epoll, expected) = (pipes::epoll_of(&watched)?, watched.iter().map(|fd| *fd as u64).collect::<Vec<_>>());
    Living::reads(move |_| {
        // The next of each has come.
        sys::pause_for(2 * PERIOD as u64 / 1_000_000);
        same("what is ready", &expected, &pipes::ready(epoll)?)?;
        all.iter_mut().try_for_each(Ticking::check)
    })
}

/// What a read of a timer gave, and when.
type Woken = (Result<u64, String>, i64);

/// A moment of the time of day comes though the program is away; a rest, for which it waits, comes when it is over.
pub(crate) fn rings(arguments: &[String]) -> Result<Living, String> {
    let seconds = sys::number(arguments, 3) as i64;
    let of_day = create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK)?;
    let rest = create(libc::CLOCK_MONOTONIC, 0)?;
    let (moment, began) = (now(libc::CLOCK_REALTIME) + seconds * NANOS, now(libc::CLOCK_MONOTONIC));
    set(of_day, ABSOLUTE, moment, 0)?;
    set(rest, RELATIVE, seconds * NANOS, 0)?;
    let slot: Rc<RefCell<Option<Woken>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let wait = move || *slot.borrow_mut() = Some((ticks(rest), now(libc::CLOCK_MONOTONIC)));
    Living::once(wait, move |_| {
        let (result, woke) = seen.borrow().clone().expect("the call has returned");
        same("ticks that were waited for", &Ok(1), &result)?;
        let took = (woke - began) as f64 / 1e9;
        let fits = took >= seconds as f64 && took < seconds as f64 + LATE + 1.2;
        sys::holds(&format!("waited for {took:.3} s"), sys::Truth(fits))?;
        let come = now(libc::CLOCK_REALTIME) > moment;
        same("the moment of the time of day has come", &come, &sys::readable(of_day))
    })
}
