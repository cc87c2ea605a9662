//! Is this file an image, and where does its stub end?
//!
//! The trailer makes an image. A file without one is a bare stub, something else, or an image that lost its
//! end, and those must be told apart: what begins as an image and does not end as one is damaged. The
//! program asks this about its own executable at every start, so the common answer, *bare stub*, is found
//! with one read: an ELF file ends with its section header table (elf(5)), and what is longer has something
//! appended.

use crate::damage::{Damage, OpenError, Part};
use crate::layout::{HEADER_MAGIC, PAGE, Tail, Trailer, align, u16_at, u64_at};
use crate::source::{self, Source};
use std::io::{self, Read};

/// The size of the header of a 64-bit ELF file (elf(5), `Elf64_Ehdr`).
const ELF_HEADER: usize = 64;

/// A header is looked for in this much of a file that has no trailer: no stub is as long.
const STUB_MAX: u64 = 16 << 20;

/// A trailer is looked for in this much of the end of a file whose last bytes are none.
const APPENDED_MAX: u64 = 64 << 10;

/// The trailer at the very end of `source`, whose checksum and length are right.
pub(crate) fn trailer(source: &impl Source) -> Result<Trailer, OpenError> {
    let len = source.len()?;
    if len < Trailer::SIZE as u64 {
        return Err(OpenError::NotAnImage);
    }
    let mut head = [0; ELF_HEADER];
    source.read_exact_at(&mut head, 0)?;
    let elf = elf_len(&head);
    if elf == Some(len) {
        return Err(OpenError::NotAnImage);
    }
    match tail(source, len)? {
        Tail::Trailer(trailer) if trailer.total == len => Ok(trailer),
        Tail::Trailer(trailer) => Err(Damage::Length { said: trailer.total, found: len }.into()),
        Tail::Broken => Err(broken(len).into()),
        Tail::Other => Err(without_trailer(source, elf, len)?),
    }
}

/// The last bytes of the first `len` bytes.
fn tail(source: &impl Source, len: u64) -> io::Result<Tail> {
    let mut bytes = [0; Trailer::SIZE];
    source.read_exact_at(&mut bytes, len - Trailer::SIZE as u64)?;
    Ok(Trailer::from_bytes(&bytes))
}

fn broken(len: u64) -> Damage {
    let size = Trailer::SIZE as u64;
    Damage::Checksum { part: Part::Trailer, offset: len - size, len: size }
}

/// The length of an ELF file with these first bytes, if its section headers end it as usual.
fn elf_len(head: &[u8; ELF_HEADER]) -> Option<u64> {
    // e_ident: the magic, ELFCLASS64, ELFDATA2LSB.
    let (table, size, count) = (u64_at(head, 40), u16_at(head, 58), u16_at(head, 60));
    if head[..6] != *b"\x7fELF\x02\x01" || table == 0 || count == 0 {
        return None;
    }
    table.checked_add(u64::from(size) * u64::from(count))
}

/// What a file is that has no trailer.
fn without_trailer(source: &impl Source, elf: Option<u64>, len: u64) -> io::Result<OpenError> {
    let begins = match elf {
        Some(elf) if elf > len => true,
        Some(elf) => begins_after(source, elf, len)? || has_header(source, len)?,
        None => has_header(source, len)?,
    };
    if !begins {
        return Ok(OpenError::NotAnImage);
    }
    match last_trailer(source, len)? {
        Some(end) => Ok(Damage::Appended { end, extra: len - end }.into()),
        None => Ok(Damage::Cut { len }.into()),
    }
}

/// Whether the `len` bytes go on after their first `stub` ones as an image does: zeros up to a multiple of
/// [`PAGE`], and then a header, as far as they reach.
fn begins_after(source: &impl Source, stub: u64, len: u64) -> io::Result<bool> {
    let Some(header) = align(stub) else {
        return Ok(false);
    };
    let end = len.min(header.saturating_add(HEADER_MAGIC.len() as u64));
    let bytes = source::bytes(source, stub, end - stub)?;
    let (gap, magic) = bytes.split_at(bytes.len().min((header - stub) as usize));
    Ok(gap.iter().all(|&byte| byte == 0) && HEADER_MAGIC.starts_with(magic))
}

/// Whether a header begins at some multiple of [`PAGE`].
fn has_header(source: &impl Source, len: u64) -> io::Result<bool> {
    let mut found = false;
    let mut buf = vec![0; 1 << 20];
    source::walk(source, 0, len.min(STUB_MAX), &mut buf, |piece| -> io::Result<()> {
        found |= piece.chunks(PAGE as usize).any(|page| page.starts_with(&HEADER_MAGIC));
        Ok(())
    })?;
    Ok(found)
}

/// Where the last whole image in a file ends that something was appended to.
fn last_trailer(source: &impl Source, len: u64) -> io::Result<Option<u64>> {
    let start = len.saturating_sub(APPENDED_MAX);
    let bytes = source::bytes(source, start, len - start)?;
    let windows = bytes.array_windows().enumerate().rev();
    let mut ends = windows.filter_map(|(i, window)| match Trailer::from_bytes(window) {
        Tail::Trailer(trailer) => Some((trailer.total, start + (i + Trailer::SIZE) as u64)),
        Tail::Broken | Tail::Other => None,
    });
    Ok(ends.find(|(total, end)| total == end).map(|(_, end)| end))
}

/// How many leading bytes of a file are the bare stub: all of them, if it is no image.
///
/// An image whose stub was read off another image must not carry the other along. Of a damaged image the
/// answer is not known: an error of kind `InvalidData`.
pub fn stub_len(source: &impl Source) -> io::Result<u64> {
    match trailer(source) {
        // The place of this number is the same in every version, later ones included.
        Ok(trailer) if trailer.stub <= trailer.total => Ok(trailer.stub),
        Ok(trailer) => Err(invalid(Damage::Length { said: trailer.stub, found: trailer.total })),
        Err(OpenError::NotAnImage) => source.len(),
        Err(OpenError::Io(error)) => Err(error),
        Err(error) => Err(invalid(error)),
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads the bare stub of a file, which is an image or is not.
pub fn stub<S: Source>(source: S) -> io::Result<Stub<S>> {
    let end = stub_len(&source)?;
    Ok(Stub { source, at: 0, end })
}

/// See [`stub`].
#[derive(Debug)]
pub struct Stub<S> {
    source: S,
    at: u64,
    end: u64,
}

impl<S: Source> Read for Stub<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = (self.end - self.at).min(buf.len() as u64) as usize;
        self.source.read_exact_at(&mut buf[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
