//! The ring of a context of asynchronous input and output (io_setup(2)): an area in which the kernel writes down what is done.
//!
//! - seen as    `/[aio] (deleted)` in /proc/PID/smaps; `struct aio_ring` at its beginning (fs/aio.c)
//! - captured   number, head and tail from there; all of it as memory, with the events that wait
//! - recreated  `io_setup`, and `mremap` to where it was: the address is the name by which the program knows the context, and the kernel
//!   takes note of the move (fs/aio.c, `aio_ring_mremap`). Where the kernel writes next is the kernel's own, and moves only
//!   when a request is done: so as many empty reads of an empty file are. Then the memory is as it was
//! - refused    a ring of which a part is missing, or that the program has written to; one that a child has from before its birth,
//!   to which it is nothing (`exit_aio`); one in which the kernel goes on writing, or that it has told of (`aio_resfd`) after event counters were looked at; a thread that waits without a timeout for more
//!   than is done (`task::regs`)
//! - not kept   requests that are not done: nothing tells how many there are. Before it looks, a freeze waits until the kernel has
//!   written nothing for a moment, and no disk is at work, but for that no longer than half a second: so what a disk is at is done, or
//!   it is slower than that, or far away. What may wait for ever (IOCB_CMD_POLL) is lost. The user is told

use super::area::{self, Area, Backing};
use crate::task::all;
use crate::{Capturing, Model, Planning, Text, Trouble};
use abi::consts::futex::{FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG};
use abi::consts::mmap::{MREMAP_MAYMOVE_FIXED, PAGE};
use abi::{Arg, Call, Errno, Place, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Fact, Moment, Op, Pid, Refusal, Tid};
use serde::{Deserialize, Serialize};

/// What the kernel calls its file.
pub(crate) const RING: &[u8] = b"/[aio] (deleted)";
/// Bytes of `struct aio_ring`, and of each `struct io_event` behind it.
const ENTRY: u64 = 32;
/// At the beginning of the structure: number, room, head, tail and the magic number, in four bytes each.
const WORDS: usize = 5;
const AIO_RING_MAGIC: u32 = 0xa10a_10a1;
/// Contexts of one process; most have one.
const MOST: u32 = 4096;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Ring {
    /// Its number among those of the process.
    #[n(0)]
    pub id: u32,
    /// The next event that the program takes.
    #[n(1)]
    pub head: u32,
    /// Where the kernel writes the next one.
    #[n(2)]
    pub tail: u32,
}

/// How many events an area of this length has room for (fs/aio.c, aio_setup_ring).
fn room(len: u64) -> u64 {
    (len / ENTRY).saturating_sub(1)
}

impl Ring {
    /// Whether there can be such a ring in an area of this length.
    pub(crate) fn is_sound(self, len: u64) -> bool {
        let room = room(len);
        len.is_multiple_of(PAGE) && u64::from(self.head.max(self.tail)) < room && self.id < MOST
    }

    /// The calls after which the kernel is where it was: it counts events modulo `room`, and those that nobody has taken.
    fn turn(self, at: u64, len: u64, file: u64) -> Vec<Call> {
        /// As many as there is room for in any ring, and on any processor (`req_batch`).
        const AT_ONCE: u64 = 32;
        let (head, room) = (u64::from(self.head), room(len));
        let waiting = (u64::from(self.tail) + room - head) % room;
        let mut calls = Vec::new();
        for first in (0..head).step_by(AT_ONCE as usize) {
            let some = AT_ONCE.min(head - first);
            calls.extend((0..some).map(|_| submit(at, file)));
            let events = Arg::Out((some * ENTRY) as usize);
            calls.push(Call::new(
                Sys::IoGetevents,
                [at.into(), some.into(), some.into(), events, Arg::Bytes(vec![0; 16])],
            ));
        }
        calls.extend((0..waiting).map(|_| submit(at, file)));
        // Here it fails if this is not the ring that there was.
        let is = (at..).step_by(4).zip([self.id, room as u32, self.head, self.tail]);
        calls.extend(is.map(|(at, value)| same(at, value)));
        calls
    }
}

/// One request to read nothing (linux/aio_abi.h, `struct iocb`: descriptor at 20, address at 24, length at 32), by way of a
/// pointer to it. It is done when this returns (fs/aio.c, `aio_rw_done`).
fn submit(at: u64, file: u64) -> Call {
    let mut request = vec![0; 64];
    request[20..24].copy_from_slice(&(file as u32).to_le_bytes());
    request[24..32].copy_from_slice(&at.to_le_bytes());
    Call::new(Sys::IoSubmit, [at.into(), 1.into(), Arg::nested(vec![0; 8], 0, request)])
}

