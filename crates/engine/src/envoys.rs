//! Envoys for the captures of a tree.
//!
//! What ptrace(2) does, it does for the thread only that has stopped the process. What an envoy is asked goes over a socket, and may
//! be asked by anybody. So of a large tree the thread that traces makes envoys, moves and leaves them ([`Recruits::serve`]), while
//! another one captures with those that are ready; one that it is done with goes back to where it came from ([`Hired`]).

use crate::Error;
use crate::asked::{Answers, Asks};
use crate::target::envoy_fault;
use crate::tree::{Member, Texts};
use abi::{Answer, Call};
use resources::tree::process::Shares;
use std::collections::{BTreeSet, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use tracee::{Envoy, EnvoyError, Process};

/// Processes that have their envoys at once.
const AT_ONCE: usize = 16;
/// Members that may have envoys while they are not captured yet.
const AHEAD: usize = 3 * AT_ONCE;
/// So often an envoy is looked after that does not answer: a signal may have stopped it.
const LOOK: Duration = Duration::from_millis(5);

/// A member that is to be captured.
pub(crate) struct Ready<'t> {
    pub(crate) pid: i32,
    /// What it was read from.
    pub(crate) texts: &'t Texts,
    /// Its envoy, if it lives, which has begun with what is asked in any case.
    pub(crate) envoy: Option<Result<Hired<'t>, EnvoyError>>,
    /// What the other threads were asked in any case, and answered as guests, in their order; `None`: the envoy is to go to each.
    pub(crate) others: Option<Vec<Answers>>,
}

/// An envoy. When this is dropped it leaves.
pub(crate) struct Hired<'t> {
    /// There until it is given back.
    envoy: Option<Envoy<'t>>,
    /// The thread that traces, if that is not this one.
    home: Option<Sender<Order<'t>>>,
}

/// What the thread that traces is told to do.
pub(crate) enum Order<'t> {
    /// To move an envoy to the thread of that index.
    Move(Envoy<'t>, usize, Sender<Result<Envoy<'t>, EnvoyError>>),
    /// To ask the thread of that index.
    Ask(Envoy<'t>, usize, Vec<Call>, Sender<(Envoy<'t>, Asked)>),
    /// An envoy is to leave, or to stay where it is.
    End(Envoy<'t>, After),
}

/// What becomes of a thread that was an envoy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes home.
    Leaves,
    /// It stays for as long as it lives.
    Stays,
}

impl After {
    fn of(self, envoy: Envoy<'_>) -> Result<(), EnvoyError> {
        if self == After::Stays { envoy.stay() } else { envoy.leave() }
    }
}

/// The answers of a guest.
type Asked = Result<Vec<Answer>, EnvoyError>;

/// Asks the thread of that index, as a guest.
fn ask(envoy: &mut Envoy<'_>, index: usize, calls: &[Call]) -> Asked {
    envoy.ask(&[index], calls).map(|mut answers| answers.remove(0))
}

const GIVEN_BACK: &str = "only who gives it back takes it";

impl<'t> Hired<'t> {
    /// Moves it to the thread of that index.
    pub(crate) fn move_to(mut self, index: usize) -> Result<Hired<'t>, EnvoyError> {
        let (envoy, home) = (self.envoy.take().expect(GIVEN_BACK), self.home.take());
        let envoy = match &home {
            None => envoy.move_to(index)?,
            Some(home) => {
                let (reply, moved) = std::sync::mpsc::channel();
                send(home, Order::Move(envoy, index, reply));
                moved.recv().map_err(|_| EnvoyError::Silent)??
            }
        };
        Ok(Hired { envoy: Some(envoy), home })
    }

    fn envoy(&self) -> &Envoy<'t> {
        self.envoy.as_ref().expect(GIVEN_BACK)
    }

    fn at_work(&mut self) -> &mut Envoy<'t> {
        self.envoy.as_mut().expect(GIVEN_BACK)
    }

    /// The process.
    pub(crate) fn process(&self) -> &Process {
        self.envoy().process()
    }

    /// Has the thread of that index make the calls; see [`Envoy::calls`] and [`Envoy::ask`].
    pub(crate) fn calls(&mut self, index: usize, calls: &[Call]) -> Result<Vec<Answer>, EnvoyError> {
        match &self.home {
            _ if self.envoy().index() == index => self.at_work().calls(calls),
            None => ask(self.at_work(), index, calls),
            Some(home) => {
                let (reply, asked) = std::sync::mpsc::channel();
                send(home, Order::Ask(self.envoy.take().expect(GIVEN_BACK), index, calls.to_vec(), reply));
                let (envoy, answers) = asked.recv().expect("who traces answers");
                self.envoy = Some(envoy);
                answers
            }
        }
    }

    /// See [`Envoy::begin`].
    pub(crate) fn begin(&mut self, calls: Arc<[Call]>) -> Result<(), EnvoyError> {
        self.at_work().begin(calls)
    }

    /// See [`Envoy::arena`].
    pub(crate) fn arena(&self) -> u64 {
        self.envoy().arena()
    }

    /// See [`Envoy::locks_new_areas`].
    pub(crate) fn locks_new_areas(&mut self) -> Result<bool, EnvoyError> {
        self.at_work().locks_new_areas()
    }

    /// Nothing more is asked of this thread, as far as is known: it comes to a stop while we do other things, unless only another thread of
    /// ours could stop it.
    pub(crate) fn rest(&self) -> Result<(), EnvoyError> {
        if self.home.is_none() { self.envoy().rest() } else { Ok(()) }
    }

    /// It is not needed any more.
    pub(crate) fn end(mut self, after: After) -> Result<(), EnvoyError> {
        let envoy = self.envoy.take().expect(GIVEN_BACK);
        match &self.home {
            None => after.of(envoy),
            Some(home) => {
                send(home, Order::End(envoy, after));
                Ok(())
            }
        }
    }
}

