//! IPC: the namespace of System V IPC and POSIX message queues.
//!
//! - seen as    /proc/PID/ns/ipc
//! - captured   where there is anything in it, or it is not that of the freezer: whether it is the tree's own, by which start of
//!   the machine and which number it is known again, and limits of one of its own that are not the kernel's usual ones
//! - recreated  where the tree had one of its own, or is thawed in a pid namespace of its own: `unshare(CLONE_NEWIPC)` by the
//!   first stub, before any other is born of it; limits by a write to /proc/sys/kernel
//! - refused    one of its own in which there is something, and processes live that are not of the tree
//! - not kept   of one of its own: POSIX message queues (mq_overview(7)) that no process has open, `fs.mqueue.*` and
//!   `kernel.shm_rmid_forced`, which the user is told; the limits, where it is thawed without root, likewise
//!
//! What is in it, and what becomes of it, is told in `ipc`.

use crate::fd::mqueue;
use crate::ipc::{lives_apart, table};
use crate::task::{all, written};
use crate::{At, CaptureTree, Capturing, Planning, Resource, Trouble};
use abi::consts::cap::CAP_SYS_ADMIN;
use abi::consts::clone::CLONE_NEWIPC;
use abi::consts::fd::AT_FDCWD;
use abi::consts::ipc::IPC_INFO;
use abi::consts::open::O_WRONLY;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Ipc, Lasting, Moment, Namespaces, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// A text that is another one after each start of the machine (proc_sys_kernel(5)).
pub(crate) const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// The namespace of whoever asks.
pub(crate) const NAMESPACE: &str = "/proc/self/ns/ipc";
/// How many bytes may wait in a new message queue.
pub(crate) const LIMIT: &str = "/proc/sys/kernel/msgmnb";

/// A limit, by its name in /proc/sys/kernel.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Limit {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its text.
    #[n(1)]
    pub text: String,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct IpcNamespace {
    /// Which start of the machine it was.
    #[n(0)]
    pub boot: String,
    /// Its link in /proc.
    #[n(1)]
    pub namespace: String,
    /// Whether it was the tree's own.
    #[n(2)]
    pub own: bool,
    /// Its limits, where they are not the usual ones.
    #[n(3)]
    pub limits: Vec<Limit>,
}

impl Resource for IpcNamespace {
    const NAME: &'static str = "ipcns";
}

/// The limits of the namespace in which the process lives, with those of a new one (ipc/shm.c, ipc/sem.c, ipc/msg.c, and the
/// headers of their names).
fn limits(from: &Capturing<'_>) -> Result<Vec<Limit>, Trouble> {
    let info = Arg::Int(IPC_INFO);
    let asked = [
        Call::new(Sys::Shmctl, [Arg::Int(0), info.clone(), Arg::Out(72)]),
        Call::new(Sys::Semctl, [Arg::Int(0), Arg::Int(0), info.clone(), Arg::Out(40)]),
        Call::new(Sys::Msgctl, [Arg::Int(0), info, Arg::Out(32)]),
    ];
    let answers = all(from, &asked)?;
    let long = |n: usize| {
        written(&answers[0]).chunks_exact(8).nth(n).map_or(0, |b| u64::from_ne_bytes(b.try_into().expect("8")))
    };
    let int = |of: usize, n: usize| {
        written(&answers[of]).chunks_exact(4).nth(n).map_or(0, |b| i32::from_ne_bytes(b.try_into().expect("4")))
    };
    const MOST: u64 = u64::MAX - (1 << 24);
    let here = [
        ("shmmax", long(0).to_string(), MOST.to_string()),
        ("shmmni", long(2).to_string(), "4096".into()),
        ("shmall", long(4).to_string(), MOST.to_string()),
        ("sem", [4, 2, 5, 1].map(|n| int(1, n).to_string()).join("\t"), "32000\t1024000000\t500\t32000".into()),
        ("msgmax", int(2, 2).to_string(), "8192".into()),
        ("msgmnb", int(2, 3).to_string(), "16384".into()),
        ("msgmni", int(2, 4).to_string(), "32000".into()),
    ];
    let changed = here.into_iter().filter(|(_, now, usual)| now != usual);
    Ok(changed.map(|(name, text, _)| Limit { name: name.into(), text }).collect())
}

