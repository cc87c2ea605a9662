//! Why a capture ends early.

use abi::{Fault, proc::ParseError};
use plan::Refusal;

/// A capture finds something that cannot be kept, or the kernel says no.
#[derive(Debug)]
pub enum Trouble {
    /// The tree is not fit, for these reasons; the others are looked for all the same.
    Refused(Vec<Refusal>),
    /// The kernel said no.
    Fault(Fault),
}

impl From<Refusal> for Trouble {
    fn from(r: Refusal) -> Self {
        Trouble::Refused(vec![r])
    }
}

impl From<Fault> for Trouble {
    fn from(f: Fault) -> Self {
        Trouble::Fault(f)
    }
}

impl From<ParseError> for Trouble {
    fn from(e: ParseError) -> Self {
        Refusal::new(format!("/proc text of {}", e.file), e.what, "this kernel writes it in a way that is not known")
            .into()
    }
}
