//! Writing an image, front to back: nothing written is ever gone back to, so a pipe will do.

use crate::beside::{Beside, Job};
use crate::buffer::PageBuffer;
use crate::header::{self, Header};
use crate::late;
use crate::layout::{self, FORMAT, Need, PAGE, SECTION_MAX, Section, Tag, Trailer};
use crate::record::RawRecord;
use minicbor::Encode;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use xxhash_rust::xxh3::Xxh3Default;

/// Small writes are gathered up to this size; larger ones pass by without a copy. The stub is copied by as much: it stays
/// in the caches between its read and its write.
const BUFFER: usize = 64 << 10;

/// Large data is summed and written by turns in pieces of this size, which fits a second-level cache: it
/// comes from memory once.
const PIECE: usize = 256 << 10;

/// Writes an image into `W`, which begins with the image's first byte.
#[derive(Debug)]
pub struct Writer<W: Write> {
    body: Body<W>,
    /// How much was written, or handed over to be written.
    at: u64,
    stub: u64,
    records: Vec<u8>,
}

/// Who writes.
#[derive(Debug)]
enum Body<W: Write> {
    Here(Sections<W>),
    /// A thread of its own, while we see to what comes next.
    Beside(Beside<Sections<W>>),
    /// It failed beside, and that was told.
    Lost,
}

/// The sections that are written so far.
#[derive(Debug)]
struct Sections<W: Write> {
    out: BufWriter<W>,
    at: u64,
    all: Vec<Section>,
    /// Where the section of pages begins that is being written, whose checksum `hasher` makes.
    open: Option<u64>,
    hasher: Box<Hasher>,
}

/// Room in an image for what is written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Late {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub room: u64,
}

impl Late {
    /// What to write at its offset so that the image holds these bytes, if there is room for them.
    pub fn frame(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        late::frame(bytes, self.room)
    }
}

struct Hasher(Xxh3Default);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl<W: Write> Writer<W> {
    /// Begins an image: writes the stub, all that can be read from `stub`, and the header.
    ///
    /// `stub` must be bare: [`stub`](crate::stub) gets it from a file that may be an image itself.
    pub fn new(out: W, stub: impl Read, header: &Header) -> io::Result<Self> {
        let mut sections = Sections {
            out: BufWriter::with_capacity(BUFFER, out),
            at: 0,
            all: Vec::new(),
            open: None,
            hasher: Box::new(Hasher(Xxh3Default::new())),
        };
        sections.copy_stub(stub)?;
        let stub = sections.at;
        sections.align()?;
        let header = Header { version: FORMAT, ..header.clone() };
        sections.section(Section::HEADER, &header::to_bytes(&header))?;
        Ok(Writer { at: sections.at, body: Body::Here(sections), stub, records: Vec::new() })
    }

    /// Writes what is gathered so far, and gives what it goes to.
    pub fn flushed(&mut self) -> io::Result<&mut W> {
        let sections = self.sections()?;
        sections.out.flush()?;
        Ok(sections.out.get_mut())
    }

    /// Where in the image the next pages go.
    pub fn next_pages(&self) -> u64 {
        layout::align(self.at).expect("a file below 16 EiB")
    }

    /// Appends whole pages, a multiple of [`PAGE`] bytes, and tells where in the image the first one is. All
    /// of one call stand together.
    pub fn pages(&mut self, data: &[u8]) -> io::Result<u64> {
        let offset = self.next_pages();
        self.sections()?.pages(data)?;
        self.at = offset + data.len() as u64;
        Ok(offset)
    }

