//! Freeze and thaw. This crate knows how, and no resource: what there is to keep, and how it comes back, it asks
//! `resources`; how a process is stopped and made to act, `tracee`.
//!
//! ```text
//! freeze:  seize ──► identify + capture ──► write ──► end, or release
//! thaw:    read ──► survey ──► plan ──► execute ──► commit ──► stand for it
//! ```
#![forbid(unsafe_code)]

mod ahead;
mod apart;
mod asked;
mod bound;
mod ends;
mod envoys;
mod error;
mod execute;
mod fifo;
mod flight;
mod freeze;
mod guard;
mod host;
mod identify;
mod likeness;
mod look;
mod objects;
mod options;
mod output;
mod outside;
mod progress;
mod pseudo;
mod removed;
mod replace;
mod rooms;
mod save;
mod sockets;
mod supervise;
mod target;
mod thaw;
mod tree;
mod typed;
mod unfit;

/// Closes every descriptor but the standard ones.
pub fn close_inherited() {
    tracee::here::close_range(3, u32::MAX);
}

pub use error::Error;
pub use freeze::{Done, Ending, Frozen, Request, freeze};
pub use guard::{guard, guard_after_all};
pub use host::survey;
pub use look::Look;
pub use output::{Output, Published};
pub use progress::{Progress, Silent};
pub use supervise::{Outcome, stand_for};
pub use thaw::{Loaded, Thawed, load, of_image, plan_for, thaw};
