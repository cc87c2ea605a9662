//! The first program in a new pseudo-terminal: a session of its own, nothing inherited, not even an ignored signal, the uid that was asked for.
//!
//! `specimen launch UID PROGRAM…` makes the terminal on descriptor 0 its controlling terminal (`tty_ioctl(4)`: only a
//! session leader without one may), closes every other descriptor, drops to UID (0: stays root), and executes PROGRAM.

use crate::filters;
use crate::sys::{self, must};
use std::ffi::CString;
use std::process::ExitCode;

pub(crate) fn launch(words: &[String]) -> ExitCode {
    let reason = become_program(words).expect_err("a program that was executed never returns");
    sys::say(&format!("launch: {reason}"));
    ExitCode::from(126)
}

/// `specimen plainly PROGRAM…` executes PROGRAM as if nobody had ignored or blocked a signal.
pub(crate) fn plainly(words: &[String]) -> ExitCode {
    heed_signals();
    let reason = execute(words).expect_err("a program that was executed never returns");
    sys::say(&format!("plainly: {reason}"));
    ExitCode::from(126)
}

/// `specimen older PROGRAM…` executes PROGRAM as on an older kernel.
pub(crate) fn older(words: &[String]) -> ExitCode {
    let reason = filters::older().and_then(|()| execute(words)).expect_err("a program that was executed never returns");
    sys::say(&format!("older: {reason}"));
    ExitCode::from(126)
}

/// What is ignored or blocked is inherited by execve(2): a shell without job control has SIGINT ignored in what it starts in the
/// background, nohup(1) SIGHUP.
fn heed_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is named; those signals that have to stay as they are the call refuses.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is one of zeroes (linux/signal.h), and only read.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &std::mem::zeroed(), std::ptr::null_mut()) };
}

fn become_program(words: &[String]) -> Result<(), String> {
    let (uid, command) = words.split_first().ok_or("launch needs a uid and a program")?;
    heed_signals();
    own_terminal()?;
    drop_to(uid.parse().map_err(|_| format!("not a uid: {uid}"))?)?;
    execute(command)
}

fn own_terminal() -> Result<(), String> {
    // SAFETY: three calls that take integers only; no descriptor above 2 is used after this.
    unsafe {
        must("setsid", libc::setsid())?;
        must("TIOCSCTTY", libc::ioctl(0, libc::TIOCSCTTY, 0))?;
        must("close_range", libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0))?;
    }
    Ok(())
}

fn drop_to(uid: u32) -> Result<(), String> {
    if uid == 0 {
        return Ok(());
    }
    // SAFETY: an empty list of groups is never read; the other calls take integers only.
    unsafe {
        must("fchown of the terminal", libc::fchown(0, uid, uid))?;
        must("setgroups", libc::setgroups(0, std::ptr::null()))?;
        must("setresgid", libc::setresgid(uid, uid, uid))?;
        must("setresuid", libc::setresuid(uid, uid, uid))?;
    }
    sys::prctl(libc::PR_SET_DUMPABLE, [1, 0, 0, 0]).map(drop)
}

fn execute(command: &[String]) -> Result<(), String> {
    let owned: Vec<CString> =
        command.iter().map(|word| CString::new(word.as_str()).expect("no NUL in a word")).collect();
    let mut words: Vec<*const libc::c_char> = owned.iter().map(|word| word.as_ptr()).collect();
    words.push(std::ptr::null());
    let program = owned.first().ok_or("launch needs a program")?;
    for _ in 0..500 {
        // SAFETY: a NUL-terminated name, and a list of such words that ends in null; both live until the call.
        unsafe { libc::execvp(program.as_ptr(), words.as_ptr()) };
        // Somebody who was born while the program was copied still has it open for writing, until he executes another.
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::ETXTBSY) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(format!("cannot execute {program:?}: {}", std::io::Error::last_os_error()))
}
