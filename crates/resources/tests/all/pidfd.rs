//! Descriptors of processes: what a real kernel told of them, and how they are made again.

use crate::common::*;
use resources::fd::epoll::{Epoll, Watch, refusals};
use resources::fd::pidfd::Pidfd;
use resources::tree::process::Fd;
use resources::{Description, Model};

const LINK: &str = "anon_inode:[pidfd]";

/// The fdinfo of Linux 6.18.
fn info(flags: &str, pid: &str) -> String {
    format!("pos:\t0\nflags:\t0{flags}\nmnt_id:\t4\nino:\t1275834\nPid:\t{pid}\nNSpid:\t{pid}\n")
}

fn sample(link: &str, flags: &str, pid: &str) -> Recorded {
    let mut sample = Recorded::sample("bash");
    // fs/pidfs.c: from Linux 6.9 on their inodes are regular files.
    sample.open(40, link, 0o100_700, 0, &info(flags, pid));
    sample
}

#[test]
fn of_a_member_of_the_tree() {
    let own = Recorded::sample("bash").threads[0];
    for link in [LINK, "pidfd:[1275834]"] {
        let sample = sample(link, "2004202", &own.to_string());
        let expected = Description::Pidfd(Pidfd { id: own, flags: 0o4202, inode: None });
        assert_eq!(describe(&sample, 40).unwrap(), expected);
    }
}

#[test]
fn of_those_that_are_not_in_the_tree() {
    let why = |pid: &str| reasons(&refused(describe(&sample(LINK, "2", pid), 40)));
    let line = |why: &str| [format!("fd 40 ({LINK}): {why}")];
    assert_eq!(why("4194304"), line("it is of process 4194304, outside of the tree"));
    assert_eq!(why("0"), line("it is of a process in another pid namespace"));
    assert_eq!(why("?"), line("this kernel does not tell whose it is"));
}

#[test]
fn of_those_that_are_no_more_which_are_one_by_their_inode() {
    let gone = |inode| Description::Pidfd(Pidfd { id: 0, flags: 0o4202, inode: Some(inode) });
    assert_eq!(describe(&sample("pidfd:[77]", "2004202", "-1"), 40).unwrap(), gone(77));
    let mut model = tree(model("sleep").processes[0].process.pid);
    for (id, inode) in [(41, 77), (42, 78), (43, 77)] {
        model.descriptions.insert(id, gone(inode));
    }
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let lines = ["d41, d43 = of a process that ends with this thaw", "d42 = of a process that ends with this thaw"];
    let lines = lines.map(|line| format!("make    pidfd     thaw     {line}"));
    assert_eq!(steps(&plan, &["pidfd"])[..2], lines);
}

fn tree(id: u32) -> Model {
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Pidfd(Pidfd { id, flags: 0o4202, inode: None }));
    let description = 40;
    model.processes[0].process.fds.push(resources::tree::process::Fd { number: 900, description, close_on_exec: true });
    model
}

#[test]
fn made_by_who_has_it_before_it_is_put_into_its_place() {
    let pid = model("sleep").processes[0].process.pid;
    let model = tree(pid);
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let line = format!("place   pidfd     {:<8} d40 = pidfd_open({pid:#x}, 2176)", format!("t{pid}"));
    assert_eq!(steps(&plan, &["pidfd"]), [line]);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let at = |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    assert!(["clone t", "pidfd_open(", ", 900, "].map(at).is_sorted(), "{lines:#?}");
}

#[test]
fn one_of_nobody_is_damage() {
    assert!(Model::from_records(&records(&tree(77))).is_err());
}

#[test]
fn a_watch_of_what_only_a_relative_has_is_refused() {
    let mut model = model("sleep");
    let pid = model.processes[0].process.pid;
    let watch = Watch { fd: 6, events: 1, data: 0, description: Some(41) };
    model.descriptions.insert(40, Description::Epoll(Epoll { watches: vec![watch], flags: 0, polling: None }));
    model.descriptions.insert(41, Description::Pidfd(Pidfd { id: pid, flags: 2, inode: None }));
    let fd = |number, description| Fd { number, description, close_on_exec: false };
    model.processes[0].process.fds.push(fd(50, 40));
    let line = "epoll: it watches what was number 6, which only a relative has now";
    assert_eq!(reasons(&refusals(&model)), [line]);
    model.processes[0].process.fds.push(fd(51, 41));
    assert!(refusals(&model).is_empty());
}
