//! The only list of resources in the workspace. Tags are for ever: a retired one keeps its place and its name.

use crate::{At, Planning, Resource};
use crate::{fd, ipc, mm, ns, task, tree};
use image::{Need, RawRecord, Tag};
use minicbor::Encode;
use serde::{Deserialize, Serialize};

/// A row of the coverage table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Coverage {
    /// The resource.
    pub name: &'static str,
    /// `tree`, `process`, `thread`, `description` or `not supported`.
    pub scope: &'static str,
    /// Why not, or nothing.
    pub reason: &'static str,
}

macro_rules! scope {
    ($(#[$doc:meta])* $enum:ident, $($tag:literal $($path:ident)::+ $name:ident;)*) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[allow(missing_docs)]
        pub enum $enum { $($name($($path)::+::$name),)* }

        impl $enum {
            /// The tag of its record.
            pub const fn tag(&self) -> Tag {
                match self { $($enum::$name(_) => Tag($tag),)* }
            }
            /// The name of the resource.
            pub const fn name(&self) -> &'static str {
                match self { $($enum::$name(_) => <$($path)::+::$name as Resource>::NAME,)* }
            }
            /// Its place on the list: resources are planned in this order.
            pub fn position(&self) -> usize {
                [$(Tag($tag)),*].iter().position(|t| *t == self.tag()).expect("every variant is on the list")
            }
            /// The record, if it is one of this scope.
            pub fn from_record(record: &RawRecord) -> Option<Result<Self, image::Damage>> {
                match record.tag.0 { $($tag => Some(record.decode().map($enum::$name)),)* _ => None }
            }
            /// Hands the record to a writer.
            pub fn put(&self, id: u32, put: &mut dyn FnMut(Tag, u32, Need, Vec<u8>)) {
                match self { $($enum::$name(r) => put(Tag($tag), id, Need::Must, encode(r)),)* }
            }
        }
    };
}

/// The CBOR of a record.
pub(crate) fn encode(record: &impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(record).expect("a vector takes any number of bytes")
}

