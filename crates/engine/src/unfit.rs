//! Processes that cannot be frozen whatever they have: the reasons in words, and what to do.

use crate::Error;
use abi::{Errno, proc};
use plan::Refusal;
use resources::Trouble;
use std::time::{Duration, Instant};
use std::{fs, thread};
use tracee::{EnvoyError, SeizeError};

/// ptrace(2), "Ptrace access mode checking".
fn not_allowed(pid: i32) -> Error {
    let why = "the kernel does not let you trace it: it is another user's, has other privileges, or hides its memory";
    let remedy = "use root, or see kernel.yama.ptrace_scope (sysctl)";
    Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)])
}

const ZOMBIE: &str = "it has ended; its parent has yet to take note of that";

/// Whether it is our parent, or a parent of that. The first process is everybody's.
fn is_above_us(pid: i32) -> bool {
    let stat = |pid: u32| proc::stat(&fs::read(format!("/proc/{pid}/stat")).ok()?).ok();
    let parent = |pid: &u32| stat(*pid).map(|s| s.ppid).filter(|pid| *pid > 1);
    std::iter::successors(parent(&std::process::id()), parent).any(|above| above == pid as u32)
}

/// For how long the end of who started us is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether it is above us, and remains there: who leads a session was started by setsid(1) perhaps, which ends when it has forked.
fn remains_above_us(pid: i32) -> bool {
    let leads = tracee::sys::session(0) == Some(std::process::id() as i32);
    let end = Instant::now() + PATIENCE;
    while is_above_us(pid) {
        if !leads || Instant::now() > end {
            return true;
        }
        thread::sleep(PATIENCE / 500);
    }
    false
}

/// What nobody can freeze, told before anything is touched.
pub(crate) fn presentable(pid: i32) -> Result<(), Error> {
    let refuse = |why: &str, remedy: &str| Err(Error::refuse("process", why, remedy));
    if pid as u32 == std::process::id() {
        return refuse("this is cryopid itself", "name another process");
    }
    if remains_above_us(pid) {
        let remedy = "run it from another terminal, or outside of that tree: setsid --fork cryopid …";
        return refuse("cryopid itself is in that tree", remedy);
    }
    if pid == 1 {
        return refuse("it is the first process of this system", "name another process");
    }
    let status = match fs::read(format!("/proc/{pid}/status")) {
        Ok(text) => proc::status(&text).map_err(Trouble::from)?,
        Err(e) => {
            return Err(match Errno::from(e) {
                Errno::ENOENT | Errno::ESRCH => Error::io("look for it", format!("process {pid}"), Errno::ESRCH),
                e => Error::io("open", format!("/proc/{pid}"), e),
            });
        }
    };
    if status.tgid != pid as u32 {
        return refuse(&format!("it is a thread of process {}", status.tgid), "name the process");
    }
    if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.is_empty())
        && fs::read_link(format!("/proc/{pid}/exe")).is_err()
    {
        return match status.state {
            // Other threads may live when the first has ended.
            b'Z' if status.threads > 1 => Ok(()),
            b'Z' => refuse(ZOMBIE, "nothing of it is left to freeze"),
            _ if fs::metadata(format!("/proc/{pid}/exe"))
                .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) =>
            {
                Err(not_allowed(pid))
            }
            _ => match flags(pid) {
                flags if flags & PF_KTHREAD != 0 => refuse("it is a part of the kernel", "name another process"),
                flags if flags & PF_EXITING != 0 && status.threads <= 1 => {
                    refuse("it is ending", "nothing of it will be left to freeze")
                }
                // It executes a program just now.
                _ => Ok(()),
            },
        };
    }
    Ok(())
}

/// linux/sched.h.
const PF_EXITING: u32 = 0x4;
const PF_KTHREAD: u32 = 0x20_0000;

/// What the kernel says of a process (proc_pid_stat(5), `flags`).
fn flags(pid: i32) -> u32 {
    let text = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    proc::stat(&text).map_or(0, |stat| stat.flags)
}

/// Of a tree some of whose system calls are filtered, and which we may not touch: to stop a thread may be the end of it, as a
/// filter may forbid the call by which the kernel goes on with a sleep.
pub(crate) fn filtered(pid: u32) -> Error {
    let why = "its system calls are filtered (seccomp), which only root may look at and suspend";
    let remedy = "use root (sudo), outside of any sandbox";
    Error::Refused(vec![Refusal::new("seccomp", why, remedy).of(pid)])
}

/// Of a tree whose system calls came to be filtered after we had looked, so that there is no guardian.
pub(crate) fn filtered_just_now(pid: i32) -> Error {
    let why = "its system calls have just come to be filtered (seccomp)";
    Error::Refused(vec![Refusal::new("seccomp", why, "try again").of(pid)])
}

