//! `status`: what is known of a process or thread, a line each.

use super::ParseError;
use super::text::{Keyed, hex, list, octal, split_once, unescape_comm, unsigned, words};
use std::collections::BTreeSet;

/// /proc/PID/status, the fields that tell something (proc_pid_status(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Status {
    pub name: Vec<u8>,
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, `X`, `I`.
    pub state: u8,
    pub tgid: u32,
    pub pid: u32,
    pub ppid: u32,
    /// 0: not traced.
    pub tracer_pid: u32,
    /// Real, effective, saved, of file access.
    pub uid: [u32; 4],
    /// Real, effective, saved, of file access.
    pub gid: [u32; 4],
    pub groups: Vec<u32>,
    /// The id in each pid namespace, from that of /proc inwards; empty when the kernel has none.
    pub ns_tgid: Vec<u32>,
    pub ns_pid: Vec<u32>,
    pub ns_pgid: Vec<u32>,
    pub ns_sid: Vec<u32>,
    pub threads: u32,
    /// Pending for this thread.
    pub sig_pnd: u64,
    /// Pending for the process.
    pub shd_pnd: u64,
    pub sig_blk: u64,
    pub sig_ign: u64,
    pub sig_cgt: u64,
    pub cap_inh: u64,
    pub cap_prm: u64,
    pub cap_eff: u64,
    pub cap_bnd: u64,
    pub cap_amb: u64,
    pub no_new_privs: u32,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Memory of its own (RssAnon, RssShmem) that is present, and what of it is in swap space (VmSwap), in KiB.
    pub own_kb: u64,
    /// 0: `PR_SET_THP_DISABLE` (or no memory to speak of); `None`: the kernel does not tell (before 5.0).
    pub thp_enabled: Option<u32>,
    /// The words of `x86_Thread_features`: `shstk`, `wrss`.
    pub x86_thread_features: Vec<Vec<u8>>,
}

/// Reads /proc/PID/status or /proc/PID/task/TID/status.
pub fn status(text: &[u8]) -> Result<Status, ParseError> {
    let fields = Keyed::new("status", text);
    let ids = |key| Ok(fields.parse_if_any(key, numbers)?.unwrap_or_default());
    let features = fields.find("x86_Thread_features").unwrap_or_default();
    Ok(Status {
        name: name(fields.need("Name")?),
        state: fields.parse("State", |value| value.first().copied())?,
        tgid: fields.parse("Tgid", unsigned)?,
        pid: fields.parse("Pid", unsigned)?,
        ppid: fields.parse("PPid", unsigned)?,
        tracer_pid: fields.parse("TracerPid", unsigned)?,
        uid: fields.parse("Uid", four)?,
        gid: fields.parse("Gid", four)?,
        groups: fields.parse("Groups", numbers)?,
        ns_tgid: ids("NStgid")?,
        ns_pid: ids("NSpid")?,
        ns_pgid: ids("NSpgid")?,
        ns_sid: ids("NSsid")?,
        threads: fields.parse("Threads", unsigned)?,
        sig_pnd: fields.parse("SigPnd", hex)?,
        shd_pnd: fields.parse("ShdPnd", hex)?,
        sig_blk: fields.parse("SigBlk", hex)?,
        sig_ign: fields.parse("SigIgn", hex)?,
        sig_cgt: fields.parse("SigCgt", hex)?,
        cap_inh: fields.parse("CapInh", hex)?,
        cap_prm: fields.parse("CapPrm", hex)?,
        cap_eff: fields.parse("CapEff", hex)?,
        cap_bnd: fields.parse("CapBnd", hex)?,
        cap_amb: fields.parse("CapAmb", hex)?,
        no_new_privs: fields.parse("NoNewPrivs", unsigned)?,
        seccomp: fields.parse_if_any("Seccomp", unsigned)?.unwrap_or(0),
        own_kb: own(&fields)?,
        thp_enabled: fields.parse_if_any("THP_enabled", unsigned)?,
        x86_thread_features: words(features).map(<[u8]>::to_vec).collect(),
    })
}

/// The sum of what is told of a process's own memory; 0 of what has none.
fn own(fields: &Keyed<'_>) -> Result<u64, ParseError> {
    ["RssAnon", "RssShmem", "VmSwap"].into_iter().map(|key| Ok(fields.parse_if_any(key, kilobytes)?.unwrap_or(0))).sum()
}

/// One tab is the kernel's; a blank after it is the first byte of the name.
fn name(value: &[u8]) -> Vec<u8> {
    unescape_comm(value.strip_prefix(b"\t").unwrap_or(value))
}

fn numbers(text: &[u8]) -> Option<Vec<u32>> {
    list(text, unsigned)
}

fn four(text: &[u8]) -> Option<[u32; 4]> {
    numbers(text)?.try_into().ok()
}

fn kilobytes(text: &[u8]) -> Option<u64> {
    unsigned(text.strip_suffix(b"kB")?.trim_ascii_end())
}

/// The nodes from which a process may have memory, of its `status`; `None`: the kernel does not tell (without CONFIG_CPUSETS).
pub fn mems_allowed(text: &[u8]) -> Result<Option<BTreeSet<u32>>, ParseError> {
    Keyed::new("status", text).parse_if_any("Mems_allowed_list", ids)
}

/// The file mode creation mask (umask(2)) of a process, of its `status`; `None`: the kernel does not tell (before Linux 4.7).
pub fn umask(text: &[u8]) -> Result<Option<u32>, ParseError> {
    Keyed::new("status", text).parse_if_any("Umask", octal)
}

/// Reads a list of numbers and ranges, `0-3,8` (cpuset(7), "List format").
pub fn ids(text: &[u8]) -> Option<BTreeSet<u32>> {
    // As many nodes as any kernel has, and more processors than any.
    const MOST: u32 = 1 << 16;
    let mut all = BTreeSet::new();
    for part in text.trim_ascii().split(|byte| *byte == b',').filter(|part| !part.is_empty()) {
        let (first, last) = split_once(part, b'-').unwrap_or((part, part));
        all.extend(unsigned(first)?..=unsigned::<u32>(last)?.min(MOST));
    }
    Some(all)
}
