//! What the command line says, where it says it, and that it does what it does whether anybody listens or not.

use crate::kit::USER;
use crate::process::{self, Owned, until};
use crate::pty::{FIRST, SECOND, Terminal};
use crate::runner::Test;
use crate::scene::{Said, Scene, hear, quietly};
use crate::{Outcome, fine, same};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// What the documents tell of `--json`.
const DOCUMENTED: &str = include_str!("../../../../docs/json.md");
const PATIENCE: Duration = Duration::from_secs(30);

type Sort = fn(&mut Scene) -> Outcome;

/// One test for each.
#[must_use]
pub fn tests() -> Vec<Test> {
    let sorts: [(&str, u32, Sort); 28] = [
        ("image to standard output", 0, to_standard_output),
        ("image from standard input", 0, from_standard_input),
        ("json beside an image", 0, json_beside_image),
        ("json of a refusal beside an image", 0, refusal_beside_image),
        ("nobody listens to a freeze", 0, deaf_freeze),
        ("nobody listens to a detached thaw", 0, deaf_detach),
        ("nobody listens to a thaw", 0, deaf_thaw),
        ("nobody listens to a result", 0, deaf_result),
        ("default name", 0, default_name),
        ("changed files", 0, changed_files),
        ("saved files", 0, saved_files),
        ("looks", 0, looks),
        ("quiet", 0, quiet),
        ("json", 0, json),
        ("long names", 0, long_names),
        ("standard output is closed", 0, closed_output),
        ("quiet and verbose", 0, quiet_and_verbose),
        ("a place that may not be entered", USER, closed_place),
        ("less than it had", USER, less),
        ("many open files", USER, many_files),
        ("terminals and a limit", USER, terminals),
        ("a file of one's own", USER, own_file),
        ("first of a pid namespace", 0, first),
        ("a session of elsewhere", 0, elsewhere),
        ("an address that is kept", USER, kept_address),
        ("a sandbox", USER, sandbox),
        ("a filter", USER, filter),
        ("other ends outside", USER, disconnected),
    ];
    sorts
        .into_iter()
        .map(|(name, uid, sort)| Test::new(format!("cli/{name}"), move |kit| super::within(kit, uid, sort)))
        .collect()
}

/// What was written to standard output becomes an image that can be run.
fn executable(scene: &Scene, name: &str) -> Outcome {
    fine("chmod", std::fs::set_permissions(scene.path(name), Permissions::from_mode(0o700)))
}

/// Freezes to standard output, which is a file.
fn streamed(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("ids", &[])?;
    let mut command = scene.cryopid(&["freeze", &terminal.program.pid().to_string(), "-o", "-"]);
    command.stdout(Stdio::from(fine("s.cryo", File::create(scene.path("s.cryo")))?));
    let said = hear(command, PATIENCE)?.ended_with("freeze to standard output", &[0])?;
    same(
        &format!("standard error tells the result: {:?}", said.error),
        &true,
        &said.error.contains("froze 1 process"),
    )?;
    terminal.exit()?;
    executable(scene, "s.cryo")
}

fn to_standard_output(scene: &mut Scene) -> Outcome {
    streamed(scene)?;
    super::answers(&mut scene.thaw(&scene.path("s.cryo"))?)
}

/// From a file, and through a pipe.
fn from_standard_input(scene: &mut Scene) -> Outcome {
    streamed(scene)?;
    let cryopid = scene.kit.cryopid.display().to_string();
    for words in ["verify -", "inspect - fds"] {
        for script in [format!("exec $0 {words} < s.cryo"), format!("cat s.cryo | $0 {words}")] {
            let said = hear(scene.command(Path::new("/bin/sh"), &["-c", &script, &cryopid]), PATIENCE)?;
            said.ended_with(&script, &[0])?;
        }
    }
    let script = "head -c 3000000 s.cryo | $0 verify -";
    hear(scene.command(Path::new("/bin/sh"), &["-c", script, &cryopid]), PATIENCE)?.ended_with(script, &[1]).map(drop)
}

