//! `inspect`: what an image holds, for people and for programs.

use crate::args::{InspectArgs, What};
use crate::say::{Say, Style, bytes};
use abi::signal;
use engine::{Error, Loaded};
use resources::mm::area::{Area, Backing};
use resources::mm::space::Space;
use resources::{Description, Model, ProcessModel, ProcessState, ThreadState};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn inspect(args: &InspectArgs) -> ExitCode {
    let mut say = Say::new(&args.tone, Style::Plain);
    match crate::open(&args.image) {
        Ok(loaded) => {
            let told = say.result(text(&loaded, args.what).trim_end(), &object(&loaded, args.what));
            crate::ended(told, &mut say, &crate::cannot_tell_of(&args.image), "")
        }
        Err(e) => crate::failed(&mut say, &format!("cannot inspect {}", args.image.display()), "", &e),
    }
}

fn text(loaded: &Loaded, what: What) -> String {
    let all = [What::Tree, What::Fds, What::Maps, What::Env, What::Files, What::Sockets, What::Signals];
    match what {
        What::Tree => tree(loaded),
        What::Fds => each(&loaded.model, |p| fds(&loaded.model, p)),
        What::Maps => each(&loaded.model, |p| maps(&loaded.model, p)),
        What::Env => each(&loaded.model, |p| env(loaded, p).join("\n") + "\n"),
        What::Files => files(&loaded.model),
        What::Sockets => {
            sockets(&loaded.model).iter().map(|(id, words, _)| format!("description {id}: {words}\n")).collect()
        }
        What::Signals => each(&loaded.model, signals),
        What::All => all.iter().map(|w| format!("── {w:?}\n{}", text(loaded, *w))).collect::<Vec<_>>().join("\n"),
    }
}

/// Every socket, with the id of its description: in words, and with all that is known.
fn sockets(model: &Model) -> Vec<(u32, String, Value)> {
    let told = |description: &Description| match description {
        Description::UnixSocket(s) => Some((s.to_string(), json!(s))),
        Description::InetSocket(s) => Some((s.to_string(), json!(s))),
        Description::NetlinkSocket(s) => Some((s.to_string(), json!(s))),
        Description::PacketSocket(s) => Some((s.to_string(), json!(s))),
        _ => None,
    };
    let all = model.descriptions.iter().filter_map(|(id, d)| Some((*id, told(d)?)));
    all.map(|(id, (words, known))| (id, words, known)).collect()
}

/// Descriptors and files, for who wants to hear more of a freeze.
pub(crate) fn summary(model: &Model) -> String {
    each(model, |p| fds(model, p)) + &files(model)
}

fn object(loaded: &Loaded, what: What) -> Value {
    let model = &loaded.model;
    match what {
        What::Tree => {
            json!({
                "header": loaded.image.header(),
                "processes": model.processes.iter().map(|p| &p.process).collect::<Vec<_>>(),
                "typed": model.typed,
                "notes": model.notes,
            })
        }
        What::Fds => {
            json!({"processes": model.processes.iter().map(|p| &p.process).collect::<Vec<_>>(), "descriptions": model.descriptions})
        }
        What::Maps => json!({"spaces": spaces(model).collect::<Vec<_>>()}),
        What::Env => {
            json!({"processes": model.processes.iter().map(|p| json!({"pid": p.process.pid, "strings": env(loaded, p)})).collect::<Vec<_>>()})
        }
        What::Files => json!({"files": model.files}),
        What::Sockets => json!({"sockets": sockets(model).iter().map(|(id, _, known)| json!({
            "description": id,
            "socket": known,
        })).collect::<Vec<_>>()}),
        What::Signals => json!({"processes": model.processes.iter().map(|p| json!({
            "pid": p.process.pid,
            "handlers": p.states.iter().find(|s| matches!(s, ProcessState::Handlers(_))),
        })).collect::<Vec<_>>(), "threads": model.processes.iter().flat_map(|p| &p.threads).map(|t| json!({
            "tid": t.tid,
            "signal": t.states.iter().find(|s| matches!(s, ThreadState::Signal(_))),
        })).collect::<Vec<_>>()}),
        What::All => json!({"header": loaded.image.header(), "model": model}),
    }
}

fn each(model: &Model, show: impl Fn(&ProcessModel) -> String) -> String {
    model.processes.iter().map(|p| format!("process {} ({})\n{}", p.process.pid, p.process.name, show(p))).collect()
}

fn spaces(model: &Model) -> impl Iterator<Item = &Space> {
    model.processes.iter().filter_map(space)
}

fn space(p: &ProcessModel) -> Option<&Space> {
    p.states.iter().find_map(|s| if let ProcessState::Space(space) = s { Some(space) } else { None })
}

fn tree(loaded: &Loaded) -> String {
    let h = loaded.image.header();
    let mut out = format!("{}, {}, on {} {}\n", h.tool, date(h.created), h.machine, h.kernel);
    for p in &loaded.model.processes {
        let saved: u64 = space(p).map_or(0, |s| s.pages.iter().map(|e| e.len).sum());
        out += &format!(
            "{:>7} {}{} ({}, {}, {} saved)\n",
            p.process.pid,
            "  ".repeat(depth(&loaded.model, p)),
            p.process.name,
            count(p.threads.len(), "thread"),
            count(p.process.fds.len(), "descriptor"),
            bytes(saved)
        );
        for t in p.threads.iter().skip(1) {
            let name = t
                .states
                .iter()
                .find_map(|s| if let ThreadState::Prctl(p) = s { Some(p.name.to_string()) } else { None });
            out += &format!("{:>9} {}\n", t.tid, name.unwrap_or_default());
        }
    }
    out.extend(
        loaded
            .model
            .typed
            .iter()
            .filter(|t| !t.is_untouched())
            .map(|t| format!("typed and not read yet: {}\n", t.told())),
    );
    out.extend(loaded.torn.iter().map(|e| format!("not kept: what was typed and not read yet: {e}\n")));
    out.extend(loaded.model.notes.iter().map(|n| format!("not kept: {n}\n")));
    out
}

