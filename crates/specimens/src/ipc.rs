//! System V IPC: segments, sets and queues. They outlive us, so each is written down for whoever removes them (`specimen forget`).

use crate::kin;
use crate::life::Living;
use crate::mem::{ANONYMOUS, Area};
use crate::queues;
use crate::sys::{self, Outcome, fine, holds, must, pattern, same, same_bytes};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

const PAGE: usize = 4096;
const MAKE: i32 = libc::IPC_CREAT | libc::IPC_EXCL;
const SHM_STAT_LOCKED: u32 = 0o2000;
const SHM_STAT_DEST: u32 = 0o1000;
const SEM_UNDO: i16 = 0x1000;

/// The file in which objects are written down.
const LIST: &str = "ipc-objects";

fn written_down(kind: &str, id: i64) -> Result<i32, String> {
    write_down(kind, &id.to_string())?;
    Ok(id as i32)
}

pub(crate) fn write_down(kind: &str, what: &str) -> Outcome {
    let file = std::fs::File::options().append(true).create(true).open(LIST);
    fine(LIST, fine(LIST, file)?.write_all(format!("{kind} {what}\n").as_bytes()))
}

/// Removes what specimens wrote down in a file, as far as it is still there.
pub(crate) fn forget(words: &[String]) -> ExitCode {
    let text = words.first().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    for (kind, id) in text.lines().filter_map(|line| line.split_once(' ')) {
        if kind == "file" {
            let _ = std::fs::remove_file(id);
            continue;
        }
        if kind == "directory" {
            let _ = std::fs::remove_dir_all(id);
            continue;
        }
        if kind == "queue" {
            queues::forget(id);
            continue;
        }
        let id = id.parse().unwrap_or(-1);
        // SAFETY: IPC_RMID takes no structure.
        unsafe {
            match kind {
                "shm" => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                "sem" => libc::semctl(id, 0, libc::IPC_RMID),
                _ => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            }
        };
    }
    ExitCode::SUCCESS
}

/// A key that no other specimen has.
fn key(number: u32) -> i32 {
    (0x5000_0000 | std::process::id() << 4 | number) as i32
}

fn segment(key: i32, size: usize, mode: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    let id = must("shmget", unsafe { libc::shmget(key, size, MAKE | mode) })?;
    written_down("shm", id)
}

/// An attachment: ours until we end.
#[derive(Clone, Copy)]
struct Attached {
    start: usize,
    length: usize,
}

impl Attached {
    fn new(id: i32, length: usize, flags: i32) -> Result<Attached, String> {
        Attached::new_at(id, length, 0, flags)
    }

    fn new_at(id: i32, length: usize, at: usize, flags: i32) -> Result<Attached, String> {
        // SAFETY: the kernel takes a free place, or says that this one is not.
        let start = unsafe { libc::shmat(id, at as *const _, flags) };
        must("shmat", start as i64).map(|start| Attached { start: start as usize, length })
    }

    fn bytes(self) -> &'static mut [u8] {
        // SAFETY: attached readable for the rest of our life; the callers write only where that is allowed.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.length) }
    }

    fn page(self, number: usize) -> &'static mut [u8] {
        &mut self.bytes()[number * PAGE..(number + 1) * PAGE]
    }

    /// Protection and offset, as the kernel shows them.
    fn shown(self, page: usize) -> Result<String, String> {
        let at = self.start + page * PAGE;
        let text = sys::proc_text("maps")?;
        let range = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let line = text.lines().find(|line| range(line).is_some_and(|r| r.contains(&at)));
        Ok(line.map_or(String::from("nothing"), |l| l.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")))
    }
}

/// Key, owner, mode, size, and how many areas show it.
fn about(id: i32) -> Result<(i32, u32, u32, usize, u64), String> {
    // SAFETY: zeroes are a value of the type.
    let mut stat: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: room for the structure.
    must("shmctl", unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut stat) })?;
    let perm = &stat.shm_perm;
    Ok((perm.__key, perm.uid, u32::from(perm.mode), stat.shm_segsz, stat.shm_nattch))
}

