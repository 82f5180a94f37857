//! `pith rollout status | history | diff | undo | pause | resume | promote | abort | restart`

use protocol::id::{ServiceId, ServiceName};

use super::deploy::{follow_accepted, user};
use super::follow::{self, Patience};
use super::session::Session;
use super::{CliError, Exit, RolloutVerb, WaitArgs};
use crate::client::Client;
use crate::render;
use crate::state::requests::{Accepted, Steer, Undo};
use crate::state::shown::RevisionInFull;

pub(super) async fn run(session: &Session, verb: RolloutVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
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
        RolloutVerb::History { service, revision: Some(revision) } => {
            let id = session.service(&client, service).await?;
            let rollout = client.rollout(&id, Some(revision), None).await?;
            let revisions = client.history(&id).await?.revisions;
            let file = revisions.into_iter().find(|one| one.revision == revision);
            let file = file.map(|one| one.file).unwrap_or_default();
            session.print(&RevisionInFull { rollout, file }, render::revision);
            Ok(Exit::Done)
        }
        RolloutVerb::Diff { service, from, to } => {
            let id = session.service(&client, service).await?;
            let (from, to) = both(&client, &id, from, to).await?;
            session.print(&client.difference(&id, from, to).await?, render::difference);
            Ok(Exit::Done)
        }
        RolloutVerb::Pause { service } => {
            let id = session.service(&client, service).await?;
            let accepted = client.steer(&id, &Steer::Pause.into()).await?;
            let rollout = client.rollout(&id, Some(accepted.revision), None).await?;
            session.print(&rollout, render::steered);
            Ok(Exit::Done)
        }
        RolloutVerb::Resume { service, wait } => {
            steer(session, &client, service, Steer::Resume, &wait).await
        }
        RolloutVerb::Promote { service, full, wait } => {
            steer(session, &client, service, Steer::Promote { full }, &wait).await
        }
        RolloutVerb::Abort { service, wait } => {
            let exit = steer(session, &client, service, Steer::Abort, &wait).await?;
            // Going back is what was asked for.
            Ok(if matches!(exit, Exit::RolledBack | Exit::Failed) { Exit::Done } else { exit })
        }
        RolloutVerb::Restart { service, cause, wait } => {
            let id = session.service(&client, service).await?;
            let request = Undo { to_revision: None, cause, by: user(), if_revision: None };
            let accepted = client.restart(&id, &request).await?;
            followed(session, &client, &accepted, &wait).await
        }
        RolloutVerb::History { service, revision: None } => {
            let id = session.service(&client, service).await?;
            session.print(&client.history(&id).await?, render::history);
            Ok(Exit::Done)
        }
        RolloutVerb::Undo { service, to_revision, cause, if_revision, wait } => {
            let id = session.service(&client, service).await?;
            let request = Undo { to_revision, cause, by: user(), if_revision };
            let accepted = client.undo(&id, &request).await?;
            followed(session, &client, &accepted, &wait).await
        }
    }
}

/// The two revisions to compare: those named, else the newest and the one before it.
async fn both(
    client: &Client,
    id: &ServiceId,
    from: Option<u64>,
    to: Option<u64>,
) -> Result<(u64, u64), CliError> {
    let known = client.history(id).await?.revisions;
    let newest = known.last().map_or(0, |revision| revision.revision);
    let to = to.unwrap_or(newest);
    let before = known.iter().rev().find(|revision| revision.revision < to);
    let from = from.or(before.map(|revision| revision.revision)).unwrap_or(to);
    Ok((from, to))
}

/// Steers the rollout under way and, where it is wanted, waits until it stands or ends.
async fn steer(
    session: &Session,
    client: &Client,
    service: ServiceName,
    request: Steer,
    wait: &WaitArgs,
) -> Result<Exit, CliError> {
    let id = session.service(client, service).await?;
    let accepted = client.steer(&id, &request.into()).await?;
    let Some(patience) = Patience::of(wait) else {
        let rollout = client.rollout(&id, Some(accepted.revision), None).await?;
        session.print(&rollout, render::steered);
        return Ok(Exit::Done);
    };
    let (rollout, exit) =
        follow::rollout(session, client, &id, accepted.revision, patience).await?;
    if session.is_json() {
        session.print(&rollout, render::rollout);
    }
    Ok(exit)
}

async fn followed(
    session: &Session,
    client: &Client,
    accepted: &Accepted,
    wait: &WaitArgs,
) -> Result<Exit, CliError> {
    let patience = Patience::of(wait);
    let (rollout, exit) = follow_accepted(session, client, accepted, patience).await?;
    if session.is_json() {
        session.print(&rollout, render::rollout);
    }
    Ok(exit)
}
