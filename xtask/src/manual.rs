//! What the definitions of the command line do not tell: exit status, what to know besides, and the fields of `--json`. It is
//! added to the man pages, and the fields are `docs/json.md`, which the conformance tests compare with what the program says.

/// One object that `--json` prints.
struct Object {
    /// Its `event`; or, of `inspect`, what was asked for.
    name: &'static str,
    /// Commands that print it.
    by: &'static [&'static str],
    when: &'static str,
    /// Besides `event`.
    fields: &'static [(&'static str, &'static str)],
}

const PID: (&str, &str) = ("pid", "the process at the root of the tree, by its id here");
const NAME: (&str, &str) = ("name", "the name of that process");
const NOTES: (&str, &str) = ("notes", "a list: what is not as it was, each a sentence");
const PROCESSES: (&str, &str) = ("processes", "how many processes it has");
const SAVED: (&str, &str) = ("saved_bytes", "bytes of memory and files that are kept");
const IMAGE: (&str, &str) = ("image", "the file, as it was named; bytes that are not UTF-8 are replaced by U+FFFD");
const SIZE: (&str, &str) = ("image_bytes", "bytes of that file");
const SECONDS: (&str, &str) = ("seconds", "how long the command took");
const PAUSED: (&str, &str) = ("paused_seconds", "for how long of that the tree stood still");
const NAMESPACES: (&str, &str) = (
    "namespaces",
    "where the processes get their ids: `Same` (in place), `Pid`, or an object `UserPid` (new pid, or user and pid namespaces)",
);
const WHAT: (&str, &str) = ("what", "what was not done");
const RECORDS: (&str, &str) =
    ("processes", "a list: each with `pid`, `name`, `parent`, `group`, `session`, `threads`, `fds`, and more");
const HEADER: (&str, &str) = (
    "header",
    "of the image: `tool`, `version` of the format, `created` (seconds since 1970), `machine`, `kernel`, `page_size`, `name`, \
     `pid`, `processes`",
);

const EVENTS: [Object; 11] = [
    Object {
        name: "progress",
        by: &["freeze", "snapshot", "thaw", "verify"],
        when: "now and then, when it takes longer than 0.3 seconds",
        fields: &[
            ("stage", "what is being done"),
            ("bytes", "how much of it is done"),
            ("total_bytes", "how much there is, or is expected, and may be more or less; 0 where that is not known"),
        ],
    },
    Object {
        name: "frozen",
        by: &["freeze"],
        when: "the tree is in the image, and has ended",
        fields: &[PID, NAME, PROCESSES, SAVED, IMAGE, SIZE, SECONDS, PAUSED, NOTES],
    },
    Object {
        name: "snapshot",
        by: &["snapshot"],
        when: "the tree is in the image, and runs on",
        fields: &[PID, NAME, PROCESSES, SAVED, IMAGE, SIZE, SECONDS, PAUSED, NOTES],
    },
    Object {
        name: "freezable",
        by: &["freeze", "snapshot", "check"],
        when: "with --dry-run, and of a process: it can be frozen",
        fields: &[PID, NAME, PROCESSES, SAVED, NOTES],
    },
    Object { name: "thawed", by: &["thaw"], when: "the tree runs", fields: &[PID, NAME, NOTES] },
    Object {
        name: "plan",
        by: &["thaw"],
        when: "with --dry-run",
        fields: &[NAMESPACES, ("steps", "a list: each step of it, as it is printed"), NOTES],
    },
    Object {
        name: "thawable",
        by: &["check"],
        when: "of an image: it can be thawed here",
        fields: &[NAME, NAMESPACES, NOTES],
    },
    Object {
        name: "host",
        by: &["check"],
        when: "of this host",
        fields: &[
            ("host", "what planning knows of it: `machine`, `uid`, `capability_sets`, `limits`, `vdso`, and more"),
            (
                "resources",
                "a list: each with `name`, `scope`, and the `reason` for which it is refused, empty if it is kept",
            ),
        ],
    },
    Object { name: "verified", by: &["verify"], when: "every checksum is right", fields: &[IMAGE, SIZE] },
    Object {
        name: "refused",
        by: &["freeze", "snapshot", "thaw", "check", "inspect", "verify"],
        when: "the tree or the host is not fit",
        fields: &[WHAT, ("reasons", "a list, of all reasons: each with `whom`, `what`, `why`, `remedy`")],
    },
    Object {
        name: "failed",
        by: &["freeze", "snapshot", "thaw", "check", "inspect", "verify"],
        when: "the kernel said no, a disk filled up, an image is damaged",
        fields: &[WHAT, ("error", "why, a sentence")],
    },
];

