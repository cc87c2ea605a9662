//! Timers that send signals: they go on with the time that was left.

use crate::life::Living;
use crate::mem::{Area, PAGE, READ_WRITE};
use crate::signals;
use crate::sys::{self, Outcome, must, same};

const KINDS: [(i32, i32); 3] =
    [(libc::ITIMER_REAL, libc::SIGALRM), (libc::ITIMER_VIRTUAL, libc::SIGVTALRM), (libc::ITIMER_PROF, libc::SIGPROF)];

fn timeval(microseconds: i64) -> libc::timeval {
    libc::timeval { tv_sec: microseconds / 1_000_000, tv_usec: microseconds % 1_000_000 }
}

fn set(which: i32, first: i64, interval: i64) -> Outcome {
    let value = libc::itimerval { it_interval: timeval(interval), it_value: timeval(first) };
    // SAFETY: the value lives as long as the call.
    must("setitimer", unsafe { libc::syscall(libc::SYS_setitimer, which, &raw const value, 0) }).map(drop)
}

pub(crate) fn every_microseconds(which: i32, interval: i64) -> Outcome {
    set(which, interval, interval)
}

/// Interval and time left, in microseconds.
fn get(which: i32) -> Result<(i64, i64), String> {
    let mut value = libc::itimerval { it_interval: timeval(0), it_value: timeval(0) };
    // SAFETY: the kernel writes one value.
    must("getitimer", unsafe { libc::syscall(libc::SYS_getitimer, which, &raw mut value) })?;
    let sum = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    Ok((sum(value.it_interval), sum(value.it_value)))
}

/// All three interval timers tick, while the program computes.
pub(crate) fn intervals(_: &[String]) -> Result<Living, String> {
    for (which, signal) in KINDS {
        signals::catch(signal)?;
        every_microseconds(which, 20_000)?;
    }
    Living::busy(compute, |_| {
        for (which, signal) in KINDS {
            let before = signals::count(signal);
            sys::soon(&format!("the next tick of timer {which}"), || {
                (0..30).all(|_| compute().is_ok()) && signals::count(signal) > before
            })?;
            same(&format!("interval of timer {which}"), &true, &near(get(which)?.0, 20_000, 4_000))?;
        }
        Ok(())
    })
}

fn compute() -> Outcome {
    let sum: u64 = (0..200_000u64).map(std::hint::black_box).sum();
    same("a sum", &19_999_900_000, &sum)
}

fn near(seen: i64, expected: i64, by: i64) -> bool {
    (seen - expected).abs() <= by
}

/// An alarm far away: the time left does not shrink while the program is away.
pub(crate) fn alarm(_: &[String]) -> Result<Living, String> {
    const FIRST: i64 = 500_000_000;
    set(libc::ITIMER_REAL, FIRST, 7_000_000)?;
    let began = sys::monotonic();
    Living::reads(move |away| {
        let (interval, left) = get(libc::ITIMER_REAL)?;
        same("interval", &7_000_000, &interval)?;
        let awake = ((sys::monotonic() - began - away.0) * 1e6) as i64;
        let error = left - (FIRST - awake);
        // `away` is the least that the program was away: more is left than this reckons, never less.
        sys::holds(
            &format!("time left of the alarm is off by {error} microseconds"),
            sys::Truth((-100_000..1_200_000).contains(&error)),
        )
    })
}

/// The alarm that rings soon: exactly once.
pub(crate) fn ring(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGALRM)?;
    set(libc::ITIMER_REAL, 2_500_000, 0)?;
    let began = sys::monotonic();
    Living::reads(move |away| {
        while sys::monotonic() - began < 3.2 + away.0 {
            sys::pause_for(10);
        }
        same("number of SIGALRMs", &1, &signals::count(libc::SIGALRM))
    })
}

