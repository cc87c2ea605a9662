//! How sockets of AF_UNIX are made again: who is connected to whom decides by which calls.

use super::{Key, Name, Named, RECEIVES, SENDS, UnixSocket};
use crate::fd::file::may_give;
use crate::fd::place::parent;
use crate::fd::socket::{SEND, widen};
use crate::fd::{S_IFMT, S_IFSOCK, flags};
use crate::{Blob, Description, Model, Planning, Resource, Text};
use abi::Sys;
use abi::consts::fcntl::F_SETFL;
use abi::consts::socket::{AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, SOMAXCONN};
use plan::{Actor, Descr, Expect, Fact, Host, HostEffect, Message, Moment, Op, Pid, Refusal, Tid, Value, Whom};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

const NAME: &str = UnixSocket::NAME;

/// The text that tells which names are taken here that are none of files.
const NAMES: &str = "/proc/net/unix";
/// How many messages may wait in one whose other end is not connected to it (unix(7)).
const MAY_WAIT: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// A socket with its description.
type One<'a> = (Descr, &'a UnixSocket);

/// Every socket.
pub(crate) fn plan(to: &mut Planning<'_>) {
    let model = to.model;
    let all: Vec<One<'_>> = model.descriptions.iter().filter_map(|(id, d)| Some((Descr(*id), socket(d)?))).collect();
    let by_number: HashMap<u64, One<'_>> = all.iter().map(|one| (one.1.socket, *one)).collect();
    let passing = passing(&all, to);
    let listeners = all.iter().copied().chain(passing.iter().map(|(descr, socket)| (*descr, socket)));
    let listeners = listeners.filter(|(_, s)| s.backlog.is_some()).filter_map(|one| Some((one.1.key()?, one)));
    let listeners: BTreeMap<Key<'_>, One<'_>> = abi::gathered(listeners);
    let mut senders = senders(&all);
    let mut followers: HashMap<u64, Vec<Descr>> = HashMap::new();
    for (peer, from) in all.iter().filter_map(|(from, s)| Some((s.peer?, *from))) {
        followers.entry(peer).or_default().push(from);
    }
    let mut accepted: BTreeMap<Key<'_>, Vec<(One<'_>, Option<One<'_>>)>> = BTreeMap::new();
    let pending: HashSet<u64> = all.iter().flat_map(|(_, s)| &s.pending).copied().collect();
    for one @ (descr, socket) in all.iter().copied() {
        let other = socket.peer.and_then(|peer| by_number.get(&peer)).copied();
        let is_pair = other.is_some_and(|(peer, other)| peer != descr && other.is_mutual(socket));
        match (accepted_by(socket, &listeners), other) {
            _ if pending.contains(&socket.socket) => socket.bare(descr, to),
            // By whom it was accepted from.
            (Some(key), _) => accepted.entry(key).or_default().push((one, other)),
            // The other end is accepted, which furnishes this one, too.
            (_, Some((_, other))) if accepted_by(other, &listeners).is_some() => socket.bare(descr, to),
            (_, Some(other)) if is_pair => {
                if descr < other.0 {
                    pair(one, other, to);
                }
            }
            (_, None) if socket.peer.is_some() => socket.half(descr, to),
            _ if socket.socket_type == SOCK_DGRAM => socket.plan_messages((descr, other), &followers, &mut senders, to),
            _ => {
                socket.bare(descr, to);
                if socket.backlog.is_none() {
                    socket.furnish(descr, None, false, to);
                    socket.shut_down(descr, to);
                }
            }
        }
    }
    for (key, listener) in listeners {
        let last = accept(listener, &accepted.remove(&key).unwrap_or_default(), to);
        await_acceptance(listener, &by_number, last, to);
    }
}

