//! Births: the first stub is our child, or that of a helper in new namespaces; all others are made by stubs.

use super::calls::put;
use super::nest::{self, HelperEnds, Nest, Word};
use super::{Adopter, Body, Clocks, Fate, Ground, Stub, Stubs, Tie, clone_self, end, lost_stub, reap};
use crate::arena::Arena;
use crate::process::await_event;
use crate::{arch, fault, ptrace, sys};
use abi::layout::CloneArgs;
use abi::x86_64::RseqConfiguration;
use abi::{Arg, Call, Fault, Sys};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// A socket pair: our end, and the number at which the stub has its own.
fn channel(number: RawFd) -> Result<(OwnedFd, OwnedFd), Fault> {
    let call = |e| Fault::new("socketpair", "a stub", e);
    fault::point().map_err(call)?;
    let mut ends = [0; 2];
    // SAFETY: socketpair writes two descriptors.
    let r = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    sys::result(i64::from(r)).map_err(call)?;
    // SAFETY: both were made just now.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: dup3 to a number that the caller set apart.
    let r = unsafe { libc::dup3(theirs.as_raw_fd(), number, libc::O_CLOEXEC) };
    sys::result(i64::from(r)).map_err(call)?;
    // SAFETY: made just now.
    Ok((ours, unsafe { OwnedFd::from_raw_fd(number) }))
}

/// What the first stub needs to begin.
pub(super) struct Start {
    code: u64,
    arena: u64,
    socket: RawFd,
    /// Our ends, of which it must keep no copy: it would never see their end.
    pub(super) ours: Vec<RawFd>,
    pub(super) clocks: Option<Clocks>,
}

impl Start {
    /// In the child: into the code of the envoy, never to return.
    pub(super) fn begin(&self) -> ! {
        for fd in &self.ours {
            // SAFETY: our ends are of no use to the child, which touches nothing of ours any more.
            unsafe { libc::close(*fd) };
        }
        // rbp is 0, so it never leaves its loop.
        // SAFETY: the code of the envoy is at `code`; with these registers it runs its loop (see `arch`), on no stack.
        unsafe { arch::begin(self.code + arch::loop_at(), self.arena, self.socket as u64) }
    }
}

impl Stubs {
    /// The first thread of the first process, in `nest`, waiting for calls; `tids` are the ids that it and all further
    /// threads shall have. The numbers from `reserve` on, one for each thread, are ours until the commit.
    pub fn first(
        tids: &[u32],
        nest: Nest,
        clocks: Option<Clocks>,
        ground: Ground,
        reserve: RawFd,
    ) -> Result<Stubs, Fault> {
        assert!(tids.len() <= ground.slots, "the ground has a slot for each thread");
        let (mut threads, mut theirs, mut ours) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (slot, tid) in tids.iter().enumerate() {
            let (socket, end) = channel(reserve + slot as RawFd)?;
            ours.push(socket.as_raw_fd());
            theirs.push(end);
            let arena = Arena::at(ground.arena(slot));
            threads.insert(*tid, Stub { slot, process: None, tid: None, tie: Tie::Socket, socket, arena });
        }
        let mut start = Start { code: ground.at, arena: ground.arena(0), socket: reserve, ours, clocks };
        let (pid, init) = match nest {
            Nest::Same => (born_here(tids[0], &start)?, None),
            _ => born_in(nest, tids[0], &mut start).map(|(pid, init)| (pid, Some(init)))?,
        };
        drop(theirs);
        let pidfd = sys::pidfd_open(pid).inspect_err(|_| end(pid))?;
        // From here on it is killed when this is dropped.
        let root = tids[0];
        let mut stubs = Stubs {
            root,
            order: Vec::new(),
            processes: BTreeMap::new(),
            threads,
            unseen: None,
            init,
            rseq: None,
            reserve,
            ground,
            fate: Fate::Ours,
            // The first process of a namespace is an orphan of the helper, and none of ours.
            _adopter: Adopter::new(),
        };
        stubs.is_born(root, Body { pid, pidfd, ended: None, stopped: None });
        ptrace::seize(pid, ptrace::O_TRACESYSGOOD | ptrace::O_EXITKILL)?;
        let first = stubs.threads.get_mut(&root).expect("every id was told");
        (first.tid, first.tie) = (Some(pid), Tie::Trace);
        stubs.rseq = stubs.own_rseq(pid)?;
        Ok(stubs)
    }

    fn is_born(&mut self, pid: u32, body: Body) {
        self.threads.get_mut(&pid).expect("every id was told").process = Some(pid);
        self.order.push(pid);
        self.processes.insert(pid, body);
    }

    /// The registration for restartable sequences that the first stub has from us. It must go before our memory does.
    fn own_rseq(&self, pid: i32) -> Result<Option<RseqConfiguration>, Fault> {
        ptrace::interrupt(pid)?;
        await_event(pid).map_err(|lost| lost_stub(lost, pid))?;
        let rseq = ptrace::rseq(pid)?;
        ptrace::cont(pid, 0)?;
        Ok(rseq)
    }

