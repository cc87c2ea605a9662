//! A process all of whose threads we hold. They are let go as they were found when it is dropped, or when we die.

use crate::asleep::Asleep;
use crate::envoy::Stayed;
use crate::heir::{Heir, Legacy};
use crate::memory::Memory;
use crate::place::{Areas, Place};
use crate::procfs::{both, each, numbers, read_record};
use crate::ptrace::{self, Stop};
use crate::status::{self, Status};
use crate::stopped::{State, set_right};
use crate::undertaker::Undertaker;
use crate::vfork::{self, Watch};
use crate::{SeizeError, Stopped, arch, fault, sys};
use abi::x86_64::UserRegs;
use abi::{Errno, Fault};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Which queue of pending signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Signals for this thread alone.
    Thread,
    /// Signals for the process, of which any thread may take one.
    Process,
}

/// How long a thread may take to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked why it does not.
const LOOK: Duration = Duration::from_millis(20);
/// How often it is tried to hold who may not be held, a millisecond after the other: when a thread executes a program, it takes the id
/// of the first one, which just dies.
const EXECS: u32 = 30;
/// How often new threads may appear, or a program be executed, while we seize.
const ROUNDS: u32 = 1000;
/// How often threads that are leaving the envoy of an earlier freezer are let run on.
const RUN_OUTS: u32 = 1000;
/// From so many threads on, what /proc shows of them is looked at by another thread of ours than what ptrace(2) tells.
const MANY: usize = 32;

/// A process that we hold: every thread is stopped.
///
/// ptrace(2) obeys only the thread that seized, so this cannot be sent to another one.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    pub(crate) threads: Vec<Stopped>,
    /// What was seen of the threads before they were stopped.
    asleep: BTreeMap<i32, Asleep>,
    since: Instant,
    /// Threads that we trace, by the signal of their stop; also those not yet read, or given up.
    traced: BTreeMap<i32, Option<i32>>,
    pub(crate) memory: Memory,
    pub(crate) areas: Areas,
    has_run_on: bool,
    pub(crate) place: Option<Place>,
    pub(crate) stayed: Option<Stayed>,
    /// Behind the last `syscall` instruction that was looked at: many threads wait in the same one.
    pub(crate) plain_call: Cell<u64>,
    not_send: PhantomData<*const ()>,
}

/// The table of descriptors of a process: any thread of ours may have duplicates of what is in it.
#[derive(Debug)]
pub struct Descriptors {
    pid: i32,
    pidfd: OwnedFd,
}

impl Descriptors {
    /// A duplicate of one (pidfd_getfd(2)).
    pub fn duplicate(&self, fd: RawFd) -> Result<OwnedFd, Fault> {
        duplicate(self.pid, self.pidfd.as_fd(), fd)
    }
}

