//! System V IPC (svipc(7)) on our own side: a look into segments of another namespace, and the removal of objects.

use crate::stub::{clone_self, nest::keep_only, reap};
use crate::{arch, procfs, sys};
use abi::consts::ipc::{MSG_STAT_ANY, SEM_STAT_ANY, SHM_STAT_ANY};
use abi::consts::mmap::PAGE;
use abi::layout::{Msqid, Semid, Shmid};
use abi::{Errno, Fault, Sys, proc};
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

/// Pages that are asked about at once.
const PAGES: u64 = 1 << 18;

/// A process of ours that has a segment attached, to be read by us, and lives as long as this. Our end is its end, and that of the
/// attachment; it is in the namespace of whoever has the segment, into which we ourselves would have no way back.
#[derive(Debug)]
pub struct Window {
    pid: i32,
    link: Option<UnixStream>,
    start: u64,
    page: u64,
    runs: Vec<Range<u64>>,
}

impl Window {
    /// Attaches the segment with this id in the IPC namespace of process `of`.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn open(of: i32, id: u32, size: u64) -> Result<Window, Fault> {
        let fault = |e| Fault::new("shmat", format!("segment {id}"), e);
        let (ours, theirs) = UnixStream::pair().map_err(|e| Fault::new("socketpair", "a window", e))?;
        // SAFETY: we have no other threads, so the child may do as it likes.
        let born = unsafe { clone_self(0, libc::SIGCHLD as u64, None) };
        let pid = born.map_err(|e| Fault::new("clone3", "a window", e))?;
        if pid == 0 {
            drop(ours);
            show(theirs, of, id, size);
            // SAFETY: _exit runs nothing of the process whose copy we are.
            unsafe { libc::_exit(0) }
        }
        drop(theirs);
        let mut window = Window { pid, link: Some(ours), start: 0, page: 0, runs: Vec::new() };
        window.hear().map_err(fault)?;
        window.mind_unseen()?;
        Ok(window)
    }

    /// The process that shows it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where in that process it begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// In bytes, the size of the huge pages that it is made of; 0: it is made of none.
    pub fn page(&self) -> u64 {
        self.page
    }

    /// The addresses of pages that exist, ascending.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// An error, or where it begins, how many runs there are, and those.
    fn hear(&mut self) -> Result<(), Errno> {
        let link = self.link.as_mut().expect("only the end takes the link");
        let mut number = || {
            let mut bytes = [0; 8];
            link.read_exact(&mut bytes).map(|()| u64::from_ne_bytes(bytes)).map_err(Errno::from)
        };
        match number()? {
            0 => {}
            errno => return Err(Errno(errno as i32)),
        }
        self.start = number()?;
        for _ in 0..number()? {
            self.runs.push(number()?..number()?);
        }
        Ok(())
    }

    /// mincore(2) does not tell of pages in swap space, nor of huge pages that the process itself has not used: where there are
    /// any, all of it is read.
    fn mind_unseen(&mut self) -> Result<(), Fault> {
        let text = procfs::read(format!("/proc/{}/smaps", self.pid))?;
        let areas = proc::smaps(&text).map_err(|e| Fault::new(e.to_string(), self.pid, Errno::EINVAL))?;
        let area = areas.iter().find(|a| a.start == self.start);
        self.page = area.filter(|a| a.has(b"ht")).map_or(0, |a| a.page_kib * 1024);
        if let Some(area) = area.filter(|a| self.page != 0 || a.swap_kib > 0) {
            self.runs.clear();
            self.runs.push(area.start..area.end);
        }
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.link.take();
        reap(self.pid);
    }
}

/// In the child: tells what there is, and stays until nobody listens.
fn show(mut link: UnixStream, of: i32, id: u32, size: u64) {
    let number = link.as_raw_fd();
    keep_only(number, number);
    let said = match attached(of, id, size) {
        Ok((start, runs)) => {
            let runs = runs.iter().flat_map(|r| [r.start, r.end]);
            [0, start, runs.clone().count() as u64 / 2].into_iter().chain(runs).collect()
        }
        Err(errno) => vec![errno.0 as u64],
    };
    let _ = link.write_all(&said.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<u8>>());
    let _ = link.read(&mut [0]);
}

