//! An attacker who owns the broker: reads every manifest and publishes what they like. The node runs what it ran, and says
//! what it refused. The forgeries are made with the protocol's own types, and with the director's key where it takes one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use protocol::envelope::Envelope;
use protocol::id::FleetId;
use protocol::keys::{Role, SecretKey};
use protocol::manifest::{MAX_GENERATION_JUMP, Manifest};
use protocol::release::Release;
use serde_json::Value;
use tests::by_hand::ByHand;
use tests::docker;
use tests::fleet::Outcome;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(30);
/// Seconds that a client gets: one whose packet ends its session would try for ever.
const PATIENCE: &str = "10";

fn can_run() -> bool {
    ["docker", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub"].into_iter().all(skip::has)
}

/// The broker's owner, with the director's key where a forgery needs it.
struct Attacker<'a> {
    fleet: &'a ByHand,
    host: String,
    port: String,
}

/// Who the broker takes the attacker for.
enum As<'a> {
    Coordinator,
    Node(&'a str),
    Nobody,
}

/// Whether the broker keeps what is published.
#[derive(Clone, Copy)]
enum Kept {
    Yes,
    No,
}

impl<'a> Attacker<'a> {
    fn of(fleet: &'a ByHand) -> Self {
        let address = fleet.broker.address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        Self { fleet, host, port }
    }

