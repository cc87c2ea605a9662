//! Lineage: who makes whom, so that each process is born into its session and as the child of its parent.
//!
//! A session is inherited by birth, and only its leader ever changes it (setsid(2)). So a process is made
//!
//! 1. by its parent, after the parent has made the session or before, whichever fits;
//! 2. by a sibling that is in the session, or has what both are to share, as a child of the same parent (CLONE_PARENT);
//! 3. where the leader of the session has ended: likewise, by a helper that has the leader's id while the tree is made;
//! 4. by a helper that a member of the session makes for it, and that ends at once: a parent further above takes it in, as it
//!    did when it became an orphan (PR_SET_CHILD_SUBREAPER).
//!
//! A helper gives no more than that: an orphan comes to the next one *above* its maker (kernel/exit.c, find_new_reaper), so the maker
//! has to be a member of the session below the parent; and a leader's id cannot be had a second time, in another place, while
//! anybody is in the session (kernel/pid.c: it is the number of a struct pid in use).
//!
//! Where none fits, or no order of births does, it is refused. A process group whose leader has ended has a helper, too.
//! Helpers end before the tree runs, and their parents take note of that.

use super::process::{born, clone};
use super::session::{self, Role, Session};
use crate::mm::vdso::KernelArea;
use crate::{Model, Planning, ProcessModel, ProcessState};
use abi::Sys;
use abi::consts::clone::{CLONE_FILES, CLONE_FS, CLONE_PARENT, CLONE_SIGHAND, CLONE_VM};
use abi::consts::prctl::PR_SET_CHILD_SUBREAPER;
use plan::{Actor, End, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
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

/// A helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ghost {
    id: u32,
    parent: u32,
    does: Does,
}

/// What it is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    /// It stands for the leader of a session that has ended.
    LeadSession,
    /// Likewise, of a group.
    LeadGroup,
    /// It bears a child, which another process takes in.
    Bear { child: u32, heir: u32 },
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
    /// The parent of each process.
    parents: BTreeMap<u32, u32>,
    /// The processes that had ended.
    ended: BTreeSet<u32>,
    /// Under whom the helper for the leader of each session that has ended is born.
    seats: BTreeMap<u32, u32>,
    /// Ids that helpers may have which stand for nobody.
    spare: Vec<u32>,
    /// See [`left`].
    left: BTreeMap<u32, Vec<u32>>,
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
    let root = model.processes.first()?;
    (role_of(root) == Some((Role::SessionLeader, true))).then_some(root.process.pid)
}

/// The session of a process; images of the first release tell the role only.
fn session_of(p: &ProcessModel, outer: Option<u32>) -> u32 {
    let leads = matches!(role_of(p), Some((Role::SessionLeader, _)));
    let told = if leads { p.process.pid } else { p.process.session };
    if Some(told) == outer { OUTER } else { told }
}

/// The group of a process; likewise.
pub(super) fn group_of(p: &ProcessModel) -> u32 {
    match role_of(p) {
        Some((Role::SessionLeader | Role::GroupLeader, _)) => p.process.pid,
        _ => p.process.group,
    }
}

/// Those who have led a group that they are not in any more, as others are: with the members who stay there until the end, or all.
fn left(kin: &[Kin<'_>]) -> BTreeMap<u32, Vec<u32>> {
    let groups: BTreeMap<u32, u32> = abi::gathered(kin.iter().map(|k| (k.pid(), group_of(k.p))));
    let mut left: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, group) in &groups {
        if groups.get(group).is_some_and(|own| own != group) {
            left.entry(*group).or_default().push(*pid);
        }
    }
    let leaders: Vec<u32> = left.keys().copied().collect();
    for members in left.values_mut() {
        let stays = |pid: &u32| leaders.binary_search(pid).is_err();
        if members.iter().any(stays) {
            members.retain(stays);
        }
    }
    left
}

/// The sessions that a maker can give: that in which it ends up, and that in which it is born.
struct Choice {
    end: u32,
    start: Option<u32>,
}

/// Every process of a tree that nobody could make again.
pub fn refusals(model: &Model) -> Vec<Refusal> {
    Lineage::of(model, unreal_ids(model)).err().unwrap_or_default()
}

/// How many ids helpers need which stand for nobody.
pub fn helpers(model: &Model) -> usize {
    let bears = |g: &&Ghost| matches!(g.does, Does::Bear { .. });
    Lineage::of(model, unreal_ids(model)).map_or(0, |lineage| lineage.ghosts.iter().filter(bears).count())
}

