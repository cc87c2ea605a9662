//! What sockets of all families have in common: options (socket(7)), and how they are asked for and set.

use crate::task::written;
use crate::{Blob, Capturing, Planning, Trouble};
use abi::consts::cap::CAP_NET_ADMIN;
use abi::consts::socket::{
    SO_BUF_LOCK, SO_GET_FILTER, SO_PEEK_OFF, SO_RCVBUF, SO_RCVBUFFORCE, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
    SO_SNDBUFFORCE, SOL_SOCKET,
};
use abi::{Answer, Arg, Call, Sys};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Value};

/// An option: level, number, length of the value, and the number that it is at first, which zeroes follow.
pub(crate) type Kind = (u64, u64, usize, i32);

/// Those of every socket (asm-generic/socket.h).
const OF_ALL: [Kind; 28] = [
    (SOL_SOCKET, SO_REUSEADDR, 4, 0),
    (SOL_SOCKET, 5, 4, 0),  // SO_DONTROUTE
    (SOL_SOCKET, 6, 4, 0),  // SO_BROADCAST
    (SOL_SOCKET, 9, 4, 0),  // SO_KEEPALIVE
    (SOL_SOCKET, 10, 4, 0), // SO_OOBINLINE
    (SOL_SOCKET, 11, 4, 0), // SO_NO_CHECK
    (SOL_SOCKET, 12, 4, 0), // SO_PRIORITY
    (SOL_SOCKET, 13, 8, 0), // SO_LINGER
    (SOL_SOCKET, SO_REUSEPORT, 4, 0),
    (SOL_SOCKET, 16, 4, 0),  // SO_PASSCRED
    (SOL_SOCKET, 18, 4, 1),  // SO_RCVLOWAT
    (SOL_SOCKET, 20, 16, 0), // SO_RCVTIMEO
    (SOL_SOCKET, 21, 16, 0), // SO_SNDTIMEO
    (SOL_SOCKET, 25, 16, 0), // SO_BINDTODEVICE
    (SOL_SOCKET, 29, 4, 0),  // SO_TIMESTAMP
    (SOL_SOCKET, 34, 4, 0),  // SO_PASSSEC
    (SOL_SOCKET, 35, 4, 0),  // SO_TIMESTAMPNS
    (SOL_SOCKET, 36, 4, 0),  // SO_MARK
    (SOL_SOCKET, 37, 4, 0),  // SO_TIMESTAMPING
    (SOL_SOCKET, 40, 4, 0),  // SO_RXQ_OVFL
    (SOL_SOCKET, SO_PEEK_OFF, 4, -1),
    (SOL_SOCKET, 43, 4, 0), // SO_NOFCS
    (SOL_SOCKET, 44, 4, 0), // SO_LOCK_FILTER
    (SOL_SOCKET, 45, 4, 0), // SO_SELECT_ERR_QUEUE
    (SOL_SOCKET, 46, 4, 0), // SO_BUSY_POLL
    (SOL_SOCKET, 60, 4, 0), // SO_ZEROCOPY
    (SOL_SOCKET, 76, 4, 0), // SO_PASSPIDFD
    (SOL_SOCKET, 83, 4, 1), // SO_PASSRIGHTS
];

/// Sizes of buffers, with the bit of SO_BUF_LOCK that tells that somebody has chosen one, and the option that may go beyond what
/// the host allows to all. The kernel doubles what it is given.
const BUFFERS: [(u64, u64, u64); 2] = [(SO_SNDBUF, 1, SO_SNDBUFFORCE), (SO_RCVBUF, 2, SO_RCVBUFFORCE)];

/// An option that was set, with its value.
pub(crate) type Set = (u64, u64, Blob);

/// `getsockopt`.
pub(crate) fn ask(fd: u32, level: u64, option: u64, len: usize) -> Call {
    let length = Arg::Bytes((len as u32).to_ne_bytes().to_vec());
    Call::new(Sys::Getsockopt, [Arg::Int(fd.into()), level.into(), option.into(), Arg::Out(len), length])
}

