//! System V message queues, with the messages that wait in them.
//!
//! - seen as    nothing in /proc/PID; the table of the namespace
//! - captured   key, owner, rights, how many bytes may wait; every message with its type, in order, by `msgrcv(MSG_COPY)`, which
//!   takes nothing away
//! - recreated  `msgget` with the same id, `msgsnd` of each message, owner, rights and limit. Who waits in msgrcv(2) or
//!   msgsnd(2) goes on waiting there
//! - refused    one that the program itself may not read; one that holds more than an ordinary user may let wait, in an IPC
//!   namespace of its own; a message of more than 512 KiB; where its id or key is that of another one
//! - not kept   who sent and who received last, and when
//!
//! Which queues belong to a tree in a namespace that it shares with others: see [`super::claim`].

use super::{Claim, Perm, claim, ipc_perm, note_left, note_shared, objects, set, strangers, told, unreadable, whole};
use crate::task::written;
use crate::{At, Blob, CaptureTree, Capturing, Planning, Resource, Trouble};
use abi::consts::cap::CAP_SYS_RESOURCE;
use abi::consts::ipc::{IPC_NOWAIT, MSG_COPY};
use abi::layout::Msqid;
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use minicbor::{Decode, Encode};
use plan::{Ipc, Lasting, Object, Refusal};
use serde::{Deserialize, Serialize};

/// A message.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Message {
    /// Its type: above zero.
    #[n(0)]
    pub kind: i64,
    /// What it says.
    #[n(1)]
    pub text: Blob,
}

/// A queue.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Queue {
    /// Its id.
    #[n(0)]
    pub id: u32,
    /// Key, owner and rights.
    #[n(1)]
    pub perm: Perm,
    /// How many bytes may wait in it.
    #[n(2)]
    pub limit: u64,
    /// What waits, the first one first.
    #[n(3)]
    pub messages: Vec<Message>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct SysvMsg {
    /// By their places in the table of the namespace.
    #[n(0)]
    pub queues: Vec<Queue>,
}

impl Resource for SysvMsg {
    const NAME: &'static str = "sysv-msg";
}

/// The type of a message stands before it.
const TYPE: usize = 8;
/// The longest message that goes through an envoy.
const LONGEST: usize = 512 << 10;
/// The room for a message at the first try.
const SHORT: usize = 248;

/// msgrcv(2): with MSG_COPY the fourth argument is a place in the queue. One that is longer than the room gives E2BIG.
fn copy(id: u32, place: u64, room: usize) -> Call {
    let args = [
        Arg::Int(id.into()),
        Arg::Out(TYPE + room),
        Arg::Int(room as u64),
        Arg::Int(place),
        Arg::Int(MSG_COPY | IPC_NOWAIT),
    ];
    Call::new(Sys::Msgrcv, args)
}

fn message(object: Object, answer: &Answer) -> Result<Message, Trouble> {
    let refuse = |why, remedy| Err(Refusal::new(told(object), why, remedy).into());
    match answer.result {
        Ok(len) => {
            let (kind, text) = written(answer).split_at(TYPE);
            let kind = i64::from_ne_bytes(kind.try_into().expect("eight bytes"));
            Ok(Message { kind, text: Blob(text[..len as usize].to_vec()) })
        }
        Err(Errno::ENOSYS) => refuse(
            "this kernel cannot show what waits in it (CONFIG_CHECKPOINT_RESTORE)",
            "let the program empty it first",
        ),
        Err(Errno::E2BIG) => refuse("a message in it is longer than 512 KiB", "let the program receive it first"),
        Err(errno) => Err(Fault::new("msgrcv(MSG_COPY)", object.id, errno).into()),
    }
}

