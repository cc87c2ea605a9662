//! Heritage: memory that a process has from its maker, by birth, and so shares with its relatives until one of them writes.
//!
//! The image holds a page that relatives share once, and tells it by its place. A process is filled, before anybody is born of
//! it, with those pages that most of its heirs and itself want to have; each then takes what differs, and nobody needs more
//! memory than he had. Pure: from the areas and pages of all processes to what each keeps, drops and reads.

use super::area::{Area, Backing};
use super::hull::{self, Heir};
use super::space::Space;
use abi::gathered;
use image::Extent;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// A part of an area that is there from birth on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where in the maker's list the area stands that it is of.
    pub(crate) of: usize,
}

/// What is read, and what is emptied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Change {
    pub(crate) read: Vec<Extent>,
    pub(crate) emptied: Vec<(u64, u64)>,
}

impl Change {
    fn is_none(&self) -> bool {
        self.read.is_empty() && self.emptied.is_empty()
    }

    /// Whether it empties anything in this range.
    pub(crate) fn empties(&self, start: u64, end: u64) -> bool {
        self.emptied.iter().any(|emptied| emptied.0 < end && start < emptied.1)
    }

    /// Whether it writes into this range.
    pub(crate) fn reads_into(&self, start: u64, end: u64) -> bool {
        let at = self.read.partition_point(|e| e.at + e.len <= start);
        self.read.get(at).is_some_and(|e| e.at < end)
    }
}

/// What one process has from its maker, and what it does before and after others are born of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Heritage {
    /// Who made it, where it has something from there.
    pub(crate) maker: Option<u32>,
    /// What it has when others are born of it, if that is not what it has then.
    hull: Option<Vec<Area>>,
    /// The parts of these areas that it gives back when they are born.
    pub(crate) given_back: Vec<(u64, u64)>,
    /// For each of these areas, the part that it has by birth.
    pub(crate) kept: Vec<Option<Kept>>,
    /// Parts of the areas of whom it was made of that it does not keep.
    pub(crate) dropped: Vec<(u64, u64)>,
    /// Who has something from it.
    pub(crate) heirs: Vec<u32>,
    /// What it does before they are born.
    pub(crate) before: Change,
    /// What it does then.
    pub(crate) after: Change,
}

impl Heritage {
    /// The areas that it has when others are born of it, of those that it has at last.
    pub(crate) fn areas<'a>(&'a self, own: &'a [Area]) -> &'a [Area] {
        self.hull.as_deref().unwrap_or(own)
    }

    /// Whether its heirs have to wait for pages.
    pub(crate) fn is_seeded(&self) -> bool {
        !self.heirs.is_empty() && !self.before.is_none()
    }
}

/// A process with an address space of its own.
struct Member<'m> {
    space: &'m Space,
    /// The areas that it has when others are born of it.
    areas: Cow<'m, [Area]>,
    maker: Option<u32>,
    /// Whose memory it has when it is born, whether it keeps any of it or not.
    source: Option<u32>,
    kept: Vec<Option<Kept>>,
    /// Its pages of private areas.
    own: Vec<Extent>,
    /// Pages of memory that it shares anyhow.
    shared: Vec<Extent>,
    heirs: Vec<u32>,
    /// What it has when its heirs are born.
    base: Vec<Extent>,
}

