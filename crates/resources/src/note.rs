//! A line that the user sees at the freeze, and that stands in the image: something of the tree that is not kept.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is not kept of what, and what that means.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Note {
    /// The process.
    #[n(0)]
    pub pid: u32,
    /// The resource.
    #[n(1)]
    pub what: String,
    /// What becomes of it.
    #[n(2)]
    pub why: String,
    /// What is to be done about it first, if the same user could not thaw it: then it is a reason not to end the tree.
    #[cbor(skip)]
    #[serde(skip)]
    pub first: Option<&'static str>,
}

/// What is to be done where a capability is missing (capabilities(7)).
pub(crate) const BEYOND: &str = "freeze it as root, with all capabilities";

impl Note {
    /// Whether the same user could not thaw it for want of a capability, even if it is root.
    pub fn is_beyond(&self) -> bool {
        self.first == Some(BEYOND)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.pid, self.what, self.why)
    }
}
