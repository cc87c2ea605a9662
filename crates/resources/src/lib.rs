//! The Model, and every resource of the kernel that a tree of processes can have, one file each.
//!
//! A file holds a resource's whole life: its record (what the image holds), its capture (asked of a [`Probe`],
//! never of the kernel) and its plan (steps that make it again). The one list of resources is `list.rs`.
//! Nothing here makes a system call, so all of it is tested on recorded text, on any machine.
#![forbid(unsafe_code)]

mod list;
mod model;
mod note;
mod planning;
mod probe;
mod text;
mod trouble;
mod validate;

pub mod fd;
pub mod ipc;
pub mod mm;
pub mod ns;
pub mod task;
pub mod tree;

pub use fd::tty::{Typed, Waiting};
pub use list::{Coverage, Description, ProcessState, ThreadState, TreeState, UNSUPPORTED, coverage};
pub use model::{Model, ProcessModel, ThreadModel};
pub use note::Note;
pub use planning::{Planning, incomplete, never_made, numbers, plan};
pub use probe::{
    Buffers, Capturing, Entry, External, Files, Holder, Keep, Message, Probe, Queue, Removed, Saved, SavedSegment,
    Still, Tcp, Told, Which,
};
pub use text::{Blob, Text};
pub use trouble::Trouble;

use plan::{Pid, Tid};

/// Whom a step is for: the process, and its thread that acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The process.
    pub pid: Pid,
    /// The thread; of what belongs to a whole process, its leader.
    pub tid: Tid,
}

/// A resource.
pub trait Resource: Sized {
    /// Its name in plans, refusals and `inspect`.
    const NAME: &'static str;
}

/// Which object of the kernel a resource belongs to: some are shared by processes (clone(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The process or thread alone.
    Itself,
    /// The address space.
    Space,
    /// The filesystem context.
    Fs,
    /// The table of signal handlers.
    Handlers,
}

/// What belongs to a process or to a thread. (What stands behind a descriptor is an [`fd::Kind`].)
pub trait Capture: Resource {
    /// What it belongs to.
    const OF: Owner = Owner::Itself;
    /// The calls of which it asks the answers in any case: all resources' are made at once, and their answers are there when
    /// [`Capture::capture`] makes them.
    fn asks() -> Vec<abi::Call> {
        Vec::new()
    }
    /// The texts below /proc/PID for which it asks in any case: they may be read before.
    const TEXTS: &'static [&'static str] = &[];
    /// The links there, likewise.
    const LINKS: &'static [&'static str] = &[];
    /// Asks what is to be known of it. Consumes nothing and changes nothing.
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble>;
    /// Of a resource of threads: whether this one has none of it, of which there is no record.
    fn is_none(&self) -> bool {
        false
    }
    /// Asks what can only be known at the very end.
    fn conclude(&mut self, _: &dyn Still) -> Result<(), abi::Fault> {
        Ok(())
    }
    /// Appends the steps that make it again.
    fn plan(&self, at: At, to: &mut Planning<'_>);
}

/// What belongs to a tree as a whole. It is asked of one process, once all that belongs to each was.
pub trait CaptureTree: Resource {
    /// Asks what is to be known of it: nothing, if the tree has none of it. Consumes nothing and changes nothing.
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble>;
    /// Appends the steps that make it again, by the first thread of the tree.
    fn plan(&self, at: At, to: &mut Planning<'_>);
}