fn control(id: i32, command: i32) -> Outcome {
    // SAFETY: the commands that are used here take no structure.
    must("shmctl", unsafe { libc::shmctl(id, command, std::ptr::null_mut()) }).map(drop)
}

/// What is told of a segment is what was told before: who looked into it and was killed has it attached until he is gone.
fn same_told(before: &(i32, u32, u32, usize, u64), id: i32) -> Outcome {
    let _ = sys::soon("what is told of it", || about(id).is_ok_and(|now| now == *before));
    same("what is told of it", before, &about(id)?)
}

/// One with a key, attached twice: for writing, and only for reading; and its size is no whole number of pages.
pub(crate) fn shared(_: &[String]) -> Result<Living, String> {
    let size = 10 * PAGE + 100;
    let id = segment(key(0), size, 0o640)?;
    let write = Attached::new(id, 11 * PAGE, 0)?;
    let read = Attached::new(id, 11 * PAGE, libc::SHM_RDONLY)?;
    write.page(1).copy_from_slice(&pattern(1, PAGE));
    write.page(10).copy_from_slice(&pattern(2, PAGE));
    // Others may attach it too.
    let told = |(key, uid, mode, size, _)| (key, uid, mode, size);
    let before = told(about(id)?);
    Living::reads(move |_| {
        same("what is told of it", &before, &told(about(id)?))?;
        same_bytes("page 1", &pattern(1, PAGE), read.page(1))?;
        same_bytes("page 2", &[0; PAGE], read.page(2))?;
        same_bytes("the last page", &pattern(2, PAGE), read.page(10))?;
        write.page(5)[9] = 77;
        same("what was written through the other attachment", &77, &read.page(5)[9])?;
        write.page(5)[9] = 0;
        same("the one for reading", &"r--s 00000000".to_owned(), &read.shown(0)?)?;
        same("the one for writing", &"rw-s 00000000".to_owned(), &write.shown(0)?)?;
        // SAFETY: takes integers.
        same("the id that the key leads to", &id, &unsafe { libc::shmget(key(0), 0, 0) })
    })
}

/// One of huge pages, with a key, attached twice; its size is no whole number of pages, and the page between holds nothing.
pub(crate) fn huge(_: &[String]) -> Result<Living, String> {
    const HUGE: usize = 2 << 20;
    let id = segment(key(7), 2 * HUGE + 100, 0o640 | libc::SHM_HUGETLB | libc::MAP_HUGE_2MB)?;
    let write = Attached::new(id, 3 * HUGE, 0)?;
    let read = Attached::new(id, 3 * HUGE, libc::SHM_RDONLY)?;
    let (first, last) = (HUGE / PAGE - 1, 2 * HUGE / PAGE + 1);
    write.page(first).copy_from_slice(&pattern(6, PAGE));
    write.page(last).copy_from_slice(&pattern(7, PAGE));
    let before = about(id)?;
    Living::reads(move |_| {
        same_told(&before, id)?;
        let shown = fine("smaps", std::fs::read_to_string("/proc/self/smaps"))?;
        let of_huge = shown.matches("KernelPageSize:     2048 kB").count();
        same("attachments with such pages", &2, &of_huge)?;
        same_bytes("the end of the first page", &pattern(6, PAGE), read.page(first))?;
        same_bytes("behind its end", &pattern(7, PAGE), read.page(last))?;
        write.page(0)[9] = 77;
        same("what was written through the other attachment", &77, &read.page(0)[9])?;
        write.page(0)[9] = 0;
        Ok(())
    })
}

/// Removed while it is attached, as most programs do; locked, where that is allowed.
pub(crate) fn removed(_: &[String]) -> Result<Living, String> {
    let id = segment(libc::IPC_PRIVATE, 3 * PAGE, 0o600)?;
    let area = Attached::new(id, 3 * PAGE, 0)?;
    area.page(2).copy_from_slice(&pattern(3, PAGE));
    control(id, libc::SHM_LOCK)?;
    control(id, libc::IPC_RMID)?;
    let before = about(id)?;
    holds("it is locked and goes", sys::Truth(before.2 & !0o777 == SHM_STAT_LOCKED | SHM_STAT_DEST))?;
    Living::reads(move |_| {
        same_told(&before, id)?;
        same_bytes("the last page", &pattern(3, PAGE), area.page(2))
    })
}

