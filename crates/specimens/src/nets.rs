//! Sockets of other families, and what few sockets have: filters, netlink, packets, protocols of one's own.

use crate::inet::{own_port, set};
use crate::life::Living;
use crate::sockets::{pair, receive, send, shut_down};
use crate::sys::{self, Outcome, fine, must, same};
use libc::sock_filter;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

/// A program that drops what has a `d` there.
fn no_dogs(at: u32) -> [sock_filter; 4] {
    let returns = |k| sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let load = sock_filter { code: 0x30, jt: 0, jf: 0, k: at };
    [load, sock_filter { code: 0x15, jt: 0, jf: 1, k: b'd'.into() }, returns(0), returns(0xffff)]
}

fn attach(fd: i32, mut filter: [sock_filter; 4]) -> Outcome {
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions live as long as the call.
    let r = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as u32,
        )
    };
    must("attach", r).map(drop)
}

/// The instructions of the filter of a socket, as they print.
fn filter_of(fd: i32) -> Result<String, String> {
    let (mut all, mut length) = (no_dogs(0), 4);
    let room = all.as_mut_ptr().cast();
    // SAFETY: room for four instructions.
    must("getsockopt", unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, room, &raw mut length)
    })?;
    Ok(all[..length as usize].iter().map(|i| format!("{} {} {} {}, ", i.code, i.jt, i.jf, i.k)).collect())
}

/// A socket of messages whose filter is locked; a pair in which something waits that came before its filter; one that takes
/// connections.
pub(crate) fn filters(_: &[String]) -> Result<Living, String> {
    let inbox = own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
    let listener = own_port(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
    let ends = pair(libc::SOCK_DGRAM)?;
    // The program sees a message of UDP from its header on.
    let mut all = vec![(inbox.as_raw_fd(), 8), (ends[0], 0)];
    // SAFETY: takes nothing. Newer kernels let nobody else filter what comes by TCP.
    if unsafe { libc::geteuid() } == 0 {
        all.push((listener.as_raw_fd(), 8));
    }
    sys::write(ends[1], b"dog, before")?;
    all.iter().try_for_each(|(fd, at)| attach(*fd, no_dogs(*at)))?;
    set(inbox.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)?;
    let show = move || all.iter().map(|(fd, _)| filter_of(*fd)).collect::<Result<Vec<_>, _>>();
    let expected = show()?;
    let to = fine("name", inbox.local_addr())?;
    Living::reads(move |_| {
        let _ = &listener;
        same("filters", &expected, &show()?)?;
        let detached = set(inbox.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0);
        same("it is locked", &true, &detached.is_err_and(|e| e.contains("not permitted")))?;
        let sender = fine("bind", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
        for word in ["dog", "cat"] {
            fine("send", sender.send_to(word.as_bytes(), to))?;
            sys::write(ends[1], word.as_bytes())?;
        }
        let mut bytes = [0; 100];
        let len = fine("receive", inbox.recv(&mut bytes))?;
        same("what came", &b"cat".as_slice(), &&bytes[..len])?;
        for what in ["dog, before", "cat"] {
            same("what came", &Ok(what.into()), &receive(ends[0], 100))?;
        }
        set(ends[0], libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)?;
        same("sent", &Ok(11), &send(ends[1], b"dog, before"))?;
        attach(ends[0], no_dogs(0))
    })
}

/// A filter that is a program in eBPF: "all of it".
pub(crate) fn filter_ebpf(_: &[String]) -> Result<Living, String> {
    const PROG_LOAD: i64 = 5;
    const SOCKET_FILTER: u64 = 1;
    let program = [0xffff_ffff_0000_00b7_u64, 0x95];
    let license = c"MIT";
    // union bpf_attr: type and number of instructions, these, the licence.
    let mut attributes = [0u64; 16];
    attributes[..3].copy_from_slice(&[
        SOCKET_FILTER | 2 << 32,
        program.as_ptr().addr() as u64,
        license.as_ptr().addr() as u64,
    ]);
    // SAFETY: all that the attributes point to lives as long as the call.
    let fd = must("bpf", unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attributes.as_ptr(), 128) })? as i32;
    let ends = pair(libc::SOCK_DGRAM)?;
    set(ends[0], libc::SOL_SOCKET, libc::SO_ATTACH_BPF, fd)?;
    sys::close(fd);
    Living::reads(move |_| {
        same("sent", &Ok(3), &send(ends[1], b"cat"))?;
        same("what came", &Ok(b"cat".to_vec()), &receive(ends[0], 100))
    })
}

