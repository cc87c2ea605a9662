//! Survey: what planning must know of this machine, looked at once. Nothing is made.

use crate::unfit::too_many_processes;
use crate::{Error, bound, sockets};
use abi::consts::cap::CAP_SYS_ADMIN;
use abi::consts::rlimit::RLIMIT_NOFILE;
use abi::layout::SchedAttr;
use abi::{gathered, proc};
use plan::{FileFacts, Host, Inherited, PlaceFacts, Terminal};
use resources::Model;
use resources::mm::vdso;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags, statx};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use tracee::ipc::{find_mqueue, semaphores};

/// Only the first user namespace has all ids as they are (user_namespaces(7)).
pub(crate) fn is_first_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.is_empty() || map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The ids that a user namespace has: the first and the third number of each line of its map.
fn ranges(map: &str) -> Vec<(u32, u32)> {
    let text = fs::read_to_string(map).unwrap_or_default();
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
    };
    text.lines().filter_map(range).collect()
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The host, as far as it matters to this model.
pub fn survey(model: &Model) -> Result<Host, Error> {
    let read = |path: &str| fs::read(path).map_err(|e| Error::io("read", path, e));
    let status = proc::status(&read("/proc/self/status")?).map_err(resources::Trouble::from)?;
    let stat = proc::stat(&read("/proc/self/stat")?).map_err(resources::Trouble::from)?;
    let (areas, sum) = own_vdso()?;
    let mut groups = status.groups.clone();
    abi::sort(&mut groups);
    let (limits, end) = (limits(), end_of_ids());
    Ok(Host {
        machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
        page_size: rustix::param::page_size() as u32,
        files: files(model),
        scratch: scratch(model),
        places: places(model),
        semaphores: gathered(
            model.undone().into_iter().filter_map(|(set, count)| Some((set, semaphores(set, count)?))),
        ),
        temporary: std::env::temp_dir().into_os_string().into_vec(),
        spare: spare(model),
        taken: gathered(model.ids().into_iter().chain(model.leaders()).filter(|id| is_taken(*id, end))),
        terminal: stat.terminal.and_then(terminal),
        uid: status.uid[1],
        gid: status.gid[1],
        groups,
        capability_sets: [status.cap_inh, status.cap_prm, status.cap_eff, status.cap_bnd, status.cap_amb],
        securebits: rustix::thread::capabilities_secure_bits().map_or(0, |bits| bits.bits().into()),
        no_new_privs: status.no_new_privs != 0,
        no_written_code: tracee::here::inherits_mdwe(),
        nice: stat.nice as i32,
        inherited: inherited(),
        processors: processors(),
        nodes: nodes(&read("/proc/self/status")?),
        oom_score_adj: number("/proc/self/oom_score_adj").unwrap_or(0) as i32,
        oom_score_adj_min: lowest_oom_score(model),
        filtered: status.seccomp != 0,
        inner_user_namespace: !is_first_user_namespace(),
        uids: ranges("/proc/self/uid_map"),
        gids: ranges("/proc/self/gid_map"),
        keeps_groups: fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny")),
        foreign_pid_namespace: !tracee::here::rules_pid_namespace(),
        told: told(model),
        absent: gathered(model.addresses().filter(is_absent).map(|address| address.ip())),
        openers: openers(model),
        loginuid: number("/proc/self/loginuid").map(|id| id as u32),
        // Who may do it anyhow need not try.
        user_namespaces: status.cap_eff >> CAP_SYS_ADMIN & 1 == 1 || can_make_user_namespace()?,
        time_namespaces: Path::new("/proc/self/timens_offsets").exists(),
        memfd_noexec: number("/proc/sys/vm/memfd_noexec").map(|n| n as u32),
        vdso: areas,
        vdso_sum: sum,
        xfeatures: tracee::here::xfeatures(),
        highest_fd: highest_fd(),
        max_files: limits.get(RLIMIT_NOFILE as usize).map_or(1024, |l| l.1),
        limits,
    })
}

fn can_make_user_namespace() -> Result<bool, Error> {
    tracee::here::can_make_user_namespace().map_err(|fault| too_many_processes(fault.into()))
}

/// Whether we have a capability.
pub(crate) fn has_capability(capability: u32) -> bool {
    capabilities() >> capability & 1 == 1
}

/// Those that we have, as bits.
pub(crate) fn capabilities() -> u64 {
    let status = fs::read("/proc/self/status").ok().and_then(|text| proc::status(&text).ok());
    status.map_or(0, |status| status.cap_eff)
}

