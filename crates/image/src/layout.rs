//! The parts of the file that have a fixed layout: little-endian numbers at fixed places.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the format that this crate writes; it reads this one and every earlier one.
pub const FORMAT: u16 = 1;

/// The alignment of pages in the file.
pub use abi::consts::mmap::PAGE;

/// The writer begins a new section of pages after this many bytes, so that checking can be shared out.
pub(crate) const SECTION_MAX: u64 = 16 << 20;

/// The magic that begins the header.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"CRYOHEAD";
const TRAILER_MAGIC: [u8; 8] = *b"CRYOTAIL";
const END_MAGIC: [u8; 8] = *b"CRYO.END";

/// What kind of thing a record or a section is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
pub struct Tag(#[n(0)] pub u16);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// What a reader that does not know a tag may do about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Need {
    /// It must refuse the image.
    Must,
    /// It may go on without.
    May,
}

impl Need {
    /// Bit 0 of the flags says *must be understood*; the others are zero today, and not looked at.
    pub(crate) const fn flags(self) -> u16 {
        match self {
            Need::Must => 1,
            Need::May => 0,
        }
    }

    pub(crate) const fn from_flags(flags: u16) -> Need {
        if flags & 1 == 1 { Need::Must } else { Need::May }
    }
}

/// A stretch of the file with its own checksum: one entry of the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Section {
    /// What it holds.
    pub tag: Tag,
    /// What to do about an unknown tag.
    pub need: Need,
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// XXH3, 64 bits, seed 0, of these bytes.
    pub sum: u64,
}

impl Section {
    /// The program at the beginning of the file.
    pub const STUB: Tag = Tag(1);
    /// The [`Header`](crate::Header).
    pub const HEADER: Tag = Tag(2);
    /// A sequence of records.
    pub const RECORDS: Tag = Tag(3);
    /// Raw pages.
    pub const PAGES: Tag = Tag(4);
    /// Room for what is written when all else stands already; it has its checksum within.
    pub const LATE: Tag = Tag(5);

    /// The size of an entry of the index.
    pub(crate) const SIZE: usize = 32;

    /// The first byte after it. The reader proves that this is within the file before it asks.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }

    pub(crate) fn is_known(&self) -> bool {
        (Section::STUB..=Section::LATE).contains(&self.tag)
    }

    pub(crate) fn to_bytes(self) -> [u8; Section::SIZE] {
        let mut bytes = [0; Section::SIZE];
        bytes[0..2].copy_from_slice(&self.tag.0.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.need.flags().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Section::SIZE]) -> Section {
        Section {
            tag: Tag(u16_at(bytes, 0)),
            need: Need::from_flags(u16_at(bytes, 2)),
            offset: u64_at(bytes, 8),
            len: u64_at(bytes, 16),
            sum: u64_at(bytes, 24),
        }
    }
}

/// The last bytes of the file. Its layout is the same in every version of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trailer {
    pub(crate) version: u32,
    pub(crate) sections: u32,
    pub(crate) index: u64,
    pub(crate) index_sum: u64,
    pub(crate) total: u64,
    pub(crate) stub: u64,
}

/// What the last bytes of a file are.
#[derive(Debug)]
pub(crate) enum Tail {
    /// A trailer.
    Trailer(Trailer),
    /// Something with a magic of a trailer, and without its checksum.
    Broken,
    /// No trailer.
    Other,
}

impl Trailer {
    pub(crate) const SIZE: usize = 64;

    pub(crate) fn to_bytes(self) -> [u8; Trailer::SIZE] {
        let mut bytes = [0; Trailer::SIZE];
        bytes[0..8].copy_from_slice(&TRAILER_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sections.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index_sum.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.total.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.stub.to_le_bytes());
        let sum = sum(&bytes[..48]);
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        bytes[56..64].copy_from_slice(&END_MAGIC);
        bytes
    }

    /// One magic is enough to call it a trailer, so that a flipped bit in the other is found out.
    pub(crate) fn from_bytes(bytes: &[u8; Trailer::SIZE]) -> Tail {
        let magics = (bytes[0..8] == TRAILER_MAGIC, bytes[56..64] == END_MAGIC);
        match magics {
            (false, false) => Tail::Other,
            (true, true) if u64_at(bytes, 48) == sum(&bytes[..48]) => Tail::Trailer(Trailer::fields(bytes)),
            _ => Tail::Broken,
        }
    }

    fn fields(bytes: &[u8; Trailer::SIZE]) -> Trailer {
        Trailer {
            version: u32_at(bytes, 8),
            sections: u32_at(bytes, 12),
            index: u64_at(bytes, 16),
            index_sum: u64_at(bytes, 24),
            total: u64_at(bytes, 32),
            stub: u64_at(bytes, 40),
        }
    }

    /// How many bytes the index has.
    pub(crate) fn index_len(&self) -> u64 {
        u64::from(self.sections) * Section::SIZE as u64
    }
}

/// The checksum of the format.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The next multiple of [`PAGE`], if there is one.
pub(crate) fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(PAGE)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
