//! Character devices of memory: null, zero, full, random, urandom.
//!
//! - seen as    a path, `st_mode` S_IFCHR, major 1 (Documentation/admin-guide/devices.txt)
//! - captured   path and flags
//! - recreated  `openat`
//! - refused    every other device, by name

use super::{Kind, S_IFCHR, Seen, common_refusals, flags};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

const AT_FDCWD: u64 = -100i64 as u64;
const MINORS: [u32; 5] = [3, 5, 7, 8, 9];

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
}

impl Resource for Chardev {
    const NAME: &'static str = "chardev";
}

impl Kind for Chardev {
    fn knows(seen: &Seen) -> bool {
        let (major, minor) = (abi::proc::major(seen.stat.rdev), abi::proc::minor(seen.stat.rdev));
        seen.file_type() == S_IFCHR && !seen.names_only() && major == 1 && MINORS.contains(&minor)
    }

    fn capture(seen: &Seen, _: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        Ok(Chardev { path: super::file::split(&seen.link.0).0, flags: seen.flags() })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let args = vec![
            AT_FDCWD.into(),
            Value::Bytes(self.path.c_string()),
            u64::from(self.flags | flags::NOCTTY).into(),
            0.into(),
        ];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
    }
}
