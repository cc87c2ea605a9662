//! Namespaces.

pub mod time;
