//! File: an inode with contents, which descriptors and areas lead to.
//!
//! - seen as    a path in /proc/PID/fd, /proc/PID/maps or /proc/PID/exe, with ` (deleted)` behind it when it has none
//! - captured   path, length, time of modification, build id; contents when it has no name, when they are asked for, when it
//!   is open for writing and small, or when it is shared memory (/dev/shm), which is gone after a start of the machine: then
//!   it is put back
//! - recreated  by opening the path; without a name, as an unnamed file on the same file system, or in memory
//! - refused    a mapped file that has changed since, unless its contents are in the image
//! - not kept   that an area writes to a file which has a name in another directory only, where whoever freezes may not ask how many it
//!   has: told; other names of a file without a name, and of one that is put back; the owner, when it is not the thawing
//!   user's to give: of a file that is put back, both are told. Extended attributes (xattr(7))

use super::{S_IFREG, flags, memfd, place};
use crate::mm::huge;
use crate::{Capturing, Planning, Text, Trouble};
use abi::Sys;
use abi::consts::cap::{CAP_CHOWN, CAP_DAC_OVERRIDE};
use abi::consts::fd::AT_FDCWD;
use abi::layout::FileStat;
use image::Extent;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, FileFacts, FilePolicy, HostEffect, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

const NAME: &str = "file";
/// A shorter file has no build id: so far goes the header in which it is looked for (elf(5), `e_phnum`).
const SHORTEST: i64 = 58;
/// Bits of access(2).
const READ: u32 = 4;
const WRITE: u32 = 2;
const DELETED: &[u8] = b" (deleted)";
/// Where POSIX shared memory and semaphores are (shm_overview(7)).
const SHARED_MEMORY: &[u8] = b"/dev/shm/";
/// What is shown of shared memory without a file. To whoever opens it, it is a file; and made again it is one of memfd_create(2).
pub(crate) const NO_FILE: &[u8] = b"/dev/zero (deleted)";
pub(crate) const AS_FILE: &[u8] = b"/memfd:shared (deleted)";
/// How the path of a file of memfd_create(2) begins.
const MEMFD: &[u8] = b"/memfd:";

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// For reading what was there.
    Read,
    /// For reading what others write.
    ReadShared,
    /// For reading and writing.
    ReadWrite,
}

