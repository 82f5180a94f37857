//! Documents that are made to hurt their reader (A8), sent to a real agent by whoever owns the broker, and signed by whoever
//! stole the director's key: each is refused by its code, at once and without more memory than it weighs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use protocol::acceptance::{Known, NodeIdentity, Trust, accept};
use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES, Rejected};
use protocol::id::FleetId;
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::Manifest;
use protocol::payload::Payload as _;
use tests::by_hand::ByHand;
use tests::docker;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

/// The coordinator, whose session each of them costs, waits longer each time before it comes back.
const LATER: Duration = Duration::from_secs(150);
/// What reading one document may take on top of the document.
const MAX_MORE_KIB: u64 = 2048;
/// What an agent may grow by under all of them, of which several wait for it at once.
const MAX_GROWTH_KIB: u64 = 4096;
/// Of processor time for each document; without optimisation the strict walk over 20,000 keys alone is five times slower.
const MAX_CPU_MS: u64 = if cfg!(debug_assertions) { 250 } else { 50 };
/// Of `utime` and `stime` in proc(5), which every Linux has at 100 Hz.
const TICK_MS: u64 = 10;

/// What is measured is of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn can_run() -> bool {
    ["docker", "mosquitto_passwd", "mosquitto_pub"].into_iter().all(skip::has)
}

/// What the agent's process has taken so far.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kib: u64,
    peak_kib: u64,
    cpu_ms: u64,
}

fn taken(pid: u32) -> Taken {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks =
        |place: usize| -> u64 { fields.split_whitespace().nth(place).unwrap().parse().unwrap() };
    // utime and stime are the 14th and 15th of all fields.
    Taken {
        resident_kib: of("VmRSS:"),
        peak_kib: of("VmHWM:"),
        cpu_ms: (ticks(11) + ticks(12)) * TICK_MS,
    }
}

/// From here on the peak is that of what follows (proc(5), `clear_refs`).
fn forget_peak(pid: u32) -> Taken {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    taken(pid)
}

/// These bytes as a manifest that the director has signed.
fn signed(director: &SigningKey, body: &[u8]) -> Vec<u8> {
    let kind = Manifest::TYPE.as_str();
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    let sig = BASE64.encode(director.sign(&message).to_bytes());
    envelope(kind, &BASE64.encode(body), &sig)
}

