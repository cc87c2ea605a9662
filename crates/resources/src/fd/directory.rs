//! Directory: a description of a directory, with its position.
//!
//! - seen as    a path, `st_mode` S_IFDIR
//! - captured   path, flags, position (the cookie that the file system gave)
//! - recreated  `openat`, `lseek`
//! - refused    a directory that is gone

use super::{Kind, S_IFDIR, Seen, common_refusals, file, flags, seek};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

const AT_FDCWD: u64 = -100i64 as u64;

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
}

impl Resource for Directory {
    const NAME: &'static str = "directory";
}

impl Kind for Directory {
    fn knows(seen: &Seen) -> bool {
        seen.file_type() == S_IFDIR && !seen.names_only()
    }

    fn capture(seen: &Seen, _: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        let (path, standing) = file::split(&seen.link.0);
        if standing == file::Standing::Gone {
            refusals.push(seen.refuse("this directory was removed", "let the program close it"));
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        Ok(Directory { path, flags: seen.flags(), position: seen.info.pos })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let path = Value::Bytes(self.path.c_string());
        let args = vec![AT_FDCWD.into(), path, u64::from(self.flags | flags::NOCTTY).into(), 0.into()];
        to.to.make(Self::NAME, descr, Sys::Openat, args);
        seek(Self::NAME, descr, self.position, to);
    }
}
