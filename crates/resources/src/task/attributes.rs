//! Attributes of a process: execution domain, transparent huge pages, being a subreaper, the score of the
//! out-of-memory killer.
//!
//! - seen as    /proc/PID/personality, /proc/PID/oom_score_adj
//! - captured   those, and by `prctl` what stands in no file
//! - recreated  `personality`, `prctl`; the score by a write to /proc
//! - refused    seccomp; a network, IPC or UTS namespace that is not that of the freezer
//! - not kept   an out-of-memory score below that of who thaws, without CAP_SYS_RESOURCE: the user is told

use super::{ask, ask_into, value_or, written};
use crate::{At, Capture, Capturing, Planning, Resource, Text, Trouble};
use abi::{Arg, Call, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// Told since Linux 6.3 (linux/membarrier.h).
const MEMBARRIER_CMD_GET_REGISTRATIONS: u64 = 1 << 9;
const PR_GET_THP_DISABLE: u64 = 42;
const PR_SET_THP_DISABLE: u64 = 41;
const PR_GET_CHILD_SUBREAPER: u64 = 37;
const PR_SET_CHILD_SUBREAPER: u64 = 36;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Attributes {
    /// The execution domain (personality(2)).
    #[n(0)]
    pub personality: u32,
    /// PR_SET_THP_DISABLE.
    #[n(1)]
    pub thp_disable: u64,
    /// PR_SET_CHILD_SUBREAPER.
    #[n(2)]
    pub subreaper: bool,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    #[n(3)]
    pub oom_score_adj: i32,
    /// MEMBARRIER_CMD_REGISTER_ bits that the process asked for (membarrier(2)).
    #[n(4)]
    #[cbor(default)]
    #[serde(default)]
    pub membarrier: u64,
}

impl Resource for Attributes {
    const NAME: &'static str = "attributes";
}

fn number(text: &[u8], radix: u32) -> i64 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    i64::from_str_radix(text.trim(), radix).unwrap_or(0)
}

/// Modes of a process under which it cannot be asked or made again.
fn refusals(status: &proc::Status) -> Vec<Refusal> {
    let mut all = Vec::new();
    if status.seccomp != 0 {
        let why = "its system calls are filtered (seccomp)";
        all.push(Refusal::new("seccomp", why, "start the program without its sandbox; this is not supported yet"));
    }
    all
}

/// Namespaces in which a thaw here would not put it again.
fn foreign_namespaces(from: &Capturing<'_>) -> Vec<Refusal> {
    let kinds = [("net", "network"), ("ipc", "IPC"), ("uts", "host name")];
    let own = |name: &str| from.probe.link(name).ok() == from.probe.own_link(name).ok();
    let foreign = kinds.iter().filter(|(file, _)| !own(&format!("ns/{file}")));
    let refuse = |(file, kind): &(&str, &str)| {
        let why = format!("it lives in a {kind} namespace of its own");
        Refusal::new(format!("ns/{file}"), why, "run cryopid inside that namespace (nsenter)")
    };
    let mut all: Vec<Refusal> = foreign.map(refuse).collect();
    let link = |name: &str| from.probe.link(name).ok();
    if link("ns/time") != link("ns/time_for_children") {
        let why = "its children would live in another time namespace than it";
        all.push(Refusal::new("ns/time_for_children", why, "this is not supported yet"));
    }
    all
}

impl Capture for Attributes {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = refusals(&proc::status(&from.probe.text("status")?)?);
        refusals.extend(foreign_namespaces(from));
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let barriers =
            Call::new(Sys::Membarrier, [Arg::Int(MEMBARRIER_CMD_GET_REGISTRATIONS), Arg::Int(0), Arg::Int(0)]);
        let answers = from.probe.calls(&[ask(PR_GET_THP_DISABLE), ask_into(PR_GET_CHILD_SUBREAPER, 4), barriers])?;
        Ok(Attributes {
            personality: number(&from.probe.text("personality")?, 16) as u32,
            thp_disable: value_or(&answers[0], 0)?,
            subreaper: written(&answers[1]).first().is_some_and(|b| *b != 0),
            oom_score_adj: number(&from.probe.text("oom_score_adj")?, 10) as i32,
            membarrier: value_or(&answers[2], 0)?,
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        to.to.arm(Self::NAME, at.tid, Sys::Personality, vec![u64::from(self.personality).into()], Expect::Success);
        let prctl = |option: u64, value: u64| vec![option.into(), value.into(), 0.into(), 0.into(), 0.into()];
        to.to.arm(Self::NAME, at.tid, Sys::Prctl, prctl(PR_SET_THP_DISABLE, self.thp_disable), Expect::Success);
        let subreaper = u64::from(self.subreaper);
        to.to.arm(Self::NAME, at.tid, Sys::Prctl, prctl(PR_SET_CHILD_SUBREAPER, subreaper), Expect::Success);
        for bit in (0..64).filter(|bit| self.membarrier >> bit & 1 == 1) {
            let args = vec![(1u64 << bit).into(), 0.into(), 0.into()];
            to.to.arm(Self::NAME, at.tid, Sys::Membarrier, args, Expect::Success);
        }
        self.plan_oom_score(at, to);
    }
}

impl Attributes {
    /// A lower score than one's own takes CAP_SYS_RESOURCE in the first user namespace (fs/proc/base.c).
    fn plan_oom_score(&self, at: At, to: &mut Planning<'_>) {
        const CAP_SYS_RESOURCE: u32 = 24;
        if self.oom_score_adj == to.to.host.oom_score_adj {
            return;
        }
        if self.oom_score_adj < to.to.host.oom_score_adj_min && !to.to.host.has(CAP_SYS_RESOURCE) {
            to.to.note(format!("the out-of-memory score was {} and may not be set so low here", self.oom_score_adj));
            return;
        }
        let path = Value::Bytes(Text(b"/proc/self/oom_score_adj".to_vec()).c_string());
        let descr = to.to.scratch();
        let op = Op::Make {
            sys: Sys::Openat,
            args: vec![(-100i64 as u64).into(), path, 1.into(), 0.into()],
            descrs: vec![descr],
        };
        to.to.step(
            Moment::Place,
            Self::NAME,
            Actor::Thread(at.tid),
            op,
            vec![Fact::Born(at.tid)],
            vec![Fact::Made(descr)],
        );
        let text = self.oom_score_adj.to_string().into_bytes();
        let len = text.len() as u64;
        let op = Op::Call {
            sys: Sys::Write,
            args: vec![Value::Descr(descr), Value::Bytes(text), len.into()],
            expect: Expect::Exactly(len),
        };
        to.to.step(
            Moment::Place,
            Self::NAME,
            Actor::Thread(at.tid),
            op,
            vec![Fact::Made(descr)],
            vec![Fact::Files(at.pid)],
        );
    }
}