fn duplicate(pid: i32, pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Fault> {
    sys::pidfd_getfd(pidfd, fd).map_err(|e| Fault::new(format!("pidfd_getfd({pid}, {fd})"), pid, e))
}

/// Why a thread did not come to a stop.
#[derive(Debug)]
pub(crate) enum Lost {
    Fault(Fault),
    Died,
    Stuck,
    /// It waits for this child.
    Vforked(i32),
}

impl From<Fault> for Lost {
    fn from(fault: Fault) -> Self {
        Lost::Fault(fault)
    }
}

/// Waits for the thread that was interrupted; whatever it meets before is passed on. Gives the signal of the stop.
pub(crate) fn await_event(tid: i32) -> Result<i32, Lost> {
    await_event_beside(tid, || {})
}

/// The same; while it does not stop, something else is done now and then.
fn await_event_beside(tid: i32, mut meanwhile: impl FnMut()) -> Result<i32, Lost> {
    let end = Instant::now() + PATIENCE;
    let mut watch = Watch::default();
    while Instant::now() < end {
        match ptrace::wait(tid, LOOK)? {
            Some(Stop::Event(signal)) => return Ok(signal),
            Some(Stop::Exited) => return Err(Lost::Died),
            Some(stop) => ptrace::cont(tid, stop.signal_to_pass())?,
            None => {
                meanwhile();
                watch.look(tid).map_or(Ok(()), |child| Err(Lost::Vforked(child)))?;
            }
        }
    }
    // The child may not have slept all the time.
    Err(vfork::awaited_by(tid).map_or(Lost::Stuck, Lost::Vforked))
}

/// A thread that is leaving an envoy goes to the entry of the last call that it makes there. It does not wait on the way.
fn to_last_call(tid: i32) -> Result<(), Lost> {
    /// More stops than the longest way there has.
    const STOPS: usize = 200;
    ptrace::syscall(tid, 0)?;
    for _ in 0..STOPS {
        match ptrace::wait(tid, PATIENCE)? {
            Some(Stop::Syscall) => {}
            Some(Stop::Exited) => return Err(Lost::Died),
            Some(stop) => {
                ptrace::syscall(tid, stop.signal_to_pass())?;
                continue;
            }
            None => break,
        }
        let regs = ptrace::getregs(tid)?.ok_or(Lost::Stuck)?;
        match regs.orig_rax {
            arch::calls::RT_SIGPROCMASK => return Ok(()),
            arch::calls::PPOLL => ptrace::setregs(tid, &arch::skip(&regs))?,
            _ => {}
        }
        ptrace::syscall(tid, 0)?;
    }
    Err(Lost::Stuck)
}

/// The threads that are not dead, as far as one look tells.
fn tasks(pid: i32) -> Vec<i32> {
    numbers(format!("/proc/{pid}/task")).map(|tid| tid as i32).collect()
}

/// Tells a process that is no more from one whose parent has yet to wait for it.
fn ended(pid: i32) -> SeizeError {
    match status::is_dead(pid) && fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false) {
        true => SeizeError::Zombie { pid },
        false => SeizeError::Died { pid },
    }
}

fn is_gone(fault: &Fault) -> bool {
    fault.errno == Errno::ESRCH
}

/// What /proc shows of the areas and threads of a process that stands still; any thread of ours may look.
#[derive(Debug)]
pub struct Shown {
    areas: Result<Areas, Fault>,
    statuses: Statuses,
}

/// Texts, each taken once.
type Statuses = BTreeMap<i32, Option<(Vec<u8>, Status)>>;

impl Shown {
    /// Looks at a process with these threads.
    pub fn of(tids: &[u32]) -> Shown {
        // What cannot be read is tried once more, and told, by whoever needs it.
        let lead = tids[0] as i32;
        let status = |tid: &u32| (*tid as i32, Status::with_text(lead, *tid as i32).ok());
        Shown { areas: Areas::of(lead), statuses: abi::gathered(each(tids, status)) }
    }
}

/// A process all of whose threads are stopped, and which was not looked at yet. They are let go when it is dropped.
#[derive(Debug)]
pub struct Caught {
    pidfd: OwnedFd,
    since: Instant,
    traced: Traced,
}

impl Caught {
    /// Stops every thread of the process.
    pub fn catch(pid: i32) -> Result<Caught, SeizeError> {
        let gone = |fault: Fault| {
            if is_gone(&fault) { SeizeError::Died { pid } } else { fault.into() }
        };
        let pidfd = sys::pidfd_open(pid).map_err(gone)?;
        let asleep = abi::gathered(each(&tasks(pid), |tid| (*tid, Asleep::of(pid, *tid))));
        let since = Instant::now();
        let mut traced = Traced { pid, threads: BTreeMap::new(), asleep, undertaker: None };
        traced.catch_all()?;
        match traced.threads.is_empty() {
            false => Ok(Caught { pidfd, since, traced }),
            true if has_ended(pidfd.as_fd(), Duration::ZERO) => Err(ended(pid)),
            // All that were seen have ended, and another one lives: to be looked at anew. Or none could be seen.
            true => {
                let path = format!("/proc/{pid}/task");
                let errno = fs::read_dir(&path).err().map_or(Errno::ESRCH, Errno::from);
                Err(Fault::new(format!("open({path})"), pid, errno).into())
            }
        }
    }

    /// The ids of its threads.
    pub fn tids(&self) -> impl Iterator<Item = u32> {
        self.traced.threads.keys().map(|tid| *tid as u32)
    }

