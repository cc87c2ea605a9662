//! The bytes of kernel structures, against offsets that a C compiler told of the kernel's headers, and against
//! registers recorded of a real thread.

use abi::layout::*;
use abi::signal::{self, KernelSigaction, SigSet, Siginfo, StackT};
use abi::x86_64::{DispatchConfiguration, RseqConfiguration, RseqCs, UserRegs, xstate};

const REGS: &[u8] = include_bytes!("samples/regs");
const XSTATE: &[u8] = include_bytes!("samples/xstate");

/// Bytes that tell where they stand.
fn ramp<const N: usize>() -> [u8; N] {
    std::array::from_fn(|i| i as u8 + 1)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

macro_rules! without_padding {
    ($($test:ident $name:ty;)*) => { $(
        #[test]
        fn $test() {
            let bytes: [u8; <$name>::SIZE] = ramp();
            assert_eq!(<$name>::from_bytes(&bytes).unwrap().to_bytes(), bytes);
            assert!(<$name>::from_bytes(&bytes[1..]).is_none());
        }
    )* };
}

without_padding! {
    prctl_mm_map PrctlMmMap;
    clone_args CloneArgs;
    sched_attr SchedAttr;
    itimerval Itimerval;
    itimerspec Itimerspec;
    rlimit Rlimit64;
    termios Termios;
    winsize Winsize;
    cap_header CapHeader;
    cap_data CapData;
    kernel_sigaction KernelSigaction;
    rseq_cs RseqCs;
    dispatch_configuration DispatchConfiguration;
    user_regs UserRegs;
    sembuf Sembuf;
}

#[test]
fn what_tells_of_system_v_ipc() {
    let shm = Shmid::from_bytes(&ramp::<112>()).unwrap();
    assert_eq!((shm.perm.mode, shm.size, shm.cpid), (0x1817_1615, 0x3837_3635_3433_3231, 0x5453_5251));
    assert_eq!((shm.lpid, shm.attached), (0x5857_5655, 0x605f_5e5d_5c5b_5a59));
    assert_eq!(Semid::from_bytes(&ramp::<104>()).unwrap().count, 0x5857_5655_5453_5251);
    let msg = Msqid::from_bytes(&ramp::<120>()).unwrap();
    assert_eq!((msg.bytes, msg.limit), (0x504f_4e4d_4c4b_4a49, 0x605f_5e5d_5c5b_5a59));
    assert_eq!((msg.lspid, msg.lrpid), (0x6463_6261, 0x6867_6665));
}

#[test]
fn pointers_stand_where_they_are_said_to() {
    let map = PrctlMmMap { auxv: 0x1122, auxv_size: 0x33, exe_fd: u32::MAX, ..Default::default() };
    let bytes = map.to_bytes();
    assert_eq!(word(&bytes, PrctlMmMap::AUXV_AT), 0x1122);
    assert_eq!(word(&bytes, 96), 0xffff_ffff_0000_0033);
    let clone = CloneArgs { set_tid: 0x4455, set_tid_size: 2, ..Default::default() };
    assert_eq!(word(&clone.to_bytes(), CloneArgs::SET_TID_AT), 0x4455);
}

#[test]
fn what_fstat_fills() {
    let stat = FileStat::from_bytes(&ramp::<144>()).unwrap();
    assert_eq!(stat.nlink, 0x1817_1615_1413_1211);
    assert_eq!((stat.mode, stat.uid, stat.gid), (0x1c1b_1a19, 0x201f_1e1d, 0x2423_2221));
    assert_eq!((stat.rdev as u8, stat.size as u8, stat.blksize as u8), (41, 49, 57));
    assert_eq!((stat.blocks as u8, stat.atime.sec as u8), (65, 73));
    assert_eq!((stat.mtime.sec as u8, stat.mtime.nsec as u8), (89, 97));
}

#[test]
fn terminal_settings() {
    let termios = Termios::from_bytes(&ramp::<36>()).unwrap();
    assert_eq!((termios.line, termios.cc[0], termios.cc[18]), (17, 18, 36));
}

#[test]
fn a_timer_that_tells_a_thread() {
    let event = Sigevent { value: 7, signo: 10, notify: 4, tid: 99 };
    let bytes = event.to_bytes();
    assert_eq!((bytes.len(), bytes[0], bytes[8], bytes[12], bytes[16]), (64, 7, 10, 4, 99));
    assert_eq!(Sigevent::from_bytes(&bytes), Some(event));
}

#[test]
fn capabilities_are_split_in_halves() {
    let data = CapData { effective: 1 << 40, permitted: 0x1_0000_0002, inheritable: 3 };
    let bytes = data.to_bytes();
    assert_eq!(bytes.len(), 24);
    assert_eq!((word(&bytes, 0), word(&bytes, 8)), (2 << 32, 3 | 0x100 << 32));
    assert_eq!(bytes[16..], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(CapData::from_bytes(&bytes), Some(data));
    assert_eq!(CapHeader::v3(7).to_bytes(), [0x22, 0x05, 0x08, 0x20, 7, 0, 0, 0]);
}

#[test]
fn nanoseconds() {
    let time = Timespec { sec: 3, nsec: 5 };
    assert_eq!(Timespec::from_nanos(3_000_000_005), time);
    assert_eq!(time.to_nanos(), Some(3_000_000_005));
    assert_eq!(Timespec { sec: -1, nsec: 0 }.to_nanos(), None);
    assert_eq!(Timespec { sec: i64::MAX, nsec: 0 }.to_nanos(), None);
}

#[test]
fn sets_of_signals() {
    let set: SigSet = [signal::SIGINT, 64].into_iter().collect();
    assert_eq!(set, SigSet(0x8000_0000_0000_0002));
    assert!(set.contains(64) && !set.contains(63) && !set.contains(0) && !set.contains(65));
    assert_eq!(set.iter().collect::<Vec<_>>(), [2, 64]);
    assert_eq!(set.to_string(), "SIGINT SIGRTMIN+32");
    assert_eq!(set.without(64).with(-1), SigSet(2));
    assert_eq!(SigSet::from_bytes(&set.to_bytes()), Some(set));
    assert_eq!(SigSet::ALL.iter().count(), 64);
}

#[test]
fn names_of_signals() {
    let names = [1, 9, 17, 31, 32, 34, 64, 65, 0].map(signal::name);
    let expected =
        ["SIGHUP", "SIGKILL", "SIGCHLD", "SIGSYS", "SIGRTMIN", "SIGRTMIN+2", "SIGRTMIN+32", "signal 65", "signal 0"];
    assert_eq!(names, expected);
}

#[test]
fn alternate_stack() {
    let stack = StackT { sp: 0x1000, flags: 2, size: 0x8000 };
    let bytes = stack.to_bytes();
    assert_eq!((bytes.len(), bytes[8], word(&bytes, 16)), (24, 2, 0x8000));
    assert_eq!(StackT::from_bytes(&bytes), Some(stack));
}

/// What a queued signal looks like: number, code, sender, value.
fn queued() -> Siginfo {
    let mut bytes = [0; 128];
    bytes[0] = 34;
    bytes[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    bytes[16..20].copy_from_slice(&4711_u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&1000_u32.to_le_bytes());
    bytes[24..32].copy_from_slice(&0xdead_beef_u64.to_le_bytes());
    Siginfo(bytes)
}

#[test]
fn fields_of_siginfo() {
    let info = queued();
    assert_eq!((info.signo(), info.code(), info.pid(), info.uid()), (34, -1, 4711, 1000));
    assert_eq!(info.value(), 0xdead_beef);
    assert_eq!(Siginfo::from_bytes(&info.to_bytes()), Some(info));
    assert_eq!(Siginfo::from_bytes(&[0; 127]), None);
    assert_eq!(format!("{info:?}"), "Siginfo(SIGRTMIN+2, code -1, pid 4711)");
}

#[test]
fn siginfo_as_text() {
    let text = String::from(queued());
    assert!(text.starts_with("2200000000000000ffffffff00000000"));
    assert_eq!(Siginfo::try_from(text.clone()), Ok(queued()));
    assert!(Siginfo::try_from(text[1..].to_owned()).is_err());
    assert!(Siginfo::try_from(text[2..].to_owned()).is_err());
    assert!(Siginfo::try_from(text.replacen('2', "é", 1)).is_err());
}

/// Through the encoding of records and back.
fn record<T: minicbor::Encode<()> + for<'a> minicbor::Decode<'a, ()>>(value: &T) -> (Vec<u8>, T) {
    let bytes = minicbor::to_vec(value).unwrap();
    let back = minicbor::decode(&bytes).unwrap();
    (bytes, back)
}

#[test]
fn records_come_back() {
    let action = KernelSigaction { handler: 1, flags: 2, restorer: 3, mask: 4 };
    assert_eq!(record(&action), (b"\xa4\x00\x01\x01\x02\x02\x03\x03\x04".to_vec(), action));
    let stack = StackT { sp: 1, flags: 2, size: 3 };
    assert_eq!(record(&stack).1, stack);
    let rseq = RseqConfiguration { pointer: 1, size: 32, signature: 0x5305_3053, flags: 0 };
    assert_eq!(record(&rseq).1, rseq);
    let regs = UserRegs::from_bytes(REGS).unwrap();
    assert_eq!(record(&regs).1, regs);
    assert_eq!(record(&SigSet(2)), (b"\x02".to_vec(), SigSet(2)));
}

#[test]
fn siginfo_is_a_byte_string_in_a_record() {
    let (bytes, back) = record(&queued());
    assert_eq!((bytes.len(), &bytes[..2], back), (130, b"\x58\x80".as_slice(), queued()));
}

#[test]
fn registers_of_a_thread_stopped_in_a_call() {
    let regs = UserRegs::from_bytes(REGS).unwrap();
    assert_eq!((regs.orig_rax, regs.rax, regs.cs, regs.ss), (234, 0, 0x33, 0x2b));
    assert_eq!(regs.rip, 0x7f4e_062d_7eec);
    assert_eq!(regs.to_bytes(), REGS);
}

/// A processor of AMD, which never had the components 3 and 4, has those behind them elsewhere.
#[test]
fn extended_state_of_another_machine() {
    use xstate::{COMPONENTS, COMPONENTS_AT, Component, laid_out};
    let amd = [(2, 576, 256), (5, 832, 64), (6, 896, 512), (7, 1408, 1024), (9, 2432, 8)];
    let amd = amd.map(|(bit, at, len)| Component { bit, at, len });
    let mut there = vec![0u8; 2440];
    there[..512].fill(1);
    there[xstate::XSTATE_BV_AT..][..8].copy_from_slice(&0x263u64.to_le_bytes());
    for (byte, at, len) in [(5, 832, 64), (6, 896, 512), (9, 2432, 8)] {
        there[at..at + len].fill(byte);
    }
    let between = laid_out(&there, &amd, &COMPONENTS, COMPONENTS_AT).unwrap();
    assert_eq!((between.len(), &between[..576]), (2696, &there[..576]));
    for (byte, at, len) in [(5, 1088, 64), (6, 1152, 512), (9, 2688, 8)] {
        assert!(between[at..at + len].iter().all(|b| *b == byte), "component {byte}");
    }
    assert_eq!(laid_out(&between, &COMPONENTS, &amd, 2440).unwrap(), there);
    // Rights of protection keys that are nobody's own are not missed where there are no keys.
    let mut plain = between.clone();
    assert_eq!(xstate::without_plain_keys(&plain, 0x63), between);
    plain[2688..2692].copy_from_slice(&0x5555_5554u32.to_le_bytes());
    assert_eq!(xstate::xfeatures(&xstate::without_plain_keys(&plain, 0x63)), Some(0x63));
    assert_eq!(xstate::without_plain_keys(&plain, 0x263), plain);
    plain[2688..2692].fill(0);
    assert_eq!(xstate::xfeatures(&xstate::without_plain_keys(&plain, 0x63)), Some(0x63));
    // A machine that has more, and wants all of its own.
    assert_eq!(laid_out(&between, &COMPONENTS, &COMPONENTS, 11008).unwrap()[..2696], between);
    // Of what is not in use nothing is kept.
    there[xstate::XSTATE_BV_AT + 1] = 0;
    assert_eq!(laid_out(&there, &amd, &COMPONENTS, COMPONENTS_AT).unwrap().len(), 1664);
    there[xstate::XSTATE_BV_AT] = 3;
    assert_eq!(laid_out(&there, &amd, &COMPONENTS, COMPONENTS_AT).unwrap(), there[..576]);
    there[xstate::XSTATE_BV_AT + 1] = 1 << 7;
    assert_eq!(laid_out(&there, &amd, &COMPONENTS, COMPONENTS_AT), Err(15));
}

#[test]
fn extended_state_of_a_thread() {
    assert_eq!(xstate::xfeatures(XSTATE), Some(0xa2));
    assert_eq!(xstate::missing(XSTATE, 0x7), Some(0xa0));
    assert_eq!(xstate::missing(XSTATE, 0xe7), Some(0));
    assert_eq!(xstate::names(0xa2 | 1 << 40), ["sse", "avx512-opmask", "avx512-hi16-zmm", "xfeature 40"]);
    assert_eq!(xstate::xfeatures(&[0; 519]), None);
    assert!(xstate::is_native(XSTATE) && !xstate::is_native(&[1; 464]) && !xstate::is_native(&[0; 600]));
    let settled = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut blob = XSTATE.to_vec();
        blob[..2].copy_from_slice(&[0x7f, 0x03]);
        blob[xstate::XSTATE_BV_AT] |= 1;
        change(&mut blob);
        xstate::settle(&mut blob);
        xstate::xfeatures(&blob)
    };
    assert_eq!(settled(&|_| ()), Some(0xa2), "x87 that is as a new program finds it is not in use");
    assert_eq!(settled(&|blob| blob[24] = 1), Some(0xa2), "what is of SSE does not count");
    for at in [0, 2, 23, 32, 159] {
        assert_eq!(settled(&|blob| blob[at] ^= 1), Some(0xa3), "byte {at}");
    }
}

#[test]
fn restartable_sequence() {
    let rseq = RseqConfiguration::from_bytes(&ramp::<24>()).unwrap();
    assert_eq!((rseq.size, rseq.signature, rseq.flags), (0x0c0b_0a09, 0x100f_0e0d, 0x1413_1211));
    let section = RseqCs { start_ip: 0x1000, post_commit_offset: 0x10, ..Default::default() };
    let inside = [0xfff, 0x1000, 0x100f, 0x1010].map(|ip| section.contains(ip));
    assert_eq!(inside, [false, true, true, false]);
}

#[test]
fn dispatch_of_system_calls() {
    let on = DispatchConfiguration { mode: 1, selector: 5, offset: 0x1000, len: 0x200 };
    assert_eq!(on.to_bytes(), [1u64, 5, 0x1000, 0x200].map(u64::to_ne_bytes).concat()[..]);
    assert_eq!(on.to_be_set(), on);
    let all = DispatchConfiguration { offset: 0, len: 0, ..on };
    assert_eq!(all.to_be_set(), all);
    // What the kernel keeps of a range that alone comes back.
    let around = DispatchConfiguration { offset: 0x1200, len: 0x200u64.wrapping_neg(), ..on };
    assert_eq!(around.to_be_set(), DispatchConfiguration { mode: 2, ..on });
    assert!(on.is_sound() && all.is_sound() && around.is_sound());
    let wrong = [
        DispatchConfiguration { mode: 2, ..on },
        DispatchConfiguration { len: 0, ..on },
        DispatchConfiguration { selector: 1 << 63, ..on },
    ];
    assert!(!wrong.iter().any(DispatchConfiguration::is_sound));
}

#[test]
fn tables_of_names() {
    use abi::consts::cap;
    assert_eq!(cap::CAP_NAMES[cap::CAP_SYS_RESOURCE as usize], "CAP_SYS_RESOURCE");
    assert_eq!(cap::CAP_NAMES[cap::CAP_CHECKPOINT_RESTORE as usize], "CAP_CHECKPOINT_RESTORE");
    assert_eq!(cap::names(1 << 5 | 1 << 41), ["CAP_KILL", "capability 41"]);
}
