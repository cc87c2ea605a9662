//! What only an undisturbed thread shows: for how long it has slept, and where. It is looked at before the thread is
//! stopped; afterwards the count of its switches tells whether it slept on until then.

use crate::procfs::{read, read_record};
use abi::proc::{self, Sched};

/// A thread that may sleep.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asleep {
    since: Since,
    /// It was seen in a call that code of the program has made: it is no thread of the kernel's own.
    pub(crate) is_of_program: bool,
    /// The kernel function in which it slept (/proc/PID/wchan); only of a call that has lost its number.
    pub(crate) channel: Vec<u8>,
}

/// Since when it has slept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Since {
    /// The kernel does not tell.
    #[default]
    Unknown,
    /// It was in no call that waits for so long and no longer.
    Awake,
    /// For how many nanoseconds it had not run, and how often it had gone to sleep.
    Slept(u64, u64),
}

fn sched(path: &str) -> Option<Sched> {
    proc::sched(&read(path).ok()?)
}

/// Calls whose rest is counted by how long the thread has not run: nanosleep, clock_nanosleep, poll, epoll_wait, epoll_pwait.
const TIMED: [u64; 5] = [35, 230, 7, 232, 281];
const FUTEX: u64 = 202;
const RESTART_SYSCALL: u64 = 219;

/// The call in which a thread waits, and whether it may end by itself; `None`: in none, or the kernel does not tell
/// (proc_pid_syscall(5)).
fn waits_in(text: &[u8]) -> Option<(u64, bool)> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    // A futex without a timeout.
    let endless = number == FUTEX && words.nth(3) == Some("0x0");
    Some((number, !endless && (number == FUTEX || number == RESTART_SYSCALL || TIMED.contains(&number))))
}

/// Whether a thread that waits will go back to code. Those of the kernel's own have no instruction there
/// (arch/x86/kernel/process.c, copy_thread).
fn has_code(text: &[u8]) -> bool {
    let last = text.trim_ascii_end().rsplit(|b| *b == b' ').next();
    last.is_some_and(|ip| ip.starts_with(b"0x") && ip != b"0x0")
}

impl Asleep {
    /// Looks at a thread.
    pub(crate) fn of(pid: i32, tid: i32) -> Asleep {
        let call = read_record(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
        let (waits, is_of_program) = (waits_in(&call), has_code(&call));
        if call.starts_with(b"running") || waits.is_some_and(|(_, timed)| !timed) {
            return Asleep { since: Since::Awake, is_of_program, channel: Vec::new() };
        }
        let lost = waits.is_none_or(|(number, _)| number == RESTART_SYSCALL);
        let channel =
            if lost { read_record(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default() } else { Vec::new() };
        let since = since(pid, tid).map_or(Since::Unknown, |(idle, switches)| Since::Slept(idle, switches));
        Asleep { since, is_of_program, channel }
    }

    /// For how many nanoseconds it had not run when it was stopped: none if it had run meanwhile. `None`: the kernel does not
    /// tell. To stop it took one switch.
    pub(crate) fn idle(&self, pid: i32, tid: i32) -> Option<u64> {
        match self.since {
            Since::Unknown => None,
            Since::Awake => Some(0),
            Since::Slept(idle, switches) => {
                let now = sched(&format!("/proc/{pid}/task/{tid}/sched"))?;
                Some(if now.voluntary_switches == switches + 1 { idle } else { 0 })
            }
        }
    }
}

/// The clock of its processor, now and when it last ran. Each processor has its own (it leaves out time stolen by a
/// hypervisor: kernel/sched/core.c, update_rq_clock_task), so we go there to look.
fn since(pid: i32, tid: i32) -> Option<(u64, u64)> {
    let stat = proc::stat(&read(format!("/proc/{pid}/task/{tid}/stat")).ok()?).ok()?;
    let last = sched(&format!("/proc/{pid}/task/{tid}/sched"))?;
    let now = on_processor(stat.processor as usize, || sched("/proc/thread-self/sched"))??;
    Some((now.exec_start.saturating_sub(last.exec_start), last.voluntary_switches))
}

/// Does something on that processor; `None` if we may not go there.
fn on_processor<T>(number: usize, act: impl FnOnce() -> T) -> Option<T> {
    const SIZE: usize = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of processors is plain bits, and zero is the empty one.
    let (mut ours, mut its): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    if number >= 8 * SIZE {
        return None;
    }
    // SAFETY: the number lies within the set.
    unsafe { libc::CPU_SET(number, &mut its) };
    // SAFETY: the kernel writes at most the size given.
    if unsafe { libc::sched_getaffinity(0, SIZE, &raw mut ours) } < 0 {
        return None;
    }
    // SAFETY: the kernel reads the size given.
    if unsafe { libc::sched_setaffinity(0, SIZE, &raw const its) } < 0 {
        return None;
    }
    let done = act();
    // SAFETY: as above.
    unsafe { libc::sched_setaffinity(0, SIZE, &raw const ours) };
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_tells_whether_it_ends_by_itself() {
        let told = |text: &str| waits_in(text.as_bytes());
        assert_eq!(told("35 0x7ffd 0x7ffd 0x0 0x0 0x0 0x0 0x7ffc 0x7f11"), Some((35, true)));
        assert_eq!(told("202 0x5581 0x189 0x0 0x0 0x0 0xffffffff 0x7ffc 0x7f11"), Some((202, false)));
        assert_eq!(told("202 0x5581 0x189 0x0 0x7ffd 0x0 0xffffffff 0x7ffc 0x7f11"), Some((202, true)));
        assert_eq!(told("0 0x0 0x7ffd 0x100 0x0 0x0 0x0 0x7ffc 0x7f11"), Some((0, false)));
        assert_eq!((told("running"), told("-1 0x7ffc 0x7f11"), told("")), (None, None, None));
    }

    #[test]
    fn a_worker_of_the_kernel_has_no_code() {
        let told = |text: &str| has_code(text.as_bytes());
        assert!(told("35 0x7ffd 0x7ffd 0x0 0x0 0x0 0x0 0x7ffc 0x7f11\n") && told("-1 0x7ffc 0x7f11\n"));
        assert!(!told("426 0x4 0x1 0x0 0x0 0x0 0x8 0x0 0x0\n") && !told("running\n") && !told(""));
    }
}
