//! The words of a plan: who does what, when, needing and making which facts.

use abi::{
    Sys,
    x86_64::{DispatchConfiguration, UserRegs},
};
use image::Extent;
use serde::Serialize;
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident $sign:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        pub struct $name(pub u32);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($sign, "{}"), self.0)
            }
        }
    };
}
id!(/// A process, by its id in its own pid namespace.
    Pid "p");
id!(/// A thread, by its id in its own pid namespace.
    Tid "t");
id!(/// An open file description: what `dup`, `fork` and SCM_RIGHTS share.
    Descr "d");

/// Kinds of objects of System V IPC (svipc(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Ipc {
    /// A segment of shared memory.
    Shm,
    /// A set of semaphores.
    Sem,
    /// A message queue.
    Msg,
}

impl Ipc {
    /// How the kernel's files and calls of it begin.
    pub const fn name(self) -> &'static str {
        match self {
            Ipc::Shm => "shm",
            Ipc::Sem => "sem",
            Ipc::Msg => "msg",
        }
    }

    /// The call that makes one.
    pub const fn get(self) -> Sys {
        match self {
            Ipc::Shm => Sys::Shmget,
            Ipc::Sem => Sys::Semget,
            Ipc::Msg => Sys::Msgget,
        }
    }
}

/// One object of System V IPC, by its id in its own namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Object {
    /// What it is.
    pub kind: Ipc,
    /// Its id.
    pub id: u32,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.name(), self.id)
    }
}

/// For how long an object of System V IPC is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// Until it is removed: it is in the namespace of whoever thaws, and goes when the thaw fails.
    Host,
    /// As long as the tree: it is in a namespace of the tree's own.
    Tree,
}

/// What a step makes true.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fact {
    /// The description exists in the store.
    Made(Descr),
    /// What a description leads to has its contents.
    Filled(Descr),
    /// What a description refers to, it refers to again.
    Linked(Descr),
    /// The socket has its name, and takes connections if it did.
    Bound(Descr),
    /// The thread exists, and waits for work.
    Born(Tid),
    /// Nothing of the thawing program is left in the address space of the process.
    Bare(Pid),
    /// Every area of the process stands.
    Mapped(Pid),
    /// The memory of the process holds what those shall have who are born of it.
    Seeded(Pid),
    /// The memory of the process holds what it held.
    Loaded(Pid),
    /// The descriptor table of the process is what it was.
    Files(Pid),
    /// A number of the process leads where it led; of those only that somebody asks for.
    Placed(Pid, u32),
    /// No number is open in the process that was not, but those of whoever executes the plan.
    Closed(Pid),
    /// Everything of the process but its registers is as it was.
    Whole(Tid),
    /// The process group exists, in its session.
    Group(u32),
    /// The process is in its session and its process group.
    Grouped(Pid),
    /// The thread, or its whole process, has ended as it had.
    Ended(Tid),
    /// No seccomp filter or mode keeps the thread from a call, until it runs.
    Unfiltered(Tid),
    /// The threads of the process have the filters that are common to all of them.
    Synced(Pid),
    /// The parent of a process has taken note of its end.
    Reaped(Tid),
    /// The process is stopped as it was, and its parent may hear of that.
    Stopped(Pid),
    /// The process has no signal left that tells of what its children did while they were made.
    Told(Pid),
    /// All that is counted as a signal that waits for the process (getrlimit(2), RLIMIT_SIGPENDING) is there.
    Queued(Pid),
    /// Every process and thread of the tree exists: what a newborn inherits may change from here on.
    Peopled,
    /// Besides, each is in its session and group, and those that had ended have: what acts by itself may begin.
    Settled,
    /// The object of System V IPC exists.
    Exists(Object),
    /// It holds what it held.
    Holds(Object),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// When: a tie-break between ready steps, and a column when printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Moment {
    /// An object from nothing but its namespace.
    Make,
    /// Processes and threads.
    Birth,
    /// Descriptor numbers and areas.
    Place,
    /// References between objects.
    Link,
    /// Contents.
    Fill,
    /// What acts by itself or takes power away.
    Arm,
    /// What counts time from when it is set.
    Start,
    /// From here on nothing can fail.
    Commit,
}

