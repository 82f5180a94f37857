//! WebSockets held open: a frame and its echo each second, opened again when cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Shared;

const PERIOD: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
/// FIN and text, masked, two bytes: "hi" under the mask 0, as RFC 6455 §5.2 has it.
const FRAME: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const ECHO_BYTES: usize = 4;

/// Holds one open until the task is aborted.
pub(crate) async fn hold(target: SocketAddr, shared: Arc<Shared>) {
    loop {
        if let Ok(stream) = open(target).await {
            shared.sockets_open.fetch_add(1, Ordering::Relaxed);
            let _ = echo(stream).await;
            shared.sockets_open.fetch_sub(1, Ordering::Relaxed);
            shared.sockets_cut.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn open(target: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    let request = "GET /ws HTTP/1.1\r\nhost: pith\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") {
        Ok(stream)
    } else {
        Err(std::io::Error::other("refused"))
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut answer = [0; ECHO_BYTES];
    loop {
        stream.write_all(&FRAME).await?;
        tokio::time::timeout(LIMIT, stream.read_exact(&mut answer)).await??;
        // A close frame is a cut, too.
        if answer[0] != 0x81 {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
}
