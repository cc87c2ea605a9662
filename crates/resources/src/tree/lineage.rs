//! Lineage: who makes whom, so that each process is born into its session and as the child of its parent.
//!
//! A session is inherited by birth, and only its leader ever changes it (setsid(2)). So a process is made
//!
//! 1. by its parent, after the parent has made the session or before, whichever fits;
//! 2. by a sibling that is in the session, or has what both are to share, as a child of the same parent (CLONE_PARENT);
//! 3. where the leader of the session has ended: likewise, by a helper that has the leader's id while the tree is made.
//!
//! Where none fits, it is refused. A process group whose leader has ended has a helper, too. Helpers end before the tree runs,
//! and their parents take note of that.

use super::process::born;
use super::session::{self, Role, Session};
use crate::mm::vdso::KernelArea;
use crate::{Model, Planning, ProcessModel, ProcessState};
use abi::Sys;
use abi::consts::clone::{CLONE_FILES, CLONE_FS, CLONE_PARENT, CLONE_SIGHAND, CLONE_VM};
use plan::{Actor, Birth, End, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "session";
const SIGCHLD: u32 = 17;
/// The session, or group, of whoever thaws.
const OUTER: u32 = 0;

/// How a process is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// By whom.
    pub(crate) maker: u32,
    /// CLONE_ flags.
    pub(crate) flags: u64,
    /// The signal that its parent gets at its end.
    pub(crate) signal: u32,
    /// What must have happened before.
    pub(crate) after: Vec<Fact>,
}

/// A helper in place of a leader that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ghost {
    id: u32,
    parent: u32,
    leads: Leads,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leads {
    Session,
    Group,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Lineage {
    origins: BTreeMap<u32, Origin>,
    ghosts: Vec<Ghost>,
    /// Processes that make a session of their own, each with those that must be born before.
    leaders: BTreeMap<u32, Vec<u32>>,
    /// Whose address space, descriptors, filesystem context and handlers each process has.
    owners: BTreeMap<u32, [u32; 4]>,
}

/// A process as far as it matters here.
#[derive(Clone, Copy)]
struct Kin<'a> {
    p: &'a ProcessModel,
    /// Its session at the end.
    session: u32,
}

impl Kin<'_> {
    fn pid(&self) -> u32 {
        self.p.process.pid
    }

    fn leads(&self) -> bool {
        self.session == self.pid()
    }
}

/// The role of the process in its session, and whether it has a terminal.
fn role_of(p: &ProcessModel) -> Option<(Role, bool)> {
    p.states.iter().find_map(|s| match s {
        ProcessState::Session(Session { role, terminal, .. }) => Some((*role, *terminal)),
        _ => None,
    })
}

/// A leader of a session with a terminal lives in the session of the terminal in which it is thawed, and so does everybody of
/// that session.
fn outer_leader(model: &Model) -> Option<u32> {
    let root = &model.processes[0];
    (role_of(root) == Some((Role::SessionLeader, true))).then_some(root.process.pid)
}

/// The session of a process; images of the first release tell the role only.
fn session_of(p: &ProcessModel, outer: Option<u32>) -> u32 {
    let leads = matches!(role_of(p), Some((Role::SessionLeader, _)));
    let told = if leads { p.process.pid } else { p.process.session };
    if Some(told) == outer { OUTER } else { told }
}

/// The group of a process; likewise.
fn group_of(p: &ProcessModel) -> u32 {
    match role_of(p) {
        Some((Role::SessionLeader | Role::GroupLeader, _)) => p.process.pid,
        _ => p.process.group,
    }
}

/// The sessions that a maker can give: that in which it ends up, and that in which it is born.
struct Choice {
    end: u32,
    start: Option<u32>,
}

/// Every process of a tree that nobody could make again.
pub fn refusals(model: &Model) -> Vec<Refusal> {
    Lineage::of(model).err().unwrap_or_default()
}

