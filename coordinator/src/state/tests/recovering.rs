//! A coordinator that was lost and made anew: what its nodes bring back is what they were told, to the letter.

use std::collections::BTreeMap;

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::NodeId;
use protocol::join::{Answer, Join, JoinBody, Offer, Renew, RenewBody};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::{Assignment, Manifest, Version};
use protocol::recovery::{Again, accept};
use protocol::succession::Chain;

use super::super::members::Issue as _;
use super::super::records::Kept;
use super::super::requests::NewToken;
use super::super::shown::ServiceShown;
use super::super::{Director, State};
use super::members::{Desk, tls_key};
use super::secrets;
use super::world::{FLEET, World, director, id};

fn new_key() -> SecretKey {
    SecretKey::from_seed([33; 32])
}

fn second() -> Root {
    let mut root = Root { version: 2, epoch: 2, ..director().root };
    root.roles.insert(RoleName::Director, Role::single(new_key().public()));
    root
}

/// As `pith fleet recover` leaves it.
fn recovered() -> Director {
    let first = director().root;
    let sign = |root: &Root| Envelope::sign(root, &[&SecretKey::from_seed([1; 32])]);
    let chain = Chain { roots: vec![sign(&first), sign(&second())] };
    Director { root: second(), chain, key: new_key(), ..director() }
}

/// What each node was told last, before everything was lost.
struct Lost {
    world: World,
    told: BTreeMap<String, Envelope>,
}

impl Lost {
    fn of(mut world: World) -> Self {
        let told = |handle: &String| {
            let bytes = world.state.manifest(&world.node_id(handle))?;
            Some((handle.clone(), Envelope::from_bytes(bytes).unwrap()))
        };
        let told = world.keys.keys().filter_map(told).collect();
        let _ = world.put_back(&[]);
        world.state = State::restore(recovered(), Kept::default(), world.at);
        Self { world, told }
    }

    fn asks_with(&mut self, handle: &str, manifest: Option<Envelope>) -> Answer {
        let key = &self.world.keys[handle];
        let again = Again {
            name: handle.parse().unwrap(),
            environment: "default".parse().unwrap(),
            labels: BTreeMap::new(),
            seal_key: key.public().seal_key(),
        };
        let renew = Renew {
            format: FORMAT,
            fleet: FLEET.parse().unwrap(),
            node: key.public().node_id(),
            public_key: key.public().to_base64(),
            tls_key: tls_key(1),
            root_version: 1,
            again: Some(again),
        };
        let body = RenewBody { request: Envelope::sign(&renew, &[key]), manifest };
        self.world.state.renew(&body, &Desk, self.world.at)
    }

    fn asks(&mut self, handle: &str) -> Answer {
        let manifest = self.told.get(handle).cloned();
        self.asks_with(handle, manifest)
    }

    /// Approved, given its certificate, and heard.
    fn comes_back(&mut self, handle: &str) {
        assert!(matches!(self.asks(handle), Answer::Pending));
        self.world.state.approve(handle, self.world.at).unwrap();
        assert!(matches!(self.asks(handle), Answer::Approved(_)));
        let seen = self.before(handle).version;
        let _ = self.world.says_seen(handle, seen, None, 1);
    }

    fn before(&self, handle: &str) -> Manifest {
        self.told[handle].verify::<Manifest>(&director().root).unwrap().into_inner()
    }

    fn after(&self, handle: &str) -> Manifest {
        let bytes = self.world.state.manifest(&self.node_id(handle)).expect("it is told something");
        Envelope::from_bytes(bytes).unwrap().verify::<Manifest>(&second()).unwrap().into_inner()
    }

    fn node_id(&self, handle: &str) -> NodeId {
        self.world.node_id(handle)
    }

    #[track_caller]
    fn check_told_the_same(&self, handle: &str) {
        let (before, after) = (self.before(handle), self.after(handle));
        let sorted = |manifest: &Manifest| {
            let mut services: Vec<Assignment> = manifest.services.clone();
            services.sort_by(|a, b| a.service.cmp(&b.service));
            services
        };
        assert_eq!(sorted(&before), sorted(&after));
        assert_eq!((before.retirements, before.secrets), (after.retirements, after.secrets));
        assert_eq!(after.version, Version { epoch: 2, generation: after.version.generation });
        assert!(after.version > before.version);
    }
}

const SPREAD: &str = "name = \"chat\"\nreplicas = 4\n";

fn two_nodes() -> World {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.all_run();
    world.deploy_file(SPREAD, "v1");
    world.all_run();
    world
}

