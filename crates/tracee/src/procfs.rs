//! Files of /proc: their length is not known before, and each read makes the kernel write the text anew, so they are read
//! in one go where that can be.

use abi::Fault;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Enough for nearly every file of /proc; larger ones take more and larger reads.
const ENOUGH: usize = 4096;

/// The numbers below a directory of /proc: of processes, threads, descriptors. None where it may not be read.
pub fn numbers(path: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The text of a file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    read_until(path.as_ref(), |n| n == 0)
}

/// The text of a file that is one record: a read that has room left has all of it (fs/seq_file.c, `single_open`).
pub fn read_record(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    read_until(path.as_ref(), |n| n < ENOUGH)
}

/// Reads on until a read that gave so many bytes was the last.
fn read_until(path: &Path, is_last: impl Fn(usize) -> bool) -> Result<Vec<u8>, Fault> {
    let fault = |call: &str, e: std::io::Error| Fault::new(call, path.display(), e);
    let mut file = File::open(path).map_err(|e| fault("open", e))?;
    let mut text = vec![0; ENOUGH];
    let mut filled = 0;
    loop {
        if filled == text.len() {
            text.resize(filled * 8, 0);
        }
        let n = file.read(&mut text[filled..]).map_err(|e| fault("read", e))?;
        filled += n;
        if is_last(n) {
            break;
        }
    }
    text.truncate(filled);
    Ok(text)
}
