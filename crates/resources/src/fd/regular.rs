//! Regular file: a description with an offset and status flags.
//!
//! - seen as    a path, `st_mode` S_IFREG
//! - captured   offset and flags from fdinfo; the contents when it has no name, when it is open for writing and has at most
//!   1 MiB, or with `--with-files`
//! - recreated  `openat` with the same flags, `lseek`
//! - refused    the contents of one with a lease that this would break; a file without a name that a process outside of the tree has too, if one of them
//!   writes; one whose name is gone while another name of it, in another directory, is not; one that another mount hides; a file
//!   that is gone on the host, or by policy one that has changed
//! - not kept   an offset that moves with that of a process outside of the tree: the user is told of relatives, and of those that have one
//!   of /proc in common, in a new pid namespace (see `procfile`); extended attributes of one without a name: told. Blocks
//!   that such a one had and did not use (fallocate(2)); that it was made without one (O_TMPFILE), which its flags tell, or
//!   made as it was opened (F_CREATED_QUERY)

use super::listened;
use super::{Kind, S_IFREG, Seen, common_refusals, file::File, file::Standing, memfd::Memfd};
use super::{note_shared_position, place, procfile, seek};
use crate::{At, Capturing, Holder, Planning, Resource, Text, Trouble};
use abi::Errno;
use minicbor::{Decode, Encode};
use plan::{Descr, Refusal};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Regular {
    /// The id of the file.
    #[n(0)]
    pub file: u32,
    /// Access mode and status flags (open(2)).
    #[n(1)]
    pub flags: u32,
    /// The offset in bytes.
    #[n(2)]
    pub offset: u64,
    /// See [`place::is_in_proc`].
    #[n(3)]
    #[cbor(default)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_proc: bool,
}

/// Bytes up to which a file that the program has for writing is kept unasked.
pub(crate) const SMALL: i64 = 1 << 20;

impl Resource for Regular {
    const NAME: &'static str = "regular";
}

/// The file behind a description, with its contents if they are to be kept.
pub(super) fn file(seen: &Seen, from: &mut Capturing<'_>) -> Result<u32, Trouble> {
    let keep = from.keep.files;
    let probe = from.probe;
    let stat = seen.stat;
    let id = from.file((stat.dev, stat.ino), &seen.link.0, |_| Some(stat))?;
    let shown_only = from.files.is_shown_only(id);
    let known = from.files.list.get_mut(&id).expect("it was put there");
    let must = known.standing == Standing::Gone || keep;
    let shared = known.is_shared_memory();
    // A small file that the program writes is kept unasked: swap files and the like often go with the program.
    let small = stat.size <= SMALL && seen.flags() & super::flags::ACCMODE != 0;
    let wanted = (known.contents.is_none() || shown_only) && (must || small || shared);
    let heard = wanted && probe.hears_of(&seen.link.0, Some(stat));
    if heard && !must {
        from.note(seen.title(), listened::UNREAD);
        return Ok(id);
    }
    if wanted {
        known.size = stat.size as u64;
        match probe.save_link(&seen.name(), known.size) {
            // It was opened by somebody else, and given to the program.
            Err(fault) if fault.errno == Errno::EACCES && !must => {
                from.note(seen.title(), "you may not open it yourself: thaw it as root");
            }
            Err(fault) if fault.errno == Errno::EACCES => {
                let why = "it has no name, and its contents you may not read yourself";
                return Err(seen.refuse(why, "freeze it as root").into());
            }
            // Whoever opens it, to read it, breaks a lease of the program (fcntl(2)).
            Err(fault) if fault.errno == Errno::EAGAIN && !must => {
                let why = "its contents are not in the image: to read them breaks a lease of the program, or is for it to allow (fanotify)";
                from.note(seen.title(), why);
            }
            Err(fault) if fault.errno == Errno::EAGAIN => {
                let why = "to read its contents breaks a lease of the program, or is for it to allow (fanotify)";
                return Err(seen.refuse(why, "let the program give that up first").into());
            }
            saved => {
                known.contents = Some(saved?);
                let is_gone = known.standing == Standing::Gone;
                let attributes = if is_gone { probe.attributes(&seen.name()) } else { Vec::new() };
                known.mode = without_list(known.mode, &attributes);
                from.files.is_whole(id);
                note_attributes(seen, &attributes, from);
            }
        }
    }
    if heard {
        from.note(seen.title(), listened::READ);
    }
    Ok(id)
}

/// Its access control list (acl(5)).
const LIST: &[u8] = b"system.posix_acl_access";

/// Tells of attributes that are lost. Those of the security of the host are given by the host.
fn note_attributes(seen: &Seen, attributes: &[(Vec<u8>, Vec<u8>)], from: &mut Capturing<'_>) {
    let names = attributes.iter().map(|(name, _)| name).filter(|name| !name.starts_with(b"security."));
    let names: Vec<String> = names.map(|name| name.escape_ascii().to_string()).collect();
    if !names.is_empty() {
        let why = format!("it has no name, and its extended attributes are lost: {}", names.join(", "));
        from.note(seen.title(), why);
    }
}