/// Who carries a step out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Actor {
    /// The thawing process itself.
    Thaw,
    /// The stub, in the namespaces of the tree, in which descriptions are made, and of which processes are born.
    Store,
    /// A thread of the tree.
    Thread(Tid),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Thaw => f.pad("thaw"),
            Actor::Store => f.pad("store"),
            Actor::Thread(t) => f.pad(&t.to_string()),
        }
    }
}

/// An argument of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number or an address.
    Int(u64),
    /// The number under which the store (and whoever is born of it) has a description.
    Descr(Descr),
    /// A pointer to these bytes.
    Bytes(Vec<u8>),
    /// A pointer to this many bytes to be filled by the kernel.
    Out(usize),
    /// A pointer to `bytes` whose eight bytes at `at` point to `inner`.
    Nested {
        /// The outer structure.
        bytes: Vec<u8>,
        /// Where the pointer stands.
        at: usize,
        /// What it leads to.
        inner: Vec<u8>,
    },
    /// A pointer to a `struct itimerspec`: the rest until a moment of a clock of the plan, whenever the call is made.
    Until(Until),
    /// A pointer to a `struct itimerspec`: a moment of the past, whenever the call is made.
    Ago(Ago),
}

/// See [`Value::Ago`]; in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ago {
    /// Of which clock (clock_gettime(2)).
    pub clock: i32,
    /// How long ago it was.
    pub past: u64,
    /// Its period.
    pub period: u64,
}

/// See [`Value::Until`]; in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Until {
    /// CLOCK_MONOTONIC or CLOCK_BOOTTIME.
    pub clock: i32,
    /// When it ends.
    pub moment: u64,
    /// The rest is at least that.
    pub least: u64,
    /// Its period.
    pub period: u64,
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Value::Int(n)
    }
}

/// What a call must give for the plan to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Any success.
    Success,
    /// Exactly this value.
    Exactly(u64),
    /// Nothing: a kernel without it loses a convenience, not a behaviour.
    Whatever,
    /// Any success; where there is none the tree goes on, and the user is told this.
    OrTold(&'static str),
    /// The same, of exactly this value.
    ExactlyOrTold(u64, &'static str),
}

/// An effect outside of the tree, undone when the thaw fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostEffect {
    /// A file gets the contents that the image holds; the one that stood there comes back on undo.
    ReplaceFile {
        /// Where.
        path: Vec<u8>,
        /// Type and permission bits.
        mode: u32,
        /// User and group, if they may be given.
        owner: Option<(u32, u32)>,
        /// Length in bytes.
        size: u64,
        /// Seconds and nanoseconds of its last modification.
        mtime: (i64, u32),
        /// The contents; what is between them is a hole.
        contents: Vec<Extent>,
    },
    /// Something is made, opened and removed: a description of what has no name. In itself it leaves nothing.
    Removed {
        /// The description.
        descr: Descr,
        /// What.
        what: Removed,
        /// Where: another name in the same directory, if something stands there.
        path: Vec<u8>,
        /// Status flags (open(2)).
        flags: u32,
        /// Type and permission bits.
        mode: u32,
        /// User and group, if they may be given.
        owner: Option<(u32, u32)>,
    },
    /// A POSIX message queue is made, which is removed again when the thaw fails.
    Mqueue {
        /// The description, for reading and writing.
        descr: Descr,
        /// Its name; without one it is removed as soon as it is open.
        name: Option<Vec<u8>>,
        /// How many messages may wait, and how long each may be.
        limits: (u64, u64),
    },
    /// A named pipe is opened: one that nobody else has open, as far as that can be told, and in which nothing waits.
    Fifo {
        /// The description.
        descr: Descr,
        /// Its path.
        path: Vec<u8>,
        /// Access mode (open(2)); it never waits.
        access: u32,
    },
    /// A file of the user and the group of whoever thaws is opened, whatever its permission bits say.
    Own {
        /// The description.
        descr: Descr,
        /// Its path.
        path: Vec<u8>,
        /// Access mode and status flags (open(2)).
        flags: u32,
    },
    /// A process is made and looked at, and ends with the thaw: descriptions of one that is no more.
    Ended {
        /// The descriptions, with what each is of, and flags.
        opened: Vec<(Descr, OfEnded, u32)>,
    },
    /// A new pseudo-terminal is opened, with a number of one's choice if it is free.
    PseudoTerminal {
        /// The description: the master.
        descr: Descr,
        /// The number that it had, if that matters.
        number: Option<u32>,
        /// Access mode and status flags (open(2)).
        flags: u32,
    },
    /// What waits in a pseudo-terminal is written into it.
    Waiting {
        /// The master.
        master: Descr,
        /// A slave, to read and to write.
        slave: Descr,
        /// Whole lines, as keys (see [`Typing`]).
        lines: Vec<u8>,
        /// How many bytes that are, when they are read.
        length: u64,
        /// A line that is not whole; likewise.
        rest: Vec<u8>,
        /// What can be read from the master.
        shown: Vec<u8>,
    },
    /// A socket gets a name of the file system; what stood there, a socket of nobody any more, comes back on undo, or at once
    /// where the name does not stay.
    Bind {
        /// The socket.
        descr: Descr,
        /// Its name.
        name: Vec<u8>,
        /// Where that leads to: the name may be relative.
        path: Vec<u8>,
        /// Type and permission bits of the file.
        mode: u32,
        /// User and group, if they may be given.
        owner: Option<(u32, u32)>,
        /// Whether there is a file any more, when the socket has its name.
        stays: bool,
    },
    /// The tree's group gets the foreground of the terminal, if the thawing process has it.
    Terminal {
        /// A process of the group that had the foreground of its terminal, or would have it now.
        of: Pid,
        /// The settings that the terminal gets (TCGETS), if any.
        settings: Option<Vec<u8>>,
        /// What is typed there for the user, if anything.
        typing: Option<Typing>,
    },
}

