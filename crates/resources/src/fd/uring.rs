//! Ring of io_uring(7): requests and completions in memory that the kernel and the program share.
//!
//! - seen as    `anon_inode:[io_uring]`, of a descriptor and of areas that show its memory
//! - captured   sizes and positions, from fdinfo; registered buffers; registered files, by the descriptions that have their names;
//!   how it was set up, as far as harmless questions tell. What was not submitted yet, and what was not taken yet, is memory
//! - recreated  `io_uring_setup`; its memory where it was; as many requests to do nothing as were made. Then the memory is as it was
//! - refused    one at which the kernel is at work, or may be: whose requests and completions are not as many (multishot requests,
//!   and those that tell of no success, too); of which more has completed than its queue has room for; that a thread of the kernel polls, or that polls devices; with an eventfd,
//!   registered files whose names no description has, or several, registered descriptors of rings, provided buffers, personalities, restrictions, busy polling; that another thread than the first of its process
//!   alone may use; that is in memory of the program's own (IORING_SETUP_NO_MMAP), or mapped in part; that made too many requests; whose
//!   buffers may be those of another process; whose completions have two sizes (IORING_SETUP_CQE_MIXED), as far as memory shows
//! - not kept   what the kernel tells nobody, which is told: hints of its setup (IORING_SETUP_COOP_TASKRUN and the like), personalities
//!   (of which it told before 6.18), tags of buffers, limits of its workers, its clock; before 6.13, IORING_SETUP_DEFER_TASKRUN. Registered
//!   buffers are what is at their addresses, registered files what has their names: only sockets have names of their own. Timers that nothing shows: one that repeats, once the completions that tell of that are
//!   overwritten, and one for which a message of another ring (IORING_OP_MSG_RING) makes up. After an invalid request it goes on with
//!   the next (IORING_SETUP_SUBMIT_ALL)

use super::{Kind, Seen, common_refusals, shared_outside};
use crate::mm::area::{Area, Backing, PROT_WRITE, refuse as refuse_area};
use crate::mm::ring::same;
use crate::{At, Capturing, Description, Model, Planning, Resource, Trouble};
use abi::consts::cap::CAP_SYS_ADMIN;
use abi::consts::fcntl::F_SETFL;
use abi::consts::fd::AT_FDCWD;
use abi::consts::futex::{FUTEX_PRIVATE_FLAG, FUTEX_WAKE_OP};
use abi::consts::uring::{
    ENTER_EXT_ARG, ENTER_GETEVENTS, ENTER_REGISTERED_RING, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, REGISTER_BUFFERS,
    REGISTER_ENABLE_RINGS, REGISTER_EVENTFD, REGISTER_FILES, REGISTER_MEM_REGION, REGISTER_PBUF_STATUS,
    REGISTER_RESIZE_RINGS, REGISTER_RESTRICTIONS, SETUP_CQE32, SETUP_CQSIZE, SETUP_DEFER_TASKRUN, SETUP_NO_SQARRAY,
    SETUP_R_DISABLED, SETUP_SINGLE_ISSUER, SETUP_SQE128, SETUP_SUBMIT_ALL,
};
use abi::proc::{self, Fdinfo};
use abi::{Answer, Arg, Call, Errno, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What the kernel calls its file.
pub(crate) const LINK: &[u8] = b"anon_inode:[io_uring]";
/// How many requests a thaw makes, and how often it asks for a whole ring of them: a few seconds.
const MOST_DONE: u32 = 1 << 27;
const MOST_ROUNDS: u32 = 1 << 21;
/// The most entries (io_uring/io_uring.h), and more bytes than any part of such a ring has.
const MOST_ENTRIES: u32 = 65536;
pub(crate) const MOST_BYTES: u64 = 1 << 24;
/// The most registered files (io_uring/rsrc.c, IORING_MAX_FIXED_FILES).
const MOST_FILES: usize = 1 << 20;
/// Flags that are asked for again.
const FLAGS: u32 = SETUP_SQE128 | SETUP_CQE32 | SETUP_DEFER_TASKRUN | SETUP_NO_SQARRAY;
/// Where nobody has anything.
const NOWHERE: u64 = 1;
/// The first words of its memory: heads and tails, masks, sizes, requests dropped, flags, those of completions, completions lost;
/// behind them, completions (linux/io_uring_types.h, `struct io_rings`).
const WORDS: usize = 12;
const CQES: u64 = 64;
/// Whether it may be disabled on a host, and for whom.
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

const AGAIN: &str = "try again a moment later";
const WITHOUT: &str = "freeze it while the program has no such ring; this is not supported yet";

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Uring {
    /// Room for how many requests, and how many completions.
    #[n(0)]
    pub entries: (u32, u32),
    /// IORING_SETUP_ bits, as far as the kernel tells them.
    #[n(1)]
    pub flags: u32,
    /// How many requests were made, and are completed; modulo 2^32.
    #[n(2)]
    pub done: u32,
    /// How many completions the program has not taken.
    #[n(3)]
    pub waiting: u32,
    /// Status flags (open(2)).
    #[n(4)]
    pub status: u32,
    /// Registered buffers: address and length; 0 and 0: an empty place.
    #[n(5)]
    pub buffers: Vec<(u64, u64)>,
    /// Registered files, by their descriptions; none: an empty place.
    #[n(6)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Option<u32>>,
}

impl Resource for Uring {
    const NAME: &'static str = "io-uring";
}

/// What fdinfo tells of a ring (io_uring/fdinfo.c): heads and tails as they stand in its memory, masks, and the kernel's own places.
const TOLD: [&str; 8] = ["SqHead", "SqTail", "CqHead", "CqTail", "SqMask", "CqMask", "CachedSqHead", "CachedCqTail"];

fn told(info: &Fdinfo) -> Option<[u32; 8]> {
    let number = |key: &str| {
        let text = std::str::from_utf8(info.field(key)?).ok()?;
        text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16)).ok()
    };
    let all = TOLD.map(number);
    all.iter().all(Option::is_some).then(|| all.map(Option::unwrap_or_default))
}

