//! Everything that must be refused, with its reason: nothing is lost in silence.

use crate::common::*;
use abi::layout::FileStat;
use abi::proc::smaps;
use abi::{Arg, Errno, Sys};
use plan::{FilePolicy, Host, Options, Pids, PlaceFacts};
use resources::fd::{epoll, eventfd::Eventfd, place::Removed};
use resources::mm::area::Backing;
use resources::mm::modes::Modes;
use resources::mm::space::Space;
use resources::task::{attributes::Attributes, creds::Creds, fs::Fs, posix_timers::PosixTimers};
use resources::tree::process::Fd;
use resources::{Blob, Capture, Capturing, Description, Files, Holder, Keep, Model, ProcessState, ThreadState};

const INFO: &str = "pos:\t0\nflags:\t0100002\nmnt_id:\t26\nino:\t77\n";

/// Why a descriptor that is not in the sample is refused.
fn why(link: &str, mode: u32, rdev: u64, info: &str) -> Vec<String> {
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, mode, rdev, info);
    reasons(&refused(describe(&sample, 40)))
}

#[test]
fn leases_on_any_kind_of_descriptor() {
    let lock = format!("{INFO}lock:\t1: LEASE  ACTIVE    WRITE 1 00:1f:77 0 EOF\n");
    let kinds = [("pipe:[9]", 0o010600, 0), ("/usr", 0o040755, 0), ("/dev/null", 0o020666, 0x103)];
    for (link, mode, rdev) in kinds {
        let line = format!("fd 40 ({link}): the program holds a lease on it");
        assert_eq!(why(link, mode, rdev, &lock), [line]);
    }
    let delegation = lock.replace("LEASE", "DELEG");
    let line = "fd 40 (/tmp/x): the program holds a lease on it";
    assert_eq!(why("/tmp/x", 0o100644, 0, &delegation), [line]);
}

#[test]
fn descriptors_that_are_not_supported() {
    let devpts = 0x8800 | 77; // 136:77, another terminal than the one that it lives on
    let cases = [
        ("socket:[99]", 0o140777, 0, "sockets of this family are not supported yet"),
        (
            "/dev/pts/77",
            0o020620,
            devpts,
            "only the controlling terminal is, and pseudo-terminals whose masters are in the tree",
        ),
        (
            "/dev/tty1",
            0o020620,
            0x401,
            "only the controlling terminal is, and pseudo-terminals whose masters are in the tree",
        ),
        ("/dev/kvm", 0o020660, 0xae8, "this device belongs to this machine"),
        ("/dev/mem", 0o020640, 0x101, "this device belongs to this machine"),
        ("/dev/sda", 0o060660, 0x800, "block devices belong to this machine"),
        ("anon_inode:[userfaultfd]", 0o600, 0, "userfaultfd is not supported yet"),
        ("anon_inode:[perf_event]", 0o600, 0, "performance counters belong to this kernel"),
        ("anon_inode:[brand new]", 0o600, 0, "this kind of descriptor is not known"),
    ];
    for (link, mode, rdev, reason) in cases {
        assert_eq!(why(link, mode, rdev, INFO), [format!("fd 40 ({link}): {reason}")]);
    }
}

#[test]
fn namespaces_are_not_regular_files() {
    // fs/nsfs.c: but by their mode they are.
    for name in ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time"] {
        let link = format!("{name}:[4026531841]");
        let line = format!("fd 40 ({link}): it is a namespace in which neither the program lives nor you do");
        assert_eq!(why(&link, 0o100444, 0, INFO), [line]);
    }
}

#[test]
fn what_has_lost_its_place() {
    let gone = "/tmp/gone (deleted)";
    let path = INFO.replace("0100002", "010000000");
    assert_eq!(why(gone, 0o100644, 0, &path), [format!("fd 40 ({gone}): what it names is gone")]);
    let pipe = "pipe:[4711]";
    assert_eq!(why(pipe, 0o010600, 0, &path), [format!("fd 40 ({pipe}): it names (O_PATH) what is in no file system")]);
    let mut sample = Recorded::sample("sleep");
    sample.links.insert("root".into(), gone.into());
    sample.stats.insert("root".into(), FileStat::default());
    assert_eq!(reasons(&refused(capture::<Fs>(&sample))), ["root: /tmp/gone was removed"]);
}

#[test]
fn a_pipe_to_the_outside() {
    let mut sample = Recorded::sample("python");
    sample.holders = vec![4711];
    let link = sample.seen(5).link;
    let line = format!("fd 5 ({link}): its other end is with process 4711, outside of the tree");
    assert_eq!(reasons(&refused(describe(&sample, 5))), [line]);
}

#[test]
fn counters_and_watches_that_others_have() {
    let mut sample = Recorded::sample("bash");
    sample.sharers = vec![4711, 4712];
    let count = format!("{INFO}eventfd-count: 1\neventfd-semaphore: 0\n");
    for (link, info) in [("anon_inode:[eventfd]", &*count), ("anon_inode:[eventpoll]", INFO)] {
        sample.open(40, link, 0o600, 0, info);
        let line = format!("fd 40 ({link}): process 4711, outside of the tree, has it too");
        assert_eq!(reasons(&refused(describe(&sample, 40))), [line]);
    }
}

#[test]
fn files_without_a_name_that_others_have() {
    let link = "/tmp/gone (deleted)";
    let line = |pid| [format!("fd 40 ({link}): it has no name, and process {pid}, outside of the tree, has it too")];
    let mut sample = Recorded::sample("bash");
    let why = |sample: &mut Recorded, access: &str, users: &[(u32, bool)]| {
        sample.open(40, link, 0o100600, 0, &INFO.replace("0100002", access));
        sample.users = users.iter().map(|(pid, writes)| Holder { pid: *pid, writes: *writes }).collect();
        describe(sample, 40).map_or_else(|e| reasons(&refused::<()>(Err(e))), |_| Vec::new())
    };
    assert_eq!(why(&mut sample, "0100002", &[(7, false)]), line(7));
    assert_eq!(why(&mut sample, "0100000", &[(7, false), (8, true)]), line(8));
    // What nobody writes is the same when it is a copy: the text of a here-document.
    assert!(why(&mut sample, "0100000", &[(7, false)]).is_empty());
    assert!(why(&mut sample, "0100002", &[]).is_empty());
}

