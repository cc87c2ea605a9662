//! Calls: batches that a stub makes, and the wait for their answers.

use super::pass::{received, room, send_fds};
use super::{Body, Part, Stub, Stubs, Tie};
use crate::arena::{Arena, Batch};
use crate::process::has_ended;
use crate::ptrace::{self, Stop};
use crate::{fault, sys};
use abi::consts::socket::MSG_CMSG_CLOEXEC;
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How often a stub that takes long to answer is looked at, in milliseconds. It may take as long as it lives.
const LOOK: i32 = 20;

/// Calls that a thread is making, perhaps while others make theirs.
#[derive(Debug)]
pub struct Begun {
    tid: u32,
    /// Of earlier batches.
    answers: Vec<Answer>,
    batch: Batch,
}

impl Stubs {
    /// The thread, and the process that it is of.
    pub(super) fn parts(&mut self, tid: u32) -> (&mut Stub, &Body) {
        let stub = self.threads.get_mut(&tid).expect("calls are made by threads that are born");
        let process = stub.process.expect("calls are made by threads that are born");
        (stub, &self.processes[&process])
    }

    /// Calls made by a thread, in batches as large as its arena allows; it stops at none that fails.
    pub fn calls(&mut self, tid: u32, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        let begun = self.begin(tid, calls)?;
        self.finish(begun)
    }

    /// The same; but of the last batch only the beginning is seen. Until the end of it the thread is asked for nothing else.
    pub fn begin(&mut self, tid: u32, calls: &[Call]) -> Result<Begun, Fault> {
        let (stub, body) = self.parts(tid);
        let (mut answers, mut rest) = (Vec::with_capacity(calls.len()), calls);
        loop {
            let batch = put(&stub.arena, rest)?;
            if batch.entries == rest.len() {
                stub.send(body.pid, &batch)?;
                return Ok(Begun { tid, answers, batch });
            }
            answers.extend(stub.run(body, &batch)?);
            rest = &rest[batch.entries..];
        }
    }

    /// Waits for the end of what was begun; gives all answers.
    pub fn finish(&mut self, begun: Begun) -> Result<Vec<Answer>, Fault> {
        let Begun { tid, mut answers, batch } = begun;
        let (stub, body) = self.parts(tid);
        stub.answered(body)?;
        answers.append(&mut stub.arena.answers(&batch));
        Ok(answers)
    }

    /// A thread makes calls of which the last ends it, or its whole process; waits until that is so.
    pub fn end(&mut self, tid: u32, calls: &[Call], part: Part) -> Result<(), Fault> {
        let (stub, body) = self.parts(tid);
        let (pid, process) = (body.pid, stub.process.expect("it is born"));
        let batch = put(&stub.arena, calls)?;
        stub.send(pid, &batch)?;
        let is_over = || match part {
            Part::Process => has_ended(body.pidfd.as_fd(), Duration::ZERO),
            Part::Thread => crate::status::is_dead(pid),
        };
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while !is_over() {
            if std::time::Instant::now() > patience {
                return Err(Fault::new("exit", pid, Errno::ETIMEDOUT));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        self.processes.get_mut(&process).expect("it is born").ended = Some(part);
        Ok(())
    }
}

impl Stub {
    /// Has a batch run, and waits for it or for the end of the process.
    pub(super) fn run(&mut self, body: &Body, batch: &Batch) -> Result<Vec<Answer>, Fault> {
        self.send(body.pid, batch)?;
        self.answered(body)?;
        Ok(self.arena.answers(batch))
    }

    /// Takes descriptors; gives the numbers that they have there, the lowest that were free.
    pub(super) fn take(&mut self, body: &Body, fds: &[OwnedFd]) -> Result<Vec<RawFd>, Fault> {
        let message = Arg::Message { data: 1, name: 0, control: room(fds.len()) };
        let args = [Arg::Int(self.number.unwrap_or(-1) as u64), message, Arg::Int(MSG_CMSG_CLOEXEC)];
        let batch = put(&self.arena, &[Call::new(Sys::Recvmsg, args)])?;
        self.send(body.pid, &batch)?;
        send_fds(self.socket(), fds).map_err(|e| Fault::new("sendmsg", body.pid, e))?;
        self.answered(body)?;
        let answer = self.arena.answers(&batch).remove(0);
        answer.result.map_err(|e| Fault::new("recvmsg", body.pid, e))?;
        let all = received(&answer.out[2]);
        // What there was no number for is missing.
        if all.len() == fds.len() { Ok(all) } else { Err(Fault::new("recvmsg", body.pid, Errno::EMFILE)) }
    }

    fn socket(&self) -> &OwnedFd {
        self.socket.as_ref().expect("calls are made by threads that are born, and not held")
    }

    pub(super) fn send(&self, pid: i32, batch: &Batch) -> Result<(), Fault> {
        let call = |name: &str, e: Errno| Fault::new(name, pid, e);
        fault::point().map_err(|e| call("send", e))?;
        let count = (batch.entries as u32).to_ne_bytes();
        // SAFETY: four bytes of ours.
        let r = unsafe { libc::send(self.socket().as_raw_fd(), count.as_ptr().cast(), 4, libc::MSG_NOSIGNAL) };
        sys::result(r as i64).map(drop).map_err(|e| call("send", e))
    }

    pub(super) fn answered(&self, body: &Body) -> Result<(), Fault> {
        let (pid, pidfd) = (body.pid, &body.pidfd);
        let mut word = [0u8; 4];
        loop {
            // SAFETY: recv writes at most four bytes into four.
            let r = unsafe { libc::recv(self.socket().as_raw_fd(), word.as_mut_ptr().cast(), 4, libc::MSG_DONTWAIT) };
            match sys::result(r as i64) {
                Ok(4) => return Ok(()),
                Ok(_) => return Err(Fault::new("recv", pid, Errno::EPIPE)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(e) => return Err(Fault::new("recv", pid, e)),
            }
            let poll = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut both = [poll(self.socket().as_raw_fd()), poll(pidfd.as_raw_fd())];
            // SAFETY: two pollfds, borrowed for the call.
            let ready = unsafe { libc::poll(both.as_mut_ptr(), 2, LOOK) };
            if both[0].revents == 0 && both[1].revents != 0 {
                return Err(Fault::new("a call in it", pid, Errno::ESRCH));
            }
            if ready == 0 && self.tie == Tie::Trace {
                see_stop(self.tid.unwrap_or(pid))?;
            }
        }
    }
}

pub(super) fn put(arena: &Arena, calls: &[Call]) -> Result<Batch, Fault> {
    arena.put(calls).map_err(|e| Fault::new(e.to_string(), "a stub", Errno::E2BIG))
}

/// All signals are blocked in a stub, so one that it meets is forced upon it by what it did, as SIGSEGV, and would end it
/// if we let it go on; and one that nobody can block only stops it.
fn see_stop(pid: i32) -> Result<(), Fault> {
    match ptrace::look(pid)? {
        None => Ok(()),
        Some(Stop::Exited) => Err(Fault::new("a call in it", pid, Errno::ESRCH)),
        Some(Stop::Signal(signal)) => Err(Fault::new(format!("a call in it, by signal {signal}"), pid, Errno::EFAULT)),
        Some(Stop::Event(_) | Stop::Syscall | Stop::Other(_)) => ptrace::cont(pid, 0),
    }
}
