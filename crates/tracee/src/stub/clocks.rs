//! The clocks of a tree: a time namespace, and its offsets.

use crate::sys;
use abi::consts::clone::CLONE_NEWTIME;

/// Where the clocks that count from the start of the machine shall stand for the tree, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// CLOCK_BOOTTIME.
    pub boottime: u64,
}

/// Where the kernel keeps the offsets of the time namespace of our children, from the clocks of the machine itself.
const OFFSETS: &str = "/proc/self/timens_offsets";

impl Clocks {
    /// Our children, from now on, live in a time namespace with these clocks (time_namespaces(7)).
    pub(super) fn enter(self) -> std::io::Result<()> {
        let text = std::fs::read_to_string(OFFSETS)?;
        let (monotonic, boottime) = (offset(&text, "monotonic"), offset(&text, "boottime"));
        // SAFETY: unshare with a number only.
        sys::result(i64::from(unsafe { libc::unshare(CLONE_NEWTIME as i32) }))?;
        let line = |name: &str, clock, target: u64, ours: i128| {
            let nanos = i128::from(target) - (now(clock) - ours);
            format!("{name} {} {}\n", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
        };
        let lines = line("monotonic", libc::CLOCK_MONOTONIC, self.monotonic, monotonic)
            + &line("boottime", libc::CLOCK_BOOTTIME, self.boottime, boottime);
        std::fs::write(OFFSETS, lines)
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
