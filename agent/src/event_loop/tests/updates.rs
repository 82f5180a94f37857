//! Releases of the agent come to a node: what it takes, and what it says of those it does not.

use std::collections::BTreeMap;

use protocol::agent_release::{AgentRelease, AgentUpdate, Program, UpdatePhase};
use protocol::envelope::Envelope;
use protocol::id::Digest;
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::succession::Chain;

use super::super::saying::own_architecture;
use super::board::{Board, on_board};
use crate::testing;
use crate::update::record::Record;
use crate::update::{Launched, Own, Runs};

fn key() -> SecretKey {
    SecretKey::from_seed([31; 32])
}

fn program() -> Digest {
    Digest::of(b"another agent")
}

fn release(counter: u64, architecture: &str) -> AgentRelease {
    let program = Program { digest: program(), size: 13 };
    AgentRelease {
        format: 1,
        fleet: testing::fleet(),
        version: "0.9.0".parse().unwrap(),
        counter,
        platforms: BTreeMap::from([(architecture.to_owned(), program)]),
    }
}

/// A node that `launch` started with this record, and that knows who signs releases of the agent.
async fn launched(board: &mut Board, record: Record) {
    let package = "0.1.0".parse().unwrap();
    let launched = Launched { runs: Runs::Package, package, record };
    board.own = Own { launched: Some(launched), ..Own::alone() };
    board.kill_agent().await;
    board.start_agent().await;
    trust(board).await;
}

async fn trust(board: &Board) {
    let mut root = Root { version: 2, ..testing::root() };
    root.roles.insert(RoleName::AgentRelease, Role::single(key().public()));
    let roots = vec![Envelope::sign(&root, &[&testing::root_key()])];
    board.roots(Chain { roots }.to_bytes()).await;
}

/// What the node says of a release once it says anything of it.
async fn said(board: &mut Board, release: &AgentRelease) -> AgentUpdate {
    board.agent_release(Envelope::sign(release, &[&key()]).to_bytes()).await;
    let counter = release.counter;
    let is_it = |update: &AgentUpdate| update.counter == counter;
    let report = board
        .until("news of the agent", |report| report.agent_update.as_ref().is_some_and(is_it))
        .await;
    report.agent_update.unwrap()
}

#[track_caller]
fn check_refused(update: &AgentUpdate, why: &str) {
    assert_eq!(update.phase, UpdatePhase::Refused, "{update:?}");
    assert!(update.why.as_ref().unwrap().contains(why), "{update:?}");
}

#[test]
fn an_agent_that_nothing_could_exchange_says_so() {
    on_board(async |mut board| {
        trust(&board).await;
        let update = said(&mut board, &release(1, own_architecture())).await;
        check_refused(&update, "not started by `pith-agent launch`");
    });
}

#[test]
fn what_is_not_for_this_board_is_refused_with_its_reason() {
    on_board(async |mut board| {
        launched(&mut board, Record { floor: 5, bad: vec![program()], ..Record::default() }).await;
        check_refused(&said(&mut board, &release(4, own_architecture())).await, "5");
        check_refused(&said(&mut board, &release(6, "riscv64")).await, "riscv64");
        let update = said(&mut board, &release(7, own_architecture())).await;
        check_refused(&update, "taken back on this board before");
    });
}

#[test]
fn a_release_that_no_agent_release_key_signed_is_counted_and_begins_nothing() {
    on_board(async |mut board| {
        launched(&mut board, Record::default()).await;
        let forged = Envelope::sign(&release(1, own_architecture()), &[&testing::director_key()]);
        board.agent_release(forged.to_bytes()).await;
        let report = board.until("a refusal", |report| !report.refused.is_empty()).await;
        assert_eq!(report.refused["agent_release_bad_signature"], 1);
        assert_eq!(report.agent_update, None);
    });
}

#[test]
fn a_program_that_does_not_come_yet_is_asked_for_again_and_its_reason_told() {
    on_board(async |mut board| {
        launched(&mut board, Record::default()).await;
        let update = said(&mut board, &release(1, own_architecture())).await;
        assert_eq!(update.phase, UpdatePhase::Downloading);
        let told = |update: &AgentUpdate| update.why.as_ref().is_some_and(|w| w.contains("joined"));
        let report = board
            .until("its reason", |report| report.agent_update.as_ref().is_some_and(told))
            .await;
        assert_eq!(report.agent_update.unwrap().phase, UpdatePhase::Downloading);
    });
}
