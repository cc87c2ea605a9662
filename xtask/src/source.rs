//! A Rust file as the checks see it: its text, the same with comments or strings blanked out, and its functions.
//!
//! No parser: what the checks ask can be told from tokens, and blanked text has every token at its own place.

use std::ops::Range;

/// A file of the workspace.
pub(crate) struct Source {
    /// Its path below the workspace.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Comments and the insides of strings are blank.
    pub(crate) code: String,
    /// Only the insides of strings are blank.
    pub(crate) prose: String,
}

/// A function: its name, and the lines from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// What a stretch of a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Inside,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let kinds = kinds(text.as_bytes());
        let code = blank(&text, &kinds, &[Kind::Comment, Kind::Inside]);
        let prose = blank(&text, &kinds, &[Kind::Inside]);
        Source { path: path.into(), text, code, prose }
    }

    /// Whether it lies in a crate of the workspace; `xtask` is one.
    pub(crate) fn is_of(&self, krate: &str) -> bool {
        self.path.starts_with(&format!("crates/{krate}/")) || self.path.starts_with(&format!("{krate}/"))
    }

    /// Whether it is a part of what the crate gives to others: not a test, an example or a build script.
    pub(crate) fn is_shipped(&self) -> bool {
        self.path.contains("/src/")
    }

    /// The number of the line with this byte.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// The code without what is compiled for tests only.
    pub(crate) fn shipped_code(&self) -> String {
        let mut code = self.code.clone().into_bytes();
        for at in find_all(&self.code, "#[cfg(test)]") {
            let end = item_end(&self.code, at);
            code[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        }
        String::from_utf8(code).expect("blanks are ASCII")
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        words(&self.code).filter(|(_, word)| *word == "fn").filter_map(|(at, _)| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let name =
            words(&self.code[at + 2..]).next().filter(|(gap, _)| self.code[at + 2..][..*gap].trim().is_empty())?;
        let open = body(&self.code, at)?;
        let end = closing(&self.code, open);
        let line = self.line(at);
        Some(Function { name: name.1.into(), line, lines: self.line(end) - line + 1 })
    }
}

/// The identifiers and keywords of a text, with their places.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let len = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        at = start + len;
        Some((start, &code[start..at]))
    })
}

/// Every place of a text.
pub(crate) fn find_all(code: &str, what: &str) -> Vec<usize> {
    code.match_indices(what).map(|(at, _)| at).collect()
}

/// Every place of a text that is not a part of a longer word.
pub(crate) fn find_words(code: &str, what: &str) -> Vec<usize> {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let apart = |at: &usize| {
        let (before, after) = (code[..*at].chars().next_back(), code[at + what.len()..].chars().next());
        let longer_before = is_word(before) && is_word(what.chars().next());
        let longer_after = is_word(after) && is_word(what.chars().next_back());
        !longer_before && !longer_after
    };
    find_all(code, what).into_iter().filter(apart).collect()
}

/// Behind the item that begins, with its attributes, at `at`.
fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0;
    for (i, b) in code.bytes().enumerate().skip(at) {
        match b {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return i + 1,
            b'{' if depth == 0 => return closing(code, i) + 1,
            _ => {}
        }
    }
    code.len()
}

/// The brace that opens the body of the function at `at`, if it has one.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, b) in code.bytes().enumerate().skip(at) {
        match b {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(i),
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, b) in code.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 1 => return i,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(text: &str, kinds: &[Kind], which: &[Kind]) -> String {
    let blanked = |(b, kind): (u8, &Kind)| if which.contains(kind) && b != b'\n' { b' ' } else { b };
    let bytes: Vec<u8> = text.bytes().zip(kinds).map(blanked).collect();
    String::from_utf8(bytes).expect("comments and strings begin and end between characters")
}

/// What each byte belongs to (The Rust Reference, "Tokens" and "Comments").
fn kinds(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (end, stretch) = token(text, at);
        if let Some((range, kind)) = stretch {
            kinds[range].fill(kind);
        }
        at = end.max(at + 1);
    }
    kinds
}

