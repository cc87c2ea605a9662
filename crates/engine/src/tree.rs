//! A tree of processes while it is held: all of them stand still, and who is whose child is known.

use crate::Error;
use crate::ahead::Ahead;
use crate::identify;
use crate::likeness;
use crate::look::children;
use crate::unfit::{filtered_just_now, seize_error};
use abi::Errno;
use abi::proc::{self, Stat, Status};
use resources::Trouble;
use resources::fd::Seen;
use resources::tree::process::{Ended, Shares};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tracee::job::Hurry;
use tracee::procfs::{by_halves, each, read_record};
use tracee::sys::Sharing;
use tracee::{Caught, Process, SeizeError, Shown};

/// For how long new processes may appear while the tree is being stopped.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where that much time has passed because each look takes long, so many looks may show new ones, and so much more time pass.
const LOOKS: u32 = 5;
const MORE_PATIENCE: Duration = Duration::from_secs(60);
/// How often the whole tree is stopped, where somebody in it had to be let run on before he could be held, and may have made others.
const TRIES: u32 = 20;

/// Texts of /proc by their names below that of a process.
pub(crate) type Texts = BTreeMap<&'static str, Vec<u8>>;

/// Links, likewise.
pub(crate) type Links = BTreeMap<String, Vec<u8>>;

/// A process of the tree.
pub(crate) struct Member {
    /// Its id here.
    pub(crate) pid: i32,
    /// What /proc tells of it.
    pub(crate) stat: Stat,
    pub(crate) status: Status,
    /// The texts that those were read from.
    pub(crate) texts: Texts,
    /// Held; `None`: it has ended, and its parent has yet to take note of that.
    pub(crate) process: Option<Process>,
    /// Its descriptors; taken once.
    pub(crate) descriptors: Result<Vec<Seen>, Error>,
    /// What it shares with a member before it, by the ids of those here.
    pub(crate) shares: Shares,
}

/// What is looked at first of a process that stands still: with it, its descriptors.
type First = (Shown, Result<Vec<Seen>, Error>);

/// Of one with these threads; nothing of one that has none.
fn first_look((pid, tids): &(i32, Vec<u32>)) -> Option<First> {
    let lead = tids.iter().find(|tid| **tid == *pid as u32).or(tids.first())?;
    Some((Shown::of(tids), identify::descriptors(*lead as i32)))
}

/// The members of a tree, parents before children. Let go as they were found when dropped.
pub(crate) struct Tree {
    pub(crate) members: Vec<Member>,
    /// Those who were born of another thread of their parent than its first one, and of which.
    pub(crate) born: Born,
}

/// Threads by the ids of their children.
type Born = BTreeMap<i32, u32>;

/// From so many processes on a second thread compares them, too.
const MANY: usize = 64;

/// Members that share it with one before them, each given by its place and a thread.
pub(crate) fn alike(what: Sharing, living: &[(usize, i32)]) -> Result<Vec<(usize, usize)>, Error> {
    let pairs = likeness::pairs(living.to_vec(), |a, b| what.kcmp(a.1, b.1))?;
    Ok(pairs.into_iter().map(|(own, first)| (own.0, first.0)).collect())
}

/// What was found under an id.
enum Found {
    Held(Box<Caught>),
    Zombie,
}

fn status(text: &[u8]) -> Result<Status, Error> {
    Ok(proc::status(text).map_err(Trouble::from)?)
}

impl Tree {
    /// Stops every process below `root`, and it.
    pub(crate) fn seize(root: i32) -> Result<Tree, Error> {
        let _hurry = Hurry::begin();
        for n in 1..=TRIES {
            match Tree::seize_once(root) {
                Ok(tree) if tree.held().any(Process::has_run_on) => {}
                // A thread that we hold ends when another one executes a program.
                Err(Error::Fault(fault)) if [Errno::ESRCH, Errno::ENOENT].contains(&fault.errno) && n < TRIES => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                seized => return seized,
            }
        }
        let why = "threads of it are still leaving what an earlier freeze that was killed has left";
        Err(Error::refuse("process", why, "try again a moment later"))
    }

