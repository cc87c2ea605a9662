//! Freeze: seize, capture, write, and only then end the tree. Or, on any trouble, let it run on as if nothing had been.

use crate::ahead::Ahead;
use crate::apart;
use crate::asked::{Answers, Asks};
use crate::ends::Ends;
use crate::envoys::{After, Hired, Ready, Recruits, Source};
use crate::execute::raise_file_limit;
use crate::flight::Flights;
use crate::guard::may_go_on;
use crate::host::has_capability;
use crate::identify;
use crate::likeness;
use crate::outside::Outside;
use crate::save::{Encoded, Saver};
use crate::target::{Before, Standing, Target, envoy_fault, own_namespaces, read_link};
use crate::tree::{Links, Member, Texts, Tree};
use crate::typed::{LATE, OWN, keep_typed, keyboard, own};
use crate::unfit::{envoy_error, gone, of_ended, presentable, too_many_files};
use crate::{Error, Look, Output, Progress, Published};
use abi::Machine;
use abi::consts::cap::CAP_DAC_OVERRIDE;
use abi::consts::file_type::S_IFSOCK;
use abi::signal::{self, Siginfo};
use image::{Header, Writer};
use plan::Refusal;
use resources::fd::Seen;
use resources::tree::process::{Ended, Fd, Process as ProcessRecord, Shares};
use resources::{
    Capturing, Description, Files, Keep, Model, Note, ProcessModel, ProcessState, Still, Text, ThreadModel,
    ThreadState, TreeState, Trouble,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tracee::fault::point;
use tracee::sys::Sharing;
use tracee::{Process, here, job};

/// What becomes of the tree once its image is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It ends: `freeze`.
    End,
    /// It runs on: `snapshot`.
    RunOn,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tree, as it was seen just now.
    pub tree: Look,
    /// Where the image goes; `None`: nowhere, this is only a look.
    pub output: Option<PathBuf>,
    /// What to keep beyond what must be.
    pub keep: Keep,
    /// What becomes of the tree.
    pub ending: Ending,
}

/// A freeze that went well.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its command name.
    pub name: String,
    /// How many processes.
    pub processes: usize,
    /// Bytes of memory and contents in the image.
    pub saved: u64,
    /// Bytes of the image.
    pub size: u64,
    /// From the start of the command on.
    pub took: Duration,
    /// For how long the tree stood still.
    pub paused: Duration,
    /// Lines that the user sees: what is not kept.
    pub notes: Vec<String>,
}

/// A look, or a freeze: what was found, and what was done.
#[derive(Debug)]
pub struct Frozen {
    /// The tree.
    pub model: Model,
    /// What was done, when it was more than a look.
    pub done: Done,
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

/// Its command name; empty when it is gone.
fn name_of(pid: i32) -> Text {
    fs::read(format!("/proc/{pid}/comm")).unwrap_or_default().trim_ascii_end().into()
}

fn header(pid: i32, processes: usize) -> Header {
    Header {
        version: image::FORMAT,
        tool: concat!("cryopid ", env!("CARGO_PKG_VERSION")).into(),
        machine: Machine::X86_64.name().into(),
        kernel: kernel(),
        page_size: rustix::param::page_size() as u32,
        created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        name: String::from_utf8_lossy(&name_of(pid).0).into_owned(),
        pid: pid as u32,
        processes: processes as u32,
    }
}

/// Paths that /proc shows of a process in another mount namespace are found below its root directory.
fn root_of(pid: i32, its: &Links, own: &Links) -> PathBuf {
    const NAMESPACE: &str = "ns/mnt";
    match its.get(NAMESPACE) == own.get(NAMESPACE) {
        true => PathBuf::new(),
        false => PathBuf::from(format!("/proc/{pid}/root")),
    }
}

/// Collects what a capture gives, and every reason against it.
#[derive(Default)]
struct Findings {
    refusals: Vec<Refusal>,
    fault: Option<Error>,
}

impl Findings {
    fn take<T>(&mut self, whom: i32, found: Result<T, Trouble>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(Trouble::Refused(all)) => {
                self.refusals.extend(all.into_iter().map(|r| r.of(whom)));
                None
            }
            Err(Trouble::Fault(fault)) => {
                self.fault.get_or_insert(fault.into());
                None
            }
        }
    }

