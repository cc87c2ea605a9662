//! Areas that show System V shared memory.
//!
//! An attachment shows all of a segment, and what the program had taken away of it is taken away again (munmap(2)). Where something else
//! stands there by now, or a part is not where the whole could be (mremap(2)), it is made at another place, the *room*, and its parts
//! are moved to where they were.

use super::area::{self, Area, Backing};
use crate::{Model, Planning};
use abi::Sys;
use abi::consts::ipc::{SHM_EXEC, SHM_RDONLY};
use abi::consts::mmap::{MREMAP_MAYMOVE_FIXED, PAGE};
use plan::{Actor, Expect, Fact, Ipc, Moment, Object, Op, Pid, Refusal, Tid, Value};
use std::collections::BTreeMap;

/// One call of shmat(2), as far as areas still tell of it.
struct Attachment<'a> {
    id: u32,
    start: u64,
    len: u64,
    /// The size of its pages.
    page: u64,
    /// Ascending.
    areas: Vec<&'a Area>,
}

/// By segment and by where its first byte is, or would be.
fn attachments<'a>(areas: &'a [Area], model: &Model) -> Vec<Attachment<'a>> {
    let mut all: BTreeMap<(u32, u64), Vec<&Area>> = BTreeMap::new();
    for area in areas {
        if let Backing::Segment { id, offset } = area.backing {
            all.entry((id, area.start.wrapping_sub(offset))).or_default().push(area);
        }
    }
    let attachment = |((id, start), areas)| {
        // In a tree of which not all could be captured it may be missing.
        let segment = model.segment(id)?;
        Some(Attachment { id, start, len: segment.len(), page: segment.page.max(PAGE), areas })
    };
    all.into_iter().filter_map(attachment).collect()
}

impl Attachment<'_> {
    /// Whether it can be made where it is: nothing of the process but its own parts stands there.
    fn is_plain(&self, all: &[Area]) -> bool {
        let Some(end) = self.start.checked_add(self.len) else { return false };
        let is_own = |area: &Area| self.areas.iter().any(|own| own.start == area.start);
        let is_within = |area: &&Area| self.start <= area.start && area.end <= end;
        self.areas.iter().all(is_within)
            && !all.iter().any(|area| area.start < end && self.start < area.end && !is_own(area))
    }

    /// What of it is not there any more.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let starts = self.areas.iter().map(|a| a.start).chain([self.start + self.len]);
        let ends = [self.start].into_iter().chain(self.areas.iter().map(|a| a.end));
        ends.zip(starts).filter(|(end, start)| end < start).collect()
    }

    /// What of it follows each other.
    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for area in &self.areas {
            match runs.last_mut().filter(|(_, end)| *end == area.start) {
                Some((_, end)) => *end = area.end,
                None => runs.push((area.start, area.end)),
            }
        }
        runs
    }

    fn place(&self, room: Option<u64>, pid: Pid, to: &mut Planning<'_>) {
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
        let at = room.unwrap_or(self.start);
        call(Sys::Shmat, vec![u64::from(self.id).into(), at.into(), flags.into()], Expect::Exactly(at));
        match room {
            None => {
                for (start, end) in self.gaps() {
                    call(Sys::Munmap, vec![start.into(), (end - start).into()], Expect::Success);
                }
            }
            Some(room) => {
                for (start, end) in self.runs() {
                    let offset = start.wrapping_sub(self.start);
                    // More than there is, it has become by growing.
                    let (from, len) = (room + offset, (end - start).min(self.len.saturating_sub(offset)));
                    let to = [from, len, end - start, MREMAP_MAYMOVE_FIXED, start].map(Value::Int).to_vec();
                    call(Sys::Mremap, to, Expect::Exactly(start));
                }
                call(Sys::Munmap, vec![room.into(), self.len.into()], Expect::Success);
            }
        }
        for a in self.areas.iter().filter(|a| u64::from(a.protection) != protection) {
            let args = vec![a.start.into(), a.len().into(), u64::from(a.protection).into()];
            call(Sys::Mprotect, args, Expect::Success);
        }
    }
}

/// How much room it takes to attach what these areas show, and what it is aligned to.
pub(super) fn room(areas: &[Area], model: &Model) -> (u64, u64) {
    let all = attachments(areas, model);
    let odd = || all.iter().filter(|one| !one.is_plain(areas));
    (odd().map(|one| one.len).max().unwrap_or(0), odd().map(|one| one.page).max().unwrap_or(PAGE))
}

/// Nobody can make what begins behind the end of its segment: what was before it, by which it has grown, is gone.
pub(crate) fn refusals(model: &Model) -> Vec<Refusal> {
    let beyond = |one: &Attachment<'_>| one.runs().iter().any(|(start, _)| start.wrapping_sub(one.start) >= one.len);
    let refuse = |pid: u32| {
        let why = "a part of it stands behind the end of an attached segment, by which it has grown (mremap)";
        Refusal::new("shared memory", why, "let the program unmap that").of(pid as i32)
    };
    model
        .own_spaces()
        .filter(|(_, space)| attachments(&space.areas, model).iter().any(beyond))
        .map(|(pid, _)| refuse(pid))
        .collect()
}

/// Attaches all that these areas show.
pub(crate) fn place(areas: &[Area], pid: Pid, to: &mut Planning<'_>) {
    let (room, _) = to.staging.room;
    for attachment in attachments(areas, to.model) {
        attachment.place(Some(room).filter(|_| !attachment.is_plain(areas)), pid, to);
    }
}

/// The addresses that attachments take for a moment, whatever of them the areas show.
pub(crate) fn ranges(areas: &[Area], length: impl Fn(u32) -> Option<u64>) -> Vec<(u64, u64)> {
    let whole = |area: &Area| match area.backing {
        Backing::Segment { id, offset } => {
            let start = area.start.checked_sub(offset)?;
            Some((start, start.checked_add(length(id)?)?))
        }
        _ => None,
    };
    areas.iter().filter_map(whole).collect()
}
