//! What root of the board asks, in the middle of everything.

use super::board::*;
use crate::local::{Answer, Change, Wish};
use crate::testing::ManifestBuilder;
use protocol::reason::Reason;
use protocol::report::{HeldReport, Phase, Report};

fn change(reason: Option<&str>) -> Change {
    Change { service: "web".parse().unwrap(), reason: reason.map(str::to_owned) }
}

fn held(report: &Report) -> Option<&HeldReport> {
    report.services.first()?.held.as_ref()
}

/// Is held at revision 1 while the manifest names another.
fn is_held_back(report: &Report) -> bool {
    let of_it = report.services.first();
    of_it.is_some_and(|of_it| of_it.phase == Phase::Held) && held(report).is_some()
}

#[test]
fn a_hold_is_durable_before_it_is_answered_and_outlives_the_agent() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let answer = board.ask(Wish::Hold(change(Some("disk is being swapped")))).await;
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        board.kill_agent().await;
        let holds = board.ledger().await.contents().holds();
        assert_eq!(holds.len(), 1);
        board.start_agent().await;
        let before = board.changes();
        board.manifest(&web(2, "v2")).await;
        let report = board
            .until("the manifest is acknowledged", |r| r.seen.generation == 2 && is_held_back(r))
            .await;
        let of_it = held(&report).unwrap();
        assert_eq!((of_it.by.as_str(), of_it.revision), ("root", 1));
        assert_eq!(of_it.reason.as_deref(), Some("disk is being swapped"));
        let detail = report.services[0].detail.as_ref().unwrap();
        assert_eq!(detail.reason, Reason::HeldLocally);
        assert!(detail.message.contains("pith-agent release web"), "{detail:?}");
        assert_eq!((report.services[0].revision, report.services[0].ready), (2, 1));
        assert_eq!(board.changes(), before, "nothing was touched");

        let answer = board.ask(Wish::Release(change(None))).await;
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        let report = board.until_phase(2, Phase::Running).await;
        assert_eq!(held(&report), None);
        let again = board.ask(Wish::Release(change(None))).await;
        assert!(matches!(&again, Answer::Refused(text) if text.contains("not held")), "{again:?}");
    });
}

#[test]
fn undo_goes_back_without_a_broker_and_stays_there() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let early = board.ask(Wish::Undo(change(None))).await;
        assert!(matches!(&early, Answer::Refused(text) if text.contains("before")), "{early:?}");
        board.manifest(&web(2, "v2")).await;
        board.until_phase(2, Phase::Running).await;
        let answer = board.ask(Wish::Undo(change(None))).await;
        assert!(matches!(&answer, Answer::Done(text) if text.contains("revision 1")), "{answer:?}");
        let back = |r: &Report| {
            is_held_back(r) && r.services[0].ready == 1 && r.services[0].instances.len() <= 2
        };
        board.until("it is back", back).await;
        let Answer::Board(shown) = board.ask(Wish::Ps).await else { panic!("a board") };
        assert_eq!(shown.images.len(), 2);
        assert!(crate::local::render::board(&shown, 0).contains("held locally by root"));
    });
}

#[test]
fn a_hold_on_a_board_without_a_manifest_is_refused() {
    on_board(async |mut board| {
        board.until("a first report", |report| report.seen.generation == 0).await;
        let answer = board.ask(Wish::Hold(change(None))).await;
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
        board.manifest(&ManifestBuilder::new(1)).await;
        board.until("an acknowledgement", |r| r.seen.generation == 1).await;
        let answer = board.ask(Wish::Hold(change(None))).await;
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    });
}
