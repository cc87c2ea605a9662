//! Character devices of memory: null, zero, full, random, urandom.
//!
//! - seen as    a path, `st_mode` S_IFCHR, major 1 (Documentation/admin-guide/devices.txt)
//! - captured   which, and flags
//! - recreated  `openat` of its usual name. One whose name is gone is made and removed once more, by who may make devices
//! - refused    every other device, by name; by the thaw, where another device has that name
//! - not kept   that it was opened by another name, or has other permissions there: told

use super::file::{Standing, split};
use super::place::{self, Removed, Wanted};
use super::{Kind, S_IFCHR, Seen, common_refusals, flags};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::cap::CAP_MKNOD;
use abi::consts::fd::AT_FDCWD;
use abi::layout::FileStat;
use abi::proc::makedev;
use minicbor::{Decode, Encode};
use plan::{Descr, Refusal, Value};
use serde::{Deserialize, Serialize};

/// The major number (Documentation/admin-guide/devices.txt).
const MEMORY: u32 = 1;
const DEVICES: [(u32, &str); 5] = [(3, "null"), (5, "zero"), (7, "full"), (8, "random"), (9, "urandom")];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Chardev {
    /// Its path.
    #[n(0)]
    pub path: Text,
    /// Access mode and status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// The name that it had, which is gone.
    #[n(2)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// What was left of that.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

impl Resource for Chardev {
    const NAME: &'static str = "chardev";
}

impl Kind for Chardev {
    fn knows(seen: &Seen) -> bool {
        let (major, minor) = (abi::proc::major(seen.stat.rdev), abi::proc::minor(seen.stat.rdev));
        seen.file_type() == S_IFCHR
            && !seen.names_only()
            && major == MEMORY
            && DEVICES.iter().any(|(number, _)| *number == minor)
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        // By the name that it has everywhere: the one that the program used may be gone.
        let minor = abi::proc::minor(seen.stat.rdev);
        let name = DEVICES.iter().find(|(number, _)| *number == minor).map_or("null", |(_, name)| *name);
        let path = Text(format!("/dev/{name}").into_bytes());
        let looks = |s: &FileStat| (s.mode, s.uid, s.gid);
        let usual = from.probe.stat_path(&path.0)?;
        let (mode, uid, gid) = looks(&seen.stat);
        let (name, standing) = split(&seen.link.0);
        let (mode_now, owner, device) = (seen.stat.mode, (uid, gid), Some(seen.stat.rdev));
        let removed =
            (standing == Standing::Gone).then_some(Removed { mode: mode_now, owner, number: 0, target: None, device });
        let mut lost = Vec::new();
        if seen.link != path {
            lost.push("its own name".to_owned());
        }
        if usual.is_some_and(|usual| looks(&usual) != looks(&seen.stat)) {
            lost.push(format!("mode {:04o} of user {uid} and group {gid}", mode & 0o7777));
        }
        if !lost.is_empty() {
            let whom = if removed.is_some() { "thawed by somebody who may not make devices" } else { "thawed" };
            let why = format!("{whom}, it is {path} as that is then, without {}", lost.join(", and "));
            from.note(seen.title(), why);
        }
        wanted(seen.flags()).note(seen.title(), &path, from);
        Ok(Chardev { path, flags: seen.flags(), name: removed.as_ref().map(|_| name), removed })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let makes = to.to.host.has_in_first(CAP_MKNOD);
        if let Some((name, removed)) = self.name.as_ref().zip(self.removed.as_ref()).filter(|_| makes) {
            return place::make_removed(Self::NAME, descr, name, removed, self.flags, to);
        }
        self.check(to);
        let args = vec![
            AT_FDCWD.into(),
            Value::Bytes(self.path.c_string()),
            u64::from(self.flags | flags::NOCTTY).into(),
            0.into(),
        ];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
    }

    fn places(&self) -> Vec<&Text> {
        [&self.path].into_iter().chain(&self.name).collect()
    }
}

/// What must stand there for one with these flags.
fn wanted(flags: u32) -> Wanted<'static> {
    Wanted { what: "a device", kind: S_IFCHR, access: place::access_of(flags), flags: 0 }
}

impl Chardev {
    /// What has its name must be that device.
    fn check(&self, to: &mut Planning<'_>) {
        let what = self.path.to_string();
        if to.to.refused(&what) {
            return;
        }
        wanted(self.flags).look(&self.path, to);
        let is_it = |(minor, name): &(u32, &str)| {
            let there = to.to.host.places.get(&self.path.0).map(|place| place.rdev);
            self.path.0.strip_prefix(b"/dev/") == Some(name.as_bytes()) && there == Some(makedev(MEMORY, *minor))
        };
        if !to.to.refused(&what) && !DEVICES.iter().any(is_it) {
            to.to.refuse(Refusal::new(what, "it is another device here", "make it there again (mknod(1))"));
        }
    }
}
