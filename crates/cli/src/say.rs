//! What users see: one line of success, every reason of a refusal at once, a bar for long work on a terminal.

use crate::args::Tone;
use engine::{Ending, Error, Frozen, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// A line to standard error. Whoever does not listen, or cannot, changes nothing of what is done.
pub(crate) fn aside(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// To standard output.
pub(crate) fn out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Where results go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// To standard output.
    Plain,
    /// To standard error: standard output is the image.
    Aside,
}

impl Style {
    pub(crate) fn for_output(path: &Path) -> Style {
        if path == Path::new("-") { Style::Aside } else { Style::Plain }
    }
}

/// The form of what is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Text,
    Json,
    Quiet,
}

/// Work is long when it takes longer than this; only then a bar appears.
const LONG: Duration = Duration::from_millis(300);

/// Says things.
pub(crate) struct Say {
    form: Form,
    style: Style,
    verbose: bool,
    stage: (&'static str, u64),
    since: Instant,
    last: Instant,
    bar: Option<ProgressBar>,
    /// Whether anybody would see how far long work has come.
    bars: bool,
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", n.div_ceil(1024)),
        1_048_576..10_737_418_240 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

fn time(d: Duration) -> String {
    if d < Duration::from_millis(100) {
        format!("{:.1} ms", d.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", d.as_secs_f64())
    }
}

fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}{}", if one.ends_with('s') { "es" } else { "s" }) }
}

impl Say {
    pub(crate) fn new(tone: &Tone, style: Style) -> Say {
        let form = match tone {
            Tone { json: true, .. } => Form::Json,
            Tone { quiet: true, .. } => Form::Quiet,
            _ => Form::Text,
        };
        let now = Instant::now();
        let bars = match form {
            Form::Json => true,
            Form::Text => io::stderr().is_terminal(),
            Form::Quiet => false,
        };
        Say {
            bars,
            form,
            style,
            verbose: tone.verbose && !tone.quiet,
            stage: ("", 0),
            since: now,
            last: now,
            bar: None,
        }
    }

    /// A line, where results go.
    fn emit(&self, text: &str) -> io::Result<()> {
        match self.style {
            Style::Plain => out(&format!("{text}\n")),
            Style::Aside => io::stderr().write_all(format!("{text}\n").as_bytes()),
        }
    }

    fn try_line(&mut self, text: &str, object: &Value) -> io::Result<()> {
        self.clear();
        match self.form {
            Form::Quiet => Ok(()),
            Form::Json => self.emit(&object.to_string()),
            Form::Text => self.emit(text),
        }
    }

    /// What was done. It is done, whether anybody hears of it or not.
    pub(crate) fn line(&mut self, text: &str, object: &Value) {
        let _ = self.try_line(text, object);
    }

