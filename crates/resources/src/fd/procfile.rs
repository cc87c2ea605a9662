//! Procfile: a file or directory of /proc that tells of a process (proc(5)).
//!
//! - seen as    a path, `/proc/N` and what is below
//! - captured   the path, flags, position
//! - recreated  `openat` of the path by every process that has it, once all are born: until then nothing is there; `lseek` when
//!   the memory that it may tell of is as it was
//!   That of a process that is no more: of one that is made for that, and ended. Other files and directories of /proc are of other kinds;
//!   in a new pid namespace there is another /proc, and they are opened likewise
//! - refused    that of a process outside of the tree, but the first one of its pid namespace; of another pid namespace, or hidden
//!   below a mount
//! - not kept   that relatives have one description in common: told; text that was read in part and is another one by now; the
//!   id of a process that is no more: its name tells of another one

use super::file::split;
use super::{Kind, Seen, common_refusals, flags};
use crate::{At, Capturing, Description, Model, Planning, Resource, Text, Trouble};
use abi::consts::fd::AT_FDCWD;
use abi::consts::file_type::S_IFLNK;
use abi::{Arg, Call, Errno, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Namespaces, OfEnded, Op, Pid, Refusal, Tid, Value};
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
    /// Whether the process is no more.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
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

/// Whether the process of which a path tells is no more, though its id may be another's by now. `inode` is that of what was there.
pub(crate) fn is_of_ended(shown: &[u8], inode: u64, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let Some(id) = process(shown).filter(|id| !from.probe.members().contains(id)) else { return Ok(false) };
    let asked = from.probe.calls(&[Call::new(Sys::Kill, [Arg::Int(id.into()), Arg::Int(0)])])?;
    let other = || Ok::<_, Trouble>(from.probe.stat_path(shown)?.is_some_and(|there| there.ino != inode));
    Ok(asked[0].result == Err(Errno::ESRCH) || other()?)
}

/// What a path below /proc/PID names: the rest of it.
pub(crate) fn below(path: &[u8]) -> Vec<u8> {
    let rest = path.strip_prefix(b"/proc/").unwrap_or_default();
    rest.iter().position(|b| *b == b'/').map_or(Vec::new(), |at| rest[at..].to_vec())
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
        let ended = is_of_ended(&seen.link.0, seen.stat.ino, from)?;
        if !ended {
            refusals.extend(refusal(seen, from)?);
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let path = if ended { split(&seen.link.0).0 } else { seen.link.clone() };
        Ok(Procfile { path, flags: seen.flags(), position: seen.info.pos, ended })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        if self.ended {
            return of_ended(descr, to);
        }
        let number = self.number(to.model).filter(|_| is_told_of(self, to.model));
        let placed = number.map(|(pid, number)| Fact::Placed(Pid(pid), number));
        let told = process(&self.path.0).filter(|id| to.model.process(*id).is_some_and(|p| !p.process.is_zombie()));
        let loaded = told.map(|id| Fact::Loaded(to.space(Pid(id))));
        let opened = Opened { by: Self::NAME, path: &self.path, flags: self.flags, position: self.position };
        opened.by_each(descr, (placed, loaded), to);
    }

    fn object(&self) -> Option<u64> {
        process(&self.path.0).filter(|_| self.ended).map(u64::from)
    }

    fn is_of_each(&self) -> bool {
        true
    }
}

/// All that are of one process.
fn of_ended(descr: Descr, to: &mut Planning<'_>) {
    let file = |(id, d): (Descr, &Description)| match d {
        Description::Procfile(p) => Some((id, OfEnded::File(below(&p.path.0)), p.flags)),
        _ => None,
    };
    let opened = to.ends(descr).into_iter().filter_map(file).collect();
    super::make_of_ended(Procfile::NAME, opened, to);
}

/// Whether what it tells of does not wait for such a file itself.
fn is_told_of(file: &Procfile, model: &Model) -> bool {
    numbers(model).any(|(it, _)| it == file)
}

/// The files that tell of one descriptor, each with the process whose table that is in, and its number; but for those that tell of
/// another such file.
pub(crate) fn numbers(model: &Model) -> impl Iterator<Item = (&Procfile, (u32, u32))> {
    model.descriptions.values().filter_map(|d| of_number(d, model)).filter(|(_, (pid, number))| {
        let fds = model.process(*pid).map_or(&[][..], |p| &p.process.fds);
        let leads_to = fds.iter().find(|fd| fd.number == *number).map(|fd| &model.descriptions[&fd.description]);
        leads_to.is_some_and(|d| of_number(d, model).is_none())
    })
}

fn of_number<'m>(d: &'m Description, model: &Model) -> Option<(&'m Procfile, (u32, u32))> {
    match d {
        Description::Procfile(p) => Some((p, p.number(model)?)),
        _ => None,
    }
}

impl Procfile {
    /// Of `/proc/PID/fdinfo/N`, and of what else is named after a descriptor: the process in whose table it is, and the number.
    fn number(&self, model: &Model) -> Option<(u32, u32)> {
        let rest = below(&self.path.0);
        let name = rest.strip_prefix(b"/fdinfo/").or(rest.strip_prefix(b"/fd/"))?;
        let number = std::str::from_utf8(name).ok()?.parse().ok().filter(|_| !self.ended)?;
        let p = Some(&model.process(process(&self.path.0)?)?.process).filter(|p| !p.is_zombie())?;
        Some((p.shares.files.unwrap_or(p.pid), number))
    }
}

/// What is opened by each process that has it: as it stands in the /proc of the tree.
struct Opened<'a> {
    by: &'static str,
    path: &'a Text,
    flags: u32,
    position: u64,
}

impl Opened<'_> {
    /// What must be true before it is there, and before what it tells is as it was.
    fn by_each(&self, descr: Descr, (placed, loaded): (Option<Fact>, Option<Fact>), to: &mut Planning<'_>) {
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
            let needs = [Fact::Peopled].into_iter().chain(placed.clone()).collect();
            to.to.step(Moment::Place, self.by, actor, op, needs, makes);
            if self.position != 0 {
                // The kernel makes the text once more up to there (fs/seq_file.c, `seq_lseek`).
                let needs = [Fact::Made(descr)].into_iter().chain(loaded.clone()).collect();
                let args = vec![Value::Descr(descr), self.position.into(), 0.into()];
                let told = Expect::OrTold("a file of /proc is read from its beginning");
                let op = Op::Call { sys: Sys::Lseek, args, expect: told };
                to.to.step(Moment::Arm, self.by, actor, op, needs, vec![Fact::Files(pid)]);
            }
        }
    }
}

/// In a new pid namespace there is another /proc, which we ourselves do not see: what is in it ([`super::place::is_in_proc`]) is opened by
/// each process that has it, and not by us. Gives whether that is so. What waits in a socket is sent by us, and so is what is in our /proc.
pub(super) fn opens_each(
    by: &'static str,
    descr: Descr,
    (path, flags, position): (&Text, u32, u64),
    to: &mut Planning<'_>,
) -> bool {
    if to.namespaces == Namespaces::Same || to.model.is_in_flight(descr.0) {
        return false;
    }
    Opened { by, path, flags, position }.by_each(descr, (None, None), to);
    true
}
