//! What a process and its threads have besides memory and descriptors.

pub mod attributes;
pub mod creds;
pub mod dispatch;
pub mod fs;
pub mod futex;
pub mod handlers;
pub mod itimers;
mod keyrings;
pub mod limits;
pub mod posix_timers;
pub mod prctl;
pub mod regs;
pub mod rseq;
mod sandbox;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod thread_fs;
pub(crate) mod ticks;

use crate::{At, Capturing, Planning, Trouble};
use abi::consts::fd::AT_FDCWD;
use abi::consts::open::O_WRONLY;
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use plan::{Actor, Expect, Fact, Moment, Op, Value};

/// `prctl(option, …)` whose answer is the returned value.
pub(crate) fn ask(option: u64) -> Call {
    ask_about(option, 0)
}

/// `prctl(option, which, …)`, likewise.
pub(crate) fn ask_about(option: u64, which: u64) -> Call {
    Call::new(Sys::Prctl, [option, which, 0, 0, 0].map(Arg::Int))
}

/// `prctl(option, &out)`, whose answer is written into `len` bytes.
pub(crate) fn ask_into(option: u64, len: usize) -> Call {
    Call::new(Sys::Prctl, [Arg::Int(option), Arg::Out(len), Arg::Int(0), Arg::Int(0), Arg::Int(0)])
}

/// The answers of calls all of which must succeed.
pub(crate) fn all(from: &Capturing<'_>, calls: &[Call]) -> Result<Vec<Answer>, Trouble> {
    succeeded(calls, from.probe.calls(calls)?)
}

/// The answers of these calls, if all of them have succeeded.
pub(crate) fn succeeded(calls: &[Call], answers: Vec<Answer>) -> Result<Vec<Answer>, Trouble> {
    for (call, answer) in calls.iter().zip(&answers) {
        if let Err(errno) = answer.result {
            return Err(Fault::new(call.sys.name(), "the process", errno).into());
        }
    }
    Ok(answers)
}

/// The bytes that a successful call wrote.
pub(crate) fn written(answer: &Answer) -> &[u8] {
    answer.out.first().map_or(&[], Vec::as_slice)
}

/// A value, or a default where the kernel does not know the question.
pub(crate) fn value_or(answer: &Answer, default: u64) -> Result<u64, Trouble> {
    match answer.result {
        Ok(value) => Ok(value),
        Err(Errno::EINVAL | Errno::ENOSYS) => Ok(default),
        Err(errno) => Err(Fault::new("prctl", "the process", errno).into()),
    }
}

/// A number as a file of /proc tells it; 0 where it is none.
pub(crate) fn number(text: &[u8], radix: u32) -> i64 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    i64::from_str_radix(text.trim(), radix).unwrap_or(0)
}

/// The thread writes into a file of its own in /proc, while it still has the rights of whoever thaws.
pub(crate) fn write_own(by: &'static str, name: &str, text: &str, at: At, to: &mut Planning<'_>) {
    write_proc(by, &format!("self/{name}"), text, Expect::Exactly(text.len() as u64), at, to);
}

/// The thread writes into a file of /proc, likewise.
pub(crate) fn write_proc(by: &'static str, name: &str, text: &str, expect: Expect, at: At, to: &mut Planning<'_>) {
    let descr = to.to.scratch();
    let path = Value::Bytes(format!("/proc/{name}\0").into_bytes());
    let args = vec![AT_FDCWD.into(), path, u64::from(O_WRONLY).into(), 0.into()];
    let open = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
    let len = text.len() as u64;
    let args = vec![Value::Descr(descr), Value::Bytes(text.as_bytes().to_vec()), len.into()];
    let write = Op::Call { sys: Sys::Write, args, expect };
    // A newborn would inherit it.
    let (born, made, files) = (Fact::Peopled, Fact::Made(descr), Fact::Files(at.pid));
    to.to.step(Moment::Place, by, Actor::Thread(at.tid), open, vec![born], vec![made.clone()]);
    to.to.step(Moment::Place, by, Actor::Thread(at.tid), write, vec![made], vec![files]);
}
