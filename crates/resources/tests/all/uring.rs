//! Rings of io_uring: what is seen of one, and by which calls it is where it was.

use crate::common::*;
use crate::ipc::{all_kinds, empty_host};
use abi::{Call, Errno, Sys};
use plan::{Op, Options};
use resources::fd::uring::Uring;
use resources::mm::area::{Area, Backing};
use resources::tree::process::Fd;
use resources::{Description, Keep, ProcessState, Told};

const AT: u64 = 0x7f00_0000_0000;
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// What Linux 6.18 tells of a ring of 8 requests, after `done` of which three are not taken and one is not submitted.
fn info(submitted: u32, completed: u32, more: &str) -> String {
    let (tail, head) = (submitted + 1, completed - 3);
    format!(
        "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t77\nSqMask:\t0x7\nSqHead:\t{submitted}\nSqTail:\t{tail}\n\
         CachedSqHead:\t{submitted}\nCqMask:\t0xf\nCqHead:\t{head}\nCqTail:\t{completed}\nCachedCqTail:\t{completed}\n\
         SQEs:\t1\n    3: opcode:NOP, fd:0, flags:0, off:0, addr:0x0\nCQEs:\t3\n    0: user_data:1, res:0, flag:0\n\
         SqThread:\t-1\nSqThreadCpu:\t-1\nUserFiles:\t0\nUserBufs:\t2\n    0: <none>\n    1: 0x7f0000001000/64\n\
         {more}CqOverflowList:\nNAPI:\tdisabled\n"
    )
}

/// A process with such a ring, whose memory is at `AT`; and what its descriptor tells while one request seems to wait.
fn sample(info: &str, told: &str) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, "anon_inode:[io_uring]", 0o600, 0, info);
    let ring = |from: u64, offset: u64| {
        format!("{:x}-{:x} rw-s {offset:08x} 00:10 77    anon_inode:[io_uring]\n", from, from + 0x1000)
    };
    let memory = format!("{:x}-{:x} rw-p 00000000 00:00 0\n", AT + 0x1000, AT + 0x2000);
    sample.texts.insert("maps".into(), [ring(AT, 0), memory].concat().into_bytes());
    let words = [19u32, 20, 16, 19, 7, 15, 8, 16, 0, 0, 0, 0];
    sample.memory.insert(AT, words.map(u32::to_le_bytes).concat());
    sample.answer(Sys::IoUringRegister, &[40, 11, 0, 0], Err(Errno::EBADFD), vec![]);
    sample.answer(Sys::IoUringRegister, &[40, 4, 1, 1], Err(Errno::EFAULT), vec![]);
    sample.answer(Sys::IoUringRegister, &[40, 33, 1, 1], Err(Errno::EFAULT), vec![]);
    sample.answer(Sys::IoUringRegister, &[40, 34, 1, 1], Err(Errno::EFAULT), vec![]);
    sample.answer(Sys::IoUringRegister, &[40, 26], Err(Errno::ENOENT), vec![]);
    sample.answer(Sys::IoUringEnter, &[40, 0, u32::MAX.into()], Err(Errno::EFAULT), vec![]);
    sample.answer(Sys::Openat, &[], Ok(9), vec![]);
    sample.answer(Sys::ProcessVmReadv, &[], Ok(4), vec![]);
    sample.answer(Sys::Read, &[], Ok(told.len() as u64), vec![told.as_bytes().to_vec()]);
    sample.answer(Sys::Close, &[], Ok(0), vec![]);
    sample
}

const TOLD: &str = "x\nSQEs:\t1\n    0: opcode:NOP, fd:0\nCQEs:\t1\n   15: user_data:0, res:0, flag:0\nSqThread:\t-1\n";

fn kept(told: &str) -> Uring {
    match describe(&sample(&info(19, 19, "PollList:\n"), told), 40) {
        Ok(Description::Uring(ring)) => ring,
        other => panic!("it can be kept: {other:?}"),
    }
}

#[test]
fn a_ring_at_which_nobody_is_at_work() {
    let ring = kept(TOLD);
    let buffers = vec![(0, 0), (AT + 0x1000, 64)];
    // Completed when its thread asks for it: so only that may.
    assert_eq!(
        ring,
        Uring { entries: (8, 16), flags: 0x3000, done: 19, waiting: 3, status: 2, buffers, files: vec![] }
    );
    assert_eq!(kept(&TOLD.replace("    0: opcode:NOP, fd:0\n", "")).flags, 0x1_3000);
    assert_eq!(kept(&TOLD.replace("fd:0", "fd:0, e0:0x0")).flags, 0x3400);
    assert_eq!(kept(&TOLD.replace("flag:0", "flag:0, extra1:0, extra2:0")).flags, 0x3800);
}

#[test]
fn registered_files_are_known_by_their_names() {
    let listed = "UserFiles:\t5\n    1: socket:[9]\n    3: /with\\040blank\n    4: <none>\n";
    let mut sample = sample(&info(19, 19, "PollList:\n").replace("UserFiles:\t0\n", listed), TOLD);
    sample.open(43, "socket:[9]", 0o140_777, 0, "");
    sample.open(44, "/with blank", 0o100_644, 0, "");
    match describe(&sample, 40) {
        Ok(Description::Uring(ring)) => assert_eq!(ring.files, [None, Some(43), None, Some(44), None]),
        other => panic!("it can be kept: {other:?}"),
    }
}

