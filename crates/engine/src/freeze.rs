//! Freeze: seize, capture, write, and only then end the tree. Or, on any trouble, let it run on as if nothing had been.

use crate::identify;
use crate::procfs::read;
use crate::save::{Encoded, Saver};
use crate::target::{Before, Standing, Target, envoy_fault};
use crate::{Error, Output, Progress};
use abi::{Machine, proc};
use image::Header;
use plan::Refusal;
use resources::tree::process::{Fd, Process as ProcessRecord};
use resources::{
    Capturing, Description, Files, Keep, Model, ProcessModel, ProcessState, Text, ThreadModel, ThreadState, Trouble,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tracee::{EnvoyError, Process, SeizeError};

/// What becomes of the tree once its image is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It ends: `freeze`.
    End,
    /// It runs on: `snapshot`.
    RunOn,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Request {
    /// The root of the tree.
    pub pid: i32,
    /// Where the image goes; `None`: nowhere, this is only a look.
    pub output: Option<PathBuf>,
    /// What to keep beyond what must be.
    pub keep: Keep,
    /// What becomes of the tree.
    pub ending: Ending,
}

/// A freeze that went well.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its command name.
    pub name: String,
    /// How many processes.
    pub processes: usize,
    /// Bytes of memory and contents in the image.
    pub saved: u64,
    /// Bytes of the image.
    pub size: u64,
    /// From the start of the command on.
    pub took: Duration,
    /// For how long the tree stood still.
    pub paused: Duration,
    /// Lines that the user sees: what is not kept.
    pub notes: Vec<String>,
}

/// A look, or a freeze: what was found, and what was done.
#[derive(Debug)]
pub struct Frozen {
    /// The tree.
    pub model: Model,
    /// What was done, when it was more than a look.
    pub done: Done,
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

fn header(pid: i32) -> Header {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    Header {
        version: image::FORMAT,
        tool: concat!("cryopid ", env!("CARGO_PKG_VERSION")).into(),
        machine: Machine::X86_64.name().into(),
        kernel: kernel(),
        page_size: rustix::param::page_size() as u32,
        created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        name: String::from_utf8_lossy(comm.trim_ascii_end()).into_owned(),
        pid: pid as u32,
        processes: 1,
    }
}

/// ptrace(2), "Ptrace access mode checking".
fn not_allowed(pid: i32) -> Error {
    let why = "the kernel does not let you trace it: it is another user's, has other privileges, or hides its memory";
    let remedy = "use root, or see kernel.yama.ptrace_scope (sysctl)";
    Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)])
}

/// What nobody can freeze, told before anything is touched.
fn presentable(pid: i32) -> Result<(), Error> {
    let refuse = |why: &str, remedy: &str| Err(Error::refuse("process", why, remedy));
    if pid as u32 == std::process::id() {
        return refuse("this is cryopid itself", "name another process");
    }
    if pid == 1 {
        return refuse("it is the first process of this system", "name another process");
    }
    let status = match fs::read(format!("/proc/{pid}/status")) {
        Ok(text) => proc::status(&text).map_err(Trouble::from)?,
        Err(e) => return Err(Error::io("open", format!("/proc/{pid}"), e)),
    };
    if status.tgid != pid as u32 {
        return refuse(&format!("it is a thread of process {}", status.tgid), "name the process");
    }
    if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.is_empty())
        && fs::read_link(format!("/proc/{pid}/exe")).is_err()
    {
        return match status.state {
            b'Z' => refuse("it has ended; its parent has yet to take note of that", "nothing of it is left to freeze"),
            _ if fs::metadata(format!("/proc/{pid}/exe"))
                .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) =>
            {
                Err(not_allowed(pid))
            }
            _ => refuse("it is a part of the kernel", "name another process"),
        };
    }
    Ok(())
}

