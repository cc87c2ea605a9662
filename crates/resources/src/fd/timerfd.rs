//! Timerfd: a timer behind a descriptor (timerfd_create(2)).
//!
//! - seen as    `anon_inode:[timerfd]`
//! - captured   clock, mode, period and the expirations that were not read yet, from fdinfo; by `timerfd_gettime` and
//!   `clock_gettime` the moment at which it expires next, so it does not matter how long the rest of the freeze takes
//! - recreated  `timerfd_create`; `timerfd_settime` and `TFD_IOC_SET_TICKS` by the process itself, by whose clocks it goes. A
//!   moment of the time of day is that moment, and what expired while it was frozen is counted. Any other timer stands
//!   still with the clocks that count from the start of the machine: it has the rest that it had, less what these clocks have
//!   gone on since the first birth
//! - refused    one that a process outside of the tree has too; one that wakes the machine, where whoever thaws may not
//! - not kept   O_NOATIME (fcntl(2)), which means nothing there.
//!   That the time of day was set and this was not read yet (TFD_TIMER_CANCEL_ON_SET): it reads a number instead,
//!   and nothing tells such a timer that it was frozen; the user is told. That a timer was set to a moment, not to a rest,
//!   where the clocks are not kept. Expirations of a relative one that come while the tree is made are not counted

use super::{Kind, Seen, common_refusals, flags, set_status, shared_outside};
use crate::ns::time::{self, Time};
use crate::task::{all, written};
use crate::{At, Capturing, Planning, Probe, Resource, Trouble};
use abi::consts::cap::CAP_WAKE_ALARM;
use abi::consts::fd::{TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET};
use abi::consts::ioctl::TFD_IOC_SET_TICKS;
use abi::consts::time::{CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM};
use abi::layout::{Itimerspec, Timespec};
use abi::proc::{self, Fdinfo};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Namespaces, Op, Refusal, Until, Value};
use serde::{Deserialize, Serialize};

/// Nanoseconds for which a timer does not expire after it is set: its count is set right behind.
const APART: u64 = 100_000;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Timerfd {
    /// Its clock (clock_gettime(2)).
    #[n(0)]
    pub clock: i32,
    /// Status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// TFD_TIMER_ bits with which it was set.
    #[n(2)]
    pub mode: u32,
    /// When it expires next: nanoseconds of the clock that decides it (see `decides`); 0: not armed. Volatile.
    #[n(3)]
    pub expires: u64,
    /// Nanoseconds of the period; 0: once.
    #[n(4)]
    pub period: u64,
    /// How often it has expired since this was read.
    #[n(5)]
    pub ticks: u64,
}

impl Resource for Timerfd {
    const NAME: &'static str = "timerfd";
}

/// What fdinfo tells of a timer that changes by itself.
struct Look {
    left: u64,
    ticks: u64,
}

/// `(499, 999849245)`: seconds and nanoseconds.
fn nanos(info: &Fdinfo, key: &str) -> Option<u64> {
    let text = std::str::from_utf8(info.field(key)?).ok()?;
    let (sec, nsec) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
    Timespec { sec: sec.parse().ok()?, nsec: nsec.parse().ok()? }.to_nanos()
}

fn look(info: &Fdinfo) -> Option<Look> {
    Some(Look { left: nanos(info, "it_value")?, ticks: info.number("ticks", 10)? })
}

/// What does not change: clock, mode, period.
fn settings(info: &Fdinfo) -> Option<(i32, u32, u64)> {
    let clock = info.number("clockid", 10)?;
    Some((clock as i32, info.number("settime flags", 8)? as u32, nanos(info, "it_interval")?))
}

/// The clock that decides when it expires. A rest of CLOCK_REALTIME is one of CLOCK_MONOTONIC, so that it does not change
/// when the time of day is set (kernel/time/hrtimer.c, __hrtimer_setup).
fn decides(clock: i32, mode: u32) -> i32 {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM if mode & TFD_TIMER_ABSTIME != 0 => CLOCK_REALTIME,
        CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM | CLOCK_REALTIME_ALARM => CLOCK_BOOTTIME,
        _ => CLOCK_MONOTONIC,
    }
}

