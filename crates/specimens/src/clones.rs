//! What `clone(2)` lets processes share, and other rarities of it: in each case it must still be shared.

use crate::family::state;
use crate::kin::{self, Answer, Kin, SetUp};
use crate::life::{self, Living};
use crate::signals;
use crate::sys::{self, Outcome, must, same};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Where who shares our memory leaves a number.
static WORD: AtomicU32 = AtomicU32::new(0);

fn answering(answer: fn(&str) -> Answer) -> SetUp {
    Box::new(move || Ok(Box::new(answer)))
}

/// What a relative does to what it may share with us.
fn doing(question: &str) -> Answer {
    match question.split_once(' ').unwrap_or((question, "")) {
        ("open", path) => sys::open(path, libc::O_RDONLY | libc::O_CLOEXEC).map(|fd| fd.to_string()),
        ("close", fd) => {
            sys::close(fd.parse().map_err(|_| "no number")?);
            Ok(String::new())
        }
        ("chdir", path) => sys::fine("chdir", std::env::set_current_dir(path)).map(|()| String::new()),
        ("where", _) => here(),
        ("umask", _) => Ok(umask(0o27).to_string()),
        ("word", number) => Ok(WORD.swap(number.parse().map_err(|_| "no number")?, SeqCst).to_string()),
        ("ignore", signal) => {
            // SAFETY: no handler is named.
            unsafe { libc::signal(signal.parse().map_err(|_| "no number")?, libc::SIG_IGN) };
            Ok(String::new())
        }
        ("catch", signal) => signals::catch(signal.parse().map_err(|_| "no number")?).map(|()| String::new()),
        _ => kin::obey(question),
    }
}

fn here() -> Answer {
    sys::fine("getcwd", std::env::current_dir()).map(|path| path.display().to_string())
}

fn umask(mask: u32) -> u32 {
    // SAFETY: takes an integer.
    unsafe { libc::umask(mask) }
}

