//! Files in memory: what a real kernel told of them, and how they are made and sealed again.

use crate::common::*;
use abi::Sys;
use abi::layout::FileStat;
use image::Extent;
use plan::{Host, Options};
use resources::fd::file::{File, Standing};
use resources::fd::{memfd::Memfd, regular::Regular};
use resources::mm::area::{Area, Backing};
use resources::mm::space::Space;
use resources::{Capture, Capturing, Description, Files, Holder, Keep, Model, ProcessState, Trouble};

const LINK: &str = "/memfd:keys (deleted)";
const INFO: &str = "pos:\t777\nflags:\t0100002\nmnt_id:\t0\nino:\t8369\n";
const SEAL: u32 = 1;
const WRITE: u32 = 8;
const FUTURE_WRITE: u32 = 0x10;
const EXEC: u32 = 0x20;
const FIXED: u32 = 0xf;

fn stat(names: u64) -> FileStat {
    FileStat { dev: 1, ino: 77, nlink: names, mode: 0o100_666, size: 5000, ..FileStat::default() }
}

/// A program with such a file under number 40.
fn sample(link: &str, seals: u32) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, link, 0, 0, INFO);
    sample.stats.insert("fd/40".into(), stat(0));
    sample.answer(Sys::Fcntl, &[40, 1034], Ok(seals.into()), vec![]);
    sample
}

/// Its description and its file.
fn captured(sample: &Recorded) -> Result<(Description, File), Trouble> {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    let description = Description::capture(&sample.seen(40), &mut from)?;
    let file = files.list.remove(&description.file().expect("it leads to a file")).expect("it is known");
    Ok((description, file))
}

#[test]
fn name_seals_and_contents() {
    let (description, file) = captured(&sample(LINK, SEAL | EXEC)).unwrap();
    assert_eq!(description, Description::Memfd(Memfd { file: 1, flags: 0o100_002, offset: 777 }));
    assert_eq!((&file.path.0[..], file.standing, file.seals), (&b"/memfd:keys"[..], Standing::Gone, Some(0x21)));
    assert_eq!((file.mode, file.size, file.contents.map(|c| c[0].len)), (0o100_666, 5000, Some(8192)));
    let (_, odd) = captured(&sample("/memfd:a/b\n (deleted) (deleted)", 0)).unwrap();
    assert_eq!((&odd.path.0[..], odd.seals), (&b"/memfd:a/b\n (deleted)"[..], Some(0)));
}

#[test]
fn files_that_only_look_like_one() {
    let mut named = sample("/memfd:keys", SEAL);
    named.stats.insert("fd/40".into(), stat(1));
    named.paths.insert(b"/memfd:keys".to_vec(), stat(1));
    assert!(matches!(captured(&named), Ok((Description::Regular(_), _))));
}

#[test]
fn huge_pages_and_secrets() {
    let mut huge = sample(LINK, SEAL);
    // struct statfs: HUGETLBFS_MAGIC, and the size of a block.
    let kind = [0x9584_58f6u64, 2 << 20].map(u64::to_ne_bytes).concat();
    huge.answer(Sys::Fstatfs, &[40], Ok(0), vec![kind]);
    assert_eq!(captured(&huge).unwrap().1.page, 2 << 20);
    // What a file in memory of small pages says of its blocks is no such size.
    let kind = [0x0102_1994u64, 4096].map(u64::to_ne_bytes).concat();
    huge.answer(Sys::Fstatfs, &[40], Ok(0), vec![kind]);
    assert_eq!(captured(&huge).unwrap().1.page, 0);
    let secret = "/secretmem (deleted)";
    let line = "it is secret memory, which nobody else can read";
    assert_eq!(reasons(&refused(captured(&sample(secret, SEAL)))), [format!("fd 40 ({secret}): {line}")]);
}

