//! Rules about single files and manifests. Each is a function from what is there to what is wrong with it.

use crate::source::{Source, find_all, find_words, words};
use crate::tidy::Finding;
use crate::workspace::Manifest;

/// Lines of the longest function, and of the one in the middle.
const LONGEST: usize = 80;
pub(crate) const MEDIAN: usize = 8;

/// Which crate may know which: arrows one way. What is not here is not allowed.
const ARROWS: [(&str, &[&str]); 10] = [
    ("abi", &["arrayvec", "minicbor", "serde"]),
    ("image", &["abi", "minicbor", "serde", "xxhash-rust"]),
    ("plan", &["abi", "image", "rustc-hash", "serde"]),
    ("resources", &["abi", "image", "plan", "minicbor", "serde", "xxhash-rust"]),
    ("tracee", &["abi", "libc", "linux-raw-sys"]),
    ("engine", &["abi", "image", "plan", "resources", "tracee", "minicbor", "rustix", "serde", "xxhash-rust"]),
    ("cli", &["abi", "image", "plan", "resources", "engine", "clap", "indicatif", "rustix", "serde", "serde_json"]),
    ("specimens", &["libc"]),
    ("conformance", &["rustix", "serde_json", "tokio", "vt100"]),
    ("xtask", &["resources", "clap", "clap_complete", "clap_mangen"]),
];

/// Crates that never print and never exit.
const LIBRARIES: [&str; 6] = ["abi", "image", "plan", "resources", "tracee", "engine"];
const LOUD: [&str; 7] = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "process::exit", "process::abort"];

/// The crate that talks to people. The macros that print panic where nobody can hear them: a disk that is full, a pipe that
/// is closed must not change what becomes of a program.
const TALKS: [&str; 1] = ["cli"];
const PANICS: [&str; 4] = ["print!", "println!", "eprint!", "eprintln!"];

/// Crates that make no system call, so that all of them can be tested anywhere.
const PURE: [&str; 4] = ["abi", "image", "plan", "resources"];
const IMPURE: [&str; 12] = [
    "libc::",
    "rustix::",
    "linux_raw_sys::",
    "nix::",
    "std::fs",
    "std::process",
    "std::net",
    "std::os",
    "std::env",
    "std::thread",
    "SystemTime",
    "asm!",
];
/// Where one is named all the same, and why.
const IMPURE_ALLOWED: [(&str, &str, &str); 3] = [
    ("crates/image/src/beside.rs", "std::thread", "pages are summed while they are written, beside who reads them"),
    ("crates/image/src/source.rs", "std::fs", "a file that the caller has opened is a source of bytes"),
    ("crates/image/src/source.rs", "std::os", "the same: bytes of it are read at an offset"),
];

/// Crates in which `unsafe` may stand.
const UNSAFE: [&str; 2] = ["tracee", "specimens"];

/// Dependencies that the table does not have.
pub(crate) fn arrows(manifests: &[Manifest]) -> Vec<Finding> {
    manifests.iter().flat_map(strange_arrows).collect()
}

fn strange_arrows(manifest: &Manifest) -> Vec<Finding> {
    let place = format!("{}/Cargo.toml", manifest.name);
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == manifest.name) else {
        return vec![Finding::of(&place, "this crate is not in the table of arrows (xtask/src/rules.rs)")];
    };
    let strange = manifest.dependencies.iter().filter(|d| !allowed.contains(&d.as_str()));
    strange.map(|d| Finding::of(&place, format!("{} may not depend on {d}", manifest.name))).collect()
}

/// The list of resources is one, and every resource is on it.
pub(crate) fn one_list(sources: &[Source]) -> Vec<Finding> {
    let mut lists = Vec::new();
    let mut kinds = Vec::new();
    for source in sources.iter().filter(|s| s.is_shipped()) {
        let code = source.shipped_code();
        lists.extend(find_words(&code, "resources! {").into_iter().map(|at| (source, source.line(at))));
        kinds.extend(find_words(&code, "impl Resource for").into_iter().map(|at| (source, at)));
    }
    let mut all = Vec::new();
    if lists.len() != 1 {
        all.push(Finding::of("resources", format!("there are {} lists of resources", lists.len())));
    }
    let Some((list, _)) = lists.first() else { return all };
    for (source, at) in kinds {
        let name = words(&source.code[at..]).nth(3).map_or("", |(_, name)| name);
        if !words(&list.code).any(|(_, word)| word == name) {
            all.push(Finding::at(&source.path, source.line(at), format!("{name} is not on the list of resources")));
        }
    }
    all
}

