//! Kernel constants that neither libc nor linux-raw-sys has, or that pure crates need. Each group names its source,
//! below `include/uapi` of the kernel where nothing else is said; the values are those of x86_64.
//!
//! What is an argument of a system call is a `u64`, as [`crate::Arg`] takes it; what /proc or a structure holds in 32
//! bits is an `u32`, what is signed there an `i32`.
#![allow(missing_docs)]

/// Protection and kind of a mapping (asm-generic/mman-common.h, asm/mman.h, linux/mman.h).
pub mod mmap {
    pub const PROT_NONE: u64 = 0;
    pub const PROT_READ: u64 = 1;
    pub const PROT_WRITE: u64 = 2;
    pub const PROT_EXEC: u64 = 4;

    pub const MAP_SHARED: u64 = 0x01;
    pub const MAP_PRIVATE: u64 = 0x02;
    pub const MAP_SHARED_VALIDATE: u64 = 0x03;
    pub const MAP_DROPPABLE: u64 = 0x08;
    pub const MAP_FIXED: u64 = 0x10;
    pub const MAP_ANONYMOUS: u64 = 0x20;
    /// Below 2 GiB.
    pub const MAP_32BIT: u64 = 0x40;
    pub const MAP_GROWSDOWN: u64 = 0x0100;
    pub const MAP_LOCKED: u64 = 0x2000;
    pub const MAP_NORESERVE: u64 = 0x4000;
    pub const MAP_POPULATE: u64 = 0x8000;
    pub const MAP_STACK: u64 = 0x2_0000;
    pub const MAP_HUGETLB: u64 = 0x4_0000;
    pub const MAP_SYNC: u64 = 0x8_0000;
    /// Fails with EEXIST where something is mapped already.
    pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
    /// The logarithm of the size of a huge page stands above this bit.
    pub const MAP_HUGE_SHIFT: u64 = 26;

    /// Of mlock2(2).
    pub const MLOCK_ONFAULT: u64 = 1;
}

/// System V IPC (linux/ipc.h, linux/shm.h, linux/sem.h, linux/msg.h).
pub mod ipc {
    pub const IPC_CREAT: u64 = 0o1000;
    pub const IPC_EXCL: u64 = 0o2000;
    pub const IPC_NOWAIT: u64 = 0o4000;

    /// Commands of shmctl(2), semctl(2) and msgctl(2).
    pub const IPC_RMID: u64 = 0;
    pub const IPC_SET: u64 = 1;
    pub const IPC_STAT: u64 = 2;
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
    pub const MADV_NORMAL: u64 = 0;
    pub const MADV_RANDOM: u64 = 1;
    pub const MADV_SEQUENTIAL: u64 = 2;
    pub const MADV_WILLNEED: u64 = 3;
    pub const MADV_DONTNEED: u64 = 4;
    pub const MADV_FREE: u64 = 8;
    pub const MADV_REMOVE: u64 = 9;
    pub const MADV_DONTFORK: u64 = 10;
    pub const MADV_DOFORK: u64 = 11;
    pub const MADV_MERGEABLE: u64 = 12;
    pub const MADV_UNMERGEABLE: u64 = 13;
    pub const MADV_HUGEPAGE: u64 = 14;
    pub const MADV_NOHUGEPAGE: u64 = 15;
    pub const MADV_DONTDUMP: u64 = 16;
    pub const MADV_DODUMP: u64 = 17;
    pub const MADV_WIPEONFORK: u64 = 18;
    pub const MADV_KEEPONFORK: u64 = 19;
    pub const MADV_COLD: u64 = 20;
    pub const MADV_PAGEOUT: u64 = 21;
    pub const MADV_POPULATE_READ: u64 = 22;
    pub const MADV_POPULATE_WRITE: u64 = 23;
    pub const MADV_DONTNEED_LOCKED: u64 = 24;
    pub const MADV_COLLAPSE: u64 = 25;
    /// 6.13.
    pub const MADV_GUARD_INSTALL: u64 = 102;
    /// 6.13.
    pub const MADV_GUARD_REMOVE: u64 = 103;
}

/// Moving mappings (linux/mman.h).
pub mod mremap {
    pub const MREMAP_MAYMOVE: u64 = 1;
    pub const MREMAP_FIXED: u64 = 2;
    pub const MREMAP_DONTUNMAP: u64 = 4;
}

