//! Options of sockets that can be asked for and set again: socket(7), ip(7), ipv6(7), tcp(7), udp(7).

/// Family, type and protocol (socket(2)).
pub type SocketKind = (u64, u64, u64);

/// An option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SockOpt {
    /// Of which protocol.
    pub level: u64,
    /// Its number there.
    pub number: u64,
    /// In bytes, how long its value is.
    pub len: usize,
    /// Its name.
    pub name: &'static str,
}

impl SockOpt {
    /// No value is longer.
    pub const LONGEST: usize = 40;
}

macro_rules! options {
    ($($(#[$doc:meta])* $list:ident of $level:ident { $($name:ident $number:literal $len:literal;)* })*) => { $(
        $(#[$doc])*
        pub const $list: &[SockOpt] =
            &[$(SockOpt { level: $level, number: $number, len: $len, name: stringify!($name) },)*];
        $(const _: () = assert!($len <= SockOpt::LONGEST);)*
    )* };
}

use crate::consts::socket::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP,
    IPPROTO_UDP, SOCK_RAW, SOCK_STREAM, SOL_NETLINK, SOL_PACKET, SOL_RAW, SOL_SOCKET, SOL_UDPLITE,
};

/// Those that a socket can have; of families that are not here, none.
pub fn of((family, kind, protocol): SocketKind) -> &'static [&'static [SockOpt]] {
    const STREAM: u64 = SOCK_STREAM as u64;
    const RAW_PACKETS: u64 = SOCK_RAW as u64;
    match (family, kind) {
        (AF_UNIX, _) => &[SOCKET],
        (AF_NETLINK, _) => &[SOCKET, NETLINK],
        (AF_PACKET, _) => &[SOCKET, PACKET],
        (AF_INET, STREAM) => &[SOCKET, IP, TCP],
        (AF_INET6, STREAM) => &[SOCKET, IP, IPV6, TCP],
        (AF_INET, RAW_PACKETS) => &[SOCKET, IP, RAW],
        (AF_INET6, RAW_PACKETS) => &[SOCKET, IP, IPV6, RAW, ICMPV6],
        (AF_INET, _) if protocol == SOL_UDPLITE => &[SOCKET, IP, UDP, UDPLITE],
        (AF_INET6, _) if protocol == SOL_UDPLITE => &[SOCKET, IP, IPV6, UDP, UDPLITE],
        (AF_INET, _) => &[SOCKET, IP, UDP],
        (AF_INET6, _) => &[SOCKET, IP, IPV6, UDP],
        _ => &[],
    }
}

