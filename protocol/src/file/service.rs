//! The top of a service file: name, image, counts, order, and the parts read by the modules beside this one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::problem::Problems;
use super::source::{self, ArchiveSource};
use super::tree::{Item, Keys, Table};
use super::{Places, container, health, hooks, host, placing, ports, rollout, secrets, volumes};
use crate::id::ServiceName;
use crate::spec::{HostAccess, Scheduling, ServiceSpec, Volume};
use crate::units::Millis;

/// Instances of one service over the fleet.
pub const MAX_REPLICAS: u32 = 10_000;
/// Instances of one service on one node.
pub const MAX_INSTANCES_PER_NODE: u32 = 256;
/// Bytes of an image reference.
const MAX_IMAGE_BYTES: usize = 512;
/// Longest time any key may name.
pub(super) const MAX_SPAN: Millis = Millis::from_secs(7 * 24 * 3600);
/// Longest grace between SIGTERM and SIGKILL.
const MAX_STOP_GRACE: Millis = Millis::from_secs(3600);
const DEFAULT_STOP_GRACE: Millis = Millis::from_secs(10);
const DEFAULT_REPLICAS: u32 = 1;

pub(super) const KEYS: Keys = Keys {
    known: &[
        "name",
        "image",
        "source",
        "replicas",
        "per_node",
        "env",
        "entrypoint",
        "command",
        "user",
        "working_dir",
        "read_only",
        "init",
        "cap_add",
        "cap_drop",
        "privileged",
        "network",
        "devices",
        "tmpfs",
        "ulimits",
        "labels",
        "stop_grace",
        "depends_on",
        "uses",
        "ports",
        "health",
        "resources",
        "rollout",
        "placement",
        "volumes",
        "secrets",
        "hooks",
        "environments",
    ],
    later: &[
        (
            "files",
            "put the file into the image, or pass its content in `env`; what is secret under `[[secrets]]`",
        ),
        ("scale", "set `replicas`, or use `pith scale`"),
        (
            "security_opt",
            "only `privileged`, `cap_add` and `[[devices]]` widen what a container may do",
        ),
        ("pid", "containers have their own process namespace"),
        ("ipc", "containers have their own IPC namespace"),
        ("sysctls", ""),
        ("extra_hosts", "services are reachable by their names"),
        ("dns", ""),
    ],
    elsewhere: &[
        ("environment", "did you mean `env`?"),
        ("healthcheck", "did you mean `[health.readiness]`?"),
        ("restart", "instances are always started again; remove the line"),
        ("deploy", "did you mean `[rollout]` and `[resources]`?"),
        ("network_mode", "did you mean `network = \"host\"`?"),
        ("host_network", "did you mean `network = \"host\"`?"),
        ("device", "did you mean `[[devices]]`?"),
        ("port", "did you mean `[[ports]]`?"),
        ("archive", "did you mean `[source]`, with `archive` and `sha256` below it?"),
        ("secret", "did you mean `[[secrets]]`?"),
        ("volume", "did you mean `[[volumes]]`?"),
        ("networks", "each service has its own network; remove the line"),
        ("container_name", "did you mean `name`?"),
        ("stop_grace_period", "did you mean `stop_grace`?"),
    ],
};

/// Image, archive, spec and places; none when a name is missing or not one (which is among the problems then).
pub(super) fn read(
    root: &Table<'_>,
    problems: &mut Problems<'_>,
) -> Option<(Option<String>, Option<ArchiveSource>, ServiceSpec, Places)> {
    let name = read_name(root, problems);
    let mut places = Places::default();
    if let Some(item) = root.get("name") {
        places.name = item.span.clone();
    }
    let image = root.get("image").and_then(|item| read_image(item, problems));
    let archive = source::read(root, problems);
    let scheduling = read_scheduling(root, problems);
    let container = container::read(root, problems);
    let bounds = Millis(0)..=MAX_STOP_GRACE;
    let stop_grace = root.duration("stop_grace", DEFAULT_STOP_GRACE, bounds, problems);
    places.dependencies = read_dependencies(root, name.as_ref(), problems);
    let uses = read_names(root.get("uses"), problems);
    let (ports, listens) = ports::read(root.get("ports"), problems);
    places.listens = listens;
    let health = health::read(root.get("health"), &ports, problems);
    let resources = placing::read_resources(root.get("resources"), problems);
    let rollout = rollout::read(root.get("rollout"), problems);
    let placement = placing::read_placement(root.get("placement"), problems);
    let (volumes, paths) = volumes::read(root.get("volumes"), &container.tmpfs, problems);
    let inside = |path: &String| path.trim_end_matches('/').to_owned();
    let mounted = volumes.iter().map(|v| &v.path).chain(paths.iter().map(|p| &p.path));
    let mounted = mounted.chain(container.tmpfs.keys()).map(inside).collect();
    let secrets = secrets::read(root.get("secrets"), mounted, problems);
    let host = host::read(root, paths, &container.cap_drop, &ports, problems);
    let hooks = hooks::read(root.get("hooks"), problems);
    if let Some(why) = why_one_at_a_time(&volumes, &host) {
        rollout::refuse_two_sets(root.get("rollout"), &rollout, why, problems);
    }
    let spec = ServiceSpec {
        name: name?,
        scheduling,
        container,
        stop_grace,
        depends_on: places.dependencies.keys().cloned().collect(),
        uses: uses.into_keys().collect::<BTreeSet<_>>(),
        ports,
        health,
        resources,
        rollout,
        placement,
        volumes,
        secrets,
        host,
        hooks,
    };
    Some((image, archive, spec, places))
}

