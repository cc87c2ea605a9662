//! Parsers of /proc text: bytes in, plain structures out.
//!
//! A name in /proc may hold any byte, so everything here works on bytes; the kernel escapes only what its own format
//! needs, and every file differently (fs/seq_file.c: `seq_path`, `seq_escape`), so each parser undoes what its file
//! does. Unknown fields and lines are passed over: kernels add some all the time. What is needed and missing is a
//! [`ParseError`], never a guess.

mod area;
mod dev;
mod fdinfo;
mod inet;
mod lock;
mod misc;
mod mount;
mod stat;
mod status;
mod sysvipc;
mod text;
mod timer;

pub use area::{Area, Perms, maps, of_smaps, smaps};
pub use dev::{kernel_dev, major, makedev, minor, new_decode_dev, new_encode_dev};
pub use fdinfo::{
    EpollWatch, FanotifyMark, Fdinfo, InotifyWatch, epoll_watches, fanotify, fdinfo, inotify_watches, uring_files,
};
pub use inet::{Connections, InetGroup, InetLine, inet, inet_groups, sockaddr};
pub use lock::{Lock, LockClass, lock, locks};
pub use misc::{Sched, auxv, encode_auxv, sched};
pub use mount::{Mount, mountinfo};
pub use stat::{Stat, stat};
pub use status::{Status, ids, mems_allowed, status, umask};
pub use sysvipc::{IpcRow, sysvipc};
pub use timer::{Notify, PosixTimer, Target, timers};

use std::fmt;

/// A file of /proc is not as we know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Which file: `smaps`, `stat`…
    pub file: &'static str,
    /// What is missing or strange, with the text that is.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read /proc text of {}: {}", self.file, self.what)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    fn new(file: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        ParseError { file, what }
    }

    fn line(file: &'static str, line: &[u8]) -> Self {
        Self::new(file, format!("unexpected line \"{}\"", line.escape_ascii()))
    }
}
