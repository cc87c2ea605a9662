//! Points at which a test makes us die, or makes the kernel seem to say no.
//!
//! Every act on a victim passes [`point`] just before it happens: each ptrace request, each write to its memory, each
//! store to the arena. Without the feature `faults` that is nothing at all.

use abi::Errno;

#[cfg(feature = "faults")]
mod armed {
    use abi::Errno;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    /// What happens at the armed point.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum What {
        /// We get SIGKILL.
        Die,
        /// The act is not done and gives EIO.
        Fail,
    }

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static DIE_AT: AtomicU64 = AtomicU64::new(0);
    static FAIL_AT: AtomicU64 = AtomicU64::new(0);

    /// Counts from zero again; `what` happens at the `nth` point from here (from 1), once.
    pub fn arm(what: What, nth: u64) {
        PASSED.store(0, SeqCst);
        DIE_AT.store(if what == What::Die { nth } else { 0 }, SeqCst);
        FAIL_AT.store(if what == What::Fail { nth } else { 0 }, SeqCst);
    }

    /// How many points were passed since [`arm`].
    pub fn passed() -> u64 {
        PASSED.load(SeqCst)
    }

    pub(super) fn point() -> Result<(), Errno> {
        let now = PASSED.fetch_add(1, SeqCst) + 1;
        if now == DIE_AT.load(SeqCst) {
            // SAFETY: kill(2) reads no memory of ours.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        if now == FAIL_AT.load(SeqCst) { Err(Errno::EIO) } else { Ok(()) }
    }
}

#[cfg(feature = "faults")]
pub use armed::{What, arm, passed};

/// The instant before an act on a victim.
pub(crate) fn point() -> Result<(), Errno> {
    #[cfg(feature = "faults")]
    return armed::point();
    #[cfg(not(feature = "faults"))]
    Ok(())
}
