//! A stopped thread: what it will go on with.

use crate::asleep::Asleep;
use crate::memory::Memory;
use crate::status::Status;
use crate::{Queue, SeizeError, arch, ptrace};
use abi::Fault;
use abi::seccomp::Filter;
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, RseqCs, UserRegs};

/// A thread that we hold, with its state as it is to be restored.
#[derive(Debug)]
pub struct Stopped {
    tid: i32,
    regs: UserRegs,
    xstate: Vec<u8>,
    sigmask: u64,
    group_stop: Option<i32>,
    rseq: Option<RseqConfiguration>,
    asleep: Asleep,
    idle: Option<u64>,
    status: Vec<u8>,
    flags: Status,
    filters: Vec<Filter>,
    dispatch: Option<DispatchConfiguration>,
    /// What waited for it, and for its process, when it had stopped.
    waited: [Vec<[u8; 128]>; 2],
}

/// SECCOMP_MODE_FILTER (linux/seccomp.h).
const FILTER: u64 = 2;

/// What ptrace(2) tells of a thread that has just stopped.
pub(crate) struct State {
    tid: i32,
    pub(crate) regs: UserRegs,
    xstate: Vec<u8>,
    sigmask: u64,
    rseq: Option<RseqConfiguration>,
    dispatch: Option<DispatchConfiguration>,
    idle: Option<u64>,
}

impl State {
    /// Reads it; `asleep` is what was seen of it before.
    pub(crate) fn of((pid, tid): (i32, i32), memory: &Memory, asleep: &Asleep) -> Result<State, SeizeError> {
        let idle = asleep.idle(pid, tid);
        let mut regs = set_right(tid, || idle)?.ok_or(SeizeError::ForeignMode { tid })?;
        let rseq = ptrace::rseq(tid)?;
        if let Some(abort_ip) = rseq.as_ref().and_then(|rseq| abort_ip(rseq, &regs, memory)) {
            regs.rip = abort_ip;
        }
        let (xstate, sigmask) = (ptrace::getxstate(tid)?, ptrace::getsigmask(tid)?);
        Ok(State { tid, regs, xstate, sigmask, rseq, dispatch: ptrace::dispatch(tid)?, idle })
    }
}

/// A thread that stands still gets the registers with which a call that our stop would end with EINTR is made again; gives them. `None`:
/// it runs no code of this machine's own mode.
pub(crate) fn set_right(tid: i32, idle: impl FnOnce() -> Option<u64>) -> Result<Option<UserRegs>, Fault> {
    let Some(regs) = ptrace::getregs(tid)?.filter(|r| r.cs == arch::CODE_SEGMENT) else { return Ok(None) };
    let Some(right) = arch::without_spurious_eintr(&regs, || idle().unwrap_or(0)) else { return Ok(Some(regs)) };
    ptrace::setregs(tid, &right)?;
    Ok(Some(right))
}

impl Stopped {
    /// The thread with this state; `event` is the signal of the stop, `asleep` what was seen of it before. Its status may be read
    /// already.
    pub(crate) fn new(
        state: State,
        event: i32,
        asleep: Asleep,
        status: Option<(Vec<u8>, Status)>,
    ) -> Result<Stopped, SeizeError> {
        let State { tid, mut regs, xstate, sigmask, rseq, dispatch, idle } = state;
        let (status, flags) = status.map_or_else(|| Status::with_text(tid, tid), Ok)?;
        let filters = if flags.seccomp == FILTER { ptrace::seccomp_filters(tid)? } else { Vec::new() };
        if let Some(right) = allowed_restart(&filters, &regs) {
            ptrace::setregs(tid, &right)?;
            regs = right;
        }
        let group_stop = group_stop(event);
        let waits = |queue, any: u64| if any == 0 { Ok(Vec::new()) } else { ptrace::pending(tid, queue) };
        let waited = [waits(Queue::Thread, flags.waits[0])?, waits(Queue::Process, flags.waits[1])?];
        Ok(Stopped {
            tid,
            regs,
            xstate,
            sigmask,
            group_stop,
            rseq,
            asleep,
            idle,
            status,
            flags,
            filters,
            dispatch,
            waited,
        })
    }

    /// Its id.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Its general registers, as they are to be restored: a call that our stop would end with EINTR is one that is to
    /// be made again, and a restartable sequence that we disturbed is left.
    pub fn regs(&self) -> &UserRegs {
        &self.regs
    }

    /// Its extended state, as XSAVE lays it out.
    pub fn xstate(&self) -> &[u8] {
        &self.xstate
    }

    /// The signals that it blocks; inside sigsuspend(2) and the like those that it blocks afterwards.
    pub fn sigmask(&self) -> u64 {
        self.sigmask
    }

    /// The signal by which its process was stopped before we came, and is stopped again when we go.
    pub fn group_stop(&self) -> Option<i32> {
        self.group_stop
    }

