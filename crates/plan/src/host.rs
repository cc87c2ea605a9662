//! What planning knows of the machine on which a tree is to go on, and of what its user wants.
//! A survey fills it in; a test writes it down.

use abi::consts::cap::{CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The identity of a file as far as it can tell that its contents are the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileFacts {
    /// The type and permission bits (inode(7), `st_mode`).
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// The GNU build id, when it is an ELF file that has one.
    pub build_id: Option<Vec<u8>>,
    /// How many names it has (inode(7), `st_nlink`).
    #[serde(default)]
    pub names: u64,
    /// What whoever thaws may do with it: bits of access(2), 4 to read, 2 to write, 1 to execute.
    #[serde(default = "anything")]
    pub access: u32,
    /// Whether it may be written at its end only (chattr(1), `a`), by whomever.
    #[serde(default)]
    pub appends_only: bool,
    /// Whether it belongs to the user and the group of whoever thaws.
    #[serde(default)]
    pub is_own: bool,
    /// Device and inode number.
    #[serde(default)]
    pub inode: Option<(u64, u64)>,
}

fn anything() -> u32 {
    7
}

impl FileFacts {
    /// Whether the contents are taken to be those that were seen: the same length, and the same time of
    /// modification or the same build id.
    pub fn same_contents(&self, seen: &FileFacts) -> bool {
        let same_build = self.build_id.is_some() && self.build_id == seen.build_id;
        self.size == seen.size && (self.mtime == seen.mtime || same_build)
    }
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlaceFacts {
    /// The type and permission bits (inode(7), `st_mode`) of what the path leads to.
    pub mode: u32,
    /// Whether the path leads there by a symbolic link at its end.
    pub link: bool,
    /// What whoever thaws may do there: bits of access(2), 4 to read, 2 to write, 1 to enter.
    pub access: u32,
    /// Whether somebody has the socket that stands there, or may have it.
    #[serde(default)]
    pub live: bool,
    /// Of a device, which it is (inode(7), `st_rdev`).
    #[serde(default)]
    pub rdev: u64,
    /// Device and inode number.
    #[serde(default)]
    pub inode: Option<(u64, u64)>,
}

/// The terminal in which the thaw runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// Its path, such as `/dev/pts/3`.
    #[serde(with = "crate::paths::one")]
    pub path: Vec<u8>,
}

/// The host, as surveyed for one image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    /// The machine, as `uname -m` prints it.
    pub machine: String,
    /// Bytes of a page.
    pub page_size: u32,
    /// The files that the image names, as they are here; a missing one is not in the map.
    #[serde(with = "crate::paths::map")]
    pub files: BTreeMap<Vec<u8>, FileFacts>,
    /// Directories of deleted files in which an unnamed file can be made here (open(2), O_TMPFILE).
    #[serde(with = "crate::paths::set")]
    pub scratch: BTreeSet<Vec<u8>>,
    /// The places that the image names, as they are here; a missing one is not in the map.
    #[serde(with = "crate::paths::map", default)]
    pub places: BTreeMap<Vec<u8>, PlaceFacts>,
    /// The values of the semaphores of sets that the program changes back when it ends, as far as they are here.
    #[serde(default)]
    pub semaphores: BTreeMap<u32, Vec<u16>>,
    /// Processes that have a named pipe open that the image names, or wait for that, by its path: one of each, of those that can be seen.
    #[serde(with = "crate::paths::map", default)]
    pub openers: BTreeMap<Vec<u8>, u32>,
    /// Where whoever thaws has temporary files.
    #[serde(with = "crate::paths::one", default)]
    pub temporary: Vec<u8>,
    /// Process and thread ids of the image that are taken here.
    pub taken: BTreeSet<u32>,
    /// The controlling terminal, if there is one.
    pub terminal: Option<Terminal>,
    /// Effective user id of whoever thaws.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities: inheritable, permitted, effective, bounding, ambient, as in /proc/PID/status.
    pub capability_sets: [u64; 5],
    /// SECBIT_ flags (capabilities(7)).
    pub securebits: u64,
    /// The process that thaws may gain no privileges (prctl(2), PR_SET_NO_NEW_PRIVS), nor may what it makes.
    #[serde(default)]
    pub no_new_privs: bool,
    /// What is born of it may not write memory and then execute it (PR_SET_MDWE(2const)).
    #[serde(default)]
    pub no_written_code: bool,
    /// The nice value of whoever thaws.
    pub nice: i32,
    /// What else it has that everybody has who is born of it.
    #[serde(default)]
    pub inherited: Inherited,
    /// The processors on which a process may run here (sched_setaffinity(2)); empty: it is not known.
    #[serde(default)]
    pub processors: BTreeSet<u32>,
    /// The nodes from which a process may have memory here (set_mempolicy(2)); empty: it is not known.
    #[serde(default)]
    pub nodes: BTreeSet<u32>,
    /// Its score for the out-of-memory killer, and the lowest that it may set.
    pub oom_score_adj: i32,
    /// See `oom_score_adj`.
    pub oom_score_adj_min: i32,
    /// What else the image asks for of /proc and /sys: texts, and where links lead, by path; and the numbers of POSIX message queues,
    /// by their names with a slash before.
    #[serde(default)]
    pub told: BTreeMap<String, String>,
    /// Addresses of its sockets that nothing here has.
    #[serde(default)]
    pub absent: BTreeSet<IpAddr>,
    /// The user who had logged in whoever thaws (proc_pid_loginuid(5)), on a kernel that counts that.
    #[serde(default)]
    pub loginuid: Option<u32>,
    /// Whether the calls of whoever thaws are filtered (seccomp(2)).
    #[serde(default)]
    pub filtered: bool,
    /// Whether whoever thaws is in a user namespace other than the first: some rights count only there.
    #[serde(default)]
    pub inner_user_namespace: bool,
    /// The ids of users, and of groups, that there are in its user namespace: ranges, each by its first and their number
    /// (user_namespaces(7)). Empty: all.
    #[serde(default)]
    pub uids: Vec<(u32, u32)>,
    /// See `uids`.
    #[serde(default)]
    pub gids: Vec<(u32, u32)>,
    /// Whether nobody may change supplementary groups there (proc_pid_setgroups(5)).
    #[serde(default)]
    pub keeps_groups: bool,
    /// Whether its pid namespace belongs to another user namespace than its own or one below that: then its capabilities do
    /// not count there.
    #[serde(default)]
    pub foreign_pid_namespace: bool,
    /// Whether a new user namespace may be made here.
    pub user_namespaces: bool,
    /// Whether the kernel knows time namespaces.
    #[serde(default)]
    pub time_namespaces: bool,
    /// What the kernel does with a file in memory of which nobody says whether it may be executed (sysctl vm.memfd_noexec);
    /// `None`: it cannot be told.
    #[serde(default)]
    pub memfd_noexec: Option<u32>,
    /// The size of the vdso's areas and the checksum of its code: what must be the same to go on in it.
    pub vdso: Vec<(String, u64)>,
    /// See `vdso`.
    pub vdso_sum: u64,
    /// The extended states the processor and kernel have enabled (XCR0).
    pub xfeatures: u64,
    /// The hard limit on descriptors.
    pub max_files: u64,
    /// The highest number that the thawing process has open.
    pub highest_fd: u32,
    /// Ids that nothing here has, nor the image: as many as it needs for helpers.
    #[serde(default)]
    pub spare: Vec<u32>,
    /// The resource limits of whoever thaws, by number: soft and hard.
    pub limits: Vec<(u64, u64)>,
}

