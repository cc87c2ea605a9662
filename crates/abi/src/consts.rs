//! Kernel constants that neither libc nor linux-raw-sys has, or that pure crates need. Each group names its source,
//! below `include/uapi` of the kernel where nothing else is said; the values are those of x86_64.
//!
//! What is an argument of a system call is a `u64`, as [`crate::Arg`] takes it; what /proc or a structure holds in 32
//! bits is an `u32`, what is signed there an `i32`. Only what is used stands here, and no other crate that is part of the
//! program writes it a second time (`cargo xtask tidy`).
#![allow(missing_docs)]

/// Protection and kind of a mapping (asm-generic/mman-common.h, asm/mman.h, linux/mman.h).
pub mod mmap {
    /// The size of a page on x86_64.
    pub const PAGE: u64 = 4096;

    pub const PROT_READ: u64 = 1;
    pub const PROT_WRITE: u64 = 2;
    pub const PROT_EXEC: u64 = 4;

    pub const MAP_SHARED: u64 = 0x01;
    pub const MAP_PRIVATE: u64 = 0x02;
    pub const MAP_DROPPABLE: u64 = 0x08;
    pub const MAP_ANONYMOUS: u64 = 0x20;
    pub const MAP_GROWSDOWN: u64 = 0x0100;
    /// Where the kernel chooses the address, it is none below 4 GiB.
    pub const MAP_ABOVE4G: u64 = 0x80;
    pub const MAP_NORESERVE: u64 = 0x4000;
    /// Fails with EEXIST where something is mapped already.
    pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
    /// To an address of the caller's choice.
    pub const MREMAP_MAYMOVE_FIXED: u64 = 3;
}

/// System V IPC (linux/ipc.h, linux/shm.h, linux/sem.h, linux/msg.h).
pub mod ipc {
    pub const IPC_CREAT: u64 = 0o1000;
    pub const IPC_EXCL: u64 = 0o2000;
    pub const IPC_NOWAIT: u64 = 0o4000;

    /// Commands of shmctl(2), semctl(2) and msgctl(2).
    pub const IPC_RMID: u64 = 0;
    pub const IPC_SET: u64 = 1;
    pub const IPC_INFO: u64 = 3;
    pub const SHM_LOCK: u64 = 11;
    pub const SHM_INFO: u64 = 14;
    /// Since Linux 4.17: by the place in the table of the namespace, whoever asks.
    pub const SHM_STAT_ANY: u64 = 15;
    pub const GETALL: u64 = 13;
    pub const GETPID: u64 = 11;
    pub const SETALL: u64 = 17;
    pub const SEM_INFO: u64 = 19;
    pub const SEM_STAT_ANY: u64 = 20;
    pub const MSG_INFO: u64 = 12;
    pub const MSG_STAT_ANY: u64 = 13;

    /// Marks in the mode of a segment: it goes with its last attachment; it is locked into memory.
    pub const SHM_DEST: u32 = 0o1000;
    pub const SHM_LOCKED: u32 = 0o2000;

    /// Of shmat(2).
    pub const SHM_RDONLY: u64 = 0o10000;
    pub const SHM_EXEC: u64 = 0o100_000;

    /// Of semop(2): the change is taken back at the end of the process.
    pub const SEM_UNDO: u16 = 0x1000;
    /// The highest value of a semaphore (SEMVMX), and the highest change that is taken back (SEMAEM).
    pub const SEMVMX: i32 = 32767;

    /// Of msgrcv(2): by the place in the queue, in which the message stays.
    pub const MSG_COPY: u64 = 0o40000;
}

/// Advice on memory (asm-generic/mman-common.h).
pub mod madvise {
    pub const MADV_RANDOM: u64 = 1;
    pub const MADV_SEQUENTIAL: u64 = 2;
    pub const MADV_DONTNEED: u64 = 4;
    pub const MADV_DONTFORK: u64 = 10;
    pub const MADV_MERGEABLE: u64 = 12;
    pub const MADV_UNMERGEABLE: u64 = 13;
    pub const MADV_HUGEPAGE: u64 = 14;
    pub const MADV_NOHUGEPAGE: u64 = 15;
    pub const MADV_DONTDUMP: u64 = 16;
    pub const MADV_WIPEONFORK: u64 = 18;
    /// 6.13.
    pub const MADV_GUARD_INSTALL: u64 = 102;
}

