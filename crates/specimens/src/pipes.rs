//! Pipes to oneself, and eventfds: small stores of bytes and counts behind descriptors.

use crate::life::Living;
use crate::sys::{self, Outcome, fcntl, must, pattern, same, same_bytes};

fn pipe(flags: i32) -> Result<[i32; 2], String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe2", unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
    Ok(ends)
}

/// Takes out what is in a pipe, compares it, and puts it back: a check that can be made again.
fn still_holds(ends: [i32; 2], expected: &[u8]) -> sys::Outcome {
    let seen = sys::read_up_to(ends[0], expected.len() + 100)?;
    sys::write(ends[1], &seen)?;
    same_bytes("bytes in the pipe", expected, &seen)
}

pub(crate) fn bytes(_: &[String]) -> Result<Living, String> {
    let (ends, expected) = (pipe(libc::O_NONBLOCK)?, pattern(30, 30_000));
    sys::write(ends[1], &expected)?;
    Living::reads(move |_| still_holds(ends, &expected))
}

pub(crate) fn empty(_: &[String]) -> Result<Living, String> {
    let ends = pipe(libc::O_CLOEXEC)?;
    Living::reads(move |_| {
        same("something to read", &false, &sys::readable(ends[0]))?;
        still_works(ends)
    })
}

fn still_works(ends: [i32; 2]) -> sys::Outcome {
    sys::write(ends[1], b"through")?;
    same_bytes("what came through", b"through", &sys::read_up_to(ends[0], 100)?)
}

/// A larger pipe, full to the last byte.
pub(crate) fn full(_: &[String]) -> Result<Living, String> {
    let ends = pipe(libc::O_NONBLOCK)?;
    fcntl(ends[1], libc::F_SETPIPE_SZ, 1 << 18)?;
    let expected = pattern(31, 1 << 18);
    sys::write(ends[1], &expected)?;
    Living::reads(move |_| {
        same("size", &(1 << 18), &fcntl(ends[0], libc::F_GETPIPE_SZ, 0)?)?;
        same("a byte more fits", &false, &sys::write(ends[1], b"x").is_ok())?;
        still_holds(ends, &expected)
    })
}

/// Packets (`pipe2(2)`, O_DIRECT): each read gives one write.
pub(crate) fn packets(_: &[String]) -> Result<Living, String> {
    let ends = pipe(libc::O_DIRECT | libc::O_NONBLOCK)?;
    let sizes = [1usize, 4096, 17, 300];
    sizes.iter().try_for_each(|size| sys::write(ends[1], &pattern(32, *size)).map(drop))?;
    Living::reads(move |_| {
        for size in sizes {
            let seen = sys::read_up_to(ends[0], 10_000)?;
            sys::write(ends[1], &seen)?;
            same_bytes("a packet", &pattern(32, size), &seen)?;
        }
        same("flags", &libc::O_DIRECT, &(fcntl(ends[1], libc::F_GETFL, 0)? & libc::O_DIRECT))
    })
}

/// Flags of each end by itself; ends that were duplicated; a number far up.
pub(crate) fn ends(_: &[String]) -> Result<Living, String> {
    let [reader, writer] = pipe(0)?;
    fcntl(reader, libc::F_SETFL, libc::O_NONBLOCK)?;
    let far = fcntl(writer, libc::F_DUPFD_CLOEXEC, 150)?;
    sys::close(writer);
    Living::reads(move |_| {
        same("flags of the reading end", &libc::O_NONBLOCK, &fcntl(reader, libc::F_GETFL, 0)?)?;
        same("flags of the writing end", &libc::O_WRONLY, &fcntl(far, libc::F_GETFL, 0)?)?;
        same("reading an empty pipe gives", &Err(libc::EAGAIN), &sys::read(reader, &mut [0]))?;
        still_works([reader, far])
    })
}

