//! Golden output: what a person sees, letter by letter.

use protocol::hello::Capacity;
use protocol::manifest::Version;
use protocol::reason::Reason;
use protocol::report::{Evidence, InstanceReport};

use super::*;
use crate::state::records::{Failure, Kind};
use crate::state::requests::Accepted;
use crate::state::shown::{
    ChangeShown, HistoryShown, NodePlanShown, NodeProgressShown, NodeReconciled, OnBoard,
    PullShown, ReconcileShown, Reconciling, RetiredShown, RevisionShown, RolloutShown, RunShown,
    ServiceOnNode, ServiceReconciled,
};

fn service() -> ServiceId {
    ServiceId { environment: "default".parse().unwrap(), name: "web".parse().unwrap() }
}

fn progress(name: &str, state: &str, updated: u32) -> NodeProgressShown {
    NodeProgressShown {
        name: name.parse().unwrap(),
        state: state.to_owned(),
        reason: None,
        message: None,
        updated,
        ready: 2,
        desired: 2,
    }
}

pub(super) fn rollout_in(state: &str, nodes: Vec<NodeProgressShown>) -> RolloutShown {
    RolloutShown {
        version: 1,
        service: service().name,
        environment: service().environment,
        revision: 3,
        from_revision: Some(2),
        state: state.to_owned(),
        reason: None,
        message: "nodes take the new revision".to_owned(),
        image: "r.io/web:v3".to_owned(),
        pinned: "r.io/web@sha256:00".to_owned(),
        release: "a".repeat(64).parse().unwrap(),
        counter: 3,
        cause: None,
        by: "anna".to_owned(),
        started_ms: 1_795_434_151_217,
        ended_ms: None,
        nodes,
        pending: Vec::new(),
        unplaced: 0,
        failures: Vec::new(),
    }
}

#[test]
fn a_rollout_on_its_way_names_cause_and_until() {
    let waiting = NodeProgressShown {
        reason: Some(Reason::WaitingForConnections),
        message: Some("waiting for 12 connections until 10:31".to_owned()),
        ..progress("node-2", "updating", 1)
    };
    let nodes = vec![progress("node-1", "updated", 2), waiting, progress("node-3", "waiting", 0)];
    assert_eq!(
        rollout_lines(&rollout_in("in_progress", nodes)).join("\n"),
        "Waiting for rollout of \"web\" to finish: 1 of 3 nodes updated...\n  \
         node-1  updated  2/2 new, 2 ready\n  \
         node-2  updating  1/2 new, 2 ready  waiting_for_connections: waiting for 12 connections until 10:31"
    );
}

#[test]
fn the_last_line_counts_nodes_that_are_pending() {
    let mut rollout = rollout_in(
        "succeeded",
        vec![progress("node-1", "updated", 2), progress("node-2", "offline", 0)],
    );
    rollout.ended_ms = Some(rollout.started_ms + 8_140);
    rollout.pending = vec!["node-2".parse().unwrap()];
    assert_eq!(
        rolled_out(&rollout),
        "service \"web\" successfully rolled out: revision 3 on 1 node in 8.1 s; 1 pending: node-2 offline, takes it on \
         return\n"
    );
}

#[test]
fn a_rollback_shows_reason_and_evidence_and_no_control_characters() {
    let mut rollout = rollout_in("rolled_back", vec![progress("node-1", "reverted", 0)]);
    rollout.reason = Some(Reason::NotReadyInTime);
    rollout.failures.push(Failure {
        node: "node-1".parse().unwrap(),
        reason: Reason::NotReadyInTime,
        message: "not ready within 5s".to_owned(),
        evidence: Some(Evidence {
            probe: Some("503 not ready".to_owned()),
            exit_code: Some(137),
            oom_killed: true,
            log: vec!["start\n".to_owned(), "\x1b[31mred".to_owned()],
        }),
    });
    assert_eq!(
        not_rolled_out(&rollout),
        "error: service \"web\": revision 3 was rolled back to 2 [not_ready_in_time]\n  \
         node-1: not_ready_in_time: not ready within 5s\n    \
         last probe: 503 not ready\n    \
         exit code:  137, killed for its memory\n    \
         last log lines:\n      \
         | start\n      \
         |  [31mred\n"
    );
}

#[test]
fn the_first_line_says_what_is_deployed() {
    let mut accepted = Accepted {
        service: service(),
        revision: 3,
        from_revision: Some(2),
        unchanged: false,
        unplaced: 0,
    };
    let rollout = rollout_in("pending", Vec::new());
    assert_eq!(
        super::accepted(&accepted, &rollout),
        "web revision 3: r.io/web:v3, from revision 2\n"
    );
    accepted.unchanged = true;
    assert_eq!(
        super::accepted(&accepted, &rollout),
        "web unchanged: revision 3 runs this already\n"
    );
}

