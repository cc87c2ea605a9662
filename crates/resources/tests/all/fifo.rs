//! Named pipes: what tells their ends, what is refused, and how they are opened again.

use crate::common::*;
use abi::Sys;
use plan::{Options, PlaceFacts};
use resources::fd::pipe::PipeEnd;
use resources::{Blob, Capturing, Description, Files, Keep, Text};

const INFO: &str = "pos:\t0\nflags:\t0104000\nmnt_id:\t26\nino:\t77\n";
const POLLERR: u16 = 8;

fn path() -> Text {
    Text::from(&b"/run/fifo"[..])
}

fn end(flags: u32, waiting: &[&[u8]]) -> PipeEnd {
    let waiting = waiting.iter().map(|bytes| Blob(bytes.to_vec())).collect();
    PipeEnd {
        pipe: 9,
        flags,
        capacity: 65536,
        waiting,
        path: Some(path()),
        quiet: false,
        outside: false,
        packets: None,
    }
}

fn sample(link: &str, info: &str) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, 0o010600, 0, info);
    sample
}

fn captured(sample: &Recorded) -> (PipeEnd, Vec<String>) {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    match Description::capture(&sample.seen(40), &mut from).unwrap() {
        Description::PipeEnd(end) => (end, notes.into_iter().map(|n| n.why).collect()),
        other => panic!("no pipe: {other:?}"),
    }
}

#[test]
fn its_path_and_what_waits() {
    let mut sample = sample("/run/fifo", INFO);
    sample.peeked.insert(40, vec![(b"waits".to_vec(), false)]);
    let (end, notes) = captured(&sample);
    assert_eq!((end.path, end.waiting, notes), (Some(path()), vec![Blob(b"waits".to_vec())], vec![]));
}

/// Whole pages go with what is behind them; what no more fits into, and packets, by themselves.
#[test]
fn what_waits_is_written_as_it_was() {
    let kept = |lengths: &[(usize, bool)]| {
        let mut sample = sample("/run/fifo", INFO);
        sample.peeked.insert(40, lengths.iter().map(|(len, is_packet)| (vec![0; *len], *is_packet)).collect());
        let (end, _) = captured(&sample);
        (end.waiting.iter().map(|blob| blob.0.len()).collect::<Vec<_>>(), end.packets)
    };
    assert_eq!(kept(&[(4096, false), (4096, false), (5, false)]), (vec![8197], None));
    assert_eq!(kept(&[(905, false), (4096, false)]), (vec![905, 4096], Some(vec![])));
    assert_eq!(kept(&[(7, true)]), (vec![7], Some(vec![0])));
    assert_eq!(kept(&[(4096, true), (4096, false), (9, true)]), (vec![4096, 4096, 9], Some(vec![0, 2])));
    assert_eq!(kept(&[(5000, false), (3, false)]), (vec![5003], None));
}

#[test]
fn a_name_that_is_gone_is_told() {
    let (end, notes) = captured(&sample("/run/fifo (deleted)", INFO));
    assert_eq!((end.path, notes), (None, vec!["the name of this pipe is gone: thawed, it has none".to_owned()]));
}

#[test]
fn what_nobody_has_open_to_read_is_kept() {
    let mut sample = sample("/run/fifo", &INFO.replace("0104000", "0100001"));
    let asked = |sample: &mut Recorded, waits: u32| {
        sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![waits.to_ne_bytes().to_vec()]);
    };
    asked(&mut sample, 5);
    assert!(describe(&sample, 40).is_ok(), "somebody reads");
    sample.ready = POLLERR;
    let line = "fd 40 (/run/fifo): something waits in it, nobody has it open to read, and you may not, or somebody would be told that you do";
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line], "it may not be opened");
    sample.peeked.insert(40, vec![(b"waits".to_vec(), false)]);
    assert_eq!(captured(&sample).0.waiting, [Blob(b"waits".to_vec())]);
    asked(&mut sample, 0);
    assert!(describe(&sample, 40).is_ok(), "nothing waits");
}

fn model_of(ends: &[PipeEnd]) -> resources::Model {
    let mut model = model("sleep");
    for (id, end) in (40..).zip(ends) {
        model.descriptions.insert(id, Description::PipeEnd(end.clone()));
    }
    model
}

fn host_with(model: &resources::Model, mode: Option<u32>) -> plan::Host {
    let mut host = host("root", model);
    let path = path();
    host.places.remove(&path.0);
    host.places.extend(mode.map(|mode| (path.0, PlaceFacts { mode, ..PLACE })));
    host
}