/// The sample with this area instead of its heap.
fn with_area(perms: &str, name: &str) -> Recorded {
    let mut sample = Recorded::sample("sleep");
    let heap = format!("rw-p 00000000 00:00 0 {:25}[heap]", "");
    sample.edit("smaps", &heap, &format!("{perms} 00000000 00:01 77 {name}"));
    sample
}

#[test]
fn shared_memory_is_a_file_for_all_or_for_nobody() {
    let name = "/dev/zero (deleted)";
    let captured = |all: &[&str]| {
        let (mut files, mut notes) = (Files::default(), Vec::new());
        let capture = |perms: &&str| {
            let probe = &with_area(perms, name);
            let mut from = Capturing { probe, files: &mut files, keep: Keep::default(), notes: &mut notes };
            Space::capture(&mut from)
                .map(|space| space.areas.iter().any(|a| matches!(a.backing, Backing::Shared { .. })))
        };
        all.iter().map(capture).collect::<Vec<_>>()
    };
    assert!(captured(&["rw-s"])[0].as_ref().unwrap());
    // A private view makes it a file, and so it is for others who come later.
    let later = captured(&["rw-p", "rw-s"]);
    assert!(later.iter().all(|shared| !shared.as_ref().unwrap()));
    let [_, earlier] = <[_; 2]>::try_from(captured(&["rw-s", "rw-p"])).unwrap();
    let all = reasons(&refused(earlier));
    assert!(all[0].ends_with("another process of the tree shares it as memory without a file"), "{all:?}");
}

/// Why the heap of the sample is refused when it is this area instead, and process 7 has it too.
fn shared_area_refused(perms: &str, name: &str, may_write: &str, writes: bool) -> Vec<String> {
    let mut sample = Recorded::sample("sleep");
    let text = String::from_utf8(sample.texts["smaps"].clone()).unwrap();
    let heap = format!("rw-p 00000000 00:00 0 {:25}[heap]", "");
    let (before, after) = text.split_once(&heap).expect("it has a heap");
    let after = after.replacen(" mw ", may_write, 1);
    sample.texts.insert("smaps".into(), format!("{before}{perms} 00000000 00:01 77 {name}{after}").into_bytes());
    sample.paths.insert(b"/tmp/named".to_vec(), FileStat { ino: 77, ..FileStat::default() });
    sample.users = vec![Holder { pid: 7, writes }];
    capture::<Space>(&sample).map_or_else(|e| reasons(&refused::<()>(Err(e))), |_| Vec::new())
}

#[test]
fn memory_without_a_name_that_others_share() {
    for name in ["/dev/zero (deleted)", "[anon_shmem:counts]", "/tmp/gone (deleted)"] {
        for (perms, may_write, writes) in [("rw-s", " mw ", false), ("r--s", " ", true)] {
            let all = shared_area_refused(perms, name, may_write, writes);
            let line = format!("{name}: process 7, outside of the tree, shares it");
            assert!(all.len() == 1 && all[0].ends_with(&line), "{all:?}");
        }
        // What nobody writes is the same when it is a copy.
        assert!(shared_area_refused("r--s", name, " ", false).is_empty(), "{name}");
    }
    assert!(shared_area_refused("rw-p", "/tmp/gone (deleted)", " mw ", true).is_empty());
    assert!(shared_area_refused("rw-s", "/tmp/named", " mw ", true).is_empty());
}

#[test]
fn a_mapped_file_that_may_have_another_name() {
    let mut sample = with_area("rw-s", "/tmp/gone (deleted)");
    let notes = |sample: &Recorded| {
        let (mut files, mut notes) = (Files::default(), Vec::new());
        let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
        Space::capture(&mut from).unwrap();
        let about = notes.into_iter().filter(|note| note.what.starts_with("/tmp/gone"));
        (about.count(), files.list.values().any(|f| f.path.0 == b"/tmp/second" && !f.is_gone()))
    };
    assert_eq!(notes(&sample), (1, false));
    sample.names.insert(77, b"/tmp/second".to_vec());
    let stat = |dev| FileStat { dev, ino: 77, nlink: 1, ..FileStat::default() };
    sample.paths.insert(b"/tmp/second".to_vec(), stat(2));
    assert_eq!(notes(&sample), (1, false), "one of another file system");
    sample.paths.insert(b"/tmp/second".to_vec(), stat(1));
    assert_eq!(notes(&sample), (0, true));
}

#[test]
fn a_watch_whose_number_leads_elsewhere() {
    let link = "anon_inode:[eventpoll]";
    // Two watches under number 41, as of eventfds of which one was put in the place of the other.
    let watch = |fd: u32| format!("tfd: {fd:8} events:       19 data: 7  pos:0 ino:4d sdev:10\n");
    let info = [INFO, &watch(41), &watch(41), &watch(42)].concat();
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, 0o600, 0, &info);
    sample.open(41, "anon_inode:[eventfd]", 0o600, 0, INFO);
    sample.open(42, "anon_inode:[eventfd]", 0o600, 0, INFO);
    let line = |fd| format!("fd 40 ({link}): it watches what was number {fd}, which nobody in the tree has any more");
    sample.watches = [((41, 0), false), ((41, 1), true), ((42, 0), true)].into();
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line(41)]);
    sample.watches.insert((42, 0), false);
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line(41), line(42)]);
    // Somebody has it, by another number.
    sample.watched = [((41, 0), 5), ((42, 0), 6)].into();
    let Description::Epoll(epoll) = describe(&sample, 40).unwrap() else { panic!("it is one") };
    let all: Vec<_> = epoll.watches.iter().map(|w| (w.fd, w.description)).collect();
    assert_eq!(all, [(41, None), (41, Some(5)), (42, Some(6))]);
    sample.watched.clear();
    // Where the kernel does not tell, the inode does: 41 and 42 have it, and 43 is closed.
    sample.watches.clear();
    assert!(describe(&sample, 40).is_ok());
    sample.open(40, link, 0o600, 0, &[INFO, &watch(43)].concat());
    assert_eq!(reasons(&refused(describe(&sample, 40))), [line(43)]);
}