    fn seize_once(root: i32) -> Result<Tree, Error> {
        let first = Caught::catch(root).map_err(|e| seize_error(e, root))?;
        let mut found: BTreeMap<i32, Found> = abi::gathered([(root, Found::Held(Box::new(first)))]);
        let mut order = vec![root];
        let (since, mut looks) = (Instant::now(), 0);
        // Who is stopped has no new children, but may get those of a descendant that ends before it is stopped
        // (PR_SET_CHILD_SUBREAPER): so until a look at all of them shows nobody new.
        let mut born = Born::new();
        while catch_new(&mut found, &mut order, &mut born)? {
            looks += 1;
            let patience = if looks > LOOKS { PATIENCE } else { MORE_PATIENCE };
            if since.elapsed() > patience {
                let why = "it makes new processes faster than they can be stopped";
                return Err(Error::refuse("process", why, "try again when it is calmer"));
            }
        }
        let mut tree = Tree { members: Vec::with_capacity(found.len()), born };
        let tids = |found: &Found| if let Found::Held(caught) = found { caught.tids().collect() } else { Vec::new() };
        let threads: Vec<(i32, Vec<u32>)> = order.iter().map(|pid| (*pid, tids(&found[pid]))).collect();
        // Most of what it takes to read a process is to read /proc.
        let shown = Ahead::begin(order.len(), (0..order.len()).rev(), move |n| first_look(&threads[n]));
        for (n, pid) in order.into_iter().enumerate() {
            let (process, descriptors) = match found.remove(&pid).expect("it was found") {
                Found::Held(caught) => match caught.read(|| shown.take(n).expect("it has threads")) {
                    Ok((process, descriptors)) => (Some(process), descriptors),
                    Err(SeizeError::Zombie { .. }) if pid != root => (None, Ok(Vec::new())),
                    Err(SeizeError::Died { .. }) if pid != root => continue,
                    Err(e) => return Err(seize_error(e, pid)),
                },
                Found::Zombie => (None, Ok(Vec::new())),
            };
            tree.members.extend(member(pid, process)?.map(|member| Member { descriptors, ..member }));
        }
        drop(shown);
        tree.sort();
        tree.find_shares()?;
        Ok(tree)
    }

    /// Parents before children, and of siblings the elder first. Who lost his parent before he was stopped is in the tree no
    /// more, and is let go.
    fn sort(&mut self) {
        let mut below: BTreeMap<i32, Vec<Member>> = BTreeMap::new();
        let root = self.members[0].pid;
        for member in std::mem::take(&mut self.members) {
            let parent = if member.pid == root { 0 } else { member.stat.ppid as i32 };
            below.entry(parent).or_default().push(member);
        }
        let mut next = below.remove(&0).unwrap_or_default();
        while let Some(member) = next.pop() {
            let mut own = below.remove(&member.pid).unwrap_or_default();
            abi::sort_by_key(&mut own, |m| std::cmp::Reverse((m.stat.starttime, m.pid)));
            next.append(&mut own);
            self.members.push(member);
        }
    }

    /// Which of them have one address space, one table of descriptors and so on (kcmp(2)).
    fn find_shares(&mut self) -> Result<(), Error> {
        let thread = |(n, m): (usize, &Member)| Some((n, m.process.as_ref()?.threads()[0].tid()));
        let living: Vec<(usize, i32)> = self.members.iter().enumerate().filter_map(thread).collect();
        type Place = fn(&mut Shares) -> &mut Option<u32>;
        let of: [(Sharing, Place); 3] = [
            (Sharing::Space, |shares| &mut shares.space),
            (Sharing::Files, |shares| &mut shares.files),
            (Sharing::Fs, |shares| &mut shares.fs),
        ];
        let found = by_halves(&of, living.len() > MANY, |(what, _)| alike(*what, &living));
        for (pairs, (_, place)) in found.into_iter().zip(of) {
            self.share(pairs?, place);
        }
        // Only who shares an address space may share what signals do, and both go with the next program (clone(2), execve(2)).
        let in_common = self.sharing_memory();
        let living: Vec<_> = living.into_iter().filter(|(n, _)| in_common.contains(&self.members[*n].pid)).collect();
        self.share(alike(Sharing::Actions, &living)?, |shares| &mut shares.actions);
        Ok(())
    }

    fn share(&mut self, pairs: Vec<(usize, usize)>, what: fn(&mut Shares) -> &mut Option<u32>) {
        for (n, with) in pairs {
            let with = self.members[with].pid as u32;
            *what(&mut self.members[n].shares) = Some(with);
        }
    }

    /// The members that live.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Process> {
        self.members.iter().filter_map(|m| m.process.as_ref())
    }

    /// The ids of all members.
    pub(crate) fn ids(&self) -> BTreeSet<u32> {
        abi::gathered(self.members.iter().map(|m| m.pid as u32))
    }

    /// A controlling terminal whose master is in the tree is none that others type into: from here on only what belongs to
    /// the session knows of it.
    pub(crate) fn forget_own_terminals(&mut self) {
        let all = self.members.iter().filter_map(|m| m.descriptors.as_ref().ok()).flatten();
        let masters: BTreeSet<u64> = abi::gathered(all.filter_map(|seen| seen.info.number("tty-index", 10)));
        for member in &mut self.members {
            let device = member.stat.terminal.filter(|(major, _)| (136..144).contains(major));
            let own = device.is_some_and(|(major, minor)| masters.contains(&u64::from((major - 136) << 8 | minor)));
            member.stat.terminal = member.stat.terminal.filter(|_| !own);
        }
    }

    /// Those who have their memory in common with another one.
    pub(crate) fn sharing_memory(&self) -> BTreeSet<i32> {
        let with = |m: &Member| m.shares.space.map(|first| [first as i32, m.pid]);
        abi::gathered(self.members.iter().filter_map(with).flatten())
    }

    /// Since when the first of them stands still.
    pub(crate) fn since(&self) -> Instant {
        self.held().map(Process::since).min().unwrap_or_else(Instant::now)
    }

    /// Ends all of them; see [`Process::kill_all`].
    pub(crate) fn kill(self) -> Result<(Vec<tracee::Ended>, Vec<abi::Fault>), Error> {
        let held = self.members.into_iter().filter_map(|m| Some((m.process?, m.stat.starttime)));
        let (all, began): (Vec<Process>, Vec<u64>) = held.unzip();
        Ok(Process::kill_all(all, &began)?)
    }

    /// Lets all of them go as they were found.
    pub(crate) fn release(self) -> Result<(), Error> {
        // Children first: a parent finds them as it left them.
        let all: Vec<_> = self.members.into_iter().rev().filter_map(|m| m.process).map(Process::release).collect();
        Ok(all.into_iter().collect::<Result<(), _>>()?)
    }
}

