//! What relatives have in common by birth: descriptions, memory, and pages that are alike until one of them writes.

use crate::kin::{self, Answer};
use crate::life::Living;
use crate::mem::{ANONYMOUS, Area, READ_WRITE};
use crate::pipes;
use crate::sys::{self, Outcome, must, pattern, same, same_bytes};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const PAGE: usize = 4096;

/// One description, one offset: whoever reads moves it for the other.
pub(crate) fn offset(_: &[String]) -> Result<Living, String> {
    sys::fine("write", std::fs::write("shared-offset", pattern(70, 1000)))?;
    let fd = sys::open("shared-offset", libc::O_RDWR)?;
    let child = kin::child(|| {
        Ok(move |question: &str| match question {
            "read" => sys::read_up_to(fd, 10).map(|bytes| format!("{bytes:?}")),
            _ => kin::obey(question),
        })
    })?;
    sys::read_up_to(fd, 100)?;
    let (contents, mut at) = (pattern(70, 1000), 100);
    Living::reads(move |_| {
        same("offset", &(at as i64), &sys::offset(fd)?)?;
        child.says("read", &format!("{:?}", &contents[at..at + 10]))?;
        same_bytes("what comes next", &contents[at + 10..at + 20], &sys::read_up_to(fd, 10)?)?;
        at += 20;
        Ok(())
    })
}

/// A child that has one end of each of these, and reads from one and writes to the other.
fn relay(reader: i32, writer: i32) -> Result<kin::Kin, String> {
    kin::child(|| {
        Ok(move |question: &str| match question.split_once(' ').unwrap_or((question, "")) {
            ("take", _) => sys::read_up_to(reader, 4096).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            ("give", text) => sys::write(writer, text.as_bytes()).map(|count| count.to_string()),
            _ => kin::obey(question),
        })
    })
}

/// Pipes with bytes in them: from us to a child and back, and from one child to another with no end left with us.
pub(crate) fn pipes_between(_: &[String]) -> Result<Living, String> {
    let (down, up, across, back) = (kin::pipe()?, kin::pipe()?, kin::pipe()?, kin::pipe()?);
    let (elder, younger) = (relay(down[0], up[1])?, relay(across[0], back[1])?);
    let third = relay(back[0], across[1])?;
    [down[0], up[1], across[0], across[1], back[0], back[1]].into_iter().for_each(sys::close);
    let fill = move || -> Outcome {
        sys::write(down[1], b"downwards")?;
        elder.says("give upwards", "7")?;
        third.says("give across", "6")?;
        younger.says("give back", "4")
    };
    fill()?;
    Living::reads(move |_| {
        elder.says("take", "downwards")?;
        same_bytes("from below", b"upwards", &sys::read_up_to(up[0], 100)?)?;
        younger.says("take", "across")?;
        third.says("take", "back")?;
        fill()
    })
}

/// The writer is one child, the reader another: when the writer ends, the reader comes to the end.
pub(crate) fn pipe_end(_: &[String]) -> Result<Living, String> {
    let ends = kin::pipe()?;
    let reader = kin::child(|| {
        sys::close(ends[1]);
        Ok(move |question: &str| match question {
            "take" => sys::read_up_to(ends[0], 100).map(|bytes| format!("{bytes:?}")),
            "end" => Ok((!sys::readable(ends[0])).to_string()),
            _ => kin::obey(question),
        })
    })?;
    let writer = relay(ends[0], ends[1])?;
    ends.into_iter().for_each(sys::close);
    writer.says("give x", "1")?;
    let mut first = true;
    Living::reads(move |_| {
        if std::mem::replace(&mut first, false) {
            reader.says("take", &format!("{:?}", b"x"))?;
            reader.says("end", "true")?;
            writer.tell("exit 0")?;
            kin::wait(writer.pid, 0)?;
        }
        reader.says("take", "[]")
    })
}

/// An eventfd and the epoll instance that watches it, both by birth.
pub(crate) fn events(_: &[String]) -> Result<Living, String> {
    let count = pipes::eventfd(0, libc::EFD_NONBLOCK)?;
    let epoll = pipes::epoll_of(&[count])?;
    let child = kin::child(|| {
        Ok(move |question: &str| match question {
            "add" => sys::write(count, &3u64.to_ne_bytes()).map(|_| String::new()),
            "ready" => pipes::ready(epoll).map(|ready| format!("{ready:?}")),
            _ => kin::obey(question),
        })
    })?;
    Living::reads(move |_| {
        child.says("ready", "[]")?;
        child.says("add", "")?;
        same("what is ready", &vec![count as u64], &pipes::ready(epoll)?)?;
        child.says("ready", &format!("[{count}]"))?;
        same_bytes("count", &3u64.to_ne_bytes(), &sys::read_up_to(count, 8)?)
    })
}