/// Whoever reads the image begins late, so that the freeze takes long enough to tell how far it has come.
fn json_beside_image(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("mem-large", &["8"])?;
    let words = ["freeze", &terminal.program.pid().to_string(), "--json", "-o", "-"];
    let mut freeze = process::start(&mut scene.cryopid(&words))?;
    let mut image = freeze.child().stdout.take().ok_or("no pipe")?;
    let mut error = freeze.child().stderr.take().ok_or("no pipe")?;
    std::thread::sleep(Duration::from_millis(600));
    fine("copy", std::io::copy(&mut image, &mut fine("s.cryo", File::create(scene.path("s.cryo")))?))?;
    same("exit status of the freeze", &0, &freeze.end_within(PATIENCE)?)?;
    terminal.exit()?;
    let mut said = String::new();
    fine("read", std::io::Read::read_to_string(&mut error, &mut said))?;
    let events = objects(&said)?;
    let told = |event: &str| events.iter().any(|o| o["event"] == event);
    same(&format!("progress and result are told: {said}"), &(true, true), &(told("progress"), told("frozen")))?;
    scene.run(&["verify", "s.cryo"])?.ended_with("verify", &[0])?;
    executable(scene, "s.cryo")?;
    super::answers(&mut scene.thaw(&scene.path("s.cryo"))?)
}

fn refusal_beside_image(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("segments", &[])?;
    let pid = terminal.program.pid().to_string();
    for command in ["freeze", "snapshot"] {
        let mut freeze = scene.cryopid(&[command, &pid, "--json", "-o", "-"]);
        freeze.stdout(Stdio::from(fine("s.cryo", File::create(scene.path("s.cryo")))?));
        let said = hear(freeze, PATIENCE)?.ended_with(command, &[3])?;
        // What was written of the image before cannot be taken back, but nothing else is there.
        let stream = fine("s.cryo", std::fs::read(scene.path("s.cryo")))?;
        same("words in the stream", &false, &stream.windows(8).any(|bytes| bytes == b"{\"event\""))?;
        same("event", &Value::from("refused"), &objects(&said.error)?[0]["event"])?;
    }
    super::answers(&mut terminal)
}

