//! What every test uses: the programs, built or copied once where every user can read them, and a directory for all.

use crate::{Outcome, fine, scene};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The packages that the cases need, one a line.
pub const PACKAGES: &str = include_str!("../packages.txt");

const RESTARTER: &str = include_str!("../programs/restarter.sh");
const COUNTER: &str = include_str!("../programs/counter.c");
const GOROUTINES: &str = include_str!("../programs/goroutines.go");
/// Built with the harness, and beside it.
const TASKS: &str = "tasks";

/// The ordinary user: any number that nobody has, and that is not the overflow id of user namespaces.
pub const USER: u32 = 61_234;

/// The programs and the private directory of one run.
#[derive(Clone)]
pub struct Kit {
    /// Removed at the end.
    pub root: PathBuf,
    /// The program under test.
    pub cryopid: PathBuf,
    /// The specimens.
    pub specimen: PathBuf,
    _removed: Arc<Removed>,
}

/// A directory that is removed with its last holder.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Kit {
    /// Copies and builds what is needed.
    ///
    /// # Errors
    /// A binary is not there, or a C compiler is not.
    pub fn new(cryopid: &Path, specimen: &Path) -> Result<Kit, String> {
        let root = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
        fine("mkdir", std::fs::create_dir_all(&root))?;
        fine("chmod", std::fs::set_permissions(&root, Permissions::from_mode(0o755)))?;
        let kit = Kit {
            cryopid: root.join("cryopid"),
            specimen: root.join("specimen"),
            _removed: Arc::new(Removed(root.clone())),
            root,
        };
        kit.install(cryopid, &kit.cryopid)?;
        kit.install(specimen, &kit.specimen)?;
        let tasks = fine("the harness", std::env::current_exe())?.with_file_name(TASKS);
        kit.install(&tasks, &kit.root.join(TASKS))?;
        let c = ("counter.c", COUNTER);
        kit.compile(&["cc", "-static", "-O1"], c, "counter-glibc")?;
        kit.compile(&["musl-gcc", "-static", "-O1"], c, "counter-musl")?;
        kit.compile(&["go", "build"], ("goroutines.go", GOROUTINES), "goroutines")?;
        Ok(kit)
    }

    /// The same with the stand-in that only starts programs anew: what the harness must find out.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn with_restarter(&self) -> Result<Kit, String> {
        let cryopid = self.root.join("restarter");
        if !cryopid.exists() {
            fine("restarter", std::fs::write(&cryopid, RESTARTER))?;
            fine("chmod", std::fs::set_permissions(&cryopid, Permissions::from_mode(0o755)))?;
        }
        Ok(Kit { cryopid, ..self.clone() })
    }

    fn install(&self, from: &Path, to: &Path) -> Outcome {
        fine(&format!("copy {}", from.display()), std::fs::copy(from, to))?;
        fine("chmod", std::fs::set_permissions(to, Permissions::from_mode(0o755)))
    }

    fn compile(&self, compiler: &[&str], (file, text): (&str, &str), name: &str) -> Outcome {
        let source = self.root.join(file);
        fine(file, std::fs::write(&source, text))?;
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).arg("-o").arg(self.root.join(name)).arg(source);
        command.env("GOCACHE", self.root.join("go"));
        scene::quietly(&mut command)?.ended_with(&format!("{} {file}", compiler[0]), &[0]).map(drop)
    }
}
