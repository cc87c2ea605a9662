//! A tree as it is seen before anything is done to it: more or less, as it may change at any time.

use crate::{Error, unfit};
use abi::proc;
use std::collections::BTreeSet;
use tracee::guard::stands;
use tracee::procfs::{numbers, read_record};

/// Who is in a tree, and whether the calls of any of them are filtered. To stop a thread may be the end of it, as a filter
/// may forbid the call by which the kernel goes on with a sleep: so that is looked at first.
#[derive(Clone, Debug)]
pub struct Look {
    pub(crate) root: i32,
    /// The ids of its processes.
    pub(crate) members: BTreeSet<u32>,
    /// A process of which a thread has a seccomp mode.
    pub(crate) filtered: Option<u32>,
    /// Bytes of memory that an image of it will hold, about: what its processes have of their own (proc_pid_status(5)).
    pub(crate) memory: u64,
}

impl Look {
    /// Looks at the tree below a process; where there is none, there is nobody in it.
    pub fn at(root: i32) -> Look {
        let mut look = Look { root, members: abi::gathered([root as u32]), filtered: None, memory: 0 };
        let mut next = vec![root as u32];
        while let Some(pid) = next.pop() {
            for tid in numbers(format!("/proc/{pid}/task")) {
                let new = children(pid, tid).into_iter().filter(|child| look.members.insert(*child));
                next.extend(new);
                if look.filtered.is_some() && tid != pid {
                    continue;
                }
                let text = read_record(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
                let Ok(status) = proc::status(&text) else { continue };
                if status.seccomp != 0 && !b"ZX".contains(&status.state) {
                    look.filtered.get_or_insert(pid);
                }
                if tid == pid {
                    look.memory += 1024 * status.own_kb;
                }
            }
        }
        look
    }

    /// Nobody is to stop a tree that is filtered who may not suspend that, and stands for it.
    pub(crate) fn is_guarded(&self) -> Result<(), Error> {
        match self.filtered {
            Some(member) if !stands() => Err(unfit::filtered(member)),
            _ => Ok(()),
        }
    }
}

/// The children of a thread (proc_tid_children(5)).
pub(crate) fn children(pid: u32, tid: u32) -> Vec<u32> {
    let text = tracee::procfs::read(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}
