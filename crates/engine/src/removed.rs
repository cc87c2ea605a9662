//! Descriptions of directories that have no name: one is made, opened and removed. An heir removes it when we are killed
//! on the way.

use crate::replace::Identity;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tracee::Heir;
use tracee::fault::point;

/// What it is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) flags: u32,
    pub(crate) mode: u32,
    pub(crate) owner: Option<(u32, u32)>,
}

/// A description of a directory that was called `path`, or like nothing else in the same directory if that name is taken.
pub(crate) fn open(path: &Path, looks: Looks) -> io::Result<OwnedFd> {
    // Nobody else's: so the heir may remove it, whoever made what stands at `path`.
    let ours = path.with_file_name(format!(".{}.cryopid", std::process::id()));
    let mut heir = heir(ours.clone()).map_err(|f| io::Error::from_raw_os_error(f.errno.0))?;
    point()?;
    rustix::fs::mkdir(&ours, Mode::RWXU)?;
    point()?;
    let plain = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, &ours, plain, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    heir.tell(&Identity { dev: stat.st_dev, ino: stat.st_ino }.word(path))?;
    point()?;
    let named = rustix::fs::renameat_with(CWD, &ours, CWD, path, RenameFlags::NOREPLACE).is_ok();
    let flags = OFlags::from_bits_retain(looks.flags) | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&directory, ".", flags, Mode::empty())?;
    point()?;
    rustix::fs::unlinkat(CWD, if named { path } else { &ours }, AtFlags::REMOVEDIR)?;
    dress(&directory, looks)?;
    Ok(opened)
}

/// Mode and owner, once no name leads to it: whoever may write where it stood could have put another in its place.
fn dress(directory: &OwnedFd, looks: Looks) -> io::Result<()> {
    if rustix::fs::fstat(directory)?.st_nlink != 0 {
        return Ok(());
    }
    if let Some((uid, gid)) = looks.owner {
        rustix::fs::fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(rustix::fs::fchmod(directory, Mode::from_raw_mode(looks.mode & 0o7777))?)
}

/// Removes what is left of it.
fn heir(ours: PathBuf) -> Result<Heir, abi::Fault> {
    Heir::new(move |_, told| {
        for t in told {
            let (made, path) = Identity::heard(t);
            if Identity::at(path) == Some(made) {
                let _ = std::fs::remove_dir(path);
            }
        }
        let _ = std::fs::remove_dir(ours);
    })
}
