//! System calls as data: what an envoy is asked to do, and what it answers.

use crate::consts::poll::{POLLIN, POLLOUT, POLLPRI, POLLRDHUP};
use crate::{Errno, Machine};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The list of the system calls that cryopid ever makes in another process, by name, with their numbers.
macro_rules! syscalls {
    ($($name:ident $text:literal $x86_64:literal;)*) => {
        /// A system call by name; its number depends on the machine.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Sys { $($name,)* }

        impl Sys {
            /// The name as in the man pages, section 2.
            pub const fn name(self) -> &'static str {
                match self { $(Sys::$name => $text,)* }
            }
            /// The number of this call on `machine` (arch/x86/entry/syscalls/syscall_64.tbl).
            pub const fn number(self, machine: Machine) -> u64 {
                match machine {
                    Machine::X86_64 => match self { $(Sys::$name => $x86_64,)* },
                }
            }
            /// The call with `number` on `machine`, if it is on the list.
            pub const fn from_number(number: u64, machine: Machine) -> Option<Sys> {
                match machine {
                    Machine::X86_64 => match number { $($x86_64 => Some(Sys::$name),)* _ => None },
                }
            }
        }
    };
}

syscalls! {
    Read "read" 0;
    Write "write" 1;
    Open "open" 2;
    Close "close" 3;
    Fstat "fstat" 5;
    Poll "poll" 7;
    Lseek "lseek" 8;
    Mmap "mmap" 9;
    Mprotect "mprotect" 10;
    Munmap "munmap" 11;
    Brk "brk" 12;
    RtSigaction "rt_sigaction" 13;
    RtSigprocmask "rt_sigprocmask" 14;
    Ioctl "ioctl" 16;
    Pwrite64 "pwrite64" 18;
    Select "select" 23;
    Mremap "mremap" 25;
    Msync "msync" 26;
    Mincore "mincore" 27;
    Madvise "madvise" 28;
    Shmget "shmget" 29;
    Shmat "shmat" 30;
    Shmctl "shmctl" 31;
    Pause "pause" 34;
    Nanosleep "nanosleep" 35;
    Getitimer "getitimer" 36;
    Setitimer "setitimer" 38;
    Getpid "getpid" 39;
    Socket "socket" 41;
    Connect "connect" 42;
    Sendto "sendto" 44;
    Recvfrom "recvfrom" 45;
    Recvmsg "recvmsg" 47;
    Shutdown "shutdown" 48;
    Bind "bind" 49;
    Listen "listen" 50;
    Getsockname "getsockname" 51;
    Getpeername "getpeername" 52;
    Socketpair "socketpair" 53;
    Setsockopt "setsockopt" 54;
    Getsockopt "getsockopt" 55;
    Clone "clone" 56;
    Exit "exit" 60;
    Wait4 "wait4" 61;
    Kill "kill" 62;
    Semget "semget" 64;
    Semop "semop" 65;
    Semctl "semctl" 66;
    Shmdt "shmdt" 67;
    Msgget "msgget" 68;
    Msgsnd "msgsnd" 69;
    Msgrcv "msgrcv" 70;
    Msgctl "msgctl" 71;
    Fcntl "fcntl" 72;
    Flock "flock" 73;
    Ftruncate "ftruncate" 77;
    Chdir "chdir" 80;
    Fchdir "fchdir" 81;
    Fchmod "fchmod" 91;
    Fchown "fchown" 93;
    Umask "umask" 95;
    Setpgid "setpgid" 109;
    Getppid "getppid" 110;
    Setsid "setsid" 112;
    Setgroups "setgroups" 116;
    Setresuid "setresuid" 117;
    Setresgid "setresgid" 119;
    Getpgid "getpgid" 121;
    Setfsuid "setfsuid" 122;
    Setfsgid "setfsgid" 123;
    Getsid "getsid" 124;
    Capset "capset" 126;
    RtSigtimedwait "rt_sigtimedwait" 128;
    RtSigsuspend "rt_sigsuspend" 130;
    Sigaltstack "sigaltstack" 131;
    Personality "personality" 135;
    Fstatfs "fstatfs" 138;
    Getpriority "getpriority" 140;
    Setpriority "setpriority" 141;
    Mlock "mlock" 149;
    Mlockall "mlockall" 151;
    ModifyLdt "modify_ldt" 154;
    Prctl "prctl" 157;
    ArchPrctl "arch_prctl" 158;
    Chroot "chroot" 161;
    Futex "futex" 202;
    SchedSetaffinity "sched_setaffinity" 203;
    SchedGetaffinity "sched_getaffinity" 204;
    IoSetup "io_setup" 206;
    IoDestroy "io_destroy" 207;
    IoGetevents "io_getevents" 208;
    IoSubmit "io_submit" 209;
    SetTidAddress "set_tid_address" 218;
    RestartSyscall "restart_syscall" 219;
    Semtimedop "semtimedop" 220;
    TimerCreate "timer_create" 222;
    TimerSettime "timer_settime" 223;
    TimerGettime "timer_gettime" 224;
    TimerGetoverrun "timer_getoverrun" 225;
    TimerDelete "timer_delete" 226;
    ClockGettime "clock_gettime" 228;
    ClockNanosleep "clock_nanosleep" 230;
    ExitGroup "exit_group" 231;
    EpollWait "epoll_wait" 232;
    EpollCtl "epoll_ctl" 233;
    Mbind "mbind" 237;
    SetMempolicy "set_mempolicy" 238;
    GetMempolicy "get_mempolicy" 239;
    MqOpen "mq_open" 240;
    MqUnlink "mq_unlink" 241;
    MqTimedsend "mq_timedsend" 242;
    MqTimedreceive "mq_timedreceive" 243;
    MqNotify "mq_notify" 244;
    MqGetsetattr "mq_getsetattr" 245;
    Waitid "waitid" 247;
    IoprioSet "ioprio_set" 251;
    IoprioGet "ioprio_get" 252;
    InotifyAddWatch "inotify_add_watch" 254;
    InotifyRmWatch "inotify_rm_watch" 255;
    Openat "openat" 257;
    Readlinkat "readlinkat" 267;
    Unshare "unshare" 272;
    Pselect6 "pselect6" 270;
    Ppoll "ppoll" 271;
    SetRobustList "set_robust_list" 273;
    GetRobustList "get_robust_list" 274;
    EpollPwait "epoll_pwait" 281;
    TimerfdCreate "timerfd_create" 283;
    TimerfdSettime "timerfd_settime" 286;
    TimerfdGettime "timerfd_gettime" 287;
    Accept4 "accept4" 288;
    Signalfd4 "signalfd4" 289;
    Eventfd2 "eventfd2" 290;
    EpollCreate1 "epoll_create1" 291;
    Dup3 "dup3" 292;
    Pipe2 "pipe2" 293;
    InotifyInit1 "inotify_init1" 294;
    RequestKey "request_key" 249;
    Keyctl "keyctl" 250;
    Preadv "preadv" 295;
    Preadv2 "preadv2" 327;
    RtTgsigqueueinfo "rt_tgsigqueueinfo" 297;
    RtSigqueueinfo "rt_sigqueueinfo" 129;
    Prlimit64 "prlimit64" 302;
    FanotifyInit "fanotify_init" 300;
    FanotifyMark "fanotify_mark" 301;
    OpenByHandleAt "open_by_handle_at" 304;
    ProcessVmReadv "process_vm_readv" 310;
    Kcmp "kcmp" 312;
    SchedSetattr "sched_setattr" 314;
    SchedGetattr "sched_getattr" 315;
    Seccomp "seccomp" 317;
    MemfdCreate "memfd_create" 319;
    Execveat "execveat" 322;
    Membarrier "membarrier" 324;
    Mlock2 "mlock2" 325;
    PkeyMprotect "pkey_mprotect" 329;
    IoPgetevents "io_pgetevents" 333;
    Rseq "rseq" 334;
    PidfdOpen "pidfd_open" 434;
    IoUringSetup "io_uring_setup" 425;
    IoUringEnter "io_uring_enter" 426;
    IoUringRegister "io_uring_register" 427;
    Clone3 "clone3" 435;
    CloseRange "close_range" 436;
    EpollPwait2 "epoll_pwait2" 441;
    Mseal "mseal" 462;
}

