//! Small worlds, of which a specimen has thousands (`specimen worlds`): those that are kept, and those that must be refused, each of
//! them and no other.

use crate::case::Flavour::{Again, Root, Snapshot, User};
use crate::case::{Case, Oracle, Step};
use crate::kit::{Kit, USER};
use crate::runner::Test;
use crate::scene::Scene;
use crate::{Outcome, faults, fine, process};
use std::collections::BTreeMap;
use std::fs::read_to_string;

/// What is spelled, and up to how many letters behind the start.
const FAMILIES: [(&str, &str); 4] = [("pipes", "3"), ("pairs", "3"), ("connections", "4"), ("messages", "3")];
/// Each in so many parts, none of which takes long.
const PARTS: [&str; 4] = ["0/4", "1/4", "2/4", "3/4"];

/// All that are kept. A check takes what waits in them, so it is made once.
#[must_use]
pub fn all() -> Vec<Case> {
    let case = |(family, length), part| {
        let after = vec![Step::Check, Step::Type("quit\n"), Step::Exit(0)];
        Case { after, ..Case::specimen(&["worlds", family, length, part]) }.only(&[Root, User, Snapshot])
    };
    let mut all: Vec<Case> = FAMILIES.into_iter().flat_map(|family| PARTS.map(|part| case(family, part))).collect();
    // Who has made a pair that is one no more differs (SO_PEERCRED).
    let again = |(family, _)| Case { oracle: Oracle::Moves, ..case((family, "2"), "0/1") }.only(&[Again]);
    all.extend(FAMILIES.map(again));
    all
}

/// All that are refused.
#[must_use]
pub fn refused() -> Vec<Test> {
    let test = |(family, length), part, (uid, flavour)| {
        Test::new(format!("worlds/{family} {length} {part} refused/{flavour}"), move |kit: &Kit| {
            faults::within(kit, uid, |scene| are_refused(scene, &[family, length, part, "refused"]))
        })
    };
    // Of pipes there are few.
    let parts = |(name, _)| if name == "pipes" { &["0/1"][..] } else { &PARTS };
    let of_all = |family| parts(family).iter().map(move |part| test(family, part, (0, "root")));
    let root = FAMILIES.into_iter().flat_map(of_all);
    root.chain(FAMILIES.map(|family| test(family, parts(family)[0], (USER, "user")))).collect()
}

/// A world by its word, its descriptors, and the reasons for which it must be refused.
type World<'a> = (&'a str, Vec<&'a str>, Vec<&'a str>);

fn world(line: &str) -> Option<World<'_>> {
    let (word, rest) = line.split_once('\t')?;
    let (fds, reasons) = rest.split_once('\t')?;
    Some((word, fds.split(' ').collect(), reasons.split('\t').collect()))
}

/// What a freeze says about descriptors: `  PID fd N (…)  REASON`.
fn reasons(said: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all = BTreeMap::<&str, Vec<&str>>::new();
    for line in said.lines() {
        let fd = line.split_once(" fd ").and_then(|(_, rest)| rest.split_once(' '));
        fd.into_iter().for_each(|(fd, why)| all.entry(fd).or_default().push(why));
    }
    all
}

fn are_refused(scene: &mut Scene, words: &[&str]) -> Outcome {
    let mut terminal = scene.specimen("worlds", words)?;
    let pid = terminal.program.pid();
    let said = scene.run(&["freeze", &pid.to_string(), "-o", "a.cryo"])?.ended_with("freeze", &[3])?;
    let told = fine("worlds", read_to_string(scene.path("worlds")))?;
    let worlds: Vec<World<'_>> = told.lines().filter_map(world).collect();
    if worlds.is_empty() {
        return Err("there is no world that is to be refused".into());
    }
    let mut seen = reasons(&said.text);
    for (word, fds, expected) in worlds {
        let of_it: Vec<&str> = fds.iter().filter_map(|fd| seen.remove(fd)).flatten().collect();
        let is_told = |reason: &&str| of_it.iter().any(|why| why.contains(*reason));
        let is_expected = |why: &&str| expected.iter().any(|reason| why.contains(*reason));
        if !expected.iter().all(is_told) || !of_it.iter().all(is_expected) {
            return Err(format!("world {word} is to be refused for {expected:?}, and is for {of_it:?}"));
        }
    }
    if let Some((fd, why)) = seen.first_key_value() {
        return Err(format!("descriptor {fd} is of no world, and refused for {why:?}"));
    }
    process::unharmed(pid)?;
    faults::answers(&mut terminal)
}
