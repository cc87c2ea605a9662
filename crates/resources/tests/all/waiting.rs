//! Interrupted system calls whose rest lives in the kernel: what is kept of each, and how each is begun again.

use crate::common::*;
use abi::layout::Timespec;
use abi::x86_64::UserRegs;
use abi::{Machine, Sys};
use plan::{Op, Restart, Value};
use resources::task::regs::{Regs, Waiting};
use resources::{Keep, ThreadState};

const SECOND: u64 = 1_000_000_000;
const ASKED: u64 = 0x7ffd_0000_1000;
const REST: u64 = 0x7ffd_0000_2000;

/// A thread that is in a call, 2 s after it last ran.
fn waits_in(sys: Sys, args: [u64; 4]) -> Recorded {
    let mut sample = Recorded::sample("sleep");
    let [rdi, rsi, rdx, r10] = args;
    let orig_rax = sys.number(Machine::X86_64);
    sample.regs = UserRegs { rax: RESTART_BLOCK, orig_rax, rdi, rsi, rdx, r10, ..sample.regs };
    sample.idle = Some(2 * SECOND);
    sample.memory.insert(ASKED, time(10 * SECOND));
    sample.memory.insert(REST, time(7 * SECOND));
    sample
}

fn time(nanos: u64) -> Vec<u8> {
    Timespec::from_nanos(nanos).to_bytes().to_vec()
}

fn waiting(sample: &Recorded) -> Option<Waiting> {
    capture::<Regs>(sample).expect("it can be kept").waiting
}

/// What the plan begins again.
fn begun(sample: &Recorded) -> Option<(Sys, Vec<Value>)> {
    let model = capture_all(sample, Keep::default()).expect("it can be kept");
    survives(&model);
    let plan = planned(&model, &host("root", &model));
    let restart =
        plan.steps.into_iter().find_map(|s| if let Op::Regs { restart, .. } = s.op { Some(restart) } else { None });
    match restart.expect("every thread gets its registers") {
        Restart::Begin { sys, args } => Some((sys, args)),
        Restart::Registers => None,
    }
}

fn sleeps(clock: u64, left: u64, rest: u64) -> Option<(Sys, Vec<Value>)> {
    Some((Sys::ClockNanosleep, vec![clock.into(), 0.into(), Value::Bytes(time(left)), rest.into()]))
}

#[test]
fn nanosleep_without_a_place_for_the_rest() {
    let sample = waits_in(Sys::Nanosleep, [ASKED, 0, 0, 0]);
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 8 * SECOND, clock: 1, rest: 0 }));
    assert_eq!(begun(&sample), sleeps(1, 8 * SECOND, 0));
}

#[test]
fn nanosleep_whose_rest_the_kernel_wrote_down() {
    let sample = waits_in(Sys::Nanosleep, [ASKED, REST, 0, 0]);
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 7 * SECOND, clock: 1, rest: REST }));
    assert_eq!(begun(&sample), sleeps(1, 7 * SECOND, REST));
}

#[test]
fn clock_nanosleep_keeps_its_clock() {
    let sample = waits_in(Sys::ClockNanosleep, [7, 0, ASKED, 0]);
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 8 * SECOND, clock: 7, rest: 0 }));
    let sample = waits_in(Sys::ClockNanosleep, [7, 0, ASKED, REST]);
    assert_eq!(begun(&sample), sleeps(7, 7 * SECOND, REST));
}

#[test]
fn a_sleep_that_is_over_and_one_of_unknown_age() {
    let mut sample = waits_in(Sys::Nanosleep, [ASKED, 0, 0, 0]);
    sample.idle = Some(60 * SECOND);
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 0, clock: 1, rest: 0 }));
    sample.idle = None;
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 10 * SECOND, clock: 1, rest: 0 }));
    sample.memory.insert(ASKED, vec![0xff; 16]);
    assert_eq!(waiting(&sample), Some(Waiting::Sleep { left: 0, clock: 1, rest: 0 }));
}

#[test]
fn poll_with_a_timeout() {
    let sample = waits_in(Sys::Poll, [0x5000, 3, 9000, 0]);
    assert_eq!(waiting(&sample), Some(Waiting::Poll { left: Some(7000) }));
    assert_eq!(begun(&sample), Some((Sys::Poll, vec![0x5000.into(), 3.into(), 7000.into()])));
}

