//! Victims: children of the test that do one thing for ever and check themselves.
#![allow(dead_code, unreachable_pub)]

use std::arch::global_asm;
use std::ffi::c_void;
use std::fs;
use std::io::Error;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tracee::{EnvoyError, Process, SeizeError};

/// What a victim does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Computes, with every register, the red zone and the flags in use.
    Busy,
    Nanosleep,
    ClockNanosleep,
    Poll,
    Futex,
    Epoll,
    /// Reads from a pipe that is never written to.
    Read,
    /// Computes, and is stopped by SIGSTOP while the freezer works.
    Stopped,
    /// Arms a timer for one signal and waits for it in sigsuspend: a lost wakeup is the end.
    Sigsuspend,
    /// Waits in pause for a timer's signals.
    Pause,
    /// Reads from a socket that a child thread writes to, with signals whose handler has SA_RESTART.
    RestartedRead,
    /// Reads from an empty pipe, with signals whose handler has not.
    InterruptedRead,
    /// Three threads: computes, sleeps, waits for a futex.
    Threads,
    /// More threads than are guests at once: makes and closes descriptors, computes, and all others wait for a futex.
    Crowd,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Busy,
        Kind::Nanosleep,
        Kind::ClockNanosleep,
        Kind::Poll,
        Kind::Futex,
        Kind::Epoll,
        Kind::Read,
        Kind::Stopped,
        Kind::Sigsuspend,
        Kind::Pause,
        Kind::RestartedRead,
        Kind::InterruptedRead,
        Kind::Threads,
        Kind::Crowd,
    ];

    /// How many threads it has.
    fn threads(self) -> usize {
        match self {
            Kind::Threads => 3,
            Kind::Crowd => CROWD,
            _ => 1,
        }
    }
}

/// Threads of a crowd.
const CROWD: usize = 70;

/// What victim and test share.
#[repr(C)]
pub struct Shared {
    /// Rounds of each of its threads.
    pub beats: [AtomicU64; CROWD],
    pub errors: AtomicU64,
    /// Where the last error was found.
    pub line: AtomicU64,
    /// Calls that ended with EINTR without a handler.
    pub eintr: AtomicU64,
    /// Handlers that ran.
    pub signals: AtomicU64,
    /// Anything.
    pub flag: AtomicU64,
}

impl Shared {
    pub fn new() -> &'static Shared {
        let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping of zeroes, which are a valid `Shared`, never unmapped.
        unsafe { &*libc::mmap(null_mut(), size_of::<Shared>(), rw, shared, -1, 0).cast() }
    }

    fn error(&self, line: u32) {
        self.errors.fetch_add(1, SeqCst);
        self.line.store(u64::from(line), SeqCst);
    }
}

static SHARED: std::sync::atomic::AtomicPtr<Shared> = std::sync::atomic::AtomicPtr::new(null_mut());

/// How long the sleepers sleep.
pub const NAP: Duration = Duration::from_millis(20);

global_asm!(
    // victim_spin(pattern: rdi, out: rsi, loops: rdx, avx512: rcx) -> errors
    ".pushsection .text",
    "victim_spin:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15; push rcx",
    "test rcx, rcx",
    "jz 2f",
    ".altmacro",
    ".set i, 0",
    ".rept 32",
    ".macro victim_load n",
    "vmovdqu64 zmm\\n, [rdi + \\n*64]",
    ".endm",
    "victim_load %i",
    ".purgem victim_load",
    ".set i, i+1",
    ".endr",
    "kmovq k1, [rdi]; kmovq k5, [rdi + 8]; kmovq k7, [rdi + 16]",
    "2:",
    "mov rcx, rdx",
    "movabs rax, 0x0122334455667788; movabs rbx, 0x1122334455667788; movabs rdx, 0x2122334455667788",
    "movabs rbp, 0x3122334455667788; movabs r8, 0x4122334455667788; movabs r9, 0x5122334455667788",
    "movabs r10, 0x6122334455667788; movabs r11, 0x7122334455667788; movabs r12, 0x8122334455667788",
    "movabs r13, 0x9122334455667788; movabs r14, 0xa122334455667788; movabs r15, 0xb122334455667788",
    "mov [rsp - 8], r8; mov [rsp - 64], r9; mov [rsp - 128], r10",
    "std; stc",
    "3: dec rcx; jnz 3b",
    "setnc cl; movzx ecx, cl",
    // Each register against its value; rdi is checked by what is stored through it.
    ".macro victim_check reg, value",
    "mov rdi, \\value; cmp rdi, \\reg; je 4f; inc rcx; 4:",
    ".endm",
    "push rdi; pop rdi",
    "mov [rsi + 2048], rdi",
    "victim_check rax, 0x0122334455667788",
    "victim_check rbx, 0x1122334455667788",
    "victim_check rdx, 0x2122334455667788",
    "victim_check rbp, 0x3122334455667788",
    "victim_check r8, 0x4122334455667788",
    "victim_check r9, 0x5122334455667788",
    "victim_check r10, 0x6122334455667788",
    "victim_check r11, 0x7122334455667788",
    "victim_check r12, 0x8122334455667788",
    "victim_check r13, 0x9122334455667788",
    "victim_check r14, 0xa122334455667788",
    "victim_check r15, 0xb122334455667788",
    "cmp [rsp - 64], r9; je 4f; inc rcx; 4:",
    "cmp [rsp - 128], r10; je 4f; inc rcx; 4:",
    "pushfq; pop rdx; test edx, 0x400; jnz 4f; inc rcx; 4: cld",
    "pop rdx; test rdx, rdx",
    "jz 2f",
    ".set i, 0",
    ".rept 32",
    ".macro victim_store n",
    "vmovdqu64 [rsi + \\n*64], zmm\\n",
    ".endm",
    "victim_store %i",
    ".purgem victim_store",
    ".set i, i+1",
    ".endr",
    "kmovq [rsi + 2056], k1; kmovq [rsi + 2064], k5; kmovq [rsi + 2072], k7",
    "vzeroupper",
    "2:",
    "mov rax, rcx",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    ".popsection",
);