/// Those from whom several were accepted, and who are gone: they are there again until these are.
fn passing(all: &[One<'_>], to: &mut Planning<'_>) -> Vec<(Descr, UnixSocket)> {
    let mut names: BTreeMap<Key<'_>, Vec<&UnixSocket>> = BTreeMap::new();
    for (_, socket) in all.iter().filter(|(_, s)| s.may_be_accepted() || s.backlog.is_some()) {
        names.entry(socket.key().expect("it has a name")).or_default().push(socket);
    }
    let several = names.into_values().filter(|all| all.len() > 1 && all.iter().all(|s| s.backlog.is_none()));
    let listener = |accepted: Vec<&UnixSocket>| {
        let one = accepted.iter().find(|s| s.file().is_some()).unwrap_or(&accepted[0]);
        let (socket_type, named) = (one.socket_type, one.named.clone());
        let listener = UnixSocket { socket_type, named, backlog: Some(0), ..UnixSocket::default() };
        let descr = to.to.scratch();
        listener.bare(descr, to);
        (descr, listener)
    };
    several.map(listener).collect()
}

/// Who can send messages that bear a name.
fn senders(all: &[One<'_>]) -> BTreeMap<Name, Descr> {
    let named = all.iter().filter(|(_, s)| s.socket_type == SOCK_DGRAM);
    abi::gathered(named.filter_map(|(descr, s)| Some((s.named.as_ref()?.name.clone(), *descr))))
}

/// By what is found from whom it was accepted, if it was.
fn accepted_by<'a>(socket: &'a UnixSocket, listeners: &BTreeMap<Key<'a>, One<'a>>) -> Option<Key<'a>> {
    socket.key().filter(|key| socket.peer.is_some() && listeners.contains_key(key))
}

/// What cannot be sent again: what each process that has it makes for itself.
pub(crate) fn refusals(model: &Model) -> Vec<Refusal> {
    let of_each = |id: &u32| {
        let what = model.descriptions.get(id)?;
        what.is_of_each().then(|| what.name())
    };
    let mut all = Vec::new();
    for socket in model.sockets() {
        let rights = socket.ancillary.iter().flat_map(|a| &a.rights);
        all.extend(rights.filter_map(of_each).map(|kind| {
            let why = format!("a {kind} waits in it (SCM_RIGHTS), which is not supported yet");
            Refusal::new(format!("socket:[{}]", socket.socket), why, "freeze it when that is received")
        }));
    }
    all
}

/// What a survey has to read for the sockets of a tree.
pub(crate) fn questions(model: &Model) -> Vec<String> {
    let hidden = |name: &Name| name.path().is_none();
    let is_hidden = |s: &UnixSocket| {
        let mut senders = s.ancillary.iter().filter_map(|with| with.sender.as_ref());
        s.named.as_ref().is_some_and(|named| hidden(&named.name)) || senders.any(hidden)
    };
    let names = model.sockets().any(is_hidden).then_some(NAMES);
    let messages = model.sockets().any(UnixSocket::is_written_to).then_some(MAY_WAIT);
    names.into_iter().chain(messages).map(str::to_owned).collect()
}

/// Those that are connected to nobody and whose name is that of a file which is gone, or another's.
pub(crate) fn bygone(model: &Model) -> HashMap<&Text, Vec<Descr>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for (id, description) in &model.descriptions {
        let alone = socket(description).filter(|s| s.peer.is_none());
        let named = alone.and_then(|s| s.named.as_ref()).filter(|named| named.path.is_none());
        if let Some(path) = named.and_then(|named| named.name.path()) {
            all.entry(path).or_default().push(Descr(*id));
        }
    }
    all
}

/// The names that sockets have here (net/unix/af_unix.c, `unix_seq_show`).
pub(crate) fn names(host: &Host) -> HashSet<&str> {
    let lines = host.told.get(NAMES).into_iter().flat_map(|text| text.lines());
    lines.filter_map(|line| line.split_ascii_whitespace().nth(7)).collect()
}

fn socket(description: &Description) -> Option<&UnixSocket> {
    if let Description::UnixSocket(socket) = description { Some(socket) } else { None }
}

/// Both ends of a pair, of which each may have a name besides.
fn pair(one: One<'_>, other: One<'_>, to: &mut Planning<'_>) {
    let nameless = [one, other].into_iter().filter(|(_, s)| s.named.is_none()).map(|(descr, _)| descr);
    one.1.make_pair([one.0, other.0], nameless, to);
    one.1.give_name(one.0, to);
    other.1.give_name(other.0, to);
    furnish_both(one, other, to);
}