impl Sys {
    /// Whether the call only makes, fills, empties, marks or tells of a description, and reads and writes memory only as far as its pointer
    /// arguments and their lengths say: a process may make it for another one, with arguments that it knows nothing of.
    pub const fn is_harmless(self) -> bool {
        use Sys::*;
        let makes = matches!(
            self,
            Openat
                | OpenByHandleAt
                | Pipe2
                | Eventfd2
                | EpollCreate1
                | MemfdCreate
                | TimerfdCreate
                | Signalfd4
                | InotifyInit1
                | FanotifyInit
                | MqOpen
                | Socket
                | Socketpair
                | Accept4
                | PidfdOpen
                | IoUringSetup
        );
        let marks = matches!(
            self,
            Fcntl
                | Flock
                | Fchmod
                | Fchown
                | InotifyAddWatch
                | FanotifyMark
                | InotifyRmWatch
                | Setsockopt
                | Getsockopt
                | Shutdown
                | Bind
                | Listen
                | Connect
                | Sendto
                | Getsockname
        );
        let tells = matches!(self, Fstatfs | TimerfdGettime | Recvfrom | Recvmsg | Getpeername | MqGetsetattr);
        makes || marks || tells || matches!(self, Ftruncate | Lseek | Read | Write | Ioctl | Dup3 | Close | MqTimedsend)
    }
}

