//! Credentials: user and group ids, capabilities, and the flags around them.
//!
//! - seen as    /proc/PID/status
//! - captured   those, and `securebits` and `keepcaps` by `prctl`
//! - recreated  `setresgid`, `setgroups`, `setresuid`, `prctl`, `capset`; nothing at all where they are the thawing user's
//! - refused    another user's ids, or capabilities, for who may not take them; capabilities in another user namespace
//! - not kept   security labels (SELinux, AppArmor); keyrings, if keys are in them: told; what was taken from the bounding set,
//!   for who may not take it: told

use super::{ask, keyrings, value_or};
use crate::{At, Capture, Capturing, Planning, Resource, Trouble};
use abi::consts::cap::{CAP_SETGID, CAP_SETPCAP, CAP_SETUID};
use abi::consts::prctl::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAPBSET_DROP, PR_GET_KEEPCAPS, PR_GET_SECUREBITS, PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
};
use abi::layout::{CapData, CapHeader};
use abi::{Call, Sys, proc};
use minicbor::{Decode, Encode};
use plan::{Expect, Namespaces, Refusal, Tid, Value};
use serde::{Deserialize, Serialize};

/// SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS: a change of ids leaves the capabilities alone.
const SECBITS_STILL: u64 = 0x14;
const CAPABILITIES: u64 = 41;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Creds {
    /// Real, effective, saved and file system user id.
    #[n(0)]
    pub uid: [u32; 4],
    /// The same of the group.
    #[n(1)]
    pub gid: [u32; 4],
    /// Supplementary groups, ascending.
    #[n(2)]
    pub groups: Vec<u32>,
    /// Capabilities: inheritable, permitted, effective, bounding, ambient.
    #[n(3)]
    pub capabilities: [u64; 5],
    /// SECBIT_ flags (capabilities(7)).
    #[n(4)]
    pub securebits: u64,
    /// PR_SET_NO_NEW_PRIVS.
    #[n(5)]
    pub no_new_privs: bool,
}

impl Resource for Creds {
    const NAME: &'static str = "creds";
}

fn own() -> Vec<Call> {
    vec![ask(PR_GET_SECUREBITS), ask(PR_GET_KEEPCAPS)]
}

impl Capture for Creds {
    const LINKS: &'static [&'static str] = &["ns/user"];
    fn asks() -> Vec<Call> {
        [own(), keyrings::asks()].concat()
    }

    fn capture(from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let s = proc::status(&from.probe.thread_text("status")?)?;
        let foreign = from.probe.link("ns/user").ok() != from.probe.own_link("ns/user").ok();
        if foreign && s.cap_prm != 0 {
            let why = "its capabilities are those of a user namespace of its own; here they would be far more";
            return Err(Refusal::new("ns/user", why, "run cryopid inside that namespace (nsenter)").into());
        }
        let answers = from.probe.calls(&own())?;
        keyrings::note(from)?;
        let mut groups = s.groups.clone();
        abi::sort(&mut groups);
        Ok(Creds {
            uid: s.uid,
            gid: s.gid,
            groups,
            capabilities: [s.cap_inh, s.cap_prm, s.cap_eff, s.cap_bnd, s.cap_amb],
            securebits: value_or(&answers[0], 0)?,
            no_new_privs: s.no_new_privs != 0,
        })
    }

    fn plan(&self, at: At, to: &mut Planning<'_>) {
        if self.refuse(to) {
            return;
        }
        if self.no_new_privs {
            prctl(PR_SET_NO_NEW_PRIVS, 1, at.tid, Expect::Success, to);
        } else if to.to.host.no_new_privs {
            to.to.note(
                "it cannot gain privileges by executing a file any more: no_new_privs is set for whoever thaws it",
            );
        }
        match to.namespaces {
            Namespaces::UserPid { .. } => {
                if !self.groups.is_empty() && at.pid.0 == at.tid.0 {
                    to.to.note("in its user namespace the supplementary groups have no names, and set-user-id programs no power");
                }
                self.plan_capabilities(at.tid, to);
            }
            _ if self.is_ours(to) => {}
            _ if privileged(to) => self.plan_all(at.tid, to),
            _ => self.plan_less(at.tid, to),
        }
    }
}

fn prctl(option: u64, value: u64, tid: Tid, expect: Expect, to: &mut Planning<'_>) {
    let args = vec![option.into(), value.into(), 0.into(), 0.into(), 0.into()];
    to.to.arm(Creds::NAME, tid, Sys::Prctl, args, expect);
}

/// Whether ids, and all about capabilities, may be chosen.
fn privileged(to: &Planning<'_>) -> bool {
    let all = [CAP_SETUID, CAP_SETGID, CAP_SETPCAP].into_iter().all(|c| to.to.host.has(c));
    all && !matches!(to.namespaces, Namespaces::UserPid { .. })
}

impl Creds {
    fn same_ids(&self, to: &Planning<'_>) -> bool {
        let host = to.to.host;
        self.uid == [host.uid; 4] && self.gid == [host.gid; 4] && self.groups == host.groups
    }

    /// Whether it has just what the thawing user has.
    fn is_ours(&self, to: &Planning<'_>) -> bool {
        let host = to.to.host;
        self.same_ids(to) && self.capabilities == host.capability_sets && self.securebits == host.securebits
    }

