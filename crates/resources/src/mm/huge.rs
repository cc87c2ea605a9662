//! Memory of huge pages that were set apart (hugetlb; mmap(2), MAP_HUGETLB): without a file; in a file of memfd_create(2)
//! (MFD_HUGETLB); or in a segment (shmget(2), SHM_HUGETLB). A file of a mounted file system of such pages (hugetlbfs) is found by its
//! name, as any other; one that has none any more is refused, and a private view of one.
//!
//! Such files and segments are made and shown as those of small pages are. Of memory without a file, each process has those that
//! it wants, so a fork does not share them any more: a thaw that has them needs no further ones when a program writes, while who
//! writes to a shared one is killed where none is free. A further view of shared memory cannot be had by mremap(2), as one of
//! small pages: where there are several, the object is a file in memory, which each maps, and the next freeze sees it as a file.

use super::area::{self, Area, Backing};
use super::shared::{View, views};
use crate::{Model, Planning};
use abi::consts::cap::CAP_IPC_LOCK;
use abi::consts::mmap::PAGE;
use abi::consts::rlimit::RLIMIT_MEMLOCK;
use abi::{Sys, proc};
use image::Extent;
use plan::{Descr, Expect, Ipc, Object, Pid, Refusal, Value};
use std::collections::{BTreeMap, HashSet};

const NAME: &str = "area";
const MAP_HUGETLB: u64 = 0x4_0000;
const MFD_HUGETLB: u64 = 4;
/// Where in the flags of both calls the logarithm of the size stands.
const SIZE_SHIFT: u32 = 26;
const SHM_HUGETLB: u64 = 0o4000;
/// How the kernel shows it (mm/mmap.c, HUGETLB_ANON_FILE).
const ANONYMOUS: &[u8] = b"/anon_hugepage (deleted)";
/// The group of those who may make segments of such pages (admin-guide/sysctl/vm.rst).
const SEGMENT_GROUP: &str = "/proc/sys/vm/hugetlb_shm_group";

/// Whether it is memory without a file.
pub(super) fn is_nameless(area: &proc::Area) -> bool {
    page(area) != 0 && area.name == ANONYMOUS
}

/// Whether it is such memory, of a file of memfd_create(2), or of a segment: no file that somebody gave a name.
pub(super) fn is_memory(area: &proc::Area) -> bool {
    let of_memfd = area.name.starts_with(b"/memfd:") && area.name.ends_with(b" (deleted)");
    is_nameless(area) || of_memfd || area::segment(area).is_some()
}

/// Whether it shows a file of a mounted file system (hugetlbfs) in another way than that all see the same, by its name.
pub(super) fn is_odd_file(area: &proc::Area) -> bool {
    let is_odd = !area.perms.shared || area.name.ends_with(b" (deleted)");
    page(area) != 0 && !is_memory(area) && is_odd
}

/// The size of its huge pages; 0: it is made of none.
pub(super) fn page(area: &proc::Area) -> u64 {
    if area.has(b"ht") { area.page_kib * 1024 } else { 0 }
}

/// There is a file system for each size, all of which count their inodes from the beginning, in 32 bits.
pub(super) fn object(area: &proc::Area) -> u64 {
    area.inode | page(area) << 32
}

#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn is_none(page: &u64) -> bool {
    *page == 0
}

fn flags(mark: u64, page: u64) -> u64 {
    if page == 0 { 0 } else { mark | u64::from(page.trailing_zeros()) << SIZE_SHIFT }
}

/// What makes new memory one of huge pages.
pub(super) fn map_flags(page: u64) -> u64 {
    flags(MAP_HUGETLB, page)
}

/// What makes a new file in memory one of huge pages.
pub(crate) fn create_flags(page: u64) -> u64 {
    flags(MFD_HUGETLB, page)
}

/// What makes a new segment one of huge pages.
pub(crate) fn segment_flags(page: u64) -> u64 {
    flags(SHM_HUGETLB, page)
}

/// Whether whoever thaws may make a segment of huge pages (fs/hugetlbfs/inode.c, can_do_hugetlb_shm): by a capability of the first
/// user namespace, by a group, or as far as memory may be locked.
pub(crate) fn may_make_segment(size: u64, to: &Planning<'_>) -> bool {
    let host = to.to.host;
    let group = host.told.get(SEGMENT_GROUP).and_then(|text| text.parse().ok());
    let in_group = group.is_some_and(|group: u32| host.gid == group || host.groups.contains(&group));
    let lockable = host.limits.get(RLIMIT_MEMLOCK as usize).map_or(0, |limit| limit.0);
    host.has(CAP_IPC_LOCK) && !host.inner_user_namespace || in_group || size <= lockable
}

/// Whether huge pages could have this size; 0: there are none.
pub(crate) fn is_size(page: u64) -> bool {
    page == 0 || page.is_power_of_two() && page > PAGE
}

/// Whether an area could be made of pages of this size.
pub(crate) fn is_sound(area: &Area) -> bool {
    let whole = |at: u64| at.is_multiple_of(area.page);
    area.page == 0 || is_size(area.page) && whole(area.start) && whole(area.end)
}

