//! Work on a list that a second thread shares: it goes one way through the list while whoever needs the results goes the other,
//! or it goes ahead. What /proc tells of a tree that stands still may be read by any thread of ours; what ptrace(2) tells, only by the
//! one that has stopped it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// From how many results on a thread is worth what it costs.
const WORTH_IT: usize = 16;

/// The results, by their places on the list. What was not begun when this is dropped never is.
pub(crate) struct Ahead<T> {
    shared: Arc<Shared<T>>,
    helper: Option<JoinHandle<()>>,
}

struct Shared<T> {
    work: Box<dyn Fn(usize) -> T + Send + Sync>,
    slots: Mutex<Vec<Slot<T>>>,
    done: Condvar,
}

enum Slot<T> {
    Open,
    Begun,
    Done(T),
    Taken,
}

impl<T> Shared<T> {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was open; from here on it is not.
    fn claim(&self, n: usize) -> bool {
        let mut slots = self.slots();
        let is_open = matches!(slots[n], Slot::Open);
        if is_open {
            slots[n] = Slot::Begun;
        }
        is_open
    }

    fn help(&self, order: impl Iterator<Item = usize>) {
        for n in order {
            if !self.claim(n) {
                continue;
            }
            let result = (self.work)(n);
            self.slots()[n] = Slot::Done(result);
            self.done.notify_one();
        }
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// The thread goes through the list in this order.
    pub(crate) fn begin(
        count: usize,
        order: impl Iterator<Item = usize> + Send + 'static,
        work: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Ahead<T> {
        let slots = Mutex::new(std::iter::repeat_with(|| Slot::Open).take(count).collect());
        let shared = Arc::new(Shared { work: Box::new(work), slots, done: Condvar::new() });
        let its = Arc::clone(&shared);
        let begin = || std::thread::Builder::new().spawn(move || its.help(order)).ok();
        Ahead { helper: if count < WORTH_IT { None } else { begin() }, shared }
    }

    /// A result, once: what the thread has, or is at; anything else is done here.
    pub(crate) fn take(&self, n: usize) -> T {
        let mut slots = self.shared.slots();
        loop {
            match std::mem::replace(&mut slots[n], Slot::Taken) {
                Slot::Done(result) => return result,
                Slot::Begun => {
                    slots[n] = Slot::Begun;
                    slots = self.shared.done.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                Slot::Open => {
                    drop(slots);
                    return (self.shared.work)(n);
                }
                Slot::Taken => unreachable!("each result is taken once"),
            }
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.shared.slots().iter_mut().filter(|slot| matches!(slot, Slot::Open)).for_each(|slot| *slot = Slot::Taken);
        // It only reads; whatever became of it, nothing is lost.
        self.helper.take().map(JoinHandle::join);
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
