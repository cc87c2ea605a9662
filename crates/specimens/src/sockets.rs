//! Sockets without a name: pairs of every kind, what waits in them, what is shut down or gone, options.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};
use crate::{flights, kin};

pub(crate) fn pair(kind: i32) -> Result<[i32; 2], String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("socketpair", unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok(ends)
}

/// Messages are sent, and not written: so many bytes of an end that is shut down give an error, and no signal.
pub(crate) fn send(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    // SAFETY: the bytes live as long as the call.
    let r = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if r < 0 { Err(sys::errno()) } else { Ok(r as usize) }
}

pub(crate) fn receive(fd: i32, length: usize) -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0; length];
    // SAFETY: as much room as is told.
    let r = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), length, libc::MSG_DONTWAIT) };
    if r < 0 { Err(sys::errno()) } else { Ok(bytes[..r as usize].to_vec()) }
}

pub(crate) fn option(fd: i32, name: i32) -> Result<i32, String> {
    let (mut value, mut length) = (0i32, 4);
    // SAFETY: room for an integer.
    must("getsockopt", unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    })?;
    Ok(value)
}

pub(crate) fn set(fd: i32, name: i32, value: i32) -> Outcome {
    // SAFETY: the integer lives as long as the call.
    must("setsockopt", unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const value).cast(), 4) }).map(drop)
}

pub(crate) fn shut_down(fd: i32, how: i32) -> Outcome {
    // SAFETY: takes integers.
    must("shutdown", unsafe { libc::shutdown(fd, how) }).map(drop)
}

/// What waits in both directions of a stream, more than is read or written at once.
pub(crate) fn stream(_: &[String]) -> Result<Living, String> {
    let ends = pair(libc::SOCK_STREAM)?;
    let [there, back] = [sys::pattern(1, 100_000), sys::pattern(2, 77)];
    let [fill, expected] = [(there.clone(), back.clone()), (there, back)];
    let refill = move || -> Outcome {
        fill.0.chunks(3000).try_for_each(|part| sys::write(ends[0], part).map(drop))?;
        sys::write(ends[1], &fill.1).map(drop)
    };
    refill()?;
    Living::reads(move |_| {
        let mut all = Vec::new();
        while let Ok(more) = receive(ends[1], 7777) {
            all.extend(more);
        }
        sys::same_bytes("what waited", &expected.0, &all)?;
        sys::same_bytes("what waited the other way", &expected.1, &sys::read_up_to(ends[0], 1000)?)?;
        same("nothing more", &Err(libc::EAGAIN), &receive(ends[0], 1))?;
        refill()
    })
}

/// Messages keep their boundaries.
pub(crate) fn messages(_: &[String]) -> Result<Living, String> {
    let pairs = [pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_SEQPACKET)?];
    let lengths = [1, 60_000, 3, 2, 900];
    let message = move |n: usize| sys::pattern(n as u64, lengths[n]);
    let fill = move || -> Outcome {
        let each = |ends: &[i32; 2]| (0..lengths.len()).try_for_each(|n| sys::write(ends[0], &message(n)).map(drop));
        pairs.iter().try_for_each(each)
    };
    fill()?;
    Living::reads(move |_| {
        for ends in pairs {
            for n in 0..lengths.len() {
                sys::same_bytes("a message", &message(n), &sys::read_up_to(ends[1], 1 << 17)?)?;
            }
            same("nothing more", &Err(libc::EAGAIN), &receive(ends[1], 1))?;
            same("the other way", &Ok(5), &send(ends[1], b"hello"))?;
            same("what came", &b"hello".to_vec(), &sys::read_up_to(ends[0], 100)?)?;
        }
        fill()
    })
}

