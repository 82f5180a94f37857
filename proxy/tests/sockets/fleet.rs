//! Two proxies as two nodes: `near` is the one that clients reach, `far` the one with the instance.

use crate::lab::{
    Load, Place, Running, Wire, accepting, backend, eventually, free_address, naming, node, route,
};
use proxy::{Backend, BackendState, Protocol, RefusedReason, Route, Split, TakeOver};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const QUESTION: &str = "PITH/1 default/hello/http\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";

/// Both nodes; the near one's only backend is the far one.
struct Pair {
    near: Running,
    far: Running,
    listen: SocketAddr,
    port: SocketAddr,
    far_place: Place,
    _near_place: Place,
}

impl Pair {
    async fn start(protocol: Protocol, instances: Vec<Backend>) -> Self {
        let (near_place, far_place) = (Place::new(), Place::new());
        let (listen, port) = (free_address(), free_address());
        let near = near_place.start(TakeOver::Fresh).await;
        let far = far_place.start(TakeOver::Fresh).await;
        let pair = Self { near, far, listen, port, far_place, _near_place: near_place };
        pair.set_far(protocol, instances).await;
        pair.near.set(&[pair.held(protocol, vec![node("far", port)])]).await;
        pair
    }

    /// The near node's route, with a holding time.
    fn held(&self, protocol: Protocol, backends: Vec<Backend>) -> Route {
        Route { hold_ms: 30_000, ..route(self.listen, protocol, backends) }
    }

    /// The far node's route holds too, so that a test notices if it held what came from another node.
    async fn set_far(&self, protocol: Protocol, instances: Vec<Backend>) {
        let far = Route { listen: Vec::new(), ..self.held(protocol, instances) };
        assert!(self.far.set_with_fleet(self.port, &[far]).await.refused.is_empty());
    }
}

fn draining(backend: &Backend) -> Backend {
    Backend { state: BackendState::Draining, ..backend.clone() }
}

