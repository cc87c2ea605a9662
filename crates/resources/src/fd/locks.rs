//! Locks on files: of processes (fcntl(2), F_SETLK), of descriptions (F_OFD_SETLK, flock(2)); leases (F_SETLEASE).
//!
//! - seen as    `lock:` in the fdinfo of a descriptor; the text of /proc/locks
//! - captured   kind, range, and whether it is exclusive
//! - recreated  `flock` and `fcntl(F_OFD_SETLK)` on the description, `flock` by the process that asked for it, whose id the
//!   kernel tells; `fcntl(F_SETLK)` by the process that had it, or else by another with its table of descriptors, once nothing is
//!   closed in that any more: to close any descriptor of a file gives up all locks that a process has on it. Who waits for
//!   a lock goes on waiting. A lease is taken by who
//!   had taken it, if he has the file, as its signals tell of his number; one that is being broken is broken again, by an open(2)
//!   that nobody is told of
//! - refused    by the thaw, where another process has a lock by then that does not allow ours; a lease of something else than
//!   a file; the contents of a file with a lease that reading them would break
//! - not kept   who had asked for one (F_GETLK), if it has ended and its table of descriptors has not: told;
//!   one of a description that only an area of memory keeps: told, if the area is shared (MAP_SHARED); nobody has the lock while the tree is not there; for how long a lease is being broken already

use super::{S_IFMT, S_IFREG, flags};
use crate::{At, CaptureTree, Capturing, Planning, ProcessModel, Resource, Told, Trouble};
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use abi::proc::{self, Lock, LockClass};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose lock it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// A process's.
    #[n(0)]
    Process,
    /// A description's, by fcntl(2).
    #[n(1)]
    Description,
    /// A description's, by flock(2).
    #[n(2)]
    Whole,
    /// A description's, by F_SETLEASE.
    #[n(3)]
    Lease,
}

/// A lock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Held {
    /// Whose it is.
    #[n(0)]
    pub of: Of,
    /// The description of the file.
    #[n(1)]
    pub description: u32,
    /// The process that has it; of flock(2), who asked for it, if that is of the tree; else 0.
    #[n(2)]
    pub process: u32,
    /// By which descriptor a process has it; else 0.
    #[n(3)]
    pub number: u32,
    /// Whether nobody else may have one there.
    #[n(4)]
    pub exclusive: bool,
    /// The first byte.
    #[n(5)]
    pub start: u64,
    /// The last byte; `None`: to the end of the file, wherever that is.
    #[n(6)]
    pub end: Option<u64>,
    /// Of a lease that is being broken: what it is to become (F_RDLCK, F_UNLCK).
    #[n(7)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<u32>,
    /// Who asked for a process's, if that was another one with the same table of descriptors: its id, or that which it had here, if it has ended.
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct FileLocks {
    /// All of them.
    #[n(0)]
    pub held: Vec<Held>,
}

/// The text that tells which files are locked here.
pub(crate) const LOCKED: &str = "/proc/locks";
const F_SETLK: u64 = 6;
const F_OFD_SETLK: u64 = 37;
const F_SETOWN: u64 = 8;
const F_SETLEASE: u64 = 1024;
const F_UNLCK: u32 = 2;
const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_NB: u64 = 4;

impl Resource for FileLocks {
    const NAME: &'static str = "file-locks";
}

/// Whether it is a lock that a thaw can ask for again, of something with this mode.
pub(crate) fn is_kept(line: &[u8], mode: u32) -> bool {
    proc::lock(line).is_some_and(|lock| match lock.class {
        LockClass::Other => false,
        LockClass::Lease => mode & S_IFMT == S_IFREG,
        _ => true,
    })
}

/// Who asked for the lock of a process, if not that one (clone(2), CLONE_FILES): the owner is a table of descriptors, and it goes on when
/// who asked has ended (fs/locks.c, `posix_same_owner`).
fn asked(lock: &Lock, seen: &Told, from: &Capturing<'_>) -> Option<u32> {
    // In the /proc of another pid namespace who has ended is 0 (fs/locks.c, `locks_translate_pid`).
    let asked = u32::try_from(lock.pid).ok().filter(|asked| *asked != seen.pid && *asked != 0)?;
    Some(from.probe.inner_tid(asked).unwrap_or(asked))
}

/// Whether somebody else has the description who had taken the lease on it.
fn is_of_another(lock: &Lock, seen: &Told, told: &[Told]) -> bool {
    let takes = |other: &Told| i64::from(other.pid) == lock.pid && other.description == seen.description;
    lock.class == LockClass::Lease && !takes(seen) && told.iter().any(takes)
}

/// Whether a lock may be asked for by such a descriptor (fcntl(2)).
fn allows(flags: u32, exclusive: bool) -> bool {
    let mode = flags & flags::ACCMODE;
    if exclusive { mode != 0 } else { mode != flags::WRONLY }
}

