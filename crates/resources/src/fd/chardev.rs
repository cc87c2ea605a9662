//! Character devices of memory: null, zero, full, random, urandom.
//!
//! - seen as    a path, `st_mode` S_IFCHR, major 1 (Documentation/admin-guide/devices.txt)
//! - captured   which, and flags
//! - recreated  `openat` of its usual name
//! - refused    every other device, by name

use super::{Kind, S_IFCHR, Seen, common_refusals, flags};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

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
}

impl Resource for Chardev {
    const NAME: &'static str = "chardev";
}

impl Kind for Chardev {
    fn knows(seen: &Seen) -> bool {
        let (major, minor) = (abi::proc::major(seen.stat.rdev), abi::proc::minor(seen.stat.rdev));
        seen.file_type() == S_IFCHR
            && !seen.names_only()
            && major == 1
            && DEVICES.iter().any(|(number, _)| *number == minor)
    }

    fn capture(seen: &Seen, _: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        // By the name that it has everywhere: the one that the program used may be gone.
        let minor = abi::proc::minor(seen.stat.rdev);
        let name = DEVICES.iter().find(|(number, _)| *number == minor).map_or("null", |(_, name)| *name);
        Ok(Chardev { path: Text(format!("/dev/{name}").into_bytes()), flags: seen.flags() })
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