/// The lowest score of the tree that may be set, or our own. The kernel tells nobody how low a score may be (fs/proc/base.c,
/// `oom_score_adj_min`): so each that is lower than ours is tried, on ourselves, and ours is put back, as a higher one always
/// can be.
fn lowest_oom_score(model: &Model) -> i32 {
    const FILE: &str = "/proc/self/oom_score_adj";
    let own = number(FILE).unwrap_or(0) as i32;
    let may = |score: &i32| {
        let set = fs::write(FILE, score.to_string());
        set.and_then(|()| fs::write(FILE, own.to_string())).is_ok()
    };
    model.oom_scores().into_iter().filter(|score| *score < own).find(may).unwrap_or(own)
}

/// What is born of us has it, unless it is what no child has (SCHED_FLAG_RESET_ON_FORK).
fn inherited() -> Inherited {
    const RESET_ON_FORK: u64 = 1;
    let [io, personality, timer_slack] = tracee::here::modes();
    let scheduling = tracee::here::scheduling().filter(|attr| attr.flags & RESET_ON_FORK == 0);
    let of = |a: SchedAttr| (a.policy, a.flags, a.nice, a.priority, [a.runtime, a.deadline, a.period]);
    let own = rustix::thread::sched_getaffinity(None).ok();
    let is_set = |n: &usize| own.as_ref().is_some_and(|own| own.is_set(*n));
    Inherited {
        scheduling: scheduling.map(of),
        processors: (0..rustix::thread::CpuSet::MAX_CPU).filter(is_set).map(|n| n as u32).collect(),
        io: io.map(|io| io as u32),
        personality: personality.map(|domain| domain as u32),
        timer_slack,
    }
}

/// The processors on which we may run. The kernel takes away of those that are asked for what is not here or not allowed
/// (cpuset(7)), and tells nobody what that is: so all are asked for, for ourselves, and our own put back.
fn processors() -> BTreeSet<u32> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(own) = sched_getaffinity(None) else { return BTreeSet::new() };
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|n| all.set(n));
    let allowed = sched_setaffinity(None, &all).and_then(|()| sched_getaffinity(None)).unwrap_or(own);
    let _ = sched_setaffinity(None, &own);
    (0..CpuSet::MAX_CPU).filter(|n| allowed.is_set(*n)).map(|n| n as u32).collect()
}

/// The nodes that have memory, of those that we may have it from (mm/mempolicy.c, mpol_set_nodemask).
fn nodes(status: &[u8]) -> BTreeSet<u32> {
    let text = fs::read("/sys/devices/system/node/has_memory").unwrap_or_default();
    let here = proc::ids(&text).unwrap_or_default();
    match proc::mems_allowed(status) {
        Ok(Some(allowed)) if here.is_empty() => allowed,
        Ok(Some(allowed)) => &here & &allowed,
        _ => here,
    }
}