/// Whether it has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
pub enum Standing {
    /// It stood at its path.
    #[n(0)]
    Named,
    /// It had no name any more: its contents are in the image.
    #[n(1)]
    Gone,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct File {
    /// Its path, or the last one that it had.
    #[n(0)]
    pub path: Text,
    /// Whether it stands there.
    #[n(1)]
    pub standing: Standing,
    /// Type and permission bits (inode(7)).
    #[n(2)]
    pub mode: u32,
    /// Its length in bytes.
    #[n(3)]
    pub size: u64,
    /// Seconds and nanoseconds of the last modification.
    #[n(4)]
    pub mtime: (i64, u32),
    /// The GNU build id of an ELF file.
    #[n(5)]
    pub build_id: Option<crate::Blob>,
    /// Its contents, if they were kept; what lies between them is a hole.
    #[n(6)]
    pub contents: Option<Vec<Extent>>,
    /// Its owner: user and group.
    #[n(7)]
    pub owner: Option<(u32, u32)>,
    /// How many names it had (inode(7), `st_nlink`).
    #[n(8)]
    #[cbor(default)]
    #[serde(default)]
    pub names: u64,
    /// Of a file of memfd_create(2), F_SEAL_ bits (fcntl(2)), if they are known.
    #[n(9)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seals: Option<u32>,
    /// In bytes, the size of the huge pages that a file of memfd_create(2) is made of (MFD_HUGETLB); 0: it is made of none.
    #[n(10)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "huge::is_none")]
    pub page: u64,
}

/// A path as /proc shows it, without the mark of a name that is gone.
pub(crate) fn split(shown: &[u8]) -> (Text, Standing) {
    match shown.strip_suffix(DELETED) {
        Some(path) => (path.into(), Standing::Gone),
        None => (shown.into(), Standing::Named),
    }
}

/// Another name that a file has in the same directory when its first one is gone. So sem_open(3) makes a file, and gives it
/// the right name when it is whole (link(2)). It is looked for, too, where the file may not be asked how many names it has.
fn other_name(path: &Text, (dev, inode): (u64, u64), stat: Option<FileStat>, from: &Capturing<'_>) -> Option<Text> {
    let directory = &path.0[..=path.0.iter().rposition(|b| *b == b'/')?];
    let looks = stat.map_or(!path.0.starts_with(MEMFD), |s| s.nlink > 0);
    let name = looks.then(|| from.probe.name_in(directory, inode)).flatten()?;
    let there = from.probe.stat_path(&name).ok().flatten()?;
    ((there.dev, there.ino) == (stat.map_or(dev, |s| s.dev), inode)).then_some(Text(name))
}

fn mtime(stat: &FileStat) -> (i64, u32) {
    (stat.mtime.sec, stat.mtime.nsec as u32)
}

impl File {
    /// What is known of a file without its contents. `stat` is what the file itself told, `None` where only a
    /// privileged process may ask; then it must stand at its path.
    pub fn see(
        shown: &[u8],
        (dev, inode): (u64, u64),
        stat: Option<FileStat>,
        from: &Capturing<'_>,
    ) -> Result<File, Trouble> {
        let shown = if shown == NO_FILE { AS_FILE } else { shown };
        let (mut path, mut standing) = split(shown);
        // A name may really end like the mark of a name that is gone.
        let whole = from.probe.stat_path(shown)?.filter(|s| s.ino == inode);
        if whole.is_some() {
            (path, standing) = (shown.into(), Standing::Named);
        }
        let mut at_path = if whole.is_some() { whole } else { from.probe.stat_path(&path.0)? };
        if at_path.is_none_or(|s| s.ino != inode) {
            standing = Standing::Gone; // another file stands there now, or the name is hidden below a mount
        }
        if standing == Standing::Gone
            && let Some(name) = other_name(&path, (dev, inode), stat, from)
        {
            at_path = from.probe.stat_path(&name.0)?;
            (path, standing) = (name, Standing::Named);
        }
        let stat = stat.or(at_path.filter(|_| standing == Standing::Named)).unwrap_or_default();
        let build_id = match standing {
            Standing::Named if stat.size >= SHORTEST => {
                from.probe.head(&path.0, 4096).ok().and_then(|head| build_id(&head))
            }
            _ => None,
        };
        Ok(File {
            path,
            standing,
            mode: if stat.mode == 0 { S_IFREG | 0o700 } else { stat.mode },
            size: stat.size as u64,
            mtime: mtime(&stat),
            build_id: build_id.map(crate::Blob),
            contents: None,
            owner: Some((stat.uid, stat.gid)),
            names: stat.nlink,
            seals: None,
            page: 0,
        })
    }

    /// The same, as a survey of the host sees it.
    fn facts(&self) -> FileFacts {
        FileFacts {
            mode: self.mode,
            size: self.size,
            mtime: self.mtime,
            build_id: self.build_id.as_ref().map(|b| b.0.clone()),
            names: self.names,
            access: READ | WRITE,
            appends_only: false,
            is_own: false,
            inode: None,
        }
    }

    /// Whether the file at the path is the one that was seen.
    pub(crate) fn unchanged(&self, to: &Planning<'_>) -> bool {
        self.standing == Standing::Named
            && to.to.host.files.get(&self.path.0).is_some_and(|now| now.same_contents(&self.facts()))
    }

