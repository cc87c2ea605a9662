//! The end of a thaw: threads get their state, and are let go.

use super::nest;
use super::pass::send_fds;
use super::{Fate, Part, Stubs};
use crate::process::take_note;
use crate::{fault, ptrace, sys};
use abi::Fault;
use abi::x86_64::{DispatchConfiguration, UserRegs};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

impl Stubs {
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
            // It is in the tree itself.
            Some(_) if self.root == nest::FIRST => Ok(()),
            Some(link) => {
                let root = self.processes[&self.root].pidfd.try_clone();
                let root = root.map_err(|e| Fault::new("dup", "a pidfd", e))?;
                send_fds(link, &[root]).map_err(|e| Fault::new("sendmsg", "the namespace", e))?;
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
