//! From a model and a host to a plan, or to every reason why not.

use crate::fd::file::{Access, File};
use crate::fd::{epoll, inet, locks, procfile, signalling, unix, uring};
use crate::mm::heritage::Heritage;
use crate::mm::shared::Staging;
use crate::mm::{huge, segment};
use crate::tree::{lineage, process, stops};
use crate::{At, Description, Model, ProcessModel};
use abi::consts::cap::CAP_SYS_ADMIN;
use image::Tag;
use plan::{Actor, Descr, Fact, Host, Moment, Namespaces, Object, Op, Options, Pid, Pids, Plan, Planner, Refusal, Tid};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// What a resource's plan works with: the planner, and the rest of the model.
pub struct Planning<'a> {
    /// Where steps go.
    pub to: Planner<'a>,
    /// The tree.
    pub model: &'a Model,
    /// Where the tree will live.
    pub namespaces: Namespaces,
    /// The clocks of the tree, if they are kept.
    pub clocks: Option<plan::Clocks>,
    /// The number of description N of the store is `base + N`.
    pub base: u32,
    /// The first of the numbers that are left to whoever executes the plan.
    pub reserve: u32,
    /// The ends of each object whose ends are made together, in the order of their ids.
    ends: HashMap<(Tag, u64), Vec<u32>>,
    opened: HashMap<(u32, Access), Descr>,
    /// Files made anew from their saved contents, by id.
    pub(crate) saved: HashMap<u32, Descr>,
    /// Files whose saved contents stand at their paths again, by id.
    pub(crate) put_back: HashMap<u32, Descr>,
    /// Removed directories that were made, by number.
    pub(crate) removed: HashMap<u32, Descr>,
    refused: Vec<u32>,
    /// Whose address space a process has that has none of its own.
    spaces: HashMap<u32, u32>,
    /// Memory that several processes share.
    pub(crate) staging: Rc<Staging>,
    /// What each process has of its memory by birth.
    pub(crate) heritage: Rc<BTreeMap<u32, Heritage>>,
    /// Shared memory of huge pages that several areas show, by its object.
    pub(crate) huge: HashMap<u64, Descr>,
    /// Processes, with numbers of theirs of which open files in /proc tell.
    pub(crate) told_of: HashSet<(u32, u32)>,
    /// Objects of System V IPC that are there already.
    pub(crate) found: HashSet<Object>,
    /// Slaves by which pseudo-terminals become those of sessions, by the numbers of these.
    pub(crate) controlling: HashMap<u32, Descr>,
    /// The names of sockets here.
    pub(crate) names: HashSet<&'a str>,
    /// Sockets that had the name of a file which is not theirs any more.
    pub(crate) bygone: HashMap<&'a crate::Text, Vec<Descr>>,
    /// Ends of connections that nobody has, each with that after which nobody needs it.
    pub(crate) spares: Vec<(Descr, Vec<Fact>)>,
}

impl Planning<'_> {
    /// The process whose address space it has.
    pub(crate) fn space(&self, pid: Pid) -> Pid {
        self.spaces.get(&pid.0).map_or(pid, |owner| Pid(*owner))
    }

    /// Whether each process that has a description makes it for itself here.
    pub(crate) fn is_by_each(&self, id: u32) -> bool {
        let is_other = self.namespaces != Namespaces::Same;
        self.model.descriptions.get(&id).is_some_and(|d| d.is_of_each() || is_other && d.is_in_proc())
    }

    /// The processes in whose own tables it is.
    pub(crate) fn owners(&self, descr: Descr) -> Vec<Pid> {
        let has = |p: &&ProcessModel| p.process.fds.iter().any(|fd| fd.description == descr.0);
        self.model.processes.iter().filter(has).map(|p| Pid(p.process.pid)).collect()
    }

    /// The number under which a description stands while the tree is made.
    pub fn number(&self, descr: Descr) -> u64 {
        u64::from(self.base + descr.0)
    }

    /// The file, open for mapping, once for each way of access; `None` when it was refused.
    pub fn open(&mut self, id: u32, access: Access) -> Option<Descr> {
        // Of a file with a lease nobody has another description (fcntl(2), F_SETLEASE): it was mapped by that one.
        let file = &self.model.files[&id];
        let leased = || self.model.leased(id).map(Descr).filter(|_| access != Access::Read || file.unchanged(self));
        if let Some(descr) = self.opened.get(&(id, access)).copied().or_else(leased) {
            return Some(descr);
        }
        if self.refused.contains(&id) {
            return None;
        }
        let descr = self.to.scratch();
        if !file.open_for_mapping(id, descr, access, self) {
            self.refused.push(id);
            return None;
        }
        self.opened.insert((id, access), descr);
        Some(descr)
    }

    /// Every end of the object of which the description is one, for the plan of the first; the others get none.
    pub(crate) fn ends(&self, descr: Descr) -> Vec<(Descr, &Description)> {
        let model = self.model;
        let ends = ends_key(&model.descriptions[&descr.0]).and_then(|key| self.ends.get(&key));
        ends.filter(|ids| ids[0] == descr.0)
            .into_iter()
            .flatten()
            .map(|id| (Descr(*id), &model.descriptions[id]))
            .collect()
    }

    /// The file with this id.
    pub fn file(&self, id: u32) -> File {
        self.model.files[&id].clone()
    }
}

