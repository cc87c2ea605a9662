//! Thin, honest wrappers: a call that fails says which call it was, and with which errno.

use std::ffi::CString;
use std::fmt::Debug;
use std::time::Duration;

pub(crate) type Outcome = Result<(), String>;

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A C result: minus one becomes an error that names the call.
pub(crate) fn must<T: Copy + Into<i64>>(what: &str, result: T) -> Result<i64, String> {
    match result.into() {
        -1 => Err(format!("{what}: {}", std::io::Error::last_os_error())),
        value => Ok(value),
    }
}

/// The result of any library call that reports `std::io::Error`.
pub(crate) fn fine<T>(what: &str, result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

pub(crate) fn same<T: PartialEq + Debug>(what: &str, expected: &T, seen: &T) -> Outcome {
    if expected == seen {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, seen {seen:?}"))
}

pub(crate) fn holds(what: &str, truth: Truth) -> Outcome {
    truth.0.then_some(()).ok_or_else(|| what.to_owned())
}

/// A condition, named so that a check reads as a sentence.
pub(crate) struct Truth(pub(crate) bool);

pub(crate) fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("the terminal takes a line");
}

pub(crate) fn read(fd: i32, bytes: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the buffer is ours and as long as it says.
    let count = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| errno())
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> Result<usize, String> {
    // SAFETY: the buffer is ours and as long as it says.
    let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    must("write", count as i64).map(|count| count as usize)
}

/// Everything that can be read from a descriptor until it would block or ends.
pub(crate) fn read_up_to(fd: i32, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    let count = read(fd, &mut bytes).map_err(|errno| format!("read of fd {fd}: errno {errno}"))?;
    bytes.truncate(count);
    Ok(bytes)
}

pub(crate) fn readable(fd: i32) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, and it lives as long as the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, 0) };
    count == 1
}

pub(crate) fn open(path: &str, flags: i32) -> Result<i32, String> {
    let name = CString::new(path).expect("no NUL in a path of ours");
    // SAFETY: the name ends in NUL and lives as long as the call.
    let fd = unsafe { libc::open(name.as_ptr(), flags, 0o644) };
    must(&format!("open {path}"), fd).map(|fd| fd as i32)
}

pub(crate) fn close(fd: i32) {
    // SAFETY: closes a descriptor that the caller owns and will not use again.
    unsafe { libc::close(fd) };
}

pub(crate) fn fcntl(fd: i32, command: i32, value: i32) -> Result<i32, String> {
    // SAFETY: the commands used here take an integer.
    let result = unsafe { libc::fcntl(fd, command, value) };
    must(&format!("fcntl {command} of fd {fd}"), result).map(|value| value as i32)
}

pub(crate) fn offset(fd: i32) -> Result<i64, String> {
    // SAFETY: touches no memory.
    must("lseek", unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) })
}

pub(crate) fn prctl(option: i32, arguments: [u64; 4]) -> Result<i64, String> {
    let [a, b, c, d] = arguments;
    // SAFETY: the callers give integers, or addresses of memory of theirs that lives as long as the call.
    must(&format!("prctl {option}"), unsafe { libc::prctl(option, a, b, c, d) })
}

/// The id of the thread that asks.
pub(crate) fn tid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

pub(crate) fn monotonic() -> f64 {
    clock(libc::CLOCK_MONOTONIC)
}

pub(crate) fn clock(which: i32) -> f64 {
    // SAFETY: zero is a value of the type.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is ours.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub(crate) fn pause_for(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until something holds, for two seconds at most.
pub(crate) fn soon(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    for _ in 0..400 {
        if holds() {
            return Ok(());
        }
        pause_for(5);
    }
    Err(format!("{what}: did not come within two seconds"))
}

/// One line of /proc/self/status, without its name.
pub(crate) fn status(name: &str) -> Result<String, String> {
    let text = fine("status", std::fs::read_to_string("/proc/thread-self/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|rest| rest.trim().to_owned()).ok_or_else(|| format!("no {name} in /proc/thread-self/status"))
}

pub(crate) fn proc_text(name: &str) -> Result<String, String> {
    let bytes = fine(name, std::fs::read(format!("/proc/self/{name}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes that are never the same for two seeds.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length).map(|_| step(&mut state)).collect()
}

fn step(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u8
}

/// Compares long contents, and tells only the first place where they differ.
pub(crate) fn same_bytes(what: &str, expected: &[u8], seen: &[u8]) -> Outcome {
    same(&format!("length of {what}"), &expected.len(), &seen.len())?;
    match expected.iter().zip(seen).position(|(left, right)| left != right) {
        Some(at) => Err(format!("{what}: at byte {at} expected {:#x}, seen {:#x}", expected[at], seen[at])),
        None => Ok(()),
    }
}

pub(crate) fn number(arguments: &[String], otherwise: usize) -> usize {
    arguments.first().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// As many descriptors as a process may have.
pub(crate) fn many_descriptors() -> Outcome {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for a limit.
    must("getrlimit", unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit lives as long as the call.
    must("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}