/// The heritage of every process, from their spaces and those who make them; and for each what is taken of its addresses before
/// any private area is placed.
pub(crate) fn of(
    spaces: &[(u32, &Space, Option<u32>)],
    taken: impl Fn(&Space) -> Vec<(u64, u64)>,
) -> BTreeMap<u32, Heritage> {
    let mut members: BTreeMap<u32, Member<'_>> = BTreeMap::new();
    for (pid, space, source) in spaces {
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for (extent, is_shared) in space.pages.iter().flat_map(|e| by_area(*e, &space.areas)) {
            if is_shared { shared.push(extent) } else { own.push(extent) }
        }
        let (areas, kept) = (Cow::Borrowed(&space.areas[..]), vec![None; space.areas.len()]);
        let (source, heirs, base) = (*source, Vec::new(), Vec::new());
        members.insert(*pid, Member { space, areas, maker: None, source, kept, own, shared, heirs, base });
    }
    let mut born: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let known: Vec<u32> = members.keys().copied().collect();
    for (pid, m) in &mut members {
        m.source = m.source.filter(|source| known.binary_search(source).is_ok());
        m.source.into_iter().for_each(|source| born.entry(source).or_default().push(*pid));
    }
    for pid in heirs_first(&members, &born) {
        for (heir, kept) in with_hull(pid, born.get(&pid).map_or(&[], |b| b), &mut members, &taken) {
            let m = members.get_mut(&heir).expect("it is a member");
            (m.maker, m.kept) = (kept.iter().any(Option::is_some).then_some(pid), kept);
        }
        let is_heir = |heir: &&u32| members[heir].maker.is_some();
        let heirs = born.get(&pid).into_iter().flatten().filter(is_heir).copied().collect();
        members.get_mut(&pid).expect("it is a member").heirs = heirs;
        let base = chosen(&members[&pid], &members);
        members.get_mut(&pid).expect("it is a member").base = base;
    }
    gathered(members.iter().map(|(pid, m)| (*pid, heritage(m, &members))))
}

/// What each of those that are born of a process has by birth, which is given its hull for it.
fn with_hull(
    pid: u32,
    born: &[u32],
    members: &mut BTreeMap<u32, Member<'_>>,
    taken: impl Fn(&Space) -> Vec<(u64, u64)>,
) -> Vec<(u32, Vec<Option<Kept>>)> {
    let kept = |members: &BTreeMap<u32, Member<'_>>| -> Vec<Vec<Option<Kept>>> {
        born.iter().map(|heir| inherited(&members[&pid].areas, &members[heir].areas)).collect()
    };
    let mut all = kept(members);
    let heirs: Vec<Heir<'_>> = (born.iter().zip(&all))
        .map(|(heir, kept)| Heir { areas: &members[heir].areas, kept, base: &members[heir].base })
        .collect();
    let m = &members[&pid];
    // What an heir takes first, in one piece, must not have been born with something.
    let spaces = born.iter().map(|heir| members[heir].space).chain([m.space]);
    let taken: Vec<(u64, u64)> = spaces.flat_map(taken).collect();
    if let Some(hull) = hull::of(&m.space.areas, &m.own, &taken, &heirs) {
        let m = members.get_mut(&pid).expect("it is a member");
        (m.kept, m.areas) = (vec![None; hull.len()], Cow::Owned(hull));
        all = kept(members);
    }
    born.iter().copied().zip(all).collect()
}

/// An extent cut at the borders of areas, with whether each piece is of a shared one.
fn by_area(e: Extent, areas: &[Area]) -> Vec<(Extent, bool)> {
    let end = e.at + e.len;
    let first = areas.partition_point(|a| a.end <= e.at);
    let over = areas[first..].iter().take_while(move |a| a.start < end);
    over.map(|a| (part(e, a.start, a.end), a.shared)).collect()
}

/// The part of an extent within a range that it meets.
pub(super) fn part(e: Extent, start: u64, end: u64) -> Extent {
    let (from, to) = (e.at.max(start), (e.at + e.len).min(end));
    Extent { at: from, len: to - from, offset: e.offset + (from - e.at) }
}

/// For each area, which part of it was there when it was born. Both lists ascend.
pub(super) fn inherited(maker: &[Area], own: &[Area]) -> Vec<Option<Kept>> {
    let one = |area: &Area| {
        let first = maker.partition_point(|m| m.end <= area.start);
        let mut met = maker[first..].iter().enumerate().take_while(|(_, m)| m.start < area.end);
        met.find(|(_, m)| is_heir(m, area)).map(|(n, m)| Kept {
            start: area.start.max(m.start),
            end: area.end.min(m.end),
            of: first + n,
        })
    };
    own.iter().map(one).collect()
}

