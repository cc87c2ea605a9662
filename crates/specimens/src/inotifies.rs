//! Watches of files and directories.

use crate::life::Living;
use crate::pipes;
use crate::sys::{self, Outcome, fcntl, fine, must, same};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;

fn inotify(flags: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("inotify_init1", unsafe { libc::inotify_init1(flags) }).map(|fd| fd as i32)
}

fn watch(fd: i32, path: &str, mask: u32) -> Result<i32, String> {
    let name = CString::new(path).expect("no NUL in a path of ours");
    // SAFETY: the name ends in NUL and lives as long as the call.
    must("inotify_add_watch", unsafe { libc::inotify_add_watch(fd, name.as_ptr(), mask) }).map(|wd| wd as i32)
}

fn forget(fd: i32, wd: i32) -> Outcome {
    // SAFETY: takes integers.
    must("inotify_rm_watch", unsafe { libc::inotify_rm_watch(fd, wd) })?;
    same("the end of a watch", &vec![(wd, libc::IN_IGNORED, String::new())], &events(fd)?)
}

/// Id, mask and name of each event that waits.
fn events(fd: i32) -> Result<Vec<(i32, u32, String)>, String> {
    let bytes = sys::read_up_to(fd, 4096)?;
    let (mut all, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((head, more)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (name, next) = more.split_at(word(12) as usize);
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        all.push((word(0) as i32, word(4), name));
        rest = next;
    }
    Ok(all)
}

/// What fdinfo shows of it.
fn settings(fd: i32) -> Result<String, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    let kept = |line: &&str| ["flags", "inotify"].iter().any(|key| line.starts_with(key));
    Ok(text.lines().filter(kept).collect::<Vec<_>>().join(", "))
}

fn append(path: &str) -> Outcome {
    let fd = sys::open(path, libc::O_WRONLY | libc::O_APPEND)?;
    sys::write(fd, b"more")?;
    sys::close(fd);
    Ok(())
}

/// Events that the program has not read: it is told that some were lost, and what happens then.
pub(crate) fn unread(_: &[String]) -> Result<Living, String> {
    fine("create_dir", std::fs::create_dir("told"))?;
    let fd = inotify(libc::IN_NONBLOCK)?;
    let ids = [watch(fd, "told", libc::IN_CLOSE_WRITE)?, watch(fd, ".", libc::IN_DELETE_SELF)?];
    fine("write", std::fs::write("told/before", "x"))?;
    let epoll = pipes::epoll_of(&[fd])?;
    let (mut last, mut count) = ("before".to_owned(), 0);
    Living::reads(move |_| {
        // The image has no events; who was not frozen has them.
        let lost = vec![(-1, libc::IN_Q_OVERFLOW, String::new())];
        let waited = vec![(ids[0], libc::IN_CLOSE_WRITE, last.clone())];
        same("what is ready", &vec![fd as u64], &pipes::ready(epoll)?)?;
        let told = events(fd)?;
        sys::holds(&format!("this is told: {told:?}"), sys::Truth(told == lost || told == waited))?;
        same("what is ready then", &Vec::<u64>::new(), &pipes::ready(epoll)?)?;
        same("the watches", &2, &settings(fd)?.matches("inotify wd").count())?;
        let mut happens = || {
            count += 1;
            last = format!("then-{count}");
            fine("write", std::fs::write(format!("told/{last}"), "x"))
        };
        happens()?;
        same("how many are told", &1, &events(fd)?.len())?;
        happens()
    })
}

