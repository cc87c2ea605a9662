//! Error numbers, and the one error that the kernel gives us: a call it refused.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An error number of the kernel (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal;)*) => {
        #[allow(missing_docs)]
        impl Errno { $(pub const $name: Errno = Errno($number);)* }
        impl Errno {
            /// The symbol of the number, as in errno(3), when it is a known one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }
            /// What the number means, in the words of strerror(3).
            pub const fn text(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "unknown error" }
            }
        }
    };
}

errnos! {
    EPERM 1 "operation not permitted";
    ENOENT 2 "no such file or directory";
    ESRCH 3 "no such process";
    EINTR 4 "interrupted system call";
    EIO 5 "input/output error";
    ENXIO 6 "no such device or address";
    E2BIG 7 "argument list too long";
    ENOEXEC 8 "exec format error";
    EBADF 9 "bad file descriptor";
    ECHILD 10 "no child processes";
    EAGAIN 11 "resource temporarily unavailable";
    ENOMEM 12 "cannot allocate memory";
    EACCES 13 "permission denied";
    EFAULT 14 "bad address";
    EBUSY 16 "device or resource busy";
    EEXIST 17 "file exists";
    EXDEV 18 "invalid cross-device link";
    ENODEV 19 "no such device";
    ENOTDIR 20 "not a directory";
    EISDIR 21 "is a directory";
    EINVAL 22 "invalid argument";
    ENFILE 23 "too many open files in system";
    EMFILE 24 "too many open files";
    ENOTTY 25 "inappropriate ioctl for device";
    ETXTBSY 26 "text file busy";
    EFBIG 27 "file too large";
    ENOSPC 28 "no space left on device";
    ESPIPE 29 "illegal seek";
    EROFS 30 "read-only file system";
    EPIPE 32 "broken pipe";
    ERANGE 34 "numerical result out of range";
    ENAMETOOLONG 36 "file name too long";
    ENOSYS 38 "function not implemented";
    ELOOP 40 "too many levels of symbolic links";
    EIDRM 43 "identifier removed";
    EBADMSG 74 "bad message";
    EOVERFLOW 75 "value too large for defined data type";
    EBADFD 77 "file descriptor in bad state";
    ENOPROTOOPT 92 "protocol not available";
    EOPNOTSUPP 95 "operation not supported";
    EADDRINUSE 98 "address already in use";
    EADDRNOTAVAIL 99 "cannot assign requested address";
    ENOTCONN 107 "transport endpoint is not connected";
    ETIMEDOUT 110 "connection timed out";
    ECONNREFUSED 111 "connection refused";
    EINPROGRESS 115 "operation now in progress";
    EDQUOT 122 "disk quota exceeded";
}

impl Errno {
    /// The value of a return register: an error when it lies in -4095..=-1.
    pub const fn from_raw(raw: u64) -> Result<u64, Errno> {
        let signed = raw as i64;
        if signed < 0 && signed >= -4095 { Err(Errno(-signed as i32)) } else { Ok(raw) }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.text()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Errno(e.raw_os_error().unwrap_or(Errno::EIO.0))
    }
}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> Self {
        std::io::Error::from_raw_os_error(e.0)
    }
}

/// The kernel said no: which call, on or in what, and the error. Exit status 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// The call with its arguments, as far as they tell something: `openat("/etc/passwd", O_RDONLY)`.
    pub call: String,
    /// The process, file or thing that it was about.
    pub whom: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Fault {
    /// A fault of `call` about `whom`.
    pub fn new(call: impl Into<String>, whom: impl fmt::Display, errno: impl Into<Errno>) -> Self {
        Fault { call: call.into(), whom: whom.to_string(), errno: errno.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.whom, self.call, self.errno)
    }
}

impl std::error::Error for Fault {}
