//! Worlds of sockets of AF_UNIX: pairs, connections to who takes them, messages to names.

use super::pipes::{flags, happens, signal};
use super::{Did, Family, Letter, Nothing, Rule, Sent, Something, Story, World, unix};
use crate::closing::{IN_FLIGHT, let_go};
use crate::flights::ancillary;
use crate::sys::{self, errno};

/// The ends of a pair, and places for more.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

pub(super) const PAIRS: Family = Family {
    name: "pairs",
    starts: &[
        Letter { sign: 'S', act: |w| pair(w, libc::SOCK_STREAM) },
        Letter { sign: 'D', act: |w| pair(w, libc::SOCK_DGRAM) },
        Letter { sign: 'Q', act: |w| pair(w, libc::SOCK_SEQPACKET) },
    ],
    letters: &[
        Letter { sign: '1', act: |w| send(w, A, b"1") },
        Letter { sign: '2', act: |w| both(send(w, B, b"22"), send(w, B, b"23")) },
        Letter { sign: '0', act: |w| send(w, A, b"") },
        Letter { sign: 'r', act: |w| receive(w, B, 0) },
        Letter { sign: 'k', act: |w| receive(w, B, libc::MSG_PEEK) },
        Letter { sign: 'R', act: |w| shut(w, A, libc::SHUT_RD) },
        Letter { sign: 'W', act: |w| shut(w, A, libc::SHUT_WR) },
        Letter { sign: 'x', act: |w| w.close(A) },
        Letter { sign: 'y', act: |w| w.close(B) },
        Letter { sign: 'd', act: |w| copy(w, B, C) },
        Letter { sign: 'n', act: |w| bind(w, A, &w.name.clone()) },
        Letter { sign: 'c', act: |w| tells(w, B) },
        Letter { sign: 'f', act: itself },
        Letter { sign: 'g', act: |w| given(w, give_pipe) },
        // Those in flight that send signals are refused, by no number.
        Letter { sign: 's', act: |w| if brings(w) { Nothing } else { both(signal(w, A), signal(w, B)) } },
    ],
    rules: &[RESET, OF_ANOTHER],
    ask,
};

pub(super) const CONNECTIONS: Family = Family {
    name: "connections",
    starts: &[
        Letter { sign: 'S', act: |w| listener(w, libc::SOCK_STREAM) },
        Letter { sign: 'F', act: |w| named(w, |w| listener(w, libc::SOCK_STREAM)) },
        Letter { sign: 'Q', act: |w| listener(w, libc::SOCK_SEQPACKET) },
    ],
    letters: &[
        Letter { sign: 'c', act: |w| connect(w, B) },
        Letter { sign: 'e', act: |w| connect(w, D) },
        Letter { sign: 'a', act: accept },
        Letter { sign: '1', act: |w| send(w, B, b"1") },
        Letter { sign: '2', act: |w| send(w, D, b"2") },
        Letter { sign: '3', act: |w| send(w, C, b"3") },
        Letter { sign: 'r', act: |w| receive(w, C, 0) },
        Letter { sign: 'W', act: |w| shut(w, B, libc::SHUT_WR) },
        Letter { sign: 'R', act: |w| shut(w, C, libc::SHUT_RD) },
        Letter { sign: 'x', act: |w| w.close(A) },
        Letter { sign: 'y', act: |w| w.close(B) },
        Letter { sign: 'z', act: |w| w.close(C) },
        Letter { sign: 'u', act: |w| if std::fs::remove_file(w.path()).is_ok() { Something } else { Nothing } },
        // Who waits to be accepted has what it had when he came, which nobody tells of him.
        Letter { sign: 'p', act: |w| if w.pending.is_empty() { tells(w, A) } else { Nothing } },
        Letter { sign: 'b', act: |w| listen(w, 0) },
        Letter { sign: 's', act: |w| both(signal(w, B), signal(w, C)) },
    ],
    rules: &[
        Rule { text: "its connection waits to be accepted, and it has sent something already", names: is_hasty },
        Rule { text: "a connection waits to be accepted whose other end is closed", names: is_given_up },
        RESET,
    ],
    ask,
};