/// What tells which descriptions are ends of one object.
fn ends_key(description: &Description) -> Option<(Tag, u64)> {
    description.object().map(|number| (description.tag(), number))
}

fn ends(model: &Model) -> HashMap<(Tag, u64), Vec<u32>> {
    let mut all: HashMap<_, Vec<u32>> = HashMap::new();
    for (id, description) in &model.descriptions {
        if let Some(key) = ends_key(description) {
            all.entry(key).or_default().push(*id);
        }
    }
    all
}

/// Numbers that the executor opens for a while below its own: what the kernel gives is always the lowest free one.
const PASSING: u32 = 32;

/// How many numbers, between the tree's own and the store's, are left to whoever executes the plan: the image, and the
/// socket of each thread.
fn reserved(model: &Model) -> u32 {
    2 + slots(model)
}

/// How many threads there are while the tree is made: its own, and those of helpers.
fn slots(model: &Model) -> u32 {
    (model.ids().len() + model.leaders().len() + lineage::helpers(model)) as u32
}

/// The numbers from which on so many are free, in the tree and in the executor: above all that the tree has open; or, where
/// fewer may be open than that takes, the first that lie between.
fn reserve(model: &Model, (highest, most): (u32, u64), needed: u32) -> u32 {
    let fds = model.processes.iter().flat_map(|p| p.process.fds.iter().map(|f| f.number));
    // What these led to stands there for a while.
    let own: BTreeSet<u32> = abi::gathered(fds.chain(model.watches().map(|watch| watch.fd)));
    // What the executor has open, or will have in passing, is below.
    let names = model.sockets().filter(|s| s.above().is_some()).count() as u32;
    let first = highest.max(2) + PASSING + names + 2 * slots(model) + 1;
    let above = own.last().map_or(first, |last| first.max(last + 1));
    if u64::from(above) + u64::from(needed) <= most {
        return above;
    }
    let mut at = first;
    for number in own.range(first..) {
        if number - at >= needed {
            return at;
        }
        at = number + 1;
    }
    above
}

/// How many numbers of descriptors a thaw needs, by whoever may have so many, and has hardly anything open. Where it may be close, a plan for
/// this host tells, or, where there is none, it is what it may be, about.
pub fn numbers(model: &Model, most: u64, host: impl FnOnce() -> Option<Host>) -> u64 {
    /// A description takes that many numbers at most: files without a name are made by two others.
    const EACH: u64 = 3;
    const OTHERS: u64 = 64;
    let needed = reserved(model) + model.descriptions.keys().next_back().map_or(0, |last| last + 1);
    // Whether something waits in a terminal of the tree is known when that has ended: to put it back takes one more.
    let terminals = model.masters().count() as u64;
    let least = u64::from(reserve(model, (0, most), needed)) + u64::from(needed) + terminals;
    if least > most || EACH * least <= most {
        return least;
    }
    // What may be there is not looked at where somebody is told of that, and stands still.
    let listens = |d: &Description| matches!(d, Description::Inotify(_) | Description::Fanotify(_));
    let is_heard = model.descriptions.values().any(listens) || model.locks().any(|held| held.of == locks::Of::Lease);
    let Some(host) = (if is_heard { None } else { host() }) else {
        return least + OTHERS + (EACH - 1) * model.files.values().filter(|file| file.is_gone()).count() as u64;
    };
    let (options, host) = (Options::default(), Host { highest_fd: 0, ..host });
    // The ids of the tree may be taken.
    let planning = steps(model, &host, &options, Namespaces::Same);
    least.max(u64::from(planning.base + planning.to.descriptions()) + terminals)
}

