//! Seccomp: strict mode, and filters of system calls. A call that a filter answers with an error tells that it is there.

use crate::kin::{self, Kin};
use crate::life::Living;
use crate::sys::{self, Outcome, must, same};
use libc::sock_filter;
use std::sync::mpsc;

/// linux/seccomp.h.
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const SET_MODE_FILTER: u64 = 1;
const TSYNC: u64 = 1;

fn returns(what: u32) -> sock_filter {
    sock_filter { code: 0x06, jt: 0, jf: 0, k: what }
}

/// These calls get these answers, all others the last.
fn filter(answers: &[(i64, u32)], others: u32) -> Vec<sock_filter> {
    // The number of the call is the first word.
    let mut all = vec![sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 }];
    for (call, what) in answers {
        all.extend([sock_filter { code: 0x15, jt: 0, jf: 1, k: *call as u32 }, returns(*what)]);
    }
    all.push(returns(others));
    all
}

/// A filter that has one call fail with this error.
fn fails(call: i64, errno: u32) -> Vec<sock_filter> {
    filter(&[(call, ERRNO | errno)], ALLOW)
}

fn install(mut filter: Vec<sock_filter>, flags: u64) -> Outcome {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions live as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    same("seccomp", &0, &must("seccomp", result)?)
}

/// From here on the kernel does not know later system calls than those of Linux 6.1, nor what came to these three since, for which every
/// freeze asks.
pub(crate) fn older() -> Outcome {
    /// The first system call that came later (cachestat(2), Linux 6.5).
    const FIRST_CALL: u32 = 451;
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const GET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4211;
    const PIDFD_THREAD: u32 = libc::O_EXCL as u32;
    // Where in `struct seccomp_data` the halves of the arguments stand that say what is asked for.
    let [number, first, second] = [0, 16, 24];
    let load = |at| sock_filter { code: 0x20, jt: 0, jf: 0, k: at };
    let jump = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let (is, is_least, has) = (0x15, 0x35, 0x45);
    let asks = |call: i64, at, how, what, errno| {
        let answer = [load(at), jump(how, what, 0, 1), returns(ERRNO | errno as u32), returns(ALLOW)];
        [&[jump(is, call as u32, 0, 4)][..], &answer].concat()
    };
    let calls = [
        asks(libc::SYS_ioctl, second, is, PAGEMAP_SCAN, libc::ENOTTY),
        asks(libc::SYS_ptrace, first, is, GET_SYSCALL_USER_DISPATCH_CONFIG, libc::EIO),
        asks(libc::SYS_pidfd_open, second, has, PIDFD_THREAD, libc::EINVAL),
    ];
    let later = [jump(is_least, FIRST_CALL, 0, 1), returns(ERRNO | libc::ENOSYS as u32), returns(ALLOW)];
    install([&[load(number)][..], &calls.concat(), &later].concat(), 0)
}