pub(super) const MESSAGES: Family = Family {
    name: "messages",
    starts: &[Letter { sign: 'D', act: inbox }, Letter { sign: 'F', act: |w| named(w, inbox) }],
    letters: &[
        Letter { sign: 'c', act: |w| address(w, B, A) },
        Letter { sign: 'C', act: |w| address(w, A, B) },
        Letter { sign: 'o', act: |w| address(w, A, A) },
        Letter { sign: 'q', act: disconnect },
        Letter { sign: 'n', act: |w| bind(w, B, &w.second()) },
        Letter { sign: '1', act: |w| send(w, B, b"1") },
        Letter { sign: 's', act: |w| send_to(w, B, A, b"s") },
        Letter { sign: '0', act: |w| send_to(w, B, A, b"") },
        Letter { sign: '3', act: |w| send_to(w, A, B, b"3") },
        Letter { sign: 't', act: third },
        Letter { sign: 'r', act: |w| receive(w, A, 0) },
        Letter { sign: 'k', act: |w| receive(w, A, libc::MSG_PEEK) },
        Letter { sign: 'p', act: |w| tells(w, A) },
        Letter { sign: 'P', act: |w| tells(w, B) },
        Letter { sign: 'x', act: |w| w.close(A) },
        Letter { sign: 'y', act: |w| w.close(B) },
        Letter { sign: 'u', act: |w| if std::fs::remove_file(w.path()).is_ok() { Something } else { Nothing } },
        Letter { sign: 'W', act: |w| shut(w, B, libc::SHUT_WR) },
        Letter { sign: 'R', act: |w| shut(w, A, libc::SHUT_RD) },
    ],
    rules: &[OF_ANOTHER],
    ask,
};

/// To look at what waits in a socket of messages would take the error away (net/core/datagram.c, `__skb_try_recv_datagram`).
const RESET: Rule = Rule { text: "an error waits to be told (SO_ERROR)", names: is_reset };

fn is_reset(world: &World) -> bool {
    let is = |fd: i32| happens(fd) & libc::POLLERR != 0 && option(fd, libc::SO_TYPE) != libc::SOCK_STREAM;
    world.fds.iter().any(|fd| *fd >= 0 && is(*fd))
}

/// Nobody but its other end can send to one that has one, and nobody by a name to one without.
const OF_ANOTHER: Rule = Rule {
    text: "messages wait in it from one that is not its other end",
    names: |w| (A..=B).any(|place| is_of_another(w, place)),
};

fn is_of_another(world: &World, place: usize) -> bool {
    let here = |place: usize| world.at(place).or(world.at(C).filter(|_| place == B));
    let Some(fd) = here(place).filter(|fd| option(*fd, libc::SO_TYPE) == libc::SOCK_DGRAM) else { return false };
    let is_there = |other: usize| here(other).is_some() || world.queues[place].iter().any(|sent| sent.brings);
    let other = world.peers[place].filter(|other| world.peers[*other] == Some(place) && is_there(*other));
    let writer = other.map_or("", |other| &world.names[other]);
    let name = |sent: &Sent| sent.from.map_or("", |from| &world.names[from]);
    let by_name = |sender: &str| other.is_none() && !sender.is_empty() && !own_name(fd).is_empty();
    world.queues[place].iter().map(name).any(|sender| sender != writer && !by_name(sender))
}

fn own_name(fd: i32) -> String {
    unix::names(fd).map(|[own, _]| own).unwrap_or_default()
}

/// Something was sent.
fn sent(world: &mut World, from: usize, to: Option<usize>) {
    know(world, from);
    to.into_iter().for_each(|to| world.queues[to].push(Sent { from: Some(from), brings: false }));
}

/// A message is that of who has a name, also if he got it afterwards (net/unix/af_unix.c, `unix_copy_addr`).
fn know(world: &mut World, place: usize) {
    world.names[place] = world.at(place).map_or_else(String::new, own_name);
}

fn bind(world: &mut World, place: usize, name: &str) -> Did {
    let done = world.with(place, |fd| unix::bind(fd, name).is_ok());
    know(world, place);
    done
}

/// One that waits to be accepted has said something.
fn is_hasty(world: &World) -> bool {
    let said = |place: usize| world.at(place).is_some_and(|fd| count(fd, libc::TIOCOUTQ).is_ok_and(|count| count > 0));
    world.at(A).is_some() && world.pending.iter().flatten().any(|place| said(*place))
}

