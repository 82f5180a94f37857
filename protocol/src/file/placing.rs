//! `[resources]`, `[placement]` and `[[volumes]]`: what a service needs of a node.

use std::collections::{BTreeMap, BTreeSet};

use super::container::{read_labels, read_path};
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::{NodeName, VolumeName};
use crate::spec::{Amounts, Placement, Resources, Volume};
use crate::units::{Bytes, MilliCpu};

/// Docker refuses a memory limit below this.
const MIN_MEMORY_LIMIT: Bytes = Bytes(6 << 20);
/// Volumes of one service.
const MAX_VOLUMES: usize = 32;

const HOST_PATH: &str = "use a named volume: the data stays on the node and in Docker's care";

const RESOURCE_KEYS: Keys = Keys {
    known: &["requests", "limits"],
    later: &[],
    elsewhere: &[
        ("memory", "write it under `requests` or `limits`"),
        ("cpu", "write it under `requests` or `limits`"),
        ("reservations", "did you mean `requests`?"),
    ],
};
const AMOUNT_KEYS: Keys = Keys {
    known: &["memory", "cpu"],
    later: &[("storage", ""), ("pids", "use `ulimits = { nproc = … }`")],
    elsewhere: &[("cpus", "did you mean `cpu`?"), ("mem", "did you mean `memory`?")],
};
const PLACEMENT_KEYS: Keys = Keys {
    known: &["nodes", "spread"],
    later: &[],
    elsewhere: &[
        ("names", "did you mean `nodes = [\"opi-2\"]`?"),
        ("labels", "did you mean `nodes = { zone = \"edge\" }`?"),
    ],
};
const VOLUME_KEYS: Keys = Keys {
    known: &["name", "path", "read_only", "shared"],
    later: &[
        ("source", HOST_PATH),
        ("host", HOST_PATH),
        ("host_path", HOST_PATH),
        ("driver", "volumes are Docker's local ones"),
        ("size", ""),
    ],
    elsewhere: &[("target", "did you mean `path`?"), ("mount", "did you mean `path`?")],
};

