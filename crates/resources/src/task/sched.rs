//! Scheduling: policy, priority, nice value, processors, priority of input and output, nodes of memory.
//!
//! - seen as    /proc/PID/stat
//! - captured   `sched_getattr`, `sched_getaffinity`, `ioprio_get`, `get_mempolicy`, by the thread itself
//! - recreated  `sched_setattr`, `sched_setaffinity`, `ioprio_set`, `set_mempolicy`
//! - not kept   processors and nodes that it may not have here, a priority of scheduling or of input and output that the user
//!   may not set: the user is told. The nice value of its session (autogroup)

use super::written;
use crate::{At, Blob, Capture, Capturing, Planning, Resource, Trouble};
use abi::consts::cap::{CAP_SYS_ADMIN, CAP_SYS_NICE};
use abi::consts::sched::{IOPRIO_CLASS_RT, IOPRIO_CLASS_SHIFT, IOPRIO_WHO_PROCESS, MPOL_F_RELATIVE_NODES};
use abi::layout::SchedAttr;
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Expect, Namespaces, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const CPU_BYTES: usize = 1024;
/// Of getpriority(2): one thread.
const PRIO_PROCESS: u64 = 0;
/// As many nodes as any kernel has (MAX_NUMNODES).
pub(crate) const NODES: usize = 1024;
/// What it is told of them: it takes one bit less (mm/mempolicy.c, get_nodes).
pub(crate) const MAXNODE: u64 = NODES as u64 + 1;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Sched {
    /// SCHED_OTHER 0, SCHED_FIFO 1… (sched(7))
    #[n(0)]
    pub policy: u32,
    /// SCHED_FLAG_ bits.
    #[n(1)]
    pub flags: u64,
    /// -20 to 19, under any policy.
    #[n(2)]
    pub nice: i32,
    /// The priority of SCHED_FIFO and SCHED_RR.
    #[n(3)]
    pub priority: u32,
    /// Runtime, deadline and period of SCHED_DEADLINE, in nanoseconds.
    #[n(4)]
    pub deadline: (u64, u64, u64),
    /// A bit for each processor that it may run on.
    #[n(5)]
    pub processors: Blob,
    /// Class and level (ioprio_set(2)).
    #[n(6)]
    pub io: u32,
    /// Where its memory comes from (set_mempolicy(2)): mode with flags, and a bit for each node. None: as usual.
    #[n(7)]
    #[cbor(default)]
    #[serde(default)]
    pub memory: Option<(u32, Blob)>,
}

impl Resource for Sched {
    const NAME: &'static str = "sched";
}

