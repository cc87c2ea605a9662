//! Connections of TCP of which both ends are ours.

use crate::inet::{option, set};
use crate::kin;
use crate::life::Living;
use crate::outside::fork_away;
use crate::sys::{self, Outcome, fine, must, same};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Whether addresses may be had again at once by whoever comes next.
#[derive(Clone, Copy)]
struct Reuse(bool);

fn reuse(arguments: &[String]) -> Reuse {
    Reuse(arguments.iter().any(|word| word == "reuse"))
}

fn socket(family: i32, reuse: Reuse) -> Result<i32, String> {
    // SAFETY: takes integers.
    let fd = must("socket", unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })? as i32;
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse.0.into()).map(|()| fd)
}

/// `bind` or `connect`.
// SAFETY: the type of both; each call has a note of its own.
type WithAddress = unsafe extern "C" fn(i32, *const libc::sockaddr, u32) -> i32;

fn with(name: &str, call: WithAddress, fd: i32, address: SocketAddr) -> Outcome {
    match address {
        SocketAddr::V4(four) => {
            // SAFETY: zero is a value of the type.
            let mut a: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            (a.sin_family, a.sin_port) = (libc::AF_INET as u16, four.port().to_be());
            a.sin_addr.s_addr = u32::from_ne_bytes(four.ip().octets());
            // SAFETY: the address lives as long as the call.
            must(name, unsafe { call(fd, (&raw const a).cast(), size_of_val(&a) as u32) }).map(drop)
        }
        SocketAddr::V6(six) => {
            // SAFETY: zero is a value of the type.
            let mut a: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            (a.sin6_family, a.sin6_port) = (libc::AF_INET6 as u16, six.port().to_be());
            a.sin6_addr.s6_addr = six.ip().octets();
            // SAFETY: the address lives as long as the call.
            must(name, unsafe { call(fd, (&raw const a).cast(), size_of_val(&a) as u32) }).map(drop)
        }
    }
}

/// Binds to a port that no other process is given by chance while we are away: below those that the kernel chooses (ip(7),
/// ip_local_port_range).
fn bind(fd: i32, mut at: SocketAddr) -> Outcome {
    const PORTS: u32 = 50;
    static USED: AtomicU32 = AtomicU32::new(0);
    let first = 10_000 + std::process::id() % 400 * PORTS;
    let mut bound = Err("no port is free".to_owned());
    while bound.is_err() && USED.load(Relaxed) < PORTS {
        let port = first + USED.fetch_add(1, Relaxed);
        at.set_port(port as u16);
        bound = with("bind", libc::bind, fd, at);
    }
    bound
}

fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn listener(at: SocketAddr, reuse: Reuse) -> Result<TcpListener, String> {
    let fd = socket(family(at), reuse)?;
    bind(fd, at)?;
    // SAFETY: takes integers.
    must("listen", unsafe { libc::listen(fd, 5) })?;
    // SAFETY: nobody else has it.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

fn client(to: SocketAddr, reuse: Reuse) -> Result<TcpStream, String> {
    let fd = socket(family(to), reuse)?;
    let any =
        if to.is_ipv4() { SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)) } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    bind(fd, any)?;
    with("connect", libc::connect, fd, to)?;
    // SAFETY: nobody else has it.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    fine("a patience", stream.set_read_timeout(Some(std::time::Duration::from_secs(3))))?;
    Ok(stream)
}

fn pair(listener: &TcpListener, to: SocketAddr, reuse: Reuse) -> Result<[TcpStream; 2], String> {
    let client = client(to, reuse)?;
    let (server, _) = fine("accept", listener.accept())?;
    fine("a patience", server.set_read_timeout(Some(std::time::Duration::from_secs(3))))?;
    Ok([client, server])
}

fn names(stream: &TcpStream) -> String {
    format!("{:?} {:?}", stream.local_addr(), stream.peer_addr().map_err(|e| e.raw_os_error()))
}

