//! The parsers of /proc text, on text recorded of a real kernel (tests/samples/README.md).

use abi::proc::*;

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("samples/", $name)).as_slice()
    };
}

const COMM: &[u8] = b"a) (\\b\nc \xff) R";

fn area<'a>(areas: &'a [Area], name: &[u8]) -> &'a Area {
    let found: Vec<_> = areas.iter().filter(|area| area.name == name).collect();
    assert_eq!(found.len(), 1, "areas named {}", name.escape_ascii());
    found[0]
}

#[test]
fn maps_have_all_areas_in_order() {
    let areas = maps(sample!("maps")).unwrap();
    assert_eq!(areas.len(), 38);
    assert!(areas.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(areas.iter().all(|area| area.flags.is_empty() && !area.is_empty()));
}

#[test]
fn smaps_are_maps_with_flags() {
    let mut areas = smaps(sample!("smaps")).unwrap();
    assert!(areas.iter().all(|area| !area.flags.is_empty()));
    areas.iter_mut().for_each(|area| (area.flags, area.page_kib) = (Vec::new(), 0));
    assert_eq!(areas, maps(sample!("maps")).unwrap());
}

#[test]
fn first_area_field_by_field() {
    let areas = smaps(sample!("smaps")).unwrap();
    let perms = Perms { read: true, write: false, execute: false, shared: false };
    let first = Area {
        start: 0x55b0_a72d_e000,
        end: 0x55b0_a72d_f000,
        perms,
        offset: 0,
        dev: (0xfe, 0),
        inode: 10_027_016,
        name: b"/tmp/sample/spec".to_vec(),
        swap_kib: 0,
        page_kib: 4,
        key: 0,
        flags: vec![*b"rd", *b"mr", *b"mw", *b"me"],
    };
    assert_eq!(areas[0], first);
    assert_eq!(areas[0].len(), 4096);
}

#[test]
fn names_of_areas_hold_any_byte() {
    let areas = smaps(sample!("smaps")).unwrap();
    let names: [&[u8]; 6] = [
        b"/tmp/sample/with space",
        b"/tmp/sample/with\nnewline",
        b"/tmp/sample/back\\slash",
        b"/tmp/sample/\xff\xfe not utf8",
        b"/tmp/sample/ends in blank ",
        b"/tmp/sample/gone (deleted)",
    ];
    for name in names {
        assert_eq!(area(&areas, name).offset, 4096);
    }
}

#[test]
fn special_areas_keep_their_names() {
    let areas = smaps(sample!("smaps")).unwrap();
    assert!(area(&areas, b"/memfd:me mo (deleted)").perms.shared);
    assert!(area(&areas, b"/dev/zero (deleted)").has(b"ms"));
    assert!(area(&areas, b"[vdso]").perms.execute);
    assert!(area(&areas, b"[vvar]").has(b"pf"));
    assert!(area(&areas, b"[stack]").has(b"gd"));
    assert_eq!(area(&areas, b"[vsyscall]").start, 0xffff_ffff_ff60_0000);
}

#[test]
fn flags_of_areas() {
    let areas = smaps(sample!("smaps")).unwrap();
    let count = |flag| areas.iter().filter(|area| area.has(flag)).count();
    assert_eq!(count(b"hg"), 1);
    assert_eq!(count(b"dc"), 1);
    assert_eq!(count(b"lo"), 1);
    assert_eq!(count(b"nr"), 1);
    assert_eq!(count(b"gu"), 2);
    assert_eq!(count(b"gd"), 2);
    assert_eq!(count(b"zz"), 0);
    let is_locked_later = |flags: &str| {
        let text = format!("7f00-8f00 rw-p 00000000 00:00 0\nVmFlags: {flags} \n");
        smaps(text.as_bytes()).unwrap()[0].has(b"lf")
    };
    for (flags, is) in [
        ("rd wr mr mw me lo lf ac", true),
        ("rd wr mr mw me lo ?? ac", true),
        ("rd wr mr mw me lo dc ??", true),
        ("rd wr mr mw me lo ac ??", false),
        ("rd wr mr mw me de ?? ac", false),
    ] {
        assert_eq!(is_locked_later(flags), is, "{flags}");
    }
}

/// Written by hand: the kernel that the samples are of was built without CONFIG_ANON_VMA_NAME.
#[test]
fn anonymous_names_and_unknown_fields() {
    let text = b"7f00-8f00 rw-s 00000000 00:01 1031    [anon_shmem:a name: with blanks]\n\
        NewField:   99 kB\nVmFlags: rd xx \n\
        9000-a000 ---p ffffffffff000 103:1ffff 18446744073709551615 [anon:x]\n";
    let areas = smaps(text).unwrap();
    assert_eq!(areas[0].name, b"[anon_shmem:a name: with blanks]");
    assert_eq!(areas[0].flags, [*b"rd", *b"xx"]);
    assert_eq!(areas[1].dev, (0x103, 0x1_ffff));
    assert_eq!(areas[1].inode, u64::MAX);
    assert_eq!(areas[1].offset, 0xf_ffff_ffff_f000);
    assert_eq!(areas[1].name, b"[anon:x]");
}

#[test]
fn twenty_thousand_areas() {
    let text = sample!("smaps").repeat(527);
    let areas = smaps(&text).unwrap();
    assert_eq!(areas.len(), 527 * 38);
    assert_eq!(areas[..38], areas[526 * 38..]);
}

#[test]
fn strange_areas_are_refused() {
    let refused: [&[u8]; 12] = [
        b"VmFlags: rd\n",
        b"Size: 4 kB\n",
        b"zzz\n",
        b"1000-2000 rw-p 0 00:00\n",
        b"1000-2000 rw- 0 00:00 0 \n",
        b"1000-2000 rwyp 0 00:00 0 \n",
        b"1000 rw-p 0 00:00 0 \n",
        b"2000-1000 rw-p 0 00:00 0 \n",
        b"1000-20000000000000000 rw-p 0 00:00 0 \n",
        b"1000-2000 rw-p 0 00:00 -1 \n",
        b"1000-2000 rw-p 0 00:00 0 \nVmFlags: rd wrr\n",
        b"1000-2000 rw-p 0 00:00 0 \n\n",
    ];
    for text in refused {
        let error = smaps(text).expect_err(&text.escape_ascii().to_string());
        assert_eq!(error.file, "smaps");
    }
    assert_eq!(smaps(b""), Ok(Vec::new()));
}

#[test]
fn stat_of_a_process_with_a_wild_name() {
    let stat = stat(sample!("stat")).unwrap();
    assert_eq!((stat.pid, stat.comm.as_slice(), stat.state), (7011, COMM, b'R'));
    assert_eq!((stat.ppid, stat.pgrp, stat.session), (7001, 7001, 2499));
    assert_eq!((stat.terminal, stat.tpgid, stat.flags), (None, -1, 4_194_560));
    assert_eq!((stat.priority, stat.nice, stat.num_threads), (20, 0, 1));
    assert_eq!((stat.starttime, stat.vsize), (202_750, 6_717_440));
    assert_eq!((stat.start_code, stat.end_code), (94_217_207_410_688, 94_217_207_414_781));
    assert_eq!((stat.start_stack, stat.exit_signal), (140_721_720_678_352, 17));
    assert_eq!((stat.rt_priority, stat.policy, stat.exit_code), (0, 0, 0));
    assert_eq!((stat.start_data, stat.end_data), (94_217_207_422_416, 94_217_207_423_280));
    assert_eq!((stat.start_brk, stat.arg_start), (94_217_251_143_680, 140_721_720_683_213));
    assert_eq!((stat.arg_end, stat.env_start), (140_721_720_683_256, 140_721_720_683_256));
    assert_eq!(stat.env_end, 140_721_720_684_529);
}

#[test]
fn stat_of_a_zombie_and_of_a_kernel_thread() {
    let zombie = stat(sample!("stat-zombie")).unwrap();
    assert_eq!((zombie.state, zombie.comm.as_slice(), zombie.exit_code), (b'Z', COMM, 3 << 8));
    let kernel = stat(sample!("stat-kthread")).unwrap();
    assert_eq!((kernel.pid, kernel.comm.as_slice(), kernel.ppid), (2, b"kthreadd".as_slice(), 0));
}

#[test]
fn strange_stat_is_refused() {
    let gone = b"9 (x) X 0 -1 -1 0 -1 4194316 0 0 0 0 0 0 0 0 20 0 0 0 5 0 0 0";
    assert_eq!(stat(gone).unwrap_err().what, "field 5, pgrp, is -1");
    assert!(stat(b"").is_err());
    assert!(stat(b"1 )x( S").is_err());
    assert!(stat(b"1 (x) S 1 1 1 0 -1").is_err());
}

#[test]
fn status_of_a_process() {
    let status = status(sample!("status")).unwrap();
    assert_eq!((status.name.as_slice(), abi::proc::umask(sample!("status"))), (COMM, Ok(Some(0o27))));
    assert_eq!((status.state, status.tgid, status.pid, status.ppid), (b'R', 7011, 7011, 7001));
    assert_eq!((status.tracer_pid, status.uid, status.gid), (0, [0; 4], [0; 4]));
    assert_eq!(status.groups, [10, 20, 4_000_000_000]);
    assert_eq!((status.ns_tgid, status.ns_pid), (vec![7011], vec![7011]));
    assert_eq!((status.ns_pgid, status.ns_sid), (vec![7001], vec![2499]));
    assert_eq!(status.threads, 1);
    assert_eq!((status.sig_pnd, status.shd_pnd), (0x800, 1 << 63));
    assert_eq!((status.sig_blk, status.sig_ign, status.sig_cgt), (0x8000_0000_0000_0800, 2, 0x200));
    assert_eq!((status.cap_inh, status.cap_prm), (0, 0x1ff_feff_ffff));
    assert_eq!((status.cap_eff, status.cap_bnd, status.cap_amb), (0x1ff_feff_ffff, 0x1ff_feff_ffff, 0));
    assert_eq!((status.no_new_privs, status.seccomp), (1, 0));
    assert_eq!(status.own_kb, 2204);
    assert_eq!(status.thp_enabled, Some(1));
    assert!(status.x86_thread_features.is_empty());
}

#[test]
fn status_without_memory() {
    let zombie = status(sample!("status-zombie")).unwrap();
    assert_eq!((zombie.state, abi::proc::umask(sample!("status-zombie")), zombie.thp_enabled), (b'Z', Ok(None), None));
    assert_eq!(zombie.own_kb, 0);
    let kernel = status(sample!("status-kthread")).unwrap();
    assert_eq!((kernel.name.as_slice(), kernel.groups), (b"kthreadd".as_slice(), vec![]));
}

/// The sample with one line changed.
fn status_with(from: &str, to: &str) -> Result<Status, ParseError> {
    let text = sample!("status-kthread").to_vec();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(from), "{from}");
    status(text.replacen(from, to, 1).as_bytes())
}

