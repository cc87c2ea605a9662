//! Births: the first stub is our child, or that of a helper in new namespaces; all others are made by stubs.

use super::calls::put;
use super::nest::{self, HelperEnds, Nest, Word};
use super::pass::MOST;
use super::{Adopter, Body, Clocks, Fate, Ground, Stub, Stubs, Tie, Unborn, clone_self, end, lost_stub, reap};
use crate::arena::Arena;
use crate::process::await_event;
use crate::{arch, fault, ptrace, sys};
use abi::consts::fcntl::F_DUPFD_CLOEXEC;
use abi::layout::CloneArgs;
use abi::x86_64::RseqConfiguration;
use abi::{Arg, Call, Fault, Sys};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Whom a thread makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newborn {
    /// The id that it shall have.
    pub tid: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a newborn is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A further thread of the process.
    Thread,
    /// The first thread of a further process.
    Process {
        /// CLONE_ flags.
        flags: u64,
        /// What its parent is sent at its end.
        exit_signal: u32,
    },
}

impl Newborn {
    fn flags(&self) -> u64 {
        const THREAD: i32 = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        if let Kind::Process { flags, .. } = self.kind { flags } else { THREAD as u64 }
    }

    fn call(&self) -> Call {
        let exit_signal = if let Kind::Process { exit_signal, .. } = self.kind { exit_signal.into() } else { 0 };
        let args = CloneArgs { flags: self.flags(), exit_signal, set_tid_size: 1, ..CloneArgs::default() };
        let (bytes, inner) = (args.to_bytes().to_vec(), self.tid.to_ne_bytes().to_vec());
        let args = Arg::nested(bytes, CloneArgs::SET_TID_AT, inner);
        Call::new(Sys::Clone3, [args, Arg::Int(CloneArgs::SIZE as u64)])
    }
}

