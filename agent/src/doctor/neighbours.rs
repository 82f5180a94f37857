//! Who else acts on this board's Docker and ports: updaters, timers that prune, Kubernetes.

use std::collections::BTreeSet;

use protocol::doctor::Finding;

use super::facts::Facts;
use super::ports::listened;
use super::{note, ok, problem, unknown, warning};

pub(super) const FILES: &[&str] = &[
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/cron.hourly/*",
    "/etc/cron.daily/*",
    "/etc/cron.weekly/*",
    "/etc/cron.monthly/*",
    "/var/spool/cron/crontabs/*",
    "/etc/systemd/system/*.service",
    "/etc/systemd/system/*.timer",
    "/usr/lib/systemd/system/*docker*.service",
    "/usr/lib/systemd/system/*docker*.timer",
    "/etc/systemd/system/timers.target.wants/*",
    "/etc/systemd/system/multi-user.target.wants/*",
    "/proc/*/comm",
];

const UPDATER: &str = "updater";
const PRUNER: &str = "image-pruner";
const KUBERNETES: &str = "kubernetes";

/// Images that replace other people's containers by themselves.
const UPDATERS: [&str; 4] =
    ["containrrr/watchtower", "nickfedor/watchtower", "v2tec/watchtower", "pyouroboros/ouroboros"];
/// Images that remove other people's.
const PRUNERS: [&str; 5] = [
    "spotify/docker-gc",
    "clockworksoul/docker-gc-cron",
    "stephanmisc/docuum",
    "meltwater/docker-cleanup",
    "softonic/docker-system-prune",
];
/// Commands that remove images, or the stopped containers that hold them. An image that was pulled by its digest has no tag, and
/// counts as dangling: the plain forms take it too (moby, daemon/images/image_prune.go).
const PRUNING: [&str; 5] = [
    "docker system prune",
    "docker image prune",
    "docker images prune",
    "docker container prune",
    "docker-gc",
];

/// Names of processes that take ports and memory for pods.
const KUBELETS: [&str; 5] = ["k3s-server", "k3s-agent", "kubelet", "kubelite", "k0s"];
const K3S_UNITS: [&str; 2] =
    ["/etc/systemd/system/k3s.service", "/etc/systemd/system/k3s-agent.service"];
/// Of its API, kubelets and etcd, and of the load balancer that k3s puts in front (docs.k3s.io, "Requirements").
const KUBERNETES_PORTS: [u16; 7] = [80, 443, 2379, 2380, 6443, 10250, 10256];
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = updaters(facts);
    found.extend(pruners(facts));
    found.push(kubernetes(facts));
    found
}

fn updaters(facts: &Facts) -> Vec<Finding> {
    let Ok(survey) = &facts.engine else { return Vec::new() };
    let is_updater = |image: &str| UPDATERS.iter().any(|one| image.contains(one));
    let found = survey.neighbours.iter().filter(|one| is_updater(&one.image)).map(|one| {
        let mend = format!(
            "`docker rm -f {}`; what is to be left alone needs the label \
            com.centurylinklabs.watchtower.enable=false",
            one.name
        );
        let seen = format!("container {} ({})", one.name, one.image);
        let why = "it stops and replaces containers of services behind the agent's back, and \
            removes the images to go back to";
        match one.runs {
            true => problem(UPDATER, format!("{seen} runs")).because(why).mend(mend),
            false => note(UPDATER, format!("{seen} does not run")).because(why).mend(mend),
        }
    });
    let found: Vec<Finding> = found.collect();
    if found.is_empty() { vec![ok(UPDATER, "none (Watchtower or the like)")] } else { found }
}

