//! Processes of a real kernel, written down: capture gives the record that is expected, the record survives CBOR and
//! JSON, and the steps that make it again are those that are expected.

use crate::common::*;
use abi::layout::{Itimerval, Rlimit64, SchedAttr, Timeval};
use abi::signal::{KernelSigaction, Siginfo, StackT};
use abi::x86_64::RseqConfiguration;
use abi::{Errno, Sys};
use resources::fd::{chardev::Chardev, directory::Directory, eventfd::Eventfd, opath::OPath, pipe::PipeEnd};
use resources::mm::modes::Modes;
use resources::mm::space::Space;
use resources::task::{
    attributes::Attributes, creds::Creds, fs::Fs, futex::Futex, handlers::Handlers, itimers::Itimer, itimers::Itimers,
    limits::Limits, posix_timers::PosixTimer, posix_timers::PosixTimers, prctl::Prctl, rseq::Rseq, sched::Sched,
    signal::Signal, thread_fs::ThreadFs,
};
use resources::tree::session::{Role, Session};
use resources::tree::stops::Stops;
use resources::{Blob, Capture, Capturing, Description, Files, Keep, ProcessState, Text, ThreadState};

/// A sample goes all the way: capture, CBOR, JSON, plan.
fn whole(name: &str, sample: &Recorded) {
    let model = capture_all(sample, Keep::default()).unwrap_or_else(|r| panic!("refused: {:?}", reasons(&r)));
    survives(&model);
    // A line for each record, and for each part of a record.
    let json = serde_json::to_string(&model).expect("a model is JSON").replace("},{", "},\n{");
    golden(&format!("{name}.record.json"), &(json + "\n"));
    let mut host = host("root", &model);
    host.terminal = terminal();
    golden(&format!("{name}.plan"), &planned(&model, &host).to_string());
}

#[test]
fn sleep() {
    whole("sleep", &Recorded::sample("sleep"));
}

#[test]
fn a_shell_on_a_terminal() {
    whole("bash", &Recorded::sample("bash"));
}

#[test]
fn an_interpreter_with_pipes_a_deleted_file_and_shared_memory() {
    let mut sample = Recorded::sample("python");
    sample.peeked.insert(5, vec![(b"hello".to_vec(), false)]);
    whole("python", &sample);
}

#[test]
fn an_editor_with_a_timer() {
    let mut sample = Recorded::sample("vim");
    let times = [[0; 16], [1u64.to_ne_bytes(), 500u64.to_ne_bytes()].concat().try_into().unwrap()].concat();
    sample.answer(Sys::TimerGettime, &[0], Ok(0), vec![times]);
    whole("vim", &sample);
}

#[test]
fn roles_in_a_session() {
    let mut sample = Recorded::sample("bash");
    let leader = capture::<Session>(&sample).unwrap();
    assert_eq!(leader, Session { role: Role::SessionLeader, terminal: true, foreground: true, pts: None });
    sample = Recorded::sample("sleep");
    let member = capture::<Session>(&sample).unwrap();
    assert_eq!(member, Session { role: Role::Member, terminal: false, foreground: false, pts: None });
    let group = abi::proc::stat(&sample.texts["stat"]).unwrap().pgrp;
    sample.edit("stat", &format!(" {group} "), &format!(" {} ", sample.threads[0]));
    assert_eq!(capture::<Session>(&sample).unwrap().role, Role::GroupLeader);
}

#[test]
fn attributes() {
    let mut sample = Recorded::sample("sleep");
    sample.texts.insert("personality".into(), b"00040000\n".to_vec());
    sample.texts.insert("oom_score_adj".into(), b"-500\n".to_vec());
    sample.texts.insert("loginuid".into(), b"1000".to_vec());
    sample.answer(Sys::Prctl, &[42], Ok(1), vec![]);
    sample.answer(Sys::Prctl, &[37], Ok(0), vec![vec![1, 0, 0, 0]]);
    sample.answer(Sys::Membarrier, &[512], Ok(16), vec![]);
    let expected = Attributes {
        personality: 0x40000,
        thp_disable: 1,
        subreaper: true,
        oom_score_adj: -500,
        membarrier: 16,
        login: Some(1000),
    };
    assert_eq!(capture::<Attributes>(&sample).unwrap(), expected);
}

