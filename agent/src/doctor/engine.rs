//! Docker: whether it answers, what it enforces, and what its daemon.json makes of restarts and logs.

use protocol::doctor::Finding;
use serde_json::Value;

use super::facts::{EngineAway, Facts, Unread};
use super::{AS_ROOT, note, ok, problem, unknown, warning};
use crate::engine::{Placement, Survey};

const DAEMON_JSON: &str = "/etc/docker/daemon.json";

pub(super) const FILES: &[&str] = &[DAEMON_JSON];

const ENGINE: &str = "engine";
const VERSION: &str = "engine-version";
const PLACEMENT: &str = "engine-placement";
const LIMITS: &str = "engine-limits";
const LIVE_RESTORE: &str = "live-restore";
const FILE: &str = "daemon-json";
const LOGS: &str = "log-driver";
const SWARM: &str = "swarm";
const WARNINGS: &str = "engine-warnings";

/// Docker 20.10 speaks it; what the agent asks for needs no newer one.
const LEAST_API: (u32, u32) = (1, 41);
/// Drivers that keep no file on the board, or keep it small by themselves (docs.docker.com, "Configure logging drivers").
const BOUNDED_DRIVERS: [&str; 4] = ["local", "journald", "syslog", "none"];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let file = facts.file(DAEMON_JSON);
    let survey = match &facts.engine {
        Ok(survey) => survey,
        Err(away) => return vec![not_there(away), daemon_json(file)],
    };
    let settings: Value = file.ok().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let mut found = vec![
        version(survey),
        placement(survey.info.placement),
        limits(survey),
        live_restore(survey),
        daemon_json(file),
        logs(survey, &settings, file),
        swarm(survey),
    ];
    found.extend(warnings(survey));
    found
}

fn not_there(away: &EngineAway) -> Finding {
    if away.is_denied {
        return unknown(ENGINE, &away.message).mend(AS_ROOT);
    }
    problem(ENGINE, &away.message)
        .because(
            "containers that run go on if live-restore is on; nothing is started, healed or \
            replaced",
        )
        .mend("`systemctl enable --now docker`; `journalctl -u docker -n 50` says why it ended")
}

fn version(survey: &Survey) -> Finding {
    let info = &survey.info;
    let seen = format!("Docker {}, API {}", info.version, info.api);
    let parts =
        info.api.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some(api) if api < LEAST_API => problem(VERSION, seen)
            .because("the agent is made for Docker 20.10 (API 1.41) and newer")
            .mend("`apt-get update` and `apt-get install docker.io`, of Debian 12 or newer"),
        Some(_) => ok(VERSION, seen),
        None => unknown(VERSION, &format!("API `{}`", info.api)),
    }
}

fn placement(placement: Placement) -> Finding {
    let (seen, is_reached) = match placement {
        Placement::Host => ("on this machine's own network", true),
        Placement::Rootless => ("rootless, in a network of a user's own", false),
        Placement::Desktop => ("in a virtual machine (Docker Desktop)", false),
    };
    if is_reached {
        return ok(PLACEMENT, seen);
    }
    problem(PLACEMENT, seen).because("the proxy does not reach addresses of containers there").mend(
        "`apt-get install docker.io`, and `docker = \"unix:///var/run/docker.sock\"` in agent.toml",
    )
}

fn limits(survey: &Survey) -> Finding {
    let limits = [
        ("memory", survey.info.limits_memory),
        ("cpu", survey.info.limits_cpu),
        ("processes", survey.limits_pids),
        ("swap", survey.limits_swap),
    ];
    let lacks: Vec<&str> = limits.iter().filter(|(_, is)| !is).map(|(name, _)| *name).collect();
    let seen = format!("not enforced: {}", lacks.join(", "));
    match lacks.as_slice() {
        [] => ok(LIMITS, "memory, swap, cpu and processes are enforced"),
        ["swap"] => note(LIMITS, seen)
            .because("what is limited in memory may still swap without bounds")
            .mend(
                "add `swapaccount=1` to the kernel's boot arguments and `reboot`; without swap \
                there is nothing to mend",
            ),
        [..] => problem(LIMITS, seen)
            .because("`[resources] limits` of a service say it, and nobody holds it to them")
            .mend(
                "see memory-cgroup; for cpu a kernel with CONFIG_CFS_BANDWIDTH, for processes \
                CONFIG_CGROUP_PIDS",
            ),
    }
}

