//! Timers behind descriptors: what a real kernel told of them, and how they are set again.

use crate::common::*;
use abi::layout::{Itimerspec, Timespec};
use abi::{Errno, Sys};
use plan::{Clocks, Host, Op, Options, Plan, TimePolicy, Value};
use resources::fd::timerfd::Timerfd;
use resources::ns::time::Time;
use resources::{Capturing, Description, Files, Keep, Model, ProcessState};

const LINK: &str = "anon_inode:[timerfd]";
const SECOND: u64 = 1_000_000_000;

/// The fdinfo of Linux 6.18 with these values.
fn info(clock: i32, ticks: u64, mode: &str, left: (u64, u64), period: (u64, u64)) -> String {
    format!(
        "pos:\t0\nflags:\t04002\nmnt_id:\t17\nino:\t1038\nclockid: {clock}\nticks: {ticks}\nsettime flags: 0{mode}\n\
         it_value: ({}, {})\nit_interval: ({}, {})\n",
        left.0, left.1, period.0, period.1
    )
}

/// The record of a timer of which fdinfo told this before and after it was asked for its rest, and what was noted; every
/// clock says 1000 s.
fn seen(before: &str, rest: u64, after: &str) -> (Timerfd, Vec<String>) {
    let mut sample = Recorded::sample("bash");
    let value = Itimerspec { value: Timespec::from_nanos(rest), ..Itimerspec::default() };
    sample.answer(Sys::TimerfdGettime, &[40], Ok(0), vec![value.to_bytes().to_vec()]);
    sample.answer(Sys::ClockGettime, &[], Ok(0), vec![Timespec::from_nanos(1000 * SECOND).to_bytes().to_vec()]);
    sample.open(40, LINK, 0o600, 0, before);
    let seen = sample.seen(40);
    sample.open(40, LINK, 0o600, 0, after);
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    match Description::capture(&seen, &mut from) {
        Ok(Description::Timerfd(timer)) => (timer, notes.into_iter().map(|n| n.why).collect()),
        other => panic!("no timer: {other:?}"),
    }
}

fn still(info: &str, rest: u64) -> Timerfd {
    seen(info, rest, info).0
}

#[test]
fn one_that_is_armed() {
    let expected = Timerfd { clock: 1, flags: 0o4002, mode: 0, expires: 1499 * SECOND + 7, period: 0, ticks: 0 };
    assert_eq!(still(&info(1, 0, "0", (499, 7), (0, 0)), 499 * SECOND + 7), expected);
    let periodic = still(&info(7, 3, "1", (0, 5), (70, 9)), 5);
    assert_eq!((periodic.clock, periodic.mode, periodic.period, periodic.ticks), (7, 1, 70 * SECOND + 9, 3));
}

#[test]
fn the_clock_that_decides() {
    let asked = |clock: i32, mode: &str| {
        let mut sample = Recorded::sample("bash");
        sample.answer(Sys::TimerfdGettime, &[40], Ok(0), vec![vec![0; 32]]);
        let time = |sec| vec![Timespec::from_nanos(sec * SECOND).to_bytes().to_vec()];
        [0, 1, 7].iter().for_each(|c| sample.answer(Sys::ClockGettime, &[*c], Ok(0), time(10 + *c)));
        // The clock of an alarm can be asked only on a machine that has one (kernel/time/alarmtimer.c).
        [8, 9].iter().for_each(|c| sample.answer(Sys::ClockGettime, &[*c], Err(Errno::EINVAL), vec![]));
        sample.open(40, LINK, 0o600, 0, &info(clock, 0, mode, (5, 0), (0, 0)));
        match describe(&sample, 40) {
            Ok(Description::Timerfd(timer)) => timer.expires / SECOND - 10,
            other => panic!("no timer: {other:?}"),
        }
    };
    let of = |mode: &str| [0, 1, 7, 8, 9].map(|clock| asked(clock, mode));
    assert_eq!((of("0"), of("1"), of("3")), ([1, 1, 7, 7, 7], [0, 1, 7, 0, 7], [0, 1, 7, 0, 7]));
}

#[test]
fn those_that_stand_still() {
    let never = still(&info(1, 0, "0", (0, 0), (0, 0)), 0);
    assert_eq!((never.expires, never.period, never.ticks), (0, 0, 0));
    let stopped = still(&info(0, 0, "1", (0, 0), (5, 0)), 0);
    assert_eq!((stopped.expires, stopped.period, stopped.mode), (0, 5 * SECOND, 1));
    let over = still(&info(1, 1, "0", (0, 0), (0, 0)), 0);
    assert_eq!((over.expires, over.ticks), (0, 1));
}

