//! `check`: what this host can do, whether a process can be frozen, whether an image can be thawed here.

use crate::args::CheckArgs;
use crate::say::{Say, Style};
use abi::consts::cap::CAP_SYS_PTRACE;
use engine::{Ending, Error, Loaded, Look, Request};
use plan::{Host, Namespaces, Options, Plan};
use resources::Model;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let mut say = Say::new(&args.tone, Style::Plain);
    match &args.what {
        None => host(&mut say),
        Some(what) => match what.parse::<i32>() {
            Ok(pid) if pid > 0 && !Path::new(what).exists() => process(pid, &mut say),
            _ => image(Path::new(what), &mut say),
        },
    }
}

fn process(pid: i32, say: &mut Say) -> ExitCode {
    let keep = resources::Keep { typed: true, tcp: crate::tcp(None), ..resources::Keep::default() };
    let request = Request { tree: Look::at(pid), output: None, keep, ending: Ending::RunOn };
    let what = format!("cannot freeze {pid}");
    match crate::frozen(pid, &request, say, &what) {
        Ok(frozen) => crate::would_freeze(pid, &frozen, say),
        Err(status) => status,
    }
}

fn image(path: &Path, say: &mut Say) -> ExitCode {
    let loaded = match crate::open(path) {
        Ok(loaded) => loaded,
        Err(e) => return crate::failed(say, &format!("cannot read {}", path.display()), "", &e),
    };
    match thawable(&loaded) {
        Ok(plan) => {
            let told = tell(path, &loaded, &plan, say);
            crate::ended(told, say, &crate::cannot_tell_of(path), "")
        }
        Err(e) => crate::failed(say, &format!("cannot thaw {}", path.display()), "nothing was made", &e),
    }
}

fn thawable(loaded: &Loaded) -> Result<Plan, Error> {
    loaded.image.verify(&mut |_, _| {})?;
    engine::plan_for(loaded, &engine::survey(&loaded.model)?, &Options::default())
}

fn tell(path: &Path, loaded: &Loaded, plan: &Plan, say: &mut Say) -> Result<(), Error> {
    say.notes(&plan.notes);
    let place = match plan.namespaces {
        Namespaces::Same => "in place, with the ids that it had",
        Namespaces::Pid => "with the ids that it had, in a new pid namespace",
        Namespaces::UserPid { .. } => "with the ids that it had, in a new user and pid namespace",
    };
    let name = loaded.model.name();
    let text = format!("{}: {name} can be thawed here, {place}", path.display());
    say.result(&text, &json!({"event": "thawable", "name": name, "namespaces": plan.namespaces, "notes": plan.notes}))
}

fn host(say: &mut Say) -> ExitCode {
    let told = engine::survey(&Model::default()).and_then(|host| {
        let object = json!({"event": "host", "host": host, "resources": resources::coverage()});
        say.result(&abilities(&host), &object)
    });
    crate::ended(told, say, "cannot tell of this host", "")
}

fn yes(can: bool) -> &'static str {
    if can { "yes" } else { "no" }
}

fn abilities(host: &Host) -> String {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let own = match scope.trim() {
        "" | "0" => "yes",
        "1" | "2" if host.has(CAP_SYS_PTRACE) => "yes",
        "1" => "only its own children (kernel.yama.ptrace_scope is 1)",
        _ => "no (kernel.yama.ptrace_scope)",
    };
    let rows = [
        ("freeze own processes", own),
        ("freeze any process", yes(host.has(CAP_SYS_PTRACE))),
        ("thaw with the same ids in place", yes(host.may_choose_ids())),
        ("thaw in a new pid namespace", yes(host.has(21) || host.user_namespaces)),
        ("terminal here", host.terminal.as_ref().map_or("none", |_| "yes")),
    ];
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(what, can)| format!("{what:<width$}  {can}")).collect();
    let kept: Vec<&str> = resources::coverage().iter().filter(|c| c.reason.is_empty()).map(|c| c.name).collect();
    format!("{}\n{:<width$}  {}", lines.join("\n"), "resources kept", kept.join(", "))
}
