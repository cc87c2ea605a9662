//! What the tests of the resources share: a process that was written down, a host that is written down, goldens.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod any;

use abi::diag::{LocalSocket, LocalSockets};
use abi::layout::{FileStat, Msghdr, SchedAttr, Timespec};
use abi::proc;
use abi::signal::{Siginfo, StackT};
use abi::sockopt::{self, SockOpt, SocketKind};
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use image::{Extent, RawRecord};
use plan::{FileFacts, Host, Options, PlaceFacts, Plan, Refusal, Terminal};
use resources::fd::Seen;
use resources::tree::process::{Fd, Process, Shares};
use resources::{
    Buffers, Capturing, Description, Entry, Files, Holder, Keep, Message, Model, Probe, ProcessModel, ProcessState,
    Queue, Removed, Saved, SavedSegment, Still, Text, ThreadModel, ThreadState, Told, TreeState, Trouble, Which,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

const PAGE: u64 = 4096;
/// -516: the call is made again by the rest that the kernel has of it (linux/errno.h).
pub(crate) const RESTART_BLOCK: u64 = -516i64 as u64;

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// What a call gave, by its name and the numbers with which its arguments begin.
type Key = (Sys, Vec<u64>);

/// A process that was written down: real /proc text from `samples`, and answers that a test gives.
#[derive(Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) texts: BTreeMap<String, Vec<u8>>,
    pub(crate) links: BTreeMap<String, Vec<u8>>,
    /// Of whoever asks.
    pub(crate) own_texts: BTreeMap<String, Vec<u8>>,
    pub(crate) own_links: BTreeMap<String, Vec<u8>>,
    pub(crate) stats: BTreeMap<String, FileStat>,
    pub(crate) paths: BTreeMap<Vec<u8>, FileStat>,
    pub(crate) heads: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) answers: BTreeMap<Key, Answer>,
    /// The calls that were made.
    pub(crate) asked: RefCell<Vec<Call>>,
    pub(crate) memory: BTreeMap<u64, Vec<u8>>,
    pub(crate) threads: Vec<u32>,
    pub(crate) regs: UserRegs,
    pub(crate) xstate: Vec<u8>,
    pub(crate) mask: u64,
    pub(crate) rseq: Option<RseqConfiguration>,
    pub(crate) own_fs: Option<String>,
    pub(crate) dispatch: Option<DispatchConfiguration>,
    pub(crate) idle: Option<u64>,
    pub(crate) filters: Vec<abi::seccomp::Filter>,
    pub(crate) wait_channel: Vec<u8>,
    pub(crate) peeked: BTreeMap<u32, Vec<(Vec<u8>, bool)>>,
    pub(crate) holders: Vec<u32>,
    /// Of a named pipe.
    pub(crate) opener: Option<u32>,
    pub(crate) unheard: Option<()>,
    pub(crate) sharers: Vec<u32>,
    pub(crate) users: Vec<Holder>,
    /// What the tree has open that has no name.
    pub(crate) removed: Vec<Removed>,
    /// By number and place among the watches of that number.
    pub(crate) watches: BTreeMap<(u32, u32), bool>,
    /// What they watch, likewise, where that is not what the number leads to.
    pub(crate) watched: BTreeMap<(u32, u32), u32>,
    pub(crate) guards: Vec<Range<u64>>,
    /// Of files whose links may be opened.
    pub(crate) seals: BTreeMap<String, u32>,
    pub(crate) locks_new_areas: Option<()>,
    /// What waits in a socket.
    pub(crate) unread: Vec<u8>,
    /// Texts of /proc, by path.
    pub(crate) host_texts: BTreeMap<String, String>,
    /// Of the root of the tree.
    pub(crate) root_links: BTreeMap<String, Vec<u8>>,
    /// Processes that live in the same namespaces.
    pub(crate) neighbours: Vec<u32>,
    /// Children that are stopped.
    pub(crate) stopped_children: Vec<u32>,
    /// Names in directories, by inode number.
    pub(crate) names: BTreeMap<u64, Vec<u8>>,
    /// Paths, by mount point, type and bytes of a handle.
    pub(crate) handles: BTreeMap<(Vec<u8>, i32, Vec<u8>), Vec<u8>>,
    /// Segments of shared memory: why they cannot be read, if so.
    pub(crate) segments: BTreeMap<u32, Option<Errno>>,
    /// The size of the huge pages that segments are made of.
    pub(crate) segment_page: u64,
    /// Lines of fdinfo, of descriptors of the tree.
    pub(crate) told: Vec<Told>,
    /// What is told of sockets, of which those in `held` are the tree's; and what is true of each descriptor.
    pub(crate) sockets: BTreeMap<u64, LocalSocket>,
    /// What waits in those with descriptors in flight.
    pub(crate) messages: BTreeMap<u64, Vec<Message>>,
    pub(crate) packets: Vec<abi::diag::LinkSocket>,
    /// What a descriptor shows where it is mapped: how much, its beginning, and whether the rest is zeroes.
    pub(crate) looked_into: Option<(u64, Vec<u8>, bool)>,
    pub(crate) held: Vec<u64>,
    pub(crate) ready: u16,
    /// Its descriptions.
    pub(crate) descriptions: Vec<Told>,
    /// Paths at which we may do nothing.
    pub(crate) closed: Vec<Vec<u8>>,
    /// Capabilities that whoever asks has not.
    pub(crate) lacks: Vec<u32>,
    /// Addresses where nothing can be read.
    pub(crate) behind: Option<Range<u64>>,
    /// Whether /proc/PID/map_files may be looked into.
    pub(crate) link_contents: Option<()>,
}

