//! What a resource may ask about a stopped process, and nothing more. A seized process answers in earnest; recorded
//! text answers in tests.

use crate::fd::{Seen, file::File};
use crate::ipc::Used;
use crate::{Note, Text, Trouble};
use abi::diag::{LinkSocket, LocalSockets};
use abi::layout::FileStat;
use abi::seccomp::Filter;
use abi::signal::Siginfo;
use abi::sockopt::SocketKind;
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use abi::{Answer, Call, Errno, Fault, proc};
use core::net::SocketAddr;
use image::Extent;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Which pages of an area go into the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those that the process made: anonymous memory. Pages of zeroes are left out.
    Made,
    /// Those that differ from the file behind the area, zeroes or not.
    Changed,
    /// Those that are still the file's, but zeroes.
    Unchanged,
    /// All that can be read, but zeroes.
    All,
    /// None: only its guards are told.
    Guards,
}

impl Which {
    /// Whether relatives may have the same pages since fork(2).
    pub fn may_be_common(self) -> bool {
        matches!(self, Which::Made | Which::Changed)
    }
}

/// Which queue of pending signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// The thread's own.
    Thread,
    /// The one that its process shares.
    Process,
}

/// What was put into the image of some areas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saved {
    /// The runs of pages.
    pub extents: Vec<Extent>,
    /// Guard regions (madvise(2), MADV_GUARD_INSTALL).
    pub guards: Vec<Range<u64>>,
}

/// A segment of System V shared memory that was put into the image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SavedSegment {
    /// The runs of its pages: offsets in it.
    pub contents: Vec<Extent>,
    /// In bytes, the size of the huge pages that it is made of; 0: it is made of none.
    pub page: u64,
}

/// A process outside of the tree that has a file of it too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Whether it may write.
    pub writes: bool,
}

/// A file or directory of the tree without a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// Its device and inode number.
    pub dev: u64,
    /// See `dev`.
    pub ino: u64,
    /// Type and permission bits (inode(7)).
    pub mode: u32,
    /// The id of a description of it.
    pub description: u32,
    /// What /proc shows of that.
    pub shown: Vec<u8>,
}

/// What /proc tells of a descriptor of the tree, in lines that may stand there more than once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The process that has it, by its id here.
    pub pid: u32,
    /// The descriptor.
    pub number: u32,
    /// The id of its description.
    pub description: u32,
    /// Access mode and status flags (open(2)).
    pub flags: u32,
    /// The number of its inode, where the kernel (5.14) tells it.
    pub ino: Option<u64>,
    /// The values.
    pub lines: Vec<Vec<u8>>,
}

/// A message that waits in a socket, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many there are: what is missing comes next.
    pub len: usize,
    /// The name of who sent it, with its family; empty where it has none.
    pub name: Vec<u8>,
    /// Process, user and group of who sent it, if the socket tells.
    pub credentials: Option<(u32, u32, u32)>,
    /// The descriptions that came with it, by their ids.
    pub rights: Vec<u32>,
    /// MSG_ flags.
    pub flags: u32,
}

/// What a directory has below a name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its inode number.
    pub ino: u64,
    /// The name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// What waits in a pipe, buffer by buffer, and whether that is a packet.
pub type Buffers = Vec<(Vec<u8>, bool)>;