    /// An error that keeps anything more from being found; if it is a refusal, with all that was found.
    fn with(mut self, e: Error) -> Error {
        match e {
            Error::Refused(more) => {
                self.refusals.extend(more);
                self.end().expect_err("a refusal ends it")
            }
            other => other,
        }
    }

    fn is_against(&self) -> bool {
        !self.refusals.is_empty() || self.fault.is_some()
    }

    fn end(self) -> Result<(), Error> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.refusals.is_empty() => Ok(()),
            None => Err(Error::Refused(self.refusals)),
        }
    }
}

/// Signals that wait for a process, as siginfo_t.
type Signals = Vec<[u8; 128]>;

/// What came after the image was made is in none: there is no way to put it back.
fn note_arrived(process: &Process, before: &Signals) -> Option<String> {
    let now = process.waiting().ok()?.into_iter().map(Siginfo);
    // A timer goes on with what it had left.
    let new: Vec<_> =
        now.filter(|s| !before.contains(&s.0) && s.tick().is_none()).map(|s| signal::name(s.signo())).collect();
    let which = new.join(", ");
    (!new.is_empty()).then(|| {
        format!("{} signals: {which} came while its image was being finished, and is not in it", process.pid())
    })
}

/// A tree that was captured.
struct Captured {
    model: Model,
    /// What waited for each process at the end.
    waiting: Vec<Signals>,
    /// What is not kept, with the ids of the processes here.
    notes: Vec<Note>,
}

/// Captures the tree; it stays seized. Of a tree that is to run on, no envoy is left in it.
fn capture(
    tree: &mut Tree,
    before: &mut Before,
    saver: &mut RefCell<Saver<'_>>,
    request: &Request,
) -> Result<Captured, Error> {
    let mut findings = Findings::default();
    tree.forget_own_terminals();
    one_namespace(tree, &mut findings);
    before.with_undo = own_undo(tree, &mut findings)?;
    let apart = apart::look(&tree.members)?;
    if !apart.refusals.is_empty() {
        // No envoy visits a thread with descriptors of its own: the number of its socket means something else there.
        return Err(findings.with(Error::Refused(apart.refusals)));
    }
    before.own_fs = apart.own_fs;
    let mut threads = Vec::new();
    for member in &tree.members {
        threads.push(member.threads()?);
    }
    before.inner = abi::gathered(threads.iter().flatten().copied());
    let is_stopped = |m: &&Member| m.process.as_ref().is_some_and(|p| p.threads()[0].group_stop().is_some());
    let with_parent = |m: &Member| (before.inner[&(m.pid as u32)], m.stat.ppid as i32);
    before.stopped = tree.members.iter().filter(is_stopped).map(with_parent).collect();
    before.root = lead(&tree.members[0]);
    before.born = std::mem::take(&mut tree.born);
    before.share_memory = tree.sharing_memory();
    before.outside.is_now(tree.ids());
    let terminal = tree.members[0].stat.terminal;
    let (mut leads, mut descriptors) = (Vec::new(), Vec::new());
    let mut flights = Flights::default();
    for member in tree.members.iter_mut().filter(|m| m.process.is_some() && m.shares.files.is_none()) {
        leads.push((member.pid, lead(member)));
        let seen = std::mem::replace(&mut member.descriptors, Ok(Vec::new()))?;
        member.process.iter_mut().try_for_each(|process| flights.of(process, &seen, before))?;
        descriptors.push(seen);
    }
    let flying = flights.follow(&descriptors, before)?;
    before.flights = flights;
    let table = identify::table(&leads, descriptors, flying, terminal)?;
    let ids = Ids::of(tree, &before.inner);
    let mut records: VecDeque<_> = tree.members.iter().zip(&threads).map(|(m, t)| ids.record(m, t, &table)).collect();
    let (keep, ends) = (request.keep, request.ending == Ending::End && request.output.is_some());
    let shown = Some(shown(&tree.members));
    let mut all =
        Gathered { saver, keep, ends, before, table, shown, files: Files::default(), findings, asks: Asks::default() };
    let mut captured = Captured { model: Model::default(), waiting: Vec::new(), notes: Vec::new() };
    // What is of the whole tree is asked with its last process, when all of its processes were.
    let last = tree.members.iter().rposition(|m| m.process.is_some()).unwrap_or(0);
    let (first, last) = tree.members.split_at_mut(last);
    many(&mut all, first, &mut records, &mut captured)?;
    all.last(last, &mut records, &mut captured)?;
    // Who ends a tree that nobody can make again has lost it.
    all.findings.refusals.extend(resources::never_made(&captured.model));
    if !all.findings.is_against() {
        // Otherwise what is not there was refused.
        all.findings.refusals.extend(resources::incomplete(&captured.model));
    }
    captured.model.files = std::mem::take(&mut all.files.list);
    let too_many = too_many(&captured.model, !all.findings.is_against());
    match request.ending {
        Ending::RunOn if request.output.is_some() => {
            let pid = tree.members[0].pid as u32;
            captured.notes.extend(too_many.map(|why| Note { pid, what: why.what, why: why.why, first: None }));
        }
        _ => {
            all.findings.refusals.extend(too_many);
            // Who may use whatever the host lets anybody use may lack another capability all the same.
            let uses_all = has_capability(CAP_DAC_OVERRIDE);
            let counts = captured.notes.iter().filter(|note| !uses_all || note.is_beyond());
            all.findings.refusals.extend(counts.filter_map(against));
        }
    }
    all.findings.end()?;
    conclude(tree, &mut captured)?;
    Ok(captured)
}

