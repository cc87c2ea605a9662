//! What is written is read again: through memory, files and pipes, in one piece or many.

mod common;

use common::*;
use image::{Extent, Header, Image, Need, OpenError, PAGE, PageBuffer, Section, Source, Tag, Writer, stub, stub_len};
use proptest::prelude::*;
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

#[derive(Clone, Debug)]
enum Piece {
    Pages(usize, u8),
    Record(u16, u32, Need, Vec<u8>),
}

fn piece() -> impl Strategy<Value = Piece> {
    let need = prop_oneof![Just(Need::Must), Just(Need::May)];
    let body = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (0usize..5, any::<u8>()).prop_map(|(count, byte)| Piece::Pages(count, byte)),
        (any::<u16>(), any::<u32>(), need, body).prop_map(|(t, i, n, b)| Piece::Record(t, i, n, b)),
    ]
}

/// Pages that differ from each other and from those of other seeds.
fn pages(count: usize, seed: u8) -> Vec<u8> {
    (0..count * PAGE as usize).map(|i| (i / 4096) as u8 ^ (i as u8).wrapping_mul(31) ^ seed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_and_pages(
        stub in prop::collection::vec(any::<u8>(), 0..9000),
        pieces in prop::collection::vec(piece(), 0..20),
        name in ".{0,40}",
        pid: u32,
    ) {
        let header = Header { name, pid, ..header() };
        let mut writer = Writer::new(Vec::new(), stub.as_slice(), &header).unwrap();
        let mut placed = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Pages(count, seed) => placed.push(writer.pages(&pages(*count, *seed)).unwrap()),
                Piece::Record(tag, id, need, body) => writer.record(Tag(*tag), *id, *need, body).unwrap(),
            }
        }
        let (file, len) = writer.finish().unwrap();
        prop_assert_eq!(len, file.len() as u64);
        prop_assert_eq!(stub_len(&file).unwrap(), stub.len() as u64);
        prop_assert_eq!(&file[..stub.len()], &stub);

        let image = Image::open(file).unwrap();
        image.verify(&mut |_, _| ()).unwrap();
        prop_assert_eq!(image.header(), &header);
        let mut records = image.records().iter();
        let mut placed = placed.into_iter();
        for piece in &pieces {
            match piece {
                Piece::Pages(count, seed) => {
                    let (offset, expected) = (placed.next().unwrap(), pages(*count, *seed));
                    let mut found = vec![0; expected.len()];
                    prop_assert_eq!(offset % PAGE, 0);
                    image.read_at(offset, &mut found).unwrap();
                    prop_assert_eq!(found, expected);
                }
                Piece::Record(tag, id, need, body) => {
                    let record = records.next().unwrap();
                    prop_assert_eq!((record.tag, record.id, record.need), (Tag(*tag), *id, *need));
                    prop_assert_eq!(&record.decode::<Vec<u8>>().unwrap(), body);
                }
            }
        }
        prop_assert!(records.next().is_none());
    }
}

/// A checksum that a reader would not find is no checksum: `progress` counts every byte once.
#[test]
fn progress_counts_every_byte() {
    let image = Image::open(small(&elf())).unwrap();
    let mut last = 0;
    image
        .verify(&mut |done, total| {
            assert!(done > last && total == image.total());
            last = done;
        })
        .unwrap();
    assert_eq!(last, image.total());
}

#[test]
fn large_pages_are_split_and_stand_together() {
    const MIB: usize = 1 << 20;
    let data = pages(40 * MIB / 4096, 3);
    let mut writer = Writer::new(Vec::new(), elf().as_slice(), &header()).unwrap();
    let first = writer.pages(&data[..4096]).unwrap();
    let rest = writer.pages(&data[4096..]).unwrap();
    assert_eq!(rest, first + 4096);
    let (file, _) = writer.finish().unwrap();
    assert!(file[first as usize..][..data.len()] == data);

    let image = Image::open(file.clone()).unwrap();
    image.verify(&mut |_, _| ()).unwrap();
    let all = image.sections().iter().filter(|s| s.tag == Section::PAGES);
    let lens: Vec<_> = all.map(|s| s.len as usize / MIB).collect();
    assert_eq!(lens, [16, 16, 8]);

    let mut file = file;
    file[first as usize + 39 * MIB] ^= 0x80;
    let image = Image::open(file).unwrap();
    let mut done = 0;
    image.verify(&mut |n, _| done = n).unwrap_err();
    // The sections before the one that is damaged are whole.
    assert!(done >= first + (32 * MIB) as u64, "{done}");
}

