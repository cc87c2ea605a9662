//! Families: who is whose child, and what a parent hears of the ends of its children.

use crate::kin::{self, Kin};
use crate::life::Living;
use crate::signals;
use crate::sys::{self, Outcome, must, same};

/// Children and grandchildren: everybody has his id, his parent, his group.
pub(crate) fn generations(_: &[String]) -> Result<Living, String> {
    let elder = kin::plain()?;
    let younger = kin::child(|| {
        Ok(kin::parent_of(vec![kin::plain()?, kin::child(|| Ok(kin::parent_of(vec![kin::plain()?])))?]))
    })?;
    let all = move || -> Result<Vec<String>, String> {
        let of_younger =
            ["below 0 place", "below 1 place", "below 1 below 0 place"].map(|question| younger.ask(question));
        [elder.place(), younger.place()].into_iter().chain(of_younger).collect()
    };
    let expected = all()?;
    Living::reads(move |_| same("ids, parents, groups, sessions", &expected, &all()?))
}

/// The areas of a grandchild are like none of its parent's, and so there are none that it has by birth; those of its parent are like ours.
pub(crate) fn apart(_: &[String]) -> Result<Living, String> {
    let child = kin::child(|| {
        let below = kin::child(|| {
            for (start, end) in areas()? {
                // SAFETY: it only says what is not to be dumped; of areas of the kernel it fails.
                unsafe {
                    libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTDUMP)
                };
            }
            Ok(
                |question: &str| {
                    if question == "areas" { Ok(format!("{:x?}", of_files()?)) } else { kin::obey(question) }
                },
            )
        })?;
        Ok(kin::parent_of(vec![below]))
    })?;
    let expected = child.ask("below 0 areas")?;
    Living::reads(move |_| child.says("below 0 areas", &expected))
}

/// Where areas begin and end.
fn areas() -> Result<Vec<(usize, usize)>, String> {
    parts(|_| true)
}

fn of_files() -> Result<Vec<(usize, usize)>, String> {
    parts(|line| line.contains(" /"))
}

fn parts(which: impl Fn(&str) -> bool) -> Result<Vec<(usize, usize)>, String> {
    let number = |text: &str| usize::from_str_radix(text, 16).map_err(|e| e.to_string());
    let part = |line: &str| {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).ok_or("no range")?;
        Ok::<_, String>((number(start)?, number(end)?))
    };
    sys::proc_text("maps")?.lines().filter(|line| which(line)).map(part).collect()
}

/// A child waits for one of its own in wait4(2), again and again: the grandchild ends when it is told to.
pub(crate) fn waiting(_: &[String]) -> Result<Living, String> {
    let [questions, answers] = [kin::pipe()?, kin::pipe()?];
    if kin::fork()? == 0 {
        loop {
            // Who fails here says nothing, and is found out by that.
            let Ok(status) = one_end(questions[0]) else { kin::exit(1) };
            let _ = sys::write(answers[1], &status.to_ne_bytes());
        }
    }
    sys::pause_for(30);
    let mut round = 20u8;
    Living::reads(move |_| {
        round = round % 200 + 1;
        sys::write(questions[1], &[round])?;
        sys::soon("an answer", || sys::readable(answers[0]))?;
        same_status("the grandchild's", i32::from(round) << 8, &sys::read_up_to(answers[0], 4)?)?;
        sys::write(questions[1], &[0])?;
        sys::soon("an answer", || sys::readable(answers[0]))?;
        same_status("the grandchild's, killed", libc::SIGKILL, &sys::read_up_to(answers[0], 4)?)
    })
}

fn same_status(what: &str, expected: i32, seen: &[u8]) -> Outcome {
    same(&format!("{what} status"), &expected.to_ne_bytes().to_vec(), &seen.to_vec())
}

/// A child that exits as it is told, or is killed at 0; gives its status.
fn one_end(orders: i32) -> Result<i32, String> {
    let pid = kin::fork()?;
    if pid == 0 {
        match sys::read_up_to(orders, 1).as_deref() {
            Ok([0]) => drop(kin::signal(std::process::id() as i32, libc::SIGKILL)),
            Ok([code]) => kin::exit(i32::from(*code)),
            _ => kin::exit(99),
        }
    }
    kin::wait(pid, 0).map(|(_, status)| status)
}

/// Children that end after the thaw: each status is told, and SIGCHLD comes once for each.
pub(crate) fn ends(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGCHLD)?;
    let words = ["exit 0", "exit 7", "die 9", "die 15"];
    let statuses = [0, 7 << 8, 9, 15];
    let children = words.iter().map(|_| kin::plain()).collect::<Result<Vec<_>, _>>()?;
    let mut left: Vec<(Kin, &str, i32)> =
        children.into_iter().zip(words).zip(statuses).map(|((kin, word), status)| (kin, word, status)).collect();
    Living::reads(move |_| {
        let before = 4 - left.len();
        same("SIGCHLD came", &before, &signals::count(libc::SIGCHLD))?;
        for (n, (kin, word, status)) in left.drain(..).enumerate() {
            kin.tell(word)?;
            same(word, &(kin.pid, status), &kin::wait(kin.pid, 0)?)?;
            sys::soon("SIGCHLD", || signals::count(libc::SIGCHLD) == n + 1)?;
        }
        kin::childless()
    })
}

/// Children that have ended when we say ready.
struct Dead {
    pid: i32,
    status: i32,
}

