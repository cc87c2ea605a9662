//! Keyrings: keys that are not kept are told, and what every login has is not.

use crate::common::*;
use abi::Sys;
use resources::task::creds::Creds;
use resources::{Capture, Capturing, Files, Keep};

const SPEC_THREAD: u64 = 0xffff_ffff;

/// What is told of a program whose session keyring leads to a key of this kind.
fn told(sample: &Recorded) -> Vec<String> {
    let (mut files, mut notes) = (Files::default(), Vec::new());
    let mut capture = || {
        let (keep, files) = (Keep::default(), &mut files);
        Creds::capture(&mut Capturing { probe: sample, files, keep, notes: &mut notes }).expect("that is no reason")
    };
    // Two threads: one note.
    capture();
    capture();
    notes.into_iter().map(|note| note.what).collect()
}

/// A program with a keyring in which that is.
fn with(sys: Sys, numbers: &[u64], key: &str) -> Recorded {
    let mut sample = Recorded::sample("sleep");
    sample.answer(sys, numbers, Ok(77), vec![]);
    sample.answer(Sys::Keyctl, &[11, 77], Ok(4), vec![78u32.to_ne_bytes().to_vec()]);
    sample.answer(Sys::Keyctl, &[6, 78], Ok(9), vec![key.as_bytes().to_vec()]);
    sample
}

#[test]
fn keys_are_told_once() {
    let none: [&str; 0] = [];
    assert_eq!(told(&Recorded::sample("sleep")), none);
    assert_eq!(told(&with(Sys::RequestKey, &[], "user;0;0;3f010000;secret")), ["session keyring"]);
    assert_eq!(told(&with(Sys::Keyctl, &[0, SPEC_THREAD], "user;0;0;3f010000;secret")), ["thread keyring"]);
    assert_eq!(told(&with(Sys::RequestKey, &[], "keyring;0;65534;1f3f0000;_uid.0")), none);
    assert_eq!(told(&with(Sys::RequestKey, &[], "keyring;0;0;3f3f0000;_uid")), ["session keyring"]);
}

#[test]
fn session_keyrings_with_other_names_are_looked_for() {
    let mut sample = Recorded::sample("sleep");
    let asked = |sample: &Recorded| {
        let name = b"my own\0".to_vec();
        sample.asked.borrow().iter().any(|call| call.args.contains(&abi::Arg::Bytes(name.clone())))
    };
    let line = |name: &str| format!("001b225c I------     1 perm 1f030000     0     0 keyring   {name}\n");
    sample.host_texts.insert("/proc/keys".into(), line("_uid.0: 3") + &line("my own: empty") + &line("_pid: 2"));
    assert!(told(&sample).is_empty() && !asked(&sample));
    sample.host_texts.insert("/proc/keys".into(), line("my own: 2"));
    assert!(told(&sample).is_empty() && asked(&sample));
}