#[test]
fn status_shows_every_node_with_why() {
    let mut rollout = rollout_in("in_progress", vec![progress("node-1", "updating", 1)]);
    rollout.cause = Some("a new colour".to_owned());
    assert_eq!(
        super::rollout(&rollout),
        "service   web (default)\n\
         revision  3, from 2\n\
         image     r.io/web:v3\n\
         state     in_progress\n          \
         nodes take the new revision\n\
         started   2026-11-23T11:42:31Z, by anna\n\
         cause     a new colour\n\
         \n\
         NODE    STATE     NEW  READY  WHY\n\
         node-1  updating  1/2  2\n"
    );
}

#[test]
fn history_marks_the_revision_that_stands_and_the_reason_of_a_rollback() {
    let revision = |number, state: &str, reason, undo_to| RevisionShown {
        file: String::new(),
        kind: Kind::Deploy,
        revision: number,
        state: state.to_owned(),
        image: format!("r.io/web:v{number}"),
        release: "a".repeat(64).parse().unwrap(),
        counter: number,
        retired: number < 3,
        undo_to,
        cause: None,
        by: "anna".to_owned(),
        started_ms: 0,
        ended_ms: None,
        reason,
        message: String::new(),
        on_board: OnBoard {
            here: 1,
            of: usize::try_from(number).unwrap(),
            silent: usize::from(number < 3),
        },
    };
    let shown = HistoryShown {
        service: service().name,
        environment: service().environment,
        current: Some(3),
        revisions: vec![
            revision(2, "rolled_back", Some(Reason::CrashLoop), None),
            revision(3, "succeeded", None, Some(1)),
        ],
    };
    assert_eq!(
        history(&shown),
        "REVISION  RELEASE    STATE                     STARTED               TOOK  IMAGE        ON BOARD       BY    CHANGE-CAUSE\n\
         2         2 retired  rolled_back [crash_loop]  1970-01-01T00:00:00Z  -     r.io/web:v2  1/2, 1 silent  anna\n\
         3*        3          succeeded                 1970-01-01T00:00:00Z  -     r.io/web:v3  1/3            anna  undo to revision 1\n"
    );
}

#[test]
fn a_retirement_says_who_is_told_and_what_did_not_change() {
    let (told, offline) = (vec!["node-1".parse().unwrap()], vec!["node-2".parse().unwrap()]);
    let mut shown =
        RetiredShown { service: service().name, below: 4, unchanged: false, told, offline };
    assert_eq!(
        retired(&shown),
        "web: releases below 4 are retired; 1 node is told; offline, told on return: node-2\n"
    );
    shown.unchanged = true;
    assert_eq!(
        retired(&shown),
        "web: nothing changed: releases below 4 are retired already, and a floor never falls\n"
    );
}

#[test]
fn ps_says_what_is_missing_and_that_it_was_not_moved() {
    let on = ServiceOnNode {
        holds_newest: false,
        node: "opi-2".parse().unwrap(),
        online: false,
        heard_ms: 0,
        desired: 1,
        ready: 1,
        phase: None,
        reason: None,
        message: None,
        settled: false,
        instances: Vec::new(),
        held: None,
        alarms: Vec::new(),
    };
    let shown = ServiceShown {
        environment: "default".parse().unwrap(),
        name: "web".parse().unwrap(),
        revision: 2,
        image: "web:v2".to_owned(),
        rollout: "succeeded".to_owned(),
        desired: 4,
        ready: 3,
        count_override: None,
        settled: true,
        why: "1 lost with opi-2 (4 min), not moved".to_owned(),
        nodes: vec![on],
    };
    assert_eq!(
        services(&PsShown { version: 1, services: vec![shown] }),
        "ENVIRONMENT  SERVICE  REVISION  READY  IMAGE   STATE\n\
         default      web      2         3/4    web:v2  3/4: 1 lost with opi-2 (4 min), not moved\n"
    );
    assert!(services(&PsShown { version: 1, services: Vec::new() }).contains("pith deploy -f"));
}

