//! `thaw`, and an image that is executed: the exit status is that of the program.

use crate::args::{FilesArg, ItselfArgs, PidsArg, ThawArgs, ThawFileArgs, TimeArg};
use crate::say::{Say, Style};
use clap::Parser;
use engine::{Error, Loaded, Outcome};
use image::Image;
use plan::{FilePolicy, Options, Pids, Plan, TimePolicy};
use serde_json::json;
use std::fs::File;
use std::process::ExitCode;

/// A failure of cryopid's own, which no program's exit status is taken for.
pub(crate) const OWN_FAILURE: u8 = 125;

/// The image that this program is.
pub(crate) fn itself(image: Image<File>) -> ExitCode {
    let args = match ItselfArgs::try_parse() {
        Ok(args) => args.thaw,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { OWN_FAILURE } else { 0 });
        }
    };
    run(&args, &crate::own_name(), engine::of_image(image))
}

/// An image that is named.
pub(crate) fn file(args: &ThawFileArgs) -> ExitCode {
    run(&args.thaw, &args.image.display().to_string(), crate::open(&args.image))
}

fn options(args: &ThawArgs) -> Options {
    let pids = match args.pids {
        PidsArg::Auto => Pids::Auto,
        PidsArg::Same => Pids::Same,
        PidsArg::New => Pids::New,
    };
    let files = match args.files {
        FilesArg::Strict => FilePolicy::Strict,
        FilesArg::Warn => FilePolicy::Warn,
        FilesArg::Saved => FilePolicy::Saved,
    };
    let time = match args.time {
        TimeArg::Keep => TimePolicy::Keep,
        TimeArg::Host => TimePolicy::Host,
    };
    let standing = if args.detach { plan::Standing::Detached } else { plan::Standing::Foreground };
    Options { pids, files, standing, time }
}

fn run(args: &ThawArgs, name: &str, loaded: Result<Loaded, Error>) -> ExitCode {
    let mut say = Say::new(&args.tone, Style::Plain);
    let what = format!("cannot thaw {name}");
    let done = match args.dry_run {
        true => loaded.and_then(|loaded| plan(args, &loaded)).map(|plan| print(&plan, name, &mut say)),
        false => loaded.and_then(|loaded| thaw(args, loaded, &mut say)),
    };
    done.unwrap_or_else(|e| {
        say.failed(&what, "nothing was made", &e);
        ExitCode::from(OWN_FAILURE)
    })
}

fn plan(args: &ThawArgs, loaded: &Loaded) -> Result<Plan, Error> {
    loaded.image.verify(&mut |_, _| {})?;
    engine::plan_for(loaded, &engine::survey(&loaded.model)?, &options(args))
}

fn print(plan: &Plan, name: &str, say: &mut Say) -> ExitCode {
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let object = json!({"event": "plan", "namespaces": plan.namespaces, "steps": steps, "notes": plan.notes});
    match say.result(plan.to_string().trim_end(), &object) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say.failed(&format!("cannot tell of {name}"), "", &e);
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn thaw(args: &ThawArgs, loaded: Loaded, say: &mut Say) -> Result<ExitCode, Error> {
    let options = options(args);
    let thawed = engine::thaw(&loaded, &options, say)?;
    say.notes(&thawed.notes);
    let object = json!({"event": "thawed", "name": loaded.model.name(), "pid": thawed.pid, "notes": thawed.notes});
    if args.detach {
        say.line(&format!("thawed {} as process {}", loaded.model.name(), thawed.pid), &object);
        // All of it goes with us, and sooner.
        std::mem::forget(loaded);
        return Ok(ExitCode::SUCCESS);
    }
    say.object(&object);
    // Whoever stands for the program does without it for as long as that lives.
    drop(loaded);
    Ok(match engine::stand_for(thawed) {
        Outcome::Exited(status) => ExitCode::from(status as u8),
        Outcome::Killed(signal) => ExitCode::from((128 + signal) as u8),
    })
}
