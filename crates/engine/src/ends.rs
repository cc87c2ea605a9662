//! What of a tree ends better by our hands than with its processes.

use crate::execute::raise_file_limit;
use crate::sockets;
use crate::tree::Tree;
use resources::Model;
use std::os::fd::{AsRawFd, OwnedFd};

/// Copies of descriptors of a tree, from before it ends.
pub(crate) struct Ends {
    /// One end of each connection within it. Closed as its processes end, it would keep its addresses for a minute (TIME_WAIT), so that no
    /// thaw could have them.
    connections: Vec<OwnedFd>,
    /// What takes the kernel long. A process ends one after the other.
    slow: Vec<OwnedFd>,
}

impl Ends {
    /// What we cannot have a copy of ends with the processes.
    pub(crate) fn of(model: &Model, tree: &Tree) -> Ends {
        Ends { connections: copies(tree, &model.connections()), slow: copies(tree, &model.slow_to_end()) }
    }

    /// The processes have ended.
    pub(crate) fn end(self) {
        /// As many wait at the same time.
        const BESIDE: usize = 32;
        self.connections.into_iter().for_each(sockets::cut);
        let mut groups: Vec<Vec<OwnedFd>> = (0..BESIDE.min(self.slow.len())).map(|_| Vec::new()).collect();
        self.slow.into_iter().enumerate().for_each(|(n, fd)| groups[n % BESIDE].push(fd));
        let last = groups.pop();
        // A thread that cannot be begun drops them here.
        let begin = |group| std::thread::Builder::new().spawn(move || drop::<Vec<OwnedFd>>(group)).ok();
        let others: Vec<_> = groups.into_iter().filter_map(begin).collect();
        drop(last);
        others.into_iter().for_each(|thread| _ = thread.join());
    }
}

fn copies(tree: &Tree, of: &[(usize, u32)]) -> Vec<OwnedFd> {
    // To end the tree takes some, too.
    const OTHERS: u64 = 64;
    let mut copies: Vec<OwnedFd> = Vec::new();
    let most = if of.is_empty() { 0 } else { raise_file_limit().saturating_sub(OTHERS) };
    for (n, fd) in of {
        let copy = tree.members[*n].process.as_ref().and_then(|process| process.descriptor(*fd as i32).ok());
        copies.extend(copy);
        if copies.last().is_some_and(|last| last.as_raw_fd() as u64 >= most) {
            break;
        }
    }
    copies
}
