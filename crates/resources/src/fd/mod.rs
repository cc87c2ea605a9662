//! What stands behind a descriptor. The list is closed: a kind that is not here is refused by name.

pub mod chardev;
pub mod directory;
pub mod epoll;
pub mod eventfd;
pub mod fanotify;
pub mod file;
pub mod inet;
pub mod inotify;
pub(crate) mod listened;
pub mod locks;
pub mod memfd;
pub mod mqueue;
pub mod netlink;
pub mod nsfd;
pub mod opath;
pub mod packet;
pub mod pidfd;
pub mod pipe;
pub mod place;
pub mod procfile;
pub mod pty;
pub mod regular;
pub mod rotation;
pub mod signalfd;
pub mod signalling;
pub mod socket;
pub mod timerfd;
pub mod tty;
pub mod unix;
pub(crate) mod unsupported;
pub mod uring;

pub use listened::Listened;

use crate::{At, Capturing, Planning, Probe, Resource, Text, Trouble};
pub(crate) use abi::consts::file_type::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};

use abi::consts::fcntl::F_SETFL;
use abi::layout::FileStat;
use abi::proc::Fdinfo;
use abi::{Arg, Call, Sys};
use plan::{Actor, Descr, Expect, Fact, HostEffect, Moment, OfEnded, Op, Refusal};

/// Flags of open(2) on x86-64 (asm-generic/fcntl.h).
pub(crate) mod flags {
    pub(crate) use abi::consts::open::{
        O_ACCMODE as ACCMODE, O_APPEND as APPEND, O_ASYNC as ASYNC, O_CLOEXEC as CLOEXEC, O_DIRECT as DIRECT,
        O_LARGEFILE as LARGEFILE, O_NOCTTY as NOCTTY, O_NOFOLLOW as NOFOLLOW, O_NONBLOCK as NONBLOCK, O_PATH as PATH,
        O_RDWR as RDWR, O_TMPFILE as TMPFILE, O_WRONLY as WRONLY,
    };
    pub(crate) const RDONLY: u32 = 0;
}

/// One description as the kernel shows it, through one descriptor that leads to it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The process that has it, by its id here.
    pub pid: u32,
    /// The descriptor.
    pub fd: u32,
    /// The link /proc/PID/fd/N.
    pub link: Text,
    /// What fstat(2) tells.
    pub stat: FileStat,
    /// /proc/PID/fdinfo/N.
    pub info: Fdinfo,
    /// The controlling terminal of the process: major and minor number.
    pub terminal: Option<(u32, u32)>,
    /// Nobody has it but a message that waits in a socket (unix(7), SCM_RIGHTS), and whoever asks, under that number.
    pub in_flight: bool,
}

impl Seen {
    /// The type bits.
    pub fn file_type(&self) -> u32 {
        self.stat.mode & S_IFMT
    }

    /// The status flags and access mode, without the flag that belongs to the number, and O_ASYNC, which is of [`signalling`].
    pub fn flags(&self) -> u32 {
        self.info.flags & !(flags::CLOEXEC | flags::ASYNC)
    }

    /// Whether it only names a place (O_PATH).
    pub fn names_only(&self) -> bool {
        self.info.flags & flags::PATH != 0
    }

    /// The name in /proc of its link.
    pub fn name(&self) -> String {
        format!("fd/{}", self.fd)
    }

    /// How it is called.
    pub(crate) fn title(&self) -> String {
        match self.in_flight {
            true => format!("what waits in a socket ({})", self.link),
            false => format!("fd {} ({})", self.fd, self.link),
        }
    }

    /// A refusal about it.
    pub fn refuse(&self, why: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::new(self.title(), why, remedy)
    }
}

/// What every kind of description can say.
pub trait Kind: Resource {
    /// Whether it can be captured where only a message has it: nothing is asked of it by a process of the tree.
    const FLIES: bool = true;
    /// Whether a description is of this kind.
    fn knows(seen: &Seen) -> bool;
    /// Whether it is, where that takes a question.
    fn is(seen: &Seen, _from: &Capturing<'_>) -> Result<bool, Trouble> {
        Ok(Self::knows(seen))
    }
    /// The calls that [`Kind::capture`] makes in any case, if it is of this kind: those of many are made at once, and their answers are
    /// there when it asks for them.
    fn asks(_seen: &Seen, _probe: &dyn Probe) -> Vec<Call> {
        Vec::new()
    }
    /// Asks what is to be known of it.
    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble>;
    /// Appends the steps that make it again.
    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>);
    /// The id of the file that it leads to, if it leads to one.
    fn file(&self) -> Option<u32> {
        None
    }
    /// The paths of the directories or names that it leads to.
    fn places(&self) -> Vec<&Text> {
        Vec::new()
    }
    /// The number of the kernel's object of which it is one end, if the ends of such an object are made together:
    /// then the plan of the first makes them all.
    fn object(&self) -> Option<u64> {
        None
    }
    /// Whether each process that has it makes it for itself: nobody else has one to send or to watch.
    fn is_of_each(&self) -> bool {
        false
    }
    /// Whether the kernel waits for all processors before one of them is no more (synchronize_srcu): many end beside each other as soon as
    /// one does.
    fn ends_slowly(&self) -> bool {
        false
    }
    /// Whether it is of the /proc in which the tree lives ([`place::is_in_proc`]): in a new pid namespace it is as those are.
    fn is_in_proc(&self) -> bool {
        false
    }
}

