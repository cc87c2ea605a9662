//! The cases over specimens: one line each, and what is special about some of them.

use crate::case::Flavour::{Again, Older, PidNs, Root, Snapshot, User, WithLibs};
use crate::case::{Case, Needs, Oracle, Original, Step};
use std::time::Duration;

/// One process, nothing special.
const PLAIN: &[&str] = &[
    "rseq",
    "vdso",
    "mem-anonymous",
    "mem-private-file",
    "mem-stack",
    "mem-heap",
    "mem-guard",
    "mem-advice",
    "mem-mlock",
    "mem-mlock-future",
    "mem-mlock-fault",
    "mem-grows-down",
    "mem-named",
    "mem-light-guard",
    "mem-light-guards",
    "mem-sparse",
    "mem-overcommitted",
    "mem-nodes",
    "mem-shared-anonymous",
    "mem-read-only-file",
    "mem-code",
    "mem-executed",
    "mem-sealed",
    "mem-many",
    "mem-large",
    "mem-layout",
    "signal-handlers",
    "signal-alternate-stack",
    "signal-ignored",
    "signal-pending",
    "signal-pending-thread",
    "signal-pending-untold",
    "cwd",
    "cwd-deleted",
    "thread-places",
    "umask",
    "comm",
    "personality",
    "limits",
    "nice",
    "sched-batch",
    "sched-idle",
    "affinity",
    "ioprio",
    "oom-score-adj",
    "no-new-privs",
    "timer-slack",
    "thp-disabled",
    "thp-advised",
    "core-dump-filter",
    "no-new-code",
    "merged-pages",
    "memory-nodes",
    "keep-caps",
    "death-signal",
    "subreaper",
    "creds",
    "arguments",
    "file-position",
    "file-far-position",
    "file-flags",
    "file-renamed",
    "file-shared-offset",
    "directory",
    "procfiles",
    "procfiles-whole",
    "file-second-name",
    "devices",
    "removed-link",
    "fanotify",
    "files-many",
    "pipe-bytes",
    "pipe-empty",
    "pipe-full",
    "pipe-packets",
    "pipe-ends",
    "pipe-no-writer",
    "pipe-no-reader",
    "eventfd",
    "epoll-watches",
    "epoll-moved",
    "epoll-used-up",
    "epoll-many",
    "timerfd",
    "aio",
    "aio-many",
    "uring",
    "uring-files",
    "pidfd",
    "inet-ended",
    "socket-pair",
    "socket-stream",
    "socket-messages",
    "socket-halves",
    "socket-options",
    "socket-flights",
    "socket-full",
    "socket-empty",
    "signalling",
    "signalling-ends",
    "signalfd",
    "signalfd-watched",
    "signalfd-child",
    "memfd",
    "memfd-descriptions",
    "memfd-areas",
    "memfd-only-areas",
    "pty",
    "pty-halves",
    "terminal-modes",
    "terminal-foreground",
    "terminal-nonblocking",
    "threads",
    "thread-second",
    "dispatch",
    "shm-shared",
    "shm-removed",
    "shm-pieces",
    "shm-overlaid",
    "shm-apart",
    "sem-values",
    "sem-cut",
    "sem-waits",
    "msg-queues",
    "posix-semaphore",
    "mq-named",
    "mq-nameless",
    "mq-long",
    "mq-notices",
];

/// Trees of processes.
const TREES: &[&str] = &[
    "uring-inherited",
    "child",
    "family",
    "family-apart",
    "socket-senders",
    "family-waits",
    "family-ends",
    "zombies",
    "zombies-any",
    "zombie-told",
    "family-unheard",
    "stop-heard",
    "stop-told",
    "stop-twice",
    "stop-below",
    "stop-silent",
    "stop-still",
    "stop-odd",
    "family-leader-ended",
    "family-many",
    "family-mixed",
    "timerfd-crowd",
    "groups",
    "group-leaderless",
    "group-dead-leader",
    "group-left",
    "sessions",
    "session-dead-leader",
    "daemons",
    "orphans",
    "orphans-below",
    "orphan-of-zombie",
    "job",
    "inherited-pipes",
    "inherited-pipe-end",
    "inherited-events",
    "inherited-views",
    "inherited-futex",
    "inherited-semaphore",
    "inherited-memfd",
    "inherited-pages",
    "inherited-split",
    "seqpacket-lone",
    "timer-waits",
    "timer-overran",
    "timer-waits-processor",
    "clone-files",
    "clone-fs",
    "clone-memory",
    "clone-handlers",
    "clone-everything",
    "clone-siblings",
    "clone-exit-signals",
];

