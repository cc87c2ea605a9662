//! Where the envoy stands: in the zero tail of the victim's [vdso], a page that no program reads or changes.
//!
//! The code is constant. Where it is found, an earlier freezer was killed on this victim; then it is used again and
//! never wiped, as a signal handler may yet return into it.
//!
//! Who has no [vdso], or one without room, gets a page for it, made by a call through a `syscall` instruction of the program's own
//! code. While that is made, and while the page is taken away, the thread has no way home, so only a guardian does it; whenever
//! else we die the page is left behind, with nobody in it.

use crate::arch;
use crate::memory::Memory;
use crate::procfs::read;
use abi::Fault;
use std::ops::Range;

/// What the kernel's tail of the image is kept clear of.
const MARGIN: usize = 16;
const ALIGN: usize = 16;

/// What /proc/TID/smaps tells, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct Areas {
    pub(crate) text: Vec<u8>,
    /// In order; those that touch each other are one.
    writable: Vec<Range<u64>>,
    others: Vec<Range<u64>>,
    code: Vec<Range<u64>>,
    vdso: Option<Range<u64>>,
}

/// Whose code is in the tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// Nobody's: zeroes.
    Free,
    /// The envoy of an earlier freezer, or of another process that shares the memory.
    Taken,
    /// All of the page is ours, and goes when the envoy goes.
    Page,
}

/// Addresses of the envoy in the victim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) code: u64,
    pub(crate) tail: Tail,
    /// There is room for the data blocks of two threads.
    pub(crate) is_double: bool,
}

/// Which data block: a thread that takes over from another has the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    First,
    Second,
}

impl Slot {
    pub(crate) fn other(self) -> Slot {
        if self == Slot::First { Slot::Second } else { Slot::First }
    }
}

impl Areas {
    pub(crate) fn of(tid: i32) -> Result<Areas, Fault> {
        let text = abi::proc::of_smaps(&read(format!("/proc/{tid}/smaps"))?);
        let areas = Areas::parse(&text);
        Ok(Areas { text, ..areas })
    }

    fn parse(text: &[u8]) -> Areas {
        let mut areas = Areas::default();
        for line in text.split(|b| *b == b'\n') {
            let Some(range) = range(line) else { continue };
            if line.ends_with(b" [vdso]") {
                areas.vdso = Some(range.clone());
            }
            let protection = line.split(|b| *b == b' ').nth(1);
            match (protection, areas.writable.last_mut()) {
                (Some([b'r', b'w', ..]), Some(last)) if last.end == range.start => last.end = range.end,
                (Some([b'r', b'w', ..]), _) => areas.writable.push(range),
                _ => {
                    areas.others.push(range.clone());
                    // The kernel's own half begins with [vsyscall], in which nothing runs but what the kernel expects.
                    if matches!(protection, Some([b'r', _, b'x', _])) && range.start >> 63 == 0 {
                        areas.code.push(range);
                    }
                }
            }
        }
        areas
    }

    /// Whether the process itself could write all of `range`. A stack is made to grow down to it first.
    pub(crate) fn can_write(&self, memory: &Memory, range: Range<u64>) -> bool {
        let next = self.writable.partition_point(|r| r.end < range.end);
        let Some(area) = self.writable.get(next) else { return false };
        // Reading below a stack through /proc/PID/mem makes it grow (mm/memory.c, `__access_remote_vm`); what does
        // not grow gives an error, and what is mapped there otherwise was in the list, as a guard that may be read so.
        let grows = || !self.is_mapped_apart(range.start) && memory.read_u64(range.start).is_ok();
        area.start <= range.start || area.start < range.end && grows()
    }

    /// A `syscall` instruction in the process's code, outside of `but`.
    #[cold]
    pub(crate) fn gate(&self, memory: &Memory, but: &Range<u64>) -> Option<u64> {
        const PIECE: usize = 1 << 16;
        let mut bytes = vec![0; PIECE];
        let mut find = |at: u64, end: u64| {
            let bytes = &mut bytes[..PIECE.min((end - at) as usize)];
            memory.read(at, bytes).ok()?;
            Some(at + bytes.windows(2).position(|w| w == arch::SYSCALL)? as u64)
        };
        let code = self.code.iter().filter(|r| !but.contains(&r.start));
        code.flat_map(|r| r.clone().step_by(PIECE).map(|at| (at, r.end))).find_map(|(at, end)| find(at, end))
    }

    fn is_mapped_apart(&self, at: u64) -> bool {
        self.writable.iter().chain(&self.others).any(|r| r.contains(&at))
    }
}