#[test]
fn each_node_is_told_again_what_it_was_told_before_and_nothing_else() {
    let mut lost = Lost::of(two_nodes());
    lost.comes_back("a");
    lost.check_told_the_same("a");
    assert_eq!(
        lost.world.services().count_override,
        Some(2),
        "of chat: two more may run elsewhere"
    );
    lost.comes_back("b");
    lost.check_told_the_same("a");
    lost.check_told_the_same("b");
    let chat = lost.world.services();
    assert_eq!((chat.name.as_str(), chat.desired, chat.count_override), ("chat", 4, None));
    let again = lost.world.says_hello("a");
    assert!(
        again.is_empty() || lost.after("a").services.len() == 2,
        "another hello changes nothing"
    );
    lost.check_told_the_same("a");
}

#[test]
fn copies_of_secrets_and_floors_come_back_and_hold() {
    let mut world = World::with_nodes(&["a", "b"]);
    secrets::set(&mut world, "horse").unwrap();
    for version in ["v1", "v2"] {
        world.deploy_file(secrets::WEB, version);
        world.all_run();
    }
    world.retire("web", 2).unwrap();
    let mut lost = Lost::of(world);
    lost.comes_back("a");
    assert_eq!((lost.after("a").secrets.len(), lost.after("a").retirements.len()), (1, 1));
    lost.check_told_the_same("a");
    lost.comes_back("b");
    lost.check_told_the_same("b");
    let shown = lost.world.state.show_secrets(&"default".parse().unwrap());
    assert_eq!((shown.secrets[0].version, shown.secrets[0].lacking.len()), (1, 0));
    let refused = lost.world.deploy_envelope(old_release()).unwrap_err();
    assert_eq!(refused.code(), "retired", "{refused}");
    // Nobody here can open what was sealed to the old operators; another value is another version.
    let next = secrets::set(&mut lost.world, "battery").unwrap();
    assert_eq!((next.version, next.rollouts.len()), (2, 1));
}

const CALLER: &str =
    "name = \"gateway\"\nper_node = 1\nuses = [\"web\"]\n[placement]\nnodes = [\"a\"]\n";
const CALLED: &str =
    "name = \"web\"\nper_node = 1\n[[ports]]\ntarget = 80\n[placement]\nnodes = [\"b\"]\n";

#[test]
fn a_node_that_is_back_first_goes_on_calling_those_that_are_not() {
    let mut world = World::with_nodes(&["a", "b", "c"]);
    [("a", "10.0.0.1:7070"), ("b", "10.0.0.2:7070")]
        .into_iter()
        .for_each(|(handle, address)| world.is_reached_at(handle, address));
    world.deploy_file(CALLED, "v1");
    world.deploy_file(CALLER, "v1");
    world.all_run();
    world.passes(1_000);
    let mut lost = Lost::of(world);
    assert_eq!(lost.before("a").peers.nodes.len(), 1);
    assert_eq!(lost.before("b").peers.callers.len(), 1);
    lost.comes_back("a");
    assert_eq!(lost.after("a").peers, lost.before("a").peers);
    // One that never ran anything joins as a new one, and gets nothing that others have.
    let third = lost.node_id("c");
    lost.world.state.admit(&third, lost.world.at).unwrap();
    let _ = lost.world.says_hello("c");
    assert_eq!(lost.world.assigned("c"), "");
    lost.comes_back("b");
    for handle in ["a", "b"] {
        lost.world.runs(handle);
    }
    lost.world.passes(1_000);
    assert_eq!(lost.after("a").peers, lost.before("a").peers);
    assert_eq!(lost.after("b").peers, lost.before("b").peers);
}

#[test]
fn who_never_comes_back_is_called_until_its_service_is_deployed_or_it_is_revoked() {
    for revokes in [false, true] {
        let mut world = World::with_nodes(&["a", "b"]);
        [("a", "10.0.0.1:7070"), ("b", "10.0.0.2:7070")]
            .into_iter()
            .for_each(|(handle, address)| world.is_reached_at(handle, address));
        world.deploy_file(CALLED, "v1");
        world.deploy_file(CALLER, "v1");
        world.all_run();
        world.passes(1_000);
        let mut lost = Lost::of(world);
        lost.comes_back("a");
        assert_eq!(lost.after("a").peers.nodes.len(), 1);
        let (id, shown) = (lost.node_id("b"), lost.world.state.show_nodes(None, lost.world.at));
        assert_eq!((shown.absent.len(), &shown.absent[0].id), (1, &id));
        assert_eq!(shown.absent[0].name.as_ref().map(|name| name.as_str()), Some("b"));
        if revokes {
            // It has never asked here: only its id is known, from what others were told.
            lost.world.state.revoke(id.as_str(), lost.world.at).unwrap();
            assert!(matches!(lost.asks("b"), Answer::Refused(_)));
            assert!(lost.world.state.show_nodes(None, lost.world.at).absent.is_empty());
            assert!(lost.world.state.revoke(&"0".repeat(32), lost.world.at).is_err());
        } else {
            lost.world.deploy_file(&CALLED.replace("[\"b\"]", "[\"a\"]"), "v2");
        }
        lost.world.passes(1_000);
        assert!(lost.after("a").peers.nodes.is_empty(), "revoked: {revokes}");
    }
}

