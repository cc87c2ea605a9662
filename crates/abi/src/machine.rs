//! The machines cryopid knows, as data: any of them can read an image of any other.

use serde::{Deserialize, Serialize};

/// An instruction set with its system call convention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Machine {
    /// AMD64, Intel 64.
    X86_64,
}

impl Machine {
    /// The name that `uname -m` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Machine::X86_64 => "x86_64",
        }
    }
}
