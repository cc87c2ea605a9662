//! What was typed and not read yet: for whom it is, what is told of it, and the keys that make it again.

use crate::common::*;
use plan::{HostEffect, Op, Options, Standing, Typing};
use resources::{Capturing, Description, Files, Keep, Model, ProcessState, Text, ThreadState, Typed};

fn bash() -> Model {
    capture_all(&Recorded::sample("bash"), Keep::default()).expect("it can be kept")
}

fn typed(lines: &[&[u8]], rest: &[u8]) -> Typed {
    Typed {
        lines: lines.iter().map(|l| Text::from(*l)).collect(),
        rest: Text::from(rest),
        hidden: false,
        own: Vec::new(),
    }
}

/// What a thaw types.
fn typing(typed: Typed) -> Typing {
    let model = Model { typed: Some(typed), ..bash() };
    let plan = planned(&model, &plan::Host { terminal: terminal(), ..host("root", &model) });
    let typing = plan.steps.into_iter().find_map(|step| match step.op {
        Op::Host(HostEffect::Terminal { typing, .. }) => typing,
        _ => None,
    });
    typing.expect("a terminal is handed over")
}

#[test]
fn keys_make_lines_and_the_rest_again() {
    let keys = |lines: &[&[u8]], rest: &[u8]| typing(typed(lines, rest)).keys;
    assert_eq!(keys(&[b"one\n", b"\n"], b"ha"), b"one\n\nha");
    // Ctrl-D at the end of a line, and alone.
    assert_eq!(keys(&[b"no newline", b""], b""), b"no newline\x04\x04");
    // What would end a line or quote something does not, where it did not.
    assert_eq!(keys(&[b"a\nb\n"], b"\n\x04\x16\x03\xff\0"), b"a\x16\nb\n\x16\n\x16\x04\x16\x16\x03\xff\0");
}

#[test]
fn a_password_is_not_shown() {
    let shown = typed(&[b"one\n"], b"t\xffo\x03");
    assert_eq!(typing(shown.clone()).told, r#""one\nt\xffo\x03""#);
    assert_eq!(typing(Typed { hidden: true, ..shown }).told, "8 keys that the terminal did not show");
}

/// Where the program does not read at once, the shell would.
#[test]
fn a_program_in_the_background_or_stopped_is_typed_nothing() {
    let mut model = Model { typed: Some(typed(&[], b"half")), ..bash() };
    let host = plan::Host { terminal: terminal(), ..host("root", &model) };
    let told = |model: &Model, standing| {
        let plan = resources::plan(model, &host, &Options { standing, ..Options::default() }).expect("a plan");
        let told = plan.notes.iter().filter(|n| n.ends_with(": \"half\"")).count();
        (told, plan.to_string().contains("and type"))
    };
    assert_eq!(told(&model, Standing::Foreground), (0, true));
    assert_eq!(told(&model, Standing::Detached), (1, false));
    for state in &mut model.processes[0].threads[0].states {
        if let ThreadState::Signal(signal) = state {
            signal.stopped = Some(19);
        }
    }
    assert_eq!(told(&model, Standing::Foreground), (1, false));
}

#[test]
fn it_survives_the_image_and_json() {
    let all = Typed { hidden: true, ..typed(&[b"one\n", b"\xff\x04", b""], b"\0rest") };
    assert_eq!(Typed::from_bytes(&all.to_bytes()).unwrap(), all);
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Typed>(&json).unwrap(), all);
    Typed::from_bytes(b"\xff").unwrap_err();
    assert!(Typed::default().is_empty() && !typed(&[b""], b"").is_empty() && !typed(&[], b"x").is_empty());
}

#[test]
fn what_is_typed_is_for_who_reads_in_the_foreground() {
    let with = |change: &dyn Fn(u32, &mut resources::fd::tty::Tty)| {
        let mut model = bash();
        for fd in model.processes[0].process.fds.clone() {
            if let Some(Description::Tty(tty)) = model.descriptions.get_mut(&fd.description) {
                change(fd.number, tty);
            }
        }
        model
    };
    const WRONLY: u32 = 1;
    assert_eq!(with(&|_, _| ()).keyboard().map(|(_, fd)| fd), Some(0));
    assert_eq!(with(&|_, tty| tty.flags = WRONLY).keyboard(), None);
    assert_eq!(with(&|fd, tty| tty.by_role = fd != 255).keyboard().map(|(_, fd)| fd), Some(255));
    let mut behind = bash();
    for state in &mut behind.processes[0].states {
        if let ProcessState::Session(session) = state {
            session.foreground = false;
        }
    }
    assert_eq!(behind.keyboard(), None);
    assert_eq!(model("sleep").keyboard(), None);
}

/// The notes of a capture of the terminal.
fn notes(process: &Recorded, keep: Keep) -> Vec<String> {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: process, files: &mut files, keep, notes: &mut notes };
    for fd in [0, 1] {
        Description::capture(&process.seen(fd), &mut from).unwrap();
    }
    notes.into_iter().map(|note| note.why).collect()
}

#[test]
fn what_stays_behind_is_told_once() {
    const TIOCINQ: u64 = 0x541b;
    let mut process = Recorded::sample("bash");
    assert_eq!(notes(&process, Keep::default()), Vec::<String>::new());
    for fd in [0, 1] {
        process.answer(abi::Sys::Ioctl, &[fd, TIOCINQ], Ok(0), vec![5i32.to_ne_bytes().to_vec()]);
    }
    let told = ["5 bytes were typed and not read yet: they stay in its terminal"];
    assert_eq!(notes(&process, Keep::default()), told);
    assert_eq!(notes(&process, Keep { typed: true, ..Keep::default() }), Vec::<String>::new());
}