pub(super) fn read_resources(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Resources {
    let Some(table) = item.and_then(|item| item.table(&RESOURCE_KEYS, problems)) else {
        return Resources::default();
    };
    let mut part = |name| {
        let table = table.get(name)?.table(&AMOUNT_KEYS, problems)?;
        Some((read_amounts(&table, problems), table))
    };
    let requests = part("requests").map(|(amounts, _)| amounts).unwrap_or_default();
    let Some((limits, written)) = part("limits") else {
        return Resources { requests, ..Resources::default() };
    };
    if let (Some(item), Some(limit)) = (written.get("memory"), limits.memory) {
        if limit < MIN_MEMORY_LIMIT {
            item.invalid(format!("Docker allows no limit below {MIN_MEMORY_LIMIT}"), problems);
        } else if let Some(request) = requests.memory.filter(|request| *request > limit) {
            item.invalid(format!("the limit is below the request of {request}"), problems);
        }
    }
    if let (Some(item), Some(limit)) = (written.get("cpu"), limits.cpu)
        && let Some(request) = requests.cpu.filter(|request| *request > limit)
    {
        item.invalid(format!("the limit is below the request of {request}"), problems);
    }
    Resources { requests, limits }
}

/// As Kubernetes reads them: a string, or a plain number (bytes, cores).
fn read_amounts(table: &Table<'_>, problems: &mut Problems<'_>) -> Amounts {
    Amounts {
        memory: table.get("memory").and_then(|item| read_quantity(item, Bytes(0), problems)),
        cpu: table.get("cpu").and_then(|item| read_quantity(item, MilliCpu(0), problems)),
    }
}

fn read_quantity<T>(item: &Item<'_>, zero: T, problems: &mut Problems<'_>) -> Option<T>
where
    T: std::str::FromStr + PartialEq,
    T::Err: std::fmt::Display,
{
    let value = match item.as_number() {
        None => item.parsed::<T>(problems)?,
        Some(number) => match number.parse() {
            Ok(value) => value,
            Err(error) => {
                let error: T::Err = error;
                item.invalid(error.to_string(), problems);
                return None;
            }
        },
    };
    if value == zero {
        item.invalid("must be more than 0; leave it out for none", problems);
        return None;
    }
    Some(value)
}

pub(super) fn read_placement(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Placement {
    let Some(table) = item.and_then(|item| item.table(&PLACEMENT_KEYS, problems)) else {
        return Placement::default();
    };
    if let Some(item) = table.get("spread")
        && let Some(text) = item.text(problems)
        && text != "node"
    {
        let what = format!("spreading by `{}`", text.escape_debug());
        item.later(&what, "leave it out: instances are spread evenly over nodes", problems);
    }
    let Some(nodes) = table.get("nodes") else { return Placement::default() };
    if nodes.is_table() {
        return Placement { names: None, labels: read_labels(Some(nodes), problems) };
    }
    if !nodes.is_list() {
        nodes.wrong_type(
            "labels such as { zone = \"edge\" } or names such as [\"opi-2\"]",
            problems,
        );
        return Placement::default();
    }
    let items = nodes.list("a list of node names", problems).unwrap_or_default();
    if items.is_empty() {
        nodes.invalid("names no node: the service could run nowhere", problems);
    }
    let mut names = BTreeSet::new();
    for item in items {
        if let Some(name) = item.parsed::<NodeName>(problems)
            && !names.insert(name)
        {
            item.invalid("named twice", problems);
        }
    }
    Placement { names: Some(names), labels: BTreeMap::new() }
}

pub(super) fn read_volumes(
    item: Option<&Item<'_>>,
    tmpfs: &BTreeMap<String, Option<Bytes>>,
    problems: &mut Problems<'_>,
) -> Vec<Volume> {
    let mut volumes = Vec::<Volume>::new();
    let Some(item) = item else { return volumes };
    let items = item.list("tables, each under `[[volumes]]`", problems).unwrap_or_default();
    if items.len() > MAX_VOLUMES {
        item.invalid(format!("at most {MAX_VOLUMES} volumes"), problems);
        return volumes;
    }
    for item in &items {
        let Some(table) = item.table(&VOLUME_KEYS, problems) else { continue };
        let Some(volume) = read_volume(&table, problems) else { continue };
        let same = |path: &str| path.trim_end_matches('/') == volume.path.trim_end_matches('/');
        let taken = volumes.iter().any(|other| same(&other.path)) || tmpfs.keys().any(|p| same(p));
        if let (true, Some(item)) = (taken, table.get("path")) {
            item.invalid("something else is mounted there already", problems);
        }
        volumes.push(volume);
    }
    volumes
}

fn read_volume(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Volume> {
    for name in ["name", "path"] {
        if table.get(name).is_none() {
            let key = format!("{}.{name}", table.path);
            let message = format!("missing key `{key}`");
            let label = "expected `name` and `path`, such as name = \"data\", path = \"/data\"";
            problems.add(&table.span, &key, message, label);
        }
    }
    let name = table.get("name").and_then(|item| {
        if item.as_text().is_some_and(|text| text.starts_with(['/', '.', '~'])) {
            item.later("a host path", HOST_PATH, problems);
            return None;
        }
        item.parsed::<VolumeName>(problems)
    });
    let path = table.get("path").and_then(|item| {
        let path = read_path(item, problems)?;
        if path.trim_end_matches('/').is_empty() {
            item.invalid("a volume cannot hide the whole file system", problems);
            return None;
        }
        Some(path)
    });
    let read_only = table.switch("read_only", false, problems);
    let shared = table.switch("shared", false, problems);
    Some(Volume { name: name?, path: path?, read_only, shared })
}