#[test]
fn status_of_other_processes() {
    let ids = status_with("Uid:\t0\t0\t0\t0", "Uid:\t1\t2\t3\t4").unwrap();
    assert_eq!(ids.uid, [1, 2, 3, 4]);
    let nested = status_with("NSpid:\t2", "NSpid:\t9\t7\t1").unwrap();
    assert_eq!(nested.ns_pid, [9, 7, 1]);
    let blank = status_with("Name:\tkthreadd", "Name:\t  x: y ").unwrap();
    assert_eq!(blank.name, b"  x: y ");
    let shadow = status_with("SigQ:", "x86_Thread_features:\tshstk wrss \nSigQ:").unwrap();
    assert_eq!(shadow.x86_thread_features, [b"shstk".to_vec(), b"wrss".to_vec()]);
    let ancient = status_with("NStgid:\t2\n", "").unwrap();
    assert!(ancient.ns_tgid.is_empty());
}

#[test]
fn lists_of_nodes_and_processors() {
    let all = |text: &[u8]| ids(text).map(|all| all.into_iter().collect::<Vec<_>>());
    assert_eq!(all(b"0\n"), Some(vec![0]));
    assert_eq!(all(b"0-2,8,10-11\n"), Some(vec![0, 1, 2, 8, 10, 11]));
    assert_eq!((all(b"\n"), all(b"3-1")), (Some(vec![]), Some(vec![])));
    assert_eq!((all(b"1-x"), all(b"-")), (None, None));
    assert!(all(b"0-4294967295").unwrap().len() < 1 << 17);
    assert_eq!(mems_allowed(sample!("status")).unwrap(), Some([0].into()));
    assert_eq!(mems_allowed(b"Name:\tx\n").unwrap(), None);
}

