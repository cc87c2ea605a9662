//! Sockets of AF_UNIX that are full, hold empty messages, or are found by names of their own.

use crate::life::Living;
use crate::sockets::{
    accept, address, address_of, bind, connect, listening, names, pair, receive, send, shut_down, socket,
};
use crate::sys::{self, Outcome, must, same};

/// Fills one end with pieces of a length until no more goes in. Gives how many bytes.
fn fill(fd: i32, length: usize) -> Result<usize, String> {
    let mut sent = 0;
    loop {
        match send(fd, &sys::pattern(sent as u64, length)) {
            Ok(n) => sent += n,
            Err(libc::EAGAIN) => return Ok(sent),
            Err(e) => return Err(format!("send gives {e}")),
        }
    }
}

fn drain(fd: i32) -> Result<Vec<Vec<u8>>, String> {
    let mut all = Vec::new();
    loop {
        match receive(fd, 1 << 18) {
            Ok(bytes) => all.push(bytes),
            Err(libc::EAGAIN) => return Ok(all),
            Err(e) => return Err(format!("recv gives {e}")),
        }
    }
}

/// As much waits as goes in, in pieces of several sizes.
pub(crate) fn full(_: &[String]) -> Result<Living, String> {
    let lengths = [1, 4000, 53_000, 106_432, 150_000];
    let mut ends = Vec::new();
    for (kind, length) in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET]
        .into_iter()
        .flat_map(|kind| lengths.map(|length| (kind, length)))
    {
        let ends_of = pair(kind)?;
        let before = fill(ends_of[0], length)?;
        ends.push((kind, length, ends_of, before));
    }
    Living::reads(move |_| {
        for (kind, length, [writer, reader], before) in &ends {
            let what = format!("kind {kind}, pieces of {length}");
            // Of a stream, what waited in many pieces may take less room in few.
            let more = if *kind == libc::SOCK_STREAM { Err(libc::EAGAIN) } else { send(*writer, &vec![0; *length]) };
            same(&format!("nothing more goes in: {what}"), &Err(libc::EAGAIN), &more)?;
            let all = drain(*reader)?;
            if *kind != libc::SOCK_STREAM {
                same(&format!("messages: {what}"), &(before / length), &all.len())?;
            }
            let all = all.concat();
            let expected: Vec<u8> = (0..*before)
                .step_by(*length)
                .flat_map(|sent| sys::pattern(sent as u64, *length))
                .take(*before)
                .collect();
            sys::same_bytes(&what, &expected, &all)?;
            same(&format!("as much goes in as before: {what}"), before, &fill(*writer, *length)?)?;
        }
        Ok(())
    })
}

/// Messages of no bytes, also in one that is shut down.
pub(crate) fn empty(_: &[String]) -> Result<Living, String> {
    let ends = [pair(libc::SOCK_DGRAM)?, pair(libc::SOCK_SEQPACKET)?];
    let deaf = pair(libc::SOCK_SEQPACKET)?;
    let messages = [&b""[..], b"abc", b""];
    let fill = move || ends.iter().try_for_each(|ends| messages.iter().try_for_each(|m| send(ends[0], m).map(drop)));
    let fill = move || fill().map_err(|e| format!("send gives {e}"));
    fill()?;
    messages[..2].iter().try_for_each(|m| send(deaf[0], m).map(drop)).map_err(|e| format!("send gives {e}"))?;
    shut_down(deaf[1], libc::SHUT_RD)?;
    Living::reads_at_first(move |first| {
        for ends in ends {
            let all = drain(ends[1])?;
            same("messages", &messages.map(<[u8]>::to_vec).to_vec(), &all)?;
        }
        if first {
            same("an empty one", &Ok(Vec::new()), &receive(deaf[1], 9))?;
            same("what was behind", &Ok(b"abc".to_vec()), &receive(deaf[1], 9))?;
        }
        same("the end", &Ok(Vec::new()), &receive(deaf[1], 9))?;
        fill()
    })
}

/// Two that are connected to each other.
fn connected(listener: i32, kind: i32, name: &str) -> Result<[i32; 2], String> {
    let client = socket(kind)?;
    connect(client, name)?;
    Ok([client, accept(listener)?])
}

fn inbox(name: &str) -> Result<[i32; 2], String> {
    let [inbox, sender] = [socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?];
    bind(inbox, name)?;
    connect(sender, name)?;
    sys::fine("remove_file", std::fs::remove_file(name))?;
    Ok([sender, inbox])
}