/// Timers that ring soon, one after the other, in a program with so much memory that it takes longer to save: each once.
pub(crate) fn ring_in_turn(_: &[String]) -> Result<Living, String> {
    const TIMERS: usize = 40;
    let memory = Area::map(256 << 20, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    memory.bytes().chunks_mut(PAGE).enumerate().for_each(|(n, page)| page[..8].copy_from_slice(&n.to_ne_bytes()));
    let ids: Vec<i32> = (0..TIMERS).map(|_| create(libc::CLOCK_MONOTONIC, 40)).collect::<Result<_, _>>()?;
    signals::catch(libc::SIGALRM)?;
    for (id, at) in ids.iter().zip(1..) {
        let [none, first] = [0, at * 15_000_000].map(|tv_nsec| libc::timespec { tv_sec: 0, tv_nsec });
        settime(*id, libc::itimerspec { it_interval: none, it_value: first })?;
    }
    set(libc::ITIMER_REAL, 300_000, 0)?;
    Living::reads(move |_| {
        sys::soon("the last of them", || signals::count(40) >= TIMERS && signals::count(libc::SIGALRM) > 0)?;
        sys::pause_for(700);
        same("how many rang", &(TIMERS, 1), &(signals::count(40), signals::count(libc::SIGALRM)))
    })
}

/// Three POSIX timers with their ids, clocks, signals and values; the middle one deleted, so that ids have a gap.
pub(crate) fn posix(_: &[String]) -> Result<Living, String> {
    let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME];
    // Who asks the kernel itself may ask for a thread, which is a signal to it.
    let hows = [libc::SIGEV_SIGNAL, libc::SIGEV_SIGNAL, libc::SIGEV_THREAD];
    let create = |at: usize| create_as(clocks[at], 40 + at as i32, hows[at], 0);
    let ids: Vec<i32> = (0..3).map(create).collect::<Result<_, _>>()?;
    // SAFETY: the id is one of ours.
    must("timer_delete", unsafe { libc::syscall(libc::SYS_timer_delete, ids[1]) })?;
    arm(ids[0], 30_000_000)?;
    arm(ids[2], 400_000_000_000)?;
    let expected = sys::proc_text("timers")?;
    Living::reads(move |_| {
        same("timers", &expected, &sys::proc_text("timers")?)?;
        let before = signals::count(40);
        sys::soon("the next tick of the fast timer", || signals::count(40) > before)?;
        same("time left of the slow timer is below 400 s and above 200 s", &true, &(200..400).contains(&left(ids[2])?))
    })
}

/// A periodic timer whose signal waits, as it is blocked: it is sent once, whatever is due meanwhile, and goes on in its step.
pub(crate) fn waits(_: &[String]) -> Result<Living, String> {
    const PERIOD: i64 = 600_000_000;
    let ids = [create(libc::CLOCK_MONOTONIC, 43)?, create(libc::CLOCK_REALTIME, 44)?];
    signals::block(&[43, 44])?;
    ids.iter().try_for_each(|id| arm(*id, PERIOD))?;
    sys::pause_for(700);
    let mut before = (0, 0);
    Living::reads(move |_| {
        // Another one is due at least, whether it waited already or not.
        sys::pause_for(1250);
        let counts = || (signals::count(43), signals::count(44));
        same("signals while they are blocked", &before, &counts())?;
        signals::unblock(&[43, 44])?;
        signals::block(&[43, 44])?;
        before = (before.0 + 1, before.1 + 1);
        same("signals that waited", &before, &counts())?;
        for id in ids {
            // SAFETY: takes an integer.
            let overran = must("timer_getoverrun", unsafe { libc::syscall(libc::SYS_timer_getoverrun, id) })?;
            sys::holds(&format!("it overran {overran} times"), sys::Truth((1..100).contains(&overran)))?;
        }
        Ok(())
    })
}

/// The same on the time of the processor, of which a program that waits for the signal uses none.
pub(crate) fn waits_for_processor(_: &[String]) -> Result<Living, String> {
    signals::block(&[45])?;
    arm(create(libc::CLOCK_PROCESS_CPUTIME_ID, 45)?, 5_000_000)?;
    let due = || sys::soon("a tick", || (0..30).all(|_| compute().is_ok()) && signals::is_pending(45));
    due()?;
    Living::reads(move |_| {
        taken(45)?;
        due()
    })
}

