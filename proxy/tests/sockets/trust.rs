//! The fleet port over TLS: who is served, who is asked, and that nothing is lost by it.

use crate::lab::{
    Load, Place, Running, Wire, accepting, backend, eventually, free_address, naming, node, route,
};
use authority::{Authority, BEGINS_S, Issued, der};
use proxy::{Backend, Caller, Fleet, Protocol, Route, Shown, Table, TakeOver, Trust};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const NEAR: &str = "near.node.fleet.pith";
const FAR: &str = "far.node.fleet.pith";
const QUESTION: &str = "PITH/1 default/hello/http\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";
/// 2030.
const NOW_S: u64 = 1_893_456_000;

/// Writes a node's files as the agent does.
fn keep(place: &Place, own: &Issued, ca: &Authority) -> Trust {
    let write = |name: &str, text: &str| {
        let (path, new) = (place.path(name), place.path("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    };
    Trust::Certificates {
        chain: write("node.crt", &own.chain),
        key: write("node.key", &own.key),
        ca: write("ca.crt", &ca.ca),
        verify_at_s: NOW_S,
        instead: Some(Box::new(Shown {
            chain: place.path("fleet.crt"),
            key: place.path("fleet.key"),
        })),
    }
}

/// What a node has that came under another CA, as its agent writes it: the new certificate is for the coordinator, others see the old one.
fn follow(place: &Place, own: &Issued, [new, old]: [&Authority; 2]) {
    for (from, to) in [("node.key", "fleet.key"), ("node.crt", "fleet.crt")] {
        std::fs::copy(place.path(from), place.path(to)).unwrap();
    }
    keep(place, own, new);
    std::fs::write(place.path("ca.crt"), format!("{}{}", new.ca, old.ca)).unwrap();
}

/// The first renewal after it.
fn show_own(place: &Place) {
    for name in ["fleet.crt", "fleet.key"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
}

/// As `fleet::Pair`, with certificates.
struct Pair {
    authority: Authority,
    near: Running,
    far: Running,
    listen: SocketAddr,
    port: SocketAddr,
    near_trust: Trust,
    far_trust: Trust,
    near_place: Place,
    far_place: Place,
}

impl Pair {
    async fn start(protocol: Protocol, instance: SocketAddr) -> Self {
        let (near_place, far_place) = (Place::new(), Place::new());
        let (listen, port) = (free_address(), free_address());
        let authority = Authority::new();
        let near_trust = keep(&near_place, &authority.issue("near", &[NEAR]), &authority);
        let far_trust = keep(&far_place, &authority.issue("far", &[FAR]), &authority);
        let near = near_place.start(TakeOver::Fresh).await;
        let far = far_place.start(TakeOver::Fresh).await;
        let pair = Self {
            authority,
            near,
            far,
            listen,
            port,
            near_trust,
            far_trust,
            near_place,
            far_place,
        };
        pair.set_far(protocol, vec![backend("a", instance, 1)], &[NEAR]).await;
        pair.set_near(protocol, FAR).await;
        pair
    }

    async fn set_near(&self, protocol: Protocol, name: &str) {
        let far = Backend { name: Some(name.into()), ..node("far", self.port) };
        let near = Route { hold_ms: 500, ..route(self.listen, protocol, vec![far]) };
        let fleet = Fleet { trust: Some(self.near_trust.clone()), ..Fleet::default() };
        let table = Table { version: 1, routes: vec![near], fleet: Some(fleet) };
        assert!(self.near.client.set(&table).await.unwrap().refused.is_empty());
    }

    async fn set_far(&self, protocol: Protocol, instances: Vec<Backend>, callers: &[&str]) {
        let far = Route { listen: Vec::new(), ..route(self.listen, protocol, instances) };
        let caller =
            |name: &&str| Caller { address: Ipv4Addr::LOCALHOST.into(), name: (*name).into() };
        let fleet = Fleet {
            listen: vec![self.port],
            callers: callers.iter().map(caller).collect(),
            trust: Some(self.far_trust.clone()),
        };
        let table = Table { version: 1, routes: vec![far], fleet: Some(fleet) };
        assert!(self.far.client.set(&table).await.unwrap().refused.is_empty());
    }

    /// The same client for several connections, with or without a certificate.
    fn connector(&self, own: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.authority.ca).remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(der(&own.chain), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Arc::new(config).into()
    }

    /// What the far node says to the question of this client, and how much work the handshake was.
    async fn ask(&self, connector: &TlsConnector) -> (Vec<u8>, Option<HandshakeKind>) {
        let socket = TcpStream::connect(self.port).await.unwrap();
        let name = ServerName::try_from(FAR).unwrap();
        let Ok(mut stream) = connector.connect(name, socket).await else {
            return (Vec::new(), None);
        };
        let _ = stream.write_all(format!("{QUESTION}{GET}").as_bytes()).await;
        let mut answer = vec![0; 3];
        let read = stream.read_exact(&mut answer).await;
        let kind = stream.get_ref().1.handshake_kind();
        if read.is_err() { (Vec::new(), kind) } else { (answer, kind) }
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_fleet_for_a_caller_is_answered() {
    let pair = Pair::start(Protocol::Http, naming("a", Duration::ZERO).await).await;
    let (ours, other) = (&pair.authority, Authority::new());
    let near = ours.issue("near", &[NEAR]);
    let asked = async |own: Option<&Issued>| pair.ask(&pair.connector(own)).await.0;
    assert_eq!(asked(Some(&near)).await, b"OK\n");
    assert!(asked(None).await.is_empty(), "a stranger without a certificate");
    assert!(asked(Some(&other.issue("near", &[NEAR]))).await.is_empty(), "of another fleet");
    let third = ours.issue("third", &["third.node.fleet.pith"]);
    assert!(asked(Some(&third)).await.is_empty(), "of a node that is no caller");
    let ended = ours.issue_until("near", &[NEAR], NOW_S - 1);
    assert!(asked(Some(&ended)).await.is_empty(), "ended");
    let mut clear = Wire::to(pair.port).await;
    clear.send(QUESTION).await;
    let heard = clear.rest().await;
    assert!(!heard.starts_with(b"OK"), "in clear: {heard:?}");
    let mut elsewhere = Wire::from([127, 0, 0, 5], pair.port).await;
    elsewhere.send("\x16\x03\x01").await;
    assert!(elsewhere.rest().await.is_empty(), "a stranger costs no handshake");
}

#[tokio::test]
async fn a_node_asks_only_the_one_that_it_means() {
    let pair = Pair::start(Protocol::Http, naming("a", Duration::ZERO).await).await;
    let status = async || {
        let answer = Wire::to(pair.listen).await.get().await.unwrap();
        answer.status().to_owned()
    };
    assert_eq!(status().await, "200");
    pair.set_near(Protocol::Http, "other.node.fleet.pith").await;
    assert_eq!(status().await, "503", "another node of the fleet answers at the address");
    pair.set_near(Protocol::Http, FAR).await;
    assert_eq!(status().await, "200");
    // What answers is of another fleet; then it has ended; then it is the right one again, without a new table.
    let other = Authority::new();
    keep(&pair.far_place, &other.issue("far", &[FAR]), &pair.authority);
    pair.set_far(Protocol::Http, vec![backend("b", naming("b", Duration::ZERO).await, 1)], &[NEAR])
        .await;
    pair.set_near(Protocol::Http, "nobody").await;
    pair.set_near(Protocol::Http, FAR).await;
    assert_eq!(status().await, "503");
    let ended = pair.authority.issue_until("far", &[FAR], BEGINS_S + 1);
    keep(&pair.far_place, &ended, &pair.authority);
    pair.set_far(Protocol::Http, Vec::new(), &[NEAR]).await;
    assert_eq!(status().await, "503");
    keep(&pair.far_place, &pair.authority.issue("far", &[FAR]), &pair.authority);
    pair.set_far(Protocol::Http, vec![backend("c", naming("c", Duration::ZERO).await, 1)], &[NEAR])
        .await;
    assert_eq!(status().await, "200", "renewed");
}

#[tokio::test]
async fn a_node_under_another_ca_and_one_that_is_not_yet_call_each_other_both_ways() {
    let instance = naming("a", Duration::ZERO).await;
    let new = Authority::new();
    // As after each table: the files are looked at again, and connections of before are not taken.
    let status = async |pair: &Pair| {
        pair.set_far(Protocol::Http, vec![backend("a", instance, 1)], &[NEAR]).await;
        pair.set_near(Protocol::Http, "nobody").await;
        pair.set_near(Protocol::Http, FAR).await;
        Wire::to(pair.listen).await.get().await.unwrap().status().to_owned()
    };
    // The caller has followed; then both have; then each shows its new certificate.
    let pair = Pair::start(Protocol::Http, instance).await;
    follow(&pair.near_place, &new.issue("near", &[NEAR]), [&new, &pair.authority]);
    assert_eq!(status(&pair).await, "200", "near has followed");
    follow(&pair.far_place, &new.issue("far", &[FAR]), [&new, &pair.authority]);
    assert_eq!(status(&pair).await, "200", "both have");
    show_own(&pair.near_place);
    assert_eq!(status(&pair).await, "200", "near shows its new one");
    show_own(&pair.far_place);
    assert_eq!(status(&pair).await, "200", "both do");
    // The one that is called has followed; showing its new certificate it would be refused.
    let pair = Pair::start(Protocol::Http, instance).await;
    follow(&pair.far_place, &new.issue("far", &[FAR]), [&new, &pair.authority]);
    assert_eq!(status(&pair).await, "200", "far has followed");
    show_own(&pair.far_place);
    assert_eq!(status(&pair).await, "503", "far shows what near cannot know");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_closes_the_fleet_port_and_is_told() {
    let pair = Pair::start(Protocol::Http, naming("a", Duration::ZERO).await).await;
    let text = "not a certificate".to_owned();
    let broken = Issued { chain: text.clone(), key: text };
    // A renewal that went wrong leaves what works in place.
    keep(&pair.far_place, &broken, &pair.authority);
    let far = async |trust: Trust| {
        let caller = Caller { address: Ipv4Addr::LOCALHOST.into(), name: NEAR.into() };
        let fleet = Fleet { listen: vec![pair.port], callers: vec![caller], trust: Some(trust) };
        let table = Table { version: 2, routes: Vec::new(), fleet: Some(fleet) };
        pair.far.client.set(&table).await.unwrap()
    };
    let said = format!("{:?}", far(pair.far_trust.clone()).await.refused);
    assert!(said.contains("node.crt"), "{said}");
    assert!(TcpStream::connect(pair.port).await.is_ok(), "with the certificate from before");
    // One that is broken from the start.
    let place = Place::new();
    let trust = keep(&place, &broken, &pair.authority);
    let said = format!("{:?}", far(trust).await.refused);
    assert!(said.contains("node.crt"), "{said}");
    eventually(async || TcpStream::connect(pair.port).await.is_err()).await;
}

#[tokio::test]
async fn requests_of_every_size_pass_through_tls_on_one_kept_connection() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let instance = accepting(move |number, mut wire| {
        let tell = tell.clone();
        async move {
            while let Some(request) = wire.message().await {
                tell.send((number, request.body.len())).unwrap();
                let body = "y".repeat(request.body.len());
                let length = body.len();
                wire.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
                    .await;
            }
        }
    })
    .await;
    let pair = Pair::start(Protocol::Http, instance).await;
    let mut wire = Wire::to(pair.listen).await;
    for size in [0, 1, 16 * 1024, 60_000, 3_000_000, 7] {
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        wire.send(&head).await;
        wire.stream.write_all(&vec![b'x'; size]).await.unwrap();
        let answer = wire.message().await.unwrap();
        assert_eq!((answer.status(), answer.body.len()), ("200", size));
        assert_eq!(told.recv().await.unwrap().1, size);
    }
    assert_eq!(pair.near.snapshot().await.counters[0].requests, 6);
}

#[tokio::test]
async fn a_tcp_connection_passes_both_ways_and_half_closed() {
    let instance = accepting(|_, mut wire| async move {
        let all = wire.rest().await;
        wire.stream.write_all(&all).await.unwrap();
        wire.send("end").await;
    })
    .await;
    let pair = Pair::start(Protocol::Tcp, instance).await;
    let mut wire = Wire::to(pair.listen).await;
    let sent = vec![b'z'; 500_000];
    wire.stream.write_all(&sent).await.unwrap();
    wire.stream.shutdown().await.unwrap();
    let heard = wire.rest().await;
    assert_eq!((heard.len(), &heard[500_000..]), (500_003, &b"end"[..]));
}

#[tokio::test]
async fn a_connection_after_the_first_takes_the_session_up_again_and_is_still_asked_who_it_is() {
    let pair = Pair::start(Protocol::Http, naming("a", Duration::ZERO).await).await;
    let connector = pair.connector(Some(&pair.authority.issue("near", &[NEAR])));
    assert_eq!(pair.ask(&connector).await, (b"OK\n".to_vec(), Some(HandshakeKind::Full)));
    assert_eq!(pair.ask(&connector).await, (b"OK\n".to_vec(), Some(HandshakeKind::Resumed)));
    pair.set_far(Protocol::Http, Vec::new(), &["third.node.fleet.pith"]).await;
    assert!(pair.ask(&connector).await.0.is_empty(), "no caller any more");
}

#[tokio::test]
async fn a_caller_that_was_dismissed_is_answered_once_more_on_its_connection() {
    let instance = backend("a", naming("a", Duration::ZERO).await, 1);
    let pair = Pair::start(Protocol::Http, instance.address).await;
    let connector = pair.connector(Some(&pair.authority.issue("near", &[NEAR])));
    let socket = TcpStream::connect(pair.port).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from(FAR).unwrap(), socket).await.unwrap();
    stream.write_all(format!("{QUESTION}{GET}").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\na") {
        stream.read_buf(&mut heard).await.unwrap();
    }
    assert!(!String::from_utf8_lossy(&heard).contains("Connection: close"));
    pair.set_far(Protocol::Http, vec![instance], &["third.node.fleet.pith"]).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut last = String::new();
    stream.read_to_string(&mut last).await.unwrap();
    assert!(last.contains("200 OK") && last.contains("Connection: close"), "{last}");
}

#[tokio::test]
async fn taking_over_both_proxies_under_load_fails_no_request() {
    let mut pair = Pair::start(Protocol::Http, naming("a", Duration::from_millis(1)).await).await;
    let load = Load::start(pair.listen, 8, 4);
    let served = async |proxy: &Running| proxy.snapshot().await.counters[0].requests;
    eventually(async || served(&pair.far).await > 200).await;
    let newer = pair.far_place.start(TakeOver::FromRunning).await;
    let older = std::mem::replace(&mut pair.far, newer);
    let before = served(&pair.far).await;
    eventually(async || served(&pair.far).await > before + 200).await;
    let newer = pair.near_place.start(TakeOver::FromRunning).await;
    let older_near = std::mem::replace(&mut pair.near, newer);
    let before = served(&pair.near).await;
    eventually(async || served(&pair.near).await > before + 200).await;
    let (sent, failed) = load.stop().await;
    assert!(failed.is_empty(), "of {sent}: {failed:?}");
    for mut older in [older, older_near] {
        let ended = older.ended.take().unwrap();
        tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_burst_of_requests_shakes_hands_in_turn_and_none_is_lost() {
    let pair = Pair::start(Protocol::Http, naming("a", Duration::from_millis(5)).await).await;
    let asking = (0..200).map(|_| {
        let listen = pair.listen;
        tokio::spawn(
            async move { Wire::to(listen).await.get().await.map(|m| m.status().to_owned()) },
        )
    });
    for answer in asking.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().as_deref(), Some("200"));
    }
    assert_eq!(pair.near.snapshot().await.backends[0].connect_errors, 0);
}
