//! Session: process group, session and controlling terminal.
//!
//! - seen as    /proc/PID/stat, fields 5 to 8
//! - captured   group, session, and whether it was in the foreground of its terminal
//! - recreated  `setsid`, `setpgid`, in the order that `lineage` finds. The session that has the terminal, and one that
//!   somebody outside of the tree leads, is that of the terminal in which the tree is thawed
//! - refused    a process that nobody in the tree can put into its session
//! - not kept   the session of the old terminal, and membership in a group that a program outside leads

use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
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
    /// Whether it had a controlling terminal.
    #[n(1)]
    pub terminal: bool,
    /// Whether its group was in the foreground of it.
    #[n(2)]
    pub foreground: bool,
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
        let terminal = stat.terminal.is_some();
        Ok(Session { role, terminal, foreground: terminal && i64::from(stat.tpgid) == i64::from(stat.pgrp) })
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