/// Attachments of which parts are gone, and another one in such a gap.
pub(crate) fn pieces(_: &[String]) -> Result<Living, String> {
    let id = segment(libc::IPC_PRIVATE, 8 * PAGE, 0o600)?;
    let area = Attached::new(id, 8 * PAGE, 0)?;
    (0..8).for_each(|n| area.page(n).copy_from_slice(&pattern(n as u64, PAGE)));
    let at = |page: usize| (area.start + page * PAGE) as *mut libc::c_void;
    // SAFETY: parts of our own attachment, which are not touched any more, or only as is allowed.
    unsafe {
        must("munmap", libc::munmap(at(2), 2 * PAGE))?;
        must("munmap", libc::munmap(at(7), PAGE))?;
        must("mprotect", libc::mprotect(at(5), PAGE, libc::PROT_READ))?;
        let fixed = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        must("mmap", libc::mmap(at(2), PAGE, libc::PROT_READ | libc::PROT_WRITE, fixed, -1, 0) as i64)?;
    }
    area.page(2).fill(9);
    let before = about(id)?;
    Living::reads(move |_| {
        same_told(&before, id)?;
        for n in [0, 1, 4, 5, 6] {
            same_bytes(&format!("page {n}"), &pattern(n as u64, PAGE), area.page(n))?;
        }
        same_bytes("what stands in the gap", &[9; PAGE], area.page(2))?;
        let shown = [1, 2, 3, 4, 5, 6, 7].map(|n| area.shown(n));
        let shown: Vec<String> = shown.into_iter().collect::<Result<_, _>>()?;
        let writable = "rw-s 00004000";
        same("the rest behind the gap", &writable, &shown[3].as_str())?;
        same("the page for reading", &"r--s 00005000", &shown[4].as_str())?;
        same("what stands in the gap", &"rw-p 00000000", &shown[1].as_str())?;
        same("the gap and the end", &false, &[&shown[2], &shown[6]].iter().any(|s| s.contains("-s ")))?;
        // What is not shown is there all the same.
        let whole = Attached::new(id, 8 * PAGE, libc::SHM_RDONLY)?;
        let (hidden, last) = (whole.page(3).to_vec(), whole.page(7).to_vec());
        // SAFETY: our own attachment, which is not used any more.
        must("shmdt", unsafe { libc::shmdt(whole.start as *const _) })?;
        same_bytes("a page that is not shown", &pattern(3, PAGE), &hidden)?;
        same_bytes("the last page", &pattern(7, PAGE), &last)
    })
}

/// An attachment in which something of one's own stands, of which a part was moved behind it, and one that has grown beyond its end; had by a
/// child as well.
pub(crate) fn overlaid(_: &[String]) -> Result<Living, String> {
    let id = segment(libc::IPC_PRIVATE, 8 * PAGE, 0o600)?;
    let free = free(40)?;
    let area = Attached { length: 12 * PAGE, ..Attached::new_at(id, 8 * PAGE, free, 0)? };
    (0..8).for_each(|n| area.page(n).copy_from_slice(&pattern(n as u64, PAGE)));
    let grown = Attached::new_at(id, 8 * PAGE, free + 20 * PAGE, 0)?;
    let at = |page: usize| (free + page * PAGE) as *mut libc::c_void;
    let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: parts of our own attachments and what is behind them, where nothing else is.
    unsafe {
        let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        must("mmap", libc::mmap(at(3), 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE, own, -1, 0) as i64)?;
        must("mremap", libc::mremap(at(6), 2 * PAGE, 2 * PAGE, fixed, at(10)) as i64)?;
        must("mremap", libc::mremap(at(20), 8 * PAGE, 12 * PAGE, 0) as i64)?;
    }
    area.page(3).fill(7);
    let look = move || {
        for (page, part) in [(0, 0), (5, 5), (10, 6), (11, 7)] {
            same_bytes(&format!("page {page}"), &pattern(part, PAGE), area.page(page))?;
        }
        same_bytes("one's own", &[7; PAGE], area.page(3))?;
        same_bytes("the last one of what has grown", &pattern(7, PAGE), grown.page(7))?;
        same("the hole", &false, &area.shown(6)?.contains("-s "))
    };
    let child = kin::child(move || Ok(move |_: &str| look().map(|()| "fine".to_owned())))?;
    Living::reads(move |_| {
        look()?;
        child.says("look", "fine")
    })
}

