//! Attributes of a process: each is set to a value that it had not, and must read the same ever after.

use crate::life::Living;
use crate::sys::{self, Outcome, fine, must, prctl, same};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Reads something now, and compares at every check.
fn keeps(what: &'static str, mut read: impl FnMut() -> Result<String, String> + 'static) -> Result<Living, String> {
    let expected = read()?;
    Living::reads(move |_| same(what, &expected, &read()?))
}

/// The same, but what was set must be what is read, so that a setter which does nothing is noticed.
fn set_to(
    what: &'static str,
    expected: &str,
    mut read: impl FnMut() -> Result<String, String> + 'static,
) -> Result<Living, String> {
    let expected = expected.to_owned();
    same(what, &expected, &read()?)?;
    Living::reads(move |_| same(what, &expected, &read()?))
}

pub(crate) fn cwd(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("a directory/inside"))?;
    fine("chdir", std::env::set_current_dir("a directory/inside"))?;
    keeps("cwd", || Ok(format!("{:?}", fine("cwd", std::env::current_dir())?)))
}

/// Another root directory, and a working directory that is not below it and whose name begins as that of the root does.
pub(crate) fn chroot(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("jail"))?;
    fine("mkdir", std::fs::create_dir_all("jail2/inside"))?;
    fine("chdir", std::env::set_current_dir("jail2/inside"))?;
    fine("chroot", std::os::unix::fs::chroot("../../jail"))?;
    let inode = |path: &str| fine(path, std::fs::metadata(path)).map(|m| (m.dev(), m.ino()));
    keeps("root and working directory", move || Ok(format!("{:?} {:?} {:?}", inode("/")?, inode(".")?, inode("..")?)))
}

/// Neither the working directory nor an open one has a name any more; what they were in, and their modes, are told still.
pub(crate) fn deleted_cwd(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("short-lived"))?;
    fine("chmod", std::fs::set_permissions("short-lived", std::fs::Permissions::from_mode(0o1751)))?;
    fine("chdir", std::env::set_current_dir("short-lived"))?;
    fine("mkdir", std::fs::create_dir_all("../open"))?;
    let fd = sys::open("../open", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
    let place = sys::open("../open", libc::O_PATH)?;
    let here = sys::open(".", libc::O_RDONLY | libc::O_DIRECTORY)?;
    fine("rmdir", std::fs::remove_dir("../open"))?;
    fine("rmdir", std::fs::remove_dir("../short-lived"))?;
    keeps("removed directories", move || {
        let shown = |link: &str| fine(link, std::fs::read_link(format!("/proc/self/{link}")));
        let links = [shown("cwd")?, shown(&format!("fd/{fd}"))?, shown(&format!("fd/{place}"))?];
        let mode = fine("stat", std::fs::metadata("."))?.permissions().mode();
        let parent = fine("..", std::fs::metadata("..")).map(|m| (m.dev(), m.ino()))?;
        let flags = sys::fcntl(fd, libc::F_GETFL, 0)?;
        let inode = |link: &str| fine(link, std::fs::metadata(format!("/proc/self/{link}"))).map(|m| m.ino());
        let is_cwd = inode(&format!("fd/{here}"))? == inode("cwd")?;
        let is_open = inode(&format!("fd/{fd}"))? == inode(&format!("fd/{place}"))?;
        let getcwd = std::env::current_dir().map_err(|e| e.raw_os_error());
        Ok(format!(
            "{links:?} {mode:o} {parent:?} {flags:o} {getcwd:?} {is_cwd} {is_open} {:?}",
            std::fs::read_dir(".").is_ok()
        ))
    })
}

pub(crate) fn umask(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes an integer.
    unsafe { libc::umask(0o137) };
    set_to("umask", "0137", || sys::status("Umask"))
}

/// Names are bytes: blanks, a parenthesis, what is not UTF-8.
pub(crate) fn comm(_: &[String]) -> Result<Living, String> {
    prctl(libc::PR_SET_NAME, [c"a (b) \xff c".as_ptr() as u64, 0, 0, 0])?;
    keeps("comm", || fine("comm", std::fs::read("/proc/self/comm")).map(|name| format!("{name:?}")))
}