impl fmt::Display for Sys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One argument of a call made in another process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arg {
    /// A number, a flag word, or an address of the process itself.
    Int(u64),
    /// A pointer to these bytes; the call only reads them.
    Bytes(Vec<u8>),
    /// A pointer to these four bytes, as most lengths are; the call only reads them.
    Word(u32),
    /// A pointer to this many zeroed bytes, which come back in [`Answer::out`].
    Out(usize),
    /// A pointer to these bytes, which come back in [`Answer::out`] as the call leaves them.
    InOut(Vec<u8>),
    /// A pointer to bytes in which there is another one.
    Nested(Box<Nested>),
    /// A pointer to a place of the batch in which the call is made.
    At(Place),
    /// A pointer to pieces of memory (readv(2), `iovec`): places of the batch, and their lengths.
    Pieces(Vec<(Place, usize)>),
    /// A pointer to a `struct msghdr` (recvmsg(2)) with room for so many bytes, for a name, and for control messages. What came in,
    /// the name, the control messages and the structure come back in [`Answer::out`], in this order.
    Message {
        /// Room for what comes in.
        data: usize,
        /// Room for the name of who sent it.
        name: usize,
        /// Room for control messages.
        control: usize,
    },
}

/// `bytes` in which the eight bytes at `at` point to `inner`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nested {
    /// The outer structure.
    pub bytes: Vec<u8>,
    /// Where in it the pointer stands.
    pub at: usize,
    /// What the pointer leads to.
    pub inner: Vec<u8>,
}

/// Where something stands while a batch is made, so that what one call gives can go into another one. Calls are counted
/// from the first of the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// An argument of a call, which is taken when the call is made.
    Arg(usize, usize),
    /// What a call gave.
    Result(usize),
    /// The bytes of an [`Arg::Out`] of an earlier call: of its first, or a later one.
    Out(usize, usize),
}

impl Arg {
    /// A pointer to `bytes`, in which the eight bytes at `at` point to `inner`.
    pub fn nested(bytes: Vec<u8>, at: usize, inner: Vec<u8>) -> Arg {
        Arg::Nested(Box::new(Nested { bytes, at, inner }))
    }
}

impl From<u64> for Arg {
    fn from(n: u64) -> Self {
        Arg::Int(n)
    }
}

/// A call to be made in another process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which.
    pub sys: Sys,
    /// The missing ones are zero. They are in the call itself: thousands of calls are made for a large tree.
    pub args: ArrayVec<Arg, 6>,
}

impl Call {
    /// A call with its arguments.
    pub fn new(sys: Sys, args: impl IntoIterator<Item = Arg>) -> Self {
        Call { sys, args: args.into_iter().collect() }
    }

    /// `poll`, which asks a descriptor for all that it tells, and does not wait: it comes back as a `struct pollfd`.
    pub fn ready(fd: u32) -> Self {
        let asked = [fd, u32::from(POLLIN | POLLPRI | POLLOUT | POLLRDHUP)].map(u32::to_ne_bytes);
        Call::new(Sys::Poll, [Arg::InOut(asked.concat()), 1.into(), 0.into()])
    }

    /// A thread hands what one call of a batch gave to another as its first argument, by a copy from its process to itself
    /// (process_vm_readv(2)): so both are made whatever becomes of us. `own` is the id of its process in its own pid namespace.
    pub fn hand_over(own: u64, from: usize, to: usize) -> Self {
        let (to, what) = (Arg::Pieces(vec![(Place::Arg(to, 0), 8)]), Arg::Pieces(vec![(Place::Result(from), 8)]));
        Call::new(Sys::ProcessVmReadv, [Arg::Int(own), to, 1.into(), what, 1.into(), 0.into()])
    }

    /// Whether it has to do with other calls, so that all of them must be in one batch.
    pub fn is_bound(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg, Arg::At(_) | Arg::Pieces(_)))
    }
}

/// What a call gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The value in the return register, or the error that it encodes.
    pub result: Result<u64, Errno>,
    /// The contents of the [`Arg::Out`] and [`Arg::InOut`] arguments after the call, in their order.
    pub out: Outs,
}

/// What comes back in one answer. A call that takes an [`Arg::Message`], which gives four, takes no other argument that gives any.
pub type Outs = ArrayVec<Vec<u8>, 4>;

impl Answer {
    /// What [`Call::ready`] tells: the last two bytes of the structure (poll(2)).
    pub fn is_ready(&self) -> Option<u16> {
        self.result.ok()?;
        self.out.first()?.last_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    /// An answer from the raw value of the return register: -4095..=-1 are errors (x86-64 psABI, A.2.1).
    pub fn from_raw(raw: u64, out: Outs) -> Self {
        Answer { result: Errno::from_raw(raw), out }
    }
}
