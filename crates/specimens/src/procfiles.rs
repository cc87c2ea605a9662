//! Files and directories of /proc that tell of processes.

use crate::kin;
use crate::life::Living;
use crate::sys::{self, fine, offset, open, same};

fn link(fd: i32) -> Result<String, String> {
    fine("link", std::fs::read_link(format!("/proc/self/fd/{fd}"))).map(|path| path.display().to_string())
}

/// Our own, read in part, those of a child, and one of the first process.
pub(crate) fn kinds(_: &[String]) -> Result<Living, String> {
    let child = kin::plain()?;
    let [maps, status] = [open("/proc/self/maps", libc::O_RDONLY)?, open("/proc/self/status", libc::O_RDONLY)?];
    let all = [
        maps,
        status,
        open("/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY)?,
        open("/proc/self/exe", libc::O_PATH | libc::O_NOFOLLOW)?,
        open(&format!("/proc/{}/stat", child.pid), libc::O_RDONLY)?,
        open("/proc/1/status", libc::O_RDONLY)?,
    ];
    for fd in [maps, status] {
        sys::read_up_to(fd, 30)?;
    }
    let links = all.map(link);
    Living::reads(move |_| {
        same("what they are", &links, &all.map(link))?;
        same("where they are read on", &[30, 30], &[offset(maps)?, offset(status)?])?;
        let told = String::from_utf8_lossy(&sys::read_up_to(status, 4000)?).into_owned();
        // SAFETY: touches no memory.
        sys::must("lseek", unsafe { libc::lseek(status, 30, libc::SEEK_SET) })?;
        let own = format!("Pid:\t{}\n", std::process::id());
        same("whether it tells of us", &true, &told.contains(&own))
    })
}

/// /proc itself, also a file below that tells of no process, and only a name: they are those of where the program lives.
pub(crate) fn whole(_: &[String]) -> Result<Living, String> {
    let directory = open("/proc", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let all = [directory, open("/proc", libc::O_PATH)?, open("/proc/sys/kernel/pid_max", libc::O_RDONLY)?];
    sys::read_up_to(all[2], 2)?;
    let links = all.map(link);
    Living::reads(move |_| {
        same("what they are", &links, &all.map(link))?;
        same("where it is read on", &2, &offset(all[2])?)?;
        for fd in &all[..2] {
            let mut own = [0u8; 16];
            // SAFETY: the name ends in NUL, and there is room for so many bytes.
            let len = unsafe { libc::readlinkat(*fd, c"self".as_ptr(), own.as_mut_ptr().cast(), own.len()) };
            let len = sys::must("readlinkat", len as i64)? as usize;
            same(
                "who we are there",
                &std::process::id().to_string(),
                &String::from_utf8_lossy(&own[..len]).into_owned(),
            )?;
        }
        Ok(())
    })
}

/// Of a process that is no more: its directory, which is our working directory too, a file of it, and only a name.
pub(crate) fn gone(_: &[String]) -> Result<Living, String> {
    let child = kin::plain()?;
    let path = format!("/proc/{}", child.pid);
    let all = [
        open(&path, libc::O_RDONLY | libc::O_DIRECTORY)?,
        open(&format!("{path}/stat"), libc::O_RDONLY)?,
        open(&path, libc::O_PATH | libc::O_CLOEXEC)?,
    ];
    sys::fine("chdir", std::env::set_current_dir(&path))?;
    kin::signal(child.pid, libc::SIGKILL)?;
    kin::wait(child.pid, 0)?;
    let flags = |fd| sys::fcntl(fd, libc::F_GETFL, 0);
    let expected = all.map(flags);
    Living::reads(move |_| {
        let seen = std::env::current_dir().map_err(|e| e.raw_os_error());
        same("the name of the working directory", &Err(Some(libc::ENOENT)), &seen.map(drop))?;
        same("flags", &expected, &all.map(flags))?;
        same("what can be read", &Err(libc::ESRCH), &sys::read(all[1], &mut [0; 9]))?;
        // SAFETY: the path ends in NUL and lives as long as the call.
        let below = unsafe { libc::openat(all[0], c"stat".as_ptr(), libc::O_RDONLY) };
        same("what stands below", &(-1, libc::ESRCH), &(below, sys::errno()))
    })
}

const NAMESPACES: [&str; 8] = ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time"];

/// Those in which we live, which a relative has too.
pub(crate) fn namespaces(_: &[String]) -> Result<Living, String> {
    let open_all = || {
        let open = |name| open(&format!("/proc/self/ns/{name}"), libc::O_RDONLY | libc::O_CLOEXEC);
        NAMESPACES.map(open).into_iter().collect::<Result<Vec<_>, _>>()
    };
    let all = open_all()?;
    kin::plain()?;
    Living::reads(move |_| {
        let now = open_all()?;
        let links = |fds: &[i32]| fds.iter().map(|fd| link(*fd)).collect::<Vec<_>>();
        let seen = same("where we live", &links(&now), &links(&all));
        now.into_iter().for_each(sys::close);
        seen
    })
}

/// One in which nobody lives.
pub(crate) fn namespace_of_others(_: &[String]) -> Result<Living, String> {
    let child = kin::child(|| {
        // SAFETY: takes integers.
        sys::must("unshare", unsafe { libc::unshare(libc::CLONE_NEWUTS) })?;
        Ok(kin::obey)
    })?;
    let fd = open(&format!("/proc/{}/ns/uts", child.pid), libc::O_RDONLY)?;
    kin::signal(child.pid, libc::SIGKILL)?;
    kin::wait(child.pid, 0)?;
    Living::reads(move |_| sys::fcntl(fd, libc::F_GETFD, 0).map(drop))
}
