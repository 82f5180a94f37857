//! `pith notify`

use std::time::Duration;

use super::arguments::NotifyVerb;
use super::session::Session;
use super::{CliError, Exit};
use crate::api::NotifyShown;
use crate::notify::TargetShown;
use crate::render;

/// Targets answer within ten seconds or not at all; one may still be waited for of the message before.
const PATIENCE: Duration = Duration::from_secs(22);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(session: &Session, verb: NotifyVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let mut is_told = true;
    let shown = match verb {
        NotifyVerb::Ls => client.notify_targets().await?,
        NotifyVerb::Test => {
            let before = client.notify_targets().await?;
            let _ = client.notify_test().await?;
            let until = tokio::time::Instant::now() + PATIENCE;
            let mut now = client.notify_targets().await?;
            while !silent(&before, &now).is_empty() && tokio::time::Instant::now() < until {
                tokio::time::sleep(LOOK_EVERY).await;
                now = client.notify_targets().await?;
            }
            is_told = !now.targets.is_empty();
            for name in silent(&before, &now) {
                eprintln!("{name}: it has not answered within {}s", PATIENCE.as_secs());
                is_told = false;
            }
            now
        }
    };
    session.print(&shown, |shown| render::notify::targets(&shown.targets));
    is_told &= shown.targets.iter().all(|target| target.error.is_none());
    Ok(if is_told { Exit::Done } else { Exit::Failed })
}

/// Targets of which nothing is known since: they have neither taken a message nor failed to.
fn silent(before: &NotifyShown, now: &NotifyShown) -> Vec<String> {
    let attempts = |of: &TargetShown| (of.delivered, of.failed);
    let is_silent = |target: &&TargetShown| {
        let then = before.targets.iter().find(|of| of.name == target.name);
        then.is_some_and(|then| attempts(then) == attempts(target))
    };
    now.targets.iter().filter(is_silent).map(|target| target.name.clone()).collect()
}
