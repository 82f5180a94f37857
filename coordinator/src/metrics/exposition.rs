//! The two text formats of an exposition, and what keeps one readable whatever a node calls things: label values are cleaned,
//! series are told once, and of one node only so many.
//!
//! Prometheus' text 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats) and OpenMetrics 1.0 (openmetrics.io).

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;

use super::families::ALL;

/// Series of one node; what is beyond is counted in `pith_metrics_dropped_series`. Sixteen zones and 64 instances are below half of it.
pub const MAX_SERIES_PER_NODE: usize = 1_024;
/// Characters of a label's value.
const MAX_LABEL_CHARS: usize = 128;

/// What a scraper reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a request's `Accept` asks for: OpenMetrics where it is named and liked at least as well as plain text.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        let liked = |media: &str| {
            let kinds = accept.split(',').filter(|kind| {
                kind.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media))
            });
            kinds.map(quality).fold(0.0, f32::max)
        };
        let open = liked("application/openmetrics-text");
        if open > 0.0 && open >= liked("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The answer's `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// `q` of one part of an `Accept`; 1 where it says none, 0 where it cannot be read.
fn quality(kind: &str) -> f32 {
    let mut parameters = kind.split(';').skip(1).filter_map(|one| one.split_once('='));
    let q = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    q.map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(0.0))
}

/// What a family's series are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until whoever counts starts anew.
    Counter,
    /// 1, for its labels.
    Info,
    /// How many were within each bound. Its sum is not known.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the suffix of its kind.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The name's last word, where that is one of OpenMetrics' units; else empty.
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
}

/// What a series says now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    /// One that is no number is no series.
    Real(f32),
    /// Thousandths.
    Milli(u64),
    /// Upper bounds, ascending, each with all that was within it; the last is everything.
    Buckets(Vec<(String, u64)>),
}

/// An exposition that is being filled. Of a thousand nodes it has a hundred thousand series: they are written where they end up, and nothing but a
/// hash is kept of each.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    /// The series of each of [`ALL`].
    families: Vec<String>,
    /// Hashes of a family's place and labels.
    known: HashSet<u64>,
    hasher: RandomState,
    /// Of the node that is being told.
    of_node: Option<OfNode>,
}

#[derive(Debug, Default)]
struct OfNode {
    told: usize,
    dropped: u64,
}

impl Page {
    /// Nothing is told.
    pub(super) fn new(format: Format) -> Self {
        let families = ALL.iter().map(|_| String::new()).collect();
        let (known, hasher) = (HashSet::new(), RandomState::new());
        Self { format, families, known, hasher, of_node: None }
    }

    /// From here on series are a node's, and bounded.
    pub(super) fn begin_node(&mut self) {
        self.of_node = Some(OfNode::default());
    }

    /// How many series of the node were left out: too many, or named twice.
    pub(super) fn end_node(&mut self) -> u64 {
        self.of_node.take().map_or(0, |of_node| of_node.dropped)
    }

    /// Adds a series; the first of two with the same labels counts.
    pub(super) fn add(
        &mut self,
        family: &'static Family,
        labels: &[(&'static str, &str)],
        value: Value,
    ) {
        if matches!(value, Value::Real(real) if !real.is_finite()) {
            return;
        }
        let Some(place) = ALL.iter().position(|one| std::ptr::eq(*one, family)) else { return };
        let labels = rendered(labels);
        let hash = self.hasher.hash_one((place, &labels));
        let weight = match &value {
            Value::Buckets(buckets) => buckets.len() + 1,
            Value::Whole(_) | Value::Real(_) | Value::Milli(_) => 1,
        };
        let is_known = self.known.contains(&hash);
        if let Some(of_node) = &mut self.of_node {
            if is_known || of_node.told + weight > MAX_SERIES_PER_NODE {
                of_node.dropped += weight as u64;
                return;
            }
            of_node.told += weight;
        }
        if self.known.insert(hash) {
            sample(&mut self.families[place], family, &labels, &value, self.format);
        }
    }

    /// The same for what may not be known.
    pub(super) fn add_known(
        &mut self,
        family: &'static Family,
        labels: &[(&'static str, &str)],
        value: Option<Value>,
    ) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }

    /// The text in pieces, families in the order of [`ALL`], their series as they were added; families without any are left out.
    pub(super) fn render(self) -> Vec<String> {
        let mut pieces = Vec::new();
        for (family, series) in ALL.iter().zip(self.families) {
            if !series.is_empty() {
                let mut text = String::new();
                head(&mut text, family, self.format);
                pieces.extend([text, series]);
            }
        }
        if self.format == Format::OpenMetrics {
            pieces.push("# EOF\n".to_owned());
        }
        pieces
    }
}

fn head(text: &mut String, family: &Family, format: Format) {
    let Family { name, kind, unit, help } = family;
    let open = format == Format::OpenMetrics;
    let (kind, suffix) = match kind {
        Kind::Gauge => ("gauge", ""),
        Kind::Counter if open => ("counter", ""),
        Kind::Counter => ("counter", "_total"),
        Kind::Info if open => ("info", ""),
        Kind::Info => ("gauge", "_info"),
        Kind::Histogram => ("histogram", ""),
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name}{suffix} {help}");
    let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
    if open && !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name}{suffix} {unit}");
    }
}

fn sample(text: &mut String, family: &Family, labels: &str, value: &Value, format: Format) {
    let name = family.name;
    let suffix = match family.kind {
        Kind::Gauge | Kind::Histogram => "",
        Kind::Counter => "_total",
        Kind::Info => "_info",
    };
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = match value {
        Value::Whole(whole) => writeln!(text, "{name}{suffix}{braced} {whole}"),
        Value::Real(real) => writeln!(text, "{name}{suffix}{braced} {real}"),
        Value::Milli(milli) => {
            writeln!(text, "{name}{suffix}{braced} {}.{:03}", milli / 1000, milli % 1000)
        }
        Value::Buckets(buckets) => {
            for (bound, count) in buckets {
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            // OpenMetrics knows no count without a sum, and the sum is not told.
            match (format, buckets.last()) {
                (Format::Text, Some((_, all))) => writeln!(text, "{name}_count{braced} {all}"),
                (Format::Text | Format::OpenMetrics, _) => Ok(()),
            }
        }
    };
}

/// `a="x",b="y"`.
fn rendered(labels: &[(&'static str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{}\"", clean(value));
    }
    text
}

/// A value as it stands between quotes: what a node says breaks no line and ends no quote.
fn clean(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars().take(MAX_LABEL_CHARS) {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other if other.is_control() => {}
            other => text.push(other),
        }
    }
    text
}
