//! Threads: each with a name, a mask, a word of thread-local storage, waiting in its own way.

use crate::life::Living;
use crate::signals;
use crate::sys::{self, Outcome, same};
use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, mpsc};

thread_local! {
    static MARK: Cell<u64> = const { Cell::new(0) };
}

/// What a thread tells of itself.
type Report = Result<String, String>;

struct Asked {
    round: Mutex<u64>,
    changed: Condvar,
}

pub(crate) fn start(arguments: &[String]) -> Result<Living, String> {
    let asked = Arc::new(Asked { round: Mutex::new(0), changed: Condvar::new() });
    let (tell, hear) = mpsc::channel();
    for number in 0..sys::number(arguments, 3) as u64 {
        let (asked, tell) = (Arc::clone(&asked), tell.clone());
        let name = format!("worker {number}");
        sys::fine("thread", std::thread::Builder::new().name(name).spawn(move || work(number, &asked, &tell)))?;
    }
    let expected = reports(&hear, sys::number(arguments, 3))?;
    Living::reads(move |_| {
        *asked.round.lock().expect("no thread panics") += 1;
        asked.changed.notify_all();
        same("what the threads tell", &expected, &reports(&hear, expected.len())?)
    })
}

fn reports(hear: &mpsc::Receiver<Report>, count: usize) -> Result<Vec<String>, String> {
    let mut all = (0..count)
        .map(|_| hear.recv_timeout(std::time::Duration::from_secs(3)).map_err(|_| "a thread is silent".to_owned())?);
    let mut all = all.by_ref().collect::<Result<Vec<_>, _>>()?;
    all.sort();
    Ok(all)
}

fn work(number: u64, asked: &Asked, tell: &mpsc::Sender<Report>) {
    MARK.set(number + 1000);
    let set_up = signals::block(&[40 + number as i32]).and_then(|()| {
        const ADDR_NO_RANDOMIZE: u64 = 0x0004_0000;
        domain(if number % 2 == 1 { ADDR_NO_RANDOMIZE } else { 0 }).map(drop)
    });
    let mut seen = 0;
    while tell.send(set_up.clone().and_then(|()| report())).is_ok() {
        let mut round = asked.round.lock().expect("no thread panics");
        while *round == seen {
            round = asked.changed.wait(round).expect("no thread panics");
        }
        seen = *round;
    }
}

fn report() -> Report {
    const ASK: u64 = 0xffff_ffff;
    Ok(format!("{} {} {} {:x}", sys::status("Name")?, sys::status("SigBlk")?, MARK.get(), domain(ASK)?))
}

/// personality(2).
fn domain(new: u64) -> Result<i64, String> {
    // SAFETY: takes an integer.
    sys::must("personality", unsafe { libc::personality(new) })
}

/// One more thread, which waits for ever and is never asked.
pub(crate) fn second(_: &[String]) -> Result<Living, String> {
    std::thread::spawn(|| {
        loop {
            std::thread::park()
        }
    });
    Living::reads(|_| -> Outcome { Ok(()) })
}

/// One more thread, which has something of its own: `fd`, `cwd` or `net`.
pub(crate) fn apart(arguments: &[String]) -> Result<Living, String> {
    let what = arguments.first().map_or("", String::as_str);
    let flag = match what {
        "fd" => libc::CLONE_FILES,
        "cwd" => libc::CLONE_FS,
        "net" => libc::CLONE_NEWNET,
        other => return Err(format!("there is no {other}")),
    };
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: takes an integer.
        let gone = sys::must("unshare", unsafe { libc::unshare(flag) }).map(|_| ());
        while tell.send(gone.clone()).is_ok() {
            std::thread::park();
        }
    });
    hear.recv().map_err(|e| e.to_string())??;
    Living::reads(move |_| {
        // It is there to hear of it.
        let _ = &hear;
        Ok(())
    })
}
