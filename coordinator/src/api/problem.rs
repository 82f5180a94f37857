//! Answers and errors as HTTP says them.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use super::{Problem, REPEATED_HEADER};
use crate::backup::BackupError;
use crate::event_loop::Stopped;
use crate::state::answers::{Once, Outcome};
use crate::state::requests::Refused;

pub(super) type Answer = Result<Response, Failed>;

/// Status, code and sentence of an error.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    code: String,
    message: String,
    /// Worth asking again after this.
    after: Option<Duration>,
}

/// Beside an answer, for the audit log: why it is none.
#[derive(Debug, Clone)]
pub(super) struct Code(pub(super) String);

pub(super) fn ok(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

/// What the state has said, to be kept and answered.
pub(super) fn outcome<T: Serialize>(result: Result<T, Refused>) -> Outcome {
    match result {
        Ok(value) => Outcome { status: 200, code: None, body: json(&value) },
        Err(refused) => {
            let code = refused.code().to_owned();
            let problem = Problem { code: code.clone(), message: refused.to_string() };
            let status = status_of(&refused).as_u16();
            Outcome { status, code: Some(code), body: json(&problem) }
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("answers are plain data with string keys")
}

/// The answer of a request under a key.
pub(super) fn ok_once(once: Once) -> Answer {
    match once {
        Once::Done(outcome) => Ok(respond(outcome)),
        Once::Repeated(outcome) => {
            let mut response = respond(outcome);
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert(REPEATED_HEADER, yes);
            Ok(response)
        }
        Once::OtherRequest => Err(Failed::new(
            StatusCode::CONFLICT,
            "key_reused",
            "this idempotency key was used for another request within the last day; take a new one",
        )),
        Once::SecretGone => Err(Failed::new(
            StatusCode::CONFLICT,
            "answer_gone",
            "this was done before, and its answer was a secret that is kept nowhere; ask for another",
        )),
    }
}

fn respond(Outcome { status, code, body }: Outcome) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (status, json, body).into_response();
    if let Some(code) = code {
        response.extensions_mut().insert(Code(code));
    }
    response
}

impl Failed {
    pub(super) fn new(
        status: StatusCode,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into(), after: None }
    }

    pub(super) fn internal(code: &str, error: &dyn fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, error.to_string())
    }

    pub(super) fn role(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "role", message)
    }

    pub(super) fn no_role(who: &str) -> Self {
        let message = format!(
            "{who} has no role here: this socket answers root, the user that runs the coordinator, and members of [api] group \
             in coordinator.toml"
        );
        Self::new(StatusCode::FORBIDDEN, "no_role", message)
    }

    pub(super) fn no_certificate() -> Self {
        let message = "this needs the certificate of an operator; ask for an invitation (`pith operator invite NAME --role ROLE`) \
                       and `pith login TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, "no_certificate", message)
    }

    pub(super) fn not_an_operator() -> Self {
        let message = "this certificate is no operator's, or not any more: it was revoked, or replaced; ask for an invitation and \
                       `pith login TOKEN`";
        Self::new(StatusCode::FORBIDDEN, "not_an_operator", message)
    }

    /// Too much of one identity.
    pub(super) fn later(message: &str, after: Duration) -> Self {
        let after = Some(after);
        Self { after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message) }
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", stopped.to_string())
    }
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Stopped(stopped) => stopped.into(),
            BackupError::Data(_)
            | BackupError::Store(_)
            | BackupError::Seal(_)
            | BackupError::Folder { .. }
            | BackupError::Unfinished => Self::internal("backup_failed", &error),
        }
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::new(status_of(&refused), refused.code(), refused.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self { status, code, message, after } = self;
        let problem = Json(Problem { code: code.clone(), message });
        let mut response = (status, problem).into_response();
        if let Some(after) = after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = HeaderValue::from_str(&seconds.to_string());
            response.headers_mut().extend(seconds.ok().map(|s| (header::RETRY_AFTER, s)));
        }
        response.extensions_mut().insert(Code(code));
        response
    }
}

/// The status of HTTP that a refusal comes with.
fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NoService(_)
        | Refused::NoReleases(_)
        | Refused::NoRevision { .. }
        | Refused::NoSecret(..)
        | Refused::NoNode(_)
        | Refused::NoAgentRelease { .. }
        | Refused::NoOperator(_) => StatusCode::NOT_FOUND,
        Refused::Release(_)
        | Refused::AgentRelease(_)
        | Refused::Root(_)
        | Refused::Distrusted { .. }
        | Refused::OnlyFrom { .. }
        | Refused::PolicyDenied(_)
        | Refused::Retirement(_)
        | Refused::InvitationUnknown
        | Refused::InvitationUsed(_)
        | Refused::InvitationExpired(_)
        | Refused::NotLoggedIn
        | Refused::Retired { .. } => StatusCode::FORBIDDEN,
        Refused::NoCertificate(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::OldCounter { .. }
        | Refused::OldAgentCounter { .. }
        | Refused::NoAgentProgram(_)
        | Refused::OlderAgent(_)
        | Refused::NoAgentRollout
        | Refused::NoDirectorKey { .. }
        | Refused::NoNodeFits(_)
        | Refused::StillRuns { .. }
        | Refused::FloorTooHigh { .. }
        | Refused::NothingToUndo(_)
        | Refused::Busy { .. }
        | Refused::RevisionChanged { .. }
        | Refused::RolloutMovedOn { .. }
        | Refused::NothingToPromote(_)
        | Refused::NotOnNode { .. }
        | Refused::NotUnderWay(_)
        | Refused::CannotSteer { .. }
        | Refused::ManifestTooLarge { .. }
        | Refused::PortUsed { .. }
        | Refused::SeveralNodes { .. }
        | Refused::NodeRevoked(_)
        | Refused::CannotReplace { .. }
        | Refused::Conflict { .. }
        | Refused::FleetFull(_)
        | Refused::TooManyTokens(_)
        | Refused::OperatorExists(_)
        | Refused::TooManyOperators(_)
        | Refused::InvitationLife
        | Refused::SecretChanged { .. }
        | Refused::SecretUsed { .. }
        | Refused::SecretKind { .. }
        | Refused::SecretOfRegistry { .. }
        | Refused::TooManySecrets(_)
        | Refused::NotAReader(_)
        | Refused::LastAddress(_)
        | Refused::TooManyAddresses(_)
        | Refused::TokenLife => StatusCode::CONFLICT,
        Refused::BadAddress(_) => StatusCode::BAD_REQUEST,
    }
}
