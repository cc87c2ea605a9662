//! The memory that freezer and envoy share: counts, descriptors to be closed, entries, and what their pointers lead to.

use crate::arch::{ENTRIES_AT, ENTRY};
use crate::{EnvoyError, arch, fault, sys};
use abi::consts::mmap::PAGE;
use abi::layout::Msghdr;
use abi::{Answer, Arg, Call, Fault, Place, Sys};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its bytes, where it is not told otherwise; only those that are used exist.
pub(crate) const SIZE: usize = 1 << 20;

/// What an argument points to begins at a multiple of this.
pub(crate) const ALIGN: usize = 16;
/// Where in an entry its result stands.
const RESULT_AT: usize = 56;
/// Bytes of an `iovec`.
const PIECE: usize = 16;

/// Our mapping of it, and its address in the victim.
#[derive(Debug)]
pub(crate) struct Arena {
    ours: *mut u8,
    theirs: u64,
    size: usize,
    /// In what it is mapped; `None`: somebody else unmaps it.
    _hall: Option<Arc<Hall>>,
}

/// Room for our mappings of some arenas, which goes when the last of them does: each time that something is unmapped, every other
/// processor on which a thread of ours runs is interrupted (arch/x86/mm/tlb.c, `flush_tlb_mm_range`).
#[derive(Debug)]
pub(crate) struct Hall {
    at: *mut u8,
    len: usize,
}

// SAFETY: an address and a length. Of what is mapped there, each arena has its own part.
unsafe impl Send for Hall {}
// SAFETY: as above.
unsafe impl Sync for Hall {}

impl Hall {
    /// Room for so many.
    pub(crate) fn new(arenas: usize) -> Result<Hall, Fault> {
        let (len, flags) = (arenas * SIZE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(Fault::new(format!("mmap({len})"), "the arenas", std::io::Error::last_os_error()));
        }
        Ok(Hall { at: at.cast(), len })
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no pointer is left: each arena has a part in the hall.
        let r = unsafe { libc::munmap(self.at.cast(), self.len) };
        debug_assert!(sys::result(i64::from(r)).is_ok(), "the hall was mapped");
    }
}

/// Calls of a batch that is in the arena, by where their results will be.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: usize,
    /// Where the first of them is.
    first: usize,
    outs: Outs,
}

/// The part of the arena in which guests have their calls. While they are there, the owner has none.
const GUESTS_AT: usize = SIZE / 2;

/// Of what each call puts out: the number of the call, where it is in the arena, and its length; ascending.
type Outs = Vec<(usize, usize, usize)>;

impl Arena {
    /// Maps it as the nth of a hall, which is no other one's; `memfd` may be closed then.
    pub(crate) fn map(memfd: &OwnedFd, theirs: u64, (hall, n): (&Arc<Hall>, usize)) -> Result<Arena, Fault> {
        let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        assert!((n + 1) * SIZE <= hall.len, "there is room in the hall");
        // SAFETY: the place is in the hall, as just asserted, and nothing else is there.
        let ours = unsafe { libc::mmap(hall.at.add(n * SIZE).cast(), SIZE, rw, shared, memfd.as_raw_fd(), 0) };
        if ours == libc::MAP_FAILED {
            let why = std::io::Error::last_os_error();
            // Its place may be free now, and another thread's: the hall is never unmapped (mm/mmap.c, `mmap_region`).
            std::mem::forget(Arc::clone(hall));
            return Err(Fault::new(format!("mmap({SIZE})"), "the arena", why));
        }
        Ok(Arena { ours: ours.cast(), theirs, size: SIZE, _hall: Some(Arc::clone(hall)) })
    }

    /// The arena at addresses that are ours as well as theirs, and that somebody else unmaps.
    pub(crate) fn at(range: Range<u64>) -> Arena {
        let size = (range.end - range.start) as usize;
        Arena { ours: std::ptr::without_provenance_mut(range.start as usize), theirs: range.start, size, _hall: None }
    }

