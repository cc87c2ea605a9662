//! Resource limits (prlimit(2)).
//!
//! - seen as    /proc/PID/limits
//! - captured   `prlimit64` of all sixteen, by the process itself
//! - recreated  the same call where it is not as here, late: nothing that the thaw needs is limited before
//! - not kept   a hard limit above that of who thaws, without CAP_SYS_RESOURCE: the user is told

use super::signal;
use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::consts::cap::CAP_SYS_RESOURCE;
use abi::layout::Rlimit64;
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Expect, Fact, Moment, Op, Value};
use serde::{Deserialize, Serialize};

/// How many limits there are (RLIM_NLIMITS).
pub const COUNT: u32 = 16;
const NOFILE: usize = 7;
const SIGPENDING: usize = 11;
const NAMES: [&str; COUNT as usize] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Limits {
    /// Soft and hard, by number (RLIMIT_CPU is 0); all ones is no limit.
    #[n(0)]
    pub limits: Vec<(u64, u64)>,
}

/// What is told of a limit that cannot be as high as it was: the soft one matters more, as it is what is felt at once.
fn shrunk(name: &str, (soft, hard): (u64, u64), ours: u64) -> String {
    let (which, was) = if soft > ours { ("limit", soft) } else { ("hard limit", hard) };
    let was = if was == u64::MAX { "unlimited".into() } else { was.to_string() };
    format!("the {which} {name} was {was} and cannot be more than {ours} here")
}

impl Resource for Limits {
    const NAME: &'static str = "limits";
}

impl Capture for Limits {
    fn asks() -> Vec<Call> {
        let ask = |n: u32| {
            Call::new(Sys::Prlimit64, [Arg::Int(0), Arg::Int(n.into()), Arg::Int(0), Arg::Out(Rlimit64::SIZE)])
        };
        (0..COUNT).map(ask).collect()
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let answers = super::all(from, &Self::asks())?;
        let limits = answers.iter().filter_map(|a| Rlimit64::from_bytes(super::written(a)));
        Ok(Limits { limits: limits.map(|l| (l.cur, l.max)).collect() })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        let may_raise = to.to.host.has(CAP_SYS_RESOURCE) && to.namespaces == plan::Namespaces::Same;
        for (n, (soft, hard)) in self.limits.iter().enumerate().take(NAMES.len()) {
            let ours = to.to.host.limits.get(n).map_or(u64::MAX, |l| l.1);
            let mut hard = *hard;
            if hard > ours && !may_raise {
                to.to.note(shrunk(NAMES[n], (*soft, hard), ours));
                hard = ours;
            }
            let limit = Rlimit64 { cur: (*soft).min(hard), max: hard };
            // The number of descriptors is raised for the thaw.
            if n != NOFILE && to.to.host.limits.get(n) == Some(&(limit.cur, limit.max)) {
                continue;
            }
            if n != SIGPENDING {
                set(n, limit, None, at, to);
                continue;
            }
            // More may wait than it allows: it was lowered since. To raise it takes a right that goes with the credentials.
            if hard > ours {
                set(n, Rlimit64 { cur: hard, max: hard }, None, at, to);
            }
            let queued = signal::is_queued(to.model, at.pid.0).then_some(Fact::Queued(at.pid));
            set(n, limit, queued, at, to);
        }
    }
}

fn set(which: usize, limit: Rlimit64, after: Option<Fact>, at: At, to: &mut Planning<'_>) {
    let args = vec![0.into(), (which as u64).into(), Value::Bytes(limit.to_bytes().to_vec()), 0.into()];
    let op = Op::Call { sys: Sys::Prlimit64, args, expect: Expect::Success };
    let needs = [Fact::Settled, Fact::Loaded(to.space(at.pid)), Fact::Files(at.pid)].into_iter().chain(after).collect();
    to.to.step(Moment::Arm, Limits::NAME, Actor::Thread(at.tid), op, needs, vec![Fact::Whole(at.tid)]);
}