fn live_restore(survey: &Survey) -> Finding {
    if survey.info.live_restore {
        return ok(LIVE_RESTORE, "on");
    }
    if survey.is_swarm {
        return warning(LIVE_RESTORE, "off, and a Swarm forbids it")
            .because("a restart of dockerd, as by an upgrade, stops every container")
            .mend("see swarm");
    }
    warning(LIVE_RESTORE, "off")
        .because("a restart of dockerd, as by an upgrade, stops every container")
        .mend(format!(
            "`\"live-restore\": true` in {DAEMON_JSON}, then `systemctl reload docker`: \
            no container is touched"
        ))
}

fn daemon_json(file: Result<&str, Unread>) -> Finding {
    match file {
        Err(Unread::Missing) => ok(FILE, "not there: defaults"),
        Err(Unread::Denied) => unknown(FILE, &format!("{DAEMON_JSON} is root's")).mend(AS_ROOT),
        Err(Unread::Broken) => unknown(FILE, &format!("{DAEMON_JSON} cannot be read")),
        Ok(text) => match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(settings)) => daemon_settings(&settings),
            Ok(_) => broken_json("it is no object"),
            Err(error) => broken_json(&error.to_string()),
        },
    }
}

fn broken_json(why: &str) -> Finding {
    problem(FILE, format!("{DAEMON_JSON}: {why}"))
        .because("dockerd will not start again")
        .mend(format!("`dockerd --validate --config-file {DAEMON_JSON}` names the place"))
}

fn daemon_settings(settings: &serde_json::Map<String, Value>) -> Finding {
    if settings.get("iptables") == Some(&Value::Bool(false)) {
        return warning(FILE, "`\"iptables\": false`")
            .because(
                "containers reach nothing outside of the board unless somebody else masquerades",
            )
            .mend(format!("take the line out of {DAEMON_JSON}, then `systemctl restart docker`"));
    }
    ok(FILE, "can be read")
}

/// Containers of services always rotate; this is about what others start.
fn logs(survey: &Survey, settings: &Value, file: Result<&str, Unread>) -> Finding {
    let driver = survey.log_driver.as_str();
    let options = &settings["log-opts"];
    let is_bounded = BOUNDED_DRIVERS.contains(&driver) || options["max-size"].is_string();
    if is_bounded || driver != "json-file" {
        let size = options["max-size"].as_str().unwrap_or("bounded by itself");
        return ok(LOGS, format!("{driver}, {size}"));
    }
    if matches!(file, Err(Unread::Denied | Unread::Broken)) {
        return unknown(
            LOGS,
            &format!("json-file, and whether it rotates stands in {DAEMON_JSON}"),
        )
        .mend(AS_ROOT);
    }
    let others = survey.neighbours.iter().filter(|one| one.runs).count();
    let seen = format!("json-file without max-size; {others} containers of others run here");
    let finding = if others > 0 { warning(LOGS, seen) } else { note(LOGS, seen) };
    finding
        .because("their logs grow until the disk is full; those of services rotate at 10 MB")
        .mend(format!(
            "`\"log-driver\": \"local\"` in {DAEMON_JSON}, then `systemctl restart docker`; \
                it counts for containers that are made after it"
        ))
}

fn swarm(survey: &Survey) -> Finding {
    if !survey.is_swarm {
        return ok(SWARM, "not part of one");
    }
    warning(SWARM, "this Docker is part of a Swarm")
        .because(
            "two orchestrators share memory and ports of one board, and live-restore cannot be on",
        )
        .mend("`docker swarm leave --force`, once nothing of it is needed")
}

