//! `fdinfo`: what is behind a descriptor.

use super::ParseError;
use super::text::{Keyed, after, hex, lines, octal, split_once, unescape_octal, unsigned};

/// /proc/PID/fdinfo/FD.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fdinfo {
    /// The file offset.
    pub pos: u64,
    /// The `O_` flags of open, with those set since, and `O_CLOEXEC` of the fd.
    pub flags: u32,
    /// See [`super::Mount::id`].
    pub mnt_id: u32,
    /// The inode number (5.14).
    pub ino: Option<u64>,
    /// What stands behind `lock:`, once for each.
    pub locks: Vec<Vec<u8>>,
    /// All of it.
    pub text: Vec<u8>,
}

impl Fdinfo {
    /// The value of the first line with this key: `info.field("eventfd-count")`.
    pub fn field(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.fields(key).next()
    }

    /// The number of the first line with this key, without a sign and a prefix; `None` where there is none, or no such line.
    pub fn number(&self, key: &str, radix: u32) -> Option<u64> {
        u64::from_str_radix(std::str::from_utf8(self.field(key)?).ok()?, radix).ok()
    }

    /// The values of all lines with this key, in their order.
    pub fn fields(&self, key: impl AsRef<[u8]>) -> impl Iterator<Item = &[u8]> {
        self.lines().filter(move |(known, _)| *known == key.as_ref()).map(|(_, value)| value)
    }

    /// All lines in their order, split at the first colon; blanks around both are gone. A line without a colon is a
    /// key with an empty value.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.text).map(pair)
    }
}

/// Reads /proc/PID/fdinfo/FD.
pub fn fdinfo(text: &[u8]) -> Result<Fdinfo, ParseError> {
    let fields = Keyed::new("fdinfo", text);
    let locks = lines(text).map(pair).filter(|(key, _)| key == b"lock");
    Ok(Fdinfo {
        pos: fields.parse("pos", offset)?,
        flags: fields.parse("flags", octal)?,
        mnt_id: fields.parse("mnt_id", unsigned)?,
        ino: fields.parse_if_any("ino", unsigned)?,
        locks: locks.map(|(_, value)| value.to_vec()).collect(),
        text: text.to_vec(),
    })
}

/// An offset, printed with a sign (`loff_t`): of files like /proc/PID/mem it may be above 2^63.
fn offset(text: &[u8]) -> Option<u64> {
    match text.strip_prefix(b"-") {
        Some(text) => unsigned::<u64>(text).map(u64::wrapping_neg),
        None => unsigned(text),
    }
}

fn pair(line: &[u8]) -> (&[u8], &[u8]) {
    let (key, value) = split_once(line, b':').unwrap_or((line, b""));
    (key.trim_ascii(), value.trim_ascii())
}

/// Reads the registered files out of the fdinfo of a ring of io_uring: their places, and what the links of their descriptors would
/// say (io_uring/fdinfo.c). Before 6.10 only the first letters of their names stand there.
pub fn uring_files(info: &Fdinfo) -> Vec<(u32, Vec<u8>)> {
    let below = info.lines().skip_while(|(key, _)| *key != b"UserFiles").skip(1);
    let numbered = below.map_while(|(place, link)| Some((unsigned(place)?, link)));
    numbered
        .filter(|(_, link)| *link != b"<none>")
        .map(|(place, link)| (place, unescape_octal(link, b" \t\n\\")))
        .collect()
}

/// One descriptor that an epoll instance watches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpollWatch {
    /// The number that it had when it was added; it may be closed or another file by now.
    pub fd: u32,
    /// `EPOLL` bits; those of a used-up `EPOLLONESHOT` watch are only the mode bits.
    pub events: u32,
    /// What epoll_wait gives back.
    pub data: u64,
    /// The file offset of the target.
    pub pos: u64,
    /// The inode number of the target.
    pub ino: u64,
    /// Its device as the kernel has it: see [`super::kernel_dev`].
    pub sdev: u64,
}

/// Reads the watches out of the fdinfo of an epoll instance, in the kernel's order.
pub fn epoll_watches(text: &[u8]) -> Result<Vec<EpollWatch>, ParseError> {
    rows(text, b"tfd:", watch)
}

/// Each line that begins so, in their order.
fn rows<T>(text: &[u8], start: &[u8], read: fn(&[u8]) -> Option<T>) -> Result<Vec<T>, ParseError> {
    let lines = lines(text).filter(|line| line.starts_with(start));
    lines.map(|line| read(line).ok_or_else(|| ParseError::line("fdinfo", line))).collect()
}

/// `tfd:        5 events:       19 data: ffffffffffffffff  pos:0 ino:3 sdev:9` (fs/eventpoll.c, `ep_show_fdinfo`).
fn watch(line: &[u8]) -> Option<EpollWatch> {
    Some(EpollWatch {
        fd: labelled(line, b"tfd:", unsigned)?,
        events: labelled(line, b"events:", hex)?,
        data: labelled(line, b"data:", hex)?,
        pos: labelled(line, b"pos:", offset)?,
        ino: labelled(line, b"ino:", hex)?,
        sdev: labelled(line, b"sdev:", hex)?,
    })
}