impl CaptureTree for IpcNamespace {
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble> {
        let own = lives_apart(from);
        if !own && from.files.ipc.kept == 0 {
            return Ok(None);
        }
        if own {
            if let Some(pid) = from.probe.neighbours("ns/ipc")?.first() {
                let who = format!("process {pid}, outside of the tree, lives in its IPC namespace");
                // Where nobody has made anything yet, they have nothing in common.
                if from.files.ipc.kept > 0 || !from.files.ipc.queues.is_empty() {
                    let why = format!("{who}, which is not that of the freezer, and there are objects in it");
                    let remedy = "end that one, or run cryopid inside that namespace (nsenter)";
                    return Err(Refusal::new("ns/ipc", why, remedy).into());
                }
                let nothing = "in which there is nothing of System V, nor a queue that the tree has open";
                from.note("ns/ipc", format!("{who}, {nothing}: thawed, each has one of its own"));
            }
            let lost = "POSIX message queues in it that no process has open, fs.mqueue and kernel.shm_rmid_forced are not kept";
            from.note("ns/ipc", format!("it has an IPC namespace of its own: {lost}"));
        }
        Ok(Some(IpcNamespace {
            boot: from.probe.host_text(BOOT)?.trim().to_owned(),
            namespace: String::from_utf8_lossy(&from.probe.link("ns/ipc")?).into_owned(),
            own,
            limits: if own { limits(from)? } else { Vec::new() },
        }))
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if to.ipc_lasting() == Lasting::Host {
            return;
        }
        if to.namespaces == Namespaces::Same && !to.to.host.has(CAP_SYS_ADMIN) {
            let why = "it had an IPC namespace of its own, which only root may make in place";
            to.to.refuse(Refusal::new("ns/ipc", why, "use --pids new, or thaw it as root"));
            return;
        }
        let op = Op::Call { sys: Sys::Unshare, args: vec![CLONE_NEWIPC.into()], expect: Expect::Success };
        // Whoever needs the first thread needs it in its namespace.
        let born = vec![Fact::Born(at.tid)];
        to.to.step(Moment::Birth, Self::NAME, Actor::Thread(at.tid), op, born.clone(), born);
        if !self.limits.is_empty() && matches!(to.namespaces, Namespaces::UserPid { .. }) {
            let names: Vec<&str> = self.limits.iter().map(|l| l.name.as_str()).collect();
            to.to.note(format!("limits of its IPC namespace are the usual ones now: {}", names.join(", ")));
            return;
        }
        self.limits.iter().for_each(|limit| limit.plan(at, to));
    }
}

impl Limit {
    /// The thread writes it before any object is made.
    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let descr = to.to.scratch();
        let path = Value::Bytes(format!("/proc/sys/kernel/{}\0", self.name).into_bytes());
        let args = vec![AT_FDCWD.into(), path, u64::from(O_WRONLY).into(), 0.into()];
        let open = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
        let len = self.text.len() as u64;
        let args = vec![Value::Descr(descr), Value::Bytes(self.text.clone().into_bytes()), len.into()];
        let write = Op::Call { sys: Sys::Write, args, expect: Expect::Success };
        let (born, made) = (vec![Fact::Born(at.tid)], vec![Fact::Made(descr)]);
        to.to.step(Moment::Make, IpcNamespace::NAME, Actor::Thread(at.tid), open, born, made.clone());
        to.to.step(Moment::Make, IpcNamespace::NAME, Actor::Thread(at.tid), write, made, vec![Fact::Whole(at.tid)]);
    }
}

/// What the plan must know of the host where there is anything of it: paths of texts and links in /proc.
pub(crate) fn questions() -> Vec<String> {
    let tables = [Ipc::Shm, Ipc::Sem, Ipc::Msg].map(table);
    let texts = [BOOT, NAMESPACE, LIMIT].into_iter().chain(mqueue::LIMITS).map(String::from);
    texts.chain(tables).collect()
}
