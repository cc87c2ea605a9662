//! Each rule that an image must keep, broken once: it is damage, with the reason, and never a plan.

use crate::common::*;
use image::Damage;
use resources::mm::area::Backing;
use resources::mm::space::Space;
use resources::task::posix_timers::PosixTimers;
use resources::{Description, Model, ProcessState, ThreadState};

fn space(model: &mut Model) -> &mut Space {
    let mut states = model.processes[0].states.iter_mut();
    states.find_map(|s| if let ProcessState::Space(s) = s { Some(s) } else { None }).expect("it has one")
}

fn timers(model: &mut Model) -> &mut PosixTimers {
    let mut states = model.processes[0].states.iter_mut();
    states.find_map(|s| if let ProcessState::PosixTimers(t) = s { Some(t) } else { None }).expect("it has some")
}

/// Why a tree of this kind, harmed so, is damage.
fn why(name: &str, harm: impl FnOnce(&mut Model)) -> String {
    let mut model = model(name);
    harm(&mut model);
    match Model::from_records(&records(&model)) {
        Err(Damage::Record { why, .. }) => why,
        other => panic!("no damage: {other:?}"),
    }
}

#[test]
fn ids() {
    assert_eq!(why("sleep", |m| m.processes.clear()), "there is no process");
    let mut orphans = records(&model("sleep"));
    orphans.remove(0);
    let stray = Model::from_records(&orphans).expect_err("their process is missing");
    assert!(stray.to_string().contains("whom it is of is not in the image"), "{stray}");
    let id = |id: u32| {
        why("two", move |m| {
            m.processes[0].process.threads[1] = id;
            m.processes[0].threads[1].tid = id;
        })
    };
    assert_eq!(id(0), "there cannot be a thread 0");
    assert_eq!(id((1 << 22) + 1), "there cannot be a thread 4194305");
    assert_eq!(why("two", |m| m.processes[0].process.threads.swap(0, 1)), "its first thread is missing");
    let twice = why("two", |m| {
        let first = m.processes[0].process.threads[0];
        m.processes[0].process.threads[1] = first;
        m.processes[0].threads.pop();
    });
    assert!(twice.ends_with("is there twice"), "{twice}");
}

#[test]
fn states() {
    let regs = |s: &ThreadState| matches!(s, ThreadState::Regs(_));
    let without = why("sleep", |m| m.processes[0].threads[0].states.retain(|s| !regs(s)));
    assert!(without.ends_with("has no registers"), "{without}");
    let twice = why("sleep", |m| {
        let again = m.processes[0].threads[0].states.iter().find(|s| regs(s)).cloned();
        m.processes[0].threads[0].states.extend(again);
    });
    assert_eq!(twice, "its regs is there twice");
    let spaceless = why("sleep", |m| m.processes[0].states.retain(|s| !matches!(s, ProcessState::Space(_))));
    assert_eq!(spaceless, "it has no address space");
    let twice = why("sleep", |m| {
        let again = m.processes[0].states[0].clone();
        m.processes[0].states.push(again);
    });
    assert!(twice.ends_with("is there twice"), "{twice}");
}

#[test]
fn descriptors() {
    assert_eq!(why("sleep", |m| m.processes[0].process.fds.reverse()), "its descriptors do not ascend");
    assert_eq!(why("sleep", |m| m.processes[0].process.fds[2].number = 1), "its descriptors do not ascend");
    let high = |m: &mut Model| m.processes[0].process.fds[2].number = 1 << 30;
    assert_eq!(why("sleep", high), "there cannot be an fd 1073741824");
    assert_eq!(why("sleep", |m| m.processes[0].process.fds[0].description = 99), "fd 0 leads nowhere");
    let high = |m: &mut Model| {
        let any = m.descriptions[&1].clone();
        m.descriptions.insert(u32::MAX, any);
    };
    assert_eq!(why("sleep", high), "there cannot be a description 4294967295");
}

#[test]
fn references() {
    let file = |m: &mut Model| {
        let regular = |d: &Description| matches!(d, Description::Regular(_));
        let id = m.descriptions.values().find(|d| regular(d)).and_then(Description::file).expect("it has a file open");
        m.files.remove(&id);
    };
    assert!(why("things", file).ends_with("is not in the image"));
    assert_eq!(why("sleep", |m| space(m).exe = 99), "file 99 is not in the image");
    assert_eq!(why("two", |m| timers(m).timers[0].thread = Some(9)), "timer 0 tells a thread that is not there");
}

#[test]
fn ranges() {
    assert_eq!(why("sleep", |m| space(m).areas.clear()), "its address space is empty");
    let range = |harm: fn(&mut Space)| why("things", |m| harm(space(m)));
    let misplaced = "is no range, or not in its place";
    assert!(range(|s| s.areas.swap(0, 1)).ends_with(misplaced));
    assert!(range(|s| s.areas[0].end = s.areas[0].start).ends_with(misplaced));
    assert!(range(|s| s.areas[1].start = s.areas[0].start).ends_with(misplaced));
    assert!(range(|s| s.guards = vec![(2, 1)]).ends_with(misplaced));
    assert!(range(|s| s.pages.swap(0, 1)).ends_with(misplaced));
    assert!(range(|s| s.pages[0].len = 0).ends_with(misplaced));
    assert!(range(|s| s.pages[0].len = u64::MAX).starts_with("a stretch has no end"));
    assert!(range(|s| s.pages[0].offset = u64::MAX).starts_with("a stretch has no end"));
    assert_eq!(range(|s| s.kernel_areas[0].start = u64::MAX), "an area of the kernel has no end");
    let backing = Backing::Shared { object: 1, offset: u64::MAX };
    assert!(why("sleep", |m| space(m).areas[0].backing = backing).starts_with("what stands at"));
    let contents = |m: &mut Model| {
        let kept = m.files.values_mut().find_map(|f| f.contents.as_mut()).expect("one is kept");
        kept[0].at = u64::MAX;
    };
    assert!(why("things", contents).starts_with("a stretch has no end"));
}