    /// Opens it for areas that must find the very bytes that were there. Refuses, and says `false`, when they are neither
    /// at the path nor in the image.
    pub(crate) fn open_for_mapping(&self, id: u32, descr: Descr, wanted: Access, to: &mut Planning<'_>) -> bool {
        let access = if wanted == Access::ReadWrite { flags::RDWR } else { 0 };
        if wanted != Access::Read && self.is_shared_memory() && self.contents.is_some() {
            self.open_shared_memory(id, descr, access, to);
            return true;
        }
        // What a shared writable area wrote is in the file and moved its time: such a file is one's own data.
        let own_data = self.standing == Standing::Named && wanted != Access::Read;
        let here = to.to.host.files.contains_key(&self.path.0);
        let is_written = || access != 0 || wanted == Access::ReadShared && to.model.writes_to_map_of(id);
        let strict = to.to.options.files == FilePolicy::Strict;
        if self.unchanged(to) || own_data && here && is_written() {
            self.open_path(descr, access, to);
        } else if own_data && !here && self.contents.is_some() && !strict {
            self.make_again(id, descr, access, to);
        } else if self.contents.is_some() {
            self.make_saved(id, descr, access, to);
        } else {
            to.to.refuse(self.changed_mapping(to));
            return false;
        }
        true
    }

    /// What programs write there is for each other, so it is never made twice; after a start of the machine it is gone.
    fn open_shared_memory(&self, id: u32, descr: Descr, access: u32, to: &mut Planning<'_>) {
        let here = to.to.host.files.contains_key(&self.path.0);
        if !here || to.to.options.files == FilePolicy::Saved {
            if !to.put_back.contains_key(&id) {
                to.to.note(format!("{} is made again as it was", self.path));
            }
            return self.put_back(id, descr, access, to);
        }
        if !self.unchanged(to) {
            to.to.note(format!("{} has changed since; the program goes on with it as it is", self.path));
        }
        self.open_path(descr, access, to);
    }

    /// Whether it is POSIX shared memory, or a semaphore with a name (shm_overview(7), sem_overview(7)): files in a file system in
    /// memory.
    pub(crate) fn is_shared_memory(&self) -> bool {
        self.standing == Standing::Named && self.is_below_shared_memory()
    }

    /// Whether it is or was where that is.
    pub(crate) fn is_below_shared_memory(&self) -> bool {
        self.path.0.starts_with(SHARED_MEMORY)
    }

    fn changed_mapping(&self, to: &Planning<'_>) -> Refusal {
        let why = match to.to.host.files.get(&self.path.0) {
            None => "it is mapped by the program and is not here any more",
            Some(_) => "it is mapped by the program and has changed since",
        };
        Refusal::new(self.path.to_string(), why, "put the same file back, or freeze with --with-libs")
    }

    /// Opens it for a description with these flags; says what becomes of a file that has changed.
    pub(crate) fn open_as(&self, id: u32, descr: Descr, open_flags: u32, to: &mut Planning<'_>) {
        let here = to.to.host.files.contains_key(&self.path.0);
        match (self.standing, to.to.options.files) {
            (Standing::Gone, _) => self.make_saved(id, descr, open_flags, to),
            _ if self.unchanged(to) => self.open_path(descr, open_flags, to),
            (_, FilePolicy::Saved) if !here && self.contents.is_some() => self.make_again(id, descr, open_flags, to),
            (_, FilePolicy::Saved) => self.put_back(id, descr, open_flags, to),
            (_, FilePolicy::Warn) if !here && self.contents.is_some() => self.make_again(id, descr, open_flags, to),
            (_, FilePolicy::Warn) if here => {
                to.to.note(format!("{} has changed since; the program goes on with it as it is", self.path));
                self.open_path(descr, open_flags, to);
            }
            (..) if !here => {
                let remedy = if self.contents.is_some() { "use --files saved" } else { "put it back" };
                to.to.refuse(Refusal::new(self.path.to_string(), "the program has it open and it is not here", remedy));
            }
            _ => {
                let remedy = "use --files warn to go on with it as it is";
                to.to.refuse(Refusal::new(self.path.to_string(), "it is open and has changed since", remedy));
            }
        }
    }