/// Who could not thaw it has lost what he ends.
fn against(note: &Note) -> Option<Refusal> {
    note.first.map(|first| Refusal::new(note.what.clone(), note.why.clone(), first).of(note.pid as i32))
}

/// Who may have no more descriptors when he thaws it than now could not make it again: an ordinary user has no way to. There is a plan only
/// of a tree that `is_whole`.
fn too_many(model: &Model, is_whole: bool) -> Option<Refusal> {
    let most = raise_file_limit();
    let needed = resources::numbers(model, most, || if is_whole { crate::survey(model).ok() } else { None });
    let why = || format!("{needed} descriptors are needed to make the tree again, and you may have {most}");
    (needed > most).then(|| {
        Refusal::new("limits", why(), "raise that here, and where it is thawed: ulimit -Hn, up to sysctl fs.nr_open")
    })
}

/// Captures these members; many of them in a thread of its own, while this one, which traces, makes their envoys.
fn many(
    all: &mut Gathered<'_, '_, '_>,
    members: &mut [Member],
    records: &mut VecDeque<ProcessRecord>,
    into: &mut Captured,
) -> Result<(), Error> {
    let is_worth_it = members.len() >= WORTH_IT;
    let mut recruits = Recruits::new(members, &all.before.share_memory);
    let done = thread::scope(|scope| {
        let ((to, ready), (home, orders)) = (channel(), channel());
        let work = || all.members(&mut Source::Other(ready), Scope::Process, records, into);
        let begin = || thread::Builder::new().spawn_scoped(scope, work).ok();
        let capturing = if is_worth_it { begin()? } else { return None };
        let served = recruits.serve(to, (home, orders));
        Some(capturing.join().expect("a bug ends us at once").and(served))
    });
    // There is no thread to be had where its user has as many as he may.
    done.unwrap_or_else(|| all.members(&mut Source::Own(&mut recruits), Scope::Process, records, into))
}

/// Texts and links of the members, by their places.
fn shown(members: &[Member]) -> Ahead<(Texts, Links)> {
    let leads: Vec<Option<i32>> = members.iter().map(|m| m.process.as_ref().map(|_| lead(m))).collect();
    let [texts, links] = ProcessState::shown();
    Ahead::begin(leads.len(), 0..leads.len(), move |n| {
        let Some(lead) = leads[n] else { return Default::default() };
        let text =
            |name: &&'static str| Some((*name, tracee::procfs::read_table(format!("/proc/{lead}/{name}")).ok()?));
        let link = |name: &&str| Some(((*name).into(), read_link(format!("/proc/{lead}/{name}")).ok()?));
        (abi::gathered(texts.iter().filter_map(text)), abi::gathered(links.iter().filter_map(link)))
    })
}

