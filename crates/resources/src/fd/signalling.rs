//! Signal-driven input and output: who gets a signal when a description becomes ready (fcntl(2), O_ASYNC).
//!
//! - seen as    `F_GETOWN_EX`, `F_GETSIG`; O_ASYNC in the fdinfo of a descriptor
//! - captured   those
//! - recreated  `F_SETOWN_EX`, `F_SETSIG`, `F_SETFL`, by the process, as its user: for what came until then no signal is sent
//! - refused    a directory whose changes send signals (F_NOTIFY)
//! - not kept   who is outside of the tree gets no signals any more, which is told; whose permission it was to send them, where
//!   that was not the process's user

use super::{S_IFDIR, S_IFMT, flags};
use crate::task::written;
use crate::{At, Capture, Capturing, Model, Planning, ProcessModel, ProcessState, Resource, Told, Trouble};
use abi::consts::fcntl::F_SETFL;
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

const F_SETSIG: u64 = 10;
const F_GETSIG: u64 = 11;
const F_SETOWN_EX: u64 = 15;
pub(super) const F_GETOWN_EX: u64 = 16;
/// The types of an owner (fcntl(2)); the first is a thread.
const F_OWNER_PID: u32 = 1;
const F_OWNER_PGRP: u32 = 2;

/// What one description does when it becomes ready.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Signalled {
    /// The number under which the process has it.
    #[n(0)]
    pub number: u32,
    /// `struct f_owner_ex` (fcntl(2)): F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP, and the id; 0: nobody.
    #[n(1)]
    pub owner: (u32, u32),
    /// F_SETSIG: 0 stands for SIGIO.
    #[n(2)]
    pub signal: u32,
    /// Its status flags, if it sends any (O_ASYNC); else 0.
    #[n(3)]
    pub status: u32,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct SignalDriven {
    /// Of the descriptions that no process before has: those of which something was asked.
    #[n(0)]
    pub all: Vec<Signalled>,
}

impl Resource for SignalDriven {
    const NAME: &'static str = "signal-driven-io";
}

fn asks(seen: &Told) -> [Call; 2] {
    let fd = Arg::Int(seen.number.into());
    let owner = Call::new(Sys::Fcntl, [fd.clone(), Arg::Int(F_GETOWN_EX), Arg::Out(8)]);
    [owner, Call::new(Sys::Fcntl, [fd, Arg::Int(F_GETSIG)])]
}

/// What was answered for a description.
fn signalled(seen: &Told, answers: &[Answer]) -> Signalled {
    let word = |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(*written(&answers[0]).get(at..)?.first_chunk()?)) };
    let owner = answers[0].result.ok().and_then(|_| Some((word(0)?, word(4)?))).filter(|(_, id)| *id != 0);
    Signalled {
        number: seen.number,
        owner: owner.unwrap_or_default(),
        signal: answers[1].result.unwrap_or(0) as u32,
        status: if seen.flags & flags::ASYNC != 0 { seen.flags & !flags::ACCMODE } else { 0 },
    }
}

/// A directory is never ready, and who owns it has had its changes watched (fs/notify/dnotify/dnotify.c).
fn watched(signalled: &Signalled, from: &Capturing<'_>) -> Option<Refusal> {
    let name = format!("fd/{}", signalled.number);
    let is_directory = signalled.owner.1 != 0 && from.probe.stat(&name).is_ok_and(|stat| stat.mode & S_IFMT == S_IFDIR);
    let why = "it sends signals when the directory changes (F_NOTIFY), which is not kept";
    is_directory.then(|| Refusal::new(format!("fd {}", signalled.number), why, "let the program close it"))
}

impl Capture for SignalDriven {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let seen = from.probe.descriptions();
        let answers = from.probe.calls(&seen.iter().flat_map(asks).collect::<Vec<_>>())?;
        let all = seen.iter().zip(answers.chunks(2)).map(|(seen, answers)| signalled(seen, answers));
        let all: Vec<_> = all.filter(|s| (s.owner.1, s.signal, s.status) != (0, 0, 0)).collect();
        let refusals: Vec<_> = all.iter().filter_map(|s| watched(s, from)).collect();
        if refusals.is_empty() { Ok(SignalDriven { all }) } else { Err(Trouble::Refused(refusals)) }
    }

    /// By [`plan`], once it has its user.
    fn plan(&self, _: At, _: &mut Planning<'_>) {}
}

/// What a process has asked for.
fn asked(p: &ProcessModel) -> impl Iterator<Item = (u32, &Signalled)> {
    let all = p.states.iter().find_map(|s| if let ProcessState::SignalDriven(s) = s { Some(&s.all) } else { None });
    all.into_iter().flatten().map(|one| (p.process.pid, one))
}

/// What all of them asked for. Of an end that is closed a signal tells, so those that nobody has are closed before, by all who have them
/// by birth.
pub(crate) fn plan(to: &mut Planning<'_>) {
    let model = to.model;
    let all: Vec<(u32, &Signalled)> = model.processes.iter().flat_map(asked).collect();
    if all.is_empty() {
        return;
    }
    // One after the other, the first when the processes have closed theirs: so the last one closes the last end.
    let own = model.processes.iter().filter(|p| p.process.shares.files.is_none() && !p.process.is_zombie());
    let mut before: Vec<Fact> = own.map(|p| Fact::Closed(Pid(p.process.pid))).collect();
    let spares = std::mem::take(&mut to.spares);
    if spares.is_empty() {
        before.clear();
    }
    for (spare, unneeded) in spares {
        let op = Op::Call { sys: Sys::Close, args: vec![Value::Descr(spare)], expect: Expect::Success };
        let (needs, closed) = ([before, unneeded].concat(), Fact::Linked(to.to.scratch()));
        to.to.step(Moment::Arm, SignalDriven::NAME, Actor::Store, op, needs, vec![closed.clone()]);
        before = vec![closed];
    }
    all.iter().for_each(|(pid, signalled)| signalled.plan(*pid, &before, to));
}

impl Signalled {
    fn plan(&self, pid: u32, before: &[Fact], to: &mut Planning<'_>) {
        let (kind, id) = self.owner;
        if id != 0 && !self.is_inside(to.model) {
            let whom = if kind == F_OWNER_PGRP { "process group" } else { "process" };
            to.to.note(format!(
                "fd {} of process {pid} sent signals to {whom} {id}, outside of the tree: no more",
                self.number
            ));
        }
        let mut set = |command: u64, value: Value| {
            let args = vec![u64::from(self.number).into(), command.into(), value];
            let op = Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success };
            let (who, makes) = (Actor::Thread(Tid(pid)), vec![Fact::Whole(Tid(pid))]);
            let needs = [&[Fact::Settled, Fact::Closed(Pid(pid))], before].concat();
            to.to.step(Moment::Arm, SignalDriven::NAME, who, op, needs, makes);
        };
        if id != 0 && self.is_inside(to.model) {
            set(F_SETOWN_EX, Value::Bytes([kind.to_ne_bytes(), id.to_ne_bytes()].concat()));
        }
        if self.signal != 0 {
            set(F_SETSIG, u64::from(self.signal).into());
        }
        if self.status != 0 {
            set(F_SETFL, u64::from(self.status).into());
        }
    }

    fn is_inside(&self, model: &Model) -> bool {
        match self.owner {
            (F_OWNER_PGRP, group) => model.processes.iter().any(|p| p.process.group == group),
            (F_OWNER_PID, pid) => model.process(pid).is_some(),
            (_, tid) => model.ids().contains(&tid),
        }
    }
}
