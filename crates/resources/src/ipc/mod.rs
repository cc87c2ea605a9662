//! System V IPC (svipc(7)): segments of shared memory, sets of semaphores, message queues.
//!
//! An object belongs to an IPC namespace and outlives whoever uses it: it stays when a freeze ends the tree. So a thaw finds
//! it there, or not, and this is what it does:
//!
//! - *In place*, the tree comes back into the namespace of whoever thaws. An object that is still there, since the same start of
//!   the machine and with the same id, key and size, is used as it is now: what others did to it is not undone, and the
//!   user is told. One that is gone is made again, with its id and contents. Where another object has the id or the key, the
//!   thaw is refused.
//! - *In a pid namespace of its own*, the tree gets an IPC namespace of its own, too, in which all of its objects are made
//!   again: a copy of a program never works on what its original works on.
//! - A tree that lived in an IPC namespace of its own gets one again, with all that was in it.
//!
//! All is asked of the kernel by the program itself, so in its own namespace, by calls that change nothing.

pub mod msg;
pub mod sem;
pub mod shm;
pub mod undo;

use crate::task::written;
use crate::{At, Capturing, Planning, Trouble};
use abi::consts::ipc::{
    IPC_CREAT, IPC_EXCL, IPC_SET, MSG_INFO, MSG_STAT_ANY, SEM_INFO, SEM_STAT_ANY, SHM_INFO, SHM_STAT_ANY,
};
use abi::layout::IpcPerm;
use abi::{Answer, Arg, Call, Errno, Fault, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Ipc, Lasting, Moment, Namespaces, Object, Op, Pid, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// kill(2): only asks whether there is such a process.
const SIGNAL_NONE: u64 = 0;
/// Of a mode: the rights.
const RIGHTS: u32 = 0o777;
/// An id is the place in the table of the namespace, and a count above these bits (ipc/util.h, IPCMNI_SHIFT).
const PLACE: u32 = 0x7fff;

/// What the processes of a tree have of System V IPC, as far as it was seen.
#[derive(Default, Debug)]
pub struct Used {
    /// Segments that areas show, and how many areas.
    pub segments: BTreeMap<u32, u64>,
    /// Sets of which some process has changes to be taken back.
    pub sets: BTreeSet<u32>,
    /// POSIX queues that were seen, by their numbers.
    pub queues: Vec<u64>,
    /// How many objects are kept.
    pub kept: usize,
    /// All that there is.
    listed: BTreeMap<Ipc, Vec<Listed>>,
}

/// Key, owner and rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Perm {
    /// 0: none (IPC_PRIVATE).
    #[n(0)]
    pub key: i32,
    /// The user that owns it.
    #[n(1)]
    pub uid: u32,
    /// The group.
    #[n(2)]
    pub gid: u32,
    /// Read and write for user, group and others.
    #[n(3)]
    pub mode: u32,
}

impl From<IpcPerm> for Perm {
    fn from(p: IpcPerm) -> Perm {
        Perm { key: p.key, uid: p.uid, gid: p.gid, mode: p.mode & RIGHTS }
    }
}

/// `shmctl`, `semctl` or `msgctl` with a structure.
fn control(kind: Ipc, at: u32, command: u64, structure: Arg) -> Call {
    let (at, command) = (Arg::Int(at.into()), Arg::Int(command));
    match kind {
        Ipc::Shm => Call::new(Sys::Shmctl, [at, command, structure]),
        Ipc::Sem => Call::new(Sys::Semctl, [at, Arg::Int(0), command, structure]),
        Ipc::Msg => Call::new(Sys::Msgctl, [at, command, structure]),
    }
}

/// Commands that tell of the table of the namespace, and of what is at one place of it.
fn questions(kind: Ipc) -> (u64, u64) {
    match kind {
        Ipc::Shm => (SHM_INFO, SHM_STAT_ANY),
        Ipc::Sem => (SEM_INFO, SEM_STAT_ANY),
        Ipc::Msg => (MSG_INFO, MSG_STAT_ANY),
    }
}

/// An id, and what IPC_STAT tells of the object.
type Listed = (u32, Vec<u8>);

/// Every object of a kind in the namespace of the tree. All kinds are asked for together, once: it stands still.
fn objects(kind: Ipc, from: &mut Capturing<'_>) -> Result<Vec<Listed>, Trouble> {
    if from.files.ipc.listed.is_empty() {
        from.files.ipc.listed = list(from)?;
    }
    Ok(from.files.ipc.listed[&kind].clone())
}