/// Where the tree can live with the ids that it had, or why nowhere.
fn namespaces(model: &Model, host: &Host, options: &Options) -> Result<Namespaces, Vec<Refusal>> {
    let taken: Vec<u32> = model.ids().into_iter().chain(model.leaders()).filter(|id| host.taken.contains(id)).collect();
    let in_place = taken.is_empty() && host.may_choose_ids();
    match options.pids {
        Pids::Same if in_place => Ok(Namespaces::Same),
        Pids::Same => Err(not_in_place(&taken)),
        Pids::Auto if in_place => Ok(Namespaces::Same),
        _ => fresh(host),
    }
}

fn not_in_place(taken: &[u32]) -> Vec<Refusal> {
    let remedy = "use --pids new, or auto, for a pid namespace of its own";
    if taken.is_empty() {
        let why = "only root, or who has CAP_CHECKPOINT_RESTORE, may choose the ids of processes";
        return vec![Refusal::new("ids", why, remedy)];
    }
    taken.iter().map(|id| Refusal::new(format!("id {id}"), "it is taken by another process here", remedy)).collect()
}

fn fresh(host: &Host) -> Result<Namespaces, Vec<Refusal>> {
    if host.has(CAP_SYS_ADMIN) {
        Ok(Namespaces::Pid)
    } else if host.user_namespaces {
        Ok(Namespaces::UserPid { uid: host.uid, gid: host.gid })
    } else {
        let why = "the ids that the programs had can only be given in a user namespace, which this host does not allow";
        let remedy = "allow them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, apparmor_restrict_unprivileged_userns), or thaw as root";
        Err(vec![Refusal::new("user namespaces", why, remedy)])
    }
}

/// Why nobody could make a tree again, on whatever host.
pub fn never_made(model: &Model) -> Vec<Refusal> {
    [
        lineage::refusals(model),
        segment::refusals(model),
        epoll::refusals(model),
        uring::refusals(model),
        unix::plan::refusals(model),
        inet::plan::refusals(model),
    ]
    .concat()
}

/// Likewise, as something belongs to it that is not there: of a tree all of which was captured.
pub fn incomplete(model: &Model) -> Vec<Refusal> {
    inet::plan::torn(model)
}

/// The plan that makes the tree again on this host, in order, checked.
///
/// # Panics
/// When the steps of the resources contradict each other: a bug.
pub fn plan(model: &Model, host: &Host, options: &Options) -> Result<Plan, Vec<Refusal>> {
    let (namespaces, mut refusals) = match namespaces(model, host, options) {
        Ok(n) => (n, Vec::new()),
        Err(r) => (Namespaces::Same, r),
    };
    let mut planning = steps(model, host, options, namespaces);
    let Planning { base, reserve, .. } = planning;
    let staging = planning.staging.whole();
    let numbers = u64::from(base + planning.to.descriptions());
    if numbers > host.max_files {
        let why =
            format!("{numbers} descriptors are needed while the tree is made, the hard limit is {}", host.max_files);
        planning.to.refuse(Refusal::new("limits", why, "raise it: ulimit -Hn"));
    }
    let clocks = planning.clocks;
    match planning.to.finish() {
        Ok(_) if !refusals.is_empty() => Err(refusals),
        Err(more) => {
            refusals.extend(more);
            Err(refusals)
        }
        Ok((steps, notes)) => {
            let steps = plan::order(steps).unwrap_or_else(|stuck| panic!("a plan that cannot be ordered: {stuck}"));
            let plan = Plan { namespaces, clocks, base, reserve, staging, steps, notes };
            plan::check(&plan);
            Ok(plan)
        }
    }
}

/// What every resource asks for.
fn steps<'a>(model: &'a Model, host: &'a Host, options: &'a Options, namespaces: Namespaces) -> Planning<'a> {
    // How many descriptions are made only the steps tell.
    let limits = (host.highest_fd, host.max_files);
    let planning = all_steps(model, host, options, namespaces, reserve(model, limits, 0));
    let needed = reserved(model) + planning.to.descriptions();
    let first = reserve(model, limits, needed);
    if first == planning.reserve { planning } else { all_steps(model, host, options, namespaces, first) }
}

