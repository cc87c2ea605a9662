//! A guardian: the process that does the work over a program whose system calls are filtered (seccomp(2)).
//!
//! The kernel lets an envoy make its calls in such a program for as long as its tracer lives (PTRACE_O_SUSPEND_SECCOMP), and
//! then the filter would meet it on its way home. So the tracer is a child of the command that the user sees. Whoever kills
//! the command, by whatever signal, does not kill the child: that is only asked to end, and gives up in an orderly way. It is
//! in a session of its own, where no signal for a group or from a terminal reaches it, it blocks all others, and is the last
//! whom the kernel would choose when memory runs out. Only SIGKILL of the guardian itself is left to harm the program.

use crate::job::{self, Event};
use crate::{fault, sys};
use abi::Fault;
use std::sync::atomic::{AtomicBool, Ordering};

static STANDS: AtomicBool = AtomicBool::new(false);

/// Whether we are a guardian.
pub fn stands() -> bool {
    STANDS.load(Ordering::Relaxed)
}

/// From here on a child goes on, as the guardian, for which this gives `None`. We ourselves wait for its end, of which this
/// tells, and pass on to it what signals come.
///
/// # Errors
/// The kernel gives no process.
///
/// # Panics
/// Never: an event that is not its end is not given.
pub fn stand() -> Result<Option<Event>, Fault> {
    let call = |e| Fault::new("fork", "a guardian", e);
    fault::point().map_err(call)?;
    let before = job::block_all();
    let command = std::process::id() as i32;
    // SAFETY: we have no other threads, so the child may do as it likes.
    match sys::result(i64::from(unsafe { libc::fork() })) {
        Err(e) => {
            job::unblock(before);
            Err(call(e))
        }
        Ok(0) => {
            guard(command);
            Ok(None)
        }
        Ok(child) => Ok(Some(await_end(child as i32))),
    }
}

fn await_end(child: i32) -> Event {
    loop {
        match job::next(child) {
            Event::Signal(signal) | Event::Typed(signal) => _ = job::kill(child, signal),
            Event::Stopped(_) => {}
            end @ (Event::Exited(_) | Event::Killed(_)) => return end,
        }
    }
}

/// In the child. What it cannot have, it does without.
fn guard(command: i32) {
    STANDS.store(true, Ordering::Relaxed);
    // SAFETY: prctl with a name and with numbers, setsid, getppid: none of them touches memory of ours.
    let parent = unsafe {
        libc::prctl(libc::PR_SET_NAME, c"cryopid-guard".as_ptr());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        libc::setsid();
        libc::getppid()
    };
    if parent != command {
        let _ = job::kill(std::process::id() as i32, libc::SIGTERM);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}