impl Lineage {
    /// The lineage of a tree, or every process that nobody can make.
    pub(crate) fn of(model: &Model) -> Result<Lineage, Vec<Refusal>> {
        let outer = outer_leader(model);
        let kin: Vec<Kin<'_>> = model.processes.iter().map(|p| Kin { p, session: session_of(p, outer) }).collect();
        let mut children: BTreeMap<u32, Vec<Kin<'_>>> = BTreeMap::new();
        for k in &kin {
            children.entry(k.p.process.parent).or_default().push(*k);
        }
        let living: BTreeSet<u32> = abi::gathered(kin.iter().map(Kin::pid));
        let owners = |k: &Kin<'_>| (k.pid(), k.p.process.shares.all().map(|with| with.unwrap_or(k.pid())));
        let mut lineage = Lineage { owners: abi::gathered(kin.iter().map(owners)), ..Lineage::default() };
        let mut choices: BTreeMap<u32, Choice> = BTreeMap::new();
        let mut refusals = Vec::new();
        for k in &kin {
            let siblings = children.get(&k.p.process.parent).map_or(&[][..], Vec::as_slice);
            let own = children.get(&k.pid()).map_or(&[][..], Vec::as_slice);
            let parent = choices.get(&k.p.process.parent);
            let start = k.leads().then(|| first_session(own, k.pid(), parent)).flatten();
            if k.leads() {
                lineage.leaders.entry(k.pid()).or_default();
            }
            if k.p.process.parent != 0 && !lineage.make(k, start, parent, siblings, &living) {
                let why = "nobody in the tree can make it so that it is in its session, and shares what it shares";
                refusals.push(Refusal::new("session", why, "").of(k.pid() as i32));
            }
            choices.insert(k.pid(), Choice { end: k.session, start });
        }
        lineage.add_group_ghosts(&kin, &living);
        for ghost in &lineage.ghosts {
            let origin = Origin { maker: ghost.parent, flags: 0, signal: SIGCHLD, after: vec![] };
            lineage.origins.insert(ghost.id, origin);
        }
        if refusals.is_empty() { Ok(lineage) } else { Err(refusals) }
    }

    /// Chooses who makes a process; `start` is the session in which a leader must be born, if it matters.
    fn make(
        &mut self,
        k: &Kin<'_>,
        start: Option<u32>,
        parent: Option<&Choice>,
        siblings: &[Kin<'_>],
        living: &BTreeSet<u32>,
    ) -> bool {
        let Some(parent) = parent else { return false };
        let up = k.p.process.parent;
        let wanted = if k.leads() { start } else { Some(k.session) };
        let made_by = |maker: u32, parental: u64, after: Vec<Fact>| Origin {
            maker,
            flags: parental,
            signal: if parental == 0 { k.p.process.exit_signal.unwrap_or(SIGCHLD) } else { 0 },
            after,
        };
        let origin = match wanted {
            None => made_by(up, 0, vec![]),
            Some(wanted) if wanted == parent.end => {
                made_by(up, 0, if wanted == up { vec![Fact::Group(up)] } else { vec![] })
            }
            Some(wanted) if Some(wanted) == parent.start => {
                self.leaders.entry(up).or_default().push(k.pid());
                made_by(up, 0, vec![])
            }
            Some(wanted) if siblings.iter().any(|s| s.pid() == wanted && s.leads()) => {
                made_by(wanted, CLONE_PARENT, vec![Fact::Group(wanted)])
            }
            Some(wanted) if wanted != OUTER && !living.contains(&wanted) => {
                if !self.has_ghost(wanted, up) {
                    return false;
                }
                made_by(wanted, CLONE_PARENT, vec![Fact::Group(wanted)])
            }
            Some(_) => return false,
        };
        // Who shares something with a sibling, and not with their parent, is made by the sibling.
        let elder = siblings.iter().filter(|s| self.origins.contains_key(&s.pid()) && !s.leads());
        let beside = elder
            .filter(|s| wanted.is_none_or(|wanted| wanted == s.session))
            .map(|s| made_by(s.pid(), CLONE_PARENT, vec![]));
        let sharing = |o: Origin| Some(Origin { flags: o.flags | shared_flags(k.p, o.maker, &self.owners)?, ..o });
        let fitting = std::iter::once(origin).chain(beside).find_map(sharing);
        // A child by CLONE_PARENT ends with the signal of its maker (clone(2)).
        let signal = |p: &ProcessModel| p.process.exit_signal.unwrap_or(SIGCHLD);
        let made_with = |maker: u32| siblings.iter().find(|s| s.pid() == maker).map_or(SIGCHLD, |s| signal(s.p));
        match fitting {
            Some(o) if o.flags & CLONE_PARENT == 0 || made_with(o.maker) == signal(k.p) => {
                self.origins.insert(k.pid(), o);
                true
            }
            _ => false,
        }
    }

    /// Whether the leader that has ended has a helper below that parent; from here on it has.
    fn has_ghost(&mut self, id: u32, parent: u32) -> bool {
        match self.ghosts.iter().find(|g| g.id == id) {
            Some(ghost) => ghost.parent == parent,
            None => {
                self.ghosts.push(Ghost { id, parent, leads: Leads::Session });
                true
            }
        }
    }

    /// A group whose leader has ended is led by a child of one of its members until all others have joined it.
    fn add_group_ghosts(&mut self, kin: &[Kin<'_>], living: &BTreeSet<u32>) {
        let (ended, running): (Vec<&Kin<'_>>, Vec<&Kin<'_>>) = kin.iter().partition(|k| k.p.process.is_zombie());
        for k in running.into_iter().chain(ended) {
            let group = group_of(k.p);
            let led = group == OUTER || living.contains(&group) || self.ghosts.iter().any(|g| g.id == group);
            if !led {
                self.ghosts.push(Ghost { id: group, parent: k.pid(), leads: Leads::Group });
            }
        }
    }

    /// How a process or helper is made; `None`: it is the first.
    pub(crate) fn origin(&self, pid: u32) -> Option<&Origin> {
        self.origins.get(&pid)
    }

    /// The kernel's areas in a process from its birth on, and then for good: its own, or those of whoever made it.
    pub(crate) fn ground<'m>(&self, pid: u32, model: &'m Model) -> &'m [KernelArea] {
        let mut pid = pid;
        loop {
            if let Some(space) = model.space(pid) {
                return &space.kernel_areas;
            }
            match self.origins.get(&pid) {
                Some(origin) => pid = origin.maker,
                None => return &[],
            }
        }
    }

