//! System V shared memory: segments, with the memory in them.
//!
//! - seen as    areas `/SYSV…` whose inode number is the id; the table of the namespace
//! - captured   key, owner, rights, size, marks; the contents, by an attachment of the freezer's own that only reads, so all of a
//!   segment is there, whatever of it the areas show. Segments of a tree are those that it has attached, or that a process of it
//!   made or used last; of a namespace of its own, all
//! - recreated  `shmget` with the same id; contents; `shmat` where areas show it (`mm::segment`); owner, rights, and the
//!   marks for locking and removal last
//! - refused    one whose rights let nobody read it; where its id or key is that of another one; one of huge pages
//!   (SHM_HUGETLB), where too few are free (`mm::huge`), or whoever thaws may not make any
//! - not kept   who made it and attached it last, and when; the key that one had which is marked for removal, and which only
//!   its name in /proc/PID/maps still tells; SHM_NORESERVE

use super::{Claim, Perm, claim, ipc_perm, note_left, note_shared, objects, set, told, unreadable, whole};
use crate::mm::huge;
use crate::{At, CaptureTree, Capturing, Planning, Resource, Trouble};
use abi::consts::ipc::{IPC_RMID, SHM_DEST, SHM_LOCK, SHM_LOCKED};
use abi::consts::mmap::PAGE;
use abi::layout::Shmid;
use abi::{Arg, Errno};
use image::Extent;
use minicbor::{Decode, Encode};
use plan::{Actor, Fact, Ipc, Moment, Object, Op, Refusal};
use serde::{Deserialize, Serialize};

/// When a segment goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
pub enum Stays {
    /// When it is removed.
    #[n(0)]
    Always,
    /// With its last attachment: it was removed already.
    #[n(1)]
    Attached,
}

/// A segment.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Segment {
    /// Its id.
    #[n(0)]
    pub id: u32,
    /// Key, owner and rights.
    #[n(1)]
    pub perm: Perm,
    /// In bytes.
    #[n(2)]
    pub size: u64,
    /// When it goes.
    #[n(3)]
    pub stays: Stays,
    /// Whether it is locked into memory (SHM_LOCK).
    #[n(4)]
    pub locked: bool,
    /// Its contents, by offset.
    #[n(5)]
    pub contents: Vec<Extent>,
    /// In bytes, the size of the huge pages that it is made of (SHM_HUGETLB); 0: it is made of none.
    #[n(6)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "huge::is_none")]
    pub page: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct SysvShm {
    /// By their places in the table of the namespace.
    #[n(0)]
    pub segments: Vec<Segment>,
}

impl Resource for SysvShm {
    const NAME: &'static str = "sysv-shm";
}

impl Segment {
    fn object(&self) -> Object {
        Object { kind: Ipc::Shm, id: self.id }
    }

    /// Its length in memory: whole pages.
    pub fn len(&self) -> u64 {
        self.size.next_multiple_of(self.page.max(PAGE))
    }

    /// Segments are never empty.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What the tree has attached is its own, as well as what others have.
fn claim_of(id: u32, seen: &Shmid, from: &Capturing<'_>) -> Result<Claim, Trouble> {
    if from.files.ipc.segments.contains_key(&id) {
        return Ok(Claim::Kept);
    }
    Ok(match claim(&seen.perm, (&[seen.cpid, seen.lpid], true), from)? {
        Claim::Left if seen.attached > 0 => Claim::Others,
        claim => claim,
    })
}

fn segment(id: u32, seen: &Shmid, from: &mut Capturing<'_>) -> Result<Option<Segment>, Trouble> {
    let object = Object { kind: Ipc::Shm, id };
    let ours = from.files.ipc.segments.get(&id).copied().unwrap_or(0);
    let saved = match from.probe.save_segment(id, seen.size) {
        Err(fault) if fault.errno == Errno::EACCES => return unreadable(object, &seen.perm, ours > 0, from),
        saved => saved?,
    };
    if seen.attached > ours {
        note_shared(object, "it is attached by processes", from);
    }
    Ok(Some(Segment {
        id,
        perm: seen.perm.into(),
        size: seen.size,
        stays: if seen.perm.mode & SHM_DEST != 0 { Stays::Attached } else { Stays::Always },
        locked: seen.perm.mode & SHM_LOCKED != 0,
        contents: saved.contents,
        page: saved.page,
    }))
}

impl CaptureTree for SysvShm {
    fn capture(from: &mut Capturing<'_>) -> Result<Option<Self>, Trouble> {
        let (mut segments, mut left, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let mut unseen = from.files.ipc.segments.clone();
        for (id, bytes) in objects(Ipc::Shm, from)? {
            let seen = whole(Shmid::from_bytes(&bytes));
            unseen.remove(&id);
            match claim_of(id, &seen, from)? {
                Claim::Kept => {}
                Claim::Left => {
                    left.push(id);
                    continue;
                }
                Claim::Others => continue,
            }
            match segment(id, &seen, from) {
                Ok(segment) => segments.extend(segment),
                Err(Trouble::Refused(more)) => refusals.extend(more),
                Err(fault) => return Err(fault),
            }
        }
        refusals.extend(unseen.keys().map(|id| {
            let why = "it is attached and belongs to another IPC namespace";
            Refusal::new(told(Object { kind: Ipc::Shm, id: *id }), why, "this is not supported yet")
        }));
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        note_left(Ipc::Shm, &left, from);
        from.files.ipc.kept += segments.len();
        Ok((!segments.is_empty()).then_some(SysvShm { segments }))
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        self.segments.iter().for_each(|segment| segment.plan(at, to));
    }
}

impl Segment {
    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let object = self.object();
        if !to.make_object(SysvShm::NAME, object, (&self.perm, Some(self.size), huge::segment_flags(self.page)), at) {
            return;
        }
        if self.page != 0 && !huge::may_make_segment(self.size, to) {
            let why = "it is made of huge pages, and whoever thaws may make no segment of those here";
            to.to.refuse(Refusal::new(told(object), why, "thaw it as root, or set vm.hugetlb_shm_group"));
        }
        if !self.contents.is_empty() {
            let op = Op::Segment { id: self.id, extents: self.contents.clone() };
            let (exists, holds) = (vec![Fact::Exists(object)], vec![Fact::Holds(object)]);
            to.to.step(Moment::Fill, SysvShm::NAME, Actor::Thread(at.tid), op, exists, holds);
        }
        let perm = ipc_perm(to.owner(object, &self.perm), self.perm.mode);
        let mut finish = |call| to.finish_object(SysvShm::NAME, (object, at), call);
        finish(set(object, &Shmid { perm, ..Shmid::default() }.to_bytes()));
        if self.locked {
            finish(super::control(Ipc::Shm, self.id, SHM_LOCK, Arg::Int(0)));
        }
        if self.stays == Stays::Attached {
            finish(super::control(Ipc::Shm, self.id, IPC_RMID, Arg::Int(0)));
        }
    }
}
