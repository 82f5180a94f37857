//! The prober against real sockets on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use protocol::spec::{Check, Probe};
use protocol::units::Millis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::*;
use crate::engine::fake::FakeEngine;

/// Nothing here waits longer, unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("in time");
    });
}

/// A server that gives these answers, one connection each, and the last one for ever.
async fn server(answers: Vec<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut answers = answers.into_iter().peekable();
        let mut last = "";
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            last = answers.next().unwrap_or(last);
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(last.as_bytes()).await;
        }
    });
    address
}

fn target(port: u16, health: Health) -> ProbeTarget {
    ProbeTarget {
        container: "c1".to_owned(),
        address: Ipv4Addr::LOCALHOST,
        started: clock::now(),
        health: Arc::new(health),
        targets: vec![port],
    }
}

fn readiness(check: Check) -> Health {
    let probe = Probe {
        check,
        initial_delay: Millis(0),
        period: Millis(100),
        timeout: Millis(1_000),
        success_threshold: 1,
        failure_threshold: 1,
    };
    Health { readiness: Some(probe), ..Health::default() }
}

fn prober() -> (Prober, mpsc::UnboundedReceiver<ProbeChanged>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let tell = move |change| {
        let _ = sender.send(change);
    };
    (Prober::start(FakeEngine::default(), tell), receiver)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\nstarting";

#[test]
fn an_instance_becomes_ready_when_it_answers_and_unready_when_it_does_not() {
    run(async {
        let port = server(vec![BUSY, BUSY, OK, BUSY]).await.port();
        let (prober, mut changes) = prober();
        let check = Check::Http { path: "/ready?x=1".to_owned(), port };
        prober.set(vec![target(port, readiness(check))]);
        let ready = changes.recv().await.unwrap();
        assert!(ready.probed.ready_since.is_some(), "{ready:?}");
        let unready = changes.recv().await.unwrap();
        assert!(unready.probed.ready_since.is_none() && unready.probed.was_ready);
        let text = unready.probed.last_failure.unwrap();
        assert!(text.contains("/ready?x=1: 503 Service Unavailable: starting"), "{text}");
        assert!(prober.probed("c1").unwrap().was_ready);
        prober.set(Vec::new());
        assert_eq!(prober.probed("c1"), None);
    });
}

#[test]
fn without_probes_a_connection_is_enough() {
    run(async {
        let port = server(vec![""]).await.port();
        let (prober, mut changes) = prober();
        prober.set(vec![target(port, Health::default())]);
        assert!(changes.recv().await.unwrap().probed.ready_since.is_some());
    });
}

#[test]
fn a_command_that_exits_with_0_passes() {
    run(async {
        let (prober, mut changes) = prober();
        let check = Check::Exec { command: vec!["/check".to_owned()] };
        prober.set(vec![target(1, readiness(check))]);
        // The fake has no such container: it fails, and is told as the last failure.
        let failure = loop {
            tokio::task::yield_now().await;
            if let Some(text) = prober.probed("c1").unwrap().last_failure {
                break text;
            }
        };
        assert!(failure.contains("`/check`") && failure.contains("No such container"), "{failure}");
        assert!(changes.try_recv().is_err());
    });
}

#[test]
fn while_the_engine_is_away_failures_do_not_count() {
    run(async {
        let port = server(vec![OK, OK, BUSY]).await.port();
        let (prober, mut changes) = prober();
        let check = Check::Http { path: "/".to_owned(), port };
        prober.set(vec![target(port, readiness(check))]);
        assert!(changes.recv().await.unwrap().probed.ready_since.is_some());
        prober.count(Counting::Suspended);
        let quiet = tokio::time::timeout(Duration::from_millis(500), changes.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        prober.count(Counting::Normal);
        assert!(changes.recv().await.unwrap().probed.ready_since.is_none());
    });
}
