//! Relatives: processes below us that answer questions over pipes, one line each.
//!
//! Some have our memory (`clone(2)`, CLONE_VM) and even our thread-local storage, so the C library would be confused if both
//! allocated at once. They never do: between a question and its answer the asker only waits, and between an answer and the
//! next question the one asked does.

use crate::sys::{self, Outcome, must, same};

/// What a relative says when it is asked.
pub(crate) type Answer = Result<String, String>;

/// A process that can be asked.
#[derive(Clone, Copy)]
pub(crate) struct Kin {
    pub(crate) pid: i32,
    ask: i32,
    hear: i32,
}

/// The longest question and answer.
const LONGEST: usize = 4096;
/// For how long a relative may be silent, in milliseconds.
const PATIENCE: i32 = 3000;

/// Reads up to the end of a line, and allocates nothing.
fn line(fd: i32, patience: i32, into: &mut [u8; LONGEST]) -> Result<usize, String> {
    let mut length = 0;
    loop {
        await_more(fd, patience)?;
        match sys::read(fd, &mut into[length..=length]) {
            Ok(0) => return Err("the pipe has come to its end".into()),
            Ok(_) if into[length] == b'\n' => return Ok(length),
            Ok(_) => length += 1,
            Err(errno) => return Err(format!("read: errno {errno}")),
        }
    }
}

/// Waits until there is something to read, for so many milliseconds; a read itself waits for ever.
fn await_more(fd: i32, patience: i32) -> Outcome {
    if patience < 0 {
        return Ok(());
    }
    loop {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, and it lives as long as the call.
        match unsafe { libc::poll(&raw mut entry, 1, patience) } {
            1 => return Ok(()),
            // A handler ran, which ends this call in any case (signal(7)).
            -1 if sys::errno() == libc::EINTR => {}
            _ => return Err(format!("silent for {patience} ms")),
        }
    }
}

impl Kin {
    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, question: &str) -> Answer {
        let text = format!("{question}\n");
        let mut answer = [0; LONGEST];
        let failed = |why: String| format!("process {}, asked {question:?}: {why}", self.pid);
        sys::write(self.ask, text.as_bytes()).map_err(failed)?;
        let length = line(self.hear, PATIENCE, &mut answer).map_err(failed)?;
        understood(&answer[..length]).map_err(failed)
    }

    /// Tells it something that has no answer.
    pub(crate) fn tell(&self, text: &str) -> Outcome {
        sys::write(self.ask, format!("{text}\n").as_bytes()).map(drop)
    }

    /// What it says without being asked.
    pub(crate) fn hear(&self) -> Answer {
        let mut answer = [0; LONGEST];
        let failed = |why: String| format!("process {}: {why}", self.pid);
        let length = line(self.hear, PATIENCE, &mut answer).map_err(failed)?;
        understood(&answer[..length]).map_err(failed)
    }

    /// It answers as expected.
    pub(crate) fn says(&self, question: &str, expected: &str) -> Outcome {
        same(&format!("process {}, asked {question:?}", self.pid), &Ok(expected.to_owned()), &self.ask(question))
    }

    /// Its ids, as it sees them: its own, its parent's, its group's, and its session's, unless that is ours.
    pub(crate) fn place(&self) -> Answer {
        let text = self.ask("who")?;
        // SAFETY: takes an integer.
        let session = format!(" {}", unsafe { libc::getsid(0) });
        Ok(text.strip_suffix(&session).map_or(text.clone(), |rest| format!("{rest} ours")))
    }
}

fn understood(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(&answer[1..]).into_owned();
    if answer[0] == b'+' { Ok(text) } else { Err(text) }
}

/// Two pipes.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    questions: [i32; 2],
    answers: [i32; 2],
}

impl Line {
    pub(crate) fn new() -> Result<Line, String> {
        Ok(Line { questions: pipe()?, answers: pipe()? })
    }

    pub(crate) fn kin(&self, pid: i32) -> Kin {
        Kin { pid, ask: self.questions[1], hear: self.answers[0] }
    }

    /// The life of a relative.
    pub(crate) fn serve<F: FnMut(&str) -> Answer>(&self, set_up: impl FnOnce() -> Result<F, String>) -> ! {
        let mut said = String::new();
        let mut answer = match mortal().and_then(|()| set_up()) {
            Ok(answer) => answer,
            Err(why) => {
                let _ = sys::write(self.answers[1], format!("-{why}\n").as_bytes());
                exit(1)
            }
        };
        said.push_str("+\n");
        loop {
            if sys::write(self.answers[1], said.as_bytes()).is_err() {
                exit(2);
            }
            let mut question = [0; LONGEST];
            let heard = line(self.questions[0], -1, &mut question);
            said.clear();
            match heard.and_then(|length| answer(&String::from_utf8_lossy(&question[..length]))) {
                Ok(text) => said.extend(["+", &text, "\n"]),
                Err(why) => said.extend(["-", &why, "\n"]),
            }
        }
    }
}

/// It ends with its parent.
fn mortal() -> Outcome {
    sys::prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL as u64, 0, 0, 0]).map(drop)
}

/// Ends at once, and runs nothing of the program whose copy it is.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}

pub(crate) fn pipe() -> Result<[i32; 2], String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    Ok(ends)
}

