//! The registers of the machine: general, flags, x87, SSE control, AVX or AVX-512 with its masks, the GS base.
//!
//! The loop is in assembly and spends nearly all its time with every register holding a known value, so a freeze at a
//! random instant finds them live. What the loop saw at its end is written beside what it was given.

use crate::life::Living;
use crate::sys::{self, Outcome, must, same};
use std::arch::global_asm;

/// Shared with the assembly below: the offsets there are those of these fields.
#[repr(C)]
#[derive(Clone)]
struct Block {
    given: [u64; 15],
    rounds: u64,
    seen: [u64; 15],
    flags: u64,
    width: u64,
    control: u32,
    mxcsr: u32,
    control_seen: u32,
    mxcsr_seen: u32,
    x87: [f64; 3],
    x87_seen: [f64; 3],
    masks: [u64; 8],
    masks_seen: [u64; 8],
    vectors: [[u64; 8]; 32],
    vectors_seen: [[u64; 8]; 32],
}

const DIRECTION: u64 = 1 << 10;

global_asm!(
    r#"
    .globl specimen_spin
specimen_spin:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 136
    mov [rsp+128], rdi
    mov rax, [rdi+120]
    mov [rsp+120], rax
    xor ecx, ecx
2:  mov rax, [rdi+rcx*8]
    mov [rsp+rcx*8], rax
    inc ecx
    cmp ecx, 15
    jb 2b

    fninit
    fldcw [rdi+264]
    ldmxcsr [rdi+268]
    fld qword ptr [rdi+280]
    fld qword ptr [rdi+288]
    fld qword ptr [rdi+296]
    cmp qword ptr [rdi+256], 64
    jne 3f
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 zmm\n, [rdi+456+64*\n]
    .endr
    .irp n,1,2,3,4,5,6,7
    kmovw k\n, [rdi+328+8*\n]
    .endr
    jmp 4f
3:  cmp qword ptr [rdi+256], 32
    jne 5f
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu ymm\n, [rdi+456+64*\n]
    .endr
    jmp 4f
5:
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu xmm\n, [rdi+456+64*\n]
    .endr
4:
    pushfq
    or dword ptr [rsp], 0x400
    popfq
    mov rax, [rsp]
    mov rbx, [rsp+8]
    mov rcx, [rsp+16]
    mov rdx, [rsp+24]
    mov rsi, [rsp+32]
    mov rdi, [rsp+40]
    mov rbp, [rsp+48]
    mov r8, [rsp+56]
    mov r9, [rsp+64]
    mov r10, [rsp+72]
    mov r11, [rsp+80]
    mov r12, [rsp+88]
    mov r13, [rsp+96]
    mov r14, [rsp+104]
    mov r15, [rsp+112]
6:  cmp rax, [rsp]
    jne 7f
    cmp rbx, [rsp+8]
    jne 7f
    cmp rcx, [rsp+16]
    jne 7f
    cmp rdx, [rsp+24]
    jne 7f
    cmp rsi, [rsp+32]
    jne 7f
    cmp rdi, [rsp+40]
    jne 7f
    cmp rbp, [rsp+48]
    jne 7f
    cmp r8, [rsp+56]
    jne 7f
    cmp r9, [rsp+64]
    jne 7f
    cmp r10, [rsp+72]
    jne 7f
    cmp r11, [rsp+80]
    jne 7f
    cmp r12, [rsp+88]
    jne 7f
    cmp r13, [rsp+96]
    jne 7f
    cmp r14, [rsp+104]
    jne 7f
    cmp r15, [rsp+112]
    jne 7f
    dec qword ptr [rsp+120]
    jnz 6b

7:  xchg rdi, [rsp+128]
    mov [rdi+128], rax
    mov [rdi+136], rbx
    mov [rdi+144], rcx
    mov [rdi+152], rdx
    mov [rdi+160], rsi
    mov rax, [rsp+128]
    mov [rdi+168], rax
    mov [rdi+176], rbp
    mov [rdi+184], r8
    mov [rdi+192], r9
    mov [rdi+200], r10
    mov [rdi+208], r11
    mov [rdi+216], r12
    mov [rdi+224], r13
    mov [rdi+232], r14
    mov [rdi+240], r15
    pushfq
    pop rax
    mov [rdi+248], rax
    cld
    fnstcw [rdi+272]
    stmxcsr [rdi+276]
    fstp qword ptr [rdi+320]
    fstp qword ptr [rdi+312]
    fstp qword ptr [rdi+304]
    cmp qword ptr [rdi+256], 64
    jne 3f
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 [rdi+2504+64*\n], zmm\n
    .endr
    .irp n,1,2,3,4,5,6,7
    kmovw [rdi+392+8*\n], k\n
    .endr
    vzeroupper
    jmp 4f
3:  cmp qword ptr [rdi+256], 32
    jne 5f
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu [rdi+2504+64*\n], ymm\n
    .endr
    vzeroupper
    jmp 4f
5:
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu [rdi+2504+64*\n], xmm\n
    .endr
4:
    fninit
    push 0x1f80
    ldmxcsr [rsp]
    pop rax
    add rsp, 136
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#
);

