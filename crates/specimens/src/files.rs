//! Open files: where each stands, how it was opened, who shares it, and whether it still has a name.

use crate::life::Living;
use crate::sys::{self, Outcome, fcntl, fine, must, offset, open, pattern, same, same_bytes};
use std::os::unix::fs::{FileExt, MetadataExt};

fn seek(fd: i32, to: i64) -> Outcome {
    // SAFETY: touches no memory.
    must("lseek", unsafe { libc::lseek(fd, to, libc::SEEK_SET) }).map(drop)
}

fn whole(fd: i32) -> Result<Vec<u8>, String> {
    fine("fd", std::fs::read(format!("/proc/self/fd/{fd}")))
}

fn make(name: &str, bytes: &[u8]) -> Outcome {
    fine(name, std::fs::write(name, bytes))
}

pub(crate) fn position(_: &[String]) -> Result<Living, String> {
    make("numbers", &pattern(20, 10_000))?;
    let fd = open("numbers", libc::O_RDONLY)?;
    seek(fd, 1234)?;
    let mut at = 1234;
    Living::reads(move |_| {
        same("offset", &at, &offset(fd)?)?;
        let bytes = sys::read_up_to(fd, 100)?;
        same_bytes("bytes from there", &pattern(20, 10_000)[at as usize..][..100], &bytes)?;
        at += 100;
        Ok(())
    })
}

/// An offset far beyond the end.
pub(crate) fn far_position(_: &[String]) -> Result<Living, String> {
    make("short", b"short")?;
    let fd = open("short", libc::O_RDWR)?;
    seek(fd, 5 << 32)?;
    Living::reads(move |_| same("offset", &(5 << 32), &offset(fd)?))
}

const FLAGS: [i32; 12] = [
    libc::O_RDONLY,
    libc::O_WRONLY,
    libc::O_RDWR,
    libc::O_RDWR | libc::O_APPEND,
    libc::O_WRONLY | libc::O_NONBLOCK,
    libc::O_RDWR | libc::O_SYNC,
    libc::O_RDWR | libc::O_DSYNC,
    libc::O_RDONLY | libc::O_NOATIME,
    libc::O_RDONLY | libc::O_DIRECT,
    libc::O_RDONLY | libc::O_CLOEXEC,
    libc::O_PATH,
    libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
];

/// Every way to open a file.
pub(crate) fn flags(_: &[String]) -> Result<Living, String> {
    make("flags", b"contents")?;
    let fds = FLAGS.map(|flags| open("flags", flags)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let expected = fds.iter().map(|fd| flags_of(*fd)).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        for (at, fd) in fds.iter().enumerate() {
            same(&format!("flags of the file opened with {:#o}", FLAGS[at]), &expected[at], &flags_of(*fd)?)?;
        }
        Ok(())
    })
}

fn flags_of(fd: i32) -> Result<String, String> {
    let info = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let line = info.lines().find(|line| line.starts_with("flags:")).unwrap_or("no flags").to_owned();
    Ok(format!("{line}, {:#o}, {}", fcntl(fd, libc::F_GETFL, 0)?, fcntl(fd, libc::F_GETFD, 0)?))
}

/// Two writes after the freeze, each at the end of what another hand has added.
pub(crate) fn append(_: &[String]) -> Result<Living, String> {
    make("log", b"first\n")?;
    let fd = open("log", libc::O_WRONLY | libc::O_APPEND)?;
    sys::write(fd, b"second\n")?;
    let mut expected = b"first\nsecond\n".to_vec();
    Living::reads(move |_| {
        for line in [b"third\n", b"again\n"] {
            sys::write(fd, line)?;
            expected.extend_from_slice(line);
            same_bytes("the log", &expected, &fine("log", std::fs::read("log"))?)?;
        }
        Ok(())
    })
}

