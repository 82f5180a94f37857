//! `[resources]` and `[placement]`: what a service needs of a node.

use std::collections::{BTreeMap, BTreeSet};

use super::container::read_labels;
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::NodeName;
use crate::spec::{Amounts, Placement, Resources};
use crate::units::{Bytes, MilliCpu};

/// Docker refuses a memory limit below this.
const MIN_MEMORY_LIMIT: Bytes = Bytes(6 << 20);

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
