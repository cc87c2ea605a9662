//! Terminal: a description of the controlling terminal.
//!
//! - seen as    a path, `st_mode` S_IFCHR, the device number of /proc/PID/stat field 7; or /dev/tty (5:0)
//! - captured   flags, settings (termios) and size; when the program has ended, what was typed for it and not read yet
//! - recreated  the terminal in which the thaw runs is opened in its place; it gets the settings when the program had the
//!   foreground, and loses them again when the program stops or ends; what was typed is typed there
//! - refused    any other terminal, and a thaw where there is no terminal
//! - not kept   what was typed and not read yet, by a snapshot, or where the image goes to standard output: it stays with the old
//!   terminal, and that is told

use super::{Kind, S_IFCHR, Seen, common_refusals, flags};
use crate::list::encode;
use crate::tree::process::Fd;
use crate::{
    At, Blob, Capturing, Description, Model, Planning, ProcessModel, ProcessState, Resource, Text, ThreadState, Trouble,
};
use abi::consts::fd::AT_FDCWD;
use abi::consts::ioctl::{TCGETS, TIOCGWINSZ, TIOCINQ};
use abi::layout::{Termios, Winsize};
use abi::{Arg, Call, Sys};
use image::{Damage, Section};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, HostEffect, Moment, Op, Pid, Refusal, Typing, Value};
use serde::{Deserialize, Serialize};

pub(super) const DEV_TTY: (u32, u32) = (5, 0);

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Tty {
    /// Access mode and status flags (open(2)).
    #[n(0)]
    pub flags: u32,
    /// Whether it is /dev/tty, the name that always means the controlling terminal.
    #[n(1)]
    pub by_role: bool,
    /// The settings, as TCGETS gives them.
    #[n(2)]
    pub termios: Blob,
    /// Rows and columns.
    #[n(3)]
    pub window: (u16, u16),
}

/// What was typed and not read yet. It is read when the program has ended, and is no record: see [`Model::typed`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Typed {
    /// Whole lines, each as a read gives it: one without a newline was ended by the character for the end of the file.
    #[n(0)]
    pub lines: Vec<Text>,
    /// What is no whole line yet; all of it where the terminal does not work by lines.
    #[n(1)]
    pub rest: Text,
    /// Whether the terminal hid it, as a password.
    #[n(2)]
    pub hidden: bool,
    /// What waits in pseudo-terminals of the tree.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Waiting>,
}

/// What waits in a pseudo-terminal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Waiting {
    /// Its number.
    #[n(0)]
    pub pts: u32,
    /// Of what was written into the master, whole lines: see [`Typed`].
    #[n(1)]
    pub lines: Vec<Text>,
    /// The rest of that.
    #[n(2)]
    pub rest: Text,
    /// What can be read from the master.
    #[n(3)]
    pub shown: Text,
}

impl Typed {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.is_untouched() && self.own.is_empty()
    }

    /// Whether nothing was typed by anybody outside.
    pub fn is_untouched(&self) -> bool {
        self.lines.is_empty() && self.rest.0.is_empty()
    }

    /// As it stands in the image.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// From the image.
    pub fn from_bytes(bytes: &[u8]) -> Result<Typed, Damage> {
        let damage = |e: minicbor::decode::Error| Damage::Record { tag: Section::LATE, id: 0, why: e.to_string() };
        minicbor::decode(bytes).map_err(damage)
    }

    /// What somebody would type to have it there.
    fn keys(&self) -> Vec<u8> {
        [line_keys(&self.lines), quoted(&self.rest.0)].concat()
    }

    /// In words, for whoever typed it.
    pub fn told(&self) -> String {
        let keys = self.keys();
        match self.hidden {
            true => format!("{} keys that the terminal did not show", keys.len()),
            false => format!("\"{}\"", keys.escape_ascii()),
        }
    }
}

/// Whole lines as keys.
pub(super) fn line_keys(lines: &[Text]) -> Vec<u8> {
    let line = |line: &Text| match line.0.strip_suffix(b"\n") {
        Some(text) => [&quoted(text), &b"\n"[..]].concat(),
        None => [&quoted(&line.0), &[Typing::END][..]].concat(),
    };
    lines.iter().flat_map(line).collect()
}

/// Bytes as keys, of which none means anything but itself.
pub(super) fn quoted(bytes: &[u8]) -> Vec<u8> {
    let means = |byte| matches!(byte, b'\n' | Typing::QUOTE | Typing::END);
    bytes.iter().flat_map(|byte| means(*byte).then_some(Typing::QUOTE).into_iter().chain([*byte])).collect()
}

impl Resource for Tty {
    const NAME: &'static str = "tty";
}

pub(super) fn device(seen: &Seen) -> (u32, u32) {
    (abi::proc::major(seen.stat.rdev), abi::proc::minor(seen.stat.rdev))
}

impl Model {
    /// The processes that had the foreground of their terminal.
    pub(crate) fn in_foreground(&self) -> impl Iterator<Item = &ProcessModel> {
        self.processes.iter().filter(|p| has_foreground(&p.states))
    }

    /// The process, and the descriptor of it, by which the terminal can be found in which somebody types for the tree: one that
    /// has the foreground, and can read it.
    pub fn keyboard(&self) -> Option<(u32, u32)> {
        self.in_foreground().find_map(|p| self.keyboard_of(p).map(|number| (p.process.pid, number)))
    }

