//! The judge itself is tried: a stand-in for cryopid, which ends the program and starts it anew, must be found out
//! wherever a program is judged by what it remembers, and nowhere else.

use crate::case::{Case, Flavour};
use crate::runner::{self, Test};
use crate::{Outcome, cases, process};
use std::sync::Mutex;

/// What a program that was only started anew can and cannot do.
const TRIALS: [(&str, Flavour, Verdict); 5] = [
    ("umask", Flavour::Root, Verdict::Passes),
    ("umask", Flavour::User, Verdict::Passes),
    ("mem-code", Flavour::WithLibs, Verdict::Fails("No such file")),
    ("signal-stopped", Flavour::PidNs, Verdict::Fails("is not stopped")),
    ("segments", Flavour::Root, Verdict::Fails("expected exit status [3]")),
];

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Passes,
    Fails(&'static str),
}

/// One test a trial.
#[must_use]
pub fn tests() -> Vec<Test> {
    let found = |name: &str| {
        cases::all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case is called {name}"))
    };
    let test = |(name, flavour, verdict): (&str, Flavour, Verdict)| (found(name), flavour, verdict);
    TRIALS.map(test).into_iter().map(|(case, flavour, verdict)| trial(case, flavour, verdict)).collect()
}

fn trial(case: Case, flavour: Flavour, verdict: Verdict) -> Test {
    let name = format!("harness/{}/{}", case.name, flavour.name());
    Test::new(name, move |kit| {
        let heard = Mutex::new(String::new());
        let tell = |line: &str| heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(line);
        let tests = runner::multiply("trial", vec![case.clone()], &[flavour]);
        runner::run(&kit.with_restarter()?, tests, 1, &tell);
        judged(verdict, &heard.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    })
}

fn judged(verdict: Verdict, line: &str) -> Outcome {
    let fits = match verdict {
        Verdict::Passes => line.starts_with("pass "),
        Verdict::Fails(words) => line.starts_with("FAIL ") && line.contains(words),
    };
    fits.then_some(()).ok_or_else(|| format!("expected {verdict:?}, seen {line:?}"))
}

/// A process that nobody waits for is reaped, and one that is waited for is left to its waiter.
#[must_use]
pub fn reaper() -> Vec<Test> {
    vec![Test::new("harness/reaper", |_| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "(sleep 0.1; exit 3) & echo $!; exit 4"]);
        let said = crate::scene::quietly(&mut shell)?.ended_with("sh", &[4])?;
        let orphan = said.last_line().parse().map_err(|_| "sh says no pid")?;
        let reaped =
            process::until(std::time::Duration::from_secs(3), || process::look(orphan).is_none().then_some(()));
        reaped.ok_or_else(|| format!("the orphan is {}", process::state(orphan)))
    })]
}
