//! What processes outside of the tree have in common with it. Those that we may not look at (ptrace(2), "Ptrace access mode
//! checking") are not seen.
//!
//! To look at a process takes 50 to 100 µs, and a host may have thousands. So it is done before the tree is stopped, where
//! there is something that could be shared with any of them; of the stopped tree only those are looked at that were born since, as a
//! description is shared by birth. A descriptor that was found is asked for once more before it counts.

use crate::ahead::Ahead;
use crate::identify::Listed;
use crate::likeness;
use abi::consts::file_type::{S_IFIFO, S_IFMT};
use abi::consts::open::{O_ACCMODE, O_PATH};
use abi::{Errno, Fault, proc};
use resources::Holder;
use resources::fd::Seen;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::borrow::Borrow;
use std::cell::{OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::os::unix::ffi::OsStringExt;
use tracee::procfs::{each, numbers, read};

const DELETED: &[u8] = b" (deleted)";

/// A descriptor of a process.
type Fd = (u32, u32);
/// What a process has that others may have too, as bits: a file or memory that has no name, of which an inode tells who else has it;
/// something else without a path; something with a position.
const NAMELESS: u8 = 1;
const PATHLESS: u8 = 2;
const CONTENTS: u8 = 4;

/// Once something is found without a name, nothing else matters.
fn what_may_matter(pid: u32) -> u8 {
    let Ok(directory) = Listed::open(format!("/proc/{pid}/fd")) else { return 0 };
    let matters = |fd: &u32| directory.link(*fd).map_or(0, |link| what_matters_of(&link));
    let has = each(&directory.numbers().unwrap_or_default(), matters).into_iter().fold(0, |all, one| all | one);
    let is_enough = has & NAMELESS != 0 || areas(pid).iter().any(|(_, area)| area.is_nameless());
    if is_enough { NAMELESS } else { has }
}

/// Of a descriptor with this link.
fn what_matters_of(link: &[u8]) -> u8 {
    match link {
        link if link.ends_with(DELETED) => NAMELESS,
        link if !has_path(link) => PATHLESS | CONTENTS,
        link if has_contents(link) => CONTENTS,
        _ => 0,
    }
}

/// What was found of the link of each descriptor, and of the inode of each shared area.
type Links = Catalog<Vec<u8>, Fd>;
type Areas = Catalog<u64, Use>;
/// Descriptors of ours, with the processes that have the same description.
type Sharers = BTreeMap<Fd, Vec<u32>>;
/// A process that has it open, of each named pipe, by device and inode number.
pub(crate) type Openers = HashMap<(u64, u64), u32>;

/// That a process has an inode open or mapped.
#[derive(Clone, Debug)]
struct Use {
    holder: Holder,
    dev: u64,
    name: Vec<u8>,
}

/// What was found in the processes that were looked at so far.
#[derive(Debug)]
struct Catalog<K, T> {
    looked: HashSet<u32>,
    found: HashMap<K, Vec<T>>,
}

impl<K, T> Default for Catalog<K, T> {
    fn default() -> Self {
        Catalog { looked: HashSet::new(), found: HashMap::new() }
    }
}

impl<K: Eq + Hash, T> Catalog<K, T> {
    /// With what is in all processes that were not looked at yet, but for these and ourselves.
    fn caught_up(self, but: &BTreeSet<u32>, look: impl Fn(u32) -> Vec<(K, T)>) -> Self {
        self.with(numbers("/proc"), but, look)
    }

    /// With what is in these.
    fn with(mut self, all: impl Iterator<Item = u32>, but: &BTreeSet<u32>, look: impl Fn(u32) -> Vec<(K, T)>) -> Self {
        self.looked.extend(but.iter().copied().chain([std::process::id()]));
        for pid in all {
            if self.looked.insert(pid) {
                look(pid).into_iter().for_each(|(key, thing)| self.found.entry(key).or_default().push(thing));
            }
        }
        self
    }

    fn of<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> &[T]
    where
        K: Borrow<Q>,
    {
        self.found.get(key).map_or(&[], Vec::as_slice)
    }
}

/// What the processes outside of a tree have.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// The ids of the tree.
    own: BTreeSet<u32>,
    /// What was found before the tree was stopped, until it is asked for.
    early: RefCell<(Links, Areas)>,
    /// What its relatives have, where no more is needed: a position is shared by birth.
    kin: Option<Links>,
    links: OnceCell<Links>,
    /// By inode.
    uses: OnceCell<HashMap<u64, Vec<Use>>>,
    sharers: OnceCell<Result<Sharers, Fault>>,
    openers: OnceCell<Openers>,
}

