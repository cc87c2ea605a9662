//! Children that are stopped, and what their parents have heard of that.

use crate::family::{state, taken};
use crate::kin::{self, Kin};
use crate::life::Living;
use crate::mem::{Area, PAGE, READ_WRITE};
use crate::signals;
use crate::sys::{self, Outcome, same};

/// Any child that has stopped, of which we have not heard yet.
fn next_stop() -> Result<(i32, i32), String> {
    kin::wait(-1, libc::WUNTRACED | libc::WNOHANG | libc::__WALL)
}

const fn status(signal: i32) -> i32 {
    signal << 8 | 0x7f
}

/// What wait(2) says of who goes on.
const GOES_ON: i32 = 0xffff;

fn is_stopped(pid: i32) -> Outcome {
    sys::soon("it stops", || state(pid) == Some('T'))
}

/// It is stopped, and we hear of it.
fn stop(pid: i32, signal: i32) -> Outcome {
    kin::signal(pid, signal)?;
    same("it stops", &(pid, status(signal)), &kin::wait(pid, libc::WUNTRACED | libc::__WALL)?)
}

fn go_on(pid: i32) -> Outcome {
    kin::signal(pid, libc::SIGCONT)?;
    same("it goes on", &(pid, GOES_ON), &kin::wait(pid, libc::WCONTINUED)?)
}

/// A child in a group of its own, so that more than SIGSTOP stops it, with further threads.
fn of_threads() -> Result<Kin, String> {
    kin::child(|| {
        // SAFETY: takes integers.
        unsafe { libc::setpgid(0, 0) };
        for _ in 0..3 {
            std::thread::spawn(|| {
                loop {
                    std::thread::park()
                }
            });
        }
        Ok(kin::obey)
    })
}

/// Of two we know it, of one of them by SIGTSTP; of the third we are still to hear. SIGCHLD came for each, and comes no more.
pub(crate) fn heard(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGCHLD)?;
    let all = [kin::plain()?, of_threads()?, kin::plain()?];
    stop(all[0].pid, libc::SIGSTOP)?;
    stop(all[1].pid, libc::SIGTSTP)?;
    kin::signal(all[2].pid, libc::SIGSTOP)?;
    is_stopped(all[2].pid)?;
    sys::soon("SIGCHLD", || signals::count(libc::SIGCHLD) == 3)?;
    Living::reads_at_first(move |first| {
        if first {
            came(3)?;
            all.iter().try_for_each(|child| is_stopped(child.pid))?;
            same("we hear of the one", &(all[2].pid, status(libc::SIGSTOP)), &next_stop()?)?;
            same("and of no other", &(0, 0), &next_stop()?)?;
            all.iter().try_for_each(|child| go_on(child.pid))?;
            stop(all[1].pid, libc::SIGTSTP)?;
            go_on(all[1].pid)?;
        }
        all.iter().try_for_each(|child| child.place().map(drop))
    })
}

/// So often SIGCHLD came, and no more often.
fn came(times: usize) -> Outcome {
    sys::pause_for(20);
    same("SIGCHLD came", &times, &signals::count(libc::SIGCHLD))
}

/// SIGCHLD is blocked and waits, of a stop that we have heard of; of another we have not.
pub(crate) fn told(_: &[String]) -> Result<Living, String> {
    signals::block(&[libc::SIGCHLD])?;
    let (known, new) = (kin::plain()?, kin::plain()?);
    stop(known.pid, libc::SIGSTOP)?;
    kin::signal(new.pid, libc::SIGSTOP)?;
    is_stopped(new.pid)?;
    Living::reads_at_first(move |first| {
        if first {
            let expected = [libc::SIGCHLD, libc::CLD_STOPPED, known.pid, libc::SIGSTOP];
            same("the signal", &Ok(expected), &taken())?;
            same("another", &Err(libc::EAGAIN), &taken())?;
            same("we hear of", &(new.pid, status(libc::SIGSTOP)), &next_stop()?)?;
            same("and of", &(0, 0), &next_stop()?)?;
            [known, new].iter().try_for_each(|child| go_on(child.pid))?;
        }
        [known, new].iter().try_for_each(|child| child.place().map(drop))
    })
}

/// Who is stopped twice over waits for no second stop, and goes on at once when it is told.
pub(crate) fn twice(_: &[String]) -> Result<Living, String> {
    signals::block(&[libc::SIGCHLD])?;
    let child = kin::plain()?;
    stop(child.pid, libc::SIGSTOP)?;
    let _ = taken();
    [libc::SIGSTOP, libc::SIGTSTP].iter().try_for_each(|signal| kin::signal(child.pid, *signal))?;
    Living::reads_at_first(move |first| {
        if first {
            same("a signal", &Err(libc::EAGAIN), &taken())?;
            same("we hear of", &(0, 0), &next_stop()?)?;
            go_on(child.pid)?;
        }
        child.place().map(drop)
    })
}