/// The writers are gone: after the bytes comes the end.
pub(crate) fn no_writer(_: &[String]) -> Result<Living, String> {
    let [reader, writer] = pipe(0)?;
    sys::write(writer, b"last words")?;
    sys::close(writer);
    let mut heard = Vec::new();
    Living::reads(move |_| {
        heard.extend(sys::read_up_to(reader, 100)?);
        same_bytes("what the writer left", b"last words", &heard)?;
        same_bytes("and then the end", b"", &sys::read_up_to(reader, 100)?)
    })
}

/// The reader is gone: writing gives EPIPE.
pub(crate) fn no_reader(_: &[String]) -> Result<Living, String> {
    let [reader, writer] = pipe(0)?;
    sys::close(reader);
    Living::reads(move |_| {
        // The Rust runtime ignores SIGPIPE.
        same("a write succeeds", &false, &sys::write(writer, b"x").is_ok())
    })
}

fn make_fifo() -> Outcome {
    make_fifo_at("fifo")
}

fn make_fifo_at(name: &str) -> Outcome {
    let name = std::ffi::CString::new(name).expect("no NUL in a name of ours");
    // SAFETY: a NUL-terminated name.
    must("mkfifo", unsafe { libc::mkfifo(name.as_ptr(), 0o600) }).map(drop)
}

/// A named pipe, open at both ends by us.
pub(crate) fn named(_: &[String]) -> Result<Living, String> {
    make_fifo()?;
    let fd = sys::open("fifo", libc::O_RDWR | libc::O_NONBLOCK)?;
    sys::write(fd, b"in the fifo")?;
    Living::reads(move |_| still_holds([fd, fd], b"in the fifo"))
}

/// A named pipe in which something waits, opened anew to read when its writers were gone: poll(2) tells of no end.
pub(crate) fn named_anew(_: &[String]) -> Result<Living, String> {
    make_fifo()?;
    let both = sys::open("fifo", libc::O_RDWR | libc::O_NONBLOCK)?;
    sys::write(both, b"left")?;
    let before = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
    sys::close(both);
    let anew = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
    sys::close(before);
    Living::reads_at_first(move |first| {
        let expected: &[u8] = if first { b"left" } else { b"" };
        same_bytes("what waits", expected, &sys::read_up_to(anew, 10)?)
    })
}

/// Named pipes with a reader and writers, one of which has lost its name.
pub(crate) fn named_ends(_: &[String]) -> Result<Living, String> {
    let ends = || -> Result<[i32; 3], String> {
        make_fifo()?;
        let reader = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
        let [writer, appends] = [libc::O_WRONLY, libc::O_WRONLY | libc::O_APPEND].map(|how| sys::open("fifo", how));
        Ok([reader, writer?, appends?])
    };
    let gone = ends()?;
    sys::fine("remove", std::fs::remove_file("fifo"))?;
    let all = [gone, ends()?];
    let flags =
        move || all.as_flattened().iter().map(|fd| sys::fcntl(*fd, libc::F_GETFL, 0)).collect::<Result<Vec<_>, _>>();
    let expected = flags()?;
    let fill = move || -> Outcome {
        all.iter().try_for_each(|[_, writer, appends]| {
            sys::write(*writer, b"one")?;
            sys::write(*appends, b"two").map(drop)
        })
    };
    fill()?;
    Living::reads(move |_| {
        same("flags", &expected, &flags()?)?;
        let all = all.iter().map(|[reader, ..]| sys::read_up_to(*reader, 100)).collect::<Result<Vec<_>, _>>()?;
        same("what waited", &vec![b"onetwo".to_vec(); 2], &all)?;
        fill()
    })
}

