//! `maps` and `smaps`: the areas of an address space.

use super::ParseError;
use super::text::{hex, next_line, split_once, unescape_octal, unsigned, words};

/// What may be done with an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Perms {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// `MAP_SHARED`: what is written is seen by others and goes to the file.
    pub shared: bool,
}

/// One area of an address space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Area {
    /// The first address.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// What may be done with it.
    pub perms: Perms,
    /// Where in the file it begins.
    pub offset: u64,
    /// The device of the file, major and minor.
    pub dev: (u32, u32),
    /// The inode number of the file; 0: no file.
    pub inode: u64,
    /// The path or `[name]`, empty for nameless memory. The kernel writes a newline as `\012` and a backslash as it is
    /// (fs/proc/task_mmu.c), so a name that really holds `\012` cannot be told: /proc/PID/map_files can.
    pub name: Vec<u8>,
    /// The two-letter codes of the `VmFlags` line; empty in `maps`.
    pub flags: Vec<[u8; 2]>,
    /// How much of it is in swap space; 0 where the file does not tell.
    pub swap_kib: u64,
    /// The size of its pages, as the kernel manages them; 0 where the file does not tell.
    pub page_kib: u64,
    /// The key that guards it (pkeys(7)); 0 guards nothing.
    pub key: u32,
}

impl Area {
    /// Whether the area has a flag: `area.has(b"gd")` for one that grows down (proc_pid_smaps(5)).
    pub fn has(&self, flag: &[u8; 2]) -> bool {
        self.flags.contains(flag)
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it: never, as the kernel makes no such area.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// Reads /proc/PID/maps: areas without flags.
pub fn maps(text: &[u8]) -> Result<Vec<Area>, ParseError> {
    parse("maps", text)
}

/// Reads /proc/PID/smaps: areas with flags.
pub fn smaps(text: &[u8]) -> Result<Vec<Area>, ParseError> {
    parse("smaps", text)
}

/// Of that text, the lines from which [`smaps`] reads: a fifth of it.
pub fn of_smaps(mut rest: &[u8]) -> Vec<u8> {
    const TOLD: [&[u8]; 4] = [b"VmFlags:", b"Swap:", b"KernelPageSize:", b"ProtectionKey:"];
    let mut told = Vec::with_capacity(rest.len() / 4);
    while let Some(line) = next_line(&mut rest) {
        let is_told = match line {
            [b'V' | b'S' | b'K' | b'P', ..] => TOLD.iter().any(|key| line.starts_with(key)),
            // What is no line of it, the reader is to see.
            [first, ..] => !first.is_ascii_uppercase(),
            [] => true,
        };
        if is_told {
            told.extend_from_slice(line);
            told.push(b'\n');
        }
    }
    told.shrink_to_fit();
    told
}

fn parse(file: &'static str, mut rest: &[u8]) -> Result<Vec<Area>, ParseError> {
    let mut areas: Vec<Area> = Vec::new();
    while let Some(line) = next_line(&mut rest) {
        match line {
            // An area begins with a small hexadecimal digit, every other line with a capital letter.
            [b'0'..=b'9' | b'a'..=b'f', ..] => {
                let area = header(line).ok_or_else(|| ParseError::line(file, line))?;
                areas.push(area);
            }
            [b'V', ..] if let Some(codes) = line.strip_prefix(b"VmFlags:") => {
                let area = areas.last_mut();
                let area = area.ok_or_else(|| ParseError::line(file, line))?;
                area.flags = flags(codes).ok_or_else(|| ParseError::line(file, line))?;
            }
            [b'S', b'w', b'a', b'p', b':', kib @ ..] => {
                let area = areas.last_mut();
                let area = area.ok_or_else(|| ParseError::line(file, line))?;
                area.swap_kib = words(kib).next().and_then(unsigned).unwrap_or(0);
            }
            [b'K', ..] if let Some(kib) = line.strip_prefix(b"KernelPageSize:") => {
                let area = areas.last_mut();
                let area = area.ok_or_else(|| ParseError::line(file, line))?;
                area.page_kib = words(kib).next().and_then(unsigned).unwrap_or(0);
            }
            [b'P', b'r', ..] if let Some(key) = line.strip_prefix(b"ProtectionKey:") => {
                let area = areas.last_mut();
                let area = area.ok_or_else(|| ParseError::line(file, line))?;
                area.key = words(key).next().and_then(unsigned).unwrap_or(0);
            }
            [b'A'..=b'Z', ..] if !areas.is_empty() => {}
            _ => return Err(ParseError::line(file, line)),
        }
    }
    Ok(areas)
}

/// `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon`
fn header(line: &[u8]) -> Option<Area> {
    let (range, rest) = split_once(line, b' ')?;
    let (perms, rest) = split_once(rest, b' ')?;
    let (offset, rest) = split_once(rest, b' ')?;
    let (dev, rest) = split_once(rest, b' ')?;
    // A line without a name ends in a blank after the inode number, or right after it.
    let (inode, name) = split_once(rest, b' ').unwrap_or((rest, b""));
    let (start, end) = split_once(range, b'-')?;
    let (major, minor) = split_once(dev, b':')?;
    let area = Area {
        start: hex(start)?,
        end: hex(end)?,
        perms: permissions(perms)?,
        offset: hex(offset)?,
        dev: (hex(major)?, hex(minor)?),
        inode: unsigned(inode)?,
        name: unescape_octal(without_padding(name), b"\n"),
        flags: Vec::new(),
        swap_kib: 0,
        page_kib: 0,
        key: 0,
    };
    (area.start <= area.end).then_some(area)
}

/// Only blanks before a name are padding; one at its end belongs to it.
fn without_padding(name: &[u8]) -> &[u8] {
    let blanks = name.iter().take_while(|byte| **byte == b' ').count();
    &name[blanks..]
}

fn permissions(text: &[u8]) -> Option<Perms> {
    let &[read, write, execute, shared] = text else {
        return None;
    };
    Some(Perms {
        read: either(read, b'r', b'-')?,
        write: either(write, b'w', b'-')?,
        execute: either(execute, b'x', b'-')?,
        shared: either(shared, b's', b'p')?,
    })
}

fn either(byte: u8, yes: u8, no: u8) -> Option<bool> {
    match byte {
        _ if byte == yes => Some(true),
        _ if byte == no => Some(false),
        _ => None,
    }
}

/// Older kernels have no code for VM_LOCKONFAULT: theirs for what has none is in its place, which is behind that of these (fs/proc/task_mmu.c,
/// `show_smap_vma_flags`; include/linux/mm.h).
fn flags(codes: &[u8]) -> Option<Vec<[u8; 2]>> {
    const BEFORE: [&[u8; 2]; 6] = [b"lo", b"io", b"sr", b"rr", b"dc", b"de"];
    let mut flags: Vec<[u8; 2]> = Vec::with_capacity(codes.len() / 3);
    for code in words(codes) {
        let is_next = flags.contains(b"lo") && flags.last().is_some_and(|last| BEFORE.contains(&last));
        flags.push(if code == b"??" && is_next { *b"lf" } else { code.try_into().ok()? });
    }
    Some(flags)
}