/// `struct sockaddr_nl`: port id and groups.
fn netlink_address(port: u32, groups: u32) -> libc::sockaddr_nl {
    // SAFETY: zero is a value of the type.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    (address.nl_family, address.nl_pid, address.nl_groups) = (libc::AF_NETLINK as u16, port, groups);
    address
}

pub(crate) fn netlink(protocol: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("socket", unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol) }).map(|fd| fd as i32)
}

fn bind<T>(fd: i32, address: &T) -> Outcome {
    // SAFETY: the address lives as long as the call.
    must("bind", unsafe { libc::bind(fd, std::ptr::from_ref(address).cast(), size_of::<T>() as u32) }).map(drop)
}

/// To an interface and a protocol (packet(7)).
pub(crate) fn bind_to(fd: i32, interface: i32, protocol: u16) -> Outcome {
    // SAFETY: zero is a value of the type.
    let mut home: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (home.sll_family, home.sll_ifindex) = (libc::AF_PACKET as u16, interface);
    home.sll_protocol = protocol.to_be();
    bind(fd, &home)
}

fn connect<T>(fd: i32, address: &T) -> Outcome {
    // SAFETY: the address lives as long as the call.
    must("connect", unsafe { libc::connect(fd, std::ptr::from_ref(address).cast(), size_of::<T>() as u32) }).map(drop)
}

/// Its own address and that of whom it is connected to, in bytes.
fn names(fd: i32) -> [Vec<u8>; 2] {
    [libc::getsockname, libc::getpeername].map(|ask| {
        let (mut bytes, mut len) = ([0u8; 128], 128);
        // SAFETY: room for as many bytes as it says.
        unsafe { ask(fd, bytes.as_mut_ptr().cast(), &raw mut len) };
        bytes[..len as usize].to_vec()
    })
}

/// `struct nlmsghdr` and `struct ifinfomsg`: which devices there are (RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP).
pub(crate) fn ask_for_links(fd: i32) -> Outcome {
    let mut request = [0u8; 32];
    (request[0], request[4], request[6], request[7]) = (32, 18, 1, 3);
    sys::write(fd, &request).map(drop)
}