/// The raw observations. Each about one thread of a stopped process, or about the process.
pub trait Probe {
    /// The text of /proc/PID/`name`.
    fn text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("read", name, Errno::ENOENT))
    }
    /// The same, of a text that tells of what is around the process, and not of it: read once for all that it has.
    fn text_around(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.text(name)
    }
    /// The text of /proc/PID/task/TID/`name`.
    fn thread_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.text(name)
    }
    /// Where below /proc/PID the links of the thread's own filesystem context stand, if it has one apart from its process.
    fn own_fs(&self) -> Option<String> {
        None
    }
    /// Where the link /proc/PID/`name` leads.
    fn link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("readlink", name, Errno::ENOENT))
    }
    /// Where the link of the same name of whoever asks leads.
    fn own_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("readlink", name, Errno::ENOENT))
    }
    /// The text of the same name of whoever asks.
    fn own_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("read", name, Errno::ENOENT))
    }
    /// Where the link of the same name of the root of the tree leads.
    fn root_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        self.link(name)
    }
    /// A text of the host: the file at a path in /proc.
    fn host_text(&self, path: &str) -> Result<String, Fault> {
        Err(Fault::new("read", path, Errno::ENOENT))
    }
    /// What stands behind the link /proc/PID/`name`.
    fn stat(&self, name: &str) -> Result<FileStat, Fault> {
        Err(Fault::new("stat", name, Errno::ENOENT))
    }
    /// What stands at a path, in the mount namespace of the process; `None`: nothing.
    fn stat_path(&self, _path: &[u8]) -> Result<Option<FileStat>, Fault> {
        Ok(None)
    }
    /// The same; a symbolic link is looked at itself.
    fn stat_link(&self, path: &[u8]) -> Result<Option<FileStat>, Fault> {
        self.stat_path(path)
    }
    /// Whether we may do what we ask for (bits of access(2)) with what stands at a path, likewise; of what is not there, true.
    fn may(&self, _path: &[u8], _access: u32) -> bool {
        true
    }
    /// Whether we may open a regular file there so: whoever owns it may, whatever its permission bits say.
    fn may_open(&self, path: &[u8], access: u32) -> bool {
        self.may(path, access)
    }
    /// Whether we have a capability (capabilities(7)).
    fn is_able(&self, _capability: u32) -> bool {
        true
    }
    /// The path of a file with this inode number that stands in a directory, likewise.
    fn name_in(&self, _directory: &[u8], _inode: u64) -> Option<Vec<u8>> {
        None
    }
    /// Whether more can be written into the file system of a directory, likewise.
    fn has_room(&self, _directory: &[u8]) -> bool {
        true
    }
    /// What stands in a directory, likewise; nothing where one may not look.
    fn entries(&self, _directory: &[u8]) -> Vec<Entry> {
        Vec::new()
    }
    /// The path of what has a handle (open_by_handle_at(2)) in the file system that is mounted at a place, likewise; `None`:
    /// who asks may not know, or there is no such thing.
    fn path_of(&self, _mount_point: &[u8], _kind: i32, _handle: &[u8]) -> Option<Vec<u8>> {
        None
    }
    /// What the tree has open that has no name.
    fn removed(&self) -> Vec<Removed> {
        Vec::new()
    }
    /// The extended attributes (xattr(7)) of what stands behind the link /proc/PID/`name`, with their values, as far as one may see them.
    fn attributes(&self, _name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        Vec::new()
    }
    /// Whether somebody in the tree is told when the file at a path is opened or read (inotify(7), fanotify(7)); `stat` is what is known
    /// of it, if its name is gone.
    fn hears_of(&self, _path: &[u8], _stat: Option<FileStat>) -> bool {
        false
    }
    /// Where the descriptors of the tree lead, as far as that is a path.
    fn open_paths(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
    /// The first bytes of the file at a path, likewise.
    fn head(&self, path: &[u8], _len: usize) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("open", path.escape_ascii(), Errno::ENOENT))
    }
    /// System calls made by the thread.
    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        let what = calls.first().map_or("no call", |c| c.sys.name());
        Err(Fault::new(what, "recorded process", Errno::ENOSYS))
    }
    /// The same, whatever was asked ahead.
    fn calls_now(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        self.calls(calls)
    }
    /// Whether no other process of the tree is captured after this one.
    fn is_last(&self) -> bool {
        true
    }
    /// The thread begins with calls for which [`Probe::calls`] will be asked, while other things are looked at.
    fn begin(&self, _calls: &[Call]) {}
    /// Bytes of the memory of the process.
    fn memory(&self, _at: u64, _len: usize) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("process_vm_readv", "recorded process", Errno::EFAULT))
    }
    /// The general registers of the thread, with the interrupted call in them.
    fn regs(&self) -> UserRegs {
        UserRegs::default()
    }
    /// Its NT_X86_XSTATE regset.
    fn xstate(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Its blocked signals.
    fn mask(&self) -> u64 {
        0
    }
    /// Its registration for restartable sequences, if any.
    fn rseq(&self) -> Option<RseqConfiguration> {
        None
    }
    /// How it dispatches its system calls to itself, if it does.
    fn dispatch(&self) -> Option<DispatchConfiguration> {
        None
    }
    /// The seccomp filters of the thread, the one that was installed first at the beginning.
    fn filters(&self) -> Result<Vec<Filter>, Fault> {
        Ok(Vec::new())
    }
    /// Whether areas that the process makes from now on are locked into memory (mlockall(2), MCL_FUTURE).
    fn locks_new_areas(&self) -> Result<bool, Fault> {
        Ok(false)
    }
    /// Whether such areas are locked page by page, as they are used (MCL_ONFAULT).
    fn locks_on_fault(&self) -> Result<bool, Fault> {
        Ok(false)
    }
    /// For how many nanoseconds the thread had not run when it was seized; `None` where the kernel does not tell.
    fn idle(&self) -> Option<u64> {
        None
    }
    /// The kernel function in which it slept (/proc/PID/wchan), before it was seized.
    fn wait_channel(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The id that a thread has in its own pid namespace, from the one that /proc here prints.
    fn inner_tid(&self, outer: u32) -> Option<u32> {
        Some(outer)
    }
    /// The thread of which its process was born, by its id in its own pid namespace, if that is not the first one of its parent.
    fn born_of(&self) -> Option<u32> {
        None
    }
    /// The ids of the processes of the tree, each in its own pid namespace.
    fn members(&self) -> Vec<u32> {
        Vec::new()
    }
    /// The children of the process that are of the tree and stopped by a signal, by their ids in their own pid namespace.
    fn stopped_children(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Processes outside of the tree that live in the same namespace, by the link /proc/PID/`name`.
    fn neighbours(&self, _name: &str) -> Result<Vec<u32>, Fault> {
        Ok(Vec::new())
    }
    /// Whether semaphores may get something back when the process ends (semop(2), SEM_UNDO).
    fn may_have_undo(&self) -> bool {
        true
    }
    /// What waits to be read in a pipe; it stays there.
    fn peek(&self, fd: u32) -> Result<Buffers, Fault> {
        Err(Fault::new("tee", fd, Errno::EINVAL))
    }
    /// The same of a named pipe that nobody has open to read, by an end to write into it. `None`: we may not open it, or somebody would be
    /// told that we do.
    fn peek_unread(&self, seen: &Seen) -> Result<Option<Buffers>, Fault> {
        self.peek(seen.fd).map(Some)
    }
    /// Whether what an epoll instance watches under a number is what the number leads to now. `nth` counts its watches under
    /// that number, in the order of fdinfo. `None` where the kernel does not tell.
    fn watches(&self, _epoll: u32, _number: u32, _nth: u32) -> Result<Option<bool>, Fault> {
        Ok(None)
    }
    /// The description of the tree, by its id, that an epoll instance watches where its number leads elsewhere by now; the inode is
    /// that of what is watched, `nth` as above.
    fn watched(&self, _epoll: u32, _number_and_inode: (u32, u64), _nth: u32) -> Result<Option<u32>, Fault> {
        Ok(None)
    }
    /// Processes outside the tree that have the same pipe or socket (`pipe:[123]`). Of this and the next three: those that we
    /// may not look at are not seen.
    fn other_holders(&self, _link: &[u8]) -> Result<Vec<u32>, Fault> {
        Ok(Vec::new())
    }
    /// A process outside the tree that has a named pipe open, by whatever name.
    fn other_opener(&self, _seen: &Seen) -> Result<Option<u32>, Fault> {
        Ok(None)
    }
    /// Whether the other end of a pipe is with somebody whom we may not see: nobody in the tree has it, and the kernel does not
    /// say that it is closed.
    fn has_hidden_end(&self, _seen: &Seen) -> Result<bool, Fault> {
        Ok(false)
    }
    /// Whether nothing waits in a pipe, nobody writes, and poll(2) tells of no end, as nobody ever did.
    fn is_unheard(&self, _fd: u32) -> Result<bool, Fault> {
        Ok(false)
    }
    /// What is true of a descriptor, as poll(2) tells it, in all of its bits.
    fn ready(&self, fd: u32) -> Result<u16, Fault> {
        Err(Fault::new("poll", fd, Errno::EBADF))
    }
    /// The first bytes of what a descriptor shows where it is mapped as memory of this length; and whether all behind them is zeroes.
    fn look_into(&self, fd: u32, _first: usize, _len: u64) -> Result<(Vec<u8>, bool), Fault> {
        Err(Fault::new("mmap", fd, Errno::ENODEV))
    }
    /// What the kernel tells of sockets of AF_UNIX, in our own network namespace.
    fn local_sockets(&self) -> Result<Arc<LocalSockets>, Fault> {
        Ok(Arc::default())
    }
    /// What the kernel tells of sockets of AF_PACKET, likewise.
    fn packet_sockets(&self) -> Result<Vec<LinkSocket>, Fault> {
        Ok(Vec::new())
    }
    /// Of sockets of messages of a protocol of the internet, likewise, by their inode numbers, which directions are shut down: 1 to
    /// receive, 2 to send. Not every kernel tells it.
    fn shut_down(&self, _protocol: u64) -> Arc<HashMap<u32, u8>> {
        Arc::default()
    }
    /// The connections of TCP in our own network namespace.
    fn connections(&self) -> Result<Arc<proc::Connections>, Fault> {
        let lines = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| self.host_text(path).unwrap_or_default());
        Ok(Arc::new(proc::Connections::of(lines.iter().flat_map(|text| proc::inet(text)))))
    }
    /// The first bytes that wait to be read in a socket; they stay there.
    fn unread(&self, fd: u32, _bytes: u32) -> Result<Vec<u8>, Fault> {
        Err(Fault::new("recv", fd, Errno::EBADF))
    }
    /// What waits in the socket of AF_UNIX with this inode number, if descriptors wait in it, or if it is itself in flight; `None`: it
    /// is to be looked at.
    fn messages(&self, _inode: u64) -> Option<Vec<Message>> {
        None
    }
    /// Level, number and value of the options of a socket that are not what a new one of its kind has ([`abi::sockopt::of`]).
    fn options(&self, _fd: u32, _kind: SocketKind) -> Result<Vec<(u64, u64, Vec<u8>)>, Fault> {
        Ok(Vec::new())
    }
    /// Whether somebody in the tree has the pipe or socket with this link.
    fn is_in_tree(&self, _link: &[u8]) -> bool {
        false
    }
    /// The lines of fdinfo with this key, of every descriptor of the tree that has any.
    fn lines(&self, _key: &str) -> Vec<Told> {
        Vec::new()
    }
    /// The descriptions that this process is the first of the tree to have, each with the number that it was seen by first, and
    /// with all of its flags; those that only name a place (O_PATH) are not among them.
    fn descriptions(&self) -> Vec<Told> {
        Vec::new()
    }
    /// The descriptions of the tree whose descriptors have this link, by their ids, likewise.
    fn with_link(&self, _link: &[u8]) -> Vec<u32> {
        Vec::new()
    }
    /// Processes outside the tree that have the same description.
    fn other_sharers(&self, _seen: &Seen) -> Result<Vec<u32>, Fault> {
        Ok(Vec::new())
    }
    /// Processes outside the tree that have a file without a name open, or map and share it: by device, inode, and the name
    /// that /proc shows.
    fn other_users(&self, _dev: u64, _inode: u64, _name: &[u8]) -> Result<Vec<Holder>, Fault> {
        Ok(Vec::new())
    }
    /// The seals (fcntl(2), F_GET_SEALS) of the file behind the link /proc/PID/`name`, which is opened for that.
    fn seals(&self, name: &str) -> Result<u32, Fault> {
        Err(Fault::new("open", name, Errno::ENOENT))
    }
    /// Puts pages of memory into the image.
    fn save_memory(&self, _areas: &[(Range<u64>, Which)]) -> Result<Saved, Fault> {
        Ok(Saved::default())
    }
    /// Puts the first `size` bytes of the file behind the link /proc/PID/`name` into the image.
    fn save_link(&self, name: &str, _size: u64) -> Result<Vec<Extent>, Fault> {
        Err(Fault::new("read", name, Errno::ENOENT))
    }
    /// Puts a segment of System V shared memory of this id and size into the image, as it is in the IPC namespace of the
    /// process.
    fn save_segment(&self, id: u32, _size: u64) -> Result<SavedSegment, Fault> {
        Err(Fault::new("shmat", id, Errno::EINVAL))
    }
    /// Puts the first `size` bytes of the file at a path into the image.
    fn save_path(&self, path: &[u8], _size: u64) -> Result<Vec<Extent>, Fault> {
        Err(Fault::new("read", path.escape_ascii(), Errno::ENOENT))
    }
}

/// What is asked last, when every thread stands still again and nothing more is called: what reached the process while it
/// was captured is seen too.
pub trait Still {
    /// Signals that wait.
    fn pending(&self, queue: Queue) -> Result<Vec<Siginfo>, Fault>;
    /// Signals that waited when the thread had just been stopped.
    fn waited(&self, queue: Queue) -> Vec<Siginfo>;
    /// Whether the process was stopped by a signal, and by which.
    fn stopped(&self) -> Option<i32>;
    /// Whether the thread is the one that its process is named after.
    fn is_first_thread(&self) -> bool;
}

/// What the user wants in the image beyond what must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// `--with-libs`: the contents of every mapped file.
    pub libs: bool,
    /// `--with-files`: the contents of the open regular files.
    pub files: bool,
    /// What was typed and not read yet: where the tree ends and its image is a file.
    pub typed: bool,
    /// `--tcp`
    pub tcp: Tcp,
    /// `--external`
    pub external: External,
}

