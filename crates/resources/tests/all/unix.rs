//! Sockets of AF_UNIX without a name: what is told of them, what is refused, and how a pair is made again.

use crate::common::*;
use abi::consts::socket::MSG_CTRUNC;
use abi::diag::LocalSocket as Told;
use abi::layout::Msghdr;
use abi::{Errno, Sys};
use plan::PlaceFacts;
use resources::fd::socket::Settings;
use resources::fd::unix::{Ancillary, Name, Named, UnixSocket};
use resources::{Blob, Description, Message, Model};

const LINK: &str = "socket:[77]";
const INFO: &str = "pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t77\n";
const POLLIN: u16 = 1;

fn told(inode: u64, peer: Option<u64>) -> Told {
    Told { inode, kind: 1, state: 1, peer, ..Told::default() }
}

/// One end of a pair in which nothing waits; the other end has inode 78.
fn sample() -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o140777, 0, INFO);
    sample.sockets = abi::gathered([told(77, Some(78)), told(78, Some(77))].map(|s| (s.inode, s)));
    sample.held = vec![77, 78];
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![vec![0; 4]]);
    sample.answer(Sys::Getsockopt, &[40], Ok(0), vec![vec![0; 4]]);
    sample.answer(Sys::Getsockopt, &[40, 1, 17], Ok(0), vec![[7u32, 1000, 100].map(u32::to_ne_bytes).concat()]);
    sample.answer(Sys::Setsockopt, &[], Ok(0), vec![]);
    sample
}

fn socket() -> UnixSocket {
    UnixSocket {
        socket: 77,
        socket_type: 1,
        flags: 2,
        peer: Some(78),
        maker: Some((1000, 100)),
        ..UnixSocket::default()
    }
}

fn settings(options: Vec<(u64, u64, Blob)>, room: (u32, u32), chosen: u32) -> Settings {
    Settings { options, room, chosen, ..Settings::default() }
}

/// A name of the file system, the file of which stands there, or a hidden one.
fn named(name: &str) -> Option<Named> {
    let (name, path) = match name.strip_prefix('@') {
        Some(rest) => (Name::Abstract(rest.as_bytes().into()), None),
        None => (Name::Path(name.as_bytes().into()), Some(name.as_bytes().into())),
    };
    let looks = path.as_ref().map(|_| (0o140755, 0, 0));
    Some(Named { name, inode: None, path, looks })
}

fn captured(sample: &Recorded) -> UnixSocket {
    match describe(sample, 40).unwrap() {
        Description::UnixSocket(socket) => socket,
        other => panic!("not a socket: {other:?}"),
    }
}

fn why(sample: &Recorded) -> Vec<String> {
    let line = |line: String| line.strip_prefix(&format!("fd 40 ({LINK}): ")).expect("it is about it").to_owned();
    reasons(&refused(describe(sample, 40))).into_iter().map(line).collect()
}

#[test]
fn a_pair_in_which_nothing_waits() {
    assert_eq!(captured(&sample()), socket());
}

#[test]
fn only_options_that_somebody_chose() {
    let mut sample = sample();
    sample.answer(Sys::Getsockopt, &[40, 1, 7], Ok(0), vec![60_000u32.to_ne_bytes().to_vec()]);
    sample.answer(Sys::Getsockopt, &[40, 1, 16], Ok(0), vec![vec![1, 0, 0, 0]]);
    let passes = (1, 16, Blob(vec![1, 0, 0, 0]));
    assert_eq!(captured(&sample).settings, settings(vec![passes.clone()], (60_000, 0), 0));
    // SO_BUF_LOCK: the size of what is sent was chosen.
    sample.answer(Sys::Getsockopt, &[40, 1, 72], Ok(0), vec![vec![1, 0, 0, 0]]);
    assert_eq!(captured(&sample).settings, settings(vec![passes], (60_000, 0), 1));
}

/// What recvmsg(2) gives: the bytes, who sent them, and the flags.
fn message(bytes: &[u8], sender: &[u8], flags: u32) -> Vec<Vec<u8>> {
    let name = if sender.is_empty() { Vec::new() } else { [&[1, 0][..], sender].concat() };
    let header = Msghdr { namelen: name.len() as u32, flags, ..Msghdr::default() };
    vec![bytes.to_vec(), name, Vec::new(), header.to_bytes().to_vec()]
}

