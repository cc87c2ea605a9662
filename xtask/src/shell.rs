//! Other programs.

use crate::workspace::root;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that works in the workspace, and reads nothing from whoever started us.
pub(crate) fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo(words: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), words)
}

/// Runs it, and wants it to succeed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", line(command));
    let status = command.status().map_err(|e| format!("{}: {e}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", line(command))) }
}

/// Runs it, shows what it prints, and gives that with whether it succeeded.
pub(crate) fn watch(command: &mut Command) -> Result<(Vec<String>, bool), String> {
    println!("$ {}", line(command));
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{}: {e}", line(command)))?;
    let output = child.stdout.take().expect("it is piped");
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        println!("{line}");
        lines.push(line);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    Ok((lines, status.success()))
}

/// As a person would type it.
fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(name, |line, word| line + " " + &word.to_string_lossy())
}

/// Where cargo puts the programs of a profile.
pub(crate) fn built(profile: &str) -> PathBuf {
    // We are one of them: TARGET/x86_64-unknown-linux-gnu/debug/xtask.
    let own = std::env::current_exe().expect("the kernel tells who we are");
    own.ancestors().nth(2).expect("we lie below the target directory").join(profile)
}

/// Whether a program can be found.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

/// Whether we are root: the second number behind `Uid:` is the effective one (proc_pid_status(5)).
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_user(&status) == Some(0)
}

fn effective_user(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_read() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn commands_are_shown_as_they_are_typed() {
        assert_eq!(line(&command("/usr/bin/a", &["b", "-c"])), "a b -c");
    }

    #[test]
    fn output_and_failure_are_seen() {
        let (lines, good) = watch(&mut command("sh", &["-c", "echo one; echo two; exit 3"])).unwrap();
        assert_eq!((lines, good), (vec!["one".to_owned(), "two".to_owned()], false));
        assert!(run(&mut command("sh", &["-c", "exit 3"])).is_err());
    }
}
