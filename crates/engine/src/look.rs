//! A tree as it is seen before anything is done to it: more or less, as it may change at any time.

use crate::{Error, unfit};
use abi::proc;
use std::collections::BTreeSet;
use tracee::SeizeError;
use tracee::guard::stands;
use tracee::procfs::{each, numbers, read_record};

/// Who is in a tree, and whether the calls of any of them are filtered. To stop a thread may be the end of it, as a filter
/// may forbid the call by which the kernel goes on with a sleep: so that is looked at first.
#[derive(Clone, Debug)]
pub struct Look {
    pub(crate) root: i32,
    /// The ids of its processes.
    pub(crate) members: BTreeSet<u32>,
    /// A process of which a thread has a seccomp mode.
    pub(crate) filtered: Option<u32>,
    /// A process of which a thread is traced, and by whom.
    pub(crate) traced: Option<(u32, u32)>,
    /// How many threads it has.
    pub(crate) threads: u64,
    /// Bytes of memory that an image of it will hold, about: what its processes have of their own (proc_pid_status(5)).
    pub(crate) memory: u64,
}

impl Look {
    /// Looks at the tree below a process; where there is none, there is nobody in it.
    pub fn at(root: i32) -> Look {
        let mut look =
            Look { root, members: abi::gathered([root as u32]), filtered: None, traced: None, threads: 0, memory: 0 };
        let mut next = vec![root as u32];
        while !next.is_empty() {
            let threads = threads(&next);
            next.clear();
            look.threads += threads.len() as u64;
            for ((pid, _), (born, seen)) in threads.iter().zip(each(&threads, one)) {
                next.extend(born.into_iter().filter(|child| look.members.insert(*child)));
                look.filtered = look.filtered.or(seen.is_filtered.then_some(*pid));
                look.traced = look.traced.or((seen.tracer != 0).then_some((*pid, seen.tracer)));
                look.memory += seen.memory;
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

    /// Who is traced by somebody cannot be stopped by us: then nobody is.
    pub(crate) fn is_free(&self) -> Result<(), Error> {
        match self.traced {
            Some((member, by)) => Err(unfit::seize_error(SeizeError::Traced { by: by as i32 }, member as i32)),
            None => Ok(()),
        }
    }
}

/// What was seen of a thread.
#[derive(Default)]
struct Seen {
    /// Whether it has a seccomp mode.
    is_filtered: bool,
    /// Who traces it; 0: nobody.
    tracer: u32,
    /// The memory of the process that it leads.
    memory: u64,
}

/// The threads of processes, each with its process.
fn threads(of: &[u32]) -> Vec<(u32, u32)> {
    let its = |pid: &u32| numbers(format!("/proc/{pid}/task")).map(|tid| (*pid, tid)).collect::<Vec<_>>();
    each(of, its).concat()
}

/// The children of a thread, and what else is seen of it.
fn one((pid, tid): &(u32, u32)) -> (Vec<u32>, Seen) {
    let text = read_record(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    let seen = proc::status(&text).map(|status| {
        let memory = if tid == pid { 1024 * status.own_kb } else { 0 };
        let lives = !b"ZX".contains(&status.state);
        Seen { is_filtered: status.seccomp != 0 && lives, tracer: if lives { status.tracer_pid } else { 0 }, memory }
    });
    (children(*pid, *tid), seen.unwrap_or_default())
}

/// The children of a thread (proc_tid_children(5)).
pub(crate) fn children(pid: u32, tid: u32) -> Vec<u32> {
    let text = tracee::procfs::read(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}
