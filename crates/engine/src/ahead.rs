//! Work on a list that a second thread shares: it goes one way through the list while whoever needs the results goes the other,
//! or it goes ahead. What /proc tells of a tree that stands still may be read by any thread of ours; what ptrace(2) tells, only by the
//! one that has stopped it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// From how many results on a thread is worth what it costs.
const WORTH_IT: usize = 16;

/// The results, by their places on the list. What was not begun when this is dropped never is.
pub(crate) struct Ahead<T> {
    results: Arc<Mutex<Vec<Option<T>>>>,
    work: Work,
}

/// The work, whatever its results are.
struct Work {
    shared: Arc<Shared>,
    helper: Option<JoinHandle<()>>,
}

struct Shared {
    work: Box<dyn Fn(usize) + Send + Sync>,
    slots: Mutex<Vec<Slot>>,
    done: Condvar,
}

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Open,
    Begun,
    Done,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Does it, if it is open.
    fn see_to(&self, n: usize) {
        let mut slots = locked(&self.slots);
        if slots[n] == Slot::Open {
            slots[n] = Slot::Begun;
            drop(slots);
            (self.work)(n);
            locked(&self.slots)[n] = Slot::Done;
            self.done.notify_one();
        }
    }
}

impl Work {
    fn begin(
        count: usize,
        order: Box<dyn Iterator<Item = usize> + Send>,
        work: Box<dyn Fn(usize) + Send + Sync>,
    ) -> Work {
        let shared = Arc::new(Shared { work, slots: Mutex::new(vec![Slot::Open; count]), done: Condvar::new() });
        let its = Arc::clone(&shared);
        let begin = || std::thread::Builder::new().spawn(move || order.for_each(|n| its.see_to(n))).ok();
        Work { helper: if count < WORTH_IT { None } else { begin() }, shared }
    }

    /// What the thread is at is waited for; anything else is done here.
    fn finish(&self, n: usize) {
        self.shared.see_to(n);
        let mut slots = locked(&self.shared.slots);
        while slots[n] != Slot::Done {
            slots = self.shared.done.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        locked(&self.shared.slots).fill(Slot::Done);
        // It only reads; whatever became of it, nothing is lost.
        self.helper.take().map(JoinHandle::join);
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// The thread goes through the list in this order.
    pub(crate) fn begin(
        count: usize,
        order: impl Iterator<Item = usize> + Send + 'static,
        work: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Ahead<T> {
        let results = Arc::new(Mutex::new(std::iter::repeat_with(|| None).take(count).collect::<Vec<_>>()));
        let its = Arc::clone(&results);
        let work = move |n| {
            let result = work(n);
            locked(&its)[n] = Some(result);
        };
        Ahead { results, work: Work::begin(count, Box::new(order), Box::new(work)) }
    }

    /// A result, once.
    pub(crate) fn take(&self, n: usize) -> T {
        self.work.finish(n);
        locked(&self.results)[n].take().expect("each result is taken once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_had_once_whoever_does_it() {
        for count in [3, 500] {
            let ahead = Ahead::begin(count, (0..count).rev(), |n| n * n);
            assert!((0..count).all(|n| ahead.take(n) == n * n));
        }
    }

    #[test]
    fn what_nobody_takes_is_left() {
        let (begun, seen) = (Arc::new(Mutex::new(0)), 10_000_000);
        let counted = Arc::clone(&begun);
        drop(Ahead::begin(seen, 0..seen, move |_| *counted.lock().unwrap() += 1));
        assert!(*begun.lock().unwrap() < seen);
    }
}
