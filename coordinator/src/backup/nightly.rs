//! The nightly backup: at 02:00 UTC, or as soon as a coordinator runs that has missed one. A failure is logged, stands in the
//! fleet's events, and is tried again within the hour.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use protocol::id::FleetId;

use super::{Asked, BackupError, BackupShown, Database, keep, make, nightlies};
use crate::data_dir::DataDir;
use crate::event_loop::{Fleet, at};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// After midnight, UTC.
const AT_MS: u64 = 2 * HOUR_MS;
/// Clocks are set and machines sleep: the time is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// When the next one is due: the first 02:00 UTC after the newest, at once where there is none.
#[must_use]
pub fn due(newest_ms: Option<u64>, now_ms: u64) -> u64 {
    let Some(newest_ms) = newest_ms else { return now_ms };
    let day = newest_ms.saturating_sub(AT_MS) / DAY_MS;
    let last = day * DAY_MS + AT_MS;
    if newest_ms < last { last } else { last + DAY_MS }
}

/// Makes them until the coordinator ends.
pub async fn run(fleet: Fleet, data: DataDir, id: FleetId) {
    // Not before this, whatever the times of files say.
    let mut again_ms = 0;
    loop {
        let now_ms = at().unix_ms;
        let wait_ms =
            due(newest_ms(&data, &id, now_ms), now_ms).max(again_ms).saturating_sub(now_ms);
        if wait_ms > 0 {
            tokio::time::sleep(LOOK_EVERY.min(Duration::from_millis(wait_ms))).await;
            continue;
        }
        again_ms = now_ms + HOUR_MS;
        match one(&fleet, &data, now_ms).await {
            Ok(kept) => {
                tracing::info!(file = %kept.file.display(), bytes = kept.bytes, "backup made");
            }
            Err(BackupError::Stopped(_)) => return,
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(%reason, "the nightly backup failed; it is tried again in an hour");
                let told = fleet.ask(move |state, at| state.backup_failed(&reason, at)).await;
                if told.is_err() {
                    return;
                }
            }
        }
    }
}

async fn one(fleet: &Fleet, data: &DataDir, now_ms: u64) -> Result<BackupShown, BackupError> {
    let backup = make(data, Database::Running(fleet), now_ms).await?;
    keep(data, backup, Asked::Nightly).await
}

/// When the newest was written; what is of a time that has yet to come was written under a wrong clock.
fn newest_ms(data: &DataDir, id: &FleetId, now_ms: u64) -> Option<u64> {
    let written = |path: &PathBuf| {
        let since_epoch = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since_epoch.as_millis()).ok()
    };
    let found = nightlies(&data.backups(), id);
    found.iter().filter_map(written).filter(|written| *written <= now_ms).max()
}