/// What becomes of pipes and sockets whose other end is outside of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum External {
    /// They are a reason against it.
    #[default]
    Refuse,
    /// The program finds the other end closed.
    Disconnect,
}

/// What becomes of TCP connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tcp {
    /// They are a reason against it.
    #[default]
    Refuse,
    /// The program finds them reset.
    Reset,
}

/// The files that areas and descriptors of the tree lead to, each once; and what else several processes can have in common.
#[derive(Default, Debug)]
pub struct Files {
    /// By id.
    pub list: BTreeMap<u32, File>,
    /// By device, inode and the path that /proc showed: such a file need not be looked at again.
    shown: HashMap<(u64, u64, Vec<u8>), u32>,
    known: BTreeMap<(u64, u64, Text), u32>,
    inodes: BTreeMap<(u64, u64), u32>,
    /// Those that an area shares with others.
    pub(crate) shared: BTreeSet<u32>,
    /// Parts of shared memory that are in the image: object, offset and length.
    views: BTreeSet<(u64, u64, u64)>,
    /// Of files that can only be seen by what areas show of them: where in the image which page is.
    pages: BTreeMap<u32, BTreeMap<u64, u64>>,
    /// Directories that were removed, by device and inode.
    removed: BTreeMap<(u64, u64), u32>,
    /// Whether we may do what we ask for (bits of access(2)) with what stands at a path, below a root in a mount namespace.
    may: HashMap<([Vec<u8>; 2], Text, u32), bool>,
    /// What was seen of System V IPC on the way.
    pub ipc: Used,
    /// The keyrings that were looked into.
    pub(crate) keyrings: Keyrings,
    /// To whom sockets of messages send, by the text that tells it and inode number.
    pub(crate) remotes: HashMap<&'static str, HashMap<u64, SocketAddr>>,
}