/// What is removed as soon as it is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Removed {
    /// An empty directory.
    Directory,
    /// A symbolic link that leads there.
    Link(Vec<u8>),
    /// A character device (`st_rdev`).
    Device(u64),
}

/// What of a process that has ended somebody has open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfEnded {
    /// Itself (pidfd_open(2)).
    Process,
    /// What stood at this path below its directory in /proc: nothing, or one that begins with a slash.
    File(Vec<u8>),
}

/// What was typed elsewhere and not read yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Typing {
    /// The keys. Each stands for itself, but a newline and those named here.
    pub keys: Vec<u8>,
    /// What the user is told of it where it cannot be typed.
    pub told: String,
}

impl Typing {
    /// The next key stands for itself (Ctrl-V).
    pub const QUOTE: u8 = 0x16;
    /// The end of a line that has no newline, or of the file (Ctrl-D).
    pub const END: u8 = 0x04;
}

/// One end of a TCP connection. It never waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpEnd {
    /// The socket.
    pub descr: Descr,
    /// AF_INET or AF_INET6 (ip(7)).
    pub family: u64,
    /// Its address, as that family writes it; none: any of this host.
    pub local: Vec<u8>,
    /// Whether another port will do where its own is not to be had.
    pub may_move: bool,
    /// The address of the other end, likewise.
    pub remote: Vec<u8>,
    /// For how many bytes it is to have room at first; 0: as many as usual.
    pub room: u32,
}

/// A socket that is reached by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whom {
    /// The name, as in `sun_path` (unix(7)): it may be relative.
    pub name: Vec<u8>,
    /// Where it leads to.
    pub path: Vec<u8>,
    /// The socket that has it, where its file is gone.
    pub of: Option<Descr>,
}

/// A message, or a piece of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Descriptions that come with it.
    pub rights: Vec<Descr>,
    /// Whose it is: process, if that is of the tree, user and group.
    pub credentials: Option<(Option<Pid>, u32, u32)>,
}

/// A message that waited in a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// The address from which it came.
    pub from: Vec<u8>,
    /// Who has that address in the tree, if somebody has.
    pub by: Option<Descr>,
    /// What it says.
    pub message: Vec<u8>,
    /// How long each of the messages is that go as this one (udp(7), UDP_SEGMENT); 0: it is one.
    pub segment: u32,
}

/// How a thread comes into being.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Birth {
    /// The first thread of the first process, a child of whoever thaws.
    Root,
    /// A further thread of a process.
    Thread {
        /// The process.
        of: Pid,
    },
    /// The first thread of a further process, made by the actor.
    Process {
        /// CLONE_ flags (clone(2)): what it shares with its maker, and whose child it is.
        flags: u64,
        /// The signal that tells its parent of its end; 0: none.
        exit_signal: u32,
    },
}

