//! Rings of io_uring(7): what was done and not taken yet, what was not submitted yet, and where in its rings the kernel is.

use crate::life::Living;
use crate::refused;
use crate::sys::{self, Outcome, Truth, must, same};
use std::collections::VecDeque;
use std::time::Duration;

const TEXT: &[u8] = b"what is read by way of a ring";
/// Opcodes and flags (linux/io_uring.h).
const READ_FIXED: u8 = 4;
const POLL_ADD: u8 = 6;
const READ: u8 = 22;
const ASYNC: u8 = 16;
const FIXED_FILE: u8 = 1;
const CQSIZE: u32 = 8;
const SQPOLL: u32 = 2;
const IOPOLL: u32 = 1;
const DISABLED: u32 = 64;
const SQE128: u32 = 1 << 10;
const CQE32: u32 = 1 << 11;
const SINGLE: u32 = 1 << 12;
const DEFER: u32 = 1 << 13;
const NO_ARRAY: u32 = 1 << 16;

/// The memory of a ring: where what stands is said by `struct io_uring_params`.
struct Ring {
    fd: i32,
    rings: usize,
    entries: usize,
    array: Option<usize>,
    cqes: usize,
    sizes: [usize; 2],
    room: [u32; 2],
    params: [u32; 30],
}

fn map(fd: i32, len: usize, offset: i64) -> Result<usize, String> {
    let (both, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a new mapping where the kernel likes.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, both, shared, fd, offset) };
    must("mmap", if at == libc::MAP_FAILED { -1 } else { 0 })?;
    Ok(at.expose_provenance())
}

impl Ring {
    fn new(entries: u32, completions: u32, flags: u32) -> Result<Ring, String> {
        let mut params = [0u32; 30];
        (params[1], params[2]) = (completions, flags | if completions != 0 { CQSIZE } else { 0 });
        // SAFETY: the kernel reads and writes the structure.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params.as_mut_ptr()) };
        must("io_uring_setup", fd)?;
        let (fd, array, cqes) = (fd as i32, params[16] as usize, params[25] as usize);
        let sizes = [if flags & SQE128 != 0 { 128 } else { 64 }, if flags & CQE32 != 0 { 32 } else { 16 }];
        let len = (cqes + params[1] as usize * sizes[1]).max(array + params[0] as usize * 4);
        let rings = map(fd, len, 0)?;
        let entries = map(fd, params[0] as usize * sizes[0], 0x1000_0000)?;
        let array = (flags & NO_ARRAY == 0).then_some(rings + array);
        Ok(Ring { fd, rings, entries, array, cqes: rings + cqes, sizes, room: [params[0], params[1]], params })
    }

    fn word(&self, offset: u32) -> *mut u32 {
        std::ptr::with_exposed_provenance_mut(self.rings + offset as usize)
    }

    fn read(&self, offset: u32) -> u32 {
        // SAFETY: it stands in the memory of the ring.
        unsafe { self.word(offset).read_volatile() }
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: as above; nobody else runs.
        unsafe { self.word(offset).write_volatile(value) }
    }

    /// Heads and tails: of requests, and of completions.
    fn places(&self) -> [u32; 4] {
        [self.params[10], self.params[11], self.params[20], self.params[21]].map(|offset| self.read(offset))
    }

    /// Puts a request down, and does not tell the kernel.
    fn prepare(&self, opcode: u8, flags: u8, fd: i32, data: u64, buffer: (u64, u32)) {
        let tail = self.read(self.params[11]);
        let slot = tail & (self.room[0] - 1);
        let mut entry = [0u8; 64];
        (entry[0], entry[1]) = (opcode, flags);
        entry[4..8].copy_from_slice(&fd.to_ne_bytes());
        entry[16..24].copy_from_slice(&buffer.0.to_ne_bytes());
        entry[24..28].copy_from_slice(&buffer.1.to_ne_bytes());
        if opcode == POLL_ADD {
            entry[28..32].copy_from_slice(&u32::from(libc::POLLIN as u16).to_ne_bytes());
        }
        entry[32..40].copy_from_slice(&data.to_ne_bytes());
        let at: *mut [u8; 64] = std::ptr::with_exposed_provenance_mut(self.entries + slot as usize * self.sizes[0]);
        // SAFETY: a place of the ring that is free.
        unsafe { at.write_volatile(entry) };
        if let Some(array) = self.array {
            // SAFETY: as above.
            unsafe { std::ptr::with_exposed_provenance_mut::<u32>(array + slot as usize * 4).write_volatile(slot) };
        }
        self.write(self.params[11], tail.wrapping_add(1));
    }

