//! What is not a round trip: the contract under kills, full disks, damage, races, refusals, a fork bomb, and a shell's job control; and
//! what the command line says.

pub mod bomb;
pub mod cli;
pub mod damage;
pub mod disk;
pub mod harness;
pub mod jobcontrol;
pub mod kill;
pub mod refusals;
pub mod twice;

use crate::kit::Kit;
use crate::process::{Owned, until};
use crate::pty::Terminal;
use crate::scene::Scene;
use crate::{Outcome, play, process, same};
use std::path::PathBuf;
use std::time::Duration;

/// Plays in a scene of that user, of which nothing is left.
pub(crate) fn within(kit: &Kit, uid: u32, play: impl FnOnce(&mut Scene) -> Outcome) -> Outcome {
    let mut scene = Scene::new(kit, uid)?;
    let outcome = play(&mut scene);
    scene.close(outcome)
}

/// Freezes what runs in a terminal into an image, and gives the image's path.
fn freeze(scene: &Scene, terminal: &mut Terminal, image: &str) -> Result<PathBuf, String> {
    let pid = terminal.program.pid().to_string();
    scene.run(&["freeze", &pid, "-o", image])?.ended_with("freeze", &[0])?;
    terminal.exit()?;
    Ok(scene.path(image))
}

/// An image of a fresh specimen.
fn image_of(scene: &mut Scene, words: &[&str]) -> Result<PathBuf, String> {
    let mut terminal = scene.specimen(words[0], &words[1..])?;
    freeze(scene, &mut terminal, "a.cryo")
}

/// A program without a terminal.
fn sleep(scene: &Scene) -> Result<Owned, String> {
    scene.alone(&["/bin/sleep", "1000"])
}

/// An image of one.
fn image_of_sleep(scene: &Scene) -> Result<PathBuf, String> {
    let mut program = sleep(scene)?;
    scene.run(&["freeze", &program.pid().to_string(), "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
    program.end_within(Duration::from_secs(5))?;
    Ok(scene.path("a.cryo"))
}

/// A specimen answers, and ends well.
pub(crate) fn answers(terminal: &mut Terminal) -> Outcome {
    play::check(terminal, Duration::ZERO)?;
    terminal.write("quit\n")?;
    same("exit status", &0, &terminal.exit()?)
}

/// The program that was thawed here, once it runs.
fn thawed(scene: &Scene) -> Result<i32, String> {
    let running = || {
        scene
            .programs()
            .into_iter()
            .find(|pid| process::unharmed(*pid).is_ok() && !process::text(*pid, "cmdline").is_empty())
    };
    until(Duration::from_secs(5), running).ok_or_else(|| "no program appears after the thaw".into())
}

/// The same, where a shell runs beside it.
fn thawed_in(scene: &Scene, word: &str) -> Result<i32, String> {
    let running = || {
        scene
            .programs()
            .into_iter()
            .find(|pid| process::unharmed(*pid).is_ok() && process::text(*pid, "cmdline").contains(word))
    };
    until(Duration::from_secs(5), running).ok_or_else(|| "no program appears after the thaw".into())
}
