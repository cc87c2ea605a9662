//! Credentials: ids, groups, capabilities in all five sets.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};

const LINES: [&str; 8] = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// CAP_NET_RAW and CAP_SYS_NICE permitted and inheritable; the first effective, the second ambient.
const NET_RAW: u64 = 1 << 13;
const NICE: u64 = 1 << 23;

fn lines() -> Result<Vec<String>, String> {
    LINES.iter().map(|name| sys::status(name).map(|value| format!("{name} {value}"))).collect()
}

/// Started by root: another uid in each of the three places, groups, some capabilities kept, some gone for good.
pub(crate) fn dropped(_: &[String]) -> Result<Living, String> {
    // SAFETY: the list of groups is as long as we say; all else are integers.
    unsafe {
        must("setgroups", libc::setgroups(3, [7u32, 100, 65_000].as_ptr()))?;
        sys::prctl(libc::PR_CAPBSET_DROP, [21, 0, 0, 0])?;
        sys::prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0])?;
        must("setresgid", libc::syscall(libc::SYS_setresgid, 61_001, 61_002, 61_003))?;
        must("setresuid", libc::syscall(libc::SYS_setresuid, 61_001, 61_002, 61_003))?;
    }
    capset(NET_RAW, NET_RAW | NICE, NET_RAW | NICE)?;
    sys::prctl(libc::PR_CAP_AMBIENT, [2, 23, 0, 0])?;
    let expected = lines()?;
    Living::reads(move |_| same("credentials", &expected, &lines()?))
}

/// All capabilities, and another effective user id: its change took the effective ones away, and they were raised again.
pub(crate) fn other_user(_: &[String]) -> Result<Living, String> {
    let all = u64::from_str_radix(&sys::status("CapPrm")?, 16).map_err(|e| e.to_string())?;
    // SAFETY: integers only.
    must("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, 0, 61_001, 0) })?;
    capset(all, all, 0)?;
    same_as_before(&[])
}

/// CAP_SYS_ADMIN may be inherited, and is not in the bounding set any more.
pub(crate) fn unbound(_: &[String]) -> Result<Living, String> {
    const SYS_ADMIN: u64 = 1 << 21;
    let all = u64::from_str_radix(&sys::status("CapPrm")?, 16).map_err(|e| e.to_string())?;
    capset(all, all, SYS_ADMIN)?;
    sys::prctl(libc::PR_CAPBSET_DROP, [21, 0, 0, 0])?;
    same_as_before(&[])
}

/// `capset(2)`, version 3.
fn capset(effective: u64, permitted: u64, inheritable: u64) -> Outcome {
    let header = [0x2008_0522u32, 0];
    let sets = [0, 32].map(|shift| [effective, permitted, inheritable].map(|set| (set >> shift) as u32));
    // SAFETY: header and sets have the layout and length of version 3.
    must("capset", unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

/// Whatever they are.
pub(crate) fn same_as_before(_: &[String]) -> Result<Living, String> {
    let expected = lines()?;
    Living::reads(move |_| same("credentials", &expected, &lines()?))
}
