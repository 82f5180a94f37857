//! `pith node ls | token | approve | revoke`

use std::collections::BTreeMap;

use super::session::Session;
use super::{CliError, Exit, NodeVerb, TokenArgs};
use crate::client::Client;
use crate::render;
use crate::state::requests::NewToken;

pub(super) async fn run(session: &Session, verb: NodeVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    match verb {
        NodeVerb::Ls => {
            let nodes = client.nodes(session.named_environment()).await?;
            session.print(&nodes, render::nodes);
        }
        NodeVerb::Token(args) => token(session, &client, args).await?,
        NodeVerb::Approve { who } => {
            let member = client.approve(&who).await?;
            session.print(&member, render::members::approved);
        }
        NodeVerb::Revoke { who } => {
            let revoked = client.revoke(&who).await?;
            session.print(&revoked, render::members::revoked);
        }
    }
    Ok(Exit::Done)
}

async fn token(session: &Session, client: &Client, args: TokenArgs) -> Result<(), CliError> {
    let wish = NewToken {
        ttl_ms: args.ttl.0,
        labels: labels(&args.labels)?,
        environment: session.named_environment().cloned(),
        approve: args.approve,
        addresses: args.address,
    };
    let token = client.token(&wish).await?;
    session.print(&token, render::members::token);
    if !session.is_json() {
        // Beside the line, which may be caught alone.
        eprintln!("{}", render::members::token_use(&token));
    }
    Ok(())
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let label = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| CliError::usage(format_args!("--labels: `{text}` is not key=value")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(label).collect()
}