fn stat(words: &[&str]) -> FileStat {
    let number = |i: usize| words[i].parse::<u64>().expect("a number");
    FileStat {
        dev: u64::from_str_radix(words[0], 16).expect("a device"),
        ino: number(1),
        mode: u32::from_str_radix(words[2], 8).expect("a mode"),
        rdev: u64::from_str_radix(words[3], 16).expect("a device"),
        size: number(4) as i64,
        mtime: Timespec { sec: number(5) as i64, nsec: number(6) as i64 },
        ..FileStat::default()
    }
}

impl Recorded {
    /// The process in `samples/NAME`, which answers every question about itself as most programs do.
    pub(crate) fn sample(name: &str) -> Recorded {
        let mut it =
            Recorded { regs: UserRegs { cs: 0x33, orig_rax: u64::MAX, ..UserRegs::default() }, ..Self::plain() };
        for entry in fs::read_dir(here("samples").join(name)).expect("the sample is committed").flatten() {
            let name = entry.file_name().into_string().expect("plain names").replacen("fdinfo-", "fdinfo/", 1);
            it.texts.insert(name, fs::read(entry.path()).expect("a readable file"));
        }
        let lines = |name: &str| String::from_utf8(it.texts[name].clone()).expect("text");
        for (link, to) in lines("links").lines().filter_map(|l| l.split_once(' ')) {
            it.links.insert(link.into(), to.into());
        }
        for line in lines("stats").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            it.stats.insert(words[0].into(), stat(&words[1..]));
        }
        for line in lines("paths").lines() {
            let words: Vec<&str> = line.splitn(8, ' ').collect();
            it.paths.insert(words[7].into(), stat(&words));
        }
        it.threads = lines("threads").split_whitespace().map(|w| w.parse().expect("an id")).collect();
        it.name(lines("comm").trim_end());
        it
    }

    /// A process of which nothing is known but what most programs answer.
    pub(crate) fn plain() -> Recorded {
        let mut it = Recorded::default();
        let attr = SchedAttr { size: 56, ..SchedAttr::default() }.to_bytes().to_vec();
        let stack = StackT { sp: 0, flags: 2, size: 0 }.to_bytes().to_vec();
        it.answer(Sys::SchedGetattr, &[], Ok(0), vec![attr]);
        it.answer(Sys::SchedGetaffinity, &[], Ok(8), vec![[vec![3], vec![0; 1023]].concat()]);
        it.answer(Sys::Membarrier, &[], Ok(0), vec![]);
        // Of shared memory, the first page is there.
        it.answer(Sys::Mincore, &[], Ok(0), vec![vec![1]]);
        // Nothing of System V IPC, in tables with one place.
        for (sys, info) in [(Sys::Shmctl, vec![0, 14]), (Sys::Semctl, vec![0, 0, 19]), (Sys::Msgctl, vec![0, 12])] {
            it.answer(sys, &[], Err(Errno::EINVAL), vec![]);
            it.answer(sys, &info, Ok(0), vec![]);
        }
        it.answer(Sys::GetMempolicy, &[], Ok(0), vec![vec![0; 4], vec![0; 128]]);
        it.answer(Sys::ModifyLdt, &[], Ok(0), vec![vec![]]);
        it.answer(Sys::ArchPrctl, &[], Err(Errno::EINVAL), vec![]);
        it.answer(Sys::IoprioGet, &[], Ok(0), vec![]);
        it.answer(Sys::Sigaltstack, &[], Ok(0), vec![stack]);
        it.answer(Sys::GetRobustList, &[], Ok(0), vec![vec![0; 8], vec![0; 8]]);
        it.answer(Sys::RtSigaction, &[], Ok(0), vec![vec![0; 32]]);
        it.answer(Sys::ClockGettime, &[], Ok(0), vec![[100u64.to_ne_bytes(), 5u64.to_ne_bytes()].concat()]);
        it.answer(Sys::Getitimer, &[], Ok(0), vec![vec![0; 32]]);
        it.answer(Sys::TimerGettime, &[], Ok(0), vec![vec![0; 32]]);
        it.answer(Sys::TimerGetoverrun, &[], Ok(0), vec![]);
        it.answer(Sys::Prlimit64, &[], Ok(0), vec![vec![0xff; 16]]);
        it.answer(Sys::Brk, &[], Ok(0x5555_0000_0000), vec![]);
        it.answer(Sys::Fcntl, &[], Ok(65536), vec![]);
        // Whom one asks for is there.
        it.answer(Sys::Kill, &[], Ok(0), vec![]);
        it.answer(Sys::Fstatfs, &[], Ok(0), vec![0x0102_1994u64.to_ne_bytes().to_vec()]);
        it.answer(Sys::MqGetsetattr, &[], Err(Errno::EBADF), vec![]);
        // No keyring: ENOKEY.
        it.answer(Sys::Keyctl, &[], Err(Errno(126)), vec![]);
        it.answer(Sys::RequestKey, &[], Err(Errno(126)), vec![]);
        it.answer(Sys::Ioctl, &[], Ok(0), vec![vec![0; 36]]);
        it.answer(Sys::Prctl, &[], Ok(0), vec![vec![0; 8]]);
        it.answer(Sys::Personality, &[], Ok(0), vec![]);
        it.answer(Sys::Getsockopt, &[], Ok(0), vec![vec![0; 4]]);
        // Dumpable; the usual slack of timers; the time stamp counter may be read; memory errors as the system does.
        for (question, value) in [(3, 1), (30, 50_000), (34, 2)] {
            it.answer(Sys::Prctl, &[question], Ok(value), vec![]);
        }
        it.answer(Sys::Prctl, &[25], Ok(0), vec![vec![1, 0, 0, 0]]);
        it.answer(Sys::IoUringEnter, &[0], Err(Errno::EINVAL), vec![]);
        it.name("");
        it
    }

    /// What it calls itself (PR_GET_NAME).
    pub(crate) fn name(&mut self, name: &str) {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        self.answer(Sys::Prctl, &[16], Ok(0), vec![bytes]);
    }

    /// From now on a call that begins with these numbers gives this.
    pub(crate) fn answer(&mut self, sys: Sys, numbers: &[u64], result: Result<u64, Errno>, out: Vec<Vec<u8>>) {
        self.answers.insert((sys, numbers.to_vec()), Answer { result, out: out.into_iter().collect() });
    }

    /// Exchanges a part of a text.
    pub(crate) fn edit(&mut self, name: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.texts[name].clone()).expect("text");
        assert!(text.contains(from), "{name} has no {from:?}");
        self.texts.insert(name.into(), text.replacen(from, to, 1).into_bytes());
    }

    fn call(&self, call: &Call) -> Answer {
        let number = |arg: &Arg| if let Arg::Int(n) = arg { Some(*n) } else { None };
        let numbers: Vec<u64> = call.args.iter().map_while(number).collect();
        let known = (0..=numbers.len()).rev().find_map(|n| self.answers.get(&(call.sys, numbers[..n].to_vec())));
        let Answer { result, out } =
            known.unwrap_or_else(|| panic!("nobody wrote down what {} gives", call.sys)).clone();
        let room = |arg: &Arg| match arg {
            Arg::Out(n) => vec![*n],
            Arg::InOut(bytes) => vec![bytes.len()],
            Arg::Message { data, name, control } => vec![*data, *name, *control, Msghdr::SIZE],
            _ => vec![],
        };
        let wanted = call.args.iter().flat_map(room);
        let out = wanted.zip(out).map(|(n, mut bytes)| (bytes.resize(n, 0), bytes).1).collect();
        Answer { result, out }
    }

    /// What the engine sees of its descriptor with this number.
    pub(crate) fn seen(&self, fd: u32) -> Seen {
        let name = format!("fd/{fd}");
        Seen {
            pid: self.threads[0],
            fd,
            link: Text(self.links[&name].clone()),
            stat: self.stats[&name],
            info: proc::fdinfo(&self.texts[&format!("fdinfo/{fd}")]).expect("fdinfo as kernels write it"),
            in_flight: false,
            terminal: proc::stat(&self.texts["stat"]).expect("stat as kernels write it").terminal,
        }
    }

    /// The numbers that are open.
    pub(crate) fn fds(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.links.keys().filter_map(|n| n.strip_prefix("fd/")?.parse().ok()).collect();
        all.sort_unstable();
        all
    }

    /// A descriptor that is not in the sample.
    pub(crate) fn open(&mut self, fd: u32, link: &str, mode: u32, rdev: u64, info: &str) {
        self.links.insert(format!("fd/{fd}"), link.into());
        self.stats.insert(format!("fd/{fd}"), FileStat { mode, rdev, ino: 77, ..FileStat::default() });
        self.texts.insert(format!("fdinfo/{fd}"), info.into());
    }
}