/// Keyrings, which have no file.
#[derive(Default, Debug)]
pub(crate) struct Keyrings {
    /// Under what names they are looked for; not known yet.
    pub(crate) names: Option<Vec<Vec<u8>>>,
    /// By their serial numbers.
    pub(crate) seen: BTreeSet<u64>,
}

impl Files {
    /// The pages of a file that areas have shown so far, by their offset in it, with where in the image they are.
    pub(crate) fn shown_pages(&mut self, id: u32) -> &mut BTreeMap<u64, u64> {
        self.pages.entry(id).or_default()
    }

    /// The whole of a file is in the image.
    pub(crate) fn is_whole(&mut self, id: u32) {
        self.pages.remove(&id);
    }

    /// Whether what is known of the contents of a file is what areas have shown.
    pub(crate) fn is_shown_only(&self, id: u32) -> bool {
        self.pages.contains_key(&id)
    }

    /// Whether this part of shared memory is not in the image yet; from here on it is.
    pub(crate) fn is_new_view(&mut self, part: (u64, u64, u64)) -> bool {
        self.views.insert(part)
    }

    /// Whether a file with this device and inode number was seen.
    pub(crate) fn has_inode(&self, inode: (u64, u64)) -> bool {
        self.inodes.contains_key(&inode)
    }

