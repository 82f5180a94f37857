//! `pith node top`: once, with what nodes tell when they are asked; or again and again.

use std::io::{IsTerminal as _, Write as _};

use tokio::signal::ctrl_c;

use crate::cli::arguments::NodeTopArgs;
use crate::cli::session::Session;
use crate::cli::sources::is_away;
use crate::cli::top::gather::{EVERY, nodes_told, now_here_ms};
use crate::cli::{CliError, Exit};
use crate::client::{Client, ClientError};
use crate::render::figures;
use crate::render::figures::harmless_json;
use crate::render::top::tracks::Tracks;
use crate::render::top::{self as render, Sort};
use crate::state::shown::{NodeShown, NodesShown};

/// Home, and everything from there on is cleared (ECMA-48 CUP and ED).
const FRESH: &str = "\x1b[H\x1b[2J";

pub(super) async fn run(
    session: &Session,
    client: &Client,
    args: NodeTopArgs,
) -> Result<Exit, CliError> {
    let view = View { is_json: session.is_json(), who: args.who, sort: args.sort.into() };
    let mut tracks = Tracks::default();
    if args.watch {
        return watch(session, client, &view, tracks).await;
    }
    let nodes =
        nodes_told(client, session.named_environment(), view.who.as_deref(), &mut tracks).await?;
    print!("{}", view.text(&nodes, &tracks, true)?);
    Ok(Exit::Done)
}

async fn watch(
    session: &Session,
    client: &Client,
    view: &View,
    mut tracks: Tracks,
) -> Result<Exit, CliError> {
    let is_live = std::io::stdout().is_terminal() && !view.is_json;
    let mut nodes = client.watched_nodes(session.named_environment(), None).await?;
    let mut seen_ms = now_here_ms();
    let mut away = String::new();
    loop {
        tracks.take(&nodes);
        let fresh = if is_live { FRESH } else { "" };
        let text = if away.is_empty() || is_live {
            view.text(&nodes, &tracks, false)?
        } else {
            String::new()
        };
        // One document a line, or tables with an empty line between.
        let between = if is_live || view.is_json || !away.is_empty() { "" } else { "\n" };
        let mut out = std::io::stdout().lock();
        if write!(out, "{fresh}{text}{between}").and_then(|()| out.flush()).is_err() {
            // Nobody reads what is printed.
            return Ok(Exit::Done);
        }
        drop(out);
        if !away.is_empty() {
            eprintln!("{away}");
        }
        let next = async {
            tokio::time::sleep(EVERY).await;
            client.watched_nodes(session.named_environment(), None).await
        };
        let next: Result<NodesShown, ClientError> = tokio::select! {
            // Cancel-safe: nothing is taken from anyone by asking.
            next = next => next,
            _ = ctrl_c() => return Ok(Exit::Done),
        };
        match next {
            Ok(next) => (nodes, seen_ms, away) = (next, now_here_ms(), String::new()),
            Err(error) if is_away(&error) => {
                let ago = figures::ago(seen_ms, now_here_ms());
                away = format!("coordinator away, last seen {ago}");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is wanted of an answer.
struct View {
    is_json: bool,
    who: Option<String>,
    sort: Sort,
}

impl View {
    /// Whole lines: a table, one node, or what the API gave.
    fn text(&self, shown: &NodesShown, tracks: &Tracks, pretty: bool) -> Result<String, CliError> {
        let now_ms = render::now_ms(&shown.nodes, now_here_ms());
        let Some(who) = &self.who else {
            if self.is_json {
                return Ok(json(shown, pretty));
            }
            let mut nodes: Vec<&NodeShown> = shown.nodes.iter().collect();
            self.sort.apply(&mut nodes, now_ms);
            return Ok(render::nodes(&nodes, tracks, now_ms));
        };
        let node = find(shown, who)?;
        if self.is_json {
            return Ok(json(node, pretty));
        }
        Ok(render::node(node, tracks.of(&node.id), now_ms))
    }
}

fn find<'a>(shown: &'a NodesShown, who: &str) -> Result<&'a NodeShown, CliError> {
    let is_meant = |node: &&NodeShown| node.name.as_str() == who || node.id.as_str() == who;
    shown.nodes.iter().find(is_meant).ok_or_else(|| {
        let waits = shown.lobby.iter().any(|one| one.name == who || one.id.as_str() == who);
        let who = figures::plain(who);
        CliError::usage(match waits {
            true => format!("{who} has not said hello yet: `pith node ls` shows where it stands"),
            false => format!("no node is called {who}; `pith node ls` lists them"),
        })
    })
}

fn json(value: &impl serde::Serialize, pretty: bool) -> String {
    let text = match pretty {
        true => serde_json::to_string_pretty(value),
        false => serde_json::to_string(value),
    };
    harmless_json(&text.expect("answers are plain data with string keys")) + "\n"
}
