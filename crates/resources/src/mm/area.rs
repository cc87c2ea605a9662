//! Area: a run of addresses with one protection and one backing (`vm_area_struct`).
//!
//! - seen as    an entry of /proc/PID/smaps
//! - captured   range, protection, backing, name, advice; neighbours that are alike are one area
//! - recreated  `mmap` at its address, then `madvise`, `mlock2`, `prctl(PR_SET_VMA)`, `mseal`
//! - refused    devices, files of huge pages that had a name (of memory: `mm::huge`), userfaultfd, keys, secret memory, shadow
//!   stacks: each by name, and in the list of what is not supported; memory without a name that a process outside
//!   of the tree shares, if one of them writes
//! - not kept   what no area shows of shared memory, where whoever freezes may not look at it (CAP_CHECKPOINT_RESTORE); that there is
//!   nothing behind its end (SIGBUS), where relatives show more of it (mremap(2)) than the first process does, which is told; on a kernel built without them: names of areas, which is told, and advice about huge and equal pages; seals (mseal(2)), which is told

use super::heritage::Kept;
use super::huge;
use super::ring::{self, Ring};
use crate::fd::file::{AS_FILE, Access, NO_FILE};
use crate::fd::{memfd, packet, uring};
use crate::{Capturing, Planning, Text, Trouble};
use abi::consts::madvise::{
    MADV_DONTDUMP, MADV_DONTFORK, MADV_HUGEPAGE, MADV_MERGEABLE, MADV_NOHUGEPAGE, MADV_RANDOM, MADV_SEQUENTIAL,
    MADV_WIPEONFORK,
};
use abi::consts::mmap::{
    MAP_ANONYMOUS, MAP_DROPPABLE, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PAGE,
};
pub(crate) use abi::consts::mmap::{PROT_EXEC, PROT_READ, PROT_WRITE};
use abi::consts::prctl::{PR_SET_VMA, PR_SET_VMA_ANON_NAME};
use abi::{Arg, Call, Errno, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const NAME: &str = "area";

/// What the pages of an area come from.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
pub enum Backing {
    /// Nothing: private memory of the process.
    #[n(0)]
    Anonymous,
    /// A file, from this offset on.
    #[n(1)]
    File {
        /// Its id.
        #[n(0)]
        file: u32,
        /// In bytes.
        #[n(1)]
        offset: u64,
    },
    /// Shared memory without a file, from this offset on.
    #[n(2)]
    Shared {
        /// Its inode number: areas with the same one share it.
        #[n(0)]
        object: u64,
        /// In bytes.
        #[n(1)]
        offset: u64,
    },
    /// A segment of System V shared memory, from this offset on.
    #[n(3)]
    Segment {
        /// Its id.
        #[n(0)]
        id: u32,
        /// In bytes.
        #[n(1)]
        offset: u64,
    },
    /// The ring of a context of asynchronous input and output.
    #[n(4)]
    Ring(#[n(0)] Ring),
    /// The memory of a ring of io_uring.
    #[n(5)]
    Uring {
        /// The id of its description.
        #[n(0)]
        ring: u32,
        /// Which part of it.
        #[n(1)]
        offset: u64,
    },
    /// The rings of a socket of packets.
    #[n(6)]
    Socket {
        /// Its inode number.
        #[n(0)]
        socket: u64,
    },
}

/// What was asked of the kernel for an area, by the two letters of VmFlags in /proc/PID/smaps, and how to ask again.
const ADVICE: [(&[u8; 2], u64); 7] = [
    (b"sr", MADV_SEQUENTIAL),
    (b"rr", MADV_RANDOM),
    (b"dc", MADV_DONTFORK),
    (b"mg", MADV_MERGEABLE),
    (b"nh", MADV_NOHUGEPAGE),
    (b"dd", MADV_DONTDUMP),
    (b"wf", MADV_WIPEONFORK),
];
const BINDING: [u64; 3] = [MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK];
/// Flags that are part of an area, besides the advice.
const KEPT: [&[u8; 2]; 7] = [b"gd", b"lo", b"lf", b"nr", b"hg", b"dp", b"sl"];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Area {
    /// Its first address.
    #[n(0)]
    pub start: u64,
    /// The address behind its last.
    #[n(1)]
    pub end: u64,
    /// PROT_ bits (mmap(2)).
    #[n(2)]
    pub protection: u8,
    /// Whether writes are seen by others (MAP_SHARED).
    #[n(3)]
    pub shared: bool,
    /// Whether a shared file was open for writing, so that the area may become writable.
    #[n(4)]
    pub may_write: bool,
    /// Where its pages come from.
    #[n(5)]
    pub backing: Backing,
    /// A name given by prctl(PR_SET_VMA_ANON_NAME).
    #[n(6)]
    pub name: Option<Text>,
    /// What was asked of the kernel for it: codes of VmFlags, proc_pid_smaps(5).
    #[n(7)]
    pub flags: Vec<String>,
    /// In bytes, the size of the huge pages that it is made of (mmap(2), MAP_HUGETLB); 0: it is made of none.
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "huge::is_none")]
    pub page: u64,
}