/// Looked for by place, as ipcs(1) does: no right is needed for that, unlike for the object itself (ipc/shm.c, SHM_STAT_ANY).
fn list(from: &Capturing<'_>) -> Result<BTreeMap<Ipc, Vec<Listed>>, Trouble> {
    const KINDS: [Ipc; 3] = [Ipc::Shm, Ipc::Sem, Ipc::Msg];
    const LARGEST: usize = 128;
    let look = |kind: Ipc, place: u64| control(kind, place as u32, questions(kind).1, Arg::Out(LARGEST));
    let heads = KINDS.map(|kind| [control(kind, 0, questions(kind).0, Arg::Out(LARGEST)), look(kind, 0)]);
    let heads = from.probe.calls(heads.as_flattened())?;
    let mut all = BTreeMap::new();
    for (kind, answers) in KINDS.into_iter().zip(heads.chunks(2)) {
        let mut found = found_at(kind, &answers[1..])?;
        match answers[0].result {
            Ok(0) => {}
            Ok(highest) => {
                let further = from.probe.calls(&(1..=highest).map(|place| look(kind, place)).collect::<Vec<_>>())?;
                found.extend(found_at(kind, &further)?);
            }
            // A kernel without any of it.
            Err(Errno::ENOSYS) => {}
            Err(errno) => return Err(Fault::new("a look at IPC", kind.name(), errno).into()),
        }
        all.insert(kind, found);
    }
    Ok(all)
}

fn found_at(kind: Ipc, answers: &[Answer]) -> Result<Vec<Listed>, Trouble> {
    let mut all = Vec::new();
    for answer in answers {
        match answer.result {
            Ok(id) => all.push((id as u32, written(answer).to_vec())),
            // Nothing is at this place.
            Err(Errno::EINVAL | Errno::EIDRM | Errno::ENOSYS) => {}
            Err(errno) => return Err(Fault::new("a look at IPC", kind.name(), errno).into()),
        }
    }
    Ok(all)
}

/// A structure that the kernel wrote: always whole.
fn whole<T>(structure: Option<T>) -> T {
    structure.expect("there was room for more than the structure")
}

/// Whether the process lives in another IPC namespace than whoever asks.
pub(crate) fn lives_apart(from: &Capturing<'_>) -> bool {
    from.probe.link("ns/ipc").ok() != from.probe.own_link("ns/ipc").ok()
}

/// What becomes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// It goes with the tree.
    Kept,
    /// It may be the tree's, and nobody's who lives: it stays where it is, and the user is told.
    Left,
    /// It is somebody else's.
    Others,
}

/// Whose an object is, as far as the ids of its last users tell. Of the tree are: what a process of it used last; of a
/// namespace of its own, all; and what its user made and nobody has used yet. What such a user made and somebody used last who
/// has ended may be that of another tree that is frozen: to keep it with this one would make it twice. Nor does anybody know who made
/// what nobody has used, where others of the IPC namespace live in another pid namespace than the tree.
fn claim(perm: &IpcPerm, (users, is_used): (&[i32], bool), from: &Capturing<'_>) -> Result<Claim, Trouble> {
    let members = from.probe.members();
    // 0: nobody, or nobody in the pid namespace of the process.
    let users: BTreeSet<i32> = abi::gathered(users.iter().copied().filter(|pid| *pid > 0));
    if lives_apart(from) || users.iter().any(|pid| members.contains(&(*pid as u32))) {
        return Ok(Claim::Kept);
    }
    if perm.cuid != effective_user(from)? || strangers(&users, from)?.is_some() {
        return Ok(Claim::Others);
    }
    let is_alone = from.probe.link("ns/pid").ok() == from.probe.own_link("ns/pid").ok();
    Ok(match users.is_empty() {
        // If it was used, then by somebody who has no id where we are, or whose end alone has shown in it (ipc/sem.c, exit_sem).
        true if !is_used && is_alone => Claim::Kept,
        _ => Claim::Left,
    })
}

/// Tells of what is left.
fn note_left(kind: Ipc, left: &[u32], from: &mut Capturing<'_>) {
    if !left.is_empty() {
        let ids: Vec<String> = left.iter().map(u32::to_string).collect();
        let why = format!(
            "{} of its user: who used them last has ended, or is not known; they stay here and are not in the image",
            ids.join(", ")
        );
        from.note(names(kind), why);
    }
}

