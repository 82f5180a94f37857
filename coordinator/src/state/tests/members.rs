//! Joining, the lobby, renewal and revocation, with time as an argument.

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::NodeId;
use protocol::join::{Answer, Join, JoinBody, Offer, Renew, RenewBody, SealKey, Times, TlsKey};
use protocol::keys::SecretKey;

use super::super::heard::NotTaken;
use super::super::members::Issue;
use super::super::requests::NewToken;
use super::super::views::EventFilter;
use super::world::{self, World};
use crate::ca::NodeCertificate;

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Certificates of nothing, numbered.
pub(super) struct Desk;

impl Issue for Desk {
    fn certificate(
        &self,
        node: &NodeId,
        _: &TlsKey,
        now_s: u64,
    ) -> Result<NodeCertificate, String> {
        let times = Times { renew_at: now_s + 60 * 86_400, expires_at: now_s + 90 * 86_400 };
        Ok(NodeCertificate {
            pem: format!("certificate of {node}"),
            serial: "4b".repeat(16),
            times,
        })
    }

    fn ca_pem(&self) -> String {
        "the CA".to_owned()
    }

    fn roots(&self, _: u64) -> Result<Vec<Envelope>, String> {
        Ok(Vec::new())
    }

    fn broker(&self) -> Option<String> {
        None
    }
}

pub(super) fn tls_key(of: u8) -> TlsKey {
    let mut der = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    der.extend([of; 64]);
    TlsKey::from_der(&der).unwrap()
}

fn key(of: u8) -> SecretKey {
    SecretKey::from_seed([of; 32])
}

fn id(of: u8) -> NodeId {
    key(of).public().node_id()
}

pub(super) fn wish() -> NewToken {
    NewToken { ttl_ms: HOUR_MS, ..NewToken::default() }
}

pub(super) fn token(world: &mut World, of: u8, wish: &NewToken) -> Offer {
    let offer = Offer::from_random([of; 32]);
    world.state.new_token(wish, &offer, world.at).unwrap();
    offer
}

fn join_changed(
    world: &mut World,
    board: u8,
    offer: &Offer,
    change: impl FnOnce(&mut Join),
) -> Answer {
    let mut join = Join {
        format: FORMAT,
        fleet: world::FLEET.parse().unwrap(),
        node: id(board),
        public_key: key(board).public().to_base64(),
        tls_key: tls_key(board),
        seal_key: SealKey::from_bytes([board; 32]),
        name: format!("opi-{board}").parse().unwrap(),
        environment: None,
        labels: [("zone".to_owned(), "edge".to_owned())].into(),
        token: offer.id.clone(),
    };
    change(&mut join);
    let request = Envelope::sign(&join, &[&key(board)]);
    let body = JoinBody { secret: offer.secret.clone(), request };
    world.state.join(&body, &Desk, world.at)
}

pub(super) fn join(world: &mut World, board: u8, offer: &Offer) -> Answer {
    join_changed(world, board, offer, |_| {})
}

fn renew(world: &mut World, board: u8) -> Answer {
    let renew = Renew {
        format: FORMAT,
        fleet: world::FLEET.parse().unwrap(),
        node: id(board),
        public_key: key(board).public().to_base64(),
        tls_key: tls_key(board),
        root_version: 1,
        again: None,
    };
    let body = RenewBody { request: Envelope::sign(&renew, &[&key(board)]), manifest: None };
    world.state.renew(&body, &Desk, world.at)
}

pub(super) fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Pending => "pending",
        Answer::Approved(_) => "approved",
        Answer::Refused(refused) => refused.code.as_str(),
    }
}

fn pass(world: &mut World, ms: u64) {
    world.at.unix_ms += ms;
}

#[test]
fn a_board_waits_in_the_lobby_until_it_is_approved() {
    let mut world = World::with_nodes(&[]);
    let offer = token(&mut world, 1, &wish());
    assert_eq!(code(&join(&mut world, 7, &offer)), "pending");
    assert_eq!(code(&renew(&mut world, 7)), "pending");
    let shown = world.state.show_nodes(None, world.at);
    assert_eq!(shown.lobby[0].name, "opi-7");
    assert_eq!(shown.lobby[0].status, "pending");
    let approved = world.state.approve("opi-7", world.at).unwrap();
    assert_eq!((approved.id, approved.status.as_str()), (id(7), "admitted"));
    assert_eq!(world.state.approve("opi-7", world.at).unwrap().status, "admitted", "asked twice");
    assert_eq!(code(&renew(&mut world, 7)), "approved");
    assert!(world.state.take_effects(world.at).admit.contains(&id(7)));
}