/// Halves that are shut down, ends that are closed, with and without something unread.
pub(crate) fn halves(_: &[String]) -> Result<Living, String> {
    let stream = pair(libc::SOCK_STREAM)?;
    sys::write(stream[0], b"last words")?;
    shut_down(stream[0], libc::SHUT_WR)?;
    let deaf = pair(libc::SOCK_DGRAM)?;
    shut_down(deaf[0], libc::SHUT_RD)?;
    let (left, gone) = (pair(libc::SOCK_STREAM)?, pair(libc::SOCK_SEQPACKET)?);
    sys::write(left[1], b"farewell")?;
    sys::write(gone[1], b"adieu")?;
    let reset = pair(libc::SOCK_STREAM)?;
    sys::write(reset[0], b"never read")?;
    [left[1], gone[1], reset[1]].into_iter().for_each(sys::close);
    let told = std::cell::Cell::new(false);
    let again = move || sys::write(stream[1], b"back").map(drop);
    again()?;
    Living::reads_at_first(move |first| {
        if first {
            same("last words", &b"last words".to_vec(), &sys::read_up_to(stream[1], 100)?)?;
            same("farewell", &b"farewell".to_vec(), &sys::read_up_to(left[0], 100)?)?;
            same("adieu", &b"adieu".to_vec(), &sys::read_up_to(gone[0], 100)?)?;
        }
        same("the end of what was said", &Ok(Vec::new()), &receive(stream[1], 1))?;
        same("nobody may speak", &Err(libc::EPIPE), &send(stream[0], b"x"))?;
        same("back", &b"back".to_vec(), &sys::read_up_to(stream[0], 100)?)?;
        same("to who is deaf", &Err(libc::EPIPE), &send(deaf[1], b"x"))?;
        same("from who is deaf", &Ok(1), &send(deaf[0], b"x"))?;
        same("what it said", &b"x".to_vec(), &sys::read_up_to(deaf[1], 10)?)?;
        for end in [left[0], gone[0]] {
            same("the end", &Ok(Vec::new()), &receive(end, 1))?;
            same("to nobody", &Err(libc::EPIPE), &send(end, b"x"))?;
        }
        let expected = if told.replace(true) { Ok(Vec::new()) } else { Err(libc::ECONNRESET) };
        same("what became of what was never read", &expected, &receive(reset[0], 1))?;
        again()
    })
}

/// Options, flags, a socket that was never connected, and a pair of which a child has one end.
pub(crate) fn options(_: &[String]) -> Result<Living, String> {
    // SAFETY: takes integers.
    let fresh = must("socket", unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) })? as i32;
    let ends = pair(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?;
    sys::fcntl(ends[1], libc::F_SETFL, libc::O_NONBLOCK)?;
    let values = [(libc::SO_SNDBUF, 30_000), (libc::SO_RCVBUF, 20_000), (libc::SO_PASSCRED, 1), (libc::SO_RCVLOWAT, 2)];
    values.iter().try_for_each(|(name, value)| set(ends[0], *name, *value))?;
    let all = move || -> Result<Vec<i32>, String> {
        let own = values.iter().map(|(name, _)| option(ends[0], *name));
        let other =
            [libc::SO_SNDBUF, libc::SO_PASSCRED, libc::SO_TYPE, libc::SO_ERROR].map(|name| option(ends[1], name));
        let flags = [ends[0], ends[1], fresh].map(|fd| sys::fcntl(fd, libc::F_GETFL, 0));
        own.chain(other).chain(flags).collect()
    };
    let expected = all()?;
    let line = pair(libc::SOCK_SEQPACKET)?;
    let child = kin::child(move || {
        Ok(move |question: &str| {
            sys::write(line[1], question.as_bytes())?;
            Ok(String::from_utf8_lossy(&sys::read_up_to(line[1], 100)?).into_owned())
        })
    })?;
    Living::reads(move |_| {
        same("options and flags", &expected, &all()?)?;
        same("what was never connected", &Err(libc::ENOTCONN), &send(fresh, b"x"))?;
        sys::write(line[0], b"answer")?;
        child.says("question", "answer")?;
        same("what the child said", &b"question".to_vec(), &sys::read_up_to(line[0], 100)?)
    })
}

