//! Everything that can fail, fails, one after the other: each act of a freeze and of a thaw has a number
//! (`tracee::fault`), and for each number one freeze or thaw is made in which just that act gives EIO, and one in which we
//! get SIGKILL at it. After a freeze the victim must run on unharmed, with no file left; after a thaw the host must be as
//! it was, or the program whole.
//!
//! This binary plays all the parts itself ([`act`]), and has no other thread when it freezes or thaws, as `cryopid` has none.
//! `cargo test -p engine --test faults -- NAME` makes only the tests that have NAME in their names.
#![forbid(unsafe_code)]

mod act;
mod freezing;
mod objects;
mod stage;
mod thawing;

use stage::Stage;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

/// What a test says: how many points there were, or what went wrong.
type Outcome = Result<u64, String>;

/// One test.
struct Test {
    name: String,
    run: Box<dyn Fn(&Stage) -> Outcome + Send + Sync>,
}

fn main() -> ExitCode {
    match std::env::var("CRYOPID_FAULTS_ROLE") {
        Ok(role) => act::play(&role),
        Err(_) => judge(),
    }
}

/// The filter of `cargo test -- NAME`: options of the usual harness mean nothing here.
fn wanted(test: &Test) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| test.name.contains(&word))
}

fn judge() -> ExitCode {
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let tests: Vec<Test> = thawing::tests().into_iter().chain(freezing::tests()).filter(wanted).collect();
    let stage = Stage::new().expect("the programs can be put in place");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, SeqCst)) {
                    judge_one(test, &stage, &failed);
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no worker panics");
    failed.iter().for_each(|(name, why)| println!("\n---- {name} ----\n{why}"));
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {} failed", tests.len() - failed.len(), failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// The smallest freeze and the smallest thaw do more than that.
const FEWEST: u64 = 200;

/// Most of the time somebody waits for somebody.
const WORKERS: usize = 4;

fn judge_one(test: &Test, stage: &Stage, failed: &Mutex<Vec<(String, String)>>) {
    let began = Instant::now();
    let told = (test.run)(stage).and_then(|points| match points {
        0..FEWEST => Err(format!("only {points} points were passed")),
        _ => Ok(points),
    });
    match told {
        Ok(points) => println!("test {} ... ok ({points} points in {:.1} s)", test.name, began.elapsed().as_secs_f32()),
        Err(why) => {
            println!("test {} ... FAILED", test.name);
            failed.lock().expect("no worker panics").push((test.name.clone(), why));
        }
    }
}