/// A number in what a call gave; 0 where it gave nothing.
pub(crate) fn word(answer: &Answer, at: usize) -> u32 {
    let bytes = written(answer).get(at..).and_then(<[u8]>::first_chunk);
    bytes.filter(|_| answer.result.is_ok()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn differs(first: i32, answer: &Answer) -> bool {
    let at_first = |(number, rest): (&[u8; 4], &[u8])| *number == first.to_ne_bytes() && rest.iter().all(|b| *b == 0);
    answer.result.is_ok() && !written(answer).split_first_chunk().is_some_and(at_first)
}

/// The options that are not what they are at first, of all sockets and of these families; and whether what comes to it is filtered
/// (SO_ATTACH_FILTER).
pub(crate) fn options(fd: u32, more: &[Kind], from: &Capturing<'_>) -> Result<(Vec<Set>, bool), Trouble> {
    // No room: how many instructions the filter has comes back as the length.
    let no_room = [Arg::Int(fd.into()), SOL_SOCKET.into(), SO_GET_FILTER.into(), 0.into(), Arg::Out(4)];
    let mut calls = vec![Call::new(Sys::Getsockopt, no_room), ask(fd, SOL_SOCKET, SO_BUF_LOCK, 4)];
    calls.extend(BUFFERS.map(|(option, ..)| ask(fd, SOL_SOCKET, option, 4)));
    let kinds = || OF_ALL.iter().chain(more);
    calls.extend(kinds().map(|(level, option, len, _)| ask(fd, *level, *option, *len)));
    let answers = from.probe.calls(&calls)?;
    let [filter, lock, rest @ ..] = &answers[..] else { unreachable!("as many answers as calls") };
    // A kernel that does not tell (before 5.14) may have been told.
    let chosen = lock.result.map_or(u64::MAX, |_| word(lock, 0).into());
    let (buffers, rest) = rest.split_at(BUFFERS.len());
    let buffers = BUFFERS.iter().zip(buffers).filter(|((_, bit, _), a)| chosen & bit != 0 && a.result.is_ok());
    let buffers = buffers.map(|((option, ..), a)| (SOL_SOCKET, *option, Blob(written(a).to_vec())));
    let others = kinds().zip(rest).filter(|((.., first), a)| differs(*first, a));
    let others = others.map(|((level, option, ..), a)| (*level, *option, Blob(written(a).to_vec())));
    Ok((buffers.chain(others).collect(), word(filter, 0) != 0))
}

/// Whether an option is among those that were set.
pub(crate) fn is_set(all: &[Set], level: u64, option: u64) -> bool {
    all.iter().any(|set| (set.0, set.1) == (level, option))
}

/// Sets them again.
pub(crate) fn plan(all: &[Set], by: &'static str, descr: Descr, to: &mut Planning<'_>) {
    for (level, option, Blob(value)) in all {
        if *level == SOL_SOCKET && BUFFERS.iter().any(|(n, ..)| n == option) {
            let size = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
            let lost = Expect::OrTold("a socket has not the room that it had (SO_SNDBUF, SO_RCVBUF)");
            set_buffer(by, descr, *option, size.into(), lost, to);
        } else {
            set(
                by,
                descr,
                (*level, *option),
                value.clone(),
                Expect::OrTold("an option of a socket could not be set"),
                to,
            );
        }
    }
}

/// Gives it room, in bytes as the kernel counts them.
pub(crate) fn set_buffer(
    by: &'static str,
    descr: Descr,
    option: u64,
    size: u64,
    expect: Expect,
    to: &mut Planning<'_>,
) {
    let beyond = BUFFERS.iter().find(|(n, ..)| *n == option).map_or(option, |(_, _, beyond)| *beyond);
    let option = if to.to.host.has(CAP_NET_ADMIN) { beyond } else { option };
    set(by, descr, (SOL_SOCKET, option), ((size / 2) as u32).to_ne_bytes().to_vec(), expect, to);
}

fn set(
    by: &'static str,
    descr: Descr,
    (level, option): (u64, u64),
    value: Vec<u8>,
    expect: Expect,
    to: &mut Planning<'_>,
) {
    let len = value.len() as u64;
    let args = vec![Value::Descr(descr), level.into(), option.into(), Value::Bytes(value), len.into()];
    let op = Op::Call { sys: Sys::Setsockopt, args, expect };
    to.to.step(Moment::Make, by, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Filled(descr)]);
}