/// One that waits to be accepted is closed: what it has said nobody knows.
fn is_given_up(world: &World) -> bool {
    world.at(A).is_some() && world.pending.contains(&None)
}

fn did(it: bool) -> Did {
    if it { Something } else { Nothing }
}

fn both(one: Did, other: Did) -> Did {
    did(one == Something || other == Something)
}

/// Whether a descriptor is in flight.
fn brings(world: &World) -> bool {
    world.queues.iter().flatten().any(|sent| sent.brings)
}

fn pair(world: &mut World, kind: i32) -> Did {
    unix::pair(kind).map_or(Nothing, |ends| {
        world.fds[..2].copy_from_slice(&ends);
        world.peers[..2].copy_from_slice(&[Some(B), Some(A)]);
        Something
    })
}

/// With names of files.
fn named(world: &mut World, start: impl FnOnce(&mut World) -> Did) -> Did {
    let here = std::env::current_dir().unwrap_or_default();
    world.name = here.join(world.path()).display().to_string();
    start(world)
}

fn listener(world: &mut World, kind: i32) -> Did {
    let fd = unix::listening(kind, &world.name);
    world.set(A, fd)
}

fn inbox(world: &mut World) -> Did {
    for place in [A, B] {
        let fd = unix::socket(libc::SOCK_DGRAM);
        world.set(place, fd);
    }
    bind(world, A, &world.name.clone())
}

/// To send to who has gone, or hears nothing, is an error, and may end a connection (net/unix/af_unix.c, `unix_dgram_sendmsg`); to send
/// without one is nothing, but for a name that is had for it ([`tells`]).
fn send(world: &mut World, place: usize, bytes: &[u8]) -> Did {
    let Some(fd) = world.at(place) else { return Nothing };
    let result = unix::send(fd, bytes);
    if result.is_ok() {
        sent(world, place, world.peers[place]);
    }
    did(match result {
        Ok(sent) => sent > 0 || option(fd, libc::SO_TYPE) != libc::SOCK_STREAM,
        Err(libc::EAGAIN) => false,
        Err(libc::ENOTCONN) => option(fd, libc::SO_PASSCRED) != 0,
        Err(_) => true,
    })
}

/// The first end gives itself.
fn itself(world: &mut World) -> Did {
    if world.at(A).is_some_and(|fd| flags(fd)[0] & libc::O_ASYNC != 0) {
        return Nothing;
    }
    let done = given(world, |fd| give(fd, fd));
    if done == Something {
        world.mark(IN_FLIGHT);
        world.queues[B].last_mut().into_iter().for_each(|sent| sent.brings = true);
    }
    done
}

/// The first end gives something to the other one.
fn given(world: &mut World, give: impl FnOnce(i32) -> bool) -> Did {
    let done = world.with(A, give);
    if done == Something {
        sent(world, A, Some(B));
    }
    done
}

fn receive(world: &mut World, place: usize, how: i32) -> Did {
    let Some(fd) = world.at(place) else { return Nothing };
    let result = got(fd, 1, how, 0);
    if result.is_ok() && how == 0 && !world.queues[place].is_empty() {
        world.queues[place].remove(0);
    }
    did(!matches!(result, Err(libc::EAGAIN | libc::ENOTCONN | libc::EINVAL)))
}

/// What one at a place sends goes to who has the name of another place.
fn address(world: &mut World, from: usize, to: usize) -> Did {
    let name = if to == A { world.name.clone() } else { world.second() };
    let done = world.with(from, |fd| unix::connect(fd, &name).is_ok());
    if done == Something {
        world.peers[from] = Some(to);
    }
    done
}

fn shut(world: &World, place: usize, how: i32) -> Did {
    world.with(place, |fd| unix::shut_down(fd, how).is_ok())
}

fn copy(world: &mut World, place: usize, to: usize) -> Did {
    let Some(fd) = world.at(place).filter(|_| world.at(to).is_none()) else { return Nothing };
    let made = sys::fcntl(fd, libc::F_DUPFD, 0);
    world.set(to, made)
}

/// It tells who sends (SO_PASSCRED), and has a name for that when it is used.
fn tells(world: &World, place: usize) -> Did {
    world.with(place, |fd| option(fd, libc::SO_PASSCRED) == 0 && unix::set(fd, libc::SO_PASSCRED, 1).is_ok())
}