impl Area {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Areas are never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether the kernel may empty it at any time (MAP_DROPPABLE).
    pub(super) fn is_droppable(&self) -> bool {
        self.has("dp")
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// Whether the next area continues this one, so that both could have been one.
    pub(crate) fn continues(&self, next: &Area) -> bool {
        let follows = match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (Backing::File { file: a, offset }, Backing::File { file: b, offset: then }) => {
                a == b && offset.checked_add(self.len()) == Some(*then)
            }
            (Backing::Shared { object: a, offset }, Backing::Shared { object: b, offset: then }) => {
                a == b && offset.checked_add(self.len()) == Some(*then)
            }
            (Backing::Segment { id: a, offset }, Backing::Segment { id: b, offset: then }) => {
                a == b && offset.checked_add(self.len()) == Some(*then)
            }
            _ => false,
        };
        let alike = (self.protection, self.shared, self.may_write) == (next.protection, next.shared, next.may_write);
        self.end == next.start
            && follows
            && alike
            && self.name == next.name
            && self.flags == next.flags
            && self.page == next.page
            && !self.has("gd")
    }
}

/// Whether the key of an area is the one that the kernel uses by itself for memory that may only be executed, and will use again.
/// It is none of the program's: to guard something with it is an error, before there is found to be nothing to guard
/// (mm/mprotect.c, `do_mprotect_pkey`).
fn is_only_executed(area: &proc::Area, from: &Capturing<'_>) -> Result<bool, Trouble> {
    const NOWHERE: u64 = 1 << 56;
    let args = [NOWHERE, PAGE, 0, area.key.into()].map(Arg::Int);
    let answers = from.probe.calls(&[Call::new(Sys::PkeyMprotect, args)])?;
    let p = area.perms;
    Ok(p.execute && !p.read && !p.write && answers[0].result == Err(Errno::EINVAL))
}

/// Why an area cannot be kept, if it cannot.
fn unsupported(area: &proc::Area, from: &Capturing<'_>) -> Result<Option<(&'static str, &'static str)>, Trouble> {
    Ok(match () {
        _ if area.has(b"um") || area.has(b"uw") || area.has(b"ui") => {
            Some(("it is watched by userfaultfd", "freeze it while it watches nothing"))
        }
        _ if huge::is_odd_file(area) => {
            let why = "it is a file of huge pages (hugetlbfs) that has no name any more, or a private view of one";
            Some((why, "this is not supported yet"))
        }
        _ if area.key != 0 && !is_only_executed(area, from)? => {
            Some(("it is guarded by a key (pkey_mprotect)", "freeze it while no key guards anything"))
        }
        _ if area.has(b"ss") => Some(("it is a shadow stack", "start the program without them (GLIBC_TUNABLES)")),
        _ if area.has(b"io") || area.has(b"pf") => {
            Some(("it is the memory of a device", "let the program close the device"))
        }
        _ if area.name.starts_with(b"/secretmem") => {
            Some(("it is secret memory, which nobody else can read", "freeze it while it has none"))
        }
        _ if area.name.starts_with(b"anon_inode:") && area.name != uring::LINK => {
            Some(("it belongs to a descriptor that is not supported", "let the program close the descriptor"))
        }
        // Where systemd mounts it, /dev/hugepages is a file system of huge pages.
        _ if area.name.starts_with(b"/dev/")
            && huge::page(area) == 0
            && !area.name.starts_with(b"/dev/zero")
            && !area.name.starts_with(b"/dev/shm/") =>
        {
            Some(("it is the memory of a device", "let the program close the device"))
        }
        _ => None,
    })
}