#[test]
fn what_expires_while_it_is_looked_at() {
    let once = |ticks, left| info(1, ticks, "0", (0, left), (0, 0));
    let every = |ticks, left| info(1, ticks, "0", (0, left), (0, 100));
    let now = 1000 * SECOND;
    let look = |before: &str, rest, after: &str| {
        let timer = seen(before, rest, after).0;
        (timer.expires, timer.ticks)
    };
    assert_eq!(look(&once(0, 9), 4, &once(1, 0)), (0, 1), "it is over");
    assert_eq!(look(&once(0, 9), 0, &once(0, 0)), (now, 0), "it is due, and the kernel has not come to it");
    assert_eq!(look(&every(0, 9), 4, &every(1, 0)), (now + 104, 1), "it was counted, and comes again");
    assert_eq!(look(&every(1, 0), 30, &every(50, 25)), (now + 30, 50), "those that nobody had read");
    assert_eq!(look(&every(1, 0), 0, &every(50, 0)), (now + 100, 50), "a period that is over at once");
}

#[test]
fn one_that_is_told_of_a_new_time_of_day() {
    let timer = |clock, mode| seen(&info(clock, 0, mode, (9, 0), (0, 0)), 1, &info(clock, 0, mode, (9, 0), (0, 0))).1;
    let note = "it tells the program when the time of day is set, but not that the program was frozen";
    assert_eq!((timer(0, "3"), timer(8, "3")), (vec![note.to_owned()], vec![note.to_owned()]));
    // Elsewhere the kernel does not look for it.
    assert!(timer(0, "2").is_empty() && timer(1, "3").is_empty() && timer(0, "1").is_empty());
}

#[test]
fn refused() {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o600, 0, &info(1, 0, "0", (9, 0), (0, 0)));
    sample.sharers = vec![4711];
    let line = format!("fd 40 ({LINK}): process 4711, outside of the tree, has it too");
    assert_eq!(reasons(&crate::common::refused(describe(&sample, 40))), [line]);
    sample.sharers.clear();
    sample.open(40, LINK, 0o600, 0, "pos:\t0\nflags:\t02\nmnt_id:\t17\n");
    let line = format!("fd 40 ({LINK}): this kernel does not tell how it is set");
    assert_eq!(reasons(&crate::common::refused(describe(&sample, 40))), [line]);
}

/// A tree with this timer, whose clocks were recorded at 1000 s (CLOCK_MONOTONIC) and 2000 s (CLOCK_BOOTTIME).
fn tree(timer: Timerfd) -> (Model, Host) {
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::Timerfd(timer));
    let states = &mut model.processes[0].states;
    states.retain(|s| !matches!(s, ProcessState::Time(_)));
    states.push(ProcessState::Time(Time { monotonic: 1000 * SECOND, boottime: 2000 * SECOND }));
    let host = host("root", &model);
    (model, host)
}

fn now(clock: i32) -> u64 {
    if clock == 7 { 2000 * SECOND } else { 1000 * SECOND }
}

const TIMER: Timerfd = Timerfd { clock: 1, flags: 0o4002, mode: 0, expires: 0, period: 0, ticks: 0 };

/// How the timer is set here: mode, value and period, and then the ticks.
fn set(timer: &Timerfd, host: impl Fn(&mut Host)) -> (u64, u64, u64, Option<u64>) {
    let (model, mut here) = tree(timer.clone());
    host(&mut here);
    let plan = planned(&model, &here);
    let calls = plan.steps.iter().filter(|s| s.by == "timerfd").filter_map(|s| match &s.op {
        Op::Call { sys, args, .. } => Some((*sys, args.clone())),
        _ => None,
    });
    let calls: Vec<_> = calls.collect();
    let Value::Int(mode) = &calls[0].1[1] else { panic!("{calls:?}") };
    let value = match &calls[0].1[2] {
        Value::Bytes(value) => Itimerspec::from_bytes(value).expect("a whole one"),
        // As if it was set at once.
        Value::Until(until) => Itimerspec {
            interval: Timespec::from_nanos(until.period),
            value: Timespec::from_nanos(until.moment.saturating_sub(now(until.clock)).max(until.least)),
        },
        _ => panic!("{calls:?}"),
    };
    let ticks = calls.get(1).map(|(sys, args)| match (&args[1], &args[2]) {
        (Value::Int(0x4008_5400), Value::Bytes(n)) if *sys == Sys::Ioctl => {
            u64::from_ne_bytes(n[..].try_into().expect("eight bytes"))
        }
        _ => panic!("{calls:?}"),
    });
    (*mode, value.value.to_nanos().unwrap(), value.interval.to_nanos().unwrap(), ticks)
}

fn here(_: &mut Host) {}

#[test]
fn a_rest() {
    let timer = |clock, expires| Timerfd { clock, expires: expires * SECOND, ..TIMER };
    assert_eq!(set(&timer(1, 1005), here), (0, 5 * SECOND, 0, None));
    assert_eq!(set(&timer(0, 1005), here), (0, 5 * SECOND, 0, None));
    assert_eq!(set(&timer(7, 2005), here), (0, 5 * SECOND, 0, None));
    // It was over when the clocks were recorded: memory was read in between.
    assert_eq!(set(&timer(1, 998), here), (0, 1, 0, None));
    let every = Timerfd { period: 3 * SECOND, ticks: 2, ..timer(1, 992) };
    assert_eq!(set(&every, here), (0, SECOND, 3 * SECOND, Some(5)));
    // None may come before the count is set.
    let soon = Timerfd { period: 3 * SECOND, expires: 1000 * SECOND + 1, ticks: 2, ..TIMER };
    assert_eq!(set(&soon, here), (0, 100_000, 3 * SECOND, Some(2)));
}

