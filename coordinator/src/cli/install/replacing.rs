//! `pith node replace`: another board in the place of one, which may be dead.

use std::io::{IsTerminal as _, Write as _};

use super::{TOKEN_MS, Visit, known};
use crate::cli::arguments::ReplaceArgs;
use crate::cli::session::Session;
use crate::cli::{CliError, Exit};
use crate::client::Client;
use crate::install::plan::{self, Wish};
use crate::install::ssh::Target;
use crate::render::members;
use crate::state::requests::{NewToken, Replace};
use crate::state::shown::ReplacementShown;

pub(in crate::cli) async fn run(
    session: &Session,
    client: &Client,
    args: ReplaceArgs,
) -> Result<Exit, CliError> {
    let old = client.replacement(&args.old).await?;
    let nodes = client.nodes(None).await?.nodes;
    let is_node =
        nodes.iter().any(|node| node.name.as_str() == args.new || node.id.as_str() == args.new);
    if is_node {
        return by_node(session, client, &args, &old).await;
    }
    let target: Target = args.new.parse().map_err(|error| {
        CliError::usage(format_args!("{error}, nor the name of a node (`pith node ls`)"))
    })?;
    let visit = Visit::begin(session, client, target, &args.board).await?;
    let mut known = known(client).await?;
    known.names.remove(&old.name);
    if let Some(of) = visit.facts.membership.as_ref().filter(|of| of.fleet == known.fleet) {
        return Err(CliError::refused(format_args!(
            "that board is node {id} of this fleet already: `pith node replace {old} {id}`",
            id = of.node,
            old = old.name
        )));
    }
    let wish = Wish {
        name: Some(old.name.clone()),
        allow: args.board.allow.clone(),
        tune_docker: args.board.tune_docker,
        upgrade: false,
    };
    let plan = plan::plan(&visit.facts, &wish, &known, visit.package.as_ref().ok())?;
    if !agreed(&args, &old)? {
        return Ok(Exit::Failed);
    }
    let addresses = args.board.address.clone();
    let token = NewToken { ttl_ms: TOKEN_MS, addresses, ..NewToken::default() };
    let wish = Replace::Token(token);
    let id = old.id.to_string();
    let make_token = async || {
        let shown = client.replace(&id, &wish).await?;
        shown.token.ok_or_else(|| CliError::failed("the coordinator gave no token"))
    };
    let exit = visit.carry_out(plan, &args.board, make_token).await?;
    after(session, &old);
    Ok(exit)
}

async fn by_node(
    session: &Session,
    client: &Client,
    args: &ReplaceArgs,
    old: &ReplacementShown,
) -> Result<Exit, CliError> {
    if !agreed(args, old)? {
        return Ok(Exit::Failed);
    }
    let shown = client.replace(old.id.as_str(), &Replace::Node(args.new.clone())).await?;
    session.print(&shown, |shown| members::replaced(shown, &args.new));
    after(session, old);
    Ok(Exit::Done)
}

/// What it does is said before anybody is asked.
fn agreed(args: &ReplaceArgs, old: &ReplacementShown) -> Result<bool, CliError> {
    eprint!("{}", members::replacing(old, &args.new));
    if args.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("nobody is there to ask; say --yes"));
    }
    eprint!("replace {} by {}? [y/N] ", old.name, args.new);
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CliError::failed)?;
    let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        eprintln!("nothing was changed");
    }
    Ok(agreed)
}

fn after(session: &Session, old: &ReplacementShown) {
    if !session.is_json() {
        eprint!("{}", members::after_replacing(old));
    }
}
