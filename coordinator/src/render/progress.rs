//! A block of lines that lives: redrawn in place on a terminal; elsewhere each line is printed once, when it is new.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};

/// A line that the terminal wraps would be two to go back over (DECAWM off and on).
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// What is shown while a verb waits.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    shown: Vec<String>,
    printed: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A terminal.
    Live,
    /// A file or a pipe.
    Lines,
    /// Nothing but the answer is wanted.
    Silent,
}

impl Progress {
    /// Shown or not.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        let mode = match (shown, std::io::stdout().is_terminal()) {
            (false, _) => Mode::Silent,
            (true, true) => Mode::Live,
            (true, false) => Mode::Lines,
        };
        Self { mode, shown: Vec::new(), printed: BTreeSet::new() }
    }

    /// Shows these lines instead of the last ones.
    pub fn show(&mut self, lines: Vec<String>) {
        if lines == self.shown {
            return;
        }
        match self.mode {
            Mode::Silent => {}
            Mode::Lines => {
                for line in &lines {
                    if self.printed.insert(line.clone()) {
                        println!("{line}");
                    }
                }
            }
            Mode::Live => {
                print!("{}{NO_WRAP}", erase(self.shown.len()));
                lines.iter().for_each(|line| println!("{line}"));
                print!("{WRAP}");
            }
        }
        // Piped output is buffered by blocks: a person who watches wants the line now.
        let _ = std::io::stdout().flush();
        self.shown = lines;
    }

    /// Takes a live block away; what was printed as lines stays.
    pub fn end(&mut self) {
        if self.mode == Mode::Live && !self.shown.is_empty() {
            print!("{}", erase(self.shown.len()));
            let _ = std::io::stdout().flush();
        }
        self.shown.clear();
    }
}

/// Up by so many lines, and everything from there on is cleared (ECMA-48 CPL and ED).
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}F\x1b[J") }
}
