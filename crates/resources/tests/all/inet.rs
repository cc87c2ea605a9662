//! Sockets of the internet families: what they tell of themselves, policies, addresses that are taken, and how they are made again.

use crate::common::*;
use abi::{Errno, Sys};
use plan::Options;
use resources::fd::inet::{Datagram, InetSocket};
use resources::fd::socket::Settings;
use resources::{Blob, Capturing, Description, Files, Keep, Model, Tcp, Trouble};

const LINK: &str = "socket:[77]";
const INFO: &str = "pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t77\n";
const LISTEN: u8 = 10;
const ESTABLISHED: u8 = 1;

/// 127.0.0.1, as `struct sockaddr_in`.
fn address(port: u16) -> Vec<u8> {
    [&[2, 0][..], &port.to_be_bytes(), &[127, 0, 0, 1], &[0; 8]].concat()
}

fn number(n: u32) -> Vec<Vec<u8>> {
    vec![n.to_ne_bytes().to_vec()]
}

/// A TCP socket in this state, with port 8080, and a remote end if it is connected.
fn sample(state: u8) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o140777, 0, INFO);
    sample.answer(Sys::Getsockopt, &[40], Ok(0), vec![vec![0; 4]]);
    for (level, option, value) in [(1, 39, 2), (1, 3, 1), (1, 38, 6)] {
        sample.answer(Sys::Getsockopt, &[40, level, option], Ok(0), number(value));
    }
    let mut info = vec![0; 64];
    (info[0], info[28]) = (state, 5);
    sample.answer(Sys::Getsockopt, &[40, 6, 11], Ok(0), vec![info]);
    sample.answer(Sys::Getsockname, &[40], Ok(0), vec![address(8080)]);
    let remote = if state == ESTABLISHED { Ok(0) } else { Err(Errno(107)) };
    sample.answer(Sys::Getpeername, &[40], remote, vec![address(6667)]);
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), number(0));
    sample
}

fn with(options: Vec<(u64, u64, Blob)>) -> Settings {
    Settings { options, ..Settings::default() }
}

fn listener() -> InetSocket {
    InetSocket {
        family: 2,
        socket_type: 1,
        protocol: 6,
        flags: 2,
        local: Some(Blob(address(8080))),
        backlog: Some(5),
        socket: 77,
        ..InetSocket::default()
    }
}

fn captured(sample: &Recorded, tcp: Tcp) -> (Result<InetSocket, Trouble>, Vec<String>) {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let keep = Keep { tcp, ..Keep::default() };
    let mut from = Capturing { probe: sample, files: &mut files, keep, notes: &mut notes };
    let socket = Description::capture(&sample.seen(40), &mut from).map(|d| match d {
        Description::InetSocket(socket) => socket,
        other => panic!("no such socket: {other:?}"),
    });
    (socket, notes.into_iter().map(|n| n.why).collect())
}

#[test]
fn one_that_takes_connections() {
    let mut sample = sample(LISTEN);
    sample.answer(Sys::Getsockopt, &[40, 6, 1], Ok(0), number(1));
    let options = vec![(6, 1, Blob(vec![1, 0, 0, 0]))];
    let (socket, notes) = captured(&sample, Tcp::Refuse);
    assert_eq!((socket.unwrap(), notes), (InetSocket { settings: with(options), ..listener() }, vec![]));
}

#[test]
fn a_connection_by_policy() {
    let mut sample = sample(ESTABLISHED);
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), number(5));
    sample.unread = b"hello".to_vec();
    let line = format!("fd 40 ({LINK}): it is a TCP connection with 127.0.0.1:6667");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Refuse).0)), [line]);
    let (socket, notes) = captured(&sample, Tcp::Reset);
    let socket = socket.unwrap();
    assert!(socket.connected && socket.waiting == Blob(b"hello".to_vec()), "{socket:?}");
    assert_eq!(notes, ["its TCP connection with 127.0.0.1:6667 is reset when it is thawed"]);
}

