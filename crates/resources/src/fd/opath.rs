//! O_PATH: a description that only names a place in the file system.
//!
//! - seen as    `flags` with O_PATH in fdinfo, whatever stands there
//! - captured   path, flags, type of what stands there; whether it was removed; where a removed link leads
//! - recreated  `openat` with the same flags, of the file of a socket of the tree when that has its name; a removed directory
//!   or symbolic link is made and removed once more
//! - refused    what never had a place (a pipe); a place that is gone and was neither; one that is not on the host (see `place`)

use super::place::{self, Removed, Wanted};
use super::procfile;
use super::{Kind, S_IFDIR, Seen};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::consts::fd::AT_FDCWD;
use abi::consts::file_type::S_IFLNK;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct OPath {
    /// The place.
    #[n(0)]
    pub path: Text,
    /// Status flags (open(2)): O_PATH, and O_DIRECTORY or O_NOFOLLOW.
    #[n(1)]
    pub flags: u32,
    /// The type bits of what stood there (inode(7)); 0: not known.
    #[n(2)]
    #[cbor(default)]
    #[serde(default)]
    pub file_type: u32,
    /// What is left of a directory that was removed.
    #[n(3)]
    #[cbor(default)]
    #[serde(default)]
    pub removed: Option<Removed>,
    /// See [`place::is_in_proc`].
    #[n(4)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_proc: bool,
}

impl Resource for OPath {
    const NAME: &'static str = "opath";
}

/// Where a symbolic link leads that the program has open itself (readlinkat(2)).
fn target(seen: &Seen, from: &Capturing<'_>) -> Result<Text, Trouble> {
    const LONGEST: usize = 4096;
    let args = [Arg::Int(seen.fd.into()), Arg::Bytes(vec![0]), Arg::Out(LONGEST), Arg::Int(LONGEST as u64)];
    let answer = from.probe.calls(&[Call::new(Sys::Readlinkat, args)])?.remove(0);
    match answer.result {
        Ok(len) => Ok(Text(answer.out[0][..LONGEST.min(len as usize)].to_vec())),
        Err(e) => Err(seen.refuse(format!("it does not tell where it leads ({e})"), "let the program close it").into()),
    }
}

/// What must stand there.
fn wanted(kind: u32, flags: u32) -> Wanted<'static> {
    Wanted { what: "a place that it has open (O_PATH)", kind, access: 0, flags }
}

impl Kind for OPath {
    fn knows(seen: &Seen) -> bool {
        seen.names_only()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let (path, mut removed) = place::see(&seen.name(), from)?;
        let file_type = seen.file_type();
        if let Some(removed) = removed.as_mut().filter(|_| file_type == S_IFLNK) {
            removed.target = Some(target(seen, from)?);
        }
        let is_kept = file_type == S_IFDIR || file_type == S_IFLNK;
        let why = match removed {
            _ if !path.0.starts_with(b"/") => Some("it names (O_PATH) what is in no file system"),
            Some(_) if !is_kept => Some("what it names is gone"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(seen.refuse(why, "let the program close it").into());
        }
        let in_proc = removed.is_none() && place::is_in_proc(seen, from)?;
        if removed.is_none() && !in_proc {
            wanted(file_type, seen.flags()).note(seen.title(), &path, from);
        }
        Ok(OPath { path, flags: seen.flags(), file_type, removed, in_proc })
    }

    fn is_in_proc(&self) -> bool {
        self.in_proc
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        if let Some(removed) = &self.removed {
            return place::make_removed(Self::NAME, descr, &self.path, removed, self.flags, to);
        }
        let args = vec![AT_FDCWD.into(), Value::Bytes(self.path.c_string()), u64::from(self.flags).into(), 0.into()];
        if let Some(socket) = to.model.bound_at(&self.path) {
            let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
            let needs = vec![Fact::Bound(Descr(socket))];
            return to.to.step(Moment::Make, Self::NAME, Actor::Store, op, needs, vec![Fact::Made(descr)]);
        }
        wanted(self.file_type, self.flags).look(&self.path, to);
        if !self.in_proc || !procfile::opens_each(Self::NAME, descr, (&self.path, self.flags, 0), to) {
            to.to.make(Self::NAME, descr, Sys::Openat, args);
        }
    }

    fn places(&self) -> Vec<&Text> {
        vec![&self.path]
    }
}
