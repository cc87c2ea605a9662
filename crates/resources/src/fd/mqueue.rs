//! POSIX message queues (mq_overview(7)), with the messages that wait in them.
//!
//! - seen as    `/NAME`, `st_mode` S_IFREG, and `mq_getsetattr` answers
//! - captured   name, owner, rights, limits, flags; every message with its priority, in order (`rotation.rs`); who is told of the
//!   first message, by what the queue shows when it is read
//! - recreated  `mq_open`, `mq_timedsend` of each message, owner and rights; further descriptions by its link; `mq_notify` by the
//!   process that is told. Without a name: with one that is removed at once. One that is still there, since the same start of
//!   the machine, is used as it is now. Who waits in mq_receive(3) or mq_send(3) goes on waiting there
//! - refused    one that a process outside of the tree has too; more messages than go through an envoy at once; a full one, where
//!   whoever freezes cannot see who else waits for it; messages in one which the program may not open for reading and
//!   writing; who is told by a thread (SIGEV_THREAD), or by a signal whose value matters; where its name is taken
//! - not kept   the value that comes with the signal, where the handler takes none; a queue that nobody of the tree has open
//!
//! What becomes of a queue where it is still there, or not, is told in `ipc`: a queue that is open is treated as an object of System V IPC is.

use super::file::may_give;
use super::rotation::{self, Waiting, refused};
use super::{Kind, S_IFREG, Seen, common_refusals, flags};
use crate::task::{all, written};
use crate::tree::process::Fd;
use crate::{At, Capturing, Description, Model, Planning, ProcessModel, Resource, Text, Trouble};
use abi::consts::cap::CAP_SYS_RESOURCE;
use abi::consts::fd::AT_FDCWD;
use abi::consts::rlimit::RLIMIT_MSGQUEUE;
use abi::consts::sigaction::{SA_SIGINFO, SIG_IGN, SIGEV_NONE, SIGEV_SIGNAL};
use abi::layout::Sigevent;
use abi::signal::KernelSigaction;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, HostEffect, Lasting, Moment, Namespaces, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

/// Limits of a new namespace, and those that nobody can go beyond (linux/ipc_namespace.h, DFLT_MSG and HARD_MSGMAX).
const USUAL: (u64, u64) = (10, 8192);
pub(crate) const MOST: (u64, u64) = (65536, 16 << 20);
/// Where the kernel tells the limits of the namespace of whoever asks.
pub(crate) const LIMITS: [&str; 2] = ["/proc/sys/fs/mqueue/msg_max", "/proc/sys/fs/mqueue/msgsize_max"];
const O_CREAT_EXCL: u32 = 0o300;

/// Who is told when a message arrives in the empty queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Notice {
    /// The process.
    #[n(0)]
    pub pid: u32,
    /// By which signal; 0: by none, but nobody else can be told.
    #[n(1)]
    pub signal: u32,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Mqueue {
    /// The number of the queue: descriptions with the same one lead to the same queue.
    #[n(0)]
    pub object: u64,
    /// Its name without the slash, if it had one.
    #[n(1)]
    pub name: Option<Text>,
    /// Access mode and status flags (open(2)).
    #[n(2)]
    pub flags: u32,
    /// Read and write for user, group and others.
    #[n(3)]
    pub mode: u32,
    /// The user and the group that own it.
    #[n(4)]
    pub owner: (u32, u32),
    /// How many messages may wait, and how long each may be.
    #[n(5)]
    pub limits: (u64, u64),
    /// What waits, the first one first. One of the descriptions of a queue has it.
    #[n(6)]
    pub messages: Option<Vec<Waiting>>,
    /// Who is told; it stands where the messages do.
    #[n(7)]
    pub notice: Option<Notice>,
}

impl Resource for Mqueue {
    const NAME: &'static str = "mqueue";
}

/// The call that tells them: struct mq_attr.
pub(super) fn asks_attributes(seen: &Seen) -> Call {
    const MQ_ATTR: usize = 64;
    Call::new(Sys::MqGetsetattr, [Arg::Int(seen.fd.into()), Arg::Int(0), Arg::Out(MQ_ATTR)])
}