/// Flags of open files (asm-generic/fcntl.h), as fdinfo prints them.
pub mod open {
    pub const O_RDONLY: u32 = 0;
    pub const O_WRONLY: u32 = 0o1;
    pub const O_RDWR: u32 = 0o2;
    pub const O_ACCMODE: u32 = 0o3;
    pub const O_CREAT: u32 = 0o100;
    pub const O_EXCL: u32 = 0o200;
    pub const O_NOCTTY: u32 = 0o400;
    pub const O_TRUNC: u32 = 0o1000;
    pub const O_APPEND: u32 = 0o2000;
    pub const O_NONBLOCK: u32 = 0o4000;
    pub const O_DSYNC: u32 = 0o1_0000;
    pub const O_ASYNC: u32 = 0o2_0000;
    pub const O_DIRECT: u32 = 0o4_0000;
    /// Set on everything that a 64-bit program opens; open(2) sets it by itself.
    pub const O_LARGEFILE: u32 = 0o10_0000;
    pub const O_DIRECTORY: u32 = 0o20_0000;
    pub const O_NOFOLLOW: u32 = 0o40_0000;
    pub const O_NOATIME: u32 = 0o100_0000;
    pub const O_CLOEXEC: u32 = 0o200_0000;
    pub const O_SYNC: u32 = 0o401_0000;
    pub const O_PATH: u32 = 0o1000_0000;
    /// With [`O_DIRECTORY`], as open(2) wants it.
    pub const O_TMPFILE: u32 = 0o2020_0000;
}

/// Commands of fcntl(2) (asm-generic/fcntl.h, linux/fcntl.h).
pub mod fcntl {
    pub const F_DUPFD: u64 = 0;
    pub const F_GETFD: u64 = 1;
    pub const F_SETFD: u64 = 2;
    pub const F_GETFL: u64 = 3;
    pub const F_SETFL: u64 = 4;
    pub const F_GETLK: u64 = 5;
    pub const F_SETLK: u64 = 6;
    pub const F_SETLKW: u64 = 7;
    pub const F_SETOWN: u64 = 8;
    pub const F_GETOWN: u64 = 9;
    pub const F_SETSIG: u64 = 10;
    pub const F_GETSIG: u64 = 11;
    pub const F_SETOWN_EX: u64 = 15;
    pub const F_GETOWN_EX: u64 = 16;
    pub const F_GETOWNER_UIDS: u64 = 17;
    pub const F_OFD_GETLK: u64 = 36;
    pub const F_OFD_SETLK: u64 = 37;
    pub const F_OFD_SETLKW: u64 = 38;
    pub const F_SETLEASE: u64 = 1024;
    pub const F_GETLEASE: u64 = 1025;
    pub const F_NOTIFY: u64 = 1026;
    pub const F_DUPFD_CLOEXEC: u64 = 1030;
    pub const F_SETPIPE_SZ: u64 = 1031;
    pub const F_GETPIPE_SZ: u64 = 1032;
    pub const F_ADD_SEALS: u64 = 1033;
    pub const F_GET_SEALS: u64 = 1034;
    pub const F_GET_RW_HINT: u64 = 1035;
    pub const F_SET_RW_HINT: u64 = 1036;

    /// Of `F_SETFD`.
    pub const FD_CLOEXEC: u64 = 1;

    /// Of `F_SETOWN_EX`: whom the number means.
    pub const F_OWNER_TID: i32 = 0;
    pub const F_OWNER_PID: i32 = 1;
    pub const F_OWNER_PGRP: i32 = 2;

    pub const F_SEAL_SEAL: u64 = 0x01;
    pub const F_SEAL_SHRINK: u64 = 0x02;
    pub const F_SEAL_GROW: u64 = 0x04;
    pub const F_SEAL_WRITE: u64 = 0x08;
    pub const F_SEAL_FUTURE_WRITE: u64 = 0x10;
    pub const F_SEAL_EXEC: u64 = 0x20;
}

/// Descriptor flags of calls that make or move one.
pub mod fd {
    /// A path from the working directory (linux/fcntl.h); -100 in 64 bits.
    pub const AT_FDCWD: u64 = -100_i64 as u64;
    pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    pub const AT_EMPTY_PATH: u64 = 0x1000;