/// The lines below one that says how many they are.
fn list<'a>(info: &'a Fdinfo, key: &str) -> Vec<&'a [u8]> {
    let below = info.lines().skip_while(|(known, _)| *known != key.as_bytes()).skip(1);
    let numbered = below.take_while(|(place, _)| place.iter().all(u8::is_ascii_digit));
    numbered.take(info.number(key, 10).unwrap_or(0) as usize).map(|(_, value)| value).collect()
}

/// Whether completions wait for room in the queue of them.
fn has_overflown(info: &Fdinfo) -> bool {
    let mut listed = info.text.split(|b| *b == b'\n').skip_while(|line| !line.starts_with(b"CqOverflowList:")).skip(1);
    listed.next().is_some_and(|line| line.trim_ascii_start().starts_with(b"user_data="))
}

/// A registered buffer, as `0x7f0000000000/4096`; what is none is an empty place.
fn buffer(value: &[u8]) -> (u64, u64) {
    let parse = || {
        let (at, len) = std::str::from_utf8(value).ok()?.strip_prefix("0x")?.split_once('/')?;
        Some((u64::from_str_radix(at, 16).ok()?, len.parse().ok()?))
    };
    parse().unwrap_or_default()
}

fn can_be_counted(done: u32, entries: u32) -> bool {
    done <= MOST_DONE && done / entries <= MOST_ROUNDS
}

/// Whether all of a buffer is memory of the process, into which it may write.
fn is_there((at, len): (u64, u64), areas: &[proc::Area]) -> bool {
    let within = |a: &&proc::Area| a.perms.write && a.end > at && a.start < at + len;
    let covered: u64 = areas.iter().filter(within).map(|a| a.end.min(at + len) - a.start.max(at)).sum();
    covered == len
}

/// Whether the kernel has something to do for it, or may have.
fn is_busy(info: &Fdinfo, counts: &[u32; 8]) -> bool {
    let [sq_head, _, _, cq_tail, .., cached_head, cached_tail] = *counts;
    let waits = |(key, _): (&[u8], &[u8])| key.starts_with(b"op=") || key.starts_with(b"user_data=");
    [sq_head, cq_tail, cached_tail] != [cached_head; 3] || info.lines().any(waits)
}

fn register(fd: u32, operation: u64, argument: Arg, count: u64) -> Call {
    Call::new(Sys::IoUringRegister, [Arg::Int(fd.into()), operation.into(), argument, count.into()])
}