/// Where so many pages are free.
fn free(pages: usize) -> Result<usize, String> {
    let area = Area::map(pages * PAGE, libc::PROT_NONE, ANONYMOUS, -1)?;
    area.forget()?;
    Ok(area.start)
}

/// Not attached at all.
pub(crate) fn apart(_: &[String]) -> Result<Living, String> {
    let id = segment(key(1), 2 * PAGE, 0o600)?;
    let area = Attached::new(id, 2 * PAGE, 0)?;
    area.page(1).copy_from_slice(&pattern(4, PAGE));
    // SAFETY: our own attachment, which is not used any more.
    must("shmdt", unsafe { libc::shmdt(area.start as *const _) })?;
    let before = about(id)?;
    Living::reads(move |_| {
        same_told(&before, id)?;
        let area = Attached::new(id, 2 * PAGE, 0)?;
        let seen = area.page(1).to_vec();
        // SAFETY: our own attachment, which is not used any more.
        must("shmdt", unsafe { libc::shmdt(area.start as *const _) })?;
        same_bytes("page 1", &pattern(4, PAGE), &seen)
    })
}

/// POSIX shared memory: one with a name, mapped for writing and for reading, with a descriptor left; and one without.
pub(crate) fn posix_memory(_: &[String]) -> Result<Living, String> {
    let path = format!("/dev/shm/specimen-{}", std::process::id());
    let file = fine(&path, std::fs::File::options().read(true).write(true).create_new(true).open(&path))?;
    write_down("file", &path)?;
    let size = 600 * PAGE + 10;
    fine("truncate", file.set_len(size as u64))?;
    let write = mapped(&file, libc::PROT_READ | libc::PROT_WRITE)?;
    let read = mapped(&fine(&path, std::fs::File::open(&path))?, libc::PROT_READ)?;
    write.page(1).copy_from_slice(&pattern(5, PAGE));
    let unlinked = format!("{path}-unlinked");
    let other = fine(&unlinked, std::fs::File::options().read(true).write(true).create_new(true).open(&unlinked))?;
    fine("truncate", other.set_len(2 * PAGE as u64))?;
    let nameless = mapped(&other, libc::PROT_READ | libc::PROT_WRITE)?;
    fine("remove", std::fs::remove_file(&unlinked))?;
    drop(other);
    nameless.page(1).copy_from_slice(&pattern(6, PAGE));
    Living::reads(move |_| {
        same("length", &(size as u64), &fine(&path, file.metadata())?.len())?;
        same_bytes("page 1", &pattern(5, PAGE), read.page(1))?;
        same_bytes("page 1 of the one without a name", &pattern(6, PAGE), nameless.page(1))?;
        write.page(0)[3] = 9;
        let by_name = fine(&path, std::fs::read(&path))?;
        same("what was written, by the other map and by name", &(9, 9), &(read.page(0)[3], by_name[3]))?;
        write.page(0)[3] = 0;
        same("the one for reading", &"r--s 00000000".to_owned(), &read.shown(0)?)
    })
}

fn mapped(file: &std::fs::File, protection: i32) -> Result<Attached, String> {
    use std::os::fd::AsRawFd;
    let length = 2 * PAGE;
    // SAFETY: the kernel chooses a free place.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    must("mmap", start as i64).map(|start| Attached { start: start as usize, length })
}