impl Capture for Sched {
    fn asks() -> Vec<Call> {
        let (size, nodes) = (
            SchedAttr::SIZE as u64,
            [Arg::Out(4), Arg::Out(NODES / 8), Arg::Int(NODES as u64), Arg::Int(0), Arg::Int(0)],
        );
        vec![
            Call::new(Sys::SchedGetattr, [Arg::Int(0), Arg::Out(SchedAttr::SIZE), Arg::Int(size), Arg::Int(0)]),
            Call::new(Sys::SchedGetaffinity, [Arg::Int(0), Arg::Int(CPU_BYTES as u64), Arg::Out(CPU_BYTES)]),
            Call::new(Sys::IoprioGet, [Arg::Int(IOPRIO_WHO_PROCESS), Arg::Int(0)]),
            Call::new(Sys::GetMempolicy, nodes),
        ]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut asked = Self::asks();
        // A kernel may be without nodes of memory, but not without the rest.
        let nodes = asked.pop().expect("it asks several");
        let answers = super::all(from, &asked)?;
        let memory = from.probe.calls(&[nodes])?.remove(0);
        let attr = SchedAttr::from_bytes(written(&answers[0])).unwrap_or_default();
        let filled = *answers[1].result.as_ref().unwrap_or(&0) as usize;
        let nice = if has_nice(attr.policy) { attr.nice } else { hidden_nice(from)? };
        Ok(Sched {
            policy: attr.policy,
            flags: attr.flags,
            nice,
            priority: attr.priority,
            deadline: (attr.runtime, attr.deadline, attr.period),
            processors: Blob(written(&answers[1])[..filled.min(CPU_BYTES)].to_vec()),
            io: *answers[2].result.as_ref().unwrap_or(&0) as u32,
            memory: memory_policy(&memory),
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let attr = SchedAttr {
            size: SchedAttr::SIZE as u32,
            policy: self.policy,
            flags: self.flags,
            nice: if has_nice(self.policy) { self.nice } else { 0 },
            priority: self.priority,
            runtime: self.deadline.0,
            deadline: self.deadline.1,
            period: self.deadline.2,
            // uclamp is asked for by flags that sched_getattr never returns (kernel/sched/syscalls.c).
            util_min: 0,
            util_max: 0,
        };
        // SCHED_FIFO, SCHED_RR and SCHED_DEADLINE; the others are for all (sched(7)).
        let privileged = [1, 2, 6].contains(&self.policy) || self.nice < to.to.host.nice;
        let expect = if privileged && !may_raise(to) { Expect::Whatever } else { Expect::Success };
        if expect == Expect::Whatever {
            to.to.note("the scheduling priority was higher than this user may set: it may be lower now");
        }
        let (runtime, deadline, period) = self.deadline;
        let wanted = (self.policy, self.flags, self.nice, self.priority, [runtime, deadline, period]);
        if to.to.host.inherited.scheduling != Some(wanted) {
            let args = vec![0.into(), Value::Bytes(attr.to_bytes().to_vec()), 0.into()];
            to.to.arm(Self::NAME, at.tid, Sys::SchedSetattr, args, expect);
        }
        if !has_nice(self.policy) {
            let args = vec![PRIO_PROCESS.into(), 0.into(), (self.nice as u64).into()];
            to.to.arm(Self::NAME, at.tid, Sys::Setpriority, args, expect);
        }
        self.plan_processors(at, to);
        self.plan_io(at, to);
        self.plan_memory(at, to);
    }
}

/// Whether sched_setattr(2) takes a nice value: SCHED_OTHER and SCHED_BATCH. A thread has one besides under any policy, for when it has
/// another again.
fn has_nice(policy: u32) -> bool {
    [0, 3].contains(&policy)
}

/// As the call itself gives it, 20 is 0 and 1 is 19 (getpriority(2)).
fn hidden_nice(from: &Capturing<'_>) -> Result<i32, Trouble> {
    let answer = from.probe.calls(&[Call::new(Sys::Getpriority, [Arg::Int(PRIO_PROCESS), Arg::Int(0)])])?;
    Ok(answer[0].result.map_or(0, |given| 20 - given as i32))
}

/// Whether a priority may be raised: CAP_SYS_NICE counts in the first user namespace only (kernel/sched/syscalls.c).
fn may_raise(to: &Planning<'_>) -> bool {
    to.to.host.has_in_first(CAP_SYS_NICE) && !matches!(to.namespaces, Namespaces::UserPid { .. })
}

/// The numbers of the bits that are set.
fn bits(mask: &[u8]) -> BTreeSet<u32> {
    abi::gathered((0..mask.len() * 8).filter(|n| mask[n / 8] >> (n % 8) & 1 == 1).map(|n| n as u32))
}

impl Sched {
    /// The kernel takes away what is not here, or not allowed: EINVAL where nothing is left (sched_setaffinity(2)).
    fn plan_processors(&self, at: At, to: &mut Planning<'_>) {
        const NONE: &str = "it may run on none of the processors on which it ran: it runs on those of whoever thaws it";
        let here = &to.to.host.processors;
        let wanted = bits(&self.processors.0);
        let left = &wanted & here;
        let (none, some) = (!here.is_empty() && left.is_empty(), left != wanted && left != *here);
        if none {
            to.to.note(NONE);
        } else if some && !here.is_empty() {
            to.to.note("it may run on a part only of the processors to which it was bound");
        }
        if wanted == to.to.host.inherited.processors {
            return;
        }
        let len = self.processors.0.len() as u64;
        let args = vec![0.into(), len.into(), Value::Bytes(self.processors.0.clone())];
        let expect = if none { Expect::Whatever } else { Expect::OrTold(NONE) };
        to.to.arm(Self::NAME, at.tid, Sys::SchedSetaffinity, args, expect);
    }

    /// IOPRIO_CLASS_RT is for who has CAP_SYS_NICE or CAP_SYS_ADMIN in the first user namespace (block/ioprio.c).
    fn plan_io(&self, at: At, to: &mut Planning<'_>) {
        const LOST: &str =
            "the priority of its input and output was higher than this user may set: it may be lower now";
        if to.to.host.inherited.io == Some(self.io) {
            return;
        }
        let realtime = self.io >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_RT;
        let refused = realtime && !may_raise(to) && !to.to.host.has_in_first(CAP_SYS_ADMIN);
        if refused {
            to.to.note(LOST);
        }
        let args = vec![IOPRIO_WHO_PROCESS.into(), 0.into(), u64::from(self.io).into()];
        let expect = if refused { Expect::Whatever } else { Expect::OrTold(LOST) };
        to.to.arm(Self::NAME, at.tid, Sys::IoprioSet, args, expect);
    }

    /// Of the nodes, too, what is not here is taken away, and EINVAL if nothing is left (mm/mempolicy.c, mpol_set_nodemask);
    /// but where they count from the first allowed one (MPOL_F_RELATIVE_NODES), all of them are.
    fn plan_memory(&self, at: At, to: &mut Planning<'_>) {
        const LOST: &str =
            "its memory cannot come from the nodes that it had chosen (set_mempolicy): it comes from any";
        let Some((mode, nodes)) = &self.memory else { return };
        let here = &to.to.host.nodes;
        let away = bits(&nodes.0).difference(here).count();
        if away != 0 && !here.is_empty() && mode & MPOL_F_RELATIVE_NODES == 0 {
            to.to.note(format!("{away} of the nodes of memory that it had chosen (set_mempolicy) cannot be had here"));
        }
        let args = vec![u64::from(*mode).into(), Value::Bytes(nodes.0.clone()), MAXNODE.into()];
        to.to.arm(Self::NAME, at.tid, Sys::SetMempolicy, args, Expect::OrTold(LOST));
    }
}

/// ENOSYS on a kernel without nodes of memory.
pub(crate) fn memory_policy(answer: &Answer) -> Option<(u32, Blob)> {
    const MPOL_DEFAULT: u32 = 0;
    let mode = u32::from_ne_bytes(*answer.out.first()?.first_chunk()?);
    let nodes = Blob(answer.out.get(1)?.clone());
    (answer.result.is_ok() && mode != MPOL_DEFAULT).then_some((mode, nodes))
}
