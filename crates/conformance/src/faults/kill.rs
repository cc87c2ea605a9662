//! SIGKILL at random instants: of the freezer, whose victim must not notice; of the thawing process, which must leave
//! nothing, or the program.

use crate::kit::{Kit, USER};
use crate::play::{self, random};
use crate::process::{self, start, until};
use crate::pty::Terminal;
use crate::runner::Test;
use crate::scene::Scene;
use crate::{Outcome, same};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How a victim is asked at the end of all kills.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// It reads its terminal.
    Check,
    /// It waits in one call for this many seconds: it must wait on, and for that long in all. Meanwhile it was asked.
    Waits(u64),
    /// Ctrl-C ends its call.
    Interrupt,
    /// SIGSTOP stopped it.
    Stopped,
    /// It reads its terminal, and its children come and go.
    Restless,
}

const VICTIMS: [(&str, &[&str], Ask); 20] = [
    ("registers", &[], Ask::Check),
    ("storm", &[], Ask::Check),
    ("itimers", &[], Ask::Check),
    ("pipe-bytes", &[], Ask::Check),
    ("mq-long", &[], Ask::Check),
    // What waits is looked at by a call of its own and one of ours.
    ("socket-flights", &["bytes"], Ask::Check),
    ("mem-large", &["32"], Ask::Check),
    ("sleep", &["15"], Ask::Waits(15)),
    ("poll", &["15"], Ask::Waits(15)),
    ("futex", &["15"], Ask::Waits(15)),
    ("select", &["15"], Ask::Waits(15)),
    ("pause", &[], Ask::Interrupt),
    ("signal-stopped", &[], Ask::Stopped),
    // Processes of several threads, which compute and look at each other's results.
    ("family-busy", &[], Ask::Check),
    // A parent in wait4, a child that reads.
    ("family-waits", &[], Ask::Check),
    ("family-restless", &[], Ask::Restless),
    // Stopped children, which must not run: they are on their way home for as long as they are.
    ("stop-still", &[], Ask::Restless),
    // Calls of which come back to them, or which have no vdso: a guardian does it all.
    ("vdso-absent", &[], Ask::Check),
    ("dispatch", &[], Ask::Check),
    ("dispatch-busy", &[], Ask::Check),
];

/// Victims that only root freezes: their system calls are filtered, so that the way home of an envoy would be forbidden.
const FILTERED: [(&str, &[&str], Ask); 3] =
    [("seccomp-hard", &[], Ask::Check), ("seccomp-strict", &[], Ask::Check), ("seccomp-synced", &[], Ask::Check)];

/// The freezer is killed `count` times in all: by both commands, over each victim, as root and as an ordinary user.
#[must_use]
pub fn freezing(count: usize) -> Vec<Test> {
    let each = count.div_ceil(VICTIMS.len() * 2 + FILTERED.len());
    let both = VICTIMS.iter().flat_map(|victim| [("root", 0, victim), ("user", USER, victim)]);
    let all = both.chain(FILTERED.iter().map(|victim| ("root", 0, victim)));
    let test = |(user, uid, victim): (&str, u32, &'static (&'static str, &'static [&'static str], Ask))| {
        Test::new(format!("kill/{}/{user}", victim.0), move |kit: &Kit| kill_over(kit, uid, *victim, each))
    };
    all.map(test).collect()
}

fn kill_over(kit: &Kit, uid: u32, victim: (&str, &[&str], Ask), count: usize) -> Outcome {
    let mut scene = Scene::new(kit, uid)?;
    let outcome = kills(&mut scene, victim, count);
    scene.close(outcome)
}

fn kills(scene: &mut Scene, (kind, arguments, ask): (&str, &[&str], Ask), count: usize) -> Outcome {
    let longest = command_time(scene, kind)?;
    let mut victim = Victim::new(scene, kind, arguments, ask)?;
    for round in 0..count {
        // A call of 15 seconds has to be asked in time.
        if matches!(ask, Ask::Waits(_)) && victim.began.elapsed() > Duration::from_secs(11) {
            break;
        }
        let command = if round % 2 == 0 { "snapshot" } else { "freeze" };
        let delay = Duration::from_micros(random(0..longest));
        kill_once(scene, &victim, command, delay)?;
        let told = |reason| format!("round {round}, {command} killed after {delay:?}: {reason}");
        if victim.lost_to_a_whole_image(scene).map_err(told)? {
            victim = Victim::new(scene, kind, arguments, ask)?;
            continue;
        }
        victim.unharmed(scene).map_err(told)?;
    }
    victim.answers()
}

