//! The namespaces of a tree: the helper that makes them, and the first process of a new pid namespace.

use super::births::Start;
use super::clone_self;
use super::pass::receive_fd;
use crate::here::Ids;
use crate::{fault, sys};
use abi::{Errno, Fault};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// The id of the first process of a pid namespace.
pub(super) const FIRST: u32 = 1;

/// In which namespaces the first stub is born.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nest {
    /// In ours.
    Same,
    /// In a new pid namespace, and a mount namespace in which /proc tells of it.
    Pid,
    /// The same in a new user namespace with these ids only.
    UserPid {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// What a helper tells: how far it came, the error there, and the id of the newborn.
#[derive(Clone, Copy, Default)]
pub(super) struct Word {
    stage: u32,
    pub(super) errno: i32,
    pid: i32,
}

const STAGES: [&str; 9] = [
    "clone3(set_tid)",
    "unshare(CLONE_NEWUSER)",
    "write(/proc/self/uid_map)",
    "unshare(CLONE_NEWPID|CLONE_NEWNS)",
    "mount(MS_SLAVE)",
    "clone3(the first process of the namespace)",
    "mount(/proc)",
    "prctl(PR_SET_PDEATHSIG)",
    "unshare(CLONE_NEWTIME)",
];

impl Word {
    fn failed(stage: u32, e: Errno) -> Word {
        Word { stage, errno: e.0, pid: 0 }
    }

    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.stage.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.pid.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(b: [u8; 12]) -> Word {
        let int = |at: usize| i32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Word { stage: int(0) as u32, errno: int(4), pid: int(8) }
    }

    pub(super) fn pid(self) -> Result<i32, Fault> {
        match self.errno {
            0 => Ok(self.pid),
            e => Err(Fault::new(*STAGES.get(self.stage as usize).unwrap_or(&"clone3"), "the first stub", Errno(e))),
        }
    }
}

/// What the helper has of us.
pub(super) struct HelperEnds {
    pub(super) word: UnixStream,
    pub(super) init: UnixStream,
}
/// Makes the namespaces, their first process and the first stub, tells its id and exits.
pub(super) fn help(nest: Nest, pid: u32, start: &Start, mut ends: HelperEnds) -> ! {
    let word = made(nest, pid, start, &ends).unwrap_or_else(|word| word);
    let _ = ends.word.write_all(&word.to_bytes());
    exit()
}

fn exit() -> ! {
    // SAFETY: _exit runs nothing of the process whose copy we are.
    unsafe { libc::_exit(0) }
}

fn checked(stage: u32, r: i32) -> Result<(), Word> {
    sys::result(i64::from(r)).map(drop).map_err(|e| Word::failed(stage, e))
}

/// The instant before the act of that stage.
fn point(stage: u32) -> Result<(), Word> {
    fault::point().map_err(|e| Word::failed(stage, e))
}

fn made(nest: Nest, pid: u32, start: &Start, ends: &HelperEnds) -> Result<Word, Word> {
    point(7)?;
    // SAFETY: prctl with numbers only. If our maker is gone already, the word goes nowhere and all of us exit.
    checked(7, unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    if let Nest::UserPid { uid, gid } = nest {
        point(1)?;
        // SAFETY: unshare with numbers only.
        checked(1, unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
        point(2)?;
        let errno = Ids::new((uid, gid)).map();
        if errno != 0 {
            return Err(Word::failed(2, Errno(errno)));
        }
    }
    if let Some(clocks) = start.clocks {
        point(8)?;
        clocks.enter().map_err(|e| Word::failed(8, Errno::from(e)))?;
    }
    point(3)?;
    // SAFETY: likewise.
    checked(3, unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) })?;
    point(4)?;
    make_slave(c"/").or_else(|word| match Errno(word.errno) {
        // A root directory that is no mount point (chroot(2)). What is mounted on /proc spreads as the mount there does.
        Errno::EINVAL => make_slave(c"/proc"),
        _ => Err(word),
    })?;
    // Who was the first process of such a namespace is so again.
    let (mut ready, mut said) = UnixStream::pair().map_err(|e| Word::failed(5, Errno::from(e)))?;
    if pid == FIRST {
        point(6)?;
    } else {
        first_process(ends)?;
    }
    let clone_parent = libc::CLONE_PARENT as u64;
    // SAFETY: the child only mounts /proc, tells of it, closes descriptors and jumps into the code of the envoy.
    match unsafe { clone_self(clone_parent, 0, Some(pid)) } {
        Ok(0) => {
            let word = if pid == FIRST { mount_proc().err().unwrap_or_default() } else { Word::default() };
            let _ = said.write_all(&word.to_bytes());
            let others = [ends.word.as_raw_fd(), ends.init.as_raw_fd(), said.as_raw_fd(), ready.as_raw_fd()];
            // SAFETY: descriptors that the stub must not keep.
            others.iter().for_each(|fd| _ = unsafe { libc::close(*fd) });
            start.begin()
        }
        Ok(pid) => {
            drop(said);
            // SAFETY: kill reads no memory of ours.
            let heard = heard(&mut ready).inspect_err(|_| _ = unsafe { libc::kill(pid, libc::SIGKILL) });
            heard.map(|()| Word { stage: 0, errno: 0, pid })
        }
        Err(e) => Err(Word::failed(0, e)),
    }
}

/// What a child has told.
fn heard(ready: &mut UnixStream) -> Result<(), Word> {
    let mut bytes = [0; 12];
    ready.read_exact(&mut bytes).map_err(|e| Word::failed(6, Errno::from(e)))?;
    let word = Word::from_bytes(bytes);
    if word.errno == 0 { Ok(()) } else { Err(word) }
}

/// The /proc of the namespace of whoever mounts it.
fn mount_proc() -> Result<(), Word> {
    mount(6, c"/proc", c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

fn mount(stage: u32, at: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Result<(), Word> {
    // SAFETY: C strings, no data.
    checked(stage, unsafe { libc::mount(c"proc".as_ptr(), at.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

/// What is mounted below from now on is seen in this namespace only (mount_namespaces(7)).
fn make_slave(at: &std::ffi::CStr) -> Result<(), Word> {
    mount(4, at, c"", libc::MS_REC | libc::MS_SLAVE)
}

/// Process 1 of the namespace: mounts its /proc, then waits to be told to stay.
fn first_process(ends: &HelperEnds) -> Result<(), Word> {
    let (mut ready, said) = UnixStream::pair().map_err(|e| Word::failed(5, Errno::from(e)))?;
    // For it, as it is in another pid namespace already.
    point(6)?;
    // SAFETY: the helper has no other threads.
    let init = unsafe { clone_self(0, libc::SIGCHLD as u64, None) }.map_err(|e| Word::failed(5, e))?;
    if init == 0 {
        be_first(said, &ends.init);
    }
    drop(said);
    heard(&mut ready)
}

fn be_first(mut said: UnixStream, link: &UnixStream) -> ! {
    let word = mount_proc().err().unwrap_or_default();
    let _ = said.write_all(&word.to_bytes());
    drop(said);
    // As long as we kept what our maker has, nobody would see it close.
    keep_only(link.as_raw_fd(), link.as_raw_fd());
    // SAFETY: prctl with a name, and an ignored SIGCHLD: orphans of the namespace that end are nobody's business.
    unsafe { (libc::prctl(libc::PR_SET_NAME, c"cryopid-init".as_ptr()), libc::signal(libc::SIGCHLD, libc::SIG_IGN)) };
    let Some(tree) = receive_fd(link) else { exit() };
    keep_only(tree, link.as_raw_fd());
    let _ = (&*link).write_all(&[0]);
    // SAFETY: the link is not used again.
    unsafe { libc::close(link.as_raw_fd()) };
    let _ = std::env::set_current_dir("/");
    // What the terminal sends to our maker's group is not for us.
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    let mut poll = libc::pollfd { fd: tree, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, borrowed for the call; a poll that is interrupted is made again.
    while unsafe { libc::poll(&raw mut poll, 1, -1) } < 1 {}
    // SAFETY: no status is asked for. Fails with ECHILD once no process of the namespace is left.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) } >= 0 {}
    exit()
}

/// Closes all but these two.
pub(crate) fn keep_only(a: RawFd, b: RawFd) {
    let (low, high) = (i64::from(a.min(b)), i64::from(a.max(b)));
    for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, i64::from(u32::MAX))] {
        if first <= last {
            // SAFETY: nothing that these descriptors belong to is used any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
