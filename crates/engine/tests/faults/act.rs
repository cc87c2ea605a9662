//! The parts that this program plays in processes of their own: one freezes, one thaws, one is the shell of those that
//! thaw. What each is to do stands in its environment.

use crate::{stage, thawing};
use conformance::process;
use engine::{Ending, Error, Look, Request, Silent};
use plan::{FilePolicy, Options, Pids};
use resources::Keep;
use rustix::process::WaitOptions;
use rustix::termios::{tcgetattr, tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use tracee::fault::{self, What};
use tracee::job;

/// What happens at a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blow {
    /// The kernel says no.
    Fail,
    /// We are killed.
    Die,
}

/// What a part is to do.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) role: &'static str,
    pub(crate) blow: Blow,
    /// At which point; 0: at none.
    pub(crate) at: u64,
    /// Whom to freeze.
    pub(crate) pid: i32,
    pub(crate) image: PathBuf,
    pub(crate) ending: Ending,
    pub(crate) pids: Pids,
}

const PREFIX: &str = "CRYOPID_FAULTS_";

fn variable(name: &str) -> String {
    std::env::var(format!("{PREFIX}{name}")).unwrap_or_default()
}

impl Orders {
    pub(crate) fn new(role: &'static str, blow: Blow, image: PathBuf) -> Orders {
        Orders { role, blow, at: 0, pid: 0, image, ending: Ending::End, pids: Pids::Same }
    }

    pub(crate) fn give(&self, to: &mut Command) {
        let all = [
            ("ROLE", self.role.to_owned()),
            ("BLOW", format!("{:?}", self.blow)),
            ("AT", self.at.to_string()),
            ("PID", self.pid.to_string()),
            ("IMAGE", self.image.display().to_string()),
            ("ENDING", format!("{:?}", self.ending)),
            ("PIDS", format!("{:?}", self.pids)),
        ];
        to.envs(all.map(|(name, value)| (format!("{PREFIX}{name}"), value)));
    }

    pub(crate) fn heard() -> Orders {
        Orders {
            role: "",
            blow: if variable("BLOW") == "Die" { Blow::Die } else { Blow::Fail },
            at: variable("AT").parse().unwrap_or(0),
            pid: variable("PID").parse().unwrap_or(0),
            image: variable("IMAGE").into(),
            ending: if variable("ENDING") == "RunOn" { Ending::RunOn } else { Ending::End },
            pids: if variable("PIDS") == "New" { Pids::New } else { Pids::Same },
        }
    }

    fn arm(&self) {
        let what = if self.blow == Blow::Die { What::Die } else { What::Fail };
        fault::arm(what, self.at);
    }
}

pub(crate) fn play(role: &str) -> ExitCode {
    let orders = Orders::heard();
    match role {
        "freeze" => freeze(&orders),
        "thaw" => thaw(&orders),
        _ => thawing::conduct(&orders),
    }
    ExitCode::SUCCESS
}

/// What a part says when it is done, in one line.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) passed: u64,
    pub(crate) end: End,
    /// What it found out of order in itself, and the error.
    pub(crate) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Refused,
    Failed,
    /// It failed and left something.
    Dirty,
}

impl Word {
    fn say(end: End, text: &str) {
        println!("{} {end:?} {}", fault::passed(), text.replace('\n', "; "));
    }

    pub(crate) fn parse(line: &str) -> Option<Word> {
        let mut words = line.trim_end().splitn(3, ' ');
        let (passed, end) = (words.next()?.parse().ok()?, words.next()?);
        let ends = [End::Done, End::Refused, End::Failed, End::Dirty];
        let end = ends.into_iter().find(|e| format!("{e:?}") == end)?;
        Some(Word { passed, end, text: words.next().unwrap_or_default().to_owned() })
    }
}

/// How an error is told, if nothing of ours is left.
fn tell_error(e: &Error, left: &[String]) {
    let end = match e {
        _ if !left.is_empty() => End::Dirty,
        Error::Refused(_) => End::Refused,
        _ => End::Failed,
    };
    Word::say(end, &format!("{} {e}", left.join(", ")));
}

/// What this process has: descriptors, and memory that it shares.
#[derive(PartialEq, Eq, Debug)]
struct Own {
    descriptors: Vec<(i32, PathBuf)>,
    shared: usize,
}

impl Own {
    fn look() -> Own {
        let me = std::process::id() as i32;
        let maps = process::text(me, "maps");
        let is_shared = |line: &&str| line.split(' ').nth(1).is_some_and(|p| p.ends_with('s'));
        Own { descriptors: process::descriptors(me), shared: maps.lines().filter(is_shared).count() }
    }
}

/// Freezes, and lives on until it is let go: it must not be its end that frees the victim.
fn freeze(orders: &Orders) {
    let request = Request {
        tree: Look::at(orders.pid),
        output: Some(orders.image.clone()),
        keep: Keep { files: true, typed: true, ..Keep::default() },
        ending: orders.ending,
    };
    // Of a program whose calls are filtered, or come back to it, a guardian does it all.
    if engine::guard(&request.tree).expect("a guardian can be had").is_some() {
        return;
    }
    orders.arm();
    let mut before = Own::look();
    let mut frozen = engine::freeze(&request, &mut Silent);
    if matches!(frozen, Err(Error::Unguarded)) {
        match engine::guard_after_all() {
            Ok(Some(_)) => return,
            Ok(None) => {
                // By the process that we are now.
                before = Own::look();
                frozen = engine::freeze(&request, &mut Silent);
            }
            Err(e) => frozen = Err(e),
        }
    }
    match frozen {
        Ok(_) => Word::say(End::Done, ""),
        Err(e) => tell_error(&e, &differs("own", &before, &Own::look())),
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, before: &T, after: &T) -> Vec<String> {
    if before == after { Vec::new() } else { vec![format!("{what}: {before:?} became {after:?}")] }
}

/// The terminal: settings and foreground group.
pub(crate) fn terminal(tty: &File) -> String {
    format!("{:?} {:?}", tcgetattr(tty).ok(), tcgetpgrp(tty).ok())
}

pub(crate) fn tty() -> Result<File, String> {
    stage::fine("/dev/tty", File::options().read(true).write(true).open("/dev/tty"))
}

/// Thaws as a shell's job in the foreground does, and ends.
fn thaw(orders: &Orders) {
    let _ = job::block_all();
    let tty = tty().expect("a terminal is there");
    tcsetpgrp(&tty, rustix::process::getpgrp()).expect("the terminal can be taken");
    let options = Options { pids: orders.pids, files: FilePolicy::Saved, ..Options::default() };
    let loaded = File::open(&orders.image).map_err(|e| Error::io("open", "the image", e)).and_then(engine::load);
    let loaded = loaded.expect("the image can be read");
    orders.arm();
    let before = (Own::look(), terminal(&tty));
    match engine::thaw(&loaded, &options, &mut Silent) {
        Ok(_) => Word::say(End::Done, ""),
        Err(e) => {
            let mut left = differs("own", &before.0, &Own::look());
            left.extend(differs("terminal", &before.1, &terminal(&tty)));
            left.extend(children());
            tell_error(&e, &left);
        }
    }
}

/// Children of ours that are left, alive or not waited for.
fn children() -> Option<String> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Err(rustix::io::Errno::CHILD) => None,
        other => Some(format!("a child: {other:?}")),
    }
}