fn attached(of: i32, id: u32, size: u64) -> Result<(u64, Vec<Range<u64>>), Errno> {
    enter(of)?;
    // SAFETY: a new mapping at an address of the kernel's choice, which is only read, and by the kernel.
    let at = unsafe { libc::shmat(id as i32, std::ptr::null(), libc::SHM_RDONLY) };
    if at.addr() == usize::MAX {
        return Err(Errno::from(std::io::Error::last_os_error()));
    }
    // Our maker looks into us.
    // SAFETY: prctl with numbers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    let start = at.addr() as u64;
    Ok((start, present(start, size.next_multiple_of(PAGE))?))
}

/// The IPC namespace of that process, by way of its user namespace, in which who made that may do anything
/// (user_namespaces(7)).
fn enter(of: i32) -> Result<(), Errno> {
    let link = |who: &str, name: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
    let foreign = |name: &&str| link(&of.to_string(), name) != link("self", name);
    if !foreign(&"ipc") {
        return Ok(());
    }
    let open = |name: &str| File::open(format!("/proc/{of}/ns/{name}")).map_err(Errno::from);
    let all: Vec<File> = ["user", "ipc"].into_iter().filter(foreign).map(open).collect::<Result<_, _>>()?;
    for namespace in all {
        // SAFETY: setns with numbers only; we have no other threads.
        sys::result(i64::from(unsafe { libc::setns(namespace.as_raw_fd(), 0) }))?;
    }
    Ok(())
}

/// The pages that exist: to read one that does not would make it.
fn present(start: u64, len: u64) -> Result<Vec<Range<u64>>, Errno> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut told = vec![0u8; PAGES.min(len / PAGE) as usize];
    for from in (start..start + len).step_by((PAGES * PAGE) as usize) {
        let bytes = (PAGES * PAGE).min(start + len - from);
        let address = std::ptr::without_provenance_mut(from as usize);
        // SAFETY: a byte is written for each page of ours that is asked about, and there is room for so many.
        sys::result(i64::from(unsafe { libc::mincore(address, bytes as usize, told.as_mut_ptr()) }))?;
        let pages = (from..from + bytes).step_by(PAGE as usize);
        for (page, _) in pages.zip(&told).filter(|(_, told)| **told & 1 == 1) {
            match runs.last_mut() {
                Some(last) if last.end == page => last.end += PAGE,
                _ => runs.push(page..page + PAGE),
            }
        }
    }
    Ok(runs)
}

/// What is known of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its key.
    pub key: i32,
    /// When it was made, or changed by a control call, in seconds since 1970.
    pub changed: i64,
    /// Who made it, by id; of memory only.
    pub maker: Option<i32>,
}

/// The place of an object in the table of its namespace (ipc/util.h, IPCMNI_SHIFT).
const PLACE: u32 = 0x7fff;

/// shmctl(2), semctl(2) or msgctl(2), by the call that makes such objects.
fn control(get: Sys, id: u32, command: i32, buffer: &mut [u8; 128]) -> Result<u64, Errno> {
    let call = match get {
        Sys::Shmget => Sys::Shmctl,
        Sys::Semget => Sys::Semctl,
        Sys::Msgget => Sys::Msgctl,
        other => unreachable!("{other} makes no object"),
    };
    let (number, at) = (call.number(arch::MACHINE) as i64, buffer.as_mut_ptr());
    // semctl has its argument at the fourth place, and the others none there.
    // SAFETY: the kernel writes one structure of at most 120 bytes into the buffer.
    let raw = unsafe {
        match call {
            Sys::Semctl => libc::syscall(number, id, 0, command, at),
            _ => libc::syscall(number, id, command, at),
        }
    };
    sys::result(raw)
}

/// The object with this id, if there is one: looked for by its place, for which no right is needed.
pub fn look(get: Sys, id: u32) -> Option<Seen> {
    let mut buffer = [0; 128];
    let (command, changed) = match get {
        Sys::Shmget => (SHM_STAT_ANY as i32, 72),
        Sys::Semget => (SEM_STAT_ANY as i32, 64),
        _ => (MSG_STAT_ANY as i32, 64),
    };
    let found = control(get, id & PLACE, command, &mut buffer).ok()?;
    let changed = i64::from_ne_bytes(buffer[changed..changed + 8].try_into().expect("eight bytes"));
    let (key, maker) = match get {
        Sys::Shmget => Shmid::from_bytes(&buffer).map(|s| (s.perm.key, Some(s.cpid)))?,
        Sys::Semget => (Semid::from_bytes(&buffer)?.perm.key, None),
        _ => (Msqid::from_bytes(&buffer)?.perm.key, None),
    };
    (found == u64::from(id)).then_some(Seen { key, changed, maker })
}