fn gives(what: &str, stream: &mut TcpStream, expected: &[u8]) -> Outcome {
    let mut bytes = vec![0; expected.len()];
    fine(what, stream.read_exact(&mut bytes))?;
    sys::same_bytes(what, expected, &bytes)
}

fn ends(what: &str, stream: &mut TcpStream) -> Outcome {
    same(what, &Ok(0), &stream.read(&mut [0; 10]).map_err(|e| e.raw_os_error()))
}

fn says(from: &mut TcpStream, to: &mut TcpStream) -> Outcome {
    fine("write", from.write_all(b"a word"))?;
    gives("a word", to, b"a word")
}

/// Both say something, and it comes.
fn talk([one, other]: &mut [TcpStream; 2]) -> Outcome {
    says(one, other)?;
    says(other, one)
}

/// A listener at one address, and connections to it by another one of it: one in use, half closed ones, one that waits.
struct World {
    listener: TcpListener,
    to: SocketAddr,
    reuse: Reuse,
    used: [TcpStream; 2],
    half: [TcpStream; 2],
    left: [TcpStream; 2],
    over: [TcpStream; 2],
    deaf: [TcpStream; 2],
    drained: [TcpStream; 2],
    waits: Vec<TcpStream>,
    expected: Vec<String>,
}

