//! What differs by machine: the blob of the envoy, and the rules by which the kernel restarts a call.

#[cfg(target_arch = "x86_64")]
#[path = "arch/x86_64.rs"]
mod machine;
pub use machine::*;