/// How a process or thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All of the process, with this status (wait(2)).
    Process(i32),
    /// Only this thread: others of the process live on.
    Thread(i32),
}

/// How an interrupted call is put back into the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Restart {
    /// The registers tell the kernel all it needs.
    Registers,
    /// The rest of the call lives in the kernel (restart_block): it is begun once more with these arguments,
    /// interrupted at once, and left to the kernel to go on with.
    Begin {
        /// Which call.
        sys: Sys,
        /// Its arguments, with the time that was left.
        args: Vec<Value>,
    },
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A system call of the actor.
    Call {
        /// Which.
        sys: Sys,
        /// With what.
        args: Vec<Value>,
        /// For what.
        expect: Expect,
    },
    /// Calls of the actor that have to do with each other, all of which must succeed.
    Calls(Vec<abi::Call>),
    /// The same, so many times over.
    Again {
        /// Which.
        calls: Vec<abi::Call>,
        /// How many times.
        times: u32,
    },
    /// What waits in a description is read and thrown away, but for the last bytes of it.
    Drain {
        /// Of which.
        descr: Descr,
        /// How many bytes stay.
        but: u64,
    },
    /// A part of a file that takes no address from whoever maps it gets this one all the same.
    Map {
        /// The file.
        descr: Descr,
        /// From where on.
        offset: u64,
        /// Where to.
        at: u64,
        /// In bytes.
        len: u64,
        /// PROT_ bits (mmap(2)).
        protection: u64,
    },
    /// A call of the actor that makes a description, and its move to the number of that description.
    Make {
        /// Which call: it returns one new descriptor, or writes two (pipe2).
        sys: Sys,
        /// With what.
        args: Vec<Value>,
        /// One description, or the two ends of a pipe.
        descrs: Vec<Descr>,
    },
    /// A thread is born, and with the first one its process.
    Clone {
        /// The id of the newborn.
        tid: Tid,
        /// As what.
        birth: Birth,
    },
    /// The actor ends, and waits for whoever is to take note of that.
    End(End),
    /// From here on, until the tree runs, no seccomp filter or mode keeps the actor from a call.
    Unfilter,
    /// The actor's address space is emptied, down to the envoy and the vdso.
    Empty,
    /// The areas that the kernel shares with every process (vdso, vvar) move to where they were.
    MoveKernelAreas {
        /// Name and start of each.
        areas: Vec<(String, u64)>,
    },
    /// Pages of the image go to where they were in the actor's memory.
    Pages {
        /// Which.
        extents: Vec<Extent>,
    },
    /// Contents of the image go into a file.
    Contents {
        /// The file.
        descr: Descr,
        /// Its length.
        size: u64,
        /// Seconds and nanoseconds of its last modification.
        mtime: (i64, u32),
        /// In bytes, the size of the huge pages that it is made of: into such a file nothing can be written, but by way of its
        /// memory; 0: it is made of none.
        page: u64,
        /// Which.
        extents: Vec<Extent>,
    },
    /// Bytes are written into a description, one `write` each.
    Feed {
        /// Where to.
        descr: Descr,
        /// What.
        packets: Vec<Vec<u8>>,
    },
    /// Messages are sent by a socket, with what comes with them (unix(7)).
    Send {
        /// The socket.
        descr: Descr,
        /// To whom, if not to its other end.
        to: Option<Whom>,
        /// Which, in their order.
        messages: Vec<Message>,
    },
    /// A socket is connected to a name of the file system, from where it leads to the path.
    Connect {
        /// The socket.
        descr: Descr,
        /// The name: it may be relative.
        name: Vec<u8>,
        /// Where it leads to.
        path: Vec<u8>,
        /// The socket that has the name, where its file is gone.
        of: Option<Descr>,
        /// For what.
        expect: Expect,
    },
    /// Messages are sent to a socket of the internet, each from where it came, as far as that is an address of this host.
    Datagrams {
        /// The socket.
        to: Descr,
        /// In their order.
        all: Vec<Datagram>,
        /// What is told where one cannot be sent.
        lost: &'static str,
    },
    /// A TCP connection is made, between two sockets that are made for it; or with whoever takes connections there, to be accepted.
    Join {
        /// Who connects.
        from: TcpEnd,
        /// Who is accepted.
        at: Option<TcpEnd>,
    },
    /// A TCP connection is made whose other end resets it, after it has sent something.
    Reset {
        /// Our end.
        descr: Descr,
        /// AF_INET or AF_INET6 (ip(7)).
        family: u64,
        /// What it can read.
        waiting: Vec<u8>,
    },
    /// An object of System V IPC is made, with the id that it had.
    Object {
        /// Which.
        object: Object,
        /// Key, and whatever else the call that makes it takes.
        args: Vec<u64>,
        /// For how long.
        lasting: Lasting,
    },
    /// Contents of the image go into a segment of shared memory, by way of an attachment in passing.
    Segment {
        /// Its id.
        id: u32,
        /// Which; their addresses are offsets in it.
        extents: Vec<Extent>,
    },
    /// Something outside of the tree.
    Host(HostEffect),
    /// The registers, extended state and signal mask of the actor; it does not run yet.
    Regs {
        /// General registers, with the interrupted call in them.
        regs: Box<UserRegs>,
        /// The NT_X86_XSTATE regset.
        xstate: Vec<u8>,
        /// Blocked signals.
        mask: u64,
        /// What becomes of the interrupted call.
        restart: Restart,
    },
    /// From when it runs, the actor's system calls come back to it as that says.
    Dispatch {
        /// The range whose calls are let through, and the selector.
        config: DispatchConfiguration,
    },
    /// A signal that makes itself felt when the tree runs: SIGSTOP for a first process that was stopped.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// All of the process of the actor is stopped, and its parent is told. It makes no call any more.
    Stop {
        /// The signal that had stopped it.
        signal: i32,
    },
    /// Every thread runs. Nothing after this may fail.
    Commit,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When.
    pub moment: Moment,
    /// The resource that asked for it.
    pub by: &'static str,
    /// Who.
    pub actor: Actor,
    /// What.
    pub op: Op,
    /// Facts without which it cannot be done.
    pub needs: Vec<Fact>,
    /// Facts that it makes, or has a part in making.
    pub makes: Vec<Fact>,
}

