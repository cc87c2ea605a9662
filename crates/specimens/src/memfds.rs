//! Files in memory: names, modes, seals, holes, descriptions and areas of them.

use crate::life::Living;
use crate::mem::{Area, PAGE, READ_WRITE};
use crate::sys::{self, Outcome, fcntl, fine, must, offset, pattern, same, same_bytes};
use std::ffi::CString;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;
const F_SEAL_EXEC: i32 = 0x20;
const ALL: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
/// O_LARGEFILE, which every file gets of a program of 64 bits (asm-generic/fcntl.h); the C library calls it 0.
const LARGEFILE: i32 = 0o100000;
const HUGE: usize = 2 << 20;
const FAR: u64 = 3 << 20;

fn create(name: &[u8], flags: u32) -> Result<i32, String> {
    let name = CString::new(name).expect("no NUL in a name of ours");
    // SAFETY: the name ends in NUL and lives as long as the call.
    must("memfd_create", unsafe { libc::memfd_create(name.as_ptr(), flags) }).map(|fd| fd as i32)
}

fn seal(fd: i32, seals: i32) -> Outcome {
    fcntl(fd, libc::F_ADD_SEALS, seals).map(drop)
}

/// The same descriptor, for the library's calls.
fn file(fd: i32) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open for as long as we live, and is not closed here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

fn contents(fd: i32) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; fine("fstat", file(fd).metadata())?.len() as usize];
    fine("pread", file(fd).read_exact_at(&mut bytes, 0))?;
    Ok(bytes)
}

/// What can be asked of one, but its contents.
fn looks(fd: i32) -> Result<String, String> {
    let about = fine("fstat", file(fd).metadata())?;
    let link = fine("readlink", std::fs::read_link(format!("/proc/self/fd/{fd}")))?;
    let seals = fcntl(fd, libc::F_GET_SEALS, 0)?;
    let flags = (fcntl(fd, libc::F_GETFL, 0)?, fcntl(fd, libc::F_GETFD, 0)?, offset(fd)?);
    Ok(format!("{link:?} mode {:o} {} bytes seals {seals:#x} {flags:?}", about.mode(), about.len()))
}

/// Names and seals of every sort; the second has no seal, and can get one.
pub(crate) fn kinds(_: &[String]) -> Result<Living, String> {
    let sealing = libc::MFD_ALLOW_SEALING;
    let some: [(&[u8], u32, u32, i32); 7] = [
        (b"odd/name \n\xff\\012 (deleted)", libc::MFD_CLOEXEC, 0o777, 0),
        (&[b'x'; 249], sealing, 0o600, 0),
        (b"", sealing | MFD_EXEC, 0o755, ALL),
        (b"grows", sealing, 0o777, libc::F_SEAL_SHRINK),
        (b"shrinks", sealing, 0o1711, libc::F_SEAL_GROW),
        (b"data", MFD_NOEXEC_SEAL, 0o644, libc::F_SEAL_FUTURE_WRITE),
        (b"program", sealing | MFD_EXEC, 0o711, F_SEAL_EXEC),
    ];
    let mut fds = Vec::new();
    for (n, (name, flags, mode, seals)) in some.into_iter().enumerate() {
        let fd = create(name, flags)?;
        fine("pwrite", file(fd).write_all_at(&pattern(n as u64, 5000), 0))?;
        fine("pwrite", file(fd).write_all_at(&pattern(n as u64, 5000), FAR))?;
        // SAFETY: takes integers.
        must("fchmod", unsafe { libc::fchmod(fd, mode) })?;
        // SAFETY: takes integers.
        must("lseek", unsafe { libc::lseek(fd, 100 + n as i64, libc::SEEK_SET) })?;
        if seals != 0 {
            seal(fd, seals)?;
        }
        fds.push(fd);
    }
    let mut expected = fds.iter().map(|fd| looks(*fd)).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        for (n, fd) in fds.iter().enumerate() {
            same("name, mode and seals", &expected[n], &looks(*fd)?)?;
            let mut bytes = pattern(n as u64, 5000);
            bytes.resize(FAR as usize, 0);
            bytes.extend(pattern(n as u64, 5000));
            same_bytes(&format!("file {n}"), &bytes, &contents(*fd)?)?;
            let blocks = fine("fstat", file(*fd).metadata())?.blocks();
            sys::holds(&format!("the hole is filled: {blocks} blocks"), sys::Truth(blocks < 100))?;
        }
        seal(fds[1], libc::F_SEAL_GROW)?;
        expected[1] = looks(fds[1])?;
        [0, 2].iter().try_for_each(|n| same("it takes a seal", &false, &seal(fds[*n], libc::F_SEAL_GROW).is_ok()))?;
        let writes = fds.iter().enumerate().map(|(n, fd)| file(*fd).write_at(&pattern(n as u64, 1), 0).is_ok());
        same("may be written", &[true, true, false, true, true, false, false].to_vec(), &writes.collect())?;
        same("grows", &false, &file(fds[4]).set_len(FAR + 5001).is_ok())?;
        same("shrinks", &false, &file(fds[3]).set_len(FAR).is_ok())
    })
}

