//! Small worlds: what every sequence of a few calls makes of a fresh start, thousands of them in one program, so that one freeze and
//! one thaw judge each state that a kind of descriptor can be brought into.
//!
//! A *world* is the descriptors that a word makes: its first letter is a start, each further one a call ([`Letter`]). All words up to
//! a length are spelled. A word is left out where its last letter cannot have changed anything, as it says itself ([`Did::Nothing`]):
//! what it acts on is not there, or the kernel has refused it before it did anything. So is all that begins with such a word, as it is
//! what the shorter ones are.
//!
//! Of each world there was a twin, which was made by the same word and asked everything that can be asked ([`Family::ask`]), before the
//! world was made. A check asks the world the same, in the same order, once; what differs is told with the word. What may differ is
//! never part of an answer, and where that is decided says why.
//!
//! `specimen worlds FAMILY LENGTH PART/PARTS` holds all of a part that a freeze keeps, `specimen worlds FAMILY LENGTH PART/PARTS refused`
//! all that one refuses, for which there are rules; `specimen worlds FAMILY =WORD…` holds these worlds. Which descriptors each has, and why it must
//! be refused, is written down (file `worlds`).

mod pipes;
mod sockets;

use crate::closing::{IN_FLIGHT, let_go};
use crate::life::Living;
use crate::sys::{self, Outcome};
use crate::{signals, sockets as unix};
use std::fmt::Write;

/// What a call may have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    Something,
    Nothing,
}

use Did::{Nothing, Something};

/// A call about a world.
struct Letter {
    sign: char,
    act: fn(&mut World) -> Did,
}

/// Which worlds a freeze refuses, and what it says.
struct Rule {
    text: &'static str,
    names: fn(&World) -> bool,
}

/// What worlds are made of, and how they are asked.
struct Family {
    name: &'static str,
    starts: &'static [Letter],
    letters: &'static [Letter],
    rules: &'static [Rule],
    ask: fn(&mut World, &mut Story),
}

const FAMILIES: [&Family; 4] = [&pipes::FAMILY, &sockets::PAIRS, &sockets::CONNECTIONS, &sockets::MESSAGES];

/// The descriptors that one word makes.
struct World {
    /// A name that no other world has; `@` before it makes an abstract one of it.
    name: String,
    /// What it has, by places that letters know; -1: nothing.
    fds: Vec<i32>,
    /// What only letters know, for rules.
    marks: Vec<&'static str>,
    /// The places of those whose connections nobody has accepted yet, in their order; of one that is closed, none.
    pending: Vec<Option<usize>>,
    /// Where what is sent from a place goes.
    peers: Vec<Option<usize>>,
    /// What waits at a place, message by message.
    queues: Vec<Vec<Sent>>,
    /// Names of what is, or was, at a place, as far as it has sent something.
    names: Vec<String>,
}

/// A message.
struct Sent {
    /// The place from which it came; `None`: from one that nobody has any more.
    from: Option<usize>,
    /// Whether it brings him who has sent it.
    brings: bool,
}

impl World {
    fn new(name: String) -> World {
        World {
            name,
            fds: vec![-1; 4],
            marks: Vec::new(),
            pending: Vec::new(),
            peers: vec![None; 4],
            queues: (0..4).map(|_| Vec::new()).collect(),
            names: vec![String::new(); 4],
        }
    }

    fn at(&self, place: usize) -> Option<i32> {
        Some(self.fds[place]).filter(|fd| *fd >= 0)
    }

    fn set(&mut self, place: usize, fd: Result<i32, String>) -> Did {
        fd.map_or(Nothing, |fd| {
            self.fds[place] = fd;
            Something
        })
    }

    /// Does something with what is at a place.
    fn with(&self, place: usize, act: impl FnOnce(i32) -> bool) -> Did {
        self.at(place).map_or(Nothing, |fd| if act(fd) { Something } else { Nothing })
    }

    fn close(&mut self, place: usize) -> Did {
        self.pending.iter_mut().filter(|who| **who == Some(place)).for_each(|who| *who = None);
        let fd = std::mem::replace(&mut self.fds[place], -1);
        if fd < 0 {
            return Nothing;
        }
        if self.has(IN_FLIGHT) {
            sys::close(fd)
        } else {
            let_go(fd, &self.fds)
        }
        Something
    }

