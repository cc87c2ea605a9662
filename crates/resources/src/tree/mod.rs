//! Processes and how they belong together.

pub(crate) mod lineage;
pub mod process;
pub mod session;
