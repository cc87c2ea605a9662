//! Buffers that a thread of its own takes and gives back, while whoever fills them sees to the next one.

use crate::buffer::PageBuffer;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};

/// Parts of a buffer.
pub(crate) type Job = (PageBuffer, Vec<Range<usize>>);

/// How many buffers there are on the way: one is worked on, one is ready.
const AHEAD: usize = 2;

/// A thread that works on buffers, and what it works with.
#[derive(Debug)]
pub(crate) struct Beside<T> {
    shared: Arc<Shared<T>>,
    /// Taken at the end.
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Shared<T> {
    line: Mutex<Line>,
    changed: Condvar,
    /// Held by the thread for as long as it lives.
    with: Mutex<Option<T>>,
}

#[derive(Debug)]
struct Line {
    full: VecDeque<Job>,
    spare: Vec<PageBuffer>,
    /// Nothing more comes, or is taken.
    ended: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl<T> Shared<T> {
    /// What there is in the line, as soon as there is something; `None`: it has ended.
    fn next<R>(&self, take: impl Fn(&mut Line) -> Option<R>) -> Option<R> {
        let mut line = lock(&self.line);
        loop {
            match take(&mut line) {
                None if line.ended => return None,
                None => line = self.changed.wait(line).expect("nobody panics with it"),
                found => return found,
            }
        }
    }

    fn change(&self, with: impl FnOnce(&mut Line)) {
        with(&mut lock(&self.line));
        self.changed.notify_all();
    }

    fn work(&self, work: impl Fn(&mut T, &Job) -> io::Result<()>) -> io::Result<()> {
        let mut with = lock(&self.with);
        let Some(with) = with.as_mut() else { return Ok(()) };
        while let Some(job) = self.next(|line| line.full.pop_front()) {
            let done = work(with, &job);
            self.change(|line| {
                line.spare.push(job.0);
                line.ended |= done.is_err();
            });
            done?;
        }
        Ok(())
    }
}

impl<T: Send + 'static> Beside<T> {
    /// A thread that does `work` with `with` for every buffer of `len` bytes; if there can be none, `with` comes back.
    pub(crate) fn start(
        with: T,
        len: usize,
        work: impl Fn(&mut T, &Job) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, T> {
        let spare = (0..AHEAD).map(|_| PageBuffer::new(len)).collect();
        let line = Mutex::new(Line { full: VecDeque::new(), spare, ended: false });
        let shared = Arc::new(Shared { line, changed: Condvar::new(), with: Mutex::new(Some(with)) });
        let theirs = Arc::clone(&shared);
        match Builder::new().spawn(move || theirs.work(work)) {
            Ok(thread) => Ok(Beside { shared, thread: Some(thread) }),
            Err(_) => Err(lock(&shared.with).take().expect("it was put there")),
        }
    }
}

impl<T> Beside<T> {
    /// Hands over a buffer for another one. Whether that could be done: after an error it cannot.
    pub(crate) fn swap(&self, buffer: &mut PageBuffer, parts: Vec<Range<usize>>) -> bool {
        let Some(spare) = self.shared.next(|line| if line.ended { None } else { line.spare.pop() }) else {
            return false;
        };
        let full = std::mem::replace(buffer, spare);
        self.shared.change(|line| line.full.push_back((full, parts)));
        true
    }

    /// What it works with, when all that was handed over is done.
    pub(crate) fn end(mut self) -> io::Result<T> {
        self.join()?;
        Ok(lock(&self.shared.with).take().expect("it was put there"))
    }

    fn join(&mut self) -> io::Result<()> {
        self.shared.change(|line| line.ended = true);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("it does not panic"))
    }
}

impl<T> Drop for Beside<T> {
    fn drop(&mut self) {
        // Nothing of it is left behind.
        let _ = self.join();
    }
}