/// Several descriptions of one, each with its access, flags and offset; the first that was made is not the one with the
/// lowest number.
pub(crate) fn descriptions(_: &[String]) -> Result<Living, String> {
    let first = create(b"several", libc::MFD_ALLOW_SEALING)?;
    fine("pwrite", file(first).write_all_at(&pattern(40, 3000), 0))?;
    let modes = [libc::O_RDONLY, libc::O_WRONLY | libc::O_APPEND, libc::O_RDWR | libc::O_NONBLOCK];
    let open = |mode| sys::open(&format!("/proc/self/fd/{first}"), mode);
    let mut fds = modes.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    fds.extend([fcntl(fds[0], libc::F_DUPFD, 0)?, fcntl(first, libc::F_DUPFD_CLOEXEC, 90)?]);
    sys::close(first);
    sys::read_up_to(fds[0], 10)?;
    sys::read_up_to(fds[2], 20)?;
    seal(fds[4], libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL)?;
    let mut expected = pattern(40, 3000);
    let mut at = 10;
    Living::reads(move |_| {
        let offsets = fds.iter().map(|fd| offset(*fd)).collect::<Result<Vec<_>, _>>()?;
        same("offsets", &[at, at, 20, 0], &[offsets[0], offsets[3], offsets[2], offsets[4]])?;
        same("flags", &modes.map(|mode| mode | LARGEFILE).to_vec(), &flags(&fds[..3])?)?;
        same_bytes("what comes next", &expected[at as usize..][..5], &sys::read_up_to(fds[3], 5)?)?;
        at += 5;
        sys::write(fds[1], b"more")?;
        expected.extend(b"more");
        same_bytes("all of it", &expected, &contents(fds[4])?)?;
        same("seals", &(libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL), &fcntl(fds[0], libc::F_GET_SEALS, 0)?)
    })
}

fn flags(fds: &[i32]) -> Result<Vec<i32>, String> {
    fds.iter().map(|fd| fcntl(*fd, libc::F_GETFL, 0)).collect()
}

fn map(fd: i32, protection: i32, flags: i32) -> Result<Area, String> {
    Area::map(4 * PAGE, protection, flags, fd)
}

/// Areas of sealed ones: what was mapped before may be written, what was sealed for good may be read, a private copy is the
/// program's own.
pub(crate) fn areas(_: &[String]) -> Result<Living, String> {
    let (future, fixed) = (create(b"future", libc::MFD_ALLOW_SEALING)?, create(b"fixed", libc::MFD_ALLOW_SEALING)?);
    fine("pwrite", file(future).write_all_at(&pattern(41, 4 * PAGE), 0))?;
    fine("pwrite", file(fixed).write_all_at(&pattern(42, 4 * PAGE), 0))?;
    let written = map(future, READ_WRITE, libc::MAP_SHARED)?;
    seal(future, libc::F_SEAL_FUTURE_WRITE)?;
    seal(fixed, ALL)?;
    let read = map(fixed, libc::PROT_READ, libc::MAP_SHARED)?;
    let own = map(fixed, READ_WRITE, libc::MAP_PRIVATE)?;
    own.bytes()[PAGE] ^= 1;
    let mut copy = pattern(42, 4 * PAGE);
    copy[PAGE] ^= 1;
    let mut round = 0;
    Living::reads(move |_| {
        same("pwrite into the one that is written", &false, &file(future).write_at(b"x", 0).is_ok())?;
        same("a new shared area", &false, &map(future, READ_WRITE, libc::MAP_SHARED).is_ok())?;
        same("the byte of the last round", &round, &if round == 0 { 0 } else { written.bytes()[7] })?;
        round += 1;
        written.bytes()[7] = round;
        let mut expected = pattern(41, 4 * PAGE);
        expected[7] = round;
        same_bytes("what was written", &expected, &contents(future)?)?;
        same("may become writable", &false, &read.protect(READ_WRITE).is_ok())?;
        same_bytes("the fixed one, read", &pattern(42, 4 * PAGE), &contents(fixed)?)?;
        same_bytes("the fixed one, mapped", &pattern(42, 4 * PAGE), read.bytes_read())?;
        same_bytes("the copy", &copy, own.bytes())?;
        same("seals", &(ALL, libc::F_SEAL_FUTURE_WRITE), &(get_seals(fixed)?, get_seals(future)?))
    })
}

