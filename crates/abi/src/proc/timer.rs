//! `timers`: the POSIX timers of a process.

use super::ParseError;
use super::text::{after, hex, lines, signed, split_once, unsigned};

/// How a timer tells that it expired (timer_create(2), sigevent(3type)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notify {
    /// By a signal: to the process, or to the thread of [`Target::Tid`].
    Signal,
    /// Not at all: one asks.
    None,
    /// `SIGEV_THREAD`, which libraries make of `SIGEV_SIGNAL` and a thread; to the kernel the same as that.
    Thread,
    /// A word that we do not know.
    Unknown(Vec<u8>),
}

/// Whom a timer tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// One thread (`SIGEV_THREAD_ID`).
    Tid(u32),
    /// The process.
    Pid(u32),
}

/// A timer as `timer_create` makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosixTimer {
    /// The number that `timer_create` gave.
    pub id: i32,
    /// The signal that it sends.
    pub signal: i32,
    /// What comes along with the signal (`sigev_value`).
    pub value: u64,
    /// How it tells.
    pub notify: Notify,
    /// Whom it tells.
    pub target: Target,
    /// The `CLOCK_` id; negative for the clock of a process or thread.
    pub clock: i32,
}

/// Reads /proc/PID/timers.
pub fn timers(text: &[u8]) -> Result<Vec<PosixTimer>, ParseError> {
    let lines: Vec<&[u8]> = lines(text).collect();
    // An id begins a timer; kernels to come may add lines to it.
    let timers = lines.chunk_by(|_, next| !next.starts_with(b"ID:"));
    timers.map(timer).collect()
}

fn timer(lines: &[&[u8]]) -> Result<PosixTimer, ParseError> {
    let field = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key.as_bytes()));
    let read = || {
        let (signal, value) = split_once(field("signal:")?.trim_ascii(), b'/')?;
        let (notify, target) = split_once(field("notify:")?.trim_ascii(), b'/')?;
        Some(PosixTimer {
            id: signed(field("ID:")?.trim_ascii())?,
            signal: signed(signal)?,
            value: pointer(value)?,
            notify: notification(notify),
            target: whom(target)?,
            clock: signed(field("ClockID:")?.trim_ascii())?,
        })
    };
    read().ok_or_else(|| ParseError::line("timers", &lines.join(&b'\n')))
}

/// A pointer as `%p` and `%px` print it: hexadecimal, or `(null)`.
fn pointer(text: &[u8]) -> Option<u64> {
    match text {
        b"(null)" => Some(0),
        _ => hex(text.strip_prefix(b"0x").unwrap_or(text)),
    }
}

fn notification(text: &[u8]) -> Notify {
    match text {
        b"signal" => Notify::Signal,
        b"none" => Notify::None,
        b"thread" => Notify::Thread,
        _ => Notify::Unknown(text.to_vec()),
    }
}

fn whom(text: &[u8]) -> Option<Target> {
    let tid = after(text, b"tid.", unsigned).map(Target::Tid);
    tid.or_else(|| after(text, b"pid.", unsigned).map(Target::Pid))
}
