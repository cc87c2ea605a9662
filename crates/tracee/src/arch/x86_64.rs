//! x86_64: the blob, and how an interrupted call is restarted.
//!
//! The blob is constant and position-independent. Its only state is in registers: rbp the data block (0: exit at EOF,
//! never heal), rbx the arena, r13 the socket, and while it sets itself up r12 the memfd and r14 the freezer's end. Behind it
//! stand two words: the data block of the thread to whom arena and socket belong, and the bits of its guests. Who is neither leaves
//! both alone; of the others the last that leaves undoes them.
//! The x87, SSE and AVX state is never touched, so none of it needs saving.

use abi::Errno;
use abi::x86_64::UserRegs;
use abi::x86_64::xstate::Component;
use std::arch::global_asm;

/// The machine of this module.
pub const MACHINE: abi::Machine = abi::Machine::X86_64;

/// Code segment of a 64-bit process (arch/x86/include/asm/segment.h, `__USER_CS`).
pub(crate) const CODE_SEGMENT: u64 = 0x33;

/// Below the stack pointer, the bytes that belong to the function that runs (System V psABI, 3.2.2).
pub const RED_ZONE: u64 = 128;

/// Registers that are neither stack nor instruction pointer, nor rax.
const GENERAL: usize = 14;
/// Bytes that a heal pops: those, rax, flags and instruction pointer.
const POPPED: u64 = (GENERAL as u64 + 3) * 8;
/// Bytes below the red zone that a heal writes, and some more: a thread in the envoy has its stack pointer below them.
pub const HEAL_STACK: u64 = POPPED + 16;

/// In the arena, after the two counts: who has left, by their bits.
const LEFT_AT: usize = 8;
/// Which guests have made their calls, likewise.
pub(crate) const DONE_AT: usize = 16;
/// The bit of the owner; the others are those of guests.
const OWNER: u64 = 1 << 63;
/// Then descriptors that a heal closes, 0 for none.
pub const SLOTS_AT: usize = 24;
/// How many.
pub const SLOTS: usize = 10;
/// Where the entries begin.
pub const ENTRIES_AT: usize = 64;
/// Bytes of an entry: number, six arguments, result, and for a clone the arena and the socket of the child.
pub const ENTRY: usize = 80;
/// With the number of the last one.
pub(crate) const LAST: u64 = 1 << 32;

/// What the blob reads beside its code; written by the freezer, the process only reads it.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Data {
    /// Bytes of the arena.
    pub arena_size: u64,
    /// Flags of the memfd_create.
    pub memfd_flags: u32,
    /// For how many seconds the thread waits before it goes home by itself.
    pub patience: u32,
    /// The thread's own signal mask.
    pub mask: u64,
    /// Signals that, when they pend at the heal, make the interrupted call end with EINTR.
    pub interrupting: u64,
    /// Where the thread goes on, and with which rax.
    pub rip: u64,
    /// See `rip`.
    pub rax: u64,
    /// Where it goes on when the call ends with EINTR.
    pub rip_interrupted: u64,
    /// The other registers.
    pub eflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// rbx rcx rdx rsi rdi rbp r8 … r15.
    pub general: [u64; GENERAL],
    /// The thread that they belong to.
    pub owner: u64,
    /// By which bit it says that it has left the arena.
    pub bit: u64,
}

/// Bytes of [`Data`].
pub const DATA: usize = size_of::<Data>();

impl Data {
    /// Its bytes, as they lie in the memory of the process.
    pub fn to_bytes(&self) -> [u8; DATA] {
        // SAFETY: `Data` is repr(C) and consists of u64s, but for two u32s in a row: it has no padding, and every byte is initialised.
        unsafe { std::mem::transmute::<Data, [u8; DATA]>(*self) }
    }

    /// Where `interrupting` stands in it.
    pub const INTERRUPTING_AT: u64 = std::mem::offset_of!(Data, interrupting) as u64;
    /// Where `owner` stands in it.
    pub const OWNER_AT: u64 = std::mem::offset_of!(Data, owner) as u64;
}

