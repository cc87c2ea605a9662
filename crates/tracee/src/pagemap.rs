//! Which pages a process has, in runs of like ones.

use crate::sys;
use abi::consts::mmap::PAGE;
use abi::{Errno, Fault};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bits of what is known of a run of pages (linux/fs.h, `PAGE_IS_`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Categories(pub u64);

impl Categories {
    /// Written to since write protection was last asked for.
    pub const WRITTEN: u64 = 1 << 1;
    /// Of a file or shared memory, not private.
    pub const FILE: u64 = 1 << 2;
    /// In memory.
    pub const PRESENT: u64 = 1 << 3;
    /// In swap space.
    pub const SWAPPED: u64 = 1 << 4;
    /// The page of zeroes that all share; never told by the fall-back.
    pub const PFNZERO: u64 = 1 << 5;
    /// Part of a huge page; never told by the fall-back.
    pub const HUGE: u64 = 1 << 6;

    /// A guard page (madvise(2), MADV_GUARD_INSTALL; told since Linux 6.15).
    pub const GUARD: u64 = 1 << 8;

    /// Whether all of these bits are set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

/// PAGEMAP_SCAN: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;
/// Regions that one call may give. The kernel gathers 512 at a time, and where more are asked for it may say of a walk that
/// came to the end that it stopped where the first 512 were gathered (fs/proc/task_mmu.c, `do_pagemap_scan`).
const REGIONS: usize = 512;

/// `struct page_region` (linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// What stands behind one page of private memory (Documentation/admin-guide/mm/pagemap.rst).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Memory that nobody else has, or none.
    Own,
    /// Memory that others may have too: its page frame number, where the kernel tells that (CAP_SYS_ADMIN).
    Common(Option<u64>),
}

/// What stands behind each page from `start` to `end`.
pub fn behind(pagemap: &File, start: u64, end: u64) -> Result<Vec<Behind>, Fault> {
    const PRESENT: u64 = 1 << 63;
    const EXCLUSIVE: u64 = 1 << 56;
    const FRAME: u64 = (1 << 55) - 1;
    let mut bytes = vec![0; ((end - start) / PAGE * 8) as usize];
    pagemap.read_exact_at(&mut bytes, start / PAGE * 8).map_err(|e| Fault::new("read", "pagemap", e))?;
    let entry = |word: &[u8]| {
        let entry = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        match entry & (PRESENT | EXCLUSIVE) {
            PRESENT => Behind::Common(Some(entry & FRAME).filter(|frame| *frame != 0)),
            _ => Behind::Own,
        }
    };
    Ok(bytes.chunks_exact(8).map(entry).collect())
}

/// Tells of every run of pages of these areas, which ascend, that is in memory or in swap space, in their order; and of some between
/// the areas. `pagemap` is an open /proc/PID/pagemap. All of it is one sweep, as page tables are walked once then. Before Linux 6.7
/// there is none, and entries are read one by one: of the areas alone, as what is between them is beyond counting.
pub fn scan(pagemap: &File, areas: &[Range<u64>], each: &mut dyn FnMut(u64, u64, Categories)) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (areas.first(), areas.last()) else { return Ok(()) };
    let (start, end) = (first.start, last.end);
    let fault = |e| Fault::new(format!("ioctl(PAGEMAP_SCAN, {start:#x}, {end:#x})"), "pagemap", e);
    // A kernel that does not know of guard pages says EINVAL before it tells of any run.
    let known = scan_by_ioctl(pagemap, start, end, Categories::GUARD, each);
    let scanned = match known {
        Err(Errno(libc::EINVAL)) => scan_by_ioctl(pagemap, start, end, 0, each),
        other => other,
    };
    match scanned {
        Err(Errno(libc::ENOTTY)) => areas.iter().try_for_each(|area| scan_by_entries(pagemap, area, each)),
        other => other.map_err(fault),
    }
}

fn scan_by_ioctl(
    pagemap: &File,
    mut start: u64,
    end: u64,
    guard: u64,
    each: &mut dyn FnMut(u64, u64, Categories),
) -> Result<(), Errno> {
    let mut regions = vec![Region::default(); REGIONS];
    while start < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start,
            end,
            vec: regions.as_mut_ptr().addr() as u64,
            vec_len: regions.len() as u64,
            category_anyof_mask: Categories::PRESENT | Categories::SWAPPED | guard,
            return_mask: Categories::FILE
                | Categories::PRESENT
                | Categories::SWAPPED
                | Categories::PFNZERO
                | Categories::HUGE
                | guard,
            ..ScanArg::default()
        };
        // SAFETY: the argument and the regions, whose number it tells, are borrowed mutably for the call.
        let r = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let n = sys::result(i64::from(r))? as usize;
        regions[..n].iter().for_each(|r| each(r.start, r.end, Categories(r.categories)));
        // Fewer than there was room for: these were all.
        start = if n < regions.len() { end } else { arg.walk_end };
    }
    Ok(())
}

