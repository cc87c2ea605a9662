//! The header: what the whole image is, for those who read nothing else of it.

use crate::damage::Damage;
use crate::layout::{FORMAT, HEADER_MAGIC, u32_at};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Where an image comes from. Fields are only ever added; one that an image lacks has its zero value.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Header {
    /// The version of the format. The writer always writes [`FORMAT`].
    #[n(0)]
    #[cbor(default)]
    pub version: u16,
    /// The program that made it, with its version: `cryopid 0.1.0`.
    #[n(1)]
    #[cbor(default)]
    pub tool: String,
    /// The machine, as `uname -m` prints it.
    #[n(2)]
    #[cbor(default)]
    pub machine: String,
    /// The kernel, as `uname -r` prints it.
    #[n(3)]
    #[cbor(default)]
    pub kernel: String,
    /// The size of a page of memory there, which may be larger than the [`PAGE`](crate::PAGE) of the file.
    #[n(4)]
    #[cbor(default)]
    pub page_size: u32,
    /// When it was made, in seconds since 1970.
    #[n(5)]
    #[cbor(default)]
    pub created: u64,
    /// The name of the root process.
    #[n(6)]
    #[cbor(default)]
    pub name: String,
    /// The process id of the root process.
    #[n(7)]
    #[cbor(default)]
    pub pid: u32,
    /// How many processes there are.
    #[n(8)]
    #[cbor(default)]
    pub processes: u32,
}

impl Default for Header {
    /// This format, and nothing else.
    fn default() -> Self {
        Header {
            version: FORMAT,
            tool: String::new(),
            machine: String::new(),
            kernel: String::new(),
            page_size: 0,
            created: 0,
            name: String::new(),
            pid: 0,
            processes: 0,
        }
    }
}

/// What stands before the CBOR: magic, version, length of the CBOR.
const FRAME: usize = 16;

/// The whole section, with its frame. Numbers and strings always encode.
pub(crate) fn to_bytes(header: &Header) -> Vec<u8> {
    let body = minicbor::to_vec(header).expect("a header encodes into memory");
    let mut bytes = Vec::with_capacity(FRAME + body.len());
    bytes.extend_from_slice(&HEADER_MAGIC);
    bytes.extend_from_slice(&u32::from(header.version).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The header in a whole section, which the trailer says to be of `version`.
pub(crate) fn from_bytes(bytes: &[u8], version: u32) -> Result<Header, Damage> {
    let wrong = |why: &str| Damage::Header { why: why.to_owned() };
    let Some((frame, body)) = bytes.split_at_checked(FRAME) else {
        return Err(wrong("it is shorter than its frame"));
    };
    if frame[..8] != HEADER_MAGIC {
        return Err(wrong("it does not begin with its magic"));
    }
    if u32_at(frame, 12) as usize != body.len() {
        return Err(wrong("its length is not that of its section"));
    }
    let header: Header = minicbor::decode(body).map_err(|e| wrong(&e.to_string()))?;
    if u32_at(frame, 8) != version || u32::from(header.version) != version {
        return Err(wrong("its version is not that of the trailer"));
    }
    Ok(header)
}