    /// Whether it is here, and whoever thaws may open it with these flags.
    pub(crate) fn may_be_opened(&self, open_flags: u32, to: &Planning<'_>) -> bool {
        let needed = place::access_of(open_flags);
        let appends = needed & place::WRITE == 0 || open_flags & flags::APPEND != 0;
        let may = |here: &FileFacts| needed & !here.access == 0 && (appends || !here.appends_only);
        to.to.host.files.get(&self.path.0).is_some_and(may)
    }

    /// Whether whoever thaws owns it, so that only its permission bits may be in the way: many a file is written by who has just made it, and
    /// may be read only from then on.
    fn is_own(&self, to: &Planning<'_>) -> bool {
        let host = to.to.host;
        host.user_namespaces && host.files.get(&self.path.0).is_some_and(|here| here.is_own && !here.appends_only)
    }

    fn open_path(&self, descr: Descr, open_flags: u32, to: &mut Planning<'_>) {
        // One that was made without a name (O_TMPFILE), and has got one since (linkat(2)), is opened by that.
        let flags = open_flags & !flags::TMPFILE | flags::NOCTTY;
        if to.to.host.files.contains_key(&self.path.0) && !self.may_be_opened(open_flags, to) {
            if self.is_own(to) {
                let own = Op::Host(HostEffect::Own { descr, path: self.path.0.clone(), flags });
                return to.to.step(Moment::Make, NAME, Actor::Thaw, own, vec![], vec![Fact::Made(descr)]);
            }
            let why = "whoever thaws may not open it as the program had it open";
            let remedy = match to.to.host.has(CAP_DAC_OVERRIDE) {
                true => "let it be written to again (chattr -ia, mount -o remount,rw)",
                false => "thaw it as root",
            };
            to.to.refuse(Refusal::new(self.path.to_string(), why, remedy));
            return;
        }
        let args = vec![AT_FDCWD.into(), Value::Bytes(self.path.c_string()), u64::from(flags).into(), 0.into()];
        to.to.make(NAME, descr, Sys::Openat, args);
    }

    /// What is not here any more is made again as it was: at its path, or without a name where nothing can be made there, as the
    /// directory went with it.
    fn make_again(&self, id: u32, descr: Descr, open_flags: u32, to: &mut Planning<'_>) {
        const WRITE_AND_ENTER: u32 = place::WRITE | place::EXECUTE;
        let directory = to.to.host.places.get(place::parent(&self.path.0));
        if directory.is_some_and(|directory| directory.access & WRITE_AND_ENTER == WRITE_AND_ENTER) {
            if to.to.options.files != FilePolicy::Saved {
                to.to.note(format!("{} was not here; it is made again as it was", self.path));
            }
            self.put_back(id, descr, open_flags, to);
        } else {
            to.to.note(format!(
                "{} was not here, nor may it be made there: the program has it without a name",
                self.path
            ));
            self.make_saved(id, descr, open_flags, to);
        }
    }

    /// Opens it where the saved contents have taken the place of what stood at the path.
    fn put_back(&self, id: u32, descr: Descr, open_flags: u32, to: &mut Planning<'_>) {
        let Some(contents) = self.contents.clone() else {
            let remedy = "the image holds those of files of over 1 MiB, or open for reading only, if it is made with --with-files";
            to.to.refuse(Refusal::new(
                self.path.to_string(),
                "its saved contents are asked for and are not in the image",
                remedy,
            ));
            return;
        };
        let fact = match to.put_back.get(&id) {
            Some(descr) => Fact::Made(*descr),
            None => self.replace(id, contents, to),
        };
        // One that was made without a name (O_TMPFILE), and has got one since (linkat(2)), is opened by that.
        let open_flags = u64::from(open_flags & !flags::TMPFILE | flags::NOCTTY);
        let args = vec![AT_FDCWD.into(), Value::Bytes(self.path.c_string()), open_flags.into(), 0.into()];
        let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![fact], vec![Fact::Made(descr)]);
    }

