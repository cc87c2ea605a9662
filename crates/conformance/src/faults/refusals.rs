//! What cannot be done is said before anything is done: exit status, message, and the program as it was.

use crate::kit::USER;
use crate::process::{start, unharmed, until};
use crate::pty::{FIRST, SECOND};
use crate::runner::Test;
use crate::scene::Scene;
use crate::{Outcome, fine, same};
use rustix::process::Signal;
use std::process::{Command, Stdio};
use std::time::Duration;

type Sort = fn(&mut Scene) -> Outcome;

/// Refusals and wrong usage.
#[must_use]
pub fn tests() -> Vec<Test> {
    let sorts: [(&str, Sort); 15] = [
        ("usage", usage),
        ("no such process", no_process),
        ("own tree", own_tree),
        ("another user's process", not_ours),
        ("nowhere to write", nowhere),
        ("dry run", dry_run),
        ("changed library", changed_map),
        ("secret", secret),
        ("shared position", shared_position),
        ("other mounts", other_mounts),
        ("keyrings", keyrings),
        ("pipe of others", pipe_of_others),
        ("pipe that others wait for", pipe_that_others_wait_for),
        ("name of others", name_of_others),
        ("device", device),
    ];
    sorts
        .into_iter()
        .map(|(name, sort)| Test::new(format!("refusals/{name}"), move |kit| super::within(kit, 0, sort)))
        .collect()
}

