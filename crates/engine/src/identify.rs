//! Which descriptors share a description. Asked of the kernel (kcmp(2)), never guessed, and only where it may be so.

use crate::Error;
use crate::ahead::Ahead;
use crate::likeness;
use abi::consts::file_type::{S_IFIFO, S_IFSOCK};
use abi::consts::open::O_CLOEXEC;
use abi::layout::{FileStat, Timespec};
use abi::{Fault, proc};
use resources::Text;
use resources::fd::Seen;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, Stat, openat, readlinkat, statat};
use rustix::path::DecInt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use tracee::procfs::{by_halves, record_of};

/// The descriptors of a tree by description, in the order of the first process and number that lead to each.
pub(crate) struct Table {
    /// One for each description.
    pub(crate) descriptions: Vec<Seen>,
    /// Of each process: number, index of its description, and whether it is closed on `execve`.
    pub(crate) numbers: BTreeMap<i32, Vec<(u32, usize, bool)>>,
    /// Which ends of each pipe somebody in the tree has: access modes (open(2)) as bits. A named one may have several names, so
    /// device and inode number tell which it is.
    ends: HashMap<(u64, u64), u32>,
    /// The links of the pipes and sockets.
    links: HashSet<Text>,
    /// Every descriptor, with the index of its description.
    pub(crate) all: Vec<(usize, Seen)>,
    /// The descriptions that are in flight, by the numbers of our own copies.
    pub(crate) flying: BTreeMap<u32, usize>,
}

impl Table {
    /// Whether somebody in the tree has the end of the pipe that this one is not.
    pub(crate) fn has_other_end(&self, seen: &Seen) -> bool {
        access(seen) == BOTH || self.ends.get(&inode(seen)).is_some_and(|ends| ends & !access(seen) != 0)
    }

    /// Whether somebody in the tree has the pipe or socket with this link.
    pub(crate) fn has_link(&self, link: &[u8]) -> bool {
        self.links.contains(&Text::from(link))
    }
}

/// Somebody may read and write.
const BOTH: u32 = 4;

/// What may be done with it, as a bit: 1 to read, 2 to write, or [`BOTH`].
fn access(seen: &Seen) -> u32 {
    1 << (seen.info.flags & 3)
}

fn inode(seen: &Seen) -> (u64, u64) {
    (seen.stat.dev, seen.stat.ino)
}

/// What stat(2) told, in the form in which the kernel tells it.
pub(crate) fn file_stat(s: Stat) -> FileStat {
    let time = |sec, nsec| Timespec { sec, nsec: nsec as i64 };
    FileStat {
        dev: s.st_dev,
        ino: s.st_ino,
        nlink: s.st_nlink,
        mode: s.st_mode,
        uid: s.st_uid,
        gid: s.st_gid,
        rdev: s.st_rdev,
        size: s.st_size,
        blksize: s.st_blksize,
        blocks: s.st_blocks,
        atime: time(s.st_atime, s.st_atime_nsec),
        mtime: time(s.st_mtime, s.st_mtime_nsec),
        ctime: time(s.st_ctime, s.st_ctime_nsec),
    }
}

/// A directory of /proc that has a name for each descriptor of a process. What is below it is looked for from there on.
pub(crate) struct Listed(OwnedFd);

impl Listed {
    pub(crate) fn open(path: String) -> Result<Listed, Fault> {
        let directory = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        directory.map(Listed).map_err(|e| Fault::new("open", path, std::io::Error::from(e)))
    }