/// One child that ends in this way, and is not waited for.
fn dead(word: &str, status: i32) -> Result<Dead, String> {
    let child = kin::plain()?;
    child.tell(word)?;
    gone(child.pid)?;
    Ok(Dead { pid: child.pid, status })
}

/// Waits until it has ended, and leaves it as it is (waitid(2), WNOWAIT).
fn gone(pid: i32) -> Outcome {
    // SAFETY: zero is a value of the type.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the kernel writes one siginfo.
    let got = unsafe { libc::waitid(libc::P_PID, pid as u32, &raw mut info, options) };
    must("waitid", got).map(drop)
}

fn four_dead() -> Result<Vec<Dead>, String> {
    [("exit 0", 0), ("exit 3", 3 << 8), ("die 9", 9), ("die 15", 15)]
        .into_iter()
        .map(|(word, status)| dead(word, status))
        .collect()
}

/// What waits: each by its id, after a look that takes nothing; no SIGCHLD tells of them once more.
pub(crate) fn zombies(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGCHLD)?;
    let mut all = four_dead()?;
    let heard = signals::count(libc::SIGCHLD);
    Living::reads(move |_| {
        sys::pause_for(20);
        same("SIGCHLD came", &heard, &signals::count(libc::SIGCHLD))?;
        for child in all.drain(..) {
            gone(child.pid)?;
            same("the end", &(child.pid, child.status), &kin::wait(child.pid, 0)?)?;
        }
        kin::childless()
    })
}

/// The same, by waiting for any child.
pub(crate) fn zombies_any(_: &[String]) -> Result<Living, String> {
    let mut all: Vec<(i32, i32)> = four_dead()?.into_iter().map(|child| (child.pid, child.status)).collect();
    Living::reads(move |_| {
        let mut seen = all.iter().map(|_| kin::wait(-1, libc::WNOHANG)).collect::<Result<Vec<_>, _>>()?;
        seen.sort_unstable();
        all.sort_unstable();
        same("the ends", &std::mem::take(&mut all), &seen)?;
        kin::childless()
    })
}

/// SIGCHLD is blocked and waits, with what it tells of the child.
pub(crate) fn zombie_told(_: &[String]) -> Result<Living, String> {
    signals::block(&[libc::SIGCHLD])?;
    let mut child = Some(dead("exit 5", 5 << 8)?);
    Living::reads(move |_| {
        let Some(child) = child.take() else { return same("a signal", &Err(libc::EAGAIN), &taken()) };
        same("the signal", &Ok([libc::SIGCHLD, libc::CLD_EXITED, child.pid, 5]), &taken())?;
        same("another", &Err(libc::EAGAIN), &taken())?;
        same("the end", &(child.pid, child.status), &kin::wait(child.pid, 0)?)
    })
}

/// A pending SIGCHLD: its number, code, process and status.
pub(crate) fn taken() -> Result<[i32; 4], i32> {
    let (set, now) = (signals::set_of(&[libc::SIGCHLD]), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: zero is a value of the type.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: all of them live as long as the call.
    match unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const now) } {
        -1 => Err(sys::errno()),
        // SAFETY: a SIGCHLD has these fields.
        signal => Ok(unsafe { [signal, info.si_code, info.si_pid(), info.si_status()] }),
    }
}

/// The parent of a child that has ended is a child itself, and heard of it.
pub(crate) fn zombie_below(_: &[String]) -> Result<Living, String> {
    let child = kin::child(|| {
        signals::catch(libc::SIGCHLD)?;
        let below = dead("exit 9", 9 << 8)?;
        Ok(move |question: &str| match question {
            "wait" => kin::wait(-1, libc::WNOHANG).map(|(pid, status)| format!("{} {status}", pid == below.pid)),
            _ => kin::obey(question),
        })
    })?;
    let mut waited = false;
    Living::reads(move |_| {
        child.says("count 17", "1")?;
        if !std::mem::replace(&mut waited, true) {
            child.says("wait", "true 2304")?;
        }
        same("then", &true, &child.ask("wait").is_err_and(|why| why.contains("No child")))
    })
}

/// Who ignores SIGCHLD has no children to wait for, and who does not want to is told nothing.
pub(crate) fn nobody_waits(_: &[String]) -> Result<Living, String> {
    // SAFETY: no handler is named.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let child = kin::plain()?;
    let mut ended = false;
    Living::reads(move |_| {
        if !std::mem::replace(&mut ended, true) {
            child.place()?;
            child.tell("exit 1")?;
        }
        sys::soon("the end of the child", || kin::childless().is_ok())
    })
}

/// Two children that outlive us by some seconds, unless somebody ends them.
pub(crate) fn lasting(_: &[String]) -> Result<Living, String> {
    let (ends, said) = (kin::pipe()?, kin::pipe()?);
    let child = || match kin::lasting_fork()? {
        0 => {
            [0, 1, 2, ends[1]].into_iter().for_each(sys::close);
            // Our end is that of the session.
            // SAFETY: no handler is named.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
            let _ = sys::write(said[1], b"x");
            // The end of file: we have ended.
            while sys::read(ends[0], &mut [0]).is_ok_and(|count| count > 0) {}
            sys::pause_for(4000);
            kin::exit(0)
        }
        pid => {
            sys::read(said[0], &mut [0]).map_err(|errno| format!("read: errno {errno}"))?;
            Ok::<_, String>(pid)
        }
    };
    let pids = [child()?, child()?];
    Living::reads(move |_| pids.iter().try_for_each(|pid| sys::soon("its sleep", || state(*pid) == Some('S'))))
}

/// The state of a process, as ps(1) shows it.
pub(crate) fn state(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}
