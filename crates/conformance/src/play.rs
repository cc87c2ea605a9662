//! Plays one case in one flavour: state, freeze, gone, thaw elsewhere, judge.

use crate::case::{Case, Expect, Flavour, Oracle, Original, Program, Step};
use crate::kit::{Kit, USER};
use crate::process::{self, until};
use crate::pty::{FIRST, PATIENCE, Terminal};
use crate::scene::{self, Said, Scene, hear};
use crate::{Outcome, fine, oracle, same};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Plays a case.
///
/// # Errors
/// What went wrong.
pub fn play(kit: &Kit, case: &Case, flavour: Flavour) -> Outcome {
    let uid = if flavour == Flavour::User { USER } else { 0 };
    let mut play = Play { scene: Scene::new(kit, uid)?, case, flavour, pid: 0 };
    let outcome = play.whole();
    play.scene.close(outcome)
}

struct Play<'a> {
    scene: Scene<'a>,
    case: &'a Case,
    flavour: Flavour,
    /// The program's id before the freeze.
    pid: i32,
}

impl Play<'_> {
    fn whole(&mut self) -> Outcome {
        self.write_files()?;
        let mut terminal = self.start()?;
        let before = &self.case.before;
        self.steps(&mut terminal, before, Duration::ZERO)?;
        std::thread::sleep(Duration::from_millis(random(self.case.delay.clone())));
        match &self.case.expect {
            Expect::Refused(words) => self.refused(terminal, words),
            Expect::Kept => self.kept(terminal),
        }
    }

    fn write_files(&self) -> Outcome {
        for (name, text) in &self.case.files {
            let path = self.scene.path(name);
            fine(name, std::fs::write(&path, text))?;
            fine(name, std::os::unix::fs::chown(&path, Some(self.scene.uid), Some(self.scene.uid)))?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<Terminal, String> {
        let mut words = self.words()?;
        if self.flavour == Flavour::WithLibs {
            words = private_copy(&self.scene, &words)?;
        }
        let terminal = self.scene.open(&words, FIRST)?;
        self.pid = terminal.program.pid();
        Ok(terminal)
    }

    fn words(&self) -> Result<Vec<String>, String> {
        let kit = self.scene.kit;
        let (program, rest): (PathBuf, &[&str]) = match &self.case.program {
            Program::Specimen(words) => (kit.specimen.clone(), words),
            Program::System(words) => (found(words[0])?, &words[1..]),
            Program::Built(name) => (kit.root.join(name), &[]),
        };
        Ok(std::iter::once(program.display().to_string()).chain(rest.iter().map(|word| (*word).to_owned())).collect())
    }

    fn refused(&mut self, mut terminal: Terminal, words: &[&str]) -> Outcome {
        let started = Instant::now();
        let said = self.save("freeze", "a.cryo")?.ended_with("freeze", &[3])?;
        self.in_time("the refusal", started)?;
        for word in words {
            same(
                &format!("the refusal names {word:?}; it says {:?}", said.text),
                &true,
                &said.text.to_lowercase().contains(word),
            )?;
        }
        same("an image is there", &false, &self.scene.path("a.cryo").exists())?;
        process::unharmed(self.pid)?;
        let after = &self.case.after;
        self.steps(&mut terminal, after, Duration::ZERO)
    }

    fn kept(&mut self, mut terminal: Terminal) -> Outcome {
        match self.flavour {
            Flavour::Snapshot => {
                self.snapshot()?;
                self.original_goes_on(&mut terminal)?;
                drop(terminal);
                self.thaw_and_judge("a.cryo")
            }
            Flavour::PidNs => {
                self.snapshot()?;
                self.thaw_and_judge("a.cryo")?;
                self.original_goes_on(&mut terminal)
            }
            Flavour::Again => self.again(terminal),
            Flavour::Root | Flavour::User | Flavour::WithLibs | Flavour::Older => {
                self.freeze(&mut terminal, "a.cryo")?;
                drop(terminal);
                self.remove_copies()?;
                self.thaw_and_judge("a.cryo")
            }
        }
    }

    fn again(&mut self, mut terminal: Terminal) -> Outcome {
        self.freeze(&mut terminal, "a.cryo")?;
        drop(terminal);
        let image = self.scene.path("a.cryo");
        let mut second = self.scene.thaw(&image)?;
        self.pid = self.the_program(&mut second)?;
        std::thread::sleep(Duration::from_millis(random(0..60)));
        self.freeze(&mut second, "b.cryo")?;
        drop(second);
        if self.case.oracle == Oracle::Same {
            oracle::same_story(&self.scene, "a.cryo", "b.cryo")?;
        }
        self.thaw_and_judge("b.cryo")
    }

    /// The processes of the scene that are no part of the original, which lives beside them in one flavour.
    fn thawed(&self) -> Vec<i32> {
        let original = self.original();
        self.scene.programs().into_iter().filter(|pid| !original.contains(pid)).collect()
    }

    /// The ids of the original, where it lives.
    fn original(&self) -> Vec<i32> {
        let tree = if self.flavour == Flavour::PidNs { process::tree(self.pid) } else { Vec::new() };
        tree.iter().map(|process| process.pid).collect()
    }

    /// Waits until the thawed program runs.
    fn the_program(&self, terminal: &mut Terminal) -> Result<i32, String> {
        let above = |pid: &i32| process::look(*pid).map(|process| process.parent).filter(|parent| *parent > 1);
        let is_root = |pid: i32, thawed: &[i32]| {
            let mut ancestors = std::iter::successors(Some(pid), above).skip(1);
            thawed.contains(&pid) && ancestors.all(|ancestor| !thawed.contains(&ancestor))
        };
        // Where the id is as it was, and somebody has it already, it is he, also if a child looks like the program first.
        let has_come = |pid: i32| self.scene.processes().iter().any(|process| process.pid == pid);
        let is_it = |pid: i32| pid == self.pid || !self.original().is_empty() || !has_come(self.pid);
        let running = || {
            let thawed = self.thawed();
            let runs = |pid: &i32| is_root(*pid, &thawed) && process::unharmed(*pid).is_ok() && settled(*pid);
            // A child may look like the program before its parent does; when one of them runs all of them do.
            thawed.iter().copied().find(runs).filter(|pid| is_root(*pid, &self.thawed()) && is_it(*pid))
        };
        until(Duration::from_secs(5), running).ok_or_else(|| {
            format!(
                "no program appears after the thaw; exit status {:?}, it said {:?}",
                terminal.program.ended(),
                terminal.said()
            )
        })
    }

    /// What the user is told to do is done: who was stopped in a sleep just before may be in a call that has lost its number.
    fn save(&self, command: &str, image: &str) -> Result<Said, String> {
        let is_passing =
            |said: &Said| said.text.contains(": 1 reason;") && said.text.contains("try again a moment later");
        let mut said = self.save_once(command, image)?;
        for _ in 0..3 {
            if !is_passing(&said) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            said = self.save_once(command, image)?;
        }
        Ok(said)
    }

    fn save_once(&self, command: &str, image: &str) -> Result<Said, String> {
        let pid = self.pid.to_string();
        let mut words = vec![command, pid.as_str(), "-o", image];
        words.extend((self.flavour == Flavour::WithLibs).then_some("--with-libs"));
        if self.flavour != Flavour::Older {
            return self.scene.run(&words);
        }
        let cryopid = self.scene.kit.cryopid.display().to_string();
        let all = [&["older", &cryopid], &words[..]].concat();
        hear(self.scene.command(&self.scene.kit.specimen, &all), Duration::from_secs(30))
    }

    fn freeze(&mut self, terminal: &mut Terminal, image: &str) -> Outcome {
        let tree = process::tree(self.pid);
        let started = Instant::now();
        let said = self.save("freeze", image)?.ended_with("freeze", &[0])?;
        self.in_time("the freeze", started)?;
        // What is noted goes to standard error, which is heard after it.
        let count = said.text.lines().find_map(|line| line.strip_prefix("froze ")?.split(' ').next()?.parse().ok());
        let expected =
            if self.case.oracle == Oracle::Same { Some(tree.len()) } else { count.filter(|count| *count > 0) };
        same(&format!("processes of a line `froze N process…`; it said {:?}", said.text), &expected, &count)?;
        let gone = until(Duration::from_secs(2), || {
            process::look(self.pid).is_none_or(|process| process.state == 'Z').then_some(())
        });
        gone.ok_or_else(|| format!("the frozen process is still there ({})", process::state(self.pid)))?;
        terminal.exit()?;
        // Who is left in a group that it led ends when it learns of its end; until then its number is not free.
        process::vanished(&tree)
    }

    fn in_time(&self, what: &str, started: Instant) -> Outcome {
        let took = started.elapsed();
        let late = self.case.within.is_some_and(|within| took > within);
        if late { Err(format!("{what} took {took:?}")) } else { Ok(()) }
    }

    fn snapshot(&mut self) -> Outcome {
        self.save("snapshot", "a.cryo")?.ended_with("snapshot", &[0])?;
        Ok(())
    }

    /// The original of a snapshot is as it was; then it is ended, so that it cannot change the files of its image.
    fn original_goes_on(&mut self, terminal: &mut Terminal) -> Outcome {
        if !self.case.before.iter().any(|step| matches!(step, Step::Stop)) {
            process::unharmed(self.pid)?;
        }
        if self.case.original == Original::Checks {
            self.steps(terminal, &[Step::Check], Duration::ZERO)?;
        }
        let tree = process::tree(self.pid);
        terminal.program.signal(Signal::KILL);
        terminal.exit()?;
        process::vanished(&tree)
    }

    /// Everything that the program was started from, gone; and what it left that outlives it, as after a start of the machine.
    fn remove_copies(&self) -> Outcome {
        let copies = self.scene.path("copies");
        if copies.exists() {
            self.scene.forget();
            return fine("remove the copies", std::fs::remove_dir_all(copies));
        }
        Ok(())
    }

    fn thaw_and_judge(&mut self, image: &str) -> Outcome {
        // The clocks by which a specimen measures stood still meanwhile.
        let away = Duration::ZERO;
        let path = self.scene.path(image);
        let started = Instant::now();
        let mut terminal = self.scene.thaw(&path)?;
        if !matches!(self.case.program, Program::Specimen(_)) {
            // A program that draws its own screen is made to draw it anew; nobody types before there is something to see.
            std::thread::sleep(Duration::from_millis(150));
        }
        let outcome = self.steps(&mut terminal, &self.case.after, away);
        outcome.map_err(|reason| format!("after the thaw: {reason}"))?;
        self.in_time("the thaw", started)?;
        same("the specimen was started anew, not thawed", &false, &terminal.said().contains("\nready"))
    }

    fn steps(&self, terminal: &mut Terminal, steps: &[Step], away: Duration) -> Outcome {
        steps
            .iter()
            .try_for_each(|step| self.step(terminal, step, away).map_err(|reason| format!("{step:?}: {reason}")))
    }

    fn step(&self, terminal: &mut Terminal, step: &Step, away: Duration) -> Outcome {
        match step {
            Step::Type(keys) => terminal.write(keys),
            Step::Expect(text) => terminal.expect(text),
            Step::Await(text) => terminal.expect_within(text, Duration::from_secs(180)),
            Step::Screen(text) => terminal.shows(text),
            Step::Check => check(terminal, away),
            Step::Stop => stop(self.pid),
            Step::Continue => self.go_on(),
            Step::Running => self.the_program(terminal).map(drop),
            Step::SameId => self.same_id(),
            Step::Exit(code) => same("exit status", code, &terminal.exit()?),
            Step::File(name, text) => same(
                &format!("{name} holds"),
                &(*text).to_owned(),
                &fine(name, std::fs::read_to_string(self.scene.path(name)))?,
            ),
        }
    }

    /// The thawed program is stopped as the original was; SIGCONT goes to it and to the cryopid around it.
    fn go_on(&self) -> Outcome {
        let stopped = || {
            let is_stopped = |pid: &i32| process::look(*pid).is_some_and(|process| process.state == 'T');
            self.thawed().into_iter().find(is_stopped)
        };
        until(PATIENCE / 4, stopped).ok_or("the thawed program is not stopped")?;
        let original = self.original();
        let thawed = self.scene.processes().into_iter().filter(|process| !original.contains(&process.pid));
        thawed.for_each(|process| process::send(process.pid, Signal::CONT));
        Ok(())
    }

    fn same_id(&self) -> Outcome {
        let found = until(Duration::from_secs(5), || self.scene.programs().contains(&self.pid).then_some(()));
        found.ok_or_else(|| format!("no process of the scene has the id {}: {:?}", self.pid, self.scene.programs()))
    }
}

/// In a call, not on its way to become the program: a stub has no arguments that the kernel can show.
fn settled(pid: i32) -> bool {
    !process::text(pid, "cmdline").is_empty()
}

/// Asks a specimen to check itself.
///
/// # Errors
/// What it says.
pub fn check(terminal: &mut Terminal, away: Duration) -> Outcome {
    terminal.write(&format!("check {:.3}\n", away.as_secs_f64()))?;
    match terminal.expect_one(&["ok\r\n", "FAIL: "])? {
        0 => Ok(()),
        _ => Err(terminal.expect("\r\n").err().unwrap_or_else(|| last_complaint(&terminal.said()))),
    }
}

fn last_complaint(said: &str) -> String {
    said.lines().rfind(|line| line.starts_with("FAIL: ")).unwrap_or("FAIL").to_owned()
}

fn stop(pid: i32) -> Outcome {
    process::send(pid, Signal::STOP);
    let stopped = || process::look(pid).is_some_and(|process| process.state == 'T').then_some(());
    until(Duration::from_secs(2), stopped).ok_or_else(|| "SIGSTOP does not stop it".into())
}

fn found(name: &str) -> Result<PathBuf, String> {
    let places = ["", "/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
    places
        .into_iter()
        .find(|path| path.is_absolute() && path.exists())
        .ok_or_else(|| format!("{name} is not installed"))
}

/// Copies a program and the libraries that it is linked with, and gives the words that start the copy.
fn private_copy(scene: &Scene, words: &[String]) -> Result<Vec<String>, String> {
    let copies = scene.path("copies");
    fine("mkdir", std::fs::create_dir(&copies))?;
    let program = Path::new(&words[0]);
    let libraries = libraries_of(program)?;
    for file in libraries.iter().map(PathBuf::as_path).chain([program]) {
        fine("copy", std::fs::copy(file, copies.join(file.file_name().unwrap_or_default())))?;
    }
    let copy = |path: &Path| copies.join(path.file_name().unwrap_or_default()).display().to_string();
    let mut all = match libraries.iter().find(|path| path.to_string_lossy().contains("/ld-")) {
        Some(loader) => vec![copy(loader), "--library-path".into(), copies.display().to_string(), copy(program)],
        None => vec![copy(program)],
    };
    all.extend_from_slice(&words[1..]);
    Ok(all)
}

/// What ldd(1) tells: nothing for a static program.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>, String> {
    let text = scene::quietly(Command::new("ldd").arg(program))?.text;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// A number of a range, another one at every call.
#[must_use]
pub fn random(range: std::ops::Range<u64>) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let width = range.end.saturating_sub(range.start).max(1);
    range.start + RandomState::new().hash_one(0) % width
}