#[test]
fn what_waits_is_looked_at_and_the_offset_put_back() {
    let mut sample = sample();
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![5u32.to_ne_bytes().to_vec()]);
    sample.answer(Sys::Recvmsg, &[40], Ok(5), message(b"hello", b"", 0));
    assert_eq!(captured(&sample).waiting, [Blob(b"hello".to_vec())]);
    let asked = sample.asked.borrow();
    let read = asked.iter().position(|call| call.sys == Sys::Recvmsg).expect("it was looked at");
    let back = &asked[read + 1];
    assert_eq!((back.sys, &back.args[3]), (Sys::Setsockopt, &abi::Arg::At(abi::Place::Out(0, 0))));
}

#[test]
fn what_came_with_descriptors_is_refused() {
    let mut sample = sample();
    sample.ready = POLLIN;
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![5u32.to_ne_bytes().to_vec()]);
    sample.answer(Sys::Recvmsg, &[40], Ok(5), message(b"hello", b"", MSG_CTRUNC));
    assert_eq!(why(&sample), ["descriptors wait in it, or who sent what waits in it (SCM_RIGHTS, SO_PASSCRED)"]);
}

/// As in [`sample`], with so many descriptors in flight.
fn with_flights(count: u32, messages: Vec<Message>) -> Recorded {
    let mut sample = sample();
    sample.open(40, LINK, 0o140777, 0, &format!("{INFO}scm_fds:\t{count}\n"));
    sample.answer(Sys::Ioctl, &[40, 0x541b], Ok(0), vec![5u32.to_ne_bytes().to_vec()]);
    sample.messages = abi::gathered([(77, messages)]);
    sample
}

#[test]
fn what_came_with_descriptors() {
    let piece = |bytes: &[u8], rights: Vec<u32>| Message {
        bytes: bytes.to_vec(),
        len: bytes.len(),
        rights,
        ..Message::default()
    };
    let sample = with_flights(3, vec![piece(b"ab", vec![]), piece(b"cde", vec![9, 8, 9])]);
    let with = Ancillary { message: 1, rights: vec![9, 8, 9], credentials: None, sender: None };
    let seen = captured(&sample);
    assert_eq!((seen.waiting.len(), seen.ancillary), (2, vec![with]));
    // An empty message is looked at once.
    let hidden = with_flights(4, vec![piece(b"abcde", vec![9, 8, 9])]);
    assert_eq!(why(&hidden), ["descriptors wait in it that cannot be seen (SCM_RIGHTS)"]);
}

#[test]
fn who_sent_what_waits() {
    let mut sample = with_flights(0, vec![]);
    sample.messages.clear();
    sample.answer(Sys::Getsockopt, &[40, 1, 16], Ok(0), vec![vec![1, 0, 0, 0]]);
    let pid = sample.threads[0];
    let ids = [pid, 1000, 100].map(u32::to_ne_bytes);
    let control = [&28u64.to_ne_bytes()[..], &[1, 0, 0, 0, 2, 0, 0, 0], ids.as_flattened()];
    let header = Msghdr { controllen: 32, ..Msghdr::default() };
    let out = vec![b"hello".to_vec(), Vec::new(), control.concat(), header.to_bytes().to_vec()];
    sample.answer(Sys::Recvmsg, &[40], Ok(5), out);
    let with = Ancillary { message: 0, rights: vec![], credentials: Some((pid, 1000, 100)), sender: None };
    assert_eq!(captured(&sample).ancillary, [with]);
}

#[test]
fn who_sent_it_is_told_by_a_pidfd_only() {
    let mut sample = with_flights(0, vec![Message { bytes: b"hello".to_vec(), len: 5, ..Message::default() }]);
    sample.answer(Sys::Getsockopt, &[40, 1, 76], Ok(0), vec![vec![1, 0, 0, 0]]);
    assert_eq!(why(&sample), ["it tells who sent what waits in it by a pidfd or a label"]);
}

