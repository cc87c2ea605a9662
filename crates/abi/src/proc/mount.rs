//! `mountinfo`: the mounts that a process sees.

use super::ParseError;
use super::text::{lines, split_once, unescape_octal, unsigned};

/// One mount (proc_pid_mountinfo(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Its number, as `fdinfo` tells it too.
    pub id: u32,
    /// The number of the mount that it stands on.
    pub parent: u32,
    /// The `st_dev` of its files, major and minor; btrfs and overlays tell another in stat(2).
    pub dev: (u32, u32),
    /// Which directory of the filesystem it shows.
    pub root: Vec<u8>,
    /// Where, seen from the root of the process.
    pub mount_point: Vec<u8>,
    /// Of this mount, with commas.
    pub options: Vec<u8>,
    /// Propagation: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`.
    pub tags: Vec<Vec<u8>>,
    /// `ext4`, `fuse.sshfs`…
    pub fs_type: Vec<u8>,
    /// The device or what the filesystem has for one.
    pub source: Vec<u8>,
    /// Of the filesystem, with commas; escapes are kept, as a comma in a value is one.
    pub super_options: Vec<u8>,
}

/// Reads /proc/PID/mountinfo.
pub fn mountinfo(text: &[u8]) -> Result<Vec<Mount>, ParseError> {
    let mount = |line| mount(line).ok_or_else(|| ParseError::line("mountinfo", line));
    lines(text).map(mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount(line: &[u8]) -> Option<Mount> {
    // The source may be empty, so two blanks are not one.
    let mut words = line.split(|byte| *byte == b' ');
    let id = unsigned(words.next()?)?;
    let parent = unsigned(words.next()?)?;
    let (major, minor) = split_once(words.next()?, b':')?;
    let root = path(words.next()?);
    let mount_point = path(words.next()?);
    let options = words.next()?.to_vec();
    let tags: Vec<_> = words.by_ref().take_while(|word| *word != b"-").map(<[u8]>::to_vec).collect();
    Some(Mount {
        id,
        parent,
        dev: (unsigned(major)?, unsigned(minor)?),
        root,
        mount_point,
        options,
        tags,
        fs_type: path(words.next()?),
        source: path(words.next()?),
        super_options: words.next()?.to_vec(),
    })
}

/// Undoes the escapes of fs/proc_namespace.c: blank, tab, newline, backslash, and `#` in names.
fn path(text: &[u8]) -> Vec<u8> {
    unescape_octal(text, b" \t\n\\#")
}
