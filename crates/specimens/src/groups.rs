//! Process groups and sessions: own ones, those of others, and those whose leader has ended.

use crate::family::state;
use crate::kin::{self, Kin};
use crate::life::Living;
use crate::signals;
use crate::sys::{self, Outcome, must, same};

fn lead_session() -> Outcome {
    // SAFETY: takes nothing.
    must("setsid", unsafe { libc::setsid() }).map(drop)
}

fn join(pid: i32, group: i32) -> Outcome {
    // SAFETY: takes integers.
    must(&format!("setpgid({pid}, {group})"), unsafe { libc::setpgid(pid, group) }).map(drop)
}

/// The same place for all of them.
fn same_places(all: &[(Kin, &'static str)], expected: &[String]) -> Outcome {
    same("own id, parent, group, session", &expected.to_vec(), &places(all)?)
}

fn places(all: &[(Kin, &'static str)]) -> Result<Vec<String>, String> {
    all.iter().map(|(kin, question)| if question.is_empty() { kin.place() } else { kin.ask(question) }).collect()
}

/// A child leads a session; of its children one was born before it did, one later; a third leads a session in
/// turn. So does a fourth, which was born before, and so was a child of its own.
pub(crate) fn sessions(_: &[String]) -> Result<Living, String> {
    let leader = kin::child(|| {
        let before = kin::plain()?;
        let deep = kin::child(|| {
            let before = kin::plain()?;
            lead_session().map(|()| kin::parent_of(vec![before]))
        })?;
        lead_session()?;
        let own = kin::child(|| lead_session().map(|()| kin::obey))?;
        Ok(kin::parent_of(vec![before, kin::plain()?, own, deep]))
    })?;
    let below = ["", "below 0 who", "below 1 who", "below 2 who", "below 3 who", "below 3 below 0 who"];
    let all = below.map(|question| (leader, question));
    let untold = move |at: usize, text: &str| if at == 1 || at == 5 { told(text) } else { text.to_owned() };
    let seen = move || -> Result<Vec<String>, String> {
        Ok(places(&all)?.iter().enumerate().map(|(at, text)| untold(at, text)).collect())
    };
    let expected = seen()?;
    Living::reads(move |_| same("own id, parent, group, session", &expected, &seen()?))
}

/// A place, with our session named so: it is another one after a thaw.
fn told(text: &str) -> String {
    // SAFETY: takes an integer.
    let own = format!(" {}", unsafe { libc::getsid(0) });
    text.strip_suffix(&own).map_or(text.into(), |rest| format!("{rest} ours"))
}

/// The usual double fork; the middle one ends with this code. Gives the middle one's id.
fn bear(line: kin::Line, set_up: fn() -> Outcome, code: i32) -> Result<i32, String> {
    let middle = kin::fork()?;
    if middle == 0 {
        let own = std::process::id() as i32;
        if set_up().is_ok() && kin::lasting_fork() == Ok(0) {
            // Who is told of his parent's death would end with this one.
            // SAFETY: takes nothing.
            while unsafe { libc::getppid() } == own {
                sys::pause_for(1);
            }
            line.serve(|| Ok(kin::obey))
        }
        kin::exit(code)
    }
    Ok(middle)
}

/// The orphan at the other end of a line, when it is one.
fn born(line: kin::Line) -> Result<Kin, String> {
    let kin = line.kin(0);
    kin.hear()?;
    let pid = kin.ask("who")?.split(' ').next().and_then(|word| word.parse().ok()).ok_or("no id")?;
    Ok(line.kin(pid))
}

/// An orphan, and the id of the middle one, who leads its session and ends with this code.
fn orphan(code: i32) -> Result<(Kin, i32), String> {
    let line = kin::Line::new()?;
    let middle = bear(line, lead_session, code)?;
    Ok((born(line)?, middle))
}

fn adopt() -> Outcome {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]).map(drop)
}

/// Orphans, who are in the session of somebody further below: of two we are the parent, and one of our children is of another.
pub(crate) fn orphans(_: &[String]) -> Result<Living, String> {
    let lines = [kin::Line::new()?, kin::Line::new()?, kin::Line::new()?];
    let [first, second, third] = lines;
    adopt()?;
    let child = kin::child(move || {
        let leader = kin::child(move || {
            lead_session()?;
            for line in [first, second] {
                kin::wait(bear(line, || Ok(()), 0)?, 0)?;
            }
            let member = kin::plain()?;
            let below = kin::child(move || {
                kin::wait(bear(third, || Ok(()), 0)?, 0)?;
                Ok(kin::obey)
            })?;
            Ok(kin::parent_of(vec![member, below]))
        })?;
        Ok(kin::parent_of(vec![leader]))
    })?;
    let orphans = [born(first)?, born(second)?, born(third)?];
    let all = [child, orphans[0], orphans[1], orphans[2]].map(|kin| (kin, ""));
    let family = [(child, "below 0 who"), (child, "below 0 below 0 who"), (child, "below 0 below 1 who")];
    let all = [all.as_slice(), &family].concat();
    let expected = places(&all)?;
    let (own, mut ended) = (std::process::id().to_string(), false);
    Living::reads(move |_| {
        if std::mem::replace(&mut ended, true) {
            return Ok(());
        }
        same_places(&all, &expected)?;
        let ours = expected.iter().filter(|text| text.split(' ').nth(1) == Some(&own)).count();
        same("how many are our children", &4, &ours)?;
        for orphan in orphans {
            orphan.tell("exit 3")?;
            same("its end", &(orphan.pid, 3 << 8), &kin::wait(orphan.pid, 0)?)?;
        }
        same("nobody else has ended", &0, &kin::wait(-1, libc::WNOHANG)?.0)
    })
}

/// Orphans whose leaders have ended: of one session we have one, and a child of ours another one.
pub(crate) fn orphans_below(_: &[String]) -> Result<Living, String> {
    let lines = [kin::Line::new()?, kin::Line::new()?, kin::Line::new()?];
    adopt()?;
    let child = kin::child(move || {
        let leader = kin::child(move || {
            lead_session()?;
            Ok(move |question: &str| match question {
                "bear the first" => kin::wait(bear(lines[0], || Ok(()), 0)?, 0).map(|_| String::new()),
                "bear the second" => kin::wait(bear(lines[1], || Ok(()), 0)?, 0).map(|_| String::new()),
                _ => kin::obey(question),
            })
        })?;
        leader.ask("bear the first")?;
        adopt()?;
        leader.ask("bear the second")?;
        leader.tell("exit 0")?;
        let third = bear(lines[2], lead_session, 0)?;
        [leader.pid, third].into_iter().try_for_each(|pid| kin::wait(pid, 0).map(drop))?;
        Ok(kin::obey)
    })?;
    let all = [child, born(lines[0])?, born(lines[1])?, born(lines[2])?].map(|kin| (kin, ""));
    let expected = places(&all)?;
    Living::reads(move |_| same_places(&all, &expected))
}

/// An orphan whose leader has ended, and nobody has waited for that one: both are children of a child of ours.
pub(crate) fn orphan_of_zombie(_: &[String]) -> Result<Living, String> {
    let child = kin::child(|| {
        adopt()?;
        Ok(kin::parent_of(vec![orphan(7)?.0]))
    })?;
    let all = [(child, ""), (child, "below 0 who")];
    let expected = places(&all)?;
    Living::reads(move |_| same_places(&all, &expected))
}

/// Daemons: the leader of their session has ended, and they are ours, who adopt orphans (PR_SET_CHILD_SUBREAPER).
pub(crate) fn daemons(_: &[String]) -> Result<Living, String> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0])?;
    let mut all = Vec::new();
    for _ in 0..2 {
        let (kin, middle) = orphan(0)?;
        same("the middle one's end", &(middle, 0), &kin::wait(middle, 0)?)?;
        all.push((kin, ""));
    }
    let expected = places(&all)?;
    let own = std::process::id().to_string();
    Living::reads(move |_| {
        same_places(&all, &expected)?;
        let ours = expected.iter().filter(|text| text.split(' ').nth(1) == Some(&own)).count();
        same("how many are our children", &2, &ours)
    })
}

