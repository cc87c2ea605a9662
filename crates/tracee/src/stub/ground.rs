//! The memory that we share with every stub.

use crate::arena::{ALIGN, SIZE};
use crate::{arch, fault, sys};
use abi::consts::mmap::PAGE;
use abi::{Errno, Fault};
use std::ops::Range;

/// Bytes of a line of the processor's caches: what two of them write is not in one.
const LINE: usize = 64;

/// Memory that we and every stub share: a page of code, and an arena for each thread.
#[derive(Debug)]
pub struct Ground {
    pub(super) at: u64,
    /// Where each arena ends, seen from there.
    ends: Vec<u64>,
}

impl Ground {
    /// The bytes of an arena for whatever calls.
    pub const ROOM: usize = SIZE;

    /// The bytes of an arena in which calls of which we know all have room at once: of each, what its arguments point to. `None`: they
    /// take more than there ever is. Of small arenas several are in one page, for which both sides take a fault.
    pub fn room_for<'c>(calls: impl IntoIterator<Item = &'c Vec<usize>>) -> Option<usize> {
        let pad = |len: &usize| len.next_multiple_of(ALIGN);
        let call = |pointed: &Vec<usize>| arch::ENTRY + pointed.iter().map(pad).sum::<usize>();
        let room = (arch::ENTRIES_AT + calls.into_iter().map(call).sum::<usize>()).next_multiple_of(LINE);
        (room <= SIZE).then_some(room)
    }

    /// The bytes that it takes for arenas of such sizes.
    pub fn size(rooms: &[usize]) -> u64 {
        PAGE + rooms.iter().sum::<usize>() as u64
    }

    /// Maps it with an arena for each of these sizes; nothing may be there.
    pub fn map(at: u64, rooms: &[usize]) -> Result<Ground, Fault> {
        let size = Ground::size(rooms);
        let call = |e| Fault::new(format!("mmap({at:#x}, {size}, MAP_SHARED)"), "the ground", e);
        fault::point().map_err(call)?;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        let address = std::ptr::without_provenance_mut::<libc::c_void>(at as usize);
        let len = size as usize;
        // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
        let got = unsafe { libc::mmap(address, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if got.addr() as u64 != at {
            return Err(call(Errno::from(std::io::Error::last_os_error())));
        }
        let mut end = PAGE;
        let ends = rooms.iter().map(|room| {
            end += *room as u64;
            end
        });
        let ground = Ground { at, ends: ends.collect() };
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
    pub fn range(&self) -> Range<u64> {
        self.at..self.at + self.ends.last().copied().unwrap_or(PAGE)
    }

    /// How many arenas there are.
    pub(super) fn slots(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn arena(&self, slot: usize) -> Range<u64> {
        let start = slot.checked_sub(1).map_or(PAGE, |before| self.ends[before]);
        self.at + start..self.at + self.ends[slot]
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let Range { start, end } = self.range();
        let address = std::ptr::without_provenance_mut(start as usize);
        // SAFETY: all of our own mapping, of which no pointer is left: arenas live no longer than the stubs that hold the ground.
        unsafe { libc::munmap(address, (end - start) as usize) };
    }
}
