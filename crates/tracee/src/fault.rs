//! Points at which a test makes us die, or makes the kernel seem to say no.
//!
//! Every act passes [`point`] just before it happens: each ptrace request, each write to a victim's memory, each store
//! to the arena, each call of a thaw, each step, each piece of an image. Without the feature `faults` that is nothing at
//! all.

use abi::Errno;

#[cfg(feature = "faults")]
mod armed {
    use abi::Errno;
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::SeqCst};

    /// What happens at the armed point.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum What {
        /// We get SIGKILL.
        Die,
        /// The act is not done and gives EIO.
        Fail,
    }

    /// Shared with all that is forked after [`arm`]: a helper of ours counts on where we are, and where a point in it is
    /// the armed one it is we that die, as somebody who kills a thaw kills the process that he started.
    #[derive(Default)]
    struct Count {
        passed: AtomicU64,
        die_at: AtomicU64,
        fail_at: AtomicU64,
        pid: AtomicI32,
    }

    static COUNT: AtomicPtr<Count> = AtomicPtr::new(null_mut());

    fn count() -> Option<&'static Count> {
        // SAFETY: null, or a mapping of `arm` that is never unmapped and holds a `Count`.
        unsafe { COUNT.load(SeqCst).as_ref() }
    }

    /// Counts from zero; `what` happens at the `nth` point from here (from 1), once.
    pub fn arm(what: What, nth: u64) {
        let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping of zeroes, at an address of the kernel's choice.
        let at = unsafe { libc::mmap(null_mut(), size_of::<Count>(), rw, shared, -1, 0) };
        assert!(at != libc::MAP_FAILED, "there is room for the counters");
        let at = at.cast::<Count>();
        // SAFETY: the mapping was made just now, is as large and as aligned as a `Count`, and zeroes are one.
        let count = unsafe { &*at };
        match what {
            What::Die => count.die_at.store(nth, SeqCst),
            What::Fail => count.fail_at.store(nth, SeqCst),
        }
        count.pid.store(std::process::id() as i32, SeqCst);
        COUNT.store(at, SeqCst);
    }

    /// How many points were passed since [`arm`].
    pub fn passed() -> u64 {
        count().map_or(0, |c| c.passed.load(SeqCst))
    }

    pub(super) fn point() -> Result<(), Errno> {
        let Some(count) = count() else { return Ok(()) };
        let now = count.passed.fetch_add(1, SeqCst) + 1;
        if now == count.die_at.load(SeqCst) {
            // SAFETY: kill(2) reads no memory of ours.
            let r = unsafe { libc::kill(count.pid.load(SeqCst), libc::SIGKILL) };
            assert_eq!(r, 0, "no point is passed in another pid namespace, in which our id means nobody");
        }
        if now == count.fail_at.load(SeqCst) { Err(Errno::EIO) } else { Ok(()) }
    }
}

#[cfg(feature = "faults")]
pub use armed::{What, arm, passed};

/// The instant before an act.
///
/// # Errors
/// With the feature `faults` only: the error that the armed point gives.
#[inline]
pub fn point() -> Result<(), Errno> {
    #[cfg(feature = "faults")]
    return armed::point();
    #[cfg(not(feature = "faults"))]
    Ok(())
}