// SAFETY: the assembler above defines it, with these arguments and the calling convention of C.
unsafe extern "C" {
    fn victim_spin(pattern: *const u64, out: *mut u64, loops: u64, avx512: u64) -> u64;
}

fn spin(shared: &Shared, loops: u64) {
    const CONTROL: u32 = 0x7f80;
    let avx512 = std::is_x86_feature_detected!("avx512bw");
    let pattern: [u64; 256] = std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i as u64 + 1));
    let (mut out, mut mxcsr, mut cw) = ([0u64; 264], CONTROL, 0x0f7fu16);
    // SAFETY: the function keeps the calling convention; pattern has 32 * 64 bytes and out 32 more than that.
    let errors = unsafe {
        std::arch::asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const mxcsr, in(reg) &raw const cw);
        let errors = victim_spin(pattern.as_ptr(), out.as_mut_ptr(), loops, avx512.into());
        std::arch::asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mxcsr, in(reg) &raw mut cw);
        errors
    };
    let masks_right = out[257..260] == pattern[..3];
    if errors != 0 || mxcsr & !0x3f != CONTROL || cw != 0x0f7f {
        shared.error(line!());
    }
    if avx512 && (out[..256] != pattern || !masks_right) {
        shared.error(line!());
    }
}

extern "C" fn on_signal(_: i32) {
    // SAFETY: set once before the first signal, and never unmapped.
    unsafe { &*SHARED.load(SeqCst) }.signals.fetch_add(1, SeqCst);
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A call that is to sleep for `NAP` and then give `ok`.
fn nap(shared: &Shared, thread: usize, line: u32, call: impl FnOnce() -> bool) {
    let begin = Instant::now();
    let ok = call();
    if !ok && errno() == libc::EINTR {
        shared.eintr.fetch_add(1, SeqCst);
    } else if !ok || begin.elapsed() < NAP {
        shared.error(line);
    }
    shared.beats[thread].fetch_add(1, SeqCst);
}

fn timespec(d: Duration) -> libc::timespec {
    libc::timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) }
}

fn set_timer(first: u64, every: u64) {
    let tv = |us| libc::timeval { tv_sec: 0, tv_usec: us as i64 };
    let timer = libc::itimerval { it_interval: tv(every), it_value: tv(first) };
    // SAFETY: the timer is borrowed for the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut()) };
}

fn handle(flags: i32) {
    // SAFETY: zeroes are a valid sigaction; the handler only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGALRM, &raw const action, null_mut());
    }
}

/// Blocks SIGUSR2, and SIGALRM too for those that wait for it in sigsuspend.
fn block(kind: Kind) {
    // SAFETY: the set is initialised by sigemptyset.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR2);
        if kind == Kind::Sigsuspend {
            libc::sigaddset(&raw mut set, libc::SIGALRM);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, null_mut());
    }
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    ends
}