#[test]
fn strange_status_is_refused() {
    let error = status_with("PPid:", "QPid:").unwrap_err();
    assert_eq!((error.file, error.what.as_str()), ("status", "no PPid"));
    assert!(status_with("Uid:\t0\t0\t0\t0", "Uid:\t0\t0\t0").is_err());
    assert!(status_with("SigIgn:\tffffffffffffffff", "SigIgn:\tfffffffffffffffff").is_err());
    assert!(abi::proc::umask(b"Umask:\t0029\n").is_err());
    assert!(status_with("Pid:\t2", "Pid:\t4294967296").is_err());
}

#[test]
fn what_is_read_of_smaps_is_in_a_fifth_of_its_lines() {
    let all = sample!("smaps");
    let told = abi::proc::of_smaps(all);
    assert_eq!(smaps(&told).unwrap(), smaps(all).unwrap());
    assert!(told.len() < all.len() / 3, "{} of {}", told.len(), all.len());
    assert!(smaps(&abi::proc::of_smaps(b"no line of it\n")).is_err());
}

#[test]
fn fdinfo_of_a_locked_file() {
    let info = fdinfo(sample!("fdinfo-locked")).unwrap();
    assert_eq!((info.pos, info.flags, info.mnt_id), (10, 0o106_002, 27));
    assert_eq!(info.ino, Some(10_027_024));
    let posix = b"2: POSIX  ADVISORY  READ 7011 fe:00:10027024 3 6".to_vec();
    assert_eq!(info.locks.len(), 2);
    assert_eq!(info.locks[1], posix);
}

