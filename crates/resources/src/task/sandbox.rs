//! Sandbox: rules by which a process has restricted itself (landlock(7)). The kernel tells nobody of them, so they are not kept.

use crate::{Capturing, Trouble};
use abi::consts::fd::AT_FDCWD;
use abi::consts::open::{O_CLOEXEC, O_RDWR};
use abi::proc::{self, Status};
use abi::{Arg, Call, Errno, Sys};

/// Tells of rules that are lost, where that is seen. They are set by who can gain no privileges any more (PR_SET_NO_NEW_PRIVS).
pub(super) fn note(from: &mut Capturing<'_>) -> Result<(), Trouble> {
    let status = from.probe.text("status")?;
    // Most have none: no more of the text is read then.
    if !status.split(|byte| *byte == b'\n').any(|line| line == b"NoNewPrivs:\t1") {
        return Ok(());
    }
    let status = proc::status(&status)?;
    if may_not_open_its_own(&status, from)? {
        let why = "it has restricted which files it may use (Landlock, or the like): thawed, it is not restricted";
        from.note("sandbox", why);
    } else if may_not_look_at_its_like(&status, from)? {
        let why = "it has restricted with whom it may deal (Landlock, or the like): thawed, it is not restricted";
        from.note("sandbox", why);
    }
    Ok(())
}

/// What is opened is closed in one batch: whatever becomes of us, nothing is left open.
fn may_not_open_its_own(status: &Status, from: &Capturing<'_>) -> Result<bool, Trouble> {
    const OWN: &[u8] = b"/proc/thread-self/comm\0";
    let own = status.ns_pid.last().copied().unwrap_or(status.tgid);
    let open = [Arg::Int(AT_FDCWD), Arg::Bytes(OWN.to_vec()), u64::from(O_RDWR | O_CLOEXEC).into(), 0.into()];
    let close = [Arg::Int(u64::MAX)];
    let batch = [Call::new(Sys::Openat, open), Call::hand_over(own.into(), 0, 2), Call::new(Sys::Close, close)];
    Ok(from.probe.calls(&batch)?[0].result == Err(Errno::EACCES))
}

/// Whoever has any rules may not trace who has not the same ones (security/landlock/task.c, `hook_ptrace_access_check`). That is seen where
/// nothing else keeps the process from a look at us: it has the same ids, and all capabilities that we have (ptrace(2)).
fn may_not_look_at_its_like(status: &Status, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let Some(us) = from.probe.own_text("status").ok().and_then(|text| proc::status(&text).ok()) else {
        return Ok(false);
    };
    let is_with_us = |name: &&str| from.probe.link(name).is_ok_and(|its| from.probe.own_link(name) == Ok(its));
    let ids = |of: &Status| [of.uid, of.gid];
    let is_plain = ids(&us).iter().all(|ids| ids.iter().all(|id| *id == ids[0]));
    let is_like_us = is_plain && ids(status) == ids(&us) && status.cap_prm & us.cap_prm == us.cap_prm;
    if !is_like_us || !["ns/pid", "ns/user"].iter().all(is_with_us) {
        return Ok(false);
    }
    let id = Arg::Int(us.ns_pid.last().copied().unwrap_or(us.pid).into());
    let ask = Call::new(Sys::Kcmp, [id.clone(), id, 0.into(), 0.into(), 0.into()]);
    Ok(from.probe.calls(&[ask])?[0].result == Err(Errno::EPERM))
}