fn missing(call: &str, what: impl std::fmt::Display) -> Fault {
    Fault::new(call, what, Errno::ENOENT)
}

/// A stretch of the image for each page that is saved: the n-th page stands at n pages.
fn page(at: u64, n: usize) -> Extent {
    Extent { at, len: PAGE, offset: n as u64 * PAGE }
}

impl Probe for Recorded {
    fn text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.texts.get(name).cloned().ok_or_else(|| missing("read", name))
    }
    fn link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.links.get(name).cloned().ok_or_else(|| missing("readlink", name))
    }
    fn own_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.own_texts.get(name).cloned().ok_or_else(|| missing("read", name))
    }
    fn own_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.own_links.get(name).cloned().ok_or_else(|| missing("readlink", name))
    }
    fn root_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.root_links.get(name).map_or_else(|| self.link(name), |link| Ok(link.clone()))
    }
    fn host_text(&self, path: &str) -> Result<String, Fault> {
        self.host_texts.get(path).cloned().ok_or_else(|| missing("read", path))
    }
    fn members(&self) -> Vec<u32> {
        self.threads.first().copied().into_iter().collect()
    }
    fn stopped_children(&self) -> Vec<u32> {
        self.stopped_children.clone()
    }
    fn neighbours(&self, _: &str) -> Result<Vec<u32>, Fault> {
        Ok(self.neighbours.clone())
    }
    /// Of each segment the second page.
    fn save_segment(&self, id: u32, _: u64) -> Result<SavedSegment, Fault> {
        match self.segments.get(&id) {
            Some(None) => Ok(SavedSegment {
                contents: vec![Extent { at: PAGE, len: PAGE, offset: 1 << 22 }],
                page: self.segment_page,
            }),
            Some(Some(errno)) => Err(Fault::new("shmat", id, *errno)),
            None => Err(Fault::new("shmat", id, Errno::EINVAL)),
        }
    }
    fn stat(&self, name: &str) -> Result<FileStat, Fault> {
        self.stats.get(name).copied().ok_or_else(|| missing("stat", name))
    }
    fn stat_path(&self, path: &[u8]) -> Result<Option<FileStat>, Fault> {
        Ok(self.paths.get(path).copied())
    }
    fn may(&self, path: &[u8], _: u32) -> bool {
        !self.closed.iter().any(|closed| closed == path)
    }
    fn is_able(&self, capability: u32) -> bool {
        !self.lacks.contains(&capability)
    }
    fn name_in(&self, directory: &[u8], inode: u64) -> Option<Vec<u8>> {
        self.names.get(&inode).filter(|name| name.starts_with(directory)).cloned()
    }
    fn entries(&self, directory: &[u8]) -> Vec<Entry> {
        let below = [directory.strip_suffix(b"/").unwrap_or(directory), b"/"].concat();
        let name = |path: &[u8]| Some(path.strip_prefix(&below[..])?.to_vec()).filter(|n| !n.contains(&b'/'));
        let is_directory = |stat: &FileStat| stat.mode & 0o17_0000 == 0o4_0000;
        let entry = |(path, stat): (&Vec<u8>, &FileStat)| {
            Some(Entry { ino: stat.ino, name: name(path)?, is_directory: is_directory(stat) })
        };
        self.paths.iter().filter_map(entry).collect()
    }
    fn path_of(&self, mount_point: &[u8], kind: i32, handle: &[u8]) -> Option<Vec<u8>> {
        self.handles.get(&(mount_point.to_vec(), kind, handle.to_vec())).cloned()
    }
    fn removed(&self) -> Vec<Removed> {
        self.removed.clone()
    }
    fn with_link(&self, link: &[u8]) -> Vec<u32> {
        let number = |name: &String| name.strip_prefix("fd/")?.parse().ok();
        self.links.iter().filter(|(_, known)| *known == link).filter_map(|(name, _)| number(name)).collect()
    }
    fn open_paths(&self) -> Vec<Vec<u8>> {
        self.links.values().filter(|link| link.starts_with(b"/")).cloned().collect()
    }
    fn head(&self, path: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
        let head = self.heads.get(path).ok_or_else(|| missing("open", path.escape_ascii()))?;
        Ok(head[..head.len().min(len)].to_vec())
    }
    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        self.asked.borrow_mut().extend_from_slice(calls);
        Ok(calls.iter().map(|c| self.call(c)).collect())
    }
    fn memory(&self, at: u64, len: usize) -> Result<Vec<u8>, Fault> {
        if self.behind.as_ref().is_some_and(|behind| behind.contains(&at)) {
            return Err(Fault::new("read", at, Errno::EIO));
        }
        let mut bytes = self.memory.get(&at).cloned().unwrap_or_default();
        bytes.resize(len, 0);
        Ok(bytes)
    }
    fn regs(&self) -> UserRegs {
        self.regs
    }
    fn xstate(&self) -> Vec<u8> {
        self.xstate.clone()
    }
    fn mask(&self) -> u64 {
        self.mask
    }
    fn own_fs(&self) -> Option<String> {
        self.own_fs.clone()
    }
    fn rseq(&self) -> Option<RseqConfiguration> {
        self.rseq
    }
    fn dispatch(&self) -> Option<DispatchConfiguration> {
        self.dispatch
    }
    fn filters(&self) -> Result<Vec<abi::seccomp::Filter>, Fault> {
        Ok(self.filters.clone())
    }
    fn locks_new_areas(&self) -> Result<bool, Fault> {
        Ok(self.locks_new_areas.is_some())
    }
    fn idle(&self) -> Option<u64> {
        self.idle
    }
    fn wait_channel(&self) -> Vec<u8> {
        self.wait_channel.clone()
    }
    fn inner_tid(&self, outer: u32) -> Option<u32> {
        self.threads.contains(&outer).then_some(outer)
    }
    fn lines(&self, _: &str) -> Vec<Told> {
        self.told.clone()
    }
    fn ready(&self, _: u32) -> Result<u16, Fault> {
        Ok(self.ready)
    }
    fn unread(&self, _: u32, bytes: u32) -> Result<Vec<u8>, Fault> {
        Ok(self.unread[..self.unread.len().min(bytes as usize)].to_vec())
    }
    fn messages(&self, inode: u64) -> Option<Vec<Message>> {
        self.messages.get(&inode).cloned()
    }
    fn look_into(&self, fd: u32, _: usize, len: u64) -> Result<(Vec<u8>, bool), Fault> {
        let shown = self.looked_into.clone().filter(|(all, ..)| *all == len);
        shown.map(|(_, first, rest)| (first, rest)).ok_or_else(|| Fault::new("mmap", fd, Errno::EINVAL))
    }
    fn packet_sockets(&self) -> Result<Vec<abi::diag::LinkSocket>, Fault> {
        Ok(self.packets.clone())
    }

    fn local_sockets(&self) -> Result<Arc<LocalSockets>, Fault> {
        Ok(Arc::new(LocalSockets::of(self.sockets.values().cloned())))
    }
    fn options(&self, fd: u32, kind: SocketKind) -> Result<Vec<(u64, u64, Vec<u8>)>, Fault> {
        let ask = |o: &SockOpt| {
            let args = [Arg::Int(fd.into()), o.level.into(), o.number.into(), Arg::Out(o.len), Arg::Word(o.len as u32)];
            let answer = self.call(&Call::new(Sys::Getsockopt, args));
            let value = answer.result.ok().and(answer.out.into_iter().next())?;
            (value != vec![0; o.len]).then_some((o.level, o.number, value))
        };
        Ok(sockopt::of(kind).concat().iter().filter_map(ask).collect())
    }
    fn is_in_tree(&self, link: &[u8]) -> bool {
        self.held.iter().any(|inode| format!("socket:[{inode}]").as_bytes() == link)
    }
    fn descriptions(&self) -> Vec<Told> {
        self.descriptions.clone()
    }
    fn peek(&self, fd: u32) -> Result<Buffers, Fault> {
        Ok(self.peeked.get(&fd).cloned().unwrap_or_default())
    }
    fn peek_unread(&self, seen: &Seen) -> Result<Option<Buffers>, Fault> {
        Ok(self.peeked.get(&seen.fd).cloned())
    }
    fn watches(&self, _: u32, number: u32, nth: u32) -> Result<Option<bool>, Fault> {
        Ok(self.watches.get(&(number, nth)).copied())
    }
    fn watched(&self, _: u32, (number, _): (u32, u64), nth: u32) -> Result<Option<u32>, Fault> {
        Ok(self.watched.get(&(number, nth)).copied())
    }
    fn other_holders(&self, _: &[u8]) -> Result<Vec<u32>, Fault> {
        Ok(self.holders.clone())
    }
    fn is_unheard(&self, _: u32) -> Result<bool, Fault> {
        Ok(self.unheard.is_some())
    }
    fn other_opener(&self, _: &Seen) -> Result<Option<u32>, Fault> {
        Ok(self.opener)
    }
    fn other_sharers(&self, _: &Seen) -> Result<Vec<u32>, Fault> {
        Ok(self.sharers.clone())
    }
    fn other_users(&self, _: u64, _: u64, _: &[u8]) -> Result<Vec<Holder>, Fault> {
        Ok(self.users.clone())
    }
    fn seals(&self, name: &str) -> Result<u32, Fault> {
        self.seals.get(name).copied().ok_or_else(|| missing("open", name))
    }
    /// The first page of every area that may have been written.
    fn save_memory(&self, areas: &[(Range<u64>, Which)]) -> Result<Saved, Fault> {
        let wanted = areas.iter().filter(|(_, which)| !matches!(which, Which::Changed | Which::Guards));
        let extents = wanted.enumerate().map(|(n, (range, _))| page(range.start, n)).collect();
        Ok(Saved { extents, guards: self.guards.clone() })
    }
    fn save_link(&self, name: &str, size: u64) -> Result<Vec<Extent>, Fault> {
        if name.starts_with("map_files/") && self.link_contents.is_none() {
            return Err(Fault::new("open", name, Errno::EPERM));
        }
        Ok(vec![Extent { at: 0, len: size.div_ceil(PAGE) * PAGE, offset: 1 << 20 }])
    }
    fn save_path(&self, _: &[u8], size: u64) -> Result<Vec<Extent>, Fault> {
        Ok(vec![Extent { at: 0, len: size.div_ceil(PAGE) * PAGE, offset: 1 << 21 }])
    }
}

