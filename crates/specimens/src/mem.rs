//! The address space: areas of every sort, their contents, and what was said about them.

use crate::ipc::write_down;
use crate::life::Living;
use crate::sys::{self, Outcome, fine, must, pattern, same, same_bytes};
use std::io::Write;

pub(crate) const PAGE: usize = 4096;
pub(crate) const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
pub(crate) const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// An area that we mapped and never unmap: it is ours for as long as we run.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) start: usize,
    length: usize,
}

impl Area {
    pub(crate) fn map(length: usize, protection: i32, flags: i32, fd: i32) -> Result<Area, String> {
        Area::map_at(0, length, protection, flags, fd)
    }

    fn map_at(hint: usize, length: usize, protection: i32, flags: i32, fd: i32) -> Result<Area, String> {
        // SAFETY: without MAP_FIXED the kernel chooses a free place.
        let start = unsafe { libc::mmap(hint as *mut _, length, protection, flags, fd, 0) };
        must("mmap", start as i64).map(|start| Area { start: start as usize, length })
    }

    pub(crate) fn part(self, from: usize, length: usize) -> Area {
        assert!(from + length <= self.length);
        Area { start: self.start + from, length }
    }

    pub(crate) fn bytes(self) -> &'static mut [u8] {
        // SAFETY: mapped readable and writable for the rest of our life, and this program has one thread here.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.length) }
    }

    /// Of an area that may not be written, or whose memory another area of ours may write: read now, byte by byte.
    pub(crate) fn bytes_read(self) -> &'static [u8] {
        // SAFETY: every byte is mapped and readable; volatile, because the compiler knows nothing of two areas with one memory.
        let byte = |at: usize| unsafe { std::ptr::read_volatile((self.start + at) as *const u8) };
        (0..self.length).map(byte).collect::<Vec<u8>>().leak()
    }

    pub(crate) fn protect(self, protection: i32) -> Outcome {
        // SAFETY: the area is ours; the callers know what they may still touch.
        must("mprotect", unsafe { libc::mprotect(self.start as *mut _, self.length, protection) }).map(drop)
    }

    /// Gives it back: it may not be used any more.
    pub(crate) fn forget(self) -> Outcome {
        // SAFETY: the area is ours, and the callers use it no more.
        must("munmap", i64::from(unsafe { libc::munmap(self.start as *mut _, self.length) })).map(drop)
    }

    fn advise(self, advice: i32) -> Outcome {
        // SAFETY: the area is ours; the callers expect what the advice does to its contents.
        must(&format!("madvise {advice}"), unsafe { libc::madvise(self.start as *mut _, self.length, advice) })
            .map(drop)
    }

    /// New memory where nothing is of what was ours.
    pub(crate) fn put(self, protection: i32, flags: i32) -> Outcome {
        let flags = flags | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: nothing is mapped there.
        let start = unsafe { libc::mmap(self.start as *mut _, self.length, protection, flags, -1, 0) };
        same("where it is", &self.start, &(start as usize))
    }

    /// What was in it is gone.
    pub(crate) fn empty(self) -> Outcome {
        self.advise(libc::MADV_DONTNEED)
    }

    /// Whether a line of maps tells of its first address.
    pub(crate) fn is_within(self, line: &str) -> bool {
        covers(line, self.start)
    }

    /// One line of its record in smaps.
    pub(crate) fn line(self, name: &str) -> Result<String, String> {
        let text = sys::proc_text("smaps")?;
        let record = text.split_inclusive('\n').skip_while(|line| !covers(line, self.start));
        let found = record
            .skip(1)
            .take_while(|line| range(line).is_none())
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(|rest| rest.trim().to_owned()).ok_or_else(|| format!("no {name} of {:#x} in smaps", self.start))
    }

    /// What the records of all that is mapped there say of one number, taken together.
    pub(crate) fn sum(self, name: &str) -> Result<usize, String> {
        let text = sys::proc_text("smaps")?;
        let (mut inside, mut sum) = (false, 0);
        for line in text.lines() {
            match range(line) {
                Some((start, end)) => inside = start >= self.start && end <= self.start + self.length,
                None if inside => {
                    let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
                    let kib = value.and_then(|rest| rest.trim().strip_suffix(" kB"));
                    sum += kib.map_or(Ok(0), |kib| kib.parse::<usize>().map_err(|e| e.to_string()))?;
                }
                None => {}
            }
        }
        Ok(sum)
    }

    /// The line of its area in maps.
    pub(crate) fn head(self) -> Result<String, String> {
        let text = sys::proc_text("maps")?;
        let line = text.lines().find(|line| covers(line, self.start));
        line.map(str::to_owned).ok_or_else(|| format!("{:#x} is not mapped", self.start))
    }
}