fn opened(ends: &[PipeEnd]) -> Vec<String> {
    let model = model_of(ends);
    survives(&model);
    let number = |word: &str| word.strip_prefix('d').is_some_and(|n| n.parse::<u32>().is_ok());
    let lines = steps(&planned(&model, &host_with(&model, Some(0o010600))), &["pipe"]);
    let opens = lines.iter().filter(|l| ["openat", "named pipe", "close"].iter().any(|word| l.contains(word)));
    opens
        .map(|l| {
            l.split_whitespace().skip_while(|w| !number(w) && !w.starts_with("close")).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn both_ends_are_open_before_either_is() {
    let lines = opened(&[end(0o104000, &[b"waits"]), end(0o100001, &[])]);
    assert!(lines.len() == 4 && lines[3].starts_with("close("), "{lines:?}");
    assert!(lines[0].ends_with("= named pipe /run/fifo, open to read and write here alone"), "{lines:?}");
    assert!(lines[1].ends_with(", 2048, 0)") && lines[2].ends_with(", 2049, 0)"), "{lines:?}");
}

#[test]
fn whoever_heard_of_no_writer_hears_of_none() {
    let heard = end(0o104000, &[]);
    let quiet = PipeEnd { quiet: true, ..heard.clone() };
    let lines = opened(&[quiet.clone(), quiet.clone()]);
    assert_eq!(lines[0], "d40 = named pipe /run/fifo, open to read here alone");
    assert!(lines.len() == 2 && lines[1].starts_with("d41 = openat(") && lines[1].ends_with(", 2048, 0)"), "{lines:?}");
    // Beside one that had a writer, it is opened when there is none any more.
    let lines = opened(&[quiet, heard]);
    let first: Vec<&str> = lines.iter().map(|l| l.split([' ', '(']).next().unwrap()).collect();
    assert_eq!(first[1..], ["d41", "close", "d40"], "{lines:?}");
}

#[test]
fn whoever_has_it_open_there_is_named() {
    for ends in [vec![end(0o104002, &[b"waits"])], vec![PipeEnd { quiet: true, ..end(0o104000, &[]) }]] {
        let model = model_of(&ends);
        let mut host = host_with(&model, Some(0o010600));
        host.openers.insert(path().0, 99);
        let line =
            "/run/fifo: process 99 has it open here, or waits for that, and would get, or give, what is the program's";
        assert_eq!(plan_refused(&model, &host, &Options::default()), [line]);
    }
}

#[test]
fn who_opened_it_by_another_name_is_outside() {
    let mut sample = sample("/run/fifo", INFO);
    sample.opener = Some(99);
    let line = "fd 40 (/run/fifo): its other end is with process 99, outside of the tree";
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line]);
}

#[test]
fn whether_an_end_is_heard_of() {
    let quiet = |link, flags, unheard| {
        let mut sample = sample(link, &INFO.replace("0104000", flags));
        sample.unheard = unheard;
        let (end, notes) = captured(&sample);
        (end.quiet, notes.len())
    };
    assert_eq!(quiet("/run/fifo", "0104000", Some(())), (true, 0));
    assert_eq!(quiet("/run/fifo", "0104000", None), (false, 0));
    assert_eq!(quiet("/run/fifo", "0100001", Some(())), (false, 0), "a writer hears of none");
    // A pipe that has no name tells its end.
    assert_eq!(quiet("/run/fifo (deleted)", "0104000", Some(())), (false, 2));
    assert_eq!(quiet("/run/fifo (deleted)", "0104000", None), (false, 1));
}

#[test]
fn its_names_lead_to_one_pipe() {
    let other = Text::from(&b"/run/other"[..]);
    let ends = [end(0o104000, &[]), PipeEnd { path: Some(other.clone()), ..end(0o100001, &[]) }];
    let model = model_of(&ends);
    let host = |inode| {
        let mut host = host_with(&model, Some(0o010600));
        host.places.insert(other.0.clone(), PlaceFacts { mode: 0o010600, inode, ..PLACE });
        host
    };
    let lines = steps(&planned(&model, &host(None)), &["pipe"]);
    assert!(lines.iter().any(|l| l.contains("openat(-100, \"/run/other\", 2049, 0)")), "{lines:?}");
    let line = "/run/other: it was the same named pipe as /run/fifo, and is not here";
    assert_eq!(plan_refused(&model, &host(Some((1, 2))), &Options::default()), [line]);
}

#[test]
fn it_must_stand_there() {
    let model = model_of(&[end(0o104000, &[])]);
    let why = |mode| plan_refused(&model, &host_with(&model, mode), &Options::default());
    assert_eq!(why(None), ["/run/fifo: a named pipe is not here"]);
    assert_eq!(why(Some(0o100644)), ["/run/fifo: a named pipe is of another kind here"]);
}

/// A pipe whose other end was outside of the tree, with this number in its first process.
fn filtered(number: u32, flags: u32, waiting: &[&[u8]]) -> Vec<String> {
    let mut model = model("sleep");
    let end = PipeEnd { path: None, outside: true, ..end(flags, waiting) };
    model.descriptions.insert(40, Description::PipeEnd(end));
    let fds = &mut model.processes[0].process.fds;
    fds.retain(|fd| fd.number != number);
    fds.push(resources::tree::process::Fd { number, description: 40, close_on_exec: false });
    fds.sort_by_key(|fd| fd.number);
    survives(&model);
    let lines = steps(&planned(&model, &host("root", &model)), &["pipe"]);
    lines.into_iter().filter(|line| line.contains("d40")).collect()
}

#[test]
fn a_standard_stream_is_that_of_whoever_thaws() {
    assert_eq!(filtered(0, 0, &[]), ["make    pipe      store    d40 = fcntl(0, 1030, 3)"]);
    assert_eq!(filtered(2, 1, &[]), ["make    pipe      store    d40 = fcntl(2, 1030, 3)"]);
    for lines in [filtered(0, 0, &[b"waits"]), filtered(0, 1, &[]), filtered(1, 0, &[]), filtered(7, 0, &[])] {
        assert!(lines[0].contains("pipe2"), "{lines:?}");
    }
}