fn messages(object: Object, seen: &Msqid, from: &Capturing<'_>) -> Result<Option<Vec<Message>>, Trouble> {
    let room = |place: &u64| copy(object.id, *place, SHORT.min(seen.bytes as usize));
    let all: Vec<u64> = (0..seen.count).collect();
    let mut answers = from.probe.calls(&all.iter().map(room).collect::<Vec<_>>())?;
    for (place, answer) in all.iter().zip(&mut answers) {
        if answer.result == Err(Errno::E2BIG) {
            let again = copy(object.id, *place, LONGEST.min(seen.bytes as usize));
            *answer = from.probe.calls(&[again])?.remove(0);
        }
    }
    if answers.iter().any(|answer| answer.result == Err(Errno::EACCES)) {
        return unreadable(object, &seen.perm, false, from);
    }
    answers.iter().map(|answer| message(object, answer)).collect::<Result<_, _>>().map(Some)
}

impl CaptureTree for SysvMsg {
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble> {
        let (mut queues, mut left) = (Vec::new(), Vec::new());
        for (id, bytes) in objects(Ipc::Msg, from)? {
            let (object, seen) = (Object { kind: Ipc::Msg, id }, whole(Msqid::from_bytes(&bytes)));
            let users = [seen.lspid, seen.lrpid];
            match claim(&seen.perm, (&users, seen.sent | seen.received != 0), from)? {
                Claim::Kept => {}
                Claim::Left => {
                    left.push(id);
                    continue;
                }
                Claim::Others => continue,
            }
            let Some(messages) = messages(object, &seen, from)? else { continue };
            if let Some(pid) = strangers(&abi::gathered(users), from)? {
                note_shared(object, &format!("it is used by process {pid}"), from);
            }
            queues.push(Queue { id, perm: seen.perm.into(), limit: seen.limit, messages });
        }
        note_left(Ipc::Msg, &left, from);
        from.files.ipc.kept += queues.len();
        Ok((!queues.is_empty()).then_some(SysvMsg { queues }))
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        self.queues.iter().for_each(|queue| queue.plan(at, to));
    }
}

impl Queue {
    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let object = Object { kind: Ipc::Msg, id: self.id };
        if !to.make_object(SysvMsg::NAME, object, (&self.perm, None, 0), at) {
            return;
        }
        // A limit that was lowered later lets more wait than it allows.
        let bytes: u64 = self.messages.iter().map(|m| m.text.0.len() as u64).sum();
        let room = self.limit.max(bytes).max(self.messages.len() as u64);
        if room > usual_limit(to) && !may_exceed(to) {
            let why =
                format!("{room} bytes may wait in it, and only root may allow more than {} here", usual_limit(to));
            to.to.refuse(Refusal::new(told(object), why, "thaw it as root"));
            return;
        }
        let whose = (to.to.host.uid, to.to.host.gid);
        let as_set = |owner, mode, limit| Msqid { perm: ipc_perm(owner, mode), limit, ..Msqid::default() }.to_bytes();
        to.fill_object(SysvMsg::NAME, (object, at), set(object, &as_set(whose, 0o600, room)));
        for message in &self.messages {
            let text = [&message.kind.to_ne_bytes()[..], &message.text.0].concat();
            let len = message.text.0.len() as u64;
            let args = [Arg::Int(self.id.into()), Arg::Bytes(text), Arg::Int(len), Arg::Int(IPC_NOWAIT)];
            to.fill_object(SysvMsg::NAME, (object, at), Call::new(Sys::Msgsnd, args));
        }
        let owner = to.owner(object, &self.perm);
        to.finish_object(SysvMsg::NAME, (object, at), set(object, &as_set(owner, self.perm.mode, self.limit)));
    }
}

/// The limit of a new queue: in a new namespace that of the kernel (linux/msg.h, MSGMNB).
fn usual_limit(to: &Planning<'_>) -> u64 {
    const MSGMNB: u64 = 16384;
    let here = to.to.host.told.get(crate::ns::ipc::LIMIT).and_then(|text| text.trim().parse().ok());
    if to.ipc_lasting() == Lasting::Host { here.unwrap_or(MSGMNB) } else { MSGMNB }
}

/// ipc/msg.c, msgctl_down: CAP_SYS_RESOURCE in the first user namespace.
fn may_exceed(to: &Planning<'_>) -> bool {
    to.to.host.has_in_first(CAP_SYS_RESOURCE)
}
