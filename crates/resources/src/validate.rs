//! What every plan relies on. An image comes from anywhere: what its records say is looked at once, here, so that no
//! plan has to doubt it, and no arithmetic on it can overflow.

use crate::fd::locks::{Held, Of};
use crate::fd::pidfd::Pidfd;
use crate::fd::unix::UnixSocket;
use crate::fd::uring::{self, Uring};
use crate::fd::{inet, inotify, packet};
use crate::ipc::{shm::Segment, undo::Change};
use crate::mm::area::{Area, Backing};
use crate::mm::huge;
use crate::mm::space::Space;
use crate::model::PROCESS;
use crate::ns::time;
use crate::task::posix_timers::PosixTimers;
use crate::tree::process::{Fd, Process};
use crate::{Description, Model, ProcessModel, ProcessState, ThreadModel, ThreadState, TreeState};
use abi::consts::mmap::PAGE;
use image::{Damage, Extent};
use std::collections::{BTreeMap, BTreeSet};

/// The kernel gives no higher id (include/linux/threads.h, PID_MAX_LIMIT).
const ID_MAX: u32 = 1 << 22;
/// Half of what the kernel allows for descriptor numbers (fs/file.c, sysctl_nr_open_max), so that there is room above the
/// tree's own for what the thaw opens.
const NUMBER_MAX: u32 = 1 << 30;

type Found = Result<(), String>;

fn holds(fact: bool, else_what: impl FnOnce() -> String) -> Found {
    if fact { Ok(()) } else { Err(else_what()) }
}

/// References lead somewhere; ids and ranges are such as the kernel can give; nothing is there twice.
pub(crate) fn validate(model: &Model) -> Result<(), Damage> {
    let of = |id: u32| move |why: String| Damage::Record { tag: PROCESS, id, why };
    holds(!model.processes.is_empty(), || "there is no process".into()).map_err(of(0))?;
    ids(model).map_err(of(0))?;
    kinship(model).map_err(of(0))?;
    tree(model).map_err(of(0))?;
    for p in &model.processes {
        process(p, model).map_err(of(p.process.pid))?;
    }
    let timed = model.descriptions.values().any(|d| matches!(d, Description::Timerfd(_)));
    holds(!timed || time::of(model).is_some(), || "there is a timer and no clock".into()).map_err(of(0))?;
    queues(model).map_err(of(0))?;
    watches(model).map_err(of(0))?;
    pidfds(model).map_err(of(0))?;
    watched(model).map_err(of(0))?;
    sockets(model).map_err(of(0))?;
    holds(model.rings().all(Uring::is_sound), || "there cannot be such a ring of io_uring".into()).map_err(of(0))?;
    let odd = model.odd_pty();
    holds(odd.is_none(), || format!("there cannot be a terminal {}", odd.unwrap_or(0))).map_err(of(0))?;
    let numbers = inet::plan::by_number(model);
    let numbered = model.inet_sockets().filter(|s| s.socket != 0).count();
    holds(numbered == numbers.len(), || "a socket is there twice".into()).map_err(of(0))?;
    let unsound = model.inet_sockets().any(|s| !s.is_sound(&numbers));
    holds(!unsound, || "a socket of TCP has somebody at its other end, and no connection".into()).map_err(of(0))?;
    let too_high = model.descriptions.keys().find(|id| **id >= NUMBER_MAX);
    holds(too_high.is_none(), || format!("there cannot be a description {}", too_high.unwrap_or(&0))).map_err(of(0))?;
    files(model).map_err(of(0))
}