/// Two lines of /proc/net/tcp: both ends of the connection of the [`sample`], with the inode numbers 77 and that of the other one.
fn both_ends(other: u64, waits: u32) -> String {
    let line = |own: &str, other: &str, waits, inode| {
        format!(" 0: 0100007F:{own} 0100007F:{other} 01 0:{waits:x} 0:0 0 0 0 {inode}\n")
    };
    line("1F90", "1A0B", waits, 77) + &line("1A0B", "1F90", 0, other)
}

#[test]
fn a_connection_within_the_tree() {
    let mut sample = sample(ESTABLISHED);
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), number(5));
    sample.unread = b"hello".to_vec();
    sample.host_texts.insert("/proc/net/tcp".into(), both_ends(78, 5));
    let (of_somebody_else, _) = captured(&sample, Tcp::Reset);
    assert_eq!(of_somebody_else.unwrap().peer, None);
    sample.held = vec![78];
    let (socket, notes) = captured(&sample, Tcp::Refuse);
    let socket = socket.unwrap();
    assert_eq!((socket.socket, socket.peer, &socket.waiting.0[..]), (77, Some(78), &b"hello"[..]));
    assert_eq!(socket.local, Some(Blob(address(8080))));
    assert_eq!(notes, Vec::<String>::new());
    // What stands behind urgent data is not counted by ioctl(2).
    sample.host_texts.insert("/proc/net/tcp".into(), both_ends(78, 7));
    let line = format!("fd 40 ({LINK}): what waits in it cannot be seen whole (MSG_OOB, SO_PEEK_OFF)");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Refuse).0)), [line]);
}

#[test]
fn what_has_not_left_yet_is_in_no_queue() {
    let mut sample = sample(ESTABLISHED);
    let mut info = vec![0; 216];
    (info[0], info[144]) = (ESTABLISHED, 9);
    sample.answer(Sys::Getsockopt, &[40, 6, 11], Ok(0), vec![info]);
    sample.host_texts.insert("/proc/net/tcp".into(), both_ends(78, 0));
    sample.held = vec![78];
    let line = format!("fd 40 ({LINK}): 9 bytes that it has written wait until its other end reads");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Reset).0)), [line]);
}

#[test]
fn one_that_waits_for_a_listener_of_the_tree() {
    let mut sample = sample(ESTABLISHED);
    let listens = " 1: 00000000:1A0B 00000000:0000 0A 0:0 0:0 0 0 0 90\n";
    sample.host_texts.insert("/proc/net/tcp".into(), both_ends(0, 0) + listens);
    assert_eq!(captured(&sample, Tcp::Reset).0.unwrap().peer, None, "somebody else is to accept it");
    sample.held = vec![90];
    assert_eq!(captured(&sample, Tcp::Refuse).0.unwrap().peer, Some(90));
    // What it has sent is nowhere to be seen.
    let mut info = vec![0; 216];
    (info[0], info[200]) = (ESTABLISHED, 5);
    sample.answer(Sys::Getsockopt, &[40, 6, 11], Ok(0), vec![info]);
    let line = format!("fd 40 ({LINK}): its connection waits to be accepted, and it has sent something already");
    let refused = refused(captured(&sample, Tcp::Reset).0);
    assert_eq!((reasons(&refused), refused[0].passes.is_some()), (vec![line], true));
}

/// Who freezes it and may not do these could not thaw it.
#[test]
fn what_takes_a_privilege() {
    const CAP_NET_BIND_SERVICE: u32 = 10;
    const CAP_NET_ADMIN: u32 = 12;
    let mut low = sample(LISTEN);
    low.answer(Sys::Getsockname, &[40], Ok(0), vec![address(80)]);
    let notes = |sample: &Recorded| captured(sample, Tcp::Refuse).1;
    assert!(notes(&low).is_empty());
    low.lacks = vec![CAP_NET_BIND_SERVICE];
    assert_eq!(notes(&low), ["you may not use that port: thaw it as root"]);
    low.host_texts.insert("/proc/sys/net/ipv4/ip_unprivileged_port_start".into(), "80\n".into());
    assert!(notes(&low).is_empty());
    let mut full = sample(ESTABLISHED);
    full.unread = vec![0; 3 << 20];
    full.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), number(3 << 20));
    full.host_texts.insert("/proc/net/tcp".into(), both_ends(78, 3 << 20));
    (full.held, full.lacks) = (vec![78], vec![CAP_NET_ADMIN]);
    assert_eq!(notes(&full), ["3145728 bytes wait in it, more than you may put there: thaw it as root"]);
    full.host_texts.insert("/proc/sys/net/core/rmem_max".into(), "4194304\n".into());
    assert!(notes(&full).is_empty());
}

