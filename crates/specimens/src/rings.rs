//! Rings of sockets of packets, of all kinds: nothing has passed by them until the check, which sends something by each.

use crate::inet::set;
use crate::life::Living;
use crate::mem::{Area, READ_WRITE};
use crate::sys::{self, Outcome, must, same};

const SOL_PACKET: i32 = 263;
const PACKET_RX_RING: i32 = 5;
const PACKET_VERSION: i32 = 10;
const PACKET_TX_RING: i32 = 13;
/// `struct tpacket_req3`: blocks of two pages, frames of half a page; how long a block waits, its part that is the program's.
const RECEIVES: [u32; 7] = [8192, 2, 2048, 8, 0, 0, 0];
const BY_BLOCKS: [u32; 7] = [8192, 2, 2048, 8, 10, 24, 0];
const SENDS: [u32; 7] = [4096, 1, 2048, 2, 0, 0, 0];
const LENGTH: usize = 2 * 8192;
const BOTH: usize = LENGTH + 4096;

fn ring(fd: i32, option: i32, asked: [u32; 7]) -> Outcome {
    // SAFETY: the structure lives as long as the call.
    must("setsockopt", unsafe { libc::setsockopt(fd, SOL_PACKET, option, asked.as_ptr().cast(), 28) }).map(drop)
}

fn socket() -> Result<i32, String> {
    // SAFETY: takes integers.
    must("socket", unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }).map(|fd| fd as i32)
}

/// One that gets packets of a protocol that nobody else uses.
struct Ring {
    fd: i32,
    version: i32,
    protocol: u16,
    memory: Area,
}

/// Where in a frame to be sent length, status and packet are (linux/if_packet.h: `struct tpacket_hdr` and so on).
const PLACES: [[usize; 3]; 3] = [[8, 0, 32], [4, 0, 32], [16, 20, 48]];

impl Ring {
    fn new(version: i32) -> Result<Ring, String> {
        let (fd, protocol) = (socket()?, 0x9900 + (std::process::id() % 256 * 3) as u16 + version as u16);
        set(fd, SOL_PACKET, PACKET_VERSION, version)?;
        ring(fd, PACKET_RX_RING, if version == 2 { BY_BLOCKS } else { RECEIVES })?;
        ring(fd, PACKET_TX_RING, SENDS)?;
        // SAFETY: the name ends with a zero.
        let loopback = unsafe { libc::if_nametoindex(c"lo".as_ptr()) } as i32;
        crate::nets::bind_to(fd, loopback, protocol)?;
        Ok(Ring { fd, version, protocol, memory: Area::map(BOTH, READ_WRITE, libc::MAP_SHARED, fd)? })
    }

    fn packet(&self) -> Vec<u8> {
        [&[0; 12][..], &self.protocol.to_be_bytes(), b"through the ring, and back"].concat()
    }

    /// Sends a packet by the first frame, and finds it in the first one of those that come.
    fn turns(&self) -> Outcome {
        let packet = self.packet();
        let [length, status, place] = PLACES[self.version as usize];
        let frame = self.memory.part(LENGTH, 2048).bytes();
        frame[place..place + packet.len()].copy_from_slice(&packet);
        frame[length] = packet.len() as u8;
        frame[status] = 1;
        // SAFETY: nothing is read.
        must("send", unsafe { libc::send(self.fd, std::ptr::null(), 0, 0) } as i64)?;
        let came = if self.version == 2 { 8 } else { 0 };
        sys::soon("a packet", || self.memory.part(came, 4).bytes_read()[0] & 1 == 1)?;
        let first = self.memory.part(0, 2048).bytes_read();
        same("the packet is there", &true, &first.windows(packet.len()).any(|part| part == packet))?;
        same("something to be read", &true, &sys::readable(self.fd))
    }
}

/// One of each kind; one of which this has a view of its own; one that nobody has mapped.
pub(crate) fn unused(_: &[String]) -> Result<Living, String> {
    let all = [0, 1, 2].map(Ring::new);
    let (own, unmapped) = (socket()?, socket()?);
    ring(own, PACKET_RX_RING, RECEIVES)?;
    let view = Area::map(LENGTH, READ_WRITE, libc::MAP_PRIVATE, own)?;
    view.bytes()[5000] = 7;
    set(unmapped, SOL_PACKET, PACKET_VERSION, 1)?;
    ring(unmapped, PACKET_TX_RING, SENDS)?;
    Living::reads(move |_| {
        all.iter().try_for_each(|ring| ring.as_ref().map_err(String::clone)?.turns())?;
        same("what is in a view of its own", &(0, 7), &(view.bytes()[0], view.bytes()[5000]))?;
        // One can map all of it or nothing.
        Area::map(4096, READ_WRITE, libc::MAP_SHARED, unmapped)?.forget()?;
        same("one more page", &true, &Area::map(8192, READ_WRITE, libc::MAP_SHARED, unmapped).is_err())
    })
}

/// One by which packets have passed, and whose frame is given back; one of which a part is mapped; one that is only memory.
pub(crate) fn used(args: &[String]) -> Result<Living, String> {
    let ring = Ring::new(1)?;
    match args.first().map(String::as_str) {
        Some("part") => ring.memory.part(4096, 4096).forget()?,
        Some("closed") => sys::close(ring.fd),
        _ => {
            ring.turns()?;
            ring.memory.bytes()[0] = 0;
        }
    }
    Living::reads(move |_| same("memory", &0, &ring.memory.part(2048, 8).bytes_read()[4]))
}
