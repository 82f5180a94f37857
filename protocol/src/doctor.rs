//! What is odd about a board: the findings of `pith-agent doctor`, as they are printed and as they travel to `pith node doctor`.
//!
//! Not a payload of its own: the document travels in the signed parts of a stream ([`crate::command`]). Read leniently, so that a
//! coordinator shows the checks of a newer agent too; ids are text for the same reason.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeName;

/// Bytes of a document that anybody reads.
pub const MAX_EXAMINATION_BYTES: usize = 256 * 1024;
/// Characters of one text in it that are shown.
const MAX_TEXT_CHARS: usize = 600;

/// Everything that was looked at on a board, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// The node's name.
    pub board: NodeName,
    /// Of the agent that looked.
    pub agent_version: String,
    /// Whether root looked; an agent's own user may not see everything.
    pub as_root: bool,
    /// One per check, the worst first.
    pub findings: Vec<Finding>,
}

/// What one check has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, in kebab case; the same for every outcome of a check.
    pub id: String,
    /// How bad.
    pub severity: Severity,
    /// The figure or fact.
    pub seen: String,
    /// What comes of it, one sentence; none where it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command to run or the line to write; none where there is nothing to mend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How bad a finding is; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Could not be looked at: neither well nor ill.
    Unknown,
    /// Will hurt some day, or hurts a little.
    Warning,
    /// Something does not work, or will not when it is needed.
    Problem,
}

/// Whether severities are printed in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// By ECMA-48.
    On,
    /// Plain text.
    Off,
}

impl Severity {
    /// The word for people and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    const fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Note => 36,
            Self::Unknown => 35,
            Self::Warning => 33,
            Self::Problem => 31,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Finding {
    /// One that says only what was seen.
    #[must_use]
    pub fn new(id: &str, severity: Severity, seen: impl Into<String>) -> Self {
        Self { id: id.to_owned(), severity, seen: seen.into(), why: None, mend: None }
    }

    /// With what comes of it.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl Examination {
    /// With one more finding, in its place.
    #[must_use]
    pub fn with(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self.sorted()
    }

    /// The worst first; what is equally bad stays as it was looked at.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self
    }

    /// Whether anything is a [`Severity::Problem`].
    #[must_use]
    pub fn has_problem(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Problem)
    }

    /// As people read it: a row per check, the mends below it, and how many there are of each kind.
    #[must_use]
    pub fn to_text(&self, colour: Colour) -> String {
        let by = if self.as_root { "as root" } else { "not as root" };
        let mut text =
            format!("{}  agent {}  seen {by}\n", self.board, printable(&self.agent_version));
        let ids = self.findings.iter().map(|finding| finding.id.chars().count());
        let width = ids.max().unwrap_or(0).max("CHECK".len());
        text.push_str(&format!("{:9} {:width$}  SEEN\n", "SEVERITY", "CHECK"));
        for finding in &self.findings {
            text.push_str(&row(finding, width, colour));
        }
        text.push('\n');
        text.push_str(&self.summary());
        text
    }

    /// `2 problems, 1 warning, 14 ok`
    fn summary(&self) -> String {
        use Severity::{Note, Ok, Problem, Unknown, Warning};
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count();
        let words = [
            (Problem, "problem", "problems"),
            (Warning, "warning", "warnings"),
            (Unknown, "unknown", "unknown"),
            (Note, "note", "notes"),
            (Ok, "ok", "ok"),
        ];
        let part = |(severity, one, many)| match count(severity) {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        let parts: Vec<String> = words.into_iter().filter_map(part).collect();
        format!("{}\n", parts.join(", "))
    }
}

fn row(finding: &Finding, width: usize, colour: Colour) -> String {
    let Finding { id, severity, seen, why, mend } = finding;
    let word = match colour {
        Colour::On => format!("\x1b[{}m{severity:9}\x1b[0m", severity.colour()),
        Colour::Off => format!("{severity:9}"),
    };
    let mut text = format!("{word} {:width$}  {}\n", printable(id), printable(seen));
    let indent = " ".repeat(10 + width + 2);
    if let Some(why) = why {
        text.push_str(&format!("{indent}why:  {}\n", printable(why)));
    }
    if let Some(mend) = mend {
        text.push_str(&format!("{indent}mend: {}\n", printable(mend)));
    }
    text
}

/// What a board writes must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination() -> Examination {
        let findings = vec![
            Finding::new("cgroup-version", Severity::Ok, "v2"),
            Finding::new("memory-cgroup", Severity::Problem, "off")
                .because("no memory limit holds")
                .mend("add `cgroup_enable=memory` to /boot/cmdline.txt"),
            Finding::new("firewall", Severity::Unknown, "cannot be read here")
                .mend("`sudo pith-agent doctor` on the board"),
        ];
        let board = "opi-2".parse().unwrap();
        Examination { board, agent_version: "0.1.0".into(), as_root: false, findings }.sorted()
    }

    #[test]
    fn the_worst_comes_first_with_its_mend_and_the_kinds_are_counted() {
        assert_eq!(
            examination().to_text(Colour::Off),
            "opi-2  agent 0.1.0  seen not as root\n\
             SEVERITY  CHECK           SEEN\n\
             problem   memory-cgroup   off\n                          \
             why:  no memory limit holds\n                          \
             mend: add `cgroup_enable=memory` to /boot/cmdline.txt\n\
             unknown   firewall        cannot be read here\n                          \
             mend: `sudo pith-agent doctor` on the board\n\
             ok        cgroup-version  v2\n\
             \n\
             1 problem, 1 unknown, 1 ok\n"
        );
        assert!(examination().has_problem());
        assert!(examination().to_text(Colour::On).contains("\x1b[31mproblem  \x1b[0m"));
    }

    #[test]
    fn a_document_of_a_newer_agent_is_read_and_steers_no_terminal() {
        let text = r#"{"board":"opi-2","agent_version":"9","as_root":true,"of_tomorrow":1,"findings":[
            {"id":"new-check","severity":"warning","seen":"\u001b[2Jx","since":3}]}"#;
        let read: Examination = serde_json::from_str(text).unwrap();
        assert!(!read.has_problem());
        assert!(read.to_text(Colour::Off).contains("new-check   [2Jx"));
        let written = serde_json::to_value(examination()).unwrap();
        assert_eq!(written["findings"][0]["severity"], "problem");
        assert_eq!(written["findings"][2].get("mend"), None);
    }
}
