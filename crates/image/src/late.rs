//! The late section: room for what is written when all else of the image stands already, checked and durable.
//!
//! It is the one part that is gone back to. What is in it has a frame with a checksum of its own, and the index tells none:
//! if it is torn, it alone is lost.

use crate::damage::{Damage, Part};
use crate::layout::{self, Section, u64_at};

/// What stands before the bytes: their number, and the checksum of that number and of them.
const FRAME: usize = 16;

fn sum(len: [u8; 8], bytes: &[u8]) -> u64 {
    layout::sum(&[&len, bytes].concat())
}

/// What to write at the beginning of a late section of `room` bytes, where it fits.
pub(crate) fn frame(bytes: &[u8], room: u64) -> Option<Vec<u8>> {
    let len = (bytes.len() as u64).to_le_bytes();
    let whole = [&len, &sum(len, bytes).to_le_bytes()[..], bytes].concat();
    (whole.len() as u64 <= room).then_some(whole)
}

/// What was written into a late section: `None` if nothing was, which leaves zeros.
pub(crate) fn unframe(section: &Section, all: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
    if is_zero(all) {
        return Ok(None);
    }
    let whole = all.split_at_checked(FRAME).and_then(|(frame, rest)| {
        let len = frame[..8].try_into().expect("eight bytes");
        let (bytes, behind) = rest.split_at_checked(usize::try_from(u64_at(frame, 0)).ok()?)?;
        (u64_at(frame, 8) == sum(len, bytes) && is_zero(behind)).then(|| bytes.to_vec())
    });
    let Section { tag, offset, len, .. } = *section;
    whole.map(Some).ok_or(Damage::Checksum { part: Part::Section(tag), offset, len })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
