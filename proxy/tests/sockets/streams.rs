//! Upgrades, events and large bodies.

use crate::lab::{Place, Wire, accepting, backend, eventually, free_address, route};
use proxy::{Protocol, TakeOver};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn an_upgraded_connection_passes_both_ways_counts_and_is_cut_with_its_backend() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let address = accepting(|_, mut wire| async move {
        let head = wire.head_only().await;
        assert!(head.contains("Connection: Upgrade\r\n") && head.contains("Upgrade: websocket\r\n"));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
            .await;
        while let Some(bytes) = wire.exactly(4).await {
            wire.stream.write_all(&bytes).await.unwrap();
        }
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nping")
        .await;
    let head = wire.head_only().await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("Connection: Upgrade"), "{head}");
    assert_eq!(wire.exactly(9).await.unwrap(), b"firstping");
    wire.send("pong").await;
    assert_eq!(wire.exactly(4).await.unwrap(), b"pong");
    let status = proxy.snapshot().await.backends.remove(0);
    assert_eq!((status.in_flight, status.connections), (0, 1));
    proxy.set(&[route(listen, Protocol::Http, vec![])]).await;
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn events_arrive_one_by_one_as_they_are_sent() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (send, events) = tokio::sync::mpsc::unbounded_channel::<String>();
    let events = std::sync::Arc::new(tokio::sync::Mutex::new(events));
    let address = accepting(move |_, mut wire| {
        let events = events.clone();
        async move {
            wire.message().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            while let Some(event) = events.lock().await.recv().await {
                wire.send(&format!("{:x}\r\n{event}\r\n", event.len())).await;
            }
            wire.send("0\r\n\r\n").await;
        }
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(wire.head_only().await.contains("Transfer-Encoding: chunked"));
    for number in 0..20 {
        // The next one is sent only when this one was seen.
        send.send(format!("data: {number}\n\n")).unwrap();
        let seen = wire.until(b"\n\n\r\n").await.unwrap();
        assert!(String::from_utf8(seen).unwrap().contains(&format!("data: {number}\n")));
    }
    assert_eq!(proxy.snapshot().await.backends[0].in_flight, 1);
    drop(send);
    assert_eq!(wire.until(b"0\r\n\r\n").await.unwrap(), b"0\r\n\r\n");
    eventually(async || proxy.snapshot().await.backends[0].in_flight == 0).await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_to_slow_readers() {
    const SIZE: usize = 8 * 1024 * 1024;
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let address = accepting(|_, mut wire| async move {
        let body = wire.message().await.unwrap().body;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        wire.send(&head).await;
        wire.stream.write_all(&body).await.unwrap();
        wire.rest().await;
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let body: Vec<u8> = (0..SIZE).map(|place| (place % 251) as u8).collect();
    let mut wire = Wire::to(listen).await;
    wire.send(&format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).await;
    wire.stream.write_all(&body).await.unwrap();
    assert!(wire.message().await.unwrap().body == body);
}
