//! Device numbers, of which Linux knows three encodings.

/// The number of a device as libc and stat(2) have it on 64-bit machines: bits 8 to 19 and 44 up are the major number
/// (sys/sysmacros.h, `makedev`).
pub const fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & !0xff) << 12 | minor & 0xff
}

/// The major number of a device as stat(2) tells it (sys/sysmacros.h, `major`).
pub const fn major(dev: u64) -> u32 {
    ((dev >> 32 & 0xffff_f000) | (dev >> 8 & 0xfff)) as u32
}

/// The minor number of a device as stat(2) tells it (sys/sysmacros.h, `minor`).
pub const fn minor(dev: u64) -> u32 {
    ((dev >> 12 & 0xffff_ff00) | (dev & 0xff)) as u32
}

/// A device number in 32 bits, as `tty_nr` in /proc/PID/stat has it (include/linux/kdev_t.h).
pub const fn new_encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// Major and minor number of a device number in 32 bits (include/linux/kdev_t.h).
pub const fn new_decode_dev(dev: u32) -> (u32, u32) {
    ((dev & 0xf_ff00) >> 8, (dev & 0xff) | (dev >> 12 & 0xf_ff00))
}

/// Major and minor number of a device as the kernel itself has it: 12 and 20 bits (include/linux/kdev_t.h, `MAJOR`,
/// `MINOR`). The `sdev` of fdinfo is one.
pub const fn kernel_dev(dev: u64) -> (u32, u32) {
    ((dev >> 20) as u32, (dev & 0xf_ffff) as u32)
}