fn held(lock: &Lock, seen: &Told, from: &Capturing<'_>) -> Option<Held> {
    let Lock { exclusive, start, end, .. } = *lock;
    let of = match lock.class {
        LockClass::Posix => Of::Process,
        LockClass::Ofd => Of::Description,
        LockClass::Flock => Of::Whole,
        LockClass::Lease => Of::Lease,
        LockClass::Other => return None,
    };
    // What is being broken shows what it is to become.
    let exclusive = if lock.becomes.is_some() { seen.flags & flags::ACCMODE != flags::RDONLY } else { exclusive };
    let (process, number) = match of {
        // Only who has the table of the owner shows it (fs/locks.c, `__show_fd_locks`). By a descriptor that allows it.
        Of::Process if !allows(seen.flags, exclusive) => return None,
        Of::Process | Of::Lease => (from.probe.inner_tid(seen.pid)?, seen.number),
        Of::Whole => (u32::try_from(lock.pid).ok().and_then(|pid| from.probe.inner_tid(pid)).unwrap_or(0), 0),
        Of::Description => (0, 0),
    };
    let (description, becomes) = (seen.description, lock.becomes);
    let asked = asked(lock, seen, from).filter(|_| of == Of::Process);
    Some(Held { of, description, process, number, exclusive, start, end, becomes, asked })
}

/// Tells of locks that no descriptor shows: their descriptions may be there only for areas of memory (munmap(2)), as that of the JVM for what it
/// tells of itself. Of F_OFD_SETLK nobody says whose it is. To read the text of all locks takes a grace period of RCU, in which the tree
/// stands still (fs/locks.c, `locks_start`): only where there is such an area.
fn note_kept_by_areas(told: &[Told], from: &mut Capturing<'_>) {
    if from.files.shared.is_empty() {
        return;
    }
    // Whose they are, each once.
    let mut shown: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for seen in told {
        for lock in seen.lines.iter().filter_map(|line| proc::lock(line)) {
            shown.entry((lock.class, lock.dev, lock.ino)).or_default().insert(seen.description);
        }
    }
    let text = from.probe.host_text(LOCKED).unwrap_or_default();
    for lock in proc::locks(text.as_bytes()).into_iter().filter(|lock| !lock.waits) {
        let Some(path) = from.files.shared_with((proc::makedev(lock.dev.0, lock.dev.1), lock.ino)) else { continue };
        let place = shown.get_mut(&(lock.class, lock.dev, lock.ino));
        let is_shown = place.is_some_and(|left| left.pop_first().is_some() || lock.class == LockClass::Ofd);
        let is_ours = u32::try_from(lock.pid).is_ok_and(|pid| from.probe.inner_tid(pid).is_some());
        let call = match lock.class {
            LockClass::Flock if is_ours => "flock",
            LockClass::Ofd => "F_OFD_SETLK",
            _ => continue,
        };
        if !is_shown {
            from.note(
                path,
                format!("no descriptor shows a lock on it ({call}): if an area of memory keeps it, it is lost"),
            );
        }
    }
}

impl CaptureTree for FileLocks {
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble> {
        let told = from.probe.lines("lock");
        let (mut known, mut all) = (BTreeSet::new(), Vec::new());
        for seen in &told {
            let locks = seen.lines.iter().filter_map(|line| proc::lock(line));
            for lock in locks.filter(|lock| !is_of_another(lock, seen, &told)) {
                let Some(it) = held(&lock, seen, from) else { continue };
                // Every descriptor of the file shows a lock of its process, and every one of a description the lock of that.
                let whose = if it.of == Of::Process { it.process } else { it.description };
                if known.insert((it.of, whose, lock.dev, lock.ino, it.start)) {
                    all.push(it);
                }
            }
        }
        note_kept_by_areas(&told, from);
        Ok((!all.is_empty()).then_some(FileLocks { held: all }))
    }

    fn plan(&self, _: At, to: &mut Planning<'_>) {
        self.held.iter().for_each(|held| held.plan(to));
    }
}

/// `struct flock` (fcntl(2)): a length of 0 is to the end of the file.
fn flock(held: &Held) -> Value {
    let mut bytes = vec![0; 32];
    bytes[0] = held.exclusive.into();
    bytes[8..16].copy_from_slice(&held.start.to_ne_bytes());
    let len = held.end.map_or(0, |end| end.saturating_sub(held.start).saturating_add(1));
    bytes[16..24].copy_from_slice(&len.to_ne_bytes());
    Value::Bytes(bytes)
}

