//! The envoy: a stopped thread, lent to system calls.
//!
//! The order of everything here follows from one demand: when we are killed, the thread finds its own way home.
//!
//! 1. Clear the kernel's note of a mask to be restored (it would let a signal into the envoy), harmless by itself.
//! 2. Write code and data block where nobody runs.
//! 3. Registers into the envoy: the switch. From here on our death means that the envoy heals the thread.
//! 4. Only then block all signals, for it is the envoy that unblocks them.
//! 5. It makes the memfd, the arena and the socket; at the entry of close(our end) we take copies, so that it never
//!    waits for us while it holds our end itself: there would be no EOF.
//!
//! A second thread takes over what the first one made ([`Envoy::move_to`]): both stand where they would leave, each with a
//! data block of its own, when one word makes the other one the owner.
//!
//! Home again: the envoy undoes what it made; then the thread is brought onto the kernel's own signal path, where mask
//! and registers are put back with the call as it was interrupted, so that the kernel itself restarts it.

mod guests;

use crate::arch::{self, calls as nr};
use crate::arena::{Arena, Batch, Hall, SIZE};
use crate::place::{Place, Slot, Tail};
use crate::process::{Lost, PATIENCE, await_event, has_ended};
use crate::ptrace::{self, Stop};
use crate::status::Status;
use crate::stub::{again, call_at};
use crate::{EnvoyError, Process, Stopped, fault, guard, sys};
use abi::consts::mmap::PAGE;
use abi::x86_64::UserRegs;
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// The frozen thread makes system calls for us until this is dropped.
///
/// Any thread of ours may ask it for calls. All else, and to drop it, takes the one that traces, which also sees that it is not stopped
/// while another one asks ([`let_go_on`]).
#[derive(Debug)]
pub struct Envoy<'p> {
    post: Option<Post<'p>>,
    arena: Arena,
    socket: Arc<OwnedFd>,
    /// The number of its own end.
    number: u64,
    /// Calls that it is making, or has made without anybody asking for the answers yet.
    begun: Option<Begun>,
    /// Guests were turned out: it is on its way home, or there.
    is_lost: bool,
    /// See [`Envoy::locks_new_areas`]; known once it was asked.
    locks: Option<bool>,
    /// The thread of ours that traces.
    tracer: ThreadId,
}

// SAFETY: all that it has is its own, or lent to it alone, as the process is, and may be used by any thread, one after the other. What is
// bound to a thread is only what ptrace(2) does: by another one it is refused (ESRCH), and touches no memory.
unsafe impl Send for Envoy<'_> {}

/// Calls that were begun.
#[derive(Debug)]
struct Begun {
    calls: Arc<[Call]>,
    answers: Awaited,
}

/// Answers, or where they will be.
#[derive(Debug)]
enum Awaited {
    In(Batch),
    Here(Vec<Answer>),
}

/// Calls that were made, and what they gave.
type Made = (Arc<[Call]>, Vec<Answer>);

/// For how many seconds a thread of a stopped process waits for our end, if that is what its socket tells: longer than a process takes from
/// where it closes its descriptors to where it lets go of whom it traces.
const STOPPED_WAITS: u32 = 1;

/// For how long we look for an answer again and again before we sleep: to be woken takes longer than most answers.
const EAGER: Duration = Duration::from_micros(200);

/// A thread that was left standing in the envoy's loop: let go, it goes home.
#[derive(Debug)]
pub(crate) struct Stayed {
    index: usize,
    place: Place,
    slot: Slot,
    /// Its socket, until it is known to stand still; then it is at the end of it.
    halting: Option<Arc<OwnedFd>>,
}

/// A thread whose registers lead into the envoy.
#[derive(Debug)]
struct Post<'p> {
    process: &'p mut Process,
    index: usize,
    place: Place,
    slot: Slot,
    /// It was told to stop, and that it did has not been seen yet.
    halting: Cell<bool>,
}

/// A thread that is in the envoy, which makes what it needs, call after call.
struct Recruit<'p> {
    post: Post<'p>,
    status: Status,
    memfd: Option<OwnedFd>,
    /// Where its arena is to be mapped.
    room: (Arc<Hall>, usize),
    arena: Option<Arena>,
    socket: Option<(OwnedFd, u64)>,
}

/// A stop on the way of a recruit: the entry of a call, or its exit.
#[derive(Clone, Copy)]
enum Way {
    Entry(u64),
    Exit(&'static str),
}

/// Step 5: its stops.
const WAY: [Way; 7] = [
    Way::Entry(nr::MEMFD_CREATE),
    Way::Exit("memfd_create"),
    Way::Entry(nr::MMAP),
    Way::Exit("mmap"),
    Way::Entry(nr::SOCKETPAIR),
    Way::Exit("socketpair"),
    Way::Entry(nr::CLOSE),
];

impl<'p> Recruit<'p> {
    /// It has come to that stop.
    fn arrive(&mut self, way: Way) -> Result<(), EnvoyError> {
        let regs = self.post.arrive()?;
        match way {
            Way::Entry(nr::CLOSE) if regs.orig_rax == nr::CLOSE => {
                self.socket = Some((self.post.take(arch::peer(&regs))?, arch::socket(&regs)));
                self.memfd = None;
                Ok(ptrace::cont(self.post.tid(), 0)?)
            }
            Way::Entry(number) if regs.orig_rax == number => self.post.leave_call(),
            Way::Entry(_) => Err(EnvoyError::Silent),
            Way::Exit(name) => {
                let failed = |e| EnvoyError::Setup(Fault::new(name, self.post.process.pid(), e));
                let gave = Errno::from_raw(regs.rax).map_err(failed)?;
                self.made(name, gave)?;
                self.post.leave_call()
            }
        }
    }