/// What Docker says beyond what is judged above.
fn warnings(survey: &Survey) -> Option<Finding> {
    let is_judged = |text: &str| {
        ["memory limit", "swap limit", "cpu cfs", "cpu shares", "pids limit"]
            .iter()
            .any(|word| text.to_ascii_lowercase().contains(word))
    };
    let told: Vec<&str> =
        survey.warnings.iter().map(|text| text.trim_start_matches("WARNING: ")).collect();
    let told: Vec<&str> =
        told.into_iter().filter(|text| !text.is_empty() && !is_judged(text)).collect();
    if told.is_empty() {
        return None;
    }
    let finding = note(WARNINGS, told.join("; "));
    let of_forwarding = told.iter().any(|text| text.contains("IPv4 forwarding is disabled"));
    Some(match of_forwarding {
        true => Finding { severity: protocol::doctor::Severity::Problem, ..finding }
            .because("containers reach nothing outside of the board")
            .mend(
                "`sysctl -w net.ipv4.ip_forward=1`, and the same line in \
                /etc/sysctl.d/90-forward.conf",
            ),
        false => finding.mend(
            "`docker info` says them; what they mean is in Docker's own \
            documentation",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use crate::engine::Neighbour;
    use protocol::doctor::Severity::{self, Note, Ok as Well, Problem, Unknown, Warning};

    /// What becomes of one check on a board that is well but for what `change` does.
    #[track_caller]
    fn check_one(
        file: Option<&str>,
        change: impl FnOnce(&mut Survey),
        expected: (&str, Severity, &str, &str),
    ) {
        let tree = Tree::new();
        let tree = match file {
            Some(text) => tree.file(DAEMON_JSON, text),
            None => tree,
        };
        let mut facts = tree.facts();
        change(facts.engine.as_mut().unwrap());
        let found: Vec<Finding> =
            check(&facts).into_iter().filter(|f| f.id == expected.0).collect();
        check_findings(&found, &[expected]);
    }

    fn neighbour(image: &str) -> Neighbour {
        Neighbour { name: "other".into(), image: image.into(), runs: true }
    }

    #[test]
    fn a_docker_that_is_well_has_nothing_to_mend() {
        let tree = Tree::new().file(
            DAEMON_JSON,
            r#"{"live-restore": true, "log-driver": "json-file", "log-opts": {"max-size": "10m"}}"#,
        );
        let found = check(&tree.facts());
        assert!(found.iter().all(|finding| finding.severity == Well), "{found:#?}");
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn a_docker_that_does_not_answer_is_a_problem_or_root_s_to_ask() {
        let mut facts = Tree::new().facts();
        let away =
            |message: &str, is_denied| Err(EngineAway { message: message.to_owned(), is_denied });
        facts.engine = away("the container engine does not answer: no such file", false);
        check_findings(
            &check(&facts)[..1],
            &[(ENGINE, Problem, "does not answer", "systemctl enable --now docker")],
        );
        facts.engine = away("permission denied", true);
        check_findings(&check(&facts)[..1], &[(ENGINE, Unknown, "permission denied", "sudo")]);
    }

    #[test]
    fn an_old_or_far_docker_is_named() {
        let old = |survey: &mut Survey| {
            (survey.info.version, survey.info.api) = ("19.03.15".into(), "1.40".into())
        };
        check_one(None, old, (VERSION, Problem, "Docker 19.03.15, API 1.40", "docker.io"));
        check_one(None, |_| (), (VERSION, Well, "Docker 20.10.24+dfsg1, API 1.41", ""));
        check_one(
            None,
            |s| s.info.placement = Placement::Rootless,
            (PLACEMENT, Problem, "rootless", "docker.io"),
        );
    }

    #[test]
    fn limits_that_are_not_enforced_are_named() {
        check_one(
            None,
            |s| (s.info.limits_memory, s.limits_swap) = (false, false),
            (LIMITS, Problem, "not enforced: memory, swap", "memory-cgroup"),
        );
        check_one(None, |s| s.limits_swap = false, (LIMITS, Note, "swap", "swapaccount=1"));
        check_one(
            None,
            |s| s.info.limits_cpu = false,
            (LIMITS, Problem, "cpu", "CONFIG_CFS_BANDWIDTH"),
        );
    }

    #[test]
    fn restarts_swarms_and_broken_files_are_named() {
        check_one(
            None,
            |s| s.info.live_restore = false,
            (LIVE_RESTORE, Warning, "off", "\"live-restore\": true"),
        );
        check_one(
            None,
            |s| s.is_swarm = true,
            (SWARM, Warning, "part of a Swarm", "docker swarm leave --force"),
        );
        check_one(
            Some("{\"live-restore\": true,}"),
            |_| (),
            (FILE, Problem, "line 1", "dockerd --validate"),
        );
        check_one(
            Some("{\"iptables\": false}"),
            |_| (),
            (FILE, Warning, "iptables", "systemctl restart docker"),
        );
        check_one(
            None,
            |s| s.warnings.push("WARNING: IPv4 forwarding is disabled".into()),
            (WARNINGS, Problem, "IPv4 forwarding", "ip_forward=1"),
        );
        check_one(
            None,
            |s| s.warnings.push("WARNING: bridge-nf-call-iptables is disabled".into()),
            (WARNINGS, Note, "bridge-nf", "docker info"),
        );
    }

    #[test]
    fn logs_of_others_that_grow_are_a_warning_where_others_run() {
        check_one(
            None,
            |_| (),
            (LOGS, Note, "json-file without max-size; 0 containers", "\"log-driver\": \"local\""),
        );
        check_one(
            None,
            |s| s.neighbours.push(neighbour("nginx")),
            (LOGS, Warning, "1 containers", "\"log-driver\": \"local\""),
        );
        check_one(None, |s| s.log_driver = "journald".into(), (LOGS, Well, "journald", ""));
        check_one(Some(r#"{"log-opts":{"max-size":"5m"}}"#), |_| (), (LOGS, Well, "5m", ""));
    }
}
