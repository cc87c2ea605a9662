//! What a thread may have of its own (unshare(2), setns(2)) that an image has once for each process.

use crate::Error;
use crate::target::read_link;
use crate::tree::Member;
use plan::Refusal;
use tracee::procfs::each;
use tracee::sys::Sharing;

/// Namespaces that a thread alone may be in; to be in another mount namespace it takes a working directory of its own.
const NAMESPACES: [(&str, &str); 3] = [
    ("ns/net", "a network namespace of its own"),
    ("ns/uts", "a host name of its own"),
    ("ns/ipc", "an IPC namespace of its own"),
];
/// To look at one takes as long as all that a thread is asked. So of more threads than this only the first is looked at, which is the one
/// that programs with threads use.
const MANY: usize = 64;

/// Tables, likewise.
const TABLES: [(Sharing, &str, &str); 2] = [
    (Sharing::Files, "fd", "descriptors of its own"),
    (Sharing::Fs, "cwd", "a working directory, root or umask of its own"),
];

/// The reasons against threads of these processes.
pub(crate) fn refusals(members: &[Member]) -> Result<Vec<Refusal>, Error> {
    let mut all = Vec::new();
    for member in members {
        let Some(process) = member.process.as_ref().filter(|process| process.threads().len() > 1) else { continue };
        let tids: Vec<i32> = process.threads().iter().map(tracee::Stopped::tid).collect();
        let (first, others) = tids.split_first().expect("who is held has threads");
        let names = NAMESPACES.iter().take(if tids.len() > MANY { 1 } else { NAMESPACES.len() });
        let own: Vec<_> = names.map(|(name, _)| namespace(*first, *first, name)).collect();
        for found in each(others, |tid| refusal(*first, &own, *tid)) {
            all.extend(found?.map(|refusal| refusal.of(member.pid)));
        }
    }
    Ok(all)
}

fn namespace(first: i32, tid: i32, name: &str) -> Option<Vec<u8>> {
    read_link(format!("/proc/{first}/task/{tid}/{name}")).ok()
}

fn refusal(first: i32, own: &[Option<Vec<u8>>], tid: i32) -> Result<Option<Refusal>, Error> {
    let why = |name: &'static str, what: &str| {
        let why = format!("its thread {tid} has {what}, apart from the process (unshare(2), setns(2))");
        Ok(Some(Refusal::new(name, why, "this is not supported yet")))
    };
    for (table, name, what) in TABLES {
        if table.kcmp(first, tid)?.is_ne() {
            return why(name, what);
        }
    }
    for ((name, what), own) in NAMESPACES.into_iter().zip(own) {
        if namespace(first, tid, name) != *own {
            return why(name, what);
        }
    }
    Ok(None)
}
