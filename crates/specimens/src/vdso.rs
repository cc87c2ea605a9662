//! The vdso: the kernel's code for reading clocks, at the address which the C library learned at its start.

use crate::kin::{self, Answer};
use crate::life::Living;
use crate::sys::{self, Outcome, clock, must, same};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Children without the kernel's areas: one waits to read, one sleeps for a time, one computes, and one has a child of its
/// own.
pub(crate) fn absent(_: &[String]) -> Result<Living, String> {
    let bare = || -> Result<fn(&str) -> Answer, String> { leave().map(|()| asked as fn(&str) -> Answer) };
    let waits = kin::child(bare)?;
    let below = kin::child(|| {
        leave()?;
        Ok(kin::parent_of(vec![kin::child(|| Ok(asked))?]))
    })?;
    let count = shared()?;
    let (slept, computed) = (count, count.wrapping_add(1));
    doing(move || {
        // SAFETY: poll with no descriptors only sleeps; the word is shared with our parent, and lives for ever.
        while unsafe { libc::poll(std::ptr::null_mut(), 0, 20) } == 0 {
            // SAFETY: see above.
            unsafe { (*slept).fetch_add(1, Ordering::Relaxed) };
        }
    })?;
    doing(move || {
        loop {
            // SAFETY: the word is shared with our parent, and lives for ever.
            unsafe { (*computed).fetch_add(1, Ordering::Relaxed) };
        }
    })?;
    // SAFETY: see above.
    let counts = move || [slept, computed].map(|at| unsafe { (*at).load(Ordering::Relaxed) });
    sys::soon("both have begun", || counts().iter().all(|count| *count > 0))?;
    Living::reads(move |_| {
        waits.says("areas", "0")?;
        below.says("below 0 areas", "0")?;
        let before = counts();
        sys::soon("both go on", || counts().iter().zip(before).all(|(now, before)| *now > before))
    })
}

/// Its child has the kernel's areas, and it has them no more.
pub(crate) fn left(_: &[String]) -> Result<Living, String> {
    let (has, below) = (kernel_areas()?.len(), kin::child(|| Ok(asked))?);
    leave()?;
    Living::reads(move |_| below.says("areas", &has.to_string()))
}

fn asked(question: &str) -> Answer {
    if question == "areas" { kernel_areas().map(|all| all.len().to_string()) } else { kin::obey(question) }
}

/// Two words in memory that children share.
fn shared() -> Result<*mut AtomicU64, String> {
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new area.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, kind, -1, 0) };
    must("mmap", if at == libc::MAP_FAILED { -1 } else { 0 }).map(|_| at.cast())
}

/// A child without the areas that does this.
fn doing(what: impl FnOnce()) -> Outcome {
    if kin::fork()? == 0 {
        let status = leave().map_or(1, |()| {
            what();
            2
        });
        kin::exit(status);
    }
    Ok(())
}

fn kernel_areas() -> Result<Vec<[usize; 2]>, String> {
    let maps = sys::proc_text("maps")?;
    let own = maps.lines().filter(|line| line.contains(" [vdso") || line.contains(" [vvar"));
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let range = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some([number(start)?, number(end)?])
    };
    own.map(|line| range(line).ok_or_else(|| format!("not an area: {line}"))).collect()
}

/// From here on nothing may ask for the time.
fn leave() -> Outcome {
    for [start, end] in kernel_areas()? {
        // SAFETY: nobody reads the clock after this.
        must("munmap", unsafe { libc::munmap(start as *mut libc::c_void, end - start) })?;
    }
    Ok(())
}
