//! Sockets of the internet families: addresses, who takes connections, options, and a connection with somebody outside.

use crate::life::Living;
use crate::outside::fork_away;
use crate::sys::{self, Outcome, fine, must, same};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};

pub(crate) fn option(fd: i32, level: i32, name: i32) -> Result<i32, String> {
    let (mut value, mut length) = (0i32, 4);
    // SAFETY: room for an integer.
    must("getsockopt", unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

pub(crate) fn set(fd: i32, level: i32, name: i32, value: i32) -> Outcome {
    // SAFETY: the integer lives as long as the call.
    must("setsockopt", unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) }).map(drop)
}

/// Binds to a port that no other process is given by chance while we are away: below those that the kernel chooses (ip(7),
/// ip_local_port_range).
pub(crate) fn own_port<T>(bind: impl Fn(u16) -> std::io::Result<T>) -> Result<T, String> {
    let first = std::process::id() % 2000 * 10;
    let ports = (0..10).map(|n| (10_000 + first + n) as u16);
    ports
        .map(bind)
        .find(Result::is_ok)
        .unwrap_or_else(|| Err(std::io::ErrorKind::AddrInUse.into()))
        .map_err(|e| e.to_string())
}

/// A socket that has no address yet.
fn fresh(family: i32, kind: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("socket", unsafe { libc::socket(family, kind, 0) }).map(|fd| fd as i32)
}

