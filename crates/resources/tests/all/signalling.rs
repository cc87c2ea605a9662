//! Signal-driven input and output: what is asked of each description, and how it is asked for again.

use crate::common::*;
use abi::{Errno, Sys};
use resources::fd::signalling::{SignalDriven, Signalled};
use resources::{ProcessState, Told};

const SIGNALLED: Signalled = Signalled { number: 3, owner: (1, 77), signal: 41, status: 0o24000 };

fn owner(kind: u32, id: u32) -> Vec<Vec<u8>> {
    vec![[kind.to_ne_bytes(), id.to_ne_bytes()].concat()]
}

/// A process with three descriptions: of one much was asked, of one nothing, and one has an owner only.
fn sample() -> Recorded {
    let mut sample = Recorded::sample("sleep");
    let told = |number, flags| Told { pid: 1, number, description: number, flags, ino: None, lines: Vec::new() };
    sample.descriptions = vec![told(3, 0o24002), told(4, 2), told(5, 0)];
    for (fd, (kind, id), signal) in [(3, (1, 77), 41), (4, (0, 0), 0), (5, (2, 78), 0)] {
        sample.answer(Sys::Fcntl, &[fd, 16], Ok(0), owner(kind, id));
        sample.answer(Sys::Fcntl, &[fd, 11], Ok(signal), vec![]);
    }
    sample.open(5, "pipe:[9]", 0o010600, 0, "");
    sample
}

#[test]
fn what_was_asked_of_each() {
    let owned = Signalled { number: 5, owner: (2, 78), signal: 0, status: 0 };
    assert_eq!(capture::<SignalDriven>(&sample()).unwrap().all, [SIGNALLED, owned]);
}

#[test]
fn nothing_where_the_kernel_does_not_know() {
    let mut sample = sample();
    for (fd, command) in [(3, 16), (3, 11), (4, 16), (4, 11), (5, 16), (5, 11)] {
        sample.answer(Sys::Fcntl, &[fd, command], Err(Errno::EINVAL), vec![]);
    }
    let only_sends = Signalled { owner: (0, 0), signal: 0, ..SIGNALLED };
    assert_eq!(capture::<SignalDriven>(&sample).unwrap().all, [only_sends]);
}

#[test]
fn changes_of_a_directory_are_refused() {
    let mut sample = sample();
    sample.open(5, "/usr", 0o040755, 0, "");
    let line = "fd 5: it sends signals when the directory changes (F_NOTIFY), which is not kept";
    assert_eq!(reasons(&refused(capture::<SignalDriven>(&sample))), [line]);
}

#[test]
fn asked_for_again_by_the_process_as_its_user() {
    let mut model = model("sleep");
    let pid = model.processes[0].process.pid;
    let outside = Signalled { number: 1, owner: (2, pid + 1), signal: 0, status: 0 };
    let all = vec![Signalled { number: 0, owner: (1, pid), ..SIGNALLED }, outside];
    model.processes[0].states.push(ProcessState::SignalDriven(SignalDriven { all }));
    let plan = planned(&model, &host("root", &model));
    let lines = steps(&plan, &["signal-driven-io"]);
    let expected = ["15, [8 bytes]", "10, 41", "4, 0x2800"];
    let expected = expected.map(|rest| format!("arm     signal-driven-io t{pid}   fcntl(0, {rest})"));
    assert_eq!(lines, expected);
    let note = format!("fd 1 of process {pid} sent signals to process group {}, outside of the tree: no more", pid + 1);
    assert!(plan.notes.contains(&note), "{:?}", plan.notes);
    survives(&model);
}
