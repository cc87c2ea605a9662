//! From steps that name facts to steps in an order: a stable topological sort.

use crate::{Fact, Moment, Step};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Why no order exists. Always a bug of a resource, told by the names of its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// A step needs a fact that no step makes.
    Nobody {
        /// What is needed.
        fact: Fact,
        /// By whom.
        step: String,
    },
    /// These steps wait for each other.
    Cycle(Vec<String>),
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stuck::Nobody { fact, step } => write!(f, "nobody makes {fact}, needed by: {step}"),
            Stuck::Cycle(steps) => write!(f, "these steps wait for each other: {}", steps.join(" | ")),
        }
    }
}

/// Who waits for what. A fact that many make and many need is a node of its own: not all pairs of them are.
struct Waits {
    /// Facts that a step has a part in making.
    makes: Vec<Vec<usize>>,
    /// How many makers of a fact are not done yet, and who waits for it.
    facts: Vec<(usize, Vec<usize>)>,
    /// Steps that wait for a step itself, not for a fact.
    wake: Vec<Vec<usize>>,
    /// How many facts and steps each step still waits for.
    left: Vec<usize>,
}

fn waits(steps: &[Step]) -> Result<Waits, Stuck> {
    let mut ids: FxHashMap<&Fact, usize> = FxHashMap::default();
    let mut makers: Vec<Vec<usize>> = Vec::new();
    let mut w =
        Waits { makes: Vec::new(), facts: Vec::new(), wake: vec![Vec::new(); steps.len()], left: vec![0; steps.len()] };
    for (i, step) in steps.iter().enumerate() {
        w.makes.push(Vec::with_capacity(step.makes.len()));
        for fact in &step.makes {
            let id = *ids.entry(fact).or_insert(makers.len());
            makers.resize(makers.len().max(id + 1), Vec::new());
            makers[id].push(i);
            w.makes[i].push(id);
        }
    }
    w.facts = makers.iter().map(|by| (by.len(), Vec::new())).collect();
    for (i, step) in steps.iter().enumerate() {
        for fact in &step.needs {
            let nobody = || Stuck::Nobody { fact: fact.clone(), step: step.to_string() };
            let id = *ids.get(fact).ok_or_else(nobody)?;
            // What it needs and has a part in making, it waits for the others to make.
            if step.makes.contains(fact) {
                makers[id].iter().filter(|m| **m != i).for_each(|m| w.wake[*m].push(i));
                w.left[i] += makers[id].iter().filter(|m| **m != i).count();
            } else {
                w.facts[id].1.push(i);
                w.left[i] += 1;
            }
        }
    }
    Ok(w)
}

impl Waits {
    /// The steps that wait no more once this one is done.
    fn done(&mut self, step: usize) -> Vec<usize> {
        let mut woken = std::mem::take(&mut self.wake[step]);
        for fact in &self.makes[step] {
            let (makers, waiting) = &mut self.facts[*fact];
            *makers -= 1;
            if *makers == 0 {
                woken.append(waiting);
            }
        }
        woken.iter().for_each(|next| self.left[*next] -= 1);
        abi::sort(&mut woken);
        woken.dedup();
        woken.retain(|next| self.left[*next] == 0);
        woken
    }
}

/// Kahn's algorithm; among the steps that are ready the earliest moment goes first, and within a moment the
/// one that was asked for first. A fact that several steps make holds when the last of them is done.
pub fn order(mut steps: Vec<Step>) -> Result<Vec<Step>, Stuck> {
    let mut w = waits(&steps)?;
    let key = |i: usize| Reverse((steps[i].moment, i));
    let mut ready: BinaryHeap<Reverse<(Moment, usize)>> =
        (0..steps.len()).filter(|i| w.left[*i] == 0).map(key).collect();
    let mut out = Vec::with_capacity(steps.len());
    while let Some(Reverse((_, i))) = ready.pop() {
        out.push(i);
        ready.extend(w.done(i).into_iter().map(key));
    }
    if out.len() < steps.len() {
        return Err(Stuck::Cycle((0..steps.len()).filter(|i| w.left[*i] > 0).map(|i| steps[i].to_string()).collect()));
    }
    arrange(&mut steps, &mut out);
    Ok(steps)
}