/// Seconds since 1970 as a date and a time (UTC), in the form of ISO 8601.
fn date(seconds: u64) -> String {
    // Eras of 400 years that begin on a first of March: then the leap day is the last of its year.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (in_month, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{in_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How many processes of the tree stand above it.
fn depth(model: &Model, p: &ProcessModel) -> usize {
    std::iter::successors(model.process(p.process.parent), |p| model.process(p.process.parent)).count()
}

fn fds(model: &Model, p: &ProcessModel) -> String {
    let line = |fd: &resources::tree::process::Fd| {
        let d = &model.descriptions[&fd.description];
        format!("{:>5}  {:<10} {}\n", fd.number, d.name(), description(model, d))
    };
    p.process.fds.iter().map(line).collect()
}

fn description(model: &Model, d: &Description) -> String {
    match d {
        Description::Regular(r) => format!("{} at {}", model.files[&r.file].path, r.offset),
        other => {
            let mut value = serde_json::to_value(other).unwrap_or_default();
            if let Some(map) = value.as_object_mut() {
                map.remove("kind");
                map.retain(|_, v| v.as_str().is_none_or(|s| s.len() < 64));
            }
            value.to_string()
        }
    }
}

fn maps(model: &Model, p: &ProcessModel) -> String {
    let backing = |a: &Area| match &a.backing {
        Backing::Anonymous => a.name.as_ref().map_or(String::new(), |n| format!("[anon:{n}]")),
        Backing::File { file, offset } => format!("{} +{offset:#x}", model.files[file].path),
        Backing::Shared { object, .. } => format!("shared {object}"),
        Backing::Segment { id, offset } => format!("segment {id} +{offset:#x}"),
        Backing::Ring(ring) => format!("ring {}", ring.id),
        Backing::Socket { socket } => format!("socket:[{socket}]"),
        Backing::Uring { ring, offset } => format!("ring of description {ring} +{offset:#x}"),
    };
    let line = |a: &Area| {
        let bit = |n: u8, c: char| if a.protection & n != 0 { c } else { '-' };
        let shared = if a.shared { 's' } else { 'p' };
        format!(
            "{:012x}-{:012x} {}{}{}{shared} {} {}\n",
            a.start,
            a.end,
            bit(1, 'r'),
            bit(2, 'w'),
            bit(4, 'x'),
            a.flags.join(" "),
            backing(a)
        )
    };
    space(p).map_or(String::new(), |s| s.areas.iter().map(line).collect())
}

/// Arguments, then environment, as they stood in the memory of the process.
fn env(loaded: &Loaded, p: &ProcessModel) -> Vec<String> {
    let Some(space) = space(p) else { return Vec::new() };
    let ranges = [space.marks.args, space.marks.env];
    let strings = ranges.iter().filter_map(|(start, end)| memory(loaded, space, *start, *end).ok());
    strings
        .flat_map(|b| {
            b.split(|c| *c == 0).filter(|s| !s.is_empty()).map(|s| s.escape_ascii().to_string()).collect::<Vec<_>>()
        })
        .collect()
}

/// Bytes of the process's memory that are in the image.
fn memory(loaded: &Loaded, space: &Space, start: u64, end: u64) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; end.saturating_sub(start).min(1 << 24) as usize];
    let end = start.saturating_add(out.len() as u64);
    for e in space.pages.iter().filter(|e| e.at < end && e.at + e.len > start) {
        let (from, to) = (e.at.max(start), (e.at + e.len).min(end));
        let piece = &mut out[(from - start) as usize..(to - start) as usize];
        loaded.image.read_at(e.offset + (from - e.at), piece).map_err(|e| Error::io("read", "the image", e))?;
    }
    Ok(out)
}

fn files(model: &Model) -> String {
    let line = |f: &resources::fd::file::File| {
        let kept = match &f.contents {
            Some(extents) => format!("in the image ({})", bytes(extents.iter().map(|e| e.len).sum())),
            None => "needed where it is thawed".into(),
        };
        format!("{:>10}  {}  {kept}\n", bytes(f.size), f.path)
    };
    model.files.values().map(line).collect()
}

fn signals(p: &ProcessModel) -> String {
    let mut out = String::new();
    for state in &p.states {
        if let ProcessState::Handlers(h) = state {
            // The others have flags, which matter to nobody as long as the default is done.
            let handlers = h.set.iter().filter(|h| h.action.handler != 0).map(|h| match h.action.handler {
                1 => format!("  {} ignored\n", signal::name(h.signal)),
                at => format!("  {} handled at {at:#x}\n", signal::name(h.signal)),
            });
            out.extend(handlers);
        }
    }
    for t in &p.threads {
        for state in &t.states {
            match state {
                ThreadState::Regs(r) if r.mask != 0 => {
                    out += &format!("  thread {} blocks {}\n", t.tid, signal::SigSet(r.mask))
                }
                ThreadState::Signal(s) => {
                    let waiting = s.pending.iter().chain(&s.process_pending);
                    out.extend(waiting.map(|i| format!("  thread {}: {} waits\n", t.tid, signal::name(i.signo()))));
                    out.extend(s.stopped.map(|n| format!("  stopped by {}\n", signal::name(n))));
                }
                _ => {}
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates() {
        let all = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_571_499, "2026-11-25T01:51:39Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        all.iter().for_each(|(seconds, text)| assert_eq!(date(*seconds), *text));
    }
}
