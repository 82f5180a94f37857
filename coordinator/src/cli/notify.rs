//! `pith notify`

use std::time::Duration;

use super::arguments::NotifyVerb;
use super::session::Session;
use super::{CliError, Exit};
use crate::api::NotifyShown;
use crate::render;

/// Targets answer within ten seconds or not at all.
const PATIENCE: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(session: &Session, verb: NotifyVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let shown = match verb {
        NotifyVerb::Ls => client.notify_targets().await?,
        NotifyVerb::Test => {
            let before = client.notify_targets().await?;
            let _ = client.notify_test().await?;
            let until = tokio::time::Instant::now() + PATIENCE;
            loop {
                let now = client.notify_targets().await?;
                if is_settled(&before, &now) || tokio::time::Instant::now() >= until {
                    break now;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    };
    session.print(&shown, |shown| render::notify::targets(&shown.targets));
    let is_told = shown.targets.iter().all(|target| target.error.is_none());
    Ok(if is_told { Exit::Done } else { Exit::Failed })
}

/// Every target has taken the message, or failed to.
fn is_settled(before: &NotifyShown, now: &NotifyShown) -> bool {
    now.targets.iter().all(|target| {
        let then = before.targets.iter().find(|of| of.name == target.name);
        target.error.is_some() || then.is_none_or(|then| target.delivered > then.delivered)
    })
}
