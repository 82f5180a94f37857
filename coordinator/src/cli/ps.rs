//! `pith ps`

use super::session::Session;
use super::{CliError, Exit};
use crate::render;

pub(super) async fn run(session: &Session) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let services = client.services(session.named_environment(), None).await?;
    session.print(&services, render::services);
    Ok(Exit::Done)
}