    fn made(&mut self, by: &str, what: u64) -> Result<(), EnvoyError> {
        match (by, &self.memfd) {
            ("memfd_create", _) => set_size(self.memfd.insert(self.post.take(what as i32)?))?,
            ("mmap", Some(memfd)) => self.arena = Some(Arena::map(memfd, what, (&self.room.0, self.room.1))?),
            _ => {}
        }
        Ok(())
    }

    /// Home. It may be on its way into its loop, which it leaves at the end of its socket: so our copy of that goes first.
    fn give_up(&mut self) {
        (self.memfd, self.arena, self.socket) = (None, None, None);
        let _ = self.post.go_home();
    }

    /// It waits for a batch.
    fn done(self) -> Result<Envoy<'p>, EnvoyError> {
        let (Some(arena), Some((socket, number))) = (self.arena, self.socket) else {
            unreachable!("it has gone all the way")
        };
        let (post, socket, tracer) = (Some(self.post), Arc::new(socket), std::thread::current().id());
        let mut envoy = Envoy { post, arena, socket, number, begun: None, is_lost: false, locks: None, tracer };
        envoy.learn_interrupting(&self.status)?;
        Ok(envoy)
    }
}

/// Makes a thread of each of the processes, which have nothing in common, an envoy. They make what they need beside each other.
pub fn envoys<'p>(of: impl IntoIterator<Item = (&'p mut Process, usize)>) -> Vec<Result<Envoy<'p>, EnvoyError>> {
    let of: Vec<_> = of.into_iter().collect();
    let hall = Hall::new(of.len().max(1)).map(Arc::new);
    let room = |n| hall.clone().map(|hall| (hall, n));
    let recruit = |(n, (process, index)): (usize, (&'p mut Process, usize))| process.recruit(index, room(n)?);
    let mut all: Vec<_> = of.into_iter().enumerate().map(recruit).collect();
    let mut step = |act: &dyn Fn(&mut Recruit<'p>) -> Result<(), EnvoyError>| {
        for one in &mut all {
            if let Ok(recruit) = one
                && let Err(e) = act(recruit)
            {
                recruit.give_up();
                *one = Err(e);
            }
        }
    };
    step(&|recruit| recruit.post.go_on());
    WAY.iter().for_each(|way| step(&|recruit| recruit.arrive(*way)));
    all.into_iter().map(|one| one.and_then(Recruit::done)).collect()
}

/// Lets a thread go on that is an envoy, which another thread of ours asks something, if something has stopped it.
pub fn let_go_on(tid: i32) {
    if let Ok(Some(stop)) = ptrace::look(tid)
        && stop != Stop::Exited
    {
        let _ = ptrace::cont(tid, stop.signal_to_pass());
    }
}

/// Calls that would not come back as the same thread, would wipe out the kernel's restart block, or open the mask.
const FORBIDDEN: [Sys; 14] = [
    Sys::Clone,
    Sys::Clone3,
    Sys::Execveat,
    Sys::Exit,
    Sys::ExitGroup,
    Sys::Nanosleep,
    Sys::ClockNanosleep,
    Sys::Futex,
    Sys::Pause,
    Sys::RtSigsuspend,
    Sys::RestartSyscall,
    Sys::Ppoll,
    Sys::Pselect6,
    Sys::EpollPwait,
];

impl Process {
    /// Makes the thread of that index an envoy.
    pub fn envoy(&mut self, index: usize) -> Result<Envoy<'_>, EnvoyError> {
        envoys([(self, index)]).remove(0)
    }

    /// An envoy that has yet to make what it needs.
    fn recruit(&mut self, index: usize, room: (Arc<Hall>, usize)) -> Result<Recruit<'_>, EnvoyError> {
        self.bring_home()?;
        let status = self.fit(index, self.place)?;
        let place = self.place.map_or_else(|| self.page(index), Ok)?;
        let post = self.install(index, place, &status)?;
        Ok(Recruit { post, status, memfd: None, room, arena: None, socket: None })
    }

    /// Sees that whom [`Envoy::stay`] left standing has come to a stop.
    ///
    /// # Errors
    /// It is not where it was left. Then it goes home by itself.
    pub fn settle(&mut self) -> Result<(), EnvoyError> {
        let Some(mut stayed) = self.stayed.take() else { return Ok(()) };
        if let Some(socket) = stayed.halting.take() {
            let Stayed { index, place, slot, .. } = stayed;
            let mut post = Post { process: self, index, place, slot, halting: Cell::new(true) };
            let held = post.hold();
            hang_up(&socket);
            let (_, event) = held.map_err(|e| post.abandon(e))?;
            post.process.threads[index].see_event(event);
        }
        self.stayed = Some(stayed);
        Ok(())
    }

    /// Brings back to where it was whom [`Envoy::stay`] left standing.
    pub(crate) fn bring_home(&mut self) -> Result<(), EnvoyError> {
        self.settle()?;
        let Some(Stayed { index, place, slot, .. }) = self.stayed.take() else { return Ok(()) };
        let mut post = Post { process: self, index, place, slot, halting: Cell::new(false) };
        match post.turn() {
            Ok(()) => post.go_home(),
            Err(e) => Err(post.abandon(e)),
        }
    }

    /// Everything that might make the envoy or its way home fail is looked at before anything is touched.
    fn fit(&self, index: usize, place: Option<Place>) -> Result<Status, EnvoyError> {
        let thread = &self.threads[index];
        let status = thread.flags();
        let regs = thread.regs();
        let stack = regs.rsp.wrapping_sub(arch::RED_ZONE + arch::HEAL_STACK)..regs.rsp.wrapping_sub(arch::RED_ZONE);
        if status.shadow_stack {
            return Err(EnvoyError::ShadowStack);
        }
        if stack.start > stack.end || !self.areas.can_write(&self.memory, stack) {
            return Err(EnvoyError::NoStack);
        }
        self.is_plain_call(regs)?;
        self.has_descriptors()?;
        place.filter(|place| place.tail == Tail::Taken).map_or(Ok(()), |place| self.is_alone(place))?;
        if status.seccomp != 0 {
            unfilter(thread.tid())?;
        }
        match thread.dispatch() {
            Some(_) if !guard::stands() => Err(EnvoyError::UserDispatch),
            Some(_) => Ok(thread.dispatches_no_more().map(|()| status)?),
            None => Ok(status),
        }
    }

    /// Whether we may have copies of what is open in it (pidfd_open(2), PIDFD_THREAD).
    fn has_descriptors(&self) -> Result<(), EnvoyError> {
        match self.leader_has_ended().then(|| sys::pidfd_open_thread(self.threads[0].tid())) {
            Some(Err(fault)) if fault.errno == Errno::EINVAL => Err(EnvoyError::Leaderless),
            Some(Err(fault)) => Err(fault.into()),
            None | Some(Ok(_)) => Ok(()),
        }
    }

    /// `int 0x80` has other numbers, also that of restart_syscall.
    fn is_plain_call(&self, regs: &UserRegs) -> Result<(), EnvoyError> {
        if arch::interrupted(regs) == arch::Interrupted::No || self.plain_call.get() == regs.rip {
            return Ok(());
        }
        let mut bytes = [0; 2];
        self.memory.read(regs.rip.wrapping_sub(2), &mut bytes)?;
        if bytes != arch::SYSCALL {
            return Err(EnvoyError::ForeignCall);
        }
        self.plain_call.set(regs.rip);
        Ok(())
    }

    /// The data block belongs to another thread that still needs it, if one of another process, with the same memory,
    /// stands in the code. Threads of our own were let run out of it when they were seized.
    fn is_alone(&self, place: Place) -> Result<(), EnvoyError> {
        place.slots().iter().try_for_each(|slot| self.is_left(place, *slot))
    }

    fn is_left(&self, place: Place, slot: Slot) -> Result<(), EnvoyError> {
        let tid = self.memory.read_u64(place.data(slot) + arch::Data::OWNER_AT)? as i32;
        let ours = tid == 0 || self.threads.iter().any(|t| t.tid() == tid);
        if ours || sys::kcmp_memory(self.pid(), tid).is_ok_and(|o| o.is_ne()) {
            return Ok(());
        }
        for _ in 0..100 {
            match instruction_pointer(tid) {
                Ok(Some(ip)) if !place.contains(ip) => return Ok(()),
                Err(_) => return Ok(()),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Err(EnvoyError::Busy { tid })
    }

    /// A page for the envoy, where there is no other place. The thread is where it was.
    #[cold]
    fn page(&self, index: usize) -> Result<Place, EnvoyError> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let code = self.at_gate(index, Sys::Mmap, &[0, PAGE, prot as u64, flags as u64, u64::MAX, 0])?;
        Ok(Place { code, tail: Tail::Page, is_double: true })
    }

    /// A call of a thread that is where it was, and is there again after it.
    #[cold]
    fn at_gate(&self, index: usize, sys: Sys, args: &[u64]) -> Result<u64, EnvoyError> {
        let gate = self.areas.gate(&self.memory, &(0..0)).filter(|_| guard::stands()).ok_or(EnvoyError::NoRoom)?;
        let thread = &self.threads[index];
        ptrace::setsigmask(thread.tid(), u64::MAX)?;
        let made = call_at(thread.tid(), gate, sys, args);
        // It may be running still.
        if made.is_err() && matches!(ptrace::look(thread.tid()), Ok(None)) {
            let _ = ptrace::interrupt(thread.tid());
            let _ = await_event(thread.tid());
        }
        again(|| thread.put_back())?;
        made.map_err(EnvoyError::Setup)
    }

    /// What brings a thread home by itself.
    fn data(&self, index: usize, status: &Status) -> arch::Data {
        let thread = &self.threads[index];
        let (tid, mask, regs) = (thread.tid(), thread.sigmask(), thread.regs());
        // A filter might not allow the wait; a guardian sees to who is filtered.
        let waits = thread.group_stop().is_some() && !thread.is_filtered() && thread.dispatch().is_none();
        let patience = if waits { STOPPED_WAITS } else { 0 };
        arch::Data { patience, ..arch::data(regs, mask, interrupting(regs, mask, status), SIZE as u64, tid as u64) }
    }

    /// Steps 1 to 4.
    fn install(&mut self, index: usize, place: Place, status: &Status) -> Result<Post<'_>, EnvoyError> {
        let thread = &self.threads[index];
        let (tid, mask, regs) = (thread.tid(), thread.sigmask(), *thread.regs());
        let slot = Slot::First;
        let data = arch::Data { memfd_flags: memfd_flags(), ..self.data(index, status) };
        let written = ptrace::setsigmask(tid, mask).and_then(|()| place.write(&self.memory, &data));
        let switched = written.and_then(|()| ptrace::setregs(tid, &arch::enter(&regs, place.code, place.data(slot))));
        if let Err(fault) = switched {
            let _ = self.wipe(place);
            if place.tail == Tail::Page {
                let _ = self.at_gate(index, Sys::Munmap, &[place.code, PAGE]);
            }
            return Err(fault.into());
        }
        let mut post = Post { process: self, index, place, slot, halting: Cell::new(false) };
        match ptrace::setsigmask(tid, u64::MAX) {
            Ok(()) => Ok(post),
            Err(fault) => {
                let _ = post.go_home();
                Err(fault.into())
            }
        }
    }

    /// Nobody stands in the code, nor will return into it, unless an earlier freezer was killed.
    fn wipe(&self, place: Place) -> Result<(), Fault> {
        if place.tail == Tail::Free { place.wipe(&self.memory) } else { Ok(()) }
    }
}

