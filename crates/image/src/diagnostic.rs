//! CBOR in words: diagnostic notation (RFC 8949, section 8), so that unknown records can be shown.
//!
//! Byte strings that are printable text are shown as text in single quotes (RFC 8610, appendix G.1), since
//! that is what paths are. What would upset a terminal is escaped.

use crate::record::RawRecord;
use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};
use std::fmt::Write;

/// What is nested deeper than this is not shown.
const DEPTH: u32 = 64;

/// A record with its body in diagnostic notation, whatever it is.
pub fn diagnostic(record: &RawRecord) -> String {
    let mut out = format!("{} #{}: ", record.tag, record.id);
    let mut decoder = Decoder::new(&record.body);
    if let Err(error) = item(&mut decoder, &mut out, DEPTH) {
        let _ = write!(out, " !!! at byte {}: {error}", decoder.position());
    } else if decoder.position() < record.body.len() {
        let _ = write!(out, " !!! and {} bytes more", record.body.len() - decoder.position());
    }
    out
}

fn item(d: &mut Decoder<'_>, out: &mut String, depth: u32) -> Result<(), Error> {
    let Some(below) = depth.checked_sub(1) else {
        out.push('…');
        return d.skip();
    };
    match d.datatype()? {
        Type::Array | Type::ArrayIndef => array(d, out, below),
        Type::Map | Type::MapIndef => map(d, out, below),
        Type::Tag => {
            let _ = write!(out, "{}(", d.tag()?.as_u64());
            item(d, out, below)?;
            out.push(')');
            Ok(())
        }
        _ => scalar(d, out),
    }
}

fn array(d: &mut Decoder<'_>, out: &mut String, depth: u32) -> Result<(), Error> {
    let count = d.array()?;
    out.push_str(if count.is_none() { "[_ " } else { "[" });
    each(d, out, count, |d, out| item(d, out, depth))?;
    out.push(']');
    Ok(())
}

fn map(d: &mut Decoder<'_>, out: &mut String, depth: u32) -> Result<(), Error> {
    let count = d.map()?;
    out.push_str(if count.is_none() { "{_ " } else { "{" });
    each(d, out, count, |d, out| {
        item(d, out, depth)?;
        out.push_str(": ");
        item(d, out, depth)
    })?;
    out.push('}');
    Ok(())
}

/// Calls `one` for `count` entries, or up to a break, with commas between them.
fn each<'b>(
    d: &mut Decoder<'b>,
    out: &mut String,
    count: Option<u64>,
    mut one: impl FnMut(&mut Decoder<'b>, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut seen = 0;
    while count.is_some_and(|count| seen < count) || count.is_none() && d.datatype()? != Type::Break {
        if seen > 0 {
            out.push_str(", ");
        }
        one(d, out)?;
        seen += 1;
    }
    if count.is_none() { d.skip() } else { Ok(()) }
}

fn scalar(d: &mut Decoder<'_>, out: &mut String) -> Result<(), Error> {
    let _ = match d.datatype()? {
        Type::Bool => write!(out, "{}", d.bool()?),
        Type::Null => d.null().map(|()| write!(out, "null"))?,
        Type::Undefined => d.undefined().map(|()| write!(out, "undefined"))?,
        Type::Simple => write!(out, "simple({})", d.simple()?),
        Type::F16 => write!(out, "{:?}", half(d)?),
        Type::F32 => write!(out, "{:?}", d.f32()?),
        Type::F64 => write!(out, "{:?}", d.f64()?),
        Type::String | Type::StringIndef => write!(out, "{:?}", text(d)?),
        Type::Bytes | Type::BytesIndef => write!(out, "{}", quoted(&byte_string(d)?)),
        Type::Break | Type::Unknown(_) => return Err(Error::message("no CBOR item")),
        _ => write!(out, "{}", d.int()?),
    };
    Ok(())
}

fn text(d: &mut Decoder<'_>) -> Result<String, Error> {
    d.str_iter()?.collect()
}

fn byte_string(d: &mut Decoder<'_>) -> Result<Vec<u8>, Error> {
    Ok(d.bytes_iter()?.collect::<Result<Vec<_>, _>>()?.concat())
}

fn quoted(bytes: &[u8]) -> String {
    let printable = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'\'' | b'\\');
    if !bytes.is_empty() && bytes.iter().all(printable) {
        return format!("'{}'", String::from_utf8_lossy(bytes));
    }
    let mut out = String::from("h'");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
    out
}

/// A number of 16 bits (IEEE 754 binary16): sign, five bits of exponent, ten of fraction.
fn half(d: &mut Decoder<'_>) -> Result<f32, Error> {
    let at = d.position();
    let Some(&[high, low]) = d.input().get(at + 1..at + 3) else {
        return Err(Error::end_of_input());
    };
    d.set_position(at + 3);
    let bits = u16::from_be_bytes([high, low]);
    let fraction = f32::from(bits & 0x3ff);
    let size = match bits >> 10 & 0x1f {
        0 => fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        exponent => (fraction + 1024.0) * 2f32.powi(i32::from(exponent) - 25),
    };
    Ok(if bits >> 15 == 1 { -size } else { size })
}
