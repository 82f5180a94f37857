//! Images of what runs and of what to go back to, and the names of the registries that they come from.

use std::collections::BTreeSet;

use protocol::doctor::Finding;
use protocol::registries::registry_of;
use protocol::release::Pin;

use super::facts::Facts;
use super::{ok, problem, unknown, warning};
use crate::ledger::{KeptAs, KeptHere};

const KEPT: &str = "kept-images";
const NAMES: &str = "registry-names";

const HOSTS: &str = "/etc/hosts";
const RESOLV: &str = "/etc/resolv.conf";
const RESOLVED: &str = "/etc/systemd/resolved.conf";
const RESOLVED_PARTS: &str = "/etc/systemd/resolved.conf.d/";
/// Where systemd-resolved answers (systemd-resolved.service(8)).
const STUB: &str = "127.0.0.53";

pub(super) const FILES: &[&str] = &[HOSTS, RESOLV, RESOLVED, "/etc/systemd/resolved.conf.d/*.conf"];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = kept(facts);
    found.extend(names(facts));
    found
}

fn kept(facts: &Facts) -> Vec<Finding> {
    if facts.kept.is_empty() {
        return Vec::new();
    }
    if facts.kept.iter().any(|(_, is_here)| is_here.is_none()) {
        return vec![unknown(KEPT, "the engine does not say which images it has")];
    }
    let gone = facts.kept.iter().filter(|(_, is_here)| *is_here == Some(false));
    let gone: Vec<Finding> = gone.map(|(kept, _)| gone_image(kept)).collect();
    if gone.is_empty() {
        let back = facts.kept.iter().filter(|(kept, _)| kept.kept_as == KeptAs::LastGood).count();
        let seen = format!(
            "all {} are here, {back} of them to go back to without a network",
            facts.kept.len()
        );
        return vec![ok(KEPT, seen)];
    }
    gone
}

fn gone_image(kept: &KeptHere) -> Finding {
    let KeptHere { service, kept_as, revision, release } = kept;
    let image = &release.image;
    let seen = format!(
        "{service}: the image of its {} release (revision {revision}, {}) is gone",
        kept_as.as_str(),
        image.reference
    );
    let why = match kept_as {
        KeptAs::LastGood => "going back would need the registry and a network",
        KeptAs::Running => {
            "an instance that has to be made anew would need the registry and a network"
        }
    };
    let mend = match &image.pin {
        Pin::Digest(_) => format!(
            "`docker pull {}`; see image-pruner for who removed it",
            image.pinned_reference()
        ),
        Pin::ImageId(id) => {
            format!("no registry has it: `docker load` the image {id} again, where it was built")
        }
        Pin::Archive(_) => format!(
            "`pith restart {service}` fetches {} again, or `docker load` its archive here",
            image.reference
        ),
    };
    problem(KEPT, seen).because(why).mend(mend)
}

/// dockerd resolves a registry's name by itself, so that what the agent knows of `.local` does not help.
fn names(facts: &Facts) -> Vec<Finding> {
    let images = facts.kept.iter().map(|(kept, _)| &kept.release.image);
    // The agent fetches archives itself.
    let pulled = images.filter(|image| !matches!(image.pin, Pin::Archive(_)));
    let hosts = pulled.map(|image| registry_of(&image.reference));
    let name = |host: &str| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned();
    let local: BTreeSet<String> = hosts.map(name).filter(|host| host.ends_with(".local")).collect();
    local.into_iter().map(|host| local_name(facts, &host)).collect()
}