/// A descriptor of a process waits in it, which is made by each that has it.
pub(crate) fn loaded(_: &[String]) -> Result<Living, String> {
    let ends = pair(libc::SOCK_STREAM)?;
    // SAFETY: takes integers.
    let process = must("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    flights::send(ends[0], b"x", &[process as i32])?;
    Living::reads(move |_| same("it waits", &true, &sys::readable(ends[1])))
}

/// `struct sockaddr_un` of a name: one that begins with `@` is abstract.
pub(crate) fn address(name: &str) -> (libc::sockaddr_un, u32) {
    // SAFETY: zero is a value of the type.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    let bytes = name.strip_prefix('@').map_or_else(|| format!("{name}\0"), |rest| format!("\0{rest}"));
    bytes.bytes().zip(&mut address.sun_path).for_each(|(b, to)| *to = b as libc::c_char);
    (address, 2 + bytes.len() as u32)
}

pub(crate) fn socket(kind: i32) -> Result<i32, String> {
    // SAFETY: takes integers.
    must("socket", unsafe { libc::socket(libc::AF_UNIX, kind, 0) }).map(|fd| fd as i32)
}

pub(crate) fn bind(fd: i32, name: &str) -> Outcome {
    let (address, len) = address(name);
    // SAFETY: the address lives as long as the call.
    must("bind", unsafe { libc::bind(fd, (&raw const address).cast(), len) }).map(drop)
}

pub(crate) fn connect(fd: i32, name: &str) -> Outcome {
    let (address, len) = address(name);
    // SAFETY: the address lives as long as the call.
    must("connect", unsafe { libc::connect(fd, (&raw const address).cast(), len) }).map(drop)
}

/// Its own name, and that of the other end.
pub(crate) fn names(fd: i32) -> Result<[String; 2], String> {
    let name = |own: bool| {
        let (mut address, mut len) = (address("").0, 110);
        let room = (&raw mut address).cast();
        // SAFETY: room for an address, and its length.
        let r = unsafe {
            if own { libc::getsockname(fd, room, &raw mut len) } else { libc::getpeername(fd, room, &raw mut len) }
        };
        if r < 0 {
            return format!("error {}", sys::errno());
        }
        address.sun_path[..len.saturating_sub(2) as usize].iter().map(|b| char::from(*b as u8)).collect()
    };
    Ok([name(true), name(false)])
}

/// A message, and the name of who sent it, as in [`address`].
pub(crate) fn address_of(fd: i32) -> Result<(Vec<u8>, String), String> {
    let (mut bytes, mut address, mut len) = (vec![0; 100], address("").0, 110);
    let (room, name) = (bytes.as_mut_ptr().cast(), (&raw mut address).cast());
    // SAFETY: room for so many bytes, an address, and its length.
    let got = unsafe { libc::recvfrom(fd, room, 100, libc::MSG_DONTWAIT, name, &raw mut len) };
    let got = must("recvfrom", got as i64)?;
    bytes.truncate(got as usize);
    let path = address.sun_path[..len.saturating_sub(2) as usize].iter().map(|b| *b as u8).collect::<Vec<_>>();
    Ok((bytes, String::from_utf8_lossy(&path).replacen('\0', "@", 1)))
}

pub(crate) fn listening(kind: i32, name: &str) -> Result<i32, String> {
    let fd = socket(kind)?;
    bind(fd, name)?;
    // SAFETY: takes integers.
    must("listen", unsafe { libc::listen(fd, 3) })?;
    Ok(fd)
}

pub(crate) fn accept(listener: i32) -> Result<i32, String> {
    // SAFETY: nobody asks who it is.
    let server = unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
    must("accept", server).map(|fd| fd as i32)
}

fn connected(listener: i32, kind: i32, name: &str) -> Result<[i32; 2], String> {
    let client = socket(kind)?;
    connect(client, name)?;
    Ok([client, accept(listener)?])
}

/// A socket that takes connections, two of them, and what is left of a third one.
struct Server {
    kind: i32,
    name: String,
    listener: i32,
    ends: [[i32; 2]; 2],
    left: i32,
}

impl Server {
    fn new(kind: i32, name: String) -> Result<Server, String> {
        let listener = listening(kind, &name)?;
        let ends = [connected(listener, kind, &name)?, connected(listener, kind, &name)?];
        let left = connected(listener, kind, &name)?;
        sys::write(left[0], b"farewell")?;
        sys::close(left[0]);
        Ok(Server { kind, name, listener, ends, left: left[1] })
    }

    fn names(&self) -> Result<Vec<[String; 2]>, String> {
        [&[self.listener, self.left][..], self.ends.as_flattened()].concat().into_iter().map(names).collect()
    }

    fn fill(&self) -> Outcome {
        sys::write(self.ends[0][0], b"first")?;
        sys::write(self.ends[1][1], b"second").map(drop)
    }

    fn check(&self, first: bool) -> Outcome {
        same("first", &b"first".to_vec(), &sys::read_up_to(self.ends[0][1], 100)?)?;
        same("second", &b"second".to_vec(), &sys::read_up_to(self.ends[1][0], 100)?)?;
        if first {
            same("farewell", &b"farewell".to_vec(), &sys::read_up_to(self.left, 100)?)?;
        }
        same("the end", &Ok(Vec::new()), &receive(self.left, 1))?;
        let new = connected(self.listener, self.kind, &self.name)?;
        sys::write(new[0], b"new")?;
        same("new", &b"new".to_vec(), &sys::read_up_to(new[1], 100)?)?;
        new.into_iter().for_each(sys::close);
        self.fill()
    }
}

/// Sockets that take connections, under names of both sorts, and connections to them, of which some were closed by the client.
pub(crate) fn named(_: &[String]) -> Result<Living, String> {
    let here = std::env::current_dir().map_err(|e| e.to_string())?;
    let path = here.join("listener").display().to_string();
    let all = [
        Server::new(libc::SOCK_STREAM, path.clone())?,
        Server::new(libc::SOCK_SEQPACKET, format!("@cryopid-{}", std::process::id()))?,
    ];
    sys::fine("chmod", std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)))?;
    let mode = move || -> Result<u32, String> {
        Ok(std::os::unix::fs::MetadataExt::mode(&sys::fine("lstat", std::fs::symlink_metadata(&path))?))
    };
    let told = |all: &[Server]| all.iter().map(Server::names).collect::<Result<Vec<_>, _>>();
    let expected = (told(&all)?, mode()?);
    all.iter().try_for_each(Server::fill)?;
    Living::reads_at_first(move |first| {
        same("names, and the mode of the file", &expected, &(told(&all)?, mode()?))?;
        all.iter().try_for_each(|server| server.check(first))
    })
}

