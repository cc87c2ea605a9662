//! The seized process as a resource sees it: the one [`Probe`] that asks the kernel.

use crate::asked::Answers;
use crate::envoys::Hired;
use crate::fifo;
use crate::flight::Flights;
use crate::host::{capabilities, is_own};
use crate::identify::{Table, file_stat};
use crate::options::{self, New, Options};
use crate::outside::Outside;
use crate::save::Saver;
use crate::sockets;
use crate::tree::{Links, Texts};
use abi::consts::open::{O_ACCMODE, O_ASYNC};
use abi::diag::{LinkSocket, LocalSockets};
use abi::layout::FileStat;
use abi::seccomp::Filter;
use abi::signal::Siginfo;
use abi::sockopt::{SockOpt, SocketKind};
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use abi::{Answer, Arg, Call, Errno, Fault, Sys, proc};
use image::Extent;
use resources::fd::place::parent;
use resources::fd::{Listened, Seen};
use resources::{Buffers, Entry, Holder, Message, Probe, Queue, Removed, Saved, SavedSegment, Still, Told, Which};
use rustix::fs::{Access, AtFlags, CWD};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use tracee::ipc::Window;
use tracee::procfs::{numbers, read, read_record};
use tracee::sys::Slot;
use tracee::{EnvoyError, Process, Stopped, here};

/// What was seen of the tree before an envoy was in it.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Ids here to ids in the tree's own pid namespace.
    pub(crate) inner: BTreeMap<u32, u32>,
    /// The processes of the tree that are stopped by a signal, by their inner ids, each with the id here of its parent.
    pub(crate) stopped: Vec<(u32, i32)>,
    /// The first process of the tree.
    pub(crate) root: i32,
    /// By the ids of processes, the threads of which they were born, if these are not the first of their processes.
    pub(crate) born: BTreeMap<i32, u32>,
    /// Those who have their memory in common with another one.
    pub(crate) share_memory: BTreeSet<i32>,
    /// Threads that have a list of what semaphores get back when they end, if that is known.
    pub(crate) with_undo: Option<BTreeSet<i32>>,
    /// Threads that have a filesystem context apart from their processes.
    pub(crate) own_fs: BTreeSet<i32>,
    /// Our own namespaces: links of /proc/self.
    pub(crate) own_links: BTreeMap<String, Vec<u8>>,
    /// What other processes have.
    pub(crate) outside: Outside,
    /// What the kernel tells of sockets, from when it was asked.
    pub(crate) sockets: OnceCell<Result<Arc<LocalSockets>, Fault>>,
    /// The connections of TCP, from when they were asked for.
    pub(crate) connections: OnceCell<Result<Arc<proc::Connections>, Fault>>,
    /// What is in flight.
    pub(crate) flights: Flights,
    /// What new sockets have.
    pub(crate) new_sockets: New,
    /// The lines of fdinfo in the whole tree that have been asked for, by their keys.
    pub(crate) lines: RefCell<HashMap<String, Vec<Told>>>,
    /// The descriptions that have each link, by their ids, from when it was asked for them.
    pub(crate) by_link: OnceCell<HashMap<Vec<u8>, Vec<u32>>>,
    /// Of what the tree is told when it is opened or read.
    pub(crate) listened: OnceCell<Listened>,
    /// Where what waits in a pipe is looked at.
    pub(crate) copies: RefCell<Option<Copies>>,
    /// Which sockets of messages are shut down, by their protocol.
    pub(crate) shut_down: RefCell<HashMap<u64, Arc<HashMap<u32, u8>>>>,
    /// Our own capabilities.
    pub(crate) capabilities: OnceCell<u64>,
}

impl Before {
    pub(crate) fn local_sockets(&self) -> Result<Arc<LocalSockets>, Fault> {
        self.sockets.get_or_init(|| sockets::local().map(Arc::new)).clone()
    }
}

/// Our own namespaces, by their names below /proc/self.
pub(crate) fn own_namespaces() -> BTreeMap<String, Vec<u8>> {
    let all = std::fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    let link = |entry: std::fs::DirEntry| {
        let name = format!("ns/{}", entry.file_name().to_str()?);
        Some((name, std::fs::read_link(entry.path()).ok()?.into_os_string().into_vec()))
    };
    abi::gathered(all.filter_map(link))
}

/// A thread that stands still: the last look.
pub(crate) struct Standing<'a> {
    thread: &'a Stopped,
    index: usize,
    /// What waits for it alone; and, with the first thread, for its process.
    pub(crate) queues: [Vec<Siginfo>; 2],
}

