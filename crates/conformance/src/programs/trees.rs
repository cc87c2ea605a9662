//! Trees that make processes all the time.

use super::{same, talk};
use crate::case::Case;
use crate::case::Flavour::{PidNs, Root, Snapshot, User};
use crate::case::Step::{Exit, Expect, Type};

/// All of them.
pub(super) fn all() -> Vec<Case> {
    vec![nested(), make(), forked("fork"), forked("spawn")]
}

/// A job in the background, and in the foreground a shell with a pipeline of subshells, of which one reads what is typed.
fn nested() -> Case {
    talk(
        "bash-nested",
        &["bash", "--norc", "-i"],
        &[
            Type("bind 'set enable-bracketed-paste off'; PS1='p''> '; sleep 1000 & bash nested.sh\n"),
            Type("one\n"),
            Expect("<ONE 1!>\r\n"),
        ],
        &[
            Type("two\n"),
            Expect("<TWO 2!>\r\n"),
            Type("trap\n"),
            Expect("<TRAP 3!>\r\n<by subshell>\r\n"),
            Type("\x04"),
            Expect("<end 3>\r\nby shell\r\nstatus 7 0\r\n"),
            Expect("p> "),
            Type("jobs\n"),
            Expect("Running"),
            Type("kill %1; wait %1; exit $?\n"),
            Exit(143),
        ],
    )
    .file("nested.sh", include_str!("../../programs/nested.sh"))
    // Its job in the background outlives the original, of which nothing may be left when the image is thawed.
    .but(&[Snapshot, PidNs])
}

/// A real project is compiled. Both copies would write to the same files.
fn make() -> Case {
    let case = same("make", include_str!("../../programs/make.sh"), &["bash", "-c", "compile"]);
    Case { delay: 0..4000, ..case.only(&[Root, User]) }
}

/// Processes of Python with queues, locks and memory in common.
fn forked(how: &'static str) -> Case {
    let name = if how == "fork" { "python3-forked" } else { "python3-spawned" };
    // The names of its memory and its semaphores are there once.
    same(name, "", &["/usr/bin/python3", "processes.py", how])
        .file("processes.py", include_str!("../../programs/processes.py"))
        .but(&[Snapshot, PidNs])
}
