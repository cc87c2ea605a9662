//! The state of a thread on x86_64 as ptrace(2) gives and takes it: general registers, extended state, restartable
//! sequence.

use crate::layout::layout;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The end of what a process maps unless it asks for more (arch/x86/include/asm/page_64_types.h, `TASK_SIZE_MAX`).
pub const TASK_END: u64 = 0x7fff_ffff_f000;

layout! {
    /// The general registers, in the order of `struct user_regs_struct` (arch/x86/include/asm/user_64.h): the regset
    /// `NT_PRSTATUS`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    #[allow(missing_docs)]
    pub struct UserRegs [216] {
        pub r15: u64 = 0,
        pub r14: u64 = 8,
        pub r13: u64 = 16,
        pub r12: u64 = 24,
        pub rbp: u64 = 32,
        pub rbx: u64 = 40,
        pub r11: u64 = 48,
        pub r10: u64 = 56,
        pub r9: u64 = 64,
        pub r8: u64 = 72,
        pub rax: u64 = 80,
        pub rcx: u64 = 88,
        pub rdx: u64 = 96,
        pub rsi: u64 = 104,
        pub rdi: u64 = 112,
        /// The number of the system call that the thread is in; -1 when it is in none.
        pub orig_rax: u64 = 120,
        pub rip: u64 = 128,
        pub cs: u64 = 136,
        pub eflags: u64 = 144,
        pub rsp: u64 = 152,
        pub ss: u64 = 160,
        pub fs_base: u64 = 168,
        pub gs_base: u64 = 176,
        pub ds: u64 = 184,
        pub es: u64 = 192,
        pub fs: u64 = 200,
        pub gs: u64 = 208,
    }

    /// What `PTRACE_GET_RSEQ_CONFIGURATION` tells (linux/ptrace.h, `struct ptrace_rseq_configuration`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Encode, Decode)]
    #[cbor(map)]
    pub struct RseqConfiguration [24] {
        /// Where the `struct rseq` of the thread is; 0: not registered.
        #[n(0)]
        pub pointer: u64 = 0,
        /// The size that it was registered with.
        #[n(1)]
        pub size: u32 = 8,
        /// The word that must stand before every abort handler.
        #[n(2)]
        pub signature: u32 = 12,
        /// Flags of the registration; 0 so far.
        #[n(3)]
        pub flags: u32 = 16,
    }

    /// What `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG` tells (linux/ptrace.h, `struct ptrace_sud_config`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Encode, Decode)]
    #[cbor(map)]
    pub struct DispatchConfiguration [32] {
        /// PR_SYS_DISPATCH_: 0, off, or 1.
        #[n(0)]
        pub mode: u64 = 0,
        /// Where the byte is that says whether calls come back to the program just now; 0: they always do.
        #[n(1)]
        pub selector: u64 = 8,
        /// Calls that are made from here on are let through,
        #[n(2)]
        pub offset: u64 = 16,
        /// for so many bytes, modulo 2⁶⁴.
        #[n(3)]
        pub len: u64 = 24,
    }

    /// A critical section of a restartable sequence (linux/rseq.h, `struct rseq_cs`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RseqCs [32] {
        /// 0.
        pub version: u32 = 0,
        /// `RSEQ_CS_` bits.
        pub flags: u32 = 4,
        /// Its first instruction.
        pub start_ip: u64 = 8,
        /// How many bytes after it the commit is done.
        pub post_commit_offset: u64 = 16,
        /// Where the kernel sends the thread when it was disturbed inside.
        pub abort_ip: u64 = 24,
    }
}

/// A map: of each register, by its place.
impl<C> Encode<C> for UserRegs {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let bytes = self.to_bytes();
        let (all, _) = bytes.as_chunks::<8>();
        e.map(all.len() as u64)?;
        (0..).zip(all).try_for_each(|(n, register)| e.u32(n)?.u64(u64::from_ne_bytes(*register)).map(drop))
    }
}

impl<'b, C> Decode<'b, C> for UserRegs {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let mut bytes = [0; UserRegs::SIZE];
        let (all, _) = bytes.as_chunks_mut::<8>();
        let mut missing = (1_u32 << all.len()) - 1;
        for entry in d.map_iter::<u64, u64>()? {
            let (n, value) = entry?;
            if let Some(register) = all.get_mut(n as usize) {
                *register = value.to_ne_bytes();
                missing &= !(1 << n);
            }
        }
        let none = || minicbor::decode::Error::missing_value(missing.trailing_zeros().into());
        UserRegs::from_bytes(&bytes).filter(|_| missing == 0).ok_or_else(none)
    }
}