impl World {
    fn new(at: SocketAddr, to: Option<Ipv4Addr>, reuse: Reuse) -> Result<World, String> {
        let listener = listener(at, reuse)?;
        let mut address = fine("name", listener.local_addr())?;
        if let Some(ip) = to {
            address.set_ip(ip.into());
        }
        let pair = || pair(&listener, address, reuse);
        let (mut used, mut half, mut over, deaf) = (pair()?, pair()?, pair()?, pair()?);
        fine("shutdown", deaf[0].shutdown(Shutdown::Read))?;
        fine("write", used[0].write_all(b"there"))?;
        fine("write", used[1].write_all(&sys::pattern(1, 6000)))?;
        set(used[0].as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        set(used[1].as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        let mut drained = pair()?;
        fine("write", drained[0].write_all(b"gone by"))?;
        fine("shutdown", drained[0].shutdown(Shutdown::Write))?;
        gives("what is gone by", &mut drained[1], b"gone by")?;
        fine("write", half[0].write_all(b"last words"))?;
        fine("shutdown", half[0].shutdown(Shutdown::Write))?;
        let (mut left, mut right) = (pair()?, pair()?);
        fine("write", left[1].write_all(b"bye"))?;
        fine("write", right[0].write_all(b"bye"))?;
        let ([one, _gone], [_gone_too, other]) = (left, right);
        let left = [one, other];
        fine("write", over[1].write_all(b"the end"))?;
        over.iter().try_for_each(|end| fine("shutdown", end.shutdown(Shutdown::Write)))?;
        let waits = vec![client(address, reuse)?, client(address, reuse)?];
        let mut world =
            World { listener, to: address, reuse, used, half, left, over, deaf, drained, waits, expected: Vec::new() };
        world.expected = world.look()?;
        Ok(world)
    }

    fn look(&self) -> Result<Vec<String>, String> {
        let all = self.used.iter().chain(&self.half).chain(&self.left).chain(&self.waits);
        let mut seen: Vec<String> = all.map(names).collect();
        let nodelay = |end: &TcpStream| option(end.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let alive = |end: &TcpStream| option(end.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        let reuses = |fd: i32| option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR);
        let [one, other] = &self.used;
        seen.push(format!(
            "{} {} {} {}",
            nodelay(one)? != 0,
            nodelay(other)? != 0,
            alive(one)? != 0,
            alive(other)? != 0
        ));
        seen.push(format!(
            "{} {} {}",
            reuses(one.as_raw_fd())?,
            reuses(other.as_raw_fd())?,
            reuses(self.listener.as_raw_fd())?
        ));
        Ok(seen)
    }

    fn check(&mut self, first: bool) -> Outcome {
        if first {
            same("names and options", &self.expected, &self.look()?)?;
            gives("what waits", &mut self.used[1], b"there")?;
            gives("what waits", &mut self.used[0], &sys::pattern(1, 6000))?;
            gives("last words", &mut self.half[1], b"last words")?;
            for left in &mut self.left {
                gives("a farewell", left, b"bye")?;
                ends("whose other end is closed", left)?;
            }
            gives("the end", &mut self.over[0], b"the end")?;
            for client in self.waits.drain(..) {
                let (server, whose) = fine("accept", self.listener.accept())?;
                same("who waited", &fine("name", client.local_addr())?.port(), &whose.port())?;
                talk(&mut [client, server])?;
            }
        }
        self.over.iter_mut().try_for_each(|end| ends("which is over", end))?;
        let silenced = self.over[0].write(b"x").map_err(|e| e.raw_os_error());
        same("nobody hears", &Err(Some(libc::EPIPE)), &silenced)?;
        let [hears_nothing, answers] = &mut self.deaf;
        ends("which receives no more", hears_nothing)?;
        fine("write", hears_nothing.write_all(b"speaks"))?;
        gives("what it says", answers, b"speaks")?;
        for [mute, speaks] in [&mut self.half, &mut self.drained] {
            ends("the half that is closed", speaks)?;
            fine("write", speaks.write_all(b"still"))?;
            gives("the other half", mute, b"still")?;
        }
        talk(&mut self.used)?;
        talk(&mut pair(&self.listener, self.to, self.reuse)?)
    }
}

/// One address for each family, and one of both.
pub(crate) fn within(arguments: &[String]) -> Result<Living, String> {
    let reuse = reuse(arguments);
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut all = [
        World::new((Ipv4Addr::LOCALHOST, 0).into(), None, reuse)?,
        World::new(six, None, reuse)?,
        World::new(any, Some(Ipv4Addr::new(127, 0, 0, 2)), reuse)?,
    ];
    Living::reads_at_first(move |first| all.iter_mut().try_for_each(|world| world.check(first)))
}

/// A client to whom the kernel gave its port, and a process outside that was given the same one, for a connection to somebody else.
/// That ends when we do, and its address is not free at once.
pub(crate) fn shared(_: &[String]) -> Result<Living, String> {
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), Reuse(true))?;
    let client = fine("connect", TcpStream::connect(fine("name", listener.local_addr())?))?;
    let port = fine("name", client.local_addr())?.port();
    let (server, _) = fine("accept", listener.accept())?;
    fork_away(move || {
        // SAFETY: takes integers; what we have had is of no use here, and would be shared.
        unsafe { libc::close_range(3, u32::MAX, 0) };
        if let Err(why) = given(port) {
            eprintln!("FAIL: a stranger at port {port}: {why}");
        }
    })?;
    let mut ends = [client, server];
    let expected = ends.each_ref().map(names);
    Living::reads(move |_| {
        let _keep = &listener;
        same("names", &expected, &ends.each_ref().map(names))?;
        let again = |end: &TcpStream| option(end.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        same("how it was given its port", &[0, 0], &[again(&ends[0])?, again(&ends[1])?])?;
        talk(&mut ends)
    })
}

/// A connection to a listener of its own from that port, which others have, too.
fn given(port: u16) -> Outcome {
    /// linux/in.h.
    const IP_LOCAL_PORT_RANGE: i32 = 51;
    let listener = fine("listen", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let fd = socket(libc::AF_INET, Reuse(false))?;
    set(fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, i32::from(port) << 16 | i32::from(port))?;
    set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    with("bind", libc::bind, fd, (Ipv4Addr::LOCALHOST, 0).into())?;
    with("connect", libc::connect, fd, fine("name", listener.local_addr())?)?;
    // They are closed when the process ends, the highest first: who closes a connection first keeps its address (TIME_WAIT).
    std::mem::forget((fine("accept", listener.accept())?, listener));
    // SAFETY: takes integers; nobody else has it.
    must("dup", unsafe { libc::dup(fd) })?;
    // SAFETY: as above.
    must("close", unsafe { libc::close(fd) }).map(drop)
}

/// Much waits, in both directions; and the ends are with two processes.
pub(crate) fn much(arguments: &[String]) -> Result<Living, String> {
    let much = sys::number(arguments, 60_000);
    let reuse = reuse(arguments);
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), reuse)?;
    let to = fine("name", listener.local_addr())?;
    // Beyond what the host allows to all.
    let room = if much > 100_000 { libc::SO_RCVBUFFORCE } else { libc::SO_RCVBUF };
    set(listener.as_raw_fd(), libc::SOL_SOCKET, room, 4 * much as i32)?;
    let kin = kin::child(move || {
        let mut stream = client(to, reuse)?;
        set(stream.as_raw_fd(), libc::SOL_SOCKET, room, 4 * much as i32)?;
        fine("write", stream.write_all(&sys::pattern(2, much)))?;
        Ok(move |question: &str| match question {
            "read" => gives("what waits", &mut stream, &sys::pattern(3, much)).map(|()| "all".to_owned()),
            _ => talk_alone(&mut stream).map(|()| "heard".to_owned()),
        })
    })?;
    let (mut server, _) = fine("accept", listener.accept())?;
    fine("write", server.write_all(&sys::pattern(3, much)))?;
    Living::reads_at_first(move |first| {
        if first {
            gives("what waits", &mut server, &sys::pattern(2, much))?;
            kin.says("read", "all")?;
        }
        fine("write", server.write_all(b"word"))?;
        kin.says("word", "heard")?;
        gives("an answer", &mut server, b"answer")
    })
}

fn talk_alone(stream: &mut TcpStream) -> Outcome {
    gives("a word", stream, b"word")?;
    fine("write", stream.write_all(b"answer"))
}

/// Urgent data were taken, and what stands behind them was not read: nobody sees how much that is.
pub(crate) fn urgent(_: &[String]) -> Result<Living, String> {
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), Reuse(true))?;
    let [mut one, mut other] = pair(&listener, fine("name", listener.local_addr())?, Reuse(true))?;
    fine("write", one.write_all(b"before"))?;
    // SAFETY: the bytes live as long as the call.
    must("send", unsafe { libc::send(one.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) } as i64)?;
    fine("write", one.write_all(b"behind"))?;
    let mut byte = [0u8; 1];
    // SAFETY: the byte lives as long as the call.
    must("recv", unsafe { libc::recv(other.as_raw_fd(), byte.as_mut_ptr().cast(), 1, libc::MSG_OOB) } as i64)?;
    Living::reads_at_first(move |first| {
        if first {
            gives("what stands before", &mut other, b"before")?;
            gives("what stands behind", &mut other, b"behind")?;
        }
        says(&mut one, &mut other)
    })
}