#[test]
fn protocols_that_are_not_known() {
    let mut sample = sample(LISTEN);
    sample.answer(Sys::Getsockopt, &[40, 1, 38], Ok(0), number(132));
    let line = format!("fd 40 ({LINK}): its protocol, 132, is not supported yet");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Reset).0)), [line]);
}

fn model_of(socket: InetSocket) -> Model {
    let mut model = model("sleep");
    model.descriptions.insert(40, Description::InetSocket(socket));
    survives(&model);
    model
}

fn plan_of(socket: InetSocket) -> Vec<String> {
    let model = model_of(socket);
    steps(&planned(&model, &host("root", &model)), &["inet-socket"])
}

#[test]
fn options_come_before_the_address_and_that_before_connections() {
    let options = vec![(1, 2, Blob(vec![1, 0, 0, 0]))];
    let expected = [
        "make    inet-socket store    d40 = socket(2, 2049, 6)",
        "make    inet-socket store    setsockopt(d40, 1, 2, [4 bytes], 4) (or it is told)",
        "make    inet-socket store    bind(d40, [16 bytes], 16)",
        "make    inet-socket store    listen(d40, 5)",
        "arm     inet-socket store    fcntl(d40, 4, 0)",
    ];
    assert_eq!(plan_of(InetSocket { settings: with(options), ..listener() }), expected);
    let remote = Some(Blob(address(53)));
    let sender = InetSocket { socket_type: 2, protocol: 17, backlog: None, remote, ..listener() };
    assert!(plan_of(sender)[2].ends_with("connect(d40, [16 bytes], 16) (or it is told)"));
}

/// It is there before anything can come, and nothing changes it that is set before.
#[test]
fn a_filter_comes_before_the_address_and_its_lock_behind_it() {
    let mut sample = sample(LISTEN);
    let filter = vec![6, 0, 0, 0, 255, 255, 0, 0];
    sample.answer(Sys::Getsockopt, &[40, 1, 26, 0], Ok(0), number(1));
    sample.answer(Sys::Getsockopt, &[40, 1, 26], Ok(0), vec![filter.clone()]);
    sample.answer(Sys::Getsockopt, &[40, 1, 44], Ok(0), number(1));
    let socket = captured(&sample, Tcp::Refuse).0.unwrap();
    assert_eq!(socket.settings.filter, Some(Blob(filter)));
    let lines = plan_of(socket.clone());
    assert_eq!(lines[1], "make    inet-socket store    setsockopt(d40, 1, 26, [16+8 bytes], 16)");
    assert_eq!(lines[2], "make    inet-socket store    setsockopt(d40, 1, 44, [4 bytes], 4) (or it is told)");
    let waits = InetSocket { backlog: None, connected: true, waiting: Blob(b"hello".to_vec()), ..socket };
    assert!(plan_of(waits).iter().any(|l| l.starts_with("arm ") && l.contains("26, [16+8")));
    sample.answer(Sys::Getsockopt, &[40, 1, 26, 0], Err(Errno(13)), number(0));
    let line = format!("fd 40 ({LINK}): what comes to it is filtered by a program in eBPF (SO_ATTACH_BPF)");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Reset).0)), [line]);
}

#[test]
fn a_connection_comes_back_reset() {
    let remote = Some(Blob(address(6667)));
    let waiting = Blob(b"hello".to_vec());
    let lines = plan_of(InetSocket { backlog: None, connected: true, remote, waiting, ..listener() });
    assert!(lines[0].ends_with("d40 = a connection that was reset, with 5 bytes to read"), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("bind")), "{lines:?}");
}

/// Two ends of a connection, each with what waits in it.
fn ends() -> [InetSocket; 2] {
    let end = |socket, peer, ports: [u16; 2], waiting: &[u8]| InetSocket {
        backlog: None,
        connected: true,
        socket,
        peer: Some(peer),
        local: Some(Blob(address(ports[0]))),
        remote: Some(Blob(address(ports[1]))),
        waiting: Blob(waiting.to_vec()),
        ..listener()
    };
    [end(77, 78, [8080, 6667], b"hello"), end(78, 77, [6667, 8080], b"")]
}