impl DispatchConfiguration {
    const ON: u64 = 1;
    /// Only calls from the range come back (Linux 6.17).
    const INCLUSIVE_ON: u64 = 2;

    /// Whether a kernel could have shown it of a thread that dispatches its calls: no range is empty but the one at 0, and the
    /// selector is no address of the kernel's.
    pub const fn is_sound(&self) -> bool {
        self.mode == Self::ON && (self.offset == 0 || self.len != 0) && (self.selector as i64) >= 0
    }

    /// What the kernel must be given to have it again. A range that is to come back is kept as the one around it, which is let
    /// through, and cannot be set as such (kernel/entry/syscall_user_dispatch.c, task_set_syscall_user_dispatch).
    pub const fn to_be_set(&self) -> Self {
        let end = self.offset.wrapping_add(self.len);
        if self.mode != Self::ON || self.offset == 0 || end > self.offset {
            return *self;
        }
        DispatchConfiguration { mode: Self::INCLUSIVE_ON, offset: end, len: self.len.wrapping_neg(), ..*self }
    }
}

impl RseqCs {
    /// Where the pointer to this stands in the thread's `struct rseq` (linux/rseq.h, field `rseq_cs`).
    pub const POINTER_AT: u64 = 8;

    /// Whether `ip` is inside (kernel/rseq.c, `in_rseq_cs`).
    pub const fn contains(&self, ip: u64) -> bool {
        ip.wrapping_sub(self.start_ip) < self.post_commit_offset
    }
}

/// The extended state: what the regset `NT_X86_XSTATE` holds.
///
/// It is the image that XSAVE makes, never compacted: 512 bytes as FXSAVE makes them (x87, SSE), a header of 64 bytes
/// that begins with XSTATE_BV, then each component at the offset that CPUID leaf 0xd tells (Intel SDM volume 1, 13.4). Processors
/// differ in those offsets, and in how long the whole is, and the kernel takes back only all of it as its own processor would lay it
/// out (arch/x86/kernel/fpu/regset.c, `xstateregs_set`). So what goes from machine to machine is laid out in one way, that of
/// [`COMPONENTS`](xstate::COMPONENTS), and ends with the last component that is in use.
/// Of the legacy area, bytes 464 to 511 are left to software: the kernel puts into the first eight the mask of what it
/// lets a process use, as XGETBV(0) gives it (arch/x86/include/asm/user.h, `USER_XSTATE_XCR0_WORD`; it ignores
/// them on the way back). A host takes the state when XSTATE_BV has no bit that its own mask lacks; otherwise
/// `PTRACE_SETREGSET` says EINVAL (arch/x86/kernel/fpu/xstate.c, `validate_user_xstate_header`).
pub mod xstate {
    use crate::layout::Layout;

    /// Where XSTATE_BV stands: which components hold anything but their initial state.
    pub const XSTATE_BV_AT: usize = 512;

    /// The names of the components by their bits (arch/x86/include/asm/fpu/types.h, `enum xfeature`).
    pub const FEATURES: [(u32, &str); 14] = [
        (0, "x87"),
        (1, "sse"),
        (2, "avx"),
        (3, "mpx-bndregs"),
        (4, "mpx-bndcsr"),
        (5, "avx512-opmask"),
        (6, "avx512-zmm-hi256"),
        (7, "avx512-hi16-zmm"),
        (9, "pkru"),
        (11, "cet-user"),
        (12, "cet-kernel"),
        (17, "amx-tilecfg"),
        (18, "amx-tiledata"),
        (19, "apx"),
    ];

    /// Behind the legacy area and the header.
    pub const COMPONENTS_AT: usize = 576;

    /// What is left to software: zeroes in a state that is laid out as between machines.
    pub const SOFTWARE: std::ops::Range<usize> = 464..512;

    /// Whether a state is laid out as on the machine that it was read on: as far as the kernel says so, and not we.
    pub fn is_native(blob: &[u8]) -> bool {
        blob.get(SOFTWARE).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// Where a component stands.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Component {
        /// Its bit in XSTATE_BV.
        pub bit: u32,
        /// Its offset.
        pub at: usize,
        /// Its bytes.
        pub len: usize,
    }

