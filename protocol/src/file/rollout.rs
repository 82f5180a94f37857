//! `[rollout]`.

use super::problem::Problems;
use super::service::{MAX_REPLICAS, MAX_SPAN};
use super::strategies;
use super::tree::{Item, Keys, Table};
use crate::spec::{OnFailure, RolloutPolicy, Share, Strategy};
use crate::units::Millis;

/// Revisions kept at most.
const MAX_REVISIONS: u32 = 1000;
/// Longest time that requests are held or connections drained.
const MAX_DRAIN: Millis = Millis::from_secs(24 * 3600);

/// All of a count.
pub(super) const ALL: Share = Share::Percent(100);

const KEYS: Keys = Keys {
    known: &[
        "strategy",
        "max_surge",
        "max_unavailable",
        "batches",
        "batch",
        "success_threshold",
        "error_threshold",
        "min_ready",
        "progress_deadline",
        "on_failure",
        "soak",
        "revision_history_limit",
        "drain",
        "hold_requests",
        "keep_old",
        "preview_port",
        "auto_promote",
        "canary_nodes",
        "steps",
        "analysis",
        "cohort",
    ],
    later: &[],
    elsewhere: &[
        ("min_ready_seconds", "did you mean `min_ready`?"),
        ("progress_deadline_seconds", "did you mean `progress_deadline`?"),
        ("parallelism", "did you mean `batch`?"),
        ("drain_timeout", "did you mean `drain`?"),
    ],
};

/// What holds where nothing is written.
const DEFAULT: RolloutPolicy = RolloutPolicy {
    strategy: Strategy::Rolling,
    max_surge: Share::Count(1),
    max_unavailable: Share::Count(0),
    batches: Vec::new(),
    batch: Share::Count(1),
    success_threshold: ALL,
    error_threshold: Share::Count(0),
    min_ready: Millis(0),
    progress_deadline: Millis::from_secs(600),
    on_failure: OnFailure::Rollback,
    soak: Millis(0),
    revision_history_limit: 10,
    drain: Millis::from_secs(30),
    hold_requests: Millis::from_secs(30),
};

pub(super) fn read(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> RolloutPolicy {
    let Some(table) = item.and_then(|item| item.table(&KEYS, problems)) else { return DEFAULT };
    let share = |name: &str, default, problems: &mut Problems<'_>| {
        table.get(name).and_then(|item| read_share(item, problems)).unwrap_or(default)
    };
    let revisions = 0..=MAX_REVISIONS;
    let policy = RolloutPolicy {
        strategy: read_strategy(&table, problems),
        max_surge: share("max_surge", DEFAULT.max_surge, problems),
        max_unavailable: share("max_unavailable", DEFAULT.max_unavailable, problems),
        batches: strategies::read_batches(table.get("batches"), problems),
        batch: share("batch", DEFAULT.batch, problems),
        success_threshold: share("success_threshold", DEFAULT.success_threshold, problems),
        error_threshold: share("error_threshold", DEFAULT.error_threshold, problems),
        min_ready: table.duration("min_ready", DEFAULT.min_ready, Millis(0)..=MAX_SPAN, problems),
        progress_deadline: table.duration(
            "progress_deadline",
            DEFAULT.progress_deadline,
            Millis::from_secs(1)..=MAX_SPAN,
            problems,
        ),
        on_failure: read_on_failure(table.get("on_failure"), problems),
        soak: table.duration("soak", DEFAULT.soak, Millis(0)..=MAX_SPAN, problems),
        revision_history_limit: table.number(
            "revision_history_limit",
            DEFAULT.revision_history_limit,
            revisions,
            problems,
        ),
        drain: table.duration("drain", DEFAULT.drain, Millis(0)..=MAX_DRAIN, problems),
        hold_requests: table.duration(
            "hold_requests",
            DEFAULT.hold_requests,
            Millis(0)..=MAX_DRAIN,
            problems,
        ),
    };
    check(&table, &policy, problems);
    policy
}