#[test]
fn node_ls_shows_what_is_not_known_as_a_dash() {
    let node = NodeShown {
        id: "0".repeat(32).parse().unwrap(),
        name: "opi-1".parse().unwrap(),
        environment: "default".parse().unwrap(),
        status: "ready".to_owned(),
        labels: std::collections::BTreeMap::new(),
        address: "10.0.0.7".to_owned(),
        policy: None,
        agent_version: "0.1.0".to_owned(),
        agent_target: None,
        capacity: Capacity { architecture: "arm64".to_owned(), cores: 4, memory_bytes: 1 << 30 },
        load: None,
        heard_ms: 0,
        seen: Version::default(),
        generation: 0,
        refused: std::collections::BTreeMap::new(),
        services: vec!["web".parse().unwrap()],
        held: std::collections::BTreeMap::new(),
        alarms: Vec::new(),
        cloned: false,
        conflict: None,
        certificate_expires_at: None,
    };
    assert_eq!(
        nodes(&NodesShown { nodes: vec![node], lobby: Vec::new(), absent: Vec::new() }),
        "NAME   STATUS  ENVIRONMENT  ADDRESS   VERSION  CPU  MEMORY  TEMP  SERVICES\n\
         opi-1  ready   default      10.0.0.7  0.1.0    -    -       -     web\n"
    );
}

#[test]
fn a_reconciliation_shows_what_would_change_on_each_node() {
    let run = |revision, image: Option<&str>| RunShown {
        revision,
        release: Some("5".repeat(64).parse().unwrap()),
        image: image.map(str::to_owned),
        count: 2,
    };
    let of = |service: &str, action, runs, then| ServiceReconciled {
        service: service.parse().unwrap(),
        action,
        runs,
        then,
    };
    let node = NodeReconciled {
        id: "0".repeat(32).parse().unwrap(),
        node: "opi-1".parse().unwrap(),
        environment: "default".parse().unwrap(),
        conflict: Some("it has seen manifest 5 and 2 is the newest signed here".to_owned()),
        seen: Version { epoch: 1, generation: 5 },
        signed: Version { epoch: 1, generation: 2 },
        services: vec![
            of("web", Reconciling::Replace, Some(run(2, None)), Some(run(1, Some("web:v1")))),
            of("db", Reconciling::Remove, Some(run(1, Some("db:v1"))), None),
        ],
    };
    let mut reconciled = ReconcileShown {
        root_version: 1,
        epoch: 1,
        nodes: vec![node],
        unheard: vec!["opi-2".parse().unwrap()],
        hopeless: None,
    };
    assert_eq!(
        reconcile::shown(&reconciled),
        "opi-1 is in conflict: it has seen manifest 5 and 2 is the newest signed here (epoch 1 there, 1 here)\n\
         NODE   SERVICE  RUNS                                             THEN                  ACTION\n\
         opi-1  web      revision 2 ×2 release 55555555 (not known here)  revision 1 ×2 web:v1  replace\n\
         opi-1  db       revision 1 ×2 db:v1                              -                     remove\n\
         not heard since the coordinator's start: opi-2; what they run is not shown, and not removed without being shown\n"
    );
    assert_eq!(reconciled.removals().len(), 1);
    (reconciled.nodes, reconciled.unheard) = (Vec::new(), Vec::new());
    assert_eq!(reconcile::shown(&reconciled), "no node is in conflict\n");
}