/// What keeps a second instance from running beside the first on a node, with the mend.
fn why_one_at_a_time(volumes: &[Volume], host: &HostAccess) -> Option<(String, &'static str)> {
    let mark = "use `strategy = \"rolling\"` or \"recreate\", or mark the volume `shared = true`";
    if let Some(volume) = volumes.iter().find(|volume| !volume.read_only && !volume.shared) {
        return Some((format!("volume `{}` has one writer", volume.name), mark));
    }
    if let Some(path) = host.paths.iter().find(|path| !path.read_only && !path.shared) {
        return Some((format!("the host path {} has one writer", path.host), mark));
    }
    let mend = "use `strategy = \"rolling\"` or \"recreate\"";
    host.network.then(|| ("the node's network has each port once".to_owned(), mend))
}

fn read_name(root: &Table<'_>, problems: &mut Problems<'_>) -> Option<ServiceName> {
    let Some(item) = root.get("name") else {
        let message = "missing key `name`".to_owned();
        problems.add(&(0..0), "name", message, "expected the service's name").help =
            Some("add a first line such as: name = \"web\"".to_owned());
        return None;
    };
    item.parsed(problems)
}

fn read_image(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = item.text(problems)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
    let name = text.split('@').next().unwrap_or_default();
    if text.len() <= MAX_IMAGE_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && text.chars().all(plain)
        && !text.ends_with(['/', ':', '@'])
    {
        return Some(text.to_owned());
    }
    item.invalid("expected an image such as \"registry.local:5000/web:v2\"", problems);
    None
}

fn read_scheduling(root: &Table<'_>, problems: &mut Problems<'_>) -> Scheduling {
    if let (Some(_), Some(item)) = (root.get("replicas"), root.get("per_node")) {
        let message = "`replicas` and `per_node` exclude each other".to_owned();
        problems.add(&item.key, "per_node", message, "remove one of the two").help = Some(
            "`replicas` counts over the whole fleet, `per_node` on every node that fits".to_owned(),
        );
    }
    if let Some(item) = root.get("per_node") {
        let count = item.number(0..=MAX_INSTANCES_PER_NODE, problems);
        return Scheduling::PerNode(count.unwrap_or(DEFAULT_REPLICAS));
    }
    Scheduling::Replicas(root.number("replicas", DEFAULT_REPLICAS, 0..=MAX_REPLICAS, problems))
}

fn read_dependencies(
    root: &Table<'_>,
    name: Option<&ServiceName>,
    problems: &mut Problems<'_>,
) -> BTreeMap<ServiceName, Range<usize>> {
    let dependencies = read_names(root.get("depends_on"), problems);
    if let Some((name, span)) = name.and_then(|name| dependencies.get_key_value(name)) {
        let message = format!("`{name}` depends on itself");
        problems.add(span, "depends_on", message, "a cycle: it would never start").help =
            Some("remove it; a service that calls itself may be named in `uses`".to_owned());
    }
    dependencies
}

/// A list of service names, each once, with its place.
fn read_names(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> BTreeMap<ServiceName, Range<usize>> {
    let mut names = BTreeMap::new();
    let list = item.and_then(|item| item.list("a list of service names", problems));
    for item in list.unwrap_or_default() {
        let Some(name) = item.parsed::<ServiceName>(problems) else { continue };
        let span = item.span.clone();
        if names.insert(name, span).is_some() {
            item.invalid("named twice", problems);
        }
    }
    names
}