#[test]
fn a_token_that_approves_gives_the_certificate_at_once_with_what_it_fixes() {
    let mut world = World::with_nodes(&[]);
    let wish = NewToken {
        approve: true,
        labels: [("zone".to_owned(), "core".to_owned()), ("rack".to_owned(), "2".to_owned())]
            .into(),
        environment: Some("staging".parse().unwrap()),
        ..wish()
    };
    let offer = token(&mut world, 1, &wish);
    let Answer::Approved(approved) = join(&mut world, 7, &offer) else { panic!("approved") };
    assert_eq!(approved.environment.as_str(), "staging");
    let labels: Vec<_> = approved.labels.into_iter().collect();
    let expected = [("rack", "2"), ("zone", "core")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(labels, expected, "the token's labels win");
}

#[test]
fn a_token_is_for_one_node_one_time_and_one_environment() {
    let mut world = World::with_nodes(&[]);
    let offer = token(&mut world, 1, &wish());
    let guessed = Offer { secret: Offer::from_random([9; 32]).secret, ..offer.clone() };
    assert_eq!(code(&join(&mut world, 7, &guessed)), "token_unknown");
    let unknown = Offer::from_random([9; 32]);
    assert_eq!(code(&join(&mut world, 7, &unknown)), "token_unknown");
    assert_eq!(code(&join(&mut world, 7, &offer)), "pending");
    assert_eq!(code(&join(&mut world, 8, &offer)), "token_used");
    assert_eq!(code(&join(&mut world, 7, &offer)), "pending", "the answer was lost");
    let late = token(&mut world, 2, &wish());
    pass(&mut world, HOUR_MS);
    assert_eq!(code(&join(&mut world, 8, &late)), "token_expired");
    assert_eq!(code(&join(&mut world, 7, &offer)), "pending", "used in time");
    let staging = NewToken { environment: Some("staging".parse().unwrap()), ..wish() };
    let staging = token(&mut world, 3, &staging);
    let answer = join_changed(&mut world, 8, &staging, |join| {
        join.environment = Some("production".parse().unwrap());
    });
    assert_eq!(code(&answer), "wrong_environment");
    assert_eq!(code(&join(&mut world, 8, &staging)), "pending");
}

#[test]
fn a_request_of_another_fleet_or_without_its_signature_is_refused() {
    let mut world = World::with_nodes(&[]);
    let offer = token(&mut world, 1, &wish());
    let answer = join_changed(&mut world, 7, &offer, |join| {
        join.fleet = protocol::id::FleetId::from_random([9; 16]);
    });
    assert_eq!(code(&answer), "wrong_fleet");
    let answer = join_changed(&mut world, 7, &offer, |join| {
        join.public_key = key(8).public().to_base64();
    });
    assert_eq!(code(&answer), "bad_request");
    let other = Offer::from_random([2; 32]);
    let answer = join_changed(&mut world, 7, &offer, |join| join.token = other.id);
    assert_eq!(code(&answer), "token_unknown", "the secret of another token");
    assert_eq!(code(&renew(&mut world, 7)), "unknown_node");
}

#[test]
fn a_certificate_that_is_over_is_renewed_with_approval_and_one_that_is_not_without() {
    let mut world = World::with_nodes(&[]);
    let offer = token(&mut world, 1, &NewToken { approve: true, ..wish() });
    assert_eq!(code(&join(&mut world, 7, &offer)), "approved");
    pass(&mut world, 60 * DAY_MS);
    assert_eq!(code(&renew(&mut world, 7)), "approved", "two thirds of its life are over");
    pass(&mut world, 365 * DAY_MS);
    assert_eq!(code(&renew(&mut world, 7)), "pending", "off for a year");
    assert_eq!(code(&renew(&mut world, 7)), "pending");
    assert_eq!(world.state.show_nodes(None, world.at).lobby[0].status, "pending");
    let told = world.state.show_events(&EventFilter { limit: 10, ..Default::default() });
    let told = told.events.iter().filter(|event| event.message.contains("certificate is over"));
    assert_eq!(told.count(), 1);
    world.state.approve("opi-7", world.at).unwrap();
    assert_eq!(code(&renew(&mut world, 7)), "approved");
    pass(&mut world, 365 * DAY_MS);
    assert_eq!(code(&renew(&mut world, 7)), "pending", "approved once, for one time");
}

#[test]
fn a_revoked_identity_is_refused_everywhere_and_for_ever() {
    let mut world = World::with_nodes(&["a"]);
    let offer = token(&mut world, 1, &NewToken { approve: true, ..wish() });
    assert_eq!(code(&join(&mut world, 7, &offer)), "approved");
    let revoked = world.state.revoke("opi-7", world.at).unwrap();
    assert_eq!((revoked.id, revoked.already), (id(7), false));
    assert_eq!(world.state.take_effects(world.at).revoke, [id(7)].into());
    assert_eq!(world.state.revoked_serials(), ["4b".repeat(16)]);
    assert!(world.state.revoke("opi-7", world.at).unwrap().already);
    assert_eq!(code(&renew(&mut world, 7)), "revoked");
    let another = token(&mut world, 2, &wish());
    assert_eq!(code(&join(&mut world, 7, &another)), "revoked");
    let refused = world.state.approve("opi-7", world.at).unwrap_err();
    assert_eq!(refused.code(), "node_revoked");
    assert_eq!(world.state.revoke("nobody", world.at).unwrap_err().code(), "no_node");
}

#[test]
fn a_node_that_is_not_admitted_is_not_heard_and_gets_no_manifest() {
    let mut world = World::with_nodes(&["a", "b"]);
    let node = world.node_id("b");
    world.state.revoke("b", world.at).unwrap();
    let hello = world.hello_bytes("b");
    let heard = world.state.heard(&node, protocol::topic::Up::Hello, &hello, world.at);
    assert_eq!(heard, Err(NotTaken::NotAdmitted));
    assert_eq!(world.state.show_fleet().ignored, 1);
    let shown = world.state.show_nodes(None, world.at);
    let status = |name: &str| {
        shown.nodes.iter().find(|n| n.name.as_str() == name).map(|n| n.status.clone()).unwrap()
    };
    assert_eq!((status("a").as_str(), status("b").as_str()), ("ready", "revoked"));
}

#[test]
fn a_board_that_replaces_a_revoked_one_has_its_name_and_services() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.state.revoke("b", world.at).unwrap();
    world.joins_as("new-b", "b");
    assert_eq!(world.assigned("new-b"), "web:1x1", "and with it its services");
    let shown = world.state.show_nodes(None, world.at);
    let names: Vec<_> = shown.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(shown.nodes[1].id, world.node_id("new-b"));
}