    /// linux/eventfd.h.
    pub const EFD_SEMAPHORE: u64 = 1;
    pub const EFD_CLOEXEC: u64 = 0o200_0000;
    pub const EFD_NONBLOCK: u64 = 0o4000;

    /// linux/eventpoll.h.
    pub const EPOLL_CLOEXEC: u64 = 0o200_0000;
    pub const EPOLL_CTL_ADD: u64 = 1;
    pub const EPOLL_CTL_DEL: u64 = 2;
    pub const EPOLL_CTL_MOD: u64 = 3;

    /// linux/timerfd.h.
    pub const TFD_CLOEXEC: u64 = 0o200_0000;
    pub const TFD_NONBLOCK: u64 = 0o4000;
    pub const TFD_TIMER_ABSTIME: u64 = 1;
    pub const TFD_TIMER_CANCEL_ON_SET: u64 = 2;

    /// linux/signalfd.h.
    pub const SFD_CLOEXEC: u64 = 0o200_0000;
    pub const SFD_NONBLOCK: u64 = 0o4000;

    /// linux/inotify.h.
    pub const IN_CLOEXEC: u64 = 0o200_0000;
    pub const IN_NONBLOCK: u64 = 0o4000;

    /// linux/memfd.h.
    pub const MFD_CLOEXEC: u64 = 1;
    pub const MFD_ALLOW_SEALING: u64 = 2;
    pub const MFD_HUGETLB: u64 = 4;
    pub const MFD_NOEXEC_SEAL: u64 = 8;
    pub const MFD_EXEC: u64 = 16;

    /// linux/close_range.h.
    pub const CLOSE_RANGE_UNSHARE: u64 = 2;
    pub const CLOSE_RANGE_CLOEXEC: u64 = 4;