    /// Puts it back: once, however many descriptions lead to it.
    fn replace(&self, id: u32, contents: Vec<Extent>, to: &mut Planning<'_>) -> Fact {
        let names = to.to.host.files.get(&self.path.0).map_or(0, |here| here.names).max(self.names);
        if names > 1 {
            to.to.note(format!("{} is put back under this name; its other names keep what they have", self.path));
        }
        let owner = self.owner.filter(|owner| may_give(*owner, to));
        if owner.is_none() {
            to.to.note(format!("{} is put back; its owner may not be given here", self.path));
        }
        let made = to.to.scratch();
        to.put_back.insert(id, made);
        let effect = HostEffect::ReplaceFile {
            path: self.path.0.clone(),
            mode: self.mode,
            owner,
            size: self.size,
            mtime: self.mtime,
            contents,
        };
        to.to.step(Moment::Make, NAME, Actor::Thaw, Op::Host(effect), vec![], vec![Fact::Made(made)]);
        Fact::Made(made)
    }

    /// Opens the file that is made anew from the saved contents: once, however many descriptions and areas lead to it.
    fn make_saved(&self, id: u32, descr: Descr, open_flags: u32, to: &mut Planning<'_>) {
        let made = to.saved.get(&id).copied().unwrap_or_else(|| self.make_unnamed_with_contents(id, to));
        if made == descr {
            return;
        }
        let again = format!("/proc/self/fd/{}\0", to.number(made)).into_bytes();
        // What is opened here is a link, which O_NOFOLLOW would refuse (Python opens its temporary files with it).
        let open_flags = u64::from(open_flags & !flags::TMPFILE & !flags::NOFOLLOW);
        let args = vec![AT_FDCWD.into(), Value::Bytes(again), open_flags.into(), 0.into()];
        let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
        let needs = vec![Fact::Made(made), Fact::Filled(made)];
        to.to.step(Moment::Make, NAME, Actor::Store, op, needs, vec![Fact::Made(descr)]);
    }

