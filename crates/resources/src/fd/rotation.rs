//! How the messages of a POSIX queue are read, which can only be taken out of it.
//!
//! All of them are taken out and put back by one batch of calls that the program makes itself. Nothing stands between: an envoy
//! makes a batch to its end, also when we are killed, and no other thread of the tree runs. What is taken out comes by priority,
//! and the oldest of each first; put back in that order, it stands as before. Length and priority of a message are known only
//! when it was taken out, so the program copies them to where the arguments of the later calls stand.
//!
//! What could come between are others who use the queue: who has it open is not frozen, and one that tells somebody of a first
//! message is not read. Processes of the tree that wait for a message, or for room, have left the kernel's list of those who
//! wait when they were stopped.

use super::{Seen, flags, mqueue};
use crate::{Blob, Capturing, Trouble};
use abi::consts::cap::CAP_SYS_PTRACE;
use abi::consts::fcntl::F_DUPFD_CLOEXEC;
use abi::consts::fd::AT_FDCWD;
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys, proc};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Priorities are below this (limits.h, MQ_PRIO_MAX).
pub(crate) const PRIORITIES: u32 = 32768;
/// Room in an arena, but for what is there in any case.
const ROOM: u64 = (1 << 20) - (64 << 10);
/// What a message takes there besides itself: two entries, priority, time and four pieces.
const BESIDE: u64 = 512;
/// The most pieces that are copied at once (limits.h, IOV_MAX).
const PIECES: usize = 1024;
/// An argument until what it is to be is copied there: with it the call fails, and does nothing.
const UNKNOWN: Arg = Arg::Int(u64::MAX);

/// A message.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Waiting {
    /// The highest is received first.
    #[n(0)]
    pub priority: u32,
    /// What it says.
    #[n(1)]
    pub text: Blob,
}

/// What waits in a queue, for which `most` messages of `longest` bytes are allowed.
pub(crate) fn messages(
    seen: &Seen,
    (most, longest): (u64, u64),
    waiting: u64,
    from: &Capturing<'_>,
) -> Result<Vec<Waiting>, Trouble> {
    if waiting == 0 {
        return Ok(Vec::new());
    }
    if waiting.saturating_mul(longest.saturating_add(BESIDE)) > ROOM {
        let why =
            format!("{waiting} messages of up to {longest} bytes wait in it, which is more than can be read at once");
        return Err(refused(seen, why, "let the program receive some of them first"));
    }
    // A process that waits for room would put its message in as soon as there is some.
    if waiting == most && !sees_all(from)? {
        let why =
            "this message queue is full, and another user's process that you may not see could wait for room in it";
        return Err(refused(seen, why.into(), "let the program receive a message first, or freeze it as root"));
    }
    let process = from.probe.inner_tid(seen.pid).expect("it is of the tree").into();
    if !may_copy(seen, process, from)? {
        let why = "messages wait in it, and the kernel has no process_vm_readv(2), with which they are put back";
        return Err(refused(seen, why.into(), "let the program receive them first"));
    }
    let rotation = Rotation { count: waiting as usize, longest: longest as usize };
    let answers = from.probe.calls(&rotation.calls(seen, process))?;
    if let Err(errno) = answers[0].result {
        let why = format!("messages wait in it, and the program may not open it for reading and writing ({errno})");
        return Err(refused(seen, why, "let the program receive them first, or give the queue other rights"));
    }
    rotation.read(seen, &answers, from)
}

/// Nobody can go on with it.
pub(super) fn refused(seen: &Seen, why: String, remedy: &str) -> Trouble {
    seen.refuse(why, remedy).into()
}

/// Whether whoever freezes sees what any process has (CAP_SYS_PTRACE, which root has).
fn sees_all(from: &Capturing<'_>) -> Result<bool, Trouble> {
    Ok(proc::status(&from.probe.own_text("status")?)?.cap_eff >> CAP_SYS_PTRACE & 1 == 1)
}

/// A batch of calls that takes out and puts back.
#[derive(Clone, Copy)]
struct Rotation {
    count: usize,
    longest: usize,
}

impl Rotation {
    /// Which call takes out the first message: before it, the queue is opened, and its number goes into all later calls.
    fn taken(self) -> usize {
        1 + (2 * self.count + 1).div_ceil(PIECES)
    }

    /// Which call puts the first one back: before it, lengths and priorities are copied.
    fn put(self) -> usize {
        self.taken() + self.count + (2 * self.count).div_ceil(PIECES)
    }

