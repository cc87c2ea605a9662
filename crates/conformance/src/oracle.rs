//! The round trip as oracle: freeze, thaw, freeze; what `inspect` tells of the two images is the same.
//!
//! Only fields that the project calls volatile may differ; their names stand here, and nowhere else in the harness.

use crate::Outcome;
use crate::scene::Scene;
use serde_json::Value;

/// The names of the fields that may differ between two images of one program.
pub const VOLATILE: &[&str] = &[
    // Of the header.
    "created",
    // Inode numbers tell which ends and areas belong together, and are new in each life.
    "pipe",
    "socket",
    "peer",
    "pending",
    "object",
    "inode",
    // Of a stream that was made anew only what waits has passed.
    "passed",
    // The number of a pseudo-terminal may be somebody else's by then.
    "pts",
    // A leader of a session becomes the leader of a group in the session of its new terminal.
    "role",
    "window",
    // What is left of a time, and clocks.
    "left",
    "expires",
    "monotonic",
    "boottime",
    // An IPC namespace of its own is another one each time.
    "namespace",
    // What is said of an interrupted call, or of what was typed, is of that freeze.
    "notes",
];

/// Compares what two images tell.
///
/// # Errors
/// The first field that differs, with its path and both values.
pub fn same_story(scene: &Scene, first: &str, second: &str) -> Outcome {
    let (first, second) = (story(scene, first)?, story(scene, second)?);
    difference("", &first, &second).map_or(Ok(()), |text| Err(format!("the two images differ at {text}")))
}

fn story(scene: &Scene, image: &str) -> Result<Value, String> {
    let said = scene.run(&["inspect", image, "all", "--json"])?.ended_with("inspect --json", &[0])?;
    let mut story =
        serde_json::from_str(&said.text).map_err(|error| format!("inspect --json gives no JSON: {error}"))?;
    forget_session(&mut story);
    forget_places(&mut story);
    forget_ages(&mut story);
    forget_resizes(&mut story);
    Ok(story)
}

/// That its terminal has another size (SIGWINCH) may reach a program at any time after a thaw, and so wait at the next freeze.
fn forget_resizes(story: &mut Value) {
    const SIGWINCH: &str = "1c000000";
    let Some(processes) = story["model"]["processes"].as_array_mut() else { return };
    let threads = processes.iter_mut().filter_map(|p| p["threads"].as_array_mut()).flatten();
    for state in threads.filter_map(|t| t["states"].as_array_mut()).flatten() {
        if let Some(pending) = state["process_pending"].as_array_mut() {
            pending.retain(|info| !info.as_str().is_some_and(|info| info.starts_with(SIGWINCH)));
        }
    }
}

/// Which of two siblings is the elder, who were born within one tick of the clock, is not told.
fn forget_ages(story: &mut Value) {
    if let Some(processes) = story["model"]["processes"].as_array_mut() {
        processes.sort_by_key(|p| p["process"]["pid"].as_u64());
    }
}

/// Where runs of pages are cut depends on what relatives share by then: only which pages there are is told.
fn forget_places(story: &mut Value) {
    let Some(processes) = story["model"]["processes"].as_array_mut() else { return };
    for state in processes.iter_mut().filter_map(|p| p["states"].as_array_mut()).flatten() {
        let Some(pages) = state["pages"].as_array() else { continue };
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for page in pages {
            let (at, len) = (page["at"].as_u64().unwrap_or(0), page["len"].as_u64().unwrap_or(0));
            match runs.last_mut() {
                Some(last) if last.1 == at => last.1 += len,
                _ => runs.push((at, at + len)),
            }
        }
        state["pages"] = runs.into_iter().map(|(start, end)| Value::from(vec![start, end])).collect();
    }
}

/// The session of the root is that of the terminal in which it is thawed, and with it that of all who are in it.
fn forget_session(story: &mut Value) {
    let Some(processes) = story["model"]["processes"].as_array_mut() else { return };
    let own = processes[0]["process"]["session"].clone();
    for process in processes.iter_mut().filter(|p| p["process"]["session"] == own) {
        process["process"]["session"] = Value::Null;
    }
}

fn difference(path: &str, first: &Value, second: &Value) -> Option<String> {
    match (first, second) {
        (Value::Object(one), Value::Object(two)) => one.keys().chain(two.keys()).find_map(|key| {
            let (left, right) = (one.get(key).unwrap_or(&Value::Null), two.get(key).unwrap_or(&Value::Null));
            let volatile = VOLATILE.contains(&key.as_str()) || (key == "offset" && is_extent(one));
            if volatile { None } else { difference(&format!("{path}/{key}"), left, right) }
        }),
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => one
            .iter()
            .zip(two)
            .enumerate()
            .find_map(|(at, (left, right))| difference(&format!("{path}/{at}"), left, right)),
        _ if first == second => None,
        _ => Some(format!("{path}: {first:.200} became {second:.200}")),
    }
}

/// Where an image holds what; other things with an offset are files and areas.
fn is_extent(of: &serde_json::Map<String, Value>) -> bool {
    of.len() == 3 && ["at", "len", "offset"].iter().all(|key| of.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::{difference, forget_session};
    use serde_json::json;

    #[test]
    fn only_the_session_of_the_root_does_not_count() {
        let tree = |sessions: [u32; 3]| {
            let mut story =
                json!({"model": {"processes": sessions.map(|session| json!({"process": {"session": session}}))}});
            forget_session(&mut story);
            story
        };
        assert_eq!(tree([7, 7, 9]), tree([0, 0, 9]));
        assert_ne!(tree([7, 7, 9]), tree([0, 9, 9]));
    }

    #[test]
    fn volatile_fields_do_not_count() {
        let (one, two) = (json!({"a": [1, {"left": 1}]}), json!({"a": [1, {"left": 2}]}));
        assert_eq!(difference("", &one, &two), None);
    }

    #[test]
    fn the_offset_of_an_extent_does_not_count_and_that_of_a_file_does() {
        let extent = |offset: u32| json!([{"at": 0, "len": 4096, "offset": offset}]);
        assert_eq!(difference("", &extent(1), &extent(2)), None);
        let file = |offset: u32| json!({"description": 1, "offset": offset});
        assert_eq!(difference("", &file(1), &file(2)).as_deref(), Some("/offset: 1 became 2"));
    }

    #[test]
    fn a_difference_is_told_with_its_path() {
        let (one, two) = (json!({"a": [1, {"b": 1}]}), json!({"a": [1, {"b": 2}]}));
        assert_eq!(difference("", &one, &two).as_deref(), Some("/a/1/b: 1 became 2"));
        assert_eq!(difference("", &json!({"a": 1}), &json!({})).as_deref(), Some("/a: 1 became null"));
    }
}