/// In which namespaces the tree lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Namespaces {
    /// In those of the thawing process.
    Same,
    /// In a new pid namespace, with a mount namespace in which /proc tells of it.
    Pid,
    /// The same inside a new user namespace, in which only these ids exist.
    UserPid {
        /// User id, inside as outside.
        uid: u32,
        /// Group id, inside as outside.
        gid: u32,
    },
}

/// Where the clocks that count from the start of the machine go on, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// CLOCK_BOOTTIME.
    pub boottime: u64,
}

/// A whole plan, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where the store stands.
    pub namespaces: Namespaces,
    /// The clocks of a new time namespace, if there is to be one.
    pub clocks: Option<Clocks>,
    /// The first number of the store's descriptions: description N has the number `base + N`.
    pub base: u32,
    /// The first of the numbers, up to `base`, that belong to whoever executes the plan.
    pub reserve: u32,
    /// Addresses at which the processes have something while they are made: the first, and the one behind the last.
    pub staging: (u64, u64),
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// What the user is to be told: what is not as it was.
    pub notes: Vec<String>,
}

struct Quoted<'a>(&'a [u8]);
impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.strip_suffix(&[0]).unwrap_or(self.0);
        let plain = self.0.len() != text.len() && text.iter().all(|b| (0x20..0x7f).contains(b));
        if plain { write!(f, "\"{}\"", text.escape_ascii()) } else { write!(f, "[{} bytes]", self.0.len()) }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(n) if *n < 4096 => write!(f, "{n}"),
            Value::Int(n) if (*n as i64) < 0 && (*n as i64) > -4096 => write!(f, "{}", *n as i64),
            Value::Int(n) => write!(f, "{n:#x}"),
            Value::Descr(d) => d.fmt(f),
            Value::Bytes(b) => Quoted(b).fmt(f),
            Value::Out(_) => f.write_str("&out"),
            Value::Nested { bytes, inner, .. } => write!(f, "[{}+{} bytes]", bytes.len(), inner.len()),
            Value::Until(until) => write!(f, "the rest until {} s", until.moment / 1_000_000_000),
            Value::Ago(ago) => write!(f, "{} ns ago", ago.past),
        }
    }
}

fn call(f: &mut fmt::Formatter<'_>, sys: Sys, args: &[Value]) -> fmt::Result {
    let args: Vec<String> = args.iter().map(Value::to_string).collect();
    write!(f, "{sys}({})", args.join(", "))
}