    fn calls(self, seen: &Seen, process: u64) -> Vec<Call> {
        let (taken, put) = (self.taken(), self.put());
        let mut calls = vec![open(seen)];
        let users = (taken..taken + self.count).chain(put..=put + self.count);
        calls.extend(copies(process, users.map(|call| (Place::Arg(call, 0), Place::Result(0)))));
        let take = || [UNKNOWN, Arg::Out(self.longest), Arg::Int(self.longest as u64), Arg::Out(8), past()];
        calls.extend((0..self.count).map(|_| Call::new(Sys::MqTimedreceive, take())));
        let about = |n: usize| {
            let length = (Place::Arg(put + n, 2), Place::Result(taken + n));
            [length, (Place::Arg(put + n, 3), Place::Out(taken + n, 1))]
        };
        calls.extend(copies(process, (0..self.count).flat_map(about)));
        let back = |n: usize| [UNKNOWN, Arg::At(Place::Out(taken + n, 0)), UNKNOWN, UNKNOWN, past()];
        calls.extend((0..self.count).map(|n| Call::new(Sys::MqTimedsend, back(n))));
        calls.push(Call::new(Sys::Close, [UNKNOWN]));
        calls
    }

    /// What was taken out. What could not be put back is put back now: there was no memory for it, or somebody came between.
    fn read(self, seen: &Seen, answers: &[Answer], from: &Capturing<'_>) -> Result<Vec<Waiting>, Trouble> {
        let (mut all, mut left) = (Vec::new(), Vec::new());
        for (taken, put) in answers[self.taken()..][..self.count].iter().zip(&answers[self.put()..]) {
            let Ok(len) = taken.result else { continue };
            let priority = taken.out[1].first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
            let message = Waiting { priority, text: Blob(taken.out[0][..len as usize].to_vec()) };
            if put.result.is_err() {
                left.push(message.clone());
            }
            all.push(message);
        }
        put_back(seen, &left, from)?;
        if all.len() == self.count {
            return Ok(all);
        }
        let why = format!("{} messages waited in it, and only {} could be read", self.count, all.len());
        Err(refused(seen, why, "let the program receive them first"))
    }
}

/// A time that has come: no call waits.
fn past() -> Arg {
    Arg::Bytes(vec![0; 16])
}

/// Whether the kernel copies memory for the program: asked for where nothing depends on it.
fn may_copy(seen: &Seen, process: u64, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let copy = copies(process, std::iter::once((Place::Out(0, 0), Place::Result(0)))).remove(0);
    Ok(from.probe.calls(&[mqueue::asks_attributes(seen), copy])?[1].result == Ok(8))
}

/// A number of its own for both ways, whatever the program has it open for.
fn open(seen: &Seen) -> Call {
    if seen.flags() & flags::ACCMODE == flags::RDWR {
        return Call::new(Sys::Fcntl, [Arg::Int(seen.fd.into()), Arg::Int(F_DUPFD_CLOEXEC), Arg::Int(0)]);
    }
    let link = format!("/proc/self/fd/{}\0", seen.fd).into_bytes();
    let open_flags = u64::from(flags::RDWR | flags::NONBLOCK | flags::CLOEXEC);
    Call::new(Sys::Openat, [Arg::Int(AT_FDCWD), Arg::Bytes(link), Arg::Int(open_flags), Arg::Int(0)])
}

/// Eight bytes each, from one place to another. A process may always read its own memory so (process_vm_readv(2)).
fn copies(process: u64, all: impl Iterator<Item = (Place, Place)>) -> Vec<Call> {
    let all: Vec<_> = all.collect();
    let copy = |some: &[(Place, Place)]| {
        let side =
            |which: fn(&(Place, Place)) -> Place| Arg::Pieces(some.iter().map(|pair| (which(pair), 8)).collect());
        let count = Arg::Int(some.len() as u64);
        let args = [Arg::Int(process), side(|p| p.0), count.clone(), side(|p| p.1), count, Arg::Int(0)];
        Call::new(Sys::ProcessVmReadv, args)
    };
    all.chunks(PIECES).map(copy).collect()
}

/// One by one, as often as it takes.
fn put_back(seen: &Seen, left: &[Waiting], from: &Capturing<'_>) -> Result<(), Trouble> {
    const TRIES: usize = 100;
    let fault = |errno: Errno, n: usize| {
        let what = format!("mq_timedsend of message {n} of {}, which is lost to the program", left.len());
        Fault::new(what, seen.title(), errno)
    };
    for (n, message) in left.iter().enumerate() {
        let text = Arg::Bytes(message.text.0.clone());
        let (len, priority) = (Arg::Int(message.text.0.len() as u64), Arg::Int(message.priority.into()));
        let put =
            |fd: u64| Call::new(Sys::MqTimedsend, [Arg::Int(fd), text.clone(), len.clone(), priority.clone(), past()]);
        let mut last = Errno::EAGAIN;
        let done = (0..TRIES).any(|_| {
            let opened = from.probe.calls(&[open(seen)]).ok().and_then(|a| a[0].result.ok());
            let Some(fd) = opened else { return false };
            let answers = from.probe.calls(&[put(fd), Call::new(Sys::Close, [Arg::Int(fd)])]);
            let result = answers.map_or(Err(Errno::EIO), |a| a[0].result);
            last = result.err().unwrap_or(last);
            result.is_ok()
        });
        if !done {
            return Err(fault(last, n + 1).into());
        }
    }
    Ok(())
}