#[test]
fn rings_that_are_refused() {
    let why = |sample: &Recorded| reasons(&refused(describe(sample, 40))).concat();
    for busy in [info(20, 19, "PollList:\n"), info(19, 19, "PollList:\n  op=6, task_works=0\n")] {
        assert!(why(&sample(&busy, TOLD)).contains("at work"));
    }
    let idle = info(19, 19, "PollList:\n");
    for (from, to, reason) in [
        ("SqThread:\t-1", "SqThread:\t77", "SQPOLL"),
        ("NAPI:\tdisabled", "NAPI:\tenabled", "NAPI"),
        ("UserFiles:\t0\n", "UserFiles:\t1\n    0: /a\n", "nobody in the tree has a descriptor of the file"),
        ("UserFiles:\t0\n", "UserFiles:\t1\n    0: pipe:[5]\n", "several files are called as"),
        ("0x7f0000001000/64", "0x7f0000001fff/64", "a registered buffer is not"),
        // Another list stands where a buffer should.
        ("    1: 0x7f0000001000/64\n", "", "a registered buffer is not"),
        ("SqHead", "Other", "does not tell where it is"),
    ] {
        let mut sample = sample(&idle.replace(from, to), TOLD);
        [41, 42].iter().for_each(|end| sample.open(*end, "pipe:[5]", 0o010_600, 0, ""));
        assert!(why(&sample).contains(reason), "{reason}");
    }
    for (numbers, result, reason) in [
        (vec![40, 11, 0, 0], Errno::EEXIST, "another thread"),
        (vec![40, 11, 0, 0], Errno::EINVAL, "disabled"),
        (vec![40, 4, 1, 1], Errno::EBUSY, "eventfd"),
        (vec![40, 34, 1, 1], Errno::EBUSY, "region of memory"),
        (vec![40, 26], Errno::EINVAL, "buffers are provided"),
    ] {
        let mut sample = sample(&idle, TOLD);
        sample.answer(Sys::IoUringRegister, &numbers, Err(result), vec![]);
        assert!(why(&sample).contains(reason), "{reason}");
    }
    let mut polls = sample(&idle, TOLD);
    polls.answer(Sys::IoUringEnter, &[40, 0, u32::MAX.into()], Ok(0), vec![]);
    assert!(why(&polls).contains("IOPOLL"));
    assert!(why(&sample(&idle, "")).contains("made up"));
    let mut more = sample(&idle, TOLD);
    for flags in [[2, 0, 0, 0], [0, 0x80, 0, 0]] {
        more.memory.insert(AT + 64, [[0; 12].as_slice(), &flags].concat());
        assert!(why(&more).contains("more than once"));
    }
    let mut shared = sample(&idle, TOLD);
    let told = |pid| Told { pid, number: 40, description: 1, flags: 2, ino: Some(77), lines: vec![b"19".to_vec()] };
    shared.told = vec![told(shared.threads[0]), told(7)];
    assert!(why(&shared).contains("several processes"));
    // One without a descriptor.
    let mut hidden = Recorded::sample("sleep");
    hidden.answer(Sys::IoUringEnter, &[], Err(Errno::EBADF), vec![]);
    hidden.answer(Sys::IoUringEnter, &[0], Ok(0), vec![]);
    let all = capture_all(&hidden, Keep::default()).expect_err("it must be refused");
    assert!(reasons(&all).concat().contains("has registered the descriptor"));
}

#[test]
fn a_ring_gets_its_place_and_its_turns() {
    let mut model = all_kinds();
    let files = vec![None, Some(1)];
    model.descriptions.insert(90, Description::Uring(Uring { files, ..kept(TOLD) }));
    model.processes[0].process.fds.push(Fd { number: 90, description: 90, close_on_exec: true });
    let backing = Backing::Uring { ring: 90, offset: 0 };
    let area = Area {
        start: 0x100_0000,
        end: 0x100_1000,
        protection: 3,
        shared: true,
        may_write: true,
        backing,
        name: None,
        flags: vec![],
        page: 0,
    };
    for state in &mut model.processes[0].states {
        if let ProcessState::Space(space) = state {
            space.areas.insert(0, area.clone());
        }
    }
    survives(&model);
    let mut host = empty_host(&model);
    assert!(model.questions().contains(&DISABLED.to_owned()));
    let plan = planned(&model, &host);
    let turns: Vec<(Vec<Call>, u32)> = plan
        .steps
        .into_iter()
        .filter_map(|s| if let Op::Again { calls, times } = s.op { Some((calls, times)) } else { None })
        .collect();
    // It is enabled; 8 twice, and 3 that wait, as 2 and 1; and the look at eight words.
    let shape: Vec<_> = turns.iter().map(|(calls, times)| (calls[0].sys, calls.len(), *times)).collect();
    let [register, futex] = [Sys::IoUringRegister, Sys::Futex];
    assert_eq!(shape, [(register, 1, 1), (futex, 3, 2), (futex, 2, 1), (futex, 2, 1), (futex, 8, 1)]);
    host.told.insert(DISABLED.into(), "2\n".into());
    let why = plan_refused(&model, &host, &Options::default());
    assert!(why[0].contains("disabled on this host"), "{why:?}");
}