    /// Of lseek(2) (linux/fs.h).
    pub const SEEK_SET: u64 = 0;
    pub const SEEK_CUR: u64 = 1;
    pub const SEEK_END: u64 = 2;
    pub const SEEK_DATA: u64 = 3;
    pub const SEEK_HOLE: u64 = 4;
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
    pub const PR_SET_KEEPCAPS: u64 = 8;
    pub const PR_SET_NAME: u64 = 15;
    pub const PR_GET_NAME: u64 = 16;
    pub const PR_GET_SECCOMP: u64 = 21;
    pub const PR_SET_SECCOMP: u64 = 22;
    pub const PR_CAPBSET_READ: u64 = 23;
    pub const PR_CAPBSET_DROP: u64 = 24;
    pub const PR_GET_TSC: u64 = 25;
    pub const PR_SET_TSC: u64 = 26;
    pub const PR_TSC_ENABLE: u64 = 1;
    pub const PR_TSC_SIGSEGV: u64 = 2;
    pub const PR_GET_SECUREBITS: u64 = 27;
    pub const PR_SET_SECUREBITS: u64 = 28;
    pub const PR_SET_TIMERSLACK: u64 = 29;
    pub const PR_GET_TIMERSLACK: u64 = 30;
    pub const PR_MCE_KILL: u64 = 33;
    pub const PR_MCE_KILL_CLEAR: u64 = 0;
    pub const PR_MCE_KILL_SET: u64 = 1;
    pub const PR_MCE_KILL_LATE: u64 = 0;
    pub const PR_MCE_KILL_EARLY: u64 = 1;
    pub const PR_MCE_KILL_DEFAULT: u64 = 2;
    pub const PR_MCE_KILL_GET: u64 = 34;
    pub const PR_SET_MM: u64 = 35;
    pub const PR_SET_MM_START_CODE: u64 = 1;
    pub const PR_SET_MM_END_CODE: u64 = 2;
    pub const PR_SET_MM_START_DATA: u64 = 3;
    pub const PR_SET_MM_END_DATA: u64 = 4;
    pub const PR_SET_MM_START_STACK: u64 = 5;
    pub const PR_SET_MM_START_BRK: u64 = 6;
    pub const PR_SET_MM_BRK: u64 = 7;
    pub const PR_SET_MM_ARG_START: u64 = 8;
    pub const PR_SET_MM_ARG_END: u64 = 9;
    pub const PR_SET_MM_ENV_START: u64 = 10;
    pub const PR_SET_MM_ENV_END: u64 = 11;
    pub const PR_SET_MM_AUXV: u64 = 12;
    pub const PR_SET_MM_EXE_FILE: u64 = 13;
    pub const PR_SET_MM_MAP: u64 = 14;
    pub const PR_SET_MM_MAP_SIZE: u64 = 15;
    pub const PR_SET_PTRACER: u64 = 0x5961_6d61;
    pub const PR_SET_CHILD_SUBREAPER: u64 = 36;
    pub const PR_GET_CHILD_SUBREAPER: u64 = 37;
    pub const PR_SET_NO_NEW_PRIVS: u64 = 38;
    pub const PR_GET_NO_NEW_PRIVS: u64 = 39;
    /// Only with CONFIG_CHECKPOINT_RESTORE.
    pub const PR_GET_TID_ADDRESS: u64 = 40;
    pub const PR_SET_THP_DISABLE: u64 = 41;
    pub const PR_GET_THP_DISABLE: u64 = 42;
    /// 6.18.
    pub const PR_THP_DISABLE_EXCEPT_ADVISED: u64 = 2;
    pub const PR_CAP_AMBIENT: u64 = 47;
    pub const PR_CAP_AMBIENT_IS_SET: u64 = 1;
    pub const PR_CAP_AMBIENT_RAISE: u64 = 2;
    pub const PR_CAP_AMBIENT_LOWER: u64 = 3;
    pub const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
    pub const PR_GET_SPECULATION_CTRL: u64 = 52;
    pub const PR_SET_SPECULATION_CTRL: u64 = 53;
    pub const PR_SET_IO_FLUSHER: u64 = 57;
    pub const PR_GET_IO_FLUSHER: u64 = 58;
    pub const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
    pub const PR_SYS_DISPATCH_OFF: u64 = 0;
    pub const PR_SYS_DISPATCH_ON: u64 = 1;
    pub const PR_SCHED_CORE: u64 = 62;
    pub const PR_SCHED_CORE_GET: u64 = 0;
    pub const PR_SET_MDWE: u64 = 65;
    pub const PR_GET_MDWE: u64 = 66;
    pub const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    pub const PR_MDWE_NO_INHERIT: u64 = 2;
    pub const PR_SET_VMA: u64 = 0x5356_4d41;
    pub const PR_SET_VMA_ANON_NAME: u64 = 0;
    pub const PR_GET_AUXV: u64 = 0x4155_5856;
    pub const PR_SET_MEMORY_MERGE: u64 = 67;
    pub const PR_GET_MEMORY_MERGE: u64 = 68;
    /// 6.15: while it is on, `timer_create` takes the wanted id from where it will put it.
    pub const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
    pub const PR_TIMER_CREATE_RESTORE_IDS_OFF: u64 = 0;
    pub const PR_TIMER_CREATE_RESTORE_IDS_ON: u64 = 1;
    pub const PR_TIMER_CREATE_RESTORE_IDS_GET: u64 = 2;

    pub const ARCH_SET_GS: u64 = 0x1001;
    pub const ARCH_SET_FS: u64 = 0x1002;
    pub const ARCH_GET_FS: u64 = 0x1003;
    pub const ARCH_GET_GS: u64 = 0x1004;
    pub const ARCH_GET_CPUID: u64 = 0x1011;
    pub const ARCH_SET_CPUID: u64 = 0x1012;
    pub const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
    pub const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
    pub const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    /// Maps the vdso at an address; only with CONFIG_CHECKPOINT_RESTORE.
    pub const ARCH_MAP_VDSO_64: u64 = 0x2003;
    pub const ARCH_SHSTK_ENABLE: u64 = 0x5001;
    pub const ARCH_SHSTK_DISABLE: u64 = 0x5002;
    pub const ARCH_SHSTK_STATUS: u64 = 0x5005;
}

/// Restartable sequences (linux/rseq.h).
pub mod rseq {
    /// Of rseq(2).
    pub const RSEQ_FLAG_UNREGISTER: u64 = 1;
    /// Of a critical section; the kernel ignores them since 6.1.
    pub const RSEQ_CS_FLAG_NO_RESTART_ON_PREEMPT: u32 = 1;
    pub const RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL: u32 = 2;
    pub const RSEQ_CS_FLAG_NO_RESTART_ON_MIGRATE: u32 = 4;
    /// The signature that glibc registers with on x86 (sys/rseq.h, `RSEQ_SIG`).
    pub const RSEQ_SIG: u32 = 0x5305_3053;
    /// The size that the first kernels knew, and the least one.
    pub const RSEQ_ORIG_SIZE: u32 = 32;
}

