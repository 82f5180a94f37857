//! What is asked again, and what never is.

use crate::lab::{Place, Wire, accepting, backend, free_address, naming, route};
use proxy::{Protocol, TakeOver};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers the first request of each connection; reads the second one and closes without an answer.
async fn forgetful(requests: Arc<AtomicUsize>) -> std::net::SocketAddr {
    accepting(move |_, mut wire| {
        let requests = Arc::clone(&requests);
        async move {
            for served in 0..2 {
                if wire.message().await.is_none() {
                    return;
                }
                requests.fetch_add(1, SeqCst);
                if served == 0 {
                    wire.send(OK).await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_idempotent_request_is_sent_again_when_a_reused_connection_ends() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let address = forgetful(Arc::clone(&requests)).await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    for _ in 0..10 {
        assert_eq!(wire.get().await.unwrap().status(), "200");
        let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(wire.ask(put).await.unwrap().status(), "200");
    }
    assert!(requests.load(SeqCst) > 20, "some were sent twice");
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let address = forgetful(Arc::clone(&requests)).await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut wire = Wire::to(listen).await;
    assert_eq!(wire.ask(post).await.unwrap().status(), "200");
    assert_eq!(wire.ask(post).await.unwrap().status(), "502");
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_refusing_backend_is_passed_over_for_every_method() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let good = naming("good", Duration::ZERO).await;
    let backends = vec![backend("bad", free_address(), 5), backend("good", good, 1)];
    proxy.set(&[route(listen, Protocol::Http, backends)]).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..20 {
        assert_eq!(Wire::to(listen).await.ask(post).await.unwrap().text(), "good");
    }
    let snapshot = proxy.snapshot().await;
    assert!(snapshot.backends[0].connect_errors >= 1);
    assert!(snapshot.backends[0].connect_errors < 5, "it is put last for a while");
    assert_eq!(snapshot.backends[0].in_flight, 0);
}

#[tokio::test]
async fn a_closed_idle_connection_loses_no_post() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (closed, mut closes) = tokio::sync::mpsc::unbounded_channel();
    let address = accepting(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.message().await;
            wire.send(OK).await;
            drop(wire);
            closed.send(()).unwrap();
        }
    })
    .await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut wire = Wire::to(listen).await;
    for _ in 0..5 {
        assert_eq!(wire.ask(post).await.unwrap().status(), "200");
        closes.recv().await.unwrap();
        // The control call gives the proxy's loop a turn to see the close.
        proxy.snapshot().await;
    }
}
