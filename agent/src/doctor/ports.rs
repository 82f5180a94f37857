//! The ports that services listen on, and who has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use protocol::doctor::Finding;
use protocol::id::ServiceName;
use protocol::spec::Port;

use super::facts::{Facts, Ran};
use super::{AS_ROOT, ok, problem, unknown};
use crate::ledger::KeptAs;

const PORTS: &str = "listen-ports";
const SS_TCP: &str = "ss -H -l -t -n -p";
/// The proxy's own name as the kernel cuts it.
const OURS: &str = "pith-agent";

pub(super) const PROGRAMS: &[&str] = &[SS_TCP];

/// Ports that running services listen on, whatever the address.
pub(super) fn listened(facts: &Facts) -> BTreeMap<u16, ServiceName> {
    of_services(facts).map(|(port, service, _)| (port, service)).collect()
}

/// Ports of running services that are open to other machines, and the fleet port.
pub(super) fn open_to_others(facts: &Facts) -> BTreeMap<u16, String> {
    let listens_outside = facts.subject.listens_outside;
    let is_outside = |address: Option<IpAddr>| match address {
        Some(address) => !address.is_loopback(),
        None => listens_outside,
    };
    let outside = of_services(facts).filter(|(_, _, address)| is_outside(*address));
    let mut open: BTreeMap<u16, String> =
        outside.map(|(port, service, _)| (port, service.to_string())).collect();
    if facts.subject.fleet_port != 0 && !open.is_empty() {
        let peers = || "the proxies of other nodes".to_owned();
        open.entry(facts.subject.fleet_port).or_insert_with(peers);
    }
    open
}

/// Ports on which services are reached by their names, from other containers.
pub(super) fn targets(facts: &Facts) -> BTreeMap<u16, ServiceName> {
    let ports = |(service, ports): (&ServiceName, &[Port])| {
        let service = service.clone();
        ports.iter().map(|port| (port.target, service.clone())).collect::<Vec<_>>()
    };
    running(facts).flat_map(ports).collect()
}

fn of_services(facts: &Facts) -> impl Iterator<Item = (u16, ServiceName, Option<IpAddr>)> {
    running(facts).flat_map(|(service, ports)| {
        ports.iter().filter_map(move |port| {
            let listen = port.listen.as_ref()?;
            Some((listen.port, service.clone(), listen.address))
        })
    })
}

fn running(facts: &Facts) -> impl Iterator<Item = (&ServiceName, &[Port])> {
    let environment = &facts.subject.environment;
    let kept = facts.kept.iter().map(|(kept, _)| kept);
    let running = kept.filter(|kept| kept.kept_as == KeptAs::Running);
    running.map(move |kept| (&kept.service, kept.release.spec(environment).ports.as_slice()))
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let wanted = listened(facts);
    if wanted.is_empty() {
        return Vec::new();
    }
    let printed = match facts.programs.get(SS_TCP) {
        Some(Ran::Printed(text)) => text,
        Some(Ran::Missing) | None => {
            return vec![
                unknown(PORTS, "`ss` is not installed").mend("`apt-get install iproute2`"),
            ];
        }
        Some(Ran::Failed(why)) => return vec![unknown(PORTS, why)],
    };
    let (mut found, mut not_told) = (Vec::new(), BTreeSet::new());
    for (address, port, holder) in printed.lines().filter_map(listening) {
        let Some(service) = wanted.get(&port) else { continue };
        match holder {
            // A service's address inside its network is the proxy's too.
            Some((OURS, _)) => {}
            Some(holder) => found.push(taken(service, (address, port), holder)),
            None => drop(not_told.insert(port.to_string())),
        }
    }
    let not_told: Vec<String> = not_told.into_iter().collect();
    if !not_told.is_empty() {
        let who = unknown(PORTS, &format!("whose processes have {}", not_told.join(", ")));
        found.push(if facts.as_root { who } else { who.mend(AS_ROOT) });
    }
    if found.is_empty() {
        let ports: Vec<String> = wanted.keys().map(u16::to_string).collect();
        found.push(ok(PORTS, format!("{}: nobody else has them", ports.join(", "))));
    }
    found
}