/// What only an undisturbed process shows.
fn before(pid: i32) -> Before {
    let mut before = Before { root: root_of(pid), ..Before::default() };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for tid in threads.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        let channel = fs::read(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
        before.idle.insert(tid, (idle(pid, tid), channel));
    }
    before
}

/// For how many nanoseconds a thread has not run: the clock of its processor, now and when it last ran. Each processor has
/// its own (it leaves out time stolen by a hypervisor: kernel/sched/core.c, update_rq_clock_task), so we go there to look.
fn idle(pid: i32, tid: i32) -> Option<u64> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let ran = |path: String| read(path).ok().and_then(|t| proc::sched_exec_start(&t));
    let stat = proc::stat(&read(format!("/proc/{pid}/task/{tid}/stat")).ok()?).ok()?;
    let last = ran(format!("/proc/{pid}/task/{tid}/sched"))?;
    let ours = sched_getaffinity(None).ok()?;
    let mut its = CpuSet::new();
    its.set(stat.processor as usize);
    sched_setaffinity(None, &its).ok()?;
    let now = ran("/proc/self/sched".into());
    sched_setaffinity(None, &ours).ok()?;
    Some(now?.saturating_sub(last))
}

/// Paths that /proc shows of a process in another mount namespace are found below its root directory.
fn root_of(pid: i32) -> PathBuf {
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
    match namespace(&pid.to_string()) == namespace("self") {
        true => PathBuf::new(),
        false => PathBuf::from(format!("/proc/{pid}/root")),
    }
}

fn inner_ids(process: &Process) -> Result<BTreeMap<u32, u32>, Error> {
    let mut ids = BTreeMap::new();
    for t in process.threads() {
        let path = format!("/proc/{}/task/{}/status", process.pid(), t.tid());
        let text = read(&path)?;
        let status = proc::status(&text).map_err(Trouble::from)?;
        ids.insert(t.tid() as u32, status.ns_pid.last().copied().unwrap_or(t.tid() as u32));
    }
    Ok(ids)
}

fn seize_error(e: SeizeError, pid: i32) -> Error {
    let refuse = |why: String, remedy: &str| Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)]);
    match e {
        SeizeError::Fault(fault) if fault.errno == abi::Errno::EPERM => not_allowed(pid),
        SeizeError::Fault(fault) => Error::Fault(fault),
        SeizeError::Died { .. } => Error::io("ptrace", pid, abi::Errno::ESRCH),
        SeizeError::Traced { by } => refuse(format!("process {by} traces it"), "end the debugger, or let it detach"),
        other => refuse(other.to_string(), "try again later"),
    }
}

fn envoy_error(e: EnvoyError, pid: i32) -> Error {
    let refuse = |why: String, remedy: &str| Error::Refused(vec![Refusal::new("process", why, remedy).of(pid)]);
    match e {
        EnvoyError::Fault(fault) => Error::Fault(fault),
        EnvoyError::Died { .. } => Error::io("ptrace", pid, abi::Errno::ESRCH),
        EnvoyError::Seccomp => {
            refuse("its system calls are filtered (seccomp)".into(), "start the program without its sandbox")
        }
        EnvoyError::Setup(fault) => {
            refuse(format!("it has no room for the freezer: {fault}"), "raise its limits (prlimit)")
        }
        other => refuse(other.to_string(), "try again a moment later"),
    }
}

/// Processes below it.
fn children(pid: i32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    let ids = lists.flat_map(|l| l.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<u32>>());
    let name = |pid: &u32| {
        Text(fs::read(format!("/proc/{pid}/comm")).unwrap_or_default().trim_ascii_end().to_vec()).to_string()
    };
    ids.map(|pid| (pid, name(&pid))).collect()
}

/// Collects what a capture gives, and every reason against it.
#[derive(Default)]
struct Findings {
    refusals: Vec<Refusal>,
    fault: Option<Error>,
}

