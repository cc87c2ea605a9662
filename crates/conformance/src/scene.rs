//! The place of one test: a directory, a uid, a tag in the environment of everything started here.
//!
//! A process belongs to the scene when its environment has the tag (a thawed program has it too: its memory is kept), or
//! its terminal is one of the scene's. What is left at the end of a test is a failure of that test, and is ended.

use crate::kit::Kit;
use crate::process::{self, Owned, Process, until};
use crate::pty::{FIRST, SECOND, Size, Terminal};
use crate::{Outcome, fine};
use rustix::process::Signal;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Becomes the command that it is given, without what whoever runs the harness may have left open.
const ALONE: &str = r#"for fd in /proc/$$/fd/*; do n=${fd##*/}; ((n > 2)) && eval "exec $n>&-"; done; exec "$@""#;

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// One test's place.
pub struct Scene<'a> {
    /// The programs.
    pub kit: &'a Kit,
    /// The working directory of everything in it.
    pub dir: PathBuf,
    /// Whose programs these are.
    pub uid: u32,
    tag: String,
    /// The terminals' device numbers. They are held open to the end, or another scene would get the same numbers.
    terminals: Vec<(u32, File)>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit status, 128+N for a signal.
    pub code: i32,
    /// Standard output and standard error.
    pub text: String,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

impl Said {
    /// The last line that is not empty.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
    }

    /// An expectation about the exit status; the words are part of the complaint. A panic is never fine.
    ///
    /// # Errors
    /// Another status, or a panic.
    pub fn ended_with(self, what: &str, codes: &[i32]) -> Result<Said, String> {
        let panicked = self.text.contains("panicked at");
        if codes.contains(&self.code) && !panicked {
            return Ok(self);
        }
        let tail: Vec<&str> = self.text.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(format!("{what}: expected exit status {codes:?}, seen {}; it said: {}", self.code, tail.join(" / ")))
    }
}

impl<'a> Scene<'a> {
    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(kit: &'a Kit, uid: u32) -> Result<Scene<'a>, String> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = kit.root.join(format!("scene-{number}"));
        fine("mkdir", std::fs::create_dir(&dir))?;
        fine("chown", std::os::unix::fs::chown(&dir, Some(uid), Some(uid)))?;
        Ok(Scene {
            kit,
            dir,
            uid,
            tag: format!("CONFORMANCE_SCENE={}-{number}.", std::process::id()),
            terminals: Vec::new(),
        })
    }

    fn prepared(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let (name, value) = self.tag.split_once('=').expect("the tag is an assignment");
        command.env_clear().env(name, value).env("HOME", &self.dir).env("TERM", "xterm").env("LANG", "C.UTF-8");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").current_dir(&self.dir);
        command
    }

