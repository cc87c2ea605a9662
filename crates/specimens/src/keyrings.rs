//! Keyrings with keys in them, or with what a login puts there.

use crate::life::Living;
use crate::sys::{must, same};

const JOIN_SESSION: u64 = 1;
const UNLINKED_SEARCH: u64 = 10;
const LINK: u64 = 8;
const THREAD: i64 = -1;
const PROCESS: i64 = -2;
const SESSION: i64 = -3;
const USER: i64 = -4;

fn keyctl(what: u64, arguments: [u64; 3]) -> Result<i64, String> {
    let [a, b, c] = arguments;
    // SAFETY: the callers give integers, or addresses of C strings.
    must("keyctl", unsafe { libc::syscall(libc::SYS_keyctl, what, a, b, c, 0) })
}

fn add(keyring: i64) -> Result<i64, String> {
    let (kind, name) = (c"user".as_ptr(), c"specimen".as_ptr());
    // SAFETY: C strings and six bytes.
    must("add_key", unsafe { libc::syscall(libc::SYS_add_key, kind, name, b"secret".as_ptr(), 6, keyring) })
}

/// In which keyring a key is: of the thread, the process, or the session; `linked`: none, as after a login; `empty`: none at all.
pub(crate) fn start(arguments: &[String]) -> Result<Living, String> {
    let join = |name: *const libc::c_char| keyctl(JOIN_SESSION, [name.addr() as u64, 0, 0]);
    match arguments.first().map(String::as_str) {
        Some("thread") => add(THREAD)?,
        Some("process") => add(PROCESS)?,
        Some("session") => join(std::ptr::null()).and_then(|_| add(SESSION))?,
        Some("named") => join(c"specimen session".as_ptr()).and_then(|_| add(SESSION))?,
        Some("linked") => join(std::ptr::null()).and_then(|_| keyctl(LINK, [USER as u64, SESSION as u64, 0]))?,
        _ => join(std::ptr::null())?,
    };
    Living::reads(|_| same("a search", &true, &search().is_err()))
}

/// Another key, which is nowhere.
fn search() -> Result<i64, String> {
    let (kind, name) = (c"user".as_ptr().addr() as u64, c"no such key".as_ptr().addr() as u64);
    keyctl(UNLINKED_SEARCH, [USER as u64, kind, name])
}