/// A POSIX semaphore with a name.
pub(crate) fn posix_semaphore(_: &[String]) -> Result<Living, String> {
    let name = format!("specimen-{}", std::process::id());
    let c_name = std::ffi::CString::new(format!("/{name}")).expect("no NUL in a name of ours");
    // SAFETY: the name lives as long as the call.
    let semaphore = unsafe { libc::sem_open(c_name.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o600, 3) };
    if semaphore.is_null() {
        return Err(format!("sem_open: errno {}", sys::errno()));
    }
    let path = format!("/dev/shm/sem.{name}");
    write_down("file", &path)?;
    let semaphore = semaphore as usize;
    Living::reads(move |_| {
        let mut value = 0;
        let semaphore = semaphore as *mut libc::sem_t;
        // SAFETY: a semaphore that stays open as long as we run, and room for a value.
        unsafe {
            must("sem_trywait", libc::sem_trywait(semaphore))?;
            must("sem_getvalue", libc::sem_getvalue(semaphore, &raw mut value))?;
            must("sem_post", libc::sem_post(semaphore))?;
        }
        same("value", &2, &value)?;
        same("its first byte by name", &3, &fine(&path, std::fs::read(&path))?[0])
    })
}

fn set(key: i32, values: &[u16]) -> Result<i32, String> {
    // SAFETY: takes integers.
    let id = must("semget", unsafe { libc::semget(key, values.len() as i32, MAKE | 0o600) })?;
    // As with queues: from here on it is somebody's.
    set_values(id as i32, values)?;
    written_down("sem", id)
}

fn set_values(id: i32, values: &[u16]) -> Outcome {
    // SAFETY: as many values as the set has semaphores.
    must("semctl(SETALL)", unsafe { libc::semctl(id, 0, 17, values.as_ptr()) }).map(drop)
}

fn values(id: i32, count: usize) -> Result<Vec<u16>, String> {
    let mut values = vec![0u16; count];
    // SAFETY: room for as many values as the set has semaphores.
    must("semctl(GETALL)", unsafe { libc::semctl(id, 0, 13, values.as_mut_ptr()) })?;
    Ok(values)
}

/// One call; the errno that it ends with.
fn operate(id: i32, operations: &[(u16, i16, i16)]) -> Result<(), i32> {
    let operation =
        |(number, change, flags): &(u16, i16, i16)| libc::sembuf { sem_num: *number, sem_op: *change, sem_flg: *flags };
    let mut all: Vec<libc::sembuf> = operations.iter().map(operation).collect();
    // SAFETY: as many operations as it says.
    if unsafe { libc::semop(id, all.as_mut_ptr(), all.len()) } == 0 { Ok(()) } else { Err(sys::errno()) }
}

/// A set with values, and with changes that the kernel takes back.
pub(crate) fn semaphores(_: &[String]) -> Result<Living, String> {
    const CHANGES: [i16; 8] = [0, -2, 3, -1, 1, 32767, -32767, 300];
    const FIRST: [u16; 8] = [7, 5, 0, 1, 0, 0, 32767, 9];
    const VALUES: [u16; 8] = [7, 3, 3, 0, 1, 32767, 0, 309];
    let change = |id: i32| {
        for (number, change) in (0..).zip(CHANGES).filter(|(_, change)| *change != 0) {
            operate(id, &[(number, change, SEM_UNDO)]).map_err(|errno| format!("semop: errno {errno}"))?;
        }
        Ok::<(), String>(())
    };
    let (id, other) = (set(key(2), &FIRST)?, set(libc::IPC_PRIVATE, &[0, 32767])?);
    change(id)?;
    Living::reads(move |_| {
        same("values", &VALUES.to_vec(), &values(id, 8)?)?;
        same("values of the other set", &vec![0, 32767], &values(other, 2)?)?;
        // SAFETY: takes an integer. All that is to be taken back is taken back now.
        must("unshare", unsafe { libc::unshare(libc::CLONE_SYSVSEM) })?;
        same("values that were taken back", &FIRST.to_vec(), &values(id, 8)?)?;
        same("values of the other set", &vec![0, 32767], &values(other, 2)?)?;
        change(id)?;
        // SAFETY: takes integers.
        same("the id that the key leads to", &id, &unsafe { libc::semget(key(2), 0, 0) })
    })
}