/// From so many members on a thread of its own captures them.
const WORTH_IT: usize = 16;

/// Descriptions of which is asked at once.
const TOGETHER: usize = 64;

/// A thread of it that lives.
fn lead(member: &Member) -> i32 {
    member.process.as_ref().map_or(member.pid, |p| p.threads()[0].tid())
}

/// Each process has changes of semaphores of its own to be taken back, as far as there are any. Gives whose threads may have some, if that
/// is known.
fn own_undo(tree: &Tree, findings: &mut Findings) -> Result<Option<BTreeSet<i32>>, Error> {
    let living = tree.members.iter().filter(|m| m.process.is_some());
    let pids: BTreeMap<i32, i32> = abi::gathered(living.map(|member| (lead(member), member.pid)));
    let Some(all) = tracee::sys::with_undo(pids.keys().copied())? else { return Ok(None) };
    let with_some = abi::gathered(all.iter().copied());
    for (member, first) in likeness::pairs(all, |a, b| Sharing::Undo.kcmp(*a, *b))? {
        let why = format!("what they get back at its end is also that of process {} (CLONE_SYSVSEM)", pids[&first]);
        findings.refusals.push(Refusal::new("semaphores", why, "this is not supported yet").of(pids[&member]));
    }
    Ok(Some(with_some))
}

/// A tree is made again in one pid namespace.
fn one_namespace(tree: &Tree, findings: &mut Findings) {
    let namespace = |m: &Member| fs::read_link(format!("/proc/{}/ns/pid", lead(m))).ok();
    let first = namespace(&tree.members[0]);
    // Of one that has ended only its ids are told: one in each namespace, from ours on (proc_pid_status(5), NSpid).
    let depth = |m: &Member| m.status.ns_pid.len();
    let is_elsewhere = |m: &Member| match m.process {
        Some(_) => namespace(m) != first,
        None => depth(m) != depth(&tree.members[0]),
    };
    for member in &tree.members {
        if is_elsewhere(member) {
            let why = "it is in another pid namespace than the first process of the tree";
            let refusal = Refusal::new("ns/pid", why, "freeze what is in that namespace by itself");
            findings.refusals.push(refusal.of(member.pid));
        }
        if member.process.is_some()
            && member.stat.terminal.is_some()
            && member.stat.terminal != tree.members[0].stat.terminal
        {
            let why = "it has another terminal than the first process of the tree";
            findings.refusals.push(Refusal::new("terminal", why, "this is not supported yet").of(member.pid));
        }
    }
}

/// What waits, and who is stopped: asked last, when nothing more is called.
fn conclude(tree: &mut Tree, captured: &mut Captured) -> Result<(), Error> {
    for (member, model) in tree.members.iter_mut().zip(&mut captured.model.processes) {
        let Some(process) = &mut member.process else { continue };
        process.settle().map_err(|e| envoy_error(e, member.pid))?;
        let threads = process.threads().iter().enumerate();
        let all: Vec<Standing<'_>> = threads.map(|(n, thread)| Standing::of(thread, n)).collect::<Result<_, _>>()?;
        model.conclude(&all.iter().map(|last| last as &dyn Still).collect::<Vec<_>>())?;
        captured.waiting.push(all.into_iter().flat_map(|last| last.queues).flatten().map(|info| info.0).collect());
    }
    Ok(())
}

/// The ids of a tree in its own pid namespace, by those here.
struct Ids<'a> {
    inner: &'a BTreeMap<u32, u32>,
    root: u32,
    /// Group and session of the root, where somebody else leads them.
    outer: [u32; 2],
}

