//! `[[volumes]]`: named ones, which Docker keeps, and paths of the node.

use std::collections::BTreeMap;

use super::container::read_path;
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::VolumeName;
use crate::spec::{HostPath, Volume};
use crate::units::Bytes;

/// Volumes of one service.
const MAX_VOLUMES: usize = 32;

const KEYS: Keys = Keys {
    known: &["name", "host", "path", "read_only", "shared"],
    later: &[("driver", "volumes are Docker's local ones"), ("size", "")],
    elsewhere: &[
        ("target", "did you mean `path`?"),
        ("mount", "did you mean `path`?"),
        ("source", "did you mean `host`?"),
        ("host_path", "did you mean `host`?"),
    ],
};

/// Named volumes and host paths.
pub(super) fn read(
    item: Option<&Item<'_>>,
    tmpfs: &BTreeMap<String, Option<Bytes>>,
    problems: &mut Problems<'_>,
) -> (Vec<Volume>, Vec<HostPath>) {
    let (mut volumes, mut paths) = (Vec::new(), Vec::new());
    let Some(item) = item else { return (volumes, paths) };
    let items = item.list("tables, each under `[[volumes]]`", problems).unwrap_or_default();
    if items.len() > MAX_VOLUMES {
        item.invalid(format!("at most {MAX_VOLUMES} volumes"), problems);
        return (volumes, paths);
    }
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let mut taken: Vec<String> = tmpfs.keys().map(|path| plain(path)).collect();
    for item in &items {
        let Some(table) = item.table(&KEYS, problems) else { continue };
        let Some((source, mount)) = read_one(&table, problems) else { continue };
        let inside = plain(&mount.path);
        if let (true, Some(item)) = (taken.contains(&inside), table.get("path")) {
            item.invalid("something else is mounted there already", problems);
        }
        taken.push(inside);
        let Mount { path, read_only, shared } = mount;
        match source {
            Source::Name(name) => volumes.push(Volume { name, path, read_only, shared }),
            Source::Host(host) => paths.push(HostPath { host, path, read_only, shared }),
        }
    }
    (volumes, paths)
}

enum Source {
    Name(VolumeName),
    Host(String),
}

struct Mount {
    path: String,
    read_only: bool,
    shared: bool,
}

fn read_one(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<(Source, Mount)> {
    let source = read_source(table, problems);
    if table.get("path").is_none() {
        missing(table, "path", problems);
    }
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
    Some((source?, Mount { path: path?, read_only, shared }))
}

fn read_source(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Source> {
    match (table.get("name"), table.get("host")) {
        (None, None) => {
            missing(table, "name", problems);
            None
        }
        (Some(_), Some(item)) => {
            let message = "`name` and `host` exclude each other".to_owned();
            let path = item.path.clone();
            problems.add(&item.key, &path, message, "remove one of the two").help =
                Some("`name` is a volume in Docker's care, `host` a path of the node".to_owned());
            None
        }
        (Some(item), None) => {
            if let Some(text) = item.as_text().filter(|text| text.starts_with(['/', '.', '~'])) {
                let label = "the name of a volume is no path";
                item.invalid(label, problems).help =
                    Some(format!("a path of the node is written host = {text:?}"));
                return None;
            }
            item.parsed::<VolumeName>(problems).map(Source::Name)
        }
        (None, Some(item)) => {
            let text = read_path(item, problems)?;
            let trimmed = text.trim_end_matches('/');
            Some(Source::Host(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
    }
}

fn missing(table: &Table<'_>, name: &str, problems: &mut Problems<'_>) {
    let key = format!("{}.{name}", table.path);
    let message = format!("missing key `{key}`");
    let label = "expected `name` and `path`, such as name = \"data\", path = \"/data\"";
    problems.add(&table.span, &key, message, label);
}