/// Places the views that a process has of an object.
pub(super) fn place(object: u64, own: &[View<'_>], pid: Pid, to: &mut Planning<'_>) {
    let all = to.model.own_spaces().flat_map(|(_, space)| views(space)).filter(|(_, o, _)| *o == object);
    let (count, end) = all.fold((0, 0), |(n, end), (a, _, offset)| (n + 1, end.max(offset + a.len())));
    let descr = match own {
        [view] if count == 1 && view.offset == 0 => return area::place(view.area, view.placed, pid, to),
        _ => to.huge.get(&object).copied().unwrap_or_else(|| make(object, (end, own[0].area.page), to)),
    };
    own.iter().for_each(|v| area::map(v.area, v.placed, Some((descr, v.offset)), pid, to));
}

fn make(object: u64, (len, page): (u64, u64), to: &mut Planning<'_>) -> Descr {
    let descr = to.to.scratch();
    let args = vec![Value::Bytes(b"anon_hugepage\0".to_vec()), create_flags(page).into()];
    to.to.make(NAME, descr, Sys::MemfdCreate, args);
    let args = vec![Value::Descr(descr), len.into()];
    to.to.on_descr(plan::Moment::Make, NAME, descr, Sys::Ftruncate, args, Expect::Success);
    to.huge.insert(object, descr);
    descr
}

/// Whose pages they are: of the same one, each counts once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// A process has them alone: by its id, and the address of the area.
    Process(u32, u64),
    /// Memory without a file.
    Object(u64),
    File(u32),
}

/// Pages of one size, by whose they are: the numbers of the first and of the one behind the last of each run.
type Runs = BTreeMap<(u64, Of), Vec<(u64, u64)>>;

/// Whose pages an area shows, from which address of them on.
fn whose(area: &Area, pid: u32) -> Option<(Of, u64)> {
    match area.backing {
        Backing::Shared { object, offset } => Some((Of::Object(object), offset)),
        Backing::File { file, offset } if area.shared => Some((Of::File(file), offset)),
        // They belong to the segment, which is made whole.
        Backing::Segment { .. } | Backing::Ring(_) | Backing::Uring { .. } | Backing::Socket { .. } => None,
        _ => Some((Of::Process(pid, area.start), 0)),
    }
}

/// The runs of pages of this size that extents lie in.
fn touched(extents: &[Extent], page: u64) -> impl Iterator<Item = (u64, u64)> {
    extents.iter().map(move |e| (e.at / page, (e.at + e.len).div_ceil(page)))
}

/// What each area sets apart, or uses, where nothing is set apart for it (MAP_NORESERVE); and what files hold.
fn runs(model: &Model) -> Runs {
    let mut all = Runs::new();
    for (pid, space) in model.own_spaces() {
        for area in space.areas.iter().filter(|a| a.page != 0) {
            let Some((of, offset)) = whose(area, pid) else { continue };
            // A file that is found here has its pages.
            let is_found = |id| model.files.get(id).is_some_and(|file| file.contents.is_none());
            if matches!(&of, Of::File(id) if is_found(id)) {
                continue;
            }
            let at = |address: u64| (address - area.start + offset) / area.page;
            let runs = all.entry((area.page, of)).or_default();
            if area.has("nr") {
                let own = space.pages.iter().filter(|e| e.at < area.end && area.start < e.at + e.len);
                runs.extend(own.map(|e| (at(e.at.max(area.start)), at((e.at + e.len).min(area.end) - 1) + 1)));
            } else {
                runs.push((at(area.start), at(area.end)));
            }
        }
    }
    for (id, file) in model.files.iter().filter(|(_, file)| file.page != 0) {
        let held = file.contents.iter().flat_map(|extents| touched(extents, file.page));
        all.entry((file.page, Of::File(*id))).or_default().extend(held);
    }
    all
}

/// How many pages there are in runs that may lie over each other.
fn count(mut runs: Vec<(u64, u64)>) -> u64 {
    abi::sort(&mut runs);
    let one = |(pages, behind): (u64, u64), (start, end): (u64, u64)| {
        (pages + end.saturating_sub(start.max(behind)), behind.max(end))
    };
    runs.into_iter().fold((0, 0), one).0
}

/// How many pages of each size must be free; of segments, for those that are not there yet.
fn needed(model: &Model, found: &HashSet<Object>) -> BTreeMap<u64, u64> {
    let mut all: BTreeMap<u64, u64> = BTreeMap::new();
    for ((page, _), runs) in runs(model) {
        *all.entry(page).or_default() += count(runs);
    }
    let is_found = |id| found.contains(&Object { kind: Ipc::Shm, id });
    for segment in model.segments().filter(|s| s.page != 0 && !is_found(s.id)) {
        *all.entry(segment.page).or_default() += segment.len() / segment.page;
    }
    all
}

/// Where the kernel tells of pages of a size (admin-guide/mm/hugetlbpage.rst).
fn path(page: u64, name: &str) -> String {
    format!("/sys/kernel/mm/hugepages/hugepages-{}kB/{name}", page / 1024)
}

/// How many there are; how many are free; how many of those are promised; and how many more the kernel may make, and has made.
const COUNTS: [&str; 5] =
    ["nr_hugepages", "free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages"];

/// What a survey has to read for a model.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let sizes = needed(model, &HashSet::new()).into_keys();
    let counts = sizes.flat_map(|page| COUNTS.map(|name| path(page, name)));
    let group = model.segments().any(|s| s.page != 0).then(|| SEGMENT_GROUP.to_owned());
    counts.chain(group).collect()
}

/// Refuses where too few are free.
pub(crate) fn check(to: &mut Planning<'_>) {
    for (page, pages) in needed(to.model, &to.found) {
        let told = &to.to.host.told;
        let count = |name| told.get(&path(page, name)).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let [all, free, promised, most, made] = COUNTS.map(count);
        let free = free.saturating_sub(promised) + most.saturating_sub(made);
        if free < pages {
            let why = format!("it has {pages} of {} KiB, and {free} are free here", page / 1024);
            let enough = all + (pages - free);
            let remedy = match page {
                0x20_0000 => format!("sysctl vm.nr_hugepages={enough}"),
                _ => format!("echo {enough} > {}", path(page, "nr_hugepages")),
            };
            to.to.refuse(Refusal::new("huge pages", why, remedy));
        }
    }
}