/// The addresses at the beginning of a line of maps.
fn range(line: &[u8]) -> Option<Range<u64>> {
    let text = std::str::from_utf8(line.split(|b| *b == b' ').next()?).ok()?;
    let (start, end) = text.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

impl Place {
    /// The place in the process with these areas; `None`: no [vdso], or too little room in it.
    pub(crate) fn find(areas: &Areas, memory: &Memory) -> Result<Option<Place>, Fault> {
        let Some(vdso) = areas.vdso.clone() else {
            return Ok(None);
        };
        let mut image = vec![0; (vdso.end - vdso.start) as usize];
        memory.read(vdso.start, &mut image)?;
        let is_double = |at: usize| at + Place::size(2) <= image.len();
        let place = |(at, tail)| Place { code: vdso.start + at as u64, tail, is_double: is_double(at) };
        Ok(Place::in_image(&image).map(place))
    }

    fn in_image(image: &[u8]) -> Option<(usize, Tail)> {
        let need = Place::size(1);
        let fits = |at: usize| at + need <= image.len();
        let taken = (0..image.len()).step_by(ALIGN).find(|at| fits(*at) && image[*at..].starts_with(arch::code()));
        let used = image.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let free = (used + MARGIN).next_multiple_of(ALIGN);
        taken.map(|at| (at, Tail::Taken)).or(fits(free).then_some((free, Tail::Free)))
    }

    /// Bytes of the code, the two words behind it, and so many data blocks.
    pub(crate) fn size(blocks: usize) -> usize {
        Place::holder_at() + ALIGN + blocks * arch::DATA
    }

    fn holder_at() -> usize {
        arch::code().len().next_multiple_of(ALIGN)
    }

    /// Where the data block stands.
    pub(crate) fn data(&self, slot: Slot) -> u64 {
        let blocks = if slot == Slot::First { 0 } else { 1 };
        self.code + Place::size(blocks) as u64
    }

    /// All that there is room for.
    pub(crate) fn slots(&self) -> &'static [Slot] {
        if self.is_double { &[Slot::First, Slot::Second] } else { &[Slot::First] }
    }

    /// Whether `ip` is in the code.
    pub(crate) fn contains(&self, ip: u64) -> bool {
        (self.code..self.code + arch::code().len() as u64).contains(&ip)
    }

    /// Writes the code, if it is not there yet, and the first data block, whose thread is to own arena and socket. Nobody runs there.
    pub(crate) fn write(&self, memory: &Memory, data: &arch::Data) -> Result<(), Fault> {
        let (mut bytes, word) = (vec![0; Place::size(0)], self.data(Slot::First).to_ne_bytes());
        bytes[..arch::code().len()].copy_from_slice(arch::code());
        bytes[Place::holder_at()..][..word.len()].copy_from_slice(&word);
        bytes.extend(data.to_bytes());
        let first = if self.tail == Tail::Taken { Place::holder_at() } else { 0 };
        memory.write(self.code + first as u64, &bytes[first..])
    }

    /// Writes a data block.
    pub(crate) fn write_data(&self, memory: &Memory, slot: Slot, data: &arch::Data) -> Result<(), Fault> {
        memory.write(self.data(slot), &data.to_bytes())
    }

    /// From here on arena and socket are that of the thread with this data block. It is one aligned word, so there is no
    /// instant at which they are nobody's, or two threads'.
    pub(crate) fn give(&self, memory: &Memory, slot: Slot) -> Result<(), Fault> {
        memory.write(self.code + Place::holder_at() as u64, &self.data(slot).to_ne_bytes())
    }

    /// From here on the guests are those with these bits. It is one aligned word, so nobody ever is half a guest.
    pub(crate) fn invite(&self, memory: &Memory, bits: u64) -> Result<(), Fault> {
        memory.write(self.code + (Place::holder_at() + 8) as u64, &bits.to_ne_bytes())
    }

    /// Makes it zeroes again.
    pub(crate) fn wipe(&self, memory: &Memory) -> Result<(), Fault> {
        memory.write(self.code, &vec![0; Place::size(self.slots().len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(used: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::from(i < used)).collect()
    }

    #[test]
    fn a_free_tail_is_found_behind_the_image_and_not_in_it() {
        let (at, tail) = Place::in_image(&image(0x1a11, 0x2000)).unwrap();
        assert_eq!((at, tail), (0x1a30, Tail::Free));
    }

    #[test]
    fn too_little_room_is_no_room() {
        assert_eq!(Place::in_image(&image(0x1f00, 0x2000)), None);
        assert_eq!(Place::in_image(&[]), None);
    }

    #[test]
    fn the_code_of_an_earlier_freezer_is_found_again() {
        let mut image = image(0x1a11, 0x2000);
        image[0x1a30..0x1a30 + arch::code().len()].copy_from_slice(arch::code());
        image[0x1a30 + Place::size(0)] = 7;
        assert_eq!(Place::in_image(&image), Some((0x1a30, Tail::Taken)));
    }

    #[test]
    fn maps_are_read() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \n7000-9000 r-xp 00000000 00:00 0                  [vdso]\n\
            ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0                  [vsyscall]\n";
        let areas = Areas::parse(text);
        assert_eq!(areas.vdso, Some(0x7000..0x9000));
        assert!(areas.writable.iter().eq([&(0x1000..0x3000)]));
        assert!(areas.code.iter().eq([&(0x7000..0x9000)]));
    }
}