    const fn component(bit: u32, at: usize, len: usize) -> Component {
        Component { bit, at, len }
    }

    /// How they are laid out between machines: as processors of Intel do. Who has the last one has none of those whose place it takes.
    pub const COMPONENTS: [Component; 10] = [
        component(2, 576, 256),
        component(3, 960, 64),
        component(4, 1024, 64),
        component(5, 1088, 64),
        component(6, 1152, 512),
        component(7, 1664, 1024),
        component(9, 2688, 8),
        component(17, 2752, 64),
        component(18, 2816, 8192),
        component(19, 960, 128),
    ];

    /// The same state, laid out otherwise, and at least so long. Components that `blob` is too short for are in their initial state.
    ///
    /// # Errors
    /// The bit of a component in use that one of the two does not have.
    pub fn laid_out(blob: &[u8], from: &[Component], to: &[Component], len: usize) -> Result<Vec<u8>, u32> {
        let mut out = blob[..blob.len().min(COMPONENTS_AT)].to_vec();
        let used = xfeatures(blob).unwrap_or(0);
        out.resize(out.len().max(len), 0);
        for bit in (2..64).filter(|bit| used >> bit & 1 == 1) {
            let find = |all: &[Component]| all.iter().find(|c| c.bit == bit).copied().ok_or(bit);
            let (from, to) = (find(from)?, find(to)?);
            out.resize(out.len().max(to.at + to.len), 0);
            let there = blob.get(from.at..).unwrap_or_default();
            let len = there.len().min(from.len).min(to.len);
            out[to.at..][..len].copy_from_slice(&there[..len]);
        }
        Ok(out)
    }

    /// Says of x87 that it is in its initial state if it is: a processor may call that one in use, now and then (Intel SDM volume 1,
    /// 13.6).
    pub fn settle(blob: &mut [u8]) {
        let initial = |n: usize, byte: u8| byte == [0x7f, 0x03].get(n).copied().unwrap_or(0);
        // Between its pointers and its registers stands what belongs to SSE.
        let mut x87 = (0..24).chain(32..160);
        if blob.len() > XSTATE_BV_AT && x87.all(|n| initial(n, blob[n])) {
            blob[XSTATE_BV_AT] &= !1;
        }
    }

    /// Without the rights of protection keys (pkeys(7)) on a host with the mask `host` that has none, where they are those that every
    /// program begins with: they are in use in all of them (arch/x86/mm/pkeys.c, `init_pkru_value`). `blob` is laid out as between
    /// machines.
    pub fn without_plain_keys(blob: &[u8], host: u64) -> Vec<u8> {
        const PKRU: u64 = 1 << 9;
        const PLAIN: u32 = 0x5555_5554;
        let mut blob = blob.to_vec();
        let used = xfeatures(&blob).unwrap_or(0);
        let at = COMPONENTS.iter().find(|c| 1 << c.bit == PKRU).map_or(0, |c| c.at);
        let rights = blob.get(at..).and_then(Layout::get);
        // Of none, everything is allowed, as where there are no keys.
        if used & !host & PKRU != 0 && matches!(rights, Some(PLAIN | 0)) {
            blob[XSTATE_BV_AT..][..8].copy_from_slice(&(used & !PKRU).to_le_bytes());
        }
        blob
    }

    /// What the thread really uses: XSTATE_BV. `None` when the blob is too short.
    pub fn xfeatures(blob: &[u8]) -> Option<u64> {
        u64_at(blob, XSTATE_BV_AT)
    }

    /// The components that `blob` uses and a host with the mask `host` lacks.
    pub fn missing(blob: &[u8], host: u64) -> Option<u64> {
        xfeatures(blob).map(|used| used & !host)
    }

    /// The names of the components in a mask, for printing.
    pub fn names(mask: u64) -> Vec<String> {
        (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
    }

    fn name(bit: u32) -> String {
        match FEATURES.iter().find(|(known, _)| *known == bit) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("xfeature {bit}"),
        }
    }

    fn u64_at(blob: &[u8], at: usize) -> Option<u64> {
        blob.get(at..).and_then(Layout::get)
    }
}
