//! A function of the C library that is ours instead, as every image begins with this program.

use std::ffi::{c_int, c_void};

/// Where the stack of a thread is: not told. Rust's library asks for nothing but to say at a stack overflow that it is one (it ends by
/// SIGSEGV all the same), and takes an error for an answer. To know it for the first thread, glibc reads /proc/self/maps by sscanf(3),
/// for which the binary would be a thirtieth larger.
// SAFETY: the signature is that of pthread_getattr_np(3); it reads and writes nothing.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_thread: usize, _attributes: *mut c_void) -> c_int {
    abi::Errno::ENOSYS.0
}