impl Ids<'_> {
    fn of<'a>(tree: &Tree, inner: &'a BTreeMap<u32, u32>) -> Ids<'a> {
        let root = &tree.members[0];
        let led = |id: u32| if id == root.pid as u32 { 0 } else { id };
        // The session that has a terminal is that of the terminal in which the tree is thawed.
        let session = if root.stat.terminal.is_some() { root.stat.session } else { led(root.stat.session) };
        Ids { inner, root: root.pid as u32, outer: [led(root.stat.pgrp), session] }
    }

    /// The id of a group or session; 0 where somebody outside leads it. `told` is the id in each namespace.
    fn leader(&self, id: u32, outer: u32, told: &[u32]) -> u32 {
        let lives_outside = || fs::exists(format!("/proc/{id}")).unwrap_or(false);
        match self.inner.get(&id) {
            _ if id == outer => 0,
            Some(inner) => *inner,
            None if lives_outside() => 0,
            None => told.last().copied().unwrap_or(id),
        }
    }

    /// Who a member is.
    fn record(&self, member: &Member, threads: &[(u32, u32)], table: &identify::Table) -> ProcessRecord {
        let (stat, status) = (&member.stat, &member.status);
        let inner = |id: u32| self.inner.get(&id).copied().unwrap_or(id);
        let shared = |with: Option<u32>| with.map(inner);
        let shares = member.shares;
        let fds = table.numbers.get(&member.pid).map_or(&[][..], Vec::as_slice).iter().map(fd).collect();
        const SIGCHLD: i32 = 17;
        ProcessRecord {
            pid: threads[0].1,
            name: stat.comm.as_slice().into(),
            threads: threads.iter().map(|(_, inner)| *inner).collect(),
            fds,
            parent: if member.pid as u32 == self.root { 0 } else { inner(stat.ppid) },
            group: self.leader(stat.pgrp, self.outer[0], &status.ns_pgid),
            session: self.leader(stat.session, self.outer[1], &status.ns_sid),
            ended: member.ended(),
            exit_signal: (stat.exit_signal != SIGCHLD).then_some(stat.exit_signal.max(0) as u32),
            shares: Shares {
                space: shared(shares.space),
                files: shared(shares.files),
                fs: shared(shares.fs),
                actions: shared(shares.actions),
            },
        }
    }
}

fn fd((number, at, close_on_exec): &(u32, usize, bool)) -> Fd {
    Fd { number: *number, description: *at as u32 + 1, close_on_exec: *close_on_exec }
}

/// Of what a capture asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A process and its threads.
    Process,
    /// Besides, what belongs to all of them.
    Tree,
}

/// What the captures of all processes add to.
struct Gathered<'g, 's, 'p> {
    saver: &'s mut RefCell<Saver<'p>>,
    keep: Keep,
    /// Nobody is to run on.
    ends: bool,
    before: &'g mut Before,
    table: identify::Table,
    /// Of each member, until what is of the whole tree is asked: we have no other thread then.
    shown: Option<Ahead<(Texts, Links)>>,
    files: Files,
    findings: Findings,
    asks: Asks,
}

