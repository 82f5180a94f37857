//! What a node that lies, or an application, may call things: none of it steers the terminal of whoever looks.

use protocol::reason::Reason;
use protocol::report::Evidence;

use super::*;
use crate::state::records::Failure;
use crate::state::shown::{NodeProgressShown, RolloutShown};

/// Clears the screen, sets a title, goes back, turns the writing around, hides, and begins a line of its own.
const LIE: &str =
    "a\u{1b}[2J\u{9b}1m\u{1b}]0;x\u{7}\u{8}\u{202e}b\u{200b}\r\nerror: all is lost\u{7f}";

fn lying(state: &str) -> RolloutShown {
    let node = NodeProgressShown {
        name: "opi-2".parse().unwrap(),
        state: "updating".to_owned(),
        reason: Some(Reason::WaitingForReady),
        message: Some(LIE.to_owned()),
        updated: 0,
        ready: 0,
        desired: 1,
    };
    let failure = Failure {
        node: "opi-2".parse().unwrap(),
        reason: Reason::CrashLoop,
        message: LIE.to_owned(),
        evidence: Some(Evidence {
            probe: Some(LIE.to_owned()),
            exit_code: Some(1),
            oom_killed: false,
            log: vec![LIE.to_owned()],
        }),
    };
    RolloutShown {
        message: LIE.to_owned(),
        failures: vec![failure],
        reason: Some(Reason::CrashLoop),
        ..tests::rollout_in(state, vec![node])
    }
}

#[track_caller]
fn check(text: &str) {
    let steers = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{200b}".contains(c);
    assert_eq!(text.chars().find(|c| steers(*c)), None, "{text:?}");
    assert!(text.contains("all is lost"), "what was said is seen: {text:?}");
}

#[test]
fn rollouts_of_nodes_that_lie_steer_no_terminal() {
    for line in rollout_lines(&lying("in_progress")) {
        check(&line);
        assert!(!line.contains('\n'), "{line:?}");
    }
    for text in [not_rolled_out(&lying("rolled_back")), rollout(&lying("rolled_back"))] {
        check(&text);
        assert!(!text.lines().skip(1).any(|line| line.starts_with("error:")), "{text:?}");
    }
}

#[test]
fn events_and_tables_of_nodes_that_lie_steer_no_terminal_and_are_a_line_each() {
    let event = Happened {
        id: 1,
        at_ms: 0,
        environment: None,
        service: None,
        node: None,
        reason: None,
        message: LIE.to_owned(),
    };
    let text = events(&[event]);
    check(&text);
    assert_eq!(text.lines().count(), 1, "{text:?}");
    let text = table(&[["NAME".to_owned()], [LIE.to_owned()]]);
    check(&text);
    assert_eq!(text.lines().count(), 2, "{text:?}");
}
