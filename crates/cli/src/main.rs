//! The binary `cryopid`: arguments, output, exit codes. Executed as an image, it thaws itself.
#![forbid(unsafe_code)]

mod args;
mod check;
mod demo;
mod inspect;
mod say;
mod thaw;

use args::{Cli, Command, FreezeArgs, ImageArgs};
use clap::Parser;
use engine::{Ending, Error, Frozen, Look, Request};
use image::{Image, OpenError};
use say::{Say, Style};
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

/// The kernel said no, a disk filled up.
const FAULT: u8 = 1;
/// It was called in a way that it does not know.
const USAGE: u8 = 2;
/// The tree or the host is not fit.
const REFUSED: u8 = 3;

/// The exit status of a bug, as Rust's own.
const BUG: i32 = 101;

/// A bug is told, and ends it: nothing is unwound, and no core is left that would hold what an image holds.
fn end_at_bugs() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |bug| {
        tell(bug);
        std::process::exit(BUG)
    }));
}

fn main() -> ExitCode {
    end_at_bugs();
    match own_image() {
        Some(Ok(image)) => thaw::itself(image),
        Some(Err(e)) => {
            say::aside(&format!("cryopid: {}: {e}", own_name()));
            ExitCode::from(thaw::OWN_FAILURE)
        }
        None => Cli::try_parse().map_or_else(|e| wrong_usage(&e), command),
    }
}

/// Of a thaw, any status but one of cryopid's own is the program's.
fn wrong_usage(e: &clap::Error) -> ExitCode {
    let _ = e.print();
    let thaws = std::env::args_os().nth(1).is_some_and(|word| word == "thaw");
    ExitCode::from(match e.use_stderr() {
        true if thaws => thaw::OWN_FAILURE,
        true => USAGE,
        false => 0,
    })
}

/// By what we were called.
fn own_name() -> String {
    std::env::args_os().next().unwrap_or_default().to_string_lossy().into_owned()
}

/// The image that this program is the beginning of, if it is one.
fn own_image() -> Option<Result<Image<File>, OpenError>> {
    let file = match File::open("/proc/self/exe") {
        Ok(file) => file,
        // It may be executed and not read: whether it is an image cannot be known, and as a bare program it is of no use.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Some(Err(OpenError::Io(e))),
        Err(_) => return None,
    };
    match Image::open(file) {
        Ok(image) => Some(Ok(image)),
        Err(OpenError::NotAnImage) => None,
        Err(e) => Some(Err(e)),
    }
}

fn command(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Freeze(args) => freeze(&args, Ending::End),
        Command::Snapshot(args) => freeze(&args, Ending::RunOn),
        Command::Thaw(args) => thaw::file(&args),
        Command::Check(args) => check::check(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Verify(args) => verify(&args),
        Command::Demo(args) => demo::demo(&args),
    }
}

/// What is meant where nothing was said.
fn tcp(said: Option<args::TcpArg>) -> resources::Tcp {
    let default = if rustix::process::geteuid().is_root() { args::TcpArg::Refuse } else { args::TcpArg::Reset };
    match said.unwrap_or(default) {
        args::TcpArg::Reset => resources::Tcp::Reset,
        args::TcpArg::Refuse => resources::Tcp::Refuse,
    }
}

fn freeze(args: &FreezeArgs, ending: Ending) -> ExitCode {
    let output = args.output.clone().unwrap_or_else(|| Request::default_output(args.pid));
    let mut say = Say::new(&args.tone, Style::for_output(&output));
    let request = Request {
        tree: Look::at(args.pid),
        output: (!args.dry_run).then(|| output.clone()),
        keep: resources::Keep {
            libs: args.with_libs,
            files: args.with_files,
            typed: args.dry_run || (ending == Ending::End && output != Path::new("-")),
            tcp: tcp(args.tcp),
            external: match args.external {
                args::ExternalArg::Disconnect => resources::External::Disconnect,
                args::ExternalArg::Refuse => resources::External::Refuse,
            },
        },
        ending: if args.dry_run { Ending::RunOn } else { ending },
    };
    let what = cannot_freeze(args.pid, ending);
    match frozen(args.pid, &request, &mut say, &what) {
        Ok(frozen) if args.dry_run => would_freeze(args.pid, &frozen, &mut say),
        Ok(frozen) => {
            say.frozen(ending, args.pid, &output, &frozen);
            ExitCode::SUCCESS
        }
        Err(status) => status,
    }
}

