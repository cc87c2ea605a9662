//! What is done with the workspace: `cargo xtask test | tidy | docs | bench`.
#![forbid(unsafe_code)]

mod bench;
mod constants;
mod docs;
mod manual;
mod names;
mod rules;
mod shell;
mod source;
mod test;
mod tidy;
mod unsafety;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test         install what the tests need, then run all of them
cargo xtask tidy         check the invariants of the workspace
cargo xtask docs         write docs/coverage.md, the man pages and the shell completions
cargo xtask bench [N]    measure freeze and thaw (N runs, 20 by default), beside CRIU where it is installed";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test"] => test::test(),
        ["tidy"] => tidy::tidy(),
        ["docs"] => docs::write(),
        ["bench"] => bench::bench(20),
        ["bench", runs] => runs.parse().map_err(|_| format!("not a number: {runs}")).and_then(bench::bench),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
