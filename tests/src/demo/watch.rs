//! A line that is drawn while a rollout runs: what the load sees this second.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use load::Load;

use crate::demo::rollouts::say;

const SECOND: Duration = Duration::from_secs(1);
/// Without a terminal a line each second would only be noise.
const LINES_EVERY: u64 = 5;

/// Draws until dropped.
#[derive(Debug)]
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Begins to draw what `load` sees.
    #[must_use]
    pub fn begin(load: Arc<Load>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || draw(&load, &seen));
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn draw(load: &Load, ended: &AtomicBool) {
    let is_terminal = std::io::stdout().is_terminal();
    let begun = Instant::now();
    for second in 1.. {
        while begun.elapsed() < SECOND * second {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let line = line(load, begun);
        if is_terminal {
            print!("\r\x1b[2K\x1b[36m{line}\x1b[0m\r");
            let _ = std::io::stdout().flush();
        } else if u64::from(second).is_multiple_of(LINES_EVERY) {
            say(&line);
        }
    }
}

fn line(load: &Load, begun: Instant) -> String {
    let now = Instant::now();
    let last = load.summary(now.checked_sub(SECOND).unwrap_or(begun), now);
    let failed = load.summary(begun.checked_sub(SECOND * 3600).unwrap_or(begun), now).failed;
    let total: u64 = last.versions.values().sum();
    let share = |(version, count): (&String, &u64)| {
        let bar = "#".repeat(usize::try_from(count * 20 / total.max(1)).unwrap_or(0));
        format!("{version} {bar} {count}/s")
    };
    let versions: Vec<String> = last.versions.iter().map(share).collect();
    let p99_ms = last.p99.as_secs_f64() * 1000.0;
    format!(
        "  load: {}   failed {failed}   p99 {p99_ms:.1} ms   WebSockets {}",
        versions.join("  "),
        load.sockets_open()
    )
}