/// Where the token at `at` ends, and which part of it is no code.
fn token(text: &[u8], at: usize) -> (usize, Option<(Range<usize>, Kind)>) {
    let rest = &text[at..];
    if rest.starts_with(b"//") {
        let end = at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        return (end, Some((at..end, Kind::Comment)));
    }
    if rest.starts_with(b"/*") {
        let end = block_comment(text, at);
        return (end, Some((at..end, Kind::Comment)));
    }
    match rest[0] {
        b'"' => inside(at + 1, string_end(text, at + 1)),
        b'r' => raw_string(text, at),
        b'\'' => character(text, at),
        b if b.is_ascii_alphabetic() || b == b'_' => (word_end(text, at), None),
        _ => (at + 1, None),
    }
}

fn inside(from: usize, end: usize) -> (usize, Option<(Range<usize>, Kind)>) {
    (end + 1, Some((from..end, Kind::Inside)))
}

/// Prefixes of strings (`b`, `c`, `br`, `cr`) end where their quote or `r` begins.
fn word_end(text: &[u8], at: usize) -> usize {
    let len = text[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    match &text[at..at + len] {
        b"br" | b"cr" => at + 1,
        _ => at + len,
    }
}

fn string_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

fn raw_string(text: &[u8], at: usize) -> (usize, Option<(Range<usize>, Kind)>) {
    let hashes = text[at + 1..].iter().take_while(|b| **b == b'#').count();
    let quote = at + 1 + hashes;
    if text.get(quote) != Some(&b'"') {
        return (word_end(text, at).max(at + 1), None);
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let from = quote + 1;
    let len = text[from..].windows(close.len()).position(|w| w == close).unwrap_or(text.len() - from);
    let (_, stretch) = inside(from, from + len);
    (from + len + close.len(), stretch)
}

/// A character, or a lifetime, which has no second quote.
fn character(text: &[u8], at: usize) -> (usize, Option<(Range<usize>, Kind)>) {
    let from = at + 1;
    if text.get(from) == Some(&b'\\') {
        let end = from + 2 + text[(from + 2).min(text.len())..].iter().position(|b| *b == b'\'').unwrap_or(0);
        return inside(from, end);
    }
    let width = match text.get(from) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if text.get(from + width) == Some(&b'\'') { inside(from, from + width) } else { (at + 1, None) }
}

fn block_comment(text: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < text.len() {
        match &text[i..(i + 2).min(text.len())] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" if depth == 1 => return i + 2,
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("x", text).code
    }

    #[test]
    fn comments_and_strings_are_blanked_and_nothing_else() {
        assert_eq!(code("a /* b /* c */ d */ e // f\ng"), "a                   e     \ng");
        assert_eq!(code(r#"f("a\"b", 'x', '\'', "/*") + 'a'"#), r#"f("    ", ' ', '  ', "  ") + ' '"#);
        assert_eq!(code("fn f<'a>(x: &'a u8) {}"), "fn f<'a>(x: &'a u8) {}");
        assert_eq!(code(r##"r#"a"b"# br"x" c"y" b'z' r#type"##), r##"r#"   "# br" " c" " b' ' r#type"##);
    }

    #[test]
    fn prose_keeps_comments() {
        assert_eq!(Source::new("x", "// a\n\"b\"").prose, "// a\n\" \"");
    }

    #[test]
    fn functions_are_measured() {
        let text = "trait T { fn none(&self) -> [u8; 2]; }\nfn one() {}\npub(crate) fn three<T>(x: T)\nwhere T: Fn(u8) -> u8 {\n}\n";
        let all = Source::new("x", text).functions();
        let seen: Vec<_> = all.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(seen, [("one", 2, 1), ("three", 3, 3)]);
        assert!(Source::new("x", "type F = fn(u8) -> u8; struct S { f: fn() }").functions().is_empty());
    }

    #[test]
    fn what_is_for_tests_is_not_shipped() {
        let source = Source::new("x", "a\n#[cfg(test)]\nmod tests { b { c } }\n#[cfg(test)] use x;\nd\n");
        assert_eq!(words(&source.shipped_code()).map(|(_, w)| w).collect::<Vec<_>>(), ["a", "d"]);
    }

    #[test]
    fn words_stand_apart() {
        assert_eq!(find_words("println!() eprintln!() x.println!()", "println!"), [0, 25]);
    }
}
