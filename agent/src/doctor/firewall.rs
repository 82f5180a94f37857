//! Firewalls: whether somebody else's rules keep out what services are for.
//!
//! ```text
//! `iptables-save` (ufw's too), `nft -j list ruleset` (firewalld's too) -> chains -> the first packet to each port -> who stops it
//! ```
//! Two ways in: from outside to a port that a service listens on, and from a container to the address of a service's network on this
//! board, which is how names of services are reached. Both are for the machine itself: what Docker forwards is Docker's.

mod iptables;
mod nft;
mod packets;

use protocol::doctor::Finding;

use super::facts::{Facts, Ran};
use super::ports::{open_to_others, targets};
use super::{AS_ROOT, note, ok, problem, unknown};
use packets::{Chains, Fate, Packet, fate};

const NFT: &str = "nft -j list ruleset";
const IPTABLES: &str = "iptables-save";
const UFW: &str = "/etc/ufw/ufw.conf";
const ROUTES: &str = "/proc/net/route";

pub(super) const FILES: &[&str] = &[UFW, ROUTES];
pub(super) const PROGRAMS: &[&str] = &[NFT, IPTABLES];

const OUTSIDE: &str = "firewall-ports";
const INSIDE: &str = "firewall-services";

/// Whose rules they are, and so who is asked to let something in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Ufw,
    Firewalld,
    Nft,
    Iptables,
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let chains = match chains(facts) {
        Ok(chains) => chains,
        Err(finding) => return vec![finding],
    };
    let mut found = outside(facts, &chains);
    found.extend(inside(facts, &chains));
    found
}

/// All chains that anybody has made, or why they are not known.
fn chains(facts: &Facts) -> Result<Chains, Finding> {
    let (nft, iptables) = (facts.programs.get(NFT), facts.programs.get(IPTABLES));
    let of_iptables = match iptables {
        Some(Ran::Printed(text)) => Some(iptables::read(text)),
        Some(Ran::Missing | Ran::Failed(_)) | None => None,
    };
    let of_nft = match nft {
        Some(Ran::Printed(text)) => nft::read(text, of_iptables.is_some()),
        Some(Ran::Missing | Ran::Failed(_)) | None => None,
    };
    let has_failed = [nft, iptables].iter().any(|ran| matches!(ran, Some(Ran::Failed(_))));
    match (of_nft, of_iptables) {
        (None, None) if has_failed && !facts.as_root => Err(not_allowed(facts)),
        (Some(_), None) | (None, Some(_)) if has_failed && !facts.as_root => {
            Err(not_allowed(facts))
        }
        (None, None) => Err(unknown(OUTSIDE, "neither `nft` nor `iptables-save` answers")
            .mend("`apt-get install nftables iptables`")),
        (nft, iptables) => {
            let mut chains = nft.unwrap_or_default();
            chains.extend(iptables.unwrap_or_default());
            Ok(chains)
        }
    }
}

fn not_allowed(facts: &Facts) -> Finding {
    let is_ufw =
        facts.text(UFW).is_some_and(|text| text.lines().any(|line| line.trim() == "ENABLED=yes"));
    let why = if is_ufw {
        "ufw is on, and its rules are root's"
    } else {
        "rules of firewalls are root's"
    };
    unknown(OUTSIDE, why).mend(AS_ROOT)
}

fn outside(facts: &Facts, chains: &Chains) -> Vec<Finding> {
    let open = open_to_others(facts);
    let packet = |port: u16| Packet { interface: default_interface(facts), source: None, port };
    let mut found = Vec::new();
    for (port, whose) in &open {
        let (seen, is_sure) = match fate(chains, &packet(*port)) {
            Fate::In => continue,
            Fate::Stopped(rule) => (format!("port {port} ({whose}) is closed: {rule}"), true),
            Fate::Perhaps(rule) => {
                (format!("port {port} ({whose}) is open to some only; the others: {rule}"), false)
            }
        };
        let finding = if is_sure { problem(OUTSIDE, seen) } else { note(OUTSIDE, seen) };
        let why = if is_sure {
            "nobody outside of this board reaches it"
        } else {
            "well, if that is meant"
        };
        found.push(finding.because(why).mend(let_port_in(keeper(chains, &packet(*port)), *port)));
    }
    if found.is_empty() {
        let ports: Vec<String> = open.keys().map(u16::to_string).collect();
        let seen = match ports.as_slice() {
            [] => "no service listens on a port for others".to_owned(),
            ports => format!("nothing keeps out {}", ports.join(", ")),
        };
        found.push(ok(OUTSIDE, seen));
    }
    found
}

