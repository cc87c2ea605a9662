//! Pidfd: a process or thread behind a descriptor (pidfd_open(2)).
//!
//! - seen as    `anon_inode:[pidfd]`, or `pidfd:[N]` where it is asked for by a link of that file system
//! - captured   whose it is, from fdinfo, and its flags
//! - recreated  `pidfd_open` by every process that has it, once all are born: what is meant is found by its id in the pid
//!   namespace of who asks, and there is nobody yet when the store makes its descriptions
//!   One of a process that is no more: `pidfd_open` of one that is made for that, and ended; those of one process together
//! - refused    that of a process outside of the tree
//! - not kept   O_APPEND and O_NOATIME (fcntl(2)), which mean nothing there;
//!   that relatives have one description in common, of which its flag (O_NONBLOCK) tells, and an epoll instance that they have in
//!   common too: that watches what one of them has; told; the
//!   inode number (fs/pidfs.c), which is another one for each process that ever was; how one ended that is
//!   no more (PIDFD_GET_INFO); in a pid namespace of its own, the error of a signal for that (EINVAL, told). Before Linux 6.9 all of these are of one: nothing tells them apart

use super::{Kind, Seen, common_refusals, flags};
use crate::{At, Capturing, Description, Planning, Resource, Trouble};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, Moment, Namespaces, OfEnded, Op, Refusal, Tid};
use serde::{Deserialize, Serialize};

/// PIDFD_THREAD (linux/pidfd.h), Linux 6.9.
const THREAD: u32 = 0o200;
/// The flags that pidfd_open(2) takes.
const KEPT: u32 = flags::NONBLOCK | THREAD;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Pidfd {
    /// Whose it is: the id in its own pid namespace.
    #[n(0)]
    pub id: u32,
    /// Status flags (open(2)); O_EXCL: that of a thread, not of its process (PIDFD_THREAD).
    #[n(1)]
    pub flags: u32,
    /// Of a process that is no more: a number that all descriptions of that one have.
    #[n(2)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Resource for Pidfd {
    const NAME: &'static str = "pidfd";
}

/// The id here of whose it is: `Pid: -1` when nothing is left of it (fs/pidfs.c, pidfd_show_fdinfo).
fn outer(seen: &Seen) -> Option<i32> {
    std::str::from_utf8(seen.info.field("Pid")?).ok()?.parse().ok()
}

/// The id that it has in the tree, or why it has none.
fn inner(seen: &Seen, from: &Capturing<'_>) -> Result<u32, Refusal> {
    let close = "let the program close it first";
    match outer(seen) {
        Some(-1) => Ok(0),
        Some(0) => Err(seen.refuse("it is of a process in another pid namespace", close)),
        Some(pid) => from.probe.inner_tid(pid as u32).ok_or_else(|| {
            seen.refuse(
                format!("it is of process {pid}, outside of the tree"),
                "freeze a tree that has both, or end that process",
            )
        }),
        None => Err(seen.refuse("this kernel does not tell whose it is", "Linux 5.2 or later does")),
    }
}

impl Kind for Pidfd {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[pidfd]" || seen.link.0.starts_with(b"pidfd:[")
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        match inner(seen, from) {
            Ok(id) if refusals.is_empty() => {
                return Ok(Pidfd {
                    id,
                    flags: seen.flags(),
                    inode: (outer(seen) == Some(-1)).then_some(seen.stat.ino),
                });
            }
            Ok(_) => {}
            Err(refusal) => refusals.push(refusal),
        }
        Err(Trouble::Refused(refusals))
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        if self.inode.is_some() {
            return of_ended(descr, to);
        }
        let flags = u64::from(self.flags & KEPT);
        let owners = to.owners(descr);
        if owners.len() > 1 {
            to.to.note(
                "relatives that had a process descriptor in common have one each now, with an O_NONBLOCK of its own; epoll watches that of one of them",
            );
        }
        for pid in owners {
            let args = vec![u64::from(self.id).into(), flags.into()];
            let op = Op::Make { sys: Sys::PidfdOpen, args, descrs: vec![descr] };
            let needs = vec![Fact::Born(Tid(pid.0)), Fact::Born(Tid(self.id))];
            let makes = vec![Fact::Made(descr), Fact::Files(pid)];
            to.to.step(Moment::Place, Self::NAME, Actor::Thread(Tid(pid.0)), op, needs, makes);
        }
    }

    fn object(&self) -> Option<u64> {
        self.inode
    }

    fn is_of_each(&self) -> bool {
        true
    }
}

/// All that are of one process.
fn of_ended(descr: Descr, to: &mut Planning<'_>) {
    if to.namespaces != Namespaces::Same {
        to.to.note(
            "that a process is no more, which the program has a descriptor of, a signal for it tells by another error",
        );
    }
    let flags = |d: &Description| if let Description::Pidfd(p) = d { p.flags & KEPT } else { 0 };
    let opened = to.ends(descr).into_iter().map(|(id, d)| (id, OfEnded::Process, flags(d))).collect();
    super::make_of_ended(Pidfd::NAME, opened, to);
}
