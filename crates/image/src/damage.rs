//! What can be wrong with a file that is, or was, or should be an image.

use crate::layout::{FORMAT, Section, Tag};
use std::{fmt, io};

/// A part of the file with a checksum of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A section with that tag.
    Section(Tag),
    /// The index.
    Index,
    /// The last 64 bytes.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Part::Section(Section::STUB) => f.write_str("the stub"),
            Part::Section(Section::HEADER) => f.write_str("the header"),
            Part::Section(Section::RECORDS) => f.write_str("the records"),
            Part::Section(Section::PAGES) => f.write_str("the pages"),
            Part::Section(Section::LATE) => f.write_str("the late section"),
            Part::Section(tag) => write!(f, "the section with tag {tag}"),
            Part::Index => f.write_str("the index"),
            Part::Trailer => f.write_str("the trailer"),
        }
    }
}

/// An image that is not as it was written: what, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// It ends before its trailer.
    Cut {
        /// The length of what is there.
        len: u64,
    },
    /// Something follows its trailer.
    Appended {
        /// Where the image ends.
        end: u64,
        /// How much follows.
        extra: u64,
    },
    /// The trailer tells another length than the file has.
    Length {
        /// What the trailer tells.
        said: u64,
        /// What the file has.
        found: u64,
    },
    /// A part does not have its checksum.
    Checksum {
        /// Which.
        part: Part,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// A byte between two sections is not zero.
    Gap {
        /// Where.
        offset: u64,
    },
    /// Sections that no writer makes.
    Layout {
        /// The part that is not where or what it should be.
        part: Part,
        /// Where the index says it is.
        offset: u64,
        /// What is wrong about it.
        why: &'static str,
    },
    /// The header cannot be understood.
    Header {
        /// What is wrong about it.
        why: String,
    },
    /// A record cannot be understood.
    Record {
        /// Its tag.
        tag: Tag,
        /// Its number.
        id: u32,
        /// What is wrong about it.
        why: String,
    },
    /// The file changed while it was read.
    Changed,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the image is damaged: ")?;
        match self {
            Damage::Cut { len } => {
                write!(f, "it has no trailer: it is cut short at byte {len}, or was never finished")
            }
            Damage::Appended { end, extra } => {
                write!(f, "it ends at byte {end}, and {extra} bytes follow that are not its own")
            }
            Damage::Length { said, found } => {
                write!(f, "its trailer tells a length of {said} bytes, and it has {found}")
            }
            Damage::Checksum { part, offset, len } => {
                write!(f, "the checksum of {part} ({len} bytes at byte {offset}) is wrong")
            }
            Damage::Gap { offset } => {
                write!(f, "byte {offset}, between two sections, is not zero")
            }
            Damage::Layout { part, offset, why } => write!(f, "{part} at byte {offset}: {why}"),
            Damage::Header { why } => write!(f, "the header: {why}"),
            Damage::Record { tag, id, why } => write!(f, "the record {id} with tag {tag}: {why}"),
            Damage::Changed => f.write_str("it changed while it was read"),
        }
    }
}

impl std::error::Error for Damage {}

/// What to do about an image of a later release: its stub is that release.
const LATER: &str = ": execute the image itself, or use a later cryopid";

/// Why a file cannot be opened as an image.
#[derive(Debug)]
pub enum OpenError {
    /// It is no image, and nothing in it looks like one: a bare stub, or something else.
    NotAnImage,
    /// It is one, of a later format.
    Newer {
        /// The version of its format.
        version: u32,
    },
    /// It has a section that must be understood, and is not.
    Foreign {
        /// The tag of the section.
        tag: Tag,
        /// Where it begins.
        offset: u64,
    },
    /// It is one that is not as it was written.
    Damage(Damage),
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotAnImage => f.write_str("this is not an image"),
            OpenError::Newer { version } => {
                write!(f, "the image has format {version}, and this cryopid knows {FORMAT} at most")?;
                f.write_str(LATER)
            }
            OpenError::Foreign { tag, offset } => {
                write!(f, "the image has a section with tag {tag} at byte {offset} that must be")?;
                write!(f, " understood, and this cryopid does not understand it")?;
                f.write_str(LATER)
            }
            OpenError::Damage(damage) => damage.fmt(f),
            OpenError::Io(error) => write!(f, "the image cannot be read: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        OpenError::Damage(damage)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

impl From<VerifyError> for OpenError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Damage(damage) => OpenError::Damage(damage),
            VerifyError::Io(error) => OpenError::Io(error),
        }
    }
}

/// Why an open image does not pass.
#[derive(Debug)]
pub enum VerifyError {
    /// It is not as it was written.
    Damage(Damage),
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Damage(damage) => damage.fmt(f),
            VerifyError::Io(error) => write!(f, "the image cannot be read: {error}"),
        }
    }
}

impl std::error::Error for VerifyError {}

impl From<Damage> for VerifyError {
    fn from(damage: Damage) -> Self {
        VerifyError::Damage(damage)
    }
}

impl From<io::Error> for VerifyError {
    fn from(error: io::Error) -> Self {
        VerifyError::Io(error)
    }
}
