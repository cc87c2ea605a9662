//! The disk fills up: exit status 1, no file left, and the program runs on.

use crate::kit::Kit;
use crate::pty::FIRST;
use crate::runner::Test;
use crate::scene::{Scene, hear};
use crate::{Outcome, fine, process, same};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    let mut tests = vec![
        Test::new("disk/limit in the stub", |kit| limited(kit, Room::Blocks(100))),
        Test::new("disk/limit in the pages", |kit| limited(kit, Room::BehindStub(4 << 20))),
        Test::new("disk/that of a file without a name", full_at_thaw),
    ];
    for (name, kind, room) in all {
        for command in ["freeze", "snapshot"] {
            tests.push(Test::new(format!("disk/{name}/{command}"), move |kit| full(kit, command, (kind, room))));
        }
    }
    tests
}

/// Where a file without a name was there is no room for it when its program is thawed: it is in memory.
fn full_at_thaw(kit: &Kit) -> Outcome {
    let mut scene = Scene::new(kit, 0)?;
    let outcome = finds_no_room(&mut scene);
    scene.close(outcome)
}

fn finds_no_room(scene: &mut Scene) -> Outcome {
    const NAMELESS: &str =
        "exec 3<>disk/file; head -c 300000 /dev/urandom >&3; rm disk/file; echo rea''dy; read; wc -c </proc/$$/fd/3";
    let disk = Disk::new(scene.path("disk"), 2 << 20)?;
    let mut terminal = scene.open(&["/bin/bash", "-c", NAMELESS].map(String::from), FIRST)?;
    terminal.expect("ready\r\n")?;
    scene.run(&["freeze", &terminal.program.pid().to_string(), "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
    terminal.exit()?;
    let filled = std::fs::write(disk.0.join("filler"), vec![1; 4 << 20]);
    same("the disk is full", &true, &filled.is_err())?;
    let mut thawed = scene.thaw(&scene.path("a.cryo"))?;
    thawed.write("\n")?;
    thawed.expect("300000\r\n")?;
    same("exit status", &0, &thawed.exit()?)
}

/// How large a file may be.
#[derive(Clone, Copy)]
enum Room {
    /// So many times 512 bytes.
    Blocks(u64),
    /// So many bytes more than the stub.
    BehindStub(u64),
}

fn limited(kit: &Kit, room: Room) -> Outcome {
    let mut scene = Scene::new(kit, 0)?;
    let outcome = reaches_limit(&mut scene, room);
    scene.close(outcome)
}

/// A file that may not grow (RLIMIT_FSIZE) is as a full disk, and ends nobody by SIGXFSZ.
fn reaches_limit(scene: &mut Scene, room: Room) -> Outcome {
    let stub = fine("cryopid", std::fs::metadata(&scene.kit.cryopid))?.len();
    let blocks = match room {
        Room::Blocks(blocks) => blocks,
        Room::BehindStub(more) => (stub + more) / 512,
    };
    let mut terminal = scene.specimen("mem-large", &["32"])?;
    let (pid, cryopid) = (terminal.program.pid(), scene.kit.cryopid.display().to_string());
    for words in ["freeze $1 -o a.cryo", "snapshot $1 -o a.cryo", "freeze $1 -o - > s.cryo"] {
        let script = format!("ulimit -f {blocks}; exec $0 {words}");
        let command = scene.command(Path::new("/bin/sh"), &["-c", &script, &cryopid, &pid.to_string()]);
        let said = hear(command, Duration::from_secs(30))?.ended_with(&script, &[1])?;
        same(&format!("the cause is told; it says {:?}", said.error), &true, &said.error.contains("file too large"))?;
        same("an image is there", &false, &scene.path("a.cryo").exists())?;
        process::unharmed(pid)?;
    }
    same(
        "what is left beside it",
        &false,
        &files(&scene.dir).iter().any(|path| path.to_string_lossy().contains(".part")),
    )?;
    super::answers(&mut terminal)
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