#[test]
fn fields_of_fdinfo() {
    let event = fdinfo(sample!("fdinfo-eventfd")).unwrap();
    assert_eq!(event.field("eventfd-count"), Some(b"5".as_slice()));
    assert_eq!(event.field(b"eventfd-semaphore"), Some(b"1".as_slice()));
    assert_eq!(event.field("eventfd"), None);
    let timer = fdinfo(sample!("fdinfo-timerfd")).unwrap();
    assert_eq!(timer.field("it_value"), Some(b"(0, 0)".as_slice()));
    assert_eq!(timer.field("settime flags"), Some(b"00".as_slice()));
    let inotify = fdinfo(sample!("fdinfo-inotify")).unwrap();
    let watches: Vec<_> = inotify.fields("inotify wd").collect();
    assert_eq!(watches.len(), 2);
    assert!(watches[0].starts_with(b"2 ino:3c4bd sdev:fe00000 mask:2 "));
}

#[test]
fn fdinfo_with_a_negative_offset_and_without_inode() {
    let memory = fdinfo(sample!("fdinfo-mem")).unwrap();
    assert_eq!(memory.pos as i64, -10_485_760);
    let old = fdinfo(b"pos:\t0\nflags:\t02\nmnt_id:\t15\nno colon\n").unwrap();
    assert_eq!(old.ino, None);
    assert_eq!(old.field("no colon"), Some(b"".as_slice()));
    assert!(fdinfo(b"pos:\t0\nmnt_id:\t15\n").is_err());
    assert!(fdinfo(b"pos:\t0\nflags:\t08\nmnt_id:\t15\n").is_err());
}

#[test]
fn watches_of_an_inotify_instance() {
    let watches = inotify_watches(sample!("fdinfo-inotify")).unwrap();
    let seen: Vec<_> = watches.iter().map(|w| (w.wd, w.ino, kernel_dev(w.sdev), w.mask)).collect();
    assert_eq!(seen, [(2, 0x3c4bd, (254, 0), 2), (1, 0x99_0006, (254, 0), 0x300)]);
    assert_eq!(watches[1].handle, Some((1, vec![6, 0, 0x99, 0, 0xf6, 0xe4, 0x76, 0x8d])));
    // Of a file system without handles the line ends before (fs/notify/fdinfo.c, show_mark_fhandle).
    let bare = inotify_watches(b"inotify wd:ff ino:1 sdev:16 mask:80000002 ignored_mask:0 \n").unwrap();
    assert_eq!((bare[0].wd, bare[0].mask, &bare[0].handle), (255, 0x8000_0002, &None));
    assert!(inotify_watches(b"inotify wd:1 sdev:16 mask:2\n").is_err());
}