    /// Reads its state. What /proc shows of it, and whatever else is to be had then, another thread of ours may look at meanwhile.
    pub fn read<T: Send + Sync>(self, look: impl Fn() -> (Shown, T) + Sync) -> Result<(Process, T), SeizeError> {
        let Caught { pidfd, since, mut traced } = self;
        let pid = traced.pid;
        let first = *traced.threads.first_key_value().expect("it has threads").0;
        let memory = Memory::open(first)?;
        let (traced, asleep) = (std::mem::take(&mut traced.threads), std::mem::take(&mut traced.asleep));
        let (areas, place) = (Areas::default(), None);
        let (threads, stayed, not_send) = (Vec::new(), None, PhantomData);
        let mut process = Process {
            pid,
            pidfd,
            threads,
            asleep,
            since,
            traced,
            memory,
            areas,
            has_run_on: false,
            place,
            stayed,
            plain_call: Cell::new(0),
            not_send,
        };
        let seen = process.read_all(look)?;
        Ok((process, seen))
    }
}

impl Process {
    /// Stops every thread of the process and reads its state. If the process is stopped by SIGSTOP or the like, it is
    /// stopped again afterwards.
    pub fn seize(pid: i32) -> Result<Process, SeizeError> {
        let caught = Caught::catch(pid)?;
        let tids: Vec<u32> = caught.tids().collect();
        caught.read(|| (Shown::of(&tids), ())).map(|(process, ())| process)
    }

    fn read_all<T: Send + Sync>(&mut self, look: impl Fn() -> (Shown, T) + Sync) -> Result<T, SeizeError> {
        let mut tids: Vec<_> = self.traced.keys().copied().collect();
        // Ids begin anew when they have come to their end: a thread may have a lower one than its leader.
        if let Some(leader) = tids.iter().position(|tid| *tid == self.pid) {
            tids[..=leader].rotate_right(1);
        }
        let states = || tids.iter().map(|tid| self.state(*tid)).collect::<Result<Vec<_>, _>>();
        let ((Shown { areas, mut statuses }, seen), states) = both(tids.len() >= MANY, look, states);
        self.areas = areas?;
        self.place = Place::find(&self.areas, &self.memory)?;
        for (tid, state) in tids.iter().zip(states?) {
            let stopped = self.read_thread(*tid, state, statuses.get_mut(tid).and_then(Option::take))?;
            self.threads.push(stopped);
        }
        Ok(seen)
    }

    fn state(&self, tid: i32) -> Result<State, SeizeError> {
        let asleep = self.asleep.get(&tid).map_or_else(Default::default, Cow::Borrowed);
        State::of((self.pid, tid), &self.memory, &asleep)
    }

    /// A thread that is leaving the envoy of an earlier freezer, which was killed, is let run out of it first.
    fn read_thread(
        &mut self,
        tid: i32,
        mut state: State,
        mut status: Option<(Vec<u8>, Status)>,
    ) -> Result<Stopped, SeizeError> {
        for _ in 0..RUN_OUTS {
            let Some(place) = self.place.filter(|place| place.contains(state.regs.rip)) else {
                let event = self.traced[&tid].expect("every traced thread was brought to a stop");
                let asleep = self.asleep.get(&tid).cloned().unwrap_or_default();
                return Stopped::new(state, event, asleep, status);
            };
            let is_stopped = matches!(self.traced.get(&tid), Some(Some(event)) if *event != libc::SIGTRAP);
            match is_stopped {
                true => self.lead_out((tid, place), state.regs)?,
                false => self.run_on(tid)?,
            }
            (state, status) = (self.state(tid)?, None);
        }
        Err(SeizeError::Stuck { tid })
    }

    /// A thread of a stopped process must run nothing of its own: it goes as far as its last call in the envoy, and has what it would pop
    /// behind that. At every instant before it would do so by itself.
    #[cold]
    fn lead_out(&mut self, (tid, place): (i32, Place), mut regs: UserRegs) -> Result<(), SeizeError> {
        let lost = |lost| seize_error(lost, self.pid, tid);
        if !arch::is_behind_last_call(regs.rip - place.code) {
            to_last_call(tid).map_err(lost)?;
            ptrace::interrupt(tid)?;
            ptrace::cont(tid, 0)?;
            let event = await_event(tid).map_err(lost)?;
            self.traced.insert(tid, Some(event));
            regs = ptrace::getregs(tid)?.ok_or(SeizeError::ForeignMode { tid })?;
        }
        if regs.rip != place.code + arch::pops_at() {
            return Err(SeizeError::Stuck { tid });
        }
        let mut words = [0; _];
        for (at, word) in (arch::to_be_popped(&regs)..).step_by(8).zip(&mut words) {
            *word = self.memory.read_u64(at)?;
        }
        ptrace::setregs(tid, &arch::popped(&regs, &words))?;
        self.has_run_on = true;
        self.look_again()
    }