impl Held {
    fn plan(&self, to: &mut Planning<'_>) {
        if let Some(refusal) = self.taken(to) {
            to.to.refuse(refusal);
            return;
        }
        let descr = Descr(self.description);
        let (sys, args) = match self.of {
            Of::Process => return self.plan_of_process(to),
            Of::Lease => return self.plan_lease(to),
            Of::Description => (Sys::Fcntl, vec![Value::Descr(descr), F_OFD_SETLK.into(), flock(self)]),
            Of::Whole => {
                let kind = if self.exclusive { LOCK_EX } else { LOCK_SH };
                (Sys::Flock, vec![Value::Descr(descr), (kind | LOCK_NB).into()])
            }
        };
        let op = Op::Call { sys, args, expect: Expect::Success };
        let asked = to.model.process(self.process).filter(|p| self.of == Of::Whole && !p.process.is_zombie());
        let Some(asked) = asked.map(|p| p.process.clone()) else {
            return to.to.step(Moment::Link, FileLocks::NAME, Actor::Store, op, vec![Fact::Made(descr)], vec![]);
        };
        // The kernel tells for ever whose call it was (fs/locks.c, `flock_make_lock`).
        let (tid, table) = (Tid(asked.pid), Pid(asked.shares.files.unwrap_or(asked.pid)));
        let (needs, makes) = (vec![Fact::Made(descr), Fact::Born(tid)], vec![Fact::Files(table)]);
        to.to.step(Moment::Link, FileLocks::NAME, Actor::Thread(tid), op, needs, makes);
    }

    /// By who had asked for it, if that lives with the table: F_GETLK tells of it.
    fn plan_of_process(&self, to: &mut Planning<'_>) {
        let has_table = |p: &&ProcessModel| p.process.ended.is_none() && p.process.shares.files == Some(self.process);
        let asked = self.asked.map(|asked| (asked, to.model.process(asked).filter(has_table)));
        let by = Tid(asked.and_then(|(_, living)| living).map_or(self.process, |p| p.process.pid));
        if let Some((asked, None)) = asked {
            to.to.note(format!(
                "process {asked} had asked for a lock of process {} and ended, or has other descriptors now: it is told to be of the latter (F_GETLK)",
                self.process
            ));
        }
        let args = vec![u64::from(self.number).into(), F_SETLK.into(), flock(self)];
        let op = Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success };
        let needs = vec![Fact::Closed(Pid(self.process)), Fact::Born(by)];
        to.to.step(Moment::Arm, FileLocks::NAME, Actor::Thread(by), op, needs, vec![Fact::Whole(by)]);
    }

    /// Who takes a lease gets its signals, unless somebody does already (fs/locks.c, `lease_setup`): here nobody does, until that is
    /// set. An open(2) that does not wait breaks it and fails.
    fn plan_lease(&self, to: &mut Planning<'_>) {
        let (tid, mut before) = (Tid(self.process), Fact::Closed(Pid(self.process)));
        for (command, arg) in [(F_SETLEASE, self.exclusive.into()), (F_SETOWN, 0)] {
            let args = vec![u64::from(self.number).into(), command.into(), Value::Int(arg)];
            let op = Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success };
            let done = Fact::Made(to.to.scratch());
            let makes = vec![Fact::Whole(tid), done.clone()];
            to.to.step(Moment::Arm, FileLocks::NAME, Actor::Thread(tid), op, vec![before], makes);
            before = done;
        }
        let Some(becomes) = self.becomes else { return };
        let link = format!("/proc/self/fd/{}\0", to.number(Descr(self.description))).into_bytes();
        let how = flags::NONBLOCK | if becomes == F_UNLCK { flags::WRONLY } else { flags::RDONLY };
        let args = vec![AT_FDCWD.into(), Value::Bytes(link), u64::from(how).into(), 0.into()];
        let op = Op::Call { sys: Sys::Openat, args, expect: Expect::Whatever };
        to.to.step(Moment::Arm, FileLocks::NAME, Actor::Store, op, vec![before], vec![]);
    }

    /// A lock of another process that does not allow this one.
    fn taken(&self, to: &Planning<'_>) -> Option<Refusal> {
        let file = to.model.descriptions.get(&self.description)?.file()?;
        let path = &to.model.files.get(&file)?.path;
        let (dev, ino) = to.to.host.files.get(&path.0)?.inode?;
        let dev = (proc::major(dev), proc::minor(dev));
        let text = to.to.host.told.get(LOCKED)?;
        let other = proc::locks(text.as_bytes()).into_iter().find(|l| (l.dev, l.ino) == (dev, ino) && self.meets(l))?;
        let who = if other.pid > 0 { format!("process {}", other.pid) } else { "another process".into() };
        let why = format!("the program had a lock on it, and {who} has one now");
        Some(Refusal::new(path.to_string(), why, "end that process first, or wait until it gives it up"))
    }

    fn meets(&self, other: &Lock) -> bool {
        let alike = match self.of {
            Of::Whole => other.class == LockClass::Flock,
            Of::Lease => other.class == LockClass::Lease,
            _ => matches!(other.class, LockClass::Posix | LockClass::Ofd),
        };
        let (end, its) = (self.end.unwrap_or(u64::MAX), other.end.unwrap_or(u64::MAX));
        alike && !other.waits && (self.exclusive || other.exclusive) && self.start <= its && other.start <= end
    }
}
