//! The seized process as a resource sees it: the one [`Probe`] that asks the kernel.

use crate::identify::file_stat;
use crate::procfs::read;
use crate::save::Saver;
use abi::layout::FileStat;
use abi::signal::Siginfo;
use abi::x86_64::{RseqConfiguration, UserRegs};
use abi::{Answer, Call, Errno, Fault};
use image::Extent;
use resources::{Probe, Queue, Saved, Still, Which};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use tracee::{Envoy, EnvoyError, Process, Stopped};

/// What was seen of the threads before they were seized, and of the process as a whole.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// By thread id here: for how long it had not run, and in which kernel function it slept.
    pub(crate) idle: BTreeMap<i32, (Option<u64>, Vec<u8>)>,
    /// Ids here to ids in the process's own pid namespace.
    pub(crate) inner: BTreeMap<u32, u32>,
    /// /proc/PID/smaps, without an envoy's own area.
    pub(crate) areas: Vec<u8>,
    /// Locked memory, in KiB, without an envoy's own area.
    pub(crate) locked_kb: u64,
    /// What to put before a path to find it in the process's own mount namespace.
    pub(crate) root: PathBuf,
}

/// A thread that stands still: the last look.
pub(crate) struct Standing<'a> {
    pub(crate) thread: &'a Stopped,
    pub(crate) index: usize,
}

impl Still for Standing<'_> {
    fn pending(&self, queue: Queue) -> Result<Vec<Siginfo>, Fault> {
        let queue = match queue {
            Queue::Thread => tracee::Queue::Thread,
            Queue::Process => tracee::Queue::Process,
        };
        Ok(self.thread.pending(queue)?.into_iter().map(Siginfo).collect())
    }

    fn stopped(&self) -> Option<i32> {
        self.thread.group_stop()
    }

    fn is_first_thread(&self) -> bool {
        self.index == 0
    }
}

/// One thread that carries the envoy.
pub(crate) struct Target<'a, 's, 'p> {
    pub(crate) envoy: RefCell<Envoy<'a>>,
    pub(crate) index: usize,
    pub(crate) pid: i32,
    pub(crate) before: &'a Before,
    pub(crate) saver: &'s RefCell<Saver<'p>>,
    pub(crate) holders: RefCell<Option<HashMap<Vec<u8>, Vec<u32>>>>,
}

/// The reason in the words of a fault.
pub(crate) fn envoy_fault(e: EnvoyError, pid: i32) -> Fault {
    match e {
        EnvoyError::Fault(fault) => fault,
        EnvoyError::Died { .. } => Fault::new("a call in it", pid, Errno::ESRCH),
        other => Fault::new(other.to_string(), pid, Errno::EIO),
    }
}

impl Target<'_, '_, '_> {
    fn with<T>(&self, ask: impl FnOnce(&Process, &Stopped) -> T) -> T {
        let envoy = self.envoy.borrow();
        let process = envoy.process();
        ask(process, &process.threads()[self.index])
    }

    fn tid(&self) -> i32 {
        self.with(|_, t| t.tid())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    fn inside(&self, path: &[u8]) -> PathBuf {
        let mut whole = self.before.root.clone().into_os_string();
        whole.push(OsStr::from_bytes(path));
        whole.into()
    }

    fn save(&self, file: &File, size: u64) -> Result<Vec<Extent>, Fault> {
        self.saver.borrow_mut().file(file, size)
    }
}

fn fault(call: &str, path: &Path, e: std::io::Error) -> Fault {
    Fault::new(call, path.display(), e)
}

