//! What a thread may have of its own (unshare(2), setns(2)), apart from its process: an image has most of it once for each process.

use crate::Error;
use crate::target::read_link;
use crate::tree::{Member, alike};
use plan::Refusal;
use std::collections::BTreeSet;
use tracee::procfs::each;
use tracee::sys::Sharing;

/// Namespaces that a thread alone may be in.
const NAMESPACES: [(&str, &str); 3] = [
    ("ns/net", "a network namespace of its own"),
    ("ns/uts", "a host name of its own"),
    ("ns/ipc", "an IPC namespace of its own"),
];
/// The one that takes a filesystem context of its own.
const MOUNTS: (&str, &str) = ("ns/mnt", "a mount namespace of its own");
/// To look at one takes as long as all that a thread is asked. So of more threads than this only the first is looked at, which is the one
/// that programs with threads use.
const MANY: usize = 64;
const UNSUPPORTED: &str = "this is not supported yet";

/// What the threads of a tree have apart from their processes.
#[derive(Default)]
pub(crate) struct Apart {
    /// The reasons against it.
    pub(crate) refusals: Vec<Refusal>,
    /// The threads that have a filesystem context of their own.
    pub(crate) own_fs: BTreeSet<i32>,
}

/// Looks at the threads of these processes.
pub(crate) fn look(members: &[Member]) -> Result<Apart, Error> {
    let mut all = Apart::default();
    for member in members {
        let Some(process) = member.process.as_ref().filter(|process| process.threads().len() > 1) else { continue };
        let tids: Vec<i32> = process.threads().iter().map(tracee::Stopped::tid).collect();
        let (first, others) = tids.split_first().expect("who is held has threads");
        let names = NAMESPACES.iter().take(if tids.len() > MANY { 1 } else { NAMESPACES.len() });
        let own: Vec<_> = names.map(|named| (*named, namespace(*first, *first, named.0))).collect();
        for (found, tid) in each(others, |tid| of_thread(*first, &own, *tid)).into_iter().zip(others) {
            let OfThread { own_fs, refusal } = found?;
            all.refusals.extend(refusal.map(|refusal| refusal.of(member.pid)));
            all.own_fs.extend(own_fs.then_some(*tid));
        }
    }
    in_common(members, &mut all)?;
    Ok(all)
}

/// Refuses a filesystem context that a thread has apart from its process, and in common with somebody else.
fn in_common(members: &[Member], all: &mut Apart) -> Result<(), Error> {
    if all.own_fs.is_empty() {
        return Ok(());
    }
    let leads = members.iter().filter_map(|m| Some(m.process.as_ref()?.threads()[0].tid()));
    let known: Vec<(usize, i32)> = leads.chain(all.own_fs.iter().copied()).enumerate().collect();
    for (n, other) in alike(Sharing::Fs, &known)? {
        if let Some(tid) = [n, other].into_iter().map(|n| known[n].1).find(|tid| all.own_fs.contains(tid)) {
            let why = "it has a working directory in common with others, but not with its process";
            all.refusals.push(Refusal::new("cwd", why, UNSUPPORTED).of(format!("thread {tid}")));
        }
    }
    Ok(())
}

fn namespace(first: i32, tid: i32, name: &str) -> Option<Vec<u8>> {
    read_link(format!("/proc/{first}/task/{tid}/{name}")).ok()
}

struct OfThread {
    own_fs: bool,
    refusal: Option<Refusal>,
}

/// A namespace with what is said of it, and where the first thread is.
type Namespace = ((&'static str, &'static str), Option<Vec<u8>>);

fn of_thread(first: i32, own: &[Namespace], tid: i32) -> Result<OfThread, Error> {
    let against = |(name, what): (&str, &str)| {
        let why = format!("its thread {tid} has {what}, apart from the process (unshare(2), setns(2))");
        Refusal::new(name, why, UNSUPPORTED)
    };
    let own_fs = Sharing::Fs.kcmp(first, tid)?.is_ne();
    if Sharing::Files.kcmp(first, tid)?.is_ne() {
        return Ok(OfThread { own_fs, refusal: Some(against(("fd", "descriptors of its own"))) });
    }
    let mounts = own_fs.then(|| (MOUNTS, namespace(first, first, MOUNTS.0)));
    let other = own.iter().chain(&mounts).find(|((name, _), own)| namespace(first, tid, name) != *own);
    Ok(OfThread { own_fs, refusal: other.map(|(named, _)| against(*named)) })
}