#[test]
fn a_plan_shows_before_and_after() {
    let change = ChangeShown {
        path: "image".to_owned(),
        before: Some("web:v1".to_owned()),
        after: Some("web:v2".to_owned()),
    };
    let node = NodePlanShown {
        node: "node-1".parse().unwrap(),
        online: true,
        before: 2,
        after: 2,
        action: "replace".to_owned(),
    };
    let mut shown = PlanShown {
        service: service().name,
        environment: service().environment,
        from_revision: Some(2),
        changes: vec![change],
        nodes: vec![node],
        image_is_local: false,
        pulls: Vec::new(),
        unplaced: 0,
        steps: vec!["node-1 takes it".to_owned()],
        needs_policy: vec!["privileged = true".to_owned()],
        left_out: [("node-2".parse().unwrap(), "it refuses".to_owned())].into(),
        notes: vec!["no ports".to_owned()],
        anything: true,
    };
    assert_eq!(
        plan(&shown),
        "web: changes to revision 2 in default\n  \
         ~ image: web:v1 -> web:v2\n\
         NODE    NOW  THEN  ACTION\n\
         node-1  2    2     replace\n\
         pull: nothing, every node that takes it has the image\n\
         1. node-1 takes it\n\
         policy: every node that runs it must allow `privileged = true`\n\
         node-2 is left out: it refuses\n\
         note: no ports\n"
    );
    let pull = |node: &str, architecture: &str, bytes| PullShown {
        node: node.parse().unwrap(),
        architecture: architecture.to_owned(),
        bytes,
    };
    shown.pulls = vec![
        pull("node-1", "arm64", Some(12_900_000)),
        pull("node-2", "amd64", Some(640)),
        pull("node-3", "arm64", Some(12_900_000)),
        pull("node-4", "riscv64", None),
    ];
    let pulls = |shown: &PlanShown| {
        let lines = plan(shown);
        lines.lines().filter(|line| line.starts_with("pull")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        pulls(&shown),
        "pull: node-2: at most 640 B (amd64)\n\
         pull: node-1, node-3: at most 12.4 MiB each (arm64)\n\
         pull: node-4: size unknown (riscv64)"
    );
    shown.image_is_local = true;
    assert_eq!(pulls(&shown), "pull: nothing, only the local Docker has the image");
    shown.anything = false;
    assert_eq!(plan(&shown), "web: nothing to do, revision 2 runs this already\n");
}

#[test]
fn removed_names_the_volumes_that_stay() {
    let removed = Removed { volumes: vec!["pith-1-db-data".to_owned()] };
    let left = crate::state::shown::RemovalShown {
        version: 1,
        waiting: Vec::new(),
        offline: vec!["opi-2".parse().unwrap()],
        held: vec!["opi-3".parse().unwrap()],
    };
    let text = super::removed(&service(), &removed, Some(&left));
    assert_eq!(
        text,
        "service \"web\" removed, opi-2 offline removes it on return, opi-3 held locally removes it when it is released there\n\
         volume pith-1-db-data stays; `docker volume rm pith-1-db-data` on its node deletes it\n"
    );
}

#[test]
fn the_clock_is_right_on_leap_days_and_at_the_turn_of_years() {
    assert_eq!(clock(0), "1970-01-01T00:00:00Z");
    assert_eq!(clock(951_782_400_000), "2000-02-29T00:00:00Z");
    assert_eq!(clock(1_767_225_599_000), "2025-12-31T23:59:59Z");
    assert_eq!(clock(1_795_434_151_217), "2026-11-23T11:42:31Z");
}

#[test]
fn ps_of_a_service_has_under_each_node_what_ran_there_and_why_it_ended() {
    let node: protocol::id::NodeName = "opi-2".parse().unwrap();
    let progress = |state: &str| NodeProgressShown {
        name: node.clone(),
        state: state.to_owned(),
        reason: None,
        message: None,
        updated: 0,
        ready: 1,
        desired: 1,
    };
    let revision = |number: u64, state: &str| RolloutShown {
        revision: number,
        image: format!("web:v{number}"),
        release: number.to_string().repeat(64).parse().unwrap(),
        ..rollout_in("rolled_back", vec![progress(state)])
    };
    let mut bad = revision(3, "rolled_back");
    bad.failures = vec![Failure {
        node: node.clone(),
        reason: Reason::NotReadyInTime,
        message: "not ready within 1m: 503 \u{1b}[2J".to_owned(),
        evidence: None,
    }];
    let instance = InstanceReport {
        name: "pith-web-0".to_owned(),
        slot: 0,
        release: "2".repeat(64).parse().unwrap(),
        template: "0".repeat(64).parse().unwrap(),
        state: InstanceState::Unready,
        restarts: 4,
    };
    let on = ServiceOnNode {
        holds_newest: true,
        node: node.clone(),
        online: true,
        heard_ms: 0,
        desired: 1,
        ready: 0,
        phase: None,
        reason: Some(Reason::WaitingForReady),
        message: Some("connection refused".to_owned()),
        settled: false,
        instances: vec![instance],
        held: None,
        alarms: Vec::new(),
    };
    let service = ServiceShown {
        environment: "default".parse().unwrap(),
        name: "web".parse().unwrap(),
        revision: 2,
        image: "web:v2".to_owned(),
        rollout: "succeeded".to_owned(),
        desired: 1,
        ready: 0,
        count_override: None,
        settled: true,
        why: String::new(),
        nodes: vec![on],
    };
    let history = vec![revision(4, "waiting"), bad, revision(2, "updated"), revision(1, "updated")];
    let text = ps::service(&ps::ServiceWithHistory { service, history });
    assert_eq!(
        text,
        "web in default: revision 2, 0/1 ready, web:v2; running\n\n\
         NODE   INSTANCE    REVISION  IMAGE   STATE        RESTARTS  ERROR\n\
         opi-2  pith-web-0  2         web:v2  unready      4         waiting_for_ready: connection refused\n \\_                3         web:v3  rolled_back            not_ready_in_time: not ready within 1m: 503  [2J\n \\_                1         web:v1  replaced\n"
    );
}
