//! Secrets in the loop: waited for, opened when a container is started, and there again without a coordinator.

use protocol::acceptance::NodeIdentity;
use protocol::report::{Phase, Report};
use protocol::secret::{self, Clear, Label, Reader};
use protocol::spec::SecretFile;

use super::board::{Board, on_board, spec, verbs};
use crate::testing::{self, ManifestBuilder};

const VALUE: &[u8] = b"correct horse";

fn web(generation: u64) -> ManifestBuilder {
    let mut spec = spec();
    let (name, path) = ("db".parse().unwrap(), "/run/secrets/db".to_owned());
    spec.secrets.push(SecretFile { name, path, mode: 0o400 });
    spec.container.user = Some(format!("{}:{}", testing::uid(), nix::unistd::getgid()));
    let mut manifest = ManifestBuilder::new(generation).of(&spec, "v1", 1, 1);
    manifest.manifest.services[0].secrets.insert("db".parse().unwrap(), 3);
    manifest
}

/// With a copy of version 3, sealed for this node.
fn with_copy(mut manifest: ManifestBuilder, node: &NodeIdentity) -> ManifestBuilder {
    let name = "db".parse().unwrap();
    let reader = Reader::Node(node.node.clone());
    let (fleet, environment) = (&node.fleet, &node.environment);
    let label = Label { fleet, environment, name: &name, version: 3, reader: &reader };
    let key = testing::opening_key().public();
    let sealed = secret::seal(&label, &key, &Clear::new(VALUE.to_vec()), [6; 32]).unwrap();
    manifest.manifest.secrets.push(secret::Copy { name, version: 3, sealed, registry: None });
    manifest
}

fn waits(report: &Report, generation: u64) -> bool {
    let detail = report.services.first().and_then(|web| web.detail.as_ref());
    let reason = detail.map(|detail| detail.reason.code());
    report.seen.generation == generation && reason.as_deref() == Some("waiting_for_secret")
}

/// Every file of a container's secrets.
fn files(board: &Board) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(board.secrets_dir()).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            found.push(std::fs::read(file.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_service_waits_for_its_copy_and_finds_it_again_after_a_reboot_without_a_coordinator() {
    on_board(async |mut board| {
        board.manifest(&web(1)).await;
        board.until("it waits", |report| waits(report, 1)).await;
        assert!(!verbs(&board.changes()).contains(&"create"), "{:?}", board.changes());
        let other = NodeIdentity { node: "f".repeat(32).parse().unwrap(), ..testing::identity() };
        board.manifest(&with_copy(web(2), &other)).await;
        board.until("another node's copy is none", |report| waits(report, 2)).await;
        board.manifest(&with_copy(web(3), &testing::identity())).await;
        board.until_phase(3, Phase::Running).await;
        assert_eq!(files(&board), [VALUE]);

        board.kill_agent().await;
        std::fs::remove_dir_all(board.secrets_dir()).unwrap();
        board.engine.with(|docker| {
            let ours =
                crate::engine::Ours { fleet: testing::fleet(), node: testing::identity().node };
            let id = docker.containers(&ours).unwrap()[0].id.clone();
            docker.crash(&id, 137);
        });
        board.start_agent().await;
        board
            .until("it runs again", |report| {
                report.services.first().is_some_and(|web| web.ready == 1)
            })
            .await;
        assert_eq!(files(&board), [VALUE]);
        let in_ledger = std::fs::read_dir(board.state_dir()).unwrap().flatten();
        for file in in_ledger.filter(|file| file.path().is_file()) {
            let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
            assert!(!text.contains("correct horse"), "{:?}", file.path());
        }

        // Gone from the node, gone from its memory.
        board.manifest(&ManifestBuilder::new(4).removed("web")).await;
        board.until("it is gone", |report| report.services.is_empty()).await;
        assert!(files(&board).is_empty());
    });
}