/// Flags of open files (asm-generic/fcntl.h), as fdinfo prints them.
pub mod open {
    pub const O_WRONLY: u32 = 0o1;
    pub const O_RDWR: u32 = 0o2;
    pub const O_ACCMODE: u32 = 0o3;
    pub const O_NOCTTY: u32 = 0o400;
    pub const O_APPEND: u32 = 0o2000;
    pub const O_NONBLOCK: u32 = 0o4000;
    pub const O_ASYNC: u32 = 0o2_0000;
    pub const O_DIRECT: u32 = 0o4_0000;
    /// Set on everything that a 64-bit program opens; open(2) sets it by itself.
    pub const O_LARGEFILE: u32 = 0o10_0000;
    pub const O_DIRECTORY: u32 = 0o20_0000;
    pub const O_NOFOLLOW: u32 = 0o40_0000;
    pub const O_CLOEXEC: u32 = 0o200_0000;
    pub const O_PATH: u32 = 0o1000_0000;
    /// With [`O_DIRECTORY`], as open(2) wants it.
    pub const O_TMPFILE: u32 = 0o2020_0000;
}

/// Commands of fcntl(2) (asm-generic/fcntl.h, linux/fcntl.h).
pub mod fcntl {
    pub const F_SETFL: u64 = 4;
    pub const F_DUPFD_CLOEXEC: u64 = 1030;
    pub const F_SETPIPE_SZ: u64 = 1031;
    pub const F_GETPIPE_SZ: u64 = 1032;
    pub const F_ADD_SEALS: u64 = 1033;
    pub const F_GET_SEALS: u64 = 1034;

    pub const F_SEAL_SEAL: u32 = 0x01;
    pub const F_SEAL_SHRINK: u32 = 0x02;
    pub const F_SEAL_GROW: u32 = 0x04;
    pub const F_SEAL_WRITE: u32 = 0x08;
    pub const F_SEAL_EXEC: u32 = 0x20;
}

/// What is true of a descriptor (poll(2), asm-generic/poll.h).
pub mod poll {
    pub const POLLIN: u16 = 1;
    pub const POLLPRI: u16 = 2;
    pub const POLLOUT: u16 = 4;
    pub const POLLERR: u16 = 8;
    pub const POLLRDHUP: u16 = 0x2000;
}

/// Sockets (linux/socket.h, asm-generic/socket.h, linux/net.h).
pub mod socket {
    pub const AF_UNIX: u64 = 1;
    pub const AF_INET: u64 = 2;
    pub const AF_INET6: u64 = 10;
    pub const AF_NETLINK: u64 = 16;
    pub const AF_PACKET: u64 = 17;

    pub const SOCK_STREAM: u8 = 1;
    pub const SOCK_DGRAM: u8 = 2;
    pub const SOCK_RAW: u8 = 3;
    pub const SOCK_SEQPACKET: u8 = 5;
    pub const SOCK_PACKET: u64 = 10;
    pub const SOCK_NONBLOCK: u64 = 0o4000;
    /// As many connections as may wait in any case (net.core.somaxconn).
    pub const SOMAXCONN: u64 = 4096;

    /// Levels of options; protocols, too (linux/in.h).
    pub const SOL_SOCKET: u64 = 1;
    pub const IPPROTO_IP: u64 = 0;
    pub const IPPROTO_TCP: u64 = 6;
    pub const IPPROTO_UDP: u64 = 17;
    pub const IPPROTO_IPV6: u64 = 41;
    pub const IPPROTO_ICMPV6: u64 = 58;
    pub const SOL_UDPLITE: u64 = 136;
    pub const SOL_RAW: u64 = 255;

    pub const SOL_PACKET: u64 = 263;
    pub const SOL_NETLINK: u64 = 270;

