//! Who makes whom: trees that are written down, and the steps that make their processes, sessions and groups.

use crate::common::*;
use abi::signal::{KernelSigaction, Siginfo};
use plan::{Options, Pids};
use resources::task::handlers::{Handler, Handlers};
use resources::task::signal::Signal;
use resources::tree::process::{Ended, Process, Shares};
use resources::tree::stops::Stops;
use resources::{Model, ProcessModel, ProcessState, ThreadModel, ThreadState};

/// A process: its id, its parent, its group, its session.
fn process([pid, parent, group, session]: [u32; 4]) -> Process {
    Process { pid, parent, group, session, name: b"x".as_slice().into(), threads: vec![pid], ..Process::default() }
}

/// A tree of those, the first one in a group of its own in the session of a terminal; each with the memory of sleep(1).
fn tree(processes: Vec<Process>) -> Model {
    let sleep = model("sleep");
    let space =
        sleep.processes[0].states.iter().find(|state| matches!(state, ProcessState::Space(_))).expect("a space");
    let one = |process: Process| {
        let threads = vec![ThreadModel { tid: process.pid, states: vec![] }];
        let states = if process.is_zombie() { vec![] } else { vec![space.clone()] };
        ProcessModel { process, states, threads }
    };
    Model { processes: processes.into_iter().map(one).collect(), files: sleep.files, ..Model::default() }
}

/// The steps by which processes are born, join and end: actor and act.
fn steps(model: &Model) -> Vec<String> {
    steps_of(model, &["birth", "place", "link"], &["process", "session"])
}

/// Those of these moments, asked for by these resources.
fn steps_of(model: &Model, moments: &[&str], by: &[&str]) -> Vec<String> {
    // All of them have the same kernel.
    let host = plan::Host { spare: vec![91, 92], ..host("root", &tree(vec![process([10, 0, 10, 0])])) };
    let options = Options { pids: Pids::Same, ..Options::default() };
    let plan = resources::plan(model, &host, &options).unwrap_or_else(|r| panic!("refused: {:?}", reasons(&r)));
    let text = plan.to_string();
    let words = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let wanted = |words: &Vec<String>| moments.contains(&words[0].as_str());
    let ours = |words: &Vec<String>| by.contains(&words[1].as_str());
    let all = text.lines().map(words).filter(|w| w.len() > 3 && wanted(w) && ours(w));
    let short = |line: String| {
        line.replace(", the first thread of a process", "").replace(", the first thread of a further process", "")
    };
    all.map(|w| short(w[2..].join(" "))).collect()
}

/// Whom nobody can make, as an image with them is told, too.
fn refused(model: &Model) -> Vec<u32> {
    let host = host("root", &tree(vec![process([10, 0, 10, 0])]));
    assert!(resources::plan(model, &host, &Options::default()).is_err());
    resources::tree::lineage::refusals(model).iter().filter_map(|r| r.whom.parse().ok()).collect()
}

#[test]
fn children_are_made_by_their_parents() {
    let model = tree(vec![process([10, 0, 10, 0]), process([11, 10, 10, 0]), process([12, 11, 12, 0])]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 clone t12",
            "t10 setpgid(0, 0)",
            "t11 setpgid(0, 10)",
            "t12 setpgid(0, 0)",
        ]
    );
}

#[test]
fn who_was_born_before_a_session_was_made_is_born_before_again() {
    let model = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 11, 11]),
        process([12, 11, 10, 0]),
        process([13, 11, 11, 11]),
    ]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 clone t12",
            "t11 setsid()",
            "t11 clone t13",
            "t10 setpgid(0, 0)",
            "t12 setpgid(0, 10)",
            "t13 setpgid(0, 11)",
        ]
    );
}

#[test]
fn so_is_its_parent_if_that_made_a_session_later() {
    let model = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 11, 11]),
        process([12, 11, 12, 12]),
        process([13, 12, 10, 0]),
    ]);
    let births = ["store clone t10", "t10 clone t11", "t11 clone t12", "t12 clone t13", "t11 setsid()", "t12 setsid()"];
    assert_eq!(steps(&model)[..6], births);
}