/// Standard error, where nothing can be written to it: a full disk, and a pipe that nobody reads.
fn deaf_ears() -> Result<[(&'static str, Stdio); 2], String> {
    let full = fine("/dev/full", File::options().write(true).open("/dev/full"))?;
    let (_, closed) = fine("pipe", std::io::pipe())?;
    Ok([("/dev/full", full.into()), ("a closed pipe", closed.into())])
}

fn deaf_freeze(scene: &mut Scene) -> Outcome {
    for (what, ears) in deaf_ears()? {
        let mut program = super::sleep(scene)?;
        let mut command = scene.cryopid(&["freeze", "-v", &program.pid().to_string(), "-o", "a.cryo"]);
        command.stderr(ears);
        hear(command, PATIENCE)?.ended_with(&format!("freeze that speaks to {what}"), &[0])?;
        program.end_within(Duration::from_secs(5))?;
        scene.run(&["verify", "a.cryo"])?.ended_with("verify", &[0])?;
    }
    Ok(())
}

/// The program that lives here, and nothing else; it is ended.
fn lives(scene: &Scene) -> Outcome {
    let pid = super::thawed(scene)?;
    scene.only(&[pid])?;
    process::unharmed(pid)?;
    let tree = process::tree(pid);
    process::send(pid, Signal::KILL);
    process::vanished(&tree)
}

fn deaf_detach(scene: &mut Scene) -> Outcome {
    super::image_of_sleep(scene)?;
    for (what, ears) in deaf_ears()? {
        let mut command = scene.cryopid(&["thaw", "--detach", "-v", "a.cryo"]);
        command.stderr(ears);
        let said = hear(command, PATIENCE)?.ended_with(&format!("thaw that speaks to {what}"), &[0])?;
        let pid = super::thawed(scene)?;
        same("standard output", &format!("thawed sleep as process {pid}\n"), &said.out)?;
        lives(scene)?;
    }
    let mut command = scene.cryopid(&["thaw", "--detach", "a.cryo"]);
    command.stdout(fine("/dev/full", File::options().write(true).open("/dev/full"))?);
    hear(command, PATIENCE)?.ended_with("thaw that cannot tell its result", &[0])?;
    lives(scene)
}

/// The thaw stands for its program to the end.
fn deaf_thaw(scene: &mut Scene) -> Outcome {
    let image = super::image_of(scene, &["ids"])?.display().to_string();
    for ears in ["2>/dev/full", "2>&-", "2> >(:)"] {
        let script = format!("exec \"$0\" -v {ears}");
        let mut terminal = scene.open(&["/bin/bash", "-c", &script, &image].map(String::from), SECOND)?;
        super::answers(&mut terminal).map_err(|reason| format!("{ears}: {reason}"))?;
    }
    Ok(())
}

/// A result that cannot be written is a fault, and told.
fn deaf_result(scene: &mut Scene) -> Outcome {
    super::image_of_sleep(scene)?;
    let commands: [(&[&str], i32); 6] = [
        (&["inspect", "a.cryo", "all"], 1),
        (&["inspect", "a.cryo", "--json"], 1),
        (&["verify", "a.cryo"], 1),
        (&["check", "a.cryo"], 1),
        (&["check"], 1),
        (&["thaw", "--dry-run", "a.cryo"], 125),
    ];
    for (words, status) in commands {
        let mut command = scene.cryopid(words);
        command.stdout(fine("/dev/full", File::options().write(true).open("/dev/full"))?);
        let said = hear(command, PATIENCE)?.ended_with(&format!("{words:?} to a full disk"), &[status])?;
        for told in ["no space left", "cannot tell of "] {
            same(&format!("{told:?} is told: {:?}", said.error), &true, &said.error.contains(told))?;
        }
    }
    Ok(())
}

fn default_name(scene: &mut Scene) -> Outcome {
    let mut program = super::sleep(scene)?;
    let name = format!("sleep-{}.cryo", program.pid());
    scene.run(&["freeze", &program.pid().to_string()])?.ended_with("freeze", &[0])?;
    program.end_within(Duration::from_secs(5))?;
    let mode = fine(&name, std::fs::metadata(scene.path(&name)))?.permissions().mode() & 0o7777;
    same("mode of the image", &0o700, &mode)?;
    scene.run(&["thaw", "-d", &name])?.ended_with("thaw", &[0])?;
    lives(scene)
}

/// A program that reads a file, frozen with these words; then the file is another one.
fn reader_of_changed(scene: &mut Scene, words: &[&str], change: fn(&Path) -> std::io::Result<()>) -> Outcome {
    let mut terminal = scene.specimen("file-position", &[])?;
    let pid = terminal.program.pid().to_string();
    scene.run(&[&["freeze", &pid, "-o", "a.cryo"], words].concat())?.ended_with("freeze", &[0])?;
    terminal.exit()?;
    std::thread::sleep(Duration::from_millis(20));
    fine("change the file", change(&scene.path("numbers")))
}

fn thaw_with(scene: &mut Scene, files: &str) -> Result<Terminal, String> {
    let image = scene.path("a.cryo").display().to_string();
    scene.open(&[image, "--files".into(), files.into()], SECOND)
}

fn refuses(scene: &mut Scene, files: &str, told: &str) -> Outcome {
    let mut terminal = thaw_with(scene, files)?;
    same(&format!("exit status with --files {files}"), &125, &terminal.exit()?)?;
    for text in ["numbers", told] {
        same(&format!("{text:?} is told: {:?}", terminal.said()), &true, &terminal.said().contains(text))?;
    }
    Ok(())
}

fn longer(path: &Path) -> std::io::Result<()> {
    std::io::Write::write_all(&mut File::options().append(true).open(path)?, b"more")
}

/// Without its contents in the image, the file is refused or taken as it is.
fn changed_files(scene: &mut Scene) -> Outcome {
    reader_of_changed(scene, &[], longer)?;
    refuses(scene, "strict", "changed")?;
    refuses(scene, "saved", "--with-files")?;
    let mut terminal = thaw_with(scene, "warn")?;
    terminal.expect("note: ")?;
    super::answers(&mut terminal)?;
    fine("remove", std::fs::remove_file(scene.path("numbers")))?;
    refuses(scene, "warn", "not here")
}

/// With them, it is put back, if that is asked for.
fn saved_files(scene: &mut Scene) -> Outcome {
    reader_of_changed(scene, &["--with-files"], |path| std::fs::write(path, b"another"))?;
    let length = |scene: &Scene| fine("numbers", std::fs::metadata(scene.path("numbers"))).map(|m| m.len());
    refuses(scene, "strict", "changed")?;
    same("length of the file", &7, &length(scene)?)?;
    super::answers(&mut thaw_with(scene, "saved")?)?;
    same("length of the file", &10_000, &length(scene)?)?;
    super::answers(&mut thaw_with(scene, "strict")?)
}

fn names(scene: &Scene) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(&scene.dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// What only looks makes no file, and starts nothing.
fn looks(scene: &mut Scene) -> Outcome {
    let image = super::image_of_sleep(scene)?;
    let before = names(scene);
    for words in [
        &["thaw", "--dry-run", "a.cryo"][..],
        &["thaw", "--dry-run", "--detach", "--pids", "new", "a.cryo"],
        &["check", "a.cryo"],
        &["check"],
        &["verify", "a.cryo"],
        &["inspect", "a.cryo", "all"],
    ] {
        let said = scene.run(words)?.ended_with(&format!("{words:?}"), &[0])?;
        same(&format!("{words:?} says something"), &false, &said.out.is_empty())?;
        scene.only(&[])?;
    }
    let said = hear(scene.command(&image, &["--dry-run"]), PATIENCE)?.ended_with("an image with --dry-run", &[0])?;
    same(&format!("the plan is told: {:.100}", said.out), &true, &said.out.contains("commit"))?;
    let said = scene.run(&["inspect", "a.cryo"])?;
    same(&format!("a date is told: {}", said.out), &true, &said.out.contains("Z, on x86_64"))?;
    for words in [["inspect", "nofile"], ["verify", "nofile"], ["check", "nofile"]] {
        let said = scene.run(&words)?.ended_with(&format!("{words:?}"), &[1])?;
        same(&format!("the file is named once: {}", said.error), &1, &said.error.matches("nofile").count())?;
    }
    same("files", &before, &names(scene))?;
    scene.only(&[])
}

fn quiet(scene: &mut Scene) -> Outcome {
    let mut program = super::sleep(scene)?;
    let pid = program.pid().to_string();
    let silent = |words: &[&str]| -> Outcome {
        let said = scene.run(words)?.ended_with(&format!("{words:?}"), &[0])?;
        same(&format!("what {words:?} says"), &String::new(), &said.text)
    };
    silent(&["check", "-q", &pid])?;
    silent(&["snapshot", "-q", &pid, "-o", "a.cryo"])?;
    silent(&["freeze", "-q", &pid, "-o", "a.cryo"])?;
    program.end_within(Duration::from_secs(5))?;
    silent(&["verify", "-q", "a.cryo"])?;
    silent(&["check", "-q", "a.cryo"])?;
    silent(&["thaw", "-q", "--dry-run", "a.cryo"])?;
    silent(&["thaw", "-q", "-d", "a.cryo"])?;
    lives(scene)?;
    let said = scene.run(&["verify", "-q", "nofile"])?.ended_with("verify of nothing", &[1])?;
    same("something is said of an error", &false, &said.error.is_empty())
}

/// One object a line.
fn objects(text: &str) -> Result<Vec<Value>, String> {
    let all = text.lines().map(|line| fine(line, serde_json::from_str::<Value>(line)));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err("nothing is said".into()) } else { Ok(all) }
}

/// The fields of an object, by its title in the document.
fn documented(title: &str) -> BTreeSet<String> {
    let section = DOCUMENTED.split("\n## ").find(|section| section.starts_with(&format!("{title} (")));
    let rows = section.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// A command prints the object of this title, with its fields and no others.
fn prints(said: Said, title: &str, status: i32) -> Outcome {
    let said = said.ended_with(title, &[status])?;
    let object = objects(&said.out)?.pop().unwrap_or_default();
    let mut fields: BTreeSet<String> = object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    if fields.remove("event") {
        same("event", &Value::from(title), &object["event"])?;
    }
    same(&format!("fields of {title}"), &documented(title), &fields)
}

fn json(scene: &mut Scene) -> Outcome {
    let mut program: Owned = super::sleep(scene)?;
    let pid = program.pid().to_string();
    let run = |words: &[&str]| scene.run(&[words, &["--json"]].concat());
    prints(run(&["check"])?, "host", 0)?;
    prints(run(&["check", &pid])?, "freezable", 0)?;
    prints(run(&["freeze", &pid, "--dry-run"])?, "freezable", 0)?;
    prints(run(&["snapshot", &pid, "-o", "a.cryo"])?, "snapshot", 0)?;
    prints(run(&["freeze", &pid, "-o", "no/such/place"])?, "failed", 1)?;
    prints(run(&["freeze", "1", "-o", "b.cryo"])?, "refused", 3)?;
    prints(run(&["freeze", &pid, "-o", "a.cryo"])?, "frozen", 0)?;
    program.end_within(Duration::from_secs(5))?;
    prints(run(&["verify", "a.cryo"])?, "verified", 0)?;
    prints(run(&["check", "a.cryo"])?, "thawable", 0)?;
    prints(run(&["thaw", "a.cryo", "--dry-run"])?, "plan", 0)?;
    for what in ["tree", "fds", "maps", "env", "files", "sockets", "signals", "all"] {
        prints(run(&["inspect", "a.cryo", what])?, what, 0)?;
    }
    prints(run(&["verify", "nofile"])?, "failed", 1)?;
    prints(run(&["thaw", "nofile"])?, "failed", 125)?;
    prints(run(&["thaw", "-d", "a.cryo"])?, "thawed", 0)?;
    let running = until(Duration::from_secs(5), || scene.programs().first().copied());
    same("a program runs", &true, &running.is_some())?;
    lives(scene)
}

/// As long a name as the file system knows, twice; and one that is longer.
fn long_names(scene: &mut Scene) -> Outcome {
    let program = super::sleep(scene)?;
    let pid = program.pid().to_string();
    let name = "n".repeat(255);
    for _ in 0..2 {
        scene.run(&["snapshot", &pid, "-o", &name])?.ended_with("snapshot with a long name", &[0])?;
    }
    same("files", &1, &names(scene).iter().filter(|n| n.len() == 255 || n.len() == 256).count())?;
    let said = scene.run(&["snapshot", &pid, "-o", &"n".repeat(256)])?.ended_with("a longer name", &[1])?;
    same(&format!("the file is named: {:?}", said.error), &true, &said.error.contains("open"))
}

fn closed_output(scene: &mut Scene) -> Outcome {
    let program = super::sleep(scene)?;
    let cryopid = scene.kit.cryopid.display().to_string();
    let script = format!("exec $0 snapshot {} -o - >&-", program.pid());
    let said = hear(scene.command(Path::new("/bin/sh"), &["-c", &script, &cryopid]), PATIENCE)?;
    let said = said.ended_with("a snapshot to nowhere", &[3])?;
    same(&format!("the reason is told: {:?}", said.error), &true, &said.error.contains("it is closed"))
}

/// Quiet wins.
fn quiet_and_verbose(scene: &mut Scene) -> Outcome {
    let program = super::sleep(scene)?;
    let pid = program.pid().to_string();
    let said = scene.run(&["snapshot", "-q", "-v", &pid, "-o", "a.cryo"])?.ended_with("snapshot", &[0])?;
    same("what is said", &String::new(), &said.text)
}

/// A working directory that its own user may not enter any more: that is a reason against a freeze, and of a snapshot it is told.
fn closed_place(scene: &mut Scene) -> Outcome {
    let script = "mkdir closed; cd closed; chmod 0 .; exec sleep 1000";
    let mut terminal = scene.open(&["/bin/sh", "-c", script].map(String::from), FIRST)?;
    let pid = terminal.program.pid().to_string();
    let sleeps = || (process::text(terminal.program.pid(), "comm").trim() == "sleep").then_some(());
    until(Duration::from_secs(5), sleeps).ok_or("it does not sleep")?;
    let (check, freeze) = (["check", &pid], ["freeze", &pid, "-o", "a.cryo"]);
    for (words, status) in [(&check[..], 3), (&freeze, 3), (&["snapshot", &pid, "-o", "a.cryo"], 0)] {
        let said = scene.run(words)?.ended_with(&format!("{words:?}"), &[status])?;
        same(&format!("it is told: {:?}", said.error), &true, &said.error.contains("closed yourself as it does"))?;
    }
    process::unharmed(terminal.program.pid())?;
    process::send(terminal.program.pid(), Signal::KILL);
    terminal.exit()?;
    let refused = scene.run(&["check", "a.cryo"])?.ended_with("check", &[3])?;
    same(&format!("it is told: {:?}", refused.error), &true, &refused.error.contains("closed"))?;
    fine("chmod", std::fs::set_permissions(scene.path("closed"), Permissions::from_mode(0o700)))?;
    let mut terminal = scene.thaw(&scene.path("a.cryo"))?;
    process::send(super::thawed(scene)?, Signal::KILL);
    same("exit status", &(128 + 9), &terminal.exit()?)
}

/// A priority and a limit that root gave, and that the user may not give again.
fn less(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("ids", &[])?;
    let pid = terminal.program.pid().to_string();
    quietly(std::process::Command::new("ionice").args(["-c1", "-n2", "-p", &pid]))?.ended_with("ionice", &[0])?;
    scene.run(&["freeze", &pid, "-o", "a.cryo"])?.ended_with("freeze", &[0])?;
    terminal.exit()?;
    let script = "ulimit -Sn 400; ulimit -Hn 500; exec $0";
    let image = scene.path("a.cryo").display().to_string();
    let mut terminal = scene.open(&["/bin/bash", "-c", script, &image].map(String::from), SECOND)?;
    super::answers(&mut terminal)?;
    for told in ["the priority of its input and output", "nofile was"] {
        same(&format!("{told:?} is told: {:?}", terminal.said()), &true, &terminal.said().contains(told))?;
    }
    Ok(())
}

/// A large tree takes many open files: the limit that is meant for others is raised, and where that may not be, it is told.
fn many_files(scene: &mut Scene) -> Outcome {
    let mut terminal = scene.specimen("family-many", &[])?;
    let pid = terminal.program.pid();
    let cryopid = scene.kit.cryopid.display().to_string();
    let under = |limit: &str| {
        let script = format!("ulimit {limit}; exec $0 freeze {pid} -o a.cryo");
        hear(scene.command(Path::new("/bin/bash"), &["-c", &script, &cryopid]), PATIENCE)
    };
    let refused = under("-n 60")?.ended_with("under a hard limit", &[3])?;
    same(&format!("it is told: {:?}", refused.error), &true, &refused.error.contains("raise it: ulimit -Hn"))?;
    process::unharmed(pid)?;
    under("-Sn 60")?.ended_with("under a soft limit", &[0])?;
    terminal.exit()?;
    let mut terminal = scene.thaw(&scene.path("a.cryo"))?;
    super::answers(&mut terminal)
}

/// To put back what waits in terminals takes descriptors, too: what was frozen under a limit is thawed under the same one.
fn terminals(scene: &mut Scene) -> Outcome {
    const PROGRAM: &str = "import os, pty, time
all = [pty.openpty() for _ in range(20)]
for master, _ in all: os.write(master, b'in\\n')
open('ready', 'w').close()
while not os.path.exists('go'): time.sleep(0.01)
assert all and [os.read(slave, 9) for _, slave in all] == 20 * [b'in\\n']";
    const SCRIPT: &str = "for limit in $(seq 70 6 160); do
rm -f ready go t.cryo
python3 -c \"$1\" </dev/null >/dev/null 2>&1 &
until [ -e ready ]; do sleep 0.02; done
(ulimit -n $limit; $0 freeze $! -q -o t.cryo 2>said); frozen=$?
grep -q 'descriptors are needed' said || [ $frozen = 0 ] || cat said
touch go
[ $frozen = 3 ] || { (ulimit -n $limit; ./t.cryo -q) 2>said || { echo lost at $limit; cat said; }; }
wait $!; echo $frozen >>all
done; sort -u all";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid, PROGRAM]), PATIENCE)?;
    same("how the freezes ended", &"0\n3\n".to_owned(), &said.ended_with("terminals and a limit", &[0])?.out)
}

/// Who has made a file that may only be read from then on, or only be written to, reads and writes it on.
fn own_file(scene: &mut Scene) -> Outcome {
    const SCRIPT: &str = "for mask in 0333 0466; do
rm -f own f.cryo
sh -c \"umask $mask; exec 3<>own </dev/null >/dev/null 2>&1; sleep 1000 & echo one >&3; wait; echo two >&3\" &
until [ -s own ]; do sleep 0.1; done
$0 freeze $! -q -o f.cryo || exit 7
(until pkill -P $(pgrep -f \"^sh -c umask $mask\") sleep; do sleep 0.1; done) & ./f.cryo && stat -c %a own && chmod 600 own && cat own
done";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid]), PATIENCE)?;
    let expected = "444\none\ntwo\n200\none\ntwo\n".to_owned();
    same("what it has written", &expected, &said.ended_with("a file of one's own", &[0])?.out)
}

/// The first process of a pid namespace, which ends when nobody else is left there, is so again.
fn first(scene: &mut Scene) -> Outcome {
    const SCRIPT: &str = "mkfifo in
unshare -pf --mount-proc sh -c 'sleep 1000 & echo $$ >seen; read x <in; echo $$ $x >>seen; exit 5' </dev/null >/dev/null 2>&1 &
until first=$(pgrep -P $!) && [ -s seen ]; do sleep 0.1; done
timeout 15 $0 freeze $first -q -o f.cryo || exit 7
echo goes on >in & ./f.cryo; echo $?; cat seen";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid]), PATIENCE)?;
    let expected = "5\n1\n1 goes on\n".to_owned();
    same("what it says of itself", &expected, &said.ended_with("the first of a pid namespace", &[0])?.out)
}

/// Who has come into a pid namespace has its session and its process group outside of that: the kernel then says 0 of both.
fn elsewhere(scene: &mut Scene) -> Outcome {
    const SCRIPT: &str = "unshare -pf --mount-proc sh -c '
ps -o pgid=,sid= -p $$
sleep 1000 </dev/null >/dev/null 2>&1 &
$0 freeze $! -q -o f.cryo && wait $!; echo $?
$0 thaw f.cryo & until kill $(pgrep -x sleep) 2>/dev/null; do sleep 0.05; done
wait $!; echo $?' $0 | tr -d ' '";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid]), PATIENCE)?;
    let expected = "00\n137\n143\n".to_owned();
    same("how it ended", &expected, &said.ended_with("a session of elsewhere", &[0])?.out)
}

/// A connection that the program has closed keeps its address for a while: a thaw waits for that, and says so.
fn kept_address(scene: &mut Scene) -> Outcome {
    const PROGRAM: &str = "import os, socket, sys, time
if len(sys.argv) > 1:
    other = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
    print('connected', flush=True)
    time.sleep(1000)
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen()
open('port', 'w').write(str(server.getsockname()[1]) + chr(10))
one, _ = server.accept()
# TCP_LINGER2: for so many seconds, as long as the other end is not closed.
one.setsockopt(socket.IPPROTO_TCP, 8, 4)
one.close()
open('ready', 'w').close()
while not os.path.exists('go'): time.sleep(0.01)
socket.create_connection(server.getsockname())
server.accept()[0].send(b'x')
sys.exit(7)";
    const SCRIPT: &str = "python3 -c \"$1\" </dev/null >/dev/null 2>&1 & server=$!
until grep -q . port 2>/dev/null; do sleep 0.02; done
python3 -c \"$1\" $(cat port) </dev/null >/dev/null 2>&1 & client=$!
until [ -e ready ]; do sleep 0.02; done
$0 freeze $server -q -o k.cryo || exit 9
$0 check k.cryo 2>&1 | grep -o 'keep that address' ; touch go
./k.cryo 2>said; echo $?; kill $client
grep -c 'waits until this has passed' said";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid, PROGRAM]), PATIENCE)?;
    let expected = "keep that address\n7\n1\n".to_owned();
    same("what it says and how it ends", &expected, &said.ended_with("an address that is kept", &[0])?.out)
}

/// That a program has restricted itself (landlock(7)) is told, whatever the rules are about; and that of none is told that has none.
fn sandbox(scene: &mut Scene) -> Outcome {
    const PROGRAM: &str = "import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
rules = [int(word) for word in sys.argv[1:]]
if any(rules):
    fd = libc.syscall(444, struct.pack('QQQ', *rules), 24, 0)
    assert fd >= 0 and libc.syscall(446, fd, 0) == 0
    os.close(fd)
open('ready', 'w').close()
time.sleep(1000)";
    const SCRIPT: &str = "rm -f ready; python3 -c \"$1\" $2 </dev/null >/dev/null 2>&1 &
until [ -e ready ] || ! kill -0 $!; do sleep 0.02; done
$0 freeze --dry-run $! 2>&1 | grep -o 'it has restricted.*whom\\|it has restricted.*files'; kill $!";
    let cryopid = scene.kit.cryopid.display().to_string();
    // Files, the network, and abstract sockets (`struct landlock_ruleset_attr`).
    for (rules, told) in [
        ("0 0 0", ""),
        ("4 0 0", "it has restricted which files\n"),
        ("0 1 0", "it has restricted with whom\n"),
        ("0 0 1", "it has restricted with whom\n"),
    ] {
        let words = ["-c", SCRIPT, &cryopid, PROGRAM, rules];
        let said = hear(scene.command(Path::new("/bin/bash"), &words), PATIENCE)?;
        same(&format!("what is told of rules {rules}"), &told.to_owned(), &said.out)?;
    }
    Ok(())
}

/// A filter of a pipeline: thawed in another one, it goes on with what comes there.
fn filter(scene: &mut Scene) -> Outcome {
    const SCRIPT: &str = "touch log
tail --pid=$$ -f log | sh -c 'echo $$ >pid; exec mawk -W interactive \"{ s += \\$1; print s; fflush() }\"' | cat >out &
echo 5 >>log
until grep -q 5 out; do sleep 0.1; done
$0 freeze $(cat pid) -o f.cryo; [ $? = 3 ] || exit 7
$0 freeze $(cat pid) -o f.cryo --quiet --external disconnect || exit 8
seq 1 3 | ./f.cryo";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid]), PATIENCE)?;
    same("what it goes on with", &"6\n8\n11\n".to_owned(), &said.ended_with("a filter", &[0])?.out)
}

/// What it finds at the other ends of pipes and sockets is what it would find if those had ended who had them.
fn disconnected(scene: &mut Scene) -> Outcome {
    const PROGRAM: &str = "import os, signal, socket, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
(r, w), (r2, w2) = os.pipe(), os.pipe()
a, b = socket.socketpair()
d, e = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox = socket.socket(socket.AF_UNIX)
inbox.bind('inbox')
inbox.listen(5)
def tries(call):
    try: return call()
    except OSError as e: return e.errno
if os.fork():
    [x.close() for x in (b, e, inbox)], os.close(r), os.close(w2)
    os.write(w, b'waits'), a.send(b'waits')
    c = socket.socket(socket.AF_UNIX)
    c.connect('inbox')
    while not os.path.exists('go'): time.sleep(0.1)
    os._exit(0)
[x.close() for x in (a, d)], os.close(w), os.close(r2)
s, _ = inbox.accept()
open('pid', 'w').write(str(os.getpid()))
while not os.path.exists('go'): time.sleep(0.1)
open('seen', 'w').write(repr([os.read(r, 9), os.read(r, 9), tries(lambda: os.write(w2, b'x')), b.recv(9), b.recv(9),
    tries(lambda: b.send(b'x')), s.recv(9), tries(lambda: e.send(b'x'))]))
os._exit(0)";
    const SCRIPT: &str = "python3 -c \"$1\" &
until [ -s pid ]; do sleep 0.1; done
$0 freeze $(cat pid) -o f.cryo; [ $? = 3 ] || exit 7
$0 freeze $(cat pid) -o f.cryo --quiet --external disconnect || exit 8
rm -f inbox; touch go; wait
./f.cryo && cat seen";
    let cryopid = scene.kit.cryopid.display().to_string();
    let said = hear(scene.command(Path::new("/bin/bash"), &["-c", SCRIPT, &cryopid, PROGRAM]), PATIENCE)?;
    let expected = "[b'waits', b'', 32, b'waits', b'', 32, b'', 111]";
    same("what it finds", &expected.to_owned(), &said.ended_with("other ends", &[0])?.out)
}