/// For as long as we live, no filter meets the calls of the envoy. It is no end of that when the envoy leaves, but that the
/// thread is let go.
fn unfilter(tid: i32) -> Result<(), EnvoyError> {
    let set = ptrace::set_options(tid, ptrace::O_TRACESYSGOOD | ptrace::O_SUSPEND_SECCOMP);
    set.map_err(|fault| match fault.errno {
        // A kernel without CONFIG_CHECKPOINT_RESTORE.
        Errno::EPERM | Errno::EINVAL => EnvoyError::Seccomp,
        _ => fault.into(),
    })
}

/// Which pending signals make the call end with EINTR, as far as is known without asking for their SA_RESTART. Signals
/// that the call itself let in are not among them: the call, made again, lets them in again.
fn interrupting(regs: &UserRegs, mask: u64, status: &Status) -> u64 {
    match arch::interrupted(regs) {
        arch::Interrupted::UnlessHandler | arch::Interrupted::Continued => status.caught & !mask & !status.blocked,
        _ => 0,
    }
}

/// MFD_CLOEXEC, and MFD_NOEXEC_SEAL where the kernel (6.3) knows it: with vm.memfd_noexec=2 it is demanded.
fn memfd_flags() -> u32 {
    static FLAGS: OnceLock<u32> = OnceLock::new();
    *FLAGS.get_or_init(known_memfd_flags)
}