/// The first of these processes that lives and is not of the tree.
fn strangers(users: &BTreeSet<i32>, from: &Capturing<'_>) -> Result<Option<i32>, Trouble> {
    let members = from.probe.members();
    let others: Vec<i32> = users.iter().copied().filter(|pid| *pid > 0 && !members.contains(&(*pid as u32))).collect();
    let ask = |pid: &i32| Call::new(Sys::Kill, [Arg::Int(*pid as u64), Arg::Int(SIGNAL_NONE)]);
    let answers = from.probe.calls(&others.iter().map(ask).collect::<Vec<_>>())?;
    let alive = |answer: &Answer| answer.result != Err(Errno::ESRCH);
    Ok(others.into_iter().zip(&answers).find(|(_, answer)| alive(answer)).map(|(pid, _)| pid))
}

fn names(kind: Ipc) -> &'static str {
    match kind {
        Ipc::Shm => "shared memory segments",
        Ipc::Sem => "semaphore sets",
        Ipc::Msg => "message queues",
    }
}

fn told(object: Object) -> String {
    format!("{} {}", names(object.kind).trim_end_matches('s'), object.id)
}

/// The command that removes it.
fn removal(object: Object) -> String {
    let letter = match object.kind {
        Ipc::Shm => 'm',
        Ipc::Sem => 's',
        Ipc::Msg => 'q',
    };
    format!("ipcrm -{letter} {}", object.id)
}

/// What whoever freezes and the program itself may not look at. If it is another user's, in a namespace that others use, and the program
/// does not have it now (`has`), then the last who used it had an id that a member of the tree has today.
fn unreadable<T>(object: Object, perm: &IpcPerm, has: bool, from: &Capturing<'_>) -> Result<Option<T>, Trouble> {
    let user = effective_user(from)?;
    if !has && !lives_apart(from) && perm.uid != user && perm.cuid != user {
        return Ok(None);
    }
    let remedy = "give it other rights, or freeze as root";
    Err(Refusal::new(told(object), "its rights let nobody read it", remedy).into())
}

fn effective_user(from: &Capturing<'_>) -> Result<u32, Trouble> {
    Ok(proc::status(&from.probe.text("status")?)?.uid[1])
}

/// That others will not see any more what the tree does with it, unless it is found again.
fn note_shared(object: Object, others: &str, from: &mut Capturing<'_>) {
    let why = format!("{others} outside of the tree too: they have it together again only in this IPC namespace");
    from.note(told(object), why);
}

/// What is at the place of an object on the host.
enum Here {
    /// Nothing.
    Nothing,
    /// The very object.
    Same,
    /// Something else.
    Other(String),
}

/// Whether the object is still there. An id is given to one object only, until 65536 were made at its place, or the machine
/// starts anew.
fn look(object: Object, key: i32, size: Option<u64>, to: &Planning<'_>) -> Here {
    let text = to.to.host.told.get(&table(object.kind)).map_or("", String::as_str);
    let rows = proc::sysvipc(text.as_bytes()).unwrap_or_default();
    let at_place = rows.iter().find(|row| row.id & PLACE == object.id & PLACE);
    let with_key = rows.iter().find(|row| key != 0 && row.key == key);
    match at_place {
        Some(row) if row.id == object.id && row.key == key && row.size == size && to.same_ipc() => Here::Same,
        Some(row) if row.id == object.id => Here::Other("its id is that of another one here".into()),
        Some(row) => Here::Other(format!("its place is taken by the one with id {} here", row.id)),
        None => with_key.map_or(Here::Nothing, |row| {
            Here::Other(format!("its key {key:#x} is that of the one with id {} here", row.id))
        }),
    }
}

/// Where the kernel tells of all objects of a kind.
pub(crate) fn table(kind: Ipc) -> String {
    format!("/proc/sysvipc/{}", kind.name())
}

