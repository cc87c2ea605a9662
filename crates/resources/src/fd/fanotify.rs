//! Fanotify: groups of marks on files, mounts and file systems, and the events that nobody has read (fanotify(7)).
//!
//! - seen as    `anon_inode:[fanotify]`
//! - captured   the flags of the group and its marks, from fdinfo: a file is found as `inotify` finds what is watched, a mount by its
//!   id, a file system by a mount of it
//! - recreated  `fanotify_init` by whoever thaws; `fanotify_mark` as the last of all steps, so that little which the thaw does is
//!   an event
//! - refused    a group that decides what others may do (FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT); a mark of what is not found, or
//!   of another kind; one that a process outside of the tree has too
//! - not kept   events that wait, which is told; that an ordinary user had made the group, where root thaws it: it tells the
//!   ids of all processes then

use super::inotify::{find, place_of, waits};
use super::place::Wanted;
use super::{Kind, Seen, common_refusals, flags, shared_outside};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::fcntl::F_SETFL;
use abi::consts::fd::AT_FDCWD;
use abi::consts::file_type::S_IFLNK;
use abi::proc::{self, FanotifyMark, InotifyWatch};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// Bits of fanotify_init(2) and fanotify_mark(2) (linux/fanotify.h).
const FAN_NONBLOCK: u32 = 2;
const CLASSES: u32 = 0xc;
const MARK_ADD: u32 = 1;
const MARK_DONT_FOLLOW: u32 = 4;
const MARK_MOUNT: u32 = 0x10;
const MARK_IGNORED_MASK: u32 = 0x20;
const MARK_FILESYSTEM: u32 = 0x100;
const MARK_EVICTABLE: u32 = 0x200;
const MARK_IGNORE: u32 = 0x400;

/// One mark.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Mark {
    /// Of what: FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM; 0: an inode.
    #[n(0)]
    pub of: u32,
    /// Where that is.
    #[n(1)]
    pub path: Text,
    /// The events that are told.
    #[n(2)]
    pub mask: u32,
    /// Those that are not.
    #[n(3)]
    pub ignored: u32,
    /// Further flags of fanotify_mark(2).
    #[n(4)]
    pub flags: u32,
    /// The type bits of what is marked; 0: not known.
    #[n(5)]
    pub file_type: u32,
    /// The description by which it is found, if it has no name any more.
    #[n(6)]
    pub description: Option<u32>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Fanotify {
    /// Of the group (fanotify_init(2)).
    #[n(0)]
    pub init: u32,
    /// Of the descriptions that it gives with events.
    #[n(1)]
    pub event_flags: u32,
    /// Status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// In the kernel's order.
    #[n(3)]
    pub marks: Vec<Mark>,
}

impl Resource for Fanotify {
    const NAME: &'static str = "fanotify";
}

fn mark(told: &FanotifyMark, of: u32, path: Vec<u8>) -> Mark {
    let FanotifyMark { mask, ignored, flags, .. } = *told;
    Mark { of, path: Text(path), mask, ignored, flags, file_type: 0, description: None }
}

/// The marks, those that are of one place by the mount that leads there; and those of which nobody knows the place.
fn marks(told: &[FanotifyMark], seen: &Seen, from: &mut Capturing<'_>) -> Result<(Vec<Mark>, Vec<usize>), Trouble> {
    let mounts = proc::mountinfo(&from.probe.text_around("mountinfo")?)?;
    let watch = |(n, m): (usize, &FanotifyMark)| {
        let (ino, sdev, handle) = (m.ino?, m.sdev?, m.handle.clone());
        Some(InotifyWatch { wd: n as u32, ino, sdev, mask: 0, handle })
    };
    let (found, _) = find(told.iter().enumerate().filter_map(watch).collect(), seen, from)?;
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    for (n, m) in told.iter().enumerate() {
        let by = |of: u32, mount: Option<&proc::Mount>| mount.map(|mount| mark(m, of, mount.mount_point.clone()));
        let it = match (m.mount, m.ino, m.sdev) {
            (Some(id), ..) => by(MARK_MOUNT, mounts.iter().find(|mount| mount.id == id)),
            (None, None, Some(dev)) => {
                by(MARK_FILESYSTEM, mounts.iter().find(|mount| mount.dev == proc::kernel_dev(dev)))
            }
            _ => found.iter().find(|w| w.wd == n as u32).map(|w| Mark {
                file_type: w.file_type,
                description: w.description,
                ..mark(m, 0, w.path.0.clone())
            }),
        };
        it.map_or_else(|| lost.push(n), |it| all.push(it));
    }
    Ok((all, lost))
}

