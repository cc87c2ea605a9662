//! Runs tests, several at once, and tells what failed.

use crate::Outcome;
use crate::case::{Case, Flavour, Needs};
use crate::huge::Pages;
use crate::kit::Kit;
use crate::play;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One thing that passes or fails.
pub struct Test {
    /// Its name: section, case, flavour.
    pub name: String,
    /// What it does.
    pub run: Box<dyn Fn(&Kit) -> Outcome + Send + Sync>,
}

impl Test {
    /// A test from a name and a function.
    pub fn new(name: impl Into<String>, run: impl Fn(&Kit) -> Outcome + Send + Sync + 'static) -> Test {
        Test { name: name.into(), run: Box::new(run) }
    }
}

/// Cases times flavours.
#[must_use]
pub fn multiply(section: &str, cases: Vec<Case>, flavours: &[Flavour]) -> Vec<Test> {
    let mut tests = Vec::new();
    for case in cases {
        for flavour in case.flavours.iter().copied().filter(|flavour| flavours.contains(flavour)) {
            let case = case.clone();
            let name = format!("{section}/{}/{}", case.name, flavour.name());
            tests.push(Test::new(name, move |kit| {
                let _pages = if case.needs == Needs::HugePages { Some(Pages::new()?) } else { None };
                play::play(kit, &case, flavour)
            }));
        }
    }
    tests
}

/// How many passed, how many failed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
}

/// Runs all, `jobs` at once; `tell` hears one line for each failure, at once, and every line of a verbose run.
pub fn run(kit: &Kit, tests: Vec<Test>, jobs: usize, tell: &(dyn Fn(&str) + Sync)) -> Tally {
    let (queue, tally) = (Mutex::new(VecDeque::from(tests)), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| work(kit, &queue, &tally, tell));
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn work(kit: &Kit, queue: &Mutex<VecDeque<Test>>, tally: &Mutex<Tally>, tell: &(dyn Fn(&str) + Sync)) {
    loop {
        let Some(test) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
            return;
        };
        let began = Instant::now();
        let outcome = caught(|| (test.run)(kit));
        tell(&line(&test.name, &outcome, began.elapsed().as_secs_f64()));
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.is_ok() { tally.passed += 1 } else { tally.failed += 1 }
    }
}

/// A panic of the harness is a failure of that test, not the end of all.
fn caught(run: impl FnOnce() -> Outcome) -> Outcome {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    outcome.unwrap_or_else(|_| Err("the harness itself panicked".into()))
}

fn line(name: &str, outcome: &Outcome, seconds: f64) -> String {
    match outcome {
        Ok(()) => format!("pass {name} ({seconds:.2} s)"),
        Err(reason) => format!("FAIL {name}: {}", reason.replace('\n', " / ")),
    }
}

/// Whether a name fits a pattern with `*` for any text; without one, any name that contains it fits.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let parts: Vec<&str> = pattern.split('*').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    let Some(mut rest) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    parts[1..parts.len() - 1].iter().all(|part| rest.find(part).map(|at| rest = &rest[at + part.len()..]).is_some())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        assert!(fits("sleep", "case/sleep/root"));
        assert!(fits("*/sleep/*", "case/sleep/root"));
        assert!(fits("case/*root", "case/sleep/root"));
        assert!(!fits("*/sleep", "case/sleep/root"));
        assert!(!fits("a*a", "a"));
    }
}
