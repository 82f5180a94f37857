//! What the cases showed, kept between runs in one table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What was looked at.
    pub what: String,
    /// What it was.
    pub seen: String,
    /// What it has to be; empty where there is no target.
    pub target: String,
    /// Whether it is.
    pub is_met: bool,
}

impl Row {
    /// Something that held, or the case would have failed.
    #[must_use]
    pub fn held(what: &str, seen: impl Into<String>) -> Self {
        Self { what: what.to_owned(), seen: seen.into(), target: String::new(), is_met: true }
    }

    /// Something that did not hold; what was said of it stands in the output.
    #[must_use]
    pub fn broken(what: &str) -> Self {
        let seen = "failed".to_owned();
        Self { what: what.to_owned(), seen, target: "held".to_owned(), is_met: false }
    }

    /// A figure that may not be above its limit.
    #[must_use]
    pub fn at_most(what: &str, seen: f64, limit: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            seen: format!("{seen:.2} {unit}"),
            target: format!("at most {limit} {unit}"),
            is_met: seen <= limit,
        }
    }
}

/// The file of one package: another package starts a table of its own. Read anew before each change: two runs of different cases
/// may be under way.
#[derive(Debug)]
pub struct Results {
    file: PathBuf,
    package: String,
}

#[derive(Debug, Default)]
struct Kept {
    cases: BTreeMap<String, Vec<Row>>,
    counts: BTreeMap<String, u64>,
}

impl Results {
    /// What is kept in this folder for this package.
    #[must_use]
    pub fn of(folder: &Path, package: &str) -> Self {
        Self { file: folder.join("results.json"), package: package.to_owned() }
    }

    fn read(&self) -> Kept {
        let kept: Value = fs::read(&self.file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .filter(|value: &Value| value["package"] == self.package)
            .unwrap_or_default();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let row = |row: &Value| Row {
            what: text(row, "what"),
            seen: text(row, "seen"),
            target: text(row, "target"),
            is_met: row["is_met"] == true,
        };
        let rows = |rows: &Value| rows.as_array().into_iter().flatten().map(row).collect();
        let cases = kept["cases"].as_object().into_iter().flatten();
        let counts = kept["counts"].as_object().into_iter().flatten();
        Kept {
            cases: cases.map(|(case, kept)| (case.clone(), rows(kept))).collect(),
            counts: counts.map(|(k, v)| (k.clone(), v.as_u64().unwrap_or(0))).collect(),
        }
    }

    /// Adds to a count over all runs with this package; what it is now.
    pub fn count(&self, what: &str, more: u64) -> u64 {
        let mut kept = self.read();
        let count = kept.counts.entry(what.to_owned()).or_default();
        *count += more;
        let now = *count;
        self.save(&kept);
        now
    }

    /// What a case showed, in place of what it showed before.
    pub fn put(&self, case: &str, rows: Vec<Row>) {
        let mut kept = self.read();
        kept.cases.insert(case.to_owned(), rows);
        self.save(&kept);
    }

    /// Whether every figure met its target.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.read().cases.values().flatten().all(|row| row.is_met)
    }

    /// The table, as Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines =
            vec!["| case | what | seen | target |".to_owned(), "|---|---|---|---|".to_owned()];
        for (case, rows) in &self.read().cases {
            for Row { what, seen, target, is_met } in rows {
                let missed = if *is_met { "" } else { " **missed**" };
                lines.push(format!("| {case} | {what} | {seen} | {target}{missed} |"));
            }
        }
        lines.join("\n")
    }

    fn save(&self, kept: &Kept) {
        let row = |row: &Row| json!({ "what": row.what, "seen": row.seen, "target": row.target, "is_met": row.is_met });
        let cases: BTreeMap<&String, Vec<Value>> =
            kept.cases.iter().map(|(case, rows)| (case, rows.iter().map(row).collect())).collect();
        let all = json!({ "package": self.package, "cases": cases, "counts": kept.counts });
        fs::write(&self.file, format!("{all:#}\n")).expect("the results can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_on_with_the_package_and_begins_anew_with_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Results::of(folder.path(), "aa");
        first.put("install", vec![Row::held("joined", "12 s")]);
        assert_eq!(first.count("cuts", 8), 8);
        let again = Results::of(folder.path(), "aa");
        again.put("budget", vec![Row::at_most("memory", 6.0, 5.0, "MiB")]);
        assert_eq!(again.count("cuts", 2), 10);
        assert!(!again.is_met());
        let table = again.table();
        assert!(table.contains("| install | joined | 12 s |  |"), "{table}");
        assert!(
            table.contains("| budget | memory | 6.00 MiB | at most 5 MiB **missed** |"),
            "{table}"
        );
        assert_eq!(Results::of(folder.path(), "bb").table().lines().count(), 2);
    }
}
