//! A pseudo-terminal with a program in it, and a hand that types and an eye that reads.

use crate::process::{self, Owned};
use crate::{Outcome, fine};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long an answer may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Who has said nothing for so long has drawn all that he wanted to.
const REST: Duration = Duration::from_millis(100);

/// Rows and columns.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u16, pub u16);

/// The terminal in which programs start.
pub const FIRST: Size = Size(24, 80);
/// The terminal in which images are executed: another size, so that programs notice.
pub const SECOND: Size = Size(30, 100);

/// A terminal, and the program that was started in it.
pub struct Terminal {
    master: File,
    /// The program that was started.
    pub program: Owned,
    /// The device number of the terminal.
    pub device: u32,
    seen: Vec<u8>,
    /// Where the next `expect` begins to look.
    mark: usize,
    screen: vt100::Parser,
}

impl Terminal {
    /// Opens a terminal and starts a command in it; the command itself must take the terminal (`specimen launch`).
    ///
    /// # Errors
    /// No terminal can be had, or the program cannot be started.
    pub fn open(mut command: Command, size: Size) -> Result<Terminal, String> {
        let master = fine("openpt", openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC))?;
        fine("grantpt", grantpt(&master))?;
        fine("unlockpt", unlockpt(&master))?;
        let name = fine("ptsname", ptsname(&master, Vec::new()))?.to_string_lossy().into_owned();
        let side = fine(
            &name,
            rustix::fs::open(
                &*name,
                rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            ),
        )?;
        let side = File::from(side);
        let device = fine(&name, side.metadata())?.rdev();
        let master = File::from(master);
        resize(&master, size)?;
        let copy = || fine("dup", side.try_clone()).map(Stdio::from);
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        let program = process::start(&mut command)?;
        let screen = vt100::Parser::new(cells(size.0), cells(size.1), 0);
        // proc_pid_stat(5) and stat(2) agree for the numbers of pseudo-terminals.
        Ok(Terminal { master, program, device: device as u32, seen: Vec::new(), mark: 0, screen })
    }

    /// A second hold on the terminal: its number is not given to another while that lasts.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn hold(&self) -> Result<File, String> {
        fine("dup", self.master.try_clone())
    }

    /// Makes it root's alone.
    ///
    /// # Errors
    /// This is not root.
    pub fn disown(&self) -> Outcome {
        let name = fine("ptsname", ptsname(&self.master, Vec::new()))?.to_string_lossy().into_owned();
        fine("chown", std::os::unix::fs::chown(&name, Some(0), Some(0)))?;
        fine("chmod", std::fs::set_permissions(&name, Permissions::from_mode(0o600)))
    }

    /// Gives the terminal another size; the kernel tells the foreground group.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&mut self, size: Size) -> Outcome {
        self.screen.screen_mut().set_size(cells(size.0), cells(size.1));
        resize(&self.master, size)
    }

    /// Types.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&mut self, keys: &str) -> Outcome {
        fine("type", self.master.write_all(keys.as_bytes()))
    }

    /// Reads what there is within the time; `false` when the terminal has hung up.
    fn listen(&mut self, time: Duration) -> bool {
        let wait =
            rustix::event::Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
        let mut entries = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut entries, Some(&wait)).unwrap_or(0) == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.seen.extend_from_slice(&bytes[..count]);
        self.screen.process(&bytes[..count]);
        count > 0
    }

    /// Reads until something holds.
    fn wait_for<T>(
        &mut self,
        what: &str,
        time: Duration,
        mut holds: impl FnMut(&mut Terminal) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + time;
        loop {
            if let Some(found) = holds(self) {
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(format!("no {what} within {time:?}; {}", self.tail()));
            }
            if !self.listen(Duration::from_millis(50)) {
                return self.after_hangup(what, &mut holds);
            }
        }
    }

    fn after_hangup<T>(&mut self, what: &str, holds: &mut impl FnMut(&mut Terminal) -> Option<T>) -> Result<T, String> {
        let found = holds(self);
        found.ok_or_else(|| {
            format!(
                "no {what} before the terminal hung up (exit status {:?}); {}",
                self.program.end_within(Duration::from_secs(1)),
                self.tail()
            )
        })
    }

    /// Waits for a text in what was not yet matched, for so long at most.
    ///
    /// # Errors
    /// It did not come.
    pub fn expect_within(&mut self, text: &str, time: Duration) -> Outcome {
        self.wait_for(&format!("{text:?}"), time, |terminal| terminal.find(&[text])).map(drop)
    }

    /// Waits for one of some texts in what was not yet matched, and tells which it was.
    ///
    /// # Errors
    /// None of them came.
    pub fn expect_one(&mut self, texts: &[&str]) -> Result<usize, String> {
        self.wait_for(&format!("{texts:?}"), PATIENCE, |terminal| terminal.find(texts))
    }

    fn find(&mut self, texts: &[&str]) -> Option<usize> {
        let fresh = String::from_utf8_lossy(&self.seen[self.mark..]).into_owned();
        let (at, which) =
            texts.iter().enumerate().filter_map(|(which, text)| Some((fresh.find(text)? + text.len(), which))).min()?;
        // Lossy text may be longer than the bytes: then the mark stays at their end.
        self.mark = (self.mark + at).min(self.seen.len());
        Some(which)
    }

    /// Waits for a text.
    ///
    /// # Errors
    /// It did not come.
    pub fn expect(&mut self, text: &str) -> Outcome {
        self.expect_one(&[text]).map(drop)
    }

    /// Waits until the screen shows a text.
    ///
    /// # Errors
    /// It never did.
    pub fn shows(&mut self, text: &str) -> Outcome {
        let what = format!("{text:?} on the screen");
        let outcome =
            self.wait_for(&what, PATIENCE, |terminal| terminal.screen.screen().contents().contains(text).then_some(()));
        outcome.map_err(|reason| format!("{reason}; the screen: {:?}", self.screen.screen().contents()))?;
        self.rests();
        Ok(())
    }

    /// Listens until nothing is said for a while: who is drawing still may lose a key. nano(1) does, if its terminal is resized in
    /// the moment in which it is pressed.
    fn rests(&mut self) {
        let (end, mut before) = (Instant::now() + PATIENCE, usize::MAX);
        while self.seen.len() != before && Instant::now() < end {
            before = self.seen.len();
            self.listen(REST);
        }
    }

    /// Waits for the end of the program that was started here.
    ///
    /// # Errors
    /// It does not end.
    pub fn exit(&mut self) -> Result<i32, String> {
        let end = Instant::now() + PATIENCE;
        while self.program.ended().is_none() && Instant::now() < end {
            if !self.listen(Duration::from_millis(5)) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        while self.listen_now() {}
        self.program.ended().ok_or_else(|| format!("{} does not end; {}", self.program.pid(), self.tail()))
    }

    fn listen_now(&mut self) -> bool {
        let before = self.seen.len();
        self.listen(Duration::ZERO) && self.seen.len() > before
    }

    /// Everything that was said here.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn tail(&self) -> String {
        let from = self.seen.len().saturating_sub(600);
        format!("the terminal's last words: {:?}", String::from_utf8_lossy(&self.seen[from..]))
    }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has rows and columns")
}

fn resize(master: &File, Size(rows, columns): Size) -> Outcome {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    fine("TIOCSWINSZ", tcsetwinsize(master, size))
}
