//! Keyrings (keyrings(7)): of a thread, a process, a session. Nothing of them is kept, and who has keys there is told.
//!
//! A thawed program has the session keyring of whoever thaws it, and of the others none until it asks for one. So a session
//! keyring that only leads to the keyrings of its user, as a login makes it, is no loss.

use super::written;
use crate::{Capturing, Trouble};
use abi::{Answer, Arg, Call, Sys};

const GET_KEYRING_ID: u64 = 0;
const DESCRIBE: u64 = 6;
const READ: u64 = 11;
/// KEY_SPEC_THREAD_KEYRING, KEY_SPEC_PROCESS_KEYRING.
const OWN: [u64; 2] = [-1i32 as u32 as u64, -2i32 as u32 as u64];
/// The name of a session keyring to which nobody has given one (security/keys/process_keys.c, install_session_keyring_to_cred).
const SESSION: &[u8] = b"_ses";
/// How many keys are looked at, and how long a description may be.
const KEYS: usize = 64;
const DESCRIPTION: usize = 256;

/// Asks for the three. To ask for a session keyring by its number would give one to who has none (security/keys/process_keys.c,
/// lookup_user_key), and it might take that along when it becomes another user; a search finds what there is, by name.
pub(super) fn asks() -> Vec<Call> {
    let own = |spec: u64| Call::new(Sys::Keyctl, [GET_KEYRING_ID, spec, 0].map(Arg::Int));
    vec![own(OWN[0]), own(OWN[1]), search(SESSION)]
}

/// request_key(2) without information for somebody who would make the key: only what is possessed is found.
fn search(name: &[u8]) -> Call {
    let string = |bytes: &[u8]| Arg::Bytes([bytes, b"\0"].concat());
    Call::new(Sys::RequestKey, [string(b"keyring"), string(name), Arg::Int(0), Arg::Int(0)])
}

/// Tells of the keys in the keyrings that the thread has: once of each keyring.
pub(super) fn note(from: &mut Capturing<'_>) -> Result<(), Trouble> {
    let mut found = from.probe.calls(&asks())?;
    let further: Vec<Call> = names(from).iter().map(|name| search(name)).collect();
    if !further.is_empty() {
        found.extend(from.probe.calls(&further)?);
    }
    for (n, answer) in found.iter().enumerate() {
        let Ok(keyring) = answer.result else { continue };
        if from.files.keyrings.seen.insert(keyring) && holds_keys(keyring, from)? {
            let what = ["thread keyring", "process keyring"].get(n).unwrap_or(&"session keyring");
            let why = match n {
                0 | 1 => "the keys in it are not in the image",
                _ => "the keys in it are not in the image; thawed, it has the one of whoever thaws it",
            };
            from.note(*what, why);
        }
    }
    Ok(())
}

/// What session keyrings may be called besides, as far as whoever asks may see them.
fn names<'a>(from: &'a mut Capturing<'_>) -> &'a [Vec<u8>] {
    let probe = from.probe;
    from.files.keyrings.names.get_or_insert_with(|| named(probe.host_text("/proc/keys").unwrap_or_default().as_bytes()))
}

/// The keyrings with something in them that somebody gave a name to, as proc_keys(5) shows them: `…keyring   NAME: 1`.
fn named(text: &[u8]) -> Vec<Vec<u8>> {
    const SEEN: usize = 16;
    let name = |line: &[u8]| {
        // Nine columns before the description.
        let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty());
        let is_keyring = words.nth(7)? == b"keyring";
        let rest = words.collect::<Vec<_>>().join(&b' ');
        let end = rest.windows(2).rposition(|w| w == b": ").filter(|end| is_keyring && &rest[end + 2..] != b"empty")?;
        let given = !rest.starts_with(b"_") && !rest.starts_with(b".") || rest.starts_with(b"_ses.");
        given.then(|| rest[..end].to_vec())
    };
    let mut all: Vec<Vec<u8>> = text.split(|b| *b == b'\n').filter_map(name).collect();
    abi::sort(&mut all);
    all.dedup();
    all.truncate(SEEN);
    all
}

/// Whether there is something in it besides the keyrings of a user, which are there for all that the user has.
fn holds_keys(keyring: u64, from: &Capturing<'_>) -> Result<bool, Trouble> {
    let (id, len) = (Arg::Int(keyring), Arg::Int(4 * KEYS as u64));
    let read = Call::new(Sys::Keyctl, [Arg::Int(READ), id, Arg::Out(4 * KEYS), len]);
    let answer = &from.probe.calls(&[read])?[0];
    // Who may not read it cannot tell. More may be there than there was room for.
    let count = answer.result.unwrap_or(0) as usize / 4;
    let ids = written(answer).chunks_exact(4).take(count).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    let describe = |id: u32| {
        let args = [Arg::Int(DESCRIBE), Arg::Int(id.into()), Arg::Out(DESCRIPTION), Arg::Int(DESCRIPTION as u64)];
        Call::new(Sys::Keyctl, args)
    };
    let described = from.probe.calls(&ids.map(describe).collect::<Vec<_>>())?;
    Ok(count > KEYS || described.iter().any(|answer| !is_of_user(answer)))
}

/// `keyring;UID;GID;PERM;_uid.UID` (keyctl_describe(3)), or `_uid_ses.UID`.
fn is_of_user(answer: &Answer) -> bool {
    let mut parts = written(answer).splitn(5, |b| *b == b';');
    let of_user = |name: &[u8]| name.starts_with(b"_uid.") || name.starts_with(b"_uid_ses.");
    answer.result.is_ok() && parts.next() == Some(b"keyring") && parts.nth(3).is_some_and(of_user)
}
