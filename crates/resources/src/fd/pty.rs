//! Pseudo-terminal (pty(7)) whose master is in the tree: the master, and the slaves of it.
//!
//! - seen as    a master: `st_mode` S_IFCHR, 5:2, with `tty-index` in fdinfo; a slave: 136:N and on, or /dev/tty behind which that is
//!   (TIOCGDEV); a slave that lost its master: 136:N and on, without a name
//! - captured   settings, size, packet mode, lock and exclusive use; who may use it; the process group in the foreground; whether
//!   all slaves are closed again. Who has it as the controlling terminal, `session` tells
//! - recreated  /dev/ptmx is opened until its old number comes, each slave is had from it (TIOCGPTPEER); one that lost its
//!   master has a new one, which is closed. What waited is written into both ends again
//! - refused    one that a process outside of the tree has too, or whose session is outside; what waits in it, where the tree runs on
//!   or nobody of it can read that; output that is stopped (Ctrl-S); another line discipline than that of terminals
//! - not kept   its number, where another has it by then, or there are not as many descriptors and terminals to be had as are below it; that it was opened as /dev/tty; packet mode's note of what changed; by a
//!   snapshot, a line that is being typed. All of it is told. Who may use a slave that was never opened

use super::file::{Standing, split};
use super::tty::{DEV_TTY, Waiting, device, line_keys, quoted};
use super::{Kind, S_IFCHR, Seen, common_refusals, flags, shared_outside};
use crate::tree::process::Fd;
use crate::tree::session::{Role, Session};
use crate::{At, Blob, Capturing, Description, Model, Planning, Probe, ProcessState, Resource, Trouble};
use abi::consts::ioctl::{
    TCGETS, TCSETS, TIOCEXCL, TIOCGDEV, TIOCGETD, TIOCGEXCL, TIOCGPGRP, TIOCGPKT, TIOCGPTLCK, TIOCGPTPEER, TIOCGSID,
    TIOCGWINSZ, TIOCINQ, TIOCPKT, TIOCSPTLCK, TIOCSWINSZ,
};
use abi::consts::poll::{POLLOUT, POLLPRI};
use abi::layout::{Termios, Winsize};
use abi::{Answer, Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, HostEffect, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The device of /dev/ptmx, and the first of the slaves (Documentation/admin-guide/devices.txt).
const PTMX: (u32, u32) = (5, 2);
const SLAVES: std::ops::Range<u32> = 136..144;

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
pub enum End {
    /// That of the program which shows it.
    #[n(0)]
    Master,
    /// That of the programs which live on it.
    #[n(1)]
    Slave,
    /// The same, but the master is closed.
    #[n(2)]
    HungUp,
}

/// What the master tells of both ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Modes {
    /// The settings of the slave, as TCGETS gives them.
    #[n(0)]
    pub termios: Blob,
    /// Rows and columns, and both in pixels.
    #[n(1)]
    pub window: (u16, u16, u16, u16),
    /// Whether a read tells of more than data (TIOCPKT).
    #[n(2)]
    pub packets: bool,
    /// Whether no slave can be opened by its name (TIOCSPTLCK).
    #[n(3)]
    pub locked: bool,
    /// Whether there were slaves, and none is open.
    #[n(4)]
    pub closed: bool,
    /// The process group in the foreground, if a session of the tree has it as its terminal.
    #[n(5)]
    pub foreground: Option<u32>,
    /// Permission bits, user and group of the slave's name.
    #[n(6)]
    pub looks: Option<(u32, u32, u32)>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Pty {
    /// Its number: N of /dev/pts/N; of one that was hung up it does not matter.
    #[n(0)]
    pub pts: u32,
    /// Which end.
    #[n(1)]
    pub end: End,
    /// Access mode and status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// Whether only root may open this end once more (TIOCEXCL).
    #[n(3)]
    pub exclusive: bool,
    /// Of the master.
    #[n(4)]
    pub modes: Option<Modes>,
}

impl Resource for Pty {
    const NAME: &'static str = "pty";
}

/// The number of a slave, by its device.
fn number((major, minor): (u32, u32)) -> Option<u32> {
    SLAVES.contains(&major).then(|| (major - SLAVES.start) << 8 | minor)
}

/// The numbers of the masters in the tree.
fn masters(probe: &dyn Probe) -> impl Iterator<Item = u32> {
    let told = probe.lines("tty-index").into_iter().flat_map(|told| told.lines);
    told.filter_map(|line| std::str::from_utf8(&line).ok()?.parse().ok())
}

/// The number of a terminal whose master is in the tree.
pub(crate) fn own(device: (u32, u32), probe: &dyn Probe) -> Option<u32> {
    let number = number(device)?;
    masters(probe).any(|master| master == number).then_some(number)
}

fn ioctl(seen: &Seen, request: u64, len: usize) -> Call {
    Call::new(Sys::Ioctl, [Arg::Int(seen.fd.into()), Arg::Int(request), Arg::Out(len)])
}

fn word(answer: &Answer) -> Option<u32> {
    answer.result.ok()?;
    answer.out[0].first_chunk().map(|n| u32::from_ne_bytes(*n))
}

/// Which end of which it is. One that was hung up tells nothing (drivers/tty/tty_io.c, hung_up_tty_ioctl).
fn which(seen: &Seen, from: &Capturing<'_>) -> Result<Option<(u32, End)>, Trouble> {
    let device = device(seen);
    if device == PTMX {
        return Ok(seen.info.number("tty-index", 10).map(|n| (n as u32, End::Master)));
    }
    if device != DEV_TTY {
        // The name goes with the master (drivers/tty/pty.c, pty_close).
        return Ok(match split(&seen.link.0).1 {
            Standing::Gone => number(device).map(|_| (0, End::HungUp)),
            Standing::Named => own(device, from.probe).map(|number| (number, End::Slave)),
        });
    }
    if masters(from.probe).next().is_none() {
        return Ok(None);
    }
    let answer = from.probe.calls(&[ioctl(seen, TIOCGDEV, 4)])?.remove(0);
    let told = word(&answer).map(|told| (abi::proc::major(told.into()), abi::proc::minor(told.into())));
    let slave = told.map(|told| own(told, from.probe).map(|number| (number, End::Slave)));
    Ok(slave.unwrap_or(Some((0, End::HungUp))))
}

/// What is asked of either end, in this order: exclusive use, what waits, the line discipline.
const OF_BOTH: [u64; 3] = [TIOCGEXCL, TIOCINQ, TIOCGETD];

impl Pty {
    fn is_readable(&self) -> bool {
        self.flags & flags::ACCMODE != flags::WRONLY
    }

    /// What speaks against keeping it.
    fn refusals(&self, seen: &Seen, both: &[Answer], from: &Capturing<'_>) -> Result<Vec<Refusal>, Trouble> {
        let mut all = Vec::new();
        match word(&both[1]).unwrap_or(0) {
            0 if self.end == End::Slave && from.probe.ready(seen.fd)? & POLLOUT == 0 => {
                all.push(seen.refuse("its output is stopped", "let it go on: Ctrl-Q"));
            }
            0 => {}
            // It is read when the tree has ended.
            _ if from.keep.typed && self.is_readable() => {}
            waiting => all.push(seen.refuse(
                format!("{waiting} bytes wait in it, which nobody can look at without taking them"),
                "freeze it when they are read",
            )),
        }
        if word(&both[2]).unwrap_or(0) != 0 {
            let why = "its line discipline is not that of a terminal (TIOCSETD)";
            all.push(seen.refuse(why, "freeze it while it has the usual one"));
        }
        Ok(all)
    }
}

const POLLHUP: u16 = 0x10;

/// What the master tells, and why not.
fn modes(seen: &Seen, number: u32, from: &mut Capturing<'_>) -> Result<(Modes, Vec<Refusal>), Trouble> {
    let asked = [(TCGETS, Termios::SIZE), (TIOCGWINSZ, Winsize::SIZE)];
    let words = [TIOCGPKT, TIOCGPTLCK, TIOCGSID, TIOCGPGRP].map(|request| (request, 4));
    let calls: Vec<Call> = asked.into_iter().chain(words).map(|(request, len)| ioctl(seen, request, len)).collect();
    let told = from.probe.calls(&calls)?;
    let (size, ready) = (Winsize::from_bytes(&told[1].out[0]).unwrap_or_default(), from.probe.ready(seen.fd)?);
    let mut refusals = Vec::new();
    // Who is not in our pid namespace has no number there (pid_vnr).
    let led = word(&told[4]);
    if led.is_some_and(|session| !from.probe.members().contains(&session)) {
        let why = "it is the terminal of a session that is led by somebody outside of the tree";
        refusals.push(seen.refuse(why, "freeze a tree that has both"));
    }
    let path = format!("/dev/pts/{number}").into_bytes();
    let there = from.probe.stat_path(&path)?;
    for holder in there.map_or(Ok(Vec::new()), |s| from.probe.other_users(s.dev, s.ino, &path))? {
        let why = format!("process {}, outside of the tree, has {}", holder.pid, path.escape_ascii());
        refusals.push(seen.refuse(why, "end that process, or freeze a tree that has both"));
    }
    let what = format!("fd {} ({}), terminal {number}", seen.fd, seen.link);
    if ready & POLLPRI != 0 {
        from.note(what.clone(), "what packet mode would tell next is lost");
    }
    const ICANON: u32 = 2;
    if !from.keep.typed && Termios::from_bytes(&told[0].out[0]).is_some_and(|t| t.lflag & ICANON != 0) {
        from.note(what, "a line that is being typed there, if there is one, is lost");
    }
    let modes = Modes {
        termios: Blob(told[0].out[0].clone()),
        window: (size.row, size.col, size.xpixel, size.ypixel),
        packets: word(&told[2]).is_some_and(|on| on != 0),
        locked: word(&told[3]).is_some_and(|on| on != 0),
        closed: ready & POLLHUP != 0,
        foreground: led.and(word(&told[5])).filter(|group| *group != 0),
        looks: there.map(|s| (s.mode & 0o7777, s.uid, s.gid)),
    };
    Ok((modes, refusals))
}

impl Kind for Pty {
    fn knows(seen: &Seen) -> bool {
        seen.file_type() == S_IFCHR && !seen.names_only()
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        Ok(Self::knows(seen) && which(seen, from)?.is_some())
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let (number, end) = which(seen, from)?.expect("it was asked before");
        let mut pty = Pty { pts: number, end, flags: seen.flags(), exclusive: false, modes: None };
        let mut refusals = common_refusals(seen);
        if end != End::HungUp {
            let both = from.probe.calls(&OF_BOTH.map(|request| ioctl(seen, request, 4)))?;
            pty.exclusive = word(&both[0]).is_some_and(|on| on != 0);
            refusals.extend(pty.refusals(seen, &both, from)?);
        }
        if end == End::Master {
            refusals.extend(shared_outside(seen, from)?);
            let (modes, why_not) = modes(seen, number, from)?;
            pty.modes = Some(modes);
            refusals.extend(why_not);
        } else if device(seen) == DEV_TTY {
            let why = "it was opened as /dev/tty: thawed, it has the name of the terminal itself";
            from.note(seen.title(), why);
        }
        if refusals.is_empty() { Ok(pty) } else { Err(Trouble::Refused(refusals)) }
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let pty = |(id, end): (Descr, &Description)| match end {
            Description::Pty(pty) => Some((id, pty.clone())),
            _ => None,
        };
        let ends: Vec<(Descr, Pty)> = to.ends(descr).into_iter().filter_map(pty).collect();
        if !ends.is_empty() {
            pair(&ends, to);
        }
    }

    fn object(&self) -> Option<u64> {
        Some(u64::from(self.pts) << 1 | u64::from(self.end == End::HungUp))
    }
}

/// Who can read the master, and a slave: a process and its descriptor.
pub type Readable = [Option<(u32, u32)>; 2];

/// Both ends. A slave without a master gets one that no process keeps.
fn pair(ends: &[(Descr, Pty)], to: &mut Planning<'_>) {
    let master = ends.iter().find(|(_, pty)| pty.modes.is_some());
    let (descr, number, flags) = match master {
        Some((descr, pty)) => (*descr, Some(pty.pts), pty.flags),
        None => (to.to.scratch(), None, flags::RDWR),
    };
    // Whose number does not matter takes none that matters.
    let others = to.model.descriptions.iter().filter(|(_, d)| number.is_none() && d.is_master());
    let needs = others.map(|(id, _)| Fact::Made(Descr(*id))).collect();
    let op = Op::Host(HostEffect::PseudoTerminal { descr, number, flags });
    to.to.step(Moment::Make, Pty::NAME, Actor::Thaw, op, needs, vec![Fact::Made(descr)]);
    let modes = master.and_then(|(_, pty)| pty.modes.clone()).unwrap_or_default();
    let mut slaves: Vec<(Descr, u32)> =
        ends.iter().filter(|(id, _)| *id != descr).map(|(id, pty)| (*id, pty.flags)).collect();
    let controlling = number.and_then(|number| to.controlling.get(&number).copied());
    let waiting = number.and_then(|number| to.model.typed.as_ref()?.own.iter().find(|w| w.pts == number));
    let passes = waiting.is_some() || (slaves.is_empty() && modes.closed);
    let passing = controlling.or_else(|| passes.then(|| to.to.scratch()));
    slaves.extend(passing.map(|passing| (passing, flags::RDWR)));
    for (slave, flags) in &slaves {
        let args = vec![Value::Descr(descr), TIOCGPTPEER.into(), u64::from(*flags | flags::NOCTTY).into()];
        let op = Op::Make { sys: Sys::Ioctl, args, descrs: vec![*slave] };
        to.to.step(Moment::Make, Pty::NAME, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Made(*slave)]);
    }
    if let Some((waiting, slave)) = waiting.zip(passing) {
        fill(descr, slave, waiting, to);
    }
    if master.is_some() {
        set(descr, slaves.first().map(|(slave, _)| *slave), &modes, to);
    }
    let set = |descr: Descr, to: &mut Planning<'_>| {
        call(Moment::Arm, descr, (TIOCEXCL, 0.into()), Expect::Success, to);
    };
    ends.iter().filter(|(_, pty)| pty.exclusive).for_each(|(descr, _)| set(*descr, to));
}

