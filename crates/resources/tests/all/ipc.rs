//! System V IPC: what is asked of the kernel, whose an object is, what becomes of it, and the operations that tell of what no
//! call tells.

use crate::common::*;
use abi::layout::{FileStat, IpcPerm, Msqid, Sembuf, Semid, Shmid};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use image::{Damage, Extent};
use plan::{Host, Op, Options, Pids, Value};
use proptest::prelude::*;
use proptest::sample::select;
use resources::ipc::msg::{Message, Queue, SysvMsg};
use resources::ipc::sem::{Set, SysvSem};
use resources::ipc::shm::{Segment, Stays, SysvShm};
use resources::ipc::undo::{Change, SemUndo};
use resources::ipc::{Perm, Used};
use resources::mm::area::{Area, Backing};
use resources::ns::ipc::{IpcNamespace, Limit};
use resources::{
    Blob, Capture, CaptureTree, Capturing, Files, Keep, Model, Note, Probe, ProcessState, TreeState, Trouble,
};
use std::cell::RefCell;

const PAGE: u64 = 4096;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/self/ns/ipc";

/// ipc/sem.c, as far as it matters: one set, and one process.
struct Kernel {
    values: RefCell<Vec<i32>>,
    changes: RefCell<Vec<i32>>,
}

impl Kernel {
    fn new(semaphores: &[(i32, i32)]) -> Kernel {
        let (values, changes) = semaphores.iter().copied().unzip();
        Kernel { values: RefCell::new(values), changes: RefCell::new(changes) }
    }

    /// perform_atomic_semop_slow: all of them, or none.
    fn operate(&self, operations: &[Sembuf]) -> Result<u64, Errno> {
        let (mut values, mut changes) = (self.values.borrow().clone(), self.changes.borrow().clone());
        for o in operations {
            let (n, change) = (usize::from(o.number), i32::from(o.change));
            assert!(o.flags & 0o4000 != 0, "it does not wait");
            let value = values[n] + change;
            if (change == 0 && values[n] != 0) || value < 0 {
                return Err(Errno::EAGAIN);
            }
            let undo = if o.flags & 0x1000 != 0 { changes[n] - change } else { changes[n] };
            if value > 32767 || !(-32768..=32767).contains(&undo) {
                return Err(Errno::ERANGE);
            }
            (values[n], changes[n]) = (value, undo);
        }
        (*self.values.borrow_mut(), *self.changes.borrow_mut()) = (values, changes);
        Ok(0)
    }

    fn call(&self, call: &Call) -> Answer {
        let numbers: Vec<u64> = call.args.iter().map(|a| if let Arg::Int(n) = a { *n } else { 0 }).collect();
        let values = self.values.borrow().iter().flat_map(|v| (*v as u16).to_ne_bytes()).collect();
        let about = Semid { count: self.values.borrow().len() as u64, used: 1, ..Semid::default() }.to_bytes().to_vec();
        let (result, out) = match (call.sys, &call.args[1..]) {
            (Sys::Semop, [Arg::Bytes(bytes), ..]) => {
                let operations: Vec<_> = bytes.chunks(6).map(|b| Sembuf::from_bytes(b).unwrap()).collect();
                assert!(operations.len() <= 32 && operations.len() as u64 == numbers[2]);
                (self.operate(&operations), vec![])
            }
            (Sys::Semctl, _) if numbers[2] == 13 => (Ok(0), vec![values]),
            (Sys::Semctl, _) if numbers[0] == 0 => (Ok(if numbers[2] == 20 { 7 } else { 0 }), vec![about]),
            (Sys::Shmctl | Sys::Msgctl, _) => (Err(Errno::ENOSYS), vec![]),
            other => panic!("nobody wrote down what {other:?} gives"),
        };
        Answer { result, out: out.into_iter().collect() }
    }
}

impl Probe for Kernel {
    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        Ok(calls.iter().map(|call| self.call(call)).collect())
    }
}

fn capturing<'a>(probe: &'a dyn Probe, files: &'a mut Files, notes: &'a mut Vec<Note>) -> Capturing<'a> {
    Capturing { probe, files, keep: Keep::default(), notes }
}