    /// What was asked for. Whoever closed the pipe does not want to hear more.
    pub(crate) fn result(&mut self, text: &str, object: &Value) -> Result<(), Error> {
        match self.try_line(text, object) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("write", "standard output", e)),
            _ => Ok(()),
        }
    }

    /// What is of interest to programs only.
    pub(crate) fn object(&mut self, object: &Value) {
        if self.form == Form::Json {
            self.line("", object);
        }
    }

    /// What is not as it was: a line that the user sees.
    pub(crate) fn notes(&mut self, notes: &[String]) {
        for note in notes.iter().filter(|_| self.form == Form::Text) {
            aside(&format!("cryopid: note: {note}"));
        }
    }

    pub(crate) fn frozen(&mut self, ending: Ending, pid: i32, path: &Path, frozen: &Frozen) {
        let d = &frozen.done;
        self.notes(&d.notes);
        let verb = if ending == Ending::End { "froze" } else { "snapshot of" };
        let text = format!(
            "{verb} {}, {} -> {} ({}) in {}, paused {}",
            plural(d.processes, "process"),
            bytes(d.saved),
            path.display(),
            bytes(d.size),
            time(d.took),
            time(d.paused)
        );
        let event = if ending == Ending::End { "frozen" } else { "snapshot" };
        let object = json!({
            "event": event, "pid": pid, "name": d.name, "processes": d.processes, "saved_bytes": d.saved,
            "image": path.display().to_string(), "image_bytes": d.size, "seconds": d.took.as_secs_f64(),
            "paused_seconds": d.paused.as_secs_f64(), "notes": d.notes,
        });
        self.details(&frozen.model);
        self.line(&text, &object);
    }

    /// What was kept, in words.
    fn details(&mut self, model: &resources::Model) {
        if self.verbose {
            aside(crate::inspect::summary(model).trim_end());
        }
    }

    pub(crate) fn would_freeze(&mut self, pid: i32, frozen: &Frozen) -> Result<(), Error> {
        let d = &frozen.done;
        self.notes(&d.notes);
        self.details(&frozen.model);
        let text = format!("{pid} ({}) can be frozen: {}, {}", d.name, plural(d.processes, "process"), bytes(d.saved));
        let object = json!({
            "event": "freezable", "pid": pid, "name": d.name, "processes": d.processes, "saved_bytes": d.saved, "notes": d.notes,
        });
        self.result(&text, &object)
    }

    pub(crate) fn verified(&mut self, path: &Path, size: u64) -> Result<(), Error> {
        let text = format!("{}: whole, {}", path.display(), bytes(size));
        self.result(&text, &json!({"event": "verified", "image": path.display().to_string(), "image_bytes": size}))
    }

    /// Everything that is in the way.
    pub(crate) fn failed(&mut self, what: &str, comfort: &str, e: &Error) {
        self.clear();
        let object = match e {
            Error::Refused(all) => json!({"event": "refused", "what": what, "reasons": all}),
            other => json!({"event": "failed", "what": what, "error": other.to_string()}),
        };
        // Where nobody can be told in the way that was asked for, it is said all the same.
        if self.form == Form::Json && self.emit(&object.to_string()).is_ok() {
            return;
        }
        let comfort = if comfort.is_empty() { String::new() } else { format!("; {comfort}") };
        let Error::Refused(all) = e else { return aside(&format!("cryopid: {what}: {e}{comfort}")) };
        let mut text = format!("cryopid: {what}: {}{comfort}", plural(all.len(), "reason"));
        for r in all {
            let whom = if r.whom.is_empty() { String::new() } else { format!("{} ", r.whom) };
            text += &format!("\n  {whom}{}  {}", r.what, r.why);
            if !r.remedy.is_empty() {
                text += &format!("\n      {}", r.remedy);
            }
        }
        aside(&text);
    }

    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, done: u64) {
        let (name, total) = self.stage;
        if self.form == Form::Json {
            return self.line("", &json!({"event": "progress", "stage": name, "bytes": done, "total_bytes": total}));
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
            let template = if total > 0 {
                "{msg} [{bar:30}] {bytes}/{total_bytes} {prefix}"
            } else {
                "{msg} {spinner} {bytes} {prefix}"
            };
            bar.with_style(ProgressStyle::with_template(template).expect("the template is right")).with_message(name)
        });
        let rate = done as f64 / self.since.elapsed().as_secs_f64();
        bar.set_prefix(format!("{}/s", bytes(rate as u64)));
        bar.set_position(done);
    }
}

impl Progress for Say {
    fn planned(&mut self, plan: &plan::Plan) {
        if self.verbose {
            aside(plan.to_string().trim_end());
        }
    }

    fn waits(&mut self, hindered: &[plan::Refusal]) {
        self.clear();
        if self.form == Form::Text {
            let lines = hindered.iter().map(|refusal| format!("\n  {}  {}", refusal.what, refusal.why));
            aside(&format!("cryopid: waits until this has passed, for a minute or so:{}", lines.collect::<String>()));
        }
    }

    fn stage(&mut self, name: &'static str, total: u64) {
        self.clear();
        self.stage = (name, total);
        self.since = Instant::now();
    }

    fn done(&mut self, bytes: u64) {
        let now = Instant::now();
        if self.bars && now - self.since > LONG && now - self.last > Duration::from_millis(100) {
            self.last = now;
            self.show(bytes);
        }
    }
}
