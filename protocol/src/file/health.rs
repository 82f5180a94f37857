//! `[health]`: probes with Kubernetes' defaults.

use super::ports;
use super::problem::Problems;
use super::service::MAX_SPAN;
use super::tree::{Item, Keys, Table};
use crate::spec::{Check, Health, Port, Probe};
use crate::units::Millis;

const DEFAULT_PERIOD: Millis = Millis::from_secs(10);
const DEFAULT_TIMEOUT: Millis = Millis::from_secs(1);
const DEFAULT_FAILURE_THRESHOLD: u32 = 3;
const MAX_THRESHOLD: u32 = 10_000;
/// Probing faster than this is load, not health.
const MIN_PERIOD: Millis = Millis(10);
/// Bytes of a path that is asked for.
const MAX_PATH_BYTES: usize = 1024;

const KEYS: Keys = Keys {
    known: &["startup", "readiness", "liveness"],
    later: &[],
    elsewhere: &[("http", "did you mean `[health.readiness]` with `http = …`?")],
};
const PROBE_KEYS: Keys = Keys {
    known: &[
        "http",
        "tcp",
        "exec",
        "initial_delay",
        "period",
        "timeout",
        "success_threshold",
        "failure_threshold",
    ],
    later: &[("grpc", "use `tcp = { port = … }`")],
    elsewhere: &[
        ("interval", "did you mean `period`?"),
        ("retries", "did you mean `failure_threshold`?"),
        ("start_period", "did you mean `[health.startup]`?"),
        ("http_get", "did you mean `http = { path = …, port = … }`?"),
        ("test", "did you mean `exec`?"),
    ],
};
const HTTP_KEYS: Keys = Keys {
    known: &["path", "port"],
    later: &[("scheme", "probes speak plain HTTP"), ("headers", ""), ("host", "")],
    elsewhere: &[],
};
const TCP_KEYS: Keys = Keys { known: &["port"], later: &[], elsewhere: &[] };

/// Which probe it is: two of the three cannot count successes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Readiness,
    StartupOrLiveness,
}

pub(super) fn read(item: Option<&Item<'_>>, ports: &[Port], problems: &mut Problems<'_>) -> Health {
    let Some(table) = item.and_then(|item| item.table(&KEYS, problems)) else {
        return Health::default();
    };
    let mut probe = |name: &str, purpose| {
        let item = table.get(name)?;
        let table = item.table(&PROBE_KEYS, problems)?;
        read_probe(item, &table, purpose, ports, problems)
    };
    Health {
        startup: probe("startup", Purpose::StartupOrLiveness),
        readiness: probe("readiness", Purpose::Readiness),
        liveness: probe("liveness", Purpose::StartupOrLiveness),
    }
}

fn read_probe(
    item: &Item<'_>,
    table: &Table<'_>,
    purpose: Purpose,
    ports: &[Port],
    problems: &mut Problems<'_>,
) -> Option<Probe> {
    let check = read_check(item, table, ports, problems);
    let (period, timeout) = (MIN_PERIOD..=MAX_SPAN, Millis(1)..=MAX_SPAN);
    let failures = 1..=MAX_THRESHOLD;
    let success_threshold = table.number("success_threshold", 1, 1..=MAX_THRESHOLD, problems);
    if let (Purpose::StartupOrLiveness, true, Some(item)) =
        (purpose, success_threshold != 1, table.get("success_threshold"))
    {
        item.invalid("must be 1 for startup and liveness", problems);
    }
    let initial_delay = table.duration("initial_delay", Millis(0), Millis(0)..=MAX_SPAN, problems);
    let period = table.duration("period", DEFAULT_PERIOD, period, problems);
    let timeout = table.duration("timeout", DEFAULT_TIMEOUT, timeout, problems);
    let failure_threshold =
        table.number("failure_threshold", DEFAULT_FAILURE_THRESHOLD, failures, problems);
    let probe = |check| Probe {
        check,
        initial_delay,
        period,
        timeout,
        success_threshold,
        failure_threshold,
    };
    check.map(probe)
}

fn read_check(
    item: &Item<'_>,
    table: &Table<'_>,
    ports: &[Port],
    problems: &mut Problems<'_>,
) -> Option<Check> {
    let checks: Vec<&Item<'_>> =
        ["http", "tcp", "exec"].into_iter().filter_map(|name| table.get(name)).collect();
    match checks.as_slice() {
        [] => {
            let message = format!("`{}` says when to ask and not what", item.path);
            problems
                .add(&item.span, &item.path, message, "one of `http`, `tcp`, `exec` is missing")
                .help =
                Some("add for example: http = { path = \"/ready\", port = 8080 }".to_owned());
            None
        }
        [check] => match check.name {
            "http" => read_http(check, ports, problems),
            "tcp" => {
                let table = check.table(&TCP_KEYS, problems)?;
                Some(Check::Tcp { port: read_port(check, &table, ports, problems)? })
            }
            _ => read_exec(check, problems),
        },
        [_, second, ..] => {
            let message = format!("`{}` asks in two ways", item.path);
            let label = "one of `http`, `tcp`, `exec` is enough";
            problems.add(&second.key, &second.path, message, label);
            None
        }
    }
}

fn read_http(item: &Item<'_>, ports: &[Port], problems: &mut Problems<'_>) -> Option<Check> {
    let table = item.table(&HTTP_KEYS, problems)?;
    let path = match table.get("path") {
        None => Some("/".to_owned()),
        Some(item) => read_path(item, problems),
    };
    let port = read_port(item, &table, ports, problems);
    Some(Check::Http { path: path?, port: port? })
}

fn read_path(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = item.text(problems)?;
    if !text.starts_with('/') {
        item.invalid("must begin with `/`", problems).help =
            Some(format!("write \"/{}\"", text.trim_start_matches('/').escape_debug()));
        return None;
    }
    if text.len() > MAX_PATH_BYTES || !text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        item.invalid("expected a path of printable characters, percent-encoded", problems);
        return None;
    }
    Some(text.to_owned())
}

/// The probe's port; without one the first port's target.
fn read_port(
    item: &Item<'_>,
    table: &Table<'_>,
    ports: &[Port],
    problems: &mut Problems<'_>,
) -> Option<u16> {
    if let Some(item) = table.get("port") {
        return ports::read_number(item, problems);
    }
    if let Some(first) = ports.first() {
        return Some(first.target);
    }
    let message = format!("missing key `{}.port`", item.path);
    problems.add(&item.span, &item.path, message, "the service has no port to take it from");
    None
}

fn read_exec(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Check> {
    let command = item.texts(problems)?;
    if command.first().is_none_or(String::is_empty) {
        item.invalid("expected a command and its arguments", problems);
        return None;
    }
    problems.warn(
        item,
        "an exec probe starts a process in the container each time",
        "costs CPU and flash writes; `http` or `tcp` cost next to nothing",
    );
    Some(Check::Exec { command })
}
