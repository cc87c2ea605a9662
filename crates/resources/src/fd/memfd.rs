//! Memfd: a file in memory, with seals against change (memfd_create(2)).
//!
//! - seen as    `/memfd:NAME (deleted)`, `st_mode` S_IFREG; or `/dev/zero (deleted)`: shared memory that was opened
//!   (proc_pid_map_files(5))
//! - captured   offset and flags from fdinfo; of the file (`file.rs`) name, mode, time, contents without holes; seals by
//!   `fcntl(F_GET_SEALS)`, and of one that is only mapped or executed by its link, where whoever freezes may open that
//! - recreated  `memfd_create`, with MFD_HUGETLB where it was made of huge pages (`mm::huge`), contents, `fchmod`; its other
//!   descriptions by opening its link, `lseek`; `F_ADD_SEALS` when all of it and every area of it is there
//! - refused    one that a process outside of the tree has too, if one of them writes; executable ones where the host wants
//!   none (vm.memfd_noexec); one of huge pages, of which too few are free
//! - not kept   of one that is only mapped, seals, what no area shows, and where in its last page it ends, where whoever freezes may
//!   not open its link: the program may neither. An offset that moves with that of a process outside of the tree: the user is told of relatives

use super::file::{File, NO_FILE};
use super::regular::{Regular, file, held_outside};
use super::{Kind, S_IFREG, Seen, common_refusals, flags, note_shared_position, seek};
use crate::mm::huge;
use crate::task::written;
use crate::{At, Capturing, Description, Model, Planning, Resource, Trouble};
use abi::consts::fcntl::{
    F_ADD_SEALS, F_GET_SEALS, F_SEAL_EXEC, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE,
};
use abi::consts::fd::{MFD_ALLOW_SEALING, MFD_EXEC, MFD_NOEXEC_SEAL};
use abi::{Arg, Call, Sys};
use minicbor::{Decode, Encode};
use plan::{Actor, Descr, Expect, Fact, Moment, Op, Pid, Refusal, Value};
use serde::{Deserialize, Serialize};

/// The longest name that memfd_create(2) takes.
const NAME_MAX: usize = 249;
/// statfs(2).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Memfd {
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

impl Resource for Memfd {
    const NAME: &'static str = "memfd";
}