/// At most one condition on the machine.
pub(crate) fn one_machine(sources: &[Source]) -> Vec<Finding> {
    let places: Vec<(&Source, usize)> =
        sources.iter().flat_map(|s| find_words(&s.code, "target_arch").into_iter().map(move |at| (s, at))).collect();
    let second = places.into_iter().skip(1);
    second.map(|(s, at)| Finding::at(&s.path, s.line(at), "a second `cfg(target_arch)`")).collect()
}

/// Crates without `unsafe` say so at their root.
pub(crate) fn forbid_unsafe(sources: &[Source]) -> Vec<Finding> {
    let is_root = |s: &&Source| s.path.ends_with("/src/lib.rs") || s.path.ends_with("/src/main.rs");
    let bound = |s: &&Source| !UNSAFE.iter().any(|krate| s.is_of(krate));
    let silent = |s: &&Source| !s.code.contains("#![forbid(unsafe_code)]");
    let roots = sources.iter().filter(is_root).filter(bound).filter(silent);
    roots.map(|s| Finding::at(&s.path, 1, "`#![forbid(unsafe_code)]` is missing")).collect()
}

fn shipped_by<'a>(source: &Source, crates: &[&'a str]) -> Option<&'a str> {
    crates.iter().copied().find(|krate| source.is_shipped() && source.is_of(krate))
}

/// Libraries neither print nor exit.
pub(crate) fn silent(source: &Source) -> Vec<Finding> {
    shipped_by(source, &LIBRARIES).map_or_else(Vec::new, |_| uses(source, &LOUD, "a library"))
}

/// What is said is said in a way that may fail.
pub(crate) fn heard_or_not(source: &Source) -> Vec<Finding> {
    shipped_by(source, &TALKS)
        .map_or_else(Vec::new, |_| uses(source, &PANICS, "who must not panic when nobody listens"))
}

fn uses(source: &Source, words: &[&str], who: &str) -> Vec<Finding> {
    let code = source.shipped_code();
    let found = words.iter().flat_map(|word| find_words(&code, word).into_iter().map(move |at| (at, word)));
    found.map(|(at, word)| Finding::at(&source.path, source.line(at), format!("{who} uses {word}"))).collect()
}

/// Pure crates name nothing that makes a system call.
pub(crate) fn pure(source: &Source) -> Vec<Finding> {
    let Some(krate) = shipped_by(source, &PURE) else { return Vec::new() };
    let code = source.shipped_code();
    let found = IMPURE.iter().flat_map(|word| find_words(&code, word).into_iter().map(move |at| (at, *word)));
    let allowed = |word: &str| IMPURE_ALLOWED.iter().any(|(path, w, _)| *path == source.path && *w == word);
    let found = found.filter(|(_, word)| !allowed(word));
    found.map(|(at, word)| Finding::at(&source.path, source.line(at), format!("{krate} uses {word}"))).collect()
}

/// Nothing is left for later, and no test is passed over.
pub(crate) fn finished(source: &Source) -> Vec<Finding> {
    let notes = ["TODO", "FIXME", "XXX"]
        .into_iter()
        .flat_map(|w| find_words(&source.prose, w).into_iter().map(move |at| (at, w)));
    let holes = ["todo!", "unimplemented!"].into_iter();
    let holes = holes.flat_map(|w| find_words(&source.code, w).into_iter().map(move |at| (at, w)));
    let passed_over = ["#[ignore", "cfg_attr(ignore"].into_iter();
    let passed_over = passed_over.flat_map(|w| find_all(&source.code, w).into_iter().map(move |at| (at, w)));
    let all = notes.chain(holes).chain(passed_over);
    all.map(|(at, word)| Finding::at(&source.path, source.line(at), format!("{word} is left"))).collect()
}

