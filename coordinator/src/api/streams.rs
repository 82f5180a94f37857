//! Answers without a length: what instances write, what commands in them write, and what a board finds of itself, one JSON document per line.
//!
//! ```text
//! request -> nodes to ask -> per node: a signed command, its parts as they come -> lines -> client
//!                                      kept while somebody listens; what is not taken is not told further
//! ```
//! A client that goes away ends all its streams; so does a coordinator that dies, for nobody keeps them then.

mod told;
mod typed;

use std::convert::Infallible;
use std::num::NonZeroU16;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Json};
use futures_util::stream;
use hyper::upgrade::OnUpgrade;
use protocol::command::{Act, Exec, Forward, Logs, MAX_LINES, Terminal};
use protocol::id::{NodeName, ServiceId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Api;
use super::caller::Peer;
use super::problem::{Answer, Failed};
use super::write::{Of, service_id};
use crate::role::Role;
use crate::state::commands::Target;
use told::Told;
use typed::Typing;
pub use typed::{TypedWanted, UPGRADE_TO};

/// Lines that the client has not taken.
const MAX_LINES_WAITING: usize = 8;
/// Nodes that one request asks.
const MAX_NODES_ASKED: usize = 64;
/// Which lines are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogsWanted {
    node: Option<NodeName>,
    instance: Option<String>,
    lines: Option<u32>,
    since_s: Option<u64>,
    follow: bool,
    previous: bool,
}

/// What is to be run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecWanted {
    /// On this node; none: on the first that runs the service and is heard of.
    pub node: Option<NodeName>,
    /// In this instance; none: in the youngest there.
    pub instance: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its standard input is what is typed ([`TypedWanted`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
    /// It gets a terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// Where to connect to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardWanted {
    /// On this node; none: on the first that runs the service and is heard of.
    pub node: Option<NodeName>,
    /// To this instance; none: to the youngest there.
    pub instance: Option<String>,
    /// TCP, inside the instance.
    pub port: NonZeroU16,
}

pub(super) async fn logs(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    UrlPath(of): Of,
    Query(wanted): Query<LogsWanted>,
) -> Answer {
    let id = service_id(of);
    let LogsWanted { node, instance, lines, since_s, follow, previous } = wanted;
    let service = id.name.clone();
    let lines = lines.unwrap_or(MAX_LINES).min(MAX_LINES);
    let targets = api.fleet.ask(move |state, _| state.whom_to_ask(&id, node.as_ref())).await??;
    if targets.len() > MAX_NODES_ASKED {
        let message = format!(
            "{service} runs on {} nodes, and {MAX_NODES_ASKED} are asked at once; name one with --node",
            targets.len()
        );
        return Err(Failed::new(StatusCode::CONFLICT, "too_many_nodes", message));
    }
    let act = Act::Logs(Logs { service, instance, lines, since_s, follow, previous });
    Ok(answer(&Listening { api, peer, least: Role::Viewer }, targets, &act))
}

pub(super) async fn exec(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    upgrade: Option<Extension<OnUpgrade>>,
    UrlPath(of): Of,
    Json(wanted): Json<ExecWanted>,
) -> Answer {
    let id = service_id(of);
    let ExecWanted { node, instance, command, input, terminal } = wanted;
    let exec = Exec { service: id.name.clone(), instance, command, input, terminal };
    exec.check().map_err(|refused| {
        Failed::new(StatusCode::BAD_REQUEST, refused.code(), refused.to_string())
    })?;
    let target = one_of(&api, &id, node).await?;
    let (listening, act) = (Listening { api, peer, least: Role::Operator }, Act::Exec(exec));
    if input || terminal.is_some() {
        return typed::answer(listening, target, act, upgrade);
    }
    Ok(answer(&listening, vec![target], &act))
}

pub(super) async fn forward(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    upgrade: Option<Extension<OnUpgrade>>,
    UrlPath(of): Of,
    Json(wanted): Json<ForwardWanted>,
) -> Answer {
    let id = service_id(of);
    let ForwardWanted { node, instance, port } = wanted;
    let target = one_of(&api, &id, node).await?;
    let listening = Listening { api, peer, least: Role::Operator };
    let act = Act::Forward(Forward { service: id.name, instance, port });
    typed::answer(listening, target, act, upgrade)
}

/// The node that is named, else the first that is heard of.
async fn one_of(api: &Api, id: &ServiceId, node: Option<NodeName>) -> Result<Target, Failed> {
    let of = id.clone();
    let targets = api.fleet.ask(move |state, _| state.whom_to_ask(&of, node.as_ref())).await??;
    let first = targets.iter().find(|target| target.online).or(targets.first()).cloned();
    first.ok_or_else(|| {
        let message = format!("no node runs {id}; `pith ps` shows where it runs");
        Failed::new(StatusCode::CONFLICT, "command_no_such_instance", message)
    })
}

pub(super) async fn doctor(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    UrlPath(who): UrlPath<String>,
) -> Answer {
    let target = api.fleet.ask(move |state, _| state.whom_to_examine(&who)).await??;
    Ok(answer(&Listening { api, peer, least: Role::Viewer }, vec![target], &Act::Doctor))
}

/// Who listens, and what they must be for as long as they do.
#[derive(Debug, Clone)]
struct Listening {
    api: Arc<Api>,
    peer: Peer,
    least: Role,
}

fn answer(listening: &Listening, targets: Vec<Target>, act: &Act) -> axum::response::Response {
    let (out, lines) = mpsc::channel::<Bytes>(MAX_LINES_WAITING);
    for target in targets {
        let told =
            Told { listening: listening.clone(), node: target.name.clone(), out: out.clone() };
        let act = act.clone();
        tokio::spawn(async move {
            // A client that goes away wants no more lines, and a coordinator that stops says none.
            let _ = told.tell(&target, act, Typing::nobody()).await;
        });
    }
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