/// What keeps one name of a service out keeps out all: the first is told.
fn inside(facts: &Facts, chains: &Chains) -> Option<Finding> {
    let targets = targets(facts);
    if targets.is_empty() {
        return None;
    }
    let pool = facts.subject.pool;
    let interface = facts.bridges.first().cloned().unwrap_or_else(|| "br-000000000000".to_owned());
    for (port, service) in &targets {
        let packet = Packet { interface: Some(interface.clone()), source: Some(pool), port: *port };
        let (Fate::Stopped(rule) | Fate::Perhaps(rule)) = fate(chains, &packet) else { continue };
        let seen = format!(
            "containers do not reach {service} by its name (port {port} of its network's \
                address): {rule}"
        );
        return Some(
            problem(INSIDE, seen)
                .because(
                    "`depends_on` and `uses` lead to nothing: services find each other \
                    through the proxy on this board",
                )
                .mend(let_pool_in(keeper(chains, &packet), &pool.to_string())),
        );
    }
    Some(ok(INSIDE, format!("nothing keeps containers ({pool}) from services on this board")))
}

/// Where packets from outside come in: as the default route leaves (proc(5)).
fn default_interface(facts: &Facts) -> Option<String> {
    let table = facts.text(ROUTES)?;
    let mut rows = table.lines().skip(1).map(|line| line.split_whitespace());
    rows.find_map(|mut words| {
        let interface = words.next()?;
        (words.next()? == "00000000").then(|| interface.to_owned())
    })
}

/// Whoever keeps the chain that stops a packet.
fn keeper(chains: &Chains, packet: &Packet) -> Keeper {
    let stops = |table: &str| {
        let of_table = chains.iter().filter(|((of, _), _)| of == table);
        let of_table = of_table.map(|(key, chain)| (key.clone(), chain.clone())).collect();
        fate(&of_table, packet) != Fate::In
    };
    let is_iptables = |table: &str| table == "filter";
    let tables = chains.keys().map(|(table, _)| table.as_str());
    let table = tables.into_iter().find(|table| stops(table)).unwrap_or_default();
    let has_ufw = chains.keys().any(|(_, chain)| chain.starts_with("ufw-"));
    match table {
        "inet firewalld" | "ip firewalld" => Keeper::Firewalld,
        table if is_iptables(table) && has_ufw => Keeper::Ufw,
        table if is_iptables(table) => Keeper::Iptables,
        _ => Keeper::Nft,
    }
}

fn let_port_in(keeper: Keeper, port: u16) -> String {
    match keeper {
        Keeper::Ufw => format!("`ufw allow {port}/tcp`"),
        Keeper::Firewalld => {
            format!("`firewall-cmd --permanent --add-port={port}/tcp` and `firewall-cmd --reload`")
        }
        Keeper::Nft => format!(
            "`tcp dport {port} accept` in the chain, above what drops, in /etc/nftables.conf; \
                then `nft -f /etc/nftables.conf`"
        ),
        Keeper::Iptables => format!(
            "`iptables -I INPUT -p tcp --dport {port} -j ACCEPT`, and the same for ip6tables; \
                `netfilter-persistent save` keeps it"
        ),
    }
}

fn let_pool_in(keeper: Keeper, pool: &str) -> String {
    match keeper {
        Keeper::Ufw => format!("`ufw allow from {pool}`"),
        Keeper::Firewalld => format!(
            "`firewall-cmd --permanent --zone=trusted --add-source={pool}` and `firewall-cmd \
                --reload`"
        ),
        Keeper::Nft => format!(
            "`ip saddr {pool} accept` in the chain, above what drops, in /etc/nftables.conf; \
                then `nft -f /etc/nftables.conf`"
        ),
        Keeper::Iptables => {
            format!("`iptables -I INPUT -s {pool} -j ACCEPT`; `netfilter-persistent save` keeps it")
        }
    }
}

#[cfg(test)]
mod tests;