    /// What was written to is closed before anybody is born: a file that somebody may write is no executable (ETXTBSY, and
    /// EACCES of PR_SET_MM_MAP: kernel/fork.c, `replace_mm_exe_file`).
    fn make_unnamed_with_contents(&self, id: u32, to: &mut Planning<'_>) -> Descr {
        if self.in_memory() {
            let made = memfd::original(id, to.model).unwrap_or_else(|| to.to.scratch());
            to.saved.insert(id, made);
            self.fill_unnamed(made, to);
            return made;
        }
        let (made, reader) = (to.to.scratch(), to.to.scratch());
        to.saved.insert(id, reader);
        self.fill(made, to);
        let again = format!("/proc/self/fd/{}\0", to.number(made)).into_bytes();
        let op = Op::Make {
            sys: Sys::Openat,
            args: vec![AT_FDCWD.into(), Value::Bytes(again), 0.into(), 0.into()],
            descrs: vec![reader],
        };
        let (filled, open) = (vec![Fact::Made(made), Fact::Filled(made)], Fact::Made(reader));
        to.to.step(Moment::Make, NAME, Actor::Store, op, filled, vec![open.clone()]);
        let op = Op::Call { sys: Sys::Close, args: vec![Value::Descr(made)], expect: Expect::Success };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![open], vec![Fact::Filled(reader)]);
        self.plan_owner(reader, to);
        reader
    }

    fn fill_unnamed(&self, made: Descr, to: &mut Planning<'_>) {
        self.fill(made, to);
        self.plan_owner(made, to);
        memfd::seal(self, NAME, made, to);
    }

    fn fill(&self, made: Descr, to: &mut Planning<'_>) {
        self.make_unnamed(made, to);
        let extents = self.contents.clone().unwrap_or_default();
        let op = Op::Contents { descr: made, size: self.size, mtime: self.mtime, page: self.page, extents };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![Fact::Made(made)], vec![Fact::Filled(made)]);
    }

    /// Last of all: a write, and a change of owner, take the set-user-id bits away (chown(2)).
    fn plan_owner(&self, made: Descr, to: &mut Planning<'_>) {
        let owner = self.owner.filter(|owner| may_give(*owner, to));
        // Nor can it be opened again by who may not read it, so this comes when all of its descriptions are there.
        let mut call = |sys, args: Vec<Value>| {
            let args = [vec![Value::Descr(made)], args].concat();
            let op = Op::Call { sys, args, expect: Expect::Success };
            to.to.step(Moment::Fill, NAME, Actor::Store, op, vec![Fact::Made(made), Fact::Filled(made)], vec![]);
        };
        if let Some((uid, gid)) = owner {
            call(Sys::Fchown, vec![u64::from(uid).into(), u64::from(gid).into()]);
        }
        call(Sys::Fchmod, vec![u64::from(self.mode & 0o7777).into()]);
    }

    fn make_unnamed(&self, descr: Descr, to: &mut Planning<'_>) {
        match self.directory().filter(|directory| to.to.host.scratch.contains(*directory)) {
            Some(directory) => {
                let open_flags = u64::from(flags::TMPFILE | flags::RDWR);
                let path = Text::from(directory).c_string();
                let args = vec![AT_FDCWD.into(), Value::Bytes(path), open_flags.into(), 0o700.into()];
                to.to.make(NAME, descr, Sys::Openat, args);
            }
            None => {
                if self.is_gone() && !self.in_memory() && self.path.0 != NO_FILE {
                    to.to.note(format!("{} is in memory: it cannot be where it was", self.path));
                }
                memfd::make(self, NAME, descr, to);
            }
        }
    }

    /// Whether it is a file of memfd_create(2).
    pub(crate) fn in_memory(&self) -> bool {
        self.path.0.starts_with(MEMFD)
    }

    /// The directory where it was; `None`: it was in memory.
    pub fn directory(&self) -> Option<&[u8]> {
        let end = self.path.0.iter().rposition(|b| *b == b'/').filter(|_| !self.in_memory());
        end.map(|end| &self.path.0[..end.max(1)])
    }

    /// Whether it had no name.
    pub fn is_gone(&self) -> bool {
        self.standing == Standing::Gone
    }
}

/// chown(2): who has CAP_CHOWN gives a file to anybody, its owner to his own groups.
pub(super) fn may_give((uid, gid): (u32, u32), to: &Planning<'_>) -> bool {
    let host = to.to.host;
    host.has(CAP_CHOWN) || (uid == host.uid && (gid == host.gid || host.groups.contains(&gid)))
}

/// The GNU build id in the first page of an ELF file: the note of type NT_GNU_BUILD_ID (elf(5)).
pub fn build_id(head: &[u8]) -> Option<Vec<u8>> {
    const PT_NOTE: u32 = 4;
    let word = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (word(32, 8)? as usize, word(54, 2)? as usize, word(56, 2)? as usize);
    for header in (0..count).filter_map(|i| table.checked_add(i * size)) {
        if word(header, 4)? != u64::from(PT_NOTE) {
            continue;
        }
        let (at, len) = (word(header + 8, 8)? as usize, word(header + 32, 8)? as usize);
        if let Some(id) = head.get(at..at.checked_add(len)?.min(head.len())).and_then(note) {
            return Some(id);
        }
    }
    None
}

fn note(mut notes: &[u8]) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word = |b: &[u8], at: usize| Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?));
    loop {
        let (name, len, kind) = (word(notes, 0)? as usize, word(notes, 4)? as usize, word(notes, 8)?);
        let start = 12 + name.checked_next_multiple_of(4)?;
        let body = notes.get(start..start.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return Some(body.to_vec());
        }
        notes = notes.get(start + len.checked_next_multiple_of(4)?..)?;
    }
}