#[test]
fn an_old_kernel_that_does_not_know_a_question() {
    let mut sample = Recorded::sample("sleep");
    sample.answer(Sys::Prctl, &[42], Err(Errno::EINVAL), vec![]);
    sample.answer(Sys::Prctl, &[30], Err(Errno::EINVAL), vec![]);
    assert_eq!(capture::<Attributes>(&sample).unwrap().thp_disable, 0);
    assert_eq!(capture::<Prctl>(&sample).unwrap().timer_slack, 50_000);
    sample.answer(Sys::Prctl, &[42], Err(Errno::EPERM), vec![]);
    assert!(matches!(capture::<Attributes>(&sample), Err(resources::Trouble::Fault(f)) if f.errno == Errno::EPERM));
}

#[test]
fn credentials() {
    let mut sample = Recorded::sample("sleep");
    sample.edit("status", "Uid:\t0\t0\t0\t0", "Uid:\t1\t2\t3\t4");
    sample.edit("status", "Groups:\t", "Groups:\t9 7 ");
    sample.edit("status", "NoNewPrivs:\t0", "NoNewPrivs:\t1");
    sample.answer(Sys::Prctl, &[27], Ok(0x10), vec![]);
    let creds = capture::<Creds>(&sample).unwrap();
    assert_eq!((creds.uid, creds.gid, creds.securebits, creds.no_new_privs), ([1, 2, 3, 4], [0; 4], 0x10, true));
    assert_eq!(creds.groups, [7, 9]);
}

#[test]
fn directories_and_mask() {
    let sample = Recorded::sample("bash");
    let expected = Fs { cwd: Text(b"/usr".to_vec()), root: Text(b"/".to_vec()), umask: 0o22, removed: None };
    assert_eq!(capture::<Fs>(&sample).unwrap(), expected);
    let mut of_thread = sample.clone();
    assert_eq!(capture::<ThreadFs>(&of_thread).unwrap(), ThreadFs { own: None });
    for (name, path) in [("cwd", "/srv"), ("root", "/")] {
        let own = format!("task/8/{name}");
        of_thread.links.insert(own.clone(), path.into());
        of_thread.stats.insert(own, sample.stats[name]);
    }
    of_thread.own_fs = Some("task/8/".into());
    let own = Some(Fs { cwd: Text(b"/srv".to_vec()), ..expected });
    assert_eq!(capture::<ThreadFs>(&of_thread).unwrap(), ThreadFs { own });
}

#[test]
fn a_thread_that_has_directories_apart_is_set_apart_first() {
    let mut model = model("two");
    let last = model.processes.last_mut().and_then(|p| p.threads.last_mut()).expect("it has threads");
    let own = Fs { cwd: Text(b"/usr".to_vec()), root: Text(b"/usr".to_vec()), umask: 0o7, removed: None };
    last.states.push(ThreadState::ThreadFs(ThreadFs { own: Some(own) }));
    let tid = format!("t{}", last.tid);
    survives(&model);
    let mut host = host("root", &model);
    host.places.insert(b"/usr".to_vec(), host.places[&b"/"[..]]);
    let all = steps(&planned(&model, &host), &["fs", "thread-fs"]);
    let own: Vec<usize> = (0..all.len()).filter(|n| all[*n].contains(&tid)).collect();
    let called = |n: &usize| all[*n].split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    let expected = ["unshare(512)", "chdir(\"/usr\")", "chroot(\"/usr\")", "umask(7)"];
    assert_eq!(own.iter().map(called).collect::<Vec<_>>(), expected);
    assert_eq!(own[0], 0, "nobody goes anywhere before");
}