const SHOWN: [Object; 8] = [
    Object {
        name: "tree",
        by: &["inspect"],
        when: "",
        fields: &[
            HEADER,
            RECORDS,
            (
                "typed",
                "what was typed and not read yet, and in `own` what waits in pseudo-terminals of the program, or null",
            ),
            NOTES,
        ],
    },
    Object {
        name: "fds",
        by: &["inspect"],
        when: "",
        fields: &[
            RECORDS,
            ("descriptions", "an object: by number, as in `fds`, what stands behind descriptors, by its `kind`"),
        ],
    },
    Object {
        name: "maps",
        by: &["inspect"],
        when: "",
        fields: &[("spaces", "a list: each with `areas`, `pages`, and more")],
    },
    Object {
        name: "env",
        by: &["inspect"],
        when: "",
        fields: &[("processes", "a list: each with `pid`, and `strings`: its arguments, then its environment")],
    },
    Object {
        name: "files",
        by: &["inspect"],
        when: "",
        fields: &[(
            "files",
            "an object: by number, each with `path`, `size`, `contents` (null: not in the image), and more",
        )],
    },
    Object {
        name: "sockets",
        by: &["inspect"],
        when: "",
        fields: &[("sockets", "a list: each with `description`, its number, and `socket`")],
    },
    Object {
        name: "signals",
        by: &["inspect"],
        when: "",
        fields: &[
            ("processes", "a list: each with `pid`, and `handlers`"),
            ("threads", "a list: each with `tid`, and `signal`: what waits for it"),
        ],
    },
    Object {
        name: "all",
        by: &["inspect"],
        when: "",
        fields: &[
            HEADER,
            ("model", "all that is known of the tree, as the records of the image hold it (docs/format.md)"),
        ],
    },
];

const JSON: &str = "With --json one object a line is printed to standard output; to standard error, if standard output is the \
image. Fields are added, and keep their names and meanings.";
const JSON_EVENTS: &str = "Of all commands but inspect, `event` tells which object it is.";
const JSON_SHOWN: &str = "What `inspect` shows is one object without `event`.";

/// The fields of all objects.
pub(crate) fn json() -> String {
    let mut text = format!("# What `--json` prints\n\nWritten by `cargo xtask docs`.\n\n{JSON} {JSON_EVENTS}\n");
    EVENTS.iter().for_each(|o| text += &table(o, &format!("{} ({}): {}", o.name, o.by.join(", "), o.when)));
    text += &format!("\n# inspect\n\n{JSON_SHOWN}\n");
    SHOWN.iter().for_each(|o| text += &table(o, &format!("{} (inspect)", o.name)));
    text
}

fn table(object: &Object, title: &str) -> String {
    let rows: String = object.fields.iter().map(|(name, what)| format!("| `{name}` | {what} |\n")).collect();
    format!("\n## {title}\n\n| field | |\n|---|---|\n{rows}")
}

const STATUS: &str = "0 done; 1 a fault: the kernel said no, a disk filled up, an image is damaged; 2 wrong usage; 3 refused: the \
tree or the host is not fit.";
const STATUS_THAW: &str = "That of the program, or 128 and the number of the signal that ended it; 125 for anything that is \
cryopid's own: wrong usage, a refusal, a fault. With --detach and --dry-run, 0 is done. An image that is executed does the same.";
const ABOUT_OUTPUT: &str = "A symbolic link that has the name of the image is replaced itself, not what it leads to. Regular files \
of up to 1 MiB that the program has open for writing, or writes to by a shared mapping, go into the image in any case, larger ones and those open for reading only with \
--with-files. A tree that cryopid itself is in is refused: run it from another terminal, or with setsid --fork.";
const ABOUT_IMAGES: &str = "An image that is cut inside of its first part, the program that it begins with, and is executed all \
the same, ends by a signal of the kernel or is no program at all, and nothing of ours can tell why: cryopid verify does. One \
that is cut just behind that part is cryopid itself, as a command.";

