//! System calls of our own, described as those of a stub are, and what else of ourselves takes `unsafe` to ask.

use crate::{arch, fault, sys};
use abi::layout::{Msghdr, SchedAttr};
use abi::sockopt::SockOpt;
use abi::{Answer, Arg, Call, Errno, Fault, Place};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Makes a call here.
///
/// # Panics
/// When it is one that might harm ourselves ([`Sys::is_harmless`]).
pub fn call(call: &Call) -> Answer {
    calls(std::slice::from_ref(call)).remove(0)
}

/// Makes calls here, one after the other: what one gives may go into the next.
///
/// # Panics
/// When one might harm ourselves ([`Sys::is_harmless`]).
pub fn calls(calls: &[Call]) -> Vec<Answer> {
    let mut batch = Batch::default();
    calls.iter().map(|call| batch.make(call)).collect()
}

/// What calls read and write.
#[derive(Default)]
struct Batch {
    buffers: Vec<Vec<u8>>,
    /// Of each call, the buffers that come back.
    outs: Vec<Vec<usize>>,
}

impl Batch {
    fn make(&mut self, call: &Call) -> Answer {
        assert!(call.sys.is_harmless(), "{} is not made here", call.sys);
        self.outs.push(Vec::new());
        if let Err(e) = fault::point() {
            return Answer { result: Err(e), out: abi::Outs::new() };
        }
        let mut words = [0u64; 6];
        for (word, arg) in words.iter_mut().zip(&call.args) {
            *word = self.put(arg);
        }
        let [a, b, c, d, e, f] = words;
        // SAFETY: these calls read and write only through their pointers, to buffers of the given lengths that live as long as the batch.
        let raw = unsafe { libc::syscall(call.sys.number(arch::MACHINE) as i64, a, b, c, d, e, f) };
        let outs = self.outs.last().into_iter().flatten();
        Answer { result: sys::result(raw), out: outs.map(|i| self.buffers[*i].clone()).collect() }
    }

    /// The word for an argument.
    fn put(&mut self, arg: &Arg) -> u64 {
        match arg {
            Arg::Int(n) => *n,
            Arg::Bytes(bytes) => self.keep(bytes.clone()),
            Arg::Word(word) => self.keep(word.to_ne_bytes().to_vec()),
            Arg::Out(len) => self.give(vec![0; *len]),
            Arg::InOut(bytes) => self.give(bytes.clone()),
            Arg::Nested(nested) => {
                let abi::Nested { bytes: mut outer, at, inner } = (**nested).clone();
                outer[at..at + 8].copy_from_slice(&self.keep(inner).to_ne_bytes());
                self.keep(outer)
            }
            // What a call that was not made was to write is nowhere: then this one fails, too.
            Arg::At(Place::Out(call, n)) => self.outs[*call].get(*n).map_or(0, |i| address(&self.buffers[*i])),
            Arg::Message { data, name, control } => {
                let [base, name, control] = [*data, *name, *control].map(|len| (self.give(vec![0; len]), len as u64));
                let iov = self.keep([base.0, base.1].map(u64::to_ne_bytes).as_flattened().to_vec());
                let header = Msghdr {
                    name: name.0,
                    namelen: name.1 as u32,
                    iov,
                    iovlen: 1,
                    control: control.0,
                    controllen: control.1,
                    ..Msghdr::default()
                };
                self.give(header.to_bytes().to_vec())
            }
            Arg::At(_) | Arg::Pieces(_) => {
                unreachable!("none of these calls takes the place of another one's argument")
            }
        }
    }

    fn keep(&mut self, bytes: Vec<u8>) -> u64 {
        let at = address(&bytes);
        self.buffers.push(bytes);
        at
    }

    /// The same, of what comes back.
    fn give(&mut self, bytes: Vec<u8>) -> u64 {
        self.outs.last_mut().expect("a call is being made").push(self.buffers.len());
        self.keep(bytes)
    }
}

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr().addr() as u64
}