/// When it expires next, or 0: from what fdinfo told before and after `timerfd_gettime`, and what that told: a rest, which
/// ends at the moment `end`. Nobody can have set it in between.
fn next(before: &Look, (rest, end): (u64, u64), after: &Look, period: u64) -> u64 {
    // An expired periodic timer shows no rest, but has ticks; one that was set to nothing has neither (fs/timerfd.c).
    let armed = before.left != 0 || rest != 0 || after.left != 0 || (period != 0 && before.ticks != 0);
    match (armed, after.left) {
        (false, _) => 0,
        // It is due, and the kernel has not counted it yet.
        (true, 0) if after.ticks == before.ticks => end,
        (true, 0) if period == 0 => 0,
        // It expired in between, and was counted.
        (true, 0) => end.saturating_add(period),
        (true, _) => end,
    }
}

/// How a timer is set.
struct Start {
    mode: u32,
    value: u64,
    ticks: u64,
    /// Where it is a rest: until when, and how long it is at least.
    until: Option<(u64, u64)>,
}

impl Timerfd {
    fn is_absolute(&self) -> bool {
        self.mode & TFD_TIMER_ABSTIME != 0
    }

    fn is_alarm(&self) -> bool {
        matches!(self.clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM)
    }

    fn decides(&self) -> i32 {
        decides(self.clock, self.mode)
    }

    /// Whether the kernel was told to look whether the time of day is set (fs/timerfd.c, timerfd_setup_cancel).
    fn cancels(&self) -> bool {
        self.decides() == CLOCK_REALTIME && self.mode & TFD_TIMER_CANCEL_ON_SET != 0
    }

    /// How it is set anew.
    fn start(&self, to: &Planning<'_>) -> Start {
        if self.expires == 0 {
            return Start { mode: self.mode, value: 0, ticks: self.ticks, until: None };
        }
        let kept = self.decides() == CLOCK_REALTIME || time::is_kept(to);
        match (self.is_absolute() && kept, self.period) {
            (true, 0) => Start { mode: self.mode, value: self.expires, ticks: self.ticks, until: None },
            // It begins as many periods earlier as were not read: the kernel counts them when it is looked at, and none
            // that comes right now can be lost between two calls.
            (true, period) => {
                let earlier = self.expires.saturating_sub(period.saturating_mul(self.ticks));
                Start { mode: self.mode, value: earlier.max(1), ticks: 0, until: None }
            }
            (false, _) => self.rest(time::recorded(to.model)),
        }
    }

    /// The rest that it had when the clocks were recorded, and what had expired by then.
    fn rest(&self, clocks: &Time) -> Start {
        let now = if self.decides() == CLOCK_BOOTTIME { clocks.boottime } else { clocks.monotonic };
        let late = now.checked_sub(self.expires);
        let missed = late.map_or(0, |late| late.checked_div(self.period).map_or(0, |n| n.saturating_add(1)));
        let expires = self.expires.saturating_add(self.period.saturating_mul(missed));
        let ticks = self.ticks.saturating_add(missed);
        let least = if ticks == 0 { 1 } else { APART };
        let (mode, value) = (self.mode & !TFD_TIMER_ABSTIME, expires.saturating_sub(now).max(least));
        Start { mode, value, ticks, until: Some((expires, least)) }
    }

    /// fs/timerfd.c asks for it in the first user namespace, when it is made and when it is set.
    fn check_alarm(&self, to: &mut Planning<'_>) {
        let inner = matches!(to.namespaces, Namespaces::UserPid { .. });
        if self.is_alarm() && (inner || !to.to.host.has_in_first(CAP_WAKE_ALARM)) {
            let why = "it wakes the machine, which whoever thaws may not (CAP_WAKE_ALARM)";
            to.to.refuse(Refusal::new(format!("timer descriptor of clock {}", self.clock), why, "thaw it as root"));
        }
    }
}