#[test]
fn members_and_tokens_survive_a_restart() {
    let mut world = World::with_nodes(&["a"]);
    let offer = token(&mut world, 1, &wish());
    assert_eq!(code(&join(&mut world, 7, &offer)), "pending");
    let second = token(&mut world, 2, &NewToken { approve: true, ..wish() });
    world.settle();
    world.restart();
    assert_eq!(world.state.admitted().cloned().collect::<Vec<_>>(), [world.node_id("a")]);
    assert_eq!(code(&renew(&mut world, 7)), "pending");
    assert_eq!(code(&join(&mut world, 8, &offer)), "token_used");
    assert_eq!(code(&join(&mut world, 8, &second)), "approved");
}

#[test]
fn what_a_token_fixes_stands_above_what_a_hello_says() {
    let mut world = World::with_nodes(&[]);
    let wish = NewToken { approve: true, environment: Some("staging".parse().unwrap()), ..wish() };
    let offer = token(&mut world, 1, &wish);
    // The key of the first board of a test world.
    assert_eq!(code(&join(&mut world, 100, &offer)), "approved");
    world.joins_in("a", "production");
    let shown = world.state.show_nodes(None, world.at);
    assert_eq!(shown.nodes[0].environment.as_str(), "staging");
}

#[test]
fn a_copied_board_is_named_in_an_event_and_in_the_list() {
    let mut world = World::with_nodes(&["a", "b"]);
    for boot in ["boot-1", "boot-2", "boot-1"] {
        world.says_hello_from("a", boot);
    }
    let status = |world: &World| {
        let shown = world.state.show_nodes(None, world.at);
        (shown.nodes[0].status.clone(), shown.nodes[0].cloned, shown.nodes[1].cloned)
    };
    assert_eq!(status(&world), ("ready".to_owned(), false, false), "a late word of the first");
    world.says_hello_from("a", "boot-2");
    assert_eq!(status(&world), ("cloned".to_owned(), true, false));
    let filter = EventFilter { limit: 100, ..EventFilter::default() };
    let events = world.state.show_events(&filter).events;
    let told: Vec<_> = events.iter().filter(|e| e.message.starts_with("cloned: ")).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("127.0.0.1"), "{}", told[0].message);
    let seen = |name: &str, since_ms: u64| {
        let node = Some(name.parse().unwrap());
        let filter = EventFilter { limit: 100, node, since_ms, ..EventFilter::default() };
        world.state.show_events(&filter).events
    };
    assert!(seen("a", 0).contains(told[0]) && !seen("b", 0).is_empty());
    assert!(!seen("b", 0).contains(told[0]), "of another node");
    assert_eq!(seen("a", told[0].at_ms + 1), [], "older than was asked for");
    pass(&mut world, 2 * HOUR_MS);
    assert_eq!(status(&world).0, "ready", "there is one board again");
}