    /// linux/if_packet.h.
    pub const PACKET_ADD_MEMBERSHIP: u64 = 1;
    pub const PACKET_RX_RING: u64 = 5;
    pub const PACKET_COPY_THRESH: u64 = 7;
    pub const PACKET_VERSION: u64 = 10;
    pub const PACKET_TX_RING: u64 = 13;
    pub const PACKET_FANOUT: u64 = 18;

    /// linux/netlink.h.
    pub const NETLINK_ADD_MEMBERSHIP: u64 = 1;
    pub const NETLINK_LIST_MEMBERSHIPS: u64 = 9;

    /// Types of control messages (unix(7)).
    pub const SCM_CREDENTIALS: u32 = 2;

    pub const SO_REUSEADDR: u64 = 2;
    pub const SO_TYPE: u64 = 3;
    pub const SO_SNDBUF: u64 = 7;
    pub const SO_RCVBUF: u64 = 8;
    pub const SO_REUSEPORT: u64 = 15;
    pub const SO_PEERCRED: u64 = 17;
    /// To be asked for, too.
    pub const SO_ATTACH_FILTER: u64 = 26;
    pub const SO_SNDBUFFORCE: u64 = 32;
    pub const SO_RCVBUFFORCE: u64 = 33;
    pub const SO_PROTOCOL: u64 = 38;
    pub const SO_DOMAIN: u64 = 39;
    pub const SO_PEEK_OFF: u64 = 42;
    pub const SO_LOCK_FILTER: u64 = 44;
    pub const SO_PASSCRED: u64 = 16;
    pub const SO_PASSPIDFD: u64 = 76;
    pub const SO_BUF_LOCK: u64 = 72;

    pub const SHUT_RD: u64 = 0;
    pub const SHUT_WR: u64 = 1;

    pub const IP_OPTIONS: u64 = 4;
    pub const MCAST_JOIN_GROUP: u64 = 42;
    pub const MCAST_BLOCK_SOURCE: u64 = 43;
    pub const MCAST_JOIN_SOURCE_GROUP: u64 = 46;
    pub const MCAST_MSFILTER: u64 = 48;
    pub const IP_BIND_ADDRESS_NO_PORT: u64 = 24;
    pub const IP_LOCAL_PORT_RANGE: u64 = 51;
    pub const UDP_CORK: u64 = 1;
    pub const UDP_ENCAP: u64 = 100;
    pub const UDP_SEGMENT: u64 = 103;
    pub const UDP_GRO: u64 = 104;
    pub const IPV6_V6ONLY: u64 = 26;

    pub const MSG_PEEK: u64 = 2;
    pub const MSG_CTRUNC: u32 = 8;
    pub const MSG_TRUNC: u64 = 0x20;
    pub const MSG_DONTWAIT: u64 = 0x40;
    pub const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;

    /// How many bytes can be read (asm-generic/sockios.h).
    pub const SIOCINQ: u64 = 0x541b;
    /// How many bytes the other end has not read yet.
    pub const SIOCOUTQ: u64 = 0x5411;
}

/// Descriptor flags of calls that make or move one.
pub mod fd {
    /// A path from the working directory (linux/fcntl.h); -100 in 64 bits.
    pub const AT_FDCWD: u64 = -100_i64 as u64;

    /// linux/eventfd.h.
    pub const EFD_SEMAPHORE: u64 = 1;

    /// linux/fs.h: what is not there at once is not waited for.
    pub const RWF_NOWAIT: u64 = 8;

    /// linux/eventpoll.h.
    pub const EPOLL_CTL_ADD: u64 = 1;
    pub const EPOLL_CTL_MOD: u64 = 3;
    pub const EPOLLOUT: u32 = 0x4;
    pub const EPOLLERR: u32 = 0x8;
    pub const EPOLLHUP: u32 = 0x10;
    pub const EPOLLEXCLUSIVE: u32 = 1 << 28;
    pub const EPOLLWAKEUP: u32 = 1 << 29;
    pub const EPOLLONESHOT: u32 = 1 << 30;
    pub const EPOLLET: u32 = 1 << 31;

    /// linux/timerfd.h.
    pub const TFD_TIMER_ABSTIME: u32 = 1;
    pub const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

