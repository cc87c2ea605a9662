//! Any model survives its records; a plan that is made is ordered and checked; and nothing that an image can say makes
//! the planner panic: an image comes from anywhere.

use crate::common::{any, *};
use image::{Need, RawRecord, Tag};
use plan::{FilePolicy, Host, Options, Pids};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use resources::Model;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A host on which as much as possible goes well.
fn kind_host(name: &str, model: &Model) -> Host {
    let mut host = host(name, model);
    host.terminal = terminal();
    host.vdso.truncate(1);
    host.max_files = u64::MAX;
    host
}

fn options() -> impl Strategy<Value = Options> {
    let pids = select(vec![Pids::Auto, Pids::Same, Pids::New]);
    let files = select(vec![FilePolicy::Strict, FilePolicy::Warn, FilePolicy::Saved]);
    (pids, files).prop_map(|(pids, files)| Options { pids, files, ..Options::default() })
}

/// A plan or refusals, never nothing, and never a panic; a plan is in order and prints.
fn look_at(model: &Model, options: &Options) {
    for name in ["root", "user"] {
        match resources::plan(model, &kind_host(name, model), options) {
            Err(refusals) => assert!(!refusals.is_empty(), "a refusal has a reason"),
            Ok(plan) => {
                plan::check(&plan);
                assert_eq!(plan::order(plan.steps.clone()).as_ref(), Ok(&plan.steps), "it is in order");
                assert!(plan.to_string().lines().count() > plan.steps.len());
            }
        }
    }
}

fn look_at_records(records: &[RawRecord]) {
    if let Ok(model) = Model::from_records(records) {
        look_at(&model, &Options::default());
        model.ranges();
    }
}

/// What is done to a record.
#[derive(Clone, Debug)]
enum Harm {
    Byte(Index, u8),
    Number(Index, u64),
    Cut(Index),
    Id(u32),
    Tag(u16),
    Twice,
    Gone,
}

fn harm() -> impl Strategy<Value = Harm> {
    let edges = vec![0, 1, 4095, 4096, 1 << 22, 1 << 30, 1 << 31, u32::MAX.into(), 1 << 63, u64::MAX - 4095, u64::MAX];
    prop_oneof![
        3 => any::<(Index, u8)>().prop_map(|(at, to)| Harm::Byte(at, to)),
        6 => (any::<Index>(), select(edges)).prop_map(|(at, to)| Harm::Number(at, to)),
        1 => any::<Index>().prop_map(Harm::Cut),
        1 => prop_oneof![any::<u32>(), 0..50u32].prop_map(Harm::Id),
        1 => (0..0x310u16).prop_map(Harm::Tag),
        1 => Just(Harm::Twice),
        1 => Just(Harm::Gone),
    ]
}

fn do_harm(records: &mut Vec<RawRecord>, which: Index, harm: Harm) {
    if records.is_empty() {
        return;
    }
    let n = which.index(records.len());
    let body = &mut records[n].body;
    match harm {
        Harm::Byte(at, to) => *at.get_mut(&mut body[..]) = to,
        Harm::Number(at, to) => replace(body, at, to),
        Harm::Cut(at) => body.truncate(at.index(body.len())),
        Harm::Id(id) => records[n].id = id,
        Harm::Tag(tag) => records[n].tag = Tag(tag),
        Harm::Twice => records.push(records[n].clone()),
        Harm::Gone => drop(records.remove(n)),
    }
}

fn replace(body: &mut Vec<u8>, at: Index, to: u64) {
    let all = numbers(body);
    if !all.is_empty() {
        let (start, len) = *at.get(&all);
        let number = [&[0x1b][..], &to.to_be_bytes()].concat();
        body.splice(start..start + len, number);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_model_survives(model in any::model()) {
        survives(&model);
    }

    #[test]
    fn any_plan_is_in_order(model in any::model(), options in options()) {
        look_at(&model, &options);
    }

    #[test]
    fn damaged_records_are_damage_or_a_plan(
        model in any::model(),
        all in proptest::collection::vec((any::<Index>(), harm()), 1..4),
    ) {
        let mut records = records(&model);
        for (which, harm) in all {
            // What was cut to nothing cannot be harmed further.
            records.retain(|r| !r.body.is_empty());
            do_harm(&mut records, which, harm);
        }
        look_at_records(&records);
    }

    #[test]
    fn garbage_is_damage(records in proptest::collection::vec((0..0x310u16, 0..9u32, any::<Vec<u8>>()), 0..6)) {
        let record = |(tag, id, body)| RawRecord { tag: Tag(tag), id, need: Need::Must, body };
        look_at_records(&records.into_iter().map(record).collect::<Vec<_>>());
    }
}

/// Every number of every record of a real tree takes every extreme value, one at a time.
#[test]
fn every_number_at_its_edges() {
    let edges = [0, 1, 4095, 1 << 22, 1 << 30, 1 << 31, u32::MAX.into(), i64::MAX as u64, 1 << 63, u64::MAX];
    let records = records(&model("things"));
    for n in 0..records.len() {
        for (start, len) in numbers(&records[n].body) {
            for to in edges {
                let mut harmed = records.clone();
                let number = [&[0x1b][..], &u64::to_be_bytes(to)].concat();
                harmed[n].body.splice(start..start + len, number);
                look_at_records(&harmed);
            }
        }
    }
}