/// `truncate(2)` after the freeze, and a write in the middle: the file is the file, not a copy.
pub(crate) fn writes(_: &[String]) -> Result<Living, String> {
    make("data", &pattern(21, 1000))?;
    let fd = open("data", libc::O_RDWR)?;
    seek(fd, 500)?;
    let inode = fine("data", std::fs::metadata("data"))?.ino();
    let mut at = 500;
    Living::reads(move |_| {
        same("offset", &at, &offset(fd)?)?;
        sys::write(fd, b"new")?;
        same_bytes("what was written", b"new", &fine("data", std::fs::read("data"))?[at as usize..][..3])?;
        at += 3;
        same("inode", &inode, &fine("data", std::fs::metadata("data"))?.ino())
    })
}

/// A file without a name, with a hole of a mebibyte in it.
pub(crate) fn deleted(_: &[String]) -> Result<Living, String> {
    let file = fine("gone", std::fs::File::options().read(true).write(true).create(true).truncate(true).open("gone"))?;
    fine("write", file.write_all_at(&pattern(22, 5000), 0))?;
    fine("write", file.write_all_at(&pattern(23, 5000), 1 << 20))?;
    fine("unlink", std::fs::remove_file("gone"))?;
    let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
    seek(fd, 777)?;
    let mut expected = pattern(22, 5000);
    expected.resize(1 << 20, 0);
    expected.extend(pattern(23, 5000));
    Living::reads(move |_| {
        same("offset", &777, &offset(fd)?)?;
        same_bytes("contents of the deleted file", &expected, &whole(fd)?)?;
        let about = fine("fd", std::fs::metadata(format!("/proc/self/fd/{fd}")))?;
        same("number of names", &0, &about.nlink())?;
        sys::holds(&format!("the hole is filled: {} blocks", about.blocks()), sys::Truth(about.blocks() < 200))
    })
}

/// Deleted, with so many MiB.
pub(crate) fn deleted_large(arguments: &[String]) -> Result<Living, String> {
    let expected = pattern(25, sys::number(arguments, 8) << 20);
    make("gone-large", &expected)?;
    let fd = open("gone-large", libc::O_RDONLY)?;
    fine("unlink", std::fs::remove_file("gone-large"))?;
    Living::reads(move |_| same_bytes("contents", &expected, &whole(fd)?))
}

/// Deleted, then written again, twice open.
pub(crate) fn deleted_longer(_: &[String]) -> Result<Living, String> {
    make("gone-too", b"before ")?;
    let (fd, reader) = (open("gone-too", libc::O_RDWR | libc::O_APPEND)?, open("gone-too", libc::O_RDONLY)?);
    fine("unlink", std::fs::remove_file("gone-too"))?;
    sys::write(fd, b"and after")?;
    let mut expected = b"before and after".to_vec();
    Living::reads(move |_| {
        same_bytes("contents", &expected, &whole(reader)?)?;
        sys::write(fd, b"!")?;
        expected.push(b'!');
        same_bytes("contents, seen through the other descriptor", &expected, &whole(reader)?)?;
        same("link ends in (deleted)", &true, &link(fd)?.ends_with(" (deleted)"))
    })
}

fn link(fd: i32) -> Result<String, String> {
    fine("fd", std::fs::read_link(format!("/proc/self/fd/{fd}"))).map(|path| path.display().to_string())
}

/// Its name is gone, but another one is there.
pub(crate) fn second_name(_: &[String]) -> Result<Living, String> {
    make("name one", &pattern(24, 300))?;
    fine("link", std::fs::hard_link("name one", "name two"))?;
    let fd = open("name one", libc::O_RDWR)?;
    fine("unlink", std::fs::remove_file("name one"))?;
    let inode = |path: &str| fine(path, std::fs::metadata(path)).map(|m| m.ino());
    let expected = inode("name two")?;
    Living::reads(move |_| {
        same("inode", &[expected; 2], &[inode("name two")?, inode(&format!("/proc/self/fd/{fd}"))?])?;
        same_bytes("contents", &pattern(24, 300), &whole(fd)?)
    })
}