#[test]
fn what_came_with_something_is_sent_with_it() {
    let with = |message, rights, credentials| Ancillary { message, rights, credentials, sender: None };
    let one = UnixSocket {
        waiting: vec![Blob(b"a".to_vec()), Blob(b"b".to_vec())],
        ancillary: vec![with(1, vec![41, 40], Some((1, 0, 0)))],
        ..socket()
    };
    let other = UnixSocket { socket: 78, peer: Some(77), ..socket() };
    let steps = plan_of(&[one.clone(), other.clone()]);
    assert!(steps.iter().any(|s| s.contains("send 2 messages with 2 descriptors by d41")), "{steps:#?}");
    let stray = UnixSocket { ancillary: vec![with(0, vec![99], None)], ..one.clone() };
    assert!(Model::from_records(&records(&model_of(&[stray, other.clone()]))).is_err());
    let late = UnixSocket { ancillary: vec![with(2, vec![40], None)], ..one };
    assert!(Model::from_records(&records(&model_of(&[late, other]))).is_err());
}

#[test]
fn what_others_with_names_have_sent_they_send_again() {
    let of = |message, name: &str| {
        let sender = named(name).map(|named| named.name);
        Ancillary { message, rights: vec![], credentials: None, sender }
    };
    let inbox = UnixSocket {
        socket_type: 2,
        peer: None,
        named: named("/run/x"),
        waiting: ["a", "b", "c", "d"].map(|text| Blob(text.into())).to_vec(),
        ancillary: vec![of(0, "@other"), of(1, "@other"), of(3, "@gone")],
        ..socket()
    };
    let other = UnixSocket { socket: 78, socket_type: 2, peer: None, named: named("@other"), ..socket() };
    let steps = plan_of(&[inbox, other]);
    let at = |what: &str| steps.iter().position(|s| s.contains(what)).unwrap_or_else(|| panic!("{what}: {steps:#?}"));
    let first = at("send 2 messages with 0 descriptors by d41 to /run/x");
    let (second, third) = (at("write 1 bytes in 1 packets"), at("send 1 messages with 0 descriptors by"));
    assert!(first < second && second < third, "{steps:#?}");
}

#[test]
fn who_has_a_name_without_a_file_is_reached_by_that_file() {
    let gone = named("/run/x").map(|named| Named { path: None, ..named });
    let listener = UnixSocket { peer: None, backlog: Some(3), named: gone.clone(), ..socket() };
    let (accepted, client) = (
        UnixSocket { socket: 80, peer: Some(81), named: gone, ..socket() },
        UnixSocket { socket: 81, peer: Some(80), ..socket() },
    );
    let steps = plan_of(&[listener.clone(), accepted.clone(), client.clone()]);
    assert!(steps.iter().any(|s| s.ends_with("connect d42 to d40")), "{steps:#?}");
    // Without it, one that is there for a moment.
    let (second, other) = (
        UnixSocket { socket: 82, peer: Some(83), ..accepted.clone() },
        UnixSocket { socket: 83, peer: Some(82), ..socket() },
    );
    let steps = plan_of(&[accepted, client, second, other]);
    assert_eq!(steps.iter().filter(|s| s.contains("accept4(")).count(), 2, "{steps:#?}");
}

#[test]
fn what_cannot_be_made_again() {
    let with = |change: &dyn Fn(&mut Told)| {
        let mut sample = sample();
        change(sample.sockets.get_mut(&77).unwrap());
        why(&sample)
    };
    let waits = "connections of somebody outside of the tree wait to be accepted";
    assert_eq!(with(&|s| s.pending = vec![99]), [waits]);
    assert_eq!(with(&|s| s.peer = Some(0)), ["its connection waits to be accepted by somebody outside of the tree"]);
    let mut elsewhere = sample();
    elsewhere.sockets.get_mut(&78).unwrap().peer = Some(99);
    assert_eq!(why(&elsewhere), ["it is connected to one that is connected elsewhere"]);
    let mut outside = sample();
    outside.held = vec![77];
    assert_eq!(why(&outside), ["its other end is with somebody, outside of the tree"]);
    outside.holders = vec![5];
    let has_it = "process 5, outside of the tree, has it too";
    assert_eq!(why(&outside), ["its other end is with process 5, outside of the tree", has_it]);
    let mut urgent = sample();
    urgent.ready = 2 | 8;
    let error = "an error waits to be told (SO_ERROR)";
    assert_eq!(why(&urgent), ["urgent data wait in it (MSG_OOB)", error]);
    let mut filtered = sample();
    filtered.answer(Sys::Getsockopt, &[40, 1, 26], Err(Errno(13)), vec![vec![0; 4]]);
    assert_eq!(why(&filtered), ["what comes to it is filtered by a program in eBPF (SO_ATTACH_BPF)"]);
    // Not of AF_UNIX.
    let mut other = sample();
    other.sockets.clear();
    assert_eq!(why(&other), ["sockets of this family are not supported yet"]);
}