pub(crate) fn refuse(area: &proc::Area, why: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(format!("area {:x}-{:x} {}", area.start, area.end, Text::from(&area.name[..])), why, remedy)
}

/// The id of the segment of System V shared memory that an area shows: its inode number (ipc/shm.c, newseg). The kernel's own
/// file system has no major number.
pub(super) fn segment(area: &proc::Area) -> Option<u32> {
    let key = area.name.strip_prefix(b"/SYSV")?.strip_suffix(b" (deleted)")?;
    let named = key.len() == 8 && key.iter().all(u8::is_ascii_hexdigit) && area.dev.0 == 0 && area.perms.shared;
    named.then(|| u32::try_from(area.inode).ok())?
}

/// The record of an area of /proc/PID/smaps.
pub(crate) fn capture(area: &proc::Area, from: &mut Capturing<'_>) -> Result<Area, Trouble> {
    if let Some((why, remedy)) = unsupported(area, from)? {
        return Err(refuse(area, why, remedy).into());
    }
    let inode = (proc::makedev(area.dev.0, area.dev.1), area.inode);
    let page = huge::page(area);
    let backing = match area.name.strip_prefix(b"/dev/zero") {
        _ if huge::is_nameless(area) && !area.perms.shared => Backing::Anonymous,
        _ if huge::is_nameless(area) => Backing::Shared { object: huge::object(area), offset: area.offset },
        _ if area.name == uring::LINK => uring::shown_by(area, from)?,
        _ if area.name.starts_with(b"socket:[") => packet::shown_by(area, from)?,
        _ if area.name == ring::RING => Backing::Ring(ring::capture(area, from)?),
        _ if let Some(id) = segment(area) => {
            *from.files.ipc.segments.entry(id).or_default() += 1;
            Backing::Segment { id, offset: area.offset }
        }
        Some(_) if area.name == NO_FILE && from.files.has_inode(inode) => as_file(area, from)?,
        // A private map of the device has a name that is not gone.
        Some(_) if !area.perms.shared => Backing::Anonymous,
        Some(_) => Backing::Shared { object: area.inode, offset: area.offset },
        None if area.name.starts_with(NAMED) && from.files.has_inode(inode) => as_file(area, from)?,
        None if area.name.starts_with(NAMED) => Backing::Shared { object: area.inode, offset: area.offset },
        None if area.inode == 0 => Backing::Anonymous,
        None => Backing::File { file: file(area, from)?, offset: area.offset },
    };
    if matches!(backing, Backing::Shared { .. }) && from.files.has_inode(inode) {
        return Err(
            refuse(area, "another area or a descriptor has it as a file", "freeze it while that has not").into()
        );
    }
    if let Some(refusal) = held_outside(area, &backing, from)? {
        return Err(refusal.into());
    }
    let name = [&b"[anon:"[..], b"[anon_shmem:"].iter().find_map(|p| area.name.strip_prefix(*p)?.strip_suffix(b"]"));
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    let p = area.perms;
    let protection = bit(p.read, PROT_READ) | bit(p.write, PROT_WRITE) | bit(p.execute, PROT_EXEC);
    let kept = |f: &&[u8; 2]| KEPT.contains(f) || ADVICE.iter().any(|(code, _)| code == f);
    Ok(Area {
        start: area.start,
        end: area.end,
        protection: protection as u8,
        shared: p.shared,
        may_write: p.shared && area.has(b"mw"),
        backing,
        name: name.map(Text::from),
        flags: area.flags.iter().filter(kept).map(|f| String::from_utf8_lossy(f).into_owned()).collect(),
        page,
    })
}

/// Shared memory that is used as a file, too: of which there is a private view, or a descriptor (proc_pid_map_files(5)).
fn as_file(area: &proc::Area, from: &mut Capturing<'_>) -> Result<Backing, Trouble> {
    if from.files.is_shared(area.inode) {
        let why = "another process of the tree shares it as memory without a file";
        return Err(refuse(area, why, "freeze it while that process has it not").into());
    }
    Ok(Backing::File { file: file(area, from)?, offset: area.offset })
}