/// Questions that change nothing, as what they ask for is wrong, each with the answer of a ring that is kept: nothing restricts
/// it, and it is not disabled; no eventfd is registered; it polls no devices, where the kernel does not look at a timeout
/// (io_uring/io_uring.c, `io_validate_ext_arg`). The last answer tells what a ring is like that completes requests only when
/// its thread asks for it (io_uring/register.c, `io_register_resize_rings`), and whether it has a region (EBUSY).
fn questions_to(fd: u32) -> [(Call, Errno, &'static str); 5] {
    let timeout = [0, 8, NOWHERE].map(u64::to_ne_bytes).concat();
    let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
    let args = [u64::from(fd), 0, u32::MAX.into(), flags].map(Arg::Int).into_iter();
    let enter = Call::new(Sys::IoUringEnter, args.chain([Arg::Bytes(timeout), 24.into()]).collect::<Vec<_>>());
    [
        (register(fd, REGISTER_RESTRICTIONS, 0.into(), 0), Errno::EBADFD, "it is disabled or restricted"),
        (register(fd, REGISTER_EVENTFD, NOWHERE.into(), 1), Errno::EFAULT, "an eventfd is registered"),
        (enter, Errno::EFAULT, "it polls devices (IORING_SETUP_IOPOLL)"),
        (register(fd, REGISTER_RESIZE_RINGS, NOWHERE.into(), 1), Errno::EINVAL, ""),
        (
            register(fd, REGISTER_MEM_REGION, NOWHERE.into(), 1),
            Errno::EFAULT,
            "it has a region of memory for its waits",
        ),
    ]
}

/// Whether no buffers are provided, of which the program can take any group (io_uring/kbuf.c, `io_register_pbuf_status`).
fn provides_none(fd: u32, from: &Capturing<'_>) -> Result<bool, Trouble> {
    const GROUPS: u32 = 1 << 16;
    const TOGETHER: usize = 4096;
    let ask = |group: u32| {
        let status = [&group.to_ne_bytes()[..], &[0; 36]].concat();
        register(fd, REGISTER_PBUF_STATUS, Arg::Bytes(status), 1)
    };
    for first in (0..GROUPS).step_by(TOGETHER) {
        let calls: Vec<Call> = (first..).take(TOGETHER).map(ask).collect();
        if from.probe.calls(&calls)?.iter().any(|answer| answer.result != Err(Errno::ENOENT)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How entries are made up is told only of such as wait. So for the time of one look, in one batch, one request seems to
/// wait, and one completion; nobody runs who would take either for real.
fn layout(seen: &Seen, memory: u64, counts: &[u32; 8], from: &Capturing<'_>) -> Result<Option<u32>, Trouble> {
    const MOST: u64 = 4096;
    let [sq_head, sq_tail, cq_head, cq_tail, ..] = *counts;
    let own = u64::from(from.probe.inner_tid(seen.pid).unwrap_or(seen.pid));
    // From itself to itself.
    let copy =
        |to: Arg, what: Arg| Call::new(Sys::ProcessVmReadv, [Arg::Int(own), to, 1.into(), what, 1.into(), 0.into()]);
    let write = |at: u64, word: u32| {
        let inner = word.to_ne_bytes().to_vec();
        let what = Arg::nested([0, 4].map(u64::to_ne_bytes).concat(), 0, inner);
        copy(Arg::Bytes([at, 4].map(u64::to_ne_bytes).concat()), what)
    };
    let path = format!("/proc/thread-self/fdinfo/{}\0", seen.fd).into_bytes();
    let open = [Arg::Int(AT_FDCWD), Arg::Bytes(path), u64::from(super::flags::CLOEXEC).into(), 0.into()];
    // Until it is said which, none is read, and none closed.
    let opened = || Arg::Int(u64::MAX);
    let asked = [
        Call::new(Sys::Openat, open),
        Call::hand_over(own, 0, 5),
        Call::hand_over(own, 0, 8),
        write(memory + 4, sq_head.wrapping_add(1)),
        write(memory + 8, cq_tail.wrapping_sub(1)),
        Call::new(Sys::Read, [opened(), Arg::Out(MOST as usize), MOST.into()]),
        write(memory + 4, sq_tail),
        write(memory + 8, cq_head),
        Call::new(Sys::Close, [opened()]),
    ];
    let answers = from.probe.calls(&asked)?;
    let text = answers.get(5).filter(|a| a.result.is_ok()).map(|a| a.out.concat()).unwrap_or_default();
    Ok(flags_of(&text))
}

/// Each request stands with its number behind `SQEs`, but where they are in no array; each completion behind `CQEs`.
fn flags_of(text: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    let (requests, completions) = text.split_once("\nSQEs:")?.1.split_once("\nCQEs:")?;
    let (_, first) = completions.split_once('\n')?;
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    first.contains("user_data").then(|| {
        bit(!requests.contains("opcode"), SETUP_NO_SQARRAY)
            | bit(requests.contains("e0:"), SETUP_SQE128)
            | bit(first.contains("extra1"), SETUP_CQE32)
    })
}

/// Whether a completion that stands in memory, taken or not, was not the last of its request: then they count for nothing. Or it was
/// one of twice the size.
fn has_more(cqes: &[u8], size: usize) -> bool {
    const CQE_F_MORE: u8 = 2;
    const CQE_F_32: u8 = 0x80;
    cqes.chunks_exact(size).any(|cqe| cqe[12] & CQE_F_MORE != 0 || cqe[13] & CQE_F_32 != 0)
}

/// Whether another process of the tree has it, too: which of them has registered its memory nobody tells.
fn is_shared(seen: &Seen, from: &Capturing<'_>) -> bool {
    let all = from.probe.lines(TOLD[0]);
    let own = all.iter().find(|told| (told.pid, told.number) == (seen.pid, seen.fd)).map(|told| told.description);
    all.iter().any(|told| Some(told.description) == own && told.pid != seen.pid)
}

/// The registered files: nobody can ask a ring for one but by a request, and all that is told of it is what the link of its
/// descriptor would say. That is the name of one description alone if nobody else in the tree has it.
fn files(seen: &Seen, from: &mut Capturing<'_>) -> Result<Vec<Option<u32>>, Trouble> {
    const REMEDY: &str = "freeze it while the program has no such file registered; this is not supported yet";
    let mut files = vec![None; seen.info.number("UserFiles", 10).unwrap_or(0).min(MOST_FILES as u64) as usize];
    let mut refusals = Vec::new();
    let listed = proc::uring_files(&seen.info);
    for (place, link) in &listed {
        let Some(file) = files.get_mut(*place as usize) else { continue };
        let which = match from.probe.with_link(link)[..] {
            [one] => {
                *file = Some(one);
                continue;
            }
            [] => "nobody in the tree has a descriptor of",
            _ => "several files are called as",
        };
        let why = format!("{which} the file that is registered as {place} ({})", link.escape_ascii());
        refusals.push(seen.refuse(why, REMEDY));
    }
    if listed.iter().any(|(_, link)| !link.starts_with(b"socket:")) {
        let why =
            "of its registered files only the names are told: they are taken for the descriptors that have these names";
        from.note(seen.title(), why);
    }
    if refusals.is_empty() { Ok(files) } else { Err(Trouble::Refused(refusals)) }
}

impl Uring {
    fn cqe(flags: u32) -> u64 {
        if flags & SETUP_CQE32 != 0 { 32 } else { 16 }
    }

    /// What is to be known of one at which the kernel is not at work, from its memory and from questions.
    fn look(seen: &Seen, counts: &[u32; 8], from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refuse = |why: &str, remedy: &str| Err(seen.refuse(why, remedy).into());
        let areas = proc::maps(&from.probe.text("maps")?)?;
        let shows = |a: &&proc::Area| {
            a.name == LINK && Some(a.inode) == seen.info.ino && [OFF_SQ_RING, OFF_CQ_RING].contains(&a.offset)
        };
        let Some(area) = areas.iter().find(|a| shows(a) && a.perms.read && a.perms.write) else {
            return refuse("its process has not mapped its memory, or provides that itself", WITHOUT);
        };
        let [sq_head, _, cq_head, cq_tail, sq_mask, cq_mask, ..] = *counts;
        let bytes = from.probe.memory(area.start, 4 * WORDS)?;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let sizes = [sq_mask.wrapping_add(1), cq_mask.wrapping_add(1)];
        if words[..6] != counts[..6] || words[6..8] != sizes || [words[8], words[9], words[11]] != [0; 3] {
            return refuse("its memory is not as the kernel made it, or requests were lost", WITHOUT);
        }
        let Some(flags) = layout(seen, area.start, counts, from)? else {
            return refuse("the kernel does not tell how it is made up", "try again, or with a newer kernel");
        };
        let len = u64::from(sizes[1]) * Uring::cqe(flags);
        if area.start + CQES + len > area.end || cq_tail.wrapping_sub(cq_head) > sizes[1] {
            return refuse("its process has mapped only a part of its memory", WITHOUT);
        }
        if has_more(&from.probe.memory(area.start + CQES, len as usize)?, Uring::cqe(flags) as usize) {
            return refuse(
                "it has had requests that complete more than once, or completions of two sizes, so nothing tells whether all are done",
                WITHOUT,
            );
        }
        if !can_be_counted(sq_head, sizes[0]) || cq_tail.wrapping_sub(cq_head) > sq_head {
            return refuse("it has made so many requests that a thaw would take too long to count them", WITHOUT);
        }
        let buffers: Vec<(u64, u64)> = list(&seen.info, "UserBufs").into_iter().map(buffer).collect();
        let holes = buffers.iter().filter(|(at, len)| (*at, *len) != (0, 0) && !is_there((*at, *len), &areas));
        if holes.count() != 0 || buffers.len() as u64 != seen.info.number("UserBufs", 10).unwrap_or(0) {
            return refuse("a registered buffer is not in its process's memory any more", WITHOUT);
        }
        if !buffers.is_empty() && is_shared(seen, from) {
            return refuse("several processes have it, and its registered buffers may be of any of them", WITHOUT);
        }
        let (entries, waiting) = ((sizes[0], sizes[1]), cq_tail.wrapping_sub(cq_head));
        let files = files(seen, from)?;
        Ok(Uring { entries, flags, done: sq_head, waiting, status: seen.flags(), buffers, files })
    }
}

/// Why a ring cannot be kept, by what fdinfo and harmless questions tell; and the flags that these tell.
fn asked(seen: &Seen, from: &Capturing<'_>) -> Result<(Vec<Refusal>, u32), Trouble> {
    let has = |key: &str, usual: &[u8]| seen.info.field(key).is_some_and(|value| value != usual);
    let by_info = [
        (has("SqThread", b"-1"), "a thread of the kernel polls it (IORING_SETUP_SQPOLL)"),
        (has("NAPI", b"disabled"), "it polls the network (IORING_REGISTER_NAPI)"),
        (has("Personalities", b"-"), "it has personalities (IORING_REGISTER_PERSONALITY)"),
    ];
    let mut reasons: Vec<&str> = by_info.into_iter().filter(|(is, _)| *is).map(|(_, why)| why).collect();
    let questions = questions_to(seen.fd);
    let answers: Vec<Answer> = from.probe.calls(&questions.each_ref().map(|(call, ..)| call.clone()))?;
    let defers = answers[3].result == Err(Errno::EFAULT);
    if answers[0].result == Err(Errno::EEXIST) {
        reasons.push("another thread than the first of its process alone may use it (IORING_SETUP_SINGLE_ISSUER)");
    } else {
        // Of one that is disabled the others tell nothing.
        let mut others = questions.iter().zip(&answers).take(3);
        reasons.extend(others.find(|((_, kept, _), a)| a.result != Err(*kept)).map(|((.., why), _)| *why));
        if answers[4].result == Err(Errno::EBUSY) {
            reasons.push(questions[4].2);
        }
        if reasons.is_empty() && !provides_none(seen.fd, from)? {
            reasons.push(
                "buffers are provided to it (IORING_REGISTER_PBUF_RING), or the kernel does not tell (before 6.8)",
            );
        }
    }
    let flags = if defers { SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN } else { 0 };
    Ok((reasons.into_iter().map(|why| seen.refuse(why, WITHOUT)).collect(), flags))
}

impl Kind for Uring {
    const FLIES: bool = false;

    fn knows(seen: &Seen) -> bool {
        seen.link.0 == LINK
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(shared_outside(seen, from)?);
        // What it was like when all of the tree had just been stopped counts: what is done later, others have not seen.
        let now = proc::fdinfo(&from.probe.text(&format!("fdinfo/{}", seen.fd))?)?;
        let (before, counts) = (told(&seen.info), told(&now));
        if has_overflown(&now) {
            let why = "more has completed than its queue has room for, and only the kernel has the rest";
            refusals.push(seen.refuse(why, "freeze it when the program has taken its completions (io_uring_enter(2))"));
            return Err(Trouble::Refused(refusals));
        }
        if counts.is_none() {
            refusals.push(seen.refuse("the kernel does not tell where it is", "try again, or with a newer kernel"));
            return Err(Trouble::Refused(refusals));
        }
        let Some(counts) = counts.filter(|counts| before == Some(*counts) && !is_busy(&now, counts)) else {
            let why = "the kernel is at work for it, or its requests and completions are not as many (multishot)";
            refusals.push(seen.refuse(why, AGAIN));
            return Err(Trouble::Refused(refusals));
        };
        let seen = &Seen { info: now, ..seen.clone() };
        let (more, flags) = asked(seen, from)?;
        refusals.extend(more);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let ring = Uring::look(seen, &counts, from)?;
        let why = "what the kernel tells nobody is not kept: hints of its setup (IORING_SETUP_COOP_TASKRUN and the like), IORING_SETUP_CQE_MIXED, personalities, limits of workers, \
            its clock, timers that repeat or that a message of another ring hides; a registered buffer is what is at its address";
        from.note(seen.title(), why);
        Ok(Uring { flags: ring.flags | flags, ..ring })
    }

    /// It is enabled, and becomes that of a thread, where it is turned.
    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        check_host(to);
        let flags = self.flags | SETUP_CQSIZE | SETUP_R_DISABLED | SETUP_SUBMIT_ALL;
        let mut params: Vec<u8> =
            [self.entries.0, self.entries.1, flags].iter().flat_map(|n| n.to_ne_bytes()).collect();
        params.resize(120, 0);
        to.to.make(Self::NAME, descr, Sys::IoUringSetup, vec![u64::from(self.entries.0).into(), Value::Bytes(params)]);
        let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.status).into()];
        to.to.on_descr(Moment::Link, Self::NAME, descr, Sys::Fcntl, args, Expect::Success);
        if self.flags & SETUP_DEFER_TASKRUN != 0 && turner(descr.0, to.model) != Some(at.pid.0) {
            let why = "the thread that alone may use it has not mapped it";
            to.to.refuse(Refusal::new("io_uring", why, WITHOUT).of(at.pid.0));
        }
        if !self.buffers.is_empty() {
            let places =
                self.buffers.iter().flat_map(|(at, len)| [at.to_ne_bytes(), len.to_ne_bytes()].concat()).collect();
            let args = vec![
                Value::Descr(descr),
                REGISTER_BUFFERS.into(),
                Value::Bytes(places),
                (self.buffers.len() as u64).into(),
            ];
            to.to.arm(Self::NAME, at.tid, Sys::IoUringRegister, args, Expect::Success);
        }
        self.plan_files(descr, at, to);
    }
}

/// The rings that have registered what each process that has it makes for itself.
pub(crate) fn refusals(model: &Model) -> Vec<Refusal> {
    let of_each = |id: &u32| model.descriptions.get(id).is_some_and(Description::is_of_each);
    let any = model.rings().any(|ring| ring.files.iter().flatten().any(of_each));
    let why = "what it has registered is a process, or a file that tells of one";
    any.then(|| Refusal::new("io_uring", why, WITHOUT)).into_iter().collect()
}

/// Refuses a host on which none can be made.
fn check_host(to: &mut Planning<'_>) {
    const WHAT: &str = "io_uring";
    let disabled = to.to.host.told.get(DISABLED).map_or("0", |text| text.trim());
    if !to.to.refused(WHAT) && (disabled == "2" || disabled == "1" && !to.to.host.has(CAP_SYS_ADMIN)) {
        let remedy = "allow it (sysctl kernel.io_uring_disabled=0), or, where it is 1, thaw it as root";
        to.to.refuse(Refusal::new(WHAT, "it is disabled on this host", remedy));
    }
}

/// What is to be asked of the host.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let any = model.rings().next().is_some();
    any.then(|| DISABLED.to_owned()).into_iter().collect()
}