    /// Starts a program in a new terminal.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn open(&mut self, words: &[String], size: Size) -> Result<Terminal, String> {
        let mut command = self.prepared(&self.kit.specimen);
        command.arg("launch").arg(self.uid.to_string()).args(words);
        let terminal = Terminal::open(command, size)?;
        self.terminals.push((terminal.device, terminal.hold()?));
        Ok(terminal)
    }

    /// Starts a specimen in a terminal, and waits until it says ready.
    ///
    /// # Errors
    /// It does not.
    pub fn specimen(&mut self, kind: &str, arguments: &[&str]) -> Result<Terminal, String> {
        let mut words = vec![self.kit.specimen.display().to_string(), kind.to_owned()];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let mut terminal = self.open(&words, FIRST)?;
        terminal.expect("ready\r\n")?;
        Ok(terminal)
    }

    /// Starts a program that has no terminal, in a session of its own, and nothing open but /dev/null.
    ///
    /// # Errors
    /// It does not run within a few seconds.
    pub fn alone(&self, words: &[&str]) -> Result<Owned, String> {
        let mut command = self.prepared(Path::new("/bin/bash"));
        command.args(["-c", ALONE, "bash", "/usr/bin/setsid"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = process::start(&mut command)?;
        let runs = || {
            let name = process::text(program.pid(), "comm");
            (Some(name.trim()) == words[0].rsplit('/').next() && process::state(program.pid()) == "state S")
                .then_some(())
        };
        until(Duration::from_secs(5), runs).ok_or_else(|| format!("{} does not start", words[0]))?;
        Ok(program)
    }

    /// Executes an image in a new terminal.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn thaw(&mut self, image: &Path) -> Result<Terminal, String> {
        self.open(&[image.display().to_string()], SECOND)
    }

    /// The command `cryopid`, not yet started, with its output in a pipe.
    #[must_use]
    pub fn cryopid(&self, words: &[&str]) -> Command {
        self.command(&self.kit.cryopid, words)
    }

    /// Any command, in the same way.
    #[must_use]
    pub fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = self.prepared(program);
        if self.uid != 0 {
            command.uid(self.uid).gid(self.uid);
        }
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `cryopid` to its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub fn run(&self, words: &[&str]) -> Result<Said, String> {
        hear(self.cryopid(words), Duration::from_secs(30))
            .map_err(|reason| format!("cryopid {}: {reason}", words.join(" ")))
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The processes of this scene that are alive.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::all().into_iter().filter(|process| process.state != 'Z' && self.owns(process)).collect()
    }

    fn owns(&self, process: &Process) -> bool {
        self.terminals.iter().any(|(device, _)| *device == process.terminal)
            || process::text(process.pid, "environ").contains(&self.tag)
    }

    /// Those that are the program, not cryopid around it: no other's executable is the image or the command.
    #[must_use]
    pub fn programs(&self) -> Vec<i32> {
        let executable = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let cryopid = |pid: i32| {
            let path = executable(pid);
            let name = path.display().to_string();
            // Between fork and its own exec, the harness's launcher is not the program yet; nor is who execs just now.
            let launching = process::text(pid, "cmdline").contains("\0launch\0") || executable(pid) != path;
            name.contains(".cryo") || name.ends_with("/cryopid") || launching
        };
        self.processes().into_iter().map(|process| process.pid).filter(|pid| !cryopid(*pid)).collect()
    }

    /// Nothing but these may be alive.
    ///
    /// # Errors
    /// Something else still is, ten seconds later.
    pub fn only(&self, expected: &[i32]) -> Outcome {
        let others =
            || self.processes().into_iter().filter(|process| !expected.contains(&process.pid)).collect::<Vec<_>>();
        let gone = until(Duration::from_secs(10), || others().is_empty().then_some(()));
        gone.ok_or_else(|| format!("processes left behind: {:?}", others().iter().map(described).collect::<Vec<_>>()))
    }

    /// Removes what specimens wrote down that outlives them: objects of IPC.
    pub fn forget(&self) {
        let objects = self.path("ipc-objects");
        if objects.exists() {
            let _ = quietly(Command::new(&self.kit.specimen).arg("forget").arg(objects));
        }
    }

    /// The end of the test: what it says, or what it left behind.
    ///
    /// # Errors
    /// The test's own, or a process that is left.
    pub fn close(self, outcome: Outcome) -> Outcome {
        outcome.and_then(|()| self.only(&[]))
    }
}

fn described(process: &Process) -> String {
    let command = process::text(process.pid, "cmdline").replace('\0', " ");
    format!("{} {} {} child of {}", process.pid, process.state, command, process.parent)
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let empty = until(Duration::from_secs(3), || {
            let left = self.processes();
            left.iter().for_each(|process| process::send(process.pid, Signal::KILL));
            left.is_empty().then_some(())
        });
        self.forget();
        if empty.is_some() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs a command to its end and gives what it said.
///
/// # Errors
/// It cannot be started, or does not end in time.
pub fn hear(mut command: Command, time: Duration) -> Result<Said, String> {
    let mut owned = process::start(&mut command)?;
    let (out, error) = (listener(owned.child().stdout.take()), listener(owned.child().stderr.take()));
    let code = owned.end_within(time);
    drop(owned);
    let (out, error) = (out.join().unwrap_or_default(), error.join().unwrap_or_default());
    let text = format!("{out}{error}");
    let complaint = format!("; it said: {text}");
    code.map(|code| Said { code, text, out, error }).map_err(|reason| reason + &complaint)
}

/// Runs a helper of the harness to its end, without a terminal.
///
/// # Errors
/// It cannot be started, or does not end.
pub fn quietly(command: &mut Command) -> Result<Said, String> {
    let command =
        std::mem::replace(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), Command::new(""));
    hear(command, Duration::from_secs(60))
}

fn listener(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
