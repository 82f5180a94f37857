//! `[environments.NAME]`: the same keys once more, laid over the rest of the file. Tables merge key by key; everything
//! else, lists included, takes the place of what was there.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use super::{MAX_ENVIRONMENTS, Places};
use super::{service, strategies};
use crate::id::EnvironmentName;
use crate::spec::ServiceSpec;

const ENVIRONMENTS: &str = "environments";
/// One release is one image under one name, wherever it runs.
const SAME_EVERYWHERE: [(&str, &str); 4] = [
    ("name", "a service has one name in every environment"),
    ("image", "every environment runs the very same release; deploy another image with --image"),
    ("source", "every environment runs the very same release"),
    (ENVIRONMENTS, "an overlay has no overlays"),
];

/// What an environment makes of the file.
pub(super) type Overlaid = BTreeMap<EnvironmentName, (ServiceSpec, Places)>;

/// Reads every overlay of a file whose own keys are right.
pub(super) fn read<'t>(
    tree: &DeTable<'t>,
    root: &Table<'_>,
    problems: &mut Problems<'_>,
) -> Overlaid {
    let Some(item) = root.get(ENVIRONMENTS) else { return Overlaid::new() };
    let what = "tables, each under `[environments.NAME]`";
    let entries = item.entries(what, problems).unwrap_or_default();
    if entries.len() > MAX_ENVIRONMENTS {
        item.invalid(format!("at most {MAX_ENVIRONMENTS} environments"), problems);
        return Overlaid::new();
    }
    let mut overlaid = Overlaid::new();
    for entry in &entries {
        let name = match entry.name.parse::<EnvironmentName>() {
            Ok(name) => name,
            Err(error) => {
                let message = format!("`{}` names no environment", entry.name.escape_debug());
                problems.add(&entry.key, &entry.path, message, error.to_string());
                continue;
            }
        };
        if let Some(read) = read_one(tree, entry, problems) {
            overlaid.insert(name, read);
        }
    }
    overlaid
}

fn read_one<'t>(
    tree: &DeTable<'t>,
    entry: &Item<'_>,
    problems: &mut Problems<'_>,
) -> Option<(ServiceSpec, Places)> {
    let own = entry.table(&Keys::any(), problems)?;
    let before = problems.found.len();
    for (key, why) in SAME_EVERYWHERE {
        if let Some(item) = own.get(key) {
            let message = format!("`{}` cannot stand in an overlay", item.path);
            problems.add(&item.key, &item.path, message, why);
        }
    }
    let overlay = tree.get(ENVIRONMENTS).and_then(|value| value.get_ref().as_table());
    let overlay = overlay.and_then(|table| table.get(entry.name))?.get_ref().as_table()?;
    let mut merged = tree.clone();
    merged.remove(ENVIRONMENTS);
    for (one, other) in [("replicas", "per_node"), ("per_node", "replicas")] {
        if overlay.contains_key(one) {
            merged.remove(other);
        }
    }
    drop_other_strategy(&mut merged, overlay);
    merge(&mut merged, overlay);
    let root = Table::root(&merged, &service::KEYS, problems);
    let read = service::read(&root, problems);
    let (_, _, spec, places) = read?;
    (problems.found.len() == before).then_some((spec, places))
}

/// An overlay that names a strategy has nothing of another one's keys.
fn drop_other_strategy(merged: &mut DeTable<'_>, overlay: &DeTable<'_>) {
    let rollout = overlay.get("rollout").and_then(|value| value.get_ref().as_table());
    if rollout.is_none_or(|rollout| !rollout.contains_key("strategy")) {
        return;
    }
    if let Some(DeValue::Table(rollout)) = merged.get_mut("rollout").map(Spanned::get_mut) {
        for key in strategies::BLUE_GREEN_KEYS.iter().chain(strategies::CANARY_KEYS) {
            rollout.remove(*key);
        }
    }
}

fn merge<'t>(into: &mut DeTable<'t>, from: &DeTable<'t>) {
    for (key, value) in from {
        let both = into.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut);
        match (both, value.get_ref()) {
            (Some(DeValue::Table(into)), DeValue::Table(from)) => merge(into, from),
            _ => {
                // The key is taken out first, so that a mistake is shown where the overlay stands.
                into.remove(key.get_ref().as_ref());
                into.insert(key.clone(), value.clone());
            }
        }
    }
}
