//! Processes and how they belong together.

pub mod process;
pub mod session;
