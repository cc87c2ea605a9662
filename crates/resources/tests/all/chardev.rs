//! Devices of memory: what is told when they are opened again by their usual names, and what must stand there.

use crate::common::*;
use abi::layout::FileStat;
use plan::{Options, PlaceFacts};
use resources::fd::chardev::Chardev;
use resources::fd::opath::OPath;
use resources::fd::place::Removed;
use resources::{Capturing, Description, Files, Keep, Model, Text};

const INFO: &str = "pos:\t0\nflags:\t0100002\nmnt_id:\t26\nino:\t77\n";

fn noted(link: &str, mode: u32) -> Vec<String> {
    noted_by(Recorded::sample("bash"), link, mode)
}

fn noted_by(mut sample: Recorded, link: &str, mode: u32) -> Vec<String> {
    sample.open(40, link, mode, 0x103, INFO);
    sample.paths.insert(b"/dev/null".to_vec(), FileStat { mode: 0o020_666, rdev: 0x103, ..FileStat::default() });
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    let (name, gone) = (Text::from(&b"/dev/null"[..]), link.ends_with(" (deleted)"));
    let removed = gone.then_some(Removed { mode, owner: (0, 0), number: 0, target: None, device: Some(0x103) });
    let expected = Chardev { path: name.clone(), flags: 0o100002, name: gone.then_some(name), removed };
    assert_eq!(Description::capture(&sample.seen(40), &mut from).unwrap(), Description::Chardev(expected));
    notes.into_iter().map(|n| n.why).collect()
}

#[test]
fn what_is_not_the_same_there_is_told() {
    assert_eq!(noted("/dev/null", 0o020_666), Vec::<String>::new());
    let without = |what: &str| vec![format!("thawed, it is /dev/null as that is then, without {what}")];
    let made = "thawed by somebody who may not make devices, it is /dev/null as that is then, without its own name";
    assert_eq!(noted("/dev/null (deleted)", 0o020_666), [made]);
    assert_eq!(noted("/dev/null", 0o020_600), without("mode 0600 of user 0 and group 0"));
    assert_eq!(noted("/jail/n", 0o020_600), without("its own name, and mode 0600 of user 0 and group 0"));
}

#[test]
fn one_that_we_may_not_open_is_told() {
    let sample = Recorded { closed: vec![b"/dev/null".to_vec()], ..Recorded::sample("bash") };
    let why = "you may not use /dev/null yourself as it does: allow it before you thaw it, or thaw it as root";
    assert_eq!(noted_by(sample, "/dev/null", 0o020_666), [why]);
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

/// A device, and a symbolic link, whose names are gone.
fn without_names() -> Model {
    let mut model = model("sleep");
    let of = |mode, target, device| Some(Removed { mode, owner: (0, 0), number: 0, target, device });
    let (path, name) = (Text::from(&b"/dev/null"[..]), Some(Text::from(&b"/tmp/n"[..])));
    let device = Chardev { path, flags: 2, name, removed: of(0o020_700, None, Some(0x103)) };
    let removed = of(0o120_777, Some(Text::from(&b"/else"[..])), None);
    let link =
        OPath { path: Text::from(&b"/tmp/l"[..]), flags: 0o10_400_000, file_type: 0o120_000, removed, in_proc: false };
    model.descriptions.insert(40, Description::Chardev(device));
    model.descriptions.insert(41, Description::OPath(link));
    model
}

#[test]
fn what_has_no_name_is_made_and_removed_by_who_may() {
    let model = without_names();
    survives(&model);
    let mut host = host("root", &model);
    let writable = PlaceFacts { mode: 0o040_777, access: 7, ..device(3) };
    host.places.insert(b"/tmp".to_vec(), writable);
    host.places.insert(b"/dev/null".to_vec(), device(3));
    let ours = |line: &String| line.contains(" d40 ") || line.contains(" d41 ");
    let of = |host: &plan::Host| {
        let all = steps(&planned(&model, host), &["chardev", "opath"]);
        all.into_iter().filter(ours).collect::<Vec<_>>()
    };
    let link = "make    opath     thaw     d41 = symbolic link /tmp/l, removed once it is open";
    let made = "make    chardev   thaw     d40 = device /tmp/n, removed once it is open";
    assert_eq!(of(&host), [made, link]);
    host.capability_sets[2] &= !(1 << 27);
    assert_eq!(of(&host)[0], "make    chardev   store    d40 = openat(-100, \"/dev/null\", 258, 0)");
}
