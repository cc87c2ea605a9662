//! Stubs: the processes and threads that a thaw makes, each an envoy from its first instruction on.
//!
//! The first one is a fork of ourselves that jumps into the code of the envoy, in memory that both share (the *ground*),
//! at an address where no frozen process had anything. So everything else of its address space can be taken away and
//! put back by calls that it makes itself. Further threads and processes are clones, made by such calls too, and begin in
//! the same code.
//!
//! A stub lives no longer than we do: at the end of the socket it exits, and from its seizure on the kernel kills it
//! with us (PTRACE_O_EXITKILL), until [`Stubs::commit`].

mod births;
mod calls;
mod clocks;
mod commit;
mod ground;
mod hold;
pub(crate) mod nest;
mod pass;

pub use births::{Kind, Newborn};
pub use calls::Begun;
pub use clocks::Clocks;
pub use commit::Free;
pub use ground::Ground;
pub use hold::HeldCalls;
pub(crate) use hold::{again, call_at};
pub use nest::Nest;

use crate::arena::Arena;
use crate::process::{Lost, has_ended, take_note};
use crate::{fault, sys};
use abi::layout::CloneArgs;
use abi::x86_64::RseqConfiguration;
use abi::{Errno, Fault};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A thread of the tree to be.
#[derive(Debug)]
struct Stub {
    slot: usize,
    /// The number that its socket has in its process; known once that has it.
    number: Option<RawFd>,
    /// The process that it is a thread of; known once it is born.
    process: Option<u32>,
    /// Its id here; known once it was looked for.
    tid: Option<i32>,
    tie: Tie,
    /// From when its process has the other end, until it is held.
    socket: Option<OwnedFd>,
    arena: Arena,
}

/// A process of the tree to be.
#[derive(Debug)]
struct Body {
    /// Its id here.
    pid: i32,
    pidfd: OwnedFd,
    /// Whether it, or its first thread, has ended already.
    ended: Option<Part>,
    /// The signal by which it is stopped already.
    stopped: Option<i32>,
}

/// What ends a stub with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tie {
    /// The end of its socket; we do not trace it yet.
    Socket,
    /// The kernel, too: we trace it, so what stops it is for us to see.
    Trace,
}

/// What of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Process,
    /// The thread that makes the call, and no other.
    Thread,
}

/// Whom a thread is to make.
#[derive(Debug, Default)]
struct Unborn {
    tids: VecDeque<u32>,
    useless: Vec<RawFd>,
}

/// The processes and threads of a tree to be, all of them stubs. Killed when dropped, unless committed.
#[derive(Debug)]
pub struct Stubs {
    /// The first process.
    root: u32,
    /// In the order of their births.
    order: Vec<u32>,
    processes: BTreeMap<u32, Body>,
    threads: BTreeMap<u32, Stub>,
    /// Threads that are to be born, in their order, by the thread that makes them; and numbers of sockets in its process that are
    /// of no more use there.
    unborn: BTreeMap<u32, Unborn>,
    /// Pairs of sockets for the next of them.
    channels: Vec<(OwnedFd, OwnedFd)>,
    /// The ids of newborns that are in none of those yet.
    unseen: VecDeque<i32>,
    /// What the first process of a new pid namespace listens to.
    init: Option<UnixStream>,
    rseq: Option<RseqConfiguration>,
    reserve: RawFd,
    // After `threads`: their arenas lie in it.
    ground: Ground,
    fate: Fate,
    /// Orphans of a thaw that fails are ours, to take note of their end.
    _adopter: Adopter,
}

/// While this lives, processes below us that lose their parent become our children (prctl(2), PR_SET_CHILD_SUBREAPER).
#[derive(Debug)]
struct Adopter {
    before: bool,
}

impl Adopter {
    fn new() -> Adopter {
        let mut before = 0i32;
        // SAFETY: prctl writes one int.
        unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut before) };
        // SAFETY: prctl with a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        Adopter { before: before != 0 }
    }
}

impl Drop for Adopter {
    fn drop(&mut self) {
        // SAFETY: prctl with a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(self.before)) };
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// They are killed with us, or when dropped.
    Ours,
    /// They are on their own.
    Free,
}

impl Stubs {
    /// The id here of a process.
    pub fn pid(&self, process: u32) -> i32 {
        self.processes[&process].pid
    }