/// Names of which the file is gone, or of something else, or was one of who takes connections and is gone.
pub(crate) fn gone(_: &[String]) -> Result<Living, String> {
    let here = std::env::current_dir().map_err(|e| e.to_string())?;
    let at = |name: &str| here.join(name).display().to_string();
    let (name, below, left) = (at("gone"), here.join("below"), at("left"));
    let inboxes = [inbox(&name)?, inbox(&name)?];
    sys::fine("write", std::fs::write(&name, "something else"))?;
    sys::fine("create_dir", std::fs::create_dir(&below))?;
    let deep = below.join("deep").display().to_string();
    let listener = listening(libc::SOCK_STREAM, &deep)?;
    let served = [connected(listener, libc::SOCK_STREAM, &deep)?, connected(listener, libc::SOCK_STREAM, &deep)?];
    sys::fine("remove_file", std::fs::remove_file(&deep))?;
    sys::fine("chdir", std::env::set_current_dir(&below))?;
    let (relative, above) = (inbox("relative")?, inbox("../above")?);
    sys::fine("chdir", std::env::set_current_dir(&here))?;
    sys::fine("remove_dir", std::fs::remove_dir(&below))?;
    let (kind, hidden) = (libc::SOCK_SEQPACKET, format!("@cryopid-{}-left", std::process::id()));
    let leaving = [listening(kind, &left)?, listening(kind, &hidden)?];
    let others = [connected(leaving[0], kind, &left)?, connected(leaving[0], kind, &left)?];
    let hidden = [connected(leaving[1], kind, &hidden)?, connected(leaving[1], kind, &hidden)?];
    leaving.into_iter().for_each(sys::close);
    let one_way = [inboxes[0], inboxes[1], relative, above];
    let both_ways: Vec<[i32; 2]> = [served, others, hidden].concat();
    let all = [one_way.concat(), both_ways.concat(), vec![listener]].concat();
    let told = move || all.iter().map(|fd| names(*fd)).collect::<Result<Vec<_>, _>>();
    let expected = told()?;
    let fill = move |both_ways: &[[i32; 2]]| -> Outcome {
        for (n, [one, _]) in one_way.iter().chain(both_ways).enumerate() {
            sys::write(*one, format!("to {n}").as_bytes())?;
        }
        both_ways.iter().try_for_each(|[_, other]| sys::write(*other, b"back").map(drop))
    };
    fill(&both_ways)?;
    Living::reads(move |_| {
        same("names", &expected, &told()?)?;
        for (n, [one, other]) in one_way.iter().chain(&both_ways).enumerate() {
            same("what came", &format!("to {n}").into_bytes(), &sys::read_up_to(*other, 100)?)?;
            if n >= one_way.len() {
                same("back", &b"back".to_vec(), &sys::read_up_to(*one, 100)?)?;
            }
        }
        let text = sys::fine("read", std::fs::read_to_string(&name))?;
        same("what stands there", &"something else".to_string(), &text)?;
        same("no directory", &false, &below.exists())?;
        fill(&both_ways)
    })
}

/// A message of one that is connected to nobody.
fn send_to(from: i32, name: &str, bytes: &[u8]) -> Outcome {
    let (address, len) = address(name);
    // SAFETY: bytes and address live as long as the call.
    let sent = unsafe {
        libc::sendto(from, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT, (&raw const address).cast(), len)
    };
    must("sendto", sent as i64).map(drop)
}

/// Messages of several who have names, of whom one is gone, and of one who has none, in their order.
pub(crate) fn written(_: &[String]) -> Result<Living, String> {
    let here = std::env::current_dir().map_err(|e| e.to_string())?;
    let name = |which: &str| format!("@cryopid-{}-{which}", std::process::id());
    let (inbox, path) = (socket(libc::SOCK_DGRAM)?, here.join("letters").display().to_string());
    bind(inbox, &path)?;
    let (lost, lost_name) = (socket(libc::SOCK_DGRAM)?, name("lost"));
    bind(lost, &lost_name)?;
    let (writer, writer_name) = (socket(libc::SOCK_DGRAM)?, here.join("writer").display().to_string());
    bind(writer, &writer_name)?;
    connect(writer, &lost_name)?;
    let kept_gone = inbox_of(&here.join("deserted").display().to_string())?;
    let fill = move |deserted: Option<&str>| -> Outcome {
        let (passing, nameless) = (socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?);
        let passing_name = here.join("passing").display().to_string();
        bind(passing, &passing_name)?;
        for (n, from) in [writer, passing, nameless, writer, writer].into_iter().enumerate() {
            send_to(from, &path, format!("letter {n}").as_bytes())?;
        }
        if let Some(name) = deserted {
            send_to(writer, name, b"deserted")?;
        }
        [passing, nameless].into_iter().for_each(sys::close);
        sys::fine("remove_file", std::fs::remove_file(&passing_name))
    };
    let deserted = kept_gone.1.clone();
    fill(Some(&deserted))?;
    sys::fine("remove_file", std::fs::remove_file(&deserted))?;
    let passing_name = std::path::Path::new(&writer_name).with_file_name("passing").display().to_string();
    let from = [writer_name.clone(), passing_name, String::new(), writer_name.clone(), writer_name.clone()];
    Living::reads_at_first(move |first| {
        for (n, from) in from.iter().enumerate() {
            let expected = (format!("letter {n}").into_bytes(), from.clone());
            let (bytes, name) = address_of(inbox)?;
            same("a letter, and of whom", &expected, &(bytes, name.trim_end_matches('@').to_owned()))?;
        }
        if first {
            let (bytes, name) = address_of(kept_gone.0)?;
            let expected = (b"deserted".to_vec(), writer_name.clone());
            same("what came where nobody finds it", &expected, &(bytes, name.trim_end_matches('@').to_owned()))?;
        }
        fill(None)
    })
}