    /// linux/memfd.h.
    pub const MFD_ALLOW_SEALING: u64 = 2;
    pub const MFD_NOEXEC_SEAL: u64 = 8;
    pub const MFD_EXEC: u64 = 16;
}

/// The type of a file in `st_mode` (linux/stat.h).
pub mod file_type {
    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFIFO: u32 = 0o010_000;
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFBLK: u32 = 0o060_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const S_IFSOCK: u32 = 0o140_000;
}

/// Options of prctl(2) (linux/prctl.h) and arch_prctl(2) (asm/prctl.h).
pub mod prctl {
    pub const PR_SET_PDEATHSIG: u64 = 1;
    pub const PR_GET_PDEATHSIG: u64 = 2;
    pub const PR_GET_DUMPABLE: u64 = 3;
    pub const PR_SET_DUMPABLE: u64 = 4;
    pub const PR_GET_KEEPCAPS: u64 = 7;
    pub const PR_SET_NAME: u64 = 15;
    pub const PR_GET_NAME: u64 = 16;
    pub const PR_GET_SECCOMP: u64 = 21;
    pub const PR_CAPBSET_DROP: u64 = 24;
    pub const PR_GET_TSC: u64 = 25;
    pub const PR_SET_TSC: u64 = 26;
    pub const PR_GET_SECUREBITS: u64 = 27;
    pub const PR_SET_SECUREBITS: u64 = 28;
    pub const PR_SET_TIMERSLACK: u64 = 29;
    pub const PR_GET_TIMERSLACK: u64 = 30;
    pub const PR_MCE_KILL: u64 = 33;
    pub const PR_MCE_KILL_SET: u64 = 1;
    pub const PR_MCE_KILL_DEFAULT: u64 = 2;
    pub const PR_MCE_KILL_GET: u64 = 34;
    pub const PR_SET_MM: u64 = 35;
    pub const PR_SET_MM_MAP: u64 = 14;
    pub const PR_SET_CHILD_SUBREAPER: u64 = 36;
    pub const PR_GET_CHILD_SUBREAPER: u64 = 37;
    pub const PR_SET_NO_NEW_PRIVS: u64 = 38;
    /// Only with CONFIG_CHECKPOINT_RESTORE.
    pub const PR_GET_TID_ADDRESS: u64 = 40;
    pub const PR_SET_THP_DISABLE: u64 = 41;
    pub const PR_GET_THP_DISABLE: u64 = 42;
    pub const PR_CAP_AMBIENT: u64 = 47;
    pub const PR_CAP_AMBIENT_RAISE: u64 = 2;
    pub const PR_GET_SPECULATION_CTRL: u64 = 52;
    pub const PR_SET_SPECULATION_CTRL: u64 = 53;
    pub const PR_SET_IO_FLUSHER: u64 = 57;
    pub const PR_GET_IO_FLUSHER: u64 = 58;
    pub const PR_SCHED_CORE: u64 = 62;
    pub const PR_SET_MDWE: u64 = 65;
    pub const PR_GET_MDWE: u64 = 66;
    pub const PR_SET_VMA: u64 = 0x5356_4d41;
    pub const PR_SET_VMA_ANON_NAME: u64 = 0;
    pub const PR_SET_MEMORY_MERGE: u64 = 67;
    pub const PR_GET_MEMORY_MERGE: u64 = 68;
    /// 6.15: while it is on, `timer_create` takes the wanted id from where it will put it.
    pub const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
}

/// Restartable sequences (linux/rseq.h).
pub mod rseq {
    /// Of rseq(2).
    pub const RSEQ_FLAG_UNREGISTER: u64 = 1;
}

