//! What sockets of all families have in common: options (socket(7)), and the room of their buffers.

use super::{S_IFSOCK, Seen, common_refusals, flags};
use crate::task::written;
use crate::{Blob, Capturing, Planning, Trouble};
use abi::consts::cap::CAP_NET_ADMIN;
use abi::consts::fcntl::F_SETFL;
use abi::consts::socket::{
    IPPROTO_IP, SO_ATTACH_FILTER, SO_BUF_LOCK, SO_DOMAIN, SO_LOCK_FILTER, SO_PASSCRED, SO_PASSPIDFD, SO_RCVBUF,
    SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE, SOL_SOCKET,
};
use abi::sockopt::{self, SocketKind};
use abi::{Answer, Arg, Call, Errno, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// What was set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Settings {
    /// Level, number and value of the options that are not what a new socket has.
    #[n(0)]
    pub options: Vec<(u64, u64, Blob)>,
    /// SO_SNDBUF and SO_RCVBUF, in bytes as the kernel counts them.
    #[n(1)]
    pub room: (u32, u32),
    /// Which of both somebody has chosen: 1 and 2 (SO_BUF_LOCK).
    #[n(2)]
    pub chosen: u32,
    /// The classic BPF program that says what comes to it (SO_ATTACH_FILTER): instructions of eight bytes (linux/filter.h).
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Blob>,
}

/// Why a connection of a tree is not kept that nobody has accepted yet, and what can be done.
pub(super) const HASTY: (&str, &str) =
    ("its connection waits to be accepted, and it has sent something already", "try again when it is accepted");

/// The bits of [`Settings::chosen`].
pub(super) const SEND: u32 = 1;
pub(super) const RECEIVE: u32 = 2;

/// Whether a descriptor is one of a socket.
pub(super) fn is_socket(seen: &Seen) -> bool {
    seen.file_type() == S_IFSOCK && seen.link.0.starts_with(b"socket:[") && !seen.names_only()
}

/// Whether it is one of one of these families.
pub(super) fn is_of(families: &[u64], seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    if !is_socket(seen) {
        return Ok(false);
    }
    let answers = from.probe.calls(&[ask(seen.fd, SOL_SOCKET, SO_DOMAIN, 4)])?;
    Ok(families.contains(&word(&answers[0], 0).into()))
}

/// Why a socket of whatever family is not kept.
pub(super) fn ill_kept(seen: &Seen, filtered: bool, from: &Capturing<'_>) -> Result<Vec<Refusal>, Trouble> {
    let mut refusals = common_refusals(seen);
    if filtered {
        let why = "what comes to it is filtered by a program in eBPF (SO_ATTACH_BPF)";
        refusals.push(seen.refuse(why, "let the program close it; this is not supported yet"));
    }
    if let Some(holder) = from.probe.other_holders(&seen.link.0)?.first() {
        let why = format!("process {holder}, outside of the tree, has it too");
        refusals.push(seen.refuse(why, "end that process first"));
    }
    Ok(refusals)
}

/// `fcntl`, once nothing more is done with it.
pub(super) fn set_flags(by: &'static str, descr: Descr, status: u32, to: &mut Planning<'_>) {
    let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(status & !flags::ACCMODE).into()];
    to.to.on_descr(Moment::Arm, by, descr, Sys::Fcntl, args, Expect::Success);
}

/// `getsockopt`.
pub(super) fn ask(fd: u32, level: u64, option: u64, len: usize) -> Call {
    let args = [Arg::Int(fd.into()), level.into(), option.into(), Arg::Out(len), Arg::Word(len as u32)];
    Call::new(Sys::Getsockopt, args)
}