fn found(kernel: &Kernel) -> (Vec<Change>, Used) {
    let mut files = Files::default();
    let changes = SemUndo::capture(&mut capturing(kernel, &mut files, &mut vec![])).unwrap().changes;
    (changes, files.ipc)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_back_is_found_by_operations_that_change_nothing(
        semaphores in proptest::collection::vec(
            (
                prop_oneof![select(vec![0, 1, 16384, 32766, 32767]), 0..=32767],
                prop_oneof![4 => Just(0), 3 => select(vec![-32768, -32767, -2, -1, 1, 2, 32766, 32767]), 2 => -32768..=32767],
            ),
            1..20,
        )
    ) {
        let kernel = Kernel::new(&semaphores);
        let (changes, used) = found(&kernel);
        let expected: Vec<Change> = (0..).zip(&semaphores).filter(|(_, (_, change))| *change != 0)
            .map(|(number, (_, change))| Change { set: 7, number, value: *change as i16 }).collect();
        prop_assert_eq!(used.sets.contains(&7), !expected.is_empty());
        prop_assert_eq!(changes, expected);
        let now: Vec<_> = kernel.values.borrow().iter().copied().zip(kernel.changes.borrow().iter().copied()).collect();
        prop_assert_eq!(now, semaphores);
    }

    #[test]
    fn changes_are_made_again_beside_the_value_or_instead_of_it(
        (value, change) in (0..=32767, -32768..=32767).prop_filter("some", |(_, change)| *change != 0)
    ) {
        let change_of = Change { set: 7, number: 0, value: change as i16 };
        let mut model = with_tree(vec![TreeState::SysvSem(SysvSem { sets: vec![set(7, &[value as u16])] })]);
        model.processes[0].states.push(ProcessState::SemUndo(SemUndo { changes: vec![change_of] }));
        survives(&model);
        let operations = |host: &Host| {
            let plan = planned(&model, host);
            let calls = plan.steps.iter().filter_map(|s| match &s.op {
                Op::Call { sys: Sys::Semop, args, .. } => Some(args.clone()),
                _ => None,
            });
            let [call] = <[_; 1]>::try_from(calls.collect::<Vec<_>>()).unwrap();
            let Value::Bytes(bytes) = &call[1] else { panic!("{call:?}") };
            bytes.chunks(6).map(|b| Sembuf::from_bytes(b).unwrap()).collect::<Vec<_>>()
        };
        let again = Kernel::new(&[(value, 0)]);
        again.operate(&operations(&empty_host(&model))).unwrap();
        prop_assert_eq!((again.values.take(), again.changes.take()), (vec![value], vec![change]));
        // The end of the program has added it.
        let taken_back = value + change;
        prop_assume!((0..=32767).contains(&taken_back));
        let there = Kernel::new(&[(taken_back, 0)]);
        there.operate(&operations(&host_with(&model, "sem", "0 7 1"))).unwrap();
        prop_assert_eq!((there.values.take(), there.changes.take()), (vec![value], vec![change]));
    }
}

fn perm(key: i32) -> Perm {
    Perm { key, uid: 0, gid: 0, mode: 0o640 }
}

fn set(id: u32, values: &[u16]) -> Set {
    Set { id, perm: perm(0), values: values.to_vec() }
}

fn segment(id: u32, key: i32, stays: Stays) -> Segment {
    let contents = vec![Extent { at: PAGE, len: PAGE, offset: 1 << 22 }];
    Segment { id, perm: perm(key), size: 4 * PAGE - 10, stays, locked: stays == Stays::Attached, contents, page: 0 }
}

/// A tree with these, and with where they were.
fn with_tree(mut tree: Vec<TreeState>) -> Model {
    tree.push(TreeState::IpcNamespace(IpcNamespace {
        boot: "this".into(),
        namespace: "ipc:[1]".into(),
        own: false,
        limits: vec![],
    }));
    Model { tree, ..model("sleep") }
}

pub(crate) fn all_kinds() -> Model {
    let message = Message { kind: 3, text: Blob(b"text".to_vec()) };
    let queue = Queue { id: 9, perm: perm(0x99), limit: 16384, messages: vec![message] };
    with_tree(vec![
        TreeState::SysvShm(SysvShm {
            segments: vec![segment(4, 0x1234, Stays::Always), segment(5, 0, Stays::Attached)],
        }),
        TreeState::SysvSem(SysvSem { sets: vec![set(7, &[1, 2])] }),
        TreeState::SysvMsg(SysvMsg { queues: vec![queue] }),
    ])
}

const HEADS: [(&str, &str); 3] = [("shm", "key shmid size"), ("sem", "key semid nsems"), ("msg", "key msqid qnum")];

