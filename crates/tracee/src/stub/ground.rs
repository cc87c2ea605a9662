//! The memory that we share with every stub.

use crate::arena::SIZE;
use crate::{arch, fault, sys};
use abi::consts::mmap::PAGE;
use abi::{Errno, Fault};

/// Memory that we and every stub share: a page of code, and an arena for each thread.
#[derive(Debug)]
pub struct Ground {
    pub(super) at: u64,
    pub(super) slots: usize,
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

    pub(super) fn arena(&self, slot: usize) -> u64 {
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