/// The seals of a file, and the size of the huge pages that it is made of; 0: of none.
fn ask(seen: &Seen, from: &Capturing<'_>) -> Result<(Option<u32>, u64), Trouble> {
    const STATFS: usize = 120;
    let fd = Arg::Int(seen.fd.into());
    let seals = Call::new(Sys::Fcntl, [fd.clone(), Arg::Int(F_GET_SEALS)]);
    let answers = from.probe.calls(&[seals, Call::new(Sys::Fstatfs, [fd, Arg::Out(STATFS)])])?;
    // struct statfs begins with the kind of file system and the size of its blocks.
    let told = written(&answers[1]);
    let word = |n: usize| told.get(8 * n..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let page = if word(0) == HUGETLBFS_MAGIC { word(1) } else { 0 };
    Ok((answers[0].result.ok().map(|seals| seals as u32), page))
}

/// Asks for the seals of a file that is mapped or executed, if they are not known yet: who may not open its link is told
/// nothing.
pub(crate) fn ask_link(id: u32, link: &str, from: &mut Capturing<'_>) {
    let file = from.files.list.get_mut(&id).expect("it is known");
    if file.in_memory() && file.seals.is_none() {
        file.seals = from.probe.seals(link).ok();
    }
}

impl Kind for Memfd {
    fn knows(seen: &Seen) -> bool {
        let memory = seen.link.0.starts_with(b"/memfd:") || seen.link.0 == NO_FILE;
        let in_memory = memory && seen.stat.nlink == 0;
        seen.file_type() == S_IFREG && in_memory && !seen.names_only()
    }

    fn capture(seen: &Seen, from: &mut Capturing<'_>) -> Result<Self, Trouble> {
        let mut refusals = common_refusals(seen);
        let (seals, page) = ask(seen, from)?;
        if from.files.is_shared(seen.stat.ino) {
            let why = "another process of the tree shares it as memory without a file";
            refusals.push(seen.refuse(why, "this is not supported yet"));
        }
        if !refusals.is_empty() {
            return Err(Trouble::Refused(refusals));
        }
        let id = file(seen, from)?;
        let file = from.files.list.get_mut(&id).expect("it was put there");
        (file.seals, file.page) = (seals, page);
        if let Some(refusal) = held_outside(seen, &from.files.list[&id], from)? {
            return Err(refusal.into());
        }
        note_shared_position(seen, from)?;
        Ok(Memfd { file: id, flags: seen.flags(), offset: seen.info.pos })
    }

    fn plan(&self, descr: Descr, _: At, to: &mut Planning<'_>) {
        to.file(self.file).open_as(self.file, descr, self.flags, to);
        seek(Self::NAME, descr, self.offset, to);
    }

    fn file(&self) -> Option<u32> {
        Some(self.file)
    }
}

/// The description that memfd_create(2) gave, as far as can be seen. It does not count as a writer, unlike one that was
/// opened again: the file can be executed (mm/memfd.c).
pub(super) fn original(id: u32, model: &Model) -> Option<Descr> {
    model.descriptions.iter().find_map(|(n, description)| match description {
        Description::Memfd(Memfd { file, flags, .. }) | Description::Regular(Regular { file, flags, .. }) => {
            (*file == id && *flags == flags::RDWR | flags::LARGEFILE).then_some(Descr(*n))
        }
        _ => None,
    })
}

/// Makes an empty one.
pub(super) fn make(file: &File, by: &'static str, descr: Descr, to: &mut Planning<'_>) {
    let path = &file.path.0;
    let name = path.strip_prefix(b"/memfd:").or_else(|| path.rsplit(|b| *b == b'/').next()).unwrap_or_default();
    let name = crate::Text::from(&name[..name.len().min(NAME_MAX)]).c_string();
    let flags = create_flags(file, to) | huge::create_flags(file.page);
    to.to.make(by, descr, Sys::MemfdCreate, vec![Value::Bytes(name), flags.into()]);
}

/// Whether it may be executed is said where the kernel can be told (Linux 6.3): else vm.memfd_noexec decides.
fn create_flags(file: &File, to: &mut Planning<'_>) -> u64 {
    const SCOPE_NONE: u32 = 2;
    let seals = file.seals.unwrap_or(F_SEAL_SEAL);
    let never_executable = seals & F_SEAL_EXEC != 0 && file.mode & 0o111 == 0;
    let executable = match to.to.host.memfd_noexec {
        None => 0,
        Some(_) if never_executable => MFD_NOEXEC_SEAL,
        Some(SCOPE_NONE) => {
            let why = "this host wants no file in memory that may be executed (vm.memfd_noexec)";
            to.to.refuse(Refusal::new(file.path.to_string(), why, "set it to 1 or less"));
            0
        }
        Some(_) => MFD_EXEC,
    };
    if seals & F_SEAL_EXEC != 0 && to.to.host.memfd_noexec.is_none() {
        let why = "this kernel does not know the seal against becoming executable (F_SEAL_EXEC)";
        to.to.refuse(Refusal::new(file.path.to_string(), why, "Linux 6.3 or later does"));
    }
    executable | if seals == F_SEAL_SEAL { 0 } else { MFD_ALLOW_SEALING }
}

/// Seals it, when its contents, its mode, its descriptions and all areas stand: F_SEAL_WRITE is refused while an area may
/// write to it, F_SEAL_FUTURE_WRITE and F_SEAL_EXEC forbid what comes later (fcntl(2), "File Sealing").
pub(super) fn seal(file: &File, by: &'static str, descr: Descr, to: &mut Planning<'_>) {
    let Some(seals) = file.seals.filter(|seals| *seals & !F_SEAL_SEAL != 0) else { return };
    let args = vec![Value::Descr(descr), F_ADD_SEALS.into(), u64::from(seals).into()];
    let op = Op::Call { sys: Sys::Fcntl, args, expect: Expect::Success };
    let mut needs = vec![Fact::Made(descr), Fact::Filled(descr)];
    needs.extend(to.model.own_spaces().map(|(pid, _)| Fact::Mapped(Pid(pid))));
    to.to.step(Moment::Arm, by, Actor::Store, op, needs, vec![]);
}

impl File {
    /// Whether nobody can change it any more, so that a copy of it is as good.
    pub(crate) fn is_fixed(&self) -> bool {
        const ALL: u32 = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        self.seals.is_some_and(|seals| seals & ALL == ALL)
    }
}