#[test]
fn what_a_process_outside_has_too() {
    let why = |seals| {
        let mut sample = sample(LINK, seals);
        sample.users = vec![Holder { pid: 7, writes: true }];
        captured(&sample).map_or_else(|e| reasons(&refused::<()>(Err(e))), |_| vec![])
    };
    let line = format!("fd 40 ({LINK}): it has no name, and process 7, outside of the tree, has it too");
    assert_eq!(why(SEAL), [&*line]);
    // It could be made shorter.
    assert_eq!(why(WRITE), [&*line]);
    assert!(why(FIXED).is_empty(), "nobody can change it: a copy is as good");
}

fn file(seals: Option<u32>, mode: u32) -> File {
    File {
        path: b"/memfd:keys"[..].into(),
        standing: Standing::Gone,
        mode: 0o100_000 | mode,
        size: 5000,
        mtime: (0, 0),
        build_id: None,
        contents: Some(vec![]),
        owner: Some((0, 0)),
        names: 0,
        seals,
        page: 0,
    }
}

/// A tree with two descriptions of the file, of which the second is that of memfd_create, and an area of it.
fn tree(file: File) -> (Model, Host) {
    let mut model = model("sleep");
    model.files.insert(90, file);
    let description = |flags| Description::Memfd(Memfd { file: 90, flags, offset: 0 });
    model.descriptions.extend([(40, description(0o100_000)), (41, description(0o100_002))]);
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.insert(0, area());
        }
    }
    let mut host = host("root", &model);
    host.memfd_noexec = Some(0);
    (model, host)
}

fn area() -> Area {
    Area {
        start: 0x1000,
        end: 0x3000,
        protection: 3,
        shared: true,
        may_write: true,
        backing: Backing::File { file: 90, offset: 0 },
        name: None,
        flags: vec![],
        page: 0,
    }
}

/// The steps that have to do with it.
fn made(model: &Model, host: &Host) -> Vec<String> {
    let all = planned(model, host).steps.into_iter().map(|s| s.to_string());
    let wanted = ["memfd", "d41", "fcntl(", "mmap(0x1000,", "mmap(4096,", "/proc/self/fd/"];
    all.filter(|line| wanted.iter().any(|w| line.contains(w))).map(|l| l[27..].to_owned()).collect()
}

#[test]
fn it_is_sealed_when_all_of_it_stands() {
    let (model, host) = tree(file(Some(FUTURE_WRITE | SEAL), 0o640));
    let steps = made(&model, &host);
    let at = |what: &str| steps.iter().position(|s| s.contains(what)).unwrap_or_else(|| panic!("{what}: {steps:#?}"));
    let order =
        ["d41 = memfd_create(\"keys\", 18)", "into d41", "d40 = openat(", "mmap(0x1000, ", "fcntl(d41, 1033, 17)"];
    assert!(order.map(at).is_sorted(), "{steps:#?}");
    assert!(at("fchmod(d41, 416)") < at("fcntl(d41, "), "{steps:#?}");
    let opened = steps.iter().filter(|s| s.contains("/proc/self/fd/")).count();
    assert_eq!(opened, 2, "for reading, and for the area: {steps:#?}");
}

#[test]
fn how_it_is_created() {
    let create = |file: File, noexec: Option<u32>| {
        let (model, mut host) = tree(file);
        host.memfd_noexec = noexec;
        match resources::plan(&model, &host, &Options::default()) {
            Ok(plan) => {
                let steps = plan.steps.iter().map(ToString::to_string);
                let wanted = steps.filter(|s| s.contains("memfd_create") || s.contains("fcntl(d41"));
                wanted.map(|s| s[27..].to_owned()).collect()
            }
            Err(all) => reasons(&all),
        }
    };
    let named = |flags: u32| format!("d41 = memfd_create(\"keys\", {flags})");
    let seal = |seals: u32| format!("fcntl(d41, 1033, {seals})");
    // MFD_ALLOW_SEALING is 2, MFD_NOEXEC_SEAL 8, MFD_EXEC 16.
    assert_eq!(create(file(None, 0o777), None), [named(0)], "an image of an older release");
    assert_eq!(create(file(Some(SEAL), 0o777), Some(1)), [named(16)]);
    assert_eq!(create(file(Some(0), 0o777), Some(0)), [named(18)]);
    assert_eq!(create(file(Some(EXEC), 0o666), Some(2)), [named(10), seal(EXEC)]);
    assert_eq!(create(file(Some(EXEC | FIXED), 0o711), Some(0)), [named(18), seal(EXEC | FIXED)]);
    let none = "/memfd:keys: this host wants no file in memory that may be executed (vm.memfd_noexec)";
    assert_eq!(create(file(Some(SEAL), 0o777), Some(2)), [none]);
    let old = "/memfd:keys: this kernel does not know the seal against becoming executable (F_SEAL_EXEC)";
    assert_eq!(create(file(Some(EXEC), 0o666), None), [old]);
}

