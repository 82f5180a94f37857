//! `pith promote SERVICE --from staging --to production`

use super::deploy::{follow_accepted, user};
use super::follow::Patience;
use super::session::Session;
use super::{CliError, Exit, PromoteArgs};
use crate::render;
use crate::state::requests::Promote;

pub(super) async fn run(session: &Session, args: PromoteArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let PromoteArgs { service, from, to, cause, wait } = args;
    let accepted = client.promote(&Promote { service, from, to, cause, by: user() }).await?;
    let patience = Patience::of(&wait);
    let (rollout, exit) = follow_accepted(session, &client, &accepted, patience).await?;
    if session.is_json() {
        session.print(&rollout, render::rollout);
    }
    Ok(exit)
}