#[test]
fn a_closed_end_that_had_something_unread() {
    let mut sample = sample();
    let told = sample.sockets.get_mut(&77).unwrap();
    (told.peer, told.shutdown) = (Some(0), 3);
    sample.ready = POLLIN | 8;
    let len = 2u32.to_ne_bytes().to_vec();
    sample.answer(Sys::Getpeername, &[40], Ok(0), vec![vec![1, 0], len]);
    let socket = captured(&sample);
    assert!(socket.reset && socket.peer == Some(0), "{socket:?}");
}

/// A model in which somebody has these sockets, as 40 and so on.
fn model_of(sockets: &[UnixSocket]) -> Model {
    let mut model = model("sleep");
    for (id, socket) in (40..).zip(sockets) {
        model.descriptions.insert(id, Description::UnixSocket(socket.clone()));
    }
    model
}

fn plan_of(sockets: &[UnixSocket]) -> Vec<String> {
    let model = model_of(sockets);
    survives(&model);
    let mut host = host("root", &model);
    host.places.retain(|path, _| !path.starts_with(b"/run/"));
    steps(&planned(&model, &host), &["unix-socket"])
}

#[test]
fn a_pair_is_made_at_once_and_filled_from_the_other_end() {
    let settings = settings(vec![(1, 16, Blob(vec![1, 0, 0, 0]))], (60_000, 0), 1);
    let one = UnixSocket { settings, shutdown: 2, ..socket() };
    let waiting = vec![Blob(b"hello".to_vec())];
    let other = UnixSocket { socket: 78, peer: Some(77), shutdown: 1, flags: 0o4002, waiting, ..socket() };
    let expected = [
        "make    unix-socket store    d40, d41 = socketpair(1, 2049, 0, &out)",
        "make    unix-socket store    setsockopt(d40, 1, 32, [4 bytes], 4) (or not)",
        "fill    unix-socket store    write 5 bytes in 1 packets into d40",
        "arm     unix-socket store    setsockopt(d40, 1, 32, [4 bytes], 4) (or it is told)",
        "arm     unix-socket store    fcntl(d40, 4, 0)",
        "arm     unix-socket store    fcntl(d41, 4, 2048)",
        "arm     unix-socket store    shutdown(d40, 1)",
        "start   unix-socket store    setsockopt(d40, 1, 16, [4 bytes], 4) (or it is told)",
    ];
    assert_eq!(plan_of(&[one, other]), expected);
}

#[test]
fn an_end_that_is_closed_has_one_in_passing() {
    let gone = UnixSocket { peer: Some(0), shutdown: 3, reset: true, waiting: vec![Blob(vec![1; 10])], ..socket() };
    let lines = plan_of(&[gone]);
    assert!(lines[0].ends_with("d40, d46 = socketpair(1, 2049, 0, &out)"), "{lines:?}");
    let feeds: Vec<&str> = lines.iter().filter(|l| l.starts_with("fill")).map(|l| &l[29..]).collect();
    assert_eq!(feeds, ["write 10 bytes in 1 packets into d46", "write 1 bytes in 1 packets into d40"]);
    assert!(!lines.iter().any(|l| l.contains("shutdown")), "the end of the other one is that: {lines:?}");
    let fresh = UnixSocket { peer: None, ..socket() };
    assert!(plan_of(&[fresh])[0].ends_with("d40 = socket(1, 2049, 0)"));
}

