//! The lines of /proc/TID/status and stat that decide how a thread may be handled.

use crate::procfs::read_record;
use abi::Fault;

/// What the kernel tells of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Status {
    /// Who traces it; 0: nobody.
    pub(crate) tracer: i32,
    /// Signals that are blocked just now: inside sigsuspend(2) and the like, by the mask of that call.
    pub(crate) blocked: u64,
    /// Signals with a handler.
    pub(crate) caught: u64,
    /// Signals that wait for the thread alone, and for its process.
    pub(crate) waits: [u64; 2],
    /// 0: free of seccomp.
    pub(crate) seccomp: u64,
    /// The thread has a shadow stack.
    pub(crate) shadow_stack: bool,
    /// Its id in its own pid namespace; 0: the kernel does not tell.
    pub(crate) inner: u32,
}

/// The value of a line.
pub(crate) fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(line).ok().map(str::trim)
}

/// The text of /proc/TID/status.
pub(crate) fn text(tid: i32) -> Result<Vec<u8>, Fault> {
    read_record(format!("/proc/{tid}/status"))
}

impl Status {
    pub(crate) fn parse(text: &[u8]) -> Status {
        let number = |text, base| std::str::from_utf8(text).ok().and_then(|v| u64::from_str_radix(v, base).ok());
        let (hex, dec) = (|text| number(text, 16).unwrap_or(0), |text| number(text, 10).unwrap_or(0));
        let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
        let mut status = Status::default();
        for line in text.split(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            match key {
                b"TracerPid" => status.tracer = dec(value) as i32,
                b"SigBlk" => status.blocked = hex(value),
                b"SigCgt" => status.caught = hex(value),
                b"SigPnd" => status.waits[0] = hex(value),
                b"ShdPnd" => status.waits[1] = hex(value),
                b"Seccomp" => status.seccomp = dec(value),
                b"x86_Thread_features" => status.shadow_stack = value.split(is_blank).any(|word| word == b"shstk"),
                b"NSpid" => status.inner = value.split(is_blank).next_back().map_or(0, dec) as u32,
                _ => {}
            }
        }
        status
    }

    /// Of a thread that is there.
    pub(crate) fn of(tid: i32) -> Result<Status, Fault> {
        Ok(Status::with_text(tid, tid)?.1)
    }

    /// The text as well, from below a thread of the same process: to look at one there and elsewhere makes two entries of it, which its
    /// end has to take away again.
    pub(crate) fn with_text(lead: i32, tid: i32) -> Result<(Vec<u8>, Status), Fault> {
        let text = read_record(format!("/proc/{lead}/task/{tid}/status"))?;
        let status = Status::parse(&text);
        Ok((text, status))
    }
}

/// Whether it is a thread of the kernel's own among those of a process: a worker of input and output (linux/sched.h, PF_IO_WORKER).
/// The name that these have (io_uring/io-wq.c) is told sooner than what they are.
pub(crate) fn is_of_kernel(tid: i32) -> bool {
    const PF_IO_WORKER: u32 = 0x10;
    if !read_record(format!("/proc/{tid}/comm")).is_ok_and(|name| name.starts_with(b"iou-")) {
        return false;
    }
    let stat = read_record(format!("/proc/{tid}/stat")).unwrap_or_default();
    abi::proc::stat(&stat).is_ok_and(|stat| stat.flags & PF_IO_WORKER != 0)
}

/// Whether the thread is gone, or a zombie.
pub(crate) fn is_dead(tid: i32) -> bool {
    // The name in parentheses may hold anything; the state follows the last parenthesis (proc_pid_stat(5)).
    let text = read_record(format!("/proc/{tid}/stat")).unwrap_or_default();
    let state = text.iter().rposition(|b| *b == b')').and_then(|at| text.get(at + 2));
    matches!(state, None | Some(b'Z' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whatever_the_name() {
        let text = b"Name:\tx SigBlk: 1\nTracerPid:\t7\nNSpid:\t912\t3\nSigPnd:\t0000000000000008\nShdPnd:\t0000000000002000\nSeccomp:\t2\nSeccomp_filters:\t1\nSigBlk:\t0000000000000204\n\
            SigCgt:\tfffffffc01c1a4f9\nx86_Thread_features:\tshstk wrss \n";
        let want = Status {
            tracer: 7,
            blocked: 0x204,
            caught: 0xfffffffc01c1a4f9,
            waits: [8, 0x2000],
            seccomp: 2,
            shadow_stack: true,
            inner: 3,
        };
        assert_eq!(Status::parse(text), want);
    }

    #[test]
    fn we_are_alive_and_nobody_is_not() {
        assert!(!is_dead(std::process::id() as i32));
        assert!(is_dead(i32::MAX));
    }
}
