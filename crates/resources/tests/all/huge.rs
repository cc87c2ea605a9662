//! Memory of huge pages: what is captured of it, the calls that make it again, and where it cannot be had.

use crate::common::*;
use plan::{Host, Options};
use resources::mm::area::{Area, Backing};
use resources::mm::space::Space;
use resources::{Model, ProcessState};

const HUGE: u64 = 2 << 20;

/// The heap of the sample, made of such pages, under this name.
fn captured(name: &str, perms: &str) -> Area {
    let mut sample = Recorded::sample("sleep");
    let text = String::from_utf8(sample.texts["smaps"].clone()).unwrap();
    let line = text.lines().find(|line| line.ends_with("[heap]")).expect("it has a heap").to_owned();
    let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let (before, after) = text.split_at(text.find(&line).unwrap());
    let head = line.replace("rw-p", perms).replace(" 0 ", " 7 ").replace("[heap]", name);
    let after =
        after.replacen(&line, &head, 1).replacen("KernelPageSize:        4 kB", "KernelPageSize:     2048 kB", 1);
    let after = after.replacen("VmFlags: ", "VmFlags: ht ", 1);
    sample.texts.insert("smaps".into(), (before.to_owned() + &after).into_bytes());
    let space: Space = capture(&sample).expect("it is supported");
    space.areas.into_iter().find(|a| a.start == start).expect("the heap is there")
}

#[test]
fn the_size_of_its_pages_is_captured() {
    let private = captured("/anon_hugepage (deleted)", "rw-p");
    assert_eq!((private.page, private.backing), (HUGE, Backing::Anonymous));
    let shared = captured("/anon_hugepage (deleted)", "rw-s");
    assert_eq!((shared.page, shared.backing), (HUGE, Backing::Shared { object: HUGE << 32 | 7, offset: 0 }));
    let of_file = captured("/memfd:x (deleted)", "rw-s");
    assert!(matches!(of_file.backing, Backing::File { offset: 0, .. }) && of_file.page == HUGE);
    assert_eq!(captured("/SYSV00000000 (deleted)", "rw-s").backing, Backing::Segment { id: 7, offset: 0 });
}

/// A program with areas of huge pages: start, how many, and the offset of those that are shared.
fn with(areas: &[(u64, u64, Option<u64>)]) -> Model {
    let mut model = model("sleep");
    let area = |(at, pages, shared): &(u64, u64, Option<u64>)| Area {
        start: at * HUGE,
        end: (at + pages) * HUGE,
        protection: 3,
        shared: shared.is_some(),
        may_write: shared.is_some(),
        backing: shared.map_or(Backing::Anonymous, |n| Backing::Shared { object: HUGE << 32 | 7, offset: n * HUGE }),
        name: None,
        flags: vec![],
        page: HUGE,
    };
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.splice(0..0, areas.iter().map(area));
        }
    }
    model
}

/// A host on which so many are free.
fn with_free(model: &Model, free: u64) -> Host {
    let mut host = host("root", model);
    for (name, count) in [("nr", 10), ("free", free + 2), ("resv", 3), ("nr_overcommit", 4), ("surplus", 3)] {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}_hugepages");
        assert!(model.questions().contains(&path));
        host.told.insert(path, count.to_string());
    }
    host
}

fn calls(model: &Model) -> Vec<String> {
    let all = steps(&planned(model, &with_free(model, 9)), &["area"]);
    let huge = |s: &&String| {
        s.contains("hugepage") || s.contains("ftruncate") || s.contains("(0x200000") || s.contains("(0x100")
    };
    all.iter().filter(huge).map(|s| s.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn made_again_of_such_pages() {
    survives(&with(&[(1, 2, None), (8, 1, Some(0))]));
    let flags = 0x10_0020 | 0x4_0000 | 21 << 26;
    let expected = [
        format!("mmap(0x200000, 0x400000, 3, {:#x}, -1, 0) = 0x200000", flags | 2),
        format!("mmap(0x1000000, 0x200000, 3, {:#x}, -1, 0) = 0x1000000", flags | 1),
    ];
    assert_eq!(calls(&with(&[(1, 2, None), (8, 1, Some(0))])), expected);
}

#[test]
fn several_views_are_of_one_file() {
    let all = calls(&with(&[(1, 2, Some(0)), (8, 1, Some(1))]));
    assert!(all[0].contains("memfd_create(\"anon_hugepage\", 0x54000004)"), "{all:?}");
    assert!(all[1].contains("0x400000"), "{all:?}");
    assert!(all.iter().any(|s| s.starts_with("mmap(0x200000, 0x400000, 3, 0x100001, d")), "{all:?}");
    assert!(all.iter().any(|s| s.starts_with("mmap(0x1000000, 0x200000, 3, 0x100001, d") && s.contains("0x200000) =")));
}

#[test]
fn refused_where_too_few_are_free() {
    let model = with(&[(1, 3, None), (8, 2, Some(0)), (16, 1, Some(1))]);
    planned(&model, &with_free(&model, 5));
    let why = "huge pages: it has 5 of 2048 KiB, and 4 are free here";
    let host = with_free(&model, 4);
    assert_eq!(plan_refused(&model, &host, &Options::default()), [why]);
    let refusals = resources::plan(&model, &host, &Options::default()).unwrap_err();
    assert_eq!(refusals[0].remedy, "sysctl vm.nr_hugepages=11");
}

#[test]
fn what_cannot_be_made_of_such_pages_is_damage() {
    let with_page = |page| {
        let mut model = with(&[(1, 1, None)]);
        for state in &mut model.processes[0].states {
            if let ProcessState::Space(space) = state {
                space.areas[0].page = page;
            }
        }
        Model::from_records(&records(&model)).is_ok()
    };
    assert!(with_page(HUGE) && with_page(0) && !with_page(3) && !with_page(HUGE << 1));
}
