//! ptrace(2), request by request, and waiting for what a thread does.
//!
//! Rules kept here: nobody is attached, only seized, so that no signal is made up; no PTRACE_SINGLESTEP ever (a tracer
//! that dies in one kills the thread by SIGTRAP); stops are waited for with WNOWAIT, as a signal that was waited for
//! and not passed on is lost when the tracer dies (kernel/ptrace.c: the signal is kept in `exit_code`, which a wait
//! clears).

use crate::{arch, fault, sys};
use abi::seccomp::Filter;
use abi::x86_64::xstate::{self, Component};
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use abi::{Errno, Fault};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Requests that libc has no name for (linux/ptrace.h).
mod request {
    pub(super) const GETREGSET: u32 = 0x4204;
    pub(super) const SETREGSET: u32 = 0x4205;
    pub(super) const SEIZE: u32 = 0x4206;
    pub(super) const INTERRUPT: u32 = 0x4207;
    pub(super) const PEEKSIGINFO: u32 = 0x4209;
    pub(super) const GETSIGMASK: u32 = 0x420a;
    pub(super) const SETSIGMASK: u32 = 0x420b;
    pub(super) const SECCOMP_GET_FILTER: u32 = 0x420c;
    pub(super) const SECCOMP_GET_METADATA: u32 = 0x420d;
    pub(super) const GET_RSEQ_CONFIGURATION: u32 = 0x420f;
    pub(super) const SET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4210;
    pub(super) const GET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4211;
}

/// Option: stops at system calls are told apart from SIGTRAP, and no valid signal, so our death there is harmless.
pub const O_TRACESYSGOOD: u64 = 1;
/// Option: the thread is killed when its tracer dies. For what we made ourselves, never for a victim.
pub const O_EXITKILL: u64 = 1 << 20;
/// Option: as long as we trace the thread, no seccomp filter or mode of its own keeps it from a call. It takes CAP_SYS_ADMIN,
/// and a tracer that is not filtered itself (kernel/ptrace.c, check_ptrace_options).
pub const O_SUSPEND_SECCOMP: u64 = 1 << 21;

/// The regset of the general registers (linux/elf.h).
const NT_PRSTATUS: u64 = 1;
/// The regset of the extended state.
const NT_X86_XSTATE: u64 = 0x202;
/// More than any extended state: AMX makes it 11 KiB.
const XSTATE_MAX: usize = 16 * 1024;
/// Every option bit of PEEKSIGINFO that there is: the queue of the process instead of that of the thread.
const PEEKSIGINFO_SHARED: u32 = 1;

fn raw(request: u32, tid: i32, addr: u64, data: u64) -> Result<u64, abi::Errno> {
    fault::point()?;
    // SAFETY: callers pass in `data` (and `addr`) a number or a pointer to memory that they borrow for the call and
    // that is as large as the request reads or writes.
    sys::result(unsafe { libc::syscall(libc::SYS_ptrace, u64::from(request), tid, addr, data) })
}

fn plain(name: &str, request: u32, tid: i32, data: u64) -> Result<(), Fault> {
    raw(request, tid, 0, data).map(drop).map_err(|e| Fault::new(format!("ptrace({name}, {tid})"), tid, e))
}

/// Becomes the tracer; the thread runs on.
pub fn seize(tid: i32, options: u64) -> Result<(), Fault> {
    plain("PTRACE_SEIZE", request::SEIZE, tid, options)
}

/// Asks the thread to stop; the stop is to be waited for.
pub fn interrupt(tid: i32) -> Result<(), Fault> {
    plain("PTRACE_INTERRUPT", request::INTERRUPT, tid, 0)
}

/// Lets it go on, with this signal (0: none).
pub fn cont(tid: i32, signal: i32) -> Result<(), Fault> {
    plain("PTRACE_CONT", libc::PTRACE_CONT, tid, signal as u64)
}