#[test]
fn what_came_back_is_stored() {
    let mut lost = Lost::of(two_nodes());
    assert!(matches!(lost.asks("b"), Answer::Pending));
    lost.comes_back("a");
    let _ = lost.world.restart_as(recovered());
    lost.check_told_the_same("a");
    assert_eq!(lost.world.state.show_nodes(None, lost.world.at).lobby[0].runs.len(), 2);
    lost.comes_back("b");
    let _ = lost.world.restart_as(recovered());
    lost.check_told_the_same("b");
    let services = lost.world.state.show_services(None, lost.world.at.unix_ms).services;
    let shown = |one: &ServiceShown| format!("{}:{}", one.name, one.revision);
    assert_eq!(services.iter().map(shown).collect::<Vec<_>>(), ["chat:1", "web:2"]);
}

#[test]
fn after_it_deploys_and_counts_go_on_where_they_were() {
    let mut lost = Lost::of(two_nodes());
    lost.comes_back("a");
    lost.comes_back("b");
    let world = &mut lost.world;
    assert_eq!(world.rollout("web").revision, 2, "numbers go on");
    let accepted = world.deploy("web", "v3").unwrap();
    assert_eq!((accepted.revision, accepted.from_revision), (3, Some(2)));
    // It runs what it is told.
    let services = lost.after("a").services;
    assert!(services.iter().any(|one| one.service.as_str() == "web" && one.revision == 3));
    assert!(lost.world.scale("chat", Some(6)).is_ok());
    let old = lost.world.deploy_envelope(old_release());
    assert_eq!(old.unwrap_err().code(), "old_counter", "a release of before is no news");
}

/// Of a counter that was given long ago.
fn old_release() -> Envelope {
    World::with_nodes(&[]).sign("web", "v0")
}

#[test]
fn a_restart_of_one_node_alone_stays_its_own_whoever_comes_first() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut world = two_nodes();
        world.state.restart_on(&id("web"), &"a".parse().unwrap(), "anna", world.at).unwrap();
        world.settle();
        let mut lost = Lost::of(world);
        for handle in order {
            lost.comes_back(handle);
        }
        lost.check_told_the_same("a");
        lost.check_told_the_same("b");
        let restarts = |lost: &Lost| lost.world.state.services[&id("web")].revisions[&2].restarts;
        assert_eq!(restarts(&lost), 0, "{order:?}");
    }
}