/// Of a process that was not stopped.
pub(crate) fn seize_error(e: SeizeError, pid: i32) -> Error {
    let refuse = |why: String, remedy: &str| Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)]);
    match e {
        SeizeError::Fault(fault) if fault.errno == Errno::EPERM => not_allowed(pid),
        SeizeError::Fault(fault) => Error::Fault(fault),
        SeizeError::Died { .. } => Error::io("ptrace", pid, Errno::ESRCH),
        SeizeError::Traced { by } => refuse(format!("process {by} traces it"), "end the debugger, or let it detach"),
        SeizeError::Vforked { child, .. } => {
            refuse(e.to_string(), &format!("wait until process {child} has done that, or end it: kill {child}"))
        }
        SeizeError::Zombie { .. } => refuse(ZOMBIE.into(), "nothing of it is left to freeze"),
        other => refuse(other.to_string(), "try again later"),
    }
}

/// Of a thread that carries no envoy.
pub(crate) fn envoy_error(e: EnvoyError, pid: i32) -> Error {
    let refuse = |why: String, remedy: &str| Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)]);
    match e {
        EnvoyError::Fault(fault) => Error::Fault(fault),
        EnvoyError::Died { .. } => Error::io("ptrace", pid, Errno::ESRCH),
        EnvoyError::Seccomp => refuse(e.to_string(), "use root, and a kernel with CONFIG_CHECKPOINT_RESTORE"),
        EnvoyError::Setup(fault) => {
            refuse(format!("it has no room for the freezer: {fault}"), "raise its limits (prlimit)")
        }
        EnvoyError::NoRoom => {
            let remedy = "run the program by itself, not under a tool that translates it (valgrind)";
            refuse(
                "it has neither a vdso with room for the freezer nor a syscall instruction to make some".into(),
                remedy,
            )
        }
        EnvoyError::Leaderless => refuse(e.to_string(), "use Linux 6.9 or later"),
        EnvoyError::ShadowStack => refuse(e.to_string(), "this is not supported yet"),
        other => refuse(other.to_string(), "try again a moment later"),
    }
}

/// A fault in other words, if it is that a limit of ours is too low.
pub(crate) fn too_many_files(e: Error) -> Error {
    match e {
        Error::Fault(fault) if fault.errno == Errno::EMFILE => {
            let why = format!("cryopid may not have as many open files as it needs for this tree: {fault}");
            Error::refuse("limits", why, "raise it: ulimit -Hn (some four for each process)")
        }
        other => other,
    }
}

/// An error in other words, if one of these processes, each given with a thread, has ended since they were stopped: nothing that was found
/// then tells more than that.
pub(crate) fn of_ended(e: Error, stopped: &[(i32, i32)]) -> Error {
    // Who was just killed may take a moment to be seen so.
    let looks = match e {
        Error::Fault(_) => 20,
        Error::Refused(_) => 1,
        Error::Unguarded | Error::Image(_) => 0,
    };
    for n in 0..looks {
        thread::sleep(Duration::from_millis(n.min(1)));
        if let Some((pid, _)) = stopped.iter().find(|(_, tid)| has_ended(*tid)) {
            let remedy = if *pid == stopped[0].0 { "name another process" } else { "try again" };
            return Error::Refused(vec![Refusal::new("process", "it ended meanwhile", remedy).of(*pid)]);
        }
    }
    e
}

/// The same of a process that was not stopped: others of its threads may live when the first has ended.
pub(crate) fn gone(e: Error, pid: i32) -> Error {
    match e {
        Error::Fault(fault) if fault.errno == Errno::ESRCH => of_ended(Error::Fault(fault), &[(pid, pid)]),
        other => other,
    }
}

/// Whether a thread is there no more, or will not be.
fn has_ended(tid: i32) -> bool {
    !fs::exists(format!("/proc/{tid}")).unwrap_or(true) || flags(tid) & PF_EXITING != 0
}

/// A fault in other words, if it is that there may be no more processes (clone(2), EAGAIN).
pub(crate) fn too_many_processes(e: Error) -> Error {
    match e {
        Error::Fault(fault) if fault.errno == Errno::EAGAIN && fault.call.starts_with("clone") => {
            let most = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
            let most = most.map_or("unlimited".into(), |most| most.to_string());
            let why = format!(
                "the user may not have as many processes and threads as it takes (RLIMIT_NPROC is {most}): {fault}"
            );
            Error::refuse("limits", why, "raise it: ulimit -u; or pids.max of the control group, if that is lower")
        }
        other => other,
    }
}
