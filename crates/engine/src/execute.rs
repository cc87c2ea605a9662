//! The executor: carries a plan out, step by step, and knows no resource. Until the commit every step can be undone,
//! by being forgotten: what was made is dropped in the reverse order.

use crate::bound::{self, Bound};
use crate::fifo;
use crate::guard::may_go_on;
use crate::host::{own_areas, vdso_code};
use crate::objects::{Made, Objects};
use crate::pseudo;
use crate::removed;
use crate::replace::Replaced;
use crate::rooms::{Room, birth_of, rooms, sizes};
use crate::sockets;
use crate::supervise::Held;
use crate::thaw::{Loaded, Thawed};
use crate::{Error, Progress};
use abi::consts::fd::AT_FDCWD;
use abi::consts::mmap::{
    MAP_ABOVE4G, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MREMAP_MAYMOVE_FIXED, PAGE,
};
use abi::consts::open::O_WRONLY;
use abi::consts::poll::POLLOUT;
use abi::consts::rlimit::RLIMIT_CORE;
use abi::consts::rseq::RSEQ_FLAG_UNREGISTER;
use abi::consts::sigaction::SIG_SETMASK;
use abi::consts::socket::AF_INET6;
use abi::consts::socket::SIOCINQ as FIONREAD;
use abi::layout::Itimerspec;
use abi::signal::{KernelSigaction, settable};
use abi::x86_64::{DispatchConfiguration, TASK_END, UserRegs};
use abi::{Arg, Call, Errno, Fault, Sys, proc};
use image::{Extent, PageBuffer};
use plan::{
    Actor, Ago, Birth, Descr, End, Expect, Fact, HostEffect, Lasting, Message, Moment, Namespaces, Object, OfEnded, Op,
    Plan, Restart, Step, Tid, Typing, Until, Value, Whom,
};
use resources::mm::vdso;
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tracee::fault::point;
use tracee::here::Passing;
use tracee::message::send;
use tracee::stub::{Begun, Clocks, Ground, HeldCalls, Kind, Nest, Newborn, Part, Stubs};
use tracee::{here, ipc, job};

/// The largest read of pages at once, that of a thread beside another one, and the most pieces of one (limits.h, IOV_MAX).
const READ_MAX: u64 = 64 << 20;
const READ_BESIDE: u64 = 2 << 20;
const PIECES_MAX: usize = 1000;
/// What does not succeed where others keep a port, and what can be done.
const CONNECT: &str =
    "a connection within the tree (where others keep its port: end who has it, or try again in a minute)";
/// Bytes of pages that are read in one batch with what else their thread does; of more the progress is told.
const AT_ONCE: u64 = 4 << 20;
/// How often it is asked whether somebody wants it to be given up.
const OFTEN: Duration = Duration::from_millis(1);
/// Calls that wait to be made together.
const BATCH: usize = 4096;

/// A call that is put off until its batch is full, or that is being made.
struct Waiting<'a> {
    /// Which step of the plan it is.
    n: usize,
    step: &'a Step,
    expect: Expect,
}

/// Threads and processes that a thread is to make, and the first of the steps.
struct Births<'a> {
    by: u32,
    n: usize,
    step: &'a Step,
    newborns: Vec<Newborn>,
}

/// What threads are doing. One thread after the other is told what to do, and none is waited for before there is a need: together
/// they use all processors.
#[derive(Default)]
struct AtWork<'a> {
    all: VecDeque<(Begun, Vec<Waiting<'a>>)>,
    /// What will be so when all of them are done.
    facts: HashSet<&'a Fact>,
    tids: HashSet<Tid>,
    /// Steps of different moments do not overlap: as they are told apart, somebody may count on it.
    moment: Option<Moment>,
}

/// What a thread goes on with, set when all is done.
struct State<'a> {
    tid: Tid,
    regs: &'a UserRegs,
    xstate: &'a [u8],
    mask: u64,
    restart: &'a Restart,
}

