//! `engine` and `tracee` name no resource, so that adding one touches neither.
//!
//! The names are those of the list of resources. Some are words of the two crates' own trade; the others may stand in no
//! identifier, but where a reason is given here.

use crate::source::{Source, words};
use crate::tidy::Finding;

/// The crates.
const CRATES: [&str; 2] = ["engine", "tracee"];

/// Names that are no sign of knowing the resource, and what they are besides.
const GENERAL: [(&str, &str); 22] = [
    ("regs", "a stopped thread's registers are what ptrace(2) gives"),
    ("signal", "every stop is about one"),
    ("rseq", "a stub must give up its own registration before its memory goes, or the kernel kills it"),
    ("prctl", "a call that the helpers of a thaw make about themselves"),
    ("seccomp", "a tracer suspends it, or the calls of an envoy and of a stub might be forbidden"),
    ("dispatch", "a tracer ends it for a while, or the calls of an envoy would come back to the program"),
    ("futex", "one of the calls that an envoy must not make"),
    ("sched", "the text in /proc that tells for how long a thread slept"),
    ("socket", "the envoy is driven over one"),
    ("pidfd", "how a process is held"),
    ("memfd", "memory that is shared with an envoy is one, and so is an image that came by a pipe"),
    ("namespace", "where the tree is born"),
    ("terminal", "a thaw is a job of its shell"),
    ("session", "the same"),
    ("fs", "the module of the standard library"),
    ("space", "a word"),
    ("limits", "our own, which planning must know"),
    ("attributes", "a word"),
    ("regular", "a word"),
    ("directory", "where an image is written"),
    ("process", "what all of it is about"),
    ("file", "what an image is"),
];

/// Where one of the other names stands, and why.
const ALLOWED: [(&str, &str, &str); 11] = [
    (
        "crates/engine/src/target.rs",
        "pipe",
        "to look at what waits in one takes one of our own (tee(2)): an observation",
    ),
    ("crates/tracee/src/envoy.rs", "epoll", "a call that would sleep in the program: an envoy must not make it"),
    ("crates/engine/src/execute.rs", "shm", "memory without a descriptor is filled where somebody has attached it"),
    (
        "crates/tracee/src/ipc.rs",
        "shm",
        "objects that are no descriptors are looked at, and removed, by calls of their own",
    ),
    ("crates/tracee/src/ipc.rs", "sem", "the same"),
    (
        "crates/tracee/src/ipc.rs",
        "mqueue",
        "a name in no directory: it outlives the thaw that made it, and must be removed",
    ),
    ("crates/engine/src/objects.rs", "mqueue", "the same"),
    ("crates/engine/src/execute.rs", "mqueue", "the same"),
    ("crates/engine/src/host.rs", "mqueue", "whether a name is taken that is in no directory"),
    ("crates/tracee/src/ipc.rs", "sysvqueue", "the same"),
    ("crates/tracee/src/sys.rs", "epoll", "a type of kcmp(2) is called after it"),
];

/// The names that may not stand there, each in words. Of `sysv-shm` that is `shm`, of which the kernel's calls tell.
fn names() -> Vec<Vec<String>> {
    let name = |name: &str| parts(if name == "sysv-msg" { QUEUE } else { name.strip_prefix("sysv-").unwrap_or(name) });
    let mut all: Vec<Vec<String>> = resources::coverage().iter().map(|row| name(row.name)).collect();
    all.retain(|name| !name.is_empty() && !GENERAL.iter().any(|(general, _)| [*general] == name[..]));
    all.sort();
    all.dedup();
    all
}

/// The words of a name on the list: `anon_inode:[timerfd]` is called timerfd.
fn parts(name: &str) -> Vec<String> {
    split(name.trim_start_matches("anon_inode:"))
}

/// The words of an identifier: `PipeFlags`, `pipe_flags` and `PIPE2_FLAGS` all have `pipe`.
fn split(identifier: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut small = false;
    for c in identifier.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && small) {
            words.push(String::new());
        }
        small = c.is_lowercase();
        if c.is_alphabetic() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words.iter_mut().for_each(|word| *word = stem(word));
    words
}

