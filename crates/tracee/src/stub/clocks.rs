//! The clocks of a tree: a time namespace, and its offsets.

use crate::sys;
use abi::consts::clone::CLONE_NEWTIME;
use abi::consts::time::{CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC};

/// By how much the clocks that count from the start of the machine are ahead of ours for the tree, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clocks {
    monotonic: i128,
    boottime: i128,
}

/// Where the kernel keeps the offsets of the time namespace of our children, from the clocks of the machine itself.
const OFFSETS: &str = "/proc/self/timens_offsets";

impl Clocks {
    /// CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from there, from now on.
    pub fn starting(monotonic: u64, boottime: u64) -> Clocks {
        let ahead = |clock, nanos: u64| i128::from(nanos) - now(clock);
        Clocks { monotonic: ahead(CLOCK_MONOTONIC, monotonic), boottime: ahead(CLOCK_BOOTTIME, boottime) }
    }

    /// What one of them tells, or a clock that is the same for all.
    pub fn now(self, clock: i32) -> u64 {
        let ahead = match clock {
            CLOCK_MONOTONIC => self.monotonic,
            CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => self.boottime,
            _ => 0,
        };
        (now(clock) + ahead) as u64
    }

    /// Our children, from now on, live in a time namespace with these clocks (time_namespaces(7)).
    pub(super) fn enter(self) -> std::io::Result<()> {
        let text = std::fs::read_to_string(OFFSETS)?;
        // SAFETY: unshare with a number only.
        sys::result(i64::from(unsafe { libc::unshare(CLONE_NEWTIME as i32) }))?;
        let line = |name: &str, ahead: i128| {
            let nanos = ahead + offset(&text, name);
            format!("{name} {} {}\n", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
        };
        std::fs::write(OFFSETS, line("monotonic", self.monotonic) + &line("boottime", self.boottime))
    }
}

/// The offset of a clock in the text of the kernel: a name, seconds, nanoseconds.
fn offset(text: &str, name: &str) -> i128 {
    let words = text.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>()).find(|w| w.first() == Some(&name));
    let number = |n: usize| words.as_ref().and_then(|w| w.get(n)?.parse::<i128>().ok()).unwrap_or(0);
    number(1) * 1_000_000_000 + number(2)
}

fn now(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