    fn run_on(&mut self, tid: i32) -> Result<(), SeizeError> {
        ptrace::cont(tid, 0)?;
        std::thread::sleep(Duration::from_micros(200));
        ptrace::interrupt(tid)?;
        let event = await_event(tid).map_err(|lost| match lost {
            // The others live.
            Lost::Died => SeizeError::Restless { pid: self.pid },
            lost => seize_error(lost, self.pid, tid),
        })?;
        self.traced.insert(tid, Some(event));
        // What it brought may be gone.
        self.has_run_on = true;
        self.look_again()
    }

    /// Whether a thread of it was let run out of an earlier envoy while it was read: what was looked at before may be otherwise, and who
    /// was born meanwhile is not held.
    pub fn has_run_on(&self) -> bool {
        self.has_run_on
    }

    /// Looks at its areas once more.
    fn look_again(&mut self) -> Result<(), SeizeError> {
        self.areas = Areas::of(*self.traced.first_key_value().expect("it has threads").0)?;
        Ok(())
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Since when its threads stand still.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Its threads. The first is the leader, unless that has ended before the others.
    pub fn threads(&self) -> &[Stopped] {
        &self.threads
    }

    /// Whether the leader has ended while other threads live.
    pub fn leader_has_ended(&self) -> bool {
        !self.traced.contains_key(&self.pid)
    }

    /// A descriptor of the process itself.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The text of /proc/PID/smaps from before an envoy was in it; given once, as it may be long.
    pub fn take_smaps(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.areas.text)
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A copy of its descriptor `fd`: the same open file description.
    pub fn descriptor(&self, fd: RawFd) -> Result<OwnedFd, Fault> {
        if !self.leader_has_ended() {
            return duplicate(self.pid, self.pidfd(), fd);
        }
        self.descriptors()?.duplicate(fd)
    }

    /// Its table of descriptors.
    pub fn descriptors(&self) -> Result<Descriptors, Fault> {
        let clone = |e| Fault::new("dup", self.pid, e);
        let pidfd = match self.leader_has_ended() {
            false => self.pidfd.try_clone().map_err(clone)?,
            // A dead leader has no descriptors any more; another thread has them still.
            true => sys::pidfd_open_thread(self.threads[0].tid())?,
        };
        Ok(Descriptors { pid: self.pid, pidfd })
    }

    /// Whether an envoy in it has not at every instant a way home by itself: calls come back to a thread, or there is no place.
    pub fn needs_guardian(&self) -> bool {
        self.place.is_none() || self.threads.iter().any(|t| t.dispatch().is_some())
    }

    /// Every signal that waits, for a thread or for all of them; none is taken out.
    pub fn waiting(&self) -> Result<Vec<[u8; 128]>, Fault> {
        let mut all = self.threads.first().map_or(Ok(Vec::new()), |first| first.pending(Queue::Process))?;
        for thread in &self.threads {
            all.extend(thread.pending(Queue::Thread)?);
        }
        Ok(all)
    }

    /// Lets every thread go as it was found.
    pub fn release(mut self) -> Result<(), Fault> {
        self.let_all_go()
    }

    /// Ends the process and waits until it is gone, or for as long as makes sense: what was sent SIGKILL does not come back.
    /// After an error it runs on.
    pub fn kill(self) -> Result<Ended, Fault> {
        Ok(Process::kill_all(vec![self], &[])?.0.remove(0))
    }

    /// Ends all of them, as if at once: each is sent SIGKILL before the end of any is waited for. After an error all run on;
    /// once one has ended there is no way back, so of a later one that cannot be ended the fault is given beside.
    /// If we are killed meanwhile, an heir ends those who are left: none or all of them. It knows each by its id and by when it began
    /// (proc_pid_stat(5), starttime), which is given for several.
    pub fn kill_all(all: Vec<Process>, began: &[u64]) -> Result<(Vec<Ended>, Vec<Fault>), Fault> {
        let heir = if all.len() > 1 { Some(last_will(&all, began)?) } else { None };
        let mut sent = all.iter().map(Process::send_kill);
        let faults = sent.next().transpose().map(|_| sent.filter_map(Result::err).collect::<Vec<_>>());
        heir.into_iter().for_each(Heir::keep);
        let (at, faults) = (Instant::now(), faults?);
        let survives = |process: &Process| faults.iter().any(|fault| fault.whom == process.pid.to_string());
        let mut ended: Vec<Process> = all.into_iter().filter(|process| !survives(process)).collect();
        // The first process of a pid namespace ends when nobody is left in it: not a zombie, and no thread either
        // (kernel/pid_namespace.c, `zap_pid_ns_processes`).
        let first = ended.iter().position(Process::is_first_of_namespace);
        for (_, process) in ended.iter_mut().enumerate().filter(|(n, _)| Some(*n) != first) {
            process.see_end();
            if first.is_some() {
                take_note(process.pid);
            }
        }
        first.into_iter().for_each(|n| ended[n].see_end());
        Ok((ended.iter().map(|process| Ended { pid: process.pid, at }).collect(), faults))
    }

    fn is_first_of_namespace(&self) -> bool {
        let of_leader = || Status::of(self.pid).is_ok_and(|status| status.inner == 1);
        if self.leader_has_ended() { of_leader() } else { self.threads[0].inner_tid() == 1 }
    }

    /// Waits for the end of who was sent SIGKILL. Only its first thread is ours then.
    fn see_end(&mut self) {
        self.stayed = None;
        let others = std::mem::take(&mut self.traced).into_keys().filter(|tid| *tid != self.pid);
        others.for_each(|tid| _ = ptrace::reap(tid, PATIENCE));
        has_ended(self.pidfd(), PATIENCE);
    }

    fn send_kill(&self) -> Result<(), Fault> {
        let call = |e| Fault::new(format!("pidfd_send_signal({}, SIGKILL)", self.pid), self.pid, e);
        fault::point().map_err(call)?;
        match sys::pidfd_kill(self.pidfd()) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(call(e)),
        }
    }

