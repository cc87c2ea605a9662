//! A case as data: a program, how to bring it into a state, how to judge it afterwards, and in which flavours.

use std::ops::Range;
use std::time::Duration;

/// A way to make the round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Frozen and thawed by root.
    Root,
    /// All by an ordinary user.
    User,
    /// Made by `snapshot`: the original goes on, then ends, then the image is thawed.
    Snapshot,
    /// The mapped files are deleted before the thaw, and so is what outlives processes.
    WithLibs,
    /// Thawed while the original lives, so its ids are taken.
    PidNs,
    /// Frozen, thawed, frozen again: both images tell the same; then thawed once more.
    Again,
    /// Frozen by somebody whose calls the kernel answers as Linux 6.1 would (`specimen older`).
    Older,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 7] = [
        Flavour::Root,
        Flavour::User,
        Flavour::Snapshot,
        Flavour::WithLibs,
        Flavour::PidNs,
        Flavour::Again,
        Flavour::Older,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Root => "root",
            Flavour::User => "user",
            Flavour::Snapshot => "snapshot",
            Flavour::WithLibs => "with-libs",
            Flavour::PidNs => "pidns",
            Flavour::Again => "again",
            Flavour::Older => "older",
        }
    }
}

/// What must come of it.
#[derive(Debug, Clone)]
pub enum Expect {
    /// The program goes on.
    Kept,
    /// The freeze is refused with exit status 3 and names each of these; the program is unharmed.
    Refused(Vec<&'static str>),
}

/// What is started.
#[derive(Debug, Clone)]
pub enum Program {
    /// A specimen with its arguments.
    Specimen(Vec<&'static str>),
    /// A program of the system, found by PATH, with its arguments.
    System(Vec<&'static str>),
    /// One that the kit built.
    Built(&'static str),
}

/// One action of the hand, or one expectation of the eye.
#[derive(Debug, Clone)]
pub enum Step {
    /// Types.
    Type(&'static str),
    /// Waits for a text in the stream, after the last one found.
    Expect(&'static str),
    /// The same, of what may take minutes.
    Await(&'static str),
    /// Waits until the screen shows a text.
    Screen(&'static str),
    /// Asks the specimen to check itself.
    Check,
    /// Stops the program with SIGSTOP and waits until it is.
    Stop,
    /// The program must be stopped; SIGCONT lets it go on.
    Continue,
    /// Waits until the thawed program runs: before that, a key that sends a signal would hit the thaw.
    Running,
    /// The program has the process id that it had, as the host sees it.
    SameId,
    /// Waits for the end, with this exit status.
    Exit(i32),
    /// A file of the scene holds a text.
    File(&'static str, &'static str),
}

/// Whether a program may be asked while its image is still to be thawed: some change their files by answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// It is asked by these steps to show that it goes on.
    Checks,
    /// It is only looked at from outside.
    Looked,
}

/// Whether two images of one program, of which it knows nothing, tell the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// They do.
    Same,
    /// The program changes by itself.
    Moves,
}

/// What a machine may not have by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing special.
    Nothing,
    /// Huge pages that are set apart, while the case runs.
    HugePages,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is started.
    pub program: Program,
    /// Files that must be there before.
    pub files: Vec<(&'static str, String)>,
    /// Before the freeze.
    pub before: Vec<Step>,
    /// After the thaw.
    pub after: Vec<Step>,
    /// How long to wait before the freeze, in milliseconds.
    pub delay: Range<u64>,
    /// The flavours that it has.
    pub flavours: Vec<Flavour>,
    /// What must come of it.
    pub expect: Expect,
    /// How the original of a snapshot is judged.
    pub original: Original,
    /// Whether the oracle applies.
    pub oracle: Oracle,
    /// What the machine must have for it.
    pub needs: Needs,
    /// How long a freeze, and a thaw with all that follows it, may take: far more than they do, and far less than they would if
    /// their time grew with the square of what the program has.
    pub within: Option<Duration>,
}

impl Case {
    /// A specimen that is asked once and ended.
    #[must_use]
    pub fn specimen(words: &[&'static str]) -> Case {
        Case {
            name: words.join(" "),
            program: Program::Specimen(words.to_vec()),
            files: Vec::new(),
            before: vec![Step::Expect("ready\r\n")],
            after: vec![Step::Check, Step::Check, Step::Type("quit\n"), Step::Exit(0)],
            delay: 0..60,
            flavours: Flavour::ALL.to_vec(),
            expect: Expect::Kept,
            original: Original::Checks,
            oracle: Oracle::Same,
            needs: Needs::Nothing,
            within: None,
        }
    }

    /// A real program with its two scripts.
    #[must_use]
    pub fn real(name: &str, program: Program, before: Vec<Step>, after: Vec<Step>) -> Case {
        // What the kernel tells of programs, specimens have; one that is a program has nothing more.
        let flavours = Flavour::ALL.into_iter().filter(|flavour| *flavour != Flavour::Older).collect();
        Case {
            name: name.into(),
            program,
            before,
            after,
            flavours,
            original: Original::Looked,
            oracle: Oracle::Moves,
            ..Case::specimen(&[])
        }
    }

    /// Without some flavours.
    #[must_use]
    pub fn but(mut self, flavours: &[Flavour]) -> Case {
        self.flavours.retain(|flavour| !flavours.contains(flavour));
        self
    }

    /// With only some flavours.
    #[must_use]
    pub fn only(mut self, flavours: &[Flavour]) -> Case {
        self.flavours = flavours.to_vec();
        self
    }

    /// Refused with these words; asked in the two flavours that differ in rights.
    #[must_use]
    pub fn refused(self, words: &[&'static str]) -> Case {
        Case { expect: Expect::Refused(words.to_vec()), ..self.only(&[Flavour::Root, Flavour::User]) }
    }

    /// With a file that is there before.
    #[must_use]
    pub fn file(mut self, name: &'static str, text: impl Into<String>) -> Case {
        self.files.push((name, text.into()));
        self
    }
}
