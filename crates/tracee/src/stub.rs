//! Stubs: the processes and threads that a thaw makes, each an envoy from its first instruction on.
//!
//! The first one is a fork of ourselves that jumps into the code of the envoy, in memory that both share (the *ground*),
//! at an address where no frozen process had anything. So everything else of its address space can be taken away and
//! put back by calls that it makes itself. Further threads and processes are clones, made by such calls too, and begin in
//! the same code.
//!
//! A stub lives no longer than we do: at the end of the socket it exits, and from its seizure on the kernel kills it
//! with us (PTRACE_O_EXITKILL), until [`Stubs::commit`].

use crate::arena::{Arena, Batch, SIZE};
use crate::process::{Lost, await_event, has_ended, take_note};
use crate::ptrace::{self, Stop};
use crate::{arch, fault, sys};
use abi::consts::clone::CLONE_NEWTIME;
use abi::consts::mmap::PAGE;
use abi::layout::CloneArgs;
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use std::collections::BTreeMap;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How often a stub that takes long to answer is looked at, in milliseconds. It may take as long as it lives.
const LOOK: i32 = 20;

/// Memory that we and every stub share: a page of code, and an arena for each thread.
#[derive(Debug)]
pub struct Ground {
    at: u64,
    slots: usize,
}

impl Ground {
    /// The bytes that it takes for so many threads.
    pub const fn size(slots: usize) -> u64 {
        PAGE + (slots * SIZE) as u64
    }

    /// Maps it; nothing may be there.
    pub fn map(at: u64, slots: usize) -> Result<Ground, Fault> {
        let call = |e| Fault::new(format!("mmap({at:#x}, {}, MAP_SHARED)", Ground::size(slots)), "the ground", e);
        fault::point().map_err(call)?;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        let address = std::ptr::without_provenance_mut::<libc::c_void>(at as usize);
        let len = Ground::size(slots) as usize;
        // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
        let got = unsafe { libc::mmap(address, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if got.addr() as u64 != at {
            return Err(call(Errno::from(std::io::Error::last_os_error())));
        }
        let ground = Ground { at, slots };
        let code = arch::code();
        assert!(code.len() as u64 <= PAGE, "the code of the envoy fits into its page");
        // SAFETY: the page was mapped writable just now, and no stub is there yet.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), got.cast(), code.len()) };
        // SAFETY: the first page of our own mapping.
        let r = unsafe { libc::mprotect(got, PAGE as usize, libc::PROT_READ | libc::PROT_EXEC) };
        sys::result(i64::from(r)).map_err(call)?;
        Ok(ground)
    }

    /// Its first address and the one behind its last.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.at..self.at + Ground::size(self.slots)
    }

    fn arena(&self, slot: usize) -> u64 {
        self.at + PAGE + (slot * SIZE) as u64
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let address = std::ptr::without_provenance_mut(self.at as usize);
        // SAFETY: our own mapping, of which no pointer is left: arenas live no longer than the stubs that hold the ground.
        unsafe { libc::munmap(address, Ground::size(self.slots) as usize) };
    }
}

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

/// Where the clocks that count from the start of the machine shall stand for the tree, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// CLOCK_BOOTTIME.
    pub boottime: u64,
}

/// Where the kernel keeps the offsets of the time namespace of our children, from the clocks of the machine itself.
const OFFSETS: &str = "/proc/self/timens_offsets";

impl Clocks {
    /// Our children, from now on, live in a time namespace with these clocks (time_namespaces(7)).
    fn enter(self) -> std::io::Result<()> {
        let text = std::fs::read_to_string(OFFSETS)?;
        let (monotonic, boottime) = (offset(&text, "monotonic"), offset(&text, "boottime"));
        // SAFETY: unshare with a number only.
        sys::result(i64::from(unsafe { libc::unshare(CLONE_NEWTIME as i32) }))?;
        let line = |name: &str, clock, target: u64, ours: i128| {
            let nanos = i128::from(target) - (now(clock) - ours);
            format!("{name} {} {}\n", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
        };
        let lines = line("monotonic", libc::CLOCK_MONOTONIC, self.monotonic, monotonic)
            + &line("boottime", libc::CLOCK_BOOTTIME, self.boottime, boottime);
        std::fs::write(OFFSETS, lines)
    }
}

/// The offset of a clock in the text of the kernel: a name, seconds, nanoseconds.
fn offset(text: &str, name: &str) -> i128 {
    let words = text.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>()).find(|w| w.first() == Some(&name));
    let number = |n: usize| words.as_ref().and_then(|w| w.get(n)?.parse::<i128>().ok()).unwrap_or(0);
    number(1) * 1_000_000_000 + number(2)
}