    fn let_all_go(&mut self) -> Result<(), Fault> {
        // Who cannot be brought home goes by himself.
        let _ = self.bring_home();
        self.threads.iter().filter(|t| self.traced.contains_key(&t.tid())).for_each(Stopped::dispatches_again);
        let tids = std::mem::take(&mut self.traced).into_keys();
        // All of them, also when one cannot be let go.
        let all: Vec<_> = tids.map(|tid| let_go((self.pid, tid), self.asleep.get(&tid))).collect();
        all.into_iter().collect()
    }

    /// The thread is not ours any more.
    pub(crate) fn give_up(&mut self, index: usize) {
        let thread = &self.threads[index];
        if self.traced.remove(&thread.tid()).is_some() {
            thread.dispatches_again();
            let _ = let_go((self.pid, thread.tid()), self.asleep.get(&thread.tid()));
        }
    }
}

/// An heir that ends all of them if we do not come to it. It is one word that decides so, whole or not at all.
fn last_will(all: &[Process], began: &[u64]) -> Result<Heir, Fault> {
    assert_eq!(all.len(), began.len(), "of each it is known when it began");
    let fault = |e: std::io::Error| Fault::new("write", "an heir", e);
    let mut heir = Heir::new(|legacy, told| {
        if legacy == Legacy::Undone {
            told.iter().flat_map(|will| will.chunks_exact(16)).for_each(end_by_name);
        }
    })?;
    let name = |(process, began): (&Process, &u64)| [process.pid as u64, *began].map(u64::to_ne_bytes);
    let will: Vec<[[u8; 8]; 2]> = all.iter().zip(began).map(name).collect();
    fault::point().map_err(|e| fault(e.into()))?;
    heir.tell(will.as_flattened().as_flattened()).map_err(fault)?;
    Ok(heir)
}

