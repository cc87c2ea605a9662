//! A thaw in the foreground stands for the program that it brought back, as a job of its shell: it hands it the terminal,
//! stops when it stops, goes on when the shell says so, and ends with its exit status.

use crate::Thawed;
use crate::typed::retype;
use abi::proc;
use rustix::process::Pid;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use std::fs::File;
use std::os::fd::AsFd;
use tracee::job::{self, Event};
use tracee::procfs::{numbers, read};

/// The terminal while the tree has it. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    terminal: File,
    /// The first process of the tree.
    root: i32,
    /// The group of the tree that has the foreground, or had it last.
    group: Pid,
    /// The settings that it had before.
    before: Option<Termios>,
    /// The settings that the tree has, while it is stopped.
    its: Option<Termios>,
    keep: Keep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    Undo,
    Handed,
}

/// What a terminal of these settings gets from the kernel's settings in bytes, as another terminal gave them. Speed and
/// character size belong to the line, not to the program.
fn with_settings(mut termios: Termios, settings: &[u8]) -> Option<Termios> {
    let kernel = abi::layout::Termios::from_bytes(settings)?;
    termios.input_modes = rustix::termios::InputModes::from_bits_retain(kernel.iflag);
    termios.output_modes = rustix::termios::OutputModes::from_bits_retain(kernel.oflag);
    termios.local_modes = rustix::termios::LocalModes::from_bits_retain(kernel.lflag);
    for (n, byte) in kernel.cc.iter().enumerate() {
        if let Some(index) = special(n) {
            termios.special_codes[index] = *byte;
        }
    }
    Some(termios)
}

/// The special characters of termios(3), by their numbers on Linux.
pub(crate) fn special(n: usize) -> Option<rustix::termios::SpecialCodeIndex> {
    use rustix::termios::SpecialCodeIndex as S;
    let all = [
        S::VINTR,
        S::VQUIT,
        S::VERASE,
        S::VKILL,
        S::VEOF,
        S::VTIME,
        S::VMIN,
        S::VSWTC,
        S::VSTART,
        S::VSTOP,
        S::VSUSP,
        S::VEOL,
        S::VREPRINT,
        S::VDISCARD,
        S::VWERASE,
        S::VLNEXT,
        S::VEOL2,
    ];
    all.get(n).copied()
}

/// The process group of a process, if it is of our pid namespace: who comes into one (nsenter(1)) may have left its own outside.
fn group_of(pid: i32) -> Option<Pid> {
    tracee::sys::group(pid).and_then(Pid::from_raw)
}

/// Our own process group, likewise.
fn our_group() -> Option<Pid> {
    group_of(0)
}

impl Held {
    /// Hands the terminal to the group of process `of` of the tree below `root`, with those settings, if it is ours to give.
    pub(crate) fn take(root: i32, of: i32, settings: Option<&[u8]>) -> Option<Held> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let group = group_of(of)?;
        let mut held = Held { before: tcgetattr(&terminal).ok(), terminal, root, group, its: None, keep: Keep::Undo };
        let its = settings.zip(held.before.clone()).and_then(|(settings, here)| with_settings(here, settings));
        if held.is_ours() {
            if let Some(its) = its {
                let _ = tcsetattr(&held.terminal, OptionalActions::Now, &its);
            }
            let _ = tcsetpgrp(&held.terminal, group);
        } else {
            // In the background: the tree gets its settings when it comes to the foreground.
            held.its = its;
        }
        Some(held)
    }

    /// Types, if the terminal is the tree's: in the background it would be somebody else who reads it.
    pub(crate) fn retype(&self, keys: &[u8]) -> Result<(), String> {
        match self.is_ours() {
            true => retype(&self.terminal, keys),
            false => Err("the program is in the background".into()),
        }
    }

    pub(crate) fn keep(mut self) -> Held {
        self.keep = Keep::Handed;
        self
    }

    /// Whether our own group, or one of the tree, is in the foreground.
    fn is_ours(&self) -> bool {
        let ours = |g| Some(g) == our_group() || g == self.group || is_of_tree(g, self.root);
        tcgetpgrp(self.terminal.as_fd()).is_ok_and(ours)
    }

    /// Whether the shell brought us to the foreground without a word, as bash does with a job that ran in the background.
    fn was_brought_forward(&self) -> bool {
        let ours = our_group().filter(|ours| *ours != self.group);
        ours.is_some() && tcgetpgrp(self.terminal.as_fd()).ok() == ours
    }

    /// A program that draws its own screen does it anew only when the size changes (curses(3)): so it changes, twice.
    fn repaint(&self) {
        let drawing =
            tcgetattr(&self.terminal).is_ok_and(|t| !t.local_modes.contains(rustix::termios::LocalModes::ICANON));
        let Ok(size) = rustix::termios::tcgetwinsize(&self.terminal) else { return };
        if !drawing || !self.is_ours() || size.ws_row < 2 {
            return;
        }
        let smaller = rustix::termios::Winsize { ws_row: size.ws_row - 1, ..size };
        let _ = rustix::termios::tcsetwinsize(&self.terminal, smaller);
        std::thread::sleep(REPAINT);
        let _ = rustix::termios::tcsetwinsize(&self.terminal, size);
    }

    /// The terminal as it was before, in our own hands.
    fn give_back(&mut self) {
        if self.is_ours() {
            // A shell in the tree may have handed it on meanwhile.
            self.group = tcgetpgrp(&self.terminal).ok().filter(|g| Some(*g) != our_group()).unwrap_or(self.group);
            self.its = tcgetattr(&self.terminal).ok();
            if let Some(before) = &self.before {
                let _ = tcsetattr(&self.terminal, OptionalActions::Now, before);
            }
            if let Some(ours) = our_group() {
                let _ = tcsetpgrp(&self.terminal, ours);
            }
        }
    }

    /// The tree gets it again, if the shell gave it to us.
    fn hand_over(&mut self) {
        if !self.is_ours() {
            return;
        }
        if tcgetpgrp(self.terminal.as_fd()).is_ok_and(|g| Some(g) == our_group()) {
            self.before = tcgetattr(&self.terminal).ok();
        }
        if let Some(its) = self.its.take() {
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &its);
        }
        let _ = tcsetpgrp(&self.terminal, self.group);
    }
}