    /// The numbers that are open.
    pub(crate) fn numbers(&self) -> rustix::io::Result<Vec<u32>> {
        let mut room = [MaybeUninit::uninit(); 2048];
        let (mut entries, mut all) = (RawDir::new(&self.0, &mut room), Vec::new());
        while let Some(entry) = entries.next() {
            all.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(all)
    }

    /// Where the link of a number leads.
    pub(crate) fn link(&self, fd: u32) -> rustix::io::Result<Vec<u8>> {
        Ok(readlinkat(&self.0, DecInt::new(fd), Vec::new())?.into_bytes())
    }

    fn stat(&self, fd: u32) -> rustix::io::Result<FileStat> {
        statat(&self.0, DecInt::new(fd), AtFlags::empty()).map(file_stat)
    }

    /// The text of a number, which is one record.
    fn text(&self, fd: u32) -> std::io::Result<Vec<u8>> {
        let file = openat(&self.0, DecInt::new(fd), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        record_of(file.into())
    }
}

/// The two directories that tell of the descriptors of a process.
fn listed(pid: i32) -> Result<[Listed; 2], Fault> {
    Ok([Listed::open(format!("/proc/{pid}/fd"))?, Listed::open(format!("/proc/{pid}/fdinfo"))?])
}

fn see([links, infos]: &[Listed; 2], pid: i32, fd: u32) -> Result<Seen, Error> {
    let fault = |e: std::io::Error| Error::from(Fault::new("look", format!("/proc/{pid}/fd/{fd}"), e));
    let link = links.link(fd).map_err(|e| fault(e.into()))?;
    // These tell only what they can without waiting for somebody else who asks (io_uring/fdinfo.c): so of us only one does.
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = (link == b"anon_inode:[io_uring]").then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    let info = infos.text(fd).map_err(fault)?;
    drop(alone);
    Ok(Seen {
        pid: pid as u32,
        fd,
        link: Text(link),
        stat: links.stat(fd).map_err(|e| fault(e.into()))?,
        info: proc::fdinfo(&info).map_err(resources::Trouble::from)?,
        terminal: None,
        in_flight: false,
    })
}

/// What is seen of a copy that we have of what is in flight.
pub(crate) fn see_own(fd: u32) -> Result<Seen, Fault> {
    let own = std::process::id() as i32;
    match listed(own).map_err(Error::from).and_then(|directories| see(&directories, own, fd)) {
        Ok(seen) => Ok(Seen { in_flight: true, ..seen }),
        Err(Error::Fault(fault)) => Err(fault),
        Err(_) => Err(Fault::new("read", fd, abi::Errno::EBADF)),
    }
}

/// From so many descriptors on a second thread compares them, too.
const MANY: usize = 64;

/// Descriptors that are looked at at once: a second thread of ours helps where there are many.
const TOGETHER: usize = 32;

/// The table of a stopped process, of which that is a living thread, ascending.
pub(crate) fn descriptors(lead: i32) -> Result<Vec<Seen>, Error> {
    let directories = listed(lead)?;
    let numbers = directories[0].numbers();
    let mut numbers = numbers.map_err(|e| Error::io("readdir", format!("/proc/{lead}/fd"), std::io::Error::from(e)))?;
    abi::sort(&mut numbers);
    let groups = numbers.len().div_ceil(TOGETHER);
    let look = move |n: usize| -> Result<Vec<Seen>, Error> {
        let group = numbers.chunks(TOGETHER).nth(n).into_iter().flatten();
        group.map(|fd| see(&directories, lead, *fd)).collect()
    };
    if groups < 2 {
        return look(0);
    }
    let ahead = Ahead::begin(groups, (0..groups).rev(), look);
    let mut all = Vec::new();
    for n in 0..groups {
        all.append(&mut ahead.take(n)?);
    }
    Ok(all)
}

/// The tables of stopped processes, each given by its id and that of a living thread of it, and by what was seen of its
/// descriptors.
///
/// What is in flight comes last: of what somebody has it tells nothing new.
pub(crate) fn table(
    of: &[(i32, i32)],
    all: Vec<Vec<Seen>>,
    flying: Vec<Seen>,
    terminal: Option<(u32, u32)>,
) -> Result<Table, Error> {
    let own = std::process::id() as i32;
    let (of, all) = (&[of, &[(own, own)]].concat(), all.into_iter().chain([flying]));
    let owned = of.iter().zip(all).flat_map(|((pid, _), own)| own.into_iter().map(|seen| (*pid as u32, seen)));
    let seen: Vec<Seen> = owned.map(|(pid, seen)| Seen { pid, terminal, ..seen }).collect();
    // Only what looks alike can be the same: the same inode, flags and offset. All without a file have one inode: their links tell what
    // they are, and nobody gives them another name; and each eventfd has a number of its own (fs/eventfd.c, `eventfd_show_fdinfo`).
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (i, s) in seen.iter().enumerate() {
        let kind = Some(&s.link.0[..]).filter(|link| link.starts_with(b"anon_inode:"));
        let looks = (s.stat.dev, s.stat.ino, s.flags(), s.info.pos, s.info.mnt_id);
        alike.entry((looks, kind, kind.and_then(|_| s.info.field("eventfd-id")))).or_default().push(i);
    }
    let leads: BTreeMap<i32, i32> = abi::gathered(of.iter().copied());
    let mut first: Vec<usize> = (0..seen.len()).collect();
    let groups: Vec<&Vec<usize>> = alike.values().filter(|g| g.len() > 1).collect();
    for same in by_halves(&groups, seen.len() > MANY, |group| share(&leads, &seen, group)) {
        same?.into_iter().for_each(|(of, with)| first[of] = with);
    }
    let (mut index, mut places) = (BTreeMap::new(), Vec::new());
    let numbers = abi::gathered(of.iter().map(|(pid, _)| (*pid, Vec::new())));
    let mut table = Table {
        descriptions: Vec::new(),
        numbers,
        ends: HashMap::new(),
        links: HashSet::new(),
        all: Vec::new(),
        flying: BTreeMap::new(),
    };
    for s in seen.iter().filter(|s| [S_IFIFO, S_IFSOCK].contains(&s.file_type()) && !s.names_only()) {
        *table.ends.entry(inode(s)).or_default() |= access(s);
        table.links.insert(s.link.clone());
    }
    for (i, s) in seen.iter().enumerate() {
        let at = *index.entry(first[i]).or_insert_with(|| {
            table.descriptions.push(seen[first[i]].clone());
            table.descriptions.len() - 1
        });
        let own = table.numbers.get_mut(&(s.pid as i32)).expect("every process has a table");
        own.push((s.fd, at, s.info.flags & O_CLOEXEC != 0));
        places.push(at);
    }
    let flying = table.numbers.remove(&own).into_iter().flatten();
    table.flying = abi::gathered(flying.map(|(number, at, _)| (number, at)));
    table.all = places.into_iter().zip(seen).collect();
    Ok(table)
}

/// Those of a group that have the description of one before them, each with that one: it has the lowest number of the first process
/// that has it.
fn share(leads: &BTreeMap<i32, i32>, seen: &[Seen], group: &[usize]) -> Result<Vec<(usize, usize)>, Error> {
    let of = |n: usize| (leads[&(seen[n].pid as i32)], seen[n].fd as i32);
    Ok(likeness::pairs(group.to_vec(), |a, b| tracee::sys::kcmp_file(of(*a), of(*b)))?)
}
