//! `conformance [SECTION…] [--filter GLOB] [--flavour F,…] [--bin PATH] [--specimen PATH] [--jobs N] [--count N] [-v] [--list]`
//!
//! Sections: harness, specimens, worlds, programs, kill, killthaw, disk, damage, twice, refusals, cli, jobcontrol. Without any: all of them.
//! The last line is `N passed, N failed`; the exit status is 1 if any failed, 2 if nothing could be run.
#![forbid(unsafe_code)]

use conformance::case::Flavour;
use conformance::kit::Kit;
use conformance::runner::{self, Test};
use conformance::{cases, faults, process, programs, worlds};
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

struct Wanted {
    sections: Vec<String>,
    filter: String,
    flavours: Vec<Flavour>,
    cryopid: PathBuf,
    specimen: PathBuf,
    jobs: usize,
    count: usize,
    verbose: bool,
    list: bool,
}

fn main() -> ExitCode {
    let outcome = wanted(std::env::args().skip(1)).and_then(|wanted| judge(&wanted));
    outcome.unwrap_or_else(|reason| {
        eprintln!("conformance: {reason}");
        ExitCode::from(2)
    })
}

fn wanted(mut words: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let beside = |name: &str| std::env::current_exe().map(|path| path.with_file_name(name)).unwrap_or_default();
    let mut wanted = Wanted {
        sections: Vec::new(),
        filter: "*".into(),
        flavours: Flavour::ALL.to_vec(),
        cryopid: beside("cryopid"),
        specimen: beside("specimen"),
        jobs: 6,
        count: 440,
        verbose: false,
        list: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--filter" => wanted.filter = value()?,
            "--flavour" => wanted.flavours = value()?.split(',').map(flavour).collect::<Result<_, _>>()?,
            "--bin" => wanted.cryopid = value()?.into(),
            "--specimen" => wanted.specimen = value()?.into(),
            "--jobs" => wanted.jobs = number(&value()?)?,
            "--count" => wanted.count = number(&value()?)?,
            "-v" => wanted.verbose = true,
            "--list" => wanted.list = true,
            section if SECTIONS.contains(&section) => wanted.sections.push(word),
            _ => {
                return Err(format!("unknown word {word:?}; the sections are {}", SECTIONS.join(", ")));
            }
        }
    }
    Ok(wanted)
}

fn flavour(name: &str) -> Result<Flavour, String> {
    let found = Flavour::ALL.into_iter().find(|flavour| flavour.name() == name);
    found.ok_or_else(|| format!("no flavour is called {name:?}"))
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

const SECTIONS: [&str; 13] = [
    "harness",
    "specimens",
    "worlds",
    "programs",
    "kill",
    "killthaw",
    "disk",
    "damage",
    "twice",
    "refusals",
    "bomb",
    "cli",
    "jobcontrol",
];

fn tests(wanted: &Wanted) -> Vec<Test> {
    let asked = |section: &&&str| wanted.sections.is_empty() || wanted.sections.iter().any(|name| name == **section);
    let all = SECTIONS.iter().filter(asked).flat_map(|section| section_tests(section, wanted));
    all.filter(|test| runner::fits(&wanted.filter, &test.name)).collect()
}

fn section_tests(section: &str, wanted: &Wanted) -> Vec<Test> {
    match section {
        "harness" => faults::harness::tests().into_iter().chain(faults::harness::reaper()).collect(),
        "specimens" => runner::multiply(section, cases::all(), &wanted.flavours),
        "worlds" => {
            runner::multiply(section, worlds::all(), &wanted.flavours).into_iter().chain(worlds::refused()).collect()
        }
        "programs" => runner::multiply(section, programs::all(), &wanted.flavours),
        "kill" => faults::kill::freezing(wanted.count),
        "killthaw" => faults::kill::thawing(wanted.count),
        "disk" => faults::disk::tests(),
        "damage" => faults::damage::tests(),
        "twice" => faults::twice::tests(),
        "refusals" => faults::refusals::tests(),
        "bomb" => faults::bomb::tests(),
        "cli" => faults::cli::tests(),
        _ => faults::jobcontrol::tests(),
    }
}

/// What whoever started us had ignored, all that we start would ignore, too: so we begin anew without that.
fn heed_signals(specimen: &Path) -> Result<(), String> {
    let me = std::process::id().cast_signed();
    let set = |name| u64::from_str_radix(&process::status(me, name), 16).unwrap_or(0);
    // SIGPIPE is ignored by every program in Rust, and not by its children; 32 and 33 are the C library's own.
    let others = 1 << (Signal::PIPE.as_raw() - 1) | 0b11 << 31;
    if (set("SigIgn") | set("SigBlk")) & !others == 0 {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|e| format!("its own path: {e}"))?;
    let failed = Command::new(specimen).arg("plainly").arg(own).args(std::env::args_os().skip(1)).exec();
    Err(format!("{}: {failed}", specimen.display()))
}

fn judge(wanted: &Wanted) -> Result<ExitCode, String> {
    let tests = tests(wanted);
    if wanted.list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return Ok(ExitCode::SUCCESS);
    }
    if tests.is_empty() {
        return Err(format!("nothing fits {:?}", wanted.filter));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("the cases need root, which becomes an ordinary user where a case asks for it".into());
    }
    heed_signals(&wanted.specimen)?;
    process::reap_orphans()?;
    let kit = Kit::new(&wanted.cryopid, &wanted.specimen)?;
    let tell = |line: &str| {
        if wanted.verbose || line.starts_with("FAIL") {
            println!("{line}");
        }
    };
    let tally = runner::run(&kit, tests, wanted.jobs, &tell);
    drop(kit);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(ExitCode::from(u8::from(tally.failed > 0)))
}
