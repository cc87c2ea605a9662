//! The real programs: what is typed before the freeze, and what the thawed program must answer.
//!
//! No answer that is waited for is a part of what was typed, because the terminal echoes that.

use crate::case::Flavour::{Again, PidNs, Root, Snapshot, User};
use crate::case::Program::{Built, System};
use crate::case::Step::{Exit, Expect, File, Screen, Type};
use crate::case::{Case, Step};

/// Every case over real programs.
#[must_use]
pub fn all() -> Vec<Case> {
    [shells(), typed(), interpreters(), calculators(), editors(), servers(), told()].concat()
}

fn talk(name: &str, words: &[&'static str], before: &[Step], after: &[Step]) -> Case {
    Case::real(name, System(words.to_vec()), before.to_vec(), after.to_vec())
}

fn shells() -> Vec<Case> {
    let bash = ["bash", "--norc", "-i"];
    vec![
        talk(
            "bash",
            &bash,
            &[
                Type("x=41; f() { echo \"answer $((x+1))\"; }; trap 'echo b''ye' EXIT; echo re''ady\n"),
                Expect("ready\r\n"),
            ],
            &[Type("f\n"), Expect("answer 42\r\n"), Type("exit 7\n"), Expect("bye\r\n"), Exit(7)],
        ),
        // Half a line typed into the line editor, which keeps it in its own memory.
        talk(
            "bash-half-line",
            &bash,
            &[Type("echo re''ady\n"), Expect("ready\r\n"), Type("echo half''"), Expect("half''")],
            &[Type(" way\n"), Expect("half way\r\n"), Type("exit\n"), Exit(0)],
        ),
        talk(
            "bash-read",
            &["bash", "-c", "echo re''ady; read a; echo \"<$a>\"; read b; echo \"<$a$b>\"; exit 4"],
            &[Expect("ready\r\n"), Type("one\n"), Expect("<one>")],
            &[Type("two\n"), Expect("<onetwo>"), Exit(4)],
        ),
        // Its jobs are stopped, and it says so once: neither does it say so again, nor comes a trap for SIGCHLD.
        talk(
            "bash-jobs",
            &bash,
            &[
                Type("bind 'set enable-bracketed-paste off'; PS1='p''> '; n=0; trap 'n=$((n+1))' CHLD\n"),
                Expect("p> "),
                // Stopped while it is a copy of bash still, it would have a handler for SIGHUP in which that may be lost.
                Type("sleep 1000 & until read c </proc/$!/comm; [ $c = sleep ]; do :; done; kill -STOP $!; wait\n"),
                Expect("[1]+  Stopped"),
                Expect("p> "),
                Type("sh -c \"echo u''p; exec cat\"\n"),
                Expect("up\r\n"),
                Type("\x1a"),
                Expect("Stopped"),
                Expect("p> "),
                Type("m=$n; echo rea''dy\n"),
                Expect("ready\r\np> "),
            ],
            &[
                Type("echo do''ne\n"),
                Expect("done\r\np> "),
                Type("echo $((n-m)) m''ore\n"),
                Expect("0 more\r\np> "),
                Type("jobs\n"),
                Expect("[1]-  Stopped"),
                Expect("[2]+  Stopped"),
                Expect("p> "),
                Type("fg\n"),
                Expect("exec cat\"\r\n"),
                Type("hel''lo\n"),
                // What was typed, and what it was told.
                Expect("hel''lo\r\nhel''lo\r\n"),
                Type("\x04"),
                Expect("p> "),
                Type("kill -9 %1; until wait %1; [ $? = 137 ]; do :; done; exit 7\n"),
                Exit(7),
            ],
        ),
        talk(
            "dash",
            &["dash", "-i"],
            &[Type("x=41; echo re''ady\n"), Expect("ready\r\n")],
            &[Type("echo answer $((x+1))\n"), Expect("answer 42\r\n"), Type("exit 3\n"), Exit(3)],
        ),
    ]
}

/// What was typed and not read yet. A snapshot leaves it where it is.
fn typed() -> Vec<Case> {
    let all = vec![
        talk(
            "cat-half-line",
            &["cat"],
            &[Type("whole\n"), Expect("whole\r\nwhole\r\n"), Type("hal"), Expect("hal")],
            &[Expect("hal"), Type("f\n"), Expect("\nhalf\r\n"), Type("\x04"), Exit(0)],
        ),
        talk(
            "dash-half-line",
            &["dash", "-i"],
            &[Type("echo re''ady\n"), Expect("ready\r\n"), Type("echo ha''X"), Expect("ha''X")],
            &[Expect("ha''X"), Type("\x7flf\n"), Expect("\nhalf\r\n"), Type("exit 3\n"), Exit(3)],
        ),
        talk(
            "typed-ahead",
            &["/usr/bin/python3", "-c", READS],
            &[Expect("ready\r\n"), Type("one\n\ntwo\x16\x03\nno newline\x04\x04ha"), Expect("newlineha")],
            &[
                Expect("newlineha"),
                Type("lf\n"),
                Expect("[b'one\\n', b'\\n', b'two\\x03\\n', b'no newline', b'', b'half\\n']"),
                Exit(0),
            ],
        ),
        talk(
            "typed-ahead-raw",
            &["/usr/bin/python3", "-c", READS_RAW],
            &[Expect("ready\r\n"), Type("a\r\n\x03\x04\x16\x7f"), Expect("seven\r\n")],
            &[Type("b"), Expect("b'a\\r\\n\\x03\\x04\\x16\\x7f' b'b'"), Exit(0)],
        ),
    ];
    all.into_iter().map(|case| case.only(&[Root, User, Again])).collect()
}

const READS: &str = "import os, time
print('rea' + 'dy')
time.sleep(3)
print([os.read(0, 99) for _ in range(6)])";

/// It waits until all keys are there, without reading them.
const READS_RAW: &str = "import os, time, tty, array, fcntl, termios
tty.setraw(0)
print('rea' + 'dy', end='\\r\\n', flush=True)
waiting = array.array('i', [0])
while waiting[0] < 7:
    fcntl.ioctl(0, termios.FIONREAD, waiting)
print('se' + 'ven', end='\\r\\n', flush=True)
time.sleep(2)
while waiting[0] < 8:
    fcntl.ioctl(0, termios.FIONREAD, waiting)
print(os.read(0, 7), os.read(0, 1), end='\\r\\n', flush=True)";

fn interpreters() -> Vec<Case> {
    let sqlite =
        [Type("create table t(x); insert into t values(20),(22); select 'rows', count(*) from t;\n"), Expect("rows|2")];
    let total = [Type("select 'total', sum(x) from t;\n"), Expect("total|42"), Type(".quit\n"), Exit(0)];
    vec![
        talk(
            "python3",
            &["/usr/bin/python3", "-q"],
            &[
                Type("x = [i*i for i in range(1000)]; f = open('note', 'w'); print('rea' + 'dy')\n"),
                Expect("ready\r\n"),
            ],
            &[
                Type("sum(x)\n"),
                Expect("332833500"),
                Type("f.write('do' + 'ne'); f.close()\n"),
                Expect("4\r\n"),
                Type("exit(9)\n"),
                Exit(9),
                File("note", "done"),
            ],
        )
        // Both copies would write to the one file.
        .but(&[Snapshot, PidNs]),
        talk(
            "python3-computes",
            &["/usr/bin/python3", "-c", COMPUTES],
            &[Expect("ready\r\n")],
            &[Expect("sum 99999990000000"), Exit(0)],
        )
        // The original would be done before the copy.
        .but(&[Again, PidNs]),
        talk(
            "perl",
            &["perl", "-de0"],
            &[Type("$x = 6; @l = map { $_ * 2 } 1..1000; print 'rea' . 'dy'\n"), Expect("ready")],
            &[Type("print $x * 7, ' ', scalar @l\n"), Expect("42 1000"), Type("q\n"), Exit(0)],
        ),
        talk("sqlite3", &["sqlite3"], &sqlite, &total),
        talk("sqlite3-file", &["sqlite3", "base.db"], &sqlite, &total),
        // While the original lives, it has the lock.
        talk(
            "sqlite3-transaction",
            &["sqlite3", "base.db"],
            &[
                Type("create table t(x); begin; insert into t values(20); select 'r' || 'ows', count(*) from t;\n"),
                Expect("rows|1"),
            ],
            &[
                Type("insert into t values(22); commit; select 'to' || 'tal', sum(x) from t;\n"),
                Expect("total|42"),
                Type(".quit\n"),
                Exit(0),
            ],
        )
        .but(&[PidNs]),
        talk(
            "gdb",
            &["gdb", "-q", "-nx"],
            &[Expect("(gdb)"), Type("set $x = 41\n"), Expect("(gdb)"), Type("print 5*5\n"), Expect("$1 = 25")],
            &[Type("print $x + 1\n"), Expect("$2 = 42"), Type("quit\n"), Exit(0)],
        ),
        talk(
            "gdb-one-thread",
            &["gdb", "-q", "-nx", "-iex", "maint set worker-threads 0"],
            &[Expect("(gdb)"), Type("set $x = 41\n"), Expect("(gdb)"), Type("print 5*5\n"), Expect("$1 = 25")],
            &[Type("print $x + 1\n"), Expect("$2 = 42"), Type("quit\n"), Exit(0)],
        ),
    ]
}

const COMPUTES: &str = "print('rea' + 'dy', flush=True)
s = 0
for i in range(0, 20000000, 2):
    s += i
print('sum', s)";

fn calculators() -> Vec<Case> {
    let counts = [Type("20\n"), Expect("sum 20\r\n")];
    let goes_on = |code| [Type("22\n"), Expect("sum 42\r\n"), Type("\x04"), Exit(code)];
    let sums = "{ s += $1; print \"sum\", s; fflush() }";
    vec![
        talk(
            "bc",
            &["bc", "-q"],
            &[Type("x=2^100\n"), Type("x-x+77*3\n"), Expect("231")],
            &[Type("x+1\n"), Expect("1267650600228229401496703205377"), Type("quit\n"), Exit(0)],
        ),
        talk("mawk", &["mawk", "-W", "interactive", sums], &counts, &goes_on(0)),
        talk("gawk", &["gawk", sums], &counts, &goes_on(0)),
        Case::real("static-glibc", Built("counter-glibc"), counts.to_vec(), goes_on(5).to_vec()),
        Case::real("static-musl", Built("counter-musl"), counts.to_vec(), goes_on(5).to_vec()),
    ]
}

/// A server and its clients, which do not rest. While the original lives it has the addresses, and for a minute after it has ended.
fn servers() -> Vec<Case> {
    let goes_on = [Expect("bench 0\r\n"), Exit(5)];
    vec![
        talk("redis", &["bash", "-c", REDIS], &[Expect("ready\r\n")], &[&[Type("\n")], &goes_on[..]].concat())
            .but(&[Snapshot, PidNs]),
        // It does not run as root, and only for a user who has a name. What it would leave of System V IPC goes with its namespace:
        // a later program may get the id of who used that last.
        talk("postgres", &["unshare", "--ipc", "bash", "-c", POSTGRES], &[Expect("ready\r\n")], &goes_on).only(&[Root]),
        // It serves only users who have a name.
        bus().but(&[PidNs, User]),
        uring(),
    ]
}

/// A bus of its own, a service on it, and a program that calls it all the time and looks at each answer.
fn bus() -> Case {
    let goes_on = [Type("\n"), Expect("calls 0\r\n"), Exit(5)];
    Case { delay: 0..300, ..talk("dbus", &["bash", "-c", DBUS], &[Expect("ready\r\n")], &goes_on) }
}

/// A program in C that reads a file by rings of io_uring, all the time, and looks at each byte: what it needs of the library is in
/// the ring, in registered buffers, and in numbers that it keeps itself.
fn uring() -> Case {
    let goes_on = [Type("\n"), Expect("reads 0\r\n"), Exit(5)];
    Case { delay: 0..300, ..talk("liburing", &["bash", "-c", URING], &[Expect("ready\r\n")], &goes_on) }
}

/// Programs that are told of things, or tell them to somebody outside of the tree.
fn told() -> Vec<Case> {
    vec![
        talk(
            "inotifywait",
            &["bash", "-c", INOTIFYWAIT],
            &[Expect("ready\r\n")],
            &[Type("\n"), Expect("told 0\r\n"), Exit(5)],
        ),
        // The one to whom they send messages takes its name anew when the frozen program has ended, as after a restart. The harness
        // would take it for the program when that is frozen again.
        talk("syslog", &["bash", "-c", SYSLOG], &[Expect("ready\r\n")], &[Type("\n"), Expect("heard 0\r\n"), Exit(5)])
            .but(&[Again]),
    ]
}

const URING: &str = r#"cat >reads.c <<'END'
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
enum { ENTRIES = 16, PAGE = 4096 };
static char bytes[ENTRIES][PAGE], other[PAGE];
int main(void)
{
    struct io_uring ring;
    struct iovec all = { bytes, sizeof bytes };
    int file = open("file", O_RDONLY);
    if (file < 0 || io_uring_queue_init(ENTRIES, &ring, 0) || io_uring_register_buffers(&ring, &all, 1)) return 2;
    for (unsigned long round = 0;; round++) {
        unsigned long seen = 0, first = round * 7 % 200;
        for (unsigned n = 0; n < ENTRIES; n++) {
            struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
            if (!entry) return 3;
            if (n % 2) io_uring_prep_read(entry, file, bytes[n], PAGE, (first + n) * PAGE);
            else io_uring_prep_read_fixed(entry, file, bytes[n], PAGE, (first + n) * PAGE, 0);
            io_uring_sqe_set_data64(entry, round * ENTRIES + n);
        }
        if (io_uring_submit_and_wait(&ring, ENTRIES) != ENTRIES) return 4;
        for (unsigned n = 0; n < ENTRIES; n++) {
            struct io_uring_cqe *done;
            int error;
            while ((error = io_uring_wait_cqe(&ring, &done)) == -EINTR);
            if (error || done->res != PAGE || done->user_data / ENTRIES != round) return 5;
            seen |= 1ul << done->user_data % ENTRIES;
            io_uring_cqe_seen(&ring, done);
        }
        if (seen + 1 != 1ul << ENTRIES) return 6;
        for (unsigned n = 0; n < ENTRIES; n++)
            if (pread(file, other, PAGE, (first + n) * PAGE) != PAGE || memcmp(other, bytes[n], PAGE)) return 7;
        if (round % 100 == 0) printf("%lu\n", round), fflush(stdout);
        usleep(100);
    }
}
END
cc -O1 -o reads reads.c -luring && head -c 1000000 /dev/urandom >file || exit 1
./reads >rounds & r=$!
until [ -s rounds ]; do sleep 0.1; done
echo rea''dy
read
n=$(wc -l <rounds)
until (($(wc -l <rounds) > n)); do sleep 0.1; kill -0 $r || break; done
kill $r; wait $r; [ $? = 143 ]
echo reads $?
exit 5"#;

const REDIS: &str = "p=$((20000 + $$ % 10000))
serve() { redis-server --bind 127.0.0.1 --port $p --save '' >/dev/null & s=$!; }
serve
until timeout 1 redis-cli -p $p ping >/dev/null 2>&1; do kill -0 $s || { p=$((p + 1)); serve; }; sleep 0.1; done
redis-benchmark -p $p -c 20 -n 100000000 -t set -q >log 2>&1 & b=$!
until grep -q 'overall: [1-9]' log; do sleep 0.1; done
echo rea''dy
read
sleep 0.5
kill $b
wait $b
[ $? = 143 ] && ! grep -qi error log
echo bench $?
redis-cli -p $p shutdown nosave
wait
exit 5";

const POSTGRES: &str =
    "d=$PWD; pg=$(echo /usr/lib/postgresql/*/bin); as='setpriv --reuid=postgres --regid=postgres --clear-groups'
install -d -o postgres -g postgres data
$as $pg/initdb -D data -A trust --no-sync >init.log 2>&1
$as $pg/postgres -D data -k $d/data -c listen_addresses= -c fsync=off >log 2>&1 &
until $as $pg/pg_isready -h $d/data -q; do sleep 0.1; done
$as $pg/pgbench -h $d/data -i postgres >init.log 2>&1
$as $pg/pgbench -h $d/data -c 8 -T 4 -P 1 postgres >data/bench 2>&1 & b=$!
until grep -q tps data/bench; do sleep 0.1; done
echo rea''dy
wait $b
echo bench $?
kill -INT $(head -1 data/postmaster.pid)
wait
exit 5";

const DBUS: &str = r#"export DBUS_SESSION_BUS_ADDRESS=unix:path=$PWD/bus
setpriv --pdeathsig KILL dbus-daemon --session --nofork --nopidfile --nosyslog --address=$DBUS_SESSION_BUS_ADDRESS >log 2>&1 & d=$!
until dbus-send --dest=org.freedesktop.DBus / org.freedesktop.DBus.Peer.Ping 2>/dev/null; do sleep 0.1; done
cat >both.py <<'END'
import dbus, dbus.service, sys, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
class Adds(dbus.service.Object):
    @dbus.service.method('a.b', in_signature='xs', out_signature='xs')
    def add(self, number, text):
        return number + 1, text + '!'
def serve():
    name = dbus.service.BusName('a.b', bus, do_not_queue=True)
    adds = Adds(bus, '/')
    GLib.MainLoop().run()
def ask():
    adds = dbus.Interface(bus.get_object('a.b', '/'), 'a.b')
    n = 0
    while True:
        text = 'x' * (n % 5000)
        assert adds.add(n, text) == (n + 1, text + '!')
        n += 1
        if n % 100 == 0: print(n, flush=True)
globals()[sys.argv[1]]()
END
/usr/bin/python3 both.py serve & s=$!
until dbus-send --print-reply --dest=a.b / a.b.add int64:1 string:x >/dev/null 2>&1; do sleep 0.1; done
/usr/bin/python3 both.py ask >asked 2>&1 & a=$!
until [ -s asked ]; do sleep 0.1; done
echo rea''dy
read
n=$(wc -l <asked)
until (($(wc -l <asked) > n)); do sleep 0.1; kill -0 $a || break; done
kill $a; wait $a; [ $? = 143 ] && ! grep -v '^[0-9]*$' asked
echo calls $?
kill $s $d
wait
exit 5"#;

const INOTIFYWAIT: &str = r#"mkdir -p w/below; : >w/one
inotifywait -mrq -e modify,create --format '%w%f %e' w >events & i=$!
until grep -q ONE events; do mkdir w/ONE$((++n)); sleep 0.1; done
echo rea''dy
read
echo more >>w/one; : >w/below/two
until grep -q '^w/one MODIFY' events && grep -q '^w/below/two CREATE' events; do sleep 0.1; done
: >w/ONE1/three
until grep -q '^w/ONE1/three CREATE' events; do sleep 0.1; done
echo told $?
kill $i; wait
exit 5"#;

const SYSLOG: &str = r#"cat >daemon.py <<'END'
import os, select, socket, sys
def bound():
    new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.exists('log'): os.remove('log')
    new.bind('log')
    return new
log, ends = bound(), [os.pidfd_open(int(sys.argv[1]))]
while ready := select.select([log] + ends, [], [], 60)[0]:
    if ends == ready:
        log, ends = bound(), []
        continue
    text = log.recv(9999).decode()
    if 'quit' in text: break
    print(text, file=open('heard', 'a'))
END
(setsid /usr/bin/python3 daemon.py $$ </dev/null >/dev/null 2>errors &)
until [ -S log ]; do sleep 0.1; done
sends='import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("log")
for line in sys.stdin: s.send(line.encode())'
exec 3> >(logger -u "$PWD/log") 4> >(/usr/bin/python3 -c "$sends")
say() { echo "by logger: $1" >&3; echo "by send: $1" >&4; until [ "$(grep -c ": $1" heard 2>/dev/null)" = 2 ]; do sleep 0.1; done; }
say one
echo rea''dy
read
say two
echo heard $?
echo quit >&4
exec 3>&- 4>&-
wait
exit 5"#;

fn editors() -> Vec<Case> {
    let lines = || (1..=1000).map(|number| format!("line {number} of the text\n")).collect::<String>();
    let text = "first line\n";
    vec![
        talk(
            "vim",
            &["vim", "-u", "NONE", "-N", "text"],
            &[Screen("first line"), Type("Gosecond line"), Screen("second line")],
            &[
                Screen("second line"),
                Type(" goes on\x1b:wq\r"),
                Exit(0),
                File("text", "first line\nsecond line goes on\n"),
            ],
        )
        .file("text", text)
        // Two editors of one file.
        .but(&[PidNs]),
        talk(
            "nano",
            &["nano", "-I", "text"],
            &[Screen("first line"), Type("typed "), Screen("typed first line")],
            &[
                Screen("typed first line"),
                Type("more "),
                Screen("typed more first"),
                Type("\x0f\r"),
                Screen("Wrote 1 line"),
                Type("\x18"),
                Exit(0),
                File("text", "typed more first line\n"),
            ],
        )
        .file("text", text)
        .but(&[PidNs]),
        talk(
            "less",
            &["less", "text"],
            &[Screen("line 1 of"), Type("500g"), Screen("line 500 of")],
            &[Screen("line 500 of"), Type("900g"), Screen("line 900 of"), Type("q"), Exit(0)],
        )
        .file("text", lines()),
        // What it prints comes from a file that grows, of which inotify tells it.
        talk(
            "tail",
            &["bash", "-c", "tail -f text & while read w; do echo \"<$w>\" >>text; done; kill $!; wait; exit 6"],
            &[Screen("first line"), Type("one\n"), Expect("<one>\r\n")],
            &[Type("two\n"), Expect("<two>\r\n"), Type("\x04"), Exit(6)],
        )
        .file("text", text),
        // It has the signals of the terminal in a descriptor (util-linux 2.38).
        talk(
            "more",
            &["more", "text"],
            &[Screen("line 1 of"), Type(" "), Screen("line 40 of")],
            &[Type(" "), Screen("line 60 of"), Type("q"), Exit(0)],
        )
        .file("text", lines()),
    ]
}
