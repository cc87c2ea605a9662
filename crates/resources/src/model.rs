//! The Model: the tree as an object graph. Each kernel object is there once and referred to by id.

use crate::fd::mqueue::Mqueue;
use crate::fd::tty::Typed;
use crate::fd::{epoll, file::File, inet, inotify, locks, packet, place, unix, uring};
use crate::ipc::undo;
use crate::list::encode;
use crate::mm::{huge, ring, segment};
use crate::task::ticks;
use crate::tree::process::{Fd, Process};
use crate::validate::validate;
use crate::{Description, Note, ProcessState, Still, Text, ThreadState, TreeState};
use crate::{ipc, ns};
use abi::Fault;
use image::{Damage, Need, RawRecord, Tag};
use plan::Pid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The tag of [`Process`] records.
pub(crate) const PROCESS: Tag = Tag(0x0001);
/// The tag of [`File`] records.
pub(crate) const FILE: Tag = Tag(0x0002);
/// The tag of [`Note`] records.
const NOTE: Tag = Tag(0x0003);

/// A thread with all that is its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ThreadModel {
    /// Its id in its own pid namespace.
    pub tid: u32,
    /// What it has.
    pub states: Vec<ThreadState>,
}

/// A process with its threads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProcessModel {
    /// Who it is, and its descriptors.
    pub process: Process,
    /// What it has once.
    pub states: Vec<ProcessState>,
    /// Its threads, the first one first.
    pub threads: Vec<ThreadModel>,
}

impl ProcessModel {
    /// Asks of each thread that lives what can only be known at the very end.
    pub fn conclude(&mut self, living: &[&dyn Still]) -> Result<(), Fault> {
        let ended = self.threads.len() - living.len();
        for (thread, last) in self.threads[ended..].iter_mut().zip(living) {
            thread.states.iter_mut().try_for_each(|state| state.conclude(*last))?;
        }
        ticks::leave_out(self, living);
        Ok(())
    }
}

/// A tree of processes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    /// The root first, parents before children.
    pub processes: Vec<ProcessModel>,
    /// Open file descriptions by id.
    pub descriptions: BTreeMap<u32, Description>,
    /// Files behind areas and descriptions, by id.
    pub files: BTreeMap<u32, File>,
    /// What it has as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tree: Vec<TreeState>,
    /// What is not kept.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What was typed and not read yet. No record: it is known only when the tree has ended and its image stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed: Option<Typed>,
}

impl Model {
    /// Hands every record to a writer.
    pub fn put(&self, put: &mut dyn FnMut(Tag, u32, Need, Vec<u8>)) {
        for p in &self.processes {
            put(PROCESS, p.process.pid, Need::Must, encode(&p.process));
            p.states.iter().for_each(|s| s.put(p.process.pid, put));
            p.threads.iter().for_each(|t| t.states.iter().for_each(|s| s.put(t.tid, put)));
        }
        self.descriptions.iter().for_each(|(id, d)| d.put(*id, put));
        self.files.iter().for_each(|(id, f)| put(FILE, *id, Need::Must, encode(f)));
        self.tree.iter().for_each(|s| s.put(0, put));
        (1..).zip(&self.notes).for_each(|(id, n)| put(NOTE, id, Need::May, encode(n)));
    }

    /// The model in the records of an image. Records that may be unknown are passed over; others that are, and
    /// records of nobody, are damage.
    pub fn from_records(records: &[RawRecord]) -> Result<Model, Damage> {
        let mut model = Model::default();
        for record in records.iter().filter(|r| r.tag == PROCESS) {
            model.processes.push(Model::bare(record.decode()?));
        }
        let seats = model.seats();
        for record in records.iter().filter(|r| r.tag != PROCESS) {
            model.take(record, &seats)?;
        }
        validate(&model)?;
        Ok(model)
    }