/// Asks a socket of ours for an option (getsockopt(2)): `room` begins with it, and zeroes are behind what the kernel gives.
pub fn option(socket: &impl AsRawFd, option: &SockOpt, room: &mut [u8; SockOpt::LONGEST]) -> Result<(), Errno> {
    fault::point()?;
    room.fill(0);
    let mut len = option.len as u32;
    let (fd, level, number) = (socket.as_raw_fd(), option.level as i32, option.number as i32);
    // SAFETY: the kernel writes as many bytes as the length says, which are there, and the length.
    let r = unsafe { libc::getsockopt(fd, level, number, room[..option.len].as_mut_ptr().cast(), &raw mut len) };
    sys::result(i64::from(r)).map(drop)
}

/// The extended states that processor and kernel have switched on (Intel SDM volume 1, 13.3: XCR0).
pub fn xfeatures() -> u64 {
    arch::xfeatures()
}

/// Memory that is free again is not given back to the kernel, as more will be wanted at once: for somebody who ends soon, or gives it
/// back ([`give_back_memory`]). As much as is expected to be wanted is had in huge pages, where there are such (madvise(2)): of small
/// ones each takes a fault of its own. What is not wanted after all takes address space only.
pub fn keep_memory(expected: u64) {
    let settings =
        [(libc::M_TOP_PAD, 1 << 20), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_MMAP_THRESHOLD, LARGEST)];
    for (what, bytes) in settings {
        // SAFETY: mallopt takes two numbers, and what it does not take it leaves as it is.
        unsafe { libc::mallopt(what, bytes) };
    }
    let mut room: Vec<u8> = Vec::new();
    // With what it takes besides, no piece by itself.
    let len = (expected as usize).min(LARGEST as usize - 2 * HUGE) / HUGE * HUGE;
    // Free again it is the end of the heap, from which malloc(3) takes what it has nowhere else.
    if len > 0 && room.try_reserve_exact(len + HUGE).is_ok() {
        let at = address(room.spare_capacity_mut()).next_multiple_of(HUGE as u64);
        // SAFETY: whole pages of what was reserved just now; how large a page is changes nothing of what is in it.
        unsafe { libc::madvise(at as *mut libc::c_void, len, libc::MADV_HUGEPAGE) };
    }
}

/// What is free again is the kernel's again (malloc_trim(3)).
pub fn give_back_memory() {
    // SAFETY: it takes a number, and touches only what nobody has.
    unsafe { libc::malloc_trim(0) };
}

/// The largest piece that malloc(3) takes of its heap, and not by itself (mallopt(3), M_MMAP_THRESHOLD).
const LARGEST: libc::c_int = 1 << 25;

/// A huge page.
const HUGE: usize = 2 << 20;

/// Scheduling policy and parameters of this thread (sched_getattr(2)).
pub fn scheduling() -> Option<SchedAttr> {
    let mut attr = [0; SchedAttr::SIZE];
    // SAFETY: the kernel writes as many bytes as it is told that there are.
    let r = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), SchedAttr::SIZE, 0) };
    sys::result(r).ok().and_then(|_| SchedAttr::from_bytes(&attr))
}

/// The priority of input and output of this thread (ioprio_get(2)), its execution domain (personality(2)), and the slack of its timers
/// (PR_GET_TIMERSLACK).
pub fn modes() -> [Option<u64>; 3] {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: these calls take numbers only; personality changes nothing where it is only asked.
    let all = unsafe {
        [
            libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0),
            libc::personality(libc::c_ulong::from(u32::MAX)).into(),
            libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0).into(),
        ]
    };
    all.map(|given| u64::try_from(given).ok())
}

/// Whether memory that was written may not become executable in us and what is born of us (PR_SET_MDWE(2const)).
pub fn inherits_mdwe() -> bool {
    // SAFETY: prctl(PR_GET_MDWE) reads and writes no memory.
    let modes = unsafe { libc::prctl(libc::PR_GET_MDWE, 0, 0, 0, 0) };
    let bits =
        [libc::PR_MDWE_REFUSE_EXEC_GAIN, libc::PR_MDWE_NO_INHERIT].map(|bit| modes > 0 && modes as u32 & bit != 0);
    bits == [true, false]
}