impl Gathered<'_, '_, '_> {
    /// Captures the last member that lives, and who comes after it.
    fn last(
        &mut self,
        members: &mut [Member],
        records: &mut VecDeque<ProcessRecord>,
        into: &mut Captured,
    ) -> Result<(), Error> {
        let mut recruits = Recruits::new(members, &self.before.share_memory);
        self.members(&mut Source::Own(&mut recruits), Scope::Tree, records, into)
    }

    /// Captures all that come; in the scope of a tree, all that there is of it besides, with the last that lives.
    fn members(
        &mut self,
        from: &mut Source<'_, '_>,
        scope: Scope,
        records: &mut VecDeque<ProcessRecord>,
        into: &mut Captured,
    ) -> Result<(), Error> {
        while let Some(Ready { pid, texts, envoy, others }) = from.next() {
            let n = into.model.processes.len();
            let record = records.pop_front().expect("there is one for each member");
            let (states, mut threads) = match envoy {
                Some(Ok(envoy)) => self.member((envoy, others), (n, texts), &record.shares, scope, into)?,
                Some(Err(e)) => return Err(std::mem::take(&mut self.findings).with(envoy_error(e, pid))),
                None => (Vec::new(), vec![ThreadModel { tid: record.pid, states: Vec::new() }]),
            };
            if matches!(record.ended, Some(Ended::FirstThread(_))) {
                threads.insert(0, ThreadModel { tid: record.pid, states: Vec::new() });
            }
            into.model.processes.push(ProcessModel { process: record, states, threads });
        }
        Ok(())
    }

    /// Captures what a process and its living threads have.
    fn member(
        &mut self,
        (envoy, mut others): (Hired<'_>, Option<Vec<Answers>>),
        (n, texts): (usize, &Texts),
        shares: &Shares,
        scope: Scope,
        into: &mut Captured,
    ) -> Result<(Vec<ProcessState>, Vec<ThreadModel>), Error> {
        let (whom, threads) = (envoy.process().pid(), envoy.process().threads());
        let (lead, last) = (threads[0].tid(), threads.len() - 1);
        let (mut notes, mut threads, mut own) = (Vec::new(), Vec::new(), Vec::new());
        let (more, links) = self.shown.as_ref().expect("its members come before the tree").take(n);
        let (root, texts, links) = (root_of(lead, &links, &self.before.own_links), [texts, &more], RefCell::new(links));
        let mut at_work = Ok(envoy);
        for index in (0..=last).rev() {
            may_go_on("the freeze")?;
            let is_there = index == last || others.is_some();
            let here = if is_there { at_work } else { at_work.and_then(|envoy| envoy.move_to(index)) };
            let envoy = match here {
                Ok(envoy) => envoy,
                Err(e) => return Err(std::mem::take(&mut self.findings).with(envoy_error(e, whom))),
            };
            let (before, saver, table) = (&*self.before, &*self.saver, &self.table);
            let (root, answers, links) = (root.as_path(), Default::default(), &links);
            let envoy = RefCell::new(envoy);
            let target = Target {
                envoy,
                index,
                pid: lead,
                before,
                texts,
                links,
                root,
                saver,
                table,
                answers,
                options: RefCell::default(),
                is_last: scope == Scope::Tree,
                is_flying: Cell::default(),
            };
            match others.as_mut().and_then(Vec::pop) {
                Some(answers) => target.was_asked(answers),
                None => target.ask_ahead(self.asks.of(index, shares))?,
            }
            if index > 0 && others.is_none() {
                target.envoy.borrow().rest().map_err(|e| envoy_fault(e, whom))?;
            }
            let tid = self.before.inner[&(target.tid() as u32)];
            let mut states = Vec::new();
            let mut from = Capturing { probe: &target, files: &mut self.files, keep: self.keep, notes: &mut notes };
            ThreadState::capture_all(&mut from, &mut |state| states.extend(self.findings.take(whom, state)));
            threads.insert(0, ThreadModel { tid, states });
            if index == 0 {
                // What only messages have is asked of when all else was.
                let is_due = |seen: &Seen| if seen.in_flight { scope == Scope::Tree } else { seen.pid as i32 == whom };
                let mine: Vec<_> = self.table.descriptions.iter().zip(1..).filter(|(seen, _)| is_due(seen)).collect();
                descriptions(&target, &mine, &mut from, &mut |id, found| {
                    into.model.descriptions.extend(self.findings.take(whom, found).map(|d| (id, d)));
                })?;
                // Once there is a reason against it, the bulk of it need not be read.
                self.saver.borrow_mut().doomed = self.findings.is_against();
                ProcessState::capture_all(shares, &mut from, &mut |state| own.extend(self.findings.take(whom, state)));
                if scope == Scope::Tree {
                    self.shown = None;
                    TreeState::capture_all(&mut from, &mut |s| into.model.tree.extend(self.findings.take(whom, s)));
                }
            }
            at_work = Ok(target.envoy.into_inner());
        }
        // Of those that have one memory, one after the other is in the envoy.
        let stays = self.ends && !self.before.share_memory.contains(&whom);
        at_work
            .and_then(|envoy| envoy.end(if stays { After::Stays } else { After::Leaves }))
            .map_err(|e| Error::Fault(envoy_fault(e, whom)))?;
        into.notes.extend(notes.iter().map(|n| Note { pid: whom as u32, ..n.clone() }));
        let inner = self.before.inner.get(&(whom as u32)).copied().unwrap_or(whom as u32);
        into.model.notes.extend(notes.into_iter().map(|n| Note { pid: inner, first: None, ..n }));
        Ok((own, threads))
    }
}

