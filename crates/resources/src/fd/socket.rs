//! What sockets of all families have in common: options (socket(7)), and the room of their buffers.

use super::{S_IFSOCK, Seen};
use crate::task::written;
use crate::{Blob, Capturing, Planning, Trouble};
use abi::consts::cap::CAP_NET_ADMIN;
use abi::consts::socket::{
    SO_BUF_LOCK, SO_GET_FILTER, SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE, SOL_SOCKET,
};
use abi::sockopt::{self, SockOpt, SocketKind};
use abi::{Answer, Arg, Call, Errno, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Value};
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
}

/// The bits of [`Settings::chosen`].
pub(super) const SEND: u32 = 1;
pub(super) const RECEIVE: u32 = 2;

/// Whether a descriptor is one of a socket.
pub(super) fn is_socket(seen: &Seen) -> bool {
    seen.file_type() == S_IFSOCK && seen.link.0.starts_with(b"socket:[") && !seen.names_only()
}

/// `getsockopt`.
pub(super) fn ask(fd: u32, level: u64, option: u64, len: usize) -> Call {
    let length = Arg::Bytes((len as u32).to_ne_bytes().to_vec());
    Call::new(Sys::Getsockopt, [Arg::Int(fd.into()), level.into(), option.into(), Arg::Out(len), length])
}

/// A number in what a call gave; 0 where it gave nothing.
pub(super) fn word(answer: &Answer, at: usize) -> u32 {
    let bytes = written(answer).get(at..).and_then(<[u8]>::first_chunk);
    bytes.filter(|_| answer.result.is_ok()).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// Whether what comes to it is filtered. How many instructions a filter has comes back as the length; of one in eBPF there is nothing
/// but an error (SO_ATTACH_BPF).
fn is_filtered(answer: &Answer) -> bool {
    match answer.result {
        Ok(_) => word(answer, 0) != 0,
        Err(errno) => errno != Errno::ENOPROTOOPT,
    }
}

/// What is asked of every socket.
pub(super) fn asks_settings(fd: u32) -> Vec<Call> {
    let no_room = [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_GET_FILTER.into(), 0.into(), Arg::Out(4)];
    let mut calls = vec![Call::new(Sys::Getsockopt, no_room)];
    calls.extend([SO_BUF_LOCK, SO_SNDBUF, SO_RCVBUF].map(|option| ask(fd, SOL_SOCKET, option, 4)));
    calls.extend(asks_options(fd, sockopt::SOCKET));
    calls
}

pub(super) fn asks_options(fd: u32, list: &[SockOpt]) -> Vec<Call> {
    list.iter().map(|o| ask(fd, o.level, o.number, o.len)).collect()
}

impl Settings {
    /// Asks for them; and whether what comes to it is filtered (SO_ATTACH_FILTER).
    pub(super) fn capture(
        fd: u32,
        kind: SocketKind,
        lists: &[&[SockOpt]],
        from: &mut Capturing<'_>,
    ) -> Result<(Settings, bool), Trouble> {
        let all: Vec<SockOpt> = [&[sockopt::SOCKET], lists].concat().concat();
        let mut answers = from.probe.calls(&asks_settings(fd))?;
        for list in lists {
            answers.extend(from.probe.calls(&asks_options(fd, list))?);
        }
        let [filter, chosen, send, receive, rest @ ..] = &answers[..] else { unreachable!("as many as calls") };
        let new = from.probe.new_socket(kind, &all);
        let set = |((option, a), at_first): ((&SockOpt, &Answer), &Vec<u8>)| {
            let differs = a.result.is_ok() && written(a) != at_first;
            differs.then(|| (option.level, option.number, Blob(written(a).to_vec())))
        };
        let options = all.iter().zip(rest).zip(&new).filter_map(set).collect();
        let room = (word(send, 0), word(receive, 0));
        // A kernel that does not tell (before 5.14) may have been told.
        let chosen = chosen.result.map_or(SEND | RECEIVE, |_| word(chosen, 0) & (SEND | RECEIVE));
        Ok((Settings { options, room, chosen }, is_filtered(filter)))
    }

    /// Whether an option of all sockets is among those that were set.
    pub(super) fn has(&self, name: &str) -> bool {
        let option = sockopt::SOCKET.iter().find(|o| o.name == name);
        option.is_some_and(|o| self.options.iter().any(|set| (set.0, set.1) == (o.level, o.number)))
    }

    /// Sets options again, but for the room.
    pub(super) fn plan(&self, by: &'static str, descr: Descr, to: &mut Planning<'_>) {
        self.plan_at(Moment::Make, by, descr, to);
    }

    pub(super) fn plan_at(&self, moment: Moment, by: &'static str, descr: Descr, to: &mut Planning<'_>) {
        for (level, option, Blob(value)) in &self.options {
            let lost = Expect::OrTold("an option of a socket could not be set");
            set(by, descr, (*level, *option), value.clone(), lost, moment, to);
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
    const MORE: u32 = 1 << 20;
    set_room(
        by,
        descr,
        SO_SNDBUF,
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
    (level, option): (u64, u64),
    value: Vec<u8>,
    expect: Expect,
    moment: Moment,
    to: &mut Planning<'_>,
) {
    let len = value.len() as u64;
    let args = vec![Value::Descr(descr), level.into(), option.into(), Value::Bytes(value), len.into()];
    let op = Op::Call { sys: Sys::Setsockopt, args, expect };
    to.to.step(moment, by, Actor::Store, op, vec![Fact::Made(descr)], vec![]);
}
