//! Locks on files: whose they are, and what is asked for again.

use crate::common::*;
use abi::Sys;
use abi::proc::{LockClass, lock, locks};
use plan::{Actor, Fact, Op, Tid, Value};
use resources::fd::locks::{FileLocks, Held, Of};
use resources::{CaptureTree, Capturing, Files, Keep, Model, Told, TreeState};

#[test]
fn a_lock_is_read_as_the_kernel_tells_it() {
    let seen = lock(b"1: POSIX  ADVISORY  WRITE 725 fe:0a:1234 10 19").expect("a lock");
    assert_eq!((seen.class, seen.exclusive, seen.waits, seen.pid), (LockClass::Posix, true, false, 725));
    assert_eq!((seen.dev, seen.ino, seen.start, seen.end), ((0xfe, 10), 1234, 10, Some(19)));
    let seen = lock(b"12: OFDLCK ADVISORY  READ -1 00:1b:7 0 EOF").expect("a lock");
    assert_eq!((seen.class, seen.exclusive, seen.pid, seen.end), (LockClass::Ofd, false, -1, None));
    let lease = |text: &str| lock(text.as_bytes()).map(|l| (l.class, l.exclusive, l.becomes, l.is_broken_by_reading()));
    let read = Some((LockClass::Lease, false, None, false));
    assert_eq!(lease("3: LEASE  ACTIVE    READ 7 08:01:5 0 EOF"), read);
    assert_eq!(lease("3: LEASE  ACTIVE    WRITE 7 08:01:5 0 EOF"), Some((LockClass::Lease, true, None, true)));
    assert_eq!(lease("3: LEASE  BREAKING  UNLCK 7 08:01:5 0 EOF"), Some((LockClass::Lease, false, Some(2), true)));
    assert_eq!(lease("3: LEASE  BREAKING  READ 7 08:01:5 0 EOF"), Some((LockClass::Lease, false, Some(0), true)));
    assert_eq!(lock(b"3: DELEG  ACTIVE    READ 7 08:01:5 0 EOF").expect("a delegation").class, LockClass::Other);
    assert_eq!(lock(b"4: POSIX  *NOINODE*"), None);
    let all = locks(b"1: FLOCK  ADVISORY  WRITE 9 08:01:5 0 EOF\n1: -> FLOCK  ADVISORY  READ 10 08:01:5 0 EOF\n");
    assert_eq!(all.iter().map(|l| (l.pid, l.waits)).collect::<Vec<_>>(), [(9, false), (10, true)]);
}

/// Process 100 and its child 101 have the same description, by number 3, and each a lock of its own by it.
fn captured(lines: Vec<Told>) -> Option<FileLocks> {
    let probe = Recorded { told: lines, threads: vec![100, 101], ..Recorded::plain() };
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: &probe, files: &mut files, keep: Keep::default(), notes: &mut notes };
    FileLocks::capture(&mut from).expect("nothing is refused")
}

fn told(pid: u32, number: u32, description: u32, flags: u32, lines: &[&str]) -> Told {
    Told { pid, number, description, flags, ino: None, lines: lines.iter().map(|l| l.as_bytes().to_vec()).collect() }
}

#[test]
fn each_lock_is_kept_once_by_a_descriptor_of_its_own_process() {
    const OURS: &str = "1: POSIX  ADVISORY  WRITE 100 fe:00:7 10 19";
    const CHILDS: &str = "2: POSIX  ADVISORY  WRITE 101 fe:00:7 50 59";
    const WHOLE: &str = "3: FLOCK  ADVISORY  READ 555 fe:00:7 0 EOF";
    const ASKED: &str = "5: FLOCK  ADVISORY  WRITE 100 fe:00:9 0 EOF";
    let all = captured(vec![
        // For reading only: it shows the lock, which nobody can have asked for by it.
        told(100, 3, 1, 0, &[OURS]),
        told(100, 4, 2, 2, &[OURS, WHOLE]),
        told(101, 4, 2, 2, &[CHILDS, WHOLE]),
        // Of one that had the same table, and has ended.
        told(101, 5, 3, 2, &["4: POSIX  ADVISORY  WRITE 999 fe:00:8 0 EOF"]),
        // Asked for by its parent, which has closed it.
        told(101, 6, 4, 2, &[ASKED]),
    ]);
    let of = |process, exclusive, start, end| {
        let number = if process == 0 { 0 } else { 4 };
        let of = if process == 0 { Of::Whole } else { Of::Process };
        Held { of, description: 2, process, number, exclusive, start, end, becomes: None, asked: None }
    };
    let ended = Held { description: 3, number: 5, asked: Some(999), ..of(101, true, 0, None) };
    let asked = Held {
        of: Of::Whole,
        description: 4,
        process: 100,
        number: 0,
        exclusive: true,
        start: 0,
        end: None,
        becomes: None,
        asked: None,
    };
    let expected = [of(100, true, 10, Some(19)), of(0, false, 0, None), of(101, true, 50, Some(59)), ended, asked];
    assert_eq!(all.expect("there are some").held, expected);
    assert_eq!(captured(vec![]), None);
}

fn with_lock(of: Of) -> (Model, plan::Host) {
    let mut model = capture_all(&Recorded::sample("sleep"), Keep::default()).expect("it can be kept");
    model.files.values_mut().for_each(|f| f.contents = None);
    let host = host("root", &model);
    let p = &model.processes[0].process;
    let fd = p.fds.iter().find(|fd| model.descriptions[&fd.description].file().is_some()).expect("a file is open");
    let (process, number) = if matches!(of, Of::Process | Of::Lease) { (p.pid, fd.number) } else { (0, 0) };
    let held = Held {
        of,
        description: fd.description,
        process,
        number,
        exclusive: true,
        start: 5,
        end: Some(9),
        becomes: None,
        asked: None,
    };
    model.tree.push(TreeState::FileLocks(FileLocks { held: vec![held] }));
    (model, host)
}

