//! What a seized process tells, and what may happen to it from outside meanwhile.

mod common;

use abi::{Arg, Call, Sys};
use common::{Kind, Shared, Victim, eventually, fork_freezer, kill, reap};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tracee::{EnvoyError, Process, Queue, SeizeError};

fn signal(pid: i32, signal: i32) {
    // SAFETY: kill reads no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

#[test]
fn registers_and_memory_are_those_of_the_process() {
    let victim = Victim::start(Kind::Nanosleep);
    let process = Process::seize(victim.pid).unwrap();
    let thread = &process.threads()[0];
    assert_eq!((thread.tid(), process.threads().len()), (victim.pid, 1));
    assert_eq!(thread.sigmask(), 1 << (libc::SIGUSR2 - 1));
    assert_eq!(thread.group_stop(), None);
    assert!(thread.xstate().len() >= 576);
    // It was forked: static data has the same address there.
    static MARK: [u8; 16] = *b"sixteen in a row";
    let (at, mut one, mut other) = (MARK.as_ptr().addr() as u64, [0; 16], [0; 7]);
    process.memory().read(at, &mut one).unwrap();
    assert_eq!(one, MARK);
    one = [0; 16];
    process.memory().read_vectored(&mut [(at, &mut one), (at + 4, &mut other)]).unwrap();
    assert_eq!((one, &other), (MARK, b"een in "));
    assert!(process.memory().read(16, &mut one).is_err(), "nothing is mapped at 16");
}

#[test]
fn memory_that_the_process_itself_may_not_read_is_read() {
    let (rw, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping; three bytes are written into it, then it is only looked at by others.
    let at = unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 3 * 4096, rw, private, -1, 0).cast::<u8>();
        (0..3).for_each(|page| at.add(page * 4096).write(7 + page as u8));
        libc::mprotect(at.add(4096).cast(), 4096, libc::PROT_NONE);
        at.addr() as u64
    };
    let victim = Victim::start(Kind::Read);
    let process = Process::seize(victim.pid).unwrap();
    let mut bytes = [[0u8; 1]; 3];
    let mut pieces: Vec<(u64, &mut [u8])> =
        bytes.iter_mut().enumerate().map(|(i, b)| (at + 4096 * i as u64, &mut b[..])).collect();
    process.memory().read_vectored(&mut pieces).unwrap();
    assert_eq!(bytes, [[7], [8], [9]]);
}

#[test]
fn calls_take_and_give_memory() {
    let victim = Victim::start(Kind::Poll);
    let mut process = Process::seize(victim.pid).unwrap();
    let mut envoy = process.envoy(0).unwrap();
    let path = b"/proc/self/status\0".to_vec();
    let flags = Arg::Int(libc::O_CLOEXEC as u64);
    let open = Call::new(Sys::Openat, [Arg::Int(libc::AT_FDCWD as u64), Arg::Bytes(path), flags, 0.into()]);
    let fd = envoy.calls(&[open]).unwrap()[0].result.unwrap();
    let read = Call::new(Sys::Read, [fd.into(), Arg::Out(300_000), 300_000.into()]);
    let missing = Call::new(Sys::Close, [Arg::Int(999)]);
    // More than fits into the arena at once.
    let answers = envoy.calls(&[read.clone(), read.clone(), read.clone(), read, missing]).unwrap();
    let text = String::from_utf8_lossy(&answers[0].out[0]).into_owned();
    assert!(text.contains(&format!("Pid:\t{}\n", victim.pid)), "{text}");
    assert_eq!(answers[3].result, Ok(0), "the end of the file");
    assert_eq!(answers[4].result, Err(abi::Errno::EBADF));
    assert_eq!(envoy.calls(&[Call::new(Sys::Clone, [])]), Err(EnvoyError::Forbidden(Sys::Clone)));
    assert_eq!(envoy.calls(&[Call::new(Sys::Close, [fd.into()])]).unwrap()[0].result, Ok(0));
    envoy.leave().unwrap();
    process.release().unwrap();
    victim.assert_goes_on("calls");
    victim.assert_clean("calls");
}

#[test]
fn who_is_let_go_before_anybody_has_looked_goes_on_with_his_call() {
    let victim = Victim::start(Kind::Epoll);
    for _ in 0..20 {
        drop(tracee::Caught::catch(victim.pid).unwrap());
        std::thread::sleep(Duration::from_millis(3));
    }
    victim.assert_goes_on("let go");
    victim.assert_clean("let go");
}