fn get_seals(fd: i32) -> Result<i32, String> {
    fcntl(fd, libc::F_GET_SEALS, 0)
}

/// Its descriptor is closed: shared and private areas are all that is left of it, and what one of them writes is seen by those that
/// have no copy.
pub(crate) fn only_areas(_: &[String]) -> Result<Living, String> {
    let fd = create(b"closed\nname", libc::MFD_ALLOW_SEALING)?;
    fine("pwrite", file(fd).write_all_at(&pattern(43, 4 * PAGE), 0))?;
    let (shared, own) = (map(fd, READ_WRITE, libc::MAP_SHARED)?, map(fd, READ_WRITE, libc::MAP_PRIVATE)?);
    seal(fd, libc::F_SEAL_GROW)?;
    sys::close(fd);
    own.part(2 * PAGE, PAGE).bytes().fill(1);
    let mut round = 0;
    Living::reads(move |_| {
        let mut expected = pattern(43, 4 * PAGE);
        (expected[5], expected[3 * PAGE]) = (if round == 0 { expected[5] } else { round }, expected[3 * PAGE]);
        same_bytes("the shared area", &expected, shared.bytes())?;
        round += 1;
        shared.bytes()[5] = round;
        expected[5] = round;
        expected[2 * PAGE..3 * PAGE].fill(1);
        same_bytes("the private area", &expected, own.bytes_read())?;
        same("name", &true, &shared.head()?.ends_with("/memfd:closed\\012name (deleted)"))?;
        seals_of_link(shared)
    })
}

