//! POSIX message queues.

use crate::ipc::write_down;
use crate::kin;
use crate::life::Living;
use crate::sys::{self, Outcome, must, pattern, same};
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Priority and text.
type Message = (u32, Vec<u8>);

const LIMITS: (i64, i64) = (6, 3000);

/// One of ours, open.
#[derive(Clone, Copy)]
struct Queue(i32);

impl Queue {
    fn name(number: u32) -> CString {
        CString::new(format!("/specimen-{}-{number}", std::process::id())).expect("no NUL in a name of ours")
    }

    fn open(name: &CString, flags: i32) -> Result<Queue, String> {
        // SAFETY: zeroes are a value of the type.
        let mut attr: libc::mq_attr = unsafe { std::mem::zeroed() };
        (attr.mq_maxmsg, attr.mq_msgsize) = LIMITS;
        // SAFETY: the name and the structure live as long as the call.
        let fd = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw const attr) };
        must("mq_open", fd).map(|fd| Queue(fd as i32))
    }

    fn make(number: u32, flags: i32) -> Result<Queue, String> {
        let name = Queue::name(number);
        write_down("queue", name.to_str().expect("made of text"))?;
        Queue::open(&name, flags | libc::O_CREAT | libc::O_EXCL)
    }

    fn unlink(number: u32) -> Outcome {
        // SAFETY: the name lives as long as the call.
        must("mq_unlink", unsafe { libc::mq_unlink(Queue::name(number).as_ptr()) }).map(drop)
    }

    fn send(self, priority: u32, text: &[u8]) -> Outcome {
        // SAFETY: the text is as long as it says.
        must("mq_send", unsafe { libc::mq_send(self.0, text.as_ptr().cast(), text.len(), priority) }).map(drop)
    }

    fn receive(self) -> Result<Message, String> {
        let (mut text, mut priority) = (vec![0u8; LIMITS.1 as usize], 0);
        // SAFETY: there is room for the longest message.
        let len = unsafe { libc::mq_receive(self.0, text.as_mut_ptr().cast(), text.len(), &raw mut priority) };
        text.truncate(must("mq_receive", len as i64)? as usize);
        Ok((priority, text))
    }

    /// Flags, limits and how many wait; mode.
    fn told(self) -> Result<([i64; 4], u32), String> {
        // SAFETY: zeroes are values of these types.
        let (mut attr, mut stat): (libc::mq_attr, libc::stat) = unsafe { std::mem::zeroed() };
        // SAFETY: room for the structures.
        unsafe {
            must("mq_getattr", libc::mq_getattr(self.0, &raw mut attr))?;
            must("fstat", libc::fstat(self.0, &raw mut stat))?;
        }
        Ok(([attr.mq_flags, attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs], stat.st_mode))
    }

    fn notify(self, how: i32, signal: i32) -> Result<i64, String> {
        // SAFETY: zeroes are a value of the type.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        (event.sigev_notify, event.sigev_signo) = (how, signal);
        // SAFETY: the structure lives as long as the call, which is not the library's, so that a thread is none.
        must("mq_notify", unsafe { libc::syscall(libc::SYS_mq_notify, self.0, &raw const event) })
    }

    /// What waits, and that it waits again afterwards.
    fn holds(self, through: Queue, expected: &[Message]) -> Outcome {
        let (limits, _) = self.told()?;
        same("how many wait", &(expected.len() as i64), &limits[3])?;
        let all = expected.iter().map(|_| self.receive()).collect::<Result<Vec<_>, _>>()?;
        all.iter().try_for_each(|(priority, text)| through.send(*priority, text))?;
        same("what waits", &expected.to_vec(), &all)
    }
}

fn mixed() -> Vec<Message> {
    vec![
        (31999, b"urgent".to_vec()),
        (7, pattern(1, 3000)),
        (7, Vec::new()),
        (7, b"third".to_vec()),
        (0, b"last".to_vec()),
    ]
}