/// The name that is left is in another directory.
pub(crate) fn name_elsewhere(_: &[String]) -> Result<Living, String> {
    make("first", &pattern(24, 300))?;
    fine("mkdir", std::fs::create_dir_all("elsewhere"))?;
    fine("link", std::fs::hard_link("first", "elsewhere/second"))?;
    let fd = open("first", libc::O_RDWR)?;
    fine("unlink", std::fs::remove_file("first"))?;
    Living::reads(move |_| same_bytes("contents", &pattern(24, 300), &whole(fd)?))
}

pub(crate) fn renamed(_: &[String]) -> Result<Living, String> {
    make("old name", &pattern(25, 300))?;
    let fd = open("old name", libc::O_RDONLY)?;
    fine("rename", std::fs::rename("old name", "new name\nwith (deleted)"))?;
    let expected = link(fd)?;
    Living::reads(move |_| {
        same("path", &expected, &link(fd)?)?;
        same_bytes("contents", &pattern(25, 300), &whole(fd)?)
    })
}

/// Descriptors of one description move together; a second description of the file does not.
pub(crate) fn shared_offset(_: &[String]) -> Result<Living, String> {
    make("shared", &pattern(26, 5000))?;
    let one = open("shared", libc::O_RDONLY)?;
    let (two, high) = (fcntl(one, libc::F_DUPFD, 0)?, fcntl(one, libc::F_DUPFD_CLOEXEC, 200)?);
    let other = open("shared", libc::O_RDONLY)?;
    seek(one, 100)?;
    seek(other, 50)?;
    let mut at = 100;
    Living::reads(move |_| {
        same("number of the high descriptor", &200, &high)?;
        sys::read_up_to(two, 10)?;
        at += 10;
        same(
            "offsets of the three that share, and of the other",
            &[at, at, at, 50],
            &[offset(one)?, offset(two)?, offset(high)?, offset(other)?],
        )?;
        same("close on exec", &[0, 1], &[fcntl(two, libc::F_GETFD, 0)?, fcntl(high, libc::F_GETFD, 0)?])
    })
}

/// A directory read half way: the rest comes, nothing twice.
pub(crate) fn directory(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("many"))?;
    (0..300).try_for_each(|at| make(&format!("many/a rather long name for a small file {at}"), b""))?;
    let fd = open("many", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let first = entries(fd)?;
    let mut rest: Option<Vec<u64>> = None;
    Living::reads(move |_| {
        if rest.is_none() {
            let mut all = first.clone();
            std::iter::from_fn(|| entries(fd).ok().filter(|more| !more.is_empty())).for_each(|more| all.extend(more));
            rest = Some(all);
        }
        let mut all = rest.clone().unwrap_or_default();
        all.sort_unstable();
        all.dedup();
        same("names seen, each once, with . and ..", &302, &all.len())
    })
}

/// The inode numbers of one `getdents64`.
fn entries(fd: i32) -> Result<Vec<u64>, String> {
    let mut buffer = [0u64; 256];
    // SAFETY: the buffer is as long as we say.
    let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), 2048) };
    let length = must("getdents64", got)? as usize;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (mut at, mut inodes) = (0, Vec::new());
    while at < length {
        inodes.push(u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes")));
        at += usize::from(u16::from_ne_bytes(bytes[at + 16..at + 18].try_into().expect("two bytes")));
    }
    Ok(inodes)
}

pub(crate) fn devices(_: &[String]) -> Result<Living, String> {
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let fds =
        names.map(|name| open(&format!("/dev/{name}"), libc::O_RDWR)).into_iter().collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        for (name, fd) in names.iter().zip(&fds) {
            same("path", &format!("/dev/{name}"), &link(*fd)?)?;
        }
        same_bytes("null", b"", &sys::read_up_to(fds[0], 8)?)?;
        same_bytes("zero", &[0; 8], &sys::read_up_to(fds[1], 8)?)?;
        same("full takes nothing", &false, &sys::write(fds[2], b"x").is_ok())?;
        same(
            "random and urandom give",
            &[8, 8],
            &[sys::read_up_to(fds[3], 8)?.len(), sys::read_up_to(fds[4], 8)?.len()],
        )?;
        // SAFETY: asks for the foreground group of a terminal; a file that is none answers minus one.
        same("tty is our terminal", &true, &(unsafe { libc::tcgetpgrp(fds[5]) } > 0))
    })
}

