//! Locks on files, as `fdinfo` and `/proc/locks` tell of them.

use super::text::{hex, signed, unsigned, words};

/// What kind of lock it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockClass {
    /// Of a process: fcntl(2), F_SETLK.
    Posix,
    /// Of a description: fcntl(2), F_OFD_SETLK.
    Ofd,
    /// Of a description: flock(2).
    Flock,
    /// Of a description: fcntl(2), F_SETLEASE.
    Lease,
    /// Something else: one that another machine asked for.
    Other,
}

/// A lock on a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// What kind of lock it is.
    pub class: LockClass,
    /// Whether nobody else may have one there.
    pub exclusive: bool,
    /// Whether somebody waits for it, and does not have it.
    pub waits: bool,
    /// Who asked for it; -1: it is of a description only.
    pub pid: i64,
    /// Major and minor number of the device.
    pub dev: (u32, u32),
    /// The inode number.
    pub ino: u64,
    /// The first byte.
    pub start: u64,
    /// The last byte; `None`: to the end of the file, wherever that is.
    pub end: Option<u64>,
    /// Of a lease that is being broken: what it is to become, F_RDLCK or F_UNLCK (fcntl(2)).
    pub becomes: Option<u32>,
}

impl Lock {
    /// Whether somebody who opens the file to read it breaks it, or waits (fs/locks.c, `__break_lease`).
    pub fn is_broken_by_reading(&self) -> bool {
        self.class == LockClass::Lease && (self.exclusive || self.becomes.is_some())
    }
}

/// Reads what stands behind the number: `POSIX  ADVISORY  WRITE 725 fe:00:1234 0 EOF` (fs/locks.c, `lock_get_status`).
/// `None`: a lock of something that has no inode, or another text.
pub fn lock(text: &[u8]) -> Option<Lock> {
    let mut words = words(text).skip_while(|word| word.ends_with(b":"));
    let mut class = words.next()?;
    let waits = class == b"->";
    if waits {
        class = words.next()?;
    }
    let breaking = words.next()? == b"BREAKING";
    let kind = words.next()?;
    let becomes = breaking.then_some(if kind == b"READ" { 0 } else { 2 });
    let pid = signed(words.next()?)?;
    let mut inode = words.next()?.split(|byte| *byte == b':');
    let dev = (hex(inode.next()?)?, hex(inode.next()?)?);
    let ino = unsigned(inode.next()?)?;
    let start = unsigned(words.next()?)?;
    let end = Some(words.next()?).filter(|end| *end != b"EOF").map(|end| unsigned(end).ok_or(())).transpose().ok()?;
    let class = match class {
        b"POSIX" => LockClass::Posix,
        b"OFDLCK" => LockClass::Ofd,
        b"FLOCK" => LockClass::Flock,
        b"LEASE" => LockClass::Lease,
        _ => LockClass::Other,
    };
    Some(Lock { class, exclusive: kind == b"WRITE", waits, pid, dev, ino, start, end, becomes })
}

/// Reads /proc/locks; what is no lock on a file is left out.
pub fn locks(text: &[u8]) -> Vec<Lock> {
    super::text::lines(text).filter_map(lock).collect()
}
