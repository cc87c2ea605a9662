//! Modes: what is set for an address space as a whole.
//!
//! - seen as    /proc/PID/coredump_filter; the rest by `prctl`
//! - captured   which areas a core dump has, whether memory may become executable (PR_SET_MDWE), whether equal pages are
//!   merged (PR_SET_MEMORY_MERGE)
//! - recreated  by a write to /proc where it is not as here; by `prctl`, once every area stands; `madvise` for areas that are not
//!   merged as the others are
//! - refused    segments of its own (modify_ldt), tags in addresses (LAM)
//! - not kept   keys that were allocated and guard nothing (pkey_alloc(2))

use super::area::Area;
use crate::task::{ask, number, value_or, write_own, written};
use crate::{At, Capture, Capturing, Owner, Planning, Resource, Trouble};
use abi::consts::madvise::MADV_UNMERGEABLE;
use abi::consts::prctl::{PR_GET_MDWE, PR_GET_MEMORY_MERGE, PR_SET_MDWE, PR_SET_MEMORY_MERGE};
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// What a survey has to read for it.
pub(crate) const CORE_DUMP: &str = "/proc/self/coredump_filter";

const ARCH_GET_UNTAG_MASK: u64 = 0x4001;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Modes {
    /// Bits of core(5), on a kernel that dumps core.
    #[n(0)]
    pub core_dump: Option<u32>,
    /// PR_MDWE_ bits (prctl(2)).
    #[n(1)]
    pub execution: u64,
    /// PR_SET_MEMORY_MERGE.
    #[n(2)]
    pub merge: u64,
}

impl Resource for Modes {
    const NAME: &'static str = "memory-modes";
}

impl Capture for Modes {
    const OF: Owner = Owner::Space;
    const TEXTS: &'static [&'static str] = &["coredump_filter"];

    fn asks() -> Vec<Call> {
        let segments = Call::new(Sys::ModifyLdt, [Arg::Int(0), Arg::Out(8), Arg::Int(8)]);
        let tags = Call::new(Sys::ArchPrctl, [Arg::Int(ARCH_GET_UNTAG_MASK), Arg::Out(8)]);
        vec![ask(PR_GET_MDWE), ask(PR_GET_MEMORY_MERGE), segments, tags]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = from.probe.calls(&Self::asks())?;
        let refusals = refusals(&answers[2], &answers[3]);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        Ok(Modes {
            core_dump: from.probe.text("coredump_filter").ok().map(|text| number(&text, 16) as u32),
            execution: value_or(&answers[0], 0)?,
            merge: value_or(&answers[1], 0)?,
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if to.to.host.no_written_code && !to.to.refused("PR_SET_MDWE") {
            let why = "whoever thaws it may not make memory executable that was written";
            let remedy = "thaw it from outside of what says so (MemoryDenyWriteExecute= of systemd)";
            to.to.refuse(Refusal::new("PR_SET_MDWE", why, remedy));
        }
        // Who is born has what is here: nobody writes before all are born.
        let here = to.to.host.told.get(CORE_DUMP).map(|text| number(text.as_bytes(), 16) as u32);
        if let Some(filter) = self.core_dump.filter(|filter| Some(*filter) != here) {
            write_own(Self::NAME, "coredump_filter", &format!("{filter:#x}"), at, to);
        }
        if self.merge != 0 {
            // A kernel that merges no pages only needs more of them.
            set(PR_SET_MEMORY_MERGE, self.merge, Expect::Whatever, at, to);
            plan_unmerged(at, to);
        }
        if self.execution != 0 {
            set(PR_SET_MDWE, self.execution, Expect::Success, at, to);
        }
    }
}

/// By `prctl`, once every area stands.
fn set(option: u64, value: u64, expect: Expect, at: At, to: &mut Planning<'_>) {
    let args = vec![option.into(), value.into(), 0.into(), 0.into(), 0.into()];
    call(Sys::Prctl, args, expect, at, to);
}

fn call(sys: Sys, args: Vec<Value>, expect: Expect, at: At, to: &mut Planning<'_>) {
    let needs = vec![Fact::Settled, Fact::Loaded(at.pid)];
    let op = Op::Call { sys, args, expect };
    to.to.step(Moment::Arm, Modes::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
}

/// What the program had taken out of merging, which all areas that could be merged have by now (mm/ksm.c, `ksm_enable_merge_any`).
fn plan_unmerged(at: At, to: &mut Planning<'_>) {
    let areas = to.model.space(at.pid.0).map_or(&[][..], |space| &space.areas);
    let may_be = |area: &&Area| !area.shared && area.page == 0 && !area.is_droppable();
    for area in areas.iter().filter(may_be).filter(|area| !area.has("mg")) {
        let args = vec![area.start.into(), (area.end - area.start).into(), MADV_UNMERGEABLE.into()];
        call(Sys::Madvise, args, Expect::Whatever, at, to);
    }
}

fn refusals(segments: &Answer, tags: &Answer) -> Vec<Refusal> {
    let no_yet = "this is not supported yet";
    let mut all = Vec::new();
    // arch/x86/kernel/ldt.c, read_ldt: nothing where there is no table.
    if segments.result.is_ok_and(|bytes| bytes != 0) {
        all.push(Refusal::new("segments", "it has segments of its own (modify_ldt)", no_yet));
    }
    let mask = written(tags).first_chunk().map(|b| u64::from_ne_bytes(*b));
    if tags.result.is_ok() && mask.is_some_and(|mask| mask != u64::MAX) {
        all.push(Refusal::new("addresses", "it has tags in its addresses (LAM)", no_yet));
    }
    all
}
