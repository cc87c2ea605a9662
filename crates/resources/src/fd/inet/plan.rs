//! How sockets of AF_INET and AF_INET6 are made again: connections before whoever takes some at the same address.

use super::{DGRAM, InetSocket, RAW, RECEIVES, SENDS, STREAM, TCP_LISTEN, encoded};
use crate::fd::socket::{self, RECEIVE, SEND, widen};
use crate::{Blob, Description, Model, Planning, Resource};
use abi::consts::cap::{CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW};
use abi::consts::socket::{
    IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, IPV6_V6ONLY, SHUT_RD, SHUT_WR, SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT,
    SOCK_NONBLOCK, SOL_SOCKET, UDP_CORK,
};
use abi::{Sys, proc};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use plan::{Actor, Datagram, Descr, Expect, Fact, Moment, Op, Refusal, TcpEnd, Value};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const NAME: &str = InetSocket::NAME;

/// IP_FREEBIND and IP_TRANSPARENT, IPV6_TRANSPARENT and IPV6_FREEBIND: with these an address need not be here.
const ANYWHERE: [(u64, u64); 4] = [(IPPROTO_IP, 15), (IPPROTO_IP, 19), (IPPROTO_IPV6, 75), (IPPROTO_IPV6, 78)];
const TIME_WAIT: u8 = 6;
/// For how long a connection that has ended keeps its address (include/net/tcp.h, TCP_TIMEWAIT_LEN), and a little more.
const KEPT: Duration = Duration::from_secs(62);
/// FIN_WAIT1 and 2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING (include/net/tcp_states.h).
const ENDING: [u8; 6] = [4, 5, TIME_WAIT, 8, 9, 11];
/// What the receiver of a new connection has room for in any case (net.ipv4.tcp_rmem).
const RECEIVED: usize = 1 << 15;
/// What its sender has room for over the loopback: ten segments, each as long as a packet there may be (net/ipv4/tcp_input.c,
/// `tcp_sndbuf_expand`).
const SENT: usize = 1 << 19;

/// The texts that tell which addresses are taken here, and the lowest port that needs no privilege.
const TAKEN: [(u64, [&str; 2]); 2] =
    [(STREAM, ["/proc/net/tcp", "/proc/net/tcp6"]), (DGRAM, ["/proc/net/udp", "/proc/net/udp6"])];
/// What the kernel adds to a message.
const BESIDES: usize = 1 << 11;
const LOOPBACK: &str = "/sys/class/net/lo/flags";
/// The ports that the kernel gives to who connects, and its version: since Linux 6.3 one can ask for a certain one of them, which others
/// may have to others (ip(7), IP_LOCAL_PORT_RANGE).
const GIVEN: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const SHARES_SINCE: [u32; 2] = [6, 3];
/// Whether the address of a connection that has ended is given to the same anew: 1, or 2, over the loopback (ip-sysctl).
const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
/// To how many bytes anybody may set the room of a receiver, which the kernel doubles (socket(7)).
const ROOM: &str = "/proc/sys/net/core/rmem_max";
const UNPRIVILEGED: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// A socket with its description.
type One<'a> = (Descr, &'a InetSocket);

/// What is to be known of a port.
#[derive(Default)]
struct Ports {
    /// What must be there before somebody takes connections at it: until then it may be had again.
    before: HashMap<u16, Vec<Fact>>,
    /// How many take connections at it.
    takers: HashMap<u16, usize>,
}

/// The texts that tell of sockets of its sort.
fn texts(socket: &InetSocket) -> &'static [&'static str] {
    // UDP-Lite and echoes have numbers of their own: whether one can be had is found when it is asked for.
    let is_told = socket.socket_type != DGRAM || socket.protocol == IPPROTO_UDP;
    TAKEN.iter().find(|(kind, _)| *kind == socket.socket_type && is_told).map_or(&[], |(_, texts)| &texts[..])
}

