//! `pith ps`

use protocol::id::ServiceName;

use super::session::Session;
use super::{CliError, Exit};
use crate::render;
use crate::render::ps::ServiceWithHistory;

/// Revisions under each node, the one that stands included: as many as `docker service ps` keeps.
const REVISIONS_SHOWN: usize = 5;

pub(super) async fn run(session: &Session, service: Option<ServiceName>) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let Some(name) = service else {
        let services = client.services(session.named_environment(), None).await?;
        session.print(&services, render::services);
        return Ok(Exit::Done);
    };
    let id = session.service(&client, name).await?;
    // Asked first: it says by its error that there is no such service.
    let revisions = client.history(&id).await?.revisions;
    let mut history = Vec::new();
    for revision in revisions.iter().rev().take(REVISIONS_SHOWN) {
        history.push(client.rollout(&id, Some(revision.revision), None).await?);
    }
    let services = client.services(Some(&id.environment), None).await?.services;
    let service = services.into_iter().find(|service| service.name == id.name);
    let service = service.ok_or_else(|| CliError::failed(format_args!("{id} is gone by now")))?;
    session.print(&ServiceWithHistory { service, history }, render::ps::service);
    Ok(Exit::Done)
}
