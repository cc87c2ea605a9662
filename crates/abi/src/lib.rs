//! What libc and linux-raw-sys lack, for every machine we know: system calls by name, the words in which
//! remote calls are described, register layouts, kernel constants, and parsers of /proc text.
//!
//! Nothing here makes a system call; all of it compiles and is tested on any machine.
#![forbid(unsafe_code)]

pub mod call;
pub mod consts;
pub mod diag;
pub mod errno;
mod gathered;
pub mod layout;
pub mod machine;
pub mod proc;
pub mod seccomp;
pub mod signal;
pub mod sockopt;
mod sort;
pub mod x86_64;

pub use call::{Answer, Arg, Call, Nested, Outs, Place, Sys};
pub use errno::{Errno, Fault};
pub use gathered::gathered;
pub use machine::Machine;
pub use sort::{sort, sort_by, sort_by_key};
