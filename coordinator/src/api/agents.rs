//! Requests about releases of the agent.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Json;
use protocol::agent_release::MAX_PROGRAM_BYTES;
use protocol::id::sha256_hex;

use super::Api;
use super::problem::{Answer, Failed, ok};
use super::read::Wanted;
use super::write::{By, Turn};
use crate::archives::next_piece;
use crate::programs::Programs;
use crate::state::State;
use crate::state::answers::Secrecy;
use crate::state::requests::{AddAgentRelease, AgentSteer, RollAgent};

pub(super) async fn show(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    api.wait(&wanted).await;
    ok(api.fleet.ask(|state, at| state.show_agents(at)).await?)
}

/// A program under the hash that the path names.
pub(super) async fn keep_program(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(program): UrlPath<String>,
    body: Body,
) -> Answer {
    let body = whole(body).await?;
    if sha256_hex(&body) != program {
        let message = "the program is not what its path names: it came damaged, or is another";
        return Err(Failed::new(StatusCode::BAD_REQUEST, "other_program", message));
    }
    let programs = Programs::of(&api.data);
    let kept = tokio::task::spawn_blocking(move || programs.keep(&body)).await;
    let kept = kept.map_err(|error| Failed::internal("program", &error))?;
    ok(kept.map_err(|error| Failed::internal("program", &error))?)
}

async fn whole(body: Body) -> Result<Vec<u8>, Failed> {
    let refused = |status, code, message: String| Failed::new(status, code, message);
    let (mut stream, mut whole) = (body.into_data_stream(), Vec::new());
    let broken = |how| {
        let message = format!("the upload broke off: {how}; nothing was kept");
        refused(StatusCode::REQUEST_TIMEOUT, "broken_off", message)
    };
    while let Some(piece) = next_piece(&mut stream).await.map_err(broken)? {
        if (whole.len() + piece.len()) as u64 > MAX_PROGRAM_BYTES {
            let message = format!("a program has at most {} MiB", MAX_PROGRAM_BYTES >> 20);
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// A release is signed where its key is; here its programs must be before it.
pub(super) async fn add(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    By(asked): By<AddAgentRelease>,
) -> Answer {
    let programs = Programs::of(&api.data);
    let known = programs.clone();
    let add = move |state: &mut State, at| {
        state.add_agent_release(
            asked,
            |program| known.size(&program.digest) == Some(program.size),
            at,
        )
    };
    let answer = api.act(turn, Secrecy::Open, add).await;
    let needed = api.fleet.ask(|state, _| state.agent_programs()).await?;
    if let Err(error) = programs.keep_only(&needed) {
        tracing::warn!(%error, "programs that no release names stay");
    }
    answer
}

pub(super) async fn roll(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    By(asked): By<RollAgent>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.roll_agent(asked, at)).await
}

pub(super) async fn steer(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(asked): Json<AgentSteer>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.steer_agents(asked, at)).await
}
