//! Watches: what a real kernel told of them, where they are found, and how they are added again.

use crate::common::*;
use abi::Sys;
use abi::layout::FileStat;
use abi::proc::makedev;
use plan::PlaceFacts;
use resources::fd::fanotify::{Fanotify, Mark};
use resources::fd::inotify::{Inotify, Watch};
use resources::tree::process::Fd;
use resources::{Capturing, Description, Files, Keep, Model, Removed, Trouble};

const LINK: &str = "anon_inode:inotify";
/// Linux 6.18.
const INFO: &str = "pos:\t0\nflags:\t04000\nmnt_id:\t17\nino:\t1039\n\
    inotify wd:a ino:2e1 sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:e102000000000000\n\
    inotify wd:1 ino:3c4a7 sdev:fe00000 mask:84000fff ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a7c4030000000000\n";
const HANDLE: [u8; 8] = [0xe1, 2, 0, 0, 0, 0, 0, 0];

fn stat(ino: u64, mode: u32) -> FileStat {
    FileStat { dev: makedev(254, 0), ino, mode, ..FileStat::default() }
}

/// A shell in /home/me with these watches; nothing is where it might be found.
fn sample() -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o600, 0, INFO);
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![vec![0; 4]]);
    sample.links.insert("cwd".into(), b"/home/me".into());
    sample.texts.insert("cmdline".into(), b"tail\0-f\0log/it\0".into());
    sample.texts.insert("mountinfo".into(), b"22 1 254:0 / / rw - ext4 /dev/vda rw\n".into());
    sample.paths.clear();
    sample
}

fn record(mask: [(u32, &str, u32, u32); 2]) -> Inotify {
    let watch = |(wd, path, mask, file_type): (u32, &str, u32, u32)| Watch {
        wd,
        path: path.as_bytes().into(),
        mask,
        file_type,
        description: None,
    };
    Inotify { flags: 0o4000, watches: mask.map(watch).into(), lost: false }
}

fn seen(sample: &Recorded) -> (Result<Description, Trouble>, Vec<String>) {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    let found = Description::capture(&sample.seen(40), &mut from);
    (found, notes.into_iter().map(|note| note.why).collect())
}

/// As of a message bus of a user, who may not ask by handles.
#[test]
fn what_the_environment_names_is_looked_into() {
    let mut sample = sample();
    sample.texts.insert("environ".into(), b"HOME=/home/me\0XDG_DATA_DIRS=/opt/share:/usr/share\0N=\0".to_vec());
    sample.paths.insert(b"/opt/share/dbus-1/services".into(), stat(0x3c4a7, 0o040_755));
    sample.paths.insert(b"/etc/dbus-1/session.d".into(), stat(0x2e1, 0o040_755));
    let expected = record([
        (1, "/opt/share/dbus-1/services", 0x8400_0fff, 0o040_000),
        (10, "/etc/dbus-1/session.d", 2, 0o040_000),
    ]);
    assert_eq!(seen(&sample).0.unwrap(), Description::Inotify(expected));
}

#[test]
fn what_was_removed_is_found_if_it_is_open() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me/src".into(), stat(0x3c4a7, 0o040_755));
    sample.paths.insert(b"/home/me".into(), stat(0x99, 0o040_755));
    let (dev, shown) = (stat(0, 0).dev, b"/home/me/it (deleted)".to_vec());
    sample.removed = [(0x2e0, 6), (0x2e1, 7)]
        .map(|(ino, description)| Removed { dev, ino, mode: 0o100_600, description, shown: shown.clone() })
        .into();
    let (Description::Inotify(found), _) = (seen(&sample).0.unwrap(), ()) else { panic!("it is one") };
    let all: Vec<_> = found.watches.iter().map(|w| (w.wd, w.description)).collect();
    assert_eq!(all, [(1, None), (10, Some(7))]);
    let mut model = model("sleep");
    let (mut watch, id) = (found.watches[1].clone(), *model.descriptions.keys().next().expect("something is open"));
    (watch.wd, watch.description) = (1, Some(id));
    let inotify = |watch: &Watch| Description::Inotify(Inotify { flags: 0, watches: vec![watch.clone()], lost: false });
    model.descriptions.insert(40, inotify(&watch));
    model.processes[0].process.fds.push(Fd { number: 900, description: 40, close_on_exec: false });
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let path = format!("/proc/self/fd/{}", plan.base + id);
    assert!(steps(&plan, &["inotify"]).iter().any(|line| line.contains(&path)), "{path}");
    watch.description = Some(777);
    model.descriptions.insert(40, inotify(&watch));
    assert!(Model::from_records(&records(&model)).is_err());
}