/// Captures descriptions, with their ids.
fn descriptions(
    target: &Target<'_, '_, '_, '_>,
    all: &[(&Seen, u32)],
    from: &mut Capturing<'_>,
    each: &mut dyn FnMut(u32, Result<Description, Trouble>),
) -> Result<(), abi::Fault> {
    let is_socket = |seen: &Seen| !seen.in_flight && seen.file_type() == S_IFSOCK && !seen.names_only();
    target.ask_options(all.iter().filter(|(seen, _)| is_socket(seen)).map(|(seen, _)| seen.fd).collect());
    for group in all.chunks(TOGETHER) {
        let asks = |seen: &Seen| if seen.in_flight { Vec::new() } else { Description::asks(seen, target) };
        let asked = target.ask_for_each(group.iter().map(|(seen, _)| asks(seen)).collect())?;
        for ((seen, id), answers) in group.iter().zip(asked) {
            target.answers[0].replace(answers);
            target.is_flying.set(seen.in_flight);
            each(*id, Description::capture(seen, from));
        }
    }
    target.options.take();
    target.answers[0].take();
    target.is_flying.set(false);
    Ok(())
}

/// A path for the image of a process when nobody named one.
fn default_output(pid: i32) -> PathBuf {
    let name: String = String::from_utf8_lossy(&name_of(pid).0)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    PathBuf::from(format!("{name}-{pid}.cryo"))
}

impl Request {
    /// Where the image goes when nobody named a place: `NAME-PID.cryo` in the working directory.
    pub fn default_output(pid: i32) -> PathBuf {
        default_output(pid)
    }
}

/// Bytes that are wanted for each thread of a tree, about.
const OF_THREAD: u64 = 24 << 10;

/// For how long a tree is tried again that runs on for an instant between: what it has sent may have come by then.
const PATIENCE: Duration = Duration::from_millis(200);

/// Does what is asked, or nothing at all.
pub fn freeze(request: &Request, progress: &mut dyn Progress) -> Result<Frozen, Error> {
    // Each process that is held takes some.
    raise_file_limit();
    // A stream has the beginning of an image already.
    let is_stream = request.output.as_deref().is_some_and(|output| output == Path::new("-"));
    let root = request.tree.root;
    let (mut tries, end, born) = (0, Instant::now() + PATIENCE, tracee::begun(root));
    loop {
        match attempt(request, progress) {
            // An id may be that of another process by now.
            Err(e)
                if e.passes().is_some()
                    && !is_stream
                    && Instant::now() < end
                    && born.is_ok()
                    && tracee::begun(root) == born =>
            {
                // Each time a little longer, so as not to keep step with the tree.
                tries += 1;
                thread::sleep(PATIENCE / 40 * tries);
            }
            done => return done.map_err(too_many_files),
        }
    }
}

