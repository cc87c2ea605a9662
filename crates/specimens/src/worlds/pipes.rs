//! Worlds of one pipe, or named pipe: what is written and read, ends that are closed, had twice or opened again, sizes, modes.

use super::{Did, Family, Letter, Nothing, Rule, Something, Story, World};
use crate::closing::let_go;
use crate::signalling::F_GETSIG;
use crate::sys::{self, errno, fcntl, must};
use std::ffi::CString;

pub(super) const FAMILY: Family = Family {
    name: "pipes",
    starts: &[
        Letter { sign: 'P', act: |w| pipe(w, 0) },
        Letter { sign: 'D', act: |w| pipe(w, libc::O_DIRECT) },
        Letter { sign: 'N', act: |w| pipe(w, libc::O_NONBLOCK | libc::O_CLOEXEC) },
        Letter { sign: 'F', act: |w| fifo(w, &[libc::O_RDONLY, libc::O_WRONLY]) },
        Letter { sign: 'L', act: |w| fifo(w, &[libc::O_RDONLY]) },
        Letter { sign: 'B', act: |w| fifo(w, &[libc::O_RDWR]) },
    ],
    letters: &[
        Letter { sign: '1', act: |w| put(w, b"x") },
        Letter { sign: '2', act: |w| put(w, &[b'y'; 300]) },
        Letter { sign: 'f', act: |w| w.with(WRITER, |fd| fill(fd) > 0) },
        Letter { sign: 'r', act: one },
        Letter { sign: 'a', act: |w| w.with(READER, |fd| matches!(get(fd, 1 << 20), Ok(n) if n > 0)) },
        Letter { sign: 'x', act: |w| close(w, READER) },
        Letter { sign: 'y', act: |w| close(w, WRITER) },
        Letter { sign: 'd', act: |w| again(w, READER, |fd| fcntl(fd, libc::F_DUPFD_CLOEXEC, 3)) },
        Letter { sign: 'o', act: |w| again(w, READER, |fd| open(&format!("/proc/self/fd/{fd}"), libc::O_RDONLY)) },
        Letter { sign: 'w', act: |w| again(w, WRITER, |fd| open(&format!("/proc/self/fd/{fd}"), libc::O_WRONLY)) },
        Letter { sign: 's', act: |w| size(w, SIZE * 2) },
        Letter { sign: 'z', act: |w| size(w, SIZE / 2) },
        Letter { sign: 'p', act: |w| toggle(w, WRITER, libc::O_DIRECT) },
        Letter { sign: 'g', act: |w| signal(w, READER) },
        Letter { sign: 'u', act: |w| remove(w) },
    ],
    rules: &[Rule {
        text: "its other end is with nobody (and something waits in it), or with a process outside",
        names: is_late,
    }],
    ask,
};

const READER: usize = 0;
const WRITER: usize = 1;
const MORE: usize = 2;

/// What the pipes of these worlds have room for: an ordinary user has so much for some thousand of them (pipe(7),
/// /proc/sys/fs/pipe-user-pages-soft).
const SIZE: i32 = 8192;

fn open(path: &str, flags: i32) -> Result<i32, String> {
    let name = CString::new(path).expect("no NUL in a path of ours");
    // SAFETY: the name ends in NUL and lives as long as the call.
    must("open", unsafe { libc::open(name.as_ptr(), flags | libc::O_NONBLOCK) }).map(|fd| fd as i32)
}

fn pipe(world: &mut World, flags: i32) -> Did {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), flags) } < 0 {
        return Nothing;
    }
    world.fds[..2].copy_from_slice(&ends);
    size(world, SIZE);
    Something
}

fn fifo(world: &mut World, how: &[i32]) -> Did {
    let name = CString::new(world.path()).expect("no NUL in a name of ours");
    // SAFETY: a NUL-terminated name.
    unsafe { libc::mkfifo(name.as_ptr(), 0o600) };
    world.mark("named");
    for flags in how {
        let place = usize::from(*flags == libc::O_WRONLY);
        let fd = open(world.path(), *flags);
        world.set(place, fd);
    }
    if how == [libc::O_RDWR] {
        world.fds[WRITER] = world.at(READER).and_then(|fd| fcntl(fd, libc::F_DUPFD, 0).ok()).unwrap_or(-1);
    }
    size(world, SIZE);
    Something
}