#[test]
fn a_process_asks_when_nothing_is_closed_any_more() {
    let (model, host) = with_lock(Of::Process);
    let plan = planned(&model, &host);
    let at = |sys: Sys| plan.steps.iter().rposition(|s| matches!(&s.op, Op::Call { sys: s, .. } if *s == sys));
    let step = &plan.steps[at(Sys::Fcntl).expect("it asks")];
    assert!(at(Sys::Fcntl) > at(Sys::CloseRange));
    assert_eq!(step.actor, Actor::Thread(Tid(model.processes[0].process.pid)));
    assert!(step.needs.contains(&Fact::Closed(plan::Pid(model.processes[0].process.pid))));
    let Op::Call { args, .. } = &step.op else { unreachable!() };
    let Value::Bytes(bytes) = &args[2] else { panic!("{args:?}") };
    assert_eq!((bytes[0], bytes[8], bytes[16]), (1, 5, 5));
}

#[test]
fn a_lock_outlives_who_asked_for_it() {
    let (mut model, host) = with_lock(Of::Process);
    let Some(TreeState::FileLocks(locks)) = model.tree.last_mut() else { panic!("there is one") };
    locks.held[0].asked = Some(99_999);
    let plan = planned(&model, &host);
    let step = plan.steps.iter().rfind(|s| matches!(&s.op, Op::Call { sys: Sys::Fcntl, .. })).expect("it asks");
    assert_eq!(step.actor, Actor::Thread(Tid(model.processes[0].process.pid)));
    assert!(plan.notes.iter().any(|note| note.contains("process 99999 had asked for a lock")), "{:?}", plan.notes);
    survives(&model);
}

#[test]
fn a_lease_is_of_who_took_it_and_shows_what_it_is_to_become() {
    const OURS: &str = "1: LEASE  BREAKING  UNLCK 101 fe:00:7 0 EOF";
    let all = captured(vec![
        told(100, 3, 1, 1, &[OURS]),
        told(101, 5, 1, 1, &[OURS]),
        // Whoever took this one has closed it.
        told(101, 6, 2, 0, &["1: LEASE  ACTIVE    READ 100 fe:00:8 0 EOF"]),
    ]);
    let of = |description, number, exclusive, becomes| Held {
        of: Of::Lease,
        description,
        process: 101,
        number,
        exclusive,
        start: 0,
        end: None,
        becomes,
        asked: None,
    };
    assert_eq!(all.expect("there are some").held, [of(1, 5, true, Some(2)), of(2, 6, false, None)]);
    let (mut model, host) = with_lock(Of::Lease);
    let Some(TreeState::FileLocks(locks)) = model.tree.last_mut() else { panic!("there is one") };
    let number = locks.held[0].number;
    locks.held[0].becomes = Some(2);
    let plan = planned(&model, &host);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let at = |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    let [take, free] = ["1024, 1)", "8, 0)"].map(|args| format!("fcntl({number}, {args}"));
    // 2049: O_WRONLY and O_NONBLOCK.
    assert!(["close_range(", &take, &free, ", 2049, 0) (or not)"].map(at).is_sorted(), "{lines:#?}");
}

#[test]
fn the_process_that_asked_for_a_whole_file_asks_again() {
    let (mut model, host) = with_lock(Of::Whole);
    let root = model.processes[0].process.pid;
    let mut who = |process| {
        let Some(TreeState::FileLocks(locks)) = model.tree.last_mut() else { panic!("there is one") };
        locks.held[0].process = process;
        let plan = planned(&model, &host);
        let at = plan.steps.iter().position(|s| matches!(&s.op, Op::Call { sys: Sys::Flock, .. })).expect("it asks");
        let closes = plan.steps.iter().position(|s| matches!(&s.op, Op::Call { sys: Sys::CloseRange, .. }));
        assert!(at < closes.expect("something is closed"));
        plan.steps[at].actor
    };
    // Of one that is not of the tree, nobody can ask in its name.
    assert_eq!([who(root), who(0), who(99_999)], [Actor::Thread(Tid(root)), Actor::Store, Actor::Store]);
}

#[test]
fn what_somebody_else_has_locked_by_now_is_refused() {
    let (model, mut host) = with_lock(Of::Process);
    assert!(model.questions().contains(&"/proc/locks".to_owned()));
    let path = model.files[&model.descriptions.values().find_map(|d| d.file()).expect("a file")].path.clone();
    host.files.get_mut(&path.0).expect("it is here").inode = Some((abi::proc::makedev(0xfe, 0), 7));
    let mut with = |text: &str| {
        host.told.insert("/proc/locks".into(), text.into());
        resources::plan(&model, &host, &plan::Options::default()).err().map_or(0, |all| all.len())
    };
    assert_eq!(with("1: POSIX  ADVISORY  READ 44 fe:00:7 0 5"), 1);
    assert_eq!(with("1: POSIX  ADVISORY  READ 44 fe:00:7 0 4"), 0);
    assert_eq!(with("1: POSIX  ADVISORY  READ 44 fe:00:8 0 EOF"), 0);
    assert_eq!(with("1: FLOCK  ADVISORY  WRITE 44 fe:00:7 0 EOF"), 0);
    assert_eq!(with("1: -> POSIX  ADVISORY  WRITE 44 fe:00:7 0 EOF"), 0);
    assert_eq!(with("1: OFDLCK ADVISORY  WRITE -1 fe:00:7 0 EOF"), 1);
}
