//! One rollout of the demo, timed from outside.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fleet::Fleet;

/// What one rollout came to.
#[derive(Debug)]
pub struct Timed {
    /// What was asked.
    pub what: String,
    /// The exit code of the command.
    pub code: i32,
    /// When it began.
    pub begun: Instant,
    /// How long the command took.
    pub took: Duration,
}

/// Runs `pith …`, shows its progress lines as they come, and times it.
///
/// # Panics
/// When the command cannot be run.
#[must_use]
pub fn run(fleet: &Fleet, what: &str, args: &[&str]) -> Timed {
    say(&format!("$ pith {}", args.join(" ")));
    let begun = Instant::now();
    let mut child = fleet
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pith can be run");
    let stderr = child.stderr.take().expect("stderr is piped");
    let shown = std::thread::spawn(move || show(stderr));
    show(child.stdout.take().expect("stdout is piped"));
    let _ = shown.join();
    let status = child.wait().expect("a child can be waited for");
    let code = status.code().unwrap_or(-1);
    let took = begun.elapsed();
    say(&format!("  exit code {code} after {:.1} s\n", took.as_secs_f64()));
    Timed { what: what.to_owned(), code, begun, took }
}

fn show(stream: impl std::io::Read) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        say(&format!("  {line}"));
    }
}

/// One line for the person who watches.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let dim = out.is_terminal() && line.starts_with("  ");
    let line = if dim { format!("\x1b[2m{line}\x1b[0m") } else { line.to_owned() };
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