macro_rules! resources {
    (
        process { $($pt:literal $($pp:ident)::+ $pn:ident;)* }
        thread { $($tt:literal $($tp:ident)::+ $tn:ident;)* }
        description { $($dt:literal $($dp:ident)::+ $dn:ident;)* }
        tree { $($rt:literal $($rp:ident)::+ $rn:ident;)* }
        unsupported { $($un:literal $why:literal;)* }
    ) => {
        scope! { /// What a process has once.
            ProcessState, $($pt $($pp)::+ $pn;)* }
        scope! { /// What each thread has.
            ThreadState, $($tt $($tp)::+ $tn;)* }
        scope! { /// An open file description, by what it leads to.
            Description, $($dt $($dp)::+ $dn;)* }
        scope! { /// What a tree has once.
            TreeState, $($rt $($rp)::+ $rn;)* }

        impl TreeState {
            /// Captures every resource of a tree, once all of its processes were captured.
            pub fn capture_all(from: &mut crate::Capturing<'_>, each: &mut dyn FnMut(Result<Self, crate::Trouble>)) {
                $(let found = <$($rp)::+::$rn as crate::CaptureTree>::capture(from);
                if let Some(found) = found.map(|it| it.map(TreeState::$rn)).transpose() { each(found) })*
            }
            /// Appends the steps that make it again.
            pub fn plan(&self, at: At, to: &mut Planning<'_>) {
                match self { $(TreeState::$rn(r) => crate::CaptureTree::plan(r, at, to),)* }
            }
        }
        impl ProcessState {
            /// The calls whose answers are asked of every process.
            pub fn asks(shares: &tree::process::Shares) -> Vec<abi::Call> {
                let mut all = Vec::new();
                $(if shares.leaves(<$($pp)::+::$pn as crate::Capture>::OF) {
                    all.extend(<$($pp)::+::$pn as crate::Capture>::asks());
                })*
                all
            }
            /// The texts and links of /proc/PID for which is asked of every process.
            pub fn shown() -> [Vec<&'static str>; 2] {
                [
                    [$(<$($pp)::+::$pn as crate::Capture>::TEXTS,)* $(<$($tp)::+::$tn as crate::Capture>::TEXTS),*].concat(),
                    [$(<$($pp)::+::$pn as crate::Capture>::LINKS,)* $(<$($tp)::+::$tn as crate::Capture>::LINKS),*].concat(),
                ]
            }
            /// Captures every resource of a process.
            /// What it shares with another process, that one has.
            pub fn capture_all(
                shares: &tree::process::Shares,
                from: &mut crate::Capturing<'_>,
                each: &mut dyn FnMut(Result<Self, crate::Trouble>),
            ) {
                $(if shares.leaves(<$($pp)::+::$pn as crate::Capture>::OF) {
                    each(<$($pp)::+::$pn as crate::Capture>::capture(from).map(ProcessState::$pn));
                })*
            }
            /// Appends the steps that make it again.
            pub fn plan(&self, at: At, to: &mut Planning<'_>) {
                match self { $(ProcessState::$pn(r) => crate::Capture::plan(r, at, to),)* }
            }
        }
        impl ThreadState {
            /// The calls whose answers are asked of every thread.
            pub fn asks() -> Vec<abi::Call> {
                let mut all = Vec::new();
                $(all.extend(<$($tp)::+::$tn as crate::Capture>::asks());)*
                all
            }
            /// Captures every resource of a thread.
            pub fn capture_all(from: &mut crate::Capturing<'_>, each: &mut dyn FnMut(Result<Self, crate::Trouble>)) {
                $(let found = <$($tp)::+::$tn as crate::Capture>::capture(from);
                if !found.as_ref().is_ok_and(crate::Capture::is_none) { each(found.map(ThreadState::$tn)) })*
            }
            /// Asks what can only be known at the very end.
            pub fn conclude(&mut self, last: &dyn crate::Still) -> Result<(), abi::Fault> {
                match self { $(ThreadState::$tn(r) => crate::Capture::conclude(r, last),)* }
            }
            /// Appends the steps that make it again.
            pub fn plan(&self, at: At, to: &mut Planning<'_>) {
                match self { $(ThreadState::$tn(r) => crate::Capture::plan(r, at, to),)* }
            }
        }
        impl Description {
            /// The calls that its capture makes in any case.
            pub fn asks(fd: &fd::Seen, probe: &dyn crate::Probe) -> Vec<abi::Call> {
                let mut all = Vec::new();
                $(if <$($dp)::+::$dn as fd::Kind>::knows(fd) {
                    all.extend(<$($dp)::+::$dn as fd::Kind>::asks(fd, probe));
                })*
                all
            }
            /// The first kind that knows the description captures it.
            pub fn capture(fd: &fd::Seen, from: &mut crate::Capturing<'_>) -> Result<Self, crate::Trouble> {
                $(if <$($dp)::+::$dn as fd::Kind>::is(fd, from)? {
                    if let Some(why) = fd::grounded(fd, <$($dp)::+::$dn as fd::Kind>::FLIES, from)? {
                        return Err(why.into());
                    }
                    return <$($dp)::+::$dn as fd::Kind>::capture(fd, from).map(Description::$dn);
                })*
                Err(fd::unsupported::refuse(fd).into())
            }
            /// Appends the steps that make the description with this id.
            pub fn plan(&self, descr: plan::Descr, at: At, to: &mut Planning<'_>) {
                match self { $(Description::$dn(k) => fd::Kind::plan(k, descr, at, to),)* }
            }
            /// The id of the file that it leads to, if it leads to one.
            pub fn file(&self) -> Option<u32> {
                match self { $(Description::$dn(k) => fd::Kind::file(k),)* }
            }
            /// The paths of the directories or names that it leads to.
            pub fn places(&self) -> Vec<&crate::Text> {
                match self { $(Description::$dn(k) => fd::Kind::places(k),)* }
            }
            /// Whether each process that has it makes it for itself.
            pub(crate) fn is_of_each(&self) -> bool {
                match self { $(Description::$dn(k) => fd::Kind::is_of_each(k),)* }
            }
            /// See [`fd::Kind::ends_slowly`].
            pub(crate) fn ends_slowly(&self) -> bool {
                match self { $(Description::$dn(k) => fd::Kind::ends_slowly(k),)* }
            }
            /// See [`fd::Kind::is_in_proc`].
            pub(crate) fn is_in_proc(&self) -> bool {
                match self { $(Description::$dn(k) => fd::Kind::is_in_proc(k),)* }
            }
            /// The number of the kernel's object of which it is one end, if such ends are made together.
            pub fn object(&self) -> Option<u64> {
                match self { $(Description::$dn(k) => fd::Kind::object(k),)* }
            }
        }

        /// What is known and not supported: link or file type as the kernel shows it, and the reason.
        pub const UNSUPPORTED: &[(&str, &str)] = &[$(($un, $why),)*];

        /// Every row of the list.
        pub fn coverage() -> Vec<Coverage> {
            let kept = |name, scope| Coverage { name, scope, reason: "" };
            let mut rows = vec![
                $(kept(<$($rp)::+::$rn as Resource>::NAME, "tree"),)*
                $(kept(<$($pp)::+::$pn as Resource>::NAME, "process"),)*
                $(kept(<$($tp)::+::$tn as Resource>::NAME, "thread"),)*
                $(kept(<$($dp)::+::$dn as Resource>::NAME, "description"),)*
            ];
            rows.extend(UNSUPPORTED.iter().map(|(name, reason)| Coverage { name, scope: "not supported", reason }));
            rows
        }
    };
}

