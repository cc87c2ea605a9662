//! Filters of system calls (seccomp(2)): what the kernel tells of them, and what they would say of a call.

use crate::x86_64::UserRegs;

/// One filter, as it was installed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Its program: `struct sock_filter`, eight bytes each.
    pub program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_LOG: what it does is logged.
    pub log: bool,
}

/// What the kernel gives a filter to look at: `struct seccomp_data` (linux/seccomp.h).
#[derive(Clone, Copy, Debug)]
pub struct Data([u8; 64]);

/// AUDIT_ARCH_X86_64 (linux/audit.h).
const ARCH: u32 = 0xc000_003e;
/// SECCOMP_RET_ALLOW and SECCOMP_RET_LOG: the call is made.
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
/// SECCOMP_RET_USER_NOTIF: another process answers.
const USER_NOTIF: u32 = 0x7fc0_0000;
/// SECCOMP_RET_ACTION_FULL.
const ACTION: u32 = 0xffff_0000;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;

/// An instruction of classic BPF (linux/filter.h, `struct sock_filter`).
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

fn instructions(program: &[u8]) -> Vec<Instruction> {
    let one = |b: &[u8]| Instruction {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    program.chunks_exact(8).map(one).collect()
}

impl Data {
    /// The call with this number that a thread with these registers would make: they stand behind its instruction.
    pub fn of(number: u64, regs: &UserRegs) -> Data {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&ARCH.to_ne_bytes());
        let words = [regs.rip, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        data[8..].copy_from_slice(&words.map(u64::to_ne_bytes).concat());
        Data(data)
    }

    fn word(&self, at: u32) -> u32 {
        self.0.get(at as usize..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
    }
}

/// Whether all of these filters let the call be made: of several the strictest decides (seccomp(2)).
#[inline(never)]
pub fn allow(filters: &[Filter], data: &Data) -> bool {
    filters.iter().all(|f| matches!(run(&instructions(&f.program), data) & ACTION, ALLOW | LOG))
}

impl Filter {
    /// Whether there is a call that it leaves to a listener.
    pub fn notifies(&self) -> bool {
        instructions(&self.program).iter().any(|i| i.code == RETURN && i.k & ACTION == USER_NOTIF)
    }
}

/// What a program returns: as in kernel/seccomp.c, `seccomp_check_filter`, whose instructions these are. Jumps go forward
/// only; whatever no kernel would have taken returns 0, which kills.
fn run(program: &[Instruction], data: &Data) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    while let Some(i) = program.get(at) {
        at += 1;
        let cell = i.k as usize % memory.len();
        let source = if i.code & 0x08 == 0 { i.k } else { x };
        match (i.code & 7, i.code) {
            (0, 0x20) => a = data.word(i.k),
            (0, 0x80) => a = 64,
            (1, 0x81) => x = 64,
            (0, 0x00) => a = i.k,
            (1, 0x01) => x = i.k,
            (0, 0x60) => a = memory[cell],
            (1, 0x61) => x = memory[cell],
            (2, _) => memory[cell] = a,
            (3, _) => memory[cell] = x,
            (4, code) => match calculate(code & 0xf0, a, source) {
                Some(result) => a = result,
                None => return 0,
            },
            (5, 0x05) => at += i.k as usize,
            (5, code) => {
                let holds = match code & 0xf0 {
                    0x10 => a == source,
                    0x20 => a > source,
                    0x30 => a >= source,
                    _ => a & source != 0,
                };
                at += usize::from(if holds { i.jt } else { i.jf });
            }
            (6, RETURN) => return i.k,
            (6, _) => return a,
            (7, 0x07) => x = a,
            (7, 0x87) => a = x,
            _ => return 0,
        }
    }
    0
}

/// BPF_ADD and the like; `None`: a division by zero, which ends a program.
fn calculate(operation: u16, a: u32, with: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(with),
        0x10 => a.wrapping_sub(with),
        0x20 => a.wrapping_mul(with),
        0x30 => a.checked_div(with)?,
        0x40 => a | with,
        0x50 => a & with,
        0x60 => a.wrapping_shl(with),
        0x70 => a.wrapping_shr(with),
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ with,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(program: &[(u16, u8, u8, u32)]) -> Filter {
        let bytes = |(code, jt, jf, k): &(u16, u8, u8, u32)| {
            [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()[..]].concat()
        };
        Filter { program: program.iter().flat_map(bytes).collect(), log: false }
    }

    fn call(number: u64) -> Data {
        Data::of(number, &UserRegs { rdi: 7, rsi: 1 << 32, rip: 0x1234, ..UserRegs::default() })
    }

    /// Allows call `number`, and kills at all others.
    fn only(number: u32) -> Filter {
        filter(&[(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, ALLOW), (6, 0, 0, 0)])
    }

    #[test]
    fn a_call_is_made_when_every_filter_says_so() {
        assert!(allow(&[], &call(219)));
        assert!(allow(&[only(219)], &call(219)));
        assert!(!allow(&[only(219)], &call(35)));
        assert!(!allow(&[only(35), only(219)], &call(219)));
        let logs = filter(&[(6, 0, 0, LOG | 5)]);
        let fails = filter(&[(6, 0, 0, 0x0005_0001)]);
        assert_eq!((allow(&[logs], &call(1)), allow(&[fails], &call(1))), (true, false));
    }

    #[test]
    fn programs_look_at_machine_and_arguments_and_calculate() {
        let machine = filter(&[(0x20, 0, 0, 4), (0x15, 1, 0, ARCH), (6, 0, 0, 0), (6, 0, 0, ALLOW)]);
        assert!(allow(&[machine], &call(0)));
        // ((7 + 3) * 4 >> 2) ^ 2 in the low half of the first argument, kept and taken again, is 8; and the high half of the
        // second is 1.
        let words = filter(&[
            (0x20, 0, 0, 16),
            (0x04, 0, 0, 3),
            (0x24, 0, 0, 4),
            (0x74, 0, 0, 2),
            (0xa4, 0, 0, 2),
            (0x02, 0, 0, 3),
            (0x00, 0, 0, 0),
            (0x61, 0, 0, 3),
            (0x87, 0, 0, 0),
            (0x15, 0, 3, 8),
            (0x20, 0, 0, 28),
            (0x45, 0, 1, 1),
            (6, 0, 0, ALLOW),
            (6, 0, 0, 0),
        ]);
        assert!(allow(&[words], &call(0)));
    }

    #[test]
    fn what_no_kernel_takes_kills() {
        for program in [&[][..], &[(0x34, 0, 0, 0), (6, 0, 0, ALLOW)], &[(0x28, 0, 0, 0)], &[(5, 0, 0, u32::MAX)]] {
            assert!(!allow(&[filter(program)], &call(0)), "{program:?}");
        }
    }

    #[test]
    fn a_filter_with_a_listener_is_known() {
        assert!(filter(&[(6, 0, 0, USER_NOTIF)]).notifies());
        assert!(!only(3).notifies());
    }
}
