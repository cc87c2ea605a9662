//! Who does the work over a tree whose system calls are filtered, or come back to it: see [`tracee::guard`].

use crate::host::is_first_user_namespace;
use crate::{Error, Look};
use abi::consts::cap::CAP_SYS_ADMIN;
use abi::{Errno, Fault, proc};
use tracee::guard::{stand, stands};
use tracee::job::{self, Event};
use tracee::procfs::read;

/// Takes care that whoever is killed, a tree whose calls are filtered does not suffer for it. Where it gives an exit status, a
/// guardian did what was to be done, and so ended; else we are to do it.
///
/// # Errors
/// There can be no guardian, or it was killed.
pub fn guard(tree: &Look) -> Result<Option<u8>, Error> {
    if stands() || tree.filtered.is_none() || !may_suspend() { Ok(None) } else { begin() }
}

/// The same for a tree of which [`Error::Unguarded`] was said: that it needs a guardian nobody can know who has not stopped it.
/// It runs on, as it was.
///
/// # Errors
/// There can be no guardian, or it was killed.
#[cold]
pub fn guard_after_all() -> Result<Option<u8>, Error> {
    begin()
}

fn begin() -> Result<Option<u8>, Error> {
    match stand()? {
        None => Ok(None),
        Some(Event::Exited(status)) => Ok(Some(status as u8)),
        Some(_) => Err(Error::io("wait4", "its guardian was killed, which may have harmed it", Errno::ECHILD)),
    }
}

/// Whether the kernel lets us suspend seccomp in what we trace (kernel/ptrace.c, check_ptrace_options).
fn may_suspend() -> bool {
    let status = read("/proc/self/status").ok().and_then(|text| proc::status(&text).ok());
    status.is_some_and(|s| s.cap_eff >> CAP_SYS_ADMIN & 1 == 1 && s.seccomp == 0) && is_first_user_namespace()
}

/// Whoever typed Ctrl-C does not want to wait for the end of it, nor does a guardian go on whose command was killed.
pub(crate) fn may_go_on(whom: &str) -> Result<(), Fault> {
    if job::asked_to_end() { Err(Fault::new("a signal came", whom, Errno::EINTR)) } else { Ok(()) }
}