impl Outside {
    /// A look at what may matter, while the tree still runs.
    pub(crate) fn look(own: BTreeSet<u32>) -> Outside {
        let pids: Vec<u32> = own.iter().copied().collect();
        let ahead = Ahead::begin(own.len(), (0..own.len()).rev(), move |n: usize| what_may_matter(pids[n]));
        let mut has = 0;
        for n in 0..own.len() {
            // More than that no other one tells.
            if has & NAMELESS == 0 {
                has |= ahead.take(n);
            }
        }
        drop(ahead);
        let mut early = (Links::default(), Areas::default());
        let wide = has & (NAMELESS | PATHLESS) != 0;
        if wide {
            early.0 = early.0.caught_up(&own, links);
        }
        if has & NAMELESS != 0 {
            early.1 = early.1.caught_up(&own, areas);
        }
        let kin = || Links::default().with(relatives(&own).into_iter(), &own, links);
        let kin = (!wide && has & CONTENTS != 0).then(kin);
        Outside { own, early: early.into(), kin, ..Outside::default() }
    }

    /// The tree as it stands still: who was born since the look may be of it.
    pub(crate) fn is_now(&mut self, own: BTreeSet<u32>) {
        self.own = own;
    }

    fn links(&self) -> &Links {
        self.links.get_or_init(|| std::mem::take(&mut self.early.borrow_mut().0).caught_up(&self.own, links))
    }

    fn uses(&self) -> &HashMap<u64, Vec<Use>> {
        self.uses.get_or_init(|| {
            let mut all = std::mem::take(&mut self.early.borrow_mut().1).caught_up(&self.own, areas).found;
            let links = self.links().found.iter().filter(|(link, _)| link.ends_with(DELETED));
            let opened = links.flat_map(|(link, fds)| fds.iter().filter_map(|fd| opened(*fd, link)));
            opened.for_each(|(inode, of)| all.entry(inode).or_default().push(of));
            all
        })
    }

    /// Those in which a descriptor has this link.
    pub(crate) fn with_link(&self, link: &[u8]) -> Vec<u32> {
        let still = |(pid, fd): &&Fd| read_link(*pid, *fd).is_some_and(|now| now == link);
        let outside = |(pid, _): &&Fd| !self.own.contains(pid);
        self.links().of(link).iter().filter(outside).filter(still).map(|(pid, _)| *pid).collect()
    }

    /// Those that have an inode open without a name, or mapped and shared. The device that /proc/PID/maps shows is not always
    /// that of stat(2) (btrfs); then the name tells.
    pub(crate) fn with_inode(&self, dev: u64, inode: u64, name: &[u8]) -> Vec<Holder> {
        let all = self.uses().get(&inode).map_or(&[][..], Vec::as_slice);
        // Of what has a name, only who has it open by that name is looked at.
        let named = if name.ends_with(DELETED) { &[] } else { self.links().of(name) };
        let opened: Vec<Use> = named
            .iter()
            .filter_map(|fd| opened(*fd, name))
            .filter(|(at, of)| (*at, of.dev) == (inode, dev))
            .map(|(_, of)| of)
            .collect();
        let found = all.iter().filter(|of| of.dev == dev || of.name == name).chain(&opened);
        let found = found.filter(|of| !self.own.contains(&of.holder.pid));
        // It may have ended since.
        found.map(|of| of.holder).filter(|holder| tracee::sys::session(holder.pid as i32).is_some()).collect()
    }

