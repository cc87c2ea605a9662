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

/// Of a process that has ended.
pub(crate) fn gone(_: &[String]) -> Result<Living, String> {
    let child = kin::fork()?;
    if child == 0 {
        kin::exit(3);
    }
    let fd = open(&format!("/proc/{child}/stat"), libc::O_RDONLY)?;
    kin::wait(child, 0)?;
    Living::reads(move |_| {
        // SAFETY: the buffer is ours.
        let read = unsafe { libc::read(fd, [0u8; 9].as_mut_ptr().cast(), 9) };
        same("what can be read", &-1, &read)
    })
}
