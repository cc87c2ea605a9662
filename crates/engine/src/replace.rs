//! Files of the host whose contents are exchanged for saved ones, until it is known that the tree has come back. An heir
//! exchanges them back, also when the thaw is killed.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracee::fault::point;
use tracee::{Heir, Legacy};

/// The files that were replaced. What stood there before stands there again when this is dropped.
pub(crate) struct Replaced {
    heir: Heir,
    names: Names,
}

/// How files beside their targets are called.
#[derive(Clone, Copy)]
struct Names {
    pid: u32,
}

impl Names {
    fn beside(self, target: &Path) -> PathBuf {
        beside(target, self.pid)
    }
}

/// What is put aside while this process has its place, or is to take it.
pub(crate) fn beside(target: &Path, pid: u32) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{pid}.cryopid"))
}

/// A file by which it is told from another that stands under the same name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Identity {
    pub(crate) fn of(m: &fs::Metadata) -> Identity {
        Identity { dev: m.dev(), ino: m.ino() }
    }

    pub(crate) fn at(path: &Path) -> Option<Identity> {
        fs::symlink_metadata(path).ok().map(|m| Identity::of(&m))
    }

    /// What an heir is told of it, and of the path that it has or is to have.
    pub(crate) fn word(self, path: &Path) -> Vec<u8> {
        [&self.dev.to_ne_bytes(), &self.ino.to_ne_bytes(), path.as_os_str().as_bytes()].concat()
    }

    /// What an heir was told.
    pub(crate) fn heard(word: &[u8]) -> (Identity, &Path) {
        let number = |at: usize| word[at..at + 8].try_into().map(u64::from_ne_bytes).expect("eight bytes");
        (Identity { dev: number(0), ino: number(8) }, Path::new(OsStr::from_bytes(&word[16..])))
    }
}

impl Replaced {
    pub(crate) fn new() -> Result<Replaced, abi::Fault> {
        let names = Names { pid: std::process::id() };
        let heir = Heir::new(move |legacy, told| told.iter().rev().for_each(|t| end(legacy, t, names)))?;
        Ok(Replaced { heir, names })
    }

    /// Puts a new file in the place of `target`.
    pub(crate) fn replace(&mut self, target: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        point()?;
        let beside = self.names.beside(target);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        let new = Identity::of(&file.metadata()?);
        self.heir.tell(&new.word(target))?;
        point()?;
        fill(&file)?;
        point()?;
        exchange(&beside, target)
    }

    /// The saved contents stay.
    pub(crate) fn keep(self) {
        self.heir.keep();
    }
}

/// The file beside takes the place of the target, and the target, if there is one, its place.
fn exchange(beside: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, beside, CWD, target, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::NOENT) => fs::rename(beside, target),
        other => Ok(other?),
    }
}

/// In the heir: however far it came.
fn end(legacy: Legacy, told: &[u8], names: Names) {
    let (new, target) = Identity::heard(told);
    let beside = names.beside(target);
    let replaced = Identity::at(target) == Some(new);
    let _ = match (legacy, beside.exists()) {
        (Legacy::Undone, false) if replaced => fs::remove_file(target),
        (Legacy::Undone, true) if replaced => exchange(&beside, target).and_then(|()| fs::remove_file(&beside)),
        _ => fs::remove_file(&beside),
    };
}
