//! Place: a directory, or a name, to which a description or the file system context of a process leads.
//!
//! - seen as    a path, with ` (deleted)` behind it when it was removed
//! - captured   the path; mode and owner of a directory that was removed
//! - recreated  by its path. A directory that was removed is empty for ever (rmdir(2)): a new one is made where it was,
//!   opened, and removed; once, whoever has it. Likewise a symbolic link, and a device if whoever thaws may make one
//! - refused    what is not on the host, is of another kind there, or may not be entered
//! - not kept   that a removed directory is one, if its owner may not enter it; its parent, where nothing can be made in that:
//!   told

use super::file::{Standing, may_give, split};
use super::{S_IFDIR, S_IFMT, Seen};
use crate::{Capturing, Planning, Text, Trouble};
use abi::Sys;
use abi::consts::file_type::S_IFLNK;
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Fact, HostEffect, Moment, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// Bits of access(2).
pub(crate) const ENTER: u32 = 1;
pub(crate) const EXECUTE: u32 = 1;
pub(crate) const WRITE: u32 = 2;
pub(crate) const READ: u32 = 4;

/// What is left of a directory that was removed, or of a symbolic link or device.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Removed {
    /// Type and permission bits (inode(7)).
    #[n(0)]
    pub mode: u32,
    /// User and group.
    #[n(1)]
    pub owner: (u32, u32),
    /// Which one of the tree's it is; 0: not known.
    #[n(2)]
    #[cbor(default)]
    #[serde(default)]
    pub number: u32,
    /// Of a symbolic link: where it leads.
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Text>,
    /// Of a device: which (`st_rdev`).
    #[n(4)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
}

/// Where the link /proc/PID/`link` leads, and what is left of the directory there if it was removed.
pub(crate) fn see(link: &str, from: &mut Capturing<'_>) -> Result<(Text, Option<Removed>), Trouble> {
    let shown = from.probe.link(link)?;
    let (path, standing) = split(&shown);
    let stat = from.probe.stat(link)?;
    // Who has a link itself open (O_PATH, O_NOFOLLOW) is not led on by it.
    let is_link = stat.mode & S_IFMT == S_IFLNK;
    let there = |path: &[u8]| if is_link { from.probe.stat_link(path) } else { from.probe.stat_path(path) };
    if standing == Standing::Named {
        // Whoever may not look there is refused by the thaw.
        return match there(&path.0)? {
            Some(there) if (there.dev, there.ino) != (stat.dev, stat.ino) => {
                let why = format!("{path} is hidden: something else is mounted over it");
                Err(Refusal::new(link, why, "unmount that, or let the program leave it").into())
            }
            _ => Ok((path, None)),
        };
    }
    // A name may really end like the mark of a name that is gone.
    let stands = there(&shown)?.is_some_and(|s| (s.dev, s.ino) == (stat.dev, stat.ino));
    if stands {
        return Ok((Text(shown), None));
    }
    let number = from.files.removed((stat.dev, stat.ino));
    Ok((path, Some(Removed { mode: stat.mode, owner: (stat.uid, stat.gid), number, target: None, device: None })))
}

/// Whether it is of the /proc in which the tree lives, and not of what is mounted below or over a part of it. In a new pid namespace there
/// is another one.
pub(crate) fn is_in_proc(seen: &Seen, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let is_below = seen.link.0.strip_prefix(b"/proc").is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
    Ok(is_below && from.probe.stat_path(b"/proc")?.is_some_and(|proc| proc.dev == seen.stat.dev))
}

/// Bits of access(2) for the flags of a description (open(2)).
pub(crate) fn access_of(open_flags: u32) -> u32 {
    match open_flags & super::flags::ACCMODE {
        0 => READ,
        super::flags::WRONLY => WRITE,
        _ => READ | WRITE,
    }
}

/// Tells of a place that we may not use as a thaw must use it (bits of access(2)): so this user cannot thaw it.
pub(crate) fn note_closed(what: impl Into<String>, path: &Text, access: u32, from: &mut Capturing<'_>) {
    if !from.may(path, access) {
        tell_closed(what, path, from);
    }
}

/// The same of a regular file, which is opened.
pub(crate) fn note_closed_file(what: impl Into<String>, path: &Text, access: u32, from: &mut Capturing<'_>) {
    if !from.may(path, access) && !from.probe.may_open(&path.0, access) {
        tell_closed(what, path, from);
    }
}

fn tell_closed(what: impl Into<String>, path: &Text, from: &mut Capturing<'_>) {
    let why = format!("you may not use {path} yourself as it does: allow it before you thaw it, or thaw it as root");
    from.note_first(what, why, Some("allow it (chmod), or freeze it as root"));
}