/// The highest number that we have open.
fn highest_fd() -> u32 {
    tracee::procfs::numbers("/proc/self/fd").max().unwrap_or(2)
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What else the image asks for: texts, and where links lead. What is not there is not told.
fn told(model: &Model) -> BTreeMap<String, String> {
    let ask = |path: String| {
        let link = fs::read_link(&path).map(|to| to.to_string_lossy().into_owned());
        let read = |_| if path.starts_with("/proc/net/") { sockets::table(&path) } else { fs::read_to_string(&path) };
        let text = link.or_else(read).ok()?;
        Some((path, text.trim_end().to_owned()))
    };
    let queue = |name: &resources::Text| Some((format!("/{name}"), find_mqueue(&name.0)?.number.to_string()));
    gathered(model.questions().into_iter().filter_map(ask).chain(model.queue_names().filter_map(queue)))
}

/// Whether nobody can have this address here, whatever the port.
fn is_absent(address: &SocketAddr) -> bool {
    let mut any_port = *address;
    any_port.set_port(0);
    UdpSocket::bind(any_port).is_err_and(|e| e.kind() == ErrorKind::AddrNotAvailable)
}

/// The files that the model names, as they are here.
fn files(model: &Model) -> BTreeMap<Vec<u8>, FileFacts> {
    let facts = |file: &resources::fd::file::File| {
        let bytes = file.path.0.clone();
        let m = statx(CWD, path(&bytes), AtFlags::empty(), StatxFlags::BASIC_STATS).ok()?;
        let build_id = || {
            let mut head = Vec::new();
            File::open(path(&bytes)).ok()?.take(4096).read_to_end(&mut head).ok()?;
            resources::fd::file::build_id(&head)
        };
        let build_id = if file.build_id.is_some() { build_id() } else { None };
        Some((
            bytes.clone(),
            FileFacts {
                mode: m.stx_mode.into(),
                size: m.stx_size,
                mtime: (m.stx_mtime.tv_sec, m.stx_mtime.tv_nsec),
                build_id,
                names: m.stx_nlink.into(),
                access: access(path(&bytes)),
                appends_only: m.stx_attributes.contains(StatxAttributes::APPEND),
                is_own: is_own(path(&bytes)),
                inode: Some((proc::makedev(m.stx_dev_major, m.stx_dev_minor), m.stx_ino)),
            },
        ))
    };
    gathered(model.files.values().filter_map(facts))
}

/// Whether a file is of our user and our group, and nothing but permission bits is in the way of who reads and writes it: no mount that is
/// read only, nor an attribute.
pub(crate) fn is_own(at: &Path) -> bool {
    let is_writable = |system: rustix::fs::StatVfs| !system.f_flag.contains(StatVfsMountFlags::RDONLY);
    let by_bits = |access| {
        let may = rustix::fs::accessat(CWD, at, access, AtFlags::EACCESS);
        matches!(may, Ok(()) | Err(rustix::io::Errno::ACCESS))
    };
    fs::metadata(at).is_ok_and(|m| m.is_file() && (m.uid(), m.gid()) == tracee::here::owners())
        && rustix::fs::statvfs(at).is_ok_and(is_writable)
        && by_bits(Access::READ_OK)
        && by_bits(Access::WRITE_OK)
}

/// What we may do there: bits of access(2).
fn access(at: &Path) -> u32 {
    let may = |a: Access| rustix::fs::accessat(CWD, at, a, AtFlags::EACCESS).map_or(0, |()| a.bits());
    [Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK].map(may).iter().sum()
}

/// The places that the model names, and that of temporary files, as they are here.
fn places(model: &Model) -> BTreeMap<Vec<u8>, PlaceFacts> {
    let temporary = std::env::temp_dir();
    let facts = |bytes: &[u8]| {
        let at = path(bytes);
        let itself = fs::symlink_metadata(at).ok()?;
        let (link, live) = (itself.is_symlink(), itself.file_type().is_socket() && bound::is_live(at));
        let m = fs::metadata(at).unwrap_or(itself);
        let inode = Some((m.dev(), m.ino()));
        Some(PlaceFacts { mode: m.mode(), link, access: access(at), live, rdev: m.rdev(), inode })
    };
    // Many are in the same few directories.
    let all: BTreeSet<&[u8]> = gathered(model.places().chain([temporary.as_os_str().as_bytes()]));
    gathered(all.into_iter().filter_map(|bytes| Some((bytes.to_vec(), facts(bytes)?))))
}

/// Who has the named pipes open that the model names, as they are here.
fn openers(model: &Model) -> BTreeMap<Vec<u8>, u32> {
    let inode = |bytes: &[u8]| {
        let m = fs::metadata(path(bytes)).ok().filter(|m| m.file_type().is_fifo())?;
        Some((bytes.to_vec(), (m.dev(), m.ino())))
    };
    let all: BTreeSet<&[u8]> = gathered(model.places());
    let here: Vec<(Vec<u8>, (u64, u64))> = all.into_iter().filter_map(inode).collect();
    let mut all = if here.is_empty() { HashMap::new() } else { crate::outside::openers(&BTreeSet::new()) };
    if !here.is_empty() {
        all.extend(crate::fifo::waiting());
    }
    gathered(here.into_iter().filter_map(|(path, inode)| Some((path, *all.get(&inode)?))))
}

/// Directories of files without a name that can hold such files here, all that the image has of them.
fn scratch(model: &Model) -> BTreeSet<Vec<u8>> {
    let mut needed: BTreeMap<&[u8], u64> = BTreeMap::new();
    for file in model.files.values().filter(|f| f.is_gone()) {
        let Some(directory) = file.directory().filter(|directory| path(directory).is_absolute()) else { continue };
        *needed.entry(directory).or_default() += file.contents.iter().flatten().map(|e| e.len).sum::<u64>();
    }
    let (mut there, mut of_device) = (Vec::new(), HashMap::<u64, u64>::new());
    for (directory, bytes) in needed {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let Ok(made) = rustix::fs::openat(CWD, path(directory), flags, Mode::from_raw_mode(0o600)) else { continue };
        let (Ok(stat), Ok(system)) = (rustix::fs::fstat(&made), rustix::fs::fstatvfs(&made)) else { continue };
        // Some do not tell.
        let free = if system.f_blocks == 0 { u64::MAX } else { system.f_bavail.saturating_mul(system.f_frsize) };
        *of_device.entry(stat.st_dev).or_default() += bytes;
        there.push((directory.to_vec(), stat.st_dev, free));
    }
    // What it takes besides is a part of that.
    there.retain(|(_, device, free)| free - free / 16 >= of_device[device]);
    gathered(there.into_iter().map(|(directory, ..)| directory))
}

/// Among so many a look begins.
const SPREAD: u32 = 128;

/// High ids that are free here and not the tree's; others at each look, as another thaw may look for some at this moment.
fn spare(model: &Model) -> Vec<u32> {
    let needed = resources::tree::lineage::helpers(model);
    let end = end_of_ids();
    let highest = end.unwrap_or(1 << 15);
    let own: BTreeSet<u32> = gathered(model.ids().into_iter().chain(model.leaders()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let apart = now.map_or(0, |now| now.subsec_micros()) % SPREAD;
    (2..highest.saturating_sub(apart))
        .rev()
        .filter(|id| !own.contains(id) && !is_taken(*id, end))
        .take(needed)
        .collect()
}

/// No process here can have this id, or a higher one (proc_sys_kernel(5)).
fn end_of_ids() -> Option<u32> {
    number("/proc/sys/kernel/pid_max").map(|max| max as u32)
}

/// An id is free when it is that of no process, thread or process group. That it is only that of a session, nothing tells but a birth.
fn is_taken(id: u32, end: Option<u32>) -> bool {
    use rustix::process::{Pid, test_kill_process, test_kill_process_group};
    let Some(pid) = Pid::from_raw(id as i32).filter(|_| end.is_none_or(|end| id < end)) else { return true };
    let free = |r: rustix::io::Result<()>| r == Err(rustix::io::Errno::SRCH);
    !free(test_kill_process(pid)) || !free(test_kill_process_group(pid))
}

/// The terminal of this process's session, by the name that one of its descriptors has.
fn terminal(own: (u32, u32)) -> Option<Terminal> {
    let named = (0..3).find_map(|fd| {
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let m = fs::metadata(&link).ok()?;
        ((proc::major(m.rdev()), proc::minor(m.rdev())) == own).then_some(link)
    });
    let by_number = || {
        let link = std::path::PathBuf::from(format!("/dev/pts/{}", own.1));
        let m = fs::metadata(&link).ok()?;
        ((proc::major(m.rdev()), proc::minor(m.rdev())) == own).then_some(link)
    };
    let path = named.or_else(by_number).filter(|p| File::options().read(true).write(true).open(p).is_ok());
    // Of another user's terminal (after su) only the name that needs no permission is left.
    let path = path.map_or_else(|| b"/dev/tty".to_vec(), |p| p.as_os_str().as_bytes().to_vec());
    Some(Terminal { path })
}

fn limits() -> Vec<(u64, u64)> {
    use rustix::process::{Resource as R, getrlimit};
    let all = [
        R::Cpu,
        R::Fsize,
        R::Data,
        R::Stack,
        R::Core,
        R::Rss,
        R::Nproc,
        R::Nofile,
        R::Memlock,
        R::As,
        R::Locks,
        R::Sigpending,
        R::Msgqueue,
        R::Nice,
        R::Rtprio,
        R::Rttime,
    ];
    all.map(|r| {
        let limit = getrlimit(r);
        (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
    })
    .to_vec()
}

/// The kernel's areas of this process: names and lengths, and the checksum of the vdso's code.
fn own_vdso() -> Result<(Vec<(String, u64)>, u64), Error> {
    let all = own_areas()?;
    let own: Vec<&proc::Area> = all.iter().filter(|a| vdso::is_kernel_area(&a.name)).collect();
    let shape = own.iter().map(|a| (String::from_utf8_lossy(&a.name).into_owned(), a.end - a.start)).collect();
    let sum = vdso_code(&all)?.map_or(0, |(_, code)| vdso::code_sum(&code));
    Ok((shape, sum))
}

/// The areas of this process.
pub(crate) fn own_areas() -> Result<Vec<proc::Area>, Error> {
    let text = fs::read("/proc/self/maps").map_err(|e| Error::io("read", "/proc/self/maps", e))?;
    Ok(proc::maps(&text).map_err(resources::Trouble::from)?)
}

/// Where the vdso of this process is, and its bytes.
pub(crate) fn vdso_code(areas: &[proc::Area]) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let Some(area) = areas.iter().find(|a| a.name == b"[vdso]") else { return Ok(None) };
    let memory = File::open("/proc/self/mem").map_err(|e| Error::io("open", "/proc/self/mem", e))?;
    let mut code = vec![0; (area.end - area.start) as usize];
    memory.read_exact_at(&mut code, area.start).map_err(|e| Error::io("read", "/proc/self/mem", e))?;
    Ok(Some((area.start, code)))
}