    /// Its address in the process.
    pub(crate) fn begins(&self) -> u64 {
        self.theirs
    }

    /// A call that changes nothing, and fails with EBUSY where the arena is locked in memory (msync(2)).
    pub(crate) fn is_locked(&self) -> Call {
        Call::new(Sys::Msync, [Arg::Int(self.theirs), Arg::Int(PAGE), Arg::Int(libc::MS_INVALIDATE as u64)])
    }

    /// What the child of the clone in an entry begins with: its arena and its socket.
    pub(crate) fn set_twin(&self, entry: usize, arena: u64, socket: u64) -> Result<(), Fault> {
        self.store(ENTRIES_AT + entry * ENTRY + 64, &[arena, socket].map(u64::to_le_bytes).concat())
    }

    /// Puts bytes where the entries of batches are; gives their address in the process. They stay until the next batch.
    pub(crate) fn lend(&self, bytes: &[u8]) -> Result<u64, Fault> {
        self.store(ENTRIES_AT, bytes)?;
        Ok(self.theirs + ENTRIES_AT as u64)
    }

    /// Its address in the process.
    pub(crate) fn theirs(&self) -> u64 {
        self.theirs
    }

    /// The guests that have made their calls, by their bits.
    pub(crate) fn done(&self) -> u64 {
        // SAFETY: an aligned word in our mapping, which guests change by atomic operations only, and we as well.
        unsafe { AtomicU64::from_ptr(self.ours.add(arch::DONE_AT).cast()) }.load(Ordering::Acquire)
    }

