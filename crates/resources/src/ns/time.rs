//! Time: the clocks that count from the start of the machine, CLOCK_MONOTONIC and CLOCK_BOOTTIME.
//!
//! - seen as    nothing in /proc; time_namespaces(7)
//! - captured   `clock_gettime`, by each process; what counts is what the last one is told, as late as may be
//! - recreated  a time namespace in which both go on from where they stood: neither a pause nor a reboot is seen, and a sleep
//!   until a moment of these clocks ends when it would have ended
//! - not kept   where no time namespace may be made, or with `--time host`: the clocks are those of the machine, and the user
//!   is told
//!
//! CLOCK_REALTIME is the time of day, and stays it.

use crate::task::{succeeded, written};
use crate::{At, Capture, Capturing, Model, Planning, ProcessState, Resource, Trouble};
use abi::consts::cap::CAP_SYS_ADMIN;
use abi::consts::time::{CLOCK_BOOTTIME, CLOCK_MONOTONIC};
use abi::layout::Timespec;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Clocks, Namespaces, TimePolicy};
use serde::{Deserialize, Serialize};

/// Nanoseconds. Volatile.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Time {
    /// CLOCK_MONOTONIC.
    #[n(0)]
    pub monotonic: u64,
    /// CLOCK_BOOTTIME.
    #[n(1)]
    pub boottime: u64,
}

impl Resource for Time {
    const NAME: &'static str = "timens";
}

impl Capture for Time {
    fn asks() -> Vec<Call> {
        let ask = |clock: i32| Call::new(Sys::ClockGettime, [Arg::Int(clock as u64), Arg::Out(Timespec::SIZE)]);
        vec![ask(CLOCK_MONOTONIC), ask(CLOCK_BOOTTIME)]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        // What counts is what they tell last, and that is not before any timer has expired that is in the image as such.
        let (probe, calls) = (from.probe, Self::asks());
        let answers = if probe.is_last() { probe.calls_now(&calls) } else { probe.calls(&calls) };
        let answers = succeeded(&calls, answers?)?;
        let nanos = |n: usize| Timespec::from_bytes(written(&answers[n])).and_then(Timespec::to_nanos).unwrap_or(0);
        Ok(Time { monotonic: nanos(0), boottime: nanos(1) })
    }

    fn plan(&self, _: At, to: &mut Planning<'_>) {
        if is_kept(to) {
            to.clocks = Some(Clocks { monotonic: self.monotonic, boottime: self.boottime });
        } else {
            to.to.note("CLOCK_MONOTONIC is that of this machine: what the program waits for may come early or late");
        }
    }
}

/// Whether the clocks go on from where they stood.
pub(crate) fn is_kept(to: &Planning<'_>) -> bool {
    let allowed = to.to.host.has(CAP_SYS_ADMIN) || matches!(to.namespaces, Namespaces::UserPid { .. });
    allowed && to.to.host.time_namespaces && to.to.options.time == TimePolicy::Keep
}

/// What the clocks of the tree told when it was frozen. Whoever has a timer that goes by them has them too.
pub(crate) fn recorded(model: &Model) -> &Time {
    of(model).expect("an image with a timer has clocks")
}

/// The clocks of the tree when they were looked at last, if they were recorded.
pub(crate) fn of(model: &Model) -> Option<&Time> {
    let states = model.processes.iter().flat_map(|p| &p.states);
    let recorded = states.filter_map(|s| if let ProcessState::Time(time) = s { Some(time) } else { None });
    recorded.max_by_key(|time| time.boottime)
}