/// A number in what a call gave; 0 where it gave nothing.
pub(super) fn word(answer: &Answer, at: usize) -> u32 {
    let bytes = written(answer).get(at..).and_then(<[u8]>::first_chunk);
    bytes.filter(|_| answer.result.is_ok()).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// Bytes of an instruction of classic BPF (linux/filter.h, `struct sock_filter`).
const INSTRUCTION: usize = 8;

/// The filter of a socket, with room for so many instructions. How many it has comes back as the length, and without room that alone;
/// of one in eBPF there is nothing but an error (net/core/filter.c, `sk_get_filter`).
fn ask_filter(fd: u32, instructions: u32) -> Call {
    let room = Arg::Out(instructions as usize * INSTRUCTION);
    let length = Arg::Bytes(instructions.to_ne_bytes().to_vec());
    Call::new(Sys::Getsockopt, [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_ATTACH_FILTER.into(), room, length])
}

/// What is asked of every socket.
pub(super) fn asks_settings(fd: u32) -> Vec<Call> {
    let no_room = [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_ATTACH_FILTER.into(), 0.into(), Arg::Out(4)];
    let mut calls = vec![Call::new(Sys::Getsockopt, no_room)];
    calls.extend([SO_BUF_LOCK, SO_SNDBUF, SO_RCVBUF].map(|option| ask(fd, SOL_SOCKET, option, 4)));
    calls
}

/// To set the type of service sets the priority, too (net/ipv4/ip_sockglue.c, `__ip_sock_set_tos`): that comes last.
const TOS: (u64, u64) = (IPPROTO_IP, 1);
const PRIORITY: (u64, u64) = (SOL_SOCKET, 12);

/// Whether it tells who sends (unix(7)).
const TELLS: (u64, u64) = (SOL_SOCKET, SO_PASSCRED);
/// Likewise, by a pidfd.
const TELLS_BY_PIDFD: (u64, u64) = (SOL_SOCKET, SO_PASSPIDFD);

impl Settings {
    /// Asks for them; and whether what comes to it is filtered by a program that nobody is told (SO_ATTACH_BPF).
    pub(super) fn capture(fd: u32, kind: SocketKind, from: &mut Capturing<'_>) -> Result<(Settings, bool), Trouble> {
        let answers = from.probe.calls(&asks_settings(fd))?;
        let [filter, chosen, send, receive] = &answers[..] else { unreachable!("as many as calls") };
        let options = from.probe.options(fd, kind)?;
        let options = options.into_iter().map(|(level, number, value)| (level, number, Blob(value))).collect();
        let room = (word(send, 0), word(receive, 0));
        // A kernel that does not tell (before 5.14) may have been told.
        let chosen = chosen.result.map_or(SEND | RECEIVE, |_| word(chosen, 0) & (SEND | RECEIVE));
        let is_hidden = filter.result.is_err_and(|errno| errno != Errno::ENOPROTOOPT);
        let filter = match word(filter, 0) {
            0 => None,
            n => Some(Blob(written(&from.probe.calls(&[ask_filter(fd, n)])?[0]).to_vec())),
        };
        Ok((Settings { options, room, chosen, filter }, is_hidden))
    }

    /// What it tells of who sends, for those who are to inherit it.
    pub(super) fn tells(&self) -> Option<(u64, u64, &Blob)> {
        self.options.iter().find(|o| (o.0, o.1) == TELLS).map(|(level, option, value)| (*level, *option, value))
    }

    /// Whether an option of all sockets is among those that were set.
    pub(super) fn has(&self, name: &str) -> bool {
        let option = sockopt::SOCKET.iter().find(|o| o.name == name);
        option.is_some_and(|o| self.has_at(o.level, o.number))
    }

    /// Whether an option is.
    pub(super) fn has_at(&self, level: u64, number: u64) -> bool {
        self.options.iter().any(|set| (set.0, set.1) == (level, number))
    }

    /// Whether the kernel numbers what is sent: for its time (SOF_TIMESTAMPING_OPT_ID), or for the end of a use of memory (SO_ZEROCOPY).
    pub(super) fn counts(&self) -> bool {
        const NUMBERS: u8 = 1 << 7;
        let stamps = ["SO_TIMESTAMPING", "SO_TIMESTAMPING_NEW"];
        let named = |o: &(u64, u64, Blob), name: &str| {
            sockopt::SOCKET.iter().any(|known| known.name == name && (o.0, o.1) == (known.level, known.number))
        };
        let numbers = |o: &(u64, u64, Blob)| {
            stamps.iter().any(|name| named(o, name)) && o.2.0.first().is_some_and(|bits| bits & NUMBERS != 0)
        };
        self.has("SO_ZEROCOPY") || self.options.iter().any(numbers)
    }

    /// Sets options again, but for the room; and the filter when what waits is written: it is asked about what comes, not about what
    /// waits.
    pub(super) fn plan(&self, by: &'static str, descr: Descr, to: &mut Planning<'_>) {
        self.plan_at([Moment::Make, Moment::Arm], by, descr, to);
    }

    /// Likewise, with the moments of both.
    pub(super) fn plan_at(&self, moments: [Moment; 2], by: &'static str, descr: Descr, to: &mut Planning<'_>) {
        const LOCK: (u64, u64) = (SOL_SOCKET, SO_LOCK_FILTER);
        let lost = Expect::OrTold("an option of a socket could not be set");
        let is = |wanted| move |o: &&(u64, u64, Blob)| (o.0, o.1) == wanted;
        let (mut all, priority) = self.options.iter().partition::<Vec<_>, _>(|o| !is(PRIORITY)(o));
        let first = (PRIORITY.0, PRIORITY.1, Blob(vec![0; 4]));
        match priority[..] {
            // Somebody has set it to what a new one has.
            [] if all.iter().any(|o| is(TOS)(o)) => all.push(&first),
            _ => all.extend(priority),
        }
        for (level, option, Blob(value)) in all {
            let moment = match (*level, *option) {
                // It locks the filter that is there.
                LOCK => continue,
                // What is sent would be that of who thaws, and who sends or connects would get a name (unix(7)).
                TELLS | TELLS_BY_PIDFD => Moment::Start,
                _ => moments[0],
            };
            set(by, descr, (*level, *option), value.clone(), lost, moment, to);
        }
        if let Some(Blob(filter)) = &self.filter {
            // linux/filter.h, `struct sock_fprog`: how many instructions, and where.
            let mut bytes = vec![0; 16];
            bytes[..2].copy_from_slice(&((filter.len() / INSTRUCTION) as u16).to_ne_bytes());
            let program = Value::Nested { bytes, at: 8, inner: filter.clone() };
            set_to(by, descr, (SOL_SOCKET, SO_ATTACH_FILTER), (program, 16), Expect::Success, moments[1], to);
        }
        if let Some((.., Blob(value))) = self.options.iter().find(|o| (o.0, o.1) == LOCK) {
            set(by, descr, LOCK, value.clone(), lost, moments[1], to);
        }
    }

    /// The room that it had, once nothing more is written: `widened`, it was given more, of one or the other.
    pub(super) fn plan_room(&self, by: &'static str, descr: Descr, widened: u32, to: &mut Planning<'_>) {
        let lost = Expect::OrTold("a socket has not the room that it had (SO_SNDBUF, SO_RCVBUF)");
        for (bit, option, size) in [(SEND, SO_SNDBUF, self.room.0), (RECEIVE, SO_RCVBUF, self.room.1)] {
            if (widened | self.chosen) & bit != 0 {
                set_room(by, descr, option, size, lost, Moment::Arm, to);
            }
        }
        if widened & !self.chosen != 0 {
            // As if nobody had chosen it; a kernel without this (before 5.14) does not ask who has.
            let chosen = self.chosen.to_ne_bytes().to_vec();
            set(by, descr, (SOL_SOCKET, SO_BUF_LOCK), chosen, Expect::Whatever, Moment::Arm, to);
        }
    }
}

/// Gives a socket room for what it is to send, and for what the kernel adds. What was there before may have been more than its room:
/// the last piece that still began within it.
pub(super) fn widen(by: &'static str, descr: Descr, bytes: usize, to: &mut Planning<'_>) {
    widen_for(by, descr, SO_SNDBUF, bytes, to);
}

/// Likewise, for what it is to send (SO_SNDBUF), or to receive (SO_RCVBUF).
pub(super) fn widen_for(by: &'static str, descr: Descr, option: u64, bytes: usize, to: &mut Planning<'_>) {
    const MORE: u32 = 1 << 20;
    set_room(
        by,
        descr,
        option,
        (bytes as u32).saturating_mul(2).saturating_add(MORE),
        Expect::Whatever,
        Moment::Make,
        to,
    );
}

/// In bytes as the kernel counts them: it doubles what it is given. With a privilege, beyond what the host allows to all.
fn set_room(
    by: &'static str,
    descr: Descr,
    option: u64,
    size: u32,
    expect: Expect,
    moment: Moment,
    to: &mut Planning<'_>,
) {
    let option = match option {
        _ if !to.to.host.has(CAP_NET_ADMIN) => option,
        SO_SNDBUF => SO_SNDBUFFORCE,
        _ => SO_RCVBUFFORCE,
    };
    set(by, descr, (SOL_SOCKET, option), (size / 2).to_ne_bytes().to_vec(), expect, moment, to);
}

pub(super) fn set(
    by: &'static str,
    descr: Descr,
    option: (u64, u64),
    value: Vec<u8>,
    expect: Expect,
    moment: Moment,
    to: &mut Planning<'_>,
) {
    let len = value.len() as u64;
    set_to(by, descr, option, (Value::Bytes(value), len), expect, moment, to);
}

fn set_to(
    by: &'static str,
    descr: Descr,
    (level, option): (u64, u64),
    (value, len): (Value, u64),
    expect: Expect,
    moment: Moment,
    to: &mut Planning<'_>,
) {
    let args = vec![Value::Descr(descr), level.into(), option.into(), value, len.into()];
    let op = Op::Call { sys: Sys::Setsockopt, args, expect };
    to.to.step(moment, by, Actor::Store, op, vec![Fact::Made(descr)], vec![]);
}