/// What waited waits again, before the terminal has its settings: until then each byte stands for itself.
fn fill(master: Descr, slave: Descr, waiting: &Waiting, to: &mut Planning<'_>) {
    let effect = HostEffect::Waiting {
        master,
        slave,
        lines: line_keys(&waiting.lines),
        length: waiting.lines.iter().map(|line| line.0.len() as u64).sum(),
        rest: quoted(&waiting.rest.0),
        shown: waiting.shown.0.clone(),
    };
    let needs = vec![Fact::Made(master), Fact::Made(slave)];
    to.to.step(Moment::Fill, Pty::NAME, Actor::Thaw, Op::Host(effect), needs, vec![Fact::Filled(master)]);
}

fn call(moment: Moment, descr: Descr, (request, arg): (u64, Value), expect: Expect, to: &mut Planning<'_>) {
    to.to.on_descr(moment, Pty::NAME, descr, Sys::Ioctl, vec![Value::Descr(descr), request.into(), arg], expect);
}

/// Size first: who is in the foreground is told when it changes. Packet mode last: it tells of changes from then on.
fn set(master: Descr, slave: Option<Descr>, modes: &Modes, to: &mut Planning<'_>) {
    let (row, col, xpixel, ypixel) = modes.window;
    let size = Winsize { row, col, xpixel, ypixel }.to_bytes().to_vec();
    call(Moment::Make, master, (TIOCSWINSZ, Value::Bytes(size)), Expect::Success, to);
    if let Some((slave, (mode, uid, gid))) = slave.zip(modes.looks) {
        const OTHERS: &str = "a terminal of the program may be used by others than before";
        for (sys, args) in [(Sys::Fchown, vec![uid.into(), gid.into()]), (Sys::Fchmod, vec![mode.into()])] {
            let args = std::iter::once(Value::Descr(slave)).chain(args.into_iter().map(|n: u64| n.into())).collect();
            to.to.on_descr(Moment::Make, Pty::NAME, slave, sys, args, Expect::OrTold(OTHERS));
        }
    }
    call(Moment::Arm, master, (TCSETS, Value::Bytes(modes.termios.0.clone())), Expect::Success, to);
    let on = || Value::Bytes(1u32.to_ne_bytes().to_vec());
    if modes.packets {
        call(Moment::Arm, master, (TIOCPKT, on()), Expect::Success, to);
    }
    if modes.locked {
        call(Moment::Arm, master, (TIOCSPTLCK, on()), Expect::Success, to);
    }
}