fn give(fd: i32, right: i32) -> bool {
    crate::flights::send(fd, b"f", &[right]).is_ok()
}

/// Gives an end of a pipe away, in which something is.
fn give_pipe(fd: i32) -> bool {
    crate::kin::pipe().is_ok_and(|[reader, writer]| {
        let _ = sys::write(writer, b"in flight");
        let given = give(fd, reader);
        [reader, writer].into_iter().for_each(sys::close);
        given
    })
}

fn listen(world: &World, backlog: i32) -> Did {
    // SAFETY: takes integers.
    world.with(A, |fd| unsafe { libc::listen(fd, backlog) } == 0)
}

/// Never waits.
fn new_connection(kind: i32, name: &str) -> Result<i32, i32> {
    let fd = unix::socket(kind | libc::SOCK_NONBLOCK).map_err(|_| errno())?;
    match unix::connect(fd, name) {
        Ok(()) => Ok(fd),
        Err(_) => {
            let why = errno();
            let_go(fd, &[]);
            Err(why)
        }
    }
}

fn connect(world: &mut World, place: usize) -> Did {
    let (Some(listener), None) = (world.at(A), world.at(place)) else { return Nothing };
    let made = new_connection(option(listener, libc::SO_TYPE), &world.name);
    world.pending.extend(made.ok().map(|_| Some(place)));
    world.set(place, made.map_err(|e| e.to_string()))
}

fn accept_now(listener: i32) -> Result<i32, i32> {
    if happens(listener) & libc::POLLIN == 0 {
        return Err(libc::EAGAIN);
    }
    // SAFETY: nobody asks who it is.
    let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), 0) };
    if fd < 0 { Err(errno()) } else { Ok(fd) }
}

fn accept(world: &mut World) -> Did {
    let (Some(listener), None) = (world.at(A), world.at(C)) else { return Nothing };
    let new = accept_now(listener);
    if new.is_ok() {
        world.pending.remove(0);
    }
    world.set(C, new.map_err(|e| e.to_string()))
}

fn disconnect(world: &mut World) -> Did {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    world.peers[B] = None;
    // SAFETY: the address lives as long as the call.
    world.with(B, |fd| unsafe { libc::connect(fd, &raw const nobody, 16) == 0 })
}

fn sent_to(fd: i32, name: &str, bytes: &[u8]) -> Result<usize, i32> {
    let (address, len) = unix::address(name);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: bytes and address live as long as the call.
    let sent = unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), flags, (&raw const address).cast(), len) };
    usize::try_from(sent).map_err(|_| errno())
}

/// What it may have, if not sent, is a name.
fn send_to(world: &mut World, from: usize, to: usize, bytes: &[u8]) -> Did {
    let name = if to == A { world.name.clone() } else { world.second() };
    let Some(fd) = world.at(from) else { return Nothing };
    let is_sent = sent_to(fd, &name, bytes).is_ok();
    if is_sent {
        sent(world, from, Some(to));
    }
    did(is_sent || option(fd, libc::SO_PASSCRED) != 0)
}

/// One that nobody has any more has sent something.
fn third(world: &mut World) -> Did {
    let Ok(fd) = unix::socket(libc::SOCK_DGRAM) else { return Nothing };
    let is_sent = sent_to(fd, &world.name, b"t").is_ok();
    let_go(fd, &[]);
    if is_sent {
        world.queues[A].push(Sent { from: None, brings: false });
    }
    did(is_sent)
}

fn option(fd: i32, name: i32) -> i32 {
    unix::option(fd, name).unwrap_or(-1)
}

/// What one call gave: what it gave back, bytes, flags, the name of who sent it, who that is, descriptors.
type Got = (usize, String, i32, String, String, Vec<String>);

/// Which process sent it only root may tell again (net/core/scm.c, `scm_check_creds`), so an ordinary user is told another one; and he
/// has other users then, but for himself (user_namespaces(7)).
fn who(cred: [i32; 3]) -> String {
    // SAFETY: takes nothing.
    let own = unsafe { libc::geteuid() }.cast_signed();
    match cred[0] {
        _ if own != 0 => format!("of us {}", cred[1] == own),
        pid if pid == std::process::id().cast_signed() => format!("us {} {}", cred[1], cred[2]),
        0 => format!("nobody {} {}", cred[1], cred[2]),
        _ => format!("somebody {} {}", cred[1], cred[2]),
    }
}

