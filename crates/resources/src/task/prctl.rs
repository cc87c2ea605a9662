//! What a thread sets for itself by prctl(2): name, signal at its parent's death, dumpability, slack of its timers,
//! and some rarer switches; and its execution domain (personality(2)), if it is not the first one, of which `attributes` has that.
//!
//! - seen as    /proc/PID/task/TID/comm; the rest by `prctl` and `personality`
//! - captured   by the thread itself
//! - recreated  the same way; after the credentials, whose change resets some of it
//! - not kept   of which thread of its parent a process was born (PR_SET_PDEATHSIG; wait4(2), __WNOTHREAD): told, if it wants a signal
//!   at the end of that; the first process's signal at its parent's death, when it is thawed detached, the group with which a
//!   process shares processor cores (PR_SCHED_CORE), what slack it has when it asks for the one that it was born with
//!   (PR_SET_TIMERSLACK of 0), what the processor may not guess at, where it leaves no choice, and that
//!   only root may dump it: the user is told

use super::{ask, ask_about, ask_into, value_or, written};
use crate::{At, Capture, Capturing, Planning, Resource, Text, Trouble};
pub(crate) use abi::consts::prctl::PR_SET_NAME;
use abi::consts::prctl::{
    PR_GET_DUMPABLE, PR_GET_IO_FLUSHER, PR_GET_NAME, PR_GET_PDEATHSIG, PR_GET_SPECULATION_CTRL, PR_GET_TIMERSLACK,
    PR_GET_TSC, PR_MCE_KILL, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_GET, PR_MCE_KILL_SET, PR_SCHED_CORE, PR_SET_DUMPABLE,
    PR_SET_IO_FLUSHER, PR_SET_PDEATHSIG, PR_SET_SPECULATION_CTRL, PR_SET_TIMERSLACK, PR_SET_TSC,
};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Tid, Value};
use serde::{Deserialize, Serialize};

/// The thread may choose.
const PR_SPEC_PRCTL: u64 = 1;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Prctl {
    /// Its name, at most 15 bytes.
    #[n(0)]
    pub name: Text,
    /// The signal that it gets when its parent ends; 0: none.
    #[n(1)]
    pub parent_death_signal: i32,
    /// 0, or 1: it may be traced and dumped.
    #[n(2)]
    pub dumpable: u64,
    /// Nanoseconds.
    #[n(3)]
    pub timer_slack: u64,
    /// PR_TSC_ENABLE 1, PR_TSC_SIGSEGV 2.
    #[n(4)]
    pub tsc: u32,
    /// PR_MCE_KILL_LATE 0, EARLY 1, DEFAULT 2.
    #[n(5)]
    pub mce_kill: u64,
    /// PR_SET_IO_FLUSHER.
    #[n(6)]
    #[cbor(default)]
    #[serde(default)]
    pub io_flusher: u64,
    /// PR_GET_SPECULATION_CTRL of store bypass, indirect branches and flushes of the first cache.
    #[n(7)]
    #[cbor(default)]
    #[serde(default)]
    pub speculation: [u64; 3],
    /// The execution domain (personality(2)); images of earlier releases have it of the first thread only.
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
}

/// personality(2): only asks.
const NO_PERSONALITY: u64 = 0xffff_ffff;

impl Resource for Prctl {
    const NAME: &'static str = "prctl";
}

fn int(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
}