/// Shared memory without a file, of which the link of an area makes one (proc_pid_map_files(5)): with a private copy, and a
/// further view of it. Of one such object the descriptor stays open; of the other, only areas are left.
pub(crate) fn of_memory(_: &[String]) -> Result<Living, String> {
    let objects = [50, 60].map(|seed| {
        let whole = Area::map(4 * PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
        whole.bytes().copy_from_slice(&pattern(seed, 4 * PAGE));
        let link = format!("/proc/self/map_files/{:x}-{:x}", whole.start, whole.start + 4 * PAGE);
        let fd = sys::open(&link, libc::O_RDWR)?;
        let (own, again) = (map(fd, READ_WRITE, libc::MAP_PRIVATE)?, map(fd, READ_WRITE, libc::MAP_SHARED)?);
        own.part(2 * PAGE, PAGE).bytes().fill(1);
        Ok::<_, String>((seed, fd, [whole, own, again]))
    });
    let [first, second] = objects;
    let (first, second) = (first?, second?);
    sys::close(second.1);
    let mut round = 0;
    Living::reads(move |_| {
        for (seed, fd, [whole, own, again]) in [first, second] {
            let mut expected = pattern(seed, 4 * PAGE);
            expected[5] = if round == 0 { expected[5] } else { round };
            same_bytes("the other shared area", &expected, again.bytes_read())?;
            expected[5] = round + 1;
            whole.bytes()[5] = round + 1;
            same_bytes("what was written, in the other shared area", &expected, again.bytes_read())?;
            if seed == first.0 {
                same_bytes("what the descriptor leads to", &expected, &contents(fd)?)?;
            }
            expected[2 * PAGE..3 * PAGE].fill(1);
            same_bytes("the private area", &expected, own.bytes_read())?;
        }
        round += 1;
        Ok(())
    })
}

/// The link of an area can be opened by who has CAP_CHECKPOINT_RESTORE, and tells of the same file.
fn seals_of_link(area: Area) -> Outcome {
    let range = area.head()?;
    let words: Vec<&str> = range.split(['-', ' ']).collect();
    let trimmed = |text: &str| text.trim_start_matches('0').to_owned();
    match sys::open(&format!("/proc/self/map_files/{}-{}", trimmed(words[0]), trimmed(words[1])), libc::O_RDONLY) {
        Ok(fd) => {
            let seals = get_seals(fd);
            sys::close(fd);
            same("seals of the area's file", &libc::F_SEAL_GROW, &seals?)
        }
        Err(why) => same("why its link cannot be opened", &true, &why.contains("not permitted")),
    }
}

/// One that a process outside has too, and that nobody can change.
pub(crate) fn fixed() -> Result<Living, String> {
    let fd = create(b"fixed", libc::MFD_ALLOW_SEALING)?;
    fine("pwrite", file(fd).write_all_at(&pattern(44, 9000), 0))?;
    seal(fd, ALL)?;
    let area = map(fd, libc::PROT_READ, libc::MAP_SHARED)?;
    Living::reads(move |_| {
        same_bytes("contents", &pattern(44, 9000), &contents(fd)?)?;
        same_bytes("what is mapped", &pattern(44, 9000)[..PAGE], area.part(0, PAGE).bytes_read())
    })
}

/// Of huge pages: one with a name, seals, a hole and two descriptions, mapped for all and privately; one of which only areas are
/// left; and one that is fixed.
pub(crate) fn huge(_: &[String]) -> Result<Living, String> {
    let shared = |fd, pages: usize| Area::map(pages * HUGE, READ_WRITE, libc::MAP_SHARED, fd);
    let (fd, closed, fixed) = (of_huge(b"huge pages", 3)?, of_huge(b"closed", 2)?, of_huge(b"fixed", 1)?);
    let again = sys::open(&format!("/proc/self/fd/{fd}"), libc::O_RDONLY)?;
    // SAFETY: takes integers.
    must("lseek", unsafe { libc::lseek(again, 77, libc::SEEK_SET) })?;
    let (whole, own) = (shared(fd, 3)?, Area::map(3 * HUGE, READ_WRITE, libc::MAP_PRIVATE, fd)?);
    let part = |area: Area, at: usize| area.part(at, 5000);
    part(whole, HUGE - 5000).bytes().copy_from_slice(&pattern(81, 5000));
    part(whole, 2 * HUGE + 9000).bytes().copy_from_slice(&pattern(82, 5000));
    part(own, 2 * HUGE + 8000).bytes().copy_from_slice(&pattern(83, 5000));
    seal(fd, libc::F_SEAL_GROW | libc::F_SEAL_SHRINK)?;
    let views = [shared(closed, 2)?, shared(closed, 2)?];
    part(views[0], HUGE - 2000).bytes().copy_from_slice(&pattern(84, 5000));
    sys::close(closed);
    let area = shared(fixed, 1)?;
    part(area, 3000).bytes().copy_from_slice(&pattern(85, 5000));
    area.forget()?;
    seal(fixed, ALL)?;
    let mut looked = [fd, again, fixed].map(looks);
    let mut round = 0;
    Living::reads(move |_| {
        for (fd, before) in [fd, again, fixed].into_iter().zip(&mut looked) {
            same("name, mode and seals", before, &looks(fd))?;
            *before = looks(fd);
        }
        for area in [whole, own, views[0], views[1]] {
            same("the size of a page", &"2048 kB".to_owned(), &area.line("KernelPageSize")?)?;
        }
        same_bytes("the end of the first page", &pattern(81, 5000), part(whole, HUGE - 5000).bytes_read())?;
        same_bytes("what all see", &pattern(82, 5000), part(whole, 2 * HUGE + 9000).bytes_read())?;
        same_bytes("what is written privately", &pattern(83, 5000), part(own, 2 * HUGE + 8000).bytes_read())?;
        same_bytes("not written privately", &pattern(81, 5000), part(own, HUGE - 5000).bytes_read())?;
        let mut bytes = vec![0; 5000];
        fine("pread", file(again).read_exact_at(&mut bytes, 2 * HUGE as u64 + 9000))?;
        same_bytes("what is read", &pattern(82, 5000), &bytes)?;
        let blocks = fine("fstat", file(fd).metadata())?.blocks();
        same("what is in use", &(2 * HUGE as u64 / 512), &blocks)?;
        same_bytes("what only areas show", &pattern(84, 5000), part(views[1], HUGE - 2000).bytes_read())?;
        same("the byte of the last round", &round, &views[1].part(9, 1).bytes_read()[0])?;
        round += 1;
        views[0].bytes()[9] = round;
        fine("pread", file(fixed).read_exact_at(&mut bytes, 3000))?;
        same_bytes("what is fixed", &pattern(85, 5000), &bytes)?;
        same("may be mapped for writing", &false, &shared(fixed, 1).is_ok())
    })
}

/// One of huge pages, of this length in pages.
fn of_huge(name: &[u8], pages: usize) -> Result<i32, String> {
    let fd = create(name, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB | libc::MFD_ALLOW_SEALING)?;
    // SAFETY: takes integers.
    must("ftruncate", unsafe { libc::ftruncate(fd, (pages * HUGE) as i64) })?;
    Ok(fd)
}