#[test]
fn futexes_and_restartable_sequences() {
    let mut sample = Recorded::sample("sleep");
    let words = vec![0x7000u64.to_ne_bytes().to_vec(), 24u64.to_ne_bytes().to_vec()];
    sample.answer(Sys::GetRobustList, &[0], Ok(0), words);
    sample.answer(Sys::Prctl, &[40], Ok(0), vec![0x7100u64.to_ne_bytes().to_vec()]);
    assert_eq!(capture::<Futex>(&sample).unwrap(), Futex { robust_list: (0x7000, 24), clear_tid: 0x7100 });
    assert_eq!(capture::<Rseq>(&sample).unwrap(), Rseq { registered: None });
    let registered = RseqConfiguration { pointer: 0x7200, size: 32, signature: 0x53053053, flags: 0 };
    sample.rseq = Some(registered);
    assert_eq!(capture::<Rseq>(&sample).unwrap(), Rseq { registered: Some(registered) });
    sample.rseq = Some(RseqConfiguration::default());
    assert_eq!(capture::<Rseq>(&sample).unwrap(), Rseq { registered: None });
}

#[test]
fn only_handlers_that_were_set_are_kept() {
    let mut sample = Recorded::sample("sleep");
    let action = KernelSigaction { handler: 0x5000, flags: 0x1400_0000, restorer: 0x6000, mask: 2 };
    sample.answer(Sys::RtSigaction, &[10], Ok(0), vec![action.to_bytes().to_vec()]);
    let handlers = capture::<Handlers>(&sample).unwrap();
    assert_eq!(handlers.set.iter().map(|h| (h.signal, h.action)).collect::<Vec<_>>(), [(10, action)]);
}

#[test]
fn interval_timers() {
    let mut sample = Recorded::sample("sleep");
    let timer = |value: i64, interval: i64| {
        let (value, interval) = (Timeval { sec: value, usec: 5 }, Timeval { sec: interval, usec: 0 });
        vec![Itimerval { value, interval }.to_bytes().to_vec()]
    };
    sample.answer(Sys::Getitimer, &[0], Ok(0), timer(3, 2));
    let armed = capture::<Itimers>(&sample).unwrap().armed;
    assert_eq!(armed, [Itimer { which: 0, left: 3_000_005, period: 2_000_000 }]);
    // Its signal waits: it stands still, and is not lost.
    let still = Itimerval { value: Timeval::default(), interval: Timeval { sec: 2, usec: 0 } };
    sample.answer(Sys::Getitimer, &[0], Ok(0), vec![still.to_bytes().to_vec()]);
    assert_eq!(capture::<Itimers>(&sample).unwrap().armed, [Itimer { which: 0, left: 0, period: 2_000_000 }]);
}

#[test]
fn limits() {
    let mut sample = Recorded::sample("sleep");
    let limit = Rlimit64 { cur: 5, max: 6 };
    sample.answer(Sys::Prlimit64, &[0, 7], Ok(0), vec![limit.to_bytes().to_vec()]);
    let limits = capture::<Limits>(&sample).unwrap().limits;
    assert_eq!((limits.len(), limits[7], limits[8]), (16, (5, 6), (u64::MAX, u64::MAX)));
    sample.answer(Sys::Prlimit64, &[0, 7], Err(Errno::EPERM), vec![]);
    assert!(matches!(capture::<Limits>(&sample), Err(resources::Trouble::Fault(f)) if f.call == "prlimit64"));
}

#[test]
fn posix_timers() {
    let mut sample = Recorded::sample("vim");
    let timer = capture::<PosixTimers>(&sample).unwrap().timers.remove(0);
    assert_eq!((timer.id, timer.clock, timer.signal, timer.notify), (0, 1, 32, 4));
    assert_eq!(timer.thread, Some(sample.threads[1]));
    sample.edit("timers", &format!("signal/tid.{}", sample.threads[1]), &format!("signal/pid.{}", sample.threads[0]));
    let timer = capture::<PosixTimers>(&sample).unwrap().timers.remove(0);
    assert_eq!((timer.notify, timer.thread), (0, None));
    sample.edit("timers", "signal/pid", "none/pid");
    assert_eq!(capture::<PosixTimers>(&sample).unwrap().timers[0].notify, 1);
    // CLOCK_PROCESS_CPUTIME_ID, of whoever made it.
    sample.edit("timers", "ClockID: 1", "ClockID: -6");
    let own = !(sample.threads[0] as i32) << 3 | 2;
    assert_eq!(capture::<PosixTimers>(&sample).unwrap().timers[0].clock, own);
}