    /// The path of the file that this is, if an area of the tree shares it with others.
    pub(crate) fn shared_with(&self, inode: (u64, u64)) -> Option<String> {
        let id = self.inodes.get(&inode).filter(|id| self.shared.contains(id))?;
        Some(self.list[id].path.to_string())
    }

    /// Whether a process has this object as shared memory without a file.
    pub(crate) fn is_shared(&self, object: u64) -> bool {
        self.views.iter().any(|view| view.0 == object)
    }

    /// The number of a directory that was removed: from 1 on, in the order in which they are seen.
    pub(crate) fn removed(&mut self, inode: (u64, u64)) -> u32 {
        let next = self.removed.len() as u32 + 1;
        *self.removed.entry(inode).or_insert(next)
    }

    /// The id of a file that was seen with this device and inode number. A file is opened by its name, so each name is one;
    /// a name that is gone is that of any other name which the same inode still has.
    fn id(&mut self, dev: u64, ino: u64, seen: File) -> u32 {
        let key = (dev, ino, seen.path.clone());
        let inode = self.inodes.get(&(dev, ino)).copied();
        if let Some(id) = self.known.get(&key).copied().or(inode.filter(|_| seen.is_gone())) {
            return id;
        }
        if let Some(id) = inode.filter(|id| self.list[id].is_gone()) {
            self.list.insert(id, seen);
            self.known.insert(key, id);
            return id;
        }
        let id = self.list.len() as u32 + 1;
        self.list.insert(id, seen);
        self.known.insert(key, id);
        self.inodes.entry((dev, ino)).or_insert(id);
        id
    }
}

