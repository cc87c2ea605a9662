//! Locks on files: whose they are, where, and who waits for them.

use crate::kin;
use crate::life::Living;
use crate::mem::{Area, READ_WRITE};
use crate::sys::{self, Outcome, fine, must, open, same};
use crate::{signalling, signals};

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: zero is a value of the type.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, start, len);
    lock
}

fn ask(fd: i32, command: i32, lock: &mut libc::flock) -> Outcome {
    // SAFETY: the struct is ours.
    must("fcntl", unsafe { libc::fcntl(fd, command, &raw mut *lock) }).map(drop)
}

fn lock(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> Outcome {
    ask(fd, command, &mut range(kind, start, len))
}

/// Who has a lock there that does not allow an exclusive one of ours: 0 if nobody has.
fn holder(fd: i32, start: i64) -> Result<i32, String> {
    let mut lock = range(libc::F_WRLCK, start, 1);
    ask(fd, libc::F_GETLK, &mut lock)?;
    Ok(if lock.l_type == libc::F_UNLCK as i16 { 0 } else { lock.l_pid })
}

/// The locks that a descriptor shows, without the numbers of the host, but with the process that asked for each.
fn shown(fd: i32) -> Result<Vec<String>, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let words = |line: &str| line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>();
    let told = |w: Vec<String>| [&w[..4], &w[5..]].concat().join(" ");
    let mut all: Vec<String> = text.lines().filter(|l| l.starts_with("lock:")).map(words).map(told).collect();
    all.sort_unstable();
    Ok(all)
}

/// Of a process, its child and of descriptions, on one file and another.
pub(crate) fn kinds(_: &[String]) -> Result<Living, String> {
    for name in ["locked", "whole"] {
        fine(name, std::fs::write(name, [b'x'; 200]))?;
    }
    let to_read = open("locked", libc::O_RDONLY)?;
    let both = open("locked", libc::O_RDWR)?;
    let other = open("locked", libc::O_RDWR)?;
    let [whole, shared] = [open("whole", libc::O_RDONLY)?, open("locked", libc::O_RDONLY)?];
    lock(both, libc::F_SETLK, libc::F_WRLCK, 10, 10)?;
    lock(both, libc::F_SETLK, libc::F_RDLCK, 100, 0)?;
    lock(other, libc::F_OFD_SETLK, libc::F_WRLCK, 30, 10)?;
    // SAFETY: takes integers.
    must("flock", unsafe { libc::flock(whole, libc::LOCK_EX) })?;
    // SAFETY: as above.
    must("flock", unsafe { libc::flock(shared, libc::LOCK_SH) })?;
    let child = kin::child(|| {
        lock(both, libc::F_SETLK, libc::F_WRLCK, 50, 10)?;
        Ok(move |question: &str| {
            holder(both, question.parse().map_err(|e| format!("{question}: {e}"))?).map(|pid| pid.to_string())
        })
    })?;
    let all = [to_read, both, other, whole, shared];
    let before = all.map(shown).into_iter().collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        let now = all.map(shown).into_iter().collect::<Result<Vec<_>, _>>()?;
        same("locks", &before, &now)?;
        same("the child's", &child.pid, &holder(both, 55)?)?;
        same("behind the child's", &0, &holder(both, 60)?)?;
        let own = std::process::id().to_string();
        [("15", &own[..]), ("5000", &own), ("35", "-1"), ("20", "0")]
            .iter()
            .try_for_each(|(at, who)| child.says(at, who))?;
        let again = open("whole", libc::O_RDONLY)?;
        // SAFETY: takes integers.
        let second = unsafe { libc::flock(again, libc::LOCK_SH | libc::LOCK_NB) };
        // SAFETY: closes what was just opened.
        unsafe { libc::close(again) };
        same("a second lock of the whole file", &-1, &second)
    })
}

/// A child that waits for a lock of its parent.
pub(crate) fn waits(_: &[String]) -> Result<Living, String> {
    fine("turns", std::fs::write("turns", [b'x'; 20]))?;
    let fd = open("turns", libc::O_RDWR)?;
    let take = move || lock(fd, libc::F_SETLKW, libc::F_WRLCK, 0, 0);
    let give = move || lock(fd, libc::F_SETLK, libc::F_UNLCK, 0, 0);
    let child = kin::child(|| {
        Ok(move |question: &str| match question {
            "wait" => take().map(|()| "have".into()),
            _ => give().map(|()| "gave".into()),
        })
    })?;
    take()?;
    child.tell("wait")?;
    Living::reads(move |_| {
        same("who has it", &0, &holder(fd, 5)?)?;
        give()?;
        same("who waited", &Ok("have".to_owned()), &child.hear())?;
        same("who has it", &child.pid, &holder(fd, 5)?)?;
        child.says("back", "gave")?;
        take()?;
        child.tell("wait")
    })
}

