//! Records: small, numbered, self-describing pieces, one after the other.

use crate::damage::Damage;
use crate::layout::{Need, Tag, u16_at, u32_at};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A stretch of something (an address space, a file) whose bytes stand in the image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Extent {
    /// The address or file offset in what is described.
    #[n(0)]
    pub at: u64,
    /// How many bytes.
    #[n(1)]
    pub len: u64,
    /// Where they stand in the image.
    #[n(2)]
    pub offset: u64,
}

/// A record as it stands in the file: its body is CBOR that only its owner understands.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// What kind of thing it describes.
    pub tag: Tag,
    /// Which one.
    pub id: u32,
    /// What to do when the tag is not known.
    pub need: Need,
    /// One CBOR item.
    pub body: Vec<u8>,
}

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::diagnostic(self))
    }
}

/// What stands before a body: tag, flags, id, length of the body.
const FRAME: usize = 12;

impl RawRecord {
    /// What it describes. Fields that `T` does not know are passed over.
    pub fn decode<'b, T: Decode<'b, ()>>(&'b self) -> Result<T, Damage> {
        let mut decoder = minicbor::Decoder::new(&self.body);
        let value = decoder.decode().map_err(|e| self.wrong(e))?;
        match self.body.len() - decoder.position() {
            0 => Ok(value),
            rest => Err(self.wrong(format_args!("{rest} bytes follow its value"))),
        }
    }

    fn wrong(&self, why: impl fmt::Display) -> Damage {
        Damage::Record { tag: self.tag, id: self.id, why: why.to_string() }
    }

    /// Appends it to `out`. An error is that of an `Encode` which gave up, or of a body above 4 GiB.
    pub(crate) fn append(
        out: &mut Vec<u8>,
        tag: Tag,
        id: u32,
        need: Need,
        body: &impl Encode<()>,
    ) -> Result<(), String> {
        let start = out.len();
        out.extend_from_slice(&tag.0.to_le_bytes());
        out.extend_from_slice(&need.flags().to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        minicbor::encode(body, &mut *out).map_err(|e| e.to_string())?;
        let len = u32::try_from(out.len() - start - FRAME).map_err(|e| e.to_string())?;
        out[start + 8..start + FRAME].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Splits the first record off `bytes`, if a whole one is there.
    fn split(bytes: &[u8]) -> Option<(RawRecord, &[u8])> {
        let (frame, rest) = bytes.split_at_checked(FRAME)?;
        let (body, rest) = rest.split_at_checked(u32_at(frame, 8) as usize)?;
        let (tag, need) = (Tag(u16_at(frame, 0)), Need::from_flags(u16_at(frame, 2)));
        Some((RawRecord { tag, id: u32_at(frame, 4), need, body: body.to_vec() }, rest))
    }

    /// Appends all records of a section to `records`; where they do not fill it, tells the offset of the rest.
    pub(crate) fn split_all(mut bytes: &[u8], records: &mut Vec<RawRecord>) -> Result<(), usize> {
        let len = bytes.len();
        while !bytes.is_empty() {
            let (record, rest) = RawRecord::split(bytes).ok_or(len - bytes.len())?;
            records.push(record);
            bytes = rest;
        }
        Ok(())
    }
}
