//! Inotify: watches of files and directories, and the events that nobody has read (inotify(7)).
//!
//! - seen as    `anon_inode:inotify`
//! - captured   the watches, with their ids, from fdinfo. Of what is watched the kernel tells only the inode: its path is that
//!   of its handle, which only root may ask for (open_by_handle_at(2)); else it is looked for where it is likely, see `Search`.
//!   What was removed is found if the tree has it open
//! - recreated  `inotify_init1`; `inotify_add_watch` as the last of all steps, so that nothing which the thaw does is an
//!   event. Ids are given one after the other: those between are given to watches that are removed at once
//! - refused    a watch whose inode is not found; one of what is not on the host; ids that are too
//!   far apart; one that a process outside of the tree has too
//! - not kept   O_NOATIME (fcntl(2)), which means nothing there.
//!   Before Linux 5.19, that a watch is for one event only. The id that the next watch gets, if that of the last one was removed; events that wait: they can be looked at
//!   only by taking them, and nothing puts them back. The user is told, and so is the program: it finds IN_Q_OVERFLOW in its queue, as
//!   when more happens than that can hold, and looks anew

use super::place::Wanted;
use super::procfile;
use super::{Kind, S_IFDIR, S_IFMT, Seen, common_refusals, flags, set_status, shared_outside};
use crate::task::{all, written};
use crate::{At, Capturing, Description, Entry, Model, Planning, Probe, Resource, Text, Trouble};
use abi::consts::file_type::S_IFLNK;
use abi::layout::FileStat;
use abi::proc::{self, InotifyWatch};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const FIONREAD: u64 = 0x541b;
/// An event without a name (inotify(7), `struct inotify_event`).
const EVENT_SIZE: u64 = 16;
const IN_MODIFY: u32 = 2;
const IN_ATTRIB: u32 = 4;
const IN_DELETE_SELF: u32 = 0x400;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;
/// How many events a new instance holds (inotify(7)).
const HOLDS: &str = "/proc/sys/fs/inotify/max_queued_events";
/// The longest queue that is filled up, so that it says that it was.
const QUEUE_MAX: u64 = 1 << 17;
/// How many ids are given and taken back before their events are read away.
const ROUND: u32 = 64;
/// How many ids may have been given to watches that are gone.
const GONE_MAX: u32 = 20_000;

/// One watch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Watch {
    /// Its id.
    #[n(0)]
    pub wd: u32,
    /// What is watched.
    #[n(1)]
    pub path: Text,
    /// IN bits (inotify(7)).
    #[n(2)]
    pub mask: u32,
    /// The type bits of what is watched.
    #[n(3)]
    pub file_type: u32,
    /// The description by which it is found, if it has no name any more.
    #[n(4)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<u32>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Inotify {
    /// Status flags (open(2)).
    #[n(0)]
    pub flags: u32,
    /// Ascending by id.
    #[n(1)]
    pub watches: Vec<Watch>,
    /// Whether events waited that the image has not.
    #[n(2)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// What a survey has to read for them.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let lost = |description: &Description| matches!(description, Description::Inotify(it) if it.lost);
    if model.descriptions.values().any(lost) { vec![HOLDS.to_owned()] } else { Vec::new() }
}

impl Resource for Inotify {
    const NAME: &'static str = "inotify";
}

/// What is known of where watched inodes are.
struct Search<'a, 'b> {
    from: &'a Capturing<'b>,
    /// Watches that are not found yet, by inode number.
    wanted: BTreeMap<u64, Vec<InotifyWatch>>,
    found: Vec<Watch>,
    /// The file system whose paths are those of processes, who are not there when a thaw looks.
    of_processes: Option<u64>,
    /// Directories to look into, and those that were.
    next: Vec<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
    /// Those of which somebody in the tree is told when they are read. That is not done before all others were.
    heard: BTreeSet<Vec<u8>>,
    reads_heard: bool,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(watches: Vec<InotifyWatch>, from: &'a Capturing<'b>) -> Self {
        let mut wanted: BTreeMap<u64, Vec<InotifyWatch>> = BTreeMap::new();
        watches.into_iter().for_each(|w| wanted.entry(w.ino).or_default().push(w));
        let of_processes = from.probe.stat_path(b"/proc").ok().flatten().map(|proc| proc.dev);
        let (found, next) = (Vec::new(), Vec::new());
        let (seen, heard) = (BTreeSet::new(), BTreeSet::new());
        Search { from, wanted, found, of_processes, next, seen, heard, reads_heard: false }
    }