/// Fails unless this stands there (futex(2)): nobody is woken or moved.
pub(crate) fn same(at: u64, value: u32) -> Call {
    let operation = FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG;
    Call::new(Sys::Futex, [at, operation, 0, 0, at, value.into()].map(Arg::Int))
}

fn words(at: u64, from: &Capturing<'_>) -> Result<[u32; WORDS], Trouble> {
    let bytes = from.probe.memory(at, 4 * WORDS)?;
    Ok(std::array::from_fn(|n| bytes[4 * n..4 * n + 4].try_into().map_or(0, u32::from_le_bytes)))
}

/// Whether a disk of the host is at work, for whomever: whether a request is on its way (admin-guide/iostats.rst, field 9). Where
/// that is not told, it may be.
fn disks_work(from: &Capturing<'_>) -> bool {
    let text = from.probe.host_text("/proc/diskstats").unwrap_or_default();
    text.is_empty() || text.lines().any(|line| line.split_ascii_whitespace().nth(11) != Some("0"))
}

/// Waits until the kernel has written into none of these areas for a moment.
pub(crate) fn settle(areas: &[proc::Area], from: &Capturing<'_>) -> Result<(), Trouble> {
    const MOMENT: u64 = 20;
    const MOMENTS: usize = 25;
    let rings: Vec<&proc::Area> = areas.iter().filter(|area| area.name == RING).collect();
    let Some(first) = rings.first() else { return Ok(()) };
    let look = || rings.iter().map(|area| words(area.start, from)).collect::<Result<Vec<_>, Trouble>>();
    let mut seen = look()?;
    for moment in 0.. {
        all(from, &[Call::new(Sys::Poll, [0, 0, MOMENT].map(Arg::Int))])?;
        let before = std::mem::replace(&mut seen, look()?);
        match before == seen {
            true if moment == MOMENTS || !disks_work(from) => break,
            false if moment == MOMENTS => return Err(area::refuse(first, BUSY, AGAIN).into()),
            _ => {}
        }
    }
    Ok(())
}

/// The ring that an area is.
pub(crate) fn capture(area: &proc::Area, from: &mut Capturing<'_>) -> Result<Ring, Trouble> {
    let refuse = |why, remedy| Err(area::refuse(area, why, remedy).into());
    // Of no context, nothing can be asked; of this, no event is (io_getevents(2)).
    let asked = Call::new(Sys::IoGetevents, [area.start, 0, 0, 0, 0].map(Arg::Int));
    if from.probe.calls(&[asked])?[0].result == Err(Errno::EINVAL) {
        return refuse(
            "it is the ring of a process that it was born of, and nothing to it",
            "freeze it while it has none: let it unmap that (munmap)",
        );
    }
    let ([id, nr, head, tail, magic], len) = (words(area.start, from)?, area.end - area.start);
    let ring = Ring { id, head, tail };
    let p = area.perms;
    let whole = area.offset == 0 && u64::from(nr) == room(len) && (p.read, p.write, p.execute) == (true, true, false);
    if !(whole && magic == AIO_RING_MAGIC && ring.is_sound(len)) {
        return refuse(
            "it is a ring of io_setup, but not as the kernel made it",
            "freeze it while it has none (io_destroy)",
        );
    }
    let why = "what it has asked for and the kernel has not done by now is not kept";
    from.note(format!("asynchronous input and output at {:x}", area.start), why);
    Ok(ring)
}

const BUSY: &str = "the kernel goes on doing what it was asked for";
const AGAIN: &str = "try again when less is asked for";

/// What was done after all, while memory went into the image, is not in it; nor what was counted for it (`aio_resfd`) after that
/// was looked at, when all had just been stopped.
pub(crate) fn look_again(areas: &[Area], from: &Capturing<'_>) -> Result<(), Trouble> {
    for area in areas {
        let Backing::Ring(ring) = area.backing else { continue };
        if counted(from)?
            || words(area.start, from)?[1..] != [room(area.len()) as u32, ring.head, ring.tail, AIO_RING_MAGIC]
        {
            let what = format!("area {:x}-{:x} {}", area.start, area.end, Text::from(RING));
            return Err(Refusal::new(what, BUSY, AGAIN).into());
        }
    }
    Ok(())
}