/// Ends of named pipes of which nobody has the other one: one that is read and was never written to, one that was, both of one pipe,
/// and one that is written. Nobody hears of an end before there was a writer.
pub(crate) fn named_lone(_: &[String]) -> Result<Living, String> {
    const READS: i32 = libc::O_RDONLY | libc::O_NONBLOCK;
    let reader = |name: &str| make_fifo_at(name).and_then(|()| sys::open(name, READS));
    let written = |name: &str| sys::open(name, libc::O_WRONLY).map(sys::close);
    let quiet = reader("quiet")?;
    let heard = reader("heard")?;
    written("heard")?;
    let first = reader("both")?;
    written("both")?;
    let second = sys::open("both", READS)?;
    fcntl(second, libc::F_SETFL, 0)?;
    let unread = reader("unread")?;
    let writer = sys::open("unread", libc::O_WRONLY)?;
    sys::close(unread);
    Living::reads(move |_| {
        same("readers hear of an end", &[0, libc::POLLHUP], &[quiet, heard].map(happens))?;
        same("and two of one pipe", &[libc::POLLHUP, 0], &[first, second].map(happens))?;
        same("they read nothing", &[Ok(0); 4], &[quiet, heard, first, second].map(|fd| sys::read(fd, &mut [0])))?;
        same("the writer hears of an end", &libc::POLLERR, &(happens(writer) & libc::POLLERR))?;
        same("a write succeeds", &false, &sys::write(writer, b"x").is_ok())?;
        let flags = [quiet, second].map(|fd| fcntl(fd, libc::F_GETFL, 0).map(|flags| flags & libc::O_NONBLOCK));
        same("whether they wait", &[Ok(libc::O_NONBLOCK), Ok(0)], &flags)
    })
}

/// What poll(2) tells besides what it was asked.
fn happens(fd: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, and it lives as long as the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) };
    entry.revents
}

/// A named pipe with two names, a reader by one and a writer by the other.
pub(crate) fn named_twice(_: &[String]) -> Result<Living, String> {
    make_fifo()?;
    sys::fine("link", std::fs::hard_link("fifo", "other"))?;
    let reader = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
    let writer = sys::open("other", libc::O_WRONLY)?;
    Living::reads(move |_| still_works([reader, writer]))
}

/// One that a process outside has open, too, by another name.
pub(crate) fn named_outside() -> Result<Living, String> {
    make_fifo()?;
    sys::fine("link", std::fs::hard_link("fifo", "other"))?;
    let fd = sys::open("fifo", libc::O_RDWR | libc::O_NONBLOCK)?;
    crate::outside::fork_away(move || {
        sys::close(fd);
        // SAFETY: a NUL-terminated name.
        unsafe { libc::open(c"other".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK) };
    })?;
    Living::reads(move |_| still_works([fd, fd]))
}

/// What was written into a named pipe, and can only be read by who opens it.
pub(crate) fn named_unread(_: &[String]) -> Result<Living, String> {
    make_fifo()?;
    let writer = leave()?;
    Living::reads(move |_| {
        same("nobody reads", &libc::POLLERR, &(happens(writer) & libc::POLLERR))?;
        let reader = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
        same("what was left", &b"left".to_vec(), &sys::read_up_to(reader, 10)?)?;
        sys::write(writer, b"left")?;
        sys::close(reader);
        Ok(())
    })
}

/// Likewise, and its writer is sent a signal when a reader goes (fcntl(2), O_ASYNC).
pub(crate) fn named_unread_heard(_: &[String]) -> Result<Living, String> {
    make_fifo()?;
    let writer = leave()?;
    fcntl(writer, libc::F_SETOWN, std::process::id() as i32)?;
    fcntl(writer, libc::F_SETFL, libc::O_ASYNC)?;
    Living::reads(|_| Ok(()))
}

/// Leaves something in the named pipe; gives an end to write.
fn leave() -> Result<i32, String> {
    let reader = sys::open("fifo", libc::O_RDONLY | libc::O_NONBLOCK)?;
    let writer = sys::open("fifo", libc::O_WRONLY)?;
    sys::write(writer, b"left")?;
    sys::close(reader);
    Ok(writer)
}

pub(crate) fn eventfd(count: u32, flags: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("eventfd", unsafe { libc::eventfd(count, flags) }).map(|fd| fd as i32)
}

fn value(fd: i32) -> Result<u64, String> {
    let bytes = sys::read_up_to(fd, 8)?;
    bytes.try_into().map(u64::from_ne_bytes).map_err(|seen| format!("eventfd gave {seen:?}"))
}