/// A name; one that the kernel has chosen (unix(7), "Autobind feature") is another one each time.
fn known(address: &libc::sockaddr_un, len: u32) -> String {
    let name: String =
        address.sun_path[..len.saturating_sub(2) as usize].iter().map(|b| char::from(*b as u8)).collect();
    if name.starts_with('\0') && name.len() == 6 { "(chosen)".into() } else { name }
}

fn got(fd: i32, room: usize, how: i32, depth: usize) -> Result<Got, i32> {
    let (mut bytes, mut control, mut address) = (vec![0u8; room], [0u64; 32], unix::address("").0);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: zero is a value of the type; all that it points to outlives the call, and is read as the kernel wrote it (cmsg(3)).
    let (len, told) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 256);
        (message.msg_name, message.msg_namelen) = ((&raw mut address).cast(), 110);
        let len = libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT | how);
        if len < 0 {
            return Err(errno());
        }
        (len as usize, message)
    };
    // SAFETY: as above.
    let (rights, whose) = unsafe { ancillary(&told) };
    let whose = whose.map_or_else(String::new, who);
    let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
    let rights = rights.into_iter().map(|right| what_came(right, depth)).collect();
    // That of one that is closed is lost, as a freeze tells; but by messages to names.
    let is_lost = option(fd, libc::SO_TYPE) != libc::SOCK_DGRAM && happens(fd) & libc::POLLHUP != 0;
    let name = if is_lost { String::new() } else { known(&address, told.msg_namelen) };
    Ok((len, text, told.msg_flags, name, whose, rights))
}

/// Of a descriptor that came: its kind, its flags, what is in it.
fn what_came(fd: i32, depth: usize) -> String {
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default().display().to_string();
    let kind = target.split(':').next().unwrap_or_default().to_owned();
    let mut told = format!("{kind} {:?} poll {}", flags(fd), happens(fd));
    match &*kind {
        "pipe" => told += &format!(" {:?}", sys::read_up_to(fd, 100)),
        _ if depth == 0 => told += &format!(" {:?}", received(fd, 1)),
        _ => {}
    }
    sys::close(fd);
    told
}

/// Everything that comes, until nothing does.
fn received(fd: i32, depth: usize) -> Vec<Result<Got, i32>> {
    let mut all = Vec::new();
    let mut empty = 0;
    while empty < 3 && all.len() < 40 {
        let next = got(fd, 100, 0, depth);
        empty += usize::from(!next.as_ref().is_ok_and(|got| got.0 > 0));
        all.push(next);
    }
    all
}

/// Names: its own; that of its other end, but of one that is closed, which a freeze tells to be lost.
fn names(fd: i32, is_alone: bool) -> [Result<String, i32>; 2] {
    let is_alone = is_alone || happens(fd) & libc::POLLHUP != 0;
    [true, false].map(|own| {
        if !own && is_alone {
            return Err(0);
        }
        let (mut address, mut len) = (unix::address("").0, 110);
        let room = (&raw mut address).cast();
        // SAFETY: room for an address, and its length.
        let r = unsafe {
            if own { libc::getsockname(fd, room, &raw mut len) } else { libc::getpeername(fd, room, &raw mut len) }
        };
        if r < 0 { Err(errno()) } else { Ok(known(&address, len)) }
    })
}

fn count(fd: i32, request: libc::Ioctl) -> Result<i32, i32> {
    let mut count = 0;
    // SAFETY: room for an integer.
    let r = unsafe { libc::ioctl(fd, request, &raw mut count) };
    if r < 0 { Err(errno()) } else { Ok(count) }
}

