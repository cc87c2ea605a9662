//! Paths as text for serde: they may hold any byte, but a key of a JSON object is a string. What is not printable ASCII,
//! and the backslash, stands as an escape of Rust's (`\xff`, `\\`).

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

fn escape(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'\\' { escaped(&mut rest)? } else { byte });
    }
    Some(bytes)
}

/// What stands behind a backslash.
fn escaped(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).map(|d| d as u8);
    match rest.next()? {
        b't' => Some(b'\t'),
        b'r' => Some(b'\r'),
        b'n' => Some(b'\n'),
        b'x' => Some(digit(rest.next())? << 4 | digit(rest.next())?),
        plain @ (b'\\' | b'\'' | b'"') => Some(plain),
        _ => None,
    }
}

fn path<E: Error>(text: &str) -> Result<Vec<u8>, E> {
    unescape(text).ok_or_else(|| E::custom(format!("not a path: {text}")))
}

/// A map from paths.
pub(crate) mod map {
    use super::*;

    pub(crate) fn serialize<T: Serialize, S: Serializer>(map: &BTreeMap<Vec<u8>, T>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(p, facts)| (escape(p), facts)))
    }

    pub(crate) fn deserialize<'d, T: Deserialize<'d>, D: Deserializer<'d>>(
        from: D,
    ) -> Result<BTreeMap<Vec<u8>, T>, D::Error> {
        let map = BTreeMap::<String, T>::deserialize(from)?;
        map.into_iter().map(|(p, facts)| Ok((path(&p)?, facts))).collect()
    }
}

/// A set of paths.
pub(crate) mod set {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(set: &BTreeSet<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(set.iter().map(|p| escape(p)))
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<BTreeSet<Vec<u8>>, D::Error> {
        BTreeSet::<String>::deserialize(from)?.iter().map(|p| path(p)).collect()
    }
}

/// One path.
pub(crate) mod one {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(one: &[u8], to: S) -> Result<S::Ok, S::Error> {
        escape(one).serialize(to)
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<u8>, D::Error> {
        path(&String::deserialize(from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), Some(all));
        assert_eq!([unescape("\\"), unescape("\\x4"), unescape("\\q")], [None, None, None]);
    }
}
