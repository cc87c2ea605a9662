//! Named pipes (fifo(7)) that a thaw opens. What the tree had in one is written into it again, and somebody else who has it open
//! would read that, or would be read. Those that can be seen were looked for before; this looks for the others.

use crate::Error;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The pipe at a path, if nobody reads from it and nothing waits in it. It is opened in no other way before it is known to be one.
pub(crate) fn open(path: &Path, access: u32) -> Result<OwnedFd, Error> {
    let fault = |e: Errno| Error::io("open", path.display(), std::io::Error::from(e));
    let refuse = |why| Error::refuse(path.display().to_string(), why, "end whoever has it open, or let them close it");
    let place = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fault)?;
    if FileType::from_raw_mode(fstat(&place).map_err(fault)?.st_mode) != FileType::Fifo {
        return Err(refuse("it is no named pipe any more"));
    }
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let access = OFlags::from_bits_retain(access);
    let open = |how| openat(CWD, &link, how | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    match open(OFlags::WRONLY) {
        // fifo(7): nobody has it open to read.
        Err(Errno::NXIO) => {}
        // Nothing is written into what is only read.
        Err(Errno::ACCESS) if access == OFlags::RDONLY => {}
        Err(e) => return Err(fault(e)),
        Ok(_) => return Err(refuse("another process here has it open to read, and would get what is the program's")),
    }
    let opened = open(access).map_err(fault)?;
    match rustix::io::ioctl_fionread(&opened).map_err(fault)? {
        0 => Ok(opened),
        _ => Err(refuse("something waits in it that is not the program's")),
    }
}