    /// Helpers are born, and end once everybody who needs them is in place.
    pub(crate) fn plan_ghosts(&self, to: &mut Planning<'_>) {
        let model = to.model;
        for ghost in &self.ghosts {
            let (tid, pid) = (Tid(ghost.id), Pid(ghost.id));
            let op = Op::Clone { tid, birth: Birth::Process { flags: 0, exit_signal: SIGCHLD } };
            let makes = [born(tid), vec![Fact::Bare(pid)]].concat();
            let by = Actor::Thread(Tid(ghost.parent));
            let needs = vec![Fact::Born(Tid(ghost.parent)), Fact::Bare(Pid(ghost.parent))];
            to.to.step(Moment::Birth, NAME, by, op, needs, makes);
            let (sys, args) = match ghost.leads {
                Leads::Session => (Sys::Setsid, vec![]),
                Leads::Group => (Sys::Setpgid, vec![0.into(), 0.into()]),
            };
            session::join(ghost.id, sys, args, vec![Fact::Born(tid)], vec![Fact::Group(ghost.id)], to);
            let members = model.processes.iter().filter(|p| group_of(p) == ghost.id);
            let mut needs: Vec<Fact> = members.map(|p| Fact::Grouped(Pid(p.process.pid))).collect();
            needs.extend([Fact::Peopled, Fact::Grouped(pid)]);
            let makes = vec![Fact::Ended(tid), Fact::Settled];
            to.to.step(Moment::Link, NAME, Actor::Thread(tid), Op::End(End::Process(0)), needs, makes);
        }
    }

