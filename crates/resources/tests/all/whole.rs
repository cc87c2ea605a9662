//! Whole trees from real images, on hosts that are written down: the printed plan is the golden one.

use crate::common::*;
use plan::{Host, Namespaces, Options, Pids};
use resources::mm::area::{Area, Backing};
use resources::{Model, ProcessState};

const MODELS: [&str; 3] = ["sleep", "two", "things"];

fn plan_golden(name: &str, flavour: &str, model: &Model, host: &Host, pids: Pids) -> Namespaces {
    let options = Options { pids, ..Options::default() };
    let plan = resources::plan(model, host, &options).unwrap_or_else(|r| panic!("refused: {:?}", reasons(&r)));
    golden(&format!("{name}.{flavour}.plan"), &plan.to_string());
    plan.namespaces
}

#[test]
fn models_survive_records_and_json() {
    MODELS.map(model).iter().for_each(survives);
}

#[test]
fn root_in_place() {
    for name in MODELS {
        let model = model(name);
        let namespaces = plan_golden(name, "root", &model, &host("root", &model), Pids::Auto);
        assert_eq!(namespaces, Namespaces::Same);
    }
}

#[test]
fn root_where_the_ids_are_taken() {
    for name in MODELS {
        let model = model(name);
        let mut host = host("root", &model);
        host.taken.extend(model.ids());
        assert_eq!(plan_golden(name, "new-pids", &model, &host, Pids::Auto), Namespaces::Pid);
        host.taken.clear();
        assert_eq!(plan_golden(name, "new-pids", &model, &host, Pids::New), Namespaces::Pid);
    }
}

#[test]
fn an_ordinary_user() {
    for name in MODELS {
        let model = of_an_ordinary_user(model(name));
        let namespaces = plan_golden(name, "user", &model, &host("user", &model), Pids::Auto);
        assert_eq!(namespaces, Namespaces::UserPid { uid: 1000, gid: 1000 });
    }
}

#[test]
fn the_same_image_gives_the_same_plan() {
    for name in MODELS {
        let model = model(name);
        let host = host("root", &model);
        let again = resources::plan(&model.clone(), &host, &Options::default());
        assert_eq!(resources::plan(&model, &host, &Options::default()), again);
    }
}

#[test]
fn a_host_survives_json() {
    let model = model("things");
    let mut host = host("user", &model);
    host.terminal = terminal();
    host.files.insert(b"/odd \xff\\ \"\n".to_vec(), host.files.values().next().unwrap().clone());
    let json = serde_json::to_string(&host).unwrap();
    assert_eq!(serde_json::from_str::<Host>(&json).unwrap(), host);
}

#[test]
fn a_process_without_any_descriptor() {
    let mut model = model("sleep");
    model.processes[0].process.fds.clear();
    model.descriptions.clear();
    for state in &mut model.processes[0].states {
        if let ProcessState::Session(s) = state {
            s.role = resources::tree::session::Role::Member;
        }
    }
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let closed = steps(&plan, &["process"]);
    assert!(closed.iter().any(|s| s.contains("close_range(0, ")), "{closed:#?}");
}

#[test]
fn shared_memory_that_is_mapped_twice_is_one_object() {
    let model = model("things");
    let plan = planned(&model, &host("root", &model));
    let views = steps(&plan, &["area"]).into_iter().filter(|s| s.contains("mremap("));
    assert_eq!(views.count(), 1);
}

#[test]
fn a_file_without_a_name_is_made_once_and_opened_for_each_use() {
    let model = model("things");
    let plan = planned(&model, &host("root", &model));
    let file = steps(&plan, &["file"]);
    let count = |part: &str| file.iter().filter(|s| s.contains(part)).count();
    assert_eq!((count("write 4096 bytes of 7"), count("/proc/self/fd/")), (1, 3), "{file:#?}");
}