#[test]
fn descriptors_are_shared_not_opened_again() {
    let victim = Victim::start(Kind::Read);
    let process = Process::seize(victim.pid).unwrap();
    let ours = process.descriptor(0).unwrap();
    let me = std::process::id() as i32;
    let order = tracee::sys::kcmp_file((victim.pid, 0), (me, ours.as_raw_fd())).unwrap();
    assert!(order.is_eq());
    assert!(process.descriptor(9999).is_err());
}

#[test]
fn pending_signals_are_told_and_stay() {
    let victim = Victim::start(Kind::Nanosleep);
    signal(victim.pid, libc::SIGUSR2);
    let process = Process::seize(victim.pid).unwrap();
    for _ in 0..2 {
        let pending = process.threads()[0].pending(Queue::Process).unwrap();
        assert_eq!(pending.iter().map(|s| s[0]).collect::<Vec<_>>(), [libc::SIGUSR2 as u8]);
    }
    assert!(process.threads()[0].pending(Queue::Thread).unwrap().is_empty());
}

#[test]
fn a_stop_from_outside_takes_effect_at_the_release() {
    for kind in [Kind::Nanosleep, Kind::Busy, Kind::Read] {
        let victim = Victim::start(kind);
        let mut process = Process::seize(victim.pid).unwrap();
        let mut envoy = process.envoy(0).unwrap();
        signal(victim.pid, libc::SIGSTOP);
        for _ in 0..20 {
            let answers = envoy.calls(&vec![Call::new(Sys::Getpid, []); 100]).unwrap();
            assert!(answers.iter().all(|a| a.result == Ok(victim.pid as u64)));
            std::thread::sleep(Duration::from_micros(200));
        }
        envoy.leave().unwrap();
        assert_eq!(process.threads()[0].group_stop(), Some(libc::SIGSTOP));
        process.release().unwrap();
        assert!(eventually(|| victim.state() == 'T'), "{kind:?}: stopped, not {}", victim.state());
        signal(victim.pid, libc::SIGCONT);
        victim.assert_goes_on("a stop from outside");
        victim.assert_clean("a stop from outside");
        assert_eq!(victim.eintr(), 0, "{kind:?}");
    }
}

#[test]
fn a_stopped_process_may_be_continued_while_it_is_held() {
    let victim = Victim::start(Kind::Stopped);
    let mut process = Process::seize(victim.pid).unwrap();
    assert_eq!(process.threads()[0].group_stop(), Some(libc::SIGSTOP));
    let mut envoy = process.envoy(0).unwrap();
    signal(victim.pid, libc::SIGCONT);
    envoy.calls(&[Call::new(Sys::Getpid, [])]).unwrap();
    envoy.leave().unwrap();
    process.release().unwrap();
    assert!(eventually(|| victim.state() == 'R'), "it runs, not {}", victim.state());
}

#[test]
fn the_death_of_the_process_is_told() {
    let victim = Victim::start(Kind::Threads);
    let mut process = Process::seize(victim.pid).unwrap();
    let mut envoy = process.envoy(1).unwrap();
    kill(victim.pid);
    let told = envoy.calls(&vec![Call::new(Sys::Getpid, []); 100]);
    assert_eq!(told, Err(EnvoyError::Died { pid: victim.pid }));
    let begin = Instant::now();
    drop(envoy);
    drop(process);
    assert!(begin.elapsed() < Duration::from_secs(2), "nobody waits for the dead");
    assert_eq!(reap(victim.pid), 128 + libc::SIGKILL);
}

#[test]
fn kill_leaves_nothing_running() {
    let shared = Shared::new();
    let victim = Victim::start(Kind::Threads);
    // By a freezer that is no relative of it, as is usual; so it is left to its parent to be reaped.
    let freezer = fork_freezer(|| {
        let ended = Process::seize(victim.pid).unwrap().kill().is_ok();
        shared.flag.store(u64::from(ended), SeqCst);
        0
    });
    reap(freezer);
    assert_eq!(shared.flag.load(SeqCst), 1);
    assert_eq!(Process::seize(victim.pid).unwrap_err(), SeizeError::Zombie { pid: victim.pid });
    assert_eq!(reap(victim.pid), 128 + libc::SIGKILL);
    assert_eq!(Process::seize(victim.pid).unwrap_err(), SeizeError::Died { pid: victim.pid });
}