/// A count that needs more than 32 bits, a semaphore, and an empty one.
pub(crate) fn event_counts(_: &[String]) -> Result<Living, String> {
    let large = eventfd(7, libc::EFD_NONBLOCK)?;
    sys::write(large, &(1u64 << 40).to_ne_bytes())?;
    let semaphore = eventfd(5, libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
    let empty = eventfd(0, libc::EFD_NONBLOCK)?;
    let mut left = 5;
    Living::reads(move |_| {
        same("count", &((1 << 40) + 7), &value(large)?)?;
        sys::write(large, &((1u64 << 40) + 7).to_ne_bytes())?;
        if left > 0 {
            left -= 1;
            same("one of the semaphore", &1, &value(semaphore)?)?;
        }
        same("the semaphore is readable", &(left > 0), &sys::readable(semaphore))?;
        same("the empty one is readable", &false, &sys::readable(empty))?;
        same("close on exec", &1, &fcntl(semaphore, libc::F_GETFD, 0)?)
    })
}

/// An epoll instance that watches these; each event gives the number back.
pub(crate) fn epoll_of(watched: &[i32]) -> Result<i32, String> {
    // SAFETY: takes an integer.
    let epoll = must("epoll_create1", unsafe { libc::epoll_create1(0) })? as i32;
    for fd in watched {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: *fd as u64 };
        // SAFETY: the event lives as long as the call.
        must("epoll_ctl", unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, *fd, &raw mut event) })?;
    }
    Ok(epoll)
}

/// What an epoll instance gives back of what is ready now, ascending.
pub(crate) fn ready(epoll: i32) -> Result<Vec<u64>, String> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    // SAFETY: room for eight events.
    let count = must("epoll_wait", unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 8, 0) })?;
    let mut all: Vec<u64> = events[..count as usize].iter().map(|event| event.u64).collect();
    all.sort_unstable();
    Ok(all)
}

/// How an epoll instance polls devices: not at all before Linux 6.9.
fn polling(epoll: i32) -> Option<[u8; 8]> {
    let mut told = [0_u8; 8];
    // SAFETY: room for `struct epoll_params`.
    let r = unsafe { libc::ioctl(epoll, libc::EPIOCGPARAMS, told.as_mut_ptr()) };
    (r == 0).then_some(told)
}

/// Eventfds, which have one inode in common, each watched by itself; one of them by two numbers.
pub(crate) fn watches(_: &[String]) -> Result<Living, String> {
    let mut watched = vec![eventfd(1, 0)?, eventfd(0, 0)?, eventfd(1, 0)?];
    watched.push(fcntl(watched[0], libc::F_DUPFD, 0)?);
    let epoll = epoll_of(&watched)?;
    let expected: Vec<u64> = [0, 2, 3].map(|at| watched[at] as u64).to_vec();
    let mut polls = polling(epoll);
    if let Some(polls) = &mut polls {
        // Microseconds, how many packets, and that it is preferred (`struct epoll_params`).
        *polls = [50, 0, 0, 0, 16, 0, 1, 0];
        // SAFETY: the structure lives as long as the call.
        must("EPIOCSPARAMS", unsafe { libc::ioctl(epoll, libc::EPIOCSPARAMS, polls.as_ptr()) })?;
    }
    Living::reads(move |_| {
        same("how it polls devices", &polls, &polling(epoll))?;
        same("what is ready", &expected, &ready(epoll)?)
    })
}

/// A socket whose watch was used up hears of nothing, not of its end either, until it is watched anew.
pub(crate) fn watch_used_up(_: &[String]) -> Result<Living, String> {
    let [own, other] = crate::sockets::pair(libc::SOCK_STREAM)?;
    let epoll = epoll_of(&[own])?;
    let once = move || -> Outcome {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLONESHOT) as u32, u64: own as u64 };
        // SAFETY: the event lives as long as the call.
        must("epoll_ctl", unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, own, &raw mut event) }).map(drop)
    };
    let use_up = move || -> Outcome {
        once()?;
        sys::write(other, b"x")?;
        same("told once", &vec![own as u64], &ready(epoll)?)?;
        sys::read_up_to(own, 1).map(drop)
    };
    use_up()?;
    Living::reads_at_first(move |first| {
        if !first {
            return Ok(());
        }
        sys::write(other, b"y")?;
        same("what comes is not told", &vec![], &ready(epoll)?)?;
        sys::close(other);
        same("nor is the end", &vec![], &ready(epoll)?)?;
        once()?;
        same("now it is", &vec![own as u64], &ready(epoll)?)
    })
}