async fn echo() -> SocketAddr {
    accepting(|_, mut wire| async move {
        wire.send("banner").await;
        while let Some(bytes) = wire.exactly(1).await {
            wire.stream.write_all(&bytes).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn requests_go_through_on_one_kept_connection_and_name_the_client() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let instance = accepting(move |number, mut wire| {
        let tell = tell.clone();
        async move {
            while let Some(request) = wire.message().await {
                tell.send((number, request)).unwrap();
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let pair = Pair::start(Protocol::Http, vec![backend("a", instance, 1)]).await;
    let mut wire = Wire::from([127, 0, 0, 5], pair.listen).await;
    let question =
        "PUT /x HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 1.1.1.1\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..20 {
        assert_eq!(wire.ask(question).await.unwrap().text(), "ok");
        let (number, request) = told.recv().await.unwrap();
        assert_eq!((number, &request.body[..]), (0, &b"abc"[..]));
        assert!(request.head.contains("X-Forwarded-For: 127.0.0.5\r\n"), "{}", request.head);
        assert!(request.head.contains("X-Forwarded-Host: shop\r\n"));
    }
    assert_eq!(pair.near.snapshot().await.counters[0].requests, 20);
    assert_eq!(pair.far.snapshot().await.counters[0].requests, 20);
}

#[tokio::test]
async fn a_stranger_hears_nothing_and_a_peer_is_answered_for_each_route() {
    let instance = naming("a", Duration::ZERO).await;
    let pair = Pair::start(Protocol::Http, vec![backend("a", instance, 1)]).await;
    let mut slow = Wire::to(pair.port).await;
    slow.send("PITH/1 default").await;
    let mut stranger = Wire::from([127, 0, 0, 5], pair.port).await;
    stranger.send(QUESTION).await;
    assert!(stranger.rest().await.is_empty());
    for (question, answer) in [
        ("PITH/1 default/other/http\n", "NO\n"),
        ("PITH/2 default/hello/http\n", "NO\n"),
        (GET, "NO\n"),
        (&"x".repeat(513), ""),
    ] {
        let mut peer = Wire::to(pair.port).await;
        peer.send(question).await;
        assert_eq!(peer.rest().await, answer.as_bytes(), "{question:?}");
    }
    let mut peer = Wire::to(pair.port).await;
    // What follows the question at once belongs to the route.
    peer.send(&format!("{QUESTION}{GET}")).await;
    assert_eq!(peer.exactly(3).await.unwrap(), b"OK\n");
    assert_eq!(peer.message().await.unwrap().text(), "a");
    assert_eq!(peer.get().await.unwrap().text(), "a");
    assert!(slow.rest().await.is_empty(), "half a question is closed in time");
}

#[tokio::test]
async fn a_node_asks_from_the_address_that_the_other_knows_it_by() {
    let instance = naming("a", Duration::ZERO).await;
    let pair = Pair::start(Protocol::Http, vec![backend("a", instance, 1)]).await;
    // The other one knows 127.0.0.1; an address that this machine does not have is left to the system.
    for (source, status) in [("127.0.0.5", "503"), ("127.0.0.1", "200"), ("192.0.2.7", "200")] {
        let far = Backend { source: source.parse().ok(), ..node("far", pair.port) };
        pair.near.set(&[route(pair.listen, Protocol::Http, vec![far])]).await;
        assert_eq!(Wire::to(pair.listen).await.get().await.unwrap().status(), status, "{source}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_serve_the_route_is_passed_over() {
    let (place, port, listen) = (Place::new(), free_address(), free_address());
    let good = naming("good", Duration::ZERO).await;
    let pair = Pair::start(Protocol::Http, vec![backend("good", good, 1)]).await;
    let empty = place.start(TakeOver::Fresh).await;
    empty.set_with_fleet(port, &[]).await;
    let silent = accepting(|_, mut wire| async move { drop(wire.rest().await) }).await;
    let nodes = vec![node("empty", port), node("down", free_address()), node("far", pair.port)];
    pair.near.set(&[route(listen, Protocol::Http, nodes)]).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..20 {
        assert_eq!(Wire::to(listen).await.ask(post).await.unwrap().text(), "good");
    }
    let errors: Vec<_> =
        pair.near.snapshot().await.backends.iter().map(|one| one.connect_errors).collect();
    assert!(errors[0] >= 1 && errors[1] >= 1 && errors[2] == 0, "{errors:?}");
    // One that accepts and never answers costs its deadline once.
    let nodes = vec![Backend { weight: 9, ..node("silent", silent) }, node("far", pair.port)];
    pair.near.set(&[route(listen, Protocol::Http, nodes)]).await;
    let before = std::time::Instant::now();
    assert_eq!(Wire::to(listen).await.ask(post).await.unwrap().text(), "good");
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn nothing_goes_on_to_a_third_node_or_back() {
    let local = backend("local", naming("local", Duration::ZERO).await, 1);
    let pair = Pair::start(Protocol::Http, vec![local.clone()]).await;
    let port = free_address();
    let near = Route { hold_ms: 0, ..pair.held(Protocol::Http, vec![node("far", pair.port)]) };
    pair.near.set_with_fleet(port, &[near]).await;
    // The far one prefers the near one by weight, for clients of its own.
    let back = Backend { weight: 100, ..node("near", port) };
    pair.set_far(Protocol::Http, vec![back.clone(), local.clone()]).await;
    let mut wire = Wire::to(pair.listen).await;
    for _ in 0..50 {
        assert_eq!(wire.get().await.unwrap().text(), "local");
    }
    pair.set_far(Protocol::Http, vec![back, draining(&local)]).await;
    let before = std::time::Instant::now();
    for mut wire in [wire, Wire::to(pair.listen).await] {
        let answer = wire.get().await.unwrap();
        assert_eq!(answer.status(), "503");
        assert!(!answer.head.to_ascii_lowercase().contains("elsewhere"), "{}", answer.head);
    }
    assert!(before.elapsed() < Duration::from_secs(5), "the far one does not hold");
    let far = pair.far.snapshot().await;
    assert_eq!((far.backends[0].requests_started, far.backends[0].connect_errors), (0, 0));
}

#[tokio::test]
async fn a_request_that_meets_an_emptied_node_is_held_where_the_client_is() {
    let far = backend("far", naming("far", Duration::ZERO).await, 1);
    let near = backend("near", naming("near", Duration::ZERO).await, 1);
    let pair = Pair::start(Protocol::Http, vec![far.clone()]).await;
    for size in [3, 300_000] {
        pair.near.set(&[pair.held(Protocol::Http, vec![node("far", pair.port)])]).await;
        pair.set_far(Protocol::Http, vec![far.clone()]).await;
        let mut wire = Wire::to(pair.listen).await;
        assert_eq!(wire.get().await.unwrap().text(), "far", "a connection is warm now");
        pair.set_far(Protocol::Http, vec![draining(&far)]).await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        wire.send(&head).await;
        wire.stream.write_all(&vec![b'x'; size]).await.unwrap();
        eventually(async || pair.near.snapshot().await.held[0].1 == 1).await;
        assert_eq!(pair.far.snapshot().await.held[0].1, 0);
        pair.near
            .set(&[pair.held(Protocol::Http, vec![node("far", pair.port), near.clone()])])
            .await;
        assert_eq!(wire.message().await.unwrap().text(), "near");
    }
}

#[tokio::test]
async fn an_instance_that_refuses_counts_as_none_and_is_waited_for_where_the_client_is() {
    let instance = free_address();
    let pair = Pair::start(Protocol::Http, vec![backend("a", instance, 1)]).await;
    let mut wire = Wire::to(pair.listen).await;
    wire.send(GET).await;
    eventually(async || pair.near.snapshot().await.held[0].1 == 1).await;
    let errors = async || pair.near.snapshot().await.backends[0].connect_errors;
    eventually(async || errors().await >= 3).await;
    assert!(errors().await < 30, "with pauses");
    let listener = tokio::net::TcpListener::bind(instance).await.unwrap();
    let mut served = Wire::new(listener.accept().await.unwrap().0);
    served.message().await.unwrap();
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(wire.message().await.unwrap().text(), "ok");
}

#[tokio::test]
async fn the_last_answers_of_a_draining_instance_close_the_connection_between_the_nodes() {
    let (release, released) = tokio::sync::watch::channel(false);
    let instance = accepting(move |_, mut wire| {
        let mut released = released.clone();
        async move {
            wire.message().await;
            let _ = released.wait_for(|released| *released).await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let slow = backend("slow", instance, 1);
    let pair = Pair::start(Protocol::Http, vec![slow.clone()]).await;
    let mut peer = Wire::to(pair.port).await;
    peer.send(QUESTION).await;
    assert_eq!(peer.exactly(3).await.unwrap(), b"OK\n");
    peer.send(GET).await;
    eventually(async || pair.far.snapshot().await.backends[0].in_flight == 1).await;
    let mut idle = Wire::to(pair.port).await;
    idle.send(QUESTION).await;
    assert_eq!(idle.exactly(3).await.unwrap(), b"OK\n");
    pair.set_far(Protocol::Http, vec![draining(&slow)]).await;
    release.send(true).unwrap();
    let answer = peer.message().await.unwrap();
    assert!(answer.text() == "ok" && answer.head.contains("Connection: close\r\n"));
    let answer = idle.get().await.unwrap();
    assert_eq!(answer.status(), "503");
    assert!(answer.head.contains("Pith-Elsewhere: 1\r\n"), "{}", answer.head);
    assert!(answer.head.contains("Connection: close\r\n"));
    let mut asking = Wire::to(pair.port).await;
    asking.send(QUESTION).await;
    assert_eq!(asking.rest().await, b"NO\n");
}

#[tokio::test]
async fn replacing_the_far_instance_under_load_fails_no_request() {
    let work = Duration::from_millis(5);
    let old = backend("old", naming("old", work).await, 1);
    let new = backend("new", naming("new", work).await, 1);
    let last = backend("last", naming("last", work).await, 1);
    let pair = Pair::start(Protocol::Http, vec![old.clone()]).await;
    let (began, load) = (std::time::Instant::now(), Load::start(pair.listen, 8, 0));
    let counted = async |number: u64| {
        let requests = async || pair.near.snapshot().await.backends[0].requests_started;
        let wanted = requests().await + number;
        eventually(async || requests().await >= wanted).await;
    };
    let idle = async || pair.far.snapshot().await.backends[0].in_flight == 0;
    counted(200).await;
    // The new one first, and then stopped before the next one starts.
    pair.set_far(Protocol::Http, vec![draining(&old), new.clone()]).await;
    eventually(idle).await;
    pair.set_far(Protocol::Http, vec![new.clone()]).await;
    counted(200).await;
    pair.set_far(Protocol::Http, vec![draining(&new)]).await;
    eventually(idle).await;
    pair.set_far(Protocol::Http, vec![]).await;
    eventually(async || pair.near.snapshot().await.held[0].1 == 8).await;
    pair.set_far(Protocol::Http, vec![last]).await;
    counted(200).await;
    let (sent, failed) = load.stop().await;
    assert!(failed.is_empty(), "of {sent}: {failed:?}");
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    assert!(rate > 200.0, "{rate} requests/s are no load");
}

#[tokio::test]
async fn taking_over_the_far_proxy_keeps_the_fleet_port_and_fails_no_request() {
    let instance = backend("a", naming("a", Duration::from_millis(2)).await, 1);
    let mut pair = Pair::start(Protocol::Http, vec![instance]).await;
    let load = Load::start(pair.listen, 8, 4);
    let served = async |far: &Running| {
        far.snapshot().await.counters.first().map_or(0, |counter| counter.requests)
    };
    eventually(async || served(&pair.far).await > 200).await;
    let newer = pair.far_place.start(TakeOver::FromRunning).await;
    let at_take_over = served(&newer).await;
    let ended = pair.far.ended.take().unwrap();
    tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap();
    eventually(async || served(&newer).await > at_take_over + 200).await;
    let (sent, failed) = load.stop().await;
    assert!(failed.is_empty(), "of {sent}: {failed:?}");
    assert_eq!(newer.snapshot().await.listening, [("fleet".to_owned(), pair.port)]);
    // And so does the copy on tmpfs.
    newer.kill();
    let fresh = pair.far_place.start(TakeOver::Fresh).await;
    assert_eq!(fresh.snapshot().await.listening, [("fleet".to_owned(), pair.port)]);
    assert_eq!(Wire::to(pair.listen).await.get().await.unwrap().text(), "a");
}

#[tokio::test]
async fn an_upgraded_connection_passes_through_and_is_cut_with_its_instance() {
    let instance = accepting(|_, mut wire| async move {
        let head = wire.head_only().await;
        assert!(head.contains("Connection: Upgrade\r\n") && head.contains("Upgrade: websocket\r\n"));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
            .await;
        while let Some(bytes) = wire.exactly(4).await {
            wire.stream.write_all(&bytes).await.unwrap();
        }
    })
    .await;
    let pair = Pair::start(Protocol::Http, vec![backend("a", instance, 1)]).await;
    let mut wire = Wire::to(pair.listen).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping")
        .await;
    assert!(wire.head_only().await.starts_with("HTTP/1.1 101"));
    assert_eq!(wire.exactly(9).await.unwrap(), b"firstping");
    for proxy in [&pair.near, &pair.far] {
        let status = proxy.snapshot().await.backends.remove(0);
        assert_eq!((status.in_flight, status.connections), (0, 1));
    }
    pair.set_far(Protocol::Http, vec![]).await;
    assert!(wire.rest().await.is_empty());
    drop(wire);
    eventually(async || pair.near.snapshot().await.backends[0].connections == 0).await;
}

#[tokio::test]
async fn a_tcp_connection_passes_both_ways_and_half_closed() {
    let instance = backend("a", echo().await, 1);
    let pair = Pair::start(Protocol::Tcp, vec![instance.clone()]).await;
    let mut wire = Wire::to(pair.listen).await;
    assert_eq!(wire.exactly(6).await.unwrap(), b"banner", "the instance may speak first");
    wire.send("hello").await;
    assert_eq!(wire.exactly(5).await.unwrap(), b"hello");
    // Drained, it keeps the connection and gets no new one.
    pair.set_far(Protocol::Tcp, vec![draining(&instance)]).await;
    let mut later = Wire::to(pair.listen).await;
    eventually(async || pair.near.snapshot().await.held[0].1 == 1).await;
    wire.send("still").await;
    wire.stream.shutdown().await.unwrap();
    assert_eq!(wire.rest().await, b"still");
    pair.set_far(Protocol::Tcp, vec![instance]).await;
    assert_eq!(later.exactly(6).await.unwrap(), b"banner");
}

#[tokio::test]
async fn a_tcp_instance_that_refuses_is_found_out_before_the_connection_is_given_to_it() {
    let pair = Pair::start(Protocol::Tcp, vec![backend("bad", free_address(), 1)]).await;
    let local = backend("local", echo().await, 1);
    let far = Backend { weight: 9, ..node("far", pair.port) };
    pair.near.set(&[pair.held(Protocol::Tcp, vec![far, local])]).await;
    for _ in 0..5 {
        assert_eq!(Wire::to(pair.listen).await.exactly(6).await.unwrap(), b"banner");
    }
    assert!(pair.near.snapshot().await.backends[0].connect_errors >= 1);
}

#[tokio::test]
async fn the_far_instance_learns_the_client_by_one_proxy_v2_header() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let instance = accepting(move |_, mut wire| {
        let tell = tell.clone();
        async move { tell.send(wire.rest().await).unwrap() }
    })
    .await;
    let pair = Pair::start(Protocol::Tcp, Vec::new()).await;
    let with_header = |backend| {
        let route = pair.held(Protocol::Tcp, vec![backend]);
        Route { send_proxy_v2: true, ..route }
    };
    let far = Route { listen: Vec::new(), ..with_header(backend("a", instance, 1)) };
    pair.far.set_with_fleet(pair.port, &[far]).await;
    pair.near.set(&[with_header(node("far", pair.port))]).await;
    let mut wire = Wire::from([127, 0, 0, 5], pair.listen).await;
    wire.send("hello").await;
    wire.stream.shutdown().await.unwrap();
    let seen = told.recv().await.unwrap();
    assert_eq!(seen[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(seen[16..20], [127, 0, 0, 5]);
    assert_eq!(seen[24..26], wire.stream.local_addr().unwrap().port().to_be_bytes());
    assert_eq!(seen[26..28], pair.listen.port().to_be_bytes());
    assert_eq!(&seen[28..], b"hello");
}

#[tokio::test]
async fn a_fleet_port_that_cannot_be_had_is_named_and_one_no_longer_wanted_is_closed() {
    let instance = naming("a", Duration::ZERO).await;
    let pair = Pair::start(Protocol::Http, Vec::new()).await;
    let elsewhere: SocketAddr = "192.0.2.1:7000".parse().unwrap();
    let applied = pair.near.set_with_fleet(elsewhere, &[]).await;
    let refused = &applied.refused[0];
    assert_eq!((refused.route.as_str(), refused.address), ("fleet", elsewhere));
    assert_eq!(refused.reason, RefusedReason::AddressNotAvailable);
    // A service cannot take it, and gets it once it is not the fleet's any more.
    let wanted = route(pair.port, Protocol::Http, vec![backend("a", instance, 1)]);
    let applied = pair.far.set_with_fleet(pair.port, std::slice::from_ref(&wanted)).await;
    assert_eq!(applied.refused[0].route, wanted.id);
    assert!(matches!(applied.refused[0].reason, RefusedReason::PortTaken { .. }));
    assert!(pair.far.set(&[wanted]).await.refused.is_empty());
    assert_eq!(Wire::to(pair.port).await.get().await.unwrap().text(), "a");
    assert!(pair.far.set(&[]).await.refused.is_empty());
    eventually(async || tokio::net::TcpStream::connect(pair.port).await.is_err()).await;
    // What cannot be asked for is refused with the whole table.
    let through = Some("default/hello/http\nPITH/1 x".into());
    let bad = Backend { through, ..node("far", pair.port) };
    let table = proxy::Table {
        version: 2,
        routes: vec![route(pair.listen, Protocol::Http, vec![bad])],
        fleet: None,
    };
    assert!(pair.near.client.set(&table).await.is_err());
}

#[tokio::test]
async fn warm_connections_with_a_node_are_given_up_when_it_takes_nothing_more() {
    let (place, listen) = (Place::new(), free_address());
    let near = place.start(TakeOver::Fresh).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let port = accepting(move |number, mut wire| {
        let tell = tell.clone();
        async move {
            assert_eq!(wire.until(b"\n").await.unwrap(), QUESTION.as_bytes());
            if number > 0 {
                return wire.send("NO\n").await;
            }
            wire.send("OK\n").await;
            wire.message().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            tell.send(wire.rest().await).unwrap();
        }
    })
    .await;
    near.set(&[route(listen, Protocol::Http, vec![node("far", port)])]).await;
    assert_eq!(Wire::to(listen).await.get().await.unwrap().text(), "ok");
    // An old client's request goes over a connection of its own.
    let old = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(Wire::to(listen).await.ask(old).await.unwrap().status(), "503");
    let ended = tokio::time::timeout(Duration::from_secs(5), told.recv()).await;
    assert_eq!(ended.expect("the warm one is closed"), Some(Vec::new()));
}

#[tokio::test]
async fn a_client_gets_its_canary_cookie_from_the_node_that_it_reached_alone() {
    let instance = backend("a", naming("a", Duration::ZERO).await, 1);
    let pair = Pair::start(Protocol::Http, Vec::new()).await;
    let split = |backend| {
        let split = Split {
            release: "candidate".into(),
            share: 0,
            cookie: Some("side".into()),
            header: None,
        };
        Route { split: Some(split), ..pair.held(Protocol::Http, vec![backend]) }
    };
    let far = Route { listen: Vec::new(), ..split(instance) };
    pair.far.set_with_fleet(pair.port, &[far]).await;
    pair.near.set(&[split(node("far", pair.port))]).await;
    let answer = Wire::to(pair.listen).await.get().await.unwrap();
    assert_eq!(answer.head.matches("Set-Cookie: side=").count(), 1, "{}", answer.head);
}
