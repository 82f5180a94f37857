//! What the strategies need beside their name: blue-green, canary with its steps and analysis, and batches of nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::container::read_labels;
use super::problem::Problems;
use super::rollout::{ALL, read_share};
use super::service::MAX_SPAN;
use super::tree::{Item, Keys, Table};
use crate::id::NodeName;
use crate::spec::{
    Analysis, Batch, BlueGreen, Canary, CanaryNodes, CanaryStep, Cohort, Hold, Share, Strategy,
};
use crate::units::Millis;

/// Steps of one canary, and batches of one rollout.
const MAX_STEPS: usize = 50;
/// Bytes of a cookie's or header's name.
const MAX_TOKEN_BYTES: usize = 64;
const TEN_THOUSAND: u32 = 10_000;

/// Keys of `[rollout]` that belong to one strategy, and to which.
pub(super) const BLUE_GREEN_KEYS: &[&str] = &["keep_old", "preview_port", "auto_promote"];
pub(super) const CANARY_KEYS: &[&str] = &["canary_nodes", "steps", "analysis", "cohort"];

const STEP_KEYS: Keys = Keys {
    known: &["weight", "hold"],
    later: &[],
    elsewhere: &[
        ("set_weight", "did you mean `weight`?"),
        ("setWeight", "did you mean `weight`?"),
        ("pause", "did you mean `hold`?"),
        ("duration", "did you mean `hold`?"),
    ],
};
const ANALYSIS_KEYS: Keys = Keys {
    known: &["interval", "failure_limit", "max_error_rate", "max_p99", "min_requests", "dry_run"],
    later: &[],
    elsewhere: &[
        ("threshold", "did you mean `failure_limit`?"),
        ("error_rate", "did you mean `max_error_rate`?"),
        ("p99", "did you mean `max_p99`?"),
    ],
};
const COHORT_KEYS: Keys = Keys { known: &["cookie", "header"], later: &[], elsewhere: &[] };
const BATCH_KEYS: Keys = Keys {
    known: &["nodes", "limit", "gate"],
    later: &[],
    elsewhere: &[
        ("size", "did you mean `limit`?"),
        ("selector", "did you mean `nodes`?"),
        ("hold", "did you mean `gate`?"),
    ],
};

const DEFAULT_BLUE_GREEN: BlueGreen =
    BlueGreen { keep_old: Millis::from_secs(600), preview_port: None, auto_promote: true };
const DEFAULT_ANALYSIS: Analysis = Analysis {
    interval: Millis::from_secs(30),
    failure_limit: 2,
    max_error_rate: Some(100),
    max_p99: None,
    min_requests: 100,
    dry_run: false,
};

