//! `pith node ls | top | install | replace | doctor | token | approve | revoke`

pub(super) mod doctor;
mod top;

use std::collections::BTreeMap;

use super::session::Session;
use super::{CliError, Exit, NodeVerb, TokenArgs, install};
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
        NodeVerb::Top(args) => return top::run(session, &client, args).await,
        NodeVerb::Doctor { who } => return doctor::run(session, &client, &who).await,
        NodeVerb::Install(args) => return install::run(session, &client, *args).await,
        NodeVerb::Replace(args) => return install::replace(session, &client, *args).await,
        NodeVerb::Token(args) => token(session, &client, args).await?,
        NodeVerb::Approve { who: Some(who), .. } => {
            let member = client.approve(&who).await?;
            session.print(&member, render::members::approved);
        }
        NodeVerb::Approve { who: None, .. } => return approve_all(session, &client).await,
        NodeVerb::Revoke { who } => {
            let revoked = client.revoke(&who).await?;
            session.print(&revoked, render::members::revoked);
        }
    }
    Ok(Exit::Done)
}

async fn approve_all(session: &Session, client: &Client) -> Result<Exit, CliError> {
    let shown = client.nodes(session.named_environment()).await?;
    let heard = shown.nodes.iter().filter(|node| node.status == "pending").map(|node| &node.id);
    let unheard = shown.lobby.iter().filter(|m| m.status == "pending").map(|member| &member.id);
    let mut approved = Vec::new();
    for id in heard.chain(unheard) {
        approved.push(client.approve(id.as_str()).await?);
    }
    session.print(&approved, |approved| match approved.as_slice() {
        [] => "nobody waits\n".to_owned(),
        some => some.iter().map(render::members::approved).collect(),
    });
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

pub(super) fn labels(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let label = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| CliError::usage(format_args!("--labels: `{text}` is not key=value")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(label).collect()
}
