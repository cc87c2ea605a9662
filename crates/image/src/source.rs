//! Where the bytes of an image are read from.

use std::fs::File;
use std::io;

/// Bytes that can be read at any place, by any number of readers at once.
#[allow(clippy::len_without_is_empty, reason = "an empty file is as good as any that is no image")]
pub trait Source {
    /// How many there are.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buf` with those at `offset`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

impl Source for [u8] {
    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
        let bytes = range.and_then(|range| self.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Source::len(self.as_slice())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> io::Result<u64> {
        S::len(self)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        S::read_exact_at(self, buf, offset)
    }
}

/// The `len` bytes at `offset`, which must lie within the source: a number that was not compared with the
/// length of the file never sizes an allocation.
pub(crate) fn bytes(source: &impl Source, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    bytes.resize(len, 0);
    source.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Hands the `len` bytes at `offset` to `each`, as many at a time as `buf` holds.
pub(crate) fn walk<E: From<io::Error>>(
    source: &(impl Source + ?Sized),
    mut offset: u64,
    mut len: u64,
    buf: &mut [u8],
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    while len > 0 {
        let count = len.min(buf.len() as u64);
        let piece = &mut buf[..count as usize];
        source.read_exact_at(piece, offset)?;
        each(piece)?;
        offset += count;
        len -= count;
    }
    Ok(())
}
