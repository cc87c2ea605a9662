//! Stops a process, reads its registers and memory, and makes system calls inside it, in such a way that if we are
//! killed at any instant it goes on unharmed.
//!
//! [`Process::seize`] stops all threads; [`Process::envoy`] lends one of them to system calls; dropping either undoes
//! it. Nothing here knows any kernel resource, prints, or exits.

mod arch;
mod arena;
mod asleep;
mod envoy;
mod error;
pub mod fault;
pub mod guard;
mod heir;
pub mod here;
pub mod ipc;
pub mod job;
mod libc_less;
mod memory;
pub mod message;
mod pagemap;
mod place;
mod process;
pub mod procfs;
pub mod ptrace;
mod status;
mod stopped;
pub mod stub;
pub mod sys;
mod undertaker;
mod vfork;

/// The code of the envoy as bytes, for both sides: a freeze puts it into the vdso of a victim, a thaw into a page.
pub mod blob {
    pub use crate::arch::{
        DATA, Data, ENTRIES_AT, ENTRY, HEAL_STACK, MACHINE, RED_ZONE, SLOTS, SLOTS_AT, code, leave_at, loop_at,
    };
}

pub use envoy::{Envoy, envoys, let_go_on};
pub use error::{EnvoyError, SeizeError};
pub use heir::{Heir, Legacy};
pub use memory::Memory;
pub use pagemap::{Behind, Categories, behind, scan};
pub use process::{Caught, Descriptors, Ended, Process, Queue, Shown, begun};
pub use stopped::Stopped;
