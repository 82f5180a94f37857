//! What systemd is told of `pith serve`: that it is ready, and that it goes on. Without systemd nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;

use crate::event_loop::Fleet;

/// One that is late once is not killed.
const FEEDS_PER_LIMIT: u32 = 3;

/// Ready now; then fed each time the loop has answered, which it does once what it changed before is stored and published.
/// Ends where it is not watched, or with the loop.
pub async fn run(fleet: Fleet) {
    say(NotifyState::Ready);
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let every: Duration = limit / FEEDS_PER_LIMIT;
    loop {
        sleep(every).await;
        if fleet.ask(|_, _| ()).await.is_err() {
            return;
        }
        say(NotifyState::Watchdog);
    }
}

fn say(state: NotifyState<'_>) {
    // Without systemd nobody listens; with it, a word that is lost is said again.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}