/// Of which ring of the tree an area shows the memory.
pub(crate) fn shown_by(area: &proc::Area, from: &Capturing<'_>) -> Result<Backing, Trouble> {
    let whole = [OFF_SQ_RING, OFF_CQ_RING, OFF_SQES].contains(&area.offset) && area.perms.shared && !area.perms.execute;
    let shown = from.probe.lines(TOLD[0]).into_iter().find(|told| whole && told.ino == Some(area.inode));
    if let Some(told) = shown {
        return Ok(Backing::Uring { ring: told.description, offset: area.offset });
    }
    let why = "nobody in the tree has a descriptor of its ring, or it is a part of one";
    Err(refuse_area(area, why, "freeze it while it has none; this is not supported yet").into())
}

/// Asks a thread for the ring to which it has given that number of its own.
pub(crate) fn ask_registered(n: u64) -> Call {
    Call::new(Sys::IoUringEnter, [n, 0, 0, ENTER_REGISTERED_RING, 0, 0].map(Arg::Int))
}

/// Whether a thread has given itself a number for a ring (io_uring_register_ring_fd(3)): nobody else sees it, and there need be no
/// descriptor besides (IORING_SETUP_REGISTERED_FD_ONLY). Who has never had to do with any is told so at the first
/// question (io_uring/io_uring.c, `io_uring_enter`: EINVAL).
pub(crate) fn look_for_registered(from: &Capturing<'_>) -> Result<(), Trouble> {
    const MOST: u64 = 16;
    let first = from.probe.calls(&[ask_registered(0)])?;
    if matches!(first[0].result, Err(Errno::EINVAL | Errno::ENOSYS)) {
        return Ok(());
    }
    let answers = from.probe.calls(&(0..MOST).map(ask_registered).collect::<Vec<_>>())?;
    let none = |answer: &Answer| matches!(answer.result, Err(Errno::EBADF | Errno::EINVAL | Errno::ENOSYS));
    let why = "it has registered the descriptor of a ring of io_uring";
    let remedy = "let it unregister that (io_uring_unregister_ring_fd); this is not supported yet";
    if answers.iter().all(none) { Ok(()) } else { Err(Refusal::new("io_uring", why, remedy).into()) }
}

