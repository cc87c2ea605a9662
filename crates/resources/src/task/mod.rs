//! What a process and its threads have besides memory and descriptors.

pub mod attributes;
pub mod creds;
pub mod fs;
pub mod futex;
pub mod handlers;
pub mod itimers;
pub mod limits;
pub mod posix_timers;
pub mod prctl;
pub mod regs;
pub mod rseq;
pub mod sched;
pub mod signal;

use crate::{Capturing, Trouble};
use abi::{Answer, Arg, Call, Errno, Fault, Sys};

/// `prctl(option, …)` whose answer is the returned value.
pub(crate) fn ask(option: u64) -> Call {
    Call::new(Sys::Prctl, [Arg::Int(option), Arg::Int(0), Arg::Int(0), Arg::Int(0), Arg::Int(0)])
}

/// `prctl(option, &out)`, whose answer is written into `len` bytes.
pub(crate) fn ask_into(option: u64, len: usize) -> Call {
    Call::new(Sys::Prctl, [Arg::Int(option), Arg::Out(len), Arg::Int(0), Arg::Int(0), Arg::Int(0)])
}

/// The answers of calls all of which must succeed.
pub(crate) fn all(from: &Capturing<'_>, calls: &[Call]) -> Result<Vec<Answer>, Trouble> {
    let answers = from.probe.calls(calls)?;
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
