//! Bulk data on its way into the image: pages of memory and contents of files.

use crate::guard::may_go_on;
use crate::{Error, Output, Progress};
use abi::consts::mmap::PAGE;
use abi::{Errno, Fault};
use image::{Extent, Header, PageBuffer, Writer};
use resources::{Saved, Which};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use tracee::fault::point;
use tracee::ipc::Window;
use tracee::{Behind, Categories, Memory};

/// Bytes that are read at once. They stay in the caches until they are written: where memory is far away, as in a virtual
/// machine, to read into a buffer of megabytes takes four times as long.
const BUFFER: usize = 256 << 10;

/// From how many bytes on a thread of its own writes what is read: to wake it takes as long as to write some.
const BESIDE: u64 = 4 << 20;

/// The image that is being written, or nothing where only a look is taken.
pub(crate) struct Saver<'a> {
    writer: Option<Writer<Output>>,
    /// With the first that is appended, a thread of its own begins to write: not before, as heirs are born of one thread alone.
    begins_thread: bool,
    buffer: PageBuffer,
    /// Parts of the buffer that go into the image, and how long they are together.
    kept: Vec<Range<usize>>,
    kept_len: u64,
    /// Bytes of the buffer that hold what goes into the image together.
    filled: usize,
    progress: &'a mut dyn Progress,
    /// There is a reason against it: nothing more need be read.
    pub(crate) doomed: bool,
    /// Bytes of pages and contents so far.
    pub(crate) saved: u64,
    /// Pages of a tree that its processes may share; `None`: there is one process only.
    common: Option<Common>,
}

/// Pages that relatives have in common since fork(2), each once in the image.
struct Common {
    /// Where in the image a page is; `None`: it is one of zeroes.
    places: HashMap<Key, Option<u64>>,
    /// So that nobody can make two pages of one sum.
    seed: u64,
}

/// By what a page is known again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Its frame in the memory of the machine.
    Frame(u64),
    /// Its address and the sum of its contents, where the kernel does not tell the frame.
    Sum(u64, u128),
}

impl Common {
    fn key(&self, at: u64, frame: Option<u64>, page: &[u8]) -> Key {
        let sum = || xxhash_rust::xxh3::xxh3_128_with_seed(page, self.seed);
        frame.map_or_else(|| Key::Sum(at, sum()), Key::Frame)
    }
}

/// A run of pages that is read: address, length, and what of it is kept.
#[derive(Clone, Copy)]
struct Run {
    at: u64,
    len: usize,
    which: Which,
    sharing: Sharing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Nobody else has these pages.
    Own,
    /// A relative may have this one page, in this frame.
    Common(Option<u64>),
}

/// Runs of pages that are read together.
struct Batch {
    runs: Vec<Run>,
    len: usize,
}

/// Runs that are read together.
const PIECES: usize = 4096;

impl Batch {
    /// Reads all of them, one behind the other.
    fn read(&self, memory: &Memory, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut rest = &mut buffer[..self.len];
        let mut pieces = Vec::with_capacity(self.runs.len());
        for group in self.runs.chunk_by(Run::is_read_with) {
            let (piece, after) = rest.split_at_mut(group.iter().map(|run| run.len).sum());
            let Run { at, which, sharing, .. } = group[0];
            match which {
                // Behind the end of a file there is nothing to read, and nothing to keep.
                Which::All | Which::Unchanged => read_what_is(memory, at, piece)?,
                // process_vm_readv(2) pins pages, and for that the kernel makes what relatives share a page of its own
                // (mm/gup.c, gup_must_unshare): of a tree that runs on the memory would grow.
                _ if sharing != Sharing::Own => memory.read(at, piece)?,
                _ => pieces.push((at, piece)),
            }
            rest = after;
        }
        memory.read_vectored(&mut pieces)
    }
}

impl Run {
    /// Whether the next one continues it, and is read in the same way, a page that may be shared as another.
    fn is_read_with(&self, next: &Run) -> bool {
        let shared = |run: &Run| run.sharing != Sharing::Own;
        self.at + self.len as u64 == next.at && self.which == next.which && shared(self) && shared(next)
    }
}