/// A socket pair: our end, and that of the stub.
fn channel() -> Result<(OwnedFd, OwnedFd), Fault> {
    let call = |e| Fault::new("socketpair", "a stub", e);
    fault::point().map_err(call)?;
    let mut ends = [0; 2];
    // SAFETY: socketpair writes two descriptors.
    let r = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    sys::result(i64::from(r)).map_err(call)?;
    // SAFETY: both were made just now.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// A copy with this number, which the caller set apart.
fn numbered(fd: &OwnedFd, number: RawFd) -> Result<OwnedFd, Fault> {
    // SAFETY: dup3 reads no memory of ours.
    let r = unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) };
    sys::result(i64::from(r)).map_err(|e| Fault::new("dup3", "a stub", e))?;
    // SAFETY: made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
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
    /// The first thread of the first process, in `nest`, waiting for calls. `born` are the ids that it and all further threads shall
    /// have, in the order of their births, each with the thread that makes it; of the first one that says nothing. The ground has an
    /// arena for each. The numbers from `reserve` on, one for each thread, are ours until the commit.
    pub fn first(
        born: &[(u32, u32)],
        nest: Nest,
        clocks: Option<Clocks>,
        ground: Ground,
        reserve: RawFd,
    ) -> Result<Stubs, Fault> {
        assert!(born.len() <= ground.slots(), "the ground has a slot for each thread");
        let (mut threads, mut unborn) = (BTreeMap::new(), BTreeMap::<u32, Unborn>::new());
        for (slot, (tid, _)) in born.iter().enumerate() {
            let arena = Arena::at(ground.arena(slot));
            let stub = Stub { slot, number: None, process: None, tid: None, tie: Tie::Socket, socket: None, arena };
            threads.insert(*tid, stub);
        }
        born[1..].iter().for_each(|(tid, by)| unborn.entry(*by).or_default().tids.push_back(*tid));
        let root = born[0].0;
        let first = threads.get_mut(&root).expect("it is among them");
        let (own, other) = channel()?;
        let its = numbered(&other, reserve)?;
        drop(other);
        let ours = vec![own.as_raw_fd()];
        (first.number, first.socket) = (Some(reserve), Some(own));
        let mut start = Start { code: ground.at, arena: ground.arena(0).start, socket: reserve, ours, clocks };
        let (pid, init) = match nest {
            Nest::Same => (born_here(root, &start)?, None),
            _ => born_in(nest, root, &mut start).map(|(pid, init)| (pid, Some(init)))?,
        };
        drop(its);
        let pidfd = sys::pidfd_open(pid).inspect_err(|_| end(pid))?;
        // From here on it is killed when this is dropped.
        let mut stubs = Stubs {
            root,
            order: Vec::new(),
            processes: BTreeMap::new(),
            threads,
            unborn,
            channels: Vec::new(),
            unseen: VecDeque::new(),
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

    /// A thread makes threads and processes, in their order, until one cannot be made.
    pub fn make(&mut self, by: u32, newborns: &[Newborn]) -> Result<(), Fault> {
        let mut rest = newborns;
        while let Some(next) = rest.first() {
            if self.threads[&next.tid].number.is_none() {
                self.send_sockets(by)?;
            }
            let ready = rest.iter().take_while(|newborn| self.threads[&newborn.tid].number.is_some()).count();
            let (some, later) = rest.split_at(ready);
            self.clone_by(by, some)?;
            rest = later;
        }
        Ok(())
    }

    /// Those have their sockets.
    fn clone_by(&mut self, by: u32, newborns: &[Newborn]) -> Result<(), Fault> {
        let number = |newborn: &Newborn| self.threads[&newborn.tid].number.expect("it was sent just now");
        let twins: Vec<(u64, RawFd)> =
            newborns.iter().map(|n| (self.ground.arena(self.threads[&n.tid].slot).start, number(n))).collect();
        let own_table = newborns.iter().zip(&twins).filter(|(n, _)| n.flags() & libc::CLONE_FILES as u64 == 0);
        self.unborn.entry(by).or_default().useless.extend(own_table.map(|(_, (_, number))| number));
        let (stub, body) = self.parts(by);
        let (pid, process) = (body.pid, stub.process.expect("who makes others is born"));
        let batch = put(&stub.arena, &newborns.iter().map(Newborn::call).collect::<Vec<_>>())?;
        assert_eq!(batch.entries, newborns.len(), "there is room for so many clones");
        for (n, (arena, number)) in twins.into_iter().enumerate() {
            stub.arena.set_twin(n, arena, number as u64)?;
        }
        stub.send(pid, &batch)?;
        // While they are made.
        let prepared = self.prepare_channels(by);
        let (stub, body) = self.parts(by);
        stub.answered(body)?;
        let answers = stub.arena.answers(&batch);
        let made = newborns.iter().zip(&answers).filter(|(_, answer)| answer.result.is_ok()).map(|(n, _)| *n);
        self.are_born(by, process, &made.collect::<Vec<_>>())?;
        prepared?;
        let failed =
            newborns.iter().zip(answers).find_map(|(newborn, answer)| Some((newborn.tid, answer.result.err()?)));
        failed.map_or(Ok(()), |(tid, e)| Err(Fault::new(format!("clone3(set_tid {tid})"), pid, e)))
    }

    /// They are made by a thread of that process.
    fn are_born(&mut self, by: u32, process: u32, newborns: &[Newborn]) -> Result<(), Fault> {
        let processes = newborns.iter().filter(|n| n.kind != Kind::Thread).map(|n| n.tid);
        if self.init.is_none() {
            self.unseen = processes.clone().map(|tid| tid as i32).collect();
        }
        for newborn in newborns.iter().filter(|n| n.kind == Kind::Thread) {
            self.threads.get_mut(&newborn.tid).expect("every id was told").process = Some(process);
        }
        for tid in processes {
            let pidfd = self.pidfd_of(by, tid)?;
            let pid = if self.init.is_none() { tid as i32 } else { sys::pid_of(&pidfd)? };
            self.is_born(tid, Body { pid, pidfd, ended: None, stopped: None });
            self.unseen.pop_front();
        }
        Ok(())
    }

    /// Sockets for the next that the thread makes.
    fn prepare_channels(&mut self, by: u32) -> Result<(), Fault> {
        let count = self.unborn.entry(by).or_default().tids.len().min(MOST);
        self.channels.truncate(count);
        while self.channels.len() < count {
            self.channels.push(channel()?);
        }
        Ok(())
    }

    /// The process of a thread gets the sockets of the next ones that the thread makes. Those of processes that it made before go:
    /// if it had all of them at once, each newborn would have a copy of each.
    fn send_sockets(&mut self, by: u32) -> Result<(), Fault> {
        let unborn = self.unborn.entry(by).or_default();
        let useless = std::mem::take(&mut unborn.useless);
        self.prepare_channels(by)?;
        let unborn = self.unborn.entry(by).or_default();
        let next: Vec<u32> = unborn.tids.drain(..self.channels.len()).collect();
        let (own, sockets): (Vec<_>, Vec<_>) = self.channels.drain(..).unzip();
        for (tid, socket) in next.iter().zip(own) {
            self.threads.get_mut(tid).expect("every id was told").socket = Some(socket);
        }
        let (stub, body) = self.parts(by);
        let came = stub.take(body, &sockets)?;
        let call = |e| Fault::new("fcntl(F_DUPFD_CLOEXEC)", "a stub", e);
        // What belongs to the tree has the numbers below, and is at some of them already.
        let close = |fd: RawFd| Call::new(Sys::Close, [Arg::Int(fd as u64)]);
        let (mut calls, reserve) = (useless.into_iter().map(close).collect::<Vec<_>>(), self.reserve);
        for fd in came.iter().filter(|fd| **fd < reserve) {
            let args = [*fd as u64, F_DUPFD_CLOEXEC, reserve as u64].map(Arg::Int);
            calls.extend([Call::new(Sys::Fcntl, args), close(*fd)]);
        }
        let answers = self.calls(by, &calls)?;
        let mut moved = calls.iter().zip(&answers).filter(|(call, _)| call.sys == Sys::Fcntl).map(|(_, a)| a.result);
        for (tid, fd) in next.iter().zip(came) {
            let number = if fd < reserve { moved.next().map_or(Ok(fd), |to| to.map(|to| to as RawFd)) } else { Ok(fd) };
            self.threads.get_mut(tid).expect("every id was told").number = Some(number.map_err(call)?);
        }
        Ok(())
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