/// The last look at a thread, written down.
#[derive(Clone, Default)]
pub(crate) struct LastLook {
    pub(crate) own: Vec<Siginfo>,
    pub(crate) shared: Vec<Siginfo>,
    pub(crate) waited: [Vec<Siginfo>; 2],
    pub(crate) stopped: Option<i32>,
    pub(crate) first: Option<()>,
}

impl Still for LastLook {
    fn pending(&self, queue: Queue) -> Result<Vec<Siginfo>, Fault> {
        Ok(if queue == Queue::Thread { self.own.clone() } else { self.shared.clone() })
    }
    fn waited(&self, queue: Queue) -> Vec<Siginfo> {
        self.waited[usize::from(queue == Queue::Process)].clone()
    }
    fn stopped(&self) -> Option<i32> {
        self.stopped
    }
    fn is_first_thread(&self) -> bool {
        self.first.is_some()
    }
}

/// One resource of a written-down process.
pub(crate) fn capture<R: resources::Capture>(from: &Recorded) -> Result<R, Trouble> {
    R::capture(&mut Capturing {
        probe: from,
        files: &mut Files::default(),
        keep: Keep::default(),
        notes: &mut Vec::new(),
    })
}

/// What is told of it as not kept.
pub(crate) fn notes<R: resources::Capture>(from: &Recorded) -> Vec<String> {
    let mut notes = Vec::new();
    let mut capturing =
        Capturing { probe: from, files: &mut Files::default(), keep: Keep::default(), notes: &mut notes };
    R::capture(&mut capturing).expect("it can be kept");
    notes.into_iter().map(|note| note.why).collect()
}

