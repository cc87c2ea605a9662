//! Every `unsafe` says why it is right: a block in a comment right above its line, a function in its documentation.

use crate::source::{Source, words};
use crate::tidy::Finding;

/// Each `unsafe` without its note.
pub(crate) fn explained(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut all = Vec::new();
    for (at, _) in words(&source.code).filter(|(_, word)| *word == "unsafe") {
        let line = source.line(at);
        let wanted = note(&source.code[at + "unsafe".len()..]);
        if !above(&lines, line - 1).is_some_and(|comment| comment.contains(wanted)) {
            all.push(Finding::at(&source.path, line, format!("`unsafe` without a note ({wanted}) above")));
        }
    }
    all
}

/// What the note must say: a function tells its callers what they have to see to.
fn note(behind: &str) -> &'static str {
    let next = words(behind).next().filter(|(at, _)| behind[..*at].trim().is_empty());
    match next {
        Some((_, "fn")) => "# Safety",
        _ => "SAFETY:",
    }
}

/// The comment in the lines right above line `at` (lines count from 0); above a function, attributes may stand between.
fn above(lines: &[&str], at: usize) -> Option<String> {
    let is_note = |i: usize| lines[i].trim_start().starts_with("//");
    let attributes = (0..at).rev().take_while(|i| lines[*i].trim_start().starts_with("#[")).count();
    let first = at - attributes;
    let start = (0..first).rev().take_while(|i| is_note(*i)).last()?;
    Some(lines[start..first].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        explained(&Source::new("crates/tracee/src/a.rs", text)).len()
    }

    #[test]
    fn a_block_with_its_note_is_fine() {
        assert_eq!(found("fn f() {\n    // SAFETY: it is so,\n    // really.\n    let x = unsafe { g() };\n}"), 0);
        assert_eq!(found("// SAFETY: it is so.\nunsafe extern \"C\" {}"), 0);
    }

    #[test]
    fn a_block_without_a_note_is_found() {
        assert_eq!(found("fn f() {\n    let x = unsafe { g() };\n}"), 1);
        assert_eq!(found("// A comment.\nunsafe { g() }"), 1);
        assert_eq!(found("// SAFETY: of the statement.\nlet x =\n    unsafe { g() };"), 1);
        assert_eq!(found("// SAFETY: of the first.\nunsafe { g() };\nunsafe { h() };"), 1);
        assert_eq!(found("// SAFETY: of something else.\n\nunsafe { g() };"), 1);
        assert_eq!(found("unsafe extern \"C\" {}"), 1);
    }

    #[test]
    fn a_function_tells_its_callers() {
        assert_eq!(found("/// Does it.\n///\n/// # Safety\n/// Be careful.\n#[inline]\nunsafe fn f() {}"), 0);
        assert_eq!(found("/// Does it.\npub unsafe fn f() {}"), 1);
        assert_eq!(found("// SAFETY: no place for it.\nunsafe fn f() {}"), 1);
    }

    #[test]
    fn words_in_comments_and_longer_names_are_passed_over() {
        assert_eq!(found("// unsafe { }\n#![forbid(unsafe_code)]\nlet s = \"unsafe\";"), 0);
    }
}