/// What a survey has to read for the sockets of a tree.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let bound = || model.inet_sockets().filter(|s| s.bound().is_some());
    let mut all: Vec<String> = bound().flat_map(texts).map(|text| (*text).to_owned()).collect();
    all.extend(bound().next().map(|_| UNPRIVILEGED.to_owned()));
    all.extend(model.inet_sockets().flat_map(super::groups::questions));
    let connected = model.inet_sockets().any(|s| s.connected);
    all.extend([LOOPBACK, GIVEN, RELEASE, REUSE, ROOM].into_iter().filter(|_| connected).map(str::to_owned));
    abi::sort(&mut all);
    all.dedup();
    all
}

/// By inode number, those of connections within the tree, and of whoever takes some.
pub(crate) fn by_number(model: &Model) -> BTreeMap<u64, &InetSocket> {
    abi::gathered(model.inet_sockets().filter(|s| s.socket != 0).map(|s| (s.socket, s)))
}

/// Connections within the tree in which something is on its way, not there yet and not here any more.
pub(crate) fn refusals(model: &Model) -> Vec<Refusal> {
    let all = by_number(model);
    let has_more = |s: &&InetSocket| {
        let other = s.peer.and_then(|peer| all.get(&peer)).filter(|other| other.connected);
        s.is_sound(&all) && other.is_some_and(|other| s.passed.0 > other.passed.1)
    };
    let why = "bytes that it has sent have not reached the other end of its connection yet";
    model.inet_sockets().filter(has_more).map(|s| s.refuse(why, "try again").passing()).collect()
}

/// Those of which only one end is known.
pub(crate) fn torn(model: &Model) -> Vec<Refusal> {
    let all = by_number(model);
    let why = "the other end of its connection is not known";
    let torn = model.inet_sockets().filter(|s| !s.is_sound(&all));
    torn.map(|s| s.refuse(why, "let the program close it")).collect()
}

fn socket(description: &Description) -> Option<&InetSocket> {
    if let Description::InetSocket(socket) = description { Some(socket) } else { None }
}

/// What is at the other end of a socket.
enum Other<'a> {
    /// Nothing in the tree.
    Nobody,
    /// Who is to accept it.
    Listener(Descr),
    /// A socket.
    End(One<'a>),
    /// One that was closed.
    Closed,
}

/// The sockets that are here, by the text that tells of them, and port.
type Taken = HashMap<(&'static str, u16), Vec<proc::InetLine>>;

fn taken(to: &Planning<'_>) -> Taken {
    let mut taken = Taken::new();
    for text in TAKEN.iter().flat_map(|(_, texts)| texts) {
        let lines = to.to.host.told.get(*text).map_or_else(Vec::new, |told| proc::inet(told));
        lines.into_iter().for_each(|line| taken.entry((*text, line.local.port())).or_default().push(line));
    }
    taken
}

/// Every socket.
pub(crate) fn plan(to: &mut Planning<'_>) {
    let mut all: Vec<One<'_>> =
        to.model.descriptions.iter().filter_map(|(id, d)| Some((Descr(*id), socket(d)?))).collect();
    let numbered = all.iter().filter(|one| one.1.socket != 0);
    let by_number: HashMap<u64, One<'_>> = numbered.map(|one| (one.1.socket, *one)).collect();
    let other = |socket: &InetSocket| match socket.peer.map(|peer| by_number.get(&peer)) {
        None => Other::Nobody,
        Some(Some((listener, other))) if other.backlog.is_some() => Other::Listener(*listener),
        Some(Some(other)) => Other::End(*other),
        Some(None) => Other::Closed,
    };
    let taken = taken(to);
    let mut ports = Ports::default();
    let takers = all.iter().filter(|one| one.1.backlog.is_some()).filter_map(|one| one.1.port());
    takers.for_each(|port| *ports.takers.entry(port).or_default() += 1);
    for one in all.iter().copied() {
        match other(one.1) {
            Other::Nobody => one.1.check(Way::Binds, &taken, to),
            Other::Listener(_) => one.1.check(Way::Connects, &taken, to),
            Other::Closed => {
                one.1.check(Way::Connects, &taken, to);
                connect_closed(one, &mut ports, to);
            }
            Other::End(other) if one.0 < other.0 => {
                let [from, at] = ends(one, other, &ports, &taken);
                // Who takes connections has asked for its port, and those whom he accepted have it from him.
                let has_asked = from.1.port().is_some_and(|port| ports.takers.contains_key(&port));
                from.1.check(if has_asked { Way::Binds } else { Way::Connects }, &taken, to);
                at.1.check(Way::Binds, &taken, to);
                connect([from, at], &mut ports, to);
            }
            Other::End(_) => {}
        }
    }
    // Who takes connections gets them in this order: the kernel does not tell theirs, but numbers the inodes of the sockets that one processor makes
    // one after the other (fs/inode.c, `get_next_ino`).
    all.sort_by_key(|(_, socket)| socket.socket);
    for (descr, socket) in all.iter().copied() {
        match other(socket) {
            Other::Nobody => socket.plan_alone(descr, &ports, to),
            Other::Listener(listener) => socket.await_acceptance(descr, listener, to),
            _ => {}
        }
    }
}

/// How a socket comes to its address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It asks for it.
    Binds,
    /// It may be given its port as it connects.
    Connects,
}