/// Removes the object with this id.
pub fn remove(get: Sys, id: u32) {
    let _ = control(get, id, libc::IPC_RMID, &mut [0; 128]);
}

/// What is known of a POSIX message queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mqueue {
    /// Its number; 0: we may not open it.
    pub number: u64,
    /// When it was made, or changed, in seconds since 1970.
    pub changed: i64,
}

/// mq_open(2): the name stands there without the slash.
fn open_mqueue(name: &[u8], flags: i32, limits: (u64, u64)) -> Result<OwnedFd, Errno> {
    let name: Vec<u8> = name.iter().copied().chain([0]).collect();
    let attributes = [0, limits.0, limits.1, 0, 0, 0, 0, 0];
    // SAFETY: the name ends in NUL, and the structure has the eight longs of a mq_attr; both live as long as the call.
    let raw = unsafe {
        libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags | libc::O_CLOEXEC, 0o600, &raw const attributes)
    };
    // SAFETY: the kernel just gave it to us.
    sys::result(raw).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes one, for reading and writing, that nobody else may open.
pub fn make_mqueue(name: &[u8], limits: (u64, u64)) -> Result<OwnedFd, Errno> {
    open_mqueue(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NONBLOCK, limits)
}

/// The one with this name, if there is one.
pub fn find_mqueue(name: &[u8]) -> Option<Mqueue> {
    let open = |access| open_mqueue(name, access, (0, 0));
    match open(libc::O_RDONLY).or_else(|e| if e == Errno::EACCES { open(libc::O_WRONLY) } else { Err(e) }) {
        Ok(queue) => {
            let about = File::from(queue).metadata().ok()?;
            Some(Mqueue { number: about.ino(), changed: about.ctime() })
        }
        Err(Errno::EACCES) => Some(Mqueue { number: 0, changed: 0 }),
        Err(_) => None,
    }
}

/// Removes the name.
pub fn remove_mqueue(name: &[u8]) {
    let name: Vec<u8> = name.iter().copied().chain([0]).collect();
    // SAFETY: the name ends in NUL and lives as long as the call.
    unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) };
}

/// The values of a set of so many semaphores (semctl(2), GETALL); `None` where there is none, or it has not so many.
pub fn semaphores(set: u32, count: usize) -> Option<Vec<u16>> {
    // SAFETY: zeroes are a value of the type.
    let mut about: libc::semid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure.
    let known = unsafe { libc::semctl(set as i32, 0, libc::IPC_STAT, &raw mut about) };
    if known < 0 || about.sem_nsems != count as u64 {
        return None;
    }
    let mut values = vec![0u16; count];
    // SAFETY: one value for each semaphore, for which there is room: a set keeps its size, and no other one gets its id.
    let r = unsafe { libc::semctl(set as i32, 0, libc::GETALL, values.as_mut_ptr()) };
    (r >= 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[test]
    fn a_window_shows_what_a_segment_holds_and_goes_with_us() {
        // SAFETY: a segment of our own, attached where the kernel likes.
        let (id, at) = unsafe {
            let id = libc::shmget(libc::IPC_PRIVATE, 5 * PAGE as usize + 1, libc::IPC_CREAT | 0o600);
            (id, libc::shmat(id, std::ptr::null(), 0).cast::<u8>())
        };
        // SAFETY: within the second page of the segment.
        unsafe { at.add(PAGE as usize + 7).write(42) };
        let id = id as u32;
        let window = Window::open(std::process::id() as i32, id, 5 * PAGE + 1).unwrap();
        let start = window.start();
        assert_eq!(
            window.runs().iter().map(|r| (r.start, r.end)).collect::<Vec<_>>(),
            [(start + PAGE, start + 2 * PAGE)]
        );
        let mut byte = [0];
        Memory::open(window.pid()).unwrap().read(start + PAGE + 7, &mut byte).unwrap();
        assert_eq!(byte, [42]);
        drop(window);
        let seen = look(Sys::Shmget, id).unwrap();
        assert_eq!((seen.key, seen.maker), (0, Some(std::process::id() as i32)));
        remove(Sys::Shmget, id);
        // SAFETY: nobody uses what was attached.
        unsafe { libc::shmdt(at.cast()) };
        assert_eq!(look(Sys::Shmget, id), None);
        assert_eq!(Window::open(std::process::id() as i32, id, 1).unwrap_err().errno, Errno::EINVAL);
    }
}