/// Whether an area may be a copy that fork(2) made of another one that it meets.
pub(super) fn is_heir(maker: &Area, area: &Area) -> bool {
    let alike = match (&maker.backing, &area.backing) {
        (Backing::Anonymous, Backing::Anonymous) => true,
        (Backing::File { file: a, offset: m }, Backing::File { file: b, offset: o }) => {
            a == b && m.wrapping_sub(maker.start) == o.wrapping_sub(area.start)
        }
        _ => false,
    };
    // What is made of huge pages can be neither grown nor emptied in part.
    let small = maker.page == 0 && area.page == 0;
    // fork(2) leaves those out, or empties them (madvise(2)); and a stack is no stack in two pieces.
    let forked = !["dc", "wf", "dp"].iter().any(|flag| maker.has(flag) || area.has(flag));
    let whole = !area.has("gd") || area.start >= maker.start;
    // Nobody is born with what is locked (mlock(2)).
    let rest = |flag: &&String| !["lo", "lf"].contains(&flag.as_str());
    let same_flags = maker.flags.iter().filter(rest).eq(area.flags.iter().filter(rest));
    alike && small && !maker.shared && !area.shared && forked && whole && same_flags
}

/// Those of whom others are born come after them.
fn heirs_first(members: &BTreeMap<u32, Member<'_>>, born: &BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut next: Vec<u32> = members.iter().filter(|(_, m)| m.source.is_none()).map(|(pid, _)| *pid).collect();
    let mut order = Vec::with_capacity(members.len());
    while let Some(pid) = next.pop() {
        order.push(pid);
        next.extend(born.get(&pid).into_iter().flatten());
    }
    order.reverse();
    order
}

/// The pages that are within these ranges.
fn within(pages: &[Extent], ranges: impl Iterator<Item = (u64, u64)>) -> Vec<Extent> {
    let mut out = Vec::new();
    for (start, end) in ranges {
        let first = pages.partition_point(|e| e.at + e.len <= start);
        out.extend(pages[first..].iter().take_while(|e| e.at < end).map(|e| part(*e, start, end)));
    }
    out
}

fn ranges(kept: &[Option<Kept>]) -> impl Iterator<Item = (u64, u64)> {
    kept.iter().flatten().map(|k| (k.start, k.end))
}

/// Those of the areas that are private.
fn private(areas: &[Area]) -> impl Iterator<Item = (u64, u64)> {
    areas.iter().filter(|a| !a.shared).map(|a| (a.start, a.end))
}

/// A change of the votes at an address: for a version of the pages from there on, or for having none.
struct Vote {
    at: u64,
    /// Where in the image the page at address 0 would be: the same for all pages of a run.
    version: Option<u64>,
    count: i64,
    is_own: bool,
}

pub(super) fn version(e: &Extent) -> u64 {
    e.offset.wrapping_sub(e.at)
}

/// For each page what most of the heirs, and the process itself, want; where as many want another, its own.
fn chosen(m: &Member<'_>, members: &BTreeMap<u32, Member<'_>>) -> Vec<Extent> {
    if m.heirs.is_empty() {
        return m.own.clone();
    }
    let mut votes = Vec::new();
    let mut put = |start: u64, end: u64, version, count, is_own| {
        votes.push(Vote { at: start, version, count, is_own });
        votes.push(Vote { at: end, version, count: -count, is_own });
    };
    let mut ballot = |pages: &[Extent], ranges: &mut dyn Iterator<Item = (u64, u64)>, is_own: bool| {
        ranges.for_each(|(start, end)| put(start, end, None, 1, is_own));
        for e in pages {
            put(e.at, e.at + e.len, Some(version(e)), 1, is_own);
            put(e.at, e.at + e.len, None, -1, is_own);
        }
    };
    ballot(&m.own, &mut private(&m.areas), true);
    for heir in m.heirs.iter().map(|pid| &members[pid]) {
        ballot(&within(&heir.base, ranges(&heir.kept)), &mut ranges(&heir.kept), false);
    }
    votes.sort_unstable_by_key(|v| v.at);
    counted(&votes)
}

/// The outcome of the votes, address by address.
fn counted(votes: &[Vote]) -> Vec<Extent> {
    let (mut counts, mut own): (HashMap<Option<u64>, i64>, HashMap<Option<u64>, i64>) = Default::default();
    let mut pages: Vec<Extent> = Vec::new();
    let mut from = 0;
    for group in votes.chunk_by(|a, b| a.at == b.at) {
        let at = group[0].at;
        if let Some(Some(version)) = winner(&counts, &own).filter(|_| from < at) {
            let next = Extent { at: from, len: at - from, offset: version.wrapping_add(from) };
            match pages.last_mut() {
                Some(last) if last.at + last.len == next.at && self::version(last) == self::version(&next) => {
                    last.len += next.len
                }
                _ => pages.push(next),
            }
        }
        for v in group {
            count(&mut counts, v.version, v.count);
            if v.is_own {
                count(&mut own, v.version, v.count);
            }
        }
        from = at;
    }
    pages
}

