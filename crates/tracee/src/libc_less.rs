//! Functions of the C library that are ours instead, as every image begins with this program: each stands before something large
//! that it has no use for. glibc gets from each what it gets where there is no such thing, and takes that for an answer. In a glibc in
//! which one of them has another name, ours is not asked, and the binary is larger.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr::{null, null_mut};

/// Where the stack of a thread is: not told. Rust's library asks for nothing but to say at a stack overflow that it is one (it ends by
/// SIGSEGV all the same), and takes an error for an answer. To know it for the first thread, glibc reads /proc/self/maps by sscanf(3).
// SAFETY: the signature is that of pthread_getattr_np(3); it reads and writes nothing.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_thread: usize, _attributes: *mut c_void) -> c_int {
    abi::Errno::ENOSYS.0
}

/// Messages are in English, as the locale is never set: strerror(3) needs no catalogues, which need files and other character sets.
// SAFETY: the signature is that of dcgettext(3), which in that locale gives what it gets.
#[unsafe(no_mangle)]
extern "C" fn __dcgettext(_domain: *const c_char, message: *mut c_char, _category: c_int) -> *mut c_char {
    message
}

/// What an error number means: that of glibc brings printf(3), for numbers that it does not know.
// SAFETY: the signature is that of strerror_r(3) in POSIX; the buffer has that many bytes.
#[unsafe(no_mangle)]
extern "C" fn __xpg_strerror_r(number: c_int, buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: takes a number, and gives null or a text that lasts (strerrordesc_np(3)).
    let known = unsafe { strerrordesc_np(number).as_ref().map(|text| CStr::from_ptr(text)) };
    // SAFETY: the caller's buffer.
    unsafe { put(known.unwrap_or(c"unknown error"), buffer, size) };
    0
}

// SAFETY: the signature is that of strerrordesc_np(3).
unsafe extern "C" {
    fn strerrordesc_np(number: c_int) -> *const c_char;
}

/// Puts a text into a buffer, as much as there is room for.
///
/// # Safety
/// The buffer has that many bytes.
unsafe fn put(text: &CStr, buffer: *mut c_char, size: usize) {
    if let Some(most) = size.checked_sub(1) {
        let len = text.count_bytes().min(most);
        // SAFETY: the caller's promise; a text that lasts is not in a buffer.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, len) };
        // SAFETY: there is one byte more than the text takes.
        unsafe { *buffer.add(len) = 0 };
    }
}

/// A static program has no symbols to be found. Rust's library asks for functions that a glibc may lack, and goes on without.
// SAFETY: the signature is that of dlsym(3); null is what it gives then.
#[unsafe(no_mangle)]
extern "C" fn dlsym(_handle: *mut c_void, _name: *const c_char) -> *mut c_void {
    null_mut()
}

/// It loads no libraries either: glibc would, for other character sets and to cancel threads.
// SAFETY: the signature is that of elf/dl-libc.c; null is what it gives where there is no such library.
#[unsafe(no_mangle)]
extern "C" fn __libc_dlopen_mode(_name: *const c_char, _mode: c_int) -> *mut c_void {
    null_mut()
}

// SAFETY: as above; nothing was opened in which it could be looked for.
#[unsafe(no_mangle)]
extern "C" fn __libc_dlsym(_library: *mut c_void, _name: *const c_char) -> *mut c_void {
    null_mut()
}

// SAFETY: as above; nothing was opened that could be closed.
#[unsafe(no_mangle)]
extern "C" fn __libc_dlclose(_library: *mut c_void) -> c_int {
    0
}

/// A broken invariant of glibc is told as one of ours: by itself it would do so with printf(3).
// SAFETY: the signature is that of assert/assert.c; as that, it does not come back.
#[unsafe(no_mangle)]
extern "C" fn __assert_fail(what: *const c_char, _file: *const c_char, _line: u32, _function: *const c_char) -> ! {
    // SAFETY: glibc gives a text that lasts.
    panic!("an invariant of the C library: {:?}", unsafe { CStr::from_ptr(what) })
}

/// The text of a failure of glibc's own, as it is: with numbers in their places it takes printf(3).
// SAFETY: the signature is that of snprintf(3) without what follows the format, which is not looked at; the buffer has that many bytes.
#[unsafe(no_mangle)]
extern "C" fn __snprintf(buffer: *mut c_char, size: usize, format: *const c_char) -> c_int {
    // SAFETY: glibc gives a text that lasts, and the buffer.
    unsafe { put(CStr::from_ptr(format), buffer, size) };
    0
}

