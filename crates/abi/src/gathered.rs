//! Collections, without what nobody needs.

/// Collects into a B-tree by inserting one after the other. `collect` sorts first, and the sort of each type is 4 KiB of every
/// image.
///
/// ```
/// let all: std::collections::BTreeMap<_, _> = abi::gathered([(2, 'b'), (1, 'a'), (2, 'c')]);
/// assert_eq!(all.into_iter().collect::<Vec<_>>(), [(1, 'a'), (2, 'c')]);
/// ```
pub fn gathered<C: Default + Extend<T>, T>(from: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(from);
    all
}
