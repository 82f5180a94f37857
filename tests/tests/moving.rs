//! A coordinator moves to another address: nodes learn it while it is still where it was, come over by themselves when it comes up there,
//! and nothing that runs is touched. Nobody else can tell them where to look.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use load::{Config, Load};
use protocol::envelope::Envelope;
use protocol::keys::SecretKey;
use protocol::whereabouts::{Edition, Whereabouts};
use tests::boards::Boards;
use tests::by_hand::ByHand;
use tests::docker;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(60);

fn running(boards: &Boards) -> BTreeSet<String> {
    docker::containers(&boards.label).into_iter().map(|container| container.id).collect()
}

fn known(boards: &Boards, k: u8) -> Vec<String> {
    let text =
        fs::read_to_string(boards.path(&format!("board-{k}/state/coordinator.json"))).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(file["addresses"].clone()).unwrap()
}

/// The new address; the old ones are given too. Board 2 is away at first.
fn nodes_are_told(boards: &mut Boards) -> (Vec<String>, String) {
    boards.kill_agent(2);
    until_true("board-2 is known to be away", SOON, || boards.status("board-2") == "offline");
    let (old, new) = (known(boards, 1), format!("127.0.0.1:{}", free_port()));
    let wrong = boards.pith(&["coordinator", "move", "hub"]).expect_code(2);
    assert!(wrong.stderr.contains("is not HOST:PORT"), "{wrong:?}");
    let last = boards.pith(&["coordinator", "addresses", "--forget", &old[0]]).expect_code(2);
    assert!(last.stderr.contains("first `pith coordinator move"), "{last:?}");
    let partly = boards.pith(&["coordinator", "move", &new]).expect_code(4);
    assert!(partly.stderr.contains("offline: board-2;"), "{partly:?}");
    assert_eq!(known(boards, 1), [&[new.clone()][..], &old].concat());
    assert_eq!(known(boards, 2), old);
    boards.start_agent(2);
    boards.wait_ready(2);
    let told = boards.pith(&["coordinator", "move", &new]).expect_code(0);
    assert!(told.stdout.contains("2 of 2 nodes have learned it"), "{told:?}");
    assert!(told.stderr.contains("next: `pith backup FILE`"), "{told:?}");
    assert_eq!(known(boards, 2), [&[new.clone()][..], &old].concat());
    (old, new)
}

/// The old one is off; a backup of it comes up in another folder, at another address.
fn comes_up_elsewhere(boards: &mut Boards, new: &str) {
    let path = |name: &str| boards.path(name).to_string_lossy().into_owned();
    let (file, root_key, data) =
        (path("fleet.pith"), path("data/keys/root.key"), path("elsewhere"));
    let _ = boards.json(&["backup", &file]);
    boards.kill_coordinator();
    let _ = boards.json(&["restore", &file, "--root-key", &root_key, "--data", &data]);
    fs::copy(boards.path("data/keys/release.key"), boards.path("elsewhere/keys/release.key"))
        .unwrap();
    let config = format!("[broker]\nlisten = \"{new}\"\n");
    fs::write(boards.path("coordinator.toml"), config).unwrap();
    boards.move_data("elsewhere");
    boards.start_coordinator();
    let came = format!("session is up broker={new}");
    for k in [1, 2] {
        until_true("the node comes over", SOON, || {
            boards.log(&format!("board-{k}/agent.log")).contains(&came)
        });
        boards.wait_ready(k);
    }
}

#[test]
fn a_coordinator_moves_to_another_address_and_its_nodes_follow_with_no_container_touched() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    [1, 2].into_iter().for_each(|k| boards.add(k));
    let port = free_port();
    boards.deploy(&Service::new("web", port).toml());
    let (before, began) = (running(&boards), Instant::now());
    assert_eq!(before.len(), 2);
    let load = Load::start(Config {
        targets: vec![boards.at(1, port), boards.at(2, port)],
        path: "/".to_owned(),
        kept_connections: 4,
        kept_rate: 20,
        new_rate: 20,
        websockets: 0,
    });

    let (old, new) = nodes_are_told(&mut boards);
    comes_up_elsewhere(&mut boards, &new);

    until_true("both are heard at the new address", SOON, || {
        let shown = boards.json(&["coordinator", "addresses"]);
        assert_eq!(shown["addresses"][0], new.as_str());
        shown["nodes"].as_array().unwrap().iter().all(|node| node["heard"] == true)
    });
    assert_eq!(running(&boards), before, "nothing was touched");
    let events = boards.json(&["events"]).to_string();
    assert!(!events.contains("refused"), "{events}");
    // The old address is dropped, on the board too; and the next deploy is as any other.
    let _ = boards.pith(&["coordinator", "addresses", "--forget", &old[0]]).expect_code(0);
    for k in [1, 2] {
        until_true("the old address is forgotten", SOON, || known(&boards, k) == [new.clone()]);
    }
    let summary = until("enough requests", SOON, || {
        Some(load.summary(began, Instant::now())).filter(|summary| summary.sent > 100)
    });
    assert_eq!(summary.failed, 0, "{summary:?}");
    drop(load);

    let file = boards.path("service.toml").to_string_lossy().into_owned();
    let _ = boards.pith(&["deploy", "-f", &file, "--image", "pith-demo:v2"]).expect_code(0);
    for k in [1, 2] {
        let answer = until("the new release answers", SOON, || {
            get(boards.at(k, port), "/").ok().filter(|(_, body)| body.contains("v2"))
        });
        assert_eq!(answer.0, 200);
    }
}

#[test]
fn an_address_that_somebody_else_signed_is_refused_and_said() {
    if !["docker", "mosquitto_sub", "mosquitto_passwd"].into_iter().all(skip::has) {
        return;
    }
    let fleet = ByHand::start(1);
    let victim = fleet.id("board-1");
    let root: serde_json::Value =
        serde_json::from_slice(&fs::read(fleet.data().join("fleet.json")).unwrap()).unwrap();
    let forged = Whereabouts {
        format: protocol::FORMAT,
        fleet: root["fleet"].as_str().unwrap().parse().unwrap(),
        edition: Edition { epoch: 1, number: u64::MAX },
        addresses: vec!["10.6.6.6:8883".to_owned()],
        forgotten: Vec::new(),
    };
    let mut forged = Envelope::sign(&forged, &[&SecretKey::from_seed([6; 32])]).to_bytes();
    forged.push(b'\n');
    fleet.inject(&victim, "down/addresses", &forged, true);
    until_true("it is counted", SOON, || {
        fleet.node("board-1")["refused"]["addresses_bad_signature"] == 1
    });
    let events = fleet.pith(&["events"]).expect_code(0).stdout.clone();
    assert!(events.contains("address of the coordinator refused: bad_signature"), "{events}");
    let _ = fleet.pith(&["coordinator", "move", "10.0.0.9:8883"]).expect_code(0);
    let shown = fleet.json(&["coordinator", "addresses"]);
    let knows = shown["nodes"][0]["knows"].to_string();
    assert!(knows.contains("10.0.0.9:8883") && !knows.contains("10.6.6.6"), "{shown}");
    assert!(shown["nodes"][0]["broker"].is_string(), "its agent.toml says where the broker is");
}
