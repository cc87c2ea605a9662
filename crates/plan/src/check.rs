//! What must be true of a plan before anything of it is done. A violation is a bug of a resource.

use crate::{Fact, HostEffect, Op, Plan, Step};
use std::collections::HashSet;

/// Proves of an ordered plan: each description is made once, and made before it is used; each thread is born
/// once; every needed fact stands; one commit, and nothing after it.
///
/// # Panics
/// With the step that breaks a rule.
pub fn check(plan: &Plan) {
    let mut made = HashSet::new();
    let mut facts: HashSet<&Fact> = HashSet::new();
    for step in &plan.steps {
        for fact in &step.needs {
            assert!(facts.contains(fact), "{fact} does not hold before: {step}");
        }
        made_once(step, &mut made);
        facts.extend(&step.makes);
    }
    let commits = plan.steps.iter().filter(|s| s.op == Op::Commit).count();
    assert_eq!(commits, 1, "a plan commits once");
    assert_eq!(plan.steps.last().map(|s| &s.op), Some(&Op::Commit), "nothing comes after the commit");
}

fn made_once(step: &Step, made: &mut HashSet<String>) {
    let names: Vec<String> = match &step.op {
        Op::Make { descrs, .. } => descrs.iter().map(ToString::to_string).collect(),
        Op::Host(HostEffect::RemovedDirectory { descr, .. }) => vec![descr.to_string()],
        Op::Clone { tid, .. } => vec![tid.to_string()],
        _ => return,
    };
    for name in names {
        assert!(made.insert(name), "made twice: {step}");
    }
}