    /// Appends parts of a buffer, each of whole pages. The buffer may be another one afterwards, and what it holds is
    /// undefined.
    ///
    /// # Errors
    /// These parts could not be written; or, where that is done [beside](Writer::beside), earlier ones.
    pub fn parts(&mut self, buffer: &mut PageBuffer, parts: Vec<Range<usize>>) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let end = self.next_pages() + len;
        if let Body::Beside(beside) = &self.body {
            if !beside.swap(buffer, parts) {
                return self.settle();
            }
        } else {
            let sections = self.sections()?;
            parts.into_iter().try_for_each(|part| sections.pages(&buffer[part]))?;
        }
        self.at = end;
        Ok(())
    }

    /// Leaves room, a multiple of [`PAGE`] bytes, for what is written when the image stands already.
    pub fn late(&mut self, room: u64) -> io::Result<Late> {
        let sections = self.sections()?;
        let late = sections.late(room)?;
        self.at = sections.at;
        Ok(late)
    }

    /// Adds a record. It is kept in memory, and written at the end.
    pub fn record(&mut self, tag: Tag, id: u32, need: Need, body: &impl Encode<()>) -> io::Result<()> {
        let start = self.records.len();
        RawRecord::append(&mut self.records, tag, id, need, body).map_err(|why| {
            self.records.truncate(start);
            let what = format!("the record {id} with tag {tag} cannot be written: {why}");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })
    }

    /// Ends the image, and tells its length. Everything is written and flushed, nothing is synced.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let (records, stub) = (std::mem::take(&mut self.records), self.stub);
        let sections = self.sections()?;
        sections.end_pages();
        sections.section(Section::RECORDS, &records)?;
        let index: Vec<u8> = sections.all.iter().flat_map(|s| s.to_bytes()).collect();
        let trailer = Trailer {
            version: FORMAT.into(),
            sections: u32::try_from(sections.all.len()).expect("an image below 64 PiB"),
            index: sections.at,
            index_sum: layout::sum(&index),
            total: sections.at + (index.len() + Trailer::SIZE) as u64,
            stub,
        };
        sections.emit(&index)?;
        sections.emit(&trailer.to_bytes())?;
        let Body::Here(sections) = self.body else { unreachable!("they were just here") };
        let out = sections.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((out, trailer.total))
    }

    /// The sections, once all that was handed over is written. From here on it is done here.
    fn sections(&mut self) -> io::Result<&mut Sections<W>> {
        if matches!(self.body, Body::Beside(_))
            && let Body::Beside(beside) = std::mem::replace(&mut self.body, Body::Lost)
        {
            self.body = Body::Here(beside.end()?);
        }
        match &mut self.body {
            Body::Here(sections) => Ok(sections),
            _ => Err(io::Error::other("the image could not be written")),
        }
    }

    /// Waits until all that was handed over is written. There is no other thread from here on.
    pub fn settle(&mut self) -> io::Result<()> {
        self.sections().map(drop)
    }
}

impl<W: Write + Send + 'static> Writer<W> {
    /// [`parts`](Writer::parts) are summed and written by a thread of its own, if there can be one: until anything else is to
    /// be written, or [`settle`](Writer::settle) is called. `len`: bytes of the buffers.
    pub fn beside(&mut self, len: usize) {
        let write = |sections: &mut Sections<W>, (buffer, parts): &Job| {
            parts.iter().try_for_each(|part| sections.pages(&buffer[part.clone()]))
        };
        self.body = match std::mem::replace(&mut self.body, Body::Lost) {
            Body::Here(sections) => Beside::start(sections, len, write).map_or_else(Body::Here, Body::Beside),
            other => other,
        };
    }
}

impl<W: Write> Sections<W> {
    fn copy_stub(&mut self, mut stub: impl Read) -> io::Result<()> {
        let mut buf = PageBuffer::new(BUFFER);
        self.begin();
        loop {
            match stub.read(&mut buf) {
                Ok(0) => break,
                Ok(count) => self.summed(&buf[..count])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.end(Section::STUB);
        Ok(())
    }

    fn pages(&mut self, data: &[u8]) -> io::Result<()> {
        let len = data.len() as u64;
        assert!(len.is_multiple_of(PAGE), "pages come whole: {len} bytes are not");
        self.align_pages()?;
        let mut rest = data;
        while !rest.is_empty() {
            let start = *self.open.get_or_insert_with(|| {
                self.hasher.0.reset();
                self.at
            });
            let room = SECTION_MAX - (self.at - start);
            let (piece, after) = rest.split_at(rest.len().min(PIECE).min(room as usize));
            self.summed(piece)?;
            rest = after;
            if piece.len() as u64 == room {
                self.end(Section::PAGES);
            }
        }
        Ok(())
    }

    fn late(&mut self, room: u64) -> io::Result<Late> {
        assert!(room.is_multiple_of(PAGE), "whole pages: {room} bytes are not");
        self.end_pages();
        self.align()?;
        let late = Late { offset: self.at, room };
        (0..room / PAGE).try_for_each(|_| self.emit(&[0; PAGE as usize]))?;
        self.all.push(Section { tag: Section::LATE, need: Need::Must, offset: late.offset, len: room, sum: 0 });
        Ok(late)
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// A whole section.
    fn section(&mut self, tag: Tag, bytes: &[u8]) -> io::Result<()> {
        self.begin();
        self.summed(bytes)?;
        self.end(tag);
        Ok(())
    }

    fn begin(&mut self) {
        self.hasher.0.reset();
        self.open = Some(self.at);
    }

    fn summed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.0.update(bytes);
        self.emit(bytes)
    }

    fn end(&mut self, tag: Tag) {
        let offset = self.open.take().expect("a section was begun");
        let (len, sum) = (self.at - offset, self.hasher.0.digest());
        self.all.push(Section { tag, need: Need::Must, offset, len, sum });
    }

    fn end_pages(&mut self) {
        if self.open.is_some() {
            self.end(Section::PAGES);
        }
    }

    /// Pages are aligned, and nothing but pages is written between pages: only the first ones find a gap.
    fn align_pages(&mut self) -> io::Result<()> {
        if self.open.is_none() { self.align() } else { Ok(()) }
    }

    fn align(&mut self) -> io::Result<()> {
        let next = layout::align(self.at).expect("a file below 16 EiB");
        self.emit(&[0; PAGE as usize][..(next - self.at) as usize])
    }
}
