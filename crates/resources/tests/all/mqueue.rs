//! POSIX message queues: how their messages are read by calls that put them back, what is refused, and what a thaw makes of them.

use crate::common::*;
use abi::layout::FileStat;
use abi::signal::KernelSigaction;
use abi::{Answer, Arg, Call, Errno, Fault, Place, Sys, proc};
use plan::{Host, Options, Pids};
use resources::fd::mqueue::{Mqueue, Notice};
use resources::fd::rotation::Waiting;
use resources::fd::{Kind, Seen};
use resources::ns::ipc::IpcNamespace;
use resources::tree::process::Fd;
use resources::{Blob, Capturing, Description, Files, Holder, Keep, Model, Note, Probe, Text, TreeState, Trouble};
use std::cell::RefCell;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/self/ns/ipc";
const QUIET: &str = "QSIZE:4          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n";

/// ipc/mqueue.c, as far as it matters: one queue, and one process that has it open as 40.
struct Kernel {
    most: usize,
    longest: usize,
    waits: RefCell<Vec<Waiting>>,
    /// How many messages it has no memory for when they are put back.
    without_memory: RefCell<u32>,
    /// What opening it once more gives, and whether memory can be copied.
    opens: Result<u64, Errno>,
    copies: Option<()>,
    shown: String,
    capabilities: u64,
    handler_flags: u64,
    others: Vec<Holder>,
}

fn message(priority: u32, text: &[u8]) -> Waiting {
    Waiting { priority, text: Blob(text.to_vec()) }
}

impl Kernel {
    fn new(waits: Vec<Waiting>) -> Kernel {
        Kernel {
            most: 10,
            longest: 100,
            waits: RefCell::new(waits),
            without_memory: RefCell::new(0),
            opens: Ok(9),
            copies: Some(()),
            shown: QUIET.into(),
            capabilities: u64::MAX,
            handler_flags: 0,
            others: vec![],
        }
    }

    /// One message after the other: of the highest priority the oldest.
    fn receive(&self) -> Result<Waiting, Errno> {
        let mut all = self.waits.borrow_mut();
        let highest = all.iter().map(|m| m.priority).max().ok_or(Errno::EAGAIN)?;
        let at = all.iter().position(|m| m.priority == highest).unwrap();
        Ok(all.remove(at))
    }

    fn send(&self, message: Waiting) -> Result<u64, Errno> {
        let mut without = self.without_memory.borrow_mut();
        if *without > 0 {
            *without -= 1;
            return Err(Errno::ENOMEM);
        }
        let fits = self.waits.borrow().len() < self.most && message.text.0.len() <= self.longest;
        if !fits {
            return Err(Errno::EINVAL);
        }
        self.waits.borrow_mut().push(message);
        Ok(0)
    }