// SAFETY: the assembler above defines it, with this argument in rdi and the calling convention of C.
unsafe extern "C" {
    fn specimen_spin(block: *mut Block);
}

/// `arch_prctl(2)`: the codes are not in libc.
const ARCH_SET_GS: i32 = 0x1001;
const ARCH_GET_GS: i32 = 0x1004;
const GS: u64 = 0x0000_1234_5678_9000;

pub(crate) fn start(_: &[String]) -> Result<Living, String> {
    // SAFETY: nothing in this program uses the GS base.
    must("ARCH_SET_GS", unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, GS) })?;
    let mut block = Box::new(block());
    let mut spare = Box::new(block.as_ref().clone());
    Living::busy(move || spin(&mut block), move |_| spin(&mut spare).and_then(|()| gs_base()))
}

fn gs_base() -> Outcome {
    let mut base = 0u64;
    // SAFETY: the kernel writes eight bytes to a variable of ours.
    must("ARCH_GET_GS", unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut base) })?;
    same("GS base", &GS, &base)
}

fn block() -> Block {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut block: Block = unsafe { std::mem::zeroed() };
    block.given = std::array::from_fn(|at| 0xa5a5_0000_0000_0000 | (at as u64) << 32 | 0xdead_beef);
    block.rounds = 2_000_000;
    block.width = width();
    // Both control words differ from what every program starts with: rounding up, 53 bits; rounding down, flush to zero.
    (block.control, block.mxcsr) = (0x0a7f, 0xbf80);
    block.x87 = [1.5, -2.25, 1e100];
    block.masks = std::array::from_fn(|at| if at == 0 { 0 } else { 0x1111 * at as u64 });
    block.vectors = std::array::from_fn(|at| vector(at as u64, block.width));
    block
}

fn width() -> u64 {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx")) {
        (true, _) => 64,
        (_, true) => 32,
        _ => 16,
    }
}

fn vector(register: u64, width: u64) -> [u64; 8] {
    let exists = width == 64 || register < 16;
    std::array::from_fn(|lane| {
        if exists && 8 * (lane as u64) < width { register << 56 | (lane as u64) << 48 | 0xc0de } else { 0 }
    })
}

fn spin(block: &mut Block) -> Outcome {
    // SAFETY: the block is ours, its layout is what the assembly was written for, and the feature of `width` is there.
    unsafe { specimen_spin(block) };
    same("general registers", &block.given, &block.seen)?;
    same("flags", &DIRECTION, &(block.flags & DIRECTION))?;
    same("x87 control word", &(block.control & 0xffff), &(block.control_seen & 0xffff))?;
    same("mxcsr", &(block.mxcsr & 0xffc0), &(block.mxcsr_seen & 0xffc0))?;
    same("x87 stack", &block.x87, &block.x87_seen)?;
    same_vectors(block)
}

fn same_vectors(block: &Block) -> Outcome {
    if block.width == 64 {
        same("mask registers", &block.masks, &block.masks_seen)?;
    }
    for (register, (given, seen)) in block.vectors.iter().zip(&block.vectors_seen).enumerate() {
        same(&format!("vector register {register}"), given, seen)?;
    }
    Ok(())
}

/// The signal mask, a handler at a high rate and live vector registers together: the state in which a heal is hardest.
pub(crate) fn storm(_: &[String]) -> Result<Living, String> {
    crate::signals::catch(libc::SIGALRM)?;
    crate::timers::every_microseconds(libc::ITIMER_REAL, 500)?;
    let mut block = Box::new(block());
    block.rounds = 100_000;
    let mut spare = Box::new(block.as_ref().clone());
    Living::busy(move || spin(&mut block), move |_| spin(&mut spare).and_then(|()| still_ringing()))
}

fn still_ringing() -> Outcome {
    let before = crate::signals::count(libc::SIGALRM);
    sys::soon("the next SIGALRM", || crate::signals::count(libc::SIGALRM) > before)
}