/// Both ends of a connection, the one first that connects.
fn ends<'a>(one: One<'a>, other: One<'a>, ports: &Ports, taken: &Taken) -> [One<'a>; 2] {
    let is_first = match [one, other].map(|end| end.1.is_crowded(taken)) {
        // At an address at which somebody takes connections others may come in this instant, too.
        [false, false] => one.1.port().is_some_and(|port| ports.takers.contains_key(&port)),
        [_, is_crowded] => !is_crowded,
    };
    if is_first { [one, other] } else { [other, one] }
}

/// A connection of which both ends are there.
fn connect([from, at]: [One<'_>; 2], ports: &mut Ports, to: &mut Planning<'_>) {
    join(from.1.end(from.0), at.1.end(at.0), to);
    for port in [from, at].into_iter().filter_map(|end| end.1.port()) {
        ports.before.entry(port).or_default().push(Fact::Made(from.0));
    }
    from.1.furnish(from.0, (at.0, at.1.waiting.0.len()), to);
    at.1.furnish(at.0, (from.0, from.1.waiting.0.len()), to);
}

/// One whose other end is closed, with everything that is of no more use.
fn connect_closed((descr, socket): One<'_>, ports: &mut Ports, to: &mut Planning<'_>) {
    let other = to.to.scratch();
    join(socket.end(descr), socket.other_end(other), to);
    for port in [socket.local(), socket.remote()].into_iter().flatten().map(|end| end.port()) {
        ports.before.entry(port).or_default().push(Fact::Made(descr));
    }
    socket.furnish(descr, (other, 0), to);
    to.spares.push((other, vec![Fact::Filled(descr)]));
}

/// A connection between two sockets, of which the second one accepts it.
fn join(from: TcpEnd, at: TcpEnd, to: &mut Planning<'_>) {
    let made = [&from, &at].map(|end| Fact::Made(end.descr)).to_vec();
    let op = Op::Join { from, at: Some(at) };
    to.to.step(Moment::Make, NAME, Actor::Store, op, vec![], made);
}

/// A call about a description that has its address, or is about to get it: one after the other.
fn call(descr: Descr, sys: Sys, args: Vec<Value>, expect: Expect, needs: Vec<Fact>, to: &mut Planning<'_>) {
    let op = Op::Call { sys, args: [vec![Value::Descr(descr)], args].concat(), expect };
    to.to.step(
        Moment::Make,
        NAME,
        Actor::Store,
        op,
        [vec![Fact::Made(descr)], needs].concat(),
        vec![Fact::Bound(descr)],
    );
}

/// Whether an address may be had that somebody else had a moment ago (SO_REUSEADDR), or has a part in (SO_REUSEPORT).
fn share(descr: Descr, option: u64, value: u32, moment: Moment, to: &mut Planning<'_>) {
    socket::set(NAME, descr, (SOL_SOCKET, option), value.to_ne_bytes().to_vec(), Expect::Whatever, moment, to);
}

impl InetSocket {
    fn refuse(&self, why: &str, remedy: &str) -> Refusal {
        Refusal::new(format!("socket:[{}]", self.socket), why, remedy)
    }

    fn port(&self) -> Option<u16> {
        self.local().map(|local| local.port())
    }

    /// One end of a connection.
    fn end(&self, descr: Descr) -> TcpEnd {
        let address = |of: &Option<Blob>| of.as_ref().map_or_else(Vec::new, |b| b.0.clone());
        let room = if self.waiting.0.len() > RECEIVED { self.waiting.0.len() as u32 } else { 0 };
        let (local, remote, may_move) = (address(&self.local), address(&self.remote), self.peer == Some(0));
        TcpEnd { descr, family: self.family, local, may_move, remote, room }
    }

    /// The end that is closed.
    fn other_end(&self, descr: Descr) -> TcpEnd {
        let TcpEnd { local: remote, remote: local, .. } = self.end(descr);
        TcpEnd { descr, family: self.family, local, may_move: true, remote, room: 0 }
    }

    /// Options of an end of a connection, what waits in it, which its other end writes, and what is shut down. `sent`: how much it
    /// writes itself.
    fn furnish(&self, descr: Descr, (writer, sent): (Descr, usize), to: &mut Planning<'_>) {
        let waiting = &self.waiting.0;
        // Whoever may not have more than all is not given as much as the kernel gives by itself.
        let wide = to.to.host.has(CAP_NET_ADMIN);
        if waiting.len() > SENT && wide {
            widen(NAME, writer, waiting.len(), to);
        }
        if !waiting.is_empty() {
            let op = Op::Feed { descr: writer, packets: vec![waiting.clone()] };
            to.to.step(Moment::Fill, NAME, Actor::Store, op, vec![Fact::Made(writer)], vec![Fact::Filled(descr)]);
        }
        // Some would keep back what is written.
        self.settings.plan_at([Moment::Arm; 2], NAME, descr, to);
        let received = if waiting.len() > RECEIVED { RECEIVE } else { 0 };
        let sent = if sent > SENT && wide { SEND } else { 0 };
        self.settings.plan_room(NAME, descr, received | sent, to);
        self.set_late(descr, to);
        self.shut_down(descr, Expect::Success, to);
    }

    fn shut_down(&self, descr: Descr, expect: Expect, to: &mut Planning<'_>) {
        for (bit, how) in [(RECEIVES, SHUT_RD), (SENDS, SHUT_WR)] {
            if self.shutdown & bit != 0 {
                let args = vec![Value::Descr(descr), how.into()];
                to.to.on_descr(Moment::Arm, NAME, descr, Sys::Shutdown, args, expect);
            }
        }
    }

    /// What it has not while it is made.
    fn set_late(&self, descr: Descr, to: &mut Planning<'_>) {
        if self.peer.is_some() && !self.settings.has("SO_REUSEADDR") {
            share(descr, SO_REUSEADDR, 0, Moment::Arm, to);
        }
        socket::set_flags(NAME, descr, self.flags, to);
    }

    /// A connection that nobody has accepted yet.
    fn await_acceptance(&self, descr: Descr, listener: Descr, to: &mut Planning<'_>) {
        let op = Op::Join { from: self.end(descr), at: None };
        let needs = vec![Fact::Bound(listener)];
        to.to.step(Moment::Make, NAME, Actor::Store, op, needs, vec![Fact::Made(descr)]);
        self.settings.plan_at([Moment::Arm; 2], NAME, descr, to);
        self.settings.plan_room(NAME, descr, 0, to);
        self.set_late(descr, to);
        self.shut_down(descr, Expect::Success, to);
    }

    /// One that has to do with no other.
    fn plan_alone(&self, descr: Descr, ports: &Ports, to: &mut Planning<'_>) {
        if self.connected {
            let (family, waiting) = (self.family, self.waiting.0.clone());
            let op = Op::Reset { descr, family, waiting };
            to.to.step(Moment::Make, NAME, Actor::Store, op, vec![], vec![Fact::Made(descr)]);
        } else {
            let kind = self.socket_type | SOCK_NONBLOCK;
            to.to.make(NAME, descr, Sys::Socket, vec![self.family.into(), kind.into(), self.protocol.into()]);
        }
        // Nothing comes to it before it has an address.
        let filtered = if self.connected || self.has_messages() { Moment::Arm } else { Moment::Make };
        self.settings.plan_at([Moment::Make, filtered], NAME, descr, to);
        let widened = if self.has_messages() { RECEIVE } else { 0 };
        if self.has_messages() {
            let bytes = self.datagrams.iter().map(|one| one.message.0.len() + BESIDES).sum::<usize>();
            socket::widen_for(NAME, descr, SO_RCVBUF, bytes, to);
        }
        self.settings.plan_room(NAME, descr, widened, to);
        if !self.connected {
            self.give_address(descr, ports, to);
            // Of one that sends to nobody in particular it is an error that does it (net/ipv4/af_inet.c, `inet_shutdown`).
            self.shut_down(descr, Expect::Whatever, to);
        }
        self.groups.iter().for_each(|group| group.plan(descr, to));
        self.set_late(descr, to);
    }

    /// `bind`, `connect`, `listen`.
    fn give_address(&self, descr: Descr, ports: &Ports, to: &mut Planning<'_>) {
        let given = |address: &Blob| vec![Value::Bytes(address.0.clone()), (address.0.len() as u64).into()];
        let port = self.port().filter(|_| self.is_tcp());
        let before = port.and_then(|port| ports.before.get(&port)).cloned().unwrap_or_default();
        if let Some(local) = &self.local {
            // Of those that share an address some may not say so any more.
            let are_several = port.and_then(|port| ports.takers.get(&port)).is_some_and(|takers| *takers > 1);
            for (name, option, counts) in
                [("SO_REUSEADDR", SO_REUSEADDR, self.is_tcp()), ("SO_REUSEPORT", SO_REUSEPORT, are_several)]
            {
                if counts && !self.settings.has(name) {
                    share(descr, option, 1, Moment::Make, to);
                    share(descr, option, 0, Moment::Arm, to);
                }
            }
            // Of one that has somebody to send to it was mostly chosen by the kernel.
            let lost = "a socket sends from another address now: its own is not to be had here";
            let expect = if self.remote.is_some() { Expect::OrTold(lost) } else { Expect::Success };
            call(descr, Sys::Bind, given(&self.to_bind(local, to.model)), expect, before.clone(), to);
        }
        let before = if self.has_messages() { self.send_messages(descr, to) } else { before };
        if let Some(remote) = &self.remote {
            const LOST: Expect = Expect::OrTold("a socket has nobody to send to: there is no way there now");
            // What begins so ends by itself, and tells how, when all that take connections are there.
            let (moment, expect) = if self.is_tcp() { (Moment::Link, Expect::Whatever) } else { (Moment::Make, LOST) };
            let args = [vec![Value::Descr(descr)], given(remote)].concat();
            let op = Op::Call { sys: Sys::Connect, args, expect };
            let needs = [vec![Fact::Made(descr)], before.clone()].concat();
            to.to.step(moment, NAME, Actor::Store, op, needs, vec![]);
        }
        if let Some(backlog) = self.backlog {
            call(descr, Sys::Listen, vec![u64::from(backlog).into()], Expect::Success, before, to);
        }
    }

    /// The address for `bind`, which makes a socket one of the newer family alone if it gives it an address of that
    /// (net/ipv6/af_inet6.c, `__inet6_bind`). Who is not has it of `connect`; where nobody else of the tree has that port, who would be in
    /// the way of any address.
    fn to_bind(&self, local: &Blob, model: &Model) -> Blob {
        let is_for_both = |o: &&(u64, u64, Blob)| (o.0, o.1) == (IPPROTO_IPV6, IPV6_V6ONLY) && o.2.0 == [0; 4];
        let own = self.local().filter(|own| own.is_ipv6() && self.remote.is_some() && self.socket_type == DGRAM);
        let own = own.filter(|_| !self.has_messages() && self.settings.options.iter().any(|o| is_for_both(&o)));
        let is_alone = |own: &SocketAddr| {
            model.inet_sockets().filter(|s| s.is_alike(self) && s.port() == Some(own.port())).count() == 1
        };
        let any = own.filter(is_alone);
        let any = any.and_then(|own| encoded(self.family, (Ipv6Addr::UNSPECIFIED, own.port()).into()));
        any.map_or_else(|| local.clone(), Blob)
    }

    /// Whether each may send to the other.
    fn is_alike(&self, other: &InetSocket) -> bool {
        (self.socket_type, self.protocol) == (DGRAM, other.protocol)
    }

    fn has_messages(&self) -> bool {
        !self.datagrams.is_empty()
    }

    /// Messages are sent to it when it has its address, and before it hears of one only: from those who have the addresses from which
    /// they came, if they are of the tree. Gives what holds then.
    fn send_messages(&self, descr: Descr, to: &mut Planning<'_>) -> Vec<Fact> {
        let is_home = self.local().is_some_and(|own| own.ip().is_unspecified() || own.ip().is_loopback());
        let by = |from: SocketAddr| {
            // Who has any address sends from this one to the loopback.
            let is_first =
                is_home && [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&from.ip());
            let has = |s: &&InetSocket| {
                let ip = s.local().filter(|own| own.port() == from.port() && s.is_alike(self)).map(|own| own.ip());
                let is_it = ip.is_some_and(|ip| ip == from.ip() || ip.is_unspecified() && is_first);
                is_it && !s.settings.has_at(IPPROTO_UDP, UDP_CORK)
            };
            let all = to.model.descriptions.iter().filter_map(|(id, d)| Some((Descr(*id), socket(d)?)));
            all.filter(|one| has(&one.1)).find_map(|(id, s)| Some((id, encoded(s.family, from)?)))
        };
        let sent = |one: &super::Datagram| {
            let (by, from) = proc::sockaddr(&one.from.0).and_then(by).unzip();
            let (from, message) = (from.unwrap_or_else(|| one.from.0.clone()), one.message.0.clone());
            Datagram { from, by, message, segment: one.segment }
        };
        let all: Vec<_> = self.datagrams.iter().map(sent).collect();
        let mut needs = vec![Fact::Made(descr), Fact::Bound(descr)];
        needs.extend(all.iter().filter_map(|one| one.by).map(Fact::Bound));
        let lost = "messages that waited in a socket are lost: nobody can send from where they came";
        to.to.step(
            Moment::Fill,
            NAME,
            Actor::Store,
            Op::Datagrams { to: descr, all, lost },
            needs,
            vec![Fact::Linked(descr)],
        );
        vec![Fact::Linked(descr)]
    }

    /// The sockets that are here at its address.
    fn at_its_address<'t>(&self, taken: &'t Taken) -> Vec<&'t proc::InetLine> {
        let Some(local) = self.bound().filter(|own| own.port() != 0) else { return Vec::new() };
        let all = texts(self).iter().filter_map(|text| taken.get(&(*text, local.port()))).flatten();
        all.filter(|other| other.takes(local)).collect()
    }

    /// Whether others have connections from its address, or had some a moment ago and it does not reuse it.
    fn is_crowded(&self, taken: &Taken) -> bool {
        let reuses = self.settings.has("SO_REUSEADDR");
        let hinders = |state| state != TCP_LISTEN && !(reuses && ENDING.contains(&state));
        self.at_its_address(taken).iter().any(|other| hinders(other.state))
    }

    /// Whether it may be given the port that others have.
    fn may_share(&self, told: &BTreeMap<String, String>) -> bool {
        let numbers = |text| {
            let words = told.get(text).into_iter().flat_map(|t: &String| t.split(|c: char| !c.is_ascii_digit()));
            words.filter_map(|word| word.parse::<u32>().ok()).take(2).collect::<Vec<_>>()
        };
        let [lowest, highest] = numbers(GIVEN)[..] else { return false };
        let is_given = self.port().is_some_and(|port| (lowest..=highest).contains(&port.into()));
        is_given && *numbers(RELEASE) >= SHARES_SINCE[..]
    }

    /// Somebody else may have its address by now, or the port may need a privilege.
    fn check(&self, way: Way, taken: &Taken, to: &mut Planning<'_>) {
        let told = &to.to.host.told;
        let is_up =
            |flags: &String| u64::from_str_radix(flags.trim().trim_start_matches("0x"), 16).is_ok_and(|f| f & 1 != 0);
        if self.connected && !told.get(LOOPBACK).is_none_or(is_up) {
            let why = "a connection can only be made over the loopback, which is down here";
            to.to.refuse(Refusal::new("network", why, "ip link set lo up"));
        }
        for (what, why) in self.beyond(&|right| to.to.host.has(right), &|path| told.get(path).cloned()) {
            to.to.refuse(Refusal::new(what, why, "thaw it as root"));
        }
        let Some(local) = self.bound() else { return };
        let (reuses, shares) = (self.settings.has("SO_REUSEADDR"), self.settings.has("SO_REUSEPORT"));
        let is_given = way == Way::Connects && self.may_share(told);
        let all = self.at_its_address(taken);
        let counts = |other: &proc::InetLine| match self.is_tcp() {
            true if is_given => {
                other.state == TCP_LISTEN || self.remote() == Some(other.remote) && !ENDING.contains(&other.state)
            }
            // Others may have a part in it, but the kernel tells nobody of which that is true.
            true if self.connected => !ENDING.contains(&other.state),
            true => other.state == TCP_LISTEN && !shares,
            false => !reuses && !shares,
        };
        let is_taken = all.iter().any(|other| counts(other));
        let is_home = local.ip().to_canonical().is_loopback();
        let makes_room = match told.get(REUSE).map_or("2", |text| text.trim()) {
            "1" => true,
            "2" => is_home,
            _ => false,
        };
        let ended = |other: &&&proc::InetLine| match is_given {
            true => self.remote() == Some(other.remote) && !(makes_room && other.state == TIME_WAIT),
            false => ENDING.contains(&other.state),
        };
        let what = format!("socket {local}");
        let anywhere = self.settings.options.iter().any(|(level, number, _)| ANYWHERE.contains(&(*level, *number)));
        if to.to.host.absent.contains(&local.ip()) && (!anywhere || self.connected) {
            let remedy = "give that address to an interface (ip address add)";
            to.to.refuse(Refusal::new(what, "no interface has its address here", remedy));
        } else if is_taken {
            let why = "another socket has that address now";
            to.to.refuse(Refusal::new(what, why, "end whoever has it (ss -lntup)").passing());
        } else if self.is_tcp() && !reuses && all.iter().any(|other| ended(&other)) {
            let why = "connections that have just ended keep that address for a while";
            to.to.refuse(Refusal::new(what, why, "try again in a minute").passing_within(KEPT));
        }
    }

    /// What not everybody may do who makes it again: what it is about, and why. `may` tells of capabilities (capabilities(7)), and `told`
    /// reads what stands in a file of the host.
    pub(super) fn beyond(
        &self,
        may: &dyn Fn(u32) -> bool,
        told: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<(String, String)> {
        let number = |path: &str| told(path).and_then(|text| text.trim().parse::<usize>().ok());
        let (waits, mut all) = (self.waiting.0.len(), Vec::new());
        let is_much = self.peer.is_some() && waits > 2 * SENT && !may(CAP_NET_ADMIN);
        if is_much && number(ROOM).is_none_or(|room| waits > room) {
            let what = format!("socket:[{}]", self.socket);
            all.push((what, format!("{waits} bytes wait in it, more than you may put there")));
        }
        if self.socket_type == RAW && !may(CAP_NET_RAW) {
            all.push(("raw socket".into(), "only root, or who has CAP_NET_RAW, may have one".into()));
        }
        let local = self.bound().filter(|own| self.has_ports() && own.port() != 0 && !may(CAP_NET_BIND_SERVICE));
        let is_low = |own: &SocketAddr| usize::from(own.port()) < number(UNPRIVILEGED).unwrap_or(1024);
        if let Some(local) = local.filter(is_low) {
            all.push((format!("socket {local}"), "you may not use that port".into()));
        }
        all
    }
}