impl Capture for Prctl {
    fn asks() -> Vec<Call> {
        vec![
            ask_into(PR_GET_PDEATHSIG, 4),
            ask(PR_GET_DUMPABLE),
            ask(PR_GET_TIMERSLACK),
            ask_into(PR_GET_TSC, 4),
            ask(PR_MCE_KILL_GET),
            ask(PR_GET_IO_FLUSHER),
            ask_about(PR_GET_SPECULATION_CTRL, 0),
            ask_about(PR_GET_SPECULATION_CTRL, 1),
            ask_about(PR_GET_SPECULATION_CTRL, 2),
            Call::new(
                Sys::Prctl,
                [PR_SCHED_CORE, 0, 0, 0].map(Arg::Int).into_iter().chain([Arg::Out(8)]).collect::<Vec<_>>(),
            ),
            ask_into(PR_GET_NAME, 16),
            Call::new(Sys::Personality, [Arg::Int(NO_PERSONALITY)]),
        ]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = from.probe.calls(&Self::asks())?;
        if answers[9].result.is_ok() && written(&answers[9]).iter().any(|b| *b != 0) {
            from.note("core scheduling", "it shared processor cores with its own group only; it will with any process");
        }
        let parent_death_signal = int(written(&answers[0])) as i32;
        if let Some(thread) = from.probe.born_of().filter(|_| parent_death_signal != 0) {
            let why = format!(
                "it waits for the end of thread {thread}, of which it was born; thawed, for that of the first thread of its parent"
            );
            from.note("signal at its parent's death", why);
        }
        Ok(Prctl {
            name: written(&answers[10]).split(|byte| *byte == 0).next().unwrap_or_default().into(),
            parent_death_signal,
            dumpable: value_or(&answers[1], 1)?,
            timer_slack: value_or(&answers[2], 50_000)?,
            tsc: int(written(&answers[3])),
            mce_kill: value_or(&answers[4], PR_MCE_KILL_DEFAULT)?,
            // Told only to who has CAP_SYS_RESOURCE, which setting it takes as well.
            io_flusher: answers[5].result.unwrap_or(0),
            // ENODEV: a processor of a kind that has none.
            speculation: [6, 7, 8].map(|n: usize| answers[n].result.unwrap_or(0)),
            personality: answers[11].result.ok().map(|domain| domain as u32),
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let is_root = to.model.processes[0].process.pid == at.pid.0;
        let detached = is_root && to.to.options.standing == plan::Standing::Detached;
        if detached && self.parent_death_signal != 0 {
            // Whoever thaws is its parent and ends at once, which would be felt as the death of the parent.
            to.to.note("it had asked for a signal at the end of its parent; a detached program has none");
        }
        if self.dumpable > 1 {
            to.to.note("only root could dump its memory, which nobody may ask for: now its user can, too");
        }
        let host = to.to.host;
        let had = &host.inherited;
        if let Some(domain) = self.personality.filter(|_| at.tid.0 != at.pid.0 && self.personality != had.personality) {
            let domain = vec![u64::from(domain).into()];
            to.to.arm(Self::NAME, at.tid, Sys::Personality, domain, Expect::Success);
        }
        let death_signal = if detached { 0 } else { self.parent_death_signal };
        // It is felt at the end of the thread that made it: here the first one of its parent, which may be one that ends.
        let parent = to.model.process(at.pid.0).and_then(|p| to.model.process(p.process.parent));
        let ends = parent.filter(|p| p.process.ended.is_some()).map(|p| Fact::Ended(Tid(p.process.pid)));
        let mut set = |option: u64, a: plan::Value, b: u64, expect| {
            let op = Op::Call { sys: Sys::Prctl, args: vec![option.into(), a, b.into(), 0.into(), 0.into()], expect };
            let late = ends.clone().filter(|_| option == PR_SET_PDEATHSIG);
            let needs = [Fact::Settled].into_iter().chain(late).collect();
            to.to.step(Moment::Arm, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
        };
        set(PR_SET_NAME, Value::Bytes(self.name.c_string()), 0, Expect::Success);
        if had.timer_slack != Some(self.timer_slack) {
            set(PR_SET_TIMERSLACK, self.timer_slack.into(), 0, Expect::Success);
        }
        // A newborn has none (kernel/fork.c, copy_process).
        if death_signal != 0 {
            set(PR_SET_PDEATHSIG, (death_signal as u64).into(), 0, Expect::Success);
        }
        if self.tsc == 2 {
            set(PR_SET_TSC, 2.into(), 0, Expect::Success);
        }
        if self.mce_kill != PR_MCE_KILL_DEFAULT {
            set(PR_MCE_KILL, PR_MCE_KILL_SET.into(), self.mce_kill, Expect::Success);
        }
        if self.io_flusher != 0 {
            set(PR_SET_IO_FLUSHER, self.io_flusher.into(), 0, Expect::Success);
        }
        const SPECULATION: &str =
            "what its processor may guess at (PR_SET_SPECULATION_CTRL) cannot be set here as it had asked";
        // ENXIO where this processor or kernel leaves no choice.
        for (kind, value) in (0..).zip(self.speculation).filter(|(_, value)| value & PR_SPEC_PRCTL != 0) {
            set(PR_SET_SPECULATION_CTRL, kind.into(), value & !PR_SPEC_PRCTL, Expect::OrTold(SPECULATION));
        }
        // 2, "dumpable by root only", is what a setuid program has and what nobody may set.
        set(PR_SET_DUMPABLE, self.dumpable.min(1).into(), 0, Expect::Success);
    }
}