/// What is watched goes by other numbers by now: where it was, something else is, or nothing.
pub(crate) fn watches_moved(_: &[String]) -> Result<Living, String> {
    let [reused, closed, other] = [eventfd(1, 0)?, eventfd(1, 0)?, eventfd(0, 0)?];
    let epoll = epoll_of(&[reused, closed])?;
    let kept = [sys::fcntl(reused, libc::F_DUPFD, 0)?, sys::fcntl(closed, libc::F_DUPFD_CLOEXEC, 0)?];
    // SAFETY: takes integers; nobody needs the number as it was.
    must("dup3", unsafe { libc::dup3(other, reused, libc::O_CLOEXEC) })?;
    // SAFETY: as above.
    must("close", unsafe { libc::close(closed) })?;
    Living::reads(move |_| {
        let mut now = ready(epoll)?;
        now.sort_unstable();
        same("what is ready", &vec![reused as u64, closed as u64], &now)?;
        same("readable", &[true, true, false], &[kept[0], kept[1], reused].map(sys::readable))?;
        same("flags of the number", &libc::FD_CLOEXEC, &sys::fcntl(reused, libc::F_GETFD, 0)?)?;
        same("the other number", &true, &sys::fcntl(closed, libc::F_GETFD, 0).is_err())
    })
}

/// Many descriptors, watched by one epoll instance, and each by one more that watches what all watch.
pub(crate) fn watches_many(arguments: &[String]) -> Result<Living, String> {
    sys::many_descriptors()?;
    let (common, count) = (eventfd(0, 0)?, sys::number(arguments, 300) / 2);
    let watched = (0..count).map(|n| eventfd(u32::from(n % 100 == 7), 0)).collect::<Result<Vec<_>, _>>()?;
    let all = epoll_of(&watched)?;
    let each = watched.iter().map(|fd| epoll_of(&[*fd, common])).collect::<Result<Vec<_>, _>>()?;
    // One is watched that goes by another number now.
    fcntl(watched[7], libc::F_DUPFD, 0)?;
    // SAFETY: takes integers; nobody needs the number as it was.
    must("dup3", unsafe { libc::dup3(common, watched[7], 0) })?;
    let counted: Vec<u64> = watched.iter().skip(7).step_by(100).map(|fd| *fd as u64).collect();
    Living::reads(move |_| {
        // It tells eight at a time, and who was told goes to the end.
        let mut told: Vec<u64> = (0..counted.len()).map(|_| ready(all)).collect::<Result<Vec<_>, _>>()?.concat();
        told.sort_unstable();
        told.dedup();
        same("what is ready", &counted, &told)?;
        for (epoll, fd) in each.iter().zip(&watched) {
            let expected: Vec<u64> = counted.iter().copied().filter(|counted| *counted == *fd as u64).collect();
            same("what is ready of two", &expected, &ready(*epoll)?)?;
        }
        Ok(())
    })
}

/// Packets behind bytes of a page that was read in part.
pub(crate) fn packets_behind(_: &[String]) -> Result<Living, String> {
    let ends = pipe(libc::O_NONBLOCK)?;
    sys::write(ends[1], &pattern(33, 4096))?;
    sys::read_up_to(ends[0], 3000)?;
    fcntl(ends[1], libc::F_SETFL, libc::O_DIRECT)?;
    [87, 50].iter().try_for_each(|size| sys::write(ends[1], &pattern(34, *size)).map(drop))?;
    Living::reads(|_| Ok(()))
}
