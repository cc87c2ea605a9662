//! How sockets of AF_UNIX are made again: who is connected to whom decides by which calls.

use super::{Key, NAMES, Name, RECEIVES, SENDS, UnixSocket};
use crate::fd::file::may_give;
use crate::fd::socket as options;
use crate::fd::{S_IFMT, S_IFSOCK, flags};
use crate::{Description, Planning, Resource};
use abi::Sys;
use abi::consts::fcntl::F_SETFL;
use abi::consts::socket::{AF_UNIX, SO_SNDBUF, SOCK_DGRAM, SOCK_NONBLOCK, SOMAXCONN};
use plan::{Actor, Descr, Expect, Fact, HostEffect, Moment, Op, Refusal, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

const NAME: &str = UnixSocket::NAME;

/// A socket with its description.
type One<'a> = (Descr, &'a UnixSocket);

/// Every socket.
pub(crate) fn plan(to: &mut Planning<'_>) {
    let model = to.model;
    let all: Vec<One<'_>> = model.descriptions.iter().filter_map(|(id, d)| Some((Descr(*id), socket(d)?))).collect();
    let by_number: HashMap<u64, One<'_>> = all.iter().map(|one| (one.1.socket, *one)).collect();
    let listeners = all.iter().filter(|(_, s)| s.backlog.is_some()).filter_map(|one| Some((one.1.key()?, *one)));
    let listeners: BTreeMap<Key<'_>, One<'_>> = listeners.collect();
    let mut accepted: BTreeMap<Key<'_>, Vec<(One<'_>, Option<One<'_>>)>> = BTreeMap::new();
    let pending: HashSet<u64> = all.iter().flat_map(|(_, s)| &s.pending).copied().collect();
    for one @ (descr, socket) in all {
        let other = socket.peer.and_then(|peer| by_number.get(&peer)).copied();
        let key = socket.key().filter(|key| socket.peer.is_some() && listeners.contains_key(key));
        match (key, other) {
            _ if pending.contains(&socket.socket) => socket.bare(descr, to),
            // By whom it was accepted from.
            (Some(key), _) => accepted.entry(key).or_default().push((one, other)),
            (None, Some(other)) if socket.name.is_none() && other.1.name.is_none() => {
                if descr < other.0 {
                    pair(one, other, to);
                }
            }
            (None, None) if socket.peer.is_some() && socket.name.is_none() => socket.half(descr, to),
            (None, _) if socket.socket_type == SOCK_DGRAM => socket.plan_messages(descr, other, to),
            // The other end is accepted, which furnishes this one, too.
            (None, Some(_)) => socket.bare(descr, to),
            (None, None) => {
                socket.bare(descr, to);
                socket.furnish(descr, None, to);
                socket.shut_down(descr, to);
            }
        }
    }
    for (key, listener) in listeners {
        let last = accept(listener, &accepted.remove(&key).unwrap_or_default(), to);
        await_acceptance(listener, &by_number, last, to);
    }
}

fn socket(description: &Description) -> Option<&UnixSocket> {
    if let Description::UnixSocket(socket) = description { Some(socket) } else { None }
}

/// Both ends of a pair.
fn pair(one: One<'_>, other: One<'_>, to: &mut Planning<'_>) {
    one.1.make_pair([one.0, other.0], to);
    furnish_both(one, other, to);
}

fn furnish_both(one: One<'_>, other: One<'_>, to: &mut Planning<'_>) {
    one.1.furnish(one.0, Some(other.0), to);
    other.1.furnish(other.0, Some(one.0), to);
    // To shut down one end of a connection shuts down the other one as well (net/unix/af_unix.c, `unix_shutdown`).
    one.1.shut_down(one.0, to);
    if one.1.socket_type == SOCK_DGRAM {
        other.1.shut_down(other.0, to);
    }
}

/// All connections that were accepted from a socket, one after the other: so each accepts the one that was just made. Gives what
/// holds when all of them are there.
fn accept((listener, socket): One<'_>, connections: &[(One<'_>, Option<One<'_>>)], to: &mut Planning<'_>) -> Fact {
    call(listener, Sys::Listen, vec![SOMAXCONN.into()], Moment::Make, to);
    let mut before = Fact::Bound(listener);
    for (one @ (descr, accepted), other) in connections {
        accepted.note_maker(to);
        let client = other.map_or_else(|| to.to.scratch(), |(client, _)| client);
        if other.is_none() {
            accepted.other_end(client, to);
        }
        if let Some((_, other)) = other {
            other.shut_down_early(client, accepted, to);
        }
        let needs = vec![before, Fact::Bound(listener), Fact::Bound(client)];
        connect(client, socket, needs, Moment::Make, Expect::Success, to);
        let args = vec![Value::Descr(listener), 0.into(), 0.into(), SOCK_NONBLOCK.into()];
        let op = Op::Make { sys: Sys::Accept4, args, descrs: vec![*descr] };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![Fact::Linked(client)], vec![Fact::Made(*descr)]);
        match other {
            Some(other) => furnish_both(*one, *other, to),
            None => accepted.furnish_half(*descr, client, to),
        }
        before = Fact::Made(*descr);
    }
    socket.furnish(listener, None, to);
    call(listener, Sys::Listen, vec![u64::from(socket.backlog.unwrap_or(0)).into()], Moment::Arm, to);
    before
}

