//! Space: an address space (`mm_struct`): its areas, their pages, and the marks in it that the kernel knows.
//!
//! - seen as    /proc/PID/smaps, /proc/PID/stat, /proc/PID/auxv, /proc/PID/exe
//! - captured   areas; the pages that the process made or changed (PAGEMAP_SCAN), none of zeroes; guard regions; the
//!   start and end of code, data, heap, stack, arguments and environment; the executable; from which nodes areas take memory; the contents of small files that it
//!   writes to
//! - recreated  `mmap` of each area, `preadv` from the image, `mprotect`; `prctl(PR_SET_MM, PR_SET_MM_MAP)`; `mbind`
//! - refused    a mapped file that has changed since and is not in the image; a kernel with another vdso
//! - not kept   nothing

use super::area::{self, Area, Backing, PROT_EXEC, PROT_READ, PROT_WRITE};
use super::heritage::{Change, Heritage};
use super::nodes::{self, Nodes};
use super::ring;
use super::segment;
use super::shared::{self, View};
use super::vdso::{self, KernelArea};
use crate::fd::file::{Access, File, Standing};
use crate::fd::place::{self, EXECUTE, READ, WRITE};
use crate::fd::regular::SMALL;
use crate::fd::{listened, memfd, packet, uring};
use crate::{At, Capture, Capturing, Owner, Planning, Resource, Trouble, Which};
use abi::consts::madvise::{MADV_DONTNEED, MADV_GUARD_INSTALL};
use abi::consts::mmap::PAGE;
use abi::consts::prctl::{PR_SET_MM, PR_SET_MM_MAP};
use abi::layout::PrctlMmMap;
use abi::{Arg, Call, Errno, Sys, proc};
use image::Extent;
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The marks of an address space (proc_pid_stat(5); struct prctl_mm_map).
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[allow(missing_docs)]
pub struct Marks {
    #[n(0)]
    pub code: (u64, u64),
    #[n(1)]
    pub data: (u64, u64),
    #[n(2)]
    pub brk: (u64, u64),
    #[n(3)]
    pub stack: u64,
    #[n(4)]
    pub args: (u64, u64),
    #[n(5)]
    pub env: (u64, u64),
    /// Pairs of type and value (getauxval(3)).
    #[n(6)]
    pub auxv: Vec<(u64, u64)>,
}

/// What a newborn process has in its address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ground {
    /// All that whoever thaws has.
    Full,
    /// Only what the kernel puts there, but elsewhere.
    Bare,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Space {
    /// Ascending, apart from each other.
    #[n(0)]
    pub areas: Vec<Area>,
    /// Where the image holds which pages; ascending.
    #[n(1)]
    pub pages: Vec<Extent>,
    /// Guard regions: first address and the one behind the last.
    #[n(2)]
    pub guards: Vec<(u64, u64)>,
    /// See [`Marks`].
    #[n(3)]
    pub marks: Marks,
    /// The id of the executable's file.
    #[n(4)]
    pub exe: u32,
    /// The kernel's own areas.
    #[n(5)]
    pub kernel_areas: Vec<KernelArea>,
    /// The checksum of the vdso's code.
    #[n(6)]
    pub vdso_sum: u64,
    /// Whether areas to come are locked into memory (mlockall(2), MCL_FUTURE).
    #[n(7)]
    pub lock_future: bool,
    /// Whether they are locked as they are used (MCL_ONFAULT).
    #[n(8)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lock_on_fault: bool,
    /// Of areas that take their memory from nodes of their own.
    #[n(9)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Nodes>,
}

impl Space {
    /// The ids of the files that it maps, and of its executable.
    pub fn files(&self) -> BTreeSet<u32> {
        let mapped = self.areas.iter().filter_map(|a| match a.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        });
        abi::gathered(mapped.chain([self.exe]))
    }
}

impl Resource for Space {
    const NAME: &'static str = "space";
}