/// The same, where the numbers from `reserve` on are free.
fn all_steps<'a>(
    model: &'a Model,
    host: &'a Host,
    options: &'a Options,
    namespaces: Namespaces,
    reserve: u32,
) -> Planning<'a> {
    let first_free = model.descriptions.keys().max().map_or(1, |id| id + 1);
    let base = reserve + reserved(model);
    let mut to = Planner::new(host, options, first_free);
    // Most of what there is to do, each thread does for itself.
    const OF_A_THREAD: usize = 24;
    to.expect(OF_A_THREAD * slots(model) as usize);
    let mut planning = Planning {
        to,
        model,
        namespaces,
        clocks: None,
        base,
        reserve,
        ends: ends(model),
        opened: HashMap::new(),
        saved: HashMap::new(),
        put_back: HashMap::new(),
        removed: HashMap::new(),
        refused: Vec::new(),
        spaces: abi::gathered(model.processes.iter().filter_map(|p| Some((p.process.pid, p.process.shares.space?)))),
        staging: Rc::new(Staging::of(model)),
        heritage: Rc::default(),
        huge: HashMap::new(),
        told_of: procfile::numbers(model).map(|(_, of)| of).collect(),
        found: HashSet::new(),
        controlling: HashMap::new(),
        names: unix::plan::names(host),
        bygone: unix::plan::bygone(model),
        spares: Vec::new(),
    };
    all_resources(&mut planning);
    planning
}

/// In the order of the list, so that of two steps that are both ready the one of the earlier resource goes first.
fn all_resources(to: &mut Planning<'_>) {
    let model = to.model;
    process::births(to);
    whole_tree(to);
    huge::check(to);
    let holders = holders(model);
    for (id, description) in &model.descriptions {
        let pid = holders.get(id).copied().unwrap_or(model.processes[0].process.pid);
        description.plan(Descr(*id), At { pid: Pid(pid), tid: Tid(pid) }, to);
    }
    for p in model.processes.iter().filter(|p| !p.process.is_zombie()) {
        let at = At { pid: Pid(p.process.pid), tid: Tid(p.process.pid) };
        process::descriptors(p, at, to);
        let mut states: Vec<_> = p.states.iter().collect();
        abi::sort_by_key(&mut states, |s| s.position());
        states.iter().for_each(|s| s.plan(at, to));
        for t in &p.threads {
            let mut states: Vec<_> = t.states.iter().collect();
            abi::sort_by_key(&mut states, |s| s.position());
            states.iter().for_each(|s| s.plan(At { pid: at.pid, tid: Tid(t.tid) }, to));
        }
    }
    unix::plan::plan(to);
    inet::plan::plan(to);
    // O_ASYNC is set when other flags are not set any more.
    signalling::plan(to);
    stops::plan(to);
    to.to.step(Moment::Commit, "thaw", Actor::Thaw, Op::Commit, committed(model), vec![]);
}

/// Who has each description: the first process of those that have it.
fn holders(model: &Model) -> HashMap<u32, u32> {
    let mut holders = HashMap::new();
    for p in &model.processes {
        p.process.fds.iter().for_each(|fd| _ = holders.entry(fd.description).or_insert(p.process.pid));
    }
    holders
}

/// What must be true before all of them run.
pub(crate) fn committed(model: &Model) -> Vec<Fact> {
    let living = |p: &ProcessModel| {
        p.threads.iter().skip(p.process.ended.is_some().into()).map(|t| Fact::Whole(Tid(t.tid))).collect::<Vec<_>>()
    };
    let running = model.processes.iter().filter(|p| !p.process.is_zombie()).flat_map(living);
    let ended = model.processes.iter().filter(|p| p.process.ended.is_some());
    running.chain(ended.map(|p| Fact::Ended(Tid(p.process.pid)))).chain([Fact::Settled]).collect()
}

/// What belongs to the tree is made by its first thread.
fn whole_tree(to: &mut Planning<'_>) {
    let root = to.model.processes[0].process.pid;
    let mut states: Vec<_> = to.model.tree.iter().collect();
    abi::sort_by_key(&mut states, |s| s.position());
    states.iter().for_each(|s| s.plan(At { pid: Pid(root), tid: Tid(root) }, to));
}
