//! Sockets by which programs talk with the kernel, or see packets: what is told of them, what may not be lost, and how they are made.

use crate::common::*;
use abi::diag::LinkSocket as Told;
use abi::{Errno, Sys};
use plan::Options;
use resources::fd::netlink::NetlinkSocket;
use resources::fd::packet::{Membership, PacketSocket};
use resources::{Blob, Capturing, Description, Files, Keep, Text, Trouble};

const LINK: &str = "socket:[77]";
const INFO: &str = "pos:\t0\nflags:\t04002\nmnt_id:\t10\nino:\t77\n";

fn number(n: u32) -> Vec<Vec<u8>> {
    vec![n.to_ne_bytes().to_vec()]
}

/// A socket of this family.
fn sample(family: u32) -> Recorded {
    let mut sample = Recorded::sample("bash");
    sample.open(40, LINK, 0o140777, 0, INFO);
    sample.answer(Sys::Getsockopt, &[40], Err(Errno::ENOPROTOOPT), vec![]);
    for (option, value) in [(39, family), (3, 3), (38, 0), (7, 212_992), (8, 212_992), (72, 0)] {
        sample.answer(Sys::Getsockopt, &[40, 1, option], Ok(0), number(value));
    }
    sample
}

/// One with the port id 4242, in the groups 1 and 33, and how its answer stands.
fn netlink(answers: u32) -> Recorded {
    let mut sample = sample(16);
    let members = [1u32, 1].map(u32::to_ne_bytes).concat();
    sample.answer(Sys::Getsockopt, &[40, 270, 9], Ok(0), vec![members]);
    let own = [&16u32.to_ne_bytes()[..], &4242u32.to_ne_bytes(), &1u32.to_ne_bytes()].concat();
    sample.answer(Sys::Getsockname, &[40], Ok(0), vec![own]);
    sample.answer(Sys::Getpeername, &[40], Ok(0), vec![vec![0; 12]]);
    let text = format!("sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 0 4242 00000001 0 0 {answers} 2 0 77\n");
    sample.host_texts.insert("/proc/net/netlink".into(), text);
    sample
}

fn captured(sample: &Recorded) -> (Result<Description, Trouble>, Vec<String>) {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut from = Capturing { probe: sample, files: &mut files, keep: Keep::default(), notes: &mut notes };
    let socket = Description::capture(&sample.seen(40), &mut from);
    (socket, notes.into_iter().map(|n| n.why).collect())
}

fn why(sample: &Recorded) -> Vec<String> {
    let all = reasons(&refused(captured(sample).0));
    all.into_iter().map(|r| r.replace(&format!("fd 40 ({LINK}): "), "")).collect()
}

fn plan_of(description: Description) -> Vec<String> {
    let mut model = model("sleep");
    model.descriptions.insert(40, description);
    survives(&model);
    let mut host = host("root", &model);
    host.told.insert("/sys/class/net/lo/ifindex".into(), "1\n".into());
    steps(&planned(&model, &host), &["netlink-socket", "packet-socket"])
}

#[test]
fn one_that_hears_of_devices() {
    let (socket, notes) = captured(&netlink(0));
    let socket = socket.unwrap();
    let expected = NetlinkSocket {
        socket_type: 3,
        flags: 0o4002,
        port: 4242,
        groups: vec![1, 33],
        settings: resources::fd::socket::Settings { room: (212_992, 212_992), ..Default::default() },
        ..NetlinkSocket::default()
    };
    assert_eq!((&socket, notes), (&Description::NetlinkSocket(expected), vec![]));
    let lines = [
        "make    netlink-socket store    d40 = socket(16, 2051, 0)",
        "make    netlink-socket store    bind(d40, [12 bytes], 12) (or it is told)",
        "make    netlink-socket store    setsockopt(d40, 270, 1, [4 bytes], 4) (or it is told)",
        "make    netlink-socket store    setsockopt(d40, 270, 1, [4 bytes], 4) (or it is told)",
        "arm     netlink-socket store    fcntl(d40, 4, 2048)",
    ];
    assert_eq!(plan_of(socket), lines);
}

#[test]
fn answers_may_not_be_lost() {
    assert_eq!(why(&netlink(1)), ["answers of the kernel wait to be read"]);
    let mut waits = netlink(0);
    waits.ready = 1;
    let to = |groups: u8| [vec![], vec![16, 0, 0, 0, 0, 0, 0, 0, groups, 0, 0, 0], vec![], vec![]].to_vec();
    waits.answer(Sys::Recvmsg, &[40], Ok(1), to(0));
    assert_eq!(why(&waits), ["answers, or messages to it alone, wait to be read"]);
    waits.answer(Sys::Recvmsg, &[40], Ok(1), to(1));
    let (socket, notes) = captured(&waits);
    assert!(socket.is_ok());
    assert_eq!(notes, ["messages that wait in it are lost"]);
    // To read would take the error away.
    waits.ready = 1 | 8;
    waits.answer(Sys::Recvmsg, &[40], Err(Errno(105)), vec![]);
    let notes = captured(&waits).1;
    assert_eq!(notes.len(), 2, "{notes:?}");
    let mut elsewhere = netlink(0);
    elsewhere.host_texts.insert("/proc/net/netlink".into(), String::new());
    assert_eq!(why(&elsewhere), ["it is in another network namespace"]);
}

