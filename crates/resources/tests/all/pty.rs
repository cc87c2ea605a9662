//! Pseudo-terminals of the tree: what a real kernel told of them, and how they are made again.

use crate::common::*;
use abi::{Errno, Sys};
use resources::fd::pty::{End, Modes, Pty};
use resources::tree::process::Fd;
use resources::tree::session::{Role, Session};
use resources::{Blob, Capturing, Description, Files, Keep, Model, ProcessState, Text, Told, Typed, Waiting};

const PTMX: u64 = 0x502;
const PTS3: u64 = 0x8803;
const WRITABLE: u16 = 4;

/// A process that has the master with the number 3, and its slave, of which Linux 6.18 told this.
fn sample(ready: u16) -> Recorded {
    let mut sample = Recorded::sample("bash");
    let pid = sample.threads[0];
    let info = "pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t91\ntty-index:\t3\n";
    sample.open(40, "/dev/ptmx", 0o020_666, PTMX, info);
    sample.open(41, "/dev/pts/3", 0o020_620, PTS3, "pos:\t0\nflags:\t0100002\nmnt_id:\t25\nino:\t6\n");
    sample.told = vec![Told { pid, number: 40, description: 1, flags: 2, ino: None, lines: vec![b"3".to_vec()] }];
    sample.ready = ready;
    for request in [0x5401, 0x5413, 0x540f, 0x541b, 0x5424, 0x8004_5438, 0x8004_5439, 0x8004_5440] {
        for fd in [40, 41] {
            sample.answer(Sys::Ioctl, &[fd, request], Ok(0), vec![vec![0; 36]]);
        }
    }
    let size = [24u16, 80, 0, 0].into_iter().flat_map(u16::to_ne_bytes).collect();
    sample.answer(Sys::Ioctl, &[40, 0x5413], Ok(0), vec![size]);
    sample.answer(Sys::Ioctl, &[40, 0x5429], Err(Errno::ENOTTY), vec![vec![0; 4]]);
    sample
}

fn modes() -> Modes {
    Modes { termios: Blob(vec![0; 36]), window: (24, 80, 0, 0), ..Modes::default() }
}

fn end(end: End, flags: u32) -> Pty {
    let modes = (end == End::Master).then(modes);
    Pty { pts: if end == End::HungUp { 0 } else { 3 }, end, flags, exclusive: false, modes }
}

#[test]
fn both_ends() {
    let sample = sample(WRITABLE);
    assert_eq!(describe(&sample, 40).unwrap(), Description::Pty(end(End::Master, 0o100_002)));
    assert_eq!(describe(&sample, 41).unwrap(), Description::Pty(end(End::Slave, 0o100_002)));
}

#[test]
fn a_slave_whose_master_is_closed_and_one_whose_master_is_elsewhere() {
    let mut sample = sample(WRITABLE);
    sample.links.insert("fd/41".into(), "/dev/pts/3 (deleted)".into());
    assert_eq!(describe(&sample, 41).unwrap(), Description::Pty(end(End::HungUp, 0o100_002)));
    sample.links.insert("fd/41".into(), "/dev/pts/3".into());
    sample.told.clear();
    let line =
        "fd 41 (/dev/pts/3): only the controlling terminal is, and pseudo-terminals whose masters are in the tree";
    assert_eq!(reasons(&refused(describe(&sample, 41))), [line]);
}

fn why(change: impl Fn(&mut Recorded), ready: u16, fd: u32) -> Vec<String> {
    let mut sample = sample(ready);
    change(&mut sample);
    reasons(&refused(describe(&sample, fd)))
}

#[test]
fn what_speaks_against_it() {
    let word = |n: u32| vec![n.to_ne_bytes().to_vec()];
    let told = |fd: u64, request: u64, value: u32| {
        move |s: &mut Recorded| s.answer(Sys::Ioctl, &[fd, request], Ok(0), word(value))
    };
    assert_eq!(why(|_| (), 0, 41), ["fd 41 (/dev/pts/3): its output is stopped"]);
    let waits = "fd 41 (/dev/pts/3): 5 bytes wait in it, which nobody can look at without taking them";
    assert_eq!(why(told(41, 0x541b, 5), WRITABLE, 41), [waits]);
    let line = |what: &str| [format!("fd 40 (/dev/ptmx): {what}")];
    let discipline = "its line discipline is not that of a terminal (TIOCSETD)";
    assert_eq!(why(told(40, 0x5424, 3), WRITABLE, 40), line(discipline));
    let others = "process 7, outside of the tree, has it too";
    assert_eq!(why(|s| s.sharers = vec![7], WRITABLE, 40), line(others));
    let led = "it is the terminal of a session that is led by somebody outside of the tree";
    assert_eq!(why(told(40, 0x5429, 1), WRITABLE, 40), line(led));
}