/// New memory that relatives share.
fn shared(pages: usize, fd: i32) -> Result<*mut u8, String> {
    let kind = libc::MAP_SHARED | if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
    // SAFETY: a new area.
    let area = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, libc::PROT_READ | libc::PROT_WRITE, kind, fd, 0) };
    must("mmap", if area == libc::MAP_FAILED { -1 } else { 0 })?;
    Ok(area.cast())
}

fn fill(at: *mut u8, seed: u64, length: usize) {
    // SAFETY: the callers have mapped so much there, and only the one whose turn it is writes.
    unsafe { ptr::copy_nonoverlapping(pattern(seed, length).as_ptr(), at, length) };
}

fn holds(what: &str, at: *const u8, seed: u64, length: usize) -> Outcome {
    // SAFETY: as in `fill`.
    same_bytes(what, &pattern(seed, length), unsafe { std::slice::from_raw_parts(at, length) })
}

/// The protections of areas of ours, as /proc shows them, from this address on.
fn protections(from: *const u8, pages: usize) -> Answer {
    let (from, end) = (from.addr(), from.addr() + pages * PAGE);
    let range = |line: &str| -> Option<(usize, usize)> {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    };
    let text = sys::proc_text("maps")?;
    let inside = text.lines().filter_map(|line| Some((range(line)?, line.split(' ').nth(1)?)));
    let inside = inside.filter(|((start, stop), _)| *start >= from && *stop <= end);
    Ok(inside
        .map(|((start, stop), kind)| format!("{}+{} {kind}", (start - from) / PAGE, (stop - start) / PAGE))
        .collect::<Vec<_>>()
        .join(", "))
}

/// Memory without a file: we see all of it, a child a part, another with other protections.
pub(crate) fn views(_: &[String]) -> Result<Living, String> {
    let area = shared(8, -1)?;
    fill(area, 80, 8 * PAGE);
    let part = kin::child(|| {
        // SAFETY: pages of the area; nobody here uses them.
        must("munmap", unsafe { libc::munmap(area.cast(), 2 * PAGE) })?;
        // SAFETY: as above.
        must("munmap", unsafe { libc::munmap(area.add(5 * PAGE).cast(), 3 * PAGE) })?;
        Ok(move |question: &str| match question {
            "look" => protections(area, 8),
            "write" => {
                fill(area.wrapping_add(3 * PAGE), 81, 100);
                Ok(String::new())
            }
            _ => kin::obey(question),
        })
    })?;
    let other = kin::child(|| {
        // SAFETY: pages of the area.
        must("mprotect", unsafe { libc::mprotect(area.cast(), PAGE, libc::PROT_READ) })?;
        // SAFETY: as above.
        must("mprotect", unsafe { libc::mprotect(area.add(7 * PAGE).cast(), PAGE, libc::PROT_NONE) })?;
        Ok(move |question: &str| match question {
            "look" => protections(area, 8),
            // SAFETY: this page may be read.
            "read" => holds("what the other child wrote", unsafe { area.add(3 * PAGE) }, 81, 100)
                .map(|()| "it is there".into()),
            _ => kin::obey(question),
        })
    })?;
    let seen =
        move || -> Result<[String; 3], String> { Ok([protections(area, 8)?, part.ask("look")?, other.ask("look")?]) };
    let expected = seen()?;
    Living::reads(move |_| {
        same("areas", &expected, &seen()?)?;
        for (at, pages) in [(0, 3), (4, 4)] {
            // SAFETY: pages of the area.
            same_bytes("pages", &pattern(80, 8 * PAGE)[at * PAGE..(at + pages) * PAGE], unsafe {
                std::slice::from_raw_parts(area.add(at * PAGE), pages * PAGE)
            })?;
        }
        part.says("write", "")?;
        other.says("read", "it is there")
    })
}

