//! Ticks: signals of timers that go on while their process stands still.
//!
//! A timer is asked for the time that is left soon after the process was stopped, and what waits is looked at last, when its
//! memory is in the image. What the timer sent in between, it sends once more when the time that was left has gone by. So it is
//! left out, as the time of a frozen process does not count.

use super::{itimers::Itimers, posix_timers::PosixTimers};
use crate::{ProcessModel, ProcessState, Queue, Still, ThreadState};
use abi::signal::{Siginfo, Tick};

/// Whether the image has the timer with time left.
fn goes_on(tick: Tick, states: &[ProcessState]) -> bool {
    states.iter().any(|state| match (tick, state) {
        (Tick::Interval(which), ProcessState::Itimers(Itimers { armed })) => {
            armed.iter().any(|timer| timer.which == which && timer.left != 0)
        }
        (Tick::Posix(id), ProcessState::PosixTimers(PosixTimers { timers })) => {
            timers.iter().any(|timer| timer.id == id && timer.left != 0)
        }
        _ => false,
    })
}

/// The id of the periodic timer of the process that sends this anew as soon as it is set: a POSIX timer whose signal waits rests until somebody takes
/// it, and counts what is due in between with it (timer_getoverrun(2)). What was sent before it was set anew is nobody's any more: then more than a period
/// may be left.
pub(crate) fn sent_anew(info: &Siginfo, states: &[ProcessState]) -> Option<i32> {
    let Some(Tick::Posix(id)) = info.tick() else { return None };
    let is_its = |state: &ProcessState| match state {
        ProcessState::PosixTimers(all) => {
            all.timers.iter().any(|timer| timer.id == id && (1..=timer.period).contains(&timer.left))
        }
        _ => false,
    };
    states.iter().any(is_its).then_some(id)
}

/// Takes out of what waits for a process what its timers sent since it was stopped.
pub(crate) fn leave_out(process: &mut ProcessModel, living: &[&dyn Still]) {
    let ended = process.threads.len() - living.len();
    let (states, threads) = (&process.states, &mut process.threads[ended..]);
    for (thread, last) in threads.iter_mut().zip(living) {
        let is_late = |info: &Siginfo, queue| {
            let Some(tick) = info.tick().filter(|tick| goes_on(*tick, states)) else { return false };
            !last.waited(queue).iter().any(|before| before.tick() == Some(tick))
        };
        for state in &mut thread.states {
            if let ThreadState::Signal(signal) = state {
                signal.pending.retain(|info| !is_late(info, Queue::Thread));
                signal.process_pending.retain(|info| !is_late(info, Queue::Process));
            }
        }
    }
}
