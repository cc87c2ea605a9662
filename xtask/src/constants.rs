//! Constants of the kernel stand in one place, `abi::consts`: all of them are used, and nobody writes them a second time.

use crate::source::{Source, find_all, words};
use crate::tidy::Finding;
use std::collections::BTreeSet;

const PLACE: &str = "crates/abi/src/consts.rs";

/// Programs that are not part of what is shipped, and know nothing of it: they have constants of their own, of libc's types.
const APART: [&str; 2] = ["specimens", "conformance"];

/// Every constant that is defined in a text, and where.
fn defined(code: &str) -> Vec<(usize, &str)> {
    let all: Vec<(usize, &str)> = words(code).collect();
    let pairs = all.windows(2).filter(|pair| pair[0].1 == "const" && pair[1].1 != "fn");
    pairs.map(|pair| pair[1]).collect()
}

/// What a file has of the place, by paths that lead there.
fn used(code: &str) -> impl Iterator<Item = &str> {
    let path = |at: usize| code[at..].split(';').next().unwrap_or_default();
    find_all(code, "consts::").into_iter().flat_map(move |at| words(path(at)).map(|(_, word)| word))
}

/// Constants that nobody uses, and those that stand in a second place.
pub(crate) fn one_place(sources: &[Source]) -> Vec<Finding> {
    let Some(place) = sources.iter().find(|s| s.path == PLACE) else { return Vec::new() };
    let all = defined(&place.code);
    let names: BTreeSet<&str> = all.iter().map(|(_, name)| *name).collect();
    let others: Vec<&Source> = sources.iter().filter(|s| s.path != PLACE).collect();
    let used: BTreeSet<&str> = others.iter().flat_map(|s| used(&s.code)).collect();
    let within = |name: &str| words(&place.code).filter(|(_, word)| *word == name).count() > 1;
    let unused = all.iter().filter(|(_, name)| !used.contains(name) && !within(name));
    let unused = unused.map(|(at, name)| Finding::at(PLACE, place.line(*at), format!("nobody uses {name}")));
    unused.chain(others.iter().flat_map(|s| again(s, &names))).collect()
}

/// Those that a file defines once more.
fn again(source: &Source, names: &BTreeSet<&str>) -> Vec<Finding> {
    if !source.is_shipped() || APART.iter().any(|krate| source.is_of(krate)) {
        return Vec::new();
    }
    let code = source.shipped_code();
    let again = defined(&code).into_iter().filter(|(_, name)| names.contains(name));
    let what = |name| format!("{name} stands in abi::consts already");
    again.map(|(at, name)| Finding::at(&source.path, source.line(at), what(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(place: &str, other: (&str, &str)) -> Vec<String> {
        let sources = [Source::new(PLACE, place), Source::new(other.0, other.1)];
        one_place(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_nobody_uses_is_found() {
        let place = "pub mod a {\n    pub const A: u64 = 1;\n    pub const B: u64 = 2;\n    const fn f() {}\n}";
        let lib = "crates/plan/src/lib.rs";
        let nobody = |line: u32, name: &str| format!("{PLACE}:{line}: nobody uses {name}");
        assert_eq!(found(place, (lib, "use abi::consts::a::{A, B};")), [""; 0]);
        assert_eq!(found(place, (lib, "fn f() { abi::consts::a::B; libc::A }")), [nobody(2, "A")]);
        assert_eq!(found(place, (lib, "// consts::a::A\nuse libc::{A, B};")), [nobody(2, "A"), nobody(3, "B")]);
        assert_eq!(found("pub const A: u64 = 1; pub const B: u64 = A;", (lib, "use consts::B;")), [""; 0]);
    }

    #[test]
    fn what_stands_twice_is_found() {
        let place = "pub const A: u64 = 1;";
        let other = "use abi::consts::A as X;\nfn f() {\n    const A: u32 = 1;\n}";
        let twice = "crates/plan/src/lib.rs:3: A stands in abi::consts already";
        assert_eq!(found(place, ("crates/plan/src/lib.rs", other)), [twice]);
        assert_eq!(found(place, ("crates/plan/tests/a.rs", other)), [""; 0]);
        assert_eq!(found(place, ("crates/specimens/src/a.rs", other)), [""; 0]);
    }
}