    fn mark(&mut self, mark: &'static str) {
        self.marks.push(mark);
    }

    fn has(&self, mark: &str) -> bool {
        self.marks.contains(&mark)
    }

    fn close_all(&mut self) {
        (0..self.fds.len()).for_each(|place| _ = self.close(place));
    }

    /// Closes all, and takes the names of files away.
    fn end(mut self) {
        self.close_all();
        for name in [self.path(), &self.second()] {
            let _ = std::fs::remove_file(name);
        }
    }

    /// Its name as that of a file.
    fn path(&self) -> &str {
        self.name.trim_start_matches('@')
    }

    /// A second name.
    fn second(&self) -> String {
        format!("{}-second", self.name)
    }
}

/// What was asked of a world, and what it answered.
#[derive(Default, PartialEq, Eq)]
struct Story(Vec<String>);

impl Story {
    fn tell(&mut self, what: &str, answer: impl std::fmt::Debug) {
        self.0.push(format!("{what} {answer:?}"));
    }

    /// What differs.
    fn difference(&self, other: &Story) -> String {
        let pairs = self.0.iter().zip(&other.0).filter(|(was, is)| was != is);
        let mut told = String::new();
        pairs.take(3).for_each(|(was, is)| _ = write!(told, " was [{was}] is [{is}]"));
        if told.is_empty() { format!(" {} answers became {}", self.0.len(), other.0.len()) } else { told }
    }
}

fn find(letters: &'static [Letter], sign: char) -> Result<&'static Letter, String> {
    letters.iter().find(|letter| letter.sign == sign).ok_or_else(|| format!("no letter {sign:?}"))
}

impl Family {
    /// The world of a word, and whether its last letter did something.
    fn spell(&self, word: &str, name: &str) -> Result<(World, Did), String> {
        let (mut world, mut did) = (World::new(name.to_owned()), Nothing);
        for (at, sign) in word.chars().enumerate() {
            did = (find(if at == 0 { self.starts } else { self.letters }, sign)?.act)(&mut world);
        }
        Ok((world, did))
    }

    /// Every word of up to so many letters behind its start, of one part: of the shorter ones every so many, and all that are by one
    /// letter longer than one of these, if they are of full length.
    fn words(&self, length: usize, (part, parts): (usize, usize)) -> Result<Vec<String>, String> {
        let mut all: Vec<String> = self.starts.iter().map(|start| start.sign.to_string()).collect();
        let mut next = 0;
        let mut longest = Vec::new();
        while let Some(word) = all.get(next).cloned() {
            let is_last = word.len() == length;
            if !is_last || next % parts == part {
                let longer = self.longer(&word)?;
                if is_last { &mut longest } else { &mut all }.extend(longer);
            }
            next += 1;
        }
        let shorter = all.into_iter().enumerate().filter(|(n, _)| n % parts == part).map(|(_, word)| word);
        Ok(shorter.chain(longest).collect())
    }

    /// A word with each letter that does something.
    fn longer(&self, word: &str) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        for letter in self.letters {
            let longer = format!("{word}{}", letter.sign);
            let (world, did) = self.spell(&longer, &name(0))?;
            world.end();
            all.extend(Some(longer).filter(|_| did == Something));
        }
        Ok(all)
    }

    /// Why a freeze must refuse a world.
    fn reasons(&self, world: &World) -> Vec<&'static str> {
        self.rules.iter().filter(|rule| (rule.names)(world)).map(|rule| rule.text).collect()
    }

    fn story(&self, world: &mut World) -> Story {
        let mut story = Story::default();
        (self.ask)(world, &mut story);
        story
    }
}

/// A name for a world, which nobody else on this machine has.
fn name(number: usize) -> String {
    static FIRST: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let first = FIRST.get_or_init(|| (sys::clock(libc::CLOCK_MONOTONIC) * 1e6) as u64 % 1_000_000_000);
    format!("@w{}-{first}-{number}", std::process::id())
}