const NONE: i32 = libc::F_UNLCK;
const READ: i32 = libc::F_RDLCK;
const WRITE: i32 = libc::F_WRLCK;

/// Opens without waiting what somebody has a lease on.
fn breaks(name: &str, flags: i32) -> Outcome {
    let seen = open(name, flags | libc::O_NONBLOCK).map_err(|_| sys::errno());
    same("an open that breaks a lease", &Err(libc::EAGAIN), &seen)
}

/// Leases, of which two are being broken; one is told so by a signal of its own, which comes once.
pub(crate) fn leases(_: &[String]) -> Result<Living, String> {
    for signal in [libc::SIGIO, libc::SIGUSR1] {
        signals::catch(signal)?;
    }
    let lease = |name: &str, flags: i32, kind: i32| {
        fine(name, std::fs::write(name, "text"))?;
        let fd = open(name, flags)?;
        sys::fcntl(fd, libc::F_SETLEASE, kind).map(|_| fd)
    };
    let all = [
        lease("lease-read", libc::O_RDONLY, READ)?,
        lease("lease-write", libc::O_RDWR, WRITE)?,
        lease("lease-broken", libc::O_RDONLY, READ)?,
        lease("lease-halved", libc::O_WRONLY, WRITE)?,
    ];
    sys::fcntl(all[2], signalling::F_SETSIG, libc::SIGUSR1)?;
    breaks("lease-broken", libc::O_WRONLY)?;
    breaks("lease-halved", libc::O_RDONLY)?;
    let counts = || [libc::SIGIO, libc::SIGUSR1].map(signals::count);
    let mut told = counts();
    Living::reads(move |_| {
        let kinds = all.map(|fd| sys::fcntl(fd, libc::F_GETLEASE, 0));
        same("leases", &[READ, WRITE, NONE, READ].map(Ok), &kinds)?;
        same("signals", &told, &counts())?;
        breaks("lease-write", libc::O_RDONLY)?;
        told[0] += 1;
        same("signals of what is broken now", &told, &counts())?;
        sys::fcntl(all[1], libc::F_SETLEASE, NONE)?;
        sys::fcntl(all[1], libc::F_SETLEASE, WRITE).map(drop)
    })
}

/// A lease by which nobody else may have a file open, which is mapped by the same description.
pub(crate) fn lease_mapped(_: &[String]) -> Result<Living, String> {
    fine("write", std::fs::write("lease-mapped", vec![7; 4096]))?;
    let fd = open("lease-mapped", libc::O_RDWR)?;
    let area = Area::map(4096, READ_WRITE, libc::MAP_SHARED, fd)?;
    sys::fcntl(fd, libc::F_SETLEASE, WRITE)?;
    let mut mark = 7;
    Living::reads(move |_| {
        same("the lease", &Ok(WRITE), &sys::fcntl(fd, libc::F_GETLEASE, 0))?;
        same("what is mapped", &mark, &area.bytes_read()[0])?;
        mark += 1;
        area.bytes()[0] = mark;
        sys::fcntl(fd, libc::F_SETLEASE, NONE)?;
        same("the file", &mark, &fine("read", std::fs::read("lease-mapped"))?[0])?;
        sys::fcntl(fd, libc::F_SETLEASE, WRITE).map(drop)
    })
}

/// A lock whose description is kept by an area only.
pub(crate) fn by_area(_: &[String]) -> Result<Living, String> {
    fine("write", std::fs::write("by-area", vec![7; 4096]))?;
    let fd = open("by-area", libc::O_RDWR)?;
    // SAFETY: takes integers.
    must("flock", unsafe { libc::flock(fd, libc::LOCK_EX) })?;
    let area = Area::map(4096, READ_WRITE, libc::MAP_SHARED, fd)?;
    sys::close(fd);
    Living::reads(move |_| same("what is mapped", &7, &area.bytes_read()[0]))
}
