//! Attributes of a process: execution domain, transparent huge pages, being a subreaper, the score of the
//! out-of-memory killer, the login that it is of.
//!
//! - seen as    /proc/PID/personality, /proc/PID/oom_score_adj, /proc/PID/loginuid
//! - captured   those, and by `prctl` what stands in no file
//! - recreated  `personality`, `prctl`; score and login by a write to /proc
//! - refused    a network or UTS namespace that is not that of the freezer, an IPC namespace that is not that of the
//!   root of the tree
//! - not kept   an out-of-memory score below that of who thaws, without CAP_SYS_RESOURCE; the login, without
//!   CAP_AUDIT_CONTROL; other mounts than the freezer's; a root of its own for control groups: the user is told. The session
//!   of the login, the control group, and the times of the processor that were used, which begin anew

use super::{ask, ask_into, number, sandbox, value_or, write_own, written};
use crate::{At, Capture, Capturing, Planning, Resource, Text, Trouble};
use abi::consts::cap::{CAP_AUDIT_CONTROL, CAP_SYS_RESOURCE};
use abi::consts::prctl::{PR_GET_CHILD_SUBREAPER, PR_GET_THP_DISABLE, PR_SET_CHILD_SUBREAPER, PR_SET_THP_DISABLE};
use abi::{Arg, Call, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Expect, Namespaces, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Told since Linux 6.3 (linux/membarrier.h).
const MEMBARRIER_CMD_GET_REGISTRATIONS: u64 = 1 << 9;
/// The user of no login.
const UNSET: u32 = u32::MAX;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Attributes {
    /// The execution domain (personality(2)).
    #[n(0)]
    pub personality: u32,
    /// PR_GET_THP_DISABLE.
    #[n(1)]
    pub thp_disable: u64,
    /// PR_SET_CHILD_SUBREAPER.
    #[n(2)]
    pub subreaper: bool,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    #[n(3)]
    pub oom_score_adj: i32,
    /// MEMBARRIER_CMD_REGISTER_ bits that the process asked for (membarrier(2)).
    #[n(4)]
    #[cbor(default)]
    #[serde(default)]
    pub membarrier: u64,
    /// The user who had logged in (proc_pid_loginuid(5)), on a kernel that counts that.
    #[n(5)]
    #[cbor(default)]
    #[serde(default)]
    pub login: Option<u32>,
}

impl Resource for Attributes {
    const NAME: &'static str = "attributes";
}

/// Whether its namespace is not that of the freezer.
fn is_foreign(name: &str, from: &Capturing<'_>) -> bool {
    from.probe.link(name).ok() != from.probe.own_link(name).ok()
}

/// Namespaces in which a thaw here would not put it again.
fn foreign_namespaces(from: &Capturing<'_>) -> Vec<Refusal> {
    let kinds = [("net", "network"), ("uts", "host name")];
    let foreign = kinds.iter().filter(|(file, _)| is_foreign(&format!("ns/{file}"), from));
    let refuse = |(file, kind): &(&str, &str)| {
        let why = format!("it lives in a {kind} namespace of its own");
        Refusal::new(format!("ns/{file}"), why, "run cryopid inside that namespace (nsenter)")
    };
    let mut all: Vec<Refusal> = foreign.map(refuse).collect();
    let link = |name: &str| from.probe.link(name).ok();
    // One that all of the tree lives in is kept: `ns::ipc`.
    if link("ns/ipc") != from.probe.root_link("ns/ipc").ok() {
        let why = "it lives in another IPC namespace than the root of its tree";
        all.push(Refusal::new("ns/ipc", why, "this is not supported yet"));
    }
    // A tree goes on with one time: `ns::time`.
    if link("ns/time") != from.probe.root_link("ns/time").ok() {
        let why = "it lives in another time namespace than the root of its tree";
        all.push(Refusal::new("ns/time", why, "this is not supported yet"));
    }
    // One that has no process yet has no link either.
    for (kind, own, of_children) in
        [("time", "ns/time", "ns/time_for_children"), ("pid", "ns/pid", "ns/pid_for_children")]
    {
        if link(own) != link(of_children) {
            let why = format!("its children would live in another {kind} namespace than it (unshare(2))");
            all.push(Refusal::new(of_children, why, "this is not supported yet"));
        }
    }
    all
}

/// Namespaces that only change what names lead to. A mount namespace of its own is no reason by itself: each program that
/// was thawed in a new pid namespace has one, with the same mounts and a /proc of its own. Files are told from others by the
/// thaw, but directories are not.
fn note_views(from: &mut Capturing<'_>) -> Result<(), Trouble> {
    if is_foreign("ns/mnt", from)
        && let Some(at) = other_mount(&from.probe.text_around("mountinfo")?, &from.probe.own_text("mountinfo")?)?
    {
        let why = format!("{at} is another mount than here: its paths may lead to other files where it is thawed");
        from.note("ns/mnt", why);
    }
    if is_foreign("ns/cgroup", from) {
        from.note("ns/cgroup", "it has a root of its own for control groups; thawed, it has that of who thaws it");
    }
    Ok(())
}

/// Where a mount stands, and what it shows: device and directory.
type MountedAt = (Text, (u32, u32), Text);

/// The first place, in the order of names, where two namespaces have different mounts.
fn other_mount(one: &[u8], two: &[u8]) -> Result<Option<Text>, Trouble> {
    let (one, two) = (mounts(one)?, mounts(two)?);
    Ok(one.symmetric_difference(&two).next().map(|(at, ..)| at.clone()))
}

/// The mounts of a namespace, but for its own /proc.
fn mounts(text: &[u8]) -> Result<BTreeSet<MountedAt>, Trouble> {
    let all = proc::mountinfo(text)?.into_iter().filter(|m| m.fs_type != b"proc");
    Ok(abi::gathered(all.map(|m| (Text(m.mount_point), m.dev, Text(m.root)))))
}

impl Capture for Attributes {
    const TEXTS: &'static [&'static str] = &["personality", "oom_score_adj", "loginuid"];
    const LINKS: &'static [&'static str] = &[
        "ns/net",
        "ns/uts",
        "ns/ipc",
        "ns/time",
        "ns/time_for_children",
        "ns/pid",
        "ns/pid_for_children",
        "ns/mnt",
        "ns/cgroup",
    ];
    fn asks() -> Vec<Call> {
        let barriers =
            Call::new(Sys::Membarrier, [Arg::Int(MEMBARRIER_CMD_GET_REGISTRATIONS), Arg::Int(0), Arg::Int(0)]);
        vec![ask(PR_GET_THP_DISABLE), ask_into(PR_GET_CHILD_SUBREAPER, 4), barriers]
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = foreign_namespaces(from);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        note_views(from)?;
        sandbox::note(from)?;
        let answers = from.probe.calls(&Self::asks())?;
        Ok(Attributes {
            personality: number(&from.probe.text("personality")?, 16) as u32,
            thp_disable: value_or(&answers[0], 0)?,
            subreaper: written(&answers[1]).first().is_some_and(|b| *b != 0),
            oom_score_adj: number(&from.probe.text("oom_score_adj")?, 10) as i32,
            membarrier: value_or(&answers[2], 0)?,
            login: from.probe.text("loginuid").ok().map(|text| number(&text, 10) as u32),
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        to.to.arm(Self::NAME, at.tid, Sys::Personality, vec![u64::from(self.personality).into()], Expect::Success);
        let mut set = |option: u64, value: u64, flags: u64| {
            let args = vec![option.into(), value.into(), flags.into(), 0.into(), 0.into()];
            to.to.arm(Self::NAME, at.tid, Sys::Prctl, args, Expect::Success);
        };
        // Told in one word: the lowest bit, and since Linux 6.18 the flags.
        set(PR_SET_THP_DISABLE, self.thp_disable & 1, self.thp_disable & !1);
        set(PR_SET_CHILD_SUBREAPER, self.subreaper.into(), 0);
        for bit in (0..64).filter(|bit| self.membarrier >> bit & 1 == 1) {
            let args = vec![(1u64 << bit).into(), 0.into(), 0.into()];
            to.to.arm(Self::NAME, at.tid, Sys::Membarrier, args, Expect::Success);
        }
        self.plan_oom_score(at, to);
        self.plan_login(at, to);
    }
}

impl Attributes {
    /// A score below the lowest that whoever has CAP_SYS_RESOURCE in the first user namespace has set takes that too
    /// (fs/proc/base.c, `__set_oom_adj`).
    fn plan_oom_score(&self, at: At, to: &mut Planning<'_>) {
        if self.oom_score_adj == to.to.host.oom_score_adj {
            return;
        }
        if self.oom_score_adj < to.to.host.oom_score_adj_min && !to.to.host.has_in_first(CAP_SYS_RESOURCE) {
            to.to.note(format!("the out-of-memory score was {} and may not be set so low here", self.oom_score_adj));
            return;
        }
        write_own(Self::NAME, "oom_score_adj", &self.oom_score_adj.to_string(), at, to);
    }

    /// fs/proc/base.c, proc_loginuid_write, and kernel/audit.c: who has CAP_AUDIT_CONTROL may set it, and anybody once.
    fn plan_login(&self, at: At, to: &mut Planning<'_>) {
        let (Some(login), Some(here)) = (self.login, to.to.host.loginuid) else { return };
        let outside = !matches!(to.namespaces, Namespaces::UserPid { .. });
        if login == here {
            return;
        }
        if outside && (here == UNSET || to.to.host.has_in_first(CAP_AUDIT_CONTROL)) {
            return write_own(Self::NAME, "loginuid", &login.to_string(), at, to);
        }
        let name = |id: u32| if id == UNSET { "nobody".into() } else { format!("user {id}") };
        to.to.note(format!("it was of a login of {}; the audit log counts it to {} now", name(login), name(here)));
    }
}