/// `a | b` of which `a` has ended and was waited for: `b` is in the group of a process that is gone.
pub(crate) fn leaderless(_: &[String]) -> Result<Living, String> {
    let (leader, first, second) = (kin::plain()?, kin::plain()?, counting()?);
    for member in [leader, first, second] {
        join(member.pid, leader.pid)?;
    }
    leader.tell("exit 0")?;
    same("the leader's end", &(leader.pid, 0), &kin::wait(leader.pid, 0)?)?;
    let all = [(first, ""), (second, "")];
    let expected = places(&all)?;
    let mut sent = 0;
    Living::reads(move |_| {
        same_places(&all, &expected)?;
        same("the group", &leader.pid, &group_of(second.pid)?)?;
        sent += 1;
        // The others have no handler; signal 0 reaches all.
        kin::signal(-leader.pid, 0)?;
        kin::signal(second.pid, libc::SIGUSR1)?;
        second.says("count 10", &sent.to_string())
    })
}

fn group_of(pid: i32) -> Result<i32, String> {
    // SAFETY: takes an integer.
    must("getpgid", unsafe { libc::getpgid(pid) }).map(|group| group as i32)
}

/// A child that counts SIGUSR1.
fn counting() -> Result<Kin, String> {
    kin::child(|| signals::catch(libc::SIGUSR1).map(|()| kin::obey))
}