impl Capture for Space {
    const OF: Owner = Owner::Space;
    const TEXTS: &'static [&'static str] = &["auxv"];
    const LINKS: &'static [&'static str] = &["exe"];

    fn asks() -> Vec<Call> {
        // The end of the heap stands in no file of /proc: brk(0) fails and returns it (mm/mmap.c).
        vec![Call::new(Sys::Brk, [Arg::Int(0)])]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let seen = proc::smaps(&from.probe.text("smaps")?)?;
        area::look_at_views(&seen, from)?;
        ring::settle(&seen, from)?;
        let mut refusals = Vec::new();
        let mut areas: Vec<Area> = Vec::with_capacity(seen.len());
        for a in seen.iter().filter(|a| !vdso::is_kernel_area(&a.name) && a.name != b"[vsyscall]") {
            match area::capture(a, from) {
                Ok(next) if areas.last().is_some_and(|last| last.continues(&next)) => {
                    areas.last_mut().expect("there is a last one").end = next.end;
                }
                Ok(area) => areas.push(area),
                Err(Trouble::Refused(r)) => refusals.extend(r),
                Err(fault) => return Err(fault),
            }
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        // The executable can be read by a link of its own, whatever of it is mapped.
        let exe = executable(from)?;
        keep_files(&areas, &seen, from)?;
        note_closed(&areas, exe, from);
        let wanted = wanted(&areas, &seen, from)?;
        let asked = nodes::asks(&seen);
        from.probe.begin(&asked);
        let saved = from.probe.save_memory(&wanted)?;
        let nodes = nodes::of(&seen, &asked, from)?;
        ring::look_again(&areas, from)?;
        let (kernel_areas, vdso_sum) = kernel_areas(&seen, from)?;
        let guards = saved.guards.iter().map(|g| (g.start, g.end)).collect();
        let lock_future = from.probe.locks_new_areas()?;
        let lock_on_fault = lock_future && from.probe.locks_on_fault()?;
        let (pages, marks) = (saved.extents, marks(from)?);
        Ok(Space { areas, pages, guards, marks, exe, kernel_areas, vdso_sum, lock_future, lock_on_fault, nodes })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        self.check_vdso(to);
        let all = to.heritage.clone();
        // Of a tree that nobody can make, which is refused, it is not known.
        let Some(heritage) = all.get(&at.pid.0) else { return };
        let areas = heritage.areas(&self.areas);
        let placed = self.placed(heritage);
        let had = heritage.maker.map_or_else(Vec::new, |maker| placed_in(maker, to));
        segment::place(&self.areas, at.pid, to);
        ring::place(&self.areas, at.pid, to);
        uring::turn(at.pid, to);
        let mut shared: BTreeMap<u64, Vec<View<'_>>> = BTreeMap::new();
        for (n, area) in areas.iter().enumerate() {
            let placed = placed[n];
            match area.backing {
                Backing::Shared { object, offset } => {
                    shared.entry(object).or_default().push(View { area, offset, placed });
                }
                Backing::Segment { .. } | Backing::Ring(_) => {}
                Backing::Uring { ring, offset } => uring::map(area, (ring, offset), placed, at.pid, to),
                Backing::Socket { socket } => packet::map(area, socket, placed, at.pid, to),
                _ => match heritage.kept[n] {
                    Some(kept) => area::take_over(area, kept, had[kept.of], placed, at.pid, to),
                    None => area::place(area, placed, at.pid, to),
                },
            }
        }
        let staging = to.staging.clone();
        for (object, views) in &shared {
            match staging.has(*object) {
                true => staging.place(*object, views, at.pid, to),
                false => shared::place(*object, views, at.pid, to),
            }
        }
        staging.leave(at.pid, to);
        self.plan_pages(heritage, at, to);
        // What is locked takes no guards any more.
        self.plan_guards(at, to);
        for area in &self.areas {
            let of = areas.partition_point(|a| a.end <= area.start);
            area::finish(area, placed[of], at.pid, to);
            if !self.locks_early(area, heritage) {
                let facts = (vec![Fact::Loaded(at.pid)], vec![Fact::Whole(at.tid)]);
                area::lock(area, self.is_guarded(area), facts, at.pid, to);
            }
        }
        self.nodes.iter().for_each(|nodes| nodes.plan(at, to));
        self.plan_marks(at, to);
        if self.lock_future {
            const MCL_FUTURE: u64 = 2;
            const MCL_ONFAULT: u64 = 4;
            let how = MCL_FUTURE | if self.lock_on_fault { MCL_ONFAULT } else { 0 };
            to.to.arm(Self::NAME, at.tid, Sys::Mlockall, vec![how.into()], Expect::Success);
        }
    }
}

