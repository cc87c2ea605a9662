//! A thread that waits for its child of vfork(2).
//!
//! It sleeps in the kernel until the child executes a program or ends, and only SIGKILL wakes it earlier (kernel/fork.c,
//! `wait_for_vfork_done`: TASK_KILLABLE). Until then nobody can stop it, and so nobody can read the registers with which it goes
//! on. Nothing but that very child can let it out (`mm_release`): no other thread of it, and no copy of it. A freeze
//! could save the child, kill it, and catch its maker on the way out. But if anything then speaks against the freeze, or ends it,
//! the program has lost its child, which only root could make again with its id. So such a tree is frozen when the child has
//! gone on, and refused when it does not.

use crate::procfs::read_record;
use crate::status::{field, text};
use std::time::{Duration, Instant};

/// For how long a child may sleep on before it is not waited for any more.
const ENOUGH: Duration = Duration::from_secs(2);
/// vfork, clone and clone3: who sleeps uninterruptibly in one of these waits for its child.
const CALLS: [&[u8]; 3] = [b"58", b"56", b"435"];

/// The child that a thread waits for, if it does.
pub(crate) fn awaited_by(tid: i32) -> Option<i32> {
    let call = read_record(format!("/proc/{tid}/syscall")).ok()?;
    let waits = CALLS.contains(&call.split(|b| *b == b' ').next()?) && state(tid)? == b'D';
    let children = read_record(format!("/proc/{tid}/task/{tid}/children")).ok().filter(|_| waits)?;
    // It has made no other one since.
    std::str::from_utf8(&children).ok()?.split_ascii_whitespace().last()?.parse().ok()
}

fn state(tid: i32) -> Option<u8> {
    field(&text(tid).ok()?, "State:")?.bytes().next()
}

/// How often a process has gone to sleep; `None`: it is awake, or gone.
fn sleeps(pid: i32) -> Option<u64> {
    let text = text(pid).ok()?;
    let awake = field(&text, "State:")?.starts_with('R');
    field(&text, "voluntary_ctxt_switches:").filter(|_| !awake)?.parse().ok()
}

/// What is seen of a child while somebody waits for its maker to stop.
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<(i32, u64, Instant)>);

impl Watch {
    /// Looks again. Gives the child for which the thread waits, if that has done nothing for too long.
    pub(crate) fn look(&mut self, tid: i32) -> Option<i32> {
        let now = awaited_by(tid).and_then(|child| Some((child, sleeps(child)?)));
        match (now, self.0) {
            (Some(now), Some((child, count, since))) if now == (child, count) => {
                (since.elapsed() > ENOUGH).then_some(child)
            }
            (now, _) => {
                self.0 = now.map(|(child, count)| (child, count, Instant::now()));
                None
            }
        }
    }
}
