//! A route split between a candidate release and the stable one.

use crate::lab::{
    Message, Place, Wire, accepting, backend, eventually, free_address, naming, route,
};
use proxy::{Backend, BackendState, Protocol, Route, Split, TakeOver, table::TableError};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

async fn named(name: &'static str) -> Backend {
    backend(name, naming(name, Duration::ZERO).await, 1)
}

/// `new` is the candidate's release, whatever the backends' ids.
fn candidate(mut one: Backend) -> Backend {
    one.release = "new".into();
    one
}

fn draining(mut one: Backend) -> Backend {
    one.state = BackendState::Draining;
    one
}

fn split(listen: SocketAddr, share: u32, backends: &[Backend]) -> Route {
    let mut route = route(listen, Protocol::Http, backends.to_vec());
    route.split = Some(Split {
        release: "new".into(),
        share,
        cookie: Some("side".into()),
        header: Some("X-Cohort".into()),
    });
    route
}

/// How many of `count` requests with these lines `name` answers.
async fn answers_of(name: &str, listen: SocketAddr, count: usize, lines: &str) -> usize {
    let mut wire = Wire::to(listen).await;
    let mut seen = 0;
    for _ in 0..count {
        seen += usize::from(ask(&mut wire, lines).await.text() == name);
    }
    seen
}

async fn ask(wire: &mut Wire, lines: &str) -> Message {
    wire.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await.unwrap()
}

/// The point that an answer gives the client to keep.
fn kept_point(answer: &Message) -> Option<u32> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("Set-Cookie: side="))?;
    let (point, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=86400; SameSite=Lax; HttpOnly");
    Some(point.parse().unwrap())
}

#[tokio::test]
async fn requests_without_a_cookie_are_split_exactly() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let backends = [named("old").await, candidate(named("new").await)];
    proxy.set(&[split(listen, 1000, &backends)]).await;
    assert_eq!(answers_of("new", listen, 10_000, "").await, 1000);
    let snapshot = proxy.snapshot().await;
    let counted = snapshot.counters.iter().find(|one| one.release == "new").unwrap();
    assert_eq!(counted.requests, 1000);
}

#[tokio::test]
async fn a_share_of_nothing_gives_nothing_and_a_share_of_all_gives_all() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let backends = [named("old").await, candidate(named("new").await)];
    proxy.set(&[split(listen, 0, &backends)]).await;
    assert_eq!(answers_of("new", listen, 10_000, "").await, 0);
    assert_eq!(answers_of("new", listen, 20, "Cookie: side=0\r\n").await, 0);
    assert_eq!(answers_of("new", listen, 20, "X-Cohort: canary\r\n").await, 0);
    proxy.set(&[split(listen, 10_000, &backends)]).await;
    assert_eq!(answers_of("new", listen, 10_000, "").await, 10_000);
}

#[tokio::test]
async fn a_client_with_its_cookie_moves_to_the_candidate_once_and_never_back() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let backends = [named("old").await, candidate(named("new").await)];
    let mut clients: Vec<(u32, bool)> = Vec::new();
    for share in [500, 1000, 2500, 5000, 10_000] {
        proxy.set(&[split(listen, share, &backends)]).await;
        let mut wire = Wire::to(listen).await;
        for (point, was_new) in &mut clients {
            // Twice: it keeps its side as long as the share stays.
            for _ in 0..2 {
                let answer = ask(&mut wire, &format!("Cookie: side={point}\r\n")).await;
                assert_eq!(kept_point(&answer), None, "its cookie is valid");
                let is_new = answer.text() == "new";
                assert_eq!(is_new, *point < share);
                assert!(is_new || !*was_new, "{point} went back at {share}");
                *was_new = is_new;
            }
        }
        for _ in 0..100 {
            let answer = wire.get().await.unwrap();
            clients.push((kept_point(&answer).unwrap(), answer.text() == "new"));
        }
    }
    assert!(clients.iter().all(|(point, is_new)| *is_new || *point >= 5000));
}

#[tokio::test]
async fn a_cookie_that_is_not_a_point_is_replaced_and_other_cookies_go_through() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let echo = accepting(|_, mut wire| async move {
        while let Some(request) = wire.message().await {
            let seen = request.head.lines().find(|line| line.starts_with("Cookie")).unwrap();
            let length = seen.len();
            let lines = format!("Set-Cookie: theirs=1\r\nContent-Length: {length}\r\n\r\n{seen}");
            wire.send(&format!("HTTP/1.1 200 OK\r\n{lines}")).await;
        }
    })
    .await;
    proxy.set(&[split(listen, 5000, &[backend("old", echo, 1)])]).await;
    let mut wire = Wire::to(listen).await;
    let answer = ask(&mut wire, "Cookie: mine=2; side=10000\r\n").await;
    assert_eq!(answer.text(), "Cookie: mine=2; side=10000");
    assert!(kept_point(&answer).is_some() && answer.head.contains("Set-Cookie: theirs=1\r\n"));
    let answer = ask(&mut wire, "Cookie: mine=2; side=9999\r\n").await;
    assert!(kept_point(&answer).is_none() && answer.head.contains("Set-Cookie: theirs=1\r\n"));
}

