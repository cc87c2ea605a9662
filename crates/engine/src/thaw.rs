//! Thaw: read the image, survey the host, plan, and only then act.

use crate::execute::execute;
use crate::unfit::too_many_processes;
use crate::{Error, Progress};
use image::{Image, Source, VerifyError};
use plan::{Host, Options, Pids, Plan};
use resources::{Model, Typed};
use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracee::here::keep_memory;
use tracee::procfs::both;

/// An image that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub image: Image<File>,
    /// The tree in it.
    pub model: Model,
    /// What is wrong with what was written last; the tree can do without.
    pub torn: Option<VerifyError>,
}

/// A tree that runs.
#[derive(Debug)]
pub struct Thawed {
    /// Its root, by its id here.
    pub pid: i32,
    /// What the user is to be told.
    pub notes: Vec<String>,
    /// How it holds the terminal, if it has one.
    pub(crate) terminal: Option<crate::supervise::Held>,
}

/// The image in a file. What cannot be read in any order is read into memory first.
pub fn load(mut file: File) -> Result<Loaded, Error> {
    if rustix::fs::tell(&file).is_err() {
        let spool = rustix::fs::memfd_create("cryopid-image", rustix::fs::MemfdFlags::CLOEXEC);
        let mut spool = File::from(spool.map_err(|e| Error::io("memfd_create", "the image", std::io::Error::from(e)))?);
        let mut reader = (&mut file).take(u64::MAX);
        let _errors_only = tracee::job::ErrorsOnly::begin();
        std::io::copy(&mut reader, &mut spool).map_err(|e| Error::io("read", "the image", e))?;
        file = spool;
    }
    of_image(Image::open(file)?)
}

/// The same of an image that was opened.
pub fn of_image(image: Image<File>) -> Result<Loaded, Error> {
    keep_memory(OF_RECORDS.saturating_mul(image.records_len()));
    let mut model = Model::from_records(image.records())?;
    within(&model, &image)?;
    let late = image.late().and_then(|late| Ok(late.map(|bytes| Typed::from_bytes(&bytes)).transpose()?));
    let torn = late.map(|typed| model.typed = typed).err();
    Ok(Loaded { image, model, torn })
}

/// No record may lead outside of the pages of the image.
fn within(model: &Model, image: &Image<File>) -> Result<(), Error> {
    let len = image.source().len().map_err(|e| Error::io("stat", "the image", e))?;
    let bad = |e: &&image::Extent| {
        e.offset.checked_add(e.len).is_none_or(|end| end > len) || e.at.checked_add(e.len).is_none()
    };
    match model.extents().find(bad) {
        None => Ok(()),
        Some(e) => Err(Error::Image(format!("the image is damaged: pages at {:#x} lie outside of it", e.at))),
    }
}

/// The plan for this host, or every reason why there is none.
pub fn plan_for(loaded: &Loaded, host: &Host, options: &Options) -> Result<Plan, Error> {
    let made_for = &loaded.image.header().machine;
    if *made_for != host.machine {
        let why = format!("it was made on {made_for}, this is {}", host.machine);
        return Err(Error::refuse("machine", why, "thaw it on a machine of the same kind"));
    }
    let mut plan = resources::plan(&loaded.model, host, options).map_err(Error::Refused)?;
    plan.notes.extend(loaded.torn.iter().map(|e| format!("what was typed and not read yet is lost: {e}")));
    Ok(plan)
}

/// What is here, and the plan for it. What hinders it may be what is left for an instant of the program that was frozen just now: descriptors
/// that wait in sockets, or are registered with rings, are closed behind its back (net/unix/garbage.c, io_uring/io_uring.c). Connections that it
/// has closed before keep their addresses for longer, and the user is told what is waited for.
fn surveyed(loaded: &Loaded, options: &Options, progress: &mut dyn Progress) -> Result<(Host, Plan), Error> {
    let (began, mut is_told) = (Instant::now(), false);
    loop {
        let host = crate::survey(&loaded.model)?;
        let refused = match plan_for(loaded, &host, options) {
            Err(e) if e.passes().is_some_and(|within| began.elapsed() < within) => e,
            plan => return Ok((host, plan?)),
        };
        if let (Error::Refused(all), false) = (&refused, is_told || refused.passes() <= Some(INSTANT)) {
            progress.waits(all);
            is_told = true;
        }
        std::thread::sleep(if is_told { INSTANT / 2 } else { INSTANT / 20 });
    }
}

/// Bytes that are wanted for each one of records, about.
const OF_RECORDS: u64 = 6;

/// Nobody is told what a thaw waits for that takes no longer than this.
const INSTANT: Duration = Duration::from_secs(1);

/// From so many threads on.
const MANY: usize = 16;

/// How often ids and files are looked for once more.
const TRIES: u32 = 4;

/// Brings the tree back. When an id is taken, or a file removed, between the look and the act, it looks again: an id of the tree itself
/// is taken now, and the tree gets a namespace of its own if any id will do; or only one that was to be a helper's, for which another
/// will do.
pub fn thaw(loaded: &Loaded, options: &Options, progress: &mut dyn Progress) -> Result<Thawed, Error> {
    progress.stage("checking", loaded.image.source().len().unwrap_or(0));
    // A plan of many threads takes as long as the look at their pages: they are made beside each other.
    let mut beside = None;
    let shown = Mutex::new(&mut *progress);
    let verify = || loaded.image.verify(&mut |done, _| shown.lock().unwrap_or_else(PoisonError::into_inner).done(done));
    if loaded.model.ids().len() < MANY {
        verify()?;
    } else {
        let host = crate::survey(&loaded.model)?;
        let (verified, plan) = both(true, verify, || plan_for(loaded, &host, options));
        verified?;
        // What may pass is looked at once more.
        beside = plan.ok().map(|plan| (host, plan));
    }
    let taken =
        |e: &Error| matches!(e, Error::Fault(f) if f.errno == abi::Errno::EEXIST && f.call.starts_with("clone3"));
    // Somebody has removed a file since.
    let removed =
        |e: &Error| matches!(e, Error::Fault(f) if f.errno == abi::Errno::ENOENT && f.call.contains(" = openat("));
    let mut tries = 0..TRIES;
    loop {
        let (host, plan) = beside.take().map_or_else(|| surveyed(loaded, options, progress), Ok)?;
        progress.planned(&plan);
        progress.stage("thawing", loaded.model.extents().map(|e| e.len).sum());
        match execute(&plan, loaded, progress) {
            Err(e) if (taken(&e) || removed(&e)) && tries.next().is_some() => {}
            Err(e) if taken(&e) && options.pids == Pids::Auto => {
                let options = Options { pids: Pids::New, ..options.clone() };
                let plan = plan_for(loaded, &host, &options)?;
                return execute(&plan, loaded, progress).map_err(too_many_processes);
            }
            result => return result.map_err(too_many_processes),
        }
    }
}
