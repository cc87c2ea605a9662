//! Seccomp: what keeps a thread from system calls, strict mode or filters.
//!
//! - seen as    PR_GET_SECCOMP, PTRACE_SECCOMP_GET_FILTER
//! - captured   the mode; each filter, with whether it logs, in the order in which they were installed
//! - recreated  `seccomp`; filters that all threads of a process have in common at once for all of them (TSYNC), so that a
//!   later one can be installed for all of them, too. From before the first of them until the tree runs, the thread is traced
//!   in such a way that none counts; so they can come before the credentials, which may leave no right to install any
//! - refused    for who may not look at filters, or suspend them: freezing and thawing take CAP_SYS_ADMIN; a filter that
//!   leaves calls to a listener
//! - not kept   that some threads of a process, but not all, have a filter by descent from each other: told. What they keep a thread from
//!   is the same, and a filter has no state of its own; to share them, threads would have to be born of a thread that is filtered already

use super::{ask, value_or};
use crate::{At, Blob, Capture, Capturing, Planning, ProcessModel, Resource, ThreadState, Trouble};
use abi::consts::prctl::PR_GET_SECCOMP;
use abi::{Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Namespaces, Op, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

/// Modes of a thread, and what sets them (linux/seccomp.h).
const STRICT: u64 = 1;
const FILTERED: u64 = 2;
const SET_MODE_STRICT: u64 = 0;
const SET_MODE_FILTER: u64 = 1;
const FLAG_TSYNC: u64 = 1;
const FLAG_LOG: u64 = 2;
/// What mitigations the thread has is kept by itself: `prctl`.
const FLAG_SPEC_ALLOW: u64 = 4;

/// A filter.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Filter {
    /// Its program: `struct sock_filter`, eight bytes each (linux/filter.h).
    #[n(0)]
    pub program: Blob,
    /// SECCOMP_FILTER_FLAG_LOG.
    #[n(1)]
    pub log: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Seccomp {
    /// 0: none, 1: strict, 2: filters.
    #[n(0)]
    pub mode: u64,
    /// The one that was installed first at the beginning.
    #[n(1)]
    pub filters: Vec<Filter>,
}

impl Resource for Seccomp {
    const NAME: &'static str = "seccomp";
}

impl Capture for Seccomp {
    fn asks() -> Vec<Call> {
        vec![ask(PR_GET_SECCOMP)]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mode = value_or(&from.probe.calls(&Self::asks())?[0], 0)?;
        if mode != FILTERED {
            return Ok(Seccomp { mode, filters: Vec::new() });
        }
        let filters = from.probe.filters()?;
        if filters.is_empty() {
            let why = "the kernel does not tell by what its system calls are filtered";
            return Err(Refusal::new("seccomp", why, "use a kernel with CONFIG_CHECKPOINT_RESTORE").into());
        }
        if filters.iter().any(abi::seccomp::Filter::notifies) {
            let why = "another process answers some of its system calls (SECCOMP_RET_USER_NOTIF)";
            return Err(Refusal::new("seccomp", why, "start the program without that supervisor").into());
        }
        let filters = filters.into_iter().map(|f| Filter { program: Blob(f.program), log: f.log }).collect();
        Ok(Seccomp { mode, filters })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if self.mode == 0 || self.refuse(to) {
            return;
        }
        let me = Fact::Unfiltered(at.tid);
        step(at.tid, Op::Unfilter, vec![Fact::Settled], me.clone(), to);
        if self.mode == STRICT {
            let args = vec![SET_MODE_STRICT.into(), 0.into(), 0.into()];
            let op = Op::Call { sys: Sys::Seccomp, args, expect: Expect::Success };
            return step(at.tid, op, vec![me], Fact::Whole(at.tid), to);
        }
        let model = to.model;
        let all = model.process(at.pid.0).map_or(Vec::new(), threads);
        let common = common(&all);
        let synced = Fact::Synced(at.pid);
        if all.first().is_some_and(|(first, _)| *first == at.tid) {
            note_descent(&all, common, to);
            let sync = if all.len() > 1 { FLAG_TSYNC } else { 0 };
            let others: Vec<Fact> = all.iter().map(|(tid, _)| Fact::Unfiltered(*tid)).collect();
            for filter in &self.filters[..common] {
                step(at.tid, filter.install(sync), others.clone(), synced.clone(), to);
            }
        }
        let needs: Vec<Fact> = [me].into_iter().chain((common > 0).then_some(synced)).collect();
        for filter in &self.filters[common..] {
            step(at.tid, filter.install(0), needs.clone(), Fact::Whole(at.tid), to);
        }
    }
}

/// Before all that takes power away, whichever thread it is of.
fn step(tid: Tid, op: Op, needs: Vec<Fact>, makes: Fact, to: &mut Planning<'_>) {
    to.to.step(Moment::Fill, Seccomp::NAME, Actor::Thread(tid), op, needs, vec![makes, Fact::Whole(tid)]);
}

/// The threads of a process that live.
fn threads(p: &ProcessModel) -> Vec<(Tid, &[Filter])> {
    fn filters(state: &ThreadState) -> Option<&[Filter]> {
        if let ThreadState::Seccomp(s) = state { Some(&s.filters) } else { None }
    }
    let own = p.threads.iter().skip(p.process.ended.is_some().into());
    own.map(|t| (Tid(t.tid), t.states.iter().find_map(filters).unwrap_or_default())).collect()
}

/// With how many filters all of them begin.
fn common(all: &[(Tid, &[Filter])]) -> usize {
    let Some((_, first)) = all.first() else { return 0 };
    let same = |other: &[Filter]| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    all.iter().map(|(_, filters)| same(filters)).min().unwrap_or(0)
}

/// A filter can be installed for all threads only while those of each begin those of the caller, and that not by their text but
/// by descent (kernel/seccomp.c, is_ancestor).
fn note_descent(all: &[(Tid, &[Filter])], common: usize, to: &mut Planning<'_>) {
    let further: Vec<&Filter> = all.iter().filter_map(|(_, filters)| filters.get(common)).collect();
    if further.iter().enumerate().any(|(n, f)| further[..n].contains(f)) {
        to.to.note("some of its threads had filters of system calls in common; now each has its own, so that a further one cannot be installed for all threads at once");
    }
}

impl Filter {
    fn install(&self, flags: u64) -> Op {
        let log = if self.log { FLAG_LOG } else { 0 };
        // struct sock_fprog: a count of two bytes, and at eight a pointer.
        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&((self.program.0.len() / 8) as u16).to_ne_bytes());
        let program = Value::Nested { bytes, at: 8, inner: self.program.0.clone() };
        let args = vec![SET_MODE_FILTER.into(), (flags | log | FLAG_SPEC_ALLOW).into(), program];
        Op::Call { sys: Sys::Seccomp, args, expect: Expect::Exactly(0) }
    }
}

impl Seccomp {
    /// Whether a kernel could have shown it.
    pub(crate) fn is_sound(&self) -> bool {
        /// linux/bpf_common.h, BPF_MAXINSNS.
        const INSTRUCTIONS: usize = 4096;
        let program =
            |f: &Filter| f.program.0.len().is_multiple_of(8) && (1..=INSTRUCTIONS).contains(&(f.program.0.len() / 8));
        self.mode <= FILTERED && (self.mode == FILTERED) != self.filters.is_empty() && self.filters.iter().all(program)
    }

    /// Whether whoever thaws may not suspend filters; says so, once.
    fn refuse(&self, to: &mut Planning<'_>) -> bool {
        let may = to.to.host.may_suspend_filters() && !matches!(to.namespaces, Namespaces::UserPid { .. });
        if !may && !to.to.refused(Self::NAME) {
            let (why, remedy) = match to.to.host.filtered {
                true => (
                    "its system calls were filtered, and so are those of cryopid here",
                    "thaw it outside of this sandbox",
                ),
                false => ("its system calls were filtered, which takes CAP_SYS_ADMIN to make again", "thaw it as root"),
            };
            to.to.refuse(Refusal::new(Self::NAME, why, remedy));
        }
        !may
    }
}