    fn bare(process: Process) -> ProcessModel {
        let threads = process.threads.iter().map(|tid| ThreadModel { tid: *tid, states: Vec::new() }).collect();
        ProcessModel { process, states: Vec::new(), threads }
    }

    /// Where each thread stands: of which process, as which thread. A process has the id of its first thread.
    fn seats(&self) -> BTreeMap<u32, (usize, usize)> {
        let of_process = |(p, process): (usize, &ProcessModel)| {
            let threads = process.threads.iter().enumerate().map(move |(t, thread)| (thread.tid, (p, t)));
            threads.chain([(process.process.pid, (p, 0))]).collect::<Vec<_>>()
        };
        // Of two with one id, which no tree has, the first counts.
        abi::gathered(self.processes.iter().enumerate().flat_map(of_process).rev())
    }

    fn take(&mut self, record: &RawRecord, seats: &BTreeMap<u32, (usize, usize)>) -> Result<(), Damage> {
        let seat = seats.get(&record.id).copied();
        if record.tag == FILE {
            self.files.insert(record.id, record.decode()?);
        } else if record.tag == NOTE {
            self.notes.push(record.decode()?);
        } else if let Some(state) = ProcessState::from_record(record) {
            let of = seat.map(|(p, _)| &mut self.processes[p]).filter(|p| p.process.pid == record.id);
            of.ok_or_else(|| stray(record))?.states.push(state?);
        } else if let Some(state) = ThreadState::from_record(record) {
            let of = seat.and_then(|(p, t)| self.processes[p].threads.get_mut(t)).filter(|t| t.tid == record.id);
            of.ok_or_else(|| stray(record))?.states.push(state?);
        } else if let Some(state) = TreeState::from_record(record) {
            self.tree.push(state?);
        } else if let Some(description) = Description::from_record(record) {
            self.descriptions.insert(record.id, description?);
        } else if record.need == Need::Must {
            return Err(damage(record.tag, record.id, "it is of a later release of cryopid"));
        }
        Ok(())
    }

