//! Rings of asynchronous input and output: what is seen of one, and by which calls it is where it was.

use crate::common::*;
use crate::ipc::{all_kinds, empty_host};
use abi::{Arg, Call, Errno, Place, Sys};
use plan::{Op, Options};
use resources::mm::area::{Area, Backing};
use resources::mm::ring::Ring;
use resources::mm::space::Space;
use resources::{ProcessState, Told};

const PAGE: u64 = 4096;
const PROCESSORS: &str = "/sys/devices/system/cpu/possible";

/// The sample, whose heap, of 33 pages, is a ring that begins with these words.
fn sample(words: [u32; 5]) -> (Recorded, u64) {
    let mut sample = Recorded::sample("sleep");
    sample.edit("smaps", "[heap]", "/[aio] (deleted)");
    let areas = abi::proc::smaps(&sample.texts["smaps"]).unwrap();
    let at = areas.iter().find(|a| a.name == b"/[aio] (deleted)").expect("it was put there").start;
    sample.memory.insert(at, words.map(u32::to_le_bytes).concat());
    sample.answer(Sys::IoGetevents, &[at, 0, 0, 0, 0], Ok(0), vec![]);
    sample.answer(Sys::Poll, &[], Ok(0), vec![]);
    (sample, at)
}

#[test]
fn a_ring_as_the_kernel_made_it() {
    let (sample, at) = sample([1, 33 * 128 - 1, 7, 9, 0xa10a_10a1]);
    let space = capture::<Space>(&sample).expect("it can be kept");
    let area = space.areas.iter().find(|area| area.start == at).expect("it is there");
    assert_eq!(area.backing, Backing::Ring(Ring { id: 1, head: 7, tail: 9 }));
}

#[test]
fn rings_that_are_refused() {
    let why = |sample: &Recorded| reasons(&refused(capture::<Space>(sample)))[0].clone();
    for odd in [
        [0, 127, 0, 0, 0xa10a_10a1],
        [0, 4223, 4223, 0, 0xa10a_10a1],
        [0, 4223, 0, 0, 0],
        [4096, 4223, 0, 0, 0xa10a_10a1],
    ] {
        assert!(why(&sample(odd).0).ends_with("not as the kernel made it"), "{odd:?}");
    }
    let (mut dead, at) = sample([0, 4223, 0, 0, 0xa10a_10a1]);
    dead.answer(Sys::IoGetevents, &[at, 0, 0, 0, 0], Err(Errno::EINVAL), vec![]);
    assert!(why(&dead).ends_with("nothing to it"));
    let (mut told, _) = sample([0, 4223, 0, 0, 0xa10a_10a1]);
    let counter = |count: &str| format!("pos:\t0\nflags:\t02\nmnt_id:\t1\neventfd-count: {count}\n");
    told.told = vec![Told { pid: 7, number: 3, description: 1, flags: 2, ino: None, lines: vec![b"5".to_vec()] }];
    told.host_texts.insert("/proc/7/fdinfo/3".into(), counter("5"));
    assert!(capture::<Space>(&told).is_ok());
    told.host_texts.insert("/proc/7/fdinfo/3".into(), counter("6"));
    assert!(why(&told).ends_with("goes on doing what it was asked for"));
}

fn area(start: u64, pages: u64, id: u32, head: u32, tail: u32) -> Area {
    Area {
        start,
        end: start + pages * PAGE,
        protection: 3,
        shared: true,
        may_write: true,
        backing: Backing::Ring(Ring { id, head, tail }),
        name: None,
        flags: vec![],
        page: 0,
    }
}

#[test]
fn contexts_get_their_numbers_and_places() {
    let mut model = all_kinds();
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.splice(0..0, [area(0x100_0000, 3, 2, 0, 0), area(0x101_0000, 1, 0, 40, 2)]);
        }
    }
    survives(&model);
    let mut host = empty_host(&model);
    assert!(model.questions().contains(&PROCESSORS.to_owned()));
    host.told.insert(PROCESSORS.into(), "0-14".into());
    let plan = planned(&model, &host);
    let all: Vec<Vec<Call>> =
        plan.steps.into_iter().filter_map(|s| if let Op::Calls(calls) = s.op { Some(calls) } else { None }).collect();
    let setup = |events: u64, then| Call::new(Sys::IoSetup, [events.into(), Arg::At(Place::Arg(then, 0))]);
    let remap = |len: u64, at: u64| Call::new(Sys::Mremap, [0, len, len, 3, at].map(Arg::Int));
    let destroy = Call::new(Sys::IoDestroy, [Arg::Int(0)]);
    let made = [setup(1, 1), remap(PAGE, 0x101_0000), setup(1, 5), setup(127, 4), remap(3 * PAGE, 0x100_0000), destroy];
    assert_eq!(all[0], made);
    // 40 are read and taken, in two goes; then 2 and 87 up to the end of a ring of 127 wait.
    let count = |calls: &[Call], sys| calls.iter().filter(|call| call.sys == sys).count();
    assert_eq!([Sys::IoSubmit, Sys::IoGetevents, Sys::Futex].map(|sys| count(&all[1], sys)), [40 + 89, 2, 4]);
    assert_eq!([Sys::IoSubmit, Sys::IoGetevents, Sys::Futex].map(|sys| count(&all[2], sys)), [0, 0, 4]);
    host.told.insert(PROCESSORS.into(), "0-15".into());
    let why = plan_refused(&model, &host, &Options::default());
    assert!(why[0].contains("the kernel makes no ring as small"), "{why:?}");
}
