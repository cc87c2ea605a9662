//! Registers: general, extended (x87, SSE, AVX…), signal mask; and the system call in which the thread was.
//!
//! - seen as    PTRACE_GETREGSET, PTRACE_GETSIGMASK
//! - captured   as they are; of a call that waits with a timeout, how much of it is left
//! - recreated  PTRACE_SETREGSET on the way out of a signal stop: the kernel itself makes an interrupted call again. A call
//!   whose rest lives in the kernel (`restart_block`: nanosleep, poll, futex) is begun once more with the time that was left,
//!   and interrupted at once: then the kernel has the rest again, and goes on with it
//! - refused    an extended state that this processor does not have; 32-bit threads
//! - not kept   debug registers; the time that was left to a call which another stop had interrupted before, or whose time
//!   the kernel only reads: the user is told

use crate::fd::uring;
use crate::{At, Blob, Capture, Capturing, Planning, Resource, Trouble};

use abi::consts::futex::{FUTEX_CMD_MASK, FUTEX_LOCK_PI, FUTEX_WAIT};
use abi::consts::restart::{ERESTART_RESTARTBLOCK, ERESTARTNOHAND};
use abi::consts::time::TIMER_ABSTIME;
use abi::consts::uring::{ENTER_ABS_TIMER, ENTER_EXT_ARG};
use abi::layout::Timespec;
use abi::x86_64::{UserRegs, xstate};
use abi::{Call, Machine, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Fact, Moment, Op, Refusal, Restart, Value};
use serde::{Deserialize, Serialize};

const USER_CS: u64 = 0x33;
/// Clocks are small numbers, addresses are not: tells clock_nanosleep from nanosleep.
const CLOCKS: u64 = 4096;