    fn keyboard_of(&self, p: &ProcessModel) -> Option<u32> {
        let tty = |fd: &Fd| match &self.descriptions[&fd.description] {
            Description::Tty(tty) => Some((fd.number, tty)),
            _ => None,
        };
        let all: Vec<(u32, &Tty)> = p.process.fds.iter().filter_map(tty).collect();
        let reads = all.iter().any(|(_, tty)| tty.flags & flags::ACCMODE != flags::WRONLY);
        // /dev/tty is another terminal for whoever else opens it.
        let named = all.iter().find(|(_, tty)| !tty.by_role).or(all.first());
        named.filter(|_| reads).map(|(number, _)| *number)
    }
}

fn has_foreground(states: &[ProcessState]) -> bool {
    states.iter().any(|s| matches!(s, ProcessState::Session(s) if s.foreground))
}

/// Tells what the terminal keeps. TIOCINQ counts whole lines only where the terminal works by lines (n_tty.c, `inq_canon`).
fn note_typed(seen: &Seen, settings: &[u8], from: &mut Capturing<'_>) -> Result<(), Trouble> {
    const ICANON: u32 = 2;
    let stat = abi::proc::stat(&from.probe.text("stat")?)?;
    let call = Call::new(Sys::Ioctl, [Arg::Int(seen.fd.into()), Arg::Int(TIOCINQ), Arg::Out(4)]);
    let answer = from.probe.calls(&[call])?.remove(0);
    let waiting = answer.result.ok().and_then(|_| answer.out[0].first_chunk()).map_or(0, |n| i32::from_ne_bytes(*n));
    if i64::from(stat.tpgid) != i64::from(stat.pgrp) || seen.flags() & flags::ACCMODE == flags::WRONLY {
        return Ok(());
    }
    if waiting > 0 {
        from.note("terminal", format!("{waiting} bytes were typed and not read yet: they stay in its terminal"));
    } else if Termios::from_bytes(settings).is_some_and(|t| t.lflag & ICANON != 0) {
        from.note("terminal", "a line that is being typed, if there is one, stays in its terminal");
    }
    Ok(())
}

impl Kind for Tty {
    const FLIES: bool = false;

    fn knows(seen: &Seen) -> bool {
        let own = seen.terminal == Some(device(seen));
        seen.file_type() == S_IFCHR && !seen.names_only() && (own || device(seen) == DEV_TTY)
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let ioctl = |request, len| Call::new(Sys::Ioctl, [Arg::Int(seen.fd.into()), Arg::Int(request), Arg::Out(len)]);
        let answers = from.probe.calls(&[ioctl(TCGETS, Termios::SIZE), ioctl(TIOCGWINSZ, Winsize::SIZE)])?;
        if answers.iter().any(|a| a.result.is_err()) {
            let why = "this terminal was hung up";
            return Err(seen
                .refuse(why, "the program has lost its terminal; end it, or let it close the descriptor")
                .into());
        }
        if !from.keep.typed {
            note_typed(seen, &answers[0].out[0], from)?;
        }
        let size = Winsize::from_bytes(&answers[1].out[0]).unwrap_or_default();
        Ok(Tty {
            flags: seen.flags(),
            by_role: device(seen) == DEV_TTY,
            termios: Blob(answers[0].out[0].clone()),
            window: (size.row, size.col),
        })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let Some(terminal) = to.to.host.terminal.clone() else {
            if !to.to.refused("terminal") {
                let why = "the program lives on a terminal and there is none here";
                to.to.refuse(Refusal::new("terminal", why, "thaw it in a terminal, or under script(1)"));
            }
            return;
        };
        let path = if self.by_role { b"/dev/tty".to_vec() } else { terminal.path };
        let path = Value::Bytes(crate::Text(path).c_string());
        let args = vec![AT_FDCWD.into(), path, u64::from(self.flags | flags::NOCTTY).into(), 0.into()];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
        let detached = to.to.options.standing == plan::Standing::Detached;
        let typing = if first_tty(to) == Some(descr) { typing(to) } else { None };
        if detached && first_tty(to) == Some(descr) {
            to.to.note("it goes on in the background of this terminal, from which it cannot read");
        } else if first_tty(to) == Some(descr) {
            let model = to.model;
            let foreground = model.in_foreground().next();
            let settings = foreground.map(|_| self.termios.0.clone());
            let of = Pid(foreground.unwrap_or(&model.processes[0]).process.pid);
            let effect = HostEffect::Terminal { of, settings, typing };
            to.to.step(Moment::Arm, Self::NAME, Actor::Thaw, Op::Host(effect), vec![Fact::Settled], vec![]);
        }
    }
}

/// What is to be typed, if the program is to read the terminal at once: if not, the shell would.
fn typing(to: &mut Planning<'_>) -> Option<Typing> {
    let typed = to.model.typed.as_ref().filter(|typed| !typed.is_untouched())?;
    let threads = to.model.in_foreground().flat_map(|p| &p.threads);
    let stopped = |s: &ThreadState| matches!(s, ThreadState::Signal(s) if s.stopped.is_some());
    let waits = threads.flat_map(|t| &t.states).any(stopped) || to.to.options.standing == plan::Standing::Detached;
    if waits {
        to.to.note(format!("what was typed and not read yet is lost, as it is not to be read now: {}", typed.told()));
    }
    (!waits).then(|| Typing { keys: typed.keys(), told: typed.told() })
}

fn first_tty(to: &Planning<'_>) -> Option<Descr> {
    let mut all = to.model.descriptions.iter();
    all.find(|(_, d)| matches!(d, crate::Description::Tty(_))).map(|(id, _)| Descr(*id))
}
