//! The judge of the whole program: it freezes real processes, executes the image in another terminal, and asks *them*.
//!
//! Cases are data ([`case`], [`cases`], [`programs`]); [`play`] plays one case in one flavour; [`faults`] holds what is not
//! a round trip: kills, full disks, damaged images, two at once, refusals, job control. Every test works in a [`scene`] of
//! its own, a private directory and a tag in the environment, by which whatever it left behind is found and ended.
#![forbid(unsafe_code)]

pub mod case;
pub mod cases;
pub mod faults;
pub mod huge;
pub mod kit;
pub mod oracle;
pub mod play;
pub mod process;
pub mod programs;
pub mod pty;
pub mod runner;
pub mod scene;
pub mod worlds;

/// What a test says: nothing, or why it failed.
pub type Outcome = Result<(), String>;

/// The error of a call of the harness itself, with the name of what it wanted.
pub(crate) fn fine<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// An expectation about two values, with its name.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, seen: &T) -> Outcome {
    if expected == seen {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, seen {seen:?}"))
}
