//! How long a freeze and a thaw take as whole commands, with the image on a tmpfs, beside CRIU in the same run.

use crate::shell::{built, cargo, command, is_installed, is_root, run};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VICTIM: &str = include_str!("../programs/victim.c");

/// What is frozen: its name, and the words that the victim gets.
const VICTIMS: [(&str, [&str; 2]); 3] = [
    ("small process, 1 MiB", ["memory", "1"]),
    ("20,000 areas", ["areas", "20000"]),
    ("1,000 open files", ["files", "1000"]),
];

/// The limits of the project for the small process, in milliseconds: freeze, pause, thaw.
const LIMITS: [f64; 3] = [10.0, 3.0, 10.0];

/// Durations of one thing over all runs, in milliseconds, in ascending order.
#[derive(Clone, Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, took: f64) {
        let at = self.0.partition_point(|t| *t < took);
        self.0.insert(at, took);
    }

    fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.0.first().copied().unwrap_or(f64::NAN);
        f.pad(&format!("{least:.1} / {:.1}", self.median()))
    }
}

/// What one way to freeze and thaw gave.
#[derive(Default)]
struct Measured {
    freeze: Times,
    pause: Times,
    thaw: Times,
    size: u64,
}

/// Where all of it happens; removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running victim.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Folder {
    fn new() -> Result<Folder, String> {
        let path = Path::new("/dev/shm").join(format!("xtask-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let folder = Folder(path);
        fs::write(folder.0.join("victim.c"), VICTIM).map_err(|e| e.to_string())?;
        run(command("cc", &["-O1", "-o", "victim", "victim.c"]).current_dir(&folder.0))?;
        Ok(folder)
    }

    /// A victim, ready, in a session of its own and without a terminal, as a service has it.
    fn victim(&self, words: &[&str]) -> Result<Victim, String> {
        let ready = self.0.join("ready");
        let _ = fs::remove_file(&ready);
        let mut start = self.quiet("setsid", &["./victim"]);
        let victim = Victim(start.args(words).spawn().map_err(|e| format!("setsid: {e}"))?);
        let end = Instant::now() + Duration::from_secs(30);
        while !ready.exists() {
            if Instant::now() > end {
                return Err(format!("the victim {words:?} did not get ready"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // From there to its last call.
        std::thread::sleep(Duration::from_millis(5));
        Ok(victim)
    }

    fn quiet(&self, program: &str, words: &[&str]) -> Command {
        let mut quiet = command(program, words);
        quiet.current_dir(&self.0).stdout(Stdio::null()).stderr(Stdio::null());
        quiet
    }
}

/// Runs a command to its end, and gives what it printed and the milliseconds that it took.
fn timed(command: &mut Command) -> Result<(String, f64), String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    if output.status.success() {
        return Ok((String::from_utf8_lossy(&output.stdout).into_owned(), took));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(said.lines().next_back().unwrap_or("it failed and said nothing").to_owned())
}

/// The number behind a key of a JSON object without nesting.
fn number(json: &str, key: &str) -> Option<f64> {
    let at = json.find(&format!("\"{key}\":"))? + key.len() + 3;
    let len = json[at..].find([',', '}']).unwrap_or(json.len() - at);
    json[at..at + len].trim().parse().ok()
}

/// Ends a process that is no child of ours.
fn end(folder: &Folder, pid: u32) {
    let _ = folder.quiet("sh", &["-c", &format!("kill -9 {pid}")]).status();
    // What has ended and waits for its new parent to take note of that has no program any more.
    let gone = || fs::read_link(format!("/proc/{pid}/exe")).is_err();
    let patience = Instant::now() + Duration::from_secs(5);
    while !gone() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn cryopid_once(folder: &Folder, words: &[&str], into: &mut Measured) -> Result<(), String> {
    let binary = built("release").join("cryopid");
    let mut victim = folder.victim(words)?;
    let pid = victim.0.id().to_string();
    let (said, took) =
        timed(&mut folder.quiet(&binary.to_string_lossy(), &["freeze", &pid, "-o", "x.cryo", "--json"]))?;
    into.freeze.add(took);
    into.pause.add(number(&said, "paused_seconds").ok_or("the freeze did not tell its pause")? * 1e3);
    victim.0.wait().map_err(|e| e.to_string())?;
    into.size = fs::metadata(folder.0.join("x.cryo")).map_err(|e| e.to_string())?.len();
    let (said, took) = timed(&mut folder.quiet("./x.cryo", &["--detach", "--json"]))?;
    into.thaw.add(took);
    end(folder, number(&said, "pid").ok_or("the thaw did not tell the process")? as u32);
    Ok(())
}

fn criu_once(folder: &Folder, words: &[&str], into: &mut Measured) -> Result<(), String> {
    let _ = fs::remove_dir_all(folder.0.join("criu"));
    fs::create_dir(folder.0.join("criu")).map_err(|e| e.to_string())?;
    let mut victim = folder.victim(words)?;
    let pid = victim.0.id();
    let (_, took) = timed(&mut folder.quiet("criu", &["dump", "-D", "criu", "-t", &pid.to_string()]))?;
    into.freeze.add(took);
    into.pause.add(f64::NAN);
    victim.0.wait().map_err(|e| e.to_string())?;
    let files = fs::read_dir(folder.0.join("criu")).map_err(|e| e.to_string())?;
    into.size = files.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    let (_, took) = timed(&mut folder.quiet("criu", &["restore", "-D", "criu", "-d"]))?;
    into.thaw.add(took);
    end(folder, pid);
    Ok(())
}

type Once = fn(&Folder, &[&str], &mut Measured) -> Result<(), String>;

fn measure(folder: &Folder, words: &[&str], runs: usize, once: Once) -> Result<Measured, String> {
    let mut measured = Measured::default();
    (0..runs).try_for_each(|_| once(folder, words, &mut measured))?;
    Ok(measured)
}

fn print(name: &str, ours: &Measured, criu: Option<&Measured>) {
    println!("\n{name:<24}{:>18}{:>18}{:>8}", "cryopid", "criu", "ratio");
    let row = |what: &str, ours: &Times, criu: Option<&Times>| {
        let (other, ratio) = match criu {
            Some(criu) => (criu.to_string(), format!("{:.1}", criu.median() / ours.median())),
            None => ("-".into(), "-".into()),
        };
        println!("{what:<24}{ours:>18}{other:>18}{ratio:>8}");
    };
    row("  freeze, ms", &ours.freeze, criu.map(|c| &c.freeze));
    row("  pause, ms", &ours.pause, None);
    row("  thaw, ms", &ours.thaw, criu.map(|c| &c.thaw));
    let other = criu.map_or("-".into(), |c| c.size.to_string());
    println!("{:<24}{:>18}{other:>18}", "  image, bytes", ours.size);
}

fn kept(measured: &Measured) -> Vec<String> {
    let medians = [measured.freeze.median(), measured.pause.median(), measured.thaw.median()];
    let rows = ["freeze", "pause", "thaw"].into_iter().zip(medians).zip(LIMITS);
    rows.filter(|((_, took), limit)| took > limit)
        .map(|((what, took), limit)| format!("{what} takes {took:.1} ms, the limit is {limit} ms"))
        .collect()
}

/// Measures all; the times are least / median.
pub(crate) fn bench(runs: usize) -> Result<(), String> {
    run(&mut cargo(&["build", "--release", "--package", "cryopid"]))?;
    let folder = Folder::new()?;
    let mut criu =
        if is_installed("criu") && is_root() { Ok(()) } else { Err("it is not installed, or this is not root".into()) };
    println!("least / median of {runs} runs; images on a tmpfs");
    let mut over = Vec::new();
    for (name, words) in VICTIMS {
        let ours = measure(&folder, &words, runs, cryopid_once)?;
        let other = criu.clone().and_then(|()| measure(&folder, &words, runs, criu_once));
        print(name, &ours, other.as_ref().ok());
        criu = other.map(drop);
        if words[0] == "memory" {
            over = kept(&ours);
        }
    }
    if let Err(why) = criu {
        println!("\nno comparison with CRIU: {why}");
    }
    if over.is_empty() { Ok(()) } else { Err(format!("small process: {}", over.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_order() {
        let mut times = Times::default();
        [3.0, 1.0, 2.04].into_iter().for_each(|t| times.add(t));
        assert_eq!(times.to_string(), "1.0 / 2.0");
    }

    #[test]
    fn numbers_are_read() {
        let json = r#"{"event":"frozen","paused_seconds":0.0021,"pid":42}"#;
        assert_eq!((number(json, "paused_seconds"), number(json, "pid")), (Some(0.0021), Some(42.0)));
        assert_eq!(number(json, "seconds"), None);
    }

    #[test]
    fn limits_are_kept_or_not() {
        let of = |freeze: f64| Measured {
            freeze: Times(vec![freeze]),
            pause: Times(vec![1.0]),
            thaw: Times(vec![9.0]),
            size: 0,
        };
        assert_eq!((kept(&of(9.9)).len(), kept(&of(10.1)).len()), (0, 1));
    }
}