#[test]
fn what_is_watched_stands_under_its_old_number_for_a_while() {
    let mut model = model("sleep");
    let fd = model.processes[0].process.fds[0].clone();
    let watch = |fd, description| epoll::Watch { fd, events: 1, data: 7, description };
    let (closed, base) = (70_000, planned(&model, &host("root", &model)).base);
    let watches = vec![watch(fd.number, Some(fd.description)), watch(closed, Some(fd.description))];
    model.descriptions.insert(40, Description::Epoll(epoll::Epoll { watches, flags: 0, polling: None }));
    model.processes[0].process.fds.push(Fd { number: 900, description: 40, close_on_exec: false });
    survives(&model);
    let mut host = host("root", &model);
    host.max_files = 1 << 20;
    let plan = planned(&model, &host);
    let calls: Vec<_> =
        steps(&plan, &["epoll"]).iter().filter_map(|l| Some(l.split_once("  t")?.1.to_owned())).collect();
    let names: Vec<_> = calls.iter().filter_map(|l| Some(l.split_once(' ')?.1.trim().split_once('(')?.0)).collect();
    assert_eq!(names, ["dup3", "epoll_ctl", "dup3", "dup3", "epoll_ctl", "close"], "{calls:#?}");
    // Nothing of the executor stands there.
    assert!(base < closed && plan.reserve > closed);
    let Description::Epoll(it) = model.descriptions.get_mut(&40).expect("it is there") else { panic!("it is one") };
    it.watches[0].description = Some(777);
    assert!(Model::from_records(&records(&model)).is_err());
}

#[test]
fn an_eventfd_of_an_old_kernel() {
    let link = "anon_inode:[eventfd]";
    let line = |what| [format!("fd 40 ({link}): this kernel does not tell its {what}")];
    assert_eq!(why(link, 0o600, 0, INFO), line("count"));
    // What a read without waiting gives, and how much of a count it took.
    let capture = |count: u64, read, got: u64| {
        let mut sample = Recorded::sample("sleep");
        sample.open(40, link, 0o600, 0, &format!("{INFO}eventfd-count: {count:16x}\n"));
        sample.answer(Sys::Preadv2, &[40], read, vec![]);
        sample.answer(Sys::Write, &[40], Ok(8), vec![]);
        sample.answer(Sys::Read, &[40], Err(Errno::EINVAL), vec![got.to_ne_bytes().to_vec()]);
        let found = describe(&sample, 40);
        (found, sample.asked.take().into_iter().filter(|call| call.args.first() == Some(&Arg::Int(40))).count())
    };
    for (count, got, semaphore, calls) in
        [(10, 10, false, 3), (10, 1, true, 3), (1, 2, false, 9), (1, 1, true, 9), (0, 2, false, 8), (0, 1, true, 8)]
    {
        let (found, made) = capture(count, Ok(8), got);
        let eventfd = Eventfd { count, semaphore, flags: 0o100_002 };
        assert_eq!((found.unwrap(), made), (Description::Eventfd(eventfd), calls), "{count} {got}");
    }
    let (unknown, made) = capture(0, Err(Errno::EOPNOTSUPP), 0);
    assert_eq!((reasons(&refused(unknown)), made), (line("semaphore mode").to_vec(), 3));
}

/// Only the kernel counts that far: a write that would do so waits (eventfd(2)).
#[test]
fn an_eventfd_that_overflowed() {
    let mut model = model("sleep");
    let eventfd = Eventfd { count: u64::MAX, semaphore: false, flags: 2 };
    model.descriptions.insert(40, Description::Eventfd(eventfd));
    let plan = planned(&model, &host("root", &model));
    let fed = plan.steps.iter().find_map(|step| match &step.op {
        plan::Op::Feed { packets, .. } => Some(packets.clone()),
        _ => None,
    });
    let rest = u64::MAX - 1 - u64::from(u32::MAX);
    assert_eq!(fed, Some(vec![rest.to_ne_bytes().to_vec()]));
}

#[test]
fn a_terminal_that_was_hung_up() {
    let mut sample = Recorded::sample("bash");
    sample.answer(Sys::Ioctl, &[0], Err(Errno::EIO), vec![]);
    let link = sample.seen(0).link;
    assert_eq!(reasons(&refused(describe(&sample, 0))), [format!("fd 0 ({link}): this terminal was hung up")]);
}

/// Why the heap of the sample is refused when it has this flag and this name.
fn area_refused(flag: &str, name: &str) -> String {
    let mut sample = Recorded::sample("sleep");
    let areas = smaps(&sample.texts["smaps"]).unwrap();
    let heap = areas.iter().find(|a| a.name == b"[heap]").expect("it has a heap");
    sample.edit("smaps", "[heap]", name);
    let text = String::from_utf8(sample.texts["smaps"].clone()).unwrap();
    let (before, after) = text.split_at(text.find(name).expect("it was put there"));
    let after = after.replacen("VmFlags: ", &format!("VmFlags: {flag} "), 1);
    sample.texts.insert("smaps".into(), format!("{before}{after}").into_bytes());
    let all = reasons(&refused(capture::<Space>(&sample)));
    let what = format!("area {:x}-{:x} {name}: ", heap.start, heap.end);
    assert_eq!(all.len(), 1);
    all[0].strip_prefix(&what).expect("it is about this area").to_owned()
}

#[test]
fn areas_that_are_not_supported() {
    for flag in ["um", "uw", "ui"] {
        assert_eq!(area_refused(flag, "[heap]"), "it is watched by userfaultfd");
    }
    for flag in ["io", "pf"] {
        assert_eq!(area_refused(flag, "/dev/fb0"), "it is the memory of a device");
    }
    let odd = "it is a file of huge pages (hugetlbfs) that has no name any more, or a private view of one";
    for name in ["/dev/hugepages/x", "/dev/hugepages/x (deleted)"] {
        assert_eq!(area_refused("ht", name), odd);
    }
    assert_eq!(area_refused("ss", "[heap]"), "it is a shadow stack");
    assert_eq!(area_refused("rd", "/dev/dri/card0"), "it is the memory of a device");
    assert_eq!(area_refused("rd", "anon_inode:[perf_event]"), "it belongs to a descriptor that is not supported");
    let closed = "nobody in the tree has a descriptor of its ring, or it is a part of one";
    assert_eq!(area_refused("rd", "anon_inode:[io_uring]"), closed);
}