fn status(command: &str) -> String {
    match command {
        "cryopid" => format!("{STATUS} Of thaw, and of an image that is executed: {}", lower(STATUS_THAW)),
        "cryopid-thaw" => STATUS_THAW.into(),
        "cryopid-demo" => "0 done; 1 it failed; 2 wrong usage.".into(),
        _ => STATUS.into(),
    }
}

fn lower(text: &str) -> String {
    text[..1].to_ascii_lowercase() + &text[1..]
}

fn about(command: &str) -> &'static str {
    match command {
        "cryopid-freeze" | "cryopid-snapshot" => ABOUT_OUTPUT,
        "cryopid-thaw" | "cryopid-verify" => ABOUT_IMAGES,
        _ => "",
    }
}

/// What a man page has besides.
pub(crate) fn sections(page: &str) -> String {
    let mut text = section("EXIT STATUS", &status(page));
    if !about(page).is_empty() {
        text += &section("NOTES", about(page));
    }
    let command = page.strip_prefix("cryopid-").unwrap_or_default();
    let events: Vec<&Object> = EVENTS.iter().filter(|o| o.by.contains(&command)).collect();
    if !events.is_empty() {
        text += &section("JSON", JSON);
        let shown: Vec<&Object> = SHOWN.iter().filter(|o| o.by.contains(&command)).collect();
        if !shown.is_empty() {
            text += &format!(".PP\n{}\n", roff(JSON_SHOWN));
        }
        let shown = shown.iter().map(|o| fields(o, &format!("inspect IMAGE {}", o.name)));
        let events = events.iter().map(|o| fields(o, &format!("event {}: {}", o.name, o.when)));
        text.extend(shown.chain(events));
    }
    text
}

/// A page whose synopsis tells which options take a value.
pub(crate) fn with_values(page: &str, command: &clap::Command) -> String {
    let Some((before, rest)) = page.split_once(".SH SYNOPSIS\n") else { return page.to_owned() };
    let (synopsis, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let takes = |arg: &&clap::Arg| arg.get_action().takes_values() && !arg.is_positional();
    let mut synopsis = synopsis.to_owned();
    for arg in command.get_arguments().filter(takes) {
        let (Some(long), Some([value, ..])) = (arg.get_long(), arg.get_value_names()) else { continue };
        let option = format!("\\fB{}\\fR", roff(&format!("--{long}")));
        synopsis = synopsis.replace(&format!("{option}]"), &format!("{option} \\fI{}\\fR]", roff(value)));
    }
    format!("{before}.SH SYNOPSIS\n{synopsis}\n{after}")
}

fn section(title: &str, text: &str) -> String {
    format!(".SH {}\n{}\n", roff(title), roff(text))
}

fn fields(object: &Object, title: &str) -> String {
    let rows = object.fields.iter().map(|(name, what)| format!(".br\n\\fB{}\\fR: {}\n", roff(name), roff(what)));
    format!(".TP\n{}\n{}", roff(title), rows.collect::<String>().trim_start_matches(".br\n"))
}

/// Plain words for troff (groff_char(7)); none of them begins with a dot or a quote.
fn roff(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_tell_status_and_fields() {
        assert!(sections("cryopid-thaw").contains("125") && sections("cryopid").contains("125"));
        assert!(sections("cryopid-freeze").contains("\\fBpaused_seconds\\fR: "), "{}", sections("cryopid-freeze"));
        assert!(sections("cryopid-inspect").contains("inspect IMAGE maps"));
        assert!(!sections("cryopid-demo").contains("JSON"));
        assert!(
            ["freeze", "snapshot"]
                .iter()
                .all(|command| sections(&format!("cryopid-{command}")).contains("symbolic link"))
        );
    }

    #[test]
    fn every_object_has_a_table() {
        let text = json();
        assert!(EVENTS.iter().chain(&SHOWN).all(|o| text.contains(&format!("\n## {} (", o.name))));
    }
}
