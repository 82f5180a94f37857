//! Images whose files a power cut has damaged, and programs that cannot run here.

use protocol::reason::Reason;
use protocol::report::Phase;

use super::board::{self, Board, on_board, verbs};
use crate::engine::EngineError;
use crate::engine::fake::{Behaviour, Call, Damaged, PullOutcome};
use crate::testing::{self, ManifestBuilder};
use protocol::release::Image;
use protocol::spec::ServiceSpec;
use protocol::units::Millis;

/// What ends at once was never ready for long enough.
fn spec() -> ServiceSpec {
    let mut spec = board::spec();
    spec.rollout.min_ready = Millis(300);
    spec
}

fn web(generation: u64, tag: &str) -> ManifestBuilder {
    ManifestBuilder::new(generation).of(&spec(), tag, 1, 1)
}

fn image(tag: &str) -> Image {
    testing::release(&spec(), tag).image
}

/// A registry has the image too, and a power cut has damaged it on the board.
fn damage(board: &Board, tag: &str, damaged: Damaged) {
    board.engine.with(|docker| {
        let comes = PullOutcome::Comes { takes_ms: 0, bytes: 1 << 20 };
        docker.set_registry(&image(tag), comes, Behaviour::default());
        docker.damage(&image(tag), damaged);
    });
}

/// Time goes by for the engine whenever it is asked something.
fn end_what_is_damaged(board: &Board) -> tokio::task::JoinHandle<()> {
    let engine = board.engine.clone();
    tokio::task::spawn_local(async move {
        loop {
            engine.advance(1);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
}

#[test]
fn a_damaged_image_is_fetched_again_once_and_its_release_goes_on() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        damage(&board, "v2", Damaged::Once);
        let time = end_what_is_damaged(&board);
        board.manifest(&web(2, "v2")).await;
        let report = board.until_phase(2, Phase::Running).await;
        time.abort();
        assert_eq!(report.services[0].given_up, None);
        let changes = board.changes();
        let expected = ["create", "start", "remove", "remove-image", "create", "start", "term"];
        assert_eq!(verbs(&changes)[3..10], expected, "{changes:?}");
    });
}

#[test]
fn an_image_that_is_damaged_again_is_given_up_with_what_is_left_to_do() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        damage(&board, "v2", Damaged::Lastingly);
        let time = end_what_is_damaged(&board);
        board.manifest(&web(2, "v2")).await;
        let report = board.until("given up", |r| r.services[0].given_up.is_some()).await;
        time.abort();
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!(given_up.reason, Reason::ImageDamaged);
        assert!(given_up.message.contains("/app in it is empty, also after"), "{given_up:?}");
        let removed = board.changes().iter().filter(|c| c.starts_with("remove-image")).count();
        assert_eq!(removed, 1, "once in an agent's life");
        board.until_phase(2, Phase::RolledBack).await;
    });
}

#[test]
fn a_start_that_is_refused_for_its_format_is_looked_into_before_anybody_is_blamed() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        damage(&board, "v2", Damaged::Once);
        let time = end_what_is_damaged(&board);
        let text = "exec /app: exec format error".to_owned();
        board.engine.with(|d| d.fail_next(Call::Start, EngineError::WrongPlatform(text.clone())));
        board.manifest(&web(2, "v2")).await;
        let report = board.until_phase(2, Phase::Running).await;
        assert_eq!(report.services[0].given_up, None);
        // Nothing is wrong with this one's bytes: what the engine says stands.
        board.engine.with(|d| d.fail_next(Call::Start, EngineError::WrongPlatform(text.clone())));
        board.engine.with(|docker| docker.add_image(&image("v3"), Behaviour::default()));
        board.manifest(&web(3, "v3")).await;
        let report = board.until("given up", |r| r.services[0].given_up.is_some()).await;
        time.abort();
        let given_up = report.services[0].given_up.as_ref().unwrap();
        assert_eq!((given_up.reason, &given_up.message), (Reason::WrongPlatform, &text));
    });
}

#[test]
fn a_registry_that_is_away_is_waited_for_and_blames_nobody() {
    use crate::engine::PullError;
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        damage(&board, "v2", Damaged::Once);
        board.engine.with(|docker| {
            let away = PullOutcome::Fails { after_ms: 0, error: PullError::Unreachable };
            docker.set_registry(&image("v2"), away, Behaviour::default());
        });
        let time = end_what_is_damaged(&board);
        board.manifest(&web(2, "v2")).await;
        let is_waiting = |report: &protocol::report::Report| {
            let detail = report.services.first().and_then(|web| web.detail.as_ref());
            detail.is_some_and(|detail| detail.reason == Reason::RegistryUnreachable)
        };
        let report = board.until("the registry away", is_waiting).await;
        assert_eq!(report.services[0].given_up, None);
        board.engine.with(|docker| {
            let comes = PullOutcome::Comes { takes_ms: 0, bytes: 1 << 20 };
            docker.set_registry(&image("v2"), comes, Behaviour::default());
        });
        board.until_phase(2, Phase::Running).await;
        time.abort();
    });
}