/// Why what is in flight cannot be captured there: by its kind, or as it tells somebody that it is ready (fcntl(2), F_SETOWN).
pub(crate) fn grounded(seen: &Seen, flies: bool, from: &Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    if !seen.in_flight {
        return Ok(None);
    }
    let asked = Call::new(Sys::Fcntl, [Arg::Int(seen.fd.into()), signalling::F_GETOWN_EX.into(), Arg::Out(8)]);
    let has_owner = from.probe.calls(&[asked])?[0].out.concat().iter().skip(4).any(|byte| *byte != 0);
    let why =
        if flies { "it sends signals" } else { "this kind of descriptor cannot be looked at while nobody has it" };
    Ok((!flies || has_owner).then(|| seen.refuse(why, "freeze it when it is received")))
}

/// What is refused of any kind: it would be lost in silence.
pub fn common_refusals(seen: &Seen) -> Vec<Refusal> {
    let mut all = Vec::new();
    if seen.info.locks.iter().any(|line| !locks::is_kept(line, seen.stat.mode)) {
        let remedy = "freeze it while it holds none; this is not supported yet";
        all.push(seen.refuse("the program holds a lease on it", remedy));
    }
    all
}

/// What a process outside of the tree has too and would be felt by both.
pub(crate) fn shared_outside(seen: &Seen, from: &Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    let others = from.probe.other_sharers(seen)?;
    let remedy = "end that process first, or start the program without it";
    let refuse = |pid| seen.refuse(format!("process {pid}, outside of the tree, has it too"), remedy);
    Ok(others.first().map(refuse))
}

/// A position that moves with that of a process outside of the tree (open(2), "Open file descriptions"), as of a shell that
/// reads its own input with it. Who only appends has no use for one.
pub(crate) fn note_shared_position(seen: &Seen, from: &mut Capturing<'_>) -> Result<(), Trouble> {
    if seen.flags() & (flags::ACCMODE | flags::APPEND) == flags::WRONLY | flags::APPEND {
        return Ok(());
    }
    if let Some(pid) = from.probe.other_sharers(seen)?.first() {
        let why = format!("process {pid} moves its position too; thawed, the program has one of its own");
        from.note(seen.title(), why);
    }
    Ok(())
}

/// Status flags of what is made by a call that takes none but those `given` (fcntl(2), F_SETFL). O_NOATIME only the owner may set, and that
/// of anonymous inodes is root.
pub(crate) fn set_status(by: &'static str, descr: Descr, (status, given): (u32, u32), to: &mut Planning<'_>) {
    const SETTABLE: u32 = flags::NONBLOCK | flags::APPEND;
    if (status ^ given) & SETTABLE != 0 {
        let args = vec![plan::Value::Descr(descr), F_SETFL.into(), u64::from(status & SETTABLE).into()];
        to.to.on_descr(Moment::Make, by, descr, Sys::Fcntl, args, Expect::Success);
    }
}

/// `lseek` to where it stood.
pub(crate) fn seek(by: &'static str, descr: Descr, to_offset: u64, to: &mut Planning<'_>) {
    if to_offset != 0 {
        let args = vec![plan::Value::Descr(descr), to_offset.into(), 0.into()];
        let op = Op::Call { sys: abi::Sys::Lseek, args, expect: Expect::Exactly(to_offset) };
        // What is written into it on the way moves the offset, so it is set when all is in.
        to.to.step(Moment::Arm, by, Actor::Store, op, vec![Fact::Made(descr)], vec![]);
    }
}

/// Descriptions of a process that is no more.
pub(crate) fn make_of_ended(by: &'static str, opened: Vec<(Descr, OfEnded, u32)>, to: &mut Planning<'_>) {
    let makes = opened.iter().map(|(descr, ..)| Fact::Made(*descr)).collect();
    if !opened.is_empty() {
        to.to.step(Moment::Make, by, Actor::Thaw, Op::Host(HostEffect::Ended { opened }), vec![], makes);
    }
}