/// One descriptor of it.
pub(crate) fn describe(from: &Recorded, fd: u32) -> Result<Description, Trouble> {
    let mut capturing =
        Capturing { probe: from, files: &mut Files::default(), keep: Keep::default(), notes: &mut Vec::new() };
    Description::capture(&from.seen(fd), &mut capturing)
}

/// The refusals of something that must be refused.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Trouble>) -> Vec<Refusal> {
    match result {
        Err(Trouble::Refused(all)) => all,
        other => panic!("not refused: {other:?}"),
    }
}

/// What is refused, and why, in one line each.
pub(crate) fn reasons(all: &[Refusal]) -> Vec<String> {
    all.iter().map(|r| format!("{}: {}", r.what, r.why)).collect()
}

/// The whole process, captured as the engine does it; the refusals of it all when there are any.
pub(crate) fn capture_all(probe: &Recorded, keep: Keep) -> Result<Model, Vec<Refusal>> {
    let mut files = Files::default();
    let mut refusals = Vec::new();
    let mut from = Capturing { probe, files: &mut files, keep, notes: &mut Vec::new() };
    let mut model = Model::default();
    let mut threads = Vec::new();
    for tid in &probe.threads {
        let mut states = Vec::new();
        ThreadState::capture_all(&mut from, &mut |s| states.extend(take(s, &mut refusals)));
        threads.push(ThreadModel { tid: *tid, states });
    }
    let mut fds = Vec::new();
    for (id, number) in (1..).zip(probe.fds()) {
        let seen = probe.seen(number);
        fds.push(Fd { number, description: id, close_on_exec: seen.info.flags & 0o2000000 != 0 });
        let description = take(Description::capture(&seen, &mut from), &mut refusals);
        model.descriptions.extend(description.map(|d| (id, d)));
    }
    let mut states = Vec::new();
    ProcessState::capture_all(&Shares::default(), &mut from, &mut |s| states.extend(take(s, &mut refusals)));
    TreeState::capture_all(&mut from, &mut |s| model.tree.extend(take(s, &mut refusals)));
    let name = Text(probe.texts["comm"].trim_ascii_end().to_vec());
    let process = Process { pid: probe.threads[0], name, threads: probe.threads.clone(), fds, ..Process::default() };
    model.processes.push(ProcessModel { process, states, threads });
    model.files = files.list;
    if refusals.is_empty() { Ok(model) } else { Err(refusals) }
}