fn now(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// A thread of the tree to be.
#[derive(Debug)]
struct Stub {
    slot: usize,
    /// The process that it is a thread of; known once it is born.
    process: Option<u32>,
    /// Its id here; known once it was looked for.
    tid: Option<i32>,
    tie: Tie,
    socket: OwnedFd,
    arena: ManuallyDrop<Arena>,
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

/// The processes and threads of a tree to be, all of them stubs. Killed when dropped, unless committed.
#[derive(Debug)]
pub struct Stubs {
    /// The first process.
    root: u32,
    /// In the order of their births.
    order: Vec<u32>,
    processes: BTreeMap<u32, Body>,
    threads: BTreeMap<u32, Stub>,
    /// The id of a newborn that is in none of those yet.
    unseen: Option<i32>,
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

/// What a helper tells: how far it came, the error there, and the id of the newborn.
#[derive(Clone, Copy, Default)]
struct Word {
    stage: u32,
    errno: i32,
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

    fn from_bytes(b: [u8; 12]) -> Word {
        let int = |at: usize| i32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Word { stage: int(0) as u32, errno: int(4), pid: int(8) }
    }

    fn pid(self) -> Result<i32, Fault> {
        match self.errno {
            0 => Ok(self.pid),
            e => Err(Fault::new(*STAGES.get(self.stage as usize).unwrap_or(&"clone3"), "the first stub", Errno(e))),
        }
    }
}

/// What the first stub needs to begin.
struct Start {
    code: u64,
    arena: u64,
    socket: RawFd,
    /// Our ends, of which it must keep no copy: it would never see their end.
    ours: Vec<RawFd>,
    clocks: Option<Clocks>,
}

impl Start {
    /// In the child: into the code of the envoy, never to return.
    fn begin(&self) -> ! {
        for fd in &self.ours {
            // SAFETY: our ends are of no use to the child, which touches nothing of ours any more.
            unsafe { libc::close(*fd) };
        }
        // SAFETY: the code of the envoy is at `code`; with these registers it runs its loop (see `arch`), which uses no
        // stack and never returns, since rbp is 0.
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
        let own = self.threads.iter().filter(|(_, stub)| stub.process == Some(process)).map(|(tid, _)| *tid);
        // The first thread, if it may be.
        own.filter(|tid| !ended(*tid)).min_by_key(|tid| *tid != process)
    }

    /// The registration for restartable sequences that the first stub was born with.
    pub fn inherited_rseq(&self) -> Option<RseqConfiguration> {
        self.rseq
    }

    /// Where the ground is.
    pub fn ground(&self) -> std::ops::Range<u64> {
        self.ground.range()
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

    /// The thread, and the process that it is of.
    fn parts(&mut self, tid: u32) -> (&mut Stub, &Body) {
        let stub = self.threads.get_mut(&tid).expect("calls are made by threads that are born");
        let process = stub.process.expect("calls are made by threads that are born");
        (stub, &self.processes[&process])
    }

    /// Calls made by a thread, in batches as large as its arena allows; it stops at none that fails.
    pub fn calls(&mut self, tid: u32, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        let (stub, body) = self.parts(tid);
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = calls;
        while !rest.is_empty() {
            let batch = put(&stub.arena, rest)?;
            answers.extend(stub.run(body, &batch)?);
            rest = &rest[batch.entries..];
        }
        Ok(answers)
    }

    /// A thread makes calls of which the last ends it, or its whole process; waits until that is so.
    pub fn end(&mut self, tid: u32, calls: &[Call], part: Part) -> Result<(), Fault> {
        let (stub, body) = self.parts(tid);
        let (pid, process) = (body.pid, stub.process.expect("it is born"));
        let batch = put(&stub.arena, calls)?;
        stub.send(pid, &batch)?;
        let is_over = || match part {
            Part::Process => has_ended(body.pidfd.as_fd(), Duration::ZERO),
            Part::Thread => crate::status::is_dead(pid),
        };
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while !is_over() {
            if std::time::Instant::now() > patience {
                return Err(Fault::new("exit", pid, Errno::ETIMEDOUT));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        self.processes.get_mut(&process).expect("it is born").ended = Some(part);
        Ok(())
    }

    /// Stops every thread, in an orderly way: from here on [`Stubs::set`] may be called. Those that have ended are left out.
    pub fn hold(&mut self) -> Result<(), Fault> {
        let is_held = |process: &u32| self.processes[process].stopped.is_some();
        let living: Vec<u32> = self.processes().filter(|p| !self.has_ended(*p) && !is_held(p)).collect();
        living.into_iter().try_for_each(|process| self.hold_process(process).map(drop))
    }

    /// Stops the threads of a process, likewise; gives their ids here.
    fn hold_process(&mut self, process: u32) -> Result<Vec<i32>, Fault> {
        self.find_threads(process)?;
        let mut held = Vec::new();
        let (pid, first_ended) = (self.pid(process), self.processes[&process].ended.is_some());
        let own = self.threads.values_mut().filter(|s| s.process == Some(process));
        for (tid, stub) in own.filter_map(|s| Some((s.tid.filter(|tid| !(first_ended && *tid == pid))?, s))) {
            if stub.tie == Tie::Socket {
                ptrace::seize(tid, ptrace::O_TRACESYSGOOD | ptrace::O_EXITKILL)?;
                stub.tie = Tie::Trace;
            }
            ptrace::interrupt(tid)?;
            await_event(tid).map_err(|lost| lost_stub(lost, tid))?;
            held.push(tid);
        }
        Ok(held)
    }

    /// Stops a process by a signal for which it has no handler, as job control does: its parent is told, and can wait for it. It
    /// stays so when we let it go, and then nobody is told once more (kernel/signal.c, task_participate_group_stop). It is held
    /// from here on.
    pub fn stop(&mut self, process: u32, signal: i32) -> Result<(), Fault> {
        let threads = self.hold_process(process)?;
        // Where nobody would let the group go on, only SIGSTOP stops it (kernel/signal.c, is_current_pgrp_orphaned).
        let is_stopped = self.begin_stop(process, threads[0], signal)?
            || signal != libc::SIGSTOP && self.begin_stop(process, threads[0], libc::SIGSTOP)?;
        if !is_stopped {
            return Err(Fault::new(format!("a stop by signal {signal}"), self.pid(process), Errno::EIO));
        }
        // It is complete when all of them have joined it.
        for tid in &threads[1..] {
            ptrace::cont(*tid, 0)?;
            await_event(*tid).map_err(|lost| lost_stub(lost, *tid))?;
        }
        // Who is seen to stop may still be about to tell the parent; a request waits until it is done (kernel/ptrace.c,
        // ptrace_check_attach).
        threads.iter().try_for_each(|tid| ptrace::setsigmask(*tid, u64::MAX))?;
        self.processes.get_mut(&process).expect("it is born").stopped = Some(signal);
        Ok(())
    }

    /// A held thread gets that signal, and no other; gives whether it is stopped by it.
    fn begin_stop(&self, process: u32, tid: i32, signal: i32) -> Result<bool, Fault> {
        ptrace::setsigmask(tid, !(1 << (signal - 1)))?;
        self.signal(process, signal)?;
        ptrace::cont(tid, 0)?;
        match ptrace::wait(tid, Duration::from_secs(10))? {
            Some(Stop::Signal(got)) if got == signal => ptrace::cont(tid, signal)?,
            _ => return Err(Fault::new(format!("a stop by signal {signal}"), tid, Errno::ETIMEDOUT)),
        }
        // What the signal does is done before the interruption is seen.
        ptrace::interrupt(tid)?;
        let event = await_event(tid).map_err(|lost| lost_stub(lost, tid))?;
        Ok(event == signal)
    }

    /// From here on no seccomp filter or mode keeps the thread from a call, until it is let go. All threads of its process are
    /// born.
    #[inline(never)]
    pub fn unfilter(&mut self, tid: u32) -> Result<(), Fault> {
        const OPTIONS: u64 = ptrace::O_TRACESYSGOOD | ptrace::O_EXITKILL | ptrace::O_SUSPEND_SECCOMP;
        let stub = &self.threads[&tid];
        if stub.tid.is_none() {
            self.find_threads(stub.process.expect("it is born"))?;
        }
        let stub = self.threads.get_mut(&tid).expect("every id was told");
        let here = stub.tid.expect("it was looked for");
        if stub.tie == Tie::Socket {
            ptrace::seize(here, OPTIONS)?;
            stub.tie = Tie::Trace;
            return Ok(());
        }
        ptrace::interrupt(here)?;
        await_event(here).map_err(|lost| lost_stub(lost, here))?;
        ptrace::set_options(here, OPTIONS)?;
        ptrace::cont(here, 0)
    }

    /// The ids here of the threads whose ids in their own namespace we chose.
    #[inline(never)]
    fn find_threads(&mut self, process: u32) -> Result<(), Fault> {
        let pid = self.pid(process);
        if self.init.is_none() {
            let own = self.threads.iter_mut().filter(|(_, stub)| stub.process == Some(process));
            own.for_each(|(tid, stub)| stub.tid = Some(*tid as i32));
            return Ok(());
        }
        let call = |e: std::io::Error| Fault::new("readdir(/proc/PID/task)", pid, e);
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(call)? {
            let name = entry.map_err(call)?.file_name();
            let Some(host) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let text = std::fs::read(format!("/proc/{pid}/task/{host}/status")).map_err(call)?;
            let status = abi::proc::status(&text).map_err(|_| Fault::new("read(status)", host, Errno::EINVAL))?;
            if let Some(stub) = status.ns_pid.last().and_then(|inner| self.threads.get_mut(inner)) {
                stub.tid = Some(host);
            }
        }
        match self.threads.values().find(|s| s.process == Some(process) && s.tid.is_none()) {
            None => Ok(()),
            Some(_) => Err(Fault::new("readdir(/proc/PID/task)", pid, Errno::ESRCH)),
        }
    }

    fn held(&self, tid: u32) -> i32 {
        self.threads[&tid].tid.expect("threads are held before they are set right")
    }

    /// One call of a held thread, through the `syscall` instruction at `gate`; none of its memory is needed.
    pub fn call_held(&self, tid: u32, gate: u64, sys: Sys, args: &[u64]) -> Result<u64, Fault> {
        let tid = self.held(tid);
        let regs = self.regs_for(tid, gate, sys, args)?;
        ptrace::setregs(tid, &regs)?;
        self.to_syscall_stop(tid)?;
        self.to_syscall_stop(tid)?;
        let rax = self.getregs(tid)?.rax;
        self.to_event_stop(tid)?;
        Errno::from_raw(rax).map_err(|e| Fault::new(sys.name(), tid, e))
    }

    /// A call that is begun and interrupted before it can sleep: the kernel keeps the rest of it. Gives the raw value of
    /// the return register, which says whether there is a rest. Pointers must lead into memory that the thread has.
    pub fn begin_held(&self, tid: u32, gate: u64, sys: Sys, args: &[u64]) -> Result<u64, Fault> {
        let tid = self.held(tid);
        let regs = self.regs_for(tid, gate, sys, args)?;
        ptrace::setregs(tid, &regs)?;
        self.to_syscall_stop(tid)?;
        // With the interruption pending, a call that would sleep returns at once, as at any signal.
        self.to_event_stop(tid)?;
        Ok(self.getregs(tid)?.rax)
    }

    /// Puts bytes where a held thread can read them, as an argument of [`Stubs::begin_held`]; gives their address.
    pub fn lend(&self, tid: u32, bytes: &[u8]) -> Result<u64, Fault> {
        self.threads[&tid].arena.lend(bytes)
    }

    fn getregs(&self, tid: i32) -> Result<UserRegs, Fault> {
        let regs = ptrace::getregs(tid)?;
        regs.ok_or_else(|| Fault::new("ptrace(PTRACE_GETREGSET)", tid, Errno::EINVAL))
    }

    fn regs_for(&self, tid: i32, gate: u64, sys: Sys, args: &[u64]) -> Result<UserRegs, Fault> {
        let arg = |n: usize| args.get(n).copied().unwrap_or(0);
        Ok(UserRegs {
            rip: gate,
            rax: sys.number(arch::MACHINE),
            orig_rax: u64::MAX,
            rdi: arg(0),
            rsi: arg(1),
            rdx: arg(2),
            r10: arg(3),
            r8: arg(4),
            r9: arg(5),
            ..self.getregs(tid)?
        })
    }

    fn to_syscall_stop(&self, tid: i32) -> Result<(), Fault> {
        ptrace::syscall(tid, 0)?;
        loop {
            match ptrace::wait(tid, Duration::from_secs(10))? {
                Some(Stop::Syscall) => return Ok(()),
                Some(Stop::Event(_) | Stop::Other(_)) => ptrace::syscall(tid, 0)?,
                Some(Stop::Signal(signal)) => ptrace::syscall(tid, signal)?,
                Some(Stop::Exited) => return Err(Fault::new("wait", tid, Errno::ESRCH)),
                None => return Err(Fault::new("wait", tid, Errno::ETIMEDOUT)),
            }
        }
    }

    /// From a stop at a system call to one on the way of signals, without an instruction of the thread between.
    fn to_event_stop(&self, tid: i32) -> Result<(), Fault> {
        ptrace::interrupt(tid)?;
        ptrace::cont(tid, 0)?;
        await_event(tid).map(drop).map_err(|lost| lost_stub(lost, tid))
    }

    /// The state with which a held thread goes on.
    pub fn set(&self, tid: u32, regs: &UserRegs, xstate: &[u8], mask: u64) -> Result<(), Fault> {
        let tid = self.held(tid);
        ptrace::setxstate(tid, xstate)?;
        ptrace::setregs(tid, regs)?;
        ptrace::setsigmask(tid, mask)
    }

    /// From when a held thread runs, its system calls come back to it as that says. It makes none for us any more.
    pub fn set_dispatch(&self, tid: u32, config: &DispatchConfiguration) -> Result<(), Fault> {
        ptrace::set_dispatch(self.held(tid), config)
    }

    /// A signal for the whole process, to be felt when it runs.
    pub fn signal(&self, process: u32, signal: i32) -> Result<(), Fault> {
        let pid = self.pid(process);
        let call = |e| Fault::new(format!("kill({signal})"), pid, e);
        fault::point().map_err(call)?;
        // SAFETY: kill reads no memory of ours.
        let r = unsafe { libc::kill(pid, signal) };
        sys::result(i64::from(r)).map(drop).map_err(call)
    }

    /// The last thing that can fail: the first process of a new pid namespace is told to stay, and whom to wait for.
    pub fn prepare(&mut self) -> Result<(), Fault> {
        match &self.init {
            None => Ok(()),
            Some(link) => {
                let root = &self.processes[&self.root].pidfd;
                send_fd(link, root).map_err(|e| Fault::new("sendmsg", "the namespace", e))?;
                // It has let go of everything else that it had of ours.
                let mut said = [0];
                (&*link).read_exact(&mut said).map_err(|e| Fault::new("recv", "the namespace", e))
            }
        }
    }

    /// None of them dies with us any more. If we died just now, they would run: our end is what lets them go.
    pub fn commit(mut self) -> Free {
        self.fate = Fate::Free;
        for tid in self.held_threads() {
            let _ = ptrace::set_options(tid, ptrace::O_TRACESYSGOOD);
        }
        Free(self)
    }

    /// The threads that are stopped, by their ids here; those of relatives in the order of their births, the eldest last.
    fn held_threads(&self) -> Vec<i32> {
        let is_over = |process: &u32, tid: i32| match self.processes[process].ended {
            Some(Part::Process) => true,
            Some(Part::Thread) => tid == self.pid(*process),
            None => false,
        };
        let mut all: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        for stub in self.threads.values() {
            if let (Some(process), Some(tid)) = (stub.process, stub.tid) {
                all.entry(process).or_default().push(tid);
            }
        }
        let of = |process: &u32| {
            all.get(process).into_iter().flatten().copied().filter(|tid| !is_over(process, *tid)).collect::<Vec<_>>()
        };
        self.order.iter().rev().flat_map(of).collect()
    }
}

/// A tree that has come back, and waits for us to let it go.
#[derive(Debug)]
pub struct Free(Stubs);

impl Free {
    /// All of its threads run, each on its own. Gives the id of the first process here.
    pub fn run(self) -> i32 {
        let root = self.0.pid(self.0.root);
        for tid in self.0.held_threads() {
            // A thread that ran first may have ended the process by now. The kernel keeps each of the others, and with them
            // the process, until their tracer has waited for them; the first one is our child, and waited for as such.
            let_run(tid, root);
        }
        root
    }
}

/// Lets a thread run, for good. Who cannot be let run has ended: the first process is our child, and waited for as such.
fn let_run(tid: i32, root: i32) {
    for _ in 0..100 {
        match ptrace::detach(tid) {
            Ok(()) => return,
            Err(_) if crate::status::is_dead(tid) => break,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    if tid != root && crate::status::is_dead(tid) {
        take_note(tid);
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        if self.fate == Fate::Ours {
            for body in self.processes.values() {
                let _ = sys::pidfd_kill(body.pidfd.as_fd());
            }
            // Makers come before what they made: the end of a parent makes its children ours.
            for process in &self.order {
                let body = &self.processes[process];
                // The kernel keeps a process until its tracer has taken note of the end of each of its threads.
                let own = self.threads.values().filter(|s| s.process == Some(*process) && s.tie == Tie::Trace);
                own.filter_map(|s| s.tid.filter(|tid| *tid != body.pid)).for_each(take_note);
                has_ended(body.pidfd.as_fd(), Duration::from_secs(10));
                reap(body.pid);
            }
            self.unseen.into_iter().for_each(end);
        }
    }
}

/// Why a stub did not come to a stop, as a fault.
fn lost_stub(lost: Lost, tid: i32) -> Fault {
    match lost {
        Lost::Fault(fault) => fault,
        Lost::Died => Fault::new("wait", tid, Errno::ESRCH),
        Lost::Stuck => Fault::new("wait", tid, Errno::ETIMEDOUT),
    }
}

/// Ends a child of ours that nothing else ends.
fn end(pid: i32) {
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

fn put(arena: &Arena, calls: &[Call]) -> Result<Batch, Fault> {
    arena.put(calls).map_err(|e| Fault::new(e.to_string(), "a stub", Errno::E2BIG))
}

impl Stub {
    /// Has a batch run, and waits for it or for the end of the process.
    fn run(&mut self, body: &Body, batch: &Batch) -> Result<Vec<Answer>, Fault> {
        self.send(body.pid, batch)?;
        self.answered(body)?;
        Ok(self.arena.answers(batch))
    }

    fn send(&self, pid: i32, batch: &Batch) -> Result<(), Fault> {
        let call = |name: &str, e: Errno| Fault::new(name, pid, e);
        fault::point().map_err(|e| call("send", e))?;
        let count = (batch.entries as u32).to_ne_bytes();
        // SAFETY: four bytes of ours.
        let r = unsafe { libc::send(self.socket.as_raw_fd(), count.as_ptr().cast(), 4, libc::MSG_NOSIGNAL) };
        sys::result(r as i64).map(drop).map_err(|e| call("send", e))
    }

    fn answered(&self, body: &Body) -> Result<(), Fault> {
        let (pid, pidfd) = (body.pid, &body.pidfd);
        let mut word = [0u8; 4];
        loop {
            // SAFETY: recv writes at most four bytes into four.
            let r = unsafe { libc::recv(self.socket.as_raw_fd(), word.as_mut_ptr().cast(), 4, libc::MSG_DONTWAIT) };
            match sys::result(r as i64) {
                Ok(4) => return Ok(()),
                Ok(_) => return Err(Fault::new("recv", pid, Errno::EPIPE)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(e) => return Err(Fault::new("recv", pid, e)),
            }
            let poll = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut both = [poll(self.socket.as_raw_fd()), poll(pidfd.as_raw_fd())];
            // SAFETY: two pollfds, borrowed for the call.
            let ready = unsafe { libc::poll(both.as_mut_ptr(), 2, LOOK) };
            if both[0].revents == 0 && both[1].revents != 0 {
                return Err(Fault::new("a call in it", pid, Errno::ESRCH));
            }
            if ready == 0 && self.tie == Tie::Trace {
                see_stop(self.tid.unwrap_or(pid))?;
            }
        }
    }
}

/// All signals are blocked in a stub, so one that it meets is forced upon it by what it did, as SIGSEGV, and would end it
/// if we let it go on; and one that nobody can block only stops it.
fn see_stop(pid: i32) -> Result<(), Fault> {
    match ptrace::look(pid)? {
        None => Ok(()),
        Some(Stop::Exited) => Err(Fault::new("a call in it", pid, Errno::ESRCH)),
        Some(Stop::Signal(signal)) => Err(Fault::new(format!("a call in it, by signal {signal}"), pid, Errno::EFAULT)),
        Some(Stop::Event(_) | Stop::Syscall | Stop::Other(_)) => ptrace::cont(pid, 0),
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

/// What the helper has of us.
struct HelperEnds {
    word: UnixStream,
    init: UnixStream,
}

/// The helper, and the first process of a new pid namespace.
pub(crate) mod nest {
    use super::{Errno, HelperEnds, Nest, Start, Word, clone_self, fault, sys};
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixStream;

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
            map_ids(uid, gid).map_err(|e| Word::failed(2, Errno::from(e)))?;
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
        first_process(start, ends)?;
        let clone_parent = libc::CLONE_PARENT as u64;
        // SAFETY: the child only closes descriptors and jumps into the code of the envoy.
        match unsafe { clone_self(clone_parent, 0, Some(pid)) } {
            Ok(0) => {
                // SAFETY: two descriptors that the stub must not keep.
                unsafe { (libc::close(ends.word.as_raw_fd()), libc::close(ends.init.as_raw_fd())) };
                start.begin()
            }
            Ok(pid) => Ok(Word { stage: 0, errno: 0, pid }),
            Err(e) => Err(Word::failed(0, e)),
        }
    }

    fn mount(stage: u32, at: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Result<(), Word> {
        // SAFETY: C strings, no data.
        checked(stage, unsafe { libc::mount(c"proc".as_ptr(), at.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
    }

    /// What is mounted below from now on is seen in this namespace only (mount_namespaces(7)).
    fn make_slave(at: &std::ffi::CStr) -> Result<(), Word> {
        mount(4, at, c"", libc::MS_REC | libc::MS_SLAVE)
    }

    /// user_namespaces(7): an unprivileged process may map its own ids, the group only once setgroups is denied.
    fn map_ids(uid: u32, gid: u32) -> std::io::Result<()> {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
    }

    /// Process 1 of the namespace: mounts its /proc, then waits to be told to stay.
    fn first_process(start: &Start, ends: &HelperEnds) -> Result<(), Word> {
        let (mut ready, said) = UnixStream::pair().map_err(|e| Word::failed(5, Errno::from(e)))?;
        // For it, as it is in another pid namespace already.
        point(6)?;
        // SAFETY: the helper has no other threads.
        let init = unsafe { clone_self(0, libc::SIGCHLD as u64, None) }.map_err(|e| Word::failed(5, e))?;
        if init == 0 {
            be_first(start, said, &ends.init, ends.word.as_raw_fd());
        }
        drop(said);
        let mut bytes = [0; 12];
        ready.read_exact(&mut bytes).map_err(|e| Word::failed(6, Errno::from(e)))?;
        let word = Word::from_bytes(bytes);
        if word.errno == 0 { Ok(()) } else { Err(word) }
    }

    fn be_first(start: &Start, mut said: UnixStream, link: &UnixStream, word_end: RawFd) -> ! {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let word = mount(6, c"/proc", c"proc", flags).err().unwrap_or_default();
        let _ = said.write_all(&word.to_bytes());
        for fd in start.ours.iter().chain([&word_end]) {
            // SAFETY: ends of our maker: as long as we kept them nobody would see them close.
            unsafe { libc::close(*fd) };
        }
        // SAFETY: prctl with a name, and an ignored SIGCHLD: orphans of the namespace that end are nobody's business.
        unsafe {
            (libc::prctl(libc::PR_SET_NAME, c"cryopid-init".as_ptr()), libc::signal(libc::SIGCHLD, libc::SIG_IGN))
        };
        let Some(tree) = super::receive_fd(link) else { exit() };
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
}

/// Sends one descriptor (unix(7), SCM_RIGHTS).
fn send_fd(link: &UnixStream, fd: &OwnedFd) -> Result<(), Errno> {
    fault::point()?;
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let message = control.message(&mut io);
    // SAFETY: the first control header of a buffer that has room for it and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
    }
    // SAFETY: the message leads to buffers that live until the call returns.
    sys::result(unsafe { libc::sendmsg(link.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } as i64).map(drop)
}

/// Receives one descriptor; `None` at the end of the link.
fn receive_fd(link: &UnixStream) -> Option<RawFd> {
    let mut byte = 0u8;
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control::default();
    let mut message = control.message(&mut io);
    // SAFETY: the message leads to buffers that live until the call returns.
    let got = unsafe { libc::recvmsg(link.as_raw_fd(), &raw mut message, 0) };
    // SAFETY: recvmsg filled the control buffer in, or left it empty.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (got == 1 && !header.is_null()).then(|| libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    }
}

/// Room for a control message with one descriptor, aligned as its header is.
#[derive(Default)]
struct Control([u64; 4]);

impl Control {
    fn message(&mut self, io: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: zeroes are a valid msghdr: no address, no buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = io;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: computes a number.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
        message
    }
}
