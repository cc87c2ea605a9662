//! Names of sockets in the file system. A socket takes the name that it had by bind(2), to which there must be nothing: a socket
//! that nobody has any more is put aside. An heir removes what was made, and puts back what was there, when the thaw fails, also
//! when it is killed.

use crate::replace::{Identity, beside};
use abi::diag::local_address;
use abi::{Arg, Call, Errno, Sys};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use tracee::fault::point;
use tracee::{Heir, Legacy, here};

/// The names that were given so far. When this is dropped, what stood there stands there again.
pub(crate) struct Bound {
    heir: Heir,
    pid: u32,
    given: Vec<Identity>,
    /// The files of names that do not stay, by the numbers of their sockets.
    gone: HashMap<u64, OwnedFd>,
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
/// Told before a directory is made in which a name stands for a moment: its path.
const AROUND: u8 = 2;

impl Bound {
    pub(crate) fn new() -> Result<Bound, abi::Fault> {
        let pid = std::process::id();
        let heir = Heir::new(move |legacy, told| told.iter().rev().for_each(|word| end(legacy, word, pid)))?;
        Ok(Bound { heir, pid, given: Vec::new(), gone: HashMap::new() })
    }

    /// Gives the socket of that number the name.
    pub(crate) fn bind(&mut self, number: u64, name: &[u8], path: &Path, looks: Looks) -> io::Result<()> {
        if looks.stays {
            return self.bind_there(number, name, path, looks);
        }
        let path = if path.is_absolute() { path.to_owned() } else { self.own(path) };
        let mut made = Vec::new();
        let bound = self.make_around(&path, &mut made).and_then(|()| self.bind_there(number, name, &path, looks));
        made.iter().rev().try_for_each(fs::remove_dir).and(bound)
    }

    /// A relative name is the same in any directory: in one of ours, from which as many lead up as it needs.
    fn own(&self, path: &Path) -> PathBuf {
        let ups = path.components().filter(|part| *part == Component::ParentDir).count();
        let mut own = std::env::temp_dir().join(format!(".{}.cryopid", self.pid));
        own.extend((0..ups).map(|_| "up"));
        own.join(path)
    }

    /// Makes the directories through which a path leads, as far as they are not there.
    fn make_around(&mut self, path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
        let mut at = PathBuf::new();
        for part in path.parent().unwrap_or(path).components() {
            at.push(part);
            if !at.exists() {
                self.heir.tell(&[&[AROUND], at.as_os_str().as_bytes()].concat())?;
                point()?;
                fs::create_dir(&at)?;
                made.push(at.clone());
            }
        }
        Ok(())
    }

    fn bind_there(&mut self, number: u64, name: &[u8], path: &Path, looks: Looks) -> io::Result<()> {
        point()?;
        let is_ours = Identity::at(path).is_some_and(|there| self.given.contains(&there));
        let beside = beside(path, self.pid);
        if !is_ours && is_live(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if Identity::at(&beside).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.heir.tell(&[&[TAKEN], path.as_os_str().as_bytes()].concat())?;
        match fs::rename(path, &beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => point()?,
        }
        // The file gets the permissions of the socket (net/unix/af_unix.c, `unix_bind_bsd`): none, until the heir knows it.
        change_mode(number, 0)?;
        from_there(name, path, || addressed(Sys::Bind, number, name))?;
        point()?;
        let made = Identity::at(path).ok_or(io::ErrorKind::NotFound)?;
        self.heir.tell(&[&[GIVEN], &made.word(path)[..]].concat())?;
        self.given.push(made);
        change_mode(number, 0o777)?;
        if !looks.stays {
            self.gone.insert(number, open_to_all(path, made)?);
            fs::remove_file(path)?;
            return if beside.exists() { fs::rename(&beside, path) } else { Ok(()) };
        }
        give_looks(path, made, looks)
    }

    /// What leads to the file of a name that did not stay, of the socket of that number.
    pub(crate) fn link_of(&self, number: u64) -> Option<PathBuf> {
        self.gone.get(&number).map(link)
    }

    /// The names stay.
    pub(crate) fn keep(self) {
        self.heir.keep();
    }
}

fn link(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The very file: whoever may write into its directory may exchange it meanwhile.
fn open(path: &Path, made: Identity) -> io::Result<OwnedFd> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if Identity::of(&fs::metadata(link(&file))?) != made {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file)
}

/// The same, to which anybody may connect who has it.
fn open_to_all(path: &Path, made: Identity) -> io::Result<OwnedFd> {
    let file = open(path, made)?;
    fs::set_permissions(link(&file), Permissions::from_mode(0o777))?;
    Ok(file)
}

/// Owner and permissions.
fn give_looks(path: &Path, made: Identity, looks: Looks) -> io::Result<()> {
    let file = open(path, made)?;
    let link = link(&file);
    if let Some((uid, gid)) = looks.owner {
        std::os::unix::fs::chown(&link, Some(uid), Some(gid))?;
    }
    fs::set_permissions(&link, Permissions::from_mode(looks.mode & 0o7777))
}

fn made(sys: Sys, args: Vec<Arg>) -> io::Result<()> {
    here::call(&Call::new(sys, args)).result.map(drop).map_err(|e| io::Error::from_raw_os_error(e.0))
}

fn change_mode(number: u64, mode: u64) -> io::Result<()> {
    made(Sys::Fchmod, vec![Arg::Int(number), Arg::Int(mode)])
}

/// In the directory from which the name leads to the path. A name can be shorter than a path may be (unix(7)).
fn from_there<T>(name: &[u8], path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let directory = path.as_os_str().as_bytes().strip_suffix(name).filter(|directory| !directory.is_empty());
    let Some(directory) = directory else { return act() };
    let before = fs::File::open(".")?;
    std::env::set_current_dir(OsStr::from_bytes(directory))?;
    let done = act();
    rustix::process::fchdir(&before)?;
    done
}

/// `bind` or `connect`, to a `struct sockaddr_un`.
fn addressed(sys: Sys, number: u64, name: &[u8]) -> io::Result<()> {
    let address = local_address(name, false);
    let len = Arg::Int(address.len() as u64);
    made(sys, vec![Arg::Int(number), Arg::Bytes(address), len])
}

/// Does something with the address to which a name leads.
pub(crate) fn at_address<T>(name: &[u8], path: &Path, act: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
    match name.strip_prefix(b"\0") {
        Some(hidden) => act(&local_address(hidden, true)),
        None => from_there(name, path, || act(&local_address(name, false))),
    }
}

/// Connects the socket of that number to the name.
pub(crate) fn connect(number: u64, name: &[u8], path: &Path) -> io::Result<()> {
    from_there(name, path, || addressed(Sys::Connect, number, name))
}

/// Whether somebody has the socket that stands there, or may have it: in whatever namespace. One of messages is connected to it,
/// which one that takes connections does not feel.
pub(crate) fn is_live(path: &Path) -> bool {
    let Ok(asks) = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None) else { return true };
    let name = path.file_name().unwrap_or_default().as_bytes();
    let connected = connect(asks.as_raw_fd() as u64, name, path);
    let dead = [Errno::ECONNREFUSED.0, Errno::ENOENT.0];
    !connected.is_err_and(|e| e.raw_os_error().is_some_and(|e| dead.contains(&e)))
}

/// In the heir: however far it came.
fn end(legacy: Legacy, word: &[u8], pid: u32) {
    let Some((kind, word)) = word.split_first() else { return };
    if *kind == AROUND {
        let _ = fs::remove_dir(OsStr::from_bytes(word));
        return;
    }
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
