//! Weights, draining and counters over real sockets.

use crate::lab::{Load, Place, Wire, accepting, backend, eventually, free_address, naming, route};
use proxy::{BackendState, Protocol, TakeOver};
use std::collections::HashMap;
use std::time::Duration;

#[tokio::test]
async fn weights_are_exact_and_zero_gets_nothing() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let mut backends = Vec::new();
    for (name, weight) in [("a", 70), ("b", 29), ("c", 1), ("z", 0)] {
        backends.push(backend(name, naming(name, Duration::ZERO).await, weight));
    }
    proxy.set(&[route(listen, Protocol::Http, backends)]).await;
    let mut wire = Wire::to(listen).await;
    let mut seen = HashMap::<String, usize>::new();
    for _ in 0..10_000 {
        *seen.entry(wire.get().await.unwrap().text().to_owned()).or_default() += 1;
    }
    let expected = [("a", 7000), ("b", 2900), ("c", 100)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(seen, HashMap::from(expected));
    let snapshot = proxy.snapshot().await;
    let counter = snapshot.counters.iter().find(|one| one.release == "release-a").unwrap();
    assert_eq!(counter.requests, 7000);
    assert_eq!(counter.latency.iter().map(|(_, count)| count).sum::<u64>(), 7000);
}

#[tokio::test]
async fn draining_under_load_fails_no_request_and_reaches_zero() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let old = backend("old", naming("old", Duration::from_millis(5)).await, 1);
    let new = backend("new", naming("new", Duration::from_millis(5)).await, 1);
    proxy.set(&[route(listen, Protocol::Http, vec![old.clone()])]).await;
    let load = Load::start(listen, 8, 4);
    eventually(async || proxy.snapshot().await.backends[0].requests_started > 200).await;
    let mut watch = proxy.client.watch();
    let mut draining = old.clone();
    draining.state = BackendState::Draining;
    proxy.set(&[route(listen, Protocol::Http, vec![draining, new.clone()])]).await;
    let started = proxy.snapshot().await.backends[0].requests_started;
    loop {
        let proxy::Event::Changed(changed) = watch.next().await;
        let old = &changed.backends[0];
        if old.state == BackendState::Draining && old.in_flight == 0 {
            break;
        }
    }
    proxy.set(&[route(listen, Protocol::Http, vec![new])]).await;
    eventually(async || proxy.snapshot().await.backends[0].requests_started > 200).await;
    let (sent, failed) = load.stop().await;
    assert!(sent > 400 && failed.is_empty(), "{sent} sent, failed: {failed:?}");
    assert!(started > 200);
}

#[tokio::test]
async fn a_backend_out_of_the_table_has_its_requests_cut() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let stuck = accepting(|_, mut wire| async move {
        wire.message().await;
        wire.rest().await;
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", stuck, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(async || proxy.snapshot().await.backends[0].in_flight == 1).await;
    proxy.set(&[route(listen, Protocol::Http, vec![])]).await;
    assert_eq!(wire.message().await.unwrap().status(), "502");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_backend() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let stuck = accepting(|_, mut wire| async move {
        wire.message().await;
        wire.rest().await;
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", stuck, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(async || proxy.snapshot().await.backends[0].in_flight == 1).await;
    drop(wire);
    eventually(async || proxy.snapshot().await.backends[0].in_flight == 0).await;
}

#[tokio::test]
async fn held_requests_go_at_once_when_a_backend_comes() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let mut held = route(listen, Protocol::Http, vec![]);
    held.hold_ms = 30_000;
    proxy.set(&[held.clone()]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(async || proxy.snapshot().await.held[0].1 == 1).await;
    held.backends = vec![backend("a", naming("a", Duration::ZERO).await, 1)];
    let before = std::time::Instant::now();
    proxy.set(&[held]).await;
    assert_eq!(wire.message().await.unwrap().text(), "a");
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn after_the_holding_time_the_answer_is_503_and_names_the_service() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    // One backend that refuses counts as none.
    let mut held = route(listen, Protocol::Http, vec![backend("a", free_address(), 1)]);
    held.hold_ms = 150;
    proxy.set(&[held]).await;
    let mut wire = Wire::to(listen).await;
    let before = std::time::Instant::now();
    let answer = wire.get().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(150));
    assert_eq!(answer.status(), "503");
    assert!(answer.head.contains("Retry-After: 1\r\n"));
    assert!(answer.text().contains("default/hello/http"));
    assert_eq!(wire.get().await.unwrap().status(), "503", "the connection is kept");
}