fn furnish_both(one: One<'_>, other: One<'_>, to: &mut Planning<'_>) {
    one.1.furnish(one.0, Some(other.0), other.1.is_written_to(), to);
    other.1.furnish(other.0, Some(one.0), one.1.is_written_to(), to);
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
        connect(client, (socket.named.as_ref(), Some(listener)), needs, Moment::Make, Expect::Success, to);
        let args = vec![Value::Descr(listener), 0.into(), 0.into(), SOCK_NONBLOCK.into()];
        let op = Op::Make { sys: Sys::Accept4, args, descrs: vec![*descr] };
        let made = vec![Fact::Made(*descr), Fact::Bound(*descr)];
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![Fact::Linked(client)], made);
        match other {
            Some(other) => furnish_both(*one, *other, to),
            None => accepted.furnish_half(*descr, client, to),
        }
        before = Fact::Made(*descr);
    }
    // What it accepts has some of its options (net/unix/af_unix.c, `unix_stream_connect`), and those have them already.
    if let Some((level, option, Blob(value))) = socket.settings.tells() {
        let args = vec![Value::Descr(listener), level.into(), option.into(), Value::Bytes(value.clone()), 4.into()];
        let op = Op::Call { sys: Sys::Setsockopt, args, expect: Expect::Success };
        let done = Fact::Linked(to.to.scratch());
        to.to.step(Moment::Make, NAME, Actor::Store, op, vec![before, Fact::Bound(listener)], vec![done.clone()]);
        before = done;
    }
    socket.furnish(listener, None, false, to);
    call(listener, Sys::Listen, vec![u64::from(socket.backlog.unwrap_or(0)).into()], Moment::Arm, to);
    before
}

/// Those that nobody has accepted yet are connected, in their order.
fn await_acceptance((listener, socket): One<'_>, all: &HashMap<u64, One<'_>>, mut before: Fact, to: &mut Planning<'_>) {
    for (client, waits) in socket.pending.iter().filter_map(|inode| all.get(inode)) {
        let needs = vec![before, Fact::Bound(listener), Fact::Bound(*client)];
        connect(*client, (socket.named.as_ref(), Some(listener)), needs, Moment::Make, Expect::Success, to);
        waits.furnish(*client, None, false, to);
        waits.shut_down(*client, to);
        before = Fact::Linked(*client);
    }
    if socket.shutdown != 0 {
        let args = vec![Value::Descr(listener), u64::from(socket.shutdown - 1).into()];
        let op = Op::Call { sys: Sys::Shutdown, args, expect: Expect::Success };
        to.to.step(Moment::Arm, NAME, Actor::Store, op, vec![before, Fact::Bound(listener)], vec![]);
    }
}

/// `connect` to a name, from where it leads; or to the socket that has it, where its file is gone.
fn connect(
    descr: Descr,
    (whom, of): (Option<&Named>, Option<Descr>),
    needs: Vec<Fact>,
    moment: Moment,
    expect: Expect,
    to: &mut Planning<'_>,
) {
    let Some(whom) = whom else { return };
    let op = match &whom.name {
        Name::Path(name) => {
            let path = whom.path.as_ref().unwrap_or(name).0.clone();
            let of = of.filter(|_| whom.path.is_none());
            Op::Connect { descr, name: name.0.clone(), path, of, expect }
        }
        Name::Abstract(_) => {
            let address = whom.name.address();
            let len = address.len() as u64;
            Op::Call { sys: Sys::Connect, args: vec![Value::Descr(descr), Value::Bytes(address), len.into()], expect }
        }
    };
    to.to.step(moment, NAME, Actor::Store, op, needs, vec![Fact::Linked(descr)]);
}

/// A call about a socket that has its name; at first it is a part of that.
fn call(descr: Descr, sys: Sys, args: Vec<Value>, moment: Moment, to: &mut Planning<'_>) {
    let op = Op::Call { sys, args: [vec![Value::Descr(descr)], args].concat(), expect: Expect::Success };
    let makes = if moment == Moment::Make { vec![Fact::Bound(descr)] } else { vec![] };
    to.to.step(moment, NAME, Actor::Store, op, vec![Fact::Bound(descr)], makes);
}

impl Named {
    /// Somebody else may have the name by now, or it may not be given here.
    fn check(&self, to: &mut Planning<'_>) {
        let is_gone = self.path.is_none();
        if is_gone && self.name.is_relative() {
            return;
        }
        let shown = self.name.to_string().replace('\0', "@");
        let host = to.to.host;
        let taken = match self.at() {
            Some(path) => host.places.get(&path.0).is_some_and(|place| place.live),
            None => to.names.contains(&*shown),
        };
        let stands = self.at().and_then(|path| host.places.get(&path.0));
        let (why, remedy) = match stands {
            _ if taken => {
                ("another socket has that name now", "end whoever has it, or remove its file if nobody does (ss -xlp)")
            }
            // What stands there stands there again at once.
            Some(place) if !is_gone && (place.mode & S_IFMT != S_IFSOCK || place.link) => {
                ("something else has that name now", "remove it")
            }
            _ => match self.ill_placed(to) {
                Some(why) => (why, "make it, or thaw it as who may write there"),
                None => return,
            },
        };
        let refusal = Refusal::new(format!("socket {shown}"), why, remedy);
        to.to.refuse(if taken { refusal.passing() } else { refusal });
    }