/// Lets it go on to the entry or exit of a system call, with this signal (0: none).
pub fn syscall(tid: i32, signal: i32) -> Result<(), Fault> {
    plain("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, tid, signal as u64)
}

/// Lets it go for ever.
pub fn detach(tid: i32) -> Result<(), Fault> {
    detach_with(tid, 0)
}

/// Lets it go for ever, with this signal (0: none).
pub fn detach_with(tid: i32, signal: i32) -> Result<(), Fault> {
    plain("PTRACE_DETACH", libc::PTRACE_DETACH, tid, signal as u64)
}

/// Sets the `O_` options anew.
pub fn set_options(tid: i32, options: u64) -> Result<(), Fault> {
    plain("PTRACE_SETOPTIONS", libc::PTRACE_SETOPTIONS, tid, options)
}

fn regset(name: &str, request: u32, tid: i32, kind: u64, bytes: &mut [u8]) -> Result<usize, Fault> {
    let mut io = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    raw(request, tid, kind, (&raw mut io).addr() as u64)
        .map_err(|e| Fault::new(format!("ptrace({name}, {tid}, {kind:#x})"), tid, e))?;
    Ok(io.iov_len)
}

/// The general registers; `None` when the thread runs code of another mode, whose registers are other ones.
pub fn getregs(tid: i32) -> Result<Option<UserRegs>, Fault> {
    let mut bytes = [0; UserRegs::SIZE];
    let len = regset("PTRACE_GETREGSET", request::GETREGSET, tid, NT_PRSTATUS, &mut bytes)?;
    Ok(UserRegs::from_bytes(&bytes[..len]))
}

/// Sets the general registers.
pub fn setregs(tid: i32, regs: &UserRegs) -> Result<(), Fault> {
    regset("PTRACE_SETREGSET", request::SETREGSET, tid, NT_PRSTATUS, &mut regs.to_bytes()).map(drop)
}

/// The extended state: x87, SSE, AVX and so on, laid out as it goes from machine to machine. With a component that has no place there
/// it is as the kernel gives it, for machines that are like this one.
pub fn getxstate(tid: i32) -> Result<Vec<u8>, Fault> {
    let mut bytes = [0; XSTATE_MAX];
    let len = regset("PTRACE_GETREGSET", request::GETREGSET, tid, NT_X86_XSTATE, &mut bytes)?;
    let native = &bytes[..len];
    Ok(match xstate::laid_out(native, components(), &xstate::COMPONENTS, xstate::COMPONENTS_AT) {
        Ok(mut state) => {
            state[xstate::SOFTWARE].fill(0);
            state
        }
        Err(_) => native.to_vec(),
    })
}

/// Sets the extended state, laid out likewise.
pub fn setxstate(tid: i32, state: &[u8]) -> Result<(), Fault> {
    /// Bytes of that of every thread here.
    static LEN: OnceLock<usize> = OnceLock::new();
    let len = match LEN.get() {
        Some(len) => *len,
        None => {
            let whole = regset("PTRACE_GETREGSET", request::GETREGSET, tid, NT_X86_XSTATE, &mut [0; XSTATE_MAX])?;
            *LEN.get_or_init(|| whole)
        }
    };
    // One of the same length is of a machine like this one; all others that images have are of Intel's.
    let is_own = xstate::is_native(state) && state.len() == len;
    let from = if is_own { components() } else { &xstate::COMPONENTS[..] };
    let mut bytes = xstate::laid_out(state, from, components(), len).map_err(|bit| unknown(tid, bit))?;
    regset("PTRACE_SETREGSET", request::SETREGSET, tid, NT_X86_XSTATE, &mut bytes).map(drop)
}

fn components() -> &'static [Component] {
    static ALL: OnceLock<Vec<Component>> = OnceLock::new();
    ALL.get_or_init(arch::components)
}

fn unknown(tid: i32, bit: u32) -> Fault {
    let names = xstate::names(1 << bit).join(", ");
    Fault::new(format!("registers of a kind that is not known ({names})"), tid, Errno::EOPNOTSUPP)
}

/// The signal mask; inside sigsuspend(2), ppoll(2) and the like the one that they return to.
pub fn getsigmask(tid: i32) -> Result<u64, Fault> {
    let mut mask = 0u64;
    raw(request::GETSIGMASK, tid, 8, (&raw mut mask).addr() as u64)
        .map_err(|e| Fault::new(format!("ptrace(PTRACE_GETSIGMASK, {tid})"), tid, e))?;
    Ok(mask)
}

/// Sets the signal mask, and the one to return to as well.
pub fn setsigmask(tid: i32, mask: u64) -> Result<(), Fault> {
    raw(request::SETSIGMASK, tid, 8, (&raw const mask).addr() as u64)
        .map(drop)
        .map_err(|e| Fault::new(format!("ptrace(PTRACE_SETSIGMASK, {tid}, {mask:#x})"), tid, e))
}