fn envelope(kind: &str, payload: &str, sig: &str) -> Vec<u8> {
    let signature = format!(r#"{{"keyid":"0000000000000000","sig":"{sig}"}}"#);
    format!(r#"{{"payloadType":"{kind}","payload":"{payload}","signatures":[{signature}]}}"#)
        .into_bytes()
}

/// Nothing of it is signed.
fn of_the_brokers_owner() -> Vec<(&'static str, Vec<u8>)> {
    let kind = Manifest::TYPE.as_str();
    let (sig, nothing) = (BASE64.encode([0; 64]), BASE64.encode("{}"));
    let twice = String::from_utf8(envelope(kind, &nothing, &sig)).unwrap();
    let twice = twice.replacen('{', &format!("{{\"payload\":\"{nothing}\","), 1);
    let large = BASE64.encode(vec![b'x'; 180 * 1024]);
    vec![
        ("bad_envelope", vec![b'['; 100_000]),
        ("bad_envelope", [vec![b'{'; 100_000], b"\"a\":".repeat(20_000)].concat()),
        ("bad_envelope", vec![0; 200 * 1024]),
        ("bad_envelope", [&b"\xef\xbb\xbf"[..], &envelope(kind, &nothing, &sig)[..]].concat()),
        ("bad_envelope", twice.into_bytes()),
        ("bad_envelope", b"{\"payloadType\":1e400}".to_vec()),
        ("bad_signature", envelope(kind, &large, &sig)),
        ("bad_base64", envelope(kind, &"\u{e9}".repeat(60_000), &sig)),
        ("too_large", vec![b'A'; MAX_ENVELOPE_BYTES + 1]),
    ]
}

/// All of it is signed.
fn of_the_directors_thief(director: &SigningKey) -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str| {
        format!("{{\"format\":1,\"services\":{}{}}}", open.repeat(100_000 / open.len()), close)
    };
    let keys: Vec<String> = (0..20_000).map(|k| format!("\"{k:x}\":0")).collect();
    vec![
        ("too_deep", signed(director, deep("[", "").as_bytes())),
        ("too_deep", signed(director, deep("{\"a\":", "1").as_bytes())),
        ("too_deep", signed(director, deep("[", &"]".repeat(60_000)).as_bytes())),
        ("bad_payload", signed(director, b"{\"format\":1,\"format\":1}")),
        ("bad_payload", signed(director, b"{\"format\":1,\"fleet\":\"a\\u0000\",\"fleet\":\"b\"}")),
        ("bad_payload", signed(director, b"{\"format\":1,\"fleet\":\"\0\"}")),
        ("bad_payload", signed(director, b"\xef\xbb\xbf{\"format\":1}")),
        ("bad_payload", signed(director, b"{\"format\":1}\0")),
        ("bad_payload", signed(director, b"{\"format\":1e400}")),
        ("bad_payload", signed(director, b"{\"format\":1,\"version\":{\"generation\":1e19}}")),
        ("bad_payload", signed(director, &vec![0; 180 * 1024])),
        ("bad_payload", signed(director, format!("{{{}}}", keys.join(",")).as_bytes())),
        ("unknown_format", signed(director, b"{\"format\":4294967295}")),
    ]
}

fn all(director: &SigningKey) -> Vec<(&'static str, Vec<u8>)> {
    of_the_brokers_owner().into_iter().chain(of_the_directors_thief(director)).collect()
}

fn refused(fleet: &ByHand) -> BTreeMap<String, u64> {
    let nodes = fleet.json(&["node", "ls"]);
    serde_json::from_value(nodes["nodes"][0]["refused"].clone()).unwrap()
}

#[test]
fn an_agent_that_is_sent_documents_made_to_hurt_counts_them_and_runs_what_it_ran() {
    let _alone = alone();
    if !can_run() {
        return;
    }
    let fleet = ByHand::start(1);
    let port = free_port();
    let file = fleet.file("service.toml", &Service::new("hello", port).toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    let node = fleet.json(&["node", "ls"])["nodes"][0]["id"].as_str().unwrap().to_owned();
    let director = fs::read_to_string(fleet.data().join("keys/director.key")).unwrap();
    let director: [u8; 32] = BASE64.decode(director.trim()).unwrap().try_into().unwrap();
    let director = SigningKey::from_bytes(&director);
    let running = || -> Vec<String> {
        docker::containers(&fleet.label()).into_iter().map(|container| container.id).collect()
    };
    let (before, pid) = (running(), fleet.agent_pid(1));

    let start = forget_peak(pid);
    let mut expected = BTreeMap::<String, u64>::new();
    let tricks = all(&director);
    for (code, bytes) in &tricks {
        fleet.publish(&node, "down/manifest", bytes);
        *expected.entry((*code).to_owned()).or_default() += 1;
    }
    until_true("each is counted", LATER, || refused(&fleet) == expected);
    let end = taken(pid);
    let more_kib = end.peak_kib.saturating_sub(start.resident_kib);
    let (cpu_ms, count) = (end.cpu_ms - start.cpu_ms, tricks.len() as u64);
    eprintln!("{count} documents: {cpu_ms} ms of the agent's processor time, {more_kib} KiB more");
    assert!(cpu_ms < MAX_CPU_MS * count, "{cpu_ms} ms for {count}");
    assert!(more_kib < MAX_GROWTH_KIB, "{more_kib} KiB");
    assert_eq!(running(), before);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v1"));
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
}

#[test]
fn a_document_made_to_hurt_is_refused_in_little_time_and_memory() {
    let _alone = alone();
    let pid = std::process::id();
    let director = SigningKey::from_bytes(&[3; 32]);
    let key = SecretKey::from_seed([3; 32]).public();
    let fleet = FleetId::from_random([0xf1; 16]);
    let node = NodeIdentity {
        fleet: fleet.clone(),
        node: key.node_id(),
        environment: "default".parse().unwrap(),
    };
    let roles = [(RoleName::Director, Role::single(key))].into();
    let trust = Trust::from(Root { format: 1, fleet, version: 1, epoch: 1, roles });
    for (code, bytes) in all(&director) {
        let start = forget_peak(pid);
        let refused = accept(&bytes, &trust, &node, Known::NOTHING).unwrap_err();
        let end = taken(pid);
        let (more_kib, cpu_ms) =
            (end.peak_kib.saturating_sub(start.resident_kib), end.cpu_ms - start.cpu_ms);
        let begins = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        eprintln!("{code}: {} bytes, {cpu_ms} ms, {more_kib} KiB, {begins:?}", bytes.len());
        assert_eq!(refused.code(), code, "{begins:?}: {refused}");
        assert!(more_kib < MAX_MORE_KIB, "{code}: {more_kib} KiB more, {begins:?}");
        assert!(cpu_ms <= MAX_CPU_MS, "{code}: {cpu_ms} ms, {begins:?}");
    }
    // Pages that nobody looks at are not there.
    let gibibyte = vec![0; 1 << 30];
    let start = forget_peak(pid);
    let refused = Envelope::from_bytes(&gibibyte).unwrap_err();
    assert_eq!(refused, Rejected::TooLarge { size: 1 << 30 });
    let end = taken(pid);
    assert!(end.peak_kib < start.resident_kib + MAX_MORE_KIB, "{start:?} {end:?}");
}
