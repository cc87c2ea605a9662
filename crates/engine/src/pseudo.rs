//! New pseudo-terminals (pty(7)). Which number one gets nobody can choose: it is the lowest that is free (fs/devpts/inode.c,
//! devpts_new_index). So all below the wanted one are opened too, and closed again when that has come.

use abi::consts::ioctl::{TIOCGPTN, TIOCSPTLCK};
use abi::consts::open::O_NOCTTY;
use abi::{Arg, Call, Errno, Sys};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use std::os::fd::{AsRawFd, OwnedFd};
use tracee::here;

/// A machine has 4096 (sysctl kernel.pty.max), which others want as well.
const MOST: u32 = 1024;

fn ask(terminal: &OwnedFd, request: u64, arg: Arg) -> Result<u32, Errno> {
    let answer = here::call(&Call::new(Sys::Ioctl, [Arg::Int(terminal.as_raw_fd() as u64), Arg::Int(request), arg]));
    answer.result?;
    Ok(answer.out.first().and_then(|out| out.first_chunk()).map_or(0, |n| u32::from_ne_bytes(*n)))
}

fn new(flags: u32) -> Result<(OwnedFd, u32), Errno> {
    let flags = OFlags::from_bits_retain(flags | O_NOCTTY) | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, "/dev/ptmx", flags, Mode::empty()).map_err(std::io::Error::from)?;
    let number = ask(&opened, TIOCGPTN, Arg::Out(4))?;
    Ok((opened, number))
}

/// The master of one, unlocked, with its number: the wanted one, if nobody has it. What is opened on the way has numbers from `above` on.
pub(crate) fn open(wanted: Option<u32>, flags: u32, above: u32) -> Result<(OwnedFd, u32), Errno> {
    let mut below: Vec<OwnedFd> = Vec::new();
    let mut at = new(flags)?;
    while wanted.is_some_and(|wanted| at.1 < wanted && wanted < MOST) {
        let passed = fcntl_dupfd_cloexec(&at.0, above as i32).map_err(std::io::Error::from)?;
        drop(at);
        below.push(passed);
        at = new(flags)?;
    }
    ask(&at.0, TIOCSPTLCK, Arg::Bytes(vec![0; 4]))?;
    Ok(at)
}
