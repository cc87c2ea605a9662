//! Session: process group, session and controlling terminal.
//!
//! - seen as    /proc/PID/stat, fields 5 to 8
//! - captured   group, session, and whether it was in the foreground of its terminal
//! - recreated  `setsid`, `setpgid`, in the order that `lineage` finds. The session that has the terminal, and one that
//!   somebody outside of the tree leads, is that of the terminal in which the tree is thawed. A pseudo-terminal of the tree is
//!   made the terminal of its session by the leader (TIOCSCTTY), before anybody is born into it
//! - refused    a process that nobody in the tree can put into its session
//! - not kept   the session of the old terminal, and membership in a group that a program outside leads

use super::lineage;
use crate::fd::pty;
use crate::{At, Capture, Capturing, Model, Planning, ProcessModel, ProcessState, Resource, Trouble};
use abi::consts::ioctl::{TIOCSCTTY, TIOCSPGRP};
use abi::{Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Pid, Tid, Value};
use serde::{Deserialize, Serialize};

/// What role it had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
pub enum Role {
    /// It led its session.
    #[n(0)]
    SessionLeader,
    /// It led its process group.
    #[n(1)]
    GroupLeader,
    /// Neither.
    #[n(2)]
    Member,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Session {
    /// What role it had.
    #[n(0)]
    pub role: Role,
    /// Whether it had a controlling terminal that is not of the tree.
    #[n(1)]
    pub terminal: bool,
    /// Whether its group was in the foreground of it.
    #[n(2)]
    pub foreground: bool,
    /// The number of its controlling terminal, if that is a pseudo-terminal of the tree.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pts: Option<u32>,
}

impl Resource for Session {
    const NAME: &'static str = "session";
}

impl Capture for Session {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let stat = proc::stat(&from.probe.text("stat")?)?;
        let pid = proc::status(&from.probe.text("status")?)?.tgid;
        let role = match () {
            _ if stat.session == pid => Role::SessionLeader,
            _ if stat.pgrp == pid => Role::GroupLeader,
            _ => Role::Member,
        };
        let pts = stat.terminal.and_then(|device| pty::own(device, from.probe));
        let terminal = stat.terminal.is_some() && pts.is_none();
        Ok(Session { role, terminal, foreground: terminal && i64::from(stat.tpgid) == i64::from(stat.pgrp), pts })
    }

    /// By `lineage`, which knows the others.
    fn plan(&self, _: At, _: &mut Planning<'_>) {}
}

/// A process makes or joins a session or group.
pub(super) fn join(pid: u32, sys: Sys, args: Vec<Value>, needs: Vec<Fact>, makes: Vec<Fact>, to: &mut Planning<'_>) {
    let op = Op::Call { sys, args, expect: Expect::Success };
    let moment = if sys == Sys::Setsid { Moment::Birth } else { Moment::Place };
    let makes = [makes, vec![Fact::Grouped(Pid(pid)), Fact::Settled]].concat();
    to.to.step(moment, Session::NAME, Actor::Thread(Tid(pid)), op, needs, makes);
}

/// A process makes a session of its own, and that gets its terminal: who is born into it then has that, and nobody else.
pub(super) fn lead(p: &ProcessModel, needs: Vec<Fact>, to: &mut Planning<'_>) {
    let (pid, leads) = (p.process.pid, Fact::Group(p.process.pid));
    let own = p.states.iter().find_map(|s| if let ProcessState::Session(s) = s { s.pts } else { None });
    let Some(number) = own else { return join(pid, Sys::Setsid, vec![], needs, vec![leads], to) };
    let (apart, slave) = (Fact::Made(to.to.scratch()), to.to.scratch());
    to.controlling.insert(number, slave);
    join(pid, Sys::Setsid, vec![], needs, vec![apart.clone()], to);
    let mut ask = |(moment, request): (Moment, u64), arg: Value, needs, makes| {
        let args = vec![Value::Descr(slave), request.into(), arg];
        let op = Op::Call { sys: Sys::Ioctl, args, expect: Expect::Success };
        to.to.step(moment, Session::NAME, Actor::Thread(Tid(pid)), op, needs, makes);
    };
    let makes = vec![leads, Fact::Grouped(Pid(pid)), Fact::Settled];
    ask((Moment::Birth, TIOCSCTTY), 0.into(), vec![apart, Fact::Made(slave)], makes);
    // The leader's own group has the foreground from then on. Of no other terminal than its own a process may say so.
    let wanted = to.model.pty(number).and_then(|modes| modes.foreground).filter(|group| *group != pid);
    let there = wanted.filter(|group| has_group(*group, pid, to.model));
    if let Some(group) = there {
        let needs = vec![Fact::Group(pid), Fact::Group(group)];
        ask((Moment::Place, TIOCSPGRP), Value::Bytes(group.to_ne_bytes().to_vec()), needs, vec![Fact::Settled]);
    } else if wanted.is_some() {
        to.to.note(format!(
            "process group {pid} has the foreground of its terminal, as nothing is left of that which had it"
        ));
    }
}

fn has_group(group: u32, session: u32, model: &Model) -> bool {
    let of_group = |p: &&ProcessModel| lineage::group_of(p) == group;
    model.processes.iter().filter(of_group).any(|p| p.process.session == session)
}