fn no_new_privs() -> Outcome {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// With which error a call without arguments fails; 0: it does not.
fn error_of(call: i64) -> i32 {
    // SAFETY: the calls used here take nothing.
    if unsafe { libc::syscall(call) } == -1 { sys::errno() } else { 0 }
}

/// A child that may do next to nothing, so that it neither allocates nor waits for anything but a byte.
struct Prisoner {
    pid: i32,
    ask: i32,
    hear: i32,
}

/// What a prisoner answers where its call does not fail.
const FREE: u8 = 200;

impl Prisoner {
    /// It locks itself up, and answers each byte by what it sees then.
    fn new(lock: impl FnOnce() -> Outcome, sees: fn() -> u8) -> Result<Prisoner, String> {
        let (questions, answers) = (kin::pipe()?, kin::pipe()?);
        let pid = kin::fork()?;
        if pid == 0 {
            [questions[1], answers[0]].into_iter().for_each(sys::close);
            if lock().is_err() {
                kin::exit(1);
            }
            let mut byte = [0];
            loop {
                // SAFETY: one byte of ours.
                if unsafe { libc::write(answers[1], (&raw const byte).cast(), 1) } != 1 {
                    kin::exit(2);
                }
                // SAFETY: likewise.
                if unsafe { libc::read(questions[0], (&raw mut byte).cast(), 1) } != 1 {
                    kin::exit(3);
                }
                byte[0] = sees();
            }
        }
        [questions[0], answers[1]].into_iter().for_each(sys::close);
        let prisoner = Prisoner { pid, ask: questions[1], hear: answers[0] };
        prisoner.says(0)?;
        Ok(prisoner)
    }

    fn says(&self, expected: u8) -> Outcome {
        sys::soon("an answer of the child", || sys::readable(self.hear))?;
        same("what the child says", &vec![expected], &sys::read_up_to(self.hear, 1)?)
    }

    fn asked(&self, expected: u8) -> Outcome {
        sys::write(self.ask, &[1])?;
        self.says(expected)
    }

    /// Its mode, and how many filters it has, as the kernel tells.
    fn has(&self, mode: &str, filters: &str) -> Outcome {
        let text = sys::fine("status", std::fs::read_to_string(format!("/proc/{}/status", self.pid)))?;
        let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default();
        same("mode and filters of the child", &(mode, filters), &(line("Seccomp:"), line("Seccomp_filters:")))
    }
}

/// It may read, write, return from a signal, and exit.
pub(crate) fn strict(_: &[String]) -> Result<Living, String> {
    let lock = || sys::prctl(libc::PR_SET_SECCOMP, [1, 0, 0, 0]).map(drop);
    let child = Prisoner::new(lock, || FREE)?;
    Living::reads(move |_| child.asked(FREE).and_then(|()| child.has("1", "0")))
}

const ERRNO_OF_PRISONER: u32 = 42;

/// It may read and write, one call fails, and all others kill: also those that close and unmap, and that set the mask.
pub(crate) fn hard(_: &[String]) -> Result<Living, String> {
    let child = Prisoner::new(
        || {
            no_new_privs()?;
            let answers =
                [(libc::SYS_read, ALLOW), (libc::SYS_write, ALLOW), (libc::SYS_getppid, ERRNO | ERRNO_OF_PRISONER)];
            install(filter(&answers, KILL_PROCESS), 0)
        },
        || error_of(libc::SYS_getppid) as u8,
    )?;
    Living::reads(move |_| child.asked(ERRNO_OF_PRISONER as u8).and_then(|()| child.has("2", "1")))
}

/// It may sleep, but not by the call by which the kernel goes on with an interrupted sleep.
pub(crate) fn sleeper(_: &[String]) -> Result<Living, String> {
    let beats = kin::pipe()?;
    if kin::fork()? == 0 {
        sys::close(beats[0]);
        let answers = [(libc::SYS_nanosleep, ALLOW), (libc::SYS_write, ALLOW)];
        if no_new_privs().and_then(|()| install(filter(&answers, KILL_PROCESS), 0)).is_err() {
            kin::exit(1);
        }
        let time = libc::timespec { tv_sec: 0, tv_nsec: 300_000_000 };
        loop {
            // SAFETY: a time and a byte of ours.
            unsafe {
                libc::write(beats[1], (&raw const time).cast(), 1);
                libc::syscall(libc::SYS_nanosleep, &raw const time, 0);
            }
        }
    }
    sys::close(beats[1]);
    sys::soon("a child with a filter", || sys::readable(beats[0]))?;
    Living::reads(move |_| {
        // What it wrote so far, and then what it writes.
        for _ in 0..2 {
            sys::soon("a sign of the child", || sys::readable(beats[0]))?;
            if sys::read_up_to(beats[0], 4096)?.is_empty() {
                return Err("the child is gone".into());
            }
        }
        Ok(())
    })
}

/// Threads that tell with which errors calls fail in them.
struct Workers(Vec<(mpsc::Sender<()>, mpsc::Receiver<Errors>)>);

/// One for each call that is asked about.
type Errors = Result<Vec<i32>, String>;

/// The calls that are asked about.
const CALLS: [i64; 3] = [libc::SYS_getppid, libc::SYS_getpgrp, libc::SYS_getuid];

fn errors() -> Vec<i32> {
    CALLS.into_iter().map(error_of).collect()
}

impl Workers {
    fn new(count: u32, set_up: fn(u32) -> Outcome) -> Result<Workers, String> {
        let work = |number| {
            let ((ask, asked), (tell, hear)) = (mpsc::channel(), mpsc::channel());
            std::thread::spawn(move || {
                let _ = tell.send(set_up(number).map(|()| errors()));
                while asked.recv().is_ok() {
                    let _ = tell.send(Ok(errors()));
                }
            });
            (ask, hear)
        };
        let workers = Workers((0..count).map(work).collect());
        workers.hear().map(|_| workers)
    }

    fn hear(&self) -> Result<Vec<Vec<i32>>, String> {
        let patience = std::time::Duration::from_secs(3);
        self.0.iter().map(|(_, hear)| hear.recv_timeout(patience).map_err(|e| e.to_string())?).collect()
    }

    fn tell(&self) -> Result<Vec<Vec<i32>>, String> {
        self.0.iter().try_for_each(|(ask, _)| ask.send(())).map_err(|e| e.to_string())?;
        self.hear()
    }
}

/// All threads have two filters that one of them installed, and it can install a further one for all.
pub(crate) fn synced(_: &[String]) -> Result<Living, String> {
    no_new_privs()?;
    let workers = Workers::new(3, |_| Ok(()))?;
    install(fails(CALLS[0], 41), TSYNC)?;
    install(fails(CALLS[1], 42), TSYNC)?;
    let mut expected = vec![41, 42, 0];
    Living::reads(move |_| {
        same("errors", &expected, &errors())?;
        same("errors of the threads", &vec![expected.clone(); 3], &workers.tell()?)?;
        install(fails(CALLS[2], 43), TSYNC)?;
        expected[2] = 43;
        same("errors of the threads, afterwards", &vec![expected.clone(); 3], &workers.tell()?)
    })
}

/// All have one in common, each thread but the first has one or two of its own.
pub(crate) fn apart(_: &[String]) -> Result<Living, String> {
    no_new_privs()?;
    install(fails(CALLS[0], 41), 0)?;
    let workers = Workers::new(3, |number| {
        install(fails(CALLS[1], 50 + number), 0)?;
        if number > 0 { install(fails(CALLS[2], 60 + number), 0) } else { Ok(()) }
    })?;
    Living::reads(move |_| {
        same("errors", &vec![41, 0, 0], &errors())?;
        same("of threads", &vec![vec![41, 50, 0], vec![41, 51, 61], vec![41, 52, 62]], &workers.tell()?)
    })
}

/// A thread is filtered, and the first one is not.
pub(crate) fn one_thread(_: &[String]) -> Result<Living, String> {
    let workers = Workers::new(2, |number| match number {
        0 => no_new_privs().and_then(|()| install(fails(CALLS[0], 41), 0)),
        _ => Ok(()),
    })?;
    Living::reads(move |_| {
        same("errors", &vec![0, 0, 0], &errors())?;
        same("of threads", &vec![vec![41, 0, 0], vec![0, 0, 0]], &workers.tell()?)
    })
}

/// Of two that say something else of the same call the later one counts; a child has both, and one of its own.
pub(crate) fn inherited(_: &[String]) -> Result<Living, String> {
    no_new_privs()?;
    install(fails(CALLS[0], 41), 0)?;
    install(fails(CALLS[1], 42), 0)?;
    let answer =
        |question: &str| if question == "errors" { Ok(format!("{:?}", errors())) } else { kin::obey(question) };
    let child: Kin = kin::child(|| install(fails(CALLS[2], 43), 0).map(|()| answer))?;
    Living::reads(move |_| {
        same("errors", &vec![41, 42, 0], &errors())?;
        child.says("errors", "[41, 42, 43]")
    })
}

/// Installed by root, who then became somebody else, with nothing that would let him install one.
pub(crate) fn dropped(_: &[String]) -> Result<Living, String> {
    install(fails(CALLS[0], 41), 0)?;
    // SAFETY: integers only.
    unsafe {
        must("setresgid", libc::syscall(libc::SYS_setresgid, 61_001, 61_001, 61_001))?;
        must("setresuid", libc::syscall(libc::SYS_setresuid, 61_001, 61_001, 61_001))?;
    }
    let lines = || Ok::<_, String>([sys::status("Uid")?, sys::status("CapEff")?, sys::status("NoNewPrivs")?]);
    let expected = lines()?;
    Living::reads(move |_| {
        same("errors", &vec![41, 0, 0], &errors())?;
        same("credentials", &expected, &lines()?)
    })
}