#[test]
fn areas_that_are_not_supported_are_on_the_list() {
    let areas = [
        ("um", "[heap]"),
        ("io", "/dev/fb0"),
        ("ss", "[heap]"),
        ("rd", "/secretmem (deleted)"),
        ("rd", "anon_inode:[perf_event]"),
        ("rd", "anon_inode:[io_uring]"),
    ];
    for (flag, name) in areas {
        let why = area_refused(flag, name);
        assert!(resources::UNSUPPORTED.iter().any(|(_, listed)| *listed == why), "{why}");
    }
}

#[test]
fn an_area_with_a_key() {
    let reason = "it is guarded by a key (pkey_mprotect)";
    let with_key = |permissions: &str, key_is: Errno| {
        let mut sample = Recorded::sample("sleep");
        sample.edit("smaps", "[heap]\n", "[heap]\nProtectionKey:         1\n");
        let text = String::from_utf8(sample.texts["smaps"].clone()).unwrap();
        let line = text.lines().find(|line| line.ends_with("[heap]")).expect("it has a heap").to_owned();
        sample.edit("smaps", &line, &line.replace("rw-p", permissions));
        sample.answer(Sys::PkeyMprotect, &[1 << 56, 4096, 0, 1], Err(key_is), vec![]);
        capture::<Space>(&sample)
    };
    // What it may read or write, and what it allocated (pkey_alloc(2)).
    for refusal in [with_key("rw-p", Errno::EINVAL), with_key("--xp", Errno::ENOMEM)] {
        let all = reasons(&refused(refusal));
        assert!(all.len() == 1 && all[0].ends_with(&format!("[heap]: {reason}")), "{all:?}");
    }
    // The kernel's own, of memory that is only executed.
    let space = with_key("--xp", Errno::EINVAL).unwrap();
    assert!(space.areas.iter().any(|a| a.protection == 4), "executed only");
}