global_asm!(
    ".pushsection .rodata.tracee_blob,\"a\",@progbits",
    ".balign 16",
    "tracee_blob:",
    // memfd_create(name, flags) -> r12. The freezer sets its size: the RLIMIT_FSIZE of the victim must not count.
    "lea rdi, [rip + tracee_blob_name]",
    "mov esi, [rbp + {memfd_flags}]",
    "mov eax, 319",
    "syscall",
    "test rax, rax",
    "js tracee_blob_heal",
    "mov r12, rax",
    // mmap(0, size, READ|WRITE, SHARED, r12, 0) -> rbx
    "xor edi, edi",
    "mov rsi, [rbp + {arena_size}]",
    "mov edx, 3",
    "mov r10d, 1",
    "mov r8, r12",
    "xor r9d, r9d",
    "mov eax, 9",
    "syscall",
    "cmp rax, -4096",
    "ja tracee_blob_heal",
    "mov rbx, rax",
    // socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0, arena) -> r13, r14
    "mov edi, 1",
    "mov esi, 0x80005",
    "xor edx, edx",
    "mov r10, rbx",
    "mov eax, 53",
    "syscall",
    "test rax, rax",
    "jnz tracee_blob_heal",
    "mov r13d, [rbx]",
    "mov r14d, [rbx + 4]",
    // Without the freezer's end closed here there would be no EOF, ever.
    "mov rdi, r14",
    "mov eax, 3",
    "syscall",
    "or r14, -1",
    "mov rdi, r12",
    "mov eax, 3",
    "syscall",
    "or r12, -1",
    // read(r13, arena, 4): how many entries; all that there are, or none
    "tracee_blob_loop:",
    "mov rdi, r13",
    "mov rsi, rbx",
    "mov edx, 4",
    "xor eax, eax",
    "syscall",
    "cmp rax, 4",
    "jne tracee_blob_leave",
    "lea r12, [rbx + {entries}]",
    "cmp dword ptr [rbx], 0",
    "je 4f",
    "2:",
    // The child of a clone takes arena and socket from registers: the entry may be rewritten before it first runs.
    "mov r14, [r12 + 64]",
    "mov r15, [r12 + 72]",
    "mov eax, [r12]",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8, [r12 + 40]",
    "mov r9, [r12 + 48]",
    "syscall",
    "test rax, rax",
    "jnz 3f",
    "test r14, r14",
    "jz 3f",
    "mov rbx, r14",
    "mov r13, r15",
    "xor ebp, ebp",
    "jmp tracee_blob_loop",
    "3:",
    "mov [r12 + 56], rax",
    "add r12, {entry}",
    "test byte ptr [r12 - {entry} + 4], 1",
    "jz 2b",
    // A guest says so by its bit, and waits: nobody sends anything now.
    "test rbp, rbp",
    "jz 4f",
    "mov r15, [rbp + {bit}]",
    "test [rip + tracee_blob_end + 8], r15",
    "jz 4f",
    "lock or [rbx + {done_at}], r15",
    "jmp tracee_blob_loop",
    // sendto(r13, arena, 4, MSG_NOSIGNAL, 0, 0): done
    "4:",
    "mov rdi, r13",
    "mov rsi, rbx",
    "mov edx, 4",
    "mov r10d, 0x4000",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "mov eax, 44",
    "syscall",
    "cmp rax, 4",
    "je tracee_blob_loop",
    "jmp tracee_blob_leave",
    // A guest begins here, with the first of its entries in r12; it makes them if it is one already.
    "tracee_blob_guest:",
    "mov r15, [rbp + {bit}]",
    "test [rip + tracee_blob_end + 8], r15",
    "jnz 2b",
    "jmp tracee_blob_home",
    // The freezer is gone. No data block: nobody to heal, exit(0).
    "tracee_blob_leave:",
    "test rbp, rbp",
    "jnz 5f",
    "mov eax, 60",
    "xor edi, edi",
    "syscall",
    "ud2",
    // Who is neither the owner nor a guest has nothing to do with the arena. Nor has who leaves it, unless it is the last.
    "5:",
    "mov r15, [rbp + {bit}]",
    "mov rdx, [rip + tracee_blob_end + 8]",
    "cmp [rip + tracee_blob_end], rbp",
    "je 6f",
    "test rdx, r15",
    "jz tracee_blob_home",
    "6:",
    "bts rdx, 63",
    "mov rax, [rbx + {left_at}]",
    "7:",
    "mov rcx, rax",
    "or rcx, r15",
    "lock cmpxchg [rbx + {left_at}], rcx",
    "jne 7b",
    "and rcx, rdx",
    "cmp rcx, rdx",
    "jne tracee_blob_home",
    "or r12, -1",
    "or r14, -1",
    "xor r15d, r15d",
    "6:",
    "mov edi, [rbx + r15*4 + {slots_at}]",
    "test edi, edi",
    "jz 7f",
    "mov eax, 3",
    "syscall",
    "7:",
    "inc r15d",
    "cmp r15d, {slots}",
    "jb 6b",
    // What exists of socket, freezer's end, memfd and arena goes.
    "tracee_blob_heal:",
    "test r13, r13",
    "js 8f",
    "mov rdi, r13",
    "mov eax, 3",
    "syscall",
    "8:",
    "test r14, r14",
    "js 8f",
    "mov rdi, r14",
    "mov eax, 3",
    "syscall",
    "8:",
    "test r12, r12",
    "js 8f",
    "mov rdi, r12",
    "mov eax, 3",
    "syscall",
    "8:",
    "test rbx, rbx",
    "jz 8f",
    "mov rdi, rbx",
    "mov rsi, [rbp + {arena_size}]",
    "mov eax, 11",
    "syscall",
    "8:",
    "tracee_blob_home:",
    "mov r8, [rbp + {rsp}]",
    "lea r8, [r8 - {red_zone}]",
    // Whose process was stopped must not run as long as the freezer traces it: the end of that stops it anew. ppoll(0, 0, so long, 0)
    // leaves what the kernel has noted of an interrupted call alone.
    "mov eax, [rbp + {patience}]",
    "test eax, eax",
    "jz 8f",
    "xor edi, edi",
    "mov [r8 - 16], rax",
    "mov [r8 - 8], rdi",
    "xor esi, esi",
    "lea rdx, [r8 - 16]",
    "xor r10d, r10d",
    "mov eax, 271",
    "syscall",
    "8:",
    // rt_sigpending(below the red zone, 8): would the kernel have ended the call, or restarted it?
    "lea rdi, [r8 - 16]",
    "mov esi, 8",
    "mov eax, 127",
    "syscall",
    "mov rcx, [rbp + {rip}]",
    "mov rdx, [rbp + {rax}]",
    "test rax, rax",
    "jnz 9f",
    "mov rsi, [r8 - 16]",
    "test [rbp + {interrupting}], rsi",
    "jz 9f",
    "mov rcx, [rbp + {rip_interrupted}]",
    "mov rdx, -4",
    // What is to be popped, while the stack pointer is still below it, and below a data block that is on the stack.
    "9:",
    "mov [r8 - 8], rcx",
    "mov rcx, [rbp + {eflags}]",
    "mov [r8 - 16], rcx",
    "mov [r8 - 24], rdx",
    "lea rsi, [rbp + {general}]",
    "lea rdi, [r8 - {popped}]",
    "mov ecx, {general_count}",
    "rep movsq",
    // rt_sigprocmask(SIG_SETMASK, mask, 0, 8). From here on a handler may run, and another freezer may rewrite the
    // data block: what is left to do uses the stack only.
    "mov edi, 2",
    "lea rsi, [rbp + {mask}]",
    "xor edx, edx",
    "mov r10d, 8",
    "mov eax, 14",
    "syscall",
    "tracee_blob_pops:",
    "lea rsp, [r8 - {popped}]",
    "pop rbx",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "pop rax",
    "popfq",
    "ret {red_zone}",
    "tracee_blob_name:",
    ".asciz \"cryopid\"",
    ".balign 16",
    "tracee_blob_end:",
    ".popsection",
    memfd_flags = const std::mem::offset_of!(Data, memfd_flags),
    patience = const std::mem::offset_of!(Data, patience),
    arena_size = const std::mem::offset_of!(Data, arena_size),
    mask = const std::mem::offset_of!(Data, mask),
    bit = const std::mem::offset_of!(Data, bit),
    interrupting = const std::mem::offset_of!(Data, interrupting),
    rip = const std::mem::offset_of!(Data, rip),
    rax = const std::mem::offset_of!(Data, rax),
    rip_interrupted = const std::mem::offset_of!(Data, rip_interrupted),
    eflags = const std::mem::offset_of!(Data, eflags),
    rsp = const std::mem::offset_of!(Data, rsp),
    general = const std::mem::offset_of!(Data, general),
    general_count = const GENERAL,
    popped = const POPPED,
    red_zone = const RED_ZONE,
    left_at = const LEFT_AT,
    done_at = const DONE_AT,
    slots_at = const SLOTS_AT,
    slots = const SLOTS,
    entries = const ENTRIES_AT,
    entry = const ENTRY,
);

