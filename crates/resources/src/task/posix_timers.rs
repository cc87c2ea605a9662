//! POSIX timers (timer_create(2)).
//!
//! - seen as    /proc/PID/timers
//! - captured   id, clock, how it tells, from /proc; the time left and the period by `timer_gettime`, soon after the process was
//!   stopped; not what they sent since (`ticks`); how often it had overrun when its last signal was taken by `timer_getoverrun`
//! - recreated  `timer_create` with its id (PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15; before that ids are counted up to
//!   it), `timer_settime` last of all; one that had overrun is set to a moment long ago, and the signal that it sends is taken
//! - refused    a way of telling that is not known; the clock of another process, or of a device; that of a thread of which the kernel
//!   does not tell which it is
//! - not kept   of a timer whose signal waits, how often it overran before the thaw: the kernel tells it to nobody but who takes the signal;
//!   how often it had overrun of one of several with one signal, or that counts the time of a processor: told; more than its clock has had
//!   time for where it is thawed (`--time host`)

use super::ticks;
use crate::{At, Capture, Capturing, Planning, Resource, ThreadState, Trouble};
use abi::consts::prctl::PR_TIMER_CREATE_RESTORE_IDS;
use abi::consts::sigaction::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID};
use abi::consts::time::{CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME};
use abi::layout::{Itimerspec, Sigevent, Timespec};
use abi::proc::{self, Notify, Target};
use abi::signal::{SIGKILL, SIGSTOP, Siginfo};
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Ago, Expect, Fact, Moment, Op, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

/// Signals that nobody takes (sigwaitinfo(2)).
const NEVER_TAKEN: [i32; 2] = [SIGKILL, SIGSTOP];
/// Up to this id it is worth while to count.
const COUNTED: i32 = 1024;

/// One timer.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct PosixTimer {
    /// Its id.
    #[n(0)]
    pub id: i32,
    /// Its clock (clock_gettime(2)).
    #[n(1)]
    pub clock: i32,
    /// The signal that it sends.
    #[n(2)]
    pub signal: i32,
    /// What comes along with it.
    #[n(3)]
    pub value: u64,
    /// SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD 2, SIGEV_THREAD_ID 4.
    #[n(4)]
    pub notify: i32,
    /// The thread that gets the signal, with SIGEV_THREAD_ID.
    #[n(5)]
    pub thread: Option<u32>,
    /// Nanoseconds that are left; 0: not armed. Volatile.
    #[n(6)]
    pub left: u64,
    /// Nanoseconds of the period; 0: once.
    #[n(7)]
    pub period: u64,
    /// How often it had overrun when its last signal was taken (timer_getoverrun(2)), if it had.
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun: Option<u64>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct PosixTimers {
    /// Ascending by id.
    #[n(0)]
    pub timers: Vec<PosixTimer>,
}

impl Resource for PosixTimers {
    const NAME: &'static str = "timers";
}

/// Of the clock of a process or thread (kernel/time/posix-cpu-timers.c): what it counts, that it is of a thread, and above that its id,
/// inverted; 0: of whoever asks.
const KIND: i32 = 3;
const PER_THREAD: i32 = 4;
const ID_AT: u32 = 3;
/// Of a device (clock_getres(2), "Dynamic clocks").
const DEVICE: i32 = 3;

/// The clock, with the id of the process or thread that it is of; or why it cannot be had.
fn clock(
    seen: &proc::PosixTimer,
    thread: Option<u32>,
    from: &mut Capturing<'_>,
) -> Result<Result<i32, &'static str>, Trouble> {
    if seen.clock >= 0 {
        return Ok(Ok(seen.clock));
    }
    if seen.clock & KIND == DEVICE {
        return Ok(Err("it runs on the clock of a device"));
    }
    let of = |id: u32| !(id as i32) << ID_AT | seen.clock & (KIND | PER_THREAD);
    let (its, is_of_thread) = (!(seen.clock >> ID_AT) as u32, seen.clock & PER_THREAD != 0);
    let status = proc::status(&from.probe.text("status")?)?;
    let own = from.probe.inner_tid(status.tgid);
    Ok(match (is_of_thread, its, own) {
        (_, _, None) => Err("it runs on the clock of a process that is not known"),
        (false, 0, Some(own)) => Ok(of(own)),
        (false, its, Some(own)) if its == own => Ok(seen.clock),
        (false, ..) => Err("it runs on the clock of another process"),
        (true, 0, Some(own)) if status.threads == 1 => Ok(of(own)),
        // Who measures himself wants to be told himself (timer_create(2), SIGEV_THREAD_ID).
        (true, 0, _) => match thread {
            None => Err("it runs on the clock of the thread that made it, and nobody tells which that is"),
            Some(thread) => {
                let why =
                    format!("it is taken to measure thread {thread}, which it tells: the kernel does not say whom");
                from.note(format!("timer {}", seen.id), why);
                Ok(of(thread))
            }
        },
        (true, ..) => {
            let asked = Call::new(Sys::ClockGettime, [Arg::Int(seen.clock as u64), Arg::Out(Timespec::SIZE)]);
            let is_there = from.probe.calls(&[asked])?[0].result.is_ok();
            if is_there { Ok(seen.clock) } else { Err("it runs on the clock of a thread that has ended") }
        }
    })
}

