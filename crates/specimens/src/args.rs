//! What /proc tells of a process's start: arguments, environment, auxiliary vector, executable.

use crate::life::Living;
use crate::sys::{self, fine, same};

fn start_data() -> Result<Vec<String>, String> {
    let auxv = fine("auxv", std::fs::read("/proc/self/auxv"))?;
    Ok(vec![sys::proc_text("cmdline")?, sys::proc_text("environ")?, format!("{auxv:?}")])
}

pub(crate) fn arguments(arguments: &[String]) -> Result<Living, String> {
    let (expected, words) = (start_data()?, arguments.to_vec());
    same("the words are in cmdline", &true, &expected[0].contains(&words.join("\0")))?;
    Living::reads(move |_| same("cmdline, environ, auxv", &expected, &start_data()?))
}

pub(crate) fn executable(_: &[String]) -> Result<Living, String> {
    let link = || fine("exe", std::fs::read_link("/proc/self/exe"));
    let expected = link()?;
    Living::reads(move |_| same("exe", &expected, &link()?))
}
