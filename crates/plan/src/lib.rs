//! A plan: how a tree comes back, as data. Steps name the facts that they need and the facts that they
//! make, never each other; the order is derived, so the same image gives the same plan, log and numbers.
//!
//! Nothing here makes a system call: a plan is made, checked and printed on any machine.
#![forbid(unsafe_code)]

mod check;
mod host;
mod order;
mod paths;
mod planner;
mod refusal;
mod step;

pub use check::check;
pub use host::{FileFacts, FilePolicy, Host, Inherited, Options, Pids, PlaceFacts, Standing, Terminal, TimePolicy};
pub use order::{Stuck, order};
pub use planner::Planner;
pub use refusal::Refusal;
pub use step::{
    Actor, Ago, Birth, Clocks, Datagram, Descr, End, Expect, Fact, HostEffect, Ipc, Lasting, Message, Moment,
    Namespaces, Object, OfEnded, Op, Pid, Plan, Removed, Restart, Step, TcpEnd, Tid, Typing, Until, Value, Whom,
};
