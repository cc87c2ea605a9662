//! Directory: a description of a directory, with its position.
//!
//! - seen as    a path, `st_mode` S_IFDIR
//! - captured   path, flags, position (the cookie that the file system gave); whether it was removed
//! - recreated  `openat`, `lseek`; a removed one is made and removed once more
//! - refused    one that is not on the host (see `place`)
//! - not kept   the place in one on an overlay, exactly: told; that relatives have one of /proc in common, in a new pid namespace (see `procfile`): told

use super::place::{self, Removed, Wanted};
use super::procfile;
use super::{Kind, S_IFDIR, Seen, common_refusals, flags, note_shared_position, seek};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use abi::proc;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Directory {
    /// Its path.
    #[n(0)]
    pub path: Text,
    /// Status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// Where reading goes on.
    #[n(2)]
    pub position: u64,
    /// What is left of it, if it was removed.
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

impl Resource for Directory {
    const NAME: &'static str = "directory";
}

fn is_on_overlay(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let mounts = proc::mountinfo(&from.probe.text_around("mountinfo")?)?;
    Ok(mounts.iter().any(|mount| mount.id == seen.info.mnt_id && mount.fs_type == b"overlay"))
}

impl Kind for Directory {
    fn knows(seen: &Seen) -> bool {
        seen.file_type() == S_IFDIR && !seen.names_only()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        note_shared_position(seen, from)?;
        let (path, removed) = place::see(&seen.name(), from)?;
        if removed.is_none() {
            place::note_closed(format!("fd {}", seen.fd), &path, place::READ, from);
        }
        // Of a removed directory nothing is read, wherever one stands in it.
        let position = if removed.is_some() { 0 } else { seen.info.pos };
        if position != 0 && is_on_overlay(seen, from)? {
            let why =
                "it is read in part, and an overlay counts names: from here on some may be left out, or come again";
            from.note(seen.title(), why);
        }
        let in_proc = removed.is_none() && place::is_in_proc(seen, from)?;
        Ok(Directory { path, flags: seen.flags(), position, removed, in_proc })
    }

    fn is_in_proc(&self) -> bool {
        self.in_proc
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        if let Some(removed) = &self.removed {
            return place::make_removed(Self::NAME, descr, &self.path, removed, self.flags, to);
        }
        let wanted = Wanted { what: "an open directory", kind: S_IFDIR, access: place::READ, flags: self.flags };
        wanted.look(&self.path, to);
        if self.in_proc && procfile::opens_each(Self::NAME, descr, (&self.path, self.flags, self.position), to) {
            return;
        }
        let path = Value::Bytes(self.path.c_string());
        let args = vec![AT_FDCWD.into(), path, u64::from(self.flags | flags::NOCTTY).into(), 0.into()];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
        seek(Self::NAME, descr, self.position, to);
    }

    fn places(&self) -> Vec<&Text> {
        vec![&self.path]
    }
}