impl Standing<'_> {
    pub(crate) fn of(thread: &Stopped, index: usize) -> Result<Standing<'_>, Fault> {
        let pending = |queue| {
            let queued = thread.pending(queue)?.into_iter().map(Siginfo);
            Ok(queued.chain(thread.unqueued(queue).map(Siginfo::untold)).collect())
        };
        let of_process = if index == 0 { pending(tracee::Queue::Process)? } else { Vec::new() };
        Ok(Standing { thread, index, queues: [pending(tracee::Queue::Thread)?, of_process] })
    }
}

impl Still for Standing<'_> {
    fn pending(&self, queue: Queue) -> Result<Vec<Siginfo>, Fault> {
        let [of_thread, of_process] = &self.queues;
        Ok(if queue == Queue::Thread { of_thread } else { of_process }.clone())
    }

    fn waited(&self, queue: Queue) -> Vec<Siginfo> {
        let queue = if queue == Queue::Thread { tracee::Queue::Thread } else { tracee::Queue::Process };
        self.thread.waited(queue).iter().copied().map(Siginfo).collect()
    }

    fn stopped(&self) -> Option<i32> {
        self.thread.group_stop()
    }

    fn is_first_thread(&self) -> bool {
        self.index == 0
    }
}

/// One thread of a process that has an envoy.
pub(crate) struct Target<'a, 't, 's, 'p> {
    pub(crate) envoy: RefCell<Hired<'t>>,
    pub(crate) index: usize,
    /// A living thread of its process.
    pub(crate) pid: i32,
    pub(crate) before: &'a Before,
    /// Texts of /proc/PID that are asked for often, or that an envoy's own area would change.
    pub(crate) texts: [&'a Texts; 2],
    /// Links, which do not change while it stands still, and texts of what is around it.
    pub(crate) links: &'a RefCell<Links>,
    /// What to put before a path to find it in the process's own mount namespace.
    pub(crate) root: &'a Path,
    pub(crate) saver: &'s RefCell<Saver<'p>>,
    /// All descriptors of the tree.
    pub(crate) table: &'a Table,
    /// Answers that were asked for all at once, and not taken yet, in the order of asking: of the description that is captured, and of
    /// the process.
    pub(crate) answers: [RefCell<Answers>; 2],
    /// The options of its sockets, while descriptions are captured.
    pub(crate) options: RefCell<Option<options::Asked>>,
    /// Whether its process is the last one.
    pub(crate) is_last: bool,
    /// Whether what is asked of is in flight: then numbers are those of our own copies.
    pub(crate) is_flying: Cell<bool>,
}

/// The reason in the words of a fault.
pub(crate) fn envoy_fault(e: EnvoyError, pid: i32) -> Fault {
    match e {
        EnvoyError::Fault(fault) => fault,
        EnvoyError::Died { .. } => Fault::new("a call in it", pid, Errno::ESRCH),
        other => Fault::new(other.to_string(), pid, Errno::EIO),
    }
}

impl Target<'_, '_, '_, '_> {
    /// The options of sockets of its process are asked for meanwhile.
    pub(crate) fn ask_options(&self, sockets: Vec<u32>) {
        if sockets.is_empty() {
            return;
        }
        if let Ok(table) = self.with(|process, _| process.descriptors()) {
            self.options.replace(Some(options::Asked::begin(sockets, table, self.before.new_sockets.clone())));
        }
    }

    /// Has the process ask for one: `room` begins with it.
    fn option(&self, fd: u32, option: &SockOpt, room: &mut [u8; SockOpt::LONGEST]) -> Result<Result<(), Errno>, Fault> {
        let args = [Arg::Int(fd.into()), option.level.into(), option.number.into()];
        let value = [Arg::Out(option.len), Arg::Word(option.len as u32)];
        let answer = self.make(&[Call::new(Sys::Getsockopt, args.into_iter().chain(value))])?.remove(0);
        answer.out.iter().flatten().zip(room).for_each(|(from, to)| *to = *from);
        Ok(answer.result.map(drop))
    }

    /// Makes calls of which resources will ask.
    pub(crate) fn ask_ahead(&self, calls: Arc<[Call]>) -> Result<(), Fault> {
        let answers = self.make(&calls)?;
        self.was_asked(Answers::new(calls, 0, answers));
        Ok(())
    }

    /// It has answered already.
    pub(crate) fn was_asked(&self, answers: Answers) {
        self.answers[1].replace(answers);
    }

    /// Makes the calls of which the captures of several descriptions will ask, and gives the answers of each.
    pub(crate) fn ask_for_each(&self, asks: Vec<Vec<Call>>) -> Result<Vec<Answers>, Fault> {
        let counts: Vec<usize> = asks.iter().map(Vec::len).collect();
        let calls: Arc<[Call]> = asks.into_iter().flatten().collect();
        let (mut answers, mut first) = (self.make(&calls)?.into_iter(), 0);
        let of_next = |count| {
            let its = Answers::new(Arc::clone(&calls), first, answers.by_ref().take(count));
            first += count;
            its
        };
        Ok(counts.into_iter().map(of_next).collect())
    }

