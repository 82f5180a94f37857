//! Who is told what happens.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};

use super::Api;
use super::problem::{Answer, ok};
use crate::notify::TargetShown;
use crate::state::notices::NoticeKind;

/// The answer to both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotifyShown {
    /// As coordinator.toml names them.
    pub targets: Vec<TargetShown>,
}

pub(super) async fn show(Shared(api): Shared<Arc<Api>>) -> Answer {
    ok(NotifyShown { targets: api.fleet.told().shown() })
}

/// Every target gets a message; what becomes of it is in the next answer of [`show`].
pub(super) async fn test(Shared(api): Shared<Arc<Api>>) -> Answer {
    let message = "this is what a message looks like; nothing happened";
    api.fleet.ask(move |state, at| state.notice_fleet(NoticeKind::Test, message, at)).await?;
    ok(NotifyShown { targets: api.fleet.told().shown() })
}
