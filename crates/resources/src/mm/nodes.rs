//! The nodes from which single areas take their memory (mbind(2)), as the kernel divides the areas: neighbours that are alike in all
//! else may differ in this.

use super::space::Space;
use crate::task::{sched, written};
use crate::{At, Blob, Capturing, Planning, Resource};
use abi::{Arg, Call, Fault, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};

/// Where the memory of an area comes from.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Nodes {
    /// Its first address, and the one behind the last.
    #[n(0)]
    pub area: (u64, u64),
    /// Mode with flags (set_mempolicy(2)).
    #[n(1)]
    pub mode: u32,
    /// A bit for each node.
    #[n(2)]
    pub nodes: Blob,
}

fn ask(area: &proc::Area, nodes: [Arg; 2]) -> Call {
    const MPOL_F_ADDR: u64 = 2;
    let [room, count] = nodes;
    Call::new(Sys::GetMempolicy, [Arg::Out(4), room, count, Arg::Int(area.start), Arg::Int(MPOL_F_ADDR)])
}

/// What is asked of these areas at first, for [`of`].
pub(super) fn asks(areas: &[proc::Area]) -> Vec<Call> {
    areas.iter().map(|area| ask(area, [0, 0].map(Arg::Int))).collect()
}

/// Those that have some of their own, from what was asked at first.
pub(super) fn of(areas: &[proc::Area], asked: &[Call], from: &mut Capturing<'_>) -> Result<Vec<Nodes>, Fault> {
    let answers = from.probe.calls(asked)?;
    let has_own = |answer: &abi::Answer| answer.result.is_ok() && written(answer).iter().any(|byte| *byte != 0);
    let own: Vec<&proc::Area> = areas.iter().zip(&answers).filter(|(_, a)| has_own(a)).map(|(area, _)| area).collect();
    let room = || [Arg::Out(sched::NODES / 8), Arg::Int(sched::NODES as u64)];
    let asked: Vec<Call> = own.iter().map(|area| ask(area, room())).collect();
    let answers = from.probe.calls(&asked)?;
    let told = |(area, answer): (&&proc::Area, &abi::Answer)| {
        let (mode, nodes) = sched::memory_policy(answer)?;
        Some(Nodes { area: (area.start, area.end), mode, nodes })
    };
    Ok(own.iter().zip(&answers).filter_map(told).collect())
}

impl Nodes {
    /// Once all is in: whoever was born of the process has areas of its own, and pages move to where they belong.
    pub(super) fn plan(&self, at: At, to: &mut Planning<'_>) {
        const LOST: &str =
            "areas cannot take memory from the nodes that they had chosen (mbind): they take it from any";
        const MPOL_MF_MOVE: u64 = 2;
        let (start, end) = self.area;
        let args = vec![
            start.into(),
            (end - start).into(),
            u64::from(self.mode).into(),
            Value::Bytes(self.nodes.0.clone()),
            sched::MAXNODE.into(),
            MPOL_MF_MOVE.into(),
        ];
        let op = Op::Call { sys: Sys::Mbind, args, expect: Expect::OrTold(LOST) };
        let needs = vec![Fact::Loaded(at.pid)];
        to.to.step(Moment::Fill, Space::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
    }
}