fn model_with(sockets: impl IntoIterator<Item = InetSocket>) -> Model {
    let mut model = model("sleep");
    model.descriptions.extend((40..).zip(sockets.into_iter().map(Description::InetSocket)));
    model
}

#[test]
fn both_ends_come_before_who_takes_connections_at_the_same_address() {
    let taker = InetSocket { socket: 90, ..listener() };
    let model = model_with([taker].into_iter().chain(ends()));
    survives(&model);
    let expected = [
        "make    inet-socket store    d41, d42 = both ends of a connection",
        "make    inet-socket store    d40 = socket(2, 2049, 6)",
        "make    inet-socket store    setsockopt(d40, 1, 2, [4 bytes], 4) (or not)",
        "make    inet-socket store    bind(d40, [16 bytes], 16)",
        "make    inet-socket store    listen(d40, 5)",
        "fill    inet-socket store    write 5 bytes in 1 packets into d42",
    ];
    let lines = steps(&planned(&model, &host("root", &model)), &["inet-socket"]);
    assert_eq!(lines[..expected.len()], expected);
}

#[test]
fn what_is_on_its_way_is_nowhere() {
    let [one, other] = ends();
    let sent = |one: &InetSocket, other: &InetSocket| {
        reasons(&resources::never_made(&model_with([one.clone(), other.clone()])))
    };
    assert!(sent(&one, &other).is_empty());
    let one = InetSocket { passed: (7, 0), ..one };
    // Of one that is not there that is the reason, or why it is not there.
    let torn = model_with([InetSocket { peer: Some(79), ..one.clone() }, other.clone()]);
    assert!(resources::never_made(&torn).is_empty());
    assert!(reasons(&resources::incomplete(&torn))[0].contains("is not known"));
    let line = "socket:[77]: bytes that it has sent have not reached the other end of its connection yet";
    assert_eq!(sent(&one, &other), [line]);
    assert!(sent(&one, &InetSocket { passed: (0, 7), ..other }).is_empty());
}

#[test]
fn an_end_has_another_end() {
    let [one, other] = ends();
    let is_whole = |model: &Model| Model::from_records(&records(model)).is_ok();
    assert!(is_whole(&model_with([one.clone(), other.clone()])));
    assert!(!is_whole(&model_with([one.clone()])));
    assert!(!is_whole(&model_with([one.clone(), InetSocket { peer: Some(79), ..other.clone() }])));
    assert!(!is_whole(&model_with([InetSocket { peer: Some(77), ..one.clone() }])));
    assert!(!is_whole(&model_with([one.clone(), one.clone(), other.clone()])), "one is there twice");
    assert!(!is_whole(&model_with([InetSocket { socket: 0, peer: Some(78), ..one.clone() }, other.clone()])));
    for local in [vec![2], vec![2, 0, 1], vec![1, 0, 0, 0], [address(1), vec![0]].concat()] {
        let odd = InetSocket { local: Some(Blob(local)), peer: Some(0), ..one.clone() };
        assert!(!is_whole(&model_with([odd])), "an address that is none");
    }
    assert!(!is_whole(&model_with([one, InetSocket { local: None, ..other }])));
}

#[test]
fn who_connects_takes_no_connections() {
    let mut model = model("sleep");
    let remote = Some(Blob(address(6667)));
    let begun = InetSocket { backlog: None, remote: remote.clone(), socket: 0, ..listener() };
    // When all that take connections are there.
    let connects = "link    inet-socket store    connect(d40, [16 bytes], 16) (or not)";
    assert_eq!(plan_of(begun).iter().filter(|line| line.contains("connect(")).collect::<Vec<_>>(), [connects]);
    model.descriptions.insert(40, Description::InetSocket(InetSocket { remote, ..listener() }));
    let damage = Model::from_records(&records(&model)).expect_err("there is no such socket");
    assert!(damage.to_string().contains("no connection"), "{damage}");
}

