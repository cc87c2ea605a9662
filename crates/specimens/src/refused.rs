//! Things that are not supported yet: the harness wants to see each refused, and the program unharmed.

use crate::life::Living;
use crate::nets;
use crate::sys::{self, must, same};

/// A child that sleeps until it is killed.
pub(crate) fn child(_: &[String]) -> Result<Living, String> {
    // SAFETY: the child calls only what may be called after fork, and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above; it ends with its parent.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    let pid = must("fork", pid)? as i32;
    // A newborn still tells the kernel of its list of robust futexes.
    let calls = || std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    sys::soon("the child sleeps", || calls().starts_with(&format!("{} ", libc::SYS_pause)))?;
    // SAFETY: signal zero only asks.
    Living::reads(move |_| same("the child is there", &0, &unsafe { libc::kill(pid, 0) }))
}

pub(crate) fn socket_pair(_: &[String]) -> Result<Living, String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("socketpair", unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) })?;
    Living::reads(move |_| {
        sys::write(ends[0], b"across")?;
        same("what came across", &Ok(b"across".to_vec()), &sys::read_up_to(ends[1], 100))
    })
}

/// Several reasons at once, which must all be named: a socket, a namespace; a child besides.
/// A segment of its own: `modify_ldt(2)`, entry 1, a flat data segment.
pub(crate) fn segments(_: &[String]) -> Result<Living, String> {
    let description = [1u32, 0, 0xfffff, 0b101_0001];
    // SAFETY: the description has the layout and length of struct user_desc.
    must("modify_ldt", unsafe { libc::syscall(libc::SYS_modify_ldt, 1, description.as_ptr(), 16) })?;
    Living::reads(|_| Ok(()))
}

pub(crate) fn several(arguments: &[String]) -> Result<Living, String> {
    let fd = nets::netlink(libc::NETLINK_ROUTE)?;
    nets::ask_for_links(fd)?;
    /// UFFD_USER_MODE_ONLY (linux/userfaultfd.h): anybody may make such a one.
    const USER_MODE_ONLY: i32 = 1;
    // SAFETY: takes an integer.
    let faults = sys::must("userfaultfd", unsafe { libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY) })? as i32;
    let mut living = child(arguments)?;
    Ok(Living {
        act: living.act,
        check: Box::new(move |away| {
            same(
                "descriptors are open",
                &[0, 0],
                &[sys::fcntl(fd, libc::F_GETFD, 0)?, sys::fcntl(faults, libc::F_GETFD, 0)?],
            )?;
            (living.check)(away)
        }),
    })
}