fn range(line: &str) -> Option<(usize, usize)> {
    let (start, rest) = line.split_once('-')?;
    let end = rest.split_once(' ')?.0;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

fn covers(line: &str, address: usize) -> bool {
    range(line).is_some_and(|(start, end)| (start..end).contains(&address))
}

/// Whether a byte can be read: asked of the kernel, which answers EFAULT instead of sending SIGSEGV.
fn touchable(address: usize) -> Result<bool, String> {
    let fd = sys::open("/dev/null", libc::O_WRONLY)?;
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    // SAFETY: the kernel checks the address itself.
    let count = unsafe { libc::write(ends[1], address as *const _, 1) };
    [fd, ends[0], ends[1]].into_iter().for_each(sys::close);
    Ok(count == 1)
}

pub(crate) fn anonymous(_: &[String]) -> Result<Living, String> {
    // More runs of pages than the kernel tells of at once.
    const PAGES: usize = 1400;
    let area = Area::map(PAGES * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    // Every second page stays untouched: it must read as zeros, and cost nothing.
    for page in (0..PAGES).step_by(2) {
        area.part(page * PAGE, PAGE).bytes().copy_from_slice(&pattern(page as u64, PAGE));
    }
    let read_only = Area::map(4 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    read_only.bytes().copy_from_slice(&pattern(77, 4 * PAGE));
    read_only.protect(libc::PROT_READ)?;
    Living::reads(move |_| {
        for page in 0..PAGES {
            let expected = if page % 2 == 0 { pattern(page as u64, PAGE) } else { vec![0; PAGE] };
            same_bytes(&format!("anonymous page {page}"), &expected, area.part(page * PAGE, PAGE).bytes())?;
        }
        same_bytes("read-only area", &pattern(77, 4 * PAGE), read_only.bytes())?;
        same("protection", &true, &read_only.head()?.contains(" r--p "))
    })
}

fn file_of(name: &str, bytes: &[u8]) -> Result<i32, String> {
    fine(name, std::fs::write(name, bytes))?;
    sys::open(name, libc::O_RDWR | libc::O_CLOEXEC)
}

/// A private map of a file, longer than the file's last page, with one page changed.
pub(crate) fn private_file(_: &[String]) -> Result<Living, String> {
    let contents = pattern(1, 5 * PAGE + 100);
    let fd = file_of("private-map", &contents)?;
    let area = Area::map(6 * PAGE, READ_WRITE, libc::MAP_PRIVATE, fd)?;
    sys::close(fd);
    area.part(2 * PAGE, PAGE).bytes().copy_from_slice(&pattern(2, PAGE));
    let mut expected = contents;
    expected[2 * PAGE..3 * PAGE].copy_from_slice(&pattern(2, PAGE));
    expected.resize(6 * PAGE, 0);
    Living::reads(move |_| {
        same_bytes("private map", &expected, area.bytes())?;
        let on_disk = fine("private-map", std::fs::read("private-map"))?;
        same_bytes("file of the private map", &pattern(1, 5 * PAGE + 100), &on_disk)?;
        same("path of the map", &true, &area.head()?.ends_with("/private-map"))
    })
}

/// A shared map: what is written through it reaches the file, before and after.
pub(crate) fn shared_file(_: &[String]) -> Result<Living, String> {
    let fd = file_of("shared-map", &pattern(3, 4 * PAGE))?;
    let area = Area::map(4 * PAGE, READ_WRITE, libc::MAP_SHARED, fd)?;
    area.bytes()[10] = 42;
    let mut round = 0u8;
    Living::reads(move |_| {
        let mut expected = pattern(3, 4 * PAGE);
        (expected[10], expected[PAGE]) = (42, if round == 0 { expected[PAGE] } else { round });
        same_bytes("shared map", &expected, area.bytes())?;
        round += 1;
        area.bytes()[PAGE] = round;
        let on_disk = fine("shared-map", std::fs::read("shared-map"))?;
        same_bytes("file of the shared map", area.bytes(), &on_disk)?;
        same("sharing", &true, &area.head()?.contains(" rw-s "))
    })
}

/// Small files that it writes to by maps, of which it has one open, too: with their directory they may be gone after a start of the
/// machine.
pub(crate) fn own_files(_: &[String]) -> Result<Living, String> {
    let directory = fine("getcwd", std::env::current_dir())?.join("own");
    write_down("directory", directory.to_str().ok_or("a name of text")?)?;
    fine("own", std::fs::create_dir(&directory))?;
    let mut expected = pattern(3, 2 * PAGE);
    let (open, closed) = (file_of("own/open", &expected)?, file_of("own/closed", &expected)?);
    let area = |fd, access| Area::map(2 * PAGE, access, libc::MAP_SHARED, fd);
    let reader = sys::open("own/open", libc::O_RDONLY | libc::O_CLOEXEC)?;
    let all = [area(open, READ_WRITE)?, area(reader, libc::PROT_READ)?, area(closed, READ_WRITE)?];
    [closed, reader].into_iter().for_each(sys::close);
    let mut round = 0;
    Living::reads(move |_| {
        for (what, area) in ["its map", "its other map", "the map of one that is closed"].into_iter().zip(&all) {
            same_bytes(what, &expected, area.bytes())?;
        }
        round += 1;
        expected[PAGE + round] = round as u8;
        all[0].bytes()[PAGE + round] = round as u8;
        all[2].bytes()[PAGE + round] = round as u8;
        let mut read = vec![0; 2 * PAGE];
        // SAFETY: pread writes no more than there is room for.
        must("pread", unsafe { libc::pread(open, read.as_mut_ptr().cast(), read.len(), 0) } as i64)?;
        same_bytes("what it reads", &expected, &read)
    })
}

/// A file map whose file is gone: its pages exist nowhere else.
pub(crate) fn deleted_file(_: &[String]) -> Result<Living, String> {
    let fd = file_of("deleted-map", &pattern(4, 8 * PAGE))?;
    let private = Area::map(8 * PAGE, READ_WRITE, libc::MAP_PRIVATE, fd)?;
    sys::close(fd);
    fine("deleted-map", std::fs::remove_file("deleted-map"))?;
    private.bytes()[5 * PAGE] = 9;
    let mut expected = pattern(4, 8 * PAGE);
    expected[5 * PAGE] = 9;
    Living::reads(move |_| same_bytes("map of a deleted file", &expected, private.bytes()))
}

pub(crate) fn stack(_: &[String]) -> Result<Living, String> {
    let depth = pattern(5, 100_000);
    same("the stack before", &sum(&depth), &descend(200))?;
    Living::reads(move |_| {
        same("64 KiB a level, 60 levels deeper than before", &sum(&depth), &descend(60))?;
        same("flags of the stack", &true, &stack_area().line("VmFlags")?.contains("gd"))
    })
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn stack_area() -> Area {
    let here = 0u8;
    Area { start: &raw const here as usize, length: 1 }
}

#[inline(never)]
fn descend(levels: u32) -> u64 {
    let mut room = [0u8; 16 * 1024];
    room[levels as usize] = levels as u8;
    let room = std::hint::black_box(room);
    let deeper = if levels > 0 { descend(levels - 1) } else { sum(&pattern(5, 100_000)) };
    deeper + u64::from(room[levels as usize]) - u64::from(levels as u8)
}

pub(crate) fn heap(_: &[String]) -> Result<Living, String> {
    let start = grow_heap(20 * PAGE)?;
    start.bytes().copy_from_slice(&pattern(6, 20 * PAGE));
    Living::reads(move |_| {
        same_bytes("heap", &pattern(6, 20 * PAGE), start.bytes())?;
        let more = grow_heap(100 * PAGE)?;
        same_bytes("new heap", &vec![0; 100 * PAGE], more.bytes())?;
        more.bytes().fill(1);
        same("name of the area", &true, &start.head()?.ends_with("[heap]"))
    })
}

fn grow_heap(length: usize) -> Result<Area, String> {
    // SAFETY: sbrk only adds room after what malloc has, as its manual allows.
    let start = unsafe { libc::sbrk(length as isize) };
    must("sbrk", start as i64).map(|start| Area { start: start as usize, length })
}

/// A guard page between two areas, and an area whose contents nobody may read.
pub(crate) fn guard(_: &[String]) -> Result<Living, String> {
    let area = Area::map(30 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    area.bytes().copy_from_slice(&pattern(7, 30 * PAGE));
    let hidden = area.part(10 * PAGE, 10 * PAGE);
    hidden.protect(libc::PROT_NONE)?;
    Living::reads(move |_| {
        same("the guard can be read", &false, &touchable(hidden.start)?)?;
        same("protection of the guard", &true, &hidden.head()?.contains(" ---p "))?;
        hidden.protect(READ_WRITE)?;
        let outcome = same_bytes("area with a guard inside", &pattern(7, 30 * PAGE), area.bytes());
        hidden.protect(libc::PROT_NONE)?;
        outcome
    })
}

/// Each advice that leaves a mark in VmFlags.
pub(crate) fn advice(_: &[String]) -> Result<Living, String> {
    let advices = [
        libc::MADV_DONTFORK,
        libc::MADV_DONTDUMP,
        libc::MADV_WIPEONFORK,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_SEQUENTIAL,
        libc::MADV_RANDOM,
        libc::MADV_MERGEABLE,
    ];
    let areas: Vec<Area> = advices.iter().map(|_| separate_area()).collect::<Result<_, _>>()?;
    for (area, advice) in areas.iter().zip(advices) {
        area.advise(advice)?;
    }
    keeps(move || areas.iter().map(|area| vm_flags(*area)).collect())
}

/// An area between two others of another protection, so that it never merges with a neighbour.
fn separate_area() -> Result<Area, String> {
    let whole = Area::map(6 * PAGE, libc::PROT_NONE, ANONYMOUS, -1)?;
    let area = whole.part(PAGE, 4 * PAGE);
    area.protect(READ_WRITE)?;
    area.bytes().fill(8);
    Ok(area)
}

/// The flags that a program sets; `sd` (soft-dirty) and `mw`, `mr`, `me`, `um`, `uw` follow from history and kernel.
fn vm_flags(area: Area) -> Result<String, String> {
    let flags = area.line("VmFlags")?;
    let kept = flags.split(' ').filter(|flag| !matches!(*flag, "sd" | "uw" | "um"));
    Ok(kept.collect::<Vec<_>>().join(" "))
}

/// A specimen that reads something about itself, and must read the same ever after.
fn keeps(mut read: impl FnMut() -> Result<Vec<String>, String> + 'static) -> Result<Living, String> {
    let expected = read()?;
    Living::reads(move |_| same("what was set", &expected, &read()?))
}

pub(crate) fn mlock(_: &[String]) -> Result<Living, String> {
    let (now, on_fault) = (separate_area()?, separate_area()?);
    // SAFETY: both areas are ours; locking changes no contents.
    unsafe {
        must("mlock", libc::mlock(now.start as *const _, now.length))?;
        must("mlock2", libc::syscall(libc::SYS_mlock2, on_fault.start, on_fault.length, 1))?;
    }
    // What nobody may use is locked, too, as the ends of stacks are, though none of it can be brought in (mlock(2), ENOMEM).
    let (unusable, partly) = (Area::map(4 * PAGE, libc::PROT_NONE, ANONYMOUS, -1)?, separate_area()?);
    // SAFETY: as above.
    let given = unsafe { libc::mlock(unusable.start as *const _, unusable.length) };
    same("what mlock(2) says of it", &(-1, libc::ENOMEM), &(given, sys::errno()))?;
    // SAFETY: as above.
    must("mlock", unsafe { libc::mlock(partly.start as *const _, partly.length) })?;
    let closed = partly.part(PAGE, PAGE);
    closed.protect(libc::PROT_NONE)?;
    keeps(move || {
        let flags = [now, on_fault, unusable, closed].map(vm_flags).into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok([flags, vec![now.line("Locked")?]].concat())
    })
}

/// The same, page by page, as they are used (MCL_ONFAULT).
pub(crate) fn mlock_on_fault(_: &[String]) -> Result<Living, String> {
    // SAFETY: locking changes no contents.
    must("mlockall", unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) })?;
    Living::reads(|_| {
        let area = separate_area()?;
        same("how a new area is locked", &true, &area.line("VmFlags")?.split(' ').any(|flag| flag == "lf"))
    })
}

/// `mlockall(MCL_FUTURE)`: even areas that do not exist yet.
pub(crate) fn mlock_future(_: &[String]) -> Result<Living, String> {
    // SAFETY: locking changes no contents.
    must("mlockall", unsafe { libc::mlockall(libc::MCL_FUTURE) })?;
    Living::reads(|_| {
        let area = separate_area()?;
        same("a new area is locked", &true, &area.line("VmFlags")?.split(' ').any(|flag| flag == "lo"))
    })
}

pub(crate) fn grows_down(_: &[String]) -> Result<Living, String> {
    let area = Area::map(4 * PAGE, READ_WRITE, ANONYMOUS | libc::MAP_GROWSDOWN, -1)?;
    area.bytes().copy_from_slice(&pattern(9, 4 * PAGE));
    Living::reads(move |_| {
        same_bytes("area that grows down", &pattern(9, 4 * PAGE), area.bytes())?;
        same("flags", &true, &area.line("VmFlags")?.contains("gd"))
    })
}

/// `prctl(2)`, PR_SET_VMA: a name for an anonymous area, as malloc and language runtimes give. A kernel built without
/// CONFIG_ANON_VMA_NAME refuses it with EINVAL; there the two areas must stay without a name.
pub(crate) fn named(_: &[String]) -> Result<Living, String> {
    let (plain, awkward) = (separate_area()?, separate_area()?);
    for (area, name) in [(plain, c"specimen"), (awkward, c"with: a blank/slash (deleted)")] {
        let named = sys::prctl(libc::PR_SET_VMA, [0, area.start as u64, area.length as u64, name.as_ptr() as u64]);
        same("a kernel without names says EINVAL", &true, &(named.is_ok() || sys::errno() == libc::EINVAL))?;
    }
    keeps(move || Ok(vec![tail(plain)?, tail(awkward)?]))
}

fn tail(area: Area) -> Result<String, String> {
    Ok(area.head()?.splitn(6, ' ').nth(5).unwrap_or_default().trim().to_owned())
}

/// MADV_GUARD_INSTALL (Linux 6.13): guards inside an area, which no area boundary shows.
pub(crate) fn light_guard(_: &[String]) -> Result<Living, String> {
    const MADV_GUARD_INSTALL: i32 = 102;
    let area = Area::map(16 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    area.bytes().copy_from_slice(&pattern(10, 16 * PAGE));
    area.part(4 * PAGE, 2 * PAGE).advise(MADV_GUARD_INSTALL)?;
    Living::reads(move |_| {
        for (page, expected) in (0..16).map(|page| (page, !(4..6).contains(&page))) {
            same(&format!("page {page} can be touched"), &expected, &touchable(area.start + page * PAGE)?)?;
        }
        same_bytes("before the guard", &pattern(10, 4 * PAGE), area.part(0, 4 * PAGE).bytes())?;
        same_bytes("after the guard", &pattern(10, 16 * PAGE)[6 * PAGE..], area.part(6 * PAGE, 10 * PAGE).bytes())
    })
}

/// The same in shared memory, and in memory that was locked then (mlock(2)).
pub(crate) fn light_guards(_: &[String]) -> Result<Living, String> {
    const MADV_GUARD_INSTALL: i32 = 102;
    let shared = Area::map(8 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    let locked = Area::map(8 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    for area in [shared, locked] {
        area.bytes().copy_from_slice(&pattern(12, 8 * PAGE));
        area.part(2 * PAGE, PAGE).advise(MADV_GUARD_INSTALL)?;
    }
    // SAFETY: changes nothing of what is there; what is guarded cannot be brought in, which it says.
    unsafe { libc::mlock(locked.start as *const _, locked.length) };
    same("whether it is locked", &true, &locked.line("VmFlags")?.contains("lo"))?;
    Living::reads(move |_| {
        for area in [shared, locked] {
            same("what is guarded", &false, &touchable(area.start + 2 * PAGE)?)?;
            same_bytes("before it", &pattern(12, 2 * PAGE), area.part(0, 2 * PAGE).bytes_read())?;
            same_bytes("behind it", &pattern(12, 8 * PAGE)[3 * PAGE..], area.part(3 * PAGE, 5 * PAGE).bytes_read())?;
        }
        same("whether it is locked", &true, &locked.line("VmFlags")?.contains("lo"))
    })
}

/// Shared memory of which no area shows the middle, nor the end, and of which a part has a name, if the kernel gives any.
pub(crate) fn shown_in_part(_: &[String]) -> Result<Living, String> {
    let area = Area::map(16 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    area.bytes().copy_from_slice(&pattern(13, 16 * PAGE));
    area.part(4 * PAGE, 2 * PAGE).forget()?;
    area.part(12 * PAGE, 4 * PAGE).forget()?;
    let (part, name) = (area.part(0, PAGE), c"a part");
    let _ = sys::prctl(libc::PR_SET_VMA, [0, part.start as u64, part.length as u64, name.as_ptr() as u64]);
    Living::reads(move |_| {
        // SAFETY: an old size of zero makes a second area of the same shared pages (mremap(2)).
        let again = unsafe { libc::mremap(area.start as *mut _, 0, 16 * PAGE, libc::MREMAP_MAYMOVE) };
        let again = Area { start: must("mremap", again as i64)? as usize, length: 16 * PAGE };
        let all = again.bytes_read();
        again.forget()?;
        same_bytes("all of it", &pattern(13, 16 * PAGE), all)
    })
}

/// 64 GiB of addresses with a hundred pages in use.
pub(crate) fn sparse(_: &[String]) -> Result<Living, String> {
    let area = Area::map(64 << 30, READ_WRITE, ANONYMOUS | libc::MAP_NORESERVE, -1)?;
    let pages: Vec<Area> = (0..100usize).map(|at| area.part(at * (640 << 20) + at * PAGE, PAGE)).collect();
    for (at, page) in pages.iter().enumerate() {
        page.bytes().copy_from_slice(&pattern(at as u64, PAGE));
    }
    Living::reads(move |_| {
        for (at, page) in pages.iter().enumerate() {
            same_bytes(&format!("page {at} of the large map"), &pattern(at as u64, PAGE), page.bytes())?;
        }
        same_bytes("a page never touched", &[0; PAGE], area.part(320 << 20, PAGE).bytes())?;
        same("flags", &true, &area.line("VmFlags")?.contains("nr"))
    })
}

/// One area, asked for little by little, of more than there is memory on this machine; and the heap.
pub(crate) fn overcommitted(_: &[String]) -> Result<Living, String> {
    const PIECE: usize = 1 << 30;
    // SAFETY: zeroes are a valid structure, and the kernel fills it in.
    let mut told: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: room for the structure.
    must("sysinfo", unsafe { libc::sysinfo(&raw mut told) })?;
    let most = (told.totalram + told.totalswap) as usize * told.mem_unit as usize;
    let all = Area::map((2 * most).next_multiple_of(PIECE), libc::PROT_NONE, ANONYMOUS, -1)?;
    for at in (0..all.length).step_by(PIECE) {
        all.part(at, PIECE).protect(READ_WRITE)?;
        // SAFETY: nobody uses what is above the end of the heap.
        must("sbrk", unsafe { libc::sbrk(PIECE as libc::intptr_t) } as i64)?;
    }
    // SAFETY: gives the end of the heap.
    let end = unsafe { libc::sbrk(0) } as usize;
    let ends = [all.part(0, PAGE), all.part(all.length - PAGE, PAGE), Area { start: end - PAGE, length: PAGE }];
    ends.iter().zip(1..).for_each(|(part, n)| part.bytes().fill(n));
    Living::reads(move |_| {
        // SAFETY: gives the end of the heap.
        same("the end of the heap", &end, &(unsafe { libc::sbrk(0) } as usize))?;
        ends.iter().zip(1..).try_for_each(|(part, n)| same_bytes("an end", &[n; PAGE], part.bytes()))?;
        let middle = all.part(all.length / 2, PAGE);
        same_bytes("what was never written", &[0; PAGE], middle.bytes())
    })
}

/// Pages that come from nodes of their own (mbind(2)): some of an area, and all of a shared one.
pub(crate) fn nodes(_: &[String]) -> Result<Living, String> {
    let own = Area::map(8 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    let shared = Area::map(4 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    own.bytes().fill(7);
    // MPOL_BIND with MPOL_F_STATIC_NODES, and MPOL_PREFERRED.
    for (area, mode) in [(own.part(2 * PAGE, 3 * PAGE), 0x8002), (shared, 1)] {
        let first = [1u64];
        // SAFETY: the area is ours, and one word of nodes is there, as we say.
        let r = unsafe { libc::syscall(libc::SYS_mbind, area.start, area.length, mode, first.as_ptr(), 64, 0) };
        must("mbind", r)?;
    }
    let policy = |at: usize| -> Result<(i32, u64), String> {
        const MPOL_F_ADDR: i32 = 2;
        let (mut mode, mut nodes) = (0i32, [0u64; 16]);
        let (into, bits) = (nodes.as_mut_ptr(), 8 * size_of_val(&nodes));
        // SAFETY: both are as long as the kernel is told.
        let r = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, into, bits, at, MPOL_F_ADDR) };
        must("get_mempolicy", r).map(|_| (mode, nodes[0]))
    };
    Living::reads(move |_| {
        let all = (0..8).map(|n| policy(own.start + n * PAGE)).collect::<Result<Vec<_>, _>>()?;
        let (any, bound) = ((0, 0), (0x8002, 1));
        same("those of some", &vec![any, any, bound, bound, bound, any, any, any], &all)?;
        same("those of a shared one", &(1, 1), &policy(shared.start + PAGE)?)?;
        same_bytes("what is there", &[7; PAGE], own.part(2 * PAGE, PAGE).bytes())
    })
}

/// Shared anonymous memory, seen through two areas of ours.
pub(crate) fn shared_anonymous(_: &[String]) -> Result<Living, String> {
    let area = Area::map(16 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    area.part(0, PAGE).bytes().copy_from_slice(&pattern(11, PAGE));
    let (from, anywhere) = (area.start as *mut _, std::ptr::null_mut::<u8>());
    // SAFETY: an old size of zero makes a second area of the same shared pages (mremap(2)).
    let again = unsafe { libc::mremap(from, 0, 16 * PAGE, libc::MREMAP_MAYMOVE, anywhere) };
    let again = Area { start: must("mremap", again as i64)? as usize, length: 16 * PAGE };
    let mut round = 0u8;
    Living::reads(move |_| {
        same_bytes("shared memory", &pattern(11, PAGE), again.part(0, PAGE).bytes())?;
        round += 1;
        area.bytes()[PAGE] = round;
        // Volatile, because the compiler knows nothing of two areas with one memory.
        // SAFETY: inside the second area, which is ours.
        let seen = unsafe { std::ptr::read_volatile((again.start + PAGE) as *const u8) };
        same("what the other area sees", &round, &seen)
    })
}

/// Shared anonymous memory of which no area shows the whole: pages 0 and 1 in one, 1 and 2 in the other.
pub(crate) fn shared_parts(_: &[String]) -> Result<Living, String> {
    let area = Area::map(3 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    area.bytes().copy_from_slice(&pattern(12, 3 * PAGE));
    let (second, third) = ((area.start + PAGE) as *mut _, (area.start + 2 * PAGE) as *mut _);
    // SAFETY: an old size of zero makes a second area of the same shared pages (mremap(2)).
    let again = unsafe { libc::mremap(second, 0, 2 * PAGE, libc::MREMAP_MAYMOVE, std::ptr::null_mut::<u8>()) };
    let again = Area { start: must("mremap", again as i64)? as usize, length: 2 * PAGE };
    // SAFETY: the last page of the first area, which nobody uses.
    must("munmap", unsafe { libc::munmap(third, PAGE) })?;
    let area = area.part(0, 2 * PAGE);
    Living::reads(move |_| {
        same_bytes("the first part", &pattern(12, 3 * PAGE)[..PAGE], area.part(0, PAGE).bytes())?;
        same_bytes("the last part", &pattern(12, 3 * PAGE)[2 * PAGE..], again.part(PAGE, PAGE).bytes())?;
        again.bytes()[7] ^= 1;
        // SAFETY: inside the first area, which is ours; volatile, because the compiler knows nothing of two areas with one memory.
        let seen = unsafe { std::ptr::read_volatile((area.start + PAGE + 7) as *const u8) };
        same("what the other area sees", &again.bytes()[7], &seen)
    })
}

/// A shared file map without the right to write: the protection and what it may be raised to.
pub(crate) fn read_only_file(_: &[String]) -> Result<Living, String> {
    sys::close(file_of("read-only-map", &pattern(12, 2 * PAGE))?);
    let fd = sys::open("read-only-map", libc::O_RDONLY)?;
    let area = Area::map(2 * PAGE, libc::PROT_READ, libc::MAP_SHARED, fd)?;
    sys::close(fd);
    let flags = vm_flags(area)?;
    Living::reads(move |_| {
        same_bytes("read-only map", &pattern(12, 2 * PAGE), area.bytes())?;
        same("VmFlags", &flags, &vm_flags(area)?)?;
        same("may become writable", &false, &area.protect(READ_WRITE).is_ok())
    })
}

/// Code made at run time, as a JIT does.
pub(crate) fn code(_: &[String]) -> Result<Living, String> {
    let area = Area::map(PAGE, READ_WRITE, ANONYMOUS, -1)?;
    // mov eax, 4711; ret
    area.bytes()[..6].copy_from_slice(&[0xb8, 0x67, 0x12, 0, 0, 0xc3]);
    area.protect(libc::PROT_READ | libc::PROT_EXEC)?;
    // SAFETY: the six bytes above are a whole function of this type.
    let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(area.start) };
    Living::reads(move |_| same("result of the made function", &4711, &function()))
}

/// Code that may not be read.
pub(crate) fn executed(_: &[String]) -> Result<Living, String> {
    let area = Area::map(PAGE, READ_WRITE, ANONYMOUS, -1)?;
    // mov eax, 4712; ret
    area.bytes()[..6].copy_from_slice(&[0xb8, 0x68, 0x12, 0, 0, 0xc3]);
    area.protect(libc::PROT_EXEC)?;
    // SAFETY: the six bytes above are a whole function of this type.
    let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(area.start) };
    let permissions = move || -> Result<bool, String> {
        Ok(sys::proc_text("maps")?.contains(&format!("{:x}-{:x} --xp", area.start, area.start + PAGE)))
    };
    Living::reads(move |_| {
        same("only executed", &true, &permissions()?)?;
        same("result of the made function", &4712, &function())
    })
}

/// An area that is locked and named, and sealed against any change.
pub(crate) fn sealed(_: &[String]) -> Result<Living, String> {
    const MSEAL: i64 = 462;
    let area = Area::map(3 * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    area.bytes().copy_from_slice(&sys::pattern(5, 3 * PAGE));
    area.advise(libc::MADV_DONTDUMP)?;
    let middle = area.part(PAGE, PAGE);
    middle.protect(libc::PROT_READ)?;
    // SAFETY: the seal keeps others from changing the area; nothing here does.
    must("mseal", unsafe { libc::syscall(MSEAL, middle.start, PAGE, 0) })?;
    let flags = middle.line("VmFlags")?;
    Living::reads(move |_| {
        same("flags of the area", &flags, &middle.line("VmFlags")?)?;
        same("a change", &true, &middle.protect(READ_WRITE).is_err())?;
        sys::same_bytes("contents", &sys::pattern(5, 3 * PAGE), area.bytes_read())
    })
}

pub(crate) fn many(arguments: &[String]) -> Result<Living, String> {
    let count = sys::number(arguments, 2_000);
    let area = Area::map(count * PAGE, READ_WRITE, ANONYMOUS, -1)?;
    for page in 0..count {
        area.part(page * PAGE, PAGE).bytes()[0] = page as u8;
    }
    // Every second page read-only: neighbours differ, so each is an area.
    for page in (0..count).step_by(2) {
        area.part(page * PAGE, PAGE).protect(libc::PROT_READ)?;
    }
    Living::reads(move |_| {
        let lines = sys::proc_text("maps")?.lines().count();
        same(&format!("at least {count} areas"), &true, &(lines >= count))?;
        let wrong = (0..count).find(|page| area.part(page * PAGE, PAGE).bytes()[0] != *page as u8);
        same("first page with another content", &None, &wrong)
    })
}

/// Many megabytes, so that a freeze takes long enough to be killed in the middle.
pub(crate) fn large(arguments: &[String]) -> Result<Living, String> {
    let length = sys::number(arguments, 64) << 20;
    let area = Area::map(length, READ_WRITE, ANONYMOUS, -1)?;
    let block = pattern(13, 1 << 20);
    for (at, part) in area.bytes().chunks_mut(1 << 20).enumerate() {
        part.copy_from_slice(&block);
        part[0] = at as u8;
    }
    Living::reads(move |_| {
        for (at, part) in area.bytes().chunks(1 << 20).enumerate() {
            same(&format!("first byte of MiB {at}"), &(at as u8), &part[0])?;
            same_bytes(&format!("MiB {at}"), &block[1..], &part[1..])?;
        }
        fine("flush", std::io::stdout().flush())
    })
}

/// What /proc shows of the places of code, data, heap, stack, arguments: `PR_SET_MM_MAP`.
pub(crate) fn layout(_: &[String]) -> Result<Living, String> {
    keeps(|| {
        let text = sys::proc_text("stat")?;
        let fields: Vec<&str> = text.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect());
        // proc_pid_stat(5), fields 26 to 28 and 45 to 51; the first here is number 3.
        Ok((26..=28).chain(45..=51).map(|field| format!("{field}: {}", fields[field - 3])).collect())
    })
}
