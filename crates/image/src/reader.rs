//! Reading an image: at once what leads to everything else, the pages when they are asked for.

use crate::buffer::PageBuffer;
use crate::damage::{Damage, OpenError, Part, VerifyError};
use crate::header::{self, Header};
use crate::late;
use crate::layout::{self, FORMAT, Need, PAGE, Section, Tag, Trailer};
use crate::locate;
use crate::record::RawRecord;
use crate::source::{self, Source};
use std::io;
use xxhash_rust::xxh3::Xxh3Default;

/// How much is read and summed at a time: it fits a second-level cache.
const CHUNK: u64 = 256 << 10;

/// An open image: its index, header and records are known to be as they were written.
#[derive(Debug)]
pub struct Image<S> {
    source: S,
    trailer: Trailer,
    sections: Vec<Section>,
    header: Header,
    records: Vec<RawRecord>,
}

impl<S: Source> Image<S> {
    /// Reads and checks everything but the stub and the pages.
    pub fn open(source: S) -> Result<Self, OpenError> {
        let trailer = locate::trailer(&source)?;
        if trailer.version > u32::from(FORMAT) {
            return Err(OpenError::Newer { version: trailer.version });
        }
        let sections = read_index(&source, &trailer)?;
        check_layout(&sections, &trailer)?;
        if let Some(foreign) = sections.iter().find(|s| !s.is_known() && s.need == Need::Must) {
            return Err(OpenError::Foreign { tag: foreign.tag, offset: foreign.offset });
        }
        let header = header::from_bytes(&read_checked(&source, &sections[1])?, trailer.version)?;
        let records = read_records(&source, &sections)?;
        Ok(Image { source, trailer, sections, header, records })
    }

    /// What was written when all else stood already, if anything was.
    pub fn late(&self) -> Result<Option<Vec<u8>>, VerifyError> {
        let Some(section) = self.sections.iter().find(|section| section.tag == Section::LATE) else { return Ok(None) };
        Ok(late::unframe(section, &source::bytes(&self.source, section.offset, section.len)?)?)
    }

    /// Where the image comes from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All records, in the order in which they were written.
    pub fn records(&self) -> &[RawRecord] {
        &self.records
    }

    /// The length of all records together.
    pub fn records_len(&self) -> u64 {
        self.sections.iter().filter(|section| section.tag == Section::RECORDS).map(|section| section.len).sum()
    }

    /// The records that must be understood and whose tag is not `known`: each is a reason to refuse.
    pub fn foreign(&self, known: impl Fn(Tag) -> bool) -> impl Iterator<Item = &RawRecord> {
        self.records.iter().filter(move |r| r.need == Need::Must && !known(r.tag))
    }

    /// The index: all sections, in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The length of the file.
    pub fn total(&self) -> u64 {
        self.trailer.total
    }

    /// The length of the stub.
    pub fn stub_len(&self) -> u64 {
        self.trailer.stub
    }

    /// What it is read from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Fills `buf` with the bytes at `offset`, unchecked.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.read_exact_at(buf, offset)
    }

    /// Checks every byte of the file, in its order, and tells `progress` how many are done, of how many. Only what was written
    /// late is left to [`late`](Image::late): the rest of an image is whole without it.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VerifyError> {
        let total = self.trailer.total;
        let mut done = 0;
        let mut tick = |count: usize| {
            done += count as u64;
            progress(done, total);
        };
        if self.source.len()? != total {
            return Err(Damage::Changed.into());
        }
        let mut buf = PageBuffer::new(total.min(CHUNK) as usize);
        let mut end = 0;
        for section in &self.sections {
            check_gap(&self.source, end, section.offset, &mut buf, &mut tick)?;
            check_section(&self.source, section, &mut buf, &mut tick)?;
            end = section.end();
        }
        check_gap(&self.source, end, self.trailer.index, &mut buf, &mut tick)?;
        self.check_end(&mut tick)
    }

    /// The index and the trailer must be those that were read before.
    fn check_end(&self, tick: &mut dyn FnMut(usize)) -> Result<(), VerifyError> {
        let Trailer { index, total, index_sum, .. } = self.trailer;
        let end = source::bytes(&self.source, index, total - index)?;
        let (found, trailer) = end.split_at(end.len() - Trailer::SIZE);
        if layout::sum(found) != index_sum || trailer != self.trailer.to_bytes() {
            return Err(Damage::Changed.into());
        }
        tick(end.len());
        Ok(())
    }
}

