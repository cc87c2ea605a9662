//! Where an image goes: a file that appears under its name only when it is whole, or a stream.

use crate::Error;
use crate::execute::Quiet;
use image::Late;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, renameat_with};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracee::fault::point;
use tracee::here::begin_writeback;

/// An image being written. Dropped without [`Output::publish`], it leaves nothing.
#[derive(Debug)]
pub enum Output {
    /// A file beside its target.
    File {
        /// It, open.
        file: File,
        /// Where it will stand.
        target: PathBuf,
        /// Where it stands now, if the file system knows no unnamed files.
        beside: Option<Beside>,
        /// What stood at the target: held, so that its blocks are not freed while the tree stands still.
        replaced: Option<OwnedFd>,
        /// Bytes that were written, of which the disk is not told yet.
        new: Range<u64>,
    },
    /// Standard output or another stream: nothing can be undone there.
    Stream(File),
}

/// An image that stands under its name, whole and durable.
#[derive(Debug)]
pub struct Published {
    file: File,
    path: PathBuf,
    /// Its name; or, where something stood there before, the name of that, until this is dropped.
    other: Option<Beside>,
    /// What stood there before: its blocks are freed when this is dropped.
    replaced: Option<OwnedFd>,
    /// Ctrl-C would leave what stood there before beside it.
    _quiet: Quiet,
}

impl Drop for Published {
    fn drop(&mut self) {
        // Its own name stays.
        if let Some(own) = self.other.take_if(|other| other.0 == self.path) {
            std::mem::forget(own);
        }
    }
}

impl Published {
    /// Takes its name away again; what stood there before stands there once more. Where that cannot be, nothing is removed:
    /// what stood there may be all that is left of a program. Gives the name.
    pub fn withdrawn(mut self) -> PathBuf {
        if let Some(other) = self.other.take() {
            let exchanged = other.0 != self.path;
            let back =
                exchanged && (other.exchange(&self.path).is_ok() || std::fs::rename(&other.0, &self.path).is_ok());
            let first = !exchanged && self.replaced.is_none();
            if !(back || first) {
                std::mem::forget(other);
            }
        }
        self.path.clone()
    }

    /// Writes into room that was left in it.
    pub fn fill(&self, late: Late, bytes: &[u8]) -> Result<(), Error> {
        let fault = |call: &str, e: io::Error| Error::io(call, self.path.display(), e);
        let frame = late.frame(bytes).ok_or_else(|| fault("write", abi::Errno::ENOSPC.into()))?;
        point().map_err(|e| fault("write", e.into()))?;
        self.file.write_all_at(&frame, late.offset).map_err(|e| fault("write", e))?;
        point().map_err(|e| fault("fdatasync", e.into()))?;
        self.file.sync_data().map_err(|e| fault("fdatasync", e))
    }
}

/// A name that is removed when it is dropped.
#[derive(Debug)]
pub struct Beside(PathBuf);

impl Beside {
    /// What has this name gets the other one. What had that stands here now, where the file system can exchange names, and is
    /// gone otherwise: then the other name is given.
    fn take_place(self, target: &Path) -> Result<Beside, Error> {
        let fault = |e| Error::io("rename", target.display(), e);
        point().map_err(|e| fault(e.into()))?;
        // Of what may be put there meanwhile a directory would go with it.
        let replaceable = target.symlink_metadata().is_ok_and(|m| m.is_file() || m.is_symlink());
        if replaceable && self.exchange(target).is_ok() {
            return Ok(self);
        }
        std::fs::rename(&self.0, target).map_err(fault)?;
        std::mem::forget(self);
        Ok(Beside(target.to_path_buf()))
    }

    fn exchange(&self, target: &Path) -> rustix::io::Result<()> {
        renameat_with(CWD, &self.0, CWD, target, RenameFlags::EXCHANGE)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Of so many bytes the disk is told at once: it writes the first ones while the last are yet to come.
const AT_ONCE: u64 = 4 << 20;

/// errno(3).
const EINVAL: i32 = 22;
/// Likewise.
const ENAMETOOLONG: i32 = 36;

/// Owner only: an image holds memory, and is executed.
const MODE: u32 = 0o700;

/// The mode, whatever the umask says.
fn owned(file: File) -> Result<File, Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
    file.set_permissions(mode).map_err(|e| Error::io("fchmod", "the image", e))?;
    Ok(file)
}

fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(d) if !d.as_os_str().is_empty() => d,
        _ => Path::new("."),
    }
}

/// A hidden name that is free: always short, as that of the target may be as long as the file system knows any.
fn beside(target: &Path) -> PathBuf {
    let path = |n: u32| directory(target).join(format!(".cryopid-{}-{n}.part", std::process::id()));
    // Where ids are few, as in a container, one that was killed may have had ours.
    (0..1000).map(path).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| path(0))
}

impl Output {
    /// An output for `target`; `-` is standard output. What stands at the target may only be a regular file: a pipe or device
    /// that somebody put there would get the memory of the program.
    pub fn create(target: &Path) -> Result<Output, Error> {
        if target == Path::new("-") {
            return Output::standard();
        }
        match std::fs::metadata(target) {
            Ok(m) if !m.is_file() => {
                let (why, remedy) =
                    ("what stands there is no regular file", "name another place, or - for standard output");
                return Err(Error::refuse(target.display().to_string(), why, remedy));
            }
            // An unnamed file would find that out when it is to get the name.
            Err(e) if e.raw_os_error() == Some(ENAMETOOLONG) => return Err(Error::io("open", target.display(), e)),
            _ => {}
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let target = target.to_path_buf();
        match rustix::fs::openat(CWD, directory(&target), flags, Mode::from_raw_mode(MODE)) {
            Ok(fd) => Ok(Output::file(owned(fd.into())?, target, None)),
            // open(2): file systems without unnamed files say EOPNOTSUPP; kernels and network file systems also EISDIR, EINVAL.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                Output::named(target)
            }
            Err(e) => Err(Error::io("open", target.display(), io::Error::from(e))),
        }
    }

