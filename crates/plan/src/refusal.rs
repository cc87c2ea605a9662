//! The answer of a tree or a host that is not fit: never alone, always the whole list at once.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// One reason why something is not done. Exit status 3.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Refusal {
    /// The process or the file that it is about: `4713`, or empty where there is only one.
    pub whom: String,
    /// The resource: `fd 27`, `thread 4714`, `/usr/lib/libc.so.6`.
    pub what: String,
    /// Why it cannot be done.
    pub why: String,
    /// What the user can do about it.
    pub remedy: String,
    /// After what time at the most it is true no more, if it passes of itself: of what has just ended the kernel cleans up behind its back.
    #[serde(skip)]
    pub passes: Option<Duration>,
}

impl Refusal {
    /// A refusal about a resource; the engine fills in whom.
    pub fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { whom: String::new(), what: what.into(), why: why.into(), remedy: remedy.into(), passes: None }
    }

    /// The same, of what may be over in an instant.
    pub fn passing(self) -> Self {
        const INSTANT: Duration = Duration::from_secs(1);
        self.passing_within(INSTANT)
    }

    /// The same, of what is over after a while.
    pub fn passing_within(self, time: Duration) -> Self {
        Refusal { passes: Some(time), ..self }
    }

    /// The same, about a certain process.
    pub fn of(mut self, whom: impl fmt::Display) -> Self {
        if self.whom.is_empty() {
            self.whom = whom.to_string();
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.whom, self.what, self.why)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}