#[test]
fn an_orphan_is_made_by_the_leader_of_its_session() {
    let model = tree(vec![process([10, 0, 10, 0]), process([11, 10, 11, 11]), process([12, 10, 11, 11])]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 setsid()",
            "t11 clone t12, with flags 0x8000",
            "t10 setpgid(0, 0)",
            "t12 setpgid(0, 11)",
        ]
    );
}

#[test]
fn a_leader_that_is_gone_has_a_helper() {
    let model = tree(vec![process([10, 0, 10, 0]), process([12, 10, 11, 11])]);
    assert_eq!(model.leaders(), [11]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 setsid()",
            "t11 clone t12, with flags 0x8000",
            "t10 setpgid(0, 0)",
            "t12 setpgid(0, 11)",
            "t11 end, with status 0x0",
            "t10 wait4(11, 0, 0x40000000, 0) = 11",
            "t10 rt_sigtimedwait([8 bytes], 0, [16 bytes], 8) (or not)",
        ]
    );
}

/// An orphan that is born in its session, below another process than its parent: in the session of somebody who lives, of somebody
/// who makes it only then, and where children of two parents are in the session of a leader that is gone.
#[test]
fn an_orphan_is_taken_in_by_who_is_further_above() {
    let grand = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 10, 0]),
        process([12, 11, 12, 12]),
        process([13, 10, 12, 12]),
        process([14, 10, 12, 12]),
    ]);
    let taken = |heir: u32, helper: u32| {
        [
            format!("t{heir} prctl(36, 1, 0, 0, 0)"),
            format!("t{helper} end, with status 0x0"),
            format!("t{heir} prctl(36, 0, 0, 0, 0)"),
        ]
    };
    let births = |model: &Model| steps_of(model, &["birth"], &["process", "session"]);
    let made = ["store clone t10", "t10 clone t11", "t11 clone t12", "t12 setsid()", "t12 clone t92", "t92 clone t13"];
    let then = ["t12 clone t91", "t91 clone t14"];
    let expected: Vec<String> = made.map(String::from).into_iter().chain(then.map(String::from)).collect();
    let all = births(&grand);
    let of_helpers = |s: &&String| s.contains("prctl") || s.contains("end,");
    assert_eq!(all.iter().filter(|s| !of_helpers(s)).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let in_turn: Vec<String> = all.iter().filter(of_helpers).cloned().collect();
    assert_eq!(in_turn, [taken(10, 92), taken(10, 91)].concat());
    let noticed: Vec<String> = steps(&grand).into_iter().filter(|s| s.contains("wait4")).collect();
    assert_eq!(noticed, ["t12 wait4(92, 0, 0x40000000, 0) = 92", "t12 wait4(91, 0, 0x40000000, 0) = 91"]);
    let apart = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 9, 9]),
        process([12, 10, 12, 12]),
        process([13, 12, 9, 9]),
        process([14, 12, 12, 12]),
    ]);
    let all = births(&apart).join("; ");
    for step in ["t12 clone t9", "t9 setsid()", "t9 clone t13, with flags 0x8000", "t13 clone t92; t92 clone t11"] {
        assert!(all.contains(step), "{step}: {all}");
    }
    assert!(all.contains(&taken(10, 92).join("; ")), "{all}");
}

/// Its maker may have what its own heirs are to have by then: it is no heir.
#[test]
fn who_is_born_late_has_nothing_of_its_maker() {
    let mut model = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 11, 11]),
        process([12, 11, 10, 0]),
        process([13, 11, 11, 11]),
    ]);
    let ProcessState::Space(space) = &mut model.processes[3].states[0] else { panic!("it is the only one") };
    const AWAY: u64 = 1 << 40;
    let moved = |at: u64| at - AWAY;
    space.areas.iter_mut().for_each(|a| (a.start, a.end) = (moved(a.start), moved(a.end)));
    space.pages.iter_mut().for_each(|e| e.at = moved(e.at));
    let all = steps_of(&model, &["birth"], &["space", "process", "session"]);
    let at = |what: &str| all.iter().position(|s| s.starts_with(what)).unwrap_or_else(|| panic!("no {what}: {all:#?}"));
    assert!(at("t11 clone t12") < at("t11 setsid") && at("t11 setsid") < at("t11 clone t13"));
    assert!(at("t11 clone t13") < at("t13 munmap("));
}

