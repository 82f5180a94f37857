//! Requests as they are limited, repeated and written down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use coordinator::api::Limits;
use coordinator::audit::Event;
use coordinator::client::{Client, ClientError};
use coordinator::data_dir::DataDir;
use coordinator::local::{ApiSettings, BrokerChoice};
use coordinator::role::Role;
use coordinator::state::requests::{NewOperator, NewToken};
use coordinator::state::views::EventFilter;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::board::{Fleet, send_as};

fn wish(name: &str) -> NewOperator {
    let (name, role) = (name.parse().unwrap(), Role::Viewer);
    NewOperator { name, role, ttl_ms: 60_000, addresses: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_for_one_request_and_its_repetition() {
    let fleet = Fleet::start().await;
    let otto = fleet.log_in("otto", Role::Operator).await;
    let key = KeyPair::from_pem(&otto.key).unwrap();
    let own = Some((otto.certificate.as_str(), &key));
    let line = "Idempotency-Key: 0123456789abcdef\r\n";
    let ask = async |lines: &str, body: Value| {
        let body = serde_json::to_vec(&body).unwrap();
        send_as(&fleet, own, ("POST", "/v1/tokens"), lines, &body).await
    };
    let (status, head, first) = ask(line, json!({ "ttl_ms": 60_000 })).await;
    assert!(status == 200 && !head.contains("idempotent-replayed"), "{head}");
    let (status, head, again) = ask(line, json!({ "ttl_ms": 60_000 })).await;
    assert_eq!((status, &again), (200, &first), "the very same token");
    assert!(head.contains("idempotent-replayed: true"), "{head}");
    let (status, _, other) = ask(line, json!({ "ttl_ms": 60_001 })).await;
    assert!(status == 409 && other.contains("key_reused"), "{other}");
    let (status, _, bad) = ask("Idempotency-Key: a b\r\n", json!({ "ttl_ms": 60_000 })).await;
    assert!(status == 400 && bad.contains("bad_key"), "{bad}");
    let (_, _, another) = ask("", json!({ "ttl_ms": 60_000 })).await;
    assert_ne!(another, first, "without a key each is done");
}

/// Passes everything on, and closes the first connection when its answer begins.
fn cut_the_first_answer(at: &Path, to: PathBuf) {
    let listener = UnixListener::bind(at).unwrap();
    tokio::spawn(async move {
        let mut may_cut = true;
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = UnixStream::connect(&to).await.unwrap();
            if may_cut {
                may_cut = false;
                let (mut asked, mut answered) = (vec![0; 4096], [0; 1]);
                loop {
                    tokio::select! {
                        read = near.read(&mut asked) => {
                            far.write_all(&asked[..read.unwrap()]).await.unwrap();
                        }
                        _ = far.read(&mut answered) => break,
                    }
                }
                continue;
            }
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_asked_for_again_and_not_done_twice() {
    let fleet = Fleet::start().await;
    let between = fleet.dir.path().join("between.sock");
    cut_the_first_answer(&between, fleet.data.socket());
    let client = Client::at_socket(&between).unwrap();
    let invited = client.invite(&wish("anna")).await.unwrap();
    assert_eq!(invited.name.as_str(), "anna");
    let entries = fleet.client.audit(0).await.unwrap().entries;
    let what: Vec<(Event, Option<String>)> =
        entries.into_iter().map(|entry| (entry.event, entry.code)).collect();
    let repeated = Some("repeated".to_owned());
    let asked = (Event::Asked, None);
    assert_eq!(what, [asked.clone(), (Event::Done, None), asked, (Event::Done, repeated)]);
    let events = fleet.client.events(&EventFilter::default(), None).await.unwrap().events;
    assert_eq!(events.iter().filter(|event| event.message.contains("is invited")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_written_down_with_what_became_of_it_and_without_secrets() {
    let fleet = Fleet::start().await;
    let vera = fleet.log_in("vera", Role::Viewer).await;
    let token = fleet.token(NewToken::default()).await;
    let viewer = Client::operator(&vera).unwrap();
    assert!(matches!(viewer.revoke("opi-1").await, Err(ClientError::Refused(_))));
    assert!(fleet.client.revoke("nobody").await.is_err());
    let entries = fleet.client.audit(0).await.unwrap().entries;
    let lines: Vec<String> = entries
        .iter()
        .map(|e| {
            format!("{:?} {} {} {}", e.event, e.verb, e.target, e.code.as_deref().unwrap_or(""))
        })
        .collect();
    let ends = |line: &str| lines.iter().any(|known| known.trim_end() == line);
    assert!(ends("Asked operator invite vera as viewer"), "{lines:#?}");
    assert!(ends("Refused node revoke opi-1 role"), "{lines:#?}");
    assert!(ends("Failed node revoke nobody no_node"), "{lines:#?}");
    let login = entries.iter().find(|e| e.verb == "login").unwrap();
    assert_eq!((login.who.as_str(), login.role), ("from:127.0.0.1", None));
    let refused = entries.iter().find(|e| e.event == Event::Refused).unwrap();
    assert_eq!((refused.who.as_str(), refused.role), ("operator:vera", Some(Role::Viewer)));
    let file = fleet.data.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(&token.secret));
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let verified = fleet.client.verify_audit().await.unwrap();
    assert_eq!((verified.entries, verified.broken), (entries.len() as u64, None));
    std::fs::write(&file, text.replacen("vera", "vero", 1)).unwrap();
    let broken = fleet.client.verify_audit().await.unwrap().broken.unwrap();
    assert_eq!(broken.line, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_not_done_and_looking_goes_on() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::at(dir.path());
    let _ = data.init().unwrap();
    std::fs::create_dir(dir.path().join("audit.jsonl")).unwrap();
    let choice = BrokerChoice::Embedded { listen: "127.0.0.1:0".parse().unwrap() };
    let fleet = Fleet::start_in(dir, data, choice, ApiSettings::default()).await;
    let Err(ClientError::Refused(problem)) = fleet.client.invite(&wish("anna")).await else {
        panic!("it is written nowhere")
    };
    assert_eq!(problem.code, "audit_unwritable");
    assert!(problem.message.contains("audit.jsonl"), "{}", problem.message);
    assert!(fleet.client.operators().await.unwrap().operators.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_much_is_told_to_wait_and_our_client_does() {
    let limits = Limits { requests_per_second: 2, burst: 4, ..Limits::default() };
    let fleet = Fleet::start_limited(limits).await;
    let anna = fleet.log_in("anna", Role::Viewer).await;
    let key = KeyPair::from_pem(&anna.key).unwrap();
    let own = Some((anna.certificate.as_str(), &key));
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(send_as(&fleet, own, ("GET", "/v1/fleet"), "", b"").await);
    }
    let (_, head, text) = answers.iter().find(|(status, ..)| *status == 429).expect("a refusal");
    assert!(head.contains("retry-after: 1") && text.contains("operator:anna"), "{head}\n{text}");
    assert_eq!(Client::operator(&anna).unwrap().fleet().await.unwrap().nodes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_bound_of_its_request_is_refused() {
    let fleet = Fleet::start().await;
    let otto = fleet.log_in("otto", Role::Operator).await;
    let key = KeyPair::from_pem(&otto.key).unwrap();
    let own = Some((otto.certificate.as_str(), &key));
    let body = vec![b' '; 17 * 1024];
    let (status, _, text) = send_as(&fleet, own, ("POST", "/v1/tokens"), "", &body).await;
    assert!(status == 413 && text.contains("too_large"), "{text}");
    let (status, ..) = send_as(&fleet, own, ("POST", "/v1/plans"), "", &body).await;
    assert_ne!(status, 413, "a plan may be larger");
}