// SAFETY: the assembler above defines all of them as labels; only their addresses are taken.
#[allow(missing_docs)]
unsafe extern "C" {
    static tracee_blob: u8;
    static tracee_blob_loop: u8;
    static tracee_blob_leave: u8;
    static tracee_blob_guest: u8;
    static tracee_blob_pops: u8;
    static tracee_blob_end: u8;
}

/// The code of the envoy: constant, position-independent, about 700 bytes. Behind it belong two words: the address of the data block of
/// the thread that owns arena and socket, and the bits of its guests.
pub fn code() -> &'static [u8] {
    let (begin, end) = (&raw const tracee_blob, &raw const tracee_blob_end);
    // SAFETY: the assembler above laid both labels, in this order, into one read-only section, with constant bytes between.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// Where in [`code`] the loop begins: rbp, rbx and r13 set as the module says.
pub fn loop_at() -> u64 {
    ((&raw const tracee_blob_loop).addr() - (&raw const tracee_blob).addr()) as u64
}

/// Where in [`code`] everything is undone, as at EOF.
pub fn leave_at() -> u64 {
    ((&raw const tracee_blob_leave).addr() - (&raw const tracee_blob).addr()) as u64
}

/// Where in [`code`] the last call has been made, and only registers are to be popped.
pub(crate) fn pops_at() -> u64 {
    ((&raw const tracee_blob_pops).addr() - (&raw const tracee_blob).addr()) as u64
}

