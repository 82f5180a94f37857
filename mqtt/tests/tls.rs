//! The session over TLS: against a real Mosquitto that asks for certificates, and against servers that are not who they
//! should be, at clocks that are wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use authority::{Asks, Authority, BEGINS_S, ENDS_S, Issued};
use mqtt::{
    BrokerAddress, Config, DownReason, Event, Handle, Own, Refusal, Session, Tls, VerifyAt,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// No event takes this long unless something is broken.
const LIMIT: Duration = Duration::from_secs(10);
const SERVER: &str = "fleet.pith";
const NODE: &str = "bbbb";
/// 2030, well inside of what the authority makes.
const NOW_S: u64 = 1_893_456_000;
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

fn node(authority: &Authority) -> Issued {
    authority.issue(NODE, &["bbbb.node.fleet.pith"])
}

fn tls(ca: &Authority, own: Option<&Issued>, server: &str, at_s: u64) -> Tls {
    let own = own.map(|own| Own { chain: own.chain.as_bytes(), key: own.key.as_bytes() });
    Tls::new(ca.ca.as_bytes(), own, server, VerifyAt::new(at_s)).unwrap()
}

fn config(port: u16, tls: Tls) -> Config {
    let address = BrokerAddress { host: "127.0.0.1".into(), port };
    let mut config = Config::new(address, NODE.into(), vec!["a/b".into()]);
    config.pace.base = Duration::from_millis(20);
    config.pace.network_cap = Duration::from_millis(50);
    config.tls = Some(tls);
    config
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("in time").expect("the session lives")
}

/// Past the tries before the broker listens.
async fn refused(events: &mut mpsc::Receiver<Event>) -> Refusal {
    loop {
        match next(events).await {
            Event::Refused { reason, .. } => return reason,
            Event::Down { reason: DownReason::Unreachable(_), .. } => (),
            other @ (Event::Up | Event::Down { .. } | Event::Message { .. }) => panic!("{other:?}"),
        }
    }
}

async fn up(events: &mut mpsc::Receiver<Event>) {
    loop {
        match next(events).await {
            Event::Up => return,
            Event::Down { reason: DownReason::Unreachable(_), .. } => (),
            other @ (Event::Refused { .. } | Event::Down { .. } | Event::Message { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

/// A server that speaks TLS and enough MQTT to grant a session with one subscription.
async fn scripted(server: Arc<rustls::ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(server);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut packet = [0; 256];
                let _ = stream.read(&mut packet).await;
                let _ = stream.write_all(&[0x20, 2, 0, 0]).await;
                let _ = stream.read(&mut packet).await;
                let _ = stream.write_all(&[0x90, 3, packet[2], packet[3], 1]).await;
                let _ = stream.read(&mut packet).await;
            });
        }
    });
    port
}

/// What a session that sees this server ends in.
async fn check(server: Arc<rustls::ServerConfig>, tls: Tls) -> Result<(), Refusal> {
    let port = scripted(server).await;
    let (_handle, mut events) = Session::start(config(port, tls), 1);
    match next(&mut events).await {
        Event::Up => Ok(()),
        Event::Refused { reason, .. } => Err(reason),
        other @ (Event::Down { .. } | Event::Message { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_as_a_stranger() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = other.server(&other.issue("c", &[SERVER]), Asks::Never);
    let end = check(server, tls(&ours, None, SERVER, NOW_S)).await;
    assert_eq!(end, Err(Refusal::ForeignBroker));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_the_name_that_was_looked_for() {
    let ours = Authority::new();
    // A node of the fleet that plays the coordinator.
    let server = ours.server(&node(&ours), Asks::Never);
    let end = check(server, tls(&ours, None, SERVER, NOW_S)).await;
    assert_eq!(end, Err(Refusal::BrokerName { expected: SERVER.into() }));
}

#[tokio::test]
async fn certificates_are_looked_at_at_the_given_time_whatever_the_machines_clock_says() {
    let ours = Authority::new();
    let ended = ours.issue_until("c", &[SERVER], NOW_S);
    let server = || ours.server(&ended, Asks::Never);
    let at = |at_s| tls(&ours, None, SERVER, at_s);
    // The machine's clock is past none of these, or past all of them: it is not asked.
    assert_eq!(check(server(), at(NOW_S - 3_600)).await, Ok(()), "one hour back");
    let by_s = 3_600;
    assert_eq!(check(server(), at(NOW_S + by_s)).await, Err(Refusal::BrokerExpired { by_s }));
    let year_2099 = 4_070_908_800;
    let by_s = year_2099 - NOW_S;
    assert_eq!(check(server(), at(year_2099)).await, Err(Refusal::BrokerExpired { by_s }));
    assert_eq!(check(server(), at(0)).await, Err(Refusal::BrokerTooNew { by_s: BEGINS_S }), "1970");
    let late = ours.server(&ours.issue("c", &[SERVER]), Asks::Never);
    assert_eq!(check(late, at(ENDS_S)).await, Ok(()));
}

#[tokio::test]
async fn a_port_without_tls_is_named_and_a_server_that_hangs_is_left() {
    let ours = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_handle, mut events) = Session::start(config(port, tls(&ours, None, SERVER, NOW_S)), 1);
    let (mut plain, _) = listener.accept().await.unwrap();
    plain.write_all(b"\x20\x02\x00\x05\x00\x00\x00\x00").await.unwrap();
    assert_eq!(refused(&mut events).await, Refusal::NotTls);
    let mut slow = config(port, tls(&ours, None, SERVER, NOW_S));
    slow.connect_timeout = Duration::from_secs(1);
    let (_handle, mut events) = Session::start(slow, 1);
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("not down") };
    assert_eq!(reason, DownReason::TimedOut);
}

struct Mosquitto {
    _dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mosquitto {
    /// None where it is not installed: a reported skip on a person's machine, a failure in CI.
    fn start(authority: &Authority) -> Option<Self> {
        let runs = |program: &&str| {
            let mut command = Command::new(program);
            command.arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        let Some(program) = PROGRAMS.into_iter().find(|p| runs(p)) else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is needed in CI");
            eprintln!("SKIPPED: mosquitto is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = authority.issue("c", &[SERVER]);
        let mut text = format!(
            "listener {port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\n\
             require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\n"
        );
        for (key, name, content) in [
            ("cafile", "ca.crt", &authority.ca),
            ("certfile", "server.crt", &own.chain),
            ("keyfile", "server.key", &own.key),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            text += &format!("{key} {}\n", path.display());
        }
        let file = dir.path().join("mosquitto.conf");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program).arg("-c").arg(&file).stderr(log).spawn().unwrap();
        Some(Self { _dir: dir, port, child })
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_certificates_takes_ours_and_no_others() {
    let (ours, other) = (Authority::new(), Authority::new());
    let Some(broker) = Mosquitto::start(&ours) else { return };
    let start = |own: Option<&Issued>| -> (Handle, mpsc::Receiver<Event>) {
        Session::start(config(broker.port, tls(&ours, own, SERVER, NOW_S)), 1)
    };
    let (_handle, mut events) = start(Some(&node(&ours)));
    up(&mut events).await;
    let (_handle, mut events) = start(None);
    assert_eq!(refused(&mut events).await, Refusal::NoCertificate);
    let (_handle, mut events) = start(Some(&node(&other)));
    assert_eq!(refused(&mut events).await, Refusal::Certificate);
    let ended = ours.issue_until(NODE, &["bbbb.node.fleet.pith"], BEGINS_S + 1);
    let (_handle, mut events) = start(Some(&ended));
    assert_eq!(refused(&mut events).await, Refusal::CertificateExpired);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_the_next_connect_of_the_same_session() {
    let ours = Authority::new();
    let Some(broker) = Mosquitto::start(&ours) else { return };
    let ended = ours.issue_until(NODE, &["bbbb.node.fleet.pith"], BEGINS_S + 1);
    let before = tls(&ours, Some(&ended), SERVER, NOW_S);
    let (handle, mut events) = Session::start(config(broker.port, before), 1);
    assert_eq!(refused(&mut events).await, Refusal::CertificateExpired);
    handle.set_tls(tls(&ours, Some(&node(&ours)), SERVER, NOW_S));
    loop {
        match next(&mut events).await {
            Event::Up => break,
            // One that was on its way.
            Event::Refused { reason: Refusal::CertificateExpired, .. } => (),
            other @ (Event::Refused { .. } | Event::Down { .. } | Event::Message { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test]
async fn an_owner_that_has_mended_what_was_refused_is_not_kept_waiting() {
    let (ours, other) = (Authority::new(), Authority::new());
    let port = scripted(other.server(&other.issue("c", &[SERVER]), Asks::Never)).await;
    let mut config = config(port, tls(&ours, None, SERVER, NOW_S));
    // After a refusal at least half of it, many times [`LIMIT`].
    config.pace.base = Duration::from_secs(300);
    let (handle, mut events) = Session::start(config, 1);
    let Event::Refused { reason, retry_in } = next(&mut events).await else {
        panic!("not refused")
    };
    assert_eq!(reason, Refusal::ForeignBroker);
    assert!(retry_in > LIMIT, "{retry_in:?}");
    handle.set_tls(tls(&other, None, SERVER, NOW_S));
    handle.retry_now();
    up(&mut events).await;
}
