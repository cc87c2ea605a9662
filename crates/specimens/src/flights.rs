//! Descriptors that wait in sockets (unix(7), SCM_RIGHTS), and who sent what waits (SCM_CREDENTIALS).

use crate::kin;
use crate::life::Living;
use crate::sockets::{option, pair, set};
use crate::sys::{self, Outcome, must, same};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, IntoRawFd};

/// A message with descriptors.
pub(crate) fn send(socket: i32, bytes: &[u8], rights: &[i32]) -> Outcome {
    let mut control = [0u64; 32];
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: zero is a value of the type; all that it points to is large and aligned enough (cmsg(3)), and outlives the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 256);
        let (first, size) = (libc::CMSG_FIRSTHDR(&raw const message), size_of_val(rights) as u32);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
        rights.as_ptr().copy_to_nonoverlapping(libc::CMSG_DATA(first).cast(), rights.len());
        message.msg_controllen = if rights.is_empty() { 0 } else { libc::CMSG_SPACE(size) as usize };
        libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT)
    };
    same("bytes sent", &(bytes.len() as i64), &must("sendmsg", sent as i64)?)
}

/// What came: bytes, descriptors, and process, user and group of who sent it.
type Got = (Vec<u8>, Vec<i32>, Option<(i32, u32, u32)>);

pub(crate) fn receive(socket: i32, room: usize) -> Result<Got, String> {
    let (mut bytes, mut control) = (vec![0u8; room], [0u64; 64]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: zero is a value of the type; all that it points to outlives the call, and is read as the kernel wrote it (cmsg(3)).
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 512);
        let got = must("recvmsg", libc::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) as i64)?;
        bytes.truncate(got as usize);
        let (rights, who) = ancillary(&message);
        Ok((bytes, rights, who.map(|[pid, uid, gid]| (pid, uid as u32, gid as u32))))
    }
}

/// What came with a message (cmsg(3)): descriptors; process, user and group of who sent it.
///
/// # Safety
/// The message is as the kernel wrote it, and what it points to is there.
pub(crate) unsafe fn ancillary(message: &libc::msghdr) -> (Vec<i32>, Option<[i32; 3]>) {
    let (mut rights, mut who) = (Vec::new(), None);
    // SAFETY: as above.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = at.as_ref() {
            let words = (header.cmsg_len - libc::CMSG_LEN(0) as usize) / 4;
            let word = |n: usize| libc::CMSG_DATA(at).cast::<i32>().add(n).read_unaligned();
            match header.cmsg_type {
                libc::SCM_RIGHTS => rights.extend((0..words).map(word)),
                _ => who = Some([word(0), word(1), word(2)]),
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    (rights, who)
}

/// What comes next, with so many descriptors.
fn next<const N: usize>(socket: i32, bytes: &[u8]) -> Result<[i32; N], String> {
    let (got, rights, _) = receive(socket, 1000)?;
    let shown = String::from_utf8_lossy(bytes).into_owned();
    same("what came", &shown, &String::from_utf8_lossy(&got).into_owned())?;
    rights.try_into().map_err(|all: Vec<i32>| format!("{} descriptors came with {shown}, not {N}", all.len()))
}

fn counter(count: u32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("eventfd", unsafe { libc::eventfd(count, libc::EFD_NONBLOCK) }).map(|fd| fd as i32)
}

fn counts(fd: i32, count: u64) -> Outcome {
    let seen = sys::read_up_to(fd, 8)?;
    sys::close(fd);
    same("the count", &count.to_ne_bytes().to_vec(), &seen)
}

/// Sends descriptors, and closes them here.
fn give(socket: i32, bytes: &[u8], rights: &[i32]) -> Outcome {
    send(socket, bytes, rights)?;
    rights.iter().for_each(|fd| sys::close(*fd));
    Ok(())
}

fn at(fd: i32) -> Result<i64, String> {
    // SAFETY: takes integers.
    must("lseek", unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) })
}