fn take<T>(found: Result<T, Trouble>, refusals: &mut Vec<Refusal>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(Trouble::Refused(all)) => (refusals.extend(all), None).1,
        Err(Trouble::Fault(fault)) => panic!("nobody wrote this down: {fault}"),
    }
}

/// The model in `models/NAME.json`: made once from a real image, by `cryopid inspect IMAGE all --json`.
pub(crate) fn model(name: &str) -> Model {
    let text = fs::read(here("models").join(format!("{name}.json"))).expect("the model is committed");
    serde_json::from_slice(&text).expect("a model")
}

/// The host in `models/NAME.json`, with the files of the model as they were.
pub(crate) fn host(name: &str, model: &Model) -> Host {
    let text = fs::read(here("models").join(format!("{name}.json"))).expect("the host is committed");
    let mut host: Host = serde_json::from_slice(&text).expect("a host");
    let named = model.files.values().filter(|f| !f.is_gone());
    host.files = named.map(|f| (f.path.0.clone(), facts(f))).collect();
    host.places = model.places().map(|path| (path.to_vec(), PLACE)).collect();
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        host.places.entry(format!("/dev/{name}").into_bytes()).and_modify(|place| *place = device(minor));
    }
    host.temporary = b"/tmp".to_vec();
    host.vdso = model.kernel_areas().into_iter().map(|a| (a.name, a.len)).collect();
    host.vdso_sum = vdso_sum(model);
    host.time_namespaces = true;
    host
}

