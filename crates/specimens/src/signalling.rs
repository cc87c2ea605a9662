//! Descriptions that send signals when they are ready.

use crate::closing::let_go;
use crate::kin;
use crate::life::Living;
use crate::signals;
use crate::sockets;
use crate::sys::{self, must, same};
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;

pub(crate) const F_SETSIG: i32 = 10;
pub(crate) const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_NOTIFY: i32 = 1026;
const DN_CREATE: i32 = 4;
const DN_MULTISHOT: i32 = i32::MIN;

/// `struct f_owner_ex` (fcntl(2)).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Owner {
    kind: i32,
    id: i32,
}

fn owner(fd: i32) -> Result<Owner, String> {
    let mut owner = Owner { kind: 0, id: 0 };
    // SAFETY: the kernel writes into the struct.
    must("fcntl", unsafe { libc::fcntl(fd, F_GETOWN_EX, &raw mut owner) })?;
    Ok(owner)
}

fn own(fd: i32, kind: i32, id: i32) -> Result<i32, String> {
    let owner = Owner { kind, id };
    // SAFETY: the kernel reads the struct.
    must("fcntl", unsafe { libc::fcntl(fd, F_SETOWN_EX, &raw const owner) })?;
    Ok(fd)
}

/// All that can be asked about it.
fn settings(fd: i32) -> Result<(Owner, i32, i32), String> {
    Ok((owner(fd)?, sys::fcntl(fd, F_GETSIG, 0)?, sys::fcntl(fd, libc::F_GETFL, 0)?))
}

/// Of a process, a thread, a group, a child, and of a socket; with a signal of its own or without; and one that only has an owner.
pub(crate) fn kinds(_: &[String]) -> Result<Living, String> {
    const OWN: i32 = 41;
    signals::catch(libc::SIGIO)?;
    signals::catch(OWN)?;
    // SAFETY: takes nothing.
    let (pid, group) = unsafe { (libc::getpid(), libc::getpgrp()) };
    let child = kin::plain()?;
    let pipes = [(); 5].map(|()| kin::pipe());
    let mut ends = Vec::new();
    for pipe in pipes {
        ends.push(pipe?);
    }
    ends.insert(4, sockets::pair(libc::SOCK_STREAM)?);
    for (end, (kind, id)) in ends.iter().zip([(1, pid), (0, pid), (2, group), (1, child.pid), (1, pid), (1, pid)]) {
        own(end[0], kind, id)?;
    }
    [ends[1][0], ends[3][0]].iter().try_for_each(|fd| sys::fcntl(*fd, F_SETSIG, OWN).map(drop))?;
    for end in &ends[..5] {
        sys::fcntl(end[0], libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    }
    let all = move |ends: &[[i32; 2]]| ends.iter().map(|end| settings(end[0])).collect::<Result<Vec<_>, _>>();
    let expected = all(&ends)?;
    Living::reads(move |_| {
        same("owners, signals and flags", &expected, &all(&ends)?)?;
        let before = [signals::count(libc::SIGIO), signals::count(OWN)];
        for end in [ends[0], ends[1], ends[4], ends[5]] {
            sys::write(end[1], b"x")?;
            same("what came", &b"x".to_vec(), &sys::read_up_to(end[0], 10)?)?;
        }
        same("signals", &[before[0] + 2, before[1] + 1], &[signals::count(libc::SIGIO), signals::count(OWN)])
    })
}

/// Connections whose other end is closed: that was told, and is not told again.
pub(crate) fn ends(_: &[String]) -> Result<Living, String> {
    signals::catch(libc::SIGIO)?;
    kin::plain()?;
    let (pairs, mut kept) = ([libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(sockets::pair), Vec::new());
    for pair in pairs {
        let [own, other] = pair?;
        sys::write(other, b"x")?;
        // What went later would be told.
        let_go(other, &[]);
        kept.push(own);
    }
    let listener = sys::fine("bind", TcpListener::bind("127.0.0.1:0"))?;
    let client = sys::fine("connect", listener.local_addr().and_then(TcpStream::connect))?;
    drop(sys::fine("accept", listener.accept())?);
    drop(listener);
    kept.push(client.into_raw_fd());
    sys::soon("the end", || sys::readable(kept[2]))?;
    for fd in &kept {
        // SAFETY: takes nothing.
        own(*fd, 1, unsafe { libc::getpid() })?;
        sys::fcntl(*fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    }
    let before = signals::count(libc::SIGIO);
    Living::reads(move |_| {
        same("signals", &before, &signals::count(libc::SIGIO))?;
        same("all have something to be read", &true, &kept.iter().all(|fd| sys::readable(*fd)))
    })
}

/// A directory whose changes send signals.
pub(crate) fn directory(_: &[String]) -> Result<Living, String> {
    let fd = sys::open(".", libc::O_RDONLY | libc::O_DIRECTORY)?;
    signals::catch(libc::SIGIO)?;
    sys::fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT)?;
    Living::reads(move |_| {
        let before = signals::count(libc::SIGIO);
        std::fs::write("created", "").map_err(|e| e.to_string())?;
        std::fs::remove_file("created").map_err(|e| e.to_string())?;
        same("signals", &(before + 1), &signals::count(libc::SIGIO))
    })
}
