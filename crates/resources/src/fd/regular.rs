//! Regular file: a description with an offset and status flags.
//!
//! - seen as    a path, `st_mode` S_IFREG
//! - captured   offset and flags from fdinfo; the contents when it has no name, or with `--with-files`
//! - recreated  `openat` with the same flags, `lseek`
//! - refused    a lock on it; O_ASYNC; a file that is gone on the host, or by policy one that has changed
//! - not kept   nothing

use super::{Kind, S_IFREG, Seen, common_refusals, file::File, file::Standing, seek};
use crate::{At, Capturing, Planning, Resource, Trouble};
use abi::{Arg, Call, Sys};
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
}

/// Bytes up to which a file that is open for writing is kept unasked.
const SMALL: i64 = 1 << 20;

impl Resource for Regular {
    const NAME: &'static str = "regular";
}

/// The file behind a description, with its contents if they are to be kept.
fn file(seen: &Seen, from: &mut Capturing<'_>) -> Result<u32, Trouble> {
    let keep = from.keep.files;
    let probe = from.probe;
    let stat = seen.stat;
    let looked = File::see(&seen.link.0, stat.ino, Some(stat), from)?;
    let id = from.files.id(stat.dev, stat.ino, looked);
    let known = from.files.list.get_mut(&id).expect("it was put there");
    // A small file that the program writes is kept unasked: swap files and the like often go with the program.
    let small = stat.size <= SMALL && seen.flags() & super::flags::ACCMODE != 0;
    if known.contents.is_none() && (known.standing == Standing::Gone || keep || small) {
        known.size = stat.size as u64;
        known.contents = Some(probe.save_link(&seen.name(), known.size)?);
    }
    Ok(id)
}

impl Kind for Regular {
    fn knows(seen: &Seen) -> bool {
        // Namespaces and processes (fs/nsfs.c, fs/pidfs.c) are regular files by their mode, but have no path.
        seen.file_type() == S_IFREG && seen.link.0.starts_with(b"/") && !seen.names_only()
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
        if of_a_process(&seen.link.0) {
            let remedy = "let the program close it; this is not supported yet";
            return Err(seen.refuse("it tells of a process of this host", remedy).into());
        }
        let file = file(seen, from)?;
        if let Some(refusal) = other_name(seen, &from.files.list[&file]).or(sealed(seen, from)?) {
            return Err(refusal.into());
        }
        Ok(Regular { file, flags: seen.flags(), offset: seen.info.pos })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        to.file(self.file).open_as(self.file, descr, self.flags, to);
        seek(Self::NAME, descr, self.offset, to);
    }

    fn file(&self) -> Option<u32> {
        Some(self.file)
    }
}

/// A file whose name is gone while another one, outside of the tree, is not: what is written into it would be seen no more.
fn other_name(seen: &Seen, file: &File) -> Option<Refusal> {
    let why = "the name by which it was opened is gone, and another name of it is not";
    (file.is_gone() && seen.stat.nlink > 0).then(|| seen.refuse(why, "put the old name back: ln /proc/PID/fd/N NAME"))
}

/// A file in memory can be sealed against change (memfd_create(2)); one that never can has F_SEAL_SEAL only.
fn sealed(seen: &Seen, from: &Capturing<'_>) -> Result<Option<Refusal>, Trouble> {
    const F_GET_SEALS: u64 = 1034;
    const F_SEAL_SEAL: u64 = 1;
    if !seen.link.0.starts_with(b"/memfd:") {
        return Ok(None);
    }
    let asked = Call::new(Sys::Fcntl, [Arg::Int(seen.fd.into()), Arg::Int(F_GET_SEALS)]);
    let seals = from.probe.calls(&[asked])?[0].result;
    let why = "it is a file in memory that is or can be sealed";
    Ok((seals != Ok(F_SEAL_SEAL)).then(|| seen.refuse(why, "this is not supported yet")))
}

/// `/proc/123/…`: it would lead to another process, or to none, after the thaw.
fn of_a_process(path: &[u8]) -> bool {
    path.strip_prefix(b"/proc/").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}