/// Shared memory of which a part has a name of its own (PR_SET_VMA).
const NAMED: &[u8] = b"[anon_shmem:";

/// From here on, shared memory of which there is a private view is a file, and so is that of which areas do not show all, or more than
/// there is (mremap(2), remap_file_pages(2)). So is what a thaw made of it: files are counted alike.
pub(crate) fn look_at_views(areas: &[proc::Area], from: &mut Capturing<'_>) -> Result<(), Trouble> {
    let private = |area: &&proc::Area| [NO_FILE, AS_FILE].contains(&&area.name[..]) && !area.perms.shared;
    areas.iter().filter(private).try_for_each(|area| file(area, from).map(drop))?;
    let mut objects: BTreeMap<u64, Vec<&proc::Area>> = BTreeMap::new();
    let is_object = |area: &&proc::Area| area.name == NO_FILE || area.name.starts_with(NAMED);
    for area in areas.iter().filter(is_object).filter(|area| area.perms.shared && huge::page(area) == 0) {
        objects.entry(area.inode).or_default().push(area);
    }
    for (object, mut areas) in objects {
        abi::sort_by_key(&mut areas, |area| area.offset);
        // How much is shown from the beginning on, without a hole.
        let reach = |shown: u64, area: &&proc::Area| {
            let end = area.offset + (area.end - area.start);
            if area.offset <= shown { shown.max(end) } else { shown }
        };
        let (first, shown) = (areas[0], areas.iter().fold(0, reach));
        // Only who has CAP_CHECKPOINT_RESTORE may ask how much there is (proc_pid_map_files(5)); others see where nothing can be read.
        let size =
            from.probe.stat(&format!("map_files/{:x}-{:x}", first.start, first.end)).map(|stat| stat.size as u64);
        let is_too_long = match size {
            Ok(size) => size < shown,
            Err(_) => ends_before(&areas, from)?,
        };
        let what = format!("shared memory at {:x}-{:x}", first.start, first.end);
        match size {
            _ if from.files.is_shared(object) && is_too_long => {
                from.note(what, "what its areas show behind its end (SIGBUS) is there after the thaw, as zeroes");
            }
            _ if from.files.is_shared(object) => {}
            Ok(size) if size != shown => _ = file(first, from)?,
            Err(_) if areas.iter().any(|area| area.offset > shown) || first.offset > 0 => {
                let whole = "its areas do not show all of it: what nobody shows, which you may not look at, is lost";
                from.note(what, whole);
            }
            Err(_) if is_too_long => _ = file(first, from)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether one object ends before the last page that areas show of it.
fn ends_before(areas: &[&proc::Area], from: &Capturing<'_>) -> Result<bool, Trouble> {
    let Some(area) = last_that_is_read(areas) else { return Ok(false) };
    let last = area.end - PAGE..area.end;
    Ok(!is_there(last.start, from) && from.probe.save_memory(&[(last, crate::Which::Guards)])?.guards.is_empty())
}

/// Of areas that show one object, that which goes farthest and may be read. Who reads what userfaultfd(2) watches would wait.
fn last_that_is_read<'a>(areas: &[&'a proc::Area]) -> Option<&'a proc::Area> {
    let is_read = |area: &&&proc::Area| area.perms.read && !area.has(b"um") && !area.has(b"ui");
    areas.iter().filter(is_read).max_by_key(|area| area.offset + (area.end - area.start)).copied()
}

/// Whether there is a page at an address where one may read. Behind the end of what an area shows there is none (mmap(2), SIGBUS), which
/// is EIO to who reads (fs/proc/base.c, `mem_rw`); so it is where a guard stands.
pub(super) fn is_there(at: u64, from: &Capturing<'_>) -> bool {
    !from.probe.memory(at, 1).is_err_and(|fault| fault.errno == Errno::EIO)
}