/// Parents come before their children, and who shares something does so with somebody who has it.
fn kinship(model: &Model) -> Found {
    let mut before: BTreeMap<u32, &Process> = BTreeMap::new();
    for (n, p) in model.processes.iter().map(|p| &p.process).enumerate() {
        let parent = before.get(&p.parent).filter(|parent| !parent.is_zombie());
        holds((n == 0) == (p.parent == 0), || format!("process {} has no place in the tree", p.pid))?;
        holds(n == 0 || parent.is_some(), || format!("process {} has no parent", p.pid))?;
        holds([p.group, p.session].iter().all(|id| *id <= ID_MAX), || format!("process {} has no group", p.pid))?;
        for (kind, with) in p.shares.all().iter().enumerate().filter_map(|(kind, with)| Some((kind, (*with)?))) {
            let owner = before.get(&with).filter(|owner| owner.shares.all()[kind].is_none() && !owner.is_zombie());
            holds(owner.is_some(), || format!("process {} shares something with {with}, who has it not", p.pid))?;
        }
        holds(p.shares.files.is_none() || p.fds.is_empty(), || format!("process {} has two tables", p.pid))?;
        before.insert(p.pid, p);
    }
    Ok(())
}

fn ids(model: &Model) -> Found {
    let mut seen = BTreeSet::new();
    for id in model.ids() {
        holds((1..=ID_MAX).contains(&id), || format!("there cannot be a thread {id}"))?;
        holds(seen.insert(id), || format!("thread {id} is there twice"))?;
    }
    Ok(())
}

fn process(p: &ProcessModel, model: &Model) -> Found {
    holds(p.process.threads.first() == Some(&p.process.pid), || "its first thread is missing".into())?;
    numbers(p, model)?;
    once(p.states.iter().map(ProcessState::name))?;
    let has_space = p.states.iter().any(|s| matches!(s, ProcessState::Space(_)));
    let needs_space = !p.process.is_zombie() && p.process.shares.space.is_none();
    holds(has_space || !needs_space, || "it has no address space".into())?;
    holds(needs_space || !has_space, || "it has an address space too many".into())?;
    for state in &p.states {
        match state {
            ProcessState::Space(s) => {
                space(s)?;
                s.areas.iter().try_for_each(|a| attached(a, &s.areas, model))?;
                s.areas.iter().try_for_each(|a| made_of(a, model))?;
                s.areas.iter().try_for_each(|a| shown(a, model))?;
            }
            ProcessState::SemUndo(u) => u.changes.iter().try_for_each(|c| taken_back(*c, model))?,
            ProcessState::PosixTimers(t) => timers(t, p)?,
            _ => {}
        }
    }
    p.threads.iter().skip(p.process.ended.is_some().into()).try_for_each(thread)
}

fn numbers(p: &ProcessModel, model: &Model) -> Found {
    let fds = &p.process.fds;
    holds(fds.is_sorted_by(|a, b| a.number < b.number), || "its descriptors do not ascend".into())?;
    for fd in fds {
        holds(fd.number < NUMBER_MAX, || format!("there cannot be an fd {}", fd.number))?;
        holds(model.descriptions.contains_key(&fd.description), || format!("fd {} leads nowhere", fd.number))?;
    }
    Ok(())
}

fn once<'a>(names: impl Iterator<Item = &'a str>) -> Found {
    let mut seen = BTreeSet::new();
    names.into_iter().try_for_each(|name| holds(seen.insert(name), || format!("its {name} is there twice")))
}

fn thread(t: &ThreadModel) -> Found {
    once(t.states.iter().map(ThreadState::name))?;
    let regs = t.states.iter().any(|s| matches!(s, ThreadState::Regs(_)));
    holds(regs, || format!("thread {} has no registers", t.tid))?;
    let sound = |s: &ThreadState| if let ThreadState::Seccomp(s) = s { s.is_sound() } else { true };
    holds(t.states.iter().all(sound), || format!("thread {} has filters that cannot be", t.tid))?;
    let sound = |s: &ThreadState| if let ThreadState::Dispatch(d) = s { d.is_sound() } else { true };
    holds(t.states.iter().all(sound), || format!("thread {} cannot dispatch its calls so", t.tid))
}