/// The registration of restartable sequences, if there is one and the kernel (5.13) can tell.
pub fn rseq(tid: i32) -> Result<Option<RseqConfiguration>, Fault> {
    let mut bytes = [0u8; RseqConfiguration::SIZE];
    let addr = (&raw mut bytes).addr() as u64;
    match raw(request::GET_RSEQ_CONFIGURATION, tid, bytes.len() as u64, addr) {
        Ok(_) => Ok(RseqConfiguration::from_bytes(&bytes).filter(|c| c.pointer != 0)),
        Err(e) if e.0 == libc::EIO => Ok(None),
        Err(e) => Err(Fault::new(format!("ptrace(PTRACE_GET_RSEQ_CONFIGURATION, {tid})"), tid, e)),
    }
}

/// How the thread dispatches its system calls to itself (prctl(2), PR_SET_SYSCALL_USER_DISPATCH), if it does.
pub fn dispatch(tid: i32) -> Result<Option<DispatchConfiguration>, Fault> {
    let mut bytes = [0u8; DispatchConfiguration::SIZE];
    let addr = (&raw mut bytes).addr() as u64;
    match raw(request::GET_SYSCALL_USER_DISPATCH_CONFIG, tid, bytes.len() as u64, addr) {
        Ok(_) => Ok(DispatchConfiguration::from_bytes(&bytes).filter(|config| config.mode != 0)),
        // Before Linux 6.4 nobody can ask.
        Err(e) if e.0 == libc::EIO => Ok(None),
        Err(e) => Err(Fault::new(format!("ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, {tid})"), tid, e)),
    }
}

/// Has the thread dispatch its system calls as that says.
#[cold]
pub fn set_dispatch(tid: i32, config: &DispatchConfiguration) -> Result<(), Fault> {
    let bytes = config.to_be_set().to_bytes();
    let addr = (&raw const bytes).addr() as u64;
    raw(request::SET_SYSCALL_USER_DISPATCH_CONFIG, tid, bytes.len() as u64, addr)
        .map(drop)
        .map_err(|e| Fault::new(format!("ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, {tid})"), tid, e))
}

/// The seccomp filters of a thread, the one that was installed first at the beginning; none where its mode is another, and for a
/// tracer without CAP_SYS_ADMIN or with filters of its own, who may not look at them (kernel/seccomp.c, seccomp_get_filter).
#[inline(never)]
pub fn seccomp_filters(tid: i32) -> Result<Vec<Filter>, Fault> {
    /// SECCOMP_FILTER_FLAG_LOG, the only one that the kernel tells.
    const LOG: u64 = 2;
    let call = |name: &str, e| Fault::new(format!("ptrace({name}, {tid})"), tid, e);
    let mut all = Vec::new();
    loop {
        let n = all.len() as u64;
        let count = match raw(request::SECCOMP_GET_FILTER, tid, n, 0) {
            Ok(count) => count,
            // EINVAL: the mode is another; ENOENT: there is no further one.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::EACCES) => return Ok(all),
            Err(e) => return Err(call("PTRACE_SECCOMP_GET_FILTER", e)),
        };
        let mut program = vec![0u8; count as usize * 8];
        raw(request::SECCOMP_GET_FILTER, tid, n, program.as_mut_ptr().addr() as u64)
            .map_err(|e| call("PTRACE_SECCOMP_GET_FILTER", e))?;
        let mut metadata = [n, 0];
        raw(request::SECCOMP_GET_METADATA, tid, 16, (&raw mut metadata).addr() as u64)
            .map_err(|e| call("PTRACE_SECCOMP_GET_METADATA", e))?;
        all.push(Filter { program, log: metadata[1] & LOG != 0 });
    }
}

/// `struct ptrace_peeksiginfo_args` (linux/ptrace.h).
#[repr(C)]
struct PeekSiginfoArgs {
    off: u64,
    flags: u32,
    nr: i32,
}

