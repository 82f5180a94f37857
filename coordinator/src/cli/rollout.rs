//! `pith rollout status | history | undo`

use super::deploy::{follow_accepted, user};
use super::follow::{self, Patience};
use super::session::Session;
use super::{CliError, Exit, RolloutVerb};
use crate::render;
use crate::state::requests::Undo;

pub(super) async fn run(session: &Session, verb: RolloutVerb) -> Result<Exit, CliError> {
    let client = session.client()?;
    match verb {
        RolloutVerb::Status { service, revision, watch, timeout } => {
            let id = session.service(&client, service).await?;
            let rollout = client.rollout(&id, revision, None).await?;
            if !watch {
                session.print(&rollout, render::rollout);
                return Ok(Exit::Done);
            }
            let patience = Patience::at_most(timeout.map(|t| t.duration()));
            let (rollout, exit) =
                follow::rollout(session, &client, &id, rollout.revision, patience).await?;
            if session.is_json() {
                session.print(&rollout, render::rollout);
            }
            Ok(exit)
        }
        RolloutVerb::History { service } => {
            let id = session.service(&client, service).await?;
            session.print(&client.history(&id).await?, render::history);
            Ok(Exit::Done)
        }
        RolloutVerb::Undo { service, to_revision, cause, wait } => {
            let id = session.service(&client, service).await?;
            let accepted = client.undo(&id, &Undo { to_revision, cause, by: user() }).await?;
            let patience = Patience::of(&wait);
            let (rollout, exit) = follow_accepted(session, &client, &accepted, patience).await?;
            if session.is_json() {
                session.print(&rollout, render::rollout);
            }
            Ok(exit)
        }
    }
}