/// The index, whose place and checksum are right.
fn read_index(source: &impl Source, trailer: &Trailer) -> Result<Vec<Section>, OpenError> {
    let len = trailer.index_len();
    let end = trailer.index.checked_add(len + Trailer::SIZE as u64);
    if end != Some(trailer.total) {
        let why = "it does not end where the trailer begins";
        return Err(Damage::Layout { part: Part::Index, offset: trailer.index, why }.into());
    }
    let bytes = source::bytes(source, trailer.index, len)?;
    if layout::sum(&bytes) != trailer.index_sum {
        return Err(Damage::Checksum { part: Part::Index, offset: trailer.index, len }.into());
    }
    let (entries, _) = bytes.as_chunks();
    Ok(entries.iter().map(Section::from_bytes).collect())
}

/// Sections follow each other and end before the index; the first two are the stub and the header; pages
/// are aligned.
fn check_layout(sections: &[Section], trailer: &Trailer) -> Result<(), Damage> {
    let mut end = 0;
    for (i, section) in sections.iter().enumerate() {
        let wrong = |why| Damage::Layout { part: Part::Section(section.tag), offset: section.offset, why };
        let next = section.offset.checked_add(section.len).filter(|&next| next <= trailer.index);
        let next = next.ok_or_else(|| wrong("it does not end before the index"))?;
        if section.offset < end {
            return Err(wrong("it begins within the section before it"));
        }
        end = next;
        let first = match i {
            0 => section.tag == Section::STUB && section.offset == 0 && section.len == trailer.stub,
            1 => section.tag == Section::HEADER && Some(section.offset) == layout::align(trailer.stub),
            _ => section.tag != Section::STUB && section.tag != Section::HEADER,
        };
        if !first {
            return Err(wrong("a stub and a header begin the file, and nothing else does"));
        }
        let aligned = section.offset.is_multiple_of(PAGE) && section.len.is_multiple_of(PAGE);
        if section.tag == Section::PAGES && !aligned {
            return Err(wrong("it is not aligned"));
        }
    }
    match sections.len() {
        0 | 1 => Err(Damage::Layout { part: Part::Index, offset: trailer.index, why: "it names no header" }),
        _ => Ok(()),
    }
}

/// A section as a whole, whose checksum is right.
fn read_checked(source: &impl Source, section: &Section) -> Result<Vec<u8>, OpenError> {
    let bytes = source::bytes(source, section.offset, section.len)?;
    compare(section, layout::sum(&bytes))?;
    Ok(bytes)
}

fn read_records(source: &impl Source, sections: &[Section]) -> Result<Vec<RawRecord>, OpenError> {
    let mut records = Vec::new();
    for section in sections.iter().filter(|section| section.tag == Section::RECORDS) {
        let bytes = read_checked(source, section)?;
        RawRecord::split_all(&bytes, &mut records).map_err(|at| Damage::Layout {
            part: Part::Section(section.tag),
            offset: section.offset + at as u64,
            why: "a record goes beyond its section",
        })?;
    }
    Ok(records)
}

fn compare(section: &Section, sum: u64) -> Result<(), Damage> {
    let Section { tag, offset, len, .. } = *section;
    // The index was written before what is in a late section.
    match sum == section.sum || tag == Section::LATE {
        true => Ok(()),
        false => Err(Damage::Checksum { part: Part::Section(tag), offset, len }),
    }
}

/// The checksum of `len` bytes at `offset`, read piece by piece.
pub(crate) fn sum_of(
    source: &(impl Source + ?Sized),
    offset: u64,
    len: u64,
    buf: &mut [u8],
    tick: &mut dyn FnMut(usize),
) -> io::Result<u64> {
    let mut hasher = Xxh3Default::new();
    source::walk(source, offset, len, buf, |piece| -> io::Result<()> {
        hasher.update(piece);
        tick(piece.len());
        Ok(())
    })?;
    Ok(hasher.digest())
}

fn check_section(
    source: &impl Source,
    section: &Section,
    buf: &mut [u8],
    tick: &mut dyn FnMut(usize),
) -> Result<(), VerifyError> {
    let sum = sum_of(source, section.offset, section.len, buf, tick)?;
    Ok(compare(section, sum)?)
}

/// What lies between two sections has no checksum, and needs none: it is zero.
fn check_gap(
    source: &impl Source,
    mut at: u64,
    end: u64,
    buf: &mut [u8],
    tick: &mut dyn FnMut(usize),
) -> Result<(), VerifyError> {
    source::walk(source, at, end - at, buf, |piece| {
        if let Some(i) = piece.iter().position(|&byte| byte != 0) {
            return Err(Damage::Gap { offset: at + i as u64 }.into());
        }
        at += piece.len() as u64;
        tick(piece.len());
        Ok(())
    })
}
