//! Terminal: a description of the controlling terminal.
//!
//! - seen as    a path, `st_mode` S_IFCHR, the device number of /proc/PID/stat field 7; or /dev/tty (5:0)
//! - captured   flags, settings (termios) and size
//! - recreated  the terminal in which the thaw runs is opened in its place; it gets the settings when the program had the
//!   foreground, and loses them again when the program stops or ends
//! - refused    any other terminal, and a thaw where there is no terminal
//! - not kept   what was typed and not read yet: it stays with the old terminal

use super::{Kind, S_IFCHR, Seen, common_refusals, flags};
use crate::{At, Blob, Capturing, Planning, ProcessState, Resource, Trouble};
use abi::layout::{Termios, Winsize};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, HostEffect, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

const AT_FDCWD: u64 = -100i64 as u64;
const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const DEV_TTY: (u32, u32) = (5, 0);

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

impl Resource for Tty {
    const NAME: &'static str = "tty";
}

fn device(seen: &Seen) -> (u32, u32) {
    (abi::proc::major(seen.stat.rdev), abi::proc::minor(seen.stat.rdev))
}

impl Kind for Tty {
    fn knows(seen: &Seen) -> bool {
        let own = seen.terminal != 0 && abi::proc::new_decode_dev(seen.terminal as u32) == device(seen);
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
        let size = Winsize::from_bytes(&answers[1].out[0]).unwrap_or_default();
        Ok(Tty {
            flags: seen.flags(),
            by_role: device(seen) == DEV_TTY,
            termios: Blob(answers[0].out[0].clone()),
            window: (size.row, size.col),
        })
    }

    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
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
        if detached && first_tty(to) == Some(descr) {
            to.to.note("it goes on in the background of this terminal, from which it cannot read");
        } else if first_tty(to) == Some(descr) {
            let foreground =
                to.model.processes[0].states.iter().any(|s| matches!(s, ProcessState::Session(s) if s.foreground));
            let settings = foreground.then(|| self.termios.0.clone());
            let effect = HostEffect::Terminal { settings };
            let needs = vec![Fact::Files(at.pid)];
            to.to.step(Moment::Arm, Self::NAME, Actor::Thaw, Op::Host(effect), needs, vec![Fact::Whole(at.tid)]);
        }
    }
}

fn first_tty(to: &Planning<'_>) -> Option<Descr> {
    let mut all = to.model.descriptions.iter();
    all.find(|(_, d)| matches!(d, crate::Description::Tty(_))).map(|(id, _)| Descr(*id))
}
