//! Memory of huge pages that were set apart (hugetlb; mmap(2), MAP_HUGETLB), without a file.
//!
//! Each process has those that it wants, so a fork does not share them any more. A further view of shared memory cannot be had by
//! mremap(2), as one of small pages: where there are several, the object is a file in memory, which each maps, and which has
//! a name by which the next freeze knows that nobody opened it.

use super::area::{self, Area, Backing};
use super::shared::{View, views};
use crate::{Model, Planning};
use abi::{Sys, proc};
use plan::{Descr, Expect, Pid, Refusal, Value};
use std::collections::BTreeMap;

const NAME: &str = "area";
const MAP_HUGETLB: u64 = 0x4_0000;
const MFD_HUGETLB: u64 = 4;
/// Where in the flags of both calls the logarithm of the size stands.
const SIZE_SHIFT: u32 = 26;
/// How the kernel shows it (mm/mmap.c, HUGETLB_ANON_FILE), and how it shows ours.
const ANONYMOUS: &[u8] = b"/anon_hugepage (deleted)";
const OURS: &[u8] = b"/memfd:anon_hugepage (deleted)";

/// Whether it is memory without a file.
pub(super) fn is_nameless(area: &proc::Area) -> bool {
    area.page_kib > 4 && (area.name == ANONYMOUS || area.name == OURS && area.perms.shared)
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
pub(super) fn is_none(page: &u64) -> bool {
    *page == 0
}

/// What makes new memory one of huge pages.
pub(super) fn map_flags(page: u64) -> u64 {
    if page == 0 { 0 } else { MAP_HUGETLB | u64::from(page.trailing_zeros()) << SIZE_SHIFT }
}

/// Whether an area could be made of pages of this size.
pub(crate) fn is_sound(area: &Area) -> bool {
    let whole = |at: u64| at.is_multiple_of(area.page);
    area.page == 0 || area.page.is_power_of_two() && whole(area.start) && whole(area.end)
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
    let flags = MFD_HUGETLB | u64::from(page.trailing_zeros()) << SIZE_SHIFT;
    to.to.make(NAME, descr, Sys::MemfdCreate, vec![Value::Bytes(b"anon_hugepage\0".to_vec()), flags.into()]);
    let args = vec![Value::Descr(descr), len.into()];
    to.to.on_descr(plan::Moment::Make, NAME, descr, Sys::Ftruncate, args, Expect::Success);
    to.huge.insert(object, descr);
    descr
}

/// How many pages of each size must be free. Memory without a reservation takes what it uses, and may find none.
fn needed(model: &Model) -> BTreeMap<u64, u64> {
    let mut objects: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut all: BTreeMap<u64, u64> = BTreeMap::new();
    for area in model.spaces().flat_map(|space| &space.areas).filter(|a| a.page != 0) {
        let pages = area.len() / area.page;
        match area.backing {
            Backing::Shared { object, offset } => {
                let most = objects.entry((area.page, object)).or_default();
                *most = (*most).max(offset / area.page + pages);
            }
            _ if area.has("nr") => {}
            _ => *all.entry(area.page).or_default() += pages,
        }
    }
    objects.into_iter().for_each(|((page, _), pages)| *all.entry(page).or_default() += pages);
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
    needed(model).into_keys().flat_map(|page| COUNTS.map(|name| path(page, name))).collect()
}

/// Refuses where too few are free.
pub(crate) fn check(to: &mut Planning<'_>) {
    for (page, pages) in needed(to.model) {
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
