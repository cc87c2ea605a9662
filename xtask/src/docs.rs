//! What is written from definitions: the table of coverage, man pages, shell completions, fields. `tidy` compares.

use crate::manual;
use crate::source::Source;
use crate::tidy::Finding;
use crate::workspace::{Workspace, root};
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
        Written by `cargo xtask docs` from the list of resources and the heads of their files in `crates/resources/src`, which tell more;\n\
        `cryopid check PID` tells the same of one process. What is refused, and what is not kept, of each is below.\n\n\
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
    text += "\n## What is refused of a resource, and what is not kept of it\n";
    let heads = heads();
    for row in rows.iter().filter(|row| row.reason.is_empty()) {
        text += &format!("\n### {}\n\n", row.name);
        let head = heads.get(row.name).unwrap_or_else(|| panic!("no file of {} has a head", row.name));
        let limits = head.iter().filter(|(key, _)| [REFUSED, NOT_KEPT].contains(&&**key));
        text += &limits.map(|(key, told)| format!("- {key}: {told}\n")).collect::<String>();
    }
    text
}

const REFUSED: &str = "refused";
const NOT_KEPT: &str = "not kept";

/// What the head of a file tells, point by point: `- refused    why`.
type Head = Vec<(String, String)>;

/// The head of the file of each resource, by the name of the resource.
fn heads() -> BTreeMap<String, Head> {
    const NAME: &str = "const NAME: &'static str = \"";
    let mut all = BTreeMap::new();
    let sources = Workspace::read().unwrap_or_else(|e| panic!("the workspace: {e}")).sources;
    for Source { text, .. } in sources.into_iter().filter(|source| source.path.starts_with("crates/resources/src/")) {
        let names = text.split(NAME).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
        all.extend(names.map(|name| (name, head(&text))));
    }
    all
}

fn head(text: &str) -> Head {
    let mut points = Head::new();
    for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
        match (line.strip_prefix(" - "), line.strip_prefix("   ")) {
            // The words stand in a column of their own.
            (Some(point), _) => {
                points.extend(point.split_once("  ").map(|(key, told)| (key.into(), told.trim().into())));
            }
            (_, Some(more)) => {
                points.last_mut().into_iter().for_each(|(_, told)| *told += &format!(" {}", more.trim()))
            }
            _ => {}
        }
    }
    points
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
    fn what_is_refused_is_told_of_those_that_tell_it() {
        let text = "//! One.\n//!\n//! - seen as    a thing\n//! - refused    what is\n//!   far away\n//! - not kept   its end\n\nuse std;\n";
        let told = [("seen as", "a thing"), ("refused", "what is far away"), ("not kept", "its end")];
        assert_eq!(head(text), told.map(|(key, told)| (key.to_owned(), told.to_owned())));
        let heads = heads();
        for row in resources::coverage().iter().filter(|row| row.reason.is_empty()) {
            let tells = |(key, _): &(String, String)| [REFUSED, NOT_KEPT].contains(&&**key);
            assert!(heads[row.name].iter().any(tells), "{} does not say what is refused, or not kept", row.name);
        }
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