/// Notes which addresses it is asked to write.
#[derive(Default)]
struct Noting(Vec<(*const u8, usize)>);

impl Write for Noting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.push((buf.as_ptr(), buf.len()));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn large_pages_are_written_from_where_they_are() {
    let data = vec![1; 8 << 20];
    let mut writer = Writer::new(Noting::default(), &b"stub"[..], &header()).unwrap();
    writer.pages(&data).unwrap();
    let (Noting(writes), _) = writer.finish().unwrap();
    let range = data.as_ptr_range();
    let direct: usize = writes.iter().filter(|(at, _)| range.contains(at)).map(|(_, len)| len).sum();
    assert_eq!(direct, data.len());
    assert!(writes.len() < 40, "{} writes", writes.len());
}

#[test]
fn small_pages_are_gathered() {
    let mut writer = Writer::new(Noting::default(), &b"stub"[..], &header()).unwrap();
    for _ in 0..1024 {
        writer.pages(&[2; 4096]).unwrap();
    }
    let (Noting(writes), _) = writer.finish().unwrap();
    assert!(writes.len() < 72, "{} writes", writes.len());
}

#[test]
fn through_a_pipe() {
    let (mut reader, pipe) = io::pipe().unwrap();
    let data = pages(700, 9);
    let file = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::new(pipe, &b"stub"[..], &header()).unwrap();
            writer.pages(&data).unwrap();
            writer.record(Tag(1), 1, Need::Must, &1u8).unwrap();
            drop(writer.finish().unwrap());
        });
        let mut file = Vec::new();
        io::Read::read_to_end(&mut reader, &mut file).unwrap();
        file
    });
    let image = Image::open(file).unwrap();
    image.verify(&mut |_, _| ()).unwrap();
    assert!(image.source()[8192..][..data.len()] == data);
    assert_eq!(image.records().len(), 1);
}

fn scratch(name: &str) -> File {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    options.unwrap()
}

#[test]
fn parts_are_written_by_whoever_is_there() {
    let data = pages(2000, 4);
    let image = |beside: bool| {
        let mut writer = Writer::new(Vec::new(), elf().as_slice(), &header()).unwrap();
        let mut at = vec![writer.pages(&data[..8192]).unwrap()];
        if beside {
            writer.beside(1 << 20);
        }
        for chunk in data.chunks(1 << 20) {
            let mut buffer = PageBuffer::new(1 << 20);
            buffer[..chunk.len()].copy_from_slice(chunk);
            at.push(writer.next_pages());
            // All but its second page.
            writer.parts(&mut buffer, vec![0..4096, 8192..chunk.len()]).unwrap();
            assert_eq!(buffer.len(), 1 << 20);
        }
        at.push(writer.pages(&data[..4096]).unwrap());
        (writer.finish().unwrap().0, at)
    };
    let (here, at) = image(false);
    assert!((here.clone(), at.clone()) == image(true));
    Image::open(here.clone()).unwrap().verify(&mut |_, _| ()).unwrap();
    for (n, chunk) in data.chunks(1 << 20).enumerate() {
        let start = at[n + 1] as usize;
        assert!(here[start..start + 4096] == chunk[..4096]);
        assert!(here[start + 4096..at[n + 2] as usize] == chunk[8192..]);
    }
}