    /// These guests have made none yet. They are no guests now.
    pub(crate) fn forget_done(&self, bits: u64) {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.ours.add(arch::DONE_AT).cast()) }.fetch_and(!bits, Ordering::AcqRel);
    }

    /// For how many guests at most there is room with these calls.
    pub(crate) fn guests(calls: &[Call]) -> usize {
        GUESTS_AT / calls.iter().map(need).sum::<usize>().max(1)
    }

    /// Stores the calls of a guest, the nth that there is room for. Gives besides where its first entry is.
    pub(crate) fn put_for_guest(&self, n: usize, calls: &[Call]) -> Result<(Batch, u64), EnvoyError> {
        let room = calls.iter().map(need).sum::<usize>();
        let first = GUESTS_AT + n * room;
        assert!(first + room <= self.size, "there is room for the guest");
        Ok((self.put_from(first, calls.len(), calls)?, self.theirs + first as u64))
    }

    fn store(&self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        fault::point().map_err(|e| Fault::new("store", "the arena", e))?;
        assert!(at + bytes.len() <= self.size, "a store goes into the arena");
        // SAFETY: the range lies in our mapping, as just asserted; nobody who runs now reads or stores there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ours.add(at), bytes.len()) };
        Ok(())
    }

    fn load(&self, at: usize, into: &mut [u8]) {
        assert!(at + into.len() <= self.size, "a load comes from the arena");
        // SAFETY: the range lies in our mapping, as just asserted, apart from any memory of Rust; whose it is has answered and does not store.
        unsafe { std::ptr::copy_nonoverlapping(self.ours.add(at), into.as_mut_ptr(), into.len()) };
    }

    /// Stores as many of the calls, from the first, as there is room for.
    pub(crate) fn put<'c>(&self, calls: impl IntoIterator<Item = &'c Call> + Clone) -> Result<Batch, EnvoyError> {
        let entries = fitting(self.size, calls.clone())?;
        self.put_from(ENTRIES_AT, entries, calls)
    }

    /// Stores that many of the calls from there on.
    fn put_from<'c>(
        &self,
        first: usize,
        entries: usize,
        calls: impl IntoIterator<Item = &'c Call>,
    ) -> Result<Batch, EnvoyError> {
        let mut free = first + entries * ENTRY;
        let mut batch = Batch { entries, first, outs: Vec::with_capacity(entries) };
        for (i, call) in calls.into_iter().take(entries).enumerate() {
            self.put_call(i, call, &mut free, &mut batch)?;
        }
        Ok(batch)
    }

    fn put_call(&self, n: usize, call: &Call, free: &mut usize, batch: &mut Batch) -> Result<(), EnvoyError> {
        let mut words = [0u64; ENTRY / 8];
        words[0] = call.sys.number(arch::MACHINE) | if n + 1 == batch.entries { arch::LAST } else { 0 };
        for (word, arg) in words[1..].iter_mut().zip(&call.args) {
            *word = self.put_arg(n, arg, free, batch)?;
        }
        Ok(self.store(batch.first + n * ENTRY, words.map(u64::to_le_bytes).as_flattened())?)
    }

    fn put_arg(&self, n: usize, arg: &Arg, free: &mut usize, batch: &mut Batch) -> Result<u64, EnvoyError> {
        let (first, outs) = (batch.first, &mut batch.outs);
        match arg {
            Arg::Int(value) => Ok(*value),
            Arg::Bytes(bytes) => self.put_bytes(bytes, free),
            Arg::Word(word) => self.put_bytes(&word.to_ne_bytes(), free),
            Arg::Out(len) => self.put_room(n, *len, free, outs),
            Arg::InOut(bytes) => self.put_out(n, bytes, free, outs),
            Arg::Nested(nested) => {
                let pointer = self.put_bytes(&nested.inner, free)?;
                let (mut bytes, at) = (nested.bytes.clone(), nested.at);
                bytes[at..at + 8].copy_from_slice(&pointer.to_le_bytes());
                self.put_bytes(&bytes, free)
            }
            Arg::At(place) => Ok(self.place(*place, first, outs)),
            Arg::Pieces(all) => {
                let piece = |(place, len): &(Place, usize)| {
                    [self.place(*place, first, outs), *len as u64].map(u64::to_le_bytes)
                };
                self.put_bytes(all.iter().map(piece).collect::<Vec<_>>().as_flattened().as_flattened(), free)
            }
            Arg::Message { data, name, control } => self.put_message(n, [*data, *name, *control], free, outs),
        }
    }

    fn put_message(&self, n: usize, room: [usize; 3], free: &mut usize, outs: &mut Outs) -> Result<u64, EnvoyError> {
        let mut at = [0; 3];
        for (at, len) in at.iter_mut().zip(room) {
            *at = self.put_room(n, len, free, outs)?;
        }
        let ([base, name, control], [len, namelen, controllen]) = (at, room.map(|len| len as u64));
        let iov = self.put_bytes([base, len].map(u64::to_le_bytes).as_flattened(), free)?;
        let namelen = namelen as u32;
        let header = Msghdr { name, namelen, iov, iovlen: 1, control, controllen, ..Msghdr::default() };
        self.put_out(n, &header.to_bytes(), free, outs)
    }

    /// Bytes that come back.
    fn put_out(&self, n: usize, bytes: &[u8], free: &mut usize, outs: &mut Outs) -> Result<u64, EnvoyError> {
        outs.push((n, *free, bytes.len()));
        self.put_bytes(bytes, free)
    }

    /// Zeroes that come back as the call leaves them.
    fn put_room(&self, n: usize, len: usize, free: &mut usize, outs: &mut Outs) -> Result<u64, EnvoyError> {
        fault::point().map_err(|e| Fault::new("store", "the arena", e))?;
        let at = *free;
        *free += len.next_multiple_of(ALIGN);
        assert!(at + len <= self.size, "room is in the arena");
        // SAFETY: the range lies in our mapping, as just asserted; nobody who runs now reads or stores there.
        unsafe { std::ptr::write_bytes(self.ours.add(at), 0, len) };
        outs.push((n, at, len));
        Ok(self.theirs + at as u64)
    }

    /// The address of a place of the batch in the process.
    fn place(&self, place: Place, first: usize, outs: &Outs) -> u64 {
        let at = match place {
            Place::Arg(call, n) => first + call * ENTRY + 8 * (n + 1),
            Place::Result(call) => first + call * ENTRY + RESULT_AT,
            Place::Out(call, n) => outs[outs.partition_point(|out| out.0 < call) + n].1,
        };
        self.theirs + at as u64
    }

    fn put_bytes(&self, bytes: &[u8], free: &mut usize) -> Result<u64, EnvoyError> {
        let at = *free;
        *free += bytes.len().next_multiple_of(ALIGN);
        self.store(at, bytes)?;
        Ok(self.theirs + at as u64)
    }

    /// The answers of a batch that has been run.
    pub(crate) fn answers(&self, batch: &Batch) -> Vec<Answer> {
        let mut outs = batch.outs.iter().peekable();
        let mut answer = |i| {
            let (mut raw, mut own) = ([0; 8], abi::Outs::new());
            self.load(batch.first + i * ENTRY + RESULT_AT, &mut raw);
            while let Some((_, at, len)) = outs.next_if(|(call, ..)| *call == i) {
                let mut bytes = vec![0; *len];
                self.load(*at, &mut bytes);
                own.push(bytes);
            }
            Answer::from_raw(u64::from_le_bytes(raw), own)
        };
        (0..batch.entries).map(&mut answer).collect()
    }
}

