//! Room for bulk data.

use crate::layout::PAGE;
use std::ops::{Deref, DerefMut};

/// Bytes that begin at a page boundary. The kernel copies whole pages, with `rep movsb` (arch/x86/lib/copy_user_64.S); AMD's
/// processors take three times as long for it where the target lies some bytes behind the source within its page, as
/// memory from an allocator does.
#[derive(Debug, Default)]
pub struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// Room for `len` bytes. All of it is written once, so that it is there and not only promised.
    #[must_use]
    pub fn new(len: usize) -> PageBuffer {
        let bytes = vec![1; len + PAGE as usize];
        let start = bytes.as_ptr().align_offset(PAGE as usize);
        PageBuffer { bytes, start, len }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_page() {
        for len in [0, 1, 4096, 70_000] {
            let buffer = PageBuffer::new(len);
            assert_eq!((buffer.as_ptr().addr() % 4096, buffer.len()), (0, len));
        }
        assert!(PageBuffer::default().is_empty());
    }
}
