//! The kernel's own areas: vdso (code) and vvar (its data), which every process has at an address of its own.
//!
//! - seen as    `[vdso]`, `[vvar]`, `[vvar_vclock]` in /proc/PID/maps
//! - captured   where they are, and a checksum of the code
//! - recreated  the areas of the thawing process move there (`mremap`, which vdso(7) areas allow)
//! - absent     a process that unmapped them has none again
//! - refused    where this kernel's code differs: programs hold addresses into it

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Where one of the areas is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct KernelArea {
    /// Its name in /proc/PID/maps.
    #[n(0)]
    pub name: String,
    /// Its first address.
    #[n(1)]
    pub start: u64,
    /// Its length in bytes.
    #[n(2)]
    pub len: u64,
}

/// Whether an area is one of the kernel's own that moves.
pub fn is_kernel_area(name: &[u8]) -> bool {
    matches!(name, b"[vdso]" | b"[vvar]" | b"[vvar_vclock]")
}

/// The checksum of a vdso's code: of what its program header loads. What lies behind it in the last page is padding, in
/// which an envoy may stand while this is read.
pub fn code_sum(vdso: &[u8]) -> u64 {
    let word = |at: usize| -> Option<usize> { Some(u64::from_le_bytes(*vdso.get(at..)?.first_chunk()?) as usize) };
    let loaded = || -> Option<usize> {
        const PT_LOAD: &[u8] = &[1, 0, 0, 0];
        let table = word(32)?;
        vdso.get(table..)?.starts_with(PT_LOAD).then(|| word(table + 32))?
    };
    let len = loaded().unwrap_or(vdso.len()).min(vdso.len());
    xxhash_rust::xxh3::xxh3_64(&vdso[..len])
}