fn check(table: &Table<'_>, policy: &RolloutPolicy, problems: &mut Problems<'_>) {
    let zero = |share| matches!(share, Share::Count(0) | Share::Percent(0));
    let at = |names: &[&str]| {
        let item = names.iter().find_map(|name| table.get(name));
        item.map_or_else(
            || (table.span.clone(), table.path.clone()),
            |i| (i.span.clone(), i.path.clone()),
        )
    };
    let recreate = policy.strategy == Strategy::Recreate;
    if !recreate && zero(policy.max_surge) && zero(policy.max_unavailable) {
        let (span, key) = at(&["max_surge", "max_unavailable"]);
        let message = "`max_surge` and `max_unavailable` are both 0".to_owned();
        problems.add(&span, &key, message, "nothing could ever be replaced").help =
            Some("let one of them be at least 1".to_owned());
    }
    if recreate {
        for name in ["max_surge", "max_unavailable"] {
            if let Some(item) = table.get(name) {
                let message = format!("`{}` has no effect under `recreate`", item.path);
                problems.warn(item, &message, "all old instances stop before new ones start");
            }
        }
    }
    if zero(policy.batch) {
        let (span, key) = at(&["batch"]);
        let message = "`batch` is 0".to_owned();
        problems.add(&span, &key, message, "no node would ever move; expected at least 1");
    }
    if policy.progress_deadline <= policy.min_ready {
        let (span, key) = at(&["progress_deadline", "min_ready"]);
        let message = "`progress_deadline` is not longer than `min_ready`".to_owned();
        let label = format!(
            "every release would fail: {} to be ready for {}",
            policy.progress_deadline, policy.min_ready
        );
        problems.add(&span, &key, message, label);
    }
}

fn read_strategy(table: &Table<'_>, problems: &mut Problems<'_>) -> Strategy {
    let words = ["rolling", "recreate", "blue-green", "canary"];
    let written = table.get("strategy").map(|item| item.word(&words, problems));
    match written {
        // What a mistyped strategy's keys belong to cannot be said.
        Some(None) => DEFAULT.strategy,
        Some(Some(name)) => strategies::read(name, table, problems),
        None => strategies::read("rolling", table, problems),
    }
}

/// What runs once on a node cannot have a second set beside the first; `why` and how to mend it.
pub(super) fn refuse_two_sets(
    item: Option<&Item<'_>>,
    policy: &RolloutPolicy,
    (why, mend): (String, &str),
    problems: &mut Problems<'_>,
) {
    let name = match policy.strategy {
        Strategy::BlueGreen(_) => "blue-green",
        Strategy::Canary(_) => "canary",
        Strategy::Rolling | Strategy::Recreate => return,
    };
    let Some(item) = item else { return };
    let message = format!("`{name}` runs two releases at once, and {why}");
    let label = "the old instance has to stop before the new one starts";
    problems.add(&item.key, "rollout.strategy", message, label).help = Some(mend.to_owned());
}

fn read_on_failure(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> OnFailure {
    match item.and_then(|item| item.word(&["rollback", "pause"], problems)) {
        Some("pause") => OnFailure::Pause,
        Some(_) | None => OnFailure::Rollback,
    }
}

/// A number, or a percentage such as `"25%"`.
pub(super) fn read_share(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Share> {
    let Some(text) = item.as_text() else {
        if item.as_integer().is_none() {
            item.wrong_type("a whole number or a percentage such as \"25%\"", problems);
            return None;
        }
        return item.number(0..=MAX_REPLICAS, problems).map(Share::Count);
    };
    let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(percent) if percent <= 100 => Some(Share::Percent(percent)),
        Some(_) => {
            item.invalid("more than 100 percent", problems);
            None
        }
        None => {
            item.invalid("expected a whole number or a percentage such as \"25%\"", problems);
            None
        }
    }
}
