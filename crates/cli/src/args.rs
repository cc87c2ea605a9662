//! What users type. The contract: extended, never bent.

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Freeze any running program into one file, and run the file to thaw it.
#[derive(Debug, Parser)]
#[command(name = "cryopid", version, propagate_version = true)]
#[command(
    after_help = "Example:\n  cryopid freeze 4711 -o irssi.cryo   # process 4711 stops and is now this file\n  ./irssi.cryo                        # … and here it goes on, in this terminal"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Save the tree of PID into one file, then end it
    #[command(after_help = "Example:\n  cryopid freeze 4711 -o work.cryo --with-libs")]
    Freeze(FreezeArgs),
    /// Save the tree of PID into one file; it runs on
    #[command(after_help = "Example:\n  cryopid snapshot $(pidof irssi) -o irssi-$(date +%H).cryo")]
    Snapshot(FreezeArgs),
    /// Bring a tree back (running the image itself does the same)
    #[command(after_help = "Example:\n  cryopid thaw --files strict work.cryo")]
    Thaw(ThawFileArgs),
    /// Tell what this host can do; whether a process can be frozen, an image thawed here, and what would be lost
    #[command(after_help = "Example:\n  cryopid check 4711\n  cryopid check work.cryo")]
    Check(CheckArgs),
    /// Show what an image holds
    #[command(after_help = "Example:\n  cryopid inspect work.cryo fds\n  cryopid inspect work.cryo all --json")]
    Inspect(InspectArgs),
    /// Check every checksum of an image
    #[command(after_help = "Example:\n  cryopid verify work.cryo")]
    Verify(ImageArgs),
    /// Show it on this machine in five seconds
    #[command(after_help = "Example:\n  cryopid demo")]
    Demo(DemoArgs),
}

/// How much is said, and in which form.
#[derive(Clone, Debug, Args)]
pub(crate) struct Tone {
    /// One JSON object per line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say more, unless it is to be quiet
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `freeze` and `snapshot`.
#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    /// The process at the root of the tree
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// Where the image goes, in place of what has that name; - is standard output [default: ./NAME-PID.cryo]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Keep the contents of every mapped file: nothing of this machine is needed to thaw
    #[arg(long)]
    pub(crate) with_libs: bool,
    /// Keep the contents of all open regular files too, not only of those open for writing of up to 1 MiB
    #[arg(long)]
    pub(crate) with_files: bool,
    /// What becomes of TCP connections with others [default: reset; for root: refuse]
    #[arg(long, value_enum)]
    pub(crate) tcp: Option<TcpArg>,
    /// What becomes of pipes and sockets whose other end is outside of the tree
    #[arg(long, value_enum, default_value_t)]
    pub(crate) external: ExternalArg,
    /// Only look whether it can be done, and what would be lost
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) tone: Tone,
}

/// `--external`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum ExternalArg {
    /// Thawed, the program finds the other end closed; of its standard streams, those of the shell in which it is thawed
    Disconnect,
    /// They are a reason against it
    #[default]
    Refuse,
}

/// `--tcp`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TcpArg {
    /// Thawed, the program finds them reset, as by a failure of the network
    Reset,
    /// They are a reason against it
    Refuse,
}

/// `--pids`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum PidsArg {
    /// In place if they are free and it is allowed, else in a new pid namespace
    #[default]
    Auto,
    /// In place, or not at all
    Same,
    /// In a new pid namespace
    New,
}

/// `--files`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum FilesArg {
    /// Refuse
    Strict,
    /// Say so, and go on with the file as it is
    #[default]
    Warn,
    /// Put the saved contents back
    Saved,
}

/// `--time`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum TimeArg {
    /// They go on from where they stood, where that is allowed
    #[default]
    Keep,
    /// They are those of this machine
    Host,
}

/// What can be said to an image.
#[derive(Debug, Args)]
pub(crate) struct ThawArgs {
    /// Do not wait for the program: it goes on in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Where the processes get the ids that they had
    #[arg(long, value_enum, default_value_t)]
    pub(crate) pids: PidsArg,
    /// What to do about an open file that has changed since
    #[arg(long, value_enum, default_value_t)]
    pub(crate) files: FilesArg,
    /// What the clocks tell that count from the start of the machine
    #[arg(long, value_enum, default_value_t)]
    pub(crate) time: TimeArg,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) tone: Tone,
}

/// An image that is executed.
#[derive(Debug, Parser)]
#[command(version, about = "A frozen program: run it, and it goes on where it stood")]
pub(crate) struct ItselfArgs {
    #[command(flatten)]
    pub(crate) thaw: ThawArgs,
}

/// `thaw`
#[derive(Debug, Args)]
pub(crate) struct ThawFileArgs {
    #[command(flatten)]
    pub(crate) thaw: ThawArgs,
    /// The image; - is standard input
    pub(crate) image: PathBuf,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image; - is standard input
    pub(crate) image: PathBuf,
    #[command(flatten)]
    pub(crate) tone: Tone,
}

/// `check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A process, or an image
    pub(crate) what: Option<String>,
    #[command(flatten)]
    pub(crate) tone: Tone,
}

/// What `inspect` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum What {
    /// Processes and threads
    #[default]
    Tree,
    /// Descriptors
    Fds,
    /// Areas of memory
    Maps,
    /// Arguments and environment
    Env,
    /// Files that are needed, or in the image
    Files,
    /// Sockets
    Sockets,
    /// Signals
    Signals,
    /// Everything
    All,
}

/// `inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The image; - is standard input
    pub(crate) image: PathBuf,
    /// What to show
    #[arg(value_enum, default_value_t)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) tone: Tone,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the image is left
    #[arg(short, long, value_name = "FILE", default_value = "demo.cryo", value_parser = PathBufValueParser::new().try_map(file))]
    pub(crate) output: PathBuf,
}

/// Standard output is for what the demo shows.
fn file(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str() == "-" {
        Err("the image of the demo is a file: standard output is for what it shows")
    } else {
        Ok(path)
    }
}