/// The kinds of the messages of an answer, to its end (NLMSG_DONE).
fn answered(fd: i32) -> Result<Vec<u16>, String> {
    let mut all = Vec::new();
    while all.last() != Some(&3) {
        let bytes = receive(fd, 1 << 16).map_err(|e| format!("receive: error {e}"))?;
        let mut rest = &bytes[..];
        while let Some(&[a, b, c, d, kind, more, ..]) = rest.first_chunk::<8>().map(|head| &head[..]) {
            all.push(u16::from_ne_bytes([kind, more]));
            rest = rest.get((u32::from_ne_bytes([a, b, c, d]) as usize).next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
    Ok(all)
}

/// One that hears of devices and more, with options; two of which one sends to the other.
pub(crate) fn netlink_sockets(_: &[String]) -> Result<Living, String> {
    const JOIN: i32 = 1;
    const MEMBERSHIPS: i32 = 9;
    const ALL_GROUPS: [i32; 2] = [1, 33];
    let (route, inbox, sender) = (netlink(libc::NETLINK_ROUTE)?, netlink(2)?, netlink(2)?);
    bind(route, &netlink_address(0, 0))?;
    bind(inbox, &netlink_address(0x4000_0000 | std::process::id(), 0))?;
    connect(sender, &netlink_address(0x4000_0000 | std::process::id(), 0))?;
    for group in ALL_GROUPS {
        set(route, libc::SOL_NETLINK, JOIN, group)?;
    }
    // NETLINK_PKTINFO, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK.
    for option in [3, 11, 12] {
        set(route, libc::SOL_NETLINK, option, 1)?;
    }
    attach(inbox, no_dogs(0))?;
    let all = move || -> Result<String, String> {
        let mut groups = [0u32; 4];
        let (room, mut len) = (groups.as_mut_ptr().cast(), 16);
        // SAFETY: as much room as it says.
        let told = unsafe { libc::getsockopt(route, libc::SOL_NETLINK, MEMBERSHIPS, room, &raw mut len) };
        must("getsockopt", told)?;
        let options = [3, 10, 11, 12].map(|option| crate::inet::option(route, libc::SOL_NETLINK, option));
        Ok(format!("{:?} {groups:?} {options:?} {}", [route, inbox, sender].map(names), filter_of(inbox)?))
    };
    let expected = all()?;
    Living::reads(move |_| {
        same("names, groups and options", &expected, &all()?)?;
        for word in ["dog", "cat"] {
            sys::write(sender, word.as_bytes())?;
        }
        same("what came", &Ok(b"cat".to_vec()), &receive(inbox, 100))?;
        ask_for_links(route)?;
        let answer = answered(route)?;
        // RTM_NEWLINK, at least of the loopback.
        same("the first device", &Some(&16), &answer.first())
    })
}

/// It has asked, and not read the answer yet.
pub(crate) fn netlink_asked(_: &[String]) -> Result<Living, String> {
    let route = netlink(libc::NETLINK_ROUTE)?;
    ask_for_links(route)?;
    Living::reads_at_first(move |first| match first {
        true => same("the first device", &Some(&16), &answered(route)?.first()),
        false => Ok(()),
    })
}

/// A raw socket, bound and connected; one whose headers are its own; both families and filters of ICMP.
pub(crate) fn raw(_: &[String]) -> Result<Living, String> {
    let socket = |family, protocol| {
        // SAFETY: takes integers.
        must("socket", unsafe { libc::socket(family, libc::SOCK_RAW, protocol) }).map(|fd| fd as i32)
    };
    // SAFETY: zero is a value of the type.
    let mut home: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    (home.sin_family, home.sin_addr.s_addr) = (libc::AF_INET as u16, u32::from_ne_bytes([127, 0, 0, 1]));
    let echo = socket(libc::AF_INET, libc::IPPROTO_ICMP)?;
    bind(echo, &home)?;
    connect(echo, &home)?;
    let six = socket(libc::AF_INET6, libc::IPPROTO_ICMPV6)?;
    let other = socket(libc::AF_INET, 200)?;
    let sums = socket(libc::AF_INET6, 200)?;
    set(other, libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?;
    set(sums, libc::IPPROTO_IPV6, 7, 2)?;
    // ICMP_FILTER, by kinds of messages: no unreachable hosts. ICMPV6_FILTER: none that reports errors.
    set(echo, 255, 1, 1 << 3)?;
    let filter = [0x1fu32, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the filter lives as long as the call.
    must("setsockopt", unsafe {
        libc::setsockopt(six, libc::IPPROTO_ICMPV6, 1, filter.as_ptr().cast(), size_of_val(&filter) as u32)
    })?;
    let all = move || -> Result<String, String> {
        let mut told = [0u32; 8];
        let (room, mut len) = (told.as_mut_ptr().cast(), 32);
        // SAFETY: as much room as it says.
        must("getsockopt", unsafe { libc::getsockopt(six, libc::IPPROTO_ICMPV6, 1, room, &raw mut len) })?;
        let options = [(echo, 255, 1), (other, 0, libc::IP_HDRINCL), (sums, libc::IPPROTO_IPV6, 7)]
            .map(|(fd, level, option)| crate::inet::option(fd, level, option));
        Ok(format!("{told:?} {options:?} {:?}", [echo, six, other, sums].map(names)))
    };
    let expected = all()?;
    Living::reads(move |_| {
        same("names and options", &expected, &all()?)?;
        // It is connected: an echo request comes, and its reply.
        sys::write(echo, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])?;
        sys::soon("an answer", || sys::readable(echo))?;
        same("an echo", &20, &receive(echo, 20).map_err(|e| e.to_string())?.len())?;
        while receive(echo, 100).is_ok() {}
        Ok(())
    })
}

/// Options of IP that each packet has: a route to be recorded, of which the end is zeros.
pub(crate) fn ip_options(_: &[String]) -> Result<Living, String> {
    const RECORD: [u8; 11] = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let inbox = own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
    let fd = inbox.as_raw_fd();
    // SAFETY: the options live as long as the call.
    must("setsockopt", unsafe {
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_OPTIONS, RECORD.as_ptr().cast(), 11)
    })?;
    let all = move || -> Result<Vec<u8>, String> {
        let (mut told, mut len) = (vec![0u8; 40], 40);
        let room = told.as_mut_ptr().cast();
        // SAFETY: as much room as it says.
        must("getsockopt", unsafe { libc::getsockopt(fd, libc::IPPROTO_IP, libc::IP_OPTIONS, room, &raw mut len) })?;
        told.truncate(len as usize);
        Ok(told)
    };
    let expected = all()?;
    Living::reads(move |_| {
        let _ = &inbox;
        same("options", &expected, &all()?)
    })
}

/// Sockets of messages that are shut down: to send, to receive, and one that sends to nobody.
pub(crate) fn shut_messages(_: &[String]) -> Result<Living, String> {
    let bound = || own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
    let (inbox, silent, deaf, woken) = (bound()?, bound()?, bound()?, bound()?);
    let to = fine("name", inbox.local_addr())?;
    for one in [&silent, &deaf] {
        fine("connect", one.connect(to))?;
    }
    shut_down(silent.as_raw_fd(), libc::SHUT_WR)?;
    shut_down(deaf.as_raw_fd(), libc::SHUT_RD)?;
    // It is done, and an error says that there is no connection.
    same("an error", &true, &shut_down(woken.as_raw_fd(), libc::SHUT_RD).is_err())?;
    Living::reads(move |_| {
        same("who is silent", &Err(libc::EPIPE), &send(silent.as_raw_fd(), b"x"))?;
        fine("send", deaf.send(b"hello"))?;
        let mut bytes = [0; 100];
        same("bytes of the message", &5, &fine("receive", inbox.recv(&mut bytes))?)?;
        for deaf in [&deaf, &woken] {
            same("who is deaf", &0, &fine("receive", deaf.recv(&mut bytes))?)?;
        }
        fine("send", inbox.send_to(b"hi", fine("name", silent.local_addr())?))?;
        same("bytes of the message", &2, &fine("receive", silent.recv(&mut bytes))?)
    })
}

/// A message that was begun.
pub(crate) fn begun(_: &[String]) -> Result<Living, String> {
    let inbox = own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
    let sender = fine("bind", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
    fine("connect", sender.connect(fine("name", inbox.local_addr())?))?;
    set(sender.as_raw_fd(), libc::IPPROTO_UDP, libc::UDP_CORK, 1)?;
    fine("send", sender.send(b"hel"))?;
    Living::reads_at_first(move |first| {
        if !first {
            return Ok(());
        }
        fine("send", sender.send(b"lo"))?;
        set(sender.as_raw_fd(), libc::IPPROTO_UDP, libc::UDP_CORK, 0)?;
        let mut bytes = [0; 100];
        same("bytes of the message", &5, &fine("receive", inbox.recv(&mut bytes))?)
    })
}

/// Sockets of packets: of an interface and a protocol, with memberships, options and a filter; of the old kind; one of a fanout group.
pub(crate) fn packets(_: &[String]) -> Result<Living, String> {
    const SOL_PACKET: i32 = 263;
    const ALL: u16 = 3;
    let socket = |kind, protocol: u16| {
        // SAFETY: takes integers.
        must("socket", unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol.to_be())) }).map(|fd| fd as i32)
    };
    // SAFETY: the name ends with a zero.
    let loopback = unsafe { libc::if_nametoindex(c"lo".as_ptr()) } as i32;
    let (whole, group, none) = (socket(libc::SOCK_RAW, 0)?, socket(libc::SOCK_DGRAM, ALL)?, socket(libc::SOCK_RAW, 0)?);
    // SOCK_PACKET, whose address is a name.
    let old = socket(10, ALL)?;
    // SAFETY: zero is a value of the type.
    let mut name: libc::sockaddr = unsafe { std::mem::zeroed() };
    name.sa_family = libc::AF_PACKET as u16;
    (name.sa_data[0], name.sa_data[1]) = (b'l' as i8, b'o' as i8);
    bind(old, &name)?;
    // It gets nothing but dogs' owners.
    attach(whole, no_dogs(28 + 14))?;
    bind_to(whole, loopback, 0x0800)?;
    // PACKET_AUXDATA, PACKET_VERSION, PACKET_RESERVE, PACKET_TIMESTAMP; PACKET_FANOUT.
    for (option, value) in [(8, 1), (10, 1), (12, 8), (17, 1 << 4)] {
        set(whole, SOL_PACKET, option, value)?;
    }
    set(group, SOL_PACKET, 18, (std::process::id() & 0xffff) as i32 | 1 << 16)?;
    // PACKET_ADD_MEMBERSHIP: `struct packet_mreq` of PACKET_MR_PROMISC.
    let promiscuous = [loopback, 1, 0, 0];
    // SAFETY: the structure lives as long as the call.
    must("setsockopt", unsafe { libc::setsockopt(whole, SOL_PACKET, 1, promiscuous.as_ptr().cast(), 16) })?;
    let all = move || -> String {
        let options = [8, 9, 10, 12, 17, 18].map(|option| crate::inet::option(whole, SOL_PACKET, option));
        let fanout = crate::inet::option(group, SOL_PACKET, 18);
        let names = [whole, group, none, old].map(names);
        format!("{options:?} {fanout:?} {names:?} {:?}", filter_of(whole))
    };
    let expected = all();
    Living::reads(move |_| {
        same("names and options", &expected, &all())?;
        let sender = fine("bind", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let to = fine("name", sender.local_addr())?;
        // Others send by the loopback, too, and may take all the room there is.
        let (mut cats, mut dogs) = (false, false);
        sys::soon("a packet of cats", || {
            for word in ["dog", "cat"] {
                let _ = sender.send_to(word.as_bytes(), to);
            }
            for packet in std::iter::repeat_with(|| receive(whole, 100)).take(1000).map_while(Result::ok) {
                cats |= packet.ends_with(b"cat");
                dogs |= packet.ends_with(b"dog");
            }
            cats
        })?;
        same("packets of dogs", &false, &dogs)
    })
}

/// Messages that wait: of somebody in the tree, of somebody who is gone, an empty one, a long one; of the older family in the newer;
/// and in both of two that hear of each other only.
pub(crate) fn messages_wait(_: &[String]) -> Result<Living, String> {
    let bound = || own_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
    let name = |socket: &UdpSocket| fine("name", socket.local_addr());
    let (inbox, sender, left, right, gone) = (bound()?, bound()?, bound()?, bound()?, bound()?);
    let six = own_port(|port| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))?;
    let (to, once, six_port) = (name(&inbox)?, name(&gone)?, name(&six)?.port());
    drop(gone);
    fine("connect", sender.connect(to))?;
    fine("connect", left.connect(name(&right)?))?;
    fine("connect", right.connect(name(&left)?))?;
    [&inbox, &left, &right, &six].iter().try_for_each(|one| fine("set", one.set_nonblocking(true)))?;
    let long = sys::pattern(3, 9000);
    let expected = {
        let (by, gone) = (name(&sender)?, once);
        let mapped = |of: std::net::SocketAddr| (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), of.port()).into();
        let told = |from, what: &[u8]| (from, what.to_vec());
        [
            vec![told(gone, b""), told(by, b"one"), told(gone, b"two"), told(by, &long)],
            vec![told(mapped(by), b"mapped")],
            vec![told(name(&right)?, b"from the right")],
            vec![told(name(&left)?, b"from the left")],
        ]
    };
    let fill = move |sender: &UdpSocket, left: &UdpSocket, right: &UdpSocket| -> Outcome {
        let gone = fine("bind", UdpSocket::bind(once))?;
        fine("send", gone.send_to(b"", to))?;
        fine("send", sender.send(b"one"))?;
        fine("send", gone.send_to(b"two", to))?;
        fine("send", sender.send(&long))?;
        fine("send", sender.send_to(b"mapped", (Ipv4Addr::LOCALHOST, six_port)))?;
        fine("send", left.send(b"from the left"))?;
        fine("send", right.send(b"from the right")).map(drop)
    };
    fill(&sender, &left, &right)?;
    Living::reads(move |_| {
        for (socket, expected) in [&inbox, &six, &left, &right].into_iter().zip(&expected) {
            let (mut all, mut bytes) = (Vec::new(), [0; 10_000]);
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                all.push((from, bytes[..len].to_vec()));
            }
            same("messages", expected, &all)?;
        }
        fill(&sender, &left, &right)
    })
}