fn live(kind: Kind, shared: &'static Shared) -> ! {
    SHARED.store(std::ptr::from_ref(shared).cast_mut(), SeqCst);
    // SAFETY: prctl with numbers only. ANY: so that the test may run where yama restricts ptrace to ancestors.
    unsafe {
        libc::prctl(libc::PR_SET_PTRACER, u64::MAX);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    block(kind);
    let timed = shared.flag.load(SeqCst) == 0;
    let ends = pipe();
    // SAFETY: no memory of ours is read.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    match kind {
        Kind::Pause | Kind::Sigsuspend | Kind::InterruptedRead => handle(0),
        Kind::RestartedRead => handle(libc::SA_RESTART),
        Kind::Threads | Kind::Crowd => threads(shared, kind.threads()),
        _ => {}
    }
    let ticks = [Kind::Pause, Kind::RestartedRead, Kind::InterruptedRead];
    if timed && ticks.contains(&kind) {
        set_timer(1000, 1000);
    }
    loop {
        turn(kind, shared, ends, epoll);
    }
}

fn threads(shared: &'static Shared, count: usize) {
    std::thread::spawn(move || {
        loop {
            spin(shared, 300_000);
            shared.beats[1].fetch_add(1, SeqCst);
        }
    });
    for n in 2..count {
        let wait = move || {
            loop {
                futex(shared, n);
            }
        };
        std::thread::Builder::new().stack_size(1 << 16).spawn(wait).unwrap();
    }
}

fn futex(shared: &Shared, thread: usize) {
    let (word, time) = (0u32, timespec(NAP));
    let wait = || {
        // SAFETY: word and time live longer than the call.
        let r = unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, &raw const time, 0, 0) };
        r == -1 && errno() == libc::ETIMEDOUT
    };
    nap(shared, thread, line!(), wait);
}

fn turn(kind: Kind, shared: &Shared, ends: [i32; 2], epoll: i32) {
    let time = timespec(NAP);
    let ms = NAP.as_millis() as i32;
    // SAFETY: everything that is pointed to is local and lives longer than the calls.
    unsafe {
        match kind {
            Kind::Busy | Kind::Stopped => {
                spin(shared, 300_000);
                shared.beats[0].fetch_add(1, SeqCst);
            }
            Kind::Crowd => pipes(shared),
            Kind::Nanosleep | Kind::Threads => nap(shared, 0, line!(), || {
                libc::syscall(libc::SYS_nanosleep, &raw const time, null_mut::<c_void>()) == 0
            }),
            Kind::ClockNanosleep => nap(shared, 0, line!(), || {
                libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, 0) == 0
            }),
            Kind::Poll => nap(shared, 0, line!(), || {
                let mut poll = libc::pollfd { fd: ends[0], events: libc::POLLIN, revents: 0 };
                libc::poll(&raw mut poll, 1, ms) == 0
            }),
            Kind::Futex => futex(shared, 0),
            Kind::Epoll => nap(shared, 0, line!(), || {
                let mut event: libc::epoll_event = std::mem::zeroed();
                libc::epoll_wait(epoll, &raw mut event, 1, ms) == 0
            }),
            Kind::Read | Kind::RestartedRead => read(shared, ends[0]),
            Kind::InterruptedRead | Kind::Pause => signalled(shared, || {
                let mut byte = 0u8;
                match kind {
                    Kind::Pause => i64::from(libc::pause()),
                    _ => libc::read(ends[0], (&raw mut byte).cast(), 1) as i64,
                }
            }),
            Kind::Sigsuspend => {
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                if shared.flag.load(SeqCst) == 0 {
                    set_timer(1000, 0);
                }
                signalled(shared, || i64::from(libc::sigsuspend(&raw const none)));
                let mut after: libc::sigset_t = std::mem::zeroed();
                libc::sigprocmask(libc::SIG_BLOCK, null_mut(), &raw mut after);
                if libc::sigismember(&raw const after, libc::SIGALRM) != 1 {
                    shared.error(line!());
                }
            }
        }
    }
}

/// Pipes that come and go: nobody else reads what is in them.
fn pipes(shared: &Shared) {
    for _ in 0..1000 {
        let [read, write] = pipe();
        let mut bytes = *b"word";
        // SAFETY: the bytes live longer than the call.
        let written = unsafe { libc::write(write, bytes.as_ptr().cast(), 4) };
        // SAFETY: as above.
        let got = unsafe { libc::read(read, bytes.as_mut_ptr().cast(), 4) };
        if [written, got] != [4, 4] || bytes != *b"word" {
            shared.error(line!());
        }
        // SAFETY: they were opened just now.
        unsafe { [libc::close(read), libc::close(write)] };
    }
    std::thread::sleep(Duration::from_millis(1));
    shared.beats[0].fetch_add(1, SeqCst);
}