/// A futex in shared memory: a child waits for it, is woken, and wakes us.
pub(crate) fn futexes(_: &[String]) -> Result<Living, String> {
    let area = shared(1, -1)?;
    // SAFETY: the page is never unmapped, and two words are in it.
    let words: &'static [AtomicU32; 2] = unsafe { &*area.cast() };
    if kin::fork()? == 0 {
        loop {
            let seen = words[1].load(SeqCst);
            futex_wait(&words[0], seen, None);
            words[1].store(words[0].load(SeqCst), SeqCst);
            futex_wake(&words[1]);
        }
    }
    sys::pause_for(30);
    Living::reads(move |_| {
        // The child may have been let run a moment ago, and is to wait when it is woken.
        sys::pause_for(200);
        let next = words[0].fetch_add(1, SeqCst) + 1;
        same("waiters woken", &1, &futex_wake(&words[0]))?;
        futex_wait(&words[1], next - 1, Some(3));
        same("the child's word", &next, &words[1].load(SeqCst))?;
        // It waits again before the next check.
        sys::pause_for(20);
        Ok(())
    })
}

fn futex_wait(word: &AtomicU32, value: u32, seconds: Option<i64>) {
    let time = seconds.map(|tv_sec| libc::timespec { tv_sec, tv_nsec: 0 });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is mapped, and the time lives as long as the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, time) };
}

fn futex_wake(word: &AtomicU32) -> i64 {
    // SAFETY: the word is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) }
}

/// A POSIX semaphore and a mutex that relatives share; the mutex is locked when we say ready.
pub(crate) fn semaphores(_: &[String]) -> Result<Living, String> {
    let area = shared(1, -1)?;
    let (go, done) = (area.cast::<libc::sem_t>(), area.wrapping_add(512).cast::<libc::sem_t>());
    for semaphore in [go, done] {
        // SAFETY: the page is ours, large enough and aligned.
        must("sem_init", unsafe { libc::sem_init(semaphore, 1, 0) })?;
    }
    if kin::fork()? == 0 {
        // SAFETY: the page lives as long as this process.
        while unsafe { libc::sem_wait(go) } == 0 {
            // SAFETY: as above.
            unsafe { libc::sem_post(done) };
        }
        kin::exit(1)
    }
    sys::pause_for(30);
    Living::reads(move |_| {
        // SAFETY: zero is a value of the type.
        let mut end: libc::timespec = unsafe { std::mem::zeroed() };
        // SAFETY: all of these live as long as the calls.
        let waited = unsafe {
            libc::sem_post(go);
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut end);
            end.tv_sec += 3;
            libc::sem_timedwait(done, &raw const end)
        };
        must("sem_timedwait", waited).map(drop)
    })
}

/// A file that two show, and one of them has open: `child` sees what we write there.
fn shown_by_two(fd: i32) -> Result<Living, String> {
    // SAFETY: takes integers.
    must("ftruncate", unsafe { libc::ftruncate(fd, 6 * PAGE as i64) })?;
    let area = shared(6, fd)?;
    fill(area, 90, 6 * PAGE);
    let child = kin::child(|| {
        sys::close(fd);
        // SAFETY: two pages of the area, which nobody here uses.
        must("munmap", unsafe { libc::munmap(area.add(4 * PAGE).cast(), 2 * PAGE) })?;
        Ok(move |question: &str| match question.split_once(' ') {
            Some(("look", seed)) => {
                let seed = seed.parse().map_err(|_| "no seed")?;
                holds("page 1", area.wrapping_add(PAGE), seed, PAGE).map(|()| "it is there".into())
            }
            _ => kin::obey(question),
        })
    })?;
    let mut seed = 90;
    Living::reads(move |_| {
        if seed == 90 {
            holds("all pages", area, 90, 6 * PAGE)?;
        }
        seed += 1;
        fill(area.wrapping_add(PAGE), seed, PAGE);
        child.says(&format!("look {seed}"), "it is there")?;
        let mut seen = vec![0; PAGE];
        // SAFETY: the buffer is as long as it says.
        must("pread", unsafe { libc::pread(fd, seen.as_mut_ptr().cast(), PAGE, PAGE as i64) } as i64)?;
        same_bytes("by the descriptor", &pattern(seed, PAGE), &seen)
    })
}

pub(crate) fn memfd(_: &[String]) -> Result<Living, String> {
    // SAFETY: a C string and a number.
    let fd = must("memfd_create", unsafe { libc::memfd_create(c"common".as_ptr(), 0) })? as i32;
    shown_by_two(fd)
}

