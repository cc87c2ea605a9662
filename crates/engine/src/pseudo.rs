//! New pseudo-terminals (pty(7)). Which number one gets nobody can choose: it is the lowest that is free (fs/devpts/inode.c,
//! devpts_new_index). So all below the wanted one are opened too, and closed again when that has come.

use crate::typed::literal;
use abi::consts::ioctl::{TIOCGPTN, TIOCSPTLCK};
use abi::consts::open::O_NOCTTY;
use abi::{Arg, Call, Errno, Sys};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
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

/// The master of one, unlocked, with its number: the wanted one, if nobody has it, and there is room for all below. What is opened on the
/// way has numbers from `above` on.
pub(crate) fn open(wanted: Option<u32>, flags: u32, above: u32) -> Result<(OwnedFd, u32), Errno> {
    let mut below: Vec<OwnedFd> = Vec::new();
    let mut at = new(flags)?;
    while wanted.is_some_and(|wanted| at.1 < wanted && wanted < MOST) {
        let Ok(passed) = fcntl_dupfd_cloexec(&at.0, above as i32) else { break };
        drop(at);
        below.push(passed);
        let next = new(flags);
        if matches!(next, Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC)) {
            // Neither descriptors nor terminals are without end.
            below.clear();
            at = new(flags)?;
            break;
        }
        at = next?;
    }
    ask(&at.0, TIOCSPTLCK, Arg::Bytes(vec![0; 4]))?;
    Ok(at)
}

/// As much as is taken: what was kept there before has room there again.
fn write_all(fd: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let args = [Arg::Int(fd), Arg::Bytes(bytes.to_vec()), Arg::Int(bytes.len() as u64)];
        let wrote = here::call(&Call::new(Sys::Write, args)).result? as usize;
        bytes = &bytes[wrote.min(bytes.len())..];
    }
    Ok(())
}

/// What waits at both ends. The kernel takes it in at its leisure (drivers/tty/tty_buffer.c), and as the settings say when it does: so it
/// is waited for. Of whole lines it tells how many bytes they are; of the rest of one it tells nothing.
pub(crate) fn fill(ends: [u64; 2], (lines, length): (&[u8], u64), rest: &[u8], shown: &[u8]) -> io::Result<()> {
    const TURN: Duration = Duration::from_millis(5);
    let [master, slave] = ends;
    let terminal =
        File::options().read(true).write(true).custom_flags(O_NOCTTY as i32).open(format!("/proc/self/fd/{slave}"))?;
    let mut settings = tcgetattr(&terminal)?;
    settings.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &settings)?;
    write_all(slave, shown)?;
    tcsetattr(&terminal, OptionalActions::Now, &literal(&settings))?;
    write_all(master, lines)?;
    let is_in = || rustix::io::ioctl_fionread(&terminal).is_ok_and(|bytes| bytes == length);
    for _ in 0..400 {
        if is_in() {
            break;
        }
        std::thread::sleep(TURN);
    }
    if !is_in() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    write_all(master, rest)?;
    std::thread::sleep(if rest.is_empty() { Duration::ZERO } else { TURN * 4 });
    Ok(())
}
