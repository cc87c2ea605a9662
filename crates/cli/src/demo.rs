//! `demo`: the whole story in five seconds, with a real program in a pseudo-terminal of its own.

use crate::args::DemoArgs;
use engine::{Ending, Error, Request, Silent};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// A program on a pseudo-terminal.
struct Session {
    master: File,
    child: Child,
    /// What it said and nobody listened for yet.
    heard: String,
}

fn fault(call: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::io(call, "the demo", e)
}

impl Session {
    /// Starts a command as the leader of a session on a new terminal (setsid(1) does what takes a process of its own).
    fn start(program: &Path, args: &[&str]) -> Result<Session, Error> {
        let pty = || -> rustix::io::Result<(File, File)> {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let name = ptsname(&master, Vec::new())?;
            let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
            let slave = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
            Ok((master.into(), slave.into()))
        };
        let (master, slave) = pty().map_err(|e| fault("openpt")(e.into()))?;
        let end = || slave.try_clone().map_err(fault("dup"));
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(args);
        command.env("PS1", "$ ").env("TERM", "dumb").env_remove("PROMPT_COMMAND");
        let child = command.stdin(end()?).stdout(end()?).stderr(end()?).spawn().map_err(fault("setsid"))?;
        Ok(Session { master, child, heard: String::new() })
    }

    /// Types a line.
    fn type_line(&mut self, line: &str) -> Result<(), Error> {
        self.master.write_all(format!("{line}\n").as_bytes()).map_err(fault("write"))
    }

    /// What the program says until `until` appears; prints it as it comes.
    fn listen(&mut self, until: &str) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(10);
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Some(at) = self.heard.find(until) {
                self.heard.drain(..at + until.len());
                return Ok(());
            }
            let mut poll = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if rustix::event::poll(&mut poll, Some(&wait)).unwrap_or(0) == 0 {
                continue;
            }
            let n = self.master.read(&mut buffer).map_err(fault("read"))?;
            let text = String::from_utf8_lossy(&buffer[..n]).replace('\r', "");
            show(&text);
            self.heard += &text;
        }
        Err(Error::refuse("demo", format!("the program did not say \"{until}\" in ten seconds"), "try again"))
    }
}

/// Nobody need look.
fn show(text: &str) {
    let _ = crate::say::out(text);
}

fn title(text: &str) {
    show(&format!("\n\x1b[1m{text}\x1b[0m\n"));
}

pub(crate) fn demo(args: &DemoArgs) -> ExitCode {
    // What our own shell left open is nothing that the program of the demo should inherit: a pipe to somebody outside of it
    // would be refused.
    engine::close_inherited();
    match play(&args.output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            crate::say::aside(&format!("\ncryopid: the demo failed: {e}"));
            ExitCode::from(crate::FAULT)
        }
    }
}

fn play(output: &Path) -> Result<(), Error> {
    title("A shell runs on a terminal of its own, and learns something:");
    let mut first = Session::start(Path::new("bash"), &["--norc", "--noprofile", "--noediting", "-i"])?;
    first.listen("$ ")?;
    first.type_line("answer=$((6 * 7)); echo \"I am process $$\"")?;
    first.listen("I am process ")?;
    first.listen("$ ")?;
    let pid = first.child.id() as i32;
    let image = std::path::absolute(output).map_err(fault("getcwd"))?;
    title(&format!("It is frozen:  cryopid freeze {pid} -o {}", output.display()));
    let request = Request {
        tree: engine::Look::at(pid),
        output: Some(image.clone()),
        keep: resources::Keep::default(),
        ending: Ending::End,
    };
    let frozen = engine::freeze(&request, &mut Silent)?;
    show(&format!(
        "{} of memory in {} ms, into a file of {}\n",
        crate::say::bytes(frozen.done.saved),
        frozen.done.took.as_millis(),
        crate::say::bytes(frozen.done.size)
    ));
    // Whoever ended it has taken note of its end, too, as it was our own child.
    let _ = first.child.wait();
    let gone = if Path::new(&format!("/proc/{pid}")).exists() { "still there" } else { "gone" };
    show(&format!("process {pid} is {gone}; its terminal closes\n"));
    drop(first);
    let at = if output.is_absolute() { "" } else { "./" };
    title(&format!("The file is run, on another terminal:  {at}{}", output.display()));
    let mut second = Session::start(&image, &[])?;
    second.type_line("echo \"I am process $$ and the answer is $answer\"")?;
    second.listen("the answer is 42")?;
    second.listen("$ ")?;
    second.type_line("exit 7")?;
    let status = second.child.wait().map_err(fault("wait"))?;
    title(&format!("It went on where it stood, and ended as it was told: {status}."));
    show(&format!("{} is yours to play with: run it as often as you like.\n", output.display()));
    Ok(())
}
