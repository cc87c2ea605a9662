//! The same thing twice: two freezes of one process, two thaws of one image, and again and again.

use crate::kit::{Kit, USER};
use crate::process::unharmed;
use crate::runner::Test;
use crate::scene::{Said, Scene, hear};
use crate::{Outcome, play, same};
use std::time::Duration;

type Sort = fn(&mut Scene) -> Outcome;

/// Each as root and as an ordinary user.
#[must_use]
pub fn tests() -> Vec<Test> {
    let sorts: [(&str, Sort); 4] =
        [("two freezes", two_freezes), ("two snapshots", two_snapshots), ("two thaws", two_thaws), ("chain", chain)];
    let mut tests = Vec::new();
    for (name, sort) in sorts {
        for (user, uid) in [("root", 0), ("user", USER)] {
            tests.push(Test::new(format!("twice/{name}/{user}"), move |kit: &Kit| super::within(kit, uid, sort)));
        }
    }
    tests
}

/// Both commands at once, each into its own file.
fn both(scene: &Scene, command: &str, pid: i32) -> Result<[Said; 2], String> {
    let pid = pid.to_string();
    let [one, two] = ["1.cryo", "2.cryo"].map(|image| scene.cryopid(&[command, &pid, "-o", image]));
    let other = std::thread::spawn(move || hear(two, Duration::from_secs(30)));
    let one = hear(one, Duration::from_secs(30))?;
    Ok([one, other.join().map_err(|_| "a thread of the harness panicked")??])
}

fn two_freezes(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("mem-large", &["16"])?;
    let said = both(scene, "freeze", terminal.program.pid())?;
    let winners = said.iter().filter(|said| said.code == 0).count();
    same(&format!("number of freezes that won; they said {said:?}"), &1, &winners)?;
    let (winner, loser) = if said[0].code == 0 { ("1.cryo", &said[1]) } else { ("2.cryo", &said[0]) };
    clear(loser)?;
    terminal.exit()?;
    drop(terminal);
    super::answers(&mut scene.thaw(&scene.path(winner))?)
}

/// The loser's status is one of a fault or a refusal, and it says something that is no panic.
fn clear(loser: &Said) -> Outcome {
    same(&format!("status of the loser, {loser:?}"), &true, &[1, 3].contains(&loser.code))?;
    let fine = loser.text.contains("cryopid") && !loser.text.contains("panicked at");
    same(&format!("the loser says a clear thing; it said {:?}", loser.text), &true, &fine)
}

/// One or both may win; the program goes on.
fn two_snapshots(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("mem-large", &["16"])?;
    let pid = terminal.program.pid();
    let said = both(scene, "snapshot", pid)?;
    same(&format!("one of them won; they said {said:?}"), &true, &said.iter().any(|said| said.code == 0))?;
    said.iter().filter(|said| said.code != 0).try_for_each(clear)?;
    unharmed(pid)?;
    super::answers(&mut terminal)
}

fn two_thaws(scene: &mut Scene) -> Outcome {
    let image = super::image_of(scene, &["ids"])?;
    let mut terminals = [scene.thaw(&image)?, scene.thaw(&image)?];
    for terminal in &mut terminals {
        play::check(terminal, Duration::ZERO)?;
    }
    let mut third = scene.thaw(&image)?;
    super::answers(&mut third)?;
    terminals.iter_mut().try_for_each(super::answers)
}

/// Freeze, thaw, freeze, thaw: five times, in a new terminal each time.
fn chain(scene: &mut Scene) -> Outcome {
    let mut image = super::image_of(scene, &["mem-heap"])?;
    for link in 1..=5 {
        let mut terminal = scene.thaw(&image)?;
        let pid = super::thawed(scene)?;
        play::check(&mut terminal, Duration::ZERO).map_err(|reason| format!("link {link}: {reason}"))?;
        let next = format!("link-{link}.cryo");
        scene.run(&["freeze", &pid.to_string(), "-o", &next])?.ended_with(&format!("freeze of link {link}"), &[0])?;
        terminal.exit()?;
        image = scene.path(&next);
    }
    super::answers(&mut scene.thaw(&image)?)
}
