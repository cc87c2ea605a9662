//! Shared memory without a file: one object, of which several areas may each show a part.
//!
//! The area that shows all that any of them shows is placed first; it makes the object, and the others become further
//! views of it (mremap(2), an old size of zero). Where no area shows it all, the object is made as a file in memory.

use super::area::{self, Area};
use crate::Planning;
use abi::Sys;
use plan::{Descr, Expect, Moment, Pid, Value};

const NAME: &str = "area";
const MREMAP_MAYMOVE_FIXED: u64 = 3;

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
pub(crate) fn place(views: &[View<'_>], pid: Pid, to: &mut Planning<'_>) {
    let first = views.iter().map(|v| v.offset).min().unwrap_or(0);
    let end = views.iter().map(View::end).max().unwrap_or(0);
    let Some(whole) = views.iter().find(|v| v.offset == first && v.end() == end) else {
        let descr = make(end, to);
        return views.iter().for_each(|v| area::map(v.area, v.placed, Some((descr, v.offset)), pid, to));
    };
    area::place(whole.area, whole.placed, pid, to);
    for view in views.iter().filter(|v| v.area.start != whole.area.start) {
        place_beside(view, whole, pid, to);
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
