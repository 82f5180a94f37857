//! The whole loop on a fake engine, a real proxy in this process and a ledger on disk.

mod acts;
mod beginning;
mod board;
mod budget;
mod commands;
mod damage;
mod freshness;
mod held;
mod learning;
mod loading;
mod peers;
mod policy;
mod secrets;
mod trust;
mod updates;

use std::time::Duration;

use crate::engine::fake::{Call, Daemon};
use crate::engine::{EngineError, Ours};
use crate::testing::{self, ManifestBuilder};
use board::{on_board, verbs, web};
use protocol::report::{EngineState, Phase};

#[test]
fn a_manifest_runs_and_the_next_one_replaces_it() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        board.manifest(&web(2, "v2")).await;
        let report = board.until_phase(2, Phase::Running).await;
        assert_eq!((report.services[0].updated, report.services[0].ready), (1, 1));
        let changes = board.changes();
        let expected = ["create-network", "create", "start", "create", "start", "term"];
        assert_eq!(verbs(&changes)[..6], expected, "{changes:?}");
    });
}

#[test]
fn a_manifest_is_acknowledged_only_when_it_is_in_the_ledger() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        let report = board.until("an acknowledgement", |r| r.seen.generation == 1).await;
        board.kill_agent().await;
        let ledger = board.ledger().await;
        assert_eq!(ledger.contents().seen().unwrap().version, report.seen);
    });
}

#[test]
fn a_refused_manifest_makes_no_engine_call_and_is_counted() {
    on_board(async |mut board| {
        board.until("a first report", |report| report.seen.generation == 0).await;
        let good = web(1, "v1");
        let mut flipped = good.bytes();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut foreign = good.clone();
        foreign.manifest.node = "f".repeat(32).parse().unwrap();
        for bytes in [flipped, foreign.bytes(), vec![b'x'; 10 << 20]] {
            board.bytes(bytes).await;
        }
        let report =
            board.until("three refusals", |report| report.refused.values().sum::<u64>() == 3).await;
        assert_eq!((report.refused["too_large"], report.refused["wrong_node"]), (1, 1));
        assert!(board.changes().is_empty());
        assert!(!board.state_dir().join("ledger.a").exists(), "nothing was written");
    });
}

#[test]
fn an_agent_that_starts_again_continues_from_its_ledger_without_a_broker() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let before = board.changes();
        board.kill_agent().await;
        board.start_agent().await;
        board.until_phase(1, Phase::Running).await;
        assert_eq!(board.changes(), before, "what runs is left as it is");
    });
}

#[test]
fn a_node_without_a_readable_ledger_touches_nothing_until_a_manifest_comes() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        board.kill_agent().await;
        for slot in ["ledger.a", "ledger.b"] {
            std::fs::write(board.state_dir().join(slot), b"garbage").unwrap();
        }
        let before = board.changes();
        board.start_agent().await;
        board.until("a report", |report| report.seen.generation == 0).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(board.changes(), before);
        board.manifest(&web(2, "v1")).await;
        board.until_phase(2, Phase::Running).await;
        assert_eq!(board.changes(), before, "the same template is adopted");
    });
}

#[test]
fn an_engine_that_is_away_fails_nothing_and_is_reported() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        board.engine.with(|docker| docker.set_daemon(Daemon::Away));
        board.until("the engine away", |r| r.engine == EngineState::Unavailable).await;
        board.manifest(&web(2, "v2")).await;
        let report = board.until("an acknowledgement", |r| r.seen.generation == 2).await;
        let detail = report.services[0].detail.as_ref().unwrap();
        assert_eq!(detail.reason.code(), "engine_unavailable");
        // What the engine was interrupted in it refuses for a while; the release is not to blame.
        board.engine.with(|docker| {
            let interrupted = || EngineError::Other("id already in use".into());
            (0..4).for_each(|_| docker.fail_next(Call::Create, interrupted()));
        });
        board.engine.with(|docker| docker.set_daemon(Daemon::Answers));
        let report = board.until_phase(2, Phase::Running).await;
        assert_eq!(report.services[0].given_up, None);
    });
}