/// Contents of files that cannot, or shall not have to, be found again.
fn keep_files(areas: &[Area], seen: &[proc::Area], from: &mut Capturing<'_>) -> Result<(), Trouble> {
    let mut by_file: BTreeMap<u32, Vec<&Area>> = BTreeMap::new();
    for a in areas {
        if let Backing::File { file, .. } = a.backing {
            by_file.entry(file).or_default().push(a);
        }
    }
    for (id, areas) in by_file {
        let file = &from.files.list[&id];
        let gone = file.standing == Standing::Gone;
        let shared = file.is_shared_memory() && areas.iter().any(|a| a.shared);
        // As of a file that is open for writing: a small one often goes with the program, or with the machine.
        let small = file.size as i64 <= SMALL && areas.iter().any(|a| a.shared && a.may_write);
        let own = shared || file.standing == Standing::Named && small;
        let whole = file.contents.is_some() && !from.files.is_shown_only(id);
        if whole || !(gone || own || from.keep.libs) {
            continue;
        }
        if from.probe.hears_of(&file.path.0, None) {
            let path = file.path.to_string();
            from.note(path, if gone || from.keep.libs { listened::READ } else { listened::UNREAD });
            if !gone && !from.keep.libs {
                continue;
            }
        }
        let file = &from.files.list[&id];
        let saved = || from.probe.save_path(&file.path.0, file.size).map(|saved| (saved, file.size));
        let (contents, size) = match gone {
            true => match whole_of_gone(file, areas[0], seen, from) {
                Some(whole) => whole,
                None => shown_of_gone(id, &areas, from)?,
            },
            false => match saved() {
                // It was opened by somebody else, and given to the program.
                Err(fault) if shared && fault.errno == Errno::EACCES => {
                    let path = file.path.to_string();
                    from.note(path, "you may not open it yourself, so what it holds is not in the image");
                    continue;
                }
                // Nobody has asked for these.
                Err(fault) if !(shared || from.keep.libs) => {
                    let why = format!("what it holds is not in the image: {fault}");
                    from.note(file.path.to_string(), why);
                    continue;
                }
                Err(fault) if fault.errno == Errno::EAGAIN => {
                    let why = "to read its contents breaks a lease of the program, or is for it to allow (fanotify)";
                    let remedy = "let the program give that up first";
                    return Err(Refusal::new(file.path.to_string(), why, remedy).into());
                }
                found => found?,
            },
        };
        let file = from.files.list.get_mut(&id).expect("it is known");
        (file.contents, file.size) = (Some(contents), size);
    }
    Ok(())
}

/// Tells of files that we may not open as the areas need them.
fn note_closed(areas: &[Area], exe: u32, from: &mut Capturing<'_>) {
    let mut needed: BTreeMap<u32, u32> = BTreeMap::from([(exe, READ | EXECUTE)]);
    for area in areas {
        if let Backing::File { file, .. } = area.backing {
            let writes = area.shared && area.may_write;
            *needed.entry(file).or_default() |= if writes { READ | WRITE } else { READ };
        }
    }
    for (id, access) in needed {
        let file = &from.files.list[&id];
        // What is in the image needs nobody to open it, unless it is one's own data.
        let is_opened = file.standing == Standing::Named && (file.contents.is_none() || access & WRITE != 0);
        if is_opened && !file.is_shared_memory() {
            place::note_closed_file(format!("the mapping of {}", file.path), &file.path.clone(), access, from);
        }
    }
}

/// The whole of a file without a name, if we may look (proc_pid_map_files(5)).
fn whole_of_gone(file: &File, first: &Area, seen: &[proc::Area], from: &Capturing<'_>) -> Option<(Vec<Extent>, u64)> {
    let area = seen.iter().find(|a| a.start == first.start).filter(|_| file.size > 0)?;
    let link = format!("map_files/{:x}-{:x}", area.start, area.end);
    Some((from.probe.save_link(&link, file.size).ok()?, file.size))
}

