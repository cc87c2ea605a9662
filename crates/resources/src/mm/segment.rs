//! Areas that show System V shared memory.
//!
//! An attachment shows all of a segment, so it is made before any other area stands, and what the program had taken away of
//! it is taken away again (munmap(2)): something else may have stood there.

use super::area::{self, Area, Backing};
use crate::Planning;
use abi::Sys;
use abi::consts::ipc::{SHM_EXEC, SHM_RDONLY};
use plan::{Actor, Expect, Fact, Ipc, Moment, Object, Op, Pid, Refusal, Tid};
use std::collections::BTreeMap;

/// One call of shmat(2), as far as areas still tell of it.
struct Attachment<'a> {
    id: u32,
    start: u64,
    end: u64,
    /// Ascending.
    areas: Vec<&'a Area>,
}

/// By segment and by where its first byte is, or would be.
fn attachments<'a>(areas: &'a [Area], to: &Planning<'_>) -> Vec<Attachment<'a>> {
    let mut all: BTreeMap<(u32, u64), Vec<&Area>> = BTreeMap::new();
    for area in areas {
        if let Backing::Segment { id, offset } = area.backing {
            all.entry((id, area.start - offset)).or_default().push(area);
        }
    }
    let attachment = |((id, start), areas)| {
        let len = to.model.segment(id).expect("the image was looked at").len();
        Attachment { id, start, end: start + len, areas }
    };
    all.into_iter().map(attachment).collect()
}

impl Attachment<'_> {
    /// Whether it would stand where an area of the other one is: so it was made first.
    fn covers(&self, other: &Attachment<'_>) -> bool {
        other.areas.iter().any(|a| a.start < self.end && self.start < a.end)
    }

    /// What of it is not there any more.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let starts = self.areas.iter().map(|a| a.start).chain([self.end]);
        let ends = [self.start].into_iter().chain(self.areas.iter().map(|a| a.end));
        ends.zip(starts).filter(|(end, start)| end < start).collect()
    }

    fn place(&self, pid: Pid, to: &mut Planning<'_>) {
        let may_write = self.areas.iter().any(|a| a.may_write);
        let executes = self.areas.iter().any(|a| u64::from(a.protection) & area::PROT_EXEC != 0);
        let flags = if may_write { 0 } else { SHM_RDONLY } | if executes { SHM_EXEC } else { 0 };
        let protection =
            area::PROT_READ | if may_write { area::PROT_WRITE } else { 0 } | if executes { area::PROT_EXEC } else { 0 };
        let needs: Vec<Fact> =
            [Fact::Bare(pid)].into_iter().chain(to.existing(Object { kind: Ipc::Shm, id: self.id })).collect();
        let mut call = |sys, args, expect| {
            let op = Op::Call { sys, args, expect };
            let mapped = vec![Fact::Mapped(pid)];
            to.to.step(Moment::Place, area::NAME, Actor::Thread(Tid(pid.0)), op, needs.clone(), mapped);
        };
        let args = vec![u64::from(self.id).into(), self.start.into(), flags.into()];
        call(Sys::Shmat, args, Expect::Exactly(self.start));
        for (start, end) in self.gaps() {
            call(Sys::Munmap, vec![start.into(), (end - start).into()], Expect::Success);
        }
        for a in self.areas.iter().filter(|a| u64::from(a.protection) != protection) {
            let args = vec![a.start.into(), a.len().into(), u64::from(a.protection).into()];
            call(Sys::Mprotect, args, Expect::Success);
        }
    }
}

/// Attaches all that these areas show. To be asked for before any other area.
pub(crate) fn place(areas: &[Area], pid: Pid, to: &mut Planning<'_>) {
    let mut left = attachments(areas, to);
    while !left.is_empty() {
        let next = (0..left.len()).find(|n| !left.iter().enumerate().any(|(m, a)| m != *n && a.covers(&left[*n])));
        let Some(next) = next else {
            let why = "pieces of attached segments stand so that no order of attachments leads there";
            to.to.refuse(Refusal::new("shared memory", why, "this is not supported"));
            return;
        };
        left.remove(next).place(pid, to);
    }
}

/// The addresses that attachments take for a moment, whatever of them the areas show.
pub(crate) fn ranges(areas: &[Area], length: impl Fn(u32) -> Option<u64>) -> Vec<(u64, u64)> {
    let whole = |area: &Area| match area.backing {
        Backing::Segment { id, offset } => Some((area.start - offset, area.start - offset + length(id)?)),
        _ => None,
    };
    areas.iter().filter_map(whole).collect()
}