/// Requests of ioctl(2) (asm-generic/ioctls.h).
pub mod ioctl {
    pub const TCGETS: u64 = 0x5401;
    pub const TCSETS: u64 = 0x5402;
    pub const TCSETSW: u64 = 0x5403;
    pub const TIOCEXCL: u64 = 0x540c;
    pub const TIOCNXCL: u64 = 0x540d;
    pub const TIOCSCTTY: u64 = 0x540e;
    pub const TIOCGPGRP: u64 = 0x540f;
    pub const TIOCSPGRP: u64 = 0x5410;
    pub const TIOCOUTQ: u64 = 0x5411;
    pub const TIOCSTI: u64 = 0x5412;
    pub const TIOCGWINSZ: u64 = 0x5413;
    pub const TIOCSWINSZ: u64 = 0x5414;
    pub const FIONREAD: u64 = 0x541b;
    pub const TIOCPKT: u64 = 0x5420;
    pub const FIONBIO: u64 = 0x5421;
    pub const TIOCNOTTY: u64 = 0x5422;
    pub const TIOCGSID: u64 = 0x5429;
    pub const TIOCGPTN: u64 = 0x8004_5430;
    pub const TIOCSPTLCK: u64 = 0x4004_5431;
    pub const TIOCGPKT: u64 = 0x8004_5438;
    pub const TIOCGPTLCK: u64 = 0x8004_5439;
    pub const TIOCGEXCL: u64 = 0x8004_5440;
    /// linux/timerfd.h, `_IOW('T', 0, __u64)`; only with CONFIG_CHECKPOINT_RESTORE.
    pub const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
}

/// Error numbers that only the kernel and tracers see, in the return register of an interrupted system call
/// (include/linux/errno.h of the kernel): compare with minus the register.
pub mod restart {
    pub const ERESTARTSYS: i64 = 512;
    pub const ERESTARTNOINTR: i64 = 513;
    pub const ERESTARTNOHAND: i64 = 514;
    pub const ERESTART_RESTARTBLOCK: i64 = 516;
}

/// Flags of clone(2) and clone3(2) (linux/sched.h).
pub mod clone {
    /// The exit signal of clone(2).
    pub const CSIGNAL: u64 = 0xff;
    pub const CLONE_NEWTIME: u64 = 0x80;
    pub const CLONE_VM: u64 = 0x100;
    pub const CLONE_FS: u64 = 0x200;
    pub const CLONE_FILES: u64 = 0x400;
    pub const CLONE_SIGHAND: u64 = 0x800;
    pub const CLONE_PIDFD: u64 = 0x1000;
    pub const CLONE_PTRACE: u64 = 0x2000;
    pub const CLONE_VFORK: u64 = 0x4000;
    pub const CLONE_PARENT: u64 = 0x8000;
    pub const CLONE_THREAD: u64 = 0x1_0000;
    pub const CLONE_NEWNS: u64 = 0x2_0000;
    pub const CLONE_SYSVSEM: u64 = 0x4_0000;
    pub const CLONE_SETTLS: u64 = 0x8_0000;
    pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
    pub const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
    pub const CLONE_UNTRACED: u64 = 0x80_0000;
    pub const CLONE_CHILD_SETTID: u64 = 0x100_0000;
    pub const CLONE_NEWCGROUP: u64 = 0x200_0000;
    pub const CLONE_NEWUTS: u64 = 0x400_0000;
    pub const CLONE_NEWIPC: u64 = 0x800_0000;
    pub const CLONE_NEWUSER: u64 = 0x1000_0000;
    pub const CLONE_NEWPID: u64 = 0x2000_0000;
    pub const CLONE_NEWNET: u64 = 0x4000_0000;
    pub const CLONE_IO: u64 = 0x8000_0000;
    /// Only clone3.
    pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    /// Only clone3.
    pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
}