/// A leader that has ended and was not waited for: the group is still its.
pub(crate) fn dead_leader(_: &[String]) -> Result<Living, String> {
    let (leader, member) = (kin::plain()?, counting()?);
    for kin in [leader, member] {
        join(kin.pid, leader.pid)?;
    }
    leader.tell("exit 4")?;
    sys::soon("the end of the leader", || state(leader.pid) == Some('Z'))?;
    let expected = member.place()?;
    let mut waited = false;
    let mut sent = 0;
    Living::reads(move |_| {
        same("own id, parent, group, session", &expected, &member.place()?)?;
        sent += 1;
        kin::signal(-leader.pid, libc::SIGUSR1)?;
        member.says("count 10", &sent.to_string())?;
        if !std::mem::replace(&mut waited, true) {
            same("its group", &leader.pid, &group_of(leader.pid)?)?;
            same("its end", &(leader.pid, 4 << 8), &kin::wait(leader.pid, libc::WNOHANG)?)?;
        }
        Ok(())
    })
}

/// The leader of a session has ended and was not waited for; its child lives in the session, with us.
pub(crate) fn dead_session(_: &[String]) -> Result<Living, String> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0])?;
    let (kin, leader) = orphan(6)?;
    sys::soon("the end of the leader", || state(leader) == Some('Z'))?;
    let expected = kin.place()?;
    let mut waited = false;
    Living::reads(move |_| {
        same("own id, parent, group, session", &expected, &kin.place()?)?;
        if !std::mem::replace(&mut waited, true) {
            // SAFETY: takes an integer.
            same("the session of the leader", &leader, &unsafe { libc::getsid(leader) })?;
            same("its end", &(leader, 6 << 8), &kin::wait(leader, libc::WNOHANG)?)?;
        }
        Ok(())
    })
}

/// Two groups of two; a signal to a group reaches its members and nobody else.
pub(crate) fn two(_: &[String]) -> Result<Living, String> {
    let members = [counting()?, counting()?, counting()?, counting()?];
    for (member, leader) in members.iter().zip([0, 0, 2, 2]) {
        join(member.pid, members[leader].pid)?;
    }
    let all = members.map(|kin| (kin, ""));
    let expected = places(&all)?;
    let mut sent = 0;
    Living::reads(move |_| {
        same_places(&all, &expected)?;
        sent += 1;
        kin::signal(-members[2].pid, libc::SIGUSR1)?;
        let seen = members.map(|kin| kin.ask("count 10"));
        let counts = [0, 0, sent, sent].map(|count: i32| Ok(count.to_string()));
        same("SIGUSR1 came", &counts, &seen)
    })
}

/// A shell with a job in the foreground: the job has the terminal, we wait for it.
pub(crate) fn job(_: &[String]) -> Result<Living, String> {
    signals::block(&[libc::SIGTTOU])?;
    let shell = std::process::id() as i32;
    let pid = kin::fork()?;
    if pid != 0 {
        join(pid, pid)?;
        // SAFETY: takes integers.
        must("tcsetpgrp", unsafe { libc::tcsetpgrp(0, pid) })?;
        let ended =
            kin::wait(pid, 0).map_or(9, |(_, status)| if status & 0x7f == 0 { status >> 8 } else { 128 + status });
        kin::exit(ended);
    }
    sys::soon("the terminal is ours", || foreground() == std::process::id() as i32)?;
    let own = std::process::id() as i32;
    signals::catch(libc::SIGINT)?;
    Living::reads(move |_| {
        // SAFETY: takes nothing.
        let (parent, group) = unsafe { (libc::getppid(), libc::getpgrp()) };
        same("the shell", &[shell, own], &[parent, group])?;
        same("the shell's group", &shell, &group_of(shell)?)?;
        same("the group in the foreground", &own, &foreground())?;
        // SAFETY: takes integers.
        same("one session", &unsafe { libc::getsid(shell) }, &unsafe { libc::getsid(0) })
    })
}

fn foreground() -> i32 {
    // SAFETY: takes an integer.
    unsafe { libc::tcgetpgrp(0) }
}

/// A group whose leader has gone over to another one, and left it to another member.
pub(crate) fn left(_: &[String]) -> Result<Living, String> {
    let [leader, member, other] = [kin::plain()?, kin::plain()?, kin::plain()?];
    [(leader, leader), (member, leader), (other, other), (leader, other)]
        .iter()
        .try_for_each(|(who, whose)| join(who.pid, whose.pid))?;
    let all = [leader, member, other].map(|kin| (kin, ""));
    let expected = places(&all)?;
    Living::reads(move |_| same_places(&all, &expected))
}