#[test]
fn addresses_that_cannot_be_had() {
    let why = |name: &str, socket: InetSocket, text: &str| {
        let model = model_of(socket);
        let mut host = host(name, &model);
        host.told.insert("/proc/net/tcp".into(), text.into());
        resources::plan(&model, &host, &Options::default()).map_or_else(|r| reasons(&r), |_| Vec::new())
    };
    let line = |address: &str, state: &str| format!(" 0: {address} 00000000:0000 {state} 0:0 0:0 0 0 0 9\n");
    let taken = ["socket 127.0.0.1:8080: another socket has that address now"];
    assert_eq!(why("root", listener(), &line("0100007F:1F90", "0A")), taken);
    assert_eq!(why("root", listener(), &line("00000000:1F90", "0A")), taken);
    assert!(why("root", listener(), &line("0100007F:1F91", "0A")).is_empty());
    assert!(why("root", listener(), &line("0200007F:1F90", "0A")).is_empty());
    let ended = line("0100007F:1F90", "06");
    let while_ended = ["socket 127.0.0.1:8080: connections that have just ended keep that address for a while"];
    assert_eq!(why("root", listener(), &ended), while_ended);
    let options = vec![(1, 2, Blob(vec![1, 0, 0, 0]))];
    assert!(why("root", InetSocket { settings: with(options), ..listener() }, &ended).is_empty());
    let low = InetSocket { local: Some(Blob(address(80))), ..listener() };
    assert!(why("root", low.clone(), "").is_empty());
    assert!(why("user", low, "").contains(&"socket 127.0.0.1:80: you may not use that port".to_owned()));
}

/// By who connects, and is given it by the kernel.
#[test]
fn addresses_that_others_have_a_part_in() {
    let why = |text: &str, release: &str, range: &str| {
        let ends = [(8080, 6667, 77, 78), (6667, 8080, 78, 77)].map(|(own, other, socket, peer)| {
            let [local, remote] = [own, other].map(|port| Some(Blob(address(port))));
            InetSocket { backlog: None, local, remote, connected: true, socket, peer: Some(peer), ..listener() }
        });
        let model = model_with(ends);
        let mut host = host("root", &model);
        let (range, reuse) = range.split_once('\n').unwrap_or((range, ""));
        let told = [
            ("net/tcp", text),
            ("sys/kernel/osrelease", release),
            ("sys/net/ipv4/ip_local_port_range", range),
            ("sys/net/ipv4/tcp_tw_reuse", if reuse.is_empty() { "2" } else { reuse }),
        ];
        host.told.extend(told.map(|(name, text)| (format!("/proc/{name}"), text.to_owned())));
        resources::plan(&model, &host, &Options::default()).map_or_else(|r| reasons(&r), |_| Vec::new())
    };
    let line = |remote: &str, state: &str| format!(" 0: 0100007F:1F90 {remote} {state} 0:0 0:0 0 0 0 9\n");
    let taken = ["socket 127.0.0.1:8080: another socket has that address now"];
    let elsewhere = line("0100007F:1A0C", "01");
    assert!(why(&elsewhere, "6.18.44-x", "8080\t9000\n").is_empty());
    assert!(why(&line("0100007F:1A0B", "06"), "7.0", "8080\t9000\n").is_empty(), "the same, over");
    assert_eq!(why(&line("0100007F:1A0B", "01"), "6.18", "8080\t9000\n"), taken, "the same");
    assert_eq!(why(&line("00000000:0000", "0A"), "6.18", "8080\t9000\n"), taken, "who takes connections");
    assert_eq!(why(&elsewhere, "6.2.16", "8080\t9000\n"), taken);
    let ended = ["socket 127.0.0.1:8080: connections that have just ended keep that address for a while"];
    assert_eq!(why(&line("0100007F:1A0B", "04"), "6.18", "8080\t9000\n"), ended, "not over yet");
    assert_eq!(why(&line("0100007F:1A0B", "06"), "6.18", "8080\t9000\n0"), ended, "over, and the host keeps it");
    assert_eq!(why(&elsewhere, "6.18", "8081\t9000\n"), taken, "not given to anybody");
}