/// What happens with a signal (asm-generic/signal-defs.h, asm/signal.h).
pub mod sigaction {
    pub const SA_NOCLDSTOP: u64 = 0x1;
    pub const SA_NOCLDWAIT: u64 = 0x2;
    pub const SA_SIGINFO: u64 = 0x4;
    pub const SA_EXPOSE_TAGBITS: u64 = 0x800;
    /// There is a [`crate::signal::KernelSigaction::restorer`]; x86_64 delivers nothing without.
    pub const SA_RESTORER: u64 = 0x400_0000;
    pub const SA_ONSTACK: u64 = 0x800_0000;
    pub const SA_RESTART: u64 = 0x1000_0000;
    pub const SA_NODEFER: u64 = 0x4000_0000;
    pub const SA_RESETHAND: u64 = 0x8000_0000;

    pub const SIG_DFL: u64 = 0;
    pub const SIG_IGN: u64 = 1;

    /// Of rt_sigprocmask(2).
    pub const SIG_BLOCK: u64 = 0;
    pub const SIG_UNBLOCK: u64 = 1;
    pub const SIG_SETMASK: u64 = 2;
    /// The size of a set, which every `rt_sig…` call wants to hear.
    pub const SIGSET_SIZE: u64 = 8;

    /// Of sigaltstack(2).
    pub const SS_ONSTACK: u32 = 1;
    pub const SS_DISABLE: u32 = 2;
    pub const SS_AUTODISARM: u32 = 1 << 31;

    /// Of sigevent(3type) (asm-generic/siginfo.h).
    pub const SIGEV_SIGNAL: i32 = 0;
    pub const SIGEV_NONE: i32 = 1;
    pub const SIGEV_THREAD: i32 = 2;
    pub const SIGEV_THREAD_ID: i32 = 4;

    /// Where a signal comes from: `si_code` (asm-generic/siginfo.h).
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_ASYNCIO: i32 = -4;
    pub const SI_SIGIO: i32 = -5;
    pub const SI_TKILL: i32 = -6;
}

/// Resource limits (asm-generic/resource.h).
pub mod rlimit {
    pub const RLIMIT_CPU: u64 = 0;
    pub const RLIMIT_FSIZE: u64 = 1;
    pub const RLIMIT_DATA: u64 = 2;
    pub const RLIMIT_STACK: u64 = 3;
    pub const RLIMIT_CORE: u64 = 4;
    pub const RLIMIT_RSS: u64 = 5;
    pub const RLIMIT_NPROC: u64 = 6;
    pub const RLIMIT_NOFILE: u64 = 7;
    pub const RLIMIT_MEMLOCK: u64 = 8;
    pub const RLIMIT_AS: u64 = 9;
    pub const RLIMIT_LOCKS: u64 = 10;
    pub const RLIMIT_SIGPENDING: u64 = 11;
    pub const RLIMIT_MSGQUEUE: u64 = 12;
    pub const RLIMIT_NICE: u64 = 13;
    pub const RLIMIT_RTPRIO: u64 = 14;
    pub const RLIMIT_RTTIME: u64 = 15;
    /// How many there are.
    pub const RLIM_NLIMITS: u64 = 16;
    /// No limit, as `prlimit64` says it.
    pub const RLIM64_INFINITY: u64 = u64::MAX;

    /// The names, by number.
    pub const NAMES: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
}

/// Operations of futex(2) (linux/futex.h).
pub mod futex {
    pub const FUTEX_WAIT: u64 = 0;
    pub const FUTEX_WAKE: u64 = 1;
    pub const FUTEX_REQUEUE: u64 = 3;
    pub const FUTEX_CMP_REQUEUE: u64 = 4;
    pub const FUTEX_WAKE_OP: u64 = 5;
    pub const FUTEX_LOCK_PI: u64 = 6;
    pub const FUTEX_UNLOCK_PI: u64 = 7;
    pub const FUTEX_TRYLOCK_PI: u64 = 8;
    pub const FUTEX_WAIT_BITSET: u64 = 9;
    pub const FUTEX_WAKE_BITSET: u64 = 10;
    pub const FUTEX_WAIT_REQUEUE_PI: u64 = 11;
    pub const FUTEX_CMP_REQUEUE_PI: u64 = 12;
    pub const FUTEX_LOCK_PI2: u64 = 13;
    pub const FUTEX_PRIVATE_FLAG: u64 = 128;
    pub const FUTEX_CLOCK_REALTIME: u64 = 256;
    /// What is left of an operation without its flags.
    pub const FUTEX_CMD_MASK: u64 = !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);

    /// Bits of the futex word itself, of priority-inheriting and robust ones.
    pub const FUTEX_WAITERS: u32 = 0x8000_0000;
    pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
    pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
}