fn pruners(facts: &Facts) -> Vec<Finding> {
    const WHY: &str = "it removes stopped containers and images that a service would go back to: \
        going back then needs the registry and a network";
    let mut found = Vec::new();
    if let Ok(survey) = &facts.engine {
        for one in survey
            .neighbours
            .iter()
            .filter(|one| PRUNERS.iter().any(|name| one.image.contains(name)))
        {
            let seen = format!("container {} ({})", one.name, one.image);
            found.push(
                problem(PRUNER, seen).because(WHY).mend(format!("`docker rm -f {}`", one.name)),
            );
        }
    }
    for (path, text) in facts.files.iter().filter_map(|(p, t)| Some((p, t.as_ref().ok()?))) {
        let Some(line) = text.lines().map(str::trim).find(|line| prunes(line)) else { continue };
        if !is_schedule(path) {
            continue;
        }
        let (seen, mend) =
            (format!("{path}: `{}`", super::images::first(line, 160)), stop(facts, path));
        let has_timer = facts.files.contains_key(&path.replace(".service", ".timer"));
        let is_lone_unit = path.ends_with(".service") && !has_timer;
        found.push(match is_lone_unit {
            true => note(PRUNER, format!("{seen} (no timer of its name)")).because(WHY).mend(mend),
            false => problem(PRUNER, seen).because(WHY).mend(mend),
        });
    }
    if !found.is_empty() {
        return found;
    }
    if facts.as_root {
        return vec![ok(PRUNER, "no timer, cron job or container that prunes")];
    }
    vec![
        unknown(PRUNER, "crontabs of users are root's; no unit and no /etc/cron… prunes")
            .mend(super::AS_ROOT),
    ]
}

fn prunes(line: &str) -> bool {
    !line.starts_with('#') && PRUNING.iter().any(|command| line.contains(command))
}

fn is_schedule(path: &str) -> bool {
    path.contains("/cron") || (path.contains("/systemd/system/") && path.ends_with(".service"))
}

fn stop(facts: &Facts, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let unit = name.strip_suffix(".service").unwrap_or(name);
    if facts.files.contains_key(&path.replace(".service", ".timer")) && name.ends_with(".service") {
        return format!(
            "`systemctl disable --now {unit}.timer`; the agent removes what nothing needs by \
                itself, from a disk of 70 % on"
        );
    }
    if name.ends_with(".service") {
        return format!("`systemctl disable --now {name}`");
    }
    let edit = match path.strip_prefix("/var/spool/cron/crontabs/") {
        Some(user) => format!("`crontab -u {user} -e`"),
        None => format!("in {path}"),
    };
    format!(
        "take the line out {edit}; the agent removes what nothing needs by itself, from a \
            disk of 70 % on"
    )
}