/// A check of these writes to a file which the other copy of the program has open as well.
const WRITERS: &[&str] = &["file-append", "file-writes", "mem-shared-file", "mem-own-files", "inotify"];

/// Calls with a timeout: frozen in the middle of it.
const WAITING: &[&str] = &[
    "sleep",
    "clock-sleep",
    "absolute-sleep",
    "poll",
    "ppoll",
    "select",
    "futex",
    "epoll",
    "sigtimedwait",
    "alarm-rings",
    "timerfd-rings",
];

/// Whose system calls are filtered: only root may look at that and suspend it.
const FILTERED: &[&str] = &[
    "seccomp-strict",
    "seccomp-hard",
    "seccomp-synced",
    "seccomp-apart",
    "seccomp-one-thread",
    "seccomp-inherited",
    "seccomp-dropped",
];

/// Memory of huge pages, which are set apart while they run.
const HUGE: &[&str] = &["huge-areas", "memfd-huge", "huge-file"];

/// These change by themselves, so two images of them differ.
const MOVING: &[&str] = &[
    // Which extended states of a sleeping child are in use may differ.
    "zombie-below",
    "pty-session",
    // A relative has slept a little longer.
    "pidfd-gone",
    // Its name tells of another process each time.
    "procfile-gone",
    "registers",
    "storm",
    "dispatch-busy",
    "family-restless",
    "family-busy",
    "itimers",
    "timerfd-ticks",
    // SIGWINCH, which every thaw sends, waits.
    "signal-mask",
    // A file without a name has another one of those that nobody sees.
    "mem-deleted-file",
    "file-deleted",
    "file-deleted-longer",
    "posix-memory",
    "inherited-deleted-file",
    "inotify-removed",
    // Each that has it makes one of its own.
    "pidfd-inherited",
    "namespaces",
    // It is made again as a file in memory.
    "mem-shared-parts",
];

/// What an older kernel does not have, or does not tell of; and what is filtered, as whoever is filtered himself may not see to it.
fn is_new(name: &str) -> bool {
    // Guard regions came with Linux 6.13, the descriptors of who has lost its first thread with 6.9, and how system calls come back to
    // a thread is told since 6.4.
    let lacks = [
        "mem-light-guard",
        "mem-light-guards",
        "family-leader-ended",
        "leader-ended",
        "stop-odd",
        "dispatch",
        "dispatch-busy",
        "seccomp-sleeper",
    ];
    lacks.contains(&name) || FILTERED.contains(&name)
}

/// Every case over specimens.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = PLAIN.iter().map(|name| Case::specimen(&[name])).collect();
    cases.extend(TREES.iter().map(|name| Case::specimen(&[name])));
    cases.extend(WRITERS.iter().map(|name| writer(name)));
    cases.extend(WAITING.iter().map(|name| waiting(name)));
    cases.extend(MOVING.iter().map(|name| Case { oracle: Oracle::Moves, ..Case::specimen(&[name]) }));
    cases.extend(FILTERED.iter().map(|name| Case::specimen(&[name]).but(&[User])));
    cases.extend(HUGE.iter().map(|name| huge(name)));
    cases.extend(special());
    cases.extend(fifos());
    cases.extend(sockets());
    let older = |case: Case| if is_new(&case.name) { case.but(&[Older]) } else { case };
    cases.into_iter().map(older).chain(refused()).collect()
}