fn stat_of(fd: i32) -> Result<libc::stat, String> {
    // SAFETY: zero is a value of the type.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one.
    must("fstat", unsafe { libc::fstat(fd, &raw mut stat) }).map(|_| stat)
}

/// A symbolic link that was opened by name only, and removed.
pub(crate) fn removed_link(_: &[String]) -> Result<Living, String> {
    fine("symlink", std::os::unix::fs::symlink("nowhere/at all", "link"))?;
    let fd = open("link", libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)?;
    fine("unlink", std::fs::remove_file("link"))?;
    Living::reads(move |_| {
        same("its name", &true, &link(fd)?.ends_with("/link (deleted)"))?;
        same("type", &libc::S_IFLNK, &(stat_of(fd)?.st_mode & libc::S_IFMT))?;
        let mut target = [0u8; 99];
        // SAFETY: the buffer is ours and as long as it says.
        let read = unsafe { libc::readlinkat(fd, c"".as_ptr(), target.as_mut_ptr().cast(), target.len()) };
        let read = must("readlinkat", read as i64)?;
        same_bytes("where it leads", b"nowhere/at all", &target[..read as usize])
    })
}

/// A device of one's own, which was removed.
pub(crate) fn removed_device(_: &[String]) -> Result<Living, String> {
    let mode = libc::S_IFCHR | 0o640;
    // SAFETY: the name ends in NUL and lives as long as the call.
    must("mknod", unsafe { libc::mknod(c"device".as_ptr(), mode, libc::makedev(1, 5)) })?;
    let fd = open("device", libc::O_RDWR)?;
    // SAFETY: takes integers.
    must("fchmod", unsafe { libc::fchmod(fd, 0o642) })?;
    fine("unlink", std::fs::remove_file("device"))?;
    Living::reads(move |_| {
        let stat = stat_of(fd)?;
        same("device", &libc::makedev(1, 5), &stat.st_rdev)?;
        same("mode, and names", &(libc::S_IFCHR | 0o642, 0), &(stat.st_mode, stat.st_nlink))?;
        same_bytes("zero", &[0; 8], &sys::read_up_to(fd, 8)?)
    })
}

pub(crate) fn many(arguments: &[String]) -> Result<Living, String> {
    let count = sys::number(arguments, 250);
    let fds = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        for (at, fd) in fds.iter().enumerate() {
            same(&format!("offset of file {at}"), &(at as i64 % 7), &offset(*fd)?)?;
            same_bytes(&format!("file {at}"), at.to_string().as_bytes(), &whole(*fd)?)?;
        }
        Ok(())
    })
}

fn numbered(at: usize) -> Result<i32, String> {
    let name = format!("file-{at}");
    make(&name, at.to_string().as_bytes())?;
    let fd = open(&name, libc::O_RDONLY)?;
    seek(fd, at as i64 % 7)?;
    Ok(fd)
}

/// A file that was made without a name, and has got one.
pub(crate) fn published(_: &[String]) -> Result<Living, String> {
    let fd = sys::open(".", libc::O_TMPFILE | libc::O_RDWR)?;
    sys::write(fd, b"a document")?;
    let link = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).expect("no NUL in it");
    let _ = std::fs::remove_file("published");
    // SAFETY: C strings that live as long as the call.
    must("linkat", unsafe {
        libc::linkat(libc::AT_FDCWD, link.as_ptr(), libc::AT_FDCWD, c"published".as_ptr(), libc::AT_SYMLINK_FOLLOW)
    })?;
    let mut length = 10;
    Living::reads(move |_| {
        sys::write(fd, b"!")?;
        length += 1;
        same("length by its name", &length, &fine("stat", std::fs::metadata("published"))?.len())
    })
}
