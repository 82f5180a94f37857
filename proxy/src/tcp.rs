//! One TCP connection: balanced once, then copied both ways with half-close.

use crate::connect::{Connected, Reach, Search, connect};
use crate::live::backend::{Reuse, Work};
use crate::live::route::Route;
use crate::pump::{Pending, tunnel};
use crate::stream::Stream;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The fixed opening of a PROXY protocol v2 header (haproxy.org, proxy-protocol.txt §2.2).
const PROXY_V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Serves a connection until it ended, or until its backend left the table.
pub(crate) async fn serve(client: TcpStream, peer: SocketAddr, route: &Route) {
    let mut search = Search::new(Reach::Fleet, route.draw());
    let connected = connect(route, Work::Connection, Reuse::Never, &mut search).await;
    let Ok(connected) = connected else {
        return;
    };
    let header = match client.local_addr() {
        Ok(local) if route.send_proxy_v2() => proxy_v2(peer, local),
        Ok(_) | Err(_) => Vec::new(),
    };
    carry(Stream::Clear(client), connected, &header).await;
}

/// Sends `first` and then copies both ways, until the connection ended or its backend left the table.
pub(crate) async fn carry(mut client: Stream, connected: Connected, first: &[u8]) {
    let (lease, mut stream) = (connected.lease, connected.stream);
    lease.backend().counters.answered(0, lease.since.elapsed());
    let mut to_backend = Pending::default();
    to_backend.push(first);
    tokio::select! {
        // Both arms end the connection, so nothing is lost with the other one.
        _ = tunnel(&mut client, &mut stream, Pending::default(), to_backend) => (),
        () = lease.backend().gone() => (),
    }
}

/// The header that tells a backend who connected to whom.
fn proxy_v2(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut header = PROXY_V2_SIGNATURE.to_vec();
    header.push(0x21);
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            header.extend([0x11, 0, 12]);
            header.extend(from.ip().octets());
            header.extend(to.ip().octets());
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            header.extend([0x21, 0, 36]);
            header.extend(from.ip().octets());
            header.extend(to.ip().octets());
        }
        // Both ends of one socket are of one family; UNSPEC with no addresses otherwise.
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            header.extend([0, 0, 0]);
            return header;
        }
    }
    header.extend(from.port().to_be_bytes());
    header.extend(to.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    #[test]
    fn proxy_v2_header_is_the_one_of_the_specification() {
        let header =
            super::proxy_v2("10.1.2.3:1000".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\x03\xe8\0\x50";
        assert_eq!(header, expected);
    }
}