/// What the areas of a process show of a file without a name, with what those of others showed already. A page that the process
/// has written to privately is its own, and no part of the file; it is taken only where nobody shows what it was before.
fn shown_of_gone(id: u32, areas: &[&Area], from: &mut Capturing<'_>) -> Result<(Vec<Extent>, u64), Trouble> {
    let probe = from.probe;
    let shown = from.files.shown_pages(id);
    // Those that share it show the file itself.
    let (shared, private): (Vec<&Area>, Vec<&Area>) = areas.iter().partition(|a| a.shared);
    let areas = [shared, private].concat();
    for which in [Which::Unchanged, Which::Changed] {
        for area in &areas {
            let Backing::File { offset, .. } = area.backing else { unreachable!("only areas of files are asked") };
            let wanted = missing(area, offset, shown);
            if wanted.is_empty() {
                continue;
            }
            let wanted: Vec<(Range<u64>, Which)> = wanted.into_iter().map(|range| (range, which)).collect();
            for e in probe.save_memory(&wanted)?.extents {
                for n in (0..e.len).step_by(PAGE as usize) {
                    shown.entry(e.at - area.start + offset + n).or_insert(e.offset + n);
                }
            }
        }
    }
    let shown_end = shown.last_key_value().map_or(0, |(at, _)| at + PAGE);
    let mut extents: Vec<Extent> = Vec::new();
    for (at, offset) in shown.iter() {
        match extents.last_mut() {
            Some(last) if last.at + last.len == *at && last.offset + last.len == *offset => last.len += PAGE,
            _ => extents.push(Extent { at: *at, len: PAGE, offset: *offset }),
        }
    }
    let mut size = shown_end.max(from.files.list[&id].size);
    for area in &areas {
        if let Backing::File { offset, .. } = area.backing {
            let there = there_is(area, id, from)?;
            size = size.max(if there > 0 { offset + there } else { 0 });
        }
    }
    Ok((extents, size))
}

/// How much of an area is not behind the end of its file, in whole pages; all, where that cannot be told from guards, from what may
/// not be read, or from holes that a file system in memory has no room to fill.
fn there_is(area: &Area, id: u32, from: &Capturing<'_>) -> Result<u64, Trouble> {
    let is_there = |page: u64| area::is_there(area.start + page * PAGE, from);
    let may_read = area.page == 0 && u64::from(area.protection) & PROT_READ != 0;
    let (mut there, mut behind) = (0, area.len() / PAGE - 1);
    if !may_read
        || is_there(behind)
        || !from.probe.save_memory(&[(area.start..area.end, Which::Guards)])?.guards.is_empty()
    {
        return Ok(area.len());
    }
    while there < behind {
        let middle = there.midpoint(behind);
        if is_there(middle) {
            there = middle + 1;
        } else {
            behind = middle;
        }
    }
    let has_room = from.files.list[&id].directory().is_none_or(|directory| from.probe.has_room(directory));
    // That nothing can be read may be for want of memory, too.
    let may_ask = || from.probe.stat(&format!("map_files/{:x}-{:x}", area.start, area.end)).is_ok();
    let is_the_end = if there > 0 { is_there(there - 1) } else { may_ask() };
    Ok(if has_room && is_the_end { there * PAGE } else { area.len() })
}

/// The parts of an area whose pages of the file are not there yet.
fn missing(area: &Area, offset: u64, shown: &BTreeMap<u64, u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for at in (area.start..area.end).step_by(PAGE as usize) {
        if shown.contains_key(&(at - area.start + offset)) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end += PAGE,
            _ => ranges.push(at..at + PAGE),
        }
    }
    ranges
}

fn executable(from: &mut Capturing<'_>) -> Result<u32, Trouble> {
    let shown = from.probe.link("exe")?;
    let stat = from.probe.stat("exe")?;
    let id = from.file((stat.dev, stat.ino), &shown, |_| Some(stat))?;
    memfd::ask_link(id, "exe", from);
    let file = &from.files.list[&id];
    let known = file.contents.is_some() && !from.files.is_shown_only(id);
    if !known && (file.standing == Standing::Gone || from.keep.libs) {
        let (probe, size) = (from.probe, stat.size as u64);
        let contents = probe.save_link("exe", size)?;
        let file = from.files.list.get_mut(&id).expect("it is known");
        (file.contents, file.size) = (Some(contents), size);
        from.files.is_whole(id);
    }
    Ok(id)
}

