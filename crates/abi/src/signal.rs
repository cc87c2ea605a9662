//! Signals: their numbers and names, sets of them, and the structures that tell what a process does with one.

use crate::consts::sigaction::SI_KERNEL;
use crate::layout::layout;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many signals there are, numbered from 1 (arch/x86/include/uapi/asm/signal.h).
pub const NSIG: i32 = 64;

/// Every signal whose handler can be set (sigaction(2)).
pub fn settable() -> impl Iterator<Item = i32> {
    (1..=NSIG).filter(|signal| *signal != SIGKILL && *signal != SIGSTOP)
}
/// The first real-time signal as the kernel counts; glibc and musl keep the first two or three for themselves.
pub const SIGRTMIN: i32 = 32;

macro_rules! signals {
    ($($name:ident $number:literal;)*) => {
        $( #[allow(missing_docs)] pub const $name: i32 = $number; )*

        /// The name of a signal below [`SIGRTMIN`] (signal(7)).
        const fn classic(signal: i32) -> Option<&'static str> {
            match signal { $( $number => Some(stringify!($name)), )* _ => None }
        }
    };
}

signals! {
    SIGHUP 1;
    SIGINT 2;
    SIGQUIT 3;
    SIGILL 4;
    SIGTRAP 5;
    SIGABRT 6;
    SIGBUS 7;
    SIGFPE 8;
    SIGKILL 9;
    SIGUSR1 10;
    SIGSEGV 11;
    SIGUSR2 12;
    SIGPIPE 13;
    SIGALRM 14;
    SIGTERM 15;
    SIGSTKFLT 16;
    SIGCHLD 17;
    SIGCONT 18;
    SIGSTOP 19;
    SIGTSTP 20;
    SIGTTIN 21;
    SIGTTOU 22;
    SIGURG 23;
    SIGXCPU 24;
    SIGXFSZ 25;
    SIGVTALRM 26;
    SIGPROF 27;
    SIGWINCH 28;
    SIGIO 29;
    SIGPWR 30;
    SIGSYS 31;
}

/// The name of a signal, for printing: `SIGINT`; `SIGRTMIN+2`, counted from 32 as the kernel does; `signal 99`.
pub fn name(signal: i32) -> String {
    match classic(signal) {
        Some(name) => name.to_owned(),
        None if signal == SIGRTMIN => "SIGRTMIN".to_owned(),
        None if (SIGRTMIN..=NSIG).contains(&signal) => format!("SIGRTMIN+{}", signal - SIGRTMIN),
        None => format!("signal {signal}"),
    }
}

/// A set of signals: bit N-1 is signal N (`sigset_t` of the kernel, 8 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct SigSet(#[n(0)] pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// Every signal.
    pub const ALL: SigSet = SigSet(u64::MAX);

    /// The mask.
    pub const fn mask(self) -> u64 {
        self.0
    }

    /// Whether the signal is in the set.
    pub const fn contains(self, signal: i32) -> bool {
        self.0 & bit(signal) != 0
    }

    /// The set and this signal.
    pub const fn with(self, signal: i32) -> Self {
        SigSet(self.0 | bit(signal))
    }

    /// The set but for this signal.
    pub const fn without(self, signal: i32) -> Self {
        SigSet(self.0 & !bit(signal))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signals, ascending.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=NSIG).filter(move |signal| self.contains(*signal))
    }

    /// As `rt_sigprocmask` takes it.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// As the kernel wrote it; `None` when there are fewer than 8 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        crate::layout::Layout::get(bytes).map(SigSet)
    }
}

/// The bit of a signal; none for a number that is no signal.
const fn bit(signal: i32) -> u64 {
    if signal >= 1 && signal <= NSIG { 1 << (signal - 1) } else { 0 }
}

impl FromIterator<i32> for SigSet {
    fn from_iter<T: IntoIterator<Item = i32>>(signals: T) -> Self {
        signals.into_iter().fold(SigSet::EMPTY, SigSet::with)
    }
}

impl fmt::Display for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(name).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigSet({:#x})", self.0)
    }
}

