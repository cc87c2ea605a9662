//! rseq: the C library's registration, by which the kernel writes the number of the processor at every return.

use crate::life::Living;
use crate::sys::{Outcome, must, same};

// SAFETY: glibc 2.35 and later defines both, with these types.
unsafe extern "C" {
    /// Where the area lies, from the thread pointer (`rseq` in the manual of glibc 2.35 and later).
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

pub(crate) fn start(_: &[String]) -> Result<Living, String> {
    follows()?;
    Living::reads(|_| follows())
}

/// Moves to every processor that we may use; the field must follow.
fn follows() -> Outcome {
    let allowed = affinity()?;
    // SAFETY: both are constants of the C library, written before main.
    same("size of the registration is not zero", &true, &(unsafe { __rseq_size } != 0))?;
    let mut cpus = (0..libc::CPU_SETSIZE as usize).filter(|cpu| has(&allowed, *cpu));
    let outcome = cpus.try_for_each(seen_on);
    set_affinity(&allowed)?;
    outcome
}

fn has(set: &libc::cpu_set_t, cpu: usize) -> bool {
    // SAFETY: the index is below CPU_SETSIZE.
    unsafe { libc::CPU_ISSET(cpu, set) }
}

fn seen_on(cpu: usize) -> Outcome {
    // SAFETY: zero is the empty set; the index is below CPU_SETSIZE.
    let mut only: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(cpu, &mut only) };
    set_affinity(&only)?;
    let fields = fields();
    same("cpu_id_start and cpu_id of rseq", &[cpu as u32; 2], &fields)
}

fn fields() -> [u32; 2] {
    let pointer: usize;
    // SAFETY: the first word of the thread control block is its own address (x86-64 TLS ABI).
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer) };
    // SAFETY: the C library keeps its rseq area there for the life of the thread; the kernel writes it, hence volatile.
    unsafe { std::ptr::read_volatile((pointer.wrapping_add_signed(__rseq_offset)) as *const [u32; 2]) }
}

fn affinity() -> Result<libc::cpu_set_t, String> {
    // SAFETY: zero is the empty set.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as long as we say.
    must("sched_getaffinity", unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    Ok(set)
}

fn set_affinity(set: &libc::cpu_set_t) -> Outcome {
    // SAFETY: the set is as long as we say.
    must("sched_setaffinity", unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) }).map(drop)
}