/// Adds an extent to those before it, which it may continue.
fn push(into: &mut Vec<Extent>, next: Extent) {
    match into.last_mut() {
        Some(last) if last.at + last.len == next.at && last.offset + last.len == next.offset => last.len += next.len,
        _ => into.push(next),
    }
}

fn is_zero(page: &[u8]) -> bool {
    *page == [0; PAGE as usize][..page.len()]
}

impl<'a> Saver<'a> {
    pub(crate) fn new(
        output: Option<Output>,
        stub: impl io::Read,
        header: &Header,
        expected: u64,
        progress: &'a mut dyn Progress,
    ) -> io::Result<Saver<'a>> {
        let mut writer = output.map(|out| Writer::new(out, stub, header)).transpose()?;
        point().map_err(io::Error::from)?;
        if let Some(writer) = &mut writer {
            writer.flushed()?.reserve(expected);
        }
        // The buffer is brought into memory now, not while the tree stands still.
        let buffer = PageBuffer::new(BUFFER);
        Ok(Saver {
            writer,
            begins_thread: expected > BESIDE,
            buffer,
            kept: Vec::new(),
            kept_len: 0,
            filled: 0,
            progress,
            doomed: false,
            saved: 0,
            common: None,
        })
    }

    /// From here on the pages are those of relatives.
    pub(crate) fn expect_relatives(&mut self) {
        let seed = RandomState::new().build_hasher().finish();
        self.common = Some(Common { places: HashMap::new(), seed });
    }

    /// Keeps a part of the buffer, whole pages, that describe `at` on. Gives where in the image it will be.
    fn keep(&mut self, at: u64, part: Range<usize>, into: &mut Vec<Extent>) -> u64 {
        let len = part.len() as u64;
        let offset = self.writer.as_ref().map_or(self.saved, |writer| writer.next_pages() + self.kept_len);
        match self.kept.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => self.kept.push(part),
        }
        self.kept_len += len;
        self.saved += len;
        push(into, Extent { at, len, offset });
        offset
    }

    /// Appends what is kept of the buffer.
    fn append(&mut self) -> Result<(), Fault> {
        let parts = std::mem::take(&mut self.kept);
        (self.kept_len, self.filled) = (0, 0);
        self.progress.done(self.saved);
        let Some(writer) = self.writer.as_mut().filter(|_| !parts.is_empty()) else { return Ok(()) };
        if std::mem::take(&mut self.begins_thread) {
            writer.beside(BUFFER);
        }
        let written = point().map_err(io::Error::from).and_then(|()| writer.parts(&mut self.buffer, parts));
        written.map_err(|e| Fault::new("write", "the image", e))
    }

    /// Nothing of the image is being written, and we have no other thread.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        self.append()?;
        let settled = self.writer.as_mut().map_or(Ok(()), Writer::settle);
        settled.map_err(|e| Fault::new("write", "the image", e))
    }

    /// Saves the wanted pages of areas, given in ascending order.
    pub(crate) fn memory(
        &mut self,
        memory: &Memory,
        pagemap: &File,
        areas: &[(Range<u64>, Which)],
    ) -> Result<Saved, Fault> {
        let mut saved = Saved::default();
        if !self.doomed {
            let (mut runs, mut known) = (Vec::new(), Vec::new());
            let wanted = wanted(pagemap, areas, &mut saved.guards)?;
            let mut rest = &wanted[..];
            while let Some((first, ..)) = rest.first() {
                let (some, further) = rest.split_at(near(rest));
                let behind = behind_all(pagemap, some)?;
                let behind = |at: u64| behind[((at - first) / PAGE) as usize];
                some.iter().for_each(|run| runs.extend(self.pieces(*run, behind, &mut known)));
                rest = further;
            }
            self.runs(memory, runs, &mut saved.extents)?;
            if !known.is_empty() {
                known.append(&mut saved.extents);
                known.sort_unstable_by_key(|e| e.at);
                known.into_iter().for_each(|e| push(&mut saved.extents, e));
            }
        }
        Ok(saved)
    }

    /// Saves what another process shows of shared memory; the runs begin to count where the memory does.
    pub(crate) fn window(&mut self, window: &Window) -> Result<Vec<Extent>, Fault> {
        let mut extents = Vec::new();
        if !self.doomed {
            let run = |r: &Range<u64>| Run {
                at: r.start,
                len: (r.end - r.start) as usize,
                which: Which::All,
                sharing: Sharing::Own,
            };
            let runs = window.runs().iter().map(run).collect();
            self.runs(&Memory::open(window.pid())?, runs, &mut extents)?;
        }
        extents.iter_mut().for_each(|e| e.at -= window.start());
        Ok(extents)
    }

    fn runs(&mut self, memory: &Memory, runs: Vec<Run>, into: &mut Vec<Extent>) -> Result<(), Fault> {
        let mut batch = Batch { runs: Vec::new(), len: 0 };
        for Run { mut at, len, which, sharing } in runs {
            let end = at + len as u64;
            while at < end {
                let len = ((end - at) as usize).min(BUFFER - batch.len);
                batch.runs.push(Run { at, len, which, sharing });
                batch.len += len;
                at += len as u64;
                if batch.len == BUFFER || batch.runs.len() == PIECES {
                    self.flush(memory, &mut batch, into)?;
                }
            }
        }
        self.flush(memory, &mut batch, into)
    }

    /// A run, cut where pages begin or end that relatives may have too. Those that are in the image go to `known`.
    fn pieces(
        &self,
        (start, end, which): (u64, u64, Which),
        behind: impl Fn(u64) -> Behind,
        known: &mut Vec<Extent>,
    ) -> Vec<Run> {
        if !which.may_be_common() {
            return vec![Run { at: start, len: (end - start) as usize, which, sharing: Sharing::Own }];
        }
        let known_frame = |frame: u64| self.common.as_ref().and_then(|c| c.places.get(&Key::Frame(frame)));
        let mut pieces: Vec<(u64, u64, Sharing)> = Vec::new();
        for at in (start..end).step_by(PAGE as usize) {
            let next = at + PAGE;
            match (behind(at), pieces.last_mut()) {
                (Behind::Own, Some(last)) if last.1 == at && last.2 == Sharing::Own => last.1 = next,
                (Behind::Own, _) => pieces.push((at, next, Sharing::Own)),
                (Behind::Common(frame), _) => match frame.and_then(known_frame) {
                    Some(Some(offset)) => push(known, Extent { at, len: PAGE, offset: *offset }),
                    // One of zeroes, which is only kept where it differs from a file.
                    Some(None) if which == Which::Made => {}
                    _ => pieces.push((at, next, Sharing::Common(frame))),
                },
            }
        }
        let run = |(start, end, sharing)| Run { at: start, len: (end - start) as usize, which, sharing };
        pieces.into_iter().map(run).collect()
    }

    /// Reads the runs of a batch and appends what of them is to be kept.
    fn flush(&mut self, memory: &Memory, batch: &mut Batch, into: &mut Vec<Extent>) -> Result<(), Fault> {
        may_go_on("the freeze")?;
        if self.filled + batch.len > BUFFER {
            self.append()?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = batch.read(memory, &mut buffer[self.filled..]);
        if read.is_ok() {
            let mut from = self.filled;
            for run in &batch.runs {
                let data = (from, &buffer[from..from + run.len]);
                match run.sharing {
                    Sharing::Own => self.keep_run(run.at, data, run.which, into),
                    Sharing::Common(frame) => self.keep_common(run, frame, data, into),
                }
                from += run.len;
            }
            self.filled = from.next_multiple_of(PAGE as usize);
        }
        self.buffer = buffer;
        batch.runs.clear();
        batch.len = 0;
        // What is full is written while more is read; the pages of many small processes go together.
        if read.is_ok() && self.filled == BUFFER { self.append() } else { read }
    }

    /// Keeps a page that relatives may have too, if it is not in the image yet. Of the data it is told where in the buffer
    /// they are.
    fn keep_common(&mut self, run: &Run, frame: Option<u64>, (from, page): (usize, &[u8]), into: &mut Vec<Extent>) {
        let Some(common) = &self.common else { return self.keep_run(run.at, (from, page), run.which, into) };
        let at = run.at;
        let key = common.key(at, frame, page);
        let place = match common.places.get(&key).copied() {
            Some(Some(offset)) => return push(into, Extent { at, len: page.len() as u64, offset }),
            _ if run.which == Which::Made && is_zero(page) => None,
            _ => Some(self.keep(at, from..from + page.len(), into)),
        };
        self.common.as_mut().expect("there are relatives").places.insert(key, place);
    }

    /// Keeps a run, but for pages of zeroes where those need not be kept.
    fn keep_run(&mut self, at: u64, (start, data): (usize, &[u8]), which: Which, into: &mut Vec<Extent>) {
        if which == Which::Changed {
            self.keep(at, start..start + data.len(), into);
            return;
        }
        let zero: Vec<bool> = data.chunks(PAGE as usize).map(is_zero).collect();
        let mut from = 0;
        for group in zero.chunk_by(|a, b| a == b) {
            let to = (from + group.len() * PAGE as usize).min(data.len());
            if !group[0] {
                self.keep(at + from as u64, start + from..start + to, into);
            }
            from = to;
        }
    }

    /// Saves the first `size` bytes of a file, without its holes.
    pub(crate) fn file(&mut self, file: &File, size: u64) -> Result<Vec<Extent>, Fault> {
        let fault = |call: &str, e: io::Error| Fault::new(call, "a file to be kept", e);
        let mut extents = Vec::new();
        let which = if hides_holes(file, size).map_err(|e| fault("stat", e))? { Which::All } else { Which::Changed };
        let mut at = 0;
        while let Some(data) = next_data(file, at, size).map_err(|e| fault("lseek", e))? {
            let mut from = data.start / PAGE * PAGE;
            while from < data.end {
                may_go_on("the freeze")?;
                if self.filled == BUFFER {
                    self.append()?;
                }
                let (start, room) = (self.filled, BUFFER - self.filled);
                let len = ((data.end - from) as usize).min(room);
                let end = start + len.next_multiple_of(PAGE as usize);
                let got = read_up_to(file, &mut self.buffer[start..][..len], from).map_err(|e| fault("pread", e))?;
                self.buffer[start + got..end].fill(0);
                let buffer = std::mem::take(&mut self.buffer);
                self.keep_run(from, (start, &buffer[start..end]), which, &mut extents);
                (self.buffer, self.filled) = (buffer, end);
                from += (end - start) as u64;
            }
            at = from.max(data.end);
        }
        Ok(extents)
    }

    /// The writer, to be finished.
    pub(crate) fn take_writer(&mut self) -> Result<Option<Writer<Output>>, Fault> {
        self.append()?;
        Ok(self.writer.take())
    }
}