/// Scheduling (linux/sched.h, linux/ioprio.h).
pub mod sched {
    pub const SCHED_NORMAL: u32 = 0;
    pub const SCHED_FIFO: u32 = 1;
    pub const SCHED_RR: u32 = 2;
    pub const SCHED_BATCH: u32 = 3;
    pub const SCHED_IDLE: u32 = 5;
    pub const SCHED_DEADLINE: u32 = 6;
    pub const SCHED_EXT: u32 = 7;

    pub const SCHED_FLAG_RESET_ON_FORK: u64 = 0x01;
    pub const SCHED_FLAG_RECLAIM: u64 = 0x02;
    pub const SCHED_FLAG_DL_OVERRUN: u64 = 0x04;
    pub const SCHED_FLAG_KEEP_POLICY: u64 = 0x08;
    pub const SCHED_FLAG_KEEP_PARAMS: u64 = 0x10;
    pub const SCHED_FLAG_UTIL_CLAMP_MIN: u64 = 0x20;
    pub const SCHED_FLAG_UTIL_CLAMP_MAX: u64 = 0x40;

    /// Of getpriority(2) (linux/resource.h).
    pub const PRIO_PROCESS: u64 = 0;
    /// Of ioprio_get(2): one thread.
    pub const IOPRIO_WHO_PROCESS: u64 = 1;
    /// The class stands above this bit.
    pub const IOPRIO_CLASS_SHIFT: u64 = 13;
}

/// Clocks and timers (linux/time.h).
pub mod time {
    pub const ITIMER_REAL: u64 = 0;
    pub const ITIMER_VIRTUAL: u64 = 1;
    pub const ITIMER_PROF: u64 = 2;

    /// The moment is of the clock, not counted from now.
    pub const TIMER_ABSTIME: u64 = 1;

    pub const CLOCK_REALTIME: i32 = 0;
    pub const CLOCK_MONOTONIC: i32 = 1;
    pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    pub const CLOCK_MONOTONIC_RAW: i32 = 4;
    pub const CLOCK_REALTIME_COARSE: i32 = 5;
    pub const CLOCK_MONOTONIC_COARSE: i32 = 6;
    pub const CLOCK_BOOTTIME: i32 = 7;
    pub const CLOCK_REALTIME_ALARM: i32 = 8;
    pub const CLOCK_BOOTTIME_ALARM: i32 = 9;
    pub const CLOCK_TAI: i32 = 11;
}

/// Capabilities (linux/capability.h, linux/securebits.h).
pub mod cap {
    pub const CAP_CHOWN: u32 = 0;
    pub const CAP_KILL: u32 = 5;
    pub const CAP_SETGID: u32 = 6;
    pub const CAP_SETUID: u32 = 7;
    pub const CAP_SETPCAP: u32 = 8;
    pub const CAP_NET_ADMIN: u32 = 12;
    pub const CAP_IPC_LOCK: u32 = 14;
    pub const CAP_SYS_CHROOT: u32 = 18;
    pub const CAP_SYS_PTRACE: u32 = 19;
    pub const CAP_SYS_ADMIN: u32 = 21;
    pub const CAP_SYS_NICE: u32 = 23;
    pub const CAP_SYS_RESOURCE: u32 = 24;
    pub const CAP_SYS_TIME: u32 = 25;
    pub const CAP_CHECKPOINT_RESTORE: u32 = 40;
    pub const CAP_LAST_CAP: u32 = 40;

    /// The names, by number.
    pub const NAMES: [&str; 41] = [
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

    pub const SECBIT_NOROOT: u64 = 1;
    pub const SECBIT_NO_SETUID_FIXUP: u64 = 4;
    pub const SECBIT_KEEP_CAPS: u64 = 16;
    pub const SECBIT_NO_CAP_AMBIENT_RAISE: u64 = 64;

    /// The names of the capabilities in a set, for printing.
    pub fn names(set: u64) -> Vec<String> {
        (0..64).filter(|bit| set >> bit & 1 == 1).map(name).collect()
    }

    fn name(bit: usize) -> String {
        match NAMES.get(bit) {
            Some(name) => (*name).to_owned(),
            None => format!("capability {bit}"),
        }
    }
}
