//! The disk fills up: exit status 1, no file left, and the program runs on.

use crate::kit::Kit;
use crate::runner::Test;
use crate::scene::Scene;
use crate::{Outcome, fine, process, same};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::path::{Path, PathBuf};

/// A mounted tmpfs, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(place: PathBuf, bytes: u64) -> Result<Disk, String> {
        fine("mkdir", std::fs::create_dir(&place))?;
        let options = std::ffi::CString::new(format!("size={bytes},mode=777")).expect("no NUL in a number");
        fine("mount a tmpfs", mount("tmpfs", &place, "tmpfs", MountFlags::NOSUID, Some(options.as_c_str())))?;
        Ok(Disk(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Full at once, in the middle of the stub, in the middle of the pages or of a file that is kept, and nearly at the end.
#[must_use]
pub fn tests() -> Vec<Test> {
    let all = [
        ("at once", "mem-large", 4096),
        ("early", "mem-large", 1 << 20),
        ("in the pages", "mem-large", 0),
        ("in a file", "file-deleted-large", 0),
        ("late", "mem-large", 24 << 20),
    ];
    let mut tests = Vec::new();
    for (name, kind, room) in all {
        for command in ["freeze", "snapshot"] {
            tests.push(Test::new(format!("disk/{name}/{command}"), move |kit| full(kit, command, (kind, room))));
        }
    }
    tests
}

fn full(kit: &Kit, command: &str, what: (&str, u64)) -> Outcome {
    let mut scene = Scene::new(kit, 0)?;
    let outcome = fills_up(&mut scene, command, what);
    scene.close(outcome)
}

fn fills_up(scene: &mut Scene, command: &str, (kind, room): (&str, u64)) -> Outcome {
    let stub = fine("cryopid", std::fs::metadata(&scene.kit.cryopid))?.len();
    // Thirty-two mebibytes of pages or contents follow the stub.
    let room = match room {
        0 => stub + (4 << 20),
        late if late > 2 << 20 => stub + late,
        early => early,
    };
    let disk = Disk::new(scene.path("disk"), room)?;
    let mut terminal = scene.specimen(kind, &["32"])?;
    let target = disk.0.join("a.cryo").display().to_string();
    let pid = terminal.program.pid();
    terminal.write("che")?;
    terminal.expect("che")?;
    let said = scene.run(&[command, &pid.to_string(), "-o", &target])?.ended_with(command, &[1])?;
    same(&format!("the message tells the cause; it is {:?}", said.text), &true, &tells_the_cause(&said.text))?;
    same("files left on the disk", &Vec::<PathBuf>::new(), &files(&disk.0))?;
    process::unharmed(pid)?;
    // What was typed before is where it was.
    terminal.write("ck 0\nquit\n")?;
    terminal.expect("ok\r\n")?;
    same("exit status", &0, &terminal.exit()?)
}

fn tells_the_cause(text: &str) -> bool {
    ["No space left", "ENOSPC", "no space"].iter().any(|words| text.contains(words))
}

fn files(place: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
