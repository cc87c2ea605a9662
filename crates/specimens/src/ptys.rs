//! Pseudo-terminals: masters and slaves, and sessions that live on them.

use crate::kin::{self, Kin};
use crate::life::Living;
use crate::signals;
use crate::sys::{self, Outcome, must, same};
use crate::terminal::{modes, shown};

fn get(fd: i32, request: u64) -> Result<i32, String> {
    let mut value = 0;
    // SAFETY: the kernel writes one number.
    must(&format!("ioctl {request:#x}"), unsafe { libc::ioctl(fd, request, &raw mut value) }).map(|_| value)
}

fn set(fd: i32, request: u64, value: i32) -> Outcome {
    // SAFETY: the kernel reads one number.
    must(&format!("ioctl {request:#x}"), unsafe { libc::ioctl(fd, request, &raw const value) }).map(drop)
}

fn call(fd: i32, request: u64, value: i32) -> Result<i32, String> {
    // SAFETY: these take an integer.
    must(&format!("ioctl {request:#x}"), unsafe { libc::ioctl(fd, request, value) }).map(|value| value as i32)
}

/// A master whose slaves can be opened.
fn master() -> Result<i32, String> {
    let master = sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    set(master, libc::TIOCSPTLCK, 0).map(|()| master)
}

fn slave(master: i32, flags: i32) -> Result<i32, String> {
    sys::open(&format!("/dev/pts/{}", get(master, libc::TIOCGPTN)?), flags)
}

/// Neither echo nor lines.
fn raw(fd: i32) -> Outcome {
    let mut raw = modes(fd)?;
    // SAFETY: changes what is ours.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    raw.c_cc[libc::VQUIT] = 7;
    // SAFETY: the modes live as long as the call.
    must("tcsetattr", unsafe { libc::tcsetattr(fd, libc::TCSANOW, &raw const raw) }).map(drop)
}

/// What is written at one end is read at the other.
fn leads(from: i32, to: i32) -> Outcome {
    sys::write(from, b"words")?;
    sys::soon("what was written", || sys::readable(to))?;
    sys::same_bytes("what was written", b"words", &sys::read_up_to(to, 99)?)
}

fn size(fd: i32) -> Result<[u16; 4], String> {
    let mut size = [0u16; 4];
    // SAFETY: the kernel writes four numbers of 16 bits.
    must("TIOCGWINSZ", unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr()) }).map(|_| size)
}

/// One with two slaves and settings of its own, one in packet mode and one of exclusive use.
pub(crate) fn ends(_: &[String]) -> Result<Living, String> {
    let plain = master()?;
    let slaves = [
        slave(plain, libc::O_RDWR | libc::O_NOCTTY)?,
        slave(plain, libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK)?,
    ];
    raw(slaves[0])?;
    let given = [33u16, 77, 5, 6];
    // SAFETY: the kernel reads four numbers of 16 bits.
    must("TIOCSWINSZ", unsafe { libc::ioctl(plain, libc::TIOCSWINSZ, given.as_ptr()) })?;
    // SAFETY: takes integers.
    must("fchmod", unsafe { libc::fchmod(slaves[0], 0o604) })?;
    let packets = master()?;
    let other = slave(packets, libc::O_RDWR | libc::O_NOCTTY)?;
    raw(other)?;
    set(packets, libc::TIOCPKT, 1)?;
    call(other, libc::TIOCEXCL, 0)?;
    let watched = crate::pipes::epoll_of(&[plain, other])?;
    let expected = shown(&modes(slaves[0])?);
    let nonblocking = sys::fcntl(slaves[1], libc::F_GETFL, 0)?;
    Living::reads(move |_| {
        same("modes", &[&expected; 2], &[&shown(&modes(slaves[0])?), &shown(&modes(plain)?)])?;
        same("sizes", &[given; 2], &[size(plain)?, size(slaves[1])?])?;
        same("flags", &nonblocking, &sys::fcntl(slaves[1], libc::F_GETFL, 0)?)?;
        let path = format!("/proc/self/fd/{}", slaves[0]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&sys::fine("stat", std::fs::metadata(path))?.permissions());
        same("who may use it", &0o604, &(mode & 0o777))?;
        leads(plain, slaves[0])?;
        leads(plain, slaves[1])?;
        leads(slaves[0], plain)?;
        leads(packets, other)?;
        same(
            "packet mode, and exclusive use",
            &[1, 1],
            &[get(packets, libc::TIOCGPKT)?, get(other, libc::TIOCGEXCL)?],
        )?;
        same("neither", &[0, 0], &[get(plain, libc::TIOCGPKT)?, get(slaves[0], libc::TIOCGEXCL)?])?;
        sys::write(other, b"words")?;
        sys::soon("a packet", || sys::readable(packets))?;
        same("what is ready", &Vec::<u64>::new(), &crate::pipes::ready(watched)?)?;
        sys::same_bytes("a packet", b"\0words", &sys::read_up_to(packets, 99)?)
    })
}