/// The strategy of that name with its keys; a key of another strategy is refused.
pub(super) fn read(
    name: &'static str,
    rollout: &Table<'_>,
    problems: &mut Problems<'_>,
) -> Strategy {
    let foreign = |keys: &[&'static str], of: &str, problems: &mut Problems<'_>| {
        for item in keys.iter().filter_map(|key| rollout.get(key)) {
            let message = format!("`{}` has no effect under `{name}`", item.path);
            let label = format!("only `strategy = \"{of}\"` knows it");
            problems.add(&item.key, &item.path, message, label);
        }
    };
    if name != "canary" {
        foreign(CANARY_KEYS, "canary", problems);
    }
    if name != "blue-green" {
        foreign(BLUE_GREEN_KEYS, "blue-green", problems);
    }
    match name {
        "recreate" => Strategy::Recreate,
        "blue-green" => Strategy::BlueGreen(read_blue_green(rollout, problems)),
        "canary" => Strategy::Canary(read_canary(rollout, problems)),
        _ => Strategy::Rolling,
    }
}

fn read_blue_green(rollout: &Table<'_>, problems: &mut Problems<'_>) -> BlueGreen {
    let default = DEFAULT_BLUE_GREEN;
    let preview_port = rollout.get("preview_port").and_then(|item| {
        let number = item.number(1..=u32::from(u16::MAX), problems)?;
        u16::try_from(number).ok()
    });
    BlueGreen {
        keep_old: rollout.duration("keep_old", default.keep_old, Millis(0)..=MAX_SPAN, problems),
        preview_port,
        auto_promote: rollout.switch("auto_promote", default.auto_promote, problems),
    }
}

fn read_canary(rollout: &Table<'_>, problems: &mut Problems<'_>) -> Canary {
    let nodes = rollout.get("canary_nodes").and_then(|item| read_canary_nodes(item, problems));
    let steps = read_steps(rollout, problems);
    let analysis = read_analysis(rollout.get("analysis"), problems);
    Canary {
        nodes: nodes.unwrap_or(CanaryNodes::Some(Share::Count(1))),
        steps,
        analysis,
        cohort: read_cohort(rollout.get("cohort"), problems),
    }
}

fn read_canary_nodes(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<CanaryNodes> {
    if item.is_table() {
        return Some(CanaryNodes::Labels(read_labels(Some(item), problems)));
    }
    if item.is_list() {
        return read_names(item, problems).map(CanaryNodes::Names);
    }
    if item.as_text() == Some("all") {
        return Some(CanaryNodes::Some(ALL));
    }
    let share = read_share(item, problems)?;
    if matches!(share, Share::Count(0) | Share::Percent(0)) {
        item.invalid("no node would ever take it; expected at least 1", problems);
        return None;
    }
    Some(CanaryNodes::Some(share))
}

fn read_names(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<BTreeSet<NodeName>> {
    let items = item.list("a list of node names", problems)?;
    if items.is_empty() {
        item.invalid("names no node", problems);
    }
    let mut names = BTreeSet::new();
    for item in items {
        if let Some(name) = item.parsed::<NodeName>(problems)
            && !names.insert(name)
        {
            item.invalid("named twice", problems);
        }
    }
    Some(names)
}

fn read_steps(rollout: &Table<'_>, problems: &mut Problems<'_>) -> Vec<CanaryStep> {
    let Some(item) = rollout.get("steps") else {
        let message = "a canary needs at least one step".to_owned();
        let key = format!("{}.steps", rollout.path);
        problems.add(&rollout.span, &key, message, "no `[[rollout.steps]]`").help = Some(
            "add [[rollout.steps]] with weight = 10 and hold = \"5m\" (or \"manual\")".to_owned(),
        );
        return Vec::new();
    };
    let what = "tables, each under `[[rollout.steps]]`";
    let items = item.list(what, problems).unwrap_or_default();
    if items.is_empty() || items.len() > MAX_STEPS {
        item.invalid(format!("expected 1 to {MAX_STEPS} steps"), problems);
    }
    let mut steps: Vec<CanaryStep> = Vec::new();
    for item in &items {
        let Some(table) = item.table(&STEP_KEYS, problems) else { continue };
        let Some(weight) = table.get("weight") else {
            let key = format!("{}.weight", table.path);
            let message = format!("missing key `{key}`");
            let label = "expected the percent of requests, such as weight = 10";
            problems.add(&table.span, &key, message, label);
            continue;
        };
        let Some(percent) = weight.number(0..=100, problems) else { continue };
        if let Some(before) = steps.last().map(|step| step.weight).filter(|w| *w > percent) {
            let label = format!("less than the {before} of the step before it");
            weight.invalid(label, problems).help =
                Some("clients would move back; `pith rollout abort` does that".to_owned());
        }
        let hold = table.get("hold").and_then(|item| read_hold(item, problems));
        steps.push(CanaryStep { weight: percent, hold: hold.unwrap_or(Hold::For(Millis(0))) });
    }
    steps
}

/// A duration, or `"manual"`.
fn read_hold(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Hold> {
    if item.as_text() == Some("manual") {
        return Some(Hold::Manual);
    }
    item.duration(Millis(0)..=MAX_SPAN, problems).map(Hold::For)
}

fn read_analysis(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Analysis {
    let default = DEFAULT_ANALYSIS;
    let Some(table) = item.and_then(|item| item.table(&ANALYSIS_KEYS, problems)) else {
        return default;
    };
    let max_error_rate = match table.get("max_error_rate") {
        None => default.max_error_rate,
        Some(item) => read_rate(item, problems),
    };
    let spans = Millis::from_secs(1)..=MAX_SPAN;
    Analysis {
        interval: table.duration("interval", default.interval, spans.clone(), problems),
        failure_limit: table.number("failure_limit", default.failure_limit, 1..=1000, problems),
        max_error_rate,
        max_p99: table
            .get("max_p99")
            .and_then(|item| item.duration(Millis(1)..=*spans.end(), problems)),
        min_requests: table.number("min_requests", default.min_requests, 0..=1_000_000, problems),
        dry_run: table.switch("dry_run", default.dry_run, problems),
    }
}

/// `"1%"`, `"0.5%"`, in ten thousand.
fn read_rate(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<u32> {
    let expected = "expected a percentage such as \"1%\" or \"0.5%\"";
    let parsed = item.as_text().and_then(|text| {
        let (whole, part) =
            text.strip_suffix('%')?.split_once('.').unwrap_or((text.strip_suffix('%')?, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let plain = !whole.is_empty() && digits(whole) && digits(part) && part.len() <= 2;
        let hundredths: u32 = plain.then(|| format!("{part:0<2}").parse().ok())??;
        let rate = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
        (rate <= TEN_THOUSAND).then_some(rate)
    });
    if parsed.is_none() {
        item.invalid(expected, problems);
    }
    parsed
}

fn read_cohort(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Cohort {
    let Some(table) = item.and_then(|item| item.table(&COHORT_KEYS, problems)) else {
        return Cohort::default();
    };
    let mut token = |name: &str| {
        let item = table.get(name)?;
        let text = item.text(problems)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(plain) {
            return Some(text.to_owned());
        }
        item.invalid("expected a name of letters, digits and -_. alone", problems);
        None
    };
    Cohort { cookie: token("cookie"), header: token("header") }
}

/// `[[rollout.batches]]`.
pub(super) fn read_batches(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Vec<Batch> {
    let Some(item) = item else { return Vec::new() };
    let what = "tables, each under `[[rollout.batches]]`";
    let items = item.list(what, problems).unwrap_or_default();
    if items.len() > MAX_STEPS {
        item.invalid(format!("at most {MAX_STEPS} batches"), problems);
        return Vec::new();
    }
    let read = |item: &Item<'_>| {
        let table = item.table(&BATCH_KEYS, problems)?;
        let (mut labels, mut names) = (BTreeMap::new(), None);
        match table.get("nodes") {
            Some(nodes) if nodes.is_table() => labels = read_labels(Some(nodes), problems),
            Some(nodes) if nodes.is_list() => names = read_names(nodes, problems),
            Some(nodes) => nodes.wrong_type(
                "labels such as { zone = \"edge\" } or names such as [\"opi-2\"]",
                problems,
            ),
            None => {}
        }
        let limit = table.get("limit").and_then(|item| read_share(item, problems)).unwrap_or(ALL);
        let gate = table.get("gate").and_then(|item| read_hold(item, problems));
        Some(Batch { labels, names, limit, gate })
    };
    items.iter().filter_map(read).collect()
}
