//! The numbers of a process as it sees them itself.

use crate::life::Living;
use crate::sys::same;

fn ids() -> [(&'static str, i32); 3] {
    // SAFETY: these take nothing and touch no memory.
    unsafe { [("pid", libc::getpid()), ("tid", libc::gettid()), ("process group", libc::getpgrp())] }
}

pub(crate) fn start(_: &[String]) -> Result<Living, String> {
    let expected = ids();
    Living::reads(move |_| {
        same("ids", &expected, &ids())?;
        let own = std::fs::read_link("/proc/self").map(|path| path.display().to_string());
        same("/proc/self", &Ok(expected[0].1.to_string()), &own.map_err(|error| error.to_string()))
    })
}