#[test]
fn a_link_is_never_opened_with_o_nofollow() {
    const NOFOLLOW: u32 = 0o400000;
    let mut model = model("things");
    for description in model.descriptions.values_mut() {
        if let resources::Description::Regular(r) = description {
            r.flags |= NOFOLLOW;
        }
    }
    let plan = planned(&model, &host("root", &model));
    let links = plan.steps.iter().filter_map(|s| match &s.op {
        plan::Op::Make { args, .. } if s.to_string().contains("/proc/self/fd/") => Some(args[2].clone()),
        _ => None,
    });
    let flags: Vec<_> = links.collect();
    assert_eq!(flags.len(), 3);
    assert!(flags.iter().all(|f| matches!(f, plan::Value::Int(n) if n & u64::from(NOFOLLOW) == 0)), "{flags:?}");
}

/// The calls for shared memory of which these parts are shown: address, length and offset in pages, and protection.
fn shared_memory(parts: &[(u64, u64, u64, u8)]) -> Vec<String> {
    shared_memory_with(parts, |_| {})
}

fn shared_memory_with(parts: &[(u64, u64, u64, u8)], change: impl Fn(&mut [Area])) -> Vec<String> {
    const PAGE: u64 = 4096;
    let mut model = model("sleep");
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            let area = |(at, len, offset, protection): &(u64, u64, u64, u8)| Area {
                start: at * PAGE,
                end: (at + len) * PAGE,
                protection: *protection,
                shared: true,
                may_write: true,
                backing: Backing::Shared { object: 77, offset: offset * PAGE },
                name: None,
                flags: vec![],
                page: 0,
            };
            space.areas.splice(0..0, parts.iter().map(area));
            change(&mut space.areas[..parts.len()]);
        }
    }
    survives(&model);
    let all = steps(&planned(&model, &host("root", &model)), &["area"]);
    let shared = |s: &&String| {
        s.contains("mremap") || s.contains("madvise(0x1") || s.contains("x100001") || s.contains("x100021")
    };
    let call = |s: &String| s.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    all.iter()
        .filter(|s| shared(s) || s.contains("memfd") || s.contains("ftruncate") || s.contains("mprotect(0x1"))
        .map(call)
        .collect()
}

#[test]
fn the_area_that_shows_all_of_an_object_comes_first() {
    // The lower area shows only a part: a view of the higher one, with a protection of its own.
    let calls = shared_memory(&[(0x100, 1, 2, 1), (0x110, 4, 0, 3)]);
    let expected = [
        "mmap(0x110000, 0x4000, 3, 0x100021, -1, 0) = 0x110000",
        "mremap(0x112000, 0, 0x1000, 3, 0x100000) = 0x100000",
        "mprotect(0x100000, 0x1000, 1)",
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_further_view_has_its_own_advice() {
    let parts = [(0x100, 1, 2, 3), (0x110, 4, 0, 3)];
    let huge = |areas: &mut [Area]| areas.iter_mut().for_each(|area| area.flags.push("hg".into()));
    let of = |calls: Vec<String>| calls.into_iter().map(|c| c[..8].to_owned()).collect::<Vec<_>>();
    assert_eq!(of(shared_memory_with(&parts, huge)), ["mmap(0x1", "madvise(", "mremap(0"]);
    let one = shared_memory_with(&parts, |areas| huge(&mut areas[1..]));
    assert_eq!(of(one), ["mmap(0x1", "mremap(0", "madvise("]);
}

#[test]
fn an_object_that_no_area_shows_all_of_is_a_file_in_memory() {
    let calls = shared_memory(&[(0x100, 1, 0, 3), (0x110, 1, 3, 3)]);
    assert_eq!(calls.len(), 4, "{calls:#?}");
    assert!(calls[0].ends_with("memfd_create(\"shared\", 0)") && calls[1].ends_with(", 0x4000)"), "{calls:#?}");
    assert!(calls[2].starts_with("mmap(0x100000, 0x1000, 3, 0x100001, d") && calls[2].ends_with(", 0) = 0x100000"));
    assert!(
        calls[3].starts_with("mmap(0x110000, 0x1000, 3, 0x100001, d") && calls[3].ends_with(", 0x3000) = 0x110000")
    );
}
