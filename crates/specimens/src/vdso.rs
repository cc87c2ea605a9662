//! The vdso: the kernel's code for reading clocks, at the address which the C library learned at its start.

use crate::life::Living;
use crate::sys::{self, Outcome, clock, same};

const CLOCKS: [i32; 4] =
    [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC_COARSE];

pub(crate) fn start(_: &[String]) -> Result<Living, String> {
    let mut last = CLOCKS.map(clock);
    let address = vdso();
    Living::reads(move |_| {
        same("AT_SYSINFO_EHDR", &address, &vdso())?;
        same("the ELF magic there", &Some(*b"\x7fELF"), &magic(address))?;
        later(&mut last)
    })
}

fn later(last: &mut [f64; 4]) -> Outcome {
    let now = CLOCKS.map(clock);
    for (which, (before, after)) in CLOCKS.iter().zip(last.iter().zip(now)) {
        sys::holds(&format!("clock {which} went back from {before} to {after}"), sys::Truth(after >= *before))?;
    }
    *last = now;
    moves()
}

/// Reads a clock many times: it never goes back, and it moves.
fn moves() -> Outcome {
    let start = clock(libc::CLOCK_MONOTONIC);
    let mut last = start;
    for _ in 0..100_000 {
        let now = clock(libc::CLOCK_MONOTONIC);
        sys::holds("the monotonic clock went back", sys::Truth(now >= last))?;
        last = now;
    }
    sys::holds("the monotonic clock stands still", sys::Truth(last > start))
}

fn vdso() -> u64 {
    // SAFETY: reads the auxiliary vector, which never changes.
    unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }
}

fn magic(address: u64) -> Option<[u8; 4]> {
    // SAFETY: the kernel mapped the vdso there, unless it is zero.
    (address != 0).then(|| unsafe { *(address as *const [u8; 4]) })
}
