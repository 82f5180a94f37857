//! Who this board is: joined or not, and whether its identity was made here.

use protocol::doctor::Finding;

use super::board::{Board, Same};
use super::facts::Facts;
use super::{AS_ROOT, note, ok, problem, unknown, warning};

const JOINED: &str = "joined";
const IDENTITY: &str = "identity-of-this-board";
const AGENT: &str = "agent";
const LEDGER: &str = "ledger";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if let Some(trouble) = &facts.state.trouble {
        let dir = facts.subject.state_dir.display();
        let finding = if facts.as_root {
            problem(LEDGER, format!("{dir} cannot be read: {trouble}"))
                .because("nothing of what runs or is gone back to is known")
                .mend(format!(
                    "`dmesg | tail -50` says what is wrong with the disk; `ls -la {dir}`"
                ))
        } else {
            unknown(LEDGER, &format!("{dir}: {trouble}")).mend(AS_ROOT)
        };
        return vec![finding];
    }
    if !facts.state.has_joined {
        let finding = note(JOINED, "no: this board is not a node yet")
            .mend("`pith node token --approve` where the coordinator runs, and its line here");
        return vec![finding];
    }
    vec![
        ok(JOINED, format!("as {} in {}", facts.subject.name, facts.subject.environment)),
        agent(facts),
        identity(facts),
    ]
}

fn agent(facts: &Facts) -> Finding {
    let socket = facts.subject.agent_socket.display();
    match (facts.state.agent_answers, facts.as_root) {
        (true, _) => ok(AGENT, "answers"),
        (false, true) => problem(AGENT, format!("nobody answers on {socket}"))
            .because("what runs goes on, and nothing new comes, is healed or is reported")
            .mend(
                "`systemctl enable --now pith-proxy pith-agent`; `journalctl -u pith-agent` \
                says why it ended",
            ),
        (false, false) => unknown(AGENT, &format!("{socket} is root's")).mend(AS_ROOT),
    }
}

fn identity(facts: &Facts) -> Finding {
    let recorded = facts.state.board.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let Some(recorded): Option<Board> = recorded else {
        return note(IDENTITY, "not written down yet: the agent does that at its next start")
            .mend("`systemctl restart pith-agent`; no container is touched");
    };
    let here = here(facts);
    match recorded.same(&here) {
        Same::Yes => ok(IDENTITY, format!("made on this board ({})", here.name())),
        Same::NotTold => unknown(IDENTITY, "this board has no serial number and no interface of \
            hardware"),
        Same::No => warning(
            IDENTITY,
            format!("made on {}, and this is {}", recorded.name(), here.name()),
        )
        .because("if the other one still runs, two boards take turns under one name, and neither \
            keeps what it is told")
        .mend(format!(
            "if the other is gone for good: `rm {0}/{1}` and `systemctl restart pith-agent`; if it runs: here `systemctl stop pith-agent pith-proxy`, \
             `rm -r {0}`, and join with a token of its own",
            facts.subject.state_dir.display(),
            super::BOARD_FILE,
        )),
    }
}

fn here(facts: &Facts) -> Board {
    let interfaces = facts.below("/sys/class/net/").filter_map(|(path, text)| {
        let interface = path.strip_suffix("/address")?;
        let is_hardware = facts.files.contains_key(&format!("{interface}/device/uevent"));
        is_hardware.then(|| text.trim().to_owned())
    });
    let serial = facts.text("/proc/device-tree/serial-number");
    Board::new(serial, interfaces.collect(), facts.text("/etc/machine-id"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use protocol::doctor::Severity;

    #[test]
    fn a_board_that_has_not_joined_is_told_how() {
        let mut facts = Tree::new().facts();
        facts.state.has_joined = false;
        check_findings(
            &check(&facts),
            &[(JOINED, Severity::Note, "not a node yet", "pith node token")],
        );
    }

    #[test]
    fn an_identity_of_another_board_is_named_with_both() {
        let tree = Tree::new()
            .file("/proc/device-tree/serial-number", "100000002222\0")
            .file("/sys/class/net/eth0/address", "dc:a6:32:00:00:02\n")
            .file("/sys/class/net/eth0/device/uevent", "DRIVER=bcmgenet\n")
            .file("/sys/class/net/br-0/address", "02:42:00:00:00:01\n");
        let mut facts = tree.facts();
        assert_eq!(here(&facts).macs, ["dc:a6:32:00:00:02"], "a bridge is no hardware");
        facts.state.board =
            Some(r#"{"serial":"100000001111","macs":["dc:a6:32:00:00:01"]}"#.to_owned());
        let found = check(&facts);
        check_findings(
            &found[2..],
            &[(IDENTITY, Severity::Warning, "100000001111", "join with a token of its own")],
        );
        facts.state.board = Some(r#"{"serial":"100000002222"}"#.to_owned());
        check_findings(&check(&facts)[2..], &[(IDENTITY, Severity::Ok, "100000002222", "")]);
        facts.state.board = None;
        check_findings(
            &check(&facts)[2..],
            &[(IDENTITY, Severity::Note, "not written down", "restart")],
        );
    }

    #[test]
    fn an_agent_that_does_not_answer_is_a_problem_to_root_and_not_known_to_others() {
        let mut facts = Tree::new().facts();
        facts.state.agent_answers = false;
        check_findings(
            &check(&facts)[1..2],
            &[(AGENT, Severity::Problem, "nobody answers", "systemctl enable --now")],
        );
        facts.as_root = false;
        check_findings(
            &check(&facts)[1..2],
            &[(AGENT, Severity::Unknown, "cannot be read here", "sudo")],
        );
        facts.state.trouble = Some("Permission denied (os error 13)".to_owned());
        check_findings(&check(&facts), &[(LEDGER, Severity::Unknown, "Permission denied", "sudo")]);
        facts.as_root = true;
        facts.state.trouble = Some("Input/output error (os error 5)".to_owned());
        check_findings(&check(&facts), &[(LEDGER, Severity::Problem, "Input/output", "dmesg")]);
    }
}