fn fill(queue: Queue) -> Outcome {
    // The order in which they come counts only among those of one priority.
    [4, 1, 2, 0, 3].into_iter().map(|n| mixed()[n].clone()).try_for_each(|(priority, text)| queue.send(priority, &text))
}

/// Removes a queue that was written down.
pub(crate) fn forget(name: &str) {
    let name = CString::new(name).expect("a name of ours");
    // SAFETY: the name lives as long as the call.
    unsafe { libc::mq_unlink(name.as_ptr()) };
}

/// One with a name, open in three ways, and an empty one that others may read.
pub(crate) fn named(_: &[String]) -> Result<Living, String> {
    let both = Queue::make(0, libc::O_RDWR)?;
    let reads = Queue::open(&Queue::name(0), libc::O_RDONLY | libc::O_NONBLOCK)?;
    let writes = Queue::open(&Queue::name(0), libc::O_WRONLY)?;
    let empty = Queue::make(1, libc::O_RDONLY)?;
    // SAFETY: takes integers.
    must("fchmod", unsafe { libc::fchmod(empty.0, 0o640) })?;
    fill(writes)?;
    let told = move || [both, reads, writes, empty].map(Queue::told).into_iter().collect::<Result<Vec<_>, _>>();
    let before = told()?;
    Living::reads(move |_| {
        same("what is told of them", &before, &told()?)?;
        reads.holds(writes, &mixed())?;
        let again = Queue::open(&Queue::name(0), libc::O_RDWR)?;
        let found = again.holds(again, &mixed());
        sys::close(again.0);
        found
    })
}

/// One without a name, of which only one end is open, and another one that is shared with a child.
pub(crate) fn nameless(_: &[String]) -> Result<Living, String> {
    let writes = Queue::make(0, libc::O_WRONLY)?;
    Queue::unlink(0)?;
    fill(writes)?;
    let shared = Queue::make(1, libc::O_RDWR)?;
    Queue::unlink(1)?;
    shared.send(3, b"for a child")?;
    let child = kin::child(move || {
        Ok(move |question: &str| match question {
            "receive" => Ok(String::from_utf8_lossy(&shared.receive()?.1).into_owned()),
            _ => shared.send(3, question.as_bytes()).map(|()| String::new()),
        })
    })?;
    Living::reads(move |_| {
        let link = sys::proc_text(&format!("fd/{}", writes.0));
        same("who may read it", &true, &link.is_ok())?;
        let reads = Queue(sys::open(&format!("/proc/self/fd/{}", writes.0), libc::O_RDONLY)?);
        let found = reads.holds(writes, &mixed());
        sys::close(reads.0);
        found?;
        child.says("receive", "for a child")?;
        child.says("from a child", "")?;
        same("what the child sent", &(3, b"from a child".to_vec()), &shared.receive()?)?;
        shared.send(3, b"for a child")
    })
}

/// Who waits for a message, and who waits for room.
pub(crate) fn waits(_: &[String]) -> Result<Living, String> {
    let (empty, full) = (Queue::make(0, libc::O_RDWR)?, Queue::make(1, libc::O_RDWR)?);
    (0..2).try_for_each(Queue::unlink)?;
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        while empty.receive().is_ok_and(|m| m == (9, b"heard".to_vec())) {
            count.fetch_add(1, SeqCst);
        }
    });
    let numbered = |n: u32| (1, n.to_ne_bytes().to_vec());
    std::thread::spawn(move || (0..).try_for_each(|n: u32| full.send(numbered(n).0, &numbered(n).1)));
    sys::soon("it is full", || full.told().is_ok_and(|(limits, _)| limits[3] == LIMITS.0))?;
    sys::pause_for(20);
    let (mut rounds, mut next) = (0, 0);
    Living::reads(move |_| {
        same("what was heard", &rounds, &heard.load(SeqCst))?;
        rounds += 1;
        empty.send(9, b"heard")?;
        sys::soon("it hears", || heard.load(SeqCst) == rounds)?;
        for _ in 0..LIMITS.0 + 2 {
            same("the next message", &numbered(next), &full.receive()?)?;
            next += 1;
        }
        sys::soon("it is full again", || full.told().is_ok_and(|(limits, _)| limits[3] == LIMITS.0))
    })
}