#[test]
fn every_refusal_is_told_at_once() {
    let mut sample = Recorded::sample("bash");
    sample.edit("smaps", "[heap]", "/secretmem");
    sample.answer(Sys::Prctl, &[21], Ok(2), vec![]);
    sample.open(40, "socket:[99]", 0o140777, 0, INFO);
    sample.open(41, "socket:[98]", 0o140777, 0, INFO);
    let all = capture_all(&sample, Keep::default()).expect_err("it must be refused");
    let what: Vec<&str> = all.iter().map(|r| r.what.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(what, ["seccomp", "fd", "fd", "area"]);
    assert!(all.iter().all(|r| !r.why.is_empty() && !r.remedy.is_empty()));
}

/// What is noted of a process that lives in other namespaces of these kinds, with mounts of its own.
fn noted(foreign: &[&str], mounts: &str) -> Vec<String> {
    let here = "27 1 254:0 / / rw - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n";
    let mut sample = Recorded::sample("sleep");
    for name in foreign {
        sample.links.insert(format!("ns/{name}"), format!("{name}:[2]").into());
        sample.own_links.insert(format!("ns/{name}"), format!("{name}:[1]").into());
    }
    sample.texts.insert("mountinfo".into(), mounts.into());
    sample.own_texts.insert("mountinfo".into(), here.into());
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let keep = Keep::default();
    let captured = Attributes::capture(&mut Capturing { probe: &sample, files: &mut files, keep, notes: &mut notes });
    captured.expect("other views are no reason against it");
    notes.iter().map(|note| format!("{}: {}", note.what, note.why)).collect()
}

#[test]
fn names_that_lead_elsewhere_are_noted() {
    let same = "90 1 254:0 / / rw master:1 - ext4 /dev/vda rw\n91 90 0:21 / /proc rw - proc proc rw\n";
    // A thaw puts another /proc on top of it.
    let thawed = format!("{same}92 91 0:77 / /proc rw,nosuid - proc proc rw\n");
    let private = format!("{same}92 90 254:0 /private /tmp rw - ext4 /dev/vda rw\n");
    assert!(noted(&[], &private).is_empty());
    assert!(noted(&["mnt"], same).is_empty());
    assert!(noted(&["mnt"], &thawed).is_empty());
    let mount = "/tmp is another mount than here: its paths may lead to other files where it is thawed";
    let groups = "it has a root of its own for control groups; thawed, it has that of who thaws it";
    assert_eq!(noted(&["mnt"], &private), [format!("ns/mnt: {mount}")]);
    assert_eq!(noted(&["mnt", "cgroup"], &private), [format!("ns/mnt: {mount}"), format!("ns/cgroup: {groups}")]);
}

#[test]
fn segments_and_tags_of_addresses() {
    let mut sample = Recorded::sample("sleep");
    sample.answer(Sys::ModifyLdt, &[0], Ok(8), vec![vec![0; 8]]);
    sample.answer(Sys::ArchPrctl, &[0x4001], Ok(0), vec![(!0x7e00_0000_0000_0000u64).to_ne_bytes().to_vec()]);
    let lines = ["segments: it has segments of its own (modify_ldt)", "addresses: it has tags in its addresses (LAM)"];
    assert_eq!(reasons(&refused(capture::<Modes>(&sample))), lines);
    sample.answer(Sys::ModifyLdt, &[0], Err(Errno::ENOSYS), vec![]);
    sample.answer(Sys::ArchPrctl, &[0x4001], Ok(0), vec![u64::MAX.to_ne_bytes().to_vec()]);
    capture::<Modes>(&sample).expect("nothing is against it");
}

#[test]
fn timers_that_tell_in_strange_ways() {
    let line = |from: &str, to: &str| {
        let mut sample = Recorded::sample("vim");
        sample.edit("timers", from, to);
        reasons(&refused(capture::<PosixTimers>(&sample)))
    };
    assert_eq!(line("notify: signal", "notify: pigeon"), ["timer 0: it tells in a way that is not known"]);
    assert_eq!(line("ClockID: 1", "ClockID: -5"), ["timer 0: it runs on the clock of a device"]);
    assert_eq!(line("ClockID: 1", "ClockID: -14"), ["timer 0: it runs on the clock of another process"]);
    assert_eq!(line("signal/tid.", "signal/tid.9"), ["timer 0: it tells a thread that has ended"]);
}

#[test]
fn text_that_is_not_as_it_was_known() {
    let mut sample = Recorded::sample("sleep");
    sample.texts.insert("status".into(), b"Name:\tsleep\n".to_vec());
    let all = refused(capture::<Creds>(&sample));
    assert_eq!(all[0].what, "/proc text of status");
}

// From here on: what a host has against a tree.

/// A tree of which the image holds no contents of files.
fn sleep() -> (Model, Host) {
    let mut model = capture_all(&Recorded::sample("sleep"), Keep::default()).expect("it can be kept");
    model.files.values_mut().for_each(|f| f.contents = None);
    let host = host("root", &model);
    (model, host)
}

fn refusals(model: &Model, host: &Host) -> Vec<String> {
    plan_refused(model, host, &Options::default())
}

#[test]
fn another_vdso() {
    let (model, mut host) = sleep();
    host.vdso_sum += 1;
    let line = "vdso: the kernel's own code in the process (vdso) is not that of this kernel";
    assert_eq!(refusals(&model, &host), [line]);
    host.vdso_sum -= 1;
    host.vdso.pop();
    assert_eq!(refusals(&model, &host), [line]);
}

fn libc(model: &Model) -> Vec<u8> {
    let path = model.files.values().map(|f| &f.path.0).find(|p| p.ends_with(b"libc.so.6"));
    path.expect("sleep maps it").clone()
}

#[test]
fn mapped_files_that_are_missing_or_changed() {
    let (model, host) = sleep();
    let path = libc(&model);
    let text = path.escape_ascii().to_string();
    let mut without = host.clone();
    without.files.remove(&path);
    assert_eq!(refusals(&model, &without), [format!("{text}: it is mapped by the program and is not here any more")]);
    let mut changed = host.clone();
    changed.files.get_mut(&path).unwrap().mtime.0 += 1;
    assert_eq!(refusals(&model, &changed), [format!("{text}: it is mapped by the program and has changed since")]);
}

#[test]
fn a_file_of_the_same_build_has_not_changed() {
    let (mut model, mut host) = sleep();
    let path = libc(&model);
    let build = vec![1, 2, 3];
    model.files.values_mut().find(|f| f.path.0 == path).unwrap().build_id = Some(resources::Blob(build.clone()));
    let here = host.files.get_mut(&path).unwrap();
    (here.mtime.0, here.build_id) = (here.mtime.0 + 1, Some(build));
    planned(&model, &host);
    host.files.get_mut(&path).unwrap().size += 1;
    assert_eq!(refusals(&model, &host).len(), 1);
}

#[test]
fn with_contents_mapped_files_need_not_be_here() {
    let model =
        capture_all(&Recorded::sample("sleep"), Keep { libs: true, ..Keep::default() }).expect("it can be kept");
    let mut host = host("root", &model);
    host.files.retain(|path, _| path == b"/tmp/out");
    let plan = planned(&model, &host);
    let made = steps(&plan, &["file"]);
    assert!(made.iter().any(|s| s.contains("memfd_create(\"libc.so.6\", 0)")), "{made:#?}");
}

/// The refusals and the notes about an open file, by policy.
fn open_file(model: &Model, host: &Host, files: FilePolicy) -> (Vec<String>, Vec<String>) {
    match resources::plan(model, host, &Options { files, ..Options::default() }) {
        Ok(plan) => (vec![], plan.notes),
        Err(refusals) => (reasons(&refusals), vec![]),
    }
}

#[test]
fn open_files_by_policy() {
    let (mut model, host) = sleep();
    let nothing = (vec![], vec![]);
    for policy in [FilePolicy::Strict, FilePolicy::Warn] {
        assert_eq!(open_file(&model, &host, policy), nothing);
    }
    let mut changed = host.clone();
    changed.files.get_mut(&b"/tmp/out"[..]).unwrap().size += 1;
    let said = |line: &str| vec![line.to_owned()];
    let strict = said("/tmp/out: it is open and has changed since");
    let warn = said("/tmp/out has changed since; the program goes on with it as it is");
    let saved = said("/tmp/out: its saved contents are asked for and are not in the image");
    assert_eq!(open_file(&model, &changed, FilePolicy::Strict), (strict, vec![]));
    assert_eq!(open_file(&model, &changed, FilePolicy::Warn), (vec![], warn));
    assert_eq!(open_file(&model, &changed, FilePolicy::Saved), (saved, vec![]));
    let mut without = host.clone();
    without.files.remove(&b"/tmp/out"[..]);
    let missing = said("/tmp/out: the program has it open and it is not here");
    assert_eq!(open_file(&model, &without, FilePolicy::Strict), (missing.clone(), vec![]));
    assert_eq!(open_file(&model, &without, FilePolicy::Warn), (missing, vec![]));
    model.files.values_mut().find(|f| f.path.0 == b"/tmp/out").unwrap().contents = Some(vec![]);
    let again = said("/tmp/out was not here; it is made again as it was");
    assert_eq!(open_file(&model, &without, FilePolicy::Warn), (vec![], again));
    assert_eq!(open_file(&model, &without, FilePolicy::Saved), nothing);
    assert_eq!(open_file(&model, &changed, FilePolicy::Saved), nothing);
    // Where nobody may write, nothing is made.
    without.places.get_mut(&b"/tmp"[..]).expect("it works there").access = 5;
    let nameless = said("/tmp/out was not here, nor may it be made there: the program has it without a name");
    for policy in [FilePolicy::Warn, FilePolicy::Saved] {
        assert_eq!(open_file(&model, &without, policy), (vec![], nameless.clone()));
    }
}

/// A file is opened in it with these flags, which may be written at its end only (chattr(1)).
#[test]
fn a_file_that_only_grows() {
    let (mut model, mut host) = sleep();
    host.files.get_mut(&b"/tmp/out"[..]).unwrap().appends_only = true;
    let mut with = |flags: u32| {
        let out = |d: &&mut resources::Description| matches!(d, resources::Description::Regular(f) if f.flags & 3 == 1);
        let Some(resources::Description::Regular(file)) = model.descriptions.values_mut().find(out) else {
            panic!("it writes a file")
        };
        file.flags = flags;
        open_file(&model, &host, FilePolicy::Strict).0
    };
    assert_eq!(with(0o2001), [""; 0]);
    assert_eq!(with(1), ["/tmp/out: whoever thaws may not open it as the program had it open"]);
}

#[test]
fn a_file_that_is_put_back() {
    let (mut model, mut host) = sleep();
    let out = model.files.values_mut().find(|f| f.path.0 == b"/tmp/out").unwrap();
    (out.contents, out.owner) = (Some(vec![]), Some((5, 6)));
    // Two descriptions of it: it is put back once.
    let (id, twice) = model.descriptions.iter().find(|(_, d)| d.file().is_some()).expect("it has it open");
    let (id, twice) = (id + 100, twice.clone());
    model.descriptions.insert(id, twice);
    let here = host.files.get_mut(&b"/tmp/out"[..]).unwrap();
    (here.size, here.names) = (here.size + 1, 2);
    let look = |host: &Host| {
        let options = Options { files: FilePolicy::Saved, ..Options::default() };
        let plan = resources::plan(&model, host, &options).expect("it can be put back");
        let back = plan.steps.iter().filter_map(|s| match &s.op {
            plan::Op::Host(plan::HostEffect::ReplaceFile { owner, mtime, .. }) => Some((*owner, *mtime)),
            _ => None,
        });
        (back.collect::<Vec<_>>(), plan.notes)
    };
    let mtime = model.files.values().find(|f| f.path.0 == b"/tmp/out").unwrap().mtime;
    let names = "/tmp/out is put back under this name; its other names keep what they have";
    assert_eq!(look(&host), (vec![(Some((5, 6)), mtime)], vec![names.to_owned()]));
    host.capability_sets[2] &= !1;
    let owner = "/tmp/out is put back; its owner may not be given here";
    assert_eq!(look(&host), (vec![(None, mtime)], vec![names.to_owned(), owner.to_owned()]));
    (host.uid, host.groups) = (5, vec![6]);
    assert_eq!(look(&host).0, [(Some((5, 6)), mtime)]);
}

/// A tree with a directory and an O_PATH place open.
fn python() -> (Model, Host) {
    let model = capture_all(&Recorded::sample("python"), Keep::default()).expect("it can be kept");
    let mut host = host("root", &model);
    host.terminal = terminal();
    planned(&model, &host);
    (model, host)
}

#[test]
fn places_that_are_not_what_they_were() {
    let (model, host) = python();
    let with = |path: &str, change: &dyn Fn(PlaceFacts) -> Option<PlaceFacts>| {
        let mut host = host.clone();
        let place = host.places.remove(path.as_bytes()).expect("the tree has it");
        host.places.extend(change(place).map(|p| (path.as_bytes().to_vec(), p)));
        resources::plan(&model, &host, &Options::default()).map_or_else(|all| reasons(&all), |_| vec![])
    };
    let file = |p| Some(PlaceFacts { mode: 0o100_644, ..p });
    for (path, what) in [("/usr", "an open directory"), ("/tmp", "the working directory")] {
        let line = |of: &str| [format!("{path}: {what} {of}")];
        assert_eq!(with(path, &|_| None), line("is not here"));
        assert_eq!(with(path, &file), line("is not a directory here"));
        assert_eq!(with(path, &|p| Some(PlaceFacts { access: 0, ..p })), line("may not be used by this user"));
    }
    // Entering a directory and reading it are two rights.
    let of = |path: &str, access| with(path, &|p| Some(PlaceFacts { access, ..p })).len();
    assert_eq!([of("/usr", 1), of("/usr", 4), of("/tmp", 1), of("/tmp", 4)], [1, 0, 0, 1]);
    let path = "/usr/bin: a place that it has open (O_PATH)";
    assert_eq!(with("/usr/bin", &|_| None), [format!("{path} is not here")]);
    assert_eq!(with("/usr/bin", &file), [format!("{path} is not a directory here")]);
}

#[test]
fn a_place_that_who_freezes_may_not_use_is_told() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(notes::<Fs>(&sample), [""; 0]);
    let cwd = sample.links["cwd"].clone();
    sample.closed = vec![cwd.clone()];
    let why = format!(
        "you may not use {} yourself as it does: allow it before you thaw it, or thaw it as root",
        resources::Text(cwd)
    );
    assert_eq!(notes::<Fs>(&sample), [why]);
}

