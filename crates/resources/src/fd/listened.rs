//! Of what the tree is told when it is opened or read (inotify(7), fanotify(7)): who freezes it does that, and is not to be felt.

use abi::layout::FileStat;
use abi::proc;
use std::collections::HashSet;

/// Device (major and minor number) and inode; without one, all of that device.
type Place = (u32, u32, Option<u64>);

/// All that is mounted somewhere.
const ANYWHERE: Place = (u32::MAX, u32::MAX, None);
/// IN_ACCESS, IN_CLOSE_NOWRITE and IN_OPEN; those of fanotify are the same. And its events that somebody allows first
/// (FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM): who opens the file waits for him.
const OPENED: u32 = 0x1 | 0x10 | 0x20 | ASKED;
const ASKED: u32 = 0x1_0000 | 0x2_0000 | 0x4_0000;

/// What is told of files of which it is told.
pub(crate) const UNREAD: &str =
    "its contents are not in the image: the program would be told that they are read (inotify, fanotify)";
pub(crate) const READ: &str = "the program is told that its contents were read (inotify, fanotify)";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Listened {
    places: HashSet<Place>,
    /// Whether anybody is asked.
    asked: bool,
}

impl Listened {
    /// By the texts of fdinfo of all descriptions of the tree.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Listened {
        let place = |sdev: u64, ino: Option<u64>| {
            let (major, minor) = proc::kernel_dev(sdev);
            (major, minor, ino)
        };
        let mut all = Listened::default();
        for text in texts {
            let watches = proc::inotify_watches(text).unwrap_or_default();
            all.places.extend(watches.iter().filter(|w| w.mask & OPENED != 0).map(|w| place(w.sdev, Some(w.ino))));
            let marks = proc::fanotify(text).map_or_else(|_| Vec::new(), |(_, marks)| marks);
            all.asked |= marks.iter().any(|mark| mark.mask & ASKED != 0);
            let marks = marks.into_iter().filter(|mark| mark.mask & OPENED != 0);
            all.places.extend(marks.map(|mark| mark.sdev.map_or(ANYWHERE, |sdev| place(sdev, mark.ino))));
        }
        all
    }

    /// Whether somebody in the tree says who may open files: who stands still says nothing, and is waited for.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether nobody is told of anything.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether somebody is told of that file; `directory` is the one in which it stands.
    pub fn hears(&self, file: &FileStat, directory: impl FnOnce() -> Option<FileStat>) -> bool {
        let place = |stat: &FileStat| (proc::major(stat.dev), proc::minor(stat.dev), Some(stat.ino));
        let (major, minor, _) = place(file);
        let around = [place(file), (major, minor, None), ANYWHERE];
        around.into_iter().chain(directory().as_ref().map(place)).any(|place| self.places.contains(&place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_or_stands_in_what_is_watched() {
        let file = FileStat { dev: proc::makedev(0xfe, 0), ino: 7, ..FileStat::default() };
        let directory = FileStat { ino: 0x10, ..file };
        let hears = |text: &str| Listened::of([text.as_bytes()]).hears(&file, || Some(directory));
        assert!(hears("inotify wd:1 ino:7 sdev:fe00000 mask:20 ignored_mask:0\n"));
        assert!(hears("inotify wd:1 ino:10 sdev:fe00000 mask:1 ignored_mask:0\n"));
        assert!(!hears("inotify wd:1 ino:7 sdev:fe00000 mask:2 ignored_mask:0\n"), "only of what is written");
        assert!(!hears("inotify wd:1 ino:7 sdev:fe00001 mask:20 ignored_mask:0\n"), "of another device");
        assert!(!hears("pos: 0\n"));
        let group = "fanotify flags:0 event-flags:0\nfanotify ";
        assert!(hears(&format!("{group}sdev:fe00000 mflags:0 mask:20 ignored_mask:0\n")), "of all of the device");
        assert!(hears(&format!("{group}mnt_id:1b mflags:0 mask:20 ignored_mask:0\n")), "of a mount, whichever");
        let asked = |mask: &str| {
            Listened::of([format!("{group}mnt_id:1b mflags:0 mask:{mask} ignored_mask:0\n").as_bytes()]).is_asked()
        };
        assert!(asked("10000") && !asked("20"));
    }
}
