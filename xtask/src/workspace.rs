//! The workspace on disk: its Rust files, its manifests, its root.

use crate::source::Source;
use std::path::{Path, PathBuf};

/// What the checks look at.
pub(crate) struct Workspace {
    pub(crate) sources: Vec<Source>,
    pub(crate) manifests: Vec<Manifest>,
}

/// A crate, and what it depends on outside of its tests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<String>,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace").to_path_buf()
}

impl Workspace {
    pub(crate) fn read() -> std::io::Result<Workspace> {
        let root = root();
        let mut paths = Vec::new();
        for folder in ["crates", "xtask"] {
            collect(&root.join(folder), &mut paths)?;
        }
        paths.sort();
        let mut workspace = Workspace { sources: Vec::new(), manifests: Vec::new() };
        for path in paths {
            let text = std::fs::read_to_string(&path)?;
            let below = path.strip_prefix(&root).expect("it was found below").display().to_string();
            if below.ends_with(".rs") {
                workspace.sources.push(Source::new(below, text));
            } else {
                workspace.manifests.push(Manifest::parse(folder(&below), &text));
            }
        }
        Ok(workspace)
    }
}

/// The folder that a crate lies in: crates are called by it.
fn folder(manifest: &str) -> &str {
    manifest.trim_end_matches("/Cargo.toml").rsplit('/').next().unwrap_or(manifest)
}

fn collect(at: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(at)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") || path.ends_with("Cargo.toml") {
            into.push(path);
        }
    }
    Ok(())
}

impl Manifest {
    /// The keys of the tables of dependencies (The Cargo Book, "Specifying Dependencies"); a dependency may also be a table.
    pub(crate) fn parse(name: &str, text: &str) -> Manifest {
        let mut manifest = Manifest { name: name.into(), dependencies: Vec::new() };
        let mut inside = false;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(table) = line.strip_prefix('[') {
                let table = table.trim_end_matches(']');
                inside = is_dependencies(table);
                if let Some((above, name)) = table.rsplit_once('.').filter(|(above, _)| is_dependencies(above)) {
                    debug_assert!(!above.is_empty());
                    manifest.dependencies.push(name.trim_matches('"').into());
                }
            } else if inside && let Some((key, _)) = line.split_once(['.', '=', ' ']) {
                manifest.dependencies.push(key.trim_matches('"').into());
            }
        }
        manifest
    }
}

fn is_dependencies(table: &str) -> bool {
    matches!(table.rsplit('.').next(), Some("dependencies" | "build-dependencies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_every_form() {
        let text = "[package]\nname = \"x\"\n[dependencies]\nabi.workspace = true\nlibc = \"1\"\n[dependencies.serde]\nversion = \"1\"\n\
            [dev-dependencies]\nproptest = \"1\"\n[target.'cfg(unix)'.dependencies]\nnix = \"1\"\n[build-dependencies]\ncc = \"1\"\n";
        assert_eq!(Manifest::parse("x", text).dependencies, ["abi", "libc", "serde", "nix", "cc"]);
    }
}
