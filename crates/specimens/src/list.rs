//! The one list of specimens: a name, and what sets it up.

use crate::life::Living;
use crate::{
    aio, args, attrs, calls, clones, creds, crowds, dispatch, family, files, filters, flights, groups, huge, ids, inet,
    inherited, inotifies, ipc, keyrings, lineages, locks, mem, memfds, neighbours, nets, outside, pidfds, pipes,
    procfiles, ptys, queues, refused, regs, rings, rseq, signalfds, signalling, signals, sockets, stops, tcp, terminal,
    threads, timerfds, timers, urings, vdso, worlds,
};

/// One specimen.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) start: fn(&[String]) -> Result<Living, String>,
}

macro_rules! kinds {
    ($($name:literal $start:path;)*) => { &[$(Kind { name: $name, start: $start }),*] };
}

pub(crate) const KINDS: &[Kind] = kinds! {
    "registers" regs::start; "storm" regs::storm; "rseq" rseq::start; "vdso" vdso::start; "vdso-absent" vdso::absent; "vdso-left" vdso::left; "ids" ids::start;
    "sleep" calls::sleep; "clock-sleep" calls::clock_sleep; "absolute-sleep" calls::absolute_sleep; "poll" calls::poll;
    "ppoll" calls::ppoll; "select" calls::select; "futex" calls::futex; "sigtimedwait" calls::sigtimedwait; "epoll" calls::epoll;
    "pause" calls::pause; "sigsuspend" calls::sigsuspend;
    "mem-anonymous" mem::anonymous; "mem-private-file" mem::private_file; "mem-shared-file" mem::shared_file; "mem-own-files" mem::own_files;
    "mem-deleted-file" mem::deleted_file; "mem-stack" mem::stack; "mem-heap" mem::heap; "mem-guard" mem::guard;
    "mem-advice" mem::advice; "mem-mlock" mem::mlock; "mem-mlock-future" mem::mlock_future; "mem-mlock-fault" mem::mlock_on_fault; "mem-grows-down" mem::grows_down;
    "mem-named" mem::named; "mem-light-guard" mem::light_guard; "mem-light-guards" mem::light_guards; "mem-shown-in-part" mem::shown_in_part; "mem-sparse" mem::sparse; "mem-overcommitted" mem::overcommitted; "mem-nodes" mem::nodes;
    "mem-shared-anonymous" mem::shared_anonymous; "mem-shared-parts" mem::shared_parts; "mem-read-only-file" mem::read_only_file; "mem-code" mem::code; "mem-executed" mem::executed; "mem-sealed" mem::sealed;
    "mem-many" mem::many; "mem-large" mem::large; "huge-areas" huge::areas; "huge-family" huge::family; "huge-file" huge::file; "mem-layout" mem::layout;
    "signal-handlers" signals::handlers; "signal-alternate-stack" signals::alternate_stack; "signal-mask" signals::mask;
    "signal-ignored" signals::ignored; "signal-pending" signals::pending; "signal-pending-thread" signals::pending_thread; "signal-pending-untold" signals::pending_untold;
    "signal-stopped" signals::stopped;
    "itimers" timers::intervals; "alarm" timers::alarm; "alarm-rings" timers::ring; "timers-ring" timers::ring_in_turn; "posix-timers" timers::posix; "timers-processor" timers::of_processor; "timer-waits" timers::waits; "timer-overran" timers::overran; "timer-waits-processor" timers::waits_for_processor;
    "timerfd" timerfds::modes; "timerfd-alarms" timerfds::alarms; "timerfd-crowd" timerfds::crowd; "timerfd-ticks" timerfds::ticking; "timerfd-rings" timerfds::rings;
    "locks" locks::kinds; "lock-waits" locks::waits; "leases" locks::leases;
    "signalfd" signalfds::modes; "signalfd-watched" signalfds::watched; "signalfd-child" signalfds::child;
    "socket-stream" sockets::stream; "socket-messages" sockets::messages; "socket-halves" sockets::halves;
    "socket-options" sockets::options; "socket-loaded" sockets::loaded; "socket-written" neighbours::written; "socket-gone" neighbours::gone; "socket-flights" flights::rights; "socket-senders" flights::credentials; "socket-flights-inet" flights::sockets; "socket-flights-ns" flights::namespace; "socket-named" sockets::named;
    "socket-addressed" sockets::addressed; "socket-waiting" sockets::waiting; "socket-unheard" sockets::unheard; "socket-hasty" sockets::hasty;
    "socket-full" neighbours::full; "socket-empty" neighbours::empty; "socket-owners" neighbours::named; "socket-many" neighbours::many;
    "inet" inet::addresses; "inet-lite" inet::lite; "inet-reset" inet::reset; "inet-ended" inet::ended; "inet-connected" inet::connected;
    "socket-filters" nets::filters; "socket-ebpf" nets::filter_ebpf;
    "netlink" nets::netlink_sockets; "netlink-asked" nets::netlink_asked;
    "inet-raw" nets::raw; "inet-options" nets::ip_options; "inet-shut" nets::shut_messages; "inet-begun" nets::begun; "inet-waiting" nets::messages_wait; "inet-groups" nets::groups;
    "packets" nets::packets; "packet-rings" rings::unused; "packet-ring" rings::used;
    "tcp" tcp::within; "tcp-much" tcp::much; "tcp-shared" tcp::shared; "tcp-unread" tcp::unread; "tcp-urgent" tcp::urgent; "tcp-orphan" tcp::orphan;
    "signalling" signalling::kinds; "signalling-ends" signalling::ends; "signalling-directory" signalling::directory;
    "inotify" inotifies::watches; "inotify-unopened" inotifies::unopened; "inotify-unread" inotifies::unread; "inotify-deep" inotifies::deep; "inotify-link" inotifies::link; "inotify-process" inotifies::of_process; "inotify-removed" inotifies::removed; "inotify-lost" inotifies::lost;
    "fanotify" inotifies::fanotify; "fanotify-wide" inotifies::fanotify_wide; "fanotify-deciding" inotifies::fanotify_deciding;
    "pidfd" pidfds::kinds; "pidfd-inherited" pidfds::inherited; "pidfd-gone" pidfds::gone; "pidfd-refused" pidfds::refused;
    "procfiles" procfiles::kinds; "procfiles-whole" procfiles::whole; "procfile-gone" procfiles::gone; "namespaces" procfiles::namespaces; "namespace-of-others" procfiles::namespace_of_others;
    "aio" aio::events; "aio-many" aio::many; "aio-waits" aio::waits; "aio-inherited" aio::inherited;
    "uring" urings::rings; "uring-files" urings::files; "uring-inherited" urings::inherited; "uring-refused" urings::refused;
    "cwd" attrs::cwd; "chroot" attrs::chroot; "cwd-deleted" attrs::deleted_cwd; "umask" attrs::umask; "comm" attrs::comm; "personality" attrs::personality;
    "limits" attrs::limits; "nice" attrs::nice; "sched-batch" attrs::batch; "sched-idle" attrs::idle; "sched-fifo" attrs::fifo;
    "affinity" attrs::affinity; "ioprio" attrs::ioprio; "oom-score-adj" attrs::oom; "dumpable" attrs::dumpable;
    "no-new-privs" attrs::no_new_privs; "timer-slack" attrs::timer_slack; "thp-disabled" attrs::huge_pages;
    "thp-advised" attrs::few_huge_pages; "core-dump-filter" attrs::core_dump_filter; "no-new-code" attrs::no_new_code;
    "merged-pages" attrs::merged_pages; "memory-nodes" attrs::memory_nodes; "login" attrs::login;
    "keep-caps" attrs::keep_caps; "secure-bits" attrs::secure_bits; "death-signal" attrs::death_signal; "subreaper" attrs::subreaper;
    "creds" creds::same_as_before; "creds-dropped" creds::dropped; "creds-other-user" creds::other_user;
    "creds-unbound" creds::unbound; "arguments" args::arguments; "executable" args::executable;
    "file-position" files::position; "file-far-position" files::far_position; "file-flags" files::flags; "file-append" files::append;
    "file-writes" files::writes; "file-deleted" files::deleted; "file-deleted-longer" files::deleted_longer; "file-deleted-large" files::deleted_large;
    "file-second-name" files::second_name; "file-name-elsewhere" files::name_elsewhere; "file-renamed" files::renamed; "file-shared-offset" files::shared_offset;
    "directory" files::directory; "devices" files::devices; "removed-link" files::removed_link; "removed-device" files::removed_device; "files-many" files::many;
    "memfd" memfds::kinds; "memfd-descriptions" memfds::descriptions; "memfd-areas" memfds::areas;
    "memfd-only-areas" memfds::only_areas; "memfd-of-memory" memfds::of_memory; "memfd-huge" memfds::huge;
    "pipe-bytes" pipes::bytes; "pipe-empty" pipes::empty; "pipe-full" pipes::full; "pipe-packets" pipes::packets;
    "pipe-ends" pipes::ends; "pipe-no-writer" pipes::no_writer; "pipe-no-reader" pipes::no_reader; "fifo" pipes::named; "fifo-ends" pipes::named_ends; "fifo-unread" pipes::named_unread; "fifo-unread-heard" pipes::named_unread_heard;
    "fifo-lone" pipes::named_lone; "fifo-twice" pipes::named_twice; "fifo-anew" pipes::named_anew;
    "eventfd" pipes::event_counts; "epoll-watches" pipes::watches; "epoll-moved" pipes::watches_moved; "epoll-many" pipes::watches_many; "epoll-used-up" pipes::watch_used_up;
    "pty" ptys::ends; "pty-halves" ptys::halves; "pty-session" ptys::session; "pty-waiting" ptys::waiting; "pty-refused" ptys::refused;
    "terminal-modes" terminal::termios; "terminal-foreground" terminal::foreground; "terminal-resized" terminal::resized;
    "terminal-nonblocking" terminal::nonblocking;
    "threads" threads::start; "thread-second" threads::second; "thread-apart" threads::apart; "thread-places" threads::places;
    "shm-shared" ipc::shared; "shm-removed" ipc::removed; "shm-pieces" ipc::pieces; "shm-overlaid" ipc::overlaid; "shm-apart" ipc::apart; "shm-huge" ipc::huge;
    "sem-values" ipc::semaphores; "sem-cut" ipc::semaphores_cut; "sem-waits" ipc::semaphore_waits; "msg-queues" ipc::messages;
    "posix-memory" ipc::posix_memory; "posix-semaphore" ipc::posix_semaphore; "ipc-namespace" ipc::namespace;
    "mq-named" queues::named; "mq-nameless" queues::nameless; "mq-waits" queues::waits; "mq-notices" queues::notices;
    "mq-refused" queues::notice_refused; "mq-long" queues::large;
    "family" family::generations; "family-apart" family::apart; "family-waits" family::waiting; "family-lasting" family::lasting; "family-ends" family::ends; "zombies" family::zombies;
    "zombies-any" family::zombies_any; "zombie-told" family::zombie_told; "zombie-below" family::zombie_below;
    "family-unheard" family::nobody_waits;
    "stop-heard" stops::heard; "stop-told" stops::told; "stop-twice" stops::twice; "stop-below" stops::below;
    "stop-silent" stops::silent; "stop-odd" stops::odd; "stop-still" stops::still;
    "groups" groups::two; "group-left" groups::left; "group-leaderless" groups::leaderless; "group-dead-leader" groups::dead_leader;
    "sessions" groups::sessions; "session-dead-leader" groups::dead_session; "daemons" groups::daemons; "orphans" groups::orphans;
    "orphans-below" groups::orphans_below; "orphan-of-zombie" groups::orphan_of_zombie; "job" groups::job;
    "inherited-offset" inherited::offset; "inherited-pipes" inherited::pipes_between; "inherited-pipe-end" inherited::pipe_end;
    "inherited-events" inherited::events; "inherited-views" inherited::views; "inherited-futex" inherited::futexes;
    "inherited-semaphore" inherited::semaphores; "inherited-memfd" inherited::memfd;
    "inherited-deleted-file" inherited::deleted_file; "inherited-pages" inherited::pages;
    "file-published" files::published; "lease-mapped" locks::lease_mapped; "lock-by-area" locks::by_area; "inet-shut-behind" inet::shut;
    "inet-segments" inet::segments;
    "tcp-in-turn" tcp::in_turn; "tcp-begun" tcp::begun; "seqpacket-lone" sockets::lone; "pipe-packets-behind" pipes::packets_behind;
    "inherited-split" inherited::split; "inherited-at-random" lineages::memory;
    "clone-files" clones::files; "clone-fs" clones::fs; "clone-memory" clones::memory; "clone-handlers" clones::handlers;
    "clone-everything" clones::everything; "clone-siblings" clones::siblings; "clone-exit-signals" clones::exit_signals; "vfork-waits" clones::vforked;
    "family-leader-ended" clones::leader_ended; "leader-ended" clones::root_leader_ended; "clone-undo" clones::undo; "family-many" crowds::many; "family-mixed" crowds::mixed; "family-restless" crowds::restless;
    "family-busy" crowds::busy; "bomb" crowds::bomb;
    "seccomp-strict" filters::strict; "seccomp-hard" filters::hard; "seccomp-sleeper" filters::sleeper; "seccomp-synced" filters::synced;
    "seccomp-apart" filters::apart; "seccomp-one-thread" filters::one_thread; "seccomp-inherited" filters::inherited;
    "seccomp-dropped" filters::dropped; "dispatch" dispatch::threads; "dispatch-busy" dispatch::busy;
    "outside" outside::start; "keyring" keyrings::start;
    "worlds" worlds::start;
    "child" refused::child; "socket-pair" refused::socket_pair; "several" refused::several; "segments" refused::segments;
};

#[cfg(test)]
mod tests {
    use super::KINDS;

    #[test]
    fn each_has_a_name_of_its_own() {
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]));
    }
}
