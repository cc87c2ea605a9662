//! Credentials: ids, groups, capabilities in all five sets.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};

const LINES: [&str; 8] = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// CAP_NET_RAW and CAP_SYS_NICE permitted and inheritable; the first effective, the second ambient.
const NET_RAW: u32 = 1 << 13;
const NICE: u32 = 1 << 23;

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
    set_capabilities()?;
    sys::prctl(libc::PR_CAP_AMBIENT, [2, 23, 0, 0])?;
    let expected = lines()?;
    Living::reads(move |_| same("credentials", &expected, &lines()?))
}

/// `capset(2)`, version 3: effective, permitted, inheritable, each in two halves.
fn set_capabilities() -> Outcome {
    let header = [0x2008_0522u32, 0];
    let sets = [NET_RAW, NET_RAW | NICE, NET_RAW | NICE, 0, 0, 0];
    // SAFETY: header and sets have the layout and length of version 3.
    must("capset", unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

/// Whatever they are.
pub(crate) fn same_as_before(_: &[String]) -> Result<Living, String> {
    let expected = lines()?;
    Living::reads(move |_| same("credentials", &expected, &lines()?))
}
