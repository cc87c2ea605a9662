//! Models made of small random parts, each of which a kernel could have shown.

use abi::signal::{KernelSigaction, Siginfo, StackT};
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, UserRegs};
use image::Extent;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use resources::fd::file::{File, Standing};
use resources::fd::signalling::{SignalDriven, Signalled};
use resources::fd::{
    chardev::Chardev,
    directory::Directory,
    eventfd::Eventfd,
    inet::InetSocket,
    inotify,
    inotify::Inotify,
    memfd::Memfd,
    mqueue::Mqueue,
    netlink::NetlinkSocket,
    nsfd::Nsfd,
    opath::OPath,
    packet::{Membership, PacketSocket},
    pidfd::Pidfd,
    pipe::PipeEnd,
    place::Removed,
    procfile::Procfile,
    pty,
    regular::Regular,
    rotation,
    signalfd::Signalfd,
    socket::Settings,
    timerfd::Timerfd,
    tty::Tty,
    unix::Name,
    unix::Named,
    unix::UnixSocket,
};
use resources::mm::area::{Area, Backing};
use resources::mm::modes::Modes;
use resources::mm::nodes::Nodes;
use resources::mm::space::{Marks, Space};
use resources::mm::vdso::KernelArea;
use resources::ns::ipc::IpcNamespace;
use resources::ns::time::Time;
use resources::task::handlers::{Handler, Handlers};
use resources::task::itimers::{Itimer, Itimers};
use resources::task::posix_timers::{PosixTimer, PosixTimers};
use resources::task::regs::{Regs, Waiting};
use resources::task::{
    attributes::Attributes, creds::Creds, dispatch::Dispatch, fs::Fs, futex::Futex, limits::Limits, prctl::Prctl,
    rseq::Rseq, sched::Sched, seccomp::Filter, seccomp::Seccomp, signal::Signal, thread_fs::ThreadFs,
};
use resources::tree::process::{Fd, Process};
use resources::tree::session::{Role, Session};
use resources::tree::stops::Stops;
use resources::{
    Blob, Description, Model, Note, ProcessModel, ProcessState, Text, ThreadModel, ThreadState, TreeState,
};
use std::collections::BTreeMap;

const PAGE: u64 = 4096;
const FILES: u32 = 3;

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        select(vec!["/", "/tmp/a b", "/memfd:x", "/usr/lib/x.so", "relative"]).prop_map(|s| Text(s.into())),
        vec(1..=255u8, 0..20).prop_map(Text),
    ]
}

fn blob() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..40).prop_map(Blob)
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    vec((0..50u64, 1..4u64, 0..50u64), 0..4).prop_map(|all| {
        let extent = |(at, len, offset)| Extent { at: at * PAGE, len: len * PAGE, offset: offset * PAGE };
        all.into_iter().map(extent).collect()
    })
}

fn file() -> impl Strategy<Value = File> {
    let standing = select(vec![Standing::Named, Standing::Gone]);
    let more = (any::<u64>(), of(any::<u32>()));
    let facts = (any::<u32>(), any::<u64>(), any::<(i64, u32)>(), of(any::<(u32, u32)>()), more);
    (text(), standing, facts, of(blob()), of(extents())).prop_map(|(path, standing, facts, build_id, contents)| {
        let (mode, size, mtime, owner, (names, seals)) = facts;
        File { path, standing, mode, size, mtime, build_id, contents, owner, names, seals, page: 0 }
    })
}

fn removed() -> impl Strategy<Value = Option<Removed>> {
    let any = (any::<(u32, (u32, u32), u32)>(), of(text()), of(any::<u64>()));
    of(any.prop_map(|((mode, owner, number), target, device)| Removed { mode, owner, number, target, device }))
}

