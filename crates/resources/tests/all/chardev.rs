//! Devices of memory: what is told when they are opened again by their usual names, and what must stand there.

use crate::common::*;
use abi::layout::FileStat;
use plan::{Options, PlaceFacts};
use resources::fd::chardev::Chardev;
use resources::{Capturing, Description, Files, Keep, Text};

const INFO: &str = "pos:\t0\nflags:\t0100002\nmnt_id:\t26\nino:\t77\n";

fn noted(link: &str, mode: u32) -> Vec<String> {
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, mode, 0x103, INFO);
    sample.paths.insert(b"/dev/null".to_vec(), FileStat { mode: 0o020_666, rdev: 0x103, ..FileStat::default() });
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    let expected = Chardev { path: Text::from(&b"/dev/null"[..]), flags: 0o100002 };
    assert_eq!(Description::capture(&sample.seen(40), &mut from).unwrap(), Description::Chardev(expected));
    notes.into_iter().map(|n| n.why).collect()
}

#[test]
fn what_is_not_the_same_there_is_told() {
    assert_eq!(noted("/dev/null", 0o020_666), Vec::<String>::new());
    let without = |what: &str| vec![format!("thawed, it is /dev/null as that is then, without {what}")];
    assert_eq!(noted("/dev/null (deleted)", 0o020_666), without("its own name"));
    assert_eq!(noted("/dev/null", 0o020_600), without("mode 0600 of user 0 and group 0"));
    assert_eq!(noted("/jail/n", 0o020_600), without("its own name, and mode 0600 of user 0 and group 0"));
}

#[test]
fn the_same_device_must_stand_there() {
    let model = model("sleep");
    let why = |place: Option<PlaceFacts>| {
        let mut host = host("root", &model);
        host.places.remove(&b"/dev/null"[..]);
        host.places.extend(place.map(|place| (b"/dev/null".to_vec(), place)));
        plan_refused(&model, &host, &Options::default())
    };
    assert_eq!(why(Some(device(5))), ["/dev/null: it is another device here"]);
    assert_eq!(why(Some(PlaceFacts { rdev: 0x503, ..device(3) })), ["/dev/null: it is another device here"]);
    assert_eq!(why(Some(PlaceFacts { mode: 0o100_666, ..device(3) })), ["/dev/null: a device is of another kind here"]);
    assert_eq!(why(Some(PlaceFacts { access: 4, ..device(3) })), ["/dev/null: a device may not be used by this user"]);
    assert_eq!(why(None), ["/dev/null: a device is not here"]);
}