/// Changes that can be taken back in part only, as somebody else has taken of what they gave: by the process itself, and by two of which one
/// gives back what the other one takes.
pub(crate) fn semaphores_cut(_: &[String]) -> Result<Living, String> {
    let add = |id: i32, number: u16, change: i16, flags: i16| {
        operate(id, &[(number, change, flags)]).map_err(|errno| format!("semop: errno {errno}"))
    };
    let id = set(libc::IPC_PRIVATE, &[0, 1])?;
    add(id, 0, 3, SEM_UNDO)?;
    add(id, 1, -1, SEM_UNDO)?;
    let child = kin::child(move || {
        add(id, 1, 5, SEM_UNDO)?;
        Ok(|_: &str| Ok(String::new()))
    })?;
    child.says("are you there", "")?;
    add(id, 0, -2, 0)?;
    add(id, 1, -3, 0)?;
    Living::reads(move |_| {
        same("values", &vec![1, 2], &values(id, 2)?)?;
        add(id, 0, 4, SEM_UNDO)?;
        add(id, 0, -4, SEM_UNDO)?;
        child.says("are you there", "")
    })
}

/// A thread that waits for a semaphore: no freeze wakes it.
pub(crate) fn semaphore_waits(_: &[String]) -> Result<Living, String> {
    let id = set(libc::IPC_PRIVATE, &[0])?;
    let woken = Arc::new(AtomicU32::new(0));
    let trouble = Arc::new(AtomicI32::new(0));
    let (count, errno) = (Arc::clone(&woken), Arc::clone(&trouble));
    std::thread::spawn(move || {
        while let Ok(()) = operate(id, &[(0, -1, 0)]).inspect_err(|e| errno.store(*e, SeqCst)) {
            count.fetch_add(1, SeqCst);
        }
    });
    sys::pause_for(20);
    let mut rounds = 0;
    Living::reads(move |_| {
        same("the errno with which it was woken", &0, &trouble.load(SeqCst))?;
        same("times that it was woken", &rounds, &woken.load(SeqCst))?;
        rounds += 1;
        operate(id, &[(0, 1, 0)]).map_err(|errno| format!("semop: errno {errno}"))?;
        sys::soon("it wakes", || woken.load(SeqCst) == rounds)
    })
}

#[repr(C)]
struct Message {
    kind: i64,
    text: [u8; 8192],
}

fn send(id: i32, kind: i64, text: &[u8]) -> Outcome {
    let mut message = Message { kind, text: [0; 8192] };
    message.text[..text.len()].copy_from_slice(text);
    // SAFETY: a message with a text that is as long as it says.
    must("msgsnd", unsafe { libc::msgsnd(id, (&raw const message).cast(), text.len(), libc::IPC_NOWAIT) }).map(drop)
}

fn receive(id: i32, kind: i64, flags: i32) -> Result<(i64, Vec<u8>), i32> {
    let mut message = Message { kind: 0, text: [0; 8192] };
    // SAFETY: room for a text that is as long as it says.
    let len = unsafe { libc::msgrcv(id, (&raw mut message).cast(), 8192, kind, flags) };
    if len < 0 { Err(sys::errno()) } else { Ok((message.kind, message.text[..len as usize].to_vec())) }
}

fn queue(key: i32, limit: u64) -> Result<i32, String> {
    // SAFETY: a key and flags: no memory of ours.
    let id = must("msgget", unsafe { libc::msgget(key, MAKE | 0o600) })? as i32;
    // A queue that nobody has used yet might be anybody's, also that of another specimen that is frozen in this instant.
    send(id, 1, b"first")?;
    receive(id, 1, 0).map_err(|errno| format!("msgrcv: errno {errno}"))?;
    written_down("msg", id.into())?;
    let mut stat = about_queue(id)?;
    stat.msg_qbytes = limit;
    // SAFETY: the structure that the kernel gave.
    must("msgctl", unsafe { libc::msgctl(id, libc::IPC_SET, &raw mut stat) })?;
    Ok(id)
}

fn about_queue(id: i32) -> Result<libc::msqid_ds, String> {
    // SAFETY: zeroes are a value of the type.
    let mut stat: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: room for the structure.
    must("msgctl", unsafe { libc::msgctl(id, libc::IPC_STAT, &raw mut stat) })?;
    Ok(stat)
}