#[test]
fn poll_without_a_timeout() {
    // The upper half of the register is not part of an int.
    let sample = waits_in(Sys::Poll, [0x5000, 3, 0x1_ffff_ffff, 0]);
    assert_eq!(waiting(&sample), Some(Waiting::Poll { left: None }));
    assert_eq!(begun(&sample), Some((Sys::Poll, vec![0x5000.into(), 3.into(), u64::MAX.into()])));
}

#[test]
fn futex_with_a_relative_time() {
    const PRIVATE: u64 = 128;
    let sample = waits_in(Sys::Futex, [0x6000, PRIVATE, 5, ASKED]);
    assert_eq!(waiting(&sample), Some(Waiting::Futex { left: 8 * SECOND }));
    let args = vec![0x6000.into(), PRIVATE.into(), 5.into(), Value::Bytes(time(8 * SECOND)), 0.into(), 0.into()];
    assert_eq!(begun(&sample), Some((Sys::Futex, args)));
}

#[test]
fn futex_with_an_absolute_time() {
    const WAIT_BITSET: u64 = 9 | 128 | 256;
    let mut sample = waits_in(Sys::Futex, [0x6000, WAIT_BITSET, 5, ASKED]);
    sample.regs.r9 = 0xffff_ffff;
    assert_eq!(waiting(&sample), Some(Waiting::FutexUntil));
    let args = [0x6000, WAIT_BITSET, 5, ASKED, 0, 0xffff_ffff].map(Value::Int).to_vec();
    assert_eq!(begun(&sample), Some((Sys::Futex, args)));
}

#[test]
fn a_lock_with_priority_inheritance_is_refused() {
    const LOCK_PI: u64 = 6 | 128;
    let sample = waits_in(Sys::Futex, [0x6000, LOCK_PI, 0, ASKED]);
    let why = "registers: it is in a system call whose rest is not known (number 202)";
    assert_eq!(reasons(&refused(capture::<Regs>(&sample))), [why]);
}

#[test]
fn a_call_that_was_restarted_before_is_known_by_where_it_slept() {
    let restarted = |channel: &str, args| {
        let mut sample = waits_in(Sys::RestartSyscall, args);
        sample.wait_channel = channel.into();
        waiting(&sample)
    };
    let sleep = |clock| Some(Waiting::Sleep { left: 8 * SECOND, clock, rest: 0 });
    assert_eq!(restarted("hrtimer_nanosleep", [ASKED, 0, 0, 0]), sleep(1));
    assert_eq!(restarted("hrtimer_nanosleep", [0, 0, ASKED, 0]), sleep(0));
    assert_eq!(
        restarted("poll_schedule_timeout.constprop.0", [0x5000, 1, 3000, 0]),
        Some(Waiting::Poll { left: Some(1000) })
    );
    assert_eq!(restarted("futex_wait_queue", [0x6000, 0, 5, ASKED]), Some(Waiting::Futex { left: 8 * SECOND }));
}

#[test]
fn a_call_that_nobody_knows_is_refused() {
    let mut sample = waits_in(Sys::RestartSyscall, [0; 4]);
    sample.wait_channel = b"do_something_new".to_vec();
    let why = "registers: it is in a system call whose rest is not known (number 219)";
    assert_eq!(reasons(&refused(capture::<Regs>(&sample))), [why]);
    sample.regs.orig_rax = 9999;
    assert!(reasons(&refused(capture::<Regs>(&sample)))[0].ends_with("(number 9999)"));
}

#[test]
fn other_calls_and_none_are_left_to_the_registers() {
    // -512: made again as it is; and the same value in a register of a program that is in no call.
    let mut sample = waits_in(Sys::Read, [0, 0x5000, 1, 0]);
    sample.regs.rax = -512i64 as u64;
    assert_eq!((waiting(&sample), begun(&sample)), (None, None));
    sample.regs = UserRegs { rax: RESTART_BLOCK, orig_rax: u64::MAX, ..sample.regs };
    assert_eq!((waiting(&sample), begun(&sample)), (None, None));
}

