//! What is the same, by comparisons of the kernel (kcmp(2)), which may fail. It gives what it compares a total order: so a sort brings
//! together what is the same, and not all pairs are compared.

use abi::Fault;
use std::cmp::Ordering;

/// A comparison that cannot fail, out of one that can; the first fault is kept.
struct Judge<C> {
    compare: C,
    fault: Option<Fault>,
}

impl<C> Judge<C> {
    fn new(compare: C) -> Judge<C> {
        Judge { compare, fault: None }
    }

    fn order<T>(&mut self, a: &T, b: &T) -> Ordering
    where
        C: FnMut(&T, &T) -> Result<Ordering, Fault>,
    {
        (self.compare)(a, b).unwrap_or_else(|fault| {
            self.fault.get_or_insert(fault);
            Ordering::Equal
        })
    }

    fn done<R>(self, result: R) -> Result<R, Fault> {
        self.fault.map_or(Ok(result), Err)
    }
}

/// Brings all into their order; what is the same stays in the order in which it stood.
pub(crate) fn sort<T: Copy>(
    all: &mut [T],
    compare: impl FnMut(&T, &T) -> Result<Ordering, Fault>,
) -> Result<(), Fault> {
    let mut judge = Judge::new(compare);
    abi::sort_by(all, &mut |a: &T, b: &T| judge.order(a, b));
    judge.done(())
}

/// Those that are the same as one before them, each with the first of these.
pub(crate) fn pairs<T: Copy>(
    mut all: Vec<T>,
    compare: impl FnMut(&T, &T) -> Result<Ordering, Fault>,
) -> Result<Vec<(T, T)>, Fault> {
    let mut judge = Judge::new(compare);
    abi::sort_by(&mut all, &mut |a: &T, b: &T| judge.order(a, b));
    let same = all.chunk_by(|a, b| judge.order(a, b).is_eq());
    let pairs = same.flat_map(|same| same[1..].iter().map(|of| (*of, same[0]))).collect();
    judge.done(pairs)
}

/// Where that stands in its order which is the same as `other`, among those that were brought into it; or would.
pub(crate) fn find<T: Copy>(
    sorted: &[T],
    other: T,
    compare: impl FnMut(&T, &T) -> Result<Ordering, Fault>,
) -> Result<Result<usize, usize>, Fault> {
    let mut judge = Judge::new(compare);
    let found = sorted.binary_search_by(|own| judge.order(own, &other));
    judge.done(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Errno;

    #[test]
    fn what_is_the_same_is_found_with_the_first_of_it() {
        let tens = |a: &u32, b: &u32| Ok((a / 10).cmp(&(b / 10)));
        assert_eq!(pairs(vec![31, 12, 30, 15, 5, 11], tens), Ok(vec![(15, 12), (11, 12), (30, 31)]));
        let mut all = [31, 12, 30, 15];
        assert_eq!(sort(&mut all, tens), Ok(()));
        assert_eq!(all, [12, 15, 31, 30]);
        assert!(matches!(find(&all, 39, tens), Ok(Ok(2 | 3))));
        assert_eq!(find(&all, 20, tens), Ok(Err(2)));
    }

    #[test]
    fn the_first_fault_counts() {
        let mut n = 0;
        let fails = |_: &u32, _: &u32| {
            n += 1;
            Err(Fault::new("kcmp", n, Errno::EPERM))
        };
        assert_eq!(pairs(vec![3, 2, 1], fails), Err(Fault::new("kcmp", 1, Errno::EPERM)));
    }
}