/// One that takes connections under a path, a connection to it, and one whose client is gone.
fn server() -> Vec<UnixSocket> {
    let named = named("/run/x");
    let listener = UnixSocket { peer: None, backlog: Some(3), named: named.clone(), ..socket() };
    let waiting = vec![Blob(b"hello".to_vec())];
    let accepted = UnixSocket { socket: 80, peer: Some(81), named: named.clone(), waiting, ..socket() };
    let client = UnixSocket { socket: 81, peer: Some(80), ..socket() };
    let left = UnixSocket { socket: 82, peer: Some(0), shutdown: 3, named, ..socket() };
    vec![listener, accepted, client, left]
}

#[test]
fn each_connection_is_accepted_before_the_next_is_made() {
    let expected = [
        "make    unix-socket store    d40 = socket(1, 2049, 0)",
        "make    unix-socket store    bind d40 to /run/x",
        "make    unix-socket store    d42 = socket(1, 2049, 0)",
        "make    unix-socket store    listen(d40, 0x1000)",
        "make    unix-socket store    connect d42 to /run/x",
        "make    unix-socket store    d41 = accept4(d40, 0, 0, 2048)",
        "make    unix-socket store    setsockopt(d42, 1, 32, [4 bytes], 4) (or not)",
        "make    unix-socket store    d49 = socket(1, 2049, 0)",
        "make    unix-socket store    connect d49 to /run/x",
        "make    unix-socket store    d43 = accept4(d40, 0, 0, 2048)",
        "fill    unix-socket store    write 5 bytes in 1 packets into d42",
        "arm     unix-socket store    setsockopt(d42, 1, 32, [4 bytes], 4) (or it is told)",
        "arm     unix-socket store    setsockopt(d42, 1, 72, [4 bytes], 4) (or not)",
        "arm     unix-socket store    listen(d40, 3)",
    ];
    let lines = plan_of(&server());
    let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|l| !l.contains("fcntl")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn who_waits_is_connected_last_and_in_order() {
    let mut all = server();
    all[0].pending = vec![91, 90];
    all.extend([90, 91].map(|n| UnixSocket { socket: n, peer: Some(0), ..socket() }));
    let lines = plan_of(&all);
    let connects: Vec<&str> = lines.iter().filter_map(|l| l.split_once("connect ")).map(|(_, c)| &c[..3]).collect();
    assert_eq!(connects.len(), 4);
    assert_eq!(connects[2..], ["d45", "d44"], "{lines:?}");
    all[0].pending = vec![91, 91];
    assert!(Model::from_records(&records(&model_of(&all))).is_err());
}

#[test]
fn one_of_the_same_name_that_has_no_connection_was_not_accepted() {
    let lost = named("/run/x").map(|named| Named { inode: Some(1), ..named });
    let lost = UnixSocket { socket: 95, peer: None, named: lost, ..socket() };
    let lines = plan_of(&[server().remove(0), lost]);
    assert!(!lines.iter().any(|l| l.contains("accept4")), "{lines:?}");
    assert_eq!(lines.iter().filter(|l| l.contains("bind d")).count(), 2, "{lines:?}");
}

#[test]
fn what_was_shut_down_before_it_was_connected() {
    let mut all = server();
    all[2].shutdown = 1;
    let lines = plan_of(&all);
    let at = |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {lines:?}"));
    assert!(at("shutdown(d42, 0)") < at("connect d42"), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("shutdown(d41")), "{lines:?}");
}

#[test]
fn a_relative_name_is_bound_from_its_directory() {
    let relative = named("/run/x").map(|named| Named { name: Name::Path(b"x"[..].into()), ..named });
    let socket = UnixSocket { peer: None, named: relative, ..socket() };
    assert!(plan_of(&[socket])[1].ends_with("bind d40 to /run/x"));
}

#[test]
fn messages_to_a_name_come_before_anybody_is_connected() {
    let waiting = vec![Blob(b"hello".to_vec())];
    let inbox = UnixSocket { socket_type: 2, peer: None, named: named("/run/in"), waiting, ..socket() };
    let sender = UnixSocket { socket: 80, socket_type: 2, peer: Some(77), ..socket() };
    let logger = UnixSocket { socket: 81, socket_type: 2, peer: None, to: named("@journal"), ..socket() };
    let lines = plan_of(&[inbox, sender, logger]);
    let order = |what: &str| lines.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {lines:?}"));
    let sent = order("write 5 bytes in 1 packets");
    assert!(order("bind d40 to /run/in") < sent && sent < order("connect d41 to /run/in"), "{lines:?}");
    assert!(lines[order("connect(d42, [10 bytes], 10)")].ends_with("(or it is told)"), "{lines:?}");
}

