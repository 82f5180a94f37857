//! The policy file in the loop: read before anything is decided, again when it changes, and obeyed at every start.

use std::os::unix::fs::PermissionsExt;

use protocol::report::Phase;

use super::board::{Board, on_board, spec, web};
use crate::engine::{Container, ContainerState, Ours};
use crate::testing::{self, ManifestBuilder};

fn allow(board: &Board, text: &str, mode: u32) {
    std::fs::write(board.policy_file(), text).unwrap();
    std::fs::set_permissions(board.policy_file(), PermissionsExt::from_mode(mode)).unwrap();
}

fn privileged(generation: u64, attempt: u32) -> ManifestBuilder {
    let mut spec = spec();
    spec.host.privileged = true;
    ManifestBuilder::new(generation).of(&spec, "v2", 1, attempt)
}

#[test]
fn a_release_is_refused_then_allowed_and_once_the_policy_is_narrowed_not_started_again() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let before = board.changes();
        board.manifest(&privileged(2, 1)).await;
        let report = board.until_phase(2, Phase::RolledBack).await;
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!(given_up.reason.code(), "policy_denied");
        assert_eq!(board.changes(), before, "nothing was touched, nothing was pulled");

        allow(&board, "privileged = true\n", 0o644);
        // Whatever is looked at, the policy is too.
        board.manifest(&web(3, "v1")).await;
        board.until_event("the node's policy was changed").await;
        board.manifest(&privileged(4, 2)).await;
        board.until_phase(4, Phase::Running).await;

        allow(&board, "privileged = false\n", 0o644);
        board.engine.with(|docker| {
            let ours = Ours { fleet: testing::fleet(), node: testing::identity().node };
            let all = docker.containers(&ours).unwrap();
            let is_up = |c: &&Container| matches!(c.state, ContainerState::Running { .. });
            let running = all.iter().find(is_up).unwrap();
            docker.crash(&running.id, 3);
        });
        let report = board
            .until("it stays down", |report| {
                let web = &report.services[0];
                let reason = web.detail.as_ref().map(|detail| detail.reason.code());
                web.phase == Phase::Degraded && reason.as_deref() == Some("policy_denied")
            })
            .await;
        assert_eq!(report.services[0].ready, 0);
    });
}

#[test]
fn a_file_that_others_can_write_is_told_once_and_allows_nothing() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        allow(&board, "privileged = true\n", 0o666);
        board.manifest(&privileged(2, 1)).await;
        board.until_event("policy.toml counts as absent").await;
        let report = board.until_phase(2, Phase::RolledBack).await;
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert!(given_up.message.contains("chmod go-w"), "{}", given_up.message);
    });
}