/// One that is locked and was never opened, one whose slaves are closed, and slaves whose master is.
pub(crate) fn halves(_: &[String]) -> Result<Living, String> {
    let locked = sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    let (left, gone) = (master()?, master()?);
    sys::close(slave(left, libc::O_RDWR | libc::O_NOCTTY)?);
    let hung = [slave(gone, libc::O_RDWR | libc::O_NOCTTY)?, slave(gone, libc::O_WRONLY | libc::O_NOCTTY)?];
    sys::close(gone);
    Living::reads(move |_| {
        same("locks", &[1, 0], &[get(locked, libc::TIOCGPTLCK)?, get(left, libc::TIOCGPTLCK)?])?;
        same("readable", &[false, true], &[locked, left].map(sys::readable))?;
        same("a read where no slave is open", &Err(libc::EIO), &sys::read(left, &mut [0; 9]))?;
        same("a read without a master", &Ok(0), &sys::read(hung[0], &mut [0; 9]))?;
        let written = sys::write(hung[1], b"words").map_err(|_| sys::errno());
        same("a write without a master", &Err(libc::EIO), &written)
    })
}

/// The leader of a session on a terminal of ours, and a job of it that has the foreground.
fn leader(master: i32) -> Result<Kin, String> {
    kin::child(move || {
        // SAFETY: takes nothing.
        must("setsid", unsafe { libc::setsid() })?;
        let terminal = slave(master, libc::O_RDWR)?;
        sys::close(master);
        signals::catch(libc::SIGHUP)?;
        let job = kin::child(|| {
            // SAFETY: takes integers.
            must("setpgid", unsafe { libc::setpgid(0, 0) })?;
            signals::catch(libc::SIGINT)?;
            Ok(kin::obey)
        })?;
        // SAFETY: takes integers.
        must("tcsetpgrp", unsafe { libc::tcsetpgrp(terminal, job.pid) })?;
        sys::close(terminal);
        let mut below = kin::parent_of(vec![job]);
        Ok(move |question: &str| match question {
            "foreground" => {
                let terminal = sys::open("/dev/tty", libc::O_RDWR)?;
                // SAFETY: takes an integer.
                let group = unsafe { libc::tcgetpgrp(terminal) };
                sys::close(terminal);
                Ok((group == job.pid).to_string())
            }
            _ => below(question),
        })
    })
}

/// A session on a terminal of ours, which nobody in it has open: the terminal tells its job of Ctrl-C, and of nothing else.
pub(crate) fn session(_: &[String]) -> Result<Living, String> {
    let master = master()?;
    let leader = leader(master)?;
    let mut typed = 0;
    Living::reads(move |_| {
        same("the session of the terminal", &leader.pid, &get(master, libc::TIOCGSID)?)?;
        leader.says("foreground", "true")?;
        typed += 1;
        sys::write(master, b"\x03")?;
        let told = || leader.ask(&format!("below 0 count {}", libc::SIGINT)) == Ok(typed.to_string());
        sys::soon("Ctrl-C", told)?;
        leader.says(&format!("count {}", libc::SIGHUP), "0")?;
        sys::soon("the echo of it", || sys::readable(master))?;
        // The slave is opened and closed by each look; what it showed is there.
        sys::same_bytes("the echo of it", b"^C", &sys::read_up_to(master, 99)?)
    })
}

/// One in which something waits at both ends, with line discipline and echo, and one without.
pub(crate) fn waiting(_: &[String]) -> Result<Living, String> {
    let masters = [master()?, master()?];
    let slaves = [slave(masters[0], libc::O_RDWR | libc::O_NOCTTY)?, slave(masters[1], libc::O_RDWR | libc::O_NOCTTY)?];
    raw(slaves[1])?;
    let write = move || {
        sys::write(masters[0], b"one\ntwo\nthr")?;
        let echo = b"one\r\ntwo\r\nthr".len() as i32;
        sys::soon("the echo", || get(masters[0], libc::FIONREAD).is_ok_and(|count| count == echo))?;
        sys::write(masters[1], b"\x03in\r")?;
        sys::write(slaves[0], b"out\n")?;
        sys::write(slaves[1], b"out\n")?;
        sys::soon("what was written", || slaves.iter().all(|slave| sys::readable(*slave)))
    };
    write()?;
    Living::reads(move |_| {
        sys::write(masters[0], b"ee\n")?;
        let all = b"one\r\ntwo\r\nthrout\r\nee\r\n";
        sys::soon("the echo", || get(masters[0], libc::FIONREAD).is_ok_and(|count| count == all.len() as i32))?;
        for line in [&b"one\n"[..], b"two\n", b"three\n"] {
            sys::soon("a line", || sys::readable(slaves[0]))?;
            sys::same_bytes("a line", line, &sys::read_up_to(slaves[0], 99)?)?;
        }
        sys::same_bytes("without lines", b"\x03in\r", &sys::read_up_to(slaves[1], 99)?)?;
        sys::same_bytes("shown", all, &sys::read_up_to(masters[0], 99)?)?;
        sys::same_bytes("shown", b"out\n", &sys::read_up_to(masters[1], 99)?)?;
        same("more", &[false; 4], &[masters[0], masters[1], slaves[0], slaves[1]].map(sys::readable))?;
        write()
    })
}

/// One that nobody of us can read what waits in, or whose output is stopped.
pub(crate) fn refused(arguments: &[String]) -> Result<Living, String> {
    let master = master()?;
    let stopped = slave(master, libc::O_WRONLY | libc::O_NOCTTY)?;
    raw(stopped)?;
    if arguments.first().is_some_and(|word| word == "waiting") {
        sys::write(master, b"in")?;
        sys::soon("what was written", || get(stopped, libc::FIONREAD).is_ok_and(|count| count == 2))?;
    } else {
        call(stopped, libc::TCXONC, libc::TCOOFF)?;
    }
    Living::reads(move |_| same("readable", &false, &sys::readable(master)))
}
