//! Processes and how they belong together.

pub mod lineage;
pub mod process;
pub mod session;
pub mod stops;
