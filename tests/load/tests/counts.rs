//! The load counts what a user would notice, exactly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use load::{Config, Load};

/// A server that answers each request through `answer`, which gets its number; no answer closes the connection.
fn serve(
    answer: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (count, answer) = (Arc::new(AtomicU32::new(0)), Arc::new(answer));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (count, answer) = (Arc::clone(&counted), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut request = [0; 1024];
                while stream.read(&mut request).is_ok_and(|n| n > 0) {
                    let Some(pause) = answer(count.fetch_add(1, Ordering::SeqCst)) else { return };
                    std::thread::sleep(pause);
                    let body = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nv1 x";
                    stream.write_all(body.as_bytes()).unwrap();
                }
            });
        }
    });
    (address, count)
}

fn config(target: SocketAddr) -> Config {
    Config {
        targets: vec![target],
        path: "/".into(),
        kept_connections: 4,
        kept_rate: 200,
        new_rate: 100,
        websockets: 0,
    }
}

#[test]
fn a_server_that_drops_one_of_fifty_is_counted_exactly() {
    let (target, count) = serve(|n| (n % 50 != 49).then_some(Duration::ZERO));
    let from = Instant::now();
    let mut load = Load::start(config(target));
    while count.load(Ordering::SeqCst) < 500 {
        std::thread::yield_now();
    }
    load.stop();
    let summary = load.summary(from, Instant::now());
    let dropped = u64::from(count.load(Ordering::SeqCst) / 50);
    assert_eq!((summary.failed, summary.sent), (dropped, u64::from(count.load(Ordering::SeqCst))));
    assert_eq!(summary.versions["v1"], summary.sent - dropped);
    assert!(summary.errors[0].contains("closed before"), "{:?}", summary.errors);
}

#[test]
fn latency_counts_from_the_moment_the_schedule_wanted() {
    let (target, count) = serve(|_| Some(Duration::from_millis(40)));
    let from = Instant::now();
    // Four connections of 40 ms each carry 100 a second of the 200 asked for: the rest queues, and the queue is latency.
    let mut load = Load::start(Config { new_rate: 0, ..config(target) });
    while count.load(Ordering::SeqCst) < 100 {
        std::thread::yield_now();
    }
    load.stop();
    let summary = load.summary(from, Instant::now());
    assert_eq!(summary.failed, 0);
    assert!(summary.max > Duration::from_millis(200), "{summary:?}");
}
