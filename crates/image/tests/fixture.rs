//! Images of every format that ever was must load for ever. See fixtures/README.md.

mod common;

use image::{Extent, Header, Image, Need, Tag};

const V1: &[u8] = include_bytes!("fixtures/v1.cryo");
const V1_LATE: &[u8] = include_bytes!("fixtures/v1-late.cryo");

#[test]
fn format_1_loads() {
    let image = Image::open(V1).unwrap();
    image.verify(&mut |_, _| ()).unwrap();
    let header = Header { version: 1, processes: 3, ..common::header() };
    assert_eq!(image.header(), &header);
    assert_eq!(&V1[..image.stub_len() as usize], b"#!/bin/false\n");

    let [counter, extents, unknown] = image.records() else { panic!("{:?}", image.records()) };
    assert_eq!((counter.tag, counter.id, counter.need), (Tag(6), 1, Need::Must));
    assert_eq!(counter.decode::<(u64, bool)>().unwrap(), (u64::MAX, true));
    assert_eq!((unknown.tag, unknown.id, unknown.need), (Tag(0xfff0), 3, Need::May));
    assert_eq!(image::diagnostic(unknown), "0xfff0 #3: \"kept, and not known\"");

    let extents: Vec<Extent> = extents.decode().unwrap();
    assert_eq!(extents, [Extent { at: 0x7fff_0000_1000, len: 4096, offset: 8192 }]);
    let mut page = [0; 4096];
    image.read_at(extents[0].offset, &mut page).unwrap();
    assert_eq!(page, [0xa5; 4096]);
}

#[test]
fn format_1_with_a_late_section_loads() {
    let image = Image::open(V1_LATE).unwrap();
    image.verify(&mut |_, _| ()).unwrap();
    assert_eq!(image.late().unwrap().unwrap(), b"known later");
    assert_eq!(image.records()[0].decode::<String>().unwrap(), "known before");
}
