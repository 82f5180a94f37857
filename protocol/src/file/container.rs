//! The process inside the container: the keys that Compose has too.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::nearest;
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::SecretName;
use crate::spec::{Container, Ulimit};
use crate::units::Bytes;

/// Labels that begin so are ours.
pub(super) const RESERVED_LABELS: &str = "io.pith.";
/// Bytes of a key of `env` or `labels`.
const MAX_KEY_BYTES: usize = 256;

/// ulimits that Docker passes on (`docker run --ulimit`).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `capabilities(7)`, without `CAP_`.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const SECRET_KEYS: Keys = Keys { known: &["secret"], later: &[], elsewhere: &[] };
const ULIMIT_KEYS: Keys = Keys { known: &["soft", "hard"], later: &[], elsewhere: &[] };

pub(super) fn read(root: &Table<'_>, problems: &mut Problems<'_>) -> Container {
    let (env, secret_env) = read_env(root.get("env"), problems);
    Container {
        env,
        secret_env,
        entrypoint: root.get("entrypoint").and_then(|item| read_words(item, problems)),
        command: root.get("command").and_then(|item| read_words(item, problems)),
        user: root.get("user").and_then(|item| read_user(item, problems)),
        working_dir: root.get("working_dir").and_then(|item| read_path(item, problems)),
        read_only: root.switch("read_only", false, problems),
        init: root.switch("init", true, problems),
        cap_drop: read_capabilities(root.get("cap_drop"), problems),
        tmpfs: read_tmpfs(root.get("tmpfs"), problems),
        ulimits: read_ulimits(root.get("ulimits"), problems),
        labels: read_labels(root.get("labels"), problems),
    }
}

/// Plain variables, and those whose values are secrets: `NAME = { secret = "db" }`.
pub(super) fn read_env(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> (BTreeMap<String, String>, BTreeMap<String, SecretName>) {
    let entries = item.and_then(|item| item.entries("a table of strings", problems));
    let (mut env, mut secret_env) = (BTreeMap::new(), BTreeMap::new());
    for entry in entries.unwrap_or_default() {
        let inner = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let right = entry.name.len() <= MAX_KEY_BYTES
            && entry.name.starts_with(first)
            && entry.name.chars().all(inner);
        if !right {
            let message = format!("`{}` is not the name of a variable", entry.name.escape_debug());
            let rule = "letters, digits and `_`, not starting with a digit";
            problems.add(&entry.key, &entry.path, message, rule);
        }
        if entry.is_table() {
            let table = entry.table(&SECRET_KEYS, problems);
            let secret = table.as_ref().and_then(|table| table.get("secret"));
            if secret.is_none() {
                entry.invalid("expected a string or { secret = \"…\" }", problems);
            }
            if let Some(name) = secret.and_then(|item| item.parsed(problems)) {
                secret_env.insert(entry.name.to_owned(), name);
            }
        } else if let Some(value) = entry.text(problems) {
            env.insert(entry.name.to_owned(), value.to_owned());
        }
    }
    (env, secret_env)
}

/// A command and its arguments: a list, for no shell splits it.
pub(super) fn read_words(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    if let Some(line) = item.as_text() {
        let label = "expected a list of strings, found a string";
        let message = format!("wrong type for `{}`", item.path);
        let words: Vec<String> =
            line.split_whitespace().take(20).map(|word| format!("{word:?}")).collect();
        problems.add(&item.span, &item.path, message, label).help =
            Some(format!("no shell splits it; write [{}]", words.join(", ")));
        return None;
    }
    let words = item.texts(problems)?;
    if words.is_empty() {
        item.invalid(
            "expected at least one element; leave the key out to keep the image's",
            problems,
        );
        return None;
    }
    Some(words)
}

fn read_user(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = item.text(problems)?;
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    if part(user) && group.is_none_or(part) {
        return Some(text.to_owned());
    }
    item.invalid("expected a user and perhaps a group, such as \"1000:1000\" or \"app\"", problems);
    None
}

/// An absolute, plain path inside the container.
pub(super) fn read_path(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = item.text(problems)?;
    if is_plain_path(text) {
        return Some(text.to_owned());
    }
    item.invalid("expected an absolute path without `..` and `:`, such as \"/data\"", problems);
    None
}

fn is_plain_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains([':', ',', '\n'])
        && !text.split('/').any(|part| part == ".." || part == ".")
}

