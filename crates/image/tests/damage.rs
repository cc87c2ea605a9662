//! Whatever happens to a file, it is told, and nothing panics.

mod common;

use common::*;
use image::{Damage, FORMAT, Image, Need, OpenError, Part, Section, Source, Tag, stub_len};
use proptest::prelude::*;
use std::io;

fn damage(file: &[u8]) -> Damage {
    match check(file) {
        Err(OpenError::Damage(damage)) => damage,
        other => panic!("damage is not told: {other:?}"),
    }
}

#[test]
fn cut_at_every_length() {
    let file = small(&elf());
    for len in 0..file.len() {
        match check(&file[..len]) {
            // What is too short for a trailer, and what is exactly the stub, was never an image.
            Err(OpenError::NotAnImage) => assert!(len < 64 || len == 128, "{len}"),
            Err(OpenError::Damage(Damage::Cut { len: told })) => assert_eq!(told, len as u64),
            other => panic!("cut at {len}: {other:?}"),
        }
    }
}

#[test]
fn cut_behind_a_stub_that_is_no_elf_file() {
    let file = small(b"#!/bin/sh\n");
    for len in 0..file.len() {
        match check(&file[..len]) {
            Err(OpenError::NotAnImage) => assert!(len < 4096 + 8, "{len}"),
            Err(OpenError::Damage(Damage::Cut { .. })) => assert!(len >= 4096 + 8, "{len}"),
            other => panic!("cut at {len}: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for mut file in [small(&elf()), small(b"stub"), with_room().0] {
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            let result = check(&file);
            assert!(matches!(result, Err(OpenError::Damage(_))), "bit {bit}: {result:?}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
        check(&file).unwrap();
    }
}

#[test]
fn what_was_written_late_is_lost_alone() {
    let (mut file, late) = with_room();
    write_late(&mut file, late, &late.frame(b"typed").unwrap());
    for bit in 0..late.room as usize * 8 {
        let (at, bit) = (late.offset as usize + bit / 8, 1 << (bit % 8));
        file[at] ^= bit;
        let image = Image::open(&file[..]).unwrap();
        image.verify(&mut |_, _| ()).unwrap();
        let damage = image.late().unwrap_err().to_string();
        assert!(damage.contains("the checksum of the late section (4096 bytes at byte 8192) is wrong"), "{damage}");
        file[at] ^= bit;
    }
    check(&file).unwrap();
}

#[test]
fn damage_names_its_place() {
    let good = small(&elf());
    let flipped = |at: usize| {
        let mut file = good.clone();
        file[at] ^= 1;
        damage(&file)
    };
    let sum = |part, offset, len| Damage::Checksum { part, offset, len };
    assert_eq!(flipped(3), sum(Part::Section(Section::STUB), 0, 128));
    assert_eq!(flipped(128), Damage::Gap { offset: 128 });
    assert_eq!(flipped(4095), Damage::Gap { offset: 4095 });
    assert_eq!(flipped(8192), sum(Part::Section(Section::PAGES), 8192, 4096));
    let index = entry(&good, 0);
    assert_eq!(flipped(index + 4), sum(Part::Index, index as u64, 128));
    let trailer = trailer(&good);
    assert_eq!(flipped(trailer + 9), sum(Part::Trailer, trailer as u64, 64));
    assert_eq!(
        flipped(8192).to_string(),
        "the image is damaged: the checksum of the pages (4096 bytes at byte 8192) is wrong",
    );
}

#[test]
fn what_is_appended_is_found() {
    for stub in [elf(), b"stub".to_vec()] {
        let good = small(&stub);
        let end = good.len() as u64;
        for extra in (1..200).chain([4096, 10_000, 60_000]) {
            for byte in [0, b'\n', 0xff] {
                let mut file = good.clone();
                file.resize(good.len() + extra as usize, byte);
                assert_eq!(damage(&file), Damage::Appended { end, extra });
            }
        }
        let mut file = good.clone();
        file.resize(1 << 20, 1);
        assert_eq!(damage(&file), Damage::Cut { len: 1 << 20 });
        let twice = [good.clone(), good].concat();
        assert_eq!(damage(&twice), Damage::Length { said: end, found: 2 * end });
    }
}

#[test]
fn bytes_lost_in_the_middle_are_found() {
    let good = small(&elf());
    for at in (0..good.len() - 64).step_by(97) {
        let mut file = good.clone();
        file.remove(at);
        damage(&file);
    }
}

#[test]
fn other_files_are_no_images() {
    let zeros = vec![0; 100_000];
    let text = b"hello\n".repeat(5000);
    for file in [&b""[..], b"x", &elf(), &zeros, &text] {
        assert!(matches!(check(file), Err(OpenError::NotAnImage)));
        assert_eq!(stub_len(&file).unwrap(), file.len() as u64);
    }
    let mut signed = elf();
    signed.extend_from_slice(&text);
    assert!(matches!(check(&signed), Err(OpenError::NotAnImage)));
}

#[test]
fn a_later_format_is_told_from_damage() {
    let mut file = small(&elf());
    let trailer = trailer(&file);
    file[trailer + 8] = FORMAT as u8 + 1;
    assert!(matches!(check(&file), Err(OpenError::Damage(_))), "the checksum comes first");
    reseal_trailer(&mut file);
    match check(&file) {
        Err(OpenError::Newer { version }) => assert_eq!(version, u32::from(FORMAT) + 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(stub_len(&file).unwrap(), 128, "its stub is known all the same");
}

#[test]
fn a_stub_longer_than_its_file_is_not_believed() {
    let mut file = small(&elf());
    let trailer = trailer(&file);
    put(&mut file, trailer + INDEX, u64::MAX);
    put(&mut file, trailer + 40, u64::MAX - 1);
    reseal_trailer(&mut file);
    assert_eq!(stub_len(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn an_unknown_section_is_refused_only_if_it_must_be_understood() {
    let mut file = small(&elf());
    let pages = entry(&file, 2);
    file[pages] = 0x99;
    reseal(&mut file);
    match check(&file) {
        Err(OpenError::Foreign { tag: Tag(0x99), offset: 8192 }) => {}
        other => panic!("{other:?}"),
    }
    file[pages + 2] = 0;
    reseal(&mut file);
    let image = Image::open(file.as_slice()).unwrap();
    assert_eq!((image.sections()[2].tag, image.sections()[2].need), (Tag(0x99), Need::May));
    file[8192] ^= 1;
    assert!(matches!(damage(&file), Damage::Checksum { part: Part::Section(Tag(0x99)), .. }));
}

#[test]
fn foreign_records_are_kept_and_told() {
    let image = Image::open(small(&elf())).unwrap();
    let foreign = |known: u16| image.foreign(move |tag| tag == Tag(known)).count();
    assert_eq!(foreign(6), 0, "0x7777 may be unknown");
    assert_eq!(foreign(0x7777), 2);
    assert_eq!(image.records()[2].body, [0x83, 1, 2, 3]);
}

/// What is wrong with an image whose index was changed, and made right again.
fn layout(change: impl FnOnce(&mut Vec<u8>)) -> (Part, &'static str) {
    let mut file = small(&elf());
    change(&mut file);
    reseal(&mut file);
    match damage(&file) {
        Damage::Layout { part, why, .. } => (part, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sections_that_no_writer_makes() {
    let at = |i: usize, field: usize| entry(&small(&elf()), i) + field;
    let (_, why) = layout(|f| put(f, at(2, 16), u64::MAX));
    assert_eq!(why, "it does not end before the index");
    let (_, why) = layout(|f| put(f, at(3, 8), u64::MAX));
    assert_eq!(why, "it does not end before the index");
    let (_, why) = layout(|f| put(f, at(3, 8), 8192));
    assert_eq!(why, "it begins within the section before it");
    let (part, why) = layout(|f| put(f, at(2, 16), 4095));
    assert_eq!((part, why), (Part::Section(Section::PAGES), "it is not aligned"));
    let (part, _) = layout(|f| put(f, at(0, 16), 127));
    assert_eq!(part, Part::Section(Section::STUB));
    let (part, _) = layout(|f| f[at(1, 0)] = 3);
    assert_eq!(part, Part::Section(Section::RECORDS));
    let (part, why) = layout(|f| f[at(3, 0)] = 1);
    assert_eq!(part, Part::Section(Section::STUB));
    assert_eq!(why, "a stub and a header begin the file, and nothing else does");
    let (part, why) = layout(|f| {
        let end = trailer(f);
        put(f, end + INDEX, end as u64 - 32);
        f[end + 12] = 1;
    });
    assert_eq!(
        (part, why),
        (Part::Section(Section::RECORDS), "a stub and a header begin the file, and nothing else does")
    );
    let (part, why) = layout(|f| {
        let end = trailer(f);
        put(f, end + INDEX, end as u64);
        f[end + 12] = 0;
    });
    assert_eq!((part, why), (Part::Index, "it names no header"));
    let (part, why) = layout(|f| {
        let end = trailer(f);
        f[end + 12..end + 16].fill(0xff);
    });
    assert_eq!((part, why), (Part::Index, "it does not end where the trailer begins"));
}

#[test]
fn a_record_that_goes_beyond_its_section() {
    let mut file = small(&elf());
    let records = u64_at(&file, entry(&file, 3) + 8) as usize;
    file[records + 8..records + 12].fill(0xff);
    reseal(&mut file);
    match damage(&file) {
        Damage::Layout { part: Part::Section(Section::RECORDS), offset, .. } => {
            assert_eq!(offset, records as u64);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_header_that_cannot_be_understood() {
    for (at, value) in [(4096, 0), (4104, 9), (4108, 0), (4112, 0xff), (4114, 9)] {
        let mut file = small(&elf());
        file[at] = value;
        reseal(&mut file);
        assert!(matches!(damage(&file), Damage::Header { .. }), "byte {at}");
    }
}

/// A file that changes after it was opened.
struct Changing {
    before: Vec<u8>,
    after: Vec<u8>,
    now: std::cell::Cell<bool>,
}

impl Source for Changing {
    fn len(&self) -> io::Result<u64> {
        Ok(self.before.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = if self.now.get() { &self.after } else { &self.before };
        bytes.read_exact_at(buf, offset)
    }
}

#[test]
fn what_changes_after_opening_is_found() {
    let before = small(&elf());
    for at in (0..before.len()).rev().step_by(7) {
        let mut after = before.clone();
        after[at] ^= 0x10;
        let image = Image::open(Changing { before: before.clone(), after, now: false.into() }).unwrap();
        image.verify(&mut |_, _| ()).unwrap();
        image.source().now.set(true);
        assert!(image.verify(&mut |_, _| ()).is_err(), "byte {at}");
    }
}

/// Numbers that break things: any, those near the length of a file, those near the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..20_000, (0u64..3).prop_map(|n| n * 4096), u64::MAX - 100..=u64::MAX]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whoever makes all checksums right can still not make the reader panic, or read outside of the file.
    #[test]
    fn forged_images_do_no_harm(
        words in prop::collection::vec((any::<prop::sample::Index>(), number()), 0..3),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut file = small(&elf());
        let (index, len) = (entry(&file, 0), file.len());
        for (at, value) in bytes {
            // The header or the records.
            let at = at.index(100 + index - 12288);
            file[if at < 100 { 4096 + at } else { 12288 + at - 100 }] = value;
        }
        for (at, value) in words {
            // The index or the trailer.
            put(&mut file, index + at.index((len - 16 - index) / 8) * 8, value);
        }
        reseal(&mut file);
        let _ = check(&file);
        if let Ok(stub) = stub_len(&file) {
            prop_assert!(stub <= len as u64);
        }
        if let Ok(image) = Image::open(file) {
            prop_assert!(image.sections().iter().all(|s| s.end() <= len as u64));
            for record in image.records() {
                let _ = (image::diagnostic(record), record.decode::<u64>(), record.decode::<String>());
            }
        }
    }

    #[test]
    fn any_bytes_can_be_opened(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(matches!(check(&bytes), Err(OpenError::NotAnImage)));
    }
}
