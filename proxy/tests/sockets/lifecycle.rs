//! Restart, take-over and ports that are taken.

use crate::lab::{Load, Place, Wire, accepting, backend, eventually, free_address, naming, route};
use proxy::{BackendState, Options, Protocol, RefusedReason, RunError, TakeOver, run};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

const LISTEN_HERE: &str = "PITH_TEST_LISTEN_HERE";

#[tokio::test]
async fn a_killed_proxy_comes_back_with_its_routes() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let address = naming("a", Duration::ZERO).await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    assert_eq!(Wire::to(listen).await.get().await.unwrap().text(), "a");
    proxy.kill();
    assert!(tokio::net::TcpStream::connect(listen).await.is_err());
    let proxy = place.start(TakeOver::Fresh).await;
    assert_eq!(Wire::to(listen).await.get().await.unwrap().text(), "a");
    assert_eq!(proxy.snapshot().await.listening, [("default/hello/http".to_owned(), listen)]);
}

#[tokio::test]
async fn a_second_proxy_does_not_start_beside_a_running_one() {
    let place = Place::new();
    let _proxy = place.start(TakeOver::Fresh).await;
    let options = Options {
        control_socket: place.path("control.sock"),
        state_file: place.path("table.json"),
        take_over: TakeOver::Fresh,
        renewal: None,
    };
    let result = run(options, std::future::pending()).await;
    assert!(matches!(result, Err(RunError::AlreadyRunning(_))));
}

#[tokio::test]
async fn take_over_under_load_fails_no_request_and_the_old_one_ends() {
    let (place, listen) = (Place::new(), free_address());
    let mut old = place.start(TakeOver::Fresh).await;
    let address = naming("a", Duration::from_millis(2)).await;
    old.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    let load = Load::start(listen, 8, 8);
    eventually(async || old.snapshot().await.counters[0].requests > 300).await;
    let new = place.start(TakeOver::FromRunning).await;
    let at_take_over = new.snapshot().await.counters[0].requests;
    assert!(at_take_over > 300, "counters are taken over");
    let ended = old.ended.take().unwrap();
    tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap();
    eventually(async || new.snapshot().await.counters[0].requests > at_take_over + 300).await;
    let (sent, failed) = load.stop().await;
    assert!(failed.is_empty(), "of {sent}: {failed:?}");
    eventually(async || new.snapshot().await.backends[0].in_flight == 0).await;
    assert_eq!(new.snapshot().await.counters[0].requests, sent as u64);
}