/// Whether capabilities that we have count in our pid namespace: whether it belongs to our user namespace or one below. The
/// kernel names its owner to nobody else (kernel/nsfs.c, NS_GET_USERNS; kernel/user_namespace.c, `ns_get_owner`).
pub fn rules_pid_namespace() -> bool {
    const NS_GET_USERNS: u64 = 0xb701;
    let Ok(namespace) = File::open("/proc/self/ns/pid") else { return true };
    // SAFETY: this ioctl takes no argument.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM);
    }
    // SAFETY: the descriptor that was just made, which nobody else knows.
    drop(unsafe { OwnedFd::from_raw_fd(owner) });
    true
}

/// Whether we may make a user namespace: tried by a child, as too many settings have a say in it (user_namespaces(7),
/// chroot(2), security modules).
///
/// # Errors
/// There may be no such child just now (clone(2), EAGAIN).
pub fn can_make_user_namespace() -> Result<bool, Fault> {
    let own = Ids::new(owners());
    // SAFETY: the child makes system calls, and nothing else.
    match unsafe { crate::stub::clone_self(0, libc::SIGCHLD as u64, None) } {
        // SAFETY: numbers, and what was there before the child; _exit runs nothing of the process whose copy it is.
        Ok(0) => unsafe { libc::_exit(if libc::unshare(libc::CLONE_NEWUSER) == 0 { own.map() } else { 1 }) },
        Ok(pid) => Ok(crate::stub::reap(pid) == Some(0)),
        Err(e @ Errno::EAGAIN) => Err(Fault::new("clone3", "a child that makes a user namespace", e)),
        Err(_) => Ok(false),
    }
}