/// Reads page by page what can be read; the rest is zeroes.
fn read_what_is(memory: &Memory, at: u64, piece: &mut [u8]) -> Result<(), Fault> {
    if memory.read(at, piece).is_ok() {
        return Ok(());
    }
    for (n, page) in piece.chunks_mut(PAGE as usize).enumerate() {
        match memory.read(at + n as u64 * PAGE, page) {
            Ok(()) => {}
            Err(f) if f.errno == Errno::ESRCH => return Err(f),
            Err(_) => page.fill(0),
        }
    }
    Ok(())
}

/// The runs of pages that are to be read, ascending.
fn wanted(
    pagemap: &File,
    areas: &[(Range<u64>, Which)],
    guards: &mut Vec<Range<u64>>,
) -> Result<Vec<(u64, u64, Which)>, Fault> {
    let mut runs = Vec::new();
    let mut own_of_files: Vec<Range<u64>> = Vec::new();
    let mut swept = areas.iter().filter(|(_, which)| *which != Which::All).peekable();
    let all: Vec<Range<u64>> = swept.clone().map(|(area, _)| area.clone()).collect();
    tracee::scan(pagemap, &all, &mut |start, end, c: Categories| {
        let guard = c.has(Categories::GUARD);
        let own = !c.has(Categories::FILE) && !c.has(Categories::PFNZERO);
        if !guard && !(own && (c.has(Categories::PRESENT) || c.has(Categories::SWAPPED))) {
            return;
        }
        while swept.next_if(|(area, _)| area.end <= start).is_some() {}
        // A run may go over several areas that touch each other.
        let mut ahead = swept.clone();
        while let Some((area, which)) = ahead.next_if(|(area, _)| area.start < end) {
            let (from, to) = (start.max(area.start), end.min(area.end));
            match which {
                Which::Unchanged => own_of_files.push(from..to),
                _ if guard => guards.push(from..to),
                Which::Guards => {}
                _ => runs.push((from, to, *which)),
            }
        }
    })?;
    runs.extend(all_of(areas));
    runs.extend(unchanged(areas, &own_of_files));
    runs.sort_unstable_by_key(|(start, ..)| *start);
    Ok(runs)
}