/// A capture under way.
pub struct Capturing<'a> {
    /// Of whom to ask.
    pub probe: &'a dyn Probe,
    /// The files seen so far.
    pub files: &'a mut Files,
    /// What to keep.
    pub keep: Keep,
    /// What is not kept so far. Whose it is, is filled in by whoever collects.
    pub notes: &'a mut Vec<Note>,
}

impl Capturing<'_> {
    /// See [`Probe::may`]; relatives have most files in common.
    pub(crate) fn may(&mut self, path: &Text, access: u32) -> bool {
        let place = ["ns/mnt", "root"].map(|name| self.probe.link(name).unwrap_or_default());
        let asked = (place, path.clone(), access);
        *self.files.may.entry(asked).or_insert_with(|| self.probe.may(&path.0, access))
    }

    /// The id of the file that /proc shows with this device, inode number and path; see [`File::see`] for `stat`.
    pub fn file(
        &mut self,
        (dev, ino): (u64, u64),
        shown: &[u8],
        stat: impl FnOnce(&dyn Probe) -> Option<FileStat>,
    ) -> Result<u32, Trouble> {
        let key = (dev, ino, shown.to_vec());
        if let Some(id) = self.files.shown.get(&key) {
            return Ok(*id);
        }
        let seen = File::see(shown, (dev, ino), stat(self.probe), self)?;
        let id = self.files.id(dev, ino, seen);
        self.files.shown.insert(key, id);
        Ok(id)
    }

    /// Something is not kept: the user is told, once.
    pub fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.note_first(what, why, None);
    }

    /// The same, with what is to be done first ([`Note::first`]).
    pub(crate) fn note_first(&mut self, what: impl Into<String>, why: impl Into<String>, first: Option<&'static str>) {
        let note = Note { pid: 0, what: what.into(), why: why.into(), first };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Tells of what we may not do ourselves, and a thaw must: so this user cannot thaw it.
    pub(crate) fn note_beyond(&mut self, what: impl Into<String>, why: &str) {
        self.note_first(what, format!("{why}: thaw it as root"), Some(crate::note::BEYOND));
    }
}