/// Which pages of which areas the image must hold, ascending.
fn wanted(areas: &[Area], seen: &[proc::Area], from: &mut Capturing<'_>) -> Result<Vec<(Range<u64>, Which)>, Trouble> {
    let mut all = Vec::new();
    let mut shown = Vec::new();
    for a in areas {
        if matches!(a.backing, Backing::File { .. } | Backing::Shared { .. } | Backing::Segment { .. })
            && a.shared
            && a.page == 0
        {
            all.push((a.start..a.end, Which::Guards));
        }
        match (&a.backing, a.shared) {
            // What is in a segment belongs to the whole tree.
            // Rings are as new.
            (Backing::File { .. } | Backing::Socket { .. }, true) | (Backing::Segment { .. }, _) => {}
            (Backing::File { .. } | Backing::Socket { .. }, false) => all.push((a.start..a.end, Which::Changed)),
            // Whoever uses it must be ready to find it empty; and what the vdso keeps there to make random numbers (vgetrandom)
            // must not be the same in two programs of one image.
            (Backing::Anonymous, _) if a.is_droppable() => {}
            (Backing::Anonymous, _) => all.push((a.start..a.end, Which::Made)),
            // What another area shows just so, of this process or another, is saved once.
            (Backing::Shared { object, offset }, _) if !from.files.is_new_view((*object, *offset, a.len())) => {}
            (Backing::Ring(_) | Backing::Uring { .. }, _) => all.push((a.start..a.end, Which::All)),
            // Of huge pages mincore(2) tells those that this process has used. They are set apart for it, used or not.
            (Backing::Shared { .. }, _) if a.page != 0 => all.push((a.start..a.end, Which::All)),
            (Backing::Shared { .. }, _) => {
                let first = seen.partition_point(|s| s.start < a.start);
                shown.extend(seen[first..].iter().take_while(|s| s.end <= a.end));
            }
        }
    }
    all.extend(present(&shown, from)?.into_iter().map(|range| (range, Which::All)));
    abi::sort_by_key(&mut all, |(range, _)| range.start);
    Ok(all)
}

/// The pages of shared memory that exist. To read one that does not would make it, and a sparse segment whole; and no page
/// table need show those that do. mincore(2) tells of all that are not in swap space.
fn present(areas: &[&proc::Area], from: &Capturing<'_>) -> Result<Vec<Range<u64>>, Trouble> {
    const PAGES: u64 = 1 << 18;
    let (swapped, asked): (Vec<&proc::Area>, Vec<_>) = areas.iter().partition(|a| a.swap_kib > 0);
    let mut ranges: Vec<Range<u64>> = swapped.iter().map(|a| a.start..a.end).collect();
    let parts = |a: &proc::Area| {
        (a.start..a.end).step_by((PAGES * PAGE) as usize).map({
            let end = a.end;
            move |start| (start, ((end - start) / PAGE).min(PAGES))
        })
    };
    let parts: Vec<(u64, u64)> = asked.into_iter().flat_map(parts).collect();
    let ask = |(start, pages): &(u64, u64)| {
        Call::new(Sys::Mincore, [Arg::Int(*start), Arg::Int(pages * PAGE), Arg::Out(*pages as usize)])
    };
    let answers = crate::task::all(from, &parts.iter().map(ask).collect::<Vec<_>>())?;
    for ((start, _), answer) in parts.iter().zip(&answers) {
        let there = crate::task::written(answer).iter().enumerate().filter(|(_, byte)| **byte & 1 == 1);
        for at in there.map(|(n, _)| start + n as u64 * PAGE) {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end += PAGE,
                _ => ranges.push(at..at + PAGE),
            }
        }
    }
    Ok(ranges)
}

fn kernel_areas(seen: &[proc::Area], from: &Capturing<'_>) -> Result<(Vec<KernelArea>, u64), Trouble> {
    let own = seen.iter().filter(|a| vdso::is_kernel_area(&a.name));
    let record = |a: &proc::Area| KernelArea {
        name: String::from_utf8_lossy(&a.name).into_owned(),
        start: a.start,
        len: a.end - a.start,
    };
    let areas: Vec<KernelArea> = own.map(record).collect();
    let sum = match areas.iter().find(|a| a.name == "[vdso]") {
        Some(vdso) => vdso::code_sum(&from.probe.memory(vdso.start, vdso.len as usize)?),
        None => 0,
    };
    Ok((areas, sum))
}