const GROUPS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(239, 77, 1, 1), Ipv4Addr::new(239, 77, 1, 2), Ipv4Addr::new(239, 77, 1, 3)];
const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// IP_ADD_SOURCE_MEMBERSHIP, or IP_BLOCK_SOURCE (ip(7)), over the loopback.
fn source(socket: &UdpSocket, option: i32, group: Ipv4Addr, source: Ipv4Addr) -> Outcome {
    let request: Vec<u8> = [group, Ipv4Addr::LOCALHOST, source].iter().flat_map(Ipv4Addr::octets).collect();
    // SAFETY: the request lives as long as the call.
    let r = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, request.as_ptr().cast(), 12) };
    must("setsockopt", r).map(drop)
}

/// Sockets in groups of multicast: for all sources, for one, for all but one; and in one of the newer family, without an address.
pub(crate) fn groups(_: &[String]) -> Result<Living, String> {
    let bound = || own_port(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
    let all = [bound()?, bound()?, bound()?];
    fine("join", all[0].join_multicast_v4(&GROUPS[0], &Ipv4Addr::LOCALHOST))?;
    source(&all[1], libc::IP_ADD_SOURCE_MEMBERSHIP, GROUPS[1], SOURCES[0])?;
    fine("join", all[2].join_multicast_v4(&GROUPS[2], &Ipv4Addr::LOCALHOST))?;
    source(&all[2], libc::IP_BLOCK_SOURCE, GROUPS[2], SOURCES[0])?;
    all.iter().try_for_each(|socket| fine("set", socket.set_nonblocking(true)))?;
    let newer = fine("bind", UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)))?;
    // The loopback is the first interface of all.
    let (group, lo) = (Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x77, 1), 1);
    fine("join", newer.join_multicast_v6(&group, lo))?;
    let hears = move |socket: &UdpSocket, group| {
        let port = fine("name", socket.local_addr())?.port();
        for from in SOURCES {
            let sender = fine("bind", UdpSocket::bind((from, 0)))?;
            set(sender.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, i32::from_ne_bytes([127, 0, 0, 1]))?;
            fine("send", sender.send_to(b"to all", (group, port)))?;
        }
        let mut bytes = [0; 10];
        let heard = std::iter::from_fn(|| socket.recv_from(&mut bytes).ok()).map(|(_, from)| from.ip());
        Ok::<_, String>(heard.collect::<Vec<_>>())
    };
    Living::reads(move |_| {
        let expected = [&SOURCES[..], &SOURCES[..1], &SOURCES[1..]];
        for ((socket, group), expected) in all.iter().zip(GROUPS).zip(expected) {
            let expected: Vec<std::net::IpAddr> = expected.iter().map(|ip| (*ip).into()).collect();
            same("who is heard", &expected, &hears(socket, group)?)?;
        }
        fine("leave", newer.leave_multicast_v6(&group, lo))?;
        fine("join", newer.join_multicast_v6(&group, lo))
    })
}
