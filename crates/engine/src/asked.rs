//! What is asked in any case, and so all at once, before anybody asks: the calls, and their answers until they are taken.

use abi::{Answer, Call};
use resources::tree::process::Shares;
use resources::{ProcessState, ThreadState};
use std::collections::VecDeque;
use std::sync::Arc;

/// What threads are asked: it is the same for all that share as much.
#[derive(Default)]
pub(crate) struct Asks {
    known: Vec<(Whom, Arc<[Call]>)>,
}

/// A first thread, by what its process does not have of its own; or any other.
type Whom = Option<[bool; 4]>;

impl Asks {
    /// What any thread is asked.
    pub(crate) fn of_thread(&mut self) -> Arc<[Call]> {
        self.whom(None)
    }

    /// What a thread with that index is asked: the first one besides what is asked of its process.
    pub(crate) fn of(&mut self, index: usize, shares: &Shares) -> Arc<[Call]> {
        self.whom((index == 0).then_some(shares))
    }

    fn whom(&mut self, whose: Option<&Shares>) -> Arc<[Call]> {
        let which: Whom = whose.map(|shares| shares.all().map(|with| with.is_some()));
        let known = self.known.iter().find(|(of, _)| *of == which);
        known.map(|(_, calls)| Arc::clone(calls)).unwrap_or_else(|| {
            let of_process = whose.map_or(Vec::new(), ProcessState::asks);
            let calls: Arc<[Call]> = ThreadState::asks().into_iter().chain(of_process).collect();
            self.known.push((which, Arc::clone(&calls)));
            calls
        })
    }
}

/// Calls that were made, in their order, with the answers that were not taken yet.
#[derive(Default)]
pub(crate) struct Answers {
    calls: Arc<[Call]>,
    /// Which of the calls these are of.
    first: usize,
    given: VecDeque<Option<Answer>>,
}

impl Answers {
    /// Of some of the calls, from that one on.
    pub(crate) fn new(calls: Arc<[Call]>, first: usize, given: impl IntoIterator<Item = Answer>) -> Answers {
        Answers { calls, first, given: given.into_iter().map(Some).collect() }
    }

    /// The answers of these calls, if they were made one after the other.
    pub(crate) fn take(&mut self, calls: &[Call]) -> Option<Vec<Answer>> {
        let made = &self.calls[self.first..];
        let begin = (0..self.given.len()).find(|n| self.given[*n].is_some() && Some(&made[*n]) == calls.first())?;
        let range = begin..begin + calls.len();
        let is_there = range.end <= self.given.len() && self.given.range(range.clone()).all(Option::is_some);
        if !is_there || made[range.clone()] != *calls {
            return None;
        }
        let taken = self.given.range_mut(range).filter_map(Option::take).collect();
        while let Some(None) = self.given.front() {
            self.given.pop_front();
            self.first += 1;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Sys;

    fn call(n: u64) -> Call {
        Call::new(Sys::Close, [n.into()])
    }

    fn given(all: Option<Vec<Answer>>) -> Option<Vec<u64>> {
        all.map(|all| all.iter().map(|answer| answer.result.unwrap()).collect())
    }

    #[test]
    fn what_was_made_in_a_row_is_taken_once() {
        let calls: Arc<[Call]> = [7, 1, 2, 1, 3, 4].map(call).into();
        let mut answers = Answers::new(calls, 1, (11..=15).map(|n| Answer::from_raw(n, abi::Outs::new())));
        let mut take = |calls: &[u64]| given(answers.take(&calls.iter().copied().map(call).collect::<Vec<_>>()));
        assert_eq!(take(&[7]), None);
        assert_eq!(take(&[2, 3]), None);
        assert_eq!(take(&[1, 3]), None, "only the first that is alike is looked at");
        assert_eq!(take(&[1]), Some(vec![11]));
        assert_eq!(take(&[1, 3]), Some(vec![13, 14]));
        assert_eq!(take(&[3]), None);
        assert_eq!(take(&[2]), Some(vec![12]));
        assert_eq!(take(&[4]), Some(vec![15]));
        assert_eq!(take(&[4]), None);
    }
}