    /// Whether a watch is of what stands at a path, or of the symbolic link that does (inotify(7), IN_DONT_FOLLOW).
    fn is_at(&mut self, path: &[u8]) {
        if let Ok(Some(link)) = self.from.probe.stat_link(path)
            && link.mode & S_IFMT == S_IFLNK
        {
            self.is_of(path, link);
        }
        if let Ok(Some(there)) = self.from.probe.stat_path(path) {
            self.is_of(path, there);
        }
    }

    fn is_of(&mut self, path: &[u8], there: FileStat) {
        let is_of_process = self.of_processes == Some(there.dev) && is_of_process(path);
        let Some(watches) = self.wanted.get_mut(&there.ino).filter(|_| !is_of_process) else { return };
        let dev = (proc::major(there.dev), proc::minor(there.dev));
        let file_type = there.mode & S_IFMT;
        let here = watches.extract_if(.., |w| proc::kernel_dev(w.sdev) == dev);
        self.found.extend(here.map(|w| found(w, path, file_type, None)));
        if file_type == S_IFDIR {
            self.next.push(path.into());
        }
    }

    /// What is open needs no name.
    fn by_descriptions(&mut self) {
        for seen in self.from.probe.removed() {
            let (dev, file_type) = ((proc::major(seen.dev), proc::minor(seen.dev)), seen.mode & S_IFMT);
            let Some(watches) = self.wanted.get_mut(&seen.ino) else { continue };
            let here = watches.extract_if(.., |w| proc::kernel_dev(w.sdev) == dev);
            self.found.extend(here.map(|w| found(w, &seen.shown, file_type, Some(seen.description))));
        }
    }

    fn is_done(&self) -> bool {
        self.wanted.values().all(Vec::is_empty)
    }

    /// By the handles: the path is that of the inode below a mount of its file system.
    fn by_handles(&mut self) -> Result<(), Trouble> {
        let mounts = proc::mountinfo(&self.from.probe.text_around("mountinfo")?)?;
        for w in self.wanted.values().flatten().cloned().collect::<Vec<_>>() {
            let Some((kind, handle)) = &w.handle else { continue };
            for mount in mounts.iter().filter(|m| m.dev == proc::kernel_dev(w.sdev)) {
                if let Some(path) = self.from.probe.path_of(&mount.mount_point, *kind, handle) {
                    self.is_at(&path);
                }
            }
        }
        Ok(())
    }

    /// Where it is likely: the working directory and what is below it, what the tree has open and where that is, the words of the command line, the
    /// directories that the environment names, those of a message bus (dbus-daemon(1)), and what is in directories that are watched.
    fn by_guesses(&mut self) -> Result<(), Trouble> {
        let probe = self.from.probe;
        let cwd = probe.link("cwd")?;
        let words = probe.text("cmdline")?;
        let words = words.split(|b| *b == 0).filter(|w| !w.is_empty());
        let named = words.map(|w| if w[0] == b'/' { w.to_vec() } else { [&cwd[..], b"/", w].concat() });
        for path in [cwd.clone()].into_iter().chain(probe.open_paths()).chain(named).collect::<Vec<_>>() {
            self.is_at(&path);
            self.next.extend([super::place::parent(&path).to_vec(), path]);
        }
        for base in named_by(&probe.text("environ").unwrap_or_default()) {
            let bus = [&base[..], BUS].concat();
            self.is_at(&base);
            self.is_at(&bus);
            self.next.extend([base, bus]);
        }
        self.next.push(cwd.clone());
        while let Some(directory) = self.next.pop().filter(|_| !self.is_done()) {
            if self.seen.insert(directory.clone()) {
                self.look_into(&directory);
            }
        }
        self.below([cwd].into());
        let heard = std::mem::take(&mut self.heard);
        if !self.is_done() && !heard.is_empty() {
            self.reads_heard = true;
            self.below(heard.into_iter().collect());
        }
        Ok(())
    }

