//! Writes the image of tests/fixtures/v1.cryo to standard output.

use image::{Extent, Header, Need, Tag, Writer};
use std::io;

fn main() -> io::Result<()> {
    let header = Header {
        tool: "cryopid 0.1.0".into(),
        machine: "x86_64".into(),
        kernel: "6.18.0".into(),
        page_size: 4096,
        created: 1_700_000_000,
        name: "irssi".into(),
        pid: 4711,
        processes: 3,
        ..Header::default()
    };
    let mut writer = Writer::new(io::stdout().lock(), &b"#!/bin/false\n"[..], &header)?;
    let offset = writer.pages(&[0xa5; 4096])?;
    writer.record(Tag(6), 1, Need::Must, &(18_446_744_073_709_551_615u64, true))?;
    let extents = [Extent { at: 0x7fff_0000_1000, len: 4096, offset }];
    writer.record(Tag(7), 2, Need::Must, &extents)?;
    writer.record(Tag(0xfff0), 3, Need::May, &"kept, and not known")?;
    writer.finish().map(drop)
}
