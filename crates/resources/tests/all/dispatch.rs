//! System calls that come back to the thread: when that is begun again.

use crate::common::*;
use abi::x86_64::DispatchConfiguration;
use plan::Op;
use resources::task::dispatch::Dispatch;
use resources::{Model, ThreadState};

const ON: DispatchConfiguration = DispatchConfiguration { mode: 1, selector: 0x7000, offset: 0x1000, len: 0x200 };

/// A thread of two dispatches its calls so.
fn dispatching(on: DispatchConfiguration) -> Model {
    let mut model = model("two");
    let mut threads = model.processes.iter_mut().flat_map(|p| &mut p.threads).filter(|t| !t.states.is_empty());
    let first = threads.next().expect("there are two");
    first.states.retain(|s| !matches!(s, ThreadState::Dispatch(_)));
    first.states.push(ThreadState::Dispatch(Dispatch { on: Some(on) }));
    model
}

#[test]
fn captured_as_the_kernel_tells() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(capture::<Dispatch>(&sample).unwrap(), Dispatch { on: None });
    sample.dispatch = Some(ON);
    assert_eq!(capture::<Dispatch>(&sample).unwrap(), Dispatch { on: Some(ON) });
}

#[test]
fn begun_when_nobody_needs_a_call_of_the_thread() {
    let model = dispatching(ON);
    let plan = planned(&model, &host("root", &model));
    let steps: Vec<_> = plan.steps.iter().filter(|s| s.by == "dispatch").collect();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].op, Op::Dispatch { config: ON });
    let told = steps[0].op.to_string();
    assert_eq!(told, "dispatch its system calls to itself, but for 0x1000-0x1200, by 0x7000");
}

#[test]
fn what_no_kernel_takes_is_damage() {
    let with = |on| Model::from_records(&records(&dispatching(on))).is_ok();
    assert!(with(ON));
    assert!(!with(DispatchConfiguration { mode: 0, ..ON }) && !with(DispatchConfiguration { len: 0, ..ON }));
}
