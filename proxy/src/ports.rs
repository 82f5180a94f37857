//! Who else listens on a port, from /proc. Reads only when a new address is to be bound and may not be free.

use socket2::{Domain, Socket, Type};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A listening socket somewhere in this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) inode: u64,
}

/// Whether nobody listens on an address or on one that overlaps it, neither a stranger nor this process: a socket that shares
/// no port can be bound to it (socket(7)). The tables in /proc hold every connection, and the kernel walks all its buckets for
/// them: 16 ms on a machine with much memory, in which no request is served.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    let bind = || -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections that linger after a listener has gone are nobody's.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    bind().is_ok()
}

/// Sockets in LISTEN state. Empty where /proc cannot be read.
pub(crate) fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(parse));
    }
    found
}

/// The sockets that this process holds, by inode.
pub(crate) fn own_sockets() -> HashSet<u64> {
    let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let inode = |file: std::fs::DirEntry| {
        let target = std::fs::read_link(file.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    files.filter_map(inode).collect()
}

/// A socket not in `ours` that would share the port's traffic with `address`.
pub(crate) fn foreign(
    all: &[Listening],
    ours: &HashSet<u64>,
    address: SocketAddr,
) -> Option<Listening> {
    let overlaps = |other: &&Listening| {
        let (one, two) = (address.ip(), other.address.ip());
        other.address.port() == address.port()
            && one.is_ipv4() == two.is_ipv4()
            && (one == two || one.is_unspecified() || two.is_unspecified())
            && !ours.contains(&other.inode)
    };
    all.iter().find(overlaps).copied()
}

/// Anyone else on that port, whatever the family: a dual-stack wildcard takes IPv4 too.
pub(crate) fn same_port(all: &[Listening], ours: &HashSet<u64>, port: u16) -> Option<Listening> {
    all.iter().find(|one| one.address.port() == port && !ours.contains(&one.inode)).copied()
}

/// For example `nginx (pid 812)`; needs the rights to look into that process.
pub(crate) fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&wanted))
        };
        if files.flatten().any(holds) {
            let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", comm.trim().escape_default()));
        }
    }
    None
}

/// One line of /proc/net/tcp{,6}: `sl local rem st … inode` (proc(5)); state 0A is LISTEN.
fn parse(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let word =
        |from: usize| u32::from_str_radix(ip.get(from..from + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut octets = [0; 16];
        for place in 0..4 {
            octets[place * 4..place * 4 + 4].copy_from_slice(&word(place * 8)?);
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let address = SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some(Listening { address, inode: fields.get(9)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_free_until_somebody_listens_on_it_or_on_one_that_overlaps() {
        // Below those that the kernel gives to outgoing connections (ip(7), ip_local_port_range): one that some other program makes
        // in this moment takes its port from every address.
        let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let at = |port| {
            let beside = Ipv4Addr::new(127, 0, 0, 9);
            [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, beside].map(|ip| (ip, port).into())
        };
        let port = (first..32_768).find(|port| at(*port).into_iter().all(is_free)).unwrap();
        let [loopback, wildcard, beside] = at(port);
        let listener = std::net::TcpListener::bind(loopback).unwrap();
        assert_eq!([loopback, wildcard, beside].map(is_free), [false, false, true]);
        drop(listener);
        assert_eq!([loopback, wildcard, beside].map(is_free), [true; 3]);
    }

    #[test]
    fn a_listener_that_would_share_its_port_is_seen_too() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(!is_free(address));
    }
}