    fn secret(&self, role: &str) -> SecretKey {
        let path = self.fleet.data().join(format!("keys/{role}.key"));
        SecretKey::from_base64(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn topic(&self, node: &str) -> String {
        let label = self.fleet.label();
        let fleet = label.split_once('=').unwrap().1;
        format!("pith/v1/{fleet}/n/{node}/down/manifest")
    }

    fn client(&self, program: &str, who: &As<'_>) -> Command {
        let mut command = Command::new("timeout");
        command.args([PATIENCE, program, "-h", &self.host, "-p", &self.port, "-q", "1"]);
        let id = match who {
            As::Coordinator => "coordinator",
            As::Node(id) => id,
            As::Nobody => return command,
        };
        command.args(["-i", id, "-u", id, "-P", &self.fleet.password(id)]);
        command
    }

    /// The manifest that the broker keeps for a node. Taking it costs the node its session; it comes back.
    fn manifest(&self, node: &str) -> Vec<u8> {
        let mut command = self.client("mosquitto_sub", &As::Node(node));
        let output = command.args(["-t", &self.topic(node), "-C", "1", "-N"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Publishes each message to the node's manifest topic, in one session; whether the broker took them.
    fn publish(&self, who: &As<'_>, node: &str, messages: &[Vec<u8>], kept: Kept) -> bool {
        let mut command = self.client("mosquitto_pub", who);
        command.args(["-t", &self.topic(node), "-l"]).stdin(Stdio::piped()).stderr(Stdio::null());
        if let Kept::Yes = kept {
            command.arg("-r");
        }
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for message in messages {
            // The other side may have hung up already; its exit code says so.
            let _ = stdin.write_all(&[message, &b"\n"[..]].concat());
        }
        drop(stdin);
        child.wait().unwrap().success()
    }
}

fn deploy(fleet: &ByHand, service: &Service) -> Outcome {
    fleet.pith(&["deploy", "-f", &fleet.file("service.toml", &service.toml())])
}

/// Every node is back from what reading its manifest cost it, and runs what it should.
fn await_settled(fleet: &ByHand) {
    let is_settled = |node: &Value| node["online"] == true && node["settled"] == true;
    until_true("every node is settled", SOON, || {
        let services = fleet.json(&["ps"])["services"].clone();
        let nodes = services.as_array().unwrap().iter().map(|of| of["nodes"].as_array().unwrap());
        nodes.flatten().all(is_settled)
    });
}

/// Manifests that a node says it refused, by code.
fn refused(fleet: &ByHand, name: &str) -> BTreeMap<String, u64> {
    serde_json::from_value(fleet.node(name)["refused"].clone()).unwrap()
}

/// What Docker was made to do to containers and networks of this fleet since `from`.
fn docker_events(fleet: &ByHand, from: &str) -> String {
    let filter = format!("label={}", fleet.label());
    docker::docker(&["events", "--since", from, "--until", &docker_time(), "--filter", &filter])
}

fn docker_time() -> String {
    docker::docker(&["info", "--format", "{{.SystemTime}}"])
}

fn opened(bytes: &[u8], director: &SecretKey) -> Manifest {
    let signed = Envelope::from_bytes(bytes).unwrap().open::<Manifest>().unwrap();
    signed.verify(&Role::single(director.public())).unwrap().into_inner()
}

fn signed(manifest: &Manifest, key: &SecretKey) -> Vec<u8> {
    Envelope::sign(manifest, &[key]).to_bytes()
}

/// The manifest after `manifest`, changed.
fn next(manifest: &Manifest, change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut next = manifest.clone();
    next.version.generation += 1;
    change(&mut next);
    next
}

/// One bit other than before, so that what stands there is still of the alphabet of base64.
fn flip_one_bit(base64: &mut String) {
    let at = base64.len() / 2;
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
    let flipped = base64.bytes().enumerate().skip(at).find_map(|(place, byte)| {
        let other = byte ^ 1;
        (is_letter(&byte) && is_letter(&other)).then_some((place, char::from(other)))
    });
    let (place, other) = flipped.unwrap();
    base64.replace_range(place..=place, &other.to_string());
}

/// What the attacker sends, and the code under which the node counts it.
fn forgeries(
    attacker: &Attacker<'_>,
    older: &[u8],
    newest: &[u8],
    of_another: &[u8],
) -> Vec<(&'static str, Vec<u8>)> {
    let (director, stranger) = (attacker.secret("director"), SecretKey::from_seed([7; 32]));
    let manifest = opened(newest, &director);
    let by_director = |manifest: &Manifest| signed(manifest, &director);
    let mut bit_of_payload = Envelope::from_bytes(newest).unwrap();
    flip_one_bit(&mut bit_of_payload.payload);
    let mut bit_of_signature = Envelope::from_bytes(newest).unwrap();
    flip_one_bit(&mut bit_of_signature.signatures[0].sig);
    let mut bit_of_envelope = newest.to_vec();
    bit_of_envelope[0] ^= 1;
    let other_bytes = Manifest { issued_at: manifest.issued_at + 1, ..manifest.clone() };
    let trusted = Role::single(attacker.secret("release").public());
    let release = manifest.releases[0].open::<Release>().unwrap().verify(&trusted).unwrap();
    let own_release = Release { counter: release.counter + 1, ..release.into_inner() };
    let own_release = Envelope::sign(&own_release, &[&director]);
    let far = |manifest: &mut Manifest| manifest.version.generation += MAX_GENERATION_JUMP;
    let last = |manifest: &mut Manifest| manifest.version.generation = u64::MAX;
    let stolen = |manifest: &mut Manifest| manifest.fleet = FleetId::from_random([7; 16]);
    vec![
        ("bad_signature", bit_of_payload.to_bytes()),
        ("bad_signature", bit_of_signature.to_bytes()),
        ("bad_envelope", bit_of_envelope),
        ("wrong_node", of_another.to_vec()),
        ("stale_generation", older.to_vec()),
        ("equivocation", by_director(&other_bytes)),
        ("bad_signature", signed(&next(&manifest, |_| {}), &stranger)),
        ("bad_envelope", vec![b'x'; 200 * 1024]),
        ("too_large", vec![b'x'; 300 * 1024]),
        ("missing_release", by_director(&next(&manifest, |m| m.releases.clear()))),
        ("unnamed_removal", by_director(&next(&manifest, |m| m.services.clear()))),
        ("bad_signature", by_director(&next(&manifest, |m| m.releases = vec![own_release]))),
        ("generation_jump", by_director(&next(&manifest, far))),
        ("generation_jump", by_director(&next(&manifest, last))),
        ("wrong_fleet", by_director(&next(&manifest, stolen))),
        ("wrong_epoch", by_director(&next(&manifest, |m| m.version.epoch += 1))),
        ("wrong_payload_type", manifest.releases[0].to_bytes()),
    ]
}

#[test]
fn whatever_the_owner_of_the_broker_publishes_a_node_runs_what_it_ran_and_counts_the_refusal() {
    if !can_run() {
        return;
    }
    let fleet = ByHand::start(2);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = deploy(&fleet, &service).expect_code(0);
    let attacker = Attacker::of(&fleet);
    let (victim, other) = (fleet.id("board-1"), fleet.id("board-2"));
    let older = attacker.manifest(&victim);
    let _ = deploy(&fleet, &service.clone().image("pith-demo:v2")).expect_code(0);
    let (newest, of_another) = (attacker.manifest(&victim), attacker.manifest(&other));
    await_settled(&fleet);
    let forgeries = forgeries(&attacker, &older, &newest, &of_another);
    let mut expected = BTreeMap::<String, u64>::new();
    for (code, _) in &forgeries {
        *expected.entry((*code).to_owned()).or_default() += 1;
    }

    let (before, seen) = (fleet.running(), fleet.node("board-1")["seen"].clone());
    let from = docker_time();
    let messages: Vec<Vec<u8>> = forgeries.into_iter().map(|(_, bytes)| bytes).collect();
    assert!(attacker.publish(&As::Coordinator, &victim, &messages, Kept::No));

    let total = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    until_true("every forgery is counted", SOON, || {
        total(&refused(&fleet, "board-1")) >= total(&expected)
    });
    assert_eq!(refused(&fleet, "board-1"), expected);
    assert_eq!(refused(&fleet, "board-2"), BTreeMap::new());
    assert_eq!(docker_events(&fleet, &from), "", "no call changed anything in Docker");
    assert_eq!((fleet.running(), &fleet.node("board-1")["seen"]), (before, &seen));
    let events = fleet.pith(&["events"]).expect_code(0);
    for code in expected.keys() {
        assert!(events.stdout.contains(code), "{code} is no event: {}", events.stdout);
    }

    // The coordinator has its session back, and the generation that was forged is not taken.
    let _ = deploy(&fleet, &service).expect_code(0);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v1"));
}

#[test]
fn what_an_attacker_leaves_in_the_broker_is_not_run_and_does_not_stay_there() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(1);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = deploy(&fleet, &service).expect_code(0);
    let attacker = Attacker::of(&fleet);
    let victim = fleet.id("board-1");
    let older = attacker.manifest(&victim);
    let _ = deploy(&fleet, &service.clone().image("pith-demo:v2")).expect_code(0);
    let newest = attacker.manifest(&victim);
    await_settled(&fleet);
    let before = fleet.running();
    assert!(attacker.publish(&As::Coordinator, &victim, &[older], Kept::Yes));

    // The node starts anew, and may be given the poison first: the coordinator gets its session back meanwhile.
    fleet.restart_agent(1);
    let attacker = Attacker::of(&fleet);
    until_true("the broker keeps the newest again", SOON, || attacker.manifest(&victim) == newest);
    await_settled(&fleet);
    assert_eq!(fleet.running(), before);
    assert!(refused(&fleet, "board-1").keys().all(|code| code == "stale_generation"));
    let _ = deploy(&fleet, &service).expect_code(0);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v1"));
}

#[test]
fn without_the_coordinators_token_nobody_writes_a_manifest_and_a_packet_of_10_mib_ends_at_the_broker()
 {
    if !can_run() {
        return;
    }
    let fleet = ByHand::start(2);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = deploy(&fleet, &service).expect_code(0);
    let attacker = Attacker::of(&fleet);
    let (victim, other) = (fleet.id("board-1"), fleet.id("board-2"));
    let (before, garbage) = (fleet.running(), vec![b"garbage".to_vec()]);
    assert!(!attacker.publish(&As::Nobody, &victim, &garbage, Kept::No), "no token, no session");
    attacker.publish(&As::Node(&other), &victim, &garbage, Kept::Yes);
    attacker.publish(&As::Coordinator, &victim, &[vec![b'x'; 10 << 20]], Kept::No);
    let _ = deploy(&fleet, &Service::new("other", free_port())).expect_code(0);
    assert_eq!(refused(&fleet, "board-1"), BTreeMap::new(), "nothing of it arrived");
    assert!(before.iter().all(|id| fleet.running().contains(id)));
}

/// Revisions of a service, with whether history marks them.
fn retired(fleet: &ByHand) -> Vec<bool> {
    let history = fleet.json(&["rollout", "history", "hello"]);
    let revisions = history["revisions"].as_array().unwrap();
    revisions.iter().map(|revision| revision["retired"] == true).collect()
}

#[test]
fn nothing_brings_a_retired_release_back_neither_undo_nor_failure_nor_the_directors_key() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(1);
    let port = free_port();
    let service = Service::new("hello", port).rollout("progress_deadline = \"3s\"");
    let _ = deploy(&fleet, &service).expect_code(0);
    let attacker = Attacker::of(&fleet);
    let victim = fleet.id("board-1");
    let of_first = attacker.manifest(&victim);
    let early = fleet.pith(&["release", "retire", "hello", "--below", "2"]).expect_code(5);
    assert!(early.stderr.contains("default needs release 1 of hello"), "{}", early.stderr);
    let _ = deploy(&fleet, &service.clone().image("pith-demo:v2")).expect_code(0);

    let done = fleet.pith(&["release", "retire", "hello", "--below", "2"]).expect_code(0);
    assert_eq!(done.stdout, "hello: releases below 2 are retired; 1 node is told\n");
    let again = fleet.json(&["release", "retire", "hello", "--below", "1"]);
    assert_eq!((&again["unchanged"], &again["below"]), (&true.into(), &2.into()));
    assert_eq!(retired(&fleet), [true, false]);
    for undo in
        [&["rollout", "undo", "hello"][..], &["rollout", "undo", "hello", "--to-revision", "1"]]
    {
        let refused = fleet.pith(undo).expect_code(5);
        assert!(refused.stderr.contains("release 1 of hello is retired"), "{}", refused.stderr);
    }
    let events = fleet.pith(&["events", "hello"]).expect_code(0);
    assert!(events.stdout.contains("releases below 2 are retired by"), "{}", events.stdout);

    let _ = deploy(&fleet, &service.clone().image("pith-demo:v3")).expect_code(3);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v2"));
    await_settled(&fleet);

    // The thief of the director's key has what the release key signed: the first release, and no manifest without its
    // floor is needed to remember that.
    let director = attacker.secret("director");
    let old = opened(&of_first, &director);
    let newest = opened(&attacker.manifest(&victim), &director);
    await_settled(&fleet);
    let replayed = next(&newest, |manifest| {
        (manifest.services, manifest.releases) = (old.services.clone(), old.releases.clone());
    });
    let silent = next(&replayed, |manifest| manifest.retirements.clear());
    let before = fleet.running();
    let forgeries = [signed(&replayed, &director), signed(&silent, &director)];
    assert!(attacker.publish(&As::Coordinator, &victim, &forgeries, Kept::No));
    let expected = BTreeMap::from([("retired_release".to_owned(), 2)]);
    until_true("both are counted", SOON, || refused(&fleet, "board-1") == expected);
    assert_eq!(fleet.running(), before);

    // The agent starts anew: what it remembers is on its disk.
    fleet.restart_agent(1);
    let attacker = Attacker::of(&fleet);
    let none = || refused(&fleet, "board-1").is_empty();
    until_true("the new process, which has refused nothing yet, has said so", SOON, none);
    await_settled(&fleet);
    assert!(attacker.publish(&As::Coordinator, &victim, &forgeries[1..], Kept::No));
    let expected = BTreeMap::from([("retired_release".to_owned(), 1)]);
    until_true("it is counted again", SOON, || refused(&fleet, "board-1") == expected);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v2"));
}