/// Puts what stands at `order[n]` to place n, for each n: each comes once. They are many and large, so nothing is made anew.
fn arrange<T>(all: &mut [T], order: &mut [usize]) {
    for first in 0..order.len() {
        let mut at = first;
        // Each circle is gone round once; who stands where he belongs is marked so.
        loop {
            let from = std::mem::replace(&mut order[at], at);
            if from == first {
                break;
            }
            all.swap(at, from);
            at = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Descr, Op, Tid};

    fn step(moment: Moment, by: &'static str, needs: Vec<Fact>, makes: Vec<Fact>) -> Step {
        Step { moment, by, actor: Actor::Thaw, op: Op::Commit, needs, makes }
    }

    fn names(steps: Vec<Step>) -> Vec<&'static str> {
        order(steps).unwrap().iter().map(|s| s.by).collect()
    }

    #[test]
    fn facts_come_before_moments_and_moments_before_the_order_of_asking() {
        let d = Fact::Made(Descr(1));
        let got = names(vec![
            step(Moment::Arm, "last", vec![d.clone()], vec![]),
            step(Moment::Place, "second", vec![], vec![]),
            step(Moment::Make, "waits", vec![Fact::Born(Tid(1))], vec![d]),
            step(Moment::Fill, "late maker", vec![], vec![Fact::Born(Tid(1))]),
            step(Moment::Make, "first", vec![], vec![]),
        ]);
        assert_eq!(got, ["first", "second", "late maker", "waits", "last"]);
    }

    #[test]
    fn everything_comes_to_its_place() {
        let mut all = ["a", "b", "c", "d", "e", "f"];
        arrange(&mut all, &mut [2, 1, 4, 5, 0, 3]);
        assert_eq!(all, ["c", "b", "e", "f", "a", "d"]);
    }

    #[test]
    fn a_fact_of_several_makers_waits_for_all() {
        let d = Fact::Filled(Descr(1));
        let got = names(vec![
            step(Moment::Make, "needs", vec![d.clone()], vec![]),
            step(Moment::Arm, "a", vec![], vec![d.clone()]),
            step(Moment::Fill, "b", vec![], vec![d]),
        ]);
        assert_eq!(got, ["b", "a", "needs"]);
    }

    #[test]
    fn a_cycle_is_told_by_its_members_and_a_missing_maker_by_its_fact() {
        let (a, b) = (Fact::Made(Descr(1)), Fact::Made(Descr(2)));
        let cycle = vec![
            step(Moment::Make, "a", vec![a.clone()], vec![b.clone()]),
            step(Moment::Make, "b", vec![b], vec![a.clone()]),
        ];
        assert!(matches!(order(cycle), Err(Stuck::Cycle(members)) if members.len() == 2));
        let lone = vec![step(Moment::Make, "a", vec![a.clone()], vec![])];
        assert!(matches!(order(lone), Err(Stuck::Nobody { fact, .. }) if fact == a));
    }

    #[test]
    fn a_hundred_thousand_steps_take_no_quadratic_time() {
        let steps = (0..100_000u32)
            .map(|n| {
                let needs = if n == 0 { vec![] } else { vec![Fact::Made(Descr(n - 1))] };
                step(Moment::Make, "x", needs, vec![Fact::Made(Descr(n))])
            })
            .collect();
        let start = std::time::Instant::now();
        assert_eq!(order(steps).unwrap().len(), 100_000);
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_fact_of_many_makers_and_many_needers_takes_no_quadratic_time() {
        let barrier = || vec![Fact::Settled];
        let makers = (0..50_000).map(|_| step(Moment::Birth, "x", vec![], barrier()));
        let needers = (0..50_000).map(|_| step(Moment::Arm, "y", barrier(), vec![]));
        let start = std::time::Instant::now();
        assert_eq!(order(makers.chain(needers).collect()).unwrap().len(), 100_000);
        assert!(start.elapsed().as_secs() < 5);
    }
}