impl Planning<'_> {
    /// In which IPC namespace the objects of the tree are, and so for how long.
    pub(crate) fn ipc_lasting(&self) -> Lasting {
        let apart = self.model.ipc_namespace().is_some_and(|ipc| ipc.own);
        if apart || self.namespaces != Namespaces::Same { Lasting::Tree } else { Lasting::Host }
    }

    /// Whether the namespace of whoever thaws is the one in which the tree was frozen, and the machine has not started since.
    pub(crate) fn same_ipc(&self) -> bool {
        let told = &self.to.host.told;
        self.model.ipc_namespace().is_some_and(|ipc| {
            !ipc.own
                && told.get(crate::ns::ipc::BOOT) == Some(&ipc.boot)
                && told.get(crate::ns::ipc::NAMESPACE) == Some(&ipc.namespace)
        })
    }

    /// The fact that an object is there, if it has to be made first.
    pub(crate) fn existing(&self, object: Object) -> Option<Fact> {
        (!self.found.contains(&object)).then_some(Fact::Exists(object))
    }

    /// Makes an object, with `more` flags, or finds it. Says `false` when it has not to be filled: it is there, or cannot be.
    fn make_object(
        &mut self,
        by: &'static str,
        object: Object,
        (perm, size, more): (&Perm, Option<u64>, u64),
        at: At,
    ) -> bool {
        let lasting = self.ipc_lasting();
        match (look(object, perm.key, size, self), lasting) {
            (Here::Same, Lasting::Host) => {
                self.to.note(format!("{} is still here: the program goes on with it as it is now", told(object)));
                self.found.insert(object);
                return false;
            }
            (Here::Same, Lasting::Tree) => {
                let copied = "is copied into an IPC namespace of the program's own; the one here stays";
                self.to.note(format!("{} {copied} ({})", told(object), removal(object)));
            }
            (Here::Other(why), Lasting::Host) => {
                let remedy = "use --pids new, which gives the tree an IPC namespace of its own";
                self.to.refuse(Refusal::new(told(object), why, remedy));
                return false;
            }
            _ => {}
        }
        let key = u64::from(perm.key as u32);
        let rights = IPC_CREAT | IPC_EXCL | 0o600 | more;
        let args = size.map_or_else(|| vec![key, rights], |size| vec![key, size, rights]);
        let op = Op::Object { object, args, lasting };
        let makes = vec![Fact::Exists(object), Fact::Holds(object)];
        self.to.step(Moment::Make, by, Actor::Thread(at.tid), op, vec![Fact::Born(at.tid)], makes);
        true
    }

    /// A call that puts something into an object that was just made.
    fn fill_object(&mut self, by: &'static str, (object, at): (Object, At), call: Call) {
        let needs = vec![Fact::Exists(object)];
        self.object_call(by, at, call, needs, vec![Fact::Holds(object)]);
    }

    /// A call for an object that has its contents, and that every process has attached which is to.
    fn finish_object(&mut self, by: &'static str, (object, at): (Object, At), call: Call) {
        let mapped = self.model.own_spaces().map(|(pid, _)| Fact::Mapped(Pid(pid)));
        let needs = mapped.chain([Fact::Holds(object)]).collect();
        self.object_call(by, at, call, needs, vec![Fact::Whole(at.tid)]);
    }

    /// By the first thread of the tree, while it still has all rights.
    fn object_call(&mut self, by: &'static str, at: At, call: Call, needs: Vec<Fact>, makes: Vec<Fact>) {
        let value = |arg: Arg| match arg {
            Arg::Int(n) => Value::Int(n),
            Arg::Bytes(bytes) => Value::Bytes(bytes),
            _ => unreachable!("nothing is asked of an object that was just made"),
        };
        let args = call.args.into_iter().map(value).collect();
        let op = Op::Call { sys: call.sys, args, expect: Expect::Success };
        self.to.step(Moment::Fill, by, Actor::Thread(at.tid), op, needs, makes);
    }

    /// The owner that an object can have here: in a new user namespace there is one user only.
    fn owner(&mut self, object: Object, perm: &Perm) -> (u32, u32) {
        let Namespaces::UserPid { uid, gid } = self.namespaces else { return (perm.uid, perm.gid) };
        if (perm.uid, perm.gid) != (uid, gid) {
            let of = format!("user {} and group {}", perm.uid, perm.gid);
            self.to.note(format!("{} was of {of}; it is yours now", told(object)));
        }
        (uid, gid)
    }
}

/// Sets owner and rights.
fn set(object: Object, structure: &[u8]) -> Call {
    control(object.kind, object.id, IPC_SET, Arg::Bytes(structure.to_vec()))
}

/// The permissions of an object for IPC_SET.
fn ipc_perm((uid, gid): (u32, u32), mode: u32) -> IpcPerm {
    IpcPerm { uid, gid, mode, ..IpcPerm::default() }
}