impl Description {
    fn is_master(&self) -> bool {
        matches!(self, Description::Pty(Pty { modes: Some(_), .. }))
    }
}

impl Model {
    /// The masters in the tree: the number of each, and what it tells.
    pub(crate) fn masters(&self) -> impl Iterator<Item = (u32, &Modes)> {
        self.descriptions.values().filter_map(|d| match d {
            Description::Pty(Pty { pts, modes: Some(modes), .. }) => Some((*pts, modes)),
            _ => None,
        })
    }

    /// The terminals of the tree, each with its number, and a process and descriptor that can read the master, and a slave.
    pub fn own_terminals(&self) -> Vec<(u32, Readable)> {
        let find = |number: u32, end: End| {
            let is_it = |fd: &Fd| match &self.descriptions[&fd.description] {
                Description::Pty(pty) => pty.pts == number && pty.end == end && pty.is_readable(),
                _ => false,
            };
            self.processes
                .iter()
                .find_map(|p| p.process.fds.iter().find(|fd| is_it(fd)).map(|fd| (p.process.pid, fd.number)))
        };
        self.masters().map(|(number, _)| (number, [End::Master, End::Slave].map(|end| find(number, end)))).collect()
    }

    /// What is known of the pseudo-terminal with this number.
    pub(crate) fn pty(&self, number: u32) -> Option<&Modes> {
        self.masters().find(|(its, _)| *its == number).map(|(_, modes)| modes)
    }

    /// Why there cannot be such pseudo-terminals: each has one master, and is the terminal of one session at most.
    pub(crate) fn odd_pty(&self) -> Option<u32> {
        let (mut seen, mut led) = (BTreeSet::new(), BTreeSet::new());
        let twice = self.masters().find(|(number, _)| !seen.insert(*number)).map(|(number, _)| number);
        let states = self.processes.iter().flat_map(|p| &p.states);
        let mut leaders = states.filter_map(|s| match s {
            ProcessState::Session(Session { role: Role::SessionLeader, pts, .. }) => *pts,
            _ => None,
        });
        twice.or_else(|| leaders.find(|number| self.pty(*number).is_none() || !led.insert(*number)))
    }
}