#[test]
fn in_the_working_directory_and_in_what_is_watched() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me".into(), stat(0x99, 0o040_755));
    sample.paths.insert(b"/home/me/src".into(), stat(0x3c4a7, 0o040_755));
    sample.paths.insert(b"/home/me/src/it".into(), stat(0x2e1, 0o100_644));
    let expected = record([(1, "/home/me/src", 0x8400_0fff, 0o040_000), (10, "/home/me/src/it", 2, 0o100_000)]);
    let (found, notes) = seen(&sample);
    assert_eq!((found.unwrap(), notes), (Description::Inotify(expected), vec![]));
}

#[test]
fn by_a_word_of_the_command_line_and_by_a_handle() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me/log/it".into(), stat(0x3c4a7, 0o100_644));
    sample.paths.insert(b"/far/away".into(), stat(0x2e1, 0o100_644));
    sample.handles.insert((b"/".into(), 1, HANDLE.into()), b"/far/away".into());
    let expected = record([(1, "/home/me/log/it", 0x8400_0fff, 0o100_000), (10, "/far/away", 2, 0o100_000)]);
    assert_eq!(seen(&sample).0.unwrap(), Description::Inotify(expected));
}

#[test]
fn those_that_are_not_found_are_named() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me/log/it".into(), stat(0x3c4a7, 0o100_644));
    // Another file system, and a handle that leads to a name of something else.
    sample.paths.insert(b"/home/me/it".into(), FileStat { dev: makedev(0, 40), ..stat(0x2e1, 0o100_644) });
    sample.handles.insert((b"/".into(), 1, HANDLE.into()), b"/".into());
    let line = format!("fd 40 ({LINK}): its watch 10 is of inode 737 on device 254:0, whose path is not found");
    assert_eq!(reasons(&refused(seen(&sample).0)), [line]);
}

#[test]
fn events_that_wait_are_told() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me/one".into(), stat(0x3c4a7, 0o040_755));
    sample.paths.insert(b"/home/me/two".into(), stat(0x2e1, 0o040_755));
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![vec![16, 0, 0, 0]]);
    let why = "events wait that the program has not read: it will be told that some were lost (IN_Q_OVERFLOW)";
    let (Ok(Description::Inotify(found)), notes) = seen(&sample) else { panic!("it is one") };
    assert_eq!((found.lost, &notes[..]), (true, &[why.to_owned()][..]));
    let model = tree(found);
    survives(&model);
    let mut host = host("root", &model);
    let holds = "/proc/sys/fs/inotify/max_queued_events";
    assert!(model.questions().contains(&holds.to_owned()));
    host.told.insert(holds.to_owned(), "16384".to_owned());
    let plan = planned(&model, &host);
    let steps = steps(&plan, &["inotify"]);
    let made = steps.iter().find_map(|step| step.split_once(" = memfd_create")?.0.split_once(" d")?.1.parse().ok());
    let file = plan.base + made.unwrap_or(0);
    let last = [
        format!("inotify_add_watch(d40, \"/proc/self/fd/{file}\", 6) = 11"),
        "ftruncate, the first of 2 calls, 8192 times".to_owned(),
        "inotify_rm_watch(d40, 11)".to_owned(),
        "read all that waits in d40 but 16 bytes".to_owned(),
    ];
    assert!(steps.iter().rev().zip(last.iter().rev()).all(|(step, part)| step.contains(part)), "{steps:#?}");
    // One that is too long to be filled up.
    host.told.insert(holds.to_owned(), "1048576".to_owned());
    assert_eq!(planned(&model, &host).notes, ["an inotify instance does not tell that events were lost"]);
}

#[test]
fn ids_that_are_too_far_apart() {
    let mut sample = sample();
    sample.paths.insert(b"/home/me/one".into(), stat(0x3c4a7, 0o100_644));
    sample.paths.insert(b"/home/me/two".into(), stat(0x2e1, 0o100_644));
    sample.edit("fdinfo/40", "wd:a ", "wd:7fffffff ");
    let why = "2147483645 of its watches are gone, and the ids of the others are too high";
    assert_eq!(reasons(&refused(seen(&sample).0)), [format!("fd 40 ({LINK}): {why}")]);
}

fn tree(inotify: Inotify) -> Model {
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Inotify(inotify));
    model
}

#[test]
fn added_as_the_last_of_all_with_their_ids() {
    let model = tree(record([(1, "/tmp", 3, 0o040_000), (3, "/etc", 2, 0o040_000)]));
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let adds = [
        "inotify_add_watch(d40, \"/tmp\", 3) = 1",
        "inotify_add_watch(d40, \"/etc\", 1024) = 2",
        "inotify_rm_watch(d40, 2)",
        "read(d40, &out, 16) = 16",
        "inotify_add_watch(d40, \"/etc\", 2) = 3",
    ];
    let adds = adds.map(|add| format!("arm     inotify   store    {add}"));
    let first = "make    inotify   store    d40 = inotify_init1(2048)".to_owned();
    assert_eq!(steps(&plan, &["inotify"]), [vec![first], adds.into()].concat());
    let last = plan.steps.iter().rev().skip(1).take(5);
    assert!(last.into_iter().all(|step| step.by == "inotify"), "{plan}");
}

