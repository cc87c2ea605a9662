//! Nsfd: a namespace behind a descriptor (namespaces(7)).
//!
//! - seen as    `net:[N]`, and likewise of the other kinds
//! - captured   of which kind it is, flags; whether it is the one in which the program itself lives, or whoever freezes it
//! - recreated  `openat` of /proc/self/ns, by every process that has it once all are born, or by whoever thaws: what these live in then
//! - refused    any other
//! - not kept   that relatives have one description in common: told

use super::{Kind, Seen, common_refusals, flags, procfile::Procfile};
use crate::{At, Capturing, Planning, Resource, Text, Trouble};
use abi::Sys;
use abi::consts::fd::AT_FDCWD;
use minicbor::{Decode, Encode};
use plan::{Descr, Value};
use serde::{Deserialize, Serialize};

const KINDS: [&str; 8] = ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time"];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Nsfd {
    /// The name below /proc/PID/ns.
    #[n(0)]
    pub name: Text,
    /// Status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// Whether the program lives in it; else, whoever froze it did.
    #[n(2)]
    pub inside: bool,
}

impl Resource for Nsfd {
    const NAME: &'static str = "nsfd";
}

fn name(seen: &Seen) -> Option<&'static str> {
    let of = |name: &&str| seen.link.0.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":["));
    KINDS.into_iter().find(of)
}

impl Nsfd {
    fn path(&self) -> Text {
        Text([b"/proc/self/ns/", &self.name.0[..]].concat())
    }
}

impl Kind for Nsfd {
    fn knows(seen: &Seen) -> bool {
        name(seen).is_some() && !seen.names_only()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let name = name(seen).expect("it is known by that");
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let link = format!("ns/{name}");
        let is = |link: Result<Vec<u8>, _>| link.is_ok_and(|link| link == seen.link.0);
        let inside = is(from.probe.link(&link));
        if !inside && !is(from.probe.own_link(&link)) {
            let why = "it is a namespace in which neither the program lives nor you do";
            return Err(seen.refuse(why, "let the program close it").into());
        }
        Ok(Nsfd { name: name.as_bytes().into(), flags: seen.flags(), inside })
    }

    fn plan(&self, descr: Descr, at: At, to: &mut Planning<'_>) {
        if self.inside {
            return Procfile { path: self.path(), flags: self.flags, position: 0, ended: false }.plan(descr, at, to);
        }
        let flags = u64::from(self.flags | flags::NOCTTY);
        to.to.make(
            Self::NAME,
            descr,
            Sys::Openat,
            vec![AT_FDCWD.into(), Value::Bytes(self.path().c_string()), flags.into(), 0.into()],
        );
    }

    fn is_of_each(&self) -> bool {
        self.inside
    }
}