/// Those that nobody has accepted yet are connected, in their order.
fn await_acceptance((listener, socket): One<'_>, all: &HashMap<u64, One<'_>>, mut before: Fact, to: &mut Planning<'_>) {
    for (client, waits) in socket.pending.iter().filter_map(|inode| all.get(inode)) {
        let needs = vec![before, Fact::Bound(listener), Fact::Bound(*client)];
        connect(*client, socket, needs, Moment::Make, Expect::Success, to);
        waits.furnish(*client, None, to);
        waits.shut_down(*client, to);
        before = Fact::Linked(*client);
    }
}

/// `connect` to a socket, by where its name leads.
fn connect(descr: Descr, whom: &UnixSocket, needs: Vec<Fact>, moment: Moment, expect: Expect, to: &mut Planning<'_>) {
    let path = whom.path.clone().map(Name::Path);
    if let Some(name) = path.as_ref().or(whom.name.as_ref()) {
        connect_to(descr, name, needs, moment, expect, to);
    }
}

/// A call about a socket that has its name; at first it is a part of that.
fn call(descr: Descr, sys: Sys, args: Vec<Value>, moment: Moment, to: &mut Planning<'_>) {
    let op = Op::Call { sys, args: [vec![Value::Descr(descr)], args].concat(), expect: Expect::Success };
    let makes = if moment == Moment::Make { vec![Fact::Bound(descr)] } else { vec![] };
    to.to.step(moment, NAME, Actor::Store, op, vec![Fact::Bound(descr)], makes);
}

impl UnixSocket {
    /// Somebody else may have its name by now.
    fn check_name(&self, name: &Name, to: &mut Planning<'_>) {
        let shown = name.to_string().replace('\0', "@");
        let is_it = |line: &str| line.split_ascii_whitespace().nth(7) == Some(&*shown);
        let told = &to.to.host.told;
        let taken = match &self.path {
            Some(path) => told.contains_key(&path.to_string()),
            None => self.is_hidden() && told.get(NAMES).is_some_and(|text| text.lines().any(is_it)),
        };
        let stands = self.path.as_ref().and_then(|path| to.to.host.places.get(&path.0));
        let why = match stands {
            _ if taken => "another socket has that name now",
            Some(place) if place.mode & S_IFMT != S_IFSOCK || place.link => "something else has that name now",
            _ => return,
        };
        to.to.refuse(Refusal::new(format!("socket {shown}"), why, "end whoever has that name, or remove it"));
    }

    /// It never waits while it is furnished; its flags come last.
    fn kind_and_flag(&self) -> Value {
        (u64::from(self.socket_type) | SOCK_NONBLOCK).into()
    }