/// Flags, limits, and how many messages wait (mq_getattr(3)).
fn attributes(seen: &Seen, from: &Capturing<'_>) -> Result<Option<[u64; 4]>, Trouble> {
    let answer = from.probe.calls(&[asks_attributes(seen)])?.remove(0);
    let long =
        |n: usize| written(&answer).get(8 * n..8 * n + 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().expect("8")));
    Ok(answer.result.is_ok().then(|| [0, 1, 2, 3].map(long)))
}

impl Kind for Mqueue {
    const FLIES: bool = false;

    /// As far as can be seen. The size tells nothing (ipc/mqueue.c, FILENT_SIZE).
    fn knows(seen: &Seen) -> bool {
        const FILENT_SIZE: i64 = 80;
        seen.file_type() == S_IFREG && seen.stat.size == FILENT_SIZE && !seen.names_only()
    }

    fn is(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
        Ok(Self::knows(seen) && attributes(seen, from)?.is_some())
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let stat = &seen.stat;
        let mut refusals = common_refusals(seen);
        let others = from.probe.other_users(stat.dev, stat.ino, &seen.link.0)?;
        if let Some(other) = others.first() {
            let why = format!("process {}, outside of the tree, has this message queue too", other.pid);
            refusals.push(seen.refuse(why, String::from("end that process first, or freeze it with the tree")));
        }
        let [_, most, longest, waiting] = attributes(seen, from)?.expect("it is one");
        let is_first = !from.files.ipc.queues.contains(&stat.ino);
        from.files.ipc.queues.push(stat.ino);
        let notice = match if is_first { notice(seen, from) } else { Ok(None) } {
            Ok(notice) => notice,
            Err(Trouble::Refused(more)) => {
                refusals.extend(more);
                None
            }
            Err(other) => return Err(other),
        };
        if notice.is_some() && waiting > 0 {
            let why = "messages wait in it, and a process is to be told of the next one: to read them would do that";
            refusals.push(seen.refuse(why, "let the program receive them first"));
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        from.files.ipc.kept += usize::from(is_first);
        let messages = is_first.then(|| rotation::messages(seen, (most, longest), waiting, from)).transpose()?;
        let name = seen.link.0.rsplit(|b| *b == b'/').next().unwrap_or_default();
        Ok(Mqueue {
            object: stat.ino,
            name: (stat.nlink > 0).then(|| name.into()),
            flags: seen.flags() & !flags::LARGEFILE,
            mode: stat.mode & 0o7777,
            owner: (stat.uid, stat.gid),
            limits: (most, longest),
            messages,
            notice,
        })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let (mut ends, mut queue) = (Vec::new(), self);
        let model = to.model;
        for (id, _) in to.ends(descr) {
            let Description::Mqueue(end) = &model.descriptions[&id.0] else { continue };
            ends.push((id, end.flags));
            queue = if end.messages.is_some() { end } else { queue };
        }
        if !ends.is_empty() {
            queue.plan_queue(&ends, to);
        }
    }

    fn object(&self) -> Option<u64> {
        Some(self.object)
    }
}

/// Who is to be told (mq_notify(3)): `QSIZE:0 NOTIFY:0 SIGNO:10 NOTIFY_PID:4711` (ipc/mqueue.c, mqueue_read_file).
fn notice(seen: &Seen, from: &mut Capturing<'_>) -> Result<Option<Notice>, Trouble> {
    let Ok(text) = from.probe.text(&seen.name()) else {
        return Err(refused(seen, "you may not read this message queue".into(), "freeze it as root"));
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let field =
        |name: &str| text.split_ascii_whitespace().find_map(|w| w.strip_prefix(name)?.parse().ok()).unwrap_or(0);
    let (how, signal, pid) = (field("NOTIFY:"), field("SIGNO:"), field("NOTIFY_PID:"));
    if (how, signal, pid) == (0, 0, 0) {
        return Ok(None);
    }
    let Some(inner) = from.probe.inner_tid(pid) else {
        let why = format!("process {pid}, outside of the tree, is to be told of its messages");
        return Err(refused(seen, why, "end that process first"));
    };
    match how as i32 {
        SIGEV_NONE => {}
        SIGEV_SIGNAL if pid == seen.pid && takes_no_value(signal, from)? => {
            let why =
                format!("the value that comes with signal {signal}, which its handler does not take, is 0 from now on");
            from.note(seen.title(), why);
        }
        _ => {
            let why = "a thread (SIGEV_THREAD), or a signal with a value that the kernel tells nobody, is to tell of its messages";
            let remedy = "let the program take that back (mq_notify) before it is frozen";
            return Err(refused(seen, why.into(), remedy));
        }
    }
    Ok(Some(Notice { pid: inner, signal }))
}

/// Whether the process has a handler for the signal that does not hear of a value (sigaction(2), SA_SIGINFO).
fn takes_no_value(signal: u32, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let args = [Arg::Int(signal.into()), Arg::Int(0), Arg::Out(KernelSigaction::SIZE), Arg::Int(8)];
    let answers = all(from, &[Call::new(Sys::RtSigaction, args)])?;
    let action = KernelSigaction::from_bytes(written(&answers[0])).unwrap_or_default();
    Ok(action.handler > SIG_IGN && action.flags & SA_SIGINFO == 0)
}

impl Mqueue {
    fn told(&self) -> String {
        self.name.as_ref().map_or_else(|| "message queue".into(), |name| format!("message queue /{name}"))
    }

    fn plan_queue(&self, ends: &[(Descr, u32)], to: &mut Planning<'_>) {
        let lasting = to.ipc_lasting();
        let here = self.name.as_ref().and_then(|name| to.to.host.told.get(&format!("/{name}")));
        let same = here.is_some_and(|number| *number == self.object.to_string()) && to.same_ipc();
        match (here, lasting) {
            (Some(_), Lasting::Host) if same => {
                to.to.note(format!("{} is still here: the program goes on with it as it is now", self.told()));
                return self.plan_found(ends, to);
            }
            (Some(_), Lasting::Host) => {
                let remedy = "remove it, or use --pids new, which gives the tree an IPC namespace of its own";
                return to.to.refuse(Refusal::new(self.told(), "its name is that of another one here", remedy));
            }
            (Some(_), Lasting::Tree) if same => {
                let copied = "is copied into an IPC namespace of the program's own; the one here stays";
                to.to.note(format!("{} {copied}", self.told()));
            }
            _ => {}
        }
        if let Some(refusal) = self.too_large(to) {
            return to.to.refuse(refusal);
        }
        let made = to.to.scratch();
        let by = match lasting {
            Lasting::Host => {
                let name = self.name.as_ref().map(|name| name.0.clone());
                let effect = HostEffect::Mqueue { descr: made, name, limits: self.limits };
                to.to.step(Moment::Make, Self::NAME, Actor::Thaw, Op::Host(effect), vec![], vec![Fact::Made(made)]);
                Actor::Store
            }
            Lasting::Tree => self.plan_apart(made, to),
        };
        self.fill(by, made, to);
        for (descr, flags) in ends {
            let link = format!("/proc/self/fd/{}\0", to.number(made)).into_bytes();
            let args = vec![AT_FDCWD.into(), Value::Bytes(link), u64::from(*flags).into(), 0.into()];
            let op = Op::Make { sys: Sys::Openat, args, descrs: vec![*descr] };
            to.to.step(Moment::Make, Self::NAME, by, op, vec![Fact::Made(made)], vec![Fact::Made(*descr)]);
        }
        self.plan_looks(by, made, ends, to);
        self.plan_notice(to);
    }

    /// It is there: each description opens it once more.
    fn plan_found(&self, ends: &[(Descr, u32)], to: &mut Planning<'_>) {
        let name = self.name.as_ref().expect("it was found by its name").c_string();
        for (descr, flags) in ends {
            let args = vec![Value::Bytes(name.clone()), u64::from(*flags).into(), 0.into(), 0.into()];
            to.to.make(Self::NAME, *descr, Sys::MqOpen, args);
        }
        self.plan_notice(to);
    }

    /// By the first thread, in the namespace of the tree, before anybody is born who is to inherit it.
    fn plan_apart(&self, made: Descr, to: &mut Planning<'_>) -> Actor {
        let root = Tid(to.model.processes[0].process.pid);
        let by = Actor::Thread(root);
        let name =
            self.name.as_ref().map_or_else(|| format!(".cryopid-{}\0", self.object).into_bytes(), Text::c_string);
        let open_flags = u64::from(O_CREAT_EXCL | flags::RDWR | flags::NONBLOCK | flags::CLOEXEC);
        // struct mq_attr: flags, and the limits.
        let attr = [0, self.limits.0, self.limits.1, 0, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        let args = vec![Value::Bytes(name.clone()), open_flags.into(), 0o600.into(), Value::Bytes(attr)];
        let op = Op::Make { sys: Sys::MqOpen, args, descrs: vec![made] };
        to.to.step(Moment::Make, Self::NAME, by, op, vec![Fact::Born(root)], vec![Fact::Made(made)]);
        if self.name.is_none() {
            let op = Op::Call { sys: Sys::MqUnlink, args: vec![Value::Bytes(name)], expect: Expect::Success };
            to.to.step(Moment::Make, Self::NAME, by, op, vec![Fact::Made(made)], vec![Fact::Whole(root)]);
        }
        by
    }

    fn fill(&self, by: Actor, made: Descr, to: &mut Planning<'_>) {
        for message in self.messages.iter().flatten() {
            let text = message.text.0.clone();
            let len = text.len() as u64;
            let args =
                vec![Value::Descr(made), Value::Bytes(text), len.into(), u64::from(message.priority).into(), 0.into()];
            let op = Op::Call { sys: Sys::MqTimedsend, args, expect: Expect::Success };
            to.to.step(Moment::Make, Self::NAME, by, op, vec![Fact::Made(made)], vec![Fact::Filled(made)]);
        }
    }

    /// Owner and rights, once all descriptions are there: the rights may let nobody open it.
    fn plan_looks(&self, by: Actor, made: Descr, ends: &[(Descr, u32)], to: &mut Planning<'_>) {
        let owner = self.may_have_owner(to);
        if !owner {
            let (uid, gid) = self.owner;
            to.to.note(format!("{} was of user {uid} and group {gid}; it is yours now", self.told()));
        }
        let needs: Vec<Fact> = ends.iter().map(|(d, _)| Fact::Made(*d)).chain([Fact::Made(made)]).collect();
        let makes = if let Actor::Thread(tid) = by { vec![Fact::Whole(tid)] } else { vec![] };
        let mut call = |sys, args: Vec<Value>| {
            let args = [vec![Value::Descr(made)], args].concat();
            let op = Op::Call { sys, args, expect: Expect::Success };
            to.to.step(Moment::Make, Self::NAME, by, op, needs.clone(), makes.clone());
        };
        if owner {
            call(Sys::Fchown, vec![u64::from(self.owner.0).into(), u64::from(self.owner.1).into()]);
        }
        call(Sys::Fchmod, vec![u64::from(self.mode).into()]);
    }

    /// In a new user namespace there is one user only.
    fn may_have_owner(&self, to: &Planning<'_>) -> bool {
        match to.namespaces {
            Namespaces::UserPid { uid, gid } => (uid, gid) == self.owner,
            _ => may_give(self.owner, to),
        }
    }

    /// The end of any description of a queue in the process that is told takes that back (ipc/mqueue.c, mqueue_flush_file), so
    /// this is last: when nothing more is closed in it.
    fn plan_notice(&self, to: &mut Planning<'_>) {
        let Some(notice) = self.notice else { return };
        let (owner, table, number) = self.told_by(notice, to.model).expect("who is told has the queue");
        let tid = Tid(owner.threads.last().expect("it lives").tid);
        let notify = if notice.signal == 0 { SIGEV_NONE } else { SIGEV_SIGNAL };
        let event = Sigevent { notify, signo: notice.signal as i32, ..Sigevent::default() };
        let args = vec![u64::from(number).into(), Value::Bytes(event.to_bytes().to_vec())];
        let op = Op::Call { sys: Sys::MqNotify, args, expect: Expect::Success };
        let needs = vec![
            Fact::Whole(tid),
            Fact::Whole(Tid(notice.pid)),
            Fact::Whole(Tid(table.process.pid)),
            Fact::Files(Pid(table.process.pid)),
        ];
        to.to.step(Moment::Arm, Self::NAME, Actor::Thread(tid), op, needs, vec![]);
    }

    /// The process that is told, the one whose table of descriptors it has, and the number of the queue there.
    fn told_by<'m>(&self, notice: Notice, model: &'m Model) -> Option<(&'m ProcessModel, &'m ProcessModel, u32)> {
        let owner = model.process(notice.pid)?;
        let table = owner.process.shares.files.and_then(|files| model.process(files)).unwrap_or(owner);
        let leads_here = |fd: &&Fd| {
            let description = model.descriptions.get(&fd.description);
            matches!(description, Some(Description::Mqueue(q)) if q.object == self.object)
        };
        Some((owner, table, table.process.fds.iter().find(leads_here)?.number))
    }

    /// ipc/mqueue.c: mq_attr_ok, and mqueue_get_inode, which counts what all queues of a user may take.
    fn too_large(&self, to: &Planning<'_>) -> Option<Refusal> {
        let here = |n: usize| to.to.host.told.get(LIMITS[n]).and_then(|text| text.trim().parse().ok());
        let most = match to.ipc_lasting() {
            _ if to.to.host.has_in_first(CAP_SYS_RESOURCE) => MOST,
            Lasting::Host => (here(0).unwrap_or(USUAL.0), here(1).unwrap_or(USUAL.1)),
            Lasting::Tree => USUAL,
        };
        if self.limits.0 > most.0 || self.limits.1 > most.1 {
            let why = format!(
                "{} messages of {} bytes are more than may wait here without root",
                self.limits.0, self.limits.1
            );
            return Some(Refusal::new(self.told(), why, "thaw it as root"));
        }
        let needed: u64 = to.model.queues().filter(|q| q.messages.is_some()).map(Mqueue::bytes).sum();
        let may = to.to.host.limits.get(RLIMIT_MSGQUEUE as usize).map_or(u64::MAX, |limit| limit.0);
        (needed > may).then(|| {
            let why = format!("the program's queues take {needed} bytes, and {may} are allowed here");
            Refusal::new("message queues", why, "raise the limit: ulimit -q")
        })
    }

    /// What the kernel counts (struct msg_msg, struct posix_msg_tree_node).
    fn bytes(&self) -> u64 {
        const MSG_MSG: u64 = 48;
        const NODE: u64 = 48;
        self.limits.0 * (self.limits.1 + MSG_MSG + NODE)
    }

    /// Why the kernel cannot have had it, if it cannot.
    pub(crate) fn fault(&self, model: &Model) -> Option<String> {
        let within = |n: u64, most: u64| (1..=most).contains(&n);
        let name =
            self.name.as_ref().is_none_or(|n| within(n.0.len() as u64, 255) && !n.0.iter().any(|b| b"/\0".contains(b)));
        let fits = |m: &Waiting| m.text.0.len() as u64 <= self.limits.1 && m.priority < rotation::PRIORITIES;
        let messages = self.messages.iter().flatten();
        let sound = name && within(self.limits.0, MOST.0) && within(self.limits.1, MOST.1);
        let sound = sound && messages.clone().count() as u64 <= self.limits.0 && messages.clone().all(fits);
        let is_told = |notice: Notice| {
            let owner = self.told_by(notice, model).map(|(owner, ..)| owner);
            owner.is_some_and(|owner| !owner.process.is_zombie() && notice.signal <= 64)
        };
        let told = self.notice.is_none_or(is_told);
        (!sound || !told).then(|| format!("{} cannot have been so", self.told()))
    }
}
