//! Where resources put their steps, refusals and notes.

use crate::{Actor, Descr, Expect, Fact, Host, Moment, Op, Options, Refusal, Step, Tid, Value};
use abi::Sys;

/// Collects what the resources of one model ask for, against one host.
pub struct Planner<'a> {
    /// The machine that the tree is to go on.
    pub host: &'a Host,
    /// What the user wants.
    pub options: &'a Options,
    steps: Vec<Step>,
    refusals: Vec<Refusal>,
    notes: Vec<String>,
    next: u32,
}

impl<'a> Planner<'a> {
    /// An empty one; `first_free` is a description number that no record uses.
    pub fn new(host: &'a Host, options: &'a Options, first_free: u32) -> Self {
        Planner { host, options, steps: Vec::new(), refusals: Vec::new(), notes: Vec::new(), next: first_free }
    }

    /// There will be about so many steps: they are large, and not to be moved again and again.
    pub fn expect(&mut self, steps: usize) {
        self.steps.reserve(steps);
    }

    /// A description that no record has: what is open only while the tree is made.
    pub fn scratch(&mut self) -> Descr {
        self.next += 1;
        Descr(self.next - 1)
    }

    /// How many descriptions there are, scratch ones with them.
    pub fn descriptions(&self) -> u32 {
        self.next
    }

    /// Appends a step.
    pub fn step(&mut self, moment: Moment, by: &'static str, actor: Actor, op: Op, needs: Vec<Fact>, makes: Vec<Fact>) {
        self.steps.push(Step { moment, by, actor, op, needs, makes });
    }

    /// The store makes a description.
    pub fn make(&mut self, by: &'static str, descr: Descr, sys: Sys, args: Vec<Value>) {
        let op = Op::Make { sys, args, descrs: vec![descr] };
        self.step(Moment::Make, by, Actor::Store, op, vec![], vec![Fact::Made(descr)]);
    }

    /// The store makes a call that has to do with a description that it has.
    pub fn on_descr(
        &mut self,
        moment: Moment,
        by: &'static str,
        descr: Descr,
        sys: Sys,
        args: Vec<Value>,
        expect: Expect,
    ) {
        let op = Op::Call { sys, args, expect };
        self.step(moment, by, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Filled(descr)]);
    }

    /// A thread makes a call of its own once the whole tree is there.
    pub fn arm(&mut self, by: &'static str, tid: Tid, sys: Sys, args: Vec<Value>, expect: Expect) {
        let op = Op::Call { sys, args, expect };
        self.step(Moment::Arm, by, Actor::Thread(tid), op, vec![Fact::Settled], vec![Fact::Whole(tid)]);
    }

    /// The same, at last: time goes by for it from then on.
    pub fn start(&mut self, by: &'static str, tid: Tid, sys: Sys, args: Vec<Value>, expect: Expect) {
        let op = Op::Call { sys, args, expect };
        self.step(Moment::Start, by, Actor::Thread(tid), op, vec![Fact::Settled], vec![Fact::Whole(tid)]);
    }

    /// The tree cannot go on here, for this reason among others.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// Whether a refusal about `what` stands already.
    pub fn refused(&self, what: &str) -> bool {
        self.refusals.iter().any(|r| r.what == what)
    }

    /// The tree goes on, but this is not as it was, and the user is told: once, of however many threads it is true.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// All that was asked for: the steps in the order of asking and the notes, or every refusal.
    pub fn finish(self) -> Result<(Vec<Step>, Vec<String>), Vec<Refusal>> {
        if self.refusals.is_empty() { Ok((self.steps, self.notes)) } else { Err(self.refusals) }
    }
}
