//! `pith node ls | token`

use super::session::Session;
use super::{CliError, Exit, NodeVerb};
use crate::render;

pub(super) async fn run(session: &Session, verb: NodeVerb) -> Result<Exit, CliError> {
    let client = session.client()?;
    match verb {
        NodeVerb::Ls => {
            let nodes = client.nodes(session.named_environment()).await?;
            session.print(&nodes, render::nodes);
        }
        NodeVerb::Token { id } => {
            let token = client.token(id.as_str()).await?;
            session.print(&token, |token| format!("{}\n", token.token));
        }
    }
    Ok(Exit::Done)
}
