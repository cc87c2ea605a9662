//! System V semaphores: sets, with their values.
//!
//! - seen as    nothing in /proc/PID; the table of the namespace
//! - captured   key, owner, rights, and the value of each semaphore. What a process has to take back at its end (SEM_UNDO) is
//!   its own: `ipc::undo`
//! - recreated  `semget` with the same id, `semctl(SETALL)`, owner and rights. Who waits in semop(2) goes on waiting there
//! - refused    one that the program itself may not read; where its id or key is that of another one
//! - not kept   which process changed a semaphore last (GETPID): it is the first one of the tree; and when
//!
//! Which sets belong to a tree in a namespace that it shares with others: see [`super::claim`], and those of which one of its
//! processes has changes to take back.

use super::{Claim, Perm, claim, ipc_perm, note_left, note_shared, objects, set, strangers, undo, unreadable, whole};
use crate::task::written;
use crate::{At, CaptureTree, Capturing, Planning, Resource, Trouble};
use abi::consts::ipc::{GETALL, GETPID, SETALL};
use abi::layout::Semid;
use abi::{Answer, Arg, Call, Errno, Fault, Sys};
use minicbor::{Decode, Encode};
use plan::{Fact, Ipc, Object};
use serde::{Deserialize, Serialize};

/// A set.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Set {
    /// Its id.
    #[n(0)]
    pub id: u32,
    /// Key, owner and rights.
    #[n(1)]
    pub perm: Perm,
    /// The value of each semaphore.
    #[n(2)]
    pub values: Vec<u16>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct SysvSem {
    /// By their places in the table of the namespace.
    #[n(0)]
    pub sets: Vec<Set>,
}

impl Resource for SysvSem {
    const NAME: &'static str = "sysv-sem";
}

/// Every set of the namespace.
pub(super) fn sets(from: &mut Capturing<'_>) -> Result<Vec<(u32, Semid)>, Trouble> {
    Ok(objects(Ipc::Sem, from)?.into_iter().map(|(id, bytes)| (id, whole(Semid::from_bytes(&bytes)))).collect())
}

/// The values of sets; an error where the process may not read one, or where it is gone.
pub(super) fn values(sets: &[(u32, Semid)], from: &Capturing<'_>) -> Result<Vec<Result<Vec<u16>, Errno>>, Trouble> {
    let ask = |(id, seen): &(u32, Semid)| {
        let args = [Arg::Int((*id).into()), Arg::Int(0), Arg::Int(GETALL), Arg::Out(2 * seen.count as usize)];
        Call::new(Sys::Semctl, args)
    };
    let answers = from.probe.calls(&sets.iter().map(ask).collect::<Vec<_>>())?;
    let value = |b: &[u8]| u16::from_ne_bytes([b[0], b[1]]);
    let read = |((id, _), answer): (&(u32, Semid), &Answer)| match answer.result {
        Ok(_) => Ok(Ok(written(answer).chunks_exact(2).map(value).collect())),
        Err(errno @ (Errno::EACCES | Errno::EIDRM | Errno::EINVAL)) => Ok(Err(errno)),
        Err(errno) => Err(Fault::new("semctl(GETALL)", id, errno).into()),
    };
    sets.iter().zip(&answers).map(read).collect()
}

/// Who changed each semaphore last.
fn users(id: u32, count: u64, from: &Capturing<'_>) -> Result<Vec<i32>, Trouble> {
    let ask = |n: u64| Call::new(Sys::Semctl, [id.into(), n, GETPID].map(Arg::Int));
    let answers = from.probe.calls(&(0..count).map(ask).collect::<Vec<_>>())?;
    Ok(answers.iter().filter_map(|a| a.result.ok()).map(|pid| pid as i32).collect())
}

/// Nothing where somebody has removed it meanwhile.
fn set_of_tree(id: u32, seen: &Semid, users: &[i32], from: &mut Capturing<'_>) -> Result<Option<Set>, Trouble> {
    let object = Object { kind: Ipc::Sem, id };
    let values = match values(&[(id, *seen)], from)?.remove(0) {
        Err(Errno::EACCES) => {
            return unreadable(object, &seen.perm, from.files.ipc.sets.contains(&id), from);
        }
        Err(_) => return Ok(None),
        Ok(values) => values,
    };
    if let Some(pid) = strangers(&abi::gathered(users.iter().copied()), from)? {
        note_shared(object, &format!("it is used by process {pid}"), from);
    }
    Ok(Some(Set { id, perm: seen.perm.into(), values }))
}

impl CaptureTree for SysvSem {
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble> {
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for (id, seen) in sets(from)? {
            let users = users(id, seen.count, from)?;
            match claim(&seen.perm, (&users, seen.used != 0), from)? {
                _ if from.files.ipc.sets.contains(&id) => {}
                Claim::Kept => {}
                Claim::Left => {
                    left.push(id);
                    continue;
                }
                Claim::Others => continue,
            }
            kept.extend(set_of_tree(id, &seen, &users, from)?);
        }
        note_left(Ipc::Sem, &left, from);
        from.files.ipc.kept += kept.len();
        Ok((!kept.is_empty()).then_some(SysvSem { sets: kept }))
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        self.sets.iter().for_each(|set| set.plan(at, to));
    }
}

impl Set {
    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let object = Object { kind: Ipc::Sem, id: self.id };
        if !to.make_object(SysvSem::NAME, object, (&self.perm, Some(self.values.len() as u64), 0), at) {
            if let Some(right) = undo::to_set_right(self, to) {
                let mut before = Fact::Born(at.tid);
                for call in undo::calls_for(self, &right) {
                    let done = Fact::Made(to.to.scratch());
                    let needs = vec![std::mem::replace(&mut before, done.clone())];
                    to.object_call(SysvSem::NAME, at, call, needs, vec![done]);
                }
                let look = Call::new(Sys::Semctl, [self.id.into(), 0, GETPID].map(Arg::Int));
                to.object_call(SysvSem::NAME, at, look, vec![before], vec![Fact::Holds(object)]);
            }
            return;
        }
        let values = self.values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let args = [Arg::Int(self.id.into()), Arg::Int(0), Arg::Int(SETALL), Arg::Bytes(values)];
        to.fill_object(SysvSem::NAME, (object, at), Call::new(Sys::Semctl, args));
        let perm = ipc_perm(to.owner(object, &self.perm), self.perm.mode);
        to.finish_object(SysvSem::NAME, (object, at), set(object, &Semid { perm, ..Semid::default() }.to_bytes()));
    }
}
