//! A thaw at each of whose points something fails, or it is killed: nothing of it is left, or the program runs whole.
//!
//! In each test the [`conductor`](conduct) leads the session of a terminal, as a shell does, and is the parent of all
//! orphans in it, so nothing can escape it. It starts one thaw for each point, as a job in the foreground. When one has
//! brought the program back it says so, and the test, which types at the other side of the terminal, asks the program.

use crate::act::{Blow, End, Orders, Word, tty};
use crate::objects;
use crate::stage::{Stage, Stands, USER, fine};
use crate::{Outcome, Test};
use conformance::process::until;
use conformance::pty::Terminal;
use plan::Pids;
use rustix::io::Errno;
use rustix::process::{WaitOptions, getpgrp, getpid, set_child_subreaper};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr, tcsetpgrp};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tracee::ipc::find_mqueue;
use tracee::job;

/// A program to be thawed, and where.
#[derive(Clone, Copy)]
struct Spec {
    words: &'static [&'static str],
    uid: u32,
    pids: Pids,
    /// The first process of a pid namespace, or one of that in which this test is.
    stands: Stands,
}

const SPECS: [Spec; 19] = [
    Spec { words: &["file-position"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["pipe-bytes"], uid: 0, pids: Pids::New, stands: Stands::AsWe },
    Spec { words: &["sleep", "3"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    Spec { words: &["file-position"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    Spec { words: &["file-deleted"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["cwd-deleted"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["cwd-deleted"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    Spec { words: &["shm-shared"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["sem-values"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["mq-named"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["socket-named"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["socket-halves"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    Spec { words: &["mq-nameless"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    // Threads that are traced before the end.
    Spec { words: &["seccomp-apart"], uid: 0, pids: Pids::New, stands: Stands::AsWe },
    // Processes that are stopped before the end.
    Spec { words: &["stop-below"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["stop-told"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    // A session whose leader has ended and waits, and a daemon in it.
    Spec { words: &["session-dead-leader"], uid: 0, pids: Pids::Same, stands: Stands::AsWe },
    Spec { words: &["session-dead-leader"], uid: USER, pids: Pids::New, stands: Stands::AsWe },
    // It becomes the first of another namespace, and one below it ends with it.
    Spec { words: &["stop-below"], uid: 0, pids: Pids::New, stands: Stands::First },
];

pub(crate) fn tests() -> Vec<Test> {
    let both = |spec: Spec| [Blow::Fail, Blow::Die].map(|blow| (spec, blow));
    let test = |(spec, blow): (Spec, Blow)| Test {
        name: format!(
            "thaw {} {:?} ids, {:?}, user {}, {blow:?}",
            spec.words.join(" "),
            spec.pids,
            spec.stands,
            spec.uid
        ),
        run: Box::new(move |stage| every_point(stage, spec, blow)),
    };
    SPECS.into_iter().flat_map(both).map(test).collect()
}

/// What stands where the program had its file.
const CHANGED: &str = "changed since";

fn every_point(stage: &Stage, spec: Spec, blow: Blow) -> Outcome {
    let home = stage.place(spec.uid)?;
    let image = home.join("image.cryo");
    let frozen = Instant::now();
    freeze(stage, spec, &home, &image)?;
    let orders = Orders { pids: spec.pids, ..Orders::new("conduct", blow, image) };
    let mut terminal = stage.perform(&orders, spec.uid)?;
    loop {
        match terminal.expect_one(&["running\r\n", "going on\r\n", "finished ", "broken: "])? {
            0 => ask(&mut terminal, spec.away(frozen))?,
            1 => {}
            2 => {
                terminal.expect("\r\n")?;
                let said = terminal.said();
                let count = said.rsplit_once("finished ").and_then(|(_, n)| n.trim().parse().ok());
                return count.ok_or_else(|| "the conductor's last word is no number".into());
            }
            _ => {
                terminal.exit()?;
                let said = terminal.said();
                return Err(said.rsplit_once("broken: ").map_or(String::new(), |(_, why)| why.trim().to_owned()));
            }
        }
    }
}

fn freeze(stage: &Stage, spec: Spec, home: &Path, image: &Path) -> Result<(), String> {
    let mut victim = stage.start(spec.words, spec.uid, home, spec.stands)?;
    let whom = match spec.stands {
        Stands::AsWe => victim.program.pid(),
        Stands::First => {
            conformance::process::all()
                .into_iter()
                .find(|process| process.parent == victim.program.pid())
                .ok_or("unshare has no child")?
                .pid
        }
    };
    let orders = Orders { pid: whom, ..Orders::new("freeze", Blow::Fail, image.to_path_buf()) };
    let mut freezer = stage.assign(&orders, spec.uid)?;
    drop(freezer.child().stdin.take());
    victim.exit()?;
    freezer.end_within(Duration::from_secs(10))?;
    // As after a start of the machine: nothing that outlives processes is there.
    objects::forget(home);
    Ok(())
}

impl Spec {
    /// How many seconds longer a call has taken by the program's own clock, which stands still for it in a namespace.
    fn away(&self, frozen: Instant) -> f64 {
        match self.pids {
            Pids::New => 0.0,
            // It was frozen a moment later, and has run for a moment when it is asked.
            _ => frozen.elapsed().as_secs_f64() - 0.5,
        }
    }
}

fn ask(terminal: &mut Terminal, away: f64) -> Result<(), String> {
    terminal.write(&format!("check {away:.3}\n"))?;
    match terminal.expect_one(&["ok\r\n", "FAIL: ", "broken: "])? {
        0 => terminal.write("quit\n"),
        _ => Err(format!("the program is not whole: {}", terminal.expect("\r\n").err().unwrap_or(terminal.said()))),
    }
}

/// The part of the shell.
pub(crate) fn conduct(orders: &Orders) {
    // Whoever is not in the foreground and blocks SIGTTOU may write and take the terminal (tty_ioctl(4)).
    let _ = job::block_all();
    match Conductor::new(orders).and_then(|mut conductor| conductor.all()) {
        Ok(points) => println!("finished {points}"),
        Err(why) => println!("broken: {why}"),
    }
}

struct Conductor<'a> {
    orders: &'a Orders,
    tty: File,
    settings: Termios,
    home: PathBuf,
    file: Option<PathBuf>,
}

/// A file of the host: name, inode, size, and when it was written.
type Entry = (PathBuf, u64, u64, i64, i64);

impl<'a> Conductor<'a> {
    fn new(orders: &'a Orders) -> Result<Conductor<'a>, String> {
        fine("subreaper", set_child_subreaper(Some(getpid())))?;
        let tty = tty()?;
        let settings = fine("tcgetattr", tcgetattr(&tty))?;
        let home = orders.image.parent().ok_or("an image is in a directory")?.to_path_buf();
        let file = Some(home.join("numbers")).filter(|f| f.exists());
        Ok(Conductor { orders, tty, settings, home, file })
    }

    fn all(&mut self) -> Result<u64, String> {
        for at in 1.. {
            // The other side waits only so long for a sign of life.
            if at % 20 == 0 {
                println!("going on");
            }
            let word = self.one_with_free_ids(at).map_err(|e| format!("at point {at}: {e}"))?;
            self.take_terminal()?;
            if let Some(word) = word.filter(|w| w.passed < at) {
                return if word.end == End::Done { Ok(word.passed) } else { Err(format!("nothing failed: {word:?}")) };
            }
        }
        unreachable!("a thaw has an end")
    }

    /// Between two thaws the ids of the program are nobody's, and any process of the machine may get one for a while.
    fn one_with_free_ids(&self, at: u64) -> Result<Option<Word>, String> {
        let taken = |word: &Word| word.text.contains("taken by another process") || word.text.contains("EEXIST");
        for _ in 0..50 {
            match self.one(at)? {
                Some(word) if taken(&word) => {
                    self.take_terminal()?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                other => return Ok(other),
            }
        }
        Err("the ids of the program are taken".into())
    }

    fn take_terminal(&self) -> Result<(), String> {
        fine("tcsetattr", tcsetattr(&self.tty, OptionalActions::Now, &self.settings))?;
        fine("tcsetpgrp", tcsetpgrp(&self.tty, getpgrp()))
    }

    fn one(&self, at: u64) -> Result<Option<Word>, String> {
        if let Some(file) = &self.file {
            fine("write", fs::write(file, CHANGED))?;
        }
        objects::forget(&self.home);
        let before = self.files()?;
        let (line, signal) = self.thaw(at)?;
        let word = Word::parse(&line);
        let told = |e: String| format!("{e}; the thaw said {line:?}");
        match &word {
            None if self.orders.blow == Blow::Die && signal == Some(9) => {}
            None => return Err(told(format!("the thaw ended by {signal:?}"))),
            Some(word) if word.end == End::Done => {}
            Some(word) if word.end == End::Dirty => return Err(told("something is left".into())),
            Some(_) => self.all_gone(PATIENCE).map_err(told)?,
        }
        if word.as_ref().is_some_and(|w| w.end != End::Done) || (word.is_none() && self.all_gone(GRACE).is_ok()) {
            until(GRACE, || objects::left(&self.home).is_empty().then_some(()))
                .ok_or_else(|| told(format!("objects are left: {:?}", objects::left(&self.home))))?;
            let after = self.files()?;
            return if before == after { Ok(word) } else { Err(told(format!("{before:?} became {after:?}"))) };
        }
        println!("running");
        self.all_gone(PATIENCE).map_err(told)?;
        self.only_known(&before).map_err(told)?;
        objects::forget(&self.home);
        Ok(word)
    }

    /// One thaw: what it said, and the signal that ended it.
    fn thaw(&self, at: u64) -> Result<(String, Option<i32>), String> {
        let orders = Orders { role: "thaw", at, ..self.orders.clone() };
        let mut command = Command::new(fine("current_exe", std::env::current_exe())?);
        orders.give(&mut command);
        let mut child = fine("start", command.process_group(0).stdout(Stdio::piped()).spawn())?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the thaw has no pipe")?;
        fine("read", BufReader::new(stdout).read_line(&mut line))?;
        let signal = fine("wait", child.wait())?.signal();
        // The name under which a queue without one is made.
        let passing = format!(".cryopid-{}", child.id());
        until(GRACE, || find_mqueue(passing.as_bytes()).is_none().then_some(())).ok_or("a queue is left")?;
        Ok((line, signal))
    }

    /// Waits until no process of this session is left.
    fn all_gone(&self, patience: Duration) -> Result<(), String> {
        let gone = || match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => Some(()),
            _ => None,
        };
        until(patience, gone).ok_or_else(|| format!("processes are left: {:?}", below(getpid().as_raw_nonzero().get())))
    }

    fn files(&self) -> Result<Vec<Entry>, String> {
        let entries = fine("readdir", fs::read_dir(&self.home))?.flatten();
        let entry = |e: fs::DirEntry| e.metadata().map(|m| (e.path(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        let mut all = fine("stat", entries.map(entry).collect::<Result<Vec<_>, _>>())?;
        all.sort();
        Ok(all)
    }

    /// After a thaw that went well a file may hold what was saved, but there are no others.
    fn only_known(&self, before: &[Entry]) -> Result<(), String> {
        let names = |all: &[Entry]| all.iter().map(|e| e.0.clone()).collect::<Vec<_>>();
        let after = self.files()?;
        if names(before) == names(&after) { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
    }
}

/// Less than the other side of the terminal has, so that we can say what is wrong.
const PATIENCE: Duration = Duration::from_secs(6);
/// In this time everything is gone that dies with the thaw.
const GRACE: Duration = Duration::from_millis(250);

/// Ids, states, names of the processes, and where they wait, that are children of that one.
fn below(pid: i32) -> Vec<String> {
    let children = conformance::process::all().into_iter().filter(|p| p.parent == pid);
    let told = |p: conformance::process::Process| {
        let (name, waits) = (conformance::process::status(p.pid, "Name"), conformance::process::text(p.pid, "wchan"));
        format!("{} {} {name} in {waits}", p.pid, p.state)
    };
    children.map(told).collect()
}
