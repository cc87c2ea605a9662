//! What differs by machine: the blob of the envoy, and the rules by which the kernel restarts a call.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
