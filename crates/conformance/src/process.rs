//! Processes as /proc shows them, and the children of this harness.
//!
//! The harness is a child subreaper (`prctl(2)`): whatever a test orphans becomes its child, and is reaped at once by
//! [`reap_orphans`]. The children that it started itself are *owned*: only their [`Owned`] waits for them.

use crate::{Outcome, fine};
use rustix::process::{Pid, Signal, WaitOptions};
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static OWNED: LazyLock<Mutex<HashSet<i32>>> = LazyLock::new(Mutex::default);

fn owned() -> MutexGuard<'static, HashSet<i32>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that the harness started; ended and reaped when dropped.
#[derive(Debug)]
pub struct Owned {
    child: Child,
    code: Option<i32>,
}

/// Starts a command. The lock is held meanwhile, so that the reaper never takes a child of which it does not know yet.
///
/// # Errors
/// The program cannot be started.
pub fn start(command: &mut Command) -> Result<Owned, String> {
    let mut owned = owned();
    let child = fine(&format!("start {:?}", command.get_program()), command.spawn())?;
    owned.insert(child.id().cast_signed());
    Ok(Owned { child, code: None })
}

impl Owned {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The child's own pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, as a shell says it (128+N for signal N), if it has.
    pub fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        if self.code.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            owned().remove(&self.pid());
        }
        self.code
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn end_within(&mut self, time: Duration) -> Result<i32, String> {
        until(time, || self.ended())
            .ok_or_else(|| format!("process {} did not end within {time:?} ({})", self.pid(), state(self.pid())))
    }

    /// Sends it a signal, unless it has been reaped.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            send(self.pid(), signal);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if self.end_within(Duration::from_secs(5)).is_err() {
            owned().remove(&self.pid());
        }
    }
}

/// Asks again and again until there is an answer.
pub fn until<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        match ask() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            answer => return answer,
        }
    }
}

/// Sends a signal; a process that is gone is no error.
pub fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Makes this process the parent of all orphans, and reaps them from now on.
///
/// # Errors
/// The kernel refuses the attribute.
pub fn reap_orphans() -> Outcome {
    fine("PR_SET_CHILD_SUBREAPER", rustix::process::set_child_subreaper(Some(rustix::process::getpid())))?;
    std::thread::spawn(|| {
        loop {
            reap_once();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    Ok(())
}

fn reap_once() {
    let me = std::process::id().cast_signed();
    let known = owned();
    for process in all()
        .into_iter()
        .filter(|process| process.parent == me && process.state == 'Z' && !known.contains(&process.pid))
    {
        let _ = rustix::process::waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG);
    }
}

/// The few fields of /proc/PID/stat that the harness looks at.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// One letter, as in ps(1).
    pub state: char,
    /// Its process group.
    pub group: i32,
    /// The device number of its terminal.
    pub terminal: u32,
    /// When it was born, in ticks since the machine started: ids begin anew, and another may have the same one.
    pub born: u64,
}

/// Every process there is.
#[must_use]
pub fn all() -> Vec<Process> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| look(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// One process, if it is there.
#[must_use]
pub fn look(pid: i32) -> Option<Process> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?.chars().next()?, fields.next()?.parse().ok()?);
    let group = fields.next()?.parse().ok()?;
    let terminal = fields.nth(1)?.parse::<i32>().ok()?.cast_unsigned();
    // The 22nd field; the terminal is the seventh.
    let born = fields.nth(14)?.parse().ok()?;
    Some(Process { pid, parent, state, group, terminal, born })
}

/// The processes of a tree, the root first; also those that have ended and were not waited for.
#[must_use]
pub fn tree(root: i32) -> Vec<Process> {
    let all = all();
    let mut tree: Vec<Process> = all.iter().filter(|process| process.pid == root).cloned().collect();
    let mut at = 0;
    while let Some(parent) = tree.get(at).map(|process| process.pid) {
        tree.extend(all.iter().filter(|process| process.parent == parent).cloned());
        at += 1;
    }
    tree
}

/// Waits until nothing is left of these, not even who ended and was not reaped, and no orphan either: then ids are free.
///
/// # Errors
/// Something still is, ten seconds later.
pub fn vanished(tree: &[Process]) -> Outcome {
    let me = std::process::id().cast_signed();
    let is_of_it = |process: &Process| tree.iter().any(|was| (was.pid, was.born) == (process.pid, process.born));
    let left = || {
        let known = owned().clone();
        let is_orphan =
            |process: &Process| process.parent == me && process.state == 'Z' && !known.contains(&process.pid);
        all().into_iter().filter(|process| is_of_it(process) || is_orphan(process)).collect::<Vec<_>>()
    };
    let gone = until(Duration::from_secs(10), || left().is_empty().then_some(()));
    gone.ok_or_else(|| format!("of the frozen tree there is still {:?}", left()))?;
    tree.iter().try_for_each(|process| dissolved(process.pid))
}

/// Whether SIGKILL is on its way to it: it looks alive, and is not.
#[must_use]
pub fn doomed(pid: i32) -> bool {
    let pending = |name| u64::from_str_radix(&status(pid, name), 16).unwrap_or(0);
    (pending("SigPnd") | pending("ShdPnd")) & 1 << (Signal::KILL.as_raw() - 1) != 0
}

/// Waits until nobody is in a process group, not even who ended and was not reaped: then its number is free.
///
/// # Errors
/// Somebody still is, ten seconds later.
pub fn dissolved(group: i32) -> Outcome {
    let members = || all().into_iter().filter(|process| process.group == group).collect::<Vec<_>>();
    let gone = until(Duration::from_secs(10), || members().is_empty().then_some(()));
    gone.ok_or_else(|| format!("in process group {group} there is still {:?}", members()))
}

/// Its state letter, or a word that it is gone.
#[must_use]
pub fn state(pid: i32) -> String {
    look(pid).map_or_else(|| "gone".into(), |process| format!("state {}", process.state))
}

/// A file of /proc/PID, with whatever is not UTF-8 replaced.
#[must_use]
pub fn text(pid: i32, name: &str) -> String {
    std::fs::read(format!("/proc/{pid}/{name}"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// A line of /proc/PID/status.
#[must_use]
pub fn status(pid: i32, name: &str) -> String {
    let text = text(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// The descriptors of a process and what they lead to, in order.
#[must_use]
pub fn descriptors(pid: i32) -> Vec<(i32, PathBuf)> {
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut all: Vec<_> = names
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?)))
        .collect();
    all.sort();
    all
}

/// The areas of a process, without the sizes of stack and heap, which a program changes by itself.
#[must_use]
pub fn areas(pid: i32) -> Vec<String> {
    let own = |line: &&str| !line.ends_with("[heap]") && !line.ends_with("[stack]");
    text(pid, "maps").lines().filter(own).map(str::to_owned).collect()
}

/// Whether it runs as if nobody had ever looked at it.
///
/// # Errors
/// It is gone, traced, or stopped.
pub fn unharmed(pid: i32) -> Outcome {
    let process = look(pid).ok_or_else(|| format!("process {pid} is gone"))?;
    crate::same("TracerPid", &"0".to_owned(), &status(pid, "TracerPid"))?;
    match process.state {
        'R' | 'S' | 'D' => Ok(()),
        other => Err(format!("process {pid} is in state {other}")),
    }
}