/// A child that may outlive us. Zero in itself.
pub(crate) fn lasting_fork() -> Result<i32, String> {
    // SAFETY: specimens of trees have one thread when they fork, so the child may do as it likes.
    must("fork", unsafe { libc::fork() }).map(|pid| pid as i32)
}

/// A child; it ends with us. Zero in itself.
pub(crate) fn fork() -> Result<i32, String> {
    let parent = std::process::id() as i32;
    let pid = lasting_fork()?;
    if pid == 0 {
        mortal()?;
        // SAFETY: takes nothing.
        let above = unsafe { libc::getppid() };
        // We had ended before it was to end with us. Where the call is filtered it tells nothing.
        if above != parent && above > 0 {
            exit(0);
        }
    }
    Ok(pid)
}

/// A child that sets itself up, and then answers.
pub(crate) fn child<F: FnMut(&str) -> Answer>(set_up: impl FnOnce() -> Result<F, String>) -> Result<Kin, String> {
    let line = Line::new()?;
    match fork()? {
        0 => {
            [line.questions[1], line.answers[0]].into_iter().for_each(sys::close);
            line.serve(set_up)
        }
        pid => {
            [line.questions[0], line.answers[1]].into_iter().for_each(sys::close);
            let kin = line.kin(pid);
            kin.hear().map(|_| kin)
        }
    }
}

/// A child that only answers to `who`, and to the words of [`obey`].
pub(crate) fn plain() -> Result<Kin, String> {
    child(|| Ok(obey))
}

/// What every relative understands.
pub(crate) fn obey(question: &str) -> Answer {
    let (word, rest) = question.split_once(' ').unwrap_or((question, ""));
    let number = || rest.parse::<i32>().map_err(|_| format!("not a number: {rest:?}"));
    match word {
        "who" => Ok(who()),
        "exit" => exit(number()?),
        "die" => {
            // SAFETY: a signal to ourselves.
            unsafe { libc::kill(libc::getpid(), number()?) };
            Ok("alive".into())
        }
        "count" => Ok(crate::signals::count(number()?).to_string()),
        _ => Err(format!("what is {question:?}?")),
    }
}

fn who() -> String {
    // SAFETY: these take integers.
    let (own, parent, group, session) = unsafe { (libc::getpid(), libc::getppid(), libc::getpgrp(), libc::getsid(0)) };
    format!("{own} {parent} {group} {session}")
}

/// A relative with children of its own: `below N QUESTION` is for one of these.
pub(crate) fn parent_of(children: Vec<Kin>) -> impl FnMut(&str) -> Answer {
    move |question| {
        let Some((at, rest)) = question.strip_prefix("below ").and_then(|rest| rest.split_once(' ')) else {
            return obey(question);
        };
        let child = at.parse::<usize>().ok().and_then(|at| children.get(at)).ok_or("no such child")?;
        if rest == "place" { child.place() } else { child.ask(rest) }
    }
}

/// What a clone is to do, made in its maker: what both share must not be allocated in both at once.
pub(crate) type SetUp = Box<dyn FnOnce() -> Result<Box<dyn FnMut(&str) -> Answer>, String>>;

struct Start {
    line: Line,
    set_up: Option<SetUp>,
}

/// A relative made by `clone(2)` with these flags and exit signal.
pub(crate) fn clone(flags: i32, set_up: SetUp) -> Result<Kin, String> {
    let line = Line::new()?;
    let kin = line.kin(clone_on(line, flags, set_up)?);
    kin.hear().map(|_| kin)
}

/// The same, to be asked by whoever has these pipes. It has a stack of its own.
pub(crate) fn clone_on(line: Line, flags: i32, set_up: SetUp) -> Result<i32, String> {
    const STACK: usize = 1 << 20;
    let start = Box::leak(Box::new(Start { line, set_up: Some(set_up) }));
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new area.
    let stack = unsafe { libc::mmap(std::ptr::null_mut(), STACK, protection, kind, -1, 0) };
    must("mmap", if stack == libc::MAP_FAILED { -1 } else { 0 })?;
    // SAFETY: the stack and what is told live for ever; who shares our memory works only while we wait (see the module).
    let pid = unsafe { libc::clone(begin, stack.byte_add(STACK - 64), flags, std::ptr::from_mut(start).cast()) };
    must("clone", pid).map(|pid| pid as i32)
}

extern "C" fn begin(start: *mut libc::c_void) -> i32 {
    // SAFETY: `clone` gave the address of a Start that lives for ever and that nobody else uses.
    let start = unsafe { &mut *start.cast::<Start>() };
    start.line.serve(start.set_up.take().expect("it begins once"))
}

/// The end of a child, as `wait4(2)` tells it; zeroes if there is none to tell of.
pub(crate) fn wait(pid: i32, options: i32) -> Result<(i32, i32), String> {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let got = must("wait4", unsafe { libc::waitpid(pid, &raw mut status, options) })? as i32;
    Ok((got, if got == 0 { 0 } else { status }))
}

/// A signal to a process, or to a group.
pub(crate) fn signal(pid: i32, signal: i32) -> Outcome {
    // SAFETY: takes integers.
    must(&format!("kill({pid}, {signal})"), unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Whether there is a child to wait for.
pub(crate) fn childless() -> Outcome {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let got = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    same("waiting for any child", &(-1, libc::ECHILD), &(got, if got == -1 { sys::errno() } else { 0 }))
}