/// The permission bits where there is no list: with one, those of the group are the most that anybody in the list has, and the group has
/// what the list gives to it (linux/posix_acl_xattr.h: behind a version of four bytes, entries of a tag, permissions, and an id).
fn without_list(mode: u32, attributes: &[(Vec<u8>, Vec<u8>)]) -> u32 {
    const GROUP: u16 = 4;
    let Some((_, list)) = attributes.iter().find(|(name, _)| name == LIST) else { return mode };
    let number = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let group = entries.filter(|entry| number(entry, 0) == GROUP).map(|entry| u32::from(number(entry, 2)) & 7).next();
    mode & !(0o070 & !(group.unwrap_or(0) << 3))
}

impl Kind for Regular {
    fn knows(seen: &Seen) -> bool {
        // Namespaces and processes (fs/nsfs.c, fs/pidfs.c) are regular files by their mode, but have no path.
        let has_path = seen.link.0.starts_with(b"/") && !Memfd::knows(seen);
        seen.file_type() == S_IFREG && has_path && !seen.names_only()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let refusals = common_refusals(seen);
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        if seen.link.0.starts_with(b"/secretmem") {
            return Err(seen
                .refuse("it is secret memory, which nobody else can read", "let the program close it")
                .into());
        }
        let file = file(seen, from)?;
        let known = from.files.list[&file].clone();
        if let Some(refusal) = other_name(seen, &known).or(held_outside(seen, &known, from)?) {
            return Err(refusal.into());
        }
        let shown = Text(seen.link.0.clone());
        if known.standing == Standing::Named && known.path != shown {
            from.note(format!("fd {} ({shown})", seen.fd), format!("it goes by its other name: {}", known.path));
        }
        note_shared_position(seen, from)?;
        if known.standing == Standing::Named {
            place::note_closed_file(seen.title(), &known.path, place::access_of(seen.flags()), from);
        }
        let in_proc = place::is_in_proc(seen, from)?;
        // What was made without a name, and has one by now, is opened by that.
        let unmade = if known.standing == Standing::Named { super::flags::TMPFILE } else { 0 };
        Ok(Regular { file, flags: seen.flags() & !unmade, offset: seen.info.pos, in_proc })
    }

    fn is_in_proc(&self) -> bool {
        self.in_proc
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        let file = to.file(self.file);
        // Where it cannot be opened, that is refused.
        if self.in_proc
            && file.may_be_opened(self.flags, to)
            && procfile::opens_each(Self::NAME, descr, (&file.path, self.flags, self.offset), to)
        {
            return;
        }
        file.open_as(self.file, descr, self.flags, to);
        seek(Self::NAME, descr, self.offset, to);
    }

    fn file(&self) -> Option<u32> {
        Some(self.file)
    }
}

/// A file whose name is gone, or leads elsewhere, while it has one: what is written into it would be seen no more.
fn other_name(seen: &Seen, file: &File) -> Option<Refusal> {
    // The kernel says of a name that is gone that it is (fs/d_path.c).
    let (why, remedy) = match seen.link.0.ends_with(b" (deleted)") {
        true => (
            "the name by which it was opened is gone, and another name of it is not",
            "put the old name back: ln /proc/PID/fd/N NAME",
        ),
        false => ("another mount hides the place where it is", "unmount that first"),
    };
    (file.is_gone() && seen.stat.nlink > 0).then(|| seen.refuse(why, remedy))
}

/// A file without a name becomes a file of the program's own: what it or a process outside writes, the other sees no more.
pub(super) fn held_outside(seen: &Seen, file: &File, from: &Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    if !file.is_gone() || file.is_fixed() {
        return Ok(None);
    }
    let writes = seen.flags() & super::flags::ACCMODE != 0;
    let others = from.probe.other_users(seen.stat.dev, seen.stat.ino, &seen.link.0)?;
    let refuse = |other: &Holder| {
        let why = format!("it has no name, and process {}, outside of the tree, has it too", other.pid);
        seen.refuse(why, "end that process first")
    };
    Ok(others.iter().find(|other| writes || other.writes).map(refuse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_list_the_group_has_what_the_list_gives_it() {
        let entry = |tag: u16, perm: u16| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &[0xff; 4]].concat();
        // The owner, another user, the group, the most that both may have, and the others.
        let all = [(1, 6), (2, 7), (4, 0), (16, 7), (32, 4)].map(|(tag, perm)| entry(tag, perm)).concat();
        let list = |name: &[u8]| vec![(name.to_vec(), [&2u32.to_le_bytes()[..], &all].concat())];
        assert_eq!(without_list(0o100_674, &list(LIST)), 0o100_604);
        assert_eq!(without_list(0o100_674, &list(b"user.x")), 0o100_674);
        assert_eq!(without_list(0o100_674, &[(LIST.to_vec(), vec![])]), 0o100_604, "one that is not understood");
    }
}
