//! Named pipes (fifo(7)) that a thaw opens. What the tree had in one is written into it again, and somebody else who has it open
//! would read that, or would be read. Those that can be seen are looked for before; those that cannot, when it is opened.

use crate::Error;
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tracee::procfs::{numbers, read};

/// Who waits in open(2) for somebody at the other end of a named pipe, by its device and inode number: he has no descriptor yet, and is
/// let go, one way or the other, by whoever opens it.
pub(crate) fn waiting() -> HashMap<(u64, u64), u32> {
    let threads = |pid| numbers(format!("/proc/{pid}/task")).map(move |tid| (pid, tid));
    let waits = |(pid, tid)| {
        let there = metadata(opens(pid, tid)?).ok().filter(|m| m.file_type().is_fifo())?;
        Some(((there.dev(), there.ino()), pid))
    };
    abi::gathered(numbers("/proc").flat_map(threads).filter_map(waits))
}

/// The path that a thread is opening (proc_pid_syscall(5)), from where we are.
fn opens(pid: u32, tid: u32) -> Option<PathBuf> {
    let text = read(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let text = String::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let sys = Sys::from_number(words.next()?.parse().ok()?, tracee::blob::MACHINE)?;
    let args: Vec<u64> = words.filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
    let (directory, at) = match sys {
        Sys::Open => (AT_FDCWD, *args.first()?),
        Sys::Openat => (*args.first()?, *args.get(1)?),
        _ => return None,
    };
    let name = string(pid, at)?;
    let base = match () {
        _ if name.starts_with(b"/") => "root".to_owned(),
        _ if directory as i32 == AT_FDCWD as i32 => "cwd".to_owned(),
        _ => format!("fd/{}", directory as i32),
    };
    let name = name.strip_prefix(b"/").unwrap_or(&name);
    Some(Path::new(&format!("/proc/{pid}/{base}")).join(OsStr::from_bytes(name)))
}

/// What stands in the memory of a process up to a zero byte, as far as a path may be long (limits.h, PATH_MAX).
fn string(pid: u32, at: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let read = File::open(format!("/proc/{pid}/mem")).ok()?.read_at(&mut bytes, at).ok()?;
    let end = bytes[..read].iter().position(|b| *b == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

/// The pipe at a path, if nobody reads from it and nothing waits in it. It is opened in no other way before it is known to be one.
pub(crate) fn open(path: &Path, access: u32) -> Result<OwnedFd, Error> {
    let fault = |e: Errno| Error::io("open", path.display(), std::io::Error::from(e));
    let refuse = |why| Error::refuse(path.display().to_string(), why, "end whoever has it open, or let them close it");
    let place = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fault)?;
    if FileType::from_raw_mode(fstat(&place).map_err(fault)?.st_mode) != FileType::Fifo {
        return Err(refuse("it is no named pipe any more"));
    }
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let access = OFlags::from_bits_retain(access);
    let open = |how| openat(CWD, &link, how | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    match open(OFlags::WRONLY) {
        // fifo(7): nobody has it open to read.
        Err(Errno::NXIO) => {}
        // Nothing is written into what is only read.
        Err(Errno::ACCESS) if access == OFlags::RDONLY => {}
        Err(e) => return Err(fault(e)),
        Ok(_) => return Err(refuse("another process here has it open to read, and would get what is the program's")),
    }
    let opened = open(access).map_err(fault)?;
    match rustix::io::ioctl_fionread(&opened).map_err(fault)? {
        0 => Ok(opened),
        _ => Err(refuse("something waits in it that is not the program's")),
    }
}

/// An end to read from a named pipe, by one to write; `None` where we may not.
pub(crate) fn reader(writer: &OwnedFd) -> Option<OwnedFd> {
    let link = format!("/proc/self/fd/{}", writer.as_raw_fd());
    openat(CWD, link, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}
