//! The image file: one file that holds a frozen tree, and knows nothing of what it holds.
//!
//! ```text
//! stub · zeros to 4096 · header · sections… · index · trailer
//! ```
//!
//! The file begins with a program (the *stub*), so it can be executed; it ends with a *trailer* of fixed
//! size, which leads to the *index*, which names every *section* with its checksum. Everything is appended
//! in order, so an image can be written to a pipe. Every byte of it is covered by some check. Only a *late* section, if there
//! is one, is filled in when the image stands already.
//!
//! Two kinds of sections carry what a tree is made of: *records* (numbered, self-describing CBOR, small,
//! read whole) and *pages* (raw, aligned, large, read in place and checked on demand).
//!
//! `docs/format.md` describes the format byte for byte.
//!
//! ```
//! use image::{Image, Need, Tag, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stub: &[u8] = b"\x7fELF...";
//! let mut writer = Writer::new(Vec::new(), stub, &image::Header::default())?;
//! let offset = writer.pages(&[7; 8192])?;
//! writer.record(Tag(6), 1, Need::Must, &"a counter")?;
//! let (file, _length) = writer.finish()?;
//!
//! let image = Image::open(file)?;
//! assert_eq!(image.records()[0].decode::<String>()?, "a counter");
//! let mut page = [0; 4096];
//! image.read_at(offset, &mut page)?;
//! image.verify(&mut |_done, _total| ())?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod beside;
mod buffer;
mod damage;
mod diagnostic;
mod header;
mod late;
mod layout;
mod locate;
mod reader;
mod record;
mod source;
mod writer;

pub use buffer::PageBuffer;
pub use damage::{Damage, OpenError, Part, VerifyError};
pub use diagnostic::diagnostic;
pub use header::Header;
pub use layout::{FORMAT, Need, PAGE, Section, Tag};
pub use locate::{Stub, stub, stub_len};
pub use reader::Image;
pub use record::{Extent, RawRecord};
pub use source::Source;
pub use writer::{Late, Writer};