    /// Gives the directories in it.
    fn look_into(&mut self, directory: &[u8]) -> Vec<Vec<u8>> {
        if !self.reads_heard && self.from.probe.hears_of(directory, None) {
            self.heard.insert(directory.to_vec());
            return Vec::new();
        }
        let below = directory.strip_suffix(b"/").unwrap_or(directory);
        let mut directories = Vec::new();
        for Entry { ino, name, is_directory } in self.from.probe.entries(directory) {
            let path = [below, b"/", &name].concat();
            if self.wanted.contains_key(&ino) {
                self.is_at(&path);
            }
            directories.extend(is_directory.then_some(path));
        }
        directories
    }

    /// In directories and all that is below them, what is nearer first; but the tree stands still meanwhile. In none twice.
    fn below(&mut self, mut next: VecDeque<Vec<u8>>) {
        const MOST: usize = 2000;
        let mut been = BTreeSet::new();
        for _ in 0..MOST {
            let Some(directory) = next.pop_front().filter(|_| !self.is_done()) else { return };
            if been.insert(directory.clone()) {
                next.extend(self.look_into(&directory));
            }
        }
    }
}

/// Whether a path of /proc leads to what is there only as long as a process is.
fn is_of_process(path: &[u8]) -> bool {
    procfile::process(path).is_some() || path.starts_with(b"/proc/self/") || path.starts_with(b"/proc/thread-self/")
}

/// Below each of its directories a message bus has one of its own.
const BUS: &[u8] = b"/dbus-1";

/// The directories of an environment (environ(7)), and those in which the system's own things are.
fn named_by(environ: &[u8]) -> Vec<Vec<u8>> {
    let value = |text: &[u8]| text.iter().position(|b| *b == b'=').map_or(Vec::new(), |at| text[at + 1..].to_vec());
    let values = environ.split(|b| *b == 0).map(value);
    let home = environ.split(|b| *b == 0).find_map(|text| text.strip_prefix(b"HOME="));
    let own = home.map(|home| [home, b"/.local/share"].concat());
    let named = values.flat_map(|value| value.split(|b| *b == b':').map(<[u8]>::to_vec).collect::<Vec<_>>());
    let usual = ["/etc", "/run", "/usr/share", "/usr/local/share"].map(|base| base.as_bytes().to_vec());
    named.chain(own).chain(usual).filter(|path| path.starts_with(b"/") && path.len() > 1).collect()
}

fn found(w: InotifyWatch, path: &[u8], file_type: u32, description: Option<u32>) -> Watch {
    Watch { wd: w.wd, path: Text(path.into()), mask: w.mask, file_type, description }
}

/// Where the watches lead, ascending by id; those that were not found.
pub(super) fn find(
    watches: Vec<InotifyWatch>,
    seen: &Seen,
    from: &mut Capturing<'_>,
) -> Result<(Vec<Watch>, Vec<InotifyWatch>), Trouble> {
    let mut search = Search::new(watches, from);
    search.by_handles()?;
    if !search.is_done() {
        search.by_guesses()?;
    }
    search.by_descriptions();
    let Search { mut found, wanted, reads_heard, .. } = search;
    abi::sort_by_key(&mut found, |w| w.wd);
    if reads_heard {
        from.note(seen.title(), "the program is told that directories were read: what it watches was looked for there");
    }
    Ok((found, wanted.into_values().flatten().collect()))
}

/// The refusal of a watch of which nobody knows where it leads.
fn not_found(seen: &Seen, w: &InotifyWatch) -> Refusal {
    let (major, minor) = proc::kernel_dev(w.sdev);
    let what = format!("its watch {} is of inode {} on device {major}:{minor}, whose path is not found", w.wd, w.ino);
    seen.refuse(
        what,
        "it may have been removed, or be of a process (/proc); root finds what is elsewhere, by its handle",
    )
}