fn tree(all: Vec<Pty>) -> Model {
    let mut model = model("sleep");
    for (n, pty) in (40..).zip(all) {
        model.descriptions.insert(n, Description::Pty(pty));
        model.processes[0].process.fds.push(Fd { number: 860 + n, description: n, close_on_exec: false });
    }
    model
}

#[test]
fn made_by_number_and_each_slave_from_its_master() {
    let master = Pty { modes: Some(Modes { packets: true, locked: true, ..modes() }), ..end(End::Master, 2) };
    let model = tree(vec![end(End::HungUp, 1), end(End::Slave, 0o4002), master]);
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let lines = [
        "make    pty       thaw     d42 = master of a new terminal, if possible of /dev/pts/3",
        "make    pty       thaw     d45 = master of a new terminal",
        "make    pty       store    d40 = ioctl(d45, 0x5441, 257)",
        "make    pty       store    d41 = ioctl(d42, 0x5441, 2306)",
        "make    pty       store    ioctl(d42, 0x5414, [8 bytes])",
        "arm     pty       store    ioctl(d42, 0x5402, [36 bytes])",
        "arm     pty       store    ioctl(d42, 0x5420, [4 bytes])",
        "arm     pty       store    ioctl(d42, 0x40045431, [4 bytes])",
    ];
    assert_eq!(steps(&plan, &["pty"]), lines);
}

#[test]
fn what_waits_is_kept_where_the_tree_ends_and_somebody_can_read_it() {
    let mut sample = sample(WRITABLE);
    for fd in [40, 41] {
        sample.answer(Sys::Ioctl, &[fd, 0x541b], Ok(0), vec![vec![5, 0, 0, 0]]);
    }
    let capture = |fd| {
        let (mut files, mut notes) = (Files::default(), Vec::new());
        let keep = Keep { typed: true, ..Keep::default() };
        let mut from = Capturing { probe: &sample, files: &mut files, keep, notes: &mut notes };
        Description::capture(&sample.seen(fd), &mut from)
    };
    assert!(capture(40).is_ok() && capture(41).is_ok());
    let mut model = tree(vec![end(End::Slave, 1), end(End::Master, 2), end(End::Slave, 2)]);
    let pid = model.processes[0].process.pid;
    assert_eq!(model.own_terminals(), [(3, [Some((pid, 901)), Some((pid, 902))])]);
    let text = |text: &[u8]| Text::from(text);
    let (lines, rest, shown) = (vec![text(b"one\n"), text(b"\x04")], text(b"\x16r"), text(b"out"));
    let own = vec![Waiting { pts: 3, lines, rest, shown }];
    model.typed = Some(Typed { own, ..Typed::default() });
    let plan = planned(&model, &host("root", &model));
    let waits = "fill    pty       thaw     3 bytes wait in d41, and 5 and 3 keys for its slave";
    let all = steps(&plan, &["pty"]);
    let at = |line: &str| all.iter().position(|l| l == line).unwrap_or_else(|| panic!("no {line}: {all:#?}"));
    let settings = "arm     pty       store    ioctl(d41, 0x5402, [36 bytes])";
    assert!(at(waits) < at(settings));
    assert!(all.iter().any(|l| l.ends_with("ioctl(d41, 0x5441, 258)")), "{all:#?}");
}

/// A first process that leads a session upon it.
fn led(foreground: u32) -> Model {
    let modes = Modes { foreground: Some(foreground), ..modes() };
    let mut model = tree(vec![Pty { modes: Some(modes), ..end(End::Master, 2) }]);
    for state in &mut model.processes[0].states {
        if let ProcessState::Session(session) = state {
            *session = Session { role: Role::SessionLeader, terminal: false, foreground: false, pts: Some(3) };
        }
    }
    let pid = model.processes[0].process.pid;
    (model.processes[0].process.group, model.processes[0].process.session) = (pid, pid);
    model
}

#[test]
fn the_terminal_of_a_session_before_anybody_is_born_into_it() {
    let pid = led(1).processes[0].process.pid;
    let model = led(pid);
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let who = format!("t{pid}");
    let line = |what: &str| format!("birth   session   {who:<8} {what}");
    assert_eq!(steps(&plan, &["session"]), [line("setsid()"), line("ioctl(d44, 0x540e, 0)")]);
    let gone = led(pid + 1);
    let plan = planned(&gone, &host("root", &gone));
    let note =
        format!("process group {pid} has the foreground of its terminal, as nothing is left of that which had it");
    assert!(plan.notes.contains(&note), "{:?}", plan.notes);
}

#[test]
fn what_no_kernel_has_is_damage() {
    let twice = tree(vec![end(End::Master, 2), end(End::Master, 2)]);
    let mut without = led(1);
    without.descriptions.insert(40, Description::Pty(end(End::Slave, 2)));
    for model in [twice, without] {
        assert!(Model::from_records(&records(&model)).is_err());
    }
}