impl Findings {
    fn take<T>(&mut self, whom: i32, found: Result<T, Trouble>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(Trouble::Refused(all)) => {
                self.refusals.extend(all.into_iter().map(|r| r.of(whom)));
                None
            }
            Err(Trouble::Fault(fault)) => {
                self.fault.get_or_insert(fault.into());
                None
            }
        }
    }

    fn end(self) -> Result<(), Error> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.refusals.is_empty() => Ok(()),
            None => Err(Error::Refused(self.refusals)),
        }
    }
}

/// Captures the process; it stays seized, and no envoy is left in it.
fn capture(process: &mut Process, before: &mut Before, saver: &RefCell<Saver<'_>>, keep: Keep) -> Result<Model, Error> {
    let pid = process.pid();
    let mut findings = Findings::default();
    let mut files = Files::default();
    let mut threads = Vec::new();
    let mut model = Model::default();
    for (child, name) in children(pid) {
        let why = format!("it has a child, {child} ({name})");
        findings.refusals.push(
            Refusal::new("process", why, "trees are not supported yet: freeze it when the child has ended").of(pid),
        );
    }
    if process.leader_has_ended() {
        findings
            .refusals
            .push(Refusal::new("process", "its first thread has ended", "this is not supported yet").of(pid));
        findings.end()?;
        unreachable!("a refusal ends it");
    }
    // An envoy brings a socket and an area of its own: what is there without it is looked at first.
    before.areas = read(format!("/proc/{pid}/smaps"))?;
    let stat = proc::stat(&read(format!("/proc/{pid}/stat"))?).map_err(Trouble::from)?;
    before.locked_kb = proc::status(&read(format!("/proc/{pid}/status"))?).map_err(Trouble::from)?.vm_lck_kb;
    let table = identify::table(pid, stat.tty_nr)?;
    let before = &*before;
    // The first thread comes last: it carries the envoy while all that belongs to the process is asked.
    for index in (0..process.threads().len()).rev() {
        let envoy = process.envoy(index).map_err(|e| envoy_error(e, pid))?;
        let target = Target { envoy: RefCell::new(envoy), index, pid, before, saver, holders: RefCell::new(None) };
        let tid = before.inner[&(target_tid(&target) as u32)];
        let mut states = Vec::new();
        let mut from = Capturing { probe: &target, files: &mut files, keep };
        ThreadState::capture_all(&mut from, &mut |state| states.extend(findings.take(pid, state)));
        threads.insert(0, ThreadModel { tid, states });
        if index == 0 {
            descriptions(&mut from, &table, &mut model, &mut findings, pid);
            // Once there is a reason against it, the bulk of it need not be read.
            saver.borrow_mut().doomed = !findings.refusals.is_empty();
            model.processes.push(of_process(&mut from, &table, stat.comm.as_slice().into(), &mut findings, pid));
        }
        target.envoy.into_inner().leave().map_err(|e| Error::Fault(envoy_fault(e, pid)))?;
    }
    findings.end()?;
    for (index, thread) in process.threads().iter().enumerate() {
        let last = Standing { thread, index };
        threads[index].states.iter_mut().try_for_each(|s| s.conclude(&last))?;
    }
    let mut first = model.processes.remove(0);
    first.process.threads = threads.iter().map(|t| t.tid).collect();
    first.process.pid = first.process.threads[0];
    first.threads = threads;
    model.processes.push(first);
    model.files = files.list;
    Ok(model)
}

fn target_tid(target: &Target<'_, '_, '_>) -> i32 {
    target.envoy.borrow().process().threads()[target.index].tid()
}

/// What stands behind the descriptors.
fn descriptions(
    from: &mut Capturing<'_>,
    table: &identify::Table,
    model: &mut Model,
    findings: &mut Findings,
    pid: i32,
) {
    for (id, seen) in table.descriptions.iter().enumerate() {
        if let Some(d) = findings.take(pid, Description::capture(seen, from)) {
            model.descriptions.insert(id as u32 + 1, d);
        }
    }
}