fn timer(
    seen: &proc::PosixTimer,
    (times, overrun): (&Itimerspec, &Answer),
    from: &mut Capturing<'_>,
) -> Result<PosixTimer, Trouble> {
    let refuse = |why: &str| Refusal::new(format!("timer {}", seen.id), why, "let the program delete it");
    let thread = match seen.target {
        Target::Tid(outer) => match from.probe.inner_tid(outer) {
            None => return Err(refuse("it tells a thread that has ended").into()),
            inner => inner,
        },
        Target::Pid(_) => None,
    };
    let notify = match (&seen.notify, thread) {
        (Notify::None, _) => SIGEV_NONE,
        (Notify::Signal | Notify::Thread, Some(_)) => SIGEV_THREAD_ID,
        (Notify::Signal, None) => SIGEV_SIGNAL,
        (Notify::Thread, None) => SIGEV_THREAD,
        _ => return Err(refuse("it tells in a way that is not known").into()),
    };
    let clock = clock(seen, thread.filter(|_| notify == SIGEV_THREAD_ID), from)?.map_err(refuse)?;
    Ok(PosixTimer {
        id: seen.id,
        clock,
        signal: seen.signal,
        value: seen.value,
        notify,
        thread: thread.filter(|_| notify == SIGEV_THREAD_ID),
        left: times.value.to_nanos().unwrap_or(0),
        period: times.interval.to_nanos().unwrap_or(0),
        overrun: overrun.result.ok().filter(|count| *count > 0),
    })
}

impl Capture for PosixTimers {
    const TEXTS: &'static [&'static str] = &["timers"];
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut seen = proc::timers(&from.probe.text("timers")?)?;
        abi::sort_by_key(&mut seen, |t| t.id);
        let ask = |t: &proc::PosixTimer| {
            let id = || Arg::Int(t.id as u64);
            [Call::new(Sys::TimerGettime, [id(), Arg::Out(Itimerspec::SIZE)]), Call::new(Sys::TimerGetoverrun, [id()])]
        };
        let calls: Vec<Call> = seen.iter().flat_map(ask).collect();
        let answers = if calls.is_empty() { Vec::new() } else { super::all(from, &calls)? };
        let told = answers
            .as_chunks()
            .0
            .iter()
            .filter_map(|[times, overrun]| Some((Itimerspec::from_bytes(super::written(times))?, overrun)));
        let timers: Result<Vec<_>, _> = seen.iter().zip(told).map(|(s, (t, o))| timer(s, (&t, o), from)).collect();
        Ok(PosixTimers { timers: timers? })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if self.timers.is_empty() {
            return;
        }
        let ids = |on: u64| vec![PR_TIMER_CREATE_RESTORE_IDS.into(), on.into(), 0.into(), 0.into(), 0.into()];
        let last = self.timers.iter().map(|t| t.id).max().unwrap_or(0);
        // A kernel that cannot be told an id counts them up from 0: then those that are not wanted are made, and deleted.
        let count = last < COUNTED;
        let expect = if count { Expect::Whatever } else { Expect::Success };
        to.to.arm(Self::NAME, at.tid, Sys::Prctl, ids(1), expect);
        let mut timers = self.timers.iter().peekable();
        for id in 0..=last {
            match timers.next_if(|t| t.id == id) {
                Some(timer) => self.plan_one(timer, at, to),
                None if count => self.plan_gap(id, at, to),
                None => {}
            }
        }
        to.to.arm(Self::NAME, at.tid, Sys::Prctl, ids(0), Expect::Whatever);
        let waiting = waiting(at, to);
        let anew: Vec<i32> = match to.model.process(at.pid.0) {
            Some(p) => waiting.iter().filter_map(|info| ticks::sent_anew(info, &p.states)).collect(),
            None => Vec::new(),
        };
        for t in self.timers.iter().filter(|t| t.left != 0) {
            let waits = anew.contains(&t.id);
            let overran = t.overrun.filter(|_| t.period != 0 && !waits);
            let again = overran.filter(|_| self.is_alone(t) && waiting.iter().all(|info| info.signo() != t.signal));
            if overran.is_some() && again.is_none() {
                to.to.note(format!("timer {}: how often it had overrun is not kept", t.id));
            }
            let sent = again.map(|_| Fact::Made(to.to.scratch()));
            let is_anew = waits || again.is_some();
            let (flags, value) = if is_anew { t.anew(again.unwrap_or(0)) } else { (0, t.times(t.left)) };
            let args = vec![(t.id as u64).into(), flags.into(), value, 0.into()];
            let op = Op::Call { sys: Sys::TimerSettime, args, expect: Expect::Success };
            let makes = [Fact::Whole(at.tid)].into_iter().chain(sent.clone()).collect();
            to.to.step(Moment::Start, Self::NAME, Actor::Thread(at.tid), op, vec![Fact::Settled], makes);
            if let Some(sent) = sent {
                take(t, at, sent, to);
            }
        }
    }
}