/// A call that waits until a time that only the kernel knows.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
pub enum Waiting {
    /// nanosleep, clock_nanosleep with a relative time.
    #[n(0)]
    Sleep {
        /// Nanoseconds. Volatile.
        #[n(0)]
        left: u64,
        /// The clock (clock_gettime(2)).
        #[n(1)]
        clock: u64,
        /// Where the kernel writes the rest when a signal handler interrupts it; 0: nowhere.
        #[n(2)]
        rest: u64,
    },
    /// poll; `None`: no timeout.
    #[n(1)]
    Poll {
        /// Milliseconds. Volatile.
        #[n(0)]
        left: Option<u64>,
    },
    /// futex, FUTEX_WAIT with a relative time.
    #[n(2)]
    Futex {
        /// Nanoseconds. Volatile.
        #[n(0)]
        left: u64,
    },
    /// futex with an absolute time: the call is as good as it was.
    #[n(3)]
    FutexUntil,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Regs {
    /// The general registers.
    #[n(0)]
    pub general: UserRegs,
    /// NT_X86_XSTATE.
    #[n(1)]
    pub extended: Blob,
    /// Blocked signals.
    #[n(2)]
    pub mask: u64,
    /// The rest of an interrupted call.
    #[n(3)]
    pub waiting: Option<Waiting>,
}

impl Resource for Regs {
    const NAME: &'static str = "regs";
}

impl Capture for Regs {
    fn asks() -> Vec<Call> {
        vec![uring::ask_registered(0)]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let general = from.probe.regs();
        if general.cs != USER_CS {
            return Err(Refusal::new("registers", "it is a 32-bit program", "this is not supported yet").into());
        }
        uring::look_for_registered(from)?;
        let waiting = match general.rax {
            ERESTART_RESTARTBLOCK if (general.orig_rax as i64) >= 0 => {
                Some(waiting(&general, from)?).inspect(|w| note_unknown_age(&general, w, from))
            }
            _ => None,
        };
        if waits_for_the_kernel(&general) {
            let why =
                "it waits for input or output that the kernel has not done, and that would be lost (io_getevents)";
            return Err(Refusal::new("call", why, "try again when it waits for none").into());
        }
        note_begun_anew(&general, from);
        let mut extended = from.probe.xstate();
        xstate::settle(&mut extended);
        Ok(Regs { general, extended: Blob(extended), mask: from.probe.mask(), waiting })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let extended = xstate::without_plain_keys(&self.extended.0, to.to.host.xfeatures);
        let missing = xstate::missing(&extended, to.to.host.xfeatures).unwrap_or(0);
        if missing != 0 && !to.to.refused("processor") {
            let why = format!("it uses registers that are not there: {}", xstate::names(missing).join(", "));
            to.to.refuse(Refusal::new("processor", why, "thaw it on a processor of the same kind"));
        }
        let restart = self.waiting.as_ref().map_or(Restart::Registers, |w| again(w, &self.general));
        let op = Op::Regs { regs: Box::new(self.general), xstate: extended, mask: self.mask, restart };
        let needs = vec![Fact::Settled, Fact::Loaded(to.space(at.pid))];
        to.to.step(Moment::Arm, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
    }
}

/// Which call it is. A call that was restarted before has lost its number; then the kernel function in which the thread
/// slept tells.
fn sleeping_in(regs: &UserRegs, from: &Capturing<'_>) -> Option<Sys> {
    let restarted = Sys::RestartSyscall.number(Machine::X86_64);
    if regs.orig_rax != restarted {
        return Sys::from_number(regs.orig_rax, Machine::X86_64);
    }
    let channel = from.probe.wait_channel();
    let slept_in = |name: &[u8]| channel.windows(name.len()).any(|w| w == name);
    // The kernel leaves the functions of its scheduler out, and those that ended in a jump: of a sleep that goes on, only the
    // entry of all system calls remains.
    let asleep = slept_in(b"nanosleep") || slept_in(b"do_syscall");
    match () {
        _ if asleep && regs.rdi < CLOCKS => Some(Sys::ClockNanosleep),
        _ if asleep => Some(Sys::Nanosleep),
        _ if slept_in(b"poll") => Some(Sys::Poll),
        _ if slept_in(b"futex") => Some(Sys::Futex),
        _ => None,
    }
}

fn nanos(at: u64, from: &Capturing<'_>) -> Result<u64, Trouble> {
    let bytes = from.probe.memory(at, Timespec::SIZE)?;
    Ok(Timespec::from_bytes(&bytes).and_then(Timespec::to_nanos).unwrap_or(0))
}

/// What is left of a sleep: exactly, where the program lets the kernel write it down (which it does at every interruption,
/// ours too: kernel/time/hrtimer.c, nanosleep_copyout); else the whole time less the time since the thread last ran.
fn sleep(asked: u64, rest: u64, clock: u64, from: &Capturing<'_>) -> Result<Waiting, Trouble> {
    let left = match rest {
        0 => nanos(asked, from)?.saturating_sub(from.probe.idle().unwrap_or(0)),
        rest => nanos(rest, from)?,
    };
    Ok(Waiting::Sleep { left, clock, rest })
}

fn waiting(r: &UserRegs, from: &Capturing<'_>) -> Result<Waiting, Trouble> {
    let idle = from.probe.idle().unwrap_or(0);
    match sleeping_in(r, from) {
        Some(Sys::Nanosleep) => sleep(r.rdi, r.rsi, 1, from),
        Some(Sys::ClockNanosleep) => sleep(r.rdx, r.r10, r.rdi, from),
        Some(Sys::Poll) => {
            let asked = r.rdx as u32 as i32;
            let left = u64::try_from(asked).ok().map(|ms| ms.saturating_sub(idle / 1_000_000));
            Ok(Waiting::Poll { left })
        }
        Some(Sys::Futex) if r.rsi & FUTEX_CMD_MASK == FUTEX_WAIT => {
            Ok(Waiting::Futex { left: nanos(r.r10, from)?.saturating_sub(idle) })
        }
        Some(Sys::Futex) if r.rsi & FUTEX_CMD_MASK != FUTEX_LOCK_PI => Ok(Waiting::FutexUntil),
        _ => {
            let why = format!("it is in a system call whose rest is not known (number {})", r.orig_rax as i64);
            Err(Refusal::new("registers", why, "try again a moment later").into())
        }
    }
}

/// A call that was restarted before: how long it had waited until then stands nowhere, unless the kernel writes its rest
/// into the memory of the program. Nor is it known of any call where the kernel does not tell how long a thread has slept.
fn note_unknown_age(r: &UserRegs, waiting: &Waiting, from: &mut Capturing<'_>) {
    let most = match waiting {
        Waiting::Sleep { left, rest: 0, .. } | Waiting::Futex { left } => *left,
        Waiting::Poll { left: Some(left) } => left.saturating_mul(1_000_000),
        _ => 0,
    };
    let restarted = r.orig_rax == Sys::RestartSyscall.number(Machine::X86_64);
    if most > 0 && (restarted || from.probe.idle().is_none()) {
        let most = most as f64 / 1e9;
        from.note(
            "call",
            format!("how long it has waited cannot be known; thawed it may wait longer, by at most {most:.1} s"),
        );
    }
}

/// Whether it waits, for as long as it takes, until more of its requests are done than are: those are in the kernel.
fn waits_for_the_kernel(r: &UserRegs) -> bool {
    let sys = Sys::from_number(r.orig_rax, Machine::X86_64).filter(|_| r.rax == ERESTARTNOHAND);
    matches!(sys, Some(Sys::IoGetevents | Sys::IoPgetevents)) && r.rsi != 0 && r.r8 == 0
}

/// Where the time stands for which it waits at a ring (linux/io_uring.h, `struct io_uring_getevents_arg`), 0 where there is none.
fn time_at_ring(r: &UserRegs, from: &Capturing<'_>) -> u64 {
    const TIME: u64 = 16;
    match r.r10 & (ENTER_EXT_ARG | ENTER_ABS_TIMER) {
        ENTER_EXT_ARG => from
            .probe
            .memory(r.r8.wrapping_add(TIME), 8)
            .ok()
            .and_then(|b| b.first_chunk().copied())
            .map_or(0, u64::from_ne_bytes),
        _ => 0,
    }
}

/// Calls that the kernel ends at any stop, and whose time it only reads: made again, they have all of it again. So have those
/// with which it would go on by a call that a filter forbids.
fn note_begun_anew(r: &UserRegs, from: &mut Capturing<'_>) {
    let sys = Sys::from_number(r.orig_rax, Machine::X86_64).filter(|_| r.rax == ERESTARTNOHAND);
    let time = match sys {
        Some(Sys::RtSigtimedwait) => r.rdx,
        Some(Sys::Nanosleep) => r.rdi,
        Some(Sys::ClockNanosleep) if r.rsi & TIMER_ABSTIME == 0 => r.rdx,
        Some(Sys::Poll) => u64::try_from(r.rdx as u32 as i32).unwrap_or(0),
        Some(Sys::Futex) if r.rsi & FUTEX_CMD_MASK == FUTEX_WAIT => r.r10,
        Some(Sys::Semtimedop | Sys::EpollPwait2) => r.r10,
        Some(Sys::IoGetevents | Sys::IoPgetevents) => r.r8,
        Some(Sys::IoUringEnter) => time_at_ring(r, from),
        Some(Sys::EpollWait | Sys::EpollPwait) if from.probe.idle().is_none() => {
            u64::try_from(r.r10 as u32 as i32).unwrap_or(0)
        }
        _ => 0,
    };
    if let Some(sys) = sys.filter(|_| time != 0) {
        from.note("call", format!("the time of its {} begins anew", sys.name()));
    }
}

/// The call that leaves in the kernel what was left.
fn again(waiting: &Waiting, r: &UserRegs) -> Restart {
    let time = |nanos: u64| Value::Bytes(Timespec::from_nanos(nanos).to_bytes().to_vec());
    let (sys, args) = match waiting {
        Waiting::Sleep { left, clock, rest } => {
            (Sys::ClockNanosleep, vec![(*clock).into(), 0.into(), time(*left), (*rest).into()])
        }
        Waiting::Poll { left } => {
            let timeout = left.map_or(u64::MAX, |ms| ms.min(i32::MAX as u64));
            (Sys::Poll, vec![r.rdi.into(), r.rsi.into(), timeout.into()])
        }
        Waiting::Futex { left } => {
            (Sys::Futex, vec![r.rdi.into(), r.rsi.into(), r.rdx.into(), time(*left), 0.into(), 0.into()])
        }
        Waiting::FutexUntil => {
            (Sys::Futex, vec![r.rdi.into(), r.rsi.into(), r.rdx.into(), r.r10.into(), r.r8.into(), r.r9.into()])
        }
    };
    Restart::Begin { sys, args }
}
