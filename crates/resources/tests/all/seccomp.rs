//! Filters of system calls: how they are captured, and in which order they are installed again.

use crate::common::*;
use plan::{Host, Op, Options, Pids, Value};
use resources::task::seccomp::{Filter, Seccomp};
use resources::{Blob, Model, ThreadState};

/// A program of one instruction.
fn program(returns: u32) -> Vec<u8> {
    [vec![6, 0, 0, 0], returns.to_ne_bytes().to_vec()].concat()
}

/// A filter that has every call fail with this error.
fn filter(errno: u32) -> Filter {
    Filter { program: Blob(program(0x0005_0000 | errno)), log: false }
}

/// Two threads with these filters.
fn filtered(first: &[u32], second: &[u32]) -> Model {
    let mut model = model("two");
    let threads = model.processes.iter_mut().flat_map(|p| &mut p.threads).filter(|t| !t.states.is_empty());
    for (thread, errors) in threads.zip([first, second]) {
        let filters: Vec<Filter> = errors.iter().map(|errno| filter(*errno)).collect();
        let mode = if filters.is_empty() { 0 } else { 2 };
        thread.states.push(ThreadState::Seccomp(Seccomp { mode, filters }));
    }
    model
}

/// What is installed, of which filter, by whom, with which flags; and the actor of each suspension.
fn installed(model: &Model) -> Vec<String> {
    let plan = planned(model, &host("root", model));
    let say = |step: &plan::Step| match &step.op {
        Op::Call { args, .. } => match &args[..] {
            [Value::Int(1), Value::Int(flags), Value::Nested { inner, at: 8, .. }] => {
                format!("{} {} {flags}", step.actor, u32::from(inner[4]))
            }
            other => panic!("{other:?}"),
        },
        Op::Unfilter => format!("{} free", step.actor),
        other => panic!("{other:?}"),
    };
    plan.steps.iter().filter(|s| s.by == "seccomp").map(say).collect()
}

#[test]
fn captured_as_the_kernel_tells() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(capture::<Seccomp>(&sample).unwrap(), Seccomp::default());
    sample.answer(abi::Sys::Prctl, &[21], Ok(1), vec![]);
    assert_eq!(capture::<Seccomp>(&sample).unwrap(), Seccomp { mode: 1, filters: vec![] });
    sample.answer(abi::Sys::Prctl, &[21], Ok(2), vec![]);
    let hidden = "seccomp: the kernel does not tell by what its system calls are filtered";
    assert_eq!(reasons(&refused(capture::<Seccomp>(&sample))), [hidden]);
    let seen = |returns, log| abi::seccomp::Filter { program: program(returns), log };
    sample.filters = vec![seen(0x0005_0001, false), seen(0x7fff_0000, true)];
    let logs = Filter { program: Blob(program(0x7fff_0000)), log: true };
    assert_eq!(capture::<Seccomp>(&sample).unwrap(), Seccomp { mode: 2, filters: vec![filter(1), logs] });
    sample.filters.push(seen(0x7fc0_0000, false));
    let supervised = "seccomp: another process answers some of its system calls (SECCOMP_RET_USER_NOTIF)";
    assert_eq!(reasons(&refused(capture::<Seccomp>(&sample))), [supervised]);
}

#[test]
fn what_all_threads_have_is_installed_for_all_at_once() {
    let model = filtered(&[1, 2], &[1, 2]);
    let [a, b] = ids(&model);
    let free = [format!("{a} free"), format!("{b} free")];
    assert_eq!(installed(&model), [&free[..], &[format!("{a} 1 5"), format!("{a} 2 5")]].concat());
    let apart = filtered(&[1, 2], &[1, 3]);
    let own = [format!("{a} 1 5"), format!("{a} 2 4"), format!("{b} 3 4")];
    assert_eq!(installed(&apart), [&free[..], &own].concat());
    assert_eq!(installed(&filtered(&[], &[3])), [format!("{b} free"), format!("{b} 3 4")]);
}

/// The threads of a model, as actors.
fn ids(model: &Model) -> [String; 2] {
    let all: Vec<String> = model.ids().into_iter().map(|tid| format!("t{tid}")).collect();
    all.try_into().expect("two threads")
}

#[test]
fn all_filters_come_before_the_credentials() {
    let model = filtered(&[1], &[1, 2]);
    let plan = planned(&model, &host("root", &model));
    let at = |by: &str| plan.steps.iter().enumerate().filter(|(_, s)| s.by == by).map(|(n, _)| n).collect::<Vec<_>>();
    let (filters, prctl) = (at("seccomp"), at("prctl"));
    assert!(filters.last() < prctl.first(), "{plan}");
}

#[test]
fn strict_mode_has_no_filters() {
    let mut model = filtered(&[], &[]);
    model.processes[0].threads[0].states.push(ThreadState::Seccomp(Seccomp { mode: 1, filters: vec![] }));
    let plan = planned(&model, &host("root", &model));
    let first = &ids(&model)[0];
    let expected = ["suspend what filters its calls, until it runs", "seccomp(0, 0, 0)"];
    assert_eq!(steps(&plan, &["seccomp"]), expected.map(|op| format!("fill    seccomp   {first:<8} {op}")));
}

#[test]
fn only_root_outside_of_a_sandbox_may_install_them() {
    let model = filtered(&[1], &[1]);
    let refused = |host: &Host, pids| plan_refused(&model, host, &Options { pids, ..Options::default() });
    let needs = "seccomp: its system calls were filtered, which takes CAP_SYS_ADMIN to make again";
    assert_eq!(refused(&host("user", &model), Pids::New)[0], needs);
    let inner = Host { inner_user_namespace: true, ..host("root", &model) };
    assert_eq!(refused(&inner, Pids::Same), [needs]);
    let sandboxed = Host { filtered: true, ..host("root", &model) };
    let both = "seccomp: its system calls were filtered, and so are those of cryopid here";
    assert_eq!(refused(&sandboxed, Pids::Same), [both]);
}

#[test]
fn filters_that_no_kernel_takes_are_damage() {
    let with = |mode, program: Vec<u8>| {
        let mut model = filtered(&[1], &[1]);
        let filters = vec![Filter { program: Blob(program), log: false }];
        *model.processes[0].threads[0].states.last_mut().unwrap() = ThreadState::Seccomp(Seccomp { mode, filters });
        Model::from_records(&records(&model)).is_ok()
    };
    assert!(with(2, program(0)));
    let wrong = [(1, program(0)), (2, vec![]), (2, vec![0; 9]), (2, vec![0; 8 * 4097]), (3, program(0))];
    assert!(wrong.into_iter().all(|(mode, program)| !with(mode, program)));
}