/// Who gets the signal of a timer takes it, and then knows how often it overran (kernel/time/posix-timers.c, `posixtimer_deliver_signal`).
fn take(t: &PosixTimer, at: At, sent: Fact, to: &mut Planning<'_>) {
    let (set, second) = (1u64 << (t.signal - 1), Timespec { sec: 1, nsec: 0 });
    let args =
        vec![Value::Bytes(set.to_ne_bytes().to_vec()), 0.into(), Value::Bytes(second.to_bytes().to_vec()), 8.into()];
    let by = t.thread.map_or(at.tid, Tid);
    const LOST: &str = "timers have not sent what they were to send at once: how often they had overrun is not kept";
    let expect = Expect::ExactlyOrTold(t.signal as u64, LOST);
    let op = Op::Call { sys: Sys::RtSigtimedwait, args, expect };
    to.to.step(Moment::Start, PosixTimers::NAME, Actor::Thread(by), op, vec![sent], vec![Fact::Whole(by)]);
}

/// All signals that wait for its process and its threads.
fn waiting(at: At, to: &Planning<'_>) -> Vec<Siginfo> {
    let Some(p) = to.model.process(at.pid.0) else { return Vec::new() };
    let signals = p.threads.iter().flat_map(|t| &t.states).filter_map(|state| match state {
        ThreadState::Signal(signal) => Some(signal.pending.iter().chain(&signal.process_pending)),
        _ => None,
    });
    signals.flatten().copied().collect()
}

impl PosixTimer {
    fn is_of_processor(&self) -> bool {
        matches!(self.clock, CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID | ..0)
    }

    fn times(&self, value: u64) -> Value {
        Value::Bytes(Itimerspec::from_nanos(self.period, value).to_bytes().to_vec())
    }

    /// How one is set whose signal waits, or was taken when it had overrun so often: to when it was due before that. So it sends that at
    /// once, and what is due then keeps its step. The time of a processor has hardly begun where the thread is made anew.
    fn anew(&self, overrun: u64) -> (u64, Value) {
        let value = match self.clock {
            _ if self.is_of_processor() => self.times(1),
            clock => {
                let past = self.period.saturating_sub(self.left).saturating_add(self.period.saturating_mul(overrun));
                Value::Ago(Ago { clock, past, period: self.period })
            }
        };
        (TIMER_ABSTIME, value)
    }
}

impl PosixTimers {
    /// Whether it sends a signal that no other one sends, and counts a time that goes on here.
    fn is_alone(&self, timer: &PosixTimer) -> bool {
        let tells =
            timer.notify != SIGEV_NONE && (1..=64).contains(&timer.signal) && !NEVER_TAKEN.contains(&timer.signal);
        tells
            && !timer.is_of_processor()
            && self.timers.iter().filter(|other| other.signal == timer.signal).count() == 1
    }

    fn plan_gap(&self, id: i32, at: At, to: &mut Planning<'_>) {
        let event = Sigevent { notify: SIGEV_NONE, ..Sigevent::default() };
        let clock = 1; // CLOCK_MONOTONIC
        let (event, number) = (event.to_bytes().to_vec(), id.to_ne_bytes().to_vec());
        let args = vec![clock.into(), Value::Bytes(event), Value::Bytes(number)];
        to.to.arm(Self::NAME, at.tid, Sys::TimerCreate, args, Expect::Success);
        to.to.arm(Self::NAME, at.tid, Sys::TimerDelete, vec![(id as u64).into()], Expect::Success);
    }

    fn plan_one(&self, t: &PosixTimer, at: At, to: &mut Planning<'_>) {
        let event = Sigevent { value: t.value, signo: t.signal, notify: t.notify, tid: t.thread.unwrap_or(0) as i32 };
        // The kernel takes the wished id from where it writes the id to (kernel/time/posix-timers.c).
        let id = Value::Bytes(t.id.to_ne_bytes().to_vec());
        let args = vec![(t.clock as u64).into(), Value::Bytes(event.to_bytes().to_vec()), id];
        let op = Op::Call { sys: Sys::TimerCreate, args, expect: Expect::Success };
        let mut needs = vec![Fact::Settled];
        needs.extend(t.thread.map(|tid| Fact::Born(Tid(tid))));
        let makes = vec![Fact::Whole(at.tid), Fact::Queued(at.pid)];
        to.to.step(Moment::Arm, Self::NAME, Actor::Thread(at.tid), op, needs, makes);
    }
}
