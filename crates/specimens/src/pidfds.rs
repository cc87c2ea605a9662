//! Processes and threads behind descriptors.

use crate::kin;
use crate::life::Living;
use crate::pipes;
use crate::sys::{self, Outcome, must, same};

/// PIDFD_THREAD (linux/pidfd.h).
const THREAD: i32 = libc::O_EXCL;

fn pidfd(id: i32, flags: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) }).map(|fd| fd as i32)
}

/// Whose it is, and with which flags.
fn whose(fd: i32) -> Result<String, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let kept = |line: &&str| ["flags", "Pid"].iter().any(|key| line.starts_with(key));
    Ok(text.lines().filter(kept).collect::<Vec<_>>().join(", "))
}

fn lives(fd: i32) -> Outcome {
    // SAFETY: signal zero only asks.
    must("pidfd_send_signal", unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, 0, 0) }).map(drop)
}

/// How a child has ended, which it may be asked again.
fn status(fd: i32) -> Result<(i32, i32), String> {
    // SAFETY: zero is a value of the type.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: the kernel writes one value.
    must("waitid", unsafe { libc::waitid(libc::P_PIDFD, fd as u32, &raw mut info, options) })?;
    // SAFETY: waitid has filled these in.
    Ok((info.si_code, unsafe { info.si_status() }))
}

/// A child that has ended with this code, and of whose end nobody takes note.
fn ended(code: i32) -> Result<i32, String> {
    let pid = kin::fork()?;
    if pid == 0 {
        kin::exit(code);
    }
    Ok(pid)
}

fn other_thread() -> i32 {
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tell.send(sys::tid()).expect("somebody hears");
        loop {
            std::thread::park();
        }
    });
    hear.recv().expect("it says its id")
}

/// Our own, those of children that live and that have ended, and one of a thread.
pub(crate) fn kinds(_: &[String]) -> Result<Living, String> {
    let child = kin::plain()?;
    // SAFETY: takes nothing.
    let own = pidfd(unsafe { libc::getpid() }, libc::O_NONBLOCK)?;
    let (living, gone) = (pidfd(child.pid, 0)?, pidfd(ended(7)?, 0)?);
    let again = sys::fcntl(living, libc::F_DUPFD, 0)?;
    sys::soon("the end of a child", || sys::readable(gone))?;
    let thread = pidfd(other_thread(), THREAD)?;
    let epoll = pipes::epoll_of(&[living, gone, thread])?;
    let all = [own, living, again, gone, thread];
    let expected = all.map(whose);
    Living::reads(move |_| {
        same("whose they are", &expected, &all.map(whose))?;
        same("readable", &[false, false, false, true, false], &all.map(sys::readable))?;
        same("what is ready", &vec![gone as u64], &pipes::ready(epoll)?)?;
        [own, living, again, thread].into_iter().try_for_each(lives)?;
        same("how it has ended", &(libc::CLD_EXITED, 7), &status(gone)?)
    })
}

/// One of ours and one of a child, which another child has from us.
pub(crate) fn inherited(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes nothing.
    let all = [pidfd(unsafe { libc::getpid() }, libc::O_NONBLOCK)?, pidfd(kin::plain()?.pid, 0)?];
    let heir = kin::child(move || {
        Ok(move |question: &str| match question {
            "whose" => all.into_iter().try_for_each(lives).map(|()| format!("{:?}", all.map(whose))),
            _ => kin::obey(question),
        })
    })?;
    let expected = format!("{:?}", all.map(whose));
    Living::reads(move |_| {
        same("whose they are", &expected, &format!("{:?}", all.map(whose)))?;
        heir.says("whose", &expected)
    })
}

fn inode(fd: i32) -> Result<u64, String> {
    // SAFETY: zero is a value of the type.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one.
    must("fstat", unsafe { libc::fstat(fd, &raw mut stat) })?;
    Ok(stat.st_ino)
}

/// Two of one child that is no more, of which a relative has one too, and one of another.
pub(crate) fn gone(_: &[String]) -> Result<Living, String> {
    let children = [ended(3)?, ended(4)?];
    let all = [pidfd(children[0], 0)?, pidfd(children[0], libc::O_NONBLOCK)?, pidfd(children[1], 0)?];
    let heir = kin::child(move || {
        Ok(move |question: &str| match question {
            "inode" => inode(all[1]).map(|inode| inode.to_string()),
            _ => kin::obey(question),
        })
    })?;
    children.into_iter().try_for_each(|child| kin::wait(child, 0).map(drop))?;
    let flags = |fd| sys::fcntl(fd, libc::F_GETFL, 0);
    let expected = all.map(flags);
    Living::reads(move |_| {
        same("flags", &expected, &all.map(flags))?;
        same("readable", &[true; 3], &all.map(sys::readable))?;
        let whose = all.map(inode).into_iter().collect::<Result<Vec<_>, _>>()?;
        same("which are of one", &[true, false], &[whose[0] == whose[1], whose[0] == whose[2]])?;
        heir.says("inode", &whose[0].to_string())?;
        same("whether one lives", &[false; 3], &all.map(|fd| lives(fd).is_ok()))
    })
}

/// One of a process outside of the tree.
pub(crate) fn refused(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes nothing.
    let outside = pidfd(unsafe { libc::getppid() }, 0)?;
    Living::reads(move |_| same("readable", &false, &sys::readable(outside)))
}
