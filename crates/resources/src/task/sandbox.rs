//! Sandbox: rules by which a process has restricted itself (landlock(7)). The kernel tells nobody of them, so they are not kept.

use crate::{Capturing, Trouble};
use abi::consts::fd::AT_FDCWD;
use abi::consts::open::{O_CLOEXEC, O_RDWR};
use abi::{Arg, Call, Errno, Sys, proc};

/// Tells of rules that are lost, where that is seen: who may not open what is his own has some, or the like. They are set by who can gain
/// no privileges any more (PR_SET_NO_NEW_PRIVS). What is opened is closed in one batch: whatever becomes of us, nothing is left open.
pub(super) fn note(from: &mut Capturing<'_>) -> Result<(), Trouble> {
    const OWN: &[u8] = b"/proc/thread-self/comm\0";
    let status = from.probe.text("status")?;
    // Most have none: no more of the text is read then.
    if !status.split(|byte| *byte == b'\n').any(|line| line == b"NoNewPrivs:\t1") {
        return Ok(());
    }
    let status = proc::status(&status)?;
    let own = status.ns_pid.last().copied().unwrap_or(status.tgid);
    let open = [Arg::Int(AT_FDCWD), Arg::Bytes(OWN.to_vec()), u64::from(O_RDWR | O_CLOEXEC).into(), 0.into()];
    let close = [Arg::Int(u64::MAX)];
    let batch = [Call::new(Sys::Openat, open), Call::hand_over(own.into(), 0, 2), Call::new(Sys::Close, close)];
    if from.probe.calls(&batch)?[0].result == Err(Errno::EACCES) {
        let why = "it has restricted which files it may use (Landlock, or the like): thawed, it is not restricted";
        from.note("sandbox", why);
    }
    Ok(())
}
