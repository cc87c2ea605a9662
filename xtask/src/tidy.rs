//! The invariants of the workspace, checked over its sources and manifests.

use crate::source::Function;
use crate::workspace::Workspace;
use crate::{constants, docs, names, rules, unsafety};
use std::fmt;

/// A place where an invariant does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn at(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { place: format!("{path}:{line}"), what: what.into() }
    }

    pub(crate) fn of(place: &str, what: impl Into<String>) -> Finding {
        Finding { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Every check.
fn findings(workspace: &Workspace) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(rules::arrows(&workspace.manifests));
    all.extend(rules::one_list(&workspace.sources));
    all.extend(rules::one_machine(&workspace.sources));
    all.extend(rules::forbid_unsafe(&workspace.sources));
    all.extend(constants::one_place(&workspace.sources));
    all.extend(names::no_resource_named(&workspace.sources));
    for source in &workspace.sources {
        all.extend(rules::silent(source));
        all.extend(rules::heard_or_not(source));
        all.extend(rules::pure(source));
        all.extend(rules::finished(source));
        all.extend(rules::short(source));
        all.extend(unsafety::explained(source));
    }
    all.extend(docs::outdated());
    all
}

pub(crate) fn tidy() -> Result<(), String> {
    let workspace = Workspace::read().map_err(|e| format!("the workspace cannot be read: {e}"))?;
    let mut all = findings(&workspace);
    let functions: Vec<Function> = workspace.sources.iter().flat_map(|s| s.functions()).collect();
    let lengths = lengths(&functions);
    println!("{} functions: {lengths}", functions.len());
    if lengths.median > rules::MEDIAN {
        all.push(Finding::of("functions", format!("the median is over {} lines", rules::MEDIAN)));
    }
    all.iter().for_each(|finding| println!("{finding}"));
    match all.len() {
        0 => Ok(()),
        n => Err(format!("tidy: {n} findings")),
    }
}

struct Lengths {
    median: usize,
    ninth: usize,
    most: usize,
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median {} lines, 90 % at most {}, the longest {}", self.median, self.ninth, self.most)
    }
}

fn lengths(functions: &[Function]) -> Lengths {
    let mut all: Vec<usize> = functions.iter().map(|f| f.lines).collect();
    all.sort_unstable();
    let part =
        |tenths: usize| all.get((all.len() * tenths / 10).min(all.len().saturating_sub(1))).copied().unwrap_or(0);
    Lengths { median: part(5), ninth: part(9), most: part(10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told() {
        let of = |lines| Function { name: "f".into(), line: 1, lines };
        let all: Vec<Function> = [3, 1, 9, 5, 80].map(of).into();
        assert_eq!(lengths(&all).to_string(), "median 5 lines, 90 % at most 80, the longest 80");
        assert_eq!(lengths(&[]).median, 0);
    }
}