/// A queue of messages; sockets have messages too.
const QUEUE: &str = "sysvqueue";

/// The kernel's calls on objects of System V IPC begin with what they are about: `shmget`, `semid`. Those on POSIX message queues
/// begin with `mq`.
fn stem(word: &str) -> String {
    const OBJECTS: [(&str, &str); 3] = [("shm", "shm"), ("sem", "sem"), ("msg", QUEUE)];
    const ENDS: [&str; 9] = ["get", "at", "dt", "ctl", "op", "id", "snd", "rcv", "timedop"];
    if word == "mq" {
        return "mqueue".to_owned();
    }
    let whose = |(object, _): &&(&str, &str)| word.strip_prefix(object).is_some_and(|end| ENDS.contains(&end));
    OBJECTS.iter().find(whose).map_or_else(|| word.to_owned(), |(_, name)| (*name).to_owned())
}

/// Each identifier with the name of a resource in it, and each permission that nobody needs any more.
pub(crate) fn no_resource_named(sources: &[Source]) -> Vec<Finding> {
    let names = names();
    let mut used = Vec::new();
    let mut all = Vec::new();
    for source in sources.iter().filter(|s| s.is_shipped() && CRATES.iter().any(|krate| s.is_of(krate))) {
        let code = source.shipped_code();
        for (at, identifier) in words(&code) {
            let Some(name) = named(identifier, &names) else { continue };
            match ALLOWED.iter().find(|(path, allowed, _)| *path == source.path && *allowed == name) {
                Some(allowed) => used.push(allowed),
                None => all.push(Finding::at(
                    &source.path,
                    source.line(at),
                    format!("{identifier} names a resource, {name}"),
                )),
            }
        }
    }
    let idle = ALLOWED.iter().filter(|allowed| !used.contains(allowed));
    all.extend(idle.map(|(path, name, _)| Finding::of(path, format!("{name} need not be allowed here any more"))));
    all
}

/// The name that an identifier has in it.
fn named(identifier: &str, names: &[Vec<String>]) -> Option<String> {
    let words = split(identifier);
    let within = |name: &&Vec<String>| words.windows(name.len()).any(|w| w == name.as_slice());
    names.iter().find(within).map(|name| name.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_split() {
        assert_eq!(split("PipeFlags"), ["pipe", "flags"]);
        assert_eq!(split("SYS_eventfd2"), ["sys", "eventfd"]);
        assert_eq!(split("IoUring"), ["io", "uring"]);
        assert_eq!(parts("anon_inode:[timerfd]"), ["timerfd"]);
        assert_eq!(split("SYS_mq_open"), ["sys", "mqueue", "open"]);
        assert_eq!(split("Shmget MSG_PEEK msgrcv semantics"), ["shm", "msg", "peek", "sysvqueue", "semantics"]);
    }

    #[test]
    fn the_list_gives_the_names() {
        let names = names();
        let has = |name: &str| names.contains(&split(name));
        assert!(has("eventfd") && has("pipe") && has("io_uring") && has("block device") && !has("signal"));
    }

    #[test]
    fn a_resource_that_is_named_is_found() {
        let of = |path: &str, text: &str| {
            let all = no_resource_named(&[Source::new(path, text)]);
            all.into_iter().filter(|f| f.what.contains("names")).count()
        };
        assert_eq!(of("crates/engine/src/a.rs", "fn f() { make_eventfd(Sys::Pipe2) }"), 2);
        assert_eq!(of("crates/engine/src/a.rs", "// eventfd\nfn f() { say(\"eventfd\"); EPIPE }"), 0);
        assert_eq!(of("crates/engine/src/target.rs", "let pipe = 1;"), 0);
        assert_eq!(of("crates/tracee/src/a.rs", "#[cfg(test)]\nmod tests { fn pipe() {} }"), 0);
        assert_eq!(of("crates/resources/src/a.rs", "fn eventfd() {}"), 0);
    }

    #[test]
    fn a_permission_that_is_not_used_is_found() {
        let all = no_resource_named(&[Source::new("crates/engine/src/target.rs", "let pipe = 1;")]);
        assert_eq!(all.len(), ALLOWED.len() - 1);
    }
}
