//! Files of /proc: their length is not known before, and each read makes the kernel write the text anew, so they are read
//! in one go where that can be.

use abi::Fault;
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

/// Enough for nearly every file of /proc; larger ones take more and larger reads.
const ENOUGH: usize = 4096;

/// The most at once: who asks a file of /proc/sys for 4 MiB is told that there is not so much memory (fs/proc/proc_sysctl.c).
const MOST: usize = 1 << 20;

thread_local! {
    /// What a thread reads into. To clear, and to have brought into memory, takes longer than most texts do.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// From so many on a second thread looks at half of them.
const MANY: usize = 64;

/// Looks at each of them, in any order; what is seen comes in theirs.
pub fn each<I: Sync, T: Send + Sync>(all: &[I], look: impl Fn(&I) -> T + Sync) -> Vec<T> {
    by_halves(all, all.len() >= MANY, look)
}

/// The same, where it may be much work although they are few.
pub fn by_halves<I: Sync, T: Send + Sync>(all: &[I], is_much: bool, look: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let seen: Vec<OnceLock<T>> = all.iter().map(|_| OnceLock::new()).collect();
    beside(all.len(), is_much, &|n| _ = seen[n].set(look(&all[n])));
    seen.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Does all of so many, the second half beside the first if they are much work.
fn beside(count: usize, is_much: bool, work: &(dyn Fn(usize) + Sync)) {
    let half = if is_much { count / 2 } else { count };
    two(half < count, &|| (half..count).for_each(work), &mut || (0..half).for_each(work));
}

/// Does both, the first in a thread of its own if they are much work.
fn two(is_much: bool, first: &(dyn Fn() + Sync), second: &mut dyn FnMut()) {
    thread::scope(|scope| {
        let begin = || thread::Builder::new().spawn_scoped(scope, first).ok();
        let beside = if is_much { begin() } else { None };
        second();
        beside.map_or_else(first, |thread| thread.join().expect("a bug ends us at once"));
    });
}

/// Gives both; where that is much work, the first is found by a thread of its own, beside the second.
pub fn both<A: Send + Sync, B>(is_much: bool, first: impl Fn() -> A + Sync, second: impl Fn() -> B) -> (A, B) {
    let (mut found, seen) = (None, OnceLock::new());
    two(is_much, &|| _ = seen.set(first()), &mut || found = Some(second()));
    seen.into_inner().zip(found).expect("both were done")
}

/// The numbers below a directory of /proc: of processes, threads, descriptors. None where it may not be read.
pub fn numbers(path: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The text of a file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    read_by(path.as_ref(), |file| all_of(file, |n| n == 0))
}

/// The text of a file that is one record: a read that has room left has all of it (fs/seq_file.c, `single_open`).
pub fn read_record(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    read_by(path.as_ref(), record_of)
}

fn read_by(path: &Path, all: impl Fn(File) -> std::io::Result<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    let fault = |call: &str, e: std::io::Error| Fault::new(call, path.display(), e);
    let file = File::open(path).map_err(|e| fault("open", e))?;
    all(file).map_err(|e| fault("read", e))
}

/// The text of a table; see [`table_of`].
pub fn read_table(path: impl AsRef<Path>) -> Result<Vec<u8>, Fault> {
    read_by(path.as_ref(), table_of)
}

/// The text of a file that is one record, likewise.
pub fn record_of(file: File) -> std::io::Result<Vec<u8>> {
    all_of(file, |n| n < ENOUGH)
}

/// The text of a table, as those of /proc/net. Who reads behind its end makes the kernel look through all of it once more
/// (net/ipv4/tcp_ipv4.c, `tcp_seq_start`), which takes milliseconds. A read ends where a line finds no room in a page
/// (fs/seq_file.c, `seq_read_iter`), and no line is as long as half of one, so a read that leaves that was the last.
pub fn table_of(file: File) -> std::io::Result<Vec<u8>> {
    all_of(file, |n| n < ENOUGH / 2)
}

/// Reads on until a read that gave so many bytes was the last. Most of them are kept for long: no longer than they are.
fn all_of(mut file: File, is_last: impl Fn(usize) -> bool) -> std::io::Result<Vec<u8>> {
    ROOM.with_borrow_mut(|room| {
        let mut filled = 0;
        loop {
            // One that ends for want of room would be taken for the last.
            if room.len() - filled < ENOUGH {
                room.resize(ENOUGH.max(filled) * 8, 0);
            }
            let end = room.len().min(filled + MOST);
            let last = file.read(&mut room[filled..end])?;
            filled += last;
            if is_last(last) {
                return Ok(room[..filled].to_vec());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_long_text_is_no_hindrance_to_a_short_one() {
        let long = "x".repeat(MOST * 9);
        let path = std::env::temp_dir().join(format!("cryopid-long-{}", std::process::id()));
        std::fs::write(&path, &long).expect("room");
        let text = read(&path);
        std::fs::remove_file(&path).expect("it is there");
        assert!(text.expect("its text") == long.as_bytes());
        assert_eq!(read("/proc/sys/kernel/random/boot_id").expect("an id").len(), 37);
    }

    /// A table far longer than one read or one room for it, as that of a server with hundreds of connections.
    #[test]
    fn a_long_table_has_all_of_its_lines() {
        let sockets: Vec<_> = (0..900).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
        let text = File::open("/proc/net/udp").and_then(table_of).expect("the table");
        let text = String::from_utf8(text).expect("letters");
        for socket in &sockets {
            let port = socket.local_addr().expect("a name").port();
            assert!(text.contains(&format!(" 0100007F:{port:04X} 00000000:0000 ")), "no line of port {port}");
        }
    }
}