/// A read that nothing and nobody ends.
fn read(shared: &Shared, fd: i32) {
    shared.beats[0].fetch_add(1, SeqCst);
    let mut byte = 0u8;
    // SAFETY: the byte lives longer than the call.
    if unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } == -1 && errno() == libc::EINTR {
        shared.eintr.fetch_add(1, SeqCst);
    }
    shared.error(line!());
}

/// A call that ends with EINTR when, and only when, a handler has run.
fn signalled(shared: &Shared, call: impl FnOnce() -> i64) {
    let before = shared.signals.load(SeqCst);
    if call() != -1 || errno() != libc::EINTR {
        shared.error(line!());
    }
    if shared.signals.load(SeqCst) == before {
        shared.eintr.fetch_add(1, SeqCst);
    }
    shared.beats[0].fetch_add(1, SeqCst);
}

/// A running victim, and how it was before anybody touched it.
pub struct Victim {
    pub kind: Kind,
    pub pid: i32,
    pub shared: &'static Shared,
    clean: Traces,
}

/// What a freezer might leave behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traces {
    descriptors: Vec<String>,
    maps: usize,
    masks: Vec<String>,
    tracer: String,
}

fn status(pid: i32, tid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    text.lines().find(|l| l.starts_with(name)).unwrap_or("gone").to_owned()
}

fn names(path: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if path.ends_with("/fd") {
        names = names.iter().map(|n| format!("{n}={:?}", fs::read_link(format!("{path}/{n}")).ok())).collect();
    }
    names
}

impl Traces {
    pub fn of(pid: i32) -> Traces {
        let tids: Vec<i32> = names(&format!("/proc/{pid}/task")).iter().map(|n| n.parse().unwrap()).collect();
        Traces {
            descriptors: names(&format!("/proc/{pid}/fd")),
            maps: fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().count(),
            masks: tids.iter().map(|tid| status(pid, *tid, "SigBlk")).collect(),
            tracer: tids.iter().map(|tid| status(pid, *tid, "TracerPid")).collect(),
        }
    }
}

/// Waits until `ready`; false when it never is.
pub fn eventually(mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    false
}

impl Victim {
    pub fn start(kind: Kind) -> Victim {
        let victim = Victim::fork(kind, Shared::new());
        victim.begin()
    }

    /// It waits for a signal that nothing sends.
    pub fn start_without_timer(kind: Kind) -> Victim {
        let shared = Shared::new();
        shared.flag.store(1, SeqCst);
        let victim = Victim::fork(kind, shared);
        assert!(eventually(|| victim.state() == 'S'));
        std::thread::sleep(Duration::from_millis(5));
        victim
    }

    fn fork(kind: Kind, shared: &'static Shared) -> Victim {
        // SAFETY: the child only computes, and calls what may be called after fork.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            live(kind, shared);
        }
        let clean = Traces::default();
        Victim { kind, pid, shared, clean }
    }

    fn begin(mut self) -> Victim {
        let (kind, shared) = (self.kind, self.shared);
        let beating = || shared.beats[..kind.threads()].iter().all(|b| b.load(SeqCst) > 0);
        assert!(eventually(beating), "{kind:?} begins");
        std::thread::sleep(Duration::from_millis(10));
        // Who makes descriptors now and then has none at times.
        let traces = (0..if kind == Kind::Crowd { 200 } else { 1 }).map(|_| self.traces());
        self.clean = traces.min_by_key(|traces| traces.descriptors.len()).expect("there are some");
        if kind == Kind::Stopped {
            self.stop();
        }
        self
    }

    /// What sigsuspend lets in is blocked outside of it only: there the victim itself looks.
    fn traces(&self) -> Traces {
        let mut traces = Traces::of(self.pid);
        if self.kind == Kind::Sigsuspend {
            traces.masks.clear();
        }
        traces
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill reads no memory of ours.
        unsafe { libc::kill(self.pid, signal) };
    }

    pub fn state(&self) -> char {
        status(self.pid, self.pid, "State").chars().nth(7).unwrap_or('?')
    }

    fn stop(&self) {
        self.signal(libc::SIGSTOP);
        assert!(eventually(|| self.state() == 'T'), "SIGSTOP stops");
    }

    fn beats(&self) -> Vec<u64> {
        match self.kind {
            Kind::Read | Kind::RestartedRead => vec![self.shared.signals.load(SeqCst)],
            kind => self.shared.beats[..kind.threads()].iter().map(|b| b.load(SeqCst)).collect(),
        }
    }

    /// Alive, and going on with its work: each thread finishes what it was at, and one round after it.
    pub fn assert_goes_on(&self, after: &str) {
        let about = format!("{:?} after {after}", self.kind);
        if self.kind == Kind::Stopped {
            assert!(eventually(|| self.state() == 'T'), "{about}: it is stopped, not {}", self.state());
            self.signal(libc::SIGCONT);
        }
        if self.kind == Kind::Read {
            assert!(eventually(|| self.state() == 'S'), "{about}: it sleeps on, not {}", self.state());
        } else {
            let before = self.beats();
            let further = || self.beats().iter().zip(&before).all(|(now, then)| *now >= then + 2);
            assert!(eventually(further), "{about}: it goes on: {}, {before:?} {:?}", self.state(), self.beats());
        }
        let shared = self.shared;
        assert_eq!(shared.errors.load(SeqCst), 0, "{about}: an error found in line {}", shared.line.load(SeqCst));
        if self.kind == Kind::Stopped {
            self.stop();
        }
    }

    /// Nothing was left behind in it.
    pub fn assert_clean(&self, after: &str) {
        if self.kind == Kind::Stopped {
            self.signal(libc::SIGCONT);
        }
        let clean = eventually(|| self.traces() == self.clean);
        assert!(clean, "{:?} after {after}: {:?}, not {:?}", self.kind, self.traces(), self.clean);
        if self.kind == Kind::Stopped {
            self.stop();
        }
    }

    pub fn eintr(&self) -> u64 {
        self.shared.eintr.load(SeqCst)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        reap(self.pid);
    }
}

