//! Procfile: a file or directory of /proc that tells of a process (proc(5)).
//!
//! - seen as    a path, `/proc/N` and what is below
//! - captured   the path, flags, position
//! - recreated  `openat` of the path by every process that has it, once all are born: until then nothing is there; `lseek` when
//!   the memory that it may tell of is as it was
//! - refused    that of a process outside of the tree, but the first one of its pid namespace; of one that has ended; of
//!   another pid namespace, or hidden below a mount
//! - not kept   that relatives have one description in common: told; text that was read in part and is another one by now

use super::{Kind, Seen, common_refusals, flags};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use abi::consts::file_type::S_IFLNK;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Procfile {
    /// Its path, with the id of the process in its own pid namespace.
    #[n(0)]
    pub path: Text,
    /// Access mode and status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// Where reading goes on.
    #[n(2)]
    pub position: u64,
}

impl Resource for Procfile {
    const NAME: &'static str = "procfile";
}

/// The process of which a path tells: `/proc/123/…`.
pub(crate) fn process(path: &[u8]) -> Option<u32> {
    let first = path.strip_prefix(b"/proc/")?.split(|b| *b == b'/').next()?;
    // One that has ended: `/proc/123 (deleted)`.
    let id = first.split(|b| *b == b' ').next()?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// Why what leads to a process could not lead there again.
pub(crate) fn strange(path: &[u8], from: &Capturing<'_>) -> Option<String> {
    let id = process(path)?;
    let known = from.probe.members().contains(&id);
    (!known).then(|| format!("/proc/{id} tells of a process outside of the tree, or of one that has ended"))
}

/// Whether the path leads there, for the program itself. What only names a link would be followed.
fn stands(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    if seen.file_type() == S_IFLNK {
        return Ok(true);
    }
    let there = from.probe.stat_path(&seen.link.0)?;
    Ok(there.is_some_and(|there| (there.dev, there.ino) == (seen.stat.dev, seen.stat.ino)))
}

fn refusal(seen: &Seen, from: &Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    // There is a first process wherever the tree is thawed.
    if process(&seen.link.0) != Some(1)
        && let Some(why) = strange(&seen.link.0, from)
    {
        return Ok(Some(seen.refuse(why, "let the program close it")));
    }
    let hidden = || seen.refuse("its path leads somewhere else", "let the program close it");
    Ok((!stands(seen, from)?).then(hidden))
}

impl Kind for Procfile {
    fn knows(seen: &Seen) -> bool {
        process(&seen.link.0).is_some()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        refusals.extend(refusal(seen, from)?);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        Ok(Procfile { path: seen.link.clone(), flags: seen.flags(), position: seen.info.pos })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let owners = to.owners(descr);
        if owners.len() > 1 {
            to.to.note(format!("relatives that had {} in common have it each by itself now", self.path));
        }
        for pid in owners {
            let actor = Actor::Thread(Tid(pid.0));
            let path = Value::Bytes(self.path.c_string());
            let args = vec![AT_FDCWD.into(), path, u64::from(self.flags | flags::NOCTTY).into(), 0.into()];
            let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
            let makes = vec![Fact::Made(descr), Fact::Files(pid)];
            to.to.step(Moment::Place, Self::NAME, actor, op, vec![Fact::Peopled], makes);
            if self.position != 0 {
                self.seek(descr, pid, to);
            }
        }
    }
}

impl Procfile {
    /// The kernel makes the text once more up to there (fs/seq_file.c, `seq_lseek`).
    fn seek(&self, descr: Descr, pid: Pid, to: &mut Planning<'_>) {
        let told = process(&self.path.0).filter(|id| to.model.process(*id).is_some_and(|p| !p.process.is_zombie()));
        let loaded = told.map(|id| Fact::Loaded(to.space(Pid(id))));
        let needs = [Fact::Made(descr)].into_iter().chain(loaded).collect();
        let args = vec![Value::Descr(descr), self.position.into(), 0.into()];
        let op =
            Op::Call { sys: Sys::Lseek, args, expect: Expect::OrTold("a file of /proc is read from its beginning") };
        to.to.step(Moment::Arm, Self::NAME, Actor::Thread(Tid(pid.0)), op, needs, vec![Fact::Files(pid)]);
    }
}