    /// Who had the same name and has no file any more, has the name before the one whose file stays.
    fn predecessors(&self, to: &Planning<'_>) -> Vec<Fact> {
        let had_it = self.path.as_ref().and_then(|path| to.bygone.get(path));
        had_it.into_iter().flatten().map(|descr| Fact::Bound(*descr)).collect()
    }

    /// Where a file has the name, or had it.
    pub(super) fn at(&self) -> Option<&Text> {
        self.path.as_ref().or(self.name.path())
    }

    /// Why nobody can make the file.
    fn ill_placed(&self, to: &Planning<'_>) -> Option<&'static str> {
        const WRITE_AND_ENTER: u32 = 3;
        let directory = parent(&self.at()?.0);
        let there = to.to.host.places.get(directory);
        // That of a name without a file may be gone, too: then it is there for a moment.
        let above = || to.to.host.places.get(parent(directory)).filter(|_| self.path.is_none());
        match there.or_else(above) {
            None => Some("the directory of that name is not there"),
            Some(place) if place.access & WRITE_AND_ENTER != WRITE_AND_ENTER => {
                Some("you may not write into the directory of that name")
            }
            _ => None,
        }
    }
}

impl UnixSocket {
    /// It never waits while it is furnished; its flags come last.
    fn kind_and_flag(&self) -> Value {
        (u64::from(self.socket_type) | SOCK_NONBLOCK).into()
    }

    /// Whether something waits in it.
    fn is_written_to(&self) -> bool {
        !self.waiting.is_empty()
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
        match self.named {
            None => self.other_end(descr, to),
            Some(_) => {
                self.make(descr, vec![Fact::Made(descr)], to);
                self.give_name(descr, to);
            }
        }
    }

    fn give_name(&self, descr: Descr, to: &mut Planning<'_>) {
        let Some(named) = &self.named else { return };
        named.check(to);
        let op = match &named.name {
            Name::Path(name) => {
                let (mode, owner) = named.looks.map_or((0o140_777, None), |(mode, uid, gid)| (mode, Some((uid, gid))));
                let owner = owner.filter(|owner| may_give(*owner, to));
                let path = named.path.as_ref().unwrap_or(name).0.clone();
                let stays = named.path.is_some();
                Op::Host(HostEffect::Bind { descr, name: name.0.clone(), path, mode, owner, stays })
            }
            Name::Abstract(_) => {
                let address = named.name.address();
                let len = address.len() as u64;
                let args = vec![Value::Descr(descr), Value::Bytes(address), len.into()];
                Op::Call { sys: Sys::Bind, args, expect: Expect::Success }
            }
        };
        let needs = [vec![Fact::Made(descr)], named.predecessors(to)].concat();
        to.to.step(Moment::Make, NAME, Actor::Store, op, needs, vec![Fact::Bound(descr)]);
    }

    fn make_pair(&self, descrs: [Descr; 2], nameless: impl Iterator<Item = Descr>, to: &mut Planning<'_>) {
        self.note_maker(to);
        let args = vec![AF_UNIX.into(), self.kind_and_flag(), 0.into(), Value::Out(8)];
        let made = descrs.map(Fact::Made).into_iter().chain(nameless.map(Fact::Bound)).collect();
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
        let nameless = [Some(gone), Some(descr).filter(|_| self.named.is_none())].into_iter().flatten();
        self.make_pair([descr, gone], nameless, to);
        self.give_name(descr, to);
        self.furnish_half(descr, gone, to);
        if self.socket_type == SOCK_DGRAM {
            self.shut_down(descr, to);
        }
    }

    fn furnish_half(&self, descr: Descr, gone: Descr, to: &mut Planning<'_>) {
        self.furnish(descr, Some(gone), false, to);
        if self.reset {
            // What was not read when it was closed.
            feed(descr, vec![vec![0]], vec![], to);
        }
        let written = self.is_written_to().then_some(Fact::Filled(gone));
        to.spares.push((gone, [Fact::Filled(descr)].into_iter().chain(written).collect()));
    }