impl Inotify {
    /// How many ids were given to watches that are gone, as far as the last that is there.
    fn gone(&self) -> u32 {
        self.watches.last().map_or(0, |last| last.wd.saturating_sub(self.watches.len() as u32))
    }

    /// Whether that are more than are given again.
    pub(crate) fn is_too_far(&self) -> bool {
        self.gone() > GONE_MAX
    }
}

/// How many bytes of events wait.
pub(super) fn ask_waiting(seen: &Seen) -> Call {
    Call::new(Sys::Ioctl, [Arg::Int(seen.fd.into()), Arg::Int(FIONREAD), Arg::Out(4)])
}

/// Whether events wait, which make no way into the image.
pub(super) fn waits(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    Ok(written(&all(from, &[ask_waiting(seen)])?[0]).iter().any(|byte| *byte != 0))
}

impl Kind for Inotify {
    const FLIES: bool = false;

    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:inotify"
    }

    fn asks(seen: &Seen, _: &dyn Probe) -> Vec<Call> {
        vec![ask_waiting(seen)]
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        let lost = waits(seen, from)?;
        if lost {
            let why = "events wait that the program has not read: it will be told that some were lost (IN_Q_OVERFLOW)";
            from.note(seen.title(), why);
        }
        let (watches, unknown) = find(proc::inotify_watches(&seen.info.text)?, seen, from)?;
        refusals.extend(unknown.iter().map(|w| not_found(seen, w)));
        for w in watches.iter().filter(|w| w.description.is_none()) {
            w.wanted().note(seen.title(), &w.path, from);
        }
        let inotify = Inotify { flags: seen.flags(), watches, lost };
        if refusals.is_empty() && inotify.is_too_far() {
            let why = format!("{} of its watches are gone, and the ids of the others are too high", inotify.gone());
            refusals.push(seen.refuse(why, "start the program anew"));
        }
        if refusals.is_empty() { Ok(inotify) } else { Err(Trouble::Refused(refusals)) }
    }

    /// fs/notify/mark.c, `fsnotify_wait_marks_destroyed`.
    fn ends_slowly(&self) -> bool {
        true
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        to.to.make(Self::NAME, descr, Sys::InotifyInit1, vec![u64::from(self.flags & flags::NONBLOCK).into()]);
        set_status(Self::NAME, descr, (self.flags, self.flags & flags::NONBLOCK), to);
        let mut adding = Adding { descr, begun: None, to };
        let mut next = 1;
        for w in &self.watches {
            adding.look(w);
            adding.skip(next, w);
            adding.add(w.wd, w, w.mask);
            next = w.wd + 1;
        }
        if self.lost {
            adding.overflow(next);
        }
    }

    fn places(&self) -> Vec<&Text> {
        self.watches.iter().filter(|w| w.description.is_none()).map(|w| &w.path).collect()
    }
}

impl Watch {
    /// What must stand there.
    fn wanted(&self) -> Wanted<'static> {
        Wanted::followed_unless_link("what is watched", self.file_type)
    }
}

/// Where what is watched can be had: where it was, or by the description of what has no name.
pub(super) fn place_of(path: &Text, description: Option<u32>, to: &Planning<'_>) -> Text {
    let number = description.map(|id| to.number(Descr(id)));
    number.map_or(path.clone(), |n| Text(format!("/proc/self/fd/{n}").into_bytes()))
}

/// The steps that add watches: one after the other, behind all others.
struct Adding<'a, 'b> {
    descr: Descr,
    begun: Option<()>,
    to: &'a mut Planning<'b>,
}

impl Adding<'_, '_> {
    fn call(&mut self, sys: Sys, args: Vec<Value>, expect: Expect) {
        self.step(Op::Call { sys, args, expect });
    }