/// A directory in which all is allowed.
pub(crate) const PLACE: PlaceFacts =
    PlaceFacts { mode: 0o040_755, link: false, access: 7, live: false, rdev: 0, inode: None };

/// One of the devices of memory: major 1.
pub(crate) fn device(minor: u64) -> PlaceFacts {
    PlaceFacts { mode: 0o020_666, access: 6, rdev: 0x100 | minor, ..PLACE }
}

fn facts(file: &resources::fd::file::File) -> FileFacts {
    let build_id = file.build_id.as_ref().map(|b| b.0.clone());
    FileFacts {
        mode: file.mode,
        size: file.size,
        mtime: file.mtime,
        build_id,
        names: file.names,
        access: 7,
        appends_only: false,
        is_own: false,
        inode: None,
    }
}

fn vdso_sum(model: &Model) -> u64 {
    let mut states = model.processes.iter().flat_map(|p| &p.states);
    states.find_map(|s| if let ProcessState::Space(s) = s { Some(s.vdso_sum) } else { None }).unwrap_or(0)
}

/// A terminal.
pub(crate) fn terminal() -> Option<Terminal> {
    Some(Terminal { path: b"/dev/pts/9".to_vec() })
}

/// The plan on a host where all is well.
pub(crate) fn planned(model: &Model, host: &Host) -> Plan {
    resources::plan(model, host, &Options::default()).unwrap_or_else(|r| panic!("refused: {:?}", reasons(&r)))
}