    /// Standard output, if an image that goes there can be had from there again.
    fn standard() -> Result<Output, Error> {
        let fault = |e: rustix::io::Errno| Error::io("dup", "standard output", io::Error::from(e));
        let out = File::from(rustix::io::dup(rustix::stdio::stdout()).map_err(fault)?);
        let seen = out.metadata().map_err(|e| Error::io("fstat", "standard output", e))?;
        let why = match std::os::unix::fs::FileTypeExt::is_char_device(&seen.file_type()) {
            false => return Ok(Output::Stream(out)),
            // Where it is closed, the standard library has opened /dev/null in its place.
            true if std::os::unix::fs::MetadataExt::rdev(&seen) == rustix::fs::makedev(1, 3) => {
                "it is closed, or leads to /dev/null"
            }
            true => "it is a terminal or a device",
        };
        Err(Error::refuse("standard output", why, "send it to a file, or into a pipe"))
    }

    fn named(target: PathBuf) -> Result<Output, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = beside(&target);
        let file = File::options().read(true).write(true).create_new(true).mode(MODE).open(&path);
        let file = file.map_err(|e| Error::io("open", path.display(), e))?;
        let beside = Beside(path);
        Ok(Output::file(owned(file)?, target, Some(beside)))
    }

    fn file(file: File, target: PathBuf, beside: Option<Beside>) -> Output {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let replaced = rustix::fs::openat(CWD, &target, flags, Mode::empty()).ok();
        Output::File { file, target, beside, replaced, new: 0..0 }
    }

    /// Asks the file system for room behind what is written, where it knows how: then the tree need not wait for it.
    pub fn reserve(&self, bytes: u64) {
        if let Output::File { file, .. } = self
            && let Ok(written) = file.metadata()
        {
            // A disk that is full says so when the bytes are written, if they are really as many.
            let _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, written.len(), bytes);
        }
    }

    /// Gives back what was reserved and not written.
    pub fn release(&self) -> Result<(), Error> {
        let Output::File { file, target, .. } = self else { return Ok(()) };
        let fault = |e| Error::io("ftruncate", target.display(), e);
        file.set_len(file.metadata().map_err(fault)?.len()).map_err(fault)
    }

    /// The file that was written, to be read again; a stream cannot be.
    pub fn written(&self) -> Option<&File> {
        match self {
            Output::File { file, .. } => Some(file),
            Output::Stream(_) => None,
        }
    }

    /// A stream has no name, but where it is a file it is made durable.
    fn synced(file: &File) -> Result<Option<Published>, Error> {
        match file.sync_all() {
            // fsync(2): what cannot be synchronised, as a pipe, says so.
            Err(e) if e.raw_os_error() != Some(EINVAL) => Err(Error::io("fsync", "standard output", e)),
            _ => Ok(None),
        }
    }

    /// Makes it durable, and gives it its name. What stood there before is replaced at once, or not at all.
    pub fn publish(self) -> Result<Option<Published>, Error> {
        let (file, target, named, replaced) = match self {
            Output::File { file, target, beside, replaced, .. } => (file, target, beside, replaced),
            Output::Stream(file) => return Output::synced(&file),
        };
        let fault = |call: &str, e: io::Error| Error::io(call, target.display(), e);
        point().map_err(|e| fault("fsync", e.into()))?;
        file.sync_all().map_err(|e| fault("fsync", e))?;
        let quiet = Quiet::new();
        let named = match named {
            None if target.symlink_metadata().is_err() => link(&file, target.clone())?,
            None => link(&file, beside(&target))?,
            Some(named) => named,
        };
        let other = if named.0 == target { named } else { named.take_place(&target)? };
        let published = Published { file, path: target, other: Some(other), replaced, _quiet: quiet };
        let kept =
            point().map_err(io::Error::from).and_then(|()| keep_name(&published.file, directory(&published.path)));
        match kept {
            Ok(()) => Ok(Some(published)),
            Err(e) => Err(Error::io("fsync", published.withdrawn().display(), e)),
        }
    }
}

/// Makes durable that a file has its name in a directory. What cannot be synchronised (fsync(2), EINVAL) has no way to fail
/// later either; where a directory may be written and not read, its whole file system is.
fn keep_name(file: &File, directory: &Path) -> io::Result<()> {
    let Ok(directory) = File::open(directory) else { return Ok(rustix::fs::syncfs(file)?) };
    match directory.sync_all() {
        Err(e) if e.raw_os_error() != Some(EINVAL) => Err(e),
        _ => Ok(()),
    }
}

/// Gives an unnamed file a name (open(2), O_TMPFILE): its own, or, as linkat(2) replaces nothing, one beside it.
fn link(file: &File, path: PathBuf) -> Result<Beside, Error> {
    point().map_err(|e| Error::io("linkat", path.display(), e))?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW)
        .map_err(|e| Error::io("linkat", path.display(), io::Error::from(e)))?;
    Ok(Beside(path))
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (file, new) = match self {
            Output::Stream(file) => return file.write(buf),
            Output::File { file, new, .. } => (file, new),
        };
        let written = file.write(buf)?;
        new.end += written as u64;
        if new.end - new.start >= AT_ONCE {
            begin_writeback(file, new.clone());
            new.start = new.end;
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