    fn step(&mut self, op: Op) {
        let (needs, makes) = match self.begun {
            // The first waits for everything, and the others for the first.
            None => (
                [crate::planning::committed(self.to.model), vec![Fact::Made(self.descr)]].concat(),
                Fact::Linked(self.descr),
            ),
            Some(()) => (vec![Fact::Linked(self.descr)], Fact::Filled(self.descr)),
        };
        self.begun = Some(());
        self.to.to.step(Moment::Arm, Inotify::NAME, Actor::Store, op, needs, vec![makes]);
    }

    /// What is watched is here, unless the image puts it there.
    fn look(&mut self, w: &Watch) {
        let saved = self.to.model.files.values().any(|f| f.path == w.path && f.contents.is_some() && !f.is_gone());
        if !saved && w.description.is_none() {
            w.wanted().look(&w.path, self.to);
        }
    }

    fn add(&mut self, wd: u32, w: &Watch, mask: u32) {
        let path = place_of(&w.path, w.description, self.to);
        let mask = if w.file_type == S_IFLNK { mask | IN_DONT_FOLLOW } else { mask };
        let args = vec![Value::Descr(self.descr), Value::Bytes(path.c_string()), u64::from(mask).into()];
        self.call(Sys::InotifyAddWatch, args, Expect::Exactly(wd.into()));
    }

    /// The queue says that events were lost. It does so when it is full (fs/notify/notification.c, fsnotify_insert_event): of a file that
    /// nobody else has, as many things are told as it holds; what tells of the end of that watch is too much; and all but the word of that, the last,
    /// is read away. What happens meanwhile to what the program watches is among the lost.
    fn overflow(&mut self, wd: u32) {
        const LOST: &str = "an inotify instance does not tell that events were lost";
        let told = self.to.to.host.told.get(HOLDS).and_then(|text| text.trim().parse().ok());
        let holds: u64 = told.unwrap_or(0);
        if holds == 0 || holds > QUEUE_MAX {
            return self.to.to.note(LOST);
        }
        let file = self.to.to.scratch();
        self.to.to.make(Inotify::NAME, file, Sys::MemfdCreate, vec![Value::Bytes(b"events\0".to_vec()), 0.into()]);
        let number = self.to.number(file);
        let path = format!("/proc/self/fd/{number}\0").into_bytes();
        let args = vec![Value::Descr(self.descr), Value::Bytes(path), u64::from(IN_MODIFY | IN_ATTRIB).into()];
        self.call(Sys::InotifyAddWatch, args, Expect::ExactlyOrTold(wd.into(), LOST));
        // Two of the same kind, one after the other, would be one.
        let calls = [(Sys::Ftruncate, 0), (Sys::Fchmod, 0o600)];
        let calls = calls.map(|(sys, value)| Call::new(sys, [number, value].map(Arg::Int))).into();
        self.step(Op::Again { calls, times: holds.div_ceil(2) as u32 });
        let args = vec![Value::Descr(self.descr), u64::from(wd).into()];
        self.call(Sys::InotifyRmWatch, args, Expect::Whatever);
        self.step(Op::Drain { descr: self.descr, but: EVENT_SIZE });
    }

    /// Ids are given one after the other (fs/notify/inotify/inotify_user.c, inotify_add_to_idr): those from `first` up to
    /// that of the watch to others of the same inode, which are removed again. An inode has one at a time.
    fn skip(&mut self, first: u32, w: &Watch) {
        for start in (first..w.wd).step_by(ROUND as usize) {
            let round = start..w.wd.min(start + ROUND);
            for wd in round.clone() {
                self.add(wd, w, IN_DELETE_SELF);
                let args = vec![Value::Descr(self.descr), u64::from(wd).into()];
                self.call(Sys::InotifyRmWatch, args, Expect::Success);
            }
            // Each has left an IN_IGNORED.
            let len = EVENT_SIZE * round.len() as u64;
            let args = vec![Value::Descr(self.descr), Value::Out(len as usize), len.into()];
            self.call(Sys::Read, args, Expect::Exactly(len));
        }
    }
}