    /// Whether the thawing user may not give it what it had; says so.
    fn refuse(&self, to: &mut Planning<'_>) -> bool {
        let missing = self.missing(to);
        let refusal = if !privileged(to) && !self.same_ids(to) {
            let why = format!("it belonged to user {} (group {}, groups {:?})", self.uid[0], self.gid[0], self.groups);
            Some((why, "thaw it as that user, or as root"))
        } else if let Some(id) = self.lost_ids(to).first() {
            let why = format!("its user or group {id} is not in this user namespace");
            Some((why, "thaw it outside of that namespace, or map the id"))
        } else if privileged(to) && to.to.host.keeps_groups && self.groups != to.to.host.groups {
            let why =
                format!("it had the groups {:?}, and nobody may change groups in this user namespace", self.groups);
            Some((why, "thaw it outside of that namespace"))
        } else if missing != 0 {
            let names = abi::consts::cap::names(missing).join(", ");
            Some((format!("it had capabilities that may not be given here: {names}"), "thaw it as root"))
        } else {
            None
        };
        if let Some((why, remedy)) = refusal
            && !to.to.refused("credentials")
        {
            to.to.refuse(Refusal::new("credentials", why, remedy));
            return true;
        }
        false
    }

    /// Its users and groups that there are not where it is to be set.
    fn lost_ids(&self, to: &Planning<'_>) -> Vec<u32> {
        match privileged(to) && !self.same_ids(to) {
            true => to.to.host.unmapped(&self.uid, &[&self.gid[..], &self.groups].concat()),
            false => Vec::new(),
        }
    }

    /// Capabilities that whoever thaws may not give it (capabilities(7), capset(2)).
    fn missing(&self, to: &Planning<'_>) -> u64 {
        let [inheritable, permitted, ..] = self.capabilities;
        let [own, ours, _, bounding, _] = to.to.host.capability_sets;
        let may_inherit = match to.namespaces {
            Namespaces::UserPid { .. } => u64::MAX,
            _ if privileged(to) => own | bounding,
            _ => own | ours & bounding,
        };
        permitted & !ours | inheritable & !may_inherit
    }

    /// With the ids that whoever thaws has, and no more than his capabilities.
    fn plan_less(&self, tid: Tid, to: &mut Planning<'_>) {
        let [inheritable, permitted, effective, bounding, _] = self.capabilities;
        if to.to.host.capability_sets[3] & !bounding != 0 {
            to.to.note("what it had given up for good may be had again by set-user-id programs (the bounding set)");
        }
        self.capset(CapData { effective, permitted, inheritable }, tid, to);
        self.raise_ambient(tid, to);
    }

    fn plan_all(&self, tid: Tid, to: &mut Planning<'_>) {
        let ids = |id: [u32; 4]| id[..3].iter().map(|n| u64::from(*n).into()).collect();
        prctl(PR_SET_SECUREBITS, SECBITS_STILL, tid, Expect::Success, to);
        if !to.to.host.keeps_groups {
            let groups = self.groups.iter().flat_map(|g| g.to_ne_bytes()).collect();
            let args = vec![(self.groups.len() as u64).into(), Value::Bytes(groups)];
            to.to.arm(Self::NAME, tid, Sys::Setgroups, args, Expect::Success);
        }
        to.to.arm(Self::NAME, tid, Sys::Setresgid, ids(self.gid), Expect::Success);
        to.to.arm(Self::NAME, tid, Sys::Setresuid, ids(self.uid), Expect::Success);
        // setfsuid and setfsgid return the old id whether they succeed or not.
        to.to.arm(Self::NAME, tid, Sys::Setfsgid, vec![u64::from(self.gid[3]).into()], Expect::Whatever);
        to.to.arm(Self::NAME, tid, Sys::Setfsuid, vec![u64::from(self.uid[3]).into()], Expect::Whatever);
        self.plan_capabilities(tid, to);
    }

    fn plan_capabilities(&self, tid: Tid, to: &mut Planning<'_>) {
        let [inheritable, permitted, effective, bounding, _] = self.capabilities;
        let ours = to.to.host.capability_sets[3];
        let fresh = matches!(to.namespaces, Namespaces::UserPid { .. });
        // First what is needed to set the rest, then the rest.
        let middle =
            CapData { effective: permitted | 1 << CAP_SETPCAP, permitted: permitted | 1 << CAP_SETPCAP, inheritable };
        self.capset(middle, tid, to);
        // Only now: what is not in the bounding set cannot become inheritable, though it may stay so (capabilities(7)).
        for n in (0..CAPABILITIES).filter(|n| (fresh || ours >> n & 1 == 1) && bounding >> n & 1 == 0) {
            // EINVAL: a capability that this kernel does not have.
            prctl(PR_CAPBSET_DROP, n, tid, Expect::Whatever, to);
        }
        self.raise_ambient(tid, to);
        prctl(PR_SET_SECUREBITS, self.securebits, tid, Expect::Success, to);
        self.capset(CapData { effective, permitted, inheritable }, tid, to);
    }

    fn raise_ambient(&self, tid: Tid, to: &mut Planning<'_>) {
        for n in (0..CAPABILITIES).filter(|n| self.capabilities[4] >> n & 1 == 1) {
            let args = vec![PR_CAP_AMBIENT.into(), PR_CAP_AMBIENT_RAISE.into(), n.into(), 0.into(), 0.into()];
            to.to.arm(Self::NAME, tid, Sys::Prctl, args, Expect::Success);
        }
    }

    fn capset(&self, data: CapData, tid: Tid, to: &mut Planning<'_>) {
        let header = Value::Bytes(CapHeader::v3(0).to_bytes().to_vec());
        let args = vec![header, Value::Bytes(data.to_bytes().to_vec())];
        to.to.arm(Self::NAME, tid, Sys::Capset, args, Expect::Success);
    }
}
