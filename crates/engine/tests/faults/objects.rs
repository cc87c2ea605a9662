//! Objects of System V IPC, which outlive a specimen. It wrote them down: a kind and an id in each line.

use std::fs;
use std::path::Path;

fn written_down(home: &Path) -> Vec<(String, u32)> {
    let text = fs::read_to_string(home.join("ipc-objects")).unwrap_or_default();
    let line = |line: &str| line.split_once(' ').and_then(|(kind, id)| Some((kind.to_owned(), id.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// Those that are there.
pub(crate) fn left(home: &Path) -> Vec<(String, u32)> {
    let there = |(kind, id): &(String, u32)| {
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        table.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some(&id.to_string()))
    };
    written_down(home).into_iter().filter(there).collect()
}

/// Removes them.
pub(crate) fn forget(home: &Path) {
    for (kind, id) in left(home) {
        let get = match kind.as_str() {
            "shm" => abi::Sys::Shmget,
            "sem" => abi::Sys::Semget,
            _ => abi::Sys::Msgget,
        };
        tracee::ipc::remove(get, id);
    }
}

/// Removes them when the test is over.
pub(crate) struct AtTheEnd<'a>(pub(crate) &'a Path);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        forget(self.0);
    }
}
