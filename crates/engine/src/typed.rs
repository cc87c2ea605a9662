//! What was typed and not read yet. It is read when the tree has ended: a tree that runs on never lost it. Where the tree
//! comes back, it is typed again when nothing can fail any more: nobody else ever gets it.

use crate::execute::Quiet;
use crate::output::Published;
use crate::supervise::special;
use crate::tree::{Member, Tree};
use abi::consts::ioctl::{TIOCGDEV, TIOCPKT, TIOCSTI};
use abi::consts::open::{O_NOCTTY, O_NONBLOCK};
use abi::{Arg, Call, Errno, Fault, Sys, proc};
use image::Late;
use plan::Typing;
use resources::{Model, Text, Typed, Waiting};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex as S, Termios, tcgetattr, tcsetattr};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use tracee::procfs::{numbers, read};
use tracee::{Process, here};

/// What a terminal keeps for whoever reads it (drivers/tty/n_tty.c, N_TTY_BUF_SIZE), but for one byte.
const QUEUE: usize = 4095;

/// The terminal of a process. As long as it is open, the end of the program leaves what waits in it.
pub(crate) struct Keyboard {
    terminal: File,
    /// The tree.
    own: BTreeSet<u32>,
    group: u32,
}

impl Keyboard {
    /// On a description of our own; after `su` the terminal is somebody else's, and only what is open can be had.
    fn open(process: &Process, fd: u32, stat: &proc::Stat, own: BTreeSet<u32>) -> io::Result<Keyboard> {
        let pid = process.pid();
        let path = format!("/proc/{pid}/fd/{fd}");
        let ours = File::options().read(true).write(true).custom_flags((O_NOCTTY | O_NONBLOCK) as i32).open(path);
        // Of /dev/tty each has another behind it.
        let ours = ours.ok().filter(|ours| is_terminal(ours, stat));
        let terminal = match ours {
            Some(ours) => ours,
            None => process.descriptor(fd as i32).map_err(|fault| fault.errno)?.into(),
        };
        match is_terminal(&terminal, stat) {
            true => Ok(Keyboard { terminal, own, group: stat.pgrp }),
            false => Err(Errno::ENXIO.into()),
        }
    }

    /// Whether nobody outside of the tree is in the process group: what is typed is for all of it, and for who reads it first.
    fn is_of_one(&self) -> bool {
        let in_it = |other: u32| {
            let stat = read(format!("/proc/{other}/stat")).ok().and_then(|text| proc::stat(&text).ok());
            stat.is_some_and(|s| s.pgrp == self.group && s.state != b'Z')
        };
        !numbers("/proc").filter(|other| !self.own.contains(other)).any(in_it)
    }

    /// Takes out what waits. After an error the rest of it is still there.
    fn take(&self, typed: &mut Typed) -> io::Result<()> {
        take(&self.terminal, &mut typed.lines, &mut typed.rest).map(|hidden| typed.hidden = hidden)
    }

    /// Whether something waits that the kernel tells of without giving it: of what is no line yet it does not tell.
    fn holds_any(&self) -> bool {
        rustix::io::ioctl_fionread(&self.terminal).is_ok_and(|bytes| bytes > 0)
    }
}

/// Takes out what waits to be read from a terminal: whole lines, and the rest. Tells whether lines are hidden from who types them.
fn take(terminal: &File, lines: &mut Vec<Text>, rest: &mut Text) -> io::Result<bool> {
    let settings = tcgetattr(terminal)?;
    let by_lines = settings.local_modes.contains(LocalModes::ICANON);
    if by_lines {
        read_all(terminal, |line| lines.push(Text::from(line)))?;
    }
    // Where a terminal does not work by lines, what is no line yet can be read too (n_tty.c, n_tty_set_termios).
    let mut by_bytes = settings.clone();
    by_bytes.local_modes.remove(LocalModes::ICANON);
    (by_bytes.special_codes[S::VMIN], by_bytes.special_codes[S::VTIME]) = (1, 0);
    tcsetattr(terminal, OptionalActions::Now, &by_bytes)?;
    let taken = read_all(terminal, |bytes| rest.0.extend(bytes));
    tcsetattr(terminal, OptionalActions::Now, &settings)?;
    taken.map(|()| by_lines && !settings.local_modes.contains(LocalModes::ECHO))
}