/// `struct group_filter`: a group on an interface, how many sources it has, and one of them.
fn group_filter(mode: u32, sources: &[[u8; 4]]) -> Vec<u8> {
    let mut filter = vec![0; 136];
    filter.extend([mode, sources.len() as u32].map(u32::to_ne_bytes).concat());
    for source in sources {
        filter.extend([&[2, 0, 0, 0][..], source, &[0; 120]].concat());
    }
    filter
}

#[test]
fn groups_of_multicast() {
    let mut sample = sample(LISTEN);
    for (option, value) in [(3, 2), (38, 17)] {
        sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
    }
    let text = "Idx\tDevice\n1\tlo        :     1      V3\n\t\t\t\t030201EF     1 0:00000000\t\t0\n";
    sample.texts.insert("net/igmp".into(), text.into());
    sample.answer(Sys::Getsockopt, &[40, 0, 48], Err(Errno::EADDRNOTAVAIL), vec![]);
    assert!(captured(&sample, Tcp::Refuse).0.unwrap().groups.is_empty(), "the host is in it, and not the socket");
    sample.answer(Sys::Getsockopt, &[40, 0, 48], Ok(0), vec![group_filter(1, &[[127, 0, 0, 9]])]);
    let socket = captured(&sample, Tcp::Refuse).0.unwrap();
    let told: Vec<_> = socket.groups.iter().map(|g| (g.interface.to_string(), g.address.0.clone(), g.mode)).collect();
    assert_eq!(told, [("lo".to_owned(), vec![239, 1, 2, 3], 1)]);
    assert_eq!(socket.groups[0].sources, [Blob(vec![127, 0, 0, 9])]);
    let model = model_of(socket);
    let mut host = host("root", &model);
    assert!(planned(&model, &host).notes.iter().any(|note| note.contains("on lo any more")));
    host.told.insert("/sys/class/net/lo/ifindex".into(), "1\n".into());
    let lines = steps(&planned(&model, &host), &["inet-socket"]);
    let joins = |option| lines.iter().any(|line| line.contains(&format!("setsockopt(d40, 0, {option}, ")));
    assert!(joins(46) && !joins(42), "{lines:?}");
}

#[test]
fn a_message_that_was_begun() {
    let mut sample = sample(LISTEN);
    for (option, value) in [(3, 2), (38, 17)] {
        sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
    }
    sample.answer(Sys::Ioctl, &[40, 0x5411], Ok(0), number(768));
    let line = format!("fd 40 ({LINK}): it has begun a message (UDP_CORK, MSG_MORE), or one has not left yet");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Reset).0)), [line]);
}

/// It has no port; whom it sends to stands in a text.
#[test]
fn a_raw_socket() {
    let mut sample = sample(LISTEN);
    for (option, value) in [(3, 3), (38, 1)] {
        sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
    }
    let own = [&[2, 0, 0, 1, 0, 0, 0, 0][..], &[0; 8]].concat();
    sample.answer(Sys::Getsockname, &[40], Ok(0), vec![own]);
    let line = "  29: 00000000:0001 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 77 2\n";
    sample.host_texts.insert("/proc/net/raw".into(), line.into());
    // Options of IP: a route to be recorded, and how many bytes there are is not told.
    let options = [&[1, 7, 7, 4][..], &[0; 36]].concat();
    sample.answer(Sys::Getsockopt, &[40, 0, 4], Ok(0), vec![options.clone()]);
    let socket = captured(&sample, Tcp::Refuse).0.unwrap();
    assert_eq!((&socket.local, &socket.remote), (&None, &Some(Blob(address(0)))));
    assert_eq!(socket.settings, with(vec![(0, 4, Blob(options[..8].to_vec()))]));
    let model = model_of(socket);
    let as_user = resources::plan(&model, &host("user", &model), &Options::default()).expect_err("it takes a right");
    assert!(reasons(&as_user).contains(&"raw socket: only root, or who has CAP_NET_RAW, may have one".to_owned()));
    let lines = steps(&planned(&model, &host("root", &model)), &["inet-socket"]);
    assert_eq!(lines[0], "make    inet-socket store    d40 = socket(2, 2051, 1)");
    assert!(lines[2].ends_with("connect(d40, [16 bytes], 16) (or it is told)"), "{lines:?}");
}