fn packets() -> Told {
    let memberships = vec![(1, 1, vec![])];
    Told { inode: 77, kind: 3, protocol: 0x0800, interface: 1, memberships, ..Told::default() }
}

fn packet_socket(told: Told) -> Recorded {
    let mut sample = sample(17);
    sample.packets = vec![told];
    sample.host_texts.insert("/proc/net/dev".into(), "Inter-| Receive\n face |bytes\n    lo: 1 2\n".into());
    sample.host_texts.insert("/sys/class/net/lo/ifindex".into(), "1\n".into());
    sample
}

#[test]
fn one_that_sees_packets() {
    let socket = captured(&packet_socket(packets())).0.unwrap();
    let Description::PacketSocket(kept) = &socket else { panic!("no such socket: {socket:?}") };
    let of = Membership { interface: Text(b"lo".to_vec()), sort: 1, address: Blob(vec![]) };
    assert_eq!((&kept.interface, &kept.memberships), (&Some(Text(b"lo".to_vec())), &vec![of]));
    let lines = [
        "make    packet-socket store    d40 = socket(17, 2051, 0)",
        "make    packet-socket store    bind(d40, [20 bytes], 20)",
        "make    packet-socket store    setsockopt(d40, 263, 1, [40 bytes], 40)",
        "arm     packet-socket store    fcntl(d40, 4, 2048)",
    ];
    assert_eq!(plan_of(socket), lines);
}

/// One with a ring of two blocks of one page, whose memory begins so, and then is zeroes or not.
fn with_ring(version: u32, private: u32, first: &[u32], rest_is_new: bool) -> Recorded {
    let asked = [4096, 2, 2048, 4, 8, private, 0].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
    let mut one = packet_socket(Told { rings: vec![(5, asked)], ..packets() });
    one.answer(Sys::Getsockopt, &[40, 263, 10], Ok(0), number(version));
    let mut bytes: Vec<u8> = first.iter().flat_map(|n| n.to_ne_bytes()).collect();
    bytes.resize(48, 0);
    one.looked_into = Some((8192, bytes, rest_is_new));
    one
}

#[test]
fn rings_by_which_nothing_has_passed() {
    let socket = captured(&with_ring(1, 0, &[], true)).0.unwrap();
    let lines = plan_of(socket);
    // The version first, and nothing comes before all is set.
    let first = ["setsockopt(d40, 263, 10, ", "setsockopt(d40, 263, 5, [28 bytes], 28)", "bind(d40, "];
    assert!(lines[1..].iter().zip(first).all(|(line, part)| line.contains(part)), "{lines:?}");
    let used =
        "packets have passed by its ring (PACKET_RX_RING, PACKET_TX_RING), and nobody tells where in it the kernel is";
    // A frame that waits; one that was given back; a later one.
    for (first, rest_is_new) in [(&[1u32, 42, 42][..], true), (&[0, 42, 42], true), (&[], false)] {
        assert_eq!(why(&with_ring(1, 0, first, rest_is_new)), [used]);
    }
    // Blocks: number, places, status, packets, where the first is, bytes, how many blocks were before, and the time.
    let new = [2, 48, 0, 0, 48 + 16, 48 + 16, 1, 0, 1_700_000_000, 5];
    assert!(captured(&with_ring(2, 9, &new, true)).0.is_ok());
    for (at, value) in [(2, 1), (3, 1), (5, 200), (6, 3), (11, 5)] {
        let mut other = new.to_vec();
        other.resize(12, 0);
        other[at] = value;
        assert_eq!(why(&with_ring(2, 9, &other, true)), [used], "{at}");
    }
    assert_eq!(why(&with_ring(1, 0, &new, true)), [used]);
    assert_eq!(why(&with_ring(2, 0, &[], true)), [used]);
}

#[test]
fn packets_that_cannot_be_seen_again() {
    assert_eq!(why(&packet_socket(Told { interface: 9, ..packets() })), ["its interface is gone"]);
    let elsewhere = why(&packet_socket(Told { inode: 78, ..packets() }));
    assert_eq!(elsewhere, ["it is in another network namespace"]);
    let mut by_program = packet_socket(Told { has_fanout: true, ..packets() });
    by_program.answer(Sys::Getsockopt, &[40, 263, 18], Ok(0), number(7 << 16 | 5));
    assert_eq!(why(&by_program), ["a program chooses who gets what (PACKET_FANOUT_DATA)"]);
    let mut model = model("sleep");
    let socket = PacketSocket { interface: Some(Text(b"eth9".to_vec())), ..PacketSocket::default() };
    model.descriptions.insert(40, Description::PacketSocket(socket));
    let refused = resources::plan(&model, &host("user", &model), &Options::default()).expect_err("there is no eth9");
    let lines = reasons(&refused);
    assert!(lines.contains(&"packet socket: only root, or who has CAP_NET_RAW, may have one".to_owned()), "{lines:?}");
    let absent = "interface eth9: packets of it are waited for, and it is not here";
    assert!(lines.contains(&absent.to_owned()), "{lines:?}");
}