/// Whether a thread that stands so far into [`code`] has made its last call there.
pub(crate) fn is_behind_last_call(at: u64) -> bool {
    at >= pops_at()
}

/// Where in [`code`] a guest begins.
fn guest_at() -> u64 {
    ((&raw const tracee_blob_guest).addr() - (&raw const tracee_blob).addr()) as u64
}

/// XCR0, or what a processor without XSAVE has: x87 and SSE (Intel SDM volume 2, CPUID leaf 1, XGETBV).
pub(crate) fn xfeatures() -> u64 {
    const OSXSAVE: u32 = 1 << 27;
    if std::arch::x86_64::__cpuid(1).ecx & OSXSAVE == 0 {
        return 3;
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that the instruction is there and allowed; register 0 always exists.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(low) | u64::from(high) << 32
}

/// Where this processor has the components of an extended state behind the legacy area (CPUID leaf 0xd).
pub(crate) fn components() -> Vec<Component> {
    const LEAF: u32 = 0xd;
    let told = |bit| (bit, std::arch::x86_64::__cpuid_count(LEAF, bit));
    let there = (2..63).filter(|bit| xfeatures() >> bit & 1 == 1).map(told);
    there.map(|(bit, told)| Component { bit, at: told.ebx as usize, len: told.eax as usize }).collect()
}

/// Jumps into the loop of the envoy at `at`, never to heal and never to return.
///
/// # Safety
/// The code of the blob must be at `at`, and `arena` and `socket` be what its loop takes them for.
pub(crate) unsafe fn begin(at: u64, arena: u64, socket: u64) -> ! {
    // SAFETY: the caller's promise; the loop uses no stack, and rbp 0 makes it exit at the end of the socket.
    unsafe {
        std::arch::asm!(
            "mov rbx, rcx",
            "mov r13, rdx",
            "xor ebp, ebp",
            "jmp rax",
            in("rax") at,
            in("rcx") arena,
            in("rdx") socket,
            options(noreturn),
        )
    }
}

/// Errors with which the kernel marks a call to be restarted; no program ever sees them (include/linux/errno.h).
mod restart {
    pub(super) const SYS: i64 = -512;
    pub(super) const NOINTR: i64 = -513;
    pub(super) const NOHAND: i64 = -514;
    pub(super) const BLOCK: i64 = -516;
}

/// How a thread got out of its system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupted {
    /// It was in none, or the call is done.
    No,
    /// Made again, whatever signal came (ERESTARTNOINTR).
    Always,
    /// Made again, unless a handler runs (ERESTARTNOHAND).
    UnlessHandler,
    /// Made again, unless a handler without SA_RESTART runs (ERESTARTSYS).
    UnlessHandlerWithoutRestart,
    /// Gone on with by restart_syscall(2), unless a handler runs (ERESTART_RESTARTBLOCK).
    Continued,
}

