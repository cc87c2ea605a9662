//! Objects of System V IPC that a thaw made in the namespace of whoever thaws, until it is known that the tree has come back. They
//! outlive processes, so an heir removes them, also when the thaw is killed.

use abi::Sys;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};
use tracee::fault::point;
use tracee::ipc::{Seen, find_mqueue, look, make_mqueue, remove, remove_mqueue};
use tracee::{Heir, Legacy};

/// The objects that were made. They are removed when this is dropped.
pub(crate) struct Objects {
    heir: Heir,
}

/// Words that no number of a call is, before the name of a queue: it will be made now, and it was not.
const QUEUE: u64 = u64::MAX;
const NO_QUEUE: u64 = u64::MAX - 1;

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
                mqueues(told)
                    .filter(|name| find_mqueue(name).is_some_and(|q| q.changed >= since))
                    .for_each(remove_mqueue);
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

    /// Makes a POSIX message queue. Without a name it is not there any more when this returns, unless we are killed on the way.
    pub(crate) fn mqueue(&mut self, name: Option<&[u8]>, limits: (u64, u64)) -> Result<OwnedFd, abi::Fault> {
        let own = format!(".cryopid-{}", std::process::id()).into_bytes();
        let fault = |call: &str, e| abi::Fault::new(call, "a message queue", e);
        let tell = |heir: &mut Heir, word: u64| {
            heir.tell(&[&word.to_ne_bytes(), name.unwrap_or(&own)].concat()).map_err(|e| fault("write", e.into()))
        };
        tell(&mut self.heir, QUEUE)?;
        let here = || point().map_err(|e| fault("mq_open", e));
        here()?;
        match make_mqueue(name.unwrap_or(&own), limits) {
            Ok(made) => {
                here()?;
                if name.is_none() {
                    remove_mqueue(&own);
                    tell(&mut self.heir, NO_QUEUE)?;
                }
                Ok(made)
            }
            // What has the name, if anything has, is somebody else's.
            Err(e) => tell(&mut self.heir, NO_QUEUE).and(Err(fault("mq_open", e))),
        }
    }

    /// The objects stay.
    pub(crate) fn keep(self) {
        self.heir.keep();
    }
}

/// The names of the queues that were made, by what was told of them: the last word on a name counts.
fn mqueues(told: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    told.iter().enumerate().filter_map(|(n, word)| {
        let name = word.strip_prefix(&QUEUE.to_ne_bytes())?;
        let taken_back = told[n..].iter().any(|word| word.strip_prefix(&NO_QUEUE.to_ne_bytes()) == Some(name));
        (!taken_back).then_some(name)
    })
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
    fn the_last_word_on_a_queue_counts() {
        let told = |words: &[(u64, &str)]| {
            words.iter().map(|(word, name)| [&word.to_ne_bytes(), name.as_bytes()].concat()).collect::<Vec<_>>()
        };
        let told = told(&[(QUEUE, "a"), (QUEUE, "b"), (NO_QUEUE, "b"), (QUEUE, "b"), (QUEUE, "c"), (NO_QUEUE, "c")]);
        assert_eq!(mqueues(&told).collect::<Vec<_>>(), [b"a", b"b"]);
    }

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
