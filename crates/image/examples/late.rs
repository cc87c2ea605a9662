//! Writes the image of tests/fixtures/v1-late.cryo to standard output.

use image::{Header, Need, Tag, Writer};
use std::io::{self, Write};

fn main() -> io::Result<()> {
    let header = Header { name: "irssi".into(), pid: 4711, processes: 1, ..Header::default() };
    let mut writer = Writer::new(Vec::new(), &b"#!/bin/false\n"[..], &header)?;
    let late = writer.late(4096)?;
    writer.record(Tag(6), 1, Need::Must, &"known before")?;
    let (mut file, _) = writer.finish()?;
    let frame = late.frame(b"known later").expect("there is room");
    file[late.offset as usize..][..frame.len()].copy_from_slice(&frame);
    io::stdout().lock().write_all(&file)
}
