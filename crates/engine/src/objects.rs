//! Objects of System V IPC that a thaw made in the namespace of whoever thaws, until it is known that the tree has come back. They
//! outlive processes, so an heir removes them, also when the thaw is killed.

use abi::Sys;
use std::time::{SystemTime, UNIX_EPOCH};
use tracee::fault::point;
use tracee::ipc::{Seen, look, remove};
use tracee::{Heir, Legacy};

/// The objects that were made. They are removed when this is dropped.
pub(crate) struct Objects {
    heir: Heir,
}

/// What an object of ours will be like: an heir is told before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Made {
    /// The call that makes it.
    pub(crate) get: Sys,
    pub(crate) id: u32,
    pub(crate) key: i32,
    /// Who makes it.
    pub(crate) maker: i32,
}

impl Made {
    fn word(self) -> Vec<u8> {
        let number = self.get.number(tracee::blob::MACHINE);
        [number, self.id.into(), u64::from(self.key as u32), self.maker as u64].map(u64::to_ne_bytes).concat()
    }

    fn heard(word: &[u8]) -> Option<Made> {
        let number = |n: usize| word.get(8 * n..8 * n + 8)?.try_into().map(u64::from_ne_bytes).ok();
        let get = Sys::from_number(number(0)?, tracee::blob::MACHINE)?;
        Some(Made { get, id: number(1)? as u32, key: number(2)? as u32 as i32, maker: number(3)? as i32 })
    }

    /// Whether what has the id is ours, and no object that somebody else made first: since then, with that key, and of
    /// memory, by that process.
    fn is(self, seen: &Seen, since: i64) -> bool {
        seen.key == self.key && seen.changed >= since && seen.maker.is_none_or(|maker| maker == self.maker)
    }
}

impl Objects {
    pub(crate) fn new() -> Result<Objects, abi::Fault> {
        // The time of an object is that of the last tick, and so may be of the second before.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64 - 1);
        let heir = Heir::new(move |legacy, told| {
            if legacy == Legacy::Undone {
                told.iter().filter_map(|word| Made::heard(word)).for_each(|made| undo(made, since));
            }
        })?;
        Ok(Objects { heir })
    }

    /// This one will be made now.
    pub(crate) fn expect(&mut self, made: Made) -> Result<(), abi::Fault> {
        let fault = |e: std::io::Error| abi::Fault::new("write", "an heir", e);
        point().map_err(|e| fault(e.into()))?;
        self.heir.tell(&made.word()).map_err(fault)?;
        point().map_err(|e| fault(e.into()))
    }

    /// The objects stay.
    pub(crate) fn keep(self) {
        self.heir.keep();
    }
}

/// In the heir.
fn undo(made: Made, since: i64) {
    if look(made.get, made.id).is_some_and(|seen| made.is(&seen, since)) {
        remove(made.get, made.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_somebody_else_is_not_ours() {
        let made = Made { get: Sys::Shmget, id: 7, key: -2, maker: 12 };
        assert_eq!(Made::heard(&made.word()), Some(made));
        let seen = Seen { key: -2, changed: 100, maker: Some(12) };
        assert!(made.is(&seen, 100) && made.is(&Seen { maker: None, ..seen }, 99));
        assert!(!made.is(&seen, 101) && !made.is(&Seen { key: 0, ..seen }, 100));
        assert!(!made.is(&Seen { maker: Some(13), ..seen }, 100));
    }
}