/// Whether an area shows the head of a ring, so that who has it can turn that.
fn shows_head(area: &Area, ring: u32) -> bool {
    let is = matches!(area.backing, Backing::Uring { ring: of, offset } if of == ring && offset != OFF_SQES);
    is && u64::from(area.protection) & PROT_WRITE != 0
}

/// The first process that can turn a ring.
fn turner(ring: u32, model: &Model) -> Option<u32> {
    model.own_spaces().find(|(_, space)| space.areas.iter().any(|a| shows_head(a, ring))).map(|(pid, _)| pid)
}

/// An area that shows its memory.
pub(crate) fn map(area: &Area, (ring, offset): (u32, u64), protection: u64, pid: Pid, to: &mut Planning<'_>) {
    let descr = Descr(ring);
    let op = Op::Map { descr, offset, at: area.start, len: area.len(), protection };
    let mut makes = vec![Fact::Mapped(pid)];
    if turner(ring, to.model) == Some(pid.0) {
        makes.push(Fact::Linked(descr));
    }
    let needs = vec![Fact::Bare(pid), Fact::Made(descr)];
    to.to.step(Moment::Place, Uring::NAME, Actor::Thread(Tid(pid.0)), op, needs, makes);
}

/// Turns the rings that a process is the first to show, before anybody's memory is filled.
pub(crate) fn turn(pid: Pid, to: &mut Planning<'_>) {
    let model = to.model;
    for (id, description) in &model.descriptions {
        let Description::Uring(ring) = description else { continue };
        if turner(*id, model) != Some(pid.0) {
            continue;
        }
        let head = model.space(pid.0).and_then(|s| s.areas.iter().find(|a| shows_head(a, *id))).map_or(0, |a| a.start);
        let shows = |a: &Area| matches!(a.backing, Backing::Uring { ring, .. } if ring == *id);
        let all = model.own_spaces().filter(|(_, space)| space.areas.iter().any(shows));
        let makes: Vec<Fact> = all.map(|(pid, _)| Fact::Mapped(Pid(pid))).collect();
        let mut needs = vec![Fact::Linked(Descr(*id))];
        for (calls, times) in ring.turns(to.number(Descr(*id)), head) {
            let turned = Fact::Made(to.to.scratch());
            let op = Op::Again { calls, times };
            let makes = makes.iter().cloned().chain([turned.clone()]).collect();
            to.to.step(Moment::Place, Uring::NAME, Actor::Thread(Tid(pid.0)), op, needs, makes);
            needs = vec![turned];
        }
    }
}