#[test]
fn what_is_watched_must_be_there() {
    let model = tree(record([(1, "/tmp", 3, 0o040_000), (3, "/gone", 2, 0o100_000)]));
    let mut host = host("root", &model);
    host.places.remove(&b"/gone"[..]);
    let options = plan::Options::default();
    assert_eq!(plan_refused(&model, &host, &options), ["/gone: what is watched is not here"]);
    host.places.insert(b"/gone".into(), PLACE);
    assert_eq!(plan_refused(&model, &host, &options), ["/gone: what is watched is of another kind here"]);
}

#[test]
fn impossible_ids_are_damage() {
    for ids in [(1, 1), (0, 1), (1, 1 << 31), (1, 1 << 30)] {
        let model = tree(record([(ids.0, "/tmp", 3, 0), (ids.1, "/etc", 2, 0)]));
        assert!(Model::from_records(&records(&model)).is_err(), "{ids:?}");
    }
}

/// What Linux 6.18 tells of a group with marks of a file system, a mount and a file.
const GROUP: &str = "pos:\t0\nflags:\t04002\nmnt_id:\t17\nino:\t1039\nfanotify flags:12 event-flags:88000
fanotify sdev:1b mflags:0 mask:20 ignored_mask:0
fanotify mnt_id:1b mflags:40 mask:40000038 ignored_mask:3
fanotify ino:98d328 sdev:fe00000 mflags:0 mask:3b ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:28d398006ea965cf
";
const MOUNTS: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n30 25 0:27 / /dev/shm rw - tmpfs tmpfs rw\n";

fn group(info: &str) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, "anon_inode:[fanotify]", 0o600, 0, info);
    sample.texts.insert("mountinfo".into(), MOUNTS.into());
    let handle = vec![0x28, 0xd3, 0x98, 0, 0x6e, 0xa9, 0x65, 0xcf];
    sample.handles.insert((b"/".to_vec(), 1, handle), b"/tmp/x".to_vec());
    let stat = FileStat { dev: makedev(254, 0), ino: 0x98_d328, mode: 0o100_644, ..FileStat::default() };
    sample.paths.insert(b"/tmp/x".to_vec(), stat);
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![vec![0; 4]]);
    sample
}

#[test]
fn marks_of_what_they_are_of() {
    let mark = |of, path: &[u8], mask, ignored, flags, file_type| Mark {
        of,
        path: path.into(),
        mask,
        ignored,
        flags,
        file_type,
        description: None,
    };
    let marks = vec![
        mark(0x100, b"/dev/shm", 0x20, 0, 0, 0),
        mark(0x10, b"/", 0x4000_0038, 3, 0x40, 0),
        mark(0, b"/tmp/x", 0x3b, 0, 0, 0o100_000),
    ];
    let expected = Fanotify { init: 0x12, event_flags: 0x88000, flags: 0o4002, marks };
    assert_eq!(describe(&group(GROUP), 40).unwrap(), Description::Fanotify(expected.clone()));
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Fanotify(expected));
    survives(&model);
    let mut host = host("root", &model);
    for path in ["/", "/tmp/x", "/dev/shm"] {
        let mode = if path == "/tmp/x" { 0o100_644 } else { 0o040_755 };
        host.places.insert(path.into(), PlaceFacts { mode, access: 7, ..device(3) });
    }
    let lines = [
        "make    fanotify  store    d40 = fanotify_init(18, 0x88000)",
        "arm     fanotify  store    fanotify_mark(d40, 257, 32, -100, \"/dev/shm\")",
        "arm     fanotify  store    fanotify_mark(d40, 17, 0x40000038, -100, \"/\")",
        "arm     fanotify  store    fanotify_mark(d40, 113, 3, -100, \"/\")",
        "arm     fanotify  store    fanotify_mark(d40, 1, 59, -100, \"/tmp/x\")",
    ];
    assert_eq!(steps(&planned(&model, &host), &["fanotify"]), lines);
}

#[test]
fn groups_that_are_not_kept() {
    let why = |info: &str| reasons(&refused(describe(&group(info), 40)));
    let line = |what: &str| [format!("fd 40 (anon_inode:[fanotify]): {what}")];
    let decides = "it decides what other processes may do with files, and they would wait for it";
    assert_eq!(why(&GROUP.replace("flags:12 ", "flags:16 ")), line(decides));
    let lost = "its mark 2 is of something whose path is not found";
    assert_eq!(why(&GROUP.replace("mnt_id:1b", "mnt_id:1c")), line(lost));
    assert!(abi::proc::fanotify(GROUP.replace("mnt_id:1b", "mnt_ns:1c").as_bytes()).is_err());
}
