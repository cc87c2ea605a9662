//! The real programs: what is typed before the freeze, and what the thawed program must answer.
//!
//! No answer that is waited for is a part of what was typed, because the terminal echoes that.

mod computations;
mod servers;
mod terminal;
mod threads;
mod trees;

use crate::case::Program::System;
use crate::case::Step::{Await, Exit, Type};
use crate::case::{Case, Step};

/// Every case over real programs.
#[must_use]
pub fn all() -> Vec<Case> {
    [terminal::all(), threads::all(), trees::all(), computations::all(), servers::all()].concat()
}

fn talk(name: &str, words: &[&'static str], before: &[Step], after: &[Step]) -> Case {
    Case::real(name, System(words.to_vec()), before.to_vec(), after.to_vec())
}

/// What a command writes is the same as undisturbed, wherever it is frozen. The shell prepares what it needs.
fn same(name: &str, prepare: &'static str, command: &[&'static str]) -> Case {
    let shell = ["bash", "-c", include_str!("../../programs/same.sh"), "bash", prepare];
    let goes_on = [Type("\n"), Await("same 0\r\n"), Exit(5)];
    Case { delay: 0..1500, ..talk(name, &[&shell, command].concat(), &[Await("ready\r\n")], &goes_on) }
}