/// A disk with that much room.
#[derive(Debug)]
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_is_told_soon_and_at_the_latest_at_the_end() {
    for room in [1 << 20, 3 << 20, 10 << 20] {
        let mut writer = Writer::new(Full(room), elf().as_slice(), &header()).unwrap();
        writer.beside(1 << 20);
        let mut buffer = PageBuffer::new(1 << 20);
        let told =
            (0..100).map(|_| writer.parts(&mut buffer, vec![0..1 << 19, 1 << 19..1 << 20])).position(|r| r.is_err());
        assert!(told.is_some_and(|n| n < (room >> 20) + 5), "{told:?}");
        writer.finish().unwrap_err();
    }
    let mut writer = Writer::new(Full(100_000), elf().as_slice(), &header()).unwrap();
    writer.beside(1 << 20);
    writer.parts(&mut PageBuffer::new(1 << 20), vec![0..1 << 19, 1 << 19..1 << 20]).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn an_image_is_not_the_stub_of_another() {
    let first = small(&elf());
    let mut writer = Writer::new(Vec::new(), stub(&first).unwrap(), &header()).unwrap();
    writer.pages(&[1; 4096]).unwrap();
    let (second, _) = writer.finish().unwrap();
    assert_eq!(stub_len(&second).unwrap(), 128);
    assert_eq!(second[..128], elf());
    let mut bare = Vec::new();
    stub(&elf()).unwrap().read_to_end(&mut bare).unwrap();
    assert_eq!(bare, elf());
    let error = stub_len(&first[..9000].to_vec()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

struct Counting(File, Cell<u32>);

impl Source for Counting {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.set(self.1.get() + 1);
        Source::read_exact_at(&self.0, buf, offset)
    }
}

#[test]
fn a_bare_program_costs_one_read() {
    let program = || File::open(std::env::current_exe().unwrap()).unwrap();
    let counting = Counting(program(), Cell::new(0));
    assert!(stub_len(&counting).unwrap() > 4096);
    assert_eq!(counting.1.get(), 1);
    assert!(matches!(Image::open(program()), Err(OpenError::NotAnImage)));
}

#[test]
fn what_is_written_when_the_image_stands() {
    let (empty, late) = with_room();
    assert_eq!(Image::open(&empty).unwrap().late().unwrap(), None);
    for bytes in [&b""[..], b"typed", &[0; 4080]] {
        let frame = late.frame(bytes).unwrap();
        let mut file = empty.clone();
        write_late(&mut file, late, &frame);
        check(&file).unwrap();
        assert_eq!(Image::open(&file).unwrap().late().unwrap().unwrap(), bytes);
        // A write that did not come to its end, but for zeros that stand there already.
        let mut torn = empty.clone();
        write_late(&mut torn, late, &frame[..15]);
        let image = Image::open(&torn).unwrap();
        image.verify(&mut |_, _| ()).unwrap();
        image.late().unwrap_err();
    }
    assert_eq!(late.frame(&[0; 4081]), None);
    assert_eq!(Image::open(small(&elf())).unwrap().late().unwrap(), None);
}

#[test]
fn an_image_with_this_program_as_its_stub() {
    let program = File::open(std::env::current_exe().unwrap()).unwrap();
    let len = program.metadata().unwrap().len();
    let mut writer = Writer::new(scratch("self"), stub(&program).unwrap(), &header()).unwrap();
    writer.record(Tag(1), 1, Need::Must, &"x").unwrap();
    let (file, _) = writer.finish().unwrap();
    let counting = Counting(file, Cell::new(0));
    let image = Image::open(counting).unwrap();
    assert_eq!(image.source().1.get(), 5, "head, trailer, index, header, records");
    image.verify(&mut |_, _| ()).unwrap();
    assert_eq!(image.stub_len(), len);
}

#[test]
fn records_tell_what_is_wrong_with_them() {
    let image = Image::open(small(&elf())).unwrap();
    let error = image.records()[0].decode::<String>().unwrap_err().to_string();
    assert!(error.starts_with("the image is damaged: the record 1 with tag 0x0006: "), "{error}");
    let mut long = image.records()[0].clone();
    long.body.push(0);
    let error = long.decode::<u64>().unwrap_err().to_string();
    assert!(error.ends_with("1 bytes follow its value"), "{error}");
}

#[test]
fn a_body_that_cannot_be_encoded_leaves_nothing() {
    struct Never;
    impl<C> minicbor::Encode<C> for Never {
        fn encode<W: minicbor::encode::Write>(
            &self,
            e: &mut minicbor::Encoder<W>,
            _: &mut C,
        ) -> Result<(), minicbor::encode::Error<W::Error>> {
            e.u8(1)?;
            Err(minicbor::encode::Error::message("never"))
        }
    }
    let mut writer = Writer::new(Vec::new(), &b"stub"[..], &header()).unwrap();
    writer.record(Tag(1), 1, Need::Must, &Never).unwrap_err();
    writer.record(Tag(2), 2, Need::Must, &2u8).unwrap();
    let image = Image::open(writer.finish().unwrap().0).unwrap();
    assert_eq!(image.records().len(), 1);
    assert_eq!(image.records()[0].decode::<u8>().unwrap(), 2);
}

#[test]
fn extents_are_small_and_additive() {
    let extent = Extent { at: 1, len: 2, offset: 3 };
    let bytes = minicbor::to_vec(extent).unwrap();
    assert_eq!(bytes, [0xa3, 0, 1, 1, 2, 2, 3]);
    let later = [0xa4, 0, 1, 1, 2, 2, 3, 9, 0x61, b'x'];
    assert_eq!(minicbor::decode::<Extent>(&later).unwrap(), extent);
    assert_eq!(minicbor::to_vec(Tag(6)).unwrap(), [6]);
    assert_eq!(minicbor::decode::<Header>(&[0xa1, 0, 1]).unwrap(), Header::default());
}