/// A file that is open, and a watch that tells once of its being opened: nobody does that but the program itself.
pub(crate) fn unopened(_: &[String]) -> Result<Living, String> {
    let name = "unopened";
    let file = sys::open(name, libc::O_RDWR | libc::O_CREAT)?;
    sys::write(file, b"what is there")?;
    let fd = inotify(libc::IN_NONBLOCK)?;
    let mask = libc::IN_OPEN | libc::IN_ACCESS | libc::IN_ONESHOT;
    let mut id = watch(fd, name, mask)?;
    Living::reads(move |_| {
        same("an event", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100]))?;
        sys::close(sys::open(name, libc::O_RDONLY)?);
        let told = vec![(id, libc::IN_OPEN, String::new()), (id, libc::IN_IGNORED, String::new())];
        same("what is told", &told, &events(fd)?)?;
        id = watch(fd, name, mask)?;
        Ok(())
    })
}

/// A file some directories below the working directory, which is not open, and of whose directories none is watched.
pub(crate) fn deep(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("some/way/down"))?;
    fine("write", std::fs::write("some/way/down/there", "x"))?;
    let fd = inotify(libc::IN_NONBLOCK)?;
    let id = watch(fd, "some/way/down/there", libc::IN_MODIFY)?;
    Living::reads(move |_| {
        same("an event", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100]))?;
        append("some/way/down/there")?;
        same("what is told", &vec![(id, libc::IN_MODIFY, String::new())], &events(fd)?)
    })
}

/// A symbolic link itself, and not what it leads to.
pub(crate) fn link(_: &[String]) -> Result<Living, String> {
    fine("write", std::fs::write("led", "x"))?;
    fine("symlink", std::os::unix::fs::symlink("led", "leads"))?;
    let fd = inotify(libc::IN_NONBLOCK)?;
    let id = watch(fd, "leads", libc::IN_ATTRIB | libc::IN_MODIFY | libc::IN_DONT_FOLLOW)?;
    Living::reads(move |_| {
        append("led")?;
        same("an event", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100]))?;
        let metadata = fine("lstat", std::fs::symlink_metadata("leads"))?;
        let (user, group) = (metadata.uid(), metadata.gid());
        fine("lchown", std::os::unix::fs::lchown("leads", Some(user), Some(group)))?;
        same("what is told", &vec![(id, libc::IN_ATTRIB, String::new())], &events(fd)?)
    })
}

/// A tree of directories that is watched in part: by ids of which some between are gone, once for one event only, and by an
/// epoll instance. Nothing of what happens at first is to be heard.
pub(crate) fn watches(_: &[String]) -> Result<Living, String> {
    fine("mkdir", std::fs::create_dir_all("watched/below/far"))?;
    for name in ["beside", "watched/one", "watched/below/two", "watched/below/far/three"] {
        fine(name, std::fs::write(name, b"first"))?;
    }
    let fd = inotify(libc::IN_NONBLOCK | libc::IN_CLOEXEC)?;
    let write = libc::IN_MODIFY;
    let beside = watch(fd, "beside", write | libc::IN_CLOSE_WRITE)?;
    let gone = watch(fd, "/", libc::IN_DELETE_SELF)?;
    forget(fd, gone)?;
    let one = watch(fd, "watched/one", write | libc::IN_ONESHOT)?;
    for _ in 0..300 {
        let gone = watch(fd, "/", libc::IN_DELETE_SELF)?;
        forget(fd, gone)?;
    }
    let below = watch(fd, "watched/below", libc::IN_CREATE | libc::IN_DELETE | libc::IN_EXCL_UNLINK)?;
    let three = watch(fd, "watched/below/far/three", write)?;
    let far = watch(fd, "watched/below/far", libc::IN_ATTRIB | libc::IN_ONLYDIR)?;
    let directory = sys::open("watched", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let empty = inotify(0)?;
    let epoll = pipes::epoll_of(&[fd, empty])?;
    let mut expected = settings(fd)?;
    Living::reads_at_first(move |first| {
        same("what fdinfo shows", &expected, &settings(fd)?)?;
        same("what is ready", &vec![], &pipes::ready(epoll)?)?;
        same("an event", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100]))?;
        append("beside")?;
        append("watched/one")?;
        append("watched/below/far/three")?;
        fine("create", std::fs::write("watched/below/new", b""))?;
        fine("remove", std::fs::remove_file("watched/below/new"))?;
        same("what is ready", &vec![fd as u64], &pipes::ready(epoll)?)?;
        let once = [(one, write), (one, libc::IN_IGNORED)].map(|(wd, mask)| (wd, mask, String::new()));
        let named = |mask| (below, mask, "new".to_owned());
        let mut all = vec![(beside, write, String::new()), (beside, libc::IN_CLOSE_WRITE, String::new())];
        all.extend(first.then_some(once).into_iter().flatten());
        all.extend([(three, write, String::new()), named(libc::IN_CREATE), named(libc::IN_DELETE)]);
        same("events", &all, &events(fd)?)?;
        same("ids", &[1, 3, 304, 305, 306], &[beside, one, below, three, far])?;
        same("flags", &(0, libc::FD_CLOEXEC), &(fcntl(empty, libc::F_GETFL, 0)?, fcntl(fd, libc::F_GETFD, 0)?))?;
        expected = settings(fd)?;
        fcntl(directory, libc::F_GETFD, 0).map(drop)
    })
}