fn local_name(facts: &Facts, host: &str) -> Finding {
    let in_hosts = facts.text(HOSTS).unwrap_or_default().lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name.eq_ignore_ascii_case(host))
    });
    if in_hosts {
        return ok(NAMES, format!("{host} stands in {HOSTS}"));
    }
    let is_stub = facts.text(RESOLV).unwrap_or_default().lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver") && words.next() == Some(STUB)
    });
    let parts = facts.below(RESOLVED_PARTS).map(|(_, text)| text);
    let settings = facts.file(RESOLVED).ok().into_iter().chain(parts);
    let has_mdns = settings.flat_map(str::lines).map(str::trim).any(|line| {
        let value = line.strip_prefix("MulticastDNS=").unwrap_or_default();
        ["yes", "resolve", "true", "1", "on"].contains(&value.trim())
    });
    if is_stub && has_mdns {
        return ok(NAMES, format!("{host} is resolved by systemd-resolved (MulticastDNS)"));
    }
    warning(NAMES, format!("{host} is a name of multicast DNS, and dockerd asks {RESOLV} for it"))
        .because("pulls fail with `no such host`, whatever the agent resolves")
        .mend(format!(
            "`echo 'ADDRESS {host}' >> {HOSTS}`; or, with systemd-resolved, `MulticastDNS=yes` in {RESOLVED}, `resolvectl mdns INTERFACE yes` \
             and `systemctl restart systemd-resolved`"
        ))
}

/// The first characters of a text.
pub(super) fn first(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use protocol::doctor::Severity::{Ok as Well, Problem, Unknown, Warning};

    fn kept(kept_as: KeptAs, reference: &str, is_here: Option<bool>) -> (KeptHere, Option<bool>) {
        let mut release = crate::testing::release(&crate::testing::spec("web"), "v1");
        release.image.reference = reference.to_owned();
        (KeptHere { service: "web".parse().unwrap(), kept_as, revision: 6, release }, is_here)
    }

    #[test]
    fn an_image_to_go_back_to_that_is_gone_is_a_problem_with_its_pull() {
        let mut facts = Tree::new().facts();
        assert_eq!(check(&facts), [], "nothing runs here");
        facts.kept = vec![
            kept(KeptAs::Running, "127.0.0.1:5000/web:v2", Some(true)),
            kept(KeptAs::LastGood, "127.0.0.1:5000/web:v1", Some(true)),
        ];
        check_findings(&check(&facts), &[(KEPT, Well, "1 of them to go back to", "")]);
        facts.kept[1].1 = Some(false);
        let found = check(&facts);
        check_findings(
            &found,
            &[(
                KEPT,
                Problem,
                "web: the image of its last-good release (revision 6, 127.0.0.1:5000/web:v1) is \
                    gone",
                "docker pull 127.0.0.1:5000/web@sha256:",
            )],
        );
        facts.kept[1].1 = None;
        check_findings(&check(&facts), &[(KEPT, Unknown, "cannot be read here", "")]);
    }

    #[test]
    fn a_registry_of_multicast_dns_needs_the_hosts_file_or_resolved() {
        let seen = |tree: Tree| {
            let mut facts = tree.facts();
            facts.kept = vec![kept(KeptAs::Running, "registry.local:5000/web:v2", Some(true))];
            check(&facts).split_off(1)
        };
        let plain = || Tree::new().file(RESOLV, "nameserver 192.168.1.1\n");
        check_findings(&seen(plain()), &[(NAMES, Warning, "registry.local", "MulticastDNS=yes")]);
        let hosts =
            plain().file(HOSTS, "127.0.0.1 localhost\n192.168.1.10\tRegistry.local other\n");
        check_findings(&seen(hosts), &[(NAMES, Well, "/etc/hosts", "")]);
        let commented = plain().file(HOSTS, "# 192.168.1.10 registry.local\n");
        check_findings(&seen(commented), &[(NAMES, Warning, "registry.local", "/etc/hosts")]);
        let resolved = |setting: &str| {
            let tree = Tree::new()
                .file(RESOLV, "nameserver 127.0.0.53\n")
                .file(RESOLVED, "[Resolve]\n#MulticastDNS=yes\n");
            tree.file("/etc/systemd/resolved.conf.d/mdns.conf", setting)
        };
        check_findings(
            &seen(resolved("[Resolve]\nMulticastDNS=yes\n")),
            &[(NAMES, Well, "systemd-resolved", "")],
        );
        check_findings(
            &seen(resolved("[Resolve]\nMulticastDNS=no\n")),
            &[(NAMES, Warning, "registry.local", "resolvectl")],
        );
    }
}
