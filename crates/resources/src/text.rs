//! Bytes of the kernel in records: names that are mostly text, and blobs that are not.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A path or a name: any bytes but NUL. As JSON it is a string in which what is not printable ASCII or UTF-8 stands as
/// `\xNN` and a backslash as `\\`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(into = "String", from = "String")]
pub struct Text(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

impl Text {
    /// The bytes and a NUL, as a system call takes them.
    pub fn c_string(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.push(0);
        bytes
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Text(bytes.to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    // U+0080 to U+009F are control characters of two bytes.
                    c if c.is_control() => {
                        c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
                    }
                    c => write!(f, "{c}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.to_string()
    }
}

impl From<String> for Text {
    fn from(s: String) -> Text {
        let bytes = s.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut i = 0;
        while i < bytes.len() {
            let hex = |from: &[u8]| std::str::from_utf8(from).ok().and_then(byte);
            match (bytes[i], bytes.get(i + 1), bytes.get(i + 2..i + 4).and_then(hex)) {
                (b'\\', Some(b'\\'), _) => (out.push(b'\\'), i += 2).1,
                (b'\\', Some(b'x'), Some(byte)) => (out.push(byte), i += 4).1,
                (byte, ..) => (out.push(byte), i += 1).1,
            }
        }
        Text(out)
    }
}

/// Bytes that are no text; as JSON a string of hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(into = "String", try_from = "String")]
pub struct Blob(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl From<Blob> for String {
    fn from(blob: Blob) -> String {
        blob.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl TryFrom<String> for Blob {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = (0..s.len()).step_by(2).map(|i| s.get(i..i + 2).and_then(byte)).collect();
        bytes.map(Blob).ok_or_else(|| format!("no hexadecimal digits: {s}"))
    }
}

/// Two hexadecimal digits, and no sign, which the library would take.
fn byte(digits: &str) -> Option<u8> {
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_being_text() {
        for bytes in
            [&b"/tmp/a b"[..], b"\xff\xfe\\x41\n", "häus/\u{7f}".as_bytes(), b"\\", b"\\x", "\u{85}".as_bytes()]
        {
            let text = Text::from(bytes);
            assert_eq!(Text::from(String::from(text.clone())), text, "{text}");
        }
        let blob = Blob(vec![0, 255, 16]);
        assert_eq!(Blob::try_from(String::from(blob.clone())).unwrap(), blob);
    }
}
