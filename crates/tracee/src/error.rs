//! Why a process could not be seized, or could not be lent to system calls. It goes on unharmed in every case.

use abi::{Fault, Sys};
use std::fmt;

/// Why a process was not seized; it runs on as it did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SeizeError {
    /// The kernel said no.
    Fault(Fault),
    /// It ended meanwhile, or there is no such process.
    Died {
        /// Its id.
        pid: i32,
    },
    /// All its threads have ended; only its parent has not yet waited for it.
    Zombie {
        /// Its id.
        pid: i32,
    },
    /// Another process traces it already.
    Traced {
        /// The tracer.
        by: i32,
    },
    /// A thread runs in a mode that is not this machine's own (32-bit code).
    ForeignMode {
        /// The thread.
        tid: i32,
    },
    /// A thread does not come to a stop: it sleeps uninterruptibly, as in a dead network file system.
    Stuck {
        /// The thread.
        tid: i32,
    },
    /// A thread does not come to a stop: it waits for a child of vfork(2), which sleeps on.
    Vforked {
        /// The thread.
        tid: i32,
        /// The child.
        child: i32,
    },
    /// It makes threads faster than we stop them, or executes programs without end.
    Restless {
        /// Its id.
        pid: i32,
    },
}

/// Why a thread carries no envoy (any more); it goes on unharmed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EnvoyError {
    /// The kernel said no.
    Fault(Fault),
    /// The process ended meanwhile.
    Died {
        /// Its id.
        pid: i32,
    },
    /// There is no [vdso], or not enough room behind it; and no `syscall` instruction to make some, or we are no guardian.
    NoRoom,
    /// The stack pointer of the thread does not lead to a stack that a heal could use.
    NoStack,
    /// A seccomp filter or mode might kill it for our calls.
    Seccomp,
    /// It runs with a shadow stack, which a heal's return would violate.
    ShadowStack,
    /// Its system calls come back to itself (prctl PR_SET_SYSCALL_USER_DISPATCH), and we are no guardian.
    UserDispatch,
    /// Its first thread has ended, and before Linux 6.9 nobody else has its descriptors for us.
    Leaderless,
    /// It was interrupted in a call made by other than the `syscall` instruction.
    ForeignCall,
    /// A process that shares its memory carries an envoy just now.
    Busy {
        /// The thread that carries it.
        tid: i32,
    },
    /// It made one of its own calls for the envoy and this failed: too many descriptors, too little memory.
    Setup(Fault),
    /// This call must not be made in a living process: it would not come back as the same thread, or would wipe out
    /// how its interrupted call is to be gone on with.
    Forbidden(Sys),
    /// The arguments of one call are larger than the arena.
    TooLarge(Sys),
    /// The envoy stopped answering.
    Silent,
}

impl fmt::Display for SeizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeizeError::Fault(fault) => fault.fmt(f),
            SeizeError::Died { pid } => write!(f, "{pid}: the process has ended"),
            SeizeError::Zombie { pid } => write!(f, "{pid}: the process is a zombie"),
            SeizeError::Traced { by } => write!(f, "process {by} already traces it"),
            SeizeError::ForeignMode { tid } => write!(f, "thread {tid} runs 32-bit code"),
            SeizeError::Stuck { tid } => {
                write!(f, "thread {tid} does not stop: it sleeps uninterruptibly")
            }
            SeizeError::Vforked { tid, child } => {
                write!(
                    f,
                    "thread {tid} cannot be stopped: it waits in vfork(2) for process {child} to execute a program or end"
                )
            }
            SeizeError::Restless { pid } => write!(f, "{pid}: its threads come and go faster than they can be stopped"),
        }
    }
}

impl fmt::Display for EnvoyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvoyError::Fault(fault) => fault.fmt(f),
            EnvoyError::Died { pid } => write!(f, "{pid}: the process has ended"),
            EnvoyError::NoRoom => {
                f.write_str("there is no room for the envoy behind its [vdso], nor a way to make some")
            }
            EnvoyError::NoStack => f.write_str("its stack pointer does not point into a writable stack"),
            EnvoyError::Seccomp => {
                f.write_str("its seccomp filter might kill it for the calls of the envoy, and may not be suspended")
            }
            EnvoyError::ShadowStack => f.write_str("it runs with a shadow stack"),
            EnvoyError::UserDispatch => {
                f.write_str("its system calls come back to itself (PR_SET_SYSCALL_USER_DISPATCH)")
            }
            EnvoyError::Leaderless => {
                f.write_str("its first thread has ended, and this kernel gives its descriptors to nobody")
            }
            EnvoyError::ForeignCall => f.write_str("it is in a system call made by an unusual instruction"),
            EnvoyError::Busy { tid } => {
                write!(f, "thread {tid}, which shares its memory, carries an envoy")
            }
            EnvoyError::Setup(fault) => write!(f, "it could not make room for the envoy: {fault}"),
            EnvoyError::Forbidden(sys) => write!(f, "{sys} must not be made in a living process"),
            EnvoyError::TooLarge(sys) => {
                write!(f, "the arguments of {sys} are larger than the arena")
            }
            EnvoyError::Silent => f.write_str("the envoy does not answer"),
        }
    }
}

impl std::error::Error for SeizeError {}
impl std::error::Error for EnvoyError {}

impl From<Fault> for SeizeError {
    fn from(fault: Fault) -> Self {
        SeizeError::Fault(fault)
    }
}

impl From<Fault> for EnvoyError {
    fn from(fault: Fault) -> Self {
        EnvoyError::Fault(fault)
    }
}