    fn make(&self, descr: Descr, makes: Vec<Fact>, to: &mut Planning<'_>) {
        let args = vec![AF_UNIX.into(), self.kind_and_flag(), 0.into()];
        let op = Op::Make { sys: Sys::Socket, args, descrs: vec![descr] };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![], makes);
    }

    /// The other end of a connection that has none any more. It is closed with everything that is of no more use.
    fn other_end(&self, descr: Descr, to: &mut Planning<'_>) {
        self.make(descr, vec![Fact::Made(descr), Fact::Bound(descr)], to);
    }

    /// With its name, if it has one, and nothing else.
    fn bare(&self, descr: Descr, to: &mut Planning<'_>) {
        let Some(name) = &self.name else { return self.other_end(descr, to) };
        self.check_name(name, to);
        self.make(descr, vec![Fact::Made(descr)], to);
        let op = match name {
            Name::Path(name) => {
                let (mode, owner) = self.file.map_or((0o140_777, None), |(mode, uid, gid)| (mode, Some((uid, gid))));
                let owner = owner.filter(|owner| may_give(*owner, to));
                let path = self.path.as_ref().unwrap_or(name).0.clone();
                Op::Host(HostEffect::Bind {
                    descr,
                    name: name.0.clone(),
                    path,
                    mode,
                    owner,
                    stays: self.path.is_some(),
                })
            }
            Name::Abstract(_) => {
                let address = name.address();
                let len = address.len() as u64;
                let args = vec![Value::Descr(descr), Value::Bytes(address), len.into()];
                Op::Call { sys: Sys::Bind, args, expect: Expect::Success }
            }
        };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![Fact::Made(descr)], vec![Fact::Bound(descr)]);
    }

    fn make_pair(&self, descrs: [Descr; 2], to: &mut Planning<'_>) {
        self.note_maker(to);
        let args = vec![AF_UNIX.into(), self.kind_and_flag(), 0.into(), Value::Out(8)];
        let made = descrs.map(Fact::Made).to_vec();
        let op = Op::Make { sys: Sys::Socketpair, args, descrs: descrs.to_vec() };
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![], made);
    }

    fn note_maker(&self, to: &mut Planning<'_>) {
        let host = to.to.host;
        if self.maker.is_some_and(|maker| maker != (host.uid, host.gid)) {
            to.to.note("sockets tell their other ends the user who thaws it, not the one who made them (SO_PEERCRED)");
        }
    }

    /// One of a pair, whose other end is closed.
    fn half(&self, descr: Descr, to: &mut Planning<'_>) {
        let gone = to.to.scratch();
        self.make_pair([descr, gone], to);
        self.furnish_half(descr, gone, to);
        if self.socket_type == SOCK_DGRAM {
            self.shut_down(descr, to);
        }
    }

    fn furnish_half(&self, descr: Descr, gone: Descr, to: &mut Planning<'_>) {
        let waits: usize = self.waiting.iter().map(|b| b.0.len()).sum();
        if waits != 0 {
            options::set_buffer(NAME, gone, SO_SNDBUF, 2 * waits as u64 + (1 << 16), Expect::Whatever, to);
        }
        self.furnish(descr, Some(gone), to);
        if self.reset {
            // What was not read when it was closed.
            feed(descr, vec![vec![0]], to);
        }
    }

    /// One of messages that is no end of a pair: whoever knows its name sends to it.
    fn plan_messages(&self, descr: Descr, other: Option<One<'_>>, to: &mut Planning<'_>) {
        self.bare(descr, to);
        let sender = self.name.as_ref().filter(|_| !self.waiting.is_empty()).map(|_| {
            let sender = to.to.scratch();
            self.other_end(sender, to);
            connect(sender, self, vec![Fact::Bound(sender), Fact::Bound(descr)], Moment::Make, Expect::Success, to);
            sender
        });
        self.furnish(descr, sender, to);
        match (other, &self.to) {
            (Some((peer, other)), _) => {
                let needs = vec![Fact::Bound(descr), Fact::Bound(peer)];
                // From here on it takes messages of nobody else.
                connect(descr, other, needs, Moment::Arm, Expect::Success, to);
            }
            (_, Some(name)) => {
                let lost = "a socket sends its messages to nobody now: nobody has the name to which it sent them";
                connect_to(descr, name, vec![Fact::Bound(descr)], Moment::Arm, Expect::OrTold(lost), to);
            }
            _ => {}
        }
        self.shut_down(descr, to);
    }

    /// Options, what waits, and flags.
    fn furnish(&self, descr: Descr, writer: Option<Descr>, to: &mut Planning<'_>) {
        options::plan(&self.options, NAME, descr, to);
        if let Some(writer) = writer.filter(|_| !self.waiting.is_empty()) {
            feed(writer, self.waiting.iter().map(|b| b.0.clone()).collect(), to);
        }
        let args = vec![Value::Descr(descr), F_SETFL.into(), u64::from(self.flags & !flags::ACCMODE).into()];
        to.to.on_descr(Moment::Arm, NAME, descr, Sys::Fcntl, args, Expect::Success);
    }

    /// What was shut down before it was connected is not shut down at the other end.
    fn shut_down_early(&self, descr: Descr, accepted: &UnixSocket, to: &mut Planning<'_>) {
        let by_the_other = (accepted.shutdown & RECEIVES) << 1 | (accepted.shutdown & SENDS) >> 1;
        let early = self.shutdown & !by_the_other;
        if early != 0 {
            call(descr, Sys::Shutdown, vec![u64::from(early - 1).into()], Moment::Make, to);
        }
    }

    fn shut_down(&self, descr: Descr, to: &mut Planning<'_>) {
        if self.shutdown != 0 {
            let args = vec![Value::Descr(descr), u64::from(self.shutdown - 1).into()];
            to.to.on_descr(Moment::Arm, NAME, descr, Sys::Shutdown, args, Expect::Success);
        }
    }
}

fn connect_to(descr: Descr, name: &Name, needs: Vec<Fact>, moment: Moment, expect: Expect, to: &mut Planning<'_>) {
    let address = name.address();
    let len = address.len() as u64;
    let op = Op::Call { sys: Sys::Connect, args: vec![Value::Descr(descr), Value::Bytes(address), len.into()], expect };
    to.to.step(moment, NAME, Actor::Store, op, needs, vec![Fact::Linked(descr)]);
}

fn feed(writer: Descr, packets: Vec<Vec<u8>>, to: &mut Planning<'_>) {
    let op = Op::Feed { descr: writer, packets };
    to.to.step(Moment::Fill, NAME, Actor::Store, op, vec![Fact::Made(writer)], vec![]);
}