fn timers(timers: &PosixTimers, p: &ProcessModel) -> Found {
    let stray = timers.timers.iter().find(|t| t.thread.is_some_and(|tid| !p.process.threads.contains(&tid)));
    holds(stray.is_none(), || format!("timer {} tells a thread that is not there", stray.map_or(0, |t| t.id)))
}

fn space(s: &Space) -> Found {
    holds(!s.areas.is_empty(), || "its address space is empty".into())?;
    ascending(s.areas.iter().map(|a| (a.start, a.end)))?;
    s.areas.iter().try_for_each(backing)?;
    let ring = |a: &Area| if let Backing::Ring(ring) = a.backing { Some(ring.id) } else { None };
    let mut rings: Vec<u32> = s.areas.iter().filter_map(ring).collect();
    abi::sort(&mut rings);
    holds(rings.is_sorted_by(|a, b| a < b), || "two rings of it have the same number".into())?;
    ascending(s.guards.iter().copied())?;
    ascending(s.nodes.iter().map(|nodes| nodes.area))?;
    extents(&s.pages)?;
    ascending(s.pages.iter().map(|e| (e.at, e.at + e.len)))?;
    let kernel = s.kernel_areas.iter().find(|a| a.start.checked_add(a.len).is_none());
    holds(kernel.is_none(), || "an area of the kernel has no end".into())
}

fn backing(a: &Area) -> Found {
    holds(huge::is_sound(a), || format!("what stands at {:x} is not made of such pages", a.start))?;
    let offset = match a.backing {
        Backing::Ring(ring) => {
            return holds(ring.is_sound(a.len()), || format!("what stands at {:x} is no such ring", a.start));
        }
        Backing::Anonymous | Backing::Uring { .. } | Backing::Socket { .. } => 0,
        Backing::File { offset, .. } | Backing::Shared { offset, .. } | Backing::Segment { offset, .. } => offset,
    };
    holds(offset.checked_add(a.len()).is_some(), || format!("what stands at {:x} has no end", a.start))
}

/// What an area shows of a segment is of it, or goes on behind its end as it has grown.
fn attached(a: &Area, all: &[Area], model: &Model) -> Found {
    let Backing::Segment { id, offset } = a.backing else { return Ok(()) };
    let segment = model.segment(id).ok_or_else(|| format!("segment {id} is not in the image"))?;
    let goes_on = |before: &Area| {
        let Backing::Segment { id: other, offset: at } = before.backing else { return false };
        before.end == a.start && other == id && at.checked_add(before.len()) == Some(offset)
    };
    let is_part = offset % PAGE == 0 && (offset < segment.len() || all.iter().any(goes_on));
    holds(is_part, || format!("what stands at {:x} is no part of segment {id}", a.start))
}

/// What an area shows of a ring of io_uring or of a socket, that one is there.
fn shown(a: &Area, model: &Model) -> Found {
    let (ring, is_there) = match a.backing {
        Backing::Uring { ring, .. } => {
            let is_there = matches!(model.descriptions.get(&ring), Some(Description::Uring(_)));
            (ring.into(), is_there && a.len() <= uring::MOST_BYTES && a.end >> 63 == 0)
        }
        Backing::Socket { socket } => (socket, model.descriptions.values().any(|d| packet::shows(d, socket, a))),
        _ => return Ok(()),
    };
    holds(is_there, || format!("ring {ring} is not in the image"))
}

/// What an area shows is made of pages of its own size.
fn made_of(a: &Area, model: &Model) -> Found {
    let page = match a.backing {
        Backing::File { file, .. } => model.files.get(&file).map_or(a.page, |file| file.page),
        Backing::Segment { id, .. } => model.segment(id).map_or(a.page, |segment| segment.page),
        _ => a.page,
    };
    holds(page == a.page, || format!("what stands at {:x} has pages of another size", a.start))
}