static RUNG: AtomicU32 = AtomicU32::new(0);

extern "C" fn ring(_: i32) {
    RUNG.fetch_add(1, SeqCst);
}

/// SIGUSR1 has a handler, with or without the value of the signal.
fn handle(flags: i32) -> Outcome {
    // SAFETY: zeroes are a value of the type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (ring as *const () as usize, libc::SA_RESTART | flags);
    // SAFETY: the handler counts, and does nothing else; its further arguments are not looked at.
    must("sigaction", unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// A signal tells of a message; of another queue nobody is told, but has said so.
pub(crate) fn notices(_: &[String]) -> Result<Living, String> {
    handle(0)?;
    let (told, silent) = (Queue::make(0, libc::O_RDWR)?, Queue::make(1, libc::O_RDWR)?);
    told.notify(libc::SIGEV_SIGNAL, libc::SIGUSR1)?;
    silent.notify(libc::SIGEV_NONE, 0)?;
    let mut rounds = 0;
    Living::reads(move |_| {
        same("signals until now", &rounds, &RUNG.load(SeqCst))?;
        rounds += 1;
        let busy = |queue: Queue| queue.notify(libc::SIGEV_NONE, 0).is_err();
        same("somebody is told", &[true; 2], &[told, silent].map(busy))?;
        told.send(1, b"ring")?;
        sys::soon("the signal", || RUNG.load(SeqCst) == rounds)?;
        told.receive()?;
        told.notify(libc::SIGEV_SIGNAL, libc::SIGUSR1).map(drop)
    })
}

/// What is refused: the way in which somebody is told, by the first argument.
pub(crate) fn notice_refused(arguments: &[String]) -> Result<Living, String> {
    let queue = Queue::make(0, libc::O_RDWR)?;
    Queue::unlink(0)?;
    let how = arguments.first().map_or("", String::as_str);
    handle(if how == "value" { libc::SA_SIGINFO } else { 0 })?;
    if how == "waiting" {
        queue.send(1, b"waits")?;
    }
    queue.notify(libc::SIGEV_SIGNAL, libc::SIGUSR1)?;
    let waiting = i64::from(how == "waiting");
    Living::reads(move |_| {
        same("how many wait", &waiting, &queue.told()?.0[3])?;
        same("signals", &0, &RUNG.load(SeqCst))
    })
}

/// More than goes through an envoy at once.
pub(crate) fn large(_: &[String]) -> Result<Living, String> {
    let name = Queue::name(0);
    // SAFETY: zeroes are a value of the type.
    let mut attr: libc::mq_attr = unsafe { std::mem::zeroed() };
    (attr.mq_maxmsg, attr.mq_msgsize) = (10, 8192);
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    // SAFETY: the name and the structure live as long as the calls.
    let queue = unsafe {
        let queue = must("mq_open", libc::mq_open(name.as_ptr(), flags, 0o600, &raw const attr))?;
        must("mq_unlink", libc::mq_unlink(name.as_ptr()))?;
        Queue(queue as i32)
    };
    let all = (0..9u32).map(|n| pattern(n.into(), 8192)).collect::<Vec<_>>();
    all.iter().try_for_each(|text| queue.send(5, text))?;
    Living::reads(move |_| {
        for text in &all {
            let (mut seen, mut priority) = (vec![0u8; 8192], 0);
            // SAFETY: there is room for the longest message.
            let len = unsafe { libc::mq_receive(queue.0, seen.as_mut_ptr().cast(), seen.len(), &raw mut priority) };
            must("mq_receive", len as i64)?;
            sys::same_bytes("a message", text, &seen)?;
            queue.send(5, text)?;
        }
        Ok(())
    })
}