fn several(f: &mut fmt::Formatter<'_>, calls: &[abi::Call]) -> fmt::Result {
    let first = calls.first().map_or("no call", |call| call.sys.name());
    write!(f, "{first}, the first of {} calls", calls.len())
}

fn dispatch(f: &mut fmt::Formatter<'_>, config: &DispatchConfiguration) -> fmt::Result {
    let (start, end) = (config.offset, config.offset.wrapping_add(config.len));
    write!(f, "dispatch its system calls to itself, but for {start:#x}-{end:#x}, by {:#x}", config.selector)
}

fn total(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |sum, e| sum.saturating_add(e.len))
}

impl fmt::Display for HostEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostEffect::ReplaceFile { path, size, .. } => {
                write!(f, "put {size} saved bytes back into {}", path.escape_ascii())
            }
            HostEffect::Removed { descr, what, path, .. } => {
                let what = match what {
                    Removed::Directory => "directory",
                    Removed::Link(_) => "symbolic link",
                    Removed::Device(_) => "device",
                };
                write!(f, "{descr} = {what} {}, removed once it is open", path.escape_ascii())
            }
            HostEffect::Mqueue { descr, name, limits: (most, longest) } => {
                let name = name.as_ref().map_or_else(|| "without a name".into(), |n| format!("/{}", n.escape_ascii()));
                write!(f, "{descr} = message queue {name} for {most} messages of {longest} bytes")
            }
            HostEffect::Fifo { descr, path, access } => {
                let how = ["read", "write", "read and write"].get(*access as usize).unwrap_or(&"nothing");
                write!(f, "{descr} = named pipe {}, open to {how} here alone", path.escape_ascii())
            }
            HostEffect::Own { descr, path, .. } => write!(f, "{descr} = {}, as its owner", path.escape_ascii()),
            HostEffect::Ended { opened } => {
                let names: Vec<String> = opened.iter().map(|(descr, ..)| descr.to_string()).collect();
                write!(f, "{} = of a process that ends with this thaw", names.join(", "))
            }
            HostEffect::PseudoTerminal { descr, number, .. } => {
                write!(f, "{descr} = master of a new terminal")?;
                number.iter().try_for_each(|number| write!(f, ", if possible of /dev/pts/{number}"))
            }
            HostEffect::Waiting { master, length, rest, shown, .. } => {
                write!(f, "{} bytes wait in {master}, and {length} and {} keys for its slave", shown.len(), rest.len())
            }
            HostEffect::Bind { descr, path, .. } => write!(f, "bind {descr} to {}", path.escape_ascii()),
            HostEffect::Terminal { settings, typing, .. } => {
                f.write_str("hand the terminal over")?;
                settings.iter().try_for_each(|_| f.write_str(", with its settings"))?;
                typing.iter().try_for_each(|t| write!(f, ", and type {} keys", t.keys.len()))
            }
        }
    }
}