fn marks(from: &Capturing<'_>) -> Result<Marks, Trouble> {
    let s = proc::stat(&from.probe.text("stat")?)?;
    let brk = from.probe.calls(&Space::asks())?[0].result.unwrap_or(s.start_brk);
    Ok(Marks {
        code: (s.start_code, s.end_code),
        data: (s.start_data, s.end_data),
        brk: (s.start_brk, brk),
        stack: s.start_stack,
        args: (s.arg_start, s.arg_end),
        env: (s.env_start, s.env_end),
        auxv: proc::auxv(&from.probe.text("auxv")?)?,
    })
}

/// An address space with nothing but what the kernel puts there, where it put it.
pub(crate) fn plan_ground(pid: u32, areas: &[KernelArea], was: Ground, to: &mut Planning<'_>) {
    let (by, bare) = (Actor::Thread(Tid(pid)), Fact::Bare(Pid(pid)));
    let mut needs = vec![Fact::Born(Tid(pid))];
    if was == Ground::Full {
        let partly = Fact::Made(to.to.scratch());
        to.to.step(Moment::Birth, Space::NAME, by, Op::Empty, needs, vec![partly.clone()]);
        plan_silence(pid, partly.clone(), to);
        needs = vec![partly];
    }
    let areas = areas.iter().map(|a| (a.name.clone(), a.start)).collect();
    let in_place = Fact::Made(to.to.scratch());
    let makes = vec![bare, in_place.clone()];
    to.to.step(Moment::Birth, Space::NAME, by, Op::MoveKernelAreas { areas }, needs, makes);
    if was == Ground::Full {
        to.staging.clone().plan(Pid(pid), in_place, to);
    }
}

/// Nobody is shown arguments any more. Where they were, something of the tree will be; and if that is below a stack, which
/// may grow down to there, the stack does for whoever looks (mm/memory.c, `__access_remote_vm`): ps(1), at a bad moment.
fn plan_silence(pid: u32, emptied: Fact, to: &mut Planning<'_>) {
    let Some(space) = to.model.space(pid) else { return };
    let marks = &space.marks;
    let map = PrctlMmMap { arg_end: marks.args.0, env_end: marks.env.0, ..marks.map(u32::MAX) }.to_bytes();
    let args = vec![PR_SET_MM.into(), PR_SET_MM_MAP.into(), Value::Bytes(map.to_vec()), size_of_map(), 0.into()];
    let op = Op::Call { sys: Sys::Prctl, args, expect: Expect::Whatever };
    let (by, bare) = (Actor::Thread(Tid(pid)), Fact::Bare(Pid(pid)));
    to.to.step(Moment::Birth, Space::NAME, by, op, vec![emptied], vec![bare]);
}

fn size_of_map() -> Value {
    (PrctlMmMap::SIZE as u64).into()
}

impl Marks {
    /// What the kernel is told of them, all but the auxiliary vector.
    fn map(&self, exe_fd: u32) -> PrctlMmMap {
        PrctlMmMap {
            start_code: self.code.0,
            end_code: self.code.1,
            start_data: self.data.0,
            end_data: self.data.1,
            start_brk: self.brk.0,
            brk: self.brk.1,
            start_stack: self.stack,
            arg_start: self.args.0,
            arg_end: self.args.1,
            env_start: self.env.0,
            env_end: self.env.1,
            auxv: 0,
            auxv_size: 0,
            exe_fd,
        }
    }
}

/// The protections under which the areas are placed that a process has when others are born of it.
fn placed_in(pid: u32, to: &Planning<'_>) -> Vec<u64> {
    to.model.space(pid).map_or_else(Vec::new, |space| space.placed(&to.heritage[&pid]))
}

/// What a birth needs of the memory of the maker, and what it makes: an heir waits until that holds what both shall have, and the
/// maker changes it only when the heir is born.
pub(crate) fn birth(pid: Pid, maker: Pid, to: &Planning<'_>) -> (Vec<Fact>, Vec<Fact>) {
    let maker_space = to.space(maker);
    let heritage = to.heritage.get(&pid.0).filter(|h| h.maker == Some(maker_space.0));
    if heritage.is_none() {
        return (vec![Fact::Born(Tid(maker.0)), Fact::Bare(maker)], vec![]);
    }
    let seeded = to.heritage[&maker_space.0].is_seeded().then_some(Fact::Seeded(maker_space));
    let needs =
        [Fact::Born(Tid(maker.0)), Fact::Bare(maker), Fact::Mapped(maker_space)].into_iter().chain(seeded).collect();
    (needs, vec![Fact::Mapped(pid), Fact::Loaded(maker_space)])
}