    fn make(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        self.envoy.borrow_mut().calls(self.index, calls).map_err(|e| envoy_fault(e, self.pid))
    }

    /// The answers of calls that were made ahead, if they are the next.
    fn answered(&self, calls: &[Call]) -> Option<Vec<Answer>> {
        self.answers.iter().find_map(|answers| answers.borrow_mut().take(calls))
    }

    fn with<T>(&self, ask: impl FnOnce(&Process, &Stopped) -> T) -> T {
        let envoy = self.envoy.borrow();
        let process = envoy.process();
        ask(process, &process.threads()[self.index])
    }

    pub(crate) fn tid(&self) -> i32 {
        self.with(|_, t| t.tid())
    }

    fn path(&self, name: &str) -> PathBuf {
        if self.is_flying.get() && name.starts_with("fd") {
            return PathBuf::from(format!("/proc/self/{name}"));
        }
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// What was seen of a descriptor of the process, by its name.
    fn seen(&self, name: &str) -> Option<&Seen> {
        let number: u32 = name.strip_prefix("fd/")?.parse().ok()?;
        let own = self.table.numbers.get(&self.with(|process, _| process.pid())).filter(|_| !self.is_flying.get())?;
        let at = own.binary_search_by_key(&number, |(number, ..)| *number).ok()?;
        Some(&self.table.descriptions[own[at].1])
    }

    fn descriptor(&self, fd: u32) -> Result<OwnedFd, Fault> {
        if self.is_flying.get() { self.before.flights.copy(fd) } else { self.with(|p, _| p.descriptor(fd as i32)) }
    }

    /// Calls that have to do with a copy of ours are our own.
    fn make_own(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        if calls.iter().all(|call| call.sys.is_harmless()) {
            return Ok(here::calls(calls));
        }
        assert!(
            !calls.iter().flat_map(|call| &call.args).any(|arg| matches!(arg, Arg::At(_))),
            "one batch is in one place"
        );
        let make = |call: &Call| {
            if call.sys.is_harmless() { Ok(here::call(call)) } else { Ok(self.make(from_ref(call))?.remove(0)) }
        };
        calls.iter().map(make).collect()
    }

    fn inside(&self, path: &[u8]) -> PathBuf {
        let mut whole = self.root.as_os_str().to_owned();
        whole.push(OsStr::from_bytes(path));
        whole.into()
    }

    /// What waits in a pipe, by an end to read from it.
    fn peek_at(&self, pipe: &OwnedFd, fd: u32) -> Result<Buffers, Fault> {
        // pipe(7): who has no privilege and many pipes can have no more that are large.
        let call = |e| match e {
            rustix::io::Errno::PERM => {
                "make a pipe as large as one of it, for all pages that your user may have (sysctl fs.pipe-user-pages-soft) are in use"
            }
            _ => "tee",
        };
        let fault = |e| Fault::new(call(e), fd, std::io::Error::from(e));
        let known = self.before.copies.take();
        let mut copies = known.map_or_else(Copies::new, Ok).map_err(fault)?;
        let all = copies.peek(pipe).map_err(fault)?;
        self.before.copies.replace(Some(copies));
        Ok(all)
    }

    /// Of what the tree is told.
    fn listened(&self) -> &Listened {
        let look = || Listened::of(self.table.descriptions.iter().map(|seen| &seen.info.text[..]));
        self.before.listened.get_or_init(look)
    }

    /// Who opens a file breaks leases on it (fcntl(2)): the program would be told. And he waits for who says whether he may (fanotify(7)).
    fn open(&self, path: &Path) -> Result<File, Fault> {
        if self.listened().is_asked() {
            let what = format!("{}: the program itself says who may open files", path.display());
            return Err(Fault::new("open", what, Errno::EAGAIN));
        }
        let holds = |line: &Vec<u8>| proc::lock(line).is_some_and(|lock| lock.is_broken_by_reading());
        let leased = |told: &Told| told.lines.iter().any(holds);
        let leased: Vec<Told> = self.lines("lock").into_iter().filter(leased).collect();
        if !leased.is_empty() {
            let there = std::fs::metadata(path).map_err(|e| fault("open", path, e))?;
            let inode = |told: &Told| self.table.descriptions[told.description as usize - 1].stat;
            if leased.iter().map(inode).any(|held| (held.dev, held.ino) == (there.dev(), there.ino())) {
                let what = format!("{}, on which the program has a lease", path.display());
                return Err(Fault::new("open", what, Errno::EAGAIN));
            }
        }
        File::open(path).map_err(|e| fault("open", path, e))
    }

    fn save(&self, file: &File, size: u64) -> Result<Vec<Extent>, Fault> {
        self.saver.borrow_mut().file(file, size)
    }
}

fn fault(call: &str, path: &Path, e: std::io::Error) -> Fault {
    Fault::new(call, path.display(), e)
}

/// Where a link leads.
pub(crate) fn read_link(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    let link = std::fs::read_link(&path).map_err(|e| fault("readlink", path.as_ref(), e))?;
    Ok(link.into_os_string().into_vec())
}

impl Probe for Target<'_, '_, '_, '_> {
    fn text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let known = self.texts.iter().find_map(|texts| texts.get(name));
        if let Some(text) = known {
            return Ok(text.clone());
        }
        if name.starts_with("fdinfo/") { read_record(self.path(name)) } else { read(self.path(name)) }
    }

