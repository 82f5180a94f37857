//! What a service asks of its node: `privileged`, `cap_add`, `network` and `[[devices]]`. Host paths stand under
//! `[[volumes]]` ([`super::placing`]).

use std::collections::BTreeSet;

use super::container::{read_capabilities, read_path};
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::spec::{Device, HostAccess, HostPath, Port};

/// Devices of one service.
const MAX_DEVICES: usize = 32;
/// Where devices are.
const DEVICES_ROOT: &str = "/dev/";
const DEFAULT_PERMISSIONS: &str = "rw";

const DEVICE_KEYS: Keys = Keys {
    known: &["path", "target", "permissions"],
    later: &[],
    elsewhere: &[
        ("name", "did you mean `path`?"),
        ("source", "did you mean `path`?"),
        ("host", "did you mean `path`?"),
        ("mode", "did you mean `permissions`?"),
    ],
};

pub(super) fn read(
    root: &Table<'_>,
    paths: Vec<HostPath>,
    dropped: &BTreeSet<String>,
    ports: &[Port],
    problems: &mut Problems<'_>,
) -> HostAccess {
    let capabilities = read_capabilities(root.get("cap_add"), problems);
    if let (Some(item), Some(both)) =
        (root.get("cap_add"), capabilities.iter().find(|name| dropped.contains(*name)))
    {
        item.invalid(format!("`{both}` is in `cap_drop` too"), problems);
    }
    HostAccess {
        privileged: root.switch("privileged", false, problems),
        network: root.get("network").is_some_and(|item| read_network(item, ports, problems)),
        capabilities,
        devices: read_devices(root.get("devices"), problems),
        paths,
    }
}

/// Only `"host"` can be written, and only by a service without ports: the proxy has no address to pass requests to.
fn read_network(item: &Item<'_>, ports: &[Port], problems: &mut Problems<'_>) -> bool {
    let Some(text) = item.text(problems) else { return false };
    if text != "host" {
        item.invalid("expected \"host\"; without the key a service has its own network", problems);
        return false;
    }
    if !ports.is_empty() {
        let label = "the proxy cannot own ports of a service that is in the node's network";
        item.invalid(label, problems).help = Some(
            "remove `[[ports]]`: the service opens its ports on the node itself, one instance per node, and nothing \
             holds requests while it is replaced"
                .to_owned(),
        );
    }
    true
}

fn read_devices(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Vec<Device> {
    let mut devices = Vec::<Device>::new();
    let Some(item) = item else { return devices };
    let items = item.list("tables, each under `[[devices]]`", problems).unwrap_or_default();
    if items.len() > MAX_DEVICES {
        item.invalid(format!("at most {MAX_DEVICES} devices"), problems);
        return devices;
    }
    for item in &items {
        if let Some(path) = item.as_text() {
            let message = format!("wrong type for `{}`", item.path);
            problems.add(&item.span, &item.path, message, "expected a table").help =
                Some(format!("write [[devices]] and below it: path = {path:?}"));
            continue;
        }
        let Some(table) = item.table(&DEVICE_KEYS, problems) else { continue };
        let Some(device) = read_device(&table, problems) else { continue };
        if devices.iter().any(|other| other.target == device.target) {
            let at = table.get("target").or_else(|| table.get("path"));
            if let Some(item) = at {
                item.invalid("another device is mapped there already", problems);
            }
        }
        devices.push(device);
    }
    devices
}

fn read_device(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Device> {
    let Some(item) = table.get("path") else {
        let key = format!("{}.path", table.path);
        let message = format!("missing key `{key}`");
        let label = "expected the device on the node, such as path = \"/dev/ttyUSB0\"";
        problems.add(&table.span, &key, message, label);
        return None;
    };
    let path = read_path(item, problems)?;
    if !path.starts_with(DEVICES_ROOT) || path.len() == DEVICES_ROOT.len() {
        item.invalid("expected a device below /dev, such as \"/dev/ttyUSB0\"", problems);
        return None;
    }
    let target = match table.get("target") {
        Some(item) => read_path(item, problems)?,
        None => path.clone(),
    };
    let permissions = match table.get("permissions") {
        Some(item) => read_permissions(item, problems)?,
        None => DEFAULT_PERMISSIONS.to_owned(),
    };
    Some(Device { path, target, permissions })
}

fn read_permissions(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = item.text(problems)?;
    let right = |c: char| "rwm".contains(c) && text.matches(c).count() == 1;
    if !text.is_empty() && text.chars().all(right) {
        return Some(text.to_owned());
    }
    item.invalid("expected of r (read), w (write) and m (make its node), such as \"rw\"", problems);
    None
}