/// It is heard: who traces serves until nobody is left who could send anything.
fn send<'t>(home: &Sender<Order<'t>>, order: Order<'t>) {
    assert!(home.send(order).is_ok(), "the thread that traces is there");
}

impl Drop for Hired<'_> {
    fn drop(&mut self) {
        if let (Some(envoy), Some(home)) = (self.envoy.take(), &self.home) {
            send(home, Order::End(envoy, After::Leaves));
        }
    }
}

/// Members that get their envoys at once: such that have nothing in common which an envoy changes, or a single one.
struct Group<'t> {
    members: &'t mut [Member],
    is_alone: bool,
}

/// The members of a tree, in their order, until they have had their envoys.
pub(crate) struct Recruits<'t> {
    groups: Peekable<Box<dyn Iterator<Item = Group<'t>> + 't>>,
    share_memory: BTreeSet<i32>,
    asks: Asks,
    ready: VecDeque<Ready<'t>>,
}

impl<'t> Recruits<'t> {
    pub(crate) fn new(members: &'t mut [Member], share_memory: &BTreeSet<i32>) -> Recruits<'t> {
        let sharing: BTreeSet<i32> = share_memory.clone();
        let alone = move |m: &Member| m.shares != Shares::default() || sharing.contains(&m.pid);
        let with = alone.clone();
        let chunks = members.chunk_by_mut(move |a, b| !with(a) && !with(b));
        let groups = chunks.flat_map(|chunk| chunk.chunks_mut(AT_ONCE));
        let group = move |members: &'t mut [Member]| Group { is_alone: members.iter().any(&alone), members };
        let groups: Box<dyn Iterator<Item = Group<'t>> + 't> = Box::new(groups.map(group));
        let share_memory = share_memory.clone();
        Recruits { groups: groups.peekable(), share_memory, asks: Asks::default(), ready: VecDeque::new() }
    }

    /// The next member, for who is the thread that traces.
    pub(crate) fn next(&mut self) -> Option<Ready<'t>> {
        if self.ready.is_empty() {
            let group = self.groups.next()?;
            self.ready = self.hire(group, None).into();
        }
        self.ready.pop_front()
    }