/// A parent that has heard of the stop of its child, and of another not, and is stopped itself.
pub(crate) fn below(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGCHLD)?;
    let parent = kin::child(|| {
        signals::catch(libc::SIGCHLD)?;
        let (known, new) = (of_threads()?, kin::plain()?);
        stop(known.pid, libc::SIGTTIN)?;
        kin::signal(new.pid, libc::SIGSTOP)?;
        is_stopped(new.pid)?;
        sys::soon("SIGCHLD", || signals::count(libc::SIGCHLD) == 2)?;
        Ok(move |question: &str| match question {
            "stop" => next_stop().map(|(pid, status)| format!("{} {status}", pid == new.pid)),
            "go on" => [known, new].iter().try_for_each(|child| go_on(child.pid)).map(|()| "so".into()),
            _ => kin::obey(question),
        })
    })?;
    stop(parent.pid, libc::SIGSTOP)?;
    sys::soon("SIGCHLD", || signals::count(libc::SIGCHLD) == 1)?;
    Living::reads_at_first(move |first| {
        if first {
            came(1)?;
            same("we hear of", &(0, 0), &next_stop()?)?;
            go_on(parent.pid)?;
            parent.says("count 17", "2")?;
            parent.says("stop", "true 4991")?;
            parent.says("stop", "false 0")?;
            parent.says("go on", "so")?;
        }
        parent.place().map(drop)
    })
}

/// Parents that no signal tells of a stop: one ignores SIGCHLD, one wants it for ends only (SA_NOCLDSTOP). Both can wait.
pub(crate) fn silent(_: &[String]) -> Result<Living, String> {
    let parent = |set_up: fn() -> Outcome| {
        kin::child(move || {
            set_up()?;
            let child = kin::plain()?;
            kin::signal(child.pid, libc::SIGSTOP)?;
            is_stopped(child.pid)?;
            Ok(move |question: &str| match question {
                "stop" => next_stop().map(|(pid, status)| format!("{} {status}", pid == child.pid)),
                "go on" => kin::signal(child.pid, libc::SIGCONT).and_then(|()| child.place()),
                _ => kin::obey(question),
            })
        })
    };
    let all = [parent(signals::ignore_children)?, parent(signals::catch_ends)?];
    Living::reads_at_first(move |first| {
        for parent in &all {
            parent.says("stop", if first { "true 4991" } else { "false 0" })?;
            parent.says("count 17", "0")?;
            parent.ask("go on")?;
        }
        Ok(())
    })
}

/// A stopped child whose first thread has ended, one that has our memory, and one that does not end with SIGCHLD.
pub(crate) fn odd(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGCHLD)?;
    let shared = kin::clone(libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD, Box::new(|| Ok(Box::new(kin::obey))))?;
    let leaderless = kin::fork()?;
    if leaderless == 0 {
        std::thread::spawn(|| {
            // The death of a parent is told to threads (prctl(2)).
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL as u64, 0, 0, 0]);
            loop {
                std::thread::park();
            }
        });
        // SAFETY: ends this thread.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    sys::soon("its first thread ends", || state(leaderless) == Some('Z'))?;
    let other = kin::clone(libc::SIGUSR1, Box::new(|| Ok(Box::new(kin::obey))))?;
    let all = [shared.pid, leaderless, other.pid];
    all.iter().try_for_each(|pid| stop(*pid, libc::SIGSTOP))?;
    sys::soon("SIGCHLD", || signals::count(libc::SIGCHLD) == 3)?;
    Living::reads_at_first(move |first| {
        if first {
            came(3)?;
            same("we hear of", &(0, 0), &next_stop()?)?;
            for pid in all {
                kin::signal(pid, libc::SIGCONT)?;
                same("it goes on", &(pid, GOES_ON), &kin::wait(pid, libc::WCONTINUED | libc::__WALL)?)?;
            }
        }
        [shared, other].iter().try_for_each(|child| child.place().map(drop))
    })
}

/// Children that have stopped themselves, and whom nobody lets go on: none of them comes to its next instruction.
pub(crate) fn still(_: &[String]) -> Result<Living, String> {
    let ran = Area::map(PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    let mut all = Vec::new();
    for place in 0..8 {
        let child = kin::fork()?;
        if child == 0 {
            // SAFETY: takes an integer.
            unsafe { libc::raise(libc::SIGSTOP) };
            ran.bytes()[place] = 1;
            loop {
                sys::pause_for(1000);
            }
        }
        all.push(child);
    }
    all.iter().try_for_each(|child| is_stopped(*child))?;
    Living::reads(move |_| {
        same("those that ran", &vec![0; 8], &ran.bytes()[..8].to_vec())?;
        all.iter().try_for_each(|child| is_stopped(*child))
    })
}
