//! Backups wait behind the others.

use crate::lab::{Place, Wire, backend, free_address, naming, route};
use proxy::{Backend, BackendState, Protocol, Route, TakeOver};
use std::net::SocketAddr;
use std::time::Duration;

async fn named(name: &'static str) -> Backend {
    backend(name, naming(name, Duration::ZERO).await, 1)
}

fn as_backup(mut one: Backend) -> Backend {
    one.backup = true;
    one
}

/// How many of 20 requests each of `names` answers.
async fn answers(listen: SocketAddr, names: &[&str]) -> Vec<usize> {
    let mut wire = Wire::to(listen).await;
    let mut seen = vec![0; names.len()];
    for _ in 0..20 {
        let answer = wire.get().await.unwrap();
        seen[names.iter().position(|name| *name == answer.text()).unwrap()] += 1;
    }
    seen
}

#[tokio::test]
async fn a_backup_serves_only_while_no_other_backend_can() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let (local, first, second) =
        (named("local").await, as_backup(named("b1").await), as_backup(named("b2").await));
    let table =
        |backends: Vec<Backend>| -> [Route; 1] { [route(listen, Protocol::Http, backends)] };
    let names = ["local", "b1", "b2"];
    proxy.set(&table(vec![first.clone(), local.clone(), second.clone()])).await;
    assert_eq!(answers(listen, &names).await, [20, 0, 0]);
    let mut draining = local.clone();
    draining.state = BackendState::Draining;
    proxy.set(&table(vec![first.clone(), draining, second.clone()])).await;
    assert_eq!(answers(listen, &names).await, [0, 10, 10]);
    proxy.set(&table(vec![first, local, second])).await;
    assert_eq!(answers(listen, &names).await, [20, 0, 0]);
}

#[tokio::test]
async fn a_backup_serves_what_the_refusing_ones_do_not() {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    let refusing = backend("refusing", free_address(), 9);
    let backends = vec![refusing, as_backup(named("backup").await)];
    proxy.set(&[route(listen, Protocol::Http, backends)]).await;
    assert_eq!(answers(listen, &["backup"]).await, [20]);
    // Each second it is tried again; the other requests of that second do not wait for it.
    assert!((1..10).contains(&proxy.snapshot().await.backends[0].connect_errors));
}