#[test]
fn what_most_instances_were_told_to_be_is_what_stands() {
    let mut world = World::with_nodes(&["a", "b", "c"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    // The second is under way on the first node alone.
    world.deploy_as("v2", "batch = 1").unwrap();
    assert_eq!([world.assigned("a"), world.assigned("b")], ["web:2x1", "web:1x1"]);
    let mut lost = Lost::of(world);
    ["a", "b", "c"].into_iter().for_each(|handle| lost.comes_back(handle));
    ["a", "b", "c"].into_iter().for_each(|handle| lost.check_told_the_same(handle));
    let service = &lost.world.state.services[&id("web")];
    assert_eq!((service.record.stable, service.record.next_revision), (Some(1), 3));
    assert_eq!(lost.world.revision_state("web", 2).as_str(), "aborted");
}

#[test]
fn a_board_that_joined_by_a_token_keeps_what_the_token_fixed() {
    let mut lost = Lost::of(two_nodes());
    let offer = Offer::from_random([7; 32]);
    let staging = Some("staging".parse().unwrap());
    let wish = NewToken { ttl_ms: 1_000, environment: staging, ..NewToken::default() };
    lost.world.state.new_token(&wish, &offer, lost.world.at).unwrap();
    let key = &lost.world.keys["a"];
    let join = Join {
        format: FORMAT,
        fleet: FLEET.parse().unwrap(),
        node: key.public().node_id(),
        public_key: key.public().to_base64(),
        tls_key: tls_key(1),
        seal_key: key.public().seal_key(),
        name: "a".parse().unwrap(),
        environment: None,
        labels: BTreeMap::new(),
        token: offer.id.clone(),
    };
    let body = JoinBody { secret: offer.secret.clone(), request: Envelope::sign(&join, &[key]) };
    assert!(matches!(lost.world.state.join(&body, &Desk, lost.world.at), Answer::Pending));
    for _ in 0..2 {
        assert!(matches!(lost.asks("a"), Answer::Pending));
    }
    let lobby = lost.world.state.show_nodes(None, lost.world.at).lobby;
    assert_eq!(lobby[0].environment.as_str(), "staging");
}

#[test]
fn a_node_that_was_let_in_by_its_id_brings_back_what_it_runs() {
    let mut lost = Lost::of(two_nodes());
    let node = lost.node_id("a");
    lost.world.state.admit(&node, lost.world.at).unwrap();
    assert!(matches!(lost.asks("a"), Answer::Approved(_)));
    let seen = lost.before("a").version;
    let _ = lost.world.says_seen("a", seen, None, 1);
    lost.check_told_the_same("a");
}

#[test]
fn a_renewal_without_a_manifest_before_the_first_hello_forgets_nothing() {
    let mut lost = Lost::of(two_nodes());
    assert!(matches!(lost.asks("a"), Answer::Pending));
    lost.world.state.approve("a", lost.world.at).unwrap();
    assert!(matches!(lost.asks("a"), Answer::Approved(_)));
    assert!(matches!(lost.asks_with("a", None), Answer::Approved(_)));
    let seen = lost.before("a").version;
    let _ = lost.world.says_seen("a", seen, None, 1);
    lost.check_told_the_same("a");
}

#[test]
fn who_cannot_show_that_it_was_of_the_fleet_does_not_come_into_the_lobby() {
    let mut lost = Lost::of(two_nodes());
    let code = |answer: Answer| match answer {
        Answer::Refused(refused) => refused.code.to_string(),
        Answer::Pending | Answer::Approved(_) => "let in".to_owned(),
    };
    let of_b = lost.told.get("b").cloned();
    assert_eq!(code(lost.asks_with("a", None)), "unknown_node");
    assert_eq!(code(lost.asks_with("a", of_b)), "unknown_node", "another's manifest");
    let forged = Envelope::sign(&lost.before("a"), &[&SecretKey::from_seed([9; 32])]);
    assert_eq!(code(lost.asks_with("a", Some(forged))), "unknown_node");
    assert!(lost.world.state.show_nodes(None, lost.world.at).lobby.is_empty());
    assert_eq!(code(lost.asks("a")), "let in");
    let lobby = lost.world.state.show_nodes(None, lost.world.at).lobby;
    let runs: Vec<String> = lobby[0]
        .runs
        .iter()
        .map(|one| format!("{}:{}x{}", one.service, one.revision, one.count))
        .collect();
    assert_eq!((lobby.len(), runs.join(" ").as_str()), (1, "chat:1x2 web:2x1"));
}

#[test]
fn the_thief_of_the_old_directors_key_leaves_no_numbers_that_nothing_can_follow() {
    let mut lost = Lost::of(two_nodes());
    let mut forged = |change: fn(&mut Manifest)| {
        let mut manifest = lost.before("a");
        change(&mut manifest);
        let signed = Envelope::sign(&manifest, &[&SecretKey::from_seed([3; 32])]);
        matches!(lost.asks_with("a", Some(signed)), Answer::Pending)
    };
    assert!(!forged(|manifest| manifest.services[0].revision = u64::MAX));
    assert!(!forged(|manifest| manifest.services[0].restarts = u32::MAX));
    assert!(!forged(|manifest| manifest.services[0].attempt = u32::MAX));
    assert!(!forged(|manifest| manifest.services[0].release = "f".repeat(64).parse().unwrap()));
    assert!(!forged(|manifest| manifest.services[0].count = u32::MAX));
    let late = |manifest: &mut Manifest| {
        manifest.issued_at = u64::MAX;
        manifest.services.iter_mut().for_each(|one| one.count = 10_000);
    };
    assert!(forged(late));
    // Somebody approves it: it is wrong, and nothing of it stops the coordinator.
    lost.world.state.approve("a", lost.world.at).unwrap();
    assert!(matches!(lost.asks("a"), Answer::Approved(_)));
    let _ = lost.world.says_hello("a");
    lost.comes_back("b");
    lost.check_told_the_same("b");
    let history = lost.world.state.show_history(&id("web")).unwrap();
    assert!(history.revisions.iter().all(|one| one.started_ms <= lost.world.at.unix_ms));
}

#[test]
fn a_revoked_identity_stays_out_whatever_it_shows() {
    let mut lost = Lost::of(two_nodes());
    assert!(matches!(lost.asks("a"), Answer::Pending));
    lost.world.state.revoke("a", lost.world.at).unwrap();
    assert!(matches!(lost.asks("a"), Answer::Refused(_)));
}

#[test]
fn what_is_answered_to_a_node_that_knew_another_ca_is_what_it_follows() {
    let lost = Lost::of(two_nodes());
    let body = lost.world.state.recovery("ab".repeat(32), Desk.ca_pem());
    let followed = accept(&body, &director().root).expect("followed");
    assert_eq!(followed.ca_sha256, "ab".repeat(32));
    assert_eq!(followed.roots.last().map(|one| &one.root), Some(&second()));
    assert!(accept(&body, &second()).is_err(), "it has come past it");
}