/// What is known of the machine and its limits: the size of a page, and of nothing else is there a limit that could be told.
// SAFETY: the signature is that of sysconf(3); it reads and writes nothing.
#[unsafe(no_mangle)]
extern "C" fn sysconf(name: c_int) -> c_long {
    if name == libc::_SC_PAGESIZE { abi::consts::mmap::PAGE as c_long } else { -1 }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn __sysconf(name: c_int) -> c_long {
    sysconf(name)
}

/// How many processors: malloc(3) has up to eight heaps for each, and more threads than that share them. Else glibc would read it of /sys.
// SAFETY: the signature is that of get_nprocs(3); it reads and writes nothing.
#[unsafe(no_mangle)]
extern "C" fn __get_nprocs() -> c_int {
    1
}

/// The name of a thread that names itself; that of another one is a file to be written.
// SAFETY: the signature is that of pthread_setname_np(3).
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(_thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the kernel reads the text, at most 16 bytes.
    if unsafe { libc::prctl(libc::PR_SET_NAME, name.addr()) } == 0 { 0 } else { abi::Errno::EINVAL.0 }
}

/// Nothing uses stdio(3). malloc(3) would, to tell of itself by malloc_stats(3) and malloc_info(3), which nobody calls, and fork(2) and
/// pthread_create(3) see to its locks: there is no stream.
// SAFETY: a word; those who would take it for a stream write to it by the functions below.
#[unsafe(no_mangle)]
static stderr: usize = 0;

/// Nothing is written to a stream.
// SAFETY: the signature is that of fprintf(3) without what follows the format, which is not looked at.
#[unsafe(no_mangle)]
extern "C" fn fprintf(_stream: *mut c_void, _format: *const c_char) -> c_int {
    -1
}

// SAFETY: the signature is that of fputs(3).
#[unsafe(no_mangle)]
extern "C" fn _IO_fputs(_text: *const c_char, _stream: *mut c_void) -> c_int {
    -1
}

// SAFETY: the signature is that of fwrite(3).
#[unsafe(no_mangle)]
extern "C" fn fwrite(_from: *const c_void, _size: usize, _count: usize, _stream: *mut c_void) -> usize {
    0
}

// SAFETY: the signature is that of libio/genops.c.
#[unsafe(no_mangle)]
extern "C" fn _IO_enable_locks() {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _IO_list_lock() {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _IO_list_unlock() {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _IO_list_resetlock() {}

// SAFETY: the signature is that of libio/genops.c: the first of all streams, which is where the end of them is, too.
#[unsafe(no_mangle)]
extern "C" fn _IO_iter_begin() -> *const c_void {
    null()
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _IO_iter_end() -> *const c_void {
    null()
}

// SAFETY: as above; nobody comes here.
#[unsafe(no_mangle)]
extern "C" fn _IO_iter_next(_at: *const c_void) -> *const c_void {
    null()
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _IO_iter_file(_at: *const c_void) -> *const c_void {
    null()
}

/// Which bytes are letters is not asked of glibc: tables of that, and with them all of its locales. Tests have them, as libtest asks who
/// the user is (getpwuid_r(3)).
#[cfg(not(debug_assertions))]
// SAFETY: the signature is that of ctype/ctype-info.c; what it would set is read by names of users and hosts, for which nobody asks.
#[unsafe(no_mangle)]
extern "C" fn __ctype_init() {}

/// No stack is to be executed.
// SAFETY: the signature is that of elf/dl-execstack.c; pthread_create(3) asks only where the program is marked so.
#[unsafe(no_mangle)]
extern "C" fn __nptl_change_stack_perm(_thread: *mut c_void) -> c_int {
    0
}

/// Where libraries would be looked for.
// SAFETY: the signature is that of elf/dl-load.c; what it would set is read when a library is loaded.
#[unsafe(no_mangle)]
extern "C" fn _dl_init_paths(
    _paths: *const c_char,
    _from: *const c_char,
    _prefix: *const c_char,
    _mask: *const c_char,
) {
}

// Nobody asks for names of hosts: what each thread has for that (resolv/res_libc.c) is a word that pthread_create(3) sets.
std::arch::global_asm!(
    ".pushsection .tbss.__libc_resp,\"awT\",@nobits",
    ".globl __libc_resp, __resp",
    ".balign 8",
    "__libc_resp:",
    "__resp:",
    ".zero 8",
    ".popsection",
);