fn taken_back(change: Change, model: &Model) -> Found {
    let set = model.semaphores(change.set).ok_or_else(|| format!("set {} is not in the image", change.set))?;
    holds(usize::from(change.number) < set.values.len(), || format!("set {} has no number {}", set.id, change.number))
}

/// A lock is on a description that is there, by a descriptor of a process that is.
fn lock(held: &Held, model: &Model) -> Found {
    let of = |number: u32| move |fd: &Fd| fd.number == number && fd.description == held.description;
    let named = match held.of {
        Of::Process | Of::Lease => {
            model.process(held.process).is_some_and(|p| p.process.fds.iter().any(of(held.number)))
        }
        _ => model.descriptions.contains_key(&held.description),
    };
    holds(named, || format!("a lock is on description {}, which is not there", held.description))
}

/// Objects of System V IPC: ids and sizes are such as the kernel can give.
fn tree(model: &Model) -> Found {
    once(model.tree.iter().map(TreeState::name))?;
    let mut ids = BTreeSet::new();
    for state in &model.tree {
        let kind = state.name();
        let all: Vec<u32> = match state {
            TreeState::SysvShm(shm) => shm.segments.iter().map(|s| s.id).collect(),
            TreeState::SysvSem(sem) => sem.sets.iter().map(|s| s.id).collect(),
            TreeState::SysvMsg(msg) => msg.queues.iter().map(|q| q.id).collect(),
            TreeState::FileLocks(locks) => {
                locks.held.iter().try_for_each(|held| lock(held, model))?;
                continue;
            }
            TreeState::IpcNamespace(_) => continue,
        };
        holds(model.ipc_namespace().is_some(), || "the namespace of its IPC is missing".into())?;
        for id in all {
            holds(i32::try_from(id).is_ok(), || format!("there cannot be an object {id}"))?;
            holds(ids.insert((kind, id)), || format!("{kind} {id} is there twice"))?;
        }
    }
    model.segments().try_for_each(segment)
}

fn queues(model: &Model) -> Found {
    holds(model.queues().next().is_none() || model.ipc_namespace().is_some(), || {
        "the namespace of its IPC is missing".into()
    })?;
    model.queues().find_map(|queue| queue.fault(model)).map_or(Ok(()), Err)
}

/// The kernel gives ids from 1 on (fs/notify/inotify/inotify_user.c).
fn watches(model: &Model) -> Found {
    let all = model.descriptions.values().filter_map(|d| if let Description::Inotify(i) = d { Some(i) } else { None });
    all.into_iter().try_for_each(|inotify| {
        let watches = &inotify.watches;
        let possible = watches.is_sorted_by(|a, b| a.wd < b.wd) && watches.iter().all(|w| (1..1 << 31).contains(&w.wd));
        let found = |w: &inotify::Watch| w.description.is_none_or(|id| model.descriptions.contains_key(&id));
        let possible = possible && watches.iter().all(found);
        holds(possible && !inotify.is_too_far(), || "there cannot be such watches".into())
    })
}

