//! Descriptors of signals: what a real kernel told of them, and how they are made again.

use crate::common::*;
use resources::fd::epoll::Epoll;
use resources::fd::signalfd::Signalfd;
use resources::{Capturing, Description, Files, Keep};

const LINK: &str = "anon_inode:[signalfd]";
/// Linux 6.18: SIGUSR1, SIGTERM, SIGCHLD and signal 64; not blocking, closed on execve.
const INFO: &str = "pos:\t0\nflags:\t02004002\nmnt_id:\t17\nino:\t1039\nsigmask:\t8000000000014200\n";
const RECORD: Signalfd = Signalfd { signals: 0x8000_0000_0001_4200, flags: 0o4002 };

#[test]
fn what_it_takes() {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o600, 0, INFO);
    assert_eq!(describe(&sample, 40).unwrap(), Description::Signalfd(RECORD));
    sample.open(40, LINK, 0o600, 0, &INFO.replace("8000000000014200", "0000000000000000"));
    assert_eq!(describe(&sample, 40).unwrap(), Description::Signalfd(Signalfd { signals: 0, ..RECORD }));
}

#[test]
fn one_that_others_have_is_told() {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o600, 0, INFO);
    sample.sharers = vec![4711];
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    Description::capture(&sample.seen(40), &mut from).unwrap();
    let why = "process 4711 has it too; which signals it takes, each chooses for itself from now on";
    assert_eq!(notes.iter().map(|n| n.why.as_str()).collect::<Vec<_>>(), [why]);
}

#[test]
fn refused() {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o600, 0, "pos:\t0\nflags:\t02\nmnt_id:\t15\n");
    let line = format!("fd 40 ({LINK}): this kernel does not tell which signals it takes");
    assert_eq!(reasons(&crate::common::refused(describe(&sample, 40))), [line]);
}

/// What is set by fcntl(2) comes back so: O_APPEND, and O_NONBLOCK of what cannot be made with it; O_NOATIME does not.
#[test]
fn its_status_flags() {
    let mut model = model("sleep");
    let flags = 0o1_006_002;
    model.descriptions.insert(40, Description::Signalfd(Signalfd { flags, ..RECORD }));
    model.descriptions.insert(41, Description::Epoll(Epoll { watches: vec![], flags: 0o4002, polling: None }));
    model.descriptions.insert(42, Description::Epoll(Epoll { watches: vec![], flags: 0o2, polling: None }));
    let lines = steps(&planned(&model, &host("root", &model)), &["signalfd", "epoll"]);
    let set: Vec<&str> = lines.iter().filter_map(|line| Some(&line[line.find("fcntl(")?..])).collect();
    assert_eq!(set, ["fcntl(d40, 4, 3072)", "fcntl(d41, 4, 2048)"]);
    survives(&model);
}

#[test]
fn it_is_made_before_it_is_watched() {
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Signalfd(RECORD));
    let host = host("root", &model);
    let lines = steps(&planned(&model, &host), &["signalfd"]);
    assert_eq!(lines, ["make    signalfd  store    d40 = signalfd4(-1, [8 bytes], 8, 2048)"]);
    survives(&model);
}