/// Whether an event counter of the tree is not what it was.
fn counted(from: &Capturing<'_>) -> Result<bool, Trouble> {
    const COUNT: &str = "eventfd-count";
    for told in from.probe.lines(COUNT) {
        let now = from.probe.host_text(&format!("/proc/{}/fdinfo/{}", told.pid, told.number))?;
        if proc::fdinfo(now.as_bytes())?.fields(COUNT).ne(told.lines.iter().map(Vec::as_slice)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rings that areas are, in the order of their numbers, each with its address and length.
fn rings(areas: &[Area]) -> Vec<(Ring, u64, u64)> {
    let ring = |area: &Area| match area.backing {
        Backing::Ring(ring) => Some((ring, area.start, area.len())),
        _ => None,
    };
    let mut all: Vec<_> = areas.iter().filter_map(ring).collect();
    abi::sort_by_key(&mut all, |(ring, ..)| ring.id);
    all
}

/// The calls that make them: each context gets the first number that is free.
fn contexts(rings: &[(Ring, u64, u64)]) -> Vec<Call> {
    const PER_PAGE: u64 = PAGE / ENTRY;
    let (mut calls, mut passing) = (Vec::new(), Vec::new());
    let mut next = rings.iter().peekable();
    // The least request that gets so many pages: twice as many events as are asked for have room (fs/aio.c, ioctx_alloc). Where
    // the kernel writes the address is the first argument of a later call, which is 0, as it must be.
    for id in 0..rings.last().map_or(0, |(ring, ..)| ring.id + 1) {
        let made = next.next_if(|(ring, ..)| ring.id == id);
        let pages = made.map_or(1, |(.., len)| len / PAGE);
        let events = ((pages - 1) * PER_PAGE / 2).saturating_sub(1).max(1);
        let setup = |then: usize| Call::new(Sys::IoSetup, [events.into(), Arg::At(Place::Arg(then, 0))]);
        match made {
            Some((_, at, len)) => {
                calls.push(setup(calls.len() + 1));
                calls.push(Call::new(Sys::Mremap, [0, *len, *len, MREMAP_MAYMOVE_FIXED, *at].map(Arg::Int)));
            }
            // Those that had the numbers between are gone again.
            None => {
                passing.push(calls.len());
                calls.push(setup(0));
            }
        }
    }
    for at in passing {
        calls[at].args[1] = Arg::At(Place::Arg(calls.len(), 0));
        calls.push(Call::new(Sys::IoDestroy, [Arg::Int(0)]));
    }
    calls
}

/// How many processors there may be, as `0-1`.
const PROCESSORS: &str = "/sys/devices/system/cpu/possible";

/// What is to be asked of the host.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let any = model.spaces().any(|space| !rings(&space.areas).is_empty());
    any.then(|| PROCESSORS.to_owned()).into_iter().collect()
}

/// Makes all contexts of a process, and turns their rings to where they were.
pub(crate) fn place(areas: &[Area], pid: Pid, to: &mut Planning<'_>) {
    let rings = rings(areas);
    let Some(smallest) = rings.iter().map(|(.., len)| room(*len)).min() else { return };
    let last = to.to.host.told.get(PROCESSORS).and_then(|text| text.rsplit(['-', ',']).next()?.parse().ok());
    if smallest < 8 * last.map_or(0, |last: u64| last + 1) + 2 {
        let why = "for as many processors as there are here, the kernel makes no ring as small";
        to.to.refuse(Refusal::new("asynchronous input and output", why, "thaw it on a machine with fewer of them"));
    }
    let by = Actor::Thread(Tid(pid.0));
    let (empty, made) = (to.to.scratch(), Fact::Made(to.to.scratch()));
    to.to.make(area::NAME, empty, Sys::MemfdCreate, vec![plan::Value::Bytes(b"empty\0".to_vec()), 0.into()]);
    to.to.step(Moment::Place, area::NAME, by, Op::Calls(contexts(&rings)), vec![Fact::Bare(pid)], vec![made.clone()]);
    let file = to.number(empty);
    for (ring, at, len) in rings {
        let needs = vec![made.clone(), Fact::Made(empty)];
        let op = Op::Calls(ring.turn(at, len, file));
        to.to.step(Moment::Place, area::NAME, by, op, needs, vec![Fact::Mapped(pid), Fact::Files(pid)]);
    }
}