/// Whether a process of the group stands below `root`, or is it. The group of a tree need not be led by one of it any more.
fn is_of_tree(group: Pid, root: i32) -> bool {
    let group = group.as_raw_nonzero().get();
    let stat = |pid: u32| proc::stat(&read(format!("/proc/{pid}/stat")).ok()?).ok();
    let parent = |pid: &u32| stat(*pid).map(|s| s.ppid).filter(|pid| *pid > 1);
    let below = |pid: u32| std::iter::successors(Some(pid), parent).any(|pid| pid == root as u32);
    let is_in_it = |pid: &u32| stat(*pid).is_some_and(|s| s.pgrp == group as u32);
    numbers("/proc").filter(is_in_it).any(below)
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.keep == Keep::Undo {
            self.give_back();
        }
    }
}

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

const SIGWINCH: i32 = 28;
const SIGCONT: i32 = 18;
const SIGTTOU: i32 = 22;
const SIGTTIN: i32 = 21;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;

/// Time for a program to see that the size of its terminal changed.
const REPAINT: std::time::Duration = std::time::Duration::from_millis(30);

/// Waits for the program's end, as its shell's job. Signals that come to us are passed on.
pub fn stand_for(mut thawed: Thawed) -> Outcome {
    let _ = job::block_all();
    tracee::here::give_back_memory();
    let pid = thawed.pid;
    if let Some(held) = &thawed.terminal {
        // Whatever was on the old terminal, this one shows something else. Who has none may take that for something else (httpd ends).
        let _ = job::kill(pid, SIGWINCH);
        held.repaint();
    }
    loop {
        match job::next(pid) {
            Event::Exited(status) => {
                give_back(&mut thawed);
                return Outcome::Exited(status);
            }
            Event::Killed(signal) => {
                give_back(&mut thawed);
                // A shell goes on with a loop or a script unless what it runs has died of Ctrl-C itself.
                if thawed.terminal.is_some() && matches!(signal, SIGINT | SIGQUIT) {
                    job::end_self(signal);
                }
                return Outcome::Killed(signal);
            }
            Event::Stopped(SIGTTIN | SIGTTOU) if thawed.terminal.as_ref().is_some_and(Held::was_brought_forward) => {
                go_on(&mut thawed);
            }
            Event::Stopped(signal) => {
                let held = thawed.terminal.as_ref();
                let behind = matches!(signal, SIGTTIN | SIGTTOU) && held.is_some_and(|held| !held.is_ours());
                give_back(&mut thawed);
                // Who was in the background, and is not any more, was brought forward just now.
                if !(behind && thawed.terminal.as_ref().is_some_and(Held::was_brought_forward)) {
                    job::stop_self(signal);
                }
                go_on(&mut thawed);
            }
            Event::Signal(SIGCONT) => go_on(&mut thawed),
            Event::Typed(signal) => typed(&thawed, signal),
            // What the terminal says of jobs it says to the program's own group.
            Event::Signal(SIGTTOU | SIGTTIN | SIGWINCH) => {}
            Event::Signal(signal) if job::ignored(signal) => {}
            Event::Signal(signal) => {
                let _ = job::kill(pid, signal);
            }
        }
    }
}

/// The terminal sent it to our group: the program has it too if it is in that group, and is to have it if it is not.
fn typed(thawed: &Thawed, signal: i32) {
    let same_group = tracee::sys::group(thawed.pid) == tracee::sys::group(0);
    if !same_group && !job::ignored(signal) && !matches!(signal, SIGWINCH | SIGTTIN | SIGTTOU) {
        let _ = job::kill(thawed.pid, signal);
    }
}

fn give_back(thawed: &mut Thawed) {
    if let Some(held) = &mut thawed.terminal {
        held.give_back();
    }
}

fn go_on(thawed: &mut Thawed) {
    if let Some(held) = &mut thawed.terminal {
        held.hand_over();
    }
    let Some(held) = &thawed.terminal else {
        let _ = job::kill(thawed.pid, SIGCONT);
        return;
    };
    let of_root = group_of(thawed.pid).unwrap_or(held.group);
    let groups = if of_root == held.group { vec![of_root] } else { vec![of_root, held.group] };
    groups.into_iter().for_each(|group| _ = job::kill(-group.as_raw_nonzero().get(), SIGCONT));
}