/// Waits for the end of a child: its exit status, or 128 and the signal.
pub fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status is written.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 && errno() == libc::EINTR {}
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Runs `work` in a child of its own, as a freezer that may be killed.
pub fn fork_freezer(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls only `work`, which uses nothing that another thread of the test may have locked.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: a number only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let code = work();
        // SAFETY: ends the child without the exit handlers of the test.
        unsafe { libc::_exit(code) };
    }
    pid
}

pub fn kill(pid: i32) {
    // SAFETY: kill reads no memory of ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Why a cycle was not completed.
#[derive(Debug)]
pub enum Failed {
    Seize(SeizeError),
    Envoy(EnvoyError),
    Wrong,
}

/// Where the list of robust futexes of a thread is: no two threads have the same.
fn robust_list(tid: u64) -> u64 {
    let (mut head, mut len) = (0u64, 0usize);
    // SAFETY: both words are written.
    unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    head
}

/// Seize, one batch, release; where there are more threads, of each of them, and then another one is the envoy.
pub fn cycle(pid: i32, calls: usize) -> Result<(), Failed> {
    let mut process = Process::seize(pid).map_err(Failed::Seize)?;
    let others: Vec<usize> = (1..process.threads().len()).collect();
    let tids: Vec<u64> = process.threads()[1..].iter().map(|thread| thread.tid() as u64).collect();
    let mut envoy = process.envoy(0).map_err(Failed::Envoy)?;
    let answers = envoy.calls(&vec![abi::Call::new(abi::Sys::Getpid, []); calls]).map_err(Failed::Envoy)?;
    let mut right = answers.len() == calls && answers.iter().all(|a| a.result == Ok(pid as u64));
    if !others.is_empty() {
        assert!(envoy.process().takes_guests(), "its threads are plain");
        let list = abi::Call::new(abi::Sys::GetRobustList, [0.into(), abi::Arg::Out(8), abi::Arg::Out(8)]);
        let asked = envoy.ask(&others, &vec![list.clone(); calls]).map_err(|e| {
            // Who was let go is led in no more.
            let again = [envoy.ask(&others, std::slice::from_ref(&list)).is_err(), envoy.calls(&[list]).is_err()];
            if again == [true; 2] { Failed::Envoy(e) } else { Failed::Wrong }
        })?;
        let is_its = |(tid, answers): (&u64, &Vec<abi::Answer>)| {
            let head = robust_list(*tid).to_ne_bytes();
            answers.len() == calls && answers.iter().all(|a| a.result == Ok(0) && a.out[0] == head)
        };
        right &= asked.len() == tids.len() && tids.iter().zip(&asked).all(is_its);
        envoy = envoy.move_to(others.len()).map_err(Failed::Envoy)?;
        right &= envoy.tid() as u64 == tids[others.len() - 1];
    }
    envoy.leave().map_err(Failed::Envoy)?;
    process.release().map_err(|f| Failed::Envoy(f.into()))?;
    if right { Ok(()) } else { Err(Failed::Wrong) }
}

/// How often to kill, per kind.
pub fn kills(default: u32) -> u32 {
    std::env::var("CRYOPID_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// A small generator of numbers that look random (xorshift64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