    /// Submits so many, and waits for so many completions.
    fn enter(&self, submits: u32, waits: u32) -> Outcome {
        // SAFETY: numbers only.
        let done = unsafe { libc::syscall(libc::SYS_io_uring_enter, self.fd, submits, waits, 1, 0, 0) };
        same("requests taken", &i64::from(submits), &must("io_uring_enter", done)?)
    }

    /// Takes a completion: whose it is, and what it gave.
    fn take(&self) -> Option<(u64, i32)> {
        let [_, _, head, tail] = self.places();
        let at = self.cqes + (head & (self.room[1] - 1)) as usize * self.sizes[1];
        // SAFETY: a completion of the ring.
        let cqe: [u64; 2] = unsafe { std::ptr::with_exposed_provenance::<[u64; 2]>(at).read_volatile() };
        (head != tail).then(|| {
            self.write(self.params[20], head.wrapping_add(1));
            (cqe[0], cqe[1] as i32)
        })
    }

    fn register(&self, operation: u32, argument: u64, count: u32) -> Outcome {
        // SAFETY: the argument is what the operation takes.
        let r = unsafe { libc::syscall(libc::SYS_io_uring_register, self.fd, operation, argument, count) };
        must("io_uring_register", r).map(drop)
    }
}

/// A ring that is used: what it read is taken later, and in order.
struct Reader {
    ring: Ring,
    file: i32,
    how: (u8, u8),
    next: u64,
    buffer: Box<[u8; 64]>,
    waiting: VecDeque<u64>,
    prepared: u32,
    places: [u32; 4],
}

impl Reader {
    fn new(ring: Ring, how: (u8, u8)) -> Result<Reader, String> {
        // SAFETY: the name ends in NUL.
        let file = must("memfd_create", unsafe { libc::memfd_create(c"text".as_ptr(), 0) })? as i32;
        sys::write(file, TEXT)?;
        let buffer = Box::new([0; 64]);
        if how.0 == READ_FIXED {
            // A place that is empty, and one that is not.
            let place = [0, 0, buffer.as_ptr().expose_provenance() as u64, 64u64];
            ring.register(0, place.as_ptr().expose_provenance() as u64, 2)?;
        }
        let places = ring.places();
        Ok(Reader { ring, file, how, next: 1, buffer, waiting: VecDeque::new(), prepared: 0, places })
    }

    fn prepare(&mut self) {
        let at = self.buffer.as_mut_ptr().expose_provenance() as u64;
        self.ring.prepare(self.how.0, self.how.1, self.file, self.next, (at, TEXT.len() as u32));
        let slot = self.ring.read(self.ring.params[11]).wrapping_sub(1) & (self.ring.room[0] - 1);
        if self.how.0 == READ_FIXED {
            let index = self.ring.entries + slot as usize * self.ring.sizes[0] + 40;
            // SAFETY: the index of the buffer, in the entry that was just made.
            unsafe { std::ptr::with_exposed_provenance_mut::<u16>(index).write_volatile(1) };
        }
        self.waiting.push_back(self.next);
        self.next += 1;
        self.prepared += 1;
    }

    fn submit(&mut self) -> Outcome {
        self.ring.enter(std::mem::take(&mut self.prepared), self.waiting.len() as u32)
    }