pub(crate) fn personality(_: &[String]) -> Result<Living, String> {
    const ADDR_NO_RANDOMIZE: u64 = 0x0004_0000;
    const UNAME26: u64 = 0x0002_0000;
    // SAFETY: takes an integer.
    must("personality", unsafe { libc::personality(ADDR_NO_RANDOMIZE | UNAME26) })?;
    // SAFETY: as above; this value only asks.
    set_to("personality", "60000", || Ok(format!("{:x}", unsafe { libc::personality(0xffff_ffff) })))
}

/// Every limit lowered, soft below hard; the hard ones cannot be raised again, and need not be.
pub(crate) fn limits(_: &[String]) -> Result<Living, String> {
    for (which, soft, hard) in [
        (libc::RLIMIT_NOFILE, 300, 1000),
        (libc::RLIMIT_CORE, 4096, 8192),
        (libc::RLIMIT_FSIZE, 1 << 40, 1 << 41),
        (libc::RLIMIT_STACK, 4 << 20, 6 << 20),
        (libc::RLIMIT_CPU, 100_000, 200_000),
        (libc::RLIMIT_MSGQUEUE, 1000, 2000),
    ] {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the limit lives as long as the call.
        must("setrlimit", unsafe { libc::setrlimit(which, &raw const limit) })?;
    }
    keeps("limits", || sys::proc_text("limits"))
}

pub(crate) fn nice(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    must("setpriority", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) })?;
    // SAFETY: takes integers.
    set_to("nice", "7", || Ok(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }.to_string()))
}

/// `sched_setattr(2)`: policy, flags, nice, priority.
fn scheduling() -> Result<String, String> {
    let mut attributes = [0u32; 14];
    // SAFETY: the buffer is as long as we say.
    must("sched_getattr", unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), 56, 0) })?;
    // SAFETY: takes integers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // The time slice (`sched_runtime`) of the fair policies follows the kernel's settings; the utilisation clamps follow it too.
    Ok(format!("{:?} {nice}", &attributes[1..6]))
}

fn schedule(policy: i32, priority: i32) -> Outcome {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter lives as long as the call.
    must("sched_setscheduler", unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) }).map(drop)
}

pub(crate) fn batch(_: &[String]) -> Result<Living, String> {
    schedule(libc::SCHED_BATCH, 0)?;
    keeps("scheduling", scheduling)
}

pub(crate) fn idle(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    must("setpriority", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) })?;
    schedule(libc::SCHED_IDLE, 0)?;
    keeps("scheduling", scheduling)
}

pub(crate) fn fifo(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    must("setpriority", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -3) })?;
    schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 3)?;
    keeps("scheduling", scheduling)
}

pub(crate) fn affinity(_: &[String]) -> Result<Living, String> {
    // SAFETY: zero is the empty set, and the index is below CPU_SETSIZE.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        set
    };
    // SAFETY: the set is as long as we say.
    must("sched_setaffinity", unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })?;
    set_to("affinity", "0", || sys::status("Cpus_allowed_list"))
}

/// `ioprio_set(2)`: class best effort, level 6.
pub(crate) fn ioprio(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    must("ioprio_set", unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, 2 << 13 | 6) })?;
    // SAFETY: takes integers.
    set_to("ioprio", "16390", || Ok(unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }.to_string()))
}

/// Raised only: an ordinary user may not lower it.
pub(crate) fn oom(_: &[String]) -> Result<Living, String> {
    fine("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "321"))?;
    set_to("oom_score_adj", "321\n", || sys::proc_text("oom_score_adj"))
}

/// An attribute behind a pair of prctls that take and give an integer.
fn integer(what: &'static str, set: (i32, u64), get: i32) -> Result<Living, String> {
    prctl(set.0, [set.1, 0, 0, 0])?;
    set_to(what, &set.1.to_string(), move || prctl(get, [0; 4]).map(|value| value.to_string()))
}

/// Not dumpable: nobody but root may look into the process, and its /proc files are root's.
pub(crate) fn dumpable(_: &[String]) -> Result<Living, String> {
    integer("dumpable", (libc::PR_SET_DUMPABLE, 0), libc::PR_GET_DUMPABLE)
}

pub(crate) fn no_new_privs(_: &[String]) -> Result<Living, String> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0])?;
    set_to("no_new_privs", "1", || sys::status("NoNewPrivs"))
}