/// Likewise.
#[test]
fn one_of_messages_that_sends_to_no_port() {
    for (protocol, text) in [(17, "/proc/net/udp"), (1, "/proc/net/icmp")] {
        let mut sample = sample(LISTEN);
        for (option, value) in [(3, 2), (38, protocol)] {
            sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
        }
        assert_eq!(captured(&sample, Tcp::Refuse).0.unwrap().remote, None);
        let line = "  29: 0100007F:1F90 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 77 2\n";
        sample.host_texts.insert(text.into(), line.into());
        assert_eq!(captured(&sample, Tcp::Refuse).0.unwrap().remote, Some(Blob(address(0))));
    }
}

/// To set the type of service sets that.
#[test]
fn a_priority_comes_last() {
    let option = |level, number, value: u8| (level, number, Blob(vec![value, 0, 0, 0]));
    let order = |options| {
        let lines = plan_of(InetSocket { settings: with(options), ..listener() });
        let set = |line: &String| line.split_once("setsockopt(d40, ").map(|(_, args)| args[..5].to_owned());
        lines.iter().filter(|line| line.ends_with("(or it is told)")).filter_map(set).collect::<Vec<_>>()
    };
    assert_eq!(order(vec![option(1, 12, 5), option(0, 1, 16)]), ["0, 1,", "1, 12"]);
    assert_eq!(order(vec![option(0, 1, 16)]), ["0, 1,", "1, 12"], "it was set to what it is at first");
    assert_eq!(order(vec![option(1, 12, 5)]), ["1, 12"]);
}

#[test]
fn messages_that_are_shut_down() {
    let sender = InetSocket { socket_type: 2, protocol: 17, backlog: None, socket: 0, shutdown: 2, ..listener() };
    let lines = plan_of(sender);
    assert!(lines.contains(&"arm     inet-socket store    shutdown(d40, 1) (or not)".to_owned()), "{lines:?}");
}

#[test]
fn messages_that_wait_come_before_anybody_is_heard() {
    let mut sample = sample(LISTEN);
    for (option, value) in [(3, 2), (38, 17)] {
        sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
    }
    sample.ready = 1;
    let mut header = vec![0; 56];
    header[8] = 16;
    let message = vec![b"hello".to_vec(), address(5000), vec![], header];
    sample.answer(Sys::Setsockopt, &[40], Ok(0), vec![]);
    sample.answer(Sys::Recvmsg, &[40], Ok(5), message);
    // The same again and again.
    let line = format!("fd 40 ({LINK}): more than 65536 messages wait in it");
    assert_eq!(reasons(&refused(captured(&sample, Tcp::Refuse).0)), [line]);
    sample.answer(Sys::Recvmsg, &[40], Err(Errno::EAGAIN), vec![]);
    let socket = captured(&sample, Tcp::Refuse).0.unwrap();
    let one = Datagram { from: Blob(address(5000)), message: Blob(b"hello".to_vec()), segment: 0 };
    let remote = Some(Blob(address(5000)));
    let receiver = InetSocket { datagrams: vec![one], remote, socket: 0, ..socket };
    let expected = [
        "make    inet-socket store    d40 = socket(2, 2050, 17)",
        "make    inet-socket store    setsockopt(d40, 1, 33, [4 bytes], 4) (or not)",
        "make    inet-socket store    bind(d40, [16 bytes], 16) (or it is told)",
        "fill    inet-socket store    send 1 messages to d40",
        "make    inet-socket store    connect(d40, [16 bytes], 16) (or it is told)",
    ];
    assert_eq!(plan_of(receiver.clone())[..expected.len()], expected);
    let mut nameless = model("sleep");
    let receiver = InetSocket { local: None, ..receiver };
    nameless.descriptions.insert(40, Description::InetSocket(receiver));
    assert!(Model::from_records(&records(&nameless)).is_err());
    // Who shares its address with others does not know who would get them.
    sample.answer(Sys::Getsockopt, &[40, 1, 2], Ok(0), number(1));
    let (socket, notes) = captured(&sample, Tcp::Refuse);
    assert_eq!((socket.unwrap().datagrams.len(), notes), (0, vec!["datagrams that wait in it are lost".to_owned()]));
}