fn usage(scene: &mut Scene) -> Outcome {
    for (words, status) in [
        (&["freeze"][..], 2),
        (&["freeze", "abc"], 2),
        (&["freeze", "0"], 2),
        (&["freeze", "--", "-1"], 2),
        (&["demo", "-o", "-"], 2),
        (&["no-such-command"], 2),
        (&["freeze", "--no-such-option", "1"], 2),
        (&["inspect", "a.cryo", "no-such-thing"], 2),
        // Of a thaw, 2 would be a status of the program.
        (&["thaw"], 125),
        (&["thaw", "--no-such-option", "a.cryo"], 125),
        (&["thaw", "--help"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        scene.run(words)?.ended_with(&format!("{words:?}"), &[status])?;
    }
    Ok(())
}

fn no_process(scene: &mut Scene) -> Outcome {
    scene.run(&["freeze", "4194304", "-o", "a.cryo"])?.ended_with("freeze of nobody", &[1])?;
    same("an image is there", &false, &scene.path("a.cryo").exists())
}

/// A shell that asks for its own freeze, or for that of the shell around it, is told why not; outside of its tree it works.
fn own_tree(scene: &mut Scene) -> Outcome {
    for script in ["$0 freeze $$ -o a.cryo", "sh -c \"$0 freeze $$ -o a.cryo; exit \\$?\"", "$0 check $$"] {
        let script = format!("{script}; echo status=$?.; exit 0");
        let cryopid = scene.kit.cryopid.display().to_string();
        let mut shell = scene.open(&["/bin/sh", "-c", &script, &cryopid].map(String::from), FIRST)?;
        shell.expect("cryopid itself is in that tree")?;
        shell.expect("status=3.")?;
        same("exit status of the shell", &0, &shell.exit()?)?;
        same("an image is there", &false, &scene.path("a.cryo").exists())?;
    }
    // Outside of it there is no reason, also if who started cryopid ends a little later than it begins.
    for (name, script) in [
        ("a.cryo", "setsid --fork $0 freeze $$ -o a.cryo; read line"),
        ("b.cryo", "(setsid $0 freeze $$ -o b.cryo & sleep 0.2); read line"),
    ] {
        let cryopid = scene.kit.cryopid.display().to_string();
        let mut shell = scene.open(&["/bin/sh", "-c", script, &cryopid].map(String::from), FIRST)?;
        shell.exit()?;
        same("an image is there", &true, &scene.path(name).exists())?;
    }
    Ok(())
}

/// An ordinary user cannot freeze root's program, and it does not notice.
fn not_ours(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("ids", &[])?;
    let pid = terminal.program.pid();
    let other = Scene::new(scene.kit, USER)?;
    let said = other.run(&["freeze", &pid.to_string(), "-o", "a.cryo"])?.ended_with("freeze of another's", &[3])?;
    same(&format!("something is said: {:?}", said.text), &true, &said.text.contains(&pid.to_string()))?;
    unharmed(pid)?;
    other.close(Ok(()))?;
    super::answers(&mut terminal)
}

fn nowhere(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("ids", &[])?;
    let pid = terminal.program.pid();
    scene.run(&["freeze", &pid.to_string(), "-o", "no/such/place/a.cryo"])?.ended_with("freeze to nowhere", &[1])?;
    unharmed(pid)?;
    super::answers(&mut terminal)
}

/// It tells, and does nothing.
fn dry_run(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("ids", &[])?;
    let pid = terminal.program.pid().to_string();
    scene.run(&["freeze", &pid, "--dry-run", "-o", "a.cryo"])?.ended_with("freeze --dry-run", &[0])?;
    same("an image is there", &false, &scene.path("a.cryo").exists())?;
    scene.run(&["check", &pid])?.ended_with("check of a process", &[0])?;
    let image = super::freeze(scene, &mut terminal, "a.cryo")?;
    // The program lives on a terminal; there is none where these commands run.
    for (words, status) in [
        (["thaw", "--dry-run", "a.cryo"].as_slice(), 125),
        (&["check", "a.cryo"], 3),
        (&["verify", "a.cryo"], 0),
        (&["inspect", "a.cryo"], 0),
    ] {
        scene.run(words)?.ended_with(&format!("{words:?}"), &[status])?;
        scene.only(&[])?;
    }
    super::answers(&mut scene.thaw(&image)?)
}

/// Without `--with-libs`, a mapped file that has changed since is named and refused.
fn changed_map(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("mem-read-only-file", &[])?;
    let image = super::freeze(scene, &mut terminal, "a.cryo")?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    fine("change the file", std::fs::write(scene.path("read-only-map"), vec![7; 8192]))?;
    let mut thaw = scene.thaw(&image)?;
    same("exit status of the thaw", &125, &thaw.exit()?)?;
    same(&format!("the file is named; it said {:?}", thaw.said()), &true, &thaw.said().contains("read-only-map"))
}

/// An image holds memory: nobody else may read it, and its owner may execute it.
fn secret(scene: &mut Scene) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let image = super::image_of(scene, &["ids"])?;
    let mode = fine("image", std::fs::metadata(image))?.mode() & 0o7777;
    same("mode", &format!("{:o}", 0o700), &format!("{mode:o}"))
}

/// What is shared no more, and works all the same, is told, and stands in the image; what is not shared is not told.
fn shared_position(scene: &mut Scene) -> Outcome {
    for (words, told) in [(["outside", "position"], true), (["outside", "text"], true), (["file-position", ""], false)]
    {
        let mut terminal = scene.specimen(words[0], &words[1..])?;
        let pid = terminal.program.pid().to_string();
        let said = scene.run(&["freeze", &pid, "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
        terminal.exit()?;
        let inside = scene.run(&["inspect", "a.cryo", "all", "--json"])?.ended_with("inspect", &[0])?;
        for text in [said.text, inside.text] {
            let tells = text.contains("moves its position too");
            same(&format!("a shared position is told; it says {text:.300}"), &told, &tells)?;
        }
    }
    Ok(())
}

/// A program that sees other mounts than we do is told of; one that only lives where a thaw has put it is not.
fn other_mounts(scene: &mut Scene) -> Outcome {
    let script = "mkdir m && mount -t tmpfs none m && exec \"$0\" ids";
    let specimen = scene.kit.specimen.display().to_string();
    let mut terminal =
        scene.open(&["/usr/bin/unshare", "-m", "/bin/sh", "-c", script, &specimen].map(String::from), FIRST)?;
    terminal.expect("ready\r\n")?;
    let pid = terminal.program.pid().to_string();
    let said = scene.run(&["freeze", &pid, "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
    same(&format!("the mount is told; it says {:?}", said.text), &true, &said.text.contains("/m is another mount"))?;
    terminal.exit()?;
    let image = super::image_of(scene, &["ids"])?;
    let mut terminal = scene.open(&[&image.display().to_string(), "--pids", "new"].map(String::from), SECOND)?;
    let pid = super::thawed_in(scene, "ids")?.to_string();
    let said = scene.run(&["freeze", &pid, "-o", "b.cryo"])?.ended_with("freeze", &[0])?;
    same(&format!("a mount is told; it says {:?}", said.text), &false, &said.text.contains("ns/mnt"))?;
    terminal.exit().map(drop)
}

/// Keys that are not kept are told, and of a keyring as a login makes it nothing is.
fn keyrings(scene: &mut Scene) -> Outcome {
    for (kind, told) in [
        ("thread", "thread keyring: the keys in it are not"),
        ("process", "process keyring: the keys in it are not"),
        ("session", "session keyring: the keys in it are not"),
        ("named", "session keyring: the keys in it are not"),
        ("linked", ""),
        ("empty", ""),
    ] {
        let mut terminal = scene.specimen("keyring", &[kind])?;
        let pid = terminal.program.pid().to_string();
        let said = scene.run(&["freeze", &pid, "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
        terminal.exit()?;
        let tells = said.text.contains("keyring:");
        same(&format!("keys are told of {kind}; it says {:.300}", said.text), &!told.is_empty(), &tells)?;
        same(&format!("what is told; it says {:.300}", said.text), &true, &said.text.contains(told))?;
    }
    Ok(())
}

/// A name that somebody has in another network namespace, where its socket is not told to us, is not taken from him.
fn name_of_others(scene: &mut Scene) -> Outcome {
    let image = super::image_of(scene, &["socket-waiting"])?;
    for name in ["waiting", "own"] {
        fine("remove the name", std::fs::remove_file(scene.path(name)))?;
    }
    let specimen = scene.kit.specimen.display().to_string();
    let mut other = scene.open(&["/usr/bin/unshare", "-n", &specimen, "socket-waiting"].map(String::from), SECOND)?;
    other.expect("ready\r\n")?;
    let mut thaw = scene.thaw(&image)?;
    same(&format!("exit status of the thaw; it said {:?}", thaw.said()), &125, &thaw.exit()?)?;
    let why = "another socket has that name now";
    same(&format!("why; it said {:?}", thaw.said()), &true, &thaw.said().contains(why))?;
    super::answers(&mut other)?;
    other.exit()?;
    super::answers(&mut scene.thaw(&image)?)
}

/// What waits in a named pipe goes to nobody else who has it open by the time of the thaw, whether he can be seen or not, and nothing
/// is mixed with what is in it then.
fn pipe_of_others(scene: &mut Scene) -> Outcome {
    let seen = "has it open here";
    fed_to_nobody(scene, [seen, seen])?;
    let mut other = Scene::new(scene.kit, USER)?;
    let outcome = fed_to_nobody(&mut other, ["another process here has it open to read", "something waits in it"]);
    other.close(outcome)
}

fn fed_to_nobody(scene: &mut Scene, told: [&str; 2]) -> Outcome {
    use std::fs::OpenOptions;
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let image = super::image_of(scene, &["fifo"])?;
    let path = scene.path("fifo");
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let open = |how: &mut OpenOptions| fine("open the pipe", how.custom_flags(flags).open(&path));
    let mut refuses = |why: &str| {
        let mut thaw = scene.thaw(&image)?;
        same(&format!("exit status of the thaw; it said {:?}", thaw.said()), &125, &thaw.exit()?)?;
        same(&format!("it says {why:?}; it said {:?}", thaw.said()), &true, &thaw.said().contains(why))
    };
    // What another test starts in this instant has what we have open, until it is executed.
    let time = Duration::from_secs(5);
    let unread = || until(time, || open(OpenOptions::new().write(true)).err()).ok_or("somebody reads from the pipe");
    let mut got = Vec::new();
    let read_all = |reader: &mut std::fs::File, got: &mut Vec<u8>| {
        until(time, || reader.read_to_end(got).ok()).ok_or("somebody has the pipe open to write")
    };
    let mut reader = open(OpenOptions::new().read(true))?;
    refuses(told[0])?;
    read_all(&mut reader, &mut got)?;
    same("what somebody else got", &"", &&*String::from_utf8_lossy(&got))?;
    let mut writer = open(OpenOptions::new().write(true))?;
    fine("write", writer.write_all(b"theirs"))?;
    drop(reader);
    unread()?;
    refuses(told[1])?;
    let mut reader = open(OpenOptions::new().read(true))?;
    drop(writer);
    read_all(&mut reader, &mut got)?;
    same("what was in it", &"theirs", &&*String::from_utf8_lossy(&got))?;
    drop(reader);
    unread()?;
    super::answers(&mut scene.thaw(&image)?)
}

/// Who waits to open a named pipe, to read or to write, waits on after a thaw that is refused for him.
fn pipe_that_others_wait_for(scene: &mut Scene) -> Outcome {
    let image = super::image_of(scene, &["fifo"])?;
    for script in ["exec cat fifo", "echo theirs > fifo"] {
        let mut shell = Command::new("/bin/sh");
        let mut other = start(shell.args(["-c", script]).current_dir(scene.path(".")).stdout(Stdio::null()))?;
        let syscall = format!("/proc/{}/syscall", other.pid());
        let opens = || std::fs::read_to_string(&syscall).is_ok_and(|text| text.starts_with("257 "));
        until(Duration::from_secs(5), || opens().then_some(())).ok_or("nobody waits for the pipe")?;
        let mut thaw = scene.thaw(&image)?;
        let status = thaw.exit()?;
        let waits = opens();
        other.signal(Signal::KILL);
        other.end_within(Duration::from_secs(5))?;
        same(&format!("exit status of the thaw; it said {:?}", thaw.said()), &125, &status)?;
        same("he is told", &true, &thaw.said().contains("or waits for that"))?;
        same("he waits on", &true, &waits)?;
    }
    super::answers(&mut scene.thaw(&image)?)
}

/// That a device was opened by another name, with other permissions, is told; of the usual one nothing is.
fn device(scene: &mut Scene) -> Outcome {
    let specimen = scene.kit.specimen.display().to_string();
    for (script, told) in [
        ("mknod -m 600 n c 1 3 && exec 3<>n && rm n", "/dev/null as that is then, without its own name, and mode 0600"),
        ("exec 3<>/dev/null", ""),
    ] {
        let script = format!("{script} && exec \"$0\" ids");
        let mut terminal = scene.open(&["/bin/sh", "-c", &script, &specimen].map(String::from), FIRST)?;
        terminal.expect("ready\r\n")?;
        let pid = terminal.program.pid().to_string();
        let said = scene.run(&["freeze", &pid, "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
        terminal.exit()?;
        same(&format!("{told:?} is told; it says {:.300}", said.text), &true, &said.text.contains(told))?;
        same("a device is told of", &!told.is_empty(), &said.text.contains("/dev/null"))?;
        super::answers(&mut scene.thaw(&scene.path("a.cryo"))?)?;
    }
    Ok(())
}