/// Messages of several types and lengths.
fn mixed_messages() -> Result<Living, String> {
    let all =
        [(3, pattern(1, 100)), (1, Vec::new()), (2, pattern(2, 5000)), (3, pattern(3, 1)), (i64::MAX, pattern(4, 249))];
    let id = queue(key(3), 9000)?;
    all.iter().try_for_each(|(kind, text)| send(id, *kind, text))?;
    Living::reads(move |_| {
        same("limit", &9000, &about_queue(id)?.msg_qbytes)?;
        for (kind, text) in &all {
            let got = receive(id, 0, libc::IPC_NOWAIT).map_err(|errno| format!("msgrcv: errno {errno}"))?;
            same("type of a message", kind, &got.0)?;
            same_bytes("message", text, &got.1)?;
        }
        same("what is left", &Err(libc::ENOMSG), &receive(id, 0, libc::IPC_NOWAIT))?;
        all.iter().try_for_each(|(kind, text)| send(id, *kind, text))
    })
}

/// The same, and a thread that waits for a message that does not come.
pub(crate) fn messages(_: &[String]) -> Result<Living, String> {
    let mut mixed = mixed_messages()?;
    let empty = queue(libc::IPC_PRIVATE, 16000)?;
    let (heard, trouble) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicI32::new(0)));
    let (count, errno) = (Arc::clone(&heard), Arc::clone(&trouble));
    std::thread::spawn(move || {
        while receive(empty, 77, 0).inspect_err(|e| errno.store(*e, SeqCst)).is_ok() {
            count.fetch_add(1, SeqCst);
        }
    });
    sys::pause_for(20);
    let mut rounds = 0;
    Living::reads(move |away| {
        (mixed.check)(away)?;
        same("the errno with which the thread was woken", &0, &trouble.load(SeqCst))?;
        same("what it has heard", &rounds, &heard.load(SeqCst))?;
        rounds += 1;
        send(empty, 77, b"to be heard")?;
        sys::soon("it hears", || heard.load(SeqCst) == rounds)
    })
}

/// All of it in an IPC namespace of our own, with ids that no new one would give, and another limit.
pub(crate) fn namespace(arguments: &[String]) -> Result<Living, String> {
    // SAFETY: takes an integer.
    must("unshare", unsafe { libc::unshare(libc::CLONE_NEWIPC) })?;
    fine("shm_next_id", std::fs::write("/proc/sys/kernel/shm_next_id", "12345"))?;
    fine("sem_next_id", std::fs::write("/proc/sys/kernel/sem_next_id", "23456"))?;
    fine("msg_next_id", std::fs::write("/proc/sys/kernel/msg_next_id", "34567"))?;
    fine("msgmnb", std::fs::write("/proc/sys/kernel/msgmnb", "20000"))?;
    fine("sem", std::fs::write("/proc/sys/kernel/sem", "100 2000 30 40"))?;
    let mut parts = [shared(arguments)?, semaphores(arguments)?, mixed_messages()?, queues::named(arguments)?];
    let told = || {
        // Of nothing that was written down there is anything outside.
        let _ = std::fs::remove_file(LIST);
        ["shm", "sem", "msg"].map(ids).into_iter().collect::<Result<Vec<_>, _>>()
    };
    let expected = told()?;
    same("the first segment", &"12345", &expected[0][0].as_str())?;
    Living::reads(move |away| {
        same("ids", &expected, &told()?)?;
        for (name, limit) in [("msgmnb", "20000"), ("sem", "100\t2000\t30\t40"), ("msgmni", "32000")] {
            let path = format!("/proc/sys/kernel/{name}");
            same(name, &limit, &fine(name, std::fs::read_to_string(path))?.trim())?;
        }
        parts.iter_mut().try_for_each(|part| (part.check)(away))
    })
}

/// The ids of all objects of a kind.
fn ids(kind: &str) -> Result<Vec<String>, String> {
    let text = fine(kind, std::fs::read_to_string(format!("/proc/sysvipc/{kind}")))?;
    Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect())
}