/// When a process began, which tells it from others of the same id.
pub fn begun(pid: i32) -> Result<u64, Fault> {
    let text = read_record(format!("/proc/{pid}/stat"))?;
    abi::proc::stat(&text).map(|stat| stat.starttime).map_err(|e| Fault::new(e.to_string(), pid, Errno::EINVAL))
}

/// In the heir: the process with this id and this beginning gets SIGKILL.
fn end_by_name(name: &[u8]) {
    let word = |n: usize| name[8 * n..8 * n + 8].try_into().map_or(0, u64::from_ne_bytes);
    let pid = word(0) as i32;
    if let Ok(pidfd) = sys::pidfd_open(pid)
        && begun(pid) == Ok(word(1))
    {
        let _ = sys::pidfd_kill(pidfd.as_fd());
    }
}

/// A process that has ended, and whose parent does not know it yet: the kernel tells it when this is dropped, or when we end
/// (ptrace(2): the tracer is told of a death first, the parent when the tracer has waited for it or is gone).
#[derive(Debug)]
pub struct Ended {
    pid: i32,
    at: Instant,
}

impl Ended {
    /// When it was sent SIGKILL.
    pub fn at(&self) -> Instant {
        self.at
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        take_note(self.pid);
    }
}

/// Takes note of the end of a thread that ends. Of the first one of a process the kernel tells it when the others have ended: until then
/// that is waited for, or its parent would not hear of it as long as we live.
pub(crate) fn take_note(tid: i32) {
    let _ = ptrace::reap(tid, PATIENCE);
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.let_all_go();
    }
}

/// Lets a thread go that may be stopped, in whatever stop, or running. Nobody may have looked at it since it was stopped: then the call in
/// which it was is still to be made again.
fn let_go((pid, tid): (i32, i32), asleep: Option<&Asleep>) -> Result<(), Fault> {
    let signal = ptrace::look(tid)?.map_or(0, Stop::signal_to_pass);
    let set_right = || set_right(tid, || asleep?.idle(pid, tid));
    // Of one that runs, or is gone, nobody can tell.
    let _ = set_right();
    if ptrace::detach_with(tid, signal).is_ok() {
        return Ok(());
    }
    let busy = || Err(Fault::new(format!("ptrace(PTRACE_DETACH, {tid})"), tid, Errno::EBUSY));
    // Our own end lets it go, and takes back that it was to stop (kernel/ptrace.c, exit_ptrace).
    if vfork::awaited_by(tid).is_some() {
        return busy();
    }
    // ESRCH: not stopped, or dead (ptrace(2)).
    let _ = ptrace::interrupt(tid);
    match await_event(tid) {
        Ok(_) => {
            let _ = set_right();
            ptrace::detach(tid)
        }
        Err(Lost::Died) => Ok(()),
        Err(Lost::Fault(fault)) if is_gone(&fault) => Ok(()),
        Err(Lost::Fault(fault)) => Err(fault),
        Err(Lost::Stuck | Lost::Vforked(_)) => busy(),
    }
}

/// Whether the process ends within that time.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>, patience: Duration) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, borrowed for the call.
    unsafe { libc::poll(&raw mut poll, 1, patience.as_millis() as i32) == 1 }
}

pub(crate) fn seize_error(lost: Lost, pid: i32, tid: i32) -> SeizeError {
    match lost {
        Lost::Fault(fault) if is_gone(&fault) => ended(pid),
        Lost::Fault(fault) => fault.into(),
        Lost::Died => ended(pid),
        Lost::Stuck => SeizeError::Stuck { tid },
        Lost::Vforked(child) => SeizeError::Vforked { tid, child },
    }
}

/// The threads of a process while they are brought to a stop; let go when dropped.
#[derive(Debug)]
struct Traced {
    pid: i32,
    threads: BTreeMap<i32, Option<i32>>,
    /// What was seen of them before.
    asleep: BTreeMap<i32, Asleep>,
    /// While there are several to be caught.
    undertaker: Option<Undertaker>,
}