#[test]
fn watches_of_an_epoll_instance() {
    let watches = epoll_watches(sample!("fdinfo-epoll")).unwrap();
    let seen: Vec<_> = watches.iter().map(|w| (w.fd, w.events, w.data)).collect();
    let event = (4, 0x8000_0019, u64::MAX);
    assert_eq!(seen, [event, (7, 0x19, 7), (5, 0x4000_001d, 0x1234)]);
    assert!(watches.iter().all(|w| (w.pos, w.ino, w.sdev) == (0, 0x11, 0x10)));
    assert_eq!(fdinfo(sample!("fdinfo-epoll")).unwrap().fields("tfd").count(), 3);
    assert_eq!(epoll_watches(sample!("fdinfo-eventfd")), Ok(Vec::new()));
}

#[test]
fn strange_watches_are_refused() {
    assert!(epoll_watches(b"tfd: 5 events: 19 data: 0  pos:0 ino:3\n").is_err());
    assert!(epoll_watches(b"tfd: 5 events: data: 0  pos:0 ino:3 sdev:9\n").is_err());
}

#[test]
fn posix_timers() {
    let timers = timers(sample!("timers")).unwrap();
    let pid = Target::Pid(7011);
    let timer = |id, signal, value, notify, target, clock| PosixTimer { id, signal, value, notify, target, clock };
    let expected = [
        timer(4, 10, 7, Notify::Signal, pid, -56094),
        timer(3, 14, 3, Notify::Signal, pid, -6),
        timer(2, 10, 7, Notify::Signal, Target::Tid(7011), 7),
        timer(1, 34, 0, Notify::None, pid, 0),
        timer(0, 34, 0xdead_beef_1234_5678, Notify::Signal, pid, 1),
    ];
    assert_eq!(timers, expected);
}

#[test]
fn timers_of_other_kernels() {
    let text = b"ID: 0\nsignal: 0/(null)\nNew: 1\nnotify: new/tid.3\nClockID: 1\n";
    let read = timers(text).unwrap();
    assert_eq!(read[0].notify, Notify::Unknown(b"new".to_vec()));
    assert_eq!((read[0].value, read[0].target), (0, Target::Tid(3)));
    assert!(timers(b"ID: 0\nsignal: 1/0\nnotify: signal/pid.3\n").is_err());
    assert!(timers(b"ID: 0\nsignal: 1/0\nnotify: signal/gid.3\nClockID: 0\n").is_err());
    assert_eq!(timers(b""), Ok(Vec::new()));
}

#[test]
fn auxiliary_vector_there_and_back() {
    let bytes = sample!("auxv");
    let entries = auxv(bytes).unwrap();
    assert_eq!(entries.len() * 16 + 16, bytes.len());
    assert!(entries.contains(&(6, 4096)), "AT_PAGESZ");
    assert_eq!(encode_auxv(&entries), bytes);
    assert_eq!(auxv(&[0; 15]).unwrap_err().file, "auxv");
    assert_eq!(auxv(b""), Ok(Vec::new()));
}

#[test]
fn last_run_of_a_thread() {
    let expected = Sched { exec_start: 2_025_062_018_871, voluntary_switches: 1 };
    assert_eq!(sched(sample!("sched")), Some(expected));
    let forged = b"\nse.exec_start:1 (5, #threads: 1)\nse.exec_start  :  0.000001\nnr_voluntary_switches : 7\n";
    assert_eq!(sched(forged), Some(Sched { exec_start: 1, voluntary_switches: 7 }));
    assert_eq!(sched(b"se.exec_start : 1.1\nnr_voluntary_switches : 7\n"), None);
    assert_eq!(sched(b"se.exec_start : 1.000001\n"), None);
    assert_eq!(sched(b""), None);
}

#[test]
fn mounts() {
    let mounts = mountinfo(sample!("mountinfo")).unwrap();
    assert_eq!(mounts.len(), 6);
    let root = &mounts[0];
    assert_eq!((root.id, root.parent, root.dev), (43, 42, (254, 0)));
    assert_eq!((root.mount_point.as_slice(), root.fs_type.as_slice()), (b"/".as_slice(), b"ext4".as_slice()));
    assert_eq!((root.source.as_slice(), root.options.as_slice()), (b"/dev/vda".as_slice(), b"rw,relatime".as_slice()));
    assert!(root.super_options.starts_with(b"rw,discard"));
    assert!(root.tags.is_empty());
}