/// How many of these runs, which ascend, are so near to each other that what stands behind them is asked at once.
fn near(runs: &[(u64, u64, Which)]) -> usize {
    const GAP: u64 = 64 * PAGE;
    const MOST: u64 = 4096 * PAGE;
    let is_near = |two: &&[(u64, u64, Which)]| two[1].0 - two[0].1 <= GAP && two[1].1 - runs[0].0 <= MOST;
    1 + runs.windows(2).take_while(is_near).count()
}

/// What stands behind the pages from the first of these runs to the last; nothing where that does not matter.
fn behind_all(pagemap: &File, runs: &[(u64, u64, Which)]) -> Result<Vec<Behind>, Fault> {
    let mut matters = runs.iter().filter(|(.., which)| which.may_be_common());
    match (runs.first(), matters.next_back()) {
        (Some((start, ..)), Some((_, end, _))) => tracee::behind(pagemap, *start, *end),
        _ => Ok(Vec::new()),
    }
}

/// The parts of areas that were not written to, `own` being those that were, ascending.
fn unchanged(areas: &[(Range<u64>, Which)], own: &[Range<u64>]) -> Vec<(u64, u64, Which)> {
    let mut runs = Vec::new();
    for (area, which) in areas.iter().filter(|(_, which)| *which == Which::Unchanged) {
        let mut from = area.start;
        let first = own.partition_point(|o| o.end <= area.start);
        for o in own[first..].iter().take_while(|o| o.start < area.end) {
            runs.push((from, o.start, *which));
            from = o.end;
        }
        runs.push((from, area.end, *which));
    }
    runs.into_iter().filter(|(from, to, _)| from < to).collect()
}