options! {
    /// Of all sockets (asm-generic/socket.h).
    SOCKET of SOL_SOCKET {
        SO_DEBUG 1 4;
        SO_REUSEADDR 2 4;
        SO_DONTROUTE 5 4;
        SO_BROADCAST 6 4;
        SO_KEEPALIVE 9 4;
        SO_OOBINLINE 10 4;
        SO_NO_CHECK 11 4;
        SO_PRIORITY 12 4;
        SO_LINGER 13 8;
        SO_REUSEPORT 15 4;
        SO_PASSCRED 16 4;
        SO_RCVLOWAT 18 4;
        SO_RCVTIMEO 20 16;
        SO_SNDTIMEO 21 16;
        SO_BINDTODEVICE 25 16;
        SO_TIMESTAMP 29 4;
        SO_PASSSEC 34 4;
        SO_TIMESTAMPNS 35 4;
        SO_MARK 36 4;
        SO_TIMESTAMPING 37 8;
        SO_RXQ_OVFL 40 4;
        SO_WIFI_STATUS 41 4;
        SO_PEEK_OFF 42 4;
        SO_NOFCS 43 4;
        SO_LOCK_FILTER 44 4;
        SO_SELECT_ERR_QUEUE 45 4;
        SO_BUSY_POLL 46 4;
        SO_MAX_PACING_RATE 47 8;
        SO_ZEROCOPY 60 4;
        SO_TXTIME 61 8;
        SO_TIMESTAMP_NEW 63 4;
        SO_TIMESTAMPNS_NEW 64 4;
        SO_TIMESTAMPING_NEW 65 8;
        SO_PREFER_BUSY_POLL 69 4;
        SO_RESERVE_MEM 73 4;
        SO_TXREHASH 74 4;
        SO_RCVMARK 75 4;
        SO_PASSPIDFD 76 4;
        SO_RCVPRIORITY 82 4;
        SO_PASSRIGHTS 83 4;
    }
    /// Of the internet families (linux/in.h).
    IP of IPPROTO_IP {
        IP_TOS 1 4;
        IP_TTL 2 4;
        IP_HDRINCL 3 4;
        IP_OPTIONS 4 40;
        IP_RECVOPTS 6 4;
        IP_RETOPTS 7 4;
        IP_PKTINFO 8 4;
        IP_MTU_DISCOVER 10 4;
        IP_RECVERR 11 4;
        IP_RECVTTL 12 4;
        IP_RECVTOS 13 4;
        IP_FREEBIND 15 4;
        IP_PASSSEC 18 4;
        IP_TRANSPARENT 19 4;
        IP_RECVORIGDSTADDR 20 4;
        IP_MINTTL 21 4;
        IP_NODEFRAG 22 4;
        IP_CHECKSUM 23 4;
        IP_BIND_ADDRESS_NO_PORT 24 4;
        IP_RECVFRAGSIZE 25 4;
        IP_RECVERR_RFC4884 26 4;
        IP_MULTICAST_IF 32 4;
        IP_MULTICAST_TTL 33 4;
        IP_MULTICAST_LOOP 34 4;
        IP_MULTICAST_ALL 49 4;
        IP_UNICAST_IF 50 4;
        IP_LOCAL_PORT_RANGE 51 4;
    }
    /// Of the newer of them (linux/in6.h).
    IPV6 of IPPROTO_IPV6 {
        IPV6_2292PKTINFO 2 4;
        IPV6_2292HOPOPTS 3 4;
        IPV6_2292DSTOPTS 4 4;
        IPV6_2292RTHDR 5 4;
        IPV6_CHECKSUM 7 4;
        IPV6_2292HOPLIMIT 8 4;
        IPV6_FLOWINFO 11 4;
        IPV6_UNICAST_HOPS 16 4;
        IPV6_MULTICAST_IF 17 4;
        IPV6_MULTICAST_HOPS 18 4;
        IPV6_MULTICAST_LOOP 19 4;
        IPV6_MTU_DISCOVER 23 4;
        IPV6_RECVERR 25 4;
        IPV6_V6ONLY 26 4;
        IPV6_MULTICAST_ALL 29 4;
        IPV6_ROUTER_ALERT_ISOLATE 30 4;
        IPV6_RECVERR_RFC4884 31 4;
        IPV6_FLOWINFO_SEND 33 4;
        IPV6_HDRINCL 36 4;
        IPV6_RECVPKTINFO 49 4;
        IPV6_RECVHOPLIMIT 51 4;
        IPV6_RECVHOPOPTS 53 4;
        IPV6_RECVRTHDR 56 4;
        IPV6_RECVDSTOPTS 58 4;
        IPV6_RECVPATHMTU 60 4;
        IPV6_DONTFRAG 62 4;
        IPV6_RECVTCLASS 66 4;
        IPV6_TCLASS 67 4;
        IPV6_AUTOFLOWLABEL 70 4;
        IPV6_ADDR_PREFERENCES 72 4;
        IPV6_MINHOPCOUNT 73 4;
        IPV6_RECVORIGDSTADDR 74 4;
        IPV6_TRANSPARENT 75 4;
        IPV6_UNICAST_IF 76 4;
        IPV6_RECVFRAGSIZE 77 4;
        IPV6_FREEBIND 78 4;
    }
    /// Of TCP (linux/tcp.h).
    TCP of IPPROTO_TCP {
        TCP_NODELAY 1 4;
        TCP_MAXSEG 2 4;
        TCP_CORK 3 4;
        TCP_KEEPIDLE 4 4;
        TCP_KEEPINTVL 5 4;
        TCP_KEEPCNT 6 4;
        TCP_SYNCNT 7 4;
        TCP_LINGER2 8 4;
        TCP_DEFER_ACCEPT 9 4;
        TCP_WINDOW_CLAMP 10 4;
        TCP_CONGESTION 13 16;
        TCP_THIN_LINEAR_TIMEOUTS 16 4;
        TCP_THIN_DUPACK 17 4;
        TCP_USER_TIMEOUT 18 4;
        TCP_FASTOPEN 23 4;
        TCP_NOTSENT_LOWAT 25 4;
        TCP_SAVE_SYN 27 4;
        TCP_FASTOPEN_CONNECT 30 4;
        TCP_FASTOPEN_KEY 33 32;
        TCP_FASTOPEN_NO_COOKIE 34 4;
        TCP_INQ 36 4;
        TCP_TX_DELAY 37 4;
        TCP_RTO_MAX_MS 44 4;
        TCP_RTO_MIN_US 45 4;
        TCP_DELACK_MAX_US 46 4;
    }
    /// Of UDP (linux/udp.h).
    UDP of IPPROTO_UDP {
        UDP_CORK 1 4;
        UDP_ENCAP 100 4;
        UDP_NO_CHECK6_TX 101 4;
        UDP_NO_CHECK6_RX 102 4;
        UDP_SEGMENT 103 4;
        UDP_GRO 104 4;
    }
    /// Of UDP-Lite alone (udplite(7)).
    UDPLITE of SOL_UDPLITE {
        UDPLITE_SEND_CSCOV 10 4;
        UDPLITE_RECV_CSCOV 11 4;
    }
    /// Of raw ones (raw(7)).
    RAW of SOL_RAW {
        ICMP_FILTER 1 4;
    }
    /// Likewise, of the newer family (linux/icmpv6.h).
    ICMPV6 of IPPROTO_ICMPV6 {
        ICMPV6_FILTER 1 32;
    }
    /// Of packets (linux/if_packet.h).
    PACKET of SOL_PACKET {
        PACKET_AUXDATA 8 4;
        PACKET_ORIGDEV 9 4;
        PACKET_VERSION 10 4;
        PACKET_RESERVE 12 4;
        PACKET_LOSS 14 4;
        PACKET_VNET_HDR 15 4;
        PACKET_TIMESTAMP 17 4;
        PACKET_TX_HAS_OFF 19 4;
        PACKET_QDISC_BYPASS 20 4;
        PACKET_IGNORE_OUTGOING 23 4;
        PACKET_VNET_HDR_SZ 24 4;
    }
    /// Of netlink (linux/netlink.h).
    NETLINK of SOL_NETLINK {
        NETLINK_PKTINFO 3 4;
        NETLINK_BROADCAST_ERROR 4 4;
        NETLINK_NO_ENOBUFS 5 4;
        NETLINK_LISTEN_ALL_NSID 8 4;
        NETLINK_CAP_ACK 10 4;
        NETLINK_EXT_ACK 11 4;
        NETLINK_GET_STRICT_CHK 12 4;
    }
}