#[test]
fn of_huge_pages() {
    const HUGE: u64 = 2 << 20;
    // The first page of the file is in use, and the third; areas set apart the second and the third, and a private one three.
    let held = [0, 2 * HUGE + 4096].map(|at| Extent { at, len: 4096, offset: 1 << 22 });
    let of_huge = File { page: HUGE, size: 3 * HUGE, contents: Some(held.to_vec()), ..file(Some(SEAL), 0o777) };
    let (mut model, mut host) = tree(of_huge);
    let area = |start: u64, pages: u64, shared: bool, page: u64| Area {
        start: start * HUGE,
        end: (start + pages) * HUGE,
        shared,
        backing: Backing::File { file: 90, offset: page * HUGE },
        page: HUGE,
        ..area()
    };
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.splice(0..1, [area(1, 2, true, 1), area(4, 3, false, 0), area(8, 1, true, 2)]);
        }
    }
    survives(&model);
    let mut refused = |free: u64| {
        for (name, count) in [("nr", 10), ("free", free), ("resv", 0), ("nr_overcommit", 0), ("surplus", 0)] {
            let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}_hugepages");
            host.told.insert(path, count.to_string());
        }
        resources::plan(&model, &host, &Options::default()).map_err(|all| reasons(&all))
    };
    assert_eq!(refused(5).unwrap_err(), ["huge pages: it has 6 of 2048 KiB, and 5 are free here"]);
    let plan = refused(6).unwrap().to_string();
    // MFD_HUGETLB is 4, MFD_EXEC 16.
    let create = format!("memfd_create(\"keys\", {:#x})", 16 | 4 | 21 << 26);
    for step in [&*create, "mmap(0x200000, 0x400000, 3, 0x100001, d", "mmap(0x800000, 0x600000, 3, 0x100002, d"] {
        assert!(plan.contains(step), "{step}: {plan}");
    }
    let mut odd = model.clone();
    odd.files.get_mut(&90).unwrap().page = 0;
    assert!(Model::from_records(&records(&odd)).is_err(), "areas are not made of the pages of their file");
}

#[test]
fn long_names_and_those_of_other_files() {
    let create = |path: &[u8]| {
        let (model, host) = tree(File { path: path.into(), ..file(Some(SEAL), 0o777) });
        made(&model, &host).into_iter().find(|s| s.contains("memfd_create")).expect("it is made")
    };
    let long = "x".repeat(249);
    assert!(create(format!("/memfd:{long}").as_bytes()).contains(&format!("(\"{long}\", ")));
    assert!(create(b"/memfd:a/b").contains("(\"a/b\", "));
    assert!(create(format!("/gone/{}", "y".repeat(255)).as_bytes()).contains(&format!("(\"{}\", ", "y".repeat(249))));
}

#[test]
fn an_image_of_an_older_release() {
    let (mut model, host) = tree(file(None, 0o777));
    for (id, flags) in [(40, 0o100_000), (41, 0o100_002)] {
        model.descriptions.insert(id, Description::Regular(Regular { file: 90, flags, offset: 0, in_proc: false }));
    }
    survives(&model);
    let steps = made(&model, &host);
    assert!(steps.iter().any(|s| s.contains("d41 = memfd_create(\"keys\", 16)")), "{steps:#?}");
    assert!(!steps.iter().any(|s| s.contains("fcntl(d41")), "{steps:#?}");
}