/// Memory without a name becomes the program's own: what it or a process outside writes, the other sees no more. What nobody
/// writes is the same when it is a copy, as that of a file that a newer one has replaced.
fn held_outside(area: &proc::Area, backing: &Backing, from: &mut Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    let nameless = match backing {
        Backing::Anonymous | Backing::Segment { .. } | Backing::Ring(_) | Backing::Uring { .. } => false,
        Backing::File { file, .. } => from.files.list[file].is_gone() && !from.files.list[file].is_fixed(),
        Backing::Shared { .. } | Backing::Socket { .. } => true,
    };
    if !(nameless && area.perms.shared) {
        return Ok(None);
    }
    // Only who has CAP_CHECKPOINT_RESTORE may ask how many names are left.
    let link = from.probe.stat(&format!("map_files/{:x}-{:x}", area.start, area.end));
    let is_socket = matches!(backing, Backing::Socket { .. });
    match link {
        _ if is_socket || !area.has(b"mw") => {}
        Ok(stat) if stat.nlink > 0 => {
            let why = "the name by which its file was opened is gone, and another name of it is not";
            return Ok(Some(refuse(area, why, "put the old name back: ln")));
        }
        Ok(_) => {}
        Err(_) => note_names(area, backing, from),
    }
    let others = from.probe.other_users(proc::makedev(area.dev.0, area.dev.1), area.inode, &area.name)?;
    let other = others.iter().find(|other| other.writes || area.has(b"mw"));
    Ok(other.map(|other| {
        refuse(area, format!("process {}, outside of the tree, shares it", other.pid), "end that process first")
    }))
}

/// Tells that a file may have a name in another directory, where nobody may ask; of one that is open, its descriptor tells.
fn note_names(area: &proc::Area, backing: &Backing, from: &mut Capturing<'_>) {
    let Backing::File { file, .. } = backing else { return };
    let file = &from.files.list[file];
    if !file.in_memory() && !file.is_below_shared_memory() && from.probe.with_link(&area.name).is_empty() {
        let why = "its name is gone, and whether it has another in some other directory you may not ask: what the program writes after the thaw would not be seen there";
        from.note(file.path.to_string(), why);
    }
}

/// Whether the program shows an earlier build than that at the path: where an overlay (which has no major number) copies what is written to for
/// the first time, areas stay with what they have, and nothing in /proc tells.
fn is_older(area: &proc::Area, id: u32, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let there = from.files.list[&id].build_id.as_ref();
    let Some(there) = there.filter(|_| area.dev.0 == 0 && area.offset == 0 && area.perms.read) else {
        return Ok(false);
    };
    let head = from.probe.memory(area.start, PAGE as usize)?;
    Ok(crate::fd::file::build_id(&head).is_some_and(|own| own != there.0))
}

/// The file behind an area.
fn file(area: &proc::Area, from: &mut Capturing<'_>) -> Result<u32, Trouble> {
    let link = format!("map_files/{:x}-{:x}", area.start, area.end);
    let dev = abi::proc::makedev(area.dev.0, area.dev.1);
    // A newline of a name may be four other characters: the link tells.
    let odd = area.name.contains(&b'\n').then(|| from.probe.link(&link).ok()).flatten();
    // The link tells of the very file, but only to who has CAP_CHECKPOINT_RESTORE.
    let name = if area.name.starts_with(NAMED) { NO_FILE } else { odd.as_deref().unwrap_or(&area.name) };
    let id = from.file((dev, area.inode), name, |probe| probe.stat(&link).ok())?;
    from.files.list.get_mut(&id).expect("it is known").page = huge::page(area);
    if area.perms.shared {
        from.files.shared.insert(id);
    }
    if is_older(area, id, from)? {
        let why =
            "its file was written to since it was mapped, and an overlay keeps for the program what it was before";
        return Err(refuse(area, why, "start the program anew").into());
    }
    memfd::ask_link(id, &link, from);
    Ok(id)
}

/// `mmap`, with the protection under which its pages are read in.
pub(crate) fn place(area: &Area, protection: u64, pid: Pid, to: &mut Planning<'_>) {
    let Backing::File { file, offset } = area.backing else {
        return map(area, protection, None, pid, to);
    };
    let access = match (area.shared, area.may_write) {
        (true, true) => Access::ReadWrite,
        (true, false) => Access::ReadShared,
        (false, _) => Access::Read,
    };
    if let Some(descr) = to.open(file, access) {
        map(area, protection, Some((descr, offset)), pid, to);
    }
}