fn remove(world: &World) -> Did {
    if std::fs::remove_file(world.path()).is_ok() { Something } else { Nothing }
}

/// Does it without waiting, with flags as they were afterwards.
fn at_once<T>(fd: i32, act: impl FnOnce() -> T) -> T {
    let flags = fcntl(fd, libc::F_GETFL, 0).unwrap_or(0);
    let _ = fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    let result = act();
    let _ = fcntl(fd, libc::F_SETFL, flags);
    result
}

fn get(fd: i32, room: usize) -> Result<usize, i32> {
    at_once(fd, || sys::read(fd, &mut vec![0; room]))
}

fn give(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    at_once(fd, || sys::write(fd, bytes).map_err(|_| errno()))
}

fn put(world: &mut World, bytes: &[u8]) -> Did {
    world.with(WRITER, |fd| give(fd, bytes).is_ok())
}

fn one(world: &mut World) -> Did {
    world.mark("read in part");
    world.with(READER, |fd| matches!(get(fd, 1), Ok(n) if n > 0))
}

/// As much as goes in.
fn fill(fd: i32) -> usize {
    let pieces: [&[u8]; 4] = [&[b'f'; 5000], &[b'g'; 200], &[b'h'; 14], b"l"];
    let all = |piece: &[u8]| std::iter::from_fn(|| sys::write(fd, piece).ok()).sum::<usize>();
    at_once(fd, || pieces.into_iter().map(all).sum())
}

fn close(world: &mut World, place: usize) -> Did {
    world.close(place)
}

/// A further descriptor, or description, of an end.
fn again(world: &mut World, place: usize, make: impl FnOnce(i32) -> Result<i32, String>) -> Did {
    let free = (MORE..world.fds.len()).find(|place| world.at(*place).is_none());
    let (Some(fd), Some(free)) = (world.at(place), free) else { return Nothing };
    let made = make(fd);
    world.set(free, made)
}

fn size(world: &World, size: i32) -> Did {
    let any = world.fds.iter().find(|fd| **fd >= 0);
    any.map_or(Nothing, |fd| {
        let before = fcntl(*fd, libc::F_GETPIPE_SZ, 0);
        let changed = fcntl(*fd, libc::F_SETPIPE_SZ, size).is_ok() && before != Ok(size);
        if changed { Something } else { Nothing }
    })
}

fn toggle(world: &World, place: usize, flag: i32) -> Did {
    world.with(place, |fd| {
        let flags = fcntl(fd, libc::F_GETFL, 0).unwrap_or(0);
        fcntl(fd, libc::F_SETFL, flags ^ flag).is_ok()
    })
}

/// A signal tells of what comes; not two times.
pub(super) fn signal(world: &mut World, place: usize) -> Did {
    world.with(place, |fd| {
        let flags = fcntl(fd, libc::F_GETFL, 0).unwrap_or(0);
        let own = std::process::id().cast_signed();
        fcntl(fd, libc::F_SETOWN, own).is_ok()
            && flags & libc::O_ASYNC == 0
            && fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC).is_ok()
    })
}

fn access(fd: i32) -> i32 {
    fcntl(fd, libc::F_GETFL, 0).unwrap_or(0) & libc::O_ACCMODE
}

fn waits(fd: i32) -> i32 {
    let mut count = 0;
    // SAFETY: room for an integer.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    count
}

/// A named one, nobody has it to read, and something is in it.
/// Somebody has opened a named one to read when nobody wrote any more, but something was left in it: that there is no writer the kernel
/// tells him when that is read (fs/pipe.c, `pipe_poll`).
fn is_late(world: &World) -> bool {
    let all = || world.fds.iter().filter(|fd| **fd >= 0);
    world.has("named")
        && all().all(|fd| access(*fd) == libc::O_RDONLY)
        && all().any(|fd| happens(*fd) & (libc::POLLIN | libc::POLLHUP) == libc::POLLIN)
}

pub(super) fn happens(fd: i32) -> i16 {
    let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry, and it lives as long as the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) };
    entry.revents
}

