//! What is known and not supported: the list ends here, with a reason for each.

use super::{S_IFBLK, S_IFCHR, S_IFSOCK, Seen};
use plan::Refusal;

/// What kind of description it is, as the list of the unsupported names it.
fn kind(seen: &Seen) -> &str {
    let link = std::str::from_utf8(&seen.link.0).unwrap_or_default();
    match seen.file_type() {
        S_IFSOCK => "socket",
        S_IFBLK => "block device",
        S_IFCHR
            if (136..144).contains(&abi::proc::major(seen.stat.rdev))
                || [4, 5].contains(&abi::proc::major(seen.stat.rdev)) =>
        {
            "terminal"
        }
        S_IFCHR => "character device",
        _ => link,
    }
}

/// The refusal of a description that no resource knows.
pub(crate) fn refuse(seen: &Seen) -> Refusal {
    let kind = kind(seen);
    let why = crate::UNSUPPORTED.iter().find(|(name, _)| *name == kind).map(|(_, why)| *why);
    seen.refuse(why.unwrap_or("this kind of descriptor is not known"), "freeze it while the program has none open")
}
