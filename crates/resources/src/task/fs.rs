//! Filesystem context: working directory, root directory, file mode creation mask (`fs_struct`).
//!
//! - seen as    /proc/PID/cwd, /proc/PID/root, `Umask` of /proc/PID/status
//! - captured   both paths, the mask
//! - recreated  `chroot`, `chdir`, `umask`
//! - refused    a working directory that was removed

use crate::fd::file::{Standing, split};
use crate::{At, Capture, Capturing, Planning, Resource, Text, Trouble};
use abi::{Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Expect, Refusal, Value};
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
}

impl Resource for Fs {
    const NAME: &'static str = "fs";
}

impl Capture for Fs {
    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let status = proc::status(&from.probe.text("status")?)?;
        let place = |link: &str| -> Result<Text, Trouble> {
            let (path, standing) = split(&from.probe.link(link)?);
            match standing {
                Standing::Named => Ok(path),
                Standing::Gone => {
                    let why = format!("{path} was removed");
                    Err(Refusal::new(link, why, "let the program change to another directory").into())
                }
            }
        };
        Ok(Fs { cwd: place("cwd")?, root: place("root")?, umask: status.umask.unwrap_or(0o22) })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if self.root.0 != b"/" {
            to.to.arm(Self::NAME, at.tid, Sys::Chroot, vec![Value::Bytes(self.root.c_string())], Expect::Success);
        }
        // As the old root shows it: the path is taken before the change of root hides it.
        let cwd = match self.cwd.0.strip_prefix(&self.root.0[..]) {
            Some(inside) if self.root.0 != b"/" => Text([b"/", inside.strip_prefix(b"/").unwrap_or(inside)].concat()),
            _ => self.cwd.clone(),
        };
        to.to.arm(Self::NAME, at.tid, Sys::Chdir, vec![Value::Bytes(cwd.c_string())], Expect::Success);
        to.to.arm(Self::NAME, at.tid, Sys::Umask, vec![u64::from(self.umask).into()], Expect::Success);
    }
}
