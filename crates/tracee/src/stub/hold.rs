//! Threads that are stopped: for what only a tracer does to them, and by signals, as job control does.

use super::{Stubs, Tie, lost_stub};
use crate::arch;
use crate::memory::Memory;
use crate::place::Areas;
use crate::process::await_event;
use crate::ptrace::{self, Stop};
use abi::x86_64::UserRegs;
use abi::{Errno, Fault, Sys};
use std::collections::BTreeSet;
use std::time::Duration;

/// Calls of a held thread.
#[derive(Debug)]
pub struct HeldCalls {
    /// Which one.
    pub tid: u32,
    /// Where it has a `syscall` instruction.
    pub gate: u64,
    /// What it calls, one after the other.
    pub calls: Vec<(Sys, Vec<u64>)>,
}

impl Stubs {
    /// Stops every thread, in an orderly way: from here on [`Stubs::set`] may be called. Those that have ended are left out.
    pub fn hold(&mut self) -> Result<(), Fault> {
        let is_held = |process: &u32| self.processes[process].stopped.is_some();
        let living = abi::gathered(self.processes().filter(|p| !self.has_ended(*p) && !is_held(p)));
        self.hold_processes(&living)?;
        self.close_sockets();
        Ok(())
    }

    /// Nothing more goes over them. To close one takes some microseconds, in which another thread of ours may do it.
    fn close_sockets(&mut self) {
        const MANY: usize = 64;
        let all: Vec<_> = self.threads.values_mut().filter_map(|stub| stub.socket.take()).collect();
        if all.len() >= MANY {
            // What cannot be begun drops them here.
            let _ = std::thread::Builder::new().spawn(move || drop(all));
        }
    }