#[test]
fn what_a_thread_sets_for_itself() {
    let mut sample = Recorded::sample("vim");
    sample.answer(Sys::Prctl, &[2], Ok(0), vec![vec![15, 0, 0, 0]]);
    sample.answer(Sys::Prctl, &[3], Ok(1), vec![]);
    sample.answer(Sys::Prctl, &[30], Ok(70_000), vec![]);
    sample.answer(Sys::Prctl, &[25], Ok(0), vec![vec![1, 0, 0, 0]]);
    sample.answer(Sys::Prctl, &[34], Ok(2), vec![]);
    sample.answer(Sys::Prctl, &[58], Ok(1), vec![]);
    sample.answer(Sys::Prctl, &[52, 0], Ok(3), vec![]);
    sample.answer(Sys::Prctl, &[52, 1], Err(Errno::ENODEV), vec![]);
    sample.answer(Sys::Prctl, &[52, 2], Ok(9), vec![]);
    sample.answer(Sys::Personality, &[], Ok(0x40000), vec![]);
    let name = Text(b"vim".to_vec());
    let expected = Prctl {
        name,
        parent_death_signal: 15,
        dumpable: 1,
        timer_slack: 70_000,
        tsc: 1,
        mce_kill: 2,
        io_flusher: 1,
        speculation: [3, 0, 9],
        personality: Some(0x40000),
    };
    assert_eq!(capture::<Prctl>(&sample).unwrap(), expected);
}

#[test]
fn modes_of_memory() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(capture::<Modes>(&sample).unwrap(), Modes { core_dump: None, execution: 0, merge: 0 });
    sample.texts.insert("coredump_filter".into(), b"00000073\n".to_vec());
    sample.answer(Sys::Prctl, &[66], Ok(3), vec![]);
    sample.answer(Sys::Prctl, &[68], Ok(1), vec![]);
    assert_eq!(capture::<Modes>(&sample).unwrap(), Modes { core_dump: Some(0x73), execution: 3, merge: 1 });
}

#[test]
fn what_was_taken_out_of_merging_is_taken_out_again() {
    let mut model = model("sleep");
    let states = &mut model.processes[0].states;
    for state in &mut *states {
        if let ProcessState::Space(space) = state {
            let private = space.areas.iter_mut().filter(|area| !area.shared);
            private.skip(1).for_each(|area| area.flags.push("mg".into()));
        }
    }
    states.retain(|state| !matches!(state, ProcessState::Modes(_)));
    states.push(ProcessState::Modes(Modes { core_dump: None, execution: 0, merge: 1 }));
    let lines = steps(&planned(&model, &host("root", &model)), &["memory-modes"]);
    let at = |what: &str| lines.iter().position(|line| line.contains(what));
    assert!(at("prctl(67, 1").expect("it is set") < at("madvise(").expect("one is taken out"), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("madvise(")).count(), 1);
}

#[test]
fn nodes_of_memory() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(capture::<Sched>(&sample).unwrap().memory, None);
    let nodes = [vec![1], vec![0; 127]].concat();
    sample.answer(Sys::GetMempolicy, &[], Ok(0), vec![vec![2, 0x80, 0, 0], nodes.clone()]);
    assert_eq!(capture::<Sched>(&sample).unwrap().memory, Some((0x8002, Blob(nodes.clone()))));
    let bound = capture::<Space>(&sample).unwrap().nodes;
    assert!(!bound.is_empty() && bound.iter().all(|one| (one.mode, &one.nodes) == (0x8002, &Blob(nodes.clone()))));
    sample.answer(Sys::GetMempolicy, &[], Err(Errno::ENOSYS), vec![]);
    assert_eq!(capture::<Sched>(&sample).unwrap().memory, None);
    assert_eq!(capture::<Space>(&sample).unwrap().nodes, []);
}

