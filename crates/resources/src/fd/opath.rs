//! O_PATH: a description that only names a place in the file system.
//!
//! - seen as    `flags` with O_PATH in fdinfo, whatever stands there
//! - captured   path and flags
//! - recreated  `openat` with the same flags
//! - refused    a place that is gone

use super::{Kind, Seen, file};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

const AT_FDCWD: u64 = -100i64 as u64;

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
}

impl Resource for OPath {
    const NAME: &'static str = "opath";
}

impl Kind for OPath {
    fn knows(seen: &Seen) -> bool {
        seen.names_only()
    }

    fn capture(seen: &Seen, _: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let (path, standing) = file::split(&seen.link.0);
        if standing == file::Standing::Gone || !path.0.starts_with(b"/") {
            return Err(seen.refuse("what it names is gone", "let the program close it").into());
        }
        Ok(OPath { path, flags: seen.flags() })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let args = vec![AT_FDCWD.into(), Value::Bytes(self.path.c_string()), u64::from(self.flags).into(), 0.into()];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
    }
}