/// Freezes; or the exit status, where that failed, which was said, or a guardian of the tree did all there was to do.
fn frozen(pid: i32, request: &Request, say: &mut Say, what: &str) -> Result<Frozen, ExitCode> {
    guarded(engine::guard(&request.tree), say, what)?;
    let mut done = engine::freeze(request, say);
    if matches!(done, Err(Error::Unguarded)) {
        say.clear();
        guarded(engine::guard_after_all(), say, what)?;
        done = engine::freeze(request, say);
    }
    done.map_err(|e| failed(say, what, comfort(pid), &e))
}

fn would_freeze(pid: i32, frozen: &Frozen, say: &mut Say) -> ExitCode {
    let told = say.would_freeze(pid, frozen);
    ended(told, say, &format!("cannot tell of {pid}"), "")
}

fn guarded(guarded: Result<Option<u8>, Error>, say: &mut Say, what: &str) -> Result<(), ExitCode> {
    match guarded {
        Ok(status) => status.map_or(Ok(()), |status| Err(ExitCode::from(status))),
        Err(e) => Err(failed(say, what, "", &e)),
    }
}

/// What is left to say of a process that is not frozen: nothing of one that has ended.
pub(crate) fn comfort(pid: i32) -> &'static str {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let lives = abi::proc::stat(&stat).is_ok_and(|s| !b"ZX".contains(&s.state));
    if lives { "it runs on unharmed" } else { "" }
}

fn cannot_freeze(pid: i32, ending: Ending) -> String {
    let verb = if ending == Ending::End { "freeze" } else { "snapshot" };
    match std::fs::read(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("cannot {verb} {pid} ({})", resources::Text::from(name.trim_ascii_end())),
        Err(_) => format!("cannot {verb} {pid}"),
    }
}

/// Says what is in the way, and gives the exit status for it.
fn failed(say: &mut Say, what: &str, comfort: &str, e: &Error) -> ExitCode {
    say.failed(what, comfort, e);
    ExitCode::from(if matches!(e, Error::Refused(_)) { REFUSED } else { FAULT })
}

/// The end of a command that only tells.
fn ended(told: Result<(), Error>, say: &mut Say, what: &str, comfort: &str) -> ExitCode {
    told.map_or_else(|e| failed(say, what, comfort, &e), |()| ExitCode::SUCCESS)
}

/// What is said where all went well, and nobody can be told.
fn cannot_tell_of(image: &Path) -> String {
    format!("cannot tell of {}", image.display())
}

/// The image in a file; `-` is standard input.
fn open(path: &Path) -> Result<engine::Loaded, Error> {
    let file = match path == Path::new("-") {
        true => standard_input(),
        false => File::open(path),
    };
    engine::load(file.map_err(|e| Error::io("open", "the image", e))?)
}

/// What comes there is an image, and nothing for the program.
fn standard_input() -> std::io::Result<File> {
    let image = rustix::io::dup(rustix::stdio::stdin())?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(File::from(image))
}

fn verify(args: &ImageArgs) -> ExitCode {
    let mut say = Say::new(&args.tone, Style::Plain);
    match verified(&args.image, &mut say) {
        Ok(bytes) => {
            let told = say.verified(&args.image, bytes);
            ended(told, &mut say, &cannot_tell_of(&args.image), "")
        }
        Err(e) => failed(&mut say, &format!("cannot verify {}", args.image.display()), "", &e),
    }
}

fn verified(path: &Path, say: &mut Say) -> Result<u64, Error> {
    use engine::Progress;
    use image::Source;
    let loaded = open(path)?;
    let total = loaded.image.source().len().unwrap_or(0);
    say.stage("verifying", total);
    loaded.image.verify(&mut |done, _| say.done(done))?;
    loaded.torn.map_or(Ok(total), |e| Err(e.into()))
}
