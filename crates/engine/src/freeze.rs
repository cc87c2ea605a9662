//! Freeze: seize, capture, write, and only then end the tree. Or, on any trouble, let it run on as if nothing had been.

use crate::identify;
use crate::outside::Outside;
use crate::save::{Encoded, Saver};
use crate::target::{Before, Standing, Target, envoy_fault, own_namespaces};
use crate::typed::{LATE, keep_typed, keyboard};
use crate::unfit::{envoy_error, presentable, seize_error};
use crate::{Error, Output, Progress, Published};
use abi::signal::{self, Siginfo};
use abi::{Machine, proc};
use image::{Header, Writer};
use plan::Refusal;
use resources::tree::process::{Fd, Process as ProcessRecord};
use resources::{
    Capturing, Description, Files, Keep, Model, Note, ProcessModel, ProcessState, Text, ThreadModel, ThreadState,
    TreeState, Trouble,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tracee::Process;
use tracee::procfs::{numbers, read};

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

/// Its command name; empty when it is gone.
fn name_of(pid: i32) -> Text {
    fs::read(format!("/proc/{pid}/comm")).unwrap_or_default().trim_ascii_end().into()
}

fn header(pid: i32) -> Header {
    Header {
        version: image::FORMAT,
        tool: concat!("cryopid ", env!("CARGO_PKG_VERSION")).into(),
        machine: Machine::X86_64.name().into(),
        kernel: kernel(),
        page_size: rustix::param::page_size() as u32,
        created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        name: String::from_utf8_lossy(&name_of(pid).0).into_owned(),
        pid: pid as u32,
        processes: 1,
    }
}

/// Paths that /proc shows of a process in another mount namespace are found below its root directory.
fn root_of(pid: i32) -> PathBuf {
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
    match namespace(&pid.to_string()) == namespace("self") {
        true => PathBuf::new(),
        false => PathBuf::from(format!("/proc/{pid}/root")),
    }
}

/// The ids of its threads here, with those in its own pid namespace. That of the first stands in the status of the process.
fn inner_ids(process: &Process, of_first: &[u8]) -> Result<BTreeMap<u32, u32>, Error> {
    let inner = |tid: i32| {
        let other = |tid| read(format!("/proc/{}/task/{tid}/status", process.pid()));
        let text = if tid == process.pid() { Cow::from(of_first) } else { other(tid)?.into() };
        let status = proc::status(&text).map_err(Trouble::from)?;
        Ok((tid as u32, status.ns_pid.last().copied().unwrap_or(tid as u32)))
    };
    process.threads().iter().map(|t| inner(t.tid())).collect()
}

/// Processes below it.
fn children(pid: i32) -> Vec<(u32, String)> {
    let tasks = numbers(format!("/proc/{pid}/task"));
    let lists = tasks.filter_map(|tid| fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).ok());
    let ids = lists.flat_map(|l| l.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<u32>>());
    ids.map(|pid| (pid, name_of(pid as i32).to_string())).collect()
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

    fn refuse(&mut self, whom: i32, why: impl Into<String>, remedy: &str) {
        self.refusals.push(Refusal::new("process", why, remedy).of(whom));
    }

    /// An error that keeps anything more from being found; if it is a refusal, with all that was found.
    fn with(mut self, e: Error) -> Error {
        match e {
            Error::Refused(more) => {
                self.refusals.extend(more);
                self.end().expect_err("a refusal ends it")
            }
            other => other,
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

/// Signals that wait, as siginfo_t.
type Signals = Vec<[u8; 128]>;

/// What came after the image was made is in none: there is no way to put it back.
fn note_arrived(process: &Process, before: &Signals) -> Option<String> {
    let now = process.waiting().ok()?.into_iter().map(Siginfo);
    let new: Vec<_> = now.filter(|s| !before.contains(&s.0)).map(|s| signal::name(s.signo())).collect();
    let which = new.join(", ");
    (!new.is_empty()).then(|| {
        format!("{} signals: {which} came while its image was being finished, and is not in it", process.pid())
    })
}

/// Captures the process; it stays seized, and no envoy is left in it. Gives the signals that waited at the end, too.
fn capture(
    process: &mut Process,
    before: &mut Before,
    saver: &RefCell<Saver<'_>>,
    keep: Keep,
) -> Result<(Model, Signals), Error> {
    let pid = process.pid();
    let mut findings = Findings::default();
    let mut files = Files::default();
    let mut notes = Vec::new();
    let mut threads = Vec::new();
    let mut model = Model::default();
    for (child, name) in children(pid) {
        let remedy = "trees are not supported yet: freeze it when the child has ended";
        findings.refuse(pid, format!("it has a child, {child} ({name})"), remedy);
    }
    if process.leader_has_ended() {
        findings.refuse(pid, "its first thread has ended", "this is not supported yet");
        findings.end()?;
        unreachable!("a refusal ends it");
    }
    // An envoy brings a socket and an area of its own: what is there without it is looked at first.
    before.texts.insert("smaps", process.take_smaps());
    for name in ["stat", "status"] {
        before.texts.insert(name, read(format!("/proc/{pid}/{name}"))?);
    }
    before.inner = inner_ids(process, &before.texts["status"])?;
    let stat = proc::stat(&before.texts["stat"]).map_err(Trouble::from)?;
    let table = identify::table(pid, stat.terminal)?;
    let before = &*before;
    // The first thread comes last: it carries the envoy while all that belongs to the process is asked.
    for index in (0..process.threads().len()).rev() {
        let envoy = match process.envoy(index) {
            Ok(envoy) => envoy,
            Err(e) => return Err(findings.with(envoy_error(e, pid))),
        };
        let seen = &table.descriptions;
        let target = Target { envoy: RefCell::new(envoy), index, pid, before, saver, seen };
        let tid = before.inner[&(target_tid(&target) as u32)];
        let mut states = Vec::new();
        let mut from = Capturing { probe: &target, files: &mut files, keep, notes: &mut notes };
        ThreadState::capture_all(&mut from, &mut |state| states.extend(findings.take(pid, state)));
        threads.insert(0, ThreadModel { tid, states });
        if index == 0 {
            descriptions(&mut from, &table, &mut model, &mut findings, pid);
            // Once there is a reason against it, the bulk of it need not be read.
            saver.borrow_mut().doomed = !findings.refusals.is_empty() || findings.fault.is_some();
            model.processes.push(of_process(&mut from, &table, stat.comm.as_slice().into(), &mut findings, pid));
            TreeState::capture_all(&mut from, &mut |state| model.tree.extend(findings.take(pid, state)));
        }
        target.envoy.into_inner().leave().map_err(|e| Error::Fault(envoy_fault(e, pid)))?;
    }
    findings.end()?;
    let waiting = process.waiting()?;
    for (index, thread) in process.threads().iter().enumerate() {
        let last = Standing { thread, index };
        threads[index].states.iter_mut().try_for_each(|s| s.conclude(&last))?;
    }
    let mut first = model.processes.remove(0);
    first.process.threads = threads.iter().map(|t| t.tid).collect();
    first.process.pid = first.process.threads[0];
    first.threads = threads;
    model.notes = notes.into_iter().map(|note| Note { pid: first.process.pid, ..note }).collect();
    model.processes.push(first);
    model.files = files.list;
    Ok((model, waiting))
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

/// Bytes of memory that the image will hold, about: what the process has of its own (proc_pid_status(5)).
fn expected(pid: i32) -> u64 {
    let text = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    proc::status(&text).map_or(0, |s| 1024 * s.own_kb)
}

/// A path for the image of a process when nobody named one.
fn default_output(pid: i32) -> PathBuf {
    let name: String = String::from_utf8_lossy(&name_of(pid).0)
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
    let saver = RefCell::new(Saver::new(output, stub, &header(pid), expected(pid), progress)?);
    let mut before =
        Before { root: root_of(pid), outside: Outside::look(pid), own_links: own_namespaces(), ..Before::default() };
    let mut process = Process::seize(pid).map_err(|e| seize_error(e, pid))?;
    let (model, waiting) = capture(&mut process, &mut before, &saver, request.keep)?;
    let mut done = Done {
        name: model.name(),
        processes: model.processes.len(),
        saved: saver.borrow().saved,
        size: 0,
        took: Duration::ZERO,
        paused: Duration::ZERO,
        notes: model.notes.iter().map(|n| Note { pid: pid as u32, ..n.clone() }.to_string()).collect(),
    };
    let writer = saver.borrow_mut().take_writer();
    match (writer, request.ending) {
        (Some(writer), Ending::End) => end(process, writer, &model, &waiting, request.keep, &mut done)?,
        (writer, _) => run_on(process, writer, &model, &mut done)?,
    }
    done.took = start.elapsed();
    Ok(Frozen { model, done })
}

/// The tree runs on, and does not wait for its image to be finished.
fn run_on(process: Process, writer: Option<Writer<Output>>, model: &Model, done: &mut Done) -> Result<(), Error> {
    let since = process.since();
    process.release()?;
    done.paused = since.elapsed();
    if let Some(writer) = writer {
        (done.size, _) = publish(writer, model)?;
    }
    Ok(())
}

/// The tree ends once its image is safe.
fn end(
    process: Process,
    mut writer: Writer<Output>,
    model: &Model,
    waiting: &Signals,
    keep: Keep,
    done: &mut Done,
) -> Result<(), Error> {
    let since = process.since();
    let keyboard = if keep.typed { keyboard(model, &process) } else { None };
    let late = keyboard.as_ref().map(|_| writer.late(LATE)).transpose()?;
    let (size, published) = publish(writer, model)?;
    done.size = size;
    done.notes.extend(note_arrived(&process, waiting));
    // A tree that runs on has no image: nobody shall believe that it is in one.
    let ended = match process.kill() {
        Ok(ended) => ended,
        Err(e) => {
            drop(published.map(Published::withdrawn));
            return Err(e.into());
        }
    };
    done.paused = ended.at() - since;
    if let (Some(keyboard), Some(image), Some(late)) = (keyboard, &published, late) {
        done.notes.extend(keep_typed(keyboard, image, late));
    }
    // Its shell hears of the end now, and not before: it would read what was typed for the program.
    drop(ended);
    Ok(())
}

/// Finishes the image, looks at it once more, and gives it its name. Gives its length, and what has that name.
fn publish(mut writer: Writer<Output>, model: &Model) -> Result<(u64, Option<Published>), Error> {
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
    output.release()?;
    if let Some(file) = output.written() {
        let image = image::Image::open(file)?;
        let again = Model::from_records(image.records())?;
        assert!(again == *model, "the image holds what was captured");
    }
    Ok((size, output.publish()?))
}