    fn text_around(&self, name: &str) -> Result<Vec<u8>, Fault> {
        if let Some(text) = self.links.borrow().get(name) {
            return Ok(text.clone());
        }
        let text = self.text(name)?;
        self.links.borrow_mut().insert(name.into(), text.clone());
        Ok(text)
    }

    fn thread_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        if name == "status" {
            return Ok(self.with(|_, thread| thread.status().to_vec()));
        }
        read(format!("/proc/{}/{name}", self.tid()))
    }

    fn link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        if let Some(link) = self.links.borrow().get(name) {
            return Ok(link.clone());
        }
        let link = read_link(self.path(name))?;
        if name.starts_with("ns/") {
            self.links.borrow_mut().insert(name.into(), link.clone());
        }
        Ok(link)
    }

    fn own_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        if let Some(link) = self.before.own_links.get(name) {
            return Ok(link.clone());
        }
        read_link(format!("/proc/self/{name}"))
    }

    fn own_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        read(format!("/proc/self/{name}"))
    }

    fn root_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        read_link(format!("/proc/{}/{name}", self.before.root))
    }

    fn host_text(&self, path: &str) -> Result<String, Fault> {
        Ok(String::from_utf8_lossy(&read(path)?).into_owned())
    }

    fn stat(&self, name: &str) -> Result<FileStat, Fault> {
        if let Some(seen) = self.seen(name) {
            return Ok(seen.stat);
        }
        let path = self.path(name);
        rustix::fs::stat(path.as_path()).map(file_stat).map_err(|e| fault("stat", &path, e.into()))
    }

    fn stat_path(&self, path: &[u8]) -> Result<Option<FileStat>, Fault> {
        // What cannot be looked at is not there for whoever thaws, either.
        Ok(rustix::fs::stat(self.inside(path).as_path()).ok().map(file_stat))
    }

    fn stat_link(&self, path: &[u8]) -> Result<Option<FileStat>, Fault> {
        Ok(rustix::fs::lstat(self.inside(path).as_path()).ok().map(file_stat))
    }

    fn may(&self, path: &[u8], access: u32) -> bool {
        let (path, access) = (self.inside(path), Access::from_bits_truncate(access));
        rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS) != Err(rustix::io::Errno::ACCESS)
    }

    fn may_open(&self, path: &[u8], access: u32) -> bool {
        if self.may(path, access) {
            return true;
        }
        let (path, access) = (self.inside(path), Access::from_bits_truncate(access));
        let by_bits = !access.contains(Access::EXEC_OK) && is_own(&path);
        by_bits && tracee::here::can_make_user_namespace().unwrap_or(false)
    }

    fn is_able(&self, capability: u32) -> bool {
        self.before.capabilities.get_or_init(capabilities) >> capability & 1 == 1
    }

    fn name_in(&self, directory: &[u8], inode: u64) -> Option<Vec<u8>> {
        if self.listened().is_asked() {
            return None;
        }
        let mut entries = std::fs::read_dir(self.inside(directory)).ok()?.flatten();
        let entry = entries.find(|entry| entry.ino() == inode)?;
        Some([directory, entry.file_name().as_bytes()].concat())
    }

    fn has_room(&self, directory: &[u8]) -> bool {
        rustix::fs::statvfs(self.inside(directory).as_path()).is_ok_and(|system| system.f_bavail > 0)
    }

    fn entries(&self, directory: &[u8]) -> Vec<Entry> {
        if self.listened().is_asked() {
            return Vec::new();
        }
        let entries = std::fs::read_dir(self.inside(directory)).into_iter().flatten().flatten();
        let entry = |entry: std::fs::DirEntry| Entry {
            ino: entry.ino(),
            is_directory: entry.file_type().is_ok_and(|kind| kind.is_dir()),
            name: entry.file_name().into_vec(),
        };
        entries.map(entry).collect()
    }

    fn path_of(&self, mount_point: &[u8], kind: i32, handle: &[u8]) -> Option<Vec<u8>> {
        use rustix::fs::OFlags;
        if self.listened().is_asked() {
            return None;
        }
        let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
        let mount = File::options().read(true).custom_flags(flags).open(self.inside(mount_point)).ok()?;
        // struct file_handle (linux/fcntl.h).
        let handle = [&(handle.len() as u32).to_ne_bytes()[..], &kind.to_ne_bytes(), handle].concat();
        let args = [Arg::Int(mount.as_raw_fd() as u64), Arg::Bytes(handle), Arg::Int(OFlags::PATH.bits().into())];
        let fd = here::call(&Call::new(Sys::OpenByHandleAt, args)).result.ok()? as u32;
        let path = read_link(format!("/proc/self/fd/{fd}"));
        here::close_range(fd, fd);
        path.ok()
    }

    fn removed(&self) -> Vec<Removed> {
        let all =
            self.table.descriptions.iter().zip(1..).filter(|(seen, _)| seen.stat.nlink == 0 && !seen.names_only());
        let removed = |(seen, description): (&Seen, u32)| {
            let FileStat { dev, ino, mode, .. } = seen.stat;
            Removed { dev, ino, mode, description, shown: seen.link.0.clone() }
        };
        all.map(removed).collect()
    }

    fn attributes(&self, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        const ROOM: usize = 1 << 16;
        let (path, mut names, mut value) = (self.path(name), vec![0; ROOM], vec![0; ROOM]);
        let len = rustix::fs::listxattr(path.as_path(), &mut names[..]).unwrap_or(0);
        let value = |name: &[u8]| {
            let len = rustix::fs::getxattr(path.as_path(), name, &mut value[..]).ok()?;
            Some((name.to_vec(), value[..len].to_vec()))
        };
        names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).filter_map(value).collect()
    }

    fn hears_of(&self, path: &[u8], stat: Option<FileStat>) -> bool {
        let listened = self.listened();
        let at = |path: &[u8]| self.stat_path(path).ok()?;
        let stat = || stat.or_else(|| at(path));
        !listened.is_empty() && stat().is_some_and(|stat| listened.hears(&stat, || at(parent(path))))
    }

    fn open_paths(&self) -> Vec<Vec<u8>> {
        let links = self.table.descriptions.iter().map(|seen| &seen.link.0);
        links.filter(|link| link.starts_with(b"/")).cloned().collect()
    }

    fn head(&self, path: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
        if self.hears_of(path, None) {
            return Err(Fault::new("open", path.escape_ascii(), Errno::EAGAIN));
        }
        let path = self.inside(path);
        let mut head = Vec::with_capacity(len);
        let file = self.open(&path)?;
        file.take(len as u64).read_to_end(&mut head).map_err(|e| fault("read", &path, e))?;
        Ok(head)
    }

    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        if self.is_flying.get() {
            return self.make_own(calls);
        }
        self.answered(calls).map_or_else(|| self.make(calls), Ok)
    }

    fn calls_now(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        self.make(calls)
    }

    fn is_last(&self) -> bool {
        self.is_last
    }

    fn begin(&self, calls: &[Call]) {
        if !self.is_flying.get() {
            // Whoever asks for them hears of any trouble.
            let _ = self.envoy.borrow_mut().begin(calls.into());
        }
    }

    fn memory(&self, at: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; len];
        self.with(|p, _| p.memory().read(at, &mut bytes))?;
        Ok(bytes)
    }

    fn regs(&self) -> UserRegs {
        self.with(|_, t| *t.regs())
    }

    fn xstate(&self) -> Vec<u8> {
        self.with(|_, t| t.xstate().to_vec())
    }

    fn mask(&self) -> u64 {
        self.with(|_, t| t.sigmask())
    }

    fn own_fs(&self) -> Option<String> {
        let tid = self.tid();
        self.before.own_fs.contains(&tid).then(|| format!("task/{tid}/"))
    }

    fn rseq(&self) -> Option<RseqConfiguration> {
        self.with(|_, t| t.rseq().copied())
    }

    fn dispatch(&self) -> Option<DispatchConfiguration> {
        self.with(|_, t| t.dispatch().copied())
    }

    fn filters(&self) -> Result<Vec<Filter>, Fault> {
        Ok(self.with(|_, t| t.filters().to_vec()))
    }

    fn locks_on_fault(&self) -> Result<bool, Fault> {
        let (arena, path) = (self.envoy.borrow().arena(), self.path("smaps"));
        let areas = proc::smaps(&read(&path)?).map_err(|_| Fault::new("read", path.display(), Errno::EINVAL))?;
        Ok(areas.iter().any(|area| area.start <= arena && arena < area.end && area.has(b"lf")))
    }

    fn locks_new_areas(&self) -> Result<bool, Fault> {
        self.envoy.borrow_mut().locks_new_areas().map_err(|e| envoy_fault(e, self.pid))
    }

    fn idle(&self) -> Option<u64> {
        self.with(|_, t| t.idle())
    }

    fn wait_channel(&self) -> Vec<u8> {
        self.with(|_, t| t.wait_channel().to_vec())
    }

    fn may_have_undo(&self) -> bool {
        self.before.with_undo.as_ref().is_none_or(|all| all.contains(&self.pid))
    }

    fn inner_tid(&self, outer: u32) -> Option<u32> {
        self.before.inner.get(&outer).copied()
    }

    fn born_of(&self) -> Option<u32> {
        self.inner_tid(*self.before.born.get(&self.with(|process, _| process.pid()))?)
    }

    fn members(&self) -> Vec<u32> {
        self.before.inner.values().copied().collect()
    }

    fn stopped_children(&self) -> Vec<u32> {
        let own = self.with(|process, _| process.pid());
        self.before.stopped.iter().filter(|(_, parent)| *parent == own).map(|(pid, _)| *pid).collect()
    }

    fn neighbours(&self, name: &str) -> Result<Vec<u32>, Fault> {
        let its = self.link(name)?;
        let lives_there = |pid: &u32| {
            let link = read_link(format!("/proc/{pid}/{name}"));
            !self.before.inner.contains_key(pid) && link.is_ok_and(|link| link == its)
        };
        Ok(numbers("/proc").filter(lives_there).collect())
    }

    fn peek(&self, fd: u32) -> Result<Buffers, Fault> {
        self.peek_at(&self.descriptor(fd)?, fd)
    }

    fn peek_unread(&self, seen: &Seen) -> Result<Option<Buffers>, Fault> {
        let inode = (seen.stat.dev, seen.stat.ino);
        // Who waits for a reader would have had one, and who is sent signals is when a reader goes (fs/pipe.c, `pipe_release`).
        let mut ends = self.table.descriptions.iter().filter(|other| (other.stat.dev, other.stat.ino) == inode);
        let is_heard = self.listened().is_asked()
            || self.hears_of(&seen.link.0, None)
            || ends.any(|other| other.info.flags & O_ASYNC != 0)
            || fifo::waiting().contains_key(&inode);
        let opened = || fifo::reader(&self.descriptor(seen.fd).ok()?);
        match if is_heard { None } else { opened() } {
            Some(reader) => self.peek_at(&reader, seen.fd).map(Some),
            None => Ok(None),
        }
    }

    fn watches(&self, by: u32, number: u32, nth: u32) -> Result<Option<bool>, Fault> {
        match tracee::sys::kcmp_watch((self.pid, number), self.pid, Slot { efd: by, tfd: number, toff: nth }) {
            Ok(order) => Ok(Some(order.is_eq())),
            // It has no such number, or no such watch.
            Err(fault) if matches!(fault.errno, Errno::EBADF | Errno::ENOENT) => Ok(Some(false)),
            // A kernel without kcmp(2), or a filter that forbids it to us.
            Err(fault) if matches!(fault.errno, Errno::ENOSYS | Errno::EPERM) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn watched(&self, by: u32, (number, inode): (u32, u64), nth: u32) -> Result<Option<u32>, Fault> {
        let slot = Slot { efd: by, tfd: number, toff: nth };
        let like = self.table.descriptions.iter().zip(1..).filter(|(seen, _)| seen.stat.ino == inode);
        let own = if self.is_flying.get() { std::process::id() as i32 } else { self.pid };
        for (seen, id) in like {
            match tracee::sys::kcmp_watch((seen.pid as i32, seen.fd), own, slot) {
                Ok(order) if order.is_eq() => return Ok(Some(id)),
                Ok(_) => {}
                // It has no such number, or the kernel does not tell.
                Err(f) if matches!(f.errno, Errno::EBADF | Errno::ENOENT | Errno::ENOSYS | Errno::EPERM) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    fn other_holders(&self, link: &[u8]) -> Result<Vec<u32>, Fault> {
        Ok(self.before.outside.with_link(link))
    }

    fn other_opener(&self, seen: &Seen) -> Result<Option<u32>, Fault> {
        Ok(self.before.outside.that_opened(seen.stat.dev, seen.stat.ino))
    }

    fn has_hidden_end(&self, seen: &Seen) -> Result<bool, Fault> {
        // fs/pipe.c, pipe_poll: POLLHUP where nobody writes, POLLERR where nobody reads.
        const CLOSED: u16 = 0x18;
        let is_seen = self.table.has_other_end(seen) || self.ready(seen.fd)? & CLOSED != 0;
        Ok(!is_seen && (seen.info.flags & O_ACCMODE != 0 || !self.is_unheard(seen.fd)?))
    }

    fn is_unheard(&self, fd: u32) -> Result<bool, Fault> {
        // Who opened a named one without waiting for a writer is told of no end (POLLHUP) until there was one.
        const POLLHUP: u16 = 0x10;
        let pipe = self.descriptor(fd)?;
        let at_end = is_at_end(&pipe).map_err(|e| Fault::new("tee", fd, std::io::Error::from(e)))?;
        Ok(at_end && self.ready(fd)? & POLLHUP == 0)
    }

    fn ready(&self, fd: u32) -> Result<u16, Fault> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let told = self.answered(&[Call::ready(fd)]).filter(|_| !self.is_flying.get());
        if let Some(ready) = told.and_then(|answers| answers[0].is_ready()) {
            return Ok(ready);
        }
        let own = self.descriptor(fd)?;
        let mut asked = [PollFd::new(&own, PollFlags::IN | PollFlags::PRI | PollFlags::OUT | PollFlags::RDHUP)];
        poll(&mut asked, Some(&Timespec::default())).map_err(|e| Fault::new("poll", fd, std::io::Error::from(e)))?;
        Ok(asked[0].revents().bits())
    }

    fn look_into(&self, fd: u32, first: usize, len: u64) -> Result<(Vec<u8>, bool), Fault> {
        here::look_into(&self.descriptor(fd)?, first, len as usize).map_err(|e| Fault::new("mmap", fd, e))
    }

    fn local_sockets(&self) -> Result<Arc<LocalSockets>, Fault> {
        self.before.local_sockets()
    }

    fn messages(&self, inode: u64) -> Option<Vec<Message>> {
        self.before.flights.messages(inode, self.table)
    }

    fn shut_down(&self, protocol: u64) -> Arc<HashMap<u32, u8>> {
        let mut all = self.before.shut_down.borrow_mut();
        all.entry(protocol).or_insert_with(|| Arc::new(sockets::shut_down(protocol))).clone()
    }

    fn packet_sockets(&self) -> Result<Vec<LinkSocket>, Fault> {
        sockets::packets()
    }

    fn connections(&self) -> Result<Arc<proc::Connections>, Fault> {
        self.before.connections.get_or_init(|| sockets::connections().map(Arc::new)).clone()
    }

    fn unread(&self, fd: u32, bytes: u32) -> Result<Vec<u8>, Fault> {
        let own = self.descriptor(fd)?;
        sockets::peek(&own, bytes as usize).map_err(|e| Fault::new("recv", fd, e))
    }

    fn options(&self, fd: u32, kind: SocketKind) -> Result<Options, Fault> {
        let new = &self.before.new_sockets;
        let asked = self.options.borrow().as_ref().filter(|_| !self.is_flying.get()).and_then(|all| all.take(fd, kind));
        if let Some(options) = asked {
            return Ok(options);
        }
        match self.descriptor(fd) {
            Ok(socket) => new.changed_of(&socket, kind),
            // Of a process whose first thread has ended, not every kernel gives duplicates.
            Err(_) => new.changed(kind, |option, room| self.option(fd, option, room)),
        }
    }

    fn is_in_tree(&self, link: &[u8]) -> bool {
        self.table.has_link(link)
    }

    fn lines(&self, key: &str) -> Vec<Told> {
        let told = |(at, seen): &(usize, Seen)| {
            let lines: Vec<_> = seen.info.fields(key).map(<[u8]>::to_vec).collect();
            let (description, flags, ino) = (*at as u32 + 1, seen.flags(), seen.info.ino);
            (!lines.is_empty()).then_some(Told { pid: seen.pid, number: seen.fd, description, flags, ino, lines })
        };
        let look = || self.table.all.iter().filter_map(told).collect();
        self.before.lines.borrow_mut().entry(key.to_owned()).or_insert_with(look).clone()
    }

    fn descriptions(&self) -> Vec<Told> {
        let own = self.with(|process, _| process.pid()) as u32;
        let told = |(at, seen): (usize, &Seen)| {
            let (description, flags, ino) = (at as u32 + 1, seen.info.flags, seen.info.ino);
            Told { pid: own, number: seen.fd, description, flags, ino, lines: Vec::new() }
        };
        let all = self.table.descriptions.iter().enumerate();
        all.filter(|(_, seen)| seen.pid == own && !seen.names_only()).map(told).collect()
    }

    fn with_link(&self, link: &[u8]) -> Vec<u32> {
        let look = || {
            let mut all: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
            for (seen, id) in self.table.descriptions.iter().zip(1..).filter(|(seen, _)| !seen.names_only()) {
                all.entry(seen.link.0.clone()).or_default().push(id);
            }
            all
        };
        self.before.by_link.get_or_init(look).get(link).cloned().unwrap_or_default()
    }

    fn other_sharers(&self, seen: &Seen) -> Result<Vec<u32>, Fault> {
        self.before.outside.with_description((seen.pid, seen.fd), &self.table.descriptions)
    }

    fn other_users(&self, dev: u64, inode: u64, name: &[u8]) -> Result<Vec<Holder>, Fault> {
        Ok(self.before.outside.with_inode(dev, inode, name))
    }

    fn seals(&self, name: &str) -> Result<u32, Fault> {
        let path = self.path(name);
        let file = self.open(&path)?;
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|e| fault("fcntl", &path, e.into()))?;
        Ok(seals.bits())
    }

    fn save_memory(&self, areas: &[(Range<u64>, Which)]) -> Result<Saved, Fault> {
        let path = self.path("pagemap");
        let pagemap = File::open(&path).map_err(|e| fault("open", &path, e))?;
        self.with(|p, _| self.saver.borrow_mut().memory(p.memory(), &pagemap, areas))
    }

    fn save_link(&self, name: &str, size: u64) -> Result<Vec<Extent>, Fault> {
        let path = self.path(name);
        let file = self.open(&path)?;
        self.save(&file, size)
    }

    fn save_segment(&self, id: u32, size: u64) -> Result<SavedSegment, Fault> {
        // A window is a copy of ours, and only of this thread.
        let mut saver = self.saver.borrow_mut();
        saver.settle()?;
        let window = Window::open(self.pid, id, size)?;
        Ok(SavedSegment { contents: saver.window(&window)?, page: window.page() })
    }

    fn save_path(&self, path: &[u8], size: u64) -> Result<Vec<Extent>, Fault> {
        let path = self.inside(path);
        let file = self.open(&path)?;
        self.save(&file, size)
    }
}

/// Whether nothing waits in a pipe, and nobody writes: where somebody does, tee(2) would block (fs/splice.c, ipipe_prep).
fn is_at_end(pipe: &impl std::os::fd::AsFd) -> rustix::io::Result<bool> {
    use rustix::pipe::{PipeFlags, SpliceFlags};
    let (_read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok(rustix::pipe::tee(pipe, &write, 1, SpliceFlags::NONBLOCK) == Ok(0))
}

/// Two pipes of ours, into which those of the tree are copied one after the other. Each has a read end and a write end.
#[derive(Debug)]
pub(crate) struct Copies {
    all: [OwnedFd; 2],
    next: [OwnedFd; 2],
    capacity: usize,
}

impl Copies {
    fn new() -> rustix::io::Result<Copies> {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
        const TWO_BUFFERS: usize = 2 << 12;
        let ends = || Ok::<_, rustix::io::Errno>(pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?.into());
        let (all, next): ([OwnedFd; 2], [OwnedFd; 2]) = (ends()?, ends()?);
        fcntl_setpipe_size(&next[1], TWO_BUFFERS)?;
        let capacity = fcntl_getpipe_size(&all[1])?;
        Ok(Copies { all, next, capacity })
    }

    /// Everything in a pipe, by the buffers that hold it, and which of them are packets. A copy of each goes with all that it is
    /// (fs/splice.c, `splice_pipe_to_pipe`) into a pipe that has room for one besides a byte; a read goes on behind one that is none
    /// (fs/pipe.c, `pipe_read`). Both are empty again then, unless there was an error.
    fn peek(&mut self, pipe: &OwnedFd) -> rustix::io::Result<Buffers> {
        use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice, tee};
        let ([copies, write], [read, next]) = (&self.all, &self.next);
        let capacity = fcntl_getpipe_size(pipe)?;
        let mut is_small = false;
        if capacity > self.capacity {
            match fcntl_setpipe_size(write, capacity) {
                Err(rustix::io::Errno::PERM) => is_small = true,
                other => self.capacity = other?,
            }
        }
        let len = match tee(pipe, write, usize::MAX >> 1, SpliceFlags::NONBLOCK) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(Vec::new()),
            other => other?,
        };
        if is_small && len as u64 != rustix::io::ioctl_fionread(pipe)? {
            // What was copied is in nobody's way: these two are closed.
            return Err(rustix::io::Errno::PERM);
        }
        let mut all = Vec::new();
        loop {
            rustix::io::write(next, b"x")?;
            let len = match splice(copies, None, next, None, usize::MAX >> 1, SpliceFlags::NONBLOCK) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => 0,
                other => other?,
            };
            rustix::io::read(read, &mut [0])?;
            if len == 0 {
                return Ok(all);
            }
            rustix::io::write(next, b"x")?;
            let mut buffer = vec![0; len + 1];
            let is_packet = rustix::io::read(read, &mut buffer[..])? == len;
            if is_packet {
                rustix::io::read(read, &mut [0])?;
            }
            buffer.truncate(len);
            all.push((buffer, is_packet));
        }
    }
}