/// What poll(2) tells, but for what a freeze tells to be lost: what waits in a pipe without a name that nobody has open to read, so
/// whether there is room; and that nobody has written to one yet whose name is gone.
fn tells(world: &World, fd: i32) -> i16 {
    let (told, is_named) = (happens(fd), world.has("named"));
    match told {
        _ if is_unheard(fd, world) => told & !libc::POLLHUP,
        _ if !is_named && told & libc::POLLERR != 0 => told & !libc::POLLOUT,
        _ => told,
    }
}

fn is_unheard(fd: i32, world: &World) -> bool {
    world.has("named") && access(fd) == libc::O_RDONLY && !std::path::Path::new(world.path()).exists()
}

/// What fcntl(2) tells; of who hears by a signal, only whether that is us.
pub(super) fn flags(fd: i32) -> [i32; 4] {
    let tell = |command| fcntl(fd, command, 0).unwrap_or(-1);
    let own = tell(libc::F_GETOWN) == std::process::id().cast_signed();
    [tell(libc::F_GETFL), tell(libc::F_GETFD), tell(F_GETSIG), own.into()]
}

/// How much one read gave, and what that begins with and ends with.
type Piece = (usize, u8, u8);

/// Everything that can be read, in pieces: how long each is, and what it begins with and ends with.
fn everything(fd: i32) -> (Vec<Piece>, Result<usize, i32>) {
    let (mut all, mut room) = (Vec::new(), vec![0; 700]);
    loop {
        match at_once(fd, || sys::read(fd, &mut room)) {
            Ok(0) => return (all, Ok(0)),
            Ok(n) => all.push((n, room[0], room[n - 1])),
            Err(e) => return (all, Err(e)),
        }
    }
}

fn ask(world: &mut World, story: &mut Story) {
    let places: Vec<usize> = (0..world.fds.len()).filter(|place| world.at(*place).is_some()).collect();
    let ends: Vec<(usize, i32)> = places.iter().map(|place| (*place, world.fds[*place])).collect();
    let writes = |fd: i32| access(fd) != libc::O_RDONLY;
    let reads = |fd: i32| access(fd) != libc::O_WRONLY;
    for (place, fd) in &ends {
        story.tell(&format!("{place} flags"), flags(*fd));
        story.tell(&format!("{place} poll"), tells(world, *fd));
        let is_lost = !world.has("named") && happens(*fd) & libc::POLLERR != 0;
        story.tell(&format!("{place} waits"), if is_lost { -1 } else { waits(*fd) });
        story.tell(&format!("{place} size"), fcntl(*fd, libc::F_GETPIPE_SZ, 0));
    }
    // How much of the last page is lost to what was read nobody is told.
    let is_short =
        world.has("read in part") && ends.iter().any(|(_, fd)| reads(*fd) && (1..4096).contains(&waits(*fd)));
    for (place, fd) in ends.iter().filter(|(_, fd)| writes(*fd) && !is_short) {
        story.tell(&format!("{place} takes"), give(*fd, b"!"));
        story.tell(&format!("{place} takes more"), fill(*fd));
    }
    for (place, fd) in ends.iter().filter(|(_, fd)| reads(*fd)) {
        story.tell(&format!("{place} gives"), everything(*fd));
    }
    for (place, fd) in ends.iter().filter(|(_, fd)| writes(*fd)) {
        story.tell(&format!("{place} takes then"), (give(*fd, b"one"), give(*fd, b"two")));
    }
    for (place, fd) in ends.iter().filter(|(_, fd)| reads(*fd)) {
        story.tell(&format!("{place} gives then"), everything(*fd));
    }
    if world.has("named") {
        for flags in [libc::O_WRONLY, libc::O_RDONLY] {
            let opened = open(world.path(), flags);
            story.tell("opens by its name", opened.as_ref().map(|fd| happens(*fd)).map_err(|_| errno()));
            if let Ok(fd) = opened {
                if flags == libc::O_RDONLY {
                    story.tell("gives by its name", everything(fd));
                }
                let_go(fd, &[]);
            }
        }
    }
    for place in places {
        world.close(place);
        let left = world.fds.iter().filter(|fd| **fd >= 0);
        let told: Vec<_> = left
            .map(|fd| (tells(world, *fd), reads(*fd).then(|| everything(*fd)), writes(*fd).then(|| give(*fd, b"z"))))
            .collect();
        story.tell(&format!("when {place} is closed"), told);
    }
}
