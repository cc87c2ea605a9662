//! Where an image goes: a file that appears under its name only when it is whole, or a stream.

use crate::Error;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tracee::fault::point;

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
    },
    /// Standard output or another stream: nothing can be undone there.
    Stream(File),
}

/// A name that is removed when it is dropped.
#[derive(Debug)]
pub struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

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

fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    directory(target).join(format!(".{name}.{}.part", std::process::id()))
}

impl Output {
    /// An output for `target`; `-` is standard output. What stands at the target may only be a regular file: a pipe or device
    /// that somebody put there would get the memory of the program.
    pub fn create(target: &Path) -> Result<Output, Error> {
        if target == Path::new("-") {
            return Output::standard();
        }
        if std::fs::symlink_metadata(target).is_ok_and(|m| !m.is_file() && !m.is_symlink()) {
            let why = "what stands there is no regular file";
            return Err(Error::refuse(
                target.display().to_string(),
                why,
                "name another place, or - for standard output",
            ));
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let target = target.to_path_buf();
        match rustix::fs::openat(CWD, directory(&target), flags, Mode::from_raw_mode(MODE)) {
            Ok(fd) => Ok(Output::File { file: owned(fd.into())?, target, beside: None }),
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
        let kind = out.metadata().map_err(|e| Error::io("fstat", "standard output", e))?.file_type();
        match std::os::unix::fs::FileTypeExt::is_char_device(&kind) {
            true => Err(Error::refuse(
                "standard output",
                "it is a terminal or a device",
                "send it to a file, or into a pipe",
            )),
            false => Ok(Output::Stream(out)),
        }
    }

    fn named(target: PathBuf) -> Result<Output, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = beside(&target);
        let file = File::options().read(true).write(true).create_new(true).mode(MODE).open(&path);
        let file = file.map_err(|e| Error::io("open", path.display(), e))?;
        let beside = Beside(path);
        Ok(Output::File { file: owned(file)?, target, beside: Some(beside) })
    }

    /// The file that was written, to be read again; a stream cannot be.
    pub fn written(&self) -> Option<&File> {
        match self {
            Output::File { file, .. } => Some(file),
            Output::Stream(_) => None,
        }
    }

    /// A stream has no name, but where it is a file it is made durable.
    fn flushed(self) -> Result<Option<PathBuf>, Error> {
        let Output::Stream(file) = self else { unreachable!("files are published") };
        match file.sync_all() {
            // fsync(2): what cannot be synchronised, as a pipe, says EINVAL.
            Err(e) if e.raw_os_error() != Some(22) => Err(Error::io("fsync", "standard output", e)),
            _ => Ok(None),
        }
    }

    /// Makes it durable, and gives it its name, which is told. What stood there before is replaced at once, or not at all.
    pub fn publish(self) -> Result<Option<PathBuf>, Error> {
        let Output::File { file, target, beside: named } = self else { return self.flushed() };
        let fault = |call: &str, e: io::Error| Error::io(call, target.display(), e);
        point().map_err(|e| fault("fsync", e.into()))?;
        file.sync_all().map_err(|e| fault("fsync", e))?;
        let named = match named {
            None if target.symlink_metadata().is_err() => link(&file, target.clone())?,
            None => link(&file, beside(&target))?,
            Some(named) => named,
        };
        if named.0 != target {
            point().map_err(|e| fault("rename", e.into()))?;
            std::fs::rename(&named.0, &target).map_err(|e| fault("rename", e))?;
        }
        let directory = File::open(directory(&target)).and_then(|d| d.sync_all());
        // The name is there; a directory that cannot be opened or synced is no reason to say that it is not.
        let _ = directory;
        std::mem::forget(named);
        Ok(Some(target))
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
        point()?;
        match self {
            Output::File { file, .. } | Output::Stream(file) => file.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