/// An area of which a part is there from birth on, with protection `was`: what is missing below is mapped, what is missing above the part grows to.
pub(crate) fn take_over(area: &Area, kept: Kept, was: u64, protection: u64, pid: Pid, to: &mut Planning<'_>) {
    if area.start < kept.start {
        let below = Area { end: kept.start, ..area.clone() };
        place(&below, protection, pid, to);
    }
    let mut step = |sys, args, expect| {
        let op = Op::Call { sys, args, expect };
        let needs = vec![Fact::Bare(pid)];
        to.to.step(Moment::Place, NAME, Actor::Thread(Tid(pid.0)), op, needs, vec![Fact::Mapped(pid)]);
    };
    if kept.end < area.end {
        // Its last page grows: where the maker has it in two pieces, which the kernel does not join, mremap(2) takes no more.
        let last = kept.end - PAGE;
        let mut len = PAGE;
        for piece in pieces(kept.end..area.end) {
            let args = vec![last.into(), len.into(), (piece.end - last).into(), 0.into()];
            step(Sys::Mremap, args, Expect::Exactly(last));
            len = piece.end - last;
        }
    }
    if was != protection {
        step(
            Sys::Mprotect,
            vec![kept.start.into(), (area.end - kept.start).into(), protection.into()],
            Expect::Success,
        );
    }
}

/// Parts of an area of which the kernel does not find each too much by itself, as it does with more than there is memory on the machine
/// (proc_sys_vm(5), overcommit_memory 0). A program that has asked for it little by little may have more. Their areas become one.
fn pieces(area: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    const FEW: u64 = 1024;
    const SMALL: u64 = 1 << 30;
    let len = ((area.end - area.start) / FEW).next_multiple_of(SMALL).max(SMALL);
    area.clone().step_by(len as usize).map(move |at| at..area.end.min(at.saturating_add(len)))
}

/// `mmap` of a file from an offset on, or of new memory.
pub(crate) fn map(area: &Area, protection: u64, of: Option<(Descr, u64)>, pid: Pid, to: &mut Planning<'_>) {
    let tid = Tid(pid.0);
    let kind = match area.shared {
        true => MAP_SHARED,
        false if area.has("dp") => MAP_DROPPABLE,
        false => MAP_PRIVATE,
    };
    let mut flags = MAP_FIXED_NOREPLACE | kind;
    flags |= if area.has("gd") { MAP_GROWSDOWN } else { 0 };
    flags |= if area.has("nr") { MAP_NORESERVE } else { 0 };
    flags |= if of.is_none() { MAP_ANONYMOUS | huge::map_flags(area.page) } else { 0 };
    let (fd, offset) = of.map_or((Value::Int(u64::MAX), 0), |(descr, offset)| (Value::Descr(descr), offset));
    let mut needs = vec![Fact::Bare(pid)];
    needs.extend(of.map(|(descr, _)| Fact::Made(descr)));
    let mut step = |all: Range<u64>| {
        let len = all.end - all.start;
        let args = vec![all.start.into(), len.into(), protection.into(), flags.into(), fd.clone(), offset.into()];
        let op = Op::Call { sys: Sys::Mmap, args, expect: Expect::Exactly(all.start) };
        to.to.step(Moment::Place, NAME, Actor::Thread(tid), op, needs.clone(), vec![Fact::Mapped(pid)]);
    };
    let is_plain = of.is_none() && !area.shared && area.page == 0 && !area.has("gd");
    match is_plain && protection & PROT_WRITE != 0 && !area.has("nr") {
        true => pieces(area.start..area.end).for_each(step),
        false => step(area.start..area.end),
    }
    if area.has("hg") {
        advise(area, MADV_HUGEPAGE, Moment::Place, to, pid);
    }
}