#[test]
fn so_has_a_group() {
    let model = tree(vec![process([10, 0, 10, 0]), process([12, 10, 11, 0]), process([13, 10, 11, 0])]);
    assert_eq!(model.leaders(), [11]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t12",
            "t10 clone t13",
            "t12 clone t11",
            "t11 setpgid(0, 0)",
            "t10 setpgid(0, 0)",
            "t12 setpgid(0, 11)",
            "t13 setpgid(0, 11)",
            "t11 end, with status 0x0",
            "t12 wait4(11, 0, 0x40000000, 0) = 11",
            "t12 rt_sigtimedwait([8 bytes], 0, [16 bytes], 8) (or not)",
        ]
    );
}

#[test]
fn who_has_ended_ends_when_its_group_is_whole() {
    let leader = Process { ended: Some(Ended::Process(3 << 8)), ..process([11, 10, 11, 0]) };
    let model = tree(vec![process([10, 0, 10, 0]), leader, process([12, 10, 11, 0])]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 prctl(15, \"x\", 0, 0, 0)",
            "t10 clone t12",
            "t10 setpgid(0, 0)",
            "t11 setpgid(0, 0)",
            "t12 setpgid(0, 11)",
            "t11 end, with status 0x300",
            "t10 rt_sigtimedwait([8 bytes], 0, [16 bytes], 8) (or not)",
        ]
    );
}

#[test]
fn who_has_left_his_group_makes_it_first() {
    let model = tree(vec![process([10, 0, 10, 0]), process([11, 10, 10, 0]), process([12, 10, 11, 0])]);
    let expected = ["t11 setpgid(0, 0)", "t12 setpgid(0, 11)", "t11 setpgid(0, 10)"];
    let found: Vec<String> = steps(&model).into_iter().filter(|step| expected.contains(&&step[..])).collect();
    assert_eq!(found, expected);
}

#[test]
fn signals_of_ends_are_taken_one_by_one() {
    let ended = |pid, signal| Process {
        ended: Some(Ended::Process(0)),
        exit_signal: Some(signal),
        ..process([pid, 10, 10, 0])
    };
    let all = [(11, 17), (12, 17), (13, 10), (14, 40), (15, 40)].map(|(pid, signal)| ended(pid, signal));
    let model = tree([vec![process([10, 0, 10, 0])], all.to_vec()].concat());
    assert_eq!(steps(&model).iter().filter(|step| step.contains("rt_sigtimedwait")).count(), 4);
}

#[test]
fn an_end_that_has_no_signal_is_told_by_none() {
    let child = Process { ended: Some(Ended::Process(0)), exit_signal: Some(0), ..process([11, 10, 10, 0]) };
    let model = tree(vec![process([10, 0, 10, 0]), child]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t10 setpgid(0, 0)",
            "t11 setpgid(0, 10)",
            "t11 prctl(15, \"x\", 0, 0, 0)",
            "t11 end, with status 0x0",
        ]
    );
}

fn sharing_fs(process: Process, with: u32) -> Process {
    Process { shares: Shares { fs: Some(with), ..Shares::default() }, ..process }
}

#[test]
fn what_siblings_share_comes_from_the_elder() {
    let model = tree(vec![process([10, 0, 10, 0]), process([11, 10, 10, 0]), sharing_fs(process([12, 10, 10, 0]), 11)]);
    assert_eq!(
        steps(&model),
        [
            "store clone t10",
            "t10 clone t11",
            "t11 clone t12, with flags 0x8200",
            "t10 setpgid(0, 0)",
            "t11 setpgid(0, 10)",
            "t12 setpgid(0, 10)",
        ]
    );
}