/// The rest that it has. The kernel does not count on by itself what expires unread: fdinfo would show one tick and no rest. The first
/// call counts; what is read is the same (fs/timerfd.c, do_timerfd_gettime). The clock is read afterwards: so it never expires too early.
fn ask_rest(fd: u32, clock: i32) -> [Call; 2] {
    [
        Call::new(Sys::TimerfdGettime, [Arg::Int(fd.into()), Arg::Out(Itimerspec::SIZE)]),
        Call::new(Sys::ClockGettime, [Arg::Int(clock as u64), Arg::Out(Timespec::SIZE)]),
    ]
}

impl Kind for Timerfd {
    fn knows(seen: &Seen) -> bool {
        seen.link.0 == b"anon_inode:[timerfd]"
    }

    fn asks(seen: &Seen, _: &dyn Probe) -> Vec<Call> {
        settings(&seen.info).map_or(Vec::new(), |(clock, mode, _)| ask_rest(seen.fd, decides(clock, mode)).into())
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let hidden = || seen.refuse("this kernel does not tell how it is set", "Linux 3.17 or later does");
        let (clock, mode, period) = settings(&seen.info).ok_or_else(hidden)?;
        let before = look(&seen.info).ok_or_else(hidden)?;
        let answers = all(from, &ask_rest(seen.fd, decides(clock, mode)))?;
        let rest = Itimerspec::from_bytes(written(&answers[0])).and_then(|t| t.value.to_nanos()).unwrap_or(0);
        let now = Timespec::from_bytes(written(&answers[1])).and_then(Timespec::to_nanos).unwrap_or(0);
        let after = proc::fdinfo(&from.probe.text(&format!("fdinfo/{}", seen.fd))?)?;
        let after = look(&after).ok_or_else(hidden)?;
        let expires = next(&before, (rest, now.saturating_add(rest)), &after, period);
        let timer = Timerfd { clock, flags: seen.flags(), mode, expires, period, ticks: after.ticks };
        if timer.cancels() {
            let why = "it tells the program when the time of day is set, but not that the program was frozen";
            from.note(seen.title(), why);
        }
        Ok(timer)
    }

    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        self.check_alarm(to);
        let nonblock = u64::from(self.flags & flags::NONBLOCK);
        to.to.make(Self::NAME, descr, Sys::TimerfdCreate, vec![(self.clock as u64).into(), nonblock.into()]);
        set_status(Self::NAME, descr, (self.flags, self.flags & flags::NONBLOCK), to);
        let start = self.start(to);
        let (clock, period) = (self.decides(), self.period);
        let value = Itimerspec::from_nanos(period, start.value);
        let value = match start.until.filter(|_| time::is_kept(to)) {
            Some((moment, least)) => Value::Until(Until { clock, moment, least, period }),
            None => Value::Bytes(value.to_bytes().to_vec()),
        };
        let set = vec![Value::Descr(descr), u64::from(start.mode).into(), value, 0.into()];
        // A rest is counted when this is done: the clocks of the tree have been going on since the birth of the first process, and
        // of a large one others may have come before. It must be before the store's numbers are closed.
        let mut call = |sys, args, needs: Fact, makes: Fact| {
            let op = Op::Call { sys, args, expect: Expect::Success };
            let needs = vec![Fact::Born(at.tid), needs];
            let makes = vec![makes, Fact::Files(at.pid)];
            to.to.step(Moment::Place, Self::NAME, Actor::Thread(at.tid), op, needs, makes);
        };
        call(Sys::TimerfdSettime, set, Fact::Made(descr), Fact::Linked(descr));
        if start.ticks != 0 {
            // After it, as each setting begins at 0 (fs/timerfd.c, timerfd_setup).
            let ticks = Value::Bytes(start.ticks.to_ne_bytes().to_vec());
            let args = vec![Value::Descr(descr), TFD_IOC_SET_TICKS.into(), ticks];
            call(Sys::Ioctl, args, Fact::Linked(descr), Fact::Filled(descr));
        }
    }
}