/// The refusals of a plan that cannot be made.
pub(crate) fn plan_refused(model: &Model, host: &Host, options: &Options) -> Vec<String> {
    reasons(&resources::plan(model, host, options).expect_err("it must be refused"))
}

/// The printed steps of these resources, without their numbers.
pub(crate) fn steps(plan: &Plan, by: &[&str]) -> Vec<String> {
    plan.steps.iter().filter(|s| by.contains(&s.by)).map(ToString::to_string).collect()
}

/// The records of a model.
pub(crate) fn records(model: &Model) -> Vec<RawRecord> {
    let mut all = Vec::new();
    model.put(&mut |tag, id, need, body| all.push(RawRecord { tag, id, need, body }));
    all
}

/// A model goes into records and into JSON, and comes out of both as it was.
pub(crate) fn survives(model: &Model) {
    let again = Model::from_records(&records(model)).expect("its own records");
    assert!(again == *model, "the records hold the model");
    let json = serde_json::to_string(model).expect("a model is JSON");
    assert!(serde_json::from_str::<Model>(&json).expect("its own JSON") == *model, "JSON holds the model");
}

/// Where in CBOR whole numbers begin, and how many bytes each takes (RFC 8949, section 3).
pub(crate) fn numbers(cbor: &[u8]) -> Vec<(usize, usize)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < cbor.len() {
        let (kind, info) = (cbor[at] >> 5, cbor[at] & 31);
        let more = if (24..28).contains(&info) { 1 << (info - 24) } else { 0 };
        let bytes = cbor.get(at + 1..at + 1 + more).unwrap_or_default();
        let value = if more == 0 { info.into() } else { bytes.iter().fold(0, |n: usize, b| n << 8 | usize::from(*b)) };
        if kind <= 1 && at + more < cbor.len() {
            all.push((at, 1 + more));
        }
        at += 1 + more + if kind == 2 || kind == 3 { value } else { 0 };
    }
    all
}

/// Compares with `golden/NAME`. With UPDATE_GOLDENS in the environment it is written instead.
pub(crate) fn golden(name: &str, text: &str) {
    let path = here("golden").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, text).expect("the goldens can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or(text.lines().count().min(expected.lines().count()));
    let line = |of: &str| of.lines().nth(at).unwrap_or("(its end)").to_owned();
    assert!(
        text == expected,
        "golden {name}, line {}:\n  now    {}\n  golden {}\nUPDATE_GOLDENS=1 writes it anew",
        at + 1,
        line(text),
        line(&expected)
    );
}

/// The tree, as if the user of the host `user` had run it.
pub(crate) fn of_an_ordinary_user(mut model: Model) -> Model {
    for state in model.processes[0].threads.iter_mut().flat_map(|t| &mut t.states) {
        if let ThreadState::Creds(c) = state {
            (c.uid, c.gid, c.groups) = ([1000; 4], [1000; 4], vec![27, 1000]);
            c.capabilities = [0, 0, 0, c.capabilities[3], 0];
        }
    }
    model
}