#[test]
fn trees_that_nobody_can_make() {
    // In the session of somebody who lives, and is below another branch.
    let nephew = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 10, 0]),
        process([12, 10, 12, 12]),
        process([13, 11, 12, 12]),
    ]);
    assert_eq!(refused(&nephew), [13]);
    // Two parents in different branches have children in the session of a leader that is gone.
    let apart = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 11, 11]),
        process([12, 10, 12, 12]),
        process([13, 11, 9, 9]),
        process([14, 12, 9, 9]),
    ]);
    assert_eq!(refused(&apart), [14]);
    // Who is to stand for the leader of session 9 would be below somebody who is born in that session.
    let round = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 9, 9]),
        process([12, 11, 12, 12]),
        process([13, 12, 12, 12]),
        process([14, 13, 9, 9]),
    ]);
    assert_eq!(refused(&round), [11]);
    // Each of two such helpers would be below somebody whom the other one is to bear.
    let crossed = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 8, 8]),
        process([12, 11, 12, 12]),
        process([13, 12, 9, 9]),
        process([14, 10, 9, 9]),
        process([15, 14, 15, 15]),
        process([16, 15, 8, 8]),
    ]);
    assert_eq!(refused(&crossed), [11, 12, 13, 14, 15, 16]);
    // It has something in common with a cousin.
    let cousins = tree(vec![
        process([10, 0, 10, 0]),
        process([11, 10, 10, 0]),
        process([12, 10, 10, 0]),
        process([13, 11, 10, 0]),
        sharing_fs(process([14, 12, 10, 0]), 13),
    ]);
    assert_eq!(refused(&cousins), [14]);
    // A child of a helper ends with SIGCHLD, as the helper does.
    let silent = tree(vec![process([10, 0, 10, 0]), Process { exit_signal: Some(0), ..process([12, 10, 11, 11]) }]);
    assert_eq!(refused(&silent), [12]);
}

/// Its first thread, stopped by that signal, with a signal that waits for it.
fn stopped(p: &mut ProcessModel, signal: Option<i32>, waits: i32) {
    let mut info = [0; 128];
    info[0] = waits as u8;
    let process_pending = if waits == 0 { vec![] } else { vec![Siginfo(info)] };
    let state = Signal { stack: None, pending: vec![], process_pending, stopped: signal };
    p.threads[0].states = vec![ThreadState::Signal(state)];
}

#[test]
fn the_stopped_stop_when_they_have_nothing_more_to_do() {
    let rows = [[10, 0, 10, 0], [11, 10, 11, 0], [12, 11, 12, 0], [13, 11, 13, 0]];
    let mut model = tree(rows.map(process).to_vec());
    let [root, parent, heard, new] = &mut model.processes[..] else { unreachable!("four") };
    stopped(root, Some(20), 0);
    stopped(parent, Some(19), 17);
    stopped(heard, Some(20), 0);
    // What it leaves to the kernel no more cannot be by what it was stopped.
    stopped(new, Some(21), 0);
    let action = KernelSigaction { handler: 0x1000, ..KernelSigaction::default() };
    new.states.push(ProcessState::Handlers(Handlers { set: vec![Handler { signal: 21, action }] }));
    parent.states.push(ProcessState::Stops(Stops { heard: vec![12, 99] }));
    let taken = "rt_sigtimedwait([8 bytes], 0, [16 bytes], 8) (or not)";
    let all = steps_of(&model, &["arm"], &["job-stops", "signal"]);
    let all: Vec<&str> = all.iter().map(String::as_str).filter(|s| !s.contains("sigaltstack")).collect();
    let taken_by = |who| format!("{who} {taken}");
    assert_eq!(
        all,
        [
            "t10 send itself signal 20",
            "t12 stop, by signal 20",
            "t11 waitid(1, 12, 0, 0x40000003, 0) = 0",
            "t13 stop, by signal 19",
            &taken_by("t11"),
            "t11 rt_sigqueueinfo(11, 17, [128 bytes])",
            "t11 stop, by signal 19",
            &taken_by("t10"),
        ]
    );
}
