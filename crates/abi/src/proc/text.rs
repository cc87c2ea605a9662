//! The small change of all parsers: lines, words, numbers, escapes.

use super::ParseError;
use std::cell::Cell;
use std::io::BufRead;

/// Takes the next line without its end; `None` at the end of the text.
pub(super) fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = *rest;
    // `skip_until` finds the byte with the memchr of libc: many bytes a cycle, while /proc text may have megabytes.
    let taken = rest.skip_until(b'\n').unwrap_or(0);
    let line = &text[..taken];
    (taken > 0).then(|| line.strip_suffix(b"\n").unwrap_or(line))
}

/// The lines without their ends.
pub(super) fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || next_line(&mut text))
}

/// What stands before and after the first `separator`.
pub(super) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The parts between spaces and tabs.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// A number from its digits; `None` when there is none, something else, or too much.
fn digits<const BASE: u32>(text: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for byte in text {
        let digit = char::from(*byte).to_digit(BASE)?;
        number = number.checked_mul(BASE.into())?.checked_add(digit.into())?;
    }
    (!text.is_empty()).then_some(number)
}

/// A decimal number that is not negative.
pub(super) fn unsigned<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    T::try_from(digits::<10>(text)?).ok()
}

/// A hexadecimal number without prefix.
pub(super) fn hex<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    T::try_from(digits::<16>(text)?).ok()
}

/// An octal number; a leading 0 is one more digit.
pub(super) fn octal<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    T::try_from(digits::<8>(text)?).ok()
}

/// A decimal number with or without a sign.
pub(super) fn signed<T: TryFrom<i64>>(text: &[u8]) -> Option<T> {
    let number = match text.strip_prefix(b"-") {
        Some(text) => 0_i64.checked_sub_unsigned(digits::<10>(text)?)?,
        None => i64::try_from(digits::<10>(text)?).ok()?,
    };
    T::try_from(number).ok()
}

/// Numbers between blanks, to the end.
pub(super) fn list<T>(text: &[u8], number: fn(&[u8]) -> Option<T>) -> Option<Vec<T>> {
    words(text).map(number).collect()
}

/// The part after `prefix` without the blanks around it, as a number.
pub(super) fn after<T>(text: &[u8], prefix: &[u8], number: fn(&[u8]) -> Option<T>) -> Option<T> {
    number(text.strip_prefix(prefix)?.trim_ascii())
}

/// Undoes the escapes of `seq_path` and `seq_escape`: a backslash and three octal digits for a byte in `escaped`.
/// Any other backslash is one.
pub(super) fn unescape_octal(text: &[u8], escaped: &[u8]) -> Vec<u8> {
    if !text.contains(&b'\\') {
        return text.to_vec();
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let byte = rest.get(1..4).and_then(octal::<u8>);
        let byte = byte.filter(|byte| *first == b'\\' && escaped.contains(byte));
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[4..] } else { tail };
    }
    plain
}

/// Undoes the escapes of a process name in `status`: `\n` for a newline, `\\` for a backslash (fs/proc/array.c,
/// `proc_task_name`); `stat` and `comm` have none.
pub(super) fn unescape_comm(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = match rest {
        [b'\\', b'n', tail @ ..] => Some((b'\n', tail)),
        [b'\\', b'\\', tail @ ..] => Some((b'\\', tail)),
        [byte, tail @ ..] => Some((*byte, tail)),
        [] => None,
    } {
        plain.push(byte);
        rest = tail;
    }
    plain
}

/// A file whose lines are `Key:<blanks>value`, held for look-ups by key. Each begins where the last one ended: most ask in the
/// order of the lines.
pub(super) struct Keyed<'a> {
    file: &'static str,
    pairs: Vec<(&'a [u8], &'a [u8])>,
    at: Cell<usize>,
}

impl<'a> Keyed<'a> {
    pub(super) fn new(file: &'static str, text: &'a [u8]) -> Self {
        let pairs = lines(text).filter_map(|line| split_once(line, b':'));
        Keyed { file, pairs: pairs.collect(), at: Cell::new(0) }
    }

    /// The value of a key, with the blanks around it.
    pub(super) fn find(&self, key: &str) -> Option<&'a [u8]> {
        let (before, after) = self.pairs.split_at(self.at.get());
        let has_key = |(known, _): &(&[u8], &[u8])| *known == key.as_bytes();
        let found = after.iter().position(has_key).map(|n| before.len() + n);
        let at = found.or_else(|| before.iter().position(has_key))?;
        self.at.set(at);
        Some(self.pairs[at].1)
    }

    /// The value of a key that must be there, with the blanks around it.
    pub(super) fn need(&self, key: &str) -> Result<&'a [u8], ParseError> {
        self.find(key).ok_or_else(|| ParseError::new(self.file, format!("no {key}")))
    }

    /// The value of a key that must be there, without the blanks around it, read by `read`.
    pub(super) fn parse<T>(&self, key: &str, read: impl Fn(&'a [u8]) -> Option<T>) -> Result<T, ParseError> {
        let value = self.need(key)?;
        read(value.trim_ascii()).ok_or_else(|| self.strange(key, value))
    }

    /// The value of a key that may be missing, read by `read`.
    pub(super) fn parse_if_any<T>(
        &self,
        key: &str,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, ParseError> {
        match self.find(key) {
            Some(_) => self.parse(key, read).map(Some),
            None => Ok(None),
        }
    }

    fn strange(&self, key: &str, value: &[u8]) -> ParseError {
        let what = format!("{key} is \"{}\"", value.escape_ascii());
        ParseError::new(self.file, what)
    }
}
