//! `specimen KIND [ARGUMENT]`: a program that holds one kernel resource and can tell whether it still has it.
//!
//! A specimen sets its resource up, says `ready` (or touches the file named by `SPECIMEN_READY`), and waits for lines on
//! its terminal: `check [SECONDS AWAY]` makes it examine *itself* and answer `ok` or `FAIL: …`; `quit` ends it, with exit
//! status 0 if every check was fine. It never asks whether it was frozen: it knows only what it set up, and what it sees.
//!
//! `specimen list` prints the kinds; `specimen launch` is the little program that a pseudo-terminal is opened with; `specimen
//! plainly PROGRAM…` executes a program with all signals as they are by default; `specimen older PROGRAM…` as on an older kernel;
//! `specimen forget FILE` removes what specimens left that outlives them.

mod aio;
mod args;
mod attrs;
mod calls;
mod clones;
mod closing;
mod creds;
mod crowds;
mod dispatch;
mod family;
mod files;
mod filters;
mod flights;
mod groups;
mod huge;
mod ids;
mod inet;
mod inherited;
mod inotifies;
mod ipc;
mod keyrings;
mod kin;
mod launch;
mod life;
mod lineages;
mod list;
mod locks;
mod mem;
mod memfds;
mod neighbours;
mod nets;
mod outside;
mod pidfds;
mod pipes;
mod procfiles;
mod ptys;
mod queues;
mod refused;
mod regs;
mod rings;
mod rseq;
mod signalfds;
mod signalling;
mod signals;
mod sockets;
mod stops;
mod sys;
mod tcp;
mod terminal;
mod threads;
mod timerfds;
mod timers;
mod urings;
mod vdso;
mod worlds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("launch") => launch::launch(&words[1..]),
        Some("plainly") => launch::plainly(&words[1..]),
        Some("older") => launch::older(&words[1..]),
        Some("list") => print_kinds(),
        Some("forget") => ipc::forget(&words[1..]),
        Some(name) => live(name, &words[1..]),
        None => usage(
            "specimen KIND [ARGUMENT] | list | launch UID PROGRAM… | plainly PROGRAM… | older PROGRAM… | forget FILE",
        ),
    }
}

fn live(name: &str, arguments: &[String]) -> ExitCode {
    let Some(kind) = list::KINDS.iter().find(|kind| kind.name == name) else {
        return usage(&format!("no kind is called {name}"));
    };
    match (kind.start)(arguments) {
        Ok(living) => life::live(living),
        Err(reason) => usage(&format!("FAIL: {name} could not set itself up: {reason}")),
    }
}

fn print_kinds() -> ExitCode {
    for kind in list::KINDS {
        println!("{}", kind.name);
    }
    ExitCode::SUCCESS
}

fn usage(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::from(2)
}
