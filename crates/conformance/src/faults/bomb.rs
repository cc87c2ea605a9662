//! A fork bomb under a limit on processes: it is taken or refused, and never hung on.

use crate::process::{self, until};
use crate::pty::{FIRST, SECOND, Terminal};
use crate::runner::Test;
use crate::scene::{Scene, hear};
use crate::{Outcome, fine, play, same};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many processes and threads the bomb may have, and how many a thaw of it, which has its own.
const MOST: u32 = 40;
const MOST_OF_THAW: u32 = MOST + 20;
/// Within this time a freeze ends. It gives up after a minute (`engine::tree`).
const BOUND: Duration = Duration::from_secs(100);

/// The bomb, once as root.
#[must_use]
pub fn tests() -> Vec<Test> {
    let test = |command: &'static str| {
        Test::new(format!("bomb/{command}"), move |kit| {
            super::within(kit, 0, |scene| {
                let group = Group::new()?;
                let outcome = explode(scene, &group, command);
                group.clear().and(outcome)
            })
        })
    };
    ["freeze", "snapshot"].map(test).into()
}

/// A control group with a limit on processes (pids.max), made for one test.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Group, String> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let group = Group(hierarchy()?.join(format!("cryopid-bomb-{}-{n}", std::process::id())));
        fine("mkdir of a control group", std::fs::create_dir(&group.0))?;
        group.limit(MOST)?;
        Ok(group)
    }

    fn limit(&self, most: u32) -> Outcome {
        fine("write to pids.max", std::fs::write(self.0.join("pids.max"), most.to_string()))
    }

    fn members(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Becomes a command in the group.
    fn within(&self, words: &[&str]) -> Vec<String> {
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        let group = self.0.display().to_string();
        ["/bin/sh", "-c", script, &group].into_iter().chain(words.iter().copied()).map(String::from).collect()
    }

    /// Ends all of them: with nobody left to be born, who is killed stays so.
    fn end(&self) -> Outcome {
        self.limit(0)?;
        let over = until(Duration::from_secs(20), || {
            let all = self.members();
            all.iter().for_each(|pid| process::send(*pid, Signal::KILL));
            all.is_empty().then_some(())
        });
        over.ok_or_else(|| format!("processes of the bomb are left: {:?}", self.members()))
    }

    /// Those who have ended count as long as nobody has taken note of it, and of orphans process 1 may do so late.
    fn forgets(&self) -> Outcome {
        let count = || std::fs::read_to_string(self.0.join("pids.current")).unwrap_or_default();
        let none = until(Duration::from_secs(20), || (count().trim() == "0").then_some(()));
        none.ok_or_else(|| format!("{} processes of the bomb are still counted", count().trim()))
    }

    fn clear(&self) -> Outcome {
        self.end()?;
        let gone = until(Duration::from_secs(5), || std::fs::remove_dir(&self.0).ok());
        gone.ok_or_else(|| format!("{} cannot be removed", self.0.display()))
    }
}

/// Where groups that limit processes are: of the first version (the option `pids`), or the only hierarchy of the second.
fn hierarchy() -> Result<PathBuf, String> {
    let mounts = fine("mounts", std::fs::read_to_string("/proc/mounts"))?;
    let words: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let first = words.iter().find(|w| w[2] == "cgroup" && w[3].split(',').any(|option| option == "pids"));
    let second = || words.iter().find(|w| w[2] == "cgroup2");
    let path = Path::new(first.or_else(second).ok_or("no hierarchy of control groups is mounted")?[1]);
    if first.is_none() {
        fine("the controller pids", std::fs::write(path.join("cgroup.subtree_control"), "+pids"))?;
    }
    Ok(path.into())
}

fn explode(scene: &mut Scene, group: &Group, command: &str) -> Outcome {
    let specimen = scene.kit.specimen.display().to_string();
    let mut bomb = scene.open(&group.within(&[&specimen, "bomb"]), FIRST)?;
    bomb.expect("ready\r\n")?;
    full(group)?;
    let pid = bomb.program.pid().to_string();
    let words = scene.cryopid(&[command, &pid, "-o", "a.cryo"]);
    // Refused is well, too: it makes new processes faster than they can be stopped.
    let said = hear(words, BOUND)?.ended_with(command, &[0, 3])?;
    let taken = said.code == 0;
    same("there is an image", &taken, &scene.path("a.cryo").exists())?;
    if command == "freeze" && taken {
        bomb.exit()?;
        same("processes that are left", &Vec::new(), &group.members())?;
    } else {
        goes_on(group, &mut bomb)
            .map_err(|e| format!("{}, after {command}: {e}", if taken { "taken" } else { "refused" }))?;
        group.end()?;
        bomb.exit()?;
    }
    if taken { thaw(scene, group) } else { Ok(()) }
}

/// What is thawed is in the group of whoever thaws it, so it is limited as before.
fn thaw(scene: &mut Scene, group: &Group) -> Outcome {
    group.forgets()?;
    group.limit(MOST_OF_THAW)?;
    let image = scene.path("a.cryo").display().to_string();
    let mut bomb = scene.open(&group.within(&[&image]), SECOND)?;
    until(Duration::from_secs(20), || (group.members().len() > 2).then_some(())).ok_or("it does not come back")?;
    goes_on(group, &mut bomb).map_err(|e| {
        let end = bomb.exit();
        format!("thawed: {e}; its end is {end:?}, and it says {:?}", bomb.said())
    })?;
    group.end()?;
    bomb.exit().map(drop)
}

/// It fills its room, and processes come and go.
fn full(group: &Group) -> Outcome {
    let room = MOST as usize * 3 / 4;
    until(Duration::from_secs(20), || (group.members().len() >= room).then_some(()))
        .ok_or_else(|| format!("the bomb has only {} processes", group.members().len()))?;
    let before = group.members();
    let others = || group.members().iter().any(|pid| !before.contains(pid)).then_some(());
    until(Duration::from_secs(20), others).ok_or("the bomb does not fork".into())
}

fn goes_on(group: &Group, bomb: &mut Terminal) -> Outcome {
    full(group)?;
    play::check(bomb, Duration::ZERO)
}
