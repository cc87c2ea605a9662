//! Who takes note of the end of threads that we trace, while we may wait to trace another one.
//!
//! PTRACE_SEIZE waits for a thread that executes a program (kernel/ptrace.c, `ptrace_attach`: `cred_guard_mutex`), and that thread for the
//! end of all others of its process (fs/exec.c, `de_thread`). The end of one that is traced is complete when its tracer has taken note of
//! it, which any thread of the tracer's process may do.

use crate::ptrace;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread of ours, at work until this is dropped.
#[derive(Debug)]
pub(crate) struct Undertaker {
    seized: Arc<Mutex<Vec<i32>>>,
    work: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Undertaker {
    /// Where no further thread can be had, nobody takes note.
    pub(crate) fn begin() -> Undertaker {
        const OFTEN: Duration = Duration::from_millis(20);
        let (alive, over) = mpsc::channel();
        let seized = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seized);
        let work = move || {
            while over.recv_timeout(OFTEN) == Err(mpsc::RecvTimeoutError::Timeout) {
                let all: Vec<i32> = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
                all.into_iter().for_each(|tid| _ = ptrace::look(tid));
            }
        };
        let thread = std::thread::Builder::new().spawn(work).ok();
        Undertaker { seized, work: thread.map(|thread| (alive, thread)) }
    }

    /// This one is traced from now on.
    pub(crate) fn learns_of(&self, tid: i32) {
        self.seized.lock().unwrap_or_else(PoisonError::into_inner).push(tid);
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        if let Some((alive, thread)) = self.work.take() {
            drop(alive);
            _ = thread.join();
        }
    }
}