/// An end that is closed, and has not sent all: what it has sent is with nobody.
pub(crate) fn orphan(_: &[String]) -> Result<Living, String> {
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), Reuse(true))?;
    let [mut one, mut other] = pair(&listener, fine("name", listener.local_addr())?, Reuse(true))?;
    fine("a flag", one.set_nonblocking(true))?;
    while one.write(&sys::pattern(4, 65536)).is_ok() {}
    drop(one);
    Living::reads_at_first(move |first| {
        let _keep = &listener;
        if first { gives("what comes first", &mut other, &sys::pattern(4, 65536)) } else { Ok(()) }
    })
}

/// More was written than there is room for, and nobody reads: the rest has not left yet.
pub(crate) fn unread(_: &[String]) -> Result<Living, String> {
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), Reuse(true))?;
    let [mut one, mut other] = pair(&listener, fine("name", listener.local_addr())?, Reuse(true))?;
    fine("a flag", one.set_nonblocking(true))?;
    let mut written = 0;
    while let Ok(bytes) = one.write(&sys::pattern(4, 65536)) {
        written += bytes;
    }
    fine("a flag", one.set_nonblocking(false))?;
    Living::reads_at_first(move |first| {
        if first {
            let mut all = vec![0; written];
            fine("read", other.read_exact(&mut all))?;
            let expected: Vec<u8> = sys::pattern(4, 65536).into_iter().cycle().take(written).collect();
            sys::same_bytes("all that was written", &expected, &all)?;
        }
        fine("write", one.write_all(b"x"))?;
        gives("a letter", &mut other, b"x")
    })
}

