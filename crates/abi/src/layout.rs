//! Kernel structures as bytes: what a system call reads from memory or leaves there, encoded and decoded field by
//! field at the offsets of the kernel's own headers (`include/uapi/linux`, `arch/x86/include/uapi/asm`).
//!
//! Every structure has `SIZE`, `to_bytes` and `from_bytes`; `from_bytes` is `None` when the bytes are too few, and
//! takes more than enough. A pointer in a structure is a number here; where a call must follow it, the offset of the
//! pointer is exported, for [`crate::Arg::Nested`].

/// Something with a fixed number of bytes in memory, little-endian.
pub trait Layout: Sized {
    /// How many bytes.
    const SIZE: usize;
    /// Writes itself at the beginning of `bytes`.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`Layout::SIZE`].
    fn put(&self, bytes: &mut [u8]);
    /// Reads itself from the beginning of `bytes`; `None` when they are too few.
    fn get(bytes: &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($int:ty)*) => { $(
        impl Layout for $int {
            const SIZE: usize = size_of::<$int>();
            fn put(&self, bytes: &mut [u8]) {
                bytes[..Self::SIZE].copy_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|chunk| <$int>::from_le_bytes(*chunk))
            }
        }
    )* };
}

integers! { u8 u16 u32 u64 i16 i32 i64 }

impl<T: Layout + Copy + Default, const N: usize> Layout for [T; N] {
    const SIZE: usize = N * T::SIZE;
    fn put(&self, bytes: &mut [u8]) {
        for (i, item) in self.iter().enumerate() {
            item.put(&mut bytes[i * T::SIZE..]);
        }
    }
    fn get(bytes: &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for (i, item) in items.iter_mut().enumerate() {
            *item = T::get(bytes.get(i * T::SIZE..)?)?;
        }
        Some(items)
    }
}

/// A structure of so many bytes, with its fields and their offsets; bytes between them are zero.
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident [$size:literal] {
            $( $(#[$field_meta:meta])* pub $field:ident: $ty:ty = $at:literal, )*
        }
    )*) => { $(
        $(#[$meta])*
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $name {
            /// The size in bytes.
            pub const SIZE: usize = $size;

            /// As the kernel reads it.
            pub fn to_bytes(&self) -> [u8; $size] {
                let mut bytes = [0; $size];
                $( $crate::layout::Layout::put(&self.$field, &mut bytes[$at..]); )*
                bytes
            }

            /// As the kernel wrote it; `None` when there are fewer than `SIZE` bytes.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let bytes = bytes.get(..$size)?;
                Some($name { $( $field: $crate::layout::Layout::get(&bytes[$at..])?, )* })
            }
        }

        impl $crate::layout::Layout for $name {
            const SIZE: usize = $size;
            fn put(&self, bytes: &mut [u8]) {
                bytes[..$size].copy_from_slice(&self.to_bytes());
            }
            fn get(bytes: &[u8]) -> Option<Self> {
                Self::from_bytes(bytes)
            }
        }
    )* };
}
pub(crate) use layout;