resources! {
    process {
        // They go on while all else is asked.
        0x0105 task::itimers Itimers;
        0x0106 task::posix_timers PosixTimers;
        0x0101 tree::session Session;
        0x0102 mm::space Space;
        0x0103 task::fs Fs;
        0x0104 task::handlers Handlers;
        0x0107 task::attributes Attributes;
        0x0108 task::limits Limits;
        0x0109 ns::time Time;
        0x010a mm::modes Modes;
        0x010b ipc::undo SemUndo;
        0x010c tree::stops Stops;
        0x010d fd::signalling SignalDriven;
    }
    thread {
        0x020a task::thread_fs ThreadFs;
        0x0201 task::sched Sched;
        0x0202 task::futex Futex;
        0x0203 task::rseq Rseq;
        0x0208 task::seccomp Seccomp;
        0x0209 task::dispatch Dispatch;
        0x0204 task::creds Creds;
        0x0205 task::prctl Prctl;
        0x0206 task::signal Signal;
        0x0207 task::regs Regs;
    }
    description {
        0x030b fd::mqueue Mqueue;
        0x0311 fd::procfile Procfile;
        0x0313 fd::nsfd Nsfd;
        0x0301 fd::regular Regular;
        0x0302 fd::directory Directory;
        0x0303 fd::opath OPath;
        0x0304 fd::pipe PipeEnd;
        0x0305 fd::eventfd Eventfd;
        0x0306 fd::chardev Chardev;
        0x0312 fd::pty Pty;
        0x0307 fd::tty Tty;
        0x0308 fd::epoll Epoll;
        0x0309 fd::timerfd Timerfd;
        0x030a fd::memfd Memfd;
        0x030c fd::signalfd Signalfd;
        0x030d fd::inotify Inotify;
        0x0314 fd::fanotify Fanotify;
        0x030e fd::pidfd Pidfd;
        0x030f fd::unix UnixSocket;
        0x0310 fd::inet InetSocket;
        0x0330 fd::netlink NetlinkSocket;
        0x0331 fd::packet PacketSocket;
        0x0332 fd::uring Uring;
    }
    tree {
        0x0401 ipc::shm SysvShm;
        0x0402 ipc::sem SysvSem;
        0x0403 ipc::msg SysvMsg;
        0x0404 ns::ipc IpcNamespace;
        0x0405 fd::locks FileLocks;
    }
    unsupported {
        "socket" "sockets of this family are not supported yet";
        "anon_inode:[userfaultfd]" "userfaultfd is not supported yet";
        "anon_inode:[perf_event]" "performance counters belong to this kernel";
        "anon_inode:bpf-map" "BPF maps belong to this kernel";
        "anon_inode:bpf-prog" "BPF programs belong to this kernel";
        "anon_inode:seccomp notify" "a seccomp listener belongs to this kernel";
        "anon_inode:kvm-vm" "virtual machines of KVM belong to this kernel";
        "block device" "block devices belong to this machine";
        "character device" "this device belongs to this machine";
        "terminal" "only the controlling terminal is, and pseudo-terminals whose masters are in the tree";
        // Areas, by what `mm::area` says of them.
        "memory under userfaultfd" "it is watched by userfaultfd";
        "memory with a protection key" "it is guarded by a key (pkey_mprotect)";
        "memory of a shadow stack" "it is a shadow stack";
        "memory of a device" "it is the memory of a device";
        "memory of memfd_secret" "it is secret memory, which nobody else can read";
        "ring of io_setup, inherited" "it is the ring of a process that it was born of, and nothing to it";
        "memory of a ring of io_uring" "nobody in the tree has a descriptor of its ring, or it is a part of one";
        "memory of a socket" "it is memory of a socket that nobody in the tree has, or a part of that, or of no packets";
        "memory of another descriptor" "it belongs to a descriptor that is not supported";
    }
}
