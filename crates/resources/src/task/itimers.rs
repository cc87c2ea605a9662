//! Interval timers: ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF (setitimer(2), alarm(2)).
//!
//! - seen as    nothing in /proc
//! - captured   `getitimer`, soon after the process was stopped: the time that is left, and the period;
//!   not what they sent since (`ticks`)
//! - recreated  `setitimer`, last of all: they go on from where they stood
//! - not kept   nothing

use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::layout::{Itimerval, Timeval};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Expect, Value};
use serde::{Deserialize, Serialize};

/// One timer that is armed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Itimer {
    /// ITIMER_REAL 0, ITIMER_VIRTUAL 1, ITIMER_PROF 2.
    #[n(0)]
    pub which: u32,
    /// Microseconds that are left. Volatile.
    #[n(1)]
    pub left: u64,
    /// Microseconds of the period; 0: once.
    #[n(2)]
    pub period: u64,
}

/// The timers that are armed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Itimers {
    /// Ascending.
    #[n(0)]
    pub armed: Vec<Itimer>,
}

impl Resource for Itimers {
    const NAME: &'static str = "itimers";
}

const fn micros(t: Timeval) -> u64 {
    t.sec as u64 * 1_000_000 + t.usec as u64
}

const fn timeval(micros: u64) -> Timeval {
    Timeval { sec: (micros / 1_000_000) as i64, usec: (micros % 1_000_000) as i64 }
}

impl Capture for Itimers {
    fn asks() -> Vec<Call> {
        [0, 1, 2].map(|w| Call::new(Sys::Getitimer, [Arg::Int(w), Arg::Out(Itimerval::SIZE)])).into()
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = super::all(from, &Self::asks())?;
        let values = answers.iter().filter_map(|a| Itimerval::from_bytes(super::written(a)));
        let timers =
            (0..).zip(values).map(|(which, v)| Itimer { which, left: micros(v.value), period: micros(v.interval) });
        // A periodic ITIMER_REAL whose signal waits to be taken stands still until it is (kernel/signal.c, dequeue_signal).
        Ok(Itimers { armed: timers.filter(|t| t.left != 0 || (t.which == 0 && t.period != 0)).collect() })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        for t in &self.armed {
            let value = Itimerval { interval: timeval(t.period), value: timeval(t.left.max(1)) };
            let args = vec![u64::from(t.which).into(), Value::Bytes(value.to_bytes().to_vec()), 0.into()];
            to.to.start(Self::NAME, at.tid, Sys::Setitimer, args, Expect::Success);
        }
    }
}
