//! Objects of IPC, which outlive a specimen. It wrote them down: a kind and an id, or a name, in each line.

use std::fs;
use std::path::Path;
use tracee::ipc::{find_mqueue, remove, remove_mqueue};

fn written_down(home: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(home.join("ipc-objects")).unwrap_or_default();
    let line = |line: &str| line.split_once(' ').map(|(kind, id)| (kind.to_owned(), id.to_owned()));
    text.lines().filter_map(line).collect()
}

/// Those that are there.
pub(crate) fn left(home: &Path) -> Vec<(String, String)> {
    let there = |(kind, id): &(String, String)| {
        if kind == "queue" {
            return find_mqueue(&id.as_bytes()[1..]).is_some();
        }
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        table.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some(id))
    };
    written_down(home).into_iter().filter(there).collect()
}

/// Removes them.
pub(crate) fn forget(home: &Path) {
    for (kind, id) in left(home) {
        if kind == "queue" {
            remove_mqueue(&id.as_bytes()[1..]);
            continue;
        }
        let get = match kind.as_str() {
            "shm" => abi::Sys::Shmget,
            "sem" => abi::Sys::Semget,
            _ => abi::Sys::Msgget,
        };
        remove(get, id.parse().expect("an id is a number"));
    }
}

/// Removes them when the test is over.
pub(crate) struct AtTheEnd<'a>(pub(crate) &'a Path);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        forget(self.0);
    }
}
