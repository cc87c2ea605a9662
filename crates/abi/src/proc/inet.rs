//! /proc/net/tcp, tcp6, udp and udp6 (proc_pid_net(5)).

use crate::consts::socket::{AF_INET, AF_INET6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::HashMap;

/// A socket as a line of such a text tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InetLine {
    /// Its own address. One of the older family that stands in the newer is of the older.
    pub local: SocketAddr,
    /// Whom it is connected to.
    pub remote: SocketAddr,
    /// Its state (include/net/tcp_states.h).
    pub state: u8,
    /// Its inode number; 0: it has no descriptor.
    pub inode: u64,
    /// Of a connection: how many bytes it has received and nobody has read, whether they can be read now or not; its end counts as one.
    pub received: u64,
}

/// The sockets of such a text; lines that are none are passed over.
pub fn inet(text: &str) -> Vec<InetLine> {
    text.lines().filter_map(line).collect()
}

/// It takes connections (include/net/tcp_states.h).
const LISTEN: u8 = 10;
const SYN_SENT: u8 = 2;

/// The connections of a network namespace, and who takes them.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    ends: HashMap<(SocketAddr, SocketAddr), InetLine>,
    listeners: Vec<InetLine>,
}

impl Connections {
    /// From the lines of /proc/net/tcp and tcp6.
    pub fn of(lines: impl IntoIterator<Item = InetLine>) -> Connections {
        let (listeners, ends): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.state == LISTEN);
        Connections { ends: ends.into_iter().map(|line| ((line.local, line.remote), line)).collect(), listeners }
    }

    /// The end with this address of its own, and this one at its other end.
    pub fn end(&self, local: SocketAddr, remote: SocketAddr) -> Option<&InetLine> {
        self.ends.get(&(local, remote))
    }

    /// With whom a socket that has begun to connect does so, by its inode number.
    pub fn begun(&self, inode: u64) -> Option<SocketAddr> {
        self.ends.values().find(|line| line.state == SYN_SENT && line.inode == inode).map(|line| line.remote)
    }

    /// The inode number of who takes connections at an address.
    pub fn listener(&self, at: SocketAddr) -> Option<u64> {
        let takes = |line: &&InetLine| line.takes(at);
        let family = |line: &InetLine| line.local.is_ipv4() == at.is_ipv4();
        let how_well = |line: &&InetLine| (!line.local.ip().is_unspecified(), family(line));
        let exact = self.listeners.iter().filter(takes).max_by_key(how_well);
        exact.map(|line| line.inode)
    }

    /// The connections that nobody has accepted yet at an address: the inode numbers of their other ends, in ascending order.
    pub fn pending(&self, at: SocketAddr) -> Vec<u64> {
        let listener = self.listener(at);
        let waits = |line: &InetLine| {
            let other = self.end(line.remote, line.local).filter(|other| line.inode == 0 && other.inode != 0)?;
            (self.listener(line.local) == listener).then_some(other.inode)
        };
        let mut all: Vec<u64> = self.ends.values().filter_map(waits).collect();
        crate::sort(&mut all);
        all
    }
}

impl InetLine {
    /// Whether what is sent to an address may come to it. All addresses of the newer family may stand for those of the older one, too
    /// (IPV6_V6ONLY), but not the other way round.
    pub fn takes(&self, at: SocketAddr) -> bool {
        let (one, two) = (self.local.ip(), at.ip());
        let is_all =
            |all: IpAddr, of: IpAddr| all.is_unspecified() && (all.is_ipv6() || of.is_ipv4() || of.is_unspecified());
        self.local.port() == at.port() && (one == two || is_all(one, two) || is_all(two, one))
    }
}

fn line(line: &str) -> Option<InetLine> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    Some(InetLine {
        local: address(words.get(1)?)?,
        remote: address(words.get(2)?)?,
        state: u8::from_str_radix(words.get(3)?, 16).ok()?,
        inode: words.get(9)?.parse().ok()?,
        received: words.get(4)?.split_once(':').and_then(|(_, n)| u64::from_str_radix(n, 16).ok())?,
    })
}

/// Numbers of 32 bits as they lie in memory, each written as the machine reads it, and the port.
fn address(word: &str) -> Option<SocketAddr> {
    let (address, port) = word.split_once(':')?;
    let number = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(number(0)?),
        32 => {
            let bytes = [number(0)?, number(8)?, number(16)?, number(24)?].concat();
            IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(plain(ip), u16::from_str_radix(port, 16).ok()?))
}

