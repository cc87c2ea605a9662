//! What resources make of programs that were written down. One binary: each more would take as long to build as all of them.
//!
//! `cargo test -p resources --test all -- NAME` makes only the tests that have NAME in their names.

mod capture;
mod chardev;
mod common;
mod damage;
mod dispatch;
mod fifo;
mod huge;
mod inet;
mod inotify;
mod ipc;
mod keyrings;
mod lineage;
mod locks;
mod memfd;
mod mqueue;
mod netlink;
mod pidfd;
mod procfile;
mod pty;
mod random;
mod refusals;
mod ring;
mod seccomp;
mod signalfd;
mod signalling;
mod timerfd;
mod typed;
mod unix;
mod uring;
mod waiting;
mod whole;
