//! A thawed program is a job of the shell that started the image, like any other.

use crate::kit::{Kit, USER};
use crate::process::{self, send};
use crate::pty::{FIRST, SECOND, Terminal};
use crate::runner::Test;
use crate::scene::Scene;
use crate::{Outcome, play, same};
use rustix::process::Signal;
use std::time::Duration;

type Sort = fn(&Scene, &mut Terminal) -> Outcome;

/// Each as root and as an ordinary user, with the specimen that it needs.
#[must_use]
pub fn tests() -> Vec<Test> {
    let sorts: [(&str, &str, Sort); 8] = [
        ("exit status", "ids", exit_status),
        ("ctrl-c", "ids", interrupt),
        ("signal", "ids", terminated),
        ("ctrl-z and fg", "ids", suspend),
        ("ctrl-z and bg", "ids", background),
        ("resize", "terminal-resized", resize),
        ("typed", "ids", typed),
        ("typed after su", "ids", typed_after_su),
    ];
    let mut tests = Vec::new();
    for (name, kind, sort) in sorts {
        for (user, uid) in [("root", 0), ("user", USER)] {
            tests.push(Test::new(format!("jobcontrol/{name}/{user}"), move |kit: &Kit| in_shell(kit, uid, kind, sort)));
        }
    }
    tests
}

fn in_shell(kit: &Kit, uid: u32, kind: &str, sort: Sort) -> Outcome {
    let mut scene = Scene::new(kit, uid)?;
    let outcome = shell(&mut scene, kind, sort);
    scene.close(outcome)
}

fn shell(scene: &mut Scene, kind: &str, sort: Sort) -> Outcome {
    super::image_of(scene, &[kind])?;
    let words = ["/bin/bash", "--norc", "-i"].map(str::to_owned);
    let mut terminal = scene.open(&words, FIRST)?;
    terminal.write("PS1='sh''ell> '\n")?;
    terminal.expect("shell> ")?;
    terminal.write("./a.cryo\n")?;
    if kind == "ids" {
        play::check(&mut terminal, Duration::ZERO)?;
    }
    sort(scene, &mut terminal)?;
    terminal.write("exit 0\n")?;
    same("exit status of the shell", &0, &terminal.exit()?)
}

/// The shell has its terminal back, and its `$?` is this.
fn status_is(terminal: &mut Terminal, status: u32) -> Outcome {
    terminal.expect("shell> ")?;
    terminal.write("echo sta''tus=$?.\n")?;
    terminal.expect(&format!("status={status}."))?;
    terminal.expect("shell> ")
}

fn exit_status(_: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("quit\n")?;
    status_is(terminal, 0)
}

fn interrupt(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("\x03")?;
    status_is(terminal, 130)?;
    no_program(scene)
}

/// Only the shell is left.
fn no_program(scene: &Scene) -> Outcome {
    let shells: Vec<i32> = scene
        .processes()
        .iter()
        .map(|process| process.pid)
        .filter(|pid| process::text(*pid, "comm") == "bash\n")
        .collect();
    scene.only(&shells)
}

fn specimen_of(scene: &Scene) -> Result<i32, String> {
    let found = scene.programs().into_iter().find(|pid| process::text(*pid, "cmdline").contains("specimen"));
    found.ok_or_else(|| "the thawed program is not found".into())
}

fn terminated(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    send(specimen_of(scene)?, Signal::TERM);
    status_is(terminal, 143)
}

fn suspend(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("\x1a")?;
    terminal.expect("Stopped")?;
    status_is(terminal, 148)?;
    same("the program is", &"state T".to_owned(), &process::state(specimen_of(scene)?))?;
    terminal.write("fg\n")?;
    terminal.expect("./a.cryo\r\n")?;
    play::check(terminal, Duration::ZERO)?;
    exit_status(scene, terminal)
}

/// In the background it reads, and is stopped for that by SIGTTIN, as the terminal's rules are.
fn background(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("\x1a")?;
    terminal.expect("Stopped")?;
    terminal.expect("shell> ")?;
    terminal.write("bg\n")?;
    terminal.expect("shell> ")?;
    let stopped = || (process::state(specimen_of(scene).ok()?) == "state T").then_some(());
    process::until(Duration::from_secs(3), stopped).ok_or("a program that reads in the background is not stopped")?;
    // Who stands for it stops a moment after it.
    std::thread::sleep(Duration::from_millis(100));
    suspended_job_comes_back(scene, terminal)
}

fn suspended_job_comes_back(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("fg\n")?;
    terminal.expect("./a.cryo\r\n")?;
    play::check(terminal, Duration::ZERO)?;
    exit_status(scene, terminal)
}

/// The specimen says so when it has been told, and sees the size of the second terminal.
fn resize(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    super::thawed_in(scene, "specimen")?;
    terminal.resize(SECOND)?;
    play::check(terminal, Duration::ZERO)?;
    exit_status(scene, terminal)
}

/// What was typed for the program never comes to the shell, neither when it is frozen nor when it goes on elsewhere.
fn typed(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.write("quit\n")?;
    terminal.expect("shell> ")?;
    terminal.write("cat\n")?;
    terminal.expect("cat\r\n")?;
    let cat = || process::all().into_iter().find(|p| p.terminal == terminal.device && is_named(p.pid, "cat"));
    let cat = process::until(Duration::from_secs(3), cat).ok_or("cat does not start")?;
    terminal.write("echo 'e'vil")?;
    terminal.expect("echo 'e'vil")?;
    scene.run(&["freeze", &cat.pid.to_string(), "-o", "b.cryo"])?.ended_with("freeze", &[0])?;
    terminal.expect("shell> ")?;
    terminal.write("\n")?;
    terminal.expect("shell> ")?;
    terminal.write("./b.cryo\n")?;
    terminal.expect("echo 'e'vil")?;
    terminal.write("s\n")?;
    terminal.expect("\necho 'e'vils\r\n")?;
    terminal.write("\x04")?;
    status_is(terminal, 0)?;
    same("the shell was told to echo", &false, &terminal.said().contains("\nevil"))
}

/// The terminal belongs to somebody else: an ordinary user has it open, and may not open it again.
fn typed_after_su(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.disown()?;
    typed(scene, terminal)
}

fn is_named(pid: i32, name: &str) -> bool {
    process::text(pid, "comm").trim_end() == name
}
