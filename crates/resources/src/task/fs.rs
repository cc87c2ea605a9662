//! Filesystem context: working directory, root directory, file mode creation mask (`fs_struct`).
//!
//! - seen as    /proc/PID/cwd, /proc/PID/root, `Umask` of /proc/PID/status
//! - captured   both paths, the mask
//! - recreated  `chroot`, `chdir`, `umask`; a working directory that was removed is made and removed once more; that of a process
//!   that is no more (/proc/PID) is one of a process that is made for that, and ended
//! - refused    a root directory that was removed; either, where it is not on the host (see `place`)

use crate::fd::place::{self, Removed, Wanted};
use crate::fd::{self, S_IFDIR, procfile};
use crate::{At, Capture, Capturing, Owner, Planning, Resource, Text, Trouble};
use abi::consts::open::O_DIRECTORY;
use abi::{Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, OfEnded, Op, Refusal, Value};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Fs {
    /// The working directory.
    #[n(0)]
    pub cwd: Text,
    /// The root directory.
    #[n(1)]
    pub root: Text,
    /// The mask.
    #[n(2)]
    pub umask: u32,
    /// What is left of the working directory, if it was removed.
    #[n(3)]
    #[cbor(default)]
    #[serde(default)]
    pub removed: Option<Removed>,
}

impl Resource for Fs {
    const NAME: &'static str = "fs";
}

impl Capture for Fs {
    const OF: Owner = Owner::Fs;
    const LINKS: &'static [&'static str] = &["root", "cwd"];

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        Fs::behind("", &from.probe.text("status")?, from)
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        self.plan_for(at, Fact::Born(at.tid), to);
    }
}

impl Fs {
    /// What the links in a directory below /proc/PID lead to, with the mask in that status.
    pub(super) fn behind(below: &str, status: &[u8], from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let umask = proc::umask(status)?;
        let [at, root] = ["cwd", "root"].map(|name| format!("{below}{name}"));
        let (root, rootless) = place::see(&root, from)?;
        if rootless.is_some() {
            let why = format!("{root} was removed");
            return Err(Refusal::new("root", why, "this is not supported").into());
        }
        let (cwd, removed) = place::see(&at, from)?;
        let fs = Fs { cwd, root, umask: umask.unwrap_or(0o22), removed };
        let shown = from.probe.link(&at)?;
        let ended = fs.removed.is_some() && procfile::is_of_ended(&shown, from.probe.stat(&at)?.ino, from)?;
        if let Some(why) = procfile::strange(&fs.cwd.0, from).filter(|_| !ended) {
            return Err(Refusal::new("cwd", why, "let the program leave it").into());
        }
        if fs.removed.is_none() && procfile::process(&fs.cwd.0).is_none() {
            place::note_closed("cwd", &fs.cwd, place::ENTER, from);
        }
        place::note_closed("root", &fs.root, place::ENTER, from);
        Ok(fs)
    }

    /// A thread goes there, if nothing of the directory is left not before that is so.
    pub(super) fn plan_for(&self, at: At, after: Fact, to: &mut Planning<'_>) {
        let wanted = |what| Wanted { what, kind: S_IFDIR, access: place::ENTER, flags: 0 };
        match &self.removed {
            Some(removed) => self.plan_removed(removed, at, after, to),
            None => {
                // A process's own part of /proc is there when the process is.
                if procfile::process(&self.cwd.0).is_none() {
                    wanted("the working directory").look(&self.cwd, to);
                }
                let cwd = Value::Bytes(self.cwd.c_string());
                to.to.arm(Self::NAME, at.tid, Sys::Chdir, vec![cwd], Expect::Success);
            }
        }
        // chroot(2) leaves the working directory where it is, be it inside of the new root or not.
        if self.root.0 != b"/" {
            wanted("the root directory").look(&self.root, to);
            to.to.arm(Self::NAME, at.tid, Sys::Chroot, vec![Value::Bytes(self.root.c_string())], Expect::Success);
        }
        to.to.arm(Self::NAME, at.tid, Sys::Umask, vec![u64::from(self.umask).into()], Expect::Success);
    }

    fn plan_removed(&self, removed: &Removed, at: At, after: Fact, to: &mut Planning<'_>) {
        let descr = to.to.scratch();
        match procfile::process(&self.cwd.0) {
            None => place::make_removed(Self::NAME, descr, &self.cwd, removed, O_DIRECTORY, to),
            Some(_) => {
                let opened = vec![(descr, OfEnded::File(procfile::below(&self.cwd.0)), O_DIRECTORY)];
                fd::make_of_ended(Self::NAME, opened, to);
            }
        }
        let op = Op::Call { sys: Sys::Fchdir, args: vec![Value::Descr(descr)], expect: Expect::Success };
        let needs = vec![after, Fact::Made(descr)];
        to.to.step(Moment::Place, Self::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Files(at.pid)]);
    }
}