    /// The ids of every process and thread.
    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().flat_map(|p| p.threads.iter().map(|t| t.tid)).collect()
    }

    /// The ids that must be free besides those: of groups and sessions whose leaders have ended.
    pub fn leaders(&self) -> Vec<u32> {
        let own: BTreeSet<u32> = abi::gathered(self.ids());
        let led = self.processes.iter().flat_map(|p| [p.process.group, p.process.session]);
        let all: BTreeSet<u32> = abi::gathered(led.filter(|id| *id != 0 && !own.contains(id)));
        all.into_iter().collect()
    }

    /// The out-of-memory scores of its processes, the lowest first.
    pub fn oom_scores(&self) -> Vec<i32> {
        let states = self.processes.iter().flat_map(|p| &p.states);
        let score = |state: &ProcessState| match state {
            ProcessState::Attributes(attributes) => Some(attributes.oom_score_adj),
            _ => None,
        };
        let scores: BTreeSet<i32> = abi::gathered(states.filter_map(score));
        scores.into_iter().collect()
    }

    /// The process with this id.
    pub fn process(&self, pid: u32) -> Option<&ProcessModel> {
        // Most trees have few, and the root is asked for most.
        self.processes.iter().find(|p| p.process.pid == pid)
    }

    /// The processes that have the table of descriptors of this one, itself among them.
    pub(crate) fn users_of_files(&self, owner: u32) -> impl Iterator<Item = Pid> {
        let uses = move |p: &&ProcessModel| p.process.shares.files.unwrap_or(p.process.pid) == owner;
        self.processes.iter().filter(uses).map(|p| Pid(p.process.pid))
    }

    /// The address space of a process, its own or another's.
    pub fn space(&self, pid: u32) -> Option<&crate::mm::space::Space> {
        let p = self.process(pid)?;
        let owner = p.process.shares.space.map_or(Some(p), |owner| self.process(owner))?;
        owner.states.iter().find_map(|s| match s {
            ProcessState::Space(space) => Some(space),
            _ => None,
        })
    }

    /// The processes that have an address space of their own, with it.
    pub(crate) fn own_spaces(&self) -> impl Iterator<Item = (u32, &crate::mm::space::Space)> {
        let space = |p: &ProcessModel| p.states.iter().position(|s| matches!(s, ProcessState::Space(_)));
        self.processes.iter().filter_map(move |p| match &p.states[space(p)?] {
            ProcessState::Space(space) => Some((p.process.pid, space)),
            _ => None,
        })
    }

    pub(crate) fn spaces(&self) -> impl Iterator<Item = &crate::mm::space::Space> {
        self.processes.iter().flat_map(|p| &p.states).filter_map(|s| match s {
            ProcessState::Space(space) => Some(space),
            _ => None,
        })
    }

    /// The segments of shared memory that it has.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &ipc::shm::Segment> {
        let shm = self.tree.iter().filter_map(|s| if let TreeState::SysvShm(shm) = s { Some(shm) } else { None });
        shm.flat_map(|shm| &shm.segments)
    }

    /// The segment with this id.
    pub(crate) fn segment(&self, id: u32) -> Option<&ipc::shm::Segment> {
        self.segments().find(|s| s.id == id)
    }

    /// The sets of semaphores that get something back when its processes end, and how many semaphores they have.
    pub fn undone(&self) -> BTreeMap<u32, usize> {
        let count = |change: undo::Change| Some((change.set, self.semaphores(change.set)?.values.len()));
        abi::gathered(self.changes().filter_map(count))
    }

    /// What is added to semaphores when its processes end.
    pub(crate) fn changes(&self) -> impl Iterator<Item = undo::Change> {
        let states = self.processes.iter().flat_map(|p| &p.states);
        states
            .filter_map(|s| if let ProcessState::SemUndo(all) = s { Some(&all.changes) } else { None })
            .flatten()
            .copied()
    }

    /// The set of semaphores with this id.
    pub(crate) fn semaphores(&self, id: u32) -> Option<&ipc::sem::Set> {
        let sem = self.tree.iter().filter_map(|s| if let TreeState::SysvSem(sem) = s { Some(sem) } else { None });
        sem.flat_map(|sem| &sem.sets).find(|set| set.id == id)
    }

    /// Where its IPC was, if it had any.
    pub(crate) fn ipc_namespace(&self) -> Option<&ns::ipc::IpcNamespace> {
        self.tree.iter().find_map(|s| if let TreeState::IpcNamespace(ipc) = s { Some(ipc) } else { None })
    }

    /// The locks that it has on files.
    pub(crate) fn locks(&self) -> impl Iterator<Item = &locks::Held> {
        let of_tree =
            self.tree.iter().filter_map(|s| if let TreeState::FileLocks(locks) = s { Some(locks) } else { None });
        of_tree.flat_map(|locks| &locks.held)
    }

    /// What a survey of the host has to read of /proc and /sys for it: paths of texts and links.
    pub fn questions(&self) -> Vec<String> {
        let of_ipc = self.ipc_namespace().map_or_else(Vec::new, |_| ns::ipc::questions());
        let of_locks = self.locks().next().map(|_| locks::LOCKED.to_owned()).into_iter().collect();
        let of_modes = vec![crate::mm::modes::CORE_DUMP.to_owned()];
        [
            of_ipc,
            of_locks,
            of_modes,
            unix::plan::questions(self),
            inet::plan::questions(self),
            packet::questions(self),
            huge::questions(self),
            inotify::questions(self),
            ring::questions(self),
            uring::questions(self),
        ]
        .concat()
    }

    /// A socket of which the file stands at a path.
    pub(crate) fn bound_at(&self, path: &Text) -> Option<u32> {
        let is_it = |d: &Description| matches!(d, Description::UnixSocket(s) if s.file() == Some(path));
        self.descriptions.iter().find(|(_, d)| is_it(d)).map(|(id, _)| *id)
    }

    /// The addresses of the internet that its sockets must have again.
    pub fn addresses(&self) -> impl Iterator<Item = core::net::SocketAddr> {
        self.inet_sockets().filter_map(inet::InetSocket::bound)
    }

    /// One end of each connection of TCP within the tree: the place of a process that has it, and its descriptor.
    pub fn connections(&self) -> Vec<(usize, u32)> {
        let inet_socket = |id: &u32| match self.descriptions.get(id) {
            Some(Description::InetSocket(s)) => Some(s),
            _ => None,
        };
        let had: BTreeSet<u64> =
            abi::gathered(self.fds().filter_map(|(_, fd)| Some(inet_socket(&fd.description)?.socket)));
        let all = inet::plan::by_number(self);
        // Of what is in flight no process has a descriptor. One that was told of the end of the other stands still when that is closed: the other way round it would go to TIME_WAIT.
        let is_chosen = |s: &inet::InetSocket, peer: u64| {
            let ended = |s: &inet::InetSocket| s.shutdown & inet::SENDS != 0;
            let other = all.get(&peer).filter(|other| other.connected && had.contains(&other.socket));
            other.is_none_or(|other| (ended(s), s.socket) < (ended(other), other.socket))
        };
        let is_one = |id: &u32| inet_socket(id).is_some_and(|s| s.peer.is_some_and(|peer| is_chosen(s, peer)));
        self.having(is_one)
    }

    /// What takes the kernel long to end, likewise.
    pub fn slow_to_end(&self) -> Vec<(usize, u32)> {
        self.having(|id| self.descriptions.get(id).is_some_and(Description::ends_slowly))
    }

    /// Each of these descriptions once: the place of a process that has it, and its descriptor.
    fn having(&self, is_one: impl Fn(&u32) -> bool) -> Vec<(usize, u32)> {
        let mut all: Vec<_> = self.fds().filter(|(_, fd)| is_one(&fd.description)).collect();
        abi::sort_by_key(&mut all, |(_, fd)| fd.description);
        all.dedup_by_key(|(_, fd)| fd.description);
        all.into_iter().map(|(n, fd)| (n, fd.number)).collect()
    }

    /// Every descriptor, with the place of the process that has it.
    fn fds(&self) -> impl Iterator<Item = (usize, &Fd)> {
        self.processes.iter().enumerate().flat_map(|(n, p)| p.process.fds.iter().map(move |fd| (n, fd)))
    }

    /// Those of AF_INET and AF_INET6.
    pub(crate) fn inet_sockets(&self) -> impl Iterator<Item = &inet::InetSocket> {
        self.descriptions.values().filter_map(|d| if let Description::InetSocket(s) = d { Some(s) } else { None })
    }

    /// The sockets of AF_UNIX.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &unix::UnixSocket> {
        self.descriptions.values().filter_map(|d| if let Description::UnixSocket(s) = d { Some(s) } else { None })
    }

    /// Whether a description waits in a socket (SCM_RIGHTS).
    pub(crate) fn is_in_flight(&self, id: u32) -> bool {
        self.sockets().flat_map(|s| &s.ancillary).any(|with| with.rights.contains(&id))
    }

    /// The rings of io_uring.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &uring::Uring> {
        self.descriptions.values().filter_map(|d| if let Description::Uring(ring) = d { Some(ring) } else { None })
    }

    /// What its epoll instances watch.
    pub(crate) fn watches(&self) -> impl Iterator<Item = &epoll::Watch> {
        let all = self.descriptions.values().filter_map(|d| if let Description::Epoll(e) = d { Some(e) } else { None });
        all.flat_map(|epoll| &epoll.watches)
    }

    /// The descriptions of POSIX message queues.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Mqueue> {
        self.descriptions.values().filter_map(|d| if let Description::Mqueue(queue) = d { Some(queue) } else { None })
    }

    /// The names of its POSIX message queues.
    pub fn queue_names(&self) -> impl Iterator<Item = &Text> {
        self.queues().filter_map(|queue| queue.name.as_ref())
    }

    /// Every path that a directory or name must have on the host, and what it stands in.
    pub fn places(&self) -> impl Iterator<Item = &[u8]> {
        let of_process = self.processes.iter().flat_map(|p| &p.states).filter_map(|s| match s {
            ProcessState::Fs(fs) => Some(fs),
            _ => None,
        });
        let threads = self.processes.iter().flat_map(|p| &p.threads).flat_map(|t| &t.states);
        let of_thread = threads.filter_map(|s| if let ThreadState::ThreadFs(fs) = s { fs.own.as_ref() } else { None });
        let contexts = of_process.chain(of_thread).map(|fs| [&fs.cwd, &fs.root]);
        let open = self.descriptions.values().flat_map(Description::places);
        let above = self.sockets().filter_map(unix::UnixSocket::above);
        let kept =
            self.files.values().filter(|f| !f.is_gone() && f.contents.is_some()).map(|f| place::parent(&f.path.0));
        open.chain(contexts.flatten()).flat_map(|path| [&path.0[..], place::parent(&path.0)]).chain(above).chain(kept)
    }

    /// Whether some process writes to this file by a shared mapping.
    pub(crate) fn writes_to_map_of(&self, id: u32) -> bool {
        let mut areas = self.spaces().flat_map(|space| &space.areas).filter(|area| area.shared && area.may_write);
        areas.any(|area| matches!(area.backing, crate::mm::area::Backing::File { file, .. } if file == id))
    }

    /// Every run of pages and contents that the image holds.
    pub fn extents(&self) -> impl Iterator<Item = &image::Extent> {
        let pages = self.spaces().flat_map(|s| &s.pages);
        let files = self.files.values().filter_map(|f| f.contents.as_ref()).flatten();
        pages.chain(files).chain(self.segments().flat_map(|s| &s.contents))
    }

    /// Every range of addresses that some process uses.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let areas = self.spaces().flat_map(|s| s.areas.iter().map(|a| (a.start, a.end)));
        let length = |id| self.segment(id).map(ipc::shm::Segment::len);
        let attached = self.spaces().flat_map(|s| segment::ranges(&s.areas, length));
        areas.chain(attached).chain(self.kernel_areas().into_iter().map(|a| (a.start, a.start + a.len))).collect()
    }

    /// The description that has a lease on the file by which nobody else may have it open.
    pub(crate) fn leased(&self, file: u32) -> Option<u32> {
        let leases = self.locks().filter(|held| held.of == locks::Of::Lease && held.exclusive);
        leases
            .map(|held| held.description)
            .find(|id| self.descriptions.get(id).and_then(Description::file) == Some(file))
    }

    /// The addresses of a space that are taken before any private area is placed.
    pub(crate) fn taken(&self, space: &crate::mm::space::Space) -> Vec<(u64, u64)> {
        let length = |id| self.segment(id).map(ipc::shm::Segment::len);
        let mut taken = segment::ranges(&space.areas, length);
        taken.extend(space.kernel_areas.iter().map(|a| (a.start, a.start + a.len)));
        taken
    }

    /// The kernel's own areas in all processes.
    pub fn kernel_areas(&self) -> Vec<crate::mm::vdso::KernelArea> {
        self.spaces().flat_map(|s| s.kernel_areas.clone()).collect()
    }

    /// The command name of the root, for messages.
    pub fn name(&self) -> String {
        self.processes.first().map_or_else(String::new, |p| p.process.name.to_string())
    }
}

fn damage(tag: Tag, id: u32, why: &str) -> Damage {
    Damage::Record { tag, id, why: why.into() }
}

fn stray(record: &RawRecord) -> Damage {
    damage(record.tag, record.id, "whom it is of is not in the image")
}