/// A program that maps the file by these areas and has it under no number: start, protection, first page of the file.
fn mapping(areas: &[(u64, &str, u64)], name: &str) -> Recorded {
    let mut sample = Recorded::sample("bash");
    let line = |(start, perms, page): &(u64, &str, u64)| {
        let (end, offset) = (start + 0x2000, page * 4096);
        format!("{start:08x}-{end:08x} {perms} {offset:08x} 00:01 77    {name}\nVmFlags: rd wr mr mw me\n")
    };
    let lines: String = areas.iter().map(line).collect();
    let text = [lines.as_bytes(), &sample.texts["smaps"]].concat();
    sample.texts.insert("smaps".into(), text);
    sample
}

/// The file that it maps.
fn mapped(sample: &Recorded) -> File {
    let files = capture_all(sample, Keep::default()).unwrap().files;
    files.into_values().find(|f| f.path.0.starts_with(b"/memfd:")).expect("it is mapped")
}

/// Which pages of the file are saved, each once.
fn shown(areas: &[(u64, &str, u64)]) -> Vec<u64> {
    let contents = mapped(&mapping(areas, LINK)).contents.expect("it has no name");
    contents.iter().flat_map(|e| (e.at / 4096)..(e.at + e.len).div_ceil(4096)).collect()
}

#[test]
fn what_only_areas_show() {
    // Here each run that is asked for shows its first page, and nothing was written privately.
    assert_eq!(shown(&[(0x10000, "rw-s", 0)]), [0]);
    assert_eq!(shown(&[(0x10000, "rw-p", 0), (0x20000, "rw-s", 0)]), [0, 1], "only what the shared one did not show");
    assert_eq!(shown(&[(0x10000, "rw-p", 0), (0x20000, "rw-s", 1)]), [0, 1]);
    assert_eq!(shown(&[(0x10000, "r--s", 4), (0x20000, "rw-p", 3), (0x30000, "rw-p", 5)]), [3, 4, 5]);
}

#[test]
fn the_length_is_what_can_be_read_of_the_most_that_any_area_shows() {
    let mut files = Files::default();
    let mut size = |sample: &Recorded| {
        let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut vec![] };
        Space::capture(&mut from).unwrap();
        files.list.values().find(|f| f.path.0.starts_with(b"/memfd:")).expect("it is mapped").size
    };
    let mut long = mapping(&[(0x10000, "rw-s", 0), (0x20000, "rw-s", 4)], LINK);
    long.behind = Some(0x21000..0x22000);
    assert_eq!(size(&long), 5 * 4096);
    assert_eq!(size(&mapping(&[(0x10000, "rw-s", 0)], LINK)), 5 * 4096, "a relative shows less");
    // What cannot be read may be a guard.
    long.guards.push(0x21000..0x22000);
    assert_eq!(size(&long), 6 * 4096);
}

#[test]
fn what_the_links_of_areas_tell() {
    // fs/proc/task_mmu.c: a newline is shown as these four characters, and so are they themselves.
    let mut sample = mapping(&[(0x10000, "rw-s", 0)], "/memfd:a\\012b (deleted)");
    let link = "map_files/10000-12000";
    let seen = |sample: &Recorded| {
        let file = mapped(sample);
        (file.path.0, file.seals)
    };
    assert_eq!(seen(&sample), (b"/memfd:a\nb".to_vec(), None));
    sample.links.insert(link.into(), b"/memfd:a\\012b (deleted)".to_vec());
    sample.seals.insert(link.into(), FIXED);
    assert_eq!(seen(&sample), (b"/memfd:a\\012b".to_vec(), Some(FIXED)));
}

#[test]
fn an_executable_that_was_sealed() {
    let mut sample = Recorded::sample("bash");
    sample.links.insert("exe".into(), LINK.into());
    sample.stats.insert("exe".into(), stat(0));
    sample.seals.insert("exe".into(), FIXED);
    assert_eq!(mapped(&sample).seals, Some(FIXED));
}