    /// Stops the threads of processes, likewise; gives their ids here. All are told before any is waited for: to come to a stop
    /// takes each of them a while.
    fn hold_processes(&mut self, processes: &BTreeSet<u32>) -> Result<Vec<i32>, Fault> {
        processes.iter().try_for_each(|process| self.find_threads(*process))?;
        let mut held = Vec::new();
        for stub in self.threads.values_mut() {
            let Some(body) = stub.process.filter(|own| processes.contains(own)).map(|own| &self.processes[&own]) else {
                continue;
            };
            let Some(tid) = stub.tid.filter(|tid| body.ended.is_none() || *tid != body.pid) else { continue };
            if stub.tie == Tie::Socket {
                ptrace::seize(tid, ptrace::O_TRACESYSGOOD | ptrace::O_EXITKILL)?;
                stub.tie = Tie::Trace;
            }
            ptrace::interrupt(tid)?;
            held.push(tid);
        }
        for tid in &held {
            await_event(*tid).map_err(|lost| lost_stub(lost, *tid))?;
        }
        Ok(held)
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

    pub(super) fn held(&self, tid: u32) -> i32 {
        self.threads[&tid].tid.expect("threads are held before they are set right")
    }

    /// Stops a process by a signal for which it has no handler, as job control does: its parent is told, and can wait for it. It
    /// stays so when we let it go, and then nobody is told once more (kernel/signal.c, task_participate_group_stop). It is held
    /// from here on.
    pub fn stop(&mut self, process: u32, signal: i32) -> Result<(), Fault> {
        let threads = self.hold_processes(&abi::gathered([process]))?;
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

    /// A `syscall` instruction of a process that has none in a vdso.
    #[cold]
    pub fn gate(&self, process: u32) -> Result<u64, Fault> {
        let pid = self.pid(process);
        let gate = Areas::of(pid)?.gate(&Memory::open(pid)?, &self.ground());
        gate.ok_or_else(|| Fault::new("a search for a syscall instruction", pid, Errno::ENOENT))
    }

    /// Each of these held threads makes its calls, through a `syscall` instruction of its own; none of its memory is needed. They
    /// make them beside each other, and whatever else there is to be done for others is done while they make the first.
    pub fn call_held(&self, all: &[HeldCalls], mut meanwhile: impl FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
        let most = all.iter().map(|one| one.calls.len()).max().unwrap_or(0);
        if most == 0 {
            return meanwhile();
        }
        for n in 0..most {
            let making: Vec<_> = all.iter().filter_map(|o| Some((self.held(o.tid), o.gate, o.calls.get(n)?))).collect();
            for (tid, gate, (sys, args)) in &making {
                prepare(*tid, *gate, *sys, args)?;
                ptrace::syscall(*tid, 0)?;
            }
            for (tid, ..) in &making {
                await_syscall_stop(*tid)?;
                ptrace::syscall(*tid, 0)?;
            }
            if n == 0 {
                meanwhile()?;
            }
            for (tid, _, (sys, _)) in &making {
                await_syscall_stop(*tid)?;
                Errno::from_raw(getregs(*tid)?.rax).map_err(|e| Fault::new(sys.name(), tid, e))?;
            }
        }
        let tids = || all.iter().filter(|one| !one.calls.is_empty()).map(|one| self.held(one.tid));
        tids().try_for_each(to_event)?;
        tids().try_for_each(|tid| await_event(tid).map(drop).map_err(|lost| lost_stub(lost, tid)))
    }

    /// A call that is begun and interrupted before it can sleep: the kernel keeps the rest of it. Gives the raw value of
    /// the return register, which says whether there is a rest. Pointers must lead into memory that the thread has.
    pub fn begin_held(&self, tid: u32, gate: u64, sys: Sys, args: &[u64]) -> Result<u64, Fault> {
        let tid = self.held(tid);
        to_entry(tid, gate, sys, args)?;
        // With the interruption pending, a call that would sleep returns at once, as at any signal.
        to_event_stop(tid)?;
        Ok(getregs(tid)?.rax)
    }

    /// Puts bytes where a held thread can read them, as an argument of [`Stubs::begin_held`]; gives their address.
    pub fn lend(&self, tid: u32, bytes: &[u8]) -> Result<u64, Fault> {
        self.threads[&tid].arena.lend(bytes)
    }
}

/// One call of a stopped thread, through the `syscall` instruction at `gate`. It is stopped again after it, its registers changed.
pub(crate) fn call_at(tid: i32, gate: u64, sys: Sys, args: &[u64]) -> Result<u64, Fault> {
    to_entry(tid, gate, sys, args)?;
    // From here on there is no way back.
    again(|| to_syscall_stop(tid))?;
    let rax = again(|| getregs(tid))?.rax;
    again(|| to_event_stop(tid))?;
    Errno::from_raw(rax).map_err(|e| Fault::new(sys.name(), tid, e))
}

/// What must not fail is tried twice: a thread of which it fails once more has ended.
pub(crate) fn again<T>(act: impl Fn() -> Result<T, Fault>) -> Result<T, Fault> {
    act().or_else(|_| act())
}

fn getregs(tid: i32) -> Result<UserRegs, Fault> {
    let regs = ptrace::getregs(tid)?;
    regs.ok_or_else(|| Fault::new("ptrace(PTRACE_GETREGSET)", tid, Errno::EINVAL))
}

fn to_entry(tid: i32, gate: u64, sys: Sys, args: &[u64]) -> Result<(), Fault> {
    prepare(tid, gate, sys, args)?;
    to_syscall_stop(tid)
}

/// The registers with which it makes that call next.
fn prepare(tid: i32, gate: u64, sys: Sys, args: &[u64]) -> Result<(), Fault> {
    let arg = |n: usize| args.get(n).copied().unwrap_or(0);
    let regs = UserRegs {
        rip: gate,
        rax: sys.number(arch::MACHINE),
        orig_rax: u64::MAX,
        rdi: arg(0),
        rsi: arg(1),
        rdx: arg(2),
        r10: arg(3),
        r8: arg(4),
        r9: arg(5),
        eflags: arch::PLAIN_FLAGS,
        ..getregs(tid)?
    };
    ptrace::setregs(tid, &regs)
}

fn to_syscall_stop(tid: i32) -> Result<(), Fault> {
    ptrace::syscall(tid, 0)?;
    await_syscall_stop(tid)
}

fn await_syscall_stop(tid: i32) -> Result<(), Fault> {
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
fn to_event_stop(tid: i32) -> Result<(), Fault> {
    to_event(tid)?;
    await_event(tid).map(drop).map_err(|lost| lost_stub(lost, tid))
}

fn to_event(tid: i32) -> Result<(), Fault> {
    ptrace::interrupt(tid)?;
    ptrace::cont(tid, 0)
}
