//! How an operation ends when it does not end well.

use abi::Fault;
use plan::Refusal;
use resources::Trouble;
use std::fmt;
use std::time::Duration;

/// Nothing was lost: the tree runs on, or nothing was made.
#[derive(Debug)]
pub enum Error {
    /// The tree or the host is not fit, for all of these reasons.
    Refused(Vec<Refusal>),
    /// The kernel said no.
    Fault(Fault),
    /// Only a guardian may go on: some system calls of the tree come back to it.
    Unguarded,
    /// The image cannot be used: a sentence.
    Image(String),
}

impl Error {
    /// A fault of a call about a path or thing.
    pub fn io(call: &str, whom: impl fmt::Display, e: impl Into<abi::Errno>) -> Error {
        Error::Fault(Fault::new(call, whom, e))
    }

    /// After what time at the most something of what hinders it has passed of itself, if all does.
    pub(crate) fn passes(&self) -> Option<Duration> {
        let Error::Refused(all) = self else { return None };
        all.iter().map(|refusal| refusal.passes).min().flatten()
    }

    /// A single refusal.
    pub fn refuse(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Refused(vec![Refusal::new(what, why, remedy)])
    }
}

impl From<Fault> for Error {
    fn from(f: Fault) -> Self {
        Error::Fault(f)
    }
}

impl From<Trouble> for Error {
    fn from(t: Trouble) -> Self {
        match t {
            Trouble::Refused(r) => Error::Refused(r),
            Trouble::Fault(f) => Error::Fault(f),
        }
    }
}

impl From<image::Damage> for Error {
    fn from(d: image::Damage) -> Self {
        Error::Image(d.to_string())
    }
}

impl From<image::OpenError> for Error {
    fn from(e: image::OpenError) -> Self {
        Error::Image(e.to_string())
    }
}

impl From<image::VerifyError> for Error {
    fn from(e: image::VerifyError) -> Self {
        Error::Image(e.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(all) => all.iter().try_for_each(|r| writeln!(f, "{r}")),
            Error::Fault(fault) => fault.fmt(f),
            Error::Unguarded => f.write_str(
                "its system calls come back to itself, or it has no vdso, so a guardian has to stand for it",
            ),
            Error::Image(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