/// A process and its id.
type Holder<'a> = (&'a str, &'a str);

/// Address, port and the first process with its id of `LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))`; without its end
/// where the process is another user's.
fn listening(line: &str) -> Option<(&str, u16, Option<Holder<'_>>)> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(3)?.rsplit_once(':')?;
    let users = words.find(|word| word.starts_with("users:"));
    let holder = users.and_then(|users| {
        let pid = users.split("pid=").nth(1)?;
        let end = pid.find(|c: char| !c.is_ascii_digit()).unwrap_or(pid.len());
        Some((users.split('"').nth(1)?, &pid[..end]))
    });
    Some((address, port.parse().ok()?, holder))
}

fn taken(service: &ServiceName, (address, port): (&str, u16), (who, pid): Holder<'_>) -> Finding {
    let seen =
        format!("{service} listens on {port}, and {who} (process {pid}) has {address}:{port}");
    problem(PORTS, seen)
        .because("the port of the service is not open, or only on some addresses")
        .mend(format!(
            "stop it (`systemctl status {pid}` names its unit), or give the service \
            another `listen`"
        ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use crate::doctor::facts::Facts;
    use crate::ledger::KeptHere;
    use protocol::doctor::Severity::{Ok as Well, Problem, Unknown};
    use protocol::spec::Listen;

    const SS: &str = "LISTEN 0      4096         0.0.0.0:7484      0.0.0.0:*    users:((\"pith-agent\",pid=31,fd=9))\n\
                      LISTEN 0      511             [::]:80           [::]:*    users:((\"nginx\",pid=512,fd=6),(\"nginx\",pid=513,fd=6))\n";

    fn with(mut facts: Facts, port: u16) -> Facts {
        let mut spec = crate::testing::spec("web");
        spec.ports[0].listen = Some(Listen { address: None, port });
        let release = crate::testing::release(&spec, "v1");
        let kept = KeptHere {
            service: "web".parse().unwrap(),
            kept_as: KeptAs::Running,
            revision: 1,
            release,
        };
        facts.kept = vec![(kept, Some(true))];
        facts
    }

    #[test]
    fn a_port_that_another_process_has_is_named_with_it() {
        let tree = Tree::new().prints(SS_TCP, SS);
        assert_eq!(check(&tree.facts()), [], "nothing listens");
        check_findings(
            &check(&with(tree.facts(), 80)),
            &[(PORTS, Problem, "nginx (process 512) has [::]:80", "systemctl status 512")],
        );
        check_findings(&check(&with(tree.facts(), 7484)), &[(PORTS, Well, "nobody else", "")]);
        check_findings(&check(&with(tree.facts(), 9)), &[(PORTS, Well, "9: nobody else", "")]);
        check_findings(
            &check(&with(Tree::new().facts(), 80)),
            &[(PORTS, Unknown, "not installed", "iproute2")],
        );
    }

    #[test]
    fn whose_port_it_is_may_be_root_s_to_see() {
        let both = "LISTEN 0 511 0.0.0.0:80 0.0.0.0:*\nLISTEN 0 511 [::]:80 [::]:*\n";
        let tree = Tree::new().prints(SS_TCP, both);
        let mut facts = with(tree.facts(), 80);
        facts.as_root = false;
        check_findings(&check(&facts), &[(PORTS, Unknown, "whose processes have 80", "sudo")]);
    }

    #[test]
    fn what_is_open_to_others_is_not_what_is_narrowed_to_loopback() {
        let mut facts = with(Tree::new().facts(), 80);
        let open = |facts: &Facts| open_to_others(facts).into_keys().collect::<Vec<_>>();
        assert_eq!(open(&facts), [80, 7484]);
        let mut spec = crate::testing::spec("web");
        spec.ports[0].listen = Some(Listen { address: "127.0.0.1".parse().ok(), port: 80 });
        facts.kept[0].0.release = crate::testing::release(&spec, "v1");
        assert_eq!(open(&facts), [0u16; 0]);
    }
}