    /// A further thread of the process, cloned by its first one, with id `tid`.
    pub fn thread(&mut self, process: u32, tid: u32) -> Result<(), Fault> {
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let args = CloneArgs { flags: flags as u64, set_tid_size: 1, ..CloneArgs::default() };
        self.clone_by(process, tid, args)?;
        self.threads.get_mut(&tid).expect("every id was told").process = Some(process);
        Ok(())
    }

    /// The first thread of a further process, cloned by thread `by` with these CLONE_ flags.
    pub fn process(&mut self, by: u32, tid: u32, flags: u64, exit_signal: u32) -> Result<(), Fault> {
        let args = CloneArgs { flags, exit_signal: exit_signal.into(), set_tid_size: 1, ..CloneArgs::default() };
        self.clone_by(by, tid, args)?;
        self.unseen = self.init.is_none().then_some(tid as i32);
        let pidfd = self.pidfd_of(by, tid)?;
        let pid = if self.init.is_none() { tid as i32 } else { sys::pid_of(&pidfd)? };
        self.is_born(tid, Body { pid, pidfd, ended: None, stopped: None });
        self.unseen = None;
        Ok(())
    }

    fn clone_by(&mut self, by: u32, tid: u32, args: CloneArgs) -> Result<(), Fault> {
        let (bytes, inner) = (args.to_bytes().to_vec(), tid.to_ne_bytes().to_vec());
        let args = Arg::Nested { bytes, at: CloneArgs::SET_TID_AT, inner };
        let call = Call::new(Sys::Clone3, [args, Arg::Int(CloneArgs::SIZE as u64)]);
        let slot = self.threads[&tid].slot;
        let (arena, socket) = (self.ground.arena(slot), (self.reserve + slot as RawFd) as u64);
        let (stub, body) = self.parts(by);
        let batch = put(&stub.arena, &[call])?;
        stub.arena.set_twin(0, arena, socket)?;
        let answers = stub.run(body, &batch)?;
        answers[0].result.map(drop).map_err(|e| Fault::new(format!("clone3(set_tid {tid})"), body.pid, e))
    }

    /// A descriptor of the newborn. Its id here is its id there, unless it is in a pid namespace of its own: then its maker
    /// opens it, and we take a copy.
    fn pidfd_of(&mut self, by: u32, tid: u32) -> Result<OwnedFd, Fault> {
        if self.init.is_none() {
            return sys::pidfd_open(tid as i32);
        }
        let fault = |e| Fault::new("pidfd_open", tid, e);
        let open = Call::new(Sys::PidfdOpen, [Arg::Int(tid.into()), Arg::Int(0)]);
        let number = self.calls(by, &[open])?[0].result.map_err(fault)?;
        let copy = sys::pidfd_getfd(self.parts(by).1.pidfd.as_fd(), number as RawFd).map_err(fault);
        self.calls(by, &[Call::new(Sys::Close, [Arg::Int(number)])])?;
        copy
    }
}

/// A child of ours that begins in the envoy.
fn born_here(pid: u32, start: &Start) -> Result<i32, Fault> {
    let fault = |e| Fault::new(format!("clone3(set_tid {pid})"), "the first stub", e);
    if let Some(clocks) = start.clocks {
        clocks.enter().map_err(|e| Fault::new("unshare(CLONE_NEWTIME)", "the first stub", e))?;
    }
    // SAFETY: the child only closes descriptors and jumps into the code of the envoy.
    match unsafe { clone_self(0, libc::SIGCHLD as u64, Some(pid)) }.map_err(fault)? {
        0 => start.begin(),
        pid => Ok(pid),
    }
}

/// A child of ours in a new pid namespace, born there by a helper; and the link to the first process of the namespace.
fn born_in(nest: Nest, pid: u32, start: &mut Start) -> Result<(i32, UnixStream), Fault> {
    let call = |name: &'static str| move |e: std::io::Error| Fault::new(name, "the first stub", e);
    let (mut ours, theirs) = UnixStream::pair().map_err(call("socketpair"))?;
    let (to_init, of_init) = UnixStream::pair().map_err(call("socketpair"))?;
    start.ours.extend([ours.as_raw_fd(), to_init.as_raw_fd()]);
    // SAFETY: we have no other threads, so the child may do as it likes.
    let born = unsafe { clone_self(0, libc::SIGCHLD as u64, None) };
    let helper = born.map_err(|e| Fault::new("clone3", "a helper", e))?;
    if helper == 0 {
        let ends = HelperEnds { word: theirs, init: of_init };
        nest::help(nest, pid, start, ends);
    }
    drop((theirs, of_init));
    let mut bytes = [0; 12];
    let read = ours.read_exact(&mut bytes);
    reap(helper);
    read.map_err(call("the helper"))?;
    Word::from_bytes(bytes).pid().map(|pid| (pid, to_init))
}