/// Requests of ioctl(2) (asm-generic/ioctls.h).
pub mod ioctl {
    pub const TCGETS: u64 = 0x5401;
    pub const TCSETS: u64 = 0x5402;
    pub const TIOCEXCL: u64 = 0x540c;
    pub const TIOCSCTTY: u64 = 0x540e;
    pub const TIOCGPGRP: u64 = 0x540f;
    pub const TIOCSPGRP: u64 = 0x5410;
    pub const TIOCSTI: u64 = 0x5412;
    pub const TIOCGWINSZ: u64 = 0x5413;
    pub const TIOCSWINSZ: u64 = 0x5414;
    pub const TIOCINQ: u64 = 0x541b;
    pub const TIOCPKT: u64 = 0x5420;
    pub const TIOCGETD: u64 = 0x5424;
    pub const TIOCGSID: u64 = 0x5429;
    /// `_IOR('T', 0x30, unsigned int)`, and so on.
    pub const TIOCGPTN: u64 = 0x8004_5430;
    pub const TIOCSPTLCK: u64 = 0x4004_5431;
    pub const TIOCGDEV: u64 = 0x8004_5432;
    pub const TIOCGPKT: u64 = 0x8004_5438;
    pub const TIOCGPTLCK: u64 = 0x8004_5439;
    pub const TIOCGEXCL: u64 = 0x8004_5440;
    pub const TIOCGPTPEER: u64 = 0x5441;
    /// linux/timerfd.h, `_IOW('T', 0, __u64)`; only with CONFIG_CHECKPOINT_RESTORE.
    pub const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
}

/// Error numbers that only the kernel and tracers see, in the return register of an interrupted system call
/// (include/linux/errno.h of the kernel), as the register has them.
pub mod restart {
    pub const ERESTARTNOHAND: u64 = -514_i64 as u64;
    pub const ERESTART_RESTARTBLOCK: u64 = -516_i64 as u64;
}

/// Flags of clone(2) and clone3(2) (linux/sched.h).
pub mod clone {
    pub const CLONE_NEWTIME: u64 = 0x80;
    pub const CLONE_VM: u64 = 0x100;
    pub const CLONE_FS: u64 = 0x200;
    pub const CLONE_FILES: u64 = 0x400;
    pub const CLONE_SIGHAND: u64 = 0x800;
    pub const CLONE_PARENT: u64 = 0x8000;
    pub const CLONE_NEWIPC: u64 = 0x800_0000;
}

/// What happens with a signal (asm-generic/signal-defs.h, asm/signal.h).
pub mod sigaction {
    pub const SA_SIGINFO: u64 = 0x4;

    pub const SIG_IGN: u64 = 1;

    /// Of rt_sigprocmask(2).
    pub const SIG_SETMASK: u64 = 2;

    /// Of sigaltstack(2).
    pub const SS_ONSTACK: u32 = 1;
    pub const SS_DISABLE: u32 = 2;

    /// Of sigevent(3type) (asm-generic/siginfo.h).
    pub const SIGEV_SIGNAL: i32 = 0;
    pub const SIGEV_NONE: i32 = 1;
    pub const SIGEV_THREAD: i32 = 2;
    pub const SIGEV_THREAD_ID: i32 = 4;

    /// Where a signal comes from: `si_code` (asm-generic/siginfo.h).
    pub const SI_KERNEL: i32 = 0x80;
}

/// Resource limits (asm-generic/resource.h).
pub mod rlimit {
    pub const RLIMIT_CORE: u64 = 4;
    pub const RLIMIT_NOFILE: u64 = 7;
    pub const RLIMIT_MEMLOCK: u64 = 8;
    pub const RLIMIT_MSGQUEUE: u64 = 12;
}

/// Operations of futex(2) (linux/futex.h).
pub mod futex {
    pub const FUTEX_WAIT: u64 = 0;
    pub const FUTEX_CMP_REQUEUE: u64 = 4;
    pub const FUTEX_WAKE_OP: u64 = 5;
    pub const FUTEX_LOCK_PI: u64 = 6;
    pub const FUTEX_PRIVATE_FLAG: u64 = 128;
    pub const FUTEX_CLOCK_REALTIME: u64 = 256;
    /// What is left of an operation without its flags.
    pub const FUTEX_CMD_MASK: u64 = !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
}

/// Rings of requests and completions (linux/io_uring.h).
pub mod uring {
    pub const SETUP_CQSIZE: u32 = 1 << 3;
    pub const SETUP_R_DISABLED: u32 = 1 << 6;
    pub const SETUP_SUBMIT_ALL: u32 = 1 << 7;
    pub const SETUP_SQE128: u32 = 1 << 10;
    pub const SETUP_CQE32: u32 = 1 << 11;
    pub const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
    pub const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
    pub const SETUP_NO_SQARRAY: u32 = 1 << 16;

