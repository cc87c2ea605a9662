//! Programs of one process on a terminal: what was typed before, and what they answer then.

use super::talk;
use crate::case::Case;
use crate::case::Flavour::{Again, PidNs, Root, Snapshot, User};
use crate::case::Program::Built;
use crate::case::Step::{Exit, Expect, File, Screen, Type};

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [shells(), typed(), interpreters(), calculators(), editors()].concat()
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