pub(super) fn read_capabilities(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let list = item.and_then(|item| item.list("a list of strings", problems));
    for item in list.unwrap_or_default() {
        let Some(text) = item.text(problems) else { continue };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if CAPABILITIES.contains(&name) {
            names.insert(name.to_owned());
            continue;
        }
        let meant = CAPABILITIES
            .iter()
            .find(|known| nearest(name, std::iter::once(known.to_lowercase().as_str())).is_some());
        let label = meant.map_or_else(
            || "expected `ALL` or a capability such as `NET_RAW`".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        item.invalid(label, problems);
    }
    names
}

/// As in Compose: `"/tmp"`, `["/tmp", "/run:size=16Mi"]`; or a table of path to size.
fn read_tmpfs(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Option<Bytes>> {
    let mut mounts = BTreeMap::new();
    let Some(item) = item else { return mounts };
    if item.is_table() {
        for entry in item.entries("a table", problems).unwrap_or_default() {
            if !is_plain_path(entry.name) {
                let message = format!("`{}` is not a path", entry.name.escape_debug());
                problems.add(&entry.key, &entry.path, message, "expected an absolute path");
            }
            let size = entry.parsed::<Bytes>(problems);
            mounts.insert(entry.name.to_owned(), size);
        }
        return mounts;
    }
    let list = match item.as_text() {
        Some(_) => vec![item.clone()],
        None => item.list("a path or a list of paths", problems).unwrap_or_default(),
    };
    for item in list {
        let Some(text) = item.text(problems) else { continue };
        let (path, options) = text.split_once(':').map_or((text, None), |(p, o)| (p, Some(o)));
        let size = options.map(|options| options.strip_prefix("size=").map(str::parse::<Bytes>));
        let size = match size {
            None => None,
            Some(Some(Ok(size))) => Some(size),
            Some(Some(Err(error))) => {
                item.invalid(error.to_string(), problems);
                continue;
            }
            Some(None) => {
                item.invalid(
                    "expected `size=` after the colon, such as \"/run:size=16Mi\"",
                    problems,
                );
                continue;
            }
        };
        if !is_plain_path(path) {
            item.invalid("expected an absolute path, such as \"/tmp\"", problems);
        } else if mounts.insert(path.to_owned(), size).is_some() {
            item.invalid("named twice", problems);
        }
    }
    mounts
}

fn read_ulimits(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> BTreeMap<String, Ulimit> {
    let entries = item.and_then(|item| item.entries("a table of limits", problems));
    let mut limits = BTreeMap::new();
    for entry in entries.unwrap_or_default() {
        if !ULIMITS.contains(&entry.name) {
            let message = format!("unknown ulimit `{}`", entry.name.escape_debug());
            let label = match nearest(entry.name, ULIMITS.into_iter()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("expected one of {}", ULIMITS.join(", ")),
            };
            problems.add(&entry.key, &entry.path, message, label);
        }
        if let Some(limit) = read_ulimit(&entry, problems) {
            limits.insert(entry.name.to_owned(), limit);
        }
    }
    limits
}

fn read_ulimit(entry: &Item<'_>, problems: &mut Problems<'_>) -> Option<Ulimit> {
    let rule = "expected a number from 0, or -1 for no limit";
    if let Some(both) = entry.as_integer() {
        if both < -1 {
            entry.invalid(rule, problems);
        }
        return Some(Ulimit { soft: both, hard: both });
    }
    if !entry.is_table() {
        entry.wrong_type("a number or { soft = …, hard = … }", problems);
        return None;
    }
    let table = entry.table(&ULIMIT_KEYS, problems)?;
    let (Some(soft), Some(hard)) = (table.get("soft"), table.get("hard")) else {
        entry.invalid("both `soft` and `hard` are needed, or one number for both", problems);
        return None;
    };
    for item in [soft, hard] {
        match item.as_integer() {
            None => item.wrong_type("a whole number", problems),
            Some(number) if number < -1 => _ = item.invalid(rule, problems),
            Some(_) => {}
        }
    }
    let limit = Ulimit { soft: soft.as_integer()?, hard: hard.as_integer()? };
    let unlimited = |limit: i64| if limit == -1 { i64::MAX } else { limit };
    if unlimited(limit.soft) > unlimited(limit.hard) {
        soft.invalid("`soft` is above `hard`", problems);
    }
    Some(limit)
}

/// Labels of containers or nodes; ours are refused.
pub(super) fn read_labels(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, String> {
    let entries = item.and_then(|item| item.entries("a table of strings", problems));
    let mut labels = BTreeMap::new();
    for entry in entries.unwrap_or_default() {
        let ours = entry.name.starts_with(RESERVED_LABELS);
        let plain = |c: char| c.is_ascii_graphic() && c != '=';
        if ours {
            let message = format!("label `{}` is reserved", entry.name.escape_debug());
            let rule = format!("labels that begin with `{RESERVED_LABELS}` are set by the agent");
            problems.add(&entry.key, &entry.path, message, rule);
        } else if entry.name.is_empty()
            || entry.name.len() > MAX_KEY_BYTES
            || !entry.name.chars().all(plain)
        {
            let message = format!("`{}` is not the name of a label", entry.name.escape_debug());
            problems.add(&entry.key, &entry.path, message, "printable characters without `=`");
        }
        if let Some(value) = entry.text(problems) {
            labels.insert(entry.name.to_owned(), value.to_owned());
        }
    }
    labels
}
