//! Writing an image, front to back: nothing written is ever gone back to, so a pipe will do.

use crate::buffer::PageBuffer;
use crate::header::{self, Header};
use crate::late;
use crate::layout::{self, FORMAT, Need, PAGE, SECTION_MAX, Section, Tag, Trailer};
use crate::reader::sum_of;
use crate::record::RawRecord;
use crate::source::Source;
use minicbor::Encode;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
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
    out: BufWriter<W>,
    at: u64,
    stub: u64,
    sections: Vec<Section>,
    /// Where the section of pages begins that is being written, whose checksum `hasher` makes.
    open: Option<u64>,
    hasher: Box<Hasher>,
    records: Vec<u8>,
    /// Which sections have no checksum yet.
    unsettled: Vec<usize>,
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
        let mut writer = Writer {
            out: BufWriter::with_capacity(BUFFER, out),
            at: 0,
            stub: 0,
            sections: Vec::new(),
            open: None,
            hasher: Box::new(Hasher(Xxh3Default::new())),
            records: Vec::new(),
            unsettled: Vec::new(),
        };
        writer.copy_stub(stub)?;
        writer.align()?;
        let header = Header { version: FORMAT, ..header.clone() };
        writer.section(Section::HEADER, &header::to_bytes(&header))?;
        Ok(writer)
    }

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
        self.stub = self.at;
        Ok(())
    }

    /// Writes what is gathered so far, and gives what it goes to.
    pub fn flushed(&mut self) -> io::Result<&mut W> {
        self.out.flush()?;
        Ok(self.out.get_mut())
    }

    /// How much was written so far. The next pages go to the next multiple of [`PAGE`].
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Appends whole pages, a multiple of [`PAGE`] bytes, and tells where in the image the first one is. All
    /// of one call stand together.
    pub fn pages(&mut self, data: &[u8]) -> io::Result<u64> {
        let len = data.len() as u64;
        assert!(len.is_multiple_of(PAGE), "pages come whole: {len} bytes are not");
        self.align_pages()?;
        let offset = self.at;
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
        Ok(offset)
    }

    /// Leaves room, a multiple of [`PAGE`] bytes, for what is written when the image stands already.
    pub fn late(&mut self, room: u64) -> io::Result<Late> {
        assert!(room.is_multiple_of(PAGE), "whole pages: {room} bytes are not");
        self.end_pages();
        self.align()?;
        let late = Late { offset: self.at, room };
        (0..room / PAGE).try_for_each(|_| self.emit(&[0; PAGE as usize]))?;
        self.sections.push(Section { tag: Section::LATE, need: Need::Must, offset: late.offset, len: room, sum: 0 });
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
        assert!(self.unsettled.is_empty(), "what was reserved is settled before the end");
        self.end_pages();
        let records = std::mem::take(&mut self.records);
        self.section(Section::RECORDS, &records)?;
        let index: Vec<u8> = self.sections.iter().flat_map(|s| s.to_bytes()).collect();
        let trailer = Trailer {
            version: FORMAT.into(),
            sections: u32::try_from(self.sections.len()).expect("an image below 64 PiB"),
            index: self.at,
            index_sum: layout::sum(&index),
            total: self.at + (index.len() + Trailer::SIZE) as u64,
            stub: self.stub,
        };
        self.emit(&index)?;
        self.emit(&trailer.to_bytes())?;
        let out = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((out, trailer.total))
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
        self.sections.push(Section { tag, need: Need::Must, offset, len, sum });
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

impl<W: Write + Seek> Writer<W> {
    /// Makes room for pages that somebody else writes into the file, at the offset that this tells: a
    /// process writes its own memory. Once they are there, [`settle`](Writer::settle) takes their checksums.
    pub fn reserve(&mut self, len: u64) -> io::Result<u64> {
        assert!(len.is_multiple_of(PAGE), "pages come whole: {len} bytes are not");
        self.end_pages();
        self.align()?;
        let start = self.at;
        let end = start.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.seek(SeekFrom::Start(end))?;
        for offset in (start..end).step_by(SECTION_MAX as usize) {
            let len = SECTION_MAX.min(end - offset);
            self.unsettled.push(self.sections.len());
            self.sections.push(Section { tag: Section::PAGES, need: Need::Must, offset, len, sum: 0 });
        }
        self.at = end;
        Ok(start)
    }
}

impl<W: Write + Source> Writer<W> {
    /// Reads what was reserved so far and is written by now, and takes its checksums.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let mut buf = PageBuffer::new(PIECE);
        while let Some(&i) = self.unsettled.last() {
            let section = &mut self.sections[i];
            let (offset, len) = (section.offset, section.len);
            section.sum = sum_of(self.out.get_ref(), offset, len, &mut buf, &mut |_| ())?;
            self.unsettled.pop();
        }
        Ok(())
    }
}