#[test]
fn a_moment() {
    let timer = |clock, expires, ticks| Timerfd { clock, mode: 3, expires, period: SECOND, ticks, ..TIMER };
    // Long ago by the clocks of the tree, but the kernel knows what time of day it is.
    assert_eq!(set(&timer(0, 500 * SECOND, 0), here), (3, 500 * SECOND, SECOND, None));
    // What was not read is counted by the kernel anew.
    assert_eq!(set(&timer(1, 1005 * SECOND, 4), here), (3, 1001 * SECOND, SECOND, None));
    assert_eq!(set(&timer(1, SECOND, u64::MAX), here), (3, 1, SECOND, None));
    let without = |host: &mut Host| host.time_namespaces = false;
    assert_eq!(set(&timer(1, 1005 * SECOND, 4), without), (2, 5 * SECOND, SECOND, Some(4)));
    assert_eq!(set(&timer(0, 1005 * SECOND, 4), without), (3, 1001 * SECOND, SECOND, None));
}

#[test]
fn by_the_clocks_of_the_machine() {
    // A moment of the clocks that stood still is none of this machine's: it becomes a rest.
    let (model, host) = tree(Timerfd { mode: 1, expires: 1005 * SECOND, ..TIMER });
    let of = |time| {
        let options = Options { time, ..Options::default() };
        resources::plan(&model, &host, &options).expect("it can be planned")
    };
    let (kept, machine) = (of(TimePolicy::Keep), of(TimePolicy::Host));
    assert_eq!(kept.clocks, Some(Clocks { monotonic: 1000 * SECOND, boottime: 2000 * SECOND }));
    assert_eq!(machine.clocks, None);
    let told = "CLOCK_MONOTONIC is that of this machine";
    assert!(machine.notes.iter().any(|note| note.starts_with(told)) && !kept.notes.iter().any(|n| n.starts_with(told)));
    let value = |plan: &Plan| {
        let of_timer = |args: &[Value]| match &args[2] {
            Value::Bytes(value) => Itimerspec::from_bytes(value).and_then(|v| v.value.to_nanos()),
            _ => None,
        };
        plan.steps.iter().filter(|s| s.by == "timerfd").find_map(|s| match &s.op {
            Op::Call { args, .. } => of_timer(args),
            _ => None,
        })
    };
    assert_eq!((value(&kept), value(&machine)), (Some(1005 * SECOND), Some(5 * SECOND)));
}

#[test]
fn a_rest_is_counted_by_the_clocks_of_the_tree_when_it_is_set() {
    let (model, mut host) = tree(Timerfd { expires: 1005 * SECOND, ..TIMER });
    let line = |host: &Host| {
        let plan = planned(&model, host);
        let lines = plan.steps.iter().map(ToString::to_string);
        lines.filter(|line| line.contains("timerfd_settime")).collect::<Vec<_>>().concat()
    };
    assert!(line(&host).contains("the rest until 1005 s"), "{}", line(&host));
    host.time_namespaces = false;
    assert!(line(&host).contains("[32 bytes]"), "{}", line(&host));
}

#[test]
fn no_rest_and_no_moment() {
    assert_eq!(set(&TIMER, here), (0, 0, 0, None));
    assert_eq!(set(&Timerfd { mode: 1, period: 5, ..TIMER }, here), (1, 0, 5, None));
    assert_eq!(set(&Timerfd { ticks: 1, ..TIMER }, here), (0, 0, 0, Some(1)));
}

#[test]
fn it_is_set_by_its_process_before_the_numbers_of_the_store_are_closed() {
    let (model, host) = tree(Timerfd { ticks: 1, ..TIMER });
    let plan = planned(&model, &host);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let at = |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    let order = ["timerfd_create(1, 2048)", "timerfd_settime(d40, 0, ", "ioctl(d40, 0x40085400, ", "close_range("];
    assert!(order.map(at).is_sorted(), "{lines:#?}");
}

#[test]
fn one_that_wakes_the_machine() {
    for clock in [8, 9] {
        let (model, mut host) = tree(Timerfd { clock, ..TIMER });
        planned(&model, &host);
        let why = "it wakes the machine, which whoever thaws may not (CAP_WAKE_ALARM)";
        let line = [format!("timer descriptor of clock {clock}: {why}")];
        host.inner_user_namespace = true;
        assert_eq!(plan_refused(&model, &host, &plan::Options::default()), line);
        host.inner_user_namespace = false;
        host.capability_sets[2] &= !(1 << 35);
        assert_eq!(plan_refused(&model, &host, &plan::Options::default()), line);
    }
}

#[test]
fn without_clocks_it_is_damage() {
    let (mut model, _) = tree(TIMER);
    survives(&model);
    model.processes[0].states.retain(|s| !matches!(s, ProcessState::Time(_)));
    assert!(Model::from_records(&records(&model)).is_err());
}
