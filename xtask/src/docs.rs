//! What is written from definitions: the table of coverage, man pages, shell completions, fields. `tidy` compares.

use crate::manual;
use crate::tidy::Finding;
use crate::workspace::root;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use std::collections::BTreeMap;
use std::path::Path;

/// The definitions of the command line, as the binary has them.
#[allow(dead_code)]
#[path = "../../crates/cli/src/args.rs"]
mod args;

const COVERAGE: &str = "docs/coverage.md";
const JSON: &str = "docs/json.md";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Every file by its path below the root, with what belongs into it.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([(COVERAGE.to_owned(), coverage(&resources::coverage()).into_bytes())]);
    files.insert(JSON.to_owned(), manual::json().into_bytes());
    let mut command = args::Cli::command().disable_help_subcommand(true);
    for shell in SHELLS {
        let mut text = Vec::new();
        generate(shell, &mut command, "cryopid", &mut text);
        files.insert(format!("docs/completions/{}", completion(shell)), text);
    }
    command.build();
    man(&command, "cryopid", &mut files);
    files
}

/// The name under which a shell looks for its completions.
fn completion(shell: Shell) -> &'static str {
    match shell {
        Shell::Zsh => "_cryopid",
        Shell::Fish => "cryopid.fish",
        _ => "cryopid.bash",
    }
}

/// The page of a command, and those of the commands below it.
fn man(command: &clap::Command, name: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    let mut text = Vec::new();
    let source = format!("cryopid {}", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command.clone()).source(source).manual("User Commands");
    page.render(&mut text).expect("a vector takes any text");
    let text = String::from_utf8(text).expect("all of it is text");
    let text = manual::with_values(&text, command) + &manual::sections(name);
    files.insert(format!("docs/man/{name}.1"), text.into_bytes());
    for below in command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()) {
        man(below, &format!("{name}-{}", below.get_name()), files);
    }
}

/// The table of what is kept and what is not.
fn coverage(rows: &[resources::Coverage]) -> String {
    let mut text = String::from(
        "# What is kept, and what is not\n\n\
        Written by `cargo xtask docs` from the list of resources; `cryopid check PID` tells the same of one process.\n\
        What a resource keeps of what it has, and what it refuses, is told at the top of its file in `crates/resources/src`.\n\n\
        | resource | kept for each |\n|---|---|\n",
    );
    for row in rows.iter().filter(|row| row.reason.is_empty()) {
        text += &format!("| {} | {} |\n", row.name, row.scope);
    }
    text += "\nWhat is not supported yet is refused with its reason, before anything is done to the process. A kind of descriptor\n\
        that is in neither table is refused too.\n\n| what | why it is refused |\n|---|---|\n";
    for row in rows.iter().filter(|row| !row.reason.is_empty()) {
        text += &format!("| {} | {} |\n", row.name, row.reason);
    }
    text
}

/// Writes all of them.
pub(crate) fn write() -> Result<(), String> {
    for (name, text) in files() {
        let path = root().join(&name);
        let folder = path.parent().expect("each lies in a folder");
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        std::fs::write(&path, text).map_err(|e| format!("{name}: {e}"))?;
        println!("{name}");
    }
    Ok(())
}

/// Those that are not what they should be.
pub(crate) fn outdated() -> Vec<Finding> {
    compare(&root(), &files())
}

fn compare(root: &Path, files: &BTreeMap<String, Vec<u8>>) -> Vec<Finding> {
    let old = |name: &&String| std::fs::read(root.join(name)).ok().as_ref() != Some(&files[*name]);
    files.keys().filter(old).map(|name| Finding::of(name, "out of date: run `cargo xtask docs`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let files = files();
        for name in ["cryopid", "cryopid-freeze", "cryopid-thaw", "cryopid-inspect"] {
            let page = String::from_utf8_lossy(&files[&format!("docs/man/{name}.1")]).into_owned();
            assert!(
                page.contains("\"cryopid ")
                    && page.contains(".SH SYNOPSIS")
                    && page.contains(&name.replace('-', "\\-")),
                "{name}: {page}"
            );
        }
        let freeze = String::from_utf8_lossy(&files["docs/man/cryopid-freeze.1"]).into_owned();
        assert!(freeze.contains(r"[\fB\-o\fR|\fB\-\-output\fR \fIFILE\fR]"), "{freeze}");
        assert!(
            String::from_utf8_lossy(&files["docs/completions/cryopid.bash"])
                .contains("--with\\-libs".replace('\\', "").as_str())
        );
    }

    #[test]
    fn the_table_has_every_row() {
        let rows = resources::coverage();
        assert!(rows.iter().all(|row| coverage(&rows).contains(&format!("| {} |", row.name))));
    }

    #[test]
    fn a_change_is_found() {
        let folder = std::env::temp_dir().join(format!("xtask-docs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a"), "one").unwrap();
        let of = |text: &str| BTreeMap::from([("a".to_owned(), text.into())]);
        let (same, other) = (compare(&folder, &of("one")), compare(&folder, &of("two")));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((same.len(), other.len()), (0, 1));
    }
}