#[test]
fn a_step_that_the_engine_refuses_for_good_goes_back_with_its_reason() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let refused = EngineError::BadRequest("invalid mount".into());
        board.engine.with(|docker| docker.fail_next(Call::Create, refused));
        board.manifest(&web(2, "v2")).await;
        let report = board.until_phase(2, Phase::RolledBack).await;
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!(given_up.reason.code(), "create_failed");
        assert!(given_up.message.contains("invalid mount"));
    });
}

#[test]
fn an_image_that_does_not_exist_fails_before_anything_old_is_touched() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let before = board.changes();
        board.manifest(&web(2, "v9")).await;
        let report = board.until_phase(2, Phase::RolledBack).await;
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!(given_up.reason.code(), "image_not_found");
        assert_eq!(board.changes(), before);
    });
}

#[test]
fn a_crash_is_healed_and_counted() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        board.engine.with(|docker| {
            let ours = Ours { fleet: testing::fleet(), node: testing::identity().node };
            let id = docker.containers(&ours).unwrap()[0].id.clone();
            docker.crash(&id, 3);
        });
        let report = board
            .until("healed", |report| {
                let web = &report.services[0];
                web.ready == 1 && web.instances[0].restarts == 1
            })
            .await;
        assert_eq!(report.services[0].phase, Phase::Running);
    });
}

#[test]
fn a_removed_service_leaves_nothing_but_its_volumes() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        board.manifest(&ManifestBuilder::new(2).removed("web")).await;
        board.until("it is gone", |r| r.seen.generation == 2 && r.services.is_empty()).await;
        let changes = board.changes();
        assert_eq!(verbs(&changes)[3..], ["term", "remove", "remove-network"], "{changes:?}");
    });
}

/// After each change that the engine sees of a replacement: create, start, and the end of the old one.
#[test]
fn a_kill_after_any_change_of_the_engine_ends_where_it_would_have_ended() {
    let mut expected = None;
    for changes in 3..=6 {
        on_board(async |mut board| {
            board.manifest(&web(1, "v1")).await;
            board.until_phase(1, Phase::Running).await;
            board.manifest(&web(2, "v2")).await;
            board.until("an acknowledgement", |r| r.seen.generation == 2).await;
            while board.changes().len() < changes {
                tokio::task::yield_now().await;
            }
            board.kill_agent().await;
            board.start_agent().await;
            board.until_phase(2, Phase::Running).await;
            let containers = board.containers();
            let before = expected.get_or_insert_with(|| containers.clone());
            assert_eq!(before, &containers, "killed after {changes} changes");
        });
    }
}

#[test]
fn a_ledger_that_cannot_be_written_stops_everything_until_it_can() {
    // No room, and a place that refuses.
    for (place, reason) in [("/dev/full", "no_space"), ("/proc/version", "disk_failed")] {
        on_board(async |mut board| {
            board.manifest(&web(1, "v1")).await;
            board.until_phase(1, Phase::Running).await;
            let before = board.changes();
            let slots = ["ledger.a", "ledger.b"].map(|slot| board.state_dir().join(slot));
            let kept = slots.clone().map(|slot| std::fs::read(slot).unwrap());
            for slot in &slots {
                std::fs::remove_file(slot).unwrap();
                std::os::unix::fs::symlink(place, slot).unwrap();
            }
            board.manifest(&web(2, "v2")).await;
            board.until_event("the ledger cannot be written").await;
            let why = |r: &protocol::report::Report| {
                r.services[0].detail.as_ref().map(|detail| detail.reason.code())
            };
            board.until(reason, |r| why(r).as_deref() == Some(reason)).await;
            assert_eq!(board.changes(), before);
            for (slot, bytes) in slots.iter().zip(kept) {
                std::fs::remove_file(slot).unwrap();
                std::fs::write(slot, bytes).unwrap();
            }
            board.until_phase(2, Phase::Running).await;
        });
    }
}

#[test]
fn a_port_that_someone_holds_fails_the_release_before_anything_old_is_touched() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let before = board.changes();
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut spec = testing::spec("web");
        spec.ports[0].listen.as_mut().unwrap().port = holder.local_addr().unwrap().port();
        let manifest = ManifestBuilder::new(2).of(&spec, "v2", 1, 1);
        board.manifest(&manifest).await;
        let report = board.until_phase(2, Phase::RolledBack).await;
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!(given_up.reason.code(), "port_taken");
        assert_eq!(board.changes(), before);
    });
}