/// Messages that are sent to names: what waits, who is connected to whom.
pub(crate) fn addressed(_: &[String]) -> Result<Living, String> {
    let here = std::env::current_dir().map_err(|e| e.to_string())?;
    let (path, hidden) = (here.join("inbox").display().to_string(), format!("@inbox-{}", std::process::id()));
    let [inbox, other, sender] = [(); 3].map(|()| socket(libc::SOCK_DGRAM));
    let (inbox, other, sender) = (inbox?, other?, sender?);
    bind(inbox, &path)?;
    bind(other, &hidden)?;
    connect(sender, &path)?;
    connect(other, &path)?;
    let place = format!("/proc/self/fd/{}", sys::open(&path, libc::O_PATH)?);
    // SAFETY: takes integers.
    must("fchmod", unsafe { libc::fchmod(sender, 0o640) })?;
    let mode = move || -> Result<u32, String> {
        let link = format!("/proc/self/fd/{sender}");
        Ok(std::os::unix::fs::MetadataExt::mode(&sys::fine("stat", std::fs::metadata(link))?))
    };
    // Two had one name, and the file is that of the elder one.
    let (twin, aside) = (here.join("twin").display().to_string(), here.join("aside"));
    let [elder, younger] = [socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?];
    bind(elder, &twin)?;
    sys::fine("rename", std::fs::rename(&twin, &aside))?;
    bind(younger, &twin)?;
    sys::fine("rename", std::fs::rename(&aside, &twin))?;
    let told = move || [inbox, other, sender, elder, younger].map(names).into_iter().collect::<Result<Vec<_>, _>>();
    let expected = told()?;
    let fill = move || [&b"one"[..], b"two"].iter().try_for_each(|m| sys::write(sender, m).map(drop));
    fill()?;
    Living::reads(move |_| {
        same("names", &expected, &told()?)?;
        same("the mode of a socket", &0o140_640, &mode()?)?;
        let new = socket(libc::SOCK_DGRAM)?;
        connect(new, &place)?;
        sys::close(new);
        for message in [&b"one"[..], b"two"] {
            same("a message", &message.to_vec(), &sys::read_up_to(inbox, 100)?)?;
        }
        sys::write(other, b"three")?;
        same("of the one with a name", &b"three".to_vec(), &sys::read_up_to(inbox, 100)?)?;
        let new = socket(libc::SOCK_DGRAM)?;
        connect(new, &twin)?;
        sys::write(new, b"elder")?;
        sys::close(new);
        same("by the name of two", &b"elder".to_vec(), &sys::read_up_to(elder, 100)?)?;
        fill()
    })
}