    /// Sessions and groups are made and joined. Groups come last, when everybody is born in the group of his maker.
    pub(crate) fn plan_groups(&self, to: &mut Planning<'_>) {
        let model = to.model;
        for p in &model.processes {
            let (pid, group) = (p.process.pid, group_of(p));
            if let Some(before) = self.leaders.get(&pid) {
                let needs = before.iter().chain([&pid]).map(|id| Fact::Born(Tid(*id))).collect();
                session::join(pid, Sys::Setsid, vec![], needs, vec![Fact::Group(pid)], to);
            } else if group == pid {
                let args = vec![0.into(), 0.into()];
                session::join(pid, Sys::Setpgid, args, vec![Fact::Peopled], vec![Fact::Group(pid)], to);
            } else if group != OUTER {
                let args = vec![0.into(), u64::from(group).into()];
                session::join(pid, Sys::Setpgid, args, vec![Fact::Peopled, Fact::Group(group)], vec![], to);
            }
        }
    }

    /// What must have happened before a process may end: its helpers have.
    pub(crate) fn dues(&self, pid: u32) -> impl Iterator<Item = Fact> {
        self.ghosts.iter().filter(move |g| g.parent == pid).map(|g| Fact::Reaped(Tid(g.id)))
    }

    /// Parents take note of the end of helpers, and have no signal left that tells of the ends of this thaw.
    pub(crate) fn plan_notices(&self, to: &mut Planning<'_>) {
        let model = to.model;
        let mut parents: BTreeMap<u32, (u64, Vec<Fact>)> = BTreeMap::new();
        let mut tells = |parent: u32, signal: u32, fact| {
            let (signals, facts) = parents.entry(parent).or_default();
            *signals |= if signal == 0 { 0 } else { 1 << (signal - 1) };
            facts.push(fact);
        };
        for p in model.processes.iter().filter(|p| p.process.is_zombie() && p.process.parent != 0) {
            let signal = p.process.exit_signal.unwrap_or(SIGCHLD);
            tells(p.process.parent, signal, Fact::Ended(Tid(p.process.pid)));
        }
        for ghost in &self.ghosts {
            const WALL: u64 = 0x4000_0000;
            let args = vec![u64::from(ghost.id).into(), 0.into(), WALL.into(), 0.into()];
            let op = Op::Call { sys: Sys::Wait4, args, expect: Expect::Exactly(ghost.id.into()) };
            let (reaped, by) = (Fact::Reaped(Tid(ghost.id)), Actor::Thread(Tid(ghost.parent)));
            let makes = vec![Fact::Settled, reaped.clone()];
            to.to.step(Moment::Link, NAME, by, op, vec![Fact::Ended(Tid(ghost.id))], makes);
            tells(ghost.parent, SIGCHLD, reaped);
        }
        let gone = |pid: &u32| model.processes.iter().any(|p| p.process.pid == *pid && p.process.is_zombie());
        for (parent, (signals, needs)) in parents.into_iter().filter(|(parent, _)| !gone(parent)) {
            let (set, now) = (Value::Bytes(signals.to_ne_bytes().to_vec()), Value::Bytes(vec![0; 16]));
            let args = vec![set, 0.into(), now, 8.into()];
            let op = Op::Call { sys: Sys::RtSigtimedwait, args, expect: Expect::Whatever };
            to.to.step(Moment::Link, NAME, Actor::Thread(Tid(parent)), op, needs, vec![Fact::Settled]);
        }
    }
}

/// The session in which a leader must be born, so that children which are in it can be made before it leaves it.
fn first_session(children: &[Kin<'_>], pid: u32, parent: Option<&Choice>) -> Option<u32> {
    let offered = |session: &u32| match parent {
        Some(parent) => *session == parent.end || Some(*session) == parent.start,
        None => *session == OUTER,
    };
    let wanted = children.iter().filter(|c| !c.leads()).map(|c| c.session);
    wanted.filter(|session| *session != pid).find(offered)
}

/// The flags with which it comes to share with its maker what it is to share; `None`: it is not the maker's.
fn shared_flags(p: &ProcessModel, maker: u32, owners: &BTreeMap<u32, [u32; 4]>) -> Option<u64> {
    const FLAGS: [u64; 4] = [CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND];
    let its = owners.get(&maker).copied().unwrap_or([maker; 4]);
    let shared = p
        .process
        .shares
        .all()
        .into_iter()
        .zip(its)
        .zip(FLAGS)
        .filter_map(|((with, its), flag)| Some((with?, its, flag)));
    shared.map(|(with, its, flag)| (with == its).then_some(flag)).sum()
}
