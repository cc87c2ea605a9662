//! Orders and checks of any steps, and the words in which they are printed.

use abi::Sys;
use abi::x86_64::DispatchConfiguration;
use image::Extent;
use plan::{
    Actor, Birth, Descr, Expect, Fact, FileFacts, Host, HostEffect, Moment, Namespaces, Op, Options, Pid, Plan,
    Planner, Refusal, Step, Stuck, Tid, Typing, Value, check, order,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const MOMENTS: [Moment; 6] = [Moment::Make, Moment::Birth, Moment::Place, Moment::Link, Moment::Fill, Moment::Arm];

fn step(moment: Moment, op: Op, needs: Vec<Fact>, makes: Vec<Fact>) -> Step {
    Step { moment, by: "test", actor: Actor::Store, op, needs, makes }
}

fn make(n: u32) -> Op {
    Op::Make { sys: Sys::Openat, args: vec![], descrs: vec![Descr(n)] }
}

fn commit() -> Step {
    step(Moment::Commit, Op::Commit, vec![], vec![])
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { namespaces: Namespaces::Same, clocks: None, base: 20, reserve: 10, staging: (0, 0), steps, notes: vec![] }
}

/// Steps each of which makes one fact, and needs some of those of the steps before it.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    (1..30usize).prop_flat_map(|count| {
        let step_n = |n: usize| {
            let before: Vec<Fact> = (0..n as u32).map(|d| Fact::Made(Descr(d))).collect();
            let needs = subsequence(before, 0..=n.min(4));
            (select(MOMENTS.to_vec()), needs)
                .prop_map(move |(m, needs)| step(m, make(n as u32), needs, vec![Fact::Made(Descr(n as u32))]))
        };
        (0..count).map(step_n).collect::<Vec<_>>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_can_be_ordered_is_ordered(steps in steps().prop_shuffle()) {
        let mut ordered = order(steps.clone()).expect("nobody waits for a later one");
        prop_assert_eq!(ordered.len(), steps.len());
        prop_assert_eq!(order(ordered.clone()), Ok(ordered.clone()), "an order is in order");
        ordered.push(commit());
        check(&plan(ordered));
    }

    #[test]
    fn without_needs_moments_decide_and_then_the_order_of_asking(moments in proptest::collection::vec(select(MOMENTS.to_vec()), 0..40)) {
        let steps: Vec<Step> = (0..).zip(&moments).map(|(n, m)| step(*m, make(n), vec![], vec![])).collect();
        let mut sorted = steps.clone();
        sorted.sort_by_key(|s| s.moment);
        prop_assert_eq!(order(steps), Ok(sorted));
    }

    #[test]
    fn a_cycle_anywhere_is_found(steps in steps(), at in any::<proptest::sample::Index>()) {
        let n = at.index(steps.len());
        let (first, last) = (Fact::Born(Tid(1)), Fact::Born(Tid(2)));
        let mut steps = steps;
        steps[n].needs.push(last.clone());
        steps[n].makes.push(first.clone());
        steps.push(step(Moment::Arm, Op::Empty, vec![first], vec![last]));
        prop_assert!(matches!(order(steps), Err(Stuck::Cycle(members)) if members.len() >= 2));
    }
}

/// The panic of a check that must fail.
fn broken(steps: Vec<Step>) -> String {
    let panic = std::panic::catch_unwind(|| check(&plan(steps))).expect_err("the check must fail");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().expect("text")).into())
}

#[test]
fn a_check_tells_the_step_that_breaks_a_rule() {
    let once = || step(Moment::Make, make(1), vec![], vec![]);
    let unmade = step(Moment::Link, Op::Empty, vec![Fact::Made(Descr(9))], vec![]);
    let born = || step(Moment::Birth, Op::Clone { tid: Tid(5), birth: Birth::Root }, vec![], vec![]);
    let place = |tid| {
        let args = vec![Value::Descr(Descr(1)), 7.into(), 0.into()];
        let op = Op::Call { sys: Sys::Dup3, args, expect: Expect::Exactly(7) };
        Step { actor: Actor::Thread(Tid(tid)), ..step(Moment::Place, op, vec![], vec![]) }
    };
    assert!(broken(vec![place(5), place(5), commit()]).starts_with("the number has a description already: place"));
    check(&plan(vec![place(5), place(6), commit()]));
    assert!(broken(vec![once(), once(), commit()]).starts_with("made twice: make"));
    assert!(broken(vec![born(), born(), commit()]).starts_with("made twice: birth"));
    assert!(broken(vec![unmade, commit()]).starts_with("Made(Descr(9)) does not hold before: link"));
    assert!(broken(vec![once()]).contains("a plan commits once"));
    assert!(broken(vec![commit(), commit()]).contains("a plan commits once"));
    assert!(broken(vec![commit(), once()]).contains("nothing comes after the commit"));
    check(&plan(vec![once(), commit()]));
}