#[test]
fn what_is_not_kept_is_told() {
    let mut sample = Recorded::sample("sleep");
    let notes = |sample: &Recorded| {
        let mut notes = Vec::new();
        let mut from =
            Capturing { probe: sample, files: &mut Files::default(), keep: Keep::default(), notes: &mut notes };
        <Space as resources::Capture>::capture(&mut from).unwrap();
        <Prctl as resources::Capture>::capture(&mut from).unwrap();
        notes.into_iter().map(|n| n.what).collect::<Vec<_>>()
    };
    assert_eq!(notes(&sample), [""; 0]);
    sample.answer(Sys::Prctl, &[62, 0], Ok(0), vec![vec![0, 7, 0, 0, 0, 0, 0, 0]]);
    assert_eq!(notes(&sample), ["core scheduling"]);
}

#[test]
fn scheduling() {
    let mut sample = Recorded::sample("sleep");
    let attr = SchedAttr { size: 56, policy: 1, priority: 7, ..SchedAttr::default() };
    sample.answer(Sys::SchedGetattr, &[], Ok(0), vec![attr.to_bytes().to_vec()]);
    sample.answer(Sys::Getpriority, &[], Ok(23), vec![]);
    let sched = capture::<Sched>(&sample).unwrap();
    assert_eq!((sched.policy, sched.priority, sched.nice), (1, 7, -3));
    assert_eq!(sched.processors, Blob(vec![3, 0, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn signals_are_looked_at_last() {
    let mut sample = Recorded::sample("sleep");
    let stack = StackT { sp: 0x9000, flags: 1, size: 8192 };
    sample.answer(Sys::Sigaltstack, &[], Ok(0), vec![stack.to_bytes().to_vec()]);
    let mut signal = capture::<Signal>(&sample).unwrap();
    // That it is on the stack now is found out anew from the stack pointer.
    assert_eq!(signal.stack, Some(StackT { flags: 0, ..stack }));
    let (own, shared) = (Siginfo([1; 128]), Siginfo([2; 128]));
    let mut last = LastLook { own: vec![own], shared: vec![shared], stopped: Some(19), ..LastLook::default() };
    signal.conclude(&last).unwrap();
    assert_eq!((&signal.pending[..], &signal.process_pending[..], signal.stopped), (&[own][..], &[][..], None));
    last.first = Some(());
    signal.conclude(&last).unwrap();
    assert_eq!((&signal.process_pending[..], signal.stopped), (&[shared][..], Some(19)));
    // What would stop it once more is taken away by what lets it go on.
    let mut stop = [0; 128];
    stop[0] = 20;
    last.own.push(Siginfo(stop));
    signal.conclude(&last).unwrap();
    assert_eq!(signal.pending, [own]);
    last.stopped = None;
    signal.conclude(&last).unwrap();
    assert_eq!(signal.pending, [own, Siginfo(stop)]);
}

/// A signal of a timer: its number, its code, and the id of the timer.
fn tick(signo: u8, code: i32, timer: u8) -> Siginfo {
    let mut info = [0; 128];
    (info[0], info[16]) = (signo, timer);
    info[8..12].copy_from_slice(&code.to_le_bytes());
    Siginfo(info)
}

#[test]
fn what_timers_sent_since_the_stop_is_left_out() {
    const KERNEL: i32 = 0x80;
    const TIMER: i32 = -2;
    let mut process = model("sleep").processes.remove(0);
    let timer = |id, left| PosixTimer {
        id,
        clock: 1,
        signal: 40,
        value: 0,
        notify: 0,
        thread: None,
        left,
        period: 0,
        overrun: None,
    };
    for state in &mut process.states {
        match state {
            ProcessState::Itimers(timers) => timers.armed = vec![Itimer { which: 0, left: 5, period: 0 }],
            ProcessState::PosixTimers(timers) => timers.timers = vec![timer(3, 7), timer(4, 0)],
            _ => {}
        }
    }
    let (alarm, posix, profile) = (tick(14, KERNEL, 0), tick(40, TIMER, 3), tick(27, KERNEL, 0));
    // Sent by somebody; of a timer that is not armed any more; of one that is not there.
    let others = [tick(14, 0, 0), tick(40, TIMER, 4), profile];
    let all: Vec<Siginfo> = [alarm, posix].into_iter().chain(others).collect();
    let waiting = |waited: [Vec<Siginfo>; 2]| {
        let mut process = process.clone();
        let last = LastLook { own: vec![posix], shared: all.clone(), waited, stopped: None, first: Some(()) };
        process.conclude(&[&last]).unwrap();
        let found = process.threads[0].states.iter().find_map(|s| match s {
            ThreadState::Signal(signal) => Some((signal.pending.clone(), signal.process_pending.clone())),
            _ => None,
        });
        found.expect("it has signals")
    };
    let none = Vec::new;
    assert_eq!(waiting([none(), none()]), (vec![], others.to_vec()));
    // What waited when it was stopped is its own.
    assert_eq!(waiting([vec![posix], vec![alarm]]), (vec![posix], [&[alarm], &others[..]].concat()));
}

#[test]
fn whose_stop_was_heard() {
    let mut sample = Recorded::sample("sleep");
    assert_eq!(capture::<Stops>(&sample).unwrap().heard, [0; 0]);
    sample.stopped_children = vec![21, 22, 23];
    sample.answer(Sys::Waitid, &[1, 21], Ok(0), vec![vec![0; 128]]);
    sample.answer(Sys::Waitid, &[1, 22], Ok(0), vec![vec![17]]);
    sample.answer(Sys::Waitid, &[1, 23], Err(Errno::ECHILD), vec![vec![0; 128]]);
    assert_eq!(capture::<Stops>(&sample).unwrap().heard, [21]);
}

#[test]
fn descriptors_of_every_kind() {
    let mut sample = Recorded::sample("python");
    sample.peeked.insert(5, vec![(b"hello".to_vec(), false)]);
    let described = |fd| describe(&sample, fd).unwrap();
    let null = Chardev { path: Text(b"/dev/null".to_vec()), flags: 0o100002, name: None, removed: None };
    assert_eq!(described(10), Description::Chardev(null));
    assert_eq!(described(7), Description::Eventfd(Eventfd { count: 5, semaphore: true, flags: 2 }));
    let usr = Directory { path: Text(b"/usr".to_vec()), flags: 0o300000, position: 0, removed: None, in_proc: false };
    assert_eq!(described(8), Description::Directory(usr));
    let bin = OPath {
        path: Text(b"/usr/bin".to_vec()),
        flags: 0o10000000,
        file_type: 0o040000,
        removed: None,
        in_proc: false,
    };
    assert_eq!(described(9), Description::OPath(bin));
    let pipe = sample.stats["fd/5"].ino;
    let waiting = vec![Blob(b"hello".to_vec())];
    assert_eq!(
        described(5),
        Description::PipeEnd(PipeEnd {
            pipe,
            flags: 0,
            capacity: 65536,
            waiting,
            path: None,
            quiet: false,
            outside: false,
            packets: None,
        })
    );
    let writer = PipeEnd {
        pipe,
        flags: 1,
        capacity: 65536,
        waiting: vec![],
        path: None,
        quiet: false,
        outside: false,
        packets: None,
    };
    assert_eq!(described(6), Description::PipeEnd(writer));
}

#[test]
fn a_file_is_kept_when_it_has_no_name_or_when_asked() {
    let mut sample = Recorded::sample("python");
    // A small one that the program writes is kept unasked.
    const LARGE: i64 = 2 << 20;
    sample.stats.get_mut("fd/1").expect("it is there").size = LARGE;
    let kept = |keep: Keep| {
        let mut files = Files::default();
        let mut from = Capturing { probe: &sample, files: &mut files, keep, notes: &mut Vec::new() };
        Description::capture(&sample.seen(1), &mut from).unwrap();
        Description::capture(&sample.seen(3), &mut from).unwrap();
        files.list.values().map(|f| (f.path.to_string(), f.contents.is_some(), f.size)).collect::<Vec<_>>()
    };
    let gone = sample.seen(3).link.to_string();
    let gone = gone.strip_suffix(" (deleted)").unwrap().to_owned();
    assert_eq!(kept(Keep::default()), [("/tmp/out".to_owned(), false, LARGE as u64), (gone.clone(), true, 9000)]);
    let all = kept(Keep { files: true, ..Keep::default() });
    assert_eq!(all, [("/tmp/out".to_owned(), true, LARGE as u64), (gone, true, 9000)]);
}

#[test]
fn a_name_that_ends_like_a_deleted_one() {
    let mut sample = Recorded::sample("sleep");
    let odd = b"/tmp/out (deleted)".to_vec();
    let stat = sample.stats["fd/1"];
    sample.links.insert("fd/1".into(), odd.clone());
    sample.paths.insert(odd.clone(), stat);
    let mut files = Files::default();
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut Vec::new() };
    Description::capture(&sample.seen(1), &mut from).unwrap();
    let file = files.list.values().next().unwrap();
    assert_eq!((&file.path.0, file.is_gone()), (&odd, false));
}

#[test]
fn a_file_whose_name_belongs_to_another_one_now_is_gone() {
    let mut sample = Recorded::sample("sleep");
    sample.paths.get_mut(&b"/tmp/out"[..]).expect("it is there").ino += 1;
    let mut files = Files::default();
    let mut from = Capturing { probe: &sample, files: &mut files, keep: Keep::default(), notes: &mut Vec::new() };
    Description::capture(&sample.seen(1), &mut from).unwrap();
    assert!(files.list[&1].is_gone() && files.list[&1].contents.is_some());
}

#[test]
fn with_libs_every_mapped_file_is_kept() {
    let sample = Recorded::sample("sleep");
    let files = |libs| capture_all(&sample, Keep { libs, ..Keep::default() }).unwrap().files;
    let mapped = |libs| files(libs).into_values().filter(|f| f.path.0 != b"/tmp/out");
    let kept = |libs| mapped(libs).filter(|f| f.contents.is_some()).count();
    assert_eq!(kept(false), 0);
    assert!(kept(true) >= 3, "the program, the library, the loader");
}

#[test]
fn a_whole_deleted_file_where_it_may_be_looked_at() {
    let mut sample = Recorded::sample("python");
    sample.links.retain(|name, _| name != "fd/3" && name != "fd/4");
    let contents = |sample: &Recorded| {
        let files = capture_all(sample, Keep::default()).unwrap().files;
        let gone = files.into_values().find(|f| f.is_gone()).unwrap();
        (gone.size, gone.contents.unwrap().iter().map(|e| (e.at, e.len)).collect::<Vec<_>>())
    };
    // Without the right to look, what the areas show.
    assert_eq!(contents(&sample), (8192, vec![(0, 4096)]));
    let area = abi::proc::smaps(&sample.texts["smaps"]).unwrap();
    let area = area.iter().find(|a| a.name.starts_with(b"/tmp/#")).unwrap();
    let stat = abi::layout::FileStat { size: 9000, mode: 0o100600, ino: area.inode, ..Default::default() };
    sample.stats.insert(format!("map_files/{:x}-{:x}", area.start, area.end), stat);
    sample.link_contents = Some(());
    assert_eq!(contents(&sample), (9000, vec![(0, 12288)]));
}

#[test]
fn an_address_space() {
    let mut sample = Recorded::sample("sleep");
    sample.locks_new_areas = Some(());
    let space = capture::<Space>(&sample).unwrap();
    let seen = abi::proc::smaps(&sample.texts["smaps"]).unwrap();
    let stat = abi::proc::stat(&sample.texts["stat"]).unwrap();
    assert!(space.lock_future);
    assert_eq!(space.marks.brk, (stat.start_brk, 0x5555_0000_0000));
    assert_eq!(space.marks.stack, stat.start_stack);
    assert_eq!(space.areas.first().unwrap().start, seen[0].start);
    assert!(space.areas.is_sorted_by(|a, b| a.end <= b.start));
    let bytes: u64 = space.areas.iter().map(|a| a.len()).sum();
    let kernel: u64 = space.kernel_areas.iter().map(|a| a.len).sum();
    let all: u64 = seen.iter().filter(|a| a.name != b"[vsyscall]").map(|a| a.len()).sum();
    assert_eq!(bytes + kernel, all, "every byte is in some area");
}