/// With messages of both kinds: what nobody else has, what the program has, too, and nothing.
fn fill_messages(socket: i32, kept: i32, empty: &str) -> Outcome {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    sys::write(ends[1], b"in the pipe")?;
    send(socket, b"first", &[])?;
    give(socket, b"both ends", &ends)?;
    send(socket, b"kept", &[kept, kept])?;
    give(socket, b"count", &[counter(7)?])?;
    if !empty.is_empty() {
        give(socket, b"", &[counter(9)?])?;
    }
    give(
        socket,
        b"file",
        &[sys::open("/proc/self/cmdline", libc::O_RDONLY).and(sys::open("/etc/passwd", libc::O_RDONLY))?],
    )?;
    send(socket, b"last", &[])
}

fn check_messages(socket: i32, kept: i32, empty: &str) -> Outcome {
    next::<0>(socket, b"first")?;
    let [read, write] = next::<2>(socket, b"both ends")?;
    same("in the pipe", &b"in the pipe".to_vec(), &sys::read_up_to(read, 100)?)?;
    sys::write(write, b"more")?;
    same("more", &b"more".to_vec(), &sys::read_up_to(read, 100)?)?;
    sys::close(write);
    same("the end", &Vec::new(), &sys::read_up_to(read, 100)?)?;
    sys::close(read);
    let copies = next::<2>(socket, b"kept")?;
    // SAFETY: takes integers.
    must("lseek", unsafe { libc::lseek(copies[0], 3, libc::SEEK_SET) })?;
    same("its own position", &3, &at(kept)?)?;
    same("the position of the other copy", &3, &at(copies[1])?)?;
    copies.into_iter().for_each(sys::close);
    let [count] = next(socket, b"count")?;
    counts(count, 7)?;
    if !empty.is_empty() {
        let [count] = next(socket, b"")?;
        counts(count, 9)?;
    }
    let [file] = next(socket, b"file")?;
    same("the beginning of the file", &b"root".to_vec(), &sys::read_up_to(file, 4)?)?;
    sys::close(file);
    next::<0>(socket, b"last").map(drop)
}

/// Of a stream: what comes with which byte.
fn fill_stream(socket: i32) -> Outcome {
    send(socket, b"abc", &[])?;
    give(socket, b"def", &[counter(1)?])?;
    give(socket, b"ghi", &[counter(2)?, counter(3)?])?;
    send(socket, &[b'x'; 600], &[])?;
    give(socket, b"jkl", &[counter(4)?])?;
    send(socket, b"mno", &[])
}

fn check_stream(socket: i32) -> Outcome {
    let (bytes, rights, _) = receive(socket, 2)?;
    same("before all descriptors", &(b"ab".to_vec(), 0), &(bytes, rights.len()))?;
    let (bytes, rights, _) = receive(socket, 1)?;
    same("just before the first", &(b"c".to_vec(), 0), &(bytes, rights.len()))?;
    let [one] = next(socket, b"def")?;
    counts(one, 1)?;
    let (bytes, rights, _) = receive(socket, 1)?;
    same("with the first byte", &(b"g".to_vec(), 2), &(bytes, rights.len()))?;
    counts(rights[0], 2)?;
    counts(rights[1], 3)?;
    let (bytes, rights, _) = receive(socket, 602)?;
    same("what is behind", &(602, 0), &(bytes.len(), rights.len()))?;
    let [four] = next(socket, b"jkl")?;
    counts(four, 4)?;
    next::<0>(socket, b"mno").map(drop)
}

/// Sockets in flight: in their own queues, in each other's, with something in them.
fn fill_circles(own: [i32; 2]) -> Result<i32, String> {
    send(own[1], b"myself", &[own[0], own[1]])?;
    let (one, two) = (pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_STREAM)?);
    send(one[1], b"the other", &[two[0]])?;
    send(one[1], b"news", &[])?;
    send(two[1], b"the one", &[one[0]])?;
    send(two[1], b"older", &[])?;
    [one[0], one[1], two[1]].into_iter().for_each(sys::close);
    Ok(two[0])
}