/// Connections that wait to be accepted, in their order; the first receives no more.
pub(crate) fn in_turn(_: &[String]) -> Result<Living, String> {
    let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), Reuse(true))?;
    let at = fine("name", listener.local_addr())?;
    // On one processor, and the last of them by the lowest number: neither chance nor numbers of descriptors make the order.
    // SAFETY: zero is a value of the type.
    let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    // SAFETY: the sets are ours, and as long as it says.
    unsafe {
        libc::sched_getaffinity(0, size_of_val(&all), &raw mut all);
        libc::CPU_SET((0..1024).find(|cpu| libc::CPU_ISSET(*cpu, &all)).unwrap_or(0), &mut one);
        libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
    }
    let low = sys::open("/dev/null", libc::O_RDONLY)?;
    let mut clients: Vec<TcpStream> = Vec::new();
    for n in 0..6 {
        if n == 5 {
            sys::close(low);
        }
        clients.push(fine("connect", TcpStream::connect(at))?);
    }
    // SAFETY: as above.
    unsafe { libc::sched_setaffinity(0, size_of_val(&all), &raw const all) };
    fine("shutdown", clients[0].shutdown(Shutdown::Read))?;
    Living::reads_at_first(move |first| {
        if !first {
            return Ok(());
        }
        same("what it reads", &0, &fine("read", clients[0].read(&mut [0; 9]))?)?;
        for client in &clients {
            let (_, from) = fine("accept", listener.accept())?;
            same("whose turn it is", &fine("name", client.local_addr())?, &from)?;
        }
        Ok(())
    })
}

/// One that has begun and is not done, as too many wait for the same listener.
pub(crate) fn begun(_: &[String]) -> Result<Living, String> {
    let listener = crate::inet::own_port(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
    // SAFETY: takes integers.
    must("listen", unsafe { libc::listen(listener.as_raw_fd(), 0) })?;
    let at = fine("name", listener.local_addr())?;
    let first = fine("connect", TcpStream::connect(at))?;
    let fd = socket(libc::AF_INET, Reuse(false))?;
    // SAFETY: the descriptor is new, and nobody else's.
    let fresh = unsafe { TcpStream::from_raw_fd(fd) };
    fine("a flag", fresh.set_nonblocking(true))?;
    same("it is begun", &true, &with("connect", libc::connect, fd, at).is_err())?;
    let mut waits = libc::pollfd { fd: fresh.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, borrowed for the call.
    let mut poll = move |time: i32| unsafe { libc::poll(&raw mut waits, 1, time) };
    same("it is not done", &0, &poll(100))?;
    let mut fresh = fresh;
    Living::reads_at_first(move |is_first| {
        if !is_first {
            return Ok(());
        }
        let (mut other, from) = fine("accept", listener.accept())?;
        same("who waited", &fine("name", first.local_addr())?, &from)?;
        same("it is done", &1, &poll(5000))?;
        same("without an error", &0, &option(fresh.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR)?)?;
        drop((other, &first));
        other = fine("accept", listener.accept())?.0;
        fine("a flag", fresh.set_nonblocking(false))?;
        fine("write", fresh.write_all(b"hello"))?;
        let mut bytes = [0; 5];
        fine("read", other.read_exact(&mut bytes))?;
        same("what is said", b"hello", &bytes)
    })
}
