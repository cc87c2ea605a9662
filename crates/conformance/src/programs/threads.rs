//! Programs of many threads: runtimes with schedulers, timers and collectors of garbage of their own.

use super::{same, talk};
use crate::case::Flavour::WithLibs;
use crate::case::Program::Built;
use crate::case::Step::{Await, Exit, Expect, Type};
use crate::case::{Case, Step};

/// All of them.
pub(super) fn all() -> Vec<Case> {
    vec![
        talk(
            "node",
            &["env", "NODE_REPL_HISTORY=", "node"],
            &[Expect("> "), Type("let x = 41, f = async () => x + 1; 'rea' + 'dy'\n"), Expect("'ready'")],
            &[Type("f().then(n => console.log('answer ' + n))\n"), Expect("answer 42\r\n"), Type(".exit\n"), Exit(0)],
        ),
        same("node-workers", "", &["node", "workers.js"]).file("workers.js", include_str!("../../programs/workers.js")),
        // A JVM that has another one evaluate talks to it by TCP.
        talk(
            "jshell",
            &["jshell", "--execution", "local", "--feedback", "concise"],
            &[
                Await("jshell> "),
                Type("int x = 41; int f() { return x + 1; }\n"),
                Type("\"rea\" + \"dy\"\n"),
                Expect("\"ready\""),
            ],
            &[Type("\"answer \" + f()\n"), Expect("\"answer 42\""), Type("/exit 7\n"), Exit(7)],
        )
        // What it is linked with is found beside it.
        .but(&[WithLibs]),
        same("java", "javac Pools.java", &["java", "-Xmx100m", "Pools"])
            .file("Pools.java", include_str!("../../programs/Pools.java")),
        same("python3-threads", "", &["/usr/bin/python3", "threads.py"])
            .file("threads.py", include_str!("../../programs/threads.py")),
        sums("go", "goroutines"),
        sums("tokio", "tasks"),
    ]
}

/// A program whose threads hand each number that is typed from one to the next, while timers of theirs go off, before it is added.
fn sums(name: &str, program: &'static str) -> Case {
    let sum = |typed: &'static str, sum: &'static str| -> [Step; 2] { [Type(typed), Expect(sum)] };
    let after = [&sum("20\n", "sum 40\r\n")[..], &sum("2\n", "sum 42\r\n"), &[Type("\x04"), Exit(5)]].concat();
    Case { delay: 0..300, ..Case::real(name, Built(program), sum("20\n", "sum 20\r\n").to_vec(), after) }
}
