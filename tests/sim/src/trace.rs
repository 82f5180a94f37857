//! What happened, for people: nothing is written unless somebody looks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Lines that are kept of a run that is looked at.
const MAX_LINES: usize = 20_000;

/// A log that several write to.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    lines: Option<Rc<RefCell<VecDeque<String>>>>,
}

impl Trace {
    /// One that keeps what it is told.
    #[must_use]
    pub fn on() -> Self {
        Self { lines: Some(Rc::default()) }
    }

    /// Whether somebody looks.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Notes an act; `text` is made only where somebody looks.
    pub fn note(&self, at_ms: u64, who: &str, text: impl FnOnce() -> String) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.borrow_mut();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:>9}.{:03} {who:<12} {}", at_ms / 1000, at_ms % 1000, text()));
    }

    /// The newest `count` lines, oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        let lines = lines.borrow();
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}