/// Signals that wait to be delivered, in their order, as siginfo_t; none is taken out.
pub fn pending(tid: i32, queue: crate::Queue) -> Result<Vec<[u8; 128]>, Fault> {
    let flags = if queue == crate::Queue::Process { PEEKSIGINFO_SHARED } else { 0 };
    let mut all = Vec::new();
    loop {
        let mut some = [[0u8; 128]; 32];
        let args = PeekSiginfoArgs { off: all.len() as u64, flags, nr: some.len() as i32 };
        let (addr, data) = ((&raw const args).addr() as u64, (&raw mut some).addr() as u64);
        let n = raw(request::PEEKSIGINFO, tid, addr, data)
            .map_err(|e| Fault::new(format!("ptrace(PTRACE_PEEKSIGINFO, {tid})"), tid, e))?;
        if n == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&some[..n as usize]);
    }
}

/// What a traced thread came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It was interrupted, or its stop by a stopping signal began or ended: SIGTRAP, or that signal.
    Event(i32),
    /// It is at the entry or exit of a system call.
    Syscall,
    /// It is about to get this signal. Whoever lets it go on must pass the signal, or it is lost.
    Signal(i32),
    /// Another event, by its number (`PTRACE_EVENT_`).
    Other(i32),
    /// It is no more.
    Exited,
}

/// PTRACE_EVENT_STOP (linux/ptrace.h).
const EVENT_STOP: i32 = 128;
/// With O_TRACESYSGOOD, what a stop at a system call is reported as.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

impl Stop {
    /// The signal that the thread must be let go on with.
    pub fn signal_to_pass(self) -> i32 {
        if let Stop::Signal(signal) = self { signal } else { 0 }
    }

    fn from_siginfo(info: &libc::siginfo_t) -> Stop {
        // SAFETY: waitid filled the siginfo in, and for SIGCHLD si_status is a field of it.
        let status = unsafe { info.si_status() };
        match info.si_code {
            libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => Stop::Exited,
            _ if status >> 8 == EVENT_STOP => Stop::Event(status & 0xff),
            _ if status >> 8 != 0 => Stop::Other(status >> 8),
            _ if status == SYSCALL_STOP => Stop::Syscall,
            _ => Stop::Signal(status),
        }
    }
}

fn waitid(tid: i32, options: i32) -> Result<Option<Stop>, Fault> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: waitid fills in the siginfo that it is given; zeroes are a valid one too.
    let r = unsafe { libc::waitid(libc::P_PID, tid as u32, info.as_mut_ptr(), options | libc::__WALL) };
    // SAFETY: see above.
    let info = unsafe { info.assume_init() };
    match sys::result(i64::from(r)) {
        // SAFETY: si_pid is a field of every siginfo of waitid, 0 when there was nothing to tell.
        Ok(_) if unsafe { info.si_pid() } == 0 => Ok(None),
        Ok(_) => Ok(Some(Stop::from_siginfo(&info))),
        Err(e) if e.0 == libc::ECHILD => Ok(Some(Stop::Exited)),
        Err(e) if e.0 == libc::EINTR => Ok(None),
        Err(e) => Err(Fault::new(format!("waitid({tid})"), tid, e)),
    }
}

/// What the thread came to, if it did yet. A stop is left to be seen again; an end is taken note of.
pub fn look(tid: i32) -> Result<Option<Stop>, Fault> {
    let stop = waitid(tid, libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT)?;
    if stop == Some(Stop::Exited) {
        waitid(tid, libc::WEXITED | libc::WNOHANG)?;
    }
    Ok(stop)
}

/// Takes note of the end of a thread that was sent SIGKILL; false when it does not end in time. We sleep meanwhile: the processors are
/// for the threads that end.
pub fn reap(tid: i32, patience: Duration) -> Result<bool, Fault> {
    let end = Instant::now() + patience;
    while waitid(tid, libc::WEXITED | libc::WNOHANG)?.is_none() {
        if Instant::now() > end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(true)
}

/// How often we look without sleeping: most stops come within microseconds.
const EAGER_LOOKS: u32 = 300;

/// Waits until the thread stops or ends; `None` when it does neither in time.
///
/// waitid(2) says nothing of the end of a thread group's leader while other threads live, so the state is looked at too.
pub fn wait(tid: i32, patience: Duration) -> Result<Option<Stop>, Fault> {
    for _ in 0..EAGER_LOOKS {
        if let Some(stop) = look(tid)? {
            return Ok(Some(stop));
        }
        std::thread::yield_now();
    }
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(stop) = look(tid)? {
            return Ok(Some(stop));
        }
        if crate::status::is_dead(tid) {
            // It may have ended after the look: then its end is still to be taken note of.
            return Ok(look(tid)?.or(Some(Stop::Exited)));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(None)
}