    /// As an envoy makes a batch: arguments are taken when a call is made.
    fn batch(&self, calls: &[Call]) -> Vec<Answer> {
        let number = |arg: &Arg| if let Arg::Int(n) = arg { *n } else { 0 };
        let mut args: Vec<Vec<u64>> = calls.iter().map(|c| c.args.iter().map(number).collect()).collect();
        let mut done: Vec<Answer> = Vec::new();
        for (n, call) in calls.iter().enumerate() {
            let mut out: Vec<Vec<u8>> =
                call.args.iter().filter_map(|a| if let Arg::Out(n) = a { Some(vec![0; *n]) } else { None }).collect();
            let result = match (call.sys, &call.args[..]) {
                (Sys::MqGetsetattr, _) => {
                    let told = [0, self.most as u64, self.longest as u64, self.waits.borrow().len() as u64];
                    out[0][..32].copy_from_slice(&told.map(u64::to_ne_bytes).concat());
                    Ok(0)
                }
                (Sys::Fcntl | Sys::Openat, _) => self.opens,
                (Sys::RtSigaction, _) => {
                    let action = KernelSigaction { handler: 0x1000, flags: self.handler_flags, ..Default::default() };
                    out[0].copy_from_slice(&action.to_bytes());
                    Ok(0)
                }
                (Sys::ProcessVmReadv, [Arg::Int(1234), Arg::Pieces(to), _, Arg::Pieces(from), ..]) => {
                    for ((to, _), (from, _)) in to.iter().zip(from).filter(|_| self.copies.is_some()) {
                        let value = match *from {
                            Place::Result(call) => done[call].result.unwrap_or_else(|e| -i64::from(e.0) as u64),
                            Place::Out(call, n) => u64::from_ne_bytes(*done[call].out[n].first_chunk().unwrap()),
                            Place::Arg(..) => panic!("nobody needs that"),
                        };
                        if let Place::Arg(call, n) = *to {
                            args[call][n] = value;
                        }
                    }
                    self.copies.map(|()| 8 * to.len() as u64).ok_or(Errno::ENOSYS)
                }
                (Sys::MqTimedreceive | Sys::MqTimedsend | Sys::Close, _) if args[n][0] != 9 => Err(Errno::EBADF),
                (Sys::MqTimedreceive, _) => self.receive().map(|message| {
                    out[0][..message.text.0.len()].copy_from_slice(&message.text.0);
                    out[1][..4].copy_from_slice(&message.priority.to_ne_bytes());
                    message.text.0.len() as u64
                }),
                (Sys::MqTimedsend, [_, text, ..]) => {
                    let text = match text {
                        Arg::At(Place::Out(call, 0)) => done[*call].out[0][..args[n][2] as usize].to_vec(),
                        Arg::Bytes(text) => text.clone(),
                        other => panic!("{other:?} is no text"),
                    };
                    self.send(Waiting { priority: args[n][3] as u32, text: Blob(text) })
                }
                (Sys::Close, _) => Ok(0),
                other => panic!("nobody wrote down what {other:?} gives"),
            };
            done.push(Answer { result, out: out.into_iter().collect() });
        }
        done
    }

    fn capture(&self, flags: u32) -> (Result<Mqueue, Trouble>, Vec<Note>) {
        let info = format!("pos:\t0\nflags:\t0{flags:o}\nmnt_id:\t21\n");
        let stat = FileStat { ino: 77, mode: 0o100640, nlink: 1, size: 80, uid: 3, gid: 4, ..FileStat::default() };
        let info = proc::fdinfo(info.as_bytes()).unwrap();
        let seen =
            Seen { pid: 1234, fd: 40, link: Text(b"/queue".to_vec()), stat, info, terminal: None, in_flight: false };
        let (mut files, mut notes) = (Files::default(), Vec::new());
        let mut from = Capturing { probe: self, files: &mut files, keep: Keep::default(), notes: &mut notes };
        assert!(Mqueue::is(&seen, &from).unwrap());
        (Mqueue::capture(&seen, &mut from), notes)
    }

    fn refusal(&self) -> String {
        let before = self.waits.borrow().clone();
        let all = reasons(&refused(self.capture(2).0));
        assert_eq!(before, *self.waits.borrow());
        all.join("; ").replace("fd 40 (/queue): ", "")
    }
}

impl Probe for Kernel {
    fn calls(&self, calls: &[Call]) -> Result<Vec<Answer>, Fault> {
        Ok(self.batch(calls))
    }
    fn text(&self, name: &str) -> Result<Vec<u8>, Fault> {
        assert_eq!(name, "fd/40");
        Ok(self.shown.clone().into_bytes())
    }
    fn own_text(&self, _: &str) -> Result<Vec<u8>, Fault> {
        Ok(Recorded::sample("bash").texts["status"]
            .split(|b| *b == b'\n')
            .map(|line| match line.strip_prefix(b"CapEff:") {
                Some(_) => format!("CapEff:\t{:016x}\n", self.capabilities).into_bytes(),
                None => [line, b"\n"].concat(),
            })
            .collect::<Vec<_>>()
            .concat())
    }
    fn inner_tid(&self, outer: u32) -> Option<u32> {
        (outer == 1234).then_some(1234)
    }
    fn other_users(&self, _: u64, _: u64, _: &[u8]) -> Result<Vec<Holder>, Fault> {
        Ok(self.others.clone())
    }
}