/// What the registers of a stopped thread tell about its system call (arch/x86/kernel/signal.c, `handle_signal`).
pub(crate) fn interrupted(regs: &UserRegs) -> Interrupted {
    if (regs.orig_rax as i64) < 0 {
        return Interrupted::No;
    }
    match regs.rax as i64 {
        restart::SYS => Interrupted::UnlessHandlerWithoutRestart,
        restart::NOINTR => Interrupted::Always,
        restart::NOHAND => Interrupted::UnlessHandler,
        restart::BLOCK => Interrupted::Continued,
        _ => Interrupted::No,
    }
}

/// Calls that end with a plain EINTR whenever their thread is stopped, handler or not (signal(7), "Interruption of
/// system calls and library functions by stop signals"; sockets only with a timeout).
const ENDS_AT_STOP: [u64; 20] = [
    0,   // read: sockets with a timeout
    1,   // write: likewise
    43,  // accept
    44,  // sendto
    45,  // recvfrom
    46,  // sendmsg
    47,  // recvmsg
    65,  // semop
    69,  // msgsnd
    70,  // msgrcv
    128, // rt_sigtimedwait
    208, // io_getevents
    220, // semtimedop
    232, // epoll_wait
    281, // epoll_pwait
    288, // accept4
    299, // recvmmsg
    333, // io_pgetevents
    426, // io_uring_enter
    441, // epoll_pwait2
];

/// Calls among them whose timeout, an int of milliseconds, stands in r10 (232 epoll_wait, 281 epoll_pwait).
const TIMED_BY_REGISTER: [u64; 2] = [232, 281];

/// The registers that make the kernel itself do the right thing with a call which our stop ended by EINTR: EINTR if a
/// handler runs, the call again if none does; an epoll_wait that has waited for `idle` nanoseconds, with the time that is
/// left. `None`: they are right as they are.
pub(crate) fn without_spurious_eintr(regs: &UserRegs, idle: impl FnOnce() -> u64) -> Option<UserRegs> {
    let ours = regs.rax as i64 == -i64::from(libc::EINTR) && ENDS_AT_STOP.contains(&regs.orig_rax);
    ours.then(|| {
        let timed = TIMED_BY_REGISTER.contains(&regs.orig_rax);
        let r10 = if timed { time_left(regs.r10, idle() / 1_000_000) } else { regs.r10 };
        UserRegs { rax: restart::NOHAND as u64, r10, ..*regs }
    })
}