    /// Those of them that live get envoys.
    fn hire(&mut self, group: Group<'t>, home: Option<&Sender<Order<'t>>>) -> Vec<Ready<'t>> {
        let mut all: Vec<Ready<'t>> = Vec::with_capacity(group.members.len());
        let (mut living, mut hosts) = (Vec::new(), Vec::new());
        for member in group.members {
            all.push(Ready { pid: member.pid, texts: &member.texts, envoy: None, others: None });
            if let Some(process) = &mut member.process {
                // Guests of one with the same memory would be in its way. Else the first thread comes last: it carries the envoy while
                // all that belongs to the process is asked.
                let hosts_guests = !self.share_memory.contains(&member.pid) && process.takes_guests();
                let index = if hosts_guests { 0 } else { process.threads().len() - 1 };
                living.push((process, index));
                hosts.push((all.len() - 1, hosts_guests, self.asks.of(index, &member.shares)));
            }
        }
        for (envoy, (n, hosts_guests, asks)) in tracee::envoys(living).into_iter().zip(hosts) {
            let hired = envoy.and_then(|mut envoy| {
                all[n].others = hosts_guests.then(|| self.ask_others(&mut envoy)).transpose()?;
                envoy.begin(asks)?;
                Ok(Hired { envoy: Some(envoy), home: home.cloned() })
            });
            all[n].envoy = Some(hired);
        }
        all
    }

    /// Asks all threads behind the first one what any thread is asked.
    fn ask_others(&mut self, envoy: &mut Envoy<'t>) -> Result<Vec<Answers>, EnvoyError> {
        let (others, asks) = ((1..envoy.process().threads().len()).collect::<Vec<_>>(), self.asks.of_thread());
        let answers = envoy.ask(&others, &asks)?.into_iter();
        Ok(answers.map(|given| Answers::new(Arc::clone(&asks), 0, given)).collect())
    }

    /// Makes envoys for whoever captures, ahead of him, and does with them what he tells, until he has had all of them, or wants no
    /// more. Gives the first trouble with one that was to leave or to stay, after which no more are made.
    pub(crate) fn serve(&mut self, to: Sender<Ready<'t>>, (home, orders): Channel<'t>) -> Result<(), Error> {
        let mut desk = Desk { open: Some((to, home)), out: Vec::new(), is_alone: false };
        let mut result = Ok(());
        loop {
            let hires = desk.may_hire(self.groups.peek());
            match orders.recv_timeout(if hires { Duration::ZERO } else { LOOK }) {
                Ok(Order::Move(envoy, index, reply)) => {
                    desk.has_back(&envoy);
                    let moved = envoy.move_to(index);
                    desk.out.extend(moved.as_ref().ok().map(Envoy::tid));
                    // Who asked waits for it.
                    let _ = reply.send(moved);
                }
                Ok(Order::Ask(mut envoy, index, calls, reply)) => {
                    let answers = ask(&mut envoy, index, &calls);
                    let _ = reply.send((envoy, answers));
                }
                Ok(Order::End(envoy, after)) => {
                    desk.has_back(&envoy);
                    let pid = envoy.process().pid();
                    if let Err(e) = after.of(envoy) {
                        desk.open = None;
                        result = result.and(Err(Error::Fault(envoy_fault(e, pid))));
                    }
                }
                Err(RecvTimeoutError::Timeout) if hires => self.hire_next(&mut desk),
                Err(RecvTimeoutError::Timeout) => desk.out.iter().for_each(|tid| tracee::let_go_on(*tid)),
                Err(RecvTimeoutError::Disconnected) => return result,
            }
        }
    }

    fn hire_next(&mut self, desk: &mut Desk<'t>) {
        let (Some((to, home)), Some(group)) = (&desk.open, self.groups.next()) else {
            desk.open = None;
            return;
        };
        desk.is_alone = group.is_alone;
        let ready = self.hire(group, Some(home));
        desk.out.extend(ready.iter().filter_map(|r| Some(r.envoy.as_ref()?.as_ref().ok()?.envoy().tid())));
        if !ready.into_iter().all(|ready| to.send(ready).is_ok()) {
            desk.open = None;
        }
    }
}

/// What the thread that traces knows of those who capture.
struct Desk<'t> {
    /// Where more go, and by what they come back; `None`: there are no more.
    open: Option<(Sender<Ready<'t>>, Sender<Order<'t>>)>,
    /// The threads that are envoys and not back yet.
    out: Vec<i32>,
    /// These may have no others beside them.
    is_alone: bool,
}

impl<'t> Desk<'t> {
    fn may_hire(&self, next: Option<&Group<'_>>) -> bool {
        let has_room = |next: &Group<'_>| {
            self.out.is_empty() || self.out.len() + next.members.len() <= AHEAD && !self.is_alone && !next.is_alone
        };
        self.open.is_some() && next.is_none_or(has_room)
    }

    fn has_back(&mut self, envoy: &Envoy<'t>) {
        self.out.retain(|tid| *tid != envoy.tid());
    }
}

/// By which orders come.
pub(crate) type Channel<'t> = (Sender<Order<'t>>, Receiver<Order<'t>>);

/// Where a capture has its members from.
pub(crate) enum Source<'r, 't> {
    /// From this thread, which traces.
    Own(&'r mut Recruits<'t>),
    /// From another one.
    Other(Receiver<Ready<'t>>),
}

impl<'t> Source<'_, 't> {
    /// The next one.
    pub(crate) fn next(&mut self) -> Option<Ready<'t>> {
        match self {
            Source::Own(recruits) => recruits.next(),
            Source::Other(ready) => ready.recv().ok(),
        }
    }
}