#[test]
fn a_call_that_was_interrupted_before_may_wait_longer_and_says_so() {
    let mut sample = waits_in(Sys::RestartSyscall, [ASKED, 0, 0, 0]);
    sample.wait_channel = b"hrtimer_nanosleep".to_vec();
    let longer = "how long it has waited cannot be known; thawed it may wait longer, by at most 8.0 s";
    assert_eq!(notes::<Regs>(&sample), [longer]);
    // With a place for its rest the time is known.
    sample.regs.rsi = REST;
    assert!(notes::<Regs>(&sample).is_empty());
    sample = waits_in(Sys::Nanosleep, [ASKED, 0, 0, 0]);
    assert!(notes::<Regs>(&sample).is_empty());
    sample.idle = None;
    assert_eq!(notes::<Regs>(&sample), [longer.replace("8.0", "10.0")]);
}

#[test]
fn a_time_that_begins_anew_is_told() {
    let mut sample = waits_in(Sys::RtSigtimedwait, [0x5000, 0, ASKED, 8]);
    sample.regs.rax = -514i64 as u64;
    assert_eq!((waiting(&sample), begun(&sample)), (None, None));
    assert_eq!(notes::<Regs>(&sample), ["the time of its rt_sigtimedwait begins anew"]);
    sample.regs.rdx = 0;
    assert!(notes::<Regs>(&sample).is_empty());
    // With which the kernel would go on, but for a filter.
    sample = waits_in(Sys::Nanosleep, [ASKED, 0, 0, 0]);
    sample.regs.rax = -514i64 as u64;
    assert_eq!((waiting(&sample), begun(&sample)), (None, None));
    assert_eq!(notes::<Regs>(&sample), ["the time of its nanosleep begins anew"]);
    // At a ring of io_uring: with IORING_ENTER_GETEVENTS and EXT_ARG, and where the time is a moment (ABS_TIMER).
    const AT: u64 = 0x9000;
    for (flags, time, told) in
        [(0b1001, ASKED, true), (0b1001, 0, false), (0b1, ASKED, false), (0b10_1001, ASKED, false)]
    {
        sample = waits_in(Sys::IoUringEnter, [3, 0, 1, flags]);
        (sample.regs.rax, sample.regs.r8) = (-514i64 as u64, AT);
        sample.memory.insert(AT + 16, time.to_ne_bytes().to_vec());
        let expected = told.then(|| "the time of its io_uring_enter begins anew".to_owned());
        assert_eq!(notes::<Regs>(&sample), Vec::from_iter(expected));
    }
}

#[test]
fn a_32_bit_thread_is_refused() {
    let mut sample = Recorded::sample("sleep");
    sample.regs.cs = 0x23;
    assert_eq!(reasons(&refused(capture::<Regs>(&sample))), ["registers: it is a 32-bit program"]);
}

#[test]
fn registers_that_this_processor_lacks_are_refused_once() {
    let mut model = capture_all(&Recorded::sample("python"), Keep::default()).expect("it can be kept");
    for state in model.processes[0].threads.iter_mut().flat_map(|t| &mut t.states) {
        if let ThreadState::Regs(regs) = state {
            regs.extended.0 = vec![0; 832];
            regs.extended.0[512] = 0b111;
        }
    }
    let mut host = host("root", &model);
    host.xfeatures = 0b111;
    planned(&model, &host);
    host.xfeatures = 0b011;
    let why = "processor: it uses registers that are not there: avx";
    assert_eq!(plan_refused(&model, &host, &Default::default()), [why]);
}

#[test]
fn who_waits_for_the_kernel_however_long_that_takes_is_refused() {
    let waits = |sys: Sys, least: u64, time: u64| {
        let mut sample = waits_in(sys, [0, least, 8, 0]);
        sample.regs = UserRegs { rax: -514i64 as u64, r8: time, ..sample.regs };
        capture::<Regs>(&sample).is_err()
    };
    assert!(waits(Sys::IoGetevents, 1, 0) && waits(Sys::IoPgetevents, 3, 0));
    assert!(!waits(Sys::IoGetevents, 0, 0) && !waits(Sys::IoGetevents, 1, ASKED));
}