/// Whether the action of the signal is to ignore it.
fn is_ignored(signal: i32) -> Result<bool, String> {
    // SAFETY: zero is a value of the type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one action.
    must("sigaction", unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

fn share_files(kin: Kin) -> Outcome {
    let text = kin.ask("open /dev/null")?;
    let fd: i32 = text.parse().map_err(|_| "no number")?;
    same("what was opened there, here", &libc::FD_CLOEXEC, &sys::fcntl(fd, libc::F_GETFD, 0)?)?;
    sys::close(fd);
    kin.says("open /dev/null", &text)?;
    kin.says(&format!("close {fd}"), "")?;
    same("closed there, open here", &false, &sys::fcntl(fd, libc::F_GETFD, 0).is_ok())
}

fn share_fs(kin: Kin) -> Outcome {
    let home = here()?;
    kin.says("chdir /usr", "")?;
    same("where we are", &"/usr".to_owned(), &here()?)?;
    sys::fine("chdir", std::env::set_current_dir(&home))?;
    kin.says("where", &home)?;
    let before = umask(0o26);
    kin.says("umask", &0o26.to_string())?;
    same("the other's mask", &0o27, &umask(before))
}

fn share_memory(kin: Kin) -> Outcome {
    WORD.store(7, SeqCst);
    kin.says("word 9", "7")?;
    same("the word", &9, &WORD.load(SeqCst))
}

fn share_handlers(kin: Kin) -> Outcome {
    same("SIGUSR2 is ignored", &false, &is_ignored(libc::SIGUSR2)?)?;
    kin.says("ignore 12", "")?;
    same("SIGUSR2 is ignored", &true, &is_ignored(libc::SIGUSR2)?)?;
    kin.says("catch 12", "")?;
    same("SIGUSR2 is ignored", &false, &is_ignored(libc::SIGUSR2)?)
}

fn sharing(flags: i32, checks: &'static [fn(Kin) -> Outcome]) -> Result<Living, String> {
    let kin = kin::clone(flags | libc::SIGCHLD, answering(doing))?;
    let expected = kin.place()?;
    Living::reads(move |_| {
        same("own id, parent, group, session", &expected, &kin.place()?)?;
        checks.iter().try_for_each(|check| check(kin))
    })
}

pub(crate) fn files(_: &[String]) -> Result<Living, String> {
    sharing(libc::CLONE_FILES, &[share_files])
}

pub(crate) fn fs(_: &[String]) -> Result<Living, String> {
    sharing(libc::CLONE_FS, &[share_fs])
}

pub(crate) fn memory(_: &[String]) -> Result<Living, String> {
    sharing(libc::CLONE_VM, &[share_memory])
}

pub(crate) fn handlers(_: &[String]) -> Result<Living, String> {
    sharing(libc::CLONE_VM | libc::CLONE_SIGHAND, &[share_memory, share_handlers])
}

pub(crate) fn everything(_: &[String]) -> Result<Living, String> {
    let flags = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_FILES | libc::CLONE_FS;
    sharing(flags, &[share_memory, share_handlers, share_files, share_fs])
}

/// Siblings share a directory and descriptors with each other, and not with us, who are the parent of both (CLONE_PARENT).
pub(crate) fn siblings(_: &[String]) -> Result<Living, String> {
    let line = kin::Line::new()?;
    let elder = kin::child(|| {
        let flags = libc::CLONE_PARENT | libc::CLONE_FS | libc::CLONE_FILES;
        let younger = kin::clone_on(line, flags, answering(doing))?;
        Ok(move |question: &str| if question == "younger" { Ok(younger.to_string()) } else { doing(question) })
    })?;
    let pid = elder.ask("younger")?.parse().map_err(|_| "no number")?;
    let younger = line.kin(pid);
    younger.hear()?;
    let expected = [elder.place()?, younger.place()?];
    let home = here()?;
    Living::reads(move |_| {
        same("own ids, parents, groups, sessions", &expected, &[elder.place()?, younger.place()?])?;
        elder.says("chdir /usr", "")?;
        younger.says("where", "/usr")?;
        younger.says(&format!("chdir {home}"), "")?;
        same("where we are", &home, &here()?)?;
        let fd = younger.ask("open /dev/null")?;
        elder.says(&format!("close {fd}"), "")?;
        younger.says("open /dev/null", &fd)?;
        younger.says(&format!("close {fd}"), "")
    })
}

/// Children of whose end we are told by no signal, and by SIGUSR1.
pub(crate) fn exit_signals(_: &[String]) -> Result<Living, String> {
    [libc::SIGCHLD, libc::SIGUSR1, libc::SIGUSR2].into_iter().try_for_each(signals::catch)?;
    let make = |signal| kin::clone(signal, answering(doing));
    let dead = [make(0)?, make(libc::SIGUSR1)?, make(libc::SIGUSR2)?];
    for kin in dead {
        kin.tell("exit 2")?;
        sys::soon("its end", || state(kin.pid) == Some('Z'))?;
    }
    let mut left = vec![(dead[0], 1), (dead[1], 1), (dead[2], 1), (make(0)?, 1), (make(libc::SIGUSR1)?, 2)];
    Living::reads(move |_| {
        for (kin, count) in left.drain(..) {
            if !dead.iter().any(|other| other.pid == kin.pid) {
                kin.tell("exit 2")?;
            }
            same("its end", &(kin.pid, 2 << 8), &kin::wait(kin.pid, libc::__WALL)?)?;
            sys::soon("SIGUSR1", || signals::count(libc::SIGUSR1) >= count)?;
            let counts = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGCHLD].map(signals::count);
            same("SIGUSR1, SIGUSR2 and SIGCHLD came", &[count, 1, 0], &counts)?;
        }
        kin::childless()
    })
}

/// A child that waits in vfork(2) for its own, which sleeps until we let it end.
pub(crate) fn vforked(_: &[String]) -> Result<Living, String> {
    let line = kin::Line::new()?;
    let child = kin::child(move || {
        Ok(move |question: &str| match question {
            "vfork" => {
                let pid = kin::clone_on(line, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, answering(doing))?;
                kin::wait(pid, 0).map(|(_, status)| status.to_string())
            }
            _ => kin::obey(question),
        })
    })?;
    let begin = move || {
        child.tell("vfork")?;
        line.kin(0).hear()?;
        same("the state of who waits", &Some('D'), &state(child.pid))
    };
    begin()?;
    Living::reads(move |_| {
        same("the state of who waits", &Some('D'), &state(child.pid))?;
        line.kin(0).tell("exit 7")?;
        same("how its child ended", &(7 << 8).to_string(), &child.hear()?)?;
        begin()
    })
}

/// A child that has in common with us what semaphores get back.
pub(crate) fn undo(_: &[String]) -> Result<Living, String> {
    let child = kin::clone(libc::CLONE_SYSVSEM | libc::SIGCHLD, answering(kin::obey))?;
    Living::reads(move |_| child.place().map(drop))
}

/// A child whose first thread has ended, and whose others live.
pub(crate) fn leader_ended(_: &[String]) -> Result<Living, String> {
    let line = kin::Line::new()?;
    let pid = kin::fork()?;
    if pid == 0 {
        std::thread::spawn(move || line.serve(second_thread));
        // SAFETY: the other thread needs nothing of this one but its stack, which stays.
        unsafe { libc::syscall(libc::SYS_exit, 5) };
    }
    let kin = line.kin(pid);
    kin.hear()?;
    sys::soon("the end of its first thread", || state(pid) == Some('Z'))?;
    let expected = kin.place()?;
    let mut ended = false;
    Living::reads(move |_| {
        if std::mem::replace(&mut ended, true) {
            return Ok(());
        }
        same("own id, parent, group, session", &expected, &kin.place()?)?;
        kin.says("thread", "another")?;
        kin.ask("below 0 who")?;
        same("the state of the first", &Some('Z'), &state(pid))?;
        same("its end is told", &0, &kin::wait(pid, libc::WNOHANG)?.0)?;
        kin.tell("exit 8")?;
        same("its end", &(pid, 8 << 8), &kin::wait(pid, 0)?)
    })
}

/// The first process itself, of which a second thread does all.
pub(crate) fn root_leader_ended(_: &[String]) -> Result<Living, String> {
    let own = std::process::id() as i32;
    // A signal to the process waits; none of its threads takes it.
    let waits = signals::block(&[libc::SIGUSR1]).and_then(|()| kin::signal(own, libc::SIGUSR1));
    // SIGWINCH, which every thaw sends, is there until the thread takes it that looks.
    let waiting = || {
        let set = sys::status("ShdPnd")?;
        let bits = u64::from_str_radix(&set, 16).map_err(|e| format!("{set}: {e}"))?;
        Ok::<u64, String>(bits & !(1 << (libc::SIGWINCH - 1)))
    };
    let waits = waits.and_then(|()| waiting());
    std::thread::spawn(move || {
        let ended = sys::soon("the end of its first thread", || state(own) == Some('Z'));
        let living = Living::reads(move |_| {
            same("the state of the first", &Some('Z'), &state(own))?;
            same("the signal that waits", &waits.clone(), &waiting())
        });
        let status = ended.and(living).map_or(2, |living| i32::from(life::live(living) != ExitCode::SUCCESS));
        std::process::exit(status)
    });
    // SAFETY: the other thread needs nothing of this one but its stack, which stays.
    unsafe { libc::syscall(libc::SYS_exit, 5) };
    unreachable!("it has ended")
}

/// It has a child, which is to end with it, and not with the first thread.
fn second_thread() -> Result<impl FnMut(&str) -> Answer, String> {
    // SAFETY: takes nothing.
    sys::soon("the end of the first thread", || state(unsafe { libc::getpid() }) == Some('Z'))?;
    let mut family = kin::parent_of(vec![kin::plain()?]);
    Ok(move |question: &str| {
        let first = sys::tid() as u32 == std::process::id();
        if question == "thread" { Ok(if first { "the first" } else { "another" }.into()) } else { family(question) }
    })
}
