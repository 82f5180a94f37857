//! One request, one answer, over a connection of its own: enough to look at a service from outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// GET `path`; status and body, or what went wrong in words.
///
/// # Errors
/// When there is no connection or no readable answer within 10 s.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|e| e.to_string())?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// Below the range from which the kernel takes ports for outgoing connections: one of those must not be in the way of a
/// service that opens its port a moment later.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that is free on 127.0.0.1 now, and that no other test of this process is given.
///
/// # Panics
/// When the machine has none.
#[must_use]
pub fn free_port() -> u16 {
    let width = PORTS.end - PORTS.start;
    // Test programs begin at places of their own.
    let begin = u16::try_from(std::process::id() * 97 % u32::from(width)).unwrap_or(0);
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % width;
        let port = PORTS.start + (begin + step) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
