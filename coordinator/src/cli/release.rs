//! `pith release retire SERVICE --below RELEASE`: signed here, by the release key.

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::retirement::Retirement;

use super::deploy::user;
use super::session::Session;
use super::signing;
use super::{CliError, Exit, ReleaseVerb};
use crate::render;
use crate::state::requests::Retire;

pub(super) async fn run(session: &Session, verb: ReleaseVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let ReleaseVerb::Retire { service, below, cause } = verb;
    let fleet = session.fleet(&client).await?;
    let keys = signing::release_keys(&session.own_folder()?, &fleet.root)?;
    let retirement = Retirement { format: FORMAT, fleet: fleet.id, service, below };
    let retirement = Envelope::sign(&retirement, &keys.iter().collect::<Vec<_>>());
    let retired = client.retire(&Retire { retirement, cause, by: user() }).await?;
    session.print(&retired, render::retired);
    Ok(Exit::Done)
}