/// What must stand at a path on the host.
pub(crate) struct Wanted<'a> {
    /// For messages: `the working directory`.
    pub(crate) what: &'a str,
    /// The type bits; 0: anything.
    pub(crate) kind: u32,
    /// What whoever thaws must be allowed.
    pub(crate) access: u32,
    /// Flags of open(2): whether a link is followed.
    pub(crate) flags: u32,
}

impl<'a> Wanted<'a> {
    /// What is looked at, but for a symbolic link that is itself meant.
    pub(crate) fn followed_unless_link(what: &'a str, kind: u32) -> Wanted<'a> {
        match kind {
            S_IFLNK => Wanted { what, kind, access: 0, flags: super::flags::NOFOLLOW },
            _ => Wanted { what, kind, access: READ, flags: 0 },
        }
    }

    /// Tells, when it is captured, of what we may not use so ([`note_closed`]). To look at a link takes only its directory.
    pub(crate) fn note(&self, what: impl Into<String>, path: &Text, from: &mut Capturing<'_>) {
        match self.kind {
            S_IFLNK => note_closed(what, &Text::from(parent(&path.0)), ENTER, from),
            _ => note_closed(what, path, self.access, from),
        }
    }

    /// Refuses what does not stand there so.
    pub(crate) fn look(&self, path: &Text, to: &mut Planning<'_>) {
        let what = self.what;
        let make = "make it there again, or bind another one there (mount --bind)";
        let refusal = match to.to.host.places.get(&path.0) {
            None => Some((format!("{what} is not here"), make)),
            Some(here) => {
                let link = here.link && self.flags & super::flags::NOFOLLOW != 0;
                let kind = if link { S_IFLNK } else { here.mode & S_IFMT };
                match () {
                    _ if self.kind == S_IFDIR && kind != S_IFDIR => {
                        Some((format!("{what} is not a directory here"), make))
                    }
                    _ if self.kind != 0 && kind != self.kind => Some((format!("{what} is of another kind here"), make)),
                    _ if self.access & !here.access != 0 => {
                        let remedy = "let this user enter and read it, or thaw as root";
                        Some((format!("{what} may not be used by this user"), remedy))
                    }
                    _ => None,
                }
            }
        };
        if let Some((why, remedy)) = refusal {
            to.to.refuse(Refusal::new(path.to_string(), why, remedy));
        }
    }
}

/// The directory in which a path stands.
pub fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|b| *b == b'/').map_or(0, |at| at.max(1))]
}

impl Removed {
    fn what(&self) -> plan::Removed {
        match (&self.target, self.device) {
            (Some(target), _) => plan::Removed::Link(target.0.clone()),
            (None, Some(device)) => plan::Removed::Device(device),
            (None, None) => plan::Removed::Directory,
        }
    }
}

/// The description of a directory, link or device that was removed: of a new one, in the parent of the old one where that is possible.
pub(crate) fn make_removed(
    by: &'static str,
    descr: Descr,
    path: &Text,
    removed: &Removed,
    flags: u32,
    to: &mut Planning<'_>,
) {
    // That it has no name any more does not matter to `.`, but whoever goes there must be allowed to enter it (path_resolution(7)).
    let is_directory = removed.what() == plan::Removed::Directory;
    let enters = is_directory && removed.mode & 0o100 != 0;
    if let Some(first) = to.removed.get(&removed.number).copied().filter(|_| enters) {
        let args = vec![Value::Descr(first), Value::Bytes(b".\0".to_vec()), u64::from(flags).into(), 0.into()];
        let op = Op::Make { sys: Sys::Openat, args, descrs: vec![descr] };
        return to.to.step(Moment::Make, by, Actor::Store, op, vec![Fact::Made(first)], vec![Fact::Made(descr)]);
    }
    if removed.number != 0 {
        to.removed.insert(removed.number, descr);
    }
    let host = to.to.host;
    let takes = |dir: &[u8]| host.places.get(dir).is_some_and(|d| d.access & (ENTER | WRITE) == ENTER | WRITE);
    let within = [parent(&path.0), &host.temporary].into_iter().find(|dir| takes(dir));
    let Some(within) = within else {
        let what = if is_directory { "directory" } else { "link or device" };
        let why = format!("the program has this removed {what}, and no new one can be made where it was");
        to.to.refuse(Refusal::new(path.to_string(), why, "make its parent again, or set TMPDIR"));
        return;
    };
    if within != parent(&path.0) {
        to.to.note(format!(
            "{path} had been removed, and nothing can be made where it was: {} {} now",
            if is_directory { "its .. is" } else { "it is in" },
            Text::from(within)
        ));
    }
    let name = path.0.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let effect = HostEffect::Removed {
        descr,
        what: removed.what(),
        path: [within, b"/", name].concat(),
        flags,
        mode: removed.mode,
        owner: Some(removed.owner).filter(|owner| may_give(*owner, to)),
    };
    to.to.step(Moment::Make, by, Actor::Thaw, Op::Host(effect), vec![], vec![Fact::Made(descr)]);
}