impl Uring {
    /// The first thread may do that, whether it was enabled by then or not.
    fn plan_files(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        if self.files.is_empty() {
            return;
        }
        let all: BTreeSet<u32> = abi::gathered(self.files.iter().flatten().copied());
        if self.files.len() as u64 > to.to.host.max_files {
            let why =
                format!("a ring has {} registered files, the hard limit is {}", self.files.len(), to.to.host.max_files);
            return to.to.refuse(Refusal::new("limits", why, "raise it: ulimit -Hn").of(at.pid.0));
        }
        if all.iter().any(|id| to.is_by_each(*id) && !to.owners(Descr(*id)).contains(&at.pid)) {
            let why = "what a ring has registered is made by each process that has it, and this one has it not";
            return to.to.refuse(Refusal::new("io_uring", why, "thaw it where its ids are free").of(at.pid.0));
        }
        const EMPTY: u32 = u32::MAX;
        let number = |file: &Option<u32>| file.map_or(EMPTY, |id| to.number(Descr(id)) as u32).to_ne_bytes();
        let numbers = self.files.iter().flat_map(number).collect();
        let count = self.files.len() as u64;
        let args = vec![Value::Descr(descr), REGISTER_FILES.into(), Value::Bytes(numbers), count.into()];
        let op = Op::Call { sys: Sys::IoUringRegister, args, expect: Expect::Success };
        let made = all.into_iter().map(|id| Fact::Made(Descr(id)));
        let needs = [Fact::Made(descr), Fact::Files(at.pid)].into_iter().chain(made).collect();
        to.to.step(Moment::Link, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
    }

    /// The calls after which the kernel is where it was, each with how often they are made. What a new ring holds is a request to
    /// do nothing (IORING_OP_NOP is 0). What the program has taken is taken; the rest is left, as the kernel thinks of what it
    /// found free once as free (io_uring/io_uring.c, `io_cqe_cache_refill`).
    fn turns(&self, fd: u64, head: u64) -> Vec<(Vec<Call>, u32)> {
        let room = self.entries.0.ilog2();
        let enable = Call::new(Sys::IoUringRegister, [fd, REGISTER_ENABLE_RINGS, 0, 0].map(Arg::Int));
        let mut turns = vec![(vec![enable], 1)];
        let taken = self.done.wrapping_sub(self.waiting);
        for (count, takes) in [(taken, true), (self.waiting, false)] {
            let whole = (room, count >> room);
            let rest = (0..room).rev().map(|bit| (bit, count >> bit & 1));
            for (bit, times) in [whole].into_iter().chain(rest).filter(|(_, times)| *times != 0) {
                let enter = Call::new(Sys::IoUringEnter, [fd, 1 << bit, 0, 0, 0, 0].map(Arg::Int));
                let take = takes.then(|| add(head + 8, bit));
                turns.push(([add(head + 4, bit), enter].into_iter().chain(take).collect(), times));
            }
        }
        // Here it fails if this is not the ring that there was.
        let (sq, cq) = self.entries;
        let words = [self.done, self.done, taken, self.done, sq - 1, cq - 1, sq, cq];
        turns.push(((head..).step_by(4).zip(words).map(|(at, word)| same(at, word)).collect(), 1));
        turns
    }

    /// Whether there can be such a ring.
    pub(crate) fn is_sound(&self) -> bool {
        let (sq, cq) = self.entries;
        let sizes = sq.is_power_of_two() && cq.is_power_of_two() && sq <= MOST_ENTRIES / 2 && cq <= MOST_ENTRIES;
        let ends = self.buffers.iter().all(|(at, len)| at.checked_add(*len).is_some());
        let known = self.flags & !(FLAGS | SETUP_SINGLE_ISSUER) == 0 && self.files.len() <= MOST_FILES;
        sizes && ends && known && self.waiting <= cq.min(self.done) && can_be_counted(self.done, sq)
    }
}

/// Adds a power of two to what stands there (futex(2), FUTEX_WAKE_OP, FUTEX_OP_ADD): nobody is woken.
fn add(at: u64, bit: u32) -> Call {
    const ADD_SHIFTED: u64 = 9 << 28;
    let what = ADD_SHIFTED | u64::from(bit) << 12;
    Call::new(Sys::Futex, [at, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, at, what].map(Arg::Int))
}