fn check_circles(own: [i32; 2], two: i32) -> Outcome {
    let [again, other] = next(own[0], b"myself")?;
    sys::write(other, b"to me")?;
    same("to me", &b"to me".to_vec(), &sys::read_up_to(again, 100)?)?;
    let [one] = next(two, b"the one")?;
    next::<0>(two, b"older")?;
    same("nobody is at the other end", &Vec::new(), &sys::read_up_to(two, 100)?)?;
    let [two_again] = next(one, b"the other")?;
    next::<0>(one, b"news")?;
    same("as for the other", &Vec::new(), &sys::read_up_to(two_again, 100)?)?;
    [again, other, one, two, two_again].into_iter().for_each(sys::close);
    Ok(())
}

/// An epoll instance that only a message has.
fn fill_watch(socket: i32, watched: i32) -> Outcome {
    // SAFETY: takes an integer.
    let epoll = must("epoll_create1", unsafe { libc::epoll_create1(0) })? as i32;
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 77 };
    // SAFETY: the event lives as long as the call.
    must("epoll_ctl", unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, watched, &raw mut event) })?;
    give(socket, b"watch", &[epoll])
}

fn check_watch(socket: i32, watched: i32) -> Outcome {
    let [epoll] = next(socket, b"watch")?;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    let mut wait = || must("epoll_wait", unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 0) });
    same("nothing is ready", &0, &wait()?)?;
    sys::write(watched, &5u64.to_ne_bytes())?;
    same("something is ready", &1, &wait()?)?;
    same("which", &77, &{ event.u64 })?;
    sys::read_up_to(watched, 8)?;
    sys::close(epoll);
    Ok(())
}

/// Descriptors of many kinds in flight; `bytes`: none of them without a byte, which can be looked at once only.
pub(crate) fn rights(words: &[String]) -> Result<Living, String> {
    let empty = if words.iter().any(|word| word == "bytes") { "" } else { "empty" };
    let (messages, packets) = (pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_SEQPACKET)?);
    let (stream, own, box_of) = (pair(libc::SOCK_STREAM)?, pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_STREAM)?);
    let (kept, watched) = (sys::open("/etc/passwd", libc::O_RDONLY)?, counter(0)?);
    let fill = move || -> Result<i32, String> {
        fill_messages(messages[0], kept, empty)?;
        fill_messages(packets[0], kept, empty)?;
        fill_stream(stream[0])?;
        fill_watch(box_of[0], watched)?;
        fill_circles(own)
    };
    let mut two = fill()?;
    Living::reads(move |_| {
        for end in [messages[1], packets[1], stream[1], own[0]] {
            same("where looks begin", &-1, &option(end, libc::SO_PEEK_OFF)?)?;
        }
        check_messages(messages[1], kept, empty)?;
        check_messages(packets[1], kept, empty)?;
        check_stream(stream[1])?;
        check_watch(box_of[1], watched)?;
        check_circles(own, two)?;
        two = fill()?;
        Ok(())
    })
}