/// How long a whole snapshot of such a victim takes, in microseconds.
fn command_time(scene: &mut Scene, kind: &str) -> Result<u64, String> {
    let other = if kind == "mem-large" || kind.starts_with("family") || kind == "stop-still" { kind } else { "ids" };
    let terminal = scene.specimen(other, &["32"])?;
    let began = Instant::now();
    scene.run(&["snapshot", &terminal.program.pid().to_string(), "-o", "time.cryo"])?.ended_with("snapshot", &[0])?;
    Ok((began.elapsed().as_micros() as u64).clamp(2_000, 400_000))
}

fn kill_once(scene: &Scene, victim: &Victim, command: &str, delay: Duration) -> Outcome {
    let _ = std::fs::remove_file(scene.path("k.cryo"));
    let mut words = scene.cryopid(&[command, &victim.pid().to_string(), "-o", "k.cryo"]);
    words.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut freezer = start(&mut words)?;
    std::thread::sleep(delay);
    freezer.signal(Signal::KILL);
    freezer.end_within(Duration::from_secs(5))?;
    // A guardian hears of it, and gives up, or is past the point where it can.
    let guards =
        || scene.processes().iter().any(|process| process::text(process.pid, "comm").starts_with("cryopid-guard"));
    until(Duration::from_secs(5), || (!guards()).then_some(())).ok_or("a guardian is left".into())
}

struct Victim {
    terminal: Terminal,
    ask: Ask,
    began: Instant,
    /// Every process of the tree, or the root alone, where the others change by themselves.
    members: Vec<Traces>,
}

/// What a freezer might change in a process.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    pid: i32,
    descriptors: Vec<(i32, PathBuf)>,
    areas: Vec<String>,
    /// Of each thread: its tracer and its mask.
    threads: Vec<(i32, String, String)>,
}

impl Traces {
    fn of(pid: i32) -> Traces {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut tids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        tids.sort_unstable();
        let thread = |tid: i32| (tid, process::status(tid, "TracerPid"), process::status(tid, "SigBlk"));
        let threads = tids.into_iter().map(thread).collect();
        Traces { pid, descriptors: process::descriptors(pid), areas: process::areas(pid), threads }
    }
}

/// What the members of a tree have, once the memory has come that threads allocate at their beginning.
fn settled_traces(tree: &[i32]) -> Vec<Traces> {
    let look = || tree.iter().copied().map(Traces::of).collect::<Vec<_>>();
    let mut members = look();
    for _ in 0..if tree.len() > 1 { 20 } else { 0 } {
        std::thread::sleep(Duration::from_millis(100));
        let now = look();
        if now == members {
            break;
        }
        members = now;
    }
    members
}

impl Victim {
    fn new(scene: &mut Scene, kind: &str, arguments: &[&str], ask: Ask) -> Result<Victim, String> {
        let mut terminal = scene.specimen(kind, arguments)?;
        let pid = terminal.program.pid();
        match ask {
            Ask::Stopped => process::send(pid, Signal::STOP),
            Ask::Waits(_) => {
                terminal.write("check 0\nqu")?;
                terminal.expect("qu")?;
            }
            Ask::Check | Ask::Interrupt | Ask::Restless => {}
        }
        let works = matches!(ask, Ask::Check | Ask::Restless);
        let settled = || process::look(pid).is_some_and(|process| process.state != 'R' || works).then_some(());
        until(Duration::from_secs(2), settled).ok_or("the victim does not come to rest")?;
        let tree = if matches!(ask, Ask::Restless) {
            vec![pid]
        } else {
            process::tree(pid).iter().map(|process| process.pid).collect()
        };
        let members = settled_traces(&tree);
        Ok(Victim { terminal, ask, began: Instant::now(), members })
    }

    fn pid(&self) -> i32 {
        self.terminal.program.pid()
    }

    /// The freeze was complete before the kill: the image is whole, and the program in it, all of it. The end of a program
    /// takes a moment.
    fn lost_to_a_whole_image(&mut self, scene: &Scene) -> Result<bool, String> {
        let alive = |pid: i32| process::look(pid).is_some_and(|process| !matches!(process.state, 'Z' | 'X'));
        let settled = || {
            let ended = self.terminal.program.ended().is_some();
            let pids = || self.members.iter().map(|member| member.pid);
            let well = pids().all(|pid| alive(pid) && !process::doomed(pid));
            (well && !ended || ended && !pids().any(alive)).then_some(())
        };
        let all_or_none = until(Duration::from_secs(2), settled);
        let states = || self.members.iter().map(|member| process::state(member.pid)).collect::<Vec<_>>();
        all_or_none.ok_or_else(|| format!("some have ended and some have not: {:?}", states()))?;
        let gone = self.terminal.program.ended().is_some();
        let whole = || scene.run(&["verify", "k.cryo"]).is_ok_and(|said| said.code == 0);
        Ok(gone && scene.path("k.cryo").exists() && whole())
    }