pub(crate) fn empty_host(model: &Model) -> Host {
    let mut host = host("root", model);
    host.told = [(BOOT, "this"), (NAMESPACE, "ipc:[1]")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    host.told.extend(HEADS.map(|(kind, head)| (format!("/proc/sysvipc/{kind}"), head.to_owned())));
    host
}

/// The same, with one object of a kind: key, id and size.
fn host_with(model: &Model, kind: &str, row: &str) -> Host {
    let mut host = empty_host(model);
    *host.told.get_mut(&format!("/proc/sysvipc/{kind}")).unwrap() += &format!("\n{row}");
    host
}

const BY: [&str; 5] = ["ipcns", "sysv-shm", "sysv-sem", "sysv-msg", "sem-undo"];

#[test]
fn in_place_all_is_made_again_with_its_id() {
    let model = all_kinds();
    survives(&model);
    let plan = planned(&model, &empty_host(&model));
    golden("ipc.root.plan", &(steps(&plan, &BY).join("\n") + "\n"));
    assert_eq!(plan.notes, Vec::<String>::new());
}

#[test]
fn in_a_pid_namespace_of_its_own_it_has_an_ipc_namespace_too() {
    let model = all_kinds();
    let host = host_with(&model, "sem", "0 7 2");
    let options = Options { pids: Pids::New, ..Options::default() };
    let plan = resources::plan(&model, &host, &options).unwrap();
    golden("ipc.new-pids.plan", &(steps(&plan, &BY).join("\n") + "\n"));
    let note = "semaphore set 7 is copied into an IPC namespace of the program's own; the one here stays (ipcrm -s 7)";
    assert_eq!(plan.notes, [note]);
}

#[test]
fn what_is_still_there_is_used_as_it_is() {
    let model = all_kinds();
    let plan = planned(&model, &host_with(&model, "shm", &format!("4660 4 {}", 4 * PAGE - 10)));
    let note = "shared memory segment 4 is still here: the program goes on with it as it is now";
    assert_eq!(plan.notes, [note]);
    assert!(!plan.to_string().contains("shm4") && plan.to_string().contains("shm5 = shmget"));
}

#[test]
fn what_another_object_has_is_refused() {
    let model = all_kinds();
    let refused = |host: &Host| plan_refused(&model, host, &Options::default());
    let same = format!("4660 4 {}", 4 * PAGE - 10);
    let is_other = "shared memory segment 4: its id is that of another one here";
    assert_eq!(refused(&host_with(&model, "shm", "4660 4 4096")), [is_other]);
    let mut later = host_with(&model, "shm", &same);
    later.told.insert(BOOT.into(), "another".into());
    assert_eq!(refused(&later), [is_other]);
    let mut elsewhere = host_with(&model, "shm", &same);
    elsewhere.told.insert(NAMESPACE.into(), "ipc:[2]".into());
    assert_eq!(refused(&elsewhere), [is_other]);
    let place = "message queue 9: its place is taken by the one with id 32777 here";
    assert_eq!(refused(&host_with(&model, "msg", "0 32777 0")), [place]);
    let key = "message queue 9: its key 0x99 is that of the one with id 3 here";
    assert_eq!(refused(&host_with(&model, "msg", "153 3 0")), [key]);
    let new = Options { pids: Pids::New, ..Options::default() };
    assert!(resources::plan(&model, &host_with(&model, "msg", "153 3 0"), &new).is_ok());
}

#[test]
fn a_namespace_of_its_own() {
    let mut model = all_kinds();
    let Some(TreeState::IpcNamespace(ipc)) = model.tree.last_mut() else { panic!("it was put there") };
    ipc.own = true;
    ipc.limits = vec![Limit { name: "msgmnb".into(), text: "20000".into() }];
    // What the host has does not matter.
    let mut host = host_with(&model, "msg", "153 9 0");
    let plan = planned(&model, &host);
    let own = steps(&plan, &["ipcns"]).join("\n");
    assert!(own.contains("unshare(0x8000000)") && own.contains("\"/proc/sys/kernel/msgmnb\""), "{own}");
    assert!(plan.notes.is_empty() && !plan.to_string().contains("removed if the thaw fails"));
    let at = |what: &str| plan.to_string().find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("first thread of a process") < at("unshare(") && at("unshare(") < at("shmget("));
    host.capability_sets[2] = 1 << 40;
    let refused = plan_refused(&model, &host, &Options::default());
    assert!(refused.iter().any(|r| r.starts_with("ns/ipc: it had an IPC namespace of its own")), "{refused:?}");
    let model = of_an_ordinary_user(model);
    let plan = planned(&model, &Host { told: host.told, ..crate::common::host("user", &model) });
    assert!(plan.notes.iter().any(|n| n.ends_with("are the usual ones now: msgmnb")), "{:?}", plan.notes);
    assert!(plan.notes.iter().any(|n| n == "message queue 9 was of user 0 and group 0; it is yours now"));
}

#[test]
fn more_than_an_ordinary_queue_takes_a_right() {
    let mut model = all_kinds();
    for state in &mut model.tree {
        if let TreeState::SysvMsg(msg) = state {
            msg.queues[0].limit = 20000;
        }
    }
    let model = of_an_ordinary_user(model);
    let host = Host { told: empty_host(&model).told, ..host("user", &model) };
    let why = "message queue 9: 20000 bytes may wait in it, and only root may allow more than 16384 here";
    assert_eq!(plan_refused(&model, &host, &Options::default()), [why]);
}

/// A tree with a segment of huge pages, of which one byte of the third is in use; and a host with so many free.
fn of_huge_pages(free: u64) -> (Model, Host) {
    let huge = Segment { page: 2 << 20, size: (4 << 20) + 1, ..segment(4, 0x1234, Stays::Always) };
    let model = with_tree(vec![TreeState::SysvShm(SysvShm { segments: vec![huge] })]);
    let mut host = empty_host(&model);
    for (name, count) in [("nr", 10), ("free", free), ("resv", 0), ("nr_overcommit", 0), ("surplus", 0)] {
        host.told.insert(format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}_hugepages"), count.to_string());
    }
    (model, host)
}

