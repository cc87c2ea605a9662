//! Hull: the areas that a process is given before others are born of it, where they are more than it has.
//!
//! Whoever splits an area, or gives a part of it back (mprotect(2), munmap(2)), after it has made children shares the pages there with
//! them as before; but areas that are born of what it has now are too small to hold them. So it is born with the hull of its own
//! area and of those of its heirs, as it once had it, and becomes what it is when they are there. So each of these is one for the
//! kernel, too, as mremap(2) wants it. Pure.

use super::area::{Area, Backing};
use super::heritage::{Kept, is_heir, part, version};
use image::Extent;
use std::borrow::Cow;
use std::collections::HashMap;

/// One of those who are born of a process, as it would be born of what that has.
pub(super) struct Heir<'a> {
    /// What it has itself when others are born of it.
    pub(super) areas: &'a [Area],
    pub(super) kept: &'a [Option<Kept>],
    pub(super) base: &'a [Extent],
}

/// The areas of a process, some of them widened, so that those of its pages that several want are in them; none, where they are.
/// What is taken is so before any private area is placed.
pub(super) fn of(own: &[Area], pages: &[Extent], taken: &[(u64, u64)], heirs: &[Heir<'_>]) -> Option<Vec<Area>> {
    let missed: Vec<Extent> = heirs.iter().flat_map(missed).collect();
    let wanted = if missed.is_empty() { Vec::new() } else { common(pages.iter().chain(&missed)) };
    let mut areas = Cow::Borrowed(own);
    for (area, kept) in heirs.iter().flat_map(|heir| heir.areas.iter().zip(heir.kept)) {
        // An area that grew at its end afterwards grows so again. What is put before it remains a piece of its own.
        let begins = kept.filter(|k| area.start < k.start).map(|k| (area.start, k.start));
        let first = wanted.partition_point(|(_, end)| *end <= area.start);
        let met = wanted[first..].iter().take_while(|(start, _)| *start < area.end);
        let parts = met.map(|(start, end)| (area.start.max(*start), area.end.min(*end))).chain(begins);
        if let Some(range) = parts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
            widen(&mut areas, area, range, taken);
        }
    }
    if let Cow::Owned(areas) = areas { Some(areas) } else { None }
}

/// The pages that an heir would have to read for itself, as no area of its maker's is there.
fn missed(heir: &Heir<'_>) -> Vec<Extent> {
    let mut out = Vec::new();
    let mut kept = heir.kept.iter().flatten().peekable();
    for e in heir.base {
        let end = e.at + e.len;
        let mut from = e.at;
        while from < end {
            while kept.next_if(|k| k.end <= from).is_some() {}
            let Some(k) = kept.peek().filter(|k| k.start < end) else {
                out.push(part(*e, from, end));
                break;
            };
            if from < k.start {
                out.push(part(*e, from, k.start));
            }
            from = k.end;
        }
    }
    out
}

/// Where two or more have the same page, ascending.
fn common<'a>(pages: impl Iterator<Item = &'a Extent>) -> Vec<(u64, u64)> {
    let mut ends: Vec<(u64, u64, i64)> =
        pages.flat_map(|e| [(e.at, version(e), 1), (e.at + e.len, version(e), -1)]).collect();
    ends.sort_unstable();
    let mut counts: HashMap<u64, i64> = HashMap::new();
    let (mut several, mut from) = (0, 0);
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (at, version, by) in ends {
        if several > 0 && from < at {
            match out.last_mut() {
                Some(last) if last.1 == from => last.1 = at,
                _ => out.push((from, at)),
            }
        }
        let count = counts.entry(version).or_default();
        several -= i64::from(*count > 1);
        *count += by;
        several += i64::from(*count > 1);
        from = at;
    }
    out
}

