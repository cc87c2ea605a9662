//! What must be true of a plan before anything of it is done. A violation is a bug of a resource.

use crate::{Actor, Birth, Fact, HostEffect, Moment, Op, Plan, Step, Value};
use abi::Sys;
use rustc_hash::{FxHashMap, FxHashSet};

/// Proves of an ordered plan: each description and object is made once, and made before it is used; each thread is born
/// once; no number of a process gets two descriptions; who is stopped does nothing more; the store makes only calls that do it no
/// harm; every needed fact stands; one commit, and nothing after it. (What a host effect changes is undone by the value that stands for it, or it does not compile.)
///
/// # Panics
/// With the step that breaks a rule.
pub fn check(plan: &Plan) {
    let (mut made, mut placed) = (FxHashSet::default(), FxHashSet::default());
    let (mut threads, mut stopped) = (FxHashMap::default(), FxHashSet::default());
    let mut facts: FxHashSet<&Fact> = FxHashSet::default();
    for step in &plan.steps {
        for fact in &step.needs {
            assert!(facts.contains(fact), "{fact} does not hold before: {step}");
        }
        made_once(step, &mut made);
        if let Some(number) = places(step) {
            assert!(placed.insert((step.actor, number)), "the number has a description already: {step}");
        }
        acts(step, &mut threads, &mut stopped);
        harmless(step);
        facts.extend(&step.makes);
    }
    let commits = plan.steps.iter().filter(|s| s.op == Op::Commit).count();
    assert_eq!(commits, 1, "a plan commits once");
    assert_eq!(plan.steps.last().map(|s| &s.op), Some(&Op::Commit), "nothing comes after the commit");
}

/// Whoever acts is not stopped yet. `threads` are those that are not the first of their process, with that.
fn acts(step: &Step, threads: &mut FxHashMap<u32, u32>, stopped: &mut FxHashSet<u32>) {
    if let Op::Clone { tid, birth: Birth::Thread { of } } = &step.op {
        threads.insert(tid.0, of.0);
    }
    let Actor::Thread(tid) = step.actor else { return };
    let process = threads.get(&tid.0).copied().unwrap_or(tid.0);
    assert!(!stopped.contains(&process), "its process is stopped already: {step}");
    if let Op::Stop { .. } = step.op {
        stopped.insert(process);
    }
}

/// What the store calls, it calls for another: the thawing process itself must live through it.
fn harmless(step: &Step) {
    if let (Actor::Store, Op::Call { sys, .. } | Op::Make { sys, .. }) = (&step.actor, &step.op) {
        assert!(sys.is_harmless(), "the store may not make that call: {step}");
    }
}

/// The number to which the step puts a description for good, in the table of its actor.
fn places(step: &Step) -> Option<u64> {
    match (&step.op, step.actor, step.moment) {
        (Op::Call { sys: Sys::Dup3, args, .. }, Actor::Thread(_), Moment::Place) => match args[..] {
            [_, Value::Int(number), ..] => Some(number),
            _ => None,
        },
        _ => None,
    }
}

fn made_once(step: &Step, made: &mut FxHashSet<String>) {
    let names: Vec<String> = match &step.op {
        // What each that has it makes for itself, each makes once.
        Op::Make { descrs, .. } => match step.actor {
            Actor::Thread(tid) => descrs.iter().map(|descr| format!("{descr} of {tid}")).collect(),
            _ => descrs.iter().map(ToString::to_string).collect(),
        },
        Op::Reset { descr, .. }
        | Op::Host(
            HostEffect::Removed { descr, .. }
            | HostEffect::Mqueue { descr, .. }
            | HostEffect::Fifo { descr, .. }
            | HostEffect::Own { descr, .. }
            | HostEffect::PseudoTerminal { descr, .. },
        ) => {
            vec![descr.to_string()]
        }
        Op::Join { from, at } => {
            [Some(from), at.as_ref()].into_iter().flatten().map(|end| end.descr.to_string()).collect()
        }
        Op::Host(HostEffect::Ended { opened }) => opened.iter().map(|(descr, ..)| descr.to_string()).collect(),
        Op::Clone { tid, .. } => vec![tid.to_string()],
        Op::Object { object, .. } => vec![object.to_string()],
        _ => return,
    };
    for name in names {
        assert!(made.insert(name), "made twice: {step}");
    }
}
