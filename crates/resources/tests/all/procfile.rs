//! What stands in /proc of a process: of whom, and when it is opened again.

use crate::common::*;
use abi::{Errno, Sys};
use resources::Description;
use resources::fd::nsfd::Nsfd;
use resources::fd::procfile::Procfile;
use resources::tree::process::Fd;

fn info(pos: u32) -> String {
    format!("pos:\t{pos}\nflags:\t0100000\nmnt_id:\t26\nino:\t77\n")
}

/// A process that has this open, which stands there for it.
fn sample(link: &str, mode: u32) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, mode, 0, &info(12));
    let stat = sample.stats["fd/40"];
    sample.paths.insert(link.as_bytes().to_vec(), stat);
    sample
}

fn why(link: &str, mode: u32) -> Vec<String> {
    reasons(&refused(describe(&sample(link, mode), 40)))
}

#[test]
fn of_the_tree_and_of_the_first_process() {
    let own = Recorded::sample("bash").threads[0];
    let open = [(format!("/proc/{own}/status"), 0o100_444), (format!("/proc/{own}"), 0o040_555)];
    for (path, mode) in open.into_iter().chain([("/proc/1/status".to_owned(), 0o100_444)]) {
        let expected = Procfile { path: path.as_bytes().into(), flags: 0o100_000, position: 12, ended: false };
        assert_eq!(describe(&sample(&path, mode), 40).unwrap(), Description::Procfile(expected));
    }
}

#[test]
fn of_others_and_of_what_stands_elsewhere() {
    let line = "fd 40 (/proc/123/status): /proc/123 tells of a process outside of the tree, or of one that has ended";
    assert_eq!(why("/proc/123/status", 0o100_444), [line]);
    assert_eq!(why("/proc/123/fd", 0o040_555), [line.replace("status", "fd")]);
    assert_eq!(why("/proc/123 (deleted)", 0o040_555), [line.replace("/status", " (deleted)")]);
    let own = Recorded::sample("bash").threads[0];
    let mut hidden = sample(&format!("/proc/{own}/status"), 0o100_444);
    hidden.paths.clear();
    let line = format!("fd 40 (/proc/{own}/status): its path leads somewhere else");
    assert_eq!(reasons(&refused(describe(&hidden, 40))), [line]);
}

#[test]
fn of_those_that_are_no_more() {
    let mut gone = sample("/proc/123 (deleted)", 0o040_555);
    gone.answer(Sys::Kill, &[123], Err(Errno::ESRCH), vec![]);
    let told = |path: &str| Procfile { path: path.as_bytes().into(), flags: 0o100_000, position: 12, ended: true };
    assert_eq!(describe(&gone, 40).unwrap(), Description::Procfile(told("/proc/123")));
    // Its id is another's by now.
    let mut again = sample("/proc/123/status", 0o100_444);
    again.paths.get_mut(&b"/proc/123/status"[..]).unwrap().ino += 1;
    assert_eq!(describe(&again, 40).unwrap(), Description::Procfile(told("/proc/123/status")));
    let mut model = model("sleep");
    for (id, path) in [(40, "/proc/123"), (41, "/proc/123/status"), (42, "/proc/124/fd/3")] {
        model.descriptions.insert(id, Description::Procfile(told(path)));
    }
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let lines = ["d40, d41 = of a process that ends with this thaw", "d42 = of a process that ends with this thaw"];
    assert_eq!(steps(&plan, &["procfile"]), lines.map(|line| format!("make    procfile  thaw     {line}")));
}

#[test]
fn opened_when_all_are_born_and_read_on_when_their_memory_is_there() {
    let mut model = model("sleep");
    let pid = model.processes[0].process.pid;
    let path = format!("/proc/{pid}/maps").as_bytes().into();
    model
        .descriptions
        .insert(40, Description::Procfile(Procfile { path, flags: 0o100_000, position: 99, ended: false }));
    model.processes[0].process.fds.push(Fd { number: 900, description: 40, close_on_exec: false });
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    assert_eq!(steps(&plan, &["procfile"]).len(), 2);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let at =
        |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what}: {lines:#?}"));
    assert!(["clone t", "/maps", ", 900, "].map(at).is_sorted(), "{lines:#?}");
    assert!(["read 96 KiB", "lseek(d40, 99", "close_range("].map(at).is_sorted(), "{lines:#?}");
}

#[test]
fn a_namespace_is_that_of_the_program_or_of_whoever_freezes_it() {
    let mut sample = sample("uts:[77]", 0o100_444);
    sample.links.insert("ns/uts".into(), b"uts:[77]".to_vec());
    let nsfd = |inside| Nsfd { name: b"uts"[..].into(), flags: 0o100_000, inside };
    assert_eq!(describe(&sample, 40).unwrap(), Description::Nsfd(nsfd(true)));
    sample.links.insert("ns/uts".into(), b"uts:[78]".to_vec());
    sample.own_links.insert("ns/uts".into(), b"uts:[77]".to_vec());
    assert_eq!(describe(&sample, 40).unwrap(), Description::Nsfd(nsfd(false)));
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Nsfd(nsfd(true)));
    model.descriptions.insert(41, Description::Nsfd(nsfd(false)));
    model.processes[0].process.fds.push(Fd { number: 900, description: 40, close_on_exec: false });
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let by = format!("t{}", model.processes[0].process.pid);
    let lines = [
        "make    nsfd      store    d41 = openat(-100, \"/proc/self/ns/uts\", 0x8100, 0)".to_owned(),
        format!("place   procfile  {by:<8} d40 = openat(-100, \"/proc/self/ns/uts\", 0x8100, 0)"),
    ];
    assert_eq!(steps(&plan, &["nsfd", "procfile"]), lines);
}
