//! The controlling terminal: its modes, its size, its foreground group, and the descriptors upon it.

use crate::life::Living;
use crate::signals;
use crate::sys::{self, must, same};

pub(crate) fn modes(fd: i32) -> Result<libc::termios, String> {
    // SAFETY: zero is a value of the type.
    let mut modes = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one termios.
    must("tcgetattr", unsafe { libc::tcgetattr(fd, &raw mut modes) })?;
    Ok(modes)
}

pub(crate) fn shown(modes: &libc::termios) -> String {
    format!("{:x} {:x} {:x} {:x} {:?}", modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag, &modes.c_cc[..17])
}

/// No echo, another erase character, no implementation of `\r`: as a program with its own line editor sets them.
pub(crate) fn termios(_: &[String]) -> Result<Living, String> {
    let mut wanted = modes(0)?;
    wanted.c_lflag &= !(libc::ECHO | libc::ECHOCTL);
    wanted.c_iflag &= !libc::IXON;
    wanted.c_cc[libc::VERASE] = b'#';
    wanted.c_cc[libc::VINTR] = 7;
    // SAFETY: the modes live as long as the call.
    must("tcsetattr", unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw const wanted) })?;
    let expected = shown(&modes(0)?);
    Living::reads(move |_| same("modes", &expected, &shown(&modes(0)?)))
}

/// Our group is in the foreground, the session is the terminal's, and all descriptors are that terminal.
pub(crate) fn foreground(_: &[String]) -> Result<Living, String> {
    let own = sys::open("/dev/tty", libc::O_RDWR | libc::O_CLOEXEC)?;
    let named = sys::open(&name_of(0)?, libc::O_RDWR | libc::O_NOCTTY)?;
    Living::reads(move |_| {
        // SAFETY: these take integers.
        let (group, foreground, session) = unsafe { (libc::getpgrp(), libc::tcgetpgrp(own), libc::tcgetsid(0)) };
        same("foreground group", &group, &foreground)?;
        // SAFETY: as above.
        same("session", &unsafe { libc::getsid(0) }, &session)?;
        let expected = name_of(0)?;
        same("the same terminal everywhere", &[&expected; 3], &[&name_of(1)?, &name_of(2)?, &name_of(named)?])
    })
}

fn name_of(fd: i32) -> Result<String, String> {
    sys::fine("fd", std::fs::read_link(format!("/proc/self/fd/{fd}"))).map(|path| path.display().to_string())
}

/// The new terminal has another size, and a program that wants to know is told.
pub(crate) fn resized(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGWINCH)?;
    Living::reads(|_| {
        sys::soon("SIGWINCH", || signals::count(libc::SIGWINCH) > 0)?;
        let mut size = [0u16; 4];
        // SAFETY: the kernel writes four numbers of 16 bits.
        must("TIOCGWINSZ", unsafe { libc::ioctl(0, libc::TIOCGWINSZ, size.as_mut_ptr()) })?;
        same("rows and columns are those of the second terminal", &[30, 100], &size[..2].try_into().expect("two"))
    })
}

/// What F_GETFL shows of every open file on 64-bit machines, where the C library's own constant is zero.
const LARGE_FILE: i32 = 0o100_000;

/// Status flags are of the description: not blocking, and shared by the three standard descriptors.
pub(crate) fn nonblocking(_: &[String]) -> Result<Living, String> {
    let fd = sys::open(&name_of(0)?, libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK)?;
    let standard = [0, 1, 2].map(|fd| sys::fcntl(fd, libc::F_GETFL, 0));
    Living::reads(move |_| {
        same(
            "flags of the second opening",
            &(libc::O_RDWR | libc::O_NONBLOCK),
            &(sys::fcntl(fd, libc::F_GETFL, 0)? & !LARGE_FILE),
        )?;
        same(
            "flags of standard input, output, error",
            &standard,
            &[0, 1, 2].map(|fd| sys::fcntl(fd, libc::F_GETFL, 0)),
        )?;
        same("a read without input", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 1]))
    })
}
