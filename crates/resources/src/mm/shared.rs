//! Shared memory without a file: one object, of which several areas may each show a part.
//!
//! The area that shows all that any of them shows is placed first; it makes the object, and the others become further
//! views of it (mremap(2), an old size of zero). Where no area shows it all, the object is made as a file in memory.
//!
//! An object that several processes show is had by birth only. So the first process makes it before anybody else is born, in a
//! place where no process has anything, the *staging*; each takes its views of it, and lets go of the rest.

use super::area::{self, Area, Backing, PROT_READ, PROT_WRITE};
use super::huge;
use super::segment;
use super::space::Space;
use crate::{Model, Planning};
use abi::Sys;
use abi::consts::madvise::MADV_HUGEPAGE;
use abi::consts::mmap::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_SHARED, MREMAP_MAYMOVE_FIXED, PAGE};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Tid, Value};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "area";

/// Objects that several processes show.
#[derive(Default, Debug)]
pub(crate) struct Staging {
    /// Where each is while the tree is made, its length, and whether none of it is set apart (MAP_NORESERVE).
    objects: BTreeMap<u64, (u64, u64, bool)>,
    /// First address and the one behind the last.
    pub(crate) range: (u64, u64),
    /// Behind them, where segments are attached from which parts are taken.
    pub(crate) room: (u64, u64),
}

impl Staging {
    /// The staging of a tree; without any room where nothing is shared.
    pub(crate) fn of(model: &Model) -> Staging {
        let mut users: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        let mut sizes: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        for (pid, space) in model.own_spaces() {
            for (area, object, offset) in views(space).filter(|(area, ..)| area.page == 0) {
                users.entry(object).or_default().insert(pid);
                let (len, thin) = sizes.entry(object).or_default();
                *len = (*len).max(offset + area.len());
                *thin |= area.has("nr");
            }
        }
        let several = sizes.into_iter().filter(|(object, _)| users[object].len() > 1);
        let mut staging = Staging::default();
        let mut end = 0;
        for (object, (len, thin)) in several {
            staging.objects.insert(object, (end, len, thin));
            end += len.next_multiple_of(PAGE);
        }
        let rooms: Vec<(u64, u64)> = model.spaces().map(|space| segment::room(&space.areas, model)).collect();
        let room = rooms.iter().map(|(len, _)| *len).max().unwrap_or(0);
        let align = rooms.iter().map(|(_, align)| *align).max().unwrap_or(PAGE);
        if end + room > 0 {
            let start = free(model, end + align + room);
            staging.objects.values_mut().for_each(|(at, ..)| *at += start);
            let (end, room_at) = (start + end, (start + end).next_multiple_of(align));
            (staging.range, staging.room) = ((start, end), (room_at, room_at + room));
        }
        staging
    }

    /// All that it takes.
    pub(crate) fn whole(&self) -> (u64, u64) {
        (self.range.0, self.room.1)
    }

    /// Whether the object is had by birth.
    pub(crate) fn has(&self, object: u64) -> bool {
        self.objects.contains_key(&object)
    }

    /// The first process makes all of them, before anybody else is born.
    pub(crate) fn plan(&self, root: Pid, after: Fact, to: &mut Planning<'_>) {
        for (at, len, thin) in self.objects.values() {
            let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | if *thin { MAP_NORESERVE } else { 0 };
            let protection = PROT_READ | PROT_WRITE;
            let args = vec![(*at).into(), (*len).into(), protection.into(), flags.into(), u64::MAX.into(), 0.into()];
            let op = Op::Call { sys: Sys::Mmap, args, expect: Expect::Exactly(*at) };
            to.to.step(
                Moment::Birth,
                NAME,
                Actor::Thread(Tid(root.0)),
                op,
                vec![after.clone()],
                vec![Fact::Bare(root)],
            );
        }
    }