    /// One that has opened a named pipe of the tree, by whatever name.
    pub(crate) fn that_opened(&self, dev: u64, inode: u64) -> Option<u32> {
        self.openers.get_or_init(|| openers(&self.own)).get(&(dev, inode)).copied()
    }

    /// Those that have the same description as a descriptor of ours; `own` are all of our descriptions.
    pub(crate) fn with_description(&self, fd: Fd, own: &[Seen]) -> Result<Vec<u32>, Fault> {
        let all = self.sharers.get_or_init(|| self.sharers(own)).as_ref().map_err(Fault::clone)?;
        Ok(all.get(&fd).cloned().unwrap_or_default())
    }

    /// Of a file that has a name only the position can be shared, and who shares that is mostly a shell above, or of the same
    /// session: for it alone not all processes of the host are looked at.
    fn sharers(&self, own: &[Seen]) -> Result<Sharers, Fault> {
        let kin = self.kin.as_ref().filter(|_| own.iter().all(|s| has_path(&s.link.0)));
        let others = |link: &[u8]| kin.unwrap_or_else(|| self.links()).of(link);
        let mut alike: HashMap<&[u8], Vec<Fd>> = HashMap::new();
        for seen in own.iter().filter(|s| has_contents(&s.link.0) && !others(&s.link.0).is_empty()) {
            alike.entry(&seen.link.0).or_default().push((seen.pid, seen.fd));
        }
        let mut all = Sharers::new();
        for (link, own) in alike {
            let others: Vec<Fd> = others(link).iter().filter(|(pid, _)| !self.own.contains(pid)).copied().collect();
            let own = likeness::Sought::among(own, others.len(), compare)?;
            for other in others {
                match own.find(other, compare) {
                    Ok(Some(same)) => all.entry(same).or_default().push(other.0),
                    Ok(None) => {}
                    // It is gone, or closed it, or may not be looked at.
                    Err(fault) if [Errno::ESRCH, Errno::EBADF, Errno::EPERM].contains(&fault.errno) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(all)
    }
}

fn compare(a: &Fd, b: &Fd) -> Result<Ordering, Fault> {
    let signed = |(pid, fd): Fd| (pid as i32, fd as i32);
    tracee::sys::kcmp_file(signed(*a), signed(*b))
}

impl Use {
    /// Memory without a file is shown as `/dev/zero (deleted)`, or by the name that it was given: `[anon_shmem:…]`.
    fn is_nameless(&self) -> bool {
        self.name.ends_with(DELETED) || self.name.starts_with(b"[")
    }
}

/// Whether there may be something behind a descriptor that can be shared: in a device there is not.
fn has_contents(link: &[u8]) -> bool {
    !link.starts_with(b"/dev/") || link.starts_with(b"/dev/shm/")
}

/// Whether a link leads to something that has a name, or had one, in a directory: a POSIX message queue seems to stand beside
/// all of them.
fn has_path(link: &[u8]) -> bool {
    link.starts_with(b"/") && (link.len() == 1 || link[1..].contains(&b'/'))
}

/// The processes of the sessions of a tree, and the parent of its first process, the parent of that, and so on.
fn relatives(own: &BTreeSet<u32>) -> Vec<u32> {
    let session = |pid: u32| tracee::sys::session(pid as i32);
    let stat = |pid: u32| proc::stat(&read(format!("/proc/{pid}/stat")).ok()?).ok();
    let parent = |pid: &u32| stat(*pid).map(|s| s.ppid).filter(|pid| *pid > 1);
    let its: HashSet<_> = own.iter().map(|pid| session(*pid)).collect();
    let mut all: Vec<u32> = numbers("/proc").filter(|pid| its.contains(&session(*pid))).collect();
    all.extend(
        own.iter()
            .filter_map(parent)
            .filter(|pid| !own.contains(pid))
            .flat_map(|up| std::iter::successors(Some(up), parent)),
    );
    all
}

fn read_link(pid: u32, fd: u32) -> Option<Vec<u8>> {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some(link.into_os_string().into_vec())
}

/// The descriptors of a process by where their links lead.
fn links(pid: u32) -> Vec<(Vec<u8>, Fd)> {
    let Ok(directory) = Listed::open(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let numbers = directory.numbers().unwrap_or_default().into_iter();
    numbers.filter_map(|fd| Some((directory.link(fd).ok()?, (pid, fd)))).collect()
}

/// The shared areas of a process by inode.
fn areas(pid: u32) -> Vec<(u64, Use)> {
    let text = read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let areas = proc::maps(&text).unwrap_or_default().into_iter();
    let shared = areas.filter(|a| a.perms.shared && a.inode != 0);
    let of = |a: proc::Area| Use {
        holder: Holder { pid, writes: a.perms.write },
        dev: proc::makedev(a.dev.0, a.dev.1),
        name: a.name,
    };
    shared.map(|a| (a.inode, of(a))).collect()
}

/// Who has named pipes open, of all processes but these and ourselves, who have copies of what is in flight. Whoever opens one is born of nobody who has it, so all are looked at just
/// when it is asked.
pub(crate) fn openers(but: &BTreeSet<u32>) -> Openers {
    let named = |pid| links(pid).into_iter().filter(|(link, _)| has_path(link)).filter_map(|(_, fd)| fifo(fd));
    let all = numbers("/proc").filter(|pid| !but.contains(pid) && *pid != std::process::id());
    abi::gathered(all.flat_map(|pid| named(pid).map(move |inode| (inode, pid))))
}

/// Device and inode number of the named pipe that a descriptor has open, if it has one.
fn fifo((pid, fd): Fd) -> Option<(u64, u64)> {
    let asked = StatxFlags::INO | StatxFlags::TYPE;
    let seen = statx(CWD, format!("/proc/{pid}/fd/{fd}"), AtFlags::STATX_DONT_SYNC, asked).ok()?;
    if u32::from(seen.stx_mode) & S_IFMT != S_IFIFO {
        return None;
    }
    let info = proc::fdinfo(&read(format!("/proc/{pid}/fdinfo/{fd}")).ok()?).ok()?;
    let inode = (proc::makedev(seen.stx_dev_major, seen.stx_dev_minor), seen.stx_ino);
    (info.flags & O_PATH == 0).then_some(inode)
}

/// What stands behind a descriptor whose link tells that it has no name, by inode. A server of files is not asked
/// (AT_STATX_DONT_SYNC): it may be gone, and the tree waits.
fn opened((pid, fd): Fd, link: &[u8]) -> Option<(u64, Use)> {
    let path = format!("/proc/{pid}/fd/{fd}");
    let seen = statx(CWD, &path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    let info = proc::fdinfo(&read(format!("/proc/{pid}/fdinfo/{fd}")).ok()?).ok()?;
    let holder = Holder { pid, writes: info.flags & O_ACCMODE != 0 };
    let dev = proc::makedev(seen.stx_dev_major, seen.stx_dev_minor);
    Some((seen.stx_ino, Use { holder, dev, name: link.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::layout::FileStat;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    #[test]
    fn who_is_born_after_the_look_is_seen() {
        let (us, (file, _write)) = (std::process::id(), std::io::pipe().unwrap());
        let outside = Outside::look(BTreeSet::from([us]));
        let mut child = Command::new("sleep").arg("60").stdin(file.try_clone().unwrap()).spawn().unwrap();
        let fd = file.as_raw_fd() as u32;
        let link = read_link(us, fd).unwrap();
        let info = proc::fdinfo(&read(format!("/proc/{us}/fdinfo/{fd}")).unwrap()).unwrap();
        let seen = Seen {
            pid: us,
            fd,
            link: link.as_slice().into(),
            stat: FileStat::default(),
            info,
            terminal: None,
            in_flight: false,
        };
        let (by_link, sharers) = (outside.with_link(&link), outside.with_description((us, fd), &[seen]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((by_link, sharers.unwrap()), (vec![child.id()], vec![child.id()]));
    }
}