#[test]
fn a_parent_hears_of_the_end_when_we_say_so() {
    let shared = Shared::new();
    let victim = Victim::start(Kind::Threads);
    let freezer = fork_freezer(|| {
        let ended = Process::seize(victim.pid).unwrap().kill().unwrap();
        shared.flag.store(1, SeqCst);
        while shared.flag.load(SeqCst) == 1 {
            std::thread::yield_now();
        }
        drop(ended);
        0
    });
    assert!(eventually(|| shared.flag.load(SeqCst) == 1));
    assert_eq!(victim.state(), 'Z');
    // SAFETY: nothing is written.
    let heard = unsafe { libc::waitpid(victim.pid, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(heard, 0);
    shared.flag.store(2, SeqCst);
    assert_eq!((reap(victim.pid), reap(freezer)), (128 + libc::SIGKILL, 0));
}

#[test]
fn a_traced_process_is_left_alone() {
    let victim = Victim::start(Kind::Busy);
    let ready = Shared::new();
    let tracer = fork_freezer(|| {
        let process = Process::seize(victim.pid);
        ready.flag.store(1, SeqCst);
        std::thread::sleep(Duration::from_secs(20));
        drop(process);
        0
    });
    assert!(eventually(|| ready.flag.load(SeqCst) == 1));
    assert_eq!(Process::seize(victim.pid).unwrap_err(), SeizeError::Traced { by: tracer });
    kill(tracer);
    reap(tracer);
    victim.assert_goes_on("the death of its tracer");
}

#[test]
fn a_leader_that_has_ended_does_not_matter() {
    let shared = Shared::new();
    let pid = fork_freezer(|| {
        std::thread::spawn(|| {
            loop {
                shared.beats[0].fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // SAFETY: ends this thread only.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        0
    });
    assert!(eventually(|| shared.beats[0].load(SeqCst) > 5));
    let mut process = Process::seize(pid).unwrap();
    assert!(process.leader_has_ended());
    assert_eq!(process.threads().len(), 1);
    let answers = process.envoy(0).unwrap().calls(&[Call::new(Sys::Getpid, [])]).unwrap();
    assert_eq!(answers[0].result, Ok(pid as u64));
    drop(process);
    let then = shared.beats[0].load(SeqCst);
    assert!(eventually(|| shared.beats[0].load(SeqCst) > then + 5));
    kill(pid);
    reap(pid);
}

#[test]
fn a_full_descriptor_table_is_told_and_left_as_it_is() {
    let shared = Shared::new();
    let pid = fork_freezer(|| {
        let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
        // SAFETY: the limit is borrowed for the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        while let Ok(file) = std::fs::File::open("/dev/null") {
            let _ = file.into_raw_fd();
        }
        // One is left: the memfd goes there, and the socket fails.
        // SAFETY: the last one that was opened.
        unsafe { libc::close(39) };
        loop {
            shared.beats[0].fetch_add(1, SeqCst);
        }
    });
    assert!(eventually(|| shared.beats[0].load(SeqCst) > 5));
    let mut process = Process::seize(pid).unwrap();
    let told = process.envoy(0).map(drop);
    assert!(matches!(&told, Err(EnvoyError::Setup(f)) if f.errno == abi::Errno::EMFILE), "{told:?}");
    process.release().unwrap();
    let then = shared.beats[0].load(SeqCst);
    assert!(eventually(|| shared.beats[0].load(SeqCst) > then + 5));
    assert!(!std::fs::exists(format!("/proc/{pid}/fd/39")).unwrap());
    kill(pid);
    reap(pid);
}

#[test]
fn a_seccomp_filter_is_suspended_by_root_only() {
    let shared = Shared::new();
    let pid = fork_freezer(|| {
        // SAFETY: a filter of one instruction that kills at any call, borrowed for the call.
        unsafe {
            let mut kill = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
            let program = libc::sock_fprog { len: 1, filter: &raw mut kill };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program);
        }
        loop {
            shared.beats[0].fetch_add(1, SeqCst);
        }
    });
    assert!(eventually(|| shared.beats[0].load(SeqCst) > 5));
    let mut process = Process::seize(pid).unwrap();
    // SAFETY: takes nothing.
    match unsafe { libc::geteuid() } {
        0 => {
            let filter = abi::seccomp::Filter { program: vec![6, 0, 0, 0, 0, 0, 0, 0], log: false };
            assert_eq!(process.threads()[0].filters(), [filter]);
            let mut envoy = process.envoy(0).unwrap();
            let answers = envoy.calls(&[Call::new(Sys::Getpid, [])]).unwrap();
            assert_eq!(answers[0].result, Ok(pid as u64));
            envoy.leave().unwrap();
        }
        _ => assert_eq!(process.envoy(0).map(drop), Err(EnvoyError::Seccomp)),
    }
    drop(process);
    let then = shared.beats[0].load(SeqCst);
    assert!(eventually(|| shared.beats[0].load(SeqCst) > then + 5));
    kill(pid);
    reap(pid);
}