fn kubernetes(facts: &Facts) -> Finding {
    let runs: BTreeSet<&str> = facts
        .below("/proc/")
        .filter(|(path, _)| path.ends_with("/comm"))
        .map(|(_, text)| text.trim())
        .filter(|name| KUBELETS.contains(name))
        .collect();
    let is_installed = K3S_UNITS.iter().any(|path| facts.files.contains_key(*path));
    if runs.is_empty() {
        return match (is_installed, facts.as_root) {
            (true, true) => note(KUBERNETES, "k3s is installed and does not run")
                .mend("`/usr/local/bin/k3s-uninstall.sh`, once nothing of it is needed"),
            (true, false) => {
                unknown(KUBERNETES, "k3s is installed; whether it runs is root's to see")
                    .mend(super::AS_ROOT)
            }
            (false, true) => ok(KUBERNETES, "none (k3s, kubelet)"),
            (false, false) => ok(KUBERNETES, "k3s is not installed"),
        };
    }
    let names: Vec<&str> = runs.into_iter().collect();
    let seen = format!("{} runs here", names.join(", "));
    let mend = "`/usr/local/bin/k3s-killall.sh` and `systemctl disable k3s k3s-agent` (kubeadm: \
        `systemctl disable --now kubelet`)";
    let taken = listened(facts)
        .into_iter()
        .filter(|(port, _)| KUBERNETES_PORTS.contains(port) || NODE_PORTS.contains(port));
    let taken: Vec<String> = taken.map(|(port, service)| format!("{port} ({service})")).collect();
    if taken.is_empty() {
        return warning(KUBERNETES, seen)
            .because(
                "pods and services share the memory of one board, and neither knows of the other",
            )
            .mend(mend);
    }
    problem(KUBERNETES, format!("{seen}, and services listen on {}", taken.join(", ")))
        .because("its rules take what comes to those ports before the proxy sees it")
        .mend(mend)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use crate::engine::Neighbour;
    use crate::ledger::{KeptAs, KeptHere};
    use protocol::doctor::Severity::{Note, Ok as Well, Problem, Unknown, Warning};

    const UNIT: &str = "[Service]\nType=oneshot\nExecStart=/usr/bin/docker system prune -af\n";

    #[test]
    fn a_quiet_board_is_ok_to_root_and_not_wholly_known_to_the_agent() {
        let mut facts = Tree::new().file("/proc/1/comm", "systemd\n").facts();
        let well = [
            (UPDATER, Well, "none", ""),
            (PRUNER, Well, "no timer", ""),
            (KUBERNETES, Well, "none", ""),
        ];
        check_findings(&check(&facts), &well);
        facts.as_root = false;
        check_findings(&check(&facts)[1..2], &[(PRUNER, Unknown, "root's", "sudo")]);
    }

    #[test]
    fn watchtower_is_a_problem_while_it_runs() {
        let mut facts = Tree::new().facts();
        let name = || Neighbour {
            name: "wt".into(),
            image: "ghcr.io/nickfedor/watchtower:latest".into(),
            runs: true,
        };
        facts.engine.as_mut().unwrap().neighbours =
            vec![name(), Neighbour { runs: false, ..name() }];
        let both = [
            (UPDATER, Problem, "container wt", "docker rm -f wt"),
            (UPDATER, Note, "does not run", "docker rm -f wt"),
        ];
        check_findings(&check(&facts)[..2], &both);
    }

    #[test]
    fn timers_crontabs_and_containers_that_prune_are_named_with_their_line() {
        let timed = Tree::new()
            .file("/etc/systemd/system/docker-prune.service", UNIT)
            .file("/etc/systemd/system/docker-prune.timer", "[Timer]\nOnCalendar=daily\n");
        check_findings(
            &check(&timed.facts())[1..2],
            &[(
                PRUNER,
                Problem,
                "ExecStart=/usr/bin/docker system prune -af",
                "systemctl disable --now docker-prune.timer",
            )],
        );
        let lone = Tree::new().file("/etc/systemd/system/tidy.service", UNIT);
        check_findings(
            &check(&lone.facts())[1..2],
            &[(PRUNER, Note, "no timer", "systemctl disable --now tidy.service")],
        );
        let crontab = Tree::new().file(
            "/var/spool/cron/crontabs/pi",
            "# m h\n0 3 * * * docker image prune -f >/dev/null\n",
        );
        check_findings(
            &check(&crontab.facts())[1..2],
            &[(PRUNER, Problem, "0 3 * * * docker image prune -f", "crontab -u pi -e")],
        );
        let daily =
            Tree::new().file("/etc/cron.daily/cleanup", "#!/bin/sh\n#docker system prune\necho\n");
        check_findings(&check(&daily.facts())[1..2], &[(PRUNER, Well, "no timer", "")]);
        let mut facts = Tree::new().facts();
        let gc = Neighbour { name: "gc".into(), image: "spotify/docker-gc".into(), runs: true };
        facts.engine.as_mut().unwrap().neighbours = vec![gc];
        check_findings(
            &check(&facts)[1..2],
            &[(PRUNER, Problem, "container gc", "docker rm -f gc")],
        );
    }

    #[test]
    fn k3s_is_a_warning_and_a_problem_where_it_takes_a_port_of_a_service() {
        let tree =
            Tree::new().file("/proc/77/comm", "k3s-server\n").file(K3S_UNITS[0], "[Service]\n");
        let mut facts = tree.facts();
        check_findings(
            &check(&facts)[2..],
            &[(KUBERNETES, Warning, "k3s-server runs here", "k3s-killall.sh")],
        );
        let mut spec = crate::testing::spec("web");
        let listen = protocol::spec::Listen { address: None, port: 443 };
        spec.ports[0].listen = Some(listen);
        let release = crate::testing::release(&spec, "v1");
        let kept = KeptHere {
            service: "web".parse().unwrap(),
            kept_as: KeptAs::Running,
            revision: 1,
            release,
        };
        facts.kept = vec![(kept, Some(true))];
        check_findings(
            &check(&facts)[2..],
            &[(KUBERNETES, Problem, "services listen on 443 (web)", "k3s-killall.sh")],
        );
        let stopped = Tree::new().file(K3S_UNITS[0], "[Service]\n");
        check_findings(
            &check(&stopped.facts())[2..],
            &[(KUBERNETES, Note, "does not run", "k3s-uninstall.sh")],
        );
    }
}