/// Of what there may be many, nothing takes time that grows with the square of it.
fn many(words: &[&'static str]) -> Case {
    Case { within: Some(Duration::from_secs(8)), ..Case::specimen(words) }
}

fn writer(name: &'static str) -> Case {
    Case { original: Original::Looked, ..Case::specimen(&[name]) }
}

fn waiting(name: &'static str) -> Case {
    Case { delay: 1300..1900, ..Case::specimen(&[name, "3"]) }.but(&[Again])
}

fn huge(name: &'static str) -> Case {
    Case { needs: Needs::HugePages, ..Case::specimen(&[name]) }
}

/// A call that only SIGINT ends: Ctrl-C of the new terminal.
fn interrupted(name: &'static str) -> Case {
    let mut case = Case { original: Original::Looked, oracle: Oracle::Moves, ..Case::specimen(&[name]) };
    case.after.splice(0..0, [Step::Running, Step::Type("\x03"), Step::Expect("woke\r\n")]);
    case
}

/// While the original lives, it has its names and addresses.
fn sockets() -> Vec<Case> {
    vec![
        Case::specimen(&["inet"]).but(&[PidNs]),
        Case::specimen(&["inet-lite"]).but(&[PidNs]),
        Case::specimen(&["socket-flights-inet"]).but(&[PidNs]),
        Case::specimen(&["socket-flights-ns"]).refused(&["a nsfd waits in it"]),
        Case::specimen(&["socket-filters"]).but(&[PidNs]),
        Case::specimen(&["socket-ebpf"]).refused(&["socket", "filtered by a program in ebpf"]).only(&[Root]),
        Case::specimen(&["netlink"]).but(&[PidNs]),
        Case::specimen(&["netlink-asked"]).refused(&["socket", "wait to be read"]),
        Case::specimen(&["inet-raw"]).but(&[User]),
        Case::specimen(&["inet-options"]).but(&[PidNs]),
        Case::specimen(&["inet-shut"]).but(&[PidNs]),
        Case::specimen(&["inet-waiting"]).but(&[PidNs]),
        Case::specimen(&["inet-groups"]).but(&[PidNs]),
        Case::specimen(&["inet-begun"]).refused(&["socket", "begun a message"]),
        Case::specimen(&["packets"]).but(&[User]),
        Case::specimen(&["packet-rings"]).but(&[User]),
        Case::specimen(&["packet-ring"]).refused(&["socket", "packets have passed by its ring"]).only(&[Root]),
        Case::specimen(&["packet-ring", "part"]).refused(&["area", "a part of that"]).only(&[Root]),
        Case::specimen(&["packet-ring", "closed"]).refused(&["area", "nobody in the tree has"]).only(&[Root]),
        Case::specimen(&["inet-reset"]).only(&[User]),
        Case::specimen(&["inet-connected"]).refused(&["socket", "tcp connection with 127.0.0.1"]).only(&[Root]),
        // Whoever ends of himself leaves addresses that nobody can have for a minute, unless he has said that all may.
        Case::specimen(&["tcp"]).but(&[PidNs, Snapshot]),
        Case::specimen(&["tcp", "reuse"]).only(&[Snapshot]),
        Case::specimen(&["tcp-shared"]).but(&[PidNs, Snapshot]),
        Case::specimen(&["tcp-much"]).but(&[PidNs, Snapshot]),
        Case::specimen(&["tcp-much", "1000000", "reuse"]).only(&[Root, Snapshot]),
        Case::specimen(&["tcp-unread"]).refused(&["socket", "wait until its other end reads"]),
        Case::specimen(&["tcp-urgent"]).refused(&["socket", "cannot be seen whole"]),
        Case::specimen(&["tcp-orphan"]).refused(&["socket", "has not come yet"]),
        Case::specimen(&["socket-gone"]).but(&[PidNs]),
        Case::specimen(&["socket-written"]).but(&[PidNs]),
        Case::specimen(&["socket-named"]).but(&[PidNs]),
        Case::specimen(&["socket-addressed"]).but(&[PidNs]),
        Case::specimen(&["socket-waiting"]).but(&[PidNs]),
        Case::specimen(&["socket-unheard"]).but(&[PidNs]),
        Case::specimen(&["socket-owners"]).but(&[PidNs]),
        Case::specimen(&["socket-many"]).but(&[PidNs]),
    ]
}

/// Named pipes: who lives beside it has them open, too.
fn fifos() -> Vec<Case> {
    vec![
        Case::specimen(&["fifo"]).but(&[PidNs]),
        Case::specimen(&["fifo-ends"]).but(&[PidNs]),
        Case::specimen(&["fifo-lone"]).but(&[PidNs]),
        Case::specimen(&["fifo-twice"]).but(&[PidNs]),
        Case::specimen(&["fifo-anew"]).refused(&["fifo", "with nobody (and something waits in it)"]),
        Case::specimen(&["fifo-unread"]).but(&[PidNs]),
        Case::specimen(&["fifo-unread-heard"]).refused(&["fifo", "nobody has it open to read"]),
    ]
}

fn special() -> Vec<Case> {
    let with = |name, steps: &[Step]| {
        let mut case = Case::specimen(&[name]);
        case.after.splice(0..0, steps.iter().cloned());
        case
    };
    vec![
        interrupted("pause"),
        interrupted("sigsuspend"),
        stopped(),
        with("ids", &[Step::SameId]).only(&[Root]),
        Case::specimen(&["ids"]).but(&[Root]),
        // The time left shrinks between two images, by what the program was awake.
        Case { oracle: Oracle::Moves, ..Case::specimen(&["alarm"]) },
        Case { oracle: Oracle::Moves, ..Case::specimen(&["posix-timers"]) },
        Case { oracle: Oracle::Moves, ..Case::specimen(&["timers-processor"]) },
        // Two of its processes never rest.
        Case { oracle: Oracle::Moves, ..Case::specimen(&["vdso-absent"]) },
        // Of memory that several show, a file is made.
        Case { oracle: Oracle::Moves, ..huge("huge-family") },
        // Only root makes segments of huge pages.
        huge("shm-huge").but(&[User]),
        Case { oracle: Oracle::Moves, ..Case::specimen(&["timers-ring"]) }.only(&[Root, User, Snapshot]),
        Case::specimen(&["mq-waits"]).but(&[User]),
        Case { original: Original::Looked, ..Case::specimen(&["terminal-resized"]) },
        // What only root may set, and what an ordinary user may not look at.
        Case::specimen(&["creds-dropped"]).but(&[User]),
        Case::specimen(&["creds-other-user"]).but(&[User]),
        Case::specimen(&["creds-unbound"]).but(&[User]),
        Case::specimen(&["secure-bits"]).but(&[User]),
        Case::specimen(&["sched-fifo"]).but(&[User]),
        Case::specimen(&["removed-device"]).but(&[User]),
        // What waits can only be taken out.
        Case { original: Original::Looked, ..Case::specimen(&["pty-waiting"]) }.but(&[Snapshot, PidNs]),
        Case::specimen(&["fanotify-wide"]).but(&[User]),
        Case::specimen(&["login"]).but(&[User]),
        Case::specimen(&["timerfd-alarms"]).but(&[User]),
        // While the original lives, it has them.
        Case::specimen(&["locks"]).but(&[PidNs]),
        Case::specimen(&["lock-waits"]).but(&[PidNs]),
        Case::specimen(&["leases"]).but(&[PidNs]),
        Case::specimen(&["lease-mapped"]).only(&[Root, User, Again]),
        Case::specimen(&["file-published"]).but(&[PidNs]),
        Case::specimen(&["inet-shut-behind"]).only(&[Root, User, WithLibs, Again]),
        Case::specimen(&["inet-segments"]).but(&[PidNs]),
        Case::specimen(&["tcp-begun"]).but(&[PidNs, Snapshot]),
        Case::specimen(&["tcp-in-turn"]).only(&[Root, User, WithLibs, Again]),
        // Who may not look at what no area shows is not told of its end. It is made again as a file in memory.
        Case { oracle: Oracle::Moves, ..Case::specimen(&["mem-shown-in-part"]) }.but(&[User]),
        Case::specimen(&["memfd-of-memory"]).but(&[User]),
        Case::specimen(&["dumpable"]).but(&[User]),
        Case::specimen(&["ipc-namespace"]).but(&[User]),
        Case::specimen(&["outside", "segment"]),
        Case::specimen(&["inherited-at-random", "1"]),
        Case::specimen(&["inherited-at-random", "2"]),
        Case::specimen(&["inherited-at-random", "3"]),
        // The executable is deleted there: its link says so.
        Case::specimen(&["executable"]).but(&[WithLibs]),
        Case::specimen(&["arguments", "one", "two words", "ü"]),
        // Who lives beside it opens the file, too.
        Case::specimen(&["inotify-unopened"]).but(&[PidNs]),
        Case::specimen(&["inotify-deep"]).but(&[PidNs]),
        Case::specimen(&["inotify-link"]).but(&[PidNs]),
        Case::specimen(&["inotify-unread"]).but(&[PidNs]),
        Case::specimen(&["thread-places", "chroot"]).only(&[Root, Snapshot, WithLibs, Again]),
        Case::specimen(&["chroot"]).only(&[Root, Snapshot, WithLibs, Again]),
        many(&["mem-many", "20000"]).only(&[Root]),
        Case { oracle: Oracle::Moves, ..Case::specimen(&["seccomp-sleeper"]) }.but(&[User]),
        // Shared with a process that is not frozen, and works all the same.
        Case::specimen(&["outside", "position"]),
        Case::specimen(&["outside", "text"]).but(&[Again]),
        Case::specimen(&["outside", "fixed"]),
        many(&["files-many", "1000"]).only(&[Root, User]),
        many(&["epoll-many", "9000"]).only(&[Root]),
        many(&["socket-many", "6000"]).only(&[Root]),
        // Each check moves the offset, which is that of the original, too.
        Case::specimen(&["inherited-offset"]),
    ]
}

fn stopped() -> Case {
    let mut case = Case { original: Original::Looked, ..Case::specimen(&["signal-stopped"]) };
    case.before.push(Step::Stop);
    case.after.splice(0..0, [Step::Continue]);
    case.only(&[Root, User, Snapshot, PidNs])
}

/// What this release does not support: refused, and unharmed. A line moves up when its resource arrives.
fn refused() -> Vec<Case> {
    vec![
        Case::specimen(&["file-name-elsewhere"]).refused(&["another name"]),
        // Elsewhere the harness takes it for a program that has ended.
        Case::specimen(&["leader-ended"]).only(&[Root, User, WithLibs]),
        Case::specimen(&["clone-undo"]).refused(&["semaphores", "clone_sysvsem", "not supported yet"]),
        Case::specimen(&["family-leader-ended"]).refused(&["its first thread has ended", "linux 6.9"]).only(&[Older]),
        Case::specimen(&["thread-apart", "fd"]).refused(&["fd", "has descriptors of its own"]),
        Case::specimen(&["thread-apart", "cwd"]).refused(&["cwd", "a working directory in common with others"]),
        Case::specimen(&["thread-apart", "net"]).refused(&["ns/net", "a network namespace of its own"]).only(&[Root]),
        Case::specimen(&["aio-waits"]).refused(&["io_getevents", "the kernel has not done"]),
        Case::specimen(&["uring-refused", "busy"]).refused(&["io_uring", "the kernel is at work for it"]),
        Case::specimen(&["uring-refused", "thread"]).refused(&["io_uring", "another thread"]),
        Case::specimen(&["uring-refused", "polled"]).refused(&["io_uring", "a thread of the kernel polls it"]),
        Case::specimen(&["uring-refused", "polls"]).refused(&["io_uring", "it polls devices"]),
        Case::specimen(&["uring-refused", "disabled"]).refused(&["io_uring", "it is disabled"]),
        Case::specimen(&["uring-refused", "eventfd"]).refused(&["io_uring", "an eventfd is registered"]),
        Case::specimen(&["uring-refused", "files-gone"])
            .refused(&["io_uring", "nobody in the tree has a descriptor of the file"]),
        Case::specimen(&["uring-refused", "files-alike"]).refused(&["io_uring", "several files are called as"]),
        Case::specimen(&["uring-refused", "number"]).refused(&["io_uring", "registered the descriptor"]),
        Case::specimen(&["uring-refused", "provided"]).refused(&["io_uring", "buffers are provided"]),
        Case::specimen(&["uring-refused", "unmapped"]).refused(&["io_uring", "has not mapped its memory"]),
        Case::specimen(&["uring-refused", "closed"]).refused(&["io_uring", "nobody in the tree has a descriptor"]),
        Case::specimen(&["aio-inherited"]).refused(&["[aio]", "it was born of"]),
        Case::specimen(&["vdso-left"]).refused(&["vdso", "has unmapped"]),
        Case::specimen(&["socket-hasty"]).refused(&["socket", "it has sent something already"]),
        Case::specimen(&["socket-loaded"]).refused(&["socket", "a pidfd waits in it"]),
        Case::specimen(&["outside", "eventfd"]).refused(&["eventfd", "outside of the tree"]),
        Case::specimen(&["outside", "fifo"]).refused(&["fifo", "outside of the tree"]),
        Case::specimen(&["outside", "timerfd"]).refused(&["timerfd", "outside of the tree"]),
        Case::specimen(&["outside", "epoll"]).refused(&["eventpoll", "eventfd", "outside of the tree"]),
        Case::specimen(&["outside", "memory"]).refused(&["area", "/dev/zero", "outside of the tree"]),
        Case::specimen(&["outside", "deleted"]).refused(&["deleted", "outside of the tree"]),
        // It is not waited for as long as for what may stop any time.
        Case { within: Some(Duration::from_secs(6)), ..Case::specimen(&["vfork-waits"]) }
            .refused(&["waits in vfork(2) for process", "or end it: kill"]),
        Case::specimen(&["segments"]).refused(&["segments"]),
        Case::specimen(&["outside", "queue"]).refused(&["message queue", "outside of the tree"]),
        Case::specimen(&["mq-refused", "value"]).refused(&["sigev_thread", "a signal with a value"]),
        Case::specimen(&["mq-refused", "waiting"]).refused(&["messages wait", "is to be told"]),
        Case::specimen(&["seccomp-hard"]).refused(&["seccomp", "only root"]).only(&[User]),
        Case::specimen(&["seccomp-sleeper"]).refused(&["seccomp", "only root"]).only(&[User]),
        Case::specimen(&["inotify-process"]).refused(&["inotify", "watch 1 is of inode", "not found"]),
        Case::specimen(&["lock-by-area"]).only(&[Root, User]),
        Case::specimen(&["pipe-packets-behind"]).refused(&["pipe:", "would be one with these"]),
        Case::specimen(&["inotify-lost"]).refused(&["inotify", "watch 1 is of inode", "not found"]),
        Case::specimen(&["signalling-directory"]).refused(&["fd ", "when the directory changes"]),
        Case::specimen(&["pidfd-refused"]).refused(&["pidfd", "outside of the tree"]),
        Case::specimen(&["pty-refused", "waiting"]).refused(&["/dev/pts/", "2 bytes wait in it"]),
        Case::specimen(&["pty-refused", "stopped"]).refused(&["/dev/pts/", "its output is stopped"]),
        Case::specimen(&["fanotify-deciding"]).refused(&["fanotify", "they would wait for it"]).only(&[Root]),
        Case::specimen(&["several"]).refused(&["socket", "userfaultfd"]),
        Case::specimen(&["namespace-of-others"]).refused(&["uts:[", "neither the program lives nor you"]).only(&[Root]),
    ]
}