fn known_memfd_flags() -> u32 {
    const NOEXEC_SEAL: u32 = 8;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"cryopid".as_ptr(), libc::MFD_CLOEXEC | NOEXEC_SEAL) };
    if fd < 0 {
        return libc::MFD_CLOEXEC;
    }
    // SAFETY: the descriptor that was just made.
    unsafe { libc::close(fd) };
    libc::MFD_CLOEXEC | NOEXEC_SEAL
}

/// Where a thread stands (proc_pid_syscall(5)); `None` while it runs.
fn instruction_pointer(tid: i32) -> std::io::Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/syscall"))?;
    let last = text.trim().rsplit(' ').next().and_then(|word| word.strip_prefix("0x"));
    Ok(last.and_then(|hex| u64::from_str_radix(hex, 16).ok()))
}

impl Post<'_> {
    fn tid(&self) -> i32 {
        self.process.threads[self.index].tid()
    }

    fn died(&self) -> EnvoyError {
        EnvoyError::Died { pid: self.process.pid() }
    }

    fn lost(&self, lost: Lost) -> EnvoyError {
        self.lost_of(self.tid(), lost)
    }

    fn lost_of(&self, tid: i32, lost: Lost) -> EnvoyError {
        match lost {
            Lost::Died => self.died(),
            Lost::Stuck | Lost::Vforked(_) => EnvoyError::Silent,
            Lost::Fault(fault) if fault.errno == Errno::ESRCH && crate::status::is_dead(tid) => self.died(),
            Lost::Fault(fault) => fault.into(),
        }
    }

    fn take(&self, fd: i32) -> Result<OwnedFd, EnvoyError> {
        Ok(self.process.descriptor(fd)?)
    }

    /// Lets it run to the next entry or exit of a system call.
    fn go_on(&self) -> Result<(), EnvoyError> {
        let pass = ptrace::look(self.tid())?.map_or(0, Stop::signal_to_pass);
        Ok(ptrace::syscall(self.tid(), pass)?)
    }

    /// The same from such a stop: there is no signal to be passed on.
    fn leave_call(&self) -> Result<(), EnvoyError> {
        Ok(ptrace::syscall(self.tid(), 0)?)
    }

    /// Waits until it is there.
    fn arrive(&self) -> Result<UserRegs, EnvoyError> {
        loop {
            match ptrace::wait(self.tid(), PATIENCE)? {
                Some(Stop::Syscall) => return self.regs(),
                Some(Stop::Exited) => return Err(self.died()),
                Some(stop) => ptrace::syscall(self.tid(), stop.signal_to_pass())?,
                None => return Err(EnvoyError::Silent),
            }
        }
    }

    /// The registers of the thread, as long as it stands in the envoy.
    fn regs(&self) -> Result<UserRegs, EnvoyError> {
        let regs = ptrace::getregs(self.tid())?;
        regs.filter(|regs| self.place.contains(regs.rip)).ok_or(EnvoyError::Silent)
    }

    /// Stops the envoy wherever it is; the signal of the stop.
    fn stop(&self) -> Result<i32, Lost> {
        self.halt()?;
        self.halting.set(false);
        await_event(self.tid())
    }

    /// Tells the envoy to stop, and does not wait for it.
    fn halt(&self) -> Result<(), Lost> {
        if !self.halting.get() {
            ptrace::interrupt(self.tid())?;
            self.halting.set(true);
        }
        Ok(())
    }

    /// Lets an envoy that was told to stop go on.
    fn rouse(&self) -> Result<(), Lost> {
        if self.halting.get() {
            self.stop()?;
            ptrace::cont(self.tid(), 0)?;
        }
        Ok(())
    }

    /// Undoes what was made, and brings the thread home; if that fails, it goes by itself.
    fn leave(&mut self, socket: &OwnedFd) -> Result<(), EnvoyError> {
        match self.undo(socket) {
            Ok(()) => self.go_home(),
            Err(e) => Err(self.abandon(e)),
        }
    }

    /// Stops the envoy where it waits; its registers there, and the signal of the stop.
    fn hold(&self) -> Result<(UserRegs, i32), EnvoyError> {
        let event = self.stop().map_err(|lost| self.lost(lost))?;
        let regs = self.regs()?;
        if self.is_in_loop(&regs) { Ok((regs, event)) } else { Err(EnvoyError::Silent) }
    }

    fn is_in_loop(&self, regs: &UserRegs) -> bool {
        (arch::loop_at()..arch::leave_at()).contains(&regs.rip.wrapping_sub(self.place.code))
    }

    /// Stops the envoy, which finds EOF from here on; from its loop it goes straight to undoing. Anywhere else, just
    /// before the loop or already on its way home, it holds other things in its registers and comes there by itself.
    fn undo(&self, socket: &OwnedFd) -> Result<(), EnvoyError> {
        let stopped = self.stop();
        hang_up(socket);
        stopped.map_err(|lost| self.lost(lost))?;
        self.turn()
    }

    fn turn(&self) -> Result<(), EnvoyError> {
        let regs = self.regs()?;
        if self.is_in_loop(&regs) {
            ptrace::setregs(self.tid(), &arch::undo(&regs, self.place.code))?;
        }
        Ok(())
    }

    /// From any stop in the envoy: home, by the kernel's own restart; if that fails, by the envoy's.
    fn go_home(&mut self) -> Result<(), EnvoyError> {
        match self.restore() {
            Ok(event) => {
                self.process.threads[self.index].see_event(event);
                Ok(self.process.wipe(self.place)?)
            }
            Err(e) => Err(self.abandon(e)),
        }
    }

    /// The thread finds home by itself; the code stays, as after the death of a freezer.
    fn abandon(&mut self, why: EnvoyError) -> EnvoyError {
        self.give_up(self.index);
        why
    }

    fn give_up(&mut self, index: usize) {
        let thread = &self.process.threads[index];
        if thread.flags().seccomp != 0 || thread.dispatch().is_some() {
            self.see_home(thread);
        }
        self.process.give_up(index);
        // A page of its own goes, or is gone.
        if self.place.tail != Tail::Page {
            self.place.tail = Tail::Taken;
            self.process.place = Some(self.place);
        }
    }

    /// Lets a thread run that is filtered once it is let go, or whose calls come back to it then: until its first call outside of
    /// the envoy, at whose entry it stands then, or until it stops or computes there.
    #[cold]
    fn see_home(&self, thread: &Stopped) {
        const COMPUTES: Duration = Duration::from_millis(100);
        let tid = thread.tid();
        // It may be running, at the end of its socket already.
        let _ = ptrace::interrupt(tid).map_err(Lost::from).and_then(|()| await_event(tid));
        while ptrace::getregs(tid).is_ok_and(|regs| regs.is_some_and(|regs| self.place.contains(regs.rip))) {
            let pass = ptrace::look(tid).ok().flatten().map_or(0, Stop::signal_to_pass);
            let stop = ptrace::syscall(tid, pass).and_then(|()| ptrace::wait(tid, COMPUTES));
            if !stop.is_ok_and(|stop| stop.is_some_and(|stop| stop != Stop::Exited)) {
                break;
            }
        }
        if thread.dispatch().is_some() {
            call_once_more(tid);
        }
    }

    /// Gives the signal of the last stop: the process may have been stopped, or let go on, meanwhile.
    fn restore(&self) -> Result<i32, EnvoyError> {
        let tid = self.tid();
        let regs = self.run_to_pending()?;
        let last = match self.place.tail {
            Tail::Page => arch::unmap(&regs, self.place.code, PAGE),
            Tail::Free | Tail::Taken => arch::skip(&regs),
        };
        ptrace::setregs(tid, &last)?;
        // Where the page goes, there is no other way home from here on.
        again(|| ptrace::interrupt(tid))?;
        again(|| ptrace::cont(tid, 0))?;
        let event = await_event(tid).map_err(|lost| self.lost(lost))?;
        again(|| self.process.threads[self.index].put_back())?;
        Ok(event)
    }

    /// A thread that stands where it would leave, owning nothing: as it was, or home by itself.
    fn bring_back(&mut self, index: usize) {
        if self.process.threads[index].put_back().is_err() {
            self.give_up(index);
        }
    }

    /// The thread stands in its loop, as `inside` says; the one of that index takes its place. After an error neither is in the
    /// envoy.
    fn pass_on(mut self, inside: &UserRegs, index: usize, status: &Status) -> Result<Self, EnvoyError> {
        let (first, slot) = (self.index, self.slot.other());
        let ready = self.stand_in(inside, index, status).inspect_err(|_| {
            self.bring_back(index);
            let _ = ptrace::setregs(self.tid(), &arch::undo(inside, self.place.code));
            let _ = self.go_home();
        })?;
        // The first was stopped in a call, on the kernel's own signal path, and holds nothing any more.
        (self.index, self.slot) = (index, slot);
        self.bring_back(first);
        let next = self.tid();
        let taken = ptrace::setregs(next, &arch::take_over(&ready, self.place.code));
        taken.and_then(|()| ptrace::cont(next, 0)).inspect_err(|_| {
            let _ = ptrace::setregs(next, &ready);
            let _ = self.go_home();
        })?;
        Ok(self)
    }

    /// Both stand where they would leave, and the other one is the owner; its registers there.
    fn stand_in(&self, inside: &UserRegs, index: usize, status: &Status) -> Result<UserRegs, Fault> {
        let (place, slot) = (self.place, self.slot.other());
        let (memory, thread) = (&self.process.memory, &self.process.threads[index]);
        let ready = arch::stand_in(thread.regs(), inside, place.code, place.data(slot));
        ptrace::setsigmask(thread.tid(), thread.sigmask())?;
        place.write_data(memory, slot, &self.process.data(index, status))?;
        ptrace::setregs(thread.tid(), &ready)?;
        ptrace::setsigmask(thread.tid(), u64::MAX)?;
        ptrace::setregs(self.tid(), &arch::undo(inside, place.code))?;
        place.give(memory, slot)?;
        Ok(ready)
    }

    /// Descriptors and arena are gone, nothing is on the stack: the last point that all ways home have in common.
    fn run_to_pending(&self) -> Result<UserRegs, EnvoyError> {
        /// More stops than the longest way there has.
        const STOPS: usize = 100;
        self.go_on()?;
        for _ in 0..STOPS {
            let regs = self.arrive()?;
            match regs.orig_rax {
                nr::RT_SIGPENDING => return Ok(regs),
                nr::PPOLL => ptrace::setregs(self.tid(), &arch::skip(&regs))?,
                _ => {}
            }
            self.leave_call()?;
        }
        Err(EnvoyError::Silent)
    }
}