/// Each is there once, and so is what it is connected to; one end of a connection was accepted.
fn sockets(model: &Model) -> Found {
    let (mut known, mut listeners): (BTreeMap<u64, &UnixSocket>, _) = (BTreeMap::new(), BTreeSet::new());
    for socket in model.sockets() {
        holds(known.insert(socket.socket, socket).is_none(), || format!("socket {} is there twice", socket.socket))?;
        let is_new = socket.backlog.is_none() || listeners.insert(socket.key());
        holds(is_new, || format!("another socket takes the connections of {}", socket.socket))?;
    }
    let (mut waiting, mut siblings) = (BTreeSet::new(), Vec::new());
    let twice = model.sockets().flat_map(|s| &s.pending).find(|inode| !waiting.insert(**inode));
    holds(twice.is_none(), || format!("socket {} waits twice", twice.unwrap_or(&0)))?;
    // Those that were accepted from one that is gone have one name.
    let mut names: BTreeMap<_, &UnixSocket> = BTreeMap::new();
    for (key, socket) in model.sockets().filter_map(|s| Some((s.key()?, s))) {
        if listeners.contains(&Some(key)) {
            continue;
        }
        if let Some(before) = names.insert(key, socket) {
            let both = before.may_be_accepted() && socket.may_be_accepted();
            holds(both, || format!("another socket has the name of {}", socket.socket))?;
            siblings.push(Some(key));
        }
    }
    listeners.extend(siblings);
    let stray = model.sockets().flat_map(|s| &s.ancillary).flat_map(|a| &a.rights);
    let stray = stray.into_iter().find(|id| !model.descriptions.contains_key(id));
    holds(stray.is_none(), || format!("description {} waits in a socket and is not there", stray.unwrap_or(&0)))?;
    let accepted = |s: &UnixSocket| s.named.is_some() && listeners.contains(&s.key());
    let peer = |s: &UnixSocket| s.peer.and_then(|peer| known.get(&peer).copied());
    let both = |s: &UnixSocket| accepted(s) && peer(s).is_some_and(accepted);
    let unsound = known.values().find(|s| !s.is_sound(&known) || both(s));
    holds(unsound.is_none(), || format!("there cannot be a socket {}", unsound.map_or(0, |s| s.socket)))
}

fn watched(model: &Model) -> Found {
    let watched = model.watches().filter_map(|watch| watch.description);
    let registered = model.rings().flat_map(|ring| ring.files.iter().flatten().copied());
    let strange = watched.chain(registered).find(|id| !model.descriptions.contains_key(id));
    holds(strange.is_none(), || format!("description {} is watched or registered, and not there", strange.unwrap_or(0)))
}

fn pidfds(model: &Model) -> Found {
    let of = model.descriptions.values().filter_map(|d| if let Description::Pidfd(p) = d { Some(p) } else { None });
    let ids = model.ids();
    let lives = |p: &&Pidfd| p.inode.is_none();
    of.filter(lives).try_for_each(|p| holds(ids.contains(&p.id), || format!("there is no process {}", p.id)))
}

fn segment(s: &Segment) -> Found {
    holds((1..1 << 46).contains(&s.size), || format!("segment {} cannot have {} bytes", s.id, s.size))?;
    holds(huge::is_size(s.page), || format!("segment {} is made of no such pages", s.id))?;
    extents(&s.contents)?;
    ascending(s.contents.iter().map(|e| (e.at, e.at + e.len)))?;
    let end = s.contents.last().map_or(0, |e| e.at + e.len);
    holds(end <= s.len(), || format!("segment {} is shorter than its contents", s.id))
}

/// Ranges that are not empty, each behind the one before.
fn ascending(ranges: impl Iterator<Item = (u64, u64)>) -> Found {
    let mut behind = 0;
    for (start, end) in ranges {
        holds(behind <= start && start < end, || format!("{start:x}-{end:x} is no range, or not in its place"))?;
        behind = end;
    }
    Ok(())
}

fn extents(all: &[Extent]) -> Found {
    let endless = |e: &&Extent| e.at.checked_add(e.len).is_none() || e.offset.checked_add(e.len).is_none();
    let found = all.iter().find(endless);
    holds(found.is_none(), || format!("a stretch has no end: {found:?}"))
}

fn files(model: &Model) -> Found {
    let mapped = model.spaces().flat_map(Space::files);
    for id in mapped.chain(model.descriptions.values().filter_map(Description::file)) {
        holds(model.files.contains_key(&id), || format!("file {id} is not in the image"))?;
    }
    let odd = model.files.values().find(|f| !huge::is_size(f.page));
    holds(odd.is_none(), || "a file is made of pages of no size".into())?;
    model.files.values().filter_map(|f| f.contents.as_deref()).try_for_each(extents)
}
