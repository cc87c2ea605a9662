//! A small image, and its parts by the numbers of docs/format.md, so that the document is tested too.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

use image::{Header, Image, Late, Need, OpenError, Tag, Writer};
use xxhash_rust::xxh3::xxh3_64;

pub const INDEX: usize = 16;
pub const INDEX_SUM: usize = 24;

pub fn header() -> Header {
    Header {
        tool: "cryopid 0.1.0".into(),
        machine: "x86_64".into(),
        kernel: "6.18.0".into(),
        page_size: 4096,
        created: 1_700_000_000,
        name: "irssi".into(),
        pid: 4711,
        processes: 2,
        ..Header::default()
    }
}

/// The smallest thing that has the length of an ELF file: a header, and one section header after it.
pub fn elf() -> Vec<u8> {
    let mut stub = vec![0; 128];
    stub[..6].copy_from_slice(b"\x7fELF\x02\x01");
    stub[40] = 64;
    stub[58] = 64;
    stub[60] = 1;
    stub[100] = 0xee;
    stub
}

/// Stub, header, one page, three records.
pub fn small(stub: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), stub, &header()).unwrap();
    writer.pages(&[0x5a; 4096]).unwrap();
    writer.record(Tag(6), 1, Need::Must, &7u64).unwrap();
    writer.record(Tag(6), 2, Need::Must, &"seven").unwrap();
    writer.record(Tag(0x7777), 3, Need::May, &[1u8, 2, 3]).unwrap();
    writer.finish().unwrap().0
}

/// Stub, header, room of one page for what comes late, one record.
pub fn with_room() -> (Vec<u8>, Late) {
    let mut writer = Writer::new(Vec::new(), &b"stub"[..], &header()).unwrap();
    let late = writer.late(4096).unwrap();
    writer.record(Tag(6), 1, Need::Must, &7u64).unwrap();
    (writer.finish().unwrap().0, late)
}

/// Writes at the beginning of that room.
pub fn write_late(file: &mut [u8], late: Late, bytes: &[u8]) {
    file[late.offset as usize..][..bytes.len()].copy_from_slice(bytes);
}

/// Opens and checks everything.
pub fn check(file: &[u8]) -> Result<(), OpenError> {
    let image = Image::open(file)?;
    image.verify(&mut |_, _| ())?;
    Ok(image.late().map(drop)?)
}

pub fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

pub fn put(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Where the trailer begins.
pub fn trailer(file: &[u8]) -> usize {
    file.len() - 64
}

/// Where the entry `i` of the index begins.
pub fn entry(file: &[u8], i: usize) -> usize {
    u64_at(file, trailer(file) + INDEX) as usize + 32 * i
}

/// Makes all checksums right again: those of the sections, as far as they are within the file, that of the
/// index, that of the trailer.
pub fn reseal(file: &mut [u8]) {
    let (trailer, index) = (trailer(file), entry(file, 0));
    for at in (index..trailer).step_by(32) {
        let (start, len) = (u64_at(file, at + 8) as usize, u64_at(file, at + 16) as usize);
        if let Some(bytes) = start.checked_add(len).and_then(|end| file.get(start..end)) {
            let sum = xxh3_64(bytes);
            put(file, at + 24, sum);
        }
    }
    reseal_index(file);
}

pub fn reseal_index(file: &mut [u8]) {
    let (trailer, index) = (trailer(file), entry(file, 0));
    if let Some(bytes) = file.get(index..trailer) {
        let sum = xxh3_64(bytes);
        put(file, trailer + INDEX_SUM, sum);
    }
    reseal_trailer(file);
}

pub fn reseal_trailer(file: &mut [u8]) {
    let trailer = trailer(file);
    let sum = xxh3_64(&file[trailer..trailer + 48]);
    put(file, trailer + 48, sum);
}