/// A call of the first thread that has to do with areas, once all of them stand.
pub(crate) fn call(moment: Moment, sys: Sys, args: Vec<Value>, expect: Expect, pid: Pid, to: &mut Planning<'_>) {
    let makes = match moment {
        Moment::Link => vec![Fact::Loaded(pid)],
        _ => vec![Fact::Whole(Tid(pid.0))],
    };
    let op = Op::Call { sys, args, expect };
    to.to.step(moment, NAME, Actor::Thread(Tid(pid.0)), op, vec![Fact::Mapped(pid)], makes);
}

pub(super) fn advise(area: &Area, advice: u64, moment: Moment, to: &mut Planning<'_>, pid: Pid) {
    // A kernel built without huge pages or page merging goes on without them. What a fork or a core dump has of an area is
    // more than advice, and no kernel is without it.
    let expect = if BINDING.contains(&advice) { Expect::Success } else { Expect::Whatever };
    let args = vec![area.start.into(), area.len().into(), advice.into()];
    let op = Op::Call { sys: Sys::Madvise, args, expect };
    let needs = if moment == Moment::Place { vec![Fact::Bare(pid)] } else { vec![Fact::Loaded(pid)] };
    to.to.step(moment, NAME, Actor::Thread(Tid(pid.0)), op, needs, vec![Fact::Whole(Tid(pid.0))]);
}

/// Locks an area into memory if it was locked; there may be guards in it.
pub(crate) fn lock(
    area: &Area,
    is_guarded: bool,
    (needs, makes): (Vec<Fact>, Vec<Fact>),
    pid: Pid,
    to: &mut Planning<'_>,
) {
    if !area.has("lo") {
        return;
    }
    let on_fault = u64::from(area.has("lf"));
    // What cannot be brought in, as nobody may use it, is locked all the same (mm/mlock.c, do_mlock: ENOMEM, which says no more). So it
    // may be, too, what is behind the end of its file; or there may be more than may be locked.
    const LOST: &str = "areas of memory that were locked (mlock) may not be, or not be all in memory";
    let is_usable = u64::from(area.protection) & (PROT_READ | PROT_WRITE | PROT_EXEC) != 0;
    let expect = if is_usable && !is_guarded { Expect::OrTold(LOST) } else { Expect::Whatever };
    let args = vec![area.start.into(), area.len().into(), on_fault.into()];
    let op = Op::Call { sys: Sys::Mlock2, args, expect };
    to.to.step(Moment::Fill, NAME, Actor::Thread(Tid(pid.0)), op, needs, makes);
}

/// Whatever is asked for an area once its pages are in, but for [`lock`]; it was placed with that protection.
pub(crate) fn finish(area: &Area, placed: u64, pid: Pid, to: &mut Planning<'_>) {
    let mut later = |sys, args, expect| {
        let op = Op::Call { sys, args, expect };
        let makes = vec![Fact::Whole(Tid(pid.0))];
        to.to.step(Moment::Fill, NAME, Actor::Thread(Tid(pid.0)), op, vec![Fact::Loaded(pid)], makes);
    };
    if placed != u64::from(area.protection) {
        let args = vec![area.start.into(), area.len().into(), u64::from(area.protection).into()];
        later(Sys::Mprotect, args, Expect::Success);
    }
    if let Some(name) = &area.name {
        // EINVAL without CONFIG_ANON_VMA_NAME.
        let args = vec![
            PR_SET_VMA.into(),
            PR_SET_VMA_ANON_NAME.into(),
            area.start.into(),
            area.len().into(),
            Value::Bytes(name.c_string()),
        ];
        later(Sys::Prctl, args, Expect::OrTold("areas of memory have lost their names (PR_SET_VMA_ANON_NAME)"));
    }
    for (code, advice) in ADVICE {
        if area.has(&String::from_utf8_lossy(code)) {
            advise(area, advice, Moment::Fill, to, pid);
        }
    }
    if area.has("sl") {
        let args = vec![area.start.into(), area.len().into(), 0.into()];
        let op = Op::Call {
            sys: Sys::Mseal,
            args,
            expect: Expect::OrTold("areas of memory are not sealed any more (mseal)"),
        };
        let (needs, makes) = (vec![Fact::Settled, Fact::Loaded(pid)], vec![Fact::Whole(Tid(pid.0))]);
        to.to.step(Moment::Arm, NAME, Actor::Thread(Tid(pid.0)), op, needs, makes);
    }
}