layout! {
    /// A message, of sendmsg(2) and recvmsg(2) (linux/socket.h, `user_msghdr`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Msghdr [56] {
        pub name: u64 = 0,
        pub namelen: u32 = 8,
        pub iov: u64 = 16,
        pub iovlen: u64 = 24,
        pub control: u64 = 32,
        pub controllen: u64 = 40,
        pub flags: u32 = 48,
    }

    /// The map of an address space for `prctl(PR_SET_MM, PR_SET_MM_MAP)` (linux/prctl.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct PrctlMmMap [104] {
        pub start_code: u64 = 0,
        pub end_code: u64 = 8,
        pub start_data: u64 = 16,
        pub end_data: u64 = 24,
        pub start_brk: u64 = 32,
        pub brk: u64 = 40,
        pub start_stack: u64 = 48,
        pub arg_start: u64 = 56,
        pub arg_end: u64 = 64,
        pub env_start: u64 = 72,
        pub env_end: u64 = 80,
        /// A pointer to the auxiliary vector: see [`PrctlMmMap::AUXV_AT`].
        pub auxv: u64 = 88,
        /// Its size in bytes, at most 8 * AT_VECTOR_SIZE; 0: leave it.
        pub auxv_size: u32 = 96,
        /// A descriptor of the new executable, or -1 (all ones): leave it.
        pub exe_fd: u32 = 100,
    }

    /// Key, owner and rights of an object of System V IPC (asm-generic/ipcbuf.h, `ipc64_perm`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct IpcPerm [48] {
        pub key: i32 = 0,
        pub uid: u32 = 4,
        pub gid: u32 = 8,
        pub cuid: u32 = 12,
        pub cgid: u32 = 16,
        /// Rights, and the marks of the kernel: see `consts::ipc`.
        pub mode: u32 = 20,
    }

    /// A segment of shared memory (asm-generic/shmbuf.h, `shmid64_ds`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Shmid [112] {
        pub perm: IpcPerm = 0,
        pub size: u64 = 48,
        /// Who made it, and who attached or detached last: ids in the pid namespace of the caller.
        pub cpid: i32 = 80,
        pub lpid: i32 = 84,
        /// How many areas show it.
        pub attached: u64 = 88,
    }

    /// A set of semaphores (arch/x86/include/uapi/asm/sembuf.h, `semid64_ds`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Semid [104] {
        pub perm: IpcPerm = 0,
        /// When it was used last; 0: never.
        pub used: u64 = 48,
        pub count: u64 = 80,
    }

    /// A message queue (asm-generic/msgbuf.h, `msqid64_ds`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Msqid [120] {
        pub perm: IpcPerm = 0,
        /// When somebody sent and received last; 0: never.
        pub sent: u64 = 48,
        pub received: u64 = 56,
        /// Bytes and messages that wait, and how many bytes may.
        pub bytes: u64 = 72,
        pub count: u64 = 80,
        pub limit: u64 = 88,
        /// Who sent and who received last: ids in the pid namespace of the caller.
        pub lspid: i32 = 96,
        pub lrpid: i32 = 100,
    }

    /// One operation of semop(2) (linux/sem.h, `sembuf`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Sembuf [6] {
        pub number: u16 = 0,
        pub change: i16 = 2,
        pub flags: u16 = 4,
    }

    /// The arguments of `clone3` (linux/sched.h), version 2 (5.7: with `cgroup`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct CloneArgs [88] {
        pub flags: u64 = 0,
        pub pidfd: u64 = 8,
        pub child_tid: u64 = 16,
        pub parent_tid: u64 = 24,
        pub exit_signal: u64 = 32,
        /// The lowest byte of the stack; 0: the stack of the caller.
        pub stack: u64 = 40,
        pub stack_size: u64 = 48,
        pub tls: u64 = 56,
        /// A pointer to ids (`pid_t`, 4 bytes each), innermost namespace first: see [`CloneArgs::SET_TID_AT`].
        pub set_tid: u64 = 64,
        /// How many ids, not bytes.
        pub set_tid_size: u64 = 72,
        pub cgroup: u64 = 80,
    }

    /// What `sched_setattr` and `sched_getattr` exchange (linux/sched/types.h), with the clamps of 5.3.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct SchedAttr [56] {
        /// How many bytes the caller knows of; 56 here, 48 before 5.3.
        pub size: u32 = 0,
        pub policy: u32 = 4,
        pub flags: u64 = 8,
        pub nice: i32 = 16,
        pub priority: u32 = 20,
        pub runtime: u64 = 24,
        pub deadline: u64 = 32,
        pub period: u64 = 40,
        pub util_min: u32 = 48,
        pub util_max: u32 = 52,
    }

    /// Seconds and microseconds (`struct __kernel_old_timeval`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Timeval [16] {
        pub sec: i64 = 0,
        pub usec: i64 = 8,
    }

    /// Seconds and nanoseconds (`struct __kernel_timespec`).
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Timespec [16] {
        pub sec: i64 = 0,
        pub nsec: i64 = 8,
    }

    /// What `getitimer` and `setitimer` exchange (linux/time.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Itimerval [32] {
        /// The period; zero: once.
        pub interval: Timeval = 0,
        /// The time left; zero: not armed.
        pub value: Timeval = 16,
    }

    /// What `timer_settime` and `timerfd_settime` exchange (linux/time_types.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Itimerspec [32] {
        /// The period; zero: once.
        pub interval: Timespec = 0,
        /// The time left or the moment; zero: not armed.
        pub value: Timespec = 16,
    }

    /// A limit as `prlimit64` takes it (linux/resource.h); all ones is no limit.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Rlimit64 [16] {
        /// The soft limit.
        pub cur: u64 = 0,
        /// The hard limit.
        pub max: u64 = 8,
    }

    /// The settings of a terminal as `TCGETS` gives them (asm-generic/termbits.h): not glibc's longer structure.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Termios [36] {
        pub iflag: u32 = 0,
        pub oflag: u32 = 4,
        pub cflag: u32 = 8,
        pub lflag: u32 = 12,
        pub line: u8 = 16,
        pub cc: [u8; 19] = 17,
    }

    /// The size of a terminal (asm-generic/termios.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Winsize [8] {
        pub row: u16 = 0,
        pub col: u16 = 2,
        pub xpixel: u16 = 4,
        pub ypixel: u16 = 6,
    }

    /// How a timer of `timer_create` tells that it expired (asm-generic/siginfo.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Sigevent [64] {
        /// What comes along with the signal (`sigev_value`).
        pub value: u64 = 0,
        /// The signal.
        pub signo: i32 = 8,
        /// `SIGEV_SIGNAL`, `SIGEV_NONE`, `SIGEV_THREAD_ID`.
        pub notify: i32 = 12,
        /// The thread of `SIGEV_THREAD_ID`.
        pub tid: i32 = 16,
    }

    /// The header of `capset` and `capget` (linux/capability.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CapHeader [8] {
        /// [`CapHeader::VERSION_3`].
        pub version: u32 = 0,
        /// The thread; 0: the caller.
        pub pid: i32 = 4,
    }

    /// One of the two halves of [`CapData`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct CapHalf [12] {
        pub effective: u32 = 0,
        pub permitted: u32 = 4,
        pub inheritable: u32 = 8,
    }

    /// What `fstat` fills on x86_64 (asm/stat.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct FileStat [144] {
        pub dev: u64 = 0,
        pub ino: u64 = 8,
        pub nlink: u64 = 16,
        pub mode: u32 = 24,
        pub uid: u32 = 28,
        pub gid: u32 = 32,
        pub rdev: u64 = 40,
        pub size: i64 = 48,
        pub blksize: i64 = 56,
        /// In units of 512 bytes.
        pub blocks: i64 = 64,
        pub atime: Timespec = 72,
        pub mtime: Timespec = 88,
        pub ctime: Timespec = 104,
    }
}

