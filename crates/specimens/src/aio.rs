//! Asynchronous input and output (io_setup(2)): what was done and not taken yet, and where in its ring the kernel is.

use crate::life::Living;
use crate::refused;
use crate::sys::{self, Outcome, Truth, must, same};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TEXT: &[u8] = b"what is read asynchronously";
const PREAD: u16 = 0;
const POLL: u16 = 5;

/// `struct iocb` (linux/aio_abi.h).
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    at: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default, Clone, Copy, Debug, PartialEq)]
struct Event {
    data: u64,
    request: u64,
    result: [i64; 2],
}

/// A context, by its address.
#[derive(Clone, Copy)]
struct Context(u64);

impl Context {
    fn new(events: u32) -> Result<Context, String> {
        let mut context = 0u64;
        // SAFETY: the kernel writes one number.
        must("io_setup", unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut context) })?;
        Ok(Context(context))
    }

    fn destroy(self) -> Outcome {
        // SAFETY: nobody uses the context any more.
        must("io_destroy", unsafe { libc::syscall(libc::SYS_io_destroy, self.0) }).map(drop)
    }

    /// Number, room, head and tail, as its ring tells them.
    fn ring(self) -> [u32; 4] {
        // SAFETY: the ring begins with these.
        unsafe { std::ptr::read_volatile(std::ptr::with_exposed_provenance(self.0 as usize)) }
    }

    fn submit(self, request: &mut Request) -> Outcome {
        let mut list = [&raw mut *request];
        // SAFETY: a list of one, which lives as long as the call.
        let count = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, list.as_mut_ptr()) };
        same("requests taken", &1, &must("io_submit", count)?)
    }

    fn take(self, least: i64, most: usize) -> Result<Vec<Event>, String> {
        let mut events = vec![Event::default(); most];
        let (room, none) = (events.as_mut_ptr(), std::ptr::null::<libc::timespec>());
        // SAFETY: room for so many.
        let count = unsafe { libc::syscall(libc::SYS_io_getevents, self.0, least, most as i64, room, none) };
        events.truncate(must("io_getevents", count)? as usize);
        Ok(events)
    }
}

/// A context that is used: what it read is taken later, and in order.
struct Reader {
    context: Context,
    file: i32,
    next: u64,
    buffer: Box<[u8; 64]>,
    waiting: VecDeque<u64>,
    ring: [u32; 4],
}

impl Reader {
    fn new(events: u32, file: i32) -> Result<Reader, String> {
        let context = Context::new(events)?;
        let ring = context.ring();
        Ok(Reader { context, file, next: 1, buffer: Box::new([0; 64]), waiting: VecDeque::new(), ring })
    }

    fn read(&mut self) -> Outcome {
        let at = self.buffer.as_mut_ptr().expose_provenance() as u64;
        let (fd, length) = (self.file as u32, TEXT.len() as u64);
        let mut request = Request { data: self.next, opcode: PREAD, fd, at, length, ..Request::default() };
        self.waiting.push_back(self.next);
        self.next += 1;
        self.context.submit(&mut request)
    }

    fn take(&mut self, count: usize) -> Outcome {
        let seen = self.context.take(count as i64, count)?;
        let expected: Vec<u64> = self.waiting.drain(..count).collect();
        same("whose events wait", &expected, &seen.iter().map(|event| event.data).collect())?;
        let right = seen.iter().all(|event| event.result == [TEXT.len() as i64, 0]);
        sys::holds("events tell how much was read", Truth(right))
    }

    /// Some are read and taken, and some wait.
    fn leave(&mut self, taken: usize, waiting: usize) -> Outcome {
        for _ in 0..taken {
            self.read()?;
            self.take(1)?;
        }
        (0..waiting).try_for_each(|_| self.read())?;
        self.ring = self.context.ring();
        Ok(())
    }

    fn check(&mut self, taken: usize, waiting: usize) -> Outcome {
        same("number, room, head and tail", &self.ring, &self.context.ring())?;
        self.take(self.waiting.len())?;
        *self.buffer = [0; 64];
        self.read()?;
        same("what is read", &TEXT, &&self.buffer[..TEXT.len()])?;
        self.take(1)?;
        self.leave(taken, waiting)
    }
}

fn text() -> Result<i32, String> {
    // SAFETY: the name ends in NUL.
    let file = must("memfd_create", unsafe { libc::memfd_create(c"text".as_ptr(), 0) })? as i32;
    sys::write(file, TEXT)?;
    Ok(file)
}

/// Three contexts, of which the second one is gone; and one that was never used.
pub(crate) fn events(_: &[String]) -> Result<Living, String> {
    let file = text()?;
    let mut first = Reader::new(1, file)?;
    let gone = Context::new(300)?;
    let mut third = Reader::new(500, file)?;
    let idle = Context::new(7)?;
    gone.destroy()?;
    let unused = idle.ring();
    first.leave(17, 3)?;
    // So that it begins anew at the beginning of its ring.
    third.leave(third.ring[1] as usize - 2, 5)?;
    Living::reads(move |_| {
        first.check(70, 3)?;
        third.check(3, 100)?;
        same("the one that was not used", &unused, &idle.ring())?;
        same("its events", &Vec::new(), &idle.take(0, 1)?)
    })
}

/// A long ring, of which half is full.
pub(crate) fn many(_: &[String]) -> Result<Living, String> {
    let mut reader = Reader::new(8000, text()?)?;
    reader.leave(9000, 8000)?;
    Living::reads(move |_| reader.check(1, 8000))
}

/// A thread that waits until something can be read, however long that takes.
pub(crate) fn waits(_: &[String]) -> Result<Living, String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let context = Context::new(4)?;
    let done = Arc::new(AtomicU64::new(0));
    let mut request = Request { opcode: POLL, fd: ends[0] as u32, at: libc::POLLIN as u64, ..Request::default() };
    context.submit(&mut request)?;
    let told = done.clone();
    std::thread::spawn(move || {
        while context.take(1, 1).is_ok_and(|events| events.len() == 1) {
            let read = sys::read_up_to(ends[0], 1).is_ok() && context.submit(&mut request).is_ok();
            told.fetch_add(u64::from(read), Ordering::SeqCst);
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let mut checks = 0;
    Living::reads(move |_| {
        checks += 1;
        sys::write(ends[1], b"x")?;
        let heard = (0..300).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            done.load(Ordering::SeqCst) == checks
        });
        sys::holds("the thread is told", Truth(heard))
    })
}

/// A child, to which the context of its parent is nothing.
pub(crate) fn inherited(arguments: &[String]) -> Result<Living, String> {
    let mut reader = Reader::new(1, text()?)?;
    reader.leave(2, 2)?;
    let mut living = refused::child(arguments)?;
    Living::reads(move |away| {
        reader.check(1, 2)?;
        (living.check)(away)
    })
}
