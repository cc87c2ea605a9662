//! Descriptions of directories, symbolic links and devices that have no name: one is made, opened and removed. An heir removes it
//! when we are killed on the way.

use crate::replace::Identity;
use plan::Removed;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
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

/// A description of one that was called `path`, or like nothing else in the same directory if that name is taken.
pub(crate) fn open(path: &Path, what: &Removed, looks: Looks) -> io::Result<OwnedFd> {
    // Nobody else's: so the heir may remove it, whoever made what stands at `path`.
    let ours = path.with_file_name(format!(".{}.cryopid", std::process::id()));
    let mut heir = heir(ours.clone()).map_err(|f| io::Error::from_raw_os_error(f.errno.0))?;
    point()?;
    match what {
        Removed::Directory => rustix::fs::mkdir(&ours, Mode::RWXU)?,
        Removed::Link(target) => rustix::fs::symlinkat(&target[..], CWD, &ours)?,
        Removed::Device(device) => {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, &ours, FileType::from_raw_mode(looks.mode), mode, *device)?;
        }
    }
    point()?;
    let is_directory = *what == Removed::Directory;
    let plain = if is_directory { OFlags::DIRECTORY } else { OFlags::PATH };
    let pinned = rustix::fs::openat(CWD, &ours, plain | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&pinned)?;
    heir.tell(&Identity { dev: stat.st_dev, ino: stat.st_ino }.word(path))?;
    point()?;
    let named = rustix::fs::renameat_with(CWD, &ours, CWD, path, RenameFlags::NOREPLACE).is_ok();
    let flags = OFlags::from_bits_retain(looks.flags) | OFlags::CLOEXEC;
    let opened = match what {
        Removed::Directory => rustix::fs::openat(&pinned, ".", flags, Mode::empty())?,
        // Nothing of a link can be had but its name (open(2), O_PATH).
        Removed::Link(_) => pinned.try_clone()?,
        Removed::Device(device) if stat.st_rdev == *device => {
            let link = format!("/proc/self/fd/{}", pinned.as_raw_fd());
            rustix::fs::openat(CWD, link, flags | OFlags::NOCTTY, Mode::empty())?
        }
        Removed::Device(_) => return Err(io::ErrorKind::AlreadyExists.into()),
    };
    point()?;
    let how = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(CWD, if named { path } else { &ours }, how)?;
    match what {
        Removed::Directory => dress(&pinned, looks)?,
        Removed::Link(_) => {}
        Removed::Device(_) => dress(&opened, looks)?,
    }
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
                remove(path);
            }
        }
        remove(&ours);
    })
}

fn remove(path: &Path) {
    let _ = std::fs::remove_dir(path).or_else(|_| std::fs::remove_file(path));
}