#[test]
fn a_segment_of_huge_pages() {
    let us = Recorded::sample("sleep").threads[0] as i32;
    let mut of = sample(us, [us, us]);
    of.segment_page = 2 << 20;
    let (found, _) = tree(&of, &mut Files::default());
    let pages = found.unwrap().iter().find_map(|s| match s {
        TreeState::SysvShm(shm) => Some(shm.segments.iter().map(|s| s.page).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(pages, Some(vec![2 << 20]));
    let (model, host) = of_huge_pages(3);
    survives(&model);
    assert!(host.told.keys().filter(|path| path.contains("huge")).all(|path| model.questions().contains(path)));
    // SHM_HUGETLB is 04000, and the size stands above bit 26.
    let flags = 0o7600 | 21 << 26;
    let made = format!("shm4 = shmget(0x1234, 0x400001, {flags:#x})");
    let plan = planned(&model, &host).to_string();
    assert!(plan.contains(&made), "{made}: {plan}");
    let (model, host) = of_huge_pages(2);
    let why = "huge pages: it has 3 of 2048 KiB, and 2 are free here";
    assert_eq!(plan_refused(&model, &host, &Options::default()), [why]);
    // It is still there: none more are needed.
    let mut there = host;
    *there.told.get_mut("/proc/sysvipc/shm").unwrap() += &format!("\n4660 4 {}", (4 << 20) + 1);
    planned(&model, &there);
}

#[test]
fn who_may_make_segments_of_huge_pages() {
    let (model, rich) = of_huge_pages(3);
    let model = of_an_ordinary_user(model);
    let refused = |change: &dyn Fn(&mut Host)| {
        let limits = vec![(1 << 20, 1 << 20); 16];
        let mut host = Host { told: rich.told.clone(), limits, ..host("user", &model) };
        change(&mut host);
        resources::plan(&model, &host, &Options::default()).map_or_else(|all| reasons(&all), |_| vec![])
    };
    let why = "shared memory segment 4: it is made of huge pages, and whoever thaws may make no segment of those here";
    assert_eq!(refused(&|_| ()), [why]);
    assert!(refused(&|host| host.limits[8].0 = 8 << 20).is_empty());
    let group = "/proc/sys/vm/hugetlb_shm_group";
    assert!(model.questions().contains(&group.to_owned()));
    assert!(refused(&|host| _ = host.told.insert(group.into(), host.gid.to_string())).is_empty());
}

fn area(start: u64, pages: u64, (id, offset): (u32, u64), protection: u8) -> Area {
    Area {
        start,
        end: start + pages * PAGE,
        protection,
        shared: true,
        may_write: protection & 2 != 0,
        backing: Backing::Segment { id, offset: offset * PAGE },
        name: None,
        flags: vec![],
        page: 0,
    }
}

/// The calls for these areas of two segments of four pages, 4 and 5.
fn attached(areas: &[Area]) -> Vec<String> {
    let mut model = all_kinds();
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.splice(0..0, areas.iter().cloned());
        }
    }
    survives(&model);
    let all = steps(&planned(&model, &empty_host(&model)), &["area"]);
    let room = |s: String| s.replace("0x50000000", "ROOM").replace("0x50003000", "ROOM+0x3000");
    let calls = all.iter().map(|s| room(s.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")));
    calls.filter(|s| ["shmat", "munmap", "mremap", "mprotect(0x10"].iter().any(|call| s.starts_with(call))).collect()
}

#[test]
fn attachments_are_whole_and_then_lose_what_they_had_lost() {
    let rest = [area(0x100_0000, 1, (4, 0), 3), area(0x100_2000, 1, (4, 2), 1)];
    let expected = [
        "shmat(4, 0x1000000, 0) = 0x1000000",
        "munmap(0x1001000, 0x1000)",
        "munmap(0x1003000, 0x1000)",
        "mprotect(0x1002000, 0x1000, 1)",
    ];
    assert_eq!(attached(&rest), expected);
    let only_read = [area(0x100_0000, 4, (4, 0), 1), area(0x100_9000, 4, (4, 0), 3)];
    assert_eq!(attached(&only_read), ["shmat(4, 0x1000000, 0x1000) = 0x1000000", "shmat(4, 0x1009000, 0) = 0x1009000"]);
}

#[test]
fn what_stands_in_a_gap_comes_later() {
    let other = [area(0x100_0000, 2, (4, 0), 3), area(0x100_2000, 4, (5, 0), 3)];
    let expected = [
        "shmat(4, ROOM, 0) = ROOM",
        "mremap(ROOM, 0x2000, 0x2000, 3, 0x1000000) = 0x1000000",
        "munmap(ROOM, 0x4000)",
        "shmat(5, 0x1002000, 0) = 0x1002000",
    ];
    assert_eq!(attached(&other), expected);
    // Of each a part is left where the other one would have to stand; what has grown is more than the segment.
    let pieces = [area(0x100_1000, 1, (4, 0), 3), area(0x100_3000, 2, (5, 3), 3)];
    let expected = [
        "shmat(4, ROOM, 0) = ROOM",
        "mremap(ROOM, 0x1000, 0x1000, 3, 0x1001000) = 0x1001000",
        "munmap(ROOM, 0x4000)",
        "shmat(5, ROOM, 0) = ROOM",
        "mremap(ROOM+0x3000, 0x1000, 0x2000, 3, 0x1003000) = 0x1003000",
        "munmap(ROOM, 0x4000)",
    ];
    assert_eq!(attached(&pieces), expected);
}

/// The sample, in whose namespace there is one object of each kind at place 0: last used by these.
fn sample(cpid: i32, users: [i32; 2]) -> Recorded {
    let mut it = Recorded::sample("sleep");
    let perm = IpcPerm { key: 0x77, mode: 0o1600, ..IpcPerm::default() };
    let used = users.iter().any(|user| *user != 0).into();
    let shm = Shmid { perm, size: 5000, cpid, lpid: users[0], attached: 2 };
    it.answer(Sys::Shmctl, &[0, 15], Ok(11), vec![shm.to_bytes().to_vec()]);
    it.answer(Sys::Semctl, &[0, 0, 20], Ok(12), vec![Semid { perm, used, count: 2 }.to_bytes().to_vec()]);
    it.answer(Sys::Semctl, &[12, 0, 13], Ok(0), vec![vec![5, 0, 6, 0]]);
    it.answer(Sys::Semctl, &[12, 0, 11], Ok(users[0] as u64), vec![]);
    it.answer(Sys::Semctl, &[12, 1, 11], Ok(users[1] as u64), vec![]);
    it.answer(Sys::Semop, &[12], Err(Errno::EAGAIN), vec![]);
    let msg =
        Msqid { perm, sent: used, received: 0, bytes: 4, count: 1, limit: 16384, lspid: users[0], lrpid: users[1] };
    it.answer(Sys::Msgctl, &[0, 13], Ok(13), vec![msg.to_bytes().to_vec()]);
    it.answer(Sys::Msgrcv, &[13], Ok(4), vec![[&9i64.to_ne_bytes()[..], b"text"].concat()]);
    it.answer(Sys::Kill, &[], Err(Errno::ESRCH), vec![]);
    it.answer(Sys::Kill, &[4000], Err(Errno::EPERM), vec![]);
    it.segments.insert(11, None);
    it.host_texts.insert(BOOT.into(), "a-b-c\n".into());
    it.links.insert("ns/ipc".into(), b"ipc:[1]".to_vec());
    it.own_links = [("ns/ipc".to_owned(), b"ipc:[1]".to_vec())].into();
    it
}

fn tree(from: &Recorded, files: &mut Files) -> (Result<Vec<TreeState>, Vec<String>>, Vec<String>) {
    let (mut notes, mut all, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    TreeState::capture_all(&mut capturing(from, files, &mut notes), &mut |state| match state {
        Ok(state) => all.push(state),
        Err(Trouble::Refused(more)) => refusals.extend(reasons(&more)),
        Err(Trouble::Fault(fault)) => panic!("{fault}"),
    });
    let notes = notes.iter().map(|n| format!("{}: {}", n.what, n.why)).collect();
    (if refusals.is_empty() { Ok(all) } else { Err(refusals) }, notes)
}

fn names(all: &[TreeState]) -> Vec<&'static str> {
    all.iter().map(TreeState::name).collect()
}

#[test]
fn what_a_process_of_the_tree_used_last_is_kept() {
    let us = Recorded::sample("sleep").threads[0] as i32;
    let (found, notes) = tree(&sample(us, [0, us]), &mut Files::default());
    let found = found.unwrap();
    assert_eq!(names(&found), ["sysv-shm", "sysv-sem", "sysv-msg", "ipcns"]);
    assert_eq!(
        notes,
        [
            "shared memory segment 11: it is attached by processes outside of the tree too: they have it together again only in this IPC namespace"
        ]
    );
    let TreeState::SysvShm(shm) = &found[0] else { panic!("{found:?}") };
    assert_eq!((shm.segments[0].id, shm.segments[0].stays, shm.segments[0].perm.mode), (11, Stays::Attached, 0o600));
    let TreeState::SysvSem(sem) = &found[1] else { panic!("{found:?}") };
    assert_eq!((sem.sets[0].id, &sem.sets[0].values), (12, &vec![5, 6]));
    let TreeState::SysvMsg(msg) = &found[2] else { panic!("{found:?}") };
    assert_eq!(msg.queues[0].messages, [Message { kind: 9, text: Blob(b"text".to_vec()) }]);
    let TreeState::IpcNamespace(ipc) = &found[3] else { panic!("{found:?}") };
    assert_eq!((ipc.boot.as_str(), ipc.namespace.as_str(), ipc.own), ("a-b-c", "ipc:[1]", false));
    let (_, notes) = tree(&sample(us, [4000, us]), &mut Files::default());
    assert!(notes[1].starts_with("semaphore set 12: it is used by process 4000 outside of the tree too"), "{notes:?}");
    assert!(notes[2].starts_with("message queue 13: it is used by process 4000"), "{notes:?}");
}

#[test]
fn what_others_used_last_is_theirs_and_what_nobody_uses_is_left() {
    let (found, notes) = tree(&sample(4000, [4000, 0]), &mut Files::default());
    assert_eq!((found.unwrap(), notes), (vec![], vec![]));
    let (found, notes) = tree(&sample(4001, [4002, 0]), &mut Files::default());
    assert_eq!(found.unwrap(), []);
    let left = "of its user: who used them last has ended, or is not known; they stay here and are not in the image";
    let told = |(kind, id): (&str, u32)| format!("{kind}: {id} {left}");
    assert_eq!(notes, [("semaphore sets", 12), ("message queues", 13)].map(told));
    // Nobody has used it yet.
    let (found, notes) = tree(&sample(4000, [0, 0]), &mut Files::default());
    assert_eq!((names(&found.unwrap()), notes), (vec!["sysv-sem", "sysv-msg", "ipcns"], vec![]));
    // Who made it has no id where the tree lives, or is not known.
    let mut apart = sample(0, [0, 0]);
    apart.links.insert("ns/pid".into(), b"pid:[2]".to_vec());
    let (found, notes) = tree(&apart, &mut Files::default());
    assert_eq!((found.unwrap(), notes), (vec![], [("semaphore sets", 12), ("message queues", 13)].map(told).to_vec()));
    // Somebody used it who has no id where everybody lives; or it shows no more than that someone has ended who waited for it.
    let mut used = Semid { used: 1, count: 2, ..Semid::default() };
    used.perm.mode = 0o600;
    let mut it = sample(4000, [0, 0]);
    it.answer(Sys::Semctl, &[0, 0, 20], Ok(12), vec![used.to_bytes().to_vec()]);
    let (found, notes) = tree(&it, &mut Files::default());
    assert_eq!((names(&found.unwrap()), notes), (vec!["sysv-msg", "ipcns"], vec![told(("semaphore sets", 12))]));
    // What a process has to take back makes it the tree's.
    let mut files = Files::default();
    files.ipc.sets.insert(12);
    let (found, _) = tree(&sample(4000, [4000, 0]), &mut files);
    assert_eq!(names(&found.unwrap()), ["sysv-sem", "ipcns"]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let us = Recorded::sample("sleep").threads[0] as i32;
    let mut of = sample(us, [us, us]);
    of.segments.insert(11, Some(Errno::EACCES));
    of.answer(Sys::Semctl, &[12, 0, 13], Err(Errno::EACCES), vec![]);
    of.answer(Sys::Msgrcv, &[13], Err(Errno::ENOSYS), vec![]);
    let refused = [
        "shared memory segment 11: its rights let nobody read it",
        "semaphore set 12: its rights let nobody read it",
        "message queue 13: this kernel cannot show what waits in it (CONFIG_CHECKPOINT_RESTORE)",
    ];
    assert_eq!(tree(&of, &mut Files::default()).0.unwrap_err(), refused);
    of.answer(Sys::Msgrcv, &[13], Err(Errno::E2BIG), vec![]);
    let refused = tree(&of, &mut Files::default()).0.unwrap_err();
    assert_eq!(refused[2], "message queue 13: a message in it is longer than 512 KiB");
    let mut files = Files::default();
    files.ipc.segments.insert(99, 1);
    let refused = tree(&sample(0, [0, 0]), &mut files).0.unwrap_err();
    assert_eq!(refused, ["shared memory segment 99: it is attached and belongs to another IPC namespace"]);
}

#[test]
fn a_namespace_that_others_live_in_is_refused() {
    let mut of = sample(0, [0, 0]);
    of.own_links = [("ns/ipc".to_owned(), b"ipc:[2]".to_vec())].into();
    let info = |words: &[i32]| vec![words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>()];
    let most = (u64::MAX - (1 << 24)).to_ne_bytes();
    let shm = [&8192u64.to_ne_bytes()[..], &[0; 8], &4096u64.to_ne_bytes(), &[0; 8], &most].concat();
    of.answer(Sys::Shmctl, &[0, 3], Ok(0), vec![shm]);
    of.answer(Sys::Semctl, &[0, 0, 3], Ok(0), info(&[0, 128, 256, 0, 250, 32, 0, 0, 0, 0]));
    of.answer(Sys::Msgctl, &[0, 3], Ok(0), info(&[0, 0, 8192, 16384, 32000, 0, 0, 0]));
    let (found, notes) = tree(&of, &mut Files::default());
    let found = found.unwrap();
    let Some(TreeState::IpcNamespace(ipc)) = found.last() else { panic!("{found:?}") };
    let limit = |name: &str, text: &str| Limit { name: name.into(), text: text.into() };
    assert_eq!((ipc.own, &ipc.limits), (true, &vec![limit("shmmax", "8192"), limit("sem", "250\t256\t32\t128")]));
    assert!(notes.iter().any(|n| n.contains("POSIX message queues in it")), "{notes:?}");
    of.neighbours = vec![4000];
    let refused = tree(&of, &mut Files::default()).0.unwrap_err();
    assert!(
        refused[0].starts_with("ns/ipc: process 4000, outside of the tree, lives in its IPC namespace"),
        "{refused:?}"
    );
}

#[test]
fn another_namespace_than_that_of_the_root() {
    let mut of = sample(0, [0, 0]);
    of.root_links.insert("ns/ipc".into(), b"ipc:[3]".to_vec());
    let refused = reasons(&refused(capture::<resources::task::attributes::Attributes>(&of)));
    assert_eq!(refused, ["ns/ipc: it lives in another IPC namespace than the root of its tree"]);
    let mut of = sample(0, [0, 0]);
    of.root_links.insert("ns/time".into(), b"time:[3]".to_vec());
    let refused = reasons(&super::common::refused(capture::<resources::task::attributes::Attributes>(&of)));
    assert_eq!(refused, ["ns/time: it lives in another time namespace than the root of its tree"]);
}

fn why(harm: impl FnOnce(&mut Model)) -> String {
    let mut model = all_kinds();
    harm(&mut model);
    match Model::from_records(&records(&model)) {
        Err(Damage::Record { why, .. }) => why,
        other => panic!("no damage: {other:?}"),
    }
}

fn shm(model: &mut Model) -> &mut Vec<Segment> {
    let TreeState::SysvShm(shm) = &mut model.tree[0] else { panic!("it was put there") };
    &mut shm.segments
}

#[test]
fn rules_of_an_image() {
    assert_eq!(why(|m| drop(m.tree.pop())), "the namespace of its IPC is missing");
    assert_eq!(why(|m| m.tree.extend(m.tree.first().cloned())), "its sysv-shm is there twice");
    assert_eq!(why(|m| shm(m)[1].id = 4), "sysv-shm 4 is there twice");
    assert_eq!(why(|m| shm(m)[1].id = 1 << 31), "there cannot be an object 2147483648");
    assert_eq!(why(|m| shm(m)[0].size = 0), "segment 4 cannot have 0 bytes");
    assert_eq!(why(|m| shm(m)[0].size = PAGE), "segment 4 is shorter than its contents");
    let shows = |area: Area| {
        why(|m| {
            if let Some(ProcessState::Space(space)) = m.processes[0].states.iter_mut().find(|s| s.name() == "space") {
                space.areas.insert(0, area);
            }
        })
    };
    assert_eq!(shows(area(0x100_0000, 1, (6, 0), 1)), "segment 6 is not in the image");
    assert_eq!(shows(area(0x100_0000, 2, (4, 4), 1)), "what stands at 1000000 is no part of segment 4");
    let takes_back = |set, number| {
        why(|m| {
            let changes = vec![Change { set, number, value: 1 }];
            m.processes[0].states.push(ProcessState::SemUndo(SemUndo { changes }));
        })
    };
    assert_eq!(takes_back(8, 0), "set 8 is not in the image");
    assert_eq!(takes_back(7, 2), "set 7 has no number 2");
}

#[test]
fn an_area_of_a_segment_is_known_by_its_name() {
    let line = |perms: &str, dev: &str| {
        format!(
            "7f0000000000-7f0000002000 {perms} 00001000 {dev} 32779                      /SYSV00001234 (deleted)\nVmFlags: rd wr sh mr mw me ms sd \n"
        )
    };
    let backing = |text: String| {
        let mut of = Recorded::sample("sleep");
        let smaps = String::from_utf8(of.texts["smaps"].clone()).unwrap();
        of.texts.insert("smaps".into(), (smaps + &text).into_bytes());
        let mut files = Files::default();
        let space = resources::mm::space::Space::capture(&mut capturing(&of, &mut files, &mut vec![])).unwrap();
        (space.areas.last().unwrap().backing.clone(), files.ipc.segments)
    };
    let (shown, seen) = backing(line("rw-s", "00:01"));
    assert_eq!((shown, seen), (Backing::Segment { id: 32779, offset: PAGE }, [(32779, 1)].into()));
    let (shown, seen) = backing(line("rw-p", "08:01"));
    assert!(matches!(shown, Backing::File { .. }) && seen.is_empty());
}

/// Every number of every record of objects takes every extreme value, one at a time: it is damage, a refusal, or a plan.
#[test]
fn every_number_at_its_edges() {
    let edges = [0, 1, 4095, 32767, 1 << 22, 1 << 30, 1 << 31, u32::MAX.into(), i64::MAX as u64, 1 << 63, u64::MAX];
    let mut model = all_kinds();
    let changes = vec![Change { set: 7, number: 1, value: -3 }];
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.truncate(2);
            space.areas.insert(0, area(0x100_1000, 1, (4, 1), 3));
        }
    }
    model.processes[0].states.push(ProcessState::SemUndo(SemUndo { changes }));
    let (records, host) = (records(&model), host_with(&model, "shm", "4660 4 4096"));
    let of_objects = |tag: u16| tag == 0x0102 || tag == 0x010b || tag >= 0x0401;
    for n in (0..records.len()).filter(|n| of_objects(records[*n].tag.0)) {
        for (start, len) in numbers(&records[n].body) {
            for to in edges {
                let mut harmed = records.clone();
                harmed[n].body.splice(start..start + len, [&[0x1b][..], &u64::to_be_bytes(to)].concat());
                for pids in [Pids::Same, Pids::New] {
                    let options = Options { pids, ..Options::default() };
                    let Ok(model) = Model::from_records(&harmed) else { continue };
                    model.ranges();
                    if let Err(refusals) = resources::plan(&model, &host, &options) {
                        assert!(!refusals.is_empty(), "a refusal has a reason");
                    }
                }
            }
        }
    }
}

/// A program that maps and shares the file `/dev/shm/x`, of which this line of smaps tells.
fn with_shared_file(name: &str) -> Recorded {
    let mut of = Recorded::sample("sleep");
    let smaps = String::from_utf8(of.texts["smaps"].clone()).unwrap();
    let line = format!(
        "7fffff000000-7fffff001000 rw-s 00000000 00:1b 77                         {name}\nVmFlags: rd wr sh mr mw me ms sd \n"
    );
    of.texts.insert("smaps".into(), (smaps + &line).into_bytes());
    let stat = FileStat { dev: 0x1b, ino: 77, size: 32, nlink: 1, mode: 0o100600, ..FileStat::default() };
    of.paths.insert(b"/dev/shm/x".to_vec(), stat);
    of
}

#[test]
fn shared_memory_with_a_name_is_put_back_where_it_is_gone() {
    let model = capture_all(&with_shared_file("/dev/shm/x"), Keep::default()).unwrap();
    survives(&model);
    let mut host = host("root", &model);
    let file = |host: &Host| {
        let plan = planned(&model, host);
        let about = |s: &String| s.contains("/dev/shm/x");
        let calls = steps(&plan, &["file"]).into_iter().filter(about);
        let calls: Vec<String> = calls.map(|s| s.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")).collect();
        (calls.iter().map(|c| c.split("= ").last().unwrap().to_owned()).collect::<Vec<_>>(), plan.notes)
    };
    let opened = "openat(-100, \"/dev/shm/x\", 258, 0)";
    assert_eq!(file(&host), (vec![opened.into()], vec![]));
    host.files.get_mut(&b"/dev/shm/x"[..]).unwrap().size = 64;
    assert_eq!(file(&host).1, ["/dev/shm/x has changed since; the program goes on with it as it is"]);
    host.files.remove(&b"/dev/shm/x"[..]);
    let put_back = "put 32 saved bytes back into /dev/shm/x";
    assert_eq!(file(&host), (vec![put_back.into(), opened.into()], vec!["/dev/shm/x is made again as it was".into()]));
}

#[test]
fn a_semaphore_that_was_made_under_another_name_has_its_own() {
    let mut of = with_shared_file("/dev/shm/sem.a1b2c3 (deleted)");
    let path = |of: &Recorded| {
        let model = capture_all(of, Keep::default()).unwrap();
        let file = model.files.values().find(|f| f.path.0.starts_with(b"/dev/shm/")).unwrap().clone();
        (file.path.to_string(), file.is_gone(), file.contents.is_some())
    };
    assert_eq!(path(&of), ("/dev/shm/sem.a1b2c3".into(), true, true));
    of.names.insert(77, b"/dev/shm/x".to_vec());
    assert_eq!(path(&of), ("/dev/shm/x".into(), false, true));
}

#[test]
fn nothing_is_asked_where_there_is_nothing() {
    let (found, notes) = tree(&Recorded::sample("sleep"), &mut Files::default());
    assert_eq!((found.unwrap(), notes), (vec![], vec![]));
    let mut without = Recorded::sample("sleep");
    for sys in [Sys::Shmctl, Sys::Semctl, Sys::Msgctl] {
        without.answers.retain(|(known, _), _| *known != sys);
        without.answer(sys, &[], Err(Errno::ENOSYS), vec![]);
    }
    assert_eq!(tree(&without, &mut Files::default()).0.unwrap(), []);
    assert!(SysvSem::capture(&mut capturing(&without, &mut Files::default(), &mut vec![])).unwrap().is_none());
}
