//! The life of every specimen: say ready, wait in the way the kind waits, answer lines.

use crate::sys::{self, Outcome};
use std::process::ExitCode;

/// How long the program was away, in seconds, as the harness knows it: at least this long.
#[derive(Clone, Copy)]
pub(crate) struct Away(pub(crate) f64);

pub(crate) type Check = Box<dyn FnMut(Away) -> Outcome>;

/// What the main thread does between `ready` and the first line that it reads.
pub(crate) enum Act {
    /// It waits in `read` on the terminal.
    Read,
    /// It makes one call that ends by itself, or by a signal, and then reads.
    Once(Box<dyn FnOnce()>),
    /// It computes, and looks at the terminal in between.
    Busy(Box<dyn FnMut() -> Outcome>),
}

/// A specimen that has set itself up.
pub(crate) struct Living {
    pub(crate) act: Act,
    pub(crate) check: Check,
}

impl Living {
    pub(crate) fn reads(check: impl FnMut(Away) -> Outcome + 'static) -> Result<Living, String> {
        Ok(Living { act: Act::Read, check: Box::new(check) })
    }

    /// The check is told whether it is the first.
    pub(crate) fn reads_at_first(mut check: impl FnMut(bool) -> Outcome + 'static) -> Result<Living, String> {
        let mut first = true;
        Living::reads(move |_| check(std::mem::take(&mut first)))
    }

    pub(crate) fn once(
        act: impl FnOnce() + 'static,
        check: impl FnMut(Away) -> Outcome + 'static,
    ) -> Result<Living, String> {
        Ok(Living { act: Act::Once(Box::new(act)), check: Box::new(check) })
    }

    pub(crate) fn busy(
        act: impl FnMut() -> Outcome + 'static,
        check: impl FnMut(Away) -> Outcome + 'static,
    ) -> Result<Living, String> {
        Ok(Living { act: Act::Busy(Box::new(act)), check: Box::new(check) })
    }
}

pub(crate) fn live(living: Living) -> ExitCode {
    say_ready();
    let mut talk = Talk { check: living.check, trouble: None, buffer: Vec::new(), failed: false };
    match living.act {
        Act::Read => {}
        Act::Once(act) => act(),
        Act::Busy(act) => talk.compute(act),
    }
    talk.listen()
}

fn say_ready() {
    match std::env::var_os("SPECIMEN_READY") {
        Some(file) => std::fs::write(file, "ready\n").expect("the ready file can be written"),
        None => sys::say("ready"),
    }
}

struct Talk {
    check: Check,
    /// What went wrong outside of a check, told at the next one.
    trouble: Option<String>,
    buffer: Vec<u8>,
    failed: bool,
}

impl Talk {
    fn compute(&mut self, mut act: Box<dyn FnMut() -> Outcome>) {
        while self.trouble.is_none() && !sys::readable(0) {
            self.trouble = act().err();
        }
    }

    fn listen(&mut self) -> ExitCode {
        loop {
            match self.next_line().as_deref() {
                Some("quit") => return ExitCode::from(u8::from(self.failed)),
                Some(line) => self.answer(line),
                None => return ExitCode::from(3),
            }
        }
    }

    fn answer(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("check") else {
            return sys::say(&format!("FAIL: a line that is no command: {line:?}"));
        };
        let away = Away(rest.trim().parse().unwrap_or(0.0));
        let outcome = self.trouble.take().map_or_else(|| (self.check)(away), Err);
        self.failed |= outcome.is_err();
        sys::say(&outcome.map_or_else(|reason| format!("FAIL: {reason}"), |()| "ok".into()));
    }

    fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim().to_owned());
            }
            self.read_more()?;
        }
    }

    /// A plain `read`: the library's own would hide an EINTR, which is what a freeze must never cause.
    fn read_more(&mut self) -> Option<()> {
        let mut bytes = [0u8; 256];
        match sys::read(0, &mut bytes) {
            Ok(0) => return None,
            Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            Err(libc::EIO) => return None,
            Err(errno) => self.trouble = Some(format!("read on the terminal: expected a line, seen errno {errno}")),
        }
        Some(())
    }
}