    /// Healing takes a moment; after it, everything is as it was. A stopped victim stays stopped, and heals when it goes on.
    fn unharmed(&self, scene: &Scene) -> Outcome {
        if matches!(self.ask, Ask::Stopped) {
            let stopped = || (process::state(self.pid()) == "state T").then_some(());
            until(Duration::from_secs(2), stopped).ok_or_else(|| format!("it is in {}", process::state(self.pid())))?;
            process::send(self.pid(), Signal::CONT);
        }
        let healed = self.healed();
        if matches!(self.ask, Ask::Stopped) {
            process::send(self.pid(), Signal::STOP);
        }
        healed?;
        if matches!(self.ask, Ask::Restless) {
            return Ok(());
        }
        scene.only(&self.members.iter().map(|member| member.pid).collect::<Vec<_>>())
    }

    fn healed(&self) -> Outcome {
        let mut last = Ok(());
        let healed = until(Duration::from_secs(5), || {
            last = self.as_it_was();
            last.is_ok().then_some(())
        });
        healed.map_or(last, Ok)
    }

    fn as_it_was(&self) -> Outcome {
        for member in &self.members {
            if !matches!(self.ask, Ask::Stopped) {
                process::unharmed(member.pid)?;
            }
            same("what it has", member, &Traces::of(member.pid))?;
        }
        Ok(())
    }

    fn answers(&mut self) -> Outcome {
        match self.ask {
            Ask::Check | Ask::Restless => {}
            Ask::Stopped => process::send(self.pid(), Signal::CONT),
            Ask::Interrupt => {
                self.terminal.write("\x03")?;
                self.terminal.expect("woke\r\n")?;
            }
            Ask::Waits(seconds) => {
                std::thread::sleep(Duration::from_secs(seconds).saturating_sub(self.began.elapsed()));
                self.terminal.expect("ok\r\n")?;
                self.terminal.write("it\n")?;
                return same("exit status", &0, &self.terminal.exit()?);
            }
        }
        play::check(&mut self.terminal, Duration::ZERO)?;
        self.terminal.write("quit\n")?;
        same("exit status", &0, &self.terminal.exit()?)
    }
}

/// The thawing process is killed `count` times in all.
#[must_use]
pub fn thawing(count: usize) -> Vec<Test> {
    let users = [("root", 0), ("user", USER)];
    let test = |(name, uid): (&str, u32)| {
        Test::new(format!("killthaw/{name}"), move |kit| thaw_kills(kit, uid, count.div_ceil(4)))
    };
    users.map(test).into()
}

fn thaw_kills(kit: &Kit, uid: u32, count: usize) -> Outcome {
    let mut scene = Scene::new(kit, uid)?;
    let outcome = kill_thaws(&mut scene, count);
    scene.close(outcome)
}

fn kill_thaws(scene: &mut Scene, count: usize) -> Outcome {
    let image = super::image_of(scene, &["mem-large", "8"])?;
    let began = Instant::now();
    super::answers(&mut scene.thaw(&image)?)?;
    let longest = (began.elapsed().as_micros() as u64).clamp(2_000, 200_000);
    for round in 0..count {
        let delay = Duration::from_micros(random(0..longest));
        let mut terminal = scene.thaw(&image)?;
        std::thread::sleep(delay);
        terminal.program.signal(Signal::KILL);
        nothing_or_the_program(scene, &mut terminal)
            .map_err(|reason| format!("round {round}, killed after {delay:?}: {reason}"))?;
    }
    Ok(())
}

/// Killed before commit, nothing is left; killed after it, the program runs on and answers.
fn nothing_or_the_program(scene: &Scene, terminal: &mut Terminal) -> Outcome {
    terminal.program.end_within(Duration::from_secs(5))?;
    if scene.only(&[]).is_ok() {
        return Ok(());
    }
    play::check(terminal, Duration::ZERO)?;
    terminal.write("quit\n")?;
    scene.only(&[])
}
