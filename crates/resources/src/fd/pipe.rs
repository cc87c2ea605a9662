//! Pipe: one end of a pipe, or of a named pipe (fifo(7)), all of whose ends are in the tree.
//!
//! - seen as    `pipe:[inode]`; of a named one, its path
//! - captured   flags; at the reading end also what waits in it (by tee(2), nothing is read out of it) and its size, and
//!   whether poll(2) tells of its end; what waits in a named one that nobody reads, at the end to write, by one to read that is opened
//! - recreated  `pipe2`, or by its path; a further description of an end by opening its link; F_SETPIPE_SZ, then the bytes are
//!   written, write by write, in packet mode where they were packets (pipe(7)), so that as much more goes in
//! - refused    a pipe that a process outside of the tree has too (`--external refuse`); a named one in which something waits that nobody has open to read, where whoever freezes may not,
//!   or where that is told to somebody (inotify(7), O_ASYNC, who waits in open(2)); packets
//!   behind bytes with which they would be one; by
//!   the thaw, one that does not stand there, or that somebody there has open
//! - not kept   what waits in one without a name that nobody has open to read: told. How much of its page a buffer has lost that was read
//!   in part: what is written next may go into it. The other end outside of the tree (`--external disconnect`): it is closed. But where it is a standard stream of the first
//!   process, and nothing waits in it, that of whoever thaws takes its place: told. A named one whose name is gone has none from then on, and poll(2) tells of its end: told

use super::file::{Standing, split};
use super::place::{self, READ, WRITE, Wanted};
use super::{Kind, S_IFIFO, Seen, common_refusals, flags};
use crate::task::written;
use crate::{At, Blob, Capturing, Description, External, Planning, Probe, Resource, Text, Trouble};
use abi::consts::fcntl::{F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_SETFL, F_SETPIPE_SZ};
use abi::consts::fd::AT_FDCWD;
use abi::consts::mmap::PAGE;
use abi::consts::poll::POLLERR;
use abi::consts::socket::SIOCINQ as FIONREAD;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, HostEffect, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// One description of an end of a pipe.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct PipeEnd {
    /// The inode number, which tells which ends belong together.
    #[n(0)]
    pub pipe: u64,
    /// Access mode and status flags (open(2)); O_DIRECT is packet mode.
    #[n(1)]
    pub flags: u32,
    /// Its capacity in bytes.
    #[n(2)]
    pub capacity: u64,
    /// What waits in it, by how it is written; kept with a reading end.
    #[n(3)]
    pub waiting: Vec<Blob>,
    /// Where it stands, if it has a name.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// Of a named one, of an end that only reads: nobody writes, and poll(2) does not tell (POLLHUP), as nobody has since it was
    /// opened.
    #[n(5)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// Whether somebody outside of the tree had an end of it.
    #[n(6)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// Which of what waits are packets, by their places. `None`, as in images of earlier releases: all, where there are several.
    #[n(7)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Vec<u32>>,
}

impl Resource for PipeEnd {
    const NAME: &'static str = "pipe";
}

impl PipeEnd {
    fn reads(&self) -> bool {
        self.flags & flags::ACCMODE != flags::WRONLY
    }

    /// Everything that waits, by how it has to be written so that it is in such buffers again: what no more fits into (fs/pipe.c,
    /// `pipe_write`) goes together with what is behind it. Buffers that are none of write(2) are as they come.
    fn keep(&mut self, buffers: Vec<(Vec<u8>, bool)>) {
        let is_long = buffers.iter().any(|(bytes, _)| bytes.len() as u64 > PAGE);
        let (mut packets, mut is_full) = (Vec::new(), false);
        for (bytes, is_packet) in buffers {
            let goes_on = is_full && !is_packet;
            is_full = !is_packet && (is_long || bytes.len() as u64 == PAGE);
            if is_packet {
                packets.push(self.waiting.len() as u32);
            }
            match self.waiting.last_mut().filter(|_| goes_on) {
                Some(before) => before.0.extend(bytes),
                None => self.waiting.push(Blob(bytes)),
            }
        }
        self.packets = Some(packets).filter(|packets| !packets.is_empty() || self.waiting.len() > 1);
    }