/// As many as can be needed, which no process can have.
fn unreal_ids(model: &Model) -> Vec<u32> {
    (0..model.processes.len() as u32).map(|n| u32::MAX - n).collect()
}

impl Lineage {
    /// The lineage of a tree, or every process that nobody can make. The ids in `spare` are nobody's.
    pub(crate) fn of(model: &Model, spare: Vec<u32>) -> Result<Lineage, Vec<Refusal>> {
        let outer = outer_leader(model);
        let kin: Vec<Kin<'_>> = model.processes.iter().map(|p| Kin { p, session: session_of(p, outer) }).collect();
        let mut children: BTreeMap<u32, Vec<Kin<'_>>> = BTreeMap::new();
        for k in &kin {
            children.entry(k.p.process.parent).or_default().push(*k);
        }
        let owners = |k: &Kin<'_>| (k.pid(), k.p.process.shares.all().map(|with| with.unwrap_or(k.pid())));
        let mut lineage = Lineage {
            owners: abi::gathered(kin.iter().map(owners)),
            parents: abi::gathered(kin.iter().map(|k| (k.pid(), k.p.process.parent))),
            ended: abi::gathered(kin.iter().filter(|k| k.p.process.is_zombie()).map(Kin::pid)),
            spare,
            ..Lineage::default()
        };
        let mut wanted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for k in kin.iter().rev() {
            let all = births(children.get(&k.pid()).map_or(&[][..], Vec::as_slice), &wanted);
            wanted.insert(k.pid(), all);
        }
        let mut choices: BTreeMap<u32, Choice> = BTreeMap::new();
        for k in &kin {
            let parent = choices.get(&k.p.process.parent);
            let start = k.leads().then(|| first_session(&wanted[&k.pid()], k.pid(), parent)).flatten();
            if k.leads() {
                lineage.leaders.entry(k.pid()).or_default();
            }
            choices.insert(k.pid(), Choice { end: k.session, start });
        }
        lineage.find_seats(&kin, &choices);
        let mut refusals = Vec::new();
        for k in kin.iter().filter(|k| k.p.process.parent != 0) {
            let siblings = &children[&k.p.process.parent];
            if !lineage.make(k, &choices, siblings, &kin) {
                let why = "nobody in the tree can make it so that it is in its session, and shares what it shares";
                refusals.push(Refusal::new("session", why, "").of(k.pid() as i32));
            }
        }
        lineage.add_group_ghosts(&kin);
        lineage.left = left(&kin);
        let is_outside = |pid: &&u32| kin.iter().any(|k| k.pid() == **pid && group_of(k.p) == OUTER);
        refusals.extend(lineage.left.keys().filter(is_outside).map(|pid| {
            let why = "it has led the process group of others in the tree, and is in one of somebody outside now";
            Refusal::new("process group", why, "").of(*pid as i32)
        }));
        for ghost in lineage.ghosts.iter().filter(|g| !matches!(g.does, Does::Bear { .. })) {
            let origin = Origin { maker: ghost.parent, flags: 0, signal: SIGCHLD, after: vec![] };
            lineage.origins.insert(ghost.id, origin);
        }
        if refusals.is_empty() {
            refusals.extend(lineage.unborn().map(|pid| {
                let why = "in its session it could only be made after others that can only be made after it";
                Refusal::new("session", why, "").of(pid as i32)
            }));
        }
        if refusals.is_empty() {
            refusals.extend(kin.iter().filter(|k| lineage.lacks_ground(k.pid(), model)).map(|k| {
                let why = "it has areas of the kernel (vdso, vvar) that whoever makes it has unmapped";
                Refusal::new("vdso", why, "freeze it without its parent").of(k.pid() as i32)
            }));
        }
        if refusals.is_empty() { Ok(lineage) } else { Err(refusals) }
    }

    /// What its maker has unmapped at its birth nobody can give to it: a program that was executed has areas of its own.
    fn lacks_ground(&self, pid: u32, model: &Model) -> bool {
        let Some(origin) = self.origins.get(&pid) else { return false };
        let there = self.ground(origin.maker, model);
        self.ground(pid, model).iter().any(|area| there.iter().all(|its| its.name != area.name))
    }