fn some() -> Vec<Waiting> {
    vec![message(0, b"last"), message(7, b"first of two"), message(9, b""), message(7, &[8; 100])]
}

fn in_order() -> Vec<Waiting> {
    [2, 1, 3, 0].map(|n| some()[n].clone()).to_vec()
}

#[test]
fn messages_are_taken_out_and_put_back_in_their_order() {
    for flags in [0, 1, 2] {
        let kernel = Kernel::new(some());
        let queue = kernel.capture(flags).0.unwrap();
        assert_eq!(queue.messages, Some(in_order()));
        assert_eq!((queue.limits, queue.owner, queue.mode, queue.notice), ((10, 100), (3, 4), 0o640, None));
        let left: Vec<_> = std::iter::from_fn(|| kernel.receive().ok()).collect();
        assert_eq!(left, in_order());
    }
    // More than one copy takes.
    let many: Vec<_> = (0..700).map(|n| message(n % 5, &n.to_ne_bytes())).collect();
    let kernel = Kernel { most: 1000, ..Kernel::new(many.clone()) };
    assert_eq!(kernel.capture(2).0.unwrap().messages.unwrap().len(), 700);
    let (mut before, mut after) = (many, kernel.waits.take());
    before.sort_by_key(|m| m.priority);
    after.sort_by_key(|m| m.priority);
    assert_eq!(before, after);
}

#[test]
fn what_could_not_be_put_back_is_put_back_later() {
    let kernel = Kernel { without_memory: RefCell::new(6), ..Kernel::new(some()) };
    assert_eq!(kernel.capture(2).0.unwrap().messages, Some(in_order()));
    assert_eq!(std::iter::from_fn(|| kernel.receive().ok()).collect::<Vec<_>>(), in_order());
}

#[test]
fn what_cannot_be_read_is_refused_and_stays() {
    let refusal = |change: fn(&mut Kernel)| {
        let mut kernel = Kernel::new(some());
        change(&mut kernel);
        kernel.refusal()
    };
    assert!(refusal(|k| k.opens = Err(Errno::EACCES)).contains("may not open it for reading and writing"));
    assert!(refusal(|k| k.copies = None).contains("process_vm_readv"));
    assert!(refusal(|k| k.longest = 300_000).contains("more than can be read at once"));
    assert!(refusal(|k| (k.most, k.capabilities) = (4, 0)).contains("full, and another user's process"));
    let holder = Holder { pid: 99, writes: false };
    let shared = Kernel { others: vec![holder], ..Kernel::new(some()) };
    assert_eq!(shared.refusal(), "process 99, outside of the tree, has this message queue too");
}

#[test]
fn who_is_told_is_kept_or_refused() {
    let told = |shown: &str, waits: Vec<Waiting>, handler_flags| Kernel {
        shown: shown.into(),
        handler_flags,
        ..Kernel::new(waits)
    };
    let by_signal = "QSIZE:0          NOTIFY:0     SIGNO:10    NOTIFY_PID:1234  \n";
    let (queue, notes) = told(by_signal, vec![], 0).capture(2);
    assert_eq!(queue.unwrap().notice, Some(Notice { pid: 1234, signal: 10 }));
    assert_eq!(notes.len(), 1);
    let (queue, notes) = told("QSIZE:0 NOTIFY:1 SIGNO:0 NOTIFY_PID:1234\n", vec![], 4).capture(2);
    assert_eq!((queue.unwrap().notice, notes), (Some(Notice { pid: 1234, signal: 0 }), vec![]));
    assert!(told(by_signal, vec![], 4).refusal().contains("a value that the kernel tells nobody"));
    assert!(told(by_signal, some(), 0).refusal().contains("to read them would do that"));
    assert!(told("NOTIFY:2 SIGNO:0 NOTIFY_PID:1234", vec![], 0).refusal().contains("SIGEV_THREAD"));
    assert!(told(&by_signal.replace("1234", "99"), vec![], 0).refusal().contains("outside of the tree"));
}

