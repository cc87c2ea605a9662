//! Functions of the C library that are ours instead, as every image begins with this program: each stands before something large
//! that it has no use for. glibc gets from each what it gets where there is no such thing, and takes that for an answer. In a glibc in
//! which one of them has another name, ours is not asked, and the binary is larger.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

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