/// The areas of which everything is read.
fn all_of(areas: &[(Range<u64>, Which)]) -> Vec<(u64, u64, Which)> {
    let whole = areas.iter().filter(|(_, which)| *which == Which::All);
    whole.map(|(range, which)| (range.start, range.end, *which)).collect()
}

/// The next run of data of a file at or behind `at` (lseek(2), SEEK_DATA), or all of it where holes are not told.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::SeekFrom;
    if at >= size {
        return Ok(None);
    }
    // The offset of the description is shared with the program: it must not be moved. So each look is on a description of
    // our own, which `save_link` opens; a copy is only read by offset.
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start >= size => Ok(None),
        // Whole pages are kept, so where in its last one a hole begins says nothing.
        Ok(start) if start / PAGE == (size - 1) / PAGE => Ok(Some(start..size)),
        Ok(start) => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
            Ok(Some(start..end))
        }
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(rustix::io::Errno::INVAL) => Ok(Some(at..size)),
        Err(e) => Err(e.into()),
    }
}

/// Whether a file has holes, and its file system does not tell where (that of huge pages): there pages of zeroes are taken for them.
fn hides_holes(file: &File, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512;
    let has_holes = file.metadata()?.blocks() * BLOCK < size;
    Ok(has_holes && next_data(file, 0, size)? == Some(0..size))
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// Bytes that are CBOR already.
pub(crate) struct Encoded(pub(crate) Vec<u8>);

impl minicbor::Encode<()> for Encoded {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut (),
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.writer_mut().write_all(&self.0).map_err(minicbor::encode::Error::write)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::io("write", "the image", e)
    }
}