impl Kind for Fanotify {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[fanotify]"
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals: Vec<Refusal> = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        let ((init, event_flags), told) = proc::fanotify(&from.probe.text(&format!("fdinfo/{}", seen.fd))?)?;
        if init & CLASSES != 0 {
            let why = "it decides what other processes may do with files, and they would wait for it";
            refusals.push(seen.refuse(why, "let the program close it"));
        }
        if waits(seen, from)? {
            let why = "events wait that the program has not read, and will not read any more";
            from.note(seen.title(), why);
        }
        let (marks, lost) = marks(&told, seen, from)?;
        refusals.extend(lost.iter().map(|n| {
            let why = format!("its mark {} is of something whose path is not found", n + 1);
            seen.refuse(why, "it may have been removed; root finds what is elsewhere, by its handle")
        }));
        for mark in marks.iter().filter(|mark| mark.description.is_none()) {
            mark.wanted().note(seen.title(), &mark.path, from);
        }
        let fanotify = Fanotify { init, event_flags, flags: seen.flags(), marks };
        if refusals.is_empty() { Ok(fanotify) } else { Err(Trouble::Refused(refusals)) }
    }

    /// fs/notify/mark.c, `fsnotify_wait_marks_destroyed`.
    fn ends_slowly(&self) -> bool {
        true
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        to.to.make(
            Self::NAME,
            descr,
            Sys::FanotifyInit,
            vec![u64::from(self.init).into(), u64::from(self.event_flags).into()],
        );
        if (self.flags & flags::NONBLOCK != 0) != (self.init & FAN_NONBLOCK != 0) {
            let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.flags & flags::NONBLOCK).into()];
            to.to.on_descr(Moment::Make, Self::NAME, descr, Sys::Fcntl, args, Expect::Success);
        }
        self.marks.iter().for_each(|mark| mark.plan(descr, to));
    }

    fn places(&self) -> Vec<&Text> {
        self.marks.iter().filter(|m| m.description.is_none()).map(|m| &m.path).collect()
    }
}

impl Mark {
    /// What must stand there.
    fn wanted(&self) -> Wanted<'static> {
        Wanted::followed_unless_link("what is marked", self.file_type)
    }

    /// Of events that are told, and of those that are not, each one call.
    fn plan(&self, descr: Descr, to: &mut Planning<'_>) {
        if self.description.is_none() {
            self.wanted().look(&self.path, to);
        }
        let path = place_of(&self.path, self.description, to);
        let ignore = self.flags & MARK_IGNORE | if self.flags & MARK_IGNORE == 0 { MARK_IGNORED_MASK } else { 0 };
        let kept = self.flags & MARK_EVICTABLE;
        let calls = [(self.mask, kept), (self.ignored, ignore | self.flags & !MARK_IGNORE)];
        for (mask, flags) in calls.into_iter().filter(|(mask, _)| *mask != 0) {
            let itself = if self.file_type == S_IFLNK { MARK_DONT_FOLLOW } else { 0 };
            let how = MARK_ADD | self.of | flags | itself;
            let numbers = [how.into(), mask.into(), AT_FDCWD].map(Value::Int);
            let args = [Value::Descr(descr)].into_iter().chain(numbers).chain([Value::Bytes(path.c_string())]);
            let op = Op::Call { sys: Sys::FanotifyMark, args: args.collect(), expect: Expect::Success };
            let needs = [crate::planning::committed(to.model), vec![Fact::Made(descr)]].concat();
            to.to.step(Moment::Arm, Fanotify::NAME, Actor::Store, op, needs, vec![]);
        }
    }
}
