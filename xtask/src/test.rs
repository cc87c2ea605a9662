//! Everything that is tested, from a machine with nothing but a Rust toolchain: packages, builds, tests, sizes.

use crate::shell::{built, cargo, command, is_root, run, watch};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What the cases need, one package a line.
const PACKAGES: &str = include_str!("../../crates/conformance/packages.txt");
/// What building needs.
const COMPILER: [&str; 2] = ["gcc", "libc6-dev"];

/// Limits on sizes, in bytes.
const BINARY_MAX: u64 = 3 << 20;
const SLEEP_MAX: u64 = 200_000;

/// Becomes the command that it is given, without what our own caller may have left open: a pipe to a process outside of
/// the tree would be refused.
const ALONE: &str = r#"for fd in /proc/$$/fd/*; do n=${fd##*/}; ((n > 2)) && eval "exec $n>&-"; done; exec "$@""#;

/// What is told at the end.
struct Summary {
    lines: Vec<String>,
    failures: usize,
}

impl Summary {
    fn add(&mut self, what: &str, outcome: Result<String, String>) {
        let line = match outcome {
            Ok(text) => format!("ok    {what}: {text}"),
            Err(text) => {
                self.failures += 1;
                format!("FAIL  {what}: {text}")
            }
        };
        self.lines.push(line);
    }
}

/// Installs, builds and runs all.
pub(crate) fn test() -> Result<(), String> {
    let began = Instant::now();
    install()?;
    if !is_root() {
        return Err("the tests freeze and thaw as root and as an ordinary user: run them as root".into());
    }
    run(&mut cargo(&["build", "--workspace"]))?;
    run(&mut cargo(&["build", "--release", "--package", "cryopid"]))?;
    let mut summary = Summary { lines: Vec::new(), failures: 0 };
    summary.add("unit tests", unit_tests());
    summary.add("conformance", conformance());
    summary.add("sizes", sizes());
    println!("\n{}", summary.lines.join("\n"));
    let took = began.elapsed().as_secs();
    println!(
        "{} in {}:{:02} min",
        if summary.failures == 0 { "all is well" } else { "not all is well" },
        took / 60,
        took % 60
    );
    if summary.failures == 0 { Ok(()) } else { Err(format!("{} of {} failed", summary.failures, summary.lines.len())) }
}

fn packages() -> impl Iterator<Item = &'static str> {
    let named = PACKAGES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    named.chain(COMPILER)
}

/// Installs what is missing, and nothing else.
fn install() -> Result<(), String> {
    let mut missing: Vec<&str> = packages().filter(|package| !is_there(package)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(format!("as root, install what the tests need: apt-get install {}", missing.join(" ")));
    }
    let apt = |words: &[&str]| {
        // A new machine may still be installing its own updates.
        let mut apt = command("apt-get", &[&["-o", "DPkg::Lock::Timeout=300"], words].concat());
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut apt)
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], missing.as_slice()].concat())
}

/// dpkg-query(1): the third word of the state is `installed`.
fn is_there(package: &str) -> bool {
    let mut query = command("dpkg-query", &["--show", "--showformat=${Status}", package]);
    query.output().is_ok_and(|output| output.stdout.ends_with(b" installed"))
}

fn unit_tests() -> Result<String, String> {
    let (lines, good) = watch(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))?;
    let text = tally(&lines).to_string();
    if good { Ok(text) } else { Err(text + &reasons(&lines)) }
}

/// What the tests that failed said first, again where nobody has to look for it: a line for the name, and two more.
fn reasons(lines: &[String]) -> String {
    let blocks = lines.iter().enumerate().filter(|(_, line)| line.starts_with("---- "));
    let told = blocks.flat_map(|(at, _)| lines[at..].iter().filter(|line| !line.is_empty()).take(3));
    told.map(|line| format!("\n      {}", line.chars().take(400).collect::<String>())).collect()
}

/// How many tests there were.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The sum of lines like `test result: ok. 3 passed; 0 failed; …`.
fn tally(lines: &[String]) -> Tally {
    let mut all = Tally { passed: 0, failed: 0 };
    for line in lines.iter().filter_map(|line| line.strip_prefix("test result: ")) {
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        let before = |what: &str| words.windows(2).find(|w| w[1] == what).and_then(|w| w[0].parse::<usize>().ok());
        all.passed += before("passed").unwrap_or(0);
        all.failed += before("failed").unwrap_or(0);
    }
    all
}

/// The release binary under every case; the harness and the specimens may be built for tests.
fn conformance() -> Result<String, String> {
    let (binary, specimen) = (built("release").join("cryopid"), built("debug").join("specimen"));
    let mut runner = command(&built("debug").join("conformance").to_string_lossy(), &[]);
    runner.arg("--bin").arg(binary).arg("--specimen").arg(specimen);
    let (lines, good) = watch(&mut runner)?;
    let last = lines.last().cloned().unwrap_or_else(|| "it said nothing".into());
    if good { Ok(last) } else { Err(last) }
}

fn sizes() -> Result<String, String> {
    let binary = built("release").join("cryopid");
    let size = length(&binary)?;
    let more = sleep_image(&binary)?.saturating_sub(size);
    let text =
        format!("the binary {size} bytes (at most {BINARY_MAX}), an image of sleep {more} more (at most {SLEEP_MAX})");
    if size <= BINARY_MAX && more <= SLEEP_MAX { Ok(text) } else { Err(text) }
}

fn length(path: &Path) -> Result<u64, String> {
    fs::metadata(path).map(|m| m.len()).map_err(|e| format!("{}: {e}", path.display()))
}

/// A program that is ended when it is not needed any more.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleep_image(binary: &Path) -> Result<u64, String> {
    let mut sleep = command("bash", &["-c", ALONE, "bash", "sleep", "1000"]);
    sleep.stdout(Stdio::null()).stderr(Stdio::null());
    let victim = Victim(sleep.spawn().map_err(|e| format!("sleep: {e}"))?);
    // Until it sleeps, it is a program that is being started.
    std::thread::sleep(Duration::from_millis(200));
    let image = std::env::temp_dir().join(format!("xtask-sleep-{}.cryo", std::process::id()));
    let mut freeze = command(&binary.to_string_lossy(), &["freeze", "--quiet", &victim.0.id().to_string(), "-o"]);
    let size = run(freeze.arg(&image)).and_then(|()| length(&image));
    let _ = fs::remove_file(&image);
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_up() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.00s\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored";
        let lines: Vec<String> = text.lines().map(String::from).collect();
        assert_eq!(tally(&lines), Tally { passed: 5, failed: 1 });
    }

    #[test]
    fn what_failed_is_told_again() {
        let text = "test a ... ok\n\n---- b stdout ----\n\nit is 3\nbut was to be 4\nand so on\n\ntest result: FAILED";
        let lines: Vec<String> = text.lines().map(String::from).collect();
        assert_eq!(reasons(&lines), "\n      ---- b stdout ----\n      it is 3\n      but was to be 4");
        assert_eq!(reasons(&lines[..1]), "");
    }

    #[test]
    fn packages_are_plain_names() {
        let plain = |p: &str| p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        assert!(packages().count() > COMPILER.len() && packages().all(plain));
    }

    #[test]
    fn a_package_that_nobody_has_is_not_there() {
        assert!(!is_there("no-such-package-at-all"));
    }
}