/// What is the same address for the kernel is the same.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// A group of multicast that an interface is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InetGroup<'a> {
    /// The number of the interface.
    pub index: u32,
    /// Its name.
    pub interface: &'a str,
    /// The group.
    pub address: IpAddr,
}

/// The groups of /proc/net/igmp (net/ipv4/igmp.c, `igmp_mc_seq_show`): those of an interface stand below it; and of igmp6.
pub fn inet_groups<'a>(four: &'a str, six: &'a str) -> Vec<InetGroup<'a>> {
    let mut of = None;
    let four = four.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        if !line.starts_with('\t') {
            // A long name has the colon at it.
            of = Some((words.next()?.parse().ok()?, words.next()?.trim_end_matches(':')));
            return None;
        }
        let address = u32::from_str_radix(words.next()?, 16).ok()?.to_ne_bytes();
        of.map(|(index, interface)| InetGroup { index, interface, address: Ipv4Addr::from(address).into() })
    });
    let six = six.lines().filter_map(|line| {
        let [index, interface, address, ..] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
            return None;
        };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?).into();
        Some(InetGroup { index: index.parse().ok()?, interface, address })
    });
    four.chain(six).collect()
}

/// `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)): the address in it, in the same form.
pub fn sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match u64::from(u16::from_ne_bytes(*bytes.first_chunk()?)) {
        AF_INET => IpAddr::V4(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?)),
        AF_INET6 => plain(IpAddr::V6(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 00 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 0 1 00 20 4 30 10 -1";
    const TCP6: &str = "   0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 \
                        00000000:00000000 00:00000000 00000000 0 0 77 1 0 20 4 30 10 -1
   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A \
                        00000000:00000000 00:00000000 00000000 0 0 78 1 0 20 4 30 10 -1";

    /// Linux 6.18.
    #[test]
    fn groups_of_both_families() {
        let four = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\
                    \t\t\t\t030201EF     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        let six = "4    eth0            ff150000000000000000000000001234     1 0000000C 0\n";
        let all = inet_groups(four, six);
        let seen: Vec<_> = all.iter().map(|g| format!("{} {} {}", g.index, g.interface, g.address)).collect();
        assert_eq!(seen, ["1 lo 239.1.2.3", "1 lo 224.0.0.1", "4 eth0 ff15::1234"]);
        let long = inet_groups("7\tbr-0123456789ab:     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n", "");
        assert_eq!(long[0].interface, "br-0123456789ab");
        assert!(inet_groups("\t\t\t\t010000E0 1\nx y", "1 lo\nx lo z").is_empty());
    }

    #[test]
    fn who_takes_what_is_sent_to_an_address() {
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        let takes = |own: &str, to: &str| InetLine { local: at(own), ..inet(TCP)[0].clone() }.takes(at(to));
        for (own, to) in
            [("1.2.3.4:5", "1.2.3.4:5"), ("0.0.0.0:5", "1.2.3.4:5"), ("[::]:5", "1.2.3.4:5"), ("[::]:5", "[::1]:5")]
        {
            assert!(takes(own, to) && takes(to, own), "{own} {to}");
        }
        assert!(takes("0.0.0.0:5", "[::]:5"));
        for (own, to) in [("0.0.0.0:5", "[::1]:5"), ("[::1]:5", "1.2.3.4:5"), ("[::]:5", "[::]:6")] {
            assert!(!takes(own, to) && !takes(to, own), "{own} {to}");
        }
    }

    #[test]
    fn both_families() {
        let all = inet(TCP);
        assert_eq!((all[0].local, all[0].state, all[0].inode), ("127.0.0.1:8080".parse().unwrap(), 10, 1234));
        assert_eq!(all[1].remote, "127.0.0.1:50000".parse().unwrap());
        let six = inet(TCP6);
        assert_eq!((six[0].local, six[0].remote), (all[1].remote, all[1].local), "two ends of one connection");
        assert_eq!(six[1].local, "[::1]:22".parse().unwrap());
        assert_eq!(inet("a line of another sort\n\n 1: 2 3 4"), []);
    }

    #[test]
    fn addresses_of_calls() {
        let four = [&[2, 0, 0x1f, 0x90, 127, 0, 0, 1][..], &[0; 8]].concat();
        assert_eq!(sockaddr(&four), Some("127.0.0.1:8080".parse().unwrap()));
        let six = [&[10, 0, 0, 22][..], &[0; 4], &[0; 15], &[1], &[0; 4]].concat();
        assert_eq!(sockaddr(&six), Some("[::1]:22".parse().unwrap()));
        assert_eq!(sockaddr(&[1, 0, 0]), None);
    }
}
