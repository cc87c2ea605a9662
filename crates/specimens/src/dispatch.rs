//! Syscall user dispatch: calls that come back to the thread as SIGSYS, whose handler gives an answer that no kernel gives.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc;

/// linux/prctl.h.
const SET_DISPATCH: i32 = 59;
const ON: u64 = 1;
const INCLUSIVE_ON: u64 = 2;
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;
/// A call that there is not; the kernel answers ENOSYS.
const NO_CALL: u64 = 5000;
const UNKNOWN: u64 = -(libc::ENOSYS as i64) as u64;

static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Answers with the number of the call and one. From its first instruction on it may make calls itself, and return.
extern "C" fn answer(_: i32, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    SELECTOR.store(ALLOW, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel gives a handler with SA_SIGINFO the context that it returns to; rax has the number of the call.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RAX as usize] += 1 };
}

fn handle() -> Outcome {
    // SAFETY: zeroes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = answer as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action lives as long as the call, its handler for ever.
    must("sigaction", unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Makes calls, in a page of its own below all other code: `mov rax, rdi; syscall; ret`.
#[derive(Clone, Copy)]
struct Gate(extern "C" fn(u64) -> u64, u64);

const PAGE: u64 = 4096;
const CODE: [u8; 6] = [0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3];

impl Gate {
    fn new() -> Result<Gate, String> {
        let low = std::ptr::without_provenance_mut(0x1000_0000);
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: nothing is replaced there.
        let page = unsafe { libc::mmap(low, PAGE as usize, rights, kind | libc::MAP_FIXED_NOREPLACE, -1, 0) };
        if page != low {
            return Err("there is no room for a page of code".into());
        }
        // SAFETY: the page is as long as that, and nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.cast(), CODE.len()) };
        // SAFETY: it is our page.
        must("mprotect", unsafe { libc::mprotect(page, PAGE as usize, libc::PROT_READ | libc::PROT_EXEC) })?;
        // SAFETY: what was written there is a function of that form, and stays.
        let call = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(u64) -> u64>(page) };
        Ok(Gate(call, page.addr() as u64))
    }

    fn call(self) -> u64 {
        (self.0)(NO_CALL)
    }
}

/// Where the selector is.
fn selector() -> u64 {
    SELECTOR.as_ptr().addr() as u64
}

/// All calls but those from the page are let through.
fn all_but(gate: Gate) -> Outcome {
    sys::prctl(SET_DISPATCH, [ON, gate.1 + PAGE, 1 << 47, 0]).map(drop)
}

/// Calls from the page come back, by a kernel that can be told so (6.17).
fn only(gate: Gate) -> Outcome {
    sys::prctl(SET_DISPATCH, [INCLUSIVE_ON, gate.1, PAGE, 0]).map(drop).or_else(|_| all_but(gate))
}

/// A thread that answers what the call gives there.
type Worker = (mpsc::Sender<()>, mpsc::Receiver<Result<u64, String>>);

fn worker(set_up: impl FnOnce() -> Outcome + Send + 'static, call: impl Fn() -> u64 + Send + 'static) -> Worker {
    let ((ask, asked), (tell, hear)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        let _ = tell.send(set_up().map(|()| call()));
        while asked.recv().is_ok() {
            let _ = tell.send(Ok(call()));
        }
    });
    (ask, hear)
}

fn heard((_, hear): &Worker) -> Result<u64, String> {
    hear.recv_timeout(std::time::Duration::from_secs(3)).map_err(|e| e.to_string())?
}

/// The first thread and one more have ranges, one a selector only, one nothing.
pub(crate) fn threads(_: &[String]) -> Result<Living, String> {
    handle()?;
    let gate = Gate::new()?;
    let blocked = move || {
        SELECTOR.store(BLOCK, Ordering::SeqCst);
        gate.call()
    };
    let by_selector = || sys::prctl(SET_DISPATCH, [ON, 0, 0, selector()]).map(drop);
    let workers = [
        worker(move || only(gate), move || gate.call()),
        worker(by_selector, blocked),
        worker(|| Ok(()), move || gate.call()),
    ];
    all_but(gate)?;
    let expected = [NO_CALL + 1, NO_CALL + 1, UNKNOWN];
    for (worker, expected) in workers.iter().zip(&expected) {
        same("an answer at first", expected, &heard(worker)?)?;
    }
    Living::reads(move |_| {
        let before = COUNT.load(Ordering::SeqCst);
        same("an answer in the first thread", &(NO_CALL + 1), &gate.call())?;
        for (worker, expected) in workers.iter().zip(&expected) {
            worker.0.send(()).map_err(|e| e.to_string())?;
            same("an answer in another one", expected, &heard(worker)?)?;
        }
        same("how many calls came back", &3, &(COUNT.load(Ordering::SeqCst) - before))
    })
}

/// Makes nothing but calls that come back: it is mostly in one, or in its handler, or about to make one.
pub(crate) fn busy(_: &[String]) -> Result<Living, String> {
    handle()?;
    let gate = Gate::new()?;
    sys::prctl(SET_DISPATCH, [ON, 0, 0, selector()])?;
    let mut made = 0u64;
    let act = move || {
        for _ in 0..1000 {
            SELECTOR.store(BLOCK, Ordering::SeqCst);
            same("an answer", &(NO_CALL + 1), &gate.call())?;
        }
        made += 1000;
        same("how many calls came back", &made, &COUNT.load(Ordering::SeqCst))
    };
    Living::busy(act, move |_| {
        SELECTOR.store(BLOCK, Ordering::SeqCst);
        same("the last answer", &(NO_CALL + 1), &gate.call())
    })
}