/// At least one millisecond of a timeout that is not zero: r10 is no register that outlives a call of libc, but a program
/// that makes its calls itself might use it again, and would never sleep with none. Negative: no timeout.
fn time_left(timeout: u64, waited: u64) -> u64 {
    match timeout as u32 as i32 {
        asked @ 1.. => (asked as u64).saturating_sub(waited).max(1),
        _ => timeout,
    }
}

/// The number of restart_syscall(2).
const RESTART_SYSCALL: u64 = 219;
/// The registers with which a call that the kernel would go on with is made once more instead, and the call by which it would
/// go on. `None`: it is no such call.
pub(crate) fn begun_anew(regs: &UserRegs) -> Option<(UserRegs, abi::seccomp::Data)> {
    let anew = UserRegs { rax: restart::NOHAND as u64, ..*regs };
    let goes_on = abi::seccomp::Data::of(RESTART_SYSCALL, regs);
    (interrupted(regs) == Interrupted::Continued && regs.orig_rax != RESTART_SYSCALL).then_some((anew, goes_on))
}

/// Bytes of the `syscall` instruction.
pub(crate) const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The data block that brings a thread back to where `regs` say it is.
pub(crate) fn data(regs: &UserRegs, mask: u64, interrupting: u64, arena_size: u64, owner: u64) -> Data {
    let (rip, rax) = match interrupted(regs) {
        Interrupted::No => (regs.rip, regs.rax),
        Interrupted::Continued => (regs.rip - SYSCALL.len() as u64, RESTART_SYSCALL),
        _ => (regs.rip - SYSCALL.len() as u64, regs.orig_rax),
    };
    Data {
        arena_size,
        memfd_flags: 0,
        patience: 0,
        mask,
        interrupting,
        rip,
        rax,
        rip_interrupted: regs.rip,
        eflags: regs.eflags,
        rsp: regs.rsp,
        general: [
            regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8, regs.r9, regs.r10, regs.r11, regs.r12,
            regs.r13, regs.r14, regs.r15,
        ],
        owner,
        bit: OWNER,
    }
}

/// eflags of a process that was just executed: interrupts on, all else clear.
pub(crate) const PLAIN_FLAGS: u64 = 0x202;
/// No system call is in progress: nothing for the kernel to restart.
const NO_CALL: u64 = u64::MAX;
/// In place of a descriptor: there is none.
const NO_FD: u64 = u64::MAX;

/// The registers with which a thread begins the blob at `code`, its data block at `data`.
pub(crate) fn enter(regs: &UserRegs, code: u64, data: u64) -> UserRegs {
    UserRegs {
        rip: code,
        rsp: regs.rsp.wrapping_sub(RED_ZONE + HEAL_STACK),
        rbp: data,
        rbx: 0,
        r12: NO_FD,
        r13: NO_FD,
        r14: NO_FD,
        orig_rax: NO_CALL,
        eflags: PLAIN_FLAGS,
        ..*regs
    }
}

/// The registers with which a thread that stands in the loop undoes everything.
pub(crate) fn undo(regs: &UserRegs, code: u64) -> UserRegs {
    UserRegs { rip: code + leave_at(), orig_rax: NO_CALL, ..*regs }
}

/// Those with which a thread that stands elsewhere, as `regs` say, would leave in place of one that stands in the loop, as
/// `inside` says.
pub(crate) fn stand_in(regs: &UserRegs, inside: &UserRegs, code: u64, data: u64) -> UserRegs {
    let (rbx, r13) = (inside.rbx, inside.r13);
    UserRegs { rbx, r13, ..undo(&enter(regs, code, data), code) }
}

/// The registers with which a thread begins as a guest: its data block at `data`, its first entry, the arena and the socket.
pub(crate) fn visit(regs: &UserRegs, code: u64, data: u64, [entry, arena, socket]: [u64; 3]) -> UserRegs {
    let begins = UserRegs { rip: code + guest_at(), rsp: data, rbx: arena, r12: entry, r13: socket, ..*regs };
    UserRegs { rbp: data, orig_rax: NO_CALL, eflags: PLAIN_FLAGS, ..begins }
}

