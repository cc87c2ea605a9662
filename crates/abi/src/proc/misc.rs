//! What takes a few lines each: `auxv`, `sched`.

use super::ParseError;
use super::text::{lines, split_once, unsigned};
use crate::layout::Layout;

/// Ends an auxiliary vector (linux/auxvec.h, `AT_NULL`).
const AT_NULL: u64 = 0;

/// Reads /proc/PID/auxv: the entries before the one that ends them.
pub fn auxv(bytes: &[u8]) -> Result<Vec<(u64, u64)>, ParseError> {
    let odd = || ParseError::new("auxv", format!("{} bytes are no whole entries", bytes.len()));
    let (entries, []) = bytes.as_chunks::<16>() else {
        return Err(odd());
    };
    let entries = entries.iter().map(words);
    Ok(entries.take_while(|(key, _)| *key != AT_NULL).collect())
}

/// The bytes of an auxiliary vector, with the entry that ends it.
pub fn encode_auxv(entries: &[(u64, u64)]) -> Vec<u8> {
    let end = [(AT_NULL, 0)];
    let words = entries.iter().chain(&end).flat_map(|(key, value)| [key, value]);
    words.flat_map(|word| word.to_le_bytes()).collect()
}

fn words(entry: &[u8; 16]) -> (u64, u64) {
    let [key, value] = Layout::get(entry).expect("sixteen bytes are two words");
    (key, value)
}

/// What /proc/PID/sched tells of a thread's last run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sched {
    /// When it last began to run, in nanoseconds of the scheduler's clock. It changes with every run, however short.
    pub exec_start: u64,
    /// How often it has gone to sleep, or stopped.
    pub voluntary_switches: u64,
}

/// Reads /proc/PID/sched. `None` when the kernel does not tell (without CONFIG_SCHED_DEBUG before 6.15).
pub fn sched(text: &[u8]) -> Option<Sched> {
    // The name of the thread in the first line is not escaped, so a line may look like one that we want.
    let find = |name: &[u8], read: fn(&[u8]) -> Option<u64>| {
        lines(text).filter(|line| line.starts_with(name)).find_map(|line| read(split_once(line, b':')?.1.trim_ascii()))
    };
    let exec_start = find(b"se.exec_start", milliseconds)?;
    Some(Sched { exec_start, voluntary_switches: find(b"nr_voluntary_switches", unsigned)? })
}

/// `12345.678901`: with six decimals (kernel/sched/debug.c, `SPLIT_NS`). In nanoseconds.
fn milliseconds(value: &[u8]) -> Option<u64> {
    let (whole, decimals) = split_once(value, b'.')?;
    if decimals.len() != 6 {
        return None;
    }
    let whole: u64 = unsigned(whole)?;
    whole.checked_mul(1_000_000)?.checked_add(unsigned(decimals)?)
}