impl Probe for Target<'_, '_, '_> {
    fn text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        if name == "smaps" {
            return Ok(self.before.areas.clone());
        }
        read(self.path(name))
    }

    fn thread_text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        read(self.path(&format!("task/{}/{name}", self.tid())))
    }

    fn link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let path = self.path(name);
        let link = std::fs::read_link(&path).map_err(|e| fault("readlink", &path, e))?;
        Ok(link.into_os_string().into_vec())
    }

    fn own_link(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let path = PathBuf::from(format!("/proc/self/{name}"));
        let link = std::fs::read_link(&path).map_err(|e| fault("readlink", &path, e))?;
        Ok(link.into_os_string().into_vec())
    }

    fn stat(&self, name: &str) -> Result<FileStat, Fault> {
        let path = self.path(name);
        std::fs::metadata(&path).map(|m| file_stat(&m)).map_err(|e| fault("stat", &path, e))
    }

    fn stat_path(&self, path: &[u8]) -> Result<Option<FileStat>, Fault> {
        // What cannot be looked at is not there for whoever thaws, either.
        Ok(std::fs::metadata(self.inside(path)).ok().map(|m| file_stat(&m)))
    }

    fn head(&self, path: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
        let path = self.inside(path);
        let mut head = Vec::with_capacity(len);
        let file = File::open(&path).map_err(|e| fault("open", &path, e))?;
        file.take(len as u64).read_to_end(&mut head).map_err(|e| fault("read", &path, e))?;
        Ok(head)
    }

    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        self.envoy.borrow_mut().calls(calls).map_err(|e| envoy_fault(e, self.pid))
    }

    fn memory(&self, at: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; len];
        self.with(|p, _| p.memory().read(at, &mut bytes))?;
        Ok(bytes)
    }

    fn regs(&self) -> UserRegs {
        self.with(|_, t| *t.regs())
    }

    fn xstate(&self) -> Vec<u8> {
        self.with(|_, t| t.xstate().to_vec())
    }

    fn mask(&self) -> u64 {
        self.with(|_, t| t.sigmask())
    }

    fn rseq(&self) -> Option<RseqConfiguration> {
        self.with(|_, t| t.rseq().copied())
    }

    /// The kernel tells nobody, but our own area in the process is such a new one.
    fn locks_new_areas(&self) -> Result<bool, Fault> {
        let path = self.path("status");
        let status =
            abi::proc::status(&read(&path)?).map_err(|e| Fault::new(e.to_string(), self.pid, Errno::EINVAL))?;
        Ok(status.vm_lck_kb > self.before.locked_kb)
    }

    fn idle(&self) -> Option<u64> {
        self.before.idle.get(&self.tid()).and_then(|b| b.0)
    }

    fn wait_channel(&self) -> Vec<u8> {
        self.before.idle.get(&self.tid()).map(|b| b.1.clone()).unwrap_or_default()
    }

    fn inner_tid(&self, outer: u32) -> Option<u32> {
        self.before.inner.get(&outer).copied()
    }

    fn peek(&self, fd: u32) -> Result<Vec<Vec<u8>>, Fault> {
        let pipe = self.with(|p, _| p.descriptor(fd as i32))?;
        peek(&pipe).map_err(|e| Fault::new("tee", fd, std::io::Error::from(e)))
    }

    fn other_holders(&self, link: &[u8]) -> Result<Vec<u32>, Fault> {
        let mut known = self.holders.borrow_mut();
        let known = known.get_or_insert_with(|| holders(self.pid as u32));
        Ok(known.get(link).cloned().unwrap_or_default())
    }

    fn save_memory(&self, areas: &[(Range<u64>, Which)]) -> Result<Saved, Fault> {
        let path = self.path("pagemap");
        let pagemap = File::open(&path).map_err(|e| fault("open", &path, e))?;
        self.with(|p, _| self.saver.borrow_mut().memory(p.memory(), &pagemap, areas))
    }

    fn save_link(&self, name: &str, size: u64) -> Result<Vec<Extent>, Fault> {
        let path = self.path(name);
        let file = File::open(&path).map_err(|e| fault("open", &path, e))?;
        self.save(&file, size)
    }

    fn save_path(&self, path: &[u8], size: u64) -> Result<Vec<Extent>, Fault> {
        let path = self.inside(path);
        let file = File::open(&path).map_err(|e| fault("open", &path, e))?;
        self.save(&file, size)
    }
}

/// What waits in a pipe, read from a second pipe into which the kernel puts references to the same pages (tee(2)).
fn peek(pipe: &impl std::os::fd::AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    use rustix::pipe::{PipeFlags, SpliceFlags};
    let capacity = rustix::pipe::fcntl_getpipe_size(pipe)?;
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&write, capacity)?;
    match rustix::pipe::tee(pipe, &write, usize::MAX >> 1, SpliceFlags::NONBLOCK) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
        Err(e) => return Err(e),
    }
    // A read ends where a packet ends, and takes all there is where there are none (pipe(7)).
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut buffer = vec![0; capacity.max(65536)];
    loop {
        match rustix::io::read(&read, &mut buffer[..]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(all),
            Ok(n) => all.push(buffer[..n].to_vec()),
            Err(e) => return Err(e),
        }
    }
}

/// The pipes and sockets of all processes that we may look at, but for the one that is frozen and ourselves.
fn holders(but: u32) -> HashMap<Vec<u8>, Vec<u32>> {
    let mut all: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return all };
    let ids = processes.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    for pid in ids.filter(|pid| *pid != but && *pid != std::process::id()) {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for link in fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()) {
            let link = link.into_os_string().into_vec();
            if link.starts_with(b"pipe:[") || link.starts_with(b"socket:[") {
                all.entry(link).or_default().push(pid);
            }
        }
    }
    all
}
