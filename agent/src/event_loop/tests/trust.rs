//! The trust root changes under a node that runs something.

use super::board::{on_board, web};
use crate::testing::{self, ManifestBuilder};
use protocol::envelope::Envelope;
use protocol::keys::{Root, SecretKey};
use protocol::report::Phase;
use protocol::succession::Chain;

fn chain(roots: &[Root], key: &SecretKey) -> Vec<u8> {
    Chain { roots: roots.iter().map(|root| Envelope::sign(root, &[key])).collect() }.to_bytes()
}

fn by(manifest: &ManifestBuilder, director: u8) -> Vec<u8> {
    manifest.signed_by(&SecretKey::from_seed([director; 32]))
}

#[test]
fn a_new_root_stops_nothing_and_the_old_director_has_no_say_any_more() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let before = board.changes();
        let roots = [testing::root_with(2, 21), testing::root_with(3, 22)];
        board.roots(chain(&roots, &testing::root_key())).await;
        board.manifest(&web(2, "v2")).await;
        let report = board.until("a refusal", |report| !report.refused.is_empty()).await;
        assert_eq!(report.refused["bad_signature"], 1);
        assert_eq!(board.changes(), before, "what runs is left alone");

        // A kill after that: root and manifest come from the ledger, each under its own root.
        board.kill_agent().await;
        let contents = board.ledger().await.contents();
        assert_eq!(contents.trust(&testing::root()).root, roots[1]);
        board.start_agent().await;
        board.until_phase(1, Phase::Running).await;
        assert_eq!(board.changes(), before, "it is known and left as it is");
        board.bytes(by(&web(2, "v2"), 22)).await;
        board.until_phase(2, Phase::Running).await;

        // Nothing needs the older roots any more.
        board.kill_agent().await;
        assert_eq!(board.ledger().await.contents().trust(&testing::root()).former, []);
    });
}

#[test]
fn a_manifest_that_overtakes_its_root_is_taken_once_the_root_is_there() {
    on_board(async |mut board| {
        board.bytes(by(&web(1, "v1"), 21)).await;
        board.until("a refusal", |report| report.refused.contains_key("bad_signature")).await;
        board.roots(chain(&[testing::root_with(2, 21)], &testing::root_key())).await;
        board.until_phase(1, Phase::Running).await;
    });
}

#[test]
fn a_root_that_is_not_signed_as_it_must_be_is_counted_and_changes_nothing() {
    on_board(async |mut board| {
        board.manifest(&web(1, "v1")).await;
        board.until_phase(1, Phase::Running).await;
        let stranger = SecretKey::from_seed([9; 32]);
        board.roots(chain(&[testing::root_with(2, 21)], &stranger)).await;
        let report = board.until("a refusal", |report| !report.refused.is_empty()).await;
        assert_eq!(report.refused["root_signature"], 1);
        board.manifest(&web(2, "v2")).await;
        board.until_phase(2, Phase::Running).await;
    });
}