#[test]
fn names_of_mounts_hold_any_byte() {
    let mounts = mountinfo(sample!("mountinfo")).unwrap();
    assert_eq!(mounts[3].mount_point, b"/tmp/sample/m/a b");
    assert_eq!(mounts[3].source, b"src with blank#hash");
    assert_eq!(mounts[4].mount_point, b"/tmp/sample/m/n\nl\t\\x#y");
    assert_eq!((mounts[4].source.as_slice(), mounts[4].super_options.as_slice()), (b"".as_slice(), b"rw".as_slice()));
    assert_eq!(mounts[5].root, b"/root dir");
    assert_eq!(mounts[5].tags, [b"shared:1"]);
}

#[test]
fn strange_mounts_are_refused() {
    assert!(mountinfo(b"1 2 0:1 / / rw shared:1\n").is_err());
    assert!(mountinfo(b"1 2 0 / / rw - ext4 x rw\n").is_err());
    assert!(mountinfo(b"\n").is_err());
}

#[test]
fn device_numbers() {
    // /dev/pts/3 and a device with many bits, in the three encodings.
    assert_eq!(makedev(136, 3), 0x8803);
    assert_eq!(new_encode_dev(136, 3), 0x8803);
    assert_eq!(makedev(0xabcd_e123, 0x4567_89fe), 0xabcd_e456_7891_23fe);
    for (major_number, minor_number) in [(0, 0), (259, 0x1_2345), (4095, 0xf_ffff), (u32::MAX, u32::MAX)] {
        let dev = makedev(major_number, minor_number);
        assert_eq!((major(dev), minor(dev)), (major_number, minor_number));
    }
    for dev in [(259, 0x1_2345), (4095, 0xf_ffff), (136, 257)] {
        assert_eq!(new_decode_dev(new_encode_dev(dev.0, dev.1)), dev);
        assert_eq!(u64::from(new_encode_dev(dev.0, dev.1)), makedev(dev.0, dev.1));
    }
    assert_eq!(kernel_dev(0xfe0_0000), (254, 0));
}

#[test]
fn objects_of_system_v_ipc() {
    let shm = b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n         0          2  1600                  4096 24934 24934      1     0     0     0     0 1795557300          0 1795557300                  4096                     0\n-559038737      32771   600                  8192     0     0      0     0     0     0     0          0          0 1795557300                     0                     0\n";
    let row = |id, key, size| IpcRow { id, key, size };
    assert_eq!(sysvipc(shm).unwrap(), [row(2, 0, Some(4096)), row(32771, -559_038_737, Some(8192))]);
    let msg = b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n      4660          0   600          10          2  1234     0     0     0     0     0 1795557300          0 1795557300\n";
    assert_eq!(sysvipc(msg).unwrap(), [row(0, 4660, None)]);
    let sem = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
    assert_eq!(sysvipc(sem).unwrap(), []);
    assert!(sysvipc(b"").is_err() && sysvipc(b"key shmid\n1 x\n").is_err());
}

/// Reads `text` as every file; what comes out does not matter, only that it comes.
fn read_as_everything(text: &[u8]) {
    let _ = (maps(text), smaps(text), mountinfo(text), auxv(text));
    let _ = (stat(text), status(text), timers(text), sched(text));
    let _ = (fdinfo(text), epoll_watches(text), sysvipc(text));
}

#[test]
fn no_text_makes_a_parser_panic() {
    let samples = [
        &sample!("smaps")[..2000],
        sample!("stat"),
        sample!("status"),
        sample!("fdinfo-epoll"),
        sample!("timers"),
        sample!("mountinfo"),
        &sample!("sched")[..200],
    ];
    let mut random = 1_u64;
    for sample in samples {
        for _ in 0..2000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % sample.len();
            let mut text = sample.to_vec();
            text[at] = b"\n :-()\\09f/\xff."[(random >> 20) as usize % 13];
            read_as_everything(&text);
            read_as_everything(&text[..at]);
        }
    }
}
