//! Where the programs stand: copies that every user can execute, and a directory for each test.

use crate::act::Orders;
use conformance::process::{self, Owned};
use conformance::pty::{FIRST, Terminal};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The ordinary user: any number that nobody has.
pub(crate) const USER: u32 = 61_235;

/// An error with the name of what was wanted.
pub(crate) fn fine<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

/// Where a program is among others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stands {
    /// In our pid namespace.
    AsWe,
    /// The first of one, which unshare(1) has made.
    First,
}

/// The programs, and directories; all of it goes when this is dropped.
pub(crate) struct Stage {
    programs: PathBuf,
    places: PathBuf,
    next: AtomicUsize,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.programs);
        let _ = fs::remove_dir_all(&self.places);
    }
}

impl Stage {
    pub(crate) fn new() -> Result<Stage, String> {
        let name = format!("cryopid-faults-{}", std::process::id());
        // Images are synced thousands of times: in memory that costs nothing.
        let shm = Path::new("/dev/shm");
        let fast = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let stage = Stage {
            programs: std::env::temp_dir().join(&name),
            places: fast.join(name + "-places"),
            next: AtomicUsize::new(0),
        };
        make_dir(&stage.programs, 0)?;
        make_dir(&stage.places, 0)?;
        let own = fine("current_exe", std::env::current_exe())?;
        install(&own, &stage.program())?;
        install(&specimen(&own)?, &stage.specimen())?;
        Ok(stage)
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.programs.join("faults")
    }

    pub(crate) fn specimen(&self) -> PathBuf {
        self.programs.join("specimen")
    }

    /// An empty directory of that user.
    pub(crate) fn place(&self, uid: u32) -> Result<PathBuf, String> {
        let place = self.places.join(self.next.fetch_add(1, SeqCst).to_string());
        make_dir(&place, uid)?;
        Ok(place)
    }

    /// A specimen in a terminal of its own, ready.
    pub(crate) fn start(&self, words: &[&str], uid: u32, place: &Path, stands: Stands) -> Result<Terminal, String> {
        let mut command = match stands {
            Stands::AsWe => Command::new(self.specimen()),
            Stands::First => {
                let mut command = Command::new("/usr/bin/unshare");
                command.args(["--pid", "--fork", "--mount-proc"]).arg(self.specimen());
                command
            }
        };
        command.arg("launch").arg(uid.to_string()).arg(self.specimen()).args(words).current_dir(place);
        let mut terminal = Terminal::open(command, FIRST)?;
        terminal.expect("ready\r\n")?;
        Ok(terminal)
    }

    /// This program in a part of its own, in a terminal of its own.
    pub(crate) fn perform(&self, orders: &Orders, uid: u32) -> Result<Terminal, String> {
        // Other tests give ids to objects of IPC, too: where all do so in one namespace, two may have the same by turns.
        let mut command = Command::new("/usr/bin/unshare");
        command.arg("--ipc").arg(self.specimen());
        command.arg("launch").arg(uid.to_string()).arg(self.program());
        orders.give(&mut command);
        Terminal::open(command, FIRST)
    }

    /// This program in a part of its own, with pipes to it.
    pub(crate) fn assign(&self, orders: &Orders, uid: u32) -> Result<Owned, String> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.program());
        orders.give(&mut command);
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    }
}

fn make_dir(path: &Path, uid: u32) -> Result<(), String> {
    fine("mkdir", fs::create_dir(path))?;
    fine("chmod", fs::set_permissions(path, Permissions::from_mode(0o755)))?;
    fine("chown", chown(path, Some(uid), Some(uid)))
}

/// A copy without the names of functions, where there is strip(1): an image begins with the program that makes it.
fn install(from: &Path, to: &Path) -> Result<(), String> {
    let stripped = Command::new("strip").arg("-o").arg(to).arg(from).stderr(Stdio::null()).status();
    if !stripped.is_ok_and(|status| status.success()) {
        fine("copy", fs::copy(from, to))?;
    }
    fine("chmod", fs::set_permissions(to, Permissions::from_mode(0o755)))
}

/// The specimens, built where we were built: cargo builds no program of another crate for a test.
fn specimen(own: &Path) -> Result<PathBuf, String> {
    let profile = own.ancestors().nth(2).ok_or("a test is built below its target directory")?;
    // The directories of single targets have the tag as well.
    let is_target = |dir: &&Path| dir.join("CACHEDIR.TAG").exists();
    let target = own.ancestors().filter(is_target).last().ok_or("a target directory has its tag")?;
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "specimens", "--profile", name, "--target-dir"]).arg(target);
    let built = fine("cargo build", build.current_dir(env!("CARGO_MANIFEST_DIR")).status())?;
    if built.success() { Ok(profile.join("specimen")) } else { Err(format!("the specimens: {built}")) }
}
