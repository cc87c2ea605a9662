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
    PipeEnd { pipe: 9, flags, capacity: 65536, waiting, path: Some(path()) }
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
    sample.peeked.insert(40, vec![b"waits".to_vec()]);
    let (end, notes) = captured(&sample);
    assert_eq!((end.path, end.waiting, notes), (Some(path()), vec![Blob(b"waits".to_vec())], vec![]));
}

#[test]
fn a_name_that_is_gone_is_told() {
    let (end, notes) = captured(&sample("/run/fifo (deleted)", INFO));
    assert_eq!((end.path, notes), (None, vec!["the name of this pipe is gone: thawed, it has none".to_owned()]));
}

#[test]
fn what_nobody_can_read_now_is_refused() {
    let mut sample = sample("/run/fifo", &INFO.replace("0104000", "0100001"));
    let asked = |sample: &mut Recorded, waits: u32| {
        sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![waits.to_ne_bytes().to_vec()]);
    };
    asked(&mut sample, 5);
    assert!(describe(&sample, 40).is_ok(), "somebody reads");
    sample.ready = POLLERR;
    let line = "fd 40 (/run/fifo): something waits in it, and nobody has it open to read";
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line]);
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

#[test]
fn both_ends_are_open_before_either_is() {
    let model = model_of(&[end(0o104000, &[b"waits"]), end(0o100001, &[])]);
    survives(&model);
    let lines = steps(&planned(&model, &host_with(&model, Some(0o010600))), &["pipe"]);
    let opened: Vec<&str> =
        lines.iter().filter(|l| l.contains("openat")).map(|l| l.split(" = ").nth(1).unwrap()).collect();
    assert_eq!(opened.len(), 3);
    assert!(
        opened[0].starts_with("openat(") && opened[0].contains(", 2050, 0)"),
        "for reading and writing: {opened:?}"
    );
    assert!(opened[1].ends_with(", 2048, 0)") && opened[2].ends_with(", 2049, 0)"), "{opened:?}");
}

#[test]
fn it_must_stand_there() {
    let model = model_of(&[end(0o104000, &[])]);
    let why = |mode| plan_refused(&model, &host_with(&model, mode), &Options::default());
    assert_eq!(why(None), ["/run/fifo: a named pipe is not here"]);
    assert_eq!(why(Some(0o100644)), ["/run/fifo: a named pipe is of another kind here"]);
}
