//! Memory of huge pages that were set apart (hugetlb). Whoever starts us sees to it that there are some.

use crate::kin;
use crate::life::Living;
use crate::mem::{Area, READ_WRITE};
use crate::sys::{self, pattern, same, same_bytes};

const HUGE: usize = 2 << 20;
const SMALL: usize = 4096;
/// MAP_HUGE_2MB (mmap(2)).
const OF_HUGE: i32 = libc::MAP_HUGETLB | libc::MAP_ANONYMOUS | 21 << 26;

fn map(pages: usize, more: i32) -> Result<Area, String> {
    Area::map(pages * HUGE, READ_WRITE, OF_HUGE | more, -1)
}

/// Fills a part, and tells what must be there.
fn fill(area: Area, from: usize, seed: u64) -> Vec<u8> {
    let bytes = pattern(seed, 3 * SMALL / 2);
    area.part(from, bytes.len()).bytes().copy_from_slice(&bytes);
    bytes
}

fn made_of(area: Area) -> Result<String, String> {
    area.line("KernelPageSize")
}

/// Private and shared memory: pages that hold something, that are read only, and that were never used.
pub(crate) fn areas(_: &[String]) -> Result<Living, String> {
    let (private, shared) = (map(3, libc::MAP_PRIVATE)?, map(2, libc::MAP_SHARED)?);
    let unused = map(1, libc::MAP_PRIVATE | libc::MAP_NORESERVE)?;
    let (first, second) = (fill(private, SMALL / 2, 61), fill(private, 2 * HUGE - 7, 62));
    private.part(0, HUGE).protect(libc::PROT_READ)?;
    let third = fill(shared, HUGE + SMALL, 63);
    let mut round = 0;
    Living::reads(move |_| {
        for area in [private, private.part(HUGE, HUGE), shared, unused] {
            same("the size of a page", &"2048 kB".to_owned(), &made_of(area)?)?;
        }
        same_bytes("what may be read only", &first, private.part(SMALL / 2, first.len()).bytes_read())?;
        same_bytes("over the border of two", &second, private.part(2 * HUGE - 7, second.len()).bytes_read())?;
        same_bytes("shared memory", &third, shared.part(HUGE + SMALL, third.len()).bytes_read())?;
        let last = private.part(2 * HUGE + HUGE - 1, 1).bytes();
        same("the last byte", &round, &last[0])?;
        round += 1;
        last[0] = round;
        Ok(())
    })
}

/// A file of a file system of huge pages, which all see.
pub(crate) fn file(_: &[String]) -> Result<Living, String> {
    let path = format!("/dev/hugepages/cryopid-{}", std::process::id());
    let fd = sys::open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)?;
    // SAFETY: takes integers.
    sys::must("ftruncate", unsafe { libc::ftruncate(fd, 2 * HUGE as i64) })?;
    let area = Area::map(2 * HUGE, READ_WRITE, libc::MAP_SHARED, fd)?;
    sys::close(fd);
    let bytes = fill(area, HUGE - 9, 64);
    let mut round = 0;
    Living::reads(move |_| {
        round += 1;
        same("the size of a page", &"2048 kB".to_owned(), &made_of(area)?)?;
        same_bytes("over the border of two", &bytes, area.part(HUGE - 9, bytes.len()).bytes_read())?;
        area.part(5, 1).bytes()[0] = round;
        let fd = sys::open(&path, libc::O_RDWR)?;
        let other = Area::map(2 * HUGE, READ_WRITE, libc::MAP_SHARED, fd)?;
        sys::close(fd);
        same("the same byte by its name", &round, &other.part(5, 1).bytes()[0])?;
        // SAFETY: an area of our own, of which nothing is used any more.
        sys::must("munmap", unsafe { libc::munmap(other.start as *mut _, 2 * HUGE) }).map(drop)
    })
}

/// Shared memory of which a child has a part, and private memory of which the child has what it was at its birth.
pub(crate) fn family(_: &[String]) -> Result<Living, String> {
    let (private, shared) = (map(2, libc::MAP_PRIVATE)?, map(3, libc::MAP_SHARED)?);
    let before = fill(private, 100, 71);
    let child = kin::child(|| {
        // SAFETY: pages of the area; nobody here uses them.
        unsafe { libc::munmap(shared.start as *mut _, HUGE) };
        Ok(move |question: &str| match question {
            "private" => {
                same_bytes("what was there", &pattern(71, 3 * SMALL / 2), private.part(100, 3 * SMALL / 2).bytes_read())
                    .map(|()| "it is there".into())
            }
            "shared" => same("what the parent wrote", &9, &shared.part(HUGE + 5, 1).bytes_read()[0]).map(|()| {
                shared.part(2 * HUGE, 1).bytes()[0] = 10;
                "it was there".into()
            }),
            _ => kin::obey(question),
        })
    })?;
    let now = fill(private, 100, 72);
    same("lengths", &before.len(), &now.len())?;
    Living::reads(move |_| {
        same("the size of a page", &"2048 kB".to_owned(), &made_of(shared)?)?;
        same_bytes("private memory", &now, private.part(100, now.len()).bytes_read())?;
        child.says("private", "it is there")?;
        shared.part(HUGE + 5, 1).bytes()[0] = 9;
        child.says("shared", "it was there")?;
        same("what the child wrote", &10, &shared.part(2 * HUGE, 1).bytes_read()[0])
    })
}
