//! `stat`: one line about a process.

use super::ParseError;
use super::text::{signed, unsigned, words};

/// /proc/PID/stat, the fields that tell something (proc_pid_stat(5)).
///
/// The addresses are 0 or 1 for a reader who may not trace the process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Stat {
    pub pid: u32,
    /// Up to 15 bytes of any kind, without the parentheses.
    pub comm: Vec<u8>,
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, `X`, `I`.
    pub state: u8,
    pub ppid: u32,
    /// Never -1 here: a process that has none any more is gone, and its text is refused.
    pub pgrp: u32,
    pub session: u32,
    /// The controlling terminal (`tty_nr`): major and minor number of its device.
    pub terminal: Option<(u32, u32)>,
    /// The foreground process group of the terminal; -1: no terminal.
    pub tpgid: i32,
    /// `PF_` bits (linux/sched.h of the kernel).
    pub flags: u32,
    pub priority: i32,
    pub nice: i32,
    pub num_threads: u32,
    /// In clock ticks after boot.
    pub starttime: u64,
    /// In bytes.
    pub vsize: u64,
    pub start_code: u64,
    pub end_code: u64,
    pub start_stack: u64,
    pub exit_signal: i32,
    pub rt_priority: u32,
    pub policy: u32,
    pub processor: u32,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// As waitpid(2) tells it.
    pub exit_code: i32,
}

/// Reads /proc/PID/stat.
pub fn stat(text: &[u8]) -> Result<Stat, ParseError> {
    let (pid, comm, rest) = split(text).ok_or_else(|| ParseError::line("stat", text))?;
    let fields = Fields(words(rest.trim_ascii_end()).collect());
    Ok(Stat {
        pid: unsigned(pid).ok_or_else(|| ParseError::line("stat", text))?,
        comm: comm.to_vec(),
        state: fields.read(3, "state", |word| word.first().copied())?,
        ppid: fields.read(4, "ppid", unsigned)?,
        pgrp: fields.read(5, "pgrp", unsigned)?,
        session: fields.read(6, "session", unsigned)?,
        terminal: fields.read(7, "tty_nr", terminal)?,
        tpgid: fields.read(8, "tpgid", signed)?,
        flags: fields.read(9, "flags", unsigned)?,
        priority: fields.read(18, "priority", signed)?,
        nice: fields.read(19, "nice", signed)?,
        num_threads: fields.read(20, "num_threads", unsigned)?,
        starttime: fields.read(22, "starttime", unsigned)?,
        vsize: fields.read(23, "vsize", unsigned)?,
        start_code: fields.read(26, "startcode", unsigned)?,
        end_code: fields.read(27, "endcode", unsigned)?,
        start_stack: fields.read(28, "startstack", unsigned)?,
        processor: fields.read(39, "processor", unsigned)?,
        exit_signal: fields.read(38, "exit_signal", signed)?,
        rt_priority: fields.read(40, "rt_priority", unsigned)?,
        policy: fields.read(41, "policy", unsigned)?,
        start_data: fields.read(45, "start_data", unsigned)?,
        end_data: fields.read(46, "end_data", unsigned)?,
        start_brk: fields.read(47, "start_brk", unsigned)?,
        arg_start: fields.read(48, "arg_start", unsigned)?,
        arg_end: fields.read(49, "arg_end", unsigned)?,
        env_start: fields.read(50, "env_start", unsigned)?,
        env_end: fields.read(51, "env_end", unsigned)?,
        exit_code: fields.read(52, "exit_code", signed)?,
    })
}

/// `PID (COMM) REST`: COMM is raw, newlines and parentheses too (fs/proc/array.c, `do_task_stat`), but REST has no
/// parenthesis, so the last one ends it.
fn split(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?;
    Some((text[..open].trim_ascii_end(), comm, &text[close + 1..]))
}

/// The fields behind the name.
struct Fields<'a>(Vec<&'a [u8]>);

impl Fields<'_> {
    /// A field by its number as in the man page; the first behind the name is 3.
    fn read<T>(&self, number: usize, name: &str, read: fn(&[u8]) -> Option<T>) -> Result<T, ParseError> {
        let word = self.0.get(number - 3).copied();
        let strange = || {
            let word = word.unwrap_or(b"missing").escape_ascii();
            ParseError::new("stat", format!("field {number}, {name}, is {word}"))
        };
        word.and_then(read).ok_or_else(strange)
    }
}

/// A device number in 32 bits, printed with its sign; 0: none (fs/proc/array.c, `do_task_stat`).
fn terminal(word: &[u8]) -> Option<Option<(u32, u32)>> {
    let number: i32 = signed(word)?;
    Some((number != 0).then(|| super::new_decode_dev(number as u32)))
}