#[tokio::test]
async fn after_a_take_over_the_old_ones_work_is_seen_and_follows_the_table() {
    let (place, listen) = (Place::new(), free_address());
    let old = place.start(TakeOver::Fresh).await;
    let (release, released) = tokio::sync::watch::channel(false);
    let address = accepting(move |_, mut wire| {
        let mut released = released.clone();
        async move {
            wire.message().await;
            let _ = released.wait_for(|released| *released).await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let mut slow = backend("slow", address, 1);
    old.set(&[route(listen, Protocol::Http, vec![slow.clone()])]).await;
    let (mut wire, mut idle) = (Wire::to(listen).await, Wire::to(listen).await);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(async || old.snapshot().await.backends[0].in_flight == 1).await;
    let new = place.start(TakeOver::FromRunning).await;
    assert_eq!(new.snapshot().await.backends[0].in_flight, 1, "the old one's request");
    slow.state = BackendState::Draining;
    let fresh = backend("fresh", naming("fresh", Duration::ZERO).await, 1);
    new.set(&[route(listen, Protocol::Http, vec![slow, fresh])]).await;
    // A connection kept by the old proxy follows the new table, and is closed at its answer.
    let answer = idle.get().await.unwrap();
    assert_eq!(answer.text(), "fresh");
    assert!(answer.head.contains("Connection: close"));
    let mut watch = new.client.watch();
    release.send(true).unwrap();
    let answer = wire.message().await.unwrap();
    assert!(answer.text() == "ok" && answer.head.contains("Connection: close"));
    loop {
        let proxy::Event::Changed(changed) = watch.next().await;
        if changed.backends[0].in_flight == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named_and_the_rest_is_applied() {
    let (place, listen, taken) = (Place::new(), free_address(), free_address());
    let mut stranger = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::a_stranger_listens", "--nocapture"])
        .env(LISTEN_HERE, taken.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(stranger.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("stranger listens")));
    let proxy = place.start(TakeOver::Fresh).await;
    let address = naming("a", Duration::ZERO).await;
    let mut wanted = route(listen, Protocol::Http, vec![backend("a", address, 1)]);
    let elsewhere: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let wildcard: SocketAddr = SocketAddr::from(([0, 0, 0, 0], taken.port()));
    wanted.listen = vec![taken, listen, elsewhere, wildcard];
    let applied = proxy.set(&[wanted.clone()]).await;
    drop(stranger.stdin.take());
    let pid = stranger.id();
    stranger.wait().unwrap();
    assert_eq!(Wire::to(listen).await.get().await.unwrap().text(), "a");
    let reasons: Vec<_> = applied.refused.iter().map(|one| (one.address, &one.reason)).collect();
    let RefusedReason::PortTaken { by: Some(by) } = reasons[0].1 else {
        panic!("{reasons:?}");
    };
    assert!(by.contains(&format!("(pid {pid})")), "{by}");
    assert_eq!(reasons[1], (elsewhere, &RefusedReason::AddressNotAvailable));
    assert!(matches!(reasons[2], (at, RefusedReason::PortTaken { .. }) if at == wildcard));
    // Set again, the address that is free now is had.
    wanted.listen = vec![listen, taken];
    assert!(proxy.set(&[wanted]).await.refused.is_empty());
    assert_eq!(Wire::to(taken).await.get().await.unwrap().text(), "a");
}

/// Not a test by itself: another process, as which the one above starts this binary.
#[test]
fn a_stranger_listens() {
    let Ok(address) = std::env::var(LISTEN_HERE) else {
        return;
    };
    let _listener = std::net::TcpListener::bind(address).unwrap();
    println!("stranger listens");
    let _ = std::io::stdin().read(&mut [0]);
}

#[tokio::test]
async fn a_wildcard_and_a_specific_address_of_one_port_belong_to_two_routes() {
    let (place, specific) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let wildcard = SocketAddr::from(([0, 0, 0, 0], specific.port()));
    let a = naming("a", Duration::ZERO).await;
    let b = naming("b", Duration::ZERO).await;
    let wide = route(wildcard, Protocol::Http, vec![backend("a", a, 1)]);
    let mut narrow = route(specific, Protocol::Http, vec![backend("b", b, 1)]);
    narrow.id = "default/other/http".into();
    let mut six = wide.clone();
    six.listen.push(format!("[::]:{}", specific.port()).parse().unwrap());
    assert!(proxy.set(&[six, narrow.clone()]).await.refused.is_empty());
    let local = SocketAddr::from(([127, 0, 0, 1], specific.port()));
    assert_eq!(Wire::to(local).await.get().await.unwrap().text(), "a");
    let local6 = format!("[::1]:{}", specific.port()).parse().unwrap();
    assert_eq!(Wire::to(local6).await.get().await.unwrap().text(), "a");
    let mut kept = Wire::to(specific).await;
    assert_eq!(kept.get().await.unwrap().text(), "b");
    // The address moves to the other route: kept connections follow, the listener stays open.
    narrow.listen.clear();
    let mut both = wide;
    both.listen.push(specific);
    proxy.set(&[both, narrow]).await;
    assert_eq!(kept.get().await.unwrap().text(), "a");
}

#[tokio::test]
async fn an_old_proxy_ends_with_the_newer_one_and_leaves_its_socket_alone() {
    let (place, listen) = (Place::new(), free_address());
    let mut old = place.start(TakeOver::Fresh).await;
    let address = naming("a", Duration::ZERO).await;
    old.set(&[route(listen, Protocol::Tcp, vec![backend("a", address, 1)])]).await;
    let mut kept = Wire::to(listen).await;
    assert_eq!(kept.get().await.unwrap().text(), "a");
    let new = place.start(TakeOver::FromRunning).await;
    assert_eq!(kept.get().await.unwrap().text(), "a", "the old one holds it");
    new.kill();
    let ended = old.ended.take().unwrap();
    tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap();
    assert!(place.path("control.sock").exists());
    let _fresh = place.start(TakeOver::Fresh).await;
    assert_eq!(Wire::to(listen).await.get().await.unwrap().text(), "a");
}
