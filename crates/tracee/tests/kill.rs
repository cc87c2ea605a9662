//! The freezer dies, or fails, at any instant: the victim goes on unharmed, and nothing is left in it.

mod common;

use abi::{Call, Sys};
use common::{Dice, Failed, Kind, Shared, Victim, cycle, eventually, fork_freezer, kill, kills, reap};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tracee::Process;
use tracee::fault::{self, What};

const SIGKILLED: i32 = 128 + libc::SIGKILL;

fn freezer_code(result: Result<(), Failed>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(Failed::Seize(_)) => 3,
        Err(Failed::Envoy(_)) => 4,
        Err(Failed::Wrong) => 5,
    }
}

/// EINTR that no handler explains. epoll_wait gives one natively at every stop, so a death between the stop and the
/// first write to its registers leaves one.
fn assert_no_eintr(victim: &Victim, after: &str) {
    if victim.kind != Kind::Epoll {
        assert_eq!(victim.eintr(), 0, "{:?} after {after}: EINTR", victim.kind);
    }
}

fn killed_at_random(kind: Kind) {
    let victim = Victim::start(kind);
    let mut dice = Dice(0x5eed + kind as u64);
    for n in 0..kills(40) {
        let freezer = fork_freezer(|| {
            loop {
                let code = freezer_code(cycle(victim.pid, 70));
                if code != 0 {
                    return code;
                }
            }
        });
        std::thread::sleep(Duration::from_micros(300 + dice.below(3000)));
        kill(freezer);
        let after = format!("kill {n}");
        assert_eq!(reap(freezer), SIGKILLED, "{kind:?} before {after}: the freezer fails by itself");
        victim.assert_goes_on(&after);
        assert_no_eintr(&victim, &after);
        if n % 5 == 4 {
            victim.assert_clean(&after);
        }
    }
}

/// Of so many points one is tried. Each of a crowd is passed for each of its threads, and it takes long to see that all go on
/// (CRYOPID_EVERY=1 for each).
fn step(kind: Kind) -> usize {
    let every = std::env::var("CRYOPID_EVERY").ok().and_then(|n| n.parse().ok());
    if kind == Kind::Crowd { every.unwrap_or(7) } else { 1 }
}

fn killed_at_every_point(kind: Kind) {
    let victim = Victim::start(kind);
    for nth in (1..).step_by(step(kind)) {
        let freezer = fork_freezer(|| {
            fault::arm(What::Die, nth);
            freezer_code(cycle(victim.pid, 3))
        });
        let end = reap(freezer);
        let after = format!("death at point {nth}");
        victim.assert_goes_on(&after);
        victim.assert_clean(&after);
        assert_no_eintr(&victim, &after);
        if end == 0 {
            assert!(nth > 30, "{kind:?}: only {nth} points were passed");
            return;
        }
        assert_eq!(end, SIGKILLED, "{kind:?} at point {nth}");
    }
}

/// The freezer lives on after the failure, so it is not its end that frees the victim.
fn failed_at_every_point(kind: Kind) {
    let victim = Victim::start(kind);
    for nth in (1..).step_by(step(kind)) {
        let done = Shared::new();
        let freezer = fork_freezer(|| {
            fault::arm(What::Fail, nth);
            let code = freezer_code(cycle(victim.pid, 3));
            done.beats[0].store(fault::passed(), SeqCst);
            done.flag.store(1 + code as u64, SeqCst);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let after = format!("failure at point {nth}");
        assert!(eventually(|| done.flag.load(SeqCst) != 0), "{kind:?} after {after}: the freezer hangs");
        victim.assert_goes_on(&after);
        victim.assert_clean(&after);
        assert_no_eintr(&victim, &after);
        kill(freezer);
        reap(freezer);
        let (passed, code) = (done.beats[0].load(SeqCst), done.flag.load(SeqCst) - 1);
        assert!(code != 5, "{kind:?} after {after}: wrong answers");
        if passed < nth {
            assert_eq!(code, 0, "{kind:?}: nothing failed");
            return;
        }
    }
}

/// A signal comes while the envoy stands: the handler runs, and the call that it interrupted ends, or does not end,
/// as it would have without us.
fn signalled_meanwhile(kind: Kind, end: End) {
    let victim = Victim::start_without_timer(kind);
    let (ready, go) = (Shared::new(), Shared::new());
    let freezer = fork_freezer(|| {
        let mut process = Process::seize(victim.pid).unwrap();
        let mut envoy = process.envoy(0).unwrap();
        envoy.calls(&[Call::new(Sys::Getpid, [])]).unwrap();
        ready.flag.store(1, SeqCst);
        while go.flag.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        if end == End::Death {
            kill(std::process::id() as i32);
        }
        0
    });
    assert!(eventually(|| ready.flag.load(SeqCst) == 1), "{kind:?} {end:?}");
    victim.signal(libc::SIGALRM);
    go.flag.store(1, SeqCst);
    reap(freezer);
    let shared = victim.shared;
    assert!(eventually(|| shared.signals.load(SeqCst) == 1), "{kind:?} {end:?}: the handler runs");
    let done = || shared.beats[0].load(SeqCst) == 1 && victim.state() == 'S';
    assert!(eventually(done), "{kind:?} {end:?}: the call ends only if it should: {:?}", shared.beats);
    assert_eq!(shared.errors.load(SeqCst) + shared.eintr.load(SeqCst), 0, "{kind:?} {end:?}");
}

/// How the freezer ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Death,
    Release,
}

#[test]
fn a_signal_meanwhile_is_not_lost() {
    for end in [End::Release, End::Death] {
        for kind in [Kind::Pause, Kind::InterruptedRead, Kind::RestartedRead, Kind::Sigsuspend] {
            (0..10).for_each(|_| signalled_meanwhile(kind, end));
        }
    }
}

fn cycles(kind: Kind) {
    let victim = Victim::start(kind);
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let begin = Instant::now();
            cycle(victim.pid, 70).unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
            let time = begin.elapsed();
            std::thread::sleep(Duration::from_micros(500));
            time
        })
        .collect();
    times.sort();
    println!("{kind:?}: a cycle of 70 calls takes {:?} at least, {:?} in the median", times[0], times[50]);
    victim.assert_goes_on("100 cycles");
    victim.assert_clean("100 cycles");
    assert_eq!(victim.eintr(), 0, "{kind:?}: EINTR");
}

macro_rules! for_each_kind {
    ($($name:ident $kind:ident)*) => {
        mod random { $( #[test] fn $name() { super::killed_at_random(super::Kind::$kind) } )* }
        mod every_point { $( #[test] fn $name() { super::killed_at_every_point(super::Kind::$kind) } )* }
        mod failing { $( #[test] fn $name() { super::failed_at_every_point(super::Kind::$kind) } )* }
        mod unharmed { $( #[test] fn $name() { super::cycles(super::Kind::$kind) } )* }
    };
}

for_each_kind! {
    busy Busy
    nanosleep Nanosleep
    clock_nanosleep ClockNanosleep
    poll Poll
    futex Futex
    epoll Epoll
    read Read
    stopped Stopped
    sigsuspend Sigsuspend
    pause Pause
    restarted_read RestartedRead
    interrupted_read InterruptedRead
    threads Threads
    crowd Crowd
}
