//! Keys are replaced under a fleet that runs: nothing stops, the old keys have no say any more, and a board that was away
//! catches up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use protocol::envelope::Envelope;
use protocol::keys::{PublicKey, Role, RoleName, Root, SecretKey};
use protocol::manifest::Manifest;
use protocol::succession::{self, Chain};
use tests::by_hand::ByHand;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);

fn can_run() -> bool {
    ["docker", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub"].into_iter().all(skip::has)
}

fn refused(fleet: &ByHand, name: &str, code: &str) -> u64 {
    fleet.node(name)["refused"][code].as_u64().unwrap_or(0)
}

/// Nodes that the coordinator knows to trust an older root.
fn behind(fleet: &ByHand) -> Vec<String> {
    let shown = fleet.json(&["keys", "ls"]);
    let behind = shown["coordinator"]["behind"].as_array().unwrap();
    behind.iter().map(|of_it| of_it["node"].as_str().unwrap().to_owned()).collect()
}

fn version(fleet: &ByHand, k: u8, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(k, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

fn deploy(fleet: &ByHand, port: u16, image: &str) {
    let file = fleet.file("hello.toml", &Service::new("hello", port).image(image).toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
}

/// The release key from elsewhere than the folder: a stranger's is refused by name, that of a command counts.
fn deploy_with_key_of_ci(fleet: &ByHand, port: u16) {
    let service = Service::new("hello", port).image("pith-demo:v2").env("FROM", "ci");
    let file = fleet.file("hello.toml", &service.toml());
    let run = |variable: &str, value: &str| {
        let output = fleet.command(&["deploy", "-f", &file]).env(variable, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let stranger = SecretKey::from_seed([78; 32]);
    let (code, said) = run("PITH_RELEASE_KEY", &stranger.to_base64());
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("PITH_RELEASE_KEY: key") && said.contains("no release key"), "{said}");
    let (code, said) = run("PITH_RELEASE_KEY_COMMAND", "exit 3");
    assert!(code == Some(5) && said.contains("PITH_RELEASE_KEY_COMMAND: the command"), "{said}");
    let folder = fleet.path("data/keys");
    let newest = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let newest = newest.filter(|path| path.display().to_string().contains("release-"));
    let newest =
        newest.filter(|path| !path.display().to_string().contains("agent-")).last().unwrap();
    let hidden = fleet.path("elsewhere.key");
    std::fs::rename(&newest, &hidden).unwrap();
    let (code, said) = run("PITH_RELEASE_KEY", "");
    assert!(code == Some(5) && said.contains("PITH_RELEASE_KEY (not set)"), "{said}");
    let (code, said) = run("PITH_RELEASE_KEY_COMMAND", &format!("cat {}", hidden.display()));
    assert_eq!(code, Some(0), "{said}");
    std::fs::rename(&hidden, &newest).unwrap();
}

fn key(fleet: &ByHand, file: &str) -> SecretKey {
    SecretKey::from_base64(&std::fs::read_to_string(fleet.path(file)).unwrap()).unwrap()
}

/// A change of the root that two of the three sign.
fn change(fleet: &ByHand, args: &[&str], people: [&str; 2]) -> String {
    let files = people.map(|name| fleet.path(&format!("{name}.key")).display().to_string());
    let sign = ["--root-key", &files[0], "--root-key", &files[1]];
    fleet.pith(&[&["keys"], args, &sign].concat()).expect_code(0).stdout
}

/// What a thief of the old director's key makes of the newest manifest.
fn by_old_director(newest: &[u8], old: &SecretKey, new: &PublicKey) -> Vec<u8> {
    let envelope = Envelope::from_bytes(newest).unwrap();
    let role = Role::single(new.clone());
    let mut manifest = envelope.open::<Manifest>().unwrap().verify(&role).unwrap().into_inner();
    manifest.version.generation += 1;
    Envelope::sign(&manifest, &[old]).to_bytes()
}

/// The next root, in which one stranger rules, signed by these keys.
fn usurped(current: &Root, stranger: &SecretKey, keys: &[&SecretKey]) -> Vec<u8> {
    let mut root = Root { version: current.version + 1, ..current.clone() };
    root.roles.insert(RoleName::Root, Role::single(stranger.public()));
    Chain { roots: vec![Envelope::sign(&root, keys)] }.to_bytes()
}

/// The one signature of the chain's one root once more, under the id of another key (A7).
fn twice(chain: &[u8]) -> Vec<u8> {
    let mut chain = Chain::from_bytes(chain).unwrap();
    let signatures = &mut chain.roots[0].signatures;
    let mut again = signatures[0].clone();
    again.keyid = SecretKey::from_seed([79; 32]).public().id();
    signatures.push(again);
    chain.to_bytes()
}

fn newest_root(fleet: &ByHand) -> Root {
    let bytes = std::fs::read(fleet.path("data/root.json")).unwrap();
    succession::first(&Envelope::from_bytes(&bytes).unwrap()).unwrap().into_inner()
}

#[test]
fn keys_are_replaced_under_a_running_fleet_and_a_board_that_was_away_catches_up() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start_with(2, &["alice", "bob", "carol"]);
    let port = free_port();
    deploy(&fleet, port, "pith-demo:v1");
    let before = fleet.running();
    let first = fleet.node("board-1")["id"].as_str().unwrap().to_owned();
    let old_director = key(&fleet, "data/keys/director.key");
    fleet.kill_agent(2);

    // One signature is not enough: nothing happens, and it says what is missing.
    let alice = fleet.path("alice.key").display().to_string();
    let one = ["keys", "threshold", "root", "3", "--root-key", &alice];
    let one = fleet.pith(&one).expect_code(4);
    assert!(one.stdout.contains("needs 1 more signature(s) under trust root 1"), "{one:?}");
    std::fs::remove_file(fleet.path("data/root-2.json")).unwrap();

    let said = change(&fleet, &["rotate", "director"], ["alice", "bob"]);
    assert!(said.contains("trust root 2 is in effect"), "{said}");
    until_true("board-1 trusts root 2", SOON, || behind(&fleet) == ["board-2"]);
    assert_eq!(fleet.running(), before, "what runs is left alone");
    let root = newest_root(&fleet);
    let director = root.roles[&RoleName::Director].keys[0].clone();
    assert_ne!(director, old_director.public());
    let sessions = |fleet: &ByHand| fleet.agent_log(1).matches("session is up").count();
    let sessions_before = sessions(&fleet);
    let newest = fleet.kept(&first, "down/manifest");
    until_true("board-1 is back from what reading cost it", SOON, || {
        sessions(&fleet) > sessions_before && fleet.node("board-1")["status"] == "ready"
    });
    let forged = by_old_director(&newest, &old_director, &director);
    fleet.publish(&first, "down/manifest", &forged);
    until_true("the old director is refused", SOON, || {
        refused(&fleet, "board-1", "bad_signature") > 0
    });
    assert_eq!(fleet.running(), before);

    // The second rotation that board-2 misses. What the old release key signed runs on and is named.
    let said = change(&fleet, &["rotate", "release"], ["bob", "carol"]);
    assert!(said.contains("default/hello revision 1") && said.contains("it runs on"), "{said}");
    until_true("board-1 trusts root 3", SOON, || behind(&fleet) == ["board-2"]);
    assert_eq!(fleet.running(), before);
    deploy(&fleet, port, "pith-demo:v2");
    assert_eq!(version(&fleet, 1, port).as_deref(), Some("v2"));
    assert_eq!(version(&fleet, 2, port).as_deref(), Some("v1"), "its proxy and containers stand");
    deploy_with_key_of_ci(&fleet, port);
    let undo = ["rollout", "undo", "hello", "--to-revision", "1"];
    let undo = fleet.pith(&undo).expect_code(5);
    assert!(undo.stderr.contains("no key that trust root 3 names"), "{undo:?}");

    fleet.start_agent(2);
    until_true("board-2 catches up", SOON, || {
        version(&fleet, 2, port).as_deref() == Some("v2") && behind(&fleet).is_empty()
    });

    // A root that is signed under only one of the two, this one or the one before, is none.
    let (alice, bob) = (key(&fleet, "alice.key"), key(&fleet, "bob.key"));
    let (stranger, root) = (SecretKey::from_seed([77; 32]), newest_root(&fleet));
    until_true("the old instances are gone", SOON, || fleet.running().len() == 2);
    let before = fleet.running();
    for keys in [&[&stranger][..], &[&alice, &bob], &[&alice, &stranger]] {
        fleet.publish(&first, "down/root", &usurped(&root, &stranger, keys));
    }
    fleet.publish(&first, "down/root", &twice(&usurped(&root, &stranger, &[&alice])));
    until_true("each is refused", SOON, || refused(&fleet, "board-1", "root_signature") == 4);
    let events = fleet.pith(&["events"]).expect_code(0).stdout;
    assert!(events.contains("trust root refused: root_signature"), "{events}");
    assert_eq!(fleet.running(), before);
    deploy(&fleet, port, "pith-demo:v1");
    assert_eq!(version(&fleet, 1, port).as_deref(), Some("v1"));
    assert_eq!(version(&fleet, 2, port).as_deref(), Some("v1"));
}