fn count(counts: &mut HashMap<Option<u64>, i64>, version: Option<u64>, by: i64) {
    let n = counts.entry(version).or_default();
    *n += by;
    if *n == 0 {
        counts.remove(&version);
    }
}

/// The version of most, if the process itself has anything there: its own where it has as many, and else the first.
fn winner(counts: &HashMap<Option<u64>, i64>, own: &HashMap<Option<u64>, i64>) -> Option<Option<u64>> {
    let its = own.iter().find(|(_, n)| **n > 0).map(|(version, _)| *version)?;
    let best = counts.values().max().copied().unwrap_or(0);
    if counts.get(&its).copied().unwrap_or(0) == best {
        return Some(its);
    }
    counts.iter().filter(|(_, n)| **n == best).map(|(version, _)| *version).min()
}

/// What makes `want` of `have`.
fn change(want: &[Extent], have: &[Extent]) -> Change {
    let mut votes: Vec<(u64, bool, Option<u64>)> = Vec::new();
    for (pages, is_wanted) in [(want, true), (have, false)] {
        for e in pages {
            votes.push((e.at, is_wanted, Some(version(e))));
            votes.push((e.at + e.len, is_wanted, None));
        }
    }
    // Where one run ends and another begins, the end comes first.
    votes.sort_unstable_by_key(|(at, _, version)| (*at, version.is_some()));
    let mut out = Change::default();
    let (mut wanted, mut had, mut from) = (None, None, 0);
    for (at, is_wanted, version) in votes {
        if from < at && wanted != had {
            match wanted {
                Some(version) => {
                    read(&mut out.read, Extent { at: from, len: at - from, offset: from.wrapping_add(version) })
                }
                None => empty(&mut out.emptied, from, at),
            }
        }
        *(if is_wanted { &mut wanted } else { &mut had }) = version;
        from = at;
    }
    out
}

fn read(all: &mut Vec<Extent>, next: Extent) {
    match all.last_mut() {
        Some(last) if last.at + last.len == next.at && version(last) == version(&next) => last.len += next.len,
        _ => all.push(next),
    }
}

fn empty(all: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match all.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => all.push((start, end)),
    }
}

fn heritage(m: &Member<'_>, members: &BTreeMap<u32, Member<'_>>) -> Heritage {
    let from = m.maker.map(|maker| &members[&maker]);
    let had = from.map_or_else(Vec::new, |from| within(&from.base, ranges(&m.kept)));
    let (mut before, mut after) = match m.heirs.is_empty() {
        true => (Change::default(), change(&m.own, &had)),
        false => (change(&m.base, &had), change(&m.own, &within(&m.base, private(&m.space.areas)))),
    };
    let first = if m.heirs.is_empty() { &mut after } else { &mut before };
    first.read.extend(&m.shared);
    abi::sort_by_key(&mut first.read, |e| e.at);
    let source = m.source.map(|source| &members[&source]);
    let dropped = source.map_or_else(Vec::new, |s| without(&s.areas, ranges(&m.kept)));
    let hull = if let Cow::Owned(hull) = &m.areas { Some(hull.clone()) } else { None };
    let own = m.space.areas.iter().map(|a| (a.start, a.end));
    let given_back = hull.as_ref().map_or_else(Vec::new, |hull| without(hull, own));
    let (kept, heirs) = (m.kept.clone(), m.heirs.clone());
    Heritage { maker: m.maker, hull, given_back, kept, dropped, heirs, before, after }
}

/// The parts of areas of which none is kept.
fn without(areas: &[Area], kept: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut put = |start: u64, end: u64| match out.last_mut() {
        _ if start >= end => {}
        Some(last) if last.1 == start => last.1 = end,
        _ => out.push((start, end)),
    };
    let mut kept = kept.peekable();
    for area in areas {
        let mut from = area.start;
        while let Some((start, end)) = kept.next_if(|(start, _)| *start < area.end) {
            put(from, start);
            from = end;
        }
        put(from, area.end);
    }
    out
}