fn has_input(terminal: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// Reads until there is nothing more. An empty line is an end of file; a terminal that was hung up gives no end of them.
fn read_all(mut terminal: &File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; QUEUE + 1];
    for _ in 0..=QUEUE {
        // Its description may be one that waits.
        if !has_input(terminal)? {
            return Ok(());
        }
        match terminal.read(&mut buffer) {
            Ok(n) => each(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EIO.into())
}

/// A pseudo-terminal of the tree. As long as both ends are open, the end of the program leaves what waits in it.
pub(crate) struct Own {
    pts: u32,
    /// The master, and a slave.
    ends: [Option<File>; 2],
}

impl Own {
    fn take(&self) -> (Waiting, io::Result<()>) {
        let mut waiting = Waiting { pts: self.pts, ..Waiting::default() };
        let [master, slave] = &self.ends;
        let typed = slave.iter().try_for_each(|slave| take(slave, &mut waiting.lines, &mut waiting.rest).map(drop));
        let shown = master.iter().try_for_each(|master| {
            let data_only = [Arg::Int(master.as_raw_fd() as u64), Arg::Int(TIOCPKT), Arg::Bytes(vec![0; 4])];
            here::call(&Call::new(Sys::Ioctl, data_only)).result?;
            read_all(master, |bytes| waiting.shown.0.extend(bytes))
        });
        // Where no slave is open, there is nothing more behind what waits (drivers/tty/n_tty.c, n_tty_read).
        let shown = shown.or_else(|e| if e.raw_os_error() == Some(Errno::EIO.0) { Ok(()) } else { Err(e) });
        (waiting, typed.and(shown))
    }
}

/// The pseudo-terminals of the tree.
pub(crate) fn own(model: &Model, tree: &Tree) -> Result<Vec<Own>, Fault> {
    let copy = |(pid, fd): (u32, u32)| {
        let process = member(tree, pid).and_then(|m| m.process.as_ref());
        process.map(|process| process.descriptor(fd as i32).map(File::from)).transpose()
    };
    let ends = |of: [Option<(u32, u32)>; 2]| {
        let [master, slave] = of.map(|end| end.map_or(Ok(None), copy));
        Ok::<_, Fault>([master?, slave?])
    };
    model.own_terminals().into_iter().map(|(pts, of)| Ok(Own { pts, ends: ends(of)? })).collect()
}

fn member(tree: &Tree, pid: u32) -> Option<&Member> {
    tree.members.iter().find(|m| m.status.ns_pid.last().copied().unwrap_or(m.pid as u32) == pid)
}

/// Whether it is the controlling terminal of that process (ioctl_tty(2), TIOCGDEV).
fn is_terminal(file: &File, stat: &proc::Stat) -> bool {
    let call = Call::new(Sys::Ioctl, [Arg::Int(file.as_raw_fd() as u64), Arg::Int(TIOCGDEV), Arg::Out(4)]);
    let told = here::call(&call);
    let device = told.out.first().and_then(|out| out[..].try_into().ok()).map_or(0, u32::from_ne_bytes);
    told.result.is_ok() && Some((proc::major(device.into()), proc::minor(device.into()))) == stat.terminal
}

/// Room in the image for what a terminal keeps.
pub(crate) const LATE: u64 = 16 << 10;
/// The same of one of the tree's own, of which both ends, and what leads there (tty_buffer.c), keep something.
pub(crate) const OWN: u64 = 64 << 10;

/// The terminal in which somebody types for the tree, if there is one.
pub(crate) fn keyboard(model: &Model, tree: &Tree) -> Option<io::Result<Keyboard>> {
    let (pid, fd) = model.keyboard()?;
    let member = member(tree, pid)?;
    Some(Keyboard::open(member.process.as_ref()?, fd, &member.stat, tree.ids()))
}

/// Of a tree that has ended, what was typed for it and not read goes into its image, and what waits in its own terminals. What does
/// not get there is told.
pub(crate) fn keep_typed(
    keyboard: Option<io::Result<Keyboard>>,
    own: &[Own],
    image: &Published,
    late: Late,
) -> Vec<String> {
    // Ctrl-C between the read and the write would lose it; and whoever is in the background of this terminal and blocks
    // SIGTTIN is told so by an error (tty_jobctrl.c).
    let _quiet = Quiet::new();
    let (mut typed, mut notes) = (Typed::default(), Vec::new());
    for (waiting, taken) in own.iter().map(Own::take) {
        notes.extend(
            taken.err().map(|e| {
                format!("what waits in /dev/pts/{} may not be in the image ({})", waiting.pts, Errno::from(e))
            }),
        );
        let is_empty = waiting.lines.is_empty() && waiting.rest.0.is_empty() && waiting.shown.0.is_empty();
        typed.own.extend((!is_empty).then_some(waiting));
    }
    let what = "what was typed and not read yet";
    let taken = match keyboard {
        Some(Ok(keyboard)) if !keyboard.is_of_one() => {
            let why = "others are in the process group for which it was typed";
            notes.extend(keyboard.holds_any().then(|| format!("{what} is not in the image: {why}")));
            Ok(())
        }
        Some(keyboard) => keyboard.and_then(|keyboard| keyboard.take(&mut typed)),
        None => Ok(()),
    };
    let kept = if typed.is_empty() { Ok(()) } else { image.fill(late, &typed.to_bytes()) };
    notes.extend(match (taken, kept) {
        (Ok(()), Ok(())) => None,
        (Err(e), Ok(())) => {
            Some(format!("{what} may not be in the image: its terminal cannot be read ({})", Errno::from(e)))
        }
        (_, Err(e)) => Some(format!("{what} is lost ({e}): {}", typed.told())),
    });
    notes
}

/// Types into our terminal, as its user would. What it echoes, it echoes. Or tells why not.
pub(crate) fn retype(terminal: &File, keys: &[u8]) -> Result<(), String> {
    let failed = |e: rustix::io::Errno| Errno(e.raw_os_error()).to_string();
    let waiting = rustix::io::ioctl_fionread(terminal).map_err(failed)?;
    // What is too much for a terminal is lost without an error (n_tty.c, n_tty_receive_buf_common).
    if waiting as usize + keys.len() > QUEUE {
        return Err("it is more than a terminal keeps".into());
    }
    let settings = tcgetattr(terminal).map_err(failed)?;
    tcsetattr(terminal, OptionalActions::Now, &literal(&settings)).map_err(failed)?;
    let all = keys.iter().try_for_each(|key| press(terminal, *key));
    tcsetattr(terminal, OptionalActions::Now, &settings).map_err(failed)?;
    all
}

fn press(terminal: &File, key: u8) -> Result<(), String> {
    let args = [Arg::Int(terminal.as_raw_fd() as u64), Arg::Int(TIOCSTI), Arg::Bytes(vec![key])];
    match here::call(&Call::new(Sys::Ioctl, args)).result {
        Ok(_) => Ok(()),
        // drivers/tty/tty_io.c, tiocsti.
        Err(Errno::EIO) => Err("only root may here: see dev.tty.legacy_tiocsti (sysctl)".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// Settings under which a key stands for itself, but for a newline and those of [`Typing`] (termios(3)).
pub(crate) fn literal(settings: &Termios) -> Termios {
    let mut literal = settings.clone();
    literal.input_modes &= InputModes::IUTF8;
    literal.local_modes.remove(LocalModes::ISIG | LocalModes::EXTPROC);
    literal.local_modes.insert(LocalModes::ICANON | LocalModes::IEXTEN);
    // Zero is no character (_POSIX_VDISABLE).
    (0..).map_while(special).for_each(|index| literal.special_codes[index] = 0);
    (literal.special_codes[S::VLNEXT], literal.special_codes[S::VEOF]) = (Typing::QUOTE, Typing::END);
    literal
}