/// A thread outside of the envoy comes to a stop, and if that is at the entry of a call, the call is made anew when it is let go:
/// then it may come back to the program.
#[cold]
fn call_once_more(tid: i32) {
    if !matches!(ptrace::look(tid), Ok(Some(_))) {
        let _ = ptrace::interrupt(tid);
        let _ = ptrace::wait(tid, PATIENCE);
    }
    if let Ok(Some(regs)) = ptrace::getregs(tid)
        && let Some(before) = arch::before_call(&regs)
    {
        let _ = ptrace::setregs(tid, &before);
    }
}

/// The freezer makes the memfd as large as the arena, as its own limit of file sizes counts then, not the victim's.
fn set_size(memfd: &OwnedFd) -> Result<(), Fault> {
    let failed = |e: Errno| Fault::new(format!("ftruncate({SIZE})"), "the arena", e);
    fault::point().map_err(failed)?;
    // SAFETY: ftruncate reads no memory of ours.
    let r = unsafe { libc::ftruncate(memfd.as_raw_fd(), SIZE as i64) };
    sys::result(i64::from(r)).map(drop).map_err(failed)
}

/// EOF for the envoy: it undoes everything by itself.
fn hang_up(socket: &OwnedFd) {
    // SAFETY: shutdown reads no memory of ours.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

impl Begun {
    fn is_awaited(&self) -> bool {
        matches!(self.answers, Awaited::In(_))
    }
}

impl<'p> Envoy<'p> {
    /// Makes the calls, in their order, and gives their answers. An error of one does not keep the next from being
    /// made. They go in as few batches as the arena allows.
    pub fn calls(&mut self, calls: &[Call]) -> Result<Vec<Answer>, EnvoyError> {
        if let Some(call) = calls.iter().find(|call| FORBIDDEN.contains(&call.sys)) {
            return Err(EnvoyError::Forbidden(call.sys));
        }
        self.is_there()?;
        if let Some((begun, answers)) = self.end_begun()?
            && *begun == *calls
        {
            return Ok(answers);
        }
        self.post().rouse().map_err(|lost| self.post().lost(lost))?;
        let mut answers = Vec::with_capacity(calls.len());
        while answers.len() < calls.len() {
            let batch = self.arena.put(&calls[answers.len()..])?;
            self.send(batch.entries as u32)?;
            self.await_answer()?;
            answers.extend(self.arena.answers(&batch));
        }
        Ok(answers)
    }

    fn is_there(&self) -> Result<(), EnvoyError> {
        if self.is_lost { Err(EnvoyError::Silent) } else { Ok(()) }
    }

    /// Has it begin with calls, as far as they go into one batch: to make them while we do other things. Their answers are what
    /// [`Envoy::calls`] gives when it is asked for the same, before all else.
    pub fn begin(&mut self, calls: Arc<[Call]>) -> Result<(), EnvoyError> {
        if calls.iter().any(|call| FORBIDDEN.contains(&call.sys)) || self.begun.is_some() {
            return Ok(());
        }
        self.is_there()?;
        let last = self.arena.is_locked();
        let batch = self.arena.put(calls.iter().chain([&last]))?;
        if batch.entries == calls.len() + 1 {
            self.send(batch.entries as u32)?;
            self.begun = Some(Begun { calls, answers: Awaited::In(batch) });
        }
        Ok(())
    }

    /// Makes calls, and others after them, in one batch. Between them we act, while it waits for a word of ours or our end: so
    /// whatever becomes of us, the others are made. A call that fails is an error; what was done between does not count then.
    pub fn between<T>(&mut self, [before, after]: [&[Call]; 2], act: impl FnOnce() -> T) -> Result<T, EnvoyError> {
        self.end_begun()?;
        assert!(self.is_ours(), "what fails here brings it home, which the thread that traces does");
        self.post().rouse().map_err(|lost| self.post().lost(lost))?;
        let socket = Arg::Int(self.number);
        let flags = libc::MSG_NOSIGNAL as u64;
        let tells = Call::new(Sys::Sendto, [socket.clone(), Arg::Bytes(vec![0; 4]), 4.into(), flags.into()]);
        let flags = libc::MSG_PEEK as u64;
        let waits = Call::new(Sys::Recvfrom, [socket, Arg::Out(4), 4.into(), flags.into()]);
        let batch = self.arena.put(before.iter().chain(&[tells, waits]).chain(after))?;
        self.send(batch.entries as u32)?;
        let done = self.await_answer().map(|()| act());
        // The word is the next batch: of no calls.
        let answered = self.post_count(0).and_then(|()| self.await_answer()).and_then(|()| self.await_answer());
        match done.and_then(|done| answered.map(|()| done)) {
            Ok(done) => {
                let mut answers = self.arena.answers(&batch).into_iter();
                let failed = answers.find_map(|a| a.result.err());
                failed.map_or(Ok(done), |e| Err(Fault::new("a call", "the envoy", e).into()))
            }
            Err(e) => {
                hang_up(&self.socket);
                Err(self.post.take().map_or(EnvoyError::Silent, |mut post| post.abandon(e)))
            }
        }
    }

    /// Where its own area begins in the process: it is as new ones are.
    pub fn arena(&self) -> u64 {
        self.arena.begins()
    }

    /// Whether areas that are new in the process are locked in memory (mlockall(2), MCL_FUTURE): the arena is one.
    pub fn locks_new_areas(&mut self) -> Result<bool, EnvoyError> {
        if let Some(known) = self.locks {
            return Ok(known);
        }
        let answers = self.calls(&[self.arena.is_locked()])?;
        Ok(*self.locks.insert(is_locked(&answers[0])))
    }

    /// Waits until it is back in its loop: from anywhere else it finds home by itself only, and not by the kernel's restart.
    fn end_begun(&mut self) -> Result<Option<Made>, EnvoyError> {
        self.hear_begun()?;
        Ok(self.begun.take().map(|begun| match begun.answers {
            Awaited::Here(answers) => (begun.calls, answers),
            Awaited::In(_) => unreachable!("they were heard"),
        }))
    }

    /// The same; what was begun is still there to be asked for.
    fn hear_begun(&mut self) -> Result<(), EnvoyError> {
        let Some(Begun { calls, answers: Awaited::In(batch) }) = self.begun.take_if(|b| b.is_awaited()) else {
            return Ok(());
        };
        self.await_answer()?;
        let mut answers = self.arena.answers(&batch);
        self.locks = answers.pop().map(|last| is_locked(&last));
        self.begun = Some(Begun { calls, answers: Awaited::Here(answers) });
        Ok(())
    }

    /// Whether this is the thread of ours that traces.
    fn is_ours(&self) -> bool {
        self.tracer == std::thread::current().id()
    }

    /// The thread that is it.
    pub fn tid(&self) -> i32 {
        self.post().tid()
    }

    /// The process, to be asked what needs no call of its own.
    pub fn process(&self) -> &Process {
        self.post().process
    }

    /// Makes the thread of that index the envoy, in place of this one, which is brought back to where it was.
    ///
    /// Until the word behind the code changes, our death sends both home, and arena and socket go with the first; after it, with
    /// the second. So there is nothing that both undo, nor anything that neither does.
    pub fn move_to(mut self, index: usize) -> Result<Self, EnvoyError> {
        self.end_begun()?;
        let place = self.post().place;
        if !place.is_double {
            return self.leave_to(index);
        }
        let status = self.post().process.fit(index, Some(place))?;
        let (post, inside) = self.hold()?;
        self.post = Some(post.pass_on(&inside, index, &status)?);
        self.learn_interrupting(&status)?;
        Ok(self)
    }

    /// Takes the post, whose thread is stopped in its loop; its registers there.
    fn hold(&mut self) -> Result<(Post<'p>, UserRegs), EnvoyError> {
        let mut post = self.post.take().expect("only leaving takes the post");
        let (inside, event) = post.hold().map_err(|e| {
            hang_up(&self.socket);
            post.abandon(e)
        })?;
        post.process.threads[post.index].see_event(event);
        Ok((post, inside))
    }

    /// Nothing more is asked of this thread, as far as is known: it comes to a stop while we do other things.
    pub fn rest(&self) -> Result<(), EnvoyError> {
        self.post().halt().map_err(|lost| self.post().lost(lost))
    }

    /// Leaves the thread where it stands, to come to a stop: the process is to be ended, and that spares its way home. It takes
    /// it when the process is let go after all, or when we die.
    pub fn stay(mut self) -> Result<(), EnvoyError> {
        self.end_begun()?;
        self.rest()?;
        let post = self.post.take().expect("only leaving takes the post");
        let Post { index, place, slot, .. } = post;
        post.process.stayed = Some(Stayed { index, place, slot, halting: Some(Arc::clone(&self.socket)) });
        Ok(())
    }

    /// The same where there is room for one data block only.
    fn leave_to(mut self, index: usize) -> Result<Self, EnvoyError> {
        let mut post = self.post.take().expect("only leaving takes the post");
        post.leave(&self.socket)?;
        post.process.envoy(index)
    }

    /// Brings the thread back to where it was. The process is still held.
    pub fn leave(mut self) -> Result<(), EnvoyError> {
        self.go()
    }

    fn go(&mut self) -> Result<(), EnvoyError> {
        let _ = self.end_begun();
        self.post.take().map_or(Ok(()), |mut post| post.leave(&self.socket))
    }

    fn post(&self) -> &Post<'_> {
        self.post.as_ref().expect("only leaving takes the post")
    }

    fn send(&self, entries: u32) -> Result<(), EnvoyError> {
        fault::point().map_err(|e| Fault::new("send", "the envoy", e))?;
        self.post_count(entries)
    }

    fn post_count(&self, entries: u32) -> Result<(), EnvoyError> {
        let failed = |e: Errno| Fault::new("send", "the envoy", e);
        let bytes = entries.to_le_bytes();
        // SAFETY: the bytes are borrowed for the call.
        let r = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), 4, libc::MSG_NOSIGNAL) };
        match sys::result(r as i64) {
            Ok(_) => Ok(()),
            Err(_) if self.has_died(Duration::from_secs(1)) => Err(self.post().died()),
            Err(e) => Err(failed(e).into()),
        }
    }

    /// The pidfd tells of an end only when all threads are waited for, so the thread itself is looked at.
    fn has_died(&self, patience: Duration) -> bool {
        let tid = self.post().tid();
        matches!(ptrace::wait(tid, patience), Ok(Some(Stop::Exited))) || crate::status::is_dead(tid)
    }

    /// Waits for the answer, and meanwhile sees to stops and death: a SIGSTOP from outside takes effect at the release.
    fn await_answer(&mut self) -> Result<(), EnvoyError> {
        const LOOK: Duration = Duration::from_millis(5);
        loop {
            match self.received(LOOK) {
                Some(true) => return Ok(()),
                Some(false) => return Err(self.gone()),
                None => self.see_stops()?,
            }
        }
    }

    fn gone(&self) -> EnvoyError {
        if self.has_died(PATIENCE) { self.post().died() } else { EnvoyError::Silent }
    }

    /// Whether an answer came, or the end; `None`: neither in time.
    fn received(&self, patience: Duration) -> Option<bool> {
        let eager = Instant::now() + EAGER;
        while Instant::now() < eager {
            if let Some(received) = self.receive() {
                return Some(received);
            }
            std::thread::yield_now();
        }
        if has_ended(self.socket.as_fd(), patience) { self.receive() } else { None }
    }

    fn receive(&self) -> Option<bool> {
        let (socket, mut bytes) = (self.socket.as_raw_fd(), [0u8; 4]);
        // SAFETY: room for four bytes, borrowed mutably for the call.
        let r = unsafe { libc::recv(socket, bytes.as_mut_ptr().cast(), 4, libc::MSG_DONTWAIT) };
        (sys::result(r as i64) != Err(Errno::EAGAIN)).then_some(r == 4)
    }

    fn see_stops(&mut self) -> Result<(), EnvoyError> {
        let tid = self.tid();
        match ptrace::look(tid)? {
            None if crate::status::is_dead(tid) => Err(self.post().died()),
            Some(Stop::Exited) => Err(self.post().died()),
            Some(stop) if self.is_ours() => Ok(ptrace::cont(tid, stop.signal_to_pass())?),
            None | Some(_) => Ok(()),
        }
    }

    /// A call that ERESTARTSYS interrupted ends with EINTR only for handlers without SA_RESTART: ask for them.
    fn learn_interrupting(&mut self, status: &Status) -> Result<(), EnvoyError> {
        let thread = &self.post().process.threads[self.post().index];
        let caught = caught(thread, status);
        if arch::interrupted(thread.regs()) != arch::Interrupted::UnlessHandlerWithoutRestart || caught == 0 {
            return Ok(());
        }
        let ends = self.ends_calls(caught)?;
        let (post, at) = (self.post(), arch::Data::INTERRUPTING_AT);
        Ok(post.process.memory.write(post.place.data(post.slot) + at, &ends.to_le_bytes())?)
    }

    /// Those of the signals that have handlers without SA_RESTART.
    fn ends_calls(&mut self, signals: u64) -> Result<u64, EnvoyError> {
        let signals: Vec<u64> = (1..=64).filter(|s| signals & 1 << (s - 1) != 0).collect();
        if signals.is_empty() {
            return Ok(0);
        }
        let ask = |s: &u64| Call::new(Sys::RtSigaction, [Arg::Int(*s), Arg::Int(0), Arg::Out(32), Arg::Int(8)]);
        let answers = self.calls(&signals.iter().map(ask).collect::<Vec<_>>())?;
        Ok(signals.iter().zip(&answers).filter(|(_, a)| !restarts(a)).map(|(s, _)| 1 << (s - 1)).sum())
    }
}

/// The signals for which a handler of the thread would run.
fn caught(thread: &Stopped, status: &Status) -> u64 {
    status.caught & !thread.sigmask() & !status.blocked
}

/// What msync(2) says of memory that is locked.
fn is_locked(answer: &Answer) -> bool {
    answer.result == Err(Errno::EBUSY)
}

/// Whether a sigaction of the kernel (handler, flags, restorer, mask) has SA_RESTART.
fn restarts(answer: &Answer) -> bool {
    let flags = answer.out[0][8..16].try_into().map_or(0, u64::from_le_bytes);
    flags & libc::SA_RESTART as u64 != 0
}

impl Drop for Envoy<'_> {
    fn drop(&mut self) {
        let _ = self.go();
    }
}