/// Periodic timers that had overrun when their last signals were taken (timer_getoverrun(2)): one that tells the process, and one that
/// tells another thread, which takes its signal.
pub(crate) fn overran(_: &[String]) -> Result<Living, String> {
    signals::block(&[46, 47])?;
    let first = create(libc::CLOCK_REALTIME, 46)?;
    arm_long_ago(first, libc::CLOCK_REALTIME, 10)?;
    taken(46)?;
    let (done, made) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let make = || {
            let id = create_as(libc::CLOCK_MONOTONIC, 47, libc::SIGEV_THREAD_ID, sys::tid())?;
            arm_long_ago(id, libc::CLOCK_MONOTONIC, 3)?;
            taken(47)?;
            Ok::<_, String>(id)
        };
        let _ = done.send(make());
        loop {
            std::thread::park();
        }
    });
    let second = made.recv().map_err(|e| e.to_string())??;
    let counts = move || Ok::<_, String>([overrun(first)?, overrun(second)?]);
    same("how often they overran", &[10, 3], &counts()?)?;
    Living::reads(move |_| {
        same("how often they overran", &[10, 3], &counts()?)?;
        for id in [first, second] {
            sys::holds("what is left of the period", sys::Truth((1..PERIOD).contains(&left(id)?)))?;
        }
        same("whether their signals wait", &[false; 2], &[46, 47].map(signals::is_pending))
    })
}

/// Seconds.
const PERIOD: i64 = 30;

fn overrun(id: i32) -> Result<i64, String> {
    // SAFETY: takes an integer.
    must("timer_getoverrun", unsafe { libc::syscall(libc::SYS_timer_getoverrun, id) })
}

/// So many periods, and some seconds, ago.
fn arm_long_ago(id: i32, clock: i32, periods: i64) -> Outcome {
    let at = |sec| libc::timespec { tv_sec: sec, tv_nsec: 0 };
    let value =
        libc::itimerspec { it_interval: at(PERIOD), it_value: at(sys::clock(clock) as i64 - PERIOD * periods - 5) };
    let flag = libc::TIMER_ABSTIME;
    // SAFETY: the value lives as long as the call.
    must("timer_settime", unsafe { libc::syscall(libc::SYS_timer_settime, id, flag, &raw const value, 0) }).map(drop)
}

fn taken(signal: i32) -> Outcome {
    let (set, time) = (signals::set_of(&[signal]), libc::timespec { tv_sec: 2, tv_nsec: 0 });
    // SAFETY: both live as long as the call.
    same("the signal", &signal, &unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) })
}

/// Timers on the time that the processor has worked for the process, and for its only thread.
pub(crate) fn of_processor(_: &[String]) -> Result<Living, String> {
    for (clock, signal) in [(libc::CLOCK_PROCESS_CPUTIME_ID, 41), (libc::CLOCK_THREAD_CPUTIME_ID, 42)] {
        arm(create(clock, signal)?, 20_000_000)?;
    }
    Living::busy(compute, |_| {
        for signal in [41, 42] {
            let before = signals::count(signal);
            sys::soon(&format!("the next tick by signal {signal}"), || {
                (0..30).all(|_| compute().is_ok()) && signals::count(signal) > before
            })?;
        }
        Ok(())
    })
}

fn create(clock: i32, signal: i32) -> Result<i32, String> {
    create_as(clock, signal, libc::SIGEV_SIGNAL, 0)
}

/// One that tells in this way (sigevent(3type)), and that thread.
fn create_as(clock: i32, signal: i32, how: i32, thread: i32) -> Result<i32, String> {
    signals::catch(signal)?;
    // SAFETY: zero is a value of the type.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    (event.sigev_notify, event.sigev_signo) = (how, signal);
    event.sigev_notify_thread_id = thread;
    event.sigev_value.sival_ptr = (signal as usize * 1000) as *mut _;
    let mut id = 0;
    // SAFETY: the event is read and the id written during the call.
    must("timer_create", unsafe { libc::syscall(libc::SYS_timer_create, clock, &raw mut event, &raw mut id) })?;
    Ok(id)
}

fn arm(id: i32, nanoseconds: i64) -> Outcome {
    let time = libc::timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 };
    settime(id, libc::itimerspec { it_interval: time, it_value: time })
}

fn settime(id: i32, value: libc::itimerspec) -> Outcome {
    // SAFETY: the value lives as long as the call.
    must("timer_settime", unsafe { libc::syscall(libc::SYS_timer_settime, id, 0, &raw const value, 0) }).map(drop)
}

fn left(id: i32) -> Result<i64, String> {
    // SAFETY: zero is a value of the type.
    let mut value: libc::itimerspec = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one value.
    must("timer_gettime", unsafe { libc::syscall(libc::SYS_timer_gettime, id, &raw mut value) })?;
    Ok(value.it_value.tv_sec)
}