    /// The registration of its restartable sequences.
    pub fn rseq(&self) -> Option<&RseqConfiguration> {
        self.rseq.as_ref()
    }

    /// For how many nanoseconds it had slept when it was stopped; `None`: the kernel does not tell.
    pub fn idle(&self) -> Option<u64> {
        self.idle
    }

    /// The text of /proc/TID/status as it was when it had stopped, and was nobody's envoy yet.
    pub fn status(&self) -> &[u8] {
        &self.status
    }

    /// Its id in its own pid namespace.
    pub fn inner_tid(&self) -> u32 {
        if self.flags.inner == 0 { self.tid as u32 } else { self.flags.inner }
    }

    /// Whether its system calls are filtered (seccomp(2)), in whatever mode.
    pub fn is_filtered(&self) -> bool {
        self.flags.seccomp != 0
    }

    /// What of that text decides how it may be handled.
    pub(crate) fn flags(&self) -> Status {
        self.flags
    }

    /// Its seccomp filters; see [`ptrace::seccomp_filters`].
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// How it dispatches its system calls to itself, if it does. As long as an envoy may be in it, it does not.
    pub fn dispatch(&self) -> Option<&DispatchConfiguration> {
        self.dispatch.as_ref()
    }

    /// From here on its system calls are made, whoever makes them; see [`Stopped::dispatches_again`].
    #[cold]
    pub(crate) fn dispatches_no_more(&self) -> Result<(), Fault> {
        ptrace::set_dispatch(self.tid, &DispatchConfiguration::default())
    }

    /// It dispatches its system calls as it did, before it is let go. It has made no call of its own meanwhile.
    pub(crate) fn dispatches_again(&self) {
        if let Some(config) = &self.dispatch {
            // Whom this fails of has ended; it is the last chance, so it is tried again.
            let _ = ptrace::set_dispatch(self.tid, config).or_else(|_| ptrace::set_dispatch(self.tid, config));
        }
    }

    /// At a stop on the kernel's signal path: as it was.
    pub(crate) fn put_back(&self) -> Result<(), Fault> {
        ptrace::setsigmask(self.tid, self.sigmask)?;
        ptrace::setregs(self.tid, &self.regs)
    }

    /// The kernel function in which it slept (/proc/PID/wchan).
    pub fn wait_channel(&self) -> &[u8] {
        &self.asleep.channel
    }

    /// Signals that wait to be delivered, as siginfo_t, in their order; none is taken out.
    pub fn pending(&self, queue: Queue) -> Result<Vec<[u8; 128]>, Fault> {
        ptrace::pending(self.tid, queue)
    }

    /// Signals that waited when it had just stopped, likewise.
    pub fn waited(&self, queue: Queue) -> &[[u8; 128]] {
        &self.waited[usize::from(queue == Queue::Process)]
    }

    /// Signals that waited, and are in no queue: there was no room for what would tell of them (setrlimit(2), RLIMIT_SIGPENDING). Those of
    /// job control are left out, as each takes others out of the queues whenever it is sent (signal(7)).
    pub fn unqueued(&self, queue: Queue) -> impl Iterator<Item = i32> {
        let waited = self.waited(queue).iter().map(|info| abi::signal::Siginfo(*info).signo());
        let queued = waited.fold(0, |set, signal| set | 1u64 << (signal - 1));
        const OF_JOBS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;
        let set = self.flags.waits[usize::from(queue == Queue::Process)] & !queued & !OF_JOBS;
        (1..=64).filter(move |signal| set >> (signal - 1) & 1 == 1)
    }

    /// The process was stopped, or let go on, by somebody else meanwhile.
    pub(crate) fn see_event(&mut self, event: i32) {
        self.group_stop = group_stop(event);
    }
}

/// The registers that make an interrupted call begin anew, where a filter would not let the kernel go on with it: it does so by
/// restart_syscall(2), which filters see. That would end many a program at any stop, by whomever (seccomp(2)).
fn allowed_restart(filters: &[Filter], regs: &UserRegs) -> Option<UserRegs> {
    let (right, call) = arch::begun_anew(regs)?;
    (!abi::seccomp::allow(filters, &call)).then_some(right)
}

/// A stop event has SIGTRAP, except while the process is stopped (kernel/signal.c, `do_jobctl_trap`).
fn group_stop(event: i32) -> Option<i32> {
    (event != libc::SIGTRAP).then_some(event)
}

/// Where the kernel would send the thread when it is preempted just now (kernel/rseq.c, `rseq_ip_fixup`).
fn abort_ip(rseq: &RseqConfiguration, regs: &UserRegs, memory: &Memory) -> Option<u64> {
    let section = memory.read_u64(rseq.pointer + RseqCs::POINTER_AT).ok().filter(|at| *at != 0)?;
    let mut bytes = [0; RseqCs::SIZE];
    memory.read(section, &mut bytes).ok()?;
    RseqCs::from_bytes(&bytes).filter(|cs| cs.contains(regs.rip)).map(|cs| cs.abort_ip)
}