/// Whether a process may have areas when others are born of it: such as it has by birth, or such as others are to have.
pub(crate) fn may_have_areas(maker: Pid, to: &Planning<'_>) -> bool {
    to.heritage.get(&to.space(maker).0).is_some_and(|h| h.maker.is_some() || !h.heirs.is_empty())
}

/// A newborn lets go of what its maker had and it has not.
pub(crate) fn drop_rest(pid: Pid, to: &mut Planning<'_>) {
    let all = to.heritage.clone();
    for (start, end) in all.get(&pid.0).map_or(&[][..], |h| &h.dropped) {
        let op =
            Op::Call { sys: Sys::Munmap, args: vec![(*start).into(), (end - start).into()], expect: Expect::Success };
        let (by, born) = (Actor::Thread(Tid(pid.0)), vec![Fact::Born(Tid(pid.0))]);
        to.to.step(Moment::Birth, Space::NAME, by, op, born, vec![Fact::Bare(pid)]);
    }
}

/// The protection under which the pages of an area are read in.
fn placed_as(area: &Area, has_pages: bool) -> u64 {
    let wanted = u64::from(area.protection);
    if has_pages && wanted & PROT_WRITE == 0 {
        // Write and execute at once may be forbidden (SELinux, PR_SET_MDWE): execute comes after.
        (wanted | PROT_READ | PROT_WRITE) & !PROT_EXEC
    } else {
        wanted
    }
}

impl Space {
    fn check_vdso(&self, to: &mut Planning<'_>) {
        let shape =
            |areas: &[KernelArea]| -> Vec<(String, u64)> { areas.iter().map(|a| (a.name.clone(), a.len)).collect() };
        let mut here = to.to.host.vdso.clone();
        let mut mine = shape(&self.kernel_areas);
        abi::sort(&mut here);
        abi::sort(&mut mine);
        let refused = to.to.refused("vdso");
        if !refused && !mine.is_empty() && (mine != here || self.vdso_sum != to.to.host.vdso_sum) {
            let why = "the kernel's own code in the process (vdso) is not that of this kernel";
            to.to.refuse(Refusal::new("vdso", why, "thaw it on a machine with the kernel that it was frozen on"));
        }
    }

    /// The protections under which the areas are placed that it has when others are born of it.
    fn placed(&self, heritage: &Heritage) -> Vec<u64> {
        let reads = |area: &Area| {
            heritage.before.reads_into(area.start, area.end) || heritage.after.reads_into(area.start, area.end)
        };
        heritage.areas(&self.areas).iter().map(|area| placed_as(area, reads(area))).collect()
    }

    fn is_guarded(&self, area: &Area) -> bool {
        let next = self.guards.partition_point(|(_, end)| *end <= area.start);
        self.guards.get(next).is_some_and(|(start, _)| *start < area.end)
    }

    /// Whether an area is locked before heirs are born, who get no locks by that: later, all of it would be written to, so that nothing of
    /// it would be common any more (mm/gup.c, `populate_vma_page_range`). What is locked cannot be emptied (madvise(2)).
    fn locks_early(&self, area: &Area, heritage: &Heritage) -> bool {
        let is_written = u64::from(area.protection) & PROT_WRITE != 0 && !area.shared && !area.has("lf");
        is_written && heritage.is_seeded() && !self.is_guarded(area) && !heritage.after.empties(area.start, area.end)
    }

