//! The memory of another process.

use crate::{fault, sys};
use abi::{Errno, Fault};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// The memory of a process, as long as it lives and does not execute another program.
///
/// It is read through /proc/PID/mem, which also reads what the process itself may not (PROT_NONE), and, many pieces at
/// once, by process_vm_readv(2). It is written through /proc/PID/mem, also where the process may not write.
#[derive(Debug)]
pub struct Memory {
    tid: i32,
    file: File,
}

/// The most pieces that one process_vm_readv takes (limits.h, IOV_MAX).
const PIECES_MAX: usize = 1024;

impl Memory {
    /// The memory in which thread `tid` runs.
    pub fn open(tid: i32) -> Result<Memory, Fault> {
        let path = format!("/proc/{tid}/mem");
        let file = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Memory { tid, file: file.map_err(|e| Fault::new(format!("open({path})"), tid, e))? })
    }

    /// Reads all of `bytes` from `addr`.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let len = bytes.len();
        self.file
            .read_exact_at(bytes, addr)
            .map_err(|e| Fault::new(format!("read(/proc/{}/mem, {addr:#x}, {len})", self.tid), self.tid, errno(&e)))
    }

    /// Reads the eight bytes at `addr`.
    pub fn read_u64(&self, addr: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes all of `bytes` at `addr`, whatever the protection there.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        let call = |e| Fault::new(format!("write(/proc/{}/mem, {addr:#x}, {})", self.tid, bytes.len()), self.tid, e);
        fault::point().map_err(call)?;
        self.file.write_all_at(bytes, addr).map_err(|e| call(errno(&e)))
    }

    /// Writes every piece where the process itself may write (process_vm_writev(2)).
    pub fn write_vectored(&self, pieces: &[(u64, &[u8])]) -> Result<(), Fault> {
        let call = |e| Fault::new(format!("process_vm_writev({})", self.tid), self.tid, e);
        fault::point().map_err(call)?;
        for some in pieces.chunks(PIECES_MAX) {
            let local: Vec<_> = some.iter().map(|(_, from)| iovec(from.as_ptr().addr() as u64, from.len())).collect();
            let remote: Vec<_> = some.iter().map(|(addr, from)| iovec(*addr, from.len())).collect();
            let n = some.len() as u64;
            // SAFETY: the local pieces are borrowed for the call, which only reads them.
            let r = unsafe { libc::process_vm_writev(self.tid, local.as_ptr(), n, remote.as_ptr(), n, 0) };
            let written = match sys::result(r as i64) {
                Err(Errno::ENOSYS | Errno::EPERM) => {
                    some.iter().try_for_each(|(addr, from)| self.write(*addr, from))?;
                    continue;
                }
                written => written.map_err(call)?,
            };
            if written != some.iter().map(|(_, from)| from.len() as u64).sum::<u64>() {
                return Err(call(Errno::EFAULT));
            }
        }
        Ok(())
    }

    /// Reads every piece: by process_vm_readv(2) as far as that goes, the rest as [`Memory::read`] does.
    pub fn read_vectored(&self, pieces: &mut [(u64, &mut [u8])]) -> Result<(), Fault> {
        for some in pieces.chunks_mut(PIECES_MAX) {
            self.read_some(some)?;
        }
        Ok(())
    }

    /// At most [`PIECES_MAX`] pieces. A piece that process_vm_readv stops at is read the other way.
    fn read_some(&self, mut pieces: &mut [(u64, &mut [u8])]) -> Result<(), Fault> {
        while !pieces.is_empty() {
            let mut got = self.vm_readv(pieces);
            let whole = pieces.iter().take_while(|(_, to)| take(&mut got, to.len())).count();
            pieces = &mut pieces[whole..];
            let Some(((addr, to), rest)) = pieces.split_first_mut() else {
                break;
            };
            self.read(*addr + got as u64, &mut to[got..])?;
            pieces = rest;
        }
        Ok(())
    }

    /// How many bytes one process_vm_readv read; 0 when it read none.
    fn vm_readv(&self, pieces: &mut [(u64, &mut [u8])]) -> usize {
        let local: Vec<_> = pieces.iter_mut().map(|(_, to)| iovec(to.as_mut_ptr().addr() as u64, to.len())).collect();
        let remote: Vec<_> = pieces.iter().map(|(addr, to)| iovec(*addr, to.len())).collect();
        let n = pieces.len() as u64;
        // SAFETY: the local pieces are borrowed mutably for the call, and it writes nothing else of ours.
        let r = unsafe { libc::process_vm_readv(self.tid, local.as_ptr(), n, remote.as_ptr(), n, 0) };
        sys::result(r as i64).unwrap_or(0) as usize
    }
}

/// Takes `len` from what is left of `got`, if there is so much.
fn take(got: &mut usize, len: usize) -> bool {
    let enough = *got >= len;
    *got -= if enough { len } else { 0 };
    enough
}

fn iovec(addr: u64, len: usize) -> libc::iovec {
    libc::iovec { iov_base: std::ptr::without_provenance_mut(addr as usize), iov_len: len }
}

/// A short read or write has no number: /proc/PID/mem gives 0 bytes once the process is gone.
fn errno(e: &std::io::Error) -> Errno {
    Errno(e.raw_os_error().unwrap_or(Errno::ESRCH.0))
}
