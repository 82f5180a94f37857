//! What a kept connection costs the proxy while nothing comes on it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::PROXY_PORT;
use crate::bench::footprint::pss_bytes;

pub(super) const CONNECTIONS: usize = 1000;
/// Served before, so that what the proxy allocates once does not count.
const WARM_UP: usize = 32;
/// Connections to backends that the burst opened beyond what is kept warm are closed by then.
const SETTLE: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// By how much the process grew for each connection that was answered once, all of them at the same time.
pub(super) fn bytes_each(pid: u32) -> f64 {
    let pid = i32::try_from(pid).expect("a process id");
    drop(answered(WARM_UP));
    std::thread::sleep(SETTLE);
    let before = pss_bytes(pid);
    let open = answered(CONNECTIONS);
    std::thread::sleep(SETTLE);
    let after = pss_bytes(pid);
    assert!(before > 0 && after > 0, "the proxy is gone");
    after.saturating_sub(before) as f64 / open.len() as f64
}

fn answered(count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(("127.0.0.1", PROXY_PORT)).expect("a connection");
    let mut open: Vec<TcpStream> = (0..count).map(connect).collect();
    for stream in &mut open {
        stream.write_all(REQUEST).expect("a request can be sent");
    }
    for stream in &mut open {
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "an answer");
    }
    open
}