/// What can be asked without taking anything. How much room what it has sent takes depends on how many pieces it is in, which nobody
/// is told who reads them: so only whether it takes any. Of messages that came by a name, nobody is told who has sent them but by that.
fn looks(fd: i32, is_alone: bool, story: &mut Story, place: usize) {
    const OPTIONS: [i32; 8] = [
        libc::SO_TYPE,
        libc::SO_ACCEPTCONN,
        libc::SO_PASSCRED,
        libc::SO_SNDBUF,
        libc::SO_RCVBUF,
        libc::SO_PEEK_OFF,
        libc::SO_RCVLOWAT,
        libc::SO_DOMAIN,
    ];
    story.tell(&format!("{place} flags"), flags(fd));
    story.tell(&format!("{place} poll"), happens(fd));
    story.tell(&format!("{place} names"), names(fd, is_alone));
    story.tell(&format!("{place} waits"), count(fd, libc::FIONREAD));
    let has_sent = || count(fd, libc::TIOCOUTQ).map(|count| count > 0);
    story.tell(&format!("{place} has sent"), (option(fd, libc::SO_TYPE) != libc::SOCK_DGRAM).then(has_sent));
    story.tell(&format!("{place} options"), OPTIONS.map(|name| option(fd, name)));
}

/// As much as goes in.
fn fill(fd: i32) -> (usize, i32) {
    let piece = vec![b'f'; 16_000];
    let mut sent = 0;
    loop {
        match unix::send(fd, &piece) {
            Ok(_) if sent < 100 => sent += 1,
            Ok(_) => return (sent, 0),
            Err(e) => return (sent, e),
        }
    }
}

/// All that have come to be asked by now.
fn all(world: &World) -> Vec<(usize, i32)> {
    world.fds.iter().copied().enumerate().filter(|(_, fd)| *fd >= 0).collect()
}

fn ask(world: &mut World, story: &mut Story) {
    let is_alone = [A, B].iter().any(|place| world.at(*place).is_none());
    for (place, fd) in all(world) {
        looks(fd, is_alone, story, place);
    }
    for (place, fd) in all(world) {
        story.tell(&format!("{place} hears"), received(fd, 0));
    }
    ask_connections(world, story);
    for round in ["sends", "sends again"] {
        for (place, fd) in all(world) {
            story.tell(&format!("{place} {round}"), unix::send(fd, b"!"));
        }
    }
    for (place, fd) in all(world) {
        story.tell(&format!("{place} hears then"), received(fd, 0));
        story.tell(&format!("{place} error"), option(fd, libc::SO_ERROR));
    }
    ask_names(world, story);
    for (place, fd) in all(world) {
        story.tell(&format!("{place} takes"), fill(fd));
    }
    for (place, fd) in all(world) {
        story.tell(&format!("{place} gives"), received(fd, 0).len());
    }
    ask_ends(world, story);
}

/// Accepts what waits, and looks at it.
fn ask_connections(world: &mut World, story: &mut Story) {
    for (place, fd) in all(world) {
        for _ in 0..3 {
            let Ok(new) = accept_now(fd) else { break };
            story.tell(&format!("{place} accepts"), world.fds.len());
            looks(new, false, story, world.fds.len());
            story.tell("it hears", received(new, 0));
            world.fds.push(new);
        }
    }
}

/// One that was accepted from who is gone is found by its name when it is thawed, and takes no connection either.
fn refused(why: i32) -> i32 {
    if why == libc::EPROTOTYPE { libc::ECONNREFUSED } else { why }
}

/// Who asks for it by its name.
fn ask_names(world: &World, story: &mut Story) {
    for name in [world.name.clone(), world.second()] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
            let new = new_connection(kind, &name).map_err(refused);
            story.tell(&format!("to {name} by {kind}"), new.map(|fd| (unix::send(fd, b"new"), happens(fd))));
            for (place, fd) in all(world) {
                let heard = received(fd, 0);
                story.tell(&format!("{place} hears of it"), heard);
                accept_now(fd).into_iter().for_each(|fd| {
                    story.tell("accepted", received(fd, 0));
                    let_go(fd, &[]);
                });
            }
            new.into_iter().for_each(|fd| let_go(fd, &[]));
        }
    }
}

/// They are closed, one after the other.
fn ask_ends(world: &mut World, story: &mut Story) {
    for (place, _) in all(world) {
        world.close(place);
        for (other, fd) in all(world) {
            let told =
                (happens(fd), received(fd, 0).len(), unix::send(fd, b"z"), option(fd, libc::SO_ERROR), names(fd, true));
            story.tell(&format!("when {place} is closed, {other}"), told);
        }
    }
}