    /// A process takes its views of an object.
    pub(crate) fn place(&self, object: u64, views: &[View<'_>], pid: Pid, to: &mut Planning<'_>) {
        let (at, ..) = self.objects[&object];
        for view in views {
            let (start, len) = (view.area.start, view.area.len());
            let args = vec![(at + view.offset).into(), 0.into(), len.into(), MREMAP_MAYMOVE_FIXED.into(), start.into()];
            let mut step = |sys, args, expect| {
                let op = Op::Call { sys, args, expect };
                to.to.step(
                    Moment::Place,
                    NAME,
                    Actor::Thread(Tid(pid.0)),
                    op,
                    vec![Fact::Bare(pid)],
                    vec![Fact::Mapped(pid)],
                );
            };
            step(Sys::Mremap, args, Expect::Exactly(start));
            if view.placed != PROT_READ | PROT_WRITE {
                step(Sys::Mprotect, vec![start.into(), len.into(), view.placed.into()], Expect::Success);
            }
            if view.area.has("hg") {
                area::advise(view.area, MADV_HUGEPAGE, Moment::Place, to, pid);
            }
        }
    }

    /// A process lets go of what it has only by birth.
    pub(crate) fn leave(&self, pid: Pid, to: &mut Planning<'_>) {
        let (start, end) = self.range;
        if start != end {
            let op =
                Op::Call { sys: Sys::Munmap, args: vec![start.into(), (end - start).into()], expect: Expect::Success };
            let needs = vec![Fact::Settled, Fact::Mapped(pid)];
            to.to.step(Moment::Arm, NAME, Actor::Thread(Tid(pid.0)), op, needs, vec![Fact::Whole(Tid(pid.0))]);
        }
    }
}

/// The areas of a space that show shared memory, with the object and where in it each begins.
pub(super) fn views(space: &Space) -> impl Iterator<Item = (&Area, u64, u64)> {
    space.areas.iter().filter_map(|area| match area.backing {
        Backing::Shared { object, offset } => Some((area, object, offset)),
        _ => None,
    })
}

/// Room of that length where no process has anything, nor what it may grow into.
fn free(model: &Model, len: u64) -> u64 {
    const LOW: u64 = 0x1000_0000;
    const APART: u64 = 1 << 30;
    let mut taken = model.ranges();
    abi::sort(&mut taken);
    let mut free = LOW;
    for (start, end) in taken {
        if start.saturating_sub(free) > len + 2 * APART {
            break;
        }
        free = free.max(end);
    }
    (free + APART).next_multiple_of(PAGE)
}

/// One area that shows a part of an object.
pub(crate) struct View<'a> {
    /// The area.
    pub(crate) area: &'a Area,
    /// Where in the object it begins.
    pub(crate) offset: u64,
    /// The protection under which its pages are read in.
    pub(crate) placed: u64,
}

impl View<'_> {
    fn end(&self) -> u64 {
        self.offset + self.area.len()
    }
}

/// Places every view of one object.
pub(crate) fn place(object: u64, views: &[View<'_>], pid: Pid, to: &mut Planning<'_>) {
    if views.iter().any(|v| v.area.page != 0) {
        return huge::place(object, views, pid, to);
    }
    let first = views.iter().map(|v| v.offset).min().unwrap_or(0);
    let end = views.iter().map(View::end).max().unwrap_or(0);
    let Some(whole) = views.iter().find(|v| v.offset == first && v.end() == end) else {
        let descr = make(end, to);
        return views.iter().for_each(|v| area::map(v.area, v.placed, Some((descr, v.offset)), pid, to));
    };
    // A further view begins with the advice of that of which it is made, and nothing takes that back.
    let is_alike = views.iter().all(|v| v.area.has("hg") == whole.area.has("hg"));
    let flags = whole.area.flags.iter().filter(|flag| is_alike || *flag != "hg").cloned().collect();
    area::place(&Area { flags, ..whole.area.clone() }, whole.placed, pid, to);
    for view in views.iter().filter(|v| v.area.start != whole.area.start) {
        place_beside(view, whole, pid, to);
    }
    for view in views.iter().filter(|v| !is_alike && v.area.has("hg")) {
        let args = vec![view.area.start.into(), view.area.len().into(), MADV_HUGEPAGE.into()];
        area::call(Moment::Link, Sys::Madvise, args, Expect::Whatever, pid, to);
    }
}

/// A further view, which begins with the protection of the one that it is made of.
fn place_beside(view: &View<'_>, whole: &View<'_>, pid: Pid, to: &mut Planning<'_>) {
    let (start, len) = (view.area.start, view.area.len());
    let from = whole.area.start + (view.offset - whole.offset);
    let args = vec![from.into(), 0.into(), len.into(), MREMAP_MAYMOVE_FIXED.into(), start.into()];
    area::call(Moment::Link, Sys::Mremap, args, Expect::Exactly(start), pid, to);
    if view.placed != whole.placed {
        let args = vec![start.into(), len.into(), view.placed.into()];
        area::call(Moment::Link, Sys::Mprotect, args, Expect::Success, pid, to);
    }
}

/// The object as a file in memory, of this length.
fn make(len: u64, to: &mut Planning<'_>) -> Descr {
    let descr = to.to.scratch();
    to.to.make(NAME, descr, Sys::MemfdCreate, vec![Value::Bytes(b"shared\0".to_vec()), 0.into()]);
    let args = vec![Value::Descr(descr), len.into()];
    to.to.on_descr(Moment::Make, NAME, descr, Sys::Ftruncate, args, Expect::Success);
    descr
}