#[tokio::test]
async fn the_header_selects_the_cohort_whatever_the_point() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let backends = [named("old").await, candidate(named("new").await)];
    proxy.set(&[split(listen, 1, &backends)]).await;
    let canary = "Cookie: side=9999\r\nX-Cohort: canary\r\n";
    assert_eq!(answers_of("new", listen, 20, canary).await, 20);
    proxy.set(&[split(listen, 9999, &backends)]).await;
    let stable = "Cookie: side=0\r\nX-Cohort: stable\r\n";
    assert_eq!(answers_of("old", listen, 20, stable).await, 20);
    // It leaves no trace, so that a tester is an ordinary client again with the next request.
    let mut wire = Wire::to(listen).await;
    assert_eq!(kept_point(&ask(&mut wire, "X-Cohort: canary\r\n").await), None);
}

#[tokio::test]
async fn a_cohort_that_takes_nothing_leaves_its_requests_to_the_other() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (old, new) = (named("old").await, candidate(named("new").await));
    proxy.set(&[split(listen, 5000, &[old.clone(), draining(new.clone())])]).await;
    assert_eq!(answers_of("old", listen, 50, "").await, 50);
    assert_eq!(answers_of("old", listen, 5, "X-Cohort: canary\r\n").await, 5);
    proxy.set(&[split(listen, 5000, &[draining(old), new])]).await;
    assert_eq!(answers_of("new", listen, 50, "").await, 50);
}

#[tokio::test]
async fn at_share_zero_requests_are_held_rather_than_served_by_the_candidate() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (old, new) = (named("old").await, candidate(named("new").await));
    let mut held = split(listen, 0, &[draining(old.clone()), new.clone()]);
    proxy.set(&[held.clone()]).await;
    assert_eq!(Wire::to(listen).await.get().await.unwrap().status(), "503");
    held.hold_ms = 30_000;
    proxy.set(&[held.clone()]).await;
    let mut wire = Wire::to(listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Cohort: canary\r\n\r\n").await;
    eventually(async || proxy.snapshot().await.held[0].1 == 1).await;
    held.backends = vec![old, new];
    proxy.set(&[held]).await;
    assert_eq!(wire.message().await.unwrap().text(), "old");
}

#[tokio::test]
async fn a_failed_connect_is_repeated_within_the_cohort_first() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let refusing = candidate(backend("refusing", free_address(), 9));
    let (old, new) = (named("old").await, candidate(named("new").await));
    proxy.set(&[split(listen, 10_000, &[old.clone(), refusing.clone(), new])]).await;
    assert_eq!(answers_of("new", listen, 20, "").await, 20);
    proxy.set(&[split(listen, 10_000, &[old, refusing])]).await;
    assert_eq!(answers_of("old", listen, 20, "").await, 20);
    let errors: Vec<u64> =
        proxy.snapshot().await.backends.iter().map(|one| one.connect_errors).collect();
    assert!(errors[0] == 0 && errors[1] > 0, "{errors:?}");
}

#[tokio::test]
async fn tcp_connections_are_split() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let saying = |name: &'static str| {
        accepting(move |_, mut wire| async move {
            wire.stream.write_all(name.as_bytes()).await.unwrap();
        })
    };
    let (old, new) = (saying("old").await, saying("new").await);
    let backends = [backend("old", old, 1), candidate(backend("new", new, 1))];
    let mut route = split(listen, 2000, &backends);
    route.protocol = Protocol::Tcp;
    proxy.set(&[route]).await;
    let mut seen: i32 = 0;
    for _ in 0..1000 {
        seen += i32::from(Wire::to(listen).await.rest().await == b"new");
    }
    assert!((seen - 200).abs() <= 3, "{seen} of 1000 at a fifth");
}

#[tokio::test]
async fn a_split_and_its_tiers_outlive_the_proxy_and_a_take_over() {
    let (place, listen) = (Place::new(), free_address());
    let first = place.start(TakeOver::Fresh).await;
    let mut backup = named("backup").await;
    backup.backup = true;
    let wanted =
        split(listen, 10_000, &[named("old").await, candidate(named("new").await), backup]);
    first.set(std::slice::from_ref(&wanted)).await;
    first.kill();
    let second = place.start(TakeOver::Fresh).await;
    assert_eq!(second.snapshot().await.table.routes, std::slice::from_ref(&wanted));
    let third = place.start(TakeOver::FromRunning).await;
    assert_eq!(third.snapshot().await.table.routes, [wanted]);
    assert_eq!(answers_of("new", listen, 20, "").await, 20);
}

#[tokio::test]
async fn a_split_that_makes_no_sense_is_refused_with_its_table() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let right = split(listen, 10_000, &[]);
    let refused = |change: fn(&mut Split)| {
        let mut wrong = right.clone();
        change(wrong.split.as_mut().unwrap());
        proxy::Table { version: 2, routes: vec![wrong], fleet: None }
    };
    for wrong in [
        refused(|split| split.share = 10_001),
        refused(|split| split.cookie = Some("a=b".into())),
        refused(|split| split.cookie = Some("a\r\nX: b".into())),
        refused(|split| split.header = Some(String::new())),
    ] {
        assert!(proxy.client.set(&wrong).await.is_err(), "{wrong:?}");
    }
    let share = TableError::ShareTooLarge { route: right.id.clone(), share: 10_001 };
    assert_eq!(refused(|split| split.share = 10_001).check(), Err(share));
    proxy.set(&[right]).await;
}