impl Traced {
    /// Until we hold as many as there are; or, where one is dead and still counted, until two looks in a row show no new
    /// thread: a look may miss one while others end.
    fn catch_all(&mut self) -> Result<(), SeizeError> {
        self.undertaker = (self.asleep.len() > 1).then(Undertaker::begin);
        let caught = self.catch_each();
        self.undertaker = None;
        caught
    }

    fn catch_each(&mut self) -> Result<(), SeizeError> {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            quiet = if self.catch_new()? { 0 } else { quiet + 1 };
            if quiet == 2 || self.count() == Some(self.threads.len()) {
                return Ok(());
            }
        }
        Err(SeizeError::Restless { pid: self.pid })
    }

    /// How many threads there are (fs/proc/base.c, `proc_task_getattr`): so many links has the directory beyond two.
    fn count(&self) -> Option<usize> {
        let links = fs::metadata(format!("/proc/{}/task", self.pid)).ok()?.nlink();
        (links as usize).checked_sub(2).filter(|count| *count > 0)
    }

    /// Stops the threads that we do not hold yet: first all are asked, then each is waited for. Those by which the kernel does what
    /// the process has asked for run nothing of it, and go with it; whether they are at work, what they work for tells.
    fn catch_new(&mut self) -> Result<bool, SeizeError> {
        let (pid, mut new) = (self.pid, Vec::new());
        let was_seen =
            |asleep: &BTreeMap<i32, Asleep>, tid| asleep.get(&tid).is_some_and(|asleep| asleep.is_of_program);
        for tid in tasks(pid) {
            let is_its_own = tid == pid || was_seen(&self.asleep, tid) || !status::is_of_kernel(tid);
            if !self.threads.contains_key(&tid) && is_its_own && self.catch(tid)? {
                new.push(tid);
            }
        }
        for tid in &new {
            self.hold(*tid)?;
        }
        Ok(!new.is_empty())
    }

    fn catch(&mut self, tid: i32) -> Result<bool, SeizeError> {
        let mut tries = 0;
        while let Err(fault) = ptrace::seize(tid, ptrace::O_TRACESYSGOOD) {
            tries += 1;
            match self.not_caught(tid, fault) {
                // Whom we have caught by another id, before it executed a program.
                Err(SeizeError::Traced { by }) if by == sys::own_tid() => break,
                Err(SeizeError::Fault(fault)) if fault.errno == Errno::EPERM && tries < EXECS => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                not_caught => return not_caught,
            }
        }
        self.threads.insert(tid, None);
        self.undertaker.iter().for_each(|undertaker| undertaker.learns_of(tid));
        match ptrace::interrupt(tid) {
            Err(fault) if !is_gone(&fault) => Err(fault.into()),
            _ => Ok(true),
        }
    }

    /// EPERM is said of the dead as well as of those that others trace (ptrace(2)).
    fn not_caught(&self, tid: i32, fault: Fault) -> Result<bool, SeizeError> {
        if is_gone(&fault) || status::is_dead(tid) {
            return Ok(false);
        }
        match Status::of(tid) {
            Ok(status) if status.tracer != 0 => Err(SeizeError::Traced { by: status.tracer }),
            _ => Err(fault.into()),
        }
    }

    fn hold(&mut self, tid: i32) -> Result<(), SeizeError> {
        match await_event_beside(tid, || self.bury(tid)) {
            Ok(event) => drop(self.threads.insert(tid, Some(event))),
            Err(Lost::Died) => drop(self.threads.remove(&tid)),
            Err(Lost::Fault(fault)) if is_gone(&fault) => drop(self.threads.remove(&tid)),
            Err(lost) => return Err(seize_error(lost, self.pid, tid)),
        }
        Ok(())
    }

    /// Those who have ended are not held any more, this thread apart. It may be one that executes a program, by which they ended: then it
    /// has the id of the first one, and may not have been told to stop by that.
    fn bury(&mut self, but: i32) {
        let before = self.threads.len();
        self.threads.retain(|tid, _| *tid == but || !matches!(ptrace::look(*tid), Ok(Some(Stop::Exited))));
        if self.threads.len() < before {
            let _ = ptrace::interrupt(but);
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        for tid in std::mem::take(&mut self.threads).into_keys() {
            let _ = let_go((self.pid, tid), self.asleep.get(&tid));
        }
    }
}
