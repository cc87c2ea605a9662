//! A freeze at each of whose points something fails, or it is killed: its victim runs on unharmed, and no file is left.

use crate::act::{Blow, End, Orders, Word};
use crate::objects::{AtTheEnd, forget};
use crate::stage::{Stage, Stands, USER, fine};
use crate::{Outcome, Test};
use conformance::process::{self, until};
use conformance::pty::Terminal;
use engine::Ending;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A program to be frozen.
#[derive(Clone, Copy)]
struct Spec {
    words: &'static [&'static str],
    uid: u32,
    ending: Ending,
    ask: Ask,
    target: Target,
}

/// What stands at first where the image is to stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Nothing,
    /// A file, which must be the same afterwards, or the image.
    File,
}

/// What is in it.
const OLD: &str = "an older image";

impl Spec {
    /// Of so many points one is tried. Each of a member is passed by many.
    fn step(&self) -> u64 {
        match self.words[0] {
            "family-many" => 31,
            "family-mixed" => 499,
            _ => 1,
        }
    }
}

/// How it is asked whether it is well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// It reads its terminal, or looks at it now and then.
    Always,
    /// It makes one call for so many seconds, which must take so long and no longer; then it reads. It was asked before.
    After(u64),
}

const SPECS: [Spec; 14] = [
    Spec { words: &["sleep", "6"], uid: 0, ending: Ending::End, ask: Ask::After(6), target: Target::Nothing },
    Spec { words: &["registers"], uid: 0, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["threads", "2"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["pipe-bytes"], uid: USER, ending: Ending::RunOn, ask: Ask::Always, target: Target::File },
    Spec { words: &["file-deleted"], uid: 0, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["shm-pieces"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["sem-values"], uid: 0, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["socket-messages"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["mq-nameless"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["family-waits"], uid: 0, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["family-lasting"], uid: USER, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    // So many that a second thread of ours captures them. All of their points take minutes.
    Spec { words: &["family-many", "17"], uid: 0, ending: Ending::End, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["family-many", "17"], uid: USER, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["family-mixed"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
];

/// Programs whose calls are filtered, or come back to them. Whoever would be killed there is the guardian, who alone must not be.
const GUARDED: [Spec; 3] = [
    Spec { words: &["seccomp-hard"], uid: 0, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["vdso-absent"], uid: USER, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
    Spec { words: &["dispatch-busy"], uid: USER, ending: Ending::RunOn, ask: Ask::Always, target: Target::Nothing },
];

pub(crate) fn tests() -> Vec<Test> {
    let both = |spec: Spec| [Blow::Fail, Blow::Die].map(|blow| (spec, blow));
    let test = |(spec, blow): (Spec, Blow)| Test {
        name: format!("freeze {} {:?} {blow:?}", spec.words.join(" "), spec.ending),
        run: Box::new(move |stage| every_point(stage, spec, blow)),
    };
    SPECS.into_iter().flat_map(both).chain(GUARDED.map(|spec| (spec, Blow::Fail))).map(test).collect()
}

/// The first freeze that passes fewer points is one to which nothing happened.
fn every_point(stage: &Stage, spec: Spec, blow: Blow) -> Outcome {
    let (home, target) = (stage.place(spec.uid)?, stage.place(spec.uid)?);
    let _objects = AtTheEnd(&home);
    let mut victim = Victim::start(stage, spec, &home)?;
    let (mut at, mut refused) = (1, 0);
    loop {
        if victim.is_due() {
            victim.answers()?;
            victim = Victim::start(stage, spec, &home)?;
        }
        let word = freeze_once(stage, &mut victim, &target, blow, at);
        let word = word.map_err(|e| format!("{} at point {at}: {e}", spec.words[0]))?;
        match word {
            // Who was stopped in a sleep just before may be in a call that has lost its number. What the user is told to do is done.
            Some(word) if word.passed < at && word.text.contains("try again a moment later") && refused < 3 => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Some(word) if word.passed < at => return whole(&mut victim, &word).map(|()| word.passed),
            // The act that failed did not matter: the image is whole, and the program may be in it.
            Some(word) if word.end == End::Done && spec.ending == Ending::End => {
                forget(&home);
                victim = Victim::start(stage, spec, &home)?
            }
            _ if victim.terminal.program.ended().is_some() => {
                forget(&home);
                victim = Victim::start(stage, spec, &home)?;
            }
            _ => {}
        }
        (at, refused) = (at + spec.step(), 0);
    }
}

/// One freeze; what it said, unless it was killed.
fn freeze_once(stage: &Stage, victim: &mut Victim, target: &Path, blow: Blow, at: u64) -> Result<Option<Word>, String> {
    let image = target.join("image.cryo");
    let (pid, ending) = (victim.pid(), victim.spec.ending);
    let orders = Orders { at, pid, ending, ..Orders::new("freeze", blow, image.clone()) };
    let old = victim.spec.target;
    if old == Target::File {
        fine("write", std::fs::write(&image, OLD))?;
        fine("chown", std::os::unix::fs::chown(&image, Some(victim.spec.uid), None))?;
    }
    let mut freezer = stage.assign(&orders, victim.spec.uid)?;
    let mut line = String::new();
    let stdout = freezer.child().stdout.take().ok_or("the freezer has no pipe")?;
    fine("read", BufReader::new(stdout).read_line(&mut line))?;
    let word = Word::parse(&line);
    let told = |e: String| format!("{e}; the freezer said {line:?}");
    let whole = match (&word, blow) {
        (None, Blow::Die) => killed(&image, old),
        (None, Blow::Fail) => return Err("the freezer says nothing".into()),
        (Some(word), _) if word.end == End::Dirty => Err("it is not clean".into()),
        (Some(word), _) if word.end == End::Done => is_whole(&image).map(|()| true),
        (Some(_), _) => as_before(&image, old).map(|()| false),
    };
    let whole = whole.map_err(told)?;
    nothing_in(target).map_err(told)?;
    if word.is_none() {
        // That a victim was ended its parent hears only when its tracer is gone.
        freezer.end_within(Duration::from_secs(10))?;
    }
    // Who is left is ended by an heir of the freezer.
    let patience = Duration::from_millis(if whole && word.is_none() { 300 } else { 0 });
    let ended = word.is_some() || until(patience, || victim.terminal.program.ended()).is_some();
    match word {
        // Of a process that could not be ended the user was told.
        Some(_) if whole && ending == Ending::End => {}
        None if whole && ended && ending == Ending::End => victim.is_gone().map_err(told)?,
        _ => victim.unharmed().map_err(told)?,
    }
    drop(freezer.child().stdin.take());
    let expected = if word.is_some() { 0 } else { 128 + 9 };
    let code = freezer.end_within(Duration::from_secs(10))?;
    if code == expected { Ok(word) } else { Err(told(format!("the freezer ended with {code}"))) }
}

/// What was there, or the whole image, which has its name before the tree ends: whether it is that.
fn killed(image: &Path, old: Target) -> Result<bool, String> {
    if old == Target::File {
        // No call gives an unnamed file the name of another one, so for an instant it has a name beside it, and then what it
        // replaces has that (rename(2)).
        let directory = image.parent().ok_or("an image is in a directory")?;
        let names = fine("readdir", std::fs::read_dir(directory))?.flatten().map(|e| e.path());
        names
            .filter(|p| p.extension().is_some_and(|e| e == "part"))
            .try_for_each(|p| as_before(&p, old).or_else(|_| is_whole(&p)))?;
    }
    as_before(image, old).map(|()| false).or_else(|_| is_whole(image).map(|()| true))
}

/// What stood at the target stands there still; then it goes.
fn as_before(image: &Path, old: Target) -> Result<(), String> {
    match (old, std::fs::read(image)) {
        (Target::Nothing, Err(_)) => Ok(()),
        (Target::File, Ok(text)) if text == OLD.as_bytes() => fine("remove", std::fs::remove_file(image)),
        (_, found) => Err(format!("at the target are {:?} bytes", found.map(|bytes| bytes.len()))),
    }
}

fn nothing_in(target: &Path) -> Result<(), String> {
    let entries = fine("readdir", std::fs::read_dir(target))?;
    let left: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
}

/// The image can be thawed; then it goes.
fn is_whole(image: &Path) -> Result<(), String> {
    let loaded = fine("load", engine::load(fine("open", File::open(image))?))?;
    fine("verify", loaded.image.verify(&mut |_, _| {}))?;
    loaded.torn.map_or(Ok(()), |e| Err(format!("what was written last: {e}")))?;
    fine("remove", std::fs::remove_file(image))
}

/// After a freeze to which nothing happened.
fn whole(victim: &mut Victim, word: &Word) -> Result<(), String> {
    let two_threads = victim.spec.words[0] == "threads";
    match word.end {
        End::Done if victim.spec.ending == Ending::End => victim.has_ended(),
        End::Done => victim.answers(),
        End::Refused if two_threads => victim.answers(),
        _ => Err(format!("nothing failed, and yet: {word:?}")),
    }
}

/// A running victim, and how it was before anybody touched it.
struct Victim {
    terminal: Terminal,
    spec: Spec,
    began: Instant,
    /// Of each process that lives.
    before: Vec<Traces>,
}

/// What a freezer might leave in it.
#[derive(PartialEq, Eq, Debug)]
struct Traces {
    descriptors: Vec<(i32, PathBuf)>,
    areas: Vec<String>,
    /// Of each thread: whether it runs or sleeps, its tracer, its mask.
    threads: Vec<(i32, bool, String, String)>,
}

impl Traces {
    fn of(pid: i32) -> Traces {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut tids: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        tids.sort_unstable();
        let thread = |tid: &i32| {
            let well = process::look(*tid).is_some_and(|p| matches!(p.state, 'R' | 'S'));
            (*tid, well, process::status(*tid, "TracerPid"), process::status(*tid, "SigBlk"))
        };
        let threads = tids.iter().map(thread).collect();
        // Where there is no vdso, a page of code may be left, as in a vdso code is left that nobody sees.
        let mut areas = process::areas(pid);
        if !areas.iter().any(|line| line.ends_with("[vdso]")) {
            areas.retain(|line| !line.ends_with(" r-xp 00000000 00:00 0 "));
        }
        Traces { descriptors: process::descriptors(pid), areas, threads }
    }
}

/// Of each process of a tree.
fn traces(root: i32) -> Vec<Traces> {
    process::tree(root).iter().map(|process| Traces::of(process.pid)).collect()
}

/// The same, in a moment in which all of `members` are there, if that is known, and each thread runs or sleeps: one may be
/// busy with a page fault, or with its end.
fn at_rest(root: i32, members: Option<usize>) -> Result<Vec<Traces>, String> {
    let at_rest = || {
        let now = traces(root);
        let well = now.iter().all(|t| t.threads.iter().all(|(_, well, ..)| *well));
        (well && members.is_none_or(|count| count == now.len())).then_some(now)
    };
    until(Duration::from_secs(5), at_rest).ok_or_else(|| "the victim does not come to rest".into())
}

impl Victim {
    fn start(stage: &Stage, spec: Spec, home: &Path) -> Result<Victim, String> {
        let began = Instant::now();
        let mut terminal = stage.start(spec.words, spec.uid, home, Stands::AsWe)?;
        if matches!(spec.ask, Ask::After(_)) {
            terminal.write("check 0\nqu")?;
            terminal.expect("qu")?;
        }
        let pid = terminal.program.pid();
        // It has said ready, and is on its way into the call in which it waits.
        let sleeps = || process::look(pid).is_some_and(|p| p.state == 'S').then_some(());
        if !["registers", "dispatch-busy"].contains(&spec.words[0]) {
            until(Duration::from_secs(5), sleeps).ok_or("the victim does not come to rest")?;
        }
        Ok(Victim { before: at_rest(pid, None)?, terminal, spec, began })
    }

    fn pid(&self) -> i32 {
        self.terminal.program.pid()
    }

    /// As it was, after the moment that healing takes; and by its own account, where it can be asked.
    fn unharmed(&mut self) -> Result<(), String> {
        let pid = self.pid();
        let as_before = || (traces(pid) == self.before).then_some(());
        let healed = until(Duration::from_secs(5), as_before);
        healed.ok_or_else(|| self.told_of(&traces(pid)))?;
        if self.spec.ask == Ask::Always {
            self.check()?;
            // A grandchild ended by that, and there is soon another.
            self.before = at_rest(pid, Some(self.before.len()))?;
        }
        Ok(())
    }

    /// What is otherwise than before, in one line.
    fn told_of(&self, now: &[Traces]) -> String {
        let changed = |(was, is): &(&Traces, &Traces)| was != is;
        let pairs: Vec<_> = self.before.iter().zip(now).filter(changed).collect();
        format!("{} processes became {}; of them before and now: {pairs:?}", self.before.len(), now.len())
    }

    fn check(&mut self) -> Result<(), String> {
        if self.spec.ask == Ask::Always {
            self.terminal.write("check 0\n")?;
        }
        match self.terminal.expect_one(&["ok\r\n", "FAIL: "])? {
            0 => Ok(()),
            _ => Err(self.terminal.expect("\r\n").err().unwrap_or_else(|| self.terminal.said())),
        }
    }

    /// Its call is about to end.
    fn is_due(&self) -> bool {
        matches!(self.spec.ask, Ask::After(seconds) if self.began.elapsed() + Duration::from_secs(1) > Duration::from_secs(seconds))
    }

    /// All of it has ended, whoever ended it.
    fn is_gone(&self) -> Result<(), String> {
        let lives = |pid: &i32| process::look(*pid).is_some_and(|p| !matches!(p.state, 'Z' | 'X'));
        let left = || self.before.iter().filter_map(|t| t.threads.first()).map(|t| t.0).find(lives);
        let gone = until(Duration::from_secs(2), || left().is_none().then_some(()));
        gone.ok_or_else(|| format!("process {:?} lives, and its relatives were ended", left()))
    }

    /// The last question.
    fn answers(&mut self) -> Result<(), String> {
        self.check()?;
        self.terminal.write(if self.spec.ask == Ask::Always { "quit\n" } else { "it\n" })?;
        match self.terminal.exit()? {
            0 => Ok(()),
            code => Err(format!("it ends with {code}")),
        }
    }

    fn has_ended(&mut self) -> Result<(), String> {
        match self.terminal.exit()? {
            137 => Ok(()),
            code => Err(format!("it was to end by SIGKILL, and ended with {code}")),
        }
    }
}