/// Connections that nobody has accepted yet, and a socket that sends to itself; by names that are relative.
pub(crate) fn waiting(_: &[String]) -> Result<Living, String> {
    let name = "waiting";
    let listener = listening(libc::SOCK_STREAM, name)?;
    let [one, two] = [socket(libc::SOCK_STREAM)?, socket(libc::SOCK_STREAM)?];
    let own = socket(libc::SOCK_DGRAM)?;
    bind(own, "own")?;
    connect(own, "own")?;
    let told = move || [listener, own].map(names).into_iter().collect::<Result<Vec<_>, _>>();
    let expected = told()?;
    connect(two, name)?;
    connect(one, name)?;
    Living::reads_at_first(move |first| {
        same("names", &expected, &told()?)?;
        sys::write(own, b"to myself")?;
        same("to myself", &b"to myself".to_vec(), &sys::read_up_to(own, 100)?)?;
        if first {
            for (client, word) in [(two, b"2"), (one, b"1")] {
                let server = accept(listener)?;
                sys::write(client, word)?;
                same("who came", &word.to_vec(), &sys::read_up_to(server, 100)?)?;
            }
        }
        Ok(())
    })
}

/// Sockets that took connections, until they were shut down: one way, or both.
pub(crate) fn unheard(_: &[String]) -> Result<Living, String> {
    let shut = |how: i32| {
        let name = format!("shut-{how}");
        let listener = listening(libc::SOCK_STREAM, &name)?;
        // SAFETY: takes integers.
        must("shutdown", unsafe { libc::shutdown(listener, how) })?;
        Ok::<_, String>((listener, name))
    };
    let all = [libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR].map(shut).into_iter().collect::<Result<Vec<_>, _>>()?;
    let tells = |fd: i32| {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
        // SAFETY: one entry, and it lives as long as the call.
        unsafe { libc::poll(&raw mut entry, 1, 0) };
        entry.revents
    };
    let expected: Vec<i16> = all.iter().map(|(fd, _)| tells(*fd)).collect();
    Living::reads(move |_| {
        same("what poll(2) tells", &expected, &all.iter().map(|(fd, _)| tells(*fd)).collect())?;
        for (n, (_, name)) in all.iter().enumerate().filter(|(n, _)| *n != 1) {
            let client = socket(libc::SOCK_STREAM)?;
            same(&format!("whether {n} is heard"), &true, &connect(client, name).is_err())?;
            sys::close(client);
        }
        Ok(())
    })
}

/// What was said before anybody has accepted.
pub(crate) fn hasty(_: &[String]) -> Result<Living, String> {
    let name = format!("@hasty-{}", std::process::id());
    let listener = listening(libc::SOCK_STREAM, &name)?;
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, &name)?;
    sys::write(client, b"said")?;
    Living::reads(move |_| same("it waits", &true, &sys::readable(listener)))
}

/// Sockets for messages in their order that were never connected, of which one is shut down.
pub(crate) fn lone(_: &[String]) -> Result<Living, String> {
    let [one, other] = [socket(libc::SOCK_SEQPACKET)?, socket(libc::SOCK_SEQPACKET)?];
    shut_down(one, libc::SHUT_RD)?;
    Living::reads(move |_| {
        same("what it reads", &Err(libc::ENOTCONN), &receive(one, 9).map(|_| ()))?;
        same("what the other reads", &Err(libc::ENOTCONN), &receive(other, 9).map(|_| ()))
    })
}