/// Listeners of both families, one of them for the newer only; sockets of messages, of which one has somebody to send to; one that
/// has nothing yet.
pub(crate) fn addresses(_: &[String]) -> Result<Living, String> {
    let four = own_port(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
    let six = fresh(libc::AF_INET6, libc::SOCK_STREAM)?;
    set(six, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set(six, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    own_port(|port| {
        // SAFETY: zero is a value of the type.
        let mut any: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        (any.sin6_family, any.sin6_port) = (libc::AF_INET6 as u16, port.to_be());
        // SAFETY: the address lives as long as the call.
        match unsafe { libc::bind(six, (&raw const any).cast(), size_of_val(&any) as u32) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    })?;
    // SAFETY: takes integers.
    must("listen", unsafe { libc::listen(six, 3) })?;
    // SAFETY: nobody else has it.
    let six = unsafe { TcpListener::from_raw_fd(six) };
    let inbox = own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
    let sender = own_port(|port| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))?;
    fine(
        "connect",
        sender.connect(((Ipv4Addr::LOCALHOST).to_ipv6_mapped(), fine("name", inbox.local_addr())?.port())),
    )?;
    let nothing = fresh(libc::AF_INET, libc::SOCK_STREAM)?;
    let values = [
        (nothing, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (nothing, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (inbox.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1),
        (inbox.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TOS, 16),
    ];
    values.iter().try_for_each(|(fd, level, name, value)| set(*fd, *level, *name, *value))?;
    let all = move |sockets: &(TcpListener, TcpListener, UdpSocket, UdpSocket)| -> Result<String, String> {
        let (four, six, inbox, sender) = sockets;
        let only = option(six.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
        let options =
            values.iter().map(|(fd, level, name, _)| option(*fd, *level, *name)).collect::<Result<Vec<_>, _>>()?;
        let names = (four.local_addr(), six.local_addr(), inbox.local_addr(), sender.local_addr(), sender.peer_addr());
        Ok(format!("{names:?} {only} {options:?}"))
    };
    let sockets = (four, six, inbox, sender);
    let expected = all(&sockets)?;
    Living::reads(move |_| {
        same("addresses and options", &expected, &all(&sockets)?)?;
        let (four, six, inbox, sender) = &sockets;
        let port = fine("name", six.local_addr())?.port();
        for (listener, to) in [(four, fine("name", four.local_addr())?), (six, (Ipv6Addr::LOCALHOST, port).into())] {
            let mut client = fine("connect", TcpStream::connect(to))?;
            let (mut server, _) = fine("accept", listener.accept())?;
            fine("write", client.write_all(b"hello"))?;
            let mut bytes = [0; 5];
            fine("read", server.read_exact(&mut bytes))?;
            same("what came", b"hello", &bytes)?;
        }
        fine("send", sender.send(b"message"))?;
        let mut bytes = [0; 100];
        same("bytes of the message", &7, &fine("receive", inbox.recv(&mut bytes))?)
    })
}

/// UDP-Lite with sums that cover eight bytes, and a message that waits; and a socket of the newer family that has a port by `connect`
/// alone, and so may send to the older one, too.
pub(crate) fn lite(_: &[String]) -> Result<Living, String> {
    const COVERAGE: [i32; 2] = [10, 11];
    // SAFETY: takes integers.
    let lite = || must("socket", unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) });
    // SAFETY: nobody else has them.
    let [inbox, sender] = [lite()?, lite()?].map(|fd| unsafe { UdpSocket::from_raw_fd(fd as i32) });
    own_port(|port| bind(&inbox, port))?;
    let name = fine("name", inbox.local_addr())?;
    fine("connect", sender.connect(name))?;
    COVERAGE.iter().try_for_each(|which| set(inbox.as_raw_fd(), libc::IPPROTO_UDPLITE, *which, 8))?;
    // SAFETY: nobody else has it.
    let both = unsafe { UdpSocket::from_raw_fd(fresh(libc::AF_INET6, libc::SOCK_DGRAM)?) };
    fine("connect", both.connect((Ipv6Addr::LOCALHOST, 9)))?;
    fine("send", sender.send(b"waits"))?;
    Living::reads(move |_| {
        let mut bytes = [0; 100];
        let (count, from) = fine("receive", inbox.recv_from(&mut bytes))?;
        same("what waited", &b"waits".to_vec(), &bytes[..count].to_vec())?;
        same("who sent it", &fine("name", sender.local_addr())?, &from)?;
        for which in COVERAGE {
            same("the sum covers", &8, &option(inbox.as_raw_fd(), libc::IPPROTO_UDPLITE, which)?)?;
        }
        same("one family only", &0, &option(both.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?)?;
        fine("connect", both.connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 9)))?;
        fine("connect", both.connect((Ipv6Addr::LOCALHOST, 9)))?;
        fine("send", sender.send(b"waits")).map(drop)
    })
}

/// Gives a socket an address of the loopback.
fn bind(socket: &UdpSocket, port: u16) -> std::io::Result<()> {
    let ip = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
    let at =
        libc::sockaddr_in { sin_family: libc::AF_INET as u16, sin_port: port.to_be(), sin_addr: ip, sin_zero: [0; 8] };
    // SAFETY: the address lives as long as the call.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size_of_val(&at) as u32) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A connection that the other end has reset, of which nobody has heard yet.
pub(crate) fn ended(_: &[String]) -> Result<Living, String> {
    let listener = fine("bind", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let mut client = fine("connect", TcpStream::connect(fine("name", listener.local_addr())?))?;
    let (mut server, _) = fine("accept", listener.accept())?;
    fine("write", server.write_all(b"bye"))?;
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the struct lives as long as the call.
    must("setsockopt", unsafe {
        libc::setsockopt(server.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const at_once).cast(), 8)
    })?;
    drop((server, listener));
    Living::reads_at_first(move |first| {
        let mut bytes = [0; 100];
        let mut read = || client.read(&mut bytes).map_err(|e| e.raw_os_error());
        if first {
            same("what was said before", &Ok(3), &read())?;
            same("then it is reset", &Err(Some(libc::ECONNRESET)), &read())?;
        }
        same("the end", &Ok(0), &read())
    })
}

/// A connection with somebody outside, who has said something that we have not read.
fn connection() -> Result<TcpStream, String> {
    let listener = fine("bind", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = fine("name", listener.local_addr())?.port();
    let accepts = listener.as_raw_fd();
    fork_away(|| {
        // SAFETY: as is allowed after a fork; the bytes are there for good.
        unsafe {
            let connection = libc::accept(accepts, std::ptr::null_mut(), std::ptr::null_mut());
            libc::write(connection, b"hello".as_ptr().cast(), 5);
        }
    })?;
    drop(listener);
    let connection = fine("connect", TcpStream::connect((Ipv4Addr::LOCALHOST, port)))?;
    sys::soon("it says hello", || sys::readable(connection.as_raw_fd()))?;
    Ok(connection)
}

/// One that nothing becomes of.
pub(crate) fn connected(_: &[String]) -> Result<Living, String> {
    let mut connection = connection()?;
    Living::reads(move |_| {
        let mut bytes = [0; 100];
        same("bytes that wait", &5, &fine("peek", connection.peek(&mut bytes))?)?;
        fine("write", connection.write_all(b"x"))
    })
}

/// One that is reset while we are away.
pub(crate) fn reset(_: &[String]) -> Result<Living, String> {
    let mut connection = connection()?;
    Living::reads_at_first(move |first| {
        let mut bytes = [0; 100];
        let mut read = |connection: &mut TcpStream| connection.read(&mut bytes).map_err(|e| e.raw_os_error());
        if first {
            same("what was said before", &Ok(5), &read(&mut connection))?;
            same("then it is reset", &Err(Some(libc::ECONNRESET)), &read(&mut connection))?;
        }
        same("the end", &Ok(0), &read(&mut connection))?;
        let written = connection.write(b"x").map_err(|e| e.raw_os_error());
        same("nobody hears", &Err(Some(libc::EPIPE)), &written)
    })
}

/// Datagrams behind an empty one, in a socket that receives no more.
pub(crate) fn shut(_: &[String]) -> Result<Living, String> {
    let [one, other] = [
        own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?,
        own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?,
    ];
    let at = fine("name", one.local_addr())?;
    for text in [&b""[..], b"hello", b"world"] {
        fine("send", other.send_to(text, at))?;
    }
    fine("connect", one.connect(fine("name", other.local_addr())?))?;
    // SAFETY: takes integers.
    must("shutdown", unsafe { libc::shutdown(one.as_raw_fd(), libc::SHUT_RD) })?;
    fine("a flag", one.set_nonblocking(true))?;
    Living::reads_at_first(move |first| {
        let _keep = &other;
        let mut bytes = [0; 100];
        let mut next = || one.recv(&mut bytes).map(|len| String::from_utf8_lossy(&bytes[..len]).into_owned()).ok();
        let seen = [next(), next(), next()];
        let expected = ["", "hello", "world"].map(|text| Some(text.to_owned()));
        if first { same("what waits", &expected, &seen) } else { Ok(()) }
    })
}

/// Messages that have come as one (udp(7), UDP_GRO), and one that has come alone.
pub(crate) fn segments(_: &[String]) -> Result<Living, String> {
    const LONG: usize = 2500;
    let [one, other] = [
        own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?,
        own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?,
    ];
    let at = fine("name", one.local_addr())?;
    set(one.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)?;
    fine("a flag", one.set_nonblocking(true))?;
    let all = |size: usize| (0..size).map(|n| n as u8).collect::<Vec<_>>();
    set(other.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1000)?;
    fine("send", other.send_to(&all(LONG), at))?;
    fine("send", other.send_to(b"hello", at))?;
    // What it sends from now on is parted otherwise.
    set(other.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 3)?;
    Living::reads_at_first(move |first| {
        if first {
            same("what came as one", &Some((all(LONG), 1000)), &with_segment(&one))?;
            same("what came alone", &Some((b"hello".to_vec(), 0)), &with_segment(&one))?;
        }
        same("nothing more", &None, &with_segment(&one))?;
        same("how it sends", &3, &option(other.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT)?)
    })
}

/// A message, and how long each is of which it is made; 0: it is one.
fn with_segment(socket: &UdpSocket) -> Option<(Vec<u8>, i32)> {
    let (mut bytes, mut control) = (vec![0_u8; 1 << 16], [0_u64; 16]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zeroes are an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    // SAFETY: the message points to what lives here.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    bytes.truncate(usize::try_from(len).ok()?);
    // `struct cmsghdr`: length, level and type (cmsg(3)).
    let kind = i64::from(libc::SOL_UDP) | i64::from(libc::UDP_GRO) << 32;
    let told = message.msg_controllen > 16 && control[1] as i64 == kind;
    Some((bytes, if told { control[2] as i32 } else { 0 }))
}
