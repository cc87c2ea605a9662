//! Names of sockets in the file system. A socket takes the name that it had by bind(2), to which there must be nothing: a socket
//! that nobody has any more is put aside. An heir removes what was made, and puts back what was there, when the thaw fails, also
//! when it is killed.

use crate::replace::Identity;
use abi::consts::socket::AF_UNIX;
use abi::{Arg, Call, Sys};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tracee::fault::point;
use tracee::{Heir, Legacy, here};

/// The names that were given so far. When this is dropped, what stood there stands there again.
pub(crate) struct Bound {
    heir: Heir,
    pid: u32,
}

/// What the file of a name is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) mode: u32,
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether there is one at all, once the socket has the name.
    pub(crate) stays: bool,
}

/// Told before a name is taken: the path.
const TAKEN: u8 = 0;
/// Told when the socket has it: what has the name now, and the path.
const GIVEN: u8 = 1;

/// What stood under the name.
fn beside(path: &Path, pid: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{pid}.cryopid"))
}

impl Bound {
    pub(crate) fn new() -> Result<Bound, abi::Fault> {
        let pid = std::process::id();
        let heir = Heir::new(move |legacy, told| told.iter().rev().for_each(|word| end(legacy, word, pid)))?;
        Ok(Bound { heir, pid })
    }

    /// Gives the socket of that number the name.
    pub(crate) fn bind(&mut self, number: u64, name: &[u8], path: &Path, looks: Looks) -> io::Result<()> {
        point()?;
        self.heir.tell(&[&[TAKEN], path.as_os_str().as_bytes()].concat())?;
        let beside = beside(path, self.pid);
        match fs::rename(path, &beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => point()?,
        }
        // The file gets the permissions of the socket (net/unix/af_unix.c, `unix_bind_bsd`): none, until the heir knows it.
        change_mode(number, 0)?;
        bind_from(number, name, path)?;
        point()?;
        let made = Identity::at(path).ok_or(io::ErrorKind::NotFound)?;
        self.heir.tell(&[&[GIVEN], &made.word(path)[..]].concat())?;
        change_mode(number, 0o777)?;
        if !looks.stays {
            fs::remove_file(path)?;
            return if beside.exists() { fs::rename(&beside, path) } else { Ok(()) };
        }
        if let Some((uid, gid)) = looks.owner {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(path, Permissions::from_mode(looks.mode & 0o7777))
    }

    /// The names stay.
    pub(crate) fn keep(self) {
        self.heir.keep();
    }
}

fn made(sys: Sys, args: Vec<Arg>) -> io::Result<()> {
    here::call(&Call::new(sys, args)).result.map(drop).map_err(|e| io::Error::from_raw_os_error(e.0))
}

fn change_mode(number: u64, mode: u64) -> io::Result<()> {
    made(Sys::Fchmod, vec![Arg::Int(number), Arg::Int(mode)])
}

/// From the directory from which the name leads to the path.
fn bind_from(number: u64, name: &[u8], path: &Path) -> io::Result<()> {
    let directory = path.as_os_str().as_bytes().strip_suffix(name).filter(|directory| !directory.is_empty());
    let Some(directory) = directory else { return bind(number, name) };
    let before = fs::File::open(".")?;
    std::env::set_current_dir(OsStr::from_bytes(directory))?;
    let bound = bind(number, name);
    rustix::process::fchdir(&before)?;
    bound
}

/// `bind`, to a `struct sockaddr_un`.
fn bind(number: u64, name: &[u8]) -> io::Result<()> {
    let address = [&(AF_UNIX as u16).to_ne_bytes()[..], name, b"\0"].concat();
    let len = Arg::Int(address.len() as u64);
    made(Sys::Bind, vec![Arg::Int(number), Arg::Bytes(address), len])
}

/// In the heir: however far it came.
fn end(legacy: Legacy, word: &[u8], pid: u32) {
    let Some((kind, word)) = word.split_first() else { return };
    let (given, path) = if *kind == GIVEN {
        let (made, path) = Identity::heard(word);
        (Some(made), path)
    } else {
        (None, Path::new(OsStr::from_bytes(word)))
    };
    let beside = beside(path, pid);
    let is_ours = || match given {
        Some(made) => Identity::at(path) == Some(made),
        None => fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket() && m.mode() & 0o7777 == 0),
    };
    let _ = match legacy {
        Legacy::Kept => fs::remove_file(&beside),
        Legacy::Undone if beside.exists() => fs::rename(&beside, path),
        Legacy::Undone if is_ours() => fs::remove_file(path),
        Legacy::Undone => Ok(()),
    };
}
