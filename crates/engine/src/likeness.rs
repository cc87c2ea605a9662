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

/// Things among which others are looked for.
pub(crate) struct Sought<T> {
    all: Vec<T>,
    /// In the order of the kernel.
    is_sorted: bool,
}

impl<T: Copy> Sought<T> {
    /// So many others will be looked for: for a few it is more work to bring all into an order than to go through them.
    pub(crate) fn among(
        mut all: Vec<T>,
        others: usize,
        compare: impl FnMut(&T, &T) -> Result<Ordering, Fault>,
    ) -> Result<Sought<T>, Fault> {
        let is_sorted = others > (all.len() + 1).ilog2() as usize;
        let mut judge = Judge::new(compare);
        if is_sorted {
            abi::sort_by(&mut all, &mut |a: &T, b: &T| judge.order(a, b));
        }
        judge.done(Sought { all, is_sorted })
    }

    /// What is the same as that, if there is such a thing.
    pub(crate) fn find(
        &self,
        other: T,
        compare: impl FnMut(&T, &T) -> Result<Ordering, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut judge = Judge::new(compare);
        let at = match self.is_sorted {
            true => self.all.binary_search_by(|own| judge.order(own, &other)).ok(),
            false => self.all.iter().position(|own| judge.order(own, &other).is_eq()),
        };
        judge.done(at.map(|at| self.all[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Errno;

    #[test]
    fn what_is_the_same_is_found_with_the_first_of_it() {
        let tens = |a: &u32, b: &u32| Ok((a / 10).cmp(&(b / 10)));
        assert_eq!(pairs(vec![31, 12, 30, 15, 5, 11], tens), Ok(vec![(15, 12), (11, 12), (30, 31)]));
        for others in [1, 9] {
            let all = Sought::among(vec![31, 12, 30, 15], others, tens).unwrap();
            assert!(matches!(all.find(39, tens), Ok(Some(30 | 31))));
            assert_eq!(all.find(20, tens), Ok(None));
        }
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
