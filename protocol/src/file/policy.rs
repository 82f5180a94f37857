//! A node's own file, `/etc/pith/policy.toml`: read like a service file, and refused whole where anything is off.

use super::container::{read_capabilities, read_path};
use super::problem::{FileError, Problems, Source};
use super::read_tree;
use super::tree::{Item, Keys, Table};
use crate::id::ServiceName;
use crate::policy::{Allowed, Instead, NodePolicy, normalised};

/// A policy larger than this is refused: a node tells it in its hello.
const MAX_POLICY_BYTES: usize = 16 * 1024;
/// Where devices are.
const DEVICES_ROOT: &str = "/dev/";

const ELSEWHERE: &[(&str, &str)] = &[
    ("network", "did you mean `host_network = true`?"),
    ("volumes", "did you mean `host_paths`?"),
    ("paths", "did you mean `host_paths`?"),
    ("cap_add", "did you mean `capabilities`?"),
    ("service", "did you mean `[services.NAME]`?"),
];
const KEYS: Keys = Keys {
    known: &[
        "privileged",
        "host_network",
        "exec",
        "host_paths",
        "devices",
        "capabilities",
        "services",
    ],
    later: &[],
    elsewhere: ELSEWHERE,
};
const SERVICE_KEYS: Keys = Keys {
    known: &["privileged", "host_network", "exec", "host_paths", "devices", "capabilities"],
    later: &[],
    elsewhere: ELSEWHERE,
};

/// Reads a policy. `source_name` is what messages call it, usually its path.
///
/// # Errors
/// With every problem found, in the order of the text.
pub fn parse(source_name: &str, text: &str) -> Result<NodePolicy, FileError> {
    let source = Source { name: source_name.to_owned(), text: text.to_owned() };
    let mut problems = Problems::new(&source);
    let Some(tree) = read_tree(text, MAX_POLICY_BYTES, &mut problems) else {
        return Err(FileError::in_order(problems.found));
    };
    let root = Table::root(tree.get_ref(), &KEYS, &mut problems);
    let every = read(&root, &mut problems);
    let mut policy = NodePolicy { every: complete(every), ..NodePolicy::default() };
    let what = "tables, each under `[services.NAME]`";
    let services = root.get("services").and_then(|item| item.entries(what, &mut problems));
    for entry in services.unwrap_or_default() {
        let name = match entry.name.parse::<ServiceName>() {
            Ok(name) => name,
            Err(error) => {
                let message = format!("`{}` names no service", entry.name.escape_debug());
                problems.add(&entry.key, &entry.path, message, error.to_string());
                continue;
            }
        };
        if let Some(table) = entry.table(&SERVICE_KEYS, &mut problems) {
            policy.services.insert(name, read(&table, &mut problems));
        }
    }
    match problems.found.is_empty() {
        true => Ok(policy),
        false => Err(FileError::in_order(problems.found)),
    }
}

fn read(table: &Table<'_>, problems: &mut Problems<'_>) -> Instead {
    let mut switch = |name| table.get(name).and_then(|item| item.switch(problems));
    let (privileged, host_network, exec) =
        (switch("privileged"), switch("host_network"), switch("exec"));
    let mut paths = |name, read: fn(&Item<'_>, &mut Problems<'_>) -> Option<String>| {
        let items = table.get(name)?.list("a list of paths", problems)?;
        Some(items.iter().filter_map(|item| read(item, problems)).collect())
    };
    Instead {
        privileged,
        host_network,
        exec,
        host_paths: paths("host_paths", read_host_path),
        devices: paths("devices", read_device),
        capabilities: table.get("capabilities").map(|item| read_capabilities(Some(item), problems)),
    }
}

fn read_host_path(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let path = read_path(item, problems)?;
    if path.contains('*') {
        item.invalid("a path allows everything below it; `*` stands for nothing here", problems);
        return None;
    }
    Some(normalised(&path))
}

fn read_device(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let path = normalised(&read_path(item, problems)?);
    if !path.starts_with(DEVICES_ROOT) {
        let label = "expected a device below /dev, such as \"/dev/ttyUSB0\" or \"/dev/ttyACM*\"";
        item.invalid(label, problems);
        return None;
    }
    Some(path)
}

/// What is not written is not allowed.
fn complete(written: Instead) -> Allowed {
    let Instead { privileged, host_network, exec, host_paths, devices, capabilities } = written;
    Allowed {
        privileged: privileged.unwrap_or_default(),
        host_network: host_network.unwrap_or_default(),
        exec: exec.unwrap_or_default(),
        host_paths: host_paths.unwrap_or_default(),
        devices: devices.unwrap_or_default(),
        capabilities: capabilities.unwrap_or_default(),
    }
}
