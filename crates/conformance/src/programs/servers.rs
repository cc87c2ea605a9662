//! Servers with their clients, which do not rest, and programs that are told of things or tell them.

use super::talk;
use crate::case::Case;
use crate::case::Flavour::{Again, PidNs, Root, Snapshot, User};
use crate::case::Step::{Exit, Expect, Type};

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [servers(), told()].concat()
}

/// A server and its clients, which do not rest. While the original lives it has the addresses, and for a minute after it has ended.
fn servers() -> Vec<Case> {
    let goes_on = [Expect("bench 0\r\n"), Exit(5)];
    vec![
        talk(
            "redis",
            &["bash", "-c", include_str!("../../programs/redis.sh")],
            &[Expect("ready\r\n")],
            &[&[Type("\n")], &goes_on[..]].concat(),
        )
        .but(&[Snapshot, PidNs]),
        // It does not run as root, and only for a user who has a name. What it would leave of System V IPC goes with its namespace:
        // a later program may get the id of who used that last.
        talk(
            "postgres",
            &["unshare", "--ipc", "bash", "-c", include_str!("../../programs/postgres.sh")],
            &[Expect("ready\r\n")],
            &goes_on,
        )
        .only(&[Root]),
        // It serves only users who have a name.
        bus().but(&[PidNs, User]),
        uring(),
    ]
}

/// A bus of its own, a service on it, and a program that calls it all the time and looks at each answer.
fn bus() -> Case {
    let goes_on = [Type("\n"), Expect("calls 0\r\n"), Exit(5)];
    Case {
        delay: 0..300,
        ..talk("dbus", &["bash", "-c", include_str!("../../programs/dbus.sh")], &[Expect("ready\r\n")], &goes_on)
    }
}

/// A program in C that reads a file by rings of io_uring, all the time, and looks at each byte: what it needs of the library is in
/// the ring, in registered buffers, and in numbers that it keeps itself.
fn uring() -> Case {
    let goes_on = [Type("\n"), Expect("reads 0\r\n"), Exit(5)];
    Case {
        delay: 0..300,
        ..talk("liburing", &["bash", "-c", include_str!("../../programs/uring.sh")], &[Expect("ready\r\n")], &goes_on)
    }
}

/// Programs that are told of things, or tell them to somebody outside of the tree.
fn told() -> Vec<Case> {
    vec![
        talk(
            "inotifywait",
            &["bash", "-c", include_str!("../../programs/inotifywait.sh")],
            &[Expect("ready\r\n")],
            &[Type("\n"), Expect("told 0\r\n"), Exit(5)],
        ),
        // The one to whom they send messages takes its name anew when the frozen program has ended, as after a restart. The harness
        // would take it for the program when that is frozen again.
        talk(
            "syslog",
            &["bash", "-c", include_str!("../../programs/syslog.sh")],
            &[Expect("ready\r\n")],
            &[Type("\n"), Expect("heard 0\r\n"), Exit(5)],
        )
        .but(&[Again]),
    ]
}