/// The entry of a page, 64 bits (Documentation/admin-guide/mm/pagemap.rst).
fn categories(entry: u64) -> Categories {
    let bit = |from: u32, to: u64| if entry >> from & 1 == 1 { to } else { 0 };
    Categories(bit(61, Categories::FILE) | bit(62, Categories::SWAPPED) | bit(63, Categories::PRESENT))
}

fn scan_by_entries(
    pagemap: &File,
    &Range { start, end }: &Range<u64>,
    each: &mut dyn FnMut(u64, u64, Categories),
) -> Result<(), Fault> {
    let mut run: Option<Region> = None;
    let mut bytes = vec![0u8; 8 * 4096];
    for part in (start..end).step_by(4096 * PAGE as usize) {
        let pages = ((end - part).div_ceil(PAGE) as usize).min(4096);
        let bytes = &mut bytes[..8 * pages];
        pagemap
            .read_exact_at(bytes, part / PAGE * 8)
            .map_err(|e| Fault::new(format!("read(pagemap, {part:#x})"), "pagemap", e))?;
        for (page, entry) in bytes.chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(entry.try_into().expect("chunks of eight"));
            extend(&mut run, part + page as u64 * PAGE, categories(entry), each);
        }
    }
    run.into_iter().for_each(|r| each(r.start, r.end, Categories(r.categories)));
    Ok(())
}

/// Makes the run one page longer, or tells of it and begins another.
fn extend(run: &mut Option<Region>, at: u64, what: Categories, each: &mut dyn FnMut(u64, u64, Categories)) {
    if let Some(last) = run.as_mut().filter(|r| r.end == at && r.categories == what.0) {
        last.end += PAGE;
        return;
    }
    run.take().into_iter().for_each(|r| each(r.start, r.end, Categories(r.categories)));
    if what.0 & (Categories::PRESENT | Categories::SWAPPED) != 0 {
        *run = Some(Region { start: at, end: at + PAGE, categories: what.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(
        by: impl FnOnce(&File, Range<u64>, &mut dyn FnMut(u64, u64, Categories)),
        at: u64,
        pages: u64,
    ) -> Vec<(u64, u64, bool)> {
        let file = File::open("/proc/self/pagemap").unwrap();
        let mut runs = Vec::new();
        by(&file, at..at + pages * PAGE, &mut |start, end, what| {
            runs.push(((start - at) / PAGE, (end - at) / PAGE, what.has(Categories::PRESENT)));
        });
        runs
    }

    /// A new mapping in which only these pages were touched.
    fn touched(len: usize, pages: impl Iterator<Item = usize>) -> u64 {
        let (rw, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len * PAGE as usize, rw, private, -1, 0) }.cast::<u8>();
        // SAFETY: the mapping just made.
        unsafe { libc::madvise(at.cast(), len * PAGE as usize, libc::MADV_NOHUGEPAGE) };
        for page in pages {
            // SAFETY: inside the mapping just made, which nobody else knows.
            unsafe { at.add(page * PAGE as usize).write_volatile(1) };
        }
        at.addr() as u64
    }

    #[test]
    fn both_ways_find_the_pages_that_were_touched() {
        let at = touched(8, [1, 2, 5].into_iter());
        let want = vec![(1, 3, true), (5, 6, true)];
        assert_eq!(runs(|f, area, each| scan(f, &[area], each).unwrap(), at, 8), want);
        assert_eq!(runs(|f, area, each| scan_by_entries(f, &area, each).unwrap(), at, 8), want);
    }

    #[test]
    fn many_runs_are_told_once_each() {
        for count in [1, 511, 512, 513, 700, 1023, 1024, 1025, 1500, 2048, 5000] {
            let at = touched(2 * count, (0..count).map(|n| 2 * n));
            let want: Vec<_> = (0..count as u64).map(|n| (2 * n, 2 * n + 1, true)).collect();
            assert_eq!(
                runs(|f, area, each| scan(f, &[area], each).unwrap(), at, 2 * count as u64),
                want,
                "{count} runs"
            );
        }
    }
}