#[test]
fn a_removed_directory_that_can_be_made_nowhere() {
    let (mut model, mut host) = python();
    for state in &mut model.processes[0].states {
        if let ProcessState::Fs(fs) = state {
            (fs.cwd, fs.removed) = (
                b"/a/b"[..].into(),
                Some(Removed { mode: 0o040_755, owner: (0, 0), number: 0, target: None, device: None }),
            );
        }
    }
    let made = |host: &Host| {
        let plan = planned(&model, host);
        let made = steps(&plan, &["fs"]).into_iter().find(|s| s.contains("removed once")).expect("it is made");
        (made.split_whitespace().skip(5).collect::<Vec<_>>().join(" "), plan.notes)
    };
    host.places.insert(b"/a".to_vec(), PLACE);
    host.places.insert(b"/tmp".to_vec(), PLACE);
    assert_eq!(made(&host), ("directory /a/b, removed once it is open".into(), vec![]));
    host.places.insert(b"/a".to_vec(), PlaceFacts { access: 5, ..PLACE });
    let note = "/a/b had been removed, and nothing can be made where it was: its .. is /tmp now";
    assert_eq!(made(&host), ("directory /tmp/b, removed once it is open".into(), vec![note.into()]));
    host.places.remove(&b"/tmp"[..]);
    let line = "/a/b: the program has this removed directory, and no new one can be made where it was";
    assert_eq!(refusals(&model, &host), [line]);
}