pub(crate) fn timer_slack(_: &[String]) -> Result<Living, String> {
    integer("timer slack", (libc::PR_SET_TIMERSLACK, 123_456), libc::PR_GET_TIMERSLACK)
}

pub(crate) fn huge_pages(_: &[String]) -> Result<Living, String> {
    integer("THP disabled", (libc::PR_SET_THP_DISABLE, 1), libc::PR_GET_THP_DISABLE)
}

/// But for areas that ask for them.
pub(crate) fn few_huge_pages(_: &[String]) -> Result<Living, String> {
    const PR_THP_DISABLE_EXCEPT_ADVISED: u64 = 2;
    prctl(libc::PR_SET_THP_DISABLE, [1, PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0])?;
    set_to("THP disabled", "3", || prctl(libc::PR_GET_THP_DISABLE, [0; 4]).map(|value| value.to_string()))
}

pub(crate) fn core_dump_filter(_: &[String]) -> Result<Living, String> {
    fine("coredump_filter", std::fs::write("/proc/self/coredump_filter", "0x7a"))?;
    set_to("coredump_filter", "0000007a\n", || sys::proc_text("coredump_filter"))
}

/// Memory that was written may not become executable: PR_MDWE_REFUSE_EXEC_GAIN, for it and not for its children.
pub(crate) fn no_new_code(_: &[String]) -> Result<Living, String> {
    integer("MDWE", (libc::PR_SET_MDWE, 3), libc::PR_GET_MDWE)
}

pub(crate) fn merged_pages(_: &[String]) -> Result<Living, String> {
    integer("merging of pages", (libc::PR_SET_MEMORY_MERGE, 1), libc::PR_GET_MEMORY_MERGE)
}

/// `set_mempolicy(2)`: MPOL_BIND with MPOL_F_STATIC_NODES, node 0.
pub(crate) fn memory_nodes(_: &[String]) -> Result<Living, String> {
    let nodes = [1u64];
    // SAFETY: one word of nodes, as we say.
    must("set_mempolicy", unsafe { libc::syscall(libc::SYS_set_mempolicy, 0x8002, nodes.as_ptr(), 64) })?;
    set_to("memory policy", "32770, 1", || {
        let (mut mode, mut nodes) = (0i32, [0u64; 16]);
        // SAFETY: both are as long as the kernel is told.
        let asked = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), 1024, 0, 0) };
        must("get_mempolicy", asked)?;
        Ok(format!("{mode}, {}", nodes[0]))
    })
}

pub(crate) fn login(_: &[String]) -> Result<Living, String> {
    fine("loginuid", std::fs::write("/proc/self/loginuid", "61001"))?;
    set_to("loginuid", "61001", || sys::proc_text("loginuid"))
}

pub(crate) fn keep_caps(_: &[String]) -> Result<Living, String> {
    integer("keepcaps", (libc::PR_SET_KEEPCAPS, 1), libc::PR_GET_KEEPCAPS)
}

/// SECBIT_NO_SETUID_FIXUP and SECBIT_NOROOT, the second one locked.
pub(crate) fn secure_bits(_: &[String]) -> Result<Living, String> {
    integer("securebits", (libc::PR_SET_SECUREBITS, 0b111), libc::PR_GET_SECUREBITS)
}

fn through_pointer(option: i32) -> Result<String, String> {
    let mut value = 0i32;
    prctl(option, [&raw mut value as u64, 0, 0, 0])?;
    Ok(value.to_string())
}

pub(crate) fn death_signal(_: &[String]) -> Result<Living, String> {
    prctl(libc::PR_SET_PDEATHSIG, [libc::SIGUSR2 as u64, 0, 0, 0])?;
    set_to("pdeathsig", &libc::SIGUSR2.to_string(), || through_pointer(libc::PR_GET_PDEATHSIG))
}

pub(crate) fn subreaper(_: &[String]) -> Result<Living, String> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0])?;
    set_to("child subreaper", "1", || through_pointer(libc::PR_GET_CHILD_SUBREAPER))
}