/// No function is too long.
pub(crate) fn short(source: &Source) -> Vec<Finding> {
    let long = source.functions().into_iter().filter(|f| f.lines > LONGEST);
    let what = |lines, name| format!("{name} has {lines} lines, more than {LONGEST}");
    long.map(|f| Finding::at(&source.path, f.line, what(f.lines, f.name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lib(krate: &str, text: &str) -> Source {
        Source::new(format!("crates/{krate}/src/lib.rs"), text)
    }

    fn places(found: Vec<Finding>) -> Vec<String> {
        found.into_iter().map(|f| f.place).collect()
    }

    #[test]
    fn arrows_point_one_way() {
        let manifest = |name: &str, on: &[&str]| Manifest {
            name: name.into(),
            dependencies: on.iter().map(|d| (*d).into()).collect(),
        };
        assert_eq!(arrows(&[manifest("plan", &["abi", "image"])]), []);
        assert_eq!(arrows(&[manifest("plan", &["abi", "resources"])]).len(), 1);
        assert_eq!(arrows(&[manifest("image", &["resources"]), manifest("unknown", &[])]).len(), 2);
    }

    #[test]
    fn a_second_list_and_a_resource_on_none_are_found() {
        let list = "resources! { process { 0x1 a::b Known; } }";
        let known = "impl Resource for Known {}\n";
        assert_eq!(one_list(&[lib("resources", list), lib("resources", known)]), []);
        assert_eq!(one_list(&[lib("resources", list), lib("engine", list)]).len(), 1);
        assert_eq!(one_list(&[]).len(), 1);
        let stray = one_list(&[lib("resources", list), lib("resources", "\nimpl Resource for Stray {}")]);
        assert_eq!(places(stray), ["crates/resources/src/lib.rs:2"]);
    }

    #[test]
    fn a_second_machine_is_found() {
        let once = "#[cfg(target_arch = \"x86_64\")] mod a;";
        assert_eq!(one_machine(&[lib("tracee", once)]), []);
        assert_eq!(one_machine(&[lib("tracee", once), lib("abi", once)]).len(), 1);
    }

    #[test]
    fn unsafe_is_forbidden_where_it_must_be() {
        assert_eq!(forbid_unsafe(&[lib("plan", "#![forbid(unsafe_code)]"), lib("tracee", "")]), []);
        assert_eq!(forbid_unsafe(&[lib("plan", "// #![forbid(unsafe_code)]")]).len(), 1);
    }

    #[test]
    fn libraries_are_silent() {
        let loud = "fn f() {\n    println!(\"x\");\n    std::process::exit(1)\n}";
        assert_eq!(places(silent(&lib("plan", loud))), ["crates/plan/src/lib.rs:2", "crates/plan/src/lib.rs:3"]);
        assert_eq!(silent(&lib("cli", loud)), []);
        assert_eq!(silent(&lib("plan", "// println!\n#[cfg(test)]\nmod tests { fn f() { println!() } }")), []);
        assert_eq!(silent(&Source::new("crates/plan/tests/a.rs", loud)), []);
    }

    #[test]
    fn what_panics_when_nobody_listens_is_found() {
        let loud = "fn f() {\n    eprintln!(\"x\");\n    let _ = writeln!(out);\n}";
        assert_eq!(places(heard_or_not(&lib("cli", loud))), ["crates/cli/src/lib.rs:2"]);
        assert_eq!(heard_or_not(&lib("specimens", loud)), []);
    }

    #[test]
    fn pure_crates_make_no_call() {
        assert_eq!(pure(&lib("resources", "use std::fs;\nfn f() { libc::getpid(); }")).len(), 2);
        assert_eq!(pure(&lib("resources", "//! std::fs\nuse std::fmt;")), []);
        assert_eq!(pure(&lib("engine", "use std::fs;")), []);
        assert_eq!(pure(&Source::new("crates/image/src/source.rs", "use std::fs::File;")), []);
        assert_eq!(pure(&Source::new("crates/image/src/other.rs", "use std::fs::File;")).len(), 1);
    }

    #[test]
    fn what_is_left_for_later_is_found() {
        assert_eq!(finished(&lib("plan", "// TODO: x\nfn f() { todo!() }\n#[ignore = \"slow\"]\nfn g() {}")).len(), 3);
        assert_eq!(finished(&lib("plan", "// FIXME\nfn f() { unimplemented!() }")).len(), 2);
        assert_eq!(finished(&lib("plan", "const A: &str = \"TODO todo!() #[ignore]\"; fn ignore_it() {}")), []);
    }

    #[test]
    fn long_functions_are_found() {
        let of = |lines: usize| format!("fn f() {{\n{}}}\n", "x();\n".repeat(lines - 2));
        assert_eq!(short(&lib("plan", &of(80))), []);
        assert_eq!(short(&lib("plan", &of(81))).len(), 1);
    }
}