    /// The process of a thread.
    pub fn process_of(&self, tid: u32) -> Option<u32> {
        self.threads.get(&tid)?.process
    }

    /// The processes, in the order of their births.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.order.iter().copied()
    }

    /// Whether all of a process has ended.
    pub fn has_ended(&self, process: u32) -> bool {
        self.processes[&process].ended == Some(Part::Process)
    }

    /// A thread of the process that lives.
    pub fn living(&self, process: u32) -> Option<u32> {
        let ended = |tid: u32| tid == process && self.processes[&process].ended.is_some();
        // The first thread, if it may be.
        if self.threads.contains_key(&process) && !ended(process) {
            return Some(process);
        }
        let mut own = self.threads.iter().filter(|(_, stub)| stub.process == Some(process)).map(|(tid, _)| *tid);
        own.find(|tid| !ended(*tid))
    }

    /// The registration for restartable sequences that the first stub was born with.
    pub fn inherited_rseq(&self) -> Option<RseqConfiguration> {
        self.rseq
    }

    /// Where the ground is.
    pub fn ground(&self) -> std::ops::Range<u64> {
        self.ground.range()
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        if self.fate == Fate::Ours {
            for body in self.processes.values() {
                let _ = sys::pidfd_kill(body.pidfd.as_fd());
            }
            // The kernel keeps a process until its tracer has taken note of the end of each of its threads; and the first one of a pid
            // namespace until all others in it are no more.
            let traced = self.threads.values().filter(|s| s.tie == Tie::Trace);
            let is_leader = |tid: &i32| self.processes.values().any(|body| body.pid == *tid);
            let (leaders, others): (Vec<i32>, Vec<i32>) = traced.filter_map(|s| s.tid).partition(is_leader);
            others.into_iter().for_each(take_note);
            if self.root == nest::FIRST {
                let root = self.processes.get(&self.root).map(|body| body.pid);
                leaders.into_iter().filter(|tid| Some(*tid) != root).for_each(take_note);
            }
            // Makers come before what they made: the end of a parent makes its children ours.
            for process in &self.order {
                let body = &self.processes[process];
                if has_ended(body.pidfd.as_fd(), Duration::from_secs(10)) {
                    reap(body.pid);
                }
            }
            std::mem::take(&mut self.unseen).into_iter().for_each(end);
        }
    }
}

/// clone3(2) of this process. In the child it returns 0.
///
/// # Safety
/// The child is a copy of a process that may have had other threads: it may only do what is safe after a fork(2).
pub(crate) unsafe fn clone_self(flags: u64, exit_signal: u64, pid: Option<u32>) -> Result<i32, Errno> {
    fault::point()?;
    let ids = [pid.unwrap_or(0) as i32];
    let args = CloneArgs {
        flags,
        exit_signal,
        set_tid: if pid.is_some() { ids.as_ptr().addr() as u64 } else { 0 },
        set_tid_size: u64::from(pid.is_some()),
        ..CloneArgs::default()
    };
    let bytes = args.to_bytes();
    // SAFETY: the structure and the id live until the call returns; without CLONE_VM the child has copies.
    sys::result(unsafe { libc::syscall(libc::SYS_clone3, bytes.as_ptr(), bytes.len()) }).map(|pid| pid as i32)
}

/// Why a stub did not come to a stop, as a fault.
fn lost_stub(lost: Lost, tid: i32) -> Fault {
    match lost {
        Lost::Fault(fault) => fault,
        Lost::Died => Fault::new("wait", tid, Errno::ESRCH),
        Lost::Stuck | Lost::Vforked(_) => Fault::new("wait", tid, Errno::ETIMEDOUT),
    }
}

/// Ends a child of ours that nothing else ends.
pub(crate) fn end(pid: i32) {
    // SAFETY: kill reads no memory of ours; as long as we have not waited for it the id is that of our child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    reap(pid);
}

/// Takes note of the end of a child of ours: its exit status, if it exited.
pub(crate) fn reap(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1 {
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return None;
        }
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}