pub(crate) fn deleted_file(_: &[String]) -> Result<Living, String> {
    let fd = sys::open("common", libc::O_RDWR | libc::O_CREAT)?;
    sys::fine("unlink", std::fs::remove_file("common"))?;
    shown_by_two(fd)
}

/// Private pages: some are alike, some differ, some only one of us has.
pub(crate) fn pages(_: &[String]) -> Result<Living, String> {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new area.
    let area = unsafe { libc::mmap(ptr::null_mut(), 8 * PAGE, libc::PROT_READ | libc::PROT_WRITE, kind, -1, 0) };
    must("mmap", if area == libc::MAP_FAILED { -1 } else { 0 })?;
    let page = move |at: usize| area.cast::<u8>().wrapping_add(at * PAGE);
    (0..4).for_each(|at| fill(page(at), 100 + at as u64, PAGE));
    let look = move |seeds: [u64; 8]| -> Outcome {
        for (at, seed) in seeds.into_iter().enumerate() {
            match seed {
                // SAFETY: a page of the area.
                0 => same_bytes("a page of zeroes", &[0; PAGE], unsafe { std::slice::from_raw_parts(page(at), PAGE) })?,
                _ => holds(&format!("page {at}"), page(at), seed, PAGE)?,
            }
        }
        Ok(())
    };
    let child = kin::child(|| {
        fill(page(1), 111, PAGE);
        fill(page(5), 115, PAGE);
        // SAFETY: a page of the area.
        must("madvise", unsafe { libc::madvise(page(2).cast(), PAGE, libc::MADV_DONTNEED) })?;
        Ok(move |question: &str| match question {
            "look" => look([100, 111, 0, 103, 0, 115, 0, 0]).map(|()| "all well".into()),
            _ => kin::obey(question),
        })
    })?;
    fill(page(3), 123, PAGE);
    fill(page(6), 126, PAGE);
    Living::reads(move |_| {
        child.says("look", "all well")?;
        look([100, 101, 102, 123, 0, 0, 126, 0])
    })
}

/// How many pages of it another process has, too.
fn shared_pages(area: Area) -> Result<usize, String> {
    let kib = |name| area.sum(name);
    Ok((kib("Shared_Clean")? + kib("Shared_Dirty")?) * 1024 / PAGE)
}

/// Pages that are alike stay so for all who have them, whatever their maker has done since to the areas that they are in.
pub(crate) fn split(_: &[String]) -> Result<Living, String> {
    // Pages that nobody may use are around them: what else is mapped later becomes no part of them.
    let room = Area::map(51 * PAGE, libc::PROT_NONE, ANONYMOUS, -1)?;
    let (area, gone) = (room.part(PAGE, 32 * PAGE), room.part(34 * PAGE, 16 * PAGE));
    [area, gone].into_iter().try_for_each(|area| area.protect(READ_WRITE))?;
    gone.bytes().copy_from_slice(&pattern(200, 16 * PAGE));
    area.bytes().copy_from_slice(&pattern(201, 32 * PAGE));
    let look = move |gone_too: bool| -> Answer {
        same_bytes("before", &pattern(201, 32 * PAGE)[..16 * PAGE], area.part(0, 16 * PAGE).bytes_read())?;
        same_bytes("behind", &pattern(201, 32 * PAGE)[20 * PAGE..], area.part(20 * PAGE, 12 * PAGE).bytes_read())?;
        if gone_too {
            same_bytes("what is gone", &pattern(200, 16 * PAGE), gone.bytes_read())?;
        }
        Ok(format!("{} and {}", shared_pages(area)?, shared_pages(gone)?))
    };
    let child = |gone_too: bool| {
        kin::child(|| Ok(move |question: &str| if question == "look" { look(gone_too) } else { kin::obey(question) }))
    };
    let elder = [child(true)?, child(true)?];
    area.part(8 * PAGE, PAGE).protect(libc::PROT_READ)?;
    area.part(16 * PAGE, 4 * PAGE).forget()?;
    gone.forget()?;
    let younger = child(false)?;
    Living::reads(move |_| {
        elder.iter().try_for_each(|child| child.says("look", "32 and 16"))?;
        younger.says("look", "28 and 0")?;
        same("our own", &Ok("28 and 0".to_owned()), &look(false))?;
        same(
            "areas",
            &"0+8 rw-p, 8+1 r--p, 9+7 rw-p, 20+12 rw-p".to_owned(),
            &protections(area.start as *const u8, 32)?,
        )
    })
}