/// A program with a queue, open twice, of which it is told.
fn with_queue(name: Option<&str>) -> Model {
    let mut model = model("sleep");
    let name = name.map(|n| Text::from(n.as_bytes()));
    let first = Mqueue {
        object: 77,
        name,
        flags: 2,
        mode: 0o640,
        owner: (3, 4),
        limits: (10, 100),
        messages: Some(in_order()[..2].to_vec()),
        notice: Some(Notice { pid: model.processes[0].process.pid, signal: 10 }),
    };
    let second = Mqueue { flags: 0o4000, messages: None, notice: None, ..first.clone() };
    for (id, queue) in [(90, first), (91, second)] {
        model.descriptions.insert(id, Description::Mqueue(queue));
        model.processes[0].process.fds.push(Fd { number: 300 + id, description: id, close_on_exec: false });
    }
    let ipc = IpcNamespace { boot: "a boot".into(), namespace: "ipc:[1]".into(), own: false, limits: vec![] };
    model.tree.push(TreeState::IpcNamespace(ipc));
    model
}

fn with_told(model: &Model, boot: &str, queue: Option<u64>) -> Host {
    let mut host = host("root", model);
    host.told.extend([(BOOT.into(), boot.into()), (NAMESPACE.into(), "ipc:[1]".into())]);
    host.told.extend(queue.map(|number| ("/queue".into(), number.to_string())));
    host
}

#[test]
fn queues_are_made_found_or_refused() {
    let model = with_queue(Some("queue"));
    survives(&model);
    let empty = with_told(&model, "a boot", None);
    let same = with_told(&model, "a boot", Some(77));
    let all = [
        ("nothing is here", planned(&model, &empty)),
        ("it is still here", planned(&model, &same)),
        ("without a name", planned(&with_queue(None), &empty)),
    ];
    let new = Options { pids: Pids::New, ..Options::default() };
    let apart = resources::plan(&model, &same, &new).unwrap();
    let mut text = String::new();
    for (what, plan) in all.iter().map(|(what, plan)| (*what, plan)).chain([("in a pid namespace of its own", &apart)])
    {
        text += &format!("{what}:\n{}\n{}\n\n", steps(plan, &["mqueue", "ipcns"]).join("\n"), plan.notes.join("\n"));
    }
    golden("mqueue.plan", &text);
    for (boot, number) in [("another boot", 77), ("a boot", 78)] {
        let other = with_told(&model, boot, Some(number));
        let why = plan_refused(&model, &other, &Options::default());
        assert_eq!(why, ["message queue /queue: its name is that of another one here"]);
    }
}

#[test]
fn more_than_is_allowed_here_is_refused() {
    let mut model = with_queue(None);
    let Some(Description::Mqueue(queue)) = model.descriptions.get_mut(&90) else { panic!("it is one") };
    queue.limits = (11, 100);
    let mut host = with_told(&model, "a boot", None);
    assert!(resources::plan(&model, &host, &Options::default()).is_ok());
    host.limits = vec![(1000, 1000); 16];
    let why = plan_refused(&model, &host, &Options::default());
    assert_eq!(why, ["message queues: the program's queues take 2156 bytes, and 1000 are allowed here"]);
    host.inner_user_namespace = true;
    let why = plan_refused(&model, &host, &Options::default());
    assert_eq!(why, ["message queue: 11 messages of 100 bytes are more than may wait here without root"]);
}

#[test]
fn queues_that_cannot_be_are_damage() {
    let broken = |change: fn(&mut Mqueue)| {
        let mut model = with_queue(Some("queue"));
        let Some(Description::Mqueue(queue)) = model.descriptions.get_mut(&90) else { panic!("it is one") };
        change(queue);
        assert!(Model::from_records(&records(&model)).is_err());
    };
    broken(|q| q.limits.0 = 1);
    broken(|q| q.limits.1 = 3);
    broken(|q| q.limits = (1 << 20, 100));
    broken(|q| q.name = Some(Text(b"a/b".to_vec())));
    broken(|q| q.messages.as_mut().unwrap()[0].priority = 32768);
    broken(|q| q.notice = Some(Notice { pid: 1, signal: 10 }));
    broken(|q| q.notice.as_mut().unwrap().signal = 65);
}
