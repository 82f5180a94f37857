//! `pith operator invite | ls | revoke`

use super::session::Session;
use super::{CliError, Exit, OperatorVerb};
use crate::render;
use crate::state::requests::NewOperator;

pub(super) async fn run(session: &Session, verb: OperatorVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    match verb {
        OperatorVerb::Invite { name, role, ttl, address } => {
            let wish = NewOperator { name, role, ttl_ms: ttl.0, addresses: address };
            let invitation = client.invite(&wish).await?;
            session.print(&invitation, render::people::invitation);
            if !session.is_json() {
                // Beside the line, which may be caught alone.
                eprintln!("{}", render::people::invitation_use(&invitation));
            }
        }
        OperatorVerb::Ls => {
            session.print(&client.operators().await?, render::people::operators);
        }
        OperatorVerb::Revoke { name } => {
            let revoked = client.revoke_operator(&name).await?;
            session.print(&revoked, render::people::revoked);
        }
    }
    Ok(Exit::Done)
}
