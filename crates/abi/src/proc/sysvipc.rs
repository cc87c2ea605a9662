//! /proc/sysvipc: the objects of System V IPC of the reader's namespace.

use super::ParseError;
use super::text::{lines, signed, unsigned, words};

/// An object: a row of /proc/sysvipc/shm, sem or msg.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpcRow {
    /// Its id.
    pub id: u32,
    /// Its key; 0: none.
    pub key: i32,
    /// Bytes of a segment, semaphores of a set; nothing for a queue.
    pub size: Option<u64>,
}

/// Reads one of them (ipc/shm.c, `sysvipc_shm_proc_show`, and the like): a line of names, and a line for each object.
pub fn sysvipc(text: &[u8]) -> Result<Vec<IpcRow>, ParseError> {
    let mut all = lines(text);
    let names: Vec<&[u8]> = all.next().map(|line| words(line).collect()).unwrap_or_default();
    let place = |wanted: &[&[u8]]| names.iter().position(|name| wanted.contains(name));
    let head = || ParseError::new("sysvipc", "the names of its columns are not known");
    let id = place(&[b"shmid", b"semid", b"msqid"]).ok_or_else(head)?;
    let key = place(&[b"key"]).ok_or_else(head)?;
    let size = place(&[b"size", b"nsems"]);
    all.map(|line| {
        let cells: Vec<&[u8]> = words(line).collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let odd = || ParseError::line("sysvipc", line);
        Ok(IpcRow {
            id: unsigned(cell(id)).ok_or_else(odd)?,
            key: signed(cell(key)).ok_or_else(odd)?,
            size: size.map(|at| unsigned(cell(at)).ok_or_else(odd)).transpose()?,
        })
    })
    .collect()
}