    /// Where its memory begins in its file.
    pub const OFF_SQ_RING: u64 = 0;
    pub const OFF_CQ_RING: u64 = 0x800_0000;
    pub const OFF_SQES: u64 = 0x1000_0000;

    /// Flags of io_uring_enter(2).
    pub const ENTER_GETEVENTS: u64 = 1 << 0;
    pub const ENTER_EXT_ARG: u64 = 1 << 3;
    pub const ENTER_REGISTERED_RING: u64 = 1 << 4;
    pub const ENTER_ABS_TIMER: u64 = 1 << 5;

    /// Operations of io_uring_register(2).
    pub const REGISTER_BUFFERS: u64 = 0;
    pub const REGISTER_FILES: u64 = 2;
    pub const REGISTER_EVENTFD: u64 = 4;
    pub const REGISTER_RESTRICTIONS: u64 = 11;
    pub const REGISTER_ENABLE_RINGS: u64 = 12;
    pub const REGISTER_PBUF_STATUS: u64 = 26;
    pub const REGISTER_RESIZE_RINGS: u64 = 33;
    pub const REGISTER_MEM_REGION: u64 = 34;
}

/// Scheduling (linux/sched.h, linux/ioprio.h).
pub mod sched {
    /// Of ioprio_get(2): one thread.
    pub const IOPRIO_WHO_PROCESS: u64 = 1;
    /// The class stands above this bit.
    pub const IOPRIO_CLASS_SHIFT: u32 = 13;
    pub const IOPRIO_CLASS_RT: u32 = 1;

    /// Of set_mempolicy(2) (linux/mempolicy.h): nodes count from the first that is allowed.
    pub const MPOL_F_RELATIVE_NODES: u32 = 1 << 14;
}

/// Clocks and timers (linux/time.h).
pub mod time {
    /// The moment is of the clock, not counted from now.
    pub const TIMER_ABSTIME: u64 = 1;

    pub const CLOCK_REALTIME: i32 = 0;
    pub const CLOCK_MONOTONIC: i32 = 1;
    pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    pub const CLOCK_BOOTTIME: i32 = 7;
    pub const CLOCK_REALTIME_ALARM: i32 = 8;
    pub const CLOCK_BOOTTIME_ALARM: i32 = 9;
}

/// Capabilities (linux/capability.h, linux/securebits.h).
pub mod cap {
    pub const CAP_CHOWN: u32 = 0;
    pub const CAP_DAC_OVERRIDE: u32 = 1;
    pub const CAP_SETGID: u32 = 6;
    pub const CAP_SETUID: u32 = 7;
    pub const CAP_SETPCAP: u32 = 8;
    pub const CAP_NET_BIND_SERVICE: u32 = 10;
    pub const CAP_NET_ADMIN: u32 = 12;
    pub const CAP_NET_RAW: u32 = 13;
    pub const CAP_IPC_LOCK: u32 = 14;
    pub const CAP_SYS_PTRACE: u32 = 19;
    pub const CAP_SYS_ADMIN: u32 = 21;
    pub const CAP_SYS_NICE: u32 = 23;
    pub const CAP_SYS_RESOURCE: u32 = 24;
    pub const CAP_MKNOD: u32 = 27;
    pub const CAP_AUDIT_CONTROL: u32 = 30;
    pub const CAP_WAKE_ALARM: u32 = 35;
    pub const CAP_CHECKPOINT_RESTORE: u32 = 40;

    /// The names, by number.
    pub const CAP_NAMES: [&str; 41] = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];

    /// The names of the capabilities in a set, for printing.
    pub fn names(set: u64) -> Vec<String> {
        (0..64).filter(|bit| set >> bit & 1 == 1).map(name).collect()
    }

    fn name(bit: usize) -> String {
        match CAP_NAMES.get(bit) {
            Some(name) => (*name).to_owned(),
            None => format!("capability {bit}"),
        }
    }
}
