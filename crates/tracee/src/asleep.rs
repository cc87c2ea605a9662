//! What only an undisturbed thread shows: for how long it has slept, and where. It is looked at before the thread is
//! stopped; afterwards the count of its switches tells whether it slept on until then.

use crate::procfs::read;
use abi::proc::{self, Sched};

/// A thread that may sleep.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asleep {
    /// For how many nanoseconds it had not run, and how often it had gone to sleep; `None` where the kernel does not tell.
    since: Option<(u64, u64)>,
    /// The kernel function in which it slept (/proc/PID/wchan).
    pub(crate) channel: Vec<u8>,
}

fn sched(path: &str) -> Option<Sched> {
    proc::sched(&read(path).ok()?)
}

impl Asleep {
    /// Looks at a thread.
    pub(crate) fn of(pid: i32, tid: i32) -> Asleep {
        let channel = read(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
        Asleep { since: since(pid, tid), channel }
    }

    /// For how many nanoseconds it had not run when it was stopped: none if it had run meanwhile. `None`: the kernel does not
    /// tell. To stop it took one switch.
    pub(crate) fn idle(&self, pid: i32, tid: i32) -> Option<u64> {
        let (idle, switches) = self.since?;
        let now = sched(&format!("/proc/{pid}/task/{tid}/sched"))?;
        Some(if now.voluntary_switches == switches + 1 { idle } else { 0 })
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