/// What a process has from its maker (fork(2), clone(2)): it need not be set where it was the same. `None`: it is not known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inherited {
    /// Policy, flags, nice value, priority; and runtime, deadline and period (sched_getattr(2)).
    pub scheduling: Option<(u32, u64, i32, u32, [u64; 3])>,
    /// The processors on which it may run (sched_getaffinity(2)); empty: it is not known.
    pub processors: BTreeSet<u32>,
    /// The priority of its input and output (ioprio_get(2)).
    pub io: Option<u32>,
    /// Its execution domain (personality(2)).
    pub personality: Option<u32>,
    /// Nanoseconds by which its sleeps may be longer (PR_GET_TIMERSLACK).
    pub timer_slack: Option<u64>,
}

impl Host {
    /// Whether the thawing process has this capability.
    pub fn has(&self, capability: u32) -> bool {
        self.capability_sets[2] >> capability & 1 == 1
    }

    /// Whether it has it in the first user namespace, as the kernel wants it for what concerns the whole host.
    pub fn has_in_first(&self, capability: u32) -> bool {
        self.has(capability) && !self.inner_user_namespace
    }

    /// Whether whoever thaws may suspend seccomp filters in what it traces: CAP_SYS_ADMIN in the first user namespace, and none
    /// of its own (kernel/ptrace.c, check_ptrace_options).
    pub fn may_suspend_filters(&self) -> bool {
        self.has_in_first(CAP_SYS_ADMIN) && !self.filtered
    }

    /// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN: may choose the ids of new processes (clone3, `set_tid`).
    pub fn may_choose_ids(&self) -> bool {
        !self.foreign_pid_namespace && (self.has(CAP_SYS_ADMIN) || self.has(CAP_CHECKPOINT_RESTORE))
    }

    /// Those of these users and groups that its user namespace does not have.
    pub fn unmapped(&self, uids: &[u32], gids: &[u32]) -> Vec<u32> {
        let lacks = |ranges: &[(u32, u32)], id: u32| {
            !ranges.is_empty() && !ranges.iter().any(|(first, count)| id.wrapping_sub(*first) < *count)
        };
        let users = uids.iter().filter(|id| lacks(&self.uids, **id));
        users.chain(gids.iter().filter(|id| lacks(&self.gids, **id))).copied().collect()
    }
}

/// `--pids`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Pids {
    /// The same ids in place if they are free and it is allowed, else in a new namespace.
    #[default]
    Auto,
    /// In place, or refuse.
    Same,
    /// In a new pid namespace.
    New,
}

/// `--files`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum FilePolicy {
    /// Refuse when an open file has changed since.
    Strict,
    /// Say so and go on with the file as it is.
    #[default]
    Warn,
    /// Put the saved contents back.
    Saved,
}

/// `--time`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum TimePolicy {
    /// The clocks that count from the start of the machine go on from where they stood, where that is allowed.
    #[default]
    Keep,
    /// They are those of the machine.
    Host,
}

/// `--detach`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Standing {
    /// Whoever thaws it waits for it: it is its parent.
    #[default]
    Foreground,
    /// Whoever thaws it goes away at once.
    Detached,
}

/// What the user asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// Which ids the processes get.
    pub pids: Pids,
    /// What to do about open files that have changed.
    pub files: FilePolicy,
    /// Whether it is waited for.
    #[serde(default)]
    pub standing: Standing,
    /// Which clocks it has.
    #[serde(default)]
    pub time: TimePolicy,
}
