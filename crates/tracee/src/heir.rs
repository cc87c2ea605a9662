//! An heir: a process of ours that brings a change of the host to its end when we cannot do so any more, since we were
//! killed. It also does so while we live, so that there is one way only in which a change is undone.

use crate::stub::{clone_self, nest::keep_only, reap};
use abi::Fault;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is to become of the change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Legacy {
    /// It stays.
    Kept,
    /// It is to be undone.
    Undone,
}

/// The heir as we have it. When this is dropped, the change is undone.
#[derive(Debug)]
pub struct Heir {
    pid: i32,
    link: Option<UnixStream>,
}

/// The word after which what was changed stays.
const KEEP: u8 = 1;
/// The word before something that is told.
const TOLD: u8 = 0;

impl Heir {
    /// An heir that ends a change in this way; it is given all that it was told.
    ///
    /// # Errors
    /// The kernel gives no process.
    pub fn new(end: impl FnOnce(Legacy, &[Vec<u8>])) -> Result<Heir, Fault> {
        Heir::keeping(None, end)
    }

    /// The same, for an end that takes a descriptor.
    ///
    /// # Errors
    /// The kernel gives no process.
    pub fn keeping(fd: Option<i32>, end: impl FnOnce(Legacy, &[Vec<u8>])) -> Result<Heir, Fault> {
        let pair = UnixStream::pair().map_err(|e| Fault::new("socketpair", "an heir", e))?;
        // SAFETY: we have no other threads, so the child may do as it likes.
        let born = unsafe { clone_self(0, libc::SIGCHLD as u64, None) };
        let pid = born.map_err(|e| Fault::new("clone3", "an heir", e))?;
        if pid == 0 {
            let _ = catch_unwind(AssertUnwindSafe(|| inherit(pair, fd, end)));
            // SAFETY: _exit runs nothing of the process whose copy we are.
            unsafe { libc::_exit(0) }
        }
        Ok(Heir { pid, link: Some(pair.0) })
    }

    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.link.as_mut().expect("only the end takes the link").write_all(bytes)
    }

    /// Tells it of a part of the change.
    ///
    /// # Errors
    /// It is no more.
    pub fn tell(&mut self, what: &[u8]) -> std::io::Result<()> {
        self.say(&[&[TOLD], &(what.len() as u32).to_ne_bytes()[..], what].concat())
    }

    /// The change stays.
    pub fn keep(mut self) {
        let _ = self.say(&[KEEP]);
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.link.take();
        reap(self.pid);
    }
}

/// In the heir. All signals are blocked as they are in us, so nothing typed at a terminal ends it.
fn inherit((ours, mut link): (UnixStream, UnixStream), fd: Option<i32>, end: impl FnOnce(Legacy, &[Vec<u8>])) {
    let number = link.as_raw_fd();
    keep_only(number, fd.unwrap_or(number));
    // Closed with all others; the value must not close the number again.
    std::mem::forget(ours);
    // SAFETY: prctl with a name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"cryopid-heir".as_ptr()) };
    let mut told = Vec::new();
    let legacy = loop {
        match hear(&mut link) {
            Ok(Some(what)) => told.push(what),
            Ok(None) => break Legacy::Kept,
            Err(_) => break Legacy::Undone,
        }
    };
    end(legacy, &told);
}

/// The next thing that is told; `None`: all of it stays.
fn hear(link: &mut UnixStream) -> std::io::Result<Option<Vec<u8>>> {
    let (mut word, mut len) = ([0; 1], [0; 4]);
    link.read_exact(&mut word)?;
    if word[0] == KEEP {
        return Ok(None);
    }
    link.read_exact(&mut len)?;
    let mut what = vec![0; u32::from_ne_bytes(len) as usize];
    link.read_exact(&mut what)?;
    Ok(Some(what))
}