/// Sockets of the internet and a named pipe in flight: what one of them is connected to the program has, and in the pipe is something.
pub(crate) fn sockets(_: &[String]) -> Result<Living, String> {
    let [to, by] = pair(libc::SOCK_SEQPACKET)?;
    let fill = move || -> Result<TcpStream, String> {
        let inbox = crate::inet::own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
        give(by, b"inbox", &[inbox.into_raw_fd()])?;
        let listener = crate::inet::own_port(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let client = sys::fine("connect", TcpStream::connect(sys::fine("name", listener.local_addr())?))?;
        give(by, b"server", &[sys::fine("accept", listener.accept())?.0.into_raw_fd()])?;
        let path = format!("fifo-{}", std::process::id());
        let _ = std::fs::remove_file(&path);
        let name = std::ffi::CString::new(path.as_str()).map_err(|e| e.to_string())?;
        // SAFETY: the name lives as long as the call.
        must("mkfifo", unsafe { libc::mkfifo(name.as_ptr(), 0o600) })?;
        let fifo = sys::open(&path, libc::O_RDWR)?;
        sys::write(fifo, b"in the pipe")?;
        give(by, b"fifo", &[fifo])?;
        Ok(client)
    };
    let mut client = fill()?;
    Living::reads(move |_| {
        let [inbox] = next(to, b"inbox")?;
        // SAFETY: it came to us alone.
        let inbox = unsafe { UdpSocket::from_raw_fd(inbox) };
        let name = sys::fine("name", inbox.local_addr())?;
        sys::fine("send", inbox.send_to(b"message", name))?;
        let mut bytes = [0; 100];
        same("bytes of the message", &7, &sys::fine("receive", inbox.recv(&mut bytes))?)?;
        let [server] = next(to, b"server")?;
        sys::fine("write", client.write_all(b"to the server"))?;
        same("what comes", &b"to the server".to_vec(), &sys::read_up_to(server, 100)?)?;
        let [fifo] = next(to, b"fifo")?;
        same("in the pipe", &b"in the pipe".to_vec(), &sys::read_up_to(fifo, 100)?)?;
        [server, fifo].into_iter().for_each(sys::close);
        client = fill()?;
        Ok(())
    })
}

/// A file of the namespace in which the program lives, in flight.
pub(crate) fn namespace(_: &[String]) -> Result<Living, String> {
    let [_to, by] = pair(libc::SOCK_STREAM)?;
    give(by, b"n", &[sys::open("/proc/self/ns/net", libc::O_RDONLY)?])?;
    Living::reads(|_| Ok(()))
}

/// Who sent what waits. Which process it was is kept for root alone, of whom others would have to be believed.
pub(crate) fn credentials(_: &[String]) -> Result<Living, String> {
    let (messages, stream) = (pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_STREAM)?);
    set(messages[1], libc::SO_PASSCRED, 1)?;
    set(stream[1], libc::SO_PASSCRED, 1)?;
    // SAFETY: these calls take nothing.
    let (us, user, group) = unsafe { (libc::getpid(), libc::getuid(), libc::getgid()) };
    let child = kin::child(move || {
        Ok(move |question: &str| {
            give(messages[0], question.as_bytes(), &[counter(5)?])?;
            sys::write(stream[0], question.as_bytes()).map(|_| "sent".into())
        })
    })?;
    let fill = move || -> Outcome {
        sys::write(messages[0], b"ours")?;
        sys::write(stream[0], b"ours")?;
        child.says("theirs", "sent")?;
        sys::write(stream[0], b"ours")?;
        send(messages[0], b"last", &[])
    };
    let came = move |socket: i32, bytes: &[u8], from: i32| -> Result<Vec<i32>, String> {
        let (got, rights, who) = receive(socket, bytes.len())?;
        same("what came", &String::from_utf8_lossy(bytes), &String::from_utf8_lossy(&got))?;
        let (pid, uid, gid) = who.ok_or("nobody is told to have sent it")?;
        same("whose it is", &(user, group), &(uid, gid))?;
        if user == 0 {
            same("which process sent it", &from, &pid)?;
        }
        Ok(rights)
    };
    fill()?;
    Living::reads(move |_| {
        came(messages[1], b"ours", us)?;
        let rights = came(messages[1], b"theirs", child.pid)?;
        same("descriptors", &1, &rights.len())?;
        counts(rights[0], 5)?;
        came(messages[1], b"last", us)?;
        came(stream[1], b"ours", us)?;
        came(stream[1], b"theirs", child.pid)?;
        came(stream[1], b"ours", us)?;
        fill()
    })
}