#[test]
fn a_name_that_somebody_else_has() {
    let model = model_of(&server()[..1]);
    let why = |host: &plan::Host| plan_refused(&model, host, &plan::Options::default());
    let mut host = host("root", &model);
    let with = |host: &mut plan::Host, path: &[u8], place: Option<PlaceFacts>| {
        let before = host.places.remove(path);
        host.places.extend(place.map(|place| (path.to_vec(), place)));
        let why = why(host);
        host.places.remove(path);
        host.places.extend(before.map(|place| (path.to_vec(), place)));
        why
    };
    let socket = PlaceFacts { mode: 0o140755, ..PLACE };
    host.places.insert(b"/run/x".to_vec(), socket);
    assert!(resources::plan(&model, &host, &plan::Options::default()).is_ok(), "nobody has it any more");
    let live = PlaceFacts { live: true, ..socket };
    assert_eq!(with(&mut host, b"/run/x", Some(live)), ["socket /run/x: another socket has that name now"]);
    let file = PlaceFacts { mode: 0o100644, ..PLACE };
    assert_eq!(with(&mut host, b"/run/x", Some(file)), ["socket /run/x: something else has that name now"]);
    host.places.remove(&b"/run/x"[..]);
    let mut with = |place: Option<PlaceFacts>| {
        host.places.remove(&b"/run"[..]);
        host.places.extend(place.map(|place| (b"/run".to_vec(), place)));
        why(&host)
    };
    assert_eq!(with(None), ["socket /run/x: the directory of that name is not there"]);
    let closed = PlaceFacts { access: 5, ..PLACE };
    assert_eq!(with(Some(closed)), ["socket /run/x: you may not write into the directory of that name"]);
}

#[test]
fn a_name_that_is_none_of_a_file_may_be_taken() {
    let model = model_of(&[UnixSocket { peer: None, named: named("@x"), ..socket() }]);
    let mut host = host("root", &model);
    let line = "ffff: 00000002 00000000 00010000 0001 01 4711 @x";
    host.told.insert("/proc/net/unix".into(), format!("{line}y"));
    assert!(resources::plan(&model, &host, &plan::Options::default()).is_ok());
    host.told.insert("/proc/net/unix".into(), line.into());
    let refusals = plan_refused(&model, &host, &plan::Options::default());
    assert_eq!(refusals, ["socket @x: another socket has that name now"]);
}

#[test]
fn another_maker_is_told() {
    let model = model_of(&[UnixSocket { maker: Some((1234, 1234)), peer: Some(0), ..socket() }]);
    let notes = planned(&model, &host("root", &model)).notes;
    assert!(notes.iter().any(|note| note.contains("SO_PEERCRED")), "{notes:?}");
}

#[test]
fn pairs_that_cannot_be() {
    let other = || UnixSocket { socket: 78, peer: Some(77), ..socket() };
    let all = [
        vec![socket()],
        vec![socket(), other(), other()],
        vec![socket(), UnixSocket { socket_type: 2, ..other() }],
        vec![socket(), UnixSocket { peer: Some(79), ..other() }],
        vec![UnixSocket { peer: Some(77), ..socket() }],
        // Two take the same connections, both ends were accepted, one without a name takes connections.
        vec![server().remove(0), UnixSocket { socket: 99, ..server().remove(0) }],
        vec![server().remove(0), server().remove(1), UnixSocket { named: named("/run/x"), ..server().remove(2) }],
        vec![UnixSocket { named: None, ..server().remove(0) }],
        vec![UnixSocket { peer: None, shutdown: 4, ..socket() }],
        vec![UnixSocket { peer: None, socket_type: 3, ..socket() }],
    ];
    for sockets in all {
        let damage = Model::from_records(&records(&model_of(&sockets))).expect_err("there is no such pair");
        assert!(damage.to_string().contains("socket"), "{sockets:?}: {damage}");
    }
}