fn pipe() -> impl Strategy<Value = PipeEnd> {
    (1..4u64, any::<u32>(), any::<u64>(), vec(blob(), 0..3), of(text())).prop_map(
        |(pipe, flags, capacity, waiting, path)| PipeEnd {
            path,
            pipe,
            flags,
            capacity,
            waiting,
            quiet: flags & 4 != 0,
            outside: flags & 8 != 0,
            packets: Some(vec![flags % 3]).filter(|_| flags & 16 != 0),
        },
    )
}

fn queue() -> impl Strategy<Value = Mqueue> {
    let message = (0..32768u32, vec(any::<u8>(), 0..8))
        .prop_map(|(priority, text)| rotation::Waiting { priority, text: Blob(text) });
    let messages = of(vec(message, 0..3));
    let numbers = (1..4u64, any::<(u32, u32, (u32, u32))>(), (3..9u64, 8..99u64));
    (numbers, of("[a-z.]{1,9}"), messages).prop_map(|((object, (flags, mode, owner), limits), name, messages)| Mqueue {
        object,
        name: name.map(|name| Text(name.into_bytes())),
        flags,
        mode,
        owner,
        limits,
        messages,
        notice: None,
    })
}

fn watches() -> impl Strategy<Value = Inotify> {
    let watch = (text(), any::<u32>(), any::<u32>());
    let watch =
        watch.prop_map(|(path, mask, file_type)| inotify::Watch { wd: 0, path, mask, file_type, description: None });
    (any::<u32>(), btree_map(1..99u32, watch, 0..4), any::<bool>()).prop_map(|(flags, all, lost)| {
        let watches = all.into_iter().map(|(wd, watch)| inotify::Watch { wd, ..watch }).collect();
        Inotify { flags, watches, lost }
    })
}

/// Either end, or what is neither.
fn pty_end() -> impl Strategy<Value = pty::Pty> {
    let end = select(vec![pty::End::Master, pty::End::Slave, pty::End::HungUp]);
    let modes = (blob(), any::<[u16; 4]>(), any::<[bool; 3]>(), of(any::<u32>()), of(any::<[u32; 3]>())).prop_map(
        |(termios, [row, col, x, y], [packets, locked, closed], foreground, looks)| pty::Modes {
            termios,
            window: (row, col, x, y),
            packets,
            locked,
            closed,
            foreground,
            looks: looks.map(|[mode, uid, gid]| (mode, uid, gid)),
        },
    );
    (any::<[u32; 2]>(), end, any::<bool>(), of(modes)).prop_map(|([pts, flags], end, exclusive, modes)| pty::Pty {
        pts,
        end,
        flags,
        exclusive,
        modes,
    })
}