/// One of which the program has a memory.
struct Kept {
    word: String,
    world: World,
    story: Story,
}

/// Which worlds are wanted.
#[derive(PartialEq, Eq)]
enum Wanted {
    Kept,
    Refused,
    Any,
}

fn wanted(words: &[String]) -> Result<(&'static Family, Vec<String>, Wanted), String> {
    let usage = || "worlds FAMILY (LENGTH [PART/PARTS [refused]] | =WORD…)".to_owned();
    let name = words.first().ok_or_else(usage)?;
    let family = FAMILIES.into_iter().find(|family| family.name == name).ok_or_else(usage)?;
    let spelled = words[1..].iter().filter_map(|word| word.strip_prefix('=')).map(str::to_owned).collect::<Vec<_>>();
    if !spelled.is_empty() {
        return Ok((family, spelled, Wanted::Any));
    }
    let number = |word: &str| word.parse::<usize>().map_err(|_| usage());
    let length = number(words.get(1).ok_or_else(usage)?)?;
    let (part, parts) = words.get(2).map_or(Some(("0", "1")), |word| word.split_once('/')).ok_or_else(usage)?;
    let which = if words.len() > 3 { Wanted::Refused } else { Wanted::Kept };
    Ok((family, family.words(length, (number(part)?, number(parts)?))?, which))
}

/// All worlds that are wanted, each after its twin was asked. Gives a line about each besides: its
/// word, its descriptors, and the reasons for which a freeze must refuse it.
fn make(family: &Family, words: Vec<String>, wanted: &Wanted) -> Result<(Vec<Kept>, String), String> {
    let (mut all, mut told) = (Vec::new(), String::new());
    for (number, word) in words.into_iter().enumerate() {
        let name = name(number + 1);
        let (mut twin, _) = family.spell(&word, &name)?;
        let reasons = family.reasons(&twin);
        let is_wanted = match wanted {
            Wanted::Kept => reasons.is_empty(),
            Wanted::Refused => !reasons.is_empty(),
            Wanted::Any => true,
        };
        let story = if is_wanted { family.story(&mut twin) } else { Story::default() };
        twin.end();
        if !is_wanted {
            continue;
        }
        let (world, _) = family.spell(&word, &name)?;
        let fds = world.fds.iter().filter(|fd| **fd >= 0).map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ");
        _ = writeln!(told, "{word}\t{fds}\t{}", reasons.join("\t"));
        all.push(Kept { word, world, story });
    }
    Ok((all, told))
}

/// As many descriptors as may be.
fn raise_limit() -> Outcome {
    // SAFETY: zero is a value of the type.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is ours.
    sys::must("getrlimit", unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    sys::must("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Whether a signal has come that tells of input (SIGIO), which is taken.
fn heard_of_input() -> bool {
    let (set, now) = (signals::set_of(&[libc::SIGIO]), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: set and time live as long as the call; nobody asks who sent it.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now) == libc::SIGIO }
}

pub(crate) fn start(arguments: &[String]) -> Result<Living, String> {
    raise_limit()?;
    signals::block(&[libc::SIGIO])?;
    let (family, words, wanted) = wanted(arguments)?;
    let (mut all, told) = make(family, words, &wanted)?;
    sys::fine("worlds", std::fs::write("worlds", told))?;
    if all.is_empty() {
        return Err("there is no such world".into());
    }
    heard_of_input();
    Living::reads(move |_| {
        let signalled = heard_of_input();
        let mut wrong = Vec::new();
        for mut kept in all.drain(..) {
            let story = family.story(&mut kept.world);
            // Names stay: another image of it may be thawed.
            kept.world.close_all();
            if story != kept.story {
                wrong.push(format!("{}:{}", kept.word, kept.story.difference(&story)));
            }
        }
        if signalled {
            wrong.push("SIGIO has come".into());
        }
        sys::fine("wrong", std::fs::write("wrong", wrong.join("\n")))?;
        let shown = wrong[..wrong.len().min(3)].join("; ");
        if wrong.is_empty() { Ok(()) } else { Err(format!("{} worlds differ: {shown}", wrong.len())) }
    })
}