fn inbox_of(name: &str) -> Result<(i32, String), String> {
    let inbox = socket(libc::SOCK_DGRAM)?;
    bind(inbox, name)?;
    Ok((inbox, name.to_owned()))
}

/// Ends of a pair with names, a client that has one, a connection whose listener is gone, and a row of three.
pub(crate) fn named(_: &[String]) -> Result<Living, String> {
    let name = |which: &str| format!("@cryopid-{}-{which}", std::process::id());
    let ends = pair(libc::SOCK_DGRAM)?;
    bind(ends[0], &name("end"))?;
    let row = [(); 3].map(|()| socket(libc::SOCK_DGRAM));
    let [first, second, third] = row;
    let (first, second, third) = (first?, second?, third?);
    bind(second, &name("second"))?;
    bind(third, &name("third"))?;
    connect(first, &name("second"))?;
    connect(second, &name("third"))?;
    let listener = listening(libc::SOCK_STREAM, &name("listener"))?;
    let [client, left] = [socket(libc::SOCK_STREAM)?, socket(libc::SOCK_STREAM)?];
    bind(client, &name("client"))?;
    connect(client, &name("listener"))?;
    let server = accept(listener)?;
    let gone = listening(libc::SOCK_SEQPACKET, &name("gone"))?;
    let orphan = socket(libc::SOCK_SEQPACKET)?;
    connect(orphan, &name("gone"))?;
    let accepted = accept(gone)?;
    [gone, left].into_iter().for_each(sys::close);
    let all = [ends[0], ends[1], first, second, third, client, server, orphan, accepted];
    let told = move || all.iter().map(|fd| names(*fd)).collect::<Result<Vec<_>, _>>();
    let expected = told()?;
    let pairs = [(ends[0], ends[1]), (client, server), (accepted, orphan)];
    let fill = move || -> Outcome {
        for (one, other) in pairs {
            sys::write(one, b"there")?;
            sys::write(other, b"back")?;
        }
        Ok(())
    };
    fill()?;
    Living::reads(move |_| {
        same("names", &expected, &told()?)?;
        let (bytes, sender) = address_of(ends[1])?;
        same("what came of whom", &(b"there".to_vec(), name("end")), &(bytes, sender))?;
        for (one, other) in pairs {
            if other != ends[1] {
                same("there", &b"there".to_vec(), &sys::read_up_to(other, 9)?)?;
            }
            same("back", &b"back".to_vec(), &sys::read_up_to(one, 9)?)?;
        }
        sys::write(second, b"on")?;
        same("on", &b"on".to_vec(), &sys::read_up_to(third, 9)?)?;
        same("to one that is connected to another", &Err(libc::EPERM), &send(first, b"x"))?;
        fill()
    })
}

/// Many that have names, of files and others, and as many that send to them.
pub(crate) fn many(arguments: &[String]) -> Result<Living, String> {
    sys::many_descriptors()?;
    let (us, count) = (std::process::id(), sys::number(arguments, 200) / 2);
    let name = |n: usize| if n.is_multiple_of(8) { format!("name-{n}") } else { format!("@cryopid-{us}-{n}") };
    let two = |n: usize| -> Result<[i32; 2], String> {
        let [inbox, sender] = [socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?];
        bind(inbox, &name(n))?;
        bind(sender, &format!("{}-sender", name(n)))?;
        connect(sender, &name(n))?;
        Ok([inbox, sender])
    };
    let all = (0..count).map(two).collect::<Result<Vec<_>, _>>()?;
    Living::reads(move |_| {
        all.iter().try_for_each(|[_, sender]| sys::write(*sender, &sender.to_ne_bytes()).map(drop))?;
        let came = |[inbox, sender]: &[i32; 2]| {
            same("what came", &sender.to_ne_bytes().to_vec(), &sys::read_up_to(*inbox, 9)?)
        };
        all.iter().try_for_each(came)
    })
}