fn description() -> impl Strategy<Value = Description> {
    let flags = any::<u32>();
    let tty = (flags, any::<bool>(), blob(), any::<(u16, u16)>()).prop_map(|(flags, by_role, termios, window)| Tty {
        flags,
        by_role,
        termios,
        window,
    });
    let plain = prop_oneof![any::<u32>(), Just(0o100_002)];
    let timer = (select(vec![0, 1, 7, 8, 9]), flags, 0..4u32, any::<[u64; 3]>()).prop_map(
        |(clock, flags, mode, [expires, period, ticks])| Timerfd { clock, flags, mode, expires, period, ticks },
    );
    prop_oneof![
        (1..=FILES, flags, any::<u64>()).prop_map(|(file, flags, offset)| Description::Regular(Regular {
            file,
            flags,
            offset,
            in_proc: offset % 2 == 1
        })),
        (1..=FILES, plain, any::<u64>()).prop_map(|(file, flags, offset)| Description::Memfd(Memfd {
            file,
            flags,
            offset
        })),
        (text(), flags, any::<u64>(), removed()).prop_map(|(path, flags, position, removed)| Description::Directory(
            Directory { path, flags, position, removed, in_proc: position % 2 == 1 }
        )),
        (text(), flags, any::<u32>(), removed()).prop_map(|(path, flags, file_type, removed)| {
            Description::OPath(OPath { path, flags, file_type, removed, in_proc: flags % 2 == 1 })
        }),
        pipe().prop_map(Description::PipeEnd),
        (any::<u64>(), any::<bool>(), flags).prop_map(|(count, semaphore, flags)| Description::Eventfd(Eventfd {
            count,
            semaphore,
            flags
        })),
        (text(), flags, of(text()), removed())
            .prop_map(|(path, flags, name, removed)| { Description::Chardev(Chardev { path, flags, name, removed }) }),
        (text(), flags, any::<u64>(), any::<bool>()).prop_map(|(path, flags, position, ended)| {
            Description::Procfile(Procfile { path, flags, position, ended })
        }),
        (text(), flags, any::<bool>()).prop_map(|(name, flags, inside)| Description::Nsfd(Nsfd {
            name,
            flags,
            inside
        })),
        (flags, of(any::<u64>()))
            .prop_map(|(flags, inode)| { Description::Pidfd(Pidfd { id: 0, flags, inode: inode.or(Some(1)) }) }),
        tty.prop_map(Description::Tty),
        pty_end().prop_map(Description::Pty),
        timer.prop_map(Description::Timerfd),
        queue().prop_map(Description::Mqueue),
        watches().prop_map(Description::Inotify),
        (any::<u64>(), flags).prop_map(|(signals, flags)| Description::Signalfd(Signalfd { signals, flags })),
        lone_socket().prop_map(Description::UnixSocket),
        inet_socket().prop_map(Description::InetSocket),
        netlink_socket().prop_map(Description::NetlinkSocket),
        packet_socket().prop_map(Description::PacketSocket),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let options = vec((any::<u64>(), any::<u64>(), blob()), 0..3);
    (options, any::<(u32, u32)>(), 0..4u32, of(blob())).prop_map(|(options, room, chosen, filter)| Settings {
        options,
        room,
        chosen,
        filter,
    })
}

fn packet_socket() -> impl Strategy<Value = PacketSocket> {
    let membership =
        (text(), any::<u16>(), blob()).prop_map(|(interface, sort, address)| Membership { interface, sort, address });
    let rings = (vec((any::<u64>(), blob()), 0..3), any::<u64>());
    let rest = (of(text()), vec(membership, 0..3), of(any::<u32>()), settings(), rings);
    (any::<(u8, u16, u32, u32)>(), rest).prop_map(
        |((socket_type, protocol, flags, copies), (interface, memberships, fanout, settings, (rings, socket)))| {
            PacketSocket {
                socket_type,
                protocol,
                flags,
                interface,
                memberships,
                fanout,
                copies,
                settings,
                rings,
                socket,
            }
        },
    )
}

fn netlink_socket() -> impl Strategy<Value = NetlinkSocket> {
    let rest = (vec(any::<u32>(), 0..3), any::<(u32, u32)>(), settings());
    (any::<[u32; 4]>(), rest).prop_map(|([socket_type, protocol, flags, port], (groups, to, settings))| NetlinkSocket {
        socket_type,
        protocol,
        flags,
        port,
        groups,
        to,
        settings,
    })
}

fn inet_socket() -> impl Strategy<Value = InetSocket> {
    let rest = (of(blob()), of(blob()), of(any::<u32>()), settings(), any::<bool>(), blob(), 0..4u8);
    (any::<[u64; 3]>(), any::<u32>(), rest).prop_map(
        |([family, socket_type, protocol], flags, (local, remote, backlog, settings, connected, waiting, shutdown))| {
            InetSocket {
                family,
                socket_type,
                protocol,
                flags,
                local,
                remote: remote.filter(|_| connected || socket_type == 2),
                backlog,
                settings,
                connected,
                waiting,
                peer: Some(0).filter(|_| connected && (socket_type, protocol) == (1, 6)),
                shutdown,
                ..InetSocket::default()
            }
        },
    )
}

fn named() -> impl Strategy<Value = Named> {
    let name = prop_oneof![text().prop_map(Name::Path), text().prop_map(Name::Abstract)];
    (name, of(any::<u64>()), of(any::<(u32, u32, u32)>())).prop_map(|(name, inode, looks)| Named {
        name,
        inode,
        path: None,
        looks,
    })
}

fn lone_socket() -> impl Strategy<Value = UnixSocket> {
    let rest = (settings(), vec(blob(), 0..3), of(any::<(u32, u32)>()), any::<bool>(), of(named()), of(named()));
    (any::<u64>(), select(vec![1, 2, 5]), any::<u32>(), select(vec![None, Some(0)]), 0..4u8, rest).prop_map(
        |(socket, socket_type, flags, peer, shutdown, (settings, waiting, maker, reset, named, to))| UnixSocket {
            socket,
            socket_type,
            flags,
            peer,
            shutdown,
            settings,
            waiting: if peer.is_some() || socket_type == 2 && named.is_some() { waiting } else { Vec::new() },
            maker,
            reset,
            backlog: (socket_type != 2 && peer.is_none() && named.is_some()).then_some(7),
            named,
            to: to.filter(|_| socket_type == 2 && peer.is_none()),
            pending: Vec::new(),
            mode: maker.map(|maker| maker.0 & 0o7777),
            ancillary: Vec::new(),
        },
    )
}

fn backing() -> impl Strategy<Value = Backing> {
    prop_oneof![
        Just(Backing::Anonymous),
        (1..=FILES, 0..9u64).prop_map(|(file, n)| Backing::File { file, offset: n * PAGE }),
        (1..3u64, 0..9u64).prop_map(|(object, n)| Backing::Shared { object, offset: n * PAGE }),
    ]
}

fn area() -> impl Strategy<Value = Area> {
    let flags = subsequence(vec!["gd", "lo", "lf", "nr", "hg", "sr", "dc", "wf", "dd"], 0..4);
    let flags = flags.prop_map(|all| all.into_iter().map(str::to_owned).collect());
    (1..5u64, 0..8u8, any::<[bool; 2]>(), backing(), of(text()), flags).prop_map(
        |(pages, protection, [shared, may_write], backing, name, flags)| {
            let end = pages * PAGE;
            Area { start: 0, end, protection, shared, may_write, backing, name, flags, page: 0 }
        },
    )
}

/// The areas, one behind the other, with gaps.
fn areas() -> impl Strategy<Value = Vec<Area>> {
    vec((area(), 0..3u64), 1..6).prop_map(|all| {
        let mut next = 0x40_0000;
        let mut placed = Vec::new();
        for (mut area, gap) in all {
            (area.start, area.end) = (next + gap * PAGE, next + gap * PAGE + area.end);
            next = area.end;
            placed.push(area);
        }
        placed
    })
}

fn space() -> impl Strategy<Value = Space> {
    let saved = vec(any::<bool>(), 6);
    (areas(), saved, any::<[u64; 4]>(), vec(any::<(u64, u64)>(), 0..3), 1..=FILES, any::<bool>()).prop_map(
        |(areas, saved, marks, auxv, exe, lock_future)| {
            let with_page = areas.iter().zip(saved).filter(|(_, saved)| *saved);
            let pages = with_page.map(|(a, _)| Extent { at: a.start, len: PAGE, offset: a.start }).collect();
            let guards = areas.last().map(|a| (a.end - PAGE, a.end)).into_iter().collect();
            let bound = |a: &Area| Nodes { area: (a.start, a.end), mode: 1, nodes: Blob(vec![1; 128]) };
            let nodes = areas.iter().take(exe as usize % 3).map(bound).collect();
            let [code, data, brk, stack] = marks;
            let marks = Marks { code: (code, data), brk: (brk, stack), stack, auxv, ..Marks::default() };
            let vdso = KernelArea { name: "[vdso]".into(), start: 0x7000_0000, len: 2 * PAGE };
            Space {
                areas,
                pages,
                guards,
                marks,
                exe,
                kernel_areas: vec![vdso],
                vdso_sum: 7,
                lock_future,
                lock_on_fault: lock_future && exe % 2 == 1,
                nodes,
            }
        },
    )
}

fn timers(threads: Vec<u32>) -> impl Strategy<Value = PosixTimers> {
    let timer = (any::<[i32; 2]>(), any::<[u64; 3]>(), of(select(threads)));
    let timer = timer.prop_map(|([signal, notify], [value, left, period], thread)| PosixTimer {
        id: 0,
        clock: 1,
        signal,
        value,
        notify,
        thread,
        left,
        period,
        overrun: period.checked_rem(7),
    });
    btree_map(0..100i32, timer, 0..3).prop_map(|all| {
        let timers = all.into_iter().map(|(id, timer)| PosixTimer { id, ..timer });
        PosixTimers { timers: timers.collect() }
    })
}

fn action() -> impl Strategy<Value = KernelSigaction> {
    any::<[u64; 4]>().prop_map(|[handler, flags, restorer, mask]| KernelSigaction { handler, flags, restorer, mask })
}

fn itimer() -> impl Strategy<Value = Itimer> {
    (0..3u32, any::<[u64; 2]>()).prop_map(|(which, [left, period])| Itimer { which, left, period })
}

fn fs() -> impl Strategy<Value = Fs> {
    let parts = (text(), text(), any::<u32>(), removed());
    parts.prop_map(|(cwd, root, umask, removed)| Fs { cwd, root, umask, removed })
}

fn process_states(threads: Vec<u32>) -> impl Strategy<Value = Vec<ProcessState>> {
    let role = select(vec![Role::SessionLeader, Role::GroupLeader, Role::Member]);
    let session = (role, any::<[bool; 2]>()).prop_map(|(role, [terminal, foreground])| Session {
        role,
        terminal,
        foreground,
        pts: None,
    });
    let fs = fs();
    let handlers = btree_map(1..65i32, action(), 0..4).prop_map(|all| {
        let set = all.into_iter().map(|(signal, action)| Handler { signal, action });
        Handlers { set: set.collect() }
    });
    let attributes = (any::<u32>(), any::<[u64; 2]>(), any::<bool>(), -1000..=1000i32, of(any::<u32>())).prop_map(
        |(personality, [thp_disable, membarrier], subreaper, oom_score_adj, login)| Attributes {
            personality,
            thp_disable,
            subreaper,
            oom_score_adj,
            membarrier,
            login,
        },
    );
    let limits = vec(any::<(u64, u64)>(), 0..20).prop_map(|limits| Limits { limits });
    let itimers = vec(itimer(), 0..3).prop_map(|armed| Itimers { armed });
    let modes = (of(any::<u32>()), any::<[u64; 2]>()).prop_map(|(core_dump, [execution, merge])| Modes {
        core_dump,
        execution,
        merge,
    });
    let time = any::<[u64; 2]>().prop_map(|[monotonic, boottime]| Time { monotonic, boottime });
    let stops = vec(any::<u32>(), 0..3).prop_map(|heard| Stops { heard });
    let signalled = (any::<u32>(), (0..3u32, any::<u32>()), any::<u32>(), any::<u32>())
        .prop_map(|(number, owner, signal, status)| Signalled { number, owner, signal, status });
    let driven = vec(signalled, 0..3).prop_map(|all| SignalDriven { all });
    let more = (time, stops, driven);
    let all = (session, space(), fs, handlers, itimers, timers(threads), attributes, limits, modes, more);
    all.prop_map(|(session, space, fs, handlers, itimers, timers, attributes, limits, modes, (time, stops, driven))| {
        vec![
            ProcessState::Session(session),
            ProcessState::Space(space),
            ProcessState::Fs(fs),
            ProcessState::Handlers(handlers),
            ProcessState::Itimers(itimers),
            ProcessState::PosixTimers(timers),
            ProcessState::Attributes(attributes),
            ProcessState::Limits(limits),
            ProcessState::Modes(modes),
            ProcessState::Time(time),
            ProcessState::Stops(stops),
            ProcessState::SignalDriven(driven),
        ]
    })
}

fn regs() -> impl Strategy<Value = Regs> {
    let size = UserRegs::SIZE;
    let words = vec(any::<u8>(), size).prop_map(|bytes| UserRegs::from_bytes(&bytes).expect("they are as many"));
    let left = any::<u64>();
    let waiting = prop_oneof![
        any::<[u64; 3]>().prop_map(|[left, clock, rest]| Waiting::Sleep { left, clock, rest }),
        of(left).prop_map(|left| Waiting::Poll { left }),
        left.prop_map(|left| Waiting::Futex { left }),
        Just(Waiting::FutexUntil),
    ];
    (words, vec(any::<u8>(), 0..600), any::<u64>(), of(waiting)).prop_map(|(general, extended, mask, waiting)| Regs {
        general,
        extended: Blob(extended),
        mask,
        waiting,
    })
}

fn signal() -> impl Strategy<Value = Signal> {
    let info = || vec(any::<u8>(), 128).prop_map(|b| Siginfo(b.try_into().expect("128 bytes")));
    let stack = any::<(u64, u32, u64)>().prop_map(|(sp, flags, size)| StackT { sp, flags, size });
    (of(stack), vec(info(), 0..3), vec(info(), 0..3), of(any::<i32>()))
        .prop_map(|(stack, pending, process_pending, stopped)| Signal { stack, pending, process_pending, stopped })
}

fn creds() -> impl Strategy<Value = Creds> {
    let ids = prop_oneof![Just([1000; 4]), any::<[u32; 4]>()];
    (ids, any::<[u32; 4]>(), vec(any::<u32>(), 0..3), any::<[u64; 5]>(), any::<u64>(), any::<bool>()).prop_map(
        |(uid, gid, groups, capabilities, securebits, no_new_privs)| Creds {
            uid,
            gid,
            groups,
            capabilities,
            securebits,
            no_new_privs,
        },
    )
}

fn sched() -> impl Strategy<Value = Sched> {
    let numbers = (any::<[u32; 3]>(), any::<u64>(), any::<i32>(), any::<(u64, u64, u64)>());
    let memory = of((any::<u32>(), blob()));
    (numbers, blob(), memory).prop_map(|(([policy, priority, io], flags, nice, deadline), processors, memory)| Sched {
        policy,
        flags,
        nice,
        priority,
        deadline,
        processors,
        io,
        memory,
    })
}

fn thread(tid: u32) -> impl Strategy<Value = ThreadModel> {
    let futex = any::<[u64; 3]>().prop_map(|[head, len, clear_tid]| Futex { robust_list: (head, len), clear_tid });
    let rseq = of(any::<(u64, [u32; 3])>().prop_map(|(pointer, [size, signature, flags])| RseqConfiguration {
        pointer,
        size,
        signature,
        flags,
    }));
    let prctl = (text(), any::<i32>(), any::<[u64; 4]>(), any::<[u32; 2]>(), any::<[u64; 3]>()).prop_map(
        |(name, parent_death_signal, [dumpable, timer_slack, mce_kill, io_flusher], [tsc, domain], speculation)| {
            Prctl {
                name,
                parent_death_signal,
                dumpable,
                timer_slack,
                tsc,
                mce_kill,
                io_flusher,
                speculation,
                personality: Some(domain),
            }
        },
    );
    let filter = (vec(any::<[u8; 8]>(), 1..5), any::<bool>());
    let filter = filter.prop_map(|(program, log)| Filter { program: Blob(program.concat()), log });
    let seccomp = (0..2u64, vec(filter, 0..4));
    let seccomp =
        seccomp.prop_map(|(mode, filters)| Seccomp { mode: if filters.is_empty() { mode } else { 2 }, filters });
    let dispatch = of((0..u64::MAX >> 1, any::<u64>(), 1..u64::MAX)).prop_map(|on| Dispatch {
        on: on.map(|(selector, offset, len)| DispatchConfiguration { mode: 1, selector, offset, len }),
    });
    let all = ((of(fs()), sched()), futex, rseq, (seccomp, dispatch, creds()), prctl, signal(), regs());
    all.prop_map(move |((own, sched), futex, registered, (seccomp, dispatch, creds), prctl, signal, regs)| {
        ThreadModel {
            tid,
            states: vec![
                ThreadState::ThreadFs(ThreadFs { own }),
                ThreadState::Sched(sched),
                ThreadState::Futex(futex),
                ThreadState::Rseq(Rseq { registered }),
                ThreadState::Seccomp(seccomp),
                ThreadState::Dispatch(dispatch),
                ThreadState::Creds(creds),
                ThreadState::Prctl(prctl),
                ThreadState::Signal(signal),
                ThreadState::Regs(regs),
            ],
        }
    })
}

fn process(threads: Vec<u32>, descriptions: Vec<u32>) -> impl Strategy<Value = ProcessModel> {
    let numbers = btree_set(0..300u32, 0..6);
    let leads = (numbers, vec((select(descriptions), any::<bool>()), 6));
    let fds = leads.prop_map(|(numbers, to)| {
        let fd = |(number, (description, close_on_exec))| Fd { number, description, close_on_exec };
        numbers.into_iter().zip(to).map(fd).collect::<Vec<_>>()
    });
    let each: Vec<_> = threads.iter().map(|tid| thread(*tid)).collect();
    (text(), fds, process_states(threads.clone()), each).prop_map(move |(name, fds, states, of)| ProcessModel {
        process: Process { pid: threads[0], name, threads: threads.clone(), fds, ..Process::default() },
        states,
        threads: of,
    })
}

/// Where there are queues, there is a namespace of theirs.
fn namespace(descriptions: &BTreeMap<u32, Description>) -> Vec<TreeState> {
    let queues = descriptions.values().any(|d| matches!(d, Description::Mqueue(_)));
    let (boot, namespace) = ("a boot".into(), "ipc:[1]".into());
    let ipc = TreeState::IpcNamespace(IpcNamespace { boot, namespace, own: false, limits: Vec::new() });
    Vec::from_iter(queues.then_some(ipc))
}

/// A tree of one or two processes.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    let files = vec(file(), FILES as usize);
    let ids = btree_set(1..4_000_000u32, 2..5).prop_map(|ids| ids.into_iter().collect::<Vec<_>>());
    let descriptions = btree_map(1..40u32, description(), 1..6);
    (files, ids, descriptions, 0..2usize).prop_flat_map(|(files, ids, descriptions, more)| {
        let known: Vec<u32> = descriptions.keys().copied().collect();
        let (first, second) = ids.split_at(1);
        let groups = if more == 0 { vec![ids.clone()] } else { vec![first.to_vec(), second.to_vec()] };
        let processes: Vec<_> = groups.into_iter().map(|threads| process(threads, known.clone())).collect();
        let files: BTreeMap<u32, File> = (1..).zip(files).collect();
        let root = ids[0];
        let children = move |mut all: Vec<ProcessModel>| {
            all.iter_mut().skip(1).for_each(|p| p.process.parent = root);
            all
        };
        processes.prop_map(children).prop_map(move |processes| Model {
            processes,
            descriptions: descriptions.clone(),
            files: files.clone(),
            tree: namespace(&descriptions),
            notes: vec![Note { pid: ids[0], what: "cwd".into(), why: "it is gone".into(), first: None }],
            typed: None,
        })
    })
}