    /// What heirs shall have from it comes before they are born, and what is its own when they are.
    fn plan_pages(&self, heritage: &Heritage, at: At, to: &mut Planning<'_>) {
        let mapped = vec![Fact::Mapped(at.pid)];
        if heritage.is_seeded() {
            let makes = vec![Fact::Seeded(at.pid), Fact::Loaded(at.pid)];
            Self::plan_change(&heritage.before, at, &mapped, &makes, to);
            for area in self.areas.iter().filter(|area| self.locks_early(area, heritage)) {
                area::lock(area, false, (mapped.clone(), makes.clone()), at.pid, to);
            }
        }
        let born = heritage.heirs.iter().map(|pid| Fact::Born(Tid(*pid)));
        let needs: Vec<Fact> = mapped.into_iter().chain(born).collect();
        Self::plan_change(&heritage.after, at, &needs, &[Fact::Loaded(at.pid)], to);
        let mut needs = needs;
        for (start, end) in &heritage.given_back {
            let args = vec![(*start).into(), (end - start).into()];
            let op = Op::Call { sys: Sys::Munmap, args, expect: Expect::Success };
            // The first waits for all who are born, and the others for the first.
            let done = Fact::Made(to.to.scratch());
            let makes = vec![Fact::Loaded(at.pid), done.clone()];
            to.to.step(
                Moment::Fill,
                Self::NAME,
                Actor::Thread(at.tid),
                op,
                std::mem::replace(&mut needs, vec![done]),
                makes,
            );
        }
    }

    fn plan_change(change: &Change, at: At, needs: &[Fact], makes: &[Fact], to: &mut Planning<'_>) {
        let by = Actor::Thread(at.tid);
        for (start, end) in &change.emptied {
            let args = vec![(*start).into(), (end - start).into(), MADV_DONTNEED.into()];
            let op = Op::Call { sys: Sys::Madvise, args, expect: Expect::Success };
            to.to.step(Moment::Fill, Self::NAME, by, op, needs.to_vec(), makes.to_vec());
        }
        let op = Op::Pages { extents: change.read.clone() };
        to.to.step(Moment::Fill, Self::NAME, by, op, needs.to_vec(), makes.to_vec());
    }

    fn plan_guards(&self, at: At, to: &mut Planning<'_>) {
        for (start, end) in &self.guards {
            let args = vec![(*start).into(), (end - start).into(), MADV_GUARD_INSTALL.into()];
            let op = Op::Call { sys: Sys::Madvise, args, expect: Expect::Success };
            let needs = vec![Fact::Loaded(at.pid)];
            to.to.step(Moment::Fill, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
        }
    }

    /// The kernel takes nothing else for one (prctl(2), PR_SET_MM_MAP).
    fn check_executable(&self, to: &mut Planning<'_>) {
        let Some(file) = to.model.files.get(&self.exe).filter(|file| file.unchanged(to)) else { return };
        let path = file.path.to_string();
        let may = to.to.host.files.get(&file.path.0).is_none_or(|here| here.access & EXECUTE != 0);
        if !may && !to.to.refused(&path) {
            to.to.refuse(Refusal::new(
                path,
                "it is the program's executable, and may not be executed",
                "allow it: chmod +x",
            ));
        }
    }

    /// A program that looks for itself, or executes itself, by /proc/PID/exe finds no name of a file there.
    fn note_executable(&self, to: &mut Planning<'_>) {
        let file = to.model.files.get(&self.exe).filter(|file| file.standing == Standing::Named);
        if let Some(file) = file.filter(|file| !file.unchanged(to)) {
            to.to.note(format!("{} is not here as it was: the program's executable is memory now", file.path));
        }
    }

    fn plan_marks(&self, at: At, to: &mut Planning<'_>) {
        let m = &self.marks;
        let exe = to.open(self.exe, Access::Read);
        self.note_executable(to);
        self.check_executable(to);
        let auxv: Vec<u8> = m.auxv.iter().flat_map(|(k, v)| [k.to_ne_bytes(), v.to_ne_bytes()].concat()).collect();
        let exe_fd = exe.map_or(u32::MAX, |d| to.number(d) as u32);
        let map = PrctlMmMap { auxv_size: auxv.len() as u32, ..m.map(exe_fd) };
        let map = Value::Nested { bytes: map.to_bytes().to_vec(), at: PrctlMmMap::AUXV_AT, inner: auxv };
        let args = vec![PR_SET_MM.into(), PR_SET_MM_MAP.into(), map, size_of_map(), 0.into()];
        let op = Op::Call { sys: Sys::Prctl, args, expect: Expect::Success };
        let mut needs = vec![Fact::Loaded(at.pid)];
        needs.extend(exe.map(Fact::Made));
        to.to.step(Moment::Fill, Self::NAME, Actor::Thread(Tid(at.pid.0)), op, needs, vec![Fact::Whole(at.tid)]);
    }
}