    /// One of messages that is no end of a pair: whoever knows its name sends to it.
    fn plan_messages(
        &self,
        (descr, other): (Descr, Option<One<'_>>),
        followers: &HashMap<u64, Vec<Descr>>,
        senders: &mut BTreeMap<Name, Descr>,
        to: &mut Planning<'_>,
    ) {
        self.bare(descr, to);
        self.check_room(to);
        let to_itself = other.filter(|(peer, _)| *peer == descr);
        self.furnish(descr, to_itself.map(|_| descr), to_itself.is_some() && self.is_written_to(), to);
        let mut needs = vec![Fact::Bound(descr)];
        if to_itself.is_none() {
            // One after the other.
            let last = self
                .waiting_groups()
                .fold(Fact::Bound(descr), |before, group| self.send(descr, group, before, senders, to));
            needs.push(last);
        }
        // From here on it takes messages of nobody else, so those come first who are connected to it.
        let followers = followers.get(&self.socket).into_iter().flatten().filter(|from| **from != descr);
        needs.extend(followers.map(|from| Fact::Linked(*from)));
        match (other, &self.to) {
            (Some((peer, other)), _) => {
                needs.push(Fact::Bound(peer));
                let moment = if to_itself.is_some() { Moment::Make } else { Moment::Arm };
                connect(descr, (other.named.as_ref(), Some(peer)), needs, moment, Expect::Success, to);
            }
            (_, Some(name)) if !name.name.is_relative() || name.path.is_some() => {
                let lost = "a socket sends its messages to nobody now: nobody has the name to which it sent them";
                connect(descr, (Some(name), None), needs, Moment::Arm, Expect::OrTold(lost), to);
            }
            _ => {}
        }
        self.shut_down(descr, to);
    }

    /// A host may allow fewer messages than wait.
    fn check_room(&self, to: &mut Planning<'_>) {
        let Some(named) = self.named.as_ref().filter(|_| self.peer != Some(self.socket)) else { return };
        let most = to.to.host.told.get(MAY_WAIT).and_then(|text| text.trim().parse().ok()).unwrap_or(10_usize);
        if self.waiting.len() > most + 1 {
            let n = self.waiting.len();
            let why = format!("{n} messages wait in it, and only {} may wait here", most + 1);
            let remedy = format!("sysctl -w net.unix.max_dgram_qlen={}", n - 1);
            to.to.refuse(Refusal::new(format!("socket {}", named.name), why, remedy));
        }
    }

    /// What waits, in parts none of which is too much for one who sends; or one message.
    fn waiting_groups(&self) -> impl Iterator<Item = Range<usize>> {
        const MUCH: usize = 1 << 16;
        let mut next = 0;
        std::iter::from_fn(move || {
            let (mut bytes, start) = (0, next);
            let fits = self.waiting[start..].iter().zip(start..).take_while(|(message, n)| {
                bytes += message.0.len().max(1 << 10);
                bytes <= MUCH && self.sender(*n) == self.sender(start)
            });
            next = (start + fits.count().max(1)).min(self.waiting.len());
            (start < next).then_some(start..next)
        })
    }

    /// The name of who sent a message, where that is not the other end.
    fn sender(&self, message: usize) -> Option<&Name> {
        self.ancillary.iter().find(|with| with.message as usize == message)?.sender.as_ref()
    }

    /// Somebody sends messages to it: who has the name of who sent them, if that has one; where nobody has it any more, one who gets
    /// it for that. Gives what holds when they are there.
    fn send(
        &self,
        descr: Descr,
        messages: Range<usize>,
        before: Fact,
        senders: &mut BTreeMap<Name, Descr>,
        to: &mut Planning<'_>,
    ) -> Fact {
        let Some(name) = self.sender(messages.start) else {
            let sender = to.to.scratch();
            self.other_end(sender, to);
            let needs = vec![Fact::Bound(sender), Fact::Bound(descr)];
            connect(sender, (self.named.as_ref(), Some(descr)), needs, Moment::Make, Expect::Success, to);
            self.fill(sender, messages, vec![Fact::Linked(sender), before], to);
            return Fact::Filled(sender);
        };
        let sender = *senders.entry(name.clone()).or_insert_with(|| {
            let named = Named { name: name.clone(), inode: None, path: None, looks: None };
            let descr = to.to.scratch();
            UnixSocket { socket_type: SOCK_DGRAM, named: Some(named), ..UnixSocket::default() }.bare(descr, to);
            descr
        });
        let whom = self.named.as_ref().expect("messages are sent to who has a name");
        let path = whom.at().map_or_else(Vec::new, |path| path.0.clone());
        let is_gone = whom.path.is_none() && whom.name.path().is_some();
        let of = is_gone.then_some(descr);
        let whom = Whom { name: whom.name.sun_path(), path, of };
        let (messages, needs) = self.messages(messages, to);
        let op = Op::Send { descr: sender, to: Some(whom), messages };
        let needs = [vec![Fact::Made(sender), Fact::Bound(sender), Fact::Bound(descr), before], needs].concat();
        // What it has itself may have to wait for this.
        let sent = Fact::Filled(to.to.scratch());
        to.to.step(Moment::Fill, NAME, Actor::Store, op, needs, vec![sent.clone()]);
        sent
    }

    /// Messages, or pieces of a stream, are written, by who gets room for that.
    fn fill(&self, writer: Descr, which: Range<usize>, needs: Vec<Fact>, to: &mut Planning<'_>) {
        // What the kernel adds to each.
        const BESIDES: usize = 1 << 10;
        let waiting = &self.waiting[which.clone()];
        widen(NAME, writer, waiting.iter().map(|b| b.0.len() + BESIDES).sum(), to);
        if !self.ancillary.iter().any(|with| which.contains(&(with.message as usize))) {
            return feed(writer, waiting.iter().map(|b| b.0.clone()).collect(), needs, to);
        }
        let (messages, more) = self.messages(which, to);
        let needs = [vec![Fact::Made(writer), Fact::Bound(writer)], needs, more].concat();
        let op = Op::Send { descr: writer, to: None, messages };
        to.to.step(Moment::Fill, NAME, Actor::Store, op, needs, vec![Fact::Filled(writer)]);
    }

    /// What waits, with what came with it; and what must be there for that.
    fn messages(&self, which: Range<usize>, to: &Planning<'_>) -> (Vec<Message>, Vec<Fact>) {
        let plain = self.waiting[which.clone()].iter().map(|b| Message { bytes: b.0.clone(), ..Message::default() });
        let (mut messages, mut needs): (Vec<Message>, _) = (plain.collect(), Vec::new());
        for with in self.ancillary.iter().filter(|with| which.contains(&(with.message as usize))) {
            let message = &mut messages[with.message as usize - which.start];
            message.rights = with.rights.iter().map(|id| Descr(*id)).collect();
            let whose = |pid: u32| to.model.process(pid).map(|_| Pid(pid));
            message.credentials = with.credentials.map(|(pid, uid, gid)| (whose(pid), uid, gid));
            needs.extend(message.rights.iter().map(|right| Fact::Made(*right)));
            needs.extend(message.credentials.and_then(|who| who.0).map(|pid| Fact::Born(Tid(pid.0))));
        }
        (messages, needs)
    }

    /// Options, what waits, and flags. `writes`: it is the one by which something else was filled.
    fn furnish(&self, descr: Descr, writer: Option<Descr>, writes: bool, to: &mut Planning<'_>) {
        self.settings.plan(NAME, descr, to);
        if let Some(writer) = writer.filter(|_| self.is_written_to()) {
            let needs = if writer == descr { Fact::Linked(descr) } else { Fact::Made(descr) };
            self.fill(writer, 0..self.waiting.len(), vec![needs], to);
        }
        self.settings.plan_room(NAME, descr, if writes { SEND } else { 0 }, to);
        if let Some(mode) = self.mode {
            let lost = Expect::OrTold("a socket has not the permission bits that fstat(2) told of it");
            to.to.on_descr(
                Moment::Arm,
                NAME,
                descr,
                Sys::Fchmod,
                vec![Value::Descr(descr), u64::from(mode).into()],
                lost,
            );
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

fn feed(writer: Descr, packets: Vec<Vec<u8>>, needs: Vec<Fact>, to: &mut Planning<'_>) {
    let op = Op::Feed { descr: writer, packets };
    // What it writes bears its name.
    let needs = [vec![Fact::Made(writer), Fact::Bound(writer)], needs].concat();
    to.to.step(Moment::Fill, NAME, Actor::Store, op, needs, vec![Fact::Filled(writer)]);
}