layout! {
    /// What a process does with a signal, as `rt_sigaction` takes it on x86_64 (asm/signal.h, `struct sigaction` of
    /// the kernel: not that of libc, which orders the fields otherwise).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Encode, Decode)]
    #[cbor(map)]
    pub struct KernelSigaction [32] {
        /// An address, or `SIG_DFL` 0, or `SIG_IGN` 1.
        #[n(0)]
        pub handler: u64 = 0,
        /// `SA_` bits.
        #[n(1)]
        pub flags: u64 = 8,
        /// Where the handler returns to (`SA_RESTORER`).
        #[n(2)]
        pub restorer: u64 = 16,
        /// What else is blocked while it runs.
        #[n(3)]
        pub mask: u64 = 24,
    }

    /// The alternate stack for handlers, as `sigaltstack` takes it (asm/signal.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Encode, Decode)]
    #[cbor(map)]
    pub struct StackT [24] {
        /// Its lowest address.
        #[n(0)]
        pub sp: u64 = 0,
        /// `SS_ONSTACK` 1 (never to be given back), `SS_DISABLE` 2, `SS_AUTODISARM` 1 << 31.
        #[n(1)]
        pub flags: u32 = 8,
        /// Its size in bytes.
        #[n(2)]
        pub size: u64 = 16,
    }
}

impl KernelSigaction {
    /// `SIG_DFL`.
    pub const DEFAULT: u64 = 0;
    /// `SIG_IGN`.
    pub const IGNORE: u64 = 1;

    /// Whether nothing was ever set: the default handler, no flags, no mask.
    pub fn is_default(&self) -> bool {
        *self == KernelSigaction::default()
    }
}

/// A pending signal with all that came along (`siginfo_t`, 128 bytes; asm-generic/siginfo.h).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(into = "String", try_from = "String")]
#[cbor(transparent)]
pub struct Siginfo(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 128]);

/// A timer by which a signal was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// That of setitimer(2): ITIMER_REAL 0, ITIMER_VIRTUAL 1, ITIMER_PROF 2.
    Interval(u32),
    /// That of timer_create(2) with this id.
    Posix(i32),
}

impl Siginfo {
    /// The size in bytes.
    pub const SIZE: usize = 128;

    /// As the kernel wrote it; `None` when there are fewer than `SIZE` bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|chunk| Siginfo(*chunk))
    }

    /// What a thread gets of a signal of which the kernel knows no more (kernel/signal.c, `collect_signal`): SI_USER, of nobody.
    pub fn untold(signo: i32) -> Self {
        let mut bytes = [0; 128];
        bytes[..4].copy_from_slice(&signo.to_le_bytes());
        Siginfo(bytes)
    }

    /// As the kernel reads it.
    pub const fn to_bytes(&self) -> [u8; 128] {
        self.0
    }

    /// The signal.
    pub fn signo(&self) -> i32 {
        self.i32_at(0)
    }

    /// Where it comes from: 0 `SI_USER`, -1 `SI_QUEUE`, -2 `SI_TIMER`…; above 0, from the kernel.
    pub fn code(&self) -> i32 {
        self.i32_at(8)
    }

    /// Who sent it, where [`Siginfo::code`] says that somebody did; of a timer, its id.
    pub fn pid(&self) -> i32 {
        self.i32_at(16)
    }

    /// The timer that sent it, if one did.
    pub fn tick(&self) -> Option<Tick> {
        const SI_TIMER: i32 = -2;
        match (self.code(), self.signo()) {
            (SI_TIMER, _) => Some(Tick::Posix(self.pid())),
            // SIGALRM, SIGVTALRM, SIGPROF (kernel/time/itimer.c, kernel/time/posix-cpu-timers.c).
            (SI_KERNEL, 14) => Some(Tick::Interval(0)),
            (SI_KERNEL, 26) => Some(Tick::Interval(1)),
            (SI_KERNEL, 27) => Some(Tick::Interval(2)),
            _ => None,
        }
    }

    /// The user who sent it, where somebody did; of a timer, how often it overran.
    pub fn uid(&self) -> u32 {
        self.i32_at(20) as u32
    }

    /// The value that came along (`si_value`), of a queued signal or a timer.
    pub fn value(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[24 + i]))
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }
}

impl fmt::Debug for Siginfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (signal, code) = (name(self.signo()), self.code());
        write!(f, "Siginfo({signal}, code {code}, pid {})", self.pid())
    }
}

impl From<Siginfo> for String {
    fn from(info: Siginfo) -> String {
        info.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Siginfo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        hex(text.as_bytes()).ok_or_else(|| "a siginfo is 256 hexadecimal digits".to_owned())
    }
}

fn hex(text: &[u8]) -> Option<Siginfo> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut info = Siginfo([0; 128]);
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != Siginfo::SIZE {
        return None;
    }
    for (byte, [high, low]) in info.0.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(info)
}