    fn take(&mut self) -> Outcome {
        let all: Vec<_> = std::iter::from_fn(|| self.ring.take()).collect();
        let expected: Vec<_> = self.waiting.drain(..).map(|data| (data, TEXT.len() as i32)).collect();
        let mut sorted = all;
        sorted.sort_unstable();
        same("what is completed", &expected, &sorted)
    }

    /// Some are read and taken, some wait to be taken, and some to be submitted.
    fn leave(&mut self, taken: u32, waiting: u32, prepared: u32) -> Outcome {
        for _ in 0..taken {
            self.prepare();
            self.submit()?;
            self.take()?;
        }
        for _ in 0..waiting {
            self.prepare();
            self.submit()?;
        }
        (0..prepared).for_each(|_| self.prepare());
        self.places = self.ring.places();
        Ok(())
    }

    fn check(&mut self, taken: u32, waiting: u32, prepared: u32) -> Outcome {
        same("heads and tails", &self.places, &self.ring.places())?;
        *self.buffer = [0; 64];
        if self.prepared == 0 {
            self.take()?;
            self.prepare();
        }
        self.submit()?;
        self.take()?;
        same("what is read", &TEXT, &&self.buffer[..TEXT.len()])?;
        self.leave(taken, waiting, prepared)
    }
}

/// Rings of every layout that the kernel knows, each at another place; and one that was never used.
pub(crate) fn rings(_: &[String]) -> Result<Living, String> {
    let mut fixed = Reader::new(Ring::new(8, 0, 0)?, (READ_FIXED, 0))?;
    let mut gapless = Reader::new(Ring::new(4, 64, NO_ARRAY)?, (READ, 0))?;
    let mut deferred = Reader::new(Ring::new(32, 0, SINGLE | DEFER)?, (READ, 0))?;
    let mut large = Reader::new(Ring::new(300, 0, CQE32 | SQE128)?, (READ, ASYNC))?;
    let mut unused = Reader::new(Ring::new(16, 0, NO_ARRAY | CQE32)?, (READ, 0))?;
    fixed.leave(19, 7, 3)?;
    gapless.leave(1001, 10, 0)?;
    deferred.leave(5, 64, 0)?;
    large.leave(2, 3, 300)?;
    Living::reads_at_first(move |first| {
        fixed.check(2, 7, 3)?;
        gapless.check(3, 64, 0)?;
        deferred.check(1, 0, 1)?;
        large.check(1, 1, 1)?;
        if first { same("one that was not used", &[0; 4], &unused.ring.places()) } else { unused.check(0, 0, 0) }
    })
}

fn pair() -> Result<[i32; 2], String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    let r = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    must("socketpair", i64::from(r)).map(|_| ends)
}

/// Requests for files that are registered: a file by a ring that its thread alone may use, a socket whose descriptor has another number by
/// then, with empty places between.
pub(crate) fn files(_: &[String]) -> Result<Living, String> {
    let mut reader = Reader::new(Ring::new(8, 0, SINGLE | DEFER)?, (READ, FIXED_FILE))?;
    let table = [-1, -1, reader.file, -1];
    reader.ring.register(2, table.as_ptr().expose_provenance() as u64, 4)?;
    reader.file = 2;
    reader.leave(5, 2, 1)?;
    let (ring, ends) = (Ring::new(4, 0, 0)?, pair()?);
    ring.register(2, ends.as_ptr().expose_provenance() as u64, 1)?;
    // SAFETY: numbers only.
    let other = must("dup", i64::from(unsafe { libc::dup(ends[0]) }))? as i32;
    // SAFETY: the descriptor is ours, and has another number now.
    must("close", i64::from(unsafe { libc::close(ends[0]) }))?;
    let byte = Box::new([0u8; 1]);
    let mut next = 0;
    Living::reads(move |_| {
        reader.check(1, 2, 1)?;
        next += 1;
        sys::write(ends[1], &[next])?;
        ring.prepare(READ, FIXED_FILE, 0, next.into(), (byte.as_ptr().expose_provenance() as u64, 1));
        ring.enter(1, 1)?;
        same("what is completed", &Some((next.into(), 1)), &ring.take())?;
        // SAFETY: the kernel has written it.
        same("what is read", &next, &unsafe { byte.as_ptr().read_volatile() })?;
        sys::write(other, &[next])?;
        same("what is written", &vec![next], &sys::read_up_to(ends[1], 1)?)
    })
}