/// Calls in which threads often sleep, and for which the kernel does not note a mask to be put back after them, as it does for sigsuspend(2),
/// ppoll(2) and the like (include/linux/sched/signal.h, `set_restore_sigmask`).
const NOTE_NO_MASK: [u64; 13] = [
    0,   // read
    1,   // write
    7,   // poll
    34,  // pause
    35,  // nanosleep
    43,  // accept
    45,  // recvfrom
    47,  // recvmsg
    61,  // wait4
    202, // futex
    230, // clock_nanosleep
    232, // epoll_wait
    288, // accept4
];

/// Whether the kernel may have noted a mask for a thread that stands there.
pub(crate) fn may_note_mask(regs: &UserRegs) -> bool {
    regs.orig_rax != NO_CALL && !NOTE_NO_MASK.contains(&regs.orig_rax)
}

/// Those with which it goes into the loop after that.
pub(crate) fn take_over(standing_in: &UserRegs, code: u64) -> UserRegs {
    UserRegs { rip: code + loop_at(), ..*standing_in }
}

/// The registers with which the kernel leaves out the call at whose entry the thread stands.
pub(crate) fn skip(regs: &UserRegs) -> UserRegs {
    UserRegs { orig_rax: NO_CALL, ..*regs }
}

/// The registers with which the call at whose entry the thread stands takes these pages away, also those in which it stands.
pub(crate) fn unmap(regs: &UserRegs, at: u64, len: u64) -> UserRegs {
    UserRegs { orig_rax: calls::MUNMAP, rdi: at, rsi: len, ..*regs }
}

/// The registers with which a thread that stands at the entry of a call comes there once more. There the kernel has noted
/// ENOSYS as its answer (arch/x86/entry/entry_64.S).
pub(crate) fn before_call(regs: &UserRegs) -> Option<UserRegs> {
    let is_entry = regs.orig_rax != NO_CALL && Errno::from_raw(regs.rax) == Err(Errno::ENOSYS);
    let before = || UserRegs { rip: regs.rip - SYSCALL.len() as u64, rax: regs.orig_rax, ..skip(regs) };
    is_entry.then(before)
}

/// The calls that the blob makes for itself, in their order, as the tracer sees them.
pub(crate) mod calls {
    pub(crate) const MEMFD_CREATE: u64 = 319;
    pub(crate) const MMAP: u64 = 9;
    /// In place of the last one, when the envoy has a page of its own.
    pub(crate) const MUNMAP: u64 = 11;
    pub(crate) const SOCKETPAIR: u64 = 53;
    pub(crate) const CLOSE: u64 = 3;
    pub(crate) const RT_SIGPENDING: u64 = 127;
    /// Where it waits before that, if it does.
    pub(crate) const PPOLL: u64 = 271;
    /// The last: behind it there are only the registers to be popped.
    pub(crate) const RT_SIGPROCMASK: u64 = 14;
}

/// Where that lies which a thread pops, just behind its last call.
pub(crate) fn to_be_popped(regs: &UserRegs) -> u64 {
    regs.r8 - POPPED
}

/// The registers that it has once it has popped that.
pub(crate) fn popped(regs: &UserRegs, words: &[u64; (POPPED / 8) as usize]) -> UserRegs {
    let [rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rax, eflags, rip] = *words;
    let rsp = regs.r8 + RED_ZONE;
    let general = UserRegs { rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, ..*regs };
    UserRegs { rax, eflags, rip, rsp, orig_rax: NO_CALL, ..general }
}

/// The envoy's end of the socket.
pub(crate) fn socket(regs: &UserRegs) -> u64 {
    regs.r13
}

/// The freezer's end of the socket, while the thread still holds it.
pub(crate) fn peer(regs: &UserRegs) -> i32 {
    regs.r14 as i32
}