fn of_user(model: &mut Model, uid: u32, gid: u32, groups: &[u32], capabilities: u64) {
    for state in model.processes[0].threads.iter_mut().flat_map(|t| &mut t.states) {
        if let ThreadState::Creds(c) = state {
            (c.uid, c.gid, c.groups) = ([uid; 4], [gid; 4], groups.to_vec());
            c.capabilities = [0, capabilities, capabilities, u64::MAX >> 23, 0];
        }
    }
}

#[test]
fn an_ordinary_user_thaws_only_what_is_his() {
    let (mut model, _) = sleep();
    let host = host("user", &model);
    let other = "credentials: it belonged to user 0 (group 0, groups [])";
    assert_eq!(refusals(&model, &host), [other]);
    of_user(&mut model, 1000, 1000, &[27, 1000], 1 << 10);
    let capability = "credentials: it had capabilities that may not be given here: CAP_NET_BIND_SERVICE";
    assert_eq!(refusals(&model, &host), [capability]);
    of_user(&mut model, 1000, 1000, &[27], 0);
    assert_eq!(refusals(&model, &host), ["credentials: it belonged to user 1000 (group 1000, groups [27])"]);
    of_user(&mut model, 1000, 1000, &[27, 1000], 0);
    planned(&model, &host);
}

#[test]
fn the_same_user_in_place_with_one_capability() {
    const CHECKPOINT_RESTORE: u64 = 1 << 40;
    let (mut model, _) = sleep();
    of_user(&mut model, 1000, 1000, &[27, 1000], 0);
    let mut host = host("user", &model);
    host.capability_sets = [CHECKPOINT_RESTORE, CHECKPOINT_RESTORE, CHECKPOINT_RESTORE, u64::MAX >> 23, 0];
    let plan = planned(&model, &host);
    assert_eq!(plan.namespaces, plan::Namespaces::Same);
    // Nothing that takes a privilege: only what it has too much is given up.
    let creds = steps(&plan, &["creds"]);
    assert!(creds.len() == 1 && creds[0].contains("capset("), "{creds:#?}");
}

#[test]
fn capabilities_of_another_user_namespace() {
    let mut sample = Recorded::sample("sleep");
    sample.links.insert("ns/user".into(), b"user:[7]".to_vec());
    let line = "ns/user: its capabilities are those of a user namespace of its own; here they would be far more";
    assert_eq!(reasons(&refused(capture::<Creds>(&sample))), [line]);
    let permitted = format!("CapPrm:\t{:016x}", capture::<Creds>(&Recorded::sample("sleep")).unwrap().capabilities[1]);
    sample.edit("status", &permitted, "CapPrm:\t0000000000000000");
    capture::<Creds>(&sample).expect("without capabilities it has no more than its ids");
}

#[test]
fn no_terminal() {
    let model = capture_all(&Recorded::sample("bash"), Keep::default()).expect("it can be kept");
    let host = host("root", &model);
    assert_eq!(refusals(&model, &host), ["terminal: the program lives on a terminal and there is none here"]);
}

#[test]
fn ids_that_are_taken() {
    let (model, mut host) = sleep();
    let id = model.ids()[0];
    let same = Options { pids: Pids::Same, ..Options::default() };
    host.taken.insert(id);
    assert_eq!(plan_refused(&model, &host, &same), [format!("id {id}: it is taken by another process here")]);
    assert_eq!(planned(&model, &host).namespaces, plan::Namespaces::Pid);
    host.taken.clear();
    assert_eq!(planned(&model, &host).namespaces, plan::Namespaces::Same);
    host.capability_sets[2] = 0;
    let line = "ids: only root, or who has CAP_CHECKPOINT_RESTORE, may choose the ids of processes";
    assert!(plan_refused(&model, &host, &same).contains(&line.to_owned()));
}

#[test]
fn a_host_without_user_namespaces() {
    let (mut model, _) = sleep();
    of_user(&mut model, 1000, 1000, &[27, 1000], 0);
    let mut host = host("user", &model);
    host.user_namespaces = false;
    let all = refusals(&model, &host);
    assert!(all.len() == 1 && all[0].starts_with("user namespaces: the ids that the programs had"), "{all:?}");
}

#[test]
fn too_few_descriptors() {
    let (model, mut host) = sleep();
    let plan = planned(&model, &host);
    let made = plan.steps.iter().filter(|s| matches!(s.op, plan::Op::Make { .. })).count() as u64;
    host.max_files = u64::from(plan.base) + made;
    let all = refusals(&model, &host);
    assert!(all.len() == 1 && all[0].starts_with("limits: "), "{all:?}");
}

#[test]
fn where_few_numbers_are_left_those_between_are_used() {
    let (mut model, mut host) = sleep();
    let open = model.processes[0].process.fds[0].clone();
    model.processes[0].process.fds.push(resources::tree::process::Fd { number: 255, ..open });
    let above = planned(&model, &host);
    assert_eq!(above.reserve, 256);
    host.max_files = 256;
    let between = planned(&model, &host);
    let closed: Vec<(u64, u64)> = between.steps.iter().filter_map(closes).collect();
    assert!(between.reserve > host.highest_fd && between.base < 255);
    assert!(closed.iter().all(|(first, last)| !(*first..=*last).contains(&255)), "{closed:?}");
    assert!(closed.iter().all(|(first, last)| *last < between.reserve.into() || *first >= between.base.into()));
}

