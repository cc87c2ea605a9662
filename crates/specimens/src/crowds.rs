//! Many processes, and such that come and go all the time.

use crate::kin;
use crate::life::Living;
use crate::sys::{self, Outcome, pattern, same, same_bytes};
use std::sync::mpsc::channel;

/// Many children.
pub(crate) fn many(arguments: &[String]) -> Result<Living, String> {
    let children = (0..sys::number(arguments, 60)).map(|_| kin::plain()).collect::<Result<Vec<_>, _>>()?;
    let places = move || children.iter().map(kin::Kin::place).collect::<Result<Vec<_>, _>>();
    let expected = places()?;
    Living::reads(move |_| same("ids, parents, groups, sessions", &expected, &places()?))
}

/// Many children of all sorts: some have threads of their own, some have something in common with us.
pub(crate) fn mixed(arguments: &[String]) -> Result<Living, String> {
    let plain = || -> kin::SetUp { Box::new(|| Ok(Box::new(kin::obey))) };
    let make = |n: usize| match n % 16 {
        3 | 11 => kin::child(with_threads),
        5 => kin::clone(libc::CLONE_FILES | libc::SIGCHLD, plain()),
        9 => kin::clone(libc::CLONE_VM | libc::SIGCHLD, plain()),
        _ => kin::plain(),
    };
    let children = (0..sys::number(arguments, 70)).map(make).collect::<Result<Vec<_>, _>>()?;
    let with_threads: Vec<kin::Kin> = children.iter().skip(3).step_by(8).copied().collect();
    let places = move || children.iter().map(kin::Kin::place).collect::<Result<Vec<_>, _>>();
    let expected = places()?;
    Living::reads(move |_| {
        same("ids, parents, groups, sessions", &expected, &places()?)?;
        with_threads.iter().try_for_each(|child| child.says("add to 400", "411"))
    })
}

/// It asks two threads of its own, one after the other.
fn with_threads() -> Result<impl FnMut(&str) -> kin::Answer, String> {
    let thread = |adds: u64| {
        let ((ask, asked), (answer, answers)) = (channel::<u64>(), channel());
        std::thread::spawn(move || asked.iter().try_for_each(|number| answer.send(number + adds)));
        move |number| ask.send(number).ok().and_then(|()| answers.recv().ok()).ok_or("a thread has ended")
    };
    let (first, second) = (thread(1), thread(10));
    Ok(move |question: &str| match question.strip_prefix("add to ").map(str::parse) {
        Some(Ok(number)) => Ok(second(first(number)?)?.to_string()),
        _ => kin::obey(question),
    })
}

/// Children and grandchildren are born and end all the time; whoever waits hears the status that was meant.
pub(crate) fn restless(_: &[String]) -> Result<Living, String> {
    let mut round = 0;
    let mut alive: Vec<(i32, i32)> = Vec::new();
    let act = move || -> Outcome {
        round += 1;
        while alive.len() < 4 {
            let code = (round * 5 + alive.len() as i32) % 100;
            alive.push((brief(code)?, code));
        }
        let (pid, code) = alive.remove(round as usize % 4);
        same("the end of a child", &(pid, code << 8), &kin::wait(pid, 0)?)
    };
    Living::busy(act, |_| Ok(()))
}

/// A fork bomb: everybody below us forks as often as the kernel lets it, and most end soon. Orphans are ours, so all of it stays
/// one tree.
pub(crate) fn bomb(_: &[String]) -> Result<Living, String> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0])?;
    // Nobody waits for us to take note of an end.
    // SAFETY: sets no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    if kin::fork()? == 0 {
        explode();
    }
    Living::reads(|_| Ok(()))
}

/// The first of them never ends; a child ends after some rounds, whether it has children or not.
fn explode() -> ! {
    const ROUNDS: u32 = 8;
    let mut left = None;
    loop {
        // SAFETY: what a child does is what its parent does.
        if unsafe { libc::fork() } == 0 {
            left = Some(ROUNDS);
        }
        // SAFETY: takes an integer.
        let odd = unsafe { libc::getpid() } as u32 % 7;
        std::thread::sleep(std::time::Duration::from_millis(u64::from(2 + odd)));
        left = left.map(|left: u32| left.saturating_sub(1));
        if left == Some(0) {
            kin::exit(0);
        }
    }
}

/// A child that computes, has a child of its own, and ends with that code if all is well.
fn brief(code: i32) -> Result<i32, String> {
    let pid = kin::fork()?;
    if pid != 0 {
        return Ok(pid);
    }
    let below = kin::fork().unwrap_or(-1);
    if below == 0 {
        kin::exit(if pattern(7, 2000) == pattern(7, 2000) { code + 100 } else { 1 })
    }
    let well = kin::wait(below, 0) == Ok((below, (code + 100) << 8));
    kin::exit(if well { code } else { 255 })
}

/// A tree of processes with threads which compute all the time, and look at each other's counts: those must grow, and every
/// result must be right.
pub(crate) fn busy(_: &[String]) -> Result<Living, String> {
    let workers: Vec<_> = (0..3).map(worker).collect::<Result<_, _>>()?;
    let mut round = 0u64;
    let computing = move || -> Outcome {
        round += 1;
        same_bytes("a pattern", &pattern(round, 500), &pattern(round, 500))
    };
    let mut before = vec![0; workers.len()];
    Living::busy(computing, move |_| {
        for (worker, before) in workers.iter().zip(&mut before) {
            let count: u64 = worker.ask("rounds")?.parse().map_err(|_| "no number")?;
            same(
                &format!("{count} rounds of process {} are more than {before}", worker.pid),
                &true,
                &(count > *before),
            )?;
            *before = count;
        }
        Ok(())
    })
}

/// A process of two threads that compute, and a child that does, too.
fn worker(seed: u64) -> Result<kin::Kin, String> {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    static ROUNDS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    static WRONG: AtomicU64 = AtomicU64::new(0);
    fn compute(at: usize, seed: u64) {
        let expected = pattern(seed, 3000);
        loop {
            WRONG.fetch_add(u64::from(pattern(seed, 3000) != expected), SeqCst);
            ROUNDS[at].fetch_add(1, SeqCst);
        }
    }
    fn told() -> kin::Answer {
        same("wrong results", &0, &WRONG.load(SeqCst))?;
        // The slower of them: both must go on.
        sys::soon("both threads compute", || ROUNDS.iter().all(|count| count.load(SeqCst) > 0))?;
        let counts = ROUNDS.each_ref().map(|count| count.swap(0, SeqCst));
        Ok(counts[0].min(counts[1]).to_string())
    }
    kin::child(move || {
        let below = kin::child(move || {
            (0..2).for_each(|at| drop(std::thread::spawn(move || compute(at, seed + 50))));
            Ok(|_: &str| told())
        })?;
        (0..2).for_each(|at| drop(std::thread::spawn(move || compute(at, seed))));
        let mut sum = 0u64;
        Ok(move |question: &str| {
            if question != "rounds" {
                return kin::obey(question);
            }
            let own: u64 = told()?.parse().map_err(|_| "no number")?;
            let lower: u64 = below.ask("rounds")?.parse().map_err(|_| "no number")?;
            sum += own.min(lower);
            Ok(sum.to_string())
        })
    })
}