/// A ring that has been used for long; and that a child has, too.
pub(crate) fn inherited(arguments: &[String]) -> Result<Living, String> {
    let mut reader = Reader::new(Ring::new(128, 0, 0)?, (READ, 0))?;
    reader.leave(200_000, 100, 5)?;
    let mut living = refused::child(arguments)?;
    Living::reads(move |away| {
        reader.check(1, 2, 3)?;
        (living.check)(away)
    })
}

/// A request that waits for something to read, and is completed by a check.
fn busy() -> Result<Living, String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let ring = Ring::new(4, 0, 0)?;
    ring.prepare(POLL_ADD, 0, ends[0], 7, (0, 0));
    ring.enter(1, 0)?;
    Living::reads(move |_| {
        sys::write(ends[1], b"x")?;
        ring.enter(0, 1)?;
        same("what is completed", &Some((7, 1)), &ring.take())?;
        sys::read_up_to(ends[0], 1)?;
        ring.prepare(POLL_ADD, 0, ends[0], 7, (0, 0));
        ring.enter(1, 0)
    })
}

/// A ring that only the thread that made it may use.
fn of_another_thread() -> Result<Ring, String> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let sent = tell.send(Ring::new(4, 0, SINGLE));
        std::thread::sleep(Duration::from_secs(if sent.is_ok() { 100_000 } else { 0 }));
    });
    told.recv().map_err(|e| e.to_string())?
}

/// What is refused, by its name.
pub(crate) fn refused(arguments: &[String]) -> Result<Living, String> {
    let name = arguments.first().map_or("", String::as_str);
    let ring = match name {
        "busy" => return busy(),
        "thread" => of_another_thread()?,
        "polled" => Ring::new(4, 0, SQPOLL)?,
        "polls" => Ring::new(4, 0, IOPOLL)?,
        "disabled" => Ring::new(4, 0, DISABLED)?,
        _ => Ring::new(4, 0, 0)?,
    };
    // SAFETY: numbers only.
    let count = must("eventfd", i64::from(unsafe { libc::eventfd(0, 0) }))? as i32;
    let own = [count, ring.fd];
    let pointer = |at: *const i32| at.expose_provenance() as u64;
    let mut groups = [0u64; 5];
    let mut update = [u64::from(u32::MAX), ring.fd as u64];
    match name {
        "eventfd" => ring.register(4, pointer(own.as_ptr()), 1)?,
        "files-gone" => {
            ring.register(2, pointer(own.as_ptr()), 1)?;
            // SAFETY: the descriptor is ours.
            must("close", i64::from(unsafe { libc::close(count) }))?;
        }
        "files-alike" => {
            ring.register(2, pointer(own.as_ptr()), 1)?;
            // SAFETY: numbers only.
            must("eventfd", i64::from(unsafe { libc::eventfd(0, 0) }))?;
        }
        "number" => ring.register(20, update.as_mut_ptr().expose_provenance() as u64, 1)?,
        "provided" => {
            // `struct io_uring_buf_reg`: the kernel provides the memory of eight buffers of group 700.
            (groups[1], groups[0]) = (8 | 700 << 32 | 1 << 48, 0);
            ring.register(22, groups.as_mut_ptr().expose_provenance() as u64, 1)?;
        }
        "unmapped" => {
            // SAFETY: nobody uses the memory of the ring.
            let r = unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(ring.rings), 4096) };
            must("munmap", i64::from(r))?;
        }
        "closed" => {
            // SAFETY: the descriptor is ours.
            must("close", i64::from(unsafe { libc::close(ring.fd) }))?;
        }
        _ => {}
    }
    let is_mapped = name != "unmapped";
    Living::reads(move |_| sys::holds("the ring is as it was", Truth(!is_mapped || ring.places() == [0; 4])))
}