/// The numbers that a step closes.
fn closes(step: &plan::Step) -> Option<(u64, u64)> {
    match &step.op {
        plan::Op::Call { sys: abi::Sys::CloseRange, args, .. } => match &args[..] {
            [plan::Value::Int(first), plan::Value::Int(last), ..] => Some((*first, *last)),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn an_id_that_a_user_namespace_does_not_have() {
    let (mut model, _) = sleep();
    of_user(&mut model, 1000, 1000, &[], 0);
    let mut host = host("root", &model);
    (host.inner_user_namespace, host.uids, host.gids) = (true, vec![(0, 1)], vec![(0, 1)]);
    let all = refusals(&model, &host);
    assert!(all.iter().any(|r| r.contains("user or group 1000 is not in this user namespace")), "{all:?}");
    (host.uids, host.gids) = (vec![(0, 1), (1000, 5)], vec![(0, 2000)]);
    planned(&model, &host);
    host.keeps_groups = true;
    host.groups = vec![27];
    let all = refusals(&model, &host);
    assert!(all.iter().any(|r| r.contains("nobody may change groups")), "{all:?}");
}

#[test]
fn the_refusals_of_a_host_are_told_at_once() {
    let (mut model, _) = sleep();
    of_user(&mut model, 5, 5, &[], 0);
    let mut host = host("user", &model);
    (host.user_namespaces, host.vdso_sum) = (false, host.vdso_sum + 1);
    host.files.clear();
    let all = refusals(&model, &host);
    let about = |what: &str| assert!(all.iter().any(|r| r.contains(what)), "nothing about {what}: {all:#?}");
    ["user namespaces", "vdso", "libc.so.6", "/tmp/out", "credentials"].into_iter().for_each(about);
}

#[test]
fn another_login() {
    let (mut model, mut host) = sleep();
    for state in &mut model.processes[0].states {
        if let ProcessState::Attributes(a) = state {
            a.login = Some(1000);
        }
    }
    let look = |host: &Host| {
        let plan = planned(&model, host);
        (plan.steps.iter().any(|s| s.to_string().contains("/proc/self/loginuid")), plan.notes)
    };
    assert_eq!(look(&host), (false, vec![]), "a kernel that counts no logins");
    for here in [u32::MAX, 7] {
        host.loginuid = Some(here);
        assert_eq!(look(&host), (true, vec![]));
    }
    host.capability_sets[2] &= !(1 << 30);
    let note = "it was of a login of user 1000; the audit log counts it to user 7 now";
    assert_eq!(look(&host), (false, vec![note.into()]));
    host.loginuid = Some(1000);
    assert_eq!(look(&host), (false, vec![]));
}

#[test]
fn who_may_not_write_code_makes_no_program() {
    let (model, mut host) = sleep();
    host.no_written_code = true;
    let refusals = resources::plan(&model, &host, &Options::default()).unwrap_err();
    let told: Vec<_> = refusals.iter().map(|r| (r.what.as_str(), r.why.as_str())).collect();
    assert_eq!(told, [("PR_SET_MDWE", "whoever thaws it may not make memory executable that was written")]);
}

#[test]
fn what_is_less_than_it_was_is_told() {
    let (mut model, mut host) = sleep();
    host.capability_sets[2] &= !(1 << 24 | 1 << 23 | 1 << 21);
    host.limits = vec![(10, 10); 16];
    host.no_new_privs = true;
    for state in &mut model.processes[0].states {
        match state {
            ProcessState::Attributes(a) => a.oom_score_adj = -900,
            ProcessState::Limits(l) => l.limits = vec![(5, 10), (20, 30), (u64::MAX, u64::MAX), (5, 30)],
            _ => {}
        }
    }
    for state in &mut model.processes[0].threads[0].states {
        if let ThreadState::Sched(s) = state {
            s.nice = -5;
            s.io = 1 << 13 | 2;
        }
    }
    let notes = planned(&model, &host).notes;
    let expected = [
        "the out-of-memory score was -900 and may not be set so low here",
        "the limit fsize was 20 and cannot be more than 10 here",
        "the limit data was unlimited and cannot be more than 10 here",
        "the hard limit stack was 30 and cannot be more than 10 here",
        "CLOCK_MONOTONIC is that of this machine: what the program waits for may come early or late",
        "the scheduling priority was higher than this user may set: it may be lower now",
        "the priority of its input and output was higher than this user may set: it may be lower now",
        "it cannot gain privileges by executing a file any more: no_new_privs is set for whoever thaws it",
    ];
    assert_eq!(notes, expected);
}

/// What is told of where a thread runs and has its memory from: processors 0 and 2, nodes 0 and 2.
fn told_of_places(processors: &[u32], nodes: &[u32], mode: u32) -> Vec<String> {
    let (mut model, mut host) = sleep();
    host.processors = processors.iter().copied().collect();
    host.nodes = nodes.iter().copied().collect();
    for state in &mut model.processes[0].threads[0].states {
        if let ThreadState::Sched(s) = state {
            (s.processors, s.memory) = (Blob(vec![5]), Some((mode, Blob(vec![5]))));
        }
    }
    planned(&model, &host).notes
}

#[test]
fn processors_and_nodes_that_are_not_here_are_told() {
    const BIND: u32 = 2;
    const RELATIVE: u32 = 1 << 14;
    let nothing = Vec::<String>::new();
    assert_eq!(told_of_places(&[], &[], BIND), nothing, "of what is not known nothing is told");
    assert_eq!(told_of_places(&[0, 1, 2], &[0, 1, 2], BIND), nothing);
    assert_eq!(told_of_places(&[0], &[0, 2], BIND), nothing, "it may run on all that there are");
    assert_eq!(told_of_places(&[0, 2], &[1], BIND | RELATIVE), nothing, "they are counted from the first that is here");
    let none = "it may run on none of the processors on which it ran: it runs on those of whoever thaws it";
    assert_eq!(told_of_places(&[1, 3], &[0, 2], BIND), [none]);
    let part = "it may run on a part only of the processors to which it was bound";
    assert_eq!(told_of_places(&[0, 1], &[0, 2], BIND), [part]);
    let nodes = "1 of the nodes of memory that it had chosen (set_mempolicy) cannot be had here";
    assert_eq!(told_of_places(&[0, 2], &[0, 1], BIND), [nodes]);
}

#[test]
fn a_priority_counts_in_the_first_user_namespace_only() {
    let (mut model, mut host) = sleep();
    host.inner_user_namespace = true;
    for state in &mut model.processes[0].threads[0].states {
        if let ThreadState::Sched(s) = state {
            s.nice = -5;
        }
    }
    let note = "the scheduling priority was higher than this user may set: it may be lower now";
    assert_eq!(planned(&model, &host).notes, [note]);
}
