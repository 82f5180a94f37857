//! What is told: what there is, what is done or would be, and what remains for others to do.

use std::fmt::Write as _;
use std::path::Path;

use super::{Board, Told, Wish};

pub(super) fn told(board: &Board, wish: &Wish, compose: Option<&Path>) -> String {
    let next = next(board, wish);
    if wish.json {
        let told = Told {
            fleet: &board.ours.fleet,
            node: &board.ours.node,
            name: &board.name,
            done: wish.yes,
            ports: board.ports(),
            containers: board.containers.iter().map(|one| one.name.as_str()).collect(),
            networks: board.networks.iter().map(|one| one.name.as_str()).collect(),
            volumes: &board.volumes,
            volumes_removed: wish.yes && wish.volumes,
            files: files(board),
            compose: compose.map(|path| path.display().to_string()),
            next,
        };
        let text = serde_json::to_string_pretty(&told).expect("plain data serialises");
        return format!("{text}\n");
    }
    let mut text = String::new();
    let mut line = |words: &str| writeln!(text, "{words}").expect("a string takes everything");
    if !wish.yes {
        line(&format!(
            "this board is {}, node {} of fleet {}",
            board.name, board.ours.node, board.ours.fleet
        ));
        line("nothing was changed; with --yes:");
        let ports: Vec<String> = board.ports().iter().map(u16::to_string).collect();
        let closing =
            if ports.is_empty() { "no port of a service".to_owned() } else { ports.join(", ") };
        line(&format!(
            "  stop     pith-agent and pith-proxy, now and at each boot; ports that close: {closing}"
        ));
        for container in &board.containers {
            line(&format!("  remove   container {}", container.name));
        }
        for network in &board.networks {
            line(&format!("  remove   network {}", network.name));
        }
        let verb = if wish.volumes { "remove  " } else { "keep    " };
        for volume in &board.volumes {
            line(&format!("  {verb} volume {volume}"));
        }
        for file in files(board) {
            line(&format!("  keep     {file}"));
        }
        line("  keep     images (`docker image prune -a` afterwards removes what nobody uses)");
    }
    if let Some(path) = compose {
        let ran: Vec<&str> = board.ran.iter().map(|ran| ran.spec.name.as_str()).collect();
        line(&format!(
            "what ran ({}) stands in {}: `docker compose -f {} up -d` runs it without Pith; values of secrets are not in it",
            ran.join(", "),
            path.display(),
            path.display()
        ));
    }
    for service in &board.unknown {
        line(&format!(
            "{service} ran of a release that the ledger does not hold: it is in no compose.yaml"
        ));
    }
    next.iter().for_each(|next| line(next));
    text
}

/// Files that stay until the package is purged.
fn files(board: &Board) -> Vec<String> {
    let config = &board.config;
    let paths =
        [config.state_dir.as_path(), Path::new("/etc/pith"), Path::new("/usr/bin/pith-agent")];
    let there = paths.into_iter().filter(|path| path.exists());
    there.map(|path| path.display().to_string()).collect()
}

fn next(board: &Board, wish: &Wish) -> Vec<String> {
    let name = &board.name;
    let mut next = Vec::new();
    if wish.yes {
        if !wish.volumes && !board.volumes.is_empty() {
            next.push(format!(
                "volumes stay: {}; `docker volume rm` removes one with what is in it",
                board.volumes.join(", ")
            ));
        }
        next.push("next, here: apt-get purge pith-agent   (removes /var/lib/pith, the board's keys, and /etc/pith)".to_owned());
    }
    next.push(format!(
        "{}the coordinator: pith node revoke {name}   (its keys are refused from then on; until then it counts as offline)",
        if wish.yes { "next, at " } else { "afterwards, at " }
    ));
    next
}