    /// A process, and those above it, the next first.
    fn line(&self, pid: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(pid), |pid| self.parents.get(pid).copied()).filter(|pid| *pid != 0)
    }

    /// A helper for the leader of a session is born under the lowest of those who have children in the session, and are not in it
    /// themselves.
    fn find_seats(&mut self, kin: &[Kin<'_>], choices: &BTreeMap<u32, Choice>) {
        for k in kin.iter().filter(|k| k.session != OUTER && !self.parents.contains_key(&k.session)) {
            let up = k.p.process.parent;
            let offered = choices.get(&up).is_some_and(|c| c.end == k.session || c.start == Some(k.session));
            let is_lower = |seat: &u32| self.line(up).count() > self.line(*seat).count();
            if !offered && self.seats.get(&k.session).is_none_or(is_lower) {
                self.seats.insert(k.session, up);
            }
        }
    }

    /// Those who wait for each other to be born: of each the maker must be, and the session made where it is born into one.
    fn unborn(&self) -> impl Iterator<Item = u32> {
        let (mut born, mut led): (BTreeSet<u32>, BTreeSet<u32>) = (BTreeSet::new(), BTreeSet::new());
        let mut before = usize::MAX;
        while before != born.len() + led.len() {
            before = born.len() + led.len();
            let led_by = |fact: &Fact| if let Fact::Group(id) = fact { led.contains(id) } else { true };
            let ready = |origin: &Origin| born.contains(&origin.maker) && origin.after.iter().all(led_by);
            let everybody = self.parents.keys().chain(self.ghosts.iter().map(|g| &g.id));
            let new: Vec<u32> = everybody.filter(|id| self.origins.get(id).is_none_or(ready)).copied().collect();
            born.extend(new);
            let leads = |(id, first): &(&u32, &Vec<u32>)| born.contains(id) && first.iter().all(|f| born.contains(f));
            led.extend(self.leaders.iter().filter(leads).map(|(id, _)| *id));
            let stands = |g: &&Ghost| g.does == Does::LeadSession && born.contains(&g.id);
            led.extend(self.ghosts.iter().filter(stands).map(|g| g.id));
        }
        self.parents.keys().copied().filter(move |pid| !born.contains(pid))
    }

    /// Chooses who makes a process.
    fn make(&mut self, k: &Kin<'_>, choices: &BTreeMap<u32, Choice>, siblings: &[Kin<'_>], kin: &[Kin<'_>]) -> bool {
        let up = k.p.process.parent;
        let Some(parent) = choices.get(&up) else { return false };
        // The session in which a leader must be born, if it matters.
        let wanted = if k.leads() { choices[&k.pid()].start } else { Some(k.session) };
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
            Some(wanted) if self.seats.get(&wanted) == Some(&up) => {
                self.stand_for(wanted);
                made_by(wanted, CLONE_PARENT, vec![Fact::Group(wanted)])
            }
            Some(wanted) => return self.bear(k, wanted, kin),
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

    /// The leader of a session that has ended has a helper from here on.
    fn stand_for(&mut self, session: u32) {
        if !self.ghosts.iter().any(|g| g.id == session) {
            self.ghosts.push(Ghost { id: session, parent: self.seats[&session], does: Does::LeadSession });
        }
    }

    /// A helper of somebody in the session, who lives below the parent, bears the process. It is told of its end by SIGCHLD, as
    /// whoever takes in an orphan is (kernel/exit.c, reparent_leader).
    fn bear(&mut self, k: &Kin<'_>, session: u32, kin: &[Kin<'_>]) -> bool {
        let heir = k.p.process.parent;
        let below = |pid: u32| self.line(pid).skip(1).any(|up| up == heir) && !self.line(pid).any(|up| up == k.pid());
        let member = kin.iter().find(|m| m.session == session && below(m.pid())).map(Kin::pid);
        let seat = self.seats.get(&session).filter(|seat| below(**seat));
        let Some(maker) = member.or(seat.map(|_| session)) else { return false };
        let Some(flags) = shared_flags(k.p, maker, &self.owners) else { return false };
        let Some(id) = self.spare.pop().filter(|_| k.p.process.exit_signal.is_none()) else { return false };
        if member.is_none() {
            self.stand_for(session);
        }
        let after = if maker == session { vec![Fact::Group(session)] } else { vec![] };
        self.ghosts.push(Ghost { id, parent: maker, does: Does::Bear { child: k.pid(), heir } });
        self.origins.insert(id, Origin { maker, flags, signal: SIGCHLD, after });
        self.origins.insert(k.pid(), Origin { maker: id, flags, signal: SIGCHLD, after: vec![] });
        true
    }

    /// A group whose leader has ended is led by a child of one of its members until all others have joined it.
    fn add_group_ghosts(&mut self, kin: &[Kin<'_>]) {
        let (ended, running): (Vec<&Kin<'_>>, Vec<&Kin<'_>>) = kin.iter().partition(|k| k.p.process.is_zombie());
        for k in running.into_iter().chain(ended) {
            let group = group_of(k.p);
            let led = group == OUTER || self.parents.contains_key(&group) || self.ghosts.iter().any(|g| g.id == group);
            if !led {
                self.ghosts.push(Ghost { id: group, parent: k.pid(), does: Does::LeadGroup });
            }
        }
    }

    /// How a process or helper is made; `None`: it is the first.
    pub(crate) fn origin(&self, pid: u32) -> Option<&Origin> {
        self.origins.get(&pid)
    }

    /// Those by way of whom a process is made, its own maker first: helpers, and processes that had ended.
    pub(crate) fn passing(&self, pid: u32) -> impl Iterator<Item = u32> {
        let maker = |id: u32| Some(self.origins.get(&id)?.maker);
        let passes = |id: &u32| self.ended.contains(id) || self.ghosts.iter().any(|g| g.id == *id);
        std::iter::successors(maker(pid), move |id| maker(*id)).take_while(passes)
    }

    /// Whose memory a process has at its birth: that of its maker, or of the next one above who has any.
    pub(crate) fn forebear(&self, pid: u32) -> Option<u32> {
        Some(self.origins.get(&self.passing(pid).last().unwrap_or(pid))?.maker)
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

    /// Helpers are born, and end once everybody who needs them is in place. What those have by birth whom a helper makes, it has
    /// from its own maker: with what that takes, and what it makes.
    pub(crate) fn plan_ghosts(&self, memory: &BTreeMap<u32, (Vec<Fact>, Vec<Fact>)>, to: &mut Planning<'_>) {
        let model = to.model;
        for ghost in &self.ghosts {
            let (tid, pid) = (Tid(ghost.id), Pid(ghost.id));
            let (mut needs, heirs) = memory.get(&ghost.id).cloned().unwrap_or_default();
            let maker = Pid(ghost.parent);
            needs.extend([Fact::Born(Tid(maker.0)), Fact::Bare(maker)]);
            let makes = [born(tid), vec![Fact::Bare(pid)], heirs].concat();
            clone(ghost.id, &self.origins[&ghost.id], needs, makes, to);
            let (sys, args) = match ghost.does {
                Does::LeadSession => (Sys::Setsid, vec![]),
                Does::LeadGroup => (Sys::Setpgid, vec![0.into(), 0.into()]),
                Does::Bear { .. } => continue,
            };
            session::join(ghost.id, sys, args, vec![Fact::Born(tid)], vec![Fact::Group(ghost.id)], to);
            let members = model.processes.iter().filter(|p| group_of(p) == ghost.id);
            let mut needs: Vec<Fact> = members.map(|p| Fact::Grouped(Pid(p.process.pid))).collect();
            needs.extend([Fact::Peopled, Fact::Grouped(pid)]);
            let makes = vec![Fact::Ended(tid), Fact::Settled];
            to.to.step(Moment::Link, NAME, Actor::Thread(tid), Op::End(End::Process(0)), needs, makes);
        }
    }

    /// Helpers that bore a child end, one after the other, and the parent of the child takes it in: as long as that takes it is the
    /// only one of the tree who takes in orphans, and so the next one above the helper.
    pub(crate) fn plan_adoptions(&self, to: &mut Planning<'_>) {
        let mut before: Option<Fact> = None;
        for ghost in &self.ghosts {
            let Does::Bear { child, heir } = ghost.does else { continue };
            let (takes, taken) = (Fact::Made(to.to.scratch()), Fact::Made(to.to.scratch()));
            let mut step = |by: u32, op, needs, makes: Vec<Fact>| {
                let makes = [makes, vec![Fact::Peopled, Fact::Settled]].concat();
                to.to.step(Moment::Birth, NAME, Actor::Thread(Tid(by)), op, needs, makes);
            };
            let take_in = |whether: u64| {
                let args = vec![PR_SET_CHILD_SUBREAPER.into(), whether.into(), 0.into(), 0.into(), 0.into()];
                Op::Call { sys: Sys::Prctl, args, expect: Expect::Success }
            };
            let born = vec![Fact::Born(Tid(child)), Fact::Born(Tid(heir))];
            step(heir, take_in(1), born.into_iter().chain(before).collect(), vec![takes.clone()]);
            step(ghost.id, Op::End(End::Process(0)), vec![takes], vec![Fact::Ended(Tid(ghost.id))]);
            step(heir, take_in(0), vec![Fact::Ended(Tid(ghost.id))], vec![taken.clone()]);
            before = Some(taken);
        }
    }

    /// Sessions and groups are made and joined. Groups come last, when everybody is born in the group of his maker. Who has left his own to others
    /// makes it, and goes when one is in it who stays.
    pub(crate) fn plan_groups(&self, to: &mut Planning<'_>) {
        let model = to.model;
        for p in &model.processes {
            let (pid, group) = (p.process.pid, group_of(p));
            let stay = self.left.get(&pid).map_or(&[][..], Vec::as_slice);
            if !stay.is_empty() {
                let op = Op::Call { sys: Sys::Setpgid, args: vec![0.into(), 0.into()], expect: Expect::Success };
                let makes = vec![Fact::Group(pid), Fact::Settled];
                to.to.step(Moment::Place, NAME, Actor::Thread(Tid(pid)), op, vec![Fact::Peopled], makes);
            }
            if let Some(before) = self.leaders.get(&pid) {
                let needs = before.iter().chain([&pid]).map(|id| Fact::Born(Tid(*id))).collect();
                session::lead(p, needs, to);
            } else if group == pid {
                let args = vec![0.into(), 0.into()];
                session::join(pid, Sys::Setpgid, args, vec![Fact::Peopled], vec![Fact::Group(pid)], to);
            } else if group != OUTER {
                let args = vec![0.into(), u64::from(group).into()];
                let stayed = stay.iter().map(|member| Fact::Grouped(Pid(*member)));
                let needs = [Fact::Peopled, Fact::Group(group)].into_iter().chain(stayed).collect();
                session::join(pid, Sys::Setpgid, args, needs, vec![], to);
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
        let mut parents: BTreeMap<u32, (u64, u32, Vec<Fact>)> = BTreeMap::new();
        let mut tells = |parent: u32, signal: u32, fact| {
            let (signals, count, facts) = parents.entry(parent).or_default();
            let bit = if signal == 0 { 0 } else { 1 << (signal - 1) };
            // Of standard signals one waits at a time (signal(7)).
            *count += u32::from(bit != 0 && (*signals & bit == 0 || signal >= abi::signal::SIGRTMIN as u32));
            *signals |= bit;
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
        for (parent, (signals, count, mut needs)) in parents.into_iter().filter(|(parent, _)| !gone(parent)) {
            for _ in 0..count {
                let (set, now) = (Value::Bytes(signals.to_ne_bytes().to_vec()), Value::Bytes(vec![0; 16]));
                let args = vec![set, 0.into(), now, 8.into()];
                let op = Op::Call { sys: Sys::RtSigtimedwait, args, expect: Expect::Whatever };
                let taken = Fact::Made(to.to.scratch());
                let makes = vec![Fact::Settled, taken.clone()];
                let needs = std::mem::replace(&mut needs, vec![taken]);
                to.to.step(Moment::Link, NAME, Actor::Thread(Tid(parent)), op, needs, makes);
            }
        }
    }
}

/// The sessions in which these children are to be born: those in which they are, then those of which leaders among them need one
/// for children of their own.
fn births(children: &[Kin<'_>], wanted: &BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let (leaders, others): (Vec<&Kin<'_>>, Vec<&Kin<'_>>) = children.iter().partition(|c| c.leads());
    let of_leaders =
        leaders.iter().flat_map(|c| wanted.get(&c.pid()).into_iter().flatten().copied().filter(|s| *s != c.pid()));
    others.iter().map(|c| c.session).chain(of_leaders).collect()
}

/// The session in which a leader must be born, so that those who are to be born in it can be before it leaves it.
fn first_session(wanted: &[u32], pid: u32, parent: Option<&Choice>) -> Option<u32> {
    let offered = |session: &u32| match parent {
        Some(parent) => *session == parent.end || Some(*session) == parent.start,
        None => *session == OUTER,
    };
    wanted.iter().copied().filter(|session| *session != pid).find(offered)
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