#[test]
fn contents_are_the_same_by_time_or_by_build() {
    let seen = FileFacts {
        mode: 0o100644,
        size: 10,
        mtime: (5, 6),
        build_id: Some(vec![1]),
        names: 1,
        access: 7,
        appends_only: false,
        is_own: false,
        inode: None,
    };
    let with = |size, mtime, build_id: Option<Vec<u8>>| FileFacts { size, mtime, build_id, ..seen.clone() };
    assert!(with(10, (5, 6), None).same_contents(&seen));
    assert!(with(10, (9, 9), Some(vec![1])).same_contents(&seen));
    assert!(!with(10, (9, 9), Some(vec![2])).same_contents(&seen));
    assert!(!with(11, (5, 6), Some(vec![1])).same_contents(&seen));
    let nameless = with(10, (9, 9), None);
    assert!(!nameless.same_contents(&with(10, (5, 6), None)), "no build is not the same build");
}

#[test]
fn who_may_choose_ids() {
    let host = |capability: u64| Host { capability_sets: [0, 0, capability, 0, 0], ..Host::default() };
    assert!(host(1 << 21).may_choose_ids() && host(1 << 40).may_choose_ids());
    assert!(!host(!(1 << 21 | 1 << 40)).may_choose_ids());
    assert!(!Host { foreign_pid_namespace: true, ..host(u64::MAX) }.may_choose_ids());
}

#[test]
fn a_planner_gives_steps_or_every_refusal() {
    let (host, options) = (Host::default(), Options::default());
    let mut planner = Planner::new(&host, &options, 7);
    let scratch = planner.scratch();
    assert_eq!((scratch, planner.descriptions()), (Descr(7), 8));
    planner.make("a", scratch, Sys::Openat, vec![]);
    planner.arm("b", Tid(3), Sys::Umask, vec![18.into()], Expect::Success);
    planner.note("something is less than it was");
    planner.refuse(Refusal::new("x", "one", ""));
    planner.refuse(Refusal::new("y", "two", "do that"));
    assert!(planner.refused("x") && !planner.refused("one"));
    let refusals = planner.finish().expect_err("there are refusals");
    let lines: Vec<String> = refusals.into_iter().map(|r| r.of(12).of(13).to_string()).collect();
    assert_eq!(lines, ["12 x: one", "12 y: two; do that"]);
}

#[test]
fn steps_in_words() {
    let call = |args, expect| Op::Call { sys: Sys::Prctl, args, expect };
    let huge = Extent { at: 0, len: u64::MAX, offset: 0 };
    let replace = HostEffect::ReplaceFile {
        path: b"/a\xff".to_vec(),
        mode: 0,
        owner: None,
        size: 3,
        mtime: (0, 0),
        contents: vec![],
    };
    let terminal = |typing| HostEffect::Terminal { of: Pid(1), settings: Some(vec![]), typing };
    let typing = Typing { keys: b"ls\n".to_vec(), told: "ls".into() };
    let cases = [
        (call(vec![(-100i64 as u64).into(), 4095.into(), 4096.into()], Expect::Success), "prctl(-100, 4095, 0x1000)"),
        (call(vec![Value::Bytes(b"a\"b\0".to_vec())], Expect::Exactly(4096)), "prctl(\"a\\\"b\") = 0x1000"),
        (call(vec![Value::Bytes(vec![1, 0]), Value::Out(4)], Expect::Whatever), "prctl([2 bytes], &out) (or not)"),
        (call(vec![Value::Descr(Descr(3))], Expect::Exactly(7)), "prctl(d3) = 7"),
        (call(vec![], Expect::OrTold("it is lost")), "prctl() (or it is told)"),
        (Op::Clone { tid: Tid(9), birth: Birth::Thread { of: Pid(8) } }, "clone t9, a thread of p8"),
        (Op::Pages { extents: vec![huge, huge] }, "read 18014398509481983 KiB in 2 runs into place"),
        (Op::Feed { descr: Descr(1), packets: vec![vec![0; 3], vec![0]] }, "write 4 bytes in 2 packets into d1"),
        (Op::Host(replace), "put 3 saved bytes back into /a\\xff"),
        (Op::Host(terminal(None)), "hand the terminal over, with its settings"),
        (Op::Host(terminal(Some(typing))), "hand the terminal over, with its settings, and type 3 keys"),
        (Op::Signal { signal: 19 }, "send itself signal 19"),
        (Op::Calls(vec![abi::Call::new(Sys::IoSetup, []); 2]), "io_setup, the first of 2 calls"),
        (
            Op::Dispatch { config: DispatchConfiguration { mode: 1, selector: 0x77, offset: 0x1000, len: 16 } },
            "dispatch its system calls to itself, but for 0x1000-0x1010, by 0x77",
        ),
        (Op::Stop { signal: 20 }, "stop, by signal 20"),
    ];
    for (op, words) in cases {
        assert_eq!(op.to_string(), words);
    }
}

#[test]
fn a_plan_in_words() {
    let mut all = plan(vec![step(Moment::Make, make(1), vec![], vec![]), commit()]);
    all.namespaces = Namespaces::UserPid { uid: 5, gid: 6 };
    all.notes = vec!["less than it was".into()];
    let lines = [
        "in a new user namespace (uid 5, gid 6) and pid namespace with its own /proc",
        "   1  make    test      store    d1 = openat()",
        "   2  commit  test      store    == commit: all of them run ==",
        "note: less than it was",
    ];
    assert_eq!(all.to_string().lines().collect::<Vec<_>>(), lines);
}
