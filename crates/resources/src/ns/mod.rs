//! Namespaces.

pub mod ipc;
pub mod time;