/// Bytes that a call takes.
fn need(call: &Call) -> usize {
    let pad = |len: usize| len.next_multiple_of(ALIGN);
    let arg = |arg: &Arg| match arg {
        Arg::Int(_) | Arg::At(_) => 0,
        Arg::Pieces(all) => PIECE * all.len(),
        Arg::Message { data, name, control } => pad(*data) + pad(*name) + pad(*control) + PIECE + pad(Msghdr::SIZE),
        Arg::Bytes(bytes) | Arg::InOut(bytes) => pad(bytes.len()),
        Arg::Word(_) => ALIGN,
        Arg::Out(len) => pad(*len),
        Arg::Nested(nested) => pad(nested.bytes.len()) + pad(nested.inner.len()),
    };
    ENTRY + call.args.iter().map(arg).sum::<usize>()
}

/// How many of the calls go into one batch in an arena of that size. Those that have to do with each other are not parted.
fn fitting<'c>(size: usize, calls: impl IntoIterator<Item = &'c Call> + Clone) -> Result<usize, EnvoyError> {
    let mut left = size - ENTRIES_AT;
    let mut count = 0;
    for call in calls.clone() {
        match left.checked_sub(need(call)) {
            Some(rest) => left = rest,
            None if count == 0 || calls.into_iter().any(Call::is_bound) => return Err(EnvoyError::TooLarge(call.sys)),
            None => break,
        }
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_where_the_arena_is_full() {
        let calls = vec![Call::new(Sys::Read, [0.into(), Arg::Out(300_000), 300_000.into()]); 7];
        assert_eq!(fitting(SIZE, &calls).unwrap(), 3);
        let calls = vec![Call::new(Sys::Getpid, []); 20_000];
        assert_eq!(fitting(SIZE, &calls).unwrap(), (SIZE - ENTRIES_AT) / ENTRY);
    }

    #[test]
    fn a_call_larger_than_the_arena_is_told() {
        let call = Call::new(Sys::Read, [0.into(), Arg::Out(SIZE), 0.into()]);
        assert_eq!(fitting(SIZE, &[call]), Err(EnvoyError::TooLarge(Sys::Read)));
    }

    #[test]
    fn calls_that_have_to_do_with_each_other_are_not_parted() {
        let mut calls = vec![Call::new(Sys::Read, [0.into(), Arg::Out(300_000), 300_000.into()]); 7];
        calls.push(Call::new(Sys::Write, [1.into(), Arg::At(Place::Out(0, 0)), 1.into()]));
        assert_eq!(fitting(SIZE, &calls), Err(EnvoyError::TooLarge(Sys::Read)));
        calls.drain(2..7);
        assert_eq!(fitting(SIZE, &calls).unwrap(), 3);
    }
}