/// Looks at the children of everybody who was caught; whether there was a new one.
fn catch_new(found: &mut BTreeMap<i32, Found>, order: &mut Vec<i32>, born: &mut Born) -> Result<bool, Error> {
    let before = order.len();
    let mut n = 0;
    while n < order.len() {
        // A thread that has ended has no children.
        let tids = |pid: &i32| if let Found::Held(caught) = &found[pid] { caught.tids().collect() } else { Vec::new() };
        let of = |pid: &i32| tids(pid).into_iter().map(|tid| (*pid as u32, tid)).collect::<Vec<_>>();
        let threads: Vec<(u32, u32)> = order[n..].iter().flat_map(of).collect();
        n = order.len();
        let of = each(&threads, |(pid, tid)| children(*pid, *tid));
        let all = threads.iter().zip(of).flat_map(|(of, all)| all.into_iter().map(move |child| (*of, child as i32)));
        for ((pid, tid), child) in all {
            // Who lost his parent has another one by now.
            born.remove(&child);
            born.extend((pid != tid).then_some((child, tid)));
            // Who got another parent meanwhile was seen with both.
            if found.contains_key(&child) {
                continue;
            }
            match Caught::catch(child) {
                Ok(caught) => drop(found.insert(child, Found::Held(Box::new(caught)))),
                Err(SeizeError::Zombie { .. }) => drop(found.insert(child, Found::Zombie)),
                // Its parent is stopped, but one that ignores SIGCHLD need not take note of it.
                Err(SeizeError::Died { .. }) => continue,
                Err(e) => return Err(seize_error(e, child)),
            }
            order.push(child);
        }
    }
    Ok(order.len() > before)
}

/// What /proc tells of a process that was caught; `None`: it is gone.
fn member(pid: i32, mut process: Option<Process>) -> Result<Option<Member>, Error> {
    let text = |of: i32, name: &str| read_record(format!("/proc/{of}/{name}"));
    let first = process.as_ref().map(|p| &p.threads()[0]).filter(|first| first.tid() == pid);
    let status_text = first.map_or_else(|| text(pid, "status"), |first| Ok(first.status().to_vec()));
    let (Ok(stat_text), Ok(status_text)) = (text(pid, "stat"), status_text) else { return Ok(None) };
    let stat = proc::stat(&stat_text).map_err(Trouble::from)?;
    let status = status(&status_text)?;
    let mut texts = BTreeMap::new();
    if let Some(process) = &mut process {
        // An envoy brings a socket and an area of its own: what is there without it is looked at first.
        texts.insert("smaps", process.take_smaps());
        let lead = process.threads()[0].tid();
        for (name, of_first) in [("stat", stat_text), ("status", status_text)] {
            texts.insert(name, if lead == pid { of_first } else { text(lead, name)? });
        }
    }
    Ok(Some(Member { pid, stat, status, texts, process, descriptors: Ok(Vec::new()), shares: Shares::default() }))
}

impl Member {
    /// What of it has ended.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match &self.process {
            None => Some(Ended::Process(self.stat.exit_code)),
            Some(process) => process.leader_has_ended().then_some(Ended::FirstThread(self.stat.exit_code)),
        }
    }

    /// No envoy enters a thread that is filtered, or whose calls come back to it, unless we are a guardian.
    fn is_guarded(&self, is_filtered: bool) -> Result<(), Error> {
        match self.process.is_some() && is_filtered && !tracee::guard::stands() {
            true => Err(filtered_just_now(self.pid)),
            false => Ok(()),
        }
    }

    /// The ids of its threads here with those in their own pid namespace, its first thread's first.
    pub(crate) fn threads(&self) -> Result<Vec<(u32, u32)>, Error> {
        self.is_guarded(self.status.seccomp != 0)?;
        if self.process.as_ref().is_some_and(tracee::Process::needs_guardian) && !tracee::guard::stands() {
            return Err(Error::Unguarded);
        }
        let first = (self.pid as u32, self.status.ns_pid.last().copied().unwrap_or(self.pid as u32));
        let mut all = vec![first];
        for thread in self.process.iter().flat_map(|p| p.threads()).filter(|t| t.tid() != self.pid) {
            self.is_guarded(thread.is_filtered())?;
            all.push((thread.tid() as u32, thread.inner_tid()));
        }
        Ok(all)
    }
}