/// Makes one area of the range and of all areas that this one meets, if they are alike and nothing else is between them.
fn widen(areas: &mut Cow<'_, [Area]>, of: &Area, range: (u64, u64), taken: &[(u64, u64)]) {
    let first = areas.partition_point(|a| a.end <= of.start);
    let last = areas.partition_point(|a| a.start < of.end);
    let met = &areas[first..last];
    let start = met.first().map_or(range.0, |a| a.start.min(range.0));
    let end = met.last().map_or(range.1, |a| a.end.max(range.1));
    if matches!(met, [one] if (one.start, one.end) == (start, end)) {
        return;
    }
    // With another protection than all have it would be set apart in vain (Documentation/mm/overcommit-accounting).
    let is_common = met.iter().all(|a| a.protection == of.protection);
    let hull = Area {
        start,
        end,
        protection: if is_common { of.protection } else { 0 },
        backing: match of.backing {
            Backing::File { file, offset } => {
                Backing::File { file, offset: offset.wrapping_add(start.wrapping_sub(of.start)) }
            }
            ref other => other.clone(),
        },
        name: None,
        ..of.clone()
    };
    // A stack is no stack in two pieces, and what it may grow into is not for others.
    let alike = !of.has("gd") && is_heir(&hull, of) && met.iter().all(|a| is_heir(&hull, a));
    let free = !taken.iter().any(|(from, to)| *from < end && start < *to);
    if alike && free {
        areas.to_mut().splice(first..last, [hull]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::heritage::inherited;
    use super::*;

    fn area(start: u64, end: u64) -> Area {
        Area {
            start,
            end,
            protection: 3,
            shared: false,
            may_write: false,
            backing: Backing::Anonymous,
            name: None,
            flags: Vec::new(),
            page: 0,
        }
    }

    fn page(at: u64, len: u64, offset: u64) -> Extent {
        Extent { at, len, offset }
    }

    /// The ranges that a process is born with of which these are born.
    fn ranges(own: &[Area], pages: &[Extent], taken: &[(u64, u64)], heirs: &[(&[Area], &[Extent])]) -> Vec<(u64, u64)> {
        let kept: Vec<_> = heirs.iter().map(|(areas, _)| inherited(own, areas)).collect();
        let heirs: Vec<_> = heirs.iter().zip(&kept).map(|((areas, base), kept)| Heir { areas, kept, base }).collect();
        of(own, pages, taken, &heirs).unwrap_or_default().iter().map(|a| (a.start, a.end)).collect()
    }

    #[test]
    fn what_is_there_needs_no_hull() {
        let heir = ([area(0, 8)], [page(0, 8, 0)]);
        let two: [(&[Area], &[Extent]); 2] = [(&heir.0, &heir.1), (&heir.0, &heir.1)];
        assert_eq!(ranges(&[area(0, 8)], &[page(0, 8, 0)], &[], &two), []);
        // Nor do pages that nobody else has.
        assert_eq!(ranges(&[area(0, 4)], &[page(0, 4, 0)], &[], &two[..1]), []);
    }

    #[test]
    fn what_begins_below_is_one_area() {
        let heir = ([area(0, 8)], [page(0, 8, 0)]);
        assert_eq!(ranges(&[area(4, 6)], &[page(4, 2, 4)], &[], &[(&heir.0, &heir.1)]), [(0, 6)]);
    }

    #[test]
    fn what_was_split_or_given_back_is_had_again() {
        let heir = ([area(0, 8)], [page(0, 8, 0)]);
        let one: [(&[Area], &[Extent]); 1] = [(&heir.0, &heir.1)];
        let split = [area(0, 3), Area { protection: 1, ..area(3, 4) }, area(4, 8)];
        assert_eq!(ranges(&split, &[page(0, 8, 0)], &[], &one), [(0, 8)]);
        let two = [one[0], one[0]];
        // The end of a heap, the middle of an area, all of it: as far as there are pages.
        assert_eq!(ranges(&[area(0, 4)], &[page(0, 4, 0)], &[], &two), [(0, 8)]);
        assert_eq!(ranges(&[area(0, 2), area(6, 8)], &[page(0, 2, 0)], &[], &two), [(0, 8)]);
        let part = ([area(0, 8)], [page(2, 2, 0)]);
        assert_eq!(ranges(&[area(9, 10)], &[], &[], &[(&part.0, &part.1), (&part.0, &part.1)]), [(2, 4), (9, 10)]);
    }

    #[test]
    fn what_it_is_then_is_what_all_are() {
        let closed = |start, end| Area { protection: 0, ..area(start, end) };
        let file = |start, end, offset| Area { backing: Backing::File { file: 3, offset }, ..closed(start, end) };
        let hulls = |own: &[Area], heir: &Area| {
            let (heirs, kept) = ([heir.clone()], inherited(own, std::slice::from_ref(heir)));
            of(own, &[], &[], &[Heir { areas: &heirs, kept: &kept, base: &[] }]).unwrap_or_default()
        };
        assert_eq!(hulls(&[closed(8, 9)], &closed(0, 9)), [closed(0, 9)]);
        assert_eq!(hulls(&[area(8, 9)], &closed(0, 9)), [closed(0, 9)]);
        assert_eq!(hulls(&[file(8, 9, 108)], &file(4, 9, 104)), [file(4, 9, 104)]);
        let advised = Area { flags: vec!["hg".into()], ..closed(8, 9) };
        assert_eq!(hulls(&[advised], &closed(0, 9)), []);
    }

    #[test]
    fn what_stands_there_now_stays() {
        let heir = ([area(0, 8)], [page(0, 8, 0)]);
        let two: [(&[Area], &[Extent]); 2] = [(&heir.0, &heir.1), (&heir.0, &heir.1)];
        let other = Area { shared: true, ..area(5, 6) };
        assert_eq!(ranges(&[area(0, 4), other], &[page(0, 4, 0)], &[], &two), []);
        assert_eq!(ranges(&[area(0, 4)], &[page(0, 4, 0)], &[(7, 9)], &two), []);
    }
}