/// Everything that a process has once.
fn of_process(
    from: &mut Capturing<'_>,
    table: &identify::Table,
    name: Text,
    findings: &mut Findings,
    pid: i32,
) -> ProcessModel {
    let fd = |(number, at, close_on_exec): &(u32, usize, bool)| Fd {
        number: *number,
        description: *at as u32 + 1,
        close_on_exec: *close_on_exec,
    };
    let fds = table.numbers.iter().map(fd).collect();
    let mut states = Vec::new();
    ProcessState::capture_all(from, &mut |state| states.extend(findings.take(pid, state)));
    let process = ProcessRecord { pid: 0, name, threads: Vec::new(), fds };
    ProcessModel { process, states, threads: Vec::new() }
}

/// A path for the image of a process when nobody named one.
fn default_output(pid: i32) -> PathBuf {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = String::from_utf8_lossy(comm.trim_ascii_end())
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    PathBuf::from(format!("{name}-{pid}.cryo"))
}

impl Request {
    /// Where the image goes when nobody named a place: `NAME-PID.cryo` in the working directory.
    pub fn default_output(pid: i32) -> PathBuf {
        default_output(pid)
    }
}

/// Does what is asked, or nothing at all.
pub fn freeze(request: &Request, progress: &mut dyn Progress) -> Result<Frozen, Error> {
    let start = Instant::now();
    let pid = request.pid;
    presentable(pid)?;
    // Everything slow that needs no look at the tree comes before it is stopped.
    let output = request.output.as_deref().map(Output::create).transpose()?;
    let own = fs::File::open("/proc/self/exe").map_err(|e| Error::io("open", "/proc/self/exe", e))?;
    let stub = image::stub(own)?;
    progress.stage("freezing", 0);
    let saver = RefCell::new(Saver::new(output, stub, &header(pid), progress)?);
    let mut before = before(pid);
    let stopped = Instant::now();
    let mut process = Process::seize(pid).map_err(|e| seize_error(e, pid))?;
    before.inner = inner_ids(&process)?;
    let model = capture(&mut process, &mut before, &saver, request.keep)?;
    let mut done = Done {
        name: model.name(),
        processes: model.processes.len(),
        saved: saver.borrow().saved,
        size: 0,
        took: Duration::ZERO,
        paused: Duration::ZERO,
        notes: Vec::new(),
    };
    // A tree that runs on need not wait for its image to be finished.
    let mut held = Some(process);
    if request.ending == Ending::RunOn || request.output.is_none() {
        held.take().expect("it is held").release()?;
        done.paused = stopped.elapsed();
    }
    let mut published = None;
    if let Some(writer) = saver.into_inner().into_writer() {
        (done.size, published) = publish(writer, &model)?;
    }
    if let Some(process) = held {
        // A tree that runs on has no image: nobody shall believe that it is in one.
        process.kill().inspect_err(|_| published.iter().for_each(|path| drop(fs::remove_file(path))))?;
        done.paused = stopped.elapsed();
    }
    done.took = start.elapsed();
    Ok(Frozen { model, done })
}

/// Finishes the image, looks at it once more, and gives it its name. Gives its length, and that name.
fn publish(mut writer: image::Writer<Output>, model: &Model) -> Result<(u64, Option<PathBuf>), Error> {
    let mut failed = None;
    model.put(&mut |tag, id, need, body| {
        if let Err(e) = writer.record(tag, id, need, &Encoded(body)) {
            failed.get_or_insert(e);
        }
    });
    if let Some(e) = failed {
        return Err(e.into());
    }
    let (output, size) = writer.finish()?;
    if let Some(file) = output.written() {
        let image = image::Image::open(file)?;
        let again = Model::from_records(image.records())?;
        assert!(again == *model, "the image holds what was captured");
    }
    Ok((size, output.publish()?))
}