/// What stands behind a call.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Exactly(n) if *n < 4096 => write!(f, " = {n}"),
            Expect::Exactly(n) => write!(f, " = {n:#x}"),
            Expect::Success => Ok(()),
            Expect::Whatever => f.write_str(" (or not)"),
            Expect::OrTold(_) => f.write_str(" (or it is told)"),
            Expect::ExactlyOrTold(n, _) => write!(f, " = {n} (or it is told)"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Call { sys, args, expect } => {
                call(f, *sys, args)?;
                expect.fmt(f)
            }
            Op::Calls(calls) => several(f, calls),
            Op::Again { calls, times } => {
                several(f, calls)?;
                write!(f, ", {times} times")
            }
            Op::Drain { descr, but } => write!(f, "read all that waits in {descr} but {but} bytes"),
            Op::Map { descr, offset, at, .. } => write!(f, "map {descr} from {offset:#x} on to {at:#x}"),
            Op::Make { sys, args, descrs } => {
                let names: Vec<String> = descrs.iter().map(Descr::to_string).collect();
                write!(f, "{} = ", names.join(", "))?;
                call(f, *sys, args)
            }
            Op::Clone { tid, birth } => match birth {
                Birth::Root => write!(f, "clone {tid}, the first thread of a process"),
                Birth::Thread { of } => write!(f, "clone {tid}, a thread of {of}"),
                Birth::Process { flags: 0, .. } => write!(f, "clone {tid}, the first thread of a further process"),
                Birth::Process { flags, .. } => {
                    write!(f, "clone {tid}, the first thread of a further process, with flags {flags:#x}")
                }
            },
            Op::End(End::Process(status)) => write!(f, "end, with status {status:#x}"),
            Op::End(End::Thread(status)) => write!(f, "end, but for its other threads, with status {status:#x}"),
            Op::Unfilter => f.write_str("suspend what filters its calls, until it runs"),
            Op::Empty => f.write_str("empty the address space"),
            Op::MoveKernelAreas { areas } => {
                let to: Vec<String> = areas.iter().map(|(n, at)| format!("{n} to {at:#x}")).collect();
                write!(f, "move {}", to.join(", "))
            }
            Op::Pages { extents } => {
                write!(f, "read {} KiB in {} runs into place", total(extents) / 1024, extents.len())
            }
            Op::Contents { descr, size, extents, .. } => {
                write!(f, "write {} bytes of {size} into {descr}", total(extents))
            }
            Op::Feed { descr, packets } => {
                let bytes: usize = packets.iter().map(Vec::len).sum();
                write!(f, "write {bytes} bytes in {} packets into {descr}", packets.len())
            }
            Op::Send { descr, messages, to } => {
                let (with, all) = (messages.iter().map(|m| m.rights.len()).sum::<usize>(), messages.len());
                write!(f, "send {all} messages with {with} descriptors by {descr}")?;
                to.as_ref().map_or(Ok(()), |to| write!(f, " to {}", to.name.escape_ascii()))
            }
            Op::Object { object, args, lasting } => {
                write!(f, "{object} = ")?;
                call(f, object.kind.get(), &args.iter().map(|n| Value::Int(*n)).collect::<Vec<_>>())?;
                f.write_str(if *lasting == Lasting::Host { ", removed if the thaw fails" } else { "" })
            }
            Op::Segment { id, extents } => {
                write!(f, "read {} KiB in {} runs into shm{id}", total(extents) / 1024, extents.len())
            }
            Op::Host(effect) => effect.fmt(f),
            Op::Connect { descr, of: Some(of), expect, .. } => write!(f, "connect {descr} to {of}{expect}"),
            Op::Connect { descr, path, expect, .. } => write!(f, "connect {descr} to {}{expect}", path.escape_ascii()),
            Op::Datagrams { to, all, .. } => write!(f, "send {} messages to {to}", all.len()),
            Op::Join { from, at: Some(at) } => write!(f, "{}, {} = both ends of a connection", from.descr, at.descr),
            Op::Join { from, at: None } => write!(f, "{} = a connection that waits to be accepted", from.descr),
            Op::Reset { descr, waiting, .. } => {
                write!(f, "{descr} = a connection that was reset, with {} bytes to read", waiting.len())
            }
            Op::Regs { regs, restart, .. } => {
                write!(f, "registers, at {:#x}", regs.rip)?;
                if let Restart::Begin { sys, args } = restart {
                    f.write_str(", in ")?;
                    call(f, *sys, args)?;
                }
                Ok(())
            }
            Op::Dispatch { config } => dispatch(f, config),
            Op::Signal { signal } => write!(f, "send itself signal {signal}"),
            Op::Stop { signal } => write!(f, "stop, by signal {signal}"),
            Op::Commit => f.write_str("== commit: all of them run =="),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = format!("{:?}", self.moment).to_lowercase();
        write!(f, "{moment:<6}  {:<9} {:<8} {}", self.by, self.actor, self.op)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespaces {
            Namespaces::Same => writeln!(f, "in the namespaces of this process")?,
            Namespaces::Pid => writeln!(f, "in a new pid namespace with its own /proc")?,
            Namespaces::UserPid { uid, gid } => {
                writeln!(f, "in a new user namespace (uid {uid}, gid {gid}) and pid namespace with its own /proc")?
            }
        }
        if let Some(clocks) = self.clocks {
            writeln!(
                f,
                "in a new time namespace, {} s after the start of the machine",
                clocks.monotonic / 1_000_000_000
            )?;
        }
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}  {step}", n + 1)?;
        }
        self.notes.iter().try_for_each(|n| writeln!(f, "note: {n}"))
    }
}