/// The number behind a label, with or without blanks between.
fn labelled<T>(line: &[u8], label: &[u8], number: fn(&[u8]) -> Option<T>) -> Option<T> {
    let at = line.windows(label.len()).position(|part| part == label)?;
    let rest = line[at + label.len()..].trim_ascii_start();
    let end = rest.iter().position(|byte| *byte == b' ');
    after(&rest[..end.unwrap_or(rest.len())], b"", number)
}

/// One watch of an inotify instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InotifyWatch {
    /// Its id.
    pub wd: u32,
    /// The inode number of what is watched.
    pub ino: u64,
    /// Its device as the kernel has it: see [`super::kernel_dev`].
    pub sdev: u64,
    /// `IN` bits; before 5.19 without those that are no events.
    pub mask: u32,
    /// Type and bytes of its handle (name_to_handle_at(2)), where its file system has handles.
    pub handle: Option<(i32, Vec<u8>)>,
}

/// Reads the watches out of the fdinfo of an inotify instance, in the kernel's order.
pub fn inotify_watches(text: &[u8]) -> Result<Vec<InotifyWatch>, ParseError> {
    rows(text, b"inotify ", inotify_watch)
}

/// `inotify wd:2 ino:3c4bd sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:bdc4030000000000`
/// (fs/notify/fdinfo.c, `inotify_fdinfo`).
fn inotify_watch(line: &[u8]) -> Option<InotifyWatch> {
    Some(InotifyWatch {
        wd: labelled(line, b" wd:", hex)?,
        ino: labelled(line, b" ino:", hex)?,
        sdev: labelled(line, b" sdev:", hex)?,
        mask: labelled(line, b" mask:", hex)?,
        handle: handle(line),
    })
}

/// One mark of a fanotify group: of an inode, a mount (by its id), or a file system (by its device alone).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FanotifyMark {
    /// See [`super::Mount::id`].
    pub mount: Option<u32>,
    /// The inode number of what is marked.
    pub ino: Option<u64>,
    /// Its device as the kernel has it: see [`super::kernel_dev`].
    pub sdev: Option<u64>,
    /// `FAN_MARK` bits that stay with a mark.
    pub flags: u32,
    /// The events that are told, and those that are not.
    pub mask: u32,
    /// See `mask`.
    pub ignored: u32,
    /// As of [`InotifyWatch::handle`].
    pub handle: Option<(i32, Vec<u8>)>,
}

/// Reads the flags of a fanotify group, those of its events, and its marks out of its fdinfo.
pub fn fanotify(text: &[u8]) -> Result<((u32, u32), Vec<FanotifyMark>), ParseError> {
    let flags = |line: &[u8]| Some((labelled(line, b" flags:", hex)?, labelled(line, b" event-flags:", hex)?));
    let group = rows(text, b"fanotify flags:", flags)?.pop();
    let marks = rows(text, b"fanotify ", fanotify_mark)?.into_iter().flatten().collect();
    Ok((group.ok_or_else(|| ParseError::line("fdinfo", text))?, marks))
}

/// `fanotify ino:3c4a7 sdev:fe00000 mflags:0 mask:300 ignored_mask:0 fhandle-bytes:8 …`, `fanotify mnt_id:1b mflags:40 …`,
/// `fanotify sdev:1b mflags:0 …` (fs/notify/fdinfo.c, `fanotify_fdinfo`); nothing of the line of the group.
fn fanotify_mark(line: &[u8]) -> Option<Option<FanotifyMark>> {
    if line.starts_with(b"fanotify flags:") {
        return Some(None);
    }
    let (mount, sdev) = (labelled(line, b" mnt_id:", hex), labelled(line, b" sdev:", hex));
    let mark = FanotifyMark {
        mount,
        ino: labelled(line, b" ino:", hex),
        sdev,
        flags: labelled(line, b" mflags:", hex)?,
        mask: labelled(line, b" mask:", hex)?,
        ignored: labelled(line, b" ignored_mask:", hex)?,
        handle: handle(line),
    };
    (mark.mount.is_some() || mark.sdev.is_some()).then_some(Some(mark))
}

fn handle(line: &[u8]) -> Option<(i32, Vec<u8>)> {
    let len: usize = labelled(line, b" fhandle-bytes:", hex)?;
    let kind = labelled(line, b" fhandle-type:", hex)?;
    let label = b" f_handle:";
    let at = line.windows(label.len()).position(|part| part == label)?;
    let digits = line[at + label.len()..].trim_ascii_end();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(hex).collect();
    bytes.filter(|bytes| bytes.len() == len).map(|bytes| (kind, bytes))
}