impl PrctlMmMap {
    /// Where the pointer to the auxiliary vector stands.
    pub const AUXV_AT: usize = 88;
}

impl CloneArgs {
    /// Where the pointer to the ids stands.
    pub const SET_TID_AT: usize = 64;
}

impl Timespec {
    /// From a number of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timespec { sec: (nanos / 1_000_000_000) as i64, nsec: (nanos % 1_000_000_000) as i64 }
    }

    /// The number of nanoseconds; `None` before the epoch, and after the year 2554.
    pub fn to_nanos(self) -> Option<u64> {
        let whole = u64::try_from(self.sec).ok()?.checked_mul(1_000_000_000)?;
        whole.checked_add(u64::try_from(self.nsec).ok()?)
    }
}

impl Itimerspec {
    /// A period and a time that is left, or a moment, in nanoseconds.
    pub const fn from_nanos(interval: u64, value: u64) -> Self {
        Itimerspec { interval: Timespec::from_nanos(interval), value: Timespec::from_nanos(value) }
    }
}

impl CapHeader {
    /// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits in two halves.
    pub const VERSION_3: u32 = 0x2008_0522;

    /// The header for a thread (0: the caller).
    pub const fn v3(pid: i32) -> Self {
        CapHeader { version: Self::VERSION_3, pid }
    }
}

/// The capability sets as `capset` takes them behind a [`CapHeader::v3`]: whole here, in two halves in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct CapData {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

impl CapData {
    /// The size in bytes of both halves.
    pub const SIZE: usize = 2 * CapHalf::SIZE;

    /// As the kernel reads it.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        [self.half(0), self.half(32)].put(&mut bytes);
        bytes
    }

    /// As the kernel wrote it; `None` when there are fewer than `SIZE` bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [low, high] = <[CapHalf; 2]>::get(bytes)?;
        let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Some(CapData {
            effective: join(low.effective, high.effective),
            permitted: join(low.permitted, high.permitted),
            inheritable: join(low.inheritable, high.inheritable),
        })
    }

    fn half(&self, shift: u32) -> CapHalf {
        CapHalf {
            effective: (self.effective >> shift) as u32,
            permitted: (self.permitted >> shift) as u32,
            inheritable: (self.inheritable >> shift) as u32,
        }
    }
}