struct Execution<'a> {
    plan: &'a Plan,
    loaded: &'a Loaded,
    progress: &'a mut dyn Progress,
    // In the order in which they are to be dropped: processes, then the host, then our own copies.
    stubs: Option<Stubs>,
    terminal: Option<Held>,
    typing: Option<&'a Typing>,
    /// What could not be had, and is told.
    lost: Vec<&'static str>,
    replaced: Option<Replaced>,
    bound: Option<Bound>,
    objects: Option<Objects>,
    /// Processes that are no more when the tree runs.
    passing: Vec<Passing>,
    store: Option<Store>,
    /// Where the kernel's areas can be put down on the way.
    hop: u64,
    ground: u64,
    /// The offset of a `syscall` instruction in the vdso.
    gate: u64,
    /// Calls of one thread that are to be made together.
    batch: Vec<(Waiting<'a>, Call)>,
    actor: Option<Tid>,
    at_work: AtWork<'a>,
    births: Option<Births<'a>>,
    /// Bytes of pages that are in place.
    read: u64,
    states: Vec<State<'a>>,
    /// Signals that processes are sent at the end: by the thread that is to send them.
    signals: Vec<(Tid, i32)>,
    /// Threads whose system calls come back to them.
    dispatches: Vec<(Tid, &'a DispatchConfiguration)>,
    /// Every thread of the tree in the order of their births.
    rooms: Vec<Room>,
    /// The clocks of the tree, from the first birth on.
    clocks: Option<Clocks>,
}

/// The descriptors that the thawing process makes for the tree: closed when it is born, or when it is not to be.
struct Store {
    from: u32,
}

impl Drop for Store {
    fn drop(&mut self) {
        here::close_range(self.from, u32::MAX);
    }
}

/// Every signal waits as long as this lives; what was blocked before is blocked again afterwards.
#[derive(Debug)]
pub(crate) struct Quiet(job::Mask);

impl Quiet {
    pub(crate) fn new() -> Quiet {
        Quiet(job::block_all())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        job::unblock(self.0);
    }
}

/// As many descriptors as we may have; gives how many.
pub(crate) fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Carries the plan out. After an error nothing of it is left.
pub(crate) fn execute(plan: &Plan, loaded: &Loaded, progress: &mut dyn Progress) -> Result<Thawed, Error> {
    let _errors_only = job::ErrorsOnly::begin();
    let quiet = Quiet::new();
    raise_file_limit();
    let rooms = rooms(&plan.steps);
    let (ground, hop) = hole(loaded, plan.staging, Ground::size(&sizes(&rooms)))?;
    let mut execution = Execution {
        plan,
        loaded,
        progress,
        stubs: None,
        terminal: None,
        typing: None,
        lost: Vec::new(),
        replaced: None,
        bound: None,
        objects: None,
        passing: Vec::new(),
        store: Some(Store { from: plan.reserve }),
        hop,
        ground,
        gate: gate()?,
        batch: Vec::new(),
        actor: None,
        at_work: AtWork::default(),
        births: None,
        read: 0,
        states: Vec::new(),
        signals: Vec::new(),
        dispatches: Vec::new(),
        rooms,
        clocks: None,
    };
    let image = loaded.image.source().as_raw_fd();
    here::duplicate(image, execution.image_number()).map_err(|e| Fault::new("dup3", "the image", e))?;
    let mut asked = None::<Instant>;
    for (n, step) in plan.steps.iter().enumerate() {
        // To ask takes as long as many a step does.
        if asked.is_none_or(|at| at.elapsed() > OFTEN) {
            may_go_on("the thaw")?;
            asked = Some(Instant::now());
        }
        execution.step(n, step)?;
    }
    let thawed = execution.commit()?;
    // What comes from now on is for the program, and is passed on by whoever stands for it.
    std::mem::forget(quiet);
    Ok(thawed)
}

fn kind(birth: &Birth) -> Kind {
    match *birth {
        Birth::Process { flags, exit_signal } => Kind::Process { flags, exit_signal },
        _ => Kind::Thread,
    }
}

/// Which step it was, for whoever looks into it; a fault keeps its error.
fn at_step(e: Error, n: usize, step: &Step) -> Error {
    match e {
        Error::Fault(f) => Error::Fault(Fault { whom: format!("step {} ({}, {})", n + 1, step.by, f.whom), ..f }),
        other => other,
    }
}

/// Where in the vdso a `syscall` instruction stands.
fn gate() -> Result<u64, Error> {
    let code = vdso_code(&own_areas()?)?;
    let at = code.and_then(|(_, code)| code.windows(2).position(|w| w == [0x0f, 0x05]));
    at.map(|at| at as u64).ok_or_else(no_vdso)
}

fn no_vdso() -> Error {
    Error::refuse("vdso", "the kernel lends this program no code", "boot without vdso=0")
}

/// Room where neither the tree nor we have anything: for the ground, and behind it for the kernel's areas on the way.
fn hole(loaded: &Loaded, staging: (u64, u64), ground: u64) -> Result<(u64, u64), Error> {
    const LOW: u64 = 0x1000_0000;
    const HIGH: u64 = 0x7f00_0000_0000;
    // Stacks and heaps grow into what is beside them.
    const APART: u64 = 1 << 30;
    let ours = own_areas()?.into_iter().map(|a| (a.start, a.end));
    let mut taken: Vec<(u64, u64)> = ours.chain(loaded.model.ranges()).chain([staging]).collect();
    abi::sort(&mut taken);
    let need = ground + (1 << 20);
    let mut free = LOW;
    for (start, end) in taken.into_iter().chain([(HIGH, HIGH)]) {
        if start.saturating_sub(free) > need + 2 * APART {
            let at = (free + APART).next_multiple_of(PAGE);
            return Ok((at, at + ground.next_multiple_of(PAGE)));
        }
        free = free.max(end);
    }
    Err(Error::refuse("memory", "the program's areas leave no room to work in", ""))
}

impl<'a> AtWork<'a> {
    fn add(&mut self, tid: Tid, begun: Begun, waiting: Vec<Waiting<'a>>) {
        self.tids.insert(tid);
        self.moment = waiting.first().map(|w| w.step.moment);
        self.facts.extend(waiting.iter().flat_map(|w| &w.step.makes));
        self.all.push_back((begun, waiting));
    }

    /// Whether the step needs what is not done yet.
    fn must_end_before(&self, step: &Step) -> bool {
        self.moment.is_some_and(|moment| moment != step.moment)
            || step.needs.iter().any(|fact| self.facts.contains(fact))
    }
}

impl<'a> Execution<'a> {
    fn image_number(&self) -> i32 {
        self.plan.base as i32 - 1
    }

    fn number(&self, d: Descr) -> u64 {
        u64::from(self.plan.base + d.0)
    }

    fn arg(&self, value: &Value) -> Arg {
        match value {
            Value::Int(n) => Arg::Int(*n),
            Value::Descr(d) => Arg::Int(self.number(*d)),
            Value::Bytes(b) => Arg::Bytes(b.clone()),
            Value::Out(n) => Arg::Out(*n),
            Value::Nested { bytes, at, inner } => Arg::nested(bytes.clone(), *at, inner.clone()),
            Value::Until(until) => Arg::Bytes(self.rest(until)),
            Value::Ago(ago) => Arg::Bytes(self.past(ago)),
        }
    }

    /// What is left until then, as the timer calls take it.
    fn rest(&self, until: &Until) -> Vec<u8> {
        let now = self.clocks.expect("the clocks of a moment go on").now(until.clock);
        let Until { moment, period, least, .. } = *until;
        // One whose moment has come already keeps the step of its period.
        let missed = now.saturating_sub(moment).checked_div(period).map_or(0, |n| n + u64::from(now > moment));
        let next = moment.saturating_add(missed.saturating_mul(period));
        Itimerspec::from_nanos(period, next.saturating_sub(now).max(least)).to_bytes().to_vec()
    }

    /// That moment as the clock of the tree counts.
    fn past(&self, ago: &Ago) -> Vec<u8> {
        let now = self.clocks.unwrap_or_default().now(ago.clock);
        // A clock that has not run for so long keeps the step at least.
        let past = if ago.past < now { ago.past } else { ago.past.checked_rem(ago.period).unwrap_or(ago.past) };
        // 0 would be no moment, but the end of the timer.
        let moment = now.saturating_sub(past).max(1);
        Itimerspec::from_nanos(ago.period, moment).to_bytes().to_vec()
    }

    fn args(&self, values: &[Value]) -> Vec<Arg> {
        values.iter().map(|v| self.arg(v)).collect()
    }

    fn stubs(&mut self) -> &mut Stubs {
        self.stubs.as_mut().expect("a thread acts only when it is born")
    }

    /// What is made that outlives processes.
    fn objects(&mut self) -> Result<&mut Objects, Fault> {
        if self.objects.is_none() {
            self.objects = Some(Objects::new()?);
        }
        Ok(self.objects.as_mut().expect("they were made just now"))
    }

    /// Does the step, or puts it off.
    fn step(&mut self, n: usize, step: &'a Step) -> Result<(), Error> {
        let point = point().map_err(|e| Fault::new(step.op.to_string(), step.actor, e).into());
        point.map_err(|e| at_step(e, n, step))?;
        match (&step.op, step.actor) {
            (Op::Call { sys, args, expect }, Actor::Thread(tid)) => {
                self.make_room(tid, step)?;
                // Only now: what is left until a moment must not become old while others are waited for.
                let call = Call::new(*sys, self.args(args));
                self.put_off(tid, Waiting { n, step, expect: *expect }, call);
                Ok(())
            }
            (Op::Pages { extents }, Actor::Thread(tid)) if extents.iter().map(|e| e.len).sum::<u64>() <= AT_ONCE => {
                for group in groups(extents, READ_MAX) {
                    self.make_room(tid, step)?;
                    let (call, expect) = self.read_into_place(&group);
                    self.put_off(tid, Waiting { n, step, expect }, call);
                }
                Ok(())
            }
            (Op::Regs { regs, xstate, mask, restart }, Actor::Thread(tid)) => {
                self.states.push(State { tid, regs, xstate, mask: *mask, restart });
                Ok(())
            }
            (Op::Signal { signal }, Actor::Thread(tid)) => {
                self.signals.push((tid, *signal));
                Ok(())
            }
            (Op::Dispatch { config }, Actor::Thread(tid)) => {
                self.dispatches.push((tid, config));
                Ok(())
            }
            (Op::Clone { tid, birth }, _) if *birth != Birth::Root => {
                let by = birth_of(step).map_or(0, |(_, by)| by);
                self.bear(by, n, step, Newborn { tid: tid.0, kind: kind(birth) })
            }
            _ => {
                self.flush()?;
                self.act(step).map_err(|e| at_step(e, n, step))
            }
        }
    }

    fn act(&mut self, step: &'a Step) -> Result<(), Error> {
        match (&step.op, step.actor) {
            (Op::Call { sys, args, expect }, _) => {
                let answer = here::call(&Call::new(*sys, self.args(args)));
                Ok(self.expected(step, *expect, answer.result)?)
            }
            (Op::Calls(calls), Actor::Thread(tid)) => self.succeed(tid, calls.clone()).map(drop),
            (Op::Again { calls, times }, Actor::Thread(tid)) => self.again(tid, calls, *times),
            (Op::Again { calls, times }, _) => {
                for _ in 0..*times {
                    for call in calls {
                        self.expected(step, Expect::Success, here::call(call).result)?;
                    }
                }
                Ok(())
            }
            (Op::Drain { descr, but }, _) => self.drain(*descr, *but),
            (Op::Map { descr, offset, at, len, protection }, Actor::Thread(tid)) => {
                self.map(tid, [self.number(*descr), *offset, *at, *len, *protection])
            }
            (Op::Make { sys, args, descrs }, Actor::Thread(tid)) => self.make_there(tid, *sys, args, descrs),
            (Op::Make { sys, args, descrs }, _) => self.make_here(step, *sys, args, descrs),
            (Op::Clone { tid, birth: Birth::Root }, _) => self.birth(*tid),
            (Op::End(end), Actor::Thread(tid)) => self.end(tid, *end),
            (Op::Stop { signal }, Actor::Thread(tid)) => {
                let stubs = self.stubs();
                Ok(stubs.stop(stubs.process_of(tid.0).expect("it is born"), *signal)?)
            }
            (Op::Unfilter, Actor::Thread(tid)) => Ok(self.stubs().unfilter(tid.0)?),
            (Op::Empty, Actor::Thread(tid)) => self.empty(tid),
            (Op::MoveKernelAreas { areas }, Actor::Thread(tid)) => self.move_kernel_areas(tid, areas),
            (Op::Pages { extents }, Actor::Thread(tid)) => self.pages(tid, extents),
            (Op::Contents { descr, size, mtime, page, extents }, _) => {
                let fd = self.number(*descr) as i32;
                Ok(self.contents(fd, (*size, *page), *mtime, extents)?)
            }
            (Op::Feed { descr, packets }, _) => self.feed(*descr, packets),
            (Op::Send { descr, to, messages }, _) => {
                messages.iter().try_for_each(|message| self.send_message(*descr, to.as_ref(), message))
            }
            (Op::Object { object, args, lasting }, Actor::Thread(tid)) => self.object(tid, *object, args, *lasting),
            (Op::Segment { id, extents }, Actor::Thread(tid)) => self.segment(tid, *id, extents),
            (Op::Connect { descr, name, path, of, expect }, _) => {
                let file = of.and_then(|of| self.bound.as_ref()?.link_of(self.number(of)));
                let connected = match file {
                    Some(file) => bound::connect(self.number(*descr), file.as_os_str().as_bytes(), &file),
                    None => bound::connect(self.number(*descr), name, Path::new(OsStr::from_bytes(path))),
                };
                Ok(self.expected(step, *expect, connected.map(|()| 0).map_err(Errno::from))?)
            }
            (Op::Datagrams { to, all, lost }, _) => {
                for one in all {
                    let by = one.by.map(|by| self.number(by));
                    self.expected(step, Expect::OrTold(lost), sockets::send_to(self.number(*to), by, one))?;
                }
                Ok(())
            }
            (Op::Join { from, at }, _) => {
                let made = sockets::join(from, at.as_ref()).map_err(|e| Fault::new(CONNECT, from.descr, e))?;
                let ends = [Some(from), at.as_ref()].into_iter().flatten();
                ends.zip(made).try_for_each(|(end, socket)| self.put(socket, end.descr))
            }
            (Op::Reset { descr, family, waiting }, _) => {
                let made = sockets::reset(*family == AF_INET6, waiting).map_err(|e| Fault::new("connect", descr, e))?;
                self.put(made, *descr)
            }
            (Op::Host(effect), _) => self.host(effect),
            (Op::Commit, _) => Ok(()),
            (op, actor) => unreachable!("{actor} cannot do this: {op}"),
        }
    }

    /// What must be done before the thread's next call is.
    fn make_room(&mut self, tid: Tid, step: &Step) -> Result<(), Error> {
        if self.actor != Some(tid) || self.batch.len() == BATCH {
            self.send()?;
        }
        if self.births.is_some() || self.at_work.must_end_before(step) {
            self.flush()?;
        }
        Ok(())
    }

    /// Calls of one thread wait for each other, and are made in one batch.
    fn put_off(&mut self, tid: Tid, waiting: Waiting<'a>, call: Call) {
        self.actor = Some(tid);
        self.batch.push((waiting, call));
    }

    /// The thread whose calls were put off begins to make them.
    fn send(&mut self) -> Result<(), Error> {
        let Some(tid) = self.actor.take() else { return Ok(()) };
        let (waiting, calls): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        if self.at_work.tids.contains(&tid) {
            self.await_all()?;
        }
        let begun = self.stubs().begin(tid.0, &calls)?;
        self.at_work.add(tid, begun, waiting);
        Ok(())
    }

    /// Whatever was put off is done.
    fn flush(&mut self) -> Result<(), Error> {
        self.send()?;
        self.await_all()?;
        let Some(Births { by, n, step, newborns }) = self.births.take() else { return Ok(()) };
        self.stubs().make(by, &newborns).map_err(|fault| at_step(fault.into(), n, step))
    }

    /// Those who are born one after the other of the same thread are made together.
    fn bear(&mut self, by: u32, n: usize, step: &'a Step, newborn: Newborn) -> Result<(), Error> {
        const TOGETHER: usize = 64;
        let is_next = |births: &Births<'_>| births.by == by && births.newborns.len() < TOGETHER;
        if !self.births.as_ref().is_some_and(is_next) {
            self.flush()?;
        }
        let births = self.births.get_or_insert(Births { by, n, step, newborns: Vec::new() });
        births.newborns.push(newborn);
        Ok(())
    }

    fn await_all(&mut self) -> Result<(), Error> {
        while let Some((begun, waiting)) = self.at_work.all.pop_front() {
            let answers = self.stubs().finish(begun)?;
            for (Waiting { n, step, expect }, answer) in waiting.into_iter().zip(answers) {
                self.expected(step, expect, answer.result).map_err(|fault| at_step(fault.into(), n, step))?;
                if let (Op::Pages { .. }, Expect::Exactly(bytes)) = (&step.op, expect) {
                    self.read += bytes;
                }
            }
        }
        self.progress.done(self.read);
        self.at_work = AtWork::default();
        Ok(())
    }

    /// Whether a call gave what its step expects.
    fn expected(&mut self, step: &Step, expect: Expect, result: Result<u64, Errno>) -> Result<(), Fault> {
        let fault = |e| Err(Fault::new(step.op.to_string(), step.actor, e));
        match (expect, result) {
            (Expect::Whatever, _) | (Expect::Success | Expect::OrTold(_), Ok(_)) => Ok(()),
            (Expect::Exactly(n) | Expect::ExactlyOrTold(n, _), Ok(got)) if n == got => Ok(()),
            (Expect::OrTold(lost), Err(_)) | (Expect::ExactlyOrTold(_, lost), _) => {
                self.lose(lost);
                Ok(())
            }
            (_, Err(e)) => fault(e),
            (_, Ok(_)) => fault(Errno::EIO),
        }
    }

    /// A new descriptor takes the lowest free number; it is moved to the number of its description at once.
    fn make_here(&self, step: &Step, sys: Sys, args: &[Value], descrs: &[Descr]) -> Result<(), Error> {
        let call = Call::new(sys, self.args(args));
        let answer = if sys == Sys::Accept4 { sockets::accept(&call) } else { here::call(&call) };
        let first = answer.result.map_err(|e| Fault::new(step.op.to_string(), "this process", e))? as i32;
        let made = match answer.out.first() {
            Some(pair) => pair.chunks(4).map(|n| i32::from_ne_bytes(n.try_into().expect("four bytes"))).collect(),
            None => vec![first],
        };
        let mut all = Ok(());
        for (fd, descr) in made.into_iter().zip(descrs) {
            let moved = here::duplicate(fd, self.number(*descr) as i32).map_err(|e| Fault::new("dup3", descr, e));
            here::close_range(fd as u32, fd as u32);
            all = all.and(moved);
        }
        Ok(all?)
    }

    fn make_there(&mut self, tid: Tid, sys: Sys, args: &[Value], descrs: &[Descr]) -> Result<(), Error> {
        let call = Call::new(sys, self.args(args));
        let number = self.number(descrs[0]);
        let fd = self.succeed(tid, vec![call])?[0];
        let moved = Call::new(Sys::Dup3, [Arg::Int(fd), Arg::Int(number), Arg::Int(0o2000000)]);
        self.succeed(tid, vec![moved, Call::new(Sys::Close, [Arg::Int(fd)])]).map(drop)
    }

    /// Calls all of which must succeed.
    fn succeed(&mut self, tid: Tid, calls: Vec<Call>) -> Result<Vec<u64>, Error> {
        let answers = self.stubs().calls(tid.0, &calls)?;
        let values = calls.iter().zip(answers).map(|(c, a)| a.result.map_err(|e| Fault::new(format!("{c:?}"), tid, e)));
        Ok(values.collect::<Result<Vec<u64>, Fault>>()?)
    }

    fn birth(&mut self, tid: Tid) -> Result<(), Error> {
        let nest = match self.plan.namespaces {
            Namespaces::Same => Nest::Same,
            Namespaces::Pid => Nest::Pid,
            Namespaces::UserPid { uid, gid } => Nest::UserPid { uid, gid },
        };
        let ground = Ground::map(self.ground, &sizes(&self.rooms))?;
        let reserve = self.plan.reserve as i32;
        self.clocks = self.plan.clocks.map(|c| Clocks::starting(c.monotonic, c.boottime));
        let born: Vec<(u32, u32)> = self.rooms.iter().map(|room| (room.tid, room.by)).collect();
        let stubs = Stubs::first(&born, nest, self.clocks, ground, reserve)?;
        let rseq = stubs.inherited_rseq();
        self.stubs = Some(stubs);
        let mut calls = Vec::new();
        if let Some(r) = rseq {
            let args = [r.pointer, r.size.into(), RSEQ_FLAG_UNREGISTER, r.signature.into()].map(Arg::Int);
            calls.push(Call::new(Sys::Rseq, args));
        }
        // What we do with signals is nothing for it, nor for those that are born of it.
        let none = KernelSigaction::default().to_bytes();
        let reset = |signal: i32| [Arg::Int(signal as u64), Arg::Bytes(none.to_vec()), Arg::Int(0), Arg::Int(8)];
        calls.extend(settable().map(|signal| Call::new(Sys::RtSigaction, reset(signal))));
        self.succeed(tid, calls).map(drop)
    }

    fn areas_of(&mut self, tid: Tid) -> Result<Vec<proc::Area>, Error> {
        let path = format!("/proc/{}/maps", self.pid_of(tid));
        let text = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        Ok(proc::maps(&text).map_err(resources::Trouble::from)?)
    }

    fn empty(&mut self, tid: Tid) -> Result<(), Error> {
        let ground = self.stubs().ground();
        let goes =
            |a: &proc::Area| !vdso::is_kernel_area(&a.name) && a.name != b"[vsyscall]" && !ground.contains(&a.start);
        let unmap = |a: proc::Area| Call::new(Sys::Munmap, [Arg::Int(a.start), Arg::Int(a.end - a.start)]);
        let calls: Vec<Call> = self.areas_of(tid)?.into_iter().filter(goes).map(unmap).collect();
        self.succeed(tid, calls).map(drop)
    }

    /// The id here of the process of a thread.
    fn pid_of(&mut self, tid: Tid) -> i32 {
        let stubs = self.stubs();
        stubs.pid(stubs.process_of(tid.0).expect("a thread acts only when it is born"))
    }

    /// Ends a stub as its process had ended. No signal may reach it before: all are blocked in it.
    fn end(&mut self, tid: Tid, end: End) -> Result<(), Error> {
        let (status, part) = match end {
            End::Process(status) => (status, Part::Process),
            End::Thread(status) => (status, Part::Thread),
        };
        let exit = if part == Part::Process { Sys::ExitGroup } else { Sys::Exit };
        let exited = Call::new(exit, [Arg::Int((status >> 8 & 0xff) as u64)]);
        let calls = match status & 0x7f {
            0 => vec![exited],
            _ if part == Part::Thread => vec![exited],
            signal => vec![
                // The dump was written when it ended.
                Call::new(Sys::Prlimit64, [Arg::Int(0), Arg::Int(RLIMIT_CORE), Arg::Bytes(vec![0; 16]), Arg::Int(0)]),
                Call::new(Sys::Kill, [Arg::Int(tid.0.into()), Arg::Int(signal as u64)]),
                Call::new(
                    Sys::RtSigprocmask,
                    [Arg::Int(SIG_SETMASK), Arg::Bytes(vec![0; 8]), Arg::Int(0), Arg::Int(8)],
                ),
                exited,
            ],
        };
        Ok(self.stubs().end(tid.0, &calls, part)?)
    }

    /// By way of a place where nothing is: an area cannot be moved onto itself, nor where another of them still is.
    fn move_kernel_areas(&mut self, tid: Tid, areas: &[(String, u64)]) -> Result<(), Error> {
        let here: Vec<proc::Area> = self.areas_of(tid)?.into_iter().filter(|a| vdso::is_kernel_area(&a.name)).collect();
        let remap = |from: u64, len: u64, to: u64| {
            Call::new(Sys::Mremap, [from, len, len, MREMAP_MAYMOVE_FIXED, to].map(Arg::Int))
        };
        if let Some((name, _)) = areas.iter().find(|(name, _)| here.iter().all(|a| a.name != name.as_bytes())) {
            return Err(Fault::new(format!("mremap of {name}"), tid, Errno::ENOENT).into());
        }
        let (mut away, mut back) = (Vec::new(), Vec::new());
        let mut hop = self.hop;
        for a in &here {
            let len = a.end - a.start;
            match areas.iter().find(|(name, _)| name.as_bytes() == a.name) {
                None => away.push(Call::new(Sys::Munmap, [Arg::Int(a.start), Arg::Int(len)])),
                Some((_, to)) => {
                    away.push(remap(a.start, len, hop));
                    back.push(remap(hop, len, *to));
                    hop += len;
                }
            }
        }
        away.extend(back);
        self.succeed(tid, away).map(drop)
    }

    /// As many at once as one look at whether the user gave up is for.
    fn again(&mut self, tid: Tid, calls: &[Call], times: u32) -> Result<(), Error> {
        const TOGETHER: u32 = 256;
        for first in (0..times).step_by(TOGETHER as usize) {
            may_go_on("the thaw")?;
            self.succeed(tid, (first..times.min(first + TOGETHER)).flat_map(|_| calls.to_vec()).collect())?;
        }
        Ok(())
    }

    fn drain(&self, descr: Descr, but: u64) -> Result<(), Error> {
        let fd = Arg::Int(self.number(descr));
        let answer = |call| {
            let answer = here::call(&call);
            answer.result.map(|_| answer.out).map_err(|e| Fault::new(call.sys.name(), descr, e))
        };
        let out = answer(Call::new(Sys::Ioctl, [fd.clone(), Arg::Int(FIONREAD), Arg::Out(4)]))?;
        let waiting = out.first().and_then(|n| n[..].try_into().ok()).map_or(0, u32::from_ne_bytes);
        let surplus = u64::from(waiting).saturating_sub(but);
        if surplus == 0 {
            return Ok(());
        }
        match answer(Call::new(Sys::Read, [fd, Arg::Out(surplus as usize), Arg::Int(surplus)])) {
            // Less than the first of them (inotify(7)).
            Err(fault) if fault.errno == Errno::EINVAL => Ok(()),
            read => Ok(read.map(drop)?),
        }
    }

    /// Where nothing but the wanted place is free, the kernel chooses that. Below 4 GiB, where only who may can fill what is
    /// lowest (vm.mmap_min_addr), it does not look.
    fn map(&mut self, tid: Tid, [fd, offset, at, len, protection]: [u64; 5]) -> Result<(), Error> {
        const LOWEST: u64 = 1 << 32;
        let there: Vec<(u64, u64)> = self.areas_of(tid)?.iter().map(|a| (a.start, a.end)).collect();
        let (mut free, mut from) = (Vec::new(), LOWEST);
        for (start, end) in there.into_iter().chain([(TASK_END, TASK_END)]).filter(|(start, _)| *start <= TASK_END) {
            let cut = [(from, start.min(at)), (from.max(at + len), start)];
            let fits = |(from, to): &(u64, u64)| from + len <= *to || from < to && (*to == at || *from == at + len);
            free.extend(cut.into_iter().filter(fits));
            from = from.max(end);
        }
        let fill = |(from, to): &(u64, u64)| {
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
            Call::new(Sys::Mmap, [*from, to - from, 0, flags, u64::MAX, 0].map(Arg::Int))
        };
        let mut calls: Vec<Call> = free.iter().map(fill).collect();
        let wanted = calls.len();
        calls.push(Call::new(Sys::Mmap, [0, len, protection, MAP_SHARED | MAP_ABOVE4G, fd, offset].map(Arg::Int)));
        calls.extend(free.iter().map(|(from, to)| Call::new(Sys::Munmap, [Arg::Int(*from), Arg::Int(to - from)])));
        match self.succeed(tid, calls)?[wanted] {
            got if got == at => Ok(()),
            _ => Err(Fault::new(format!("mmap to {at:#x}"), tid, Errno::EEXIST).into()),
        }
    }

    /// An object of System V IPC, with its id. If another process makes one in the same instant, each may have got the id that
    /// the other one chose: then it is tried again.
    fn object(&mut self, tid: Tid, object: Object, args: &[u64], lasting: Lasting) -> Result<(), Error> {
        const TRIES_FOR_ID: usize = 5;
        let get = object.kind.get();
        if lasting == Lasting::Host {
            let maker = self.pid_of(tid);
            self.objects()?.expect(Made { get, id: object.id, key: args[0] as i32, maker })?;
        }
        for _ in 0..TRIES_FOR_ID {
            match self.object_with_some_id(tid, object, args)? {
                id if id == object.id => return Ok(()),
                other => ipc::remove(get, other),
            }
        }
        Err(Fault::new(format!("{get} for {object}"), tid, Errno::EEXIST).into())
    }

    /// The next one that is made in the namespace gets the id that is written down before (ipc/util.c, ipc_idr_alloc): ours,
    /// if nobody else makes or chooses one between.
    fn object_with_some_id(&mut self, tid: Tid, object: Object, args: &[u64]) -> Result<u32, Error> {
        let path = format!("/proc/sys/kernel/{}_next_id\0", object.kind.name()).into_bytes();
        let open =
            Call::new(Sys::Openat, [Arg::Int(AT_FDCWD), Arg::Bytes(path), Arg::Int(O_WRONLY.into()), Arg::Int(0)]);
        let fd = Arg::Int(self.succeed(tid, vec![open])?[0]);
        let id = object.id.to_string().into_bytes();
        let len = Arg::Int(id.len() as u64);
        let choose = Call::new(Sys::Pwrite64, [fd.clone(), Arg::Bytes(id), len, Arg::Int(0)]);
        let make = Call::new(object.kind.get(), args.iter().map(|n| Arg::Int(*n)).collect::<Vec<_>>());
        let answers = self.stubs().calls(tid.0, &[choose, make, Call::new(Sys::Close, [fd])])?;
        let fault = |call: &str, e| Fault::new(format!("{call} for {object}"), tid, e);
        let made = answers[1].result.map_err(|e| fault(object.kind.get().name(), e))? as u32;
        if let Err(e) = answers[0].result {
            ipc::remove(object.kind.get(), made);
            return Err(fault("the choice of an id", e).into());
        }
        Ok(made)
    }

    /// The segment is attached wherever there is room, filled, and detached.
    fn segment(&mut self, tid: Tid, id: u32, extents: &[Extent]) -> Result<(), Error> {
        let attach = Call::new(Sys::Shmat, [Arg::Int(id.into()), Arg::Int(0), Arg::Int(0)]);
        let at = self.succeed(tid, vec![attach])?[0];
        let there: Vec<Extent> = extents.iter().map(|e| Extent { at: at + e.at, ..*e }).collect();
        self.pages(tid, &there)?;
        self.succeed(tid, vec![Call::new(Sys::Shmdt, [Arg::Int(at)])]).map(drop)
    }

    /// Pages are read straight into place, as many runs at once as lie one behind the other in the image. Where there is another
    /// thread with room for it, it reads every other group meanwhile.
    fn pages(&mut self, tid: Tid, extents: &[Extent]) -> Result<(), Error> {
        let readers: Vec<Tid> = [tid].into_iter().chain(self.helper_of(tid)).collect();
        let most = if readers.len() > 1 { READ_BESIDE } else { READ_MAX };
        let mut reading = VecDeque::new();
        for (n, group) in groups(extents, most).into_iter().enumerate() {
            may_go_on("the thaw")?;
            if reading.len() == readers.len() {
                reading.pop_front().map_or(Ok(()), |one| self.are_read(one))?;
            }
            let ((call, expect), by) = (self.read_into_place(&group), readers[n % readers.len()]);
            reading.push_back((self.stubs().begin(by.0, &[call])?, expect, by));
        }
        reading.into_iter().try_for_each(|one| self.are_read(one))
    }

    fn are_read(&mut self, (begun, expect, by): (Begun, Expect, Tid)) -> Result<(), Error> {
        let fault = |got: String, e| Fault::new(format!("preadv gave {got}"), by, e);
        let got = self.stubs().finish(begun)?.remove(0).result.map_err(|e| fault("an error".to_string(), e))?;
        let Expect::Exactly(bytes) = expect else { unreachable!("a read gives what there is") };
        if got != bytes {
            return Err(fault(format!("{got} bytes of {bytes}"), Errno::EIO).into());
        }
        self.read += bytes;
        self.progress.done(self.read);
        Ok(())
    }

    /// A further thread of the same process that has as much room for calls as its first one.
    fn helper_of(&self, tid: Tid) -> Option<Tid> {
        let own = |room: &&Room| room.by == tid.0 && room.bytes == Ground::ROOM && room.is_thread;
        self.rooms.iter().find(own).map(|room| Tid(room.tid))
    }

    /// The call that reads one of the [`groups`] into place.
    fn read_into_place(&self, group: &[Extent]) -> (Call, Expect) {
        let pieces = group.iter().flat_map(|e| [e.at.to_ne_bytes(), e.len.to_ne_bytes()].concat()).collect();
        let (image, count) = (self.image_number() as u64, group.len() as u64);
        let args = [Arg::Int(image), Arg::Bytes(pieces), Arg::Int(count), Arg::Int(group[0].offset), Arg::Int(0)];
        (Call::new(Sys::Preadv, args), Expect::Exactly(group.iter().map(|e| e.len).sum()))
    }

    fn contents(&self, fd: i32, (size, page): (u64, u64), mtime: (i64, u32), extents: &[Extent]) -> Result<(), Fault> {
        let path = format!("/proc/self/fd/{fd}");
        let fault = |call: &str, e: std::io::Error| Fault::new(call, "a saved file", e);
        let file = File::options().read(page != 0).write(true).open(path).map_err(|e| fault("open", e))?;
        let written = match page {
            0 => self.write_contents(&file, size, extents),
            page => self.write_memory(&file, (size, page), extents),
        };
        written.map_err(|e| fault("write", e))?;
        set_time(&file, mtime).map_err(|e| fault("futimens", e))
    }

    fn write_contents(&self, file: &File, size: u64, extents: &[Extent]) -> std::io::Result<()> {
        file.set_len(size)?;
        self.read_each(size, extents, |bytes, at| file.write_all_at(bytes, at))
    }

    /// Only posix_fallocate(3) makes such a file one that ends within a page (fs/hugetlbfs/inode.c).
    fn write_memory(&self, file: &File, (size, page): (u64, u64), extents: &[Extent]) -> std::io::Result<()> {
        let whole = size / page * page;
        file.set_len(whole)?;
        if whole < size {
            rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), whole, size - whole)?;
        }
        self.read_each(size, extents, |bytes, at| here::write_memory(file, bytes, at, page))
    }

    /// Reads contents from the image, piece by piece, as far as a file of this length has them.
    fn read_each(
        &self,
        size: u64,
        extents: &[Extent],
        mut write: impl FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut buffer = PageBuffer::new(1 << 18);
        for e in extents {
            let len = e.len.min(size.saturating_sub(e.at));
            let mut done = 0;
            while done < len {
                let n = (len - done).min(buffer.len() as u64) as usize;
                self.loaded.image.read_at(e.offset + done, &mut buffer[..n])?;
                write(&buffer[..n], e.at + done)?;
                done += n as u64;
            }
        }
        Ok(())
    }

    /// Something that was made here gets the number of a description.
    fn put(&self, made: impl AsRawFd, descr: Descr) -> Result<(), Error> {
        let moved = here::duplicate(made.as_raw_fd(), self.number(descr) as i32);
        Ok(moved.map_err(|e| Fault::new("dup3", descr, e))?)
    }

    fn feed(&self, descr: Descr, packets: &[Vec<u8>]) -> Result<(), Error> {
        for (n, packet) in packets.iter().enumerate() {
            let args = [Arg::Int(self.number(descr)), Arg::Bytes(packet.clone()), Arg::Int(packet.len() as u64)];
            let mut wrote = here::call(&Call::new(Sys::Write, args)).result;
            // A connection takes the rest of much when the other end has told that it has the first of it.
            while let Ok(len @ 1..) = wrote
                && (len as usize) < packet.len()
                && let Ok(more @ 1..) = self.feed_more(descr, &packet[len as usize..])
            {
                wrote = Ok(len + more);
            }
            if wrote != Ok(packet.len() as u64) {
                let what = format!("{descr}, {} of {} pieces of what waited in it", n + 1, packets.len());
                return Err(Fault::new("write", what, wrote.err().unwrap_or(Errno::ENOSPC)).into());
            }
        }
        Ok(())
    }

    /// How many of these bytes are written once there is room; an error where there comes none.
    fn feed_more(&self, descr: Descr, bytes: &[u8]) -> Result<u64, Errno> {
        const PATIENCE: u64 = 1000;
        let number = self.number(descr);
        let asked = [number as u32, POLLOUT.into()].map(u32::to_ne_bytes).concat();
        here::call(&Call::new(Sys::Poll, [Arg::InOut(asked), 1.into(), PATIENCE.into()]));
        here::call(&Call::new(Sys::Write, [number.into(), Arg::Bytes(bytes.to_vec()), Arg::Int(bytes.len() as u64)]))
            .result
    }

    /// Who may not send it as that of another sends it as his own (net/core/scm.c, `scm_check_creds`).
    fn send_message(&mut self, descr: Descr, to: Option<&Whom>, message: &Message) -> Result<(), Error> {
        let (socket, own) = (self.number(descr) as i32, std::process::id());
        let rights: Vec<i32> = message.rights.iter().map(|right| self.number(*right) as i32).collect();
        let file = to.and_then(|to| self.bound.as_ref()?.link_of(self.number(to.of?)));
        let send = |who| {
            let act = |to: &[u8]| Ok(send(socket, to, &message.bytes, &rights, who)?);
            match (&file, to) {
                (Some(file), _) => bound::at_address(file.as_os_str().as_bytes(), file, act),
                (None, Some(to)) => bound::at_address(&to.name, Path::new(OsStr::from_bytes(&to.path)), act),
                (None, None) => act(&[]),
            }
        };
        let sent = match message.credentials {
            None => send(None),
            Some((pid, uid, gid)) => {
                let pid = pid.map_or(own, |pid| self.stubs().pid(pid.0) as u32);
                send(Some((pid, uid, gid))).or_else(|_| {
                    let lost = "who sent what waits in a socket is told to be who thaws it (SCM_CREDENTIALS)";
                    self.lose(lost);
                    send(Some((own, uid, gid))).or_else(|_| send(None))
                })
            }
        };
        match sent {
            Ok(len) if len == message.bytes.len() as u64 => Ok(()),
            other => Err(Fault::new("sendmsg", descr, other.map_or_else(Errno::from, |_| Errno::ENOSPC)).into()),
        }
    }

    fn lose(&mut self, what: &'static str) {
        if !self.lost.contains(&what) {
            self.lost.push(what);
        }
    }

    fn host(&mut self, effect: &'a HostEffect) -> Result<(), Error> {
        match effect {
            HostEffect::ReplaceFile { path, mode, owner, size, mtime, contents } => {
                let target = Path::new(OsStr::from_bytes(path));
                let mut replaced = self.replaced.take().map_or_else(Replaced::new, Ok)?;
                let done = replaced.replace(target, |file| {
                    self.write_contents(file, *size, contents)?;
                    // A write, and a change of owner, take the set-user-id bits away (chown(2)).
                    if let Some((uid, gid)) = *owner {
                        std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
                    }
                    file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
                    set_time(file, *mtime)
                });
                self.replaced = Some(replaced);
                done.map_err(|e| Error::io("write", target.display(), e))
            }
            HostEffect::Removed { descr, what, path, flags, mode, owner } => {
                let path = Path::new(OsStr::from_bytes(path));
                let looks = removed::Looks { flags: *flags, mode: *mode, owner: *owner };
                let opened = removed::open(path, what, looks).map_err(|e| Error::io("mknod", path.display(), e))?;
                self.put(opened, *descr)
            }
            HostEffect::Mqueue { descr, name, limits } => {
                let made = self.objects()?.mqueue(name.as_deref(), *limits)?;
                self.put(made, *descr)
            }
            HostEffect::Fifo { descr, path, access } => {
                let opened = fifo::open(Path::new(OsStr::from_bytes(path)), *access)?;
                self.put(opened, *descr)
            }
            HostEffect::Own { descr, path, flags } => self.put(tracee::here::open_own(path, *flags as i32)?, *descr),
            HostEffect::Ended { opened } => self.ended(opened),
            HostEffect::PseudoTerminal { descr, number, flags } => self.pseudo_terminal(*descr, *number, *flags),
            HostEffect::Waiting { master, slave, lines, length, rest, shown } => {
                let [master, slave] = [master, slave].map(|descr| self.number(*descr));
                let filled = pseudo::fill([master, slave], (lines, *length), rest, shown);
                Ok(filled.map_err(|e| Fault::new("write", "what waits in a terminal", e))?)
            }
            HostEffect::Bind { descr, name, path, mode, owner, stays } => {
                let path = Path::new(OsStr::from_bytes(path));
                let looks = bound::Looks { mode: *mode, owner: *owner, stays: *stays };
                let mut bound = self.bound.take().map_or_else(Bound::new, Ok)?;
                let done = bound.bind(self.number(*descr), name, path, looks);
                self.bound = Some(bound);
                done.map_err(|e| Error::io("bind", path.display(), e))
            }
            HostEffect::Terminal { of, settings, typing } => {
                let stubs = self.stubs();
                let (root, of) = (stubs.processes().next().expect("the tree is born"), of.0);
                let (root, of) = (stubs.pid(root), stubs.pid(of));
                self.terminal = Held::take(root, of, settings.as_deref());
                self.typing = typing.as_ref();
                Ok(())
            }
        }
    }

    /// It ends with the thaw, whichever way that goes: who is to live in its directory has to go there before.
    fn ended(&mut self, opened: &[(Descr, OfEnded, u32)]) -> Result<(), Error> {
        let process = Passing::new().map_err(|e| Fault::new("clone3", "a process that is to end", e))?;
        for (descr, of, flags) in opened {
            let flags = u64::from(*flags);
            let call = match of {
                OfEnded::Process => Call::new(Sys::PidfdOpen, [Arg::Int(process.pid() as u64), Arg::Int(flags)]),
                OfEnded::File(name) => {
                    let path = [format!("/proc/{}", process.pid()).as_bytes(), name, b"\0"].concat();
                    Call::new(Sys::Openat, [Arg::Int(AT_FDCWD), Arg::Bytes(path), Arg::Int(flags), Arg::Int(0)])
                }
            };
            let fault = |e| Fault::new(call.sys.name(), format!("{descr}, of a process that is to end"), e);
            let fd = here::call(&call).result.map_err(fault)? as u32;
            let moved = here::duplicate(fd as i32, self.number(*descr) as i32);
            here::close_range(fd, fd);
            moved.map_err(fault)?;
        }
        self.passing.push(process);
        Ok(())
    }

    /// Numbers above all that are made are free for what is opened in passing.
    fn pseudo_terminal(&mut self, descr: Descr, number: Option<u32>, flags: u32) -> Result<(), Error> {
        const ELSEWHERE: &str = "a terminal of the program has another name: that which it had cannot be had here";
        let made = self.plan.steps.iter().flat_map(|step| &step.makes);
        let last = made.filter_map(|fact| if let Fact::Made(descr) = fact { Some(descr.0) } else { None }).max();
        let above = self.plan.base + last.unwrap_or(0) + 1;
        let (opened, got) = pseudo::open(number, flags, above).map_err(|e| Fault::new("open", "/dev/ptmx", e))?;
        if number.is_some_and(|wanted| wanted != got) {
            self.lose(ELSEWHERE);
        }
        self.put(opened, descr)
    }

    /// The end: every thread is held, gets back what it had, and runs. What can fail comes before the last line but one.
    fn commit(mut self) -> Result<Thawed, Error> {
        self.flush()?;
        // From here on the terminal belongs to the tree.
        self.progress.stage("starting", 0);
        self.stubs().hold()?;
        let states = std::mem::take(&mut self.states);
        let mut regs: Vec<UserRegs> = Vec::with_capacity(states.len());
        for s in &states {
            regs.push(self.interrupted(s)?);
        }
        self.leave_ground(&states, &regs)?;
        let signals = std::mem::take(&mut self.signals);
        let dispatches = std::mem::take(&mut self.dispatches);
        let stubs = self.stubs();
        // They have made their last call as stubs.
        dispatches.iter().try_for_each(|(tid, config)| stubs.set_dispatch(tid.0, config))?;
        for (tid, signal) in signals {
            let process = stubs.process_of(tid.0).expect("it is born");
            stubs.signal(process, signal)?;
        }
        stubs.prepare()?;
        self.passing.clear();
        // A pipe whose other end only we still had would seem to have one.
        self.store.take();
        let tree = self.stubs.take().expect("the tree is born").commit();
        let terminal = self.terminal.take().map(Held::keep);
        self.replaced.take().into_iter().for_each(Replaced::keep);
        self.bound.take().into_iter().for_each(Bound::keep);
        self.objects.take().into_iter().for_each(Objects::keep);
        let mut notes = self.plan.notes.clone();
        notes.extend(std::mem::take(&mut self.lost).into_iter().map(str::to_owned));
        notes.extend(self.typing.and_then(|typing| typed_again(terminal.as_ref(), typing)));
        let pid = tree.run();
        Ok(Thawed { pid, notes, terminal })
    }

    /// The registers of a thread, with the rest of its interrupted call in the kernel.
    fn interrupted(&mut self, s: &State<'_>) -> Result<UserRegs, Error> {
        let Restart::Begin { sys, args } = s.restart else { return Ok(*s.regs) };
        let gate = self.gate_of(s.tid)?;
        let stubs = self.stubs();
        let mut words = Vec::with_capacity(args.len());
        for value in args {
            words.push(match value {
                Value::Int(n) => *n,
                Value::Bytes(bytes) => stubs.lend(s.tid.0, bytes)?,
                _ => unreachable!("a call is begun with numbers and times"),
            });
        }
        let rax = stubs.begin_held(s.tid.0, gate, *sys, &words)?;
        const ERESTART_FIRST: i64 = -516;
        const ERESTART_LAST: i64 = -512;
        let goes_on = (ERESTART_FIRST..=ERESTART_LAST).contains(&(rax as i64));
        // A call that found itself done is done.
        Ok(UserRegs { rax, orig_rax: if goes_on { s.regs.orig_rax } else { u64::MAX }, ..*s.regs })
    }

    /// Where the thread has a `syscall` instruction that is not ours.
    fn gate_of(&mut self, tid: Tid) -> Result<u64, Error> {
        let process = self.stubs().process_of(tid.0).expect("it is born");
        let areas = self.loaded.model.space(process).map_or(&[][..], |space| &space.kernel_areas);
        match areas.iter().find(|a| a.name == "[vdso]") {
            Some(vdso) => Ok(vdso.start + self.gate),
            None => Ok(self.stubs().gate(process)?),
        }
    }

    /// The last of us goes out of the processes: our descriptors in them, and the memory that we share. What processes share
    /// with each other is left once. Each thread gets its state when it has no more to do for that.
    fn leave_ground(&mut self, states: &[State<'_>], regs: &[UserRegs]) -> Result<(), Error> {
        let numbers = vec![u64::from(self.plan.reserve), u64::from(self.plan.base) - 1, 0];
        let ground = self.stubs().ground();
        let memory = vec![ground.start, ground.end - ground.start];
        let (loaded, mut all) = (self.loaded, Vec::new());
        for p in loaded.model.processes.iter().map(|p| &p.process).filter(|p| !p.is_zombie()) {
            let tid = self.stubs().living(p.pid).expect("a process that lives has a thread that does");
            let gate = self.gate_of(Tid(tid))?;
            let files = p.shares.files.is_none().then(|| (Sys::CloseRange, numbers.clone()));
            let space = p.shares.space.is_none().then(|| (Sys::Munmap, memory.clone()));
            all.push(HeldCalls { tid, gate, calls: files.into_iter().chain(space).collect() });
        }
        let at_work: HashSet<u32> = all.iter().filter(|held| !held.calls.is_empty()).map(|held| held.tid).collect();
        let stubs = self.stubs();
        let (last, others): (Vec<_>, Vec<_>) = states.iter().zip(regs).partition(|(s, _)| at_work.contains(&s.tid.0));
        let set = |(s, regs): &(&State<'_>, &UserRegs)| stubs.set(s.tid.0, regs, s.xstate, s.mask);
        stubs.call_held(&all, || others.iter().try_for_each(set))?;
        Ok(last.iter().try_for_each(set)?)
    }
}

/// The time of the last modification.
fn set_time(file: &File, mtime: (i64, u32)) -> std::io::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Types what was typed before. What cannot be typed is told.
fn typed_again(terminal: Option<&Held>, typing: &Typing) -> Option<String> {
    let typed = terminal.map_or(Err("there is no terminal".into()), |held| held.retype(&typing.keys));
    typed.err().map(|why| format!("what was typed and not read yet cannot be typed here ({why}): {}", typing.told))
}

/// Runs of the image that one preadv can take.
fn groups(extents: &[Extent], most: u64) -> Vec<Vec<Extent>> {
    let mut all: Vec<Vec<Extent>> = Vec::new();
    let mut bytes = 0;
    for whole in extents {
        let mut done = 0;
        while done < whole.len {
            let len = (whole.len - done).min(most);
            let e = Extent { at: whole.at + done, len, offset: whole.offset + done };
            done += len;
            match all.last_mut() {
                Some(group)
                    if group.len() < PIECES_MAX
                        && bytes + len <= most
                        && group.last().is_some_and(|l| l.offset + l.len == e.offset) =>
                {
                    bytes += len;
                    group.push(e);
                }
                _ => {
                    bytes = len;
                    all.push(vec![e]);
                }
            }
        }
    }
    all
}