/// A watch of a file that is mapped, and has no name and no descriptor.
pub(crate) fn lost(_: &[String]) -> Result<Living, String> {
    fine("write", std::fs::write("lost", b"text"))?;
    let (file, fd) = (sys::open("lost", libc::O_RDONLY)?, inotify(libc::IN_NONBLOCK)?);
    watch(fd, "lost", libc::IN_MODIFY)?;
    // SAFETY: a new area.
    let area = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, file, 0) };
    sys::must("mmap", if area == libc::MAP_FAILED { -1 } else { 0 })?;
    // SAFETY: it is ours.
    sys::must("close", unsafe { libc::close(file) })?;
    fine("remove", std::fs::remove_file("lost"))?;
    Living::reads(move |_| same("events", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100])))
}

/// A watch of a file of /proc that is of ourselves, and open.
pub(crate) fn of_process(_: &[String]) -> Result<Living, String> {
    let (_, fd) = (sys::open("/proc/self/mounts", libc::O_RDONLY)?, inotify(libc::IN_NONBLOCK)?);
    watch(fd, "/proc/self/mounts", libc::IN_MODIFY)?;
    Living::reads(move |_| same("events", &Err(libc::EAGAIN), &sys::read(fd, &mut [0; 100])))
}

/// A watch of a file whose name is gone, and one of a directory likewise.
pub(crate) fn removed(_: &[String]) -> Result<Living, String> {
    fine("write", std::fs::write("lost", b"text"))?;
    let (file, fd) = (sys::open("lost", libc::O_RDWR)?, inotify(libc::IN_NONBLOCK)?);
    watch(fd, "lost", libc::IN_MODIFY)?;
    fine("remove", std::fs::remove_file("lost"))?;
    fine("mkdir", std::fs::create_dir_all("left"))?;
    let directory = sys::open("left", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let left = watch(fd, "left", libc::IN_ATTRIB)?;
    fine("rmdir", std::fs::remove_dir("left"))?;
    Living::reads(move |_| {
        // SAFETY: takes integers.
        must("fchmod", unsafe { libc::fchmod(directory, 0o700) })?;
        same("event", &vec![(left, libc::IN_ATTRIB | libc::IN_ISDIR, String::new())], &events(fd)?)?;
        sys::write(file, b"more")?;
        same("events", &vec![(1, libc::IN_MODIFY, String::new())], &events(fd)?)
    })
}

/// fanotify_init(2), fanotify_mark(2).
const FID: u32 = libc::FAN_REPORT_FID;
const CHANGES: u64 = libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;

fn group(flags: u32) -> Result<i32, String> {
    let flags = flags | libc::FAN_CLASS_NOTIF | libc::FAN_NONBLOCK;
    // SAFETY: takes integers.
    sys::must("fanotify_init", unsafe { libc::fanotify_init(flags, libc::O_RDONLY as u32) }).map(|fd| fd as i32)
}

fn mark(fd: i32, flags: u32, mask: u64, path: &std::ffi::CStr) -> Outcome {
    // SAFETY: the path ends in NUL and lives as long as the call.
    let made = unsafe { libc::fanotify_mark(fd, libc::FAN_MARK_ADD | flags, mask, libc::AT_FDCWD, path.as_ptr()) };
    sys::must("fanotify_mark", made).map(drop)
}

/// The flags and marks of a group, without what differs by mount and machine.
fn marks(fd: i32) -> Result<Vec<String>, String> {
    let text = sys::proc_text(&format!("fdinfo/{fd}"))?;
    Ok(text.lines().filter(|line| line.starts_with("fanotify")).map(str::to_owned).collect())
}

fn tells(fd: i32) -> Outcome {
    let drain = || while sys::read(fd, &mut [0; 4096]).is_ok_and(|count| count > 0) {};
    drain();
    sys::fine("write", std::fs::write("marked/new", "text"))?;
    let told = sys::soon("an event", || sys::readable(fd));
    sys::fine("remove", std::fs::remove_file("marked/new"))?;
    drain();
    told.and_then(|()| same("an event too many", &false, &sys::readable(fd)))
}

/// What an ordinary user may mark: a directory, for which names are told.
pub(crate) fn fanotify(_: &[String]) -> Result<Living, String> {
    sys::fine("mkdir", std::fs::create_dir("marked"))?;
    let fd = group(FID | libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME)?;
    mark(fd, libc::FAN_MARK_ONLYDIR, CHANGES, c"marked")?;
    let _directory = sys::open("marked", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let info = sys::open(&format!("/proc/self/fdinfo/{fd}"), libc::O_RDONLY)?;
    let expected = marks(fd)?;
    Living::reads(move |_| {
        same("marks", &expected, &marks(fd)?)?;
        let told = String::from_utf8_lossy(&sys::read_up_to(info, 4000)?).into_owned();
        // SAFETY: touches no memory.
        sys::must("lseek", unsafe { libc::lseek(info, 0, libc::SEEK_SET) })?;
        same("what tells of it", &true, &told.contains("fanotify flags:"))?;
        tells(fd)
    })
}

/// Of root: a file, of which some events are ignored, and the file system below it.
pub(crate) fn fanotify_wide(_: &[String]) -> Result<Living, String> {
    sys::fine("mkdir", std::fs::create_dir("marked"))?;
    sys::fine("write", std::fs::write("marked/file", "text"))?;
    let (plain, wide) = (group(libc::FAN_UNLIMITED_QUEUE)?, group(0)?);
    mark(plain, 0, libc::FAN_MODIFY | libc::FAN_OPEN, c"marked/file")?;
    mark(plain, libc::FAN_MARK_IGNORED_MASK | libc::FAN_MARK_IGNORED_SURV_MODIFY, libc::FAN_ACCESS, c"marked/file")?;
    mark(wide, libc::FAN_MARK_FILESYSTEM, libc::FAN_MODIFY, c"marked")?;
    let expected = [marks(plain)?, marks(wide)?];
    Living::reads(move |_| {
        same("marks", &expected, &[marks(plain)?, marks(wide)?])?;
        let _event = sys::open("marked/file", libc::O_WRONLY)?;
        sys::soon("an event", || sys::readable(plain))
    })
}

/// One that is asked before others may open something.
pub(crate) fn fanotify_deciding(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    let made = unsafe { libc::fanotify_init(libc::FAN_CLASS_CONTENT, libc::O_RDONLY as u32) };
    let fd = sys::must("fanotify_init", made)? as i32;
    Living::reads(move |_| sys::fcntl(fd, libc::F_GETFD, 0).map(drop))
}