/// Our effective user and group.
pub fn owners() -> (u32, u32) {
    // SAFETY: these calls only give numbers.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// What a child writes to have one user and one group in its user namespace, and no others: where, and what (user_namespaces(7): an
/// unprivileged process may map its own ids, the group only once setgroups is denied).
pub(crate) struct Ids([(&'static CStr, String); 3]);

impl Ids {
    pub(crate) fn new((user, group): (u32, u32)) -> Ids {
        Ids([
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/uid_map", format!("{user} {user} 1")),
            (c"/proc/self/gid_map", format!("{group} {group} 1")),
        ])
    }

    /// In the child: 0, or the error.
    pub(crate) fn map(&self) -> i32 {
        for (file, text) in &self.0 {
            // SAFETY: a C string that lives longer than the call.
            let fd = unsafe { libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
            // SAFETY: the text lives longer than the call.
            let wrote = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
            let errno = last_errno();
            // SAFETY: nobody else has the number.
            unsafe { libc::close(fd) };
            if wrote < 0 {
                return errno;
            }
        }
        0
    }
}

/// That of the last call that failed.
fn last_errno() -> i32 {
    // SAFETY: the address is that of a number of this thread.
    unsafe { *libc::__errno_location() }
}

/// Opens a file of our own user and group, whatever its permission bits say. A child does: in a user namespace that has both it has
/// CAP_DAC_OVERRIDE over the file (user_namespaces(7); kernel/capability.c, `capable_wrt_inode_uidgid`).
///
/// # Errors
/// Those of open(2), or no such child can be had.
pub fn open_own(path: &[u8], flags: i32) -> Result<OwnedFd, Fault> {
    let failed = |e| Fault::new("open", path.escape_ascii(), e);
    let path = CString::new(path).map_err(|_| failed(Errno::EINVAL))?;
    // Where the child puts it: both have the same table of descriptors.
    let place = File::open("/dev/null").map_err(|e| failed(e.into()))?;
    let own = Ids::new(owners());
    let shares = (libc::CLONE_NEWUSER | libc::CLONE_FILES) as u64;
    // SAFETY: the child makes system calls, and nothing else.
    let pid = unsafe { crate::stub::clone_self(shares, libc::SIGCHLD as u64, None) }.map_err(failed)?;
    if pid == 0 {
        let errno = match own.map() {
            0 => open_at(&path, flags, place.as_raw_fd()),
            errno => errno,
        };
        // SAFETY: a number; _exit runs nothing of the process whose copy it is.
        unsafe { libc::_exit(errno) }
    }
    match crate::stub::reap(pid) {
        Some(0) => Ok(place.into()),
        errno => Err(failed(Errno(errno.unwrap_or(libc::ESRCH)))),
    }
}

/// In a child: opens what stands there as that number; 0, or the error.
fn open_at(path: &CStr, flags: i32, place: i32) -> i32 {
    // SAFETY: a C string that lives longer than the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return last_errno();
    }
    // SAFETY: numbers only; who made the child waits for it.
    let moved = unsafe { libc::dup3(fd, place, libc::O_CLOEXEC) };
    let errno = if moved < 0 { last_errno() } else { 0 };
    // SAFETY: nobody else has the number.
    unsafe { libc::close(fd) };
    errno
}

/// A child of ours that does nothing, and is no more when this is dropped.
#[derive(Debug)]
pub struct Passing(i32);

impl Passing {
    /// Makes one.
    pub fn new() -> Result<Passing, Errno> {
        let ours = std::process::id() as i32;
        // SAFETY: the child makes system calls, and nothing else, until it is ended.
        match unsafe { crate::stub::clone_self(0, 0, None) }? {
            // SAFETY: numbers only. Who had lost us before it was to end with us would be here for ever.
            0 => unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                while libc::getppid() == ours {
                    libc::pause();
                }
                libc::_exit(0)
            },
            pid => Ok(Passing(pid)),
        }
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.0
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        crate::stub::end(self.0);
    }
}

/// Writes into a file of huge pages of this size, which takes no write(2), by way of its memory. The pages are made before: where
/// none is free, that is an error and no SIGBUS.
pub fn write_memory(file: &File, bytes: &[u8], at: u64, page: u64) -> std::io::Result<()> {
    let start = at / page * page;
    let (skipped, len) = ((at - start) as usize, (at + bytes.len() as u64).next_multiple_of(page) - start);
    let fd = file.as_raw_fd();
    // SAFETY: fallocate with numbers only.
    sys::result(i64::from(unsafe { libc::fallocate(fd, 0, at as i64, bytes.len() as i64) }))?;
    let (anywhere, both, shared) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping where the kernel likes.
    let ours = unsafe { libc::mmap(anywhere, len as usize, both, shared, fd, start as i64) };
    if ours == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the pages are there, as many as it takes; nobody else knows of the mapping, and it is not used any more.
    sys::result(i64::from(unsafe {
        ours.cast::<u8>().add(skipped).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        libc::munmap(ours, len as usize)
    }))?;
    Ok(())
}

/// What a descriptor shows where it is mapped as memory from its beginning on: the first bytes of it; and whether all that is behind
/// them is zeroes.
pub fn look_into(fd: &impl AsRawFd, first: usize, len: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let (anywhere, fd) = (std::ptr::null_mut(), fd.as_raw_fd());
    // SAFETY: a new mapping where the kernel likes.
    let ours = unsafe { libc::mmap(anywhere, len, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if ours == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    let byte = |n| {
        // SAFETY: all of it is mapped; others may write to it meanwhile, so each byte is read once.
        unsafe { ours.cast::<u8>().add(n).read_volatile() }
    };
    let found = ((0..first.min(len)).map(byte).collect(), (first..len).all(|n| byte(n) == 0));
    // SAFETY: nobody else knows of the mapping, and it is not used any more.
    sys::result(i64::from(unsafe { libc::munmap(ours, len) }))?;
    Ok(found)
}

/// Closes every descriptor from `first` on, up to `last`.
pub fn close_range(first: u32, last: u32) {
    // SAFETY: the caller set these numbers apart for what nothing of ours owns.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// The disk begins to write this part of a file; its end is not waited for (sync_file_range(2)). Where it does not, whoever makes the file
/// durable waits for all of it.
pub fn begin_writeback(file: &File, part: Range<u64>) {
    let (at, len) = (part.start as i64, (part.end - part.start) as i64);
    // SAFETY: sync_file_range reads and writes no memory of ours.
    unsafe { libc::sync_file_range(file.as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// dup3(2): the description behind `fd` under a number that the caller set apart.
pub fn duplicate(fd: i32, number: i32) -> Result<(), Errno> {
    fault::point()?;
    // SAFETY: dup3 reads no memory of ours.
    let r = unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) };
    sys::result(i64::from(r)).map(drop)
}
