//! What is wrong with a service file, and how a person sees it: place, line, caret, mend.
//!
//! Owns positions and printing; knows nothing of the keys of a service file.

use std::fmt;
use std::ops::Range;

use super::tree::Item;

/// Characters of a source line that are shown.
const MAX_SHOWN_CHARS: usize = 120;
/// Problems that are shown; a file with more is mended in turns.
const MAX_SHOWN_PROBLEMS: usize = 50;

/// Characters of a message or label, which may quote the file.
const MAX_MESSAGE_CHARS: usize = 300;

/// A file's name and text, kept for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// One thing that is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named by the caller.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The dotted path of the key, `health.readiness.period`; empty for a broken file.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
    /// What was expected there, or the key that was meant.
    pub expected: String,
    /// What to write or do instead, where the line above does not say it.
    pub help: Option<String>,
    shown: Shown,
}

/// The line as printed and where the carets stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    line: String,
    indent: usize,
    width: usize,
}

/// All problems of a file or of several files together; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// In the order of the text.
    pub problems: Vec<Problem>,
}

/// Something that is allowed and that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Problem);

/// Collects what was found on the way.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    source: &'t Source,
    pub(super) found: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(source: &'t Source) -> Self {
        Self { source, found: Vec::new(), warnings: Vec::new() }
    }

    /// Adds a problem; the caller may set its `help`.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: String,
        expected: impl Into<String>,
    ) -> &mut Problem {
        let mut problem = Problem::new(self.source, span, key, one_line(&message));
        problem.expected = one_line(&expected.into());
        self.found.push(problem);
        self.found.last_mut().expect("one was pushed")
    }

    pub(super) fn warn(&mut self, item: &Item<'_>, message: &str, expected: &str) {
        let mut problem = Problem::new(self.source, &item.key, &item.path, message.to_owned());
        expected.clone_into(&mut problem.expected);
        self.warnings.push(Warning(problem));
    }
}

impl Problem {
    pub(super) fn new(source: &Source, span: &Range<usize>, key: &str, message: String) -> Self {
        let text = source.text.as_str();
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let before = text[line_start..start].chars().count();
        let width = text[start..end.min(line_end)].chars().count().max(1);
        let from = if before + width > MAX_SHOWN_CHARS { before.saturating_sub(20) } else { 0 };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let line = text[line_start..line_end].trim_end_matches('\r').chars().map(printable);
        let shown = Shown {
            line: line.skip(from).take(MAX_SHOWN_CHARS).collect::<String>().trim_end().to_owned(),
            indent: before - from,
            width: width.min(MAX_SHOWN_CHARS - (before - from).min(MAX_SHOWN_CHARS - 1)),
        };
        Self {
            file: source.name.clone(),
            line: text[..start].bytes().filter(|b| *b == b'\n').count() + 1,
            column: before + 1,
            key: key.to_owned(),
            message,
            expected: String::new(),
            help: None,
            shown,
        }
    }

    fn print(&self, severity: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let Shown { line, indent, width } = &self.shown;
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {line}")?;
        write!(f, "{gutter} | {}{}", " ".repeat(*indent), "^".repeat(*width))?;
        if !self.expected.is_empty() {
            write!(f, " {}", self.expected)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl FileError {
    pub(super) fn in_order(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        Self { problems }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print("error", f)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print("warning", f)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(MAX_SHOWN_PROBLEMS).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(MAX_SHOWN_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\n\n… and {more} more"),
        }
    }
}

impl std::error::Error for FileError {}

/// Text that quotes a file, safe for a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect()
}

fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}
