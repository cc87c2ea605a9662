//! Sorting in place, in few instructions: the sorts of the standard library are faster, and each type that has one is 4 KiB of every
//! image.

use std::cmp::Ordering;

/// Sorts by a key; those with equal ones are in any order afterwards.
///
/// ```
/// let mut all = [(3, 'c'), (1, 'a'), (2, 'b'), (1, 'd')];
/// abi::sort_by_key(&mut all, |pair| std::cmp::Reverse(pair.0));
/// assert_eq!(all.map(|pair| pair.0), [3, 2, 1, 1]);
/// ```
pub fn sort_by_key<T, K: Ord>(all: &mut [T], key: impl Fn(&T) -> K) {
    // Most come in their order, for which a heap is the worst.
    if all.is_sorted_by_key(&key) {
        return;
    }
    // A heap, from which the greatest goes to the end, again and again.
    for root in (0..all.len() / 2).rev() {
        sink(all, root, &key);
    }
    for end in (1..all.len()).rev() {
        all.swap(0, end);
        sink(&mut all[..end], 0, &key);
    }
}

/// Sorts by the natural order.
///
/// ```
/// let mut all = vec![5, 1, 4, 1, 3];
/// abi::sort(&mut all);
/// assert_eq!(all, [1, 1, 3, 4, 5]);
/// ```
pub fn sort<T: Ord + Clone>(all: &mut [T]) {
    sort_by_key(all, T::clone);
}

/// Sorts by what `compare` says, asking it as seldom as may be; those that are equal stay in their order. Whatever it says, as when it could
/// not find out, this comes to an end: `sort_by` of the standard library panics where it contradicts itself.
///
/// ```
/// let mut all = [(3, 'c'), (1, 'a'), (2, 'b'), (1, 'd')];
/// abi::sort_by(&mut all, &mut |a, b| a.0.cmp(&b.0));
/// assert_eq!(all, [(1, 'a'), (1, 'd'), (2, 'b'), (3, 'c')]);
/// ```
pub fn sort_by<T: Copy>(all: &mut [T], compare: &mut impl FnMut(&T, &T) -> Ordering) {
    let (first, second) = all.split_at_mut(all.len() / 2);
    if first.is_empty() {
        return;
    }
    sort_by(first, compare);
    sort_by(second, compare);
    let (first, mut next, mut at) = (first.to_vec(), first.len(), 0);
    for one in first {
        while next < all.len() && compare(&all[next], &one).is_lt() {
            all[at] = all[next];
            (next, at) = (next + 1, at + 1);
        }
        all[at] = one;
        at += 1;
    }
}

/// Down to where nothing below it is greater.
fn sink<T, K: Ord>(heap: &mut [T], mut at: usize, key: &impl Fn(&T) -> K) {
    loop {
        let below = [2 * at + 1, 2 * at + 2].into_iter().filter(|child| *child < heap.len());
        let Some(greatest) = below.max_by_key(|child| key(&heap[*child])) else { return };
        if key(&heap[greatest]) <= key(&heap[at]) {
            return;
        }
        heap.swap(at, greatest);
        at = greatest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_keeps_it_from_its_end() {
        let mut state = 1u64;
        let mut say = |_: &u32, _: &u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            [Ordering::Less, Ordering::Equal, Ordering::Greater][(state >> 60) as usize % 3]
        };
        for len in 0..200 {
            let mut all: Vec<u32> = (0..len).collect();
            sort_by(&mut all, &mut say);
            sort(&mut all);
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn as_the_standard_library_does() {
        let mut state = 1u64;
        for len in 0..200 {
            let mut all: Vec<u64> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 60
            })
            .take(len)
            .collect();
            let mut expected = all.clone();
            expected.sort_unstable();
            sort(&mut all);
            assert_eq!(all, expected);
        }
    }
}