fn attempt(request: &Request, progress: &mut dyn Progress) -> Result<Frozen, Error> {
    let start = Instant::now();
    let Look { root: pid, ref members, memory: expected, .. } = request.tree;
    presentable(pid)?;
    request.tree.is_guarded()?;
    request.tree.is_free()?;
    let _errors_only = job::ErrorsOnly::begin();
    here::keep_memory(OF_THREAD.saturating_mul(request.tree.threads));
    // Everything slow that needs no look at the tree comes before it is stopped.
    let output = request.output.as_deref().map(Output::create).transpose()?;
    let own = fs::File::open("/proc/self/exe").map_err(|e| Error::io("open", "/proc/self/exe", e))?;
    let stub = image::stub(own)?;
    progress.stage("freezing", expected);
    let header = header(pid, members.len());
    let mut saver = RefCell::new(Saver::new(output, stub, &header, expected, progress)?);
    let mut before =
        Before { outside: Outside::look(members.clone()), own_links: own_namespaces(), ..Before::default() };
    let mut tree = Tree::seize(pid).map_err(|e| gone(e, pid))?;
    if tree.members.len() > 1 {
        saver.get_mut().expect_relatives();
    }
    let stopped: Vec<(i32, i32)> =
        tree.members.iter().filter(|m| m.process.is_some()).map(|m| (m.pid, lead(m))).collect();
    let captured = capture(&mut tree, &mut before, &mut saver, request);
    let Captured { model, waiting, notes } = captured.map_err(|e| of_ended(e, &stopped))?;
    let mut done = Done {
        name: model.name(),
        processes: model.processes.len(),
        saved: saver.borrow().saved,
        size: 0,
        took: Duration::ZERO,
        paused: Duration::ZERO,
        notes: notes.iter().map(Note::to_string).collect(),
    };
    let writer = saver.borrow_mut().take_writer()?;
    match (writer, request.ending) {
        (Some(writer), Ending::End) => end(tree, writer, &model, &waiting, request.keep, &mut done)?,
        (writer, _) => run_on(tree, writer, &model, &mut done)?,
    }
    done.took = start.elapsed();
    Ok(Frozen { model, done })
}

/// The tree runs on, and does not wait for its image to be finished.
fn run_on(tree: Tree, writer: Option<Writer<Output>>, model: &Model, done: &mut Done) -> Result<(), Error> {
    let since = tree.since();
    tree.release()?;
    done.paused = since.elapsed();
    if let Some(writer) = writer {
        (done.size, _) = publish(writer, model)?;
    }
    Ok(())
}

/// The tree ends once its image is safe.
fn end(
    tree: Tree,
    mut writer: Writer<Output>,
    model: &Model,
    waiting: &[Signals],
    keep: Keep,
    done: &mut Done,
) -> Result<(), Error> {
    let since = tree.since();
    let keyboard = if keep.typed { keyboard(model, &tree) } else { None };
    let own = if keep.typed { own(model, &tree)? } else { Vec::new() };
    let room = keyboard.as_ref().map_or(0, |_| LATE) + OWN * own.len() as u64;
    let late = (room > 0).then(|| writer.late(room)).transpose()?;
    let (size, published) = publish(writer, model)?;
    done.size = size;
    done.notes.extend(tree.held().zip(waiting).filter_map(|(process, waiting)| note_arrived(process, waiting)));
    let ends = Ends::of(model, &tree);
    // A tree that runs on has no image: nobody shall believe that it is in one.
    let (ended, survivors) = match tree.kill() {
        Ok(ended) => ended,
        Err(e) => {
            drop(published.map(Published::withdrawn));
            return Err(e);
        }
    };
    ends.end();
    done.notes.extend(survivors.into_iter().map(|fault| format!("it is in the image and could not be ended: {fault}")));
    done.paused = ended.iter().map(tracee::Ended::at).max().map_or(Duration::ZERO, |at| at - since);
    if let (Some(image), Some(late)) = (&published, late) {
        done.notes.extend(keep_typed(keyboard, &own, image, late));
    }
    // Its shell hears of the end now, and not before: it would read what was typed for the program.
    drop(ended);
    Ok(())
}

/// Finishes the image, looks at it once more, and gives it its name. Gives its length, and what has that name.
fn publish(mut writer: Writer<Output>, model: &Model) -> Result<(u64, Option<Published>), Error> {
    may_go_on("the freeze")?;
    let mut failed = None;
    model.put(&mut |tag, id, need, body| {
        if let Err(e) = writer.record(tag, id, need, &Encoded(body)) {
            failed.get_or_insert(e);
        }
    });
    if let Some(e) = failed {
        return Err(e.into());
    }
    point().map_err(std::io::Error::from)?;
    let (output, size) = writer.finish()?;
    output.release()?;
    if let Some(file) = output.written() {
        let image = image::Image::open(file)?;
        let again = Model::from_records(image.records())?;
        assert!(again == *model, "the image holds what was captured");
    }
    Ok((size, output.publish()?))
}
