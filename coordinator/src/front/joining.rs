//! The desk at the door: takes requests to join and to renew, asks the state, hands out certificates; and says which CA is the fleet's.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use protocol::envelope::Envelope;
use protocol::id::NodeId;
use protocol::join::{
    Answer, JOIN_PATH, JoinBody, MAX_BODY_BYTES, MAX_RENEW_BYTES, RENEW_PATH, RefusalCode, Refused,
    RenewBody, TlsKey,
};
use protocol::recovery::RECOVERY_PATH;
use protocol::succession;
use tokio::sync::Semaphore;

use crate::ca::{Ca, NodeCertificate};
use crate::data_dir::DataDir;
use crate::event_loop::{Fleet, Stopped};
use crate::state::members::Issue;

/// Requests in work; the others are told to come later.
const MAX_AT_ONCE: usize = 32;

/// What is handed out beside the state's decision.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Signs.
    pub ca: Arc<Ca>,
    /// The trust root.
    pub data: DataDir,
    /// Where the broker is, if it is not the coordinator's port.
    pub broker: Option<String>,
}

impl Issue for Desk {
    fn certificate(
        &self,
        node: &NodeId,
        key: &TlsKey,
        now_s: u64,
    ) -> Result<NodeCertificate, String> {
        self.ca.node(node, key, now_s).map_err(|error| error.to_string())
    }

    fn ca_pem(&self) -> String {
        self.ca.pem().to_owned()
    }

    fn roots(&self, newer_than: u64) -> Result<Vec<Envelope>, String> {
        let fleet = self.data.open().map_err(|error| error.to_string())?;
        if newer_than == 0 {
            // Who trusts nothing yet takes the newest as it is.
            let bytes = std::fs::read(self.data.root_file()).map_err(|error| error.to_string())?;
            return Ok(vec![Envelope::from_bytes(&bytes).map_err(|error| error.to_string())?]);
        }
        let is_newer = |envelope: &Envelope| {
            succession::unproven(envelope).is_ok_and(|root| root.version > newer_than)
        };
        Ok(fleet.chain.roots.into_iter().filter(is_newer).collect())
    }

    fn broker(&self) -> Option<String> {
        self.broker.clone()
    }
}

impl Desk {
    /// Whether nodes of an earlier epoch may come back with what they hold: then a body may be as large as a manifest.
    fn takes_back(&self) -> bool {
        self.data.open().is_ok_and(|fleet| fleet.root.epoch > 1)
    }
}

#[derive(Debug)]
struct Office {
    fleet: Fleet,
    desk: Desk,
    at_once: Semaphore,
}

/// What boards may ask over TLS, without a certificate.
pub fn router(fleet: Fleet, desk: Desk) -> Router {
    let max_renew = if desk.takes_back() { MAX_RENEW_BYTES } else { MAX_BODY_BYTES };
    let office = Office { fleet, desk, at_once: Semaphore::new(MAX_AT_ONCE) };
    Router::new()
        .route(JOIN_PATH, post(join))
        .route(RECOVERY_PATH, get(recovery))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route(RENEW_PATH, post(renew).layer(DefaultBodyLimit::max(max_renew)))
        .with_state(Arc::new(office))
}

async fn join(Shared(office): Shared<Arc<Office>>, body: Bytes) -> Response {
    let Ok(_turn) = office.at_once.try_acquire() else { return busy() };
    let body: JoinBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return unreadable(&error),
    };
    let desk = office.desk.clone();
    answer(office.fleet.ask(move |state, at| state.join(&body, &desk, at)).await)
}

async fn renew(Shared(office): Shared<Arc<Office>>, body: Bytes) -> Response {
    let Ok(_turn) = office.at_once.try_acquire() else { return busy() };
    let body: RenewBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return unreadable(&error),
    };
    let desk = office.desk.clone();
    answer(office.fleet.ask(move |state, at| state.renew(&body, &desk, at)).await)
}

/// Worth something to nodes that knew another CA, and told to everybody: it holds nothing that is secret.
async fn recovery(Shared(office): Shared<Arc<Office>>) -> Response {
    let Ok(_turn) = office.at_once.try_acquire() else { return busy() };
    let (sha256, pem) = (office.desk.ca.sha256(), office.desk.ca.pem().to_owned());
    match office.fleet.ask(move |state, _| state.recovery(sha256, pem)).await {
        Ok(body) => Json(body).into_response(),
        Err(Stopped) => busy(),
    }
}

fn answer(answer: Result<Answer, Stopped>) -> Response {
    let Ok(answer) = answer else { return busy() };
    let status = match &answer {
        Answer::Approved(_) => StatusCode::OK,
        Answer::Pending => StatusCode::ACCEPTED,
        Answer::Refused(refused) => match refused.code {
            RefusalCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::BadRequest => StatusCode::BAD_REQUEST,
            RefusalCode::TokenUnknown
            | RefusalCode::TokenExpired
            | RefusalCode::TokenUsed
            | RefusalCode::WrongFleet
            | RefusalCode::WrongEnvironment
            | RefusalCode::Revoked
            | RefusalCode::UnknownNode
            | RefusalCode::Other(_) => StatusCode::FORBIDDEN,
        },
    };
    (status, Json(answer)).into_response()
}

fn busy() -> Response {
    let message = "the coordinator has too much to do; try again in some seconds".to_owned();
    let refused = Answer::Refused(Refused { code: RefusalCode::Busy, message });
    (StatusCode::SERVICE_UNAVAILABLE, Json(refused)).into_response()
}

fn unreadable(error: &serde_json::Error) -> Response {
    let message = format!("not readable: {error}");
    let refused = Answer::Refused(Refused { code: RefusalCode::BadRequest, message });
    (StatusCode::BAD_REQUEST, Json(refused)).into_response()
}
