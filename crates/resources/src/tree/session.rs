//! Session: process group, session and controlling terminal.
//!
//! - seen as    /proc/PID/stat, fields 5 to 8
//! - captured   group, session, and whether it was in the foreground of its terminal
//! - recreated  a leader of a session without a terminal leads its own (`setsid`); any other lives in the session of
//!   the terminal in which it is thawed, a leader of a group or of a session as the leader of a group
//! - refused    nothing
//! - not kept   the session of the old terminal, and membership in a group that another program leads

use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::{Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op};
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
        let role = match () {
            _ if stat.session == stat.pid => Role::SessionLeader,
            _ if stat.pgrp == stat.pid => Role::GroupLeader,
            _ => Role::Member,
        };
        let terminal = stat.terminal.is_some();
        Ok(Session { role, terminal, foreground: terminal && i64::from(stat.tpgid) == i64::from(stat.pgrp) })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let (sys, args) = match (self.role, self.terminal) {
            (Role::SessionLeader, false) => (Sys::Setsid, vec![]),
            (Role::Member, _) => return,
            _ => (Sys::Setpgid, vec![0.into(), 0.into()]),
        };
        let op = Op::Call { sys, args, expect: Expect::Success };
        let needs = vec![Fact::Born(at.tid)];
        to.to.step(Moment::Place, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Files(at.pid)]);
    }
}
