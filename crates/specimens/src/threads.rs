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

/// Threads with working directories, roots and masks apart from their process; with `chroot` one has a root, which takes root.
pub(crate) fn places(arguments: &[String]) -> Result<Living, String> {
    sys::fine("mkdir", std::fs::create_dir_all("places"))?;
    let here = sys::fine("getcwd", std::env::current_dir())?.join("places");
    let kinds = if arguments.is_empty() { ["in", "removed", "in"] } else { ["in", "removed", "chroot"] };
    let mut workers = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let place = here.join(number.to_string());
        sys::fine("mkdir", std::fs::create_dir_all(place.join("below")))?;
        let (ask, asked) = mpsc::channel();
        let (tell, hear) = mpsc::channel();
        let at = place.clone();
        std::thread::spawn(move || {
            let set_up = set_apart(kind, &at, 0o20 + number as u32);
            _ = tell.send(set_up);
            while let Ok(path) = asked.recv() {
                _ = tell.send(goes(path));
            }
        });
        let tid = hear.recv().map_err(|e| e.to_string())??;
        workers.push((ask, hear, tid, kind, place));
    }
    let shown = |tid: i64| {
        let task = format!("/proc/self/task/{tid}");
        let link = |name: &str| sys::fine(name, std::fs::read_link(format!("{task}/{name}")));
        let status = sys::fine("status", std::fs::read_to_string(format!("{task}/status")))?;
        let mask = status.lines().find(|line| line.starts_with("Umask")).unwrap_or_default().to_owned();
        Ok::<_, String>(format!("{:?} {:?} {mask}", link("cwd")?, link("root")?))
    };
    let all = move |workers: &[Worker]| workers.iter().map(|w| shown(w.2)).collect::<Result<Vec<_>, _>>();
    let own = std::process::id().into();
    let (first, expected) = (shown(own)?, all(&workers)?);
    Living::reads(move |_| {
        same("what is shown of the threads", &expected, &all(&workers)?)?;
        for (ask, hear, tid, _, place) in workers.iter().filter(|w| w.3 != "removed") {
            let goes = |to: &'static str| {
                ask.send(to).map_err(|e| e.to_string())?;
                hear.recv().map_err(|e| e.to_string())?
            };
            goes("below")?;
            let told = sys::fine("cwd", std::fs::read_link(format!("/proc/self/task/{tid}/cwd")))?;
            same("where a thread went", &place.join("below"), &told)?;
            goes("..")?;
        }
        same("what is shown of the first", &first, &shown(own)?)
    })
}

/// Where to ask, where it answers, its id, what it is, its directory.
type Worker = (mpsc::Sender<&'static str>, mpsc::Receiver<Result<i64, String>>, i64, &'static str, std::path::PathBuf);

fn goes(to: &str) -> Result<i64, String> {
    sys::fine("chdir", std::env::set_current_dir(to)).map(|()| 0)
}

fn set_apart(kind: &str, place: &std::path::Path, mask: u32) -> Result<i64, String> {
    // SAFETY: takes an integer.
    sys::must("unshare", unsafe { libc::unshare(libc::CLONE_FS) })?;
    // SAFETY: takes an integer.
    unsafe { libc::umask(mask) };
    sys::fine("chdir", std::env::set_current_dir(place))?;
    if kind == "removed" {
        sys::fine("rmdir", std::fs::remove_dir_all(place))?;
    }
    if kind == "chroot" {
        sys::fine("chroot", std::os::unix::fs::chroot("."))?;
    }
    Ok(sys::tid().into())
}

/// One more thread, which has something of its own: `fd`, `net`, or `cwd`, in common with a third one.
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
        if flag == libc::CLONE_FS {
            std::thread::spawn(std::thread::park);
        }
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
