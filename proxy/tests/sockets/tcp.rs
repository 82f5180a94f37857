//! Raw streams: half-close, PROXY v2, draining, cutting.

use crate::lab::{Place, Wire, accepting, backend, eventually, free_address, route};
use proxy::{BackendState, Protocol, TakeOver};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_half_closed_connection_still_gets_its_answer() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let address = accepting(|_, mut wire| async move {
        let all = wire.rest().await;
        wire.stream.write_all(&all).await.unwrap();
    })
    .await;
    proxy.set(&[route(listen, Protocol::Tcp, vec![backend("a", address, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    let question = vec![7; 3_000_000];
    wire.stream.write_all(&question).await.unwrap();
    wire.stream.shutdown().await.unwrap();
    assert!(wire.rest().await == question);
    eventually(async || proxy.snapshot().await.backends[0].connections == 0).await;
}

#[tokio::test]
async fn the_backend_learns_the_client_by_proxy_v2() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let address = accepting(move |_, mut wire| {
        let tell = tell.clone();
        async move { tell.send(wire.exactly(33).await.unwrap()).unwrap() }
    })
    .await;
    let mut with_header = route(listen, Protocol::Tcp, vec![backend("a", address, 1)]);
    with_header.send_proxy_v2 = true;
    proxy.set(&[with_header]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("hello").await;
    let seen = told.recv().await.unwrap();
    let local = wire.stream.local_addr().unwrap();
    assert_eq!(&seen[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(&seen[16..20], [127, 0, 0, 1]);
    assert_eq!(seen[24..26], local.port().to_be_bytes());
    assert_eq!(seen[26..28], listen.port().to_be_bytes());
    assert_eq!(&seen[28..], b"hello");
}

#[tokio::test]
async fn a_draining_backend_keeps_its_connections_and_loses_them_with_the_table() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let echo = || {
        accepting(|_, mut wire| async move {
            while let Some(bytes) = wire.exactly(1).await {
                wire.stream.write_all(&bytes).await.unwrap();
            }
        })
    };
    let (old, new) = (backend("old", echo().await, 1), backend("new", echo().await, 1));
    proxy.set(&[route(listen, Protocol::Tcp, vec![old.clone()])]).await;
    let mut first = Wire::to(listen).await;
    first.send("a").await;
    assert_eq!(first.exactly(1).await.unwrap(), b"a");
    let mut draining = old;
    draining.state = BackendState::Draining;
    proxy.set(&[route(listen, Protocol::Tcp, vec![draining, new.clone()])]).await;
    let mut second = Wire::to(listen).await;
    second.send("b").await;
    assert_eq!(second.exactly(1).await.unwrap(), b"b");
    first.send("c").await;
    assert_eq!(first.exactly(1).await.unwrap(), b"c");
    let seen: Vec<_> =
        proxy.snapshot().await.backends.iter().map(|status| status.connections).collect();
    assert_eq!(seen, [1, 1]);
    proxy.set(&[route(listen, Protocol::Tcp, vec![new])]).await;
    assert!(first.rest().await.is_empty(), "cut");
    second.send("d").await;
    assert_eq!(second.exactly(1).await.unwrap(), b"d");
}

#[tokio::test]
async fn held_connections_go_on_when_a_backend_comes_and_close_when_none_does() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let mut held = route(listen, Protocol::Tcp, vec![]);
    proxy.set(&[held.clone()]).await;
    assert!(Wire::to(listen).await.rest().await.is_empty());
    held.hold_ms = 30_000;
    proxy.set(&[held.clone()]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("x").await;
    eventually(async || proxy.snapshot().await.held[0].1 == 1).await;
    let address = accepting(|_, mut wire| async move {
        let seen = wire.exactly(1).await.unwrap();
        wire.stream.write_all(&seen).await.unwrap();
    })
    .await;
    held.backends = vec![backend("a", address, 1)];
    proxy.set(&[held]).await;
    assert_eq!(wire.rest().await, b"x");
}