    /// Whether the first part of a packet would go into the page of what is before it, as there is room (fs/pipe.c, `pipe_write`): not so when it was
    /// written, for that was read in part since, or had come by splice(2).
    fn runs_together(&self) -> bool {
        let rest = |blob: &Blob| blob.0.len() as u64 % PAGE;
        (1..self.waiting.len()).filter(|n| self.is_packet(*n) && !self.is_packet(n - 1)).any(|n| {
            let (before, begins) = (rest(&self.waiting[n - 1]), rest(&self.waiting[n]));
            before != 0 && begins != 0 && before + begins <= PAGE
        })
    }

    fn is_packet(&self, n: usize) -> bool {
        self.packets.as_ref().map_or(self.waiting.len() > 1, |packets| packets.contains(&(n as u32)))
    }
}

impl Kind for PipeEnd {
    fn knows(seen: &Seen) -> bool {
        seen.file_type() == S_IFIFO && !seen.names_only()
    }

    fn asks(seen: &Seen, _: &dyn Probe) -> Vec<Call> {
        let is_written = seen.info.flags & flags::ACCMODE != flags::RDONLY;
        [capacity(seen)].into_iter().chain(is_written.then(|| Call::ready(seen.fd))).collect()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        let holder = match is_named(seen) {
            true => from.probe.other_opener(seen)?,
            false => from.probe.other_holders(&seen.link.0)?.first().copied(),
        };
        let whose = match holder {
            Some(holder) => Some((format!("process {holder}, outside of the tree"), "")),
            // Who opens a named one to read after its writers are gone is told of no end (fs/pipe.c, `fifo_open`), as if one were there.
            None if from.probe.has_hidden_end(seen)? => {
                let (or, as_whom) = match seen.flags() & flags::ACCMODE == flags::RDONLY && is_named(seen) {
                    true => (
                        "nobody (and something waits in it), or with ",
                        ", as root; or let the program read what waits in it",
                    ),
                    false => ("", ", as root"),
                };
                Some((format!("{or}a process outside of the tree, which you may not look at"), as_whom))
            }
            None => None,
        };
        if let Some((whose, as_whom)) = &whose {
            refusals.extend(outside(seen, whose, as_whom, from));
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let capacity = from.probe.calls(&[capacity(seen)])?[0].result.unwrap_or(65536);
        let (pipe, path) = number_and_path(seen, from);
        let mut end = PipeEnd {
            pipe,
            flags: seen.flags(),
            capacity,
            waiting: Vec::new(),
            path,
            quiet: false,
            outside: whose.is_some(),
            packets: None,
        };
        end.quiet = end.flags & flags::ACCMODE == flags::RDONLY && is_named(seen) && from.probe.is_unheard(seen.fd)?;
        if let Some(path) = &end.path {
            let access = if end.quiet { READ } else { READ | WRITE };
            place::note_closed(seen.title(), path, access, from);
        }
        if end.quiet && end.path.is_none() {
            from.note(
                seen.link.to_string(),
                "nobody has written to it yet: thawed, poll(2) tells of its end all the same",
            );
            end.quiet = false;
        }
        if end.reads() {
            end.keep(from.probe.peek(seen.fd)?);
        } else if waits_for_nobody(seen, from)? {
            match is_named(seen) {
                // Whoever opens it next reads that.
                true => end.keep(from.probe.peek_unread(seen)?.ok_or_else(|| unread(seen))?),
                false => {
                    from.note(seen.title(), "something waits in it that nobody has open to read: thawed, it is empty");
                }
            }
        }
        if end.runs_together() {
            let why = "packets (O_DIRECT) wait in it behind other bytes, and would be one with these";
            return Err(seen.refuse(why, "let the program read what waits in it").into());
        }
        Ok(end)
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let ends = to.ends(descr).into_iter().filter_map(|(id, end)| match end {
            Description::PipeEnd(end) => Some((id, end.clone())),
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        if !ends.is_empty() {
            plan_pipe(&ends, to);
        }
    }

    fn places(&self) -> Vec<&Text> {
        self.path.iter().collect()
    }

    fn object(&self) -> Option<u64> {
        Some(self.pipe)
    }
}

fn unread(seen: &Seen) -> Trouble {
    let why =
        "something waits in it, nobody has it open to read, and you may not, or somebody would be told that you do";
    seen.refuse(why, "read it, or let the program close it").into()
}

/// That its other end is outside: a reason against it, or told.
fn outside(seen: &Seen, whose: &str, as_whom: &str, from: &mut Capturing<'_>) -> Option<Refusal> {
    // A named one may be opened again by whoever has its name, and would be.
    if from.keep.external == External::Refuse || is_named(seen) {
        let or = "; or use --external disconnect: thawed, the program finds it closed";
        let or = if is_named(seen) { "" } else { or };
        let remedy = format!("freeze what stands at both ends of it together{as_whom}{or}");
        return Some(seen.refuse(format!("its other end is with {whose}"), remedy));
    }
    let why = format!(
        "its other end is with {whose}: thawed, it is closed, or a standard stream of whoever thaws it; what is written there from now on is not in the image"
    );
    from.note(seen.title(), why);
    None
}

fn capacity(seen: &Seen) -> Call {
    Call::new(Sys::Fcntl, [Arg::Int(seen.fd.into()), Arg::Int(F_GETPIPE_SZ)])
}

fn is_named(seen: &Seen) -> bool {
    !seen.link.0.starts_with(b"pipe:[")
}

/// What tells which ends belong together, and the path of a named one. Inode numbers of file systems are their own.
fn number_and_path(seen: &Seen, from: &mut Capturing<'_>) -> (u64, Option<Text>) {
    if !is_named(seen) {
        return (seen.stat.ino, None);
    }
    let number = seen.stat.ino ^ seen.stat.dev.rotate_right(16);
    let (path, standing) = split(&seen.link.0);
    if standing != Standing::Named {
        from.note(seen.link.to_string(), "the name of this pipe is gone: thawed, it has none");
        return (number, None);
    }
    (number, Some(path))
}

/// Whether bytes are in a pipe that only writers have (fs/pipe.c: POLLERR, FIONREAD).
fn waits_for_nobody(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    if from.probe.ready(seen.fd)? & POLLERR == 0 {
        return Ok(false);
    }
    let answers =
        from.probe.calls(&[Call::new(Sys::Ioctl, [Arg::Int(seen.fd.into()), FIONREAD.into(), Arg::Out(4)])])?;
    Ok(answers[0].result.is_ok() && written(&answers[0]).iter().any(|byte| *byte != 0))
}

/// One that has a name. An end that has heard of no writer is opened while there is none, nor comes one (fs/pipe.c, `fifo_open`: from then
/// on poll(2) tells of an end).
fn plan_fifo(path: &Text, ends: &[(Descr, PipeEnd)], to: &mut Planning<'_>) {
    let (quiet, others): (Vec<_>, Vec<_>) = ends.iter().cloned().partition(|(_, e)| e.quiet);
    // Who has both ends waits for nobody.
    let (first, path, access, needed) = match quiet.first() {
        Some((first, end)) if others.is_empty() => (*first, end.path.as_ref().unwrap_or(path), flags::RDONLY, READ),
        _ => (to.to.scratch(), path, flags::RDWR, READ | WRITE),
    };
    Wanted { what: "a named pipe", kind: S_IFIFO, access: needed, flags: 0 }.look(path, to);
    if let Some(pid) = to.to.host.openers.get(&path.0) {
        let why =
            format!("process {pid} has it open here, or waits for that, and would get, or give, what is the program's");
        to.to.refuse(Refusal::new(path.to_string(), why, "end that process, or let it close it"));
    }
    let here = |path: &Text| to.to.host.places.get(&path.0).and_then(|place| place.inode);
    let names = ends.iter().filter_map(|(_, end)| end.path.as_ref());
    if let Some(other) = names.clone().find(|name| here(name) != here(path)) {
        let why = format!("it was the same named pipe as {path}, and is not here");
        to.to.refuse(Refusal::new(other.to_string(), why, "make it there again (link(2))"));
    }
    let op = Op::Host(HostEffect::Fifo { descr: first, path: path.0.clone(), access });
    to.to.step(Moment::Make, PipeEnd::NAME, Actor::Thaw, op, vec![], vec![Fact::Made(first)]);
    others.iter().for_each(|(descr, end)| reopen(*descr, end, first, vec![], to));
    // Where some have heard of a writer, and others have not, nothing waits.
    let (mut of, mut needs) = (first, vec![]);
    if let Some((other, _)) = others.first().filter(|_| !quiet.is_empty()) {
        let op = Op::Call { sys: Sys::Close, args: vec![Value::Descr(first)], expect: Expect::Success };
        let opened = others.iter().map(|(descr, _)| Fact::Made(*descr)).collect();
        to.to.step(Moment::Make, PipeEnd::NAME, Actor::Store, op, opened, vec![Fact::Linked(first)]);
        (of, needs) = (*other, vec![Fact::Linked(first)]);
    }
    let rest = quiet.iter().filter(|(descr, _)| *descr != first);
    rest.for_each(|(descr, end)| reopen(*descr, end, of, needs.clone(), to));
    let others = if of == first && quiet.is_empty() { vec![first] } else { vec![] };
    let moment = if others.is_empty() { Moment::Fill } else { Moment::Make };
    fill((of, of), 0, ends, moment, to);
    close_others(&others, of, ends, to);
    set_flags(ends, of, to);
}

fn plan_pipe(ends: &[(Descr, PipeEnd)], to: &mut Planning<'_>) {
    if let Some(path) = ends.iter().find_map(|(_, end)| end.path.as_ref()) {
        return plan_fifo(path, ends, to);
    }
    if let Some(stream) = standard(ends, to) {
        return ends.iter().for_each(|(descr, end)| inherit(*descr, end, stream, to));
    }
    // What was opened, and not made by pipe2, has a flag that only open(2) gives.
    let made = |e: &PipeEnd, access: u32| e.flags & (flags::ACCMODE | flags::LARGEFILE) == access;
    let only = |access: u32| ends.iter().find(|(_, e)| made(e, access)).map(|(d, _)| *d);
    let reader = only(0).unwrap_or_else(|| to.to.scratch());
    let writer = only(flags::WRONLY).unwrap_or_else(|| to.to.scratch());
    let mode = if ends.iter().any(|(_, e)| e.is_packet(0)) { flags::DIRECT } else { 0 };
    let args = vec![Value::Out(8), u64::from(mode).into()];
    let op = Op::Make { sys: Sys::Pipe2, args, descrs: vec![reader, writer] };
    let made = vec![Fact::Made(reader), Fact::Made(writer)];
    to.to.step(Moment::Make, PipeEnd::NAME, Actor::Store, op, vec![], made);
    for (descr, end) in ends.iter().filter(|(d, _)| *d != reader && *d != writer) {
        reopen(*descr, end, if end.reads() { reader } else { writer }, vec![], to);
    }
    let others: Vec<Descr> =
        [reader, writer].into_iter().filter(|d| ends.iter().all(|(descr, _)| descr != d)).collect();
    let moment = if others.is_empty() { Moment::Fill } else { Moment::Make };
    fill((reader, writer), mode, ends, moment, to);
    close_others(&others, reader, ends, to);
    set_flags(ends, reader, to);
}

/// The standard stream of the first process that a pipe is whose other end was outside of the tree.
fn standard(ends: &[(Descr, PipeEnd)], to: &Planning<'_>) -> Option<u32> {
    let is_whole =
        ends.iter().all(|(_, end)| end.outside && end.waiting.is_empty() && end.reads() == ends[0].1.reads());
    let mut fds = to.model.processes[0].process.fds.iter().filter(|_| is_whole);
    let is_one = |number: u32| if ends[0].1.reads() { number == 0 } else { number == 1 || number == 2 };
    fds.find(|fd| is_one(fd.number) && ends.iter().any(|(descr, _)| descr.0 == fd.description)).map(|fd| fd.number)
}

/// The same stream of whoever thaws. That others share it is no matter: a shell's are shared by all that it starts.
fn inherit(descr: Descr, end: &PipeEnd, stream: u32, to: &mut Planning<'_>) {
    to.to.make(PipeEnd::NAME, descr, Sys::Fcntl, vec![u64::from(stream).into(), F_DUPFD_CLOEXEC.into(), 3.into()]);
    if end.flags & flags::NONBLOCK != 0 {
        // Its flags are those of everybody who has it.
        to.to.note("a standard stream of the program waits now where it did not (O_NONBLOCK)");
    }
}

/// The flags of now, once all is in.
fn set_flags(ends: &[(Descr, PipeEnd)], reader: Descr, to: &mut Planning<'_>) {
    for (descr, end) in ends {
        let args = vec![Value::Descr(*descr), F_SETFL.into(), u64::from(end.flags & !flags::ACCMODE).into()];
        let op = Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success };
        let needs = vec![Fact::Made(*descr), Fact::Filled(reader)];
        to.to.step(Moment::Arm, PipeEnd::NAME, Actor::Store, op, needs, vec![]);
    }
}

/// A further description of an end, by its link, or its own name, when these hold.
fn reopen(descr: Descr, end: &PipeEnd, of: Descr, mut needs: Vec<Fact>, to: &mut Planning<'_>) {
    let link = format!("/proc/self/fd/{}\0", to.number(of)).into_bytes();
    let link = end.path.as_ref().map_or(link, Text::c_string);
    let open_flags = end.flags & flags::ACCMODE | flags::NONBLOCK;
    let args = vec![AT_FDCWD.into(), Value::Bytes(link), u64::from(open_flags).into(), 0.into()];
    let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
    needs.push(Fact::Made(of));
    to.to.step(Moment::Make, PipeEnd::NAME, Actor::Store, op, needs, vec![Fact::Made(descr)]);
}

/// What waits is written, one after the other; `mode`: O_DIRECT, if it was made with that.
fn fill((reader, writer): (Descr, Descr), mode: u32, ends: &[(Descr, PipeEnd)], moment: Moment, to: &mut Planning<'_>) {
    let capacity = ends.iter().map(|(_, e)| e.capacity).max().unwrap_or(0);
    let args = vec![Value::Descr(writer), F_SETPIPE_SZ.into(), capacity.into()];
    // pipe(7): who has no privilege and many pipes gets such with less room, and can give them no more. What waits has to go in.
    const LOST: &str = "a pipe has less room than it had: all pages that your user may have are in use (sysctl fs.pipe-user-pages-soft)";
    let is_empty = ends.iter().all(|(_, end)| end.waiting.is_empty());
    let expect = if is_empty { Expect::ExactlyOrTold(capacity, LOST) } else { Expect::Exactly(capacity) };
    to.to.on_descr(Moment::Make, PipeEnd::NAME, writer, Sys::Fcntl, args, expect);
    let mut needs = vec![Fact::Made(writer)];
    needs.extend(Some(Fact::Filled(writer)).filter(|_| writer != reader));
    let mut ops = writes(writer, ends, mode);
    let last = ops.pop().unwrap_or(Op::Feed { descr: writer, packets: vec![] });
    for op in ops {
        let done = Fact::Linked(to.to.scratch());
        to.to.step(moment, PipeEnd::NAME, Actor::Store, op, std::mem::take(&mut needs), vec![done.clone()]);
        needs.push(done);
    }
    to.to.step(moment, PipeEnd::NAME, Actor::Store, last, needs, vec![Fact::Filled(reader)]);
}

/// By which steps: a pipe in packet mode makes a packet of each write (pipe(7)). The flags of now are set when all is in.
fn writes(writer: Descr, ends: &[(Descr, PipeEnd)], mut mode: u32) -> Vec<Op> {
    let Some((_, end)) = ends.iter().find(|(_, e)| !e.waiting.is_empty()) else { return Vec::new() };
    let mut ops = Vec::new();
    for (n, blob) in end.waiting.iter().enumerate() {
        let own = if end.is_packet(n) { flags::DIRECT } else { 0 };
        if std::mem::replace(&mut mode, own) != own {
            let args = vec![Value::Descr(writer), F_SETFL.into(), u64::from(flags::NONBLOCK | own).into()];
            ops.push(Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success });
        }
        match ops.last_mut() {
            Some(Op::Feed { packets, .. }) => packets.push(blob.0.clone()),
            _ => ops.push(Op::Feed { descr: writer, packets: vec![blob.0.clone()] }),
        }
    }
    ops
}

/// Ends that nobody has are closed before anybody is born who would have them too: when the last one is, a signal tells of it to who
/// has asked for that (fs/pipe.c, `pipe_release`; fcntl(2), O_ASYNC).
fn close_others(others: &[Descr], reader: Descr, ends: &[(Descr, PipeEnd)], to: &mut Planning<'_>) {
    for descr in others {
        let op = Op::Call { sys: Sys::Close, args: vec![Value::Descr(*descr)], expect: Expect::Success };
        let mut needs = vec![Fact::Made(*descr), Fact::Filled(reader)];
        needs.extend(ends.iter().map(|(end, _)| Fact::Made(*end)));
        to.to.step(Moment::Make, PipeEnd::NAME, Actor::Store, op, needs, vec![]);
    }
}
